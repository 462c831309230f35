// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a machine can do, and whether that is enough for a scenario.

use core::ops::RangeInclusive;

use super::error::{Mistakes, Position};
use super::{Action, Device, Granules, Instance, Quirks, Rights, Scenario, ScenarioErrors, Walks};

/// What a machine can run. A value of an ID register that the machine can't change is accepted if
/// it is the machine's own, or if the driver can be told to stay within it.
#[derive(Clone, Debug)]
pub struct Capabilities {
    /// What messages call it: `the model`, `QEMU 11.1.3`.
    pub machine: String,
    /// The most instances.
    pub instances: usize,
    /// Accepted bits of an ASID.
    pub asid_bits: Vec<u32>,
    /// Accepted bits of a VMID, on instances with stage 2.
    pub vmid_bits: Vec<u32>,
    /// Accepted {stage 1, stage 2}.
    pub stages: Vec<(bool, bool)>,
    /// Granules that an instance may have.
    pub granules: Granules,
    /// Accepted output address bits.
    pub oas: Vec<u32>,
    /// Accepted StreamID bits.
    pub sid_bits: RangeInclusive<u32>,
    /// Accepted SubstreamID bits.
    pub ssid_bits: RangeInclusive<u32>,
    /// 2-level context tables.
    pub two_level_contexts: Support,
    /// Broadcast TLB maintenance.
    pub btm: Support,
    /// Interrupts by message.
    pub msi: Support,
    /// Address translation operations.
    pub atos: Support,
    /// Performance monitors.
    pub counters: Support,
    /// Streams of EL2.
    pub hyp: Support,
    /// Stalled transactions.
    pub stalls: Support,
    /// Enhanced command queues.
    pub enhanced_queues: Support,
    /// 2-level stream tables.
    pub two_level_streams: Support,
    /// Accepted log2 of the entries of command queues.
    pub command_queue_log2: RangeInclusive<u32>,
    /// Accepted log2 of the entries of event queues.
    pub event_queue_log2: RangeInclusive<u32>,
    /// ATS and PRI.
    pub ats: Support,
    /// Range invalidation.
    pub range_invalidation: Support,
    /// Coherent table walks and queues.
    pub coherent: Support,
    /// What its instances walk, where a scenario cannot choose that. The driver can be told to bear less than they do.
    pub walks: Option<Walks>,
    /// Whether what it does may be unusual ([`Quirks`]).
    pub quirks: Support,
    /// Accesses that are not privileged.
    pub unprivileged: Support,
    /// Reads of instructions.
    pub fetches: Support,
    /// Devices it has.
    pub devices: Vec<Device>,
    /// Which StreamIDs devices can have.
    pub streams: Streams,
    /// The most streams of a master.
    pub streams_per_master: usize,
    /// The most bytes of one DMA.
    pub dma_bytes: u64,
    /// Bytes that IOVA and length of a DMA are multiples of.
    pub dma_unit: u64,
    /// Bytes for all memories of a scenario together.
    pub memory_bytes: u64,
}

/// Whether a machine has a feature that is there or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// As the scenario says.
    Either,
    /// Always there.
    Always,
    /// Never there.
    Never,
}

/// Which StreamIDs devices can have on a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Streams {
    /// Any that the instance's StreamID bits allow.
    Any,
    /// Those of these sets, each once on the whole machine, whatever the instance.
    OnceOf(Vec<StreamSet>),
}

/// The StreamIDs `first`, `first + step`, … up to and including `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamSet {
    /// The first.
    pub first: u32,
    /// The last.
    pub last: u32,
    /// From one to the next, not 0.
    pub step: u32,
}

impl StreamSet {
    /// Whether `stream` is one of them.
    pub const fn contains(self, stream: u32) -> bool {
        self.first <= stream
            && stream <= self.last
            && (stream - self.first).is_multiple_of(self.step)
    }
}

impl core::fmt::Display for StreamSet {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let second = self.first.saturating_add(self.step);
        write!(f, "{:#x}, {second:#x} … {:#x}", self.first, self.last)
    }
}

impl Capabilities {
    /// The embedded model.
    pub fn model() -> Self {
        Self {
            machine: "the model".to_owned(),
            instances: 16,
            asid_bits: vec![8, 16],
            vmid_bits: vec![8, 16],
            stages: vec![(true, false), (false, true), (true, true)],
            granules: Granules::ALL,
            oas: vec![32, 36, 40, 42, 44, 48, 52],
            sid_bits: 0..=32,
            ssid_bits: 0..=20,
            two_level_contexts: Support::Either,
            btm: Support::Either,
            msi: Support::Either,
            atos: Support::Either,
            counters: Support::Either,
            hyp: Support::Either,
            stalls: Support::Either,
            enhanced_queues: Support::Either,
            two_level_streams: Support::Either,
            command_queue_log2: 1..=19,
            event_queue_log2: 1..=19,
            ats: Support::Either,
            range_invalidation: Support::Either,
            coherent: Support::Either,
            walks: None,
            quirks: Support::Either,
            unprivileged: Support::Either,
            fetches: Support::Either,
            devices: vec![Device::Edu, Device::TestDevice],
            streams: Streams::Any,
            streams_per_master: 16,
            dma_bytes: 1 << 20,
            dma_unit: 1,
            memory_bytes: 128 << 20,
        }
    }

    /// QEMU's SMMUv3 with QEMU's PCI devices. `machine` is what messages call it; `several` is whether
    /// it can have several instances and `iommu-testdev`, as QEMU 11 can and QEMU 10 can't.
    ///
    /// Its ID registers say 16-bit ASIDs, all granules and queues of 2^19 entries: the driver can stay
    /// within less. A StreamID is a place on the PCI buses: behind a root port, or, where there is one
    /// instance, a slot of bus 0.
    pub fn qemu(machine: &str, several: bool) -> Self {
        let ports = StreamSet { first: 0x100, last: 0xff00, step: 0x100 };
        let slots = StreamSet { first: 0x8, last: 0xf8, step: 0x8 };
        Self {
            machine: machine.to_owned(),
            instances: if several { 16 } else { 1 },
            vmid_bits: vec![16],
            stages: if several { Self::model().stages } else { vec![(true, true)] },
            oas: vec![44],
            sid_bits: 16..=16,
            ssid_bits: 0..=0,
            two_level_contexts: Support::Never,
            btm: Support::Never,
            msi: Support::Never,
            atos: Support::Never,
            counters: Support::Never,
            hyp: Support::Never,
            stalls: Support::Never,
            enhanced_queues: Support::Never,
            two_level_streams: Support::Always,
            ats: Support::Never,
            range_invalidation: Support::Always,
            coherent: Support::Always,
            walks: Some(Walks::usual(true)),
            quirks: Support::Never,
            unprivileged: Support::Never,
            fetches: Support::Never,
            devices: if several {
                vec![Device::Edu, Device::TestDevice]
            } else {
                vec![Device::Edu]
            },
            streams: Streams::OnceOf(if several { vec![ports] } else { vec![slots, ports] }),
            streams_per_master: 1,
            dma_bytes: 4096,
            dma_unit: 4,
            ..Self::model()
        }
    }
}

/// Everything in `scenario` that the machine can't do.
pub(super) fn check(scenario: &Scenario, can: &Capabilities) -> Result<(), ScenarioErrors> {
    let mut check = Check { mistakes: Mistakes::of(&scenario.file), can };
    check.instances(scenario);
    check.masters(scenario);
    check.memories(scenario);
    check.steps(scenario);
    check.mistakes.into_result()
}

struct Check<'a> {
    mistakes: Mistakes,
    can: &'a Capabilities,
}

impl Check<'_> {
    fn lacks(
        &mut self,
        at: Position,
        what: impl core::fmt::Display,
        right: impl core::fmt::Display,
    ) {
        self.mistakes.add(at, format!("{what}, which {} can't do; {right}", self.can.machine));
    }

    fn instances(&mut self, scenario: &Scenario) {
        if let Some(first_over) = scenario.instances.get(self.can.instances) {
            self.lacks(
                first_over.places.of(""),
                format_args!("the scenario has {} instances", scenario.instances.len()),
                format_args!("at most {}", self.can.instances),
            );
        }
        for instance in &scenario.instances {
            self.instance(instance);
        }
    }

    fn instance(&mut self, instance: &Instance) {
        let can = self.can;
        self.one_of(instance, "asid-bits", instance.asid_bits, &can.asid_bits);
        if instance.stage_2 {
            self.one_of(instance, "vmid-bits", instance.vmid_bits, &can.vmid_bits);
        }
        self.one_of(instance, "oas", instance.oas, &can.oas);
        self.within(instance, "sid-bits", instance.sid_bits, &can.sid_bits);
        self.within(instance, "ssid-bits", instance.ssid_bits, &can.ssid_bits);
        let two_level = instance.two_level_contexts;
        self.flag(instance, "two-level-contexts", two_level, can.two_level_contexts);
        self.flag(instance, "btm", instance.btm, can.btm);
        self.flag(instance, "msi", instance.msi, can.msi);
        self.flag(instance, "atos", instance.atos, can.atos);
        self.flag(instance, "counters", instance.counters > 0, can.counters);
        self.flag(instance, "hyp", instance.hyp, can.hyp);
        self.flag(instance, "stalls", instance.stalls > 0, can.stalls);
        if can.enhanced_queues == Support::Never && instance.queues.enhanced_log2.is_some() {
            let what = format!("instance \"{}\" has enhanced command queues", instance.name);
            self.lacks(instance.places.of("ecmdq"), what, "leave ecmdq out");
        }
        let (commands, events) = (instance.command_queue_log2, instance.event_queue_log2);
        self.within(instance, "command-queue", commands, &can.command_queue_log2);
        self.within(instance, "event-queue", events, &can.event_queue_log2);
        self.flag(instance, "two-level-streams", instance.two_level_streams, can.two_level_streams);
        self.flag(instance, "ats", instance.ats, can.ats);
        self.flag(
            instance,
            "range-invalidation",
            instance.range_invalidation,
            can.range_invalidation,
        );
        self.flag(instance, "coherent", instance.coherent, can.coherent);
        let within = |walks: Walks| {
            // Range invalidation, which it has, comes with 1 at least.
            let bbml = instance.walks.bbml.clamp(1, walks.bbml.max(1));
            instance.walks == Walks { bbml, ..walks }
        };
        if can.walks.is_some_and(|walks| !within(walks)) {
            self.lacks(
                instance.places.of(""),
                format_args!("instance \"{}\" walks more, or bears less", instance.name),
                "leave lpa2, wide-input, bbml and httu out",
            );
        }
        // What passes while it is off, any SMMU can be told.
        let usual = Quirks { while_off: instance.quirks.while_off, ..Quirks::default() };
        if can.quirks == Support::Never && instance.quirks != usual {
            self.lacks(
                instance.places.of(""),
                format_args!("instance \"{}\" is unusual", instance.name),
                "leave out what it is or firmware says, and what it overrides",
            );
        }
        if !can.stages.contains(&(instance.stage_1, instance.stage_2)) {
            let names: Vec<String> = can.stages.iter().map(|stages| stages_text(*stages)).collect();
            self.lacks(
                instance.places.of("stages"),
                format_args!(
                    "instance \"{}\" has stages = {}",
                    instance.name,
                    stages_text((instance.stage_1, instance.stage_2))
                ),
                format_args!("there it is {}", names.join(" or ")),
            );
        }
        for (name, wanted, there) in [
            ("4K", instance.granules.kib_4, can.granules.kib_4),
            ("16K", instance.granules.kib_16, can.granules.kib_16),
            ("64K", instance.granules.kib_64, can.granules.kib_64),
        ] {
            if wanted && !there {
                self.lacks(
                    instance.places.of("granules"),
                    format_args!("instance \"{}\" has the {name} granule", instance.name),
                    "leave it out",
                );
            }
        }
    }

    fn one_of(&mut self, instance: &Instance, key: &str, value: u32, can: &[u32]) {
        if !can.contains(&value) {
            let values: Vec<String> = can.iter().map(u32::to_string).collect();
            self.lacks(
                instance.places.of(key),
                format_args!("instance \"{}\" has {key} = {value}", instance.name),
                format_args!("there it is {}", values.join(" or ")),
            );
        }
    }

    fn within(&mut self, instance: &Instance, key: &str, value: u32, can: &RangeInclusive<u32>) {
        if !can.contains(&value) {
            let right = if can.start() == can.end() {
                format!("there it is {}", can.start())
            } else {
                format!("there it is {} to {}", can.start(), can.end())
            };
            self.lacks(
                instance.places.of(key),
                format_args!("instance \"{}\" has {key} = {value}", instance.name),
                right,
            );
        }
    }

    fn flag(&mut self, instance: &Instance, key: &str, value: bool, support: Support) {
        let right = match support {
            Support::Always if !value => true,
            Support::Never if value => false,
            _ => return,
        };
        self.lacks(
            instance.places.of(key),
            format_args!("instance \"{}\" has {key} = {value}", instance.name),
            format_args!("there it is {right}"),
        );
    }

    fn masters(&mut self, scenario: &Scenario) {
        for (index, master) in scenario.masters.iter().enumerate() {
            let name = &master.name;
            if !self.can.devices.contains(&master.device) {
                let names: Vec<&str> =
                    self.can.devices.iter().map(|device| device.name()).collect();
                self.lacks(
                    master.places.of("device"),
                    format_args!("master \"{name}\" is a {}", master.device.name()),
                    format_args!("devices there are {}", names.join(", ")),
                );
            }
            if master.streams.len() > self.can.streams_per_master {
                self.lacks(
                    master.places.of("streams"),
                    format_args!("master \"{name}\" has {} streams", master.streams.len()),
                    format_args!("at most {}", self.can.streams_per_master),
                );
            }
            if *self.can.ssid_bits.end() == 0 && master.pasid_bits != 0 {
                self.lacks(
                    master.places.of("pasid-bits"),
                    format_args!("master \"{name}\" has pasid-bits = {}", master.pasid_bits),
                    "there are no PASIDs",
                );
            }
            let Streams::OnceOf(sets) = &self.can.streams else { continue };
            for stream in &master.streams {
                if !sets.iter().any(|set| set.contains(*stream)) {
                    let names: Vec<String> = sets.iter().map(StreamSet::to_string).collect();
                    self.lacks(
                        master.places.of("streams"),
                        format_args!("master \"{name}\" has stream {stream:#x}"),
                        format_args!("streams there are {}", names.join(" and ")),
                    );
                }
                let earlier = &scenario.masters[..index];
                if let Some(other) = earlier.iter().find(|other| other.streams.contains(stream)) {
                    self.lacks(
                        master.places.of("streams"),
                        format_args!(
                            "masters \"{}\" and \"{name}\" both have stream {stream:#x}",
                            other.name
                        ),
                        "there each stream exists once, whatever the instance",
                    );
                }
            }
        }
    }

    fn memories(&mut self, scenario: &Scenario) {
        let mut sum = 0u64;
        for memory in &scenario.memories {
            sum = sum.saturating_add(memory.size);
            if sum > self.can.memory_bytes {
                self.lacks(
                    memory.places.of("size"),
                    format_args!("the memories up to \"{}\" have {sum} bytes", memory.name),
                    format_args!("at most {} bytes together", self.can.memory_bytes),
                );
                return;
            }
        }
    }

    fn steps(&mut self, scenario: &Scenario) {
        let unit = self.can.dma_unit.max(1);
        for step in &scenario.steps {
            if *self.can.ssid_bits.end() == 0
                && let Some(what) = step.action.with_substream()
            {
                let at = Position { line: step.line, column: 1 };
                self.lacks(at, what, "there are no PASIDs");
            }
            if self.can.quirks == Support::Never
                && matches!(step.action, Action::CommandError { .. })
            {
                let at = Position { line: step.line, column: 1 };
                self.lacks(at, "a command error", "leave it out");
            }
            if self.can.unprivileged == Support::Never
                && matches!(step.action, Action::Map { rights: Rights::Privileged, .. })
            {
                let at = Position { line: step.line, column: 1 };
                self.lacks(
                    at,
                    "a mapping for privileged accesses only",
                    "all are privileged there",
                );
            }
            if self.can.fetches == Support::Never
                && matches!(step.action, Action::Read { instruction: true, .. })
            {
                let at = Position { line: step.line, column: 1 };
                self.lacks(at, "a read of instructions", "devices there read data alone");
            }
            let (iova, length) = match &step.action {
                Action::Write { iova, data, .. } => (*iova, data.len() as u64),
                Action::Read { iova, length, .. } => (*iova, *length),
                _ => continue,
            };
            let at = Position { line: step.line, column: 1 };
            if length > self.can.dma_bytes {
                let most = format!("at most {} bytes at once", self.can.dma_bytes);
                self.lacks(at, format_args!("a DMA of {length} bytes"), most);
            }
            if !iova.is_multiple_of(unit) || !length.is_multiple_of(unit) {
                self.lacks(
                    at,
                    format_args!("a DMA of {length} bytes at {iova:#x}"),
                    format_args!("address and length are multiples of {unit}"),
                );
            }
        }
    }
}

fn stages_text(stages: (bool, bool)) -> String {
    match stages {
        (true, true) => "[1, 2]",
        (true, false) => "[1]",
        (false, true) => "[2]",
        (false, false) => "[]",
    }
    .to_owned()
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where everything is: from the instances and StreamIDs that are wanted to QEMU's arguments,
//! bus numbers and addresses.
//!
//! A PCI function's StreamID is its requester ID: `bus << 8 | slot << 3 | function`. QEMU lets us
//! choose bus numbers, because nobody but us numbers the buses.
//!
//! [`Layout::Several`] (QEMU 11): each instance stands in front of a PCI root complex of its own
//! (`pxb-pcie`), and each master is alone behind a root port there, as slot 0. So a StreamID is
//! `bus << 8` with a bus of 1 to 255; bus 0 belongs to the machine's first root complex, which has
//! no SMMU. Bus numbers are the whole machine's: two masters cannot have one StreamID even on
//! two instances. Each root complex needs a bus number too: the one below its lowest bus
//! when that is free (streams 0x900 and 0xa00 make it 8), else the highest free one.
//!
//! [`Layout::Single`] (QEMU 10): one instance in front of the machine's only root complex. A
//! StreamID below 0x100 is a slot there (`slot << 3`, slot 1 to 31); others are `bus << 8`, behind
//! root ports that take the slots that are left.

use std::collections::BTreeSet;

use super::device::DeviceKind;

/// PCI configuration space: 4 KiB a function.
const ECAM: u64 = 0x40_1000_0000;
/// Where 32-bit PCI memory begins.
const PCI_MEMORY: u64 = 0x1000_0000;
/// Each master's share of PCI memory: the granule of a bridge's window, and the size of edu's BAR.
pub(super) const WINDOW: u64 = 1 << 20;
/// Slots of a PCI bus.
const SLOTS: u32 = 32;
/// Interrupts of the platform bus allow this many instances.
const INSTANCES: usize = 16;
/// Where those begin, among the inputs of the interrupt controller.
const PLATFORM_BUS: u32 = 112;
/// Those of each instance.
const WIRES: usize = 4;
/// Where those of the only instance begin.
const SINGLE_WIRES: u32 = 74;
/// The most RAM that is offered, in MiB.
const RAM_MIB: u32 = 64 * 1024;
/// Registers of an SMMU: two 64 KiB pages.
pub(super) const REGISTERS: u32 = 0x2_0000;

/// Which stages an instance of QEMU has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Stage 1 only.
    One,
    /// Stage 2 only.
    Two,
    /// Both, and one on top of the other.
    Nested,
}

impl Stage {
    /// As QEMU's `stage` property has it: `1`, `2` or `nested`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::One => "1",
            Self::Two => "2",
            Self::Nested => "nested",
        }
    }
}

impl core::str::FromStr for Stage {
    type Err = TopologyError;

    fn from_str(name: &str) -> Result<Self, TopologyError> {
        match name {
            "1" => Ok(Self::One),
            "2" => Ok(Self::Two),
            "nested" => Ok(Self::Nested),
            _ => Err(TopologyError::Stage { name: name.to_owned() }),
        }
    }
}

/// An SMMU that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QemuInstance {
    /// Its stages.
    pub stage: Stage,
}

/// A device that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QemuMaster {
    /// The instance it is behind, as an index into the instances.
    pub instance: usize,
    /// Its StreamID, which decides its place on the PCI buses.
    pub stream: u32,
    /// What it is.
    pub device: DeviceKind,
}

/// Why QEMU cannot have the machine that is wanted, and what it can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopologyError {
    /// Not a stage.
    #[error("stage `{name}`: QEMU has 1, 2 and nested")]
    Stage {
        /// What was asked for.
        name: String,
    },
    /// Too little or too much RAM.
    #[error("{mib} MiB of RAM: 1 to {RAM_MIB} can be had")]
    Ram {
        /// What was asked for, in MiB.
        mib: u32,
    },
    /// No instance, or too many.
    #[error("{count} SMMU instances: 1 to {INSTANCES} can be had")]
    Instances {
        /// How many were asked for.
        count: usize,
    },
    /// A master behind an instance that does not exist.
    #[error("master {master} is behind instance {instance}, but there are {count}")]
    NoInstance {
        /// The master.
        master: usize,
        /// The instance it names.
        instance: usize,
        /// How many there are.
        count: usize,
    },
    /// Not a PCI requester ID.
    #[error("master {master}: StreamID {stream:#x} is no PCI requester ID: those end at 0xffff")]
    Wide {
        /// The master.
        master: usize,
        /// The StreamID that was asked for.
        stream: u32,
    },
    /// The device would not be alone in slot 0 behind its root port.
    #[error(
        "master {master}: StreamID {stream:#x} must be a bus number times 0x100, such as {:#x}",
        stream & 0xff00
    )]
    NotSlotZero {
        /// The master.
        master: usize,
        /// The StreamID that was asked for.
        stream: u32,
    },
    /// Bus 0 has no SMMU in front of it when there can be several.
    #[error(
        "master {master}: StreamID {stream:#x} is on bus 0, which is behind no SMMU here: take one \
         of 0x100, 0x200, ... 0xff00"
    )]
    BusZero {
        /// The master.
        master: usize,
        /// The StreamID that was asked for.
        stream: u32,
    },
    /// Not a slot of bus 0 that can be had.
    #[error(
        "master {master}: StreamID {stream:#x} is no free slot of bus 0: take one of 0x8, 0x10, ... \
         0xf8, or 0x100, 0x200, ... 0xff00"
    )]
    NotASlot {
        /// The master.
        master: usize,
        /// The StreamID that was asked for.
        stream: u32,
    },
    /// Two masters with one StreamID.
    #[error(
        "masters {first} and {second} both have StreamID {stream:#x}: in QEMU a StreamID is a \
         place on the machine's PCI buses, so each can be had once, whatever the instance"
    )]
    Twice {
        /// The master that has it.
        first: usize,
        /// The master that wants it too.
        second: usize,
        /// The StreamID.
        stream: u32,
    },
    /// More masters than slots for them.
    #[error("no slot left for master {master}: an instance can have {limit} behind root ports")]
    Full {
        /// The master.
        master: usize,
        /// How many there can be.
        limit: u32,
    },
    /// More buses than bus numbers.
    #[error("no bus number left for the root complex of instance {instance}")]
    NoBus {
        /// The instance.
        instance: usize,
    },
}

/// The two machines that versions of QEMU can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Any number of instances, each with buses of its own.
    Several,
    /// One instance in front of all buses.
    Single,
}

/// A function's place on the PCI buses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) bus: u8,
    pub(super) slot: u8,
}

impl Place {
    /// Where its configuration space is.
    pub(super) fn config(self) -> u64 {
        ECAM | u64::from(self.bus) << 20 | u64::from(self.slot) << 15
    }
}

/// Where a master is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MasterPlan {
    pub(super) kind: DeviceKind,
    pub(super) instance: usize,
    pub(super) place: Place,
    /// The root port in front of it.
    pub(super) port: Option<Place>,
    /// The physical address that BAR 0 gets; the root port's window of [`WINDOW`] bytes begins there.
    pub(super) bar: u64,
}

/// A machine that QEMU can be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// QEMU's arguments: the machine type, and the devices in the order they must be made.
    pub(super) arguments: Vec<String>,
    /// The physical address of each instance's registers.
    pub(super) instances: Vec<u64>,
    /// The inputs of the interrupt controller at which each instance's wires begin.
    pub(super) wires: Vec<u32>,
    pub(super) masters: Vec<MasterPlan>,
}

impl Plan {
    pub(super) fn new(
        layout: Layout,
        ram_mib: u32,
        instances: &[QemuInstance],
        masters: &[QemuMaster],
    ) -> Result<Self, TopologyError> {
        if ram_mib == 0 || ram_mib > RAM_MIB {
            return Err(TopologyError::Ram { mib: ram_mib });
        }
        if instances.is_empty() || instances.len() > INSTANCES {
            return Err(TopologyError::Instances { count: instances.len() });
        }
        for (index, master) in masters.iter().enumerate() {
            check_master(layout, instances, masters, index, master)?;
        }
        match layout {
            Layout::Several => several(instances, masters),
            Layout::Single => single(instances, masters),
        }
    }
}

fn check_master(
    layout: Layout,
    instances: &[QemuInstance],
    masters: &[QemuMaster],
    master: usize,
    &QemuMaster { instance, stream, .. }: &QemuMaster,
) -> Result<(), TopologyError> {
    let count = instances.len();
    if instance >= count {
        return Err(TopologyError::NoInstance { master, instance, count });
    }
    if stream > 0xffff {
        return Err(TopologyError::Wide { master, stream });
    }
    match layout {
        Layout::Several if stream < 0x100 => return Err(TopologyError::BusZero { master, stream }),
        // Slot 0 of bus 0 is the host bridge.
        Layout::Single if stream < 0x100 && (stream < 8 || !stream.is_multiple_of(8)) => {
            return Err(TopologyError::NotASlot { master, stream });
        }
        _ => {}
    }
    if stream >= 0x100 && !stream.is_multiple_of(0x100) {
        return Err(TopologyError::NotSlotZero { master, stream });
    }
    match masters.iter().take(master).position(|other| other.stream == stream) {
        Some(first) => Err(TopologyError::Twice { first, second: master, stream }),
        None => Ok(()),
    }
}

/// The bus that a StreamID of [`check_master`] is on.
fn bus_of(stream: u32) -> u8 {
    (stream >> 8) as u8
}

fn window(master: usize) -> u64 {
    // At most 255 masters pass `check_master` with different buses, and 31 more with slots: they
    // end far below the end of PCI memory at 0x3eff_0000.
    PCI_MEMORY + master as u64 * WINDOW
}

fn several(instances: &[QemuInstance], masters: &[QemuMaster]) -> Result<Plan, TopologyError> {
    let mut free: BTreeSet<u8> = (1..=u8::MAX).collect();
    for master in masters {
        free.remove(&bus_of(master.stream));
    }
    let mut arguments = vec![String::from("-M"), String::from("virt,memory-backend=ram0")];
    let mut device = |text: String| arguments.extend([String::from("-device"), text]);
    let (mut bases, mut wires) = (Vec::new(), Vec::new());
    let mut roots = Vec::new();
    for ((index, instance), first) in
        instances.iter().enumerate().zip((PLATFORM_BUS..).step_by(WIRES))
    {
        let mine = masters.iter().filter(|master| master.instance == index);
        let below = mine.map(|master| bus_of(master.stream)).min().map(|lowest| lowest - 1);
        let root = below
            .filter(|bus| free.contains(bus))
            .or_else(|| free.last().copied())
            .ok_or(TopologyError::NoBus { instance: index })?;
        free.remove(&root);
        roots.push(root);
        bases.push(0x0c00_0000 + index as u64 * u64::from(REGISTERS));
        wires.push(first);
        device(format!("pxb-pcie,id=root{index},bus=pcie.0,bus_nr={root}"));
        let stage = instance.stage.name();
        device(format!("arm-smmuv3,id=smmu{index},primary-bus=root{index},stage={stage}"));
    }
    let mut ports = vec![0u8; instances.len()];
    let mut plans = Vec::new();
    for (index, master) in masters.iter().enumerate() {
        // Both have an entry for each instance, and `check_master` has seen the index.
        let (slot, root) = (ports[master.instance], roots[master.instance]);
        if u32::from(slot) == SLOTS {
            return Err(TopologyError::Full { master: index, limit: SLOTS });
        }
        ports[master.instance] += 1;
        device(root_port(index, &format!("root{}", master.instance), slot));
        device(format!("{},bus=port{index}", master.device.argument()));
        plans.push(MasterPlan {
            kind: master.device,
            instance: master.instance,
            place: Place { bus: bus_of(master.stream), slot: 0 },
            port: Some(Place { bus: root, slot }),
            bar: window(index),
        });
    }
    Ok(Plan { arguments, instances: bases, wires, masters: plans })
}

fn single(instances: &[QemuInstance], masters: &[QemuMaster]) -> Result<Plan, TopologyError> {
    let stage = match instances {
        [instance] => instance.stage,
        _ => return Err(TopologyError::Instances { count: instances.len() }),
    };
    let mut arguments = vec![String::from("-M")];
    if stage == Stage::Nested {
        arguments.push(String::from("virt,iommu=smmuv3,memory-backend=ram0"));
    } else {
        // Machine types from 9.2 on insist on both stages.
        arguments.push(String::from("virt-9.1,iommu=smmuv3,memory-backend=ram0"));
        arguments.extend([String::from("-global"), format!("arm-smmuv3.stage={}", stage.name())]);
    }
    let slot_of =
        |master: &QemuMaster| (master.stream < 0x100).then_some((master.stream >> 3) as u8);
    let mut free: BTreeSet<u8> = (1..SLOTS as u8).collect();
    for slot in masters.iter().filter_map(slot_of) {
        free.remove(&slot);
    }
    let limit = free.len() as u32;
    let mut plans = Vec::new();
    for (index, master) in masters.iter().enumerate() {
        let (kind, bar) = (master.device, window(index));
        let mut device = |text: String| arguments.extend([String::from("-device"), text]);
        let (place, port) = match slot_of(master) {
            Some(slot) => {
                device(format!("{},bus=pcie.0,addr={slot:x}.0", kind.argument()));
                (Place { bus: 0, slot }, None)
            }
            None => {
                let slot = free.pop_last().ok_or(TopologyError::Full { master: index, limit })?;
                device(root_port(index, "pcie.0", slot));
                device(format!("{},bus=port{index}", kind.argument()));
                (Place { bus: bus_of(master.stream), slot: 0 }, Some(Place { bus: 0, slot }))
            }
        };
        plans.push(MasterPlan { kind, instance: 0, place, port, bar });
    }
    let (instances, wires) = (vec![0x0905_0000], vec![SINGLE_WIRES]);
    Ok(Plan { arguments, instances, wires, masters: plans })
}

/// The argument for the root port in front of a master. Chassis and slot numbers only have to differ.
fn root_port(master: usize, bus: &str, slot: u8) -> String {
    format!("pcie-root-port,id=port{master},bus={bus},addr={slot:x}.0,chassis=1,slot={master}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NESTED: QemuInstance = QemuInstance { stage: Stage::Nested };

    fn edu(instance: usize, stream: u32) -> QemuMaster {
        QemuMaster { instance, stream, device: DeviceKind::Edu }
    }

    fn refused(layout: Layout, masters: &[QemuMaster]) -> TopologyError {
        let instances = if layout == Layout::Several { &[NESTED; 2][..] } else { &[NESTED] };
        Plan::new(layout, 16, instances, masters).unwrap_err()
    }

    #[test]
    fn streams_are_buses_and_each_root_complex_is_one_below() {
        let masters = [edu(0, 0x900), edu(0, 0xa00), edu(1, 0x1100)];
        let plan = Plan::new(Layout::Several, 16, &[NESTED; 2], &masters).unwrap();
        assert_eq!(plan.instances, [0x0c00_0000, 0x0c02_0000]);
        let places: Vec<_> = plan.masters.iter().map(|master| master.place.bus).collect();
        assert_eq!(places, [9, 10, 17]);
        let ports: Vec<_> = plan.masters.iter().map(|m| m.port.unwrap()).collect();
        let port = |bus, slot| Place { bus, slot };
        assert_eq!(ports, [port(8, 0), port(8, 1), port(16, 0)]);
        assert_eq!(plan.masters[2].place.config(), 0x40_1110_0000);
        let bars: Vec<_> = plan.masters.iter().map(|master| master.bar).collect();
        assert_eq!(bars, [0x1000_0000, 0x1010_0000, 0x1020_0000]);
    }

    #[test]
    fn a_root_complex_evades_buses_that_masters_want() {
        let masters = [edu(0, 0x100), edu(0, 0xff00), edu(1, 0x200)];
        let plan = Plan::new(Layout::Several, 16, &[NESTED; 2], &masters).unwrap();
        let roots: Vec<_> = plan.masters.iter().map(|master| master.port.unwrap().bus).collect();
        // Neither 0 (the machine's own) nor 1 (taken by the first master) can be had.
        assert_eq!(roots, [0xfe, 0xfe, 0xfd]);
    }

    #[test]
    fn a_single_instance_has_slots_and_root_ports() {
        let masters = [edu(0, 0x08), edu(0, 0xf8), edu(0, 0x900)];
        let plan = Plan::new(Layout::Single, 16, &[NESTED], &masters).unwrap();
        assert_eq!(plan.instances, [0x0905_0000]);
        assert_eq!(plan.masters[1].place, Place { bus: 0, slot: 31 });
        assert_eq!(plan.masters[2].place, Place { bus: 9, slot: 0 });
        assert_eq!(plan.masters[2].port, Some(Place { bus: 0, slot: 30 }));
    }

    #[test]
    fn impossible_streams_are_refused_with_what_can_be_had() {
        use Layout::{Several, Single};
        let text = |layout, stream| refused(layout, &[edu(0, stream)]).to_string();
        assert!(text(Several, 0x908).contains("such as 0x900"));
        assert!(text(Several, 0x08).contains("0x100, 0x200"));
        assert!(text(Several, 0x1_0000).contains("0xffff"));
        assert!(text(Single, 0x00).contains("0x8, 0x10"));
        assert!(text(Single, 0x09).contains("0x8, 0x10"));
        assert!(text(Single, 0x901).contains("such as 0x900"));
    }

    #[test]
    fn one_stream_cannot_be_had_twice_even_on_two_instances() {
        let error = refused(Layout::Several, &[edu(0, 0x900), edu(1, 0x900)]);
        assert_eq!(error, TopologyError::Twice { first: 0, second: 1, stream: 0x900 });
    }

    #[test]
    fn masters_need_an_instance_and_a_slot() {
        let error = refused(Layout::Several, &[edu(2, 0x900)]);
        assert_eq!(error, TopologyError::NoInstance { master: 0, instance: 2, count: 2 });
        let many: Vec<_> = (1..=33).map(|bus| edu(0, bus << 8)).collect();
        assert_eq!(refused(Layout::Several, &many), TopologyError::Full { master: 32, limit: 32 });
        assert_eq!(refused(Layout::Single, &many), TopologyError::Full { master: 31, limit: 31 });
        let all: Vec<_> = (1..=255).map(|bus| edu(0, bus << 8)).collect();
        assert_eq!(refused(Layout::Several, &all), TopologyError::NoBus { instance: 0 });
    }

    #[test]
    fn sizes_and_counts_have_limits() {
        let plan = |layout, ram, count| Plan::new(layout, ram, &vec![NESTED; count], &[]);
        assert_eq!(plan(Layout::Several, 0, 1), Err(TopologyError::Ram { mib: 0 }));
        assert!(matches!(plan(Layout::Single, u32::MAX, 1), Err(TopologyError::Ram { .. })));
        assert_eq!(plan(Layout::Several, 1, 0), Err(TopologyError::Instances { count: 0 }));
        assert_eq!(plan(Layout::Several, 1, 17), Err(TopologyError::Instances { count: 17 }));
        assert_eq!("nested".parse(), Ok(Stage::Nested));
        assert!("3".parse::<Stage>().is_err());
    }
}

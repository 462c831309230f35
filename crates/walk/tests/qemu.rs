// SPDX-License-Identifier: MIT OR Apache-2.0
//! The walk against QEMU's SMMUv3, which others wrote: random tables of both stages, of one on top of the other, and
//! what a device gets that writes through them.
//!
//! Runs on the QEMU of `$SMMUV3_QEMU` or `PATH`; without one that is new enough it is skipped, or fails
//! where `SMMUV3_REQUIRE_QEMU` is set.

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;

use common::build::{BYTES, Builder};
use smmuv3_formats::event::class;
use smmuv3_formats::register::{
    Aidr, CmdqBase, CmdqProd, Cr0, Cr2, EventqBase, EventqCons, EventqProd, Idr0, Idr1, Idr3, Idr5,
    StrtabBase, StrtabBaseCfg,
};
use smmuv3_formats::{EventId, EventRecord};
use smmuv3_testbench::qemu::{
    DeviceKind, DmaStatus, Qemu, QemuConfig, QemuInstance, QemuMaster, QemuMmio, Stage, deviation,
    find, testdev, version,
};
use smmuv3_walk::{Access, Memory, Outcome, Smmu, walk};

const TABLES: u64 = 0x4000_0000;
const OUTPUTS: u64 = 0x4400_0000;
const EVENTS: u64 = 0x4900_0000;
const COMMANDS: u64 = 0x4910_0000;
const STREAM: u32 = 0x900;

fn binary() -> Option<PathBuf> {
    let found = find(None).and_then(|binary| version(&binary).map(|version| (binary, version)));
    match found {
        Ok((binary, version)) if version.has_testdev() && version.has_several_instances() => {
            Some(binary)
        }
        other => {
            let required = std::env::var_os("SMMUV3_REQUIRE_QEMU").is_some();
            assert!(!required || other.is_ok(), "a QEMU is required: {:?}", other.err());
            eprintln!("skipped: no QEMU with iommu-testdev");
            None
        }
    }
}

struct Machine {
    qemu: Qemu,
    registers: QemuMmio,
    /// Next command, and next event.
    command: u32,
    event: u32,
}

impl Machine {
    fn start(binary: PathBuf) -> Self {
        let mut config = QemuConfig::new(binary);
        config.ram_mib = 160;
        config.instances = vec![QemuInstance { stage: Stage::Nested }];
        config.masters =
            vec![QemuMaster { instance: 0, stream: STREAM, device: DeviceKind::Testdev }];
        let qemu = Qemu::start(config).unwrap();
        let registers = qemu.mmio(0).unwrap();
        registers.write64(StrtabBase::OFFSET, TABLES).unwrap();
        // Of the 64 streams of the first level-2 table, none is looked at but one.
        registers.write32(StrtabBaseCfg::OFFSET, 16 | 8 << 6 | 1 << 16).unwrap();
        registers.write64(CmdqBase::OFFSET, COMMANDS | 8).unwrap();
        registers.write64(EventqBase::OFFSET, EVENTS | 8).unwrap();
        registers.write32(EventqCons::OFFSET, 0).unwrap();
        registers.write32(Cr2::OFFSET, Cr2::default().with_recinvsid(true).0).unwrap();
        let all = Cr0::default().with_smmuen(true).with_eventqen(true).with_cmdqen(true);
        registers.write32(Cr0::OFFSET, all.0).unwrap();
        Self { qemu, registers, command: 0, event: 0 }
    }

    fn smmu(&self) -> Smmu {
        let cfg = StrtabBaseCfg(16 | 8 << 6 | 1 << 16);
        let mut smmu = Smmu::with_everything(StrtabBase(TABLES), cfg);
        let read = |offset| self.registers.read32(offset).unwrap();
        smmu.implementation.idr0 = Idr0(read(Idr0::OFFSET));
        smmu.implementation.idr1 = Idr1(read(Idr1::OFFSET));
        smmu.implementation.idr3 = Idr3(read(Idr3::OFFSET));
        smmu.implementation.idr5 = Idr5(read(Idr5::OFFSET));
        smmu.implementation.aidr = Aidr(read(Aidr::OFFSET));
        smmu
    }

    /// Forgets everything: CFGI_ALL, TLBI_NSNH_ALL, SYNC.
    fn invalidate(&mut self) {
        for words in [[0x04, 31], [0x30, 0], [0x46, 0]] {
            let at = COMMANDS + 16 * u64::from(self.command & 0xff);
            self.qemu.ram().write64(at, words[0]).unwrap();
            self.qemu.ram().write64(at + 8, words[1]).unwrap();
            self.command = (self.command + 1) & 0x1ff;
        }
        self.registers.write32(CmdqProd::OFFSET, self.command).unwrap();
    }

    /// The event since the last call: none, or one.
    fn event(&mut self) -> Option<EventRecord> {
        let prod = self.registers.read32(EventqProd::OFFSET).unwrap();
        let mut found = None;
        while self.event != prod & 0x1ff {
            let at = EVENTS + 32 * u64::from(self.event & 0xff);
            let words = [0, 8, 16, 24].map(|offset| self.qemu.ram().read64(at + offset).unwrap());
            assert!(found.is_none(), "more than one event");
            let mut event = EventRecord(words);
            if event.event().is_some_and(EventId::is_translation_fault)
                && deviation::WHOLE_IPA.holds(self.qemu.version())
            {
                event.0[3] &= !0xfff;
            }
            found = Some(event);
            self.event = (self.event + 1) & 0x1ff;
        }
        self.registers.write32(EventqCons::OFFSET, self.event).unwrap();
        found
    }
}

#[test]
fn the_walk_says_what_qemu_does() {
    let Some(binary) = binary() else { return };
    let mut machine = Machine::start(binary);
    let smmu = machine.smmu();
    let version = machine.qemu.version();
    let does = |deviation: deviation::Deviation| deviation.holds(version);
    let mut translated = 0;
    let mut events: BTreeMap<(u64, bool, u64), u32> = BTreeMap::new();
    let zeros = vec![0; BYTES as usize];
    for seed in 0..250 {
        let mut builder = Builder::at(seed, TABLES, Some(OUTPUTS));
        let mut inputs = Vec::new();
        // The STE of stream 0x900 is the first of the tenth array.
        builder.memory.write64(TABLES + 8 * 9, (TABLES + 0x800) | 1);
        if builder.stream(TABLES + 0x800, &mut inputs).is_none() {
            continue;
        }
        let mut written = builder.written.clone();
        if builder.random.one_in(3) {
            let (at, word) = builder.random.one_of(&written);
            // Entries stay whole, tables do not.
            let dies = does(deviation::DIES_OF_IPS) || does(deviation::DIES_OF_S2AA64);
            if !dies
                || at >= TABLES + 0x1000 && word & 0x3 != 0 && word >> 63 == 0 && at & 0x3f != 0
            {
                written.push((at, word ^ 1 << builder.random.below(12)));
                builder.memory.write64(at, written[written.len() - 1].1);
            }
        }
        // A stage-1 table where stage 2 leads nowhere.
        let nested = builder.memory.read64(TABLES + 0x800).unwrap() & 0xf == 0xf;
        let tables: Vec<_> =
            written.iter().copied().filter(|(_, word)| word & 0b11 == 0b11).collect();
        if nested && builder.random.one_in(2) {
            let (at, word) = builder.random.one_of(&tables);
            written.push((at, word ^ 1 << 43));
            builder.memory.write64(at, word ^ 1 << 43);
        }
        let ram = machine.qemu.ram().clone();
        ram.write(TABLES, &zeros).unwrap();
        ram.write64(TABLES + 8 * 9, (TABLES + 0x800) | 1).unwrap();
        for (at, word) in written {
            ram.write64(at, word).unwrap();
        }
        machine.invalidate();
        for input in inputs {
            let address = input & !3;
            let privileged = does(deviation::NO_PRIVILEGE);
            let access = Access { privileged, ..Access::write(STREAM, address) };
            let walked = walk(&builder.memory, &smmu, access);
            let expected = walked.outcome.clone();
            let status = machine.qemu.write(0, address, &testdev_pattern()).unwrap();
            let mut event = machine.event();
            let context = |event: Option<EventRecord>| {
                format!(
                    "seed {seed} {address:#x} {expected:x?} {status:?} {event:x?} {:x?}",
                    walked.steps
                )
            };
            match &expected {
                Outcome::Translated(found) => {
                    assert_eq!(event, None, "{}", context(event));
                    if (OUTPUTS..OUTPUTS + (64 << 20)).contains(&found.address) {
                        assert_eq!(status, DmaStatus::Completed, "{}", context(event));
                        let mut bytes = [0; 4];
                        ram.read(found.address, &mut bytes).unwrap();
                        assert_eq!(bytes, testdev_pattern(), "{}", context(event));
                        ram.write(found.address, &[0; 4]).unwrap();
                        translated += 1;
                    }
                }
                Outcome::Fault(fault) => {
                    if fault.why.contains("reserved") && does(deviation::BLOCKS_ANYWHERE) {
                        continue;
                    }
                    let mut wanted = fault.event.with_pnu(false);
                    let of_context = wanted.s2() && wanted.class() == class::CD;
                    if of_context && does(deviation::CONTEXT_READS) {
                        wanted = wanted.with_rnw(true);
                    }
                    if wanted.class() == class::TABLE && does(deviation::TABLES_OF_STAGE_1) {
                        wanted = wanted.with_s2(false);
                        wanted.0[3] &= !0xffff;
                        event = event.map(|EventRecord([a, b, c, ipa])| {
                            EventRecord([a, b, c, ipa & !0xffff])
                        });
                    }
                    let found = event.and_then(|event| event.event());
                    let later = [EventId::FAccess, EventId::FPermission];
                    if fault.id == EventId::FAddrSize
                        && later.iter().any(|id| found == Some(*id))
                        && does(deviation::LATE_ADDRESS_SIZE)
                    {
                        continue;
                    }
                    assert_eq!(event, Some(wanted), "{}", context(event));
                    assert_eq!(status, DmaStatus::Refused, "{}", context(event));
                    let key = (fault.id as u64, fault.event.s2(), fault.event.class());
                    *events.entry(key).or_default() += 1;
                }
                // It is a table of stage 2 that has moved away.
                Outcome::Missing { .. } => {}
                _ => panic!("{}", context(event)),
            }
        }
    }
    machine.qemu.health().unwrap();
    // Every class of faults was seen, and every kind.
    for key in
        [(0x10, false, 2), (0x10, true, 0), (0x10, true, 1), (0x10, true, 2), (0x11, true, 2)]
    {
        assert!(events.contains_key(&key), "{key:x?}");
    }
    for key in
        [(0x11, false, 2), (0x12, false, 2), (0x12, true, 2), (0x13, false, 2), (0x13, true, 2)]
    {
        assert!(events.contains_key(&key), "{key:x?}");
    }
    assert!(translated > 300, "{translated}");
}

/// Four bytes of what the device writes.
fn testdev_pattern() -> [u8; 4] {
    [0, 1, 2, 3].map(testdev::pattern)
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! QEMU as a machine: registers, memory, masters, and what happens when it breaks.
//!
//! Runs on the QEMU of `$SMMUV3_QEMU` or `PATH`. Without one that is new enough the tests are skipped, or
//! fail when `$SMMUV3_REQUIRE_QEMU` is 1.

mod common;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use smmuv3_testbench::qemu::testdev::{self, TestdevResult};
use smmuv3_testbench::qemu::{
    self, DeviceKind, DmaStatus, Interrupts, Qemu, QemuConfig, QemuError, QemuInstance, QemuMaster,
    QemuMmio, RAM_BASE, Stage, TopologyError, TranslationCounts, Version, deviation,
};
use smmuv3_testbench::ram::Ram;

const CR0: u32 = 0x20;
const SMMUEN: u32 = 1;
const CMDQEN: u32 = 1 << 3;
const STRTAB_BASE: u32 = 0x80;
const STRTAB_BASE_CFG: u32 = 0x88;
const GBPA: u32 = 0x44;
const GBPA_ABORT: u32 = 1 << 20;
const GBPA_UPDATE: u32 = 1 << 31;

/// A usable QEMU and its version; `None` when the test is to be skipped.
fn usable() -> Option<(PathBuf, Version)> {
    let found = qemu::find(None).and_then(|binary| {
        let version = qemu::version(&binary)?;
        match version.is_supported() {
            true => Ok((binary, version)),
            false => Err(QemuError::TooOld { binary, version }),
        }
    });
    match found {
        Ok(found) => Some(found),
        Err(reason) if std::env::var_os("SMMUV3_REQUIRE_QEMU").is_some_and(|v| v == "1") => {
            panic!("a QEMU is required: {reason}")
        }
        Err(reason) => {
            common::skipped(&reason.to_string());
            None
        }
    }
}

/// As [`usable`], for tests that need what only QEMU 11 has.
fn usable_11() -> Option<PathBuf> {
    let (binary, version) = usable()?;
    if version.has_several_instances() && version.has_testdev() {
        return Some(binary);
    }
    let has = "has one SMMU and no iommu-testdev; QEMU 11.1 has more";
    common::skipped(&format!("QEMU {version} {has}"));
    None
}

fn master(instance: usize, stream: u32, device: DeviceKind) -> QemuMaster {
    QemuMaster { instance, stream, device }
}

/// One instance with two edus, which every supported QEMU can be.
fn config(binary: PathBuf) -> QemuConfig {
    let masters = vec![master(0, 0x900, DeviceKind::Edu), master(0, 0xa00, DeviceKind::Edu)];
    QemuConfig { masters, ..QemuConfig::new(binary) }
}

/// [`config`], running.
fn two_edus() -> Option<Qemu> {
    let (binary, _) = usable()?;
    Some(Qemu::start(config(binary)).unwrap())
}

fn bytes(ram: &Ram, pa: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    ram.read(pa, &mut bytes).unwrap();
    bytes
}

fn abort(smmu: &QemuMmio) {
    let gbpa = smmu.read32(GBPA).unwrap();
    smmu.write32(GBPA, gbpa | GBPA_ABORT | GBPA_UPDATE).unwrap();
    assert_eq!(smmu.read32(GBPA).unwrap(), gbpa | GBPA_ABORT);
}

#[test]
fn id_registers_are_those_of_the_known_model() {
    let Some(qemu) = two_edus() else { return };
    let smmu = qemu.mmio(0).unwrap();
    let ids: Vec<u32> = (0..8).map(|index| smmu.read32(4 * index).unwrap()).collect();
    assert_eq!(ids, [0x0d44_101b, 0x0273_0010, 0, 0x1414, 0, 0x74, 0, 1]);
    assert_eq!(smmu.read32(GBPA).unwrap(), 0x1000);
}

#[test]
fn the_stages_that_were_asked_for_are_there() {
    let Some((binary, _)) = usable() else { return };
    for (stage, idr0) in
        [(Stage::One, 0x0d44_101a), (Stage::Two, 0x0d44_1019), (Stage::Nested, 0x0d44_101b)]
    {
        let instances = vec![QemuInstance { stage }];
        let qemu = Qemu::start(QemuConfig { instances, ..config(binary.clone()) }).unwrap();
        assert_eq!(qemu.mmio(0).unwrap().read32(0).unwrap(), idr0, "{stage:?}");
    }
}

#[test]
fn ram_is_as_long_as_asked_for_and_all_zeros() {
    let Some(qemu) = two_edus() else { return };
    assert_eq!((qemu.ram().base(), qemu.ram().len()), (RAM_BASE, 64 << 20));
    let mut words = (0..64 << 20).step_by(8);
    assert!(words.all(|offset| qemu.ram().read64(RAM_BASE + offset) == Some(0)));
}

/// Registers are as after reset, devices work again, and memory keeps all that it had, also where QEMU puts a device tree.
#[test]
fn power_goes_and_comes_back() {
    let Some(qemu) = two_edus() else { return };
    let (smmu, ram) = (qemu.mmio(0).unwrap(), qemu.ram());
    for offset in (0..64 << 20).step_by(0x1000) {
        ram.write64(RAM_BASE + offset, offset + 1).unwrap();
    }
    for turn in 1..3u64 {
        abort(&smmu);
        smmu.write32(CR0, CMDQEN).unwrap();
        qemu.write(0, RAM_BASE, &[0xee; 8]).unwrap();
        assert_eq!(ram.read64(RAM_BASE), Some(if turn == 1 { 1 } else { turn - 1 }), "it aborts");
        qemu.power_cycle().unwrap();
        assert_eq!(smmu.read32(GBPA).unwrap() & GBPA_ABORT, 0);
        assert_eq!(smmu.read32(CR0).unwrap(), 0);
        for offset in (0x1000..64 << 20).step_by(0x1000) {
            assert_eq!(ram.read64(RAM_BASE + offset), Some(offset + 1), "{offset:#x}");
        }
        for master in 0..2 {
            qemu.write(master, RAM_BASE, &turn.to_le_bytes()).unwrap();
            assert_eq!(qemu.read(master, RAM_BASE, 8).unwrap(), turn.to_le_bytes());
        }
    }
    qemu.health().unwrap();
}

/// Where it was of two levels before, the linear table is read as level-1 descriptors, and the stream has no entry.
#[test]
fn a_linear_stream_table_after_one_of_two_levels() {
    let Some(binary) = usable_11() else { return };
    let version = qemu::version(&binary).unwrap();
    for before in [false, true] {
        let qemu = Qemu::start(config(binary.clone())).unwrap();
        let (smmu, ram) = (qemu.mmio(0).unwrap(), qemu.ram());
        // An entry that lets stream 0x900 pass (§5.2): V, Config = 4; SHCFG as it comes.
        let table = RAM_BASE + (1 << 20);
        ram.write64(table + 0x900 * 64, 0x9).unwrap();
        ram.write64(table + 0x900 * 64 + 8, 1 << 44).unwrap();
        let linear = 12;
        if before {
            // FMT [17:16], SPLIT [10:6] (§2.5).
            smmu.write32(STRTAB_BASE_CFG, 1 << 16 | 8 << 6 | linear).unwrap();
        }
        smmu.write64(STRTAB_BASE, table).unwrap();
        smmu.write32(STRTAB_BASE_CFG, linear).unwrap();
        smmu.write32(CR0, SMMUEN).unwrap();
        qemu.write(0, RAM_BASE, &[0xab; 8]).unwrap();
        let reached = ram.read64(RAM_BASE) != Some(0);
        assert_eq!(reached, !(before && deviation::STICKY_LEVELS.holds(version)), "{before}");
        qemu.power_cycle().unwrap();
        smmu.write64(STRTAB_BASE, table).unwrap();
        smmu.write32(STRTAB_BASE_CFG, linear).unwrap();
        smmu.write32(CR0, SMMUEN).unwrap();
        qemu.write(0, RAM_BASE, &[0xcd; 8]).unwrap();
        assert_eq!(bytes(ram, RAM_BASE, 8), [0xcd; 8], "after a reset it is linear");
    }
}

#[test]
fn edu_writes_and_reads_any_data_when_the_smmu_lets_everything_through() {
    let Some(qemu) = two_edus() else { return };
    for edu in [0, 1] {
        let pa = RAM_BASE + 0x10_0000 * (edu as u64 + 1) + 0xff3;
        // Longer than the device's buffer, and neither end on a boundary.
        let data: Vec<u8> = (0..9001u32).map(|index| (index * 7 + 1) as u8).collect();
        assert_eq!(qemu.write(edu, pa, &data), Ok(DmaStatus::Unreported));
        assert_eq!(bytes(qemu.ram(), pa, data.len()), data);
        assert_eq!(bytes(qemu.ram(), pa - 1, 1), [0]);
        assert_eq!(bytes(qemu.ram(), pa + 9001, 1), [0]);
        assert_eq!(qemu.read(edu, pa, data.len()), Ok(data));
    }
    assert!(qemu.health().is_ok());
}

#[test]
fn abort_blocks_edu_and_refused_reads_arrive_as_zeros() {
    let Some(qemu) = two_edus() else { return };
    let (smmu, pa) = (qemu.mmio(0).unwrap(), RAM_BASE + 0x1000);
    qemu.ram().write(pa, b"do not touch").unwrap();
    // Leftovers in the device's buffer.
    assert_eq!(qemu.read(0, pa, 12), Ok(b"do not touch".to_vec()));
    abort(&smmu);
    assert_eq!(qemu.write(0, pa, b"I touched it"), Ok(DmaStatus::Unreported));
    assert_eq!(bytes(qemu.ram(), pa, 12), b"do not touch");
    assert_eq!(qemu.read(0, pa, 12), Ok(vec![0; 12]));
    assert_eq!(smmu.read32(GBPA).unwrap(), 0x1000 | GBPA_ABORT, "left as it was");
}

#[test]
fn slots_of_bus_0_are_masters_too_where_there_is_one_smmu() {
    let Some((binary, version)) = usable() else { return };
    let masters = vec![master(0, 0x08, DeviceKind::Edu), master(0, 0xf8, DeviceKind::Edu)];
    let result = Qemu::start(QemuConfig { masters, ..config(binary) });
    if version.has_several_instances() {
        let expected = TopologyError::BusZero { master: 0, stream: 0x08 };
        assert_eq!(result.unwrap_err(), QemuError::Topology(expected));
        return;
    }
    let qemu = result.unwrap();
    qemu.write(1, RAM_BASE + 5, b"slot 31").unwrap();
    assert_eq!(qemu.read(0, RAM_BASE + 5, 7), Ok(b"slot 31".to_vec()));
}

#[test]
fn a_machine_that_this_qemu_cannot_be_is_refused_with_what_it_lacks() {
    let Some((binary, version)) = usable() else { return };
    if version.has_several_instances() {
        return common::skipped(&format!("QEMU {version} lacks nothing"));
    }
    let instances = vec![QemuInstance { stage: Stage::Nested }; 2];
    let two = Qemu::start(QemuConfig { instances, ..config(binary.clone()) }).unwrap_err();
    assert!(matches!(two, QemuError::Lacks { .. }), "{two}");
    let masters = vec![master(0, 0x900, DeviceKind::Testdev)];
    let testdev = Qemu::start(QemuConfig { masters, ..config(binary) }).unwrap_err();
    assert!(testdev.to_string().contains("iommu-testdev"), "{testdev}");
    assert!(two.is_missing_qemu() && testdev.is_missing_qemu());
}

/// Two instances, one with an edu and a testdev whose buses enclose that of the other's.
fn two_instances() -> Option<Qemu> {
    let binary = usable_11()?;
    let config = QemuConfig {
        instances: vec![QemuInstance { stage: Stage::Nested }, QemuInstance { stage: Stage::One }],
        masters: vec![
            master(0, 0x900, DeviceKind::Edu),
            master(1, 0xb00, DeviceKind::Edu),
            master(0, 0x1100, DeviceKind::Testdev),
        ],
        ..QemuConfig::new(binary)
    };
    Some(Qemu::start(config).unwrap())
}

#[test]
fn two_instances_are_distinct() {
    let Some(qemu) = two_instances() else { return };
    let (first, second) = (qemu.mmio(0).unwrap(), qemu.mmio(1).unwrap());
    assert_eq!(first.read32(0).unwrap(), 0x0d44_101b);
    assert_eq!(second.read32(0).unwrap(), 0x0d44_101a);
    first.write64(0x80, 0x4400_0000).unwrap();
    assert_eq!(first.read64(0x80).unwrap(), 0x4400_0000);
    assert_eq!(second.read64(0x80).unwrap(), 0);
    // The second lets everything through, the first nothing.
    abort(&first);
    for edu in [0, 1] {
        qemu.write(edu, RAM_BASE + 0x100 * edu as u64, b"data").unwrap();
    }
    let pattern: Vec<u8> = (0..4).map(testdev::pattern).collect();
    assert_eq!(qemu.write(2, RAM_BASE + 0x200, &pattern), Ok(DmaStatus::Refused));
    assert_eq!(bytes(qemu.ram(), RAM_BASE, 4), [0; 4]);
    assert_eq!(bytes(qemu.ram(), RAM_BASE + 0x100, 4), b"data");
    assert_eq!(bytes(qemu.ram(), RAM_BASE + 0x200, 4), [0; 4]);
}

/// The wires are those of the SMMU that is asked, and each is what it is said to be (§2.4): GERROR for a command without a meaning,
/// and a CMD_SYNC's where it asks for an interrupt.
#[test]
fn wires_are_raised_and_each_is_its_own_smmus() {
    const IRQ_CTRL: u32 = 0x50;
    let Some((binary, version)) = usable() else { return };
    let count = if version.has_several_instances() { 16 } else { 1 };
    let instances = vec![QemuInstance { stage: Stage::Nested }; count];
    let qemu = Qemu::start(QemuConfig { instances, ..config(binary) }).unwrap();
    let seen = || Vec::from_iter((0..count).map(|instance| qemu.interrupts(instance).unwrap()));
    let mut expected = vec![Interrupts::default(); count];
    for (instance, at) in [0, count / 2, count - 1].map(|instance| (instance, COMMANDS)) {
        let smmu = qemu.mmio(instance).unwrap();
        // CMD_SYNC with CS = 1, and an opcode without a meaning.
        [0x1046, 0, 0x7f, 0].into_iter().zip(0..).for_each(|(word, index)| {
            qemu.ram().write64(at + 8 * index, word).unwrap();
        });
        smmu.write32(CR0, 0).unwrap();
        smmu.write32(0x98, 0).unwrap();
        smmu.write32(0x9c, 0).unwrap();
        smmu.write64(0x90, at | 5).unwrap();
        smmu.write32(IRQ_CTRL, 1).unwrap();
        smmu.write32(CR0, CMDQEN).unwrap();
        assert_eq!(seen(), expected);
        smmu.write32(0x98, 1).unwrap();
        expected[instance].sync += 1;
        assert_eq!(seen(), expected);
        smmu.write32(0x98, 2).unwrap();
        expected[instance].error += 1;
        assert_eq!(seen(), expected);
        // Acknowledged, for the next turn where there is one SMMU: it tries the command again, which is legal now.
        qemu.ram().write64(at + 16, 0x30).unwrap();
        smmu.write32(0x64, smmu.read32(0x60).unwrap()).unwrap();
    }
    assert!(matches!(qemu.interrupts(count), Err(QemuError::NoInstance { .. })));
}

#[test]
fn as_many_instances_and_masters_as_are_promised_can_be_had() {
    let Some(binary) = usable_11() else { return };
    let masters = (0..64).map(|index| {
        let device = if index % 2 == 0 { DeviceKind::Edu } else { DeviceKind::Testdev };
        // 32 behind the first instance; buses from the highest to the lowest.
        let instance = if index < 32 { 0 } else { index as usize % 15 + 1 };
        master(instance, (0xff - index * 3) << 8, device)
    });
    let config = QemuConfig {
        instances: vec![QemuInstance { stage: Stage::Nested }; 16],
        masters: masters.collect(),
        ..QemuConfig::new(binary)
    };
    let qemu = Qemu::start(config).unwrap();
    for index in 0..qemu.masters() {
        let pa = RAM_BASE + 0x1000 * index as u64;
        let pattern: Vec<u8> = (0..8).map(testdev::pattern).collect();
        qemu.write(index, pa, &pattern).unwrap();
        assert_eq!(bytes(qemu.ram(), pa, 8), pattern, "master {index}");
    }
    for instance in 0..qemu.instances() {
        abort(&qemu.mmio(instance).unwrap());
    }
}

#[test]
fn testdev_writes_its_pattern_only_and_says_what_became_of_it() {
    let Some(qemu) = two_instances() else { return };
    let pa = RAM_BASE + 0x2002;
    let pattern: Vec<u8> = (0..10).map(testdev::pattern).collect();
    assert_eq!(qemu.write(2, pa, &pattern), Ok(DmaStatus::Completed));
    assert_eq!(bytes(qemu.ram(), pa, 12), [&pattern[..], &[0, 0]].concat());
    let run = |iova, length, pa| qemu.run_testdev(2, iova, length, pa);
    assert_eq!(run(pa, 10, pa), Ok(TestdevResult::Written));
    assert_eq!(run(pa, 10, pa + 1), Ok(TestdevResult::Mismatch));
    assert_eq!(run(pa, 10, 0x2000_0000_0000), Ok(TestdevResult::ReadBackFailed));
    assert_eq!(run(pa, 0, pa), Ok(TestdevResult::BadLength));
    abort(&qemu.mmio(0).unwrap());
    assert_eq!(run(pa, 10, pa), Ok(TestdevResult::WriteFailed));

    let cannot = |result: Result<_, QemuError>| matches!(result, Err(QemuError::CannotDo { .. }));
    assert!(cannot(qemu.write(2, pa, b"something else").map(drop)));
    assert!(cannot(qemu.read(2, pa, 4).map(drop)));
    assert!(cannot(qemu.run_testdev(0, pa, 4, pa).map(drop)));
    assert!(qemu.health().is_ok());
}

/// The least that an SMMU needs to translate one stream: a stream table, a CD, four tables, a command queue.
struct Setup<'a> {
    ram: &'a Ram,
    smmu: QemuMmio,
    queued: u32,
}

const STREAM_TABLE: u64 = RAM_BASE + 0x10_0000;
const CD: u64 = RAM_BASE + 0x20_0000;
const TABLES: u64 = RAM_BASE + 0x21_0000;
const COMMANDS: u64 = RAM_BASE + 0x22_0000;
const IOVA: u64 = 0x80_8060_9000;

impl<'a> Setup<'a> {
    /// Translates [`IOVA`]'s page to `pa` for `stream`, ASID 7, and everything else to faults (§3, §4, §15).
    fn new(ram: &'a Ram, smmu: QemuMmio, stream: u64, pa: u64) -> Self {
        let store = |at, value| ram.write64(at, value).unwrap();
        let index = |level: u32| IOVA >> (12 + 9 * (3 - level)) & 0x1ff;
        for level in 0..3 {
            let table = TABLES + 0x1000 * u64::from(level);
            store(table + 8 * index(level), (table + 0x1000) | 3);
        }
        let setup = Setup { ram, smmu, queued: 0 };
        setup.store_page(pa | 1 << 10 | 3 << 8 | 1 << 6 | 3);
        // T0SZ 16, write-back, EPD1, V, IPS 44 bits, AA64, R, A, ASET, ASID 7.
        store(CD, 16 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 30 | 1 << 31 | 4 << 32 | 1 << 41);
        store(CD, ram.read64(CD).unwrap() | 7 << 45 | 7 << 48);
        store(CD + 8, TABLES);
        store(CD + 24, 0xff);
        // V, Config: stage 1 translates.
        store(STREAM_TABLE + 64 * stream, CD | 5 << 1 | 1);
        setup.smmu.write64(0x80, STREAM_TABLE).unwrap();
        setup.smmu.write32(0x88, 12).unwrap();
        setup.smmu.write64(0x90, COMMANDS | 5).unwrap();
        setup.smmu.write32(CR0, 1 << 3).unwrap();
        setup.smmu.write32(CR0, 1 << 3 | 1).unwrap();
        setup
    }

    fn store_page(&self, descriptor: u64) {
        self.ram.write64(TABLES + 0x3000 + 8 * (IOVA >> 12 & 0x1ff), descriptor).unwrap();
    }

    /// CMD_TLBI_NSNH_ALL, then CMD_SYNC (§10).
    fn invalidate(&mut self) {
        for opcode in [0x30, 0x46] {
            let at = COMMANDS + 16 * u64::from(self.queued);
            self.ram.write64(at, opcode).unwrap();
            self.ram.write64(at + 8, 0).unwrap();
            self.queued += 1;
        }
        self.smmu.write32(0x98, self.queued).unwrap();
        assert_eq!(self.smmu.read32(0x9c).unwrap(), self.queued, "no command error");
    }
}

#[test]
fn a_missing_invalidation_shows_and_moving_edus_data_does_not_repair_it() {
    let Some((binary, _)) = usable() else { return };
    let qemu = Qemu::start(QemuConfig { log_translations: true, ..config(binary) }).unwrap();
    let (ram, smmu, pa) = (qemu.ram(), qemu.mmio(0).unwrap(), RAM_BASE + 0x30_0000);
    abort(&smmu);
    let mut setup = Setup::new(ram, smmu.clone(), 0xa00, pa);
    let registers = || [CR0, 0x24, GBPA, 0x98, 0x9c, 0xa8].map(|at| smmu.read32(at).unwrap());
    let before = registers();
    let counts = |hits, misses| Ok(Some(TranslationCounts { hits, misses }));

    qemu.write(1, IOVA + 4, b"one.").unwrap();
    assert_eq!(bytes(ram, pa, 8), b"\0\0\0\0one.");
    assert_eq!(qemu.translation_counts(), counts(0, 1));
    // Taken away, but nobody told the TLB.
    setup.store_page(0);
    qemu.write(1, IOVA, b"two.").unwrap();
    assert_eq!(qemu.read(1, IOVA, 8), Ok(b"two.one.".to_vec()));
    let hits = qemu.translation_counts().unwrap().unwrap().hits;
    assert!(hits >= 2, "{hits} hits");
    assert_eq!(registers(), before, "the SMMU is as the driver left it");

    setup.invalidate();
    qemu.write(1, IOVA, b"three...").unwrap();
    assert_eq!(qemu.read(1, IOVA, 8), Ok(vec![0; 8]));
    assert_eq!(bytes(ram, pa, 8), b"two.one.");
    let end = qemu.translation_counts().unwrap().unwrap();
    assert!(end.hits == hits && end.misses > 1, "{end:?}");
    // The other stream's STE is invalid.
    qemu.write(0, IOVA, b"four").unwrap();
    assert_eq!(bytes(ram, pa, 4), b"two.");
}

#[test]
fn look_ups_are_not_counted_unless_asked_for() {
    let Some(qemu) = two_edus() else { return };
    assert_eq!(qemu.translation_counts(), Ok(None));
}

#[test]
fn a_killed_qemu_is_an_error_at_the_next_request_and_ever_after() {
    let Some(qemu) = two_edus() else { return };
    let smmu = qemu.mmio(0).unwrap();
    let process = rustix::process::Pid::from_raw(qemu.process_id() as i32).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    let error = smmu.read32(0).unwrap_err();
    assert!(matches!(&error, QemuError::Died { status, .. } if status.contains("9")), "{error}");
    assert_eq!(smmu.write64(0x80, 0), Err(error.clone()));
    assert_eq!(qemu.read(0, RAM_BASE, 4), Err(error.clone()));
    assert_eq!(qemu.write(0, RAM_BASE, &[1]), Err(error.clone()));
    assert_eq!(qemu.health(), Err(error));
}

#[test]
fn a_stopped_qemu_is_silence_and_then_gone() {
    let Some((binary, _)) = usable() else { return };
    let deadline = Duration::from_secs(4);
    let qemu = Qemu::start(QemuConfig { deadline, ..config(binary) }).unwrap();
    let process = rustix::process::Pid::from_raw(qemu.process_id() as i32).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::STOP).unwrap();
    let error = qemu.mmio(0).unwrap().read32(0).unwrap_err();
    assert!(matches!(error, QemuError::Silent { .. }), "{error}");
    assert!(!Path::new(&format!("/proc/{}", qemu.process_id())).exists());
}

#[test]
fn what_kills_qemu_is_quoted() {
    let Some(qemu) = two_edus() else { return };
    assert!(deviation::DIES_OF_IPS.holds(qemu.version()), "what kills it otherwise?");
    let setup = Setup::new(qemu.ram(), qemu.mmio(0).unwrap(), 0x900, RAM_BASE);
    let cd = qemu.ram().read64(CD).unwrap();
    qemu.ram().write64(CD, cd | 7 << 32).unwrap();
    let error = qemu.write(0, IOVA, &[1]).unwrap_err();
    assert!(matches!(error, QemuError::Died { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("SIGABRT") && text.contains("code should not be reached"), "{text}");
    assert_eq!(setup.smmu.read32(0), Err(error));
}

#[test]
fn the_process_is_gone_after_drop_though_handles_remain() {
    let Some(qemu) = two_edus() else { return };
    let (smmu, process) = (qemu.mmio(0).unwrap(), format!("/proc/{}", qemu.process_id()));
    assert!(Path::new(&process).exists());
    drop(qemu);
    assert!(!Path::new(&process).exists());
    assert_eq!(smmu.read32(0), Err(QemuError::Stopped));
}

#[test]
fn the_process_is_gone_after_a_panic() {
    let Some((binary, _)) = usable() else { return };
    let thread = std::thread::spawn(move || {
        let qemu = Qemu::start(config(binary)).unwrap();
        std::panic::panic_any(qemu.process_id());
    });
    let process = *thread.join().unwrap_err().downcast::<u32>().unwrap();
    assert!(!Path::new(&format!("/proc/{process}")).exists());
}

/// Set in a copy of this program that a test starts in order to kill it.
const VICTIM: &str = "SMMUV3_TEST_VICTIM";

#[test]
fn the_process_is_gone_when_this_one_is_killed() {
    let Some((binary, _)) = usable() else { return };
    if std::env::var_os(VICTIM).is_some() {
        let qemu = Qemu::start(config(binary)).unwrap();
        println!("\nprocess {}", qemu.process_id());
        loop {
            std::thread::park();
        }
    }
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_process_is_gone_when_this_one_is_killed", "--nocapture"])
        .env(VICTIM, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines().map(Result::unwrap);
    let process = lines.filter_map(|line| line.strip_prefix("process ")?.parse().ok()).next();
    let process = rustix::process::Pid::from_raw(process.unwrap()).unwrap();
    let watched = rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty());
    victim.kill().unwrap();
    victim.wait().unwrap();
    // Readable once the process has ended.
    let mut ended = [PollFd::new(watched.as_ref().unwrap(), PollFlags::IN)];
    let limit = Timespec { tv_sec: 60, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut ended, Some(&limit)), Ok(1), "QEMU lives on");
}

#[test]
fn a_machine_outlives_the_thread_that_started_it() {
    let Some((binary, _)) = usable() else { return };
    let started = std::thread::spawn(move || Qemu::start(config(binary)).unwrap()).join().unwrap();
    assert_eq!(started.mmio(0).unwrap().read32(0x1c).unwrap(), 1);
}

#[test]
fn threads_can_use_one_machine_at_once() {
    let Some(qemu) = two_edus().map(Arc::new) else { return };
    std::thread::scope(|scope| {
        for edu in [0, 1] {
            let qemu = Arc::clone(&qemu);
            scope.spawn(move || {
                for round in 0..20 {
                    let pa = RAM_BASE + 0x1000 * edu as u64;
                    qemu.write(edu, pa, &[round, edu as u8]).unwrap();
                    assert_eq!(qemu.read(edu, pa, 2), Ok(vec![round, edu as u8]));
                    assert_eq!(qemu.mmio(0).unwrap().read32(0x1c).unwrap(), 1);
                }
            });
        }
    });
}

#[test]
fn accesses_beside_the_registers_are_errors_that_health_remembers() {
    let Some(qemu) = two_edus() else { return };
    let smmu = qemu.mmio(0).unwrap();
    let outside = QemuError::NoRegister { instance: 0, offset: 0x2_0000, bits: 32 };
    assert_eq!(smmu.read32(0x2_0000), Err(outside.clone()));
    assert!(matches!(smmu.write64(0x84, 0), Err(QemuError::NoRegister { .. })));
    assert_eq!(qemu.health(), Err(outside));
    // QEMU itself is well.
    assert_eq!(smmu.read32(0x1c), Ok(1));
}

#[test]
fn instances_and_masters_that_do_not_exist_are_errors() {
    let Some(qemu) = two_edus() else { return };
    assert_eq!(qemu.mmio(1).err(), Some(QemuError::NoInstance { instance: 1, count: 1 }));
    let no_master = QemuError::NoMaster { master: 2, count: 2 };
    assert_eq!(qemu.write(2, 0, &[1]), Err(no_master.clone()));
    assert_eq!(qemu.capabilities(2), Err(no_master));
    let edu = qemu.capabilities(1).unwrap();
    assert!(edu.reads && edu.arbitrary_data && !edu.reports_refusal);
}

#[test]
fn streams_that_cannot_be_had_are_refused_before_anything_starts() {
    let Some((binary, _)) = usable() else { return };
    for (stream, wanted) in [(0x908, "0x900"), (0x1_0000, "0xffff"), (0x0, "0x100")] {
        let masters = vec![master(0, stream, DeviceKind::Edu)];
        let error = Qemu::start(QemuConfig { masters, ..config(binary.clone()) }).unwrap_err();
        assert!(matches!(error, QemuError::Topology(_)), "{error}");
        assert!(error.to_string().contains(wanted), "{error}");
    }
}

#[test]
fn a_program_that_is_no_qemu_is_an_error() {
    let start = |path: &str| Qemu::start(config(PathBuf::from(path))).unwrap_err();
    for path in ["/nonexistent/qemu-system-aarch64", "/bin/true", "/"] {
        let error = start(path);
        assert!(matches!(error, QemuError::NotQemu { .. }), "{error}");
        assert!(error.to_string().contains(path), "{error}");
    }
    let error = qemu::find(Some(Path::new("/nonexistent/qemu"))).unwrap_err();
    assert!(error.is_missing_qemu() && error.to_string().contains("install"), "{error}");
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Errors of an SMMU on QEMU: commands that it refuses, events for which there is no room, and the wires that tell of both.

mod common;

use smmuv3_testbench::inside::Inside as _;
use std::sync::Arc;

use smmuv3::{
    Completion, Config, Domain, DomainConfig, Failure, InstanceConfig, Interrupt, Iommu, Lost,
    Master, MasterConfig, Report, Smmu, StreamId,
};
use smmuv3_formats::command::{CfgiSte, TlbiNhAsid};
use smmuv3_formats::register::{Gerror, Gerrorn};
use smmuv3_formats::{Command, EventId};
use smmuv3_testbench::machine::{Dma, Machine};
use smmuv3_testbench::machine_qemu::QemuMachine;
use smmuv3_testbench::platform::{TestPlatform, World};
use smmuv3_testbench::qemu::{self, Interrupts, Version, deviation};

const SCENARIO: &str = r#"
name = "errors"
[[instance]]
name = "smmu"
[[master]]
name = "nic"
instance = "smmu"
streams = [0x900]
[[domain]]
name = "domain"
[[step]]
attach = { master = "nic", domain = "domain" }
"#;

const ILL: u8 = 1;
const NOWHERE: u64 = 0x1000_0000;
const PAGE: u64 = 0x1000;

/// A device on QEMU, attached to an empty domain, behind an SMMU with four event records.
struct Setup {
    machine: Arc<QemuMachine>,
    version: Version,
    iommu: Iommu<TestPlatform>,
    smmu: Smmu<TestPlatform>,
    _master: Master<TestPlatform>,
    _domain: Domain<TestPlatform>,
}

fn set_up() -> Option<Setup> {
    set_up_with(|_| ())
}

fn set_up_with(change: impl FnOnce(&mut InstanceConfig)) -> Option<Setup> {
    let binary = common::any_qemu_or_skip()?;
    let version = qemu::version(&binary).unwrap();
    let machine = QemuMachine::start(&common::parse(SCENARIO), binary);
    let machine = Arc::new(machine.unwrap_or_else(|error| panic!("{error}")));
    let world = World::new(machine.clone(), 1);
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    let mut config = InstanceConfig::named("smmu");
    config.event_queue_log2 = 2;
    change(&mut config);
    let smmu = common::enable(&iommu, &world, 0, config);
    let master = iommu.add_master(&smmu, &[StreamId(0x900)], MasterConfig::default()).unwrap();
    let domain = iommu.create_domain(DomainConfig::default()).unwrap();
    iommu.attach(&master, &domain).unwrap();
    Some(Setup { machine, version, iommu, smmu, _master: master, _domain: domain })
}

impl Setup {
    fn reports(&self) -> Vec<Report<TestPlatform>> {
        self.reports_of(Interrupt::Any)
    }

    /// What a handler reports that is called for one wire.
    fn reports_of(&self, which: Interrupt) -> Vec<Report<TestPlatform>> {
        let mut reports = Vec::new();
        let mut sink = |report| reports.push(report);
        while self.iommu.handle_interrupt(&self.smmu, which, 64, &mut sink) {}
        reports
    }

    fn interrupts(&self) -> Interrupts {
        self.machine.interrupts(0).unwrap()
    }

    fn active_errors(&self) -> u32 {
        self.machine.read32(0, Gerror::OFFSET) ^ self.machine.read32(0, Gerrorn::OFFSET)
    }

    /// The device writes a word to a page that is not mapped.
    fn fault(&self, page: u64) {
        self.machine.dma(0, None, NOWHERE + page * PAGE, Dma::Write(&[1, 2, 3, 4])).unwrap();
    }
}

fn page(report: &Report<TestPlatform>) -> Option<u64> {
    match report {
        Report::Event(record) if record.event() == Some(EventId::FTranslation) => {
            Some((record.input_addr() - NOWHERE) / PAGE)
        }
        _ => None,
    }
}

#[test]
fn a_command_that_qemu_refuses_is_its_waiters_and_no_later_one_is_lost() {
    let Some(setup) = set_up() else { return };
    let (instance, platform) = (setup.smmu.inside(), setup.iommu.platform());
    let queue = instance.commands();
    let legal: [Command; 2] =
        [TlbiNhAsid::new().with_asid(7).into(), CfgiSte::new().with_sid(0x900).into()];
    // Opcodes without a meaning, and one that belongs to another queue.
    for illegal in [Command([0x7f, 0]), Command([0x07, 0]), Command([0x42, 0])] {
        for position in 0..=legal.len() {
            let mut batch = legal.to_vec();
            batch.insert(position, illegal);
            let refused = Failure::Refused { command: illegal, code: ILL };
            let result = queue
                .submit_unjudged(platform, instance.mmio(), &mut batch.into_iter())
                .and_then(|ticket| queue.wait(platform, instance.mmio(), ticket));
            assert_eq!(result, Err(refused), "{illegal} at {position}");
            assert_eq!(queue.carry_out(platform, instance.mmio(), legal), Ok(()));
            assert_eq!(setup.active_errors(), 0);
            let error = Report::CommandError { command: illegal, code: ILL };
            assert_eq!(setup.reports(), [error], "{illegal} at {position}");
        }
    }
    assert!(!queue.has_failed());

    // Nobody waits: the handler reports it, and the waiter learns of it all the same.
    let illegal = Command([0x7f, 0x1234]);
    let mut commands = [illegal].into_iter();
    let ticket = queue.submit_unjudged(platform, instance.mmio(), &mut commands).unwrap();
    assert_ne!(setup.active_errors(), 0);
    assert_eq!(setup.reports(), [Report::CommandError { command: illegal, code: ILL }]);
    let refused = Failure::Refused { command: illegal, code: ILL };
    assert_eq!(queue.wait(platform, instance.mmio(), ticket), Err(refused));
    assert_eq!(queue.carry_out(platform, instance.mmio(), legal), Ok(()));
    setup.machine.health().unwrap();
}

/// Those of features that it does not have, according to its ID registers.
#[test]
fn commands_that_qemu_ignores_are_taken_although_they_are_illegal() {
    let Some(setup) = set_up() else { return };
    assert!(deviation::IGNORED_COMMANDS.holds(setup.version));
    let (instance, platform) = (setup.smmu.inside(), setup.iommu.platform());
    let features = instance.features();
    // TLBI_EL2_ALL, ATC_INV, PRI_RESP, RESUME (§4.1).
    assert!(!features.el2 && !features.ats && !features.pri && features.most_stalls == 0);
    let ignored = [0x20, 0x40, 0x41, 0x44].map(|opcode| Command([opcode, 0]));
    let queue = instance.commands();
    let ticket = queue.submit_unjudged(platform, instance.mmio(), &mut ignored.into_iter());
    assert_eq!(queue.wait(platform, instance.mmio(), ticket.unwrap()), Ok(()));
    assert_eq!(setup.active_errors(), 0);
    assert!(setup.reports().is_empty());
}

/// Here ([`deviation::OVERFLOW_ABORTS`]) or by OVFLG: either way somebody is told.
#[test]
fn events_that_find_no_room_on_qemu_are_reported_as_lost_and_later_ones_come() {
    let Some(setup) = set_up() else { return };
    assert!(deviation::OVERFLOW_ABORTS.holds(setup.version));
    for round in 0..3 {
        (0..4).for_each(|page| setup.fault(page));
        let seen: Vec<_> = setup.reports().iter().map(page).collect();
        assert_eq!(seen, [0, 1, 2, 3].map(Some), "round {round}");

        (0..6).for_each(|page| setup.fault(page));
        let reports = setup.reports();
        let seen: Vec<_> = reports.iter().filter_map(page).collect();
        assert_eq!(seen, [0, 1, 2, 3], "round {round}");
        let aborted = Gerror::default().with_eventq_abt_err(true);
        let lost = Report::EventsLost(Lost::Aborted);
        assert_eq!(reports[..2], [Report::GlobalError(aborted), lost], "round {round}");
        assert_eq!(reports.len(), 6, "round {round}: {reports:?}");
        assert_eq!(setup.active_errors(), 0);
    }
    setup.machine.health().unwrap();
}

/// Who looks only when a wire was raised, and only at what that tells of, misses nothing.
#[test]
fn events_and_errors_on_qemu_raise_their_wires_and_only_with_interrupts_on() {
    let Some(setup) = set_up() else { return };
    let mut expected = setup.interrupts();
    assert_eq!(expected, Interrupts::default(), "taking it into use");
    for turn in 1..4 {
        setup.fault(turn);
        expected.event += 1;
        assert_eq!(setup.interrupts(), expected);
        assert!(setup.reports_of(Interrupt::Error).is_empty());
        let seen: Vec<_> = setup.reports_of(Interrupt::Events).iter().map(page).collect();
        assert_eq!(seen, [Some(turn)]);
    }
    let (instance, platform) = (setup.smmu.inside(), setup.iommu.platform());
    let illegal = Command([0x7f, 0]);
    let queue = instance.commands();
    let _ = queue.submit_unjudged(platform, instance.mmio(), &mut [illegal].into_iter()).unwrap();
    expected.error += 1;
    assert_eq!(setup.interrupts(), expected);
    let error = Report::CommandError { command: illegal, code: ILL };
    assert_eq!(setup.reports_of(Interrupt::Error), [error]);
    assert!(setup.reports().is_empty(), "nothing is left");
    assert_eq!(setup.interrupts(), expected);

    let Some(setup) = set_up_with(|config| config.interrupts = false) else { return };
    setup.fault(1);
    assert_eq!(setup.interrupts(), Interrupts::default());
    assert_eq!(setup.reports().len(), 1);
}

/// As many as batches that are waited for; and none where the CPU asks the SMMU.
#[test]
fn completed_commands_on_qemu_raise_their_wire_where_they_are_to() {
    for (completion, raises) in [(Completion::Interrupt, 1), (Completion::Poll, 0)] {
        let Some(setup) = set_up_with(|config| config.completion = completion) else { return };
        let (instance, platform) = (setup.smmu.inside(), setup.iommu.platform());
        let before = setup.interrupts().sync;
        assert_eq!(before > 0, raises > 0, "an attach waits for the SMMU");
        for turn in 1..4 {
            let legal = [TlbiNhAsid::new().with_asid(7).into()];
            assert_eq!(instance.commands().carry_out(platform, instance.mmio(), legal), Ok(()));
            assert_eq!(setup.interrupts().sync - before, turn * raises);
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Enhanced command queues, completion by message, and interrupts by wires and messages: every rule holds with each of
//! them, and what can go wrong with them is recovered from and told.

mod common;

use smmuv3_testbench::inside::Inside as _;
use std::sync::Arc;

use smmuv3::features::Unsupported;
use smmuv3::{
    Attributes, Completion, Config, Destination, DomainConfig, Failure, InstanceConfig, Interrupt,
    Iommu, Iova, Lost, MasterConfig, Message, Messages, Mmio, PhysAddr, Prot, Report, Smmu,
    StreamId,
};
use smmuv3_formats::Command;
use smmuv3_formats::command::TlbiNhAsid;
use smmuv3_formats::register::{
    EventqIrqCfg0, EventqIrqCfg1, EventqIrqCfg2, Gerror, GerrorIrqCfg0, GerrorIrqCfg1,
    GerrorIrqCfg2,
};
use smmuv3_model::{Access, Adversary, Observation, Profile};
use smmuv3_testbench::machine_model::{ModelMachine, profile};
use smmuv3_testbench::platform::{TestMmio, TestPlatform, World};
use smmuv3_testbench::run::{Options, run};
use smmuv3_testbench::scenario::Scenario;

const PAGE: u64 = 0x1000;
const IOVA: Iova = Iova(0x1000_0000);

struct Setup {
    world: Arc<World>,
    iommu: Iommu<TestPlatform>,
    smmu: Smmu<TestPlatform>,
}

/// One SMMU.
fn machine(change: impl Fn(Profile) -> Profile) -> (Arc<World>, Iommu<TestPlatform>) {
    let text = "name = \"queues\"\ninstance = [{ name = \"smmu0\" }]\n\
                master = [{ name = \"nic\", instance = \"smmu0\", streams = [1] }]";
    let scenario = common::parse(text);
    let machine = ModelMachine::with_profiles(&scenario, 1, |instance| change(profile(instance)));
    let world = World::new(Arc::new(machine.unwrap()), 1);
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    (world, iommu)
}

fn config() -> InstanceConfig {
    let mut config = InstanceConfig::named("smmu0");
    config.command_queue_log2 = 4;
    config.event_queue_log2 = 3;
    config.sid_bits = 4;
    config
}

impl Setup {
    fn new(
        change: impl Fn(Profile) -> Profile,
        configure: impl Fn(&World, &mut InstanceConfig),
    ) -> Self {
        let (world, iommu) = machine(change);
        let mut config = config();
        configure(&world, &mut config);
        let mmio = TestMmio { world: world.clone(), instance: 0 };
        let smmu = iommu.probe(mmio, config).unwrap().enable().unwrap();
        Self { world, iommu, smmu }
    }

    /// With so many enhanced queues, and the main one.
    fn with_lanes(log2: u32, completion: Completion) -> Self {
        let setup = Self::new(
            |profile| profile.ecmdq(Some(log2)).msi(true),
            |_, config| config.completion = completion,
        );
        assert_eq!(setup.commands().lanes(), (1 + (1 << log2)).min(4));
        setup
    }

    fn commands(&self) -> &smmuv3::command_queue::CommandQueue {
        self.smmu.inside().commands()
    }

    fn carry_out(&self, commands: Vec<Command>) -> Result<(), Failure> {
        self.smmu.inside().carry_out(self.iommu.platform(), commands)
    }

    fn reports(&self, which: Interrupt) -> Vec<Report<TestPlatform>> {
        let mut reports = Vec::new();
        let mut sink = |report| reports.push(report);
        while self.iommu.handle_interrupt(&self.smmu, which, 8, &mut sink) {}
        reports
    }

    /// Maps, lets a device use it, and unmaps, so many times.
    fn work(&self, rounds: u64) {
        let domain = self.iommu.create_domain(DomainConfig::default()).unwrap();
        let memory = self.world.frames().allocate(64 * PAGE, PAGE).unwrap();
        let master = self.iommu.add_master(&self.smmu, &[StreamId(1)], MasterConfig::default());
        let master = master.unwrap();
        self.iommu.attach(&master, &domain).unwrap();
        for round in 0..rounds {
            let len = (1 + round % 3 * 31) * PAGE;
            let attributes = Attributes::normal(Prot::READ | Prot::WRITE);
            // SAFETY: the test is alone, and its memory stays.
            unsafe { domain.map(IOVA, PhysAddr(memory), len, attributes) }.unwrap();
            let access = Access::read(1, IOVA.0);
            let translated = self.world.machine().model(0).unwrap().translate(access);
            assert_eq!(translated.map(|found| found.pa), Ok(memory));
            // SAFETY: as above.
            assert_eq!(unsafe { domain.unmap(IOVA, len) }, Ok(len));
            let left = self.world.machine().model(0).unwrap().tlb_entries().count();
            assert_eq!(left, 0, "round {round}");
        }
        self.iommu.detach(&master).unwrap();
        master.close().unwrap();
        domain.close().unwrap();
    }

    /// The queues that commands were consumed from, and the misuse that the model saw.
    fn queues_used(&self) -> (Vec<usize>, Vec<Observation>) {
        let seen = self.world.observations(0).unwrap();
        let mut queues: Vec<usize> = seen
            .iter()
            .filter_map(|seen| match seen {
                Observation::Command { queue, .. } => Some(*queue),
                _ => None,
            })
            .collect();
        queues.sort_unstable();
        queues.dedup();
        let misuse = |seen: &Observation| matches!(seen, Observation::Misuse(_));
        (queues, seen.into_iter().filter(misuse).collect())
    }

    fn remove(self) -> u64 {
        let Self { world, iommu, smmu } = self;
        iommu.remove(smmu).unwrap();
        drop(iommu);
        world.frames().live_bytes()
    }
}

#[test]
fn every_cpu_has_a_queue_and_all_of_them_are_used() {
    for completion in [Completion::Poll, Completion::Message] {
        for log2 in 0..=3 {
            let setup = Setup::with_lanes(log2, completion);
            setup.work(30);
            let lanes = setup.commands().lanes();
            assert_eq!(setup.queues_used(), ((0..lanes).collect(), vec![]), "{completion:?}");
        }
    }
}

#[test]
fn queues_beyond_the_registers_or_not_wanted_are_not_used() {
    let setup =
        Setup::new(|profile| profile.ecmdq(Some(3)), |_, config| config.enhanced_queues = 1);
    setup.work(30);
    assert_eq!(setup.queues_used(), (vec![0, 1], vec![]));
    let setup =
        Setup::new(|profile| profile.ecmdq(Some(3)), |_, config| config.enhanced_queues = 0);
    setup.work(30);
    assert_eq!(setup.queues_used(), (vec![0], vec![]));
}

/// CS = IRQ, MSH = 3, MSIAttr = 0xf, and as data the low half of the position behind it (§4.1).
#[test]
fn a_message_says_how_far_the_queue_has_come() {
    let setup = Setup::with_lanes(1, Completion::Message);
    setup.world.take_commands();
    setup.world.observations(0);
    let before = setup.world.observations(0).unwrap().len();
    assert_eq!(before, 0);
    (0..20).for_each(|_| setup.carry_out(vec![]).unwrap());
    let syncs: Vec<Command> =
        setup.world.take_commands().into_iter().map(|(_, command)| command).collect();
    assert_eq!(syncs.len(), 20);
    let mut addresses: Vec<u64> = syncs.iter().map(|sync| sync.0[1]).collect();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), 3, "a word for each queue");
    for address in addresses {
        let of: Vec<u64> =
            syncs.iter().filter(|sync| sync.0[1] == address).map(|sync| sync.0[0]).collect();
        assert!(of.iter().all(|word| word & 0xffff_ffff == 0x0fc0_1046), "{of:x?}");
        // One behind the other: each batch here is a CMD_SYNC.
        assert!(of.is_sorted_by(|a, b| (a >> 32) + 1 == b >> 32), "{of:x?}");
    }
}

#[test]
fn where_messages_cannot_be_completion_is_polled() {
    type Change = fn(Profile) -> Profile;
    let cases: [(Change, u64); 3] = [
        (|profile| profile.msi(true), 0x0fc0_1046),
        (|profile| profile.msi(false), 0x46),
        (|profile| profile.msi(true).cohacc(false), 0x46),
    ];
    for (change, word) in cases {
        let setup = Setup::new(change, |_, config| config.completion = Completion::Message);
        setup.world.take_commands();
        setup.carry_out(vec![]).unwrap();
        let commands = setup.world.take_commands();
        assert!(matches!(&commands[..], [(0, sync)] if sync.0[0] & 0xffff_ffff == word));
    }
}

/// Where every wait is over at the first look: an empty queue has room, also for whoever does not wait for any, and for more
/// than was asked for last.
#[test]
fn a_queue_that_is_empty_has_room_however_its_commands_were_waited_for() {
    for completion in [Completion::Poll, Completion::Message] {
        let exact = |mut profile: Profile| {
            profile.adversary = Adversary::NONE;
            profile.msi(true)
        };
        let setup = Setup::new(exact, |_, config| config.completion = completion);
        let (platform, mmio) = (setup.iommu.platform(), setup.smmu.inside().mmio());
        let most = setup.commands().largest_batch();
        let begun = setup.commands().statistics(platform);
        for round in 0..100 {
            let count = if round % 7 == 6 { most } else { 1 };
            let batch = vec![Command::from(TlbiNhAsid::new().with_asid(5)); count];
            let ticket = setup.commands().try_submit(platform, mmio, &mut batch.into_iter());
            let ticket = ticket.unwrap().unwrap_or_else(|| panic!("no room, round {round}"));
            setup.world.machine().model(0).unwrap().run(usize::MAX);
            setup.commands().wait(platform, mmio, ticket).unwrap();
        }
        let done = setup.commands().statistics(platform);
        assert_eq!((done.full, done.waits), (begun.full, begun.waits), "{completion:?}");
    }
}

/// The memory of the words refuses what is written: those who wait look at the register instead (§2.4,
/// GERROR.MSI_CMDQ_ABT_ERR).
#[test]
fn a_lost_message_is_made_up_for_and_told() {
    let setup = Setup::with_lanes(1, Completion::Message);
    setup.world.machine().model(0).unwrap().lose_messages(10);
    (0..20).for_each(|_| setup.carry_out(vec![]).unwrap());
    let lost = Gerror::default().with_msi_cmdq_abt_err(true);
    assert_eq!(setup.reports(Interrupt::Any), [Report::GlobalError(lost)]);
}

/// Each is recovered by the handshake of its own queue, and whoever waits is told; GERROR.CMDQP_ERR is acknowledged.
#[test]
fn an_error_stops_one_queue_and_its_waiter_is_told() {
    for completion in [Completion::Poll, Completion::Message] {
        let setup = Setup::with_lanes(1, completion);
        for queue in 0..3 {
            for code in [1, 2, 3, 1] {
                setup.world.machine().model(0).unwrap().fail_next_command_of(queue, code);
                // Until a batch goes there.
                let told = (0..100).find_map(|_| setup.carry_out(vec![Command::cfgi_all()]).err());
                let error = setup.reports(Interrupt::Error);
                match (code, told) {
                    // Tried again: nobody has to know.
                    (2, None) => {}
                    (1 | 3, Some(Failure::Refused { command, code: refused })) => {
                        assert_eq!((command, refused), (Command::cfgi_all(), code));
                    }
                    other => panic!("queue {queue}: {other:?}"),
                }
                let expected = Report::CommandError { command: Command::cfgi_all(), code };
                assert_eq!(error, [expected], "queue {queue}");
            }
        }
        assert_eq!(setup.queues_used().1, vec![]);
        setup.carry_out(vec![Command::cfgi_all()]).unwrap();
        setup.work(10);
    }
}

#[test]
fn an_smmu_that_stands_still_has_failed_with_all_its_queues_until_it_is_reset() {
    for completion in [Completion::Poll, Completion::Message] {
        let setup = Setup::with_lanes(1, completion);
        for round in 0..4 {
            let model = || setup.world.machine().model(0).unwrap();
            model().wedge_after(Some(round));
            let failed = (0..4).find_map(|_| setup.carry_out(vec![]).err());
            assert!(matches!(failed, Some(Failure::Timeout { .. })), "{failed:?}");
            assert!((0..20).all(|_| setup.carry_out(vec![]) == Err(Failure::Failed)));
            model().wedge_after(None);
            setup.iommu.reset(&setup.smmu).unwrap();
            setup.work(5);
        }
        let (queues, misuse) = setup.queues_used();
        assert_eq!((queues.len(), misuse), (3, vec![]));
    }
}

#[test]
fn settling_waits_for_every_queue() {
    let setup = Setup::with_lanes(1, Completion::Poll);
    let (platform, mmio) = (setup.iommu.platform(), setup.smmu.inside().mmio());
    for _ in 0..50 {
        for _ in 0..3 {
            // Nobody waits for these.
            let mut commands = [Command::cfgi_all()].into_iter();
            let _ = setup.commands().submit(platform, mmio, &mut commands).unwrap();
        }
        setup.commands().settle(platform, mmio).unwrap();
        assert_eq!(setup.world.machine().model(0).unwrap().waiting_commands(), 0);
    }
}

/// Firmware left two of them on: CR1 cannot be changed, nor their memory trusted, until they are off.
#[test]
fn queues_that_were_left_enabled_are_turned_off_first() {
    let (world, iommu) = machine(|profile| profile.ecmdq(Some(2)));
    let mmio = TestMmio { world: world.clone(), instance: 0 };
    let slots = [0x2_0000, 0x2_c000];
    for slot in slots {
        let memory = world.frames().allocate(PAGE, PAGE).unwrap();
        mmio.write64(slot, memory | 4);
        mmio.write32(slot + 0x8, 3);
        mmio.write32(slot + 0xc, 3);
        mmio.write32(slot + 0x8, 1 << 31 | 3);
        assert_eq!(mmio.read32(slot + 0xc) >> 31, 1);
    }
    let mut config = config();
    config.enhanced_queues = 1;
    let smmu = iommu.probe(mmio.clone(), config).unwrap().enable().unwrap();
    assert_eq!(slots.map(|slot| mmio.read32(slot + 0xc) >> 31), [1, 0]);
    let setup = Setup { world, iommu, smmu };
    assert_eq!(setup.queues_used().1, vec![]);
    setup.work(10);
    assert_eq!(setup.queues_used(), (vec![0, 1], vec![]));
}

#[test]
fn nothing_is_left_when_it_is_removed() {
    for completion in [Completion::Poll, Completion::Message] {
        let setup = Setup::with_lanes(2, completion);
        setup.work(4);
        let left = 64 * PAGE;
        assert_eq!(setup.remove(), left, "{completion:?}");
    }
}

// ---- interrupts -----------------------------------------------------------------------------------

/// The message to `address`, and what is written there.
fn message(address: u64, data: u32) -> Message {
    // SAFETY: the machine's memory there is for messages, or they are never sent.
    unsafe { Message::new(PhysAddr(address), data) }
}

/// With a page for the messages of events and errors.
fn with_messages(change: impl Fn(Profile) -> Profile) -> Setup {
    let setup = Setup::new(
        |profile| change(profile.msi(true)),
        |world, config| {
            let page = world.frames().allocate(PAGE, PAGE).unwrap();
            config.messages.events = Some(message(page, 0x55));
            config.messages.errors = Some(message(page + 8, 0x66).to(Destination::Memory));
        },
    );
    assert_eq!(setup.queues_used().1, vec![]);
    setup
}

#[test]
fn messages_are_configured_while_interrupts_are_off() {
    let setup = with_messages(|profile| profile);
    let Messages { events, errors, .. } = setup.smmu.config().messages;
    let (mmio, [events, errors]) =
        (setup.smmu.inside().mmio(), [events, errors].map(Option::unwrap));
    let low = |address: u64| address as u32;
    for (offset, value) in [
        (EventqIrqCfg0::OFFSET, low(events.address().0)),
        (EventqIrqCfg0::OFFSET + 4, (events.address().0 >> 32) as u32),
        (EventqIrqCfg1::OFFSET, 0x55),
        // Device-nGnRE.
        (EventqIrqCfg2::OFFSET, 0x01),
        (GerrorIrqCfg0::OFFSET, low(errors.address().0)),
        (GerrorIrqCfg1::OFFSET, 0x66),
        // Write-back, inner shareable.
        (GerrorIrqCfg2::OFFSET, 0x3f),
    ] {
        assert_eq!(mmio.read32(offset), value, "{offset:#x}");
    }
    // Again in a reset, when they were on.
    setup.iommu.reset(&setup.smmu).unwrap();
    assert_eq!(setup.queues_used().1, vec![]);
}

/// A transaction of a stream that does not exist: C_BAD_STREAMID. It is another stream for each page, since what one is
/// refused again may be one event.
fn fault(setup: &Setup, address: u64) {
    // Addresses here are small.
    let access = Access::read(100 + (address / PAGE) as u32, address);
    assert!(setup.world.machine().model(0).unwrap().translate(access).is_err());
}

#[test]
fn an_event_and_an_error_each_send_their_message() {
    let setup = with_messages(|profile| profile);
    let Messages { events, errors, .. } = setup.smmu.config().messages;
    let [events, errors] = [events, errors].map(|message| message.unwrap().address().0);
    let word = |at| setup.world.machine().ram().read64(at).unwrap();
    assert_eq!((word(events), word(errors)), (0, 0));
    fault(&setup, 0x1000);
    assert_eq!((word(events), word(errors)), (0x55, 0));
    assert!(matches!(setup.reports(Interrupt::Events)[..], [Report::Event(_)]));
    setup.world.machine().model(0).unwrap().fail_next_command(1);
    assert!(setup.carry_out(vec![Command::cfgi_all()]).is_err());
    assert_eq!(word(errors), 0x66);
    assert!(matches!(setup.reports(Interrupt::Error)[..], [Report::CommandError { .. }]));
}

/// The interrupt of the events is lost; that of the error makes the driver look at them (§2.4).
#[test]
fn the_message_of_an_event_that_is_lost_is_made_up_for_by_the_error() {
    let setup = with_messages(|profile| profile);
    setup.world.machine().model(0).unwrap().lose_messages(1);
    fault(&setup, 0x1000);
    let reports = setup.reports(Interrupt::Error);
    let lost = Gerror::default().with_msi_eventq_abt_err(true);
    assert!(matches!(reports[..], [Report::GlobalError(error), Report::Event(_)] if error == lost));
}

#[test]
fn messages_that_cannot_be_sent_are_refused_with_the_reason() {
    let probe = |change: fn(Profile) -> Profile, message| {
        let (world, iommu) = machine(change);
        let mut config = config();
        config.messages.sync = Some(message);
        iommu.probe(TestMmio { world, instance: 0 }, config).err()
    };
    let at = |address| message(address, 1);
    let refused = probe(|profile| profile, at(0x1000));
    assert!(matches!(refused, Some(Unsupported::NoMessages { .. })), "{refused:?}");
    for address in [0, 0x1002, 1 << 44] {
        let refused = probe(|profile| profile.msi(true), at(address));
        assert_eq!(refused, Some(Unsupported::Message { address: PhysAddr(address) }));
    }
    let memory = at(0x1000).to(Destination::Memory);
    assert_eq!(probe(|profile| profile.msi(true), memory), None);
    let refused = probe(|profile| profile.msi(true).cohacc(false), memory);
    assert_eq!(refused, Some(Unsupported::Message { address: PhysAddr(0x1000) }));
}

/// What each handler looks at, of what the SMMU has to say; each gets at most its budget of events.
#[test]
fn separate_wires_have_a_handler_each_and_a_combined_one_looks_at_everything() {
    let setup = Setup::new(|profile| profile, |_, _| ());
    let prepare = || {
        setup.world.machine().model(0).unwrap().fail_next_command(1);
        assert!(setup.carry_out(vec![Command::cfgi_all()]).is_err());
        (0..5).for_each(|page| fault(&setup, page * PAGE));
    };
    let handle = |which, budget| {
        let mut seen = Vec::new();
        let mut sink = |report: Report<TestPlatform>| {
            seen.push(match report {
                Report::Event(_) => 'e',
                Report::CommandError { .. } => 'c',
                Report::EventsLost(Lost::Overflow { .. }) => 'o',
                _ => '?',
            });
        };
        let more = setup.iommu.handle_interrupt(&setup.smmu, which, budget, &mut sink);
        (seen.into_iter().collect::<String>(), more)
    };
    prepare();
    let told = setup.world.machine().model(0).unwrap().interrupts();
    assert!(told.eventq && told.gerror);
    assert_eq!(handle(Interrupt::Sync, 2), (String::new(), false));
    assert_eq!(handle(Interrupt::Events, 2), ("ee".to_owned(), true));
    assert_eq!(handle(Interrupt::Error, 2), ("c".to_owned(), false));
    assert_eq!(handle(Interrupt::Events, 2), ("ee".to_owned(), true));
    assert_eq!(handle(Interrupt::Events, 2), ("e".to_owned(), false));
    prepare();
    assert_eq!(handle(Interrupt::Any, 3), ("ceee".to_owned(), true));
    assert_eq!(handle(Interrupt::Any, 3), ("ee".to_owned(), false));
    assert_eq!(handle(Interrupt::Any, 3), (String::new(), false));
}

/// The interrupt comes when the queue is not empty any more: one that comes while the handler is at work is seen by
/// it, or raises another (§2.4).
#[test]
fn no_event_waits_for_an_interrupt_that_does_not_come() {
    let setup = Setup::new(|profile| profile, |_, _| ());
    let model = || setup.world.machine().model(0).unwrap();
    fault(&setup, 0);
    let told = model().interrupts();
    assert!(told.eventq);
    let mut seen = 0;
    let mut late = Some(0x5000);
    let mut sink = |_| {
        seen += 1;
        // While its record is read, before CONS says so: the queue is not empty to the SMMU, which tells nobody.
        if let Some(address) = late.take() {
            fault(&setup, address);
            assert!(!model().interrupts().eventq);
        }
    };
    while setup.iommu.handle_interrupt(&setup.smmu, Interrupt::Events, 8, &mut sink) {}
    assert_eq!(seen, 2);
}

// ---- random ---------------------------------------------------------------------------------------

/// The scenario that is shown to people, and its twins with other seeds.
#[test]
fn all_rules_hold_in_the_scenario_of_queues() {
    let text = include_str!("../../../scenarios/queues.toml");
    let scenario = Scenario::parse(text, "queues.toml").unwrap_or_else(|errors| panic!("{errors}"));
    for seed in 0..6 {
        let options = Options { seed: Some(seed), no_shrink: true, ..Options::default() };
        let report = run(&scenario, &options, &mut |_| ()).unwrap();
        assert_eq!(report.verdict, "ok", "seed {seed}: {:#?}", report.failure);
    }
}

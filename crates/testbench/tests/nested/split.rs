// SPDX-License-Identifier: MIT OR Apache-2.0
//! Guests whose devices are given intermediate addresses (split-stage ATS, §12): the guest turns ATS on as ever, and the
//! host's stage 2 is looked at whenever a device sends what it keeps.

use smmuv3_testbench::inside::Inside as _;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use smmuv3::nest::{Cause, Owner};
use smmuv3::{
    AddMasterError, AtsMode, Attributes, Config, DomainConfig, Event, InstanceConfig, Interrupt,
    Iommu, Iova, MasterConfig, NestConfig, NoSplitAts, PhysAddr, Prot, Report, StreamId,
};
use smmuv3_formats::{Command, EventId, Opcode, Ste};
use smmuv3_model::{Access, Answers, Observation, Profile};
use smmuv3_testbench::machine::{Dma, Outcome};
use smmuv3_testbench::machine_model::{ModelMachine, profile};
use smmuv3_testbench::platform::{Observer, Point, TestPlatform, World};

use crate::common;
use crate::guest::{DATA, Guest, PAGE, PAGES, VA};
use crate::host::{Host, MACHINE, STREAMS, Use};

const KEEPS: usize = 0;
const OTHER: usize = 1;
/// Of the device of [`KEEPS`], as the host knows it.
const STREAM: u32 = STREAMS[KEEPS].0;

/// The guest's entry of a space, with ATS: it knows of one kind alone.
fn entry(space: usize) -> Ste {
    Guest::entry(space).with_eats(1)
}

/// ATC_INV of everything, for a stream by the guest's number, and CMD_SYNC.
fn forget(guest: u32) -> [Command; 2] {
    [Command([u64::from(guest) << 32 | 0x40, 52]), Command([0x46, 0])]
}

/// The first device uses the guest's space 0, with two pages, and keeps where one leads.
fn host() -> Host {
    let mut host = Host::with_split_ats(1);
    host.guest.map(0, 0, DATA);
    host.guest.map(0, 1, DATA + 1);
    host.nest(KEEPS, entry(0), Use::Space(0));
    assert_eq!(host.reached(KEEPS, VA), Some(host.guest.frames[DATA]));
    host
}

/// What the device keeps: where it was told that addresses lead.
fn kept(host: &Host) -> Vec<(u64, u64)> {
    let model = host.world.machine().model(0).unwrap();
    let endpoint = model.endpoint(STREAM).unwrap();
    endpoint.atc().iter().map(|entry| (entry.first, entry.granted.address)).collect()
}

fn is_on(host: &Host) -> bool {
    host.world.machine().model(0).unwrap().endpoint(STREAM).unwrap().ats
}

fn eats(host: &Host) -> u64 {
    let streams = host.smmu.inside().streams();
    let entry = streams.entry(host.iommu.platform(), StreamId(STREAM)).unwrap();
    Ste(entry.load(host.iommu.platform())).eats()
}

/// The commands that were given since the last call, without those that only wait.
fn given(host: &Host) -> Vec<Opcode> {
    let given = host.world.take_commands();
    let opcodes = given.iter().filter_map(|(_, command)| command.opcode());
    opcodes.filter(|opcode| *opcode != Opcode::Sync).collect()
}

/// All events that are there.
fn events(host: &Host) -> Vec<Event> {
    let mut records = Vec::new();
    let mut sink = |report| match report {
        Report::Event(record) => records.push(record),
        other => panic!("{other:?}"),
    };
    while host.iommu.handle_interrupt(&host.smmu, Interrupt::Any, 64, &mut sink) {}
    records
}

#[test]
fn it_is_on_over_a_guests_stage_1_and_off_in_all_other_uses() {
    let mut host = host();
    assert_eq!((is_on(&host), eats(&host)), (true, 2));
    // What the guest takes for a physical address.
    assert_eq!(kept(&host), [(VA, Guest::ipa(DATA))]);
    let stage_1 = host.iommu.create_domain(DomainConfig::default()).unwrap();
    for step in 0..14 {
        let on = match step % 7 {
            0 => {
                host.nest(KEEPS, entry(1), Use::Space(1));
                true
            }
            1 => {
                host.nest(KEEPS, Guest::bypass().with_eats(1), Use::Bypass);
                false
            }
            2 => {
                host.nest(KEEPS, entry(0), Use::Space(0));
                true
            }
            3 => {
                host.plain(KEEPS);
                false
            }
            4 => {
                // The guest does without.
                host.nest(KEEPS, Guest::entry(0), Use::Space(0));
                false
            }
            5 => {
                host.iommu.attach(&host.masters[KEEPS], &stage_1).unwrap();
                host.uses[KEEPS] = Use::Invalid;
                false
            }
            _ => {
                // SAFETY: the device does what the test says.
                unsafe { host.iommu.attach_identity(&host.masters[KEEPS]) }.unwrap();
                assert_eq!((is_on(&host), eats(&host), kept(&host)), (false, 0, vec![]));
                host.detach(KEEPS);
                false
            }
        };
        let expected = if on { 2 } else { 0 };
        assert_eq!((is_on(&host), eats(&host)), (on, expected), "step {step}");
        assert_eq!(kept(&host), [], "step {step}: what it was granted before is gone");
        assert_eq!(host.verdict(), Ok(()), "step {step}");
    }
    let mut seen = host.world.observations(0).unwrap();
    seen.retain(|seen| matches!(seen, Observation::Misuse(_)));
    assert_eq!(seen, []);
}

/// No ATC_INV: what it keeps leads to what stage 2 says whenever it is used.
#[test]
fn what_the_host_takes_is_out_of_reach_without_a_word_to_devices() {
    let mut host = host();
    let before = kept(&host);
    given(&host);
    host.take(DATA);
    assert_eq!(given(&host), [Opcode::TlbiS2Ipa, Opcode::TlbiNhAll]);
    assert_eq!(kept(&host), before);
    assert_eq!(events(&host), []);
    assert_eq!(host.reached(KEEPS, VA), None);
    // It was sent, and refused by stage 2: the host is told, and the guest not.
    let told = events(&host);
    let [event] = told[..] else { panic!("{told:?}") };
    assert_eq!((event.event(), event.sid()), (Some(EventId::FTranslation), STREAM.into()));
    assert_eq!((event.s2(), event.input_addr()), (true, Guest::ipa(DATA)));
    assert!(matches!(host.nest.owner(&event), Owner::Host(Cause::Stage2)), "{event:?}");
    host.give(DATA);
    assert_eq!(host.verdict(), Ok(()));
    // Other memory at the same intermediate address.
    host.migrate(DATA);
    assert_eq!(host.reached(KEEPS, VA), Some(host.guest.frames[DATA]));
    assert_eq!(host.verdict(), Ok(()));
    // Nor where all that there is of the domain is forgotten.
    given(&host);
    host.domain.invalidate_all().unwrap();
    assert!(!given(&host).contains(&Opcode::AtcInv));
    assert!(kept(&host).contains(&before[0]));
}

#[test]
fn a_trusted_device_beside_it_is_told() {
    let mut host = Host::with_both_kinds_of_ats(1);
    host.guest.map(0, 0, DATA);
    for device in [KEEPS, OTHER] {
        host.nest(device, entry(0), Use::Space(0));
    }
    assert_eq!(host.verdict(), Ok(()));
    host.world.take_commands();
    host.take(DATA);
    let told = host.world.take_commands();
    let told: Vec<u64> = told
        .iter()
        .filter(|(_, command)| command.opcode() == Some(Opcode::AtcInv))
        .filter_map(|(_, command)| command.field("SID"))
        .collect();
    assert_eq!(told, [u64::from(STREAMS[OTHER].0)]);
    assert_eq!(host.verdict(), Ok(()));
}

#[test]
fn what_the_guest_takes_goes_when_it_says_so() {
    let mut host = host();
    let commands = host.guest.unmap(0, 0, true);
    host.commands(&commands);
    assert_eq!(host.reached(KEEPS, VA), Some(host.guest.frames[DATA]), "it keeps that");
    host.commands(&forget(STREAMS[KEEPS].1));
    assert_eq!(kept(&host), []);
    assert_eq!(host.verdict(), Ok(()));
}

/// The host's part of a change of the guest's entry.
#[test]
fn another_entry_of_the_guest_leaves_nothing_of_the_former_one() {
    let mut host = host();
    given(&host);
    host.nest(KEEPS, entry(1), Use::Space(1));
    let told = given(&host);
    // In this order, and without a moment at which it has ATS off.
    assert_eq!(told, [Opcode::CfgiSte, Opcode::AtcInv]);
    assert_eq!(kept(&host), []);
    assert_eq!(host.verdict(), Ok(()));
}

/// As for those without ATS: EATS takes a step of its own, and nothing is refused meanwhile.
#[test]
fn between_entries_that_mean_the_same_no_access_is_refused() {
    let mut host = Host::with_split_ats(1);
    let page = DATA + 5;
    let address = Guest::ipa(page);
    for space in 0..2 {
        host.guest.map_as_it_is(space, page);
    }
    host.plain(KEEPS);
    let refused = host.watch(KEEPS, address);
    let count = || refused.load(Ordering::Relaxed);
    for step in 0..12 {
        match step % 4 {
            0 => host.nest(KEEPS, entry(0), Use::Space(0)),
            1 => host.nest(KEEPS, entry(1), Use::Space(1)),
            2 => host.nest(KEEPS, Guest::entry(1), Use::Space(1)),
            _ if step == 7 => host.plain(KEEPS),
            _ => host.nest(KEEPS, Guest::bypass(), Use::Bypass),
        }
        assert_eq!(host.reached(KEEPS, address), Some(host.guest.frames[page]), "step {step}");
        assert_eq!(count(), 0, "step {step}");
    }
    host.detach(KEEPS);
    assert!(count() > 0, "it is being looked at");
}

/// A device that reads at some address whenever the driver lets the world act: where that got to.
struct Reader {
    world: Arc<World>,
    reached: Mutex<Vec<u64>>,
}

impl Observer for Reader {
    fn at(&self, _: Point, _: bool) {
        let mut buffer = [0; 8];
        let read = Dma::Read(&mut buffer);
        let parts = self.world.machine().dma(KEEPS, None, VA, read).unwrap();
        if let Outcome::Reached(pa) = parts[0].outcome {
            self.reached.lock().unwrap().push(pa);
        }
    }
}

/// The second guest has memory at the address that the device keeps of the first, and has not mapped it for the device.
#[test]
fn on_its_way_to_another_guest_a_device_reaches_nothing_that_neither_gave_it() {
    let mut host = host();
    let shape = DomainConfig::default().with_stage_2().with_guests().with_input_bits(40);
    let domain = host.iommu.create_domain(shape).unwrap();
    let nest = host.iommu.nest(&host.smmu, &domain, NestConfig::new().with_snooped()).unwrap();
    let mut secrets = Vec::new();
    for page in 0..PAGES {
        // Its contexts and tables are as the first one's: in space 1 nothing is mapped.
        let frame = if page < DATA {
            host.guest.frames[page]
        } else {
            let secret = host.world.frames().allocate(PAGE, PAGE).unwrap();
            secrets.push(secret);
            secret
        };
        let attributes = Attributes::normal(Prot::READ | Prot::WRITE);
        let (ipa, pa) = (Iova(Guest::ipa(page)), PhysAddr(frame));
        // SAFETY: the frames are the guest's as long as the domain lives.
        unsafe { domain.map(ipa, pa, PAGE, attributes) }.unwrap();
    }
    let reader = Reader { world: host.world.clone(), reached: Mutex::default() };
    let reader = Arc::new(reader);
    host.world.set_observer(Some(reader.clone()));
    let guests = [StreamId(STREAMS[KEEPS].1)];
    for _ in 0..8 {
        nest.attach(&host.masters[KEEPS], &guests, &entry(1)).unwrap();
        assert_eq!(eats(&host), 2);
        host.nest(KEEPS, entry(0), Use::Space(0));
    }
    host.world.set_observer(None);
    let reached = reader.reached.lock().unwrap().clone();
    assert!(reached.contains(&host.guest.frames[DATA]), "it reads");
    let astray = reached.iter().find(|pa| secrets.iter().any(|it| (*it..*it + PAGE).contains(pa)));
    assert_eq!(astray, None);
    assert_eq!(host.verdict(), Ok(()));
}

/// A device that says of any address that it was translated reaches the memory of its guest, and nothing else.
#[test]
fn addresses_that_a_device_makes_up_go_through_stage_2_as_well() {
    let mut host = host();
    let sent = |host: &Host, address: u64, write: bool| {
        let access =
            if write { Access::write(STREAM, address) } else { Access::read(STREAM, address) };
        let mut model = host.world.machine().model(0).unwrap();
        model.translated(access).map(|found| found.pa).ok()
    };
    // The guest's, though it has not mapped it.
    let page = DATA + 7;
    assert_eq!(sent(&host, Guest::ipa(page) + 8, true), Some(host.guest.frames[page] + 8));
    assert_eq!(events(&host), []);
    // Physical addresses, of the guest's memory and of the host's.
    let secret = host.world.frames().allocate(PAGE, PAGE).unwrap();
    for address in [host.guest.frames[DATA], secret, 0] {
        for write in [false, true] {
            assert_eq!(sent(&host, address, write), None, "{address:#x}");
            let told = events(&host);
            let [event] = told[..] else { panic!("{told:?}") };
            assert_eq!(event.event(), Some(EventId::FTranslation));
            assert_eq!((event.s2(), event.input_addr()), (true, address));
            assert!(matches!(host.nest.owner(&event), Owner::Host(Cause::Stage2)));
        }
    }
    // Beyond all intermediate addresses.
    assert_eq!(sent(&host, 1 << 50, false), None);
    let told = events(&host);
    assert_eq!(told[0].event(), Some(EventId::FAddrSize));
    // Where it has no ATS, none of it is accepted.
    host.nest(KEEPS, Guest::bypass(), Use::Bypass);
    assert_eq!(sent(&host, Guest::ipa(page), false), None);
    let told = events(&host);
    assert_eq!(told[0].event(), Some(EventId::FTranslForbidden));
    host.detach(KEEPS);
    assert_eq!(sent(&host, Guest::ipa(page), false), None);
    assert_eq!(events(&host), []);
    assert_eq!(host.verdict(), Ok(()));
}

/// Whoever does not answer is noticed when there is something to forget: not by the host's unmap.
#[test]
fn a_device_that_does_not_answer_holds_up_no_unmap_of_the_host() {
    let mut host = host();
    host.world.machine().model(0).unwrap().endpoint_mut(STREAM).unwrap().answers = Answers::Never;
    host.take(DATA);
    assert!(!host.masters[KEEPS].is_quarantined());
    assert_eq!(host.reached(KEEPS, VA), None);
    host.give(DATA);
    assert_eq!(host.verdict(), Ok(()));
    host.commands(&forget(STREAMS[KEEPS].1));
    assert!(host.masters[KEEPS].is_quarantined());
    assert_eq!(host.reached(KEEPS, VA), None);
    host.world.machine().model(0).unwrap().reset_device(STREAM);
    host.iommu.readmit(&host.masters[KEEPS]).unwrap();
    assert_eq!((is_on(&host), eats(&host), kept(&host)), (true, 2, vec![]));
    assert_eq!(host.verdict(), Ok(()));
}

#[test]
fn it_sleeps_and_is_reset_with_its_instance() {
    let host = host();
    host.iommu.suspend(&host.smmu, &mut |_| ()).unwrap();
    assert!(!is_on(&host) && kept(&host).is_empty());
    host.iommu.resume(&host.smmu).unwrap();
    assert_eq!((is_on(&host), eats(&host)), (true, 2));
    assert_eq!(host.verdict(), Ok(()));
    host.iommu.reset(&host.smmu).unwrap();
    assert_eq!(host.verdict(), Ok(()));
    assert_eq!((is_on(&host), eats(&host)), (true, 2));
}

/// What an instance lacks is said with the refusal, and nothing was changed.
#[test]
fn an_instance_without_it_refuses() {
    let split = MasterConfig::default().with_split_ats();
    assert_eq!(split.ats(), AtsMode::Split);
    let refused = |change: fn(Profile) -> Profile| {
        let scenario = common::parse(MACHINE);
        let with = |it: &_| change(profile(it).ats(true));
        let machine = ModelMachine::with_profiles(&scenario, 1, with).unwrap();
        let world = World::new(Arc::new(machine), 1);
        let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
        let smmu = common::enable(&iommu, &world, 0, InstanceConfig::named("smmu"));
        let error = iommu.add_master(&smmu, &[StreamId(0x900)], split).err();
        // The stream is still nobody's.
        iommu.add_master(&smmu, &[StreamId(0x900)], MasterConfig::default()).unwrap();
        if let Some(AddMasterError::NoSplitAts(what)) = error {
            assert!(what.to_string().contains("split-stage ATS"), "{what}");
        }
        error
    };
    let lacks = |what| Some(AddMasterError::NoSplitAts(what));
    assert_eq!(refused(|it| it.ats(false)), lacks(NoSplitAts::NoAts));
    assert_eq!(refused(|it| it.s2p(false)), lacks(NoSplitAts::NoNesting));
    assert_eq!(refused(|it| it.s1p(false)), lacks(NoSplitAts::NoNesting));
    let without = |mut it: Profile| {
        it.idr0 = it.idr0.with_ns1ats(true);
        it
    };
    assert_eq!(refused(without), lacks(NoSplitAts::Ns1ats));
    assert_eq!(refused(|it| it.stalls(2, 16)), Some(AddMasterError::AtsStalls));
}

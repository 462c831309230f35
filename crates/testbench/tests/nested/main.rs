// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest's stage 1 over the host's stage 2: the driver on the model, and a guest that owns its contexts and tables.

mod ats;
mod before;
#[path = "../common/mod.rs"]
mod common;
mod failures;
mod guest;
mod guest_pages;
mod host;
mod hostile;
mod pages;
mod qemu;
mod random;
mod scenario;
mod split;
mod stall;
mod substreams;

use smmuv3_testbench::inside::Inside as _;
use smmuv3_testbench::keeping::trusted;
use std::sync::{Arc, Mutex};

use smmuv3::features::IdRegisters;
use smmuv3::nest::{Cause, Forwarder, Owner, Stop};
use smmuv3::{
    Access, AttachError, Attributes, Config, DomainConfig, InstanceConfig, Interrupt, Iommu, Iova,
    MasterConfig, NestConfig, NestError, Overrides, PhysAddr, Privilege, Prot, Report, StreamId,
};
use smmuv3_formats::{Command, EventId, Ste};
use smmuv3_testbench::machine_model::{ModelMachine, profile};
use smmuv3_testbench::platform::{Observer, Point, TestPlatform, World};
use smmuv3_testbench::scenario::{Instance, Scenario};

use guest::{DATA, Guest, PAGE, VA};
use host::{Host, STREAMS, Use};

/// Device 0 uses the guest's space 0, with two pages mapped.
fn host() -> Host {
    let mut host = Host::new(1, Config::default());
    host.guest.map(0, 0, DATA);
    host.guest.map(0, 1, DATA + 1);
    host.nest(0, Guest::entry(0), Use::Space(0));
    host
}

#[test]
fn both_stages_translate() {
    let host = host();
    assert_eq!(host.verdict(), Ok(()));
    assert_eq!(host.reached(0, VA + 0x10), Some(host.guest.frames[DATA] + 0x10));
    assert_eq!(host.reached(1, VA), None, "the other device is detached");
}

#[test]
fn the_guests_invalidations_take_effect_before_its_sync() {
    for ranges in [false, true] {
        let mut host = host();
        assert_eq!(host.verdict(), Ok(()));
        let commands = host.guest.unmap(0, 0, ranges);
        let stale = host.reached(0, VA);
        assert!(stale.is_some(), "cached until told otherwise");
        host.commands(&commands);
        assert_eq!(host.verdict(), Ok(()));
    }
}

#[test]
fn what_the_host_takes_is_out_of_reach_although_the_guest_maps_it() {
    let mut host = host();
    assert_eq!(host.verdict(), Ok(()));
    host.take(DATA);
    assert_eq!(host.verdict(), Ok(()));
    // A page of its tables, then that of its context.
    host.give(DATA);
    for page in [3, 1] {
        assert_eq!(host.verdict(), Ok(()));
        host.take(page);
        assert_eq!(host.verdict(), Ok(()));
        host.give(page);
    }
    assert_eq!(host.verdict(), Ok(()));
}

#[test]
fn events_are_the_guests_or_the_hosts() {
    let mut host = host();
    host.reached(0, VA + 5 * PAGE);
    host.read_events();
    let [event] = host.events[..] else { panic!("{:?}", host.events) };
    // F_TRANSLATION of stage 1, by the guest's number of the stream.
    assert_eq!((event.event(), event.sid()), (Some(EventId::FTranslation), 0x20));
    assert_eq!((event.input_addr(), event.s2()), (VA + 5 * PAGE, false));
    host.take(DATA);
    host.reached(0, VA);
    host.read_events();
    assert_eq!(host.events.len(), 1, "a fault of stage 2 is the host's");
    // Of a device that it has not been given.
    host.plain(1);
    assert_eq!(host.reached(1, VA), None);
    let mut cause = None;
    let _ = host.iommu.handle_interrupt(&host.smmu, Interrupt::Any, 64, &mut |report| {
        let Report::Event(event) = report else { panic!("{report:?}") };
        cause = Some(host.nest.owner(&event));
    });
    assert_eq!(cause, Some(Owner::Host(Cause::Stream)));
}

#[test]
fn a_guest_may_bypass_abort_and_come_back_and_so_may_the_host_decide() {
    let mut host = host();
    for step in 0..12 {
        match step % 6 {
            0 => host.nest(0, Guest::bypass(), Use::Bypass),
            1 => host.nest(0, Default::default(), Use::Invalid),
            2 => host.nest(0, Guest::entry(1), Use::Space(1)),
            3 => host.plain(0),
            4 => host.nest(0, Guest::entry(0), Use::Space(0)),
            _ => host.detach(0),
        }
        assert_eq!(host.verdict(), Ok(()), "step {step}");
    }
}

/// The guest maps a page of its memory at its own address, in both spaces: whatever stages there are, a device finds it.
#[test]
fn between_entries_that_mean_the_same_no_access_is_refused() {
    let mut host = Host::new(1, Config::default());
    let page = DATA + 5;
    let address = Guest::ipa(page);
    for space in 0..2 {
        host.guest.map_as_it_is(space, page);
    }
    host.plain(0);
    let refused = host.watch(0, address);
    let count = || refused.load(std::sync::atomic::Ordering::Relaxed);
    for step in 0..9 {
        match step % 3 {
            0 => host.nest(0, Guest::entry(0), Use::Space(0)),
            1 => host.nest(0, Guest::entry(1), Use::Space(1)),
            _ if step == 5 => host.plain(0),
            _ => host.nest(0, Guest::bypass(), Use::Bypass),
        }
        assert_eq!(host.reached(0, address), Some(host.guest.frames[page]), "step {step}");
        assert_eq!(count(), 0, "step {step}");
    }
    host.detach(0);
    assert!(count() > 0, "it is being looked at");
}

/// What a device of a guest reaches at every moment, of one read after the other; `None` is refused.
struct Reads(Arc<World>, u64, Mutex<Vec<Option<u64>>>);

impl Observer for Reads {
    fn at(&self, _: Point, _: bool) {
        let access = smmuv3_model::Access::read(STREAMS[0].0, self.1);
        let outcome = self.0.machine().model(0).unwrap().access(access);
        self.2.lock().unwrap().push(outcome.ok().map(|it| it.pa));
    }
}

/// Between what a guest says and all that a host may say: nothing else is reached meanwhile, and nothing is refused that
/// both allow, unless it is translated before and afterwards by tags that differ.
#[test]
fn between_a_guests_entry_and_any_other_use_nothing_else_is_reached() {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum To {
        Blocked,
        Identity,
        Stage1,
        Stage2,
        Parent,
        Space,
        Bypass,
    }
    let mut host = Host::new(1, Config::default());
    let page = DATA + 5;
    let address = Guest::ipa(page);
    host.guest.map_as_it_is(0, page);
    let kinds = [DomainConfig::default(), DomainConfig::default().with_stage_2()];
    let others = kinds.map(|kind| {
        let domain = host.iommu.create_domain(kind).unwrap();
        let pa = host.world.frames().allocate(PAGE, PAGE).unwrap();
        let attributes = Attributes::normal(Prot::READ);
        // SAFETY: the memory is the test's.
        unsafe { domain.map(Iova(address), PhysAddr(pa), PAGE, attributes) }.unwrap();
        (domain, pa)
    });
    let reaches = |host: &Host, to| match to {
        To::Blocked => None,
        To::Identity => Some(address),
        To::Stage1 => Some(others[0].1),
        To::Stage2 => Some(others[1].1),
        To::Parent | To::Space | To::Bypass => Some(host.guest.frames[page]),
    };
    let attach = |host: &mut Host, to| match to {
        To::Blocked => host.detach(0),
        // SAFETY: the device only reads.
        To::Identity => unsafe { host.iommu.attach_identity(&host.masters[0]) }.unwrap(),
        To::Stage1 => host.iommu.attach(&host.masters[0], &others[0].0).unwrap(),
        To::Stage2 => host.iommu.attach(&host.masters[0], &others[1].0).unwrap(),
        To::Parent => host.plain(0),
        To::Space => host.nest(0, Guest::entry(0), Use::Space(0)),
        To::Bypass => host.nest(0, Guest::bypass(), Use::Bypass),
    };
    let all = [To::Blocked, To::Identity, To::Stage1, To::Stage2, To::Parent];
    let guests = [To::Space, To::Bypass];
    let pairs = guests.iter().flat_map(|guest| all.iter().map(move |other| (*guest, *other)));
    for (before, after) in pairs.clone().chain(pairs.map(|(guest, other)| (other, guest))) {
        attach(&mut host, before);
        let reads = Arc::new(Reads(host.world.clone(), address, Mutex::default()));
        host.world.set_observer(Some(reads.clone()));
        attach(&mut host, after);
        host.world.set_observer(None);
        // Once more, afterwards.
        reads.at(Point::Idle, false);
        let seen = reads.2.lock().unwrap();
        assert_eq!(seen.last(), Some(&reaches(&host, after)), "{before:?} to {after:?}");
        assert!(seen.len() >= 3, "{before:?} to {after:?}: nobody looked");
        let own = [before, after].map(|to| reaches(&host, to));
        let tags = |to| matches!(to, To::Stage1 | To::Stage2);
        let may_miss = tags(before) || tags(after);
        let fine = |it: &&Option<u64>| own.contains(it) || may_miss && it.is_none();
        let wrong = seen.iter().filter(|it| !fine(it));
        assert_eq!(wrong.collect::<Vec<_>>(), [&None; 0], "{before:?} to {after:?}");
    }
}

/// PRIVCFG and INSTCFG (§5.2) come before the guest's stage 1, which knows nothing of them.
#[test]
fn what_a_master_overrides_it_overrides_under_a_guest_too() {
    let scenario = Scenario::parse(host::MACHINE, "nested").unwrap();
    let able = |it: &Instance| {
        let mut profile = profile(it);
        profile.idr1 = profile.idr1.with_attr_perms_ovr(true);
        profile
    };
    let machine = ModelMachine::with_profiles(&scenario, 1, able).unwrap();
    let mut host = Host::on(Arc::new(machine), Config::default());
    host.masters.remove(0).close().unwrap();
    let overrides = Overrides::NONE.with_privilege(Privilege::Unprivileged);
    let config = MasterConfig::default().with_overrides(overrides.with_access(Access::Data));
    let master = host.iommu.add_master(&host.smmu, &[StreamId(0x900)], config).unwrap();
    host.masters.insert(0, master);
    host.guest.map(0, 0, DATA);
    let word = |host: &Host| {
        let streams = host.smmu.inside().streams();
        let entry = streams.entry(host.iommu.platform(), StreamId(0x900)).unwrap();
        entry.load(host.iommu.platform())[1]
    };
    // PRIVCFG is 49:48 and INSTCFG 51:50 of word 1.
    let both = |word: u64| word >> 48 & 0xf;
    host.plain(0);
    assert_eq!(both(word(&host)), 0b1010, "by the host alone");
    host.nest(0, Guest::entry(0), Use::Space(0));
    assert_eq!(both(word(&host)), 0b1010);
    assert_eq!(host.verdict(), Ok(()));
    host.nest(0, Guest::bypass(), Use::Bypass);
    assert_eq!(both(word(&host)), 0b1010);
    // Whatever the guest says: it is shown none (IDR1.ATTR_PERMS_OVR).
    host.nest(0, Guest::entry(0).with_priv_cfg(3).with_inst_cfg(3), Use::Space(0));
    assert_eq!(both(word(&host)), 0b1010);
    assert_eq!(host.verdict(), Ok(()));
    host.nest(0, Ste::default(), Use::Invalid);
    assert_eq!(word(&host), 0, "what aborts has no attributes");
}

#[test]
fn what_is_illegal_changes_nothing() {
    let mut host = host();
    let illegal = Guest::entry(1).with_config(0b111);
    let result = host.nest.attach(&host.masters[0], &[StreamId(0x20)], &illegal);
    let Err(AttachError::Illegal(why)) = result else { panic!("{result:?}") };
    assert_eq!((why.rule.field, why.value), ("Config", 0b111));
    assert_eq!(host.verdict(), Ok(()));
    // Two numbers for one stream; one number for two.
    let two = [StreamId(0x20), StreamId(0x21)];
    let result = host.nest.attach(&host.masters[0], &two, &Guest::entry(1));
    assert!(matches!(result, Err(AttachError::GuestStreams { streams: 1, .. })), "{result:?}");
    let result = host.nest.attach(&host.masters[1], &[StreamId(0x20)], &Guest::entry(1));
    let Err(AttachError::GuestStream { stream, .. }) = result else { panic!("{result:?}") };
    assert_eq!(stream, StreamId(0x20));
    assert_eq!(host.verdict(), Ok(()));
    // A command of stage 2, which the guest has not.
    let s12 = [Command([0x28, 0])];
    let done = host.nest.forward(&mut Forwarder::new(), &s12).unwrap();
    assert!(matches!(done.stop, Stop::Refused { index: 0, .. }), "{:?}", done.stop);
    host.read_events();
}

#[test]
fn a_flood_of_commands_is_taken_in_bounded_pieces() {
    let mut host = host();
    let flood = vec![Command([0x10, 0]); 1000];
    let done = host.nest.forward(&mut Forwarder::new(), &flood).unwrap();
    assert_eq!((done.consumed, done.stop), (smmuv3::nest::LARGEST_FORWARD, Stop::Full));
    host.commands(&flood);
    // PREFETCH_CONFIG, and CFGI_CD of a stream that is not the guest's: nothing comes of them.
    host.world.take_commands();
    for nothing in [Command([0x20 << 32 | 1, 0]), Command([0x7777 << 32 | 5, 1])] {
        let flood = vec![nothing; 1000];
        let done = host.nest.forward(&mut Forwarder::new(), &flood).unwrap();
        assert_eq!((done.consumed, done.stop), (smmuv3::nest::LARGEST_LOOK, Stop::Full));
        host.commands(&flood);
    }
    assert_eq!(host.world.take_commands(), []);
    assert_eq!(host.verdict(), Ok(()));
}

/// The SMMU merges what the guest's device is refused again and again (MEV), and of what cannot be merged the host reads as much
/// at once as it likes.
#[test]
fn a_flood_of_faults_costs_few_records_which_are_read_in_bounded_pieces() {
    const BUDGET: usize = 16;
    let mut host = host();
    let merges = |host: &Host| {
        let streams = host.smmu.inside().streams();
        let entry = streams.entry(host.iommu.platform(), StreamId(0x900)).unwrap();
        Ste(entry.load(host.iommu.platform())).mev()
    };
    assert!(merges(&host));
    // Whatever the guest says of it.
    host.nest(0, Guest::entry(0).with_mev(false), Use::Space(0));
    assert!(merges(&host));
    let read = |host: &Host| {
        let (mut records, mut pieces, mut more) = (0, 0, true);
        while more {
            let mut events = 0;
            let mut sink = |report| events += usize::from(matches!(report, Report::Event(_)));
            more = host.iommu.handle_interrupt(&host.smmu, Interrupt::Any, BUDGET, &mut sink);
            assert!(events <= BUDGET && (events > 0 || !more), "{events}");
            (records, pieces) = (records + events, pieces + 1);
        }
        (records, pieces)
    };
    const ELSEWHERE: u64 = 0x7f00_0000_0000;
    for access in 0..1000 {
        let within = 8 * (access % 512);
        host.reached(0, within + if access % 2 == 0 { VA + 5 * PAGE } else { ELSEWHERE });
    }
    assert_eq!(read(&host), (2, 1), "one of each page");
    for page in 0..1000 {
        host.reached(0, ELSEWHERE + PAGE * page);
    }
    // Of the 1000, as many as the queue has room for.
    let (records, pieces) = read(&host);
    assert!(records <= 128 && (2..=1 + 128 / BUDGET).contains(&pieces), "{records} {pieces}");
    host.nest(0, Guest::bypass(), Use::Bypass);
    assert!(merges(&host));
    assert_eq!(host.verdict(), Ok(()));
}

#[test]
fn commands_of_streams_that_were_taken_away_do_nothing() {
    let mut host = host();
    host.detach(0);
    host.world.take_commands();
    host.commands(&[Command([0x20 << 32 | 5, 1]), Command([0x10, 0]), Command([0x46, 0])]);
    assert_eq!(host.world.take_commands(), [], "the guest has no stream, and nothing is cached");
}

#[test]
fn there_is_one_guest_over_a_domain_on_an_instance() {
    let host = host();
    let nest = |domain| host.iommu.nest(&host.smmu, domain, NestConfig::new().with_snooped()).err();
    assert_eq!(nest(&host.domain), Some(NestError::Taken));
    let plain = host.iommu.create_domain(DomainConfig::default().with_stage_2()).unwrap();
    assert_eq!(nest(&plain), Some(NestError::NotForGuests));
    let first = host.iommu.create_domain(DomainConfig::default().with_guests()).unwrap();
    assert_eq!(nest(&first), Some(NestError::NotForGuests), "of stage 1");
    let second = DomainConfig::default().with_stage_2().with_guests();
    let second = host.iommu.create_domain(second).unwrap();
    let result = host.iommu.nest(&host.smmu, &second, NestConfig::new());
    assert_eq!(result.err(), Some(NestError::Types));
    // Stalls and page requests are not to be had, and ATS neither where the host has none.
    let shown = *host.nest.guest().shown();
    let idr0 = shown.idr0;
    for (idr0, refused) in [
        (idr0.with_stall_model(0), ("IDR0.STALL_MODEL", 0)),
        (idr0.with_stall_model(2), ("IDR0.STALL_MODEL", 2)),
        (idr0.with_pri(true), ("IDR0.PRI", 1)),
        (idr0.with_ats(true), ("IDR0.ATS", 1)),
    ] {
        let config = NestConfig::new().with_snooped().with_shown(IdRegisters { idr0, ..shown });
        let result = host.iommu.nest(&host.smmu, &second, config);
        let Some(NestError::Illegal(illegal)) = result.err() else { panic!("{refused:?}") };
        assert_eq!((illegal.rule.field, illegal.value), refused);
    }
    // Nor are the commands that would answer them: RESUME, STALL_TERM, PRI_RESP.
    for opcode in [0x44, 0x45, 0x41] {
        let commands = [Command([0x20 << 32 | opcode, 0])];
        let done = host.nest.forward(&mut Forwarder::new(), &commands).unwrap();
        let Stop::Refused { index: 0, illegal } = done.stop else { panic!("{:?}", done.stop) };
        assert_eq!((illegal.rule.field, illegal.value), ("Opcode", opcode));
    }
    let again = host.iommu.nest(&host.smmu, &second, NestConfig::new().with_snooped()).unwrap();
    drop(again);
    assert_eq!(nest(&second), None);
}

/// Its memory is the owner's again when it is closed: no device may come to it afterwards, by whichever handle.
#[test]
fn a_domain_is_not_closed_as_long_as_a_guest_has_an_smmu_over_it() {
    let mut host = host();
    let refused = host.domain.close().unwrap_err();
    assert_eq!((refused.error.masters, refused.error.nests), (1, 1));
    let text = "masters still use it: 1; SMMUs of guests are over it: 1";
    assert_eq!(refused.to_string(), text);
    host.domain = refused.value;
    // None of its masters is left, and the SMMU could attach any of them again.
    host.detach(0);
    let refused = host.domain.close().unwrap_err();
    assert_eq!((refused.error.masters, refused.error.nests), (0, 1));
    host.domain = refused.value;
    host.nest(0, Guest::entry(0), Use::Space(0));
    assert_eq!(host.verdict(), Ok(()), "it is as it was");
    // The other order: first the SMMU goes. What it attached stays, and the domain with that.
    let Host { iommu, smmu, domain, nest, masters, .. } = host;
    drop(nest);
    let refused = domain.close().unwrap_err();
    assert_eq!((refused.error.masters, refused.error.nests), (1, 0));
    let domain = refused.value;
    iommu.detach(&masters[0]).unwrap();
    let nest = iommu.nest(&smmu, &domain, NestConfig::new().with_snooped()).unwrap();
    let domain = domain.close().unwrap_err().value;
    drop(nest);
    assert!(domain.close().is_ok());
}

#[test]
fn the_hosts_pasids_do_not_go_with_a_guest() {
    let host = Host::new(1, Config::default());
    let stage_1 = host.iommu.create_domain(DomainConfig::default()).unwrap();
    let pasid = host.iommu.allocate_pasid().unwrap();
    let result = host.iommu.attach_pasid(&host.masters[0], pasid, &stage_1);
    assert!(matches!(result, Err(AttachError::PasidRange { .. })), "{result:?}");
}

/// Without stage 1 there are no guests, and their commands are illegal (§4.2): an unmap is of stage 2 alone, and of what
/// devices keep by its addresses.
#[test]
fn an_smmu_that_cannot_nest_is_told_nothing_of_guests() {
    let text = host::MACHINE.replace("stages = [1, 2]", "stages = [2]\nats = true");
    let scenario = common::parse(&text.replace("[0x900]", "[0x900]\nats = true"));
    let world = World::new(Arc::new(ModelMachine::new(&scenario, 1).unwrap()), 1);
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    let smmu = common::enable(&iommu, &world, 0, InstanceConfig::named("smmu"));
    let shape = DomainConfig::default().with_stage_2().with_guests().with_input_bits(40);
    let domain = iommu.create_domain(shape).unwrap();
    let result = iommu.nest(&smmu, &domain, NestConfig::new().with_snooped());
    assert!(matches!(result.err(), Some(NestError::Illegal(_))));
    let master = trusted();
    let master = iommu.add_master(&smmu, &[StreamId(0x900)], master).unwrap();
    iommu.attach(&master, &domain).unwrap();
    let memory = PhysAddr(world.frames().allocate(PAGE, PAGE).unwrap());
    let attributes = Attributes::normal(Prot::READ | Prot::WRITE);
    // SAFETY: the test is alone, and its memory stays.
    unsafe { domain.map(Iova(VA), memory, PAGE, attributes) }.unwrap();
    world.take_commands();
    // SAFETY: as above.
    unsafe { domain.unmap(Iova(VA), PAGE) }.unwrap();
    let opcodes = world.take_commands().into_iter().map(|(_, command)| command.0[0] & 0xff);
    // S2_IPA, SYNC, ATC_INV, SYNC.
    assert_eq!(opcodes.collect::<Vec<_>>(), [0x2a, 0x46, 0x40, 0x46]);
    iommu.detach(&master).unwrap();
}

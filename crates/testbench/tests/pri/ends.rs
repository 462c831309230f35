// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is pending when that which it is asked of goes: each group is answered once all the same.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use smmuv3::page_request::Answer;
use smmuv3::{Interrupt, PageGroup, PagesLost, Platform, Report, StreamId, Trace};
use smmuv3_formats::Opcode;
use smmuv3_formats::register::Cr0Ack;
use smmuv3_model::{Answered, Observation, Page, Profile};
use smmuv3_testbench::platform::{Observer, Point, TestMmio, TestPlatform, World};

use crate::setup::{GPU, IOVA, NIC, Setup, config};

/// One group that was handed out, one that nobody has read, and one that was begun; the other device has asked, too.
fn pending(setup: &Setup) -> (PageGroup<TestPlatform>, [u16; 2], PageGroup<TestPlatform>) {
    let handed = setup.ask(NIC, None, 2);
    let group = setup.group();
    setup.ask(GPU, None, 1);
    let others = setup.group();
    setup.send(NIC, None, 0x100, false);
    assert!(setup.reports(8).0.is_empty());
    let unread = setup.ask(NIC, None, 1);
    setup.send(NIC, None, 0x101, false);
    (group, [handed, unread], others)
}

/// Nothing comes of a late answer, nor of what was in the queue; and the other device's group is as it was.
fn is_over(setup: &Setup, late: PageGroup<TestPlatform>, others: PageGroup<TestPlatform>) {
    setup.responses();
    assert_eq!(late.len(), 2, "its pages are still there to be read");
    assert_eq!(late.pages().count(), 2);
    assert_eq!(late.respond(Answer::Success), Ok(false));
    assert!(setup.responses().is_empty());
    let (reports, more) = setup.reports(8);
    assert!(reports.is_empty() && !more, "{reports:?}");
    assert!(setup.waits(GPU));
    let index = others.group().index;
    assert_eq!(others.respond(Answer::Success), Ok(true));
    assert_eq!(setup.answers(GPU), [(index, Answered::Success)]);
    assert!(!setup.waits(GPU));
}

#[test]
fn a_detach_denies_what_is_pending_and_late_answers_do_nothing() {
    let setup = Setup::new(5);
    let (late, [handed, unread], others) = pending(&setup);
    setup.iommu.detach(&setup.nic).unwrap();
    let mut model = setup.world.machine().model(0).unwrap();
    // It has returned: what is to be said was said.
    let mut answers = model.endpoint_mut(NIC).unwrap().take_answers();
    assert!(!model.endpoint(NIC).unwrap().pri);
    drop(model);
    answers.sort_by_key(|(index, _)| *index);
    assert_eq!(answers, [(handed, Answered::Invalid), (unread, Answered::Invalid)]);
    is_over(&setup, late, others);
}

#[test]
fn another_domain_lets_the_device_try_again() {
    let setup = Setup::new(5);
    let (late, [handed, unread], others) = pending(&setup);
    setup.iommu.attach(&setup.nic, &setup.other).unwrap();
    let mut answers = setup.answers(NIC);
    answers.sort_by_key(|(index, _)| *index);
    assert_eq!(answers, [(handed, Answered::Success), (unread, Answered::Success)]);
    is_over(&setup, late, others);
}

#[test]
fn a_pasid_takes_only_its_own_with_it() {
    let setup = Setup::new(5);
    let pasid = setup.iommu.allocate_pasid().unwrap();
    setup.iommu.attach_pasid(&setup.nic, pasid, &setup.other).unwrap();
    let own = setup.ask(NIC, None, 1);
    let of_own = setup.group();
    let with = setup.ask(NIC, Some(pasid), 1);
    let of_pasid = setup.group();
    setup.iommu.detach_pasid(&setup.nic, pasid).unwrap();
    assert_eq!(setup.answers(NIC), [(with, Answered::Invalid)]);
    assert_eq!(of_pasid.respond(Answer::Success), Ok(false));
    assert_eq!(of_own.respond(Answer::Success), Ok(true));
    assert_eq!(setup.answers(NIC), [(own, Answered::Success)]);
}

#[test]
fn a_reset_answers_what_hardware_did_not() {
    let setup = Setup::new(5);
    let (late, [handed, unread], others) = pending(&setup);
    setup.iommu.reset(&setup.smmu).unwrap();
    let mut answers = setup.answers(NIC);
    answers.sort_by_key(|(index, _)| *index);
    assert_eq!(answers, [(handed, Answered::Invalid), (unread, Answered::Invalid)]);
    assert_eq!(setup.answers(GPU).len(), 1);
    for group in [late, others] {
        assert_eq!(group.respond(Answer::Success), Ok(false));
    }
    let (reports, more) = setup.reports(8);
    // The one that was complete, and one that was not.
    let lost = Report::PagesLost(PagesLost::Reset { unread: 2, overflow: false });
    assert!(!more && reports == [lost], "{reports:?}");
    // Devices may ask again.
    let index = setup.ask(NIC, None, 1);
    assert_eq!(setup.group().respond(Answer::Success), Ok(true));
    assert_eq!(setup.answers(NIC), [(index, Answered::Success)]);
}

/// Answers, and requests, while a reset is under way.
struct During {
    setup: Weak<Setup>,
    /// Moments until then.
    left: AtomicU64,
    late: Mutex<Option<PageGroup<TestPlatform>>>,
}

impl Observer for During {
    fn at(&self, _: Point, interruptible: bool) {
        if !interruptible || self.left.fetch_sub(1, Ordering::Relaxed) != 0 {
            return;
        }
        let late = self.late.lock().unwrap().take();
        if let Some(late) = late {
            // Whether it can be given just now, or only after the reset.
            let _ = late.respond(Answer::Success);
        }
        if let Some(setup) = self.setup.upgrade() {
            setup.reports(8);
        }
    }
}

/// An SMMU that is off takes no answers (§4.2): what is answered then is said when it works again.
#[test]
fn an_answer_at_any_moment_of_a_reset_reaches_its_device() {
    let mut moments = 0..u64::MAX;
    let over = moments.any(|moment| {
        let setup = Arc::new(Setup::new(5));
        let (late, [handed, unread], others) = pending(&setup);
        drop(others);
        let (left, late) = (AtomicU64::new(moment), Mutex::new(Some(late)));
        let during = Arc::new(During { setup: Arc::downgrade(&setup), left, late });
        setup.world.set_observer(Some(during.clone()));
        setup.iommu.reset(&setup.smmu).unwrap();
        setup.world.set_observer(None);
        setup.reports(8);
        let mut answers = setup.answers(NIC);
        answers.sort_by_key(|(index, _)| *index);
        let [(first, said), (second, Answered::Invalid)] = answers[..] else {
            panic!("moment {moment}: {answers:?}")
        };
        assert_eq!([first, second], [handed, unread], "moment {moment}");
        assert!(matches!(said, Answered::Success | Answered::Invalid), "moment {moment}: {said:?}");
        assert!(!setup.waits(NIC) && !setup.waits(GPU), "moment {moment}");
        assert_eq!(setup.smmu.statistics().groups, 0, "moment {moment}");
        let late = during.late.lock().unwrap().take();
        late.is_some()
    });
    assert!(over && moments.start > 20, "{moments:?}");
}

/// An SMMU that does not confirm what it is told, from some moment on.
struct Stuck(Arc<World>, AtomicU64);

impl Observer for Stuck {
    fn at(&self, _: Point, _: bool) {
        if self.1.fetch_sub(1, Ordering::Relaxed) == 0 {
            self.0.machine().model(0).unwrap().set_stuck(true);
        }
    }
}

/// What was found in the command queue is given again once, also by the second of two resets.
#[test]
fn an_answer_is_given_once_whenever_a_reset_fails_before_another() {
    // As many as make the queue begin anew in between, or not.
    for before in [0, 5, 10] {
        let mut failed = 0;
        for moment in (0..).step_by(3) {
            let setup = Setup::blocked(config(4, 3));
            setup.iommu.attach(&setup.nic, &setup.domain).unwrap();
            let ask = || {
                let index = setup.ask(NIC, None, 1);
                assert_eq!(setup.group().respond(Answer::Success), Ok(true));
                index
            };
            for _ in 0..before {
                let index = ask();
                assert_eq!(setup.answers(NIC), [(index, Answered::Success)]);
            }
            setup.responses();
            // The SMMU does not come to it.
            let index = ask();
            let stuck = Arc::new(Stuck(setup.world.clone(), AtomicU64::new(moment)));
            setup.world.set_observer(Some(stuck.clone()));
            let result = setup.iommu.reset(&setup.smmu);
            setup.world.set_observer(None);
            setup.world.machine().model(0).unwrap().set_stuck(false);
            if result.is_err() {
                failed += 1;
                setup.iommu.reset(&setup.smmu).unwrap();
            }
            let why = format!("{before} answers before, moment {moment}");
            assert_eq!(setup.answers(NIC), [(index, Answered::Success)], "{why}");
            let responses = setup.responses();
            assert_eq!(responses, [(NIC, None, index, Answered::Success, true)], "{why}");
            if result.is_ok() {
                break;
            }
        }
        assert!(failed > 2, "{failed} moments");
    }
}

/// An SMMU that hung consumes commands again once it is off and its command queue is not.
struct OffBeforeItsQueue(Arc<World>);

impl Observer for OffBeforeItsQueue {
    fn at(&self, _: Point, _: bool) {
        let acknowledged = Cr0Ack(self.0.machine().read32(0, Cr0Ack::OFFSET));
        if acknowledged.cmdqen() && !acknowledged.smmuen() {
            let mut model = self.0.machine().model(0).unwrap();
            model.wedge_after(None);
            model.run(usize::MAX);
        }
    }
}

/// What is consumed while SMMUEN is 0 is ignored (§4.2), and found in no queue afterwards.
#[test]
fn an_answer_is_not_consumed_between_an_smmu_and_its_queue() {
    for seed in 0..16 {
        let delayed = |it: Profile| Profile { ack_delay: 6, ..it };
        let setup = Setup::with(config(4, 5), seed, delayed);
        setup.iommu.attach(&setup.nic, &setup.domain).unwrap();
        let index = setup.ask(NIC, None, 1);
        assert_eq!(setup.group().respond(Answer::Success), Ok(true));
        setup.world.machine().model(0).unwrap().wedge_after(Some(0));
        setup.world.set_observer(Some(Arc::new(OffBeforeItsQueue(setup.world.clone()))));
        setup.iommu.reset(&setup.smmu).unwrap();
        setup.world.set_observer(None);
        assert_eq!(setup.answers(NIC), [(index, Answered::Success)], "seed {seed}");
    }
}

/// More groups than are answered at once, and an SMMU that stops somewhere among them: what it has not come to is given
/// by the next reset, and nothing twice.
#[test]
fn a_failure_among_many_answers_loses_none_and_repeats_none() {
    const GROUPS: u16 = 40;
    for detach in [false, true] {
        let mut failed = 0;
        for commands in (0..).step_by(7) {
            let mut config = config(6, 6);
            config.deadline = Duration::from_micros(100);
            config.device_deadline = config.deadline;
            let setup = Setup::blocked(config);
            setup.iommu.attach(&setup.nic, &setup.domain).unwrap();
            let send = |index| {
                setup.send(NIC, None, index, true);
                setup.group()
            };
            let mut groups: Vec<_> = (0..GROUPS).map(send).collect();
            setup.responses();
            let wedge = |after| setup.world.machine().model(0).unwrap().wedge_after(after);
            wedge(Some(commands));
            // One is decided, and may be owed.
            let decided = groups.swap_remove(33);
            let failure = match detach {
                true => setup.iommu.detach(&setup.nic).is_err(),
                false => setup.iommu.reset(&setup.smmu).is_err(),
            };
            let said = decided.respond(Answer::Success);
            wedge(None);
            if failure {
                failed += 1;
                setup.iommu.reset(&setup.smmu).unwrap();
            }
            for group in groups {
                assert_eq!(group.respond(Answer::Success), Ok(false), "{commands}");
            }
            let mut indices: Vec<_> = setup.responses().iter().map(|it| it.2).collect();
            indices.sort_unstable();
            let all: Vec<_> = (0..GROUPS).collect();
            assert_eq!(indices, all, "{detach} {commands} {said:?}");
            if !failure {
                break;
            }
        }
        assert!(failed > 5, "{failed}");
    }
}

#[test]
fn an_instance_that_is_removed_takes_no_answers() {
    let setup = Setup::new(5);
    let (late, _, others) = pending(&setup);
    setup.iommu.detach(&setup.nic).unwrap();
    setup.iommu.detach(&setup.gpu).unwrap();
    let Setup { world, iommu, smmu, nic, gpu, .. } = setup;
    nic.close().unwrap();
    gpu.close().unwrap();
    iommu.remove(smmu).unwrap();
    world.observations(0);
    for group in [late, others] {
        assert_eq!(group.respond(Answer::Success), Ok(false));
    }
    assert!(world.observations(0).unwrap().is_empty());
}

#[test]
fn a_device_that_was_reset_waits_for_nothing() {
    let setup = Setup::new(5);
    let answers = |setup: &Setup, answers| {
        let mut model = setup.world.machine().model(0).unwrap();
        model.endpoint_mut(NIC).unwrap().answers = answers;
    };
    let (late, _, others) = pending(&setup);
    answers(&setup, smmuv3_model::Answers::Never);
    setup.domain.invalidate_all().unwrap();
    assert!(setup.nic.is_quarantined());
    answers(&setup, smmuv3_model::Answers::InTime);
    setup.responses();
    setup.iommu.readmit(&setup.nic).unwrap();
    assert!(setup.responses().is_empty(), "nobody would listen");
    let (reports, more) = setup.reports(8);
    let told = Report::Quarantined { stream: StreamId(NIC) };
    assert!(!more && reports == [told], "{reports:?}");
    is_over(&setup, late, others);
}

/// Whoever has not heard of the reset answers in its course; with several command queues that is not in the one that the rest
/// goes through. Once the device may ask again, it would take that for the answer to something else.
#[test]
fn an_answer_to_a_device_that_was_reset_does_not_come_when_it_works_again() {
    for seed in 0..32 {
        let change = |profile: Profile| profile.ecmdq(Some(3));
        let setup = Setup::with(config(5, 6), seed, change);
        setup.iommu.attach(&setup.nic, &setup.domain).unwrap();
        setup.ask(NIC, None, 1);
        let late = setup.group();
        let mut model = setup.world.machine().model(0).unwrap();
        model.endpoint_mut(NIC).unwrap().answers = smmuv3_model::Answers::Never;
        drop(model);
        setup.domain.invalidate_all().unwrap();
        assert!(setup.nic.is_quarantined());
        setup.world.machine().model(0).unwrap().reset_device(NIC);
        // Calls go on from one CPU to another, each with a queue of its own: from another one each time.
        (0..seed).for_each(|_| TestPlatform(setup.world.clone()).relax());
        setup.responses();
        assert_eq!(late.respond(Answer::Success), Ok(true), "nobody has said that it was reset");
        setup.iommu.readmit(&setup.nic).unwrap();
        let consumed = setup.world.observations(0).unwrap();
        let answer = consumed.iter().enumerate().find_map(|(at, it)| match it {
            Observation::Command { command, queue, .. }
                if command.opcode() == Some(Opcode::PriResp) =>
            {
                Some((at, *queue))
            }
            _ => None,
        });
        let (at, queue) = answer.expect("it has returned");
        // Not by chance.
        let waited = |it: &Observation| matches!(it, Observation::SyncCompleted { queue: of, .. } if *of == queue);
        assert!(consumed.iter().skip(at).any(waited), "{seed}");
        assert!(setup.responses().is_empty(), "{seed}");
    }
}

/// As above, and the queue that the answer is in has stopped at it: nothing but the wait for it makes it go on, unless by chance
/// the rest goes through the same queue.
#[test]
fn a_device_that_was_reset_works_again_once_the_answers_to_it_are_consumed() {
    for seed in 0..32 {
        let change = |profile: Profile| profile.ecmdq(Some(3));
        let setup = Setup::with(config(5, 6), seed, change);
        setup.iommu.attach(&setup.nic, &setup.domain).unwrap();
        setup.ask(NIC, None, 1);
        let late = setup.group();
        let model = || setup.world.machine().model(0).unwrap();
        model().endpoint_mut(NIC).unwrap().answers = smmuv3_model::Answers::Never;
        setup.domain.invalidate_all().unwrap();
        assert!(setup.nic.is_quarantined());
        model().reset_device(NIC);
        // From another CPU each time.
        (0..seed).for_each(|_| TestPlatform(setup.world.clone()).relax());
        model().run(usize::MAX);
        assert_eq!(model().waiting_commands(), 0, "{seed}");
        // CERROR_ABT: it is tried again when somebody sees to it.
        model().fail_next_command(2);
        assert_eq!(late.respond(Answer::Success), Ok(true), "nobody has said that it was reset");
        model().run(usize::MAX);
        assert_ne!(model().waiting_commands(), 0, "{seed}");
        setup.iommu.readmit(&setup.nic).unwrap();
        assert_eq!(model().waiting_commands(), 0, "{seed}");
        assert_eq!(
            setup.responses().len(),
            1,
            "{seed}: it came while the device asked for nothing"
        );
        model().run(usize::MAX);
        assert!(setup.responses().is_empty(), "{seed}");
    }
}

/// A suspend that failed could not switch it on again. Its entry still has EATS, so the SMMU takes what it asks for.
#[test]
fn what_a_device_asks_for_that_the_driver_has_switched_off_ends_too() {
    for way in 0..3 {
        let setup = Setup::new(5);
        let refuse = |world: &World| world.machine().model(0).unwrap().fail_next_command(1);
        let (world, left) = (setup.world.clone(), AtomicUsize::new(1));
        setup.world.set_hook(Some(Arc::new(move |event: &Trace<'_>| {
            // The first of the way back as well.
            if let Trace::Completed { result: Err(_), .. } = event
                && left.swap(0, Ordering::Relaxed) != 0
            {
                refuse(&world);
            }
        })));
        refuse(&setup.world);
        setup.iommu.suspend(&setup.smmu, &mut |_| ()).unwrap_err();
        setup.world.set_hook(None);
        assert!(!setup.world.machine().model(0).unwrap().endpoint(NIC).unwrap().ats);
        setup.responses();
        setup.send(NIC, None, 3, true);
        let late = setup.group();
        let answer = match way {
            0 => setup.iommu.detach(&setup.nic).map(|()| Answered::Invalid).unwrap(),
            1 => {
                setup.iommu.attach(&setup.nic, &setup.other).unwrap();
                Answered::Success
            }
            _ => {
                setup.iommu.suspend(&setup.smmu, &mut |_| ()).unwrap();
                Answered::Success
            }
        };
        assert_eq!(setup.responses(), [(NIC, None, 3, answer, false)]);
        assert_eq!(late.respond(Answer::Success), Ok(false));
        assert!(setup.responses().is_empty(), "nothing comes of a late answer");
    }
}

/// A group that somebody still has keeps its instance's number from another instance, whose groups have the same places.
#[test]
fn a_group_of_an_instance_that_was_removed_is_of_no_other() {
    let setup = Setup::new(5);
    setup.ask(NIC, None, 3);
    let late = setup.group();
    let Setup { world, iommu, smmu, nic, gpu, domain, .. } = setup;
    iommu.detach(&nic).unwrap();
    iommu.detach(&gpu).unwrap();
    assert!(nic.close().is_ok() && gpu.close().is_ok());
    let former = smmu.id();
    assert!(iommu.remove(smmu).is_ok());
    let enable = || {
        let mmio = TestMmio { world: world.clone(), instance: 0 };
        let smmu = iommu.probe(mmio, config(5, 6)).unwrap().enable().unwrap();
        world.enabled(smmu.id(), 0);
        smmu
    };
    let smmu = enable();
    assert_eq!((smmu.id().index(), late.instance()), (1, former));
    let master = smmuv3_testbench::keeping::trusted().with_pasid_bits(4);
    let master = master.with_page_requests(1, false);
    let nic = iommu.add_master(&smmu, &[StreamId(NIC)], master).unwrap();
    iommu.attach(&nic, &domain).unwrap();
    let page = Page { address: IOVA, read: true, write: true };
    let asked = world.machine().model(0).unwrap().ask_for_pages(NIC, None, &[page], true);
    assert!(asked.is_some());
    let mut groups = Vec::new();
    let more =
        iommu.handle_interrupt(&smmu, Interrupt::PageRequests, 8, &mut |report| match report {
            Report::Pages(group) => groups.push(group),
            other => panic!("{other:?}"),
        });
    assert!(!more);
    let [group] = &groups[..] else { panic!("{groups:?}") };
    assert!(*group != late && late.pages().count() == 3);
    assert_eq!(late.respond(Answer::Success), Ok(false));
    assert_eq!(smmu.statistics().groups, 1, "that one waits as before");
    assert_eq!(groups.remove(0).respond(Answer::Success), Ok(true));
    // Nobody has anything of the first any more.
    iommu.detach(&nic).unwrap();
    assert!(nic.close().is_ok() && iommu.remove(smmu).is_ok());
    let again = enable();
    assert_eq!((again.id().index(), again.id().generation()), (0, 1));
}

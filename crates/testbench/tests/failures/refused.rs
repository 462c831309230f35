// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands that an SMMU refuses, or cannot fetch (§3.2): whoever waits is told, and the next command works.

use smmuv3_testbench::inside::Inside as _;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use smmuv3::invalidate::{Scope, commands};
use smmuv3::{Failure, Interrupt, Quarantined, Report};
use smmuv3_formats::register::{CmdqCons, CmdqProd, Gerror, Gerrorn};
use smmuv3_formats::{Command, Opcode};
use smmuv3_testbench::machine::Machine;
use smmuv3_testbench::oracle::Use;
use smmuv3_testbench::platform::TestPlatform;

use crate::setup::{AT_ONCE, DISK, NARROW, NIC, PAGE, Setup, attach_failure, unmap_failure};

const IOVA: u64 = 0x1000_0000;
const ILL: u8 = 1;
const ABT: u8 = 2;
const NONE: u8 = 0;

fn prepared(seed: u64) -> Setup {
    let setup = Setup::new(seed);
    for domain in [0, 1] {
        setup.map(domain, IOVA, domain as u64 * 16 * PAGE, 16 * PAGE).unwrap();
    }
    setup
}

#[test]
fn an_unmap_whose_command_is_refused_is_unconfirmed_and_the_next_one_works() {
    let setup = prepared(1);
    setup.attach(NIC, Use::Domain(0)).unwrap();
    setup.dma(NIC, IOVA);
    setup.machine.model(NARROW).unwrap().fail_next_command(ILL);
    let (instance, failure) = unmap_failure(setup.unmap(0, IOVA, PAGE));
    let Failure::Refused { command, code: ILL } = failure else { panic!("{failure:?}") };
    // The command itself, not what took its place.
    assert_eq!((instance, command.opcode()), (NARROW, Some(Opcode::TlbiNhVa)));
    assert!(!setup.has_failed(NARROW));
    assert_eq!(setup.unmap(0, IOVA + 4 * PAGE, PAGE), Ok(PAGE));
    assert_eq!(setup.dma(NIC, IOVA + 4 * PAGE), None);
    let (iova, waiting) = (smmuv3::Iova(IOVA), setup.smmus[NARROW].id().into());
    let range = Quarantined::Range { domain: 0, iova, bytes: PAGE, waiting };
    assert_eq!(setup.quarantined(), [range]);
    setup.reset(NARROW, &[], &[(0, IOVA, PAGE)]);
    assert_eq!(setup.quarantined(), []);
    setup.tear_down("after a refused unmap");
}

/// Changes `master` while the first command of the `nth` batch is refused; whether it noticed.
fn refuse(master: usize, from: Use, to: Use, nth: u32) -> bool {
    let context = format!("master {master} from {from:?} to {to:?}, batch {nth}");
    let setup = prepared(u64::from(nth));
    setup.attach(master, from).unwrap();
    setup.dma(master, IOVA);
    let mut left = nth;
    setup.machine.on_write(move |machine, instance, offset, _| {
        if instance == NARROW && offset == CmdqProd::OFFSET {
            if left == 0 {
                machine.model(NARROW).unwrap().fail_next_command(ILL);
            }
            left = left.wrapping_sub(1);
        }
    });
    let result = setup.attach(master, to);
    setup.machine.behave();
    if result.is_ok() {
        setup.tear_down(&context);
        return false;
    }
    let (instance, failure) = attach_failure(result);
    assert_eq!(instance, NARROW, "{context}");
    assert!(matches!(failure, Failure::Refused { code: ILL, .. }), "{context}: {failure}");
    // The instance goes on.
    assert!(!setup.has_failed(NARROW), "{context}");
    let other = if master == NIC { DISK } else { NIC };
    for to in [Use::Domain(0), Use::Domain(1), Use::Blocked, Use::Domain(0)] {
        assert_eq!(setup.attach(other, to), Ok(()), "{context}");
    }
    assert_eq!(setup.dma(other, IOVA), Some(setup.memory), "{context}");
    let listed = setup.quarantined();
    let stuck = listed.iter().any(|item| matches!(item, Quarantined::Stream { .. }));
    if stuck {
        let again = setup.iommu.detach(&setup.masters[master]);
        assert_eq!(attach_failure(again), (NARROW, Failure::Failed), "{context}");
        setup.reset(NARROW, &[master], &[]);
        assert_eq!(setup.dma(master, IOVA), None, "{context}");
    } else {
        // Only the flush of the old tag was refused. The domain has it still, and may use it.
        setup.watch().oracle.attach_begins(master, to);
        setup.watch().oracle.attach_ends(master, true);
        for to in [Use::Domain(0), Use::Domain(1), Use::Domain(0)] {
            assert_eq!(setup.attach(master, to), Ok(()), "{context}");
        }
        assert_eq!(setup.dma(master, IOVA), Some(setup.memory), "{context}");
        setup.reset(NARROW, &[], &[]);
        assert_eq!(setup.dma(master, IOVA), Some(setup.memory), "{context}");
    }
    assert_eq!(setup.quarantined(), [], "{context}");
    // Unmaps still reach whoever is attached, and no tag has two owners.
    let tags = [0, 1].map(|domain| setup.domains[domain].targets().unwrap());
    assert!(tags[0].iter().all(|tag| tags[1].iter().all(|other| other.tag != tag.tag)), "{tags:?}");
    assert_eq!(setup.unmap(0, IOVA, PAGE), Ok(PAGE), "{context}");
    assert_eq!((setup.dma(NIC, IOVA), setup.dma(DISK, IOVA)), (None, None), "{context}");
    setup.check(&context);
    setup.tear_down(&context);
    true
}

#[test]
fn any_command_of_a_change_may_be_refused() {
    for master in [NIC, DISK] {
        for (from, to) in [
            (Use::Blocked, Use::Domain(0)),
            (Use::Domain(1), Use::Domain(0)),
            (Use::Domain(0), Use::Domain(1)),
            (Use::Domain(0), Use::Identity),
            (Use::Domain(0), Use::Blocked),
        ] {
            let batches = (0..).find(|nth| !refuse(master, from, to, *nth)).unwrap();
            assert!(batches > 0, "{from:?} {to:?}");
        }
    }
}

/// A tag whose flush was refused stays with its domain when other instances change.
#[test]
fn a_tag_that_was_not_flushed_is_kept_until_the_reset() {
    let setup = prepared(1);
    setup.attach(NIC, Use::Domain(0)).unwrap();
    setup.attach(crate::setup::GPU, Use::Domain(0)).unwrap();
    let tag = setup.domains[0].targets().unwrap()[0];
    assert_eq!(tag.instance.index(), NARROW);
    // The second batch of a detach is the flush.
    let mut batch = 0;
    setup.machine.on_write(move |machine, instance, offset, _| {
        if instance == NARROW && offset == CmdqProd::OFFSET {
            batch += 1;
            let waiting = machine.model(NARROW).unwrap().waiting_commands();
            assert_eq!(waiting, 0);
            if batch == 3 {
                machine.model(NARROW).unwrap().fail_next_command(ILL);
            }
        }
    });
    attach_failure(setup.attach(NIC, Use::Blocked));
    setup.machine.behave();
    setup.watch().oracle.attach_begins(NIC, Use::Blocked);
    setup.watch().oracle.attach_ends(NIC, true);
    let asid = Quarantined::Asid { instance: tag.instance, asid: tag.tag.asid };
    assert_eq!(setup.quarantined(), [asid]);
    setup.attach(crate::setup::GPU, Use::Blocked).unwrap();
    let left = setup.domains[0].targets().unwrap();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!((left[0].tag, left[0].masters), (tag.tag, 0));
    // An unmap still reaches what the tag led to.
    assert_eq!(setup.unmap(0, IOVA, 16 * PAGE), Ok(16 * PAGE));
    // Nobody else gets the tag.
    setup.attach(DISK, Use::Domain(1)).unwrap();
    assert_ne!(setup.domains[1].targets().unwrap()[0].tag, tag.tag);
    setup.reset(NARROW, &[], &[]);
    assert_eq!((setup.quarantined(), setup.domains[0].targets().unwrap()), (vec![], vec![]));
    setup.tear_down("after a tag that was not flushed");
}

#[test]
fn fetches_that_abort_are_tried_again_however_often_over_time() {
    let setup = prepared(1);
    setup.attach(NIC, Use::Domain(0)).unwrap();
    for page in 0..12 {
        // Neither a fetch that was aborted nor an error without a reason (0) is one of the command.
        let code = if page % 3 == 2 { NONE } else { ABT };
        setup.machine.model(NARROW).unwrap().fail_next_command(code);
        assert_eq!(setup.unmap(0, IOVA + page * PAGE, PAGE), Ok(PAGE), "page {page}");
        // The unmap went on by itself; the handler tells of it all the same.
        let (reports, _) = setup.reports(NARROW, 0);
        let [Report::CommandError { command, code: reported }] = reports[..] else {
            panic!("{reports:?}")
        };
        assert_eq!((command.opcode(), reported), (Some(Opcode::TlbiNhVa), code));
    }
    setup.tear_down("after aborted fetches");
}

#[test]
fn a_queue_that_cannot_be_fetched_at_all_is_given_up() {
    let setup = prepared(1);
    setup.attach(NIC, Use::Domain(0)).unwrap();
    let broken = Arc::new(AtomicBool::new(true));
    let still = broken.clone();
    setup.machine.model(NARROW).unwrap().fail_next_command(ABT);
    setup.machine.on_wait(move |machine| {
        if still.load(Ordering::Relaxed) {
            machine.model(NARROW).unwrap().fail_next_command(ABT);
        }
    });
    // Whatever processes commands between two waits must find it broken, too.
    setup.machine.on_write(|machine, instance, offset, _| {
        if instance == NARROW && offset == Gerrorn::OFFSET {
            machine.model(NARROW).unwrap().fail_next_command(ABT);
        }
    });
    let (instance, failure) = unmap_failure(setup.unmap(0, IOVA, PAGE));
    assert_eq!(instance, NARROW);
    assert_eq!(failure, Failure::Unreadable);
    assert!(setup.has_failed(NARROW));
    let begun = setup.now();
    assert_eq!(unmap_failure(setup.unmap(0, IOVA + PAGE, PAGE)), (NARROW, Failure::Failed));
    assert!(setup.now() - begun < AT_ONCE);
    // One range: they touch.
    assert_eq!(setup.quarantined().len(), 1);
    broken.store(false, Ordering::Relaxed);
    setup.machine.behave();
    // The last injected one is still to come; the reset's own commands are tried again.
    setup.reset(NARROW, &[], &[(0, IOVA, 2 * PAGE)]);
    setup.tear_down("after a queue that could not be fetched");
}

#[test]
fn an_error_that_nobody_waits_for_is_reported() {
    let setup = prepared(1);
    setup.attach(NIC, Use::Domain(0)).unwrap();
    let smmu = setup.smmus[NARROW].inside();
    let tag = setup.domains[0].targets().unwrap()[0].tag;
    setup.machine.model(NARROW).unwrap().fail_next_command(ILL);
    let ticket = smmu.invalidate(setup.iommu.platform(), tag, Scope::All).unwrap();
    while setup.machine.model(NARROW).unwrap().run(1) != 0 {}
    let (reports, more) = setup.reports(NARROW, 8);
    let [Report::CommandError { command, code: ILL }] = reports[..] else { panic!("{reports:?}") };
    assert_eq!((command.opcode(), more), (Some(Opcode::TlbiNhAsid), false));
    let failure = smmu.wait(setup.iommu.platform(), ticket);
    assert!(matches!(failure, Err(Failure::Refused { code: ILL, .. })), "{failure:?}");
    assert_eq!(smmu.wait(setup.iommu.platform(), ticket), failure, "however often it is asked");
    setup.tear_down("after an error that nobody waited for");
}

/// What is reported of `active`, whichever interrupt brought it; it must have been acknowledged, and nothing else.
fn reported(active: Gerror, which: Interrupt) -> Vec<Report<TestPlatform>> {
    let setup = prepared(1);
    setup.world.set_observer(None);
    setup.machine.lie(NARROW, Gerror::OFFSET, Some(active.0));
    let acknowledged = Arc::new(AtomicBool::new(false));
    let seen = acknowledged.clone();
    setup.machine.on_write(move |_, _, offset, value| {
        assert_eq!((offset, value), (Gerrorn::OFFSET, active.0));
        seen.store(true, Ordering::Relaxed);
    });
    let mut reports = Vec::new();
    let smmu = &setup.smmus[NARROW];
    let _ = setup.iommu.handle_interrupt(smmu, which, 8, &mut |report| reports.push(report));
    assert!(acknowledged.load(Ordering::Relaxed));
    assert_eq!(setup.has_failed(NARROW), active.sfm_err());
    reports
}

#[test]
fn every_global_error_is_reported_and_acknowledged_with_what_follows_from_it() {
    let none = Gerror::default();
    for which in [Interrupt::Error, Interrupt::Any] {
        for active in [
            none.with_priq_abt_err(true),
            none.with_msi_cmdq_abt_err(true),
            none.with_msi_eventq_abt_err(true),
            none.with_msi_priq_abt_err(true),
            none.with_msi_gerror_abt_err(true),
            none.with_cmdqp_err(true),
            none.with_dpt_err(true),
            none.with_msi_cmdq_abt_err(true).with_msi_gerror_abt_err(true),
        ] {
            assert_eq!(reported(active, which), [Report::GlobalError(active)]);
        }
        let aborted = none.with_eventq_abt_err(true);
        let lost = Report::EventsLost(smmuv3::Lost::Aborted);
        assert_eq!(reported(aborted, which), [Report::GlobalError(aborted), lost]);
        let out_of_service = none.with_sfm_err(true);
        let failed = Report::Failed(Failure::Service);
        assert_eq!(reported(out_of_service, which), [Report::GlobalError(out_of_service), failed]);
    }
}

#[test]
fn events_are_looked_for_when_their_interrupt_message_was_lost() {
    let setup = prepared(1);
    setup.attach(NIC, Use::Domain(0)).unwrap();
    assert_eq!(setup.dma(NIC, 0x6000_0000), None);
    let active = Gerror::default().with_msi_eventq_abt_err(true);
    setup.machine.lie(NARROW, Gerror::OFFSET, Some(active.0));
    setup.machine.lie(NARROW, Gerrorn::OFFSET, Some(0));
    let mut reports = Vec::new();
    let smmu = &setup.smmus[NARROW];
    let _ =
        setup.iommu.handle_interrupt(smmu, Interrupt::Error, 8, &mut |report| reports.push(report));
    let [Report::GlobalError(error), Report::Event(record)] = reports[..] else {
        panic!("{reports:?}")
    };
    assert_eq!((error, record.input_addr()), (active, 0x6000_0000));
}

/// A batch of which one command is refused: its waiter learns which, the others are carried out, and nobody else's
/// waiter is told.
#[test]
fn each_waiter_learns_of_its_own_commands_and_no_later_one_is_lost() {
    let setup = prepared(1);
    setup.attach(NIC, Use::Domain(0)).unwrap();
    let instance = setup.smmus[NARROW].inside();
    let (platform, queue) = (setup.iommu.platform(), instance.commands());
    let tag = setup.domains[0].targets().unwrap()[0].tag;
    let flush: Vec<Command> =
        commands(instance.features(), [tag].into_iter(), Scope::All, 8).collect();
    // The last opcode needs features that this SMMU lacks (§4.1).
    for illegal in [Command([0x7f, 0]), Command([0x00, 0]), Command([0x40, 0])] {
        for position in 0..3 {
            let mut batch = vec![flush[0]; 2];
            batch.insert(position, illegal);
            let submit = |commands: &[Command]| {
                let mut commands = commands.iter().copied();
                queue.submit_unjudged(platform, instance.mmio(), &mut commands).unwrap()
            };
            let before = setup.machine.model(NARROW).unwrap().statistics().commands;
            let tickets = [submit(&flush), submit(&batch), submit(&flush)];
            let results = tickets.map(|ticket| instance.wait(platform, ticket));
            let refused = Failure::Refused { command: illegal, code: ILL };
            assert_eq!(results, [Ok(()), Err(refused), Ok(())], "{illegal:?} at {position}");
            // Four flushes, a CMD_SYNC in place of the illegal one, and three of the batches.
            let after = setup.machine.model(NARROW).unwrap().statistics().commands;
            assert_eq!(after - before, 8, "{illegal:?} at {position}");
        }
    }
    setup.tear_down("after refused commands in batches");
}

/// With debug assertions each command is judged before it is placed; one that is not legal is the caller's mistake, and
/// nothing of it gets to the SMMU. What was begun with it is completed.
#[test]
#[cfg(debug_assertions)]
fn an_illegal_command_is_a_panic_and_the_queue_goes_on() {
    let setup = prepared(1);
    setup.attach(NIC, Use::Domain(0)).unwrap();
    let instance = setup.smmus[NARROW].inside();
    let (platform, queue, mmio) = (setup.iommu.platform(), instance.commands(), instance.mmio());
    let legal = Command::cfgi_all();
    // Reserved; not available; a reserved bit; an operand that this SMMU lacks.
    for illegal in [[0x7f, 0], [0x40, 0], [0x30 | 1 << 20, 0], [0x11 | 0x100 << 48, 0]].map(Command)
    {
        let submit = || queue.submit(platform, mmio, &mut [legal, illegal, legal].into_iter());
        let carry_out = || queue.carry_out(platform, mmio, [illegal]);
        std::panic::catch_unwind(AssertUnwindSafe(submit)).expect_err("it was placed");
        std::panic::catch_unwind(AssertUnwindSafe(carry_out)).expect_err("it was placed");
        assert_eq!(queue.carry_out(platform, mmio, [legal]), Ok(()));
    }
    assert!(!queue.has_failed());
    setup.tear_down("after illegal commands");
}

/// An index where no command was given yet: that slot is somebody's who is filling it.
#[test]
fn a_queue_that_stops_where_there_is_no_command_is_given_up_and_nothing_is_overwritten() {
    let setup = prepared(1);
    setup.attach(NIC, Use::Domain(0)).unwrap();
    let instance = setup.smmus[NARROW].inside();
    let cons = CmdqCons(setup.machine.read32(NARROW, CmdqCons::OFFSET));
    setup.machine.lie(NARROW, CmdqCons::OFFSET, Some(cons.with_err(ILL.into()).0));
    setup.machine.lie(NARROW, Gerror::OFFSET, Some(1));
    let slots = instance.commands().base_register().addr();
    let memory = || -> Vec<u64> {
        (0..16).map(|word| setup.machine.ram().read64(slots + word * 8).unwrap()).collect()
    };
    let before = memory();
    let failure = Failure::Index { register: cons.rd() as u32 };
    let result = instance.commands().recover(setup.iommu.platform(), instance.mmio());
    assert_eq!(result, Err(failure));
    assert!(setup.has_failed(NARROW));
    assert_eq!(memory(), before);
    setup.machine.lie(NARROW, CmdqCons::OFFSET, None);
    setup.machine.lie(NARROW, Gerror::OFFSET, None);
    setup.reset(NARROW, &[], &[]);
    setup.tear_down("after an error without a command");
}

/// CERROR_ATC_INV_SYNC stops at the CMD_SYNC, which is tried again: the batch is the one that failed.
#[test]
fn a_device_that_does_not_answer_fails_the_batch_and_the_queue_goes_on() {
    const ATC_INV_SYNC: u8 = 3;
    // Hardware that has carried out nothing by then.
    let submitted = |seed| {
        let setup = prepared(seed);
        setup.attach(NIC, Use::Domain(0)).unwrap();
        let (instance, platform) = (setup.smmus[NARROW].inside(), setup.iommu.platform());
        let tag = setup.domains[0].targets().unwrap()[0].tag;
        let tickets = [(); 2].map(|()| instance.invalidate(platform, tag, Scope::All).unwrap());
        let waiting = setup.machine.model(NARROW).unwrap().waiting_commands();
        (waiting == 4).then_some((setup, tickets))
    };
    let (setup, [first, second]) = (1..50).find_map(submitted).unwrap();
    let (instance, platform) = (setup.smmus[NARROW].inside(), setup.iommu.platform());
    {
        let mut model = setup.machine.model(NARROW).unwrap();
        // Up to the CMD_SYNC of the first.
        while model.waiting_commands() > 3 {
            model.run(1);
        }
        model.fail_next_command(ATC_INV_SYNC);
    }
    let failure = instance.wait(platform, first).unwrap_err();
    let Failure::Refused { command, code: ATC_INV_SYNC } = failure else { panic!("{failure:?}") };
    assert_eq!(command.opcode(), Some(Opcode::Sync));
    assert_eq!(instance.wait(platform, second), Ok(()));
    assert!(!setup.has_failed(NARROW));
    setup.tear_down("after a device that did not answer");
}

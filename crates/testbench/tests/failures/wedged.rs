// SPDX-License-Identifier: MIT OR Apache-2.0
//! An SMMU that stops taking commands, after each possible number of them, during every call that gives some (rule
//! R8): the call ends with `Unconfirmed`, later ones at once, other instances go on; what it may still reach is
//! listed and neither freed nor used again, until a reset gives everything back.

use smmuv3_testbench::inside::Inside as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use smmuv3::{EnableError, Failure, PhysAddr, Quarantined, StreamId};
use smmuv3_formats::command::TlbiNhAsid;
use smmuv3_formats::register::CmdqCons;
use smmuv3_formats::{Command, Iova};
use smmuv3_testbench::machine::Machine;
use smmuv3_testbench::oracle::Use;

use crate::setup::{
    AT_ONCE, BLOCK, DEADLINE, DISK, GPU, NARROW, NIC, PAGE, Setup, WIDE, attach_failure, config,
    unmap_failure,
};

const PAGES: u64 = 0x1000_0000;
const SMALL: u64 = 0x2000_0000;
const LATER: u64 = 0x3000_0000;

/// A setup in which both domains have mappings, the first on both instances.
fn prepared(seed: u64) -> Setup {
    let mut setup = Setup::new(seed);
    setup.map(0, PAGES, PAGE, BLOCK).unwrap();
    setup.map(0, SMALL, 0, 4 * PAGE).unwrap();
    setup.map(0, LATER, 8 * PAGE, 4 * PAGE).unwrap();
    setup.map(1, PAGES, 4 * BLOCK, BLOCK).unwrap();
    setup.add_domain();
    setup.attach(GPU, Use::Domain(0)).unwrap();
    setup
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Call {
    Attach {
        master: usize,
        from: Use,
        to: Use,
    },
    /// A few pages; whole tables.
    Unmap {
        iova: u64,
        len: u64,
    },
}

/// Does `call` while `NARROW` stops after `commands` commands; whether the call noticed.
fn wedge(call: Call, commands: u64) -> bool {
    let context = format!("{call:x?} with {commands} commands");
    let setup = prepared(commands);
    let used = match call {
        Call::Attach { master, from, .. } => {
            setup.attach(master, from).unwrap();
            master
        }
        Call::Unmap { .. } => {
            setup.attach(NIC, Use::Domain(0)).unwrap();
            NIC
        }
    };
    for iova in [PAGES, SMALL, LATER] {
        if !matches!(call, Call::Attach { from: Use::Identity, .. }) {
            setup.dma(used, iova);
        }
        setup.dma(GPU, iova);
    }
    let tags: Vec<_> = setup.domains[0].targets().unwrap();
    setup.machine.model(NARROW).unwrap().wedge_after(Some(commands));

    let begun = setup.now();
    let failure = match call {
        Call::Attach { master, to, .. } => match setup.attach(master, to) {
            Ok(()) => None,
            failed => Some(attach_failure(failed)),
        },
        Call::Unmap { iova, len } => match setup.unmap(0, iova, len) {
            Ok(unmapped) => {
                assert_eq!(unmapped, len, "{context}");
                None
            }
            failed => Some(unmap_failure(failed)),
        },
    };
    let took = setup.now() - begun;
    let Some((NARROW, Failure::Timeout { waited })) = failure else {
        assert_eq!(failure, None, "{context}");
        setup.machine.model(NARROW).unwrap().wedge_after(None);
        setup.tear_down(&context);
        return false;
    };
    assert!(waited > DEADLINE && took < 2 * DEADLINE, "{context}: {waited:?} {took:?}");
    assert!(setup.has_failed(NARROW) && !setup.has_failed(WIDE), "{context}");

    let master_is_blocked = match call {
        Call::Attach { master, .. } => check_master(&setup, master, &context),
        Call::Unmap { iova, len } => {
            check_unmapped(&setup, iova, len, &context);
            false
        }
    };
    check_others(&setup, used, &tags, &context);

    // Resetting it is of no use as long as it does not answer.
    let listed = setup.quarantined();
    let failed = setup.iommu.reset(&setup.smmus[NARROW]);
    assert!(matches!(failed, Err(EnableError::Commands(Failure::Timeout { .. }))), "{failed:?}");
    assert!(setup.has_failed(NARROW), "{context}");
    assert_eq!(setup.quarantined(), listed, "{context}");

    setup.machine.model(NARROW).unwrap().wedge_after(None);
    let stuck: &[usize] = if matches!(call, Call::Attach { .. }) { &[used] } else { &[] };
    let mut unmapped = vec![(0, LATER, 4 * PAGE)];
    if let Call::Unmap { iova, len } = call {
        unmapped.push((0, iova, len));
    }
    setup.reset(NARROW, if master_is_blocked { stuck } else { &[] }, &unmapped);
    if let Call::Attach { master, to, .. } = call
        && !master_is_blocked
    {
        // Only the old tag was left over; the change itself had been confirmed.
        setup.watch().oracle.attach_begins(master, to);
        setup.watch().oracle.attach_ends(master, true);
    }
    assert_eq!(setup.quarantined(), [], "{context}");
    assert!(!setup.has_failed(NARROW), "{context}");

    // Everything works again.
    if master_is_blocked {
        assert_eq!(setup.dma(used, SMALL), None, "{context}");
    }
    for domain in [1, 0] {
        assert_eq!(setup.attach(used, Use::Domain(domain)), Ok(()), "{context}");
    }
    assert_eq!(setup.dma(used, LATER), None, "{context}");
    assert_eq!(setup.map(0, LATER, 0, PAGE), Ok(()), "{context}");
    assert_eq!(setup.dma(used, LATER), Some(setup.memory), "{context}");
    assert_eq!(setup.unmap(0, LATER, PAGE), Ok(PAGE), "{context}");
    setup.check(&context);
    setup.tear_down(&context);
    true
}

/// The streams of `master` abort in memory; they are listed if that was not confirmed. Returns whether.
fn check_master(setup: &Setup, master: usize, context: &str) -> bool {
    let (_, streams) = {
        let watch = setup.watch();
        let (instance, streams) = watch.oracle.streams(master);
        (instance, streams.to_vec())
    };
    let listed = setup.quarantined();
    let stuck = streams.iter().all(|stream| {
        let instance = setup.smmus[NARROW].id();
        listed.contains(&Quarantined::Stream { instance, stream: StreamId(*stream) })
    });
    let table = setup.smmus[NARROW].inside().streams();
    for stream in &streams {
        let entry = table.entry(setup.iommu.platform(), StreamId(*stream)).unwrap();
        let word = entry.load(setup.iommu.platform())[0];
        if stuck {
            assert_eq!(word, 1, "{context}: stream {stream} is not blocked");
        }
    }
    let tag = listed.iter().any(|item| matches!(item, Quarantined::Asid { .. }));
    assert!(stuck || tag, "{context}: {listed:?}");
    // Whatever is wanted of it now fails at once.
    let begun = setup.now();
    let handle = &setup.masters[master];
    let again = setup.iommu.attach(handle, &setup.domains[1]);
    assert_eq!(attach_failure(again), (NARROW, Failure::Failed), "{context}");
    assert_eq!(attach_failure(setup.iommu.detach(handle)), (NARROW, Failure::Failed), "{context}");
    assert!(setup.now() - begun < AT_ONCE, "{context}");
    stuck
}

/// The range is unmapped, its memory and tables are listed, and the healthy instance has forgotten it.
fn check_unmapped(setup: &Setup, iova: u64, len: u64, context: &str) {
    for page in (iova..iova + len).step_by(PAGE as usize) {
        // SAFETY: the test is alone.
        assert_eq!(unsafe { setup.domains[0].lookup(Iova(page)) }, None, "{context}");
    }
    let listed = setup.quarantined();
    let domain = setup.domains[0].id();
    let ranges: Vec<(u64, u64)> = listed
        .iter()
        .filter_map(|item| match item {
            Quarantined::Range { domain: of, iova, bytes, .. } if *of == domain => {
                Some((iova.0, *bytes))
            }
            _ => None,
        })
        .collect();
    assert_eq!(ranges, [(iova, len)], "{context}");
    let tables: Vec<PhysAddr> = listed
        .iter()
        .filter_map(|item| match item {
            Quarantined::Table { frame, .. } => Some(*frame),
            _ => None,
        })
        .collect();
    assert_eq!(tables.len(), usize::from(len == BLOCK), "{context}");
    for table in tables {
        assert!(setup.world.frames().live().any(|(start, _)| start == table.0), "{context}");
    }
    assert_eq!(setup.dma(GPU, iova), None, "{context}");
}

/// Calls that concern the failed instance fail at once; the other one is told all the same, and works.
fn check_others(setup: &Setup, used: usize, tags: &[smmuv3::Target], context: &str) {
    let begun = setup.now();
    let live = setup.live_bytes();
    let concerned =
        setup.domains[0].targets().unwrap().iter().any(|target| target.instance.index() == NARROW);
    let result = setup.unmap(0, LATER, 4 * PAGE);
    if concerned {
        assert_eq!(unmap_failure(result), (NARROW, Failure::Failed), "{context}");
        let unmapped = setup.quarantined().iter().any(|item| {
            matches!(item, Quarantined::Range { iova: Iova(LATER), bytes, .. } if *bytes == 4 * PAGE)
        });
        assert!(unmapped, "{context}");
    } else {
        assert_eq!(result, Ok(4 * PAGE), "{context}");
    }
    assert!(setup.now() - begun < AT_ONCE, "{context}");
    assert_eq!(setup.live_bytes(), live, "{context}: something was freed");
    assert_eq!(setup.dma(GPU, LATER), None, "{context}");
    let model = setup.machine.model(WIDE).unwrap();
    let range = LATER..LATER + 4 * PAGE;
    let stale = model.tlb_entries().find(|entry| range.contains(&entry.va)).copied();
    drop(model);
    assert_eq!(stale, None, "{context}");
    // Masters of the other instance come and go.
    for to in [Use::Blocked, Use::Domain(1), Use::Domain(0)] {
        assert_eq!(setup.attach(GPU, to), Ok(()), "{context}");
    }
    assert_eq!(setup.dma(GPU, LATER), None, "{context}");
    // The failed instance's tags are still taken, by the same domains.
    for tag in tags.iter().filter(|tag| tag.instance.index() == NARROW) {
        let now = setup.domains[0].targets().unwrap();
        let kept = now.iter().any(|now| (now.instance, now.tag) == (tag.instance, tag.tag));
        assert!(kept, "{context}: {now:?}");
    }
    // No other master of it can be changed, and none of them reaches anything new.
    let other = if used == NIC { DISK } else { NIC };
    let refused = setup.iommu.attach(&setup.masters[other], &setup.domains[2]);
    assert_eq!(attach_failure(refused), (NARROW, Failure::Failed), "{context}");
    assert_eq!(setup.domains[2].targets().unwrap(), [], "{context}");
    assert_eq!(setup.dma(other, SMALL), None, "{context}");
}

/// Wedges `call` after every possible number of commands; how many it gives.
fn wedge_everywhere(call: Call) -> u64 {
    (0..).find(|commands| !wedge(call, *commands)).unwrap()
}

#[test]
fn an_smmu_may_stop_at_any_command_of_an_attach() {
    for master in [NIC, DISK] {
        for (from, to) in [
            (Use::Blocked, Use::Domain(0)),
            (Use::Blocked, Use::Identity),
            (Use::Domain(1), Use::Domain(0)),
            (Use::Domain(0), Use::Domain(1)),
            (Use::Domain(0), Use::Identity),
            (Use::Identity, Use::Domain(0)),
        ] {
            let commands = wedge_everywhere(Call::Attach { master, from, to });
            assert!(commands >= 2, "{master} {from:?} {to:?}: {commands}");
        }
    }
}

#[test]
fn an_smmu_may_stop_at_any_command_of_a_detach() {
    for master in [NIC, DISK] {
        for from in [Use::Domain(0), Use::Identity] {
            let commands = wedge_everywhere(Call::Attach { master, from, to: Use::Blocked });
            assert!(commands >= 2, "{master} {from:?}: {commands}");
        }
    }
}

#[test]
fn an_smmu_may_stop_at_any_command_of_an_unmap() {
    let commands = wedge_everywhere(Call::Unmap { iova: SMALL, len: 4 * PAGE });
    assert!(commands >= 2, "{commands}");
    let commands = wedge_everywhere(Call::Unmap { iova: PAGES, len: BLOCK });
    assert!(commands >= 2, "{commands}");
}

#[test]
fn a_map_that_must_be_undone_on_a_wedged_smmu_says_so() {
    let setup = prepared(1);
    setup.attach(NIC, Use::Domain(0)).unwrap();
    setup.machine.model(NARROW).unwrap().wedge_after(Some(0));
    let error = setup.map(0, SMALL - PAGE, 0, 2 * PAGE).unwrap_err();
    let unconfirmed = error.unconfirmed.unwrap();
    assert_eq!(unconfirmed.instance.index(), NARROW);
    assert!(matches!(unconfirmed.what, Failure::Timeout { .. }), "{unconfirmed}");
    let domain = setup.domains[0].id();
    let (iova, waiting) = (Iova(SMALL - PAGE), unconfirmed.waiting);
    assert_eq!(waiting, setup.smmus[NARROW].id().into());
    let range = Quarantined::Range { domain, iova, bytes: PAGE, waiting };
    assert_eq!(setup.quarantined(), [range]);
    setup.machine.model(NARROW).unwrap().wedge_after(None);
    setup.reset(NARROW, &[], &[(0, SMALL - PAGE, PAGE)]);
    setup.tear_down("after an undone map");
}

#[test]
fn a_full_queue_is_waited_for_and_then_given_up() {
    let mut small = config();
    small.command_queue_log2 = 2;
    let setup = Setup::with(1, small, |profile| profile);
    setup.map(0, SMALL, 0, 8 * PAGE).unwrap();
    setup.attach(NIC, Use::Domain(0)).unwrap();
    setup.attach(GPU, Use::Domain(0)).unwrap();
    setup.machine.model(NARROW).unwrap().wedge_after(Some(0));
    // Tickets that nobody waits for fill it.
    let smmu = setup.smmus[NARROW].inside();
    let target = setup.domains[0].targets().unwrap()[0];
    let platform = setup.iommu.platform();
    let mut placed = 0;
    let failure = loop {
        match smmu.invalidate(platform, target.tag, smmuv3::invalidate::Scope::All) {
            Ok(_) => placed += 1,
            Err(failure) => break failure,
        }
    };
    assert!(matches!(failure, Failure::Timeout { .. }), "{failure}");
    assert_eq!(placed, 2, "four slots, and two a batch");
    let begun = setup.now();
    assert_eq!(unmap_failure(setup.unmap(0, SMALL, PAGE)), (NARROW, Failure::Failed));
    assert!(setup.now() - begun < AT_ONCE);
    assert_eq!(setup.dma(GPU, SMALL), None);
    setup.machine.model(NARROW).unwrap().wedge_after(None);
    setup.reset(NARROW, &[], &[(0, SMALL, PAGE)]);
    setup.tear_down("after a full queue");
}

/// The deadline is for an SMMU that stands still, not for how long a call takes.
#[test]
fn a_slow_smmu_is_waited_for_as_long_as_it_takes_commands() {
    let setup = prepared(1);
    setup.attach(NIC, Use::Domain(0)).unwrap();
    setup.machine.model(NARROW).unwrap().wedge_after(Some(0));
    let world = setup.world.clone();
    let mut last = setup.now();
    // One command each time four fifths of the deadline have passed.
    setup.machine.on_wait(move |machine| {
        let now = Duration::from_nanos(world.time());
        if now - last > DEADLINE * 4 / 5 {
            last = now;
            machine.model(NARROW).unwrap().wedge_after(Some(1));
        }
    });
    let begun = setup.now();
    // Tables are unlinked, in two batches at least.
    assert!(matches!(setup.unmap(0, PAGES, BLOCK), Ok(bytes) if bytes > 0));
    setup.attach(DISK, Use::Domain(1)).unwrap();
    assert!(setup.now() - begun > 3 * DEADLINE, "{:?}", setup.now() - begun);
    assert!(!setup.has_failed(NARROW));
    setup.machine.behave();
    setup.machine.model(NARROW).unwrap().wedge_after(None);
    setup.tear_down("after a slow SMMU");
}

/// A CPU that does not run for a while, as those of virtual machines do, finds the clock far ahead of its last look at the
/// SMMU: that says nothing about the SMMU.
#[test]
fn a_waiter_that_was_kept_from_running_looks_again_before_it_gives_the_smmu_up() {
    let setup = prepared(1);
    setup.attach(NIC, Use::Domain(0)).unwrap();
    setup.world.set_observer(None);
    setup.machine.model(NARROW).unwrap().wedge_after(Some(0));
    let (world, mut looks) = (setup.world.clone(), 0);
    setup.machine.on_read(move |machine, instance, offset| {
        if (instance, offset) == (NARROW, CmdqCons::OFFSET) {
            looks += 1;
            if looks == 3 {
                // After it has read CONS, and before it reads the clock.
                let mut model = machine.model(NARROW).unwrap();
                model.wedge_after(None);
                while model.waiting_commands() != 0 {
                    model.run(1);
                }
                // The register may lag behind by one look: not by that of which this is about.
                model.read32(CmdqCons::OFFSET);
                drop(model);
                world.pass(2 * DEADLINE);
            }
        }
    });
    assert_eq!(setup.unmap(0, PAGES, PAGE), Ok(PAGE));
    assert!(!setup.has_failed(NARROW));
    setup.machine.behave();
}

/// Nothing was published, since another producer is slow: the SMMU owes nothing, and its time begins when it does.
#[test]
fn an_smmu_that_has_nothing_to_do_has_all_the_time_once_it_has() {
    struct Slow<F>(Option<Command>, F);
    impl<F: FnMut()> Iterator for Slow<F> {
        type Item = Command;
        fn next(&mut self) -> Option<Command> {
            self.1();
            self.0.take()
        }
        fn size_hint(&self) -> (usize, Option<usize>) {
            (self.0.iter().len(), Some(self.0.iter().len()))
        }
    }
    impl<F: FnMut()> ExactSizeIterator for Slow<F> {}

    let setup = prepared(1);
    setup.world.set_observer(None);
    let instance = setup.smmus[NARROW].inside();
    let (queue, mmio, platform) = (instance.commands(), instance.mmio(), setup.iommu.platform());
    let command: Command = TlbiNhAsid::new().with_asid(9).into();
    let (drawn, has_drawn) = channel();
    let (go, may_go) = channel();
    let (published, has_published) = channel();
    std::thread::scope(|threads| {
        threads.spawn(move || {
            let wait = || {
                drawn.send(()).unwrap();
                may_go.recv().unwrap();
            };
            let ticket = queue.submit(platform, mmio, &mut Slow(Some(command), wait)).unwrap();
            published.send(()).unwrap();
            assert_eq!(queue.wait(platform, mmio, ticket), Ok(()));
        });
        has_drawn.recv().unwrap();
        let ticket = queue.submit(platform, mmio, &mut [command].into_iter()).unwrap();
        let (world, mut waits) = (setup.world.clone(), 0);
        setup.machine.on_wait(move |machine| {
            waits += 1;
            if waits == 3 {
                // The other one comes to publish both, and this one does not run for long.
                machine.model(NARROW).unwrap().wedge_after(Some(0));
                go.send(()).unwrap();
                has_published.recv().unwrap();
                world.pass(2 * DEADLINE);
            } else if waits > 3 {
                machine.model(NARROW).unwrap().wedge_after(None);
            }
        });
        assert_eq!(queue.wait(platform, mmio, ticket), Ok(()));
    });
    setup.machine.behave();
    assert!(!setup.has_failed(NARROW));
}

/// An unmap that finds a queue full lets go of the targets while it waits: an attach meanwhile is not held up, and the
/// unmap reaches every instance in the end.
#[test]
fn an_unmap_that_waits_for_room_holds_up_no_attach_and_misses_no_instance() {
    let mut small = config();
    small.command_queue_log2 = 2;
    // Longer than any thread is kept from running.
    small.deadline = Duration::MAX;
    let setup = Setup::with(1, small, |profile| profile);
    setup.map(0, SMALL, 0, 8 * PAGE).unwrap();
    setup.attach(NIC, Use::Domain(0)).unwrap();
    setup.attach(GPU, Use::Domain(0)).unwrap();
    assert!(setup.dma(NIC, SMALL).is_some() && setup.dma(GPU, SMALL).is_some());
    let instance = setup.smmus[NARROW].inside();
    let tag = setup.domains[0].targets().unwrap()[0].tag;
    setup.machine.model(NARROW).unwrap().wedge_after(Some(0));
    let platform = setup.iommu.platform();
    let fill = || instance.try_invalidate(platform, tag, smmuv3::invalidate::Scope::All).unwrap();
    let tickets: Vec<_> = std::iter::from_fn(fill).collect();
    assert_eq!(tickets.len(), 2);

    // While the unmap waits, another thread moves the device of the other instance to another domain: that replaces
    // the targets, waits for all who read them, and succeeds although the queue is still full.
    let (waits, moved) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (count, done) = (waits.clone(), moved.clone());
    setup.machine.on_wait(move |machine| {
        count.fetch_add(1, Ordering::Relaxed);
        if done.load(Ordering::Relaxed) {
            machine.model(NARROW).unwrap().wedge_after(None);
        }
    });
    std::thread::scope(|threads| {
        let unmap = threads.spawn(|| setup.unmap(0, SMALL, 8 * PAGE));
        while waits.load(Ordering::Relaxed) < 8 {
            std::thread::yield_now();
        }
        let attached = setup.iommu.attach(&setup.masters[GPU], &setup.domains[1]);
        moved.store(true, Ordering::Relaxed);
        assert_eq!(attached, Ok(()));
        assert_eq!(unmap.join().unwrap(), Ok(8 * PAGE));
    });
    setup.machine.behave();
    for ticket in tickets {
        assert_eq!(instance.wait(platform, ticket), Ok(()));
    }
    for instance in [NARROW, WIDE] {
        let model = setup.machine.model(instance).unwrap();
        let stale =
            model.tlb_entries().find(|entry| entry.va >= SMALL && entry.va < SMALL + 8 * PAGE);
        assert_eq!(stale, None, "instance {instance}");
    }
    assert_eq!(setup.dma(NIC, SMALL), None);
}

#[test]
fn tickets_from_before_a_reset_are_not_taken_for_done() {
    let setup = prepared(1);
    setup.attach(NIC, Use::Domain(0)).unwrap();
    let smmu = setup.smmus[NARROW].inside();
    let targets = setup.domains[0].targets().unwrap();
    let tag = targets.iter().find(|target| target.instance.index() == NARROW).unwrap().tag;
    let platform = setup.iommu.platform();
    setup.machine.model(NARROW).unwrap().wedge_after(Some(0));
    let ticket = smmu.invalidate(platform, tag, smmuv3::invalidate::Scope::All).unwrap();
    setup.machine.model(NARROW).unwrap().wedge_after(None);
    setup.reset(NARROW, &[], &[]);
    assert_eq!(smmu.wait(platform, ticket), Err(Failure::Failed));
    assert!(!smmu.commands().has_failed());
    setup.tear_down("after a reset with a ticket under way");
}

#[test]
fn a_domain_dropped_while_an_smmu_holds_on_to_it_is_freed_by_the_reset() {
    let mut setup = prepared(1);
    setup.attach(NIC, Use::Domain(1)).unwrap();
    setup.dma(NIC, PAGES);
    setup.machine.model(NARROW).unwrap().wedge_after(Some(0));
    attach_failure(setup.attach(NIC, Use::Blocked));
    let live = setup.live_bytes();
    drop(setup.domains.remove(1));
    assert_eq!(setup.live_bytes(), live, "its tables were freed");
    setup.machine.model(NARROW).unwrap().wedge_after(None);
    setup.reset(NARROW, &[NIC], &[]);
    assert!(setup.live_bytes() < live, "its tables were not freed");
    setup.check("after a dropped domain");
    setup.tear_down("after a dropped domain");
}

#[test]
fn more_than_can_be_listed_is_counted_and_never_used_again() {
    let setup = prepared(1);
    setup.attach(NIC, Use::Domain(0)).unwrap();
    setup.machine.model(NARROW).unwrap().wedge_after(Some(0));
    const RANGES: u64 = 400;
    for range in 0..RANGES {
        // Ranges that do not touch are listed one by one.
        let iova = 0x8000_0000 + range * 2 * PAGE;
        setup.map(0, iova, 0, PAGE).unwrap();
        unmap_failure(setup.unmap(0, iova, PAGE));
    }
    let listed = setup.quarantined();
    let unlisted = listed.iter().find_map(|item| match item {
        Quarantined::Unlisted { count, .. } => Some(*count as u64),
        _ => None,
    });
    assert_eq!(listed.len() as u64 - 1 + unlisted.unwrap(), RANGES);
    setup.machine.model(NARROW).unwrap().wedge_after(None);
    let all: Vec<_> = (0..RANGES).map(|range| (0, 0x8000_0000 + range * 2 * PAGE, PAGE)).collect();
    setup.reset(NARROW, &[], &all);
    assert_eq!(setup.quarantined(), []);
    setup.tear_down("after more than can be listed");
}

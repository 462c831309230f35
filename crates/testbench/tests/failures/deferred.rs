// SPDX-License-Identifier: MIT OR Apache-2.0
//! Unmaps whose invalidation comes later: until then devices do go on, afterwards none does, whichever instance it is
//! behind; and an instance that does not confirm it keeps everything until its reset.

use smmuv3::pagetable::UnmapError as TableUnmapError;
use smmuv3::{Failure, Iova, Quarantined, Unconfirmed, UnmapError};
use smmuv3_formats::Command;
use smmuv3_testbench::machine::Machine;
use smmuv3_testbench::oracle::Use;

use crate::setup::{BLOCK, DISK, GPU, NARROW, NIC, PAGE, Setup, WIDE};

const IOVA: u64 = 0x1000_0000;
const LATER: u64 = 0x2000_0000;

/// Masters of both instances use the domain, in which pages of one table, whole tables and blocks are mapped.
fn prepared(seed: u64) -> Setup {
    let setup = Setup::new(seed);
    setup.map(0, IOVA, PAGE, 4 * PAGE).unwrap();
    // Pages that fill a table, then a block.
    setup.map(0, LATER, BLOCK + PAGE, BLOCK).unwrap();
    setup.map(0, LATER + BLOCK, 3 * BLOCK, BLOCK).unwrap();
    setup.attach(NIC, Use::Domain(0)).unwrap();
    setup.attach(GPU, Use::Domain(0)).unwrap();
    setup
}

/// Takes a range out; the oracle accepts both until [`flush`].
fn defer(setup: &Setup, iova: u64, len: u64) -> Result<u64, UnmapError> {
    setup.watch().oracle.unmap_begins(0, iova..iova + len);
    // SAFETY: the test is alone, and its memory lives as long as it.
    let result = unsafe { setup.domains[0].unmap_deferred(Iova(iova), len) };
    let mut watch = setup.watch();
    watch.collect(&setup.world);
    if result.is_err() {
        watch.oracle.unmap_ends(0, iova..iova + len, false);
    }
    result
}

/// Invalidates; from then on the oracle accepts none of `ranges`, nor that anything of them is cached.
fn flush(setup: &Setup, ranges: &[(u64, u64)]) -> Result<(), Unconfirmed> {
    let result = setup.domains[0].invalidate_all();
    let mut watch = setup.watch();
    watch.collect(&setup.world);
    if result.is_ok() {
        for (iova, len) in ranges {
            watch.oracle.unmap_ends(0, *iova..iova + len, true);
            watch.after_unmap(&setup.world, 0, &(*iova..iova + len));
        }
    }
    result
}

/// Both masters use every page in `ranges`, so that each instance has them in its TLB.
fn touch(setup: &Setup, ranges: &[(u64, u64)]) {
    for (iova, len) in ranges {
        for at in (*iova..iova + len).step_by(PAGE as usize) {
            assert!(setup.dma(NIC, at).is_some() && setup.dma(GPU, at).is_some());
        }
    }
}

const RANGES: [(u64, u64); 2] = [(IOVA, 4 * PAGE), (LATER, 2 * BLOCK)];

#[test]
fn devices_go_on_until_the_invalidation_and_no_longer() {
    for seed in 0..4 {
        let setup = prepared(seed);
        touch(&setup, &RANGES);
        let live = setup.live_bytes();
        let _ = setup.world.take_commands();
        assert_eq!(defer(&setup, IOVA, 4 * PAGE), Ok(4 * PAGE));
        assert_eq!(defer(&setup, LATER, 2 * BLOCK), Ok(2 * BLOCK));
        assert_eq!(defer(&setup, LATER, 2 * BLOCK), Ok(0), "holes are allowed");
        assert_eq!(setup.world.take_commands(), [], "nobody was told");
        assert_eq!(setup.live_bytes(), live, "tables stay");
        // SAFETY: the test is alone.
        assert_eq!(unsafe { setup.domains[0].lookup(Iova(IOVA)) }, None);
        // The SMMUs of the model forget nothing by themselves: the accesses still arrive.
        for (iova, pa) in [(IOVA, PAGE), (LATER, BLOCK + PAGE), (LATER + BLOCK, 3 * BLOCK)] {
            assert_eq!(setup.dma(NIC, iova), Some(setup.memory + pa), "{iova:#x}");
            assert_eq!(setup.dma(GPU, iova), Some(setup.memory + pa), "{iova:#x}");
        }
        let _ = setup.world.take_commands();

        flush(&setup, &RANGES).unwrap();
        let told = setup.world.take_commands();
        for (id, target) in [NARROW, WIDE].into_iter().zip(setup.domains[0].targets().unwrap()) {
            // CMD_TLBI_NH_ASID with its tag, and a CMD_SYNC.
            let tag = target.tag;
            let asid = u64::from(tag.asid) << 48 | u64::from(tag.vmid) << 32 | 0x11;
            let here = told.iter().filter(|(told, _)| *told == id);
            let here: Vec<Command> = here.map(|(_, command)| *command).collect();
            assert_eq!((here.len(), here[0]), (2, Command([asid, 0])), "{here:?}");
        }
        for (iova, len) in RANGES {
            for at in (iova..iova + len).step_by(PAGE as usize) {
                assert_eq!((setup.dma(NIC, at), setup.dma(GPU, at)), (None, None), "{at:#x}");
            }
        }
        // Addresses and memory are free for something else.
        setup.map(0, LATER, 5 * BLOCK, 2 * BLOCK).unwrap();
        assert_eq!(setup.dma(GPU, LATER + BLOCK), Some(setup.memory + 6 * BLOCK));
        assert_eq!(setup.unmap(0, LATER, 2 * BLOCK), Ok(2 * BLOCK));
        setup.check(seed);
        setup.tear_down(seed);
    }
}

#[test]
fn an_invalidation_that_one_instance_misses_is_noticed() {
    let setup = prepared(1);
    touch(&setup, &RANGES[..1]);
    defer(&setup, IOVA, 4 * PAGE).unwrap();
    // A strict unmap of another range is no invalidation of this one.
    setup.unmap(0, LATER, 2 * BLOCK).unwrap();
    setup.watch().oracle.unmap_ends(0, IOVA..IOVA + 4 * PAGE, true);
    assert!(setup.dma(GPU, IOVA).is_some());
    let watch = setup.watch();
    let violation = watch.oracle.violation().map(|violation| violation.rule);
    drop(watch);
    assert_eq!(violation.map(|rule| rule.to_string()).as_deref(), Some("R1"));
    setup.world.set_observer(None);
}

#[test]
fn tables_below_what_was_taken_out_can_be_unlinked_before_the_invalidation() {
    for seed in 0..4 {
        let setup = prepared(seed);
        touch(&setup, &RANGES[1..]);
        defer(&setup, LATER, BLOCK).unwrap();
        let live = setup.live_bytes();
        // SAFETY: the test is alone.
        let reclaimed = unsafe { setup.domains[0].reclaim(Iova(LATER), BLOCK) };
        assert_eq!(reclaimed, Ok(1));
        assert!(setup.live_bytes() < live);
        flush(&setup, &[(LATER, BLOCK)]).unwrap();
        assert_eq!((setup.dma(NIC, LATER), setup.dma(GPU, LATER)), (None, None));
        setup.check(seed);
        setup.tear_down(seed);
    }
}

#[test]
fn who_comes_after_the_tables_changed_needs_no_invalidation() {
    let setup = prepared(3);
    touch(&setup, &RANGES[..1]);
    defer(&setup, IOVA, 4 * PAGE).unwrap();
    setup.attach(DISK, Use::Domain(0)).unwrap();
    assert_eq!(setup.dma(DISK, LATER), Some(setup.memory + BLOCK + PAGE));
    // Whoever leaves takes its tag's translations along.
    setup.attach(GPU, Use::Blocked).unwrap();
    flush(&setup, &RANGES[..1]).unwrap();
    assert_eq!((setup.dma(DISK, IOVA), setup.dma(NIC, IOVA)), (None, None));
    setup.check("after masters came and went");
    setup.tear_down("after masters came and went");
}

#[test]
fn a_wrong_range_is_refused_and_stays() {
    let setup = prepared(1);
    let block = Iova(LATER + BLOCK);
    let straddle = UnmapError::Table(TableUnmapError::Straddle { block, size: BLOCK });
    assert_eq!(defer(&setup, LATER + BLOCK, PAGE), Err(straddle));
    assert_eq!(defer(&setup, LATER, BLOCK + PAGE), Err(straddle));
    assert!(matches!(defer(&setup, IOVA, 1), Err(UnmapError::Table(TableUnmapError::Range(_)))));
    touch(&setup, &RANGES);
    setup.check("after refused ranges");
    setup.tear_down("after refused ranges");
}

#[test]
fn an_instance_that_does_not_confirm_keeps_everything_until_its_reset() {
    for commands in 0..2 {
        let setup = prepared(1);
        touch(&setup, &RANGES);
        defer(&setup, IOVA, 4 * PAGE).unwrap();
        setup.machine.model(NARROW).unwrap().wedge_after(Some(commands));
        let failed = flush(&setup, &RANGES[..1]);
        let instance = setup.smmus[NARROW].id();
        assert!(
            matches!(failed, Err(Unconfirmed { instance: id, what: Failure::Timeout { .. }, .. }) if id == instance),
            "{failed:?}"
        );
        let domain = setup.domains[0].id();
        let all =
            Quarantined::Range { domain, iova: Iova(0), bytes: u64::MAX, waiting: instance.into() };
        assert_eq!(setup.quarantined(), [all]);
        // The other one was told, and confirmed.
        assert_eq!(setup.dma(GPU, IOVA), None);
        assert_eq!(setup.dma(GPU, LATER), Some(setup.memory + BLOCK + PAGE));
        // Another attempt fails at once, and lists nothing twice.
        let again = flush(&setup, &RANGES[..1]);
        let again = again.unwrap_err();
        assert_eq!((again.instance, again.what), (instance, Failure::Failed));
        assert_eq!(again.waiting, instance.into());
        assert_eq!(setup.quarantined(), [all]);

        setup.machine.model(NARROW).unwrap().wedge_after(None);
        setup.reset(NARROW, &[], &[]);
        assert_eq!(setup.quarantined(), []);
        flush(&setup, &RANGES[..1]).unwrap();
        assert_eq!((setup.dma(NIC, IOVA), setup.dma(GPU, IOVA)), (None, None));
        setup.check(commands);
        setup.tear_down(commands);
    }
}

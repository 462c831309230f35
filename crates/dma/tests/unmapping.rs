// SPDX-License-Identifier: MIT OR Apache-2.0
//! When devices lose what is unmapped, and when it is used again: lazily, and when an SMMU does not answer.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::{Area, PAGE, Rig, deferred, pattern, run_on, wedge};
use smmuv3::{Failure, Iova, Refused};
use smmuv3_dma::{CloseError, Direction, DmaConfig, Lazy, MapError, Reclaim, UnmapError};
use smmuv3_formats::EventId;
use smmuv3_model::Reason;

const BOTH: Direction = Direction::Both;
const TRANSLATION: Reason = Reason::Event(EventId::FTranslation);

fn lazy(bounds: Lazy) -> DmaConfig {
    DmaConfig::default().with_reclaim(Reclaim::Lazy(bounds))
}

#[test]
fn a_stale_translation_leads_to_a_page_that_nobody_uses() {
    let rig = Rig::new(DmaConfig::lazy());
    rig.world.stop_clock();
    let area = rig.world.area(0, 2 * PAGE);
    let iova = rig.map(&area, BOTH);
    rig.world.write(iova, &pattern(1, 2 * PAGE)).unwrap();
    let stale: Vec<u64> = (0..2)
        .map(|page| rig.world.reaches(Iova(iova.0 + page * PAGE as u64), true).unwrap())
        .collect();
    assert!(!stale.contains(&rig.world.physical(&area, 0)));
    rig.unmap(iova, &area, BOTH);
    assert!(area.bytes() == pattern(1, 2 * PAGE));
    assert_eq!(rig.space.usage().retired, 3, "the addresses, and a page each");

    // The device goes on. It reaches what it has cached, which is not the caller's.
    rig.world.write(iova, &[0xee; 2 * PAGE]).unwrap();
    assert!(area.bytes() == pattern(1, 2 * PAGE));
    // Whatever is mapped and allocated now, it is neither those addresses nor those pages.
    let mut live = Vec::new();
    for round in 0..50 {
        let other = rig.world.area(round, PAGE + 1);
        other.fill(&pattern(2, PAGE + 1));
        let at = rig.map(&other, BOTH);
        for page in 0..2 {
            let at = at.0 - round as u64 + page * PAGE as u64;
            assert!(!(iova.0..iova.0 + 2 * PAGE as u64).contains(&at));
            assert!(!stale.contains(&rig.world.reaches(Iova(at), true).unwrap()));
        }
        live.push((at, other));
    }
    let memory = rig.space.allocate(8 * PAGE, BOTH).unwrap();
    for page in 0..8 {
        let pa = rig.world.reaches(Iova(memory.iova().0 + page * PAGE as u64), true).unwrap();
        assert!(!stale.contains(&pa));
    }
    rig.world.write(iova, &[0xee; 2 * PAGE]).unwrap();
    for (at, other) in live {
        assert!(rig.world.read(at, PAGE + 1).unwrap() == pattern(2, PAGE + 1));
        rig.unmap(at, &other, BOTH);
        assert!(other.bytes() == pattern(2, PAGE + 1));
    }
    rig.space.free(memory).unwrap();

    // A flush ends it, and they are used again.
    rig.space.flush().unwrap();
    assert_eq!(rig.world.reaches(iova, false), Err(TRANSLATION));
    assert_eq!(rig.space.usage().retired, 0);
    assert_eq!(rig.space.usage().mapped_pages, 0);
    let mut reused = false;
    let areas: Vec<_> = (0..200).map(|_| rig.world.area(0, PAGE)).collect();
    let iovas: Vec<_> = areas.iter().map(|area| rig.map(area, BOTH)).collect();
    for at in &iovas {
        reused |= stale.contains(&rig.world.reaches(*at, true).unwrap());
    }
    assert!(reused, "pages are used again after a flush");
    for (at, area) in iovas.into_iter().zip(&areas) {
        rig.unmap(at, area, BOTH);
    }
    rig.close();
}

#[test]
fn what_is_too_large_to_copy_is_lent_and_unmapped_strictly() {
    let rig = Rig::new(lazy(Lazy::default().with_copy_up_to(3000)));
    for (offset, len, copied) in
        [(0, 3000, true), (2000, 3000, true), (0, PAGE, false), (9, 9 * PAGE, false)]
    {
        let area = rig.world.area(offset, len);
        let iova = rig.map(&area, BOTH);
        // A page that the buffer has to itself, or the first.
        let at = if len > 2 * PAGE { PAGE } else { 0 };
        let found = rig.world.reaches(Iova(iova.0 + at as u64), true).unwrap();
        assert_eq!(found != rig.world.physical(&area, at), copied, "{offset} {len}");
        rig.unmap(iova, &area, BOTH);
        let stale = rig.world.reaches(Iova(iova.0 + at as u64), true);
        assert_eq!(stale.is_ok(), copied, "{offset} {len}");
    }
    rig.close();
}

#[test]
fn a_queue_never_holds_more_than_its_bound_and_one_flush_serves_it_all() {
    let rig = Rig::new(lazy(Lazy::default().with_queue(20)));
    rig.world.stop_clock();
    let area = rig.world.area(0, 100);
    let mut flushes = 0;
    let mut before = 0;
    for round in 0..100 {
        let iova = rig.map(&area, BOTH);
        rig.unmap(iova, &area, BOTH);
        let retired = rig.space.usage().retired;
        assert!(retired <= 20);
        if retired < before {
            flushes += 1;
        }
        before = retired;
        assert_eq!(rig.space.usage().mapped_pages, 0, "round {round}");
    }
    // Two entries each; the eleventh finds it full, and needs none itself.
    assert_eq!(flushes, 9);
    assert!(rig.space.usage().bounce_pages <= 21);
    rig.close();
}

#[test]
fn what_is_old_is_flushed_by_the_next_unmap() {
    let rig = Rig::new(lazy(Lazy::default().with_age(Duration::from_millis(1))));
    rig.world.stop_clock();
    let area = rig.world.area(0, 100);
    let round = || {
        let iova = rig.map(&area, BOTH);
        rig.unmap(iova, &area, BOTH);
        rig.space.usage().retired
    };
    assert_eq!(round(), 2);
    rig.world.pass(Duration::from_micros(900));
    assert_eq!(round(), 4);
    rig.world.pass(Duration::from_micros(100));
    // The flush took some time, but began after this one was retired.
    assert_eq!(round(), 0);
    rig.close();
}

#[test]
fn bounce_pages_are_bounded_and_a_buffer_is_lent_when_they_run_out() {
    let rig = Rig::new(DmaConfig::lazy().with_bounce_pages(2));
    let two = rig.world.area(0, 2 * PAGE);
    let one = rig.world.area(0, PAGE);
    let small = rig.world.area(5, 5);
    let first = rig.map(&two, BOTH);
    // Whole pages are lent, and lost strictly.
    let second = rig.map(&one, BOTH);
    assert_eq!(rig.world.reaches(second, true), Ok(rig.world.physical(&one, 0)));
    // A part of a page is not.
    // SAFETY: it is not mapped.
    let error = unsafe { rig.space.map(small.pointer, BOTH) };
    assert_eq!(error, Err(MapError::NoBouncePage { most: 2 }));
    rig.unmap(second, &one, BOTH);
    assert_eq!(rig.world.reaches(second, true), Err(TRANSLATION));
    rig.unmap(first, &two, BOTH);
    assert_eq!(rig.space.usage().retired, 3);
    // They wait for a flush, which this call makes.
    let third = rig.map(&small, BOTH);
    assert_eq!(rig.space.usage().retired, 0);
    rig.unmap(third, &small, BOTH);
    rig.space.flush().unwrap();
    assert_eq!((rig.space.usage().bounce_pages, rig.space.trim()), (2, 2));
    assert_eq!(rig.space.usage().bounce_pages, 0);
    rig.close();
}

#[test]
fn what_somebody_has_unmapped_by_hand_is_lost_and_counted() {
    let lent = || lazy(Lazy::default().with_copy_up_to(0));
    for config in [DmaConfig::strict, lent, deferred, DmaConfig::lazy] {
        let rig = Rig::new(config());
        let lost = || rig.space.usage().lost_pages;
        let by_hand = |at| {
            // SAFETY: nobody else unmaps there.
            assert_eq!(unsafe { rig.space.domain().unmap(at, PAGE as u64) }, Ok(PAGE as u64));
        };
        let refused = |iova, area: &Area| {
            // SAFETY: the area is not used otherwise.
            let error = unsafe { rig.space.unmap(iova, area.pointer, BOTH) };
            assert_eq!(error, Err(UnmapError::NotMapped { iova }));
        };
        // All of it: nothing is found.
        let area = rig.world.area(0, PAGE);
        let iova = rig.map(&area, BOTH);
        by_hand(iova);
        refused(iova, &area);
        assert_eq!(lost(), 0);
        // A page in the middle, of more than is copied: with a page of the space at each end, and without.
        let mut expected = 0;
        for (offset, len, pages) in [(0, 17 * PAGE, 32), (9, 17 * PAGE, 32 + 2)] {
            let area = rig.world.area(offset, len);
            let iova = rig.map(&area, BOTH);
            by_hand(Iova(iova.0 - offset as u64 + 2 * PAGE as u64));
            expected += pages;
            for _ in 0..2 {
                refused(iova, &area);
                assert_eq!(lost(), expected, "once");
            }
            rig.space.flush().unwrap();
            assert_eq!(rig.world.reaches(iova, true), Err(TRANSLATION));
        }
        // Of an allocation, whatever there is.
        for by_hand_too in [false, true] {
            let memory = rig.space.allocate(2 * PAGE, BOTH).unwrap();
            by_hand(memory.iova());
            if by_hand_too {
                by_hand(Iova(memory.iova().0 + PAGE as u64));
            }
            rig.space.free(memory).unwrap();
            expected += 2 + 2;
            assert_eq!(lost(), expected);
        }
        let Rig { space, master, .. } = rig;
        space.detach(&master).unwrap();
        let Refused { error, .. } = space.close().unwrap_err();
        assert_eq!(error, CloseError::Mapped { pages: 1 + 2 * 32 + 2 * 2 });
    }
}

#[test]
fn what_a_failed_smmu_may_reach_is_held_until_it_was_reset() {
    for config in [DmaConfig::strict(), lazy(Lazy::default().with_copy_up_to(100))] {
        let rig = Rig::new(config);
        let large = rig.world.area(100, 5 * PAGE);
        let small = rig.world.area(7, 70);
        let (first, second) = (rig.map(&large, BOTH), rig.map(&small, BOTH));
        rig.world.write(first, &pattern(1, 5 * PAGE)).unwrap();
        rig.world.write(second, &pattern(2, 70)).unwrap();
        let held: BTreeSet<u64> = [first, Iova(first.0 + 5 * PAGE as u64 - 1), second]
            .map(|at| rig.world.reaches(at, true).unwrap() & !0xfff)
            .into();
        wedge(&rig.world, true);

        // SAFETY: the buffer is not used for anything else until it was confirmed.
        let error = unsafe { rig.space.unmap(first, large.pointer, BOTH) }.unwrap_err();
        let UnmapError::Unconfirmed(unconfirmed) = error else { panic!("{error}") };
        assert_eq!(unconfirmed.instance, rig.smmu.id());
        assert!(matches!(unconfirmed.what, Failure::Timeout { .. }));
        // It holds what the device wrote, and the device reaches it still.
        assert!(large.bytes() == pattern(1, 5 * PAGE));
        assert!(rig.world.reaches(first, true).is_ok());
        // A bounced one is the caller's whatever the SMMU does.
        rig.unmap(second, &small, BOTH);
        assert_eq!(small.bytes(), pattern(2, 70));
        rig.world.write(second, &[0xee; 70]).unwrap();
        assert_eq!(small.bytes(), pattern(2, 70));

        // Nothing of that is used again.
        let usage = rig.space.usage();
        assert_eq!(usage.held + usage.retired, 3 + 2);
        assert_eq!(usage.mapped_pages, 0);
        for round in 0..20 {
            let area = rig.world.area(round, 50);
            let at = rig.map(&area, BOTH);
            assert!(at.0 & !0xfff != second.0 & !0xfff);
            let start = first.0 & !0xfff;
            assert!(!(start..start + 8 * PAGE as u64).contains(&at.0));
            let pa = rig.world.reaches(at, true).unwrap();
            assert!(!held.contains(&(pa & !0xfff)));
        }
        assert!(rig.space.flush().is_err());
        assert_eq!(rig.space.usage().held + rig.space.usage().retired, 5);

        // After a reset it is.
        wedge(&rig.world, false);
        rig.iommu.reset(&rig.smmu).unwrap();
        rig.space.flush().unwrap();
        assert_eq!(rig.space.usage().held + rig.space.usage().retired, 0);
        assert_eq!(rig.world.reaches(first, true), Err(TRANSLATION));
        let Refused { value: space, error } = rig.space.close().unwrap_err();
        assert_eq!(error, CloseError::Mapped { pages: 20 });
        drop(space);
    }
}

#[test]
fn a_lent_buffer_that_was_not_confirmed_can_be_taken_back_later() {
    let rig = Rig::new(DmaConfig::strict());
    let area = rig.world.area(0, 2 * PAGE);
    // SAFETY: the area is not used otherwise, and outlives what is made of it.
    let buffer = unsafe { area.into_static() };
    let lent = rig.space.lend(buffer, BOTH).unwrap();
    rig.world.write(lent.iova(), &[3; 2 * PAGE]).unwrap();
    wedge(&rig.world, true);
    let Refused { value: lent, error } = rig.space.take_back(lent).map(drop).unwrap_err();
    assert!(matches!(error, UnmapError::Unconfirmed(_)));
    let Refused { value: lent, error } = rig.space.take_back(lent).map(drop).unwrap_err();
    assert!(matches!(error, UnmapError::Unconfirmed(_)));
    assert_eq!(rig.space.usage().held, 1);
    wedge(&rig.world, false);
    rig.iommu.reset(&rig.smmu).unwrap();
    let buffer = rig.space.take_back(lent).unwrap();
    assert_eq!(*buffer, [3; 2 * PAGE]);
    assert_eq!(rig.space.usage().held, 0);
    rig.close();
}

#[test]
fn a_full_queue_of_a_failed_smmu_holds_and_then_counts_what_is_lost() {
    let mut config = lazy(Lazy::default().with_queue(17)).with_bounce_pages(40);
    config.held = 6;
    let rig = Rig::new(config);
    let area = rig.world.area(0, 100);
    wedge(&rig.world, true);
    for _ in 0..16 {
        let iova = rig.map(&area, BOTH);
        rig.unmap(iova, &area, BOTH);
        let usage = rig.space.usage();
        assert!(usage.retired <= 17 && usage.held <= 6);
    }
    // 8 in the queue, 3 held, 5 lost.
    let usage = rig.space.usage();
    assert_eq!((usage.retired, usage.held, usage.lost_pages), (16, 6, 10));
    // Lost pages count as allocated: they end, with a typed error.
    let mut mapped = 0;
    let error = loop {
        // SAFETY: it is unmapped below.
        match unsafe { rig.space.map(area.pointer, BOTH) } {
            Ok(iova) => rig.unmap(iova, &area, BOTH),
            Err(error) => break error,
        }
        mapped += 1;
        assert!(mapped <= 40);
    };
    assert_eq!(error, MapError::NoBouncePage { most: 40 });
    wedge(&rig.world, false);
    rig.iommu.reset(&rig.smmu).unwrap();
    rig.space.flush().unwrap();
    let usage = rig.space.usage();
    assert_eq!((usage.retired, usage.held), (0, 0));
    assert_eq!(usage.mapped_pages, usage.lost_pages as u64 / 2);
}

#[test]
fn each_cpu_has_a_queue_and_a_flush_empties_all() {
    let rig = Rig::with(DmaConfig::lazy(), 4, smmuv3_model::Adversary::NONE);
    rig.world.stop_clock();
    let area = rig.world.area(0, 100);
    for cpu in 0..8 {
        // A number beyond those that there are is as good.
        run_on(cpu);
        let iova = rig.map(&area, BOTH);
        rig.unmap(iova, &area, BOTH);
    }
    run_on(0);
    assert_eq!(rig.space.usage().retired, 16);
    rig.space.flush().unwrap();
    assert_eq!(rig.space.usage().retired, 0);
    rig.close();
}

#[test]
fn a_tick_flushes_what_is_old_on_any_cpu_and_nothing_else() {
    let rig = Rig::new(lazy(Lazy::default().with_age(Duration::from_micros(1))));
    rig.world.stop_clock();
    let area = rig.world.area(0, PAGE);
    assert_eq!(rig.space.tick(), Ok(false), "nothing waits");
    run_on(1);
    let iova = rig.map(&area, BOTH);
    rig.world.write(iova, &[1]).unwrap();
    rig.unmap(iova, &area, BOTH);
    rig.world.pass(Duration::from_nanos(999));
    run_on(0);
    assert_eq!(rig.space.tick(), Ok(false), "it is not old");
    assert_eq!(rig.space.usage().retired, 2);
    // What the device has cached.
    rig.world.write(iova, &[2]).unwrap();
    rig.world.pass(Duration::from_nanos(1));
    assert_eq!(rig.space.tick(), Ok(true));
    assert_eq!(rig.space.usage().retired, 0);
    assert_eq!(rig.world.write(iova, &[3]), Err(TRANSLATION));
    assert_eq!(rig.space.tick(), Ok(false), "nothing waits any more");
    // An instance that does not answer.
    let iova = rig.map(&area, BOTH);
    rig.unmap(iova, &area, BOTH);
    rig.world.pass(Duration::from_micros(1));
    wedge(&rig.world, true);
    assert!(rig.space.tick().is_err());
    assert_eq!(rig.space.usage().retired, 2);

    // Nothing waits in a strict space.
    let rig = Rig::new(DmaConfig::strict());
    let area = rig.world.area(0, PAGE);
    let iova = rig.map(&area, BOTH);
    rig.unmap(iova, &area, BOTH);
    rig.world.pass(Duration::from_nanos(u64::MAX / 2));
    assert_eq!(rig.space.tick(), Ok(false));
    rig.close();
}

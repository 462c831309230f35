// SPDX-License-Identifier: MIT OR Apache-2.0
//! Deferred unmapping, for devices that are trusted: what they may go on reaching, for how long, and what never.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

mod common;

use std::time::Duration;

use common::{Area, PAGE, Rig, deferred, pattern, run_on, wedge};
use smmuv3::Iova;
use smmuv3_dma::{Direction, DmaConfig, DmaSpace, MapError, NewError, Reclaim};
use smmuv3_formats::EventId;
use smmuv3_model::{Adversary, Reason};

const BOTH: Direction = Direction::Both;
const TRANSLATION: Reason = Reason::Event(EventId::FTranslation);

/// With other bounds than usual.
fn bounded(queue: usize, age: Duration) -> DmaConfig {
    let Reclaim::Deferred(bounds) = deferred().reclaim else { panic!("it is deferred") };
    deferred().with_reclaim(Reclaim::Deferred(bounds.with_queue(queue).with_age(age)))
}

/// What the device finds behind each page of a mapping, having used it.
fn pages(rig: &Rig, iova: Iova, count: u64) -> Vec<u64> {
    let start = iova.0 & !0xfff;
    let page = |index| rig.world.reaches(Iova(start + index * PAGE as u64), true).unwrap();
    (0..count).map(page).collect()
}

#[test]
fn whole_pages_are_lent_and_reached_until_a_flush_and_their_addresses_are_not_reused_before() {
    let rig = Rig::new(deferred());
    rig.world.stop_clock();
    // A page, some of them, and a range with a block in it.
    let areas: Vec<Area> = [PAGE, 5 * PAGE, 3 << 20].map(|len| rig.world.area(0, len)).into();
    let mut stale = Vec::new();
    for (nth, area) in areas.iter().enumerate() {
        let len = area.pointer.len();
        let iova = rig.map(area, BOTH);
        let last = Iova(iova.0 + len as u64 - 1);
        assert_eq!(rig.world.reaches(iova, true), Ok(rig.world.physical(area, 0)));
        assert_eq!(rig.world.reaches(last, true), Ok(rig.world.physical(area, len - 1)));
        rig.unmap(iova, area, BOTH);
        // Nothing was waited for: what the SMMU has kept still leads there.
        assert_eq!(rig.world.reaches(iova, true), Ok(rig.world.physical(area, 0)));
        assert_eq!(rig.space.usage().retired, nth + 1, "the addresses, and no page");
        stale.push(iova.0..last.0);
    }
    assert_eq!(rig.space.usage().bounce_pages, 0);
    assert_eq!(rig.space.usage().mapped_pages, 0);
    // Whatever is mapped now has other addresses.
    let apart = |iova: Iova, len: usize| {
        let end = iova.0 + len as u64;
        stale.iter().all(|old| end <= old.start || old.end < iova.0)
    };
    for round in 0..20 {
        for area in &areas {
            let iova = rig.map(area, BOTH);
            assert!(apart(iova, area.pointer.len()), "round {round}: {iova}");
            rig.unmap(iova, area, BOTH);
        }
    }
    // A flush ends it, and they are used again.
    rig.space.flush().unwrap();
    for range in &stale {
        for at in [range.start, range.end] {
            assert_eq!(rig.world.reaches(Iova(at), false), Err(TRANSLATION));
        }
    }
    assert_eq!(rig.space.usage().retired, 0);
    let mut reused = false;
    let mapped: Vec<Iova> = (0..100).map(|_| rig.map(&areas[0], BOTH)).collect();
    for iova in mapped {
        reused |= !apart(iova, PAGE);
        rig.unmap(iova, &areas[0], BOTH);
    }
    assert!(reused);
    rig.close();
}

#[test]
fn neighbours_are_out_of_reach_before_and_after_the_unmap() {
    let rig = Rig::new(deferred());
    rig.world.stop_clock();
    for (offset, len) in [(300, 100), (300, 2 * PAGE), (0, PAGE + 1), (4000, 200)] {
        let area = rig.world.area(offset, len);
        let all = rig.world.pages_of(&area);
        all.fill(&vec![0xaa; all.pointer.len()]);
        area.fill(&pattern(1, len));
        let iova = rig.map(&area, BOTH);
        let count = (all.pointer.len() / PAGE) as u64;
        let old = pages(&rig, iova, count);
        // The pages that it has only a part of are not behind the mapping.
        let own = |index: usize| {
            let (start, end) = (index * PAGE, (index + 1) * PAGE);
            start >= offset && end <= offset + len
        };
        for (index, pa) in old.iter().enumerate() {
            let is_own = *pa == rig.world.physical(&all, index * PAGE);
            assert_eq!(is_own, own(index), "{offset} {len}: page {index}");
        }
        rig.world.write(iova, &pattern(7, len)).unwrap();
        rig.unmap(iova, &area, BOTH);
        assert!(area.bytes() == pattern(7, len));
        let bounced = (0..count as usize).filter(|index| !own(*index)).count();
        assert_eq!(rig.space.usage().retired, 1 + bounced);
        // A device that breaks its word writes everywhere. Beside the buffer nothing changes, and the pages that stood
        // in for those at its ends are nobody's until a flush.
        let start = Iova(iova.0 & !0xfff);
        rig.world.write(start, &vec![0x55; all.pointer.len()]).unwrap();
        let bytes = all.bytes();
        let (before, after) = (&bytes[..offset], &bytes[offset + len..]);
        assert!(before.iter().chain(after).all(|byte| *byte == 0xaa));
        let other = rig.world.area(8, 20);
        for _ in 0..40 {
            let at = rig.map(&other, BOTH);
            assert!(!old.contains(&pages(&rig, at, 1)[0]));
            rig.unmap(at, &other, BOTH);
        }
        rig.space.flush().unwrap();
        assert_eq!(rig.world.reaches(start, false), Err(TRANSLATION));
    }
    rig.close();
}

#[test]
fn the_queue_is_bounded_and_what_is_old_is_flushed() {
    let rig = Rig::new(bounded(20, Duration::from_millis(1)));
    rig.world.stop_clock();
    let area = rig.world.area(0, PAGE);
    let round = || {
        let iova = rig.map(&area, BOTH);
        rig.world.reaches(iova, true).unwrap();
        rig.unmap(iova, &area, BOTH);
        (iova, rig.space.usage().retired)
    };
    let (mut flushes, mut before) = (0, 0);
    for _ in 0..100 {
        let (iova, retired) = round();
        assert!(retired <= 20);
        if retired < before {
            flushes += 1;
            assert!(rig.world.reaches(iova, true).is_err(), "its flush began after it");
        }
        before = retired;
    }
    // The twenty-first finds it full, and needs no entry itself.
    assert_eq!(flushes, 4);
    rig.space.flush().unwrap();
    assert_eq!(round().1, 1);
    rig.world.pass(Duration::from_micros(900));
    assert_eq!(round().1, 2);
    rig.world.pass(Duration::from_micros(100));
    assert_eq!(round().1, 0);
    // And without another unmap, by a timer on whichever CPU.
    let (iova, _) = round();
    rig.world.pass(Duration::from_nanos(999_999));
    run_on(1);
    assert_eq!(rig.space.tick(), Ok(false));
    assert!(rig.world.reaches(iova, true).is_ok());
    rig.world.pass(Duration::from_nanos(1));
    assert_eq!(rig.space.tick(), Ok(true));
    assert!(rig.world.reaches(iova, true).is_err());
    run_on(0);
    rig.close();
}

#[test]
fn what_a_failed_smmu_may_reach_waits_for_its_reset() {
    let rig = Rig::new(bounded(17, Duration::MAX));
    let area = rig.world.area(0, 3 * PAGE);
    let iova = rig.map(&area, BOTH);
    rig.world.write(iova, &pattern(3, 3 * PAGE)).unwrap();
    wedge(&rig.world, true);
    rig.unmap(iova, &area, BOTH);
    assert!(area.bytes() == pattern(3, 3 * PAGE));
    assert!(rig.space.flush().is_err());
    for _ in 0..40 {
        let other = rig.map(&area, BOTH);
        assert!(other.0 + 4 * PAGE as u64 <= iova.0 || iova.0 + 4 * PAGE as u64 <= other.0);
        // The queue is full soon. What finds no place in it is held.
        rig.unmap(other, &area, BOTH);
    }
    let usage = rig.space.usage();
    assert_eq!((usage.retired, usage.held, usage.lost_pages), (17, 24, 0));
    wedge(&rig.world, false);
    rig.iommu.reset(&rig.smmu).unwrap();
    rig.space.flush().unwrap();
    assert_eq!(rig.world.reaches(iova, true), Err(TRANSLATION));
    let usage = rig.space.usage();
    assert_eq!((usage.retired, usage.held, usage.mapped_pages), (0, 0, 0));
    rig.close();
}

#[test]
fn a_buffer_that_is_not_mapped_is_refused_and_nothing_retired() {
    let rig = Rig::new(deferred());
    for (offset, len) in [(0, PAGE), (5, 50), (9, 4 * PAGE)] {
        let area = rig.world.area(offset, len);
        let iova = rig.map(&area, BOTH);
        rig.unmap(iova, &area, BOTH);
        let retired = rig.space.usage().retired;
        // SAFETY: it is nobody's.
        let again = unsafe { rig.space.unmap(iova, area.pointer, BOTH) };
        assert!(again.is_err(), "{offset} {len}");
        assert_eq!(rig.space.usage().retired, retired);
    }
    rig.close();
}

#[test]
fn addresses_that_wait_are_flushed_where_there_are_no_others() {
    let rig = Rig::new(deferred().with_window(Iova(0x10_0000), 16));
    rig.world.stop_clock();
    let area = rig.world.area(0, 4 * PAGE);
    // Four of them fill the window.
    for _ in 0..100 {
        let iova = rig.map(&area, BOTH);
        rig.world.reaches(iova, true).unwrap();
        rig.unmap(iova, &area, BOTH);
        assert!(rig.space.usage().retired <= 4);
    }
    let too_long = rig.world.area(0, 17 * PAGE);
    // SAFETY: it is not mapped.
    let error = unsafe { rig.space.map(too_long.pointer, BOTH) };
    assert_eq!(error, Err(MapError::NoIova { pages: 32 }));
    rig.close();
}

#[test]
fn queues_that_cannot_take_one_mapping_are_refused() {
    let rig = Rig::new(deferred());
    let new =
        |entries| DmaSpace::new(&rig.iommu, bounded(entries, Duration::from_nanos(1))).map(drop);
    assert_eq!(new(2), Err(NewError::Queue { entries: 2, least: 3 }));
    assert_eq!(new(3), Ok(()));
    // Its smallest one does for a buffer with two pages of others at its ends.
    let rig = Rig::new(bounded(3, Duration::MAX));
    let area = rig.world.area(5, 3 * PAGE);
    for _ in 0..10 {
        let iova = rig.map(&area, BOTH);
        rig.unmap(iova, &area, BOTH);
        assert!(rig.space.usage().retired <= 3);
    }
    rig.close();
}

#[test]
fn an_address_is_not_lost_where_released_ones_fill_its_place() {
    let rig = Rig::with(deferred(), 1, Adversary::NONE);
    rig.world.stop_clock();
    let whole = rig.world.area(0, PAGE);
    // The last one finds the queue full, and flushes: 256 addresses are released, and no page.
    for _ in 0..257 {
        let iova = rig.map(&whole, BOTH);
        rig.unmap(iova, &whole, BOTH);
    }
    // Looking for a page, it puts those to use until there is no room for more, not even for the one that it took.
    let part = rig.world.area(0, 512);
    let iova = rig.map(&part, BOTH);
    assert_eq!(rig.space.usage().mapped_pages, 1);
    rig.unmap(iova, &part, BOTH);
    rig.space.flush().unwrap();
    assert_eq!(rig.space.usage().mapped_pages, 0);
    rig.close();
}

#[test]
fn what_another_cpus_flush_has_released_is_collected_by_a_timer() {
    let rig = Rig::new(bounded(20, Duration::from_millis(1)));
    rig.world.stop_clock();
    let page = rig.world.area(0, PAGE);
    let round = || {
        let iova = rig.map(&page, BOTH);
        rig.unmap(iova, &page, BOTH);
    };
    let fill = || {
        run_on(0);
        for _ in 0..21 {
            round();
        }
        assert_eq!(rig.space.usage().retired, 0, "it was full, so there was a flush");
        run_on(1);
    };
    // Coherent memory goes back to the platform at once.
    run_on(1);
    let memory = rig.space.allocate(16 * PAGE, BOTH).unwrap();
    assert!(rig.space.free(memory).is_ok());
    assert_eq!(rig.space.tick(), Ok(false));
    fill();
    let before = rig.world.live();
    assert_eq!(rig.space.tick(), Ok(false), "nothing waits for a flush");
    assert_eq!(rig.world.live(), before - 16 * PAGE);
    // All else once it is old. The flush takes some of the time.
    round();
    fill();
    let cached = rig.space.usage().cached_pages;
    rig.world.pass(Duration::from_micros(800));
    assert_eq!(rig.space.tick(), Ok(false));
    assert_eq!(rig.space.usage().cached_pages, cached);
    rig.world.pass(Duration::from_micros(200));
    assert_eq!(rig.space.tick(), Ok(false));
    // Twenty of the first CPU, and one of the second.
    assert_eq!(rig.space.usage().cached_pages, cached + 21);
    run_on(0);
    rig.close();
}

#[test]
fn each_cpu_has_a_queue_and_one_flush_serves_all() {
    let rig = Rig::with(deferred(), 4, Adversary::NONE);
    rig.world.stop_clock();
    let area = rig.world.area(0, PAGE);
    let unmapped: Vec<Iova> = (0..4)
        .map(|cpu| {
            run_on(cpu);
            let iova = rig.map(&area, BOTH);
            rig.world.reaches(iova, true).unwrap();
            rig.unmap(iova, &area, BOTH);
            iova
        })
        .collect();
    run_on(0);
    assert_eq!(rig.space.usage().retired, 4);
    rig.space.flush().unwrap();
    assert_eq!(rig.space.usage().retired, 0);
    assert!(unmapped.iter().all(|iova| rig.world.reaches(*iova, true).is_err()));
    rig.close();
}

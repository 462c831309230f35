// SPDX-License-Identifier: MIT OR Apache-2.0
//! Buffers that are unmapped without waiting: what devices reach until a flush, and when the buffer is given back.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

mod common;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::Maintenance::Invalidate;
use common::{Area, PAGE, Rig, deferred, pattern, run_on, wedge};
use smmuv3::{Iova, Refused};
use smmuv3_dma::{
    CloseError, Direction, DmaConfig, DmaSpace, Later, Lazy, Lent, Reclaim, Retiring, UnmapError,
};
use smmuv3_formats::EventId;
use smmuv3_model::Reason;

const BOTH: Direction = Direction::Both;
const TRANSLATION: Reason = Reason::Event(EventId::FTranslation);

/// Nothing is copied but partial pages.
fn lent() -> DmaConfig {
    bounded(Lazy::default())
}

fn bounded(bounds: Lazy) -> DmaConfig {
    DmaConfig::default().with_reclaim(Reclaim::Lazy(bounds.with_copy_up_to(0)))
}

/// Spaces in which what was lent waits for a flush.
const WAITING: [fn() -> DmaConfig; 2] = [lent, deferred];

fn unmap_later(rig: &Rig, iova: Iova, area: &Area, direction: Direction) -> Later {
    // SAFETY: tests leave areas alone until they are out of reach, but where that is what they are about.
    unsafe { rig.space.unmap_later(iova, area.pointer, direction) }.unwrap()
}

/// Whether it is the caller's again.
fn regain(rig: &Rig, later: Later, area: &Area, direction: Direction) -> bool {
    // SAFETY: it is what `unmap_later` returned for it.
    unsafe { rig.space.regain(later, area.pointer, direction) }
}

type Owned = &'static mut [u8];

/// A buffer of its own, lent.
fn lend(rig: &Rig, offset: usize, len: usize) -> (Area, Lent<Owned>) {
    let area = rig.world.area(offset, len);
    // SAFETY: the area is not used otherwise while it is lent, and worlds outlive what is made of it.
    let buffer = unsafe { area.into_static() };
    (area, rig.space.lend(buffer, BOTH).map_err(Refused::into_error).unwrap())
}

fn retire(rig: &Rig, lent: Lent<Owned>) -> Retiring<Owned> {
    rig.space.retire(lent).map_err(Refused::into_error).unwrap()
}

#[test]
fn a_buffer_is_given_back_once_a_flush_is_over_and_reached_until_then() {
    for config in WAITING {
        let rig = Rig::new(config());
        rig.world.stop_clock();
        for len in [PAGE, 5 * PAGE, 3 << 20] {
            let (area, lent) = lend(&rig, 0, len);
            let (iova, last) = (lent.iova(), Iova(lent.iova().0 + len as u64 - 1));
            rig.world.write(iova, &pattern(1, len)).unwrap();
            assert_eq!(rig.world.reaches(iova, true), Ok(rig.world.physical(&area, 0)));
            let retiring = retire(&rig, lent);
            assert_eq!((retiring.len(), retiring.is_empty()), (len, false));
            assert_eq!(rig.space.usage().retired, 1, "the addresses, and no page");
            assert_eq!(rig.space.usage().mapped_pages, 0);
            // Nothing was waited for: what the SMMU has kept still leads there, and that is legal.
            assert_eq!(rig.world.reaches(last, true), Ok(rig.world.physical(&area, len - 1)));
            rig.world.write(iova, &[0x77; 9]).unwrap();
            let retiring = rig.space.recover(retiring).unwrap_err();
            let retiring = rig.space.recover(retiring).unwrap_err();
            // Whatever is mapped now has other addresses.
            let other = rig.world.area(0, len);
            let at = rig.map(&other, BOTH);
            assert!(at.0 > last.0 || at.0 + len as u64 <= iova.0);
            rig.space.flush().unwrap();
            for at in [iova, last] {
                assert_eq!(rig.world.reaches(at, false), Err(TRANSLATION));
            }
            let buffer = rig.space.recover(retiring).unwrap();
            // With what was written after it had been unmapped.
            assert_eq!((&buffer[..9], &buffer[9..]), (&[0x77; 9][..], &pattern(1, len)[9..]));
            rig.unmap(at, &other, BOTH);
            rig.space.flush().unwrap();
        }
        rig.close();
    }
}

#[test]
fn a_raw_buffer_is_out_of_reach_once_a_flush_is_over() {
    for config in WAITING {
        let rig = Rig::new(config());
        rig.world.stop_clock();
        let area = rig.world.area(0, 2 * PAGE);
        let iova = rig.map(&area, BOTH);
        rig.world.write(iova, &pattern(1, 2 * PAGE)).unwrap();
        let later = unmap_later(&rig, iova, &area, BOTH);
        assert!(rig.world.reaches(iova, true).is_ok());
        assert!(!rig.space.is_out_of_reach(&later));
        assert!(!regain(&rig, later, &area, BOTH));
        // It is not mapped any more, and nothing changes.
        // SAFETY: it is nobody's.
        let again = unsafe { rig.space.unmap_later(iova, area.pointer, BOTH) };
        assert!(again.is_err());
        assert_eq!(rig.space.usage().retired, 1);
        // A pool may have the same devices use it again meanwhile. Then it waits for both.
        let second = rig.map(&area, BOTH);
        rig.space.flush().unwrap();
        assert!(rig.space.is_out_of_reach(&later), "by its first addresses");
        assert!(rig.world.reaches(iova, true).is_err() && rig.world.reaches(second, true).is_ok());
        let later = unmap_later(&rig, second, &area, BOTH);
        assert!(!rig.space.is_out_of_reach(&later));
        rig.space.flush().unwrap();
        assert!(regain(&rig, later, &area, BOTH));
        assert!(rig.world.reaches(second, true).is_err());
        assert!(area.bytes() == pattern(1, 2 * PAGE));
        rig.close();
    }
}

#[test]
fn who_cannot_wait_for_a_flush_has_one_made() {
    for config in WAITING {
        let rig = Rig::new(config());
        let (_, lent) = lend(&rig, 0, PAGE);
        let iova = lent.iova();
        rig.world.write(iova, &[3; PAGE]).unwrap();
        let retiring = retire(&rig, lent);
        assert!(rig.world.reaches(iova, true).is_ok());
        let mut lent = Lent::from(retiring);
        // It is not lent for anything but to be taken back.
        let not_mapped = Err(UnmapError::NotMapped { iova });
        assert_eq!(rig.space.read(&mut lent, 0, &mut [0]), not_mapped);
        assert_eq!(rig.space.write(&mut lent, 0, &[0]), not_mapped);
        // Twice is as good as once.
        let retiring = retire(&rig, lent);
        let buffer = rig.space.take_back(retiring.into()).map_err(Refused::into_error).unwrap();
        assert!(rig.world.reaches(iova, true).is_err());
        assert_eq!(*buffer, [3; PAGE]);
        rig.close();
    }
}

#[test]
fn what_only_copies_of_are_reached_is_given_back_at_once() {
    // Altogether, because it is small, and because none of its pages is its own.
    let copying = DmaConfig::lazy();
    for (config, offset, len) in
        [(copying, 0, 4 * PAGE), (copying, 9, 100), (lent(), 5, 90), (lent(), 4000, 200)]
    {
        let rig = Rig::new(config);
        rig.world.stop_clock();
        let (area, lent) = lend(&rig, offset, len);
        let iova = lent.iova();
        rig.world.write(iova, &pattern(1, len)).unwrap();
        let retiring = retire(&rig, lent);
        assert!(rig.world.reaches(iova, true).is_ok(), "a page that nobody uses");
        assert!(rig.space.is_out_of_reach(&retiring.later()));
        let buffer = rig.space.recover(retiring).unwrap();
        assert!(*buffer == pattern(1, len));
        rig.world.write(iova, &vec![0xee; len]).unwrap();
        assert!(area.bytes() == pattern(1, len));
        rig.close();
    }
    // Where bounce pages ran out, it is lent, and waits.
    let rig = Rig::new(DmaConfig::lazy().with_bounce_pages(1));
    let (_, lent) = lend(&rig, 0, 2 * PAGE);
    let iova = lent.iova();
    rig.world.reaches(iova, true).unwrap();
    let retiring = rig.space.recover(retire(&rig, lent)).unwrap_err();
    assert!(rig.world.reaches(iova, true).is_ok());
    rig.space.flush().unwrap();
    assert!(rig.space.recover(retiring).is_ok());
    rig.close();
}

#[test]
fn a_strict_space_has_waited_already() {
    let rig = Rig::new(DmaConfig::strict());
    let other = rig.world.area(0, PAGE);
    let stays = rig.map(&other, BOTH);
    rig.world.reaches(stays, true).unwrap();
    for (offset, len) in [(0, PAGE), (5, 50), (100, 5 * PAGE)] {
        let (_, lent) = lend(&rig, offset, len);
        let iova = lent.iova();
        rig.world.write(iova, &pattern(1, len)).unwrap();
        let retiring = retire(&rig, lent);
        assert_eq!(rig.world.reaches(iova, false), Err(TRANSLATION));
        let buffer = rig.space.recover(retiring).unwrap();
        assert!(*buffer == pattern(1, len));
        assert_eq!(rig.space.usage().retired, 0);
        // For that range, and nothing else.
        assert_eq!(rig.world.model().tlb_entries().count(), 1);
    }
    rig.unmap(stays, &other, BOTH);
    // Unless the SMMU does not answer.
    let (_, lent) = lend(&rig, 0, 2 * PAGE);
    let iova = lent.iova();
    rig.world.write(iova, &pattern(2, 2 * PAGE)).unwrap();
    wedge(&rig.world, true);
    let retiring = rig.space.recover(retire(&rig, lent)).unwrap_err();
    assert!(rig.world.reaches(iova, true).is_ok());
    assert_eq!(rig.space.usage().held, 1);
    wedge(&rig.world, false);
    rig.iommu.reset(&rig.smmu).unwrap();
    let retiring = rig.space.recover(retiring).unwrap_err();
    rig.space.flush().unwrap();
    let buffer = rig.space.recover(retiring).unwrap();
    assert!(*buffer == pattern(2, 2 * PAGE));
    rig.close();
}

#[test]
fn what_is_bounced_is_copied_at_once_and_what_is_lent_is_final_in_the_end() {
    for config in WAITING {
        let rig = Rig::new(config());
        let (offset, len) = (300, 3 * PAGE);
        let (area, lent) = lend(&rig, offset, len);
        let all = rig.world.pages_of(&area);
        let (before, after) = (all.part(0..offset), all.part(offset + len..4 * PAGE));
        [before, after].iter().for_each(|area| area.fill(&vec![0xaa; area.pointer.len()]));
        let iova = lent.iova();
        rig.world.write(iova, &pattern(7, len)).unwrap();
        let retiring = retire(&rig, lent);
        assert_eq!(rig.space.usage().retired, 3, "the addresses, and two pages");
        // It writes everywhere.
        let start = Iova(iova.0 - offset as u64);
        rig.world.write(start, &[0x55; 4 * PAGE]).unwrap();
        let retiring = rig.space.recover(retiring).unwrap_err();
        rig.space.flush().unwrap();
        let buffer = rig.space.recover(retiring).unwrap();
        let mut expected = pattern(7, len);
        expected[PAGE - offset..3 * PAGE - offset].fill(0x55);
        assert!(*buffer == expected);
        assert!([before, after].iter().all(|area| area.bytes().iter().all(|byte| *byte == 0xaa)));
        rig.close();
    }
}

#[test]
fn a_flush_that_began_before_does_not_count() {
    for config in WAITING {
        let rig: &'static Rig = Box::leak(Box::new(Rig::new(config())));
        let area = rig.world.area(0, PAGE);
        let iova = rig.map(&area, BOTH);
        rig.world.reaches(iova, true).unwrap();
        // In the middle of a flush, once its invalidation was given to the SMMU: what that has then, it has for ever.
        let later = Arc::new(std::sync::Mutex::new(None));
        let noted = later.clone();
        let calls = AtomicUsize::new(0);
        rig.world.interrupt_with(Some(Arc::new(move || {
            if calls.fetch_add(1, Ordering::Relaxed) == 0 {
                *noted.lock().unwrap() = Some(unmap_later(rig, iova, &area, BOTH));
            }
        })));
        rig.space.flush().unwrap();
        rig.world.interrupt_with(None);
        let later = later.lock().unwrap().unwrap();
        assert!(!rig.space.is_out_of_reach(&later));
        assert!(!regain(rig, later, &area, BOTH));
        assert_eq!(rig.space.usage().retired, 1);
        rig.space.flush().unwrap();
        assert!(regain(rig, later, &area, BOTH));
        assert_eq!(rig.world.reaches(iova, true), Err(TRANSLATION));
    }
}

#[test]
fn what_an_smmu_does_not_confirm_is_not_given_back_before_its_reset() {
    for config in WAITING {
        let mut config = config();
        config.held = 2;
        // As few as there can be.
        match &mut config.reclaim {
            Reclaim::Lazy(bounds) => *bounds = bounds.with_queue(17).with_age(Duration::MAX),
            Reclaim::Deferred(bounds) => *bounds = bounds.with_queue(17).with_age(Duration::MAX),
            Reclaim::Strict => panic!("it waits"),
        }
        let rig = Rig::new(config);
        let all: Vec<_> = (0..22).map(|_| lend(&rig, 0, PAGE)).collect();
        let iovas: Vec<Iova> = all.iter().map(|(_, lent)| lent.iova()).collect();
        iovas.iter().for_each(|iova| assert!(rig.world.reaches(*iova, true).is_ok()));
        wedge(&rig.world, true);
        let mut retiring: Vec<_> = all.into_iter().map(|(_, lent)| retire(&rig, lent)).collect();
        // 17 in the queue, 2 held, and the addresses of the others are lost. No buffer is.
        let usage = rig.space.usage();
        assert_eq!((usage.retired, usage.held, usage.lost_pages), (17, 2, 3));
        assert!(rig.space.flush().is_err());
        assert!(rig.space.tick() == Ok(false));
        let unconfirmed = rig.space.take_back(retiring.pop().unwrap().into()).map(drop);
        let Refused { value: lent, error } = unconfirmed.unwrap_err();
        assert!(matches!(error, UnmapError::Unconfirmed(_)), "{error}");
        retiring.push(retire(&rig, lent));
        let refuse = |retiring| rig.space.recover(retiring).unwrap_err();
        let retiring: Vec<_> = retiring.into_iter().map(refuse).collect();
        wedge(&rig.world, false);
        rig.iommu.reset(&rig.smmu).unwrap();
        let retiring: Vec<_> = retiring.into_iter().map(refuse).collect();
        rig.space.flush().unwrap();
        iovas.iter().for_each(|iova| assert!(rig.world.reaches(*iova, true).is_err()));
        retiring.into_iter().for_each(|one| assert!(rig.space.recover(one).is_ok()));
        let usage = rig.space.usage();
        assert_eq!((usage.retired, usage.held, usage.lost_pages), (0, 0, 3));
    }
}

#[test]
fn another_spaces_is_refused() {
    for config in [lent, deferred, DmaConfig::strict] {
        let (rig, other) = (Rig::new(config()), Rig::new(config()));
        let (_, lent) = lend(&rig, 0, PAGE);
        let Refused { value: lent, error } = other.space.retire(lent).map(drop).unwrap_err();
        assert_eq!(error, UnmapError::OtherSpace);
        assert!(rig.world.reaches(lent.iova(), true).is_ok());
        let retiring = retire(&rig, lent);
        [&rig, &other].iter().for_each(|rig| rig.space.flush().unwrap());
        let later = retiring.later();
        assert!(rig.space.is_out_of_reach(&later) && !other.space.is_out_of_reach(&later));
        let retiring = other.space.recover(retiring).unwrap_err();
        let lent = other.space.take_back(retiring.into()).map(drop).unwrap_err().value;
        assert!(rig.space.take_back(lent).is_ok());
        rig.close();
        other.close();
    }
}

#[test]
fn what_is_not_mapped_is_refused_and_nothing_changed() {
    for config in [lent, deferred, DmaConfig::strict, DmaConfig::lazy] {
        let rig = Rig::new(config());
        for (offset, len) in [(0, PAGE), (5, 50), (9, 4 * PAGE), (0, 40 * PAGE)] {
            let area = rig.world.area(offset, len);
            let iova = rig.map(&area, BOTH);
            for wrong in [iova.0 + 0x1000, iova.0 + 1, u64::MAX - 7] {
                // SAFETY: it is not mapped there.
                let error = unsafe { rig.space.unmap_later(Iova(wrong), area.pointer, BOTH) };
                assert_eq!(error, Err(UnmapError::NotMapped { iova: Iova(wrong) }));
            }
            assert_eq!(rig.space.usage().retired, 0, "{offset} {len}");
            assert!(rig.world.reaches(iova, true).is_ok());
            rig.unmap(iova, &area, BOTH);
            rig.space.flush().unwrap();
        }
        rig.close();
    }
}

#[test]
fn a_full_queue_an_old_one_and_a_timer_flush() {
    let rig = Rig::new(bounded(Lazy::default().with_queue(20).with_age(Duration::from_millis(1))));
    rig.world.stop_clock();
    // A pool: what is out of reach comes first out of it.
    let mut pool: VecDeque<Retiring<Owned>> = VecDeque::new();
    for round in 0..100 {
        let is_over =
            |pool: &VecDeque<Retiring<Owned>>| rig.space.is_out_of_reach(&pool[0].later());
        let buffer = match pool.len() > 20 && is_over(&pool) {
            true => rig.space.recover(pool.pop_front().unwrap()).unwrap(),
            // SAFETY: the area is not used otherwise.
            false => unsafe { rig.world.area(0, PAGE).into_static() },
        };
        let lent = rig.space.lend(buffer, BOTH).map_err(Refused::into_error).unwrap();
        rig.world.reaches(lent.iova(), true).unwrap();
        pool.push_back(retire(&rig, lent));
        assert!(rig.space.usage().retired <= 20, "round {round}");
    }
    // The twenty-first of each finds the queue full.
    assert!(pool.len() < 42, "{}", pool.len());
    rig.space.flush().unwrap();
    pool.drain(..).for_each(|one| assert!(rig.space.recover(one).is_ok()));
    // The next unmap, once it is old.
    let (_, lent) = lend(&rig, 0, PAGE);
    let first = retire(&rig, lent);
    rig.world.pass(Duration::from_millis(1));
    let (_, lent) = lend(&rig, 0, PAGE);
    let second = retire(&rig, lent);
    assert!(rig.space.recover(first).is_ok() && rig.space.recover(second).is_ok());
    // And a timer, on another CPU.
    let (_, lent) = lend(&rig, 0, PAGE);
    let third = retire(&rig, lent);
    run_on(1);
    rig.world.pass(Duration::from_nanos(999_999));
    assert_eq!(rig.space.tick(), Ok(false));
    let third = rig.space.recover(third).unwrap_err();
    rig.world.pass(Duration::from_nanos(1));
    assert_eq!(rig.space.tick(), Ok(true));
    assert!(rig.space.recover(third).is_ok());
    run_on(0);
    rig.close();
}

#[test]
fn caches_forget_what_was_lent_when_it_is_out_of_reach() {
    for config in WAITING {
        // A queue that is full has its flush inside of the unmap, which makes no difference.
        for full in [false, true] {
            let rig = Rig::new(config().with_coherent(false));
            rig.world.stop_clock();
            let done = || std::mem::take(&mut *rig.world.maintenance.lock().unwrap());
            let (whole, part) = (rig.world.area(0, 2 * PAGE), rig.world.area(100, 3 * PAGE));
            let small = rig.world.area(7, 100);
            for direction in [Direction::ToDevice, Direction::FromDevice, BOTH] {
                let is_written = direction != Direction::ToDevice;
                for area in [&whole, &part, &small] {
                    let iova = rig.map(area, direction);
                    let len = area.pointer.len();
                    let page = |at: u64| rig.world.reaches(Iova(at), false).unwrap() & !0xfff;
                    let [head, tail] = [iova.0, iova.0 + len as u64 - 1].map(page);
                    if full {
                        let filler = rig.world.area(0, PAGE);
                        while rig.space.usage().retired < 256 {
                            let at = rig.map(&filler, BOTH);
                            let _ = unmap_later(&rig, at, &filler, BOTH);
                        }
                    }
                    done();
                    let later = unmap_later(&rig, iova, area, direction);
                    assert_eq!(rig.space.is_out_of_reach(&later), full || len == 100);
                    // Those that are copied, at once.
                    let bounced = match len {
                        100 => vec![Invalidate(head, PAGE)],
                        len if len == 2 * PAGE => vec![],
                        _ => vec![Invalidate(head, PAGE), Invalidate(tail, PAGE)],
                    };
                    let expected = if is_written { bounced } else { vec![] };
                    assert_eq!(done(), expected, "{direction:?}, {len}");
                    rig.space.flush().unwrap();
                    assert!(regain(&rig, later, area, direction));
                    // Then the others, and no line of those: copies lie there.
                    let lent = match len {
                        100 => vec![],
                        len if len == 2 * PAGE => {
                            vec![Invalidate(rig.world.physical(area, 0), 2 * PAGE)]
                        }
                        _ => vec![Invalidate(rig.world.physical(area, PAGE - 100), 2 * PAGE)],
                    };
                    let expected = if is_written { lent } else { vec![] };
                    assert_eq!(done(), expected, "{direction:?}, {len}");
                }
            }
            // The same of buffers with an owner.
            let (area, lent) = lend(&rig, 0, PAGE);
            done();
            let retiring = retire(&rig, lent);
            rig.space.flush().unwrap();
            assert_eq!(done(), []);
            assert!(rig.space.recover(retiring).is_ok());
            assert_eq!(done(), [Invalidate(rig.world.physical(&area, 0), PAGE)]);
            rig.close();
        }
    }
    // Where the space is strict, before it returns, and not again: the caller may have written since.
    let rig = Rig::new(DmaConfig::strict().with_coherent(false));
    let area = rig.world.area(0, PAGE);
    let iova = rig.map(&area, BOTH);
    rig.world.maintenance.lock().unwrap().clear();
    let later = unmap_later(&rig, iova, &area, BOTH);
    assert!(regain(&rig, later, &area, BOTH));
    let done = rig.world.maintenance.lock().unwrap().clone();
    assert_eq!(done, [Invalidate(rig.world.physical(&area, 0), PAGE)]);
    rig.close();
}

#[test]
fn a_space_is_closed_with_buffers_that_are_out_of_reach_of_it_and_not_with_lent_ones() {
    let Rig { world, space, master, .. } = Rig::new(lent());
    let area = world.area(0, PAGE);
    // SAFETY: the area is not used otherwise.
    let lent = space.lend(unsafe { area.into_static() }, BOTH);
    let lent = lent.map_err(Refused::into_error).unwrap();
    let Refused { value: space, error } = space.close().unwrap_err();
    assert_eq!(error, CloseError::Mapped { pages: 1 });
    world.reaches(lent.iova(), true).unwrap();
    let retiring = space.retire(lent).map_err(Refused::into_error).unwrap();
    let Refused { value: space, error } = space.close().unwrap_err();
    assert_eq!(error, CloseError::Attached { masters: 1, nests: 0 });
    // It has flushed for that.
    assert!(space.recover(retiring).is_ok());
    space.detach(&master).unwrap();
    assert!(space.close().is_ok());
}

#[test]
fn what_a_closed_space_had_not_given_back_is_had_from_what_is_left_of_it() {
    for (config, coherent) in WAITING.iter().flat_map(|config| [(config, true), (config, false)]) {
        let rig = Rig::new(config().with_coherent(coherent));
        rig.world.stop_clock();
        let world = rig.world.clone();
        let whole = [(0, 2 * PAGE), (300, 3 * PAGE)].map(|(offset, len)| {
            let (area, lent) = lend(&rig, offset, len);
            let iova = lent.iova();
            rig.world.write(iova, &pattern(3, len)).unwrap();
            let retiring = retire(&rig, lent);
            rig.world.write(Iova(iova.0 + PAGE as u64), &[0x77; 9]).unwrap();
            (area, iova, retiring)
        });
        let small = retire(&rig, lend(&rig, 5, 90).1);
        let raw = rig.world.area(0, PAGE);
        let iova = rig.map(&raw, BOTH);
        rig.world.write(iova, &pattern(4, PAGE)).unwrap();
        let later = unmap_later(&rig, iova, &raw, BOTH);
        assert_eq!(rig.space.usage().retired, 1 + 3 + 2 + 1);
        rig.close_and(|closed| {
            let done = || std::mem::take(&mut *world.maintenance.lock().unwrap());
            let forgotten = |area: Area, at| match coherent {
                true => vec![],
                false => vec![Invalidate(world.physical(&area, at), 2 * PAGE)],
            };
            done();
            for (area, iova, retiring) in whole {
                let len = retiring.len();
                assert!(world.reaches(iova, true).is_err());
                let buffer = closed.recover(retiring).unwrap();
                assert_eq!(buffer.as_mut_ptr(), area.pointer.cast().as_ptr());
                // With what was written after it had been unmapped.
                let mut expected = pattern(3, len);
                expected[PAGE..PAGE + 9].fill(0x77);
                assert!(*buffer == expected);
                assert_eq!(done(), forgotten(area, if len == 2 * PAGE { 0 } else { PAGE - 300 }));
            }
            assert!(closed.recover(small).is_ok());
            assert_eq!(done(), [], "it was only copied");
            // SAFETY: it is what `unmap_later` returned for it.
            assert!(unsafe { closed.regain(later, raw.pointer, BOTH) });
            assert!(raw.bytes() == pattern(4, PAGE));
            assert_eq!(done().len(), usize::from(!coherent));
        });
    }
}

#[test]
fn a_closed_space_gives_back_what_an_smmu_had_not_confirmed() {
    let rig = Rig::new(DmaConfig::strict());
    let (_, lent) = lend(&rig, 0, 2 * PAGE);
    let iova = lent.iova();
    rig.world.write(iova, &pattern(1, 2 * PAGE)).unwrap();
    wedge(&rig.world, true);
    let Refused { value: lent, error } = rig.space.take_back(lent).map(drop).unwrap_err();
    assert!(matches!(error, UnmapError::Unconfirmed(_)), "{error}");
    rig.world.write(iova, &[0x77; 9]).unwrap();
    wedge(&rig.world, false);
    rig.iommu.reset(&rig.smmu).unwrap();
    rig.close_and(|closed| {
        let buffer = closed.recover(lent).unwrap();
        assert_eq!((&buffer[..9], &buffer[9..]), (&[0x77; 9][..], &pattern(1, 2 * PAGE)[9..]));
    });
}

#[test]
fn a_space_is_not_closed_while_an_smmu_lets_devices_reach_what_it_has_unmapped() {
    for config in WAITING {
        let Rig { world, iommu, smmu, space, master } = Rig::new(config());
        let area = world.area(0, PAGE);
        // SAFETY: the area is not used otherwise.
        let lent = space.lend(unsafe { area.into_static() }, BOTH);
        let lent = lent.map_err(Refused::into_error).unwrap();
        let iova = lent.iova();
        world.reaches(iova, true).unwrap();
        // Nor does it tell whether the master is detached.
        wedge(&world, true);
        assert!(space.detach(&master).is_err());
        let retiring = space.retire(lent).map_err(Refused::into_error).unwrap();
        assert!(world.reaches(iova, true).is_ok());
        let Refused { value: space, error } = space.close().unwrap_err();
        assert!(matches!(error, CloseError::Unconfirmed(_)), "{error}");
        let retiring = space.recover(retiring).unwrap_err();
        wedge(&world, false);
        iommu.reset(&smmu).unwrap();
        let closed = space.close().unwrap();
        assert!(world.reaches(iova, true).is_err());
        assert!(closed.recover(retiring).is_ok());
    }
}

#[test]
fn another_spaces_is_refused_by_what_is_left_of_one() {
    let [rig, other] = [Rig::new(lent()), Rig::new(lent())];
    let retiring = retire(&rig, lend(&rig, 0, PAGE).1);
    let raw = rig.world.area(0, PAGE);
    let later = unmap_later(&rig, rig.map(&raw, BOTH), &raw, BOTH);
    let mut waiting = None;
    other.close_and(|other| {
        waiting = Some(other.recover(retiring).unwrap_err());
        // SAFETY: it is what `unmap_later` returned for it.
        assert!(!unsafe { other.regain(later, raw.pointer, BOTH) });
    });
    let iommu = rig.iommu.clone();
    rig.close_and(|closed| {
        // Nor has one that is made later the same number.
        let next = DmaSpace::new(&iommu, lent()).unwrap();
        drop(iommu);
        let lent = next.take_back(waiting.unwrap()).map(drop).unwrap_err().value;
        let lent = next.close().unwrap().recover(lent).unwrap_err();
        assert!(closed.recover(lent).is_ok());
        // SAFETY: as above.
        assert!(unsafe { closed.regain(later, raw.pointer, BOTH) });
        assert_eq!(format!("{closed:?}").find("Closed { config: DmaConfig {"), Some(0));
    });
}

#[test]
fn a_buffer_whose_handle_is_dropped_is_leaked_and_nothing_else() {
    struct Told(Owned, Arc<AtomicUsize>);
    // SAFETY: a unique reference for ever.
    unsafe impl smmuv3_dma::Buffer for Told {
        fn memory(&mut self) -> std::ptr::NonNull<[u8]> {
            std::ptr::NonNull::from(&mut *self.0)
        }
    }
    impl Drop for Told {
        fn drop(&mut self) {
            self.1.fetch_add(1, Ordering::Relaxed);
        }
    }
    let rig = Rig::new(lent());
    let drops = Arc::new(AtomicUsize::new(0));
    let make = || {
        // SAFETY: the area is not used otherwise.
        let buffer = Told(unsafe { rig.world.area(0, PAGE).into_static() }, drops.clone());
        let lent = rig.space.lend(buffer, BOTH).map_err(Refused::into_error).unwrap();
        rig.world.reaches(lent.iova(), true).unwrap();
        rig.space.retire(lent).map_err(Refused::into_error).unwrap()
    };
    let first = make();
    let text = format!("{first:?}");
    assert_eq!(text, "Retiring { len: 4096, .. }");
    drop(first);
    let second = make();
    rig.space.flush().unwrap();
    assert_eq!(drops.load(Ordering::Relaxed), 0);
    drop(rig.space.recover(second));
    assert_eq!(drops.load(Ordering::Relaxed), 1);
    rig.close();
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real threads that map, use and unmap on one space, strictly, lazily and deferred, on an adversarial SMMU.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

mod common;

use std::collections::{BTreeMap, VecDeque};
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Area, PAGE, Rig, deferred, pattern, run_on};
use smmuv3::Iova;
use smmuv3_dma::{Direction, DmaConfig, Lazy, Reclaim, Retiring};
use smmuv3_model::Adversary;

const THREADS: usize = 4;
const ROUNDS: usize = 4000;

/// What is mapped by anybody: start and end, in pages.
#[derive(Default)]
struct Live(Mutex<BTreeMap<u64, u64>>);

fn pages(iova: Iova, len: usize) -> (u64, u64) {
    (iova.0 / PAGE as u64, (iova.0 + len as u64).div_ceil(PAGE as u64))
}

impl Live {
    fn add(&self, iova: Iova, len: usize) {
        let (start, end) = pages(iova, len);
        let mut live = self.0.lock().unwrap();
        if let Some((other, until)) = live.range(..end).next_back() {
            assert!(*until <= start, "{start:#x} to {end:#x} overlaps {other:#x} to {until:#x}");
        }
        live.insert(start, end);
    }

    fn remove(&self, iova: Iova, len: usize) {
        let (start, end) = pages(iova, len);
        assert_eq!(self.0.lock().unwrap().remove(&start), Some(end));
    }
}

fn work(rig: &Rig, live: &Live, thread: usize, areas: &[Area]) {
    let mut random = fastrand::Rng::with_seed(thread as u64 + 1);
    let mut mapped: Vec<(Iova, Area, Direction, Vec<u8>)> = Vec::new();
    let mut free: Vec<Area> = areas.to_vec();
    for round in 0..ROUNDS {
        // Now and then on another's CPU.
        run_on(if random.u8(..) < 20 { random.usize(..THREADS) } else { thread });
        if random.bool()
            && let Some(area) = free.pop()
        {
            let len = area.pointer.len();
            let from = random.usize(..len);
            let part = area.part(from..from + random.usize(1..=(len - from).min(6000)));
            let len = part.pointer.len();
            let direction = *random.choice(&[Direction::ToDevice, Direction::Both]).unwrap();
            let sent = pattern(round as u8, len);
            part.fill(&sent);
            let iova = rig.map(&part, direction);
            live.add(iova, len);
            assert!(rig.world.read(iova, len).unwrap() == sent, "thread {thread}, round {round}");
            let expected = if direction == Direction::Both {
                let written = pattern(random.u8(..), len);
                rig.world.write(iova, &written).unwrap();
                written
            } else {
                sent
            };
            mapped.push((iova, part, direction, expected));
        } else if !mapped.is_empty() {
            let (iova, part, direction, expected) =
                mapped.swap_remove(random.usize(..mapped.len()));
            // Before it can be given out again.
            live.remove(iova, part.pointer.len());
            rig.unmap(iova, &part, direction);
            assert!(part.bytes() == expected, "thread {thread}, round {round}");
            let area = areas.iter().find(|area| contains(area, &part)).unwrap();
            free.push(*area);
        }
        if random.u8(..) == 0 {
            rig.space.flush().unwrap();
        }
    }
    for (iova, part, direction, expected) in mapped {
        live.remove(iova, part.pointer.len());
        rig.unmap(iova, &part, direction);
        assert!(part.bytes() == expected);
    }
}

fn contains(area: &Area, part: &Area) -> bool {
    let start = |area: &Area| area.pointer.cast::<u8>().as_ptr().addr();
    (start(area)..start(area) + area.pointer.len()).contains(&start(part))
}

fn stress(config: DmaConfig) {
    let rig = Rig::with(config, THREADS, Adversary::ALL);
    let live = Live::default();
    let areas: Vec<Vec<Area>> = (0..THREADS)
        .map(|_| (0..12).map(|index| rig.world.area(index * 300, 12_000)).collect())
        .collect();
    std::thread::scope(|scope| {
        for (thread, areas) in areas.iter().enumerate() {
            let (rig, live) = (&rig, &live);
            scope.spawn(move || work(rig, live, thread, areas));
        }
    });
    run_on(0);
    rig.space.flush().unwrap();
    let usage = rig.space.usage();
    assert_eq!((usage.mapped_pages, usage.retired, usage.held, usage.lost_pages), (0, 0, 0, 0));
    let pages = rig.space.trim();
    assert_eq!(pages, usage.bounce_pages);
    rig.close();
}

/// Half of the addresses are free at any time, but each CPU could keep all of them for itself.
#[test]
fn no_cpu_keeps_from_others_what_is_free() {
    const EACH: usize = 4;
    let config = DmaConfig::strict().with_window(Iova(0x10_0000), 17).with_whole_pages(true);
    let rig = Rig::with(config, THREADS, Adversary::NONE);
    let areas: Vec<Vec<Area>> =
        (0..THREADS).map(|_| (0..EACH).map(|_| rig.world.area(0, PAGE)).collect()).collect();
    std::thread::scope(|scope| {
        for (thread, areas) in areas.iter().enumerate() {
            let rig = &rig;
            scope.spawn(move || {
                run_on(thread);
                for _ in 0..10 * ROUNDS {
                    let mapped: Vec<Iova> =
                        areas.iter().map(|area| rig.map(area, Direction::Both)).collect();
                    for (iova, area) in mapped.iter().zip(areas) {
                        rig.unmap(*iova, area, Direction::Both);
                    }
                }
            });
        }
    });
    run_on(0);
    rig.close();
}

// In each of the following, what is mapped, and what the others' queues hold, lies on less than all aligned blocks of the
// largest size; what CPUs may keep is more than there is.

#[test]
fn threads_on_a_strict_space() {
    stress(DmaConfig::strict().with_window(Iova(0x10_0000), 20));
}

#[test]
fn threads_on_a_lazy_space() {
    let bounds = Lazy::default().with_copy_up_to(5000).with_queue(24);
    stress(
        DmaConfig::default()
            .with_reclaim(Reclaim::Lazy(bounds))
            .with_window(Iova(0x20_0000), 21)
            .with_bounce_pages(200),
    );
}

#[test]
fn threads_on_a_deferred_space() {
    let Reclaim::Deferred(bounds) = deferred().reclaim else { panic!("it is deferred") };
    let config = deferred().with_reclaim(Reclaim::Deferred(bounds.with_queue(24)));
    stress(config.with_window(Iova(0x20_0000), 21).with_bounce_pages(200));
}

/// Several threads retire into a pool of all, and whoever needs a buffer takes one that is out of reach, whoever put it there.
fn share_a_pool(config: DmaConfig) {
    type Owned = &'static mut [u8];
    let rig = Rig::with(config.with_window(Iova(0x10_0000), 20), THREADS, Adversary::ALL);
    // With the addresses by which devices may reach them.
    let pool: Mutex<VecDeque<(Iova, Retiring<Owned>)>> = Mutex::default();
    let (taken, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let fresh = || {
        // SAFETY: the area is not used otherwise.
        (rig.world.area_pages() < 200).then(|| unsafe { rig.world.area(0, PAGE).into_static() })
    };
    let take = |thread: usize| {
        let Some((at, first)) = pool.lock().unwrap().pop_front() else { return fresh() };
        match rig.space.recover(first) {
            Ok(buffer) => {
                taken.fetch_add(1, Ordering::Relaxed);
                // What is kept under those addresses, if they are another's by now, leads elsewhere.
                let own = rig.world.physical(&Area { pointer: NonNull::from(&mut *buffer) }, 0);
                assert_ne!(rig.world.reaches(at, true), Ok(own), "thread {thread}");
                Some(buffer)
            }
            Err(first) => {
                refused.fetch_add(1, Ordering::Relaxed);
                pool.lock().unwrap().push_front((at, first));
                fresh()
            }
        }
    };
    let work = |thread: usize| {
        let mut random = fastrand::Rng::with_seed(thread as u64 + 1);
        for round in 0..ROUNDS / 2 {
            // Now and then on another's CPU.
            run_on(if random.u8(..) < 20 { random.usize(..THREADS) } else { thread });
            let Some(buffer) = take(thread) else {
                rig.space.flush().unwrap();
                continue;
            };
            let Ok(lent) = rig.space.lend(buffer, Direction::Both) else { panic!("not lent") };
            let at = lent.iova();
            rig.world.write(at, &pattern(round as u8, PAGE)).unwrap();
            let Ok(retiring) = rig.space.retire(lent) else { panic!("not unmapped") };
            pool.lock().unwrap().push_back((at, retiring));
        }
    };
    std::thread::scope(|scope| {
        let work = &work;
        (0..THREADS).for_each(|thread| drop(scope.spawn(move || work(thread))));
    });
    run_on(0);
    let counts = [&taken, &refused].map(|count| count.load(Ordering::Relaxed));
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    rig.space.flush().unwrap();
    for (_, one) in pool.into_inner().unwrap() {
        assert!(rig.space.recover(one).is_ok());
    }
    let usage = rig.space.usage();
    assert_eq!((usage.mapped_pages, usage.retired, usage.held, usage.lost_pages), (0, 0, 0, 0));
    rig.close();
}

#[test]
fn threads_that_share_a_pool_take_out_nothing_that_a_device_reaches() {
    let bounds = Lazy::default().with_copy_up_to(0).with_queue(24);
    share_a_pool(DmaConfig::default().with_reclaim(Reclaim::Lazy(bounds)));
    share_a_pool(deferred());
}

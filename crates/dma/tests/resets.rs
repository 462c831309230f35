// SPDX-License-Identifier: MIT OR Apache-2.0
//! Threads that map and unmap on an adversarial SMMU that stops answering and is reset, again and again.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Area, PAGE, Rig, run_on, wedge};
use smmuv3::Iova;
use smmuv3_dma::{Direction, DmaConfig, Lazy, Reclaim, UnmapError};
use smmuv3_model::Adversary;

const THREADS: usize = 3;
const ROUNDS: usize = 3000;
const BOTH: Direction = Direction::Both;

/// The device reaches no byte of `area` by the addresses from `iova` on.
#[track_caller]
fn check_gone(rig: &Rig, iova: Iova, area: &Area) {
    let len = area.pointer.len();
    for at in [0, len / 2, len - 1] {
        let found = rig.world.reaches(Iova(iova.0 + at as u64), true);
        assert_ne!(found, Ok(rig.world.physical(area, at)), "byte {at} of {len}");
    }
}

/// Unmaps a buffer of a round, which no device reaches then; how often that was not confirmed.
type Unmap = fn(&Rig, Iova, &Area) -> usize;

/// How many unmaps were not confirmed.
fn work(rig: &Rig, thread: usize, areas: &[Area], unmap: Unmap) -> usize {
    let mut random = fastrand::Rng::with_seed(thread as u64 + 1);
    let mut unconfirmed = 0;
    for round in 0..ROUNDS {
        run_on(if random.u8(..) < 20 { random.usize(..THREADS) } else { thread });
        let area = areas[round % areas.len()];
        let from = random.usize(..area.pointer.len());
        let area = area.part(from..area.pointer.len());
        // SAFETY: nobody else has the area.
        let Ok(iova) = (unsafe { rig.space.map(area.pointer, BOTH) }) else { continue };
        for at in (0..area.pointer.len()).step_by(PAGE) {
            let _ = rig.world.reaches(Iova(iova.0 + at as u64), true);
        }
        unconfirmed += unmap(rig, iova, &area);
        check_gone(rig, iova, &area);
    }
    unconfirmed
}

fn unmap(rig: &Rig, iova: Iova, area: &Area) -> usize {
    // SAFETY: nobody else has the area.
    match unsafe { rig.space.unmap(iova, area.pointer, BOTH) } {
        Ok(()) => 0,
        Err(UnmapError::Unconfirmed(_)) => {
            // Others reset it.
            while rig.space.flush().is_err() {
                std::thread::yield_now();
            }
            1
        }
        Err(error) => panic!("{iova}: {error}"),
    }
}

fn stress(config: DmaConfig, unmap: Unmap) {
    for seed in 0..2 {
        let rig = Rig::with(config, 2, Adversary::ALL);
        let areas: Vec<Vec<Area>> = (0..THREADS)
            .map(|_| (0..8).map(|index| rig.world.area(index * 300, 24_000)).collect())
            .collect();
        let working = AtomicUsize::new(THREADS);
        let mut unconfirmed = 0;
        std::thread::scope(|scope| {
            let (rig, working) = (&rig, &working);
            let workers: Vec<_> = areas
                .iter()
                .enumerate()
                .map(|(thread, areas)| {
                    scope.spawn(move || {
                        let result =
                            catch_unwind(AssertUnwindSafe(|| work(rig, thread, areas, unmap)));
                        working.fetch_sub(1, Ordering::Relaxed);
                        result
                    })
                })
                .collect();
            let mut random = fastrand::Rng::with_seed(seed);
            while working.load(Ordering::Relaxed) != 0 {
                wedge(&rig.world, random.bool());
                (0..random.usize(..200)).for_each(|_| std::thread::yield_now());
                wedge(&rig.world, false);
                let _ = rig.iommu.reset(&rig.smmu);
            }
            while rig.iommu.reset(&rig.smmu).is_err() {}
            for worker in workers {
                unconfirmed += worker.join().unwrap().unwrap_or_else(|_| panic!("see above"));
            }
        });
        assert!(unconfirmed > 0);
        run_on(0);
        rig.space.flush().unwrap();
        let usage = rig.space.usage();
        assert_eq!((usage.mapped_pages, usage.retired, usage.held), (0, 0, 0), "{usage:?}");
        assert_eq!(rig.space.trim(), usage.bounce_pages);
        rig.close();
    }
}

fn bounded(config: DmaConfig) -> DmaConfig {
    // Room for all that can be held.
    let mut config = config.with_window(Iova(0x10_0000), 20).with_bounce_pages(200);
    config.held = 4096;
    config
}

#[test]
fn what_was_confirmed_is_gone_whoever_resets_the_smmu_meanwhile() {
    stress(bounded(DmaConfig::strict()), unmap);
}

#[test]
fn what_was_copied_is_gone_whoever_resets_the_smmu_meanwhile() {
    let bounds = Lazy::default().with_copy_up_to(9000).with_queue(24);
    stress(bounded(DmaConfig::default().with_reclaim(Reclaim::Lazy(bounds))), unmap);
}

#[test]
fn what_was_given_back_is_gone_whoever_resets_the_smmu_meanwhile() {
    let bounds = Lazy::default().with_copy_up_to(0).with_queue(24);
    let config = bounded(DmaConfig::default().with_reclaim(Reclaim::Lazy(bounds)));
    stress(config, |rig, iova, area| rig.give_back(iova, area, BOTH));
}

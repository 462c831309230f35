// SPDX-License-Identifier: MIT OR Apache-2.0
//! Interrupt handlers that map and unmap, wherever they can interrupt a call on the same CPU.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Area, PAGE, Rig, deferred, pattern, wedge};
use smmuv3::Iova;
use smmuv3_dma::{Direction, DmaConfig, Lazy, Reclaim};

const BOTH: Direction = Direction::Both;

/// Maps, uses and unmaps buffers while a handler does the same wherever it can; how often it did.
fn interrupted(config: DmaConfig, rounds: usize) -> usize {
    interrupted_with(config, rounds, |rig, iova, area| rig.unmap(iova, area, BOTH))
}

/// With this way of unmapping.
fn interrupted_with(config: DmaConfig, rounds: usize, unmap: fn(&Rig, Iova, &Area)) -> usize {
    let rig: &'static Rig = Box::leak(Box::new(Rig::new(config)));
    let count = Arc::new(AtomicUsize::new(0));
    let theirs = [rig.world.area(700, 900), rig.world.area(0, 3 * PAGE)];
    let handler = {
        let count = count.clone();
        move || {
            let nth = count.fetch_add(1, Ordering::Relaxed);
            let area = theirs[nth % 2];
            let (sent, received) =
                (pattern(nth as u8, area.pointer.len()), pattern(!nth as u8, area.pointer.len()));
            area.fill(&sent);
            let iova = rig.map(&area, BOTH);
            assert!(rig.world.read(iova, sent.len()).unwrap() == sent);
            rig.world.write(iova, &received).unwrap();
            unmap(rig, iova, &area);
            assert!(area.bytes() == received);
        }
    };
    let mine = [(5, 100), (0, 2 * PAGE), (4000, 5 * PAGE), (0, 20 * PAGE)];
    let mine = mine.map(|(offset, len)| rig.world.area(offset, len));
    for round in 0..rounds {
        let area = mine[round % mine.len()];
        let (sent, received) =
            (pattern(round as u8, area.pointer.len()), pattern(!round as u8, area.pointer.len()));
        area.fill(&sent);
        rig.world.interrupt_with(Some(Arc::new(handler.clone())));
        let iova = rig.map(&area, BOTH);
        rig.world.interrupt_with(None);
        assert!(rig.world.read(iova, sent.len()).unwrap() == sent, "round {round}");
        rig.world.write(iova, &received).unwrap();
        rig.world.interrupt_with(Some(Arc::new(handler.clone())));
        unmap(rig, iova, &area);
        rig.world.interrupt_with(None);
        assert!(area.bytes() == received, "round {round}");
        let usage = rig.space.usage();
        assert_eq!((usage.mapped_pages, usage.held, usage.lost_pages), (0, 0, 0));
    }
    rig.space.flush().unwrap();
    assert_eq!(rig.space.usage().retired, 0);
    count.load(Ordering::Relaxed)
}

#[test]
fn handlers_map_and_unmap_in_the_middle_of_it() {
    assert!(interrupted(DmaConfig::strict(), 200) > 1000);
    let bounds = Lazy::default().with_copy_up_to(3 * PAGE).with_queue(17);
    let lazy = DmaConfig::default().with_reclaim(Reclaim::Lazy(bounds));
    assert!(interrupted(lazy, 200) > 1000);
    // Where they take each other's last bounce pages.
    assert!(interrupted(lazy.with_bounce_pages(24), 200) > 1000);
    assert!(interrupted(deferred(), 200) > 1000);
}

#[test]
fn handlers_have_buffers_given_back_in_the_middle_of_flushes() {
    let unmap = |rig: &Rig, iova, area: &Area| {
        assert_eq!(rig.give_back(iova, area, BOTH), 0);
    };
    let lent = Lazy::default().with_copy_up_to(0).with_queue(17);
    let lent = DmaConfig::default().with_reclaim(Reclaim::Lazy(lent));
    for config in [lent, deferred(), DmaConfig::lazy(), DmaConfig::strict()] {
        assert!(interrupted_with(config, 200, unmap) > 1000);
    }
}

#[test]
fn handlers_may_be_called_while_an_smmu_is_given_up() {
    let rig: &'static Rig = Box::leak(Box::new(Rig::new(DmaConfig::lazy())));
    let theirs = rig.world.area(700, 900);
    let large = rig.world.area(0, 20 * PAGE);
    let iova = rig.map(&large, BOTH);
    rig.world.reaches(iova, true).unwrap();
    wedge(&rig.world, true);
    rig.world.interrupt_with(Some(Arc::new(move || {
        // Copied, so that nothing of it depends on the SMMU.
        let iova = rig.map(&theirs, BOTH);
        rig.unmap(iova, &theirs, BOTH);
    })));
    // SAFETY: it is not used for anything else.
    let result = unsafe { rig.space.unmap(iova, large.pointer, BOTH) };
    rig.world.interrupt_with(None);
    assert!(matches!(result, Err(smmuv3_dma::UnmapError::Unconfirmed(_))));
    wedge(&rig.world, false);
    rig.iommu.reset(&rig.smmu).unwrap();
    rig.space.flush().unwrap();
    let usage = rig.space.usage();
    assert_eq!(
        (usage.held, usage.retired, usage.mapped_pages),
        (0, 0, usage.lost_pages as u64 / 2)
    );
}

#[test]
fn a_bounce_page_shows_a_device_nothing_of_the_last_buffer_at_any_moment() {
    for config in [DmaConfig::strict(), DmaConfig::lazy(), deferred()] {
        let rig: &'static Rig = Box::leak(Box::new(Rig::new(config)));
        let secret = rig.world.area(100, 2000);
        secret.fill(&[0xaa; 2000]);
        let iova = rig.map(&secret, Direction::ToDevice);
        rig.unmap(iova, &secret, Direction::ToDevice);
        rig.space.flush().unwrap();
        let other = rig.world.area(200, 10);
        // The same page of addresses is used again.
        let page = smmuv3::Iova(iova.0 - 100);
        let seen = Arc::new(AtomicUsize::new(0));
        let look = {
            let seen = seen.clone();
            move || {
                if let Ok(bytes) = rig.world.read(page, PAGE) {
                    assert!(!bytes.contains(&0xaa), "a device saw what it was not given");
                    seen.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        rig.world.interrupt_with(Some(Arc::new(look)));
        let iova = rig.map(&other, BOTH);
        rig.unmap(iova, &other, BOTH);
        rig.world.interrupt_with(None);
        assert_eq!(iova.0, page.0 + 200);
        assert!(seen.load(Ordering::Relaxed) > 0);
    }
}

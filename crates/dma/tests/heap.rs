// SPDX-License-Identifier: MIT OR Apache-2.0
//! A heap that fails at each possible moment while a space is made, and that nothing uses afterwards.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::{Area, PAGE, Rig, deferred, is_inside, wedge};
use smmuv3::CreateError;
use smmuv3_dma::{Direction, DmaConfig, DmaSpace, NewError};

thread_local! {
    /// Whether allocations count, and how many there were.
    static COUNTING: Cell<bool> = const { Cell::new(false) };
    static COUNT: Cell<u64> = const { Cell::new(0) };
    /// The one that fails, from 1.
    static FAIL: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: the system's, or nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTING.try_with(Cell::get).unwrap_or(false) && is_inside() {
            COUNT.set(COUNT.get() + 1);
            if COUNT.get() == FAIL.get() {
                return std::ptr::null_mut();
            }
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static HEAP: Counting = Counting;

/// Runs `test` with the `fail`th allocation failing; how many there were.
fn counting<R>(fail: u64, test: impl FnOnce() -> R) -> (R, u64) {
    COUNT.set(0);
    FAIL.set(fail);
    COUNTING.set(true);
    let result = test();
    COUNTING.set(false);
    (result, COUNT.get())
}

#[test]
fn a_space_without_heap_is_not_made() {
    let rig = Rig::new(DmaConfig::lazy());
    let live = rig.world.live();
    let mut failed = 0;
    loop {
        let config = DmaConfig::lazy();
        let (result, count) = counting(failed + 1, || DmaSpace::new(&rig.iommu, config));
        match result {
            Ok(space) => {
                assert!(space.close().is_ok());
                break;
            }
            Err(error) => assert!(
                matches!(error, NewError::NoMemory | NewError::Domain(CreateError::NoMemory)),
                "{error}"
            ),
        }
        failed += 1;
        assert_eq!(count, failed);
        assert_eq!(rig.world.live(), live, "a domain's table is freed");
    }
    assert!(failed > 20, "18 bitmaps, two CPUs' queues, and more: {failed}");
    rig.close();
}

#[test]
fn nothing_takes_heap_once_there_is_a_space() {
    for config in [DmaConfig::strict(), DmaConfig::lazy().with_bounce_pages(64), deferred()] {
        let rig = Rig::new(config);
        let areas: [Area; 3] = [(5, 100), (100, 3 * PAGE), (0, 200 * PAGE)]
            .map(|(offset, len)| rig.world.area(offset, len));
        let everything = || {
            for _ in 0..200 {
                for area in &areas {
                    let iova = rig.map(area, Direction::Both);
                    rig.unmap(iova, area, Direction::Both);
                }
            }
            let iova = rig.map(&areas[1], Direction::Both);
            assert_eq!(rig.give_back(iova, &areas[1], Direction::Both), 0);
            let memory = rig.space.allocate(PAGE, Direction::Both).unwrap();
            let doorbell = smmuv3::PhysAddr(0x800_0000);
            // SAFETY: there is nothing.
            unsafe { rig.space.map_doorbell(doorbell) }.unwrap();
            rig.space.reserve(0x1000_0000..0x2000_0000).unwrap();
            rig.space.free(memory).unwrap();
            rig.space.flush().unwrap();
            rig.space.trim();
            rig.space.usage()
        };
        let (usage, count) = counting(0, everything);
        assert_eq!((usage.mapped_pages, count), (1, 0));
        // Nor when an SMMU fails.
        let iova = rig.map(&areas[2], Direction::Both);
        rig.world.reaches(iova, true).unwrap();
        wedge(&rig.world, true);
        // SAFETY: it is not used.
        let unmap = || unsafe { rig.space.unmap(iova, areas[2].pointer, Direction::Both) };
        let (result, count) = counting(0, unmap);
        assert_eq!(result.is_ok(), config.reclaim == deferred().reclaim, "a flush is not due");
        // The driver may take some, for its list of what is in quarantine.
        assert!(count <= 1, "{count}");
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Maps that fail when a part was mapped already, on an SMMU that does not confirm that it is gone.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Maintenance, PAGE, Rig, wedge};
use smmuv3::{Iova, Refused};
use smmuv3_dma::{Buffer, Direction, DmaConfig, MapError};

const BOTH: Direction = Direction::Both;

/// A rig whose device reads `at` while it is mapped, so that its TLB has it, and whose SMMU does not answer.
fn wedged_with_a_busy_device() -> (&'static Rig, Arc<AtomicBool>) {
    let rig: &'static Rig = Box::leak(Box::new(Rig::new(DmaConfig::strict())));
    wedge(&rig.world, true);
    let at = Iova(rig.space.window().start);
    let seen = Arc::new(AtomicBool::new(false));
    let look = {
        let seen = seen.clone();
        move || {
            seen.fetch_or(rig.world.reaches(at, true).is_ok(), Ordering::Relaxed);
        }
    };
    rig.world.interrupt_with(Some(Arc::new(look)));
    (rig, seen)
}

#[test]
fn a_map_that_fails_says_that_a_device_may_still_reach_the_buffer() {
    let (rig, seen) = wedged_with_a_busy_device();
    // Two tables, of which there is memory for one, and those above.
    let area = rig.world.area(0, 3 << 20);
    let start = Iova(rig.space.window().start);
    let mut stale = 0;
    for left in 0..10 {
        rig.world.frames_left.store(left, Ordering::Relaxed);
        // SAFETY: the buffer is left alone.
        let result = unsafe { rig.space.map(area.pointer, BOTH) };
        rig.world.frames_left.store(usize::MAX / 2, Ordering::Relaxed);
        let Err(error) = result else { break };
        if rig.world.reaches(start, true).is_ok() {
            stale += 1;
            assert!(matches!(error, MapError::Unconfirmed(_)), "{error}");
            assert_eq!(rig.space.usage().held, 1, "its addresses wait");
            break;
        }
    }
    rig.world.interrupt_with(None);
    assert!(seen.load(Ordering::Relaxed) && stale == 1);
}

#[test]
fn a_buffer_that_a_device_may_still_reach_is_not_handed_back() {
    let (rig, seen) = wedged_with_a_busy_device();
    let area = rig.world.area(0, 3 << 20);
    let physical = rig.world.physical(&area, 0);
    let start = Iova(rig.space.window().start);
    // SAFETY: the area is not used otherwise, and outlives what is made of it.
    let mut buffer = unsafe { area.into_static() };
    let mut left = 0;
    let lent = loop {
        assert!(left < 10);
        rig.world.frames_left.store(left, Ordering::Relaxed);
        let result = rig.space.lend(buffer, BOTH);
        rig.world.frames_left.store(usize::MAX / 2, Ordering::Relaxed);
        left += 1;
        match result.map(drop).map_err(|refused| (refused.value, refused.error)).unwrap_err() {
            (Ok(back), _) => {
                assert!(rig.world.reaches(start, true).is_err(), "it is the caller's");
                buffer = back;
            }
            (Err(lent), error) => {
                assert!(matches!(error, MapError::Unconfirmed(_)), "{error}");
                break lent;
            }
        }
    };
    rig.world.interrupt_with(None);
    assert!(seen.load(Ordering::Relaxed));
    assert_eq!(rig.world.reaches(start, true), Ok(physical));
    // It comes back as any other that was not confirmed.
    let lent = rig.space.take_back(lent).map(drop).unwrap_err().value;
    wedge(&rig.world, false);
    rig.iommu.reset(&rig.smmu).unwrap();
    let buffer = rig.space.take_back(lent).map_err(Refused::into_error).unwrap();
    assert_eq!(buffer.len(), 3 << 20);
    assert!(rig.world.reaches(start, true).is_err());
    assert_eq!(rig.space.usage().held, 0);
}

#[test]
fn caches_forget_what_devices_wrote_after_an_unmap_that_was_not_confirmed() {
    let rig = Rig::new(DmaConfig::strict().with_coherent(false));
    let area = rig.world.area(100, 3 * PAGE);
    let physical = rig.world.physical(&area, PAGE - 100);
    // SAFETY: the area is not used otherwise, and outlives what is made of it.
    let buffer = unsafe { area.into_static() };
    let lent = rig.space.lend(buffer, BOTH).map_err(Refused::into_error).unwrap();
    rig.world.reaches(Iova(lent.iova().0 + PAGE as u64), true).unwrap();
    wedge(&rig.world, true);
    let lent = rig.space.take_back(lent).map(drop).unwrap_err().value;
    // The device goes on writing to the page in the middle, while CPUs read lines ahead.
    rig.world.write(Iova(lent.iova().0 + PAGE as u64), &[7; 8]).unwrap();
    wedge(&rig.world, false);
    rig.iommu.reset(&rig.smmu).unwrap();
    rig.world.maintenance.lock().unwrap().clear();
    rig.space.take_back(lent).map_err(Refused::into_error).unwrap();
    let done = rig.world.maintenance.lock().unwrap().clone();
    assert_eq!(done, [Maintenance::Invalidate(physical, 2 * PAGE)]);
    rig.close();
}

/// A buffer that tells when its memory is nobody's any more.
struct Told(&'static mut [u8], Arc<AtomicBool>);

// SAFETY: a unique reference for ever.
unsafe impl Buffer for Told {
    fn memory(&mut self) -> NonNull<[u8]> {
        NonNull::from(&mut *self.0)
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.1.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_platform_that_panics_drops_no_buffer_that_devices_have() {
    let rig: &'static Rig = Box::leak(Box::new(Rig::new(DmaConfig::strict())));
    let area = rig.world.area(0, 1 << 20);
    let start = Iova(rig.space.window().start);
    let dropped = Arc::new(AtomicBool::new(false));
    // SAFETY: the area is not used otherwise, and outlives what is made of it.
    let buffer = Told(unsafe { area.into_static() }, dropped.clone());
    rig.world.interrupt_with(Some(Arc::new(move || {
        assert!(rig.world.reaches(start, true).is_err(), "half-way through");
    })));
    let lend = || rig.space.lend(buffer, BOTH).is_ok();
    assert!(catch_unwind(AssertUnwindSafe(lend)).is_err());
    assert!(rig.world.reaches(start, true).is_ok());
    assert!(!dropped.load(Ordering::Relaxed), "it is mapped");
}

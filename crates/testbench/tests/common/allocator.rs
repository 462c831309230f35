// SPDX-License-Identifier: MIT OR Apache-2.0
//! A heap that can fail on the driver's own allocations, and on no others: who takes this in has it for the whole
//! test program.
#![allow(dead_code, reason = "not every test needs all of it")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr::null_mut;

thread_local! {
    /// This thread is in the driver, and not in the platform below it.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    /// Allocations of the driver on this thread.
    static COUNT: Cell<u64> = const { Cell::new(0) };
    /// The one of them (from 1) that fails; 0 for none.
    static FAIL: Cell<u64> = const { Cell::new(0) };
    /// Bytes that the driver has allocated and not freed.
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

struct Failing;

// SAFETY: hands on to the system's allocator, or gives null, which means that there is no memory.
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if INSIDE.get() {
            COUNT.set(COUNT.get() + 1);
            if COUNT.get() == FAIL.get() {
                return null_mut();
            }
            LIVE.set(LIVE.get() + layout.size() as isize);
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if INSIDE.get() {
            LIVE.set(LIVE.get() - layout.size() as isize);
        }
        // SAFETY: the caller's promise; `alloc` got it from the system.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static HEAP: Failing = Failing;

/// Runs `run` as the driver's or as the platform's.
fn set_inside<R>(inside: bool, run: impl FnOnce() -> R) -> R {
    let before = INSIDE.replace(inside);
    let result = run();
    INSIDE.set(before);
    result
}

/// A call of the driver, whose use of the heap counts.
pub fn driver<R>(run: impl FnOnce() -> R) -> R {
    set_inside(true, run)
}

/// Something that the platform does for the driver, whose use of the heap does not count.
pub fn platform<R>(run: impl FnOnce() -> R) -> R {
    set_inside(false, run)
}

/// `run` as it counts here, for the platform to call.
pub fn as_here<R>(run: impl FnOnce() -> R) -> impl FnOnce() -> R {
    let inside = INSIDE.get();
    move || set_inside(inside, run)
}

/// Lets the driver's `nth` allocation during `run`, in which [`driver`] is called, fail; what came of it, and whether
/// there was one.
pub fn failing<R>(nth: u64, run: impl FnOnce() -> R) -> (R, bool) {
    start_counting();
    FAIL.set(nth);
    let result = run();
    FAIL.set(0);
    (result, counted() >= nth)
}

/// Counts the driver's allocations from now on.
pub fn start_counting() {
    COUNT.set(0);
}

/// Allocations of the driver on this thread since counting began.
pub fn counted() -> u64 {
    COUNT.get()
}

/// Bytes that [`driver`] calls on this thread have allocated and not freed.
pub fn live() -> isize {
    LIVE.get()
}

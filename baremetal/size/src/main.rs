// SPDX-License-Identifier: MIT OR Apache-2.0
//! The least that uses the driver: an SMMU is taken into use, a device attached, memory mapped and unmapped, events
//! read. It is linked and weighed by `cargo xtask size`, and never run: there is no board behind it.
#![no_std]
#![no_main]
#![deny(warnings)]

mod board;
#[cfg(feature = "alloc")]
mod with_heap;
#[cfg(not(feature = "alloc"))]
mod without_heap;

use core::hint::black_box;

#[cfg(feature = "alloc")]
use with_heap::everything;
#[cfg(not(feature = "alloc"))]
use without_heap::everything;

/// Where the linker begins to look for what is used.
// SAFETY: nothing else has the name.
#[unsafe(no_mangle)]
pub extern "C" fn _start() -> ! {
    black_box(everything());
    board::stop()
}

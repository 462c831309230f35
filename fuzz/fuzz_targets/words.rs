// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any text as the words of each kind of structure, in each order.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| smmuv3_decode::structure::survives(text));

// SPDX-License-Identifier: MIT OR Apache-2.0
//! ASIDs of domains behind SMMUs that differ: every policy, banks of VMIDs, and tags that change while they are in
//! use, with hardware that stops or refuses, memory that runs out, and unmaps at every moment.

#[path = "../common/allocator.rs"]
mod allocator;
#[path = "../common/mod.rs"]
mod common;
#[path = "../failures/machine.rs"]
#[allow(dead_code, reason = "not every hook of it is needed")]
mod machine;

mod banked;
mod beside;
mod broken;
mod heap;
mod interleaved;
mod limits;
mod moves;
mod policies;
mod qemu;
mod races;
mod regressions;
mod removal;
mod setup;
mod stuck;
mod targets;

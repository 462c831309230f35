// SPDX-License-Identifier: MIT OR Apache-2.0
//! Substreams on the model: context tables, what becomes of accesses without a PASID, PASIDs, and processes whose
//! page tables devices share. At every store, command and free: no tag has two owners (R2), nothing that hardware
//! can read is freed (R3), and no mixture of words can be read (R4). Words are written by hand from §5.2, §5.3 and
//! §6.

#[path = "../common/allocator.rs"]
mod allocator;
#[path = "../failures/machine.rs"]
#[allow(dead_code, reason = "not every fault is needed here")]
mod machine;

mod contexts;
mod eyes;
mod heap;
mod misfits;
mod os;
mod pasids;
mod processes;
mod release;
mod setup;
mod sharing;
mod tables;
mod unconfirmed;
mod without;

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the crates cost: the workloads behind `docs/performance.md`.
//!
//! A [`Workload`] is run by `benches/figures.rs` in two ways: against the clock, and under callgrind, where
//! the instructions of 2n rounds minus those of n rounds are the cost of n rounds, free of start and set-up.

extern crate alloc;

pub mod bytes;
pub mod heap;
pub mod machine;
pub mod memory;
pub mod scaling;

mod attach;
mod driver;
/// The driver's own file, which is not part of its interface.
#[path = "../../driver/src/ids.rs"]
#[allow(dead_code, reason = "the driver needs more of it")]
mod ids;
mod model;
mod numbers;
mod pagetable;
#[path = "../../driver/src/room.rs"]
#[allow(dead_code, reason = "the driver needs more of it")]
mod room;
/// What those files need of the driver's.
mod shared {
    #[derive(Debug)]
    pub(crate) struct NoMemory;
}

pub use driver::idle_domain;

/// Something whose rounds cost the same each.
pub struct Workload {
    /// What it is, as the table of figures calls it.
    pub name: &'static str,
    /// Descriptors, or whole operations, of one round: what a figure is for.
    pub units: u64,
    /// Rounds to count. At most twice as many are run after one set-up.
    pub rounds: u64,
    /// Sets up; the set-up is the same however many rounds follow.
    pub prepare: fn() -> Run,
}

/// Runs that many rounds.
pub type Run = Box<dyn FnMut(u64)>;

/// The workloads of which instructions are counted.
pub fn counted() -> Vec<Workload> {
    let mut all = pagetable::workloads();
    all.extend(driver::workloads());
    all.extend(attach::workloads());
    all.extend(numbers::workloads());
    all.extend(pagetable::others());
    all
}

/// The workloads of which only a rate is of interest.
pub fn rated() -> Vec<Workload> {
    model::workloads()
}

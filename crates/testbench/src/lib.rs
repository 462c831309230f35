// SPDX-License-Identifier: MIT OR Apache-2.0
//! Machines to run the smmuv3 driver on, devices that do DMA, scenarios, and the oracle that holds the driver
//! to its rules.

pub mod bench;
mod bytes;
pub mod caches;
pub mod campaign;
pub mod coverage;
pub mod cpu;
pub mod frames;
pub mod frees;
pub mod inside;
pub mod keeping;
pub mod lab;
pub mod lock;
pub mod machine;
pub mod machine_model;
pub mod machine_qemu;
pub mod mixture;
pub mod operation;
pub mod oracle;
mod panics;
pub mod platform;
pub mod qemu;
pub mod ram;
pub mod report;
mod rule;
pub mod run;
pub mod scenario;
mod shrink;
pub mod stream_table;
pub mod stress;
pub mod trace;
pub mod watch;
mod workload;

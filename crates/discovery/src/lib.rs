// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which SMMUv3s a machine has, and which devices are behind them, as firmware says.
#![no_std]
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_macros))]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod check;
mod device;
pub mod device_tree;
mod finding;
mod instance;
pub mod iort;
mod keep;
mod kept;
mod mapping;
mod memory;
mod msi;
mod root;
mod system;
mod topology;

pub use device::{Device, InstanceIndex, LookupError, StreamIds};
pub use finding::{Finding, Severity, What};
pub use instance::{Instance, Interrupts, Line, Model, Region, Trigger};
pub use keep::NotKept;
pub use kept::Kept;
pub use mapping::{Mapping, Target};
pub use msi::{Doorbell, DoorbellIndex, DoorbellKind, Msi};
pub use root::{Named, Root, Space, Window};
pub use system::{BringUpError, MasterError, System};
pub use topology::{ReadError, Topology};

// SPDX-License-Identifier: MIT OR Apache-2.0
//! A driver for the Arm SMMUv3, the IOMMU of Arm systems, for kernels, hypervisors and firmware.
//!
//! **One domain, many SMMUs**: an address space can be used by devices behind several SMMUs that differ, above
//! all in the width of their ASIDs. It has a tag of its own on each.
#![no_std]
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_macros))]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(test)]
extern crate std;

#[cfg(feature = "alloc")]
mod attach;
pub mod command_queue;
#[cfg(feature = "alloc")]
mod domain;
pub mod entry;
mod error;
pub mod event_queue;
#[cfg(feature = "alloc")]
mod fault;
pub mod features;
#[cfg(feature = "alloc")]
mod ids;
pub mod instance;
#[cfg(feature = "alloc")]
mod instances;
pub mod invalidate;
#[cfg(feature = "alloc")]
mod iommu;
#[cfg(feature = "alloc")]
mod master;
#[cfg(feature = "mutation")]
mod mutation;
#[cfg(feature = "alloc")]
mod mutex;
pub mod platform;
#[cfg(feature = "alloc")]
mod quarantine;
pub mod queue;
#[cfg(feature = "alloc")]
mod shared;
mod spin;
pub mod stream_table;
#[cfg(feature = "alloc")]
mod sync;
#[cfg(feature = "alloc")]
mod targets;
pub mod update;

#[cfg(feature = "alloc")]
pub use attach::AttachError;
#[cfg(feature = "alloc")]
pub use domain::{
    CreateError, Domain, DomainConfig, MapError, Mismatch, ReclaimError, Target, UnmapError,
};
pub use error::{Failure, InstanceId, Unconfirmed};
#[cfg(feature = "alloc")]
pub use fault::{Interrupt, Report};
pub use features::Features;
pub use instance::{EnableError, InstanceConfig};
#[cfg(feature = "alloc")]
pub use instances::MOST_INSTANCES;
#[cfg(feature = "alloc")]
pub use iommu::{Config, Iommu, Probe, RemoveError, Smmu};
#[cfg(feature = "alloc")]
pub use master::{AddMasterError, Master};
#[cfg(feature = "mutation")]
pub use mutation::Mutation;
pub use platform::{Frames, Mmio, Platform, RawMutex};
#[cfg(feature = "alloc")]
pub use quarantine::Quarantined;
#[cfg(feature = "alloc")]
pub use shared::NoMemory;
pub use smmuv3_formats::{Iova, PhysAddr, StreamId, SubstreamId};
pub use smmuv3_pagetable as pagetable;
pub use smmuv3_pagetable::{Attributes, Memory, Prot};

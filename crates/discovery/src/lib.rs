// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which SMMUv3s a machine has, and which devices are behind them, as firmware says: from a device tree, or from
//! ACPI's IORT, to a [`Topology`]; from there, one call takes all SMMUs into use, and another makes a device a master.
//!
//! ```
//! use smmuv3::{Config, DomainConfig, Iommu, Platform};
//! use smmuv3_discovery::{Device, Region, Topology};
//!
//! fn start<P: Platform>(
//!     platform: P,
//!     device_tree: &[u8],
//!     map_registers: fn(Region) -> Option<P::Mmio>,
//! ) -> Result<(), Box<dyn core::error::Error>> {
//!     let topology = Topology::from_device_tree(device_tree)?;
//!     for finding in topology.check() {
//!         println!("{finding}"); // what is odd about it
//!     }
//!     let iommu = Iommu::new(platform, Config::default())?;
//!     // Before devices may use DMA. All SMMUs that came up abort everything afterwards.
//!     let system = topology.bring_up(&iommu, |smmu| map_registers(smmu.registers), |_, _| ())?;
//!     let nic = system.master(Device::pci(0, 1, 0))?; // bus, device, function
//!     let domain = iommu.create_domain(DomainConfig::default())?;
//!     iommu.attach(&nic, &domain)?;
//!     Ok(())
//! }
//! ```
//!
//! Devices that firmware left doing DMA, to a frame buffer say, are blocked like all others when their SMMU comes up: of
//! RMR nodes and `/reserved-memory`, nothing is kept until [`Topology::claim_kept`] says that it is to be, and
//! [`System::not_kept`] lists what was not. Where ID registers say otherwise than firmware, of HTTU or coherence, firmware counts,
//! and [`System::overridden`] lists it.
//!
//! With ACPI, the first line is another, and devices have other names:
//!
//! ```
//! use smmuv3::{Master, Platform};
//! use smmuv3_discovery::iort::Iort;
//! use smmuv3_discovery::{Device, MasterError, ReadError, System, Topology};
//!
//! fn read(table: &[u8]) -> Result<Topology, ReadError> {
//!     Topology::from_iort(&Iort::new(table)?)
//! }
//!
//! fn dma_engine<P: Platform>(system: &System<P>) -> Result<Master<P>, MasterError> {
//!     system.master(Device::Path(r"\_SB.DMA0"))
//! }
//! ```
//!
//! # What is in a topology
//! * SMMUs: registers, coherence, interrupt lines, what they do differently ([`Instance`]).
//! * PCI roots and devices with a node of their own, with the streams that they issue ([`Root`], [`Named`],
//!   [`Topology::streams_of`]); addresses that they cannot issue, and whether they snoop caches
//!   ([`Topology::dma_of`]); addresses that are not to be handed out to them ([`Topology::reserved_for`]); where their
//!   interrupt messages go, which has to be mapped for them ([`Topology::msi_of`], [`Doorbell`]).
//! * Groups of performance monitors: registers, interrupt, and with an IORT what they watch ([`Monitor`]).
//! * Memory that firmware left devices using, such as a frame buffer ([`Kept`]): RMR nodes, and `iommu-addresses` of
//!   `/reserved-memory`. It is kept reachable without a gap only if it is claimed ([`Topology::claim_kept`]).
//!
//! # What firmware gets wrong
//! Firmware is not trusted to be right, only to be harmless where it cannot be checked. Nothing here panics, or
//! goes on for ever. What cannot be walked is an error
//! ([`ReadError`]); everything else that is odd is a [`Finding`], and the rest is used. Where mappings contradict each
//! other about a device, its streams are not guessed ([`LookupError::Ambiguous`]), so it stays blocked.
//!
//! Reading takes time and memory in proportion to the tree or table, give or take a logarithm: nothing is looked for one
//! by one, again and again. Where only a limit ensures that, there is one, above anything that real firmware has: 256
//! findings, 32 levels of nodes and paths of 512 bytes ([`BlobError`](device_tree::BlobError)), names of 255 bytes in an
//! IORT, 1 KiB of `compatible`, 16 interrupts of an SMMU, 16 `dma-ranges` of a bus, 2^20 looks at a range of a bus, 8192
//! kept streams in 1024 nodes, and 4096 regions that they reach.
//!
//! # What is not read
//! * SMMUv1 and v2, and other IOMMUs: devices behind them are found and not driven.
//! * ACPI name space, MCFG and MADT: with an IORT, configuration space, windows of host bridges and addresses of ITSs
//!   are not known ([`Topology::place_its`]).
//! * Interrupts behind anything but a GIC up to version 4, and interrupt nexus nodes (`interrupt-map` of a bus).
//! * Of `dma-ranges`, those of the nearest bus that limits what a device reaches, which may be its PCI host bridge: they
//!   become `address_bits` and `reserved` of [`Root`] and [`Named`]. Those of buses above it are not looked at, and
//!   offsets are not applied: where an address on the bus and the SMMU's input address differ, it is a [`Finding`]
//!   ([`What::Value`]).
//! * PCI bridges: a device behind one to conventional PCI is known by the bridge's requester ID.
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
mod monitor;
mod msi;
mod reach;
mod root;
mod system;
mod topology;

pub use device::{Device, InstanceIndex, LookupError, StreamIds};
pub use finding::{Finding, Severity, What};
pub use instance::{Instance, Interrupts, Line, Model, Region, Trigger};
pub use keep::NotKept;
pub use kept::Kept;
pub use mapping::{Mapping, Target};
pub use monitor::{Monitor, Watched};
pub use msi::{Doorbell, DoorbellIndex, DoorbellKind, Msi};
pub use root::{Named, Root, Space, Window};
pub use system::{BringUpError, KeptMaster, MasterError, System};
pub use topology::{ReadError, Topology};

// SPDX-License-Identifier: MIT OR Apache-2.0
//! A driver for the Arm SMMUv3, the IOMMU of Arm systems, for kernels, hypervisors and firmware.
//!
//! **One domain, many SMMUs**: an address space can be used by devices behind several SMMUs that differ, above
//! all in the width of their ASIDs. It has a tag of its own on each, unless another [`AsidPolicy`] is chosen.
//!
//! It drives the Non-secure interface, and translates by stage 1 or by stage 2, with 4, 16 or 64 KiB pages and addresses of
//! up to 52 bits ([`DomainConfig`]). The README's table says what is missing; above all, it has never run on real hardware.
//!
//! # Where to start
//! Implement [`Frames`] (memory for tables, also for those that CPUs alone use until they are linked), [`Platform`] (an
//! interrupt mask, a clock, memory for queues), [`Mmio`] and [`RawMutex`] ([`SpinMutex`] is one). Then make one
//! [`Iommu`]; [`Iommu::probe`] and [`Probe::enable`] take each SMMU into use, [`Iommu::add_master`] makes devices
//! known, [`Iommu::create_domain`] makes address spaces, and [`Iommu::attach`] brings both together.
//! [`Domain::map`] and [`Domain::unmap`] may be called before and after.
//!
//! A master with PASIDs ([`MasterConfig::pasid_bits`]) can use a domain by each of them ([`Iommu::attach_pasid`]),
//! and the address spaces of processes ([`Iommu::add_process`], [`Process::bind`]).
//!
//! A hypervisor gives a guest an SMMU of its own, over a domain that is the guest's memory ([`Iommu::nest`], [`nest`]).
//!
//! # What holds
//! * Every stream aborts until its master is attached, but those of [`Probe::keep`]; after [`Probe::adopt`] the streams
//!   that it kept work on as they did. Identity must be asked for, and is `unsafe`.
//! * When [`Domain::unmap`], [`Iommu::detach`] or [`Iommu::attach`] has returned `Ok`, no DMA reaches the old memory;
//!   nor that of a process when [`Process::invalidate`], [`Process::release`] or [`Bond::unbind`] has.
//!   [`Domain::unmap_deferred`] promises that only together with a later [`Domain::invalidate_all`].
//! * Nothing panics on what hardware, firmware or a device does. Heap memory that runs out is an error.
//! * Dropping a handle never waits and frees nothing that hardware may use.
//!
//! # Who may call what, and what it waits for
//! *The lock* is the operating system's ([`Platform::Mutex`]), which serialises all changes of who uses what, and may sleep.
//!
//! | calls | in interrupt context | the lock | wait for |
//! |---|---|---|---|
//! | [`Domain::map`], `unmap`, `unmap_reporting`, `invalidate_all`, `read_and_clear_dirty`, `read_and_clear_accessed`, [`Process::invalidate`], `Nest::forward` | yes | no | the SMMUs: room for commands, and their completion (`map` only where it has to undo a part) |
//! | [`Domain::unmap_deferred`], `unmap_deferred_reporting`, `lookup`, `read_dirty`, `read_accessed` | yes | no | nothing |
//! | [`Iommu::handle_interrupt`], `Nest::owner`, `blamed`, `show`, `show_pages`, `stopped` | yes | no | nothing |
//! | [`Smmu::ask`] | yes | no | the SMMU's answer |
//! | [`Fault::respond`], [`PageGroup::respond`] | yes | no | room for a command |
//! | [`Smmu::has_failed`], `is_suspended`, names and numbers of handles | yes | no | nothing |
//! | dropping a handle, a fault, a group | yes | no | nothing; the last handle of a space frees its tables |
//! | [`Domain::reclaim`] | no | no | the SMMUs' completion |
//! | [`Iommu::attach`] and its like, [`Iommu::detach`], [`Process::bind`], [`Bond::unbind`], [`Process::release`], [`Iommu::add_master`], [`Probe::enable`], [`Iommu::suspend`], [`Iommu::resume`], [`Iommu::reset`], [`Iommu::remove`], `Nest::attach` | no | yes | whoever has the lock, and the SMMUs' completion |
//! | all else: what is made and closed, statistics, lists, [`Iommu::smmus`], [`Iommu::smmu`], [`Iommu::master_of`] | no | yes, mostly | whoever has the lock |
//!
//! What is waited for from an SMMU comes within [`InstanceConfig::deadline`] of the last that it did, or it is given up.
//!
//! # When an SMMU does not answer
//! A call that had begun to change hardware returns [`Unconfirmed`]. What it removed stays removed, and what the
//! SMMU may still reach is kept from use until a reset:
//!
//! ```
//! use smmuv3::{Domain, Iommu, Iova, Platform, Smmu, UnmapError};
//!
//! /// Whether the memory that was mapped there can be used for something else.
//! fn take_back<P: Platform>(iommu: &Iommu<P>, domain: &Domain<P>) -> bool {
//!     // SAFETY: no other call works on this range.
//!     match unsafe { domain.unmap(Iova(0x1_0000), 0x4000) } {
//!         Ok(_) => true,
//!         Err(UnmapError::Unconfirmed(unconfirmed)) => {
//!             println!("{unconfirmed}");
//!             let mut waiting = iommu.smmus().filter(|smmu| unconfirmed.waiting.contains(smmu.id()));
//!             // Once one is reset, nothing of this call is held for it any more.
//!             waiting.all(|smmu| iommu.reset(&smmu).is_ok())
//!         }
//!         Err(_) => false, // nothing was changed
//!     }
//! }
//!
//! /// Resets all that failed, in whichever call; what is still held for one that did not come up.
//! fn recover<P: Platform>(iommu: &Iommu<P>) {
//!     for smmu in iommu.smmus().filter(Smmu::has_failed) {
//!         if let Err(error) = iommu.reset(&smmu) {
//!             println!("{}: {error}", smmu.name());
//!         }
//!     }
//!     iommu.quarantined(&mut |what| println!("{what}"));
//! }
//! ```
//!
//! # Features
//! * `alloc` (default): [`Iommu`] and all that belongs to it. Without it there is no heap, and the hardware blocks
//!   ([`instance`], [`command_queue`], [`event_queue`], [`stream_table`], [`context_table`], [`update`], [`pagetable`])
//!   work on memory of the platform.
//! * `nested`, `sva`, `ats`, `pmcg` (all by default): guests' stage 1 ([`nest`]), processes ([`Process`]), devices that keep
//!   translations or ask for pages ([`atc`], [`page_request`]), performance monitors ([`pmcg`]). A driver without one takes
//!   less room; an instance then has none of what it left out ([`Features`]), and all else works as with it.
//! * `stage-2`, `granules`, `wide` (all by default): domains of stage 2, of 16 and 64 KiB pages, and of more than 48 bits.
//!   Each kind of tables is code of its own. Without, such a domain is refused ([`CreateError::LeftOut`]).
//! * `resizing` (default): the contiguous hint ([`DomainConfig::contiguous`]) and splitting ([`DomainConfig::splitting`]).
//!   Without it no mapping has the hint, and blocks are not cut, as where an instance has no BBML.
//! * `fast-paths` (default): shorter ways for what most calls are: a page, a block, an unmap that one command for each instance is
//!   enough for. Without it all goes the general way, which does the same in more instructions and fewer bytes of code, and every
//!   domain takes every attribute, as with [`DomainConfig::all_attributes`].
//! * `pasids` (default; `sva`, `ats` and `nested` include it): accesses with PASIDs (`Iommu::attach_pasid`). Without it a
//!   master has one context, and nobody has a PASID.
//! * `two-level` (default; `hand-over` includes it): stream tables in two levels. Without it all are linear, as where an SMMU has no
//!   others ([`StreamTableShape`]).
//! * `removal` (default): `Iommu::remove`. Without it an SMMU that is in use stays.
//! * `policies` (default): every [`AsidPolicy`], and tags that are changed while they are in use. Without it there is
//!   [`AsidPolicy::PerInstance`] alone ([`IommuError::LeftOut`]), and a process whose number a domain has on an instance gets
//!   another there.
//! * `stalls` (default): faults that stall ([`MasterConfig::with_stalls`]). Without it an instance has none, and one whose
//!   faults always stall is refused ([`Unsupported::Stalls`]).
//! * `hand-over` (default): streams that firmware left working ([`Probe::keep`]), and taking over an SMMU that runs
//!   ([`Probe::adopt`]). Without it neither can be asked for.
//! * `dirty` (default): what devices have written or accessed ([`DomainConfig::dirty`], [`DomainConfig::access_flags`]).
//!   Without it such a domain is refused, too.
//! * `ecmdq` (default): enhanced command queues. Without it all CPUs share the command queue.
//! * `sync-messages` (default): [`Completion::Message`]. Without it completion is polled then, as where an SMMU sends none.
//! * `counts` (default): counts of domains ([`DomainConfig::statistics`]). Without it a domain that is to count is refused,
//!   and waits for a command queue, their turns and refusals are counted as none ([`InstanceStatistics`]).
//! * `safe-mmio`: `hardware::Registers`, the registers of a real SMMU as an [`Mmio`], with its barriers. The rest of
//!   [`hardware`] is there without it.
//! * `mutation`: a driver that leaves a chosen step out, to test the oracle with. Never for use.
#![no_std]
// Handles show who they are, and take no lock for it.
#![warn(missing_debug_implementations)]
// Functions that only a part that is left out calls are allowed to be unused. With all features nothing may be.
#![cfg_attr(
    any(
        not(feature = "ats"),
        not(feature = "nested"),
        not(feature = "ecmdq"),
        not(feature = "sync-messages"),
        not(feature = "pasids"),
        not(feature = "two-level"),
        all(
            feature = "alloc",
            not(all(
                feature = "sva",
                feature = "removal",
                feature = "policies",
                feature = "stalls",
                feature = "hand-over",
                feature = "dirty",
                feature = "counts"
            ))
        )
    ),
    allow(dead_code)
)]
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_macros))]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(any(test, shuttle))]
extern crate std;

#[cfg(feature = "hand-over")]
mod adopt;
#[cfg(any(feature = "stalls", all(feature = "alloc", feature = "ats")))]
mod answer;
#[cfg(feature = "alloc")]
mod asid;
#[cfg(feature = "ats")]
pub mod atc;
pub mod atos;
mod ats;
#[cfg(feature = "alloc")]
mod attach;
pub mod command_queue;
pub mod compatibility;
#[cfg(feature = "alloc")]
mod configuration;
pub mod context_table;
mod counters;
#[cfg(all(feature = "alloc", feature = "ats"))]
mod devices;
#[cfg(feature = "dirty")]
mod dirty;
#[cfg(feature = "alloc")]
mod domain;
mod ecmdq;
pub mod entry;
mod errata;
mod error;
#[cfg(feature = "alloc")]
mod event;
pub mod event_queue;
#[cfg(feature = "alloc")]
mod fault;
pub mod features;
#[cfg(all(feature = "alloc", feature = "ats"))]
mod gather;
#[cfg(feature = "alloc")]
mod handle;
pub mod hardware;
#[cfg(feature = "alloc")]
mod ids;
pub mod instance;
#[cfg(feature = "alloc")]
mod instances;
pub mod invalidate;
#[cfg(feature = "alloc")]
mod iommu;
#[cfg(feature = "hand-over")]
mod keep;
mod left_out;
mod legal;
#[cfg(all(test, feature = "alloc", not(any(loom, shuttle))))]
mod lines;
#[cfg(feature = "alloc")]
mod master;
mod message;
mod mutation;
#[cfg(feature = "alloc")]
mod mutex;
mod name;
#[cfg(feature = "nested")]
pub mod nest;
#[cfg(all(test, feature = "alloc", feature = "ats", not(any(loom, shuttle))))]
mod nothing;
#[cfg(all(feature = "alloc", feature = "pasids"))]
mod others;
mod overrides;
#[cfg(feature = "alloc")]
mod owners;
#[cfg(all(feature = "alloc", feature = "ats"))]
mod page_group;
pub mod page_request;
#[cfg(all(feature = "alloc", feature = "pasids"))]
mod pasid;
#[cfg(any(feature = "stalls", all(feature = "alloc", feature = "ats")))]
mod pending;
#[cfg(feature = "alloc")]
mod place;
pub mod platform;
#[cfg(feature = "pmcg")]
pub mod pmcg;
#[cfg(feature = "alloc")]
mod power;
#[cfg(feature = "ats")]
pub mod pri_queue;
#[cfg(feature = "sva")]
mod process;
#[cfg(feature = "alloc")]
mod quarantine;
pub mod queue;
mod refusals;
mod refused;
#[cfg(feature = "sva")]
mod release;
#[cfg(feature = "removal")]
mod removal;
#[cfg(feature = "alloc")]
mod reset;
#[cfg(feature = "policies")]
mod retag;
#[cfg(feature = "alloc")]
mod room;
mod runs;
#[cfg(feature = "alloc")]
mod seat;
#[cfg(feature = "alloc")]
mod shared;
#[cfg(all(feature = "alloc", feature = "ats"))]
mod silent;
#[cfg(feature = "alloc")]
mod slab;
#[cfg(feature = "alloc")]
mod space;
mod spin;
mod spin_mutex;
#[cfg(feature = "stalls")]
mod stall;
mod state;
pub mod statistics;
pub mod stream_table;
mod sync;
#[cfg(feature = "alloc")]
mod tables;
#[cfg(feature = "alloc")]
mod tally;
#[cfg(feature = "alloc")]
mod targets;
mod tickets;
pub mod trace;
pub mod update;

#[cfg(all(feature = "alloc", not(feature = "nested")))]
use left_out::nest;
#[cfg(all(feature = "alloc", not(feature = "pasids")))]
use left_out::others;
#[cfg(all(feature = "alloc", not(feature = "sva")))]
use left_out::process;
#[cfg(all(feature = "alloc", not(feature = "policies")))]
use left_out::retag;
#[cfg(all(feature = "alloc", not(feature = "stalls")))]
use left_out::stall;
#[cfg(not(feature = "ats"))]
use left_out::*;
#[cfg(all(feature = "alloc", not(feature = "hand-over")))]
use left_out::{adopt, keep};

#[cfg(feature = "hand-over")]
pub use adopt::{AdoptError, Remains, Structure};
#[cfg(feature = "alloc")]
pub use asid::{AsidPolicy, Cpu, Vmids};
pub use ats::{AtsMode, NoAtsAlwaysOn, NoSplitAts};
#[cfg(feature = "alloc")]
pub use attach::{AttachError, DetachError};
pub use command_queue::Completion;
pub use compatibility::{Mismatch, Stage};
#[cfg(feature = "dirty")]
pub use dirty::DirtyError;
#[cfg(feature = "alloc")]
pub use domain::{CreateError, Domain, DomainConfig, MapError, ReclaimError, UnmapError};
pub use errata::{Firmware, Overridden};
#[cfg(feature = "alloc")]
pub use error::StillAttached;
pub use error::{Failure, InstanceId, Unconfirmed};
#[cfg(feature = "alloc")]
pub use event::Event;
pub use event_queue::Lost;
#[cfg(feature = "alloc")]
pub use fault::{Interrupt, Report};
pub use features::{Features, Unsupported};
pub use instance::{Coherence, EnableError, InstanceConfig};
#[cfg(feature = "alloc")]
pub use instances::MOST_INSTANCES;
pub use invalidate::{Regime, Tag};
#[cfg(feature = "alloc")]
pub use iommu::{Config, Iommu, IommuError, Probe, Smmu};
#[cfg(feature = "hand-over")]
pub use keep::{KeepError, Region};
#[cfg(feature = "alloc")]
pub use master::{AddMasterError, CloseMasterError, Master, MasterConfig};
pub use message::{Destination, Message, Messages};
#[cfg(feature = "mutation")]
pub use mutation::Mutation;
pub use name::Name;
#[cfg(all(feature = "alloc", feature = "nested"))]
pub use nest::{Nest, NestConfig, NestError};
pub use overrides::{Access, Caching, OverrideError, Overrides, Privilege, Sharing, WhileOff};
#[cfg(feature = "alloc")]
pub use page_group::PageGroup;
pub use page_request::{
    Answer as PageResponse, Denied, Group as PageRequestGroup, Page as RequestedPage, PagesLost,
};
#[cfg(all(feature = "alloc", feature = "pasids"))]
pub use pasid::PasidError;
pub use platform::{Frames, Mmio, Platform, RawMutex};
#[cfg(feature = "alloc")]
pub use power::SuspendError;
#[cfg(feature = "sva")]
pub use process::{AddProcessError, Bond, Process, ProcessConfig};
#[cfg(feature = "alloc")]
pub use quarantine::Quarantined;
pub use refused::Refused;
#[cfg(feature = "removal")]
pub use removal::RemoveError;
#[cfg(feature = "alloc")]
pub use shared::NoMemory;
/// Registers, entries, commands and events as bits: what an event's kind is, or a refused command's fields.
pub use smmuv3_formats as formats;
pub use smmuv3_formats::granule::Granule;
pub use smmuv3_formats::{Iova, PhysAddr, StreamId, SubstreamId};
pub use smmuv3_pagetable as pagetable;
pub use smmuv3_pagetable::{
    Attributes, Bitmap, Dirty, MapErrorKind, Mapping, Memory, Prot, RangeError, SplitError,
    TableError,
};
#[cfg(feature = "alloc")]
pub use space::Target;
pub use spin_mutex::SpinMutex;
#[cfg(feature = "alloc")]
pub use stall::Fault;
#[cfg(feature = "stalls")]
pub use stall::Response;
pub use statistics::{
    CommandStatistics, DomainCounts, DomainStatistics, EventStatistics, InstanceStatistics,
    Numbers, PageStatistics,
};
pub use stream_table::{Split, StreamTableShape};
pub use trace::{Change, InstanceSet, Trace};

/// The README's example compiles.
#[cfg(all(doctest, feature = "alloc"))]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// So do those of the page on observation.
#[cfg(all(doctest, feature = "alloc"))]
#[doc = include_str!("../../../docs/observation.md")]
struct Observation;

// SPDX-License-Identifier: MIT OR Apache-2.0
//! An Arm SMMUv3 in software: registers, queues, tables in memory, caches, and the accesses of devices.
//!
//! [`Model`] decodes everything by itself from memory, as hardware does, and is **adversarial**: it keeps
//! what it cached until an invalidation hits exactly that, reads entries word by word between two stores of
//! the driver, prefetches what is reachable, delays invalidations until the CMD_SYNC that must complete
//! them, and lets transfers hang between translation and memory. It judges nothing: it reports
//! [`Observation`]s, and answers what is cached and what is still reachable.
//!
//! It implements the Non-secure worlds: stage 1 with substreams, stage 2, and both; linear and 2-level tables of
//! streams and of contexts; all granules, 52-bit addresses, flags that hardware sets in leaves, stalls; and it takes
//! broadcast TLB maintenance of processors, of EL1, EL2 and EL2-E2H. Devices with ATS and PRI are plugged into it. What else is
//! configured is reported as [`Observation::Unsupported`] and terminated, never treated as something else. Section numbers are those
//! of the project's architecture reference.
//!
//! ```
//! use smmuv3_model::{Access, Model, Profile, Ram};
//!
//! let mut smmu = Model::new(Profile::small_asid(), Ram::new(0x8000_0000, 0x10_0000), 1);
//! assert_eq!(smmu.read32(0x000) >> 12 & 1, 0, "IDR0.ASID16");
//! // Nothing is enabled after reset: accesses pass untranslated unless GBPA.ABORT is set.
//! assert_eq!(smmu.translate(Access::read(0, 0x8000_1000)).map(|t| t.pa), Ok(0x8000_1000));
//! ```
#![forbid(unsafe_code)]

mod adversary;
mod atc;
mod atos;
mod ats;
mod attributes;
mod broadcast;
mod change;
mod command_queue;
mod config_cache;
mod context;
mod context_table;
mod ecmdq;
mod endpoint;
mod errata;
mod event_queue;
mod fault;
mod flag;
mod group;
mod held;
mod invalidation;
mod memory;
mod model;
mod monitor;
mod observation;
mod power;
mod pri;
mod profile;
mod queue;
mod random;
mod references;
mod registers;
mod stage_1;
mod stage_2;
mod stall;
mod stream_table;
mod tables;
mod tlb;
mod tlb_scope;
mod transaction;
mod translate;
mod vmid;
mod walk;
mod world;

pub use atc::{Answers, Atc, AtcEntry};
pub use ats::{Completion, Granted, TranslationRequest};
pub use attributes::{Attributes, Cacheability, Hints, MemoryType, Shareability};
pub use broadcast::{Broadcast, Pages, Tlbi};
pub use config_cache::{CachedL1Cd, CachedStructure};
pub use endpoint::Endpoint;
pub use errata::Errata;
pub use held::{Held, Performed};
pub use memory::{Abort, Memory, Ram};
pub use model::{Interrupts, Model};
pub use monitor::Monitor;
pub use observation::{Dropped, Misuse, Observation, Statistics};
pub use pri::{Answered, Autonomous, Page, Requested};
pub use profile::{Adversary, Profile};
pub use references::Reference;
pub use smmuv3_formats::granule::Granule;
pub use smmuv3_formats::permission::{Permissions, Rights};
pub use stall::{Answer, StallEnd, Stalled};
pub use tlb::{SecondStage, Stages, Tag, TlbEntry, WalkEntry};
pub use transaction::{Access, Reason, Refusal, Transfer, Translation};
pub use world::World;

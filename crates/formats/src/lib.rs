// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every register, table entry, command and record of the Arm SMMUv3 as bits.
//!
//! * A **raw** type ([`Ste`], [`Cd`], [`Command`], [`EventRecord`], the registers in [`register`])
//!   holds the words as the hardware sees them. It decodes anything and judges nothing.
//! * One macro, `layout!`, takes the fields as the architecture prints them (`hi:lo`, name) and
//!   gives getters, `with_` builders, `Debug` and the constant table [`Layout::FIELDS`]: the driver,
//!   the model and the command line read the same table.
//! * [`legality`] names the first rule of the architecture that an entry breaks.
//!
//! Section numbers are those of the project's architecture reference. Only the Non-secure programming
//! interface is covered. Bits are numbered within each 64-bit word; all structures are little-endian.
//!
//! ```
//! use smmuv3_formats::{Layout, Ste};
//!
//! let ste = Ste::default().with_v(true).with_config(0b101).with_s1_context_ptr(0x8002_0000);
//! assert_eq!(ste.0[0], 0x8002_000B);
//! assert_eq!(Ste::FIELDS[1].to_string(), "Config[3:1]");
//! ```
#![no_std]
#![forbid(unsafe_code)]

mod address;
mod cd;
pub mod command;
pub mod descriptor;
pub mod event;
mod field;
pub mod granule;
pub mod legality;
pub mod meaning;
pub mod memory_type;
pub mod permission;
mod pri;
pub mod register;
pub mod ste;
pub mod structure;
pub mod vms;

pub use address::{Iova, PhysAddr, StreamId, SubstreamId};
pub use cd::{Cd, L1Cd};
pub use command::{Command, Opcode};
pub use event::{EventId, EventRecord};
pub use field::{DoesNotFit, Field, Layout};
pub use pri::PageRequest;
pub use ste::{L1Std, Ste};

/// Bytes of a stream table entry (§5.2).
pub const STE_BYTES: usize = 64;
/// Bytes of a context descriptor (§6).
pub const CD_BYTES: usize = 64;
/// Bytes of a command (§4).
pub const COMMAND_BYTES: usize = 16;
/// Bytes of an event record (§10).
pub const EVENT_BYTES: usize = 32;
/// Bytes of a page request record (§13).
pub const PAGE_REQUEST_BYTES: usize = 16;

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Walks stream tables, contexts and translation tables in an image of memory, and says what hardware
//! would do.
//!
//! [`walk`] follows one access through everything that an SMMUv3 would read for it, and ends in an address
//! or in the event that hardware raises. [`reach`](reach::reach) follows everything at once: what a stream can
//! reach, and what is wrong with its tables. Neither does input or output: memory is a [`Memory`].
//!
//! This is a walker of its own, written from the architecture: it shares the layouts and the legality
//! rules of [`smmuv3_formats`] with the driver and the model, and nothing else. Section numbers are those of
//! the project's architecture reference. Covered is the Non-secure interface with VMSAv8-64 tables: both
//! stages, all granules, LPA2. AArch32 (LPAE) tables, 128-bit descriptors and stage-2 permission
//! indirection end in [`Outcome::Unsupported`].
//!
//! ```
//! use smmuv3_formats::register::{StrtabBase, StrtabBaseCfg};
//! use smmuv3_walk::{Access, Outcome, Smmu, Words, walk};
//!
//! let mut memory = Words::new().with_range(0x8000_0000, 0x1000);
//! // Stream 1 bypasses both stages.
//! memory.write_words(0x8000_0040, &[0x9, 1 << 44]);
//! let smmu = Smmu::with_everything(StrtabBase(0x8000_0000), StrtabBaseCfg(4));
//! let Outcome::Translated(found) = walk(&memory, &smmu, Access::read(1, 0x1234)).outcome else {
//!     panic!();
//! };
//! assert_eq!(found.address, 0x1234);
//! ```
#![forbid(unsafe_code)]

mod access;
mod attributes;
mod context_table;
mod describe;
mod fuzz;
mod memory;
mod outcome;
mod permissions;
pub mod reach;
mod smmu;
mod stage;
mod stream_table;
mod tables;
mod translate;

pub use access::Access;
pub use attributes::{Attributes, Cacheability, Device, MemoryType, Shareability, mair};
pub use describe::size;
pub use fuzz::fuzz;
pub use memory::{Gap, Memory, Words};
pub use outcome::{Ending, Fault, Outcome, Step, Translation, Walk, What};
pub use smmu::Smmu;
pub use smmuv3_formats::descriptor::Stage;
pub use smmuv3_formats::permission::{Permissions, Rights};
pub use translate::walk;

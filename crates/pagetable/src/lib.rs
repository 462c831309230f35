// SPDX-License-Identifier: MIT OR Apache-2.0
//! Translation tables of VMSAv8-64 for an SMMU (§15): map, unmap, look up and reclaim, from any number of
//! threads at once as long as their ranges are disjoint, without a lock and without a heap.
//!
//! * [`Frames`] is the memory that tables are made of; the user implements it.
//! * [`Table`] is one address space. [`Table::map`] takes the largest pages and blocks that fit.
//! * [`Table::unmap`] gives a cursor. Each step fills a [`Gather`]: what the caller must invalidate
//!   before the memory that was mapped, and the tables that were unlinked, may be used again.
//!   [`Table::unmap_page`], [`Table::unmap_pages`] and [`Table::unmap_at_once`] do the same in one call, and in fewer
//!   instructions, for one page, a few pages, and those or a block.
//! * [`Table::split`] makes tables of blocks that an unmap would cut.
//! * [`Table::read_and_clear_dirty`] tells what devices have written, where hardware marks that: see [`Dirty`].
//!   [`Unmap::next_reporting`] tells it of what is unmapped.
//!
//! ```
//! use smmuv3_pagetable::{Attributes, Frames, Gather, Iova, PhysAddr, Prot, Stage1Table4K};
//!
//! /// Returned by an invalidation that was waited for.
//! fn invalidate(_gather: &Gather) {}
//!
//! fn example<F: Frames>(frames: &F) -> Result<(), Box<dyn core::error::Error>> {
//!     let table = Stage1Table4K::new(frames, 48, 44)?;
//!     let (iova, pa, len) = (Iova(0x1000_0000), PhysAddr(0x8000_0000), 0x20_0000);
//!     // SAFETY: nobody else uses this range, and `frames` is the one the table was made with.
//!     unsafe { table.map(frames, iova, pa, len, Attributes::normal(Prot::READ | Prot::WRITE))? };
//!     let mut gather = Gather::new();
//!     // SAFETY: as above.
//!     let mut unmap = unsafe { table.unmap(frames, iova, len)? };
//!     while unmap.next(&mut gather) {
//!         invalidate(&gather);
//!         // SAFETY: the invalidation is complete.
//!         unsafe { gather.free_tables(frames) };
//!         gather.clear();
//!     }
//!     Ok(())
//! }
//! ```
#![no_std]

#[cfg(test)]
extern crate std;

mod bitmap;
mod clear;
mod config;
mod contiguous;
mod dirty;
mod ends;
mod error;
mod flags;
mod frames;
mod gather;
mod geometry;
mod leaf;
mod legal;
mod map;
mod page;
mod prot;
mod reclaim;
mod split;
mod sync;
mod table;
mod unmap;
#[cfg(feature = "mutation")]
mod wrong;

/// Whether there are shorter ways for what most calls are, beside the general way, which does all of that as well.
const FAST: bool = cfg!(feature = "fast-paths");

pub use bitmap::Bitmap;
pub use config::{Bbml, Dirty, TableConfig};
pub use dirty::Harvest;
pub use error::{
    HarvestError, MapError, MapErrorKind, RangeError, SplitError, TableError, UnmapError,
};
pub use frames::Frames;
pub use gather::{Detached, Gather};
pub use prot::{Attributes, MAIR, Memory, Prot, Shareability};
pub use reclaim::Reclaim;
pub use smmuv3_formats::{Iova, PhysAddr};
pub use split::Split;
pub use sync::{FULL, SYNCED};
pub use table::{
    Mapping, Stage1Table4K, Stage1Table4KLpa2, Stage1Table16K, Stage1Table16KLpa2, Stage1Table64K,
    Stage1Table64KLpa, Stage2Table4K, Stage2Table4KLpa2, Stage2Table16K, Stage2Table16KLpa2,
    Stage2Table64K, Stage2Table64KLpa, Table,
};
pub use unmap::Unmap;
#[cfg(feature = "mutation")]
pub use wrong::Wrong;

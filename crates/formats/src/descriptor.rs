// SPDX-License-Identifier: MIT OR Apache-2.0
//! Translation table descriptors of VMSAv8-64 (§15). Bit 0 is valid; bit 1 tells a table (levels -1 to 2) or a
//! page (level 3) from a block.
//!
//! What a descriptor is depends on where it is found: a [`Form`] says so, and reads it. The layouts:
//! * `Stage1Page` and its kin have addresses of at most 48 bits. Their address fields are those of the 4 KiB
//!   granule; coarser granules leave the low bits zero;
//! * `...Lpa2`: 4 and 16 KiB granules with DS = 1, whose address bits 51:50 take the place of `SH`;
//! * `...64k`: 64 KiB granule with addresses of 52 bits, of which bits 51:48 are descriptor bits 15:12;
//! * `...Indirect`: permissions by index (CD.PIE, STE.S2PIE), whose bits are where `AP`, `DBM` and `XN` are
//!   otherwise.

mod form;
mod layout;

pub use form::{Form, Meaning, Stage};
pub use layout::*;

/// `Type` of a block at levels 0 to 2.
pub const BLOCK: u64 = 0b01;
/// `Type` of a table at levels -1 to 2, and of a page at level 3.
pub const TABLE_OR_PAGE: u64 = 0b11;

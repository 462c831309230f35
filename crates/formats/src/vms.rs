// SPDX-License-Identifier: MIT OR Apache-2.0
//! The VM structure that `STE.VMSPtr` points to (§6): which partition a virtual PARTID stands for.

/// Bytes of a VM structure, and its alignment.
pub const VMS_BYTES: usize = 4096;
/// Offset in bytes of PARTID_MAP in it.
pub const PARTID_MAP_OFFSET: usize = 0;
/// Entries of PARTID_MAP: little-endian numbers of 16 bits, by virtual PARTID.
pub const PARTID_MAP_ENTRIES: usize = 32;

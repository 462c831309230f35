// SPDX-License-Identifier: MIT OR Apache-2.0
//! Offsets of registers whose fields the reference does not give (§2.2), in bytes from the start of page 0.

/// S2PII, 64 bits. Its fields are not in the reference.
pub const S2PII: u32 = 0x030;
/// MPAMIDR. Its fields are not in the reference.
pub const MPAMIDR: u32 = 0x130;
/// GMPAM. Its fields are not in the reference.
pub const GMPAM: u32 = 0x138;
/// GBPMPAM. Its fields are not in the reference.
pub const GBPMPAM: u32 = 0x13c;
/// DPT_BASE, 64 bits. Its fields are not in the reference.
pub const DPT_BASE: u32 = 0x200;
/// DPT_BASE_CFG. Its fields are not in the reference.
pub const DPT_BASE_CFG: u32 = 0x208;
/// DPT_CFG_FAR, 64 bits. Its fields are not in the reference.
pub const DPT_CFG_FAR: u32 = 0x210;
/// PIDR4. Its value is not in the reference.
pub const PIDR4: u32 = 0xfd0;
/// PIDR0 to PIDR3. Their values are not in the reference.
pub const PIDR: [u32; 4] = [0xfe0, 0xfe4, 0xfe8, 0xfec];
/// CIDR0 to CIDR3, which read as [`CIDR_VALUES`].
pub const CIDR: [u32; 4] = [0xff0, 0xff4, 0xff8, 0xffc];

/// What [`CIDR`] read as: CIDR1 is the class (0xf) above a part of the preamble (0).
pub const CIDR_VALUES: [u32; 4] = [0x0d, 0xf0, 0x05, 0xb1];

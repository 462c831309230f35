// SPDX-License-Identifier: MIT OR Apache-2.0
//! Attributes to descriptor bits and back (§15.3, §16). A leaf is built once per call, without its
//! address and type: those are added per run.

use smmuv3_formats::descriptor::{BLOCK, Stage1Page, Stage2Page, TABLE_OR_PAGE};

use crate::{Attributes, Memory, Prot};

const OUTER_SHAREABLE: u64 = 0b10;
const INNER_SHAREABLE: u64 = 0b11;

/// Stage-2 `MemAttr` (§16.3) for each [`Memory`].
const MEM_ATTR: [u64; 3] = [0b1111, 0b0101, 0b0001];

/// The encoding of all attributes, worked out once. A namespace.
struct Leaves<const STAGE: u8>;

impl<const STAGE: u8> Leaves<STAGE> {
    /// Indexed by `prot | memory << 4`, as a byte. Zero, which no leaf is, where the stage can't express
    /// them.
    const BITS: [u64; 256] = {
        let mut bits = [0; 256];
        let mut index = 0;
        while index < 48 {
            let memory = match index >> 4 {
                0 => Memory::NormalCacheable,
                1 => Memory::NormalNonCacheable,
                _ => Memory::Device,
            };
            let prot = Prot::from_bits(index as u8);
            if let Some(leaf) = compute::<STAGE>(Attributes { prot, memory }) {
                bits[index] = leaf;
            }
            index += 1;
        }
        bits
    };

    /// Indexed by the bits that [`decode`] takes out of a leaf.
    const MEANINGS: [Attributes; 512] = {
        let mut meanings = [Attributes::normal(Prot::NONE); 512];
        let mut index = 0;
        while index < 512 {
            let (attr, ap, xn) = (index >> 2 & 0b1111, index >> 6 & 0b11, index >> 8);
            let (prot, memory) = if STAGE == 1 {
                (1 | (!ap & 0b10) | (!xn & 1) << 2 | (!ap & 1) << 3, attr)
            } else {
                let memory = match attr as u64 {
                    attr if attr == MEM_ATTR[0] => 0,
                    attr if attr == MEM_ATTR[1] => 1,
                    _ => 2,
                };
                (ap | (!xn & 1) << 2, memory)
            };
            let memory = match memory {
                0 => Memory::NormalCacheable,
                1 => Memory::NormalNonCacheable,
                _ => Memory::Device,
            };
            meanings[index] = Attributes { prot: Prot::from_bits(prot as u8), memory };
            index += 1;
        }
        meanings
    };
}

/// The descriptor bits for `attributes`, or `None` when the stage can't express them.
///
/// Pages and blocks have these fields in the same places, so one encoding serves both.
#[inline(always)]
pub(crate) fn encode<const STAGE: u8>(attributes: Attributes) -> Option<u64> {
    let index = attributes.prot.bits() | (attributes.memory as u8) << 4;
    match Leaves::<STAGE>::BITS[usize::from(index)] {
        0 => None,
        leaf => Some(leaf),
    }
}

const fn compute<const STAGE: u8>(attributes: Attributes) -> Option<u64> {
    const { assert!(STAGE == 1 || STAGE == 2, "there are two stages") };
    let Attributes { prot, memory } = attributes;
    let (read, write) = (prot.contains(Prot::READ), prot.contains(Prot::WRITE));
    let execute = prot.contains(Prot::EXECUTE);
    let privileged = prot.contains(Prot::PRIVILEGED);
    if !read && !write {
        return None;
    }
    let sh = match memory {
        Memory::NormalCacheable => INNER_SHAREABLE,
        Memory::NormalNonCacheable | Memory::Device => OUTER_SHAREABLE,
    };
    if STAGE == 1 {
        // UXN = 0 alone would let unprivileged instruction reads into a privileged page: execution is
        // checked without AP (§16.1).
        let page = Stage1Page([0])
            .with_attr_index(memory as u64)
            .with_ap((!write as u64) << 1 | !privileged as u64)
            .with_sh(sh)
            .with_af(true)
            .with_ng(true)
            .with_pxn(!execute)
            .with_uxn(!execute || privileged);
        Some(page.0[0])
    } else {
        if privileged {
            return None;
        }
        let page = Stage2Page([0])
            .with_mem_attr(MEM_ATTR[memory as usize])
            .with_s2ap((write as u64) << 1 | read as u64)
            .with_sh(sh)
            .with_af(true)
            .with_xn((!execute as u64) << 1);
        Some(page.0[0])
    }
}

/// What a leaf of this crate says.
#[inline(always)]
pub(crate) fn decode<const STAGE: u8>(descriptor: u64) -> Attributes {
    // PXN at stage 1, XN[1] at stage 2.
    let xn = descriptor >> if STAGE == 1 { 53 } else { 54 } & 1;
    // The low byte has the memory type in bits 5:2 (AttrIndx and NS, which is 0, or MemAttr) and what is
    // permitted in 7:6 (AP, or S2AP).
    let index = descriptor as u8 as usize | (xn as usize) << 8;
    Leaves::<STAGE>::MEANINGS[index]
}

/// The type bits of a leaf: pages are told apart from blocks by the level only in part (§15.1).
#[inline(always)]
pub(crate) const fn kind(page: bool) -> u64 {
    if page { TABLE_OR_PAGE } else { BLOCK }
}

/// Whether `descriptor`, not at level 3, points to a table. Only this crate writes the tables, and only
/// zero, blocks (01) and tables (11): bit 1 tells.
#[inline(always)]
pub(crate) const fn is_table(descriptor: u64) -> bool {
    descriptor & 0b10 != 0
}

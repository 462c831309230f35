// SPDX-License-Identifier: MIT OR Apache-2.0
//! Attributes to descriptor bits and back (§15.3, §16). A leaf is built once per call, without its
//! address and type: those are added per run.
//!
//! [`Encoding::encode`] and [`Encoding::decode`] know everything. Most mappings are of a few kinds, for which there is
//! a short way: for maps two small arrays of the table, for look-ups one array of the program ([`short`]). Leaves that
//! the latter reads rightly are *plain*. A table that may hold others always takes the long way to read them.

use smmuv3_formats::descriptor::{BLOCK, Stage1Page, Stage2Page, TABLE_OR_PAGE};
use smmuv3_formats::memory_type::Attribute;

use crate::error::MapErrorKind;
use crate::flags::written;
use crate::{Attributes, Dirty, Memory, Prot, Shareability, TableConfig};

/// AttrIndx or MemAttr, and SH.
const MEMORY: u64 = 0b1111 << 2 | 0b11 << 8;

/// How a table's leaves say attributes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Encoding<const STAGE: u8> {
    /// For each set of the four basic permissions, a leaf with all bits of [`MEMORY`] set; 0 for the long way.
    permissions: [u64; 16],
    /// For each type, a leaf with all other bits set; 0 for the long way.
    types: [u64; 16],
    mair: u64,
    /// What shareability is, where leaves do not hold it.
    sh: Option<Shareability>,
    fwb: bool,
    xnx: bool,
    one_privilege: bool,
    dirty: Dirty,
    access_flags: bool,
    /// Leaves need not be plain.
    all: bool,
}

impl<const STAGE: u8> Encoding<STAGE> {
    /// Of a table whose leaves are those of LPA2, or not.
    pub(crate) fn new(config: &TableConfig, lpa2: bool) -> Self {
        const { assert!(STAGE == 1 || STAGE == 2, "there are two stages") };
        let mut this = Self {
            permissions: [0; 16],
            types: [0; 16],
            mair: config.mair,
            sh: lpa2.then_some(config.shareability),
            fwb: config.fwb,
            xnx: config.xnx,
            one_privilege: config.one_privilege,
            dirty: config.dirty,
            access_flags: config.access_flags,
            all: true,
        };
        // What permissions say does not depend on the type, nor the other way round.
        let leaf = |prot, memory| this.encode(Attributes { prot, memory }).unwrap_or(0);
        let type_of_all = Memory::ALL.into_iter().find(|&memory| this.memory(memory).is_some());
        let (mut permissions, mut types) = ([0; 16], [0; 16]);
        for (bits, slot) in (0..).zip(&mut permissions) {
            let leaf = leaf(Prot::from_bits(bits), type_of_all.unwrap_or_default());
            *slot = if leaf == 0 { 0 } else { leaf | MEMORY | BLOCK };
        }
        for memory in Memory::ALL {
            let leaf = leaf(Prot::READ, memory);
            types[memory as usize] = if this.is_plain(leaf) { leaf | !MEMORY } else { 0 };
        }
        (this.permissions, this.types) = (permissions, types);
        this.all = config.all_attributes || config.dirty != Dirty::Untracked || !this.are_plain();
        this
    }

    /// Whether hardware marks what is written.
    pub(crate) const fn dirty(&self) -> Dirty {
        self.dirty
    }

    /// Whether hardware marks what is accessed.
    pub(crate) const fn has_access_flags(&self) -> bool {
        self.access_flags
    }

    /// Whether leaves need not be plain.
    pub(crate) const fn has_all(&self) -> bool {
        self.all
    }

    /// Whether all that [`short`](Self::short) gives is plain.
    fn are_plain(&self) -> bool {
        self.permissions.iter().all(|permissions| {
            let leaves = self.types.map(|bits| permissions & bits);
            leaves.iter().all(|&leaf| leaf == 0 || self.is_plain(leaf))
        })
    }

    /// The descriptor bits for ordinary attributes; `None` if that takes [`encode`](Self::encode).
    ///
    /// Pages and blocks have these fields in the same places, so one encoding serves both.
    #[inline(always)]
    pub(crate) fn short(&self, attributes: Attributes) -> Option<u64> {
        let permissions = self.permissions.get(usize::from(attributes.prot.bits()))?;
        // Both have the lowest bit, or are 0.
        match permissions & self.types[attributes.memory as usize & 15] {
            0 => None,
            leaf => Some(leaf),
        }
    }

    /// The descriptor bits for `attributes`.
    #[cold]
    pub(crate) fn encode(&self, attributes: Attributes) -> Result<u64, MapErrorKind> {
        let Attributes { prot, memory } = attributes;
        let permissions = self.permissions(prot).ok_or(MapErrorKind::NoPermission { prot })?;
        let bits = self.memory(memory).ok_or(MapErrorKind::NoMemoryType { memory })?;
        match permissions | bits {
            leaf if self.all || self.is_plain(leaf) => Ok(leaf),
            // The type is the reason if it is not plain by itself.
            _ if self.types[memory as usize & 15] == 0 => {
                Err(MapErrorKind::NoMemoryType { memory })
            }
            _ => Err(MapErrorKind::NoPermission { prot }),
        }
    }

    /// Whether the short way decodes `leaf` rightly.
    #[inline]
    pub(crate) fn is_plain(&self, leaf: u64) -> bool {
        leaf != 0 && short::<STAGE>(leaf) == self.decode(leaf)
    }

    /// The bits for permissions, with those that all leaves have.
    fn permissions(&self, prot: Prot) -> Option<u64> {
        let has = |flag| prot.contains(flag);
        let (write, execute, privileged) =
            (has(Prot::WRITE), has(Prot::EXECUTE), has(Prot::PRIVILEGED));
        let (pxn, uxn, guarded) = (has(Prot::PXN), has(Prot::UXN), has(Prot::GUARDED));
        let both = STAGE == 1 && !self.one_privilege;
        let (af, tracked) = (!self.access_flags, self.dirty != Dirty::Untracked && write);
        // What is clean is as what may not be written (§14).
        let open = write && self.dirty != Dirty::Clean;
        // PXN and UXN each take something, and not all.
        let takes = !(pxn || uxn) || execute && pxn != uxn && !privileged;
        if !has(Prot::READ) && !write
            || !takes
            || privileged && !both
            || (pxn || uxn) && !both && !self.xnx
            || guarded && STAGE == 2
        {
            return None;
        }
        if STAGE == 2 {
            let xn = match (execute, pxn, uxn) {
                (false, ..) => 0b10,
                (true, true, _) => 0b01,
                (true, _, true) => 0b11,
                _ => 0b00,
            };
            let s2ap = u64::from(open) << 1 | u64::from(has(Prot::READ));
            let page = Stage2Page([0]).with_s2ap(s2ap).with_af(af).with_xn(xn).with_dbm(tracked);
            return Some(page.0[0]);
        }
        // UXN = 0 alone would let unprivileged instruction reads into a privileged page: execution is
        // checked without AP (§16.1).
        let page = Stage1Page([0])
            .with_ap(u64::from(!open) << 1 | u64::from(!privileged))
            .with_af(af)
            .with_dbm(tracked)
            .with_ng(both)
            .with_pxn(both && (!execute || pxn))
            .with_uxn(!execute || privileged || uxn)
            .with_gp(guarded);
        Some(page.0[0])
    }

    /// The bits for a type: [`MEMORY`].
    fn memory(&self, memory: Memory) -> Option<u64> {
        let sh = memory.shareability();
        let sh = match self.sh {
            None => sh as u64,
            // What is not cached is Outer Shareable whatever the table says (§16.3).
            Some(_) if !memory.is_cacheable() => 0,
            Some(all) if all == sh => 0,
            Some(_) => return None,
        };
        if STAGE == 1 {
            let attribute = memory.attribute()?;
            let index = (0..8).find(|&i| Attribute::of_mair(self.mair, i) == Some(attribute))?;
            return Some(Stage1Page([0]).with_attr_index(index).with_sh(sh).0[0]);
        }
        let mem_attr = memory.mem_attr(self.fwb)?;
        Some(Stage2Page([0]).with_mem_attr(mem_attr).with_sh(sh).0[0])
    }

    /// What a leaf of this encoding says.
    #[cold]
    pub(crate) fn decode(&self, leaf: u64) -> Attributes {
        // With LPA2, address bits are where shareability is otherwise.
        let bits = leaf & if self.sh.is_some() { MEMORY & 0xFF } else { MEMORY };
        let memory = Memory::ALL.into_iter().find(|&memory| self.memory(memory) == Some(bits));
        // Only this crate writes leaves.
        Attributes { prot: self.decode_permissions(leaf), memory: memory.unwrap_or_default() }
    }

    fn decode_permissions(&self, leaf: u64) -> Prot {
        // What hardware may mark as written may be written.
        let leaf = written::<STAGE>(leaf);
        let flag = |set: bool, flag: Prot| if set { flag } else { Prot::NONE };
        let (read, write, privileged, guarded, pxn, uxn) = if STAGE == 1 {
            let page = Stage1Page([leaf]);
            let privileged = page.ap() & 0b01 == 0;
            let pxn = if self.one_privilege { page.uxn() } else { page.pxn() };
            (true, page.ap() & 0b10 == 0, privileged, page.gp(), pxn, page.uxn())
        } else {
            let page = Stage2Page([leaf]);
            let (pxn, uxn) = match page.xn() {
                0b00 => (false, false),
                0b01 => (true, false),
                0b10 => (true, true),
                _ => (false, true),
            };
            (page.s2ap() & 0b01 != 0, page.s2ap() & 0b10 != 0, false, false, pxn, uxn)
        };
        let execute = match (pxn, uxn) {
            (true, true) => Prot::NONE,
            (false, false) => Prot::EXECUTE,
            // Of privileged pages, that is what EXECUTE is.
            (false, true) if privileged => Prot::EXECUTE,
            (false, true) => Prot::EXECUTE | Prot::UXN,
            (true, false) => Prot::EXECUTE | Prot::PXN,
        };
        flag(read, Prot::READ)
            | flag(write, Prot::WRITE)
            | flag(privileged, Prot::PRIVILEGED)
            | flag(guarded, Prot::GUARDED)
            | execute
    }
}

/// What leaves mean by the bits that [`short`] looks at. A namespace.
struct Leaves<const STAGE: u8>;

impl<const STAGE: u8> Leaves<STAGE> {
    const MEANINGS: [Attributes; 512] = {
        let mut meanings = [Attributes::normal(Prot::NONE); 512];
        let mut index = 0;
        while index < 512 {
            let (attr, ap, xn) = (index >> 2 & 0b1111, index >> 6 & 0b11, index >> 8);
            let (prot, memory) = if STAGE == 1 {
                (1 | (!ap & 0b10) | (!xn & 1) << 2 | (!ap & 1) << 3, attr)
            } else {
                let memory = match attr {
                    0b1111 | 0b0110 => 0,
                    0b0101 => 1,
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

/// What a plain leaf says.
#[inline(always)]
pub(crate) fn short<const STAGE: u8>(leaf: u64) -> Attributes {
    // PXN at stage 1, XN[1] at stage 2.
    let xn = leaf >> if STAGE == 1 { 53 } else { 54 } & 1;
    // The low byte has the memory type in bits 5:2 (AttrIndx and NS, which is 0, or MemAttr) and what is
    // permitted in 7:6 (AP, or S2AP).
    Leaves::<STAGE>::MEANINGS[leaf as u8 as usize | (xn as usize) << 8]
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

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Attributes to descriptor bits and back (§15.3, §16). A leaf is built once per call, without its
//! address and type: those are added per run.
//!
//! [`Encoding::encode`] and [`Encoding::decode`] know everything. Most mappings are of a few kinds, for which there is
//! a short way: for maps two small arrays, for look-ups one ([`short`]), all of the program. Leaves that
//! the latter reads rightly are *plain*. A table that may hold others always takes the long way to read them.

use smmuv3_formats::descriptor::{BLOCK, Stage1Page, Stage2Page, TABLE_OR_PAGE};

use crate::error::MapErrorKind;
use crate::flags::written;
use crate::{Attributes, Dirty, FAST, MAIR, Memory, Prot, Shareability, TableConfig};

/// The bits of the memory type: AttrIndx or MemAttr, and SH.
const MEMORY: u64 = 0b1111 << 2 | 0b11 << 8;

/// How a table's leaves encode attributes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Encoding<const STAGE: u8> {
    /// The short way, as far as there is one.
    short: &'static Short,
    mair: u64,
    /// The shareability that CD.SHx or STE.S2SH0 says for all leaves; `None` where leaves hold it.
    sh: Option<Shareability>,
    dirty: Dirty,
    access_flags: bool,
    pub(crate) fwb: bool,
    pub(crate) xnx: bool,
    pub(crate) one_privilege: bool,
    /// Whether leaves need not be plain.
    all: bool,
    /// Whether everything may be executed.
    #[cfg(feature = "mutation")]
    executable: bool,
}

/// Leaves for what is asked for most, joined from two parts. The arrays have an element for each index, so that none is
/// checked.
#[derive(Debug)]
struct Short {
    /// For each set of the four basic permissions, a leaf with all bits of [`MEMORY`] set; 0 for the long way.
    permissions: [u64; 16],
    /// For each type, a leaf with all other bits set; 0 for the long way.
    types: [u64; 16],
}

/// The types that have a short way.
const COMMON: [Memory; 3] = [Memory::NormalCacheable, Memory::NormalNonCacheable, Memory::Device];

impl Short {
    /// For tables whose leaves all take the long way.
    const NONE: &Self = &Self { permissions: [0; 16], types: [0; 16] };
}

impl<const STAGE: u8> Encoding<STAGE> {
    /// One of each kind of table that has a short way: by dirty state, without shareability or with, FWB or not.
    const SHORTS: [[[Short; 2]; 2]; 3] =
        [Self::shorts(Dirty::Untracked), Self::shorts(Dirty::Clean), Self::shorts(Dirty::Born)];

    const fn shorts(dirty: Dirty) -> [[Short; 2]; 2] {
        let inner = Some(Shareability::Inner);
        [
            [Self::usual(dirty, None, false), Self::usual(dirty, None, true)],
            [Self::usual(dirty, inner, false), Self::usual(dirty, inner, true)],
        ]
    }

    /// The encoding of ordinary tables of a kind, all the long way.
    const fn plain(dirty: Dirty, sh: Option<Shareability>, fwb: bool) -> Self {
        Self {
            short: Short::NONE,
            mair: MAIR,
            sh,
            dirty,
            access_flags: false,
            fwb,
            xnx: false,
            one_privilege: false,
            all: true,
            #[cfg(feature = "mutation")]
            executable: false,
        }
    }

    /// The short way of ordinary tables of a kind.
    const fn usual(dirty: Dirty, sh: Option<Shareability>, fwb: bool) -> Short {
        let this = Self::plain(dirty, sh, fwb);
        let (mut permissions, mut types) = ([0; 16], [0; 16]);
        let mut bits = 0;
        while bits < 16 {
            if let Some(leaf) = this.permissions(Prot::from_bits(bits)) {
                permissions[bits as usize] = leaf | MEMORY | BLOCK;
            }
            bits += 1;
        }
        let mut nth = 0;
        while nth < COMMON.len() {
            if let Some(bits) = this.memory(COMMON[nth]) {
                types[COMMON[nth] as usize] = bits | !MEMORY;
            }
            nth += 1;
        }
        Short { permissions, types }
    }

    /// The encoding of a table as `config` asks for, with leaves of LPA2 or not.
    pub(crate) fn new(config: &TableConfig, lpa2: bool) -> Self {
        const { assert!(STAGE == 1 || STAGE == 2, "there are two stages") };
        let sh = lpa2.then_some(config.shareability);
        let mut this = Self {
            mair: config.mair,
            access_flags: config.access_flags,
            xnx: config.execute_by_privilege,
            one_privilege: config.one_privilege,
            // With one privilege, execution is told by another bit than the one that plain leaves are read by; and
            // where hardware marks writes, a leaf may look read-only that is writable.
            all: config.all_attributes || config.one_privilege || config.dirty != Dirty::Untracked,
            ..Self::plain(config.dirty, sh, config.forced_types)
        };
        let usual = Self::plain(config.dirty, sh, config.forced_types);
        let same = |memory| this.memory(memory) == usual.memory(memory);
        if FAST
            && !config.access_flags
            && !config.one_privilege
            && sh.is_none_or(|sh| sh == Shareability::Inner)
            // There is no short way if a common type is elsewhere in MAIR.
            && COMMON.into_iter().all(same)
        {
            this.short = &Self::SHORTS[config.dirty as usize][usize::from(lpa2)]
                [usize::from(config.forced_types)];
        }
        this
    }

    /// For tests: one whose leaves all have NS set.
    #[cfg(all(test, debug_assertions, not(loom)))]
    pub(crate) fn spoilt(self) -> Self {
        const NS: u64 = 1 << 5;
        let Short { mut permissions, types } = *self.short;
        // At stage 1 bit 5 belongs to the memory type's part and is 0 there: it has to be set in both parts.
        permissions.iter_mut().for_each(|leaf| *leaf |= NS);
        let types = types.map(|kind| kind | NS);
        Self {
            short: std::boxed::Box::leak(std::boxed::Box::new(Short { permissions, types })),
            ..self
        }
    }

    /// As it is, but everything may be executed.
    #[cfg(feature = "mutation")]
    pub(crate) const fn executable(self) -> Self {
        Self { short: Short::NONE, executable: true, ..self }
    }

    /// Whether hardware marks what is written.
    pub(crate) const fn dirty(&self) -> Dirty {
        self.dirty
    }

    /// Whether hardware marks what is accessed.
    pub(crate) const fn has_access_flags(&self) -> bool {
        self.access_flags
    }

    /// Whether leaves need not be plain: without shorter ways, among which look-ups of plain leaves are, none need.
    pub(crate) const fn has_all(&self) -> bool {
        !FAST || self.all
    }

    /// The descriptor bits for ordinary attributes; `None` if that takes [`encode`](Self::encode).
    ///
    /// Pages and blocks have these fields in the same places, so one encoding serves both.
    #[inline(always)]
    pub(crate) fn short(&self, attributes: Attributes) -> Option<u64> {
        let permissions = self.short.permissions.get(usize::from(attributes.prot.bits()))?;
        // If both parts exist, bit 0 is set in both; otherwise one is 0.
        match permissions & self.short.types[attributes.memory as usize & 15] {
            0 => None,
            leaf => Some(leaf),
        }
    }

    /// The descriptor bits for `attributes`.
    #[cfg_attr(feature = "fast-paths", cold)]
    pub(crate) fn encode(&self, attributes: Attributes) -> Result<u64, MapErrorKind> {
        let Attributes { prot, memory } = attributes;
        let permissions = self.permissions(prot).ok_or(MapErrorKind::NoPermission { prot })?;
        let bits = self.memory(memory).ok_or(MapErrorKind::NoMemoryType { memory })?;
        match permissions | bits {
            leaf if self.has_all() || self.is_plain(leaf) => Ok(leaf),
            // If the memory type alone makes the leaf not plain, that is the reason.
            _ if self.permissions(Prot::READ).is_none_or(|read| !self.is_plain(read | bits)) => {
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
    const fn permissions(&self, prot: Prot) -> Option<u64> {
        let (read, write) = (prot.contains(Prot::READ), prot.contains(Prot::WRITE));
        let (execute, guarded) = (prot.contains(Prot::EXECUTE), prot.contains(Prot::GUARDED));
        let (pxn, uxn) = (prot.contains(Prot::PXN), prot.contains(Prot::UXN));
        #[cfg(feature = "mutation")]
        let execute = execute || self.executable;
        let privileged = prot.contains(Prot::PRIVILEGED);
        let both = STAGE == 1 && !self.one_privilege;
        let (af, tracked) = (!self.access_flags, write && !matches!(self.dirty, Dirty::Untracked));
        // A clean leaf looks like one that may not be written (§14).
        let open = write && !matches!(self.dirty, Dirty::Clean);
        // PXN and UXN each take execution away from one privilege: at most one of them, and only with EXECUTE.
        let takes = !(pxn || uxn) || execute && pxn != uxn && !privileged;
        if !read && !write
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
            let s2ap = (open as u64) << 1 | read as u64;
            let page = Stage2Page([0]).with_s2ap(s2ap).with_af(af).with_xn(xn).with_dbm(tracked);
            return Some(page.0[0]);
        }
        // UXN = 0 alone would let unprivileged instruction reads into a privileged page: execution is
        // checked without AP (§16.1).
        let page = Stage1Page([0])
            .with_ap((!open as u64) << 1 | !privileged as u64)
            .with_af(af)
            .with_dbm(tracked)
            .with_ng(both)
            .with_pxn(both && (!execute || pxn))
            .with_uxn(!execute || privileged || uxn)
            .with_gp(guarded);
        Some(page.0[0])
    }

    /// The bits for a type: [`MEMORY`].
    #[cfg_attr(feature = "fast-paths", inline(never))]
    const fn memory(&self, memory: Memory) -> Option<u64> {
        let sh = memory.shareability() as u64;
        let sh = match self.sh {
            None => sh,
            // Memory that is not cached is Outer Shareable, whatever CD.SHx says (§16.3).
            Some(_) if !memory.is_cacheable() => 0,
            Some(all) if all as u64 == sh => 0,
            Some(_) => return None,
        };
        if STAGE == 2 {
            return match memory.mem_attr(self.fwb) {
                Some(mem_attr) => Some(Stage2Page([0]).with_mem_attr(mem_attr).with_sh(sh).0[0]),
                None => None,
            };
        }
        let Some(attribute) = memory.attribute() else { return None };
        let mut index = 0;
        while index < 8 {
            if (self.mair >> (8 * index)) as u8 == attribute.0 {
                return Some(Stage1Page([0]).with_attr_index(index).with_sh(sh).0[0]);
            }
            index += 1;
        }
        None
    }

    /// The attributes that `leaf` stands for in this encoding.
    #[cold]
    pub(crate) fn decode(&self, leaf: u64) -> Attributes {
        // With LPA2, address bits are where shareability is otherwise.
        let bits = leaf & if self.sh.is_some() { MEMORY & 0xFF } else { MEMORY };
        let memory = Memory::ALL.into_iter().find(|&memory| self.memory(memory) == Some(bits));
        // Always found: only this crate writes leaves.
        Attributes { prot: self.decode_permissions(leaf), memory: memory.unwrap_or_default() }
    }

    fn decode_permissions(&self, leaf: u64) -> Prot {
        // A clean leaf that hardware may mark counts as writable.
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
            // In privileged pages UXN is always set, so this is plain EXECUTE.
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

/// A namespace for the tables of [`short`].
struct Leaves<const STAGE: u8>;

impl<const STAGE: u8> Leaves<STAGE> {
    /// By the low byte, which has the memory type in bits 5:2 (AttrIndx and NS, which is 0, or MemAttr) and what is permitted
    /// in 7:6 (AP, or S2AP): where instructions are executed, and where they are not.
    const EXECUTED: [Attributes; 256] = Self::meanings(true);
    const NOT_EXECUTED: [Attributes; 256] = Self::meanings(false);

    const fn meanings(executed: bool) -> [Attributes; 256] {
        let mut meanings = [Attributes::normal(Prot::NONE); 256];
        let mut index = 0;
        while index < 256 {
            let (attr, ap) = (index >> 2 & 0b1111, index >> 6);
            let execute = (executed as usize) << 2;
            let (prot, memory) = if STAGE == 1 {
                (1 | (!ap & 0b10) | execute | (!ap & 1) << 3, attr)
            } else {
                let memory = match attr {
                    0b1111 | 0b0110 => 0,
                    0b0101 => 1,
                    _ => 2,
                };
                (ap | execute, memory)
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
    }
}

/// The attributes that a plain leaf stands for.
#[inline(always)]
pub(crate) fn short<const STAGE: u8>(leaf: u64) -> Attributes {
    // PXN at stage 1, XN[1] at stage 2. To choose a table by it takes an instruction less than an index in a single one.
    let xn = leaf >> if STAGE == 1 { 53 } else { 54 } & 1;
    let meanings =
        if xn == 0 { &Leaves::<STAGE>::EXECUTED } else { &Leaves::<STAGE>::NOT_EXECUTED };
    meanings[leaf as u8 as usize]
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

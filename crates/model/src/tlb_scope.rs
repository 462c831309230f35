// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which translations an invalidation hits, whoever asks for it (§4.2, §8.3).

use smmuv3_formats::granule::Granule;

use crate::tlb::{Stages, Tag, TlbEntry, WalkEntry};
use crate::world::Worlds;

/// Which translations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TlbScope {
    pub(crate) worlds: Worlds,
    /// VMID and the bits of it that are not compared; `None` for every entry.
    pub(crate) vmid: Option<(u16, u16)>,
    pub(crate) asid: Asids,
    pub(crate) range: Option<Range>,
    pub(crate) kinds: Kinds,
    /// Entries of CDs with ASET = 0 only (§8.3).
    pub(crate) shared: bool,
}

/// By what address entries are found. Those of both stages are found by virtual address alone, whatever of stage 2
/// is in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kinds {
    /// Virtual addresses.
    Virtual,
    /// Intermediate addresses: stage 2 alone.
    Intermediate,
    /// Every entry.
    All,
}

impl Kinds {
    fn has(self, stages: Stages) -> bool {
        match self {
            Self::Virtual => stages != Stages::Two,
            Self::Intermediate => stages == Stages::Two,
            Self::All => true,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Asids {
    /// Every entry.
    Any,
    /// Non-global entries of this ASID.
    NonGlobal(u16),
    /// Entries of this ASID and global ones.
    OrGlobal(u16),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Entries of this granule only.
    pub(crate) granule: Option<Granule>,
    /// Leaves of this level only; 0 for all.
    pub(crate) ttl: i8,
    /// Leaves only.
    pub(crate) leaf: bool,
}

impl TlbScope {
    pub(crate) fn vmid_is(&self, theirs: Option<u16>) -> bool {
        match (self.vmid, theirs) {
            (Some((vmid, ignored)), Some(theirs)) => (vmid ^ theirs) & !ignored == 0,
            _ => true,
        }
    }

    fn tag(&self, tag: &Tag, global: bool, aset: bool) -> bool {
        let vmid = self.worlds.has(tag.world) && self.vmid_is(tag.vmid);
        let asid = match self.asid {
            Asids::Any => true,
            Asids::NonGlobal(asid) => !global && tag.asid == asid,
            Asids::OrGlobal(asid) => global || tag.asid == asid,
        };
        vmid && asid && !(self.shared && aset)
    }

    pub(crate) fn leaf(&self, entry: &TlbEntry) -> bool {
        self.kinds.has(entry.stages)
            && self.tag(&entry.tag, entry.global, entry.aset)
            && self.range.is_none_or(|range| {
                let (first, last) = entry.leaf();
                (range.ttl == 0 || range.ttl == entry.level)
                    && range.meets(first, last, entry.granule)
            })
    }

    pub(crate) fn table(&self, entry: &WalkEntry) -> bool {
        self.kinds.has(entry.stages())
            && self.tag(&entry.tag, false, entry.aset)
            && self.range.is_none_or(|range| {
                !range.leaf
                    && (range.ttl == 0 || entry.level < range.ttl)
                    && range.meets(entry.va, entry.last(), entry.granule())
            })
    }
}

impl Range {
    fn meets(&self, first: u64, last: u64, granule: Granule) -> bool {
        self.granule.is_none_or(|own| own == granule) && self.first <= last && first <= self.last
    }
}

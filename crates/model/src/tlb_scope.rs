// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which translations an invalidation hits, whoever asks for it (§4.2, §8.3).

use crate::granule::Granule;
use crate::tlb::{Tag, TlbEntry, WalkEntry};

/// Which translations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TlbScope {
    /// VMID and the bits of it that are not compared; `None` for every entry.
    pub(crate) vmid: Option<(u16, u16)>,
    pub(crate) asid: Asids,
    pub(crate) range: Option<Range>,
    /// Entries of CDs with ASET = 0 only (§8.3).
    pub(crate) shared: bool,
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
    pub(crate) ttl: u8,
    /// Leaves only.
    pub(crate) leaf: bool,
}

impl TlbScope {
    fn tag(&self, tag: &Tag, global: bool, aset: bool) -> bool {
        let vmid = match (self.vmid, tag.vmid) {
            (Some((vmid, ignored)), Some(theirs)) => (vmid ^ theirs) & !ignored == 0,
            _ => true,
        };
        let asid = match self.asid {
            Asids::Any => true,
            Asids::NonGlobal(asid) => !global && tag.asid == asid,
            Asids::OrGlobal(asid) => global || tag.asid == asid,
        };
        vmid && asid && !(self.shared && aset)
    }

    pub(crate) fn leaf(&self, entry: &TlbEntry) -> bool {
        self.tag(&entry.tag, entry.global, entry.aset)
            && self.range.is_none_or(|range| {
                (range.ttl == 0 || range.ttl == entry.level)
                    && range.meets(entry.va, entry.last(), entry.granule)
            })
    }

    pub(crate) fn table(&self, entry: &WalkEntry) -> bool {
        self.tag(&entry.tag, false, entry.aset)
            && self.range.is_none_or(|range| {
                !range.leaf
                    && (range.ttl == 0 || entry.level < range.ttl)
                    && range.meets(entry.va, entry.last(), entry.granule)
            })
    }
}

impl Range {
    fn meets(&self, first: u64, last: u64, granule: Granule) -> bool {
        self.granule.is_none_or(|own| own == granule) && self.first <= last && first <= self.last
    }
}

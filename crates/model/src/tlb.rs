// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cached translations and cached table descriptors. Nothing is ever forgotten unless an invalidation
//! hits it, and the stream plays no part in the lookup (§1).

use core::fmt;
use std::collections::hash_map::Entry;

use smmuv3_formats::descriptor::{Meaning, Stage};
use smmuv3_formats::granule::Granule;
use smmuv3_formats::permission::{Limits, Permissions};

use crate::random::Map;
use crate::tables::Layout;
use crate::world::World;

/// What the TLB keys entries by, besides the address (§1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag {
    /// World of the stream.
    pub world: World,
    /// VMID; `None` where stage 2 is not implemented, and outside of EL1.
    pub vmid: Option<u16>,
    /// ASID of the CD that the entry was walked for; 0 in EL2 without E2H.
    pub asid: u16,
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.world {
            World::El1 => {}
            World::El2 => return f.write_str("EL2"),
            World::El2E2h => write!(f, "{} ", self.world)?,
        }
        match self.vmid {
            Some(vmid) => write!(f, "VMID {vmid:#x} ASID {:#x}", self.asid),
            None => write!(f, "ASID {:#x}", self.asid),
        }
    }
}

/// Which stages a cached translation stands for, and so what its address is and which invalidations hit it (§1,
/// §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stages {
    /// Stage 1 alone: virtual to physical addresses. Tagged with VMID and ASID.
    One,
    /// Stage 2 alone: intermediate to physical addresses. Tagged with the VMID; the ASID of its tag is 0.
    Two,
    /// Both: virtual to physical addresses. Tagged with VMID and ASID.
    Both,
}

/// A descriptor that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Its physical address.
    pub(crate) pa: u64,
    /// What was read.
    pub(crate) word: u64,
}

/// The stage-2 part of a cached translation of both stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecondStage {
    /// First intermediate address.
    pub ipa: u64,
    /// Level of its leaf, 0 to 3.
    pub level: i8,
    /// Table base of stage 2 (S2TTB).
    pub ttb: u64,
    /// What stage 2 permits.
    pub permissions: Permissions,
    /// What stage 1 permits.
    pub first: Permissions,
    /// MemAttr of its leaf.
    pub attributes: u8,
    /// Its shareability field.
    pub shareability: u8,
    /// Intermediate address of the stage-1 leaf.
    pub(crate) at: u64,
    pub(crate) slot: Slot,
    /// As [`TlbEntry`] has it, of the stage-2 leaf.
    pub(crate) clean: bool,
}

/// A cached leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlbEntry {
    /// Number of the entry; later ones have greater numbers.
    pub id: u64,
    /// Its tag.
    pub tag: Tag,
    /// Whether it is global (nG = 0): it hits whatever the ASID, through CDs of the same ASET.
    pub global: bool,
    /// ASET of the CD that it was walked for; 0 is shared with processors. It plays no part in the lookup
    /// of entries that are not global.
    pub aset: bool,
    /// Which stages it stands for.
    pub stages: Stages,
    /// First input address: sign-extended, or intermediate for stage 2 alone.
    pub va: u64,
    /// Bytes, a power of two; of the smaller leaf for both stages.
    pub size: u64,
    /// First output address.
    pub pa: u64,
    /// Level of the leaf, 0 to 3; of the stage-1 leaf for both stages.
    pub level: i8,
    /// Granule of its tables.
    pub granule: Granule,
    /// What it permits; possibly nothing.
    pub permissions: Permissions,
    /// MAIR byte of its memory type; MemAttr for stage 2 alone.
    pub attributes: u8,
    /// Shareability field: of the leaf, or with LPA2 of the configuration.
    pub shareability: u8,
    /// Table base of the walk: TTBx, or S2TTB for stage 2 alone.
    pub ttb: u64,
    /// What stage 2 adds to a translation of both stages.
    pub second: Option<SecondStage>,
    /// Stream whose walk it was.
    pub stream: u32,
    /// An input address of the leaf that was walked: of those of a contiguous group, the one by whose address the entry
    /// is found when it is to go.
    pub(crate) walked: u64,
    /// Where the leaf is; of stage 1 for both stages.
    pub(crate) slot: Slot,
    /// A write must mark that leaf as written first (§14).
    pub(crate) clean: bool,
    /// When the oldest thing that it was made from was read.
    pub(crate) basis: u64,
}

impl TlbEntry {
    /// Whether it was made from a leaf of the tables at `root`, of either stage, for any input address of that
    /// stage within `first..=last`.
    pub fn uses(&self, root: u64, first: u64, last: u64) -> bool {
        let meets = |at: u64| at <= last && at.wrapping_add(self.size - 1) >= first;
        if self.ttb == root && meets(self.va) {
            return true;
        }
        self.second.is_some_and(|second| second.ttb == root && meets(second.ipa))
    }

    /// Whether it was made from the tables at `root`, of either stage.
    pub fn is_of(&self, root: u64) -> bool {
        self.ttb == root || self.second.is_some_and(|second| second.ttb == root)
    }

    /// First and last input address of the leaf that it was made from, of stage 1 for both stages. Where stage 2 has
    /// smaller ones, several entries are made from it, and all go by any address within: whoever invalidates a stage 1 names
    /// the leaf once, and knows nothing of what is below.
    ///
    /// One that stands for several of a contiguous group is sure to go only by an invalidation of the whole group (§8.2):
    /// here by that of the member that was walked, which nobody knows.
    pub(crate) const fn leaf(&self) -> (u64, u64) {
        let bytes = 1 << self.granule.span(self.level);
        if matches!(self.stages, Stages::Both) && self.size < bytes {
            let first = self.va & !(bytes - 1);
            return (first, first | (bytes - 1));
        }
        if self.size > bytes {
            let first = self.walked & !(bytes - 1);
            return (first, first | (bytes - 1));
        }
        (self.va, self.last())
    }

    /// The input address of the tables at `root` that `address`, which it covers, leads to; `None` when it was not
    /// made from these.
    pub fn input_of(&self, root: u64, address: u64) -> Option<u64> {
        if self.ttb == root {
            return Some(address);
        }
        let second = self.second.filter(|second| second.ttb == root)?;
        Some(second.ipa | address & (self.size - 1))
    }

    /// Whether a write through it must mark a leaf first (§14).
    #[inline]
    pub(crate) const fn is_clean(&self) -> bool {
        self.clean || matches!(self.second, Some(second) if second.clean)
    }

    /// Where `input`, which it covers, goes.
    #[inline]
    pub(crate) const fn output(&self, input: u64) -> u64 {
        self.pa | input & (self.size - 1)
    }

    /// Last input address.
    #[inline]
    pub const fn last(&self) -> u64 {
        self.va.wrapping_add(self.size - 1)
    }
}

/// A cached table descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalkEntry {
    /// Number of the entry; later ones have greater numbers.
    pub id: u64,
    /// Its tag.
    pub tag: Tag,
    /// First input address that it covers: sign-extended, or intermediate for stage 2.
    pub va: u64,
    /// Level of the descriptor, -1 to 2.
    pub level: i8,
    /// Physical address of the table that it points to.
    pub table: u64,
    /// Table base of the walk: TTBx or S2TTB.
    pub ttb: u64,
    /// How the tables are read.
    pub(crate) layout: Layout,
    /// They are at intermediate addresses: stage 1 over stage 2.
    pub(crate) nested: bool,
    /// Stream whose walk it was.
    pub stream: u32,
    /// ASET of the CD that it was walked for; no part of the lookup.
    pub aset: bool,
    /// APTable, UXNTable and PXNTable of all levels so far.
    pub(crate) limits: Limits,
    /// Where the descriptor is.
    pub(crate) slot: Slot,
    /// When the oldest thing that it was made from was read.
    pub(crate) basis: u64,
}

impl WalkEntry {
    /// Which stages it stands for.
    pub const fn stages(&self) -> Stages {
        match (self.layout.stage, self.nested) {
            (Stage::Two, _) => Stages::Two,
            (Stage::One, false) => Stages::One,
            (Stage::One, true) => Stages::Both,
        }
    }

    /// Granule of the tables.
    #[inline]
    pub const fn granule(&self) -> Granule {
        self.layout.granule
    }

    /// Bytes that it covers, a power of two.
    pub const fn size(&self) -> u64 {
        1 << self.granule().span(self.level)
    }

    /// Intermediate address of the table that it points to, for stage 1 over stage 2.
    pub const fn ipa(&self) -> Option<u64> {
        match self.layout.read(self.slot.word, self.level) {
            Meaning::Table { next, .. } if self.nested => Some(next),
            _ => None,
        }
    }

    /// Last input address.
    pub const fn last(&self) -> u64 {
        self.va.wrapping_add(self.size() - 1)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key(u64, u64);

/// No VMID, or no ASID: one above every value.
const NONE: u64 = 0x1_0000;

impl Key {
    /// `space` is the ASID, or for global entries 0x10000 plus ASET.
    #[inline]
    fn new(tag: Tag, space: u64, va: u64, shift: u32) -> Self {
        let vmid = tag.vmid.map_or(NONE, u64::from) | u64::from(tag.world.is_el2()) << 17;
        Self(vmid << 32 | space << 8 | u64::from(shift), va >> shift)
    }

    #[inline]
    fn of(entry: &TlbEntry) -> Self {
        let space = match entry.global {
            true => NONE + u64::from(entry.aset),
            false => entry.tag.asid.into(),
        };
        Self::new(entry.tag, space, entry.va, entry.size.trailing_zeros())
    }
}

/// The cached leaves, found by one probe a size in use.
#[derive(Clone, Debug)]
pub(crate) struct Tlb {
    entries: Map<Key, TlbEntry>,
    /// Entries of each log2 size, and the sizes in use as bits.
    counts: [usize; 64],
    sizes: u64,
    globals: usize,
}

impl Tlb {
    pub(crate) fn new() -> Self {
        Self { entries: Map::default(), counts: [0; 64], sizes: 0, globals: 0 }
    }

    /// The entry for `va`; where several match, the smallest, which is the one that was there first: an
    /// address that a larger entry covers is never walked again.
    #[inline]
    pub(crate) fn lookup(&self, tag: Tag, aset: bool, va: u64) -> Option<&TlbEntry> {
        let mut sizes = self.sizes;
        while sizes != 0 {
            let shift = sizes.trailing_zeros();
            sizes &= sizes - 1;
            let own = self.entries.get(&Key::new(tag, tag.asid.into(), va, shift));
            if own.is_some() {
                return own;
            }
            if self.globals != 0 {
                let key = Key::new(tag, NONE + u64::from(aset), va, shift);
                if let found @ Some(_) = self.entries.get(&key) {
                    return found;
                }
            }
        }
        None
    }

    /// Caches a leaf; a smaller one of the tag that it covers, one that differs first.
    pub(crate) fn insert(&mut self, entry: &TlbEntry) -> Option<TlbEntry> {
        let overlaps = self.overlaps(entry);
        // Entries are large: this one is copied once.
        match self.entries.entry(Key::of(entry)) {
            Entry::Vacant(place) => {
                place.insert(*entry);
            }
            Entry::Occupied(mut place) => {
                let old = std::mem::replace(place.get_mut(), *entry);
                self.uncount(&old);
            }
        }
        // The size is a power of two, so the shift is at most 63.
        let shift = entry.size.trailing_zeros() & 63;
        self.counts[shift as usize] += 1;
        self.sizes |= 1 << shift;
        self.globals += usize::from(entry.global);
        overlaps
    }

    /// A smaller entry of the same tag that lies inside: only a larger one can have been walked past one that
    /// exists.
    fn overlaps(&self, entry: &TlbEntry) -> Option<TlbEntry> {
        if self.sizes & (entry.size - 1) == 0 {
            return None;
        }
        let inside = self.entries.values().filter(|old| {
            old.tag == entry.tag && old.size < entry.size && old.va & !(entry.size - 1) == entry.va
        });
        // One of another place, else one of another level, else any.
        inside
            .min_by_key(|old| (old.pa == entry.output(old.va), old.level == entry.level, old.id))
            .copied()
    }

    fn uncount(&mut self, entry: &TlbEntry) {
        let shift = entry.size.trailing_zeros() & 63;
        self.counts[shift as usize] -= 1;
        if self.counts[shift as usize] == 0 {
            self.sizes &= !(1 << shift);
        }
        self.globals -= usize::from(entry.global);
    }

    /// Forgets the entries that match.
    pub(crate) fn remove(&mut self, matches: impl Fn(&TlbEntry) -> bool) -> Vec<TlbEntry> {
        let mut gone = Vec::new();
        self.entries.retain(|_, entry| {
            let go = matches(entry);
            if go {
                gone.push(*entry);
            }
            !go
        });
        for entry in &gone {
            self.uncount(entry);
        }
        gone
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &TlbEntry> {
        self.entries.values()
    }
}

/// The cached table descriptors.
#[derive(Clone, Debug, Default)]
pub(crate) struct WalkCache {
    entries: Map<Key, WalkEntry>,
}

impl WalkCache {
    /// No two levels, of whatever granules, have the same span.
    #[inline]
    fn key(tag: Tag, va: u64, level: i8, granule: Granule) -> Key {
        Key::new(tag, tag.asid.into(), va, granule.span(level))
    }

    /// The cached descriptor at `level` for `va`.
    #[inline]
    pub(crate) fn lookup(&self, tag: Tag, va: u64, level: i8, g: Granule) -> Option<&WalkEntry> {
        self.entries.get(&Self::key(tag, va, level, g))
    }

    pub(crate) fn insert(&mut self, entry: WalkEntry) {
        let key = Self::key(entry.tag, entry.va, entry.level, entry.granule());
        self.entries.insert(key, entry);
    }

    /// Forgets the entries that match.
    pub(crate) fn remove(&mut self, matches: impl Fn(&WalkEntry) -> bool) -> Vec<WalkEntry> {
        let mut gone = Vec::new();
        self.entries.retain(|_, entry| {
            let go = matches(entry);
            if go {
                gone.push(*entry);
            }
            !go
        });
        gone
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &WalkEntry> {
        self.entries.values()
    }
}

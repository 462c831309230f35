// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cached translations and cached table descriptors. Nothing is ever forgotten unless an invalidation
//! hits it, and the stream plays no part in the lookup (§1).

use core::fmt;

use crate::granule::Granule;
use crate::random::Map;

/// What the TLB keys entries by, besides the address (§1). The world is always NS-EL1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag {
    /// VMID; `None` where stage 2 is not implemented.
    pub vmid: Option<u16>,
    /// ASID of the CD that the entry was walked for.
    pub asid: u16,
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.vmid {
            Some(vmid) => write!(f, "VMID {vmid:#x} ASID {:#x}", self.asid),
            None => write!(f, "ASID {:#x}", self.asid),
        }
    }
}

/// What one privilege may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rights {
    /// Data reads.
    pub read: bool,
    /// Writes.
    pub write: bool,
    /// Instruction reads.
    pub execute: bool,
}

/// Permissions of a stage-1 mapping (§16.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Permissions {
    /// Of privileged accesses.
    pub privileged: Rights,
    /// Of unprivileged accesses.
    pub unprivileged: Rights,
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
    /// First input address, sign-extended.
    pub va: u64,
    /// Bytes, a power of two.
    pub size: u64,
    /// First output address.
    pub pa: u64,
    /// Level of the leaf, 0 to 3.
    pub level: u8,
    /// Granule of its tables.
    pub granule: Granule,
    /// What it permits; possibly nothing.
    pub permissions: Permissions,
    /// MAIR byte of its memory type.
    pub attributes: u8,
    /// Shareability field.
    pub shareability: u8,
    /// Table base of the walk.
    pub ttb: u64,
    /// Stream whose walk it was.
    pub stream: u32,
    /// When the oldest thing that it was made from was read.
    pub(crate) basis: u64,
}

impl TlbEntry {
    /// Last input address.
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
    /// First input address that it covers, sign-extended.
    pub va: u64,
    /// Bytes that it covers, a power of two.
    pub size: u64,
    /// Level of the descriptor, 0 to 2.
    pub level: u8,
    /// Granule of the tables.
    pub granule: Granule,
    /// Physical address of the table that it points to.
    pub table: u64,
    /// Table base of the walk.
    pub ttb: u64,
    /// Stream whose walk it was.
    pub stream: u32,
    /// ASET of the CD that it was walked for; no part of the lookup.
    pub aset: bool,
    /// APTable, UXNTable and PXNTable of all levels so far.
    pub(crate) limits: Limits,
    /// When the oldest thing that it was made from was read.
    pub(crate) basis: u64,
}

impl WalkEntry {
    /// Last input address.
    pub const fn last(&self) -> u64 {
        self.va.wrapping_add(self.size - 1)
    }
}

/// What table descriptors take away from the leaves below (§16.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) no_unprivileged: bool,
    pub(crate) no_write: bool,
    pub(crate) uxn: bool,
    pub(crate) pxn: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key(u64, u64);

/// No VMID, or no ASID: one above every value.
const NONE: u64 = 0x1_0000;

impl Key {
    /// `space` is the ASID, or for global entries 0x10000 plus ASET.
    fn new(vmid: Option<u16>, space: u64, va: u64, shift: u32) -> Self {
        let vmid = vmid.map_or(NONE, u64::from);
        Self(vmid << 32 | space << 8 | u64::from(shift), va >> shift)
    }

    fn of(entry: &TlbEntry) -> Self {
        let space = match entry.global {
            true => NONE + u64::from(entry.aset),
            false => entry.tag.asid.into(),
        };
        Self::new(entry.tag.vmid, space, entry.va, entry.size.trailing_zeros())
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
    pub(crate) fn lookup(&self, tag: Tag, aset: bool, va: u64) -> Option<&TlbEntry> {
        let mut sizes = self.sizes;
        while sizes != 0 {
            let shift = sizes.trailing_zeros();
            sizes &= sizes - 1;
            let own = self.entries.get(&Key::new(tag.vmid, tag.asid.into(), va, shift));
            if own.is_some() {
                return own;
            }
            if self.globals != 0 {
                let key = Key::new(tag.vmid, NONE + u64::from(aset), va, shift);
                if let found @ Some(_) = self.entries.get(&key) {
                    return found;
                }
            }
        }
        None
    }

    /// Caches a leaf; true when another one of the tag overlaps it.
    pub(crate) fn insert(&mut self, entry: TlbEntry) -> bool {
        let overlaps = self.overlaps(&entry);
        if let Some(old) = self.entries.insert(Key::of(&entry), entry) {
            self.uncount(&old);
        }
        // The size is a power of two, so the shift is at most 63.
        let shift = entry.size.trailing_zeros() & 63;
        self.counts[shift as usize] += 1;
        self.sizes |= 1 << shift;
        self.globals += usize::from(entry.global);
        overlaps
    }

    /// Whether a smaller entry of the same tag lies inside: only a larger one can have been walked past
    /// one that exists.
    fn overlaps(&self, entry: &TlbEntry) -> bool {
        let smaller = self.sizes & (entry.size - 1);
        smaller != 0
            && self.entries.values().any(|old| {
                old.tag == entry.tag
                    && old.size < entry.size
                    && old.va & !(entry.size - 1) == entry.va
            })
    }

    fn uncount(&mut self, entry: &TlbEntry) {
        let shift = entry.size.trailing_zeros() & 63;
        self.counts[shift as usize] -= 1;
        if self.counts[shift as usize] == 0 {
            self.sizes &= !(1 << shift);
        }
        self.globals -= usize::from(entry.global);
    }

    /// Forgets the entries that match; how many.
    pub(crate) fn remove(&mut self, matches: impl Fn(&TlbEntry) -> bool) -> usize {
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
        gone.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &TlbEntry> {
        self.entries.values()
    }
}

/// The cached table descriptors.
#[derive(Clone, Debug, Default)]
pub(crate) struct WalkCache {
    entries: Map<(Key, u8, Granule), WalkEntry>,
}

impl WalkCache {
    fn key(tag: Tag, va: u64, level: u8, granule: Granule) -> (Key, u8, Granule) {
        (Key::new(tag.vmid, tag.asid.into(), va, granule.span(level)), level, granule)
    }

    /// The cached descriptor at `level` for `va`.
    pub(crate) fn lookup(&self, tag: Tag, va: u64, level: u8, g: Granule) -> Option<&WalkEntry> {
        self.entries.get(&Self::key(tag, va, level, g))
    }

    pub(crate) fn insert(&mut self, entry: WalkEntry) {
        self.entries.insert(Self::key(entry.tag, entry.va, entry.level, entry.granule), entry);
    }

    /// Forgets the entries that match; how many.
    pub(crate) fn remove(&mut self, matches: impl Fn(&WalkEntry) -> bool) -> usize {
        let before = self.entries.len();
        self.entries.retain(|_, entry| !matches(entry));
        before - self.entries.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &WalkEntry> {
        self.entries.values()
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Broadcast TLB maintenance: what processors invalidate without a command (§8.3).

use core::fmt;

use smmuv3_formats::granule::Granule;

use crate::invalidation::half_end;
use crate::memory::Memory;
use crate::model::Model;
use crate::observation::Observation;
use crate::tlb_scope::{Asids, Kinds, Range, TlbScope};
use crate::world::{World, Worlds};

/// An invalidation that a processor broadcasts, with the DSB that waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broadcast {
    /// Whose translations it is about: the regime of what ran on the processor.
    pub world: World,
    /// VMID of the processor: 0 without EL2, else VTTBR_EL2.VMID. Of [`World::El1`] alone.
    pub vmid: u16,
    /// What it invalidates.
    pub tlbi: Tlbi,
}

/// What a processor invalidates: always stage 1 of its world, of EL1 in its VMID. The names are those of EL1; of EL2 and
/// EL2-E2H it is E2IS, ALLE2IS for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tlbi {
    /// VA{L}E1IS, or RVA{L}E1IS for more than one page: entries of this ASID, and global ones; never those of
    /// CDs with ASET = 1.
    Va {
        /// ASID.
        asid: u16,
        /// Where.
        pages: Pages,
    },
    /// VAA{L}E1IS, or RVAA{L}E1IS: entries of every ASID and ASET.
    Vaa {
        /// Where.
        pages: Pages,
    },
    /// ASIDE1IS: entries of this ASID that are not global; never those of CDs with ASET = 1.
    Asid {
        /// ASID.
        asid: u16,
    },
    /// VMALLE1IS: every entry.
    All,
}

/// Input addresses of a broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pages {
    /// First address; bits below the page are ignored, and bits 63:56 repeat bit 55.
    pub va: u64,
    /// Number of pages; 0 for nothing. They end with the half of the addresses that the first is in.
    pub count: u64,
    /// Their size. As a range (more than one page, with IDR3.RIL) only entries of this granule are hit.
    pub granule: Granule,
    /// Last level only (VALE1IS): cached table descriptors stay.
    pub last_level: bool,
}

impl Pages {
    /// One page of 4 KiB, of all levels.
    pub const fn one(va: u64) -> Self {
        Self { va, count: 1, granule: Granule::K4, last_level: false }
    }

    fn range(&self, ril: bool) -> Option<Range> {
        let shift = self.granule.shift();
        let first = ((self.va << 8) as i64 >> 8) as u64 >> shift << shift;
        let bytes = self.count.saturating_mul(1 << shift);
        let last = half_end(first).min(first.saturating_add(bytes.checked_sub(1)?));
        let granule = (self.count > 1 && ril).then_some(self.granule);
        Some(Range { first, last, granule, ttl: 0, leaf: self.last_level })
    }
}

impl fmt::Display for Broadcast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let in_el1 = self.world == World::El1;
        let level = if in_el1 { "E1" } else { "E2" };
        let pages = |f: &mut fmt::Formatter<'_>, name: &str, pages: &Pages| {
            let Pages { va, count, last_level, .. } = pages;
            let (range, last) =
                (if *count > 1 { "R" } else { "" }, if *last_level { "L" } else { "" });
            write!(f, "TLBI {range}{name}{last}{level}IS va {va:#x} pages {count:#x}")
        };
        match &self.tlbi {
            Tlbi::Va { asid, pages: at } => {
                pages(f, "VA", at)?;
                write!(f, " asid {asid:#x}")?;
            }
            Tlbi::Vaa { pages: at } => pages(f, "VAA", at)?,
            Tlbi::Asid { asid } => write!(f, "TLBI ASID{level}IS asid {asid:#x}")?,
            Tlbi::All => write!(f, "TLBI {}ALL{level}IS", if in_el1 { "VM" } else { "" })?,
        }
        if in_el1 { write!(f, " vmid {:#x}", self.vmid) } else { Ok(()) }
    }
}

impl<M: Memory> Model<M> {
    /// Takes an invalidation of a processor, which is complete when this returns: entries, cached table
    /// descriptors, and transfers that used them, as for a DVM Sync. How many entries went; `None` when
    /// broadcasts are not taken: IDR0.BTM = 0, or CR2.PTM was 1 when SMMUEN last became 1.
    ///
    /// Where ASIDs or VMIDs have 8 bits and the upper byte of the processor's is not zero, the architecture
    /// lets it hit the entries of the low byte or not: the seed decides, for each call. Without stage 2 a
    /// VMID that is not zero hits nothing. CR0.VMW applies. Configuration is never touched. Parts that broadcasts do not
    /// reach reliably ([`Errata::lost_broadcasts`](crate::Errata::lost_broadcasts)) take one as if it hit nothing.
    pub fn broadcast(&mut self, broadcast: Broadcast) -> Option<usize> {
        let taken = self.profile.idr0.btm() && !self.registers.cr2_in_effect.ptm();
        let removed = taken.then(|| match self.broadcast_scope(&broadcast) {
            Some(scope) if !self.loses_broadcast() => self.complete_broadcast(&scope),
            _ => 0,
        });
        self.statistics.broadcasts += u64::from(taken);
        self.observe(Observation::Broadcast { broadcast, removed });
        removed
    }

    fn complete_broadcast(&mut self, scope: &TlbScope) -> usize {
        let cutoff = self.tick();
        let uses = |entry: &Option<_>| entry.as_ref().is_some_and(|entry| scope.leaf(entry));
        let reached = self.held.iter().filter(|held| uses(&held.entry)).map(|held| held.id);
        let reached: Vec<u64> = reached.collect();
        let removed = self.remove_translations(scope, cutoff);
        for id in reached {
            self.drain(id);
        }
        removed
    }

    /// What it hits; `None` for nothing.
    fn broadcast_scope(&mut self, broadcast: &Broadcast) -> Option<TlbScope> {
        let (idr0, ril) = (self.profile.idr0, self.profile.idr3.ril());
        let vmid = match idr0.s2p() {
            // Nor are EL2's translations of a VMID.
            _ if broadcast.world.is_el2() => 0,
            true => self.narrowed(broadcast.vmid, idr0.vmid16())?,
            false if broadcast.vmid != 0 => return None,
            false => 0,
        };
        let vmid = Some((vmid, self.registers.vmid_wildcard()));
        let (asid, range, shared) = match broadcast.tlbi {
            Tlbi::Va { asid, pages } => {
                let asid = self.narrowed(asid, idr0.asid16())?;
                (Asids::OrGlobal(asid), Some(pages.range(ril)?), true)
            }
            Tlbi::Vaa { pages } => (Asids::Any, Some(pages.range(ril)?), false),
            Tlbi::Asid { asid } => {
                (Asids::NonGlobal(self.narrowed(asid, idr0.asid16())?), None, true)
            }
            Tlbi::All => (Asids::Any, None, false),
        };
        // Without E2H there are no ASIDs: all is global.
        let asid = match (broadcast.world, asid) {
            (World::El2, Asids::OrGlobal(_)) => Asids::Any,
            (_, asid) => asid,
        };
        let worlds = Worlds::One(broadcast.world);
        Some(TlbScope { worlds, vmid, asid, range, kinds: Kinds::Virtual, shared })
    }

    /// An identifier as an instance with 16 bits of it, or 8, compares it.
    fn narrowed(&mut self, id: u16, wide: bool) -> Option<u16> {
        let hits = wide || id <= 0xff || self.random.one_in(2);
        hits.then_some(if wide { id } else { id & 0xff })
    }
}

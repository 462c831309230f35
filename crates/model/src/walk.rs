// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stage-1 walks through VMSAv8-64 tables (§15, §16.1), starting at the deepest cached descriptor.

use smmuv3_formats::EventId;
use smmuv3_formats::descriptor::{BLOCK, Stage1Page, Stage1Table, TABLE_OR_PAGE};

use crate::context::{Context, Half};
use crate::granule::Granule;
use crate::memory::Memory;
use crate::model::Model;
use crate::observation::{Misuse, Observation};
use crate::tlb::{Limits, Permissions, Rights, TlbEntry, WalkEntry};

/// A walk that found no mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WalkFault {
    pub(crate) event: EventId,
    /// Address of the descriptor that could not be read.
    pub(crate) fetch: u64,
}

const fn fault(event: EventId) -> WalkFault {
    WalkFault { event, fetch: 0 }
}

/// What a descriptor is at its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Invalid,
    /// Of a table at this address.
    Table(u64),
    /// Of memory from this address on.
    Leaf(u64),
}

/// Tells what `descriptor` is (§15.1 to §15.3); `oas` is the output size of the instance in bits.
pub(crate) fn kind(descriptor: u64, level: u8, granule: Granule, oas: u32) -> Kind {
    let wide = if granule == Granule::K64 && oas > 48 { (descriptor & 0xf000) << 36 } else { 0 };
    let address =
        |bytes_log2: u32| ((descriptor & ((1 << 48) - 1)) >> bytes_log2 << bytes_log2) | wide;
    match descriptor & 0b11 {
        TABLE_OR_PAGE if level < 3 => Kind::Table(address(granule.shift())),
        TABLE_OR_PAGE => Kind::Leaf(address(granule.shift())),
        BLOCK if granule.has_block(level, oas) => Kind::Leaf(address(granule.span(level))),
        _ => Kind::Invalid,
    }
}

impl<M: Memory> Model<M> {
    /// Walks the tables of `half` for `va` (sign-extended and in range) and caches what it reads.
    pub(crate) fn walk(
        &mut self,
        context: &Context,
        half: &Half,
        va: u64,
        stream: u32,
        speculative: bool,
    ) -> Result<TlbEntry, WalkFault> {
        self.statistics.walks += 1;
        let before = self.statistics.descriptors;
        let found = self.descend(context, half, va, stream, speculative);
        let descriptors = self.statistics.descriptors - before;
        let fault = found.as_ref().err().map(|fault| fault.event);
        self.observe(Observation::Walked { stream, va, descriptors, fault, speculative });
        found
    }

    fn descend(
        &mut self,
        context: &Context,
        half: &Half,
        va: u64,
        stream: u32,
        speculative: bool,
    ) -> Result<TlbEntry, WalkFault> {
        let granule = half.granule;
        let output = context.output_of(granule);
        let start = granule.start_level(half.input);
        let cached = (start..3)
            .rev()
            .find_map(|level| self.walk_cache.lookup(context.tag, va, level, granule))
            .copied();
        let now = self.tick();
        let (mut level, mut table, mut limits, mut basis, ttb) = match cached {
            Some(entry) => (entry.level + 1, entry.table, entry.limits, entry.basis, entry.ttb),
            None => (start, half.ttb, Limits::default(), now, half.ttb),
        };
        basis = basis.min(now);
        loop {
            let above = if level == start { half.input } else { granule.span(level - 1) };
            let index = (va & ((1u64 << above) - 1)) >> granule.span(level);
            let address = table + 8 * index;
            self.statistics.descriptors += 1;
            let Ok(descriptor) = self.memory.read64(address) else {
                return Err(WalkFault { event: EventId::FWalkEabt, fetch: address });
            };
            match kind(descriptor, level, granule, context.oas) {
                Kind::Invalid => return Err(fault(EventId::FTranslation)),
                Kind::Table(next) | Kind::Leaf(next) if next >> output != 0 => {
                    return Err(fault(EventId::FAddrSize));
                }
                Kind::Table(next) => {
                    if !half.had {
                        limits = limits.with(&Stage1Table([descriptor]));
                    }
                    let size = 1 << granule.span(level);
                    let entry = WalkEntry {
                        id: self.tick(),
                        tag: context.tag,
                        va: va & !(size - 1),
                        size,
                        level,
                        granule,
                        table: next,
                        ttb,
                        stream,
                        aset: context.aset,
                        limits,
                        basis,
                    };
                    self.walk_cache.insert(entry);
                    self.observe(Observation::WalkedTo {
                        tag: entry.tag,
                        va: entry.va,
                        level,
                        table: next,
                        stream,
                    });
                    (level, table) = (level + 1, next);
                }
                Kind::Leaf(pa) => {
                    let leaf = Stage1Page([descriptor]);
                    if !leaf.af() && !context.affd {
                        return Err(fault(EventId::FAccess));
                    }
                    let entry = self.fill(context, leaf, Place { va, pa, level, granule });
                    let entry = TlbEntry { ttb, stream, basis, ..entry };
                    let entry = TlbEntry {
                        permissions: permissions(&leaf, limits, context),
                        id: self.tick(),
                        ..entry
                    };
                    if self.tlb.insert(entry) && self.profile.idr3.bbml() < 2 {
                        let (tag, va, size) = (entry.tag, entry.va, entry.size);
                        self.misuse(Misuse::Overlap { tag, va, size });
                    }
                    self.observe(Observation::TlbFilled {
                        id: entry.id,
                        tag: entry.tag,
                        va: entry.va,
                        pa: entry.pa,
                        size: entry.size,
                        write: entry.permissions.unprivileged.write,
                        ttb,
                        stream,
                        speculative,
                    });
                    self.statistics.speculative += u64::from(speculative);
                    return Ok(entry);
                }
            }
        }
    }

    /// The entry for a leaf: its own span, or that of its whole contiguous group.
    fn fill(&mut self, context: &Context, leaf: Stage1Page, place: Place) -> TlbEntry {
        let Place { va, pa, level, granule } = place;
        let mut size = 1u64 << granule.span(level);
        let group = granule.contiguous(level);
        let grouped = leaf.contiguous() && group != 0 && self.profile.adversary.contiguous_spans;
        if grouped && self.random.one_in(2) {
            size <<= group;
        }
        TlbEntry {
            id: 0,
            tag: context.tag,
            global: !leaf.ng(),
            aset: context.aset,
            va: va & !(size - 1),
            size,
            pa: pa & !(size - 1),
            level,
            granule,
            permissions: Permissions::default(),
            // An index of three bits selects one of eight bytes.
            attributes: (context.mair >> (8 * leaf.attr_index())) as u8,
            shareability: leaf.sh() as u8,
            ttb: 0,
            stream: 0,
            basis: 0,
        }
    }
}

/// Where a leaf was found.
struct Place {
    va: u64,
    pa: u64,
    level: u8,
    granule: Granule,
}

impl Limits {
    fn with(self, table: &Stage1Table) -> Self {
        Self {
            no_unprivileged: self.no_unprivileged || table.ap_table() & 0b01 != 0,
            no_write: self.no_write || table.ap_table() & 0b10 != 0,
            uxn: self.uxn || table.uxn_table(),
            pxn: self.pxn || table.pxn_table(),
        }
    }
}

/// What a leaf permits below its tables (§16.1), with two privileges.
fn permissions(leaf: &Stage1Page, limits: Limits, context: &Context) -> Permissions {
    let write = leaf.ap() & 0b10 == 0 && !limits.no_write;
    let open = leaf.ap() & 0b01 != 0 && !limits.no_unprivileged;
    let (uxn, pxn) = (leaf.uxn() || limits.uxn, leaf.pxn() || limits.pxn);
    let unprivileged = Rights {
        read: open,
        write: open && write,
        execute: !(uxn || context.wxn && open && write),
    };
    let mut privileged =
        Rights { read: true, write, execute: !(pxn || unprivileged.write || context.wxn && write) };
    if context.pan && (open || context.epan && !uxn) {
        (privileged.read, privileged.write) = (false, false);
    }
    Permissions { privileged, unprivileged }
}

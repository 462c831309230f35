// SPDX-License-Identifier: MIT OR Apache-2.0
//! Down the tables of one stage to a leaf, starting at the deepest cached descriptor (§9, §15).

use smmuv3_formats::EventId;
use smmuv3_formats::descriptor::{Meaning, Stage};
use smmuv3_formats::event::class;
use smmuv3_formats::permission::Limits;

use crate::fault::{Second, WalkFault};
use crate::memory::Memory;
use crate::model::Model;
use crate::observation::Observation;
use crate::stage_2::{Purpose, Stage2};
use crate::tables::Tables;
use crate::tlb::{Slot, Tag, WalkEntry};

/// What a walk goes by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way<'a> {
    pub(crate) tables: &'a Tables,
    pub(crate) tag: Tag,
    pub(crate) aset: bool,
    /// Tables take nothing from the leaves below: CD.HADx, and always at stage 2.
    pub(crate) had: bool,
    /// What translates the addresses of the tables.
    pub(crate) over: Option<&'a Stage2>,
    /// What stage 2 is asked for, where these are its tables.
    pub(crate) asked: Option<Second>,
    pub(crate) stream: u32,
}

/// A leaf that was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaf {
    pub(crate) level: i8,
    /// First output address.
    pub(crate) address: u64,
    /// log2 of the bytes of its contiguous group, if it says to belong to one.
    pub(crate) group_log2: Option<u32>,
    /// What the tables above take away.
    pub(crate) limits: Limits,
    pub(crate) slot: Slot,
    /// Its address as its stage knows it: intermediate for stage 1 over stage 2.
    pub(crate) at: u64,
    /// When the oldest thing that led there was read.
    pub(crate) basis: u64,
}

/// A table to read in.
#[derive(Clone, Copy)]
struct Table {
    level: i8,
    /// As its stage knows it.
    at: u64,
    /// Its physical address, where all of it is at successive ones and that is known.
    pa: Option<u64>,
}

impl<M: Memory> Model<M> {
    /// Walks for `input`, which is in range, and caches the tables that it passes.
    pub(crate) fn descend(&mut self, way: &Way<'_>, input: u64) -> Result<Leaf, WalkFault> {
        let Way { tables, tag, over, stream, .. } = *way;
        let granule = tables.granule();
        let start = tables.start();
        let fault = |event| WalkFault { event, fetch: 0, second: way.asked };
        let walks = self.walk_cache_of(tables.stage);
        let cached = (start..3)
            .rev()
            .find_map(|level| walks.lookup(tag, input, level, granule))
            .map(|entry| {
                (entry.level, entry.table, entry.ipa(), entry.limits, entry.basis, entry.ttb)
            });
        let now = self.tick();
        let (mut table, mut limits, mut basis, ttb) = match cached {
            Some((level, pa, ipa, limits, basis, ttb)) => {
                let table = Table { level: level + 1, at: ipa.unwrap_or(pa), pa: Some(pa) };
                (table, limits, basis, ttb)
            }
            None => {
                let pa = over.is_none().then_some(tables.base);
                (Table { level: start, at: tables.base, pa }, Limits::NONE, now, tables.base)
            }
        };
        basis = basis.min(now);
        // The descriptor that led to `table`, until it is known where that is.
        let mut parent: Option<WalkEntry> = None;
        loop {
            let offset = tables.offset(input, table.level);
            let at = table.at + offset;
            let pa = match (table.pa, over) {
                (Some(pa), _) => pa + offset,
                (None, None) => at,
                (None, Some(over)) => {
                    let purpose = Purpose::fetch(class::TABLE, stream);
                    let found = self.second(over, at, &purpose)?;
                    basis = basis.min(found.basis);
                    let bytes = tables.bytes(table.level);
                    // Cached as one only where one translation covers all of the table: the combination is
                    // what invalidations of stage 2 alone need not hit (§4.2).
                    if let Some(mut entry) = parent.take()
                        && found.size >= bytes
                    {
                        (entry.table, entry.basis) = (found.output(table.at), basis);
                        self.cache_table(tables.stage, entry);
                    }
                    found.output(at)
                }
            };
            self.statistics.descriptors += 1;
            let Ok(word) = self.memory.read64(pa) else {
                return Err(WalkFault { fetch: pa, ..fault(EventId::FWalkEabt) });
            };
            match tables.read(word, table.level) {
                Meaning::Invalid | Meaning::Reserved => return Err(fault(EventId::FTranslation)),
                Meaning::Table { next, .. } | Meaning::Leaf { address: next, .. }
                    if !tables.fits(next) =>
                {
                    return Err(fault(EventId::FAddrSize));
                }
                Meaning::Table { next, limits: more } => {
                    if !way.had {
                        limits = limits.with(more);
                    }
                    let size = 1u64 << granule.span(table.level);
                    let entry = WalkEntry {
                        id: 0,
                        tag,
                        va: input & !(size - 1),
                        level: table.level,
                        table: next,
                        ttb,
                        layout: tables.layout(),
                        nested: over.is_some(),
                        stream,
                        aset: way.aset,
                        limits,
                        slot: Slot { pa, word },
                        basis,
                    };
                    match over {
                        None => self.cache_table(tables.stage, entry),
                        Some(_) => parent = Some(entry),
                    }
                    let pa = over.is_none().then_some(next);
                    table = Table { level: table.level + 1, at: next, pa };
                }
                Meaning::Leaf { address, group_log2, .. } => {
                    let (slot, level) = (Slot { pa, word }, table.level);
                    return Ok(Leaf { level, address, group_log2, limits, slot, at, basis });
                }
            }
        }
    }

    fn cache_table(&mut self, stage: Stage, mut entry: WalkEntry) {
        entry.id = self.tick();
        let WalkEntry { tag, va, level, table, stream, .. } = entry;
        match stage {
            Stage::One => self.walk_cache.insert(entry),
            Stage::Two => self.ipa_walk_cache.insert(entry),
        }
        self.observe(Observation::WalkedTo { tag, va, level, table, stream });
    }
}

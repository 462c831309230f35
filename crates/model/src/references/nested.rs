// SPDX-License-Identifier: MIT OR Apache-2.0
//! Contexts and tables of stage 1 over stage 2: what the SMMU itself reads there is wherever stage 2 leads, by
//! what is cached of it and by what is in memory.

use smmuv3_formats::descriptor::Meaning;
use smmuv3_formats::{CD_BYTES, Cd, Ste};

use crate::context::{Context, Contexts, L1CD_BYTES, context};
use crate::memory::Memory;
use crate::model::Model;
use crate::stage_2::Stage2;
use crate::tables::Layout;
use crate::tlb::WalkEntry;

use super::{ABORTS, Leaf, Reference, Search};

/// Intermediate addresses that are one run of physical ones in every translation.
const RUN: u64 = 4096;

/// A table at intermediate addresses.
#[derive(Clone, Copy)]
struct Table {
    ipa: u64,
    level: i8,
    bytes: u64,
    layout: Layout,
}

impl<M: Memory> Model<M> {
    /// Where `ipa` may lead: by the cached leaf, by the deepest cached table, and by the tables in memory, which
    /// count once the first two are invalidated.
    fn places(&self, over: &Stage2, ipa: u64) -> impl Iterator<Item = u64> + use<M> {
        let inside = ipa >> over.input == 0;
        let cached = self.ipa_tlb.lookup(over.tag, false, ipa).map(|entry| entry.output(ipa));
        let tables = &over.tables;
        let walk = (tables.start()..3)
            .rev()
            .find_map(|level| self.ipa_walk_cache.lookup(over.tag, ipa, level, tables.granule()))
            .and_then(|entry| self.peek_from(tables, entry.table, entry.level + 1, ipa));
        let live = self.peek(tables, ipa);
        let live = live.filter(|pa| Some(*pa) != walk && Some(*pa) != cached);
        let walk = walk.filter(|pa| Some(*pa) != cached);
        [cached, walk, live].into_iter().flatten().filter(move |_| inside)
    }

    /// Runs of at most [`RUN`] bytes from `ipa` on: where they may be, and how long they are.
    fn runs(&self, over: &Stage2, ipa: u64, bytes: u64) -> impl Iterator<Item = (u64, u64)> {
        let runs = (0..bytes.div_ceil(RUN)).map(move |run| run * RUN);
        runs.flat_map(move |offset| {
            let long = (bytes - offset).min(RUN);
            self.places(over, ipa.wrapping_add(offset)).map(move |pa| (pa, long))
        })
    }

    /// Level of a table within the memory asked about, of all that `context` leads to.
    pub(super) fn nested_context(
        &self,
        search: &mut Search,
        context: &Context,
        over: &Stage2,
    ) -> Option<i8> {
        context.halves.iter().filter_map(|half| half.tables).find_map(|tables| {
            let level = tables.start();
            let bytes = tables.bytes(level);
            let table = Table { ipa: tables.base, level, bytes, layout: tables.layout() };
            self.nested_table(search, over, table)
        })
    }

    /// Level of a table within the memory asked about, at or below the one that a cached descriptor leads to.
    pub(super) fn nested_walk(&self, search: &mut Search, entry: &WalkEntry) -> Option<i8> {
        let level = entry.level + 1;
        let bytes = 1 << entry.granule().shift();
        if search.hits(entry.table, bytes) {
            return Some(level);
        }
        // Without a stage 2 that is in use, nothing leads on.
        let vmid = entry.tag.vmid;
        let over = self.config.stes.leading().filter_map(|(_, cached)| cached.second);
        let over = over.into_iter().find(|second| second.tag.vmid == vmid)?;
        self.nested_run(search, &over, (entry.table, bytes), level, &entry.layout)
    }

    fn nested_table(&self, search: &mut Search, over: &Stage2, table: Table) -> Option<i8> {
        let Table { ipa, level, bytes, layout } = table;
        for (pa, long) in self.runs(over, ipa, bytes) {
            if search.hits(pa, long) {
                return Some(level);
            }
            let found = self.nested_run(search, over, (pa, long), level, &layout);
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// As [`Self::nested_table`], of what a part of a table leads to.
    fn nested_run(
        &self,
        search: &mut Search,
        over: &Stage2,
        (pa, bytes): (u64, u64),
        level: i8,
        layout: &Layout,
    ) -> Option<i8> {
        // The shift is at most 16.
        let form = layout.granule.shift() as u8 | u8::from(layout.ds) << 7;
        let key = (pa, level, form, over.tables.base);
        // The lowest tables point to memory, not to tables. A guest's may be a loop.
        if level >= 3 || !search.nested.insert(key) {
            return None;
        }
        for at in self.valid_words(pa, bytes) {
            let Ok(descriptor) = self.memory.read64(at) else { continue };
            let Meaning::Table { next, .. } = layout.read(descriptor, level) else { continue };
            if !layout.fits(next) {
                continue;
            }
            let (level, bytes) = (level + 1, 1 << layout.granule.shift());
            let next = Table { ipa: next, level, bytes, layout: *layout };
            if let found @ Some(_) = self.nested_table(search, over, next) {
                return found;
            }
        }
        None
    }

    /// The CDs that an STE leads to, and what the ones in memory lead to.
    pub(super) fn nested_contexts(
        &self,
        search: &mut Search,
        stream: u32,
        (ste, over): (&Ste, &Stage2),
        contexts: &Contexts,
        cached: bool,
    ) -> Option<Reference> {
        let runs: Vec<_> = self.runs(over, contexts.table, contexts.bytes()).collect();
        if runs.iter().any(|(pa, bytes)| search.hits(*pa, *bytes)) {
            return Some(Reference::Contexts { stream, cached });
        }
        // While SMMUEN is 0 nothing is fetched.
        if !self.registers.cr0.guards(1) {
            return None;
        }
        let Some(split) = contexts.split else {
            let all = (contexts.table, 1 << contexts.log2);
            return self.nested_cds(search, (stream, 0), all, (ste, over), contexts);
        };
        let mut aborts = 0;
        // At most 2^14 descriptors.
        for index in 0..(contexts.bytes() / L1CD_BYTES) as u32 {
            for pa in self.places(over, contexts.table + u64::from(index) * L1CD_BYTES) {
                let Ok(word) = self.memory.read64(pa) else {
                    aborts += 1;
                    continue;
                };
                let Some(pa) = self.context_leaf(word, split) else { continue };
                let leaf = Leaf { stream, index, pa, split };
                let found = self.nested_leaf(search, leaf, (ste, over), contexts, false);
                if found.is_some() {
                    return found;
                }
            }
            if aborts >= ABORTS {
                break;
            }
        }
        None
    }

    /// As [`Self::nested_contexts`], of a leaf whose address is an intermediate one.
    pub(super) fn nested_leaf(
        &self,
        search: &mut Search,
        leaf: Leaf,
        (ste, over): (&Ste, &Stage2),
        contexts: &Contexts,
        cached: bool,
    ) -> Option<Reference> {
        let Leaf { stream, index, pa: ipa, split } = leaf;
        let count = contexts.leaf_count(split);
        let bytes = u64::from(count) * CD_BYTES as u64;
        if self.runs(over, ipa, bytes).any(|(pa, bytes)| search.hits(pa, bytes)) {
            return Some(Reference::ContextLeaf { stream, index, cached });
        }
        self.nested_cds(search, (stream, index << split), (ipa, count), (ste, over), contexts)
    }

    /// The tables below `count` CDs from `ipa` on, the first of which is that of `first`.
    fn nested_cds(
        &self,
        search: &mut Search,
        (stream, first): (u32, u32),
        (ipa, count): (u64, u32),
        (ste, over): (&Ste, &Stage2),
        contexts: &Contexts,
    ) -> Option<Reference> {
        // Streams of a guest may share theirs.
        let key = (ipa, i8::MAX, count.trailing_zeros() as u8, over.tables.base);
        if !self.registers.cr0.guards(1) || !search.nested.insert(key) {
            return None;
        }
        let implementation = self.implementation();
        let mut aborts = 0;
        for index in 0..count {
            for pa in self.places(over, ipa + u64::from(index) * CD_BYTES as u64) {
                let Ok(words) = self.read_structure(pa) else {
                    aborts += 1;
                    continue;
                };
                let Ok(context) = context(&Cd(words), ste, contexts, &implementation) else {
                    continue;
                };
                if let Some(level) = self.nested_context(search, &context, over) {
                    let substream = first + index;
                    return Some(Reference::Table { stream, substream, level, cached: false });
                }
            }
            if aborts >= ABORTS {
                break;
            }
        }
        None
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What could still make the hardware read some memory: the question to ask before it is freed.

mod nested;

use core::fmt;

use smmuv3_formats::descriptor::Meaning;
use smmuv3_formats::ste::config;
use smmuv3_formats::{
    CD_BYTES, COMMAND_BYTES, Cd, EVENT_BYTES, L1Std, PAGE_REQUEST_BYTES, STE_BYTES, Ste,
};

use crate::config_cache::{Fetch, Target};
use crate::context::{Context, Contexts, L1CD_BYTES, Route, context, route};
use crate::memory::Memory;
use crate::model::Model;
use crate::random::Set;
use crate::stage_2::Stage2;
use crate::tables::{Layout, Tables};
use crate::tlb::{Stages, Tag, TlbEntry};

/// Something that leads the hardware to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference {
    /// The command queue is there, and enabled.
    CommandQueue,
    /// The event queue is there, and enabled.
    EventQueue,
    /// The message of a CMD_SYNC that is on its way (§2.4).
    Message,
    /// The PRI queue is there, and enabled.
    PriQueue,
    /// The stream table is there, and SMMUEN is 1 or changing.
    StreamTable,
    /// An L1STD, cached or in memory, points to an array of STEs there, and SMMUEN is 1 or changing.
    StreamTableLeaf {
        /// Index of the descriptor.
        index: u32,
    },
    /// An STE points to CDs, or to L1CDs, there.
    Contexts {
        /// StreamID.
        stream: u32,
        /// Whether it is a cached STE; else the one in memory.
        cached: bool,
    },
    /// An L1CD points to a leaf of CDs there.
    ContextLeaf {
        /// StreamID.
        stream: u32,
        /// Index of the L1CD.
        index: u32,
        /// Whether it is a cached L1CD; else the one in memory.
        cached: bool,
    },
    /// A CD leads to translation tables there.
    Table {
        /// StreamID.
        stream: u32,
        /// SubstreamID; 0 where there are none.
        substream: u32,
        /// Level of the table.
        level: i8,
        /// Whether it is a cached CD; else the one in memory.
        cached: bool,
    },
    /// An STE leads to translation tables of stage 2 there.
    Stage2Table {
        /// StreamID.
        stream: u32,
        /// Level of the table.
        level: i8,
        /// Whether it is a cached STE; else the one in memory.
        cached: bool,
    },
    /// A held transfer writes through a leaf there, which it has still to mark (§14).
    Flag {
        /// Number of the transfer.
        id: u64,
    },
    /// A cached table descriptor leads to translation tables there.
    WalkEntry {
        /// Number of the entry.
        id: u64,
        /// Its tag.
        tag: Tag,
        /// First input address that it covers.
        va: u64,
        /// Level of the table.
        level: i8,
    },
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = |cached: &bool| if *cached { "a cached" } else { "the" };
        match self {
            Self::CommandQueue => f.write_str("the command queue"),
            Self::EventQueue => f.write_str("the event queue"),
            Self::Message => f.write_str("a message on its way"),
            Self::PriQueue => f.write_str("the PRI queue"),
            Self::StreamTable => f.write_str("the stream table"),
            Self::StreamTableLeaf { index } => write!(f, "L1STD {index:#x}"),
            Self::Contexts { stream, cached } => {
                write!(f, "{} STE of stream {stream:#x}", how(cached))
            }
            Self::ContextLeaf { stream, index, cached } => {
                write!(f, "{} L1CD {index:#x} of stream {stream:#x}", how(cached))
            }
            Self::Table { stream, substream, level, cached } => write!(
                f,
                "a level-{level} table below {} CD of stream {stream:#x}, substream {substream:#x}",
                how(cached)
            ),
            Self::Stage2Table { stream, level, cached } => write!(
                f,
                "a level-{level} table of stage 2 below {} STE of stream {stream:#x}",
                how(cached)
            ),
            Self::Flag { id } => write!(f, "the flag that held transfer {id} sets"),
            Self::WalkEntry { tag, va, level, .. } => {
                write!(f, "a level-{level} table below a cached descriptor ({tag}, {va:#x})")
            }
        }
    }
}

/// Entries that cannot be read until a table counts as longer than memory.
const ABORTS: u32 = 1 << 16;

/// A leaf of CDs.
#[derive(Clone, Copy)]
struct Leaf {
    stream: u32,
    index: u32,
    pa: u64,
    /// log2 of the CDs.
    split: u32,
}

/// A table to look into: where, level, and how many bytes.
#[derive(Clone, Copy)]
struct Table {
    pa: u64,
    level: i8,
    bytes: u64,
    layout: Layout,
}

/// The memory that is asked about, and what was seen.
#[derive(Default)]
struct Search {
    first: u64,
    last: u64,
    /// Tables of translations: where, level, and granule.
    seen: Set<(u64, i8, u8)>,
    /// Runs of CDs, as where and how many, and arrays of L1CDs, with the size of a leaf. Whole masters share
    /// one, and where its CDs lead does not depend on the STE.
    contexts: Set<(u64, u64, Option<u32>)>,
    /// Parts of tables of stage 1 over stage 2: as `seen`, and the base of that.
    nested: Set<(u64, i8, u8, u64)>,
}

impl Search {
    const fn hits(&self, pa: u64, bytes: u64) -> bool {
        bytes != 0 && pa <= self.last && pa.saturating_add(bytes - 1) >= self.first
    }
}

impl<M: Memory> Model<M> {
    /// Something that could still make the hardware read or walk `bytes` bytes from `start` on: registers,
    /// anything cached, and whatever these and the live tables in memory lead to. Memory that is only
    /// mapped for devices is not meant: see [`Self::tlb_entries`] and [`Self::held`].
    pub fn references(&self, start: u64, bytes: u64) -> Option<Reference> {
        let last = start.saturating_add(bytes.checked_sub(1)?);
        let mut search = Search { first: start, last, ..Search::default() };
        let search = &mut search;
        self.queue_reference(search)
            .or_else(|| self.flag_reference(search))
            .or_else(|| self.walk_entry_reference(search))
            .or_else(|| self.cached_reference(search))
            .or_else(|| self.live_reference(search))
    }

    fn queue_reference(&self, search: &Search) -> Option<Reference> {
        let registers = &self.registers;
        for queue in (0..self.queues()).filter(|queue| self.queue_guards(*queue)) {
            let bytes = self.lane(queue).ring(&self.profile).bytes(COMMAND_BYTES as u64);
            if search.hits(self.command_base(queue), bytes) {
                return Some(Reference::CommandQueue);
            }
        }
        let mask = self.output_mask();
        if self.messages.iter().any(|(_, msi)| search.hits(msi.addr & mask, 4)) {
            return Some(Reference::Message);
        }
        let ring = registers.event_ring(&self.profile);
        if registers.cr0.guards(1 << 2)
            && search.hits(self.event_base(ring), ring.bytes(EVENT_BYTES as u64))
        {
            return Some(Reference::EventQueue);
        }
        let ring = registers.request_ring(&self.profile);
        if registers.cr0.guards(1 << 1)
            && search.hits(self.request_base(ring), ring.bytes(PAGE_REQUEST_BYTES as u64))
        {
            return Some(Reference::PriQueue);
        }
        let (base, bytes) = self.stream_table();
        let found = registers.cr0.guards(1) && search.hits(base, bytes);
        found.then_some(Reference::StreamTable)
    }

    fn flag_reference(&self, search: &Search) -> Option<Reference> {
        let marks = |entry: &TlbEntry| {
            let second = entry.second.filter(|second| second.clean).map(|second| second.slot);
            let first = entry.clean.then_some(entry.slot);
            [first, second].into_iter().flatten().any(|slot| search.hits(slot.pa, 8))
        };
        let waits = self.held.iter().filter(|held| held.unmarked);
        let found = waits.into_iter().find(|held| held.entry.as_ref().is_some_and(marks))?;
        Some(Reference::Flag { id: found.id })
    }

    fn walk_entry_reference(&self, search: &mut Search) -> Option<Reference> {
        for entry in self.walk_entries() {
            let level = entry.level + 1;
            let bytes = 1 << entry.granule().shift();
            let table = Table { pa: entry.table, level, bytes, layout: entry.layout };
            let found = match entry.stages() {
                Stages::Both => self.nested_walk(search, entry),
                _ => self.table_reference(search, table),
            };
            if let Some(level) = found {
                let (id, tag, va) = (entry.id, entry.tag, entry.va);
                return Some(Reference::WalkEntry { id, tag, va, level });
            }
        }
        None
    }

    fn cached_reference(&self, search: &mut Search) -> Option<Reference> {
        // Nothing is looked up in the stream table while SMMUEN is 0, and whoever sets it invalidates before.
        for (index, l1) in &self.config.l1 {
            if self.registers.cr0.guards(1)
                && let Some((pa, bytes)) = self.leaf_array(l1.word)
                && search.hits(pa, bytes)
            {
                return Some(Reference::StreamTableLeaf { index: *index });
            }
        }
        for ((stream, substream), entry) in &self.config.cds {
            if let Ok(context) = &entry.context
                && let Some(level) = self.context_reference(search, *stream, context)
            {
                let (stream, substream) = (*stream, *substream);
                return Some(Reference::Table { stream, substream, level, cached: true });
            }
        }
        for (stream, entry) in self.config.stes.leading() {
            let route = (entry.route, entry.second);
            if let found @ Some(_) = self.ste_reference(search, stream, &entry.ste, route, true) {
                return found;
            }
        }
        for ((stream, index), entry) in &self.config.l1_cds {
            if let Some(ste) = self.config.stes.get(stream)
                && let Route::Stage1(contexts) = ste.route
                && let Some(leaf) = self.context_leaf(entry.word, entry.split)
            {
                let place = Leaf { stream: *stream, index: *index, pa: leaf, split: entry.split };
                let found = match ste.second.as_ref().filter(|_| contexts.nested) {
                    None => self.leaf_reference(search, place, &ste.ste, &contexts, true),
                    Some(over) => {
                        self.nested_leaf(search, place, (&ste.ste, over), &contexts, true)
                    }
                };
                if found.is_some() {
                    return found;
                }
            }
        }
        for fetch in &self.config.fetches {
            if let found @ Some(_) = self.fetch_reference(search, fetch) {
                return found;
            }
        }
        None
    }

    /// A fetch under way reads the rest of its structure, and may follow what it has read.
    fn fetch_reference(&self, search: &mut Search, fetch: &Fetch) -> Option<Reference> {
        let here = search.hits(fetch.pa, STE_BYTES as u64);
        match fetch.target {
            Target::Ste { .. } if here => Some(Reference::StreamTable),
            Target::Ste { stream } => {
                // The first word alone says where the contexts are.
                let _known = fetch.word(0)?;
                let ste = Ste(fetch.complete());
                let route = route(&ste, &self.implementation());
                self.ste_reference(search, stream, &ste, route, true)
            }
            Target::Cd { stream, .. } if here => Some(match fetch.through {
                Some(Target::L1Cd { index, .. }) => {
                    Reference::ContextLeaf { stream, index, cached: true }
                }
                _ => Reference::Contexts { stream, cached: true },
            }),
            Target::Cd { stream, substream } => {
                // Without these two words nothing is known about the tables.
                let _known = (fetch.word(0)?, fetch.word(1)?);
                let cached = self.config.stes.get(&stream)?;
                let Route::Stage1(contexts) = cached.route else { return None };
                let cd = Cd(fetch.complete());
                let context = context(&cd, &cached.ste, &contexts, &self.implementation()).ok()?;
                let level = self.context_reference(search, stream, &context)?;
                Some(Reference::Table { stream, substream, level, cached: true })
            }
            Target::L1Cd { .. } => None,
        }
    }

    fn live_reference(&self, search: &mut Search) -> Option<Reference> {
        if !self.registers.cr0.guards(1) {
            return None;
        }
        let (base, bytes) = self.stream_table();
        let Some(split) = self.split() else {
            return self.live_streams(search, 0, base, bytes / STE_BYTES as u64);
        };
        // Without a Span an L1STD leads nowhere (§5.1).
        let leads = L1Std::default().with_span(0x1f).0[0];
        let (mut aborts, mut next) = (0, 0);
        let find = |from| self.memory.find_any64(base + 8 * from, 8, bytes / 8 - from, leads);
        while let Some(found) = find(next) {
            let index = next + found;
            next = index + 1;
            let Ok(word) = self.memory.read64(base + 8 * index) else {
                aborts += 1;
                if aborts == ABORTS {
                    break;
                }
                continue;
            };
            let Some((pa, bytes)) = self.leaf_array(word) else { continue };
            // There are at most 2^32 streams, so a descriptor's index and first stream fit.
            let first = (index << split) as u32;
            if search.hits(pa, bytes) {
                return Some(Reference::StreamTableLeaf { index: index as u32 });
            }
            let found = self.live_streams(search, first, pa, bytes / STE_BYTES as u64);
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// The array of STEs that an L1STD points to.
    fn leaf_array(&self, word: u64) -> Option<(u64, u64)> {
        let descriptor = L1Std([word]);
        let span = descriptor.span();
        let split = u64::from(self.split()?);
        if !(1..=11).contains(&span) || span > split + 1 {
            return None;
        }
        let bytes = (STE_BYTES as u64) << (span - 1);
        Some((descriptor.l2_ptr() & !(bytes - 1), bytes))
    }

    fn live_streams(
        &self,
        search: &mut Search,
        first: u32,
        pa: u64,
        count: u64,
    ) -> Option<Reference> {
        // Whatever else it says, without V and Config[2] it aborts, and leads nowhere (§5.2).
        let leads = Ste::default().with_v(true).with_config(config::BYPASS).0[0];
        let implementation = self.implementation();
        let (mut aborts, mut next) = (0, 0);
        let stride = STE_BYTES as u64;
        let find = |from| self.memory.find64(pa + from * stride, stride, count - from, leads);
        while let Some(found) = find(next) {
            let index = next + found;
            next = index + 1;
            let Ok(words) = self.read_structure(pa + index * stride) else {
                aborts += 1;
                if aborts == ABORTS {
                    break;
                }
                continue;
            };
            // There are at most 2^32 streams.
            let stream = first.wrapping_add(index as u32);
            let ste = Ste(words);
            let route = route(&ste, &implementation);
            if let found @ Some(_) = self.ste_reference(search, stream, &ste, route, false) {
                return found;
            }
        }
        None
    }

    /// What an STE leads to: tables of stage 2, and contexts.
    fn ste_reference(
        &self,
        search: &mut Search,
        stream: u32,
        ste: &Ste,
        (route, second): (Route, Option<Stage2>),
        cached: bool,
    ) -> Option<Reference> {
        if let Some(level) = second.and_then(|it| self.root_reference(search, it.tables)) {
            return Some(Reference::Stage2Table { stream, level, cached });
        }
        let Route::Stage1(contexts) = route else { return None };
        match second.as_ref().filter(|_| contexts.nested) {
            None => self.contexts_reference(search, stream, ste, &contexts, cached),
            Some(over) => self.nested_contexts(search, stream, (ste, over), &contexts, cached),
        }
    }

    /// The CDs that an STE leads to, and what the ones in memory lead to.
    fn contexts_reference(
        &self,
        search: &mut Search,
        stream: u32,
        ste: &Ste,
        contexts: &Contexts,
        cached: bool,
    ) -> Option<Reference> {
        let Contexts { table, log2, split, .. } = *contexts;
        if search.hits(table, contexts.bytes()) {
            return Some(Reference::Contexts { stream, cached });
        }
        let Some(split) = split else {
            return self.live_contexts(search, (stream, 0), (table, 1 << log2), ste, contexts);
        };
        // While SMMUEN is 0 nothing is fetched, as above.
        if !self.registers.cr0.guards(1)
            || !search.contexts.insert((table, contexts.bytes(), Some(split)))
        {
            return None;
        }
        let mut aborts = 0;
        for index in self.valid_from(table, 0..contexts.bytes() / L1CD_BYTES) {
            // At most 2^14 descriptors.
            let index = index as u32;
            let Ok(word) = self.memory.read64(table + u64::from(index) * L1CD_BYTES) else {
                aborts += 1;
                if aborts == ABORTS {
                    break;
                }
                continue;
            };
            let Some(pa) = self.context_leaf(word, split) else { continue };
            let leaf = Leaf { stream, index, pa, split };
            if let found @ Some(_) = self.leaf_reference(search, leaf, ste, contexts, false) {
                return found;
            }
        }
        None
    }

    fn leaf_reference(
        &self,
        search: &mut Search,
        leaf: Leaf,
        ste: &Ste,
        contexts: &Contexts,
        cached: bool,
    ) -> Option<Reference> {
        let Leaf { stream, index, pa, split } = leaf;
        let count = contexts.leaf_count(split);
        if search.hits(pa, u64::from(count) * CD_BYTES as u64) {
            return Some(Reference::ContextLeaf { stream, index, cached });
        }
        self.live_contexts(search, (stream, index << split), (pa, count), ste, contexts)
    }

    /// The tables below `count` CDs in memory from `pa` on, the first of which is that of `first`.
    fn live_contexts(
        &self,
        search: &mut Search,
        (stream, first): (u32, u32),
        (pa, count): (u64, u32),
        ste: &Ste,
        contexts: &Contexts,
    ) -> Option<Reference> {
        if !self.registers.cr0.guards(1) || !search.contexts.insert((pa, count.into(), None)) {
            return None;
        }
        let valid = Cd::default().with_v(true).0[0];
        let (mut aborts, mut next) = (0, 0);
        let (count, stride) = (u64::from(count), CD_BYTES as u64);
        let find = |from| self.memory.find64(pa + from * stride, stride, count - from, valid);
        while let Some(found) = find(next) {
            let index = next + found;
            next = index + 1;
            let Ok(words) = self.read_structure(pa + index * stride) else {
                aborts += 1;
                if aborts == ABORTS {
                    break;
                }
                continue;
            };
            // Less than 2^20.
            let substream = first + index as u32;
            let context = context(&Cd(words), ste, contexts, &self.implementation());
            if let Ok(context) = context
                && let Some(level) = self.context_reference(search, stream, &context)
            {
                return Some(Reference::Table { stream, substream, level, cached: false });
            }
        }
        None
    }

    /// Where in `bytes` bytes from `pa` on a descriptor is that is valid, or cannot be read (§15.1).
    fn valid_words(&self, pa: u64, bytes: u64) -> impl Iterator<Item = u64> {
        self.valid_from(pa, 0..bytes / 8).map(move |index| pa + 8 * index)
    }

    /// The eight words at `pa`; only the first where that says that the structure is invalid.
    fn read_structure(&self, pa: u64) -> Result<[u64; 8], crate::memory::Abort> {
        const STE_V_OR_CD_V: u64 = 1 | 1 << 31;
        let mut words = [0; 8];
        for (index, word) in (0u64..).zip(&mut words) {
            *word = self.memory.read64(pa + 8 * index)?;
            if index == 0 && *word & STE_V_OR_CD_V == 0 {
                break;
            }
        }
        Ok(words)
    }

    fn context_reference(&self, search: &mut Search, stream: u32, context: &Context) -> Option<i8> {
        if context.nested {
            // Without its cached STE a context is not used.
            return self.nested_context(search, context, &self.stage_2_of(stream)?);
        }
        context
            .halves
            .iter()
            .filter_map(|half| half.tables)
            .find_map(|tables| self.root_reference(search, tables))
    }

    /// Level of a table within the memory asked about, of all `tables`.
    fn root_reference(&self, search: &mut Search, tables: Tables) -> Option<i8> {
        let level = tables.start();
        let table =
            Table { pa: tables.base, level, bytes: tables.bytes(level), layout: tables.layout() };
        self.table_reference(search, table)
    }

    /// Level of a table within the memory asked about, at or below `table`.
    fn table_reference(&self, search: &mut Search, table: Table) -> Option<i8> {
        let Table { pa, level, bytes, layout } = table;
        if search.hits(pa, bytes) {
            return Some(level);
        }
        let granule = layout.granule;
        // The lowest tables point to memory, not to tables. The shift is at most 16.
        let form = granule.shift() as u8 | u8::from(layout.ds) << 7;
        if level >= 3 || !search.seen.insert((pa, level, form)) {
            return None;
        }
        for at in self.valid_words(pa, bytes) {
            let Ok(descriptor) = self.memory.read64(at) else { continue };
            let Meaning::Table { next, .. } = layout.read(descriptor, level) else { continue };
            if !layout.fits(next) {
                continue;
            }
            let next = Table { pa: next, level: level + 1, bytes: 1 << granule.shift(), layout };
            if let found @ Some(_) = self.table_reference(search, next) {
                return found;
            }
        }
        None
    }
}

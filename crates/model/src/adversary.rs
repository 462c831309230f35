// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the model does on its own: the most hurtful of what the architecture allows (§8.1).

use std::ops::Range;

use smmuv3_formats::descriptor::Meaning;
use smmuv3_formats::{CD_BYTES, Cd};

use crate::context::{Context, Contexts, L1CD_BYTES, Route};
use crate::memory::Memory;
use crate::model::Model;
use crate::stage_2::Stage2;
use crate::tables::Tables;
use crate::transaction::Access;

/// Descriptors in a row that are looked at for a valid one.
const LOOKED_AT: u64 = 64;

/// Bytes of what no stage 2 maps in parts.
const PART: u64 = 4096;

/// Accesses that are remembered, to be guessed again.
const REMEMBERED: usize = 64;

impl<M: Memory> Model<M> {
    /// One step of its own: fetches a part of some configuration, prefetches a translation, processes
    /// commands, lets an invalidation take effect, performs a held transfer, or does nothing. What it does
    /// depends on the seed and on everything that happened before.
    pub fn act(&mut self) {
        let habits = self.profile.adversary;
        self.enable_early();
        if self.has_stalls() && self.random.one_in(2) {
            return self.act_on_stalls();
        }
        if habits.device_requests && !self.endpoints.is_empty() && self.random.one_in(4) {
            return self.act_on_devices();
        }
        match self.random.below(8) {
            0 | 1 if habits.split_fetches => self.act_on_configuration(),
            2 | 3 if habits.prefetch => self.act_on_translations(),
            4 | 5 if habits.act_commands => {
                // At most 4, so it fits.
                let budget = self.random.below(5) as usize;
                self.run(budget);
            }
            6 if habits.late_invalidation => self.apply_some(),
            7 if habits.act_transfers && !self.held.is_empty() => {
                let at = self.random.below(self.held.len() as u64) as usize;
                // The index is below the length.
                let id = self.held[at].id;
                if let Some(performed) = self.finish(id, false) {
                    self.finished.push(performed);
                }
            }
            _ => {}
        }
    }

    pub(crate) fn remember(&mut self, access: Access) {
        if self.recent.len() < REMEMBERED {
            self.recent.push(access);
        } else {
            self.recent_next = (self.recent_next + 1) % REMEMBERED;
            // The ring has that many entries.
            self.recent[self.recent_next] = access;
        }
    }

    #[inline]
    pub(crate) fn recent_access(&mut self) -> Option<Access> {
        let at = self.random.below(self.recent.len() as u64) as usize;
        self.recent.get(at).copied()
    }

    /// A stream that may be looked at: one that was used, or any within the table.
    fn some_stream(&mut self) -> u32 {
        if self.random.one_in(2)
            && let Some(access) = self.recent_access()
        {
            return access.stream;
        }
        // At most 32 bits; small numbers are more likely to mean something.
        let bits = self.stream_bits();
        let bits = if self.random.one_in(2) { bits.min(6) } else { bits };
        self.random.below(1 << bits) as u32
    }

    /// A substream of a table that may be looked at: one that was used, one that has a descriptor or a CD by
    /// now, or any; small numbers are more likely to mean something.
    pub(crate) fn some_substream(&mut self, contexts: &Contexts) -> u32 {
        if contexts.log2 == 0 {
            return self.random.below(1) as u32;
        }
        let used = match self.random.below(4) {
            0 => self.recent_access().and_then(|access| access.substream),
            1 => self.present_substream(contexts),
            _ => None,
        };
        if let Some(used) = used
            && used >> contexts.log2 == 0
        {
            return used;
        }
        // At most 20 bits, so it fits.
        let bits = self.random.below(u64::from(contexts.log2) + 1);
        self.random.below(1 << bits) as u32
    }

    /// A substream whose CD is valid in memory, if one is among those that are looked at.
    fn present_substream(&mut self, contexts: &Contexts) -> Option<u32> {
        let (table, first, count) = match contexts.split {
            None => (contexts.table, 0, 1u32 << contexts.log2),
            Some(split) => {
                let leaves = contexts.bytes() / L1CD_BYTES;
                let start = self.random.below(leaves);
                let (index, leaf) = (0..leaves.min(LOOKED_AT)).find_map(|n| {
                    let index = (start + n) % leaves;
                    let word = self.memory.read64(contexts.table + index * L1CD_BYTES).ok()?;
                    Some((index, self.context_leaf(word, split)?))
                })?;
                // There are at most 2^14 leaves.
                (leaf, (index as u32) << split, contexts.leaf_count(split))
            }
        };
        let count = u64::from(count);
        let start = self.random.below(count);
        (0..count.min(LOOKED_AT)).map(|n| (start + n) % count).find_map(|n| {
            let word = self.memory.read64(table + n * CD_BYTES as u64).ok()?;
            let cd = Cd([word, 0, 0, 0, 0, 0, 0, 0]);
            // Less than 2^20.
            cd.v().then_some(first + n as u32)
        })
    }

    fn act_on_configuration(&mut self) {
        if !self.registers.enabled() {
            return;
        }
        if !self.config.fetches.is_empty() && self.random.one_in(2) {
            let at = self.random.below(self.config.fetches.len() as u64) as usize;
            let fetch = self.config.fetches.remove(at);
            return self.advance_fetch(fetch);
        }
        let stream = self.some_stream();
        self.begin_fetch(stream);
    }

    fn act_on_translations(&mut self) {
        if !self.registers.enabled() {
            return;
        }
        let Some(access) = self.recent_access() else { return };
        if self.random.one_in(2) {
            return self.prefetch(access);
        }
        let stream = if self.random.one_in(2) { access.stream } else { self.some_stream() };
        let (contexts, basis) = match self.route(stream, true) {
            Ok((Route::Stage1(contexts), basis)) => (contexts, basis),
            Ok((Route::Stage2, _)) => {
                let Some(stage) = self.stage_2_of(stream) else { return };
                if let Some(ipa) = self.reachable_input(&stage.tables, 0, None) {
                    self.prefetch(Access::read(stream, ipa));
                }
                return;
            }
            _ => return,
        };
        let index = match access.substream {
            _ if contexts.log2 == 0 => None,
            // That of another stream may be one too many here.
            Some(index) if index >> contexts.log2 == 0 && self.random.one_in(2) => Some(index),
            _ => match self.random.below(8) {
                0 => None,
                1 | 2 => Some(self.some_substream(&contexts)),
                _ => self.present_substream(&contexts),
            },
        };
        let Ok((Ok(context), _)) = self.context(stream, index.unwrap_or(0), &contexts, basis, true)
        else {
            return;
        };
        let over = self.stage_2_of(stream).filter(|_| contexts.nested);
        if let Some(address) = self.reachable_address(&context, over.as_ref()) {
            let mut access = Access::read(stream, address);
            access.substream = index;
            self.prefetch(access);
        }
    }

    /// Some address that the tables of `context`, or of one half of it, map.
    fn reachable_address(&mut self, context: &Context, over: Option<&Stage2>) -> Option<u64> {
        let upper = self.random.one_in(2) && context.halves[1].tables.is_some();
        let tables = context.halves[usize::from(upper)].tables?;
        let base = if upper { u64::MAX << tables.shape.input_bits() } else { 0 };
        self.reachable_input(&tables, base, over)
    }

    /// Some input address that `tables` map, found by descending from a random entry on.
    fn reachable_input(
        &mut self,
        tables: &Tables,
        base: u64,
        over: Option<&Stage2>,
    ) -> Option<u64> {
        let mut table = tables.base;
        let mut input = base;
        for level in tables.start()..=3 {
            let entries = tables.bytes(level) / 8;
            let first = self.random.below(entries);
            let among = |numbers| self.descriptor_among(tables, level, (table, numbers), over);
            let (index, found) = among(first..entries).or_else(|| among(0..first))?;
            input |= index << tables.granule().span(level);
            match found {
                Meaning::Table { next, .. } if tables.fits(next) => table = next,
                Meaning::Leaf { .. } => return Some(input),
                _ => return None,
            }
        }
        None
    }

    /// The first of the descriptors with these numbers in a table of `level` that means something: its number, and what that
    /// is.
    fn descriptor_among(
        &self,
        tables: &Tables,
        level: i8,
        (table, numbers): (u64, Range<u64>),
        over: Option<&Stage2>,
    ) -> Option<(u64, Meaning)> {
        let read = |pa: u64| match tables.read(self.memory.read64(pa).ok()?, level) {
            Meaning::Invalid | Meaning::Reserved => None,
            other => Some(other),
        };
        let Some(over) = over else {
            let mut valid = self.valid_from(table, numbers);
            return valid.find_map(|index| Some((index, read(table + 8 * index)?)));
        };
        // What is in one page of 4 KiB stays side by side, whatever stage 2 makes of it.
        let mut next = numbers.start;
        while next < numbers.end {
            let at = table + 8 * next;
            let end = numbers.end.min(next + (PART - at % PART) / 8);
            if let Some(pa) = self.peek(&over.tables, at) {
                let mut valid = self.valid_from(pa, 0..end - next);
                let found = valid.find_map(|index| Some((next + index, read(pa + 8 * index)?)));
                if found.is_some() {
                    return found;
                }
            }
            next = end;
        }
        None
    }

    /// Those of the descriptors with these numbers in a table that are valid, or cannot be read.
    pub(crate) fn valid_from(&self, table: u64, numbers: Range<u64>) -> impl Iterator<Item = u64> {
        let Range { start, end } = numbers;
        let mut next = start;
        std::iter::from_fn(move || {
            let index = next + self.memory.find64(table + 8 * next, 8, end - next, 1)?;
            next = index + 1;
            Some(index)
        })
    }

    /// Where `input` goes by tables in memory, whatever is cached.
    pub(crate) fn peek(&self, tables: &Tables, input: u64) -> Option<u64> {
        self.peek_from(tables, tables.base, tables.start(), input)
    }

    /// The same, from a table of `start` on.
    pub(crate) fn peek_from(
        &self,
        tables: &Tables,
        mut table: u64,
        start: i8,
        input: u64,
    ) -> Option<u64> {
        for level in start..=3 {
            let at = table + tables.offset(input, level);
            match tables.read(self.memory.read64(at).ok()?, level) {
                Meaning::Table { next, .. } if tables.fits(next) => table = next,
                Meaning::Leaf { address, bytes_log2, .. } if tables.fits(address) => {
                    return Some(address | input & ((1 << bytes_log2) - 1));
                }
                _ => return None,
            }
        }
        None
    }
}

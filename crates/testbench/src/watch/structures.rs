// SPDX-License-Identifier: MIT OR Apache-2.0
//! The stream table entries and contexts that hardware can read, and every value that their words have held
//! (rule R4).

use std::collections::{BTreeMap, BTreeSet};

use smmuv3_formats::command::{ALL_STREAMS, CfgiCd, CfgiSte, CfgiSteRange};
use smmuv3_formats::{CD_BYTES, Cd, Command, L1Cd, Opcode, STE_BYTES};

use crate::mixture::{ContextTable, History, Kind, Words};
use crate::ram::Ram;
use crate::stream_table::StreamTable;

/// Which structure of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Structure {
    /// The stream table entry.
    Ste,
    /// The context of this substream; 0 where there are none.
    Cd(u32),
}

impl Structure {
    fn kind(self) -> Kind {
        match self {
            Self::Ste => Kind::Ste,
            Self::Cd(_) => Kind::Cd,
        }
    }
}

/// Instance, stream and structure.
type Place = (usize, u32, Structure);

/// Contexts side by side in memory: all of a linear table, or a leaf of a 2-level one.
#[derive(Debug)]
struct Leaf {
    instance: usize,
    stream: u32,
    /// Where the table begins that it belongs to.
    table: u64,
    /// The first substream.
    first: u32,
    pa: u64,
    /// What is there.
    words: Vec<u64>,
    standing: Standing,
}

/// Whether hardware may use a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It is led to it.
    Used,
    /// Another has taken its place, and hardware was not told.
    Replaced,
    /// It was told by this queue, and has not confirmed that.
    Told(usize),
}

/// The first level of a 2-level table.
#[derive(Debug)]
struct First {
    instance: usize,
    stream: u32,
    table: ContextTable,
    /// log2 of the contexts in a leaf.
    split: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Structures {
    /// The stream table of each instance.
    tables: Vec<StreamTable>,
    /// A context has one while hardware may read anything but its present words.
    histories: BTreeMap<Place, History>,
    firsts: Vec<First>,
    leaves: Vec<Leaf>,
    /// Instances whose structures were stored to since they were asked for.
    stored: BTreeSet<usize>,
}

/// A combination of words that means nothing.
pub(super) struct Mixture {
    pub(super) stream: u32,
    pub(super) structure: Structure,
    pub(super) words: Words,
}

impl Structures {
    pub(super) fn add_instance(&mut self, table: StreamTable) {
        self.tables.push(table);
    }

    /// The structures of `instance` are no more.
    pub(super) fn remove_instance(&mut self, instance: usize) {
        self.histories.retain(|(of, _, _), _| *of != instance);
        self.firsts.retain(|first| first.instance != instance);
        self.leaves.retain(|leaf| leaf.instance != instance);
        self.stored.remove(&instance);
    }

    /// Another table in place of that of `instance`, whose structures are no more.
    pub(super) fn replace_instance(&mut self, instance: usize, table: StreamTable) {
        self.remove_instance(instance);
        if let Some(place) = self.tables.get_mut(instance) {
            *place = table;
        }
    }

    pub(super) fn instances(&self) -> usize {
        self.tables.len()
    }

    /// Follows the entry of `stream` from its present content on.
    pub(super) fn watch_stream(&mut self, ram: &Ram, instance: usize, stream: u32) {
        let entry = |table: &StreamTable| table.entry(ram, stream);
        let Some(pa) = self.tables.get(instance).and_then(entry) else { return };
        let history = History::new(Kind::Ste, pa, words(ram, pa));
        self.histories.insert((instance, stream, Structure::Ste), history);
    }

    /// What the structures of `instance` hold now is all that they have held.
    pub(super) fn settle(&mut self, ram: &Ram, instance: usize) {
        for ((of, ..), history) in &mut self.histories {
            if *of == instance {
                history.settle(words(ram, history.pa));
            }
        }
        let used = |leaf: &Leaf| leaf.standing == Standing::Used;
        self.leaves.retain(|leaf| leaf.instance != instance || used(leaf));
        self.forget_unreachable(instance);
    }

    /// The instances whose structures were stored to since the last call.
    pub(super) fn take_stored(&mut self) -> BTreeSet<usize> {
        std::mem::take(&mut self.stored)
    }

    /// A word of memory that hardware reads was stored.
    pub(super) fn stored(&mut self, ram: &Ram, pa: u64) {
        let Some(value) = ram.read64(pa) else { return };
        self.stored_in_leaves(pa, value);
        let mut linked = Vec::new();
        for ((instance, stream, structure), history) in &mut self.histories {
            if *structure == Structure::Ste && (history.pa..history.pa + STE).contains(&pa) {
                self.stored.insert(*instance);
                history.stored(((pa - history.pa) / 8) as usize, value);
                linked.extend(history.tables().into_iter().map(|it| (*instance, *stream, it)));
            }
        }
        for (instance, stream, table) in linked {
            self.link(ram, instance, stream, table);
        }
        let mut leaves = Vec::new();
        for first in &self.firsts {
            let begin = first.table.pa;
            if (begin..begin + first.table.bytes()).contains(&pa) {
                self.stored.insert(first.instance);
                // A table has at most 2^20 contexts.
                let index = ((pa - begin) / 8) as u32;
                leaves.push((first.instance, first.stream, begin, index, first.split));
            }
        }
        for (instance, stream, table, index, split) in leaves {
            self.link_leaf(ram, instance, stream, table, index, split, value);
        }
    }

    fn stored_in_leaves(&mut self, pa: u64, value: u64) {
        for leaf in &mut self.leaves {
            let Some(offset) = pa.checked_sub(leaf.pa).map(|offset| (offset / 8) as usize) else {
                continue;
            };
            if offset >= leaf.words.len() {
                continue;
            }
            self.stored.insert(leaf.instance);
            let (number, word) = (offset / 8, offset % 8);
            let before: Words = std::array::from_fn(|index| leaf.words[8 * number + index]);
            leaf.words[offset] = value;
            let at = leaf.pa + CD * number as u64;
            // A leaf has at most 2^10 contexts.
            let structure = Structure::Cd(leaf.first + number as u32);
            let key = (leaf.instance, leaf.stream, structure);
            let history =
                self.histories.entry(key).or_insert_with(|| History::new(Kind::Cd, at, before));
            if history.pa != at {
                *history = History::new(Kind::Cd, at, before);
            }
            history.stored(word, value);
        }
    }

    /// Hardware can read a table of contexts from now on.
    fn link(&mut self, ram: &Ram, instance: usize, stream: u32, table: ContextTable) {
        let Some(split) = table.split else {
            self.add_leaf(ram, instance, stream, table.pa, 0, table.pa, 1 << table.log2);
            return;
        };
        let known = |first: &First| {
            (first.instance, first.stream, first.table) == (instance, stream, table)
        };
        if !self.firsts.iter().any(known) {
            self.firsts.push(First { instance, stream, table, split });
            for (index, pa) in (0..).zip((table.pa..table.pa + table.bytes()).step_by(8)) {
                let value = ram.read64(pa).unwrap_or(0);
                self.link_leaf(ram, instance, stream, table.pa, index, split, value);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "all of them say which leaf")]
    fn link_leaf(
        &mut self,
        ram: &Ram,
        instance: usize,
        stream: u32,
        table: u64,
        index: u32,
        split: u32,
        value: u64,
    ) {
        let descriptor = L1Cd([value]);
        let (first, pa) = (index << split, descriptor.l2_ptr());
        for leaf in &mut self.leaves {
            let here = (leaf.instance, leaf.stream, leaf.table, leaf.first);
            let led_to = descriptor.v() && leaf.pa == pa;
            if here == (instance, stream, table, first) && !led_to {
                leaf.standing = Standing::Replaced;
            }
        }
        if descriptor.v() {
            self.add_leaf(ram, instance, stream, table, first, pa, 1 << split);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "all of them say which leaf")]
    fn add_leaf(
        &mut self,
        ram: &Ram,
        instance: usize,
        stream: u32,
        table: u64,
        first: u32,
        pa: u64,
        count: u64,
    ) {
        let known = |leaf: &Leaf| {
            (leaf.instance, leaf.stream, leaf.first, leaf.pa, leaf.words.len() as u64)
                == (instance, stream, first, pa, 8 * count)
        };
        if let Some(leaf) = self.leaves.iter_mut().find(|leaf| known(leaf)) {
            leaf.standing = Standing::Used;
            return;
        }
        let words = (0..8 * count).map(|index| ram.read64(pa + 8 * index).unwrap_or(0));
        let (words, standing) = (words.collect(), Standing::Used);
        self.leaves.push(Leaf { instance, stream, table, first, pa, words, standing });
    }

    /// Hardware of `instance` was told to read something anew.
    pub(super) fn told(&mut self, (instance, queue): (usize, usize), command: Command) {
        let all = 0..u64::MAX;
        let one = |stream: u64| stream..stream + 1;
        let (streams, contexts) = match command.opcode() {
            Some(Opcode::CfgiSte) => (one(CfgiSte(command.0).sid()), None),
            // The SSID has 20 bits.
            Some(Opcode::CfgiCd) => {
                let command = CfgiCd(command.0);
                (one(command.sid()), Some(Some(command.ssid() as u32)))
            }
            Some(Opcode::CfgiCdAll) => (one(CfgiSte(command.0).sid()), Some(None)),
            Some(Opcode::CfgiSteRange) => {
                let range = CfgiSteRange(command.0);
                if range.range() == ALL_STREAMS {
                    (all, None)
                } else {
                    let count = 2u64 << range.range();
                    let first = range.sid() & !(count - 1);
                    (first..first + count, None)
                }
            }
            _ => return,
        };
        if !matches!(contexts, Some(Some(_))) {
            // That of one context leaves what was kept on the way to others.
            for leaf in &mut self.leaves {
                let meant = leaf.instance == instance && streams.contains(&u64::from(leaf.stream));
                if meant && leaf.standing != Standing::Used {
                    leaf.standing = Standing::Told(queue);
                }
            }
        }
        for ((at, stream, structure), history) in &mut self.histories {
            let meant = match (contexts, *structure) {
                (None, _) | (Some(None), Structure::Cd(_)) => true,
                (Some(Some(substream)), Structure::Cd(of)) => substream == of,
                (Some(_), Structure::Ste) => false,
            };
            if *at == instance && streams.contains(&u64::from(*stream)) && meant {
                history.told();
                history.queue = queue;
            }
        }
    }

    /// A CMD_SYNC of a queue of `instance` has completed; what hardware could have read that means nothing. Devices of
    /// streams that are `silent` may be cut off at any moment.
    pub(super) fn synchronised(
        &mut self,
        (instance, queue): (usize, usize),
        silent: impl Fn(u32) -> bool,
    ) -> Vec<Mixture> {
        let mut mixtures = Vec::new();
        for ((at, stream, structure), history) in &mut self.histories {
            if *at == instance
                && history.queue == queue
                && let Err(words) = history.synchronised(silent(*stream))
            {
                mixtures.push(Mixture { stream: *stream, structure: *structure, words });
            }
        }
        let over = Standing::Told(queue);
        self.leaves.retain(|leaf| leaf.instance != instance || leaf.standing != over);
        self.forget_unreachable(instance);
        self.histories.retain(|(at, _, structure), history| {
            *at != instance || *structure == Structure::Ste || !history.is_settled()
        });
        mixtures
    }

    /// Contexts that no entry leads to any more cannot be read.
    fn forget_unreachable(&mut self, instance: usize) {
        let histories = &self.histories;
        let is_reachable = |at: usize, stream: u32, table: u64| {
            let entry = || histories.get(&(instance, stream, Structure::Ste));
            at != instance || entry().is_some_and(|history| history.leads_to(table))
        };
        self.firsts.retain(|first| is_reachable(first.instance, first.stream, first.table.pa));
        self.leaves.retain(|leaf| is_reachable(leaf.instance, leaf.stream, leaf.table));
        let leaves = &self.leaves;
        self.histories.retain(|(at, stream, structure), history| {
            *structure == Structure::Ste
                || leaves.iter().any(|leaf| {
                    let bytes = 8 * leaf.words.len() as u64;
                    (leaf.instance, leaf.stream) == (*at, *stream)
                        && (leaf.pa..leaf.pa + bytes).contains(&history.pa)
                })
        });
    }

    /// A structure of which hardware may still be using an older content that means something else. `counts`
    /// tells whether the stream behind the instance is to be looked at.
    pub(super) fn unsettled(
        &self,
        counts: impl Fn(usize, u32) -> bool,
    ) -> Option<(usize, u32, Kind)> {
        let unsettled = self.histories.iter().find(|((instance, stream, structure), history)| {
            counts(*instance, *stream)
                && !history.is_settled()
                && (*structure == Structure::Ste || history.check(&[history.latest()]).is_err())
        });
        let unsettled = unsettled
            .map(|((instance, stream, structure), _)| (*instance, *stream, structure.kind()));
        let replaced =
            |leaf: &&Leaf| leaf.standing != Standing::Used && counts(leaf.instance, leaf.stream);
        unsettled.or_else(|| {
            let leaf = self.leaves.iter().find(replaced)?;
            Some((leaf.instance, leaf.stream, Kind::Cd))
        })
    }

    /// The valid contexts that hardware can read: instance, stream, substream and content.
    pub(super) fn contexts(&self) -> impl Iterator<Item = (usize, u32, u32, Cd)> {
        self.leaves.iter().flat_map(|leaf| {
            let cds = leaf.words.as_chunks::<8>().0.iter().zip(leaf.first..);
            cds.map(|(words, substream)| (leaf.instance, leaf.stream, substream, Cd(*words)))
                .filter(|(_, _, _, cd)| cd.v())
        })
    }

    /// The valid contexts of `stream`, as memory has them: those that a kernel before this one had written are followed
    /// nowhere else.
    pub(super) fn contexts_in_memory(&self, ram: &Ram, instance: usize, stream: u32) -> Vec<Cd> {
        let history = self.histories.get(&(instance, stream, Structure::Ste));
        let mut contexts = Vec::new();
        for table in history.map(History::tables).unwrap_or_default() {
            let leaves = match table.split {
                None => vec![(table.pa, 1 << table.log2)],
                Some(split) => (table.pa..table.pa + table.bytes())
                    .step_by(8)
                    .map(|pa| L1Cd([ram.read64(pa).unwrap_or(0)]))
                    .filter(|leaf| leaf.v())
                    .map(|leaf| (leaf.l2_ptr(), 1u64 << split))
                    .collect(),
            };
            let all =
                leaves.into_iter().flat_map(|(pa, count)| (0..count).map(move |n| pa + CD * n));
            let valid = |pa: &u64| {
                let first = ram.read64(*pa).unwrap_or(0);
                Cd([first, 0, 0, 0, 0, 0, 0, 0]).v()
            };
            contexts.extend(all.filter(valid).map(|pa| Cd(words(ram, pa))));
        }
        contexts
    }

    /// The newest content of the entry of `stream`.
    pub(super) fn entry(&self, instance: usize, stream: u32) -> Option<Words> {
        self.histories.get(&(instance, stream, Structure::Ste)).map(History::latest)
    }
}

/// Bytes of an entry, and of a context.
const STE: u64 = STE_BYTES as u64;
const CD: u64 = CD_BYTES as u64;

pub(super) fn words(ram: &Ram, pa: u64) -> Words {
    std::array::from_fn(|index| ram.read64(pa + 8 * index as u64).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use smmuv3_formats::Ste;
    use smmuv3_formats::command::CfgiCdAll;
    use smmuv3_formats::register::{StrtabBase, StrtabBaseCfg};
    use smmuv3_formats::ste::config;

    use super::*;

    const BASE: u64 = 0x4000_0000;
    const TABLE: u64 = BASE + 0x1000;
    const LEAF: u64 = BASE + 0x2000;
    const STREAM: u32 = 5;

    /// Memory with a stream whose contexts are in leaves of 64, of which the second is there.
    struct Setup {
        ram: Ram,
        structures: Structures,
    }

    impl Setup {
        fn new() -> Self {
            let ram = Ram::heap(BASE, 0x10000).unwrap();
            let mut structures = Structures::default();
            let base = StrtabBase::default().with_addr(BASE);
            let shape = StrtabBaseCfg::default().with_log2size(4);
            structures.add_instance(StreamTable { base, shape });
            let mut setup = Self { ram, structures };
            setup.structures.watch_stream(&setup.ram, 0, STREAM);
            setup.store(TABLE + 8, L1Cd::default().with_v(true).with_l2_ptr(LEAF).0[0]);
            let ste = Ste::default().with_v(true).with_config(config::STAGE_1);
            let ste = ste.with_s1_context_ptr(TABLE).with_s1_fmt(1).with_s1_cd_max(8);
            setup.store(BASE + STE * u64::from(STREAM), ste.0[0]);
            setup.tell(CfgiSte::new().with_sid(STREAM.into()).into());
            setup
        }

        fn store(&mut self, pa: u64, value: u64) {
            self.ram.write64(pa, value).unwrap();
            self.structures.stored(&self.ram, pa);
        }

        /// The command, and a CMD_SYNC; what could have been read that means nothing.
        fn tell(&mut self, command: Command) -> Vec<Structure> {
            self.structures.told((0, 0), command);
            self.structures
                .synchronised((0, 0), |_| false)
                .into_iter()
                .map(|mixture| mixture.structure)
                .collect()
        }

        fn tell_cd(&mut self, substream: u32) -> Vec<Structure> {
            let command = CfgiCd::new().with_sid(STREAM.into()).with_ssid(substream.into());
            self.tell(command.into())
        }

        fn unsettled(&self) -> bool {
            self.structures.unsettled(|_, _| true).is_some()
        }
    }

    fn context(asid: u64, ttb: u64) -> Cd {
        Cd::default().with_v(true).with_epd1(true).with_asid(asid).with_ttb0(ttb)
    }

    #[test]
    fn a_context_is_known_by_its_substream_and_only_its_own_cfgi_settles_it() {
        let mut setup = Setup::new();
        let cd = LEAF + 3 * CD;
        setup.store(cd + 8, context(1, 0x9000).0[1]);
        assert!(!setup.unsettled(), "nobody sees what is behind V = 0");
        setup.store(cd, context(1, 0x9000).0[0]);
        assert!(setup.unsettled());
        assert_eq!(setup.tell_cd(68), []);
        assert!(setup.unsettled());
        // Both words changed since the last CFGI of this one.
        assert_eq!(setup.tell_cd(67), [Structure::Cd(67)]);
        assert!(!setup.unsettled());
        let contexts: Vec<_> = setup.structures.contexts().collect();
        assert_eq!(contexts, [(0, STREAM, 67, context(1, 0x9000))]);
    }

    #[test]
    fn what_a_new_leaf_holds_was_there_from_the_beginning() {
        let mut setup = Setup::new();
        let leaf = LEAF + 0x1000;
        for (index, word) in (0..).zip(context(2, 0xa000).0) {
            setup.store(leaf + 8 * index, word);
        }
        setup.store(TABLE + 16, L1Cd::default().with_v(true).with_l2_ptr(leaf).0[0]);
        assert!(!setup.unsettled());
        setup.store(leaf, 0);
        assert_eq!(setup.tell_cd(128), []);
        assert_eq!(setup.structures.contexts().count(), 0);
    }

    #[test]
    fn a_leaf_in_the_place_of_another_takes_the_cfgi_of_all_contexts() {
        let mut setup = Setup::new();
        let leaf = LEAF + 0x1000;
        setup.store(LEAF, context(1, 0x9000).0[0]);
        assert_eq!(setup.tell_cd(64), []);
        for (index, word) in (0..).zip(context(2, 0xa000).0) {
            setup.store(leaf + 8 * index, word);
        }
        assert!(!setup.unsettled());
        setup.store(TABLE + 8, L1Cd::default().with_v(true).with_l2_ptr(leaf).0[0]);
        assert!(setup.unsettled());
        // Others of it may still be found where they were.
        assert_eq!(setup.tell_cd(64), []);
        assert!(setup.unsettled());
        assert_eq!(setup.structures.contexts().count(), 2);
        let all = CfgiCdAll::new().with_sid(STREAM.into());
        assert_eq!(setup.tell(all.into()), []);
        assert!(!setup.unsettled());
        let contexts: Vec<_> = setup.structures.contexts().collect();
        assert_eq!(contexts, [(0, STREAM, 64, context(2, 0xa000))]);
        // Nobody sees the one before.
        setup.store(LEAF + 8, 0xb000);
        assert_eq!(setup.tell(all.into()), []);
        assert!(!setup.unsettled());
    }

    #[test]
    fn contexts_that_no_entry_leads_to_are_nobodys() {
        let mut setup = Setup::new();
        setup.store(BASE + STE * u64::from(STREAM), 1);
        assert_eq!(setup.tell(CfgiSte::new().with_sid(STREAM.into()).into()), []);
        setup.store(LEAF, context(1, 0x9000).0[0]);
        setup.store(LEAF + 8, context(1, 0x9000).0[1]);
        assert!(!setup.unsettled());
        assert_eq!(setup.structures.contexts().count(), 0);
    }
}

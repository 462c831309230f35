// SPDX-License-Identifier: MIT OR Apache-2.0
//! Everything that streams can reach, and what is wrong with their tables.
//!
//! A survey is bounded whatever the memory holds: no table is followed from within itself, each only a few times
//! in all, and there are limits on descriptors, ranges and findings ([`Limits`]). What is left out is
//! counted.

mod contexts;
mod finding;
mod range;
mod streams;
mod tables;

use std::collections::{BTreeMap, HashMap};

use smmuv3_formats::ste::config;
use smmuv3_formats::{Ste, legality};

pub use finding::{Finding, Kind, Severity};
pub use range::Range;

use crate::describe;
use crate::memory::Memory;
use crate::smmu::Smmu;
use finding::{Findings, Holds, Owner, Structures};
use range::Ranges;

/// How much is looked at and kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Descriptors of translation tables that are read.
    pub descriptors: u64,
    /// Ranges that are kept, of all streams together.
    pub ranges: usize,
    /// Findings that are kept.
    pub findings: usize,
    /// Streams that are kept, and substreams.
    pub streams: usize,
    /// Nodes of the tree that are kept.
    pub nodes: usize,
    /// Entries of stream tables and tables of contexts that are read.
    pub entries: u64,
    /// Ranges of stage 2 that are looked at behind mappings of stage 1, whether or not both allow anything: one mapping may have
    /// many behind it, and many mappings the same.
    pub pieces: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            descriptors: 1 << 32,
            ranges: 1 << 21,
            findings: 10_000,
            streams: 1 << 17,
            nodes: 400,
            entries: 1 << 27,
            pieces: 1 << 30,
        }
    }
}

/// What a survey is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// This stream alone; `None`: every valid one of the stream table.
    pub stream: Option<u32>,
    /// This substream alone; `None`: every one, and accesses without.
    pub substream: Option<u32>,
    /// Only the STEs: no contexts and tables.
    pub only_streams: bool,
}

/// How far a survey is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Streams that were seen.
    pub streams: u64,
    /// Descriptors of translation tables that were read.
    pub descriptors: u64,
    /// Bytes of the stream table that hold nothing.
    pub skipped: u64,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// The streams with a valid STE, by StreamID. Neighbours whose equal entries lead nowhere are one.
    pub streams: Vec<Stream>,
    /// Valid streams that are not in the list, or substreams of one that is.
    pub streams_left_out: u64,
    /// What is wrong, the first first.
    pub findings: Vec<Finding>,
    /// Findings that are not in the list.
    pub findings_left_out: u64,
    /// Ranges that are kept by no space.
    pub ranges_left_out: u64,
    /// Descriptors of translation tables that were read.
    pub descriptors: u64,
    /// Whether that was the limit, or that of entries or of ranges of stage 2 that are looked at: there is more.
    pub cut_short: bool,
    /// What was read, as a tree.
    pub tree: Vec<Node>,
    /// Nodes that are not in the tree.
    pub nodes_left_out: u64,
}

impl Survey {
    /// The worst of what was found.
    pub fn severity(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.kind.severity()).max()
    }

    /// Whether the image lacked something.
    pub fn missing(&self) -> bool {
        self.findings.iter().any(|finding| finding.kind == Kind::Missing)
    }
}

/// A stream, or a run of them.
#[derive(Clone, Debug)]
pub struct Stream {
    /// StreamID, the first of a run.
    pub stream: u32,
    /// The last StreamID of a run: streams that follow each other, whose entries are equal, and abort, bypass
    /// or are illegal. Otherwise the same as the first.
    pub last: u32,
    /// Where the (first) STE is.
    pub address: u64,
    /// The STE.
    pub ste: Ste,
    /// What it means.
    pub meaning: String,
    /// What can be reached with and without substreams.
    pub spaces: Vec<Space>,
}

/// The addresses of one kind of access of a stream.
#[derive(Clone, Debug, Default)]
pub struct Space {
    /// SubstreamID; `None` for accesses without.
    pub substream: Option<u32>,
    /// Whether nothing is translated.
    pub bypass: bool,
    /// The context or what stands in its place, in words.
    pub meaning: String,
    /// A stream, and substream, that has exactly the same, and of which it is not said again.
    pub same_as: Option<(u32, Option<u32>)>,
    /// What can be reached, by input address; none where [`same_as`](Self::same_as) says it.
    pub ranges: Vec<Range>,
    /// Bytes that can be reached, 2^64 and more as `u64::MAX`.
    pub bytes: u64,
}

/// A node of the tree of what was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Depth in the tree.
    pub depth: usize,
    /// What it is.
    pub label: String,
    /// Its physical address.
    pub address: u64,
    /// What is to be known of it.
    pub meaning: String,
}

/// Surveys what is in `scope`; `progress` is told now and then how far it is.
pub fn reach<M: Memory>(
    memory: &M,
    smmu: &Smmu,
    scope: Scope,
    limits: Limits,
    progress: &mut dyn FnMut(Progress),
) -> Survey {
    let mut surveyor = Surveyor {
        memory,
        smmu,
        scope,
        limits,
        progress,
        done: Progress::default(),
        survey: Survey::default(),
        findings: Findings::new(limits.findings),
        structures: Structures::default(),
        known: HashMap::new(),
        arrays: HashMap::new(),
        run: None,
        ranges: 0,
        spaces: 0,
        entries: 0,
        pieces: 0,
    };
    surveyor.streams();
    surveyor.overlaps();
    let Surveyor { mut survey, findings, done, .. } = surveyor;
    (survey.findings, survey.findings_left_out) = findings.take();
    survey.descriptors = done.descriptors;
    survey
}

/// What decides everything below a stream or substream: STE words that count, and CD.
type Key = ([u64; 4], Option<[u64; 8]>);

/// Streams that follow each other and have the same STE, which leads nowhere.
struct Run {
    first: u32,
    last: u32,
    ste: Ste,
    /// Whether it is in the list, and where in the tree.
    kept: bool,
    node: Option<usize>,
}

struct Surveyor<'a, M> {
    memory: &'a M,
    smmu: &'a Smmu,
    scope: Scope,
    limits: Limits,
    progress: &'a mut dyn FnMut(Progress),
    done: Progress,
    survey: Survey,
    findings: Findings,
    structures: Structures,
    /// Spaces that were seen, by what decides them, with the bytes that they reach.
    known: HashMap<Key, (Owner, u64)>,
    /// How often arrays of STEs were reached.
    arrays: HashMap<u64, u32>,
    /// The latest streams, where others may be like them.
    run: Option<Run>,
    /// Ranges that are kept so far, and spaces.
    ranges: usize,
    spaces: usize,
    /// Entries of configuration tables that were read.
    entries: u64,
    /// Ranges of stage 2 that were looked at behind stage 1.
    pieces: u64,
}

impl<M: Memory> Surveyor<'_, M> {
    /// Takes a valid STE.
    fn stream(&mut self, stream: u32, address: u64, ste: Ste) {
        self.done.streams += 1;
        if self.done.streams.is_multiple_of(1024) {
            (self.progress)(self.done);
        }
        if self.run_on(stream, &ste) {
            return;
        }
        let owner = Owner { stream, substream: None };
        let meaning = describe::ste(&ste);
        let node = Some(self.survey.tree.len()).filter(|node| *node < self.limits.nodes);
        self.node(1, format!("STE {stream:#x}"), address, &meaning);
        let judged = legality::ste(&ste, &self.smmu.implementation);
        if let Err(rule) = judged {
            self.findings.add(Kind::Illegal, owner, Some(address), None, || {
                format!("the STE is illegal: {rule}")
            });
        }
        legality::ste_reserved(&ste, Some(&self.smmu.implementation), &mut |rule| {
            self.findings
                .add(Kind::ReservedBits, owner, Some(address), None, || format!("STE: {rule}"));
        });
        let mut found = Stream { stream, last: stream, address, ste, meaning, spaces: Vec::new() };
        if judged.is_ok() && ste.config() & 0b100 != 0 && !self.scope.only_streams {
            self.contexts(&mut found);
        }
        let kept = self.survey.streams.len() < self.limits.streams;
        if kept {
            self.survey.streams.push(found);
        } else {
            self.survey.streams_left_out += 1;
        }
        let plain = judged.is_err() || ste.config() & 0b100 == 0 || ste.config() == config::BYPASS;
        self.run = plain.then_some(Run { first: stream, last: stream, ste, kept, node });
    }

    /// Whether the stream belongs to a run, which then has it.
    fn run_on(&mut self, stream: u32, ste: &Ste) -> bool {
        let Some(run) = &mut self.run else { return false };
        if run.ste != *ste || run.last.checked_add(1) != Some(stream) {
            return false;
        }
        run.last = stream;
        self.findings.run_on(run.first, stream);
        if let Some(node) = run.node.and_then(|node| self.survey.tree.get_mut(node)) {
            node.label = format!("STE {:#x}-{stream:#x}", run.first);
        }
        match self.survey.streams.last_mut().filter(|_| run.kept) {
            Some(found) => found.last = stream,
            None => self.survey.streams_left_out += 1,
        }
        true
    }

    /// Remembers what was followed.
    fn know(&mut self, key: Key, owner: Owner, bytes: u64) {
        /// More contexts than machines have; what is not remembered is followed again.
        const MOST: usize = 1 << 20;
        if self.known.len() < MOST {
            self.known.insert(key, (owner, bytes));
        }
    }

    /// Whether one more entry of a configuration table may be read.
    fn another(&mut self) -> bool {
        self.entries += 1;
        if self.entries.is_multiple_of(1 << 20) {
            (self.progress)(self.done);
        }
        let fine = self.entries <= self.limits.entries;
        self.survey.cut_short |= !fine;
        fine
    }

    /// Keeps what one space reaches.
    fn space(
        &mut self,
        found: &mut Stream,
        substream: Option<u32>,
        meaning: String,
        ranges: Ranges,
    ) {
        let bytes = ranges.bytes();
        let (ranges, left_out) = ranges.take();
        self.ranges += ranges.len();
        self.survey.ranges_left_out += left_out;
        self.executable(Owner { stream: found.stream, substream }, &found.ste, &ranges);
        self.push(found, Space { substream, meaning, ranges, bytes, ..Space::default() });
    }

    fn push(&mut self, found: &mut Stream, space: Space) {
        if self.spaces < self.limits.streams {
            self.spaces += 1;
            found.spaces.push(space);
        } else {
            self.survey.streams_left_out += 1;
        }
    }

    /// Tells ranges that can be written and executed, all of a space at once.
    fn executable(&mut self, owner: Owner, ste: &Ste, ranges: &[Range]) {
        let (instruction, kinds) = asked(ste, self.smmu);
        if !instruction {
            return;
        }
        let both = |range: &&Range| {
            kinds.iter().any(|privileged| {
                let rights = range.permissions.of(*privileged);
                rights.execute && rights.write
            })
        };
        let mut found = ranges.iter().filter(both);
        let Some(first) = found.next() else { return };
        let more = found.count();
        self.findings.add(Kind::WriteExecute, owner, None, Some(first.input), || {
            format!("{first}{} can be written and executed", and_more(more, "ranges"))
        });
    }

    /// Tells what a space can write although the walk itself reads it: the first of each kind, and how many
    /// there are.
    fn overlaps(&mut self) {
        /// Structures that are looked at: a hostile image makes every space reach every table.
        const MOST: u64 = 1 << 28;
        self.structures.sort();
        let mut looked = 0;
        'all: for stream in &self.survey.streams {
            let (_, kinds) = asked(&stream.ste, self.smmu);
            let writable = |range: &&Range| {
                kinds.iter().any(|privileged| range.permissions.of(*privileged).write)
            };
            // Of a bypass it is said once, for all memory.
            for space in stream.spaces.iter().filter(|space| !space.bypass) {
                let mut found: BTreeMap<Holds, (u64, u64, usize)> = BTreeMap::new();
                for range in space.ranges.iter().filter(writable) {
                    if looked > MOST {
                        self.survey.cut_short = true;
                        break 'all;
                    }
                    for hit in self.structures.within(range.output, range.bytes) {
                        looked += 1;
                        let from = hit.from.max(range.output);
                        let input = range.input + (from - range.output);
                        found.entry(hit.what).or_insert((from, input, 0)).2 += 1;
                    }
                }
                let owner = Owner { stream: stream.stream, substream: space.substream };
                for (what, (at, input, count)) in found {
                    self.findings.add(Kind::TableMemory, owner, Some(at), Some(input), || {
                        let more = and_more(count - 1, "of them");
                        format!("it can write {what} at {at:#x}{more}, through {input:#x}")
                    });
                }
            }
        }
    }

    fn node(&mut self, depth: usize, label: String, address: u64, meaning: &str) {
        if self.survey.tree.len() < self.limits.nodes {
            let meaning = meaning.to_owned();
            self.survey.tree.push(Node { depth, label, address, meaning });
        } else {
            self.survey.nodes_left_out += 1;
        }
    }
}

/// Which accesses are left after the overrides of an STE (§5.2): whether some are instruction fetches, and
/// whether they are privileged.
fn asked(ste: &Ste, smmu: &Smmu) -> (bool, &'static [bool]) {
    if !smmu.implementation.idr1.attr_perms_ovr() {
        return (true, &[true, false]);
    }
    let kinds: &[bool] = match ste.priv_cfg() {
        2 => &[false],
        3 => &[true],
        _ => &[true, false],
    };
    (ste.inst_cfg() != 2, kinds)
}

/// ` and 3 more ranges`; nothing where there are none.
fn and_more(count: usize, what: &str) -> String {
    if count == 0 { String::new() } else { format!(" and {count} more {what}") }
}

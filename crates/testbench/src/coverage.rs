// SPDX-License-Identifier: MIT OR Apache-2.0
//! What random steps have done: how often each operation came to something where each feature took part in it.
//!
//! A feature is something that a scenario says of an instance, a master or an address space. It takes part in an
//! operation on what it is said of, and on whatever is attached to that: an unmap concerns every instance that its
//! domain is used on. What was refused, or had nothing to do, counts for nothing. [`FEATURES`] is the one list of them; an operation is known by [`VERBS`].
//! Which of them never come together, and why, is said by [`EXCEPTIONS`].

mod exceptions;
mod pairs;

use smmuv3::{AsidPolicy, AtsMode, Completion, Overrides, Privilege};
use smmuv3_formats::granule::Granule;

use crate::bench::Done;
use crate::operation::Operation;
use crate::oracle::{Oracle, PAGE, Use};
use crate::scenario::{
    Change, Instance, Interrupts, Master, MemoryKind, Part, Rights, Scenario, StreamTableKind,
    Substream, Tables, WithoutPasid,
};

pub use exceptions::{EXCEPTIONS, Exception};
pub use pairs::Pairs;

/// Something that a scenario can have.
#[derive(Clone, Copy)]
pub struct Feature {
    /// What it is called.
    pub name: &'static str,
    of: Of,
}

/// What a feature is said of.
#[derive(Clone, Copy)]
enum Of {
    Instance(fn(&Instance) -> bool),
    /// Of the master with that index.
    Master(fn(&Scenario, usize) -> bool),
    /// Of the address space with that number.
    Space(fn(&Scenario, usize) -> bool),
    /// Of a mapping.
    Mapping(OfMapping),
}

/// Whether something is said of a mapping.
type OfMapping = fn(MemoryKind, Rights) -> bool;

const fn instance(name: &'static str, of: fn(&Instance) -> bool) -> Feature {
    Feature { name, of: Of::Instance(of) }
}

const fn master(name: &'static str, of: fn(&Scenario, usize) -> bool) -> Feature {
    Feature { name, of: Of::Master(of) }
}

const fn space(name: &'static str, of: fn(&Scenario, usize) -> bool) -> Feature {
    Feature { name, of: Of::Space(of) }
}

const fn mapping(name: &'static str, of: fn(MemoryKind, Rights) -> bool) -> Feature {
    Feature { name, of: Of::Mapping(of) }
}

/// All features.
pub const FEATURES: &[Feature] = &[
    instance("8-bit ASIDs", |it| it.asid_bits == 8),
    instance("16-bit ASIDs", |it| it.asid_bits == 16),
    instance("stage 1 alone", |it| it.stage_1 && !it.stage_2),
    instance("stage 2 alone", |it| !it.stage_1),
    instance("LPA2", |it| it.walks.lpa2),
    instance("BBML 0", |it| it.walks.bbml == 0),
    instance("BBML 1", |it| it.walks.bbml == 1),
    instance("BBML 2", |it| it.walks.bbml == 2),
    instance("range invalidation", |it| it.range_invalidation),
    instance("no range invalidation", |it| !it.range_invalidation),
    instance("2-level streams", |it| {
        it.stream_table != StreamTableKind::Linear && it.two_level_streams && it.sid_bits > 8
    }),
    instance("linear streams", |it| {
        it.stream_table == StreamTableKind::Linear || !it.two_level_streams
    }),
    instance("not coherent", |it| !it.coherent),
    instance("broadcasts", |it| it.btm),
    instance("queue of 2", |it| it.command_queue_log2 == 1),
    instance("events of 2", |it| it.event_queue_log2 == 1),
    instance("enhanced queues", |it| it.queues.enhanced_log2.is_some()),
    instance("polled", |it| it.queues.completion == Completion::Poll),
    instance("told by interrupt", |it| it.queues.completion == Completion::Interrupt),
    instance("told by event", |it| {
        it.queues.completion == Completion::Event && it.quirks.part.has_events()
    }),
    instance("told by message", |it| {
        // What is not coherent is polled.
        it.queues.completion == Completion::Message && it.msi && it.coherent
    }),
    instance("combined interrupts", |it| it.queues.interrupts == Interrupts::Combined),
    instance("wired interrupts", |it| it.queues.interrupts == Interrupts::Wired),
    instance("messages", |it| it.queues.interrupts == Interrupts::Messages),
    instance("translation operations", |it| it.atos),
    instance("counters", |it| it.counters > 0),
    instance("one filter for counters", |it| it.counters > 0 && it.one_filter),
    instance("forced stalls", |it| it.stalls > 0 && it.forced_stalls),
    instance("TERM_MODEL 0", |it| it.stalls > 0 && it.quirks.silent_termination),
    instance("TERM_MODEL 1", |it| it.stalls > 0 && !it.quirks.silent_termination),
    instance("MMU-600", |it| matches!(it.quirks.part, Part::Mmu600R0 | Part::Mmu600R1)),
    instance("early MMU-700", |it| it.quirks.part == Part::Mmu700R0),
    instance("MMU-700, MMU-L1, MMU-S3", |it| {
        matches!(it.quirks.part, Part::Mmu700R1 | Part::MmuL1 | Part::MmuS3)
    }),
    instance("one page", |it| it.quirks.one_page),
    instance("invalidated twice", |it| it.repeated_invalidation),
    instance("no prefetch", |it| it.quirks.forbids_prefetch()),
    instance("HTTU by firmware", |it| it.quirks.firmware_httu.is_some()),
    instance("bypass while off", |it| it.quirks.while_off.is_some()),
    instance("attributes while off", |it| {
        it.quirks.while_off.is_some_and(|it| it != Overrides::NONE)
    }),
    master("types overridden", |scenario, index| {
        scenario.masters.get(index).is_some_and(|it| it.overrides.memory.is_some())
    }),
    master("allocation overridden", |scenario, index| {
        scenario.masters.get(index).is_some_and(|it| it.overrides.allocation.is_some())
    }),
    master("privileged", Scenario::is_privileged),
    master("unprivileged", |scenario, index| {
        let privilege = scenario.masters.get(index).and_then(|it| it.overrides.privilege);
        privilege == Some(Privilege::Unprivileged)
    }),
    master("reads overridden", |scenario, index| {
        scenario.masters.get(index).is_some_and(|it| it.overrides.access.is_some())
    }),
    master("EL2-E2H", |scenario, index| {
        scenario.masters.get(index).is_some_and(|master| scenario.in_el2(master.instance))
    }),
    master("several streams", |scenario, index| {
        scenario.masters.get(index).is_some_and(|master| master.streams.len() > 1)
    }),
    master("neighbouring streams", |scenario, index| {
        let pairs = |it: &Master| {
            let mut pairs = it.streams.windows(2);
            pairs.any(|pair| pair[0].is_multiple_of(2) && pair[1] == pair[0] + 1)
        };
        scenario.masters.get(index).is_some_and(pairs)
    }),
    master("PASIDs", |scenario, index| scenario.pasid_bits(index) > 0),
    master("stalls", Scenario::stalls),
    master("ATS", |scenario, index| keeps(scenario, index, AtsMode::Full)),
    master("ATS always on", |scenario, index| keeps(scenario, index, AtsMode::Always)),
    master("split-stage ATS", |scenario, index| keeps(scenario, index, AtsMode::Split)),
    master("page requests", |scenario, index| {
        scenario.masters.get(index).is_some_and(|master| master.pri)
    }),
    master("PASIDs in responses", |scenario, index| {
        scenario.masters.get(index).is_some_and(|master| master.response_pasid)
    }),
    master("left working", |scenario, index| {
        scenario.masters.get(index).is_some_and(|master| master.keep.is_some())
    }),
    space("domain", |scenario, index| index < scenario.domains.len()),
    space("stage 2", |scenario, index| tables(scenario, index, |it| it.stage_2)),
    space("hypervisor's VMID", |scenario, index| tables(scenario, index, |it| it.vmid.is_some())),
    space("16 KiB", |scenario, index| {
        tables(scenario, index, |it| it.granule == Some(Granule::K16))
    }),
    space("64 KiB", |scenario, index| {
        tables(scenario, index, |it| it.granule == Some(Granule::K64))
    }),
    space("contiguous", |scenario, index| tables(scenario, index, |it| it.contiguous)),
    space("splitting", |scenario, index| tables(scenario, index, |it| it.splitting)),
    space("dirty state", |scenario, index| tables(scenario, index, |it| it.dirty)),
    space("upper half", |scenario, index| tables(scenario, index, |it| it.upper)),
    space("access flags", |scenario, index| tables(scenario, index, |it| it.access_flags)),
    space("all attributes", |scenario, index| tables(scenario, index, |it| it.all_attributes)),
    space("forced types", |scenario, index| tables(scenario, index, |it| it.forced_types)),
    space("output size", |scenario, index| tables(scenario, index, |it| it.output_bits != 0)),
    space("first tables side by side", |scenario, index| {
        tables(scenario, index, |it| it.start_level.is_some())
    }),
    space("under guests", |scenario, index| tables(scenario, index, |it| it.guests)),
    space("guest's stage 1", |scenario, index| tables(scenario, index, |it| it.over.is_some())),
    space("guest's stalls", |scenario, index| {
        let over = scenario.domains.get(index).and_then(|domain| domain.tables.over);
        over.is_some_and(|over| tables(scenario, over, |it| it.guest_stalls > 0))
    }),
    space("guest's page requests", |scenario, index| {
        let over = scenario.domains.get(index).and_then(|domain| domain.tables.over);
        over.is_some_and(|over| tables(scenario, over, |it| it.guest_pages > 0))
    }),
    space("guest's PASIDs", |scenario, index| {
        let over = scenario.domains.get(index).and_then(|domain| domain.tables.over);
        over.is_some_and(|over| tables(scenario, over, |it| it.guest_contexts.is_some()))
    }),
    space("PASIDs or nothing", |scenario, index| {
        tables(scenario, index, |it| it.without_pasid == WithoutPasid::Terminate)
    }),
    space("PASIDs beside bypass", |scenario, index| {
        tables(scenario, index, |it| it.without_pasid == WithoutPasid::Bypass)
    }),
    space("52-bit inputs", |scenario, index| scenario.input_bits(index) > 48),
    space("process", |scenario, index| index >= scenario.domains.len()),
    space("an ASID each", |scenario, index| numbered(scenario, index, AsidPolicy::PerInstance)),
    space("8-bit ASIDs for all", |scenario, index| numbered(scenario, index, AsidPolicy::Shared8)),
    space("8-bit ASIDs on move", |scenario, index| {
        numbered(scenario, index, AsidPolicy::Shared8OnMove)
    }),
    space("narrowest ASIDs or none", |scenario, index| {
        numbered(scenario, index, AsidPolicy::SharedMinRefuse)
    }),
    space("narrowest ASIDs on move", |scenario, index| {
        numbered(scenario, index, AsidPolicy::SharedMinMove)
    }),
    space("banked ASIDs", |scenario, index| numbered(scenario, index, AsidPolicy::Banked)),
    mapping("uncached", |kind, _| kind == MemoryKind::Uncached),
    mapping("device memory", |kind, _| {
        matches!(kind, MemoryKind::Device | MemoryKind::StrictDevice)
    }),
    mapping("write-through", |kind, _| kind == MemoryKind::WriteThrough),
    mapping("type of stage 1", |kind, _| kind == MemoryKind::AsStage1),
    mapping("executable", |_, rights| rights == Rights::Code),
    mapping("executable by some", |_, rights| {
        matches!(rights, Rights::UserCode | Rights::PrivilegedCode)
    }),
    mapping("for privileged only", |_, rights| rights == Rights::Privileged),
];

fn keeps(scenario: &Scenario, master: usize, ats: AtsMode) -> bool {
    scenario.masters.get(master).is_some_and(|it| it.ats == ats)
}

fn tables(scenario: &Scenario, space: usize, have: impl Fn(&Tables) -> bool) -> bool {
    scenario.domains.get(space).is_some_and(|domain| have(&domain.tables))
}

/// A space has ASIDs, and by that policy: it is of stage 1, and not a guest's.
fn numbered(scenario: &Scenario, space: usize, policy: AsidPolicy) -> bool {
    let without = tables(scenario, space, |it| it.stage_2 || it.over.is_some());
    scenario.asid_policy == policy && !without
}

/// All operations.
pub const VERBS: &[&str] = &[
    "attach",
    "detach",
    "identity",
    "attach PASID",
    "detach PASID",
    "bind",
    "unbind",
    "release",
    "replace",
    "map",
    "unmap",
    "cut",
    "defer",
    "flush",
    "reclaim",
    "dirty",
    "accessed",
    "answer",
    "translate",
    "ask",
    "grant",
    "stop",
    "mute",
    "too late",
    "readmit",
    "read",
    "fetch",
    "write",
    "fault",
    "suspend",
    "resume",
    "reset",
    "replug",
    "hand-over",
    "claim",
    "command error",
    "misbehave",
];

/// What an access is that was refused, or stalled, in whole or in part.
const FAULT: &str = "fault";

fn verb(operation: &Operation) -> &'static str {
    match operation {
        Operation::Attach { pasid: Some(_), to: Use::Blocked, .. } => "detach PASID",
        Operation::Attach { pasid: Some(_), .. } => "attach PASID",
        Operation::Attach { to: Use::Blocked, .. } => "detach",
        Operation::Attach { to: Use::Identity, .. } => "identity",
        Operation::Attach { .. } => "attach",
        Operation::Bind { .. } => "bind",
        Operation::Unbind { .. } => "unbind",
        Operation::Release { .. } => "release",
        Operation::Replace { .. } => "replace",
        Operation::Change { change: Change::Suspend, .. } => "suspend",
        Operation::Change { change: Change::Resume, .. } => "resume",
        Operation::Change { change: Change::Reset, .. } => "reset",
        Operation::Change { change: Change::Replug, .. } => "replug",
        Operation::HandOver { .. } | Operation::Change { change: Change::EndAdoption, .. } => {
            "hand-over"
        }
        Operation::Claim { .. } => "claim",
        Operation::CommandError { .. } => "command error",
        Operation::Misbehave { .. } => "misbehave",
        Operation::Map { .. } => "map",
        Operation::Unmap { .. } | Operation::Take { .. } => "unmap",
        Operation::Read { instruction: true, .. } => "fetch",
        Operation::Read { .. } => "read",
        Operation::Write { .. } => "write",
        Operation::Dirty { .. } => "dirty",
        Operation::Accessed { .. } => "accessed",
        Operation::Answer { .. } => "answer",
        Operation::Translate { .. } => "translate",
        Operation::Ask { .. } => "ask",
        Operation::Grant { .. } => "grant",
        Operation::Cut { .. } => "cut",
        Operation::Defer { .. } => "defer",
        Operation::Flush { .. } => "flush",
        Operation::Reclaim { .. } => "reclaim",
        Operation::Stop { .. } => "stop",
        Operation::Mute { late: false, .. } => "mute",
        Operation::Mute { .. } => "too late",
        Operation::Readmit { .. } => "readmit",
    }
}

/// Features, as bits.
type Set = u128;

/// Features that take part in an operation.
#[derive(Clone, Copy)]
pub struct Concerned(Set);

/// Counts pairs of a scenario's features and the operations that come to something.
pub struct Counter<'a> {
    scenario: &'a Scenario,
    /// Features as bits, of each instance, master and space.
    instances: Vec<Set>,
    masters: Vec<Set>,
    spaces: Vec<Set>,
    /// Those of mappings.
    mappings: Vec<(Set, OfMapping)>,
    pairs: Pairs,
}

impl<'a> Counter<'a> {
    /// Of operations on `scenario`.
    pub fn new(scenario: &'a Scenario) -> Self {
        let set = |has: &dyn Fn(&Of) -> bool| {
            let bits = FEATURES.iter().enumerate().filter(|(_, feature)| has(&feature.of));
            bits.fold(0, |set, (bit, _)| set | 1 << bit)
        };
        let instances = scenario
            .instances
            .iter()
            .map(|it| set(&|of| matches!(of, Of::Instance(has) if has(it))))
            .collect();
        let masters = (0..scenario.masters.len())
            .map(|it| set(&|of| matches!(of, Of::Master(has) if has(scenario, it))))
            .collect();
        let spaces = (0..scenario.spaces())
            .map(|it| set(&|of| matches!(of, Of::Space(has) if has(scenario, it))))
            .collect();
        let mappings = FEATURES.iter().enumerate().filter_map(|(bit, feature)| match feature.of {
            Of::Mapping(has) => Some((1 << bit, has)),
            _ => None,
        });
        let mappings = mappings.collect();
        Self { scenario, instances, masters, spaces, mappings, pairs: Pairs::default() }
    }

    /// What takes part in `operation`, which is about to be done.
    pub fn concerned(&self, operation: &Operation, oracle: &Oracle) -> Concerned {
        let process = |process: &usize| self.space(oracle.process_space(*process), oracle);
        Concerned(match operation {
            Operation::Attach { master, pasid, to, .. } => {
                let substream = pasid.map_or(Substream::None, Substream::Pasid);
                let to = oracle.space(*to).map_or(0, |space| self.bits(&self.spaces, space));
                self.master(*master) | self.used(*master, substream, oracle) | to
            }
            Operation::Bind { process: of, master, .. }
            | Operation::Unbind { process: of, master } => {
                let of = oracle.process_space(*of);
                self.master(*master) | self.bits(&self.spaces, of)
            }
            Operation::Claim { master } => self.master(*master),
            Operation::Change { instance, .. } | Operation::CommandError { instance, .. } => {
                self.instance(*instance, oracle)
            }
            Operation::HandOver { .. } => {
                let instances = 0..self.instances.len();
                instances.fold(0, |set, index| set | self.instance(index, oracle))
            }
            Operation::Release { process: of } | Operation::Replace { process: of } => process(of),
            Operation::Map { space, kind, rights, .. } => {
                self.space(*space, oracle) | self.mapping(*kind, *rights)
            }
            Operation::Unmap { space, iova, bytes }
            | Operation::Take { domain: space, iova, bytes }
            | Operation::Cut { domain: space, iova, bytes, .. }
            | Operation::Defer { domain: space, iova, bytes } => {
                self.space(*space, oracle) | self.mapped(*space, *iova, *bytes, oracle)
            }
            Operation::Dirty { domain, iova, bytes }
            | Operation::Accessed { domain, iova, bytes } => {
                self.space(*domain, oracle) | self.mapped(*domain, *iova, *bytes, oracle)
            }
            Operation::Flush { domain }
            | Operation::Reclaim { domain, .. }
            | Operation::Misbehave { domain, .. } => self.space(*domain, oracle),
            Operation::Answer { master, .. }
            | Operation::Mute { master, .. }
            | Operation::Readmit { master }
            | Operation::Grant { master, .. } => {
                self.master(*master) | self.all_of(*master, oracle)
            }
            Operation::Stop { master, substream } => {
                self.master(*master) | self.used(*master, *substream, oracle)
            }
            Operation::Read { master, substream, iova, .. }
            | Operation::Ask { master, substream, iova, .. }
            | Operation::Translate { master, substream, iova, .. }
            | Operation::Write { master, substream, iova, .. } => {
                let space = self.space_of(*master, *substream, oracle);
                let mapped = space.map_or(0, |space| self.mapped(space, *iova, 1, oracle));
                self.master(*master) | self.used(*master, *substream, oracle) | mapped
            }
        })
    }

    /// `operation`, in which these took part, was done.
    pub fn count(&mut self, concerned: Concerned, operation: &Operation, done: &Done) {
        if done.acted {
            self.pairs.add(concerned.0, verb(operation));
        }
        if done.refused > 0 {
            self.pairs.add(concerned.0, FAULT);
        }
    }

    fn bits(&self, of: &[Set], index: usize) -> Set {
        of.get(index).copied().unwrap_or(0)
    }

    /// Of a master, and of its instance.
    fn master(&self, index: usize) -> Set {
        let instance = self.scenario.masters.get(index).map_or(usize::MAX, |it| it.instance);
        self.bits(&self.masters, index) | self.bits(&self.instances, instance)
    }

    /// Of an instance, and of the masters behind it and what they use.
    fn instance(&self, index: usize, oracle: &Oracle) -> Set {
        let users = oracle.users().filter(|(user, _)| oracle.streams(user.master).0 == index);
        let used = |use_| oracle.space(use_).map_or(0, |space| self.bits(&self.spaces, space));
        users.fold(self.bits(&self.instances, index), |set, (user, use_)| {
            set | self.bits(&self.masters, user.master) | used(use_)
        })
    }

    /// Of a space, and of those that use it.
    fn space(&self, index: usize, oracle: &Oracle) -> Set {
        let users = oracle.users_of(index).into_iter();
        users.fold(self.bits(&self.spaces, index), |set, user| set | self.master(user.master))
    }

    /// Of all spaces that a master uses.
    fn all_of(&self, master: usize, oracle: &Oracle) -> Set {
        let own = oracle.users().filter(|(user, _)| user.master == master);
        let spaces = own.filter_map(|(_, used)| oracle.space(used));
        spaces.fold(0, |set, space| set | self.bits(&self.spaces, space))
    }

    /// Of the space that accesses of a master are subject to.
    fn used(&self, master: usize, substream: Substream, oracle: &Oracle) -> Set {
        let space = self.space_of(master, substream, oracle);
        space.map_or(0, |space| self.bits(&self.spaces, space))
    }

    fn space_of(&self, master: usize, substream: Substream, oracle: &Oracle) -> Option<usize> {
        let substream = oracle.substream(substream)?;
        oracle.space(oracle.using(crate::oracle::User { master, substream }))
    }

    fn mapping(&self, kind: MemoryKind, rights: Rights) -> Set {
        let has = self.mappings.iter().filter(|(_, has)| has(kind, rights));
        has.fold(0, |set, (bit, _)| set | bit)
    }

    /// Of all mappings in a range.
    fn mapped(&self, space: usize, iova: u64, bytes: u64, oracle: &Oracle) -> Set {
        let first = iova & !(PAGE - 1);
        let pages = oracle.pages(space, first..iova.saturating_add(bytes));
        pages.fold(0, |set, (_, page)| set | self.mapping(page.kind, page.rights))
    }

    /// What was counted.
    pub fn pairs(self) -> Pairs {
        self.pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_exceptions_name_pairs() {
        let mut names: Vec<&str> = FEATURES.iter().map(|feature| feature.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FEATURES.len());
        assert!(FEATURES.len() <= Set::BITS as usize, "they are bits of a word");
        for it in EXCEPTIONS {
            assert!(it.features.iter().all(|feature| names.contains(feature)), "{it:?}");
            assert!(it.operations.iter().all(|verb| VERBS.contains(verb)), "{it:?}");
        }
        let cannot = |feature, verb| Exception::of(feature, verb).is_some();
        assert!(cannot("process", "attach") && cannot("left working", "mute"));
        assert!(!cannot("process", "hand-over") && !cannot("process", "bind"));
    }

    #[test]
    fn what_takes_part_is_counted_and_the_rest_is_missing() {
        let text = r#"
            name = "pairs"
            instance = [
                { name = "narrow", asid-bits = 8, range-invalidation = true },
                { name = "wide", asid-bits = 16, range-invalidation = false },
            ]
            master = [
                { name = "nic", instance = "narrow", streams = [1, 2] },
                { name = "disk", instance = "wide", streams = [1] },
            ]
            domain = [{ name = "d" }]
            memory = [{ name = "rx", size = "4K" }]
            step = []
        "#;
        let scenario = Scenario::parse(text, "pairs.toml").unwrap();
        let mut oracle = Oracle::new(2);
        oracle.add_domain(0);
        oracle.add_master(0, vec![1, 2]);
        oracle.add_master(1, vec![1]);
        let mut counter = Counter::new(&scenario);
        let acted = Done { acted: true, ..Done::default() };
        let count = |counter: &mut Counter<'_>, operation: &Operation, oracle: &Oracle| {
            let concerned = counter.concerned(operation, oracle);
            counter.count(concerned, operation, &acted);
        };
        let unmap = Operation::Unmap { space: 0, iova: 0, bytes: 0x1000 };
        count(&mut counter, &unmap, &oracle);
        let attach = Operation::attach(0, Use::Domain(0));
        count(&mut counter, &attach, &oracle);
        oracle.attach_begins(0, Use::Domain(0));
        oracle.attach_ends(0, true);
        count(&mut counter, &unmap, &oracle);
        // Nothing came of that, and of this a refusal.
        let concerned = counter.concerned(&Operation::Release { process: 0 }, &oracle);
        counter.count(concerned, &Operation::Release { process: 0 }, &Done::default());
        let (substream, data) = (Substream::None, vec![1]);
        let write = Operation::Write { master: 0, substream, iova: 0, data };
        let concerned = counter.concerned(&write, &oracle);
        counter.count(concerned, &write, &Done { refused: 1, ..Done::default() });
        let pairs = counter.pairs();
        let count = |feature: &str, verb: &str| {
            let row = FEATURES.iter().position(|it| it.name == feature).unwrap();
            pairs.get(row, VERBS.iter().position(|it| *it == verb).unwrap())
        };
        assert_eq!(count("domain", "unmap"), Some(2));
        // Nobody used it the first time.
        assert_eq!(count("8-bit ASIDs", "unmap"), Some(1));
        assert_eq!(count("several streams", "unmap"), Some(1));
        assert_eq!(count("16-bit ASIDs", "unmap"), Some(0));
        assert_eq!(count("range invalidation", "attach"), Some(1));
        assert_eq!(count("domain", "bind"), None);
        assert_eq!(count("process", "release"), Some(0));
        assert_eq!((count("domain", "write"), count("domain", "fault")), (Some(0), Some(1)));
        let missing = pairs.missing();
        assert!(missing.contains(&("16-bit ASIDs", "unmap")));
        assert!(!missing.contains(&("8-bit ASIDs", "unmap")));
        let json = serde_json::to_value(&pairs).unwrap();
        assert_eq!(json["8-bit ASIDs"]["unmap"], 1);
        assert!(json["domain"].get("bind").is_none());
    }
}

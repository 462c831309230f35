// SPDX-License-Identifier: MIT OR Apache-2.0
//! Less that still breaks the same rule: first fewer operations, then fewer things, and plainer ones.

use smmuv3::Completion;

use crate::bench::POOL_BYTES;
use crate::operation::Operation;
use crate::oracle::Use;
use crate::run::{self, Numbered, Options};
use crate::scenario::{
    AsidPolicy, Granules, Instance, Interrupts, Memory, Overrides, Places, Quirks, Scenario, Step,
    StreamTableKind, Substream, Tables, WithoutPasid,
};
use crate::shrink::{self, Budget};

/// The smallest scenario, and the shortest sequence of operations on it, that were found to break `rule`.
/// Tells `shrinking` how many operations are left. What there is no `budget` for is not tried.
pub(super) fn shortest(
    scenario: Scenario,
    options: &Options,
    rule: &str,
    operations: Vec<Numbered>,
    budget: &mut Budget,
    shrinking: &mut dyn FnMut(usize),
) -> (Scenario, Vec<Numbered>) {
    let mut smallest = (scenario, operations);
    loop {
        let before = size(&smallest);
        let (scenario, operations) = smallest;
        let mut breaks = |scenario: &Scenario, operations: &[Numbered]| {
            let may = budget.spend(operations.len());
            if may {
                shrinking(operations.len());
            }
            may && run::breaks(scenario, options, operations).as_deref() == Some(rule)
        };
        let operations =
            shrink::shortest(operations, &mut |candidate| breaks(&scenario, candidate));
        let mut fails = |(scenario, operations): &Candidate| breaks(scenario, operations);
        let (scenario, operations) = elsewhere((scenario, operations), &mut fails);
        smallest = plainer(scenario, operations, &mut fails);
        if size(&smallest) == before {
            return smallest;
        }
    }
}

/// The scenario that does `operations`: what `smmuv3 run` is given.
pub(super) fn written(scenario: Scenario, operations: &[Numbered], description: &str) -> Scenario {
    // It comes to lie where the memory of random steps was.
    let pool = Memory {
        name: "pool".to_owned(),
        size: POOL_BYTES,
        align: 2 << 20,
        at: None,
        fill: None,
        places: Places::default(),
    };
    let maps = operations.iter().any(|(_, operation)| matches!(operation, Operation::Map { .. }));
    // Behind what firmware left.
    let mut memories = scenario.memories.clone();
    let number = memories.len();
    memories.extend(maps.then_some(pool));
    let steps = operations.iter().map(|(id, operation)| Step {
        again: false,
        line: 0,
        note: None,
        interrupt: run::interrupt(*id),
        action: operation.action(&scenario, number),
    });
    let steps = steps.collect();
    Scenario { description: description.to_owned(), memories, steps, ..scenario }
}

type Candidate = (Scenario, Vec<Numbered>);

fn size((scenario, operations): &Candidate) -> [usize; 5] {
    let streams = scenario.masters.iter().map(|master| master.streams.len()).sum();
    let (instances, masters) = (scenario.instances.len(), scenario.masters.len());
    [operations.len(), instances, masters, scenario.spaces(), streams]
}

/// Fewer operations, with the randomness of hardware and interruptions starting elsewhere: some were only needed
/// to bring it to where it hurts.
fn elsewhere(best: Candidate, fails: &mut dyn FnMut(&Candidate) -> bool) -> Candidate {
    let mut best = best;
    for index in (0..best.1.len().min(MOST_OPERATIONS)).rev() {
        let without = |seed| {
            let (mut scenario, mut operations) = best.clone();
            scenario.seed = seed;
            operations.remove(index);
            (scenario, operations)
        };
        // Taking everything down is a step as well, but tells little.
        if best.1.len() == 1 {
            break;
        }
        if let Some(shorter) = (0..OTHER_SEEDS).map(without).find(|candidate| fails(candidate)) {
            best = shorter;
        }
    }
    best
}

/// Operations that are tried to be left out under other seeds.
const MOST_OPERATIONS: usize = 64;
/// Seeds under which they are.
const OTHER_SEEDS: u64 = 8;

/// Whatever can go from the scenario without the operations noticing, and features that do not matter.
fn plainer(
    scenario: Scenario,
    operations: Vec<Numbered>,
    fails: &mut dyn FnMut(&Candidate) -> bool,
) -> Candidate {
    let mut best = (scenario, operations);
    let mut keep = |best: &mut Candidate, candidate: Option<Candidate>| {
        if let Some(candidate) = candidate.filter(|candidate| fails(candidate)) {
            *best = candidate;
        }
    };
    for index in (0..best.0.masters.len()).rev() {
        let candidate = without_master(&best, index);
        keep(&mut best, candidate);
    }
    for index in (0..best.0.domains.len()).rev() {
        let candidate = without_domain(&best, index);
        keep(&mut best, candidate);
    }
    for index in (0..best.0.processes.len()).rev() {
        let candidate = without_process(&best, index);
        keep(&mut best, candidate);
    }
    for index in (0..best.0.instances.len()).rev() {
        let candidate = without_instance(&best, index);
        keep(&mut best, candidate);
    }
    for index in 0..best.0.masters.len() {
        let mut candidate = best.clone();
        candidate.0.masters[index].streams.truncate(1);
        keep(&mut best, Some(candidate));
        let mut candidate = best.clone();
        candidate.0.masters[index].pasid_bits = 0;
        let candidate = Some(candidate).filter(|it| !names_substreams(it, index));
        keep(&mut best, candidate);
    }
    for index in 0..best.0.instances.len() {
        for usual in USUAL {
            let mut candidate = best.clone();
            usual(&mut candidate.0.instances[index]);
            keep(&mut best, Some(candidate).filter(|(scenario, _)| streams_exist(scenario)));
        }
    }
    for index in 0..best.0.domains.len() {
        let mut candidate = best.clone();
        candidate.0.domains[index].input_bits = 48;
        keep(&mut best, Some(candidate));
        for usual in USUAL_TABLES {
            let mut candidate = best.clone();
            usual(&mut candidate.0.domains[index].tables);
            keep(&mut best, Some(candidate));
        }
    }
    for index in 0..best.0.processes.len() {
        let mut candidate = best.clone();
        (candidate.0.processes[index].input_bits, candidate.0.processes[index].asid) = (48, None);
        keep(&mut best, Some(candidate));
    }
    for plain in PLAIN {
        let mut candidate = best.clone();
        plain(&mut candidate.0, &best.1);
        keep(&mut best, Some(candidate));
    }
    for index in 0..best.1.len() {
        let candidate = uninterrupted(&best, index);
        keep(&mut best, candidate);
    }
    best
}

/// With an operation that nothing interrupts. (A DMA does not call the driver; for its step it only means that
/// it may be refused.)
fn uninterrupted((scenario, operations): &Candidate, index: usize) -> Option<Candidate> {
    let mut operations = operations.clone();
    let (id, operation) = operations.get_mut(index)?;
    if matches!(operation, Operation::Read { .. } | Operation::Write { .. }) {
        return None;
    }
    run::interrupt(*id)?;
    *id = index as u64;
    // Where nothing is interrupted, mapping over a mapping is a mistake.
    let text = written(scenario.clone(), &operations, "").to_toml();
    Scenario::parse(&text, "").ok()?;
    Some((scenario.clone(), operations))
}

/// Each makes something of a scenario what it is when the scenario does not mention it.
const PLAIN: [fn(&mut Scenario, &[Numbered]); 10] = [
    |it, _| (it.asid_policy, it.banks) = (AsidPolicy::default(), None),
    |it, _| it.cpu_asid_bits = 16,
    |it, _| it.el2_host = false,
    |it, _| it.masters.iter_mut().for_each(|it| it.overrides = Overrides::NONE),
    |it, operations| {
        let claims = |(_, operation): &Numbered| matches!(operation, Operation::Claim { .. });
        if !operations.iter().any(claims) {
            it.masters.iter_mut().for_each(|it| it.keep = None);
            it.memories.clear();
        }
    },
    |it, _| {
        if it.masters.iter().all(|it| it.overrides == Overrides::NONE) {
            it.instances.iter_mut().for_each(|it| it.quirks = Quirks::default());
        }
    },
    |it, operations| {
        if !operations.iter().any(|(_, operation)| matches!(operation, Operation::Answer { .. })) {
            it.masters.iter_mut().for_each(|it| it.stalls = false);
            it.instances.iter_mut().for_each(|it| (it.stalls, it.forced_stalls) = (0, false));
            it.domains.iter_mut().for_each(|it| it.tables.guest_stalls = 0);
        }
    },
    |it, operations| {
        let asks = |(_, operation): &Numbered| matches!(operation, Operation::Translate { .. });
        if !operations.iter().any(asks) {
            it.instances.iter_mut().for_each(|it| it.atos = false);
        }
    },
    |it, operations| {
        let asks = |(_, operation): &Numbered| {
            matches!(
                operation,
                Operation::Ask { .. } | Operation::Grant { .. } | Operation::Stop { .. }
            )
        };
        if !operations.iter().any(asks) {
            it.masters.iter_mut().for_each(|it| (it.pri, it.response_pasid) = (false, false));
            it.domains.iter_mut().for_each(|it| it.tables.guest_pages = 0);
            it.instances
                .iter_mut()
                .for_each(|it| (it.pri, it.page_request_queue_log2) = (false, 8));
        }
    },
    |it, operations| {
        let named = operations.iter().filter_map(|(_, operation)| operation.pasid());
        it.pasids = named.max().unwrap_or(0);
    },
];

/// Whether an operation names a substream of a master.
fn names_substreams((_, operations): &Candidate, index: usize) -> bool {
    operations.iter().any(|(_, operation)| match operation {
        Operation::Attach { master, pasid: Some(_), .. }
        | Operation::Bind { master, .. }
        | Operation::Unbind { master, .. } => *master == index,
        Operation::Write { master, substream, .. }
        | Operation::Read { master, substream, .. }
        | Operation::Ask { master, substream, .. }
        | Operation::Translate { master, substream, .. }
        | Operation::Stop { master, substream } => {
            *master == index && *substream != Substream::None
        }
        _ => false,
    })
}

/// Each makes something of an instance what it is when a scenario does not mention it.
const USUAL: [fn(&mut Instance); 20] = [
    |it| it.asid_bits = 16,
    |it| (it.stage_2, it.vmid_bits) = (true, 16),
    |it| it.granules = Granules::ALL,
    |it| it.oas = 44,
    |it| it.stream_table = StreamTableKind::Automatic,
    |it| (it.sid_bits, it.two_level_streams) = (16, true),
    |it| (it.counters, it.one_filter) = (0, false),
    |it| it.one_filter = false,
    |it| it.atos = false,
    |it| it.hyp = false,
    |it| it.queues.interrupts = Interrupts::Combined,
    |it| it.queues.completion = Completion::Poll,
    |it| it.queues.enhanced_log2 = None,
    |it| {
        if it.queues.interrupts != Interrupts::Messages {
            it.msi = false;
        }
    },
    |it| (it.ssid_bits, it.two_level_contexts) = (0, false),
    |it| it.btm = false,
    |it| (it.command_queue_log2, it.event_queue_log2) = (8, 8),
    |it| it.page_request_queue_log2 = 8,
    // Whoever has it has some of that (§7.1).
    |it| (it.range_invalidation, it.walks.bbml) = (true, it.walks.bbml.max(1)),
    |it| it.coherent = true,
];

/// As well, of the tables of a domain. (The upper half is where operations are.)
const USUAL_TABLES: [fn(&mut Tables); 7] = [
    |it| it.guest_contexts = None,
    |it| it.without_pasid = WithoutPasid::default(),
    |it| it.access_flags = false,
    |it| it.forced_types = false,
    |it| it.all_attributes = false,
    |it| it.output_bits = 0,
    |it| it.start_level = None,
];

/// Whether each stream of a master is one that its instance has.
fn streams_exist(scenario: &Scenario) -> bool {
    scenario.masters.iter().all(|master| {
        let bits = scenario.instances[master.instance].sid_bits;
        master.streams.iter().all(|stream| u64::from(*stream) >> bits == 0)
    })
}

/// Without a master that no operation names.
fn without_master((scenario, operations): &Candidate, gone: usize) -> Option<Candidate> {
    let (mut scenario, mut operations) = (scenario.clone(), operations.clone());
    scenario.masters.remove(gone);
    for (_, operation) in &mut operations {
        if let Operation::HandOver { lost } = operation {
            lost.retain(|master| *master != gone);
            lost.iter_mut().filter(|master| **master > gone).for_each(|master| *master -= 1);
        }
        if let Operation::Attach { master, .. }
        | Operation::Bind { master, .. }
        | Operation::Unbind { master, .. }
        | Operation::Answer { master, .. }
        | Operation::Ask { master, .. }
        | Operation::Translate { master, .. }
        | Operation::Grant { master, .. }
        | Operation::Stop { master, .. }
        | Operation::Claim { master }
        | Operation::Mute { master, .. }
        | Operation::Readmit { master }
        | Operation::Write { master, .. }
        | Operation::Read { master, .. } = operation
        {
            close_gap(master, gone)?;
        }
    }
    Some((scenario, operations))
}

/// Without a domain that no operation names.
fn without_domain((scenario, operations): &Candidate, gone: usize) -> Option<Candidate> {
    let (mut scenario, mut operations) = (scenario.clone(), operations.clone());
    scenario.domains.remove(gone);
    // Nor one that others are over.
    for domain in &mut scenario.domains {
        if let Some(over) = &mut domain.tables.over {
            close_gap(over, gone)?;
        }
    }
    let overs: Vec<usize> = scenario.domains.iter().filter_map(|it| it.tables.over).collect();
    for (index, domain) in scenario.domains.iter_mut().enumerate() {
        domain.tables.guests = overs.contains(&index);
    }
    for (_, operation) in &mut operations {
        if let Operation::Attach { to: Use::Domain(domain), .. }
        | Operation::Map { space: domain, .. }
        | Operation::Unmap { space: domain, .. }
        | Operation::Cut { domain, .. }
        | Operation::Defer { domain, .. }
        | Operation::Flush { domain }
        | Operation::Reclaim { domain, .. }
        | Operation::Misbehave { domain, .. }
        | Operation::Take { domain, .. }
        | Operation::Dirty { domain, .. }
        | Operation::Accessed { domain, .. } = operation
        {
            close_gap(domain, gone)?;
        }
    }
    Some((scenario, operations))
}

/// Without a process that no operation names.
fn without_process((scenario, operations): &Candidate, gone: usize) -> Option<Candidate> {
    let (mut scenario, mut operations) = (scenario.clone(), operations.clone());
    scenario.processes.remove(gone);
    for (_, operation) in &mut operations {
        match operation {
            Operation::Bind { process, .. }
            | Operation::Unbind { process, .. }
            | Operation::Release { process }
            | Operation::Replace { process }
            | Operation::Write { substream: Substream::Process(process), .. }
            | Operation::Ask { substream: Substream::Process(process), .. }
            | Operation::Translate { substream: Substream::Process(process), .. }
            | Operation::Stop { substream: Substream::Process(process), .. }
            | Operation::Read { substream: Substream::Process(process), .. } => {
                close_gap(process, gone)?;
            }
            Operation::Map { space, .. } | Operation::Unmap { space, .. } => {
                close_gap(space, scenario.domains.len() + gone)?;
            }
            _ => {}
        }
    }
    Some((scenario, operations))
}

/// Without an instance that nobody is behind.
fn without_instance((scenario, operations): &Candidate, gone: usize) -> Option<Candidate> {
    if scenario.instances.len() == 1 {
        return None;
    }
    let (mut scenario, mut operations) = (scenario.clone(), operations.clone());
    scenario.instances.remove(gone);
    for (_, operation) in &mut operations {
        if let Operation::Change { instance, .. } = operation {
            close_gap(instance, gone)?;
        }
    }
    for master in &mut scenario.masters {
        close_gap(&mut master.instance, gone)?;
    }
    Some((scenario, operations))
}

/// What an index is when the thing at `gone` is gone; `None` for that one's own.
fn close_gap(index: &mut usize, gone: usize) -> Option<()> {
    if *index == gone {
        return None;
    }
    *index -= usize::from(*index > gone);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::scenario;

    fn candidate() -> Candidate {
        let drawn = (0..).map(|seed| scenario(seed, 1));
        let several = |it: &Scenario| {
            it.instances.len() == 3 && it.masters.len() == 3 && it.domains.len() == 3
        };
        let mut scenario = drawn.into_iter().find(several).unwrap();
        for (index, master) in scenario.masters.iter_mut().enumerate() {
            // Every instance has this stream.
            (master.instance, master.streams) = (index, vec![0]);
        }
        let attach = |id, master| (id, Operation::attach(master, Use::Domain(2)));
        (scenario, vec![attach(0, 0), attach(1, 2)])
    }

    #[test]
    fn what_an_operation_names_stays_and_the_rest_goes() {
        let candidate = candidate();
        let names = |it: &Candidate| {
            let masters = it.0.masters.iter().map(|it| it.name.clone());
            masters.chain(it.0.domains.iter().map(|it| it.name.clone())).collect::<Vec<_>>()
        };
        assert_eq!(names(&candidate).len(), 6);
        let (scenario, operations) = candidate;
        let (smallest, operations) = plainer(scenario, operations, &mut |_| true);
        let left = (smallest, operations);
        assert_eq!(left.0.instances.len(), 2);
        assert_eq!(left.0.masters.iter().map(|it| it.instance).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(names(&left), ["master0", "master2", "domain2"]);
        let masters: Vec<&Operation> = left.1.iter().map(|(_, operation)| operation).collect();
        let attach = |master| Operation::attach(master, Use::Domain(0));
        assert_eq!(masters, [&attach(0), &attach(1)]);
        // Nothing is left to be said about instances.
        let text = left.0.to_toml();
        assert!(!text.contains("bits =") && !text.contains("coherent"), "{text}");
    }

    #[test]
    fn what_only_moves_randomness_along_goes_under_another_seed() {
        let (scenario, operations) = candidate();
        let fails = &mut |(scenario, operations): &Candidate| {
            scenario.seed == 5 && operations.iter().any(|(id, _)| *id == 1)
        };
        let (elsewhere, operations) = elsewhere((scenario, operations), fails);
        assert_eq!((elsewhere.seed, operations.len(), operations[0].0), (5, 1, 1));
    }

    #[test]
    fn without_a_budget_what_was_found_so_far_is_all() {
        let (mut scenario, _) = candidate();
        scenario.domains.truncate(1);
        scenario.domains[0].tables = Tables::default();
        let range = (0xc000_0000, 0x1000);
        let kind = (crate::scenario::MemoryKind::Normal, crate::scenario::Rights::Data);
        let map = Operation::Map {
            space: 0,
            iova: range.0,
            bytes: range.1,
            source: crate::operation::Source::Pool(0),
            write: true,
            kind: kind.0,
            rights: kind.1,
        };
        let nothing = Operation::Flush { domain: 0 };
        let mut operations: Vec<Numbered> = (0..30).map(|id| (id, nothing.clone())).collect();
        operations.extend([(30, map.clone()), (31, map)]);
        let options = Options::default();
        let rule = run::breaks(&scenario, &options, &operations).unwrap();
        let look = |runs| {
            let (mut budget, mut tried) = (Budget::new(runs, 10_000), 0);
            let shrinking = &mut |_| tried += 1;
            let (scenario, operations) = (scenario.clone(), operations.clone());
            let found = shortest(scenario, &options, &rule, operations, &mut budget, shrinking);
            let breaks = run::breaks(&found.0, &options, &found.1);
            assert_eq!(breaks.as_deref(), Some(&*rule), "{runs}");
            (found.1.len(), tried, budget.is_spent())
        };
        assert_eq!(look(0), (32, 0, true));
        assert_eq!(look(2), (16, 2, true));
        let (least, tried, spent) = look(Budget::RUNS);
        assert!(least <= 2 && !spent, "{least} after {tried} runs");
    }

    #[test]
    fn an_instance_keeps_the_bits_that_its_streams_need() {
        let sid_bits = |stream| {
            let (mut scenario, operations) = candidate();
            scenario.instances[0].sid_bits = 32;
            scenario.instances[0].stream_table = StreamTableKind::TwoLevel;
            scenario.masters[0].streams = vec![stream];
            let (smallest, _) = plainer(scenario, operations, &mut |_| true);
            assert_eq!(smallest.instances[0].stream_table, StreamTableKind::Automatic);
            smallest.instances[0].sid_bits
        };
        assert_eq!((sid_bits(0xffff), sid_bits(0x1_0000)), (16, 32));
    }

    #[test]
    fn what_matters_stays() {
        let (scenario, operations) = candidate();
        let before = scenario.to_toml();
        let (same, operations) = plainer(scenario, operations, &mut |_| false);
        assert_eq!((same.to_toml(), operations.len()), (before, 2));
    }

    #[test]
    fn instances_that_were_made_plainer_can_be_written_and_read() {
        for seed in 0..200 {
            let mut plainer = Scenario { pasids: 0, ..crate::campaign::scenario(seed, 1) };
            plainer.instances.iter_mut().for_each(|it| USUAL.iter().for_each(|usual| usual(it)));
            (plainer.masters, plainer.domains, plainer.processes) = Default::default();
            (plainer.memories, plainer.steps) = Default::default();
            let text = plainer.to_toml();
            Scenario::parse(&text, "plainer").unwrap_or_else(|errors| panic!("{errors}\n{text}"));
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Campaigns: scenarios from a seed, and what becomes of one that breaks a rule.

use smmuv3_testbench::campaign::{self, Campaign, Life};
use smmuv3_testbench::coverage::Pairs;
use smmuv3_testbench::run::Options;
use smmuv3_testbench::scenario::{Action, Capabilities, PAGE, Places, Scenario};

fn campaign(seeds: std::ops::Range<u64>, steps: u64) -> Campaign {
    let options = Options::default();
    Campaign { seeds, steps, jobs: 2, limit: None, keep_going: true, options }
}

/// The scenario without where it was read from.
fn plain(scenario: &Scenario) -> String {
    let mut scenario = scenario.clone();
    scenario.file.clear();
    let places = scenario
        .instances
        .iter_mut()
        .map(|it| &mut it.places)
        .chain(scenario.masters.iter_mut().map(|it| &mut it.places))
        .chain(scenario.domains.iter_mut().map(|it| &mut it.places))
        .chain(scenario.processes.iter_mut().map(|it| &mut it.places))
        .chain(scenario.memories.iter_mut().map(|it| &mut it.places));
    places.for_each(|places| *places = Places::default());
    scenario.steps.iter_mut().for_each(|step| step.line = 0);
    format!("{scenario:#?}")
}

#[test]
fn a_scenario_that_is_written_and_read_again_is_the_same() {
    let files = ["two-instances", "one-instance", "random", "random-short"];
    let read = |name: &&str| {
        let path = format!("{}/../../scenarios/{name}.toml", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap();
        Scenario::parse(&text, &path).unwrap()
    };
    let every_key = r#"
name = "every \"key\""
description = "a\\b\nc\u0001"
asid-policy = "shared-min-refuse"
banks = [3, 200]
cpu-asid-bits = 8
world = "el2-e2h"
pasids = 9
instance = [
    { name = "a", asid-bits = 8, stages = [1], granules = ["4K", "64K"], oas = 40, sid-bits = 5,
      ssid-bits = 3, msi = true, two-level-streams = false, stream-table = "linear",
      command-queue = 4, event-queue = 5, range-invalidation = false, coherent = false },
    { name = "b", stages = [2], vmid-bits = 8, sid-bits = 32, stream-table = "two-level" },
    { name = "c", ssid-bits = 20, two-level-contexts = true, btm = true, atos = true,
      counters = 64, one-filter = true, hyp = true, ats = true, part = "mmu-s3", one-page = true, no-prefetch = true,
      repeated-invalidation = true, httu = 2, firmware-httu = 1, type-overrides = true,
      permission-overrides = true, while-off = "bypass", silent-termination = true,
      memory-override = "device", allocation-override = "read", read-override = "data" },
]
master = [
    { name = "m", instance = "a", streams = [3, 4], device = "testdev" },
    { name = "k", instance = "a", streams = [5], keep = "l" },
    { name = "n", instance = "c", streams = [3], pasid-bits = 20, ats = true,
      memory-override = "write-through", sharing-override = "outer",
      privilege-override = "unprivileged", allocation-override = "transient",
      read-override = "instructions" },
    { name = "s", instance = "c", streams = [4], ats = "split" },
    { name = "t", instance = "c", streams = [5], ats = "always" },
]
domain = [
    { name = "d", input-bits = 33 },
    { name = "e", upper-half = true, access-flags = true, all-attributes = true, output-bits = 40 },
    { name = "f", stage = 2, forced-types = true, input-bits = 40, start-level = 1 },
]
process = [{ name = "p", input-bits = 34, asid = 255 }, { name = "q" }]
memory = [
    { name = "r", size = "12K", align = "2M", fill = 7 },
    { name = "l", size = "64K", at = 0x884000000 },
]
step = [
    { claim = { master = "k" } },
    { command-error = { instance = "a", error = "illegal" } },
    { command-error = { instance = "b", error = "abort" } },
    { accessed = { domain = "e", iova = 0xffff_0000_0000_0000, length = "8K", expect = [] } },
    { interrupt = 9, attach = { master = "m", domain = "identity" } },
    { note = "n", map = { domain = "d", iova = 0, memory = "r", offset = 4096, length = "8K", kind = "device" } },
    { map = { domain = "d", iova = "1M", memory = "r", access = "ro", kind = "uncached" } },
    { interrupt = 4294967295, unmap = { domain = "d", iova = 0, length = "4M" } },
    { reclaim = { domain = "d", iova = 0, length = "4M" } },
    { map = { domain = "e", iova = 0xffff_0000_0000_0000, memory = "r", kind = "write-through", rights = "user-code" } },
    { unmap-deferred = { domain = "e", iova = 0xffff_0000_0000_0000, length = "8K" } },
    { invalidate-all = { domain = "e" } },
    { map = { domain = "e", iova = 0xffff_0000_0040_0000, memory = "r", rights = "privileged-code" } },
    { map = { domain = "f", iova = 0, memory = "r", kind = "as-stage-1", rights = "code" } },
    { mute = { master = "n", late = true } },
    { readmit = { master = "n" } },
    { write = { master = "m", iova = 5, data = { pattern = 0x12345678, length = 8 } } },
    { expect-data = { memory = "r", offset = 1, data = [1, 2, 3] } },
    { random = { steps = 5, seed = 4, longest = 20, weights = { identity = 3, map = 7 } } },
    { detach = { master = "m" } },
    { attach = { master = "n", domain = "d", pasid = 2, refused = "asid-width" } },
    { attach = { master = "n", domain = "d", pasid = 2, refused = "maybe" } },
    { bind = { process = "p", master = "n" } },
    { process-map = { process = "p", iova = 0, memory = "r", offset = 4096, access = "ro", rights = "code" } },
    { interrupt = 5, process-unmap = { process = "p", iova = 0, length = "1M" } },
    { write = { master = "n", pasid = 2, iova = 0, data = "abc" } },
    { expect-fault = { master = "n", pasid = 2, event = "F_TRANSLATION" } },
    { read = { master = "n", process = "p", iova = 0, length = 8, instruction = true } },
    { expect-blocked = { master = "n", process = "p" } },
    { translate = { master = "n", process = "p", iova = 4097 } },
    { translate = { master = "n", pasid = 2, iova = 8, access = "write", refused = "F_ACCESS" } },
    { unbind = { process = "p", master = "n" } },
    { release = { process = "p" } },
    { replace = { process = "p" } },
    { detach = { master = "n", pasid = 2 } },
    { random = { steps = 5, weights = { attach-pasid = 0, detach-pasid = 9, bind = 8, unbind = 7, release = 6, translate = 3, defer = 2, mute = 1, command-error = 2 } } },
]
"#;
    let every_key = Scenario::parse(every_key, "every-key").unwrap_or_else(|it| panic!("{it}"));
    let drawn = (0..50).map(|seed| campaign::scenario(seed, 10));
    for scenario in files.iter().map(read).chain([every_key]).chain(drawn) {
        let text = scenario.to_toml();
        let again = Scenario::parse(&text, "again").unwrap_or_else(|it| panic!("{it}\n{text}"));
        assert_eq!(plain(&again), plain(&scenario), "{text}");
    }
}

#[test]
fn scenarios_of_different_seeds_differ_in_everything_that_can_be_said() {
    let scenarios: Vec<Scenario> = (0..300).map(|seed| campaign::scenario(seed, 10)).collect();
    let count = |values: Vec<u64>| std::collections::BTreeSet::from_iter(values).len();
    let of_instances = |value: fn(&smmuv3_testbench::scenario::Instance) -> u64| {
        count(scenarios.iter().flat_map(|it| it.instances.iter().map(value)).collect())
    };
    let widths = [
        of_instances(|it| it.asid_bits.into()),
        of_instances(|it| it.stage_2.into()),
        of_instances(|it| it.oas.into()),
        of_instances(|it| it.range_invalidation.into()),
        of_instances(|it| it.coherent.into()),
        of_instances(|it| it.command_queue_log2.into()),
        of_instances(|it| it.event_queue_log2.into()),
        of_instances(|it| it.sid_bits.into()),
        of_instances(|it| it.stream_table as u64),
        of_instances(|it| it.two_level_contexts.into()),
        of_instances(|it| it.btm.into()),
        of_instances(|it| it.ssid_bits.into()),
        of_instances(|it| it.hyp.into()),
    ];
    assert_eq!(widths, [2, 2, 7, 2, 2, 8, 8, 27, 3, 2, 2, 21, 2]);
    let counts = |value: fn(&Scenario) -> usize| {
        count(scenarios.iter().map(|it| value(it) as u64).collect())
    };
    let counts = [
        counts(|it| it.instances.len()),
        counts(|it| it.masters.len()),
        counts(|it| it.domains.len()),
        counts(|it| it.processes.len()),
        counts(|it| it.asid_policy as usize),
        counts(|it| it.cpu_asid_bits as usize),
        counts(|it| it.el2_host.into()),
    ];
    // Those of guests come on top of four.
    assert_eq!(counts, [4, 6, 8, 4, 6, 2, 2]);
    // Leaves of either size, and linear tables; PASIDs in one leaf and in several.
    let masters = |it: &Scenario| (0..it.masters.len()).map(|at| it.pasid_bits(at)).collect();
    let bits: Vec<u32> = scenarios.iter().flat_map(|it| -> Vec<u32> { masters(it) }).collect();
    for range in [0..1, 1..7, 7..18, 18..21] {
        assert!(bits.iter().any(|bits| range.contains(bits)), "{range:?}");
    }
    for range in [0..1, 1..64, 65..1024, 1025..4096] {
        assert!(scenarios.iter().any(|it| range.contains(&it.pasids)), "{range:?}");
    }
    let asids = scenarios.iter().flat_map(|it| it.processes.iter().map(|process| process.asid));
    let asids: std::collections::BTreeSet<Option<u16>> = asids.collect();
    assert!([None, Some(0), Some(1), Some(0xff), Some(0xffff)].iter().all(|it| asids.contains(it)));
    for scenario in &scenarios {
        scenario.check_for(&Capabilities::model()).unwrap();
        let Action::Random(random) = &scenario.steps[0].action else { panic!("no random step") };
        let end = random.iova + random.pages * PAGE;
        assert!(scenario.domains.iter().all(|domain| end <= 1 << domain.input_bits));
    }
}

#[test]
fn a_campaign_holds_all_rules_and_is_the_same_with_any_number_of_jobs() {
    let outcome = |jobs| {
        let summary = Campaign { jobs, ..campaign(0..12, 300) }.run(&|_| ()).unwrap();
        assert!(summary.findings.is_empty(), "{:#?}", summary.findings);
        (summary.seeds, summary.operations, summary.interruptions)
    };
    let one = outcome(1);
    assert!(one.0 == 12 && one.1 >= 12 * 300 && one.2 > 100, "{one:?}");
    assert_eq!(one, outcome(3));
}

/// A seed with many operations has several machines, each of which is the same by itself.
#[test]
fn many_operations_of_a_seed_are_done_on_several_machines() {
    let summary = campaign(5..6, 6000).run(&|_| ()).unwrap();
    assert!(summary.findings.is_empty(), "{:#?}", summary.findings);
    let lives: Vec<Life> = Life::all(5, 6000).collect();
    assert!(lives.len() > 1, "{lives:?}");
    assert_eq!((summary.seeds, summary.machines), (1, lives.len() as u64));
    let alone = lives.iter().map(|life| {
        let summary = campaign(life.seed..life.seed + 1, life.steps).run(&|_| ()).unwrap();
        assert_eq!((summary.seeds, summary.machines), (1, 1), "{life:?}");
        summary.operations
    });
    assert_eq!(alone.sum::<u64>(), summary.operations);
}

/// Whoever adds a feature or an operation has it drawn, or says why not.
#[test]
fn no_pair_of_a_feature_and_an_operation_is_left_out() {
    let mut pairs = Pairs::default();
    // The rarest are drawn once in hundreds of seeds: where nearly all are there, some more seeds have the rest.
    for seeds in [0..1200, 1200..1800, 1800..2400, 2400..3000, 3000..3600] {
        let summary = campaign(seeds, 800).run(&|_| ()).unwrap();
        assert!(summary.findings.is_empty(), "{:#?}", summary.findings);
        pairs.merge(&summary.pairs);
        if pairs.missing().is_empty() {
            return;
        }
    }
    panic!("never together: {:?}", pairs.missing());
}

#[test]
fn without_time_only_the_first_seed_is_tried() {
    let limit = Some(std::time::Duration::ZERO);
    let summary = Campaign { limit, ..campaign(5..12, 300) }.run(&|_| ()).unwrap();
    assert_eq!(summary.seeds, 1);
    // And of that only the first machine.
    let summary = Campaign { limit, ..campaign(5..12, 30_000) }.run(&|_| ()).unwrap();
    assert_eq!((summary.seeds, summary.machines), (1, 1));
}

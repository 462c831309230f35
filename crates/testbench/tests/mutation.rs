// SPDX-License-Identifier: MIT OR Apache-2.0
//! A driver with one step left out is caught by the oracle, under a random scenario.
#![cfg(feature = "mutation")]

mod common;

use smmuv3::Mutation;
use smmuv3_testbench::campaign::Campaign;
use smmuv3_testbench::run::{Choice, Options, run};
use smmuv3_testbench::scenario::{Capabilities, Scenario};

const SEEDS: std::ops::Range<u64> = 0..20;
const CAUGHT: usize = 19;

/// One in which the step is taken at all.
fn scenario(mutation: Option<Mutation>) -> Scenario {
    let text = match mutation {
        // Contexts in many leaves, each of which is linked once.
        Some(Mutation::NoLeafCfgi) => {
            PROCESSES.replace("pasids = 200", "pasids = 700").replace("5000", "1500")
        }
        Some(Mutation::TagBeforeTarget) => MOVES.to_owned(),
        Some(Mutation::WrongVmid | Mutation::Stage2ByAsid | Mutation::NoVmidFlush) => {
            GUESTS.to_owned()
        }
        Some(Mutation::El2AsEl1) => {
            let text =
                RANDOM.replace("10000", "1500").replace("asid-bits", "hyp = true\nasid-bits");
            text.replace("seed =", "world = \"el2-e2h\"\nseed =")
        }
        Some(Mutation::NoMerging) => NESTED.to_owned(),
        Some(Mutation::NoDirtyTlbi) => WRITTEN.to_owned(),
        Some(Mutation::NoAccessedTlbi) => ACCESSED.to_owned(),
        Some(Mutation::EarlyAnswer | Mutation::NoAskingLock) => ASKED.to_owned(),
        Some(Mutation::AbortKept) => KEPT.to_owned(),
        Some(Mutation::DefaultMair) => TYPES.to_owned(),
        Some(Mutation::NoForcedTypes) => FORCED.to_owned(),
        Some(Mutation::NoGbpaAttributes) => OFF.to_owned(),
        Some(Mutation::ShortStreams) => {
            RANDOM.replace("10000", "1500").replace("[0x900]", "[0x900, 0x901, 0x902, 0x903]")
        }
        // It is noticed only where a device writes between two steps of one call.
        Some(Mutation::DirtyBeforeUnmap) => WRITTEN.replace("2500", "6000"),
        Some(Mutation::NoStallEnd | Mutation::WrongStag) => STALLS.to_owned(),
        Some(Mutation::NoPageEnd | Mutation::NoResponsePasid) => PAGES.to_owned(),
        Some(Mutation::SyncElsewhere) => {
            RANDOM.replace("10000", "1500").replace("asid-bits", "ecmdq = 4\nasid-bits")
        }
        Some(Mutation::LateMessages) => {
            let messages = "msi = true\ninterrupts = \"msi\"\nasid-bits";
            RANDOM.replace("10000", "1500").replace("asid-bits", messages)
        }
        Some(Mutation::NoAtcInv | Mutation::AtcBeforeSync | Mutation::DeviceFirst) => {
            DEVICES.to_owned()
        }
        Some(Mutation::NoQuarantineReport) => {
            DEVICES.replace("steps = 1500", "steps = 1500, weights = { mute = 12 }")
        }
        Some(Mutation::SplitAsFull | Mutation::SplitKept) => INTERMEDIATE.to_owned(),
        Some(Mutation::AtsUnderTables) => ALWAYS.to_owned(),
        Some(Mutation::LateVmid) => FULL.to_owned(),
        Some(Mutation::NoWakeFlush | Mutation::SleepWhileOn) => RANDOM.replace(NO_WEIGHTS, NAPS),
        Some(Mutation::KeepHint | Mutation::PartOfGroup) => GROUPS.to_owned(),
        Some(Mutation::NoNt) => BLOCKS.to_owned(),
        Some(Mutation::NoPublish) => {
            RANDOM.replace("10000", "1500").replace("asid-bits", "coherent = false\nasid-bits")
        }
        Some(Mutation::NoRepeat) => {
            let twice = "repeated-invalidation = true\nasid-bits";
            RANDOM.replace("10000", "1500").replace("asid-bits", twice)
        }
        Some(Mutation::OldCount) => {
            RANDOM.replace("10000", "500").replace("asid-bits", "counters = 4\nasid-bits")
        }
        Some(Mutation::ShortSpan) => {
            let text =
                RANDOM.replace("10000", "500").replace("[0x900]", "[0x900, 0x901, 0x902, 0x903]");
            text.replace("asid-bits", "counters = 40\nasid-bits")
        }
        Some(Mutation::ReuseLiveTag | Mutation::NoAdoptedEnd | Mutation::NoAdoptedFlush) => {
            KERNELS.to_owned()
        }
        _ => RANDOM.replace("10000", "1500"),
    };
    Scenario::parse(&text, "random").unwrap_or_else(|errors| panic!("{errors}"))
}

const RANDOM: &str = include_str!("../../../scenarios/random.toml");

/// Each domain that a master of the wide instance was first to use changes its ASID when the other joins.
const MOVES: &str = r#"
name = "moves"
asid-policy = "shared-min-move"
instance = [{ name = "narrow", asid-bits = 8 }, { name = "wide" }]
master = [
    { name = "nic", instance = "narrow", streams = [0x900] },
    { name = "gpu", instance = "wide", streams = [0x1100] },
]
domain = [{ name = "first" }, { name = "second" }]
[[step]]
random = { steps = 8000, pages = 16, weights = { attach = 32, detach = 24, read = 10, write = 10 } }
"#;

/// Domains of stage 2, which give their VMIDs back and get others.
const GUESTS: &str = r#"
name = "guests"
instance = [{ name = "smmu0", asid-bits = 8 }, { name = "smmu1" }]
master = [
    { name = "nic", instance = "smmu0", streams = [0x900] },
    { name = "gpu", instance = "smmu1", streams = [0x1100] },
]
domain = [{ name = "first", stage = 2 }, { name = "second", stage = 2 }, { name = "host" }]
[[step]]
random = { steps = 1500, pages = 16 }
"#;

/// Guests, of whose devices much is refused.
const NESTED: &str = r#"
name = "nested"
instance = [{ name = "smmu0" }]
master = [{ name = "nic", instance = "smmu0", streams = [0x900] }]
domain = [
    { name = "memory", stage = 2, input-bits = 40 },
    { name = "driver", over = "memory" },
    { name = "program", over = "memory" },
]
[[step]]
random = { steps = 500, pages = 16 }
"#;

/// Domains of which devices' writes are asked for.
const WRITTEN: &str = r#"
name = "written"
instance = [{ name = "smmu0", httu = 2 }]
master = [{ name = "nic", instance = "smmu0", streams = [0x900] }]
domain = [{ name = "first", dirty = true }, { name = "second", stage = 2, dirty = true }]
[[step]]
random = { steps = 2500, pages = 16, weights = { unmap = 24 } }
"#;

/// Domains of which devices' accesses are asked for.
const ACCESSED: &str = r#"
name = "accessed"
instance = [{ name = "smmu0", httu = 1 }]
master = [{ name = "nic", instance = "smmu0", streams = [0x900] }]
domain = [
    { name = "first", access-flags = true },
    { name = "second", stage = 2, access-flags = true },
]
[[step]]
random = { steps = 2500, pages = 16, weights = { unmap = 24 } }
"#;

/// A device that firmware left working.
const KEPT: &str = r#"
name = "kept"
instance = [{ name = "smmu0" }]
master = [
    { name = "display", instance = "smmu0", streams = [0x10], keep = "frames" },
    { name = "nic", instance = "smmu0", streams = [0x900] },
]
domain = [{ name = "first" }, { name = "second" }]
memory = [{ name = "frames", size = "64K", at = 0x884000000 }]
[[step]]
random = { steps = 500, pages = 16, weights = { command-error = 8 } }
"#;

/// Memory of all types.
const TYPES: &str = r#"
name = "types"
instance = [{ name = "smmu0" }]
master = [{ name = "nic", instance = "smmu0", streams = [0x900] }]
domain = [{ name = "first", all-attributes = true }, { name = "second", all-attributes = true }]
[[step]]
random = { steps = 2500, pages = 16 }
"#;

/// The same for guests whose types are their host's to say.
const FORCED: &str = r#"
name = "forced"
instance = [{ name = "smmu0" }]
master = [{ name = "nic", instance = "smmu0", streams = [0x900] }]
domain = [
    { name = "first", stage = 2, forced-types = true },
    { name = "second", stage = 2, forced-types = true },
]
[[step]]
random = { steps = 500, pages = 16 }
"#;

/// An SMMU that lets devices pass while it is off.
const OFF: &str = r#"
name = "off"
[[instance]]
name = "smmu0"
type-overrides = true
while-off = "bypass"
memory-override = "uncached"
[[master]]
name = "nic"
instance = "smmu0"
streams = [0x900]
[[domain]]
name = "first"
[[step]]
random = { steps = 500, pages = 16, weights = { power = 8, replug = 4 } }
"#;

/// An SMMU that is asked by several at once.
const ASKED: &str = r#"
name = "asked"
instance = [{ name = "smmu0", atos = true }]
master = [
    { name = "nic", instance = "smmu0", streams = [0x900] },
    { name = "gpu", instance = "smmu0", streams = [0x1100] },
]
domain = [{ name = "first" }, { name = "second" }]
[[step]]
random = { steps = 1500, pages = 16, weights = { translate = 40 } }
"#;

/// Devices that stall, and are detached while they wait.
const STALLS: &str = r#"
name = "stalls"
instance = [{ name = "smmu0", stalls = 8 }]
master = [
    { name = "accelerator", instance = "smmu0", streams = [0x40], stalls = true },
    { name = "other", instance = "smmu0", streams = [0x41, 0x42], stalls = true },
]
domain = [{ name = "first" }, { name = "second" }]
[[step]]
random = { steps = 1500, pages = 16, weights = { answer = 16, fault = 20, attach = 8, detach = 6 } }
"#;

/// Devices that ask for pages, with PASIDs, and are detached while they wait.
const PAGES: &str = r#"
name = "pages"
pasids = 4
instance = [{ name = "smmu0", ssid-bits = 6, ats = true, pri = true }]
master = [
    { name = "nic", instance = "smmu0", streams = [0x40], pasid-bits = 6, ats = true, pri = true, response-pasid = true },
    { name = "gpu", instance = "smmu0", streams = [0x41, 0x42], pasid-bits = 6, ats = true, pri = true },
]
domain = [{ name = "first" }, { name = "second" }]
[[step]]
random = { steps = 1500, pages = 16, weights = { ask = 24, grant = 12, attach = 8, detach = 6, attach-pasid = 10, detach-pasid = 6 } }
"#;

/// Devices that keep translations.
const DEVICES: &str = r#"
name = "devices"
pasids = 6
instance = [{ name = "narrow", asid-bits = 8, ats = true }, { name = "wide", ssid-bits = 6, ats = true }]
master = [
    { name = "nic", instance = "narrow", streams = [0x900], ats = true },
    { name = "gpu", instance = "wide", streams = [0x1100, 0x1108], pasid-bits = 6, ats = true },
]
domain = [{ name = "first" }, { name = "second" }]
[[step]]
random = { steps = 1500 }
"#;

/// Guests' devices that are given intermediate addresses.
const INTERMEDIATE: &str = r#"
name = "intermediate"
instance = [{ name = "narrow", asid-bits = 8, ats = true }, { name = "wide", ats = true }]
master = [
    { name = "nic", instance = "narrow", streams = [0x900], ats = "split" },
    { name = "gpu", instance = "wide", streams = [0x1100, 0x1108], ats = "split" },
]
domain = [
    { name = "memory", stage = 2 },
    { name = "driver", over = "memory" },
    { name = "program", over = "memory" },
    { name = "elsewhere", stage = 2 },
    { name = "stranger", over = "elsewhere" },
]
[[step]]
random = { steps = 1500, pages = 16, weights = { attach = 12 } }
"#;

/// Devices that reach memory by translated addresses alone, and go from identity to either stage and back.
const ALWAYS: &str = r#"
name = "always"
pasids = 4
asid-policy = "banked"
instance = [{ name = "narrow", asid-bits = 8, ssid-bits = 1, ats = true }, { name = "wide", ssid-bits = 6, ats = true }]
master = [
    { name = "nic", instance = "narrow", streams = [0x900], ats = "always" },
    { name = "gpu", instance = "wide", streams = [0x1100, 0x1108], pasid-bits = 6, ats = "always" },
]
domain = [{ name = "first" }, { name = "second", stage = 2 }, { name = "third", stage = 2 }]
[[step]]
random = { steps = 1500, pages = 16, weights = { attach = 12, identity = 12 } }
"#;

/// The same where the first bank is full, so that they come to another.
const FULL: &str = r#"
name = "full"
asid-policy = "banked"
banks = [1, 3]
instance = [{ name = "narrow", asid-bits = 8, ssid-bits = 10, two-level-contexts = true, ats = true }]
master = [
    { name = "filler", instance = "narrow", streams = [0x100], pasid-bits = 10 },
    { name = "expander", instance = "narrow", streams = [0x900, 0x901], ats = "always" },
    { name = "cache", instance = "narrow", streams = [0x1100], pasid-bits = 6, ats = "always" },
]
domain = [{ name = "full", count = 255 }, { name = "next", count = 99 }]
pasids = 255
[[step]]
attach = { master = "filler", domain = "full1", pasid = 1, count = 255 }
[[step]]
random = { steps = 600, pages = 16, weights = { identity = 24, attach = 30, detach-pasid = 0, hand-over = 0, replug = 0, power = 0, reset = 0 } }
"#;

/// Groups of pages that TLBs keep as one, and that unmaps cut.
const GROUPS: &str = r#"
name = "groups"
instance = [{ name = "smmu0", bbml = 1, asid-bits = 8 }, { name = "smmu1" }]
master = [
    { name = "nic", instance = "smmu0", streams = [0x900] },
    { name = "gpu", instance = "smmu1", streams = [0x1100] },
]
domain = [
    { name = "groups", contiguous = true },
    { name = "guest", stage = 2, contiguous = true, splitting = true },
]
[[step]]
random = { steps = 1500, pages = 256, longest = 64, weights = { attach = 8, stale = 24 } }
"#;

/// Blocks that unmaps cut, where they have to be marked first.
const BLOCKS: &str = r#"
name = "blocks"
instance = [{ name = "smmu0", bbml = 1 }]
master = [{ name = "nic", instance = "smmu0", streams = [0x900] }]
domain = [{ name = "blocks", splitting = true }]
[[step]]
random = { steps = 2500, pages = 2048, longest = 1024, weights = { map = 24, unmap = 16, read = 30, write = 30, detach = 1 } }
"#;

/// A part that bears no batch of 63 commands, and long ranges without range invalidation.
const BATCHES: &str = r#"
name = "batches"
instance = [{ name = "mmu-700", part = "mmu-700-r0p0", range-invalidation = false }]
master = [{ name = "nic", instance = "mmu-700", streams = [0x900] }]
domain = [{ name = "first" }]
[[step]]
random = { steps = 3500, pages = 128, longest = 64, weights = { map = 30, unmap = 30 } }
"#;

/// Parts with errata, of which one can take broadcasts, and one is asked for events.
const PARTS: &str = r#"
name = "parts"
instance = [
    { name = "mmu-s3", part = "mmu-s3", btm = true, ssid-bits = 6 },
    { name = "mmu-600", part = "mmu-600-r0p0", completion = "event" },
]
master = [
    { name = "gpu", instance = "mmu-s3", streams = [0x1100], pasid-bits = 6 },
    { name = "disk", instance = "mmu-600", streams = [0xa00] },
]
domain = [{ name = "first" }, { name = "second" }]
process = [{ name = "shell", asid = 0xffff }, { name = "editor", asid = 0xfffe }]
[[step]]
random = { steps = 1500, pages = 16, weights = { unmap = 20, stale = 24 } }
"#;

/// Ten thousand operations, and fewer, of which many suspend an instance or wake it.
const NO_WEIGHTS: &str = "steps = 10000, iova = 0xc0000000, pages = 1024 }";
const NAPS: &str =
    "steps = 4500, iova = 0xc0000000, pages = 64, weights = { power = 60, stale = 24 } }";

/// Kernels that take over from each other, on an SMMU with few tags.
const KERNELS: &str = r#"
name = "kernels"
instance = [{ name = "smmu0", asid-bits = 8 }]
master = [
    { name = "nic", instance = "smmu0", streams = [0x900] },
    { name = "disk", instance = "smmu0", streams = [0x910] },
    { name = "gpu", instance = "smmu0", streams = [0x1100] },
]
domain = [{ name = "first" }, { name = "second" }]
[[step]]
random = { steps = 4000, pages = 16, weights = { attach = 20, detach = 16, hand-over = 2 } }
"#;

const PROCESSES: &str = include_str!("../../../scenarios/random-processes.toml");

fn verdicts(scenario: &Scenario, mutation: Option<Mutation>) -> Vec<String> {
    SEEDS
        .map(|seed| {
            let options =
                Options { seed: Some(seed), mutation, no_shrink: true, ..Options::default() };
            run(scenario, &options, &mut |_| ()).unwrap().verdict
        })
        .collect()
}

#[test]
fn the_driver_itself_holds_all_rules_on_every_seed() {
    let others = [
        Mutation::El2AsEl1,
        Mutation::NoLeafCfgi,
        Mutation::TagBeforeTarget,
        Mutation::WrongVmid,
        Mutation::NoMerging,
        Mutation::NoDirtyTlbi,
        Mutation::NoAccessedTlbi,
        Mutation::AbortKept,
        Mutation::DefaultMair,
        Mutation::NoForcedTypes,
        Mutation::NoGbpaAttributes,
        Mutation::EarlyAnswer,
        Mutation::NoStallEnd,
        Mutation::NoPageEnd,
        Mutation::SplitAsFull,
        Mutation::AtsUnderTables,
        Mutation::LateVmid,
        Mutation::SyncElsewhere,
        Mutation::LateMessages,
        Mutation::NoQuarantineReport,
        Mutation::NoWakeFlush,
        Mutation::KeepHint,
        Mutation::NoNt,
        Mutation::NoPublish,
        Mutation::NoRepeat,
        Mutation::OldCount,
        Mutation::ShortSpan,
        Mutation::ShortStreams,
        Mutation::ReuseLiveTag,
    ];
    for mutation in [None].into_iter().chain(others.map(Some)) {
        let verdicts = verdicts(&scenario(mutation), None);
        assert!(verdicts.iter().all(|verdict| verdict == "ok"), "{verdicts:?}");
    }
}

#[test]
fn every_step_left_out_is_caught_on_nearly_every_seed() {
    for mutation in Mutation::ALL {
        let verdicts = verdicts(&scenario(Some(mutation)), Some(mutation));
        // A question whose answer was not waited for is still under way when the next one comes, which is refused: an error
        // that is wrong is a catch there.
        let by_error = mutation == Mutation::EarlyAnswer;
        let is_catch = |verdict: &&String| *verdict != "ok" && (by_error || *verdict != "driver");
        let caught = verdicts.iter().filter(is_catch).count();
        println!("{mutation:?}: {caught} of {}: {verdicts:?}", verdicts.len());
        assert!(caught >= CAUGHT, "{mutation:?} is caught on {caught} seeds only: {verdicts:?}");
    }
}

/// A driver that takes a part at its registers' word, although its IIDR says what is wrong with it.
#[test]
fn errata_that_are_not_heeded_are_noticed_on_nearly_every_seed() {
    for mutation in Mutation::OF_PARTS {
        let (text, rules): (_, &[&str]) = match mutation {
            // What was unmapped is reached, or read as a table after it was freed.
            Mutation::BroadcastsTaken => (PARTS, &["R1", "R3"]),
            Mutation::WholeBatches => (BATCHES, &["misuse"]),
            _ => (PARTS, &["misuse"]),
        };
        let scenario = Scenario::parse(text, "parts").unwrap_or_else(|errors| panic!("{errors}"));
        let clean = verdicts(&scenario, None);
        assert!(clean.iter().all(|verdict| verdict == "ok"), "{clean:?}");
        let verdicts = verdicts(&scenario, Some(mutation));
        let caught = verdicts.iter().filter(|verdict| rules.contains(&verdict.as_str())).count();
        println!("{mutation:?}: {caught} of {}: {verdicts:?}", verdicts.len());
        assert!(caught >= CAUGHT, "{mutation:?} is caught on {caught} seeds only: {verdicts:?}");
    }
}

/// A guest's device that is refused the same again and again is told of once at a time.
#[test]
fn a_guests_events_that_are_not_merged_are_noticed_on_nearly_every_seed() {
    let mutation = Some(Mutation::NoMerging);
    let verdicts = verdicts(&scenario(mutation), mutation);
    let caught = verdicts.iter().filter(|verdict| *verdict == "R9").count();
    assert!(caught >= CAUGHT, "{caught} seeds only: {verdicts:?}");
}

/// Nothing is in reach that should not be, but what the driver says that happened did not.
#[test]
fn every_wrong_number_is_noticed_on_nearly_every_seed() {
    for mutation in Mutation::OF_NUMBERS {
        let scenario = scenario(Some(mutation));
        let reports = SEEDS.map(|seed| {
            let options = Options {
                seed: Some(seed),
                mutation: Some(mutation),
                no_shrink: true,
                ..Options::default()
            };
            run(&scenario, &options, &mut |_| ()).unwrap()
        });
        let texts = reports.map(|it| it.failure.map(|it| it.text).unwrap_or_default());
        let texts: Vec<String> = texts.collect();
        let says = |it: &&String| it.contains("the driver says") || it.contains("its counter says");
        let caught = texts.iter().filter(says).count();
        println!("{mutation:?}: {caught} of {}: {:?}", texts.len(), texts.first());
        assert!(caught >= CAUGHT, "{mutation:?} is noticed on {caught} seeds only: {texts:?}");
    }
}

/// Too few random scenarios change tags often, suspend just while somebody unmaps, cut blocks that have to be marked, ask
/// twice for the accesses to a page, or have a bank that is full; see `MOVES`, `NAPS`, `BLOCKS`, `ACCESSED`, `FULL` and
/// tests/every_step.rs.
const RARE: [Mutation; 6] = [
    Mutation::TagBeforeTarget,
    Mutation::SleepWhileOn,
    Mutation::NoNt,
    Mutation::DirtyBeforeUnmap,
    Mutation::NoAccessedTlbi,
    Mutation::LateVmid,
];

/// What the README says of how many there are.
#[test]
fn the_readme_counts_the_steps_that_can_be_left_out() {
    let page = include_str!("../../../README.md");
    let page: Vec<&str> = page.split_whitespace().collect();
    let page = page.join(" ");
    let (numbers, parts) = (Mutation::OF_NUMBERS.len(), Mutation::OF_PARTS.len());
    let guests = [
        &Mutation::OF_GUESTS[..],
        &Mutation::OF_GUESTS_PASIDS,
        &Mutation::OF_HOSTILE_GUESTS,
        &Mutation::OF_GUESTS_STALLS,
        &Mutation::OF_GUESTS_PAGES,
    ];
    let guests: usize = guests.iter().map(|some| some.len()).sum();
    let (all, rare) = (Mutation::ALL.len(), RARE.len());
    for words in [
        format!("And {} steps of the driver can be left out", all + numbers + parts + guests),
        format!("For {} of them a campaign must also leave a file", all - rare),
        format!("Not so for {}: {numbers} only make", rare + numbers + parts + guests),
        format!(
            "counts wrong, {parts} take a part with an erratum and {guests} a guest to be noticed"
        ),
        format!("and {rare} are in the change"),
    ] {
        assert!(page.contains(&words), "the README does not say: {words}");
    }
}

/// The file of each is read by `smmuv3 run`: it breaks the same rule with the same driver, and none with the
/// real one.
#[test]
fn what_breaks_a_rule_is_written_as_a_short_scenario_that_breaks_it_again() {
    let mut rules = Vec::new();
    let mutations = Mutation::ALL.into_iter().filter(|it| !RARE.contains(it));
    for mutation in mutations {
        let broken = Options { mutation: Some(mutation), ..Options::default() };
        let campaign = Campaign {
            seeds: 0..500,
            steps: 500,
            jobs: 1,
            limit: None,
            keep_going: false,
            options: broken.clone(),
        };
        let summary = campaign.run(&|_| ()).unwrap();
        let [finding] = &summary.findings[..] else {
            panic!("{mutation:?} was not caught once: {summary:#?}")
        };
        println!(
            "{mutation:?}: {} on seed {}, {} of {} operations, replays: {}",
            finding.rule,
            finding.seed,
            finding.trace.len(),
            finding.operations,
            finding.replays
        );
        assert!(finding.replays, "{mutation:?}: {finding:#?}\n{}", finding.toml);
        let scenario = Scenario::parse(&finding.toml, "finding").unwrap();
        scenario.check_for(&Capabilities::model()).unwrap();
        assert_eq!(scenario.steps.len(), finding.trace.len());
        assert!((1..=16).contains(&scenario.steps.len()), "{mutation:?}: {}", finding.toml);
        let again = run(&scenario, &broken, &mut |_| ()).unwrap();
        assert_eq!(again.verdict, finding.rule, "{mutation:?}: {}", finding.toml);
        let clean = run(&scenario, &Options::default(), &mut |_| ()).unwrap();
        assert_eq!(clean.verdict, "ok", "{mutation:?}: {:#?}", clean.failure);
        rules.push(finding.rule.clone());
        // Not made shorter, the same machine breaks the same rule, and is told of at once.
        let options = Options { no_shrink: true, ..broken };
        let (seeds, number) = (finding.seed..finding.seed + 1, finding.operations);
        let summary = Campaign { seeds, options, ..campaign }.run(&|_| ()).unwrap();
        let [long] = &summary.findings[..] else { panic!("{mutation:?}: {summary:#?}") };
        assert_eq!((&long.rule, long.operations, long.replays), (&finding.rule, number, true));
        assert!(long.trace.len() <= 16, "{mutation:?}: {long:#?}");
    }
    rules.sort_unstable();
    rules.dedup();
    assert!(rules.len() >= 3, "{rules:?}");
}

/// A device that firmware left working is kept from it for a moment: that shows on QEMU, too.
#[test]
fn qemu_alone_catches_what_keeps_a_device_from_what_firmware_left_it() {
    let Some(path) = common::qemu_or_skip() else { return };
    let text = KEPT.replace("[0x10]", "[0x100]").replace("0x884000000", "0x44000000");
    let text = text.replace(", weights = { command-error = 8 }", "");
    let scenario = Scenario::parse(&text, "kept").unwrap_or_else(|errors| panic!("{errors}"));
    let verdict = |mutation| {
        let machine = Choice::Qemu(Some(path.clone()));
        let options = Options { machine, mutation, no_shrink: true, ..Options::default() };
        run(&scenario, &options, &mut |_| ()).unwrap().verdict
    };
    assert_eq!((&*verdict(None), &*verdict(Some(Mutation::AbortKept))), ("ok", "R0"));
}

/// Without the model's eyes: only what devices reach, and the events that come.
#[test]
fn qemu_alone_catches_what_lets_devices_reach_old_memory() {
    let Some(path) = common::qemu_or_skip() else {
        return;
    };
    // A narrow window: what was unmapped is soon tried again.
    let text = include_str!("../../../scenarios/random-short.toml").replace("= 1024", "= 16");
    let scenario =
        Scenario::parse(&text, "random-short.toml").unwrap_or_else(|errors| panic!("{errors}"));
    // CFGI before the store goes unnoticed there: QEMU does not read an entry again by itself.
    for mutation in
        [Mutation::NoCfgi, Mutation::NoTlbi, Mutation::WrongAsid, Mutation::OneInstanceOnly]
    {
        let verdicts: Vec<String> = (1..9)
            .map(|seed| {
                let options = Options {
                    machine: Choice::Qemu(Some(path.clone())),
                    seed: Some(seed),
                    mutation: Some(mutation),
                    ..Options::default()
                };
                run(&scenario, &options, &mut |_| ()).unwrap().verdict
            })
            .collect();
        println!("{mutation:?} on QEMU: {verdicts:?}");
        assert!(
            verdicts.iter().any(|verdict| verdict.starts_with('R')),
            "{mutation:?}: {verdicts:?}"
        );
    }
}

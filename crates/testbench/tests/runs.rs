// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whole runs: the shipped scenarios hold all rules on the model and on QEMU, and both machines agree.

mod common;

use std::sync::Arc;

use smmuv3_model::Model;
use smmuv3_testbench::bench::{Bench, Settings};
use smmuv3_testbench::caches::SmmuMemory;
use smmuv3_testbench::lock::Guard;
use smmuv3_testbench::machine::{Dma, Machine, MachineError, Part, Translations};
use smmuv3_testbench::machine_model::ModelMachine;
use smmuv3_testbench::operation::{Operation, Source};
use smmuv3_testbench::oracle::Use;
use smmuv3_testbench::qemu::{self, deviation};
use smmuv3_testbench::ram::Ram;
use smmuv3_testbench::report::Report;
use smmuv3_testbench::run::{Choice, Options, run, run_on_machine as run_with};
use smmuv3_testbench::scenario::{MemoryKind, Rights, Scenario, Substream};

fn scenario(name: &str) -> Scenario {
    let path = format!("{}/../../scenarios/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    Scenario::parse(&text, &path).unwrap_or_else(|errors| panic!("{errors}"))
}

fn run_on(machine: Choice, scenario: &Scenario, seed: u64) -> Report {
    let options = Options { machine, seed: Some(seed), ..Options::default() };
    run(scenario, &options, &mut |_| ()).unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn assert_ok(report: &Report) {
    assert!(report.is_ok(), "seed {}: {:#?}", report.seed, report.failure);
}

#[track_caller]
fn assert_covers(report: &Report) {
    let coverage = report.coverage.as_ref().unwrap_or_else(|| panic!("no random step"));
    println!("{} seed {}: {coverage:?}", report.machine, report.seed);
    assert!(coverage.tlb_hits.is_none_or(|share| share >= 5.0), "{coverage:?}");
    assert!(coverage.faults >= 5.0 && coverage.stale_attempts >= 5.0, "{coverage:?}");
}

#[test]
fn two_unlike_instances_hold_all_rules_on_the_model() {
    let scenario = scenario("two-instances");
    for seed in 0..8 {
        assert_ok(&run_on(Choice::Model, &scenario, seed));
    }
}

/// Each tells the story of a policy, or of processes, and its expectations are part of it.
#[test]
fn every_scenario_comes_out_as_it_says() {
    let folder = format!("{}/../../scenarios", env!("CARGO_MANIFEST_DIR"));
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .filter(|name| name != "random")
        .collect();
    names.sort();
    assert!(names.len() > 8, "{names:?}");
    for name in names {
        assert_ok(&run_on(Choice::Model, &scenario(&name), 1));
    }
}

#[test]
fn ten_thousand_random_steps_hold_all_rules_on_twenty_seeds() {
    let scenario = scenario("random");
    for seed in 0..20 {
        let report = run_on(Choice::Model, &scenario, seed);
        assert_ok(&report);
        assert_covers(&report);
    }
}

#[test]
fn instances_of_every_shape_hold_all_rules() {
    let text = include_str!("../../../scenarios/random.toml").replace("10000", "1000");
    for (index, shape) in [
        "range-invalidation = false",
        "coherent = false",
        "stages = [1]",
        "oas = 32",
        "oas = 48",
        "event-queue = 2",
        "command-queue = 1",
        "sid-bits = 13",
        "ssid-bits = 8",
        "msi = true",
        "streams = [0xa00, 0xa01, 0x7]",
        "stream-table = \"two-level\"",
        "stream-table = \"two-level\"\ncoherent = false",
        "stream-table = \"two-level\"\nsid-bits = 12",
        "stream-table = \"two-level\"\nsid-bits = 20",
    ]
    .into_iter()
    .enumerate()
    {
        let keys = || shape.lines().filter_map(|line| line.split(' ').next());
        let streams = keys().any(|key| key == "streams");
        let changed: String = text
            .lines()
            .filter(|line| streams || !keys().any(|key| line.starts_with(key)))
            .map(|line| match line {
                "asid-bits = 8" if !streams => format!("{line}\n{shape}\n"),
                "streams = [0xa00]" if streams => format!("{shape}\n"),
                line => format!("{line}\n"),
            })
            .collect();
        let scenario = Scenario::parse(&changed, shape).unwrap_or_else(|errors| panic!("{errors}"));
        for seed in 0..3 {
            let report = run_on(Choice::Model, &scenario, seed + 100 * index as u64);
            assert!(report.is_ok(), "{shape}, seed {seed}: {:#?}", report.failure);
        }
    }
}

/// The last stream there can be, two that share a leaf, and one that has its own.
#[test]
fn streams_of_32_bits_hold_all_rules() {
    let text = include_str!("../../../scenarios/random-short.toml")
        .replace("stream-table = \"linear\"\n", "sid-bits = 32\n")
        .replace("stream-table = \"two-level\"\n", "sid-bits = 32\n")
        .replace("[0x900]", "[0xffffffff]")
        .replace("[0xa00]", "[0x7fffffff, 0x80000000]")
        .replace("[0x1200]", "[0x1101]")
        .replace("steps = 500", "steps = 200");
    let scenario = Scenario::parse(&text, "wide").unwrap_or_else(|errors| panic!("{errors}"));
    assert_ok(&run_on(Choice::Model, &scenario, 1));
}

#[test]
fn one_instance_holds_all_rules_on_any_machine() {
    let scenario = scenario("one-instance");
    assert_ok(&run_on(Choice::Model, &scenario, 1));
    let Some(path) = common::any_qemu_or_skip() else {
        return;
    };
    let report = run_on(Choice::Qemu(Some(path)), &scenario, 1);
    assert_ok(&report);
    assert_covers(&report);
}

/// Whoever had the SMMUs before left them running, with everything cached: the driver starts from nothing.
#[test]
fn an_smmu_that_was_in_use_is_taken_over_with_nothing_left_in_its_caches() {
    let scenario = scenario("random-short");
    for seed in 0..4 {
        let machine = Arc::new(ModelMachine::new(&scenario, seed).unwrap());
        let quiet = Settings::default();
        let before = Bench::new(&scenario, machine.clone(), seed, quiet).unwrap();
        for (master, domain) in [(0, 0), (1, 1), (2, 2), (3, 0)] {
            let (iova, bytes) = (0xc000_0000, 0x4000);
            let source = Source::Pool(0x10_0000 * master as u64);
            let kind = MemoryKind::Normal;
            let map = Operation::Map {
                space: domain,
                iova,
                bytes,
                source,
                write: true,
                kind,
                rights: Rights::Data,
            };
            before.perform(&map).unwrap();
            before.perform(&Operation::attach(master, Use::Domain(domain))).unwrap();
            for page in 0..4 {
                let iova = iova + 0x1000 * page;
                before
                    .perform(&Operation::Read {
                        master,
                        substream: Substream::None,
                        iova,
                        bytes: 4,
                        instruction: false,
                    })
                    .unwrap();
            }
        }
        assert_eq!(before.oracle(|oracle| oracle.violation().cloned()), None);
        before.world().set_observer(None);

        // The same machine, all of its memory given out anew.
        let report = run_with(&scenario, machine, seed).unwrap();
        assert_ok(&report);
    }
}

/// Who is interrupted cannot tell what will be refused; the rules can.
#[test]
fn an_interrupted_step_needs_no_expectation() {
    let text = |interrupt: &str| {
        format!(
            r#"
name = "interrupted"
instance = [{{ name = "smmu0" }}]
master = [{{ name = "nic", instance = "smmu0", streams = [0x900] }}]
domain = [{{ name = "net" }}]
memory = [{{ name = "rx", size = "4K" }}]
step = [
    {{ attach = {{ master = "nic", domain = "net" }} }},
    {{ {interrupt} read = {{ master = "nic", iova = 0x10000, length = 4 }} }},
]
"#
        )
    };
    let verdict = |interrupt| {
        let scenario = Scenario::parse(&text(interrupt), "x").unwrap_or_else(|it| panic!("{it}"));
        run_on(Choice::Model, &scenario, 1).verdict
    };
    assert_eq!([verdict(""), verdict("interrupt = 3,")], ["expectation", "ok"]);
}

/// The model, until a device uses an address of a domain.
struct Panicking(ModelMachine);

impl Machine for Panicking {
    fn name(&self) -> String {
        self.0.name()
    }
    fn ram(&self) -> &Ram {
        self.0.ram()
    }
    fn read32(&self, instance: usize, offset: u32) -> u32 {
        self.0.read32(instance, offset)
    }
    fn write32(&self, instance: usize, offset: u32, value: u32) {
        self.0.write32(instance, offset, value);
    }
    fn write64(&self, instance: usize, offset: u32, value: u64) {
        self.0.write64(instance, offset, value);
    }
    fn act(&self) {
        self.0.act();
    }
    fn wait(&self) {
        self.0.wait();
    }
    fn dma(
        &self,
        master: usize,
        substream: Option<u32>,
        iova: u64,
        transfer: Dma<'_>,
    ) -> Result<Vec<Part>, MachineError> {
        // What devices do before their masters are added, they do at memory's own addresses.
        assert!(self.ram().read64(iova).is_some(), "no device {master} for {iova:#x}");
        self.0.dma(master, substream, iova, transfer)
    }
    fn model(&self, instance: usize) -> Option<Guard<'_, Model<SmmuMemory>>> {
        self.0.model(instance)
    }
    fn translations(&self) -> Option<Translations> {
        self.0.translations()
    }
    fn health(&self) -> Result<(), MachineError> {
        self.0.health()
    }
}

#[test]
fn a_panic_is_a_verdict_with_its_place() {
    let scenario = scenario("two-instances");
    let machine = Arc::new(Panicking(ModelMachine::new(&scenario, 1).unwrap()));
    let report = run_with(&scenario, machine, 1).unwrap();
    let failure = report.failure.unwrap();
    assert_eq!((&*report.verdict, &*failure.rule), ("panic", "panic"));
    assert!(failure.text.contains("no device 0 for 0x10000"), "{}", failure.text);
    assert!(failure.text.contains("runs.rs"), "{}", failure.text);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let scenario = scenario("two-instances");
    let [first, second] = [0; 2].map(|_| run_on(Choice::Model, &scenario, 7));
    let json = |report: &Report| serde_json::to_string(report).unwrap_or_default();
    assert_eq!(json(&first), json(&second));
}

/// The same operations, the same data, the same faults by {step, stream, page, type, read or write}.
#[test]
fn model_and_qemu_agree() {
    let Some(path) = common::qemu_or_skip() else { return };
    let version = qemu::version(&path).unwrap();
    // Without duplicates all events are equal; as they came they are not.
    let events = |report: &Report| report.statistics.iter().map(|it| it.events).sum::<u64>();
    for name in ["two-instances", "random-short"] {
        let scenario = scenario(name);
        for seed in [1, 2] {
            let model = Options { undisturbed: true, seed: Some(seed), ..Options::default() };
            let model =
                run(&scenario, &model, &mut |_| ()).unwrap_or_else(|error| panic!("{error}"));
            let qemu = run_on(Choice::Qemu(Some(path.clone())), &scenario, seed);
            assert_ok(&model);
            assert_ok(&qemu);
            assert_covers(&qemu);
            assert_eq!(model.faults, qemu.faults, "{name}, seed {seed}");
            let more = events(&qemu) > events(&model);
            assert_eq!(more, deviation::EVENT_A_WORD.holds(version), "{name}, seed {seed}");
            assert_eq!(model.dma, qemu.dma, "{name}, seed {seed}");
            assert_eq!(model.random_faults, qemu.random_faults, "{name}, seed {seed}");
            assert_eq!(model.data, qemu.data, "{name}, seed {seed}");
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! A sequence of steps is run on many seeds, with and without its mistake, and the rules that break are counted.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use smmuv3_testbench::machine_model::ModelMachine;
use smmuv3_testbench::oracle::{Rule, Violation};
use smmuv3_testbench::platform::{Observer, Point, World};
use smmuv3_testbench::scenario::Scenario;
use smmuv3_testbench::watch::Watch;

use crate::driver::{Hand, INSTANCES, Layout};

const SEEDS: Range<u64> = 0..32;
/// Seeds of [`SEEDS`] on which a mistake must be caught: a device may happen to keep nothing when it matters.
const CAUGHT: usize = 31;

/// Accesses of devices, of whichever master, at every moment.
const ACCESSES: usize = 4;

/// The machine: an instance with 8-bit ASIDs, one with 16-bit ASIDs, and a master behind each.
const MACHINE: &str = r#"
name = "by hand"
instance = [
    { name = "narrow", asid-bits = 8, stalls = 16 },
    { name = "wide", asid-bits = 16, stalls = 16 },
]
master = [
    { name = "first", instance = "narrow", streams = [5] },
    { name = "second", instance = "wide", streams = [9] },
]
"#;

/// As [`MACHINE`], with devices that keep translations and ask for pages.
const DEVICES: &str = r#"
name = "by hand"
instance = [
    { name = "narrow", asid-bits = 8, ats = true, pri = true, ecmdq = 1 },
    { name = "wide", asid-bits = 16, ats = true, pri = true, ecmdq = 1 },
]
master = [
    { name = "first", instance = "narrow", streams = [5], ats = true, pri = true },
    { name = "second", instance = "wide", streams = [9], ats = true, pri = true },
]
"#;

/// As [`DEVICES`], of a guest that is given intermediate addresses.
const SPLIT: &str = r#"
name = "by hand"
instance = [
    { name = "narrow", asid-bits = 8, ats = true, pri = true },
    { name = "wide", asid-bits = 16, ats = true, pri = true },
]
master = [
    { name = "first", instance = "narrow", streams = [5], ats = "split", pri = true },
    { name = "second", instance = "wide", streams = [9], ats = "split", pri = true },
]
"#;

/// What tells that a rule is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judge {
    /// The caches of the model are looked into when a call has returned.
    Inspection,
    /// Only what devices reach, what the model observes, and what is freed.
    Devices,
}

/// Who looks on while the hand works: hardware acts and devices access memory at every moment.
pub struct Eyes {
    world: Weak<World>,
    watch: Mutex<Watch>,
}

impl Eyes {
    pub fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Eyes {
    fn at(&self, point: Point, _interruptible: bool) {
        let Some(world) = self.world.upgrade() else { return };
        let mut watch = self.watch();
        watch.at(&world, point);
        for _ in 0..ACCESSES {
            watch.interrupt_by_access(&world);
        }
    }
}

/// Runs `sequence` on every seed and by either judge. Without a mistake no rule may break. With the mistake
/// made for one instance, nearly every seed must break a rule, and only one of `inspected` or `suffered`,
/// depending on the judge.
pub fn judge(inspected: &[Rule], suffered: &[Rule], sequence: impl Fn(&mut Hand)) {
    judge_with(Layout::Stage1, inspected, suffered, sequence);
}

/// As [`judge`], with tables of another kind.
pub fn judge_with(
    layout: Layout,
    inspected: &[Rule],
    suffered: &[Rule],
    sequence: impl Fn(&mut Hand),
) {
    judge_on(layout, &|machine| machine, inspected, suffered, sequence);
}

/// As [`judge_with`], on a machine that is changed first.
pub fn judge_on(
    layout: Layout,
    change: &dyn Fn(String) -> String,
    inspected: &[Rule],
    suffered: &[Rule],
    sequence: impl Fn(&mut Hand),
) {
    let run = |seed, judge, mistake| run(seed, judge, layout, change, mistake, &sequence);
    for (judge, rules) in [(Judge::Inspection, inspected), (Judge::Devices, suffered)] {
        for seed in SEEDS {
            let verdict = run(seed, judge, None);
            assert_eq!(verdict, None, "{layout:?}, {judge:?}, seed {seed}: the right steps");
        }
        for instance in INSTANCES {
            let mut caught = 0;
            for seed in SEEDS {
                let verdict = run(seed, judge, Some(instance));
                let right = verdict.as_ref().is_none_or(|verdict| rules.contains(&verdict.rule));
                assert!(
                    right,
                    "{layout:?}, {judge:?}, instance {instance}, seed {seed}: {verdict:?}"
                );
                caught += usize::from(verdict.is_some());
            }
            assert!(
                caught >= CAUGHT,
                "{layout:?}, {judge:?}, instance {instance}: {caught} seeds only"
            );
        }
    }
}

/// `machine`, with `what` said of its instances.
pub fn with(machine: String, what: &str) -> String {
    machine.replace(", asid-bits", &format!(", {what}, asid-bits"))
}

fn run(
    seed: u64,
    judge: Judge,
    layout: Layout,
    change: &dyn Fn(String) -> String,
    mistake: Option<usize>,
    sequence: &impl Fn(&mut Hand),
) -> Option<Violation> {
    let machine = match layout {
        Layout::Devices => DEVICES.to_owned(),
        Layout::Split => SPLIT.to_owned(),
        Layout::Dirty => with(MACHINE.to_owned(), "httu = 2"),
        Layout::Incoherent => with(MACHINE.to_owned(), "coherent = false"),
        Layout::El2 => MACHINE.replace("stalls = 16", "hyp = true"),
        _ => MACHINE.to_owned(),
    };
    let machine = change(machine);
    let scenario = Scenario::parse(&machine, "by hand").unwrap_or_else(|errors| panic!("{errors}"));
    let machine = ModelMachine::new(&scenario, seed).expect("there is memory");
    let world = World::new(Arc::new(machine), INSTANCES.len());
    let watch = Mutex::new(Watch::new(INSTANCES.len(), seed));
    let eyes = Arc::new(Eyes { world: Arc::downgrade(&world), watch });
    world.set_observer(Some(eyes.clone()));
    let mut hand = Hand::new(world, eyes, judge, layout, mistake);
    sequence(&mut hand);
    hand.devices();
    hand.end();
    hand.verdict()
}

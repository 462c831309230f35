// SPDX-License-Identifier: MIT OR Apache-2.0
//! Running a scenario: its steps one by one, on a machine, with a report at the end.

mod end;
mod expect;
mod random;
mod record;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use crate::bench::{Bench, BenchError, Done, Settings};
use crate::machine::{Machine, MachineError};
use crate::machine_model::ModelMachine;
use crate::machine_qemu::QemuMachine;
use crate::operation::Operation;
use crate::panics;
use crate::qemu::{self, QemuError};
use crate::report;
use crate::scenario::{Action, Capabilities, Scenario, ScenarioErrors, Substream};
use crate::shrink::{self, Budget};
use crate::trace::{Trace, Tracer};

/// On what a scenario runs.
#[derive(Clone, Debug, Default)]
pub enum Choice {
    /// The embedded model.
    #[default]
    Model,
    /// QEMU: this program, or whichever is found.
    Qemu(Option<PathBuf>),
}

/// How to run a scenario.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The machine.
    pub machine: Choice,
    /// Instead of the scenario's seed.
    pub seed: Option<u64>,
    /// A step that the driver leaves out.
    #[cfg(feature = "mutation")]
    pub mutation: Option<smmuv3::Mutation>,
    /// Random steps are as on machines other than the model: nothing interrupts the driver, and nothing is mapped for
    /// privileged accesses only.
    pub undisturbed: bool,
    /// Do not look for the shortest trace of a failure.
    pub no_shrink: bool,
    /// Where to trace what happens in time. The caller [finishes](Tracer::finish) it.
    pub tracer: Option<Tracer>,
}

/// How far a run is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A step of the scenario begins.
    Step {
        /// Its number, from 1.
        number: usize,
        /// How many there are.
        of: usize,
    },
    /// A random step is on its way.
    Random {
        /// Operations done.
        done: u64,
        /// Operations in all.
        of: u64,
    },
    /// A failure is being shrunk.
    Shrinking {
        /// Operations left.
        left: usize,
    },
}

/// Why a scenario could not be run. A broken rule is in the report instead.
#[derive(Debug, Error)]
pub enum RunError {
    /// The scenario needs what the machine lacks.
    #[error(transparent)]
    Scenario(#[from] ScenarioErrors),
    /// The set-up failed.
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// QEMU cannot be used.
    #[error(transparent)]
    Qemu(#[from] QemuError),
    /// The machine cannot be used.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The driver or the model panicked while it was set up.
    #[error("panic during the set-up: {0}")]
    Panic(String),
}

impl RunError {
    /// What it is called where it is something that a run was to find: the driver did not do what it should.
    pub(crate) fn rule(&self) -> Option<&'static str> {
        match self {
            Self::Bench(BenchError::Driver { .. }) => Some(DRIVER),
            Self::Panic(_) => Some(PANIC),
            _ => None,
        }
    }
}

/// What is broken when it is none of the rules: see [`report::Report::verdict`].
const EXPECTATION: &str = "expectation";
const DRIVER: &str = "driver";
const PANIC: &str = "panic";

/// Runs `scenario`, telling `progress` how far it is.
///
/// # Errors
/// [`RunError`] when there is nothing to report: the input or the machine cannot be used.
pub fn run(
    scenario: &Scenario,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<report::Report, RunError> {
    let (mut report, operations) = attempt(scenario, options, None, progress)?;
    if !options.no_shrink
        && matches!(options.machine, Choice::Model)
        && let Some(failure) = report.failure.as_mut().filter(|it| it.rule != EXPECTATION)
    {
        let rule = failure.rule.clone();
        let mut budget = Budget::default();
        let shortest = shrink::shortest(operations, &mut |candidate| {
            progress(Progress::Shrinking { left: candidate.len() });
            budget.spend(candidate.len())
                && breaks(scenario, options, candidate).as_deref() == Some(&*rule)
        });
        failure.trace = describe(scenario, &shortest);
    }
    Ok(report)
}

/// An operation with its number: where interruptions of it start, and whether there are any.
pub(crate) type Numbered = (u64, Operation);

/// Runs `scenario` once; also returns the operations that its steps did. Given `operations`, does these instead.
pub(crate) fn attempt(
    scenario: &Scenario,
    options: &Options,
    operations: Option<&[Numbered]>,
    progress: &mut dyn FnMut(Progress),
) -> Result<(report::Report, Vec<Numbered>), RunError> {
    let seed = options.seed.unwrap_or(scenario.seed);
    let machine = build(scenario, &options.machine, seed)?;
    // What is done again was traced the first time.
    let tracer = options.tracer.clone().filter(|_| operations.is_none());
    let settings = Settings { tracer, ..settings(options) };
    let mut run = panics::catch(|| Run::new(scenario, machine.clone(), seed, settings))
        .map_err(RunError::Panic)??;
    run.interfere &= !options.undisturbed;
    let failed = run.guarded(|run| match operations {
        Some(operations) => run.again(operations),
        None => run.steps(progress),
    })?;
    let crashed = run.bench.is_successor() || scenario.kept().next().is_some();
    let done = run.finish(failed)?;
    if done.0.failure.is_some() || crashed {
        // Instances that were never removed keep their memory for good, and so do kernels that crashed, and
        // firmware.
        machine.discard();
    }
    Ok(done)
}

/// The rule that `operations` break on a fresh model.
pub(crate) fn breaks(
    scenario: &Scenario,
    options: &Options,
    operations: &[Numbered],
) -> Option<String> {
    match attempt(scenario, options, Some(operations), &mut |_| ()) {
        Ok((report, _)) => report.failure.map(|failure| failure.rule),
        Err(error) => error.rule().map(str::to_owned),
    }
}

/// Operations in words.
pub(crate) fn describe(scenario: &Scenario, operations: &[Numbered]) -> Vec<String> {
    operations.iter().map(|(_, operation)| operation.describe(scenario).to_string()).collect()
}

/// Runs `scenario` on a machine of the caller's making, whatever was done on it before.
///
/// # Errors
/// [`BenchError`].
pub fn run_on_machine(
    scenario: &Scenario,
    machine: Arc<dyn Machine>,
    seed: u64,
) -> Result<report::Report, RunError> {
    let mut run = Run::new(scenario, machine, seed, Settings::default())?;
    let failed = run.guarded(|run| run.steps(&mut |_| ()))?;
    Ok(run.finish(failed)?.0)
}

fn settings(options: &Options) -> Settings {
    #[cfg(not(feature = "mutation"))]
    let _ = options;
    Settings {
        interfering: false,
        #[cfg(feature = "mutation")]
        mutation: options.mutation,
        tracer: None,
    }
}

/// The machine for `scenario`.
fn build(scenario: &Scenario, choice: &Choice, seed: u64) -> Result<Arc<dyn Machine>, RunError> {
    match choice {
        Choice::Model => {
            scenario.check_for(&Capabilities::model())?;
            Ok(Arc::new(ModelMachine::new(scenario, seed)?))
        }
        Choice::Qemu(program) => {
            let binary = qemu::find(program.as_deref())?;
            let version = qemu::version(&binary)?;
            if !version.is_supported() {
                return Err(QemuError::TooOld { binary, version }.into());
            }
            let name = format!("qemu {version}");
            let capabilities = Capabilities::qemu(&name, version.has_several_instances());
            scenario.check_for(&capabilities)?;
            Ok(Arc::new(QemuMachine::start(scenario, binary)?))
        }
    }
}

/// Numbers of operations that are interrupted, as random ones are, are above all others.
const FIRST_RANDOM: u64 = 1 << 32;

fn is_random(id: u64) -> bool {
    id >= FIRST_RANDOM
}

/// Where interruptions of an operation start, as steps have it.
pub(crate) fn interrupt(id: u64) -> Option<u32> {
    id.checked_sub(FIRST_RANDOM).and_then(|number| u32::try_from(number).ok())
}

/// What went wrong in a step.
struct Wrong {
    rule: String,
    meaning: String,
    text: String,
}

impl Wrong {
    fn new(rule: &str, meaning: &str, text: String) -> Self {
        Self { rule: rule.to_owned(), meaning: meaning.to_owned(), text }
    }

    fn panic(said: String) -> Self {
        Self::new(PANIC, "neither the driver nor the model panics", said)
    }
}

struct Run<'a> {
    scenario: &'a Scenario,
    bench: Arc<Bench>,
    machine: Arc<dyn Machine>,
    seed: u64,
    interfere: bool,
    report: report::Report,
    /// Everything that was done, with a number each.
    operations: Vec<Numbered>,
    random_operations: u64,
    /// Line of the step under way.
    line: usize,
    /// How many of the same line came before it, and the note of the first.
    several: usize,
    note: Option<String>,
    /// What the last access came to: for expectations.
    last: Option<((usize, Substream), Done)>,
}

impl<'a> Run<'a> {
    fn new(
        scenario: &'a Scenario,
        machine: Arc<dyn Machine>,
        seed: u64,
        settings: Settings,
    ) -> Result<Self, BenchError> {
        if let Some(tracer) = &settings.tracer {
            // The first step: it ends with its note.
            tracer.at(0, Trace::begin);
        }
        let bench = Bench::new(scenario, machine.clone(), seed, settings)?;
        let instances = scenario
            .instances
            .iter()
            .enumerate()
            .map(|(index, instance)| record::instance(scenario, &bench, index, &instance.name))
            .collect();
        let report = report::Report {
            scenario: scenario.name.clone(),
            description: scenario.description.trim().to_owned(),
            machine: machine.name(),
            seed,
            verdict: "ok".to_owned(),
            failure: None,
            instances,
            steps: Vec::new(),
            commands: BTreeMap::new(),
            statistics: Vec::new(),
            domains: Vec::new(),
            faults: Vec::new(),
            random_faults: Vec::new(),
            data: 0,
            dma: report::DmaCounts::default(),
            coverage: None,
        };
        let interfere = machine.model(0).is_some();
        let mut run = Self {
            scenario,
            bench,
            machine,
            seed,
            interfere,
            report,
            operations: Vec::new(),
            random_operations: 0,
            line: 0,
            several: 0,
            note: None,
            last: None,
        };
        let names: Vec<&str> = scenario.instances.iter().map(|instance| &*instance.name).collect();
        run.note_step(
            0,
            None,
            format!("bring up {}", names.join(" and ")),
            Done { outcome: "every stream aborts".to_owned(), ..Done::default() },
        );
        Ok(run)
    }

    /// Runs all steps, then takes everything down; what went wrong first, with the line of its step.
    fn steps(
        &mut self,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Option<(usize, Wrong)>, RunError> {
        let of = self.scenario.steps.len();
        for (number, step) in self.scenario.steps.iter().enumerate() {
            self.line = step.line;
            progress(Progress::Step { number: number + 1, of });
            self.bench.world().trace(Trace::begin);
            let wrong = match &step.action {
                Action::Random(random) => {
                    let done = self.random(step.line, random, progress)?;
                    let text = format!("{} random operations on everything", random.steps);
                    self.note_step(step.line, step.note.clone(), text, done.0);
                    done.1
                }
                action => match Operation::of(action, self.scenario) {
                    Some(operation) => {
                        let id = step
                            .interrupt
                            .map_or(number as u64, |number| FIRST_RANDOM + u64::from(number));
                        let done = self.operate(id, &operation)?;
                        let mut text = operation.describe(self.scenario).to_string();
                        let next = self.scenario.steps.get(number + 1);
                        let last = next.is_none_or(|step| !step.again);
                        self.several = if step.again { self.several + 1 } else { 0 };
                        if last && self.several > 0 {
                            text = format!("{text}, and {} before", self.several);
                        }
                        let expect = expect::read(action, &done);
                        // Where the driver was interrupted, nobody can tell beforehand.
                        let unexpected = match step.interrupt {
                            None => self.unexpected(number, &operation, &done),
                            Some(_) => None,
                        };
                        let wrong = expect.or(unexpected);
                        // Steps that stand in one line are told of in one.
                        if self.several == 0 {
                            self.note = step.note.clone();
                        }
                        if last || wrong.is_some() {
                            let note = self.note.take();
                            self.note_step(step.line, note, text, done);
                        }
                        wrong
                    }
                    None => {
                        let (text, wrong) = self.check(action);
                        let outcome =
                            if wrong.is_none() { "as expected" } else { "not as expected" };
                        let done = Done { outcome: outcome.to_owned(), ..Done::default() };
                        self.note_step(step.line, step.note.clone(), text, done);
                        wrong
                    }
                },
            };
            if let Some(wrong) = self.broken().or(wrong) {
                return Ok(Some((step.line, wrong)));
            }
        }
        Ok(None)
    }

    /// Does what steps did before.
    fn again(&mut self, operations: &[Numbered]) -> Result<Option<(usize, Wrong)>, RunError> {
        for (id, operation) in operations {
            self.operate(*id, operation)?;
            if let Some(wrong) = self.broken() {
                return Ok(Some((0, wrong)));
            }
        }
        Ok(None)
    }

    /// Lets `doing` go on with the run; a panic is something wrong, and the end of the run.
    fn guarded(
        &mut self,
        doing: impl FnOnce(&mut Self) -> Result<Option<(usize, Wrong)>, RunError>,
    ) -> Result<Option<(usize, Wrong)>, RunError> {
        match panics::catch(|| doing(self)) {
            Ok(result) => result,
            Err(said) => Ok(Some((self.line, Wrong::panic(said)))),
        }
    }

    fn operate(&mut self, id: u64, operation: &Operation) -> Result<Done, BenchError> {
        self.operations.push((id, operation.clone()));
        self.perform(id, operation)
    }

    fn perform(&mut self, id: u64, operation: &Operation) -> Result<Done, BenchError> {
        {
            let mut watch = self.bench.watch();
            watch.interfering = self.interfere && is_random(id);
            watch.begin(self.seed ^ id);
        }
        let mut done = self.bench.perform(operation)?;
        if let Operation::HandOver { lost } = operation {
            let (next, outcome) = self.bench.hand_over(lost)?;
            done = outcome;
            self.bench = next.unwrap_or_else(|| self.bench.clone());
        }
        if let Operation::Write { master, substream, .. }
        | Operation::Read { master, substream, .. } = operation
        {
            self.report.dma.transfers += 1;
            self.report.dma.bytes += done.bytes;
            self.report.dma.faults_expected += u64::from(done.refused > 0);
            for byte in done.data.iter().chain(&(done.refused as u64).to_le_bytes()) {
                // FNV-1a: enough to tell two runs apart.
                self.report.data =
                    (self.report.data ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
            }
            self.last = Some(((*master, *substream), done.clone()));
        }
        Ok(done)
    }

    /// What the oracle or the driver says is wrong.
    fn broken(&self) -> Option<Wrong> {
        let watch = self.bench.watch();
        if let Some(violation) = watch.oracle.violation() {
            let rule = violation.rule;
            return Some(Wrong::new(rule.name(), rule.meaning(), violation.text.clone()));
        }
        let refusal = watch.refusal.clone()?;
        Some(Wrong::new(DRIVER, "the driver does what it is asked when nothing is wrong", refusal))
    }
}

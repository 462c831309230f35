// SPDX-License-Identifier: MIT OR Apache-2.0
//! Running a scenario: its steps one by one, on a machine, with a report at the end.

mod expect;
mod record;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use crate::bench::{Bench, BenchError, Done, Settings};
use crate::machine::{Machine, MachineError};
use crate::machine_model::ModelMachine;
use crate::machine_qemu::QemuMachine;
use crate::operation::{Operation, Source};
use crate::oracle::{PAGE, Rule, Use};
use crate::qemu::{self, QemuError};
use crate::report;
use crate::scenario::{Access, Action, Capabilities, Random, Scenario, ScenarioErrors, Target};
use crate::shrink;
use crate::trace::{Args, Trace, Tracer};
use crate::workload::Workload;

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
    /// Do not interrupt the driver in random steps, as machines other than the model cannot.
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
}

/// Runs `scenario`, telling `progress` how far it is.
///
/// # Errors
/// [`RunError`] when there is nothing to report: the input or the machine cannot be used.
pub fn run(
    scenario: &Scenario,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<report::Report, RunError> {
    let seed = options.seed.unwrap_or(scenario.seed);
    let machine = build(scenario, &options.machine, seed)?;
    let traced = Settings { tracer: options.tracer.clone(), ..settings(options) };
    let mut run = Run::new(scenario, machine, seed, traced)?;
    run.interfere &= !options.undisturbed;
    let failed = run.steps(progress)?;
    let (mut report, operations) = run.finish(failed)?;
    if !options.no_shrink
        && matches!(options.machine, Choice::Model)
        && let Some(failure) = &mut report.failure
        && Rule::ALL.iter().any(|rule| rule.name() == failure.rule)
    {
        let rule = failure.rule.clone();
        let mut breaks = |candidate: &[(u64, Operation)]| {
            progress(Progress::Shrinking { left: candidate.len() });
            replay(scenario, seed, settings(options), candidate)
                .is_some_and(|broken| broken == rule)
        };
        let shortest = shrink::shortest(operations, &mut breaks);
        failure.trace = shortest
            .iter()
            .map(|(_, operation)| operation.describe(scenario).to_string())
            .collect();
    }
    Ok(report)
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
    let failed = run.steps(&mut |_| ())?;
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

/// Does `operations` on a fresh model, and names the rule that is broken.
fn replay(
    scenario: &Scenario,
    seed: u64,
    settings: Settings,
    operations: &[(u64, Operation)],
) -> Option<String> {
    let machine = Arc::new(ModelMachine::new(scenario, seed).ok()?);
    let bench = Bench::new(scenario, machine, seed, settings).ok()?;
    for (id, operation) in operations {
        bench.watch().interfering = is_random(*id);
        bench.watch().begin(seed ^ id);
        bench.perform(operation).ok()?;
        if let Some(rule) = bench.oracle(|oracle| oracle.violation().map(|broken| broken.rule)) {
            bench.world().set_observer(None);
            return Some(rule.name().to_owned());
        }
    }
    bench.world().set_observer(None);
    None
}

/// Numbers of random operations are above those of a scenario's own.
const FIRST_RANDOM: u64 = 1 << 32;

fn is_random(id: u64) -> bool {
    id >= FIRST_RANDOM
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
}

struct Run<'a> {
    scenario: &'a Scenario,
    bench: Arc<Bench>,
    machine: Arc<dyn Machine>,
    seed: u64,
    interfere: bool,
    report: report::Report,
    /// Everything that was done, with a number each.
    operations: Vec<(u64, Operation)>,
    random_operations: u64,
    /// What the last access came to: for expectations.
    last: Option<(usize, Done)>,
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
            progress(Progress::Step { number: number + 1, of });
            self.bench.world().trace(Trace::begin);
            let wrong = match &step.action {
                Action::Random(random) => {
                    let done = self.random(step.line, random, progress)?;
                    let text = format!("{} random operations on everything", random.steps);
                    self.note_step(step.line, step.note.clone(), text, done.0);
                    done.1
                }
                action => match self.operation(action) {
                    Some(operation) => {
                        let done = self.operate(number as u64, &operation)?;
                        let text = operation.describe(self.scenario).to_string();
                        let expect = expect::read(action, &done);
                        let unexpected = self.unexpected(number, &operation, &done);
                        self.note_step(step.line, step.note.clone(), text, done);
                        expect.or(unexpected)
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

    /// The operation that a step of the scenario stands for; `None` for expectations.
    fn operation(&self, action: &Action) -> Option<Operation> {
        Some(match action {
            Action::Attach { master, domain } => {
                let to = match domain {
                    Target::Domain(domain) => Use::Domain(*domain),
                    Target::Identity => Use::Identity,
                    Target::Blocked => Use::Blocked,
                };
                Operation::Attach { master: *master, to }
            }
            Action::Detach { master } => Operation::Attach { master: *master, to: Use::Blocked },
            Action::Map { domain, iova, memory, offset, length, access, kind } => Operation::Map {
                domain: *domain,
                iova: *iova,
                bytes: *length,
                source: Source::Memory { memory: *memory, offset: *offset },
                write: *access == Access::ReadWrite,
                kind: *kind,
            },
            Action::Unmap { domain, iova, length } => {
                Operation::Unmap { domain: *domain, iova: *iova, bytes: *length }
            }
            Action::Write { master, iova, data } => {
                Operation::Write { master: *master, iova: *iova, data: data.clone() }
            }
            Action::Read { master, iova, length, .. } => {
                Operation::Read { master: *master, iova: *iova, bytes: *length as usize }
            }
            _ => return None,
        })
    }

    fn operate(&mut self, id: u64, operation: &Operation) -> Result<Done, BenchError> {
        self.operations.push((id, operation.clone()));
        {
            let mut watch = self.bench.watch();
            watch.interfering = self.interfere && is_random(id);
            watch.begin(self.seed ^ id);
        }
        let done = self.bench.perform(operation)?;
        if let Operation::Write { master, .. } | Operation::Read { master, .. } = operation {
            self.report.dma.transfers += 1;
            self.report.dma.bytes += done.bytes;
            self.report.dma.faults_expected += u64::from(done.refused > 0);
            for byte in done.data.iter().chain(&(done.refused as u64).to_le_bytes()) {
                // FNV-1a: enough to tell two runs apart.
                self.report.data =
                    (self.report.data ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
            }
            self.last = Some((*master, done.clone()));
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
        Some(Wrong::new(
            "driver",
            "the driver does what it is asked when nothing is wrong",
            refusal,
        ))
    }

    /// A random step.
    fn random(
        &mut self,
        line: usize,
        random: &Random,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Done, Option<Wrong>), BenchError> {
        let seed = random.seed.unwrap_or(self.seed ^ line as u64);
        let mut workload = Workload::new(self.scenario, random, seed);
        let before: Vec<Use> = (0..self.scenario.masters.len())
            .map(|master| self.bench.oracle(|oracle| oracle.using(master)))
            .collect();
        let translations = self.machine.translations();
        let interruptions = self.bench.watch().interruptions;
        let (mut accesses, mut refused, mut stale_attempts) = (0usize, 0usize, 0usize);
        let mut result = Done::default();
        for number in 0..random.steps {
            if number % 64 == 0 {
                progress(Progress::Random { done: number, of: random.steps });
            }
            let (operation, stale) = self.bench.oracle(|oracle| workload.next(oracle));
            let id = FIRST_RANDOM + self.random_operations;
            self.random_operations += 1;
            let done = self.operate(id, &operation)?;
            accesses += done.accesses;
            refused += done.refused;
            let faults =
                done.faults.iter().map(|fault| self.describe_fault(number as usize, fault));
            let faults: Vec<_> = faults.collect();
            self.report.random_faults.extend(faults);
            stale_attempts += if stale { done.accesses } else { 0 };
            if let Some(mut wrong) = self.broken() {
                wrong.text = format!(
                    "in random operation {} ({}): {}",
                    number + 1,
                    operation.describe(self.scenario),
                    wrong.text
                );
                result.outcome = format!("failed at operation {}", number + 1);
                return Ok((result, Some(wrong)));
            }
        }
        let undo = self.bench.oracle(|oracle| workload.undo(oracle, &before));
        for operation in undo {
            let id = FIRST_RANDOM + self.random_operations;
            self.random_operations += 1;
            self.operate(id, &operation)?;
        }
        // What was written before belongs to no expectation.
        self.last = None;
        let percent = |part: usize| 100.0 * part as f64 / accesses.max(1) as f64;
        let hits = translations.zip(self.machine.translations()).map(|(before, after)| {
            let (hits, misses) = (after.hits - before.hits, after.misses - before.misses);
            100.0 * hits as f64 / (hits + misses).max(1) as f64
        });
        self.report.coverage = Some(report::Coverage {
            operations: random.steps,
            accesses: accesses as u64,
            tlb_hits: hits,
            faults: percent(refused),
            stale_attempts: percent(stale_attempts),
            interruptions: self.bench.watch().interruptions - interruptions,
        });
        result.outcome = format!("{accesses} accesses, {refused} refused as they had to be");
        Ok((result, None))
    }

    /// Takes everything down and completes the report; also returns what was done.
    fn finish(
        mut self,
        failed: Option<(usize, Wrong)>,
    ) -> Result<(report::Report, Vec<(u64, Operation)>), RunError> {
        let mut failed = failed;
        if failed.is_none() {
            self.bench.world().trace(Trace::begin);
            for (domain, iova, bytes) in self.mapped() {
                let operation = Operation::Unmap { domain, iova, bytes };
                self.operate(u64::from(u32::MAX), &operation)?;
            }
            self.bench.watch().interfering = false;
            for master in 0..self.scenario.masters.len() {
                let operation = Operation::Attach { master, to: Use::Blocked };
                self.operate(u64::from(u32::MAX), &operation)?;
            }
            failed = self.broken().map(|wrong| (0, wrong));
        }
        let Self { bench, mut report, operations, .. } = self;
        let hardware = bench.watch().log();
        let world = bench.world().clone();
        if failed.is_none() {
            let broken = match bench.tear_down() {
                Ok(broken) => broken.map(|broken| (broken.rule, broken.text)),
                Err(error) => Some((Rule::R8, error.to_string())),
            };
            failed = broken.map(|(rule, text)| (0, Wrong::new(rule.name(), rule.meaning(), text)));
            for (_, command) in world.take_commands() {
                *report.commands.entry(command.name().to_owned()).or_default() += 1;
            }
            let number = report.steps.len() + 1;
            report.steps.push(report::Step {
                number,
                line: 0,
                text: "take everything down".to_owned(),
                note: None,
                outcome: if failed.is_none() { "nothing is left" } else { "failed" }.to_owned(),
                commands: Vec::new(),
                tags: Vec::new(),
                faults: Vec::new(),
            });
        } else {
            world.set_observer(None);
        }
        world.trace(|trace| trace.end("take everything down", "step", &Args::new()));
        report.failure = failed.map(|(line, wrong)| {
            report.verdict = wrong.rule.clone();
            report::Failure {
                rule: wrong.rule,
                meaning: wrong.meaning,
                text: wrong.text,
                step: report.steps.len().saturating_sub(1),
                line,
                trace: Vec::new(),
                hardware,
            }
        });
        Ok((report, operations))
    }

    /// What is still mapped: domain, first address and bytes of each contiguous run.
    fn mapped(&self) -> Vec<(usize, u64, u64)> {
        let mut runs: Vec<(usize, u64, u64)> = Vec::new();
        self.bench.oracle(|oracle| {
            for domain in 0..self.scenario.domains.len() {
                for (iova, _) in oracle.pages(domain, 0..u64::MAX) {
                    match runs.last_mut() {
                        Some((last, start, bytes))
                            if *last == domain && *start + *bytes == iova =>
                        {
                            *bytes += PAGE;
                        }
                        _ => runs.push((domain, iova, PAGE)),
                    }
                }
            }
        });
        runs
    }
}

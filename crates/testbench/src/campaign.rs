// SPDX-License-Identifier: MIT OR Apache-2.0
//! Campaigns: random scenarios on the model, one or several a seed, until a rule breaks; what broke it is made as short
//! as it can be and written as a scenario.

mod draw;
mod life;
mod reduce;

use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

pub use draw::scenario;
pub use life::Life;

use crate::coverage::Pairs;
use crate::report::Coverage;
use crate::run::{self, Options, RunError};
use crate::scenario::{Action, Scenario};
use crate::shrink::Budget;

/// Operations that are told of a run that is not made shorter.
const LAST: usize = 16;

/// What a campaign is to do.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// Which seeds.
    pub seeds: Range<u64>,
    /// Operations of each: on one machine, or on several if they are many ([`Life`]).
    pub steps: u64,
    /// How many are tried at once.
    pub jobs: usize,
    /// No seed and no machine is begun after this time, but the first always is.
    pub limit: Option<Duration>,
    /// Go on after a rule was broken.
    pub keep_going: bool,
    /// How each is run; the seed and the tracer in there are of no use here.
    pub options: Options,
}

/// How far a campaign is.
pub enum Progress<'a> {
    /// Another machine has been tried.
    Tried(&'a Summary),
    /// What broke a rule is being made shorter.
    Shrinking {
        /// The seed of the machine.
        seed: u64,
        /// Operations left.
        left: usize,
    },
}

/// What a campaign has found so far.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// Seeds tried.
    pub seeds: u64,
    /// Machines of these: one each, or several.
    pub machines: u64,
    /// Operations done, without those of shrinking.
    pub operations: u64,
    /// Machines on which all rules held, which shares are taken from.
    pub clean: u64,
    /// Shares of accesses, in percent: the mean of all clean machines.
    pub tlb_hits: f64,
    /// Refused.
    pub faults: f64,
    /// To what was mapped before.
    pub stale_attempts: f64,
    /// Operations that interrupted the driver in the middle of another one.
    pub interruptions: u64,
    /// How often each operation was done with each feature.
    pub pairs: Pairs,
    /// What was broken, by seed.
    pub findings: Vec<Finding>,
}

/// A broken rule, and how to see it again.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The seed of the machine. By itself it is the first one of this seed, and breaks the same rule.
    pub seed: u64,
    /// Which machine that was, from 0, of which of the campaign's seeds.
    pub life: u64,
    /// See [`Finding::life`].
    pub of: u64,
    /// As [`crate::report::Report::verdict`].
    pub rule: String,
    /// What it says, in a sentence.
    pub meaning: String,
    /// What happened, in the shortest sequence.
    pub text: String,
    /// Operations that were done until then.
    pub operations: usize,
    /// The shortest sequence found that breaks the same rule; the last operations, where none is looked for.
    pub trace: Vec<String>,
    /// A shorter one was looked for.
    pub shrunk: bool,
    /// Looking for a shorter one took too long, and was given up (a bound on runs and operations).
    pub given_up: bool,
    /// Whether the scenario, written and read again, breaks the same rule.
    pub replays: bool,
    /// The scenario as a file.
    #[serde(skip)]
    pub toml: String,
}

impl Campaign {
    /// Tries the seeds, and tells how far it is from whichever thread is.
    ///
    /// # Errors
    /// [`RunError`] when a scenario cannot be run at all.
    pub fn run(&self, tell: &(dyn Fn(Progress<'_>) + Sync)) -> Result<Summary, RunError> {
        let started = Instant::now();
        let seeds = Mutex::new(self.seeds.clone());
        let summary = Mutex::new(Summary::default());
        let late = || self.limit.is_some_and(|limit| started.elapsed() >= limit);
        let next = || {
            let mut seeds = locked(&seeds);
            let stop = late() && seeds.start > self.seeds.start
                || !self.keep_going && !locked(&summary).findings.is_empty();
            if stop { None } else { seeds.next() }
        };
        let work = || -> Result<(), RunError> {
            while let Some(seed) = next() {
                let mut lives = Life::all(seed, self.steps).peekable();
                while let Some(life) = lives.next() {
                    let tried = self.try_life(seed, life, tell)?;
                    let mut summary = locked(&summary);
                    summary.add(tried);
                    let broken = !self.keep_going && !summary.findings.is_empty();
                    let over = broken || lives.peek().is_none() || late();
                    summary.seeds += u64::from(over);
                    tell(Progress::Tried(&summary));
                    if over {
                        break;
                    }
                }
            }
            Ok(())
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..self.jobs.max(1)).map(|_| scope.spawn(work)).collect();
            workers.into_iter().try_for_each(|worker| match worker.join() {
                Ok(result) => result,
                Err(payload) => std::panic::resume_unwind(payload),
            })
        })?;
        let mut summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
        summary.findings.sort_by_key(|finding| (finding.of, finding.life));
        Ok(summary)
    }

    fn try_life(
        &self,
        of: u64,
        life: Life,
        tell: &(dyn Fn(Progress<'_>) + Sync),
    ) -> Result<Tried, RunError> {
        let Life { seed, number, steps } = life;
        let scenario = scenario(seed, steps);
        let options = Options { seed: None, tracer: None, ..self.options.clone() };
        let shrinking = &mut |left| tell(Progress::Shrinking { seed, left });
        let (operations, coverage, failure) =
            match run::attempt(&scenario, &options, None, &mut |_| ()) {
                Ok((report, operations)) => {
                    let failure = report.failure.map(|it| (it.rule, it.meaning, it.text));
                    (operations, report.coverage, failure)
                }
                Err(error) => match error.rule() {
                    Some(rule) => {
                        let meaning = "the driver can be set up".to_owned();
                        (Vec::new(), None, Some((rule.to_owned(), meaning, error.to_string())))
                    }
                    None => return Err(error),
                },
            };
        let done = operations.len() as u64;
        let finding = failure.map(|(rule, meaning, text)| {
            let operations_done = operations.len();
            let mut budget = Budget::default();
            let described = |text: &str| {
                let words: Vec<&str> = text.split_whitespace().collect();
                format!("Breaks {rule}: {}", words.join(" "))
            };
            let (text, trace, written) = if options.no_shrink {
                let last = operations.len().saturating_sub(LAST);
                let trace = run::describe(&scenario, operations.get(last..).unwrap_or_default());
                let description = described(&text);
                let mut written = Scenario { description, ..scenario };
                for step in &mut written.steps {
                    if let Action::Random(random) = &mut step.action {
                        // By itself it depends on where in the file it stands.
                        random.seed = Some(random.seed.unwrap_or(written.seed ^ step.line as u64));
                    }
                }
                (text, trace, written)
            } else {
                let (shortest, operations) =
                    reduce::shortest(scenario, &options, &rule, operations, &mut budget, shrinking);
                let trace = run::describe(&shortest, &operations);
                // Fewer things have other numbers, and addresses may be others too.
                let text = match run::attempt(&shortest, &options, Some(&operations), &mut |_| ()) {
                    Ok((report, _)) => report.failure.map_or(text, |failure| failure.text),
                    Err(_) => text,
                };
                let written = reduce::written(shortest, &operations, &described(&text));
                (text, trace, written)
            };
            let toml = format!(
                "# Found by: smmuv3 fuzz --seeds {seed}..{} --steps {steps}\n\n{}",
                seed.saturating_add(1),
                written.to_toml()
            );
            let replays = verdict(&toml, &options).as_deref() == Some(&*rule);
            Finding {
                seed,
                life: number,
                of,
                rule,
                meaning,
                text,
                operations: operations_done,
                trace,
                shrunk: !options.no_shrink,
                given_up: budget.is_spent(),
                replays,
                toml,
            }
        });
        Ok(Tried { operations: done, coverage, finding })
    }
}

/// What a scenario's file comes to.
fn verdict(toml: &str, options: &Options) -> Option<String> {
    let scenario = Scenario::parse(toml, "finding").ok()?;
    let verdict = match run::attempt(&scenario, options, None, &mut |_| ()) {
        Ok((report, _)) => report.verdict,
        Err(error) => error.rule()?.to_owned(),
    };
    Some(verdict)
}

/// What came of one machine.
struct Tried {
    operations: u64,
    coverage: Option<Coverage>,
    finding: Option<Finding>,
}

impl Summary {
    fn add(&mut self, tried: Tried) {
        self.machines += 1;
        self.operations += tried.operations;
        if let (None, Some(coverage)) = (&tried.finding, tried.coverage) {
            self.clean += 1;
            let mean = |mean: &mut f64, value: f64| *mean += (value - *mean) / self.clean as f64;
            mean(&mut self.tlb_hits, coverage.tlb_hits.unwrap_or_default());
            mean(&mut self.faults, coverage.faults);
            mean(&mut self.stale_attempts, coverage.stale_attempts);
            self.interruptions += coverage.interruptions;
            self.pairs.merge(&coverage.pairs);
        }
        self.findings.extend(tried.finding);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command `smmuv3 fuzz`: a campaign, its progress, and the files it leaves.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use smmuv3_testbench::campaign::{Campaign, Progress};
use smmuv3_testbench::run::Options;

use crate::args::Fuzz;
use crate::output::show;
use crate::progress::Bar;
use crate::report::{self, Outcome};
use crate::{BROKEN, Failure, HELD, columns, say};

/// Does the campaign; the exit status.
pub fn execute(fuzz: &Fuzz) -> Result<u8, Failure> {
    let unwritable = |what: String| move |error| Failure::Found(what, error);
    // Whoever waits for hours is not to learn only then that there is nowhere to write to.
    std::fs::create_dir_all(&fuzz.out).map_err(unwritable(fuzz.out.display().to_string()))?;
    let jobs = fuzz.jobs.or(thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let campaign = Campaign {
        seeds: fuzz.seeds.clone(),
        steps: fuzz.steps,
        jobs,
        limit: fuzz.minutes,
        keep_going: fuzz.keep_going,
        options: Options { no_shrink: fuzz.no_shrink, ..Options::default() },
    };
    let started = Instant::now();
    let bar = Mutex::new(Bar::new());
    let summary = campaign.run(&|progress| {
        let message = match progress {
            Progress::Tried(summary) => {
                report::progress(summary, &fuzz.seeds, started.elapsed().as_secs_f64())
            }
            Progress::Shrinking { seed, left } => {
                format!("seed {seed} broke a rule: looking for less than {left} operations")
            }
        };
        bar.lock().unwrap_or_else(PoisonError::into_inner).say(message);
    })?;
    drop(bar);

    let mut files = Vec::new();
    for finding in &summary.findings {
        let path = fuzz.out.join(format!("fuzz-{}.toml", finding.seed));
        let name = path.display().to_string();
        std::fs::write(&path, &finding.toml).map_err(unwritable(name.clone()))?;
        files.push(name);
    }
    let seeds = [fuzz.seeds.start, fuzz.seeds.end];
    let seconds = started.elapsed().as_secs_f64();
    let outcome = Outcome::new(seeds, fuzz.steps, seconds, summary, files);
    let text = || report::render_campaign(&outcome, fuzz.coverage, columns());
    let wanted = show(fuzz.json, &outcome, text)?;
    if outcome.is_ok() {
        return Ok(HELD);
    }
    // Whoever pipes the report elsewhere is still told what went wrong.
    if fuzz.json || !wanted {
        say(&format!("smmuv3: {}", outcome.verdict()));
    }
    Ok(BROKEN)
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a stress came to.

use serde::Serialize;
use smmuv3_testbench::stress::{Counts, Outcome, Stress};

use super::text::{BAD, BOLD, DIM, DOT, GOOD, clean, count, number, paint};
use super::verdict::row;

/// What threads look at; the others are for scenarios.
const HELD: &str = "R0 to R3 held, and R8 where an attach was refused";

/// A stress that is over.
#[derive(Debug, Serialize)]
pub struct Stressed {
    /// `ok`, or `broken`.
    verdict: &'static str,
    /// Threads that called the driver.
    threads: usize,
    /// SMMUs.
    instances: usize,
    /// Where everything random started.
    seed: u64,
    /// One a policy; the last is the one that broke a rule.
    runs: Vec<Outcome>,
}

impl Stressed {
    /// Nothing has been done yet.
    pub fn new(stress: &Stress) -> Self {
        let Stress { threads, instances, seed, .. } = *stress;
        Self { verdict: "ok", threads, instances, seed, runs: Vec::new() }
    }

    /// With what one policy came to.
    pub fn add(&mut self, run: Outcome) {
        if run.failure.is_some() {
            self.verdict = "broken";
        }
        self.runs.push(run);
    }

    /// Whether all held that is judged.
    pub fn is_ok(&self) -> bool {
        self.failed().is_none()
    }

    fn failed(&self) -> Option<(&Outcome, &str)> {
        self.runs.iter().find_map(|run| Some((run, run.failure.as_deref()?)))
    }

    /// In one line.
    pub fn verdict(&self) -> String {
        match self.failed() {
            None => format!("{HELD}, seed {}", self.seed),
            Some((run, failure)) => {
                format!("{}, seed {}: {}", run.policy, self.seed, clean(failure))
            }
        }
    }
}

/// How far it is, in one line.
pub fn progress(policy: &str, counts: &Counts) -> String {
    let items = [
        policy.to_owned(),
        count(counts.unmaps + counts.invalidations, "unmap"),
        format!("{} attached or bound", number(counts.attaches + counts.binds)),
        format!("{} accesses", number(counts.accesses)),
    ];
    items.join(DOT)
}

/// It as text, in lines.
pub fn render(stressed: &Stressed, columns: usize) -> String {
    let columns = columns.clamp(40, 100);
    let Stressed { threads, instances, seed, .. } = stressed;
    let title = format!("{threads} threads on {instances} SMMUs at once, on the model");
    let mut lines = vec![paint(BOLD, &title), paint(DIM, &format!("  seed {seed}"))];
    for run in &stressed.runs {
        let counts = &run.counts;
        let done = format!(
            "{:.1} s; {} and {} of processes, {} attaches ({} refused), {} detaches, {} binds, {} \
             unbinds, {} releases, {} tags seen to change; {} accesses judged, {} events, {} commands",
            run.seconds,
            count(counts.unmaps, "unmap"),
            number(counts.invalidations),
            number(counts.attaches),
            number(counts.refusals),
            number(counts.detaches),
            number(counts.binds),
            number(counts.unbinds),
            number(counts.releases),
            number(counts.moves),
            number(counts.accesses),
            number(counts.events),
            number(counts.commands),
        );
        lines.push(String::new());
        lines.push(paint(BOLD, run.policy));
        lines.extend(row("done", &done, columns));
    }
    lines.push(String::new());
    match stressed.failed() {
        None => lines.push(format!("{} {}", paint(GOOD, "verdict: ok."), stressed.verdict())),
        Some((run, failure)) => {
            lines.push(format!("{} {}, seed {seed}", paint(BAD, "verdict: broken,"), run.policy));
            lines.extend(row("what", failure, columns));
            let again = format!(
                "smmuv3 stress --policy {} --seed {seed} --threads {threads} --instances {instances}",
                run.policy
            );
            lines.push(String::new());
            lines.push(format!("{} {again}", paint(DIM, "To try it again:")));
        }
    }
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stressed(failure: Option<&str>) -> Stressed {
        let mut stressed = Stressed::new(&Stress { seed: 7, ..Stress::default() });
        stressed.add(Outcome {
            policy: "banked",
            seed: 7,
            seconds: 1.5,
            counts: Counts { unmaps: 1200, moves: 3, ..Counts::default() },
            failure: failure.map(ToOwned::to_owned),
        });
        stressed
    }

    fn text(stressed: &Stressed) -> String {
        anstream::adapter::strip_str(&render(stressed, 100)).to_string()
    }

    #[test]
    fn what_held_says_what_was_done() {
        let stressed = stressed(None);
        let text = text(&stressed);
        assert!(
            text.starts_with("8 threads on 4 SMMUs at once, on the model\n  seed 7\n"),
            "{text}"
        );
        assert!(text.contains("1.5 s; 1,200 unmaps") && text.contains("3 tags seen"), "{text}");
        let end = "\nverdict: ok. R0 to R3 held, and R8 where an attach was refused, seed 7\n";
        assert!(text.ends_with(end), "{text}");
        assert!(stressed.is_ok());
    }

    #[test]
    fn what_broke_is_told_with_the_seed() {
        let stressed = stressed(Some("R1: something was reached"));
        let text = text(&stressed);
        for words in [
            "verdict: broken, banked, seed 7\n",
            "R1: something was reached",
            "smmuv3 stress --policy banked --seed 7 --threads 8 --instances 4\n",
        ] {
            assert!(text.contains(words), "no {words:?} in {text}");
        }
        assert_eq!(stressed.verdict(), "banked, seed 7: R1: something was reached");
    }

    #[test]
    fn progress_is_one_line() {
        let counts = Counts {
            unmaps: 1000,
            invalidations: 5,
            attaches: 2,
            binds: 1,
            accesses: 9,
            ..Counts::default()
        };
        let words = "banked · 1,005 unmaps · 3 attached or bound · 9 accesses";
        assert_eq!(progress("banked", &counts), words);
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a campaign found.

use std::ops::Range;

use serde::Serialize;
use smmuv3_testbench::campaign::Summary;
use smmuv3_testbench::coverage::{FEATURES, Pairs, VERBS};

use super::table::{Column, table};
use super::text::{BAD, BOLD, DIM, DOT, GOOD, clean, count, number, paint};
use super::verdict::{LAST, SHORTEST, headline_of, listed, row};

/// Operations, and machines, from which on nearly each pair of an operation and a feature is to have come about: what a
/// shorter campaign lacks is chance.
const ENOUGH: u64 = 200_000;
const ENOUGH_MACHINES: u64 = 300;

/// A campaign that is over.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// `ok`, or `broken`.
    verdict: &'static str,
    /// First seed, and the one after the last.
    seeds: [u64; 2],
    /// Operations asked for, a seed.
    steps: u64,
    /// How long it took.
    seconds: f64,
    /// Operations a second, all jobs together.
    operations_per_second: f64,
    /// What was done and found.
    tried: Summary,
    /// Whether the campaign is long enough for each operation to come about with each feature ([`ENOUGH`]).
    long: bool,
    /// Of these pairs, operation and feature, those that never did.
    never: Vec<[&'static str; 2]>,
    /// Of each finding: the file with its scenario.
    files: Vec<String>,
}

impl Outcome {
    /// `files` are those of the findings.
    pub fn new(
        seeds: [u64; 2],
        steps: u64,
        seconds: f64,
        tried: Summary,
        files: Vec<String>,
    ) -> Self {
        let verdict = if tried.findings.is_empty() { "ok" } else { "broken" };
        let operations_per_second = rate(tried.operations, seconds);
        let long = tried.operations >= ENOUGH && tried.machines >= ENOUGH_MACHINES;
        let missing = tried.pairs.missing().into_iter();
        let never = missing.map(|(feature, verb)| [verb, feature]).collect();
        Self { verdict, seeds, steps, seconds, operations_per_second, tried, long, never, files }
    }

    /// Whether all rules held.
    pub fn is_ok(&self) -> bool {
        self.tried.findings.is_empty()
    }

    /// What the campaign does not show, where it is long enough to.
    fn gap(&self) -> Option<String> {
        let pairs = self.never.iter().map(|[verb, feature]| format!("{verb} with {feature}"));
        let pairs: Vec<String> = pairs.collect();
        let many = count(pairs.len() as u64, "pair");
        (self.long && !pairs.is_empty()).then(|| {
            format!("{many} of an operation and a feature never came: {}", pairs.join(", "))
        })
    }

    /// In one line.
    pub fn verdict(&self) -> String {
        let seeds = count(self.tried.seeds, "seed");
        if self.is_ok() {
            let never = match self.never.len() as u64 {
                many if self.long && many > 0 => {
                    format!("; {} never came, see above", count(many, "pair"))
                }
                _ => String::new(),
            };
            return format!("All rules held on {seeds}{never}");
        }
        let broken: Vec<String> = self
            .tried
            .findings
            .iter()
            .map(|finding| format!("{} (seed {})", clean(&finding.rule), finding.seed))
            .collect();
        // One of several machines of a seed breaks its rule by itself, as a seed of its own.
        let of = match self.tried.machines {
            machines if machines == self.tried.seeds => seeds,
            machines => count(machines, "machine"),
        };
        format!("{} of {of} broke a rule: {}", broken.len(), broken.join(", "))
    }
}

/// How far a campaign is, in one line.
pub fn progress(summary: &Summary, seeds: &Range<u64>, seconds: f64) -> String {
    let rate = number(rate(summary.operations, seconds) as u64);
    let items = [
        format!("{} of {}", number(summary.seeds), count(seeds.end - seeds.start, "seed")),
        format!("{} at {rate}/s", count(summary.operations, "operation")),
        format!("{:.1} % TLB hits", summary.tlb_hits),
        format!("{:.1} % faults", summary.faults),
        format!("{} broken", number(summary.findings.len() as u64)),
    ];
    items.join(DOT)
}

/// The outcome as text, in lines; with the table of [`pairs`], which is wider than any terminal, if `coverage`.
pub fn render(outcome: &Outcome, coverage: bool, columns: usize) -> String {
    let columns = columns.clamp(40, 100);
    let tried = &outcome.tried;
    let [first, end] = outcome.seeds;
    let mut lines =
        vec![paint(BOLD, &format!("Random scenarios on the model, seeds {first}..{end}"))];
    let machines = match tried.machines {
        machines if machines == tried.seeds => String::new(),
        machines => format!(" with {}", count(machines, "machine")),
    };
    let done = format!(
        "{}{machines}, {} in {:.1} s, {} a second",
        count(tried.seeds, "seed"),
        count(tried.operations, "operation"),
        outcome.seconds,
        number(outcome.operations_per_second as u64),
    );
    lines.extend(row("tried", &done, columns));
    let covered = format!(
        "{:.1} % TLB hits, {:.1} % faults, {:.1} % stale attempts (of accesses, mean of the clean \
         machines); driver interrupted {}",
        tried.tlb_hits,
        tried.faults,
        tried.stale_attempts,
        count(tried.interruptions, "time")
    );
    if tried.clean > 0 {
        lines.extend(row("share", &covered, columns));
    }
    let (came, possible) = came(&tried.pairs);
    let mut covered = format!(
        "{} of the {} possible pairs of an operation and a feature came",
        number(came),
        number(possible)
    );
    if !coverage {
        covered += "; --coverage shows how often each";
    }
    lines.extend(row("pairs", &covered, columns));
    let pairs = if coverage { pairs(&tried.pairs) } else { Vec::new() };
    if !pairs.is_empty() {
        lines.push(String::new());
        lines.extend(pairs);
        lines.extend(row(CANNOT, "a pair that cannot be", columns));
    }
    for (finding, file) in tried.findings.iter().zip(&outcome.files) {
        lines.push(String::new());
        let which = match finding.life {
            0 => String::new(),
            life => format!(", machine {} of seed {}", number(life + 1), finding.of),
        };
        let title = format!("seed {}{which}: {}", finding.seed, headline_of(&finding.rule));
        lines.push(paint(BAD, &title));
        lines.extend(row("rule", &finding.meaning, columns));
        lines.extend(row("what", &finding.text, columns));
        let title = if finding.shrunk { SHORTEST } else { LAST };
        lines.extend(listed(title, &finding.trace, columns));
        if finding.given_up {
            let text = "looking for less took too long, and was given up";
            lines.extend(row("more", text, columns));
        }
        lines.push(String::new());
        let (label, again) = if finding.replays {
            ("To see it again:", format!("smmuv3 run {}", crate::quoted(file)))
        } else {
            let what = format!("{file}, which does not break the rule again when it is run");
            ("Written to", what)
        };
        lines.push(format!("{} {}", paint(DIM, label), clean(&again)));
    }
    if let Some(gap) = outcome.gap() {
        lines.push(String::new());
        lines.extend(row("never", &gap, columns));
    }
    lines.push(String::new());
    let verdict =
        if outcome.is_ok() { paint(GOOD, "verdict: ok.") } else { paint(BAD, "verdict:") };
    lines.push(format!("{verdict} {}", outcome.verdict()));
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

/// How many pairs came, and how many can.
fn came(pairs: &Pairs) -> (u64, u64) {
    let of = |row: usize| (0..VERBS.len()).filter_map(move |column| pairs.get(row, column));
    let possible = || (0..FEATURES.len()).flat_map(of);
    (possible().filter(|times| *times > 0).count() as u64, possible().count() as u64)
}

/// What stands for a pair that cannot be.
const CANNOT: &str = "-";
/// How often operations were done with features: a row for each feature that took part at all. Those that never came are
/// 0; those that cannot be have a sign.
fn pairs(pairs: &Pairs) -> Vec<String> {
    let mut columns = vec![Column::left("feature")];
    columns.extend(VERBS.iter().map(|verb| Column::right(*verb)));
    let counts = |row: usize| (0..VERBS.len()).map(move |column| pairs.get(row, column));
    let rows = FEATURES.iter().enumerate().filter(|(row, _)| counts(*row).any(|it| it > Some(0)));
    table(
        &columns,
        rows.map(|(row, feature)| {
            let cells = counts(row).map(|cell| cell.map_or_else(|| CANNOT.to_owned(), number));
            std::iter::once(feature.name.to_owned()).chain(cells).collect()
        }),
    )
}

fn rate(operations: u64, seconds: f64) -> f64 {
    operations as f64 / seconds.max(1e-3)
}

#[cfg(test)]
mod tests {
    use smmuv3_testbench::campaign::Finding;

    use super::*;

    fn outcome(findings: Vec<Finding>, files: Vec<String>) -> Outcome {
        let tried = Summary {
            seeds: 3,
            machines: 3,
            operations: 6000,
            clean: 2,
            tlb_hits: 41.25,
            faults: 30.0,
            stale_attempts: 12.5,
            interruptions: 1234,
            pairs: Pairs::default(),
            findings,
        };
        Outcome::new([0, 100], 2000, 1.5, tried, files)
    }

    fn finding(seed: u64, rule: &str, replays: bool) -> Finding {
        Finding {
            seed,
            life: 0,
            of: seed,
            rule: rule.to_owned(),
            meaning: "what must hold".to_owned(),
            text: "what happened".to_owned(),
            operations: 900,
            trace: vec!["attach nic to net".to_owned()],
            shrunk: true,
            given_up: false,
            replays,
            toml: String::new(),
        }
    }

    #[test]
    fn a_clean_campaign_says_what_it_covered() {
        let text = render(&outcome(Vec::new(), Vec::new()), false, 100);
        let text = anstream::adapter::strip_str(&text).to_string();
        assert!(
            text.contains("tried  3 seeds, 6,000 operations in 1.5 s, 4,000 a second"),
            "{text}"
        );
        assert!(text.contains("41.2 % TLB hits, 30.0 % faults, 12.5 % stale attempts"), "{text}");
        assert!(text.ends_with("\n\nverdict: ok. All rules held on 3 seeds\n"), "{text}");
    }

    #[test]
    fn what_was_broken_is_told_with_the_file_that_breaks_it_again() {
        let findings = vec![finding(7, "R1", true), finding(9, "panic", false)];
        let files = vec!["my dir/fuzz-7.toml".to_owned(), "fuzz-9.toml".to_owned()];
        let outcome = outcome(findings, files);
        assert!(!outcome.is_ok());
        let text = render(&outcome, false, 100);
        let text = anstream::adapter::strip_str(&text).to_string();
        for words in [
            "seed 7: R1 is broken\n  rule   what must hold\n  what   what happened\n",
            "  1  attach nic to net\n",
            "To see it again: smmuv3 run 'my dir/fuzz-7.toml'\n",
            "seed 9: the driver or the model panicked\n",
            "Written to fuzz-9.toml, which does not break the rule again",
            "verdict: 2 of 3 seeds broke a rule: R1 (seed 7), panic (seed 9)\n",
        ] {
            assert!(text.contains(words), "no {words:?} in {text}");
        }
    }

    #[test]
    fn a_machine_of_many_is_told_by_its_own_seed_and_by_its_place() {
        let later = Finding { life: 3, of: 1, given_up: true, ..finding(1 << 32, "R1", true) };
        let files = vec!["fuzz-4294967296.toml".to_owned()];
        let mut outcome = outcome(vec![later], files);
        outcome.tried.machines = 40;
        let text = render(&outcome, false, 100);
        let text = anstream::adapter::strip_str(&text).to_string();
        for words in [
            "tried  3 seeds with 40 machines, 6,000 operations",
            "seed 4294967296, machine 4 of seed 1: R1 is broken\n",
            "looking for less took too long, and was given up\n",
            "verdict: 1 of 40 machines broke a rule: R1 (seed 4294967296)\n",
        ] {
            assert!(text.contains(words), "no {words:?} in {text}");
        }
    }

    #[test]
    fn progress_is_one_line() {
        let summary = outcome(vec![finding(7, "R1", true)], Vec::new()).tried;
        assert_eq!(
            progress(&summary, &(0..100), 2.0),
            "3 of 100 seeds · 6,000 operations at 3,000/s · 41.2 % TLB hits · 30.0 % faults · 1 broken"
        );
    }
}

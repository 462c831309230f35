// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks the steps as a sequence: what is attached and mapped when a step begins.

use super::source::Source;
use super::{Action, PAGE, Scenario, Step};

/// Notes every step that can't do what it says. `None` is a step with a mistake in it: nothing is
/// certain after it, so only what is wrong without it is noted.
pub(super) fn sequence(source: &Source<'_>, scenario: &Scenario, steps: &[Option<Step>]) {
    // Line where each master was last attached or detached, if it was.
    let mut attached = vec![(false, None); scenario.masters.len()];
    let mut mapped: Vec<Vec<Mapping>> = vec![Vec::new(); scenario.domains.len()];
    let mut certain = true;
    for step in steps {
        let Some(step) = step else {
            certain = false;
            continue;
        };
        let wrong = |message: String| {
            if certain {
                let at = super::Position { line: step.line, column: 1 };
                source.wrong_at(at, message);
            }
        };
        // Indices are valid: the step was read without a mistake.
        match step.action {
            Action::Attach { master, .. } => attached[master] = (true, Some(step.line)),
            Action::Detach { master } => {
                let name = &scenario.masters[master].name;
                match attached[master] {
                    (true, _) => {}
                    (false, None) => {
                        wrong(format!("master \"{name}\" was never attached; attach it first"))
                    }
                    (false, Some(line)) => {
                        wrong(format!("master \"{name}\" was detached on line {line} already"));
                    }
                }
                attached[master] = (false, Some(step.line));
            }
            Action::Map { domain, iova, length, .. } => {
                let name = &scenario.domains[domain].name;
                let new = Mapping { start: iova, end: iova + length, line: step.line };
                if let Some(old) = mapped[domain].iter().find(|old| old.overlaps(new)) {
                    wrong(format!(
                        "{iova:#x} to {:#x} of domain \"{name}\" overlaps what line {} mapped; unmap that \
                         first",
                        new.end - 1,
                        old.line
                    ));
                }
                mapped[domain].push(new);
            }
            Action::Unmap { domain, iova, length } => {
                let gone = Mapping { start: iova, end: iova + length, line: step.line };
                mapped[domain] = mapped[domain].iter().flat_map(|old| old.without(gone)).collect();
            }
            Action::Random(ref random) => {
                let (start, end) = (random.iova, random.iova + random.pages * PAGE);
                let window = Mapping { start, end, line: step.line };
                let all = mapped.iter().zip(&scenario.domains);
                for (mappings, domain) in all {
                    if let Some(old) = mappings.iter().find(|old| old.overlaps(window)) {
                        wrong(format!(
                            "the window of random, {start:#x} to {:#x}, overlaps what line {} mapped in \
                             domain \"{}\"; give random another iova",
                            end - 1,
                            old.line,
                            domain.name
                        ));
                    }
                }
            }
            _ => {}
        }
        if step.interrupt.is_some() {
            // What interrupted it may have unmapped anything.
            mapped.iter_mut().for_each(Vec::clear);
        }
    }
}

/// IOVAs from `start` up to `end`, and the line that mapped them.
#[derive(Clone, Copy)]
struct Mapping {
    start: u64,
    end: u64,
    line: usize,
}

impl Mapping {
    const fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// What is left of it.
    fn without(self, gone: Self) -> impl Iterator<Item = Self> {
        let below = Self { end: self.end.min(gone.start), ..self };
        let above = Self { start: self.start.max(gone.end), ..self };
        [below, above].into_iter().filter(|left| left.start < left.end)
    }
}

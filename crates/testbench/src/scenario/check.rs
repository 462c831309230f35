// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks the steps as a sequence: what is attached and mapped when a step begins.

use std::collections::BTreeMap;

use super::source::Source;
use super::{Action, Answer, PAGE, Scenario, Step, Substream};

/// Notes every step that can't do what it says. `None` is a step with a mistake in it: nothing is
/// certain after it, so only what is wrong without it is noted.
pub(super) fn sequence(source: &Source<'_>, scenario: &Scenario, steps: &[Option<Step>]) {
    let mut attached = Attached::default();
    let mut released: Vec<Option<usize>> = vec![None; scenario.processes.len()];
    let mut mapped: Vec<Vec<Mapping>> = vec![Vec::new(); scenario.spaces()];
    // What was taken out stays the devices' until they were told.
    let mut deferred: Vec<Vec<(u64, u64)>> = vec![Vec::new(); scenario.spaces()];
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
            Action::Attach { answer: Answer::Refused(_), .. }
            | Action::Bind { answer: Answer::Refused(_), .. } => {}
            Action::Attach { master, pasid, .. } => {
                let user = (master, pasid.map_or(Substream::None, Substream::Pasid));
                attached.insert(user, (1, step.line));
            }
            Action::Detach { master, pasid } => {
                let user = (master, pasid.map_or(Substream::None, Substream::Pasid));
                let what = match pasid {
                    None => format!("master \"{}\"", scenario.masters[master].name),
                    Some(pasid) => {
                        format!("PASID {pasid} of master \"{}\"", scenario.masters[master].name)
                    }
                };
                match attached.insert(user, (0, step.line)) {
                    Some((1.., _)) => {}
                    None => wrong(format!("{what} was never attached; attach it first")),
                    Some((0, line)) => wrong(format!("{what} was detached on line {line} already")),
                }
            }
            Action::Bind { process, master, answer } => {
                let bonds = attached.entry((master, Substream::Process(process))).or_default();
                *bonds = (bonds.0 + 1, step.line);
                if let Some(line) = released[process].filter(|_| answer == Answer::Done) {
                    let name = scenario.space(scenario.domains.len() + process);
                    wrong(format!(
                        "process \"{name}\" was released on line {line}; write refused = \"released\", or \
                         replace it first"
                    ));
                }
            }
            Action::Unbind { process, master } => {
                let name = scenario.space(scenario.domains.len() + process);
                let to = &scenario.masters[master].name;
                match attached.get_mut(&(master, Substream::Process(process))) {
                    Some((bonds @ 1.., line)) => (*bonds, *line) = (*bonds - 1, step.line),
                    None => wrong(format!(
                        "process \"{name}\" was never bound to master \"{to}\"; bind it first"
                    )),
                    Some((0, line)) => wrong(format!(
                        "process \"{name}\" was unbound from master \"{to}\" on line {line} already"
                    )),
                }
            }
            Action::Release { process } => {
                if let Some(line) = released[process].replace(step.line) {
                    let name = scenario.space(scenario.domains.len() + process);
                    wrong(format!("process \"{name}\" was released on line {line} already"));
                }
            }
            Action::Replace { process } => {
                released[process] = None;
                attached.retain(|(_, substream), _| *substream != Substream::Process(process));
                mapped[scenario.domains.len() + process].clear();
            }
            Action::Defer { domain: space, iova, length } => {
                deferred[space].push((iova, length));
            }
            Action::Flush { domain: space } => {
                for (iova, length) in std::mem::take(&mut deferred[space]) {
                    unmap(&mut mapped[space], iova, length, step.line);
                }
            }
            Action::Map { domain: space, iova, length, .. } => {
                map(scenario, &mut mapped, space, iova, length, step.line)
                    .into_iter()
                    .for_each(wrong);
            }
            Action::ProcessMap { process, iova, length, .. } => {
                let space = scenario.domains.len() + process;
                map(scenario, &mut mapped, space, iova, length, step.line)
                    .into_iter()
                    .for_each(wrong);
            }
            Action::Cut { domain: space, iova, length, must: false }
            | Action::Unmap { domain: space, iova, length }
            | Action::Take { domain: space, iova, length, .. } => {
                unmap(&mut mapped[space], iova, length, step.line);
            }
            Action::ProcessUnmap { process, iova, length } => {
                unmap(&mut mapped[scenario.domains.len() + process], iova, length, step.line);
            }
            // Masters may have what they had, and domains are empty.
            Action::HandOver { .. } => mapped.iter_mut().for_each(Vec::clear),
            Action::Random(ref random) => {
                for (space, mappings) in mapped.iter().enumerate() {
                    let start = scenario.base(space) | random.iova;
                    // In the upper half the last page is left out.
                    let end = start.saturating_add(random.pages * PAGE);
                    let window = Mapping { start, end, line: step.line };
                    if let Some(old) = mappings.iter().find(|old| old.overlaps(window)) {
                        wrong(format!(
                            "the window of random, {start:#x} to {:#x}, overlaps what line {} mapped in \
                             {}; give random another iova",
                            end - 1,
                            old.line,
                            named(scenario, space)
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

/// How often each user was attached, and the line where that changed last.
type Attached = BTreeMap<(usize, Substream), (usize, usize)>;

/// `domain "net"`
fn named(scenario: &Scenario, space: usize) -> String {
    let kind = if space < scenario.domains.len() { "domain" } else { "process" };
    format!("{kind} \"{}\"", scenario.space(space))
}

/// Notes a mapping; what is wrong with it.
fn map(
    scenario: &Scenario,
    mapped: &mut [Vec<Mapping>],
    space: usize,
    iova: u64,
    length: u64,
    line: usize,
) -> Option<String> {
    let unit = scenario.unit(space);
    if !(iova | length).is_multiple_of(unit) {
        return Some(format!(
            "{length:#x} bytes at {iova:#x} are not whole pages of {}, which have {} KiB",
            named(scenario, space),
            unit >> 10
        ));
    }
    let new = Mapping { start: iova, end: iova + length, line };
    let wrong = mapped[space].iter().find(|old| old.overlaps(new)).map(|old| {
        format!(
            "{iova:#x} to {:#x} of {} overlaps what line {} mapped; unmap that first",
            new.end - 1,
            named(scenario, space),
            old.line
        )
    });
    mapped[space].push(new);
    wrong
}

fn unmap(mapped: &mut Vec<Mapping>, iova: u64, length: u64, line: usize) {
    let gone = Mapping { start: iova, end: iova + length, line };
    *mapped = mapped.iter().flat_map(|old| old.without(gone)).collect();
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

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a scenario expects of the DMA before.

use super::{EXPECTATION, Run, Wrong};
use crate::bench::{Done, FaultKey};
use crate::operation::Operation;
use crate::scenario::Action;

impl Run<'_> {
    /// A DMA of the scenario that was refused although no expectation follows.
    pub(super) fn unexpected(
        &self,
        number: usize,
        operation: &Operation,
        done: &Done,
    ) -> Option<Wrong> {
        if done.refused == 0
            || !matches!(operation, Operation::Write { .. } | Operation::Read { .. })
        {
            return None;
        }
        let next = self.scenario.steps.get(number + 1..)?.iter().map(|step| &step.action).next();
        let expected =
            matches!(next, Some(Action::ExpectFault { .. } | Action::ExpectBlocked { .. }));
        (!expected).then(|| {
            let text = format!("{}: refused", operation.describe(self.scenario));
            Wrong::new(EXPECTATION, "a DMA without expectation succeeds", text)
        })
    }

    /// Checks an expectation: what it says, and what is wrong with it.
    pub(super) fn check(&self, action: &Action) -> (String, Option<Wrong>) {
        let wrong =
            |text: String| Some(Wrong::new(EXPECTATION, "what the scenario expects happens", text));
        match action {
            Action::ExpectFault { master, substream, iova, event, write, stalled } => {
                let access = if *write { "write" } else { "read" };
                let name = self.scenario.masters.get(*master).map_or("?", |master| &*master.name);
                let stall = if *stalled { ", stalled" } else { "" };
                let text =
                    format!("{} for the {access} of {name} at {iova:#x}{stall}", event.name());
                let page = iova & !0xfff;
                let matches = |fault: &FaultKey| {
                    // Others say no address and no direction.
                    fault.event == *event
                        && (!event.is_translation_fault()
                            || fault.write == *write && fault.page == page)
                };
                let found = self.last.as_ref().is_some_and(|(last, done)| {
                    *last == (*master, *substream)
                        && done.faults.iter().any(matches)
                        && *stalled == (done.stalled > 0)
                });
                let got = self.last.as_ref().map_or(String::new(), |(_, done)| describe(done));
                let wrong = (!found).then(|| format!("expected {text}; got {got}")).and_then(wrong);
                (format!("expect {text}"), wrong)
            }
            Action::ExpectBlocked { master, substream } => {
                let name = self.scenario.masters.get(*master).map_or("?", |master| &*master.name);
                let silent = self.last.as_ref().is_some_and(|(last, done)| {
                    *last == (*master, *substream)
                        && done.refused == done.accesses
                        && done.faults.is_empty()
                });
                let got = self.last.as_ref().map_or(String::new(), |(_, done)| describe(done));
                let wrong = (!silent)
                    .then(|| format!("{name} should be blocked silently; got {got}"))
                    .and_then(wrong);
                (format!("expect that {name} is blocked, silently"), wrong)
            }
            Action::ExpectData { memory, offset, data } => {
                let name = self.scenario.memories.get(*memory).map_or("?", |memory| &*memory.name);
                let text = format!("{} bytes in {name} at {offset:#x}", data.len());
                let pa = self.bench.memories.get(*memory).map_or(0, |base| base + offset);
                let mut found = vec![0; data.len()];
                let wrong = match self.machine.ram().read(pa, &mut found) {
                    Ok(()) if found == *data => None,
                    Ok(()) => wrong(format!(
                        "expected {} in {name}, found {}",
                        data.escape_ascii(),
                        found.escape_ascii()
                    )),
                    Err(error) => wrong(error.to_string()),
                };
                (format!("expect {text}"), wrong)
            }
            _ => (String::new(), None),
        }
    }
}

/// What a read must have brought, of a device or of what devices wrote, and a question as its answer.
pub(super) fn read(action: &Action, done: &Done) -> Option<Wrong> {
    if let Action::Dirty { expect: Some(expect), .. }
    | Action::Accessed { expect: Some(expect), .. }
    | Action::Take { expect: Some(expect), .. } = action
    {
        let how = if matches!(action, Action::Accessed { .. }) { "accessed" } else { "written" };
        let pages = |(start, bytes): &(u64, u64)| (*start..*start + *bytes).step_by(0x1000);
        let found: Vec<u64> = done.reported.iter().flat_map(pages).collect();
        return (found != *expect).then(|| {
            let text = format!("expected {expect:#x?} to have been {how}, got {found:#x?}");
            Wrong::new(EXPECTATION, "what the scenario expects happens", text)
        });
    }
    if let Action::Translate { refused: Some(expected), .. } = action {
        return (done.asked != Some(*expected)).then(|| {
            let text =
                format!("expected that {} is the answer, got {}", expected.name(), done.outcome);
            Wrong::new(EXPECTATION, "what the scenario expects happens", text)
        });
    }
    let Action::Read { expect: Some(expect), .. } = action else { return None };
    (done.data != *expect).then(|| {
        let text =
            format!("expected to read {}, got {}", expect.escape_ascii(), done.data.escape_ascii());
        Wrong::new(EXPECTATION, "what the scenario expects happens", text)
    })
}

fn describe(done: &Done) -> String {
    match done.faults.first() {
        Some(fault) => format!("{} at {:#x}", fault.event.name(), fault.page),
        None if done.refused > 0 => "a silent refusal".to_owned(),
        None => "a successful access".to_owned(),
    }
}

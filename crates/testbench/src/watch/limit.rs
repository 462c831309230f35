// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an instance bears of commands, because of its errata or as firmware says (§19).

use std::collections::BTreeMap;

use smmuv3_formats::command::{Sync, completion};
use smmuv3_formats::{Command, Opcode};

use super::Watch;
use crate::oracle::Rule;
use crate::scenario::Quirks;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Limit {
    /// The most commands of a batch, before its CMD_SYNC. Answers are in none.
    batch: Option<usize>,
    /// No prefetch commands.
    no_prefetch: bool,
    /// Events for WFE get lost: who waits for that of a CMD_SYNC sleeps until something else happens.
    no_events: bool,
    /// Commands of each queue since its last CMD_SYNC.
    since: BTreeMap<usize, usize>,
}

impl Limit {
    /// Of an instance.
    pub(crate) fn of(quirks: &Quirks) -> Self {
        Self {
            batch: quirks.part.largest_batch(),
            no_prefetch: quirks.forbids_prefetch(),
            no_events: !quirks.part.has_events(),
            since: BTreeMap::new(),
        }
    }
}

impl Watch {
    /// A command that the instance does not bear is misuse.
    pub(super) fn bears(&mut self, (instance, queue): (usize, usize), command: Command) {
        let Some(limit) = self.limits.get_mut(instance) else { return };
        let opcode = command.opcode();
        let since = limit.since.entry(queue).or_default();
        *since = match opcode {
            Some(Opcode::Sync) => 0,
            Some(Opcode::Resume | Opcode::PriResp) => *since,
            _ => *since + 1,
        };
        let prefetches = matches!(opcode, Some(Opcode::PrefetchConfig | Opcode::PrefetchAddr));
        let asks = opcode == Some(Opcode::Sync) && Sync(command.0).cs() == completion::SEV;
        let text = match limit.batch {
            _ if asks && limit.no_events => format!("{command}, whose event gets lost"),
            _ if prefetches && limit.no_prefetch => format!("{command}, which firmware forbids"),
            Some(most) if *since > most => {
                format!("{since} commands without a CMD_SYNC; it bears {most}")
            }
            _ => return,
        };
        self.oracle.accuse(Rule::Misuse, format_args!("instance {instance} got {text}"));
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Steps that answer transactions that have stalled.

use super::Reader;
use crate::scenario::source::Fields;
use crate::scenario::{Action, Reply};

impl Reader<'_> {
    pub(super) fn answer_stall(&self, fields: &Fields<'_>) -> Option<Action> {
        let master = self.master(fields);
        let reply = match fields.need("reply", "\"retry\"") {
            Some(_) => fields.word("reply", &Reply::ALL.map(|reply| (reply.name(), reply))),
            None => None,
        };
        let (master, reply) = (master?, reply?);
        if !self.scenario.stalls(master) {
            fields.source.wrong_at(
                fields.places().of("master"),
                format!(
                    "master \"{}\" does not stall; give it stalls = true, and its instance stalls = 16",
                    self.names.masters[master]
                ),
            );
        }
        Some(Action::Answer { master, reply })
    }
}

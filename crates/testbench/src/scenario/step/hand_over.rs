// SPDX-License-Identifier: MIT OR Apache-2.0
//! The step in which another kernel takes over.

use super::Reader;
use crate::scenario::Action;
use crate::scenario::read::lookup;
use crate::scenario::source::Fields;

impl Reader<'_> {
    pub(super) fn hand_over(&self, fields: &Fields<'_>) -> Option<Action> {
        let Some(value) = fields.get("lose") else {
            return Some(Action::HandOver { lost: Vec::new() });
        };
        let names = fields.list("lose", value)?.iter();
        let lost = names.map(|name| lookup(fields, "lose", &self.names.masters, name));
        let mut lost = lost.collect::<Option<Vec<usize>>>()?;
        lost.sort_unstable();
        lost.dedup();
        Some(Action::HandOver { lost })
    }
}

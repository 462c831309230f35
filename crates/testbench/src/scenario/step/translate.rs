// SPDX-License-Identifier: MIT OR Apache-2.0
//! Steps that ask an SMMU what an address translates to.

use smmuv3_formats::EventId;

use super::Reader;
use crate::scenario::Action;
use crate::scenario::source::Fields;

impl Reader<'_> {
    pub(super) fn translate(&self, fields: &Fields<'_>) -> Option<Action> {
        let master = self.master(fields);
        let substream = self.substream(fields);
        let iova = self.address(fields);
        let write = match fields.get("access") {
            Some(_) => fields.word("access", &[("read", false), ("write", true)])?,
            None => false,
        };
        let events: Vec<_> = EventId::ALL.iter().map(|event| (event.name(), *event)).collect();
        let refused = match fields.get("refused") {
            Some(_) => Some(fields.word("refused", &events)?),
            None => None,
        };
        let (master, substream, iova) = (master?, substream?, iova?);
        if !self.scenario.answers(master) {
            fields.source.wrong_at(
                fields.places().of("master"),
                format!(
                    "the instance of master \"{}\" cannot be asked; give it atos = true",
                    self.names.masters[master]
                ),
            );
        }
        Some(Action::Translate { master, substream, iova, write, refused })
    }
}

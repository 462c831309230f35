// SPDX-License-Identifier: MIT OR Apache-2.0
//! Steps of devices that ask for pages, and of whoever answers them.

use super::Reader;
use crate::scenario::source::Fields;
use crate::scenario::{Action, Grant, Substream};

/// Most pages of a group: PRGs are small.
const MOST: u64 = 512;

impl Reader<'_> {
    pub(super) fn ask(&self, fields: &Fields<'_>) -> Option<Action> {
        let (master, substream) = (self.asking(fields), self.substream(fields));
        let iova = fields.bytes("iova", fields.need("iova", "0x10000")?);
        let pages = fields.number("pages", 1..=MOST).unwrap_or(1);
        let write = match fields.get("access") {
            Some(_) => fields.word("access", &[("read", false), ("write", true)])?,
            None => false,
        };
        let unfinished = fields.flag("unfinished").unwrap_or(false);
        let (master, substream, iova) = (master?, substream?, iova?);
        Some(Action::Ask { master, substream, iova, pages, write, unfinished })
    }

    pub(super) fn grant(&self, fields: &Fields<'_>) -> Option<Action> {
        let master = self.asking(fields);
        let reply = match fields.need("reply", "\"success\"") {
            Some(_) => fields.word("reply", &Grant::ALL.map(|grant| (grant.name(), grant))),
            None => None,
        };
        Some(Action::Grant { master: master?, grant: reply? })
    }

    pub(super) fn stop(&self, fields: &Fields<'_>) -> Option<Action> {
        let (master, substream) = (self.asking(fields), self.substream(fields));
        let (master, substream) = (master?, substream?);
        if substream == Substream::None {
            let right = "a device stops to use a PASID; give pasid or process";
            fields.source.wrong_at(fields.places().whole, right);
        }
        Some(Action::Stop { master, substream })
    }

    /// A master that may ask.
    fn asking(&self, fields: &Fields<'_>) -> Option<usize> {
        let master = self.master(fields)?;
        if !self.scenario.masters.get(master)?.pri {
            fields.source.wrong_at(
                fields.places().of("master"),
                format!(
                    "master \"{}\" asks for no pages; give it ats = true and pri = true, and its instance, too",
                    self.names.masters[master]
                ),
            );
        }
        Some(master)
    }
}

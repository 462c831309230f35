// SPDX-License-Identifier: MIT OR Apache-2.0
//! Steps that attach masters to domains, or bind them to processes.

use super::Reader;
use crate::scenario::read::unknown;
use crate::scenario::source::{Fields, Value};
use crate::scenario::{Action, Answer, Refusal, Substream, Target};

impl Reader<'_> {
    pub(super) fn attach(&self, fields: &Fields<'_>) -> Option<Action> {
        let master = self.master(fields);
        let value = fields.need("domain", "\"shared\"");
        let pasid = self.pasid(fields);
        let answer = self.answer(fields);
        let value = value?;
        let domain = match fields.text("domain", value)? {
            "identity" => Target::Identity,
            "blocked" => Target::Blocked,
            name => match self.names.domains.iter().position(|known| known == name) {
                Some(index) => Target::Domain(index),
                None => {
                    let reserved = ["identity", "blocked"];
                    fields.wrong(value, unknown("domain", name, &self.names.domains, &reserved));
                    return None;
                }
            },
        };
        let master = master?;
        if pasid.is_some() && domain == Target::Identity {
            fields.wrong(value, "a PASID can't be attached to identity; attach it to a domain");
        }
        if pasid.is_some() {
            self.has_substreams(fields, master, answer);
        }
        if let Target::Domain(first) = domain {
            let instance = self.scenario.masters.get(master)?.instance;
            if answer == Answer::Done && self.scenario.is_misfit(first, instance) {
                let wrong = format!(
                    "instance \"{}\" of master \"{}\" can't walk the tables of domain \"{}\"; write \
                     refused = \"mismatch\", or give it the stage, the granule and the sizes",
                    self.scenario.instances.get(instance)?.name,
                    self.names.masters[master],
                    self.scenario.space(first)
                );
                fields.wrong(value, wrong);
            }
            self.count(fields, first, pasid);
        }
        Some(Action::Attach { master, pasid, domain, answer })
    }

    /// Notes that this attach stands for several: of that many domains in a row, by as many PASIDs.
    fn count(&self, fields: &Fields<'_>, first: usize, pasid: Option<u32>) {
        let Some(count) = fields.number("count", 1..=u64::from(Substream::MOST_PASIDS)) else {
            return;
        };
        let domains = self.names.domains.len() - first;
        let most = pasid.map_or(0, |pasid| Substream::MOST_PASIDS.saturating_sub(pasid - 1));
        let wrong = if pasid.is_none() {
            Some("count needs pasid: a master has one domain without".to_owned())
        } else if count > domains as u64 {
            Some(format!("count = {count}, but there are {domains} domains from this one on"))
        } else if count > u64::from(most) {
            Some(format!("count = {count}, but there are {most} PASIDs from this one on"))
        } else {
            None
        };
        match wrong {
            Some(wrong) => fields.source.wrong_at(fields.places().of("count"), wrong),
            None => self.count.set(count as u32),
        }
    }

    pub(super) fn detach(&self, fields: &Fields<'_>) -> Option<Action> {
        let (master, pasid) = (self.master(fields), self.pasid(fields));
        Some(Action::Detach { master: master?, pasid })
    }

    pub(super) fn bind(&self, fields: &Fields<'_>) -> Option<Action> {
        let process = self.process(fields);
        let master = self.master(fields);
        let answer = self.answer(fields);
        let (process, master) = (process?, master?);
        let value = fields.get("process")?;
        self.has_substreams(fields, master, answer);
        self.walks(fields, value, master, answer)?;
        let instance = self.scenario.instances.get(self.scenario.masters.get(master)?.instance)?;
        if !instance.coherent && matches!(answer, Answer::Done) {
            fields.wrong(
                value,
                format!(
                    "instance \"{}\" of master \"{}\" is not coherent, which the tables of a process need; \
                     leave coherent out",
                    instance.name, self.names.masters[master]
                ),
            );
        }
        Some(Action::Bind { process, master, answer })
    }

    pub(super) fn unbind(&self, fields: &Fields<'_>) -> Option<Action> {
        let (process, master) = (self.process(fields), self.master(fields));
        Some(Action::Unbind { process: process?, master: master? })
    }

    pub(super) fn release(&self, fields: &Fields<'_>) -> Option<Action> {
        Some(Action::Release { process: self.process(fields)? })
    }

    pub(super) fn replace(&self, fields: &Fields<'_>) -> Option<Action> {
        Some(Action::Replace { process: self.process(fields)? })
    }

    /// What an attach or a bind comes to.
    fn answer(&self, fields: &Fields<'_>) -> Answer {
        let refusals = Refusal::NAMES.map(|(name, refusal)| (name, Answer::Refused(refusal)));
        let words = [&refusals[..], &[(Answer::JUDGED, Answer::Judged)]].concat();
        fields.word("refused", &words).unwrap_or_default()
    }

    /// Notes a master without substreams.
    fn has_substreams(&self, fields: &Fields<'_>, master: usize, answer: Answer) {
        if self.scenario.pasid_bits(master) == 0 && answer == Answer::Done {
            fields.source.wrong_at(
                fields.places().of("master"),
                format!(
                    "master \"{}\" has no PASIDs; give it pasid-bits, and its instance ssid-bits",
                    self.names.masters[master]
                ),
            );
        }
    }

    /// Notes an instance that cannot walk the tables of a process.
    fn walks(
        &self,
        fields: &Fields<'_>,
        value: &Value<'_>,
        master: usize,
        answer: Answer,
    ) -> Option<()> {
        let instance = self.scenario.instances.get(self.scenario.masters.get(master)?.instance)?;
        if answer == Answer::Done && !(instance.stage_1 && instance.granules.kib_4) {
            fields.wrong(
                value,
                format!(
                    "instance \"{}\" of master \"{}\" can't walk the tables of a process; it needs stages \
                     with 1 and granules with \"4K\"",
                    instance.name, self.names.masters[master]
                ),
            );
        }
        Some(())
    }
}

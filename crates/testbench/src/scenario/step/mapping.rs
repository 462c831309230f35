// SPDX-License-Identifier: MIT OR Apache-2.0
//! Steps that map and unmap.

use super::Reader;
use crate::scenario::read::lookup;
use crate::scenario::source::{Fields, Value};
use crate::scenario::{Access, Action, Answer, MemoryKind, PAGE, Rights};

impl Reader<'_> {
    pub(super) fn map(&self, fields: &Fields<'_>) -> Option<Action> {
        let domain = self.domain(fields);
        let mapping = self.mapping(fields, domain);
        let kind = fields.word("kind", &MemoryKind::WORDS).unwrap_or(MemoryKind::Normal);
        let rights = fields.word("rights", &Rights::WORDS).unwrap_or_default();
        let (iova, memory, offset, length, access) = mapping?;
        Some(Action::Map { domain: domain?, iova, memory, offset, length, access, kind, rights })
    }

    pub(super) fn process_map(&self, fields: &Fields<'_>) -> Option<Action> {
        let process = self.process(fields);
        let space = process.map(|process| self.names.domains.len() + process);
        let mapping = self.mapping(fields, space);
        let rights = fields.word("rights", &Rights::WORDS).unwrap_or_default();
        let (iova, memory, offset, length, access) = mapping?;
        let process = process?;
        Some(Action::ProcessMap { process, iova, memory, offset, length, access, rights })
    }

    /// What is mapped where, in `space` if that is known.
    fn mapping(
        &self,
        fields: &Fields<'_>,
        space: Option<usize>,
    ) -> Option<(u64, usize, u64, u64, Access)> {
        let iova = self.pages(fields, "iova", "0x10000");
        let memory = fields
            .need("memory", "\"rx\"")
            .and_then(|value| lookup(fields, "memory", &self.names.memories, value));
        let offset = match fields.get("offset") {
            Some(value) => fields.multiple("offset", PAGE, value),
            None => Some(0),
        };
        let length_value = fields.get("length");
        let given = length_value.map(|value| length(fields, value));
        let words = [("ro", Access::ReadOnly), ("rw", Access::ReadWrite)];
        let access = match fields.get("access") {
            Some(value) if value.get_ref().as_str() == Some("wo") => {
                fields.wrong(value, "access \"wo\": stage 1 can't allow writes alone; use \"rw\"");
                None
            }
            Some(_) => fields.word("access", &words),
            None => Some(Access::ReadWrite),
        };

        let (memory, offset) = (memory?, offset?);
        let size = self.scenario.memories.get(memory)?.size;
        let length = match given {
            Some(length) => length?,
            None => size.saturating_sub(offset),
        };
        if length == 0 || offset.checked_add(length).is_none_or(|end| end > size) {
            let name = &self.names.memories[memory];
            fields.source.wrong_at(
                fields.places().of(if length_value.is_some() { "length" } else { "offset" }),
                format!(
                    "map of {length:#x} bytes from offset {offset:#x} leaves memory \"{name}\", which has \
                     {size:#x} bytes"
                ),
            );
            return None;
        }
        let (space, iova) = (space?, iova?);
        self.inside(fields, space, iova, length)?;
        Some((iova, memory, offset, length, access?))
    }

    pub(super) fn unmap(&self, fields: &Fields<'_>) -> Option<Action> {
        let range = self.range(fields);
        let dirty = fields.flag("dirty").unwrap_or(false);
        if !dirty {
            let words = [(Answer::STRADDLE, true), (Answer::JUDGED, false)];
            let refused = fields.word("refused", &words);
            let (domain, iova, length) = range?;
            let Some(must) = refused else {
                return Some(Action::Unmap { domain, iova, length });
            };
            self.own_tables(fields, domain)?;
            return Some(Action::Cut { domain, iova, length, must });
        }
        let expect = written(fields)?;
        let (domain, iova, length) = range?;
        self.is_marked(fields, domain);
        Some(Action::Take { domain, iova, length, expect })
    }

    pub(super) fn process_unmap(&self, fields: &Fields<'_>) -> Option<Action> {
        let process = self.process(fields);
        let iova = self.pages(fields, "iova", "0x10000");
        let length = fields.need("length", "\"16K\"").and_then(|value| length(fields, value));
        let (process, iova, length) = (process?, iova?, length?);
        self.inside(fields, self.names.domains.len() + process, iova, length)?;
        Some(Action::ProcessUnmap { process, iova, length })
    }

    pub(super) fn unmap_deferred(&self, fields: &Fields<'_>) -> Option<Action> {
        let (domain, iova, length) = self.range(fields)?;
        self.own_tables(fields, domain)?;
        Some(Action::Defer { domain, iova, length })
    }

    pub(super) fn invalidate_all(&self, fields: &Fields<'_>) -> Option<Action> {
        let domain = self.domain(fields)?;
        self.own_tables(fields, domain)?;
        Some(Action::Flush { domain })
    }

    /// Whether the tables of a domain are the driver's.
    fn own_tables(&self, fields: &Fields<'_>, domain: usize) -> Option<()> {
        let over = self.scenario.domains.get(domain).and_then(|domain| domain.tables.over);
        if over.is_none() {
            return Some(());
        }
        let message = format!("the tables of \"{}\" are a guest's", self.scenario.space(domain));
        fields.source.wrong_at(fields.places().of("domain"), message);
        None
    }

    pub(super) fn reclaim(&self, fields: &Fields<'_>) -> Option<Action> {
        let (domain, iova, length) = self.range(fields)?;
        Some(Action::Reclaim { domain, iova, length })
    }

    pub(super) fn dirty(&self, fields: &Fields<'_>) -> Option<Action> {
        let range = self.range(fields);
        let expect = written(fields)?;
        let (domain, iova, length) = range?;
        self.is_marked(fields, domain);
        Some(Action::Dirty { domain, iova, length, expect })
    }

    pub(super) fn accessed(&self, fields: &Fields<'_>) -> Option<Action> {
        let range = self.range(fields);
        let expect = written(fields)?;
        let (domain, iova, length) = range?;
        if self.scenario.domains.get(domain).is_some_and(|domain| !domain.tables.access_flags) {
            let name = self.scenario.space(domain);
            let message = format!(
                "nobody marks what is accessed in domain \"{name}\"; write access-flags = true in it"
            );
            fields.source.wrong_at(fields.places().of("domain"), message);
        }
        Some(Action::Accessed { domain, iova, length, expect })
    }

    /// Hardware must mark what is written in `domain`.
    fn is_marked(&self, fields: &Fields<'_>, domain: usize) {
        if self.scenario.domains.get(domain).is_some_and(|domain| !domain.tables.dirty) {
            let name = self.scenario.space(domain);
            let message = format!(
                "nobody marks what is written in domain \"{name}\"; write dirty = true in it"
            );
            fields.source.wrong_at(fields.places().of("domain"), message);
        }
    }

    /// A domain, and a range of pages in it.
    fn range(&self, fields: &Fields<'_>) -> Option<(usize, u64, u64)> {
        let domain = self.domain(fields);
        let iova = self.pages(fields, "iova", "0x10000");
        let length = fields.need("length", "\"16K\"").and_then(|value| length(fields, value));
        let (domain, iova, length) = (domain?, iova?, length?);
        self.inside(fields, domain, iova, length)?;
        Some((domain, iova, length))
    }

    fn pages(&self, fields: &Fields<'_>, key: &'static str, example: &str) -> Option<u64> {
        fields.multiple(key, PAGE, fields.need(key, example)?)
    }
}

/// The pages that are to be reported as written, if that is said; `None` if it is wrong.
fn written(fields: &Fields<'_>) -> Option<Option<Vec<u64>>> {
    let Some(value) = fields.get("expect") else { return Some(None) };
    let numbers = fields.numbers("expect", 0..=u64::MAX, value)?;
    Some(Some(numbers.into_iter().map(|(page, _)| page & !(PAGE - 1)).collect()))
}

/// The length of a mapping.
fn length(fields: &Fields<'_>, value: &Value<'_>) -> Option<u64> {
    match fields.multiple("length", PAGE, value)? {
        0 => {
            fields.wrong(value, format!("length 0 in {}; the shortest is \"4K\"", fields.what));
            None
        }
        length => Some(length),
    }
}

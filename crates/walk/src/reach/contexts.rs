// SPDX-License-Identifier: MIT OR Apache-2.0
//! The contexts of a stream (§5.3, §6), and what is there without them.

use smmuv3_formats::event::class;
use smmuv3_formats::ste::config;
use smmuv3_formats::{CD_BYTES, Cd, L1Cd, Ste, legality};

use super::finding::{Holds, Kind, Owner};
use super::range::{Range, Ranges};
use super::{Space, Stream, Surveyor};
use crate::access::Access;
use crate::context_table::leaf;
use crate::describe;
use crate::memory::{Gap, Memory};
use crate::permissions::ALL;
use crate::stage::Use;
use crate::tables::{Context, Contexts, Stage2};
use crate::translate::{Walker, incoming};

/// Stage 2 of a stream, and everything that it leads to.
pub(super) struct Second {
    pub(super) stage: Stage2,
    pub(super) ranges: Ranges,
}

impl<M: Memory> Surveyor<'_, M> {
    /// Follows a legal STE that does not abort.
    pub(super) fn contexts(&mut self, found: &mut Stream) {
        let ste = found.ste;
        let owner = Owner { stream: found.stream, substream: None };
        let without = self.scope.substream.is_none();
        let second = match ste.config() {
            config::STAGE_2 | config::NESTED => match Stage2::of(&ste, self.smmu) {
                Ok(stage) => Some(stage),
                Err(what) => {
                    self.unsupported(owner, found.address, what);
                    return;
                }
            },
            _ => None,
        };
        if ste.config() & 0b001 == 0 {
            if without {
                self.without_stage_1(found, second);
            }
            return;
        }
        let contexts = Contexts::of(&ste, self.smmu);
        if without && contexts.log2 != 0 && contexts.s1_dss == 1 {
            self.without_stage_1(found, second);
        }
        let second = second.map(|stage| self.stage_2(owner, &ste, stage));
        let pointer = ste.s1_context_ptr();
        if pointer != contexts.table {
            self.findings.add(Kind::Misaligned, owner, Some(found.address), None, || {
                let used = contexts.table;
                format!("S1ContextPtr is {pointer:#x}, and hardware uses {used:#x}")
            });
        }
        // A substream outside the table has nothing.
        let one = self.scope.substream.map(u64::from).filter(|one| one >> contexts.log2 == 0);
        let count = 1u64 << contexts.log2;
        match (contexts.split, self.scope.substream) {
            (None, None) => {
                self.cds(found, &contexts, second.as_ref(), 0, contexts.table, 0..count)
            }
            (None, Some(_)) => {
                if let Some(one) = one {
                    self.cds(found, &contexts, second.as_ref(), 0, contexts.table, one..one + 1);
                }
            }
            (Some(split), _) => {
                let leaves = 1u64 << contexts.log2.saturating_sub(split);
                let range = match (self.scope.substream, one) {
                    (None, _) => 0..leaves,
                    (Some(_), Some(one)) => one >> split..(one >> split) + 1,
                    (Some(_), None) => 0..0,
                };
                self.level_1_contexts(found, &contexts, second.as_ref(), split, range);
            }
        }
    }

    fn unsupported(&mut self, owner: Owner, address: u64, what: &'static str) {
        self.findings
            .add(Kind::Unsupported, owner, Some(address), None, || format!("not followed: {what}"));
    }

    /// Accesses that no stage 1 translates.
    fn without_stage_1(&mut self, found: &mut Stream, second: Option<Stage2>) {
        let owner = Owner { stream: found.stream, substream: None };
        match second {
            None => {
                let mut ranges = Ranges::new(1);
                let bits = self.smmu.implementation.output_bits().min(63);
                ranges.push(Range {
                    input: 0,
                    bytes: 1 << bits,
                    output: 0,
                    permissions: ALL,
                    attributes: incoming(&found.ste, self.smmu).output(),
                    second: None,
                });
                self.findings.add(Kind::Bypass, owner, Some(found.address), None, || {
                    "it bypasses translation: it reaches all memory, tables as well".to_owned()
                });
                let (ranges, bytes) = (ranges.take().0, 1 << bits);
                let meaning = "no translation".to_owned();
                self.push(
                    found,
                    Space { bypass: true, meaning, ranges, bytes, ..Space::default() },
                );
            }
            Some(stage) => {
                let words = found.ste.0;
                let key = ([words[0] & 0xf, words[1], words[2], words[3]], None);
                if let Some((same, bytes)) = self.known.get(&key).copied() {
                    let same_as = Some((same.stream, same.substream));
                    let meaning = "stage 2".to_owned();
                    self.push(found, Space { meaning, same_as, bytes, ..Space::default() });
                    return;
                }
                let second = self.stage_2(owner, &found.ste, stage);
                self.know(key, owner, second.ranges.bytes());
                self.space(found, None, "stage 2".to_owned(), second.ranges);
            }
        }
    }

    /// Follows stage 2.
    fn stage_2(&mut self, owner: Owner, ste: &Ste, stage: Stage2) -> Second {
        let mut ranges = Ranges::new(self.room());
        self.aligned(owner, "S2TTB", ste.s2_ttb(), stage.tables.root);
        if stage.tables.form.pie {
            self.unsupported(owner, stage.tables.root, "permission indirection of stage 2");
        } else {
            self.second_tables(owner, &stage, incoming(ste, self.smmu), &mut ranges);
        }
        Second { stage, ranges }
    }

    /// Ranges that may still be kept.
    pub(super) fn room(&self) -> usize {
        self.limits.ranges.saturating_sub(self.ranges)
    }

    fn aligned(&mut self, owner: Owner, name: &'static str, raw: u64, used: u64) {
        if raw != used {
            self.findings.add(Kind::Misaligned, owner, Some(raw), None, || {
                format!("{name} is {raw:#x}, and hardware uses {used:#x}")
            });
        }
    }

    /// Where memory that stage 1 knows as `address` is, up to a 4 KiB boundary.
    pub(super) fn physical(
        &mut self,
        owner: Owner,
        second: Option<&Second>,
        address: u64,
        class: u64,
    ) -> Option<u64> {
        let Some(second) = second else { return Some(address) };
        let access = Access::read(owner.stream, address);
        let mut walker = Walker::new(self.memory, self.smmu, access);
        match walker.stage_2(&second.stage, address, Use::fetch(class)) {
            Ok(found) => Some(found.address),
            Err(_) => {
                self.findings.add(Kind::Unreachable, owner, Some(address), None, || {
                    let what = if class == class::CD { "the context" } else { "the stage-1 table" };
                    format!(
                        "stage 2 does not lead to {what} at the intermediate address {address:#x}"
                    )
                });
                None
            }
        }
    }

    /// Reads words that may not be there.
    pub(super) fn words(&mut self, owner: Owner, at: u64, words: &mut [u64]) -> bool {
        match self.memory.read_words(at, words) {
            Ok(()) => true,
            Err((at, gap)) => {
                let kind = if gap == Gap::Abort { Kind::Unreachable } else { Kind::Missing };
                self.findings.add(kind, owner, Some(at), None, || match gap {
                    Gap::Abort => format!("nothing answers at {at:#x}"),
                    Gap::Missing => format!("the image does not have {at:#x}"),
                });
                false
            }
        }
    }

    /// The leaves `range` of a table of contexts with two levels.
    fn level_1_contexts(
        &mut self,
        found: &mut Stream,
        contexts: &Contexts,
        second: Option<&Second>,
        split: u32,
        range: core::ops::Range<u64>,
    ) {
        let owner = Owner { stream: found.stream, substream: None };
        for index in range {
            if !self.another() {
                return;
            }
            let address = contexts.table + 8 * index;
            let Some(at) = self.physical(owner, second, address, class::CD) else { continue };
            let mut word = [0];
            if !self.words(owner, at, &mut word) {
                continue;
            }
            self.structures.add(at, 8, Holds::Contexts);
            let descriptor = L1Cd(word);
            let pointer = descriptor.l2_ptr();
            if !descriptor.v() {
                continue;
            }
            let Some(table) = leaf(descriptor, split, second.is_some(), self.smmu) else {
                self.findings.add(Kind::BeyondSize, owner, Some(at), None, || {
                    format!("L2Ptr {pointer:#x} of a level-1 descriptor is beyond the address size")
                });
                continue;
            };
            if table != pointer {
                self.findings.add(Kind::Misaligned, owner, Some(at), None, || {
                    format!("L2Ptr is {pointer:#x}, and hardware uses {table:#x}")
                });
            }
            self.node(2, format!("L1CD {index:#x}"), at, &describe::l1_cd(descriptor));
            let count = (1u64 << contexts.log2.min(split)) - 1;
            let within = match self.scope.substream {
                None => 0..count + 1,
                Some(one) => (u64::from(one) & count)..(u64::from(one) & count) + 1,
            };
            self.cds(found, contexts, second, index << split, table, within);
        }
    }

    /// CDs `range` of an array whose first is for substream `first`.
    fn cds(
        &mut self,
        found: &mut Stream,
        contexts: &Contexts,
        second: Option<&Second>,
        first: u64,
        table: u64,
        range: core::ops::Range<u64>,
    ) {
        let owner = Owner { stream: found.stream, substream: None };
        let mut index = range.start;
        let mut here = None;
        while index < range.end && self.another() {
            let address = table + index * CD_BYTES as u64;
            // A page of CDs is in one place.
            if index == range.start || address.is_multiple_of(4096) {
                here = self.physical(owner, second, address, class::CD).map(|at| {
                    let bytes = (range.end - index) * CD_BYTES as u64;
                    self.structures.add(at, bytes.min(4096 - (address & 0xfff)), Holds::Contexts);
                    at - (address & 0xfff)
                });
            }
            let per_page = 4096 / CD_BYTES as u64;
            let Some(page) = here else {
                index = (index / per_page + 1) * per_page;
                continue;
            };
            let at = page + (address & 0xfff);
            let mut words = [0; 8];
            if !self.words(owner, at, &mut words) {
                index = (index / per_page + 1) * per_page;
                continue;
            }
            let cd = Cd(words);
            let substream = (first + index) as u32;
            if cd.v() {
                let zero_is_without = contexts.log2 == 0 || contexts.s1_dss == 2;
                let number = (substream != 0 || !zero_is_without).then_some(substream);
                self.context(found, number, at, cd, second);
            }
            index += 1;
        }
    }

    /// Follows one CD.
    fn context(
        &mut self,
        found: &mut Stream,
        substream: Option<u32>,
        at: u64,
        cd: Cd,
        second: Option<&Second>,
    ) {
        let owner = Owner { stream: found.stream, substream };
        let meaning = describe::cd(&cd);
        let label = substream.map_or("CD".to_owned(), |substream| format!("CD {substream:#x}"));
        self.node(2, label, at, &meaning);
        if let Err(rule) = legality::cd(&cd, &found.ste, &self.smmu.implementation) {
            self.findings
                .add(Kind::Illegal, owner, Some(at), None, || format!("the CD is illegal: {rule}"));
            return;
        }
        legality::cd_reserved(&cd, Some(&self.smmu.implementation), &mut |rule| {
            self.findings.add(Kind::ReservedBits, owner, Some(at), None, || format!("CD: {rule}"));
        });
        let context = match Context::of(&cd, &found.ste, self.smmu) {
            Ok(context) => context,
            Err(what) => {
                self.unsupported(owner, at, what);
                return;
            }
        };
        let ste = found.ste.0;
        let nested = found.ste.config() == config::NESTED;
        // The STE counts where stage 2 is, and for its world (STRW), what it makes of accesses (PRIVCFG,
        // INSTCFG) and whether permissions may be indirect (S1PIE).
        const COUNTS: u64 = 3 << 30 | 0b1111 << 48 | 1 << 24;
        let counts =
            if nested { [0xf, ste[1], ste[2], ste[3]] } else { [0xb, ste[1] & COUNTS, 0, 0] };
        let key = (counts, Some(cd.0));
        if let Some((same, bytes)) = self.known.get(&key).copied() {
            let same_as = Some((same.stream, same.substream));
            self.push(found, Space { substream, meaning, same_as, bytes, ..Space::default() });
            return;
        }
        let mut ranges = Ranges::new(self.room());
        let ttbs = [("TTB0", cd.ttb0(), cd.epd0()), ("TTB1", cd.ttb1(), cd.epd1())];
        for (half, (name, raw, disabled)) in context.halves.iter().zip(ttbs) {
            if half.disabled {
                if raw != 0 && disabled {
                    self.findings.add(Kind::Unused, owner, Some(raw), None, || {
                        format!("{name} is set, and walks from it are switched off (EPD)")
                    });
                }
                continue;
            }
            self.aligned(owner, name, raw, half.stage.tables.root);
            let input = half.stage.tables.input_bits;
            let base = if name == "TTB1" { !crate::smmu::low(input) } else { 0 };
            self.first_tables(owner, &half.stage, base, second, &mut ranges);
        }
        self.know(key, owner, ranges.bytes());
        self.space(found, substream, meaning, ranges);
    }
}

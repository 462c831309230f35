// SPDX-License-Identifier: MIT OR Apache-2.0
//! One stage of translation: down its tables, and what its leaf allows (§9, §14 to §16).

use smmuv3_formats::EventId;
use smmuv3_formats::descriptor::{Meaning, Stage, Stage1Page, Stage2Page};
use smmuv3_formats::event::class;
use smmuv3_formats::permission::{Limits, Permissions};

use crate::attributes::{self, Attributes, MemoryType, Shareability};
use crate::describe;
use crate::memory::Memory;
use crate::outcome::What;
use crate::permissions::{self, allow, writable};
use crate::smmu::{beyond, low};
use crate::tables::{Stage1, Stage2, Tables};
use crate::translate::{Cause, Stop, Walker};

/// For what stage 2 translates.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Use {
    /// `CLASS` of its faults.
    pub(crate) class: u64,
    /// The types that the access brings.
    pub(crate) incoming: Attributes,
}

impl Use {
    /// For a fetch of the SMMU itself.
    pub(crate) const fn fetch(class: u64) -> Self {
        Self { class, incoming: Attributes::INCOMING }
    }
}

/// Where a stage leads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) address: u64,
    pub(crate) bytes_log2: u32,
    pub(crate) permissions: Permissions,
    pub(crate) attributes: Attributes,
    /// The descriptor that hardware marks as written if this is written: it is writable-clean.
    pub(crate) clean: Option<u64>,
}

/// The leaf at the end of the tables.
struct Leaf {
    word: u64,
    level: i8,
    address: u64,
    limits: Limits,
    /// What stage 2 says of the table that holds it.
    table: Option<Found>,
    /// The address of the descriptor, as stage 1 knows it.
    at: u64,
}

impl<M: Memory> Walker<'_, M> {
    /// Goes down the tables to the leaf for `address`, which is in range.
    fn descend(
        &mut self,
        tables: &Tables,
        had: bool,
        address: u64,
        second: Option<&Stage2>,
        cause: Cause,
        mut meaning: impl FnMut(u64, i8, Meaning) -> String,
    ) -> Result<Leaf, Stop> {
        let (mut level, mut table, mut limits) = (tables.start, tables.root, Limits::default());
        loop {
            let index = tables.index(address, level);
            let at = table + 8 * index;
            let ipa = second.map(|_| at);
            let step = self.step(What::Descriptor(tables.stage()), Some(level), index, ipa, None);
            let found = match second {
                None => None,
                Some(second) => {
                    Some(self.below(|walker| walker.stage_2(second, at, Use::fetch(class::TABLE)))?)
                }
            };
            let physical = found.map_or(at, |found| found.address);
            self.locate(step, physical);
            // An abort on a table of stage 1 has its own class (§10.2).
            let class = if tables.stage() == Stage::One { class::TABLE } else { cause.class };
            let why = "a translation table cannot be read";
            let id = EventId::FWalkEabt;
            let abort = Cause { id, why, class, fetch: Some(physical), ..cause };
            let [raw] = self.fetch(step, physical, abort)?;
            let word = tables.word(raw);
            let entry = tables.form(level).read(word);
            self.mean(step, meaning(word, level, entry));
            match entry {
                Meaning::Invalid => {
                    let why = "the descriptor is invalid";
                    return Err(Cause { id: EventId::FTranslation, why, ..cause }.into());
                }
                Meaning::Reserved => {
                    let why = "the descriptor has a reserved encoding";
                    return Err(Cause { id: EventId::FTranslation, why, ..cause }.into());
                }
                Meaning::Table { next, .. } | Meaning::Leaf { address: next, .. }
                    if beyond(next, tables.output_bits) =>
                {
                    let why = "the descriptor's address is beyond the output size";
                    return Err(Cause { id: EventId::FAddrSize, why, ..cause }.into());
                }
                Meaning::Table { next, limits: more } => {
                    if !had {
                        limits = limits.with(more);
                    }
                    (level, table) = (level + 1, next);
                }
                Meaning::Leaf { address, .. } => {
                    return Ok(Leaf { word, level, address, limits, table: found, at });
                }
            }
        }
    }

    /// Stage 1 for the access; `va` is in range and without the bits that do not count.
    pub(crate) fn stage_1(
        &mut self,
        stage: &Stage1,
        va: u64,
        second: Option<&Stage2>,
    ) -> Result<Found, Stop> {
        let cause = Cause::new(EventId::FTranslation, "");
        let leaf =
            self.descend(&stage.tables, stage.had, va, second, cause, |word, level, entry| {
                describe::stage_1(stage, word, level, entry)
            })?;
        let page = Stage1Page([leaf.word]);
        let access_update = !page.af() && stage.tables.access;
        if !page.af() && stage.tables.access_flag_faults && !stage.tables.access {
            let why = "the access flag is clear, and hardware does not set it";
            return Err(Cause { id: EventId::FAccess, why, ..cause }.into());
        }
        let permissions = permissions::stage_1(leaf.word, leaf.limits, stage);
        if !allow(&permissions, &self.access) {
            let why = "stage 1 does not allow the access";
            return Err(Cause { id: EventId::FPermission, why, ..cause }.into());
        }
        let dirty_update =
            self.access.write && permissions::stage_1_writable_clean(leaf.word, leaf.limits, stage);
        if access_update || dirty_update {
            // Hardware writes the descriptor, and stage 2 has a say in that (§14).
            if leaf.table.is_some_and(|table| !writable(&table.permissions)) {
                return Err(Cause {
                    id: EventId::FPermission,
                    s2: true,
                    class: class::TABLE,
                    ipa: Some(leaf.at),
                    ttrnw: false,
                    why: "stage 2 does not let the stage-1 descriptor be updated",
                    ..cause
                }
                .into());
            }
            if let Some(at) = leaf.table.and_then(|table| table.clean) {
                self.update(Stage::Two, at, false, true);
            }
            self.update(Stage::One, leaf.at, access_update, dirty_update);
        }
        let memory = if stage.aie && leaf.word >> 59 & 1 == 1 {
            MemoryType::Unknown
        } else {
            // An index of three bits selects one of eight bytes.
            attributes::mair((stage.mair >> (8 * page.attr_index())) as u8)
        };
        let shareability =
            if stage.tables.sh_elsewhere() { stage.sh } else { Shareability::from_code(page.sh()) };
        Ok(found(&stage.tables, &leaf, va, permissions, Attributes { memory, shareability }))
    }

    /// Stage 2 for `ipa`.
    pub(crate) fn stage_2(&mut self, stage: &Stage2, ipa: u64, r#use: Use) -> Result<Found, Stop> {
        let why = "the intermediate address is beyond the input size of stage 2";
        let cause = Cause {
            s2: true,
            class: r#use.class,
            ipa: Some(ipa),
            ..Cause::new(EventId::FTranslation, why)
        };
        if beyond(ipa, stage.tables.input_bits) {
            return Err(cause.into());
        }
        let leaf = self.descend(&stage.tables, true, ipa, None, cause, |word, level, entry| {
            describe::stage_2(stage, word, level, entry)
        })?;
        let page = Stage2Page([leaf.word]);
        let access_update = !page.af() && stage.tables.access;
        if !page.af() && stage.tables.access_flag_faults && !stage.tables.access {
            let why = "the access flag is clear at stage 2, and hardware does not set it";
            return Err(Cause { id: EventId::FAccess, why, ..cause }.into());
        }
        if stage.tables.form.pie {
            return Err(Stop::Unsupported(
                "permission indirection of stage 2 (STE.S2PIE): what indices permit is in the register \
                 S2PII, whose fields are not known here",
            ));
        }
        let permissions = permissions::stage_2(leaf.word, stage);
        let input = r#use.class == class::INPUT;
        let allowed =
            if input { allow(&permissions, &self.access) } else { permissions.privileged.read };
        if !allowed {
            let why = "stage 2 does not allow the access";
            return Err(Cause { id: EventId::FPermission, why, ..cause }.into());
        }
        let shareability =
            if stage.tables.sh_elsewhere() { stage.sh } else { Shareability::from_code(page.sh()) };
        let own = attributes::stage_2(
            Attributes::INCOMING,
            page.mem_attr(),
            shareability,
            stage.tables.form.fwb,
        );
        if !input && stage.ptw && matches!(own.memory, MemoryType::Device(_)) {
            let why = "a table of stage 1 or a context is in Device memory (S2PTW = 1)";
            return Err(Cause { id: EventId::FPermission, why, ..cause }.into());
        }
        let clean = permissions::stage_2_writable_clean(leaf.word, stage);
        let dirty_update = clean && input && self.access.write;
        if access_update || dirty_update {
            self.update(Stage::Two, leaf.at, access_update, dirty_update);
        }
        let attributes = attributes::stage_2(
            r#use.incoming,
            page.mem_attr(),
            shareability,
            stage.tables.form.fwb,
        );
        let found = found(&stage.tables, &leaf, ipa, permissions, attributes);
        Ok(Found { clean: clean.then_some(leaf.at), ..found })
    }

    fn update(&mut self, stage: Stage, at: u64, access: bool, dirty: bool) {
        let bits = match (access, dirty) {
            (true, true) => "sets the access flag and marks as written",
            (true, false) => "sets the access flag of",
            _ => "marks as written",
        };
        let text = format!(
            "hardware {bits} the stage-{} descriptor at {at:#x}",
            if stage == Stage::One { 1 } else { 2 }
        );
        if !self.updates.contains(&text) {
            self.updates.push(text);
        }
    }
}

fn found(
    tables: &Tables,
    leaf: &Leaf,
    input: u64,
    permissions: Permissions,
    attributes: Attributes,
) -> Found {
    let bytes_log2 = tables.span(leaf.level);
    let address = leaf.address | (input & low(bytes_log2));
    Found { address, bytes_log2, permissions, attributes, clean: None }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Address spaces of a scenario, and what instances can walk.

use std::fmt::{self, Write};

use smmuv3_formats::granule::Granule;

use super::source::Fields;
use super::{ContextLayout, Instance, PAGE, Places, Scenario, WithoutPasid};

/// Words for granules.
const GRANULES: [(&str, Granule); 3] =
    [("4K", Granule::K4), ("16K", Granule::K16), ("64K", Granule::K64)];

/// An address space.
#[derive(Clone, Debug)]
pub struct Domain {
    /// Its name, unique among domains.
    pub name: String,
    /// Bits of its input addresses (IOVAs): 32 to 52.
    pub input_bits: u32,
    /// Its tables.
    pub tables: Tables,
    /// Where it stands in the file.
    pub places: Places,
}

impl Domain {
    /// The most that `count` stands for.
    pub const MOST: u64 = 4096;
}

/// The tables of a domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// They are for stage 2.
    pub stage_2: bool,
    /// Stage 1: its addresses are those of the upper half (TTB1).
    pub upper: bool,
    /// Their granule; `None` for the smallest that all instances have.
    pub granule: Option<Granule>,
    /// Bits of output addresses; 0 for as many as all instances have, 48 at most.
    pub output_bits: u32,
    /// Level of the first table, where there is a choice.
    pub start_level: Option<i8>,
    /// Maps set the contiguous hint.
    pub contiguous: bool,
    /// Unmaps may cut blocks.
    pub splitting: bool,
    /// The VMID that a hypervisor chose.
    pub vmid: Option<u16>,
    /// Hardware marks what devices write.
    pub dirty: bool,
    /// Mappings begin as never accessed, and hardware marks those that are.
    pub access_flags: bool,
    /// Mappings may be of all types, and have all rights.
    pub all_attributes: bool,
    /// Stage 2: types are those of mappings, whatever devices say (S2FWB).
    pub forced_types: bool,
    /// They are a guest's, whose memory is this domain of stage 2. Whatever is mapped leads to the same address there.
    pub over: Option<usize>,
    /// Such domains are over it.
    pub guests: bool,
    /// Of a guest's memory: how many stalled transactions its SMMUs are shown at once, where they stall; 0 for none.
    pub guest_stalls: u32,
    /// Of stage 2: how many groups of page requests the guest over it is shown at once; 0 for an SMMU without.
    pub guest_pages: u32,
    /// Of a guest's memory: how its contexts lie, where devices have PASIDs; `None` for one context each, and no PASIDs.
    pub guest_contexts: Option<ContextLayout>,
    /// Of a guest's: what becomes of accesses without a PASID where there are such contexts.
    pub without_pasid: WithoutPasid,
}

/// What an instance can walk beyond what its granules say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walks {
    /// 52-bit addresses with 4 and 16 KiB (IDR5.DS).
    pub lpa2: bool,
    /// 52-bit input addresses (IDR5.VAX).
    pub wide_input: bool,
    /// What it bears of changes of size (IDR3.BBML).
    pub bbml: u32,
    /// What it marks of mappings (IDR0.HTTU): nothing, accesses, writes too.
    pub httu: u32,
}

impl Walks {
    /// Neither is wide; `bbml` as a version with range invalidation has it, or not.
    pub const fn usual(range_invalidation: bool) -> Self {
        let bbml = if range_invalidation { 2 } else { 0 };
        Self { lpa2: false, wide_input: false, bbml, httu: 0 }
    }

    pub(super) fn read(fields: &Fields<'_>, range_invalidation: bool) -> Self {
        let usual = Self::usual(range_invalidation);
        // The architecture's version that has range invalidation has some of it.
        let bbml = fields.number("bbml", u64::from(range_invalidation)..=2);
        Self {
            lpa2: fields.flag("lpa2").unwrap_or(false),
            wide_input: fields.flag("wide-input").unwrap_or(false),
            bbml: bbml.map_or(usual.bbml, |bbml| bbml as u32),
            httu: fields.number("httu", 0..=2).unwrap_or(0) as u32,
        }
    }

    pub(super) fn write(&self, out: &mut String, range_invalidation: bool) -> fmt::Result {
        let usual = Self::usual(range_invalidation);
        if self.lpa2 {
            writeln!(out, "lpa2 = true")?;
        }
        if self.wide_input {
            writeln!(out, "wide-input = true")?;
        }
        if self.bbml != usual.bbml {
            writeln!(out, "bbml = {}", self.bbml)?;
        }
        if self.httu != 0 { writeln!(out, "httu = {}", self.httu) } else { Ok(()) }
    }
}

/// Bits of input addresses of a domain that does not say.
fn usual_bits(tables: &Tables, instances: &[Instance]) -> u32 {
    if !tables.stage_2 {
        return 48;
    }
    let second = instances.iter().filter(|instance| instance.stage_2);
    second.map(|instance| instance.oas).min().unwrap_or(48).min(48)
}

/// Reads a domain, but for its name.
pub(super) fn read(fields: &Fields<'_>, name: String, instances: &[Instance]) -> Domain {
    let stages = 1..=2;
    let tables = Tables {
        stage_2: fields.number("stage", stages) == Some(2),
        upper: fields.flag("upper-half").unwrap_or(false),
        granule: fields.word("granule", &GRANULES),
        output_bits: fields.number("output-bits", 32..=52).unwrap_or(0) as u32,
        start_level: fields.number("start-level", 0..=3).map(|level| level as i8),
        contiguous: fields.flag("contiguous").unwrap_or(false),
        splitting: fields.flag("splitting").unwrap_or(false),
        vmid: fields.number("vmid", 1..=0xffff).map(|vmid| vmid as u16),
        dirty: fields.flag("dirty").unwrap_or(false),
        access_flags: fields.flag("access-flags").unwrap_or(false),
        all_attributes: fields.flag("all-attributes").unwrap_or(false),
        forced_types: fields.flag("forced-types").unwrap_or(false),
        over: None,
        guests: false,
        guest_stalls: fields.number("guest-stalls", 0..=0xffff).unwrap_or(0) as u32,
        guest_pages: fields.number("guest-page-requests", 0..=0xffff).unwrap_or(0) as u32,
        guest_contexts: fields.word("guest-contexts", &ContextLayout::WORDS),
        without_pasid: fields.word("without-pasid", &WithoutPasid::WORDS).unwrap_or_default(),
    };
    for (key, wrong, right) in [
        ("upper-half", tables.stage_2 && tables.upper, "has no halves; leave it out"),
        ("forced-types", !tables.stage_2 && tables.forced_types, "needs stage = 2"),
        ("guest-stalls", !tables.stage_2 && tables.guest_stalls > 0, "needs stage = 2"),
        ("guest-page-requests", !tables.stage_2 && tables.guest_pages > 0, "needs stage = 2"),
        ("guest-contexts", !tables.stage_2 && tables.guest_contexts.is_some(), "needs stage = 2"),
    ] {
        if wrong {
            let value = if key.starts_with("guest-") { "" } else { " = true" };
            let message = format!("{key}{value} in {} {right}", fields.what);
            fields.source.wrong_at(fields.places().of(key), message);
        }
    }
    let usual = usual_bits(&tables, instances);
    let input_bits = fields.number("input-bits", 32..=52).map_or(usual, |bits| bits as u32);
    Domain { name, input_bits, tables, places: fields.places() }
}

/// Writes a domain, but for its name.
pub(super) fn write(
    out: &mut String,
    it: &Domain,
    over: Option<&str>,
    instances: &[Instance],
) -> fmt::Result {
    let Tables {
        stage_2,
        upper,
        granule,
        output_bits,
        start_level,
        contiguous,
        splitting,
        vmid,
        dirty,
        access_flags,
        all_attributes,
        forced_types,
        guest_stalls,
        guest_pages,
        guest_contexts,
        without_pasid,
        ..
    } = it.tables;
    if let Some(over) = over {
        writeln!(out, "over = \"{over}\"")?;
    }
    if stage_2 {
        writeln!(out, "stage = 2")?;
    }
    if let Some((word, _)) = GRANULES.iter().find(|(_, it)| Some(*it) == granule) {
        writeln!(out, "granule = \"{word}\"")?;
    }
    if it.input_bits != usual_bits(&it.tables, instances) {
        writeln!(out, "input-bits = {}", it.input_bits)?;
    }
    if output_bits != 0 {
        writeln!(out, "output-bits = {output_bits}")?;
    }
    if let Some(level) = start_level {
        writeln!(out, "start-level = {level}")?;
    }
    if contiguous {
        writeln!(out, "contiguous = true")?;
    }
    if splitting {
        writeln!(out, "splitting = true")?;
    }
    for (key, has) in [
        ("upper-half", upper),
        ("dirty", dirty),
        ("access-flags", access_flags),
        ("all-attributes", all_attributes),
        ("forced-types", forced_types),
    ] {
        if has {
            writeln!(out, "{key} = true")?;
        }
    }
    if guest_stalls != 0 {
        writeln!(out, "guest-stalls = {guest_stalls}")?;
    }
    if guest_pages != 0 {
        writeln!(out, "guest-page-requests = {guest_pages}")?;
    }
    if let Some((word, _)) = ContextLayout::WORDS.iter().find(|(_, it)| Some(*it) == guest_contexts)
    {
        writeln!(out, "guest-contexts = \"{word}\"")?;
    }
    let said = without_pasid != WithoutPasid::default();
    if let Some((word, _)) = WithoutPasid::WORDS.iter().find(|(_, it)| said && *it == without_pasid)
    {
        writeln!(out, "without-pasid = \"{word}\"")?;
    }
    vmid.map_or(Ok(()), |vmid| writeln!(out, "vmid = {vmid}"))
}

impl Instance {
    /// What it marks of mappings, as firmware says if it does (IDR0.HTTU).
    pub fn httu(&self) -> u32 {
        self.quirks.firmware_httu.unwrap_or(self.walks.httu)
    }

    /// Whether it can put a guest's stage 1 over a stage 2.
    pub fn nests(&self) -> bool {
        self.stage_1 && self.stage_2 && self.quirks.nests()
    }

    /// Whether entries can skip stage 1 beside contexts (S1DSS): devices can have ATS there, too.
    pub const fn skips(&self) -> bool {
        self.stage_1 && self.ssid_bits > 0
    }

    /// Whether it has a granule.
    pub fn has_granule(&self, granule: Granule) -> bool {
        match granule {
            Granule::K4 => self.granules.kib_4,
            Granule::K16 => self.granules.kib_16,
            Granule::K64 => self.granules.kib_64,
        }
    }
}

impl Scenario {
    /// The granule of an address space: of a domain that does not say, the smallest that all instances with its stage
    /// have, or if there is none, that any has.
    pub fn granule(&self, space: usize) -> Granule {
        let Some(domain) = self.domains.get(space) else { return Granule::K4 };
        let has_stage =
            |it: &&Instance| if domain.tables.stage_2 { it.stage_2 } else { it.stage_1 };
        let with = || self.instances.iter().filter(has_stage);
        let common = || Granule::ALL.into_iter().find(|it| with().all(|of| of.has_granule(*it)));
        let any = || Granule::ALL.into_iter().find(|it| with().any(|of| of.has_granule(*it)));
        domain
            .tables
            .granule
            .or_else(|| if with().next().is_some() { common().or(any()) } else { None })
            .unwrap_or(Granule::K4)
    }

    /// Bytes of the smallest thing that can be mapped in an address space.
    pub fn unit(&self, space: usize) -> u64 {
        PAGE << (self.granule(space).shift() - 12)
    }

    /// Whether an instance cannot walk the tables of a domain.
    pub fn is_misfit(&self, domain: usize, instance: usize) -> bool {
        let (Some(it), Some(of)) = (self.domains.get(domain), self.instances.get(instance)) else {
            return false;
        };
        if let Some(over) = it.tables.over {
            let forced = of.stalls > 0 && of.forced_stalls;
            let shown = self.domains.get(over).is_some_and(|it| it.tables.guest_stalls > 0);
            let nests = of.stage_1 && of.quirks.nests() && (!forced || shown);
            return !nests || self.is_misfit(over, instance);
        }
        let granule = self.granule(domain);
        let outputs = self.instances.iter().map(|instance| instance.oas);
        let wide = it.input_bits > 48 || it.tables.output_bits > 48;
        let output = match it.tables.output_bits {
            0 => outputs.min().unwrap_or(48).min(if wide { 52 } else { 48 }),
            bits => bits,
        };
        let has_wide = if granule == Granule::K64 { of.oas > 48 } else { of.walks.lpa2 };
        let (has_stage, input) = if it.tables.stage_2 {
            (of.stage_2, of.oas)
        } else {
            (of.stage_1, if of.walks.wide_input { 52 } else { 48 })
        };
        !has_stage
            || !of.has_granule(granule)
            || it.input_bits > input
            || output > of.oas
            || wide && !has_wide
            || it.tables.dirty && (of.httu() < 2 || !of.coherent)
            || it.tables.access_flags && (of.httu() < 1 || !of.coherent)
            || it.tables.forced_types && !of.range_invalidation
    }

    /// The first address of an address space: 0, or that of the upper half.
    pub fn base(&self, space: usize) -> u64 {
        let upper = self.domains.get(space).is_some_and(|domain| domain.tables.upper);
        if upper { u64::MAX << self.input_bits(space) } else { 0 }
    }

    /// The largest alignment that mappings of domains need.
    pub(crate) fn largest_unit(&self) -> u64 {
        (0..self.domains.len()).map(|space| self.unit(space)).max().unwrap_or(PAGE)
    }
}

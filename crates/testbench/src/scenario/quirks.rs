// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an instance does otherwise than most: how it terminates, which part it is, what firmware says of it, and what is
//! reached while it is off.

use std::fmt::{self, Write};

use smmuv3::{Firmware, Overrides};
use smmuv3_formats::register::Iidr;

use super::attributes;
use super::queues::word;
use super::source::Fields;

/// See the module. The default is what most are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quirks {
    /// Whether a terminated transaction is aborted is the context's to say (IDR0.TERM_MODEL = 0).
    pub silent_termination: bool,
    /// Which part it says it is (IIDR).
    pub part: Part,
    /// The registers of page 1 are in page 0, and firmware says so.
    pub one_page: bool,
    /// Firmware forbids prefetch commands.
    pub no_prefetch: bool,
    /// Firmware says this in place of IDR0.HTTU.
    pub firmware_httu: Option<u32>,
    /// It can override types and shareability (IDR1.ATTR_TYPES_OVR).
    pub type_overrides: bool,
    /// It can override privilege and what reads are for (IDR1.ATTR_PERMS_OVR).
    pub permission_overrides: bool,
    /// While it is off, all memory is reached, with these attributes.
    pub while_off: Option<Overrides>,
}

/// A part that has errata.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// None of those.
    #[default]
    Other,
    /// MMU-600 r0p0: 1076982, 1209401.
    Mmu600R0,
    /// MMU-600 r1p0: 1209401.
    Mmu600R1,
    /// MMU-700 r0p0: 2812531, 2268618, and no broadcasts.
    Mmu700R0,
    /// MMU-700 r1p1: no broadcasts.
    Mmu700R1,
    /// MMU-L1: no broadcasts.
    MmuL1,
    /// MMU-S3: no broadcasts.
    MmuS3,
    /// HiSilicon 161x: no prefetch commands, as firmware says, and messages of 64 bits. Its IIDR names nothing.
    Hi161x,
}

/// Words for parts.
const PARTS: [(&str, Part); 8] = [
    ("other", Part::Other),
    ("mmu-600-r0p0", Part::Mmu600R0),
    ("mmu-600-r1p0", Part::Mmu600R1),
    ("mmu-700-r0p0", Part::Mmu700R0),
    ("mmu-700-r1p1", Part::Mmu700R1),
    ("mmu-l1", Part::MmuL1),
    ("mmu-s3", Part::MmuS3),
    ("hi161x", Part::Hi161x),
];

impl Part {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Other,
        Self::Mmu600R0,
        Self::Mmu600R1,
        Self::Mmu700R0,
        Self::Mmu700R1,
        Self::MmuL1,
        Self::MmuS3,
        Self::Hi161x,
    ];

    /// What its IIDR says (§19).
    pub fn iidr(self) -> Iidr {
        let arm = |product, variant, revision| {
            let iidr = Iidr::default().with_implementer(0x43b).with_product_id(product);
            iidr.with_variant(variant).with_revision(revision)
        };
        match self {
            Self::Other | Self::Hi161x => Iidr::default(),
            Self::Mmu600R0 => arm(0x483, 0, 0),
            Self::Mmu600R1 => arm(0x483, 1, 0),
            Self::Mmu700R0 => arm(0x487, 0, 0),
            Self::Mmu700R1 => arm(0x487, 1, 1),
            Self::MmuL1 => arm(0x48a, 0, 0),
            Self::MmuS3 => arm(0x498, 0, 0),
        }
    }

    /// Its events for WFE come (1076982).
    pub const fn has_events(self) -> bool {
        !matches!(self, Self::Mmu600R0)
    }

    /// The most commands that it bears before a CMD_SYNC (2812531).
    pub const fn largest_batch(self) -> Option<usize> {
        match self {
            Self::Mmu700R0 => Some(62),
            _ => None,
        }
    }
}

impl Quirks {
    /// Whether both stages may be on for a stream.
    pub const fn nests(&self) -> bool {
        !matches!(self.part, Part::Mmu600R0 | Part::Mmu600R1 | Part::Mmu700R0)
    }

    /// Firmware forbids prefetch commands.
    pub const fn forbids_prefetch(&self) -> bool {
        self.no_prefetch || matches!(self.part, Part::Hi161x)
    }

    /// What the driver is told of it.
    pub fn firmware(&self) -> Firmware {
        let mut firmware = Firmware::NONE;
        firmware.no_prefetch = self.forbids_prefetch();
        firmware.page_0_only = self.one_page;
        // The field has 2 bits.
        firmware.httu = self.firmware_httu.map(|httu| httu as u8);
        firmware
    }

    /// Reads them.
    pub(super) fn read(fields: &Fields<'_>) -> Self {
        let flag = |key| fields.flag(key).unwrap_or(false);
        let off = [("abort", false), ("bypass", true)];
        Self {
            silent_termination: flag("silent-termination"),
            part: fields.word("part", &PARTS).unwrap_or_default(),
            one_page: flag("one-page"),
            no_prefetch: flag("no-prefetch"),
            firmware_httu: fields.number("firmware-httu", 0..=2).map(|httu| httu as u32),
            type_overrides: flag("type-overrides"),
            permission_overrides: flag("permission-overrides"),
            while_off: {
                let bypass = fields.word("while-off", &off).unwrap_or(false);
                let overrides = attributes::read(fields);
                bypass.then_some(overrides)
            },
        }
    }

    /// Writes what is not as usual.
    pub(super) fn write(&self, out: &mut String) -> fmt::Result {
        for (key, has) in [
            ("silent-termination", self.silent_termination),
            ("one-page", self.one_page),
            ("no-prefetch", self.no_prefetch),
            ("type-overrides", self.type_overrides),
            ("permission-overrides", self.permission_overrides),
        ] {
            if has {
                writeln!(out, "{key} = true")?;
            }
        }
        if self.part != Part::Other {
            writeln!(out, "part = \"{}\"", word(&PARTS, &self.part))?;
        }
        if let Some(httu) = self.firmware_httu {
            writeln!(out, "firmware-httu = {httu}")?;
        }
        if let Some(overrides) = &self.while_off {
            writeln!(out, "while-off = \"bypass\"")?;
            attributes::write(out, overrides)?;
        }
        Ok(())
    }
}

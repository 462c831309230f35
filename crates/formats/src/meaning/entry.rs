// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stream table and context descriptor fields (§5, §6).

use super::common::*;
use super::{Text, Whole};
use crate::granule::{Granule, Tables};

/// What a field of L1STD, STE, L1CD or CD is.
pub(super) fn field(name: &str) -> Option<&'static str> {
    Some(match name {
        "Span" => "size of the second-level table",
        "L2Ptr" => "address of the second-level table",
        "V" => "valid",
        "Config" => "what becomes of transactions",
        "S1Fmt" => "shape of the table of contexts",
        "S1ContextPtr" => "address of the context descriptor or of their table",
        "S1CDMax" => "how many contexts",
        "S1DSS" => "transactions without a substream",
        "S1CIR" => "inner cacheability of context fetches",
        "S1COR" => "outer cacheability of context fetches",
        "S1CSH" => "shareability of context fetches",
        "S2HWU59" | "S2HWU60" | "S2HWU61" | "S2HWU62" => "stage-2 leaf bit is hardware's (PBHA)",
        "DRE" => "destructive reads allowed",
        "CONT" => "equal neighbours, a hint to cache them as one",
        "DCP" => "directed cache prefetch allowed",
        "PPAR" => "automatic page request responses carry the PASID",
        "MEV" => "equal events may be merged",
        "SW_RESERVED" => "software's",
        "S1PIE" => "contexts may use indirect permissions",
        "S2FWB" => "stage 2 forces memory types",
        "S1MPAM" => "stage-1 partition identifiers are mapped",
        "S1STALLD" => "contexts may not stall",
        "EATS" => "address translation services for the device",
        "STRW" => "StreamWorld: whose translations these are",
        "MemAttr" => "memory type that replaces the incoming one",
        "MTCFG" => "whether MemAttr is used",
        "ALLOCCFG" => "cache allocation hints",
        "SHCFG" => "shareability",
        "NSCFG" => "security attribute (Secure and Realm streams)",
        "PRIVCFG" => "privilege",
        "INSTCFG" => "instruction or data",
        "IMPDEF1" | "IMPDEF2" | "IMPDEF4" | "IMPDEF5" => "implementation defined",
        "S2VMID" => "virtual machine that translations are tagged with",
        "S2T0SZ" => "size of intermediate addresses",
        "S2SL0" => "start level of stage-2 walks",
        "S2SL0_2" => "start level, bit 2",
        "S2IR0" => "inner cacheability of stage-2 walks",
        "S2OR0" => "outer cacheability of stage-2 walks",
        "S2SH0" => "shareability of stage-2 walks",
        "S2TG" => "stage-2 granule",
        "S2PS" => "size of physical addresses",
        "S2AA64" => "format of stage-2 tables",
        "S2ENDI" => "endianness of stage-2 tables",
        "S2AFFD" => "no stage-2 access flag faults",
        "S2PTW" => "stage-1 tables may not be in Device memory",
        "S2HD" => "hardware marks stage-2 pages dirty",
        "S2HA" => "hardware sets stage-2 access flags",
        "S2S" => "stage-2 faults stall",
        "S2R" => "stage-2 faults are recorded",
        "S2HAFT" => "hardware sets access flags of stage-2 tables",
        "S2PIE" => "stage-2 permissions are indirect",
        "S2POE" => "stage-2 permissions have overlays",
        "DPT_VMATCH" => "how device permission tables compare the VMID",
        "S2NSW" | "S2NSA" => "security of stage-2 walks and outputs (Secure)",
        "S2DS" => "52-bit addresses with small granules at stage 2 (LPA2)",
        "S2TTB" => "address of the first stage-2 table",
        "S2SKL" => "levels skipped (128-bit tables)",
        "PARTID" => "memory system partition",
        "S_S2T0SZ" => "size of Secure intermediate addresses",
        "S_S2SL0" => "start level of Secure stage-2 walks",
        "S_S2SL0_2" => "start level of Secure stage-2 walks, bit 2",
        "S_S2TG" => "Secure stage-2 granule",
        "S_S2TTB" => "address of the first Secure stage-2 table",
        "S_S2SKL" => "levels skipped, Secure (128-bit tables)",
        "MECID" => "memory encryption context",
        "PMG" => "performance monitoring group",
        "MPAM_NS" => "partition space is the Non-secure one",
        "AssuredOnly" => "stage-2 leaves carry AssuredOnly",
        "TL0" | "TL1" => "stage-1 tables of this half must be assured",
        "VMSPtr" => "address of the structure of the virtual machine",
        "S2SW" | "S2SA" => "security of Secure stage-2 walks and outputs",
        "S2POI" => "stage-2 permission overlays, by index",

        "T0SZ" => "size of addresses of the lower half",
        "T1SZ" => "size of addresses of the upper half",
        "TG0" => "granule of the lower half",
        "TG1" => "granule of the upper half",
        "IR0" | "IR1" => "inner cacheability of walks",
        "OR0" | "OR1" => "outer cacheability of walks",
        "SH0" | "SH1" => "shareability of walks",
        "EPD0" => "lower half is not walked",
        "EPD1" => "upper half is not walked",
        "ENDI" => "endianness of tables",
        "IPS" => "size of output addresses",
        "AFFD" => "no access flag faults",
        "WXN" => "what is writable is not executable",
        "UWXN" => "what is unprivileged writable is not privileged executable (AArch32)",
        "TBI0" => "top byte ignored in the lower half",
        "TBI1" => "top byte ignored in the upper half",
        "PAN" => "no privileged access to unprivileged memory",
        "AA64" => "format of tables",
        "HD" => "hardware marks pages dirty",
        "HA" => "hardware sets access flags",
        "S" => "faults stall",
        "R" => "faults are recorded",
        "A" => "faults abort",
        "ASET" => "ASID is not one of the processors'",
        "ASID" => "address space that translations are tagged with",
        "NSCFG0" | "NSCFG1" => "security of the first table (Secure)",
        "HAD0" | "HAD1" => "tables take no rights",
        "E0PD0" | "E0PD1" => "no unprivileged access to this half",
        "HAFT" => "hardware sets access flags of tables",
        "TTB0" => "address of the first table of the lower half",
        "TTB1" => "address of the first table of the upper half",
        "PnCH" => "contiguous bit means protected",
        "EPAN" => "PAN covers execute-only memory",
        "HWU059" | "HWU060" | "HWU061" | "HWU062" => {
            "leaf bit of the lower half is hardware's (PBHA)"
        }
        "HWU159" | "HWU160" | "HWU161" | "HWU162" => {
            "leaf bit of the upper half is hardware's (PBHA)"
        }
        "AIE" => "sixteen memory attributes",
        "DS" => "52-bit addresses with small granules (LPA2)",
        "PIE" => "permissions are indirect",
        "MAIR" => "memory types, by AttrIndx",
        "AMAIR" => "auxiliary memory attributes",
        "PIIU" => "unprivileged permissions, by index",
        "PIIP" => "privileged permissions, by index",
        _ => return None,
    })
}

/// What a value of one of their fields means.
pub(super) fn value(structure: &str, name: &str, value: u64, whole: &Whole<'_>) -> Option<Text> {
    match (structure, name) {
        ("L1STD", "Span") => match value {
            0 => plain("no streams"),
            1..=11 => Some(Text::power(value - 1, "STE", "STEs")),
            _ => plain("reserved: no streams"),
        },
        (_, "V") => either(value, "invalid", "valid"),
        ("STE", _) => stream(name, value, whole),
        ("CD", _) => context(name, value, whole),
        _ => None,
    }
}

fn stream(name: &str, value: u64, whole: &Whole<'_>) -> Option<Text> {
    let config = whole.get("Config");
    // With Config = 0xx nothing else counts; what else is set there may be what it is to become.
    let (stage_1, stage_2) = (config & 1 != 0, config & 2 != 0);
    let lpae = config >= 4 && stage_2 && !whole.is("S2AA64");
    let meaning = of_stream(name, value, whole, lpae)?;
    let other = match name.get(..2) {
        Some("S1") if !stage_1 => "unused (no stage 1)",
        // S2S decides about ATS with Config = 10x, too, on some instances.
        Some("S2") if !stage_2 => "unused (no stage 2)",
        _ => return Some(meaning),
    };
    if config >= 4 { plain(other) } else { Some(meaning) }
}

/// The same where its stage translates; `lpae` says that stage 2 does, with tables of the AArch32 format.
fn of_stream(name: &str, value: u64, whole: &Whole<'_>, lpae: bool) -> Option<Text> {
    match name {
        "Config" => choice(
            value,
            &[
                "abort, silently",
                "abort, silently",
                "abort, silently",
                "abort, silently",
                "bypass",
                "stage 1 translates",
                "stage 2 translates",
                "stage 1 translates, then stage 2",
            ],
        ),
        "S1Fmt" if !whole.is("S1CDMax") => plain("unused (one context)"),
        "S1Fmt" => choice(
            value,
            &[
                "linear",
                "2-level, leaves of 4 KiB (64 CDs)",
                "2-level, leaves of 64 KiB (1024 CDs)",
                "reserved: linear",
            ],
        ),
        "S1CDMax" if value == 0 => plain("1 CD, no substreams"),
        "S1CDMax" => Some(Text::power(value, "CD", "CDs")),
        "S1DSS" if !whole.is("S1CDMax") => plain("unused (no substreams)"),
        "S1DSS" => {
            choice(value, &["terminate", "bypass stage 1", "use CD 0", "reserved: terminate"])
        }
        "S1CIR" | "S1COR" => fetch_cacheability(value),
        "S1CSH" => walk_shareability(value, whole.is("S1CIR") || whole.is("S1COR")),
        "S2SH0" => walk_shareability(value, whole.is("S2IR0") || whole.is("S2OR0")),
        "CONT" if value == 0 => plain("this STE alone"),
        "CONT" => Some(Text::power(value, "STE", "STEs")),
        "EATS" => choice(
            value,
            &[
                "off",
                "full",
                "split-stage: the device gets intermediate addresses",
                "full, checked by the device permission table",
            ],
        ),
        "STRW" => choice(value, &["EL1", "reserved", "EL2, or EL2-E2H with CR2.E2H", "reserved"]),
        "MemAttr" => type_override(value, whole.is("MTCFG")),
        "MTCFG" => either(value, "as it comes in", "MemAttr"),
        "ALLOCCFG" => allocation(value),
        "SHCFG" => share_override(value),
        "NSCFG" => plain("unused (Non-secure)"),
        "PRIVCFG" => privilege_override(value),
        "INSTCFG" => instruction_override(value),
        "S1STALLD" => either(value, "contexts may stall", "a context with S = 1 is illegal"),
        // Four bits, of which the highest is the sign: 25 to 40 bits.
        "S2T0SZ" if lpae => Some(Text::bits(32 + (value & 8) - (value & 7))),
        "S2TG" if lpae => plain("unused (AArch32: 4 KiB)"),
        "S2PS" if lpae => plain("unused (AArch32: 40 bits)"),
        "S2T0SZ" | "S_S2T0SZ" => input_size(value),
        "S2SL0" => start_level(whole),
        "S2IR0" | "S2OR0" => walk_cacheability(value),
        "S2TG" | "S_S2TG" => granule_tg0(value),
        "S2PS" => address_size(value),
        "S2AA64" => either(value, "AArch32 (LPAE)", "AArch64"),
        "S2ENDI" => endianness(value),
        "S2AFFD" => access_flag_faults(value, whole.is("S2HA")),
        "S2HA" => either(value, "off", "on"),
        "S2HD" => dirty(value, whole.is("S2HA")),
        "S2PTW" => either(value, "allowed", "stage-2 permission fault"),
        "S2S" => either(value, "terminate", "stall"),
        "S2R" => recorded(value, whole.is("S2S")),
        _ => None,
    }
}

fn context(name: &str, value: u64, whole: &Whole<'_>) -> Option<Text> {
    let unused = match name {
        "T0SZ" | "TG0" | "IR0" | "OR0" | "SH0" => whole.is("EPD0"),
        "T1SZ" | "TG1" | "IR1" | "OR1" | "SH1" => whole.is("EPD1"),
        _ => false,
    };
    if unused {
        return plain("unused (not walked)");
    }
    let lpae = whole.is("V") && !whole.is("AA64");
    match name {
        // Three bits: 25 to 32 bits.
        "T0SZ" | "T1SZ" if lpae => Some(Text::bits(32 - (value & 7))),
        "TG0" | "TG1" if lpae => plain("unused (AArch32: 4 KiB)"),
        "IPS" if lpae => plain("unused (AArch32: 40 bits)"),
        "HA" | "HD" if lpae => plain("unused (AArch32)"),
        "T0SZ" | "T1SZ" => input_size(value),
        "TG0" => granule_tg0(value),
        "TG1" => granule_tg1(value),
        "IR0" | "IR1" | "OR0" | "OR1" => walk_cacheability(value),
        "SH0" => walk_shareability(value, whole.is("IR0") || whole.is("OR0")),
        "SH1" => walk_shareability(value, whole.is("IR1") || whole.is("OR1")),
        "EPD0" | "EPD1" => either(value, "walked", "not walked: F_TRANSLATION"),
        "ENDI" => endianness(value),
        "IPS" => address_size(value),
        "AFFD" => access_flag_faults(value, whole.is("HA")),
        "AA64" => either(value, "AArch32 (LPAE)", "AArch64"),
        "HA" => either(value, "off", "on"),
        "HD" => dirty(value, whole.is("HA")),
        "S" => either(value, "terminate", "stall"),
        "R" => recorded(value, whole.is("S")),
        "A" if whole.is("S") => plain("unused (faults stall)"),
        "A" => either(value, "reads give zero, writes are ignored", "abort"),
        "ASET" => either(value, "shared with the processors", "not shared with the processors"),
        "MAIR" => Some(Text::attributes(value)),
        "PIIP" | "PIIU" if whole.is("PIE") => Some(Text::permissions(value)),
        _ => None,
    }
}

/// Shareability of walks and fetches, which only cacheable ones have a choice of.
fn walk_shareability(value: u64, cacheable: bool) -> Option<Text> {
    if !cacheable {
        return plain("outer shareable (non-cacheable)");
    }
    choice(
        value,
        &["non-shareable", "reserved: non-shareable", "outer shareable", "inner shareable"],
    )
}

/// S2SL0 with what it depends on. Whether the instance has small tables and LPA2 is not known here: granted.
fn start_level(whole: &Whole<'_>) -> Option<Text> {
    if !whole.is("S2AA64") {
        return None;
    }
    let sl0 = whole.get("S2SL0") | whole.get("S2SL0_2") << 2;
    let tables = Granule::from_tg0(whole.get("S2TG")).and_then(|granule| {
        Tables::stage_2(granule, sl0, whole.get("S2T0SZ"), whole.is("S2DS"), true)
    });
    match tables {
        Some(tables) => Some(Text::start(tables.start_level(), tables.concatenated())),
        None => plain("does not go with S2T0SZ and S2TG"),
    }
}

fn access_flag_faults(disabled: u64, hardware: bool) -> Option<Text> {
    match (hardware, disabled) {
        (true, _) => plain("unused (hardware sets the flag)"),
        (_, 0) => plain("AF = 0 faults"),
        _ => plain("AF = 0 does not fault"),
    }
}

fn dirty(on: u64, access_flags: bool) -> Option<Text> {
    match (on, access_flags) {
        (0, _) => plain("off"),
        (_, true) => plain("on"),
        _ => plain("off (needs access flags by hardware too)"),
    }
}

fn recorded(on: u64, stalls: bool) -> Option<Text> {
    match (stalls, on) {
        (true, _) => plain("recorded (stalls always are)"),
        (_, 0) => plain("not recorded"),
        _ => plain("recorded"),
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was read, in words.

use smmuv3_formats::descriptor::{Meaning, Stage1Page, Stage2Page};
use smmuv3_formats::granule::Granule;
use smmuv3_formats::permission::Limits;
use smmuv3_formats::ste::config;
use smmuv3_formats::{Cd, L1Cd, L1Std, Ste};

use crate::attributes::{self, Attributes, Shareability};
use crate::permissions;
use crate::tables::{Stage1, Stage2};

/// `bytes` with the largest unit that divides it.
pub fn size(bytes_log2: u32) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let unit = UNITS.get(bytes_log2 as usize / 10).copied().unwrap_or("?");
    format!("{} {unit}", 1u32 << (bytes_log2 % 10))
}

pub(crate) fn l1_std(descriptor: L1Std, split: u32) -> String {
    match crate::stream_table::array(descriptor, split) {
        Ok((table, log2)) => format!("{} STEs at {table:#x}", 1u32 << log2),
        Err(_) if descriptor.span() == 0 => "invalid: no streams here".to_owned(),
        Err(_) => format!("Span {} is out of range: no streams here", descriptor.span()),
    }
}

pub(crate) fn ste(ste: &Ste) -> String {
    if !ste.v() {
        return "invalid (V = 0)".to_owned();
    }
    let what = match ste.config() {
        config::BYPASS => "bypass",
        config::STAGE_1 => "stage 1",
        config::STAGE_2 => "stage 2",
        config::NESTED => "stages 1 and 2",
        _ => return "abort".to_owned(),
    };
    let mut text = what.to_owned();
    if ste.config() & 0b001 != 0 {
        let kind = match (ste.s1_cd_max(), ste.s1_fmt()) {
            (0, _) => "one context".to_owned(),
            (max, 1) => format!("2^{max} contexts in two levels (4 KiB leaves)"),
            (max, 2) => format!("2^{max} contexts in two levels (64 KiB leaves)"),
            (max, _) => format!("2^{max} contexts"),
        };
        text += &format!(", {kind} at {:#x}", ste.s1_context_ptr());
        if ste.s1_cd_max() != 0 {
            text += match ste.s1_dss() {
                1 => ", without substream: bypass stage 1",
                2 => ", without substream: context 0",
                _ => ", without substream: terminate",
            };
        }
    }
    if ste.config() & 0b010 != 0 {
        let granule = Granule::from_tg0(ste.s2_tg())
            .map_or_else(|| "reserved granule".to_owned(), |granule| granule.to_string());
        text += &format!(
            ", VMID {}, stage-2 tables at {:#x} ({}-bit IPA, {granule})",
            ste.s2_vmid(),
            ste.s2_ttb(),
            64 - ste.s2_t0sz(),
        );
    }
    text
}

pub(crate) fn l1_cd(descriptor: L1Cd) -> String {
    if descriptor.v() {
        format!("contexts at {:#x}", descriptor.l2_ptr())
    } else {
        "invalid: no contexts here".to_owned()
    }
}

pub(crate) fn cd(cd: &Cd) -> String {
    if !cd.v() {
        return "invalid (V = 0)".to_owned();
    }
    let mut text = format!("ASID {}", cd.asid());
    let halves = [
        ("TTB0", cd.epd0(), cd.ttb0(), cd.t0sz(), Granule::from_tg0(cd.tg0())),
        ("TTB1", cd.epd1(), cd.ttb1(), cd.t1sz(), Granule::from_tg1(cd.tg1())),
    ];
    for (name, disabled, ttb, txsz, granule) in halves {
        if disabled {
            text += &format!(", {name} off");
            continue;
        }
        let granule =
            granule.map_or_else(|| "reserved granule".to_owned(), |granule| granule.to_string());
        text += &format!(", {name} {ttb:#x} ({}-bit, {granule})", 64 - txsz);
    }
    text
}

/// What both stages say of a descriptor that is no leaf.
fn not_a_leaf(entry: Meaning) -> Option<String> {
    match entry {
        Meaning::Invalid => Some("invalid".to_owned()),
        Meaning::Reserved => Some("reserved encoding: as if invalid".to_owned()),
        Meaning::Table { next, .. } => Some(format!("table at {next:#x}")),
        Meaning::Leaf { .. } => None,
    }
}

/// `4 KiB page at 0x1000`.
fn leaf(level: i8, entry: Meaning) -> String {
    let Meaning::Leaf { address, bytes_log2, .. } = entry else { return String::new() };
    let kind = if level == 3 { "page" } else { "block" };
    format!("{} {kind} at {address:#x}", size(bytes_log2))
}

pub(crate) fn stage_1(stage: &Stage1, word: u64, level: i8, entry: Meaning) -> String {
    if let Some(mut text) = not_a_leaf(entry) {
        if let Meaning::Table { limits, .. } = entry
            && !stage.had
            && !stage.tables.form.pie
        {
            let limits = [
                (limits.no_unprivileged, "no unprivileged access below"),
                (limits.no_write, "no writes below"),
                (limits.uxn, "UXN below"),
                (limits.pxn, "PXN below"),
            ];
            for (_, limit) in limits.iter().filter(|(set, _)| *set) {
                text += &format!(", {limit}");
            }
        }
        return text;
    }
    let page = Stage1Page([word]);
    // An index of three bits selects one of eight bytes.
    let memory = attributes::mair((stage.mair >> (8 * page.attr_index())) as u8);
    let sh =
        if stage.tables.sh_elsewhere() { stage.sh } else { Shareability::from_code(page.sh()) };
    let mut text = leaf(level, entry);
    text += &format!(", {}", permissions::stage_1(word, Limits::NONE, stage));
    if stage.tables.form.pie {
        text += " by index";
    }
    text += &format!(", {}", Attributes { memory, shareability: sh });
    for (set, name) in [
        (!page.af(), "AF clear"),
        (page.dbm() && !stage.tables.form.pie, "DBM"),
        (page.contiguous(), "contiguous"),
        (!page.ng() && !stage.regime.one_privilege, "global"),
    ] {
        if set {
            text += &format!(", {name}");
        }
    }
    text
}

pub(crate) fn stage_2(stage: &Stage2, word: u64, level: i8, entry: Meaning) -> String {
    if let Some(text) = not_a_leaf(entry) {
        return text;
    }
    let page = Stage2Page([word]);
    let sh =
        if stage.tables.sh_elsewhere() { stage.sh } else { Shareability::from_code(page.sh()) };
    let seen =
        attributes::stage_2(Attributes::INCOMING, page.mem_attr(), sh, stage.tables.form.fwb);
    let mut text = leaf(level, entry);
    text += &format!(", {}, {seen}", permissions::stage_2(word, stage));
    for (set, name) in
        [(!page.af(), "AF clear"), (page.dbm(), "DBM"), (page.contiguous(), "contiguous")]
    {
        if set {
            text += &format!(", {name}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes_have_units() {
        for (log2, text) in
            [(12, "4 KiB"), (21, "2 MiB"), (39, "512 GiB"), (52, "4 PiB"), (3, "8 B")]
        {
            assert_eq!(super::size(log2), text);
        }
    }
}

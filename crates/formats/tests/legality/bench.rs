// SPDX-License-Identifier: MIT OR Apache-2.0
//! The implementation, the legal entries and the table of changes that the rules are tested with.

use smmuv3_formats::legality::{Implementation, Rule};
use smmuv3_formats::{Cd, Layout, Ste};

/// Values for fields; a name may be `IDR0.S1P` for an ID register, or `E2H`.
pub type Changes<'a> = &'a [(&'a str, u64)];

/// `None`: accepted. Else the rule's number and the field it names.
pub type Verdict = Option<(&'static str, &'static str)>;

/// What is tried, on which hardware, with which change, and the verdict.
pub type Case<'a> = (&'a str, Changes<'a>, Changes<'a>, Verdict);

/// Both stages in both formats, 52-bit addresses, every feature that a rule asks for but small tables
/// (STT) and device permission tables (DPT); stalls allowed, both endiannesses.
pub fn capable() -> Implementation {
    let mut implementation = Implementation::default();
    for (name, value) in [
        ("IDR0.S2P", 1),
        ("IDR0.S1P", 1),
        ("IDR0.TTF", 3),
        ("IDR0.COHACC", 1),
        ("IDR0.HTTU", 3),
        ("IDR0.Hyp", 1),
        ("IDR0.ATS", 1),
        ("IDR0.ASID16", 1),
        ("IDR0.MSI", 1),
        ("IDR0.SEV", 1),
        ("IDR0.PRI", 1),
        ("IDR0.VMID16", 1),
        ("IDR0.CD2L", 1),
        ("IDR0.ST_LEVEL", 1),
        ("IDR1.SIDSIZE", 32),
        ("IDR1.SSIDSIZE", 20),
        ("IDR3.HAD", 1),
        ("IDR3.PBHA", 1),
        ("IDR3.XNX", 1),
        ("IDR3.MPAM", 1),
        ("IDR3.FWB", 1),
        ("IDR3.RIL", 1),
        ("IDR3.BBML", 2),
        ("IDR3.S1PI", 1),
        ("IDR3.S2PI", 1),
        ("IDR3.S2PO", 1),
        ("IDR5.OAS", 6),
        ("IDR5.GRAN4K", 1),
        ("IDR5.GRAN16K", 1),
        ("IDR5.GRAN64K", 1),
        ("IDR5.DS", 1),
        ("IDR5.VAX", 1),
        ("AIDR.ArchMinorRev", 4),
    ] {
        change_implementation(&mut implementation, name, value);
    }
    implementation
}

/// [`capable`] with changes.
pub fn hardware(changes: Changes) -> Implementation {
    let mut implementation = capable();
    for (name, value) in changes {
        change_implementation(&mut implementation, name, *value);
    }
    implementation
}

fn change_implementation(to: &mut Implementation, name: &str, value: u64) {
    fn set<T: Layout>(register: &mut u32, field: &str, value: u64) {
        let field = T::FIELDS.iter().find(|f| f.name == field).expect("a field of the register");
        *register = field.insert(u64::from(*register), value).unwrap() as u32;
    }
    use smmuv3_formats::register::{Aidr, Idr0, Idr1, Idr3, Idr5};
    match name.split_once('.') {
        Some(("IDR0", field)) => set::<Idr0>(&mut to.idr0.0, field, value),
        Some(("IDR1", field)) => set::<Idr1>(&mut to.idr1.0, field, value),
        Some(("IDR3", field)) => set::<Idr3>(&mut to.idr3.0, field, value),
        Some(("IDR5", field)) => set::<Idr5>(&mut to.idr5.0, field, value),
        Some(("AIDR", field)) => set::<Aidr>(&mut to.aidr.0, field, value),
        _ if name == "E2H" => to.e2h = value != 0,
        _ => panic!("no setting {name}"),
    }
}

/// Appendix A1: stage 1, one CD at 0x8002_0000.
pub const STAGE_1: Ste = Ste([0x0000_0000_8002_000b, 0x0000_0000_0000_00d4, 0, 0, 0, 0, 0, 0]);

/// Appendix A2: stage 2, 4 KiB granule, 40-bit IPA from two concatenated level-1 tables, VMID 7.
pub const STAGE_2: Ste =
    Ste([0xd, 0x0000_1000_0000_0000, 0x040c_3558_0000_0007, 0x8004_0000, 0, 0, 0, 0]);

/// Appendix A3: both stages.
pub const NESTED: Ste = Ste([
    0x0000_0000_8002_000f,
    0x0000_0000_0000_00d4,
    0x040c_3558_0000_0007,
    0x8004_0000,
    0,
    0,
    0,
    0,
]);

/// §5.2: bypass.
pub const BYPASS: Ste = Ste([0x9, 1 << 44, 0, 0, 0, 0, 0, 0]);

/// Appendix A1: 48-bit VA, 4 KiB granule, TTB0 alone, ASID 5.
pub const CONTEXT: Cd =
    Cd([0x0005_e204_c000_3510, 0x8001_0000, 0, 0x0000_0000_0004_44ff, 0, 0, 0, 0]);

/// An STE with changes.
pub fn ste(base: Ste, changes: Changes) -> Ste {
    Ste(changed::<Ste>(base.0, changes))
}

/// A CD with changes.
pub fn cd(base: Cd, changes: Changes) -> Cd {
    Cd(changed::<Cd>(base.0, changes))
}

fn changed<T: Layout>(mut words: [u64; 8], changes: Changes) -> [u64; 8] {
    for (name, value) in changes {
        let field =
            T::FIELDS.iter().find(|f| f.name == *name).unwrap_or_else(|| panic!("no field {name}"));
        words[field.word] = field.insert(words[field.word], *value).unwrap();
    }
    words
}

/// A difference between the verdict and the answer, in words.
pub fn judge(
    title: &str,
    section: &str,
    answer: Result<(), Rule>,
    verdict: Verdict,
) -> Option<String> {
    match (answer, verdict) {
        (Ok(()), None) => None,
        (Err(rule), Some((number, field)))
            if rule.section == format!("{section}({number})") && rule.field == field =>
        {
            None
        }
        (Ok(()), Some(expected)) => Some(format!("{title}: accepted, not {section}{expected:?}")),
        (Err(rule), expected) => Some(format!(
            "{title}: {}, {}: {}; expected {section}{expected:?}",
            rule.section, rule.field, rule.text
        )),
    }
}

/// Fails with all differences at once.
#[track_caller]
pub fn expect_none(found: Vec<String>) {
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Permissions and memory types, held to §16.1 to §16.3.

use smmuv3_formats::memory_type::{self, Attribute};
use smmuv3_formats::permission::{
    Limits, Permissions, Regime, indirect, stage_1, stage_1_indirect, stage_2,
};

const PXN: u64 = 1 << 53;
const UXN: u64 = 1 << 54;
const DBM: u64 = 1 << 51;

/// `AP[2:1]` in place.
fn ap(ap: u64) -> u64 {
    ap << 6
}

fn shown(permissions: Permissions) -> String {
    format!("{} {}", permissions.privileged, permissions.unprivileged)
}

#[test]
fn stage_1_by_ap_and_xn() {
    for (leaf, expected) in [
        (ap(0b00), "rwx --x"),
        // Privileged execution is lost where unprivileged writes are allowed.
        (ap(0b01), "rw- rwx"),
        (ap(0b10), "r-x --x"),
        (ap(0b11), "r-x r-x"),
        (ap(0b00) | UXN, "rwx ---"),
        (ap(0b00) | PXN | UXN, "rw- ---"),
        (ap(0b11) | PXN, "r-- r-x"),
        (ap(0b11) | PXN | UXN, "r-- r--"),
        // A1's leaf.
        (0x0060_0000_9000_0f43, "rw- rw-"),
    ] {
        assert_eq!(shown(stage_1(leaf, Limits::NONE, &Regime::default())), expected, "{leaf:#x}");
    }
}

#[test]
fn stage_1_with_one_privilege() {
    let regime = Regime { one_privilege: true, ..Regime::default() };
    for (leaf, expected) in [
        (ap(0b01), "rwx rwx"),
        (ap(0b11), "r-x r-x"),
        (ap(0b01) | UXN, "rw- rw-"),
        // PXN is reserved there.
        (ap(0b11) | PXN, "r-x r-x"),
    ] {
        assert_eq!(shown(stage_1(leaf, Limits::NONE, &regime)), expected, "{leaf:#x}");
    }
    let wxn = Regime { wxn: true, ..regime };
    assert_eq!(shown(stage_1(ap(0b01), Limits::NONE, &wxn)), "rw- rw-");
    assert_eq!(shown(stage_1(ap(0b11), Limits::NONE, &wxn)), "r-x r-x");
}

#[test]
fn wxn_and_pan() {
    let wxn = Regime { wxn: true, ..Regime::default() };
    let pan = Regime { pan: true, ..Regime::default() };
    let epan = Regime { epan: true, ..pan };
    for (regime, leaf, expected) in [
        (wxn, ap(0b00), "rw- --x"),
        (wxn, ap(0b01), "rw- rw-"),
        (wxn, ap(0b11), "r-x r-x"),
        (pan, ap(0b01), "--- rwx"),
        (pan, ap(0b11), "--x r-x"),
        (pan, ap(0b00), "rwx --x"),
        (epan, ap(0b00), "--x --x"),
        (epan, ap(0b00) | UXN, "rwx ---"),
        // EPAN is about PAN's check: nothing without PAN.
        (Regime { epan: true, ..Regime::default() }, ap(0b00), "rwx --x"),
    ] {
        assert_eq!(shown(stage_1(leaf, Limits::NONE, &regime)), expected, "{leaf:#x} {regime:?}");
    }
}

#[test]
fn tables_take_rights() {
    let regime = Regime::default();
    let table = |bits: u64| Limits::of_table(bits | 3);
    for (bits, leaf, expected) in [
        // APTable: 01 no unprivileged access, 10 no writes, 11 both.
        (1 << 61, ap(0b01), "rwx --x"),
        (1 << 62, ap(0b01), "r-x r-x"),
        (3 << 61, ap(0b01), "r-x --x"),
        (1 << 60, ap(0b11), "r-x r--"),
        (1 << 59, ap(0b11), "r-- r-x"),
    ] {
        assert_eq!(shown(stage_1(leaf, table(bits), &regime)), expected, "{bits:#x}");
    }
    let both = table(1 << 61).with(table(1 << 62 | 1 << 59));
    assert_eq!(both, Limits { no_unprivileged: true, no_write: true, pxn: true, uxn: false });
}

#[test]
fn dirty_marking_makes_writable() {
    let dirty = Regime { dirty: true, ..Regime::default() };
    let off = Regime::default();
    let clean = ap(0b11) | DBM | PXN | UXN;
    assert_eq!(shown(stage_1(clean, Limits::NONE, &dirty)), "rw- rw-");
    assert_eq!(shown(stage_1(clean, Limits::NONE, &off)), "r-- r--");
    assert_eq!(shown(stage_1(clean & !DBM, Limits::NONE, &dirty)), "r-- r--");
    // Not where a table took the right (§14).
    let limits = Limits { no_write: true, ..Limits::NONE };
    assert_eq!(shown(stage_1(clean, limits, &dirty)), "r-- r--");
    assert_eq!(shown(stage_2(0b01 << 6 | 0b10 << 53 | DBM, true, true)), "rw- rw-");
    assert_eq!(shown(stage_2(0b01 << 6 | 0b10 << 53 | DBM, true, false)), "r-- r--");
}

/// §6: PIIP and PIIU hold 16 codes of 3 bits. §15.3: PIIndex is bits 54, 53, 51, 6.
#[test]
fn stage_1_by_index() {
    let codes = [0, 1, 2, 3, 4, 5, 6, 7].map(|code| indirect(code << 9, 3).map(|r| r.to_string()));
    let names =
        [Some("---"), Some("r--"), Some("--x"), Some("r-x"), None, Some("rw-"), None, Some("rwx")];
    assert_eq!(codes, names.map(|name| name.map(str::to_string)));
    assert_eq!(indirect(0, 16), None);

    let regime = Regime::default();
    let pan = Regime { pan: true, wxn: true, ..regime };
    let dirty = Regime { dirty: true, ..regime };
    let one = Regime { one_privilege: true, ..regime };
    // Entry n of PIIP is rwx for n = 1, 2, 4, 8 alone, of PIIU rw- for 8 and r-x for 4.
    let piip = 0b111 << 3 | 0b111 << 6 | 0b111 << 12 | 0b111 << 24;
    let piiu = 0b011 << 12 | 0b101 << 24;
    let n_dirty = 1 << 7;
    for (regime, leaf, expected) in [
        (regime, 0, "--- ---"),
        (regime, 1 << 6, "rwx ---"),
        (regime, 1 << 51, "rwx ---"),
        (regime, 1 << 53, "rwx r-x"),
        (regime, 1 << 54, "rwx rw-"),
        (regime, 1 << 54 | 1 << 53, "--- ---"),
        // PAN counts whatever access there is; WXN does not count.
        (pan, 1 << 53, "--x r-x"),
        (pan, 1 << 6, "rwx ---"),
        (regime, 1 << 54 | n_dirty, "r-x r--"),
        (dirty, 1 << 54 | n_dirty, "rwx rw-"),
        (one, 1 << 54 | n_dirty, "r-x r-x"),
    ] {
        let permissions = stage_1_indirect(leaf, piip, piiu, &regime).unwrap();
        assert_eq!(shown(permissions), expected, "{leaf:#x} {regime:?}");
    }
    assert_eq!(stage_1_indirect(0, 4, 0, &regime), None);
    assert_eq!(stage_1_indirect(0, 0, 6, &regime), None);
    assert_eq!(shown(stage_1_indirect(0, 1, 6, &one).unwrap()), "r-- r--");
}

#[test]
fn stage_2_by_s2ap_and_xn() {
    for (s2ap, expected) in [(0b00, "---"), (0b01, "r--"), (0b10, "-w-"), (0b11, "rw-")] {
        let permissions = stage_2(s2ap << 6 | 0b10 << 53, true, false);
        assert_eq!(permissions.to_string(), expected);
    }
    // XN[1:0]: all, unprivileged only, none, privileged only; without XNX bit 54 alone.
    for (xn, with_xnx, without) in [
        (0b00, "rwx rwx", "rwx rwx"),
        (0b01, "rw- rwx", "rwx rwx"),
        (0b10, "rw- rw-", "rw- rw-"),
        (0b11, "rwx rw-", "rw- rw-"),
    ] {
        let leaf = 0b11 << 6 | xn << 53;
        assert_eq!(shown(stage_2(leaf, true, false)), with_xnx, "{xn}");
        assert_eq!(shown(stage_2(leaf, false, false)), without, "{xn}");
    }
}

#[test]
fn both_stages_must_permit() {
    let first = stage_1(ap(0b01) | UXN, Limits::NONE, &Regime::default());
    let second = stage_2(0b01 << 6, true, false);
    assert_eq!(first.and(second).to_string(), "r--");
    assert_eq!(
        stage_1(ap(0b00), Limits::NONE, &Regime::default()).to_string(),
        "privileged rwx, unprivileged --x"
    );
    assert!(first.of(true).write && !second.of(false).write);
}

#[test]
fn names_of_mair_attributes() {
    for (byte, name) in [
        (0x00, "Device-nGnRnE"),
        (0x04, "Device-nGnRE"),
        (0x08, "Device-nGRE"),
        (0x0c, "Device-GRE"),
        // Reserved device codes behave as the type of bits 3:2.
        (0x06, "Device-nGnRE"),
        (0x44, "Normal non-cacheable"),
        (0xbb, "Normal write-through"),
        (0xff, "Normal write-back"),
        (0xf4, "Normal outer write-back, inner non-cacheable"),
        (0xee, "Normal write-back read-allocate"),
        (0x77, "Normal write-back transient"),
        // Inner 0000 is write-through, transient, allocating.
        (0x40, "Normal outer non-cacheable, inner write-through transient"),
        (0xf0, "Tagged Normal write-back (not supported)"),
    ] {
        assert_eq!(Attribute(byte).to_string(), name, "{byte:#x}");
        assert_eq!(Attribute(byte).is_device(), name.starts_with("Device"), "{byte:#x}");
    }
    // A1's MAIR.
    let mair = 0x0000_0000_0004_44ff;
    let names = [0, 1, 2, 7].map(|i| Attribute::of_mair(mair, i).unwrap().to_string());
    assert_eq!(
        names,
        ["Normal write-back", "Normal non-cacheable", "Device-nGnRE", "Device-nGnRnE"]
    );
    assert_eq!(Attribute::of_mair(0x44 << 56, 9), Some(Attribute(0x44)), "CD.AIE: the last byte");
    assert_eq!(Attribute::of_mair(mair, 16), None);
}

#[test]
fn names_of_stage_2_types() {
    let rows = [
        Some("Device-nGnRnE"),
        Some("Device-nGnRE"),
        Some("Device-nGRE"),
        Some("Device-GRE"),
        None,
        Some("Normal non-cacheable"),
        Some("Normal outer non-cacheable, inner write-through"),
        Some("Normal outer non-cacheable, inner write-back"),
        None,
        Some("Normal outer write-through, inner non-cacheable"),
        Some("Normal write-through"),
        Some("Normal outer write-through, inner write-back"),
        None,
        Some("Normal outer write-back, inner non-cacheable"),
        Some("Normal outer write-back, inner write-through"),
        Some("Normal write-back"),
    ];
    for (code, name) in (0..).zip(rows) {
        assert_eq!(memory_type::stage_2(code, false), name, "{code:04b}");
        // §5.2: 0100, 1000, 1100 become Device-nGnRnE where they override.
        assert_eq!(memory_type::overriding(code), name.unwrap_or("Device-nGnRnE"), "{code:04b}");
    }
    let forced = [
        Some("Device-nGnRnE"),
        Some("Device-nGnRE"),
        Some("Device-nGRE"),
        Some("Device-GRE"),
        None,
        Some("Normal non-cacheable, or Device if stage 1 says so"),
        Some("Normal write-back, forced"),
        Some("as stage 1 says"),
    ];
    for (code, name) in (0..).zip(forced) {
        assert_eq!(memory_type::stage_2(code, true), name, "{code:03b}");
    }
}

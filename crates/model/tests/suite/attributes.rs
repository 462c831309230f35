// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory types and shareability of what leaves: overrides, stage 1, stage 2, both (§2.4, §5.2, §16.3, §16.4).

use smmuv3_model::{Access, Attributes, Cacheability, MemoryType, Profile, Shareability};

use crate::machine::*;
use crate::nested::{OUTPUT_SLOT, a3};
use crate::stage_2::{A2_W1, A2_W2, IPA, S2_L2, S2_L3, both, page};

const WB: MemoryType = MemoryType::WRITE_BACK;
const WT: MemoryType =
    MemoryType::Normal { outer: Cacheability::Through, inner: Cacheability::Through };
const NC: MemoryType = MemoryType::Normal { outer: Cacheability::None, inner: Cacheability::None };
const NGNRNE: MemoryType = MemoryType::Device(0);
const NGNRE: MemoryType = MemoryType::Device(1);
const GRE: MemoryType = MemoryType::Device(3);

const fn of(memory: MemoryType, shareability: Shareability) -> Attributes {
    Attributes { memory, shareability }
}

const NSH: Shareability = Shareability::Non;
const OSH: Shareability = Shareability::Outer;
const ISH: Shareability = Shareability::Inner;

fn types(on: bool) -> Profile {
    both().attr_types_ovr(on)
}

#[test]
fn gbpa_replaces_what_comes_in_where_it_can() {
    // MTCFG, MemAttr, SHCFG; what write-back NSH becomes.
    let cases: [(u32, u32, u32, Attributes); 7] = [
        (0, 0, 1, of(WB, NSH)),
        (0, 0, 0, of(WB, NSH)),
        (0, 0, 3, of(WB, ISH)),
        (1, 0b1010, 2, of(WT, OSH)),
        (1, 0b0101, 3, of(NC, OSH)),
        (1, 0b0001, 1, of(NGNRE, OSH)),
        // Reserved.
        (1, 0b1100, 3, of(NGNRNE, OSH)),
    ];
    for (mtcfg, memattr, shcfg, expected) in cases {
        for on in [false, true] {
            let mut machine = Machine::reset(types(on), 1);
            machine.smmu.write32(GBPA, 1 << 31 | mtcfg << 4 | memattr | shcfg << 12);
            let access = Access::read(1, 0x1000);
            let found = machine.smmu.attributes(&access, Attributes::default());
            let expected = if on { expected } else { Attributes::default() };
            assert_eq!(found, Some(expected));
        }
    }
    let mut machine = Machine::reset(types(true), 1);
    machine.smmu.write32(GBPA, 1 << 31 | 1 << 20);
    assert_eq!(machine.smmu.attributes(&Access::read(1, 0), Attributes::default()), None);
    // What comes in is kept: SHCFG = 1, which it resets to.
    let mut machine = Machine::reset(types(true), 1);
    let incoming = of(WT, ISH);
    assert_eq!(machine.smmu.attributes(&Access::read(1, 0), incoming), Some(incoming));
    assert!(machine.translate(Access::read(1, 0)).is_ok());
}

#[test]
fn entries_replace_what_comes_in_where_stage_1_is_off() {
    let incoming = of(WB, ISH);
    // Word 1: SHCFG, MTCFG, MemAttr.
    for (word, expected) in [
        (1 << 44, incoming),
        (0, of(WB, NSH)),
        (2 << 44, of(WB, OSH)),
        (1 << 44 | 1 << 36 | 0b1010 << 32, of(WT, ISH)),
        (1 << 44 | 0b1010 << 32, incoming),
        (1 << 44 | 1 << 36 | 0b0011 << 32, of(GRE, OSH)),
    ] {
        for on in [false, true] {
            let mut machine = Machine::new(types(on), 1);
            machine.ste(SID, [9, word, 0, 0, 0, 0, 0, 0]);
            let access = Access::read(SID, 0x1000);
            assert_eq!(machine.smmu.attributes(&access, incoming), None, "nothing is cached");
            assert!(machine.translate(access).is_ok());
            let expected = if on { expected } else { incoming };
            assert_eq!(machine.smmu.attributes(&access, incoming), Some(expected), "{word:#x}");
        }
    }
    // With stage 1 on, they mean nothing.
    let mut machine = Machine::new(types(true), 1);
    machine.a1();
    let mut ste = ste_words(CD);
    ste[1] |= 2 << 44 | 1 << 36;
    machine.ste(SID, ste);
    assert_eq!(machine.read(VA), Some(PA));
    let found = machine.smmu.attributes(&Access::read(SID, VA), incoming);
    assert_eq!(found, Some(of(WB, ISH)));
}

#[test]
fn stage_1_says_it_by_mair_and_by_the_leaf() {
    // A MAIR byte, SH of the leaf.
    for (byte, sh, expected) in [
        (0xff, 3, of(WB, ISH)),
        (0xff, 0, of(WB, NSH)),
        (0xff, 2, of(WB, OSH)),
        (0xbb, 3, of(WT, ISH)),
        (0x44, 3, of(NC, OSH)),
        (0x00, 3, of(NGNRNE, OSH)),
        (0x04, 0, of(NGNRE, OSH)),
        (0x0c, 0, of(GRE, OSH)),
        (
            0x4f,
            3,
            of(MemoryType::Normal { outer: Cacheability::None, inner: Cacheability::Back }, ISH),
        ),
        // Inner nibble 0: write-through.
        (0x80, 3, of(WT, ISH)),
    ] {
        let mut machine = Machine::new(both(), 1);
        machine.a1();
        let mut cd = cd_words(5, L0);
        cd[3] = byte << 40;
        machine.cd_at(CD, cd);
        // AttrIndx 5.
        machine.put(leaf_slot(L0), PA | LEAF & !(3 << 8) | sh << 8 | 5 << 2);
        assert_eq!(machine.read(VA), Some(PA));
        // What comes in does not matter.
        for incoming in [Attributes::default(), of(NGNRE, OSH)] {
            let found = machine.smmu.attributes(&Access::read(SID, VA), incoming);
            assert_eq!(found, Some(expected), "{byte:#x} {sh}");
        }
    }
}

#[test]
fn with_lpa2_the_context_says_the_shareability() {
    for (sh0, expected) in [(3, ISH), (0, NSH), (2, OSH)] {
        let profile = both().granules(true, true, true).oas(52).lpa2(true).wide_addresses(true);
        let mut machine = Machine::new(profile, 1);
        machine.a1();
        let mut cd = cd_words(5, L0);
        cd[0] = cd[0] & !(3 << 12 | 7 << 32) | sh0 << 12 | 6 << 32;
        cd[2] |= 1 << 58;
        machine.cd_at(CD, cd);
        // Address bits 51:50 are 01 there.
        machine.put(leaf_slot(L0), PA | LEAF & !(3 << 8) | 1 << 8);
        assert_eq!(machine.read(VA), Some(PA | 1 << 50));
        let found = machine.smmu.attributes(&Access::read(SID, VA), Attributes::default());
        assert_eq!(found, Some(of(WB, expected)));
    }
}

/// Stage 2 alone, with or without S2FWB: MemAttr and SH of the leaf; what came in, and what leaves.
#[test]
fn stage_2_makes_it_stricter_or_forces_it() {
    let cases: [(bool, u64, u64, Attributes, Attributes); 16] = [
        (false, 0b1111, 0, of(WB, ISH), of(WB, ISH)),
        (false, 0b1111, 3, of(WB, NSH), of(WB, ISH)),
        (false, 0b1111, 2, of(WB, ISH), of(WB, OSH)),
        (false, 0b1111, 0, of(NGNRE, NSH), of(NGNRE, OSH)),
        (false, 0b1010, 0, of(WB, NSH), of(WT, NSH)),
        (false, 0b1111, 0, of(WT, NSH), of(WT, NSH)),
        (false, 0b0101, 0, of(WB, NSH), of(NC, OSH)),
        (false, 0b0001, 0, of(WB, NSH), of(NGNRE, OSH)),
        (false, 0b0001, 0, of(GRE, OSH), of(NGNRE, OSH)),
        (false, 0b0011, 0, of(NGNRNE, OSH), of(NGNRNE, OSH)),
        (true, 0b0110, 3, of(NC, OSH), of(WB, OSH)),
        (true, 0b0110, 0, of(NGNRE, NSH), of(WB, NSH)),
        (true, 0b0111, 3, of(WT, NSH), of(WT, ISH)),
        (true, 0b0101, 0, of(WB, NSH), of(NC, OSH)),
        (true, 0b0101, 0, of(NGNRE, OSH), of(NGNRE, OSH)),
        (true, 0b0001, 0, of(WB, NSH), of(NGNRE, OSH)),
    ];
    for (fwb, mem_attr, sh, incoming, expected) in cases {
        let mut machine = Machine::new(both(), 1);
        let w1 = A2_W1 | u64::from(fwb) << 25;
        machine.ste(SID, [0xd, w1, A2_W2, 0x8004_0000, 0, 0, 0, 0]);
        machine.put(0x8004_1fe0, S2_L2 | 3);
        machine.put(S2_L2 + 8 * 0x91, S2_L3 | 3);
        let leaf = page(PA) & !(0xf << 2 | 3 << 8) | mem_attr << 2 | sh << 8;
        machine.put(S2_L3 + 8 * 0x145, leaf);
        assert_eq!(machine.read(IPA), Some(PA));
        let found = machine.smmu.attributes(&Access::read(SID, IPA), incoming);
        assert_eq!(
            found,
            Some(expected),
            "FWB {fwb}, MemAttr {mem_attr:#b}, SH {sh}, {incoming:?}"
        );
    }
}

#[test]
fn both_stages_count_where_both_are_on() {
    // AttrIndx 0 of A1 is write-back, 1 non-cacheable; the leaf is ISH.
    for (index, mem_attr, sh, expected) in [
        (0, 0b1111, 0, of(WB, ISH)),
        (0, 0b1111, 2, of(WB, OSH)),
        (0, 0b1010, 0, of(WT, ISH)),
        (0, 0b0101, 0, of(NC, OSH)),
        (1, 0b1111, 0, of(NC, OSH)),
        (0, 0b0000, 0, of(NGNRNE, OSH)),
    ] {
        let mut machine = a3(both(), 1);
        machine.put(leaf_slot(L0), machine.get(leaf_slot(L0)) | index << 2);
        let leaf = machine.get(OUTPUT_SLOT) & !(0xf << 2 | 3 << 8);
        machine.put(OUTPUT_SLOT, leaf | mem_attr << 2 | sh << 8);
        assert!(machine.read(VA).is_some());
        let found = machine.smmu.attributes(&Access::read(SID, VA), of(NGNRE, OSH));
        assert_eq!(found, Some(expected), "AttrIndx {index}, MemAttr {mem_attr:#b}, SH {sh}");
    }
}

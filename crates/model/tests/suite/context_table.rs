// SPDX-License-Identifier: MIT OR Apache-2.0
//! Substreams: where their CDs are, linear and in two levels, and what stays cached of the way there (§5.3,
//! §6, §8.1, §8.2).

use smmuv3_formats::command::{CfgiCd, CfgiCdAll, CfgiSteRange};
use smmuv3_formats::{Command, EventId};
use smmuv3_model::{Access, Misuse, Observation, Profile, Reason};

use crate::machine::*;

/// L1CDs, two leaves of 4 KiB, and one of 64 KiB.
pub const L1: u64 = 0x8040_0000;
pub const LEAF_A: u64 = 0x8041_0000;
pub const LEAF_B: u64 = 0x8042_0000;
/// A second set of A1's tables, for another page.
pub const OTHER_L0: u64 = 0x8050_0000;
pub const OTHER_PA: u64 = 0x9abc_0000;
/// STE.S1Fmt.
pub const SMALL_LEAVES: u64 = 1;
pub const LARGE_LEAVES: u64 = 2;

/// 20 bits of substreams, in linear and 2-level tables.
pub fn wide() -> Profile {
    quiet().ssidsize(20).two_level_contexts(true)
}

/// An STE with 2^`log2` CDs behind `table`, in the format `fmt`; S1DSS = 0.
pub fn substream_ste(table: u64, fmt: u64, log2: u64) -> [u64; 8] {
    let mut words = ste_words(table);
    words[0] |= fmt << 4 | log2 << 59;
    words
}

pub fn through(stream: u32, substream: u32, address: u64) -> Access {
    Access { substream: Some(substream), ..Access::read(stream, address) }
}

/// 2^10 CDs in leaves of 4 KiB; substream 0x47 has A1's tables: L1CD 1, CD 7 of the leaf.
fn two_level() -> Machine {
    let mut machine = Machine::new(wide(), 1);
    machine.tables_a1(L0, PA);
    machine.tables_a1(OTHER_L0, OTHER_PA);
    machine.ste(SID, substream_ste(L1, SMALL_LEAVES, 10));
    machine.put(L1 + 8, LEAF_A | 1);
    machine.cd_at(LEAF_A + 7 * 64, cd_words(5, L0));
    machine.smmu.observations();
    machine
}

fn cfgi(substream: u64, leaf: bool) -> Command {
    CfgiCd::new().with_sid(SID.into()).with_ssid(substream).with_leaf(leaf).into()
}

/// Where a read of substream 0x47 goes.
fn pa(machine: &mut Machine) -> Option<u64> {
    machine.translate(through(SID, 0x47, VA)).ok().map(|found| found.pa)
}

fn refusal(machine: &mut Machine, access: Access) -> (Reason, Vec<[u64; 4]>) {
    let refusal = machine.translate(access).unwrap_err();
    (refusal.reason, machine.events().iter().map(|event| event.0).collect())
}

#[test]
fn both_sizes_of_leaves_are_indexed_by_the_architecture() {
    let mut machine = two_level();
    assert_eq!(pa(&mut machine), Some(PA));
    let fetched = machine.smmu.cached_cds();
    assert_eq!((fetched[0].pa, fetched[0].substream), (0x8041_01c0, Some(0x47)));
    let l1 = machine.smmu.cached_l1_cds();
    assert_eq!((l1.len(), l1[0].pa, l1[0].word), (1, 0x8040_0008, 0x8041_0001));
    assert_eq!((l1[0].index, l1[0].first, l1[0].substreams), (1, 0x40, 64));

    // 64 KiB: substream 0xc05 is CD 5 behind L1CD 3.
    let mut machine = Machine::new(wide(), 1);
    machine.tables_a1(L0, PA);
    machine.ste(SID, substream_ste(L1, LARGE_LEAVES, 12));
    machine.put(L1 + 24, LEAF_B | 1);
    machine.cd_at(LEAF_B + 5 * 64, cd_words(5, L0));
    assert_eq!(machine.translate(through(SID, 0xc05, VA)).map(|t| t.pa).ok(), Some(PA));
    assert_eq!(machine.smmu.cached_cds()[0].pa, 0x8042_0140);
    let l1 = machine.smmu.cached_l1_cds();
    assert_eq!((l1[0].index, l1[0].first, l1[0].substreams), (3, 0xc00, 1024));
    assert_eq!(machine.misuses(), []);
}

#[test]
fn a_table_of_one_leaf_has_one_descriptor() {
    for (fmt, log2, substream) in [(SMALL_LEAVES, 3, 5), (LARGE_LEAVES, 7, 0x47)] {
        let mut machine = Machine::new(wide(), 1);
        machine.tables_a1(L0, PA);
        machine.ste(SID, substream_ste(L1, fmt, log2));
        machine.put(L1, LEAF_B | 1);
        machine.cd_at(LEAF_B + 64 * u64::from(substream), cd_words(5, L0));
        let found = machine.translate(through(SID, substream, VA));
        assert_eq!(found.map(|t| t.pa).ok(), Some(PA));
        // Substreams end with S1CDMax, not with the leaf.
        let (reason, _) = refusal(&mut machine, through(SID, 1 << log2, VA));
        assert_eq!(reason, Reason::Event(EventId::CBadSubstreamId));
    }
}

#[test]
fn the_format_is_ignored_without_substreams() {
    for profile in [quiet(), wide()] {
        let mut machine = Machine::new(profile, 1);
        machine.a1();
        machine.ste(SID, substream_ste(CD, SMALL_LEAVES, 0));
        assert_eq!(machine.read(VA), Some(PA));
    }
    // Format 3 is linear.
    let mut machine = Machine::new(wide(), 1);
    machine.a1();
    machine.ste(SID, substream_ste(CD, 3, 2));
    machine.cd_at(CD + 64, cd_words(5, L0));
    assert_eq!(machine.translate(through(SID, 1, VA)).map(|t| t.pa).ok(), Some(PA));
    // Where there are linear tables only, another one is C_BAD_STE.
    let mut machine = Machine::new(quiet().ssidsize(20), 1);
    machine.ste(SID, substream_ste(L1, SMALL_LEAVES, 10));
    let (reason, _) = refusal(&mut machine, through(SID, 0x47, VA));
    assert_eq!(reason, Reason::Event(EventId::CBadSte));
}

#[test]
fn descriptors_that_lead_nowhere_are_c_bad_substreamid() {
    // V = 0 with and without a pointer, and a pointer beyond the output size of 44 bits.
    for word in [0, LEAF_A, 1 << 44 | LEAF_A | 1] {
        let mut machine = two_level();
        machine.put(L1 + 8, word);
        let (reason, events) = refusal(&mut machine, through(SID, 0x47, VA));
        assert_eq!(reason, Reason::Event(EventId::CBadSubstreamId));
        // The SubstreamID, but no SSV.
        assert_eq!(events, [[0x0000_0005_0004_7008, 0, 0, 0]]);
        assert_eq!(machine.smmu.cached_l1_cds()[0].word, word, "cached");
    }
    // Beyond the table, nothing is read at all.
    let mut machine = two_level();
    let (reason, events) = refusal(&mut machine, through(SID, 0x400, VA));
    assert_eq!(reason, Reason::Event(EventId::CBadSubstreamId));
    assert_eq!(events, [[0x0000_0005_0040_0008, 0, 0, 0]]);
    assert_eq!(machine.smmu.cached_l1_cds(), []);
}

#[test]
fn a_descriptor_that_cannot_be_read_is_f_cd_fetch_and_not_cached() {
    let mut machine = two_level();
    for (at, reported) in [(L1 + 8, L1 + 8), (LEAF_A + 7 * 64, LEAF_A + 7 * 64)] {
        machine.ram.break_range(at, 8);
        let (reason, events) = refusal(&mut machine, through(SID, 0x47, VA));
        assert_eq!(reason, Reason::Event(EventId::FCdFetch));
        assert_eq!(events, [[0x0000_0005_0004_7809, 0, 0, reported]]);
        machine.ram.repair();
    }
    assert_eq!(pa(&mut machine), Some(PA));
}

#[test]
fn an_invalid_descriptor_stays_cached_until_something_hits_it() {
    let stale = |machine: &mut Machine| pa(machine).is_none();
    let cached = || {
        let mut machine = two_level();
        machine.put(L1 + 8, 0);
        assert!(stale(&mut machine));
        machine.put(L1 + 8, LEAF_A | 1);
        assert!(stale(&mut machine), "V = 0 is cached");
        let entry = machine.smmu.cached_l1_cds()[0];
        assert!(entry.differs && entry.word == 0);
        machine
    };
    let range = |sid: u32, range| CfgiSteRange::new().with_sid(sid.into()).with_range(range);
    let not: [Command; 10] = [
        cfgi(0x47, true),
        cfgi(0x40, true),
        // Other spans.
        cfgi(0x3f, false),
        cfgi(0x80, false),
        // Another stream.
        CfgiCd::new().with_sid(6).with_ssid(0x47).into(),
        CfgiCdAll::new().with_sid(6).into(),
        cfgi_ste(6).into(),
        range(8, 0).into(),
        tlbi_all().into(),
        tlbi_everything().into(),
    ];
    let mut machine = cached();
    for command in not {
        machine.command(command);
        machine.sync();
        assert!(stale(&mut machine), "{command}");
    }
    let hits: [Command; 8] = [
        cfgi(0x47, false),
        cfgi(0x40, false),
        cfgi(0x7f, false),
        CfgiCdAll::new().with_sid(SID.into()).into(),
        cfgi_ste(SID).into(),
        cfgi_ste(SID).with_leaf(false).into(),
        range(4, 0).into(),
        Command::cfgi_all(),
    ];
    for command in hits {
        let mut machine = cached();
        machine.command(command);
        machine.sync();
        assert_eq!(machine.smmu.cached_l1_cds(), [], "{command}");
        assert!(!stale(&mut machine), "{command}");
    }
}

#[test]
fn a_valid_descriptor_leads_to_the_old_leaf_until_leaf_0() {
    let mut machine = two_level();
    machine.cd_at(LEAF_A + 8 * 64, cd_words(6, L0));
    assert_eq!(pa(&mut machine), Some(PA));
    assert!(machine.translate(through(SID, 0x48, VA)).is_ok());
    // A new leaf, with other tables for both.
    machine.cd_at(LEAF_B + 7 * 64, cd_words(7, OTHER_L0));
    machine.cd_at(LEAF_B + 8 * 64, cd_words(8, OTHER_L0));
    machine.put(L1 + 8, LEAF_B | 1);
    machine.command(cfgi(0x47, true));
    machine.sync();
    assert_eq!(pa(&mut machine), Some(PA), "the old descriptor is followed again");
    machine.command(cfgi(0x47, false));
    machine.sync();
    assert_eq!(pa(&mut machine), Some(OTHER_PA));
    // The neighbour's CD is cached by itself.
    let found = |machine: &mut Machine| machine.translate(through(SID, 0x48, VA)).unwrap().pa;
    assert_eq!(found(&mut machine), PA);
    machine.command(cfgi(0x48, true));
    machine.sync();
    assert_eq!(found(&mut machine), OTHER_PA);
}

#[test]
fn contexts_and_descriptors_are_cached_for_each_stream() {
    let mut machine = two_level();
    machine.ste(6, substream_ste(L1, SMALL_LEAVES, 10));
    assert_eq!(pa(&mut machine), Some(PA));
    assert!(machine.translate(through(6, 0x47, VA)).unwrap().tlb_hit, "one ASID");
    assert_eq!((machine.smmu.cached_cds().len(), machine.smmu.cached_l1_cds().len()), (2, 2));
    machine.command(cfgi(0x47, false));
    machine.sync();
    assert_eq!(machine.smmu.cached_cds()[0].stream, 6);
    assert_eq!(machine.smmu.cached_l1_cds()[0].stream, 6);
}

#[test]
fn a_context_stays_cached_until_cfgi_of_its_substream() {
    let mut machine = two_level();
    machine.cd_at(LEAF_A + 7 * 64, [0; 8]);
    assert!(pa(&mut machine).is_none());
    machine.cd_at(LEAF_A + 7 * 64, cd_words(5, L0));
    for other in [cfgi(0x46, false), cfgi(0x07, true), tlbi_everything().into()] {
        machine.command(other);
        machine.sync();
        assert!(pa(&mut machine).is_none(), "{other}");
    }
    machine.command(cfgi(0x47, true));
    machine.sync();
    assert_eq!(pa(&mut machine), Some(PA));
}

#[test]
fn a_large_leaf_that_is_not_aligned_loses_its_low_bits_and_is_reported() {
    let mut machine = Machine::new(wide(), 1);
    machine.tables_a1(L0, PA);
    machine.ste(SID, substream_ste(L1, LARGE_LEAVES, 12));
    machine.put(L1, LEAF_B | 0x3000 | 1);
    machine.cd_at(LEAF_B + 64, cd_words(5, L0));
    machine.smmu.observations();
    assert!(machine.translate(through(SID, 1, VA)).is_ok());
    let pointer = LEAF_B | 0x3000;
    assert_eq!(machine.misuses(), [Misuse::MisalignedContexts { stream: SID, index: 0, pointer }]);
}

#[test]
fn fetches_of_descriptors_are_told_once() {
    let mut machine = two_level();
    assert_eq!(pa(&mut machine), Some(PA));
    assert!(machine.translate(through(SID, 0x48, VA)).is_err());
    let seen: Vec<_> = machine
        .smmu
        .observations()
        .into_iter()
        .filter(|seen| matches!(seen, Observation::L1CdFetched { .. }))
        .collect();
    let (word, pa) = (LEAF_A | 1, L1 + 8);
    let once = Observation::L1CdFetched { stream: SID, index: 1, word, pa, speculative: false };
    assert_eq!(seen, [once]);
}

/// What becomes of an access with this substream and S1DSS (§5.3): `Ok` with the PA, or the event's words 0.
fn treatment(fmt: u64, s1_dss: u64, substream: Option<u32>) -> Result<u64, u64> {
    let mut machine = Machine::new(wide(), 1);
    machine.tables_a1(L0, PA);
    machine.tables_a1(OTHER_L0, OTHER_PA);
    let table = if fmt == 0 { LEAF_A } else { L1 };
    let mut ste = substream_ste(table, fmt, 3);
    ste[1] |= s1_dss;
    machine.ste(SID, ste);
    machine.put(L1, LEAF_A | 1);
    machine.cd_at(LEAF_A, cd_words(5, L0));
    machine.cd_at(LEAF_A + 64, cd_words(6, OTHER_L0));
    let access = Access { substream, ..Access::read(SID, VA) };
    match machine.translate(access) {
        Ok(found) => Ok(found.pa),
        Err(_) => Err(machine.events()[0].0[0]),
    }
}

#[test]
fn s1dss_decides_about_accesses_without_substream() {
    const DISABLED: Result<u64, u64> = Err(0x0000_0005_0000_0006);
    for fmt in [0, SMALL_LEAVES, LARGE_LEAVES] {
        // By S1DSS: without substream, with 0, with 1.
        let table = [
            [DISABLED, Ok(PA), Ok(OTHER_PA)],
            [Ok(VA), Ok(PA), Ok(OTHER_PA)],
            [Ok(PA), DISABLED, Ok(OTHER_PA)],
            [DISABLED, Ok(PA), Ok(OTHER_PA)],
        ];
        for (s1_dss, expected) in (0..).zip(table) {
            let found = [None, Some(0), Some(1)].map(|ssid| treatment(fmt, s1_dss, ssid));
            assert_eq!(found, expected, "S1Fmt {fmt} S1DSS {s1_dss}");
            // Out of range, and in range without a CD.
            assert_eq!(treatment(fmt, s1_dss, Some(8)), Err(0x0000_0005_0000_8008));
            assert_eq!(treatment(fmt, s1_dss, Some(7)), Err(0x0000_0005_0000_780a));
        }
    }
}

#[test]
fn events_carry_the_substream_of_the_access_and_no_other() {
    for fmt in [0, SMALL_LEAVES] {
        let mut machine = Machine::new(wide(), 1);
        let mut ste = substream_ste(if fmt == 0 { LEAF_A } else { L1 }, fmt, 3);
        ste[1] |= 2;
        machine.ste(SID, ste);
        machine.put(L1, LEAF_A | 1);
        machine.cd_at(LEAF_A, cd_words(5, L0));
        machine.cd_at(LEAF_A + 5 * 64, cd_words(6, L0));
        // A read at CLASS = IN; the access without a substream uses CD 0, and says none.
        let rest = [0x0000_0208_0000_0000, VA, 0];
        for (substream, word) in [(Some(5), 0x0000_0005_0000_5810), (None, 0x0000_0005_0000_0010)] {
            let access = Access { substream, ..Access::read(SID, VA) };
            let (reason, events) = refusal(&mut machine, access);
            assert_eq!(reason, Reason::Event(EventId::FTranslation));
            assert_eq!(events, [[word, rest[0], rest[1], rest[2]]]);
        }
    }
}

#[test]
fn a_disabled_half_walks_nothing_but_what_is_cached_still_hits() {
    let mut machine = two_level();
    assert_eq!(pa(&mut machine), Some(PA));
    // Quiet: V, EPD0, EPD1, AA64, A and ASET are set, R is not; T0SZ = 63 means nothing.
    machine.cd_at(LEAF_A + 7 * 64, [0x0005_c200_c000_403f, 0, 0, 0, 0, 0, 0, 0]);
    machine.command(cfgi(0x47, true));
    machine.sync();
    assert_eq!(pa(&mut machine), Some(PA), "EPD0 stops walks only");
    machine.command(tlbi_asid(5));
    machine.sync();
    let (reason, events) = refusal(&mut machine, through(SID, 0x47, VA));
    assert_eq!(reason, Reason::Event(EventId::FTranslation));
    assert_eq!(events, [] as [[u64; 4]; 0], "R = 0");
    for address in [0, VA + 0x1000, 1 << 50, u64::MAX] {
        let (reason, events) = refusal(&mut machine, through(SID, 0x47, address));
        assert_eq!((reason, events.len()), (Reason::Event(EventId::FTranslation), 0));
    }
    let said = machine.smmu.observations();
    assert!(!said.iter().any(|o| matches!(o, Observation::Walked { va, .. } if *va != VA)));
    assert!(!said.iter().any(|o| matches!(o, Observation::TagConflict { .. })));
}

#[test]
fn the_table_of_a_half_that_is_not_walked_may_differ() {
    let mut machine = two_level();
    let mut other = cd_words(5, L0);
    assert_ne!(other[0] & 1 << 30, 0, "EPD1");
    other[2] = OTHER_L0;
    machine.put(L1, LEAF_B | 1);
    machine.cd_at(LEAF_B + 3 * 64, other);
    assert_eq!(pa(&mut machine), Some(PA));
    assert!(machine.translate(through(SID, 3, VA)).is_ok());
    assert_eq!(machine.misuses(), []);
    // The other half is walked.
    (other[0], other[1]) = (other[0] & !(1 << 30), OTHER_L0);
    machine.cd_at(LEAF_B + 4 * 64, other);
    let _ = machine.translate(through(SID, 4, VA));
    let seen = machine.smmu.observations();
    assert!(seen.iter().any(|o| matches!(o, Observation::TagConflict { .. })));
}

#[test]
fn contexts_of_one_tag_must_agree_whatever_their_substream() {
    let mut machine = two_level();
    let mut other = cd_words(5, L0);
    other[3] = 0xff;
    machine.put(L1, LEAF_B | 1);
    machine.cd_at(LEAF_B + 3 * 64, other);
    assert_eq!(pa(&mut machine), Some(PA));
    assert!(machine.translate(through(SID, 3, VA)).is_ok());
    assert!(matches!(machine.misuses()[..], [Misuse::TagDisagreement { stream: SID, .. }]));
    // Equal ones may be many; another table is a conflict.
    machine.cd_at(LEAF_B + 4 * 64, cd_words(5, OTHER_L0));
    let _ = machine.translate(through(SID, 4, VA));
    let seen = machine.smmu.observations();
    assert!(seen.iter().any(|o| matches!(o, Observation::TagConflict { tag, .. }
        if tag.asid == 5)));
}

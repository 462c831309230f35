// SPDX-License-Identifier: MIT OR Apache-2.0
//! What streams reach: against single walks on random tables of both stages, and each kind of finding.

mod common;

use common::build::{BASE, Builder};
use smmuv3_formats::register::{StrtabBase, StrtabBaseCfg};
use smmuv3_walk::reach::{Kind, Limits, Range, Scope, Severity, Survey, reach};
use smmuv3_walk::{Access, Outcome, Smmu, Words, walk};

fn survey(memory: &Words, smmu: &Smmu) -> Survey {
    reach(memory, smmu, Scope::default(), Limits::default(), &mut |_| {})
}

fn kinds(survey: &Survey) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = survey.findings.iter().map(|finding| finding.kind).collect();
    kinds.sort_unstable();
    kinds
}

fn smmu(log2size: u32) -> Smmu {
    Smmu::with_everything(StrtabBase(BASE), StrtabBaseCfg(log2size))
}

/// A single walk, and what the ranges say of the same access.
fn compare(memory: &Words, smmu: &Smmu, ranges: &[Range], access: Access, seed: u64) -> bool {
    let range = ranges.iter().find(|range| (range.input..=range.last()).contains(&access.address));
    let expected = range.filter(|range| {
        let rights = range.permissions.of(access.privileged);
        if access.write {
            rights.write
        } else if access.instruction {
            rights.execute
        } else {
            rights.read
        }
    });
    let found = walk(memory, smmu, access);
    match (&found.outcome, expected) {
        (Outcome::Translated(found), Some(range)) => {
            let address = range.output + (access.address - range.input);
            assert_eq!(found.address, address, "seed {seed} {access:x?}");
            assert_eq!(found.permissions, range.permissions, "seed {seed} {access:x?}");
            assert_eq!(found.attributes, range.attributes, "seed {seed} {access:x?}");
            true
        }
        (Outcome::Fault(_), None) => false,
        (other, range) => panic!("seed {seed} {access:x?}: {other:x?}, {range:x?}"),
    }
}

#[test]
fn ranges_are_what_single_walks_say() {
    let (mut translated, mut faults) = (0, 0);
    for seed in 0..1500 {
        let mut builder = Builder::new(seed);
        let mut inputs = Vec::new();
        if builder.stream(BASE, &mut inputs).is_none() {
            continue;
        }
        let smmu = smmu(1);
        let found = survey(&builder.memory, &smmu);
        assert!(!found.cut_short && found.ranges_left_out == 0);
        let illegal = found.findings.iter().find(|finding| finding.kind == Kind::Illegal);
        assert_eq!(illegal, None, "seed {seed}");
        let [stream] = found.streams.as_slice() else { panic!("seed {seed}") };
        let [space] = stream.spaces.as_slice() else { panic!("seed {seed}: {found:x?}") };
        let random = &mut builder.random;
        for range in &space.ranges {
            inputs.extend([range.input, range.last(), range.last().wrapping_add(1)]);
            inputs.push(range.input.wrapping_sub(1));
        }
        for address in inputs.iter().take(60) {
            let access = Access {
                write: random.one_in(3),
                privileged: random.one_in(2),
                instruction: random.one_in(4),
                ..Access::read(0, *address)
            };
            // A stage-1 descriptor that stage 2 does not let be updated is another matter.
            let outcome = walk(&builder.memory, &smmu, access).outcome;
            if matches!(&outcome, Outcome::Fault(fault) if fault.event.class() == 1) {
                continue;
            }
            if compare(&builder.memory, &smmu, &space.ranges, access, seed) {
                translated += 1;
            } else {
                faults += 1;
            }
        }
    }
    assert!(translated > 5000 && faults > 5000, "{translated} {faults}");
}

/// Damage never makes a survey panic, and what it finds is bounded.
#[test]
fn damaged_tables_are_surveyed_within_bounds() {
    let limits =
        Limits { descriptors: 200_000, ranges: 500, findings: 100, nodes: 50, ..Limits::default() };
    for seed in 0..600 {
        let mut builder = Builder::new(seed);
        let mut inputs = Vec::new();
        for stream in 0..3 {
            let _ = builder.stream(BASE + 64 * stream, &mut inputs);
        }
        for _ in 0..1 + builder.random.below(6) {
            let (at, word) = builder.random.one_of(&builder.written);
            // A wrong bit, or a pointer to something else that is there.
            let (other, _) = builder.random.one_of(&builder.written);
            let word = if builder.random.one_in(2) {
                word ^ 1 << builder.random.below(64)
            } else {
                other & !0xfff | 0b11
            };
            builder.memory.write64(at, word);
        }
        let found = reach(&builder.memory, &smmu(2), Scope::default(), limits, &mut |_| {});
        assert!(found.descriptors <= limits.descriptors && found.findings.len() <= 100);
        for address in inputs {
            let _ = walk(&builder.memory, &smmu(2), Access::write((address & 3) as u32, address));
        }
    }
}

/// Every mapping of stage 1 has a GiB of stage 2 behind it that is in pieces of a page, none of which allows what the mapping does.
#[test]
fn what_stage_2_has_behind_mappings_is_looked_at_within_bounds() {
    const TABLES: u64 = 4;
    let mut memory = Words::new().with_range(BASE, 0x10_0000);
    let (second, third) = (0x8001_0000, 0x8002_0000);
    let (contexts, first) = (0x8003_0000, 0x8003_1000);
    // Stage 2 of 39 bits, from level 1 on: S2T0SZ, S2SL0, walks as in appendix A, S2PS, S2AA64, S2R; VMID 7.
    let stage_2 = 7 | 25 << 32 | 1 << 38 | 0x35 << 40 | 5 << 48 | 1 << 51 | 1 << 58;
    memory.write_words(BASE, &[contexts | 0xf, 1 << 44, stage_2, 0x8000_1000]);
    memory.write64(0x8000_1000 + 8, second | 3);
    // What stage 1 is made of is where it is.
    let block = BASE | 1 << 10 | 3 << 8 | 0b11 << 6 | 0xf << 2 | 1;
    memory.write64(0x8000_1000 + 16, block);
    for table in 0..TABLES {
        memory.write64(second + 8 * table, (third + 0x1000 * table) | 3);
        for index in 0..512 {
            // To be written only (S2AP); all the same, so that no two become one.
            let leaf = BASE | 1 << 10 | 3 << 8 | 0b10 << 6 | 0xf << 2 | 3;
            memory.write64(third + 0x1000 * table + 8 * index, leaf);
        }
    }
    // Stage 1, from level 1 on: every GiB of 39 bits is the same GiB of intermediate addresses, to be read.
    memory.write_words(contexts, &[0x0005_e204_c000_3519, first, 0, 0xff]);
    for index in 0..512 {
        memory.write64(first + 8 * index, 1 << 30 | 0x0060_0000_0000_07c1);
    }
    let survey = |pieces| {
        let limits = Limits { pieces, ..Limits::default() };
        reach(&memory, &smmu(0), Scope::default(), limits, &mut |_| {})
    };
    let all = 512 * TABLES * 512;
    let found = survey(all);
    let [stream] = found.streams.as_slice() else { panic!("{found:x?}") };
    assert_eq!((stream.spaces.len(), stream.spaces[0].ranges.len()), (1, 0), "{found:x?}");
    assert!(!found.cut_short);
    assert!(survey(all - 1).cut_short && survey(1000).cut_short);
}

/// A1 of the reference, as stream 5, with room for mistakes.
fn a1() -> Words {
    let mut memory = Words::new().with_range(BASE, 0x10_0000);
    memory.write_words(BASE + 64 * 5, &[0x8002_000b, 0xd4]);
    memory.write_words(0x8002_0000, &[0x0005_e204_c000_3510, 0x8001_0000, 0, 0x0004_44ff]);
    memory.write64(0x8001_0000, 0x8001_1003);
    memory.write64(0x8001_1240, 0x8001_2003);
    memory.write64(0x8001_2d10, 0x8001_3003);
    memory.write64(0x8001_3b38, 0x0060_0000_9000_0f43);
    memory
}

#[test]
fn a1_reaches_one_page_and_nothing_is_wrong() {
    let found = survey(&a1(), &smmu(6));
    assert_eq!(found.findings, []);
    assert_eq!(found.severity(), None);
    let [stream] = found.streams.as_slice() else { panic!() };
    assert_eq!((stream.stream, stream.address), (5, BASE + 0x140));
    let [space] = stream.spaces.as_slice() else { panic!() };
    let [range] = space.ranges.as_slice() else { panic!() };
    assert_eq!((range.input, range.bytes, range.output), (0x12_3456_7000, 0x1000, 0x9000_0000));
    assert_eq!(range.attributes.to_string(), "Normal WB, ISH");
    assert_eq!(found.descriptors, 4 * 512);
    let labels: Vec<_> = found.tree.iter().map(|node| node.label.as_str()).collect();
    assert_eq!(labels, ["stream table", "STE 0x5", "CD", "S1 L0", "S1 L1", "S1 L2", "S1 L3"]);
}

#[test]
fn each_mistake_is_found_by_its_name() {
    const LEAF: u64 = 0x8001_3b40;
    const BLOCK: u64 = 0x8001_2d18;
    let cases: [(u64, u64, Kind); 15] = [
        // A page that is written and executed, a reserved encoding, a block with low address bits.
        (LEAF, 0x0020_0000_9100_0f43, Kind::WriteExecute),
        (LEAF, 0x0060_0000_9100_0f41, Kind::ReservedEncoding),
        (BLOCK, 0x0060_0000_9120_1f41, Kind::Misaligned),
        // Bits 49:48 without LPA2.
        (LEAF, 0x0062_0000_9100_0f43, Kind::ReservedBits),
        // An output of 45 bits under IPS 44; also of a table.
        (LEAF, 0x0060_1000_9100_0f43, Kind::BeyondSize),
        (BLOCK, 0x1000_8001_4003, Kind::BeyondSize),
        // Back to the root, and to a table that is there already.
        (BLOCK, 0x8001_0003, Kind::Loop),
        (BLOCK, 0x8001_3003, Kind::Shared),
        // A lone member of a contiguous group whose address is not that of a group.
        (LEAF, 0x0070_0000_9100_0f43, Kind::Contiguous),
        (LEAF, 0x0060_0000_9100_0b43, Kind::AccessFlag),
        // The device can write its own tables, its context, the stream table.
        (LEAF, 0x0060_0000_8001_3f43, Kind::TableMemory),
        (LEAF, 0x0060_0000_8002_0f43, Kind::TableMemory),
        (LEAF, 0x0060_0000_8000_0f43, Kind::TableMemory),
        // A table that is not in the image; a second half that is set and off.
        (BLOCK, 0x7000_0003, Kind::Missing),
        (0x8002_0010, 0x8001_5000, Kind::Unused),
    ];
    for (at, word, kind) in cases {
        let mut memory = a1();
        memory.write64(at, word);
        let found = survey(&memory, &smmu(6));
        // A loop is followed as hardware does: the root as last level has a page whose access flag is clear.
        let kinds = kinds(&found);
        let expected = [kind, Kind::AccessFlag];
        let expected = &expected[..1 + usize::from(kind == Kind::Loop)];
        assert_eq!(kinds, expected, "{word:#x}: {:#?}", found.findings);
        assert_eq!(found.findings[0].stream, Some(5));
    }
    // Stage 1 of a stream that is not there, configuration that is illegal or switched off.
    let entries: [([u64; 2], Kind); 3] = [
        ([0x8002_000b, 0xd4 | 1 << 30], Kind::Illegal),
        ([0x9, 1 << 44], Kind::Bypass),
        ([0x8002_002b | 2 << 59, 0xd4 | 2], Kind::Misaligned),
    ];
    for (words, kind) in entries {
        let mut memory = a1();
        // Eight bytes beside: hardware drops low bits of the pointer.
        memory.write_words(BASE + 64 * 5, &words);
        if kind == Kind::Misaligned {
            memory.write64(BASE + 64 * 5, 0x8002_004b | 2 << 59);
        }
        let found = survey(&memory, &smmu(6));
        assert_eq!(kinds(&found)[0], kind, "{words:x?}: {:#?}", found.findings);
    }
    assert_eq!(Kind::Bypass.severity(), Severity::Risk);
}

#[test]
fn streams_of_two_levels_are_listed_past_holes() {
    let mut memory = Words::new().with_range(BASE, 0x10_0000);
    // 2^16 streams, 256 of each; descriptors 3 and 200, whose spans are 4 and 9; a reserved span.
    memory.write64(BASE + 8 * 3, 0x8001_0000 | 4);
    memory.write64(BASE + 8 * 200, 0x8002_0000 | 9);
    memory.write64(BASE + 8 * 7, 0x8003_0000 | 12);
    memory.write64(BASE + 8 * 8, 0x8003_0040 | 10);
    memory.write_words(0x8001_0000 + 64 * 7, &[0x1]);
    // Beyond Span.
    memory.write_words(0x8001_0000 + 64 * 8, &[0x1]);
    memory.write_words(0x8002_0000 + 64 * 255, &[0x9, 1 << 44]);
    let smmu = Smmu::with_everything(StrtabBase(BASE), StrtabBaseCfg(16 | 8 << 6 | 1 << 16));
    let scope = Scope { only_streams: true, ..Scope::default() };
    let found = reach(&memory, &smmu, scope, Limits::default(), &mut |_| {});
    let streams: Vec<_> = found.streams.iter().map(|stream| stream.stream).collect();
    assert_eq!(streams, [0x307, 0xc8ff]);
    assert_eq!(kinds(&found), [Kind::BadLevel1, Kind::BadLevel1]);
    let one = Scope { stream: Some(0xc8ff), ..Scope::default() };
    let found = reach(&memory, &smmu, one, Limits::default(), &mut |_| {});
    assert_eq!(found.streams.len(), 1);
    assert_eq!(kinds(&found), [Kind::Bypass]);
    // One that is not there is nobody's.
    let none = Scope { stream: Some(0x308), ..Scope::default() };
    let found = reach(&memory, &smmu, none, Limits::default(), &mut |_| {});
    assert!(found.streams.is_empty());
}

#[test]
fn streams_that_share_a_context_say_so() {
    let mut memory = a1();
    memory.write_words(BASE + 64 * 9, &[0x8002_000b, 0xd4]);
    let found = survey(&memory, &smmu(6));
    let [first, second] = found.streams.as_slice() else { panic!() };
    assert_eq!(first.spaces[0].same_as, None);
    assert_eq!(second.spaces[0].same_as, Some((5, None)));
    assert_eq!(second.spaces[0].bytes, 0x1000);
    assert_eq!(found.findings, []);
}

#[test]
fn substreams_are_all_followed() {
    let mut memory = a1();
    // Four contexts; accesses without substream use the first.
    memory.write64(BASE + 64 * 5, 0x8002_000b | 2 << 59);
    memory.write64(BASE + 64 * 5 + 8, 0xd4 | 2);
    memory.write_words(0x8002_0080, &[0x0006_e204_c000_3510, 0x8001_0000, 0, 0x0004_44ff]);
    let found = survey(&memory, &smmu(6));
    let spaces: Vec<_> = found.streams[0].spaces.iter().map(|space| space.substream).collect();
    assert_eq!(spaces, [None, Some(2)]);
    let scope = Scope { stream: Some(5), substream: Some(2), only_streams: false };
    let found = reach(&memory, &smmu(6), scope, Limits::default(), &mut |_| {});
    let [space] = found.streams[0].spaces.as_slice() else { panic!() };
    assert_eq!((space.substream, space.ranges.len()), (Some(2), 1));
}

/// Every entry of every table leads to the next table: 2^36 ways to one page.
#[test]
fn tables_that_are_shared_without_end_are_not_followed_without_end() {
    let mut memory = a1();
    for table in [0x8001_0000u64, 0x8001_1000, 0x8001_2000] {
        for index in 0..512 {
            memory.write64(table + 8 * index, table + 0x1003);
        }
    }
    let found = survey(&memory, &smmu(6));
    assert!(found.descriptors <= 512 * (1 + 3 * 16), "{}", found.descriptors);
    assert!(found.ranges_left_out > 0);
    assert!(kinds(&found).contains(&Kind::Shared));
}

#[test]
fn neighbours_that_lead_nowhere_are_one() {
    let mut memory = a1();
    for stream in (0..5).chain(6..20) {
        memory.write_words(BASE + 64 * stream, &[0x1]);
    }
    for stream in 20..30 {
        memory.write_words(BASE + 64 * stream, &[0x9, 1 << 44]);
    }
    // Illegal: STRW is 1. Another entry than those before.
    for stream in 30..33 {
        memory.write_words(BASE + 64 * stream, &[0x8002_000b, 0xd4 | 1 << 30]);
    }
    // A hole ends a run.
    memory.write_words(BASE + 64 * 34, &[0x8002_000b, 0xd4 | 1 << 30]);
    let found = survey(&memory, &smmu(6));
    let streams: Vec<_> = found.streams.iter().map(|each| (each.stream, each.last)).collect();
    assert_eq!(streams, [(0, 4), (5, 5), (6, 19), (20, 29), (30, 32), (34, 34)]);
    let told: Vec<_> =
        found.findings.iter().map(|each| (each.kind, each.stream, each.last_stream)).collect();
    assert_eq!(
        told,
        [
            (Kind::Bypass, Some(20), Some(29)),
            (Kind::Illegal, Some(30), Some(32)),
            (Kind::Illegal, Some(34), None)
        ]
    );
    let labels: Vec<_> = found.tree.iter().map(|node| node.label.as_str()).collect();
    assert!(labels.contains(&"STE 0x6-0x13") && labels.contains(&"STE 0x5"), "{labels:?}");
    // What is not kept is counted, stream by stream.
    let limits = Limits { streams: 2, ..Limits::default() };
    let found = reach(&memory, &smmu(6), Scope::default(), limits, &mut |_| {});
    assert_eq!((found.streams.len(), found.streams_left_out), (2, 28));
}

/// A table that leads to itself maps itself: the device can write its own tables.
#[test]
fn what_is_reached_through_a_loop_is_found() {
    let mut memory = a1();
    // The level-2 table as its own last level: its entry 0x1a2 is then a page, the level-3 table.
    memory.write64(0x8001_2d18, 0x8001_2003);
    memory.write64(0x8001_2d10, 0x8001_3c43);
    let found = survey(&memory, &smmu(6));
    let kinds = kinds(&found);
    assert!(kinds.contains(&Kind::Loop) && kinds.contains(&Kind::TableMemory), "{kinds:?}");
    let access = Access::write(5, 0x12_3460_0000 | 0x1a2 << 12);
    let Outcome::Translated(to) = walk(&memory, &smmu(6), access).outcome else { panic!() };
    assert_eq!(to.address, 0x8001_3000);
}

/// Overrides of the STE leave no fetch of instructions, or no privileged access.
#[test]
fn what_a_stream_never_asks_for_is_no_finding() {
    for (leaf, word, expected) in [
        // For everybody, by unprivileged fetches; INSTCFG = 2 makes them data.
        (0x0020_0000_9100_0f43u64, 0, vec![Kind::WriteExecute]),
        (0x0020_0000_9100_0f43, 2 << 50, vec![]),
        // Privileged alone (AP = 00, PXN = 0); PRIVCFG = 2 and 3.
        (0x0040_0000_9100_0f03, 0, vec![Kind::WriteExecute]),
        (0x0040_0000_9100_0f03, 2 << 48, vec![]),
        (0x0040_0000_9100_0f03, 3 << 48, vec![Kind::WriteExecute]),
        // A table, which only privileged accesses can write.
        (0x0060_0000_8001_3f03, 0, vec![Kind::TableMemory]),
        (0x0060_0000_8001_3f03, 2 << 48, vec![]),
    ] {
        let mut memory = a1();
        memory.write64(BASE + 64 * 5 + 8, 0xd4 | word);
        memory.write64(0x8001_3b40, leaf);
        assert_eq!(kinds(&survey(&memory, &smmu(6))), expected, "{leaf:#x} {word:#x}");
        // Without the feature, the fields mean nothing.
        let mut plain = smmu(6);
        plain.implementation.idr1 = plain.implementation.idr1.with_attr_perms_ovr(false);
        assert_eq!(kinds(&survey(&memory, &plain)).len(), 1, "{leaf:#x} {word:#x}");
    }
}

/// 2^12 level-1 descriptors that all lead to the same 256 streams; 2^24 of them would make 2^32 of 128 MiB.
#[test]
fn arrays_of_streams_that_are_shared_are_not_listed_without_end() {
    struct Same;
    impl smmuv3_walk::Memory for Same {
        fn read64(&self, pa: u64) -> Result<u64, smmuv3_walk::Gap> {
            // The array is behind the first level; every second entry bypasses, so that none are a run.
            Ok(match pa {
                ..0x1000_0000 => 0x1000_0000 | 9,
                _ if pa & 0x3f == 0 => 0x9 - (pa >> 3 & 8),
                _ => 0,
            })
        }
    }
    let cfg = StrtabBaseCfg(20 | 8 << 6 | 1 << 16);
    let smmu = Smmu::with_everything(StrtabBase(0), cfg);
    let scope = Scope { only_streams: true, ..Scope::default() };
    let found = reach(&Same, &smmu, scope, Limits::default(), &mut |_| {});
    assert_eq!(found.streams.len(), 16 * 256);
    assert_eq!(found.streams_left_out, (1 << 20) - 16 * 256);
    assert_eq!(kinds(&found), [Kind::Shared]);
}

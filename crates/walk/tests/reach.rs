// SPDX-License-Identifier: MIT OR Apache-2.0
//! What streams reach: against single walks on random tables of both stages, and each kind of finding.

mod common;

use std::collections::BTreeMap;

use common::Random;
use smmuv3_formats::granule::{Granule, Tables};
use smmuv3_formats::register::{StrtabBase, StrtabBaseCfg};
use smmuv3_formats::{Cd, Ste};
use smmuv3_walk::reach::{Kind, Limits, Range, Scope, Severity, Survey, reach};
use smmuv3_walk::{Access, Outcome, Smmu, Words, walk};

const BASE: u64 = 0x8000_0000;
const BYTES: u64 = 8 << 20;

fn survey(memory: &Words, smmu: &Smmu) -> Survey {
    reach(memory, smmu, Scope::default(), Limits::default(), &mut |_| {})
}

fn kinds(survey: &Survey) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = survey.findings.iter().map(|finding| finding.kind).collect();
    kinds.sort_unstable();
    kinds
}

/// Tables under construction, of either stage.
struct Builder {
    memory: Words,
    random: Random,
    free: u64,
    written: Vec<(u64, u64)>,
}

impl Builder {
    fn new(seed: u64) -> Self {
        let memory = Words::new().with_range(BASE, BYTES);
        Self { memory, random: Random(seed), free: BASE + 0x1000, written: Vec::new() }
    }

    fn write(&mut self, at: u64, word: u64) {
        self.memory.write64(at, word);
        self.written.push((at, word));
    }

    fn allocate(&mut self, bytes: u64) -> Option<u64> {
        let at = self.free.next_multiple_of(bytes.max(64));
        self.free = at + bytes;
        (self.free <= BASE + BYTES).then_some(at)
    }

    /// Writes the leaf for `input` at `stop`, or at the first level below where one can be, with the tables on the
    /// way.
    fn map(
        &mut self,
        (tables, root, ds): (&Tables, u64, bool),
        known: &mut BTreeMap<(u64, u64), u64>,
        input: u64,
        stop: i8,
        leaf: impl FnOnce(&mut Random, u32) -> u64,
    ) -> Option<()> {
        let granule = tables.granule();
        let (mut level, mut table) = (tables.start_level(), root);
        loop {
            let above = if level == tables.start_level() {
                tables.input_bits()
            } else {
                granule.span(level - 1)
            };
            let at = table + 8 * ((input & ((1 << above) - 1)) >> granule.span(level));
            if level == 3 || level >= stop && granule.has_block(level, ds, 52) {
                if known.contains_key(&(at, 0)) || known.contains_key(&(at, 1)) {
                    return Some(());
                }
                let span = granule.span(level);
                let word = leaf(&mut self.random, span);
                let address =
                    encode(word & 0x000f_ffff_ffff_f000 & !((1 << span) - 1), granule, ds);
                let kind = if level == 3 { 0b11 } else { 0b01 };
                // With LPA2 the shareability gives way.
                let rest = word
                    & (0xfff | 0x1f << 50)
                    & !if ds && granule != Granule::K64 { 3 << 8 } else { 0 };
                self.write(at, address | rest | kind);
                known.insert((at, 1), 0);
                return Some(());
            }
            if known.contains_key(&(at, 1)) {
                return Some(());
            }
            table = match known.get(&(at, 0)) {
                Some(next) => *next,
                None => {
                    let next = self.allocate(1 << granule.shift())?;
                    self.write(at, next | 0b11);
                    known.insert((at, 0), next);
                    next
                }
            };
            level += 1;
        }
    }

    fn granule(&mut self) -> (Granule, u64) {
        self.random.one_of(&[(Granule::K4, 0), (Granule::K64, 1), (Granule::K16, 2)])
    }

    /// Stage 2 that leads to the tables, and to some more.
    fn stage_2(&mut self, mut ste: Ste, inputs: &mut Vec<u64>) -> Option<Ste> {
        let (granule, code) = self.granule();
        let ds = granule != Granule::K64 && self.random.one_in(2);
        let (sl0, t0sz, tables) = loop {
            let (sl0, t0sz) = (self.random.below(5), 12 + self.random.below(20));
            if let Some(tables) = Tables::stage_2(granule, sl0, t0sz, ds, true) {
                break (sl0, t0sz, tables);
            }
        };
        let root = self.allocate(tables.first_bytes().max(64))?;
        let mut known = BTreeMap::new();
        let leaf_log2 = granule.span(tables.start_level().max(2)).min(21);
        for page in (BASE..BASE + BYTES).step_by(1 << leaf_log2) {
            // Read, and usually not written; WB; AF.
            self.map((&tables, root, ds), &mut known, page, 2, |random, span| {
                let write = if random.one_in(3) { 0b10 << 6 } else { 0 };
                page & !((1 << span) - 1) | 1 << 10 | 0b01 << 6 | write | 0b1111 << 2
            })?;
        }
        for _ in 0..6 {
            let input = self.random.next() & ((1 << tables.input_bits()) - 1);
            let stop = self.random.below(4) as i8;
            inputs.push(input);
            self.map((&tables, root, ds), &mut known, input, stop, |random, _| {
                let address = random.next() & 0x000f_ffff_ffff_f000;
                address & if ds || granule == Granule::K64 { !0 } else { (1 << 48) - 1 }
                    | leaf(random)
            })?;
        }
        ste = ste.with_config(ste.config() | 0b010).with_s2_aa64(true).with_s2_r(true);
        ste = ste.with_s2_t0sz(t0sz).with_s2_sl0(sl0 & 3).with_s2_sl0_2(sl0 > 3).with_s2_tg(code);
        ste = ste.with_s2_ps(6).with_s2_ds(ds).with_s2_ttb(root).with_s2_sh0(3);
        Some(ste.with_s2_fwb(self.random.one_in(3)))
    }

    /// A context with a few mappings; outputs are among `outputs` where there are some.
    fn context(&mut self, outputs: &[u64], inputs: &mut Vec<u64>) -> Option<Cd> {
        let (granule, code) = self.granule();
        let ds = granule != Granule::K64 && self.random.one_in(2);
        let txsz = (if ds || granule == Granule::K64 { 12 } else { 16 }) + self.random.below(24);
        let tables = Tables::stage_1(granule, txsz)?;
        let root = self.allocate(tables.first_bytes().max(64))?;
        let upper = self.random.one_in(3);
        let base = if upper { !((1 << tables.input_bits()) - 1) } else { 0 };
        let mut known = BTreeMap::new();
        for _ in 0..8 {
            let input = self.random.next() & ((1 << tables.input_bits()) - 1);
            let stop = self.random.below(4) as i8;
            inputs.push(base | input);
            self.map((&tables, root, ds), &mut known, input, stop, |random, _| {
                let address =
                    if outputs.is_empty() { random.next() } else { random.one_of(outputs) };
                let wide = ds || granule == Granule::K64;
                address & 0x000f_ffff_ffff_f000 & if wide { !0 } else { (1 << 48) - 1 }
                    | leaf(random)
            })?;
        }
        let mut cd =
            Cd::default().with_v(true).with_aa64(true).with_a(true).with_r(true).with_ips(6);
        cd = cd.with_mair(0xff_44_00_04_bb_4f_0c_ff).with_ds(ds).with_sh0(2).with_sh1(3);
        cd = cd.with_wxn(self.random.one_in(4)).with_pan(self.random.one_in(4));
        cd = cd.with_ha(self.random.one_in(3)).with_affd(self.random.one_in(4));
        cd = cd.with_hd(cd.ha() && self.random.one_in(2));
        Some(if upper {
            let code = [2, 3, 1][code as usize];
            cd.with_epd0(true).with_tg1(code).with_t1sz(txsz).with_ttb1(root)
        } else {
            cd.with_epd1(true).with_tg0(code).with_t0sz(txsz).with_ttb0(root)
        })
    }

    /// A stream of any kind at `at`; what it maps is pushed to `inputs`.
    fn stream(&mut self, at: u64, inputs: &mut Vec<u64>) -> Option<()> {
        let mut ste = Ste::default().with_v(true).with_sh_cfg(1).with_config(0b100);
        let kind = self.random.below(3);
        let mut outputs = Vec::new();
        if kind > 0 {
            ste = self.stage_2(ste, if kind == 1 { inputs } else { &mut outputs })?;
        }
        if kind != 1 {
            let cd = self.context(&outputs, inputs)?;
            let table = self.allocate(64)?;
            for (index, word) in (0u64..).zip(cd.0) {
                self.write(table + 8 * index, word);
            }
            ste = ste.with_config(ste.config() | 0b001).with_s1_context_ptr(table);
        }
        for (index, word) in (0u64..).zip(ste.0) {
            self.write(at + 8 * index, word);
        }
        Some(())
    }
}

/// Attributes of a leaf of either stage.
fn leaf(random: &mut Random) -> u64 {
    let bits = random.next();
    let af = u64::from(!random.one_in(6)) << 10;
    // No contiguous hint: groups of one would disagree.
    bits & (0xfff | 0xf << 51) & !(1 << 10 | 0b11 | 1 << 52) | af
}

/// An address in a descriptor.
fn encode(address: u64, granule: Granule, ds: bool) -> u64 {
    match granule {
        Granule::K64 => address & 0x0000_ffff_ffff_f000 | (address >> 48 & 0xf) << 12,
        _ if ds => address & 0x0003_ffff_ffff_f000 | (address >> 50 & 0b11) << 8,
        _ => address & 0x0000_ffff_ffff_f000,
    }
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
        assert_eq!(kinds(&found), [kind], "{word:#x}: {:#?}", found.findings);
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

// SPDX-License-Identifier: MIT OR Apache-2.0
//! The walk against the model, which reads the same bits with code of its own: random stream tables, contexts and
//! stage-1 tables of every granule, some of them damaged, and random accesses.

mod common;

use std::collections::BTreeMap;
use std::rc::Rc;

use common::Random;
use smmuv3_formats::granule::{Granule, Tables};
use smmuv3_formats::register::{Cr0, Cr2, StrtabBase, StrtabBaseCfg};
use smmuv3_formats::{Cd, L1Cd, L1Std, Ste};
use smmuv3_model::Memory as _;
use smmuv3_model::{Adversary, Model, Profile, Ram, Reason};
use smmuv3_walk::{Access, Ending, Gap, Memory, Outcome, Smmu, walk};

const BASE: u64 = 0x8000_0000;
const BYTES: u64 = 4 << 20;

/// The model's memory, for the walk.
struct Same<'a>(&'a Ram);

impl Memory for Same<'_> {
    fn read64(&self, pa: u64) -> Result<u64, Gap> {
        self.0.read64(pa).map_err(|_| Gap::Abort)
    }
}

/// Tables under construction.
struct Builder<'a> {
    ram: &'a Ram,
    random: Random,
    free: u64,
    /// Words that were written, so that some can be damaged.
    written: Vec<u64>,
    /// Where something is mapped, or nearly.
    addresses: Vec<u64>,
}

impl Builder<'_> {
    fn write(&mut self, at: u64, word: u64) {
        self.ram.write64(at, word).unwrap();
        self.written.push(at);
    }

    /// Zeroed memory; `None` when there is no more.
    fn allocate(&mut self, bytes: u64) -> Option<u64> {
        let at = self.free.next_multiple_of(bytes.max(64));
        self.free = at + bytes;
        (self.free <= BASE + BYTES).then_some(at)
    }

    fn granule(&mut self) -> Granule {
        self.random.one_of(&Granule::ALL)
    }

    /// Maps some of the half of `tables` that begins at `base`; the first table.
    fn half(&mut self, tables: &Tables, base: u64, output: u32) -> Option<u64> {
        let root = self.allocate(tables.first_bytes().max(64))?;
        let granule = tables.granule();
        let mut known: BTreeMap<(u64, u64), u64> = BTreeMap::new();
        for _ in 0..1 + self.random.below(4) {
            let offset = self.random.next() & ((1 << tables.input_bits()) - 1);
            self.addresses.push(base | offset);
            let stop = self.random.below(5) as i8;
            let (mut level, mut table) = (tables.start_level(), root);
            loop {
                let above = if level == tables.start_level() {
                    tables.input_bits()
                } else {
                    granule.span(level - 1)
                };
                let index = (offset & ((1 << above) - 1)) >> granule.span(level);
                let at = table + 8 * index;
                let block = granule.has_block(level, false, 52) && level >= stop;
                if level == 3 || block {
                    let leaf = self.leaf(level, granule, output);
                    self.write(at, leaf);
                    break;
                }
                table = match known.get(&(table, index)) {
                    Some(next) => *next,
                    None => {
                        let next = self.allocate(1 << granule.shift())?;
                        let limits =
                            if self.random.one_in(4) { self.random.next() & 0x1f << 59 } else { 0 };
                        self.write(at, next | 0b11 | limits);
                        known.insert((table, index), next);
                        next
                    }
                };
                level += 1;
            }
        }
        Some(root)
    }

    fn leaf(&mut self, level: i8, granule: Granule, output: u32) -> u64 {
        let span = granule.span(level);
        let wide = if self.random.one_in(12) { 48 } else { output.min(48) };
        let address = self.random.next() & ((1 << wide) - 1) & !((1 << span) - 1);
        let high =
            if granule == Granule::K64 && output > 48 { self.random.below(16) << 12 } else { 0 };
        let kind = if level == 3 { 0b11 } else { 0b01 };
        let flag = |random: &mut Random, bit: u32, n: u64| u64::from(random.one_in(n)) << bit;
        let random = &mut self.random;
        let af = u64::from(!random.one_in(8)) << 10;
        address
            | high
            | kind
            | af
            | random.below(8) << 2
            | random.below(4) << 6
            | random.below(4) << 8
            | flag(random, 11, 2)
            | flag(random, 52, 6)
            | flag(random, 53, 2)
            | flag(random, 54, 2)
            | flag(random, 51, 4)
    }

    fn cd(&mut self, oas: u32) -> Option<Cd> {
        let mut cd = Cd::default().with_v(true).with_aa64(true);
        let ips = self.random.below(7);
        let output = [32, 36, 40, 42, 44, 48, 52][ips as usize].min(oas);
        cd = cd.with_ips(ips).with_asid(self.random.below(0x200));
        cd = cd.with_mair(self.random.next());
        for bit in [35, 36, 38, 39, 40, 45] {
            cd.0[0] |= u64::from(self.random.one_in(3)) << bit;
        }
        cd.0[0] |= u64::from(!self.random.one_in(8)) << 46;
        for (word, bit) in [(1, 1), (1, 2), (2, 1), (2, 2), (1, 59)] {
            cd.0[word] |= u64::from(self.random.one_in(4)) << bit;
        }
        for upper in [false, true] {
            if self.random.one_in(if upper { 2 } else { 8 }) {
                cd = if upper { cd.with_epd1(true) } else { cd.with_epd0(true) };
                continue;
            }
            let granule = self.granule();
            let txsz = 16 + self.random.below(24);
            let tables = Tables::stage_1(granule, txsz)?;
            let base = if upper { !((1 << tables.input_bits()) - 1) } else { 0 };
            let limit = if granule == Granule::K64 { output } else { output.min(48) };
            let root = self.half(&tables, base, limit)?;
            let code = match (upper, granule) {
                (false, Granule::K4) => 0,
                (false, Granule::K64) => 1,
                (false, Granule::K16) => 2,
                (true, Granule::K16) => 1,
                (true, Granule::K4) => 2,
                (true, Granule::K64) => 3,
            };
            cd = if upper {
                cd.with_tg1(code).with_t1sz(txsz).with_ttb1(root)
            } else {
                cd.with_tg0(code).with_t0sz(txsz).with_ttb0(root)
            };
        }
        Some(cd)
    }

    fn ste(&mut self, oas: u32) -> Option<Ste> {
        let config = self.random.one_of(&[0, 4, 5, 5, 5, 5, 5, 5]);
        let mut ste = Ste::default().with_v(true).with_config(config).with_sh_cfg(1);
        if self.random.one_in(3) {
            ste = ste.with_priv_cfg(self.random.below(4)).with_inst_cfg(self.random.below(4));
        }
        if config != 5 {
            return Some(ste);
        }
        let max = if self.random.one_in(2) { 0 } else { self.random.below(13) };
        let format = self.random.below(3);
        ste = ste.with_s1_cd_max(max).with_s1_fmt(format).with_s1_dss(self.random.below(4));
        let substreams: Vec<u64> =
            (0..if max == 0 { 1 } else { 3 }).map(|_| self.random.below(1 << max)).collect();
        let split = match (max, format) {
            (0, _) | (_, 0) => None,
            (_, 1) => Some(6),
            _ => Some(10),
        };
        let bytes = split.map_or(64 << max, |split| (8 << max.saturating_sub(split)).max(64));
        let table = self.allocate(bytes)?;
        let mut leaves: BTreeMap<u64, u64> = BTreeMap::new();
        for substream in substreams.into_iter().chain([0]) {
            let at = match split {
                None => table + 64 * substream,
                Some(split) => {
                    let index = substream >> split;
                    let leaf = match leaves.get(&index) {
                        Some(leaf) => *leaf,
                        None => {
                            let leaf = self.allocate(64 << split)?;
                            leaves.insert(index, leaf);
                            self.write(
                                table + 8 * index,
                                L1Cd::default().with_v(true).with_l2_ptr(leaf).0[0],
                            );
                            leaf
                        }
                    };
                    leaf + 64 * (substream & ((1 << split) - 1))
                }
            };
            let cd = self.cd(oas)?;
            for (index, word) in (0u64..).zip(cd.0) {
                self.write(at + 8 * index, word);
            }
        }
        Some(ste.with_s1_context_ptr(table))
    }
}

/// What both say, in the same words.
#[derive(Debug, PartialEq)]
enum Said {
    Translated { address: u64, bytes_log2: u32 },
    Silent,
    Event { words: [u64; 4], recorded: bool, abort: bool },
}

fn walked(ram: &Ram, smmu: &Smmu, access: Access) -> Said {
    let walk = walk(&Same(ram), smmu, access);
    match walk.outcome {
        Outcome::Translated(found) => {
            Said::Translated { address: found.address, bytes_log2: found.bytes_log2 }
        }
        Outcome::Silent { .. } => Said::Silent,
        Outcome::Fault(fault) => {
            // What is not recorded has no words.
            let words = if fault.recorded { fault.event.0 } else { [fault.id as u64, 0, 0, 0] };
            Said::Event { words, recorded: fault.recorded, abort: fault.ending == Ending::Abort }
        }
        other => panic!("{access:x?}: {other:x?}"),
    }
}

/// `None` where the model does not implement what is configured.
fn modelled<M: smmuv3_model::Memory>(model: &mut Model<M>, access: Access) -> Option<Said> {
    let refusal = match model.translate(smmuv3_model::Access {
        stream: access.stream,
        substream: access.substream,
        address: access.address,
        write: access.write,
        privileged: access.privileged,
        instruction: access.instruction,
    }) {
        Ok(found) => {
            let bytes_log2 = found.size.trailing_zeros();
            return Some(Said::Translated { address: found.pa, bytes_log2 });
        }
        Err(refusal) => refusal,
    };
    let (id, abort) = match refusal.reason {
        Reason::Config => return Some(Said::Silent),
        Reason::Event(id) => (id, true),
        Reason::Ignored(id) => (id, false),
        Reason::Unsupported(_) => return None,
        other => panic!("{other:?}"),
    };
    let words = refusal.event.map_or([id as u64, 0, 0, 0], |event| event.0);
    Some(Said::Event { words, recorded: refusal.event.is_some(), abort })
}

#[derive(Default)]
struct Counts {
    translated: u32,
    silent: u32,
    unsupported: u32,
    events: BTreeMap<u64, u32>,
}

fn compare(seed: u64, counts: &mut Counts) {
    let ram = Rc::new(Ram::new(BASE, BYTES as usize));
    let mut builder = Builder {
        ram: &ram,
        random: Random(seed),
        free: BASE,
        written: Vec::new(),
        addresses: Vec::new(),
    };
    let oas = builder.random.one_of(&[40, 44, 48, 52]);
    let mut profile = Profile::default()
        .oas(oas)
        .granules(true, true, true)
        .ssidsize(12)
        .two_level_contexts(true)
        .s2p(true)
        .asid16(builder.random.one_in(2))
        .adversary(Adversary::NONE);
    profile.idr3 = profile.idr3.with_e0pd(true).with_epan(true);
    profile.idr1 = profile.idr1.with_attr_perms_ovr(builder.random.one_in(2));
    profile.idr0 = profile.idr0.with_term_model(builder.random.one_in(2));

    // Eight streams of a linear table, or 64 of one with two levels.
    let two_levels = builder.random.one_in(2);
    let cfg = if two_levels { StrtabBaseCfg(8 | 6 << 6 | 1 << 16) } else { StrtabBaseCfg(3) };
    let table = builder.allocate(if two_levels { 64 } else { 512 }).unwrap();
    let array = builder.allocate(64 << 3).unwrap();
    if two_levels {
        builder.write(table + 8, L1Std::default().with_l2_ptr(array).with_span(4).0[0]);
    }
    let (array, first) = if two_levels { (array, 64) } else { (table, 0) };
    for index in 0..3 {
        let Some(ste) = builder.ste(oas) else { break };
        for (word, value) in (0u64..).zip(ste.0) {
            builder.write(array + 64 * index + 8 * word, value);
        }
    }
    if builder.random.one_in(3) {
        let at = builder.random.one_of(&builder.written.clone());
        let word = ram.read64(at).unwrap() ^ 1 << builder.random.below(64);
        ram.write64(at, word).unwrap();
    }
    if builder.random.one_in(6) {
        ram.break_range(builder.random.one_of(&builder.written.clone()), 8);
    }

    let recinvsid = builder.random.one_in(2);
    let cr2 = Cr2::default().with_recinvsid(recinvsid);
    // A new one for each access: what another has cached must not count.
    let enabled = || {
        let mut model = Model::new(profile.clone(), Rc::clone(&ram), seed);
        model.write64(StrtabBase::OFFSET, table);
        model.write32(StrtabBaseCfg::OFFSET, cfg.0);
        model.write32(Cr2::OFFSET, cr2.0);
        model.write32(Cr0::OFFSET, Cr0::default().with_smmuen(true).0);
        for _ in 0..4 {
            let _ = model.read32(0x24);
        }
        model
    };
    let mut smmu = Smmu::with_everything(StrtabBase(table), cfg);
    smmu.recinvsid = recinvsid;
    smmu.implementation.idr0 = profile.idr0;
    smmu.implementation.idr1 = profile.idr1;
    smmu.implementation.idr3 = profile.idr3;
    smmu.implementation.idr5 = profile.idr5;
    smmu.implementation.aidr = profile.aidr;

    builder.addresses.push(builder.random.0);
    for _ in 0..24 {
        let Builder { random, addresses, .. } = &mut builder;
        let mut address = random.one_of(addresses) ^ random.below(0x1000);
        if random.one_in(4) {
            address ^= random.next() << random.below(64);
        }
        let streams = if random.one_in(8) { 300 } else { 4 };
        let stream = first + random.below(streams) as u32;
        let most = if random.one_in(2) { 4 } else { 5000 };
        let substream = random.one_in(2).then(|| random.below(most) as u32);
        let access = Access {
            stream,
            substream,
            address,
            write: random.one_in(2),
            privileged: random.one_in(2),
            instruction: random.one_in(3),
        };
        let mine = walked(&ram, &smmu, access);
        let Some(theirs) = modelled(&mut enabled(), access) else {
            counts.unsupported += 1;
            continue;
        };
        assert_eq!(mine, theirs, "seed {seed}: {access:x?}");
        match mine {
            Said::Translated { .. } => counts.translated += 1,
            Said::Silent => counts.silent += 1,
            Said::Event { words, .. } => *counts.events.entry(words[0] & 0xff).or_default() += 1,
        }
    }
}

#[test]
fn the_walk_says_what_the_model_does() {
    let mut counts = Counts::default();
    for seed in 0..6000 {
        compare(seed, &mut counts);
    }
    // Nothing of what there is to say went untried.
    let Counts { translated, silent, unsupported, events } = counts;
    assert!(translated > 2000 && silent > 1000, "{translated} {silent}");
    assert!(unsupported < 2000, "{unsupported}");
    let ids: Vec<u64> = events.keys().copied().collect();
    assert_eq!(
        ids,
        [0x02, 0x03, 0x04, 0x06, 0x08, 0x09, 0x0a, 0x0b, 0x10, 0x11, 0x12, 0x13],
        "{events:?}"
    );
}

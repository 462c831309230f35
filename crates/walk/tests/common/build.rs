// SPDX-License-Identifier: MIT OR Apache-2.0
//! Streams of every kind, with tables of both stages, made at random.

use std::collections::BTreeMap;

use smmuv3_formats::granule::{Granule, Tables};
use smmuv3_formats::{Cd, Ste};
use smmuv3_walk::Words;

use super::Random;

/// Where the memory of [`Builder::new`] begins, and its stream table.
pub const BASE: u64 = 0x8000_0000;
/// Bytes of the memory.
pub const BYTES: u64 = 8 << 20;

/// Tables under construction, of either stage.
pub struct Builder {
    pub memory: Words,
    pub random: Random,
    free: u64,
    base: u64,
    pub written: Vec<(u64, u64)>,
    /// What QEMU has: 48-bit addresses, no updates by hardware, outputs within 64 MiB from this address on.
    plain: Option<u64>,
}

impl Builder {
    pub fn new(seed: u64) -> Self {
        Self::at(seed, BASE, None)
    }

    /// Tables in the memory from `base` on.
    pub fn at(seed: u64, base: u64, plain: Option<u64>) -> Self {
        let memory = Words::new().with_range(base, BYTES);
        let (random, free, written) = (Random(seed), base + 0x1000, Vec::new());
        Self { memory, random, free, base, written, plain }
    }

    /// LPA2, once in two times where it may be.
    fn ds(&mut self, granule: Granule) -> bool {
        granule != Granule::K64 && self.plain.is_none() && self.random.one_in(2)
    }

    /// An address of a leaf.
    fn output(random: &mut Random, plain: Option<u64>, wide: bool) -> u64 {
        let number = random.next();
        match plain {
            Some(base) if !random.one_in(16) => base + (number & 0x3ff_f000),
            // Beyond 44 bits, now and then.
            Some(_) => number & 0x0000_3fff_ffff_f000,
            None => number & 0x000f_ffff_ffff_f000 & if wide { !0 } else { (1 << 48) - 1 },
        }
    }

    fn write(&mut self, at: u64, word: u64) {
        self.memory.write64(at, word);
        self.written.push((at, word));
    }

    fn allocate(&mut self, bytes: u64) -> Option<u64> {
        let at = self.free.next_multiple_of(bytes.max(64));
        self.free = at + bytes;
        (self.free <= self.base + BYTES).then_some(at)
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
        // QEMU takes blocks of 4 TiB though its addresses have 44 bits.
        let output = if self.plain.is_some() { 44 } else { 52 };
        let (mut level, mut table) = (tables.start_level(), root);
        loop {
            let above = if level == tables.start_level() {
                tables.input_bits()
            } else {
                granule.span(level - 1)
            };
            let at = table + 8 * ((input & ((1 << above) - 1)) >> granule.span(level));
            if level == 3 || level >= stop && granule.has_block(level, ds, output) {
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
        let ds = self.ds(granule);
        let (sl0, t0sz, tables) = loop {
            // QEMU's intermediate addresses have 44 bits.
            let least = if self.plain.is_some() { 20 } else { 12 };
            let (sl0, t0sz) = (self.random.below(5), least + self.random.below(20));
            if let Some(tables) = Tables::stage_2(granule, sl0, t0sz, ds, self.plain.is_none())
                // QEMU 11.1 finds only the first of concatenated tables.
                && (self.plain.is_none() || tables.concatenated() == 1)
            {
                break (sl0, t0sz, tables);
            }
        };
        let root = self.allocate(tables.first_bytes().max(64))?;
        let mut known = BTreeMap::new();
        let leaf_log2 = granule.span(tables.start_level().max(2)).min(21);
        for page in (self.base..self.base + BYTES).step_by(1 << leaf_log2) {
            // Read, and usually not written; WB; AF.
            self.map((&tables, root, ds), &mut known, page, 2, |random, span| {
                let write = if random.one_in(3) { 0b10 << 6 } else { 0 };
                page & !((1 << span) - 1) | 1 << 10 | 0b01 << 6 | write | 0b1111 << 2
            })?;
        }
        let plain = self.plain;
        for _ in 0..6 {
            let input = self.random.next() & ((1 << tables.input_bits()) - 1);
            let stop = self.random.below(4) as i8;
            inputs.push(input);
            self.map((&tables, root, ds), &mut known, input, stop, |random, _| {
                Self::output(random, plain, ds || granule == Granule::K64) | leaf(random)
            })?;
        }
        ste = ste.with_config(ste.config() | 0b010).with_s2_aa64(true).with_s2_r(true);
        ste = ste.with_s2_t0sz(t0sz).with_s2_sl0(sl0 & 3).with_s2_sl0_2(sl0 > 3).with_s2_tg(code);
        let ps = if self.plain.is_some() { 4 } else { 6 };
        ste = ste.with_s2_ps(ps).with_s2_ds(ds).with_s2_ttb(root).with_s2_sh0(3);
        Some(ste.with_s2_fwb(self.plain.is_none() && self.random.one_in(3)))
    }

    /// A context with a few mappings; outputs are among `outputs` where there are some.
    fn context(&mut self, outputs: &[u64], inputs: &mut Vec<u64>) -> Option<Cd> {
        let (granule, code) = self.granule();
        let ds = self.ds(granule);
        let plain = self.plain;
        let wide = ds || granule == Granule::K64 && plain.is_none();
        let txsz = (if wide { 12 } else { 16 }) + self.random.below(24);
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
                let wide = ds || granule == Granule::K64;
                let address = if outputs.is_empty() {
                    Self::output(random, plain, wide)
                } else {
                    random.one_of(outputs) & 0x000f_ffff_ffff_f000
                };
                address & if wide { !0 } else { (1 << 48) - 1 } | leaf(random)
            })?;
        }
        let mut cd = Cd::default().with_v(true).with_aa64(true).with_a(true).with_r(true);
        cd = cd.with_ips(if plain.is_some() { 4 } else { 6 });
        cd = cd.with_mair(0xff_44_00_04_bb_4f_0c_ff).with_ds(ds).with_sh0(2).with_sh1(3);
        if plain.is_none() {
            cd = cd.with_wxn(self.random.one_in(4)).with_pan(self.random.one_in(4));
            cd = cd.with_ha(self.random.one_in(3)).with_affd(self.random.one_in(4));
            cd = cd.with_hd(cd.ha() && self.random.one_in(2));
        }
        Some(if upper {
            let code = [2, 3, 1][code as usize];
            cd.with_epd0(true).with_tg1(code).with_t1sz(txsz).with_ttb1(root)
        } else {
            cd.with_epd1(true).with_tg0(code).with_t0sz(txsz).with_ttb0(root)
        })
    }

    /// A stream of any kind at `at`; what it maps is pushed to `inputs`.
    pub fn stream(&mut self, at: u64, inputs: &mut Vec<u64>) -> Option<()> {
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

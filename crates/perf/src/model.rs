// SPDX-License-Identifier: MIT OR Apache-2.0
//! The model: translations a second, with nothing but what is asked for.

use std::hint::black_box;
use std::rc::Rc;

use smmuv3_formats::register::{Cr0, Cr0Ack, Cr2, StrtabBase, StrtabBaseCfg};
use smmuv3_model::{Access, Adversary, Memory, Model, Profile, Ram};

use crate::{Run, Workload};

const RAM: u64 = 0x8000_0000;
const STREAM_TABLE: u64 = RAM;
const CONTEXT: u64 = RAM + 0x1000;
const TABLES: u64 = RAM + 0x1_0000;
const PAGE: u64 = 4096;
const STREAM: u32 = 5;
/// Every entry of a first table: each page has tables of its own below it.
const WIDE: u64 = 256;
const MEMORY: u64 = 0x90_0000_0000;
/// AttrIndx 0, AP = 01, SH = 3, AF, nG, PXN, UXN.
const LEAF: u64 = 0x0060_0000_0000_0f43;
const TABLE: u64 = 0b11;

pub(crate) fn workloads() -> Vec<Workload> {
    vec![
        Workload { name: "model: TLB hit", units: 1, rounds: 100_000, prepare: hits },
        Workload {
            name: "model: TLB miss, walk of 4 levels",
            units: 1,
            rounds: WIDE / 2,
            prepare: misses,
        },
    ]
}

fn hits() -> Run {
    let (mut smmu, addresses) = machine();
    for &address in &addresses {
        assert!(smmu.translate(Access::read(STREAM, address)).is_ok());
    }
    Box::new(move |rounds| {
        for (_, &address) in (0..rounds).zip(addresses.iter().cycle()) {
            let found = smmu.translate(black_box(Access::read(STREAM, address)));
            assert!(found.is_ok_and(|found| found.tlb_hit));
        }
    })
}

fn misses() -> Run {
    let (mut smmu, addresses) = machine();
    // The configuration is cached; nothing of these addresses is.
    assert!(smmu.translate(Access::read(STREAM, 0)).is_err());
    Box::new(move |rounds| {
        for &address in &addresses[..rounds as usize] {
            let found = smmu.translate(black_box(Access::read(STREAM, address)));
            assert!(found.is_ok_and(|found| !found.tlb_hit));
        }
    })
}

/// A machine whose SMMU translates `STREAM` by tables made by hand; and what they map.
fn machine() -> (Model<Rc<Ram>>, Vec<u64>) {
    let tables = 1 + 3 * WIDE;
    let ram = Rc::new(Ram::new(RAM, (TABLES - RAM + tables * PAGE) as usize));
    let put = |pa, value| ram.write64(pa, value).expect("RAM");
    let mut addresses = Vec::new();
    for wide in 0..WIDE {
        // One entry of each level, at other places for every page. The first is left empty.
        let at = [wide + 1, wide * 7 % 512, wide * 13 % 512, wide * 29 % 512];
        let below = TABLES + (1 + 3 * wide) * PAGE;
        put(TABLES + at[0] * 8, below | TABLE);
        put(below + at[1] * 8, (below + PAGE) | TABLE);
        put(below + PAGE + at[2] * 8, (below + 2 * PAGE) | TABLE);
        put(below + 2 * PAGE + at[3] * 8, (MEMORY + wide * PAGE) | LEAF);
        addresses.push(at[0] << 39 | at[1] << 30 | at[2] << 21 | at[3] << 12);
    }
    // The context descriptor and stream table entry of appendix A1.
    for (word, value) in [0x0005_e204_c000_3510, TABLES, 0, 0x0004_44ff].into_iter().enumerate() {
        put(CONTEXT + 8 * word as u64, value);
    }
    for (word, value) in [CONTEXT | 0xb, 0xd4].into_iter().enumerate() {
        put(STREAM_TABLE + 64 * u64::from(STREAM) + 8 * word as u64, value);
    }
    let mut smmu = Model::new(Profile::default().adversary(Adversary::NONE), Rc::clone(&ram), 1);
    smmu.write32(Cr2::OFFSET, Cr2::default().with_recinvsid(true).0);
    smmu.write64(StrtabBase::OFFSET, STREAM_TABLE);
    smmu.write32(StrtabBaseCfg::OFFSET, StrtabBaseCfg::default().with_log2size(6).0);
    let on = Cr0::default().with_smmuen(true).0;
    smmu.write32(Cr0::OFFSET, on);
    while smmu.read32(Cr0Ack::OFFSET) != on {}
    (smmu, addresses)
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What guests may do, field by field and for any words; the expectations are written from §2.3, §4, §5.2, §6, §7 and §10.

use super::*;
use crate::ats::AtsMode;
use crate::features::{Features, IdRegisters};
use smmuv3_formats::register::{Aidr, Idr0, Idr1, Idr3, Idr5};
use smmuv3_formats::{Ste, StreamId};

mod any;
mod command;
mod context;
mod entry;
mod event;
mod guest;

/// QEMU's: no ATS, no stalls, no substreams.
fn qemu() -> Features {
    Features::decode(IdRegisters {
        idr0: Idr0(0x0d44_101b),
        idr1: Idr1(0x0273_0010),
        idr3: Idr3(0x1514),
        idr5: Idr5(0x74),
        aidr: Aidr(2),
        ..IdRegisters::default()
    })
    .unwrap()
}

/// One that has everything a guest can use: Arm's base platform (App. A5), as v3.4.
fn rich() -> Features {
    rich_but(|_| {})
}

fn rich_but(change: impl FnOnce(&mut IdRegisters)) -> Features {
    let idr3 = Idr3::default().with_had(true).with_pbha(true).with_xnx(true).with_fwb(true);
    let idr3 = idr3.with_stt(true).with_ril(true).with_bbml(2).with_e0pd(true);
    let idr3 = idr3.with_ptwnnc(true).with_epan(true).with_s1pi(true).with_s2pi(true);
    let idr5 = Idr5::default().with_oas(6).with_gran4k(true).with_gran16k(true);
    let mut registers = IdRegisters {
        idr0: Idr0(0x080f_e6bf).with_asid16(true).with_ns1ats(true),
        idr1: Idr1(0x0e73_9d20),
        idr3: idr3.with_aie(true),
        idr5: idr5.with_gran64k(true).with_ds(true).with_vax(1).with_stall_max(8),
        aidr: Aidr(4),
        ..IdRegisters::default()
    };
    change(&mut registers);
    Features::decode(registers).unwrap()
}

/// App. A2: 40-bit addresses, VMID 7, tables at 0x8004_0000.
const STAGE_2: Ste =
    Ste([0xd, 0x0000_1000_0000_0000, 0x040c_3558_0000_0007, 0x8004_0000, 0, 0, 0, 0]);

fn parent(features: &Features) -> Parent {
    Parent::new(STAGE_2, features).unwrap()
}

/// A guest that is shown what it can be, with `change`.
fn guest_of(features: &Features, change: impl FnOnce(&mut IdRegisters)) -> Guest {
    let parent = parent(features);
    let mut shown = Guest::offer(features, &parent);
    change(&mut shown);
    Guest::new(features, parent, shown).unwrap()
}

/// Of the rich SMMU, with substreams of 8 bits.
fn guest() -> Guest {
    guest_of(&rich(), |shown| shown.idr1 = shown.idr1.with_ssidsize(8))
}

const BOTH: Limits = Limits { ats: AtsMode::Full, stalls: true };
const STREAMS: [Assignment; 3] = [
    Assignment { guest: StreamId(0x10), host: StreamId(0x4_0001), ats: true },
    Assignment { guest: StreamId(0x11), host: StreamId(0x3_0000), ats: true },
    Assignment { guest: StreamId(0x80), host: StreamId(0x10), ats: true },
];

/// Numbers that are the same each time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// A word of any density: few bits, half of them, most.
    fn word(&mut self) -> u64 {
        match self.below(4) {
            0 => 0,
            1 => 1 << self.below(64),
            2 => self.next() & self.next() & self.next(),
            _ => self.next(),
        }
    }
}

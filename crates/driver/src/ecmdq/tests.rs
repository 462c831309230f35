// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the slots of queues are, and which descriptions are not believed (§2.6).

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::vec;
use std::vec::Vec;

use smmuv3_formats::register::{Aidr, Idr0, Idr1, Idr3, Idr5, Idr6};

use super::*;
use crate::features::IdRegisters;

/// Registers that hold what was written, and so many bytes of them.
struct Words(Mutex<BTreeMap<u32, u32>>, u64);

impl Words {
    fn new<const N: usize>(words: [(u32, u32); N], bytes: u64) -> Self {
        Self(Mutex::new(words.into()), bytes)
    }
}

impl Mmio for Words {
    fn read32(&self, offset: u32) -> u32 {
        self.0.lock().unwrap().get(&offset).copied().unwrap_or(0)
    }

    fn write32(&self, offset: u32, value: u32) {
        self.0.lock().unwrap().insert(offset, value);
    }

    fn bytes(&self) -> u64 {
        self.1
    }
}

/// QEMU's, with enhanced queues.
fn features(idr6: u32) -> Features {
    Features::decode(IdRegisters {
        idr0: Idr0(0x0d44_101b),
        idr1: Idr1(0x8273_0010),
        idr3: Idr3(0x0000_1414),
        idr5: Idr5(0x0000_0074),
        idr6: Idr6(idr6),
        aidr: Aidr(1),
        ..IdRegisters::default()
    })
    .unwrap()
}

fn offsets(slots: Slots, words: &Words) -> Vec<(u32, u32)> {
    slots.offsets(words).collect()
}

#[test]
fn queues_lie_evenly_in_each_page() {
    // LOG2NUMQ 2, LOG2NUMP 1: four queues in each of two pages.
    let slots = Slots::of(&features(0x0102_0000)).unwrap();
    assert_eq!(slots.count(), 8);
    let words = Words::new([(0x4000, 0x2_0003), (0x4020, 0x5_0003)], 0x6_0000);
    let expected = vec![
        (0, 0x2_0000),
        (0, 0x2_4000),
        (0, 0x2_8000),
        (0, 0x2_c000),
        (1, 0x5_0000),
        (1, 0x5_4000),
        (1, 0x5_8000),
        (1, 0x5_c000),
    ];
    assert_eq!(offsets(slots, &words), expected);
}

#[test]
fn pages_that_cannot_be_are_left_alone() {
    let slots = Slots::of(&features(0)).unwrap();
    for (what, base, high, bytes) in [
        ("not preset", 0x2_0002, 0, 0x3_0000),
        ("of another size", 0x2_0001, 0, 0x3_0000),
        ("over the two that each has", 0x1_0003, 0, 0x3_0000),
        ("not covered", 0x2_0003, 0, 0x2_0000),
        ("not covered", 0x2_0003, 0, 0x2_ffff),
        ("beyond 4 GiB", 0x2_0003, 0xff, u64::MAX),
    ] {
        let words = Words::new([(0x4000, base), (0x4004, high)], bytes);
        assert_eq!(offsets(slots, &words), [], "{what}");
    }
    let words = Words::new([(0x4000, 0x2_0003)], 0x3_0000);
    assert_eq!(offsets(slots, &words), [(0, 0x2_0000)]);
}

#[test]
fn queues_closer_than_their_registers_are_not_used() {
    // 64 KiB >> 12 is 16 bytes, which is what one has.
    assert!(Slots::of(&features(0x000c_0000)).is_some());
    assert_eq!(Slots::of(&features(0x000d_0000)), None);
}

/// LOG2NUMP has four bits, and the descriptions of 2^10 pages end with page 0 of the registers.
#[test]
fn descriptions_are_not_looked_for_beyond_the_registers() {
    assert!(Slots::of(&features(0x0a00_0000)).is_some());
    for log2 in 11..16 {
        assert_eq!(Slots::of(&features(log2 << 24)), None, "{log2}");
    }
}

#[test]
fn only_a_queue_that_is_used_is_told_not_to_be() {
    let words = Words::new([(0x2_0008, 0x8080_0005)], 0x3_0000);
    assert_eq!(disable(&words, 0x2_0000), 0x2_000c);
    // The acknowledgement of its errors stays.
    assert_eq!(words.read32(0x2_0008), 0x0080_0005);
    disable(&words, 0x2_4000);
    assert_eq!(words.0.lock().unwrap().get(&0x2_4008), None);
}

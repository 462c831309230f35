// SPDX-License-Identifier: MIT OR Apache-2.0
//! What tables of each form can say of a mapping, against §15.3, §16 and the independent walker, and what they can't.

mod common;

use common::Arena;
use common::oracle::Oracle;
use smmuv3_pagetable::*;
use smmuv3_walk::{Permissions, Rights};

const RW: Prot = Prot::READ.union(Prot::WRITE);
const RX: Prot = Prot::READ.union(Prot::EXECUTE);
/// Indices 3 to 6: write-through, nGnRnE, nGRE, GRE.
const MAIR_OF_ALL: u64 = 0x0C_0800_BB04_44FF;
const PA: u64 = 0x9000_0000;

fn full() -> TableConfig {
    TableConfig::new(48, 48).with_all_attributes()
}

/// Maps a page; gives its descriptor without the address, if it can be mapped.
fn descriptor<const SHIFT: u32, const STAGE: u8, const WIDE: bool>(
    config: TableConfig,
    attributes: Attributes,
) -> Result<u64, MapErrorKind> {
    let arena = Arena::new(0x8000_0000);
    let table = Table::<SHIFT, STAGE, WIDE>::with(&arena, &config).unwrap();
    // SAFETY: one thread.
    unsafe { table.map(&arena, Iova(0x1_0000), PhysAddr(PA), 1 << SHIFT, attributes) }
        .map_err(|error| error.kind)?;
    // SAFETY: one thread.
    let found = unsafe { table.lookup(&arena, Iova(0x1_0000)) }.unwrap();
    // Stage 1 can't refuse reads alone.
    let read = if STAGE == 1 { Prot::READ } else { Prot::NONE };
    let expected = Attributes { prot: attributes.prot | read, ..attributes };
    assert_eq!(found.attributes, expected, "{config:?}");
    let image = arena.image();
    let mut leaves = image.values().filter(|&&value| value & 0x0000_FFFF_F000_0000 == PA);
    Ok(leaves.next().unwrap() - PA)
}

#[test]
fn stage_1_permissions_have_their_bits() {
    let bits = |prot| descriptor::<12, 1, false>(full(), Attributes::normal(prot));
    // UXN 54, PXN 53, GP 50.
    assert_eq!(bits(RX), Ok(0x0000_0000_0000_0FC3));
    assert_eq!(bits(RX | Prot::PXN), Ok(0x0020_0000_0000_0FC3));
    assert_eq!(bits(RX | Prot::UXN), Ok(0x0040_0000_0000_0FC3));
    assert_eq!(bits(RX | Prot::GUARDED), Ok(0x0004_0000_0000_0FC3));
    assert_eq!(bits(RW | Prot::GUARDED), Ok(0x0064_0000_0000_0F43));
    // What takes nothing, and what takes all.
    for prot in [
        RW | Prot::PXN,
        RW | Prot::UXN,
        RX | Prot::PXN | Prot::UXN,
        RX | Prot::PRIVILEGED | Prot::PXN,
        RX | Prot::PRIVILEGED | Prot::UXN,
        Prot::EXECUTE,
        Prot::NONE,
    ] {
        assert_eq!(bits(prot), Err(MapErrorKind::NoPermission { prot }));
    }
}

#[test]
fn one_privilege_has_bits_of_its_own() {
    let config = full().with_one_privilege();
    let bits = |prot| descriptor::<12, 1, false>(config, Attributes::normal(prot));
    // §15.3: AP[1] is RES1, nG and PXN are RES0, bit 54 is XN.
    assert_eq!(bits(RW), Ok(0x0040_0000_0000_0743));
    assert_eq!(bits(RX), Ok(0x0000_0000_0000_07C3));
    for prot in [RW | Prot::PRIVILEGED, RX | Prot::PXN, RX | Prot::UXN] {
        assert_eq!(bits(prot), Err(MapErrorKind::NoPermission { prot }));
    }
    let arena = Arena::new(0x8000_0000);
    let upper = config.for_upper_half();
    assert_eq!(Stage1Table4K::with(&arena, &upper).unwrap_err(), TableError::UpperHalf);
}

#[test]
fn stage_2_permissions_have_their_bits() {
    let bits =
        |config: TableConfig, prot| descriptor::<12, 2, false>(config, Attributes::normal(prot));
    let xnx = full().with_execute_by_privilege();
    // XN 54:53: 00 all, 01 unprivileged, 10 none, 11 privileged.
    assert_eq!(bits(xnx, RX), Ok(0x0000_0000_0000_077F));
    assert_eq!(bits(xnx, RX | Prot::PXN), Ok(0x0020_0000_0000_077F));
    assert_eq!(bits(xnx, RX | Prot::UXN), Ok(0x0060_0000_0000_077F));
    assert_eq!(bits(xnx, RW), Ok(0x0040_0000_0000_07FF));
    assert_eq!(bits(xnx, Prot::WRITE), Ok(0x0040_0000_0000_07BF));
    for prot in [RX | Prot::PXN, RX | Prot::UXN, RW | Prot::PRIVILEGED, RW | Prot::GUARDED] {
        assert_eq!(bits(full(), prot), Err(MapErrorKind::NoPermission { prot }));
    }
}

#[test]
fn stage_1_types_are_bytes_of_mair() {
    let bits = |config: TableConfig, memory| {
        descriptor::<12, 1, false>(config, Attributes::new(RW, memory)).map(|bits| bits & 0x3FC)
    };
    let all = full().with_mair(MAIR_OF_ALL);
    // AP 01; SH 11 or 10 or 00; AttrIndx.
    assert_eq!(bits(all, Memory::NormalCacheable), Ok(0x340));
    assert_eq!(bits(all, Memory::NormalCacheableOuter), Ok(0x240));
    assert_eq!(bits(all, Memory::NormalCacheableNonShareable), Ok(0x040));
    assert_eq!(bits(all, Memory::NormalNonCacheable), Ok(0x240 | 1 << 2));
    assert_eq!(bits(all, Memory::Device), Ok(0x240 | 2 << 2));
    assert_eq!(bits(all, Memory::NormalWriteThrough), Ok(0x340 | 3 << 2));
    assert_eq!(bits(all, Memory::DeviceNGnRnE), Ok(0x240 | 4 << 2));
    assert_eq!(bits(all, Memory::DeviceNGRE), Ok(0x240 | 5 << 2));
    assert_eq!(bits(all, Memory::DeviceGRE), Ok(0x240 | 6 << 2));
    // Byte 3 of the usual MAIR is 0.
    assert_eq!(bits(full(), Memory::DeviceNGnRnE), Ok(0x240 | 3 << 2));
    let refused = |memory| Err(MapErrorKind::NoMemoryType { memory });
    for memory in [Memory::NormalWriteThrough, Memory::DeviceNGRE, Memory::AsStage1] {
        assert_eq!(bits(full(), memory), refused(memory));
    }
    // A MAIR that has them elsewhere, as Linux's: the table finds them, and says so when it looks them up.
    let other = full().with_mair(0x04_FF44);
    assert_eq!(bits(other, Memory::NormalCacheable), Ok(0x340 | 1 << 2));
    assert_eq!(bits(other, Memory::NormalNonCacheable), Ok(0x240));
}

#[test]
fn what_is_unusual_is_refused_unless_it_was_asked_for() {
    // Without shorter ways every table takes all that can be said.
    if !cfg!(feature = "fast-paths") {
        return;
    }
    let some = TableConfig::new(48, 48);
    let map = |attributes| descriptor::<12, 1, false>(some, attributes);
    let prot = RX | Prot::PXN;
    assert_eq!(map(Attributes::normal(prot)), Err(MapErrorKind::NoPermission { prot }));
    let memory = Memory::NormalCacheableOuter;
    assert_eq!(map(Attributes::new(RW, memory)), Err(MapErrorKind::NoMemoryType { memory }));
    assert!(map(Attributes::new(RX | Prot::PRIVILEGED, Memory::Device)).is_ok());
}

#[test]
fn stage_2_types_depend_on_fwb() {
    let bits = |config: TableConfig, memory| {
        descriptor::<12, 2, false>(config, Attributes::new(RW, memory)).map(|bits| bits >> 2 & 0xF)
    };
    let (without, with) = (full(), full().with_forced_types());
    for (memory, plain, forced) in [
        (Memory::NormalCacheable, Some(0b1111), Some(0b0110)),
        (Memory::NormalNonCacheable, Some(0b0101), Some(0b0101)),
        (Memory::Device, Some(0b0001), Some(0b0001)),
        (Memory::DeviceNGnRnE, Some(0b0000), Some(0b0000)),
        (Memory::DeviceNGRE, Some(0b0010), Some(0b0010)),
        (Memory::DeviceGRE, Some(0b0011), Some(0b0011)),
        (Memory::NormalWriteThrough, Some(0b1010), None),
        (Memory::AsStage1, None, Some(0b0111)),
    ] {
        let refused = MapErrorKind::NoMemoryType { memory };
        assert_eq!(bits(without, memory), plain.ok_or(refused), "{memory:?}");
        assert_eq!(bits(with, memory), forced.ok_or(refused), "{memory:?}");
    }
}

#[test]
fn lpa2_leaves_shareability_to_the_table() {
    let bits = |config: TableConfig, memory| {
        descriptor::<14, 1, true>(config, Attributes::new(RW, memory)).map(|bits| bits & 0x300)
    };
    assert_eq!(bits(full(), Memory::NormalCacheable), Ok(0));
    assert_eq!(bits(full(), Memory::Device), Ok(0));
    let memory = Memory::NormalCacheableOuter;
    assert_eq!(bits(full(), memory), Err(MapErrorKind::NoMemoryType { memory }));
    let outer = full().with_shareability(Shareability::Outer);
    assert_eq!(bits(outer, memory), Ok(0));
    let memory = Memory::NormalCacheable;
    assert_eq!(bits(outer, memory), Err(MapErrorKind::NoMemoryType { memory }));
}

/// What §16 says that attributes permit, in a regime of two privileges.
fn permitted(stage: u8, prot: Prot) -> Permissions {
    let has = |flag| prot.contains(flag);
    let (read, write) = (has(Prot::READ) || stage == 1, has(Prot::WRITE));
    let unprivileged = !has(Prot::PRIVILEGED);
    let execute = has(Prot::EXECUTE);
    // Stage 1 takes privileged execution of what unprivileged software can write.
    let taken = stage == 1 && unprivileged && write;
    Permissions {
        privileged: Rights { read, write, execute: execute && !has(Prot::PXN) && !taken },
        unprivileged: Rights {
            read: read && unprivileged,
            write: write && unprivileged,
            execute: execute && unprivileged && !has(Prot::UXN),
        },
    }
}

/// Every set of permissions and every type, by the walker.
fn walked<const SHIFT: u32, const STAGE: u8, const WIDE: bool>(config: TableConfig) -> usize {
    let arena = Arena::new(0x8000_0000);
    let table = Table::<SHIFT, STAGE, WIDE>::with(&arena, &config).unwrap();
    let mut expected = Vec::new();
    let mut at = 0;
    for bits in 0..128 {
        for memory in Memory::ALL {
            let attributes = Attributes::new(Prot::from_bits(bits), memory);
            // SAFETY: one thread.
            let got = unsafe {
                table.map(&arena, Iova(at), PhysAddr(PA + (at << 1)), 1 << SHIFT, attributes)
            };
            if got.is_ok() {
                expected.push((at, attributes));
                at += 1 << SHIFT;
            }
        }
    }
    let oracle = Oracle::configured(&arena, &table, &config);
    for &(at, Attributes { prot, memory }) in &expected {
        let found = oracle.walk(at).unwrap();
        assert_eq!(found.permissions, permitted(STAGE, prot), "{prot}");
        let (name, sh) = match memory {
            Memory::NormalCacheable => ("Normal WB", 3),
            Memory::NormalCacheableOuter => ("Normal WB", 2),
            Memory::NormalCacheableNonShareable => ("Normal WB", 0),
            Memory::NormalWriteThrough => ("Normal WT", 3),
            Memory::NormalNonCacheable => ("Normal NC", 2),
            Memory::DeviceNGnRnE => ("Device-nGnRnE", 2),
            Memory::Device => ("Device-nGnRE", 2),
            Memory::DeviceNGRE => ("Device-nGRE", 2),
            Memory::DeviceGRE => ("Device-GRE", 2),
            // A device that says nothing is write-back, not shared.
            Memory::AsStage1 => ("Normal WB", 0),
        };
        assert_eq!(found.attributes.memory.to_string(), name, "{memory:?}");
        let expected = ["NSH", "", "OSH", "ISH"][sh];
        assert_eq!(found.attributes.shareability.name(), expected, "{memory:?}");
        // SAFETY: one thread.
        let looked_up = unsafe { table.lookup(&arena, Iova(at)) }.unwrap().attributes;
        let read = if STAGE == 1 { Prot::READ } else { Prot::NONE };
        assert_eq!(looked_up, Attributes::new(prot | read, memory));
    }
    oracle.ranges();
    expected.len()
}

#[test]
fn everything_that_can_be_said_is_understood() {
    let all = full().with_mair(MAIR_OF_ALL);
    // 9 types; execution 0, X, X-PXN, X-UXN with 3 accesses, and 2 with 3 privileged ones; guarded or not.
    assert_eq!(walked::<12, 1, false>(all), 9 * (4 * 3 + 2 * 3) * 2);
    assert_eq!(walked::<16, 1, true>(all), 9 * (4 * 3 + 2 * 3) * 2);
    // Two shareabilities of three can't be said.
    assert_eq!(walked::<14, 1, true>(all), 7 * (4 * 3 + 2 * 3) * 2);
    assert_eq!(walked::<12, 2, false>(full()), 9 * 2 * 3);
    assert_eq!(walked::<12, 2, false>(full().with_execute_by_privilege()), 9 * 4 * 3);
    assert_eq!(
        walked::<16, 2, true>(full().with_execute_by_privilege().with_forced_types()),
        9 * 4 * 3
    );
    assert_eq!(walked::<14, 2, true>(full().with_forced_types()), 6 * 2 * 3);
    // Without shorter ways every table takes all of them.
    if cfg!(feature = "fast-paths") {
        let some = TableConfig::new(48, 48);
        assert_eq!(walked::<12, 1, false>(some), 3 * (2 * 3 + 2 * 3));
        assert_eq!(walked::<12, 2, false>(some.with_forced_types()), 3 * 2 * 3);
    }
}

/// What hardware marks permits the same, to the walker and to look-ups, clean or dirty.
#[test]
fn what_is_clean_may_be_written() {
    for dirty in [Dirty::Clean, Dirty::Born] {
        let config = TableConfig::new(48, 48).with_dirty(dirty);
        let all = config.with_mair(MAIR_OF_ALL).with_all_attributes();
        assert_eq!(walked::<12, 1, false>(all.with_access_flags()), 9 * (4 * 3 + 2 * 3) * 2);
        assert_eq!(walked::<14, 1, true>(config), 4 * (4 * 3 + 2 * 3) * 2);
        assert_eq!(walked::<16, 1, true>(all), 9 * (4 * 3 + 2 * 3) * 2);
        assert_eq!(walked::<12, 2, false>(all.with_execute_by_privilege()), 9 * 4 * 3);
        assert_eq!(walked::<16, 2, true>(all.with_access_flags().with_forced_types()), 9 * 2 * 3);
        assert_eq!(walked::<14, 2, true>(all.with_forced_types()), 6 * 2 * 3);
    }
}

#[test]
fn permissions_are_written_out() {
    assert_eq!((RX | Prot::PXN).to_string(), "r-x- pxn");
    assert_eq!((RW | Prot::PRIVILEGED).to_string(), "rw-p");
    let error = MapErrorKind::NoMemoryType { memory: Memory::NormalWriteThrough };
    assert_eq!(error.to_string(), "memory of type write-through can't be given");
}

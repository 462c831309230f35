// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every geometry: shapes as the reference lists them, and random calls against the model and the independent walker.

mod common;

use common::Arena;
use common::run::run;
use smmuv3_pagetable::*;

const STEPS: u32 = 48;

fn config(input: u32, output: u32) -> TableConfig {
    TableConfig::new(input, output)
}

#[test]
fn stage_1_with_48_bits() {
    for (seed, bits) in [32, 36, 39, 40, 42, 44, 47, 48].into_iter().enumerate() {
        let seed = seed as u64;
        run::<12, 1, false>(config(bits, 48), seed, STEPS);
        run::<14, 1, false>(config(bits, 44), seed, STEPS);
        run::<16, 1, false>(config(bits, 40), seed, STEPS);
    }
}

#[test]
fn stage_1_with_52_bits() {
    for (seed, bits) in [32, 42, 47, 48, 49, 50, 51, 52].into_iter().enumerate() {
        let seed = seed as u64;
        run::<12, 1, true>(config(bits, 52), seed, STEPS);
        run::<14, 1, true>(config(bits, 52), seed, STEPS);
        run::<16, 1, true>(config(bits, 52), seed, STEPS);
    }
}

#[test]
fn the_upper_half() {
    for (seed, bits) in [32, 39, 48].into_iter().enumerate() {
        let (seed, upper) = (seed as u64, config(bits, 48).for_upper_half());
        run::<12, 1, false>(upper, seed, STEPS);
        run::<14, 1, false>(upper, seed, STEPS);
        run::<16, 1, false>(upper, seed, STEPS);
    }
    run::<12, 1, true>(config(52, 52).for_upper_half(), 3, STEPS);
    run::<14, 1, true>(config(52, 52).for_upper_half(), 4, STEPS);
    run::<16, 1, true>(config(52, 52).for_upper_half(), 5, STEPS);
}

#[test]
fn stage_2_with_48_bits() {
    for (seed, bits) in [32, 36, 40, 42, 44, 48].into_iter().enumerate() {
        let seed = seed as u64;
        // The output is as wide as the input: the narrowest rule out start levels.
        run::<12, 2, false>(config(bits, bits), seed, STEPS);
        run::<14, 2, false>(config(bits, bits), seed, STEPS);
        run::<16, 2, false>(config(bits, bits), seed, STEPS);
    }
}

#[test]
fn stage_2_with_52_bits() {
    for (seed, bits) in [40, 48, 49, 50, 51, 52].into_iter().enumerate() {
        let seed = seed as u64;
        run::<12, 2, true>(config(bits, 52), seed, STEPS);
        run::<14, 2, true>(config(bits, 52), seed, STEPS);
        run::<16, 2, true>(config(bits, 52), seed, STEPS);
    }
    // The output rules out the first level: 16 tables of the next.
    run::<12, 2, true>(config(52, 48), 6, STEPS);
}

#[test]
fn concatenation_that_is_chosen() {
    for (bits, level) in [(40, 1), (43, 1), (34, 2), (32, 2)] {
        run::<12, 2, false>(config(bits, 48).starting_at(level), u64::from(bits), STEPS);
    }
    for (bits, level) in [(40, 2), (37, 2), (48, 1)] {
        run::<14, 2, false>(config(bits, 48).starting_at(level), u64::from(bits), STEPS);
    }
    for (bits, level) in [(46, 2), (43, 2), (33, 3), (32, 3)] {
        run::<16, 2, false>(config(bits, 48).starting_at(level), u64::from(bits), STEPS);
    }
    run::<12, 2, true>(config(52, 52).starting_at(0), 1, STEPS);
    run::<14, 2, true>(config(51, 52).starting_at(1), 2, STEPS);
}

/// Start level, bytes of the first table, and what an STE calls it.
fn shape<const SHIFT: u32, const STAGE: u8, const WIDE: bool>(
    config: TableConfig,
) -> Result<(i8, usize, u8), TableError> {
    let arena = Arena::new(0x8000_0000);
    let table = Table::<SHIFT, STAGE, WIDE>::with(&arena, &config)?;
    assert_eq!(table.root().0 % table.root_bytes() as u64, 0);
    let shape = (table.start_level(), table.root_bytes(), table.sl0());
    // SAFETY: one thread, no hardware.
    unsafe { table.destroy(&arena) };
    assert_eq!(arena.live(), 0);
    Ok(shape)
}

#[test]
fn first_tables_are_those_of_the_reference() {
    // §15.4, stage 1: T0SZ 12 to 15 start at level -1 with 4 KiB and DS, at 0 with 16 KiB, at 1 with 64 KiB.
    assert_eq!(shape::<12, 1, true>(config(52, 52)).unwrap().0, -1);
    assert_eq!(shape::<12, 1, true>(config(49, 52)).unwrap(), (-1, 64, 4));
    assert_eq!(shape::<12, 1, true>(config(48, 52)).unwrap().0, 0);
    assert_eq!(shape::<14, 1, true>(config(52, 52)).unwrap().0, 0);
    assert_eq!(shape::<16, 1, true>(config(52, 52)).unwrap(), (1, 1024 * 8, 2));
    // Stage 2, single tables and concatenated ones: SL0 and T0SZ of the rows.
    assert_eq!(shape::<12, 2, true>(config(52, 52)).unwrap(), (-1, 16 * 8, 4));
    assert_eq!(shape::<12, 2, true>(config(52, 48)).unwrap(), (0, 16 * 4096, 2));
    assert_eq!(shape::<12, 2, true>(config(52, 52).starting_at(0)).unwrap(), (0, 16 * 4096, 2));
    assert_eq!(shape::<14, 2, true>(config(52, 52)).unwrap(), (0, 32 * 8, 3));
    assert_eq!(shape::<14, 2, true>(config(51, 48)).unwrap(), (1, 16 * 0x4000, 2));
    assert_eq!(shape::<14, 2, false>(config(48, 48)).unwrap(), (1, 2 * 0x4000, 2));
    assert_eq!(shape::<16, 2, true>(config(52, 52)).unwrap(), (1, 1024 * 8, 2));
    // 40 bits with 4 KiB: one table of two entries, or two at level 1 if one chooses or the output says so.
    assert_eq!(shape::<12, 2, false>(config(40, 44)).unwrap(), (0, 64, 2));
    assert_eq!(shape::<12, 2, false>(config(40, 44).starting_at(1)).unwrap(), (1, 0x2000, 1));
    assert_eq!(shape::<12, 2, false>(config(40, 40)).unwrap(), (1, 0x2000, 1));
    assert_eq!(shape::<16, 2, false>(config(33, 44).starting_at(3)).unwrap(), (3, 16 << 16, 0));
}

#[test]
fn shapes_that_do_not_exist_are_refused() {
    let level = |level| Err(TableError::StartLevel(level));
    // More than 16 tables; more levels than the input has; none of stage 1 is chosen.
    assert_eq!(shape::<12, 2, false>(config(44, 48).starting_at(1)), level(1));
    assert_eq!(shape::<12, 2, false>(config(39, 48).starting_at(0)), level(0));
    assert_eq!(shape::<12, 2, false>(config(48, 42).starting_at(0)), level(0));
    assert_eq!(shape::<12, 2, false>(config(48, 48).starting_at(-1)), level(-1));
    assert_eq!(shape::<14, 2, true>(config(52, 52).starting_at(1)), level(1));
    assert_eq!(shape::<12, 1, false>(config(40, 48).starting_at(1)), level(1));
    assert_eq!(shape::<16, 2, false>(config(40, 48).starting_at(i8::MAX)), level(i8::MAX));
    assert_eq!(shape::<14, 2, true>(config(52, 48)), Err(TableError::InputBits(52)));
    assert_eq!(shape::<12, 2, false>(config(40, 48).for_upper_half()), Err(TableError::UpperHalf));
    assert_eq!(shape::<12, 1, true>(config(53, 48)), Err(TableError::InputBits(53)));
    assert_eq!(shape::<12, 1, true>(config(48, 53)), Err(TableError::OutputBits(53)));
    assert_eq!(shape::<12, 1, false>(config(52, 48)), Err(TableError::InputBits(52)));
}

#[test]
fn the_upper_half_ends_a_page_early() {
    let arena = Arena::new(0x8000_0000);
    let table = Stage1Table4K::with(&arena, &config(48, 48).for_upper_half()).unwrap();
    assert_eq!(table.base(), Iova(0xFFFF_0000_0000_0000));
    let rw = Attributes::normal(Prot::READ | Prot::WRITE);
    let map = |iova, len| {
        // SAFETY: one thread.
        unsafe { table.map(&arena, Iova(iova), PhysAddr(0x1000), len, rw) }
    };
    map(u64::MAX - 0x1FFF, 0x1000).unwrap();
    let beyond = |iova, len| {
        let error = RangeError::BeyondInput { iova: Iova(iova), len, input_bits: 48 };
        Err(MapError { mapped: 0, kind: MapErrorKind::Range(error) })
    };
    for iova in [u64::MAX - 0xFFF, 0, 0x1000, 0x0000_FFFF_FFFF_F000, 0xFFFE_FFFF_FFFF_F000] {
        assert_eq!(map(iova, 0x1000), beyond(iova, 0x1000));
        let mut gather = Gather::new();
        // SAFETY: one thread.
        let short = unsafe { table.unmap_pages(&arena, Iova(iova), 0x1000, &mut gather) };
        assert_eq!(short, None);
    }
    // What is gathered are addresses of the half.
    let (_, rounds) =
        common::unmap::<4, _, _, _>(&table, &arena, u64::MAX - 0x3FFF, 0x3000).unwrap();
    assert_eq!(rounds[0].range, u64::MAX - 0x1FFF..u64::MAX - 0xFFF);
}

#[test]
fn sizes_of_leaves_are_those_of_the_reference() {
    assert_eq!(Stage1Table4KLpa2::LEAF_SIZES, [1 << 12, 1 << 21, 1 << 30, 1 << 39]);
    assert_eq!(Stage2Table16KLpa2::LEAF_SIZES, [1 << 14, 1 << 25, 1 << 36]);
    assert_eq!(Stage2Table64KLpa::LEAF_SIZES, [1 << 16, 1 << 29, 1 << 42]);
}

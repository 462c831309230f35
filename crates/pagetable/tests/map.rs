// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mapping: exact descriptors, the choice of sizes, and every error.

mod common;

use common::{Arena, unmap};
use smmuv3_pagetable::*;

const RW: Attributes = Attributes::normal(Prot::READ.union(Prot::WRITE));
const K4: u64 = 0x1000;
const M2: u64 = 0x20_0000;
const G1: u64 = 0x4000_0000;

fn map<const SHIFT: u32, const STAGE: u8>(
    table: &Table<SHIFT, STAGE>,
    arena: &Arena,
    iova: u64,
    pa: u64,
    len: u64,
    attributes: Attributes,
) -> Result<(), MapError> {
    // SAFETY: one thread, one arena.
    unsafe { table.map(arena, Iova(iova), PhysAddr(pa), len, attributes) }
}

fn setup() -> (Arena, Stage1Table4K) {
    let arena = Arena::new(0x8001_0000);
    let table = Stage1Table4K::new(&arena, 48, 44).unwrap();
    (arena, table)
}

fn size_at<const SHIFT: u32, const STAGE: u8>(
    table: &Table<SHIFT, STAGE>,
    arena: &Arena,
    iova: u64,
) -> Option<u64> {
    arena.walk(table, iova).map(|(_, size, _)| size)
}

#[test]
fn the_worked_vector_of_stage_1_comes_out_bit_by_bit() {
    let (arena, table) = setup();
    map(&table, &arena, 0x12_3456_7000, 0x9000_0000, K4, RW).unwrap();
    assert_eq!(table.root(), PhysAddr(0x8001_0000));
    assert_eq!(table.start_level(), 0);
    let image = arena.image();
    let expected = [
        (0x8001_0000, 0x8001_1003 | SYNCED),
        (0x8001_1240, 0x8001_2003 | SYNCED),
        (0x8001_2D10, 0x8001_3003 | SYNCED),
        (0x8001_3B38, 0x0060_0000_9000_0F43),
    ];
    assert_eq!(image, expected.into_iter().collect());
    assert_eq!(SYNCED, 1 << 55);
    assert_eq!(MAIR, 0x0004_44FF);
}

#[test]
fn the_worked_vector_of_stage_2_uses_two_concatenated_tables() {
    let arena = Arena::new(0x8004_0000);
    let table = Stage2Table4K::new(&arena, 40, 40).unwrap();
    assert_eq!((table.start_level(), table.root_bytes()), (1, 0x2000));
    map(&table, &arena, 0xFF_1234_5000, 0x9000_0000, K4, RW).unwrap();
    let image = arena.image();
    let expected = [
        (0x8004_1FE0, 0x8004_2003 | SYNCED),
        (0x8004_2000 + 8 * 0x91, 0x8004_3003 | SYNCED),
        // S2AP 11, MemAttr 1111, SH 3, AF, XN[1].
        (0x8004_3000 + 8 * 0x145, 0x0040_0000_9000_07FF),
    ];
    assert_eq!(image, expected.into_iter().collect());
}

#[test]
fn every_attribute_has_its_bits_and_reads_back() {
    let (arena, table) = setup();
    let (r, w, x, p) = (Prot::READ, Prot::WRITE, Prot::EXECUTE, Prot::PRIVILEGED);
    let nc = Memory::NormalNonCacheable;
    for (attributes, bits) in [
        (Attributes::normal(r), 0x0060_0000_0000_0FC3),
        (Attributes::normal(r | w), 0x0060_0000_0000_0F43),
        (Attributes::normal(r | x), 0x0000_0000_0000_0FC3),
        (Attributes::normal(r | w | x), 0x0000_0000_0000_0F43),
        (Attributes::normal(r | p), 0x0060_0000_0000_0F83),
        (Attributes::normal(r | w | p), 0x0060_0000_0000_0F03),
        // Unprivileged instruction reads must stay out of a privileged page.
        (Attributes::normal(r | x | p), 0x0040_0000_0000_0F83),
        (Attributes::new(r | w, nc), 0x0060_0000_0000_0E47),
        (Attributes::new(r | w, Memory::Device), 0x0060_0000_0000_0E4B),
    ] {
        map(&table, &arena, 0x1000, 0x9000_0000, K4, attributes).unwrap();
        let (_, _, descriptor) = arena.walk(&table, 0x1000).unwrap();
        assert_eq!(descriptor, bits | 0x9000_0000, "{attributes:?}");
        // SAFETY: one thread.
        let mapping = unsafe { table.lookup(&arena, Iova(0x1234)) }.unwrap();
        assert_eq!(mapping, Mapping { pa: PhysAddr(0x9000_0234), size: K4, attributes });
        unmap::<4, _, _, _>(&table, &arena, 0x1000, K4).unwrap();
    }
    // Stage 1 can't refuse reads alone.
    map(&table, &arena, 0x1000, 0x9000_0000, K4, Attributes::normal(w)).unwrap();
    // SAFETY: one thread.
    let mapping = unsafe { table.lookup(&arena, Iova(0x1000)) }.unwrap();
    assert_eq!(mapping.attributes.prot, r | w);
}

#[test]
fn stage_2_attributes_have_their_bits_and_read_back() {
    let arena = Arena::new(0x8000_0000);
    let table = Stage2Table4K::new(&arena, 48, 48).unwrap();
    let (r, w, x) = (Prot::READ, Prot::WRITE, Prot::EXECUTE);
    for (attributes, bits) in [
        (Attributes::normal(r), 0x0040_0000_0000_077F),
        (Attributes::normal(w), 0x0040_0000_0000_07BF),
        (Attributes::normal(r | w | x), 0x0000_0000_0000_07FF),
        (Attributes::new(r | w, Memory::NormalNonCacheable), 0x0040_0000_0000_06D7),
        (Attributes::new(r | w, Memory::Device), 0x0040_0000_0000_06C7),
    ] {
        map(&table, &arena, 0, 0, K4, attributes).unwrap();
        assert_eq!(arena.walk(&table, 0).unwrap().2, bits, "{attributes:?}");
        // SAFETY: one thread.
        assert_eq!(unsafe { table.lookup(&arena, Iova(0)) }.unwrap().attributes, attributes);
        unmap::<4, _, _, _>(&table, &arena, 0, K4).unwrap();
    }
    let privileged = Attributes::normal(r | Prot::PRIVILEGED);
    let kind = MapErrorKind::NoPermission { prot: privileged.prot };
    assert_eq!(map(&table, &arena, 0, 0, K4, privileged), Err(MapError { mapped: 0, kind }));
}

#[test]
fn the_largest_leaf_that_fits_is_taken() {
    let (arena, table) = setup();
    // Two pages, a 2 MiB block, the rest up to 1 GiB, 1 GiB, 2 MiB, one page.
    let start = G1 - M2 - 2 * K4;
    map(&table, &arena, start, 0x8_0000_0000 + start, 2 * K4 + M2 + G1 + M2 + K4, RW).unwrap();
    for (iova, size) in [
        (start, K4),
        (start + K4, K4),
        (G1 - M2, M2),
        (G1, G1),
        (2 * G1 - K4, G1),
        (2 * G1, M2),
        (2 * G1 + M2, K4),
    ] {
        let (pa, got, _) = arena.walk(&table, iova + 0xABC).unwrap();
        assert_eq!((pa, got), (0x8_0000_0000 + iova + 0xABC, size), "{iova:#x}");
    }
    assert_eq!(arena.walk(&table, start - 1), None);
    assert_eq!(arena.walk(&table, 2 * G1 + M2 + K4), None);
}

#[test]
fn an_output_that_is_less_aligned_gets_smaller_leaves() {
    let (arena, table) = setup();
    map(&table, &arena, G1, 2 * G1 + M2, G1, RW).unwrap();
    assert_eq!(size_at(&table, &arena, G1), Some(M2));
    map(&table, &arena, 2 * G1, 4 * G1 + K4, M2, RW).unwrap();
    assert_eq!(size_at(&table, &arena, 2 * G1), Some(K4));
}

#[test]
fn a_block_goes_into_an_existing_table_as_pages() {
    let (arena, table) = setup();
    map(&table, &arena, 2 * M2, 0, K4, RW).unwrap();
    unmap::<4, _, _, _>(&table, &arena, 2 * M2, K4).unwrap();
    let frames = arena.live();
    // Blocks on both sides of the table that stayed.
    map(&table, &arena, M2, M2, 3 * M2, RW).unwrap();
    assert_eq!(arena.live(), frames);
    assert_eq!(size_at(&table, &arena, M2), Some(M2));
    assert_eq!(size_at(&table, &arena, 2 * M2), Some(K4));
    assert_eq!(size_at(&table, &arena, 3 * M2 - 1), Some(K4));
    assert_eq!(size_at(&table, &arena, 3 * M2), Some(M2));
}

#[test]
fn one_publish_a_run_and_two_more_a_table() {
    let (arena, table) = setup();
    let before = arena.publishes();
    map(&table, &arena, M2 - 8 * K4, 0, 16 * K4, RW).unwrap();
    // Four new tables (level 1, level 2, two of level 3), and a run in each of the last two.
    assert_eq!(arena.publishes() - before, 4 * 2 + 2);
    let before = arena.publishes();
    unmap::<4, _, _, _>(&table, &arena, M2 - 8 * K4, 16 * K4).unwrap();
    assert_eq!(arena.publishes() - before, 2);
}

#[test]
fn wrong_ranges_are_refused_before_anything_changes() {
    let (arena, table) = setup();
    let image = arena.image();
    let range = MapErrorKind::Range;
    let granule = K4;
    let (input_bits, output_bits) = (48, 44);
    let unaligned = |iova, len| range(RangeError::Unaligned { iova: Iova(iova), len, granule });
    let beyond = |iova, len| range(RangeError::BeyondInput { iova: Iova(iova), len, input_bits });
    let out = |pa, len| MapErrorKind::BeyondOutput { pa: PhysAddr(pa), len, output_bits };
    let top = 1 << 48;
    let last = u64::MAX - 0xFFF;
    for (iova, pa, len, kind) in [
        (0, 0, 0, range(RangeError::Empty)),
        (u64::MAX, u64::MAX, 0, range(RangeError::Empty)),
        (1, 0, K4, unaligned(1, K4)),
        (0, 0, 1, unaligned(0, 1)),
        (u64::MAX, 0, u64::MAX, unaligned(u64::MAX, u64::MAX)),
        (top, 0, K4, beyond(top, K4)),
        (top - K4, 0, 2 * K4, beyond(top - K4, 2 * K4)),
        (last, 0, K4, beyond(last, K4)),
        (last, 0, last, beyond(last, last)),
        (0, 1, K4, MapErrorKind::UnalignedOutput { pa: PhysAddr(1), granule }),
        (0, 1 << 44, K4, out(1 << 44, K4)),
        (0, (1 << 44) - K4, 2 * K4, out((1 << 44) - K4, 2 * K4)),
        (0, last, K4, out(last, K4)),
        (0, last, 2 * K4, out(last, 2 * K4)),
    ] {
        let error = MapError { mapped: 0, kind };
        assert_eq!(map(&table, &arena, iova, pa, len, RW), Err(error), "{error}");
    }
    for prot in [Prot::NONE, Prot::EXECUTE, Prot::PRIVILEGED, Prot::EXECUTE | Prot::PRIVILEGED] {
        let error = MapError { mapped: 0, kind: MapErrorKind::NoPermission { prot } };
        assert_eq!(map(&table, &arena, 0, 0, K4, Attributes::normal(prot)), Err(error));
    }
    assert_eq!(arena.image(), image);
    assert_eq!(arena.live(), 1);
    // The last page of both is fine.
    map(&table, &arena, top - K4, (1 << 44) - K4, K4, RW).unwrap();
    // SAFETY: one thread.
    let found = unsafe { table.lookup(&arena, Iova(top - 1)) }.unwrap();
    assert_eq!(found.pa, PhysAddr((1 << 44) - 1));
    // SAFETY: one thread.
    assert_eq!(unsafe { table.lookup(&arena, Iova(top)) }, None);
    // SAFETY: one thread.
    assert_eq!(unsafe { table.lookup(&arena, Iova(u64::MAX)) }, None);
}

#[test]
fn what_is_mapped_is_never_replaced() {
    let (arena, table) = setup();
    map(&table, &arena, G1, G1, G1, RW).unwrap();
    map(&table, &arena, M2, M2, M2, RW).unwrap();
    map(&table, &arena, 5 * K4, 0, K4, RW).unwrap();
    for (iova, len, at) in [
        // A page over a page, a block of 2 MiB, one of 1 GiB; a block over each, and over a table.
        (5 * K4, K4, 5 * K4),
        (M2 + K4, K4, M2 + K4),
        (G1 + M2 + K4, K4, G1 + M2 + K4),
        (M2, M2, M2),
        (G1, G1, G1),
        (G1 + M2, M2, G1 + M2),
    ] {
        let image = arena.image();
        let kind = MapErrorKind::Overlap { at: Iova(at) };
        assert_eq!(map(&table, &arena, iova, iova, len, RW), Err(MapError { mapped: 0, kind }));
        assert_eq!(arena.image(), image);
    }
    // A run that meets something says what it has mapped before it.
    let kind = MapErrorKind::Overlap { at: Iova(5 * K4) };
    let error = map(&table, &arena, 0, 0, M2, RW).unwrap_err();
    assert_eq!(error, MapError { mapped: 5 * K4, kind });
    assert_eq!(error.to_string(), "0x5000 is mapped already (0x5000 bytes before it are mapped)");
    let (unmapped, _) = unmap::<4, _, _, _>(&table, &arena, 0, error.mapped).unwrap();
    assert_eq!(unmapped, 5 * K4);
    // Over several tables too.
    let error = map(&table, &arena, 3 * M2, 0, G1, RW).unwrap_err();
    let kind = MapErrorKind::Overlap { at: Iova(G1) };
    assert_eq!(error, MapError { mapped: G1 - 3 * M2, kind });
}

#[test]
fn a_map_that_runs_out_of_frames_at_any_point_can_be_taken_back() {
    let (start, len) = (G1 - 5 * K4, M2 + 9 * K4);
    let pa = 0x7000;
    let (arena, table) = setup();
    map(&table, &arena, start, pa, len, RW).unwrap();
    let needed = arena.allocations() - 1;
    assert_eq!(needed, 6);
    for budget in 0..needed {
        let (arena, table) = setup();
        arena.limit(Some(budget));
        let error = map(&table, &arena, start, pa, len, RW).unwrap_err();
        let at = Iova(start + error.mapped);
        assert_eq!(error.kind, MapErrorKind::NoFrames { at });
        assert_eq!(arena.live(), 1 + budget);
        for page in (start..start + len).step_by(0x1000) {
            let expected = (page < at.0).then_some(page - start + pa);
            assert_eq!(arena.walk(&table, page).map(|found| found.0), expected);
        }
        if error.mapped != 0 {
            let (unmapped, _) = unmap::<4, _, _, _>(&table, &arena, start, error.mapped).unwrap();
            assert_eq!(unmapped, error.mapped);
        }
        arena.limit(None);
        map(&table, &arena, start, pa, len, RW).unwrap();
        // SAFETY: one thread, no hardware.
        unsafe { table.destroy(&arena) };
        assert_eq!(arena.live(), 0);
    }
}

/// Wide tables have blocks that are larger than all that some walkers put out.
#[test]
fn a_block_that_ends_beyond_the_output_is_refused() {
    let arena = Arena::new(0x1000_0000);
    let table = Table::<16, 1, true>::new(&arena, 52, 40).unwrap();
    let (pa, len) = (PhysAddr(0), 1 << 42);
    let kind = MapErrorKind::BeyondOutput { pa, len, output_bits: 40 };
    // SAFETY: nobody else uses the table.
    let result = unsafe { table.map(&arena, Iova(0), pa, len, RW) };
    assert_eq!(result, Err(MapError { mapped: 0, kind }));
}

#[test]
fn a_table_that_the_walker_cannot_address_is_given_back() {
    let arena = Arena::new(0xFFFF_0000);
    let frame = PhysAddr(0x1_0000_0000);
    let table = Stage1Table4K::new(&arena, 48, 32).unwrap();
    // 16 frames are below 4 GiB, one of which is the root.
    for gib in 0..7 {
        map(&table, &arena, gib * G1, 0, K4, RW).unwrap();
    }
    assert_eq!(arena.live(), 16);
    let kind = MapErrorKind::FrameBeyondOutput { frame, output_bits: 32 };
    assert_eq!(map(&table, &arena, M2, 0, K4, RW), Err(MapError { mapped: 0, kind }));
    assert_eq!(arena.live(), 16);
    let error = Stage1Table4K::new(&arena, 48, 32).unwrap_err();
    assert_eq!(error, TableError::FrameBeyondOutput { frame, output_bits: 32 });
    assert_eq!(arena.live(), 16);
}

#[test]
fn tables_of_unsupported_sizes_are_refused() {
    let arena = Arena::new(0x8000_0000);
    let new = |input, output| Stage1Table4K::new(&arena, input, output).map(drop);
    for bits in [0, 12, 31, 49, 64, u32::MAX] {
        assert_eq!(new(bits, 44), Err(TableError::InputBits(bits)));
        assert_eq!(new(48, bits), Err(TableError::OutputBits(bits)));
    }
    // Stage 2 with 40 bits of output starts at level 1, which 16 tables can widen to 43 bits only.
    let error = Stage2Table4K::new(&arena, 44, 40).map(drop);
    assert_eq!(error, Err(TableError::InputBits(44)));
    arena.limit(Some(0));
    assert_eq!(new(48, 48), Err(TableError::NoFrames { size: 0x1000 }));
    assert_eq!(arena.live(), 0);
}

#[test]
fn the_first_table_is_as_short_as_the_input_allows() {
    let arena = Arena::new(0x8000_0000);
    let shape = |bits| {
        let table = Stage1Table4K::new(&arena, bits, 48).unwrap();
        map(&table, &arena, (1 << bits) - M2 - K4, 0x5000, M2 + K4, RW).unwrap();
        assert_eq!(arena.walk(&table, (1 << bits) - 1).unwrap().0, 0x5000 + M2 + K4 - 1);
        assert_eq!(table.root().0 % table.root_bytes() as u64, 0);
        let shape = (table.start_level(), table.root_bytes());
        // SAFETY: one thread, no hardware.
        unsafe { table.destroy(&arena) };
        assert_eq!(arena.live(), 0);
        shape
    };
    assert_eq!(shape(32), (1, 64));
    assert_eq!(shape(36), (1, 64 * 8));
    assert_eq!(shape(39), (1, 512 * 8));
    assert_eq!(shape(40), (0, 64));
    assert_eq!(shape(42), (0, 64));
    assert_eq!(shape(44), (0, 32 * 8));
    assert_eq!(shape(48), (0, 512 * 8));
}

/// Maps the last bytes of the input so that every leaf size occurs, checks, unmaps, destroys.
fn round_trip<const SHIFT: u32, const STAGE: u8>(bits: u32) -> (i8, usize) {
    let arena = Arena::new(0x8000_0000);
    let table = Table::<SHIFT, STAGE>::new(&arena, bits, bits).unwrap();
    let page = 1 << SHIFT;
    let block = 1_u64 << (2 * SHIFT - 3);
    let (start, len) = ((1 << bits) - block - page, block + page);
    let pa = 3 * block - page;
    map(&table, &arena, start, pa, len, RW).unwrap();
    assert_eq!(size_at(&table, &arena, start), Some(page));
    assert_eq!(size_at(&table, &arena, start + page), Some(block));
    assert_eq!(arena.walk(&table, start + len - 1).unwrap().0, pa + len - 1);
    // SAFETY: one thread.
    let found = unsafe { table.lookup(&arena, Iova(start + len - 1)) }.unwrap();
    assert_eq!(found.pa, PhysAddr(pa + len - 1));
    assert_eq!(unmap::<4, _, _, _>(&table, &arena, start, len).unwrap().0, len);
    let shape = (table.start_level(), table.root_bytes());
    // SAFETY: one thread, no hardware.
    unsafe { table.destroy(&arena) };
    assert_eq!(arena.live(), 0);
    shape
}

#[test]
fn other_granules_and_stage_2_have_their_geometry() {
    // The widths and shapes of the reference's table of start levels.
    assert_eq!(round_trip::<14, 1>(36), (2, 2048 * 8));
    assert_eq!(round_trip::<14, 1>(40), (1, 16 * 8));
    assert_eq!(round_trip::<14, 1>(44), (1, 256 * 8));
    assert_eq!(round_trip::<14, 1>(48), (0, 64));
    assert_eq!(round_trip::<16, 1>(32), (2, 64));
    assert_eq!(round_trip::<16, 1>(40), (2, 2048 * 8));
    assert_eq!(round_trip::<16, 1>(48), (1, 64 * 8));
    assert_eq!(round_trip::<12, 2>(40), (1, 1024 * 8));
    assert_eq!(round_trip::<12, 2>(42), (1, 4096 * 8));
    assert_eq!(round_trip::<12, 2>(48), (0, 512 * 8));
    assert_eq!(round_trip::<14, 2>(40), (2, 32768 * 8));
    assert_eq!(round_trip::<14, 2>(48), (1, 4096 * 8));
    assert_eq!(round_trip::<16, 2>(42), (2, 8192 * 8));
    assert_eq!(round_trip::<16, 2>(48), (1, 64 * 8));
    assert_eq!(Stage1Table4K::LEAF_SIZES, [K4, M2, G1]);
    assert_eq!(Stage1Table16K::LEAF_SIZES, [0x4000, 0x200_0000]);
    assert_eq!(Stage1Table64K::LEAF_SIZES, [0x1_0000, 0x2000_0000]);
}

/// Every domain has one.
#[test]
fn a_table_is_small() {
    assert!(size_of::<Stage1Table4K>() <= 72 && size_of::<Stage2Table64KLpa>() <= 72);
}

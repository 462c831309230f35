// SPDX-License-Identifier: MIT OR Apache-2.0
//! What devices reach of a buffer while it is mapped, and what comes back.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

mod common;

use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use common::{PAGE, Rig, deferred, pattern};
use smmuv3::{Iova, Refused, pagetable::MapErrorKind};
use smmuv3_dma::{BufferError, Direction, DmaConfig, MapError, UnmapError};
use smmuv3_formats::EventId;
use smmuv3_model::Reason;

const CONFIGS: [fn() -> DmaConfig; 3] = [DmaConfig::strict, DmaConfig::lazy, deferred];
const ALL: [Direction; 3] = [Direction::ToDevice, Direction::FromDevice, Direction::Both];
const TRANSLATION: Reason = Reason::Event(EventId::FTranslation);
const PERMISSION: Reason = Reason::Event(EventId::FPermission);

/// Lengths and offsets of all kinds.
fn shapes() -> impl Iterator<Item = (usize, usize)> {
    let lens =
        [1, 2, 7, 63, 64, 512, 1501, 4095, 4096, 4097, 8191, 8192, 12289, 16384, 40000, 70001];
    [0, 1, 8, 511, 2048, 4095].into_iter().flat_map(move |offset| lens.map(|len| (offset, len)))
}

#[test]
fn data_comes_through_at_every_offset_and_length() {
    for config in CONFIGS {
        let mut rig = Rig::new(config());
        for (offset, len) in shapes() {
            for direction in ALL {
                // Fresh memory for each would not fit.
                if rig.world.area_pages() > 3800 {
                    rig.close();
                    rig = Rig::new(config());
                }
                let area = rig.world.area(offset, len);
                let (before, written) = (pattern(3, len), pattern(7, len));
                area.fill(&before);
                let iova = rig.map(&area, direction);
                assert_eq!(iova.0 % PAGE as u64, offset as u64);
                assert_eq!(rig.world.read(iova, len), Ok(before.clone()), "{offset} {len}");
                if direction == Direction::ToDevice {
                    assert_eq!(rig.world.write(iova, &written), Err(PERMISSION));
                } else {
                    rig.world.write(iova, &written).unwrap();
                }
                rig.unmap(iova, &area, direction);
                let after = if direction == Direction::ToDevice { before } else { written };
                assert!(area.bytes() == after, "{offset} {len} {direction:?}");
            }
        }
        rig.close();
    }
}

#[test]
fn neighbours_in_a_page_are_out_of_reach() {
    for config in CONFIGS {
        let rig = Rig::new(config());
        let area = rig.world.area(300, 2 * PAGE);
        let pages = rig.world.pages_of(&area);
        pages.fill(&[0xaa; 3 * PAGE]);
        area.fill(&pattern(1, 2 * PAGE));
        let iova = rig.map(&area, Direction::Both);
        let start = Iova(iova.0 - 300);
        // Zeros, nobody's bytes.
        assert_eq!(rig.world.read(start, 300), Ok(vec![0; 300]));
        let end = Iova(iova.0 + 2 * PAGE as u64);
        assert_eq!(rig.world.read(end, PAGE - 300), Ok(vec![0; PAGE - 300]));
        rig.world.write(start, &[0x55; 3 * PAGE]).unwrap();
        rig.unmap(iova, &area, Direction::Both);
        assert_eq!(area.bytes(), [0x55; 2 * PAGE]);
        let all = pages.bytes();
        assert!(all[..300].iter().chain(&all[300 + 2 * PAGE..]).all(|byte| *byte == 0xaa));
        // The page is used again, and holds nothing of the last buffer.
        let small = rig.world.area(0, 1);
        let iova = rig.map(&small, Direction::ToDevice);
        assert_eq!(rig.world.read(iova, PAGE), Ok(vec![0; PAGE]));
        rig.unmap(iova, &small, Direction::ToDevice);
        rig.close();
    }
}

#[test]
fn whole_pages_are_lent_where_they_are_however_they_are_scattered() {
    for whole_pages in [false, true] {
        let rig = Rig::new(DmaConfig::strict().with_whole_pages(whole_pages));
        let area = rig.world.area(4000, 9 * PAGE);
        let iova = rig.map(&area, Direction::Both);
        for page in 0..10 {
            // The last byte of the buffer in that page.
            let at = (page * PAGE + 95).min(9 * PAGE - 1);
            let expected = rig.world.physical(&area, at);
            let found = rig.world.reaches(Iova(iova.0 + at as u64), true).unwrap();
            let is_bounced = !whole_pages && (page == 0 || page == 9);
            assert_eq!(found == expected, !is_bounced, "page {page} {whole_pages}");
        }
        assert_eq!(rig.space.usage().bounce_pages, if whole_pages { 0 } else { 2 });
        // Groups of four pages are contiguous: no two of them are.
        let [third, fourth] = [3, 4].map(|page| rig.world.physical(&area, page * PAGE));
        assert_ne!(third + PAGE as u64, fourth);
        rig.unmap(iova, &area, Direction::Both);
        rig.close();
    }
}

#[test]
fn what_a_device_does_not_write_stays() {
    for config in CONFIGS {
        let rig = Rig::new(config());
        let area = rig.world.area(10, 600);
        area.fill(&[0x11; 600]);
        let iova = rig.map(&area, Direction::FromDevice);
        rig.world.write(Iova(iova.0 + 100), &[0x22; 50]).unwrap();
        rig.unmap(iova, &area, Direction::FromDevice);
        let bytes = area.bytes();
        assert_eq!(bytes.iter().filter(|byte| **byte == 0x11).count(), 550);
        assert_eq!(bytes[100..150], [0x22; 50]);
        rig.close();
    }
}

#[test]
fn strict_means_gone() {
    let rig = Rig::new(DmaConfig::strict());
    for (offset, len) in [(0, 4096), (5, 20), (100, 20000), (0, 1 << 21)] {
        let area = rig.world.area(offset, len);
        let iova = rig.map(&area, Direction::Both);
        let ends = [iova, Iova(iova.0 + len as u64 - 1)];
        for at in ends {
            // It is in the TLB.
            rig.world.reaches(at, true).unwrap();
        }
        rig.unmap(iova, &area, Direction::Both);
        for at in ends {
            assert_eq!(rig.world.reaches(at, false), Err(TRANSLATION), "{offset} {len}");
        }
        assert_eq!(rig.world.model().tlb_entries().count(), 0);
    }
    rig.close();
}

#[test]
fn what_is_no_buffer_is_refused() {
    let rig = Rig::new(DmaConfig::strict());
    let map = |address: usize, len: usize| {
        let start = NonNull::new(std::ptr::without_provenance_mut(address)).unwrap();
        let buffer = NonNull::slice_from_raw_parts(start, len);
        // SAFETY: nothing is mapped.
        unsafe { rig.space.map(buffer, Direction::Both) }
    };
    let empty = rig.world.area(0, 1).part(1..1);
    // SAFETY: nothing is mapped.
    let result = unsafe { rig.space.map(empty.pointer, Direction::Both) };
    assert_eq!(result, Err(MapError::Buffer(BufferError::Empty)));
    let (address, len) = (usize::MAX - 100, 200);
    assert_eq!(map(address, len), Err(MapError::Buffer(BufferError::Wraps { address, len })));
    // Memory that is not the devices', 8 pages from the page boundary below.
    let before = rig.space.usage();
    assert_eq!(map(0x10_0000, 0x8000), Err(MapError::NotMemory { address: 0x10_0000 }));
    // Longer than all input addresses.
    assert_eq!(map(0x1000, 1 << 30), Err(MapError::NoIova { pages: 1 << 18 }));
    let after = rig.space.usage();
    assert_eq!((after.mapped_pages, before.mapped_pages, after.held), (0, 0, 0));
    rig.close();
}

#[test]
fn a_buffer_that_ends_where_memory_ends_is_mapped_in_no_part() {
    let rig = Rig::new(DmaConfig::strict());
    // The last pages, and one byte of what is behind.
    let area = rig.world.area(0, (4096 - rig.world.area_pages()) * PAGE);
    let tail = area.part(area.pointer.len() - 8 * PAGE..area.pointer.len());
    let beyond = NonNull::slice_from_raw_parts(tail.pointer.cast::<u8>(), 9 * PAGE);
    // SAFETY: it is not mapped.
    let error = unsafe { rig.space.map(beyond, Direction::Both) };
    let address = tail.pointer.cast::<u8>().as_ptr().addr() + 8 * PAGE;
    assert_eq!(error, Err(MapError::NotMemory { address }));
    // What had been mapped is gone: the same addresses are given out again, and lead elsewhere.
    let start = Iova(rig.space.window().start);
    for page in 0..16 {
        let at = Iova(start.0 + page * PAGE as u64);
        assert_eq!(rig.world.reaches(at, false), Err(TRANSLATION));
    }
    assert_eq!(rig.space.usage().mapped_pages, 0);
    rig.close();
}

#[test]
fn without_frames_nothing_is_mapped_and_later_everything_works() {
    for config in CONFIGS {
        let rig = Rig::new(config());
        let area = rig.world.area(77, 50_000);
        let frames = &rig.world.frames_left;
        let mut failures = 0;
        // Bounce pages and tables: one allocation more each time.
        for left in 0.. {
            frames.store(left, Ordering::Relaxed);
            // SAFETY: the buffer is left alone.
            let result = unsafe { rig.space.map(area.pointer, Direction::Both) };
            frames.store(usize::MAX / 2, Ordering::Relaxed);
            match result {
                Ok(iova) => {
                    rig.unmap(iova, &area, Direction::Both);
                    break;
                }
                Err(MapError::NoBouncePage { .. }) => failures += 1,
                Err(MapError::Domain(error)) => {
                    assert!(matches!(error.kind, MapErrorKind::NoFrames { .. }));
                    failures += 1;
                }
                Err(error) => panic!("{error}"),
            }
            assert_eq!(rig.space.usage().mapped_pages, 0);
            assert!(left < 10);
        }
        assert!(failures >= 3, "two bounce pages, and tables: {failures}");
        rig.close();
    }
}

#[test]
fn a_map_that_fails_in_a_later_table_leaves_nothing_behind() {
    let rig = Rig::new(DmaConfig::strict());
    // Two tables, many runs each.
    let area = rig.world.area(0, 3 << 20);
    let start = rig.space.window().start;
    let mut failures = 0;
    for left in 0..10 {
        rig.world.frames_left.store(left, Ordering::Relaxed);
        // SAFETY: the buffer is left alone.
        let result = unsafe { rig.space.map(area.pointer, Direction::Both) };
        rig.world.frames_left.store(usize::MAX / 2, Ordering::Relaxed);
        if let Ok(iova) = result {
            assert_eq!(iova, Iova(start));
            rig.unmap(iova, &area, Direction::Both);
            break;
        }
        failures += 1;
        for page in 0..1024 {
            let found = rig.world.reaches(Iova(start + page * PAGE as u64), false);
            assert_eq!(found, Err(TRANSLATION), "page {page}");
        }
    }
    assert!(failures >= 2, "{failures}");
    rig.close();
}

#[test]
fn what_is_not_mapped_is_not_unmapped() {
    for config in CONFIGS {
        let rig = Rig::new(config());
        let area = rig.world.area(8, 100);
        let iova = rig.map(&area, Direction::Both);
        let unmap = |iova, area: &common::Area| {
            // SAFETY: nobody else uses it.
            unsafe { rig.space.unmap(iova, area.pointer, Direction::Both) }
        };
        // Elsewhere, beyond, and with another place in the page.
        for wrong in [iova.0 + 0x1000, iova.0 + 1, 8, u64::MAX - 7] {
            let iova = Iova(wrong);
            assert_eq!(unmap(iova, &area), Err(UnmapError::NotMapped { iova }));
        }
        assert_eq!(rig.world.read(iova, 100), Ok(area.bytes()));
        assert_eq!(unmap(iova, &area), Ok(()));
        assert_eq!(unmap(iova, &area), Err(UnmapError::NotMapped { iova }));
        let whole = rig.world.area(0, 8 * PAGE);
        let iova = rig.map(&whole, Direction::Both);
        assert_eq!(unmap(iova, &whole), Ok(()));
        assert_eq!(unmap(iova, &whole), Err(UnmapError::NotMapped { iova }));
        assert_eq!(rig.space.usage().mapped_pages, 0);
        rig.close();
    }
}

#[test]
fn a_mapping_that_stays_is_synchronised_by_hand() {
    for config in CONFIGS {
        let rig = Rig::new(config());
        for (offset, len) in [(3, 100), (3, 3 * PAGE), (0, 10 * PAGE)] {
            let area = rig.world.area(offset, len);
            area.fill(&pattern(1, len));
            let iova = rig.map(&area, Direction::Both);
            rig.world.write(iova, &pattern(2, len)).unwrap();
            // SAFETY: the device is told to wait.
            unsafe { rig.space.sync_for_cpu(iova, area.pointer, Direction::Both) }.unwrap();
            assert!(area.bytes() == pattern(2, len), "{offset} {len}");
            area.fill(&pattern(3, len));
            // SAFETY: as above.
            unsafe { rig.space.sync_for_device(iova, area.pointer, Direction::Both) }.unwrap();
            assert!(rig.world.read(iova, len).unwrap() == pattern(3, len), "{offset} {len}");
            rig.unmap(iova, &area, Direction::Both);
            assert!(area.bytes() == pattern(3, len));
        }
        rig.close();
    }
}

#[test]
fn buffers_are_given_away_and_come_back() {
    for config in CONFIGS {
        let rig = Rig::new(config());
        let area = rig.world.area(20, 9000);
        // SAFETY: the area is not used otherwise, and outlives what is made of it.
        let buffer = unsafe { area.into_static() };
        buffer.fill(4);
        let mut lent = rig.space.lend(buffer, Direction::Both).unwrap();
        let iova = lent.iova();
        rig.world.write(iova, &[5; 9000]).unwrap();
        let mut seen = [0; 100];
        rig.space.read(&mut lent, 8900, &mut seen).unwrap();
        assert_eq!(seen, [5; 100]);
        rig.space.write(&mut lent, 4500, &[6; 10]).unwrap();
        assert_eq!(
            rig.world.read(Iova(iova.0 + 4499), 12).unwrap()[..],
            [5, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 5]
        );
        assert!(rig.space.read(&mut lent, 8901, &mut seen).is_err());
        assert!(rig.space.write(&mut lent, usize::MAX, &seen).is_err());
        let other = Rig::new(config());
        let Refused { value: lent, error } = other.space.take_back(lent).map(drop).unwrap_err();
        assert_eq!(error, UnmapError::OtherSpace);
        other.close();
        let buffer = rig.space.take_back(lent).unwrap();
        assert_eq!((buffer[4499], buffer[4500], buffer[8999]), (5, 6, 5));
        // What is not memory that devices may be lent comes back as well.
        let Refused { value: heap, error } =
            rig.space.lend(vec![9u8; 50_000], Direction::ToDevice).unwrap_err();
        assert!(matches!(error, MapError::NotMemory { .. }), "{error}");
        assert!(heap.is_ok_and(|heap| heap == [9; 50_000]));
        // Unless all of it is bounced.
        let lent = rig.space.lend(vec![9u8; 50], Direction::ToDevice).unwrap();
        assert_eq!(rig.world.read(lent.iova(), 50), Ok(vec![9; 50]));
        assert_eq!(rig.space.take_back(lent).map_err(Refused::into_error), Ok(vec![9; 50]));
        rig.close();
    }
}

#[test]
fn exhausted_addresses_are_an_error_once_every_cache_is_empty() {
    for config in CONFIGS {
        let rig = Rig::new(config().with_window(Iova(0x40_0000), 16).with_whole_pages(true));
        let areas: Vec<_> = (0..16).map(|_| rig.world.area(0, PAGE)).collect();
        let pair = rig.world.area(0, 2 * PAGE);
        // Both CPUs have some for themselves, and some wait for a flush.
        for cpu in [0, 1] {
            common::run_on(cpu);
            let iovas: Vec<_> =
                areas.iter().map(|area| rig.map(area, Direction::ToDevice)).collect();
            // SAFETY: it is not mapped.
            let error = unsafe { rig.space.map(pair.pointer, Direction::ToDevice) };
            assert_eq!(error, Err(MapError::NoIova { pages: 2 }));
            let mut sorted: Vec<_> = iovas.iter().map(|iova| iova.0).collect();
            sorted.sort_unstable();
            let all: Vec<_> = (0..16).map(|page| 0x40_0000 + page * PAGE as u64).collect();
            assert_eq!(sorted, all);
            for (iova, area) in iovas.into_iter().zip(&areas) {
                rig.unmap(iova, area, Direction::ToDevice);
            }
        }
        // Joined again.
        common::run_on(0);
        let all = rig.world.area(0, 16 * PAGE);
        let iova = rig.map(&all, Direction::ToDevice);
        assert_eq!(iova, Iova(0x40_0000));
        rig.unmap(iova, &all, Direction::ToDevice);
        rig.close();
    }
}

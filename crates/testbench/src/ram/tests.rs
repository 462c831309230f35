// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

#[test]
fn what_is_discarded_reads_as_zeros() {
    let ram = Ram::heap(0x4000_0000, 2 * Ram::PAGE).unwrap();
    assert_eq!(ram.write64(0x4000_1000, 7), Some(()));
    ram.discard();
    assert_eq!(ram.read64(0x4000_1000), Some(0));
}

#[test]
fn what_anybody_wrote_is_zero_once_it_is_handed_out() {
    let ram = Ram::heap(BASE, 0x4000).unwrap();
    assert_eq!(ram.write64(BASE + 0x1ff8, 7), Some(()));
    assert_eq!(ram.zero64(BASE + 0x1000, 0x200), Some(()));
    ram.write(BASE + 0x2ffe, &[1, 2]).unwrap();
    assert_eq!(ram.zero64(BASE + 0x2000, 0x201), Some(()));
    let part = ram.part(BASE + 0x3000, 0x1000).unwrap();
    assert_eq!(part.compare_exchange64(BASE + 0x3ff8, 0, 9), Some(0));
    assert_eq!(ram.zero64(BASE + 0x3000, 0x200), Some(()));
    assert_eq!(ram.find64(BASE, 8, 0x800, 1), None);
    // By whoever had it, through a pointer.
    let pointer = ram.pointer(BASE).unwrap().cast::<AtomicU64>();
    // SAFETY: inside, and atomic.
    unsafe { pointer.as_ref() }.store(u64::MAX, Ordering::Relaxed);
    assert_eq!((ram.zero64(BASE, 1), ram.read64(BASE)), (Some(()), Some(0)));
    assert_eq!((ram.zero64(BASE + 0x3ff8, 2), ram.zero64(BASE - 8, 1)), (None, None));
}

const BASE: u64 = 0x4000_0000;

fn both() -> [Ram; 2] {
    [Ram::heap(BASE, 0x2000).unwrap(), Ram::shared(BASE, 0x2000).unwrap()]
}

#[test]
fn starts_as_zeros_and_reads_what_was_written() {
    for ram in both() {
        assert_eq!(ram.read64(BASE + 0x1ff8), Some(0));
        ram.write64(BASE + 8, 0x1122_3344_5566_7788).unwrap();
        assert_eq!(ram.read64(BASE + 8), Some(0x1122_3344_5566_7788));
    }
}

#[test]
fn words_are_little_endian_bytes() {
    for ram in both() {
        ram.write64(BASE, 0x1122_3344_5566_7788).unwrap();
        let mut bytes = [0; 3];
        ram.read(BASE + 6, &mut bytes).unwrap();
        assert_eq!(bytes, [0x22, 0x11, 0]);
    }
}

#[test]
fn copies_of_any_alignment_touch_only_their_bytes() {
    for ram in both() {
        for start in 0..9 {
            for len in 0..20 {
                ram.write(BASE, &[0xee; 40]).unwrap();
                let data: Vec<u8> = (1..=len).collect();
                ram.write(BASE + start as u64, &data).unwrap();
                let mut expected = [0xee; 40];
                expected[start..start + data.len()].copy_from_slice(&data);
                let mut all = [0; 40];
                ram.read(BASE, &mut all).unwrap();
                assert_eq!(all, expected, "{len} bytes at {start}");
                let mut part = vec![0; data.len()];
                ram.read(BASE + start as u64, &mut part).unwrap();
                assert_eq!(part, data);
            }
        }
    }
}

#[test]
fn accesses_outside_or_unaligned_are_refused_and_write_nothing() {
    for ram in both() {
        assert_eq!(ram.read64(BASE - 8), None);
        assert_eq!(ram.read64(BASE + 0x2000), None);
        assert_eq!(ram.read64(BASE + 4), None);
        assert_eq!(ram.write64(u64::MAX - 7, 1), None);
        let refused = ram.write(BASE + 0x1fff, &[1, 2]);
        assert_eq!(refused, Err(RamError::NotRam { pa: BASE + 0x1fff, len: 2 }));
        assert_eq!(ram.read64(BASE + 0x1ff8), Some(0));
        assert!(ram.contains(BASE + 0x2000, 0) && !ram.contains(BASE, 0x2001));
        assert!(ram.pointer(BASE + 0x2000).is_none());
    }
}

#[test]
fn what_has_the_bits_is_found_or_what_is_no_memory() {
    for ram in both() {
        ram.write64(BASE + 0x40 * 5, 0b1011).unwrap();
        ram.write64(BASE + 0x40 * 6, 0b0001).unwrap();
        ram.write64(BASE + 0x40 * 7, 0b1001).unwrap();
        assert_eq!(ram.find64(BASE, 0x40, 128, 0b1001), Some(5));
        assert_eq!(ram.find64(BASE + 0x40 * 6, 0x40, 122, 0b1001), Some(1));
        assert_eq!(ram.find64(BASE, 0x40, 5, 0b1001), None);
        assert_eq!(ram.find64(BASE, 8, 0, 1), None);
        assert_eq!(ram.find64(BASE, 0x40, 128, 0b110), None);
        assert_eq!(ram.find_any64(BASE, 0x40, 128, 0b1100), Some(5));
        assert_eq!(ram.find_any64(BASE + 0x40 * 6, 0x40, 122, 0b1100), Some(1));
        assert_eq!(ram.find_any64(BASE, 0x40, 128, 0b110_0000), None);
        assert_eq!(ram.find_any64(BASE + 0x1ff0, 8, 4, 1), Some(2));
        // One word has all bits; the others that are looked at together with it have some each.
        assert_eq!(ram.find64(BASE + 0x40, 0x40, 127, 0b1010), Some(4));
        assert_eq!(ram.find64(BASE + 0x40 * 6, 0x40, 8, 0b1010), None);
        // Beyond the end, and unaligned.
        assert_eq!(ram.find64(BASE + 0x1ff0, 8, 4, 1), Some(2));
        assert_eq!(ram.find64(BASE + 4, 8, 2, 1), Some(0));
        assert_eq!(ram.fill64(BASE + 0x1ff0, 3, 7), None);
        assert_eq!(ram.read64(BASE + 0x1ff0), Some(0));
        ram.fill64(BASE + 0x1ff0, 2, 7).unwrap();
        assert_eq!([0x1fe8, 0x1ff0, 0x1ff8].map(|at| ram.read64(BASE + at)), [0, 7, 7].map(Some));
    }
}

#[test]
fn a_part_is_the_same_memory_with_narrower_limits() {
    for ram in both() {
        let part = ram.part(BASE + 0x1000, 0x1000).unwrap();
        part.write64(BASE + 0x1000, 7).unwrap();
        assert_eq!(ram.read64(BASE + 0x1000), Some(7));
        assert_eq!(part.read64(BASE), None);
        assert_eq!(part.pointer(BASE + 0x1234), ram.pointer(BASE + 0x1234));
        ram.write64(BASE, 9).unwrap();
        part.clear().unwrap();
        assert_eq!((ram.read64(BASE + 0x1000), ram.read64(BASE)), (Some(0), Some(9)));
    }
}

#[test]
fn only_shared_ram_has_a_file() {
    let [heap, shared] = both();
    assert!(heap.as_fd().is_none() && shared.as_fd().is_some());
}

#[test]
fn shapes_that_are_not_in_pages_are_refused() {
    assert!(matches!(Ram::heap(BASE, 0), Err(RamError::Shape { .. })));
    assert!(matches!(Ram::heap(BASE + 8, 0x1000), Err(RamError::Shape { .. })));
    assert!(matches!(Ram::shared(BASE, 0x1001), Err(RamError::Shape { .. })));
    assert!(matches!(Ram::shared(u64::MAX - 0xfff, 0x2000), Err(RamError::Beyond { .. })));
}

#[test]
fn neighbouring_bytes_of_one_word_survive_concurrent_writers() {
    let ram = Ram::heap(BASE, 0x1000).unwrap();
    std::thread::scope(|scope| {
        for lane in 0..4u64 {
            let ram = &ram;
            scope.spawn(move || {
                for round in 0..=255u8 {
                    ram.write(BASE + lane, &[round]).unwrap();
                    let mut seen = [0];
                    ram.read(BASE + lane, &mut seen).unwrap();
                    assert_eq!(seen, [round]);
                }
            });
        }
    });
    assert_eq!(ram.read64(BASE), Some(0xffff_ffff));
}

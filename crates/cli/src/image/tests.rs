// SPDX-License-Identifier: MIT OR Apache-2.0
//! Images in files.

use std::io::Write;

use super::*;

fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn name(file: &tempfile::NamedTempFile, base: Option<u64>) -> ImageName {
    ImageName { path: file.path().to_owned(), base }
}

/// An ELF core with these runs: physical address, bytes in memory, bytes in the file.
pub fn core(runs: &[(u64, u64, &[u8])]) -> Vec<u8> {
    let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0];
    elf.resize(16, 0);
    let half = |elf: &mut Vec<u8>, value: u16| elf.extend(value.to_le_bytes());
    let long = |elf: &mut Vec<u8>, value: u64| elf.extend(value.to_le_bytes());
    half(&mut elf, 4); // ET_CORE
    half(&mut elf, 183); // AArch64
    elf.extend(1u32.to_le_bytes());
    long(&mut elf, 0);
    long(&mut elf, 64); // Program headers.
    long(&mut elf, 0);
    elf.extend(0u32.to_le_bytes());
    for value in [64, 56, runs.len() as u16, 64, 0, 0] {
        half(&mut elf, value);
    }
    let mut offset = 64 + 56 * runs.len() as u64;
    for (base, memory, bytes) in runs {
        elf.extend(1u32.to_le_bytes()); // PT_LOAD
        elf.extend(0u32.to_le_bytes());
        for value in [offset, 0xffff_0000_0000_0000 | base, *base, bytes.len() as u64, *memory, 0] {
            long(&mut elf, value);
        }
        offset += bytes.len() as u64;
    }
    for (.., bytes) in runs {
        elf.extend_from_slice(bytes);
    }
    elf
}

#[test]
fn raw_images_are_where_they_are_put() {
    let bytes: Vec<u8> = (0..=255).collect();
    let (one, other) = (file(&bytes), file(&[0xee; 20]));
    let names = [name(&other, Some(0x1000)), name(&one, Some(0x8000_0000))];
    let images = Images::open(&names, false).unwrap();
    assert_eq!(images.read64(0x8000_0008), Ok(0x0f0e_0d0c_0b0a_0908));
    assert_eq!(images.read64(0x1008), Ok(0xeeee_eeee_eeee_eeee));
    // Only four bytes of the word are there.
    assert_eq!(images.read64(0x1010), Err(Gap::Missing));
    assert_eq!(images.read64(0xff8), Err(Gap::Missing));
    let mut words = [0; 3];
    assert_eq!(images.read_words(0x8000_00f0, &mut words), Err((0x8000_0100, Gap::Missing)));
    assert_eq!(words[1], 0xfffe_fdfc_fbfa_f9f8);
    let whole = Images::open(&names, true).unwrap();
    assert_eq!(whole.read64(0x8000_0100), Err(Gap::Abort));
    assert_eq!(images.ranges().collect::<Vec<_>>(), [(0x1000, 20), (0x8000_0000, 256)]);
    assert!(images.finish().is_ok());
}

#[test]
fn overlaps_are_refused() {
    let (one, other) = (file(&[0; 4096]), file(&[0; 4096]));
    let error =
        Images::open(&[name(&one, Some(0x1000)), name(&other, Some(0x1ff8))], false).unwrap_err();
    assert!(error.to_string().contains("both have 0x1ff8"), "{error}");
    assert!(Images::open(&[name(&one, Some(0x1000)), name(&other, Some(0x2000))], false).is_ok());
}

#[test]
fn holes_are_skipped_without_being_kept() {
    let sparse = tempfile::NamedTempFile::new().unwrap();
    sparse.as_file().set_len(64 << 20).unwrap();
    sparse.as_file().write_at(&[7], (40 << 20) + 5).unwrap();
    let images = Images::open(&[name(&sparse, Some(0))], false).unwrap();
    assert_eq!(images.data_from(0, u64::MAX), Some((40 << 20) + 5));
    assert_eq!(images.data_from((40 << 20) + 6, u64::MAX), None);
    assert_eq!(images.data_from(0, 40 << 20), None);
    assert_eq!(images.read64(0x1000), Ok(0));
    // Reading words here and there reads pages, not the file.
    let before = images.bytes_read();
    for at in (0..32 << 20).step_by(1 << 20) {
        assert_eq!(images.read64(at), Ok(0));
    }
    assert!(images.bytes_read() - before <= 32 * PAGE as u64);
}

#[test]
fn elf_cores_know_their_addresses() {
    let runs: [(u64, u64, &[u8]); 2] =
        [(0x4000_0000, 0x40, &[1; 0x20]), (0x8000_0000, 0x10, &[2; 0x10])];
    let elf = file(&core(&runs));
    let images = Images::open(&[name(&elf, None)], false).unwrap();
    assert_eq!(images.read64(0x4000_0018), Ok(0x0101_0101_0101_0101));
    // What the header has and the file has not was left out of the dump.
    assert_eq!(images.read64(0x4000_0020), Err(Gap::Missing));
    assert_eq!(images.read64(0x8000_0008), Ok(0x0202_0202_0202_0202));
    assert_eq!(images.data_from(0, u64::MAX), Some(0x4000_0000));
    assert_eq!(images.data_from(0x4000_0020, u64::MAX), Some(0x8000_0000));
}

#[test]
fn what_is_no_image_says_what_to_do() {
    let refused = |bytes: &[u8], words: &str| {
        let file = file(bytes);
        let error = Images::open(&[name(&file, None)], false).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    refused(b"KDUMP   \x06\0\0\0", "makedumpfile -E");
    refused(&[0; 100], "--memory FILE@0x40000000");
    refused(&core(&[]), "without memory");
    refused(&core(&[(0, 8, &[0; 8]), (0, 8, &[0; 8])]), "core of a process");
    refused(&core(&[(0x1000, 8, &[0; 8])])[..70], "ELF core");
    refused(b"\x7fELF", "ELF core");
    let empty = file(&[]);
    let error = Images::open(&[name(&empty, Some(0))], false).unwrap_err().to_string();
    assert!(error.contains("is empty"), "{error}");
    let gone = ImageName { path: "/no/such/file".into(), base: None };
    assert!(matches!(Images::open(&[gone], false), Err(ImageError::Read { .. })));
}

/// Headers with every byte changed in turn never lead to a panic, or to more memory than the file has.
#[test]
fn damaged_headers_are_harmless() {
    let good = core(&[(0x4000_0000, 0x40, &[1; 0x20]), (0x8000_0000, 0x10, &[2; 0x10])]);
    for at in 0..64 + 112 {
        for value in [0, 1, 0x7f, 0xff] {
            let mut bad = good.clone();
            bad[at] = value;
            let bad = file(&bad);
            if let Ok(images) = Images::open(&[name(&bad, None)], false) {
                let total: u64 = images.ranges().map(|(_, bytes)| bytes).sum();
                assert!(total <= 2 * good.len() as u64);
                for (base, bytes) in images.ranges() {
                    let _ = (images.read64(base), images.read64(base + (bytes & !7) - 8));
                    let _ = images.data_from(base, u64::MAX);
                }
            }
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any bytes as an ELF core: its runs of memory are in the file, in order, and do not overlap.
#![no_main]

use std::io;

use libfuzzer_sys::fuzz_target;

// The reader of the command, which is no library; what it needs of its neighbours is below.
#[path = "../../crates/cli/src/image/elf.rs"]
mod elf;

/// A file.
pub struct Bytes(Vec<u8>);

impl Bytes {
    /// Fills as much of `buffer` as there is.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let from = self.0.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or(&[]);
        let count = from.len().min(buffer.len());
        buffer[..count].copy_from_slice(&from[..count]);
        Ok(count)
    }
}

/// A run of physical memory in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    base: u64,
    bytes: u64,
    file: usize,
    offset: u64,
}

fuzz_target!(|file: &[u8]| {
    let length = file.len() as u64;
    let Ok(segments) = elf::segments(&Bytes(file.to_vec()), length) else { return };
    let mut end = 0;
    for segment in segments {
        assert_eq!(segment.file, 0);
        assert!(segment.base >= end && segment.bytes > 0);
        end = segment.base.checked_add(segment.bytes).expect("it ends below 2^64");
        assert!(segment.offset.checked_add(segment.bytes).is_some_and(|end| end <= length));
    }
});

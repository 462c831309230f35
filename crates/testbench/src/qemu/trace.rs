// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counts what QEMU's SMMUs log about their TLBs.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FallocateFlags, MemfdFlags};

use super::error::QemuError;

/// The trace events, as arguments of QEMU's `-d`.
pub(super) const EVENTS: &str = "trace:smmu_iotlb_lookup_hit,trace:smmu_iotlb_lookup_miss";

/// How often the TLBs of all instances of a QEMU were asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TranslationCounts {
    /// Look-ups that found a translation, which a missing invalidation would have left stale.
    pub hits: u64,
    /// Look-ups that found none, and led to a walk of the tables.
    pub misses: u64,
}

/// A memory file that QEMU logs into, line by line.
pub(super) struct Log {
    file: OwnedFd,
    counts: TranslationCounts,
    /// What has been counted, in bytes.
    read: u64,
    /// The beginning of a line whose end has not been written yet.
    line: Vec<u8>,
}

impl Log {
    pub(super) fn new() -> Result<Self, QemuError> {
        let file = rustix::fs::memfd_create("smmuv3-qemu-log", MemfdFlags::CLOEXEC)
            .map_err(|errno| failed("making QEMU's log", errno))?;
        Ok(Self { file, counts: TranslationCounts::default(), read: 0, line: Vec::new() })
    }

    pub(super) fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// Counts what was logged since the last time, and drops it, so that the log stays small.
    pub(super) fn count(&mut self) -> Result<TranslationCounts, QemuError> {
        let mut chunk = vec![0; 64 * 1024];
        let before = self.read;
        loop {
            let count = rustix::io::pread(self.file.as_fd(), &mut chunk, self.read)
                .map_err(|errno| failed("reading QEMU's log", errno))?;
            if count == 0 {
                break;
            }
            self.read += count as u64;
            // `count` is at most the chunk's length.
            for &byte in &chunk[..count] {
                match byte {
                    b'\n' => self.end_line(),
                    // Punched holes and lines of other events: kept short.
                    _ if self.line.len() < 64 => self.line.push(byte),
                    _ => {}
                }
            }
        }
        if self.read > before {
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            // Where that is not possible, the log just stays.
            let _ = rustix::fs::fallocate(&self.file, hole, before, self.read - before);
        }
        Ok(self.counts)
    }

    fn end_line(&mut self) {
        if contains(&self.line, b"smmu_iotlb_lookup_hit ") {
            self.counts.hits += 1;
        } else if contains(&self.line, b"smmu_iotlb_lookup_miss ") {
            self.counts.misses += 1;
        }
        self.line.clear();
    }
}

fn contains(line: &[u8], word: &[u8]) -> bool {
    line.windows(word.len()).any(|window| window == word)
}

fn failed(what: &'static str, errno: rustix::io::Errno) -> QemuError {
    QemuError::System { what, reason: errno.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_once_even_when_they_arrive_in_parts() {
        let mut log = Log::new().unwrap();
        let write = |text: &str, log: &Log| {
            rustix::io::write(&log.file, text.as_bytes()).unwrap();
        };
        write("smmu_iotlb_lookup_hit IOTLB cache HIT asid=0\nsmmu_iotlb_loo", &log);
        assert_eq!(log.count().unwrap(), TranslationCounts { hits: 1, misses: 0 });
        write("kup_miss IOTLB cache MISS\n1@2.3:smmu_iotlb_lookup_miss x\nother\n", &log);
        assert_eq!(log.count().unwrap(), TranslationCounts { hits: 1, misses: 2 });
        assert_eq!(log.count().unwrap(), TranslationCounts { hits: 1, misses: 2 });
    }
}

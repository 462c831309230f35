// SPDX-License-Identifier: MIT OR Apache-2.0
//! ELF cores of machines: each PT_LOAD is a run of physical memory at p_paddr.

use std::io::{self, Read, Seek, SeekFrom};

use object::Endianness;
use object::elf::{ET_CORE, FileHeader64, PT_LOAD};
use object::read::ReadCache;
use object::read::elf::{FileHeader, ProgramHeader};

use super::{Bytes, Segment};

/// More runs than any machine has.
const MOST: u32 = 1 << 20;

/// The file as the parser of headers reads it.
struct Reader<'a> {
    bytes: &'a Bytes,
    length: u64,
    at: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.bytes.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Reader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// The runs of memory in an ELF core of `length` bytes. Bytes that a header announces and the file does not
/// have (p_memsz beyond p_filesz, or a file cut short) are not there: dumps leave out pages that way.
///
/// # Errors
/// What is wrong, and what to do.
pub fn segments(bytes: &Bytes, length: u64) -> Result<Vec<Segment>, String> {
    let wrong = |reason: object::read::Error| {
        format!("can't be read as an ELF core of 64 bits ({reason}); give FILE@BASE if it is raw")
    };
    let data = &ReadCache::new(Reader { bytes, length, at: 0 });
    let header = FileHeader64::<Endianness>::parse(data).map_err(wrong)?;
    let endian = header.endian().map_err(wrong)?;
    if header.e_type(endian) != ET_CORE {
        return Err("is an ELF file but no core: give a dump of the machine's memory".to_owned());
    }
    if header.phnum(endian, data).map_err(wrong)? > MOST {
        return Err(format!("has more than {MOST} program headers: it is damaged"));
    }
    let mut found: Vec<Segment> = Vec::new();
    let (mut loads, mut placed) = (0, 0);
    for program in header.program_headers(endian, data).map_err(wrong)? {
        if program.p_type(endian) != PT_LOAD {
            continue;
        }
        loads += 1;
        let (base, offset) = (program.p_paddr(endian), program.p_offset(endian));
        placed += u64::from(base != 0 && base != u64::MAX);
        // Ends are addresses too, so that nothing overflows later.
        let bytes =
            program.p_filesz(endian).min(length.saturating_sub(offset)).min(u64::MAX - base);
        if bytes >= 8 && base.is_multiple_of(8) {
            found.push(Segment { base, bytes, file: 0, offset });
        }
    }
    if loads > 1 && placed == 0 {
        return Err("is the core of a process, without physical addresses: give a dump of the \
                    machine's memory, such as /proc/vmcore or QEMU's dump-guest-memory"
            .to_owned());
    }
    if found.is_empty() {
        return Err("is an ELF core without memory (no PT_LOAD that the file has)".to_owned());
    }
    Ok(once(found))
}

/// Each address once: dumps that follow the processor's page tables have the same memory at several virtual
/// addresses.
fn once(mut segments: Vec<Segment>) -> Vec<Segment> {
    segments.sort_by_key(|segment| (segment.base, u64::MAX - segment.bytes));
    let mut kept: Vec<Segment> = Vec::new();
    for segment in segments {
        let end = kept.last().map_or(0, |last| last.base + last.bytes);
        let skip = end.saturating_sub(segment.base);
        if skip < segment.bytes {
            kept.push(Segment {
                base: segment.base + skip,
                bytes: segment.bytes - skip,
                offset: segment.offset + skip,
                ..segment
            });
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_there_twice_is_kept_once() {
        let of = |base, bytes, offset| Segment { base, bytes, file: 0, offset };
        let all = vec![of(0x1000, 0x2000, 0), of(0x2000, 0x2000, 0x5000), of(0x1000, 0x1000, 9)];
        assert_eq!(once(all), [of(0x1000, 0x2000, 0), of(0x3000, 0x1000, 0x6000)]);
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Images of physical memory: raw files and ELF cores, read on demand.

mod elf;
mod kind;

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use smmuv3_walk::{Gap, Memory};

use crate::args::ImageName;

/// Bytes that are read at once.
const PAGE: usize = 4096;
/// Pages that are kept.
const PAGES: usize = 1024;
/// Bytes that are looked at at once where only zeros are expected.
const CHUNK: usize = 1 << 20;

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It cannot be opened or read.
    #[error("{path} can't be read: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        reason: io::Error,
    },
    /// It is in a format that is not read.
    #[error("{path} {what}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What it is, and what to do.
        what: String,
    },
    /// Two images have the same addresses.
    #[error(
        "{one} and {other} both have {address:#x}; give each address once, with other bases after @"
    )]
    Overlap {
        /// One file.
        one: PathBuf,
        /// The other.
        other: PathBuf,
        /// First address that both have.
        address: u64,
    },
}

/// Where bytes come from.
#[derive(Debug)]
enum Bytes {
    File(File),
    /// What came through a pipe.
    Held(Vec<u8>),
}

impl Bytes {
    /// Fills as much of `buffer` as there is.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            Self::File(file) => {
                let mut done = 0;
                while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
                    match file.read_at(rest, offset + done as u64) {
                        Ok(0) => break,
                        Ok(count) => done += count,
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(done)
            }
            Self::Held(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let count = buffer.len().min(bytes.len() - start);
                buffer[..count].copy_from_slice(&bytes[start..start + count]);
                Ok(count)
            }
        }
    }
}

/// A run of physical memory in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    base: u64,
    bytes: u64,
    /// Which file, and where in it.
    file: usize,
    offset: u64,
}

/// All images together.
#[derive(Debug)]
pub struct Images {
    files: Vec<(PathBuf, Bytes)>,
    /// By address, without overlap.
    segments: Vec<Segment>,
    /// What is outside aborts, rather than being unknown.
    whole: bool,
    /// Pages by file and number; each has one place.
    cache: RefCell<Vec<Option<Page>>>,
    /// The first read that failed.
    failed: RefCell<Option<(usize, io::Error)>>,
    read: Cell<u64>,
}

#[derive(Debug)]
struct Page {
    file: usize,
    number: u64,
    bytes: Box<[u8; PAGE]>,
}

impl Images {
    /// Opens all of them. With `whole`, they are all of memory.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn open(names: &[ImageName], whole: bool) -> Result<Self, ImageError> {
        let (mut files, mut segments) = (Vec::new(), Vec::new());
        for name in names {
            let found = open(name, files.len())?;
            segments.extend(found.1);
            files.push((name.path.clone(), found.0));
        }
        segments.sort_by_key(|segment: &Segment| segment.base);
        let path = |file: usize| files.get(file).map(|(path, _)| path.clone()).unwrap_or_default();
        for pair in segments.windows(2) {
            if let [one, other] = pair
                && other.base - one.base < one.bytes
            {
                let address = other.base;
                let (one, other) = (path(one.file), path(other.file));
                return Err(ImageError::Overlap { one, other, address });
            }
        }
        let cache = RefCell::new((0..PAGES).map(|_| None).collect());
        let (failed, read) = (RefCell::default(), Cell::default());
        Ok(Self { files, segments, whole, cache, failed, read })
    }

    /// The read that failed while the images were walked, if one did.
    ///
    /// # Errors
    /// [`ImageError::Read`].
    pub fn finish(&self) -> Result<(), ImageError> {
        match self.failed.take() {
            None => Ok(()),
            Some((file, reason)) => {
                let path = self.files.get(file).map(|(path, _)| path.clone()).unwrap_or_default();
                Err(ImageError::Read { path, reason })
            }
        }
    }

    /// The ranges that the images have: first address, and bytes.
    #[cfg(test)]
    fn ranges(&self) -> impl Iterator<Item = (u64, u64)> {
        self.segments.iter().map(|segment| (segment.base, segment.bytes))
    }

    /// Bytes that were read from files so far.
    #[cfg(test)]
    fn bytes_read(&self) -> u64 {
        self.read.get()
    }

    /// The segment that `pa` is in, or the next one.
    fn segment_from(&self, pa: u64) -> Option<&Segment> {
        let index = self.segments.partition_point(|segment| {
            // One that ends where numbers end is never past.
            segment.base.checked_add(segment.bytes).is_some_and(|end| end <= pa)
        });
        self.segments.get(index)
    }

    /// Fills `buffer` from a file's offset on; false where that is not all there.
    fn bytes(&self, file: usize, mut offset: u64, mut buffer: &mut [u8]) -> bool {
        let mut cache = self.cache.borrow_mut();
        while !buffer.is_empty() {
            let number = offset / PAGE as u64;
            // Neighbours have different places, and so have the same pages of different files.
            let place = (number as usize).wrapping_add(file.wrapping_mul(101)) % PAGES;
            let Some(slot) = cache.get_mut(place) else { return false };
            if slot.as_ref().is_none_or(|page| (page.file, page.number) != (file, number)) {
                let mut bytes = Box::new([0; PAGE]);
                let Some((_, source)) = self.files.get(file) else { return false };
                match source.read_at(&mut bytes[..], number * PAGE as u64) {
                    Ok(count) => self.read.set(self.read.get() + count as u64),
                    Err(error) => {
                        self.failed.borrow_mut().get_or_insert((file, error));
                        return false;
                    }
                }
                *slot = Some(Page { file, number, bytes });
            }
            let Some(page) = slot else { return false };
            let start = (offset % PAGE as u64) as usize;
            let count = buffer.len().min(PAGE - start);
            let (now, later) = buffer.split_at_mut(count);
            now.copy_from_slice(&page.bytes[start..start + count]);
            buffer = later;
            offset += count as u64;
        }
        true
    }

    /// The first byte of `segment` from `pa` on and below `end` that is not zero.
    fn data_in(&self, segment: &Segment, pa: u64, end: u64) -> Option<u64> {
        let (_, source) = self.files.get(segment.file)?;
        let mut buffer = vec![0; PAGE];
        let mut at = pa - segment.base;
        let bytes = segment.bytes.min(end.saturating_sub(segment.base));
        while at < bytes {
            let want = (bytes - at).min(buffer.len() as u64) as usize;
            let buffer_now = buffer.get_mut(..want)?;
            let count = match source.read_at(buffer_now, segment.offset + at) {
                Ok(0) => return None,
                Ok(count) => count,
                Err(error) => {
                    self.failed.borrow_mut().get_or_insert((segment.file, error));
                    return None;
                }
            };
            self.read.set(self.read.get() + count as u64);
            if let Some(first) = first_nonzero(buffer_now.get(..count)?) {
                return Some(segment.base + at + first as u64);
            }
            at += count as u64;
            // A hole is likely to be long.
            if buffer.len() < CHUNK {
                buffer.resize(buffer.len() * 4, 0);
            }
        }
        None
    }
}

/// Index of the first byte that is not zero.
fn first_nonzero(bytes: &[u8]) -> Option<usize> {
    let (words, _) = bytes.as_chunks::<16>();
    let skipped =
        words.iter().position(|word| u128::from_ne_bytes(*word) != 0).unwrap_or(words.len());
    let start = skipped * 16;
    bytes.iter().skip(start).position(|byte| *byte != 0).map(|first| start + first)
}

impl Memory for Images {
    fn read64(&self, pa: u64) -> Result<u64, Gap> {
        let gap = if self.whole { Gap::Abort } else { Gap::Missing };
        let segment = self.segment_from(pa).filter(|segment| segment.base <= pa).ok_or(gap)?;
        let at = pa - segment.base;
        let mut word = [0; 8];
        let inside = segment.bytes.checked_sub(at).is_some_and(|left| left >= 8);
        if inside && self.bytes(segment.file, segment.offset + at, &mut word) {
            Ok(u64::from_le_bytes(word))
        } else {
            Err(gap)
        }
    }

    fn read_words(&self, pa: u64, words: &mut [u64]) -> Result<(), (u64, Gap)> {
        let wanted = words.len() as u64 * 8;
        let whole = self
            .segment_from(pa)
            .filter(|segment| segment.base <= pa && segment.bytes - (pa - segment.base) >= wanted);
        if let Some(segment) = whole {
            let mut bytes = vec![0; words.len() * 8];
            if self.bytes(segment.file, segment.offset + (pa - segment.base), &mut bytes) {
                for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
                    *word = u64::from_le_bytes(*bytes);
                }
                return Ok(());
            }
        }
        for (at, word) in (pa..=u64::MAX).step_by(8).zip(words) {
            *word = self.read64(at).map_err(|gap| (at, gap))?;
        }
        Ok(())
    }

    fn data_from(&self, pa: u64, end: u64) -> Option<u64> {
        let mut from = pa;
        loop {
            let segment = self.segment_from(from).filter(|segment| segment.base < end)?;
            if let Some(found) = self.data_in(segment, from.max(segment.base), end) {
                return Some(found);
            }
            from = segment.base.checked_add(segment.bytes)?;
        }
    }
}

/// Opens one image: its bytes, and the memory that they are.
fn open(name: &ImageName, index: usize) -> Result<(Bytes, Vec<Segment>), ImageError> {
    let read = |reason| ImageError::Read { path: name.path.clone(), reason };
    let format = |what| ImageError::Format { path: name.path.clone(), what };
    let bytes = if name.path == Path::new("-") {
        standard_input().map_err(read)?
    } else {
        Bytes::File(File::open(&name.path).map_err(read)?)
    };
    let mut head = [0; 64];
    let count = bytes.read_at(&mut head, 0).map_err(read)?;
    let kind = kind::of(head.get(..count).unwrap_or(&[]));
    match (kind, name.base) {
        (kind::Kind::Elf, None) => {
            let length = length(&bytes).map_err(read)?;
            let mut segments = elf::segments(&bytes, length).map_err(format)?;
            for segment in &mut segments {
                segment.file = index;
            }
            Ok((bytes, segments))
        }
        (kind::Kind::Other(what), None) => Err(format(what.to_owned())),
        (kind::Kind::Raw, None) => Err(format(
            "is a raw image, as it seems: say at which physical address it begins, as in \
             --memory FILE@0x40000000"
                .to_owned(),
        )),
        (_, Some(base)) => {
            if base % 8 != 0 {
                return Err(format(format!("can't begin at {base:#x}, which is no multiple of 8")));
            }
            let length = length(&bytes).map_err(read)?;
            if length == 0 {
                return Err(format("is empty".to_owned()));
            }
            if base.checked_add(length - 1).is_none() {
                return Err(format(format!("does not fit in the address space at {base:#x}")));
            }
            Ok((bytes, vec![Segment { base, bytes: length, file: index, offset: 0 }]))
        }
    }
}

fn length(bytes: &Bytes) -> io::Result<u64> {
    match bytes {
        Bytes::File(file) => Ok(file.metadata()?.len()),
        Bytes::Held(bytes) => Ok(bytes.len() as u64),
    }
}

/// Standard input as it is where it is a file, else all that comes.
fn standard_input() -> io::Result<Bytes> {
    let file = File::open("/dev/stdin");
    if let Ok(file) = file
        && file.metadata()?.is_file()
    {
        return Ok(Bytes::File(file));
    }
    let mut held = Vec::new();
    io::stdin().lock().read_to_end(&mut held)?;
    Ok(Bytes::Held(held))
}

#[cfg(test)]
mod tests;

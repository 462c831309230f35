// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds, fast, the few lines of a log that may be about SMMUs.

use std::io::{self, Read};
use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::record::Record;
use super::{Decoder, LINE};

/// Bytes that are read at once; also the longest line that is searched whole.
const BLOCK: usize = 1 << 20;

/// Some of these is in every line that says something. Rare in other logs: each is searched in whole blocks.
const NEEDLES: [&[u8]; 20] = [
    b"mmu",
    b"MMU",
    b"event 0x",
    b"event: F_",
    b"event: C_",
    b"event: UNKNOWN",
    b"Event F_",
    b"Event C_",
    b"CMD_SYNC",
    b"CMDQ ",
    b"Q overflow",
    b"error reported (0x",
    b"command in error",
    b"PRI request",
    b"(features 0x",
    b"stag: 0x",
    b"sid 0x",
    b"evt[",
    b"write aborted",
    b"Failure Mode",
];

static FINDERS: LazyLock<Vec<Finder<'static>>> =
    LazyLock::new(|| NEEDLES.iter().map(|needle| Finder::new(*needle)).collect());
static HEX: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"0x"));

/// Whether a line may say something about an SMMU. Lines for which this is false never do.
pub fn interesting(line: &[u8]) -> bool {
    FINDERS.iter().any(|finder| finder.find(line).is_some())
        || HEX.find_iter(line).any(|place| is_word(line, place))
        || is_dump(line)
}

/// Bytes from the start of a line.
const NEAR: usize = 64;

/// Whether a number of 32 or 64 bits in full length begins at `place` with its `0x`; or one of more than 32
/// bits, if the line begins with it.
fn is_word(text: &[u8], place: usize) -> bool {
    let digits = text.get(place + 2..).unwrap_or(&[]);
    let length = digits.iter().take(17).take_while(|byte| byte.is_ascii_hexdigit()).count();
    let first = || {
        // Only near its start can a line be said to begin with it: no long way back for each number.
        let from = place.saturating_sub(NEAR + 1);
        let before = text.get(from..place).unwrap_or(&[]);
        let before = match memchr::memrchr(b'\n', before) {
            Some(end) => before.get(end + 1..).unwrap_or(&[]),
            None if place <= NEAR => before,
            None => return false,
        };
        before.iter().all(|byte| !byte.is_ascii_alphanumeric())
    };
    matches!(length, 8 | 16) || length > 8 && length < 16 && first()
}

/// Whether a line begins like a dump without `0x`: an address or not, then numbers of an even number of digits.
fn is_dump(line: &[u8]) -> bool {
    let mut tokens = line.split(|byte| matches!(byte, b' ' | b'\t' | b',' | b'>' | b'`' | b'\r'));
    let mut next = || tokens.find(|token| !token.is_empty());
    let Some(first) = next() else { return false };
    let (label, first) = match first.strip_suffix(b":") {
        Some(first) => (true, first),
        None => (false, first),
    };
    // Most lines end here: they begin with a date, a bracket or a word.
    if first.len() > 64 || !first.iter().all(u8::is_ascii_hexdigit) {
        return false;
    }
    let is_number = |token: &[u8]| {
        matches!(token.len(), 2 | 4 | 8 | 16) && token.iter().all(u8::is_ascii_hexdigit)
    };
    match first.len() {
        16 | 64 if !label => true,
        _ => next().is_some_and(is_number),
    }
}

/// Reads a log to its end, in blocks, in bounded memory. Records that are complete go to `out`; what is left
/// comes with [`Decoder::finish`].
///
/// # Errors
/// Those of `log`.
pub fn read(
    mut log: impl Read,
    decoder: &mut Decoder,
    out: &mut dyn FnMut(Record),
) -> io::Result<()> {
    let mut blocks = Blocks::default();
    loop {
        match blocks.fill(&mut log) {
            Ok(0) => break,
            Ok(_) => blocks.lines(decoder, out),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    blocks.end(decoder, out);
    Ok(())
}

/// A log that comes in parts, as blocks of whole lines: what [`read`] does, for those who read by themselves.
#[derive(Debug, Default)]
pub struct Blocks {
    buffer: Vec<u8>,
    used: usize,
    /// In a line longer than the buffer: its beginning was kept, the rest is dropped up to its end.
    long: Option<Vec<u8>>,
    places: Vec<usize>,
}

impl Blocks {
    /// Adds a part of the log, which may end within a line.
    pub fn add(&mut self, mut part: &[u8], decoder: &mut Decoder, out: &mut dyn FnMut(Record)) {
        while !part.is_empty() {
            // Reading from memory does not fail.
            let Ok(count @ 1..) = self.fill(&mut part) else { break };
            debug_assert!(count <= BLOCK);
            self.lines(decoder, out);
        }
    }

    fn fill(&mut self, log: &mut impl Read) -> io::Result<usize> {
        self.buffer.resize(BLOCK, 0);
        let room = self.buffer.get_mut(self.used..).unwrap_or(&mut []);
        let count = log.read(room)?;
        self.used += count;
        Ok(count)
    }

    /// Reads the whole lines that there are, and keeps the rest.
    fn lines(&mut self, decoder: &mut Decoder, out: &mut dyn FnMut(Record)) {
        let mut block = std::mem::take(&mut self.buffer);
        let mut places = std::mem::take(&mut self.places);
        let mut rest = block.get(..self.used).unwrap_or(&[]);
        if let Some(head) = &self.long
            && let Some(end) = memchr::memchr(b'\n', rest)
        {
            decoder.line(head, out);
            self.long = None;
            rest = rest.get(end + 1..).unwrap_or(&[]);
        }
        if self.long.is_some() {
            rest = &[];
        } else if let Some(last) = memchr::memrchr(b'\n', rest) {
            let (whole, tail) = rest.split_at(last + 1);
            search(whole, &mut places, decoder, out);
            rest = tail;
        }
        if rest.len() >= BLOCK {
            self.long = rest.get(..LINE).map(<[u8]>::to_vec);
            rest = &[];
        }
        let (start, length) = (self.used - rest.len(), rest.len());
        let start = if length == 0 { 0 } else { start };
        block.copy_within(start..start + length, 0);
        self.used = length;
        self.buffer = block;
        self.places = places;
    }

    /// The end of the log: a last line without an end.
    pub fn end(&mut self, decoder: &mut Decoder, out: &mut dyn FnMut(Record)) {
        if let Some(head) = self.long.take() {
            decoder.line(&head, out);
        } else if self.used > 0 {
            decoder.line(self.buffer.get(..self.used).unwrap_or(&[]), out);
        }
        self.used = 0;
    }
}

/// Gives a block of whole lines to the decoder: those that may say something; the others are counted.
fn search(
    block: &[u8],
    places: &mut Vec<usize>,
    decoder: &mut Decoder,
    out: &mut dyn FnMut(Record),
) {
    places.clear();
    for finder in FINDERS.iter() {
        mark(block, finder, places, |_| true);
    }
    mark(block, &HEX, places, |place| is_word(block, place));
    places.sort_unstable();
    let mut places = places.iter().copied().peekable();
    let mut start = 0;
    let mut dull = 0;
    for end in memchr::memchr_iter(b'\n', block) {
        let line = block.get(start..end).unwrap_or(&[]);
        let mut found = false;
        while places.next_if(|place| *place < end).is_some() {
            found = true;
        }
        if found || decoder.wants_next() || is_dump(line) {
            decoder.skip(std::mem::take(&mut dull));
            decoder.line(line, out);
        } else {
            dull += 1;
        }
        start = end + 1;
    }
    decoder.skip(dull);
}

/// Where `finder` finds something that counts; once a line.
fn mark(
    block: &[u8],
    finder: &Finder<'_>,
    places: &mut Vec<usize>,
    counts: impl Fn(usize) -> bool,
) {
    let mut start = 0;
    while let Some(found) = block.get(start..).and_then(|rest| finder.find(rest)) {
        let place = start + found;
        if counts(place) {
            places.push(place);
            let rest = block.get(place..).unwrap_or(&[]);
            start = place + memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        } else {
            start = place + 1;
        }
    }
}

/// What a file is, if it must be unpacked or converted first: by its first bytes.
pub fn packed(start: &[u8]) -> Option<(&'static str, &'static str)> {
    let known: [(&[u8], &str, &str); 7] = [
        (&[0x1f, 0x8b], "compressed with gzip", "zcat FILE | smmuv3 decode -"),
        (&[0x28, 0xb5, 0x2f, 0xfd], "compressed with zstd", "zstdcat FILE | smmuv3 decode -"),
        (&[0xfd, b'7', b'z', b'X', b'Z', 0], "compressed with xz", "xzcat FILE | smmuv3 decode -"),
        (b"BZh", "compressed with bzip2", "bzcat FILE | smmuv3 decode -"),
        (b"LPKSHHRH", "a journal of systemd", "journalctl -k --file FILE | smmuv3 decode -"),
        (&[0xff, 0xfe], "text in UTF-16", "iconv -f UTF-16 -t UTF-8 FILE | smmuv3 decode -"),
        (&[0xfe, 0xff], "text in UTF-16", "iconv -f UTF-16 -t UTF-8 FILE | smmuv3 decode -"),
    ];
    known.into_iter().find(|(magic, ..)| start.starts_with(magic)).map(|(_, what, how)| (what, how))
}

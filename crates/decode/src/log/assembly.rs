// SPDX-License-Identifier: MIT OR Apache-2.0
//! Records that lie on several lines, until they are whole.

use smmuv3_formats::{EventId, EventRecord};

use super::event::Known;
use super::kernel::Said;
use super::number::words;
use super::stamp::Stamp;

/// What is being put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// An event that a line announced.
    Event,
    /// A command that a line announced.
    Command,
    /// Numbers that look like an event.
    Raw,
}

/// A record of which some lines were seen.
#[derive(Clone, Debug)]
pub struct Open {
    /// The SMMU.
    pub instance: Option<String>,
    /// What it will be.
    pub what: What,
    /// Its first line.
    pub line: u64,
    /// Its last line so far.
    pub last: u64,
    /// When it began.
    pub stamp: Option<Stamp>,
    /// The code that the first line named.
    pub code: Option<u8>,
    /// The name that the first line named.
    pub name: Option<String>,
    /// Bytes so far.
    pub bytes: Vec<u8>,
    /// The same if values were bytes in order.
    pub swapped: Option<Vec<u8>>,
    /// Whether numbers must look exactly like an event, since nothing says that they are one.
    pub strict: bool,
    /// What the kernel says of it.
    pub said: Option<Said>,
    /// A word is damaged: what comes behind it has no place.
    pub broken: bool,
    /// 32-bit words, where they come with their index.
    pub parts: u8,
}

impl Open {
    /// Bytes that it takes.
    pub fn size(&self) -> usize {
        if self.what == What::Command { 16 } else { 32 }
    }

    /// Whether all its bytes are there.
    pub fn is_whole(&self) -> bool {
        self.bytes.len() >= self.size() && (self.parts == 0 || self.parts == u8::MAX)
    }

    /// The event, if it is one.
    pub fn event(&self) -> Option<Known> {
        let (words, whole) = words(&self.bytes);
        let (words, whole) = match (&self.swapped, self.what) {
            (Some(swapped), What::Raw) if !looks_like_event(&words, self.strict) => {
                let other = self::words(swapped);
                if looks_like_event(&other.0, true) { other } else { (words, whole) }
            }
            _ => (words, whole),
        };
        // Words that came one at a time may have holes: only what is before the first counts.
        let whole = if self.parts == 0 { whole } else { (self.parts.trailing_ones() / 2) as usize };
        // Somebody may have pasted two words alone: who, and how.
        let pasted = whole >= 2 && !self.strict && self.line == self.last && words[0] >> 32 != 0;
        let enough = whole == 4 || pasted;
        if self.what == What::Raw && !(enough && looks_like_event(&words, self.strict)) {
            return None;
        }
        let own = (whole > 0).then_some(words[0] as u8);
        let said_name = self.said.as_ref().map(|said| said.name.clone());
        Some(Known {
            code: own.or(self.code),
            name: self.name.clone().or(said_name),
            words: if whole == 0 { [0; 4] } else { words },
            whole,
            said: self.said.clone(),
            address: None,
            header: self.code,
        })
    }
}

/// Whether a first word is that of an event: its code exists, and no reserved bit is set.
pub fn may_begin_event(word: u64) -> bool {
    let Some(id) = EventId::from_code(word as u8) else { return false };
    let record = EventRecord([word, 0, 0, 0]);
    let used: u64 = id.fields().iter().filter(|f| f.word == 0).map(|f| f.mask()).sum();
    // SSV and SubstreamID are in all events' first words, used or not.
    word & !(used | 0xffff_f800) == 0
        && (record.ssv() || record.ssid() == 0 || id == EventId::CBadSubstreamId)
}

/// Reserved bits that may be set in words of a dump.
const ODD: u32 = 2;

/// Whether four words are an event; strictly: with hardly a reserved bit set anywhere.
fn looks_like_event(words: &[u64; 4], strict: bool) -> bool {
    if !may_begin_event(words[0]) {
        return false;
    }
    let Some(id) = EventId::from_code(words[0] as u8) else { return false };
    let mut rest = *words;
    for field in id.fields() {
        if let Some(word) = rest.get_mut(field.word) {
            *word &= !field.mask();
        }
    }
    !strict || rest.iter().skip(1).map(|bits| bits.count_ones()).sum::<u32>() <= ODD
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is wrong with tables.

use std::collections::HashSet;

use smmuv3_formats::descriptor::Stage;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Allowed, and dangerous.
    Risk,
    /// Not as it should be: faults, or means something else than it seems.
    Wrong,
}

impl Severity {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Risk => "risk",
            Self::Wrong => "wrong",
        }
    }
}

/// What kind of finding it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// An STE or CD that hardware rejects.
    Illegal,
    /// A level-1 descriptor that leads nowhere although it is not empty.
    BadLevel1,
    /// A device can write what the walk reads.
    TableMemory,
    /// A range can be written and executed.
    WriteExecute,
    /// No translation at all.
    Bypass,
    /// A descriptor in an encoding that does not exist.
    ReservedEncoding,
    /// Reserved bits that are set.
    ReservedBits,
    /// An address with bits that hardware drops.
    Misaligned,
    /// An address beyond the size that is configured or implemented.
    BeyondSize,
    /// Members of a contiguous group that do not fit together.
    Contiguous,
    /// A table that leads back to itself.
    Loop,
    /// A table that is reached on several ways.
    Shared,
    /// A table that stage 2 does not lead to, or at which nothing answers.
    Unreachable,
    /// A table that is configured and switched off.
    Unused,
    /// Mappings that fault because their access flag is clear.
    AccessFlag,
    /// The image does not have it.
    Missing,
    /// What this program does not understand.
    Unsupported,
}

impl Kind {
    /// A word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Illegal => "illegal-entry",
            Self::BadLevel1 => "bad-level-1",
            Self::TableMemory => "writable-tables",
            Self::WriteExecute => "write-execute",
            Self::Bypass => "bypass",
            Self::ReservedEncoding => "reserved-encoding",
            Self::ReservedBits => "reserved-bits",
            Self::Misaligned => "misaligned",
            Self::BeyondSize => "beyond-size",
            Self::Contiguous => "contiguous",
            Self::Loop => "loop",
            Self::Shared => "shared-table",
            Self::Unreachable => "unreachable-table",
            Self::Unused => "unused-table",
            Self::AccessFlag => "access-flag",
            Self::Missing => "not-in-image",
            Self::Unsupported => "not-followed",
        }
    }

    /// How bad it is.
    pub const fn severity(self) -> Severity {
        match self {
            Self::TableMemory | Self::WriteExecute | Self::Bypass => Severity::Risk,
            Self::Shared | Self::Unused | Self::AccessFlag | Self::Missing | Self::Unsupported => {
                Severity::Note
            }
            _ => Severity::Wrong,
        }
    }
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind.
    pub kind: Kind,
    /// The stream on whose behalf it was found, first; `None` for the stream table.
    pub stream: Option<u32>,
    /// The last one of a run of streams that all have it; `None` where it is one stream.
    pub last_stream: Option<u32>,
    /// The substream.
    pub substream: Option<u32>,
    /// Physical address of what is wrong.
    pub address: Option<u64>,
    /// Input address that it is about.
    pub input: Option<u64>,
    /// What is wrong.
    pub text: String,
}

/// On whose behalf something is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Owner {
    pub(super) stream: u32,
    pub(super) substream: Option<u32>,
}

/// Findings, each place once for a kind.
#[derive(Debug)]
pub(super) struct Findings {
    all: Vec<Finding>,
    most: usize,
    left_out: u64,
    places: HashSet<(Kind, u64)>,
}

impl Findings {
    pub(super) fn new(most: usize) -> Self {
        Self { all: Vec::new(), most, left_out: 0, places: HashSet::new() }
    }

    /// Adds a finding, unless it was made at the same `address`. What is there at one address is the same for all
    /// who come by, but for what they can do with it.
    pub(super) fn add(
        &mut self,
        kind: Kind,
        owner: impl Into<Option<Owner>>,
        address: Option<u64>,
        input: Option<u64>,
        text: impl FnOnce() -> String,
    ) {
        let mine = matches!(kind, Kind::TableMemory | Kind::WriteExecute);
        if self.all.len() >= self.most {
            self.left_out += 1;
            return;
        }
        if let (false, Some(address)) = (mine, address)
            && !self.places.insert((kind, address))
        {
            return;
        }
        let owner = owner.into();
        self.all.push(Finding {
            kind,
            stream: owner.map(|owner| owner.stream),
            last_stream: None,
            substream: owner.and_then(|owner| owner.substream),
            address,
            input,
            text: text(),
        });
    }

    /// The latest findings of stream `first` are those of all streams up to `last`.
    pub(super) fn run_on(&mut self, first: u32, last: u32) {
        let mine = |finding: &&mut Finding| finding.stream == Some(first);
        for finding in self.all.iter_mut().rev().take_while(mine) {
            finding.last_stream = Some(last);
        }
    }

    pub(super) fn take(self) -> (Vec<Finding>, u64) {
        (self.all, self.left_out)
    }
}

/// What a range of physical memory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Holds {
    StreamTable,
    Contexts,
    Table(Stage, i8),
}

impl core::fmt::Display for Holds {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::StreamTable => f.write_str("the stream table"),
            Self::Contexts => f.write_str("a table of contexts"),
            Self::Table(stage, level) => write!(f, "a level-{level} table of {stage}"),
        }
    }
}

/// A piece of memory that the walk read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Structure {
    pub(super) from: u64,
    pub(super) bytes: u64,
    pub(super) what: Holds,
}

/// Pieces of about the same size.
#[derive(Debug, Default)]
struct Sorted {
    all: Vec<Structure>,
    /// Bytes of the longest one, so that a search knows how far to look back.
    longest: u64,
}

impl Sorted {
    fn within(&self, from: u64, bytes: u64) -> impl Iterator<Item = &Structure> {
        let last = from.saturating_add(bytes.saturating_sub(1));
        let begin = from.saturating_sub(self.longest);
        let first = self.all.partition_point(|structure| structure.from < begin);
        let rest = self.all.get(first..).unwrap_or(&[]);
        rest.iter()
            .take_while(move |structure| structure.from <= last)
            .filter(move |structure| structure.from.saturating_add(structure.bytes) > from)
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Structures {
    /// Small ones are many; a large one among them would make every search long.
    small: Sorted,
    large: Sorted,
    known: HashSet<Structure>,
}

impl Structures {
    const SMALL: u64 = 4096;

    pub(super) fn add(&mut self, from: u64, bytes: u64, what: Holds) {
        let structure = Structure { from, bytes, what };
        if self.known.insert(structure) {
            let list = if bytes <= Self::SMALL { &mut self.small } else { &mut self.large };
            list.all.push(structure);
            list.longest = list.longest.max(bytes);
        }
    }

    pub(super) fn sort(&mut self) {
        self.small.all.sort_unstable();
        self.large.all.sort_unstable();
    }

    /// Those that overlap `bytes` bytes from `from` on, after [`Structures::sort`].
    pub(super) fn within(&self, from: u64, bytes: u64) -> impl Iterator<Item = &Structure> {
        self.large.within(from, bytes).chain(self.small.within(from, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlaps_are_found_from_both_sides() {
        let mut all = Structures::default();
        all.add(0x5000, 0x1000, Holds::Contexts);
        all.add(0x1000, 0x3000, Holds::StreamTable);
        all.add(0x1000, 0x3000, Holds::StreamTable);
        all.sort();
        let of = |from, bytes| all.within(from, bytes).map(|hit| hit.from).collect::<Vec<_>>();
        assert_eq!(of(0x3fff, 1), [0x1000]);
        assert_eq!(of(0x4000, 0x1000), [0; 0]);
        assert_eq!(of(0, u64::MAX), [0x1000, 0x5000]);
        assert_eq!(of(0x5fff, 1), [0x5000]);
    }
}

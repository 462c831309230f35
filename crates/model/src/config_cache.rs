// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cached stream table entries, context descriptors and the descriptors before them, and fetches that are
//! under way (§8.1).

use std::collections::BTreeSet;
use std::ops::Deref;

use smmuv3_formats::{Cd, Ste};

use crate::context::{Context, Route};
use crate::random::{Map, Random};
use crate::stage_2::Stage2;

/// A cached STE, whatever it says.
#[derive(Clone, Debug)]
pub(crate) struct CachedSte {
    pub(crate) ste: Ste,
    pub(crate) pa: u64,
    /// When the oldest word, or the L1STD before it, was read.
    pub(crate) basis: u64,
    pub(crate) route: Route,
    /// Where stage 2 is on.
    pub(crate) second: Option<Stage2>,
    /// CR0.ATSCHK as it was then (§2.4).
    pub(crate) ats_checked: bool,
}

impl CachedSte {
    /// Both stages are on.
    pub(crate) const fn is_nested(&self) -> bool {
        self.second.is_some() && matches!(self.route, Route::Stage1(_))
    }
}

/// A cached CD, whatever it says.
#[derive(Clone, Debug)]
pub(crate) struct CachedCd {
    pub(crate) cd: Cd,
    pub(crate) pa: u64,
    /// When the oldest word, or what leads to it, was read.
    pub(crate) basis: u64,
    pub(crate) context: Result<Context, Refused>,
}

/// Why a CD is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Illegal,
    Unsupported(&'static str),
}

/// A cached level-1 stream table descriptor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CachedL1 {
    pub(crate) word: u64,
    pub(crate) basis: u64,
}

/// A cached level-1 context descriptor, whatever it says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct L1CdEntry {
    pub(crate) word: u64,
    pub(crate) pa: u64,
    /// When it, or the STE before it, was read.
    pub(crate) basis: u64,
    /// log2 of the substreams that it stands for.
    pub(crate) split: u32,
}

/// What is cached, or read by a fetch under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Ste {
        stream: u32,
    },
    Cd {
        stream: u32,
        substream: u32,
    },
    /// Read in one piece, so that no fetch of it is ever under way.
    L1Cd {
        stream: u32,
        index: u32,
    },
}

impl Target {
    pub(crate) const fn stream(self) -> u32 {
        match self {
            Self::Ste { stream } | Self::Cd { stream, .. } | Self::L1Cd { stream, .. } => stream,
        }
    }
}

/// Where a structure is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) pa: u64,
    /// As what leads there has it: an intermediate address, where stage 2 translates it.
    pub(crate) at: u64,
    /// VMID of the stage 2 that translated it.
    pub(crate) vmid: Option<u16>,
    /// When the oldest thing was read that says so.
    pub(crate) basis: u64,
    /// The L1CD that says so.
    pub(crate) through: Option<Target>,
}

impl Place {
    /// Of what a physical address leads to.
    pub(crate) const fn physical(pa: u64, basis: u64) -> Self {
        Self { pa, at: pa, vmid: None, basis, through: None }
    }
}

/// A structure of which some words have been read.
#[derive(Clone, Debug)]
pub(crate) struct Fetch {
    pub(crate) target: Target,
    pub(crate) pa: u64,
    /// As [`Place`] has them.
    pub(crate) at: u64,
    pub(crate) vmid: Option<u16>,
    /// What led there, besides the STE: the L1CD.
    pub(crate) through: Option<Target>,
    pub(crate) basis: u64,
    /// What was read; of the others 0.
    words: [u64; 8],
    /// Indices of all words, in the order in which they are read, last first.
    order: [u8; 8],
    /// How many of these are left to be read.
    left: u8,
}

impl Fetch {
    pub(crate) fn new(target: Target, place: Place, random: &mut Random) -> Self {
        let mut order = [0, 1, 2, 3, 4, 5, 6, 7];
        for end in (1..order.len()).rev() {
            // Below 8, so it fits and is in range.
            order.swap(end, random.below(end as u64 + 1) as usize);
        }
        let Place { pa, at, vmid, basis, through } = place;
        Self { target, pa, at, vmid, through, basis, words: [0; 8], order, left: 8 }
    }

    /// Index of the word that is read next; `None` once none is left.
    pub(crate) fn next(&self) -> Option<usize> {
        // At most 8, and so are the indices.
        let last = self.left.checked_sub(1)?;
        Some((self.order[usize::from(last) & 7] & 7).into())
    }

    /// The next word is this.
    pub(crate) fn read(&mut self, word: u64) {
        if let Some(index) = self.next() {
            // Below 8.
            self.words[index] = word;
            self.left -= 1;
        }
    }

    /// Whether no word is left.
    pub(crate) const fn is_complete(&self) -> bool {
        self.left == 0
    }

    /// The word with that index, if it was read.
    pub(crate) fn word(&self, index: u8) -> Option<u64> {
        let left = self.order.iter().take(self.left.into()).any(|it| *it == index);
        self.words.get(usize::from(index)).copied().filter(|_| !left)
    }

    /// All words, those that were read.
    pub(crate) fn words(&self) -> [Option<u64>; 8] {
        [0, 1, 2, 3, 4, 5, 6, 7].map(|index| self.word(index))
    }

    /// All words; those that are left are 0.
    pub(crate) const fn complete(&self) -> [u64; 8] {
        self.words
    }
}

/// Cached STEs by stream. In the end there is one of every stream, and few of them lead anywhere.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stes {
    all: Map<u32, CachedSte>,
    /// Streams of those that lead to contexts, or to tables of stage 2.
    leading: BTreeSet<u32>,
    /// Streams of those that may stand for their neighbours, too (STE.CONT, §5.2).
    wide: BTreeSet<u32>,
}

/// First and last stream that the STE of `stream` says it stands for.
fn span(stream: u32, ste: &Ste) -> (u32, u32) {
    // CONT has four bits.
    let low = (1 << ste.cont()) - 1;
    (stream & !low, stream | low)
}

impl Stes {
    pub(crate) fn insert(&mut self, stream: u32, entry: CachedSte) {
        if entry.second.is_some() || matches!(entry.route, Route::Stage1(_)) {
            self.leading.insert(stream);
        } else {
            self.leading.remove(&stream);
        }
        if entry.ste.cont() != 0 {
            self.wide.insert(stream);
        } else {
            self.wide.remove(&stream);
        }
        self.all.insert(stream, entry);
    }

    /// One that may stand for `stream`, too.
    pub(crate) fn neighbour(&self, stream: u32) -> Option<&CachedSte> {
        self.wide.iter().find_map(|other| {
            let entry = self.all.get(other)?;
            let (first, last) = span(*other, &entry.ste);
            (first..=last).contains(&stream).then_some(entry)
        })
    }

    /// Those older than `cutoff` stand for none of these streams any more but their own: these have to be read anew (§8.1).
    pub(crate) fn narrow(&mut self, named_first: u32, named_last: u32, cutoff: u64) {
        let all = &self.all;
        self.wide.retain(|stream| {
            all.get(stream).is_some_and(|entry| {
                let (first, last) = span(*stream, &entry.ste);
                entry.basis >= cutoff || last < named_first || named_last < first
            })
        });
    }

    /// Forgets the one of `stream`, if it `goes`.
    pub(crate) fn remove_if(&mut self, stream: u32, goes: impl FnOnce(&CachedSte) -> bool) {
        if self.all.get(&stream).is_some_and(goes) {
            self.all.remove(&stream);
            self.leading.remove(&stream);
            self.wide.remove(&stream);
        }
    }

    pub(crate) fn retain(&mut self, stays: impl Fn(u32, &CachedSte) -> bool) {
        self.all.retain(|stream, entry| stays(*stream, entry));
        self.leading.retain(|stream| self.all.contains_key(stream));
        self.wide.retain(|stream| self.all.contains_key(stream));
    }

    /// Those that lead to contexts, or to tables of stage 2, by stream.
    pub(crate) fn leading(&self) -> impl Iterator<Item = (u32, &CachedSte)> {
        self.leading.iter().filter_map(|stream| Some((*stream, self.all.get(stream)?)))
    }
}

/// To look into.
impl Deref for Stes {
    type Target = Map<u32, CachedSte>;

    fn deref(&self) -> &Self::Target {
        &self.all
    }
}

/// All cached configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConfigCache {
    pub(crate) stes: Stes,
    pub(crate) cds: Map<(u32, u32), CachedCd>,
    pub(crate) l1: Map<u32, CachedL1>,
    /// By stream and index.
    pub(crate) l1_cds: Map<(u32, u32), L1CdEntry>,
    pub(crate) fetches: Vec<Fetch>,
}

impl ConfigCache {
    /// All entries, and fetches under way.
    pub(crate) fn len(&self) -> usize {
        self.stes.len() + self.cds.len() + self.l1.len() + self.l1_cds.len() + self.fetches.len()
    }

    /// Takes the fetch of `target` out, if one is under way.
    pub(crate) fn take(&mut self, target: Target) -> Option<Fetch> {
        let at = self.fetches.iter().position(|fetch| fetch.target == target)?;
        Some(self.fetches.remove(at))
    }
}

/// A cached STE or CD, as others see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachedStructure {
    /// StreamID.
    pub stream: u32,
    /// SubstreamID of a CD (0 where there are none); `None` for an STE.
    pub substream: Option<u32>,
    /// Its words.
    pub words: [u64; 8],
    /// Where it was fetched from.
    pub pa: u64,
    /// Whether memory holds something else by now.
    pub differs: bool,
    /// Whether all its words were read; a fetch under way counts the rest as zero.
    pub complete: bool,
}

/// A cached level-1 context descriptor, as others see it. Valid or not, only CFGI with Leaf = 0, or of the
/// whole stream, makes it go (§4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachedL1Cd {
    /// StreamID.
    pub stream: u32,
    /// Its index in the table.
    pub index: u32,
    /// First SubstreamID that it stands for.
    pub first: u32,
    /// SubstreamIDs that it stands for: 64 or 1024.
    pub substreams: u32,
    /// What it says.
    pub word: u64,
    /// Where it was fetched from.
    pub pa: u64,
    /// Whether memory holds something else by now.
    pub differs: bool,
}

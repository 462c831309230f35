// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cached stream table entries and context descriptors, and fetches that are under way (§8.1).

use smmuv3_formats::{Cd, Ste};

use crate::context::{Context, Route};
use crate::random::{Map, Random};

/// A cached STE, whatever it says.
#[derive(Clone, Debug)]
pub(crate) struct CachedSte {
    pub(crate) ste: Ste,
    pub(crate) pa: u64,
    /// When the oldest word, or the L1STD before it, was read.
    pub(crate) basis: u64,
    pub(crate) route: Route,
}

/// A cached CD, whatever it says.
#[derive(Clone, Debug)]
pub(crate) struct CachedCd {
    pub(crate) cd: Cd,
    pub(crate) pa: u64,
    /// When the oldest word, or the STE before it, was read.
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

/// What a fetch under way reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Ste { stream: u32 },
    Cd { stream: u32, substream: u32 },
}

impl Target {
    pub(crate) const fn stream(self) -> u32 {
        match self {
            Self::Ste { stream } | Self::Cd { stream, .. } => stream,
        }
    }
}

/// A structure of which some words have been read.
#[derive(Clone, Debug)]
pub(crate) struct Fetch {
    pub(crate) target: Target,
    pub(crate) pa: u64,
    pub(crate) words: [Option<u64>; 8],
    /// Indices of the words still to read, last first.
    pub(crate) left: Vec<u8>,
    pub(crate) basis: u64,
}

impl Fetch {
    pub(crate) fn new(target: Target, pa: u64, basis: u64, random: &mut Random) -> Self {
        let mut left: Vec<u8> = (0..8).collect();
        for end in (1..left.len()).rev() {
            // Below 8, so it fits and is in range.
            left.swap(end, random.below(end as u64 + 1) as usize);
        }
        Self { target, pa, words: [None; 8], left, basis }
    }

    /// All words, once none is left.
    pub(crate) fn complete(&self) -> [u64; 8] {
        self.words.map(|word| word.unwrap_or(0))
    }
}

/// All cached configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConfigCache {
    pub(crate) stes: Map<u32, CachedSte>,
    pub(crate) cds: Map<(u32, u32), CachedCd>,
    pub(crate) l1: Map<u32, CachedL1>,
    pub(crate) fetches: Vec<Fetch>,
}

impl ConfigCache {
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

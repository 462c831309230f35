// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a running SMMU goes by: its stream table and all that its entries lead to, read and believed in nothing.
//!
//! Every address is asked for before it is read, every size is bounded before it is walked, and nothing may lie upon the
//! stream table that is to be written to later. Page tables are not looked into: whatever is in them, devices
//! reach already, and the driver neither reads nor writes them.

use alloc::vec::Vec;
use core::fmt;

use smmuv3_formats::legality::{self, Implementation, Rule};
use smmuv3_formats::register::{Cr2, PriqBase, StrtabBase, StrtabBaseCfg};
use smmuv3_formats::ste::config;
use smmuv3_formats::{CD_BYTES, Cd, L1Cd, L1Std, PhysAddr, STE_BYTES, Ste, StreamId};

use super::OldRequests;
use crate::features::Features;
use crate::room::Room;
use crate::stream_table::{Split, StreamTable};
use crate::update;

/// Memory that whoever had the SMMU before left, and which of its streams are to go on.
pub trait Remains {
    /// The word at `pa`, a multiple of 8; `None` where there is no memory that its structures may be in.
    fn read(&self, pa: u64) -> Option<u64>;

    /// Whether `stream`, which works, is to go on: all, unless this says otherwise. Of one that is not to, nothing keeps
    /// others from it: its entry is replaced by one that aborts, and not followed.
    fn keeps(&self, stream: StreamId) -> bool {
        let _ = stream;
        true
    }
}

/// A structure in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Structure {
    /// The stream table, or its first level.
    StreamTable,
    /// Entries that a level-1 descriptor leads to.
    StreamLeaf,
    /// Contexts, or their first level.
    Contexts,
    /// Contexts that a level-1 descriptor leads to.
    ContextLeaf,
    /// The first of translation tables.
    Table,
}

impl fmt::Display for Structure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StreamTable => "the stream table",
            Self::StreamLeaf => "a leaf of the stream table",
            Self::Contexts => "a table of contexts",
            Self::ContextLeaf => "a leaf of contexts",
            Self::Table => "a translation table",
        })
    }
}

/// Why a running SMMU is not taken over as it runs. Nothing was changed: [`Probe::enable`](crate::Probe::enable) makes
/// everything abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdoptError {
    /// It does not translate (SMMUEN is 0): there is nothing to go on with.
    Off,
    /// Streams are to be [kept](crate::Probe::keep), by entries of the driver's own that are complete before the SMMU is on: what
    /// works goes on without that.
    Kept,
    /// It was adopted already.
    Twice,
    /// The stream table is read with attributes that do not fit this driver's memory (CR1), which cannot change now.
    Attributes {
        /// CR1.
        cr1: u32,
        /// What its TABLE fields should be.
        expected: u32,
    },
    /// STRTAB_BASE_CFG makes no sense here.
    Shape {
        /// Its value.
        strtab_base_cfg: u32,
    },
    /// A structure is not aligned to its size: hardware reads it elsewhere.
    Misaligned {
        /// Which.
        what: Structure,
        /// Its address.
        pa: u64,
    },
    /// A structure is not, or not all, in memory that it may be in.
    Outside {
        /// Which.
        what: Structure,
        /// Its address.
        pa: u64,
    },
    /// A structure lies upon the stream table, or a leaf of it upon another one.
    Overlap {
        /// Which.
        what: Structure,
        /// Its address.
        pa: u64,
    },
    /// An entry is illegal.
    Entry {
        /// Of this stream.
        stream: StreamId,
        /// What it breaks.
        rule: Rule,
    },
    /// An entry answers for its neighbours as well (STE.CONT), and one of them goes on: they have to stay equal, and could not
    /// be changed one by one (§8.1).
    Contiguous {
        /// Of this stream.
        stream: StreamId,
        /// CONT: log2 of how many entries are equal.
        cont: u32,
    },
    /// A context is illegal.
    Context {
        /// Of this stream.
        stream: StreamId,
        /// And this substream.
        substream: u32,
        /// What it breaks.
        rule: Rule,
    },
    /// The stream's device may ask for translations (STE.EATS), and keep them.
    Ats {
        /// The stream.
        stream: StreamId,
    },
    /// The stream's faults stall, and nobody would answer.
    Stalls {
        /// The stream.
        stream: StreamId,
    },
    /// There is more than this driver looks at.
    TooMuch {
        /// Words that it reads at most.
        limit: u64,
    },
    /// No memory.
    NoMemory,
}

impl fmt::Display for AdoptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("it does not translate"),
            Self::Kept => f.write_str("streams are to be kept"),
            Self::Twice => f.write_str("it was adopted already"),
            Self::Attributes { cr1, expected } => {
                write!(f, "tables are read as CR1 {cr1:#x} says, not as {expected:#x}")
            }
            Self::Shape { strtab_base_cfg } => {
                write!(f, "STRTAB_BASE_CFG {strtab_base_cfg:#x} makes no sense")
            }
            Self::Misaligned { what, pa } => write!(f, "{what} at {pa:#x} is not aligned"),
            Self::Outside { what, pa } => write!(f, "{what} at {pa:#x} is not in memory"),
            Self::Overlap { what, pa } => write!(f, "{what} at {pa:#x} lies upon the stream table"),
            Self::Entry { stream, rule } => write!(f, "entry of stream {stream}: {rule}"),
            Self::Contiguous { stream, cont } => {
                write!(f, "the entry of stream {stream} is one of 2^{cont} equal ones")
            }
            Self::Context { stream, substream, rule } => {
                write!(f, "context {substream} of stream {stream}: {rule}")
            }
            Self::Ats { stream } => write!(f, "stream {stream} uses ATS"),
            Self::Stalls { stream } => write!(f, "faults of stream {stream} stall"),
            Self::TooMuch { limit } => write!(f, "more than {limit} words"),
            Self::NoMemory => f.write_str("no memory"),
        }
    }
}

impl core::error::Error for AdoptError {}

/// What its registers say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Running {
    pub(crate) cr2: Cr2,
    pub(crate) base: StrtabBase,
    pub(crate) shape: StrtabBaseCfg,
    /// If it takes page requests.
    pub(crate) requests: Option<PriqBase>,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Of the stream table.
    pub(crate) base: u64,
    pub(crate) log2: u32,
    pub(crate) split: Option<Split>,
    /// Level-1 descriptors that lead to entries, in order.
    pub(crate) leaves: Vec<u32>,
    /// Page requests that nobody has read, if they can be read.
    pub(crate) requests: Option<OldRequests>,
    /// Streams that work and go on, and those whose entries are to be blocked; each in order.
    pub(crate) kept: Vec<StreamId>,
    pub(crate) others: Vec<StreamId>,
    /// Streams that were put in quarantine, in order: they stay in it.
    pub(crate) cut_off: Vec<StreamId>,
    /// VMID and ASID of contexts in the world of this driver's own, in order; an ASID of `None` stands for all.
    pub(crate) tags: Vec<(u16, Option<u16>)>,
    /// VMIDs of another world: those of EL1, where this driver's own contexts are in EL2.
    pub(crate) vmids: Vec<u16>,
}

impl Found {
    /// The stream table that was there.
    ///
    /// # Safety
    /// `Probe::adopt` has looked through it, whose caller says that it stays and can be reached. It is taken once.
    pub(crate) unsafe fn table(&mut self) -> StreamTable {
        let (base, leaves) = (PhysAddr(self.base), core::mem::take(&mut self.leaves));
        // SAFETY: the caller's promise.
        unsafe { StreamTable::adopt(base, self.log2, self.split, leaves) }
    }

    pub(crate) fn take_requests(&mut self) -> Option<OldRequests> {
        self.requests.take()
    }

    pub(crate) fn cut_off(&self) -> &[StreamId] {
        &self.cut_off
    }

    /// As if no context had a tag: for tests of the oracle only.
    pub(crate) fn without_tags(self) -> Self {
        Self { tags: Vec::new(), vmids: Vec::new(), ..self }
    }
}

/// Words that are read at most: 32 MiB of them.
pub(crate) const LIMIT: u64 = 1 << 22;

/// Looks through all of it.
pub(crate) fn survey(
    running: &Running,
    features: &Features,
    memory: &dyn Remains,
) -> Result<Found, AdoptError> {
    let shape = running.shape;
    // The fields have 6, 5 and 2 bits.
    let (log2, split) = (shape.log2size() as u32, shape.split() as u32);
    let nonsense = AdoptError::Shape { strtab_base_cfg: shape.0 };
    let split = match (shape.fmt(), split) {
        (0, _) => None,
        (1, 6) if features.two_level_streams => Some(Split::Six),
        (1, 8) if features.two_level_streams => Some(Split::Eight),
        (1, 10) if features.two_level_streams => Some(Split::Ten),
        _ => return Err(nonsense),
    };
    // LOG2SIZE beyond what is implemented: hardware aligns by the field, but caps the range, so such a table is
    // refused.
    if log2 > 32 || log2 > features.implemented_sid_bits() {
        return Err(nonsense);
    }
    let implementation = Implementation { e2h: running.cr2.e2h(), ..features.implementation() };
    let mut survey = Survey {
        features,
        host: features.el2_host && running.cr2.e2h(),
        implementation,
        memory,
        left: LIMIT,
        found: Found::default(),
        contiguous: Vec::new(),
        used: Vec::new(),
    };
    survey.found = Found { base: running.base.addr(), log2, split, ..Found::default() };
    survey.streams()?;
    survey.alone()?;
    survey.disjoint()?;
    let mut found = survey.found;
    let requests = running.requests;
    found.requests = requests.and_then(|register| OldRequests::find(register, features, memory));
    found.tags.sort_unstable();
    found.tags.dedup();
    Ok(found)
}

/// A range of memory, and what is there.
type Used = (u64, u64, Structure);

struct Survey<'a> {
    features: &'a Features,
    /// Contexts of this driver's own will be in EL2.
    host: bool,
    implementation: Implementation,
    memory: &'a dyn Remains,
    /// Words that may still be read.
    left: u64,
    found: Found,
    /// Entries that answer for their neighbours as well, and CONT.
    contiguous: Vec<(StreamId, u32)>,
    used: Vec<Used>,
}

impl Survey<'_> {
    fn read(&mut self, what: Structure, base: u64, pa: u64) -> Result<u64, AdoptError> {
        self.left = self.left.checked_sub(1).ok_or(AdoptError::TooMuch { limit: LIMIT })?;
        self.memory.read(pa).ok_or(AdoptError::Outside { what, pa: base })
    }

    fn words(&mut self, what: Structure, base: u64, pa: u64) -> Result<[u64; 8], AdoptError> {
        let mut words = [0; 8];
        for (word, offset) in words.iter_mut().zip((0u64..).step_by(8)) {
            let at = pa.checked_add(offset).ok_or(AdoptError::Outside { what, pa: base })?;
            *word = self.read(what, base, at)?;
        }
        Ok(words)
    }

    /// Notes that `bytes` at `pa` are used, which hardware aligns to `align`.
    fn claim(
        &mut self,
        what: Structure,
        pa: u64,
        bytes: u64,
        align: u64,
    ) -> Result<(), AdoptError> {
        if !pa.is_multiple_of(align) {
            return Err(AdoptError::Misaligned { what, pa });
        }
        let end = pa.checked_add(bytes).ok_or(AdoptError::Outside { what, pa })?;
        if end > 1 << self.features.output_bits.min(63) {
            return Err(AdoptError::Outside { what, pa });
        }
        if bytes / 8 > self.left {
            return Err(AdoptError::TooMuch { limit: LIMIT });
        }
        self.used.room(1).map_err(|_| AdoptError::NoMemory)?;
        self.used.put((pa, end, what));
        Ok(())
    }

    fn streams(&mut self) -> Result<(), AdoptError> {
        let Found { base, log2, split, .. } = self.found;
        let Some(split) = split else {
            let bytes = (STE_BYTES as u64) << log2;
            self.claim(Structure::StreamTable, base, bytes, bytes)?;
            return self.entries(Structure::StreamTable, base, 0, 1 << log2);
        };
        let split = split.bits();
        let descriptors = 1u64 << log2.saturating_sub(split);
        let bytes = (8 * descriptors).max(64);
        self.claim(Structure::StreamTable, base, bytes, bytes)?;
        for index in 0..descriptors {
            let descriptor = L1Std([self.read(Structure::StreamTable, base, base + 8 * index)?]);
            let span = descriptor.span();
            // All of these mean that there are no entries (§5.1).
            if span == 0 || span > 11 || span > u64::from(split) + 1 {
                continue;
            }
            let (count, leaf) = (1u64 << (span - 1), descriptor.l2_ptr());
            let bytes = count * STE_BYTES as u64;
            self.claim(Structure::StreamLeaf, leaf, bytes, bytes)?;
            // Hardware has no streams beyond the table's, whatever a leaf has room for (§5.1).
            let first = index << split;
            self.entries(Structure::StreamLeaf, leaf, first, count.min((1 << log2) - first))?;
            self.found.leaves.room(1).map_err(|_| AdoptError::NoMemory)?;
            // At most 2^26 descriptors.
            self.found.leaves.put(index as u32);
        }
        Ok(())
    }

    /// The entries at `pa` of the streams from `first` on.
    fn entries(
        &mut self,
        what: Structure,
        pa: u64,
        first: u64,
        count: u64,
    ) -> Result<(), AdoptError> {
        for index in 0..count {
            let at = pa + index * STE_BYTES as u64;
            // Word 0 is read first: most entries have V = 0, and abort whatever else is in them.
            if !Ste([self.read(what, pa, at)?, 0, 0, 0, 0, 0, 0, 0]).v() {
                continue;
            }
            let ste = Ste(self.words(what, pa, at)?);
            // Streams have at most 32 bits.
            let stream = StreamId((first + index) as u32);
            if update::is_quarantined(&ste.0) {
                self.found.cut_off.room(1).map_err(|_| AdoptError::NoMemory)?;
                self.found.cut_off.put(stream);
            }
            let works = ste.config() & 0b100 != 0;
            if ste.cont() != 0 {
                self.contiguous.room(1).map_err(|_| AdoptError::NoMemory)?;
                // The field has four bits.
                self.contiguous.put((stream, ste.cont() as u32));
            }
            if works && self.memory.keeps(stream) {
                self.entry(stream, &ste)?;
            } else if works || ste.cont() != 0 {
                // Entries that abort but have CONT as well: they are rewritten so that they stand for themselves alone.
                self.found.others.room(1).map_err(|_| AdoptError::NoMemory)?;
                self.found.others.put(stream);
            }
        }
        Ok(())
    }

    /// No entry that goes on has one beside it that may answer for it, and is to change.
    fn alone(&self) -> Result<(), AdoptError> {
        let kept = &self.found.kept;
        for (stream, cont) in self.contiguous.iter().copied() {
            let first = stream.0 >> cont << cont;
            let at = kept.partition_point(|it| it.0 < first);
            if kept.get(at).is_some_and(|it| it.0 >> cont == stream.0 >> cont) {
                return Err(AdoptError::Contiguous { stream, cont });
            }
        }
        Ok(())
    }

    /// An entry that lets something through, which goes on. Those that do not are not followed: whatever is in them, it is
    /// over.
    fn entry(&mut self, stream: StreamId, ste: &Ste) -> Result<(), AdoptError> {
        legality::ste(ste, &self.implementation)
            .map_err(|rule| AdoptError::Entry { stream, rule })?;
        self.found.kept.room(1).map_err(|_| AdoptError::NoMemory)?;
        self.found.kept.put(stream);
        let (stage_1, stage_2) = (ste.config() & 0b001 != 0, ste.config() & 0b010 != 0);
        if (stage_1 || stage_2) && self.features.checks_translated() && ste.eats() != 0 {
            return Err(AdoptError::Ats { stream });
        }
        if stage_2 {
            if ste.s2_s() {
                return Err(AdoptError::Stalls { stream });
            }
            self.root(ste.s2_ttb())?;
            let vmid = ste.s2_vmid() as u16;
            // ASIDs in a guest's contexts are not known: the VMID as a whole is taken.
            return if self.host { self.other_world(vmid) } else { self.tag(vmid, None) };
        }
        if stage_1 { self.contexts(stream, ste) } else { Ok(()) }
    }

    fn contexts(&mut self, stream: StreamId, ste: &Ste) -> Result<(), AdoptError> {
        let none = self.features.ssid_bits == 0;
        // The field has five bits, and was found to be at most 20.
        let log2 = if none { 0 } else { ste.s1_cd_max() as u32 };
        let split = match ste.s1_fmt() {
            1 if log2 != 0 => Some(6u32),
            2 if log2 != 0 => Some(10),
            _ => None,
        };
        let base = ste.s1_context_ptr();
        let Some(split) = split else {
            let bytes = (CD_BYTES as u64) << log2;
            self.claim(Structure::Contexts, base, bytes, bytes)?;
            return self.leaf(Structure::Contexts, (stream, ste), base, 0, 1 << log2);
        };
        let descriptors = 1u64 << log2.saturating_sub(split);
        self.claim(Structure::Contexts, base, 8 * descriptors, (8 * descriptors).max(64))?;
        for index in 0..descriptors {
            let descriptor = L1Cd([self.read(Structure::Contexts, base, base + 8 * index)?]);
            if !descriptor.v() {
                continue;
            }
            let (count, leaf) = (1u64 << split, descriptor.l2_ptr());
            let bytes = count * CD_BYTES as u64;
            self.claim(Structure::ContextLeaf, leaf, bytes, bytes)?;
            // Nor substreams beyond S1CDMax (§5.2).
            let (first, all) = (index << split, 1u64 << log2);
            let count = count.min(all - first);
            self.leaf(Structure::ContextLeaf, (stream, ste), leaf, first, count)?;
        }
        Ok(())
    }

    /// The contexts at `pa` of the substreams from `first` on.
    fn leaf(
        &mut self,
        what: Structure,
        (stream, ste): (StreamId, &Ste),
        pa: u64,
        first: u64,
        count: u64,
    ) -> Result<(), AdoptError> {
        for index in 0..count {
            let cd = Cd(self.words(what, pa, pa + index * CD_BYTES as u64)?);
            if !cd.v() {
                continue;
            }
            // Substreams have 20 bits.
            let substream = (first + index) as u32;
            legality::cd(&cd, ste, &self.implementation).map_err(|rule| AdoptError::Context {
                stream,
                substream,
                rule,
            })?;
            if cd.s() {
                return Err(AdoptError::Stalls { stream });
            }
            if !cd.epd0() {
                self.root(cd.ttb0())?;
            }
            if !cd.epd1() {
                self.root(cd.ttb1())?;
            }
            let el2 = self.features.el2 && ste.config() == config::STAGE_1 && ste.strw() == 2;
            let vmid = if self.features.tag_vmid_bits() != 0 { ste.s2_vmid() as u16 } else { 0 };
            match (el2, self.host) {
                // EL2 has no VMIDs.
                (true, true) => self.tag(0, Some(cd.asid() as u16))?,
                // Contexts of EL2 while this driver's are in EL1: their tags collide with none.
                (true, false) => {}
                (false, true) => self.other_world(vmid)?,
                (false, false) => self.tag(vmid, Some(cd.asid() as u16))?,
            }
        }
        Ok(())
    }

    /// The first descriptor of a translation table has to be in memory.
    fn root(&mut self, pa: u64) -> Result<(), AdoptError> {
        let at = pa & !7;
        self.read(Structure::Table, pa, at).map(drop)
    }

    /// A tag of EL2, where `host` says so, or of EL1.
    fn tag(&mut self, vmid: u16, asid: Option<u16>) -> Result<(), AdoptError> {
        self.found.tags.room(1).map_err(|_| AdoptError::NoMemory)?;
        self.found.tags.put((vmid, asid));
        Ok(())
    }

    /// A VMID that is in use beside this driver's own world.
    fn other_world(&mut self, vmid: u16) -> Result<(), AdoptError> {
        self.found.vmids.room(1).map_err(|_| AdoptError::NoMemory)?;
        self.found.vmids.put(vmid);
        Ok(())
    }

    /// Nothing lies upon the stream table but what is in it. Contexts may be shared.
    fn disjoint(&mut self) -> Result<(), AdoptError> {
        self.used.sort_unstable_by_key(|(start, end, _)| (*start, *end));
        let is_stream = |what| matches!(what, Structure::StreamTable | Structure::StreamLeaf);
        // The largest end so far of the stream table's parts, and of all other structures.
        let (mut streams, mut others) = (0u64, 0u64);
        for (start, end, what) in &self.used {
            let mine = is_stream(*what);
            if *start < streams || mine && *start < others {
                return Err(AdoptError::Overlap { what: *what, pa: *start });
            }
            if mine {
                streams = streams.max(*end);
            } else {
                others = others.max(*end);
            }
        }
        Ok(())
    }
}

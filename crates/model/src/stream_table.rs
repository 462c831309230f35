// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a StreamID to its STE: location, fetch, cache (§5, §8.1).

use smmuv3_formats::register::StrtabBase;
use smmuv3_formats::{L1Std, STE_BYTES, Ste};

use crate::config_cache::{CachedL1, CachedSte, CachedStructure, Fetch, Place, Target};
use crate::context::{Route, route};
use crate::memory::Memory;
use crate::model::Model;
use crate::observation::{Misuse, Observation};

/// Why an STE could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoSte {
    /// No such stream: C_BAD_STREAMID.
    BadStream,
    /// The memory at this address refused: F_STE_FETCH.
    Abort(u64),
}

impl<M: Memory> Model<M> {
    /// log2 of the number of streams that the table may have (§2.5).
    pub(crate) fn stream_bits(&self) -> u32 {
        let cfg = self.registers.strtab_base_cfg;
        // At most 32, so it fits.
        cfg.log2size().min(self.profile.idr1.sidsize()).min(32) as u32
    }

    /// SPLIT of a 2-level table; `None` for a linear one.
    pub(crate) fn split(&self) -> Option<u32> {
        let cfg = self.registers.strtab_base_cfg;
        let two_levels = cfg.fmt() == 1 && self.profile.idr0.st_level() == 1;
        two_levels.then_some(match cfg.split() {
            8 => 8,
            10 => 10,
            _ => 6,
        })
    }

    /// Base of the stream table as hardware uses it, and the bytes of its first level (§2.5).
    pub(crate) fn stream_table(&self) -> (u64, u64) {
        let log2size = self.registers.strtab_base_cfg.log2size() as u32;
        let (align, used) = match self.split() {
            None => (log2size + 6, self.stream_bits() + 6),
            Some(split) => {
                let entries = |bits: u32| bits.saturating_sub(split) + 3;
                (entries(log2size).max(6), entries(self.stream_bits()))
            }
        };
        let mask = u64::MAX.checked_shl(align).unwrap_or(0);
        (self.registers.strtab_base.addr() & mask, 1 << used)
    }

    pub(crate) fn check_stream_table_base(&mut self) {
        let value = self.registers.strtab_base.addr();
        if value != self.stream_table().0 {
            self.misuse(Misuse::Misaligned { offset: StrtabBase::OFFSET, value });
        }
    }

    /// Where the STE of `stream` is, and when the oldest thing was read that says so.
    pub(crate) fn locate_ste(&mut self, stream: u32) -> Result<(u64, u64), NoSte> {
        if u64::from(stream) >> self.stream_bits() != 0 {
            return Err(NoSte::BadStream);
        }
        let (base, _) = self.stream_table();
        let now = self.tick();
        let bytes = STE_BYTES as u64;
        let (pa, basis) = match self.split() {
            None => (base + u64::from(stream) * bytes, now),
            Some(split) => {
                let l1 = self.l1_descriptor(base, stream >> split)?;
                let descriptor = L1Std([l1.word]);
                let span = descriptor.span();
                let low = u64::from(stream) & ((1 << split) - 1);
                let valid = (1..=11).contains(&span) && span <= u64::from(split) + 1;
                if !valid || low >> (span - 1) != 0 {
                    return Err(NoSte::BadStream);
                }
                let table = descriptor.l2_ptr() & !((bytes << (span - 1)) - 1);
                (table + low * bytes, l1.basis.min(now))
            }
        };
        if pa & !self.output_mask() != 0 {
            return Err(NoSte::Abort(pa));
        }
        Ok((pa, basis))
    }

    fn l1_descriptor(&mut self, base: u64, index: u32) -> Result<CachedL1, NoSte> {
        if let Some(cached) = self.config.l1.get(&index) {
            return Ok(*cached);
        }
        let pa = base + 8 * u64::from(index);
        if pa & !self.output_mask() != 0 {
            return Err(NoSte::Abort(pa));
        }
        let basis = self.tick();
        let word = self.memory.read64(pa).map_err(|abort| NoSte::Abort(abort.pa))?;
        let cached = CachedL1 { word, basis };
        self.config.l1.insert(index, cached);
        Ok(cached)
    }

    /// The meaning of the STE of `stream`, and its age; fetched and cached unless it is.
    pub(crate) fn route(&mut self, stream: u32, speculative: bool) -> Result<(Route, u64), NoSte> {
        if let Some(cached) = self.config.stes.get(&stream) {
            return Ok((cached.route, cached.basis));
        }
        if let Some(entry) = self.answer_of_neighbour(stream) {
            return Ok(self.keep_ste(stream, entry, speculative));
        }
        let (pa, basis) = self.locate_ste(stream)?;
        let target = Target::Ste { stream };
        let mut fetch = self.resume(target, Place::physical(pa, basis));
        self.read_words(&mut fetch, usize::MAX).map_err(|()| NoSte::Abort(pa))?;
        Ok(self.insert_ste(stream, &fetch, speculative))
    }

    fn insert_ste(&mut self, stream: u32, fetch: &Fetch, speculative: bool) -> (Route, u64) {
        let ste = Ste(fetch.complete());
        let (route, second) = route(&ste, &self.implementation());
        let (pa, basis) = (fetch.pa, fetch.basis);
        let ats_checked = self.registers.ats_checked();
        let entry = CachedSte { ste, pa, basis, route, second, ats_checked };
        self.keep_ste(stream, entry, speculative)
    }

    /// A cached STE that says that it stands for `stream`, too, may be taken for its own (STE.CONT, §5.2).
    fn answer_of_neighbour(&mut self, stream: u32) -> Option<CachedSte> {
        let exists = u64::from(stream) >> self.stream_bits() == 0;
        let wide = exists && self.profile.adversary.contiguous_entries;
        let entry = self.config.stes.neighbour(stream).filter(|_| wide)?.clone();
        self.random.one_in(2).then_some(entry)
    }

    fn keep_ste(&mut self, stream: u32, entry: CachedSte, speculative: bool) -> (Route, u64) {
        let CachedSte { ste, pa, basis, route, second, .. } = entry;
        self.config.stes.insert(stream, entry);
        self.statistics.configuration_fetches += 1;
        self.statistics.speculative += u64::from(speculative);
        self.observe(Observation::SteFetched { stream, words: ste.0, pa, speculative });
        self.check_vmid(stream, &ste, route, second.as_ref());
        (route, basis)
    }

    /// The fetch of `target` that is under way, unless that reads another place; else a new one.
    pub(crate) fn resume(&mut self, target: Target, place: Place) -> Fetch {
        match self.config.take(target) {
            Some(fetch) if fetch.pa == place.pa => fetch,
            _ => Fetch::new(target, place, &mut self.random),
        }
    }

    /// Reads up to `count` more words; an abort ends the fetch.
    pub(crate) fn read_words(&mut self, fetch: &mut Fetch, count: usize) -> Result<(), ()> {
        for _ in 0..count {
            let Some(index) = fetch.next() else { break };
            fetch.read(self.memory.read64(fetch.pa + 8 * index as u64).map_err(|_| ())?);
        }
        Ok(())
    }

    /// Starts a speculative fetch of what `stream` still needs, and reads a few words of it.
    pub(crate) fn begin_fetch(&mut self, stream: u32) {
        let cached = self.config.stes.get(&stream).map(|cached| (cached.route, cached.basis));
        let (target, place) = match cached {
            None => match self.locate_ste(stream) {
                Ok((pa, basis)) => (Target::Ste { stream }, Place::physical(pa, basis)),
                Err(_) => return,
            },
            Some((Route::Stage1(contexts), basis)) => {
                let substream = self.some_substream(&contexts);
                if self.config.cds.contains_key(&(stream, substream)) {
                    return;
                }
                let over = self.stage_2_of(stream).filter(|_| contexts.nested);
                match self.locate_cd((stream, substream), &contexts, over.as_ref(), basis, true) {
                    Ok(place) => (Target::Cd { stream, substream }, place),
                    Err(_) => return,
                }
            }
            Some(_) => return,
        };
        let fetch = Fetch::new(target, place, &mut self.random);
        if self.config.fetches.iter().all(|other| other.target != fetch.target) {
            self.advance_fetch(fetch);
        }
    }

    /// Reads some more words of a fetch; it is cached when that was all.
    pub(crate) fn advance_fetch(&mut self, mut fetch: Fetch) {
        // Below 5, so it fits.
        let count = 1 + self.random.below(4) as usize;
        if self.read_words(&mut fetch, count).is_err() {
            return;
        }
        if !fetch.is_complete() {
            self.config.fetches.push(fetch);
            return;
        }
        match fetch.target {
            Target::Ste { stream } => {
                if !self.config.stes.contains_key(&stream) {
                    self.insert_ste(stream, &fetch, true);
                }
            }
            Target::Cd { stream, substream } => self.finish_cd((stream, substream), &fetch),
            // Read in one piece.
            Target::L1Cd { .. } => {}
        }
    }

    /// The cached STEs, with V = 0 ones, by StreamID; ones that are being fetched last.
    pub fn cached_stes(&self) -> Vec<CachedStructure> {
        let cached =
            self.config.stes.iter().map(|(stream, entry)| {
                self.structure(*stream, None, entry.ste.0.map(Some), entry.pa)
            });
        let mut all: Vec<_> = cached.chain(self.partial(false)).collect();
        all.sort_by_key(|entry| (!entry.complete, entry.stream));
        all
    }

    /// Those of [`cached_stes`](Self::cached_stes), and then of [`cached_cds`](Self::cached_cds), that are complete, of one
    /// of `streams`, each of which is named once, and differ from what memory holds.
    pub fn outdated(&self, streams: &[u32]) -> Vec<CachedStructure> {
        let stes = streams.iter().filter_map(|stream| {
            let entry = self.config.stes.get(stream)?;
            Some(self.structure(*stream, None, entry.ste.0.map(Some), entry.pa))
        });
        let cds = self.config.cds.iter().filter(|((stream, _), _)| streams.contains(stream));
        let cds = cds.map(|((stream, substream), entry)| {
            self.structure(*stream, Some(*substream), entry.cd.0.map(Some), entry.pa)
        });
        let mut all: Vec<_> = stes.chain(cds).filter(|entry| entry.differs).collect();
        all.sort_by_key(|entry| (entry.substream.is_some(), entry.stream, entry.substream));
        all
    }

    pub(crate) fn partial(&self, contexts: bool) -> impl Iterator<Item = CachedStructure> {
        self.config.fetches.iter().filter_map(move |fetch| match fetch.target {
            Target::Ste { stream } if !contexts => {
                Some(self.structure(stream, None, fetch.words(), fetch.pa))
            }
            Target::Cd { stream, substream } if contexts => {
                Some(self.structure(stream, Some(substream), fetch.words(), fetch.pa))
            }
            _ => None,
        })
    }

    pub(crate) fn structure(
        &self,
        stream: u32,
        substream: Option<u32>,
        words: [Option<u64>; 8],
        pa: u64,
    ) -> CachedStructure {
        let differs = (0u64..).zip(words).any(|(index, word)| {
            word.is_some_and(|word| self.memory.read64(pa + 8 * index) != Ok(word))
        });
        let complete = words.iter().all(Option::is_some);
        let words = words.map(|word| word.unwrap_or(0));
        CachedStructure { stream, substream, words, pa, differs, complete }
    }
}

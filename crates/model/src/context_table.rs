// SPDX-License-Identifier: MIT OR Apache-2.0
//! From an STE and a SubstreamID to a CD: location, fetch, cache (§5.3, §6, §8.1).

use smmuv3_formats::event::class;
use smmuv3_formats::{CD_BYTES, Cd, L1Cd, Ste};

use crate::config_cache::{
    CachedCd, CachedL1Cd, CachedStructure, Fetch, L1CdEntry, Place, Refused, Target,
};
use crate::context::{Context, Contexts, L1CD_BYTES, Route, context};
use crate::fault::WalkFault;
use crate::memory::Memory;
use crate::model::Model;
use crate::observation::{Misuse, Observation};
use crate::stage_2::{Purpose, Stage2};
use crate::world::World;

/// Why a CD could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoCd {
    /// The L1CD leads nowhere: C_BAD_SUBSTREAMID.
    BadSubstream,
    /// The memory at this address refused: F_CD_FETCH.
    Abort(u64),
    /// Stage 2 does not lead there: its fault, with CLASS = CD.
    Fault(WalkFault),
}

impl<M: Memory> Model<M> {
    /// Where the CD of a substream, which is in range, is: `over` is stage 2 where that translates, and `basis`
    /// the age of the STE. The L1CD is fetched and cached unless it is, whatever it says.
    pub(crate) fn locate_cd(
        &mut self,
        (stream, substream): (u32, u32),
        contexts: &Contexts,
        over: Option<&Stage2>,
        basis: u64,
        speculative: bool,
    ) -> Result<Place, NoCd> {
        let basis = basis.min(self.tick());
        let Some(split) = contexts.split else {
            let at = contexts.table + u64::from(substream) * CD_BYTES as u64;
            return self.place_of_cd(at, over, stream, basis, None);
        };
        let index = substream >> split;
        let entry = match self.config.l1_cds.get(&(stream, index)) {
            Some(entry) => *entry,
            None => {
                let at = contexts.table + u64::from(index) * L1CD_BYTES;
                let Place { pa, basis, .. } = self.place_of_cd(at, over, stream, basis, None)?;
                let word = self.memory.read64(pa).map_err(|abort| NoCd::Abort(abort.pa))?;
                let entry = L1CdEntry { word, pa, basis, split };
                self.config.l1_cds.insert((stream, index), entry);
                self.statistics.speculative += u64::from(speculative);
                self.observe(Observation::L1CdFetched { stream, index, word, pa, speculative });
                self.check_leaf(stream, index, word, split);
                entry
            }
        };
        let leaf = self.context_leaf(entry.word, split).ok_or(NoCd::BadSubstream)?;
        let low = u64::from(substream) & ((1 << split) - 1);
        let at = leaf + low * CD_BYTES as u64;
        let through = Some(Target::L1Cd { stream, index });
        self.place_of_cd(at, over, stream, basis.min(entry.basis), through)
    }

    /// Where what lies at `at`, as the STE or L1CD has it, is.
    fn place_of_cd(
        &mut self,
        at: u64,
        over: Option<&Stage2>,
        stream: u32,
        basis: u64,
        through: Option<Target>,
    ) -> Result<Place, NoCd> {
        let Some(over) = over else {
            return Ok(Place { through, ..Place::physical(at, basis) });
        };
        let found =
            self.second(over, at, &Purpose::fetch(class::CD, stream)).map_err(NoCd::Fault)?;
        let (pa, vmid, basis) = (found.output(at), over.tag.vmid, basis.min(found.basis));
        Ok(Place { pa, at, vmid, basis, through })
    }

    /// The leaf that an L1CD points to, for leaves of 2^`split` CDs; `None` where it leads nowhere (§5.3).
    pub(crate) fn context_leaf(&self, word: u64, split: u32) -> Option<u64> {
        let descriptor = L1Cd([word]);
        let leaf = descriptor.l2_ptr();
        let fine = descriptor.v() && leaf & !self.output_mask() == 0;
        // Bits below the size of a leaf are RES0, and dropped.
        fine.then_some(leaf & !(((CD_BYTES as u64) << split) - 1))
    }

    fn check_leaf(&mut self, stream: u32, index: u32, word: u64, split: u32) {
        let aligned = self.context_leaf(word, split);
        let pointer = L1Cd([word]).l2_ptr();
        if aligned.is_some_and(|aligned| aligned != pointer) {
            self.misuse(Misuse::MisalignedContexts { stream, index, pointer });
        }
    }

    /// The meaning of a CD of `stream`, whose STE is cached, and its age; fetched and cached unless it is.
    pub(crate) fn context(
        &mut self,
        stream: u32,
        substream: u32,
        contexts: &Contexts,
        ste_basis: u64,
        speculative: bool,
    ) -> Result<(Result<Context, Refused>, u64), NoCd> {
        if let Some(cached) = self.config.cds.get(&(stream, substream)) {
            return Ok((cached.context, cached.basis));
        }
        let over = self.stage_2_of(stream).filter(|_| contexts.nested);
        let key = (stream, substream);
        let place = self.locate_cd(key, contexts, over.as_ref(), ste_basis, speculative)?;
        let mut fetch = self.resume(Target::Cd { stream, substream }, place);
        self.read_words(&mut fetch, usize::MAX).map_err(|()| NoCd::Abort(place.pa))?;
        let Some(ste) = self.config.stes.get(&stream).map(|cached| cached.ste) else {
            // Callers have just looked the STE up; without it there is no context.
            return Err(NoCd::Abort(place.pa));
        };
        let cached = self.insert_cd((stream, substream), &ste, contexts, &fetch, speculative);
        Ok((cached.context, cached.basis))
    }

    /// Caches what a speculative fetch has read, if the way there is still the same.
    pub(crate) fn finish_cd(&mut self, (stream, substream): (u32, u32), fetch: &Fetch) {
        let Some(cached) = self.config.stes.get(&stream) else { return };
        let (ste, Route::Stage1(contexts)) = (cached.ste, cached.route) else { return };
        // CFGI of the L1CD ends the fetch, so that the L1CD is the one that led here.
        let same = match contexts.split {
            None => fetch.at == contexts.table + u64::from(substream) * CD_BYTES as u64,
            Some(_) => fetch.through.is_some(),
        };
        if same && !self.config.cds.contains_key(&(stream, substream)) {
            self.insert_cd((stream, substream), &ste, &contexts, fetch, true);
        }
    }

    fn insert_cd(
        &mut self,
        (stream, substream): (u32, u32),
        ste: &Ste,
        contexts: &Contexts,
        fetch: &Fetch,
        speculative: bool,
    ) -> CachedCd {
        let cd = Cd(fetch.complete());
        let context = context(&cd, ste, contexts, &self.implementation());
        let (pa, basis) = (fetch.pa, fetch.basis);
        let cached = CachedCd { cd, pa, basis, context };
        self.config.cds.insert((stream, substream), cached.clone());
        self.statistics.configuration_fetches += 1;
        self.statistics.speculative += u64::from(speculative);
        self.observe(Observation::CdFetched { stream, substream, words: cd.0, pa, speculative });
        if let Ok(context) = context {
            self.check_tag(stream, substream, &cd, &context);
        }
        cached
    }

    /// Reports what is cached under the tag of a CD but belongs to other tables (§8.1).
    fn check_tag(&mut self, stream: u32, substream: u32, cd: &Cd, context: &Context) {
        let tag = context.tag;
        for (high, half) in [false, true].into_iter().zip(context.halves) {
            let Some(tables) = half.tables else { continue };
            let ttb_new = tables.base;
            let mut found = Vec::new();
            let mut disagrees = false;
            for (key, other) in &self.config.cds {
                let Ok(theirs) = &other.context else { continue };
                let Some(their_tables) = theirs.halves[usize::from(high)].tables else { continue };
                if *key == (stream, substream) || theirs.tag != tag {
                    continue;
                }
                found.push(their_tables.base);
                disagrees |= their_tables.base == ttb_new
                    && cacheable(&other.cd, tag.world) != cacheable(cd, tag.world);
            }
            let upper = |va: u64| va >> 63 != 0;
            // Where there are no ASIDs, all translations belong to one table.
            let one_space = tag.world == World::El2;
            let leaves = self.tlb.iter().filter(|e| e.tag == tag && (!e.global || one_space));
            found.extend(leaves.filter(|e| upper(e.va) == high).map(|e| e.ttb));
            let tables = self.walk_cache.iter().filter(|e| e.tag == tag && upper(e.va) == high);
            found.extend(tables.map(|e| e.ttb));
            found.retain(|ttb| *ttb != ttb_new);
            found.sort_unstable();
            found.dedup();
            for ttb_old in found {
                self.observe(Observation::TagConflict { tag, ttb_old, ttb_new, stream });
            }
            if disagrees {
                self.misuse(Misuse::TagDisagreement { tag, stream });
            }
        }
    }

    /// The cached CDs, with V = 0 ones, by StreamID and SubstreamID; ones that are being fetched last.
    pub fn cached_cds(&self) -> Vec<CachedStructure> {
        let cached = self.config.cds.iter().map(|((stream, substream), entry)| {
            self.structure(*stream, Some(*substream), entry.cd.0.map(Some), entry.pa)
        });
        let mut all: Vec<_> = cached.chain(self.partial(true)).collect();
        all.sort_by_key(|entry| (!entry.complete, entry.stream, entry.substream));
        all
    }

    /// The cached L1CDs, with V = 0 ones, by StreamID and index.
    pub fn cached_l1_cds(&self) -> Vec<CachedL1Cd> {
        let cached = self.config.l1_cds.iter().map(|((stream, index), entry)| CachedL1Cd {
            stream: *stream,
            index: *index,
            first: index << entry.split,
            substreams: 1 << entry.split,
            word: entry.word,
            pa: entry.pa,
            differs: self.memory.read64(entry.pa) != Ok(entry.word),
        });
        let mut all: Vec<_> = cached.collect();
        all.sort_by_key(|entry| (entry.stream, entry.index));
        all
    }
}

/// The words of a CD that the TLB may hold, without what it may not: A, R, S; ASID and ASET where they mean nothing; and
/// the table of a half that is not walked (§8.1).
fn cacheable(cd: &Cd, world: World) -> [u64; 5] {
    const A_R_S: u64 = 0b111 << 44;
    const ASET_ASID: u64 = 0x1_ffff << 47;
    let el2 = world == World::El2;
    let ignored = if el2 { A_R_S | ASET_ASID } else { A_R_S };
    let table = |word: u64, walked: bool| if walked { word } else { 0 };
    let ttb0 = table(cd.0[1], el2 || !cd.epd0());
    let ttb1 = table(cd.0[2], !el2 && !cd.epd1());
    [cd.0[0] & !ignored, ttb0, ttb1, cd.0[3], cd.0[4]]
}

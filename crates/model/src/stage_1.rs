// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stage 1: from virtual addresses to what it leads to, alone or over stage 2 (§9, §14, §16.1).

use smmuv3_formats::descriptor::{Stage, Stage1Page};
use smmuv3_formats::{EventId, permission};

use crate::context::{Context, Half};
use crate::fault::WalkFault;
use crate::flag::Flags;
use crate::memory::Memory;
use crate::model::Model;
use crate::observation::{Misuse, Observation};
use crate::stage_2::{Purpose, Stage2};
use crate::tables::Tables;
use crate::tlb::{SecondStage, Slot, Stages, TlbEntry};
use crate::walk::Way;
use crate::world::World;

/// What stage 1 is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) context: &'a Context,
    pub(crate) half: &'a Half,
    pub(crate) tables: &'a Tables,
    /// What is below stage 1.
    pub(crate) over: Option<&'a Stage2>,
    /// Sign-extended, and in range.
    pub(crate) va: u64,
    pub(crate) purpose: Purpose,
}

impl<M: Memory> Model<M> {
    /// Walks the tables of stage 1 and, where it is on, translates the output by stage 2; caches what it reads.
    pub(crate) fn walk(&mut self, asked: &Asked<'_>) -> Result<(), WalkFault> {
        self.walks(asked.va, &asked.purpose, |model| {
            // A leaf that changed under the walk is walked again.
            while !model.walk_first(asked)? {}
            Ok(())
        })
    }

    /// Counts a walk and tells of it.
    pub(crate) fn walks<T>(
        &mut self,
        va: u64,
        purpose: &Purpose,
        work: impl FnOnce(&mut Self) -> Result<T, WalkFault>,
    ) -> Result<T, WalkFault> {
        self.statistics.walks += 1;
        let before = self.statistics.descriptors;
        let found = work(self);
        let descriptors = self.statistics.descriptors - before;
        let fault = found.as_ref().err().map(|fault| fault.event);
        let Purpose { stream, speculative, .. } = *purpose;
        self.observe(Observation::Walked { stream, va, descriptors, fault, speculative });
        found
    }

    /// Caches the leaf; false when it changed meanwhile.
    fn walk_first(&mut self, asked: &Asked<'_>) -> Result<bool, WalkFault> {
        let Asked { context, half, tables, over, va, purpose } = *asked;
        let fault = WalkFault::first;
        let way = Way {
            tables,
            tag: context.tag,
            aset: context.aset,
            had: half.had,
            over,
            asked: None,
            stream: purpose.stream,
        };
        let mut leaf = self.descend(&way, va)?;
        let page = Stage1Page([leaf.slot.word]);
        if !page.af() && !tables.access && !tables.affd {
            return Err(fault(EventId::FAccess));
        }
        let permissions = permission::stage_1(leaf.slot.word, leaf.limits, &context.regime);
        let permitted = purpose.permitted(&permissions) || purpose.speculative;
        let mut clean =
            tables.dirty && page.dbm() && page.ap() & 0b10 != 0 && !leaf.limits.no_write;
        let access = !page.af() && tables.access;
        // Neither a leaf with a clear flag nor one whose output is not known yet is cached for a refusal.
        if !permitted && (access || over.is_some()) {
            if access && self.profile.adversary.prefetch && self.random.one_in(2) {
                // It may be set all the same; what that comes to does not matter any more (§14).
                let (slot, flags) = (leaf.slot, Flags::ACCESS);
                let _ = self.update_first(&slot, leaf.at, flags, over, purpose.stream);
            }
            return Err(fault(EventId::FPermission));
        }
        let dirty = clean && permitted && purpose.marks();
        if access || dirty {
            let flags = Flags { access, dirty };
            match self.update_first(&leaf.slot, leaf.at, flags, over, purpose.stream)? {
                Some(slot) => leaf.slot = slot,
                None => return Ok(false),
            }
            clean &= !dirty;
        }
        let mut size = self.cached_bytes(tables, context.tag, &leaf, va);
        let output = leaf.address & !(size - 1) | va & (size - 1);
        let mut basis = leaf.basis;
        let (pa, second) = match over {
            None => (leaf.address & !(size - 1), None),
            Some(over) => {
                let found = self.second(over, output, &purpose)?;
                size = size.min(found.size);
                basis = basis.min(found.basis);
                let second = SecondStage {
                    ipa: output & !(size - 1),
                    level: found.level,
                    ttb: found.ttb,
                    permissions: found.permissions,
                    first: permissions,
                    attributes: found.attributes,
                    shareability: found.shareability,
                    at: leaf.at,
                    slot: found.slot,
                    clean: found.clean,
                };
                (found.output(output) & !(size - 1), Some(second))
            }
        };
        let page = Stage1Page([leaf.slot.word]);
        let entry = TlbEntry {
            id: self.tick(),
            tag: context.tag,
            // EL2 without E2H has no ASIDs (§1).
            global: !page.ng() || context.tag.world == World::El2,
            aset: context.aset,
            stages: if over.is_some() { Stages::Both } else { Stages::One },
            va: va & !(size - 1),
            size,
            pa,
            level: leaf.level,
            granule: tables.granule(),
            permissions: second.map_or(permissions, |second| permissions.and(second.permissions)),
            // An index of three bits selects one of eight bytes.
            attributes: (context.mair >> (8 * page.attr_index())) as u8,
            shareability: tables.shareability(page.sh(), half.sh),
            ttb: tables.base,
            second,
            stream: purpose.stream,
            walked: va,
            slot: leaf.slot,
            clean,
            basis,
        };
        self.cache_leaf(&entry, purpose.speculative);
        Ok(true)
    }

    /// Sets flags in a leaf of stage 1. Over stage 2 that is a write, which must be permitted there (§14).
    pub(crate) fn update_first(
        &mut self,
        slot: &Slot,
        at: u64,
        flags: Flags,
        over: Option<&Stage2>,
        stream: u32,
    ) -> Result<Option<Slot>, WalkFault> {
        let mut slot = *slot;
        if let Some(over) = over {
            let found = self.second(over, at, &Purpose::update(stream))?;
            // Stage 2 may lead elsewhere by now.
            slot.pa = found.output(at);
        }
        self.update(Stage::One, &slot, flags)
            .map_err(|fetch| WalkFault { fetch, ..WalkFault::first(EventId::FWalkEabt) })
    }

    /// Marks the leaves of a cached translation as written. `None` when one is another by now: the entry, which
    /// can't be used for a write then, is gone.
    pub(crate) fn mark(
        &mut self,
        entry: &TlbEntry,
        over: Option<&Stage2>,
        stream: u32,
    ) -> Result<Option<TlbEntry>, WalkFault> {
        if entry.stages == Stages::Two {
            return self
                .mark_second(entry)
                .map_err(|fetch| WalkFault { fetch, ..WalkFault::first(EventId::FWalkEabt) });
        }
        let mut marked = *entry;
        let mut same = true;
        if entry.clean {
            let at = entry.second.map_or(entry.slot.pa, |second| second.at);
            match self.update_first(&entry.slot, at, Flags::DIRTY, over, stream)? {
                Some(slot) => (marked.slot, marked.clean) = (slot, false),
                None => same = false,
            }
        }
        if let Some(second) = marked.second.as_mut().filter(|second| second.clean && same) {
            let updated = self.update(Stage::Two, &second.slot, Flags::DIRTY);
            match updated
                .map_err(|fetch| WalkFault { fetch, ..WalkFault::first(EventId::FWalkEabt) })?
            {
                Some(slot) => (second.slot, second.clean) = (slot, false),
                None => same = false,
            }
        }
        if !same {
            self.tlb.remove(|old| old.id == entry.id);
            return Ok(None);
        }
        // Of one that was invalidated meanwhile nothing comes back.
        if !self.tlb.remove(|old| old.id == entry.id).is_empty() {
            self.tlb.insert(&marked);
        }
        Ok(Some(marked))
    }

    /// Caches a leaf, and tells of it.
    pub(crate) fn cache_leaf(&mut self, entry: &TlbEntry, speculative: bool) {
        let overlaps = match entry.stages {
            Stages::Two => self.ipa_tlb.insert(entry),
            Stages::One | Stages::Both => self.tlb.insert(entry),
        };
        let (tag, va, size) = (entry.tag, entry.va, entry.size);
        match overlaps {
            Some(old) if old.output(old.va) != entry.output(old.va) => {
                let (from, to) = (old.slot.word, entry.slot.word);
                self.misuse(Misuse::WithoutBreak { tag, va, from, to });
            }
            // One leaf may be cached in pieces, or with others of its group.
            Some(old) if old.level != entry.level && self.profile.idr3.bbml() < 2 => {
                self.misuse(Misuse::Overlap { tag, va, size });
            }
            _ => {}
        }
        self.observe(Observation::TlbFilled {
            id: entry.id,
            tag: entry.tag,
            stages: entry.stages,
            va: entry.va,
            pa: entry.pa,
            size: entry.size,
            write: entry.permissions.unprivileged.write,
            ttb: entry.ttb,
            stream: entry.stream,
            speculative,
        });
        self.statistics.speculative += u64::from(speculative);
    }
}

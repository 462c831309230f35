// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a master is, under the configuration mutex: its streams, its contexts, and what it uses.

use alloc::vec::Vec;

use smmuv3_formats::{PhysAddr, Ste, StreamId, SubstreamId};

use crate::ats::AtsMode;
use crate::attach::{before_split, fill, write, write_all};
use crate::compatibility::Stage;
use crate::context_table::{ContextFormat, ContextTable};
use crate::entry::{GUEST, GUEST_ASKS, Stage2, Stream, WithoutSubstream};
use crate::error::{Failure, InstanceId};
use crate::features::Features;
use crate::instance::Instance;
use crate::iommu::Core;
use crate::legal;
use crate::nest::state::NestState;
use crate::others::Others;
use crate::overrides::Overrides;
use crate::place::{Bound, Slot, WITHOUT, is_without};
use crate::platform::Platform;
use crate::shared::{NoMemory, Shared};
use crate::stall;
use crate::update::{CdKind, Entry, SteKind, Words, switches};

/// What a master is, under the configuration mutex.
pub(crate) struct MasterState {
    pub(crate) instance: InstanceId,
    pub(crate) streams: Vec<StreamId>,
    /// While streams are let out of quarantine, these; with room for all of `streams` where there is ATS.
    pub(crate) cut_off: Vec<StreamId>,
    /// Bits of a substream.
    pub(crate) bits: u32,
    /// Its contexts, once one was needed. Hardware reads them while its entries say that stage 1 translates.
    pub(crate) table: Option<ContextTable>,
    /// Attributes that its entries override.
    pub(crate) overrides: Overrides,
    /// The master may be attached to identity, but to no address space.
    pub(crate) identity_only: bool,
    /// The bank that it is in, while it uses any address space.
    pub(crate) vmid: u16,
    /// The tables of stage 2, if these translate its accesses without a substream.
    pub(crate) stage_2: Option<Stage2>,
    /// What they say instead if a guest's entry is attached.
    pub(crate) nested: Option<Ste>,
    /// The guest whose commands may name its streams.
    pub(crate) nest: Option<Shared<NestState>>,
    /// The guest that it was being taken from when the instance did not confirm that: until a reset hardware may read
    /// that guest's entry.
    pub(crate) former: Option<Shared<NestState>>,
    /// The instance did not confirm the move to the bank `vmid`: the master's accesses may still be tagged with the
    /// bank before.
    pub(crate) adrift: bool,
    /// How its devices may keep translations.
    pub(crate) ats: AtsMode,
    /// Whether ATS is switched on in its devices.
    pub(crate) on: bool,
    /// How many page requests each device may have under way; 0 for none.
    pub(crate) page_requests: u32,
    /// Whether page requests are switched on in its devices.
    pub(crate) asking: bool,
    /// Answers to page requests carry their PASID.
    pub(crate) response_pasid: bool,
    /// What its accesses without a substream are subject to.
    pub(crate) own: Slot,
    /// What its accesses with substreams are subject to.
    pub(crate) others: Others,
    /// Its translation faults stall.
    pub(crate) stalls: bool,
    /// Its entries are still those that were adopted.
    pub(crate) adopted: bool,
    /// It was made by [`Probe::keep`](crate::Probe::keep), and nobody has a handle of it yet.
    pub(crate) kept: bool,
}

/// What a part that is left out would have set is known when the driver is compiled.
impl MasterState {
    /// How its devices may keep translations.
    pub(crate) const fn ats(&self) -> AtsMode {
        if cfg!(feature = "ats") { self.ats } else { AtsMode::Off }
    }

    /// Whether ATS is switched on in its devices.
    pub(crate) const fn is_on(&self) -> bool {
        cfg!(feature = "ats") && self.on
    }

    /// Whether page requests are switched on in its devices.
    pub(crate) const fn is_asking(&self) -> bool {
        cfg!(feature = "ats") && self.asking
    }

    /// Whether its translation faults stall.
    pub(crate) const fn stalls(&self) -> bool {
        cfg!(feature = "stalls") && self.stalls
    }

    /// Whether its entries are still those that were adopted.
    pub(crate) const fn is_adopted(&self) -> bool {
        cfg!(feature = "hand-over") && self.adopted
    }

    /// Whether a guest has its streams, or may have them until a reset.
    pub(crate) fn has_guest(&self) -> bool {
        cfg!(feature = "nested") && (self.nest.is_some() || self.former.is_some())
    }
}

impl MasterState {
    /// Whether an unconfirmed change waits for a reset.
    pub(crate) fn is_stuck(&self) -> bool {
        cfg!(feature = "policies") && self.adrift
            || self.any_slot(|slot| matches!(slot, Slot::Stuck(_)))
    }

    /// Whether it uses an address space, or, after an unconfirmed change, may.
    pub(crate) fn is_occupied(&self) -> bool {
        self.any_slot(|slot| matches!(slot, Slot::At(_) | Slot::Stuck(_)))
    }

    fn any_slot(&self, is_it: impl Fn(&Slot) -> bool) -> bool {
        is_it(&self.own) || self.others.iter().any(|(_, slot)| is_it(slot))
    }

    /// Whether its accesses without a substream are translated by stage 2; those with one are then refused.
    pub(crate) fn uses_stage_2(&self) -> bool {
        matches!(self.own, Slot::At(_)) && self.tables().is_some()
    }

    /// The tables of stage 2, where there can be any.
    fn tables(&self) -> Option<Stage2> {
        self.stage_2.filter(|_| cfg!(feature = "stage-2"))
    }

    /// The substream that keeps it from using tables of `stage` with `substream`: a stream's entry says either that
    /// stage 2 translates, or that contexts do.
    pub(crate) fn clash(&self, substream: u32, stage: Stage) -> Option<u32> {
        match stage {
            Stage::Two if substream == WITHOUT => {
                self.others.iter().next().map(|(other, _)| *other)
            }
            Stage::Two => Some(substream),
            Stage::One => (substream != WITHOUT && self.uses_stage_2()).then_some(substream),
        }
    }

    fn slots(&self) -> impl Iterator<Item = &Slot> {
        core::iter::once(&self.own).chain(self.others.iter().map(|(_, slot)| slot))
    }

    /// Its seats.
    pub(crate) fn bounds(&self) -> impl Iterator<Item = Bound> {
        self.slots().filter_map(Slot::bound)
    }

    pub(crate) fn slot(&self, substream: u32) -> &Slot {
        if is_without(substream) { &self.own } else { self.others.slot(substream) }
    }

    /// A change that waits for a reset, with the seats that it was between.
    pub(crate) fn stuck_slot(&self) -> Option<(u32, [Option<Bound>; 2])> {
        let own = core::iter::once((WITHOUT, self.own));
        own.chain(self.others.iter().copied()).find_map(|(substream, slot)| match slot {
            Slot::Stuck(bounds) => Some((substream, bounds)),
            Slot::Blocked | Slot::Identity | Slot::At(_) => None,
        })
    }

    /// Seats that a failed change was between.
    pub(crate) fn stuck(&self) -> impl Iterator<Item = Bound> {
        self.slots()
            .filter_map(|slot| match slot {
                Slot::Stuck(bounds) => Some(*bounds),
                Slot::Blocked | Slot::Identity | Slot::At(_) => None,
            })
            .flatten()
            .flatten()
    }

    /// Room for the slot of `substream`.
    pub(crate) fn reserve(&mut self, substream: u32) -> Result<(), NoMemory> {
        if is_without(substream) { Ok(()) } else { self.others.reserve() }
    }

    /// Sets the slot of `substream`. There is room for it ([`MasterState::reserve`]).
    pub(crate) fn set_slot(&mut self, substream: u32, slot: Slot) {
        if is_without(substream) {
            self.own = slot;
        } else {
            self.others.set(substream, slot);
        }
    }

    /// The slot of `substream`, unless it is blocked.
    pub(crate) fn slot_mut(&mut self, substream: u32) -> Option<&mut Slot> {
        if is_without(substream) { Some(&mut self.own) } else { self.others.slot_mut(substream) }
    }

    /// Its seat at `place`.
    pub(crate) fn bound_mut(&mut self, substream: u32, place: usize) -> Option<&mut Bound> {
        match self.slot_mut(substream)? {
            Slot::At(bound) => Some(bound),
            Slot::Stuck(bounds) => bounds.iter_mut().flatten().find(|bound| bound.place == place),
            Slot::Blocked | Slot::Identity => None,
        }
    }

    /// What the entries of its streams are to say.
    pub(crate) fn stream(&self) -> Stream {
        if let (Slot::At(_), Some(tables)) = (self.own, self.tables()) {
            return self.nested.map_or(Stream::Stage2(tables), Stream::Nested);
        }
        let without = match self.own {
            Slot::At(_) => WithoutSubstream::First,
            Slot::Identity => WithoutSubstream::Bypass,
            Slot::Blocked | Slot::Stuck(_) => WithoutSubstream::Terminate,
        };
        // A plain bypass has no ATS (§12.1).
        let asks = self.ats() == AtsMode::Always && without == WithoutSubstream::Bypass;
        let used = asks || self.others.iter().any(|(_, slot)| matches!(slot, Slot::At(_)));
        match (&self.table, without) {
            (Some(table), without) if used || without == WithoutSubstream::First => {
                Stream::Stage1 {
                    contexts: table.base(),
                    format: table.format(),
                    bits: table.bits(),
                    without,
                    vmid: self.vmid,
                }
            }
            (_, WithoutSubstream::Bypass) => Stream::Identity,
            _ => Stream::Blocked,
        }
    }

    /// The context of `substream`, where there is memory for it.
    pub(crate) fn entry<P: Platform>(
        &self,
        platform: &P,
        substream: SubstreamId,
    ) -> Option<Entry<'static>> {
        self.table.as_ref()?.entry(platform, substream)
    }

    /// Sees to it that there is memory for the context of `substream`. Hardware does not see it yet.
    pub(crate) fn make_room<P: Platform>(
        &mut self,
        platform: &P,
        features: &Features,
        substream: SubstreamId,
    ) -> Result<(), NoMemory> {
        // A single context came with the master, unless that was kept.
        if cfg!(any(feature = "pasids", feature = "hand-over")) && self.table.is_none() {
            // SAFETY: there is one platform only.
            self.table =
                Some(unsafe { ContextTable::new(platform, features, self.bits) }.ok_or(NoMemory)?);
        }
        let table = self.table.as_ref().ok_or(NoMemory)?;
        table.make_room(platform, substream).ok_or(NoMemory)
    }

    /// Sees to it that the context of `substream` can become another without a moment in between, where hardware may be
    /// reading it. Without memory for that there is such a moment.
    pub(crate) fn make_copy<P: Platform>(&mut self, platform: &P, substream: u32) {
        let read = matches!(self.stream(), Stream::Stage1 { .. });
        let changes = self.slot(substream).bound().is_some() && read;
        if let Some(table) = self.table.as_mut().filter(|_| changes) {
            let _ = table.reserve_copy(platform);
        }
    }

    /// A copy to write `context` for `pasid` to, beside the one that hardware may be reading: only if the two differ in
    /// more than a word, and the bank stays the same.
    pub(crate) fn copy_for<P: Platform>(
        &self,
        platform: &P,
        was_read: bool,
        context: &Words,
        (pasid, vmid): (SubstreamId, u16),
    ) -> Option<Entry<'static>> {
        let bound = self.slot(pasid.0).bound();
        bound.filter(|_| was_read && self.vmid == vmid)?;
        let table = self.table.as_ref()?;
        let current = table.entry(platform, pasid)?.load(platform);
        if switches::<CdKind>(&current, context) > 1 { table.copy(platform, pasid) } else { None }
    }

    /// The entry for `stream`, with the attributes that the master overrides.
    fn encode(&self, stream: Stream, features: &Features) -> Words {
        let bypass = match stream {
            Stream::Identity => true,
            Stream::Stage1 { bits, without, .. } => {
                bits != 0 && without == WithoutSubstream::Bypass
            }
            Stream::Blocked | Stream::Stage2(_) | Stream::Nested(_) => false,
        };
        // Guests' entries as well: guests are shown no overrides, so their entries have none of their own.
        let mut ste = stream.encode_for_master(features);
        ste.0[1] = self.overrides.on(ste, bypass).0[1];
        let ste = stall::entry(ste, self.stalls());
        // PPAR in blocked entries as well: what the device asked for before is still to be answered.
        let ste =
            if cfg!(feature = "ats") && self.response_pasid { ste.with_ppar(true) } else { ste };
        // Entries that do not translate ignore EATS, and guests' entries have it already.
        let said = matches!(stream, Stream::Nested(_));
        let marks = if self.asks(stream) { GUEST | GUEST_ASKS } else { GUEST };
        let ste = if said && stream.is_over_stage_2() { ste.with_sw_reserved(marks) } else { ste };
        if self.keeps(stream) && !said { ste.with_eats(self.ats().eats()).0 } else { ste.0 }
    }

    /// Whether its devices keep translations while its entries say `stream`.
    #[inline]
    pub(crate) const fn keeps(&self, stream: Stream) -> bool {
        cfg!(feature = "ats") && self.ats.is_on(stream)
    }

    /// Whether its devices are to ask for pages, when they have ATS on, while its entries say `stream`: under a guest's stage 1
    /// if the guest is shown page requests. By its input addresses its host could not tell which memory is asked for.
    #[inline]
    pub(crate) fn asks(&self, stream: Stream) -> bool {
        let nested = matches!(stream, Stream::Nested(_));
        let shown = || self.nest.as_ref().is_some_and(|nest| nest.has_page_requests());
        cfg!(feature = "ats") && self.page_requests != 0 && (!nested || shown())
    }

    /// Changes the entries of all its streams to `stream`, a step of all of them at a time, each of which ends in CFGI
    /// and CMD_SYNC.
    pub(crate) fn write_streams<P: Platform>(
        &self,
        core: &Core<P>,
        instance: &Instance<P>,
        stream: Stream,
    ) -> Result<(), Failure> {
        self.write_entries(core, instance, &self.streams, stream)
    }

    /// As [`MasterState::write_streams`], of `streams` among them.
    pub(crate) fn write_entries<P: Platform>(
        &self,
        core: &Core<P>,
        instance: &Instance<P>,
        streams: &[StreamId],
        stream: Stream,
    ) -> Result<(), Failure> {
        let target = self.encode(stream, instance.features());
        legal::ste(&target, instance.features());
        let target = core.entry_of(target);
        let forget = || instance.forget_streams(&core.platform, streams);
        // The leaves with these entries were made when the master was added, and stay.
        let entry = |stream: &StreamId| instance.streams().entry(&core.platform, *stream);
        let entries = streams.iter().filter_map(entry);
        if cfg!(feature = "ats") && self.ats() == AtsMode::Split {
            before_split(core, entries.clone(), &target, forget)?;
        }
        write_all::<P, SteKind>(core, entries, &target, forget)
    }

    /// Stores the entries of its streams in memory, and tells the instance, which does not answer, nothing.
    pub(crate) fn store_streams<P: Platform>(
        &self,
        platform: &P,
        instance: &Instance<P>,
        stream: Stream,
    ) {
        let target = self.encode(stream, instance.features());
        legal::ste(&target, instance.features());
        for stream in &self.streams {
            if let Some(entry) = instance.streams().entry(platform, *stream) {
                fill(platform, entry, &target);
            }
        }
    }

    /// Blocks its streams in memory, without a word to an instance that did not confirm what was changed before: by the
    /// word that decides, since hardware may have read that already and the others not yet.
    pub(crate) fn block_streams<P: Platform>(&self, platform: &P, instance: &Instance<P>) {
        let [decides, ..] = Stream::BLOCKED.0;
        for stream in &self.streams {
            if let Some(entry) = instance.streams().entry(platform, *stream) {
                entry.write(platform, 0, decides);
            }
        }
    }

    /// Judges a context before it is stored, in debug builds.
    pub(crate) fn judge(&self, context: &Words, features: &Features) {
        if !cfg!(debug_assertions) {
            return;
        }
        // An entry as it will lead to the context, as far as that counts for the context's legality.
        let (contexts, format) = (PhysAddr(0), ContextFormat::Linear);
        let (bits, without, vmid) = (0, WithoutSubstream::First, 0);
        let entry = Stream::Stage1 { contexts, format, bits, without, vmid };
        legal::cd(context, &self.encode(entry, features), features);
    }

    /// Changes a context that hardware may read.
    #[inline(never)]
    pub(crate) fn write_context<P: Platform>(
        &self,
        core: &Core<P>,
        instance: &Instance<P>,
        entry: Entry<'_>,
        substream: SubstreamId,
        target: &Words,
    ) -> Result<(), Failure> {
        self.judge(target, instance.features());
        let forget = || instance.forget_contexts(&core.platform, &self.streams, substream);
        write::<P, CdKind>(core, entry, target, forget)
    }
}

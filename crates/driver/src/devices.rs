// SPDX-License-Identifier: MIT OR Apache-2.0
//! Devices that keep translations of their own (ATS, §12): their switches, what makes them forget, and what becomes of
//! one that does not answer.
//!
//! The order, each step complete before the next: STE.EATS on, the device forgets all, ATS on in the device, PRI on in
//! it, under a guest's stage 1 if the guest is shown that; PRI off in the device, ATS off in it, the device forgets all, STE.EATS
//! off (§8.2), what it asked for is ended ([`crate::page_group`]). While a device has ATS on, it is among the targets of what its stream uses, unless what it
//! keeps are intermediate addresses ([`crate::ats`]).
//!
//! A device that does not answer an invalidation in time may use what it keeps for ever. Its stream is *quarantined*: the
//! entry is made one that aborts, translated traffic too, by a single word that no change of the entry replaces, since
//! that may come from a call that was made before. With that complete the device reaches nothing, and the call that
//! found out goes on as if it had answered. Every call that finds a stream in quarantine waits for that by itself, since
//! whoever put it there may still be on the way.

use smmuv3_formats::command::CfgiSte;
use smmuv3_formats::register::cerror;
use smmuv3_formats::{Command, Ste, StreamId};

use crate::atc::{Kept, Spans};
use crate::ats::AtsMode;
use crate::attach::catch_up;
use crate::entry::Stream;
use crate::error::{Failure, InstanceId};
use crate::instance::Instance;
use crate::iommu::{Core, Iommu};
use crate::master::{Master, MasterState};
use crate::mutation::Mutation;
use crate::page_group::{self, Which};
use crate::place::{User, WITHOUT};
use crate::platform::Platform;
use crate::room::Room;
use crate::shared::NoMemory;
use crate::trace::Trace;

/// A device that an invalidation must reach.
#[derive(Clone, Copy)]
pub(crate) struct Device {
    pub(crate) instance: InstanceId,
    pub(crate) kept: Kept,
    /// Index of its master.
    pub(crate) master: usize,
}

impl Device {
    /// What the device of `stream` keeps for accesses with `substream`, or without.
    pub(crate) fn new(
        instance: InstanceId,
        stream: StreamId,
        User { master, substream }: User,
    ) -> Self {
        Self { instance, kept: kept(stream, substream), master }
    }

    /// Whether `user` is whose accesses it keeps translations for.
    pub(crate) fn is_of(&self, user: User) -> bool {
        self.master == user.master && self.kept == kept(self.kept.stream, user.substream)
    }

    /// Devices are sorted by this among targets.
    pub(crate) const fn key(&self) -> (InstanceId, Kept) {
        (self.instance, self.kept)
    }
}

/// The translations that a stream's device keeps for accesses with `substream`, or without ([`WITHOUT`]).
fn kept(stream: StreamId, substream: u32) -> Kept {
    Kept { stream, substream: (substream != WITHOUT).then_some(substream) }
}

/// The command that makes hardware notice that the entry of `stream` is in quarantine.
pub(crate) fn entry_changed(stream: StreamId) -> Command {
    CfgiSte::new().with_sid(u64::from(stream.0)).with_leaf(true).into()
}

/// Whether devices did not answer, rather than the instance (CERROR_ATC_INV_SYNC, §3.2).
pub(crate) fn is_of_device(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused { code, .. } if u64::from(*code) == cerror::ATC_INV_SYNC)
}

impl<P: Platform> Instance<P> {
    /// Whether `stream` is in quarantine.
    pub(crate) fn is_quarantined(&self, platform: &P, stream: StreamId) -> bool {
        let entry = self.streams().entry(platform, stream);
        entry.is_some_and(|entry| entry.is_quarantined(platform))
    }

    /// Whether the device behind `stream` may keep translations, by its entry: that allows it before its ATS is on, and forbids
    /// it only when it is off and the device has forgotten everything (§8.2). An entry may be invalid for a moment meanwhile.
    pub(crate) fn may_keep(&self, platform: &P, stream: StreamId) -> bool {
        let entry = self.streams().entry(platform, stream);
        entry.is_some_and(|entry| Ste(entry.load(platform)).eats() != 0)
    }

    /// Puts `stream` in quarantine: once hardware has carried out [`entry_changed`], its device reaches nothing. May be
    /// called in interrupt context, whatever others are doing to the entry. Whether it was not in it before: then the
    /// caller goes on to [`Instance::tell_of`], once it reads no targets.
    #[must_use]
    pub(crate) fn quarantine(&self, platform: &P, stream: StreamId) -> bool {
        platform.trace(&Trace::Quarantined { instance: &self.config().name, stream });
        let entry = self.streams().entry(platform, stream);
        entry.is_some_and(|entry| entry.quarantine(platform))
    }

    /// Sees to it that the caller of [`Iommu::handle_interrupt`] is told that `stream` was put in quarantine.
    pub(crate) fn tell_of(&self, platform: &P, stream: StreamId) {
        if self.leaves_out(Mutation::NoQuarantineReport) {
            return;
        }
        self.silent().note(platform, stream);
    }

    /// As [`Instance::tell_of`], of `streams` that were in quarantine before this driver had the SMMU.
    pub(crate) fn cut_off_before(
        &self,
        platform: &P,
        streams: &[StreamId],
    ) -> Result<(), NoMemory> {
        self.silent().reserve(platform, streams)?;
        streams.iter().for_each(|stream| self.tell_of(platform, *stream));
        Ok(())
    }

    /// Makes the device behind `stream` forget `spans`; if it does not answer, its stream is put in quarantine.
    ///
    /// # Errors
    /// As [`Instance::carry_out`], but for devices that do not answer.
    fn forget_device(&self, platform: &P, kept: Kept, spans: &Spans) -> Result<(), Failure> {
        if !self.is_quarantined(platform, kept.stream) {
            let _asked = self.commands().devices_are_asked();
            match self.carry_out(platform, spans.iter().map(|span| kept.command(span))) {
                Err(failure) if is_of_device(&failure) => {
                    if self.quarantine(platform, kept.stream) {
                        self.tell_of(platform, kept.stream);
                    }
                }
                other => return other,
            }
        }
        // Even if another call put it there: that call may not have completed its CFGI yet.
        let mut again = self.commands().repeats();
        loop {
            match self.carry_out(platform, [entry_changed(kept.stream)]) {
                // The error is that of another device's ATC_INV before the same CMD_SYNC; this CFGI is complete, once.
                Err(failure) if is_of_device(&failure) => {
                    if !core::mem::take(&mut again) {
                        return Ok(());
                    }
                }
                other => return other,
            }
        }
    }
}

impl MasterState {
    /// One of its streams that is in quarantine, if any.
    pub(crate) fn quarantined<P: Platform>(
        &self,
        platform: &P,
        instance: &Instance<P>,
    ) -> Option<StreamId> {
        // Without ATS as well: the stream may have been put in quarantine as another master's.
        self.streams.iter().copied().find(|stream| instance.is_quarantined(platform, *stream))
    }

    /// Makes the master's devices forget what they keep for accesses with `substream`; with [`WITHOUT`], everything.
    ///
    /// # Errors
    /// As [`Instance::carry_out`]. Devices that do not answer are no error, but in quarantine afterwards.
    pub(crate) fn forget_kept<P: Platform>(
        &self,
        core: &Core<P>,
        instance: &Instance<P>,
        substream: u32,
    ) -> Result<(), Failure> {
        if core.leaves_out(Mutation::NoAtcInv)
            || core.leaves_out(Mutation::SplitKept) && self.ats == AtsMode::Split
        {
            return Ok(());
        }
        let mut streams = self.streams.iter();
        streams.try_for_each(|stream| {
            instance.forget_device(&core.platform, kept(*stream, substream), &Spans::ALL)
        })
    }

    /// Switches ATS off in its devices, if it is on; they still keep what they keep. Before that they ask for no more
    /// pages, and what they asked for is to be ended.
    pub(crate) fn switch_off<P: Platform>(&mut self, core: &Core<P>) {
        if core::mem::take(&mut self.on) {
            let asking = core::mem::take(&mut self.asking);
            for stream in &self.streams {
                if asking {
                    core.platform.disable_page_requests(self.instance, *stream);
                }
                core.platform.disable_ats(self.instance, *stream);
            }
        }
    }

    /// Makes its devices forget everything, and switches ATS on in them. The entries allow it already. Behind an instance
    /// that is suspended that is left for when it wakes: it would answer none of them.
    ///
    /// # Errors
    /// As [`MasterState::forget_kept`]; they stay off then, as do devices in quarantine, with all others of the master.
    pub(crate) fn switch_on<P: Platform>(
        &mut self,
        core: &Core<P>,
        instance: &Instance<P>,
    ) -> Result<(), Failure> {
        if instance.commands().is_asleep() {
            return Ok(());
        }
        self.forget_kept(core, instance, WITHOUT)?;
        if self.quarantined(&core.platform, instance).is_none() {
            self.on = true;
            self.asking = self.asks(self.stream());
            for stream in &self.streams {
                core.platform.enable_ats(self.instance, *stream);
                if self.asking {
                    let credits = self.page_requests;
                    core.platform.enable_page_requests(self.instance, *stream, credits);
                }
            }
        }
        Ok(())
    }
}

impl MasterState {
    /// Lets those of its streams that are in quarantine out of it, notes which, and lets them work as it is attached. ATS is off
    /// in its devices.
    ///
    /// # Errors
    /// As [`Instance::carry_out`]; each stream may then be anywhere between both.
    fn readmit<P: Platform>(
        &mut self,
        core: &Core<P>,
        instance: &Instance<P>,
    ) -> Result<(), Failure> {
        let platform = &core.platform;
        let Self { streams, cut_off, .. } = &mut *self;
        let quarantined = streams.iter().filter(|it| instance.is_quarantined(platform, **it));
        // `add` reserved the room. Masters made by `keep` have none, but their streams were no other master's before,
        // so none was in quarantine.
        cut_off.put_all(quarantined.take(cut_off.capacity()).copied());
        for stream in cut_off.iter() {
            if let Some(entry) = instance.streams().entry(platform, *stream) {
                entry.readmit(platform);
            }
        }
        instance.forget_streams(platform, &self.streams)?;
        // The device was reset, and waits for no answer.
        page_group::end(core, instance, self, Which::All, None)?;
        // Who unmapped while it was in quarantine has left it out.
        catch_up(core, instance)?;
        // What a failed call left behind stays blocked until the reset that lets go of it.
        let stuck = self.is_stuck();
        let stream = if stuck { Stream::Blocked } else { self.stream() };
        // As long as it was not attached, streams that were not cut off go on by the entries that were adopted.
        let entries = if self.adopted { &self.cut_off } else { &self.streams };
        self.write_entries(core, instance, entries, stream)?;
        if !stuck && self.keeps(stream) { self.switch_on(core, instance) } else { Ok(()) }
    }
}

impl<P: Platform> Iommu<P> {
    /// Lets `master` work again as it is attached, whose device was reset after it had not answered the SMMU
    /// ([`Master::is_quarantined`]). Nothing to do for others. Where it goes on as it was adopted
    /// ([`Probe::adopt`](crate::Probe::adopt)), those of its streams that were cut off are blocked then, and the others stay as they are.
    ///
    /// # Errors
    /// What the instance did: the master stays, or is again, in quarantine, and this is to be called again, after a reset if
    /// the instance failed; streams of its that were not cut off work on without ATS until then. If it is its device that
    /// does not answer, that is no error: [`Master::is_quarantined`] tells.
    pub fn readmit(&self, master: &Master<P>) -> Result<(), Failure> {
        let core = &*master.core;
        core.configuration.with(|configuration| {
            let Some(state) = configuration.masters.get_mut(master.index) else { return Ok(()) };
            let Some(instance) = core.instances.get(state.instance) else { return Ok(()) };
            let platform = &core.platform;
            if state.quarantined(platform, instance).is_none() {
                return Ok(());
            }
            // ATS off first, before the entry lets the device reach anything again.
            state.switch_off(core);
            let readmitted = state.readmit(core, instance);
            if readmitted.is_err() {
                // Back into quarantine, which the error and `is_quarantined` tell; no report is needed.
                for stream in &state.cut_off {
                    let _ = instance.quarantine(platform, *stream);
                }
                // An error does not matter here: whoever next finds a stream in quarantine gives the CFGI as well.
                let _ = instance.forget_streams(platform, &state.cut_off);
            }
            state.cut_off.clear();
            readmitted
        })
    }
}

impl<P: Platform> Master<P> {
    /// Its device did not answer the SMMU in time when it was to forget translations that it keeps: all its streams that
    /// did not are blocked until [`Iommu::readmit`].
    pub fn is_quarantined(&self) -> bool {
        let core = &*self.core;
        core.configuration.with(|configuration| {
            let state = configuration.masters.get(self.index);
            let instance = state.and_then(|state| core.instances.get(state.instance));
            state.zip(instance).is_some_and(|(state, instance)| {
                state.quarantined(&core.platform, instance).is_some()
            })
        })
    }
}

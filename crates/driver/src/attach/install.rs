// SPDX-License-Identifier: MIT OR Apache-2.0
//! The step of an attach that hardware sees: the context, the stream table entries, the device's own switch, in the order
//! in which they may be read.

use core::iter;

use smmuv3_formats::ste::config;
use smmuv3_formats::{Ste, SubstreamId};

use super::Goal;
use crate::ats::{AtsMode, SPLIT};
use crate::configuration::Configuration;
use crate::entry::Stream;
use crate::error::Failure;
use crate::instance::Instance;
use crate::iommu::Core;
use crate::master::MasterState;
use crate::mutation::Mutation;
use crate::page_group::{self, Which};
use crate::page_request::Answer;
use crate::place::{Bound, Slot, WITHOUT};
use crate::platform::Platform;
use crate::stall::{self, Ending};
use crate::update::{Entry, Kind, SteKind, Words, update_all};

/// Makes hardware do what `goal` says, for one substream of a master or for accesses without. `new` is its seat
/// at the space that is entered, and what its entries say if a guest has a say in it. If that fails, the master's slot is the
/// caller's to set.
pub(super) fn install<P: Platform>(
    core: &Core<P>,
    configuration: &mut Configuration<P>,
    instance: &Instance<P>,
    master: usize,
    substream: u32,
    goal: &Goal<'_, P>,
    (new, nested): (Option<Bound>, Option<Ste>),
) -> Result<(), Failure> {
    let place = new.and_then(|new| configuration.places.get(new.place));
    let tables = place.and_then(|place| place.space.stage_2(place.tag));
    let stalls = configuration.masters.get(master).is_some_and(MasterState::stalls);
    let target = place.filter(|_| tables.is_none()).map(|place| {
        let context = place.space.context(instance.features(), place.tag, place.shared);
        (stall::context(context, stalls).0, place.tag.vmid)
    });
    let Some(state) = configuration.masters.get_mut(master) else { return Ok(()) };
    let (platform, pasid) = (&core.platform, SubstreamId(substream));
    if let Some((_, vmid)) = &target {
        bring_vmid(core, instance, state, *vmid)?;
    }
    let before = state.stream();
    let contexts = |stream| matches!(stream, Stream::Stage1 { .. });
    let was_read = contexts(before);
    let was_bound = state.slot(substream).bound().is_some();

    // The context is written before the entry that leads to it.
    if let Some((context, vmid)) = &target {
        let vmid = *vmid;
        if !was_read {
            state.vmid = vmid;
        }
        let linked = state.table.as_ref().is_some_and(|table| table.link(platform, pasid));
        let linked = linked && !core.leaves_out(Mutation::NoLeafCfgi);
        if linked && was_read {
            instance.forget_leaf(platform, &state.streams, pasid)?;
        }
        if stalls && was_read && was_bound {
            // What waits now stalled by the old context, and ends here. What stalls from here on may have met either,
            // which cannot be told without a moment in which nothing stalls: it is the caller's to answer, and goes by
            // the new context when it is tried again.
            stall::end(core, instance, &state.streams, Ending::Substream(substream))?;
        }
        let copy = state.copy_for(platform, was_read, context, (pasid, vmid));
        if let Some(copy) = copy {
            // Hardware cannot reach the copy before the exchange below, and forgot the copy's former contents when that
            // was last exchanged.
            state.judge(context, instance.features());
            fill(platform, copy, context);
            let leads = state.table.as_mut().is_some_and(|it| it.exchange(platform, pasid));
            let leads = leads && !core.leaves_out(Mutation::NoLeafCfgi);
            if leads {
                // CFGI_STE also invalidates all contexts and level-1 context descriptors found through those entries
                // (§4.1).
                instance.forget_streams(platform, &state.streams)?;
            }
        } else if let Some(entry) = state.entry(platform, pasid) {
            if was_read {
                state.write_context(core, instance, entry, pasid, context)?;
            } else {
                // No stream table entry leads to the context yet, so hardware cannot have read it.
                state.judge(context, instance.features());
                fill(platform, entry, context);
            }
        }
    }
    let slot = match (new, goal) {
        (Some(bound), _) => Slot::At(bound),
        (None, Goal::Identity) => Slot::Identity,
        (None, _) => Slot::Blocked,
    };
    state.set_slot(substream, slot);
    if substream == WITHOUT {
        (state.stage_2, state.nested) = (tables, nested);
    }
    let after = state.stream();
    let kept_before = state.is_on();
    let asks_anew = state.is_asking() != state.asks(after);
    if kept_before && (!state.keeps(after) || state.ats() == AtsMode::Split || asks_anew) {
        // Neither what the device keeps nor what it asks for may outlive the entry that allows it. Nor may intermediate
        // addresses that it keeps from one stage 2 be used in another, whose guest may not have given it these.
        if !core.leaves_out(Mutation::DeviceFirst) {
            state.switch_off(core);
        }
        state.forget_kept(core, instance, WITHOUT)?;
    }
    if core.leaves_out(Mutation::DeviceFirst) && !state.is_on() && state.keeps(after) {
        state.switch_on(core, instance)?;
    }
    if after != before || state.is_adopted() {
        change(core, instance, state, before, after)?;
        state.adopted = false;
    }
    if !state.keeps(after) {
        state.switch_off(core);
        // Even if the driver had page requests off: as long as its entry had EATS, the device may have asked.
        if state.keeps(before) {
            let which = Which::All;
            page_group::end(core, instance, state, which, Some(Answer::Invalid))?;
        }
    }
    // The substream had a context, and is to have none.
    let leaves = was_bound && target.is_none();
    if let Some(entry) = state.entry(platform, pasid).filter(|_| leaves) {
        if contexts(after) {
            // With V = 0 in word 0 the other words mean nothing.
            let mut invalid = entry.load(platform);
            invalid[0] = 0;
            state.write_context(core, instance, entry, pasid, &invalid)?;
            if stalls {
                stall::end(core, instance, &state.streams, Ending::Substream(substream))?;
            }
        } else {
            // The entries do not lead to contexts any more: hardware does not see this store.
            fill(platform, entry, &[0; 8]);
        }
    }
    if !state.keeps(after) {
        return Ok(());
    }
    // The device now asks through the new context, but still keeps what the old one granted. Pages that it lacked
    // before may be mapped now, so it is told to try again.
    let answer = if new.is_some() { Answer::Success } else { Answer::Invalid };
    let end = |state: &MasterState| {
        if !state.keeps(before) {
            return Ok(());
        }
        // A guest's contexts are all those of the stream.
        let nested = [before, after].iter().any(|it| matches!(it, Stream::Nested(_)));
        let which = if nested { Which::All } else { Which::Substream(substream) };
        page_group::end(core, instance, state, which, Some(answer))
    };
    if state.is_on() {
        state.forget_kept(core, instance, substream)?;
        end(state)
    } else {
        end(state)?;
        state.switch_on(core, instance)
    }
}

/// Lets the entries of a master that is about to use a context have the bank `vmid`, where they lead to contexts already of which
/// none is valid: under identity with ATS that is always on. It is another word than the one that the change exchanges, and
/// translations by the context are to have no other tag (§8.2).
fn bring_vmid<P: Platform>(
    core: &Core<P>,
    instance: &Instance<P>,
    state: &mut MasterState,
    vmid: u16,
) -> Result<(), Failure> {
    let skipped = state.ats() == AtsMode::Always && !state.is_occupied();
    if !skipped || state.vmid == vmid || core.leaves_out(Mutation::LateVmid) {
        return Ok(());
    }
    state.vmid = vmid;
    match state.stream() {
        stream @ Stream::Stage1 { .. } => state.write_streams(core, instance, stream),
        _ => Ok(()),
    }
}

/// When what stalled by the former entries of a master ends, as they change.
enum Ends {
    /// It goes by the next ones, or there is none.
    Never,
    /// Between the two: the streams are blocked then, so that what stalled by the former can be told from what stalls by the
    /// next.
    Between,
    /// After the change, to entries that translate nothing.
    After(Ending),
}

impl Ends {
    fn of(state: &MasterState, before: Stream, after: Stream) -> Self {
        if !state.stalls() || !before.is_translated() || after == before {
            return Self::Never;
        }
        match after {
            Stream::Blocked => Self::After(Ending::Everything),
            after if !after.is_translated() => Self::After(Ending::Translated),
            // By contexts alone: each ends its own.
            after if !before.is_over_stage_2() && !after.is_over_stage_2() => Self::Never,
            _ => Self::Between,
        }
    }
}

/// Makes the entries of a master, which said `before`, say `after`, and ends what stalled by them.
fn change<P: Platform>(
    core: &Core<P>,
    instance: &Instance<P>,
    state: &MasterState,
    before: Stream,
    after: Stream,
) -> Result<(), Failure> {
    let ends = Ends::of(state, before, after);
    if matches!(ends, Ends::Between) {
        state.write_streams(core, instance, Stream::Blocked)?;
        stall::end(core, instance, &state.streams, Ending::Everything)?;
    }
    state.write_streams(core, instance, after)?;
    match ends {
        Ends::After(ending) => stall::end(core, instance, &state.streams, ending),
        Ends::Never | Ends::Between => Ok(()),
    }
}

/// Makes the entries of a master, which said `before`, say something else over the same tables of stage 2, for a guest or
/// no more for one.
pub(super) fn restate<P: Platform>(
    core: &Core<P>,
    instance: &Instance<P>,
    state: &mut MasterState,
    before: Stream,
) -> Result<(), Failure> {
    let after = state.stream();
    if after == before {
        return Ok(());
    }
    // Page requests can only be switched together with ATS.
    if state.is_on() && (!state.keeps(after) || state.is_asking() != state.asks(after)) {
        state.switch_off(core);
        state.forget_kept(core, instance, WITHOUT)?;
    }
    change(core, instance, state, before, after)?;
    let end = |state: &MasterState, answer| {
        page_group::end(core, instance, state, Which::All, Some(answer))
    };
    // As long as their entry had EATS, devices may have asked for pages, even if the driver had ATS off.
    let asked_before = state.keeps(before);
    match state.keeps(after) {
        true if state.on => {
            // The device still keeps what the former entry granted; pages that it lacked before may be mapped now.
            state.forget_kept(core, instance, WITHOUT)?;
            end(state, Answer::Success)
        }
        true => {
            if asked_before {
                end(state, Answer::Success)?;
            }
            state.switch_on(core, instance)
        }
        false if asked_before => end(state, Answer::Invalid),
        false => Ok(()),
    }
}

/// Makes ready for `target` those `entries` that say split-stage ATS and are not to, and the other way round: it is legal where
/// both stages translate, and illegal elsewhere (§7.1(4)), and it is another word that says so. It goes first, and comes
/// last, each by a step of its own. ATS is off in the devices then.
pub(crate) fn before_split<'a, P: Platform>(
    core: &Core<P>,
    entries: impl Iterator<Item = Entry<'a>> + Clone,
    target: &Words,
    mut forget: impl FnMut() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let platform = &core.platform;
    let says_so = |words: &Words| Ste(*words).eats() == SPLIT;
    // EATS is ignored by entries that translate nothing.
    let looks = |words: &Words| Ste(*words).v() && Ste(*words).config() > config::BYPASS;
    if !looks(target) {
        return Ok(());
    }
    if says_so(target) {
        let ready = |words: &Words| says_so(words) || !looks(words);
        if entries.clone().all(|entry| ready(&entry.load(platform))) {
            return Ok(());
        }
        let without = Ste(*target).with_eats(0);
        return write_all::<P, SteKind>(core, entries, &without.0, forget);
    }
    let mut changed = false;
    for entry in entries {
        let now = entry.load(platform);
        if says_so(&now) && looks(&now) {
            let [_, word, ..] = Ste(now).with_eats(0).0;
            entry.write(platform, 1, word);
            changed = true;
        }
    }
    if changed { forget() } else { Ok(()) }
}

/// Fills an entry that hardware cannot reach. Words that it holds already were made visible when they were stored.
#[inline(never)]
pub(crate) fn fill<P: Platform>(platform: &P, entry: Entry<'_>, words: &Words) {
    entry.store_changed(platform, &mut entry.load(platform), words);
}

/// Makes `entry` hold `target`; `forget` makes hardware forget what it held, and waits for that.
pub(crate) fn write<P: Platform, K: Kind>(
    core: &Core<P>,
    entry: Entry<'_>,
    target: &Words,
    mut forget: impl FnMut() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (platform, one) = (&core.platform, iter::once(entry));
    if core.leaves_out(Mutation::CfgiBeforeSte) {
        forget()?;
        update_all::<P, K, Failure>(platform, one, target, || Ok(()))
    } else if core.leaves_out(Mutation::NoCfgi) {
        update_all::<P, K, Failure>(platform, one, target, || Ok(()))
    } else if core.leaves_out(Mutation::WordByWord) {
        fill(platform, entry, target);
        forget()
    } else {
        update_all::<P, K, _>(platform, one, target, forget)
    }
}

/// As [`write`], of several entries: `forget` is of all of them.
pub(crate) fn write_all<'a, P: Platform, K: Kind>(
    core: &Core<P>,
    mut entries: impl Iterator<Item = Entry<'a>> + Clone,
    target: &Words,
    mut forget: impl FnMut() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let wrong = [Mutation::CfgiBeforeSte, Mutation::NoCfgi, Mutation::WordByWord];
    if wrong.into_iter().any(|it| core.leaves_out(it)) {
        return entries.try_for_each(|entry| write::<P, K>(core, entry, target, &mut forget));
    }
    update_all::<P, K, _>(&core.platform, entries, target, forget)
}

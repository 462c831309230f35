// SPDX-License-Identifier: MIT OR Apache-2.0
//! Attaching masters to domains: the only code that changes targets, stream table entries and contexts.
//!
//! *Prepare* does all that can fail without a trace. *Install* publishes the new domain's targets, and only
//! then lets hardware reach its tables: an unmap that runs meanwhile either finds the new target, or has
//! cleared its descriptors before hardware can walk them (rule R5). *Commit* flushes the old domain's tag if
//! nobody uses it any more, takes the master off the old domain's targets, and waits until no unmap uses them.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use smmuv3_formats::StreamId;
use smmuv3_formats::command::TlbiNhAsid;

use crate::domain::{Domain, Mismatch, Space, Target, Targets};
use crate::entry::Stream;
use crate::error::{Failure, InstanceId, Unconfirmed};
use crate::instance::Instance;
use crate::invalidate::Tag;
use crate::iommu::{Configuration, Core, Held, Iommu, Tags};
use crate::master::Master;
#[cfg(feature = "mutation")]
use crate::mutation::Mutation;
use crate::platform::Platform;
use crate::shared::{NoMemory, Shared, try_box};
use crate::targets::Retired;
use crate::update::{CdKind, Entry, Kind, SteKind, Words, update};

/// Why a master was not attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttachError {
    /// The instance cannot walk the domain's tables. Nothing was changed.
    Mismatch {
        /// The instance.
        instance: InstanceId,
        /// What does not fit.
        what: Mismatch,
    },
    /// The instance has no ASID left. Nothing was changed.
    NoAsid {
        /// The instance.
        instance: InstanceId,
        /// Bits of its ASIDs.
        bits: u32,
    },
    /// No heap memory. Nothing was changed.
    NoMemory,
    /// Master and domain are not of the same `Iommu`. Nothing was changed.
    Foreign,
    /// The change was made, but the instance did not confirm it. If it was switching streams, the master
    /// is blocked and stays so until the instance is reset. With [`Failure::Failed`] the instance, or the
    /// master, was waiting for a reset already: then nothing was changed, as a rule.
    Unconfirmed(Unconfirmed),
}

impl From<NoMemory> for AttachError {
    fn from(_: NoMemory) -> Self {
        Self::NoMemory
    }
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mismatch { instance, what } => write!(f, "{instance}: {what}"),
            Self::NoAsid { instance, bits } => {
                write!(f, "{instance}: all ASIDs of {bits} bits are in use")
            }
            Self::NoMemory => f.write_str("no memory"),
            Self::Foreign => f.write_str("master and domain belong to different Iommus"),
            Self::Unconfirmed(unconfirmed) => unconfirmed.fmt(f),
        }
    }
}

impl core::error::Error for AttachError {}

/// What a master is, under the configuration mutex.
pub(crate) struct MasterState<P: Platform> {
    pub(crate) instance: InstanceId,
    pub(crate) streams: Vec<StreamId>,
    /// Its context descriptor; hardware reads it while the master is attached to a domain.
    pub(crate) context: Entry,
    pub(crate) attachment: Attachment<P>,
}

/// What a master's streams do.
pub(crate) enum Attachment<P: Platform> {
    Blocked,
    Identity,
    Domain(Shared<Space<P>>),
    /// The instance did not confirm the last change: its streams may still reach these.
    Stuck([Option<Shared<Space<P>>>; 2]),
}

impl<P: Platform> Clone for Attachment<P> {
    fn clone(&self) -> Self {
        match self {
            Self::Blocked => Self::Blocked,
            Self::Identity => Self::Identity,
            Self::Domain(space) => Self::Domain(space.clone()),
            Self::Stuck(spaces) => Self::Stuck(spaces.clone()),
        }
    }
}

impl<P: Platform> Attachment<P> {
    fn space(&self) -> Option<&Shared<Space<P>>> {
        match self {
            Self::Domain(space) => Some(space),
            Self::Blocked | Self::Identity | Self::Stuck(_) => None,
        }
    }

    /// The spaces that the streams may still reach although they were blocked; `None` unless stuck.
    pub(crate) fn stuck(&self) -> Option<impl Iterator<Item = &Shared<Space<P>>>> {
        match self {
            Self::Stuck(spaces) => Some(spaces.iter().flatten()),
            Self::Blocked | Self::Identity | Self::Domain(_) => None,
        }
    }
}

impl<P: Platform> Iommu<P> {
    /// Lets `master` use `domain`, instead of whatever it used before. When it has returned, DMA is
    /// translated by `domain`, and none reaches the memory of the old one.
    ///
    /// From blocked, no access is refused that `domain` allows. Between two domains the master's context is
    /// invalid for a moment: accesses at that moment are refused.
    ///
    /// # Errors
    /// See [`AttachError`].
    pub fn attach(&self, master: &Master<P>, domain: &Domain<P>) -> Result<(), AttachError> {
        if !master.core.is(&domain.space.core) {
            return Err(AttachError::Foreign);
        }
        change(&master.core, master, Attachment::Domain(domain.space.clone()))
    }

    /// Blocks `master`: when it has returned, all its DMA is refused.
    ///
    /// # Errors
    /// [`AttachError::Unconfirmed`], [`AttachError::NoMemory`].
    pub fn detach(&self, master: &Master<P>) -> Result<(), AttachError> {
        change(&master.core, master, Attachment::Blocked)
    }

    /// Lets `master` reach all memory, untranslated.
    ///
    /// # Errors
    /// As [`Iommu::detach`].
    ///
    /// # Safety
    /// The device behind `master` only accesses memory that it was given.
    pub unsafe fn attach_identity(&self, master: &Master<P>) -> Result<(), AttachError> {
        change(&master.core, master, Attachment::Identity)
    }
}

/// The targets of a domain that is entered, made ready beforehand.
struct Entering<P: Platform> {
    space: Shared<Space<P>>,
    targets: Box<Targets>,
    tag: Tag,
}

/// The targets of a domain that is left, made ready beforehand.
struct Leaving<P: Platform> {
    space: Shared<Space<P>>,
    targets: Box<Targets>,
    /// Its tag on the instance, if no master uses it there any more.
    tag: Option<Tag>,
}

fn change<P: Platform>(
    core: &Core<P>,
    master: &Master<P>,
    goal: Attachment<P>,
) -> Result<(), AttachError> {
    core.configuration.with(|configuration| {
        let Configuration { masters, tags, held, .. } = configuration;
        // The slot is the master's own from `add` to `close`.
        let Some(Some(state)) = masters.get_mut(master.index) else {
            return Err(AttachError::Foreign);
        };
        let Some(instance) = core.instances.get(state.instance) else {
            return Err(AttachError::Foreign);
        };
        if matches!(state.attachment, Attachment::Stuck(_)) || instance.commands().has_failed() {
            let unconfirmed = Unconfirmed { instance: state.instance, what: Failure::Failed };
            return Err(AttachError::Unconfirmed(unconfirmed));
        }
        match (&state.attachment, &goal) {
            (Attachment::Domain(old), Attachment::Domain(new)) if old.is(new) => return Ok(()),
            (Attachment::Blocked, Attachment::Blocked)
            | (Attachment::Identity, Attachment::Identity) => return Ok(()),
            _ => {}
        }

        // Prepare.
        core.quarantine.reserve(&core.platform)?;
        held.try_reserve(1).map_err(|_| NoMemory)?;
        let leave = match state.attachment.space() {
            Some(space) => Some(leaving(space, state.instance)?),
            None => None,
        };
        let enter = match goal.space() {
            Some(space) => Some(entering(space, state.instance, instance, tags)?),
            None => None,
        };

        // Install.
        if let Some(enter) = &enter {
            // A tag that was not flushed belongs to its domain still, and is in use again.
            held.retain(|held| held.instance != state.instance || !held.space.is(&enter.space));
        }
        let installed = enter.map(|enter| {
            let retired = enter.space.targets.replace(enter.targets);
            (enter.space, enter.tag, retired)
        });
        let installation = installed.as_ref().map(|(space, tag, _)| (&**space, *tag));
        if let Err(what) = state.install(core, instance, &goal, installation) {
            for stream in &state.streams {
                if let Some(entry) = instance.streams().entry(&core.platform, *stream) {
                    entry.store(
                        &core.platform,
                        0,
                        Stream::Blocked.encode(instance.features()).0[0],
                    );
                }
            }
            let old = state.attachment.space().cloned();
            state.attachment = Attachment::Stuck([old, goal.space().cloned()]);
            let retired = installed.map(|(_, _, retired)| retired);
            Retired::free([retired], &core.readers, || core.platform.relax());
            let unconfirmed = Unconfirmed { instance: state.instance, what };
            return Err(AttachError::Unconfirmed(unconfirmed));
        }

        // Commit.
        state.attachment = goal;
        let retired = installed.map(|(_, _, retired)| retired);
        let Some(leave) = leave else {
            Retired::free([retired], &core.readers, || core.platform.relax());
            return Ok(());
        };
        // Flushed before it leaves the targets: a tag that no target names is in no cache.
        let Leaving { space, mut targets, tag } = leave;
        let flushed = tag.map_or(Ok(()), |tag| flush(core, instance, tag));
        if let (Some(tag), Err(_)) = (tag, flushed) {
            // There is room: it was there before.
            targets.push(Target { instance: state.instance, tag, masters: 0 });
        }
        let left = space.targets.replace(targets);
        Retired::free([retired, Some(left)], &core.readers, || core.platform.relax());
        if let Some(Tag { asid, .. }) = tag {
            match (flushed, tags.get_mut(state.instance.index())) {
                (Ok(()), Some(tags)) => tags.asids.release(asid),
                // There was room in prepare.
                (Err(_), _) => held.push(Held { instance: state.instance, asid, space }),
                (Ok(()), None) => {}
            }
        }
        flushed.map_err(|what| {
            AttachError::Unconfirmed(Unconfirmed { instance: state.instance, what })
        })
    })
}

/// The targets of `space` with one more master of `instance`, which gets a tag if it is the first.
fn entering<P: Platform>(
    space: &Shared<Space<P>>,
    id: InstanceId,
    instance: &Instance<P>,
    tags: &mut [Tags],
) -> Result<Entering<P>, AttachError> {
    let features = instance.features();
    space.fits(features).map_err(|what| AttachError::Mismatch { instance: id, what })?;
    let current = space.targets.for_writer();
    let mut targets = try_box(Targets::new())?;
    targets.try_reserve_exact(current.len() + 1).map_err(|_| NoMemory)?;
    targets.extend(current.iter().copied());
    let at = targets.iter().position(|target| target.instance == id);
    if let Some(target) = at.and_then(|at| targets.get_mut(at)) {
        target.masters += 1;
        let tag = target.tag;
        return Ok(Entering { space: space.clone(), targets, tag });
    }
    let asid = tags.get_mut(id.index()).and_then(|tags| tags.asids.allocate());
    let Some(asid) = asid else {
        return Err(AttachError::NoAsid { instance: id, bits: features.asid_bits });
    };
    let tag = Tag { vmid: 0, asid };
    targets.push(Target { instance: id, tag, masters: 1 });
    Ok(Entering { space: space.clone(), targets, tag })
}

/// The targets of `space` with one master of `instance` less.
fn leaving<P: Platform>(space: &Shared<Space<P>>, id: InstanceId) -> Result<Leaving<P>, NoMemory> {
    let current = space.targets.for_writer();
    let mut targets = try_box(Targets::new())?;
    targets.try_reserve_exact(current.len()).map_err(|_| NoMemory)?;
    let mut left = None;
    for target in current {
        let mut target = *target;
        if target.instance == id {
            target.masters = target.masters.saturating_sub(1);
            left = Some((target.tag, target.masters));
        }
        // One that has no master on another instance waits for that instance to be reset.
        if target.instance != id || target.masters > 0 {
            targets.push(target);
        }
    }
    let tag = left.filter(|(_, masters)| *masters == 0).map(|(tag, _)| tag);
    Ok(Leaving { space: space.clone(), targets, tag })
}

/// Makes `instance` forget `tag`, which no context carries any more.
fn flush<P: Platform>(core: &Core<P>, instance: &Instance<P>, tag: Tag) -> Result<(), Failure> {
    let asid = TlbiNhAsid::new().with_vmid(u64::from(tag.vmid)).with_asid(u64::from(tag.asid));
    let commands = Some(asid.into());
    #[cfg(feature = "mutation")]
    let commands = commands.filter(|_| !core.leaves_out(Mutation::NoTagFlush));
    instance.carry_out(&core.platform, commands)
}

/// Takes one master of `instance` off the targets of `space`, if it is there; the tag that nobody uses any
/// more, if it was the last.
pub(crate) fn take_off<P: Platform>(
    core: &Core<P>,
    space: &Shared<Space<P>>,
    instance: InstanceId,
) -> Result<Option<Tag>, NoMemory> {
    let Leaving { space, targets, tag } = leaving(space, instance)?;
    let retired = space.targets.replace(targets);
    Retired::free([Some(retired)], &core.readers, || core.platform.relax());
    Ok(tag)
}

impl<P: Platform> MasterState<P> {
    /// Makes hardware do what `goal` says. `enter` is the space that is entered, with its tag.
    fn install(
        &self,
        core: &Core<P>,
        instance: &Instance<P>,
        goal: &Attachment<P>,
        enter: Option<(&Space<P>, Tag)>,
    ) -> Result<(), Failure> {
        let (platform, features) = (&core.platform, instance.features());
        let was_translated = self.attachment.space().is_some();
        let Some((space, tag)) = enter else {
            let stream = match goal {
                Attachment::Identity => Stream::Identity,
                _ => Stream::Blocked,
            };
            self.write_streams(core, instance, stream)?;
            if was_translated {
                // Unreachable since the entries changed: hardware does not see this.
                fill(platform, self.context, &[0; 8]);
            }
            return Ok(());
        };
        let context = space.context(tag.asid).encode(features).0;
        if was_translated {
            return self.write_context(core, instance, &context);
        }
        // No entry leads to the context yet: hardware cannot have read it.
        fill(platform, self.context, &context);
        let stream = Stream::Stage1 { context: self.context.address(), vmid: tag.vmid };
        self.write_streams(core, instance, stream)
    }

    fn write_streams(
        &self,
        core: &Core<P>,
        instance: &Instance<P>,
        stream: Stream,
    ) -> Result<(), Failure> {
        let target = stream.encode(instance.features()).0;
        for stream in &self.streams {
            let forget = || instance.forget_streams(&core.platform, &[*stream]);
            // Made when the master was added, and never taken away.
            let Some(entry) = instance.streams().entry(&core.platform, *stream) else { continue };
            write::<P, SteKind>(core, entry, &target, forget)?;
        }
        Ok(())
    }

    fn write_context(
        &self,
        core: &Core<P>,
        instance: &Instance<P>,
        target: &Words,
    ) -> Result<(), Failure> {
        let forget = || instance.forget_contexts(&core.platform, &self.streams);
        write::<P, CdKind>(core, self.context, target, forget)
    }

    /// After a reset of the instance: the streams are blocked, and hold nothing any more.
    pub(crate) fn unstick(&mut self, core: &Core<P>, tags: &mut [Tags]) {
        let Attachment::Stuck(spaces) = &mut self.attachment else { return };
        for slot in spaces {
            let Some(space) = slot.take() else { continue };
            match take_off(core, &space, self.instance) {
                Ok(None) => {}
                Ok(Some(tag)) => {
                    if let Some(tags) = tags.get_mut(self.instance.index()) {
                        tags.asids.release(tag.asid);
                    }
                }
                // No memory: it stays as it is until the next reset.
                Err(_) => *slot = Some(space),
            }
        }
        if matches!(&self.attachment, Attachment::Stuck([None, None])) {
            self.attachment = Attachment::Blocked;
        }
    }
}

/// Fills an entry that hardware cannot reach.
fn fill<P: Platform>(platform: &P, entry: Entry, words: &Words) {
    for (index, word) in words.iter().enumerate() {
        entry.store(platform, index, *word);
    }
}

#[cfg(not(feature = "mutation"))]
fn write<P: Platform, K: Kind>(
    core: &Core<P>,
    entry: Entry,
    target: &Words,
    forget: impl FnMut() -> Result<(), Failure>,
) -> Result<(), Failure> {
    update::<P, K, _>(&core.platform, entry, target, forget).map(|_| ())
}

#[cfg(feature = "mutation")]
fn write<P: Platform, K: Kind>(
    core: &Core<P>,
    entry: Entry,
    target: &Words,
    mut forget: impl FnMut() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let platform = &core.platform;
    if core.leaves_out(Mutation::CfgiBeforeSte) {
        forget()?;
        update::<P, K, Failure>(platform, entry, target, || Ok(())).map(|_| ())
    } else if core.leaves_out(Mutation::NoCfgi) {
        update::<P, K, Failure>(platform, entry, target, || Ok(())).map(|_| ())
    } else if core.leaves_out(Mutation::WordByWord) {
        fill(platform, entry, target);
        forget()
    } else {
        update::<P, K, _>(platform, entry, target, forget).map(|_| ())
    }
}

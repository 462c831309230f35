// SPDX-License-Identifier: MIT OR Apache-2.0
//! An address space behind its handle: its tables, and which tags of which instances its translations carry.

use alloc::vec::Vec;
use core::mem::ManuallyDrop;

use smmuv3_formats::{Cd, Command};

use crate::command_queue::Begun;
use crate::compatibility::{Mismatch, Stage};
use crate::configuration::Configuration;
use crate::entry::Stage2;
use crate::error::{InstanceId, Unconfirmed};
use crate::features::Features;
use crate::instance::Instance;
use crate::invalidate::{self, Range, Scope, Single, Tag};
use crate::iommu::Core;
use crate::mutation::Mutation;
use crate::platform::Platform;
use crate::process::{Held, Life, Registers};
use crate::room::Room;
use crate::shared::NoMemory;
use crate::shared::Shared;
use crate::statistics::Counted;
use crate::tables::{Own, dispatch};
use crate::targets::Snapshot;
use crate::trace::{InstanceSet, Trace};

#[cfg(feature = "ats")]
mod devices;
mod progress;
mod round;
mod tags;

pub(crate) use progress::Progress;
pub use tags::Target;
pub(crate) use tags::{Installed, Targets};

/// Whose page tables they are.
pub(crate) enum Tables {
    Own(Own),
    /// A process's, which belong to the operating system.
    Process(Held),
}

/// Attached masters keep it alive.
pub(crate) struct Space<P: Platform> {
    pub(crate) core: Shared<Core<P>>,
    pub(crate) id: usize,
    tables: ManuallyDrop<Tables>,
    pub(crate) targets: Snapshot<Targets>,
}

impl<P: Platform> Space<P> {
    pub(crate) fn new(
        core: Shared<Core<P>>,
        id: usize,
        tables: Tables,
        targets: Snapshot<Targets>,
    ) -> Self {
        Self { core, id, tables: ManuallyDrop::new(tables), targets }
    }

    pub(crate) fn own(&self) -> Option<&Own> {
        match &*self.tables {
            Tables::Own(own) => Some(own),
            Tables::Process(_) => None,
        }
    }

    /// Which stage its tables are for.
    pub(crate) fn stage(&self) -> Stage {
        self.own().map_or(Stage::One, Own::stage)
    }

    /// What entries say of its tables under `tag`, if they are for stage 2.
    pub(crate) fn stage_2(&self, tag: Tag) -> Option<Stage2> {
        self.own()?.stage_2(tag.vmid)
    }

    pub(crate) fn process(&self) -> Option<&Registers> {
        match &*self.tables {
            Tables::Own(_) => None,
            Tables::Process(registers) => Some(registers),
        }
    }

    /// A process that is gone.
    pub(crate) fn is_released(&self, held: &Configuration<P>) -> bool {
        self.process().is_some_and(|registers| registers.life(held) != Life::Live)
    }

    /// The context descriptor for an instance with `features`.
    pub(crate) fn context(&self, features: &Features, tag: Tag, shared: bool) -> Cd {
        match &*self.tables {
            Tables::Own(own) => own.context(features, tag.asid),
            Tables::Process(registers) => {
                registers.context().with_aset(!shared).with_asid(u64::from(tag.asid))
            }
        }
    }

    /// Whether an SMMU with `features` can walk the tables.
    pub(crate) fn fits(&self, features: &Features) -> Result<(), Mismatch> {
        match &*self.tables {
            Tables::Own(own) => own.fits(features),
            Tables::Process(registers) => registers.fits(features),
        }
    }

    /// The targets, with the number of masters at each.
    pub(crate) fn targets(&self) -> Result<Vec<Target>, NoMemory> {
        self.core.configuration.with(|configuration| {
            let mut copy = Vec::new();
            let targets = self.targets.for_writer();
            copy.room_exact(targets.len())?;
            copy.put_all(targets.iter().map(|target| Target {
                instance: target.instance,
                tag: target.tag,
                shared: target.shared,
                masters: configuration.users(target.place),
            }));
            Ok(copy)
        })
    }

    /// How many masters use it.
    pub(crate) fn users(&self, configuration: &Configuration<P>) -> usize {
        let targets = self.targets.for_writer().iter();
        targets.map(|target| configuration.users(target.place)).sum()
    }

    /// As [`Space::invalidate`], of all tags.
    pub(crate) fn forget(&self, scope: Scope) -> Result<(), Unconfirmed> {
        self.invalidate(scope, Which::All)
    }

    /// As [`Space::forget`], of `bytes` bytes of pages of 2^`shift` bytes from `start` on, whose table stays: quickly
    /// where one command to one instance is enough, as for most unmaps. Nothing of guests' stage 1 is over them. That
    /// command, and its CMD_SYNC, are counted by the caller: whoever does not count has nothing to ask on that way.
    #[inline(never)]
    pub(crate) fn forget_pages(
        &self,
        start: u64,
        bytes: u64,
        shift: u32,
    ) -> Result<(), Unconfirmed> {
        let core = &*self.core;
        let platform = &core.platform;
        let cpu = platform.cpu();
        let section = core.readers.section(cpu, &self.targets);
        let Some((first, instance)) = self.first(&section) else {
            drop(section);
            self.take_back();
            return self.forget(pages(start, bytes, shift));
        };
        let id = first.instance;
        if section.len() != 1 || !section.plain {
            let command = invalidate::pages(instance.features(), start, bytes, shift);
            let single = Single::known(pages(start, bytes, shift), instance.features(), command);
            self.take_back();
            return self.round_in(section, cpu, single, Which::All);
        }
        let queue = instance.commands();
        let begun = match invalidate::pages(instance.features(), start, bytes, shift) {
            Some(Command([word, address])) => {
                let command = Command([word | core.name_of(first, false), address]);
                queue.begin_one(platform, cpu, instance.mmio(), command)
            }
            None => None,
        };
        drop(section);
        let Some(begun) = begun else {
            self.take_back();
            return self.forget(pages(start, bytes, shift));
        };
        let (scope, told) = (pages(start, bytes, shift), InstanceSet(id.bit()));
        platform.trace(&Trace::Invalidation { space: self.id, scope, told });
        match queue.look(platform, instance.mmio(), begun) {
            Ok(()) => Ok(()),
            Err(begun) => self.wait_for((start, bytes, shift), id, instance, begun),
        }
    }

    /// The first tag that there is to tell, and its instance.
    #[inline(always)]
    fn first<'a, 't>(&'a self, targets: &'t Targets) -> Option<(&'t Installed, &'a Instance<P>)> {
        let core = &*self.core;
        let first = targets.first()?;
        if !core.reaches(targets, first) {
            // A wrong driver that leaves the first target out leaves all of them out.
            return None;
        }
        Some((first, core.instances.get(first.instance)?))
    }

    /// Waits for the only instance that was told, of these [`pages`].
    #[cold]
    #[inline(never)]
    fn wait_for(
        &self,
        (start, bytes, shift): (u64, u64, u32),
        id: InstanceId,
        instance: &Instance<P>,
        begun: Begun<'_>,
    ) -> Result<(), Unconfirmed> {
        // Whoever looks is counted until then: the instance stays until this is over.
        let _stay = self.stay();
        self.count(Counted::Waits, begun.commands().min(1));
        let waited = instance.commands().wait_inside(&self.core.platform, instance.mmio(), begun);
        let Err(what) = waited else { return Ok(()) };
        let scope = pages(start, bytes, shift);
        let mut progress = Progress::new();
        progress.is_unconfirmed(id, what);
        self.finish(scope, &mut progress);
        progress.result
    }

    /// Makes every instance forget what `scope` says, of the tags that are `wanted`: all instances are told before the
    /// first is waited for.
    #[inline(never)]
    pub(crate) fn invalidate(&self, scope: Scope, wanted: Which) -> Result<(), Unconfirmed> {
        // Invalidating a whole tag of stage 2 (S12_VMALL) includes what is cached of both stages together.
        if !self.is_under_guests(scope) {
            return self.round(scope, wanted);
        }
        if self.core.leaves_out(Mutation::NoGuestFlush) {
            return self.round(scope, wanted);
        }
        let (tags, guests) = ((scope, wanted), (Scope::All, Which::Guests));
        let ((one, which), (other, then)) = if self.core.leaves_out(Mutation::GuestFlushFirst) {
            (guests, tags)
        } else {
            (tags, guests)
        };
        // Invalidating a range of stage 2 does not. What is cached of both stages is invalidated only once the first
        // round is complete: an entry that is filled in between from an old entry of stage 2 would outlive both rounds
        // (§4.2).
        let first = self.round(one, which);
        Unconfirmed::both(first, self.round(other, then))
    }

    /// Whether what is cached of guests' stage 1 and this stage 2 together has to be invalidated apart from `scope`.
    #[inline]
    fn is_under_guests(&self, scope: Scope) -> bool {
        cfg!(feature = "nested")
            && matches!(scope, Scope::Range(_))
            && self.own().is_some_and(|own| own.guests)
    }

    /// Whether the space counts commands and waits ([`DomainConfig::statistics`](crate::DomainConfig::statistics)).
    #[inline]
    fn counts(&self) -> bool {
        self.own().is_some_and(|own| own.counters().is_some())
    }

    /// Counts `by` of what `which` says, if that was asked for.
    pub(crate) fn count(&self, which: Counted, by: u64) {
        if let Some(counters) = self.own().and_then(|own| own.counters()) {
            counters.add(self.core.platform.cpu(), which, by);
        }
    }

    /// Takes back what the caller of [`Space::forget_pages`] counted: the way taken instead counts for itself.
    #[inline]
    fn take_back(&self) {
        if self.counts() {
            // Adds the negative: counts wrap.
            self.count_commands(ONE[0].wrapping_neg(), ONE[1].wrapping_neg());
        }
    }

    /// Counts the commands of a batch, or of several, and how many of them are CMD_SYNCs.
    #[cold]
    #[inline(never)]
    pub(crate) fn count_commands(&self, commands: u64, syncs: u64) {
        self.count(Counted::Commands, commands);
        self.count(Counted::Syncs, syncs);
    }
}

/// Which tags of an address space.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    All,
    /// Not those that broadcasts of CPUs invalidate.
    Private,
    /// What guests have over them.
    Guests,
}

impl Which {
    /// Whether those of guests, of whom there are none without the feature `nested`.
    #[inline]
    pub(crate) fn are_guests(self) -> bool {
        cfg!(feature = "nested") && self == Self::Guests
    }
}

/// What [`Space::forget_pages`] gives as a rule: two commands, one of which is the CMD_SYNC.
pub(crate) const ONE: [u64; 2] = [2, 1];

/// The scope of [`Space::forget_pages`].
pub(crate) const fn pages(start: u64, bytes: u64, granule_shift: u32) -> Scope {
    let leaf_shift = Some(granule_shift);
    Scope::Range(Range { start, bytes, granule_shift, leaf_shift, leaf_only: true })
}

impl<P: Platform> Drop for Space<P> {
    fn drop(&mut self) {
        // Attached masters hold the space, so no instance reads the tables any more. (In a master that an
        // instance did not let go of, the space is held until that instance is reset.)
        // SAFETY: taken once, here, and not used afterwards.
        match unsafe { ManuallyDrop::take(&mut self.tables) } {
            Tables::Own(own) => dispatch!(own.tables, table => {
                // SAFETY: see above; tags of the space were flushed when its last master left.
                unsafe { table.destroy(&self.core.platform) }
            }),
            Tables::Process(registers) => registers.end(&self.core),
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! An address space behind its handle: its tables, and which tags of which instances its translations carry.

use alloc::vec::Vec;
use core::mem::ManuallyDrop;

use smmuv3_formats::{Cd, Command};

use crate::command_queue::{Begun, Ticket};
use crate::compatibility::{Mismatch, Stage};
use crate::configuration::Configuration;
use crate::entry::Stage2;
use crate::error::{Failure, InstanceId, Unconfirmed};
use crate::features::Features;
use crate::instance::Instance;
use crate::invalidate::{self, Commands, Range, Scope, Single, Tag};
use crate::iommu::Core;
use crate::mutation::Mutation;
use crate::platform::Platform;
use crate::process::{Held, Life, Registers};
use crate::shared::NoMemory;
use crate::shared::Shared;
use crate::statistics::Counted;
use crate::tables::{Own, dispatch};
use crate::targets::{Section, Snapshot, Stay};
use crate::trace::{InstanceSet, Trace};

#[cfg(feature = "ats")]
mod devices;
mod progress;
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
            copy.try_reserve_exact(targets.len()).map_err(|_| NoMemory)?;
            copy.extend(targets.iter().map(|target| Target {
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
        self.finish(scope, &mut progress)
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

    /// One round of [`Space::invalidate`]: tells all instances, and waits for them.
    fn round(&self, scope: Scope, wanted: Which) -> Result<(), Unconfirmed> {
        let core = &*self.core;
        let cpu = core.platform.cpu();
        let section = core.readers.section(cpu, &self.targets);
        self.round_in(section, cpu, Single::new(scope), wanted)
    }

    /// As [`Space::round`], of the targets that are being read. As a rule one command for each instance is enough, and all
    /// have carried theirs out by the time that they are looked at, or it takes longer anyhow.
    #[inline(never)]
    fn round_in(
        &self,
        section: Section<'_, Targets>,
        cpu: usize,
        mut single: Single,
        wanted: Which,
    ) -> Result<(), Unconfirmed> {
        let core = &*self.core;
        let platform = &core.platform;
        let mut progress = Progress::new();
        let rest = if section.plain && wanted != Which::Guests {
            self.tell_each(&section, &mut single, wanted, &mut progress)
        } else {
            section.as_slice()
        };
        let scope = single.scope();
        if self.counts() {
            // Each instance was given one command and a CMD_SYNC.
            let told = u64::from(progress.told.count_ones());
            self.count_commands(2 * told, told);
        }
        if !rest.is_empty() {
            return self.round_on(section, !progress.told, scope, wanted, &mut progress);
        }
        let told = InstanceSet(progress.told);
        platform.trace(&Trace::Invalidation { space: self.id, scope, told });
        let mut late = 0;
        for index in bits(progress.told) {
            let (Some(instance), Some(ticket)) =
                (core.instances.at(index), progress.tickets.get(index))
            else {
                continue;
            };
            // SAFETY: its instance is in `told` only after it was written.
            let ticket = unsafe { ticket.assume_init_ref() };
            if !instance.commands().look_at(platform, cpu, instance.mmio(), ticket) {
                late |= 1 << index;
            }
        }
        // One look at each of them is no wait. As long as this is a reader they stay, and from here on as long as it says so.
        let stay = (late != 0).then(|| self.stay());
        drop(section);
        match stay {
            None => Ok(()),
            Some(_stay) => self.wait_for_each(late, scope, &mut progress, &mut 0),
        }
    }

    /// The rest of a round, in which `untold` instances, a bit each, are still to be told.
    #[cold]
    #[inline(never)]
    fn round_on(
        &self,
        section: Section<'_, Targets>,
        untold: u64,
        scope: Scope,
        wanted: Which,
        progress: &mut Progress,
    ) -> Result<(), Unconfirmed> {
        let mut again = 0;
        let told = self.tell_and_wait(section, untold, scope, wanted, progress, &mut again);
        if again == 0 {
            return told;
        }
        // Instances that have to be told twice. Their devices may have been given old translations in between, so they
        // are told again as well.
        let core = &*self.core;
        let section = core.readers.section(core.platform.cpu(), &self.targets);
        *progress = Progress::new();
        let again = self.tell_and_wait(section, again, scope, wanted, progress, &mut 0);
        Unconfirmed::both(told, again)
    }

    /// Tells those of `untold`, and waits until these and those that were told before have done so. Those that have to be
    /// told twice, and did not fail, are noted in `again`.
    fn tell_and_wait(
        &self,
        section: Section<'_, Targets>,
        untold: u64,
        scope: Scope,
        wanted: Which,
        progress: &mut Progress,
        again: &mut u64,
    ) -> Result<(), Unconfirmed> {
        self.tell(&section, untold, scope, wanted, progress);
        let _stay = self.stay();
        drop(section);
        if progress.full != 0 {
            self.tell_later(scope, wanted, progress);
        }
        self.count_commands(progress.commands, progress.syncs);
        let told = InstanceSet(progress.told);
        self.core.platform.trace(&Trace::Invalidation { space: self.id, scope, told });
        self.wait_for_each(progress.told, scope, progress, again)
    }

    /// Waits for those of `late`, which were told, and ends the round. The caller [stays](Space::stay).
    #[cold]
    #[inline(never)]
    fn wait_for_each(
        &self,
        late: u64,
        scope: Scope,
        progress: &mut Progress,
        again: &mut u64,
    ) -> Result<(), Unconfirmed> {
        let core = &*self.core;
        for index in bits(late) {
            let (Some(instance), Some(ticket)) =
                (core.instances.at(index), progress.tickets.get(index))
            else {
                continue;
            };
            let id = core.instances.id(index);
            // SAFETY: its instance is in `told` only after it was written.
            let ticket = unsafe { ticket.assume_init_ref() };
            if let Err(what) = self.wait_on(instance, ticket) {
                progress.is_unconfirmed(id, what);
            }
            if instance.commands().repeats() && progress.failed & id.bit() == 0 {
                *again |= id.bit();
            }
        }
        if cfg!(feature = "ats") {
            for index in bits(core::mem::take(&mut progress.asked)) {
                if let Some(instance) = self.core.instances.at(index) {
                    instance.commands().devices_were_asked();
                }
            }
        }
        if progress.kept | progress.silent | progress.failed == 0 {
            Ok(())
        } else {
            self.finish(scope, progress)
        }
    }

    /// Keeps instances that this call came by as a reader from being reclaimed for as long as it waits for them. To be called
    /// while it still is one.
    fn stay(&self) -> Stay<'_> {
        self.core.waiters.stay(self.core.platform.cpu())
    }

    /// Waits for one batch of this invalidation.
    fn wait_on(&self, instance: &Instance<P>, ticket: &Ticket) -> Result<(), Failure> {
        let (commands, mmio) = (instance.commands(), instance.mmio());
        if commands.is_over(&self.core.platform, mmio, ticket) {
            return Ok(());
        }
        // An elided ticket has no commands: nothing was waited for.
        self.count(Counted::Waits, ticket.commands().min(1));
        commands.wait_later(&self.core.platform, mmio, ticket)
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

    /// Tells devices that have still to be told, and what did not do as it was told.
    #[cold]
    #[inline(never)]
    fn finish(&self, scope: Scope, progress: &mut Progress) -> Result<(), Unconfirmed> {
        for index in bits(progress.kept | progress.silent) {
            let id = self.core.instances.id(index);
            if let Err(what) = self.forget_kept(id, scope, progress.kept & id.bit() != 0) {
                progress.note(id, what);
            }
        }
        match progress.first {
            None => Ok(()),
            Some(first) => Err(Unconfirmed { waiting: InstanceSet(progress.failed), ..first }),
        }
    }

    /// Tells the instances that `targets` names, which are plain, one after the other, as long as one command is enough for
    /// each, and there is room for it: as a rule all of them. Returns what is left.
    #[inline(always)]
    fn tell_each<'a>(
        &self,
        targets: &'a Targets,
        single: &mut Single,
        wanted: Which,
        progress: &mut Progress,
    ) -> &'a [Installed] {
        let core = &*self.core;
        let platform = &core.platform;
        let mut told = 0;
        let mut rest = targets.as_slice();
        while let Some((target, others)) = rest.split_first() {
            let id = target.instance;
            let Some(instance) = core.instances.get(id) else { break };
            let named = |whole| core.name_of(target, whole);
            let Some(command) = single.command(instance.features(), named) else { break };
            if core.is_reached(targets, target, wanted) {
                let Some(slot) = progress.tickets.get_mut(id.index()) else { break };
                let placed = instance.commands().place_one(platform, instance.mmio(), command);
                let Some(ticket) = placed else { break };
                slot.write(ticket);
                told |= id.bit();
            }
            rest = others;
        }
        progress.told = told;
        rest
    }

    /// Tells the instances of `untold` that `targets` names.
    #[inline(never)]
    fn tell(
        &self,
        targets: &Targets,
        untold: u64,
        scope: Scope,
        wanted: Which,
        progress: &mut Progress,
    ) {
        let core = &*self.core;
        let named = |target: &Installed| {
            let tag = core.tag_of(target);
            if wanted == Which::Guests { tag.guests() } else { tag }
        };
        let which = wanted;
        let wanted = |target: &Installed| core.is_reached(targets, target, which);
        let mut rest = targets.as_slice();
        while let Some((first, mut others)) = rest.split_first() {
            let id = first.instance;
            let alone = others.first().is_none_or(|next| next.instance != id);
            if !alone {
                let end = rest.iter().position(|target| target.instance != id);
                others = end.and_then(|end| rest.get(end..)).unwrap_or(&[]);
            }
            let tags = rest;
            rest = others;
            let Some(instance) = core.instances.get(id) else { continue };
            // An instance that cannot nest holds nothing of guests, and may not know the command.
            let none = which == Which::Guests && !instance.features().may_hold_guests();
            if untold & id.bit() == 0 || none {
                continue;
            }
            let tags = tags.get(..tags.len() - others.len()).unwrap_or(&[]);
            let tags = tags.iter().filter(|target| wanted(target)).map(named);
            let commands = instance.invalidation(tags, scope);
            self.tell_all(targets, (id, instance), commands, scope, progress);
        }
    }

    /// Tells an instance by `commands`, and the devices behind it, if there are any.
    #[inline(never)]
    fn tell_all(
        &self,
        targets: &Targets,
        (id, instance): (InstanceId, &Instance<P>),
        mut commands: Commands<impl Iterator<Item = Tag> + Clone>,
        scope: Scope,
        progress: &mut Progress,
    ) {
        let core = &*self.core;
        let platform = &core.platform;
        if self.tell_devices(targets, (id, instance), &commands, scope, progress) {
            return;
        }
        let count = commands.len();
        if count != 0 {
            let placed = instance.commands().try_submit(platform, instance.mmio(), &mut commands);
            progress.placed(id, [count, 0], placed);
        }
    }

    /// Tells the instances that had no room.
    #[cold]
    #[inline(never)]
    fn tell_later(&self, scope: Scope, wanted: Which, progress: &mut Progress) {
        let core = &*self.core;
        let platform = &core.platform;
        while progress.full != 0 {
            let (mut untold, largest) = (progress.full, progress.largest);
            (progress.full, progress.largest) = (0, 0);
            // This waits outside a reader's section, so that it holds up nobody who replaces the targets. A target that
            // leaves meanwhile was flushed before that, and one that comes walks the tables as they are now.
            for index in bits(untold) {
                let (id, instance) = (core.instances.id(index), core.instances.at(index));
                let room = instance.map(|instance| {
                    self.count(Counted::Waits, 1);
                    instance.commands().wait_for_room(platform, instance.mmio(), largest)
                });
                if let Some(Err(what)) = room {
                    progress.note(id, what);
                    untold &= !id.bit();
                }
                platform.relax();
            }
            core.readers.read(platform.cpu(), &self.targets, |targets| {
                self.tell(targets, untold, scope, wanted, progress);
            });
        }
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

impl<P: Platform> Core<P> {
    /// Whether an invalidation of the tags that are `wanted` is of `target`.
    #[inline]
    fn is_reached(&self, targets: &Targets, target: &Installed, wanted: Which) -> bool {
        if !self.reaches(targets, target) {
            return false;
        }
        let _ = (self, targets);
        wanted != Which::Private || !target.shared
    }
}

/// What [`Space::forget_pages`] gives as a rule: two commands, one of which is the CMD_SYNC.
pub(crate) const ONE: [u64; 2] = [2, 1];

/// The scope of [`Space::forget_pages`].
pub(crate) const fn pages(start: u64, bytes: u64, granule_shift: u32) -> Scope {
    let leaf_shift = Some(granule_shift);
    Scope::Range(Range { start, bytes, granule_shift, leaf_shift, leaf_only: true })
}

/// The numbers of the instances of a set.
fn bits(mut set: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        // Below 64, if there is one.
        let index = (set != 0).then_some(set.trailing_zeros() as usize & 63)?;
        set &= set - 1;
        Some(index)
    })
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
            Tables::Process(registers) => self.core.give_back_pasid(registers.pasid),
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! A round of an invalidation: every instance is told before the first is waited for.

use super::{Installed, Progress, Space, Targets, Which};
use crate::command_queue::{Given, Ticket};
use crate::error::{Failure, InstanceId, Unconfirmed};
use crate::instance::Instance;
use crate::invalidate::{Commands, Scope, Single, Tag};
use crate::iommu::Core;
use crate::platform::Platform;
use crate::statistics::Counted;
use crate::targets::{Section, Stay};
use crate::trace::{InstanceSet, Trace};

impl<P: Platform> Space<P> {
    /// One round of [`Space::invalidate`]: tells all instances, and waits for them.
    pub(super) fn round(&self, scope: Scope, wanted: Which) -> Result<(), Unconfirmed> {
        let core = &*self.core;
        let cpu = core.platform.cpu();
        let section = core.readers.section(cpu, &self.targets);
        if !cfg!(feature = "fast-paths") {
            return self.round_on(section, u64::MAX, scope, wanted, &mut Progress::new());
        }
        self.round_in(section, cpu, Single::new(scope), wanted)
    }

    /// As [`Space::round`], of the targets that are being read. As a rule one command for each instance is enough, and all
    /// have carried theirs out by the time that they are looked at, or it takes longer anyhow.
    #[inline(never)]
    pub(super) fn round_in(
        &self,
        section: Section<'_, Targets>,
        cpu: usize,
        mut single: Single,
        wanted: Which,
    ) -> Result<(), Unconfirmed> {
        let core = &*self.core;
        let platform = &core.platform;
        let mut progress = Progress::new();
        let rest = if section.plain && !wanted.are_guests() {
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
            Some(_stay) => {
                self.wait_for_each(late, scope, &mut progress);
                progress.result
            }
        }
    }

    /// The rest of a round, in which `untold` instances, a bit each, are still to be told.
    #[cfg_attr(feature = "fast-paths", cold, inline(never))]
    fn round_on(
        &self,
        section: Section<'_, Targets>,
        untold: u64,
        scope: Scope,
        wanted: Which,
        progress: &mut Progress,
    ) -> Result<(), Unconfirmed> {
        let again = self.tell_and_wait(section, untold, scope, wanted, progress);
        if again != 0 {
            // Instances that have to be told twice. Their devices may have been given old translations in between, so
            // they are told again as well.
            let core = &*self.core;
            let section = core.readers.section(core.platform.cpu(), &self.targets);
            progress.again();
            self.tell_and_wait(section, again, scope, wanted, progress);
        }
        progress.result
    }

    /// Tells those of `untold`, and waits until these and those that were told before have done so. Gives those that have
    /// to be told twice, and did not fail.
    fn tell_and_wait(
        &self,
        section: Section<'_, Targets>,
        untold: u64,
        scope: Scope,
        wanted: Which,
        progress: &mut Progress,
    ) -> u64 {
        self.tell(&section, untold, scope, wanted, progress);
        let _stay = self.stay();
        drop(section);
        if progress.full != 0 {
            self.tell_later(scope, wanted, progress);
        }
        self.count_commands(progress.commands, progress.syncs);
        let told = InstanceSet(progress.told);
        self.core.platform.trace(&Trace::Invalidation { space: self.id, scope, told });
        self.wait_for_each(progress.told, scope, progress)
    }

    /// Waits for those of `late`, which were told, and ends the round. Gives those that have to be told twice, and did not
    /// fail. The caller [stays](Space::stay).
    #[cfg_attr(feature = "fast-paths", cold, inline(never))]
    fn wait_for_each(&self, late: u64, scope: Scope, progress: &mut Progress) -> u64 {
        let core = &*self.core;
        let mut again = 0;
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
            if instance.commands().repeats() && !progress.has_failed(id) {
                again |= id.bit();
            }
        }
        if cfg!(feature = "ats") {
            for index in bits(core::mem::take(&mut progress.asked)) {
                if let Some(instance) = self.core.instances.at(index) {
                    instance.commands().devices_were_asked();
                }
            }
        }
        self.finish(scope, progress);
        again
    }

    /// Keeps instances that this call came by as a reader from being reclaimed for as long as it waits for them. To be called
    /// while it still is one.
    pub(super) fn stay(&self) -> Option<Stay<'_>> {
        #[cfg(feature = "removal")]
        return Some(self.core.waiters.stay(self.core.platform.cpu()));
        // None is reclaimed before all are.
        #[cfg(not(feature = "removal"))]
        None
    }

    /// Waits for one batch of this invalidation.
    pub(super) fn wait_on(&self, instance: &Instance<P>, ticket: &Ticket) -> Result<(), Failure> {
        let (commands, mmio) = (instance.commands(), instance.mmio());
        // Waiting begins with a look of its own: this one is shorter, and tells what is a wait.
        if commands.is_over(&self.core.platform, mmio, ticket) {
            return Ok(());
        }
        // An elided ticket has no commands: nothing was waited for.
        self.count(Counted::Waits, ticket.commands().min(1));
        commands.wait_later(&self.core.platform, mmio, ticket)
    }

    /// Tells devices that have still to be told.
    pub(super) fn finish(&self, scope: Scope, progress: &mut Progress) {
        let devices = if cfg!(feature = "ats") { progress.kept | progress.silent } else { 0 };
        for index in bits(devices) {
            let id = self.core.instances.id(index);
            if let Err(what) = self.forget_kept(id, scope, progress.kept & id.bit() != 0) {
                progress.note(id, what);
            }
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
        let named = move |target: &Installed| {
            let tag = core.tag_of(target);
            if wanted.are_guests() { tag.guests() } else { tag }
        };
        let which = wanted;
        let wanted = move |target: &Installed| core.is_reached(targets, target, which);
        for tags in targets.chunk_by(|one, next| one.instance == next.instance) {
            let Some(&Installed { instance: id, .. }) = tags.first() else { continue };
            let Some(instance) = core.instances.get(id) else { continue };
            // An instance that cannot nest holds nothing of guests, and may not know the command.
            let none = which.are_guests() && !instance.features().may_hold_guests();
            if untold & id.bit() == 0 || none {
                continue;
            }
            let tags = tags.iter().filter(|target| wanted(target)).map(named);
            let commands = instance.invalidation(tags, scope);
            self.tell_all(targets, (id, instance), commands, scope, progress);
        }
    }

    /// Tells an instance by `commands`, and the devices behind it, if there are any.
    #[cfg_attr(feature = "fast-paths", inline(never))]
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
            let (queue, mmio) = (instance.commands(), instance.mmio());
            let placed = if cfg!(feature = "fast-paths") {
                queue.try_submit(platform, mmio, &mut commands)
            } else {
                queue.try_submit(platform, mmio, &mut Given(&mut commands))
            };
            progress.placed(id, [count, 0], placed);
        }
    }

    /// Tells the instances that had no room.
    #[cfg_attr(feature = "fast-paths", cold, inline(never))]
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

impl<P: Platform> Core<P> {
    /// Whether an invalidation of the tags that are `wanted` is of `target`.
    #[inline]
    fn is_reached(&self, targets: &Targets, target: &Installed, wanted: Which) -> bool {
        if !self.reaches(targets, target) {
            return false;
        }
        let _ = (self, targets);
        !cfg!(feature = "sva") || wanted != Which::Private || !target.shared
    }
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

// SPDX-License-Identifier: MIT OR Apache-2.0
//! An address space behind its handle: its tables, and which tags of which instances its translations carry.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem::{ManuallyDrop, MaybeUninit};
use core::ops::{Deref, DerefMut};

use smmuv3_formats::Cd;

use crate::atc::{Batch, Kept, Spans};
use crate::command_queue::Ticket;
use crate::compatibility::{Mismatch, Stage};
use crate::configuration::Configuration;
use crate::devices::{Device, is_of_device};
use crate::entry::Stage2;
use crate::error::{Failure, InstanceId, Unconfirmed};
use crate::features::Features;
use crate::instances::MOST_INSTANCES;
use crate::invalidate::{Scope, Tag};
use crate::iommu::Core;
use crate::platform::Platform;
use crate::process::{Life, Registers};
use crate::shared::Shared;
use crate::tables::{Own, dispatch};
use crate::targets::Snapshot;
use crate::trace::{InstanceSet, Trace};

/// A tag by which an instance knows an address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The instance.
    pub instance: InstanceId,
    /// What its TLB keys the address space by.
    pub tag: Tag,
    /// It is the CPU's ASID: broadcasts of CPUs invalidate it.
    pub shared: bool,
    /// How many masters use it there; one counts again for each substream that it uses it with.
    pub masters: usize,
}

/// A tag that an invalidation must reach.
#[derive(Clone, Copy)]
pub(crate) struct Installed {
    pub(crate) instance: InstanceId,
    pub(crate) tag: Tag,
    pub(crate) shared: bool,
    /// Index of the [`Place`](crate::place::Place) that it is.
    pub(crate) place: usize,
}

/// All tags that an invalidation must reach, in order of instances; and devices.
#[derive(Default)]
pub(crate) struct Targets {
    tags: Vec<Installed>,
    /// By [`Device::key`].
    pub(crate) devices: Vec<Device>,
}

impl Targets {
    pub(crate) const fn new() -> Self {
        Self { tags: Vec::new(), devices: Vec::new() }
    }

    /// The devices behind `instance`.
    #[inline]
    pub(crate) fn behind(&self, instance: InstanceId) -> &[Device] {
        if self.devices.is_empty() {
            return &[];
        }
        let first = self.devices.partition_point(|device| device.instance < instance);
        let end = self.devices.partition_point(|device| device.instance <= instance);
        self.devices.get(first..end).unwrap_or(&[])
    }
}

impl Deref for Targets {
    type Target = Vec<Installed>;

    fn deref(&self) -> &Self::Target {
        &self.tags
    }
}

impl DerefMut for Targets {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.tags
    }
}

/// Whose page tables they are.
pub(crate) enum Tables {
    Own(Own),
    /// A process's: the operating system's.
    Process(Box<Registers>),
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
    pub(crate) fn targets(&self) -> Vec<Target> {
        self.core.configuration.with(|configuration| {
            let mut copy = Vec::new();
            let targets = self.targets.for_writer();
            if copy.try_reserve_exact(targets.len()).is_ok() {
                copy.extend(targets.iter().map(|target| Target {
                    instance: target.instance,
                    tag: target.tag,
                    shared: target.shared,
                    masters: configuration.users(target.place),
                }));
            }
            copy
        })
    }

    /// How many masters use it.
    pub(crate) fn users(&self, configuration: &Configuration<P>) -> usize {
        let targets = self.targets.for_writer().iter();
        targets.map(|target| configuration.users(target.place)).sum()
    }

    /// Makes every instance forget what `scope` says, all tags that `wanted` names: all instances are told before the
    /// first is waited for. On error, also the set of instances that did not confirm.
    #[inline]
    pub(crate) fn invalidate(
        &self,
        scope: Scope,
        wanted: impl Fn(&Installed) -> bool + Copy,
    ) -> Result<(), (Unconfirmed, u64)> {
        #[cfg(feature = "mutation")]
        if self.core.leaves_out(crate::Mutation::GuestFlushFirst) {
            let first = self.tell(Scope::All, wanted, Tag::guests);
            return first.and(self.tell(scope, wanted, |tag| tag));
        }
        let told = self.tell(scope, wanted, |tag| tag);
        // The whole of a tag of stage 2 includes what is cached of both stages together (S12_VMALL).
        if !matches!(scope, Scope::Range(_)) || !self.own().is_some_and(|own| own.guests) {
            return told;
        }
        #[cfg(feature = "mutation")]
        if self.core.leaves_out(crate::Mutation::NoGuestFlush) {
            return told;
        }
        // A range of it does not, and those are only told now that the first round is complete: what is filled
        // from an entry of stage 2 in between would outlive both (§4.2).
        match (told, self.tell(Scope::All, wanted, Tag::guests)) {
            (Err((first, some)), Err((_, others))) => Err((first, some | others)),
            (told, again) => told.and(again),
        }
    }

    /// One round of [`Space::invalidate`], of what `named` makes of the tags.
    #[inline]
    fn tell(
        &self,
        scope: Scope,
        wanted: impl Fn(&Installed) -> bool + Copy,
        named: impl Fn(Tag) -> Tag + Copy,
    ) -> Result<(), (Unconfirmed, u64)> {
        let core = &*self.core;
        let platform = &core.platform;
        // Of the instances of `told`.
        let mut tickets = [const { MaybeUninit::<Ticket>::uninit() }; MOST_INSTANCES];
        let mut first = None;
        let (mut told, mut failed) = (0u64, 0u64);
        let mut note = |instance: InstanceId, what: Failure| {
            first.get_or_insert(Unconfirmed { instance, what });
            failed |= instance.bit();
        };
        // Instances that have still to be told; at first, whichever the targets name.
        let mut untold = u64::MAX;
        // Instances whose devices have still to be told, one by one.
        let mut kept = 0u64;
        while untold != 0 {
            // Instances that have no room for it now, and the commands of the largest batch among theirs.
            let (mut full, mut largest) = (0u64, 0);
            core.readers.read(platform.cpu(), &self.targets, |targets| {
                for tags in targets.chunk_by(|one, next| one.instance == next.instance) {
                    let Some(id) = tags.first().map(|target| target.instance) else { continue };
                    let Some(instance) = core.instances.get(id) else { continue };
                    if untold & id.bit() == 0 {
                        continue;
                    }
                    let tags = tags.iter().filter(move |target| wanted(target));
                    #[cfg(feature = "mutation")]
                    let tags = tags.filter(|target| core.reaches(targets, target));
                    let tags = tags.map(move |target| named(core.tag_of(target)));
                    let mut commands = instance.invalidation(tags, scope);
                    let mut count = commands.len();
                    let devices = targets.behind(id);
                    #[cfg(feature = "mutation")]
                    let devices =
                        if core.leaves_out(crate::Mutation::NoAtcInv) { &[] } else { devices };
                    let submitted = if devices.is_empty() {
                        if count == 0 {
                            continue;
                        }
                        instance.commands().try_submit(platform, instance.mmio(), &mut commands)
                    } else {
                        let spans = Spans::of(scope, instance.features().unit_shift());
                        let answers = |device: &&Device| {
                            !instance.is_quarantined(platform, device.kept.stream)
                        };
                        let told = devices.iter().filter(answers).map(|device| device.kept);
                        let mut all = Batch::new(commands.clone(), told, spans);
                        #[cfg(feature = "mutation")]
                        if core.leaves_out(crate::Mutation::AtcBeforeSync) {
                            all.out_of_order();
                        }
                        if all.len() <= instance.commands().largest_batch() {
                            count = all.len();
                            if count == 0 {
                                continue;
                            }
                            instance.commands().try_submit(platform, instance.mmio(), &mut all)
                        } else {
                            kept |= id.bit();
                            if count == 0 {
                                continue;
                            }
                            instance.commands().try_submit(platform, instance.mmio(), &mut commands)
                        }
                    };
                    match submitted {
                        Ok(Some(ticket)) => {
                            if let Some(slot) = tickets.get_mut(id.index()) {
                                slot.write(ticket);
                                told |= id.bit();
                            }
                        }
                        Ok(None) => (full, largest) = (full | id.bit(), count.max(largest)),
                        Err(what) => note(id, what),
                    }
                }
            });
            // Whoever waits here holds up nobody, not even those who replace the targets. What has left them
            // meanwhile was flushed before, and what has come walks the tables as they are now.
            untold = full;
            for id in bits(full) {
                let instance = core.instances.get(id);
                let room = instance.map(|instance| {
                    instance.commands().wait_for_room(platform, instance.mmio(), largest)
                });
                if let Some(Err(what)) = room {
                    note(id, what);
                    untold &= !id.bit();
                }
                platform.relax();
            }
        }
        platform.trace(&Trace::Invalidation { space: self.id, scope, told: InstanceSet(told) });
        for id in bits(told) {
            let (Some(instance), Some(ticket)) = (core.instances.get(id), tickets.get(id.index()))
            else {
                continue;
            };
            // SAFETY: its instance is in `told` only after it was written.
            let ticket = unsafe { ticket.assume_init() };
            match instance.wait(platform, ticket) {
                // Which of them is not known.
                Err(what) if is_of_device(&what) => kept |= id.bit(),
                Err(what) => {
                    note(id, what);
                    kept &= !id.bit();
                }
                Ok(()) => {}
            }
        }
        for id in bits(kept) {
            if let Err(what) = self.forget_kept(id, scope) {
                note(id, what);
            }
        }
        match first {
            None => Ok(()),
            Some(unconfirmed) => Err((unconfirmed, failed)),
        }
    }
}

impl<P: Platform> Space<P> {
    /// Makes the devices behind an instance forget what `scope` says, one after the other; those that do not answer are in
    /// quarantine then. Translations of the instance are gone already.
    #[cold]
    #[inline(never)]
    fn forget_kept(&self, id: InstanceId, scope: Scope) -> Result<(), Failure> {
        enum Step {
            Told(Kept, Ticket, usize),
            Full,
            Done,
        }
        let core = &*self.core;
        let platform = &core.platform;
        let Some(instance) = core.instances.get(id) else { return Ok(()) };
        let spans = Spans::of(scope, instance.features().unit_shift());
        // The last that was told, and how many spans of the next one were.
        let (mut last, mut begun) = (None, 0);
        loop {
            // Submitted where nobody can take the device off the targets: whoever has, waits for this.
            let step = core.readers.read(platform.cpu(), &self.targets, |targets| {
                let next = targets.behind(id).iter().map(|device| device.kept).find(|kept| {
                    last.is_none_or(|last| *kept > last)
                        && !instance.is_quarantined(platform, kept.stream)
                });
                let Some(kept) = next else { return Ok(Step::Done) };
                let mut commands = spans.iter().skip(begun).map(|span| kept.command(span));
                let commands = &mut commands;
                let ticket = instance.commands().try_submit(platform, instance.mmio(), commands)?;
                let left = commands.len();
                Ok(ticket.map_or(Step::Full, |ticket| Step::Told(kept, ticket, left)))
            })?;
            match step {
                Step::Done => return Ok(()),
                Step::Full => {
                    instance.commands().wait_for_room(platform, instance.mmio(), 1)?;
                    platform.relax();
                }
                Step::Told(kept, ticket, left) => {
                    begun = if left == 0 { 0 } else { spans.count() - left };
                    if left == 0 {
                        last = Some(kept);
                    }
                    match instance.wait(platform, ticket) {
                        Err(what) if is_of_device(&what) => {
                            instance.quarantine(platform, kept.stream)?;
                            (last, begun) = (Some(kept), 0);
                        }
                        other => other?,
                    }
                }
            }
        }
    }
}

/// The instances of a set.
fn bits(mut set: u64) -> impl Iterator<Item = InstanceId> {
    core::iter::from_fn(move || {
        // Below 64, if there is one.
        let id = (set != 0).then_some(InstanceId(set.trailing_zeros() as u8))?;
        set &= set - 1;
        Some(id)
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

// SPDX-License-Identifier: MIT OR Apache-2.0
//! An address space behind its handle: its tables, and which tags of which instances its translations carry.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem::{ManuallyDrop, MaybeUninit};

use smmuv3_formats::Cd;
use smmuv3_pagetable::Stage1Table4K;

use crate::command_queue::Ticket;
use crate::compatibility::{Mismatch, Shape};
use crate::configuration::Configuration;
use crate::entry::Context;
use crate::error::{Failure, InstanceId, Unconfirmed};
use crate::features::Features;
use crate::instances::MOST_INSTANCES;
use crate::invalidate::{Scope, Tag};
use crate::iommu::Core;
use crate::platform::Platform;
use crate::process::{Life, Registers};
use crate::shared::Shared;
use crate::targets::Snapshot;

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

/// All tags that an invalidation must reach, in order of instances.
pub(crate) type Targets = Vec<Installed>;

/// Whose page tables they are.
pub(crate) enum Tables {
    Stage1Granule4K(Stage1Table4K),
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

    pub(crate) fn table(&self) -> Option<&Stage1Table4K> {
        match &*self.tables {
            Tables::Stage1Granule4K(table) => Some(table),
            Tables::Process(_) => None,
        }
    }

    pub(crate) fn process(&self) -> Option<&Registers> {
        match &*self.tables {
            Tables::Stage1Granule4K(_) => None,
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
            Tables::Stage1Granule4K(table) => Context {
                root: table.root(),
                granule_shift: 12,
                input_bits: table.input_bits(),
                output_bits: table.output_bits(),
                asid: tag.asid,
            }
            .encode(features),
            Tables::Process(registers) => {
                registers.context().with_aset(!shared).with_asid(u64::from(tag.asid))
            }
        }
    }

    /// Whether an SMMU with `features` can walk the tables.
    pub(crate) fn fits(&self, features: &Features) -> Result<(), Mismatch> {
        match &*self.tables {
            Tables::Stage1Granule4K(table) => Shape {
                granule_shift: 12,
                input_bits: table.input_bits(),
                output_bits: table.output_bits(),
                coherent: false,
                big_endian: false,
                access_flag: false,
                dirty_state: false,
                bbml: 0,
            }
            .fits(features),
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
    pub(crate) fn invalidate(
        &self,
        scope: Scope,
        wanted: impl Fn(&Installed) -> bool + Copy,
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
        // Whether those that have to be told twice are being told for the second time.
        let mut second = false;
        loop {
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
                        let tags = tags.map(|target| core.tag_of(target));
                        let mut commands = instance.invalidation(tags, scope);
                        let count = commands.len();
                        if count == 0 {
                            continue;
                        }
                        match instance.commands().try_submit(
                            platform,
                            instance.mmio(),
                            &mut commands,
                        ) {
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
            let mut again = 0u64;
            for id in bits(told) {
                let (Some(instance), Some(ticket)) =
                    (core.instances.get(id), tickets.get(id.index()))
                else {
                    continue;
                };
                // SAFETY: its instance is in `told` only after it was written.
                let ticket = unsafe { ticket.assume_init() };
                if let Err(what) = instance.wait(platform, ticket) {
                    note(id, what);
                } else if instance.commands().repeats() {
                    again |= id.bit();
                }
            }
            if again == 0 || core::mem::replace(&mut second, true) {
                break;
            }
            (untold, told) = (again, 0);
        }
        match first {
            None => Ok(()),
            Some(unconfirmed) => Err((unconfirmed, failed)),
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
            // SAFETY: see above; tags of the space were flushed when its last master left.
            Tables::Stage1Granule4K(table) => unsafe { table.destroy(&self.core.platform) },
            Tables::Process(registers) => self.core.give_back_pasid(registers.pasid),
        }
    }
}

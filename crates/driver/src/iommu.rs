// SPDX-License-Identifier: MIT OR Apache-2.0
//! All SMMUs of a system as one: instances, masters, domains.

use alloc::boxed::Box;
use core::fmt;

use smmuv3_formats::{StreamId, SubstreamId};

use crate::asid::{AsidPolicy, Asids, Cpu, Vmids};
use crate::configuration::{Configuration, spare};
use crate::domain::{CreateError, Domain, DomainConfig};
use crate::error::InstanceId;
use crate::fault::{Interrupt, Report};
use crate::features::{Features, Unsupported};
use crate::ids::{Ids, Order};
use crate::instance::{EnableError, Instance, InstanceConfig, Probed};
use crate::instances::{Instances, MOST_INSTANCES};
use crate::invalidate::Tag;
use crate::master::{AddMasterError, Master, MasterConfig, MasterState};
use crate::mutex::Mutex;
use crate::place::{GHOST, Place, Slot, User};
use crate::platform::Platform;
use crate::process::{AddProcessError, Process, ProcessConfig};
use crate::quarantine::{Mark, Quarantine, Quarantined};
use crate::shared::{NoMemory, Shared, try_box};
use crate::space::{Installed, Targets};
use crate::spin::SpinLock;
use crate::targets::{Readers, Retired};

/// Settings of an [`Iommu`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// How ASIDs are chosen.
    pub asid_policy: AsidPolicy,
    /// The VMIDs that [`AsidPolicy::Banked`] may use as banks, beside the CPU's: nobody else uses them on any of
    /// the instances. Those that an instance is too narrow for are left out there.
    pub banks: Vmids,
    /// The CPUs whose processes devices may share.
    pub cpu: Cpu,
    /// Bits of the PASIDs that are given out, 6 to 20.
    pub pasid_bits: u32,
    /// A step to leave out: for tests of the oracle only.
    #[cfg(feature = "mutation")]
    pub mutation: Option<crate::Mutation>,
}

/// An ASID of its own for each domain on each instance; VMIDs 1 to 255 for banks; CPUs with 16-bit ASIDs, a kernel in
/// EL1, and VMID 0; PASIDs of 16 bits.
impl Default for Config {
    fn default() -> Self {
        Self {
            asid_policy: AsidPolicy::PerInstance,
            banks: Vmids { first: 1, last: 255 },
            cpu: Cpu { asid_bits: 16, el2_host: false, vmid: 0 },
            pasid_bits: 16,
            #[cfg(feature = "mutation")]
            mutation: None,
        }
    }
}

/// The SMMUs of a system, driven as one.
///
/// A handle: clones are the same `Iommu`. Everything it hands out keeps it alive.
pub struct Iommu<P: Platform> {
    core: Shared<Core<P>>,
}

/// What all handles share.
pub(crate) struct Core<P: Platform> {
    pub(crate) platform: P,
    config: Config,
    pub(crate) instances: Instances<P>,
    pub(crate) readers: Readers,
    pub(crate) quarantine: Quarantine,
    /// Of processes, and of callers. A lock of its own, because spaces end under the other one, too.
    pasids: SpinLock<Ids>,
    /// The one lock: attach, detach, bind, release, add, remove. Held across waits for hardware.
    pub(crate) configuration: Mutex<P::Mutex, Configuration<P>>,
}

/// An SMMU in use, of an [`Iommu`].
pub struct Smmu<P: Platform> {
    pub(crate) core: Shared<Core<P>>,
    pub(crate) id: InstanceId,
}

impl<P: Platform> Clone for Iommu<P> {
    fn clone(&self) -> Self {
        Self { core: self.core.clone() }
    }
}

impl<P: Platform> Iommu<P> {
    /// An `Iommu` without instances.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn new(platform: P, config: Config) -> Result<Self, NoMemory> {
        let readers = Readers::new(platform.max_cpus())?;
        let asids = Asids::new(config.asid_policy, config.banks, config.cpu)?;
        let core = Core {
            platform,
            config,
            instances: Instances::new(),
            readers,
            quarantine: Quarantine::new()?,
            pasids: SpinLock::new(Ids::new(config.pasid_bits)?),
            configuration: Mutex::new(Configuration::new(asids)),
        };
        Ok(Self { core: Shared::new(core)? })
    }

    /// The platform that it was made with.
    pub fn platform(&self) -> &P {
        &self.core.platform
    }

    /// Reads what the SMMU behind `mmio` can do. Nothing is written.
    ///
    /// # Errors
    /// What makes the SMMU unusable.
    pub fn probe(&self, mmio: P::Mmio, config: InstanceConfig) -> Result<Probe<P>, Unsupported> {
        Ok(Probe { core: self.core.clone(), probed: Probed::new(mmio, config)? })
    }

    /// An empty address space, for any of the instances enabled so far.
    ///
    /// # Errors
    /// See [`CreateError`].
    pub fn create_domain(&self, config: DomainConfig) -> Result<Domain<P>, CreateError> {
        self.core.quarantine.reserve(&self.core.platform)?;
        let (id, removed) = self.core.configuration.with(|configuration| {
            configuration.domains += 1;
            (configuration.domains - 1, configuration.asids.removed())
        });
        Domain::new(self.core.clone(), id, config, removed)
    }

    /// A process whose address space masters can be bound to; `cookie` is what [`Platform::pin_asid`] is to know it by.
    ///
    /// # Errors
    /// See [`AddProcessError`].
    ///
    /// # Safety
    /// Until [`Process::release`] has returned `Ok`, `config` describes the process's tables, and they are those of a
    /// process: devices may reach whatever unprivileged code of it may. After each change of them but additions,
    /// [`Process::invalidate`] is called before what they led to is used for anything else.
    pub unsafe fn add_process(
        &self,
        config: ProcessConfig,
        cookie: u64,
    ) -> Result<Process<P>, AddProcessError> {
        self.core.quarantine.reserve(&self.core.platform)?;
        let id = self.core.configuration.with(|configuration| {
            configuration.domains += 1;
            configuration.domains - 1
        });
        Process::new(self.core.clone(), id, config, cookie)
    }

    /// A PASID for [`Iommu::attach_pasid`], the lowest that is free: no process has it, and no other caller.
    ///
    /// # Errors
    /// [`PasidError::Exhausted`], [`PasidError::NoMemory`].
    pub fn allocate_pasid(&self) -> Result<SubstreamId, PasidError> {
        self.core.configuration.with(|configuration| {
            configuration.lent.try_reserve(1).map_err(|_| PasidError::NoMemory)?;
            let bits = self.core.pasid_bits();
            let pasid = self.core.take_pasid().ok_or(PasidError::Exhausted { bits })?;
            let at = configuration.lent.partition_point(|lent| *lent < pasid.0);
            configuration.lent.insert(at, pasid.0);
            Ok(pasid)
        })
    }

    /// Gives back what [`Iommu::allocate_pasid`] returned.
    ///
    /// # Errors
    /// [`PasidError::InUse`] while a master is attached by it, [`PasidError::Unknown`].
    pub fn free_pasid(&self, pasid: SubstreamId) -> Result<(), PasidError> {
        self.core.configuration.with(|configuration| {
            let at = configuration.lent.binary_search(&pasid.0);
            let at = at.map_err(|_| PasidError::Unknown { pasid })?;
            let used = |state: &MasterState| !matches!(state.slot(pasid.0), Slot::Blocked);
            let masters = configuration.masters.iter().filter(|(_, state)| used(state)).count();
            if masters != 0 {
                return Err(PasidError::InUse { pasid, masters });
            }
            configuration.lent.remove(at);
            self.core.give_back_pasid(pasid);
            Ok(())
        })
    }

    /// How many ASIDs are free on `smmu`, as far as the policy may use them there.
    pub fn free_asids(&self, smmu: &Smmu<P>) -> usize {
        smmu.core.configuration.with(|configuration| configuration.asids.free(smmu.id))
    }

    /// Makes a device known by the streams that it issues to `smmu`. It stays blocked until it is attached.
    ///
    /// # Errors
    /// See [`AddMasterError`]. Nothing was changed, unless it is [`AddMasterError::Unconfirmed`].
    pub fn add_master(
        &self,
        smmu: &Smmu<P>,
        streams: &[StreamId],
        config: MasterConfig,
    ) -> Result<Master<P>, AddMasterError> {
        Master::add(&self.core, smmu, streams, config)
    }

    /// Reads what `smmu` has to say: events, and errors of its own. To be called when it raises an interrupt,
    /// or from time to time. At most `budget` events are handed to `sink`; returns whether more are waiting.
    ///
    /// May be called in interrupt context. `sink` runs with interrupts masked and the event queue locked: it calls
    /// nothing of the driver.
    pub fn handle_interrupt(
        &self,
        smmu: &Smmu<P>,
        which: Interrupt,
        budget: usize,
        sink: &mut dyn FnMut(Report),
    ) -> bool {
        // The SMMU's own, whichever `Iommu` was asked.
        smmu.instance().is_some_and(|instance| {
            crate::fault::handle(&smmu.core.platform, instance, which, budget, sink)
        })
    }

    /// Shows what instances that did not answer may still reach. `visit` runs with locks held and interrupts masked: it
    /// calls nothing of the driver, and does not sleep.
    pub fn quarantined(&self, visit: &mut dyn FnMut(Quarantined)) {
        self.core.quarantine.list(&self.core.platform, visit);
        self.core.configuration.with(|configuration| {
            let mut asid = |place: usize| {
                if let Some(place) = configuration.places.get(place) {
                    visit(Quarantined::Asid { instance: place.instance, asid: place.tag.asid });
                }
            };
            configuration.held.iter().for_each(|held| asid(*held));
            for (index, place) in configuration.places.iter() {
                if place.users.iter().any(|user| user.substream == GHOST) {
                    asid(index);
                }
            }
            for (_, state) in configuration.masters.iter().filter(|(_, state)| state.is_stuck()) {
                state.stuck().for_each(|bound| asid(bound.place));
            }
            for (_, state) in configuration.masters.iter().filter(|(_, state)| state.is_stuck()) {
                for stream in &state.streams {
                    visit(Quarantined::Stream { instance: state.instance, stream: *stream });
                }
            }
        });
    }

    /// Resets `smmu`, which did not answer: empties its queues and caches, and lets go of what it could
    /// reach. Attached masters stay attached; those that a failed call was changing are blocked.
    ///
    /// # Errors
    /// See [`EnableError`]. The quarantine stays as it is then.
    pub fn reset(&self, smmu: &Smmu<P>) -> Result<(), EnableError> {
        let core = &smmu.core;
        let Some(instance) = core.instances.get(smmu.id) else { return Ok(()) };
        core.configuration.with(|configuration| {
            // What is put there from here on may come after the caches were emptied.
            let before = core.quarantine.mark(&core.platform);
            instance.start(&core.platform)?;
            core.quarantine.release(&core.platform, smmu.id, before);
            configuration.release(core, smmu.id);
            Ok(())
        })
    }

    /// Turns `smmu` off and forgets it; transactions abort from then on. Its memory is kept until the `Iommu`
    /// ends, because other CPUs may be looking at its queues.
    ///
    /// # Errors
    /// [`RemoveError::InUse`] while it has masters, [`RemoveError::Hardware`] when it does not confirm.
    pub fn remove(&self, smmu: Smmu<P>) -> Result<(), (Smmu<P>, RemoveError)> {
        let core = &smmu.core;
        let result = core.configuration.with(|configuration| {
            let of_it = |(_, state): &(usize, &MasterState)| state.instance == smmu.id;
            let masters = configuration.masters.iter().filter(of_it).count();
            if masters != 0 {
                return Err(RemoveError::InUse { masters });
            }
            if let Some(instance) = core.instances.get(smmu.id) {
                instance.stop(&core.platform).map_err(RemoveError::Hardware)?;
            }
            // Off for good: it reaches nothing.
            core.quarantine.release(&core.platform, smmu.id, Mark::NEVER);
            configuration.release(core, smmu.id);
            configuration.asids.remove(smmu.id);
            Ok(())
        });
        result.map_err(|error| (smmu, error))
    }
}

/// Why a PASID was not allocated, or not freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PasidError {
    /// All are in use.
    Exhausted {
        /// Bits of a PASID.
        bits: u32,
    },
    /// It was not allocated, or is that of a process.
    Unknown {
        /// The PASID.
        pasid: SubstreamId,
    },
    /// Masters are attached by it.
    InUse {
        /// The PASID.
        pasid: SubstreamId,
        /// How many.
        masters: usize,
    },
    /// No heap memory.
    NoMemory,
}

impl fmt::Display for PasidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exhausted { bits } => write!(f, "all PASIDs of {bits} bits are in use"),
            Self::Unknown { pasid } => write!(f, "PASID {pasid} was not allocated"),
            Self::InUse { pasid, masters } => {
                write!(f, "{masters} masters are attached by PASID {pasid}")
            }
            Self::NoMemory => f.write_str("no memory"),
        }
    }
}

impl core::error::Error for PasidError {}

/// Why an instance was not removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RemoveError {
    /// It has masters.
    InUse {
        /// How many.
        masters: usize,
    },
    /// It did not confirm that it is off.
    Hardware(EnableError),
}

impl fmt::Display for RemoveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse { masters } => write!(f, "{masters} masters are still registered"),
            Self::Hardware(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for RemoveError {}

/// An SMMU whose features are known; [`Probe::enable`] takes it into use.
#[must_use]
pub struct Probe<P: Platform> {
    core: Shared<Core<P>>,
    probed: Probed<P>,
}

impl<P: Platform> Probe<P> {
    /// What the SMMU can do.
    pub fn features(&self) -> &Features {
        self.probed.features()
    }

    /// Takes the SMMU into use: every stream aborts until its master is attached.
    ///
    /// # Errors
    /// The probe, to try again, and why. Nothing that was changed remains, except that the SMMU is off and
    /// aborts.
    #[expect(clippy::result_large_err, reason = "the probe is handed back to be tried again")]
    pub fn enable(self) -> Result<Smmu<P>, (Self, EnableError)> {
        let Self { core, probed } = self;
        let failed = |probed, error| Err((Self { core: core.clone(), probed }, error));
        core.configuration.with(|configuration| {
            let Some(id) = core.instances.vacant() else {
                return failed(probed, EnableError::TooManyInstances { largest: MOST_INSTANCES });
            };
            let broadcast = probed.config().broadcast;
            let Ok(asids) = configuration.asids.prepare(probed.features(), broadcast) else {
                return failed(probed, EnableError::NoMemory);
            };
            let mut place = match try_box(None) {
                Ok(place) => place,
                Err(NoMemory) => return failed(probed, EnableError::NoMemory),
            };
            // SAFETY: there is one platform only; `Smmu::instance` says so to whoever gets it from there.
            let instance = match unsafe { probed.enable(&core.platform) } {
                Ok(instance) => instance,
                Err((probed, error)) => return failed(probed, error),
            };
            #[cfg(feature = "mutation")]
            let instance = {
                let mut instance = instance;
                if core.leaves_out(crate::Mutation::NoSync) {
                    instance.omit_sync();
                }
                instance
            };
            *place = Some(instance);
            core.instances.add(id, place);
            configuration.asids.add(asids);
            Ok(Smmu { core: core.clone(), id })
        })
    }
}

impl<P: Platform> Smmu<P> {
    /// Its number.
    pub fn id(&self) -> InstanceId {
        self.id
    }

    /// The instance: its features, its configuration, its queues. Where its methods take a platform, that is
    /// [`Iommu::platform`] and no other.
    pub fn instance(&self) -> Option<&Instance<P>> {
        self.core.instances.get(self.id)
    }
}

impl<P: Platform> Configuration<P> {
    /// Lets go of the tags that `instance` did not flush, and of the masters it did not let go of: its caches
    /// are empty now.
    fn release(&mut self, core: &Core<P>, instance: InstanceId) {
        let mut at = 0;
        while let Some(held) = self.held.get(at).copied() {
            let place = self.places.get(held).filter(|place| place.instance == instance);
            let space = place.map(|place| &place.space);
            // Without memory it stays until the next reset.
            if let Some(spare) = space.and_then(|space| spare(space, 0).ok()) {
                self.end(core, held, spare);
                self.held.swap_remove(at);
            } else {
                at += 1;
            }
        }
        for place in 0..self.places.end() {
            let Some(Place { space, users, .. }) =
                self.places.get(place).filter(|place| place.instance == instance)
            else {
                continue;
            };
            // Without memory they stay until the next reset.
            let ghosts = users.iter().any(|user| user.substream == GHOST);
            let Some(spare) = ghosts.then(|| spare(space, 0).ok()).flatten() else { continue };
            if self.exorcise(place) {
                self.end(core, place, spare);
            }
        }
        for master in 0..self.masters.end() {
            let state = self.masters.get_mut(master);
            let Some(state) = state.filter(|state| state.instance == instance) else { continue };
            state.adrift = false;
            if state.is_stuck() {
                self.unstick(core, master);
            }
        }
    }

    /// Forgets a place that nobody uses, whose tag is in no cache. `spare` is for the targets without it.
    fn end(&mut self, core: &Core<P>, place: usize, spare: Box<Targets>) {
        let retired = self.withdraw(place, spare);
        Retired::free([retired], &core.readers, || core.platform.relax());
        drop(self.forget(core, place));
    }

    /// After a reset of its instance: what a failed call was changing of `master` is blocked, and the rest works
    /// again.
    fn unstick(&mut self, core: &Core<P>, master: usize) {
        while let Some((substream, bounds)) =
            self.masters.get(master).and_then(MasterState::stuck_slot)
        {
            for (which, bound) in bounds.into_iter().enumerate() {
                let Some(bound) = bound else { continue };
                // Its seat may have changed with the one before.
                let user = User { master, substream };
                if self.leave(core, user, bound.place).is_err() {
                    // No memory: the rest stays as it is until the next reset.
                    return;
                }
                let Some(state) = self.masters.get_mut(master) else { return };
                if let Some(Slot::Stuck(bounds)) = state.slot_mut(substream)
                    && let Some(bound) = bounds.get_mut(which)
                {
                    *bound = None;
                }
            }
            let Some(state) = self.masters.get_mut(master) else { return };
            let (platform, pasid) = (&core.platform, SubstreamId(substream));
            // Its streams are blocked, and their caches are empty: hardware cannot see it.
            if let Some(entry) = state.entry(platform, pasid) {
                crate::attach::fill(platform, entry, &[0; 8]);
            }
            state.set_slot(substream, Slot::Blocked);
            if state.is_stuck() {
                continue;
            }
            let (stream, instance) = (state.stream(), core.instances.get(state.instance));
            let Some(instance) = instance else { return };
            // Also where they stay blocked: words that do not matter then still hold what did before.
            if state.write_streams(core, instance, stream).is_err() {
                // There is room: it was there just now.
                state.block_streams(platform, instance);
                state.set_slot(substream, Slot::Stuck([None, None]));
                return;
            }
        }
    }

    /// Takes a user off a place, and forgets that if it was the last.
    fn leave(&mut self, core: &Core<P>, user: User, place: usize) -> Result<(), NoMemory> {
        let Some(seats) = self.places.get(place) else { return Ok(()) };
        let spare = spare(&seats.space, 0)?;
        let bound = self.masters.get_mut(user.master);
        let bound = bound.and_then(|state| state.bound_mut(user.substream, place)).copied();
        let Some(bound) = bound else { return Ok(()) };
        if self.quit(place, bound.at) {
            self.end(core, place, spare);
        }
        Ok(())
    }
}

impl<P: Platform> Core<P> {
    pub(crate) fn pasid_bits(&self) -> u32 {
        self.config.pasid_bits.clamp(6, 20)
    }

    /// The lowest free PASID.
    pub(crate) fn take_pasid(&self) -> Option<SubstreamId> {
        let bits = self.pasid_bits();
        let pasid = self.pasids.with(&self.platform, |ids| ids.allocate(bits, Order::Ascending));
        pasid.map(SubstreamId)
    }

    pub(crate) fn give_back_pasid(&self, pasid: SubstreamId) {
        self.pasids.with(&self.platform, |ids| ids.release(pasid.0));
    }

    /// The tag that an invalidation of `target` names.
    #[inline]
    pub(crate) fn tag_of(&self, target: &Installed) -> Tag {
        #[cfg(feature = "mutation")]
        if self.leaves_out(crate::Mutation::WrongAsid) {
            return Tag { asid: target.tag.asid ^ 0x40, ..target.tag };
        }
        target.tag
    }
}

#[cfg(feature = "mutation")]
impl<P: Platform> Core<P> {
    pub(crate) fn leaves_out(&self, mutation: crate::Mutation) -> bool {
        self.config.mutation == Some(mutation)
    }

    /// Whether a wrong driver would tell `target` of an invalidation.
    pub(crate) fn reaches(&self, targets: &[Installed], target: &Installed) -> bool {
        match self.config.mutation {
            Some(crate::Mutation::NoTlbi) => false,
            Some(crate::Mutation::OneInstanceOnly) => {
                targets.first().is_some_and(|first| first.instance == target.instance)
            }
            _ => true,
        }
    }
}

impl<P: Platform> Drop for Core<P> {
    fn drop(&mut self) {
        let removed = self.configuration.get_mut().asids.removed();
        for (id, instance) in self.instances.take_all().enumerate() {
            if removed >> id & 1 == 1 {
                if let Some(instance) = *instance {
                    // SAFETY: `remove` saw the SMMU confirm that it is off. There is one platform only, and
                    // entries are not used beyond the call that asks for them.
                    unsafe { instance.dismantle(&self.platform) };
                }
            } else {
                // It may be reading its tables and queues: they are never freed.
                core::mem::forget(instance);
            }
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! All SMMUs of a system as one: instances, masters, domains.

use alloc::vec::Vec;
use core::fmt;

use smmuv3_formats::StreamId;

use crate::attach::{Attachment, MasterState, take_off};
use crate::domain::{CreateError, Domain, DomainConfig, Space};
use crate::error::InstanceId;
use crate::fault::{Interrupt, Report};
use crate::features::{Features, Unsupported};
use crate::ids::{Ids, Order};
use crate::instance::{EnableError, Instance, InstanceConfig, Probed};
use crate::instances::{Instances, MOST_INSTANCES};
use crate::master::{AddMasterError, Master};
use crate::mutex::Mutex;
use crate::platform::Platform;
use crate::quarantine::{Mark, Quarantine, Quarantined};
use crate::shared::{NoMemory, Shared, try_box};
use crate::targets::Readers;

/// Settings of an [`Iommu`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// A step to leave out: for tests of the oracle only.
    #[cfg(feature = "mutation")]
    pub mutation: Option<crate::Mutation>,
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
    #[cfg_attr(
        not(feature = "mutation"),
        expect(dead_code, reason = "all its settings are gated")
    )]
    config: Config,
    pub(crate) instances: Instances<P>,
    pub(crate) readers: Readers,
    pub(crate) quarantine: Quarantine,
    /// The one lock: attach, detach, add, remove. Held across waits for hardware.
    pub(crate) configuration: Mutex<P::Mutex, Configuration<P>>,
}

/// What the configuration mutex guards.
pub(crate) struct Configuration<P: Platform> {
    /// By the index that a [`Master`] holds.
    pub(crate) masters: Vec<Option<MasterState<P>>>,
    /// By [`InstanceId`].
    pub(crate) tags: Vec<Tags>,
    /// Tags that an instance did not flush, and the spaces that they belong to.
    pub(crate) held: Vec<Held<P>>,
    domains: usize,
}

/// The identifiers of one instance.
pub(crate) struct Tags {
    pub(crate) asids: Ids,
    /// The instance was removed.
    pub(crate) removed: bool,
}

pub(crate) struct Held<P: Platform> {
    pub(crate) instance: InstanceId,
    pub(crate) asid: u16,
    /// Its tables stay alive: translations of the tag may lead to them.
    pub(crate) space: Shared<Space<P>>,
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
        let configuration =
            Configuration { masters: Vec::new(), tags: Vec::new(), held: Vec::new(), domains: 0 };
        let core = Core {
            platform,
            config,
            instances: Instances::new(),
            readers,
            quarantine: Quarantine::new()?,
            configuration: Mutex::new(configuration),
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
            let bits = configuration.tags.iter().enumerate();
            let removed = bits.filter(|(_, tags)| tags.removed).map(|(id, _)| 1u64 << id).sum();
            (configuration.domains - 1, removed)
        });
        Domain::new(self.core.clone(), id, config, removed)
    }

    /// Makes a device known by the streams that it issues to `smmu`. It stays blocked until it is attached.
    ///
    /// # Errors
    /// See [`AddMasterError`]. Nothing was changed, unless it is [`AddMasterError::Unconfirmed`].
    pub fn add_master(
        &self,
        smmu: &Smmu<P>,
        streams: &[StreamId],
    ) -> Result<Master<P>, AddMasterError> {
        Master::add(&self.core, smmu, streams)
    }

    /// Reads what `smmu` has to say: events, and errors of its own. To be called when it raises an interrupt,
    /// or from time to time. At most `budget` events are handed to `sink`; returns whether more are waiting.
    ///
    /// May be called in interrupt context. `sink` runs with interrupts masked, and calls neither this nor
    /// [`Iommu::reset`].
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

    /// Shows what instances that did not answer may still reach.
    pub fn quarantined(&self, visit: &mut dyn FnMut(Quarantined)) {
        self.core.quarantine.list(&self.core.platform, visit);
        self.core.configuration.with(|configuration| {
            for held in &configuration.held {
                visit(Quarantined::Asid { instance: held.instance, asid: held.asid });
            }
            for state in configuration.masters.iter().flatten() {
                let Some(spaces) = state.attachment.stuck() else { continue };
                for stream in &state.streams {
                    visit(Quarantined::Stream { instance: state.instance, stream: *stream });
                }
                for target in spaces.flat_map(|space| space.targets.for_writer()) {
                    if target.instance == state.instance {
                        visit(Quarantined::Asid {
                            instance: target.instance,
                            asid: target.tag.asid,
                        });
                    }
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
            let of_it = |state: &&MasterState<P>| state.instance == smmu.id;
            let masters = configuration.masters.iter().flatten().filter(of_it).count();
            if masters != 0 {
                return Err(RemoveError::InUse { masters });
            }
            if let Some(instance) = core.instances.get(smmu.id) {
                instance.stop(&core.platform).map_err(RemoveError::Hardware)?;
            }
            // Off for good: it reaches nothing.
            core.quarantine.release(&core.platform, smmu.id, Mark::NEVER);
            configuration.release(core, smmu.id);
            if let Some(tags) = configuration.tags.get_mut(smmu.id.index()) {
                tags.removed = true;
            }
            Ok(())
        });
        result.map_err(|error| (smmu, error))
    }
}

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
            let bits = probed.features().asid_bits;
            // Narrow numbers are worth more: wide instances leave them for whoever has no others.
            let order = if bits > 8 { Order::Descending } else { Order::Ascending };
            let Ok(asids) = Ids::new(bits, order) else {
                return failed(probed, EnableError::NoMemory);
            };
            if configuration.tags.try_reserve(1).is_err() {
                return failed(probed, EnableError::NoMemory);
            }
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
            configuration.tags.push(Tags { asids, removed: false });
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
        let tags = &mut self.tags;
        self.held.retain(|held| {
            // Without memory it stays until the next reset.
            let stays = held.instance != instance || take_off(core, &held.space, instance).is_err();
            if !stays && let Some(tags) = tags.get_mut(instance.index()) {
                tags.asids.release(held.asid);
            }
            stays
        });
        for state in self.masters.iter_mut().flatten() {
            if state.instance == instance && matches!(state.attachment, Attachment::Stuck(_)) {
                state.unstick(core, tags);
            }
        }
    }
}

#[cfg(feature = "mutation")]
impl<P: Platform> Core<P> {
    pub(crate) fn leaves_out(&self, mutation: crate::Mutation) -> bool {
        self.config.mutation == Some(mutation)
    }

    /// `target` as a wrong driver would see it; `None` when it would forget it.
    pub(crate) fn mutate(
        &self,
        targets: &[crate::Target],
        target: &crate::Target,
    ) -> Option<crate::Target> {
        let mut target = *target;
        match self.config.mutation {
            Some(crate::Mutation::NoTlbi) => return None,
            Some(crate::Mutation::OneInstanceOnly) if targets[0].instance != target.instance => {
                return None;
            }
            Some(crate::Mutation::WrongAsid) => target.tag.asid ^= 0x40,
            _ => {}
        }
        Some(target)
    }
}

impl<P: Platform> Drop for Core<P> {
    fn drop(&mut self) {
        let removed = |id: usize, configuration: &Configuration<P>| {
            configuration.tags.get(id).is_some_and(|tags| tags.removed)
        };
        for (id, instance) in self.instances.take_all().enumerate() {
            if removed(id, self.configuration.get_mut()) {
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

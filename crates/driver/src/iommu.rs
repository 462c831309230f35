// SPDX-License-Identifier: MIT OR Apache-2.0
//! All SMMUs of a system as one: instances, masters, domains.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem::MaybeUninit;
use core::sync::atomic::AtomicBool;

use smmuv3_formats::StreamId;

use crate::adopt::{self, Found};
use crate::asid::{Asids, Partition};
use crate::configuration::Configuration;
use crate::domain::{CreateError, Domain, DomainConfig};
use crate::error::InstanceId;
use crate::fault::{Interrupt, Report};
use crate::features::{Features, Unsupported};
#[cfg(feature = "pasids")]
use crate::ids::Ids;
use crate::instance::{EnableError, Instance, InstanceConfig, NotStarted, Parts, Probed};
use crate::instances::{Instances, MOST_INSTANCES};
use crate::invalidate::{self, Tag};
use crate::keep::{self, Kept};
use crate::master::{AddMasterError, Master, MasterConfig, MasterState};
use crate::mutation::Mutation;
use crate::mutex::Mutex;
use crate::place::Slot;
use crate::platform::Platform;
use crate::quarantine::Quarantine;
use crate::refused::Refused;
use crate::shared::{NoMemory, Shared, try_box};
use crate::space::Installed;
#[cfg(feature = "pasids")]
use crate::spin::SpinLock;
use crate::statistics::{InstanceStatistics, Numbers};
use crate::targets::Readers;

mod config;

pub use config::{Config, IommuError};

/// The SMMUs of a system, driven as one.
///
/// A handle: clones are the same `Iommu`. Everything it hands out keeps it alive, and belongs to it for good; most systems
/// have one `Iommu` and need not think of that. Where there are several, what is brought together has to belong to the same one:
/// a master and a domain ([`AttachError::Foreign`](crate::AttachError::Foreign)), an SMMU and what is made of it or taken
/// from it ([`AddMasterError::NoInstance`], `NestError::Foreign`, and `None` of [`Iommu::take_kept`]). Methods that are given
/// one handle and nothing else of an `Iommu`, such as [`Iommu::detach`], [`Iommu::reset`] or [`Iommu::handle_interrupt`], work on that to
/// which the handle belongs, whichever is asked.
pub struct Iommu<P: Platform> {
    pub(crate) core: Shared<Core<P>>,
}

/// What all handles share.
pub(crate) struct Core<P: Platform> {
    pub(crate) platform: P,
    pub(crate) config: Config,
    pub(crate) instances: Instances<P>,
    pub(crate) readers: Readers,
    /// Who waits for an instance, and came by it as a reader: in a section of these since then.
    #[cfg(feature = "removal")]
    pub(crate) waiters: Readers,
    pub(crate) quarantine: Quarantine,
    /// Whether a domain that counts its devices' faults was ever created.
    pub(crate) faults_count: AtomicBool,
    /// PASIDs of processes, and those lent to callers. A lock of its own: a space may end, and give its PASID back,
    /// with or without the configuration mutex held.
    #[cfg(feature = "pasids")]
    pub(crate) pasids: SpinLock<Ids>,
    /// The one lock: attach, detach, bind, release, add, remove. Held across waits for hardware.
    pub(crate) configuration: Mutex<P::Mutex, Configuration<P>>,
}

/// An SMMU in use, of an [`Iommu`].
///
/// A handle: clones are the same SMMU, such as one for its interrupt handler.
pub struct Smmu<P: Platform> {
    pub(crate) core: Shared<Core<P>>,
    pub(crate) id: InstanceId,
}

impl<P: Platform> Clone for Iommu<P> {
    fn clone(&self) -> Self {
        Self { core: self.core.clone() }
    }
}

impl<P: Platform> Clone for Smmu<P> {
    fn clone(&self) -> Self {
        Self::new(self.core.clone(), self.id)
    }
}

impl<P: Platform> Drop for Smmu<P> {
    fn drop(&mut self) {
        self.core.instances.let_go(self.id);
    }
}

impl<P: Platform> Iommu<P> {
    /// An `Iommu` without instances.
    ///
    /// # Errors
    /// See [`IommuError`].
    pub fn new(platform: P, config: Config) -> Result<Self, IommuError> {
        config.check()?;
        let cpus = platform.max_cpus();
        let readers = Readers::new(cpus)?;
        let vmids = Partition {
            banks: config.banks,
            stage_2: config.stage_2_vmids,
            hypervisor: config.hypervisor_vmids,
        };
        let asids = Asids::new(config.asid_policy, vmids, config.cpu)?;
        let quarantine = Quarantine::new(&platform)?;
        let core = Core {
            platform,
            config,
            instances: Instances::new(),
            readers,
            #[cfg(feature = "removal")]
            waiters: Readers::new(cpus)?,
            quarantine,
            faults_count: AtomicBool::new(false),
            #[cfg(feature = "pasids")]
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
        let mut probed = Probed::new(mmio, config)?;
        self.core.wrong_features(&mut probed.features, &config);
        Ok(Probe { core: self.core.clone(), probed, kept: Kept::new(), adopted: None })
    }

    /// All SMMUs in use, in the order of their numbers. Each is looked for when it is the next's turn.
    pub fn smmus(&self) -> impl Iterator<Item = Smmu<P>> {
        (0..MOST_INSTANCES).filter_map(|index| self.smmu_of(index, |_| true))
    }

    /// The SMMU that is called `id`; `None` once it was removed.
    pub fn smmu(&self, id: InstanceId) -> Option<Smmu<P>> {
        self.smmu_of(id.index(), |found| found == id)
    }

    fn smmu_of(&self, index: usize, is_it: impl Fn(InstanceId) -> bool) -> Option<Smmu<P>> {
        let core = &self.core;
        // Under the mutex nobody removes it, so that there is a handle already or nobody else can do without.
        core.configuration.with(|configuration| {
            let id = core.instances.id(index);
            let removed = configuration.asids.removed();
            core.instances.at(index).filter(|_| removed & id.bit() == 0 && is_it(id))?;
            Some(Smmu::new(core.clone(), id))
        })
    }

    /// An empty address space, for any of the instances enabled so far.
    ///
    /// # Errors
    /// See [`CreateError`].
    pub fn create_domain(&self, config: DomainConfig) -> Result<Domain<P>, CreateError> {
        self.core.quarantine.reserve(&self.core.platform)?;
        let core = &self.core;
        core.configuration.with(|configuration| Domain::new(core.clone(), configuration, config))
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

    /// Whose a stream is, such as that of an [`Event`](crate::Event): the number of the master ([`Master::id`]). It looks at
    /// few of the streams that there are, and allocates nothing.
    ///
    /// Takes the operating system's lock: it is for a thread that may sleep, not for a handler of interrupts or the sink of
    /// [`Iommu::handle_interrupt`], which leaves what it was told to such a thread. It waits for whoever has the lock, such as an
    /// attach that waits for its SMMU, as long as [`InstanceConfig::deadline`] lets that be, or for a device
    /// ([`InstanceConfig::device_deadline`]). Whoever has to know at once keeps a map of its own: streams and numbers change
    /// by its own calls of [`Iommu::add_master`] and [`Master::close`] alone.
    pub fn master_of(&self, instance: InstanceId, stream: StreamId) -> Option<usize> {
        self.core.configuration.with(|configuration| configuration.owners.of(instance, stream))
    }

    /// Reads what `smmu` has to say: events, page requests, and errors of its own. To be called when it raises an
    /// interrupt, or from time to time. At most `budget` records of each queue are looked at, as many devices told of
    /// that were cut off, and as many answers given that found no room before; returns whether more are waiting.
    ///
    /// May be called in interrupt context. `sink` runs with interrupts masked and the queue locked: it calls nothing of
    /// the driver, but may drop a [`Fault`](crate::Fault) or a [`PageGroup`](crate::PageGroup). What that leaves to do, because the command queue is
    /// full, is done by later calls: it counts as waiting.
    ///
    /// A device that goes wild can report faster than they are read, for ever. So a handler looks a bounded number of
    /// times, and leaves the rest to a thread, with the line masked until that has caught up:
    ///
    /// ```
    /// use smmuv3::{Interrupt, Iommu, Platform, Report, Smmu};
    ///
    /// /// Whether more is waiting: for a thread that calls this again, then unmasks the line.
    /// fn on_interrupt<P: Platform>(iommu: &Iommu<P>, smmu: &Smmu<P>, which: Interrupt) -> bool {
    ///     let mut keep = |report: Report<P>| { /* into a buffer */ };
    ///     (0..4).all(|_| iommu.handle_interrupt(smmu, which, 64, &mut keep))
    /// }
    /// ```
    #[must_use = "whether more is waiting: then it is to be called again"]
    pub fn handle_interrupt(
        &self,
        smmu: &Smmu<P>,
        which: Interrupt,
        budget: usize,
        sink: &mut dyn FnMut(Report<P>),
    ) -> bool {
        if smmu.core.instances.is_removed(smmu.id) {
            return false;
        }
        // The SMMU's own `Iommu` is used, whichever one was asked.
        let instance = smmu.hardware();
        let look = || crate::fault::handle(&smmu.core, smmu.id, instance, which, budget, sink);
        // A suspended SMMU has reported everything already.
        instance.commands().awake(&smmu.core.platform, look).unwrap_or(false)
    }
}

/// An SMMU whose features are known; [`Probe::enable`] takes it into use.
#[must_use]
pub struct Probe<P: Platform> {
    pub(crate) core: Shared<Core<P>>,
    pub(crate) probed: Probed<P>,
    /// Streams to be kept ([`Probe::keep`]), in the order of the calls.
    pub(crate) kept: Kept<P>,
    /// What [`Probe::adopt`] has found.
    pub(crate) adopted: Option<Found>,
}

impl<P: Platform> Probe<P> {
    /// What the SMMU can do.
    pub fn features(&self) -> &Features {
        self.probed.features()
    }

    /// Takes the SMMU into use: every stream aborts until its master is attached, but those of [`Probe::keep`]. After
    /// [`Probe::adopt`] the streams that it kept work on as they did, until their masters are attached or detached, or
    /// [`Iommu::end_adoption`].
    ///
    /// Until it has returned, firmware decides what devices reach: as a rule the SMMU is off and lets everything pass
    /// (GBPA), and some firmware leaves devices with DMA enabled. So SMMUs come first, and only then are devices
    /// allowed to use DMA (bus mastering of PCI functions) or told to.
    ///
    /// # Errors
    /// The probe, to try again, and why. After [`EnableError::Handshake`] and [`EnableError::Commands`] the SMMU was told
    /// to be off and to abort (with kept streams, if firmware had left it off, GBPA is as it was, and decides). After any
    /// other it was not touched: firmware still decides what devices reach, so they must not be allowed DMA.
    #[expect(clippy::result_large_err, reason = "the probe is handed back to be tried again")]
    pub fn enable(self) -> Result<Smmu<P>, Refused<Self, EnableError>> {
        let Self { core, probed, kept, adopted } = self;
        let enabled = core.configuration.with(|configuration| {
            core.reclaim();
            let Some(id) = core.instances.vacant() else {
                let error = EnableError::TooManyInstances { largest: MOST_INSTANCES };
                return Err(Refused { value: probed, error });
            };
            match core.enable(configuration, id, probed, &kept, adopted) {
                // There is a handle from the beginning: who finds the instance in `Iommu::smmus`, once the mutex is free, may
                // remove it at once.
                Ok(()) => Ok(Smmu::new(core.clone(), id)),
                Err(refused) => {
                    configuration.asids.take_back(id);
                    Err(refused)
                }
            }
        });
        match enabled {
            Ok(smmu) => Ok(smmu),
            // What `adopt` found is dropped: a second attempt has to look anew, or to do without.
            Err(refused) => Err(refused.map(|probed| {
                let probed = probed.reconfigured();
                Self { core, probed, kept, adopted: None }
            })),
        }
    }
}

impl<P: Platform> Smmu<P> {
    /// A handle of `id`, for someone who has another, or has just added it and still has the mutex.
    pub(crate) fn new(core: Shared<Core<P>>, id: InstanceId) -> Self {
        core.instances.hold(id);
        Self { core, id }
    }

    /// Which it is.
    pub fn id(&self) -> InstanceId {
        self.id
    }

    /// What its configuration calls it.
    pub fn name(&self) -> &str {
        self.config().name.as_str()
    }

    /// What it can do, as far as it is used.
    pub fn features(&self) -> &Features {
        self.hardware().features()
    }

    /// How it is used.
    pub fn config(&self) -> &InstanceConfig {
        self.hardware().config()
    }

    /// Whether it does not answer, or does not work, and waits for [`Iommu::reset`]. It takes no lock.
    pub fn has_failed(&self) -> bool {
        self.hardware().commands().has_failed()
    }

    /// Whether it is suspended ([`Iommu::suspend`]). It takes no lock.
    pub fn is_suspended(&self) -> bool {
        self.hardware().commands().is_asleep()
    }

    /// Whether it was removed ([`Iommu::remove`]). It takes no lock.
    pub fn is_removed(&self) -> bool {
        self.core.instances.is_removed(self.id)
    }

    /// What happened so far, and what is in use. Takes the operating system's lock.
    pub fn statistics(&self) -> InstanceStatistics {
        let core = &self.core;
        let instance = self.hardware();
        core.configuration.with(|configuration| {
            let (asids, vmids) = configuration.asids.counts(self.id);
            let places = configuration.places.iter();
            let masters = || {
                let all = configuration.masters.iter().map(|(_, state)| state);
                all.filter(|state| state.instance == self.id)
            };
            let attached = |state: &MasterState| {
                state.others.iter().filter(|(_, slot)| !matches!(slot, Slot::Blocked)).count()
            };
            InstanceStatistics {
                commands: instance.commands().statistics(&core.platform),
                events: instance.events().statistics(&core.platform),
                pages: instance.gather().counts.statistics(),
                groups: instance.gather().pending.count(),
                stalls: instance.pending().count(),
                refused_stalls: instance.pending().refused(),
                masters: masters().count(),
                tags: places.filter(|(_, place)| place.instance == self.id).count(),
                asids,
                vmids,
                pasids: core.counts_of_pasids(),
                attached_pasids: masters().map(attached).sum(),
            }
        })
    }

    /// Its registers, queues and stream table, past all that keeps devices apart: for tests, and for whoever looks into what
    /// goes wrong. [`Smmu::features`], [`Smmu::config`], [`Smmu::has_failed`] and [`Smmu::statistics`] do without.
    ///
    /// It stays when the SMMU is removed, as all of the above does, for as long as there is a handle: off, and not to be told
    /// anything.
    ///
    /// # Safety
    /// Where methods take a platform, that is [`Iommu::platform`] and no other; where they take registers, those are
    /// [`Instance::mmio`]. Registers, queues and entries are read, not written, and the SMMU is not started or stopped. What
    /// commands are given is for the caller to answer for: the message of a CMD_SYNC is written to any memory, and a device
    /// that is told that its fault was handled goes on.
    ///
    /// ```compile_fail,E0133
    /// fn queue<P: smmuv3::Platform>(smmu: &smmuv3::Smmu<P>) -> &smmuv3::command_queue::CommandQueue {
    ///     smmu.instance().commands()
    /// }
    /// ```
    pub unsafe fn instance(&self) -> &Instance<P> {
        self.hardware()
    }

    /// What the driver does its work with.
    pub(crate) fn hardware(&self) -> &Instance<P> {
        match self.core.instances.get(self.id) {
            Some(instance) => instance,
            // The instance is stored before its number is in a handle, and freed only after the last handle.
            None => unreachable!("an SMMU in use has an instance"),
        }
    }
}

impl<P: Platform> Core<P> {
    /// See [`Probe::enable`]: the instance is `id` from then on. If it is refused, it may have ASIDs, which nobody has seen: the
    /// caller takes them back.
    #[expect(clippy::result_large_err, reason = "the probe is handed back to be tried again")]
    #[inline(never)]
    fn enable(
        &self,
        configuration: &mut Configuration<P>,
        id: InstanceId,
        probed: Probed<P>,
        kept: &Kept<P>,
        mut adopted: Option<Found>,
    ) -> Result<(), Refused<Probed<P>, EnableError>> {
        let platform = &self.platform;
        // SAFETY: looked through by `adopt`, whose caller says that it stays and can be reached.
        let table = adopted.as_mut().map(|found| unsafe { found.table() });
        let requests = adopted.as_mut().and_then(Found::take_requests);
        let take_memory = || {
            configuration.asids.add(id, probed.features())?;
            let place = try_box(MaybeUninit::uninit())?;
            // SAFETY: there is one platform only; `Smmu::instance` says so to whoever gets it from there.
            let parts = unsafe { Parts::new(platform, &probed, table) };
            Ok((place, parts.ok_or(NoMemory)?))
        };
        let (place, parts) = match take_memory() {
            Ok(memory) => memory,
            Err(NoMemory) => return Err(Refused { value: probed, error: EnableError::NoMemory }),
        };
        let put = |instance| Box::write(place, instance);
        // SAFETY: as above; the memory was taken for this, by what was probed.
        let mut instance = unsafe { probed.build(platform, parts, put) };
        instance.leave_out(self.left_out());
        let adopting = adopted.is_some();
        let adopted = adopted.map(|found| {
            let reuses = self.leaves_out(Mutation::ReuseLiveTag);
            if reuses { found.without_tags() } else { found }
        });
        let make_ready = || {
            let ready = keep::prepare(self, configuration, id, &instance, kept)?;
            let Some(found) = adopted else { return Ok((ready, Vec::new())) };
            let told = instance.cut_off_before(platform, found.cut_off());
            told.map_err(|NoMemory| EnableError::NoMemory)?;
            Ok((ready, configuration.reserve_adopted(id, found)?))
        };
        let (ready, others) = match make_ready() {
            Ok(ready) => ready,
            Err(error) => {
                // SAFETY: as above, and the SMMU was told of nothing; no entry is used beyond what has returned.
                let value = unsafe { instance.unbuild(platform, true) };
                return Err(Refused { value, error });
            }
        };
        let block = |instance: &Instance<P>| match others.is_empty() {
            true => Ok(()),
            false => adopt::block(self, instance, &others),
        };
        let started = if adopting {
            instance.start_adopting(platform, requests, block)
        } else {
            instance.start_first(platform, !kept.is_empty())
        };
        match started {
            Ok(()) => {
                self.quarantine.add(platform, id);
                self.instances.add(id, instance);
                keep::commit(self, configuration, id, ready);
                Ok(())
            }
            Err(NotStarted { error, off }) => {
                // SAFETY: as above, and `off` is what the SMMU has confirmed; entries of the table were used only until the call
                // returned.
                let value = unsafe { instance.unbuild(platform, off) };
                keep::undo(self, configuration, id, ready, off);
                configuration.disown(id);
                Err(Refused { value, error })
            }
        }
    }

    /// How many PASIDs somebody has, and how many are free.
    fn counts_of_pasids(&self) -> Numbers {
        #[cfg(feature = "pasids")]
        return self
            .pasids
            .with(&self.platform, |ids| Numbers { used: ids.used(), free: ids.free() });
        #[cfg(not(feature = "pasids"))]
        Numbers::default()
    }

    /// The tag that an invalidation of `target` names.
    #[inline]
    pub(crate) fn tag_of(&self, target: &Installed) -> Tag {
        if let Some(wrong) = self.wrong(target.tag) {
            return wrong;
        }
        target.tag
    }

    /// How a command for addresses names that tag, or one for the whole of it.
    #[inline(always)]
    pub(crate) fn name_of(&self, target: &Installed, whole: bool) -> u64 {
        if let Some(wrong) = self.wrong(target.tag) {
            return invalidate::named(wrong, whole);
        }
        if whole { invalidate::named(target.tag, true) } else { target.named }
    }
}

impl<P: Platform> Drop for Core<P> {
    fn drop(&mut self) {
        for (removed, instance) in self.instances.take_all() {
            if removed {
                // SAFETY: `remove`, or the suspend before it, saw the SMMU confirm that it is off. There is one platform only, and
                // entries are not used beyond the call that asks for them.
                unsafe { (*instance).dismantle(&self.platform) };
            }
            // Else it may be reading its tables and queues: they are the platform's memory, and never freed. What only the
            // driver looks at goes.
        }
    }
}

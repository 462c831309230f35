// SPDX-License-Identifier: MIT OR Apache-2.0
//! All SMMUs of a system as one: instances, masters, domains.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem::MaybeUninit;
use core::sync::atomic::AtomicBool;

use smmuv3_formats::{PhysAddr, StreamId};

use crate::adopt::{self, Found};
use crate::asid::{AsidPolicy, Asids, Cpu, Partition, Vmids};
use crate::configuration::Configuration;
use crate::domain::{CreateError, Domain, DomainConfig};
use crate::error::InstanceId;
use crate::fault::{Interrupt, Report};
use crate::features::{Features, Unsupported};
use crate::ids::Ids;
use crate::instance::{EnableError, Instance, InstanceConfig, NotStarted, Probed};
use crate::instances::{Instances, MOST_INSTANCES};
use crate::invalidate::{self, Tag};
#[cfg(feature = "mutation")]
use crate::invalidate::{Range, Regime, Scope};
use crate::keep::{self, Keep};
use crate::master::{AddMasterError, Master, MasterConfig, MasterState};
use crate::mutex::Mutex;
use crate::place::Slot;
use crate::platform::Platform;
use crate::quarantine::Quarantine;
use crate::refused::Refused;
use crate::shared::{NoMemory, Shared, try_box};
use crate::space::Installed;
use crate::spin::SpinLock;
use crate::statistics::{InstanceStatistics, Numbers};
use crate::stream_table::StreamTable;
use crate::targets::Readers;

/// Settings of an [`Iommu`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// How ASIDs are chosen.
    pub asid_policy: AsidPolicy,
    /// The VMIDs that [`AsidPolicy::Banked`] may use as banks, beside the CPU's: nobody else uses them on any of
    /// the instances. Those that an instance is too narrow for are left out there.
    pub banks: Vmids,
    /// The VMIDs that domains of stage 2 may be given, but for those that are banks, the CPU's, or the hypervisor's.
    /// Those that an instance is too narrow for are left out there.
    pub stage_2_vmids: Vmids,
    /// The VMIDs that a hypervisor gives its guests, which [`DomainConfig::vmid`] may name. One that is a bank, or the
    /// CPU's, is not among them.
    pub hypervisor_vmids: Vmids,
    /// The CPUs whose processes devices may share.
    pub cpu: Cpu,
    /// Bits of the PASIDs that are given out, 6 to 20.
    pub pasid_bits: u32,
    /// A step to leave out: for tests of the oracle only.
    #[cfg(feature = "mutation")]
    pub mutation: Option<crate::Mutation>,
}

/// An ASID of its own for each domain on each instance; VMIDs 1 to 255 for banks, all that are left for stage 2, none for
/// the hypervisor; CPUs with 16-bit ASIDs, a kernel in
/// EL1, and VMID 0; PASIDs of 16 bits.
impl Default for Config {
    fn default() -> Self {
        Self {
            asid_policy: AsidPolicy::PerInstance,
            banks: Vmids { first: 1, last: 255 },
            stage_2_vmids: Vmids { first: 1, last: u16::MAX },
            hypervisor_vmids: Vmids::NONE,
            cpu: Cpu { asid_bits: 16, el2_host: false, vmid: 0 },
            pasid_bits: 16,
            #[cfg(feature = "mutation")]
            mutation: None,
        }
    }
}

impl Config {
    /// Whether a domain may have `vmid` because it is the hypervisor's.
    pub(crate) fn is_hypervisors(&self, vmid: u16) -> bool {
        let is_bank = self.asid_policy == AsidPolicy::Banked && self.banks.contains(vmid);
        self.hypervisor_vmids.contains(vmid) && !is_bank && vmid != self.cpu.vmid && vmid != 0
    }
}

/// The SMMUs of a system, driven as one.
///
/// A handle: clones are the same `Iommu`. Everything it hands out keeps it alive.
pub struct Iommu<P: Platform> {
    pub(crate) core: Shared<Core<P>>,
}

/// What all handles share.
pub(crate) struct Core<P: Platform> {
    pub(crate) platform: P,
    pub(crate) config: Config,
    pub(crate) instances: Instances<P>,
    pub(crate) readers: Readers,
    pub(crate) quarantine: Quarantine,
    /// Some domain counts the faults of its devices, or did.
    pub(crate) faults_count: AtomicBool,
    /// Of processes, and of callers. A lock of its own, because spaces end under the other one, too.
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
        Self { core: self.core.clone(), id: self.id }
    }
}

impl<P: Platform> Iommu<P> {
    /// An `Iommu` without instances.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn new(platform: P, config: Config) -> Result<Self, NoMemory> {
        let readers = Readers::new(platform.max_cpus())?;
        let vmids = Partition {
            banks: config.banks,
            stage_2: config.stage_2_vmids,
            hypervisor: config.hypervisor_vmids,
        };
        let asids = Asids::new(config.asid_policy, vmids, config.cpu)?;
        let core = Core {
            platform,
            config,
            instances: Instances::new(),
            readers,
            quarantine: Quarantine::new()?,
            faults_count: AtomicBool::new(false),
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
        let probed = Probed::new(mmio, config)?;
        Ok(Probe { core: self.core.clone(), probed, kept: Vec::new(), adopted: None })
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

    /// Reads what `smmu` has to say: events, page requests, and errors of its own. To be called when it raises an
    /// interrupt, or from time to time. At most `budget` records of each queue are looked at, and as many devices told of
    /// that were cut off; returns whether more are waiting.
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
        // The SMMU's own, whichever `Iommu` was asked.
        let instance = smmu.instance();
        let look = || crate::fault::handle(&smmu.core, smmu.id, instance, which, budget, sink);
        // One that is suspended has said everything.
        instance.commands().awake(&smmu.core.platform, look).unwrap_or(false)
    }
}

/// An SMMU whose features are known; [`Probe::enable`] takes it into use.
#[must_use]
pub struct Probe<P: Platform> {
    pub(crate) core: Shared<Core<P>>,
    pub(crate) probed: Probed<P>,
    /// Streams that it keeps, in the order in which that was asked for.
    pub(crate) kept: Vec<Keep<P>>,
    /// What it goes on with.
    pub(crate) adopted: Option<Found>,
}

impl<P: Platform> Probe<P> {
    /// What the SMMU can do.
    pub fn features(&self) -> &Features {
        self.probed.features()
    }

    /// Takes the SMMU into use: every stream aborts until its master is attached, but those of [`Probe::keep`].
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
        let Self { core, probed, kept, mut adopted } = self;
        let enabled = core.configuration.with(|configuration| {
            let Some(id) = core.instances.vacant() else {
                let error = EnableError::TooManyInstances { largest: MOST_INSTANCES };
                return Err(Refused { value: probed, error });
            };
            let Ok(asids) = configuration.asids.prepare(probed.features()) else {
                return Err(Refused { value: probed, error: EnableError::NoMemory });
            };
            let place = match try_box(MaybeUninit::uninit()) {
                Ok(place) => place,
                Err(NoMemory) => {
                    return Err(Refused { value: probed, error: EnableError::NoMemory });
                }
            };
            // SAFETY: there is one platform only; `Smmu::instance` says so to whoever gets it from there.
            let table = adopted.as_mut().map(|found| {
                let (base, leaves) = (PhysAddr(found.base), core::mem::take(&mut found.leaves));
                // SAFETY: looked through by `adopt`, whose caller says that it stays and can be reached.
                unsafe { StreamTable::adopt(base, found.log2, found.split, leaves) }
            });
            let requests = adopted.as_mut().and_then(|found| found.requests.take());
            // SAFETY: as above.
            let instance = unsafe { probed.build_on(&core.platform, table) }?;
            #[cfg(feature = "mutation")]
            let instance = {
                use crate::command_queue::Wrong;
                let mut instance = instance;
                if core.leaves_out(crate::Mutation::NoSync) {
                    instance.spoil(Wrong::Omitted);
                }
                if core.leaves_out(crate::Mutation::SyncElsewhere) {
                    instance.spoil(Wrong::Elsewhere);
                }
                if core.leaves_out(crate::Mutation::LateMessages) {
                    instance.spoil(Wrong::LateMessages);
                }
                instance.leave_out(core.config.mutation);
                instance
            };
            // Taken back if it does not start: nobody else sees them before that.
            configuration.asids.add(asids);
            let ready = match keep::prepare(&core, configuration, id, &instance, &kept) {
                Ok(ready) => ready,
                Err(error) => {
                    configuration.asids.take_back();
                    // SAFETY: as above; `prepare` uses no entry beyond its return.
                    let value = unsafe { instance.unbuild(&core.platform) };
                    return Err(Refused { value, error });
                }
            };
            let adopting = adopted.is_some();
            #[cfg(feature = "mutation")]
            let adopted = adopted.map(|found| {
                let reuses = core.leaves_out(crate::Mutation::ReuseLiveTag);
                if reuses { Found { tags: Vec::new(), vmids: Vec::new(), ..found } } else { found }
            });
            let others = match adopted {
                None => Vec::new(),
                Some(found) => match configuration.reserve_adopted(id, found) {
                    Ok(others) => others,
                    Err(error) => {
                        configuration.asids.take_back();
                        // SAFETY: as above.
                        let value = unsafe { instance.unbuild(&core.platform) };
                        return Err(Refused { value, error });
                    }
                },
            };
            let platform = &core.platform;
            let block = |instance: &Instance<P>| match others.is_empty() {
                true => Ok(()),
                false => adopt::block(&core, instance, &others),
            };
            let started = if adopting {
                // SAFETY: as above; entries of the table are used only until the call returns.
                unsafe { instance.start_adopting(platform, requests, block) }
            } else {
                // SAFETY: as above.
                unsafe { instance.start_first(platform, !kept.is_empty()) }
            };
            match started {
                Ok(instance) => {
                    core.instances.add(id, Box::write(place, instance));
                    keep::commit(&core, configuration, id, ready);
                    Ok(id)
                }
                Err(NotStarted { probed, error, off }) => {
                    keep::undo(&core, configuration, id, ready, off);
                    configuration.disown(id);
                    configuration.asids.take_back();
                    Err(Refused { value: probed, error })
                }
            }
        });
        match enabled {
            Ok(id) => Ok(Smmu { core, id }),
            // What was found of a predecessor is not believed twice, and holds nobody back.
            Err(refused) => Err(refused.map(|probed| {
                let probed = probed.reconfigured();
                Self { core, probed, kept, adopted: None }
            })),
        }
    }
}

impl<P: Platform> Smmu<P> {
    /// Its number.
    pub fn id(&self) -> InstanceId {
        self.id
    }

    /// What its configuration calls it.
    pub fn name(&self) -> &str {
        self.config().name.as_str()
    }

    /// What it can do, as far as it is used.
    pub fn features(&self) -> &Features {
        self.instance().features()
    }

    /// How it is used.
    pub fn config(&self) -> &InstanceConfig {
        self.instance().config()
    }

    /// What happened so far, and what is in use. Takes the operating system's lock.
    pub fn statistics(&self) -> InstanceStatistics {
        let core = &self.core;
        let instance = self.instance();
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
                masters: masters().count(),
                tags: places.filter(|(_, place)| place.instance == self.id).count(),
                asids,
                vmids,
                pasids: core
                    .pasids
                    .with(&core.platform, |ids| Numbers { used: ids.used(), free: ids.free() }),
                substreams: masters().map(attached).sum(),
            }
        })
    }

    /// Its hardware: registers, queues, stream table. Where methods take a platform, that is [`Iommu::platform`] and no
    /// other.
    ///
    /// It stays when the SMMU is removed, as all of the above does: off, and not to be told anything.
    pub fn instance(&self) -> &Instance<P> {
        match self.core.instances.get(self.id) {
            Some(instance) => instance,
            // There before its number was given to a handle; freed when the last handle is gone.
            None => unreachable!("an SMMU in use has an instance"),
        }
    }
}

impl<P: Platform> Core<P> {
    /// The tag that an invalidation of `target` names.
    #[inline]
    pub(crate) fn tag_of(&self, target: &Installed) -> Tag {
        #[cfg(feature = "mutation")]
        if let Some(wrong) = self.wrong(target.tag) {
            return wrong;
        }
        target.tag
    }

    /// How a command for addresses names that tag, or one for the whole of it.
    #[inline(always)]
    pub(crate) fn name_of(&self, target: &Installed, whole: bool) -> u64 {
        #[cfg(feature = "mutation")]
        if let Some(wrong) = self.wrong(target.tag) {
            return invalidate::named(wrong, whole);
        }
        if whole { invalidate::named(target.tag, true) } else { target.named }
    }
}

#[cfg(feature = "mutation")]
impl<P: Platform> Core<P> {
    pub(crate) fn leaves_out(&self, mutation: crate::Mutation) -> bool {
        self.config.mutation == Some(mutation)
    }

    /// A guest's entry as a wrong driver would have it.
    pub(crate) fn without_merging(
        &self,
        nested: Option<smmuv3_formats::Ste>,
    ) -> Option<smmuv3_formats::Ste> {
        let wrong = self.leaves_out(crate::Mutation::NoMerging);
        nested.map(|ste| ste.with_mev(ste.mev() && !wrong))
    }

    /// The tag that a wrong driver would name instead.
    fn wrong(&self, tag: Tag) -> Option<Tag> {
        let is_stage_2 = tag.regime == Regime::Stage2;
        Some(match self.config.mutation? {
            crate::Mutation::WrongAsid if !is_stage_2 => Tag { asid: tag.asid ^ 0x40, ..tag },
            crate::Mutation::El2AsEl1 if tag.regime == Regime::El2 => Tag::el1(0, tag.asid),
            crate::Mutation::WrongVmid if is_stage_2 => Tag { vmid: tag.vmid ^ 0x40, ..tag },
            crate::Mutation::Stage2ByAsid if is_stage_2 => Tag::el1(tag.vmid, 0),
            _ => return None,
        })
    }

    /// What a wrong driver would invalidate instead.
    pub(crate) fn wrong_scope(&self, scope: Scope) -> Scope {
        match scope {
            Scope::Range(range) if self.leaves_out(crate::Mutation::LeafOnly) => {
                Scope::Range(Range { leaf_only: true, ..range })
            }
            scope => scope,
        }
    }

    /// What a wrong driver would have the entry `words` of a stream say.
    pub(crate) fn entry_of(&self, words: crate::update::Words) -> crate::update::Words {
        let ste = smmuv3_formats::Ste(words);
        let full = self.leaves_out(crate::Mutation::SplitAsFull) && ste.eats() == crate::ats::SPLIT;
        if full { ste.with_eats(1).0 } else { words }
    }

    /// What a wrong driver would make of a guest's command.
    pub(crate) fn forwarded(&self, command: smmuv3_formats::Command) -> smmuv3_formats::Command {
        let named = |field, mutation| command.field(field).is_some() && self.leaves_out(mutation);
        let [first, second] = command.0;
        let first = if named("VMID", crate::Mutation::GuestsVmid) {
            // Guests name none.
            first & !(0xffff << 32)
        } else if named("SID", crate::Mutation::GuestsStream) {
            first ^ 1 << 32
        } else {
            first
        };
        smmuv3_formats::Command([first, second])
    }

    /// Whether a wrong driver would give `tag` back without an invalidation.
    pub(crate) fn leaves_out_flush(&self, tag: Tag) -> bool {
        let of_stage_2 = tag.regime == Regime::Stage2;
        self.leaves_out(crate::Mutation::NoTagFlush) && !of_stage_2
            || self.leaves_out(crate::Mutation::NoVmidFlush) && of_stage_2
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
                // SAFETY: `remove`, or the suspend before it, saw the SMMU confirm that it is off. There is one platform only, and
                // entries are not used beyond the call that asks for them.
                unsafe { (*instance).dismantle(&self.platform) };
            }
            // Else it may be reading its tables and queues: they are the platform's memory, and never freed. What only the
            // driver looks at goes.
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! All SMMUs of a topology in use.

use alloc::vec::Vec;
use core::fmt;

use smmuv3::features::Unsupported;
use smmuv3::{
    AddMasterError, Coherence, Completion, Domain, EnableError, InstanceConfig, InstanceId,
    Interrupt, Iommu, Master, MasterConfig, Messages, NoMemory, Overridden, Platform, Probe, Smmu,
    StreamId,
};

use crate::device::{Device, InstanceIndex, LookupError};
use crate::instance::{Instance, Line, Region};
use crate::keep::{self, NotKept};
use crate::kept::Kept;
use crate::memory::push;
use crate::topology::Topology;

/// Why an SMMU is not in use. Its devices cannot be made masters. What they can do, firmware decides, as it left the SMMU,
/// which was not touched, except after two errors of [`BringUpError::Enable`]: so devices behind an SMMU in
/// [`System::failures`] are not to be given bus mastering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BringUpError {
    /// No registers were given.
    NoRegisters,
    /// Firmware has no such SMMU.
    NoSuchInstance,
    /// Its registers are fewer than an SMMUv3 has, or begin where they cannot: nobody was asked for them.
    Registers {
        /// Their base.
        base: u64,
        /// Their size in bytes.
        len: u64,
    },
    /// Its registers are also those of an earlier SMMU: nobody was asked for them.
    RegistersTwice {
        /// The other.
        other: InstanceIndex,
    },
    /// It lacks what the driver needs.
    Unsupported(Unsupported),
    /// It did not come up. After [`EnableError::Handshake`] and [`EnableError::Commands`], it was told to be off and to
    /// abort (with kept streams, if firmware had left it off, GBPA stays as it was). After any other, it was not touched,
    /// and firmware decides.
    Enable(EnableError),
}

impl fmt::Display for BringUpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRegisters => f.write_str("no registers were given"),
            Self::NoSuchInstance => f.write_str("firmware has no such SMMU"),
            Self::Registers { base, len } => {
                write!(f, "{len:#x} bytes at {base:#x} are no registers of an SMMUv3")
            }
            Self::RegistersTwice { other } => write!(f, "its registers are also those of {other}"),
            Self::Unsupported(unsupported) => unsupported.fmt(f),
            Self::Enable(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for BringUpError {}

/// Why a device did not become a master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MasterError {
    /// Its streams are not known.
    Lookup(LookupError),
    /// The SMMU that it is behind is not in use.
    Down {
        /// The SMMU.
        instance: InstanceIndex,
        /// Why.
        why: BringUpError,
    },
    /// The driver refused it. [`AddMasterError::Taken`]: it is a master already, or shares a stream with a device that
    /// is; such devices have one [`Master`] between them.
    Add(AddMasterError),
}

impl fmt::Display for MasterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lookup(error) => error.fmt(f),
            Self::Down { instance, why } => write!(f, "{instance} is not in use: {why}"),
            Self::Add(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for MasterError {}

impl From<LookupError> for MasterError {
    fn from(error: LookupError) -> Self {
        Self::Lookup(error)
    }
}

/// A master that was kept while its SMMU was enabled, and the domain that it is attached to.
pub type KeptMaster<P> = (Master<P>, Domain<P>);

/// The SMMUs of a [`Topology`], in use as far as they came up, and the way from a device to its master.
pub struct System<P: Platform> {
    iommu: Iommu<P>,
    topology: Topology,
    /// One for each instance.
    smmus: Vec<Result<Smmu<P>, BringUpError>>,
    /// Places in the list of kept memory, for the streams on this instance.
    not_kept: Vec<(InstanceIndex, usize, NotKept)>,
}

impl Topology {
    /// Takes all SMMUs into use, in order: all streams abort until their masters are attached.
    ///
    /// `registers` maps the registers of an SMMU ([`Instance::registers`], which are all of them, and no other SMMU's, where
    /// it is asked) and hands them over; `None` leaves that SMMU alone. `configure` may change how it is used. Interrupts are off,
    /// and completion is polled, where firmware names no line for them, unless `configure` makes them
    /// [messages](InstanceConfig::messages). If one SMMU is not coherent ([`Topology::coherent`]), all are used as not coherent
    /// ([`Coherence`]): the platform has one kind of memory for all of them.
    ///
    /// An SMMU that does not come up does not keep the others from it, nor the machine from running: each has a result
    /// of its own ([`System::smmu`], [`System::failures`]). Nothing is undone for it either: SMMUs that are up abort what
    /// has no master, which is safer than what firmware left, and a kernel that wants all or nothing can
    /// [`Iommu::remove`] them.
    ///
    /// Streams that firmware left working ([`Topology::kept`]) abort like all others, unless
    /// [`Topology::claim_kept`] said otherwise: those go on without a gap, if the SMMU can do it
    /// ([`System::not_kept`]), and nothing else than that memory can be reached by them.
    ///
    /// # Errors
    /// [`NoMemory`], before any SMMU was touched.
    pub fn bring_up<P: Platform>(
        self,
        iommu: &Iommu<P>,
        mut registers: impl FnMut(&Instance) -> Option<P::Mmio>,
        mut configure: impl FnMut(&Instance, &mut InstanceConfig),
    ) -> Result<System<P>, NoMemory> {
        let mut smmus = Vec::new();
        smmus.try_reserve_exact(self.instances.len()).map_err(|_| NoMemory)?;
        let mut keeps = Vec::new();
        let mut not_kept = Vec::new();
        // One for each entry and instance that it has streams on, at most.
        let most = self.kept.iter().map(|kept| kept.streams.len()).sum();
        not_kept.try_reserve_exact(most).map_err(|_| NoMemory)?;
        for index in 0..self.instances.len() {
            push(&mut keeps, keep::groups(&self, InstanceIndex(index), &mut not_kept)?)?;
        }
        // They have one platform, whose memory is one or the other to all of them.
        let coherence = if self.coherent() { Coherence::Yes } else { Coherence::No };
        for ((index, instance), groups) in self.instances.iter().enumerate().zip(&keeps) {
            let earlier = self.instances.iter().take(index);
            let registers = check(instance, earlier)
                .and_then(|()| registers(instance).ok_or(BringUpError::NoRegisters));
            let probed =
                registers.and_then(|all| probe(iommu, instance, all, coherence, &mut configure));
            let up = probed.and_then(|mut probe| {
                keep::keep(&mut probe, InstanceIndex(index), groups, &mut not_kept);
                probe.enable().map_err(|refused| BringUpError::Enable(refused.error))
            });
            // There is room.
            smmus.push(up);
        }
        Ok(System { iommu: iommu.clone(), topology: self, smmus, not_kept })
    }
}

/// Whether `instance` has registers that are an SMMUv3's, and its own.
fn check<'a>(
    instance: &Instance,
    earlier: impl Iterator<Item = &'a Instance>,
) -> Result<(), BringUpError> {
    if !instance.has_registers() {
        let Region { base, len } = instance.registers;
        return Err(BringUpError::Registers { base, len });
    }
    let mut earlier = earlier.enumerate();
    let twice = earlier.find(|(_, other)| other.registers.overlaps(&instance.registers));
    match twice {
        Some((at, _)) => Err(BringUpError::RegistersTwice { other: InstanceIndex(at) }),
        None => Ok(()),
    }
}

fn probe<P: Platform>(
    iommu: &Iommu<P>,
    instance: &Instance,
    registers: P::Mmio,
    coherence: Coherence,
    configure: &mut impl FnMut(&Instance, &mut InstanceConfig),
) -> Result<Probe<P>, BringUpError> {
    let mut config = InstanceConfig::named(instance.short_name());
    config.interrupts = instance.interrupts.lines(Completion::Poll).next().is_some();
    config.coherent = coherence;
    config.firmware = instance.firmware();
    configure(instance, &mut config);
    // Firmware need not name wires for what is told by messages.
    let Messages { events, errors, page_requests, .. } = config.messages;
    let wired = instance.interrupts.lines(Completion::Poll).next().is_some();
    config.interrupts |= !wired && [events, errors, page_requests].iter().any(Option::is_some);
    let told = instance.interrupts.sync.is_some() || config.messages.sync.is_some();
    if config.completion == Completion::Interrupt && !told {
        config.completion = Completion::Poll;
    }
    iommu.probe(registers, config).map_err(BringUpError::Unsupported)
}

impl<P: Platform> System<P> {
    /// The driver.
    pub fn iommu(&self) -> &Iommu<P> {
        &self.iommu
    }

    /// What firmware says.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// An SMMU.
    ///
    /// # Errors
    /// Why it is not in use.
    pub fn smmu(&self, index: InstanceIndex) -> Result<&Smmu<P>, BringUpError> {
        match self.smmus.get(index.0) {
            Some(Ok(smmu)) => Ok(smmu),
            Some(Err(error)) => Err(*error),
            None => Err(BringUpError::NoSuchInstance),
        }
    }

    /// Those that are in use, with what firmware says of them.
    pub fn smmus(&self) -> impl Iterator<Item = (InstanceIndex, &Instance, &Smmu<P>)> {
        let all = self.topology.instances.iter().zip(&self.smmus).enumerate();
        all.filter_map(|(index, (instance, smmu))| {
            Some((InstanceIndex(index), instance, smmu.as_ref().ok()?))
        })
    }

    /// Those that are not, and why. Devices behind them are not to be given bus mastering: see [`BringUpError`].
    pub fn failures(&self) -> impl Iterator<Item = (InstanceIndex, &Instance, BringUpError)> {
        let all = self.topology.instances.iter().zip(&self.smmus).enumerate();
        all.filter_map(|(index, (instance, smmu))| {
            Some((InstanceIndex(index), instance, *smmu.as_ref().err()?))
        })
    }

    /// Where the ID registers of those in use say otherwise than what counts: firmware's word, of HTTU and of coherence
    /// ([`Instance::firmware`], [`Topology::coherent`]), or that of whoever configured them. One of both is wrong, or an
    /// SMMU is used as not coherent for another's sake: to be told to people, as what `Topology::check` finds.
    pub fn overridden(&self) -> impl Iterator<Item = (InstanceIndex, &Instance, Overridden)> {
        self.smmus().flat_map(|(index, instance, smmu)| {
            smmu.features().overridden().map(move |field| (index, instance, field))
        })
    }

    /// Whose interrupt `intid` is, and what [`Iommu::handle_interrupt`] is to be called with. Several SMMUs can share one.
    pub fn raised_by(&self, intid: u32) -> impl Iterator<Item = (&Smmu<P>, Interrupt)> {
        self.smmus().flat_map(move |(_, instance, smmu)| {
            let lines = instance.interrupts.lines(smmu.config().completion);
            let lines = lines.filter(move |(line, _)| line.intid == intid);
            lines.map(move |(_, which)| (smmu, which))
        })
    }

    /// The lines to enable, with whose they are: what [`System::raised_by`] knows. One that several share comes as often.
    pub fn lines(&self) -> impl Iterator<Item = (Line, &Smmu<P>, Interrupt)> {
        self.smmus().flat_map(|(_, instance, smmu)| {
            let lines = instance.interrupts.lines(smmu.config().completion);
            lines.map(move |(line, which)| (line, smmu, which))
        })
    }

    /// Which device issues `stream` to the SMMU that the driver knows by `instance`, as events and errors name both
    /// ([`Smmu::id`]); see [`Topology::device_of`]. May be called in interrupt context.
    pub fn device_of(&self, instance: InstanceId, stream: StreamId) -> Option<Device<'_>> {
        let (index, ..) = self.smmus().find(|(_, _, smmu)| smmu.id() == instance)?;
        self.topology.device_of(index, stream)
    }

    /// Makes `device` a master, with all its streams. It stays blocked until it is attached.
    ///
    /// # Errors
    /// See [`MasterError`]. A device that is asked for twice is an error the second time
    /// ([`AddMasterError::Taken`]): there is one [`Master`] for it, which whoever asked first has.
    pub fn master(&self, device: Device<'_>) -> Result<Master<P>, MasterError> {
        self.master_with(device, MasterConfig::default())
    }

    /// As [`System::master`], used as `config` says.
    ///
    /// # Errors
    /// As [`System::master`].
    pub fn master_with(
        &self,
        device: Device<'_>,
        config: MasterConfig,
    ) -> Result<Master<P>, MasterError> {
        let (instance, streams) = self.topology.streams_of(device)?;
        let smmu = self.smmu(instance).map_err(|why| MasterError::Down { instance, why })?;
        self.iommu.add_master(smmu, &streams, config).map_err(MasterError::Add)
    }

    /// The master that was kept and has a stream of `device`, attached, with its domain, in which its memory is mapped at
    /// its own addresses. `None` when nothing of it was kept, or somebody has taken it.
    ///
    /// Streams in the same entries of [`Topology::kept`] are one master, whichever devices they belong to.
    ///
    /// # Errors
    /// See [`MasterError`].
    pub fn take_kept(&self, device: Device<'_>) -> Result<Option<KeptMaster<P>>, MasterError> {
        let (instance, streams) = self.topology.streams_of(device)?;
        let smmu = self.smmu(instance).map_err(|why| MasterError::Down { instance, why })?;
        Ok(streams.iter().find_map(|stream| self.iommu.take_kept(smmu, *stream)))
    }

    /// Memory whose streams were not kept, with the SMMU that they are behind, and why: they abort, as far as that SMMU is
    /// in use.
    pub fn not_kept(&self) -> impl Iterator<Item = (InstanceIndex, &Kept, NotKept)> {
        let of = |(instance, at, why): &(InstanceIndex, usize, NotKept)| {
            Some((*instance, self.topology.kept.get(*at)?, *why))
        };
        self.not_kept.iter().filter_map(of)
    }
}

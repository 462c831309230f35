// SPDX-License-Identifier: MIT OR Apache-2.0
//! What firmware says, wherever it says it.

use alloc::vec::Vec;
use core::fmt;

use smmuv3::{NoMemory, StreamId};

use crate::device::{Device, InstanceIndex, LookupError, StreamIds};
use crate::device_tree::BlobError;
use crate::finding::{Finding, What};
use crate::instance::{Instance, Region};
use crate::iort::{Iort, IortError};
use crate::kept::Kept;
use crate::mapping::{Mapping, Target, look_up};
use crate::memory::{format, push};
use crate::monitor::Monitor;
use crate::msi::{Doorbell, DoorbellKind, Msi, MsiMapping};
use crate::root::{Named, Root};

/// Findings beyond this many are counted as one.
pub(crate) const MOST_FINDINGS: usize = 256;

/// IDs that [`Topology::device_of`] asks for on one bus, where several have the stream.
const MOST_IDS: usize = 16;

/// Streams that one device can have.
const MOST_STREAMS: usize = 1024;

/// Streams that can be kept, all together, and nodes that say so.
pub(crate) const MOST_KEPT_STREAMS: u64 = 8192;
pub(crate) const MOST_KEPT: usize = 1024;

/// Which SMMUs there are, what is behind them, and what must be left alone.
///
/// A copy: the device tree or table that it was read from can go.
#[derive(Debug, Default)]
pub struct Topology {
    pub(crate) instances: Vec<Instance>,
    pub(crate) roots: Vec<Root>,
    pub(crate) devices: Vec<Named>,
    pub(crate) kept: Vec<Kept>,
    pub(crate) doorbells: Vec<Doorbell>,
    pub(crate) monitors: Vec<Monitor>,
    /// Streams to DeviceIDs, in an IORT.
    pub(crate) stream_msi: Vec<(InstanceIndex, MsiMapping)>,
    pub(crate) findings: Vec<Finding>,
    /// How many are kept.
    kept_streams: u64,
}

/// Why a topology cannot be read at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadError {
    /// No memory.
    NoMemory,
    /// The blob is no device tree.
    DeviceTree(BlobError),
    /// The table cannot be walked from node to node.
    Iort(IortError),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMemory => f.write_str("no memory"),
            Self::DeviceTree(error) => error.fmt(f),
            Self::Iort(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ReadError {}

impl From<NoMemory> for ReadError {
    fn from(_: NoMemory) -> Self {
        Self::NoMemory
    }
}

impl From<BlobError> for ReadError {
    fn from(error: BlobError) -> Self {
        Self::DeviceTree(error)
    }
}

impl From<IortError> for ReadError {
    fn from(error: IortError) -> Self {
        Self::Iort(error)
    }
}

impl Topology {
    /// Reads a flattened device tree. `blob` may be longer than the tree, as it is where firmware left room.
    ///
    /// What is odd is not an error: see [`Topology::check`].
    ///
    /// # Errors
    /// [`ReadError`], when it is no device tree, or there is no memory.
    pub fn from_device_tree(blob: &[u8]) -> Result<Self, ReadError> {
        let mut topology = Self::default();
        crate::device_tree::read(&mut topology, blob)?;
        crate::check::check(&mut topology)?;
        Ok(topology)
    }

    /// Reads an IORT.
    ///
    /// What is odd is not an error: see [`Topology::check`].
    ///
    /// # Errors
    /// [`ReadError`], when the table cannot be walked, or there is no memory.
    pub fn from_iort(iort: &Iort<'_>) -> Result<Self, ReadError> {
        let mut topology = Self::default();
        crate::iort::read(&mut topology, iort)?;
        crate::check::check(&mut topology)?;
        Ok(topology)
    }

    /// The SMMUv3s, in the order of the tree or table.
    #[must_use]
    pub fn instances(&self) -> &[Instance] {
        &self.instances
    }

    /// The SMMUv3 at `index` of [`Topology::instances`]; `None` where there is none.
    #[must_use]
    pub fn instance(&self, index: InstanceIndex) -> Option<&Instance> {
        self.instances.get(index.0)
    }

    /// PCI roots, whether behind an SMMU or not.
    #[must_use]
    pub fn roots(&self) -> &[Root] {
        &self.roots
    }

    /// Devices with a node of their own that use an IOMMU.
    #[must_use]
    pub fn devices(&self) -> &[Named] {
        &self.devices
    }

    /// Memory that devices are using already.
    #[must_use]
    pub fn kept(&self) -> &[Kept] {
        &self.kept
    }

    /// What takes interrupt messages.
    #[must_use]
    pub fn doorbells(&self) -> &[Doorbell] {
        &self.doorbells
    }

    /// Groups of performance monitors.
    #[must_use]
    pub fn monitors(&self) -> &[Monitor] {
        &self.monitors
    }

    /// Whether all SMMUs are coherent with the CPUs' caches, so that `publish` has nothing to do but to order
    /// stores. If one is not, [`Topology::bring_up`] uses none of them as such.
    #[must_use]
    pub fn coherent(&self) -> bool {
        self.instances.iter().all(|instance| instance.coherent)
    }

    /// What is odd about what firmware says: found when it was read. Nothing of it keeps the rest from being used.
    #[must_use]
    pub fn check(&self) -> &[Finding] {
        &self.findings
    }

    /// [`Topology::check`], to keep.
    #[must_use]
    pub fn into_findings(self) -> Vec<Finding> {
        self.findings
    }

    /// Which SMMU `device` is behind, and the streams that it issues.
    ///
    /// # Errors
    /// See [`LookupError`]. When what firmware says leaves a doubt, it is an error, not a guess.
    pub fn streams_of(
        &self,
        device: Device<'_>,
    ) -> Result<(InstanceIndex, StreamIds), LookupError> {
        let mut streams = Streams { instance: None, ids: Vec::new(), foreign: false };
        match device {
            Device::Pci { segment, bus, .. } => {
                let id = requester(device).ok_or(LookupError::UnknownDevice)?;
                let mut found = None;
                let mut known = false;
                for root in self.roots_of(segment, bus) {
                    known = true;
                    let Some(answer) = look_up(root.mappings.iter(), id & root.mask)? else {
                        continue;
                    };
                    if found.is_some_and(|found| found != answer) {
                        return Err(LookupError::Ambiguous { id });
                    }
                    found = Some(answer);
                }
                match found {
                    Some((target, stream)) => streams.add(target, stream, stream)?,
                    None if known => return Err(LookupError::NotBehindAnSmmu),
                    None => return Err(LookupError::UnknownDevice),
                }
            }
            Device::Path(path) => {
                for mapping in &self.named(path)?.own {
                    streams.add(mapping.target, mapping.output, mapping.last_output())?;
                }
            }
            Device::OnBus { path, id } => {
                let bus = self.named(path)?;
                match look_up(bus.mappings.iter(), id & bus.mask)? {
                    Some((target, stream)) => streams.add(target, stream, stream)?,
                    None => return Err(LookupError::NotBehindAnSmmu),
                }
            }
        }
        match streams.instance {
            Some(instance) if !streams.foreign => Ok((instance, StreamIds(streams.ids))),
            _ => Err(LookupError::NotBehindAnSmmu),
        }
    }

    /// Which device issues `stream` to the SMMU: the reverse of [`Topology::streams_of`], to make sense of an event.
    /// `None` when firmware mentions none. Takes no memory and no lock.
    ///
    /// Where several devices have one stream between them, it is the first that firmware lists; behind an
    /// `iommu-map-mask`, the one whose other bits are 0.
    #[must_use]
    pub fn device_of(&self, instance: InstanceIndex, stream: StreamId) -> Option<Device<'_>> {
        let wanted = (Target::Smmu(instance), stream.0);
        // IDs that have the stream and are not translated otherwise by another mapping.
        let ids = move |mappings: &'_ [Mapping], mask: u32| {
            let ids = mappings.iter().filter_map(|mapping| mapping.inverse(wanted));
            ids.take(MOST_IDS)
                .find(|id| id & mask == *id && look_up(mappings.iter(), *id) == Ok(Some(wanted)))
        };
        let pci = |root: &Root| {
            let id = ids(&root.mappings, root.mask)?;
            let bus = u8::try_from(id >> 8).ok()?;
            let (device, function) = ((id >> 3 & 0x1f) as u8, (id & 7) as u8);
            let segment = root.segment;
            let within = (root.buses.0..=root.buses.1).contains(&bus);
            within.then_some(Device::Pci { segment, bus, device, function })
        };
        let named = |named: &'_ Named| {
            let own = |mapping: &Mapping| {
                mapping.target == wanted.0
                    && (mapping.output..=mapping.last_output()).contains(&wanted.1)
            };
            named.own.iter().any(own)
        };
        self.roots.iter().find_map(pci).or_else(|| {
            self.devices.iter().find_map(|device| {
                let path = device.name.as_str();
                if named(device) {
                    return Some(Device::Path(path));
                }
                let id = ids(&device.mappings, device.mask)?;
                Some(Device::OnBus { path, id })
            })
        })
    }

    /// Where interrupt messages of `device` go, and what it is called there. `None` when firmware does not say.
    ///
    /// # Errors
    /// As for [`Topology::streams_of`]; a device behind no SMMU has messages all the same.
    pub fn msi_of(&self, device: Device<'_>) -> Result<Option<Msi>, LookupError> {
        let own = match device {
            Device::Pci { segment, bus, .. } => {
                let id = requester(device).ok_or(LookupError::UnknownDevice)?;
                let mut roots = self.roots_of(segment, bus);
                roots.find_map(|root| root.msi.iter().find_map(|m| m.map(id & root.msi_mask)))
            }
            Device::Path(path) => {
                self.named(path)?.msi.first().and_then(|mapping| mapping.map(mapping.first))
            }
            Device::OnBus { path, id } => {
                let bus = self.named(path)?;
                bus.msi.iter().find_map(|mapping| mapping.map(id & bus.msi_mask))
            }
        };
        if own.is_some() || self.stream_msi.is_empty() {
            return Ok(own);
        }
        let (instance, streams) = match self.streams_of(device) {
            Ok(found) => found,
            Err(LookupError::NotBehindAnSmmu) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(stream) = streams.first() else { return Ok(None) };
        let of = self.stream_msi.iter().filter(|(behind, _)| *behind == instance);
        Ok(of.map(|(_, mapping)| mapping).find_map(|mapping| mapping.map(stream.0)))
    }

    /// Says where the ITS numbered `id` is, which an IORT does not: `base` is the base of its registers in the MADT. False
    /// if no device uses it.
    pub fn place_its(&mut self, id: u32, base: u64) -> bool {
        let its = self.doorbells.iter_mut().find(|its| its.kind == DoorbellKind::Its { id });
        match (its, base.checked_add(ITS_PAGE)) {
            (Some(its), Some(base)) => {
                its.page = Some(Region { base, len: ITS_PAGE });
                true
            }
            _ => false,
        }
    }

    /// Says of which memory [`Topology::bring_up`] is to keep the streams going; the streams of the rest abort like all
    /// others. Without a call of this, none are kept: all abort.
    ///
    /// # Safety
    /// The devices may access the memory that `claim` says yes to, for as long as they are not attached elsewhere: nobody
    /// else uses it. As a rule, the memory map of the same firmware says so, too.
    pub unsafe fn claim_kept(&mut self, mut claim: impl FnMut(&Kept) -> bool) {
        for kept in &mut self.kept {
            kept.claimed = claim(kept);
        }
    }

    /// The roots that a bus is behind: one, unless firmware gives no buses, or the same ones twice.
    pub(crate) fn roots_of(&self, segment: u32, bus: u8) -> impl Iterator<Item = &Root> {
        let roots = self.roots.iter().filter(move |root| root.segment == segment);
        roots.filter(move |root| (root.buses.0..=root.buses.1).contains(&bus))
    }

    pub(crate) fn named(&self, path: &str) -> Result<&Named, LookupError> {
        self.devices.iter().find(|named| named.name == path).ok_or(LookupError::UnknownDevice)
    }

    /// Adds streams to kept memory that is not yet among [`Topology::kept`]. False if they are too many: nobody lists
    /// thousands, and all of them have to be looked up one by one.
    pub(crate) fn keep(
        &mut self,
        kept: &mut Kept,
        instance: InstanceIndex,
        first: u32,
        last: u32,
    ) -> Result<bool, NoMemory> {
        let count = u64::from(last.saturating_sub(first)) + 1;
        if self.kept_streams + count > MOST_KEPT_STREAMS || self.kept.len() >= MOST_KEPT {
            return Ok(false);
        }
        self.kept_streams += count;
        push(&mut kept.streams, (instance, StreamId(first), StreamId(last)))?;
        Ok(true)
    }

    /// Notes something odd.
    pub(crate) fn find(&mut self, place: impl fmt::Display, what: What) -> Result<(), NoMemory> {
        self.find_with(place, || Ok(what))
    }

    /// As [`Topology::find`], for what takes memory to say.
    pub(crate) fn find_with(
        &mut self,
        place: impl fmt::Display,
        what: impl FnOnce() -> Result<What, NoMemory>,
    ) -> Result<(), NoMemory> {
        if self.findings.len() > MOST_FINDINGS {
            return Ok(());
        }
        let what = if self.findings.len() == MOST_FINDINGS { What::More } else { what()? };
        let place = format(format_args!("{place}"))?;
        push(&mut self.findings, Finding { place, what })
    }
}

/// Offset of the page of an ITS that has GITS_TRANSLATER, and its size.
pub(crate) const ITS_PAGE: u64 = 0x1_0000;

/// The requester ID of a PCI function.
pub(crate) fn requester(device: Device<'_>) -> Option<u32> {
    match device {
        Device::Pci { bus, device, function, .. } if device < 32 && function < 8 => {
            Some(u32::from(bus) << 8 | u32::from(device) << 3 | u32::from(function))
        }
        _ => None,
    }
}

/// The streams of a device, as they are found.
struct Streams {
    instance: Option<InstanceIndex>,
    ids: Vec<StreamId>,
    /// Some are behind an IOMMU that is not ours.
    foreign: bool,
}

impl Streams {
    fn add(&mut self, target: Target, first: u32, last: u32) -> Result<(), LookupError> {
        let Target::Smmu(instance) = target else {
            self.foreign |= target == Target::Foreign;
            return Ok(());
        };
        match self.instance {
            Some(other) if other != instance => {
                return Err(LookupError::SeveralSmmus { first: other, second: instance });
            }
            _ => self.instance = Some(instance),
        }
        for id in first..=last {
            if self.ids.contains(&StreamId(id)) {
                continue;
            }
            if self.ids.len() == MOST_STREAMS {
                return Err(LookupError::TooManyStreams { limit: MOST_STREAMS });
            }
            push(&mut self.ids, StreamId(id))?;
        }
        Ok(())
    }
}

/// Streams that `mappings` lead to on SMMUs: instance, first and last.
pub(crate) fn claims(mappings: &[Mapping]) -> impl Iterator<Item = (InstanceIndex, u32, u32)> {
    mappings.iter().filter_map(|mapping| match mapping.target {
        Target::Smmu(instance) => Some((instance, mapping.output, mapping.last_output())),
        Target::Direct | Target::Foreign => None,
    })
}

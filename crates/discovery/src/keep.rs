// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which streams go on while their SMMU is taken into use, and what they reach.

use alloc::vec::Vec;
use core::fmt;

use smmuv3::{
    Attributes, KeepError, MasterConfig, NoMemory, PhysAddr, Platform, Probe, Prot, StreamId,
};

use crate::device::InstanceIndex;
use crate::kept::Kept;
use crate::memory::push;
use crate::topology::Topology;

/// Why streams were not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotKept {
    /// Nobody said that they should be ([`Topology::claim_kept`]).
    NotClaimed,
    /// There is more to be mapped for the streams of an SMMU than can be sensible: those that come later are left out.
    TooManyRegions {
        /// How many can be, each as often as there are masters that reach it.
        limit: usize,
    },
    /// The driver refused.
    Refused(KeepError),
}

impl fmt::Display for NotKept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotClaimed => f.write_str("it was not said that they are to be kept"),
            Self::TooManyRegions { limit } => {
                write!(f, "the streams to be kept reach more than {limit} regions of memory")
            }
            Self::Refused(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for NotKept {}

/// Regions that masters of one SMMU reach, all together: entries of firmware that each have many would multiply.
const MOST_REGIONS: usize = 4096;

/// Streams that reach the same, and are one master.
pub(crate) struct Group {
    streams: Vec<StreamId>,
    regions: Vec<smmuv3::Region>,
    /// Places in the list of kept memory.
    members: Vec<usize>,
}

/// What is to be kept on `instance`: each stream in one group. What nobody claimed is added to `not_kept`, in which there
/// is room.
pub(crate) fn groups(
    topology: &Topology,
    instance: InstanceIndex,
    not_kept: &mut Vec<(InstanceIndex, usize, NotKept)>,
) -> Result<Vec<Group>, NoMemory> {
    // Each stream with each entry that it is in: few, for topologies limit them.
    let mut pairs: Vec<(StreamId, usize)> = Vec::new();
    for (at, kept) in topology.kept.iter().enumerate() {
        let mut here = kept.streams.iter().filter(|(of, ..)| *of == instance).peekable();
        if here.peek().is_none() || kept.regions.is_empty() {
            continue;
        }
        if !kept.claimed {
            not_kept.push((instance, at, NotKept::NotClaimed));
            continue;
        }
        for (_, first, last) in here {
            for stream in first.0..=last.0 {
                push(&mut pairs, (StreamId(stream), at))?;
            }
        }
    }
    pairs.sort_unstable();
    pairs.dedup();
    // The entries that each stream is in.
    let mut streams = Vec::new();
    for pairs in pairs.chunk_by(|one, other| one.0 == other.0) {
        push(&mut streams, pairs)?;
    }
    streams.sort_unstable_by(|one, other| {
        entries(one).cmp(entries(other)).then_with(|| one.first().cmp(&other.first()))
    });
    let mut groups = Vec::new();
    let mut room = MOST_REGIONS;
    for alike in streams.chunk_by(|one, other| entries(one).eq(entries(other))) {
        let members = || alike.first().into_iter().flat_map(|pairs| entries(pairs));
        let kept = |member: usize| topology.kept.get(member).map_or(0, |kept| kept.regions.len());
        let needed = members().map(kept).fold(0, usize::saturating_add);
        let Some(rest) = room.checked_sub(needed) else {
            let why = NotKept::TooManyRegions { limit: MOST_REGIONS };
            members().for_each(|member| refuse(not_kept, instance, member, why));
            continue;
        };
        room = rest;
        let mut group = Group { streams: Vec::new(), regions: Vec::new(), members: Vec::new() };
        for (stream, _) in alike.iter().filter_map(|pairs| pairs.first()) {
            push(&mut group.streams, *stream)?;
        }
        for member in members() {
            push(&mut group.members, member)?;
            if let Some(kept) = topology.kept.get(member) {
                regions(kept, &mut group.regions)?;
            }
        }
        apart(&mut group.regions);
        push(&mut groups, group)?;
    }
    Ok(groups)
}

/// The entries of a stream.
fn entries(pairs: &[(StreamId, usize)]) -> impl Iterator<Item = usize> {
    pairs.iter().map(|(_, at)| *at)
}

/// Adds what is to be reached.
fn regions(kept: &Kept, regions: &mut Vec<smmuv3::Region>) -> Result<(), NoMemory> {
    let mut prot = Prot::READ | Prot::WRITE;
    if kept.privileged {
        prot |= Prot::PRIVILEGED;
    }
    let attributes = Attributes::new(prot, kept.memory);
    for region in &kept.regions {
        let (pa, bytes) = (PhysAddr(region.base), region.len);
        push(regions, smmuv3::Region { pa, bytes, attributes })?;
    }
    Ok(())
}

/// Cuts off what an earlier region has: nothing may be mapped twice.
fn apart(regions: &mut Vec<smmuv3::Region>) {
    regions.sort_unstable_by_key(|region| (region.pa.0, core::cmp::Reverse(region.bytes)));
    let mut reached = 0;
    for region in regions.iter_mut() {
        let end = region.pa.0.saturating_add(region.bytes);
        region.pa.0 = region.pa.0.max(reached).min(end);
        region.bytes = end - region.pa.0;
        reached = reached.max(end);
    }
    regions.retain(|region| region.bytes != 0);
}

/// Adds an entry to `not_kept`, unless it is there.
fn refuse(
    not_kept: &mut Vec<(InstanceIndex, usize, NotKept)>,
    instance: InstanceIndex,
    member: usize,
    why: NotKept,
) {
    // There is room for each entry once for each instance that it has streams on.
    if !not_kept.iter().any(|(of, at, _)| (*of, *at) == (instance, member)) {
        not_kept.push((instance, member, why));
    }
}

/// Keeps what can be.
pub(crate) fn keep<P: Platform>(
    probe: &mut Probe<P>,
    instance: InstanceIndex,
    groups: &[Group],
    not_kept: &mut Vec<(InstanceIndex, usize, NotKept)>,
) {
    for Group { streams, regions, members } in groups {
        // SAFETY: these are claimed, which says the same (`Topology::claim_kept`).
        let result = unsafe { probe.keep(streams, MasterConfig::default(), regions) };
        if let Err(error) = result {
            for member in members {
                refuse(not_kept, instance, *member, NotKept::Refused(error));
            }
        }
    }
}

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
    /// The driver refused.
    Refused(KeepError),
}

impl fmt::Display for NotKept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotClaimed => f.write_str("it was not said that they are to be kept"),
            Self::Refused(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for NotKept {}

/// Streams that are one master, since they share streams or memory, and all that they reach.
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
    // Which entry leads the group of each: an earlier one, or itself.
    let mut leader: Vec<usize> = Vec::new();
    // Whether it is to be kept.
    let mut wanted: Vec<bool> = Vec::new();
    let mut ranges = Vec::new();
    for (at, kept) in topology.kept.iter().enumerate() {
        let here = || kept.streams.iter().filter(|(of, ..)| *of == instance);
        let known = here().next().is_some() && !kept.regions.is_empty();
        push(&mut leader, at)?;
        push(&mut wanted, known && kept.claimed)?;
        if known && !kept.claimed {
            not_kept.push((instance, at, NotKept::NotClaimed));
        } else if known {
            for (_, first, last) in here() {
                push(&mut ranges, (first.0, last.0, at))?;
            }
        }
    }
    ranges.sort_unstable();
    let mut reached: Option<(u32, usize)> = None;
    for (first, last, at) in &ranges {
        match reached {
            Some((reach, other)) if *first <= reach => {
                join(&mut leader, *at, other);
                reached = Some((reach.max(*last), other));
            }
            _ => reached = Some((*last, *at)),
        }
    }
    for at in 0..leader.len() {
        let top = lead(&leader, at);
        if let Some(place) = leader.get_mut(at) {
            *place = top;
        }
    }
    let is_led_by = |of: usize, by: usize| leader.get(of) == Some(&by);
    let is_wanted = |at: usize| wanted.get(at) == Some(&true);
    let mut groups = Vec::new();
    for at in (0..leader.len()).filter(|at| is_wanted(*at) && is_led_by(*at, *at)) {
        let mut group = Group { streams: Vec::new(), regions: Vec::new(), members: Vec::new() };
        // In order, so that each stream comes once.
        let mut next = 0;
        for (first, last, _) in ranges.iter().filter(|(.., of)| is_led_by(*of, at)) {
            for stream in (*first).max(next)..=*last {
                push(&mut group.streams, StreamId(stream))?;
            }
            next = next.max(last.saturating_add(1));
        }
        for (member, kept) in topology.kept.iter().enumerate() {
            if is_wanted(member) && is_led_by(member, at) {
                push(&mut group.members, member)?;
                regions(kept, &mut group.regions)?;
            }
        }
        apart(&mut group.regions);
        push(&mut groups, group)?;
    }
    Ok(groups)
}

/// The leader of `at`'s group. Leaders come before those they lead, so this ends.
fn lead(leader: &[usize], mut at: usize) -> usize {
    while let Some(above) = leader.get(at).copied()
        && above < at
    {
        at = above;
    }
    at
}

fn join(leader: &mut [usize], one: usize, other: usize) {
    let (one, other) = (lead(leader, one), lead(leader, other));
    if let Some(place) = leader.get_mut(one.max(other)) {
        *place = one.min(other);
    }
}

/// Adds what is to be reached.
fn regions(kept: &Kept, regions: &mut Vec<smmuv3::Region>) -> Result<(), NoMemory> {
    let mut prot = Prot::READ | Prot::WRITE;
    if kept.privileged {
        prot = prot | Prot::PRIVILEGED;
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
                // There is room: an entry comes once for each instance that it has streams on.
                not_kept.push((instance, *member, NotKept::Refused(error)));
            }
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether what firmware says fits together.

use alloc::string::String;
use alloc::vec::Vec;

use smmuv3::NoMemory;

use crate::device::InstanceIndex;
use crate::finding::What;
use crate::instance::Region;
use crate::mapping::{Target, overlaps};
use crate::memory::{push, text};
use crate::topology::{MOST_FINDINGS, Topology, claims};

/// Notes what does not fit.
pub(crate) fn check(topology: &mut Topology) -> Result<(), NoMemory> {
    // Findings go to `topology`, so what is looked at is put aside meanwhile.
    let room = (MOST_FINDINGS + 1).saturating_sub(topology.findings.len());
    let mut found = Found { list: Vec::new(), room };
    instances(topology, &mut found)?;
    mappings(topology, &mut found)?;
    streams(topology, &mut found)?;
    kept(topology, &mut found)?;
    for (place, what) in found.list {
        topology.find(place, what)?;
    }
    Ok(())
}

/// What is to be said, as far as there is room for it.
struct Found {
    list: Vec<(String, What)>,
    room: usize,
}

impl Found {
    /// Notes what `what` says of `place`, unless there is no room.
    fn note(
        &mut self,
        place: &str,
        what: impl FnOnce() -> Result<What, NoMemory>,
    ) -> Result<(), NoMemory> {
        if self.list.len() >= self.room {
            return Ok(());
        }
        push(&mut self.list, (text(place)?, what()?))
    }
}

fn instances(topology: &Topology, found: &mut Found) -> Result<(), NoMemory> {
    // There are few: their number is limited.
    for (index, instance) in topology.instances.iter().enumerate() {
        let Region { base, len } = instance.registers;
        if !instance.has_registers() {
            found.note(&instance.name, || Ok(What::Registers { base, len }))?;
        }
        for other in topology.instances.iter().take(index) {
            if other.registers.overlaps(&instance.registers) {
                let other = || text(&other.name);
                found.note(&instance.name, || Ok(What::RegistersTwice { other: other()? }))?;
            }
        }
        if instance.interrupts.event.is_none() || instance.interrupts.gerror.is_none() {
            found.note(&instance.name, || Ok(What::NoInterrupt))?;
        }
    }
    Ok(())
}

fn mappings(topology: &Topology, found: &mut Found) -> Result<(), NoMemory> {
    let roots = topology.roots.iter().map(|root| (&root.name, &root.mappings, None));
    let named = &topology.devices;
    let named = named.iter().map(|named| (&named.name, &named.mappings, Some(&named.own)));
    for (name, mappings, own) in roots.chain(named) {
        for (first, last) in overlaps(mappings)? {
            found.note(name, || Ok(What::MappingsOverlap { first, last }))?;
        }
        let all = || mappings.iter().chain(own.into_iter().flatten());
        let smmu = |target: &Target| matches!(target, Target::Smmu(_) | Target::Foreign);
        if !all().any(|mapping| smmu(&mapping.target)) {
            found.note(name, || Ok(What::NoSmmu))?;
        }
        let mut smmus = own.into_iter().flatten().filter_map(|mapping| match mapping.target {
            Target::Smmu(instance) => Some(instance),
            Target::Direct | Target::Foreign => None,
        });
        if let Some(first) = smmus.next()
            && let Some(second) = smmus.find(|second| *second != first)
        {
            found.note(name, || Ok(What::SeveralSmmus { first, second }))?;
        }
    }
    Ok(())
}

fn streams(topology: &Topology, found: &mut Found) -> Result<(), NoMemory> {
    let mut all: Vec<(InstanceIndex, u32, u32, usize)> = Vec::new();
    let roots = topology.roots.iter().map(|root| (&root.mappings, None));
    let named = topology.devices.iter().map(|named| (&named.mappings, Some(&named.own)));
    for (owner, (mappings, own)) in roots.chain(named).enumerate() {
        for (instance, first, last) in claims(mappings) {
            push(&mut all, (instance, first, last, owner))?;
        }
        for (instance, first, last) in own.into_iter().flat_map(|own| claims(own)) {
            push(&mut all, (instance, first, last, owner))?;
        }
    }
    let name = |owner: usize| {
        let root = topology.roots.get(owner).map(|root| &root.name);
        let named = || topology.devices.get(owner - topology.roots.len()).map(|named| &named.name);
        root.or_else(named).map_or("", String::as_str)
    };
    all.sort_unstable();
    // Which of those before reaches farthest, and, of the other owners, which does.
    let mut reach: [Option<(InstanceIndex, u32, usize)>; 2] = [None; 2];
    for (instance, first, last, owner) in all {
        for before in reach.iter().flatten() {
            if before.0 == instance && first <= before.1 && before.2 != owner {
                let (last, other) = (last.min(before.1), || text(name(before.2)));
                found.note(name(owner), || {
                    Ok(What::StreamsTwice { instance, first, last, other: other()? })
                })?;
                break;
            }
        }
        let new = Some((instance, last, owner));
        let [farthest, second] = &mut reach;
        if farthest.is_none_or(|old| old.0 != instance) {
            (*farthest, *second) = (new, None);
        } else if farthest.is_none_or(|old| old.1 <= last) {
            if farthest.is_some_and(|old| old.2 != owner) {
                *second = *farthest;
            }
            *farthest = new;
        } else if farthest.is_some_and(|old| old.2 != owner)
            && second.is_none_or(|old| old.1 <= last)
        {
            *second = new;
        }
    }
    Ok(())
}

fn kept(topology: &Topology, found: &mut Found) -> Result<(), NoMemory> {
    let mut all: Vec<(u64, u64, usize)> = Vec::new();
    for (index, kept) in topology.kept.iter().enumerate() {
        if kept.streams.is_empty() || kept.regions.is_empty() {
            found.note(&kept.name, || Ok(What::KeptByNobody))?;
        }
        for region in &kept.regions {
            push(&mut all, (region.base, region.last(), index))?;
        }
    }
    all.sort_unstable();
    let mut reached: Option<(u64, usize)> = None;
    for (base, last, index) in all {
        if let Some((reach, other)) = reached
            && base <= reach
            && let (Some(kept), Some(other)) = (topology.kept.get(index), topology.kept.get(other))
        {
            let other = || text(&other.name);
            found.note(&kept.name, || Ok(What::KeptTwice { base, other: other()? }))?;
        }
        if reached.is_none_or(|(reach, _)| reach < last) {
            reached = Some((last, index));
        }
    }
    Ok(())
}

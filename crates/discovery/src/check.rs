// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether what firmware says fits together.

use alloc::string::String;
use alloc::vec::Vec;

use smmuv3::NoMemory;

use crate::device::InstanceIndex;
use crate::finding::What;
use crate::instance::{Model, Region};
use crate::mapping::{Target, overlaps};
use crate::memory::{push, text};
use crate::topology::{Topology, claims};

/// Notes what does not fit.
pub(crate) fn check(topology: &mut Topology) -> Result<(), NoMemory> {
    // Findings go to `topology`, so what is looked at is put aside meanwhile.
    let mut found = Vec::new();
    instances(topology, &mut found)?;
    mappings(topology, &mut found)?;
    streams(topology, &mut found)?;
    kept(topology, &mut found)?;
    for (place, what) in found {
        topology.find(place, what)?;
    }
    Ok(())
}

type Found = Vec<(String, What)>;

fn instances(topology: &Topology, found: &mut Found) -> Result<(), NoMemory> {
    // There are few: their number is limited.
    for (index, instance) in topology.instances.iter().enumerate() {
        let Region { base, len } = instance.registers;
        let pages = if instance.model == Model::Cn99xx { 1 } else { 2 };
        if !base.is_multiple_of(0x1_0000) || len < pages * 0x1_0000 {
            push(found, (text(&instance.name)?, What::Registers { base, len }))?;
        }
        for other in topology.instances.iter().take(index) {
            if other.registers.overlaps(&instance.registers) {
                let other = text(&other.name)?;
                push(found, (text(&instance.name)?, What::RegistersTwice { other }))?;
            }
        }
        if instance.interrupts.event.is_none() || instance.interrupts.gerror.is_none() {
            push(found, (text(&instance.name)?, What::NoInterrupt))?;
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
            push(found, (text(name)?, What::MappingsOverlap { first, last }))?;
        }
        let all = || mappings.iter().chain(own.into_iter().flatten());
        let smmu = |target: &Target| matches!(target, Target::Smmu(_) | Target::Foreign);
        if !all().any(|mapping| smmu(&mapping.target)) {
            push(found, (text(name)?, What::NoSmmu))?;
        }
        let mut smmus = own.into_iter().flatten().filter_map(|mapping| match mapping.target {
            Target::Smmu(instance) => Some(instance),
            Target::Direct | Target::Foreign => None,
        });
        if let Some(first) = smmus.next()
            && let Some(second) = smmus.find(|second| *second != first)
        {
            push(found, (text(name)?, What::SeveralSmmus { first, second }))?;
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
        root.or_else(named).map_or(Ok(String::new()), |name| text(name))
    };
    all.sort_unstable();
    // Which of those before reaches farthest, and, of the other owners, which does.
    let mut reach: [Option<(InstanceIndex, u32, usize)>; 2] = [None; 2];
    for (instance, first, last, owner) in all {
        for before in reach.iter().flatten() {
            if before.0 == instance && first <= before.1 && before.2 != owner {
                let (last, other) = (last.min(before.1), name(before.2)?);
                push(found, (name(owner)?, What::StreamsTwice { instance, first, last, other }))?;
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
            push(found, (text(&kept.name)?, What::KeptByNobody))?;
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
            let other = text(&other.name)?;
            push(found, (text(&kept.name)?, What::KeptTwice { base, other }))?;
        }
        if reached.is_none_or(|(reach, _)| reach < last) {
            reached = Some((last, index));
        }
    }
    Ok(())
}

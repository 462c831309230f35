// SPDX-License-Identifier: MIT OR Apache-2.0
//! `/reserved-memory` with `iommu-addresses`: input addresses that are taken, and memory that devices are using.

use alloc::vec::Vec;

use smmuv3::{Memory, NoMemory};

use super::Reader;
use super::tree::{At, cells, number};
use crate::What;
use crate::instance::Region;
use crate::kept::{Kept, whole_pages};
use crate::memory::push;
use crate::topology::{MOST_KEPT, MOST_KEPT_STREAMS, claims};

impl<'t, 'a> Reader<'t, 'a> {
    /// Reads the children of `/reserved-memory`.
    pub(super) fn reserved(&mut self) -> Result<(), NoMemory> {
        let tree = self.tree;
        let in_it = |node: &At<'_, '_>| {
            let above = node.parent().filter(|above| above.name() == "reserved-memory");
            above.and_then(|above| above.parent()).is_some_and(|root| root.index() == 0)
        };
        for node in tree.nodes().filter(At::enabled).filter(in_it) {
            if node.has("iommu-addresses") {
                self.region(node)?;
            }
        }
        Ok(())
    }

    fn region(&mut self, node: At<'t, 'a>) -> Result<(), NoMemory> {
        let property = "iommu-addresses";
        let memory = if node.has("reg") { self.reg(node, 0)? } else { None };
        let mut list = node.property(property).unwrap_or_default();
        while !list.is_empty() {
            let [reference] = cells(list);
            let Some(device) = self.tree.by_phandle(reference) else {
                self.find(node, What::Nowhere { reference })?;
                break;
            };
            // Addresses are written as on the bus of the device that they are for.
            let (address, size) = device.own_cells();
            let (address, size) = (address.saturating_mul(4), size.saturating_mul(4));
            let parts = list.split_at_checked(4).and_then(|(_, rest)| {
                let (iova, rest) = rest.split_at_checked(address)?;
                let (len, rest) = rest.split_at_checked(size)?;
                Some((number(iova)?, number(len)?, rest))
            });
            let Some((iova, len, rest)) = parts else {
                let unit = address.saturating_add(size).saturating_add(4);
                self.find(node, What::Length { property, len: list.len(), unit })?;
                break;
            };
            list = rest;
            if len == 0 || iova.checked_add(len - 1).is_none() {
                self.find(node, What::KeptRange { base: iova, len })?;
                continue;
            }
            let region = Region { base: iova, len };
            let master = self.masters.binary_search(&device.index()).ok();
            let named = master.and_then(|at| self.topology.devices.get_mut(at));
            let host = self.hosts.binary_search(&device.index()).ok();
            let host = host.and_then(|at| self.topology.roots.get_mut(at));
            let (reserved, streams, coherent) = match (named, host) {
                (Some(named), _) => (&mut named.reserved, &named.own, named.coherent),
                // For whatever is behind it.
                (_, Some(root)) => (&mut root.reserved, &root.mappings, root.coherent),
                (None, None) => {
                    self.find(node, What::KeptByNobody)?;
                    continue;
                }
            };
            push(reserved, region)?;
            let Some(memory) = memory else { continue };
            // One more than can be kept is enough to know that they cannot.
            let full = self.topology.kept.len() >= MOST_KEPT;
            let is_there = memory.base == iova && len <= memory.len;
            let most = if is_there && !full { MOST_KEPT_STREAMS as usize + 1 } else { 1 };
            let mut claimed = Vec::new();
            for claim in claims(streams).take(most) {
                push(&mut claimed, claim)?;
            }
            if !is_there {
                let what = What::KeptElsewhere { iova, address: memory.base };
                self.find(node, what)?;
                continue;
            }
            let Some(pages) = whole_pages(region) else {
                self.find(node, What::KeptRange { base: iova, len })?;
                continue;
            };
            if full {
                let first = claimed.first().map_or(0, |(_, first, _)| *first);
                self.find(node, What::KeptStreams { first, count: 1 })?;
                continue;
            }
            let mut kept = Kept {
                name: node.path()?,
                streams: Vec::new(),
                regions: Vec::new(),
                may_move: false,
                privileged: false,
                claimed: false,
                memory: if coherent { Memory::NormalCacheable } else { Memory::NormalNonCacheable },
            };
            for (instance, first, last) in claimed {
                if !self.topology.keep(&mut kept, instance, first, last)? {
                    let count = u64::from(last.saturating_sub(first)) + 1;
                    self.find(node, What::KeptStreams { first, count })?;
                    break;
                }
            }
            push(&mut kept.regions, pages)?;
            push(&mut self.topology.kept, kept)?;
            if pages != region {
                self.find(node, What::KeptUnaligned { base: iova, len })?;
            }
        }
        Ok(())
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! `iommus` and `iommu-map`: who issues which streams.

use alloc::vec::Vec;

use smmuv3::NoMemory;

use super::Reader;
use super::smmu::is_coherent;
use super::tree::{At, cells};
use crate::What;
use crate::mapping::{Mapping, Target};
use crate::memory::push;
use crate::root::Named;

impl<'t, 'a> Reader<'t, 'a> {
    /// Adds `node`, if it uses an IOMMU.
    pub(super) fn master(&mut self, node: At<'t, 'a>) -> Result<(), NoMemory> {
        if !node.has("iommus") && !node.has("iommu-map") {
            return Ok(());
        }
        let (mask, mappings) = self.iommu_map(node)?;
        let (msi_mask, msi) = self.msi_map(node)?;
        let named = Named {
            name: node.path()?,
            own: self.iommus(node)?,
            mask,
            mappings,
            coherent: is_coherent(node),
            can_stall: node.has("dma-can-stall"),
            pasid_bits: node.cell("pasid-num-bits").unwrap_or(0).min(20) as u8,
            address_bits: None,
            reserved: Vec::new(),
            msi,
            msi_mask,
        };
        push(&mut self.masters, node.index())?;
        push(&mut self.topology.devices, named)
    }

    /// What `iommus` of a node says: each entry is one stream, for an SMMUv3.
    pub(super) fn iommus(&mut self, node: At<'t, 'a>) -> Result<Vec<Mapping>, NoMemory> {
        let property = "iommus";
        let mut found = Vec::new();
        let Some(mut list) = node.property(property) else { return Ok(found) };
        while !list.is_empty() {
            let Some((phandle, rest)) = list.split_at_checked(4) else {
                self.find(node, What::Length { property, len: list.len(), unit: 4 })?;
                break;
            };
            let [reference] = cells(phandle);
            let Some((target, len)) = self.iommu(node, reference)? else { break };
            let Some((stream, rest)) = rest.split_at_checked(len.saturating_mul(4)) else {
                let unit = len.saturating_add(1).saturating_mul(4);
                self.find(node, What::Length { property, len: list.len(), unit })?;
                break;
            };
            list = rest;
            let [output] = cells(stream);
            if stream.len() != 4 && matches!(target, Target::Smmu(_)) {
                // The binding has one cell; which of others is the stream, nobody says.
                let value = len as u64;
                self.find(node, What::Value { property: "#iommu-cells", value })?;
                continue;
            }
            push(&mut found, Mapping { first: 0, last: 0, output, target, single: true })?;
        }
        Ok(found)
    }

    /// What `iommu-map` and `iommu-map-mask` of a node say.
    pub(super) fn iommu_map(&mut self, node: At<'t, 'a>) -> Result<(u32, Vec<Mapping>), NoMemory> {
        let mask = node.cell("iommu-map-mask").unwrap_or(u32::MAX);
        let mut found = Vec::new();
        let Some(list) = self.list(node, "iommu-map", 16)? else { return Ok((mask, found)) };
        for entry in list {
            let [first, reference, output, count] = cells(entry);
            let Some((target, _)) = self.iommu(node, reference)? else { continue };
            let last = count.checked_sub(1).and_then(|more| first.checked_add(more));
            let Some(last) = last.filter(|last| output.checked_add(last - first).is_some()) else {
                let count = u64::from(count);
                self.find(node, What::IdsTooWide { first, count, output })?;
                continue;
            };
            if first & !mask != 0 {
                self.find(node, What::Masked { first, mask })?;
            }
            push(&mut found, Mapping { first, last, output, target, single: false })?;
        }
        Ok((mask, found))
    }

    /// The IOMMU that `node` refers to, and the cells of an ID there.
    fn iommu(
        &mut self,
        node: At<'t, 'a>,
        reference: u32,
    ) -> Result<Option<(Target, usize)>, NoMemory> {
        let Some(iommu) = self.tree.by_phandle(reference) else {
            self.find(node, What::Nowhere { reference })?;
            return Ok(None);
        };
        let Some(cells) = iommu.cell("#iommu-cells") else {
            self.find(node, What::NotAnSmmu { reference })?;
            return Ok(None);
        };
        let target = match self.instance_of(iommu) {
            Some(instance) => Target::Smmu(instance),
            None => {
                let other = iommu.path()?;
                self.find(node, What::NotDriven { other })?;
                Target::Foreign
            }
        };
        Ok(Some((target, cells as usize)))
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! `iommus` and `iommu-map`: who issues which streams.

use alloc::vec::Vec;

use smmuv3::NoMemory;

use super::Reader;
use super::smmu::is_coherent;
use super::tree::{At, Reference, cells};
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
        let reach = self.reach(node.parent())?;
        let named = Named {
            name: node.path()?,
            own: self.iommus(node)?,
            mask,
            mappings,
            coherent: is_coherent(node),
            can_stall: node.has("dma-can-stall"),
            pasid_bits: node.cell("pasid-num-bits").unwrap_or(0).min(20) as u8,
            address_bits: reach.address_bits,
            reserved: reach.gaps,
            msi,
            msi_mask,
        };
        push(&mut self.masters, node.index())?;
        push(&mut self.topology.devices, named)
    }

    /// What `iommus` of a node says: each entry is one stream, for an SMMUv3.
    pub(super) fn iommus(&mut self, node: At<'t, 'a>) -> Result<Vec<Mapping>, NoMemory> {
        let mut found = Vec::new();
        for reference in node.references("iommus", "#iommu-cells", None) {
            let Reference { to, cells: stream } = match reference {
                Ok(reference) => reference,
                Err(what) => {
                    self.find(node, what)?;
                    break;
                }
            };
            let Some(target) = self.target(node, to, stream.len() / 4)? else { continue };
            let [output] = cells(stream);
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
            let Some(target) = self.iommu(node, reference)? else { continue };
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

    /// The IOMMU that `node` refers to.
    fn iommu(&mut self, node: At<'t, 'a>, reference: u32) -> Result<Option<Target>, NoMemory> {
        let Some(iommu) = self.tree.by_phandle(reference) else {
            self.find(node, What::Nowhere { reference })?;
            return Ok(None);
        };
        let Some(cells) = iommu.cell("#iommu-cells") else {
            self.find(node, What::NotAnSmmu { reference })?;
            return Ok(None);
        };
        self.target(node, iommu, cells as usize)
    }

    /// What `iommu` is, which has as many cells.
    fn target(
        &mut self,
        node: At<'t, 'a>,
        iommu: At<'t, 'a>,
        cells: usize,
    ) -> Result<Option<Target>, NoMemory> {
        match self.instance_of(iommu) {
            Some(instance) if cells == 1 => Ok(Some(Target::Smmu(instance))),
            Some(_) => {
                // The binding has one cell; which of others is the stream, nobody says.
                let value = cells as u64;
                self.find(node, What::Value { property: "#iommu-cells", value })?;
                Ok(None)
            }
            None => {
                self.topology.find_with(node, || Ok(What::NotDriven { other: iommu.path()? }))?;
                Ok(Some(Target::Foreign))
            }
        }
    }
}

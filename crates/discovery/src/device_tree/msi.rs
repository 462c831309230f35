// SPDX-License-Identifier: MIT OR Apache-2.0
//! `msi-parent` and `msi-map`: GICv2m frames and ITSs.

use alloc::vec::Vec;

use smmuv3::NoMemory;

use super::Reader;
use super::tree::{At, Reference, cells};
use crate::What;
use crate::instance::Region;
use crate::memory::push;
use crate::msi::{Doorbell, DoorbellIndex, DoorbellKind, MsiMapping};
use crate::topology::ITS_PAGE;

impl<'t, 'a> Reader<'t, 'a> {
    /// The doorbell that `node` is, if it is one.
    fn doorbell(&self, node: At<'t, 'a>) -> Option<DoorbellIndex> {
        self.doorbells.binary_search(&node.index()).ok().map(DoorbellIndex)
    }

    /// Adds all doorbells, also those that nobody says he uses.
    pub(super) fn doorbells(&mut self) -> Result<(), NoMemory> {
        let tree = self.tree;
        for node in tree.nodes().filter(At::enabled) {
            let frame = node.is_compatible("arm,gic-v2m-frame");
            if !frame && !node.is_compatible("arm,gic-v3-its") {
                continue;
            }
            let region = self.reg(node, 0)?;
            let (kind, page) = if frame {
                (DoorbellKind::GicV2m, region)
            } else {
                // The page after the control registers.
                let page = region.and_then(|region| region.base.checked_add(ITS_PAGE));
                (DoorbellKind::Its { id: 0 }, page.map(|base| Region { base, len: ITS_PAGE }))
            };
            push(&mut self.doorbells, node.index())?;
            push(&mut self.topology.doorbells, Doorbell { name: node.path()?, kind, page })?;
        }
        Ok(())
    }

    /// Where messages of a device with `msi-parent` go: one mapping for each entry whose doorbell is known.
    pub(super) fn parent_msi(&mut self, node: At<'t, 'a>) -> Result<Vec<MsiMapping>, NoMemory> {
        let mut found = Vec::new();
        for reference in node.references("msi-parent", "#msi-cells", Some(0)) {
            let Reference { to, cells: id } = match reference {
                Ok(reference) => reference,
                Err(what) => {
                    self.find(node, what)?;
                    break;
                }
            };
            let Some(doorbell) = self.doorbell(to) else { continue };
            let [output] = cells(id);
            push(&mut found, MsiMapping { first: 0, last: u32::MAX, output, doorbell })?;
        }
        Ok(found)
    }

    /// Where messages of the devices on a bus go: `msi-map`, else `msi-parent`.
    pub(super) fn msi_map(&mut self, node: At<'t, 'a>) -> Result<(u32, Vec<MsiMapping>), NoMemory> {
        let mask = node.cell("msi-map-mask").unwrap_or(u32::MAX);
        let Some(list) = self.list(node, "msi-map", 16)? else {
            return Ok((mask, self.parent_msi(node)?));
        };
        let mut found = Vec::new();
        for entry in list {
            let [first, reference, output, count] = cells(entry);
            let Some(parent) = self.tree.by_phandle(reference) else {
                self.find(node, What::Nowhere { reference })?;
                continue;
            };
            let Some(doorbell) = self.doorbell(parent) else { continue };
            let last = count.checked_sub(1).and_then(|more| first.checked_add(more));
            let Some(last) = last.filter(|last| output.checked_add(last - first).is_some()) else {
                let count = u64::from(count);
                self.find(node, What::IdsTooWide { first, count, output })?;
                continue;
            };
            push(&mut found, MsiMapping { first, last, output, doorbell })?;
        }
        Ok((mask, found))
    }
}

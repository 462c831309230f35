// SPDX-License-Identifier: MIT OR Apache-2.0
//! PCI host bridges.

use alloc::vec::Vec;

use smmuv3::NoMemory;

use super::Reader;
use super::smmu::is_coherent;
use super::tree::{At, cells, number};
use crate::What;
use crate::memory::push;
use crate::root::{Root, Space, Window};

/// Cells of an address on PCI: flags, and two of the address proper.
pub(super) const PCI_CELLS: usize = 3;

const GENERIC: &str = "pci-host-ecam-generic";

/// Whether a node is a PCI host bridge, and not a bridge behind one.
pub(super) fn is_host(node: At<'_, '_>) -> bool {
    let is_pci = |node: &At<'_, '_>| node.property("device_type") == Some(b"pci\0");
    node.is_compatible(GENERIC)
        || is_pci(&node) && !node.parent().is_some_and(|above| is_pci(&above))
}

impl<'t, 'a> Reader<'t, 'a> {
    /// Looks for the segments that somebody has.
    pub(super) fn segments(&mut self) -> Result<(), NoMemory> {
        let tree = self.tree;
        let hosts = tree.nodes().filter(At::enabled).filter(|node| is_host(*node));
        for segment in hosts.filter_map(|host| host.cell("linux,pci-domain")) {
            push(&mut self.segments, segment)?;
        }
        self.segments.sort_unstable();
        Ok(())
    }

    /// Adds the host bridge `node`.
    pub(super) fn host(&mut self, node: At<'t, 'a>) -> Result<(), NoMemory> {
        let segment = match node.cell("linux,pci-domain") {
            Some(segment) => segment,
            None => {
                let mut segment = self.segment;
                // One of them is free: a tree has fewer nodes than there are numbers.
                while self.segments.binary_search(&segment).is_ok() {
                    segment = segment.wrapping_add(1);
                }
                self.segment = segment.wrapping_add(1);
                self.find(node, What::Segment { segment })?;
                segment
            }
        };
        let buses = self.buses(node)?;
        // Other bridges have other registers there.
        let ecam = if node.is_compatible(GENERIC) { self.reg(node, 0)? } else { None };
        let (mask, mappings) = self.iommu_map(node)?;
        let (msi_mask, msi) = self.msi_map(node)?;
        let reach = self.reach(Some(node))?;
        let root = Root {
            name: node.path()?,
            segment,
            buses,
            ecam,
            windows: self.windows(node)?,
            mask,
            mappings,
            msi,
            msi_mask,
            coherent: is_coherent(node),
            ats: node.has("ats-supported"),
            address_bits: reach.address_bits,
            reserved: reach.gaps,
        };
        push(&mut self.hosts, node.index())?;
        push(&mut self.topology.roots, root)
    }

    fn buses(&mut self, node: At<'t, 'a>) -> Result<(u8, u8), NoMemory> {
        let property = "bus-range";
        let Some(value) = node.property(property) else { return Ok((0, 255)) };
        if value.len() != 8 {
            self.find(node, What::Length { property, len: value.len(), unit: 8 })?;
            return Ok((0, 255));
        }
        let [first, last] = cells(value).map(u8::try_from);
        match (first, last) {
            (Ok(first), Ok(last)) if first <= last => Ok((first, last)),
            _ => {
                self.find(node, What::Value { property, value: number(value).unwrap_or(0) })?;
                Ok((0, 255))
            }
        }
    }

    fn windows(&mut self, node: At<'t, 'a>) -> Result<Vec<Window>, NoMemory> {
        let property = "ranges";
        let mut windows = Vec::new();
        let Some(above) = node.parent() else { return Ok(windows) };
        let (parent, size) = (above.cells().0, node.cells().1);
        let unit = parent.saturating_add(size).saturating_add(3).saturating_mul(4);
        let Some(list) = self.list(node, property, unit)? else { return Ok(windows) };
        for range in list {
            let parts = range.split_at_checked(12).and_then(|(child, rest)| {
                let (cpu, len) = rest.split_at_checked(parent.saturating_mul(4))?;
                Some((child.split_at_checked(4)?, number(cpu)?, number(len)?))
            });
            let Some(((flags, pci), cpu, len)) = parts else {
                self.find(node, What::Length { property, len: unit, unit: 28 })?;
                break;
            };
            let [flags] = cells(flags);
            let space = match flags >> 24 & 3 {
                1 => Space::Io,
                2 => Space::Memory32,
                3 => Space::Memory64,
                // Configuration space.
                _ => continue,
            };
            let pci = number(pci).unwrap_or(0);
            if pci.checked_add(len.saturating_sub(1)).is_none() {
                self.find(node, What::Value { property, value: pci })?;
                continue;
            }
            let Some(cpu) = self.translate(above, cpu, len) else {
                self.find(node, What::Untranslated { property, address: cpu })?;
                continue;
            };
            let prefetchable = flags >> 30 & 1 == 1;
            push(&mut windows, Window { space, prefetchable, pci, cpu, len })?;
        }
        Ok(windows)
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Addresses of buses, and what CPUs call them.

use smmuv3::NoMemory;

use super::Reader;
use super::tree::{At, number};
use crate::What;
use crate::instance::Region;

/// The address that CPUs have for `address`, as children of `bus` see it. The whole of `len` bytes must be in one
/// range of each bus on the way.
pub(super) fn translate(bus: At<'_, '_>, address: u64, len: u64) -> Option<u64> {
    let mut address = address;
    let mut at = bus;
    // The root's addresses are those of the CPUs.
    while let Some(above) = at.parent() {
        let ranges = at.property("ranges")?;
        if !ranges.is_empty() {
            let ((child, size), (parent, _)) = (at.cells(), above.cells());
            let unit = child.checked_add(parent)?.checked_add(size)?.checked_mul(4)?;
            if unit == 0 {
                return None;
            }
            address = ranges.chunks_exact(unit).find_map(|range| {
                let (from, rest) = range.split_at_checked(child * 4)?;
                let (to, size) = rest.split_at_checked(parent * 4)?;
                let (from, to, size) = (number(from)?, number(to)?, number(size)?);
                let offset = address.checked_sub(from)?;
                if offset > size || len > size - offset {
                    return None;
                }
                to.checked_add(offset)
            })?;
        }
        at = above;
    }
    Some(address)
}

impl<'t, 'a> Reader<'t, 'a> {
    /// Entry `index` of a node's `reg`, as CPUs see it.
    pub(super) fn reg(
        &mut self,
        node: At<'t, 'a>,
        index: usize,
    ) -> Result<Option<Region>, NoMemory> {
        let property = "reg";
        let (address, size) = node.own_cells();
        let unit = address.saturating_add(size).saturating_mul(4);
        let Some(mut list) = self.list(node, property, unit)? else {
            self.find(node, What::Missing { property })?;
            return Ok(None);
        };
        let Some(entry) = list.nth(index) else { return Ok(None) };
        let Some((base, len)) = entry.split_at_checked(address.saturating_mul(4)) else {
            return Ok(None);
        };
        let (Some(base), Some(len)) = (number(base), number(len)) else {
            self.find(node, What::Length { property, len: unit, unit: 16 })?;
            return Ok(None);
        };
        let bus = node.parent().unwrap_or(node);
        let Some(at) = translate(bus, base, len) else {
            self.find(node, What::Untranslated { property, address: base })?;
            return Ok(None);
        };
        if at.checked_add(len.saturating_sub(1)).is_none() {
            self.find(node, What::Value { property, value: base })?;
            return Ok(None);
        }
        Ok(Some(Region { base: at, len }))
    }
}

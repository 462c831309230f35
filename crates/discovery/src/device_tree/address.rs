// SPDX-License-Identifier: MIT OR Apache-2.0
//! Addresses of buses, and what CPUs call them.

use alloc::vec::Vec;

use smmuv3::NoMemory;

use super::Reader;
use super::pci::{PCI_CELLS, is_host};
use super::tree::{At, number};
use crate::What;
use crate::instance::Region;
use crate::memory::push;

/// Entries of `ranges` that are looked at, all together: each bus's are, for each address on it.
pub(super) const MOST_STEPS: usize = 1 << 20;

/// Entries of `dma-ranges` that are looked at: each device on the bus has a copy of what they say.
const MOST_RANGES: usize = 16;

/// What devices on a bus can address.
#[derive(Default)]
pub(super) struct Reach {
    /// Bits of the highest address, where there is a limit.
    pub(super) address_bits: Option<u8>,
    /// Addresses of as many bits that the bus does not pass on.
    pub(super) gaps: Vec<Region>,
}

impl<'t, 'a> Reader<'t, 'a> {
    /// The address that CPUs have for `address`, as children of `bus` see it. The whole of `len` bytes must be in one
    /// range of each bus on the way.
    pub(super) fn translate(&mut self, bus: At<'_, '_>, address: u64, len: u64) -> Option<u64> {
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
                let mut steps = 0;
                let found = ranges.chunks_exact(unit).take(self.steps).find_map(|range| {
                    steps += 1;
                    let (from, rest) = range.split_at_checked(child * 4)?;
                    let (to, size) = rest.split_at_checked(parent * 4)?;
                    let (from, to, size) = (number(from)?, number(to)?, number(size)?);
                    let offset = address.checked_sub(from)?;
                    if offset > size || len > size - offset {
                        return None;
                    }
                    to.checked_add(offset)
                });
                // No more than were left.
                self.steps -= steps;
                address = found?;
            }
            at = above;
        }
        Some(address)
    }

    /// What devices on `bus` reach: what `dma-ranges` says of the nearest bus that limits it, from `bus` upwards. Where
    /// there is none, or it is empty, that bus passes on all.
    pub(super) fn reach(&mut self, bus: Option<At<'t, 'a>>) -> Result<Reach, NoMemory> {
        let property = "dma-ranges";
        let mut reach = Reach::default();
        let buses = core::iter::successors(bus, At::parent);
        let mut buses = buses.take_while(|bus| bus.index() != 0);
        let limits = |bus: &At<'_, '_>| bus.property(property).is_some_and(|all| !all.is_empty());
        let Some(bus) = buses.find(limits) else { return Ok(reach) };
        // Host bridges are so even if they do not say it.
        let child = if is_host(bus) { PCI_CELLS } else { bus.cells().0 };
        // What is odd about it, its first child says for all.
        let is_new = self.bus.replace(bus.index()) != Some(bus.index());
        let (parent, size) = (bus.own_cells().0, bus.cells().1);
        let unit = child.saturating_add(parent).saturating_add(size).saturating_mul(4);
        let Some(list) = self.list(bus, property, unit)? else { return Ok(reach) };
        if is_new && list.len() > MOST_RANGES {
            self.find(bus, What::TooMany { property, limit: MOST_RANGES })?;
        }
        let mut ranges = Vec::new();
        for range in list.take(MOST_RANGES) {
            let parts = range.split_at_checked(child.saturating_mul(4)).and_then(|(from, rest)| {
                let (to, len) = rest.split_at_checked(parent.saturating_mul(4))?;
                // Of PCI's, the first cell has flags.
                let from = if child == PCI_CELLS { from.get(4..)? } else { from };
                Some((number(from)?, number(to)?, number(len)?))
            });
            let Some((from, to, len)) = parts else {
                if is_new {
                    self.find(bus, What::Length { property, len: unit, unit: 16 })?;
                }
                return Ok(reach);
            };
            if is_new && from != to {
                // The SMMU sees addresses other than those that the device issues.
                self.find(bus, What::Value { property, value: to })?;
            }
            // The very last address of 64 bits is none that counts.
            let end = from.saturating_add(len);
            push(&mut ranges, (from, end))?;
        }
        ranges.sort_unstable();
        let mut reached = 0;
        for (first, end) in ranges.into_iter().filter(|(first, end)| first < end) {
            if reached < first {
                push(&mut reach.gaps, Region { base: reached, len: first - reached })?;
            }
            reached = reached.max(end);
        }
        // Nothing at all is nothing that can be believed.
        let Some(last) = reached.checked_sub(1) else { return Ok(reach) };
        let bits = u64::BITS - last.leading_zeros();
        if bits < u64::BITS {
            reach.address_bits = Some(bits as u8);
            let rest = (1 << bits) - reached;
            if rest != 0 {
                push(&mut reach.gaps, Region { base: reached, len: rest })?;
            }
        }
        Ok(reach)
    }

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
        let Some(at) = self.translate(bus, base, len) else {
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

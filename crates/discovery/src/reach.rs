// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a device can address, and what of it is taken.

use alloc::vec::Vec;

use smmuv3::NoMemory;

use crate::device::{Device, LookupError};
use crate::instance::Region;
use crate::memory::push;
use crate::root::Space;
use crate::topology::{Topology, requester};

/// Bits of an address within the smallest page.
const IN_PAGE: u64 = 0xfff;

impl Topology {
    /// Bits of the addresses that `device` issues, where there is a limit, and whether it snoops the CPUs' caches.
    ///
    /// 64 bits are no limit. Where several roots have its segment and bus, as an IORT can have it, it is what is true behind all of them: the
    /// fewest bits, and coherent only if all are.
    ///
    /// # Errors
    /// [`LookupError::UnknownDevice`]. A device behind no SMMU issues addresses all the same.
    pub fn dma_of(&self, device: Device<'_>) -> Result<(Option<u8>, bool), LookupError> {
        let (bits, coherent) = match device {
            Device::Pci { segment, bus, .. } => {
                requester(device).ok_or(LookupError::UnknownDevice)?;
                let roots = self.roots_of(segment, bus);
                let all = roots.map(|root| (root.address_bits, root.coherent));
                let behind_all = all.reduce(|(bits, coherent), (others, too)| {
                    (bits.into_iter().chain(others).min(), coherent && too)
                });
                behind_all.ok_or(LookupError::UnknownDevice)?
            }
            Device::Path(path) | Device::OnBus { path, .. } => {
                let named = self.named(path)?;
                (named.address_bits, named.coherent)
            }
        };
        Ok((bits.filter(|bits| u32::from(*bits) < u64::BITS), coherent))
    }

    /// The input addresses that must not be handed out to `device`, of those that it can issue: windows of its host
    /// bridge, memory that is kept for its streams, what firmware reserves for it, and what its bus does not pass on.
    /// Whole 4 KiB pages, in order; no two ranges touch, none is empty, and none has the last page of 64 bits.
    ///
    /// What it cannot issue because it has too few bits is not among them: [`Topology::dma_of`] says how many those are.
    /// Nor is where its interrupt messages go: that is mapped like memory ([`Topology::msi_of`]).
    ///
    /// # Errors
    /// As for [`Topology::streams_of`].
    pub fn reserved_for(&self, device: Device<'_>) -> Result<Vec<Region>, LookupError> {
        let (instance, streams) = self.streams_of(device)?;
        let mut reserved = Vec::new();
        let mut add = |region: Region| match pages(region) {
            Some(pages) => push(&mut reserved, pages),
            None => Ok::<_, NoMemory>(()),
        };
        match device {
            Device::Pci { segment, bus, .. } => {
                for root in self.roots_of(segment, bus) {
                    // I/O space is addressed otherwise.
                    let windows = root.windows.iter();
                    let mut windows = windows.filter(|window| window.space != Space::Io);
                    windows.try_for_each(|window| add(window.on_pci()))?;
                    root.reserved.iter().try_for_each(|region| add(*region))?;
                }
            }
            Device::Path(path) | Device::OnBus { path, .. } => {
                self.named(path)?.reserved.iter().try_for_each(|region| add(*region))?;
            }
        }
        for kept in &self.kept {
            let used = kept.streams.iter().any(|(of, first, last)| {
                *of == instance && streams.iter().any(|stream| (*first..=*last).contains(stream))
            });
            if used {
                kept.regions.iter().try_for_each(|region| add(*region))?;
            }
        }
        merge(&mut reserved);
        Ok(reserved)
    }
}

/// The 4 KiB pages that `region` is in, as far as there is an address behind them: without the last of 64 bits, which
/// no SMMU has as an input address.
fn pages(region: Region) -> Option<Region> {
    let base = region.base & !IN_PAGE;
    let end = (region.last() | IN_PAGE).checked_add(1).unwrap_or(!IN_PAGE);
    (region.len != 0 && base < end).then(|| Region { base, len: end - base })
}

/// Puts `regions` in order, and makes one of those that touch or overlap.
fn merge(regions: &mut Vec<Region>) {
    regions.sort_unstable_by_key(|region| region.base);
    regions.dedup_by(|next, before| {
        let end = before.range().end;
        let joined = next.base <= end;
        if joined {
            before.len = end.max(next.range().end) - before.base;
        }
        joined
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_a_region() {
        let of = |base, len| pages(Region { base, len }).map(|pages| (pages.base, pages.len));
        assert_eq!(of(0x1000, 0x2000), Some((0x1000, 0x2000)));
        assert_eq!(of(0x1fff, 2), Some((0x1000, 0x2000)));
        assert_eq!(of(0x1fff, 1), Some((0x1000, 0x1000)));
        assert_eq!((of(0, 0), of(0x1234, 0)), (None, None));
        // The last page has no address behind it.
        assert_eq!(of(0, u64::MAX), Some((0, u64::MAX - 0xfff)));
        assert_eq!(of(u64::MAX - 0xffff, 0x1_0000), Some((u64::MAX - 0xffff, 0xf000)));
        assert_eq!((of(u64::MAX - 0xfff, 0x1000), of(u64::MAX, 1)), (None, None));
        // One that is made up, and would end beyond.
        assert_eq!(of(u64::MAX - 0xffff, u64::MAX), Some((u64::MAX - 0xffff, 0xf000)));
    }

    #[test]
    fn regions_that_touch_are_one() {
        let region = |base, end| Region { base, len: end - base };
        let mut regions = [(5, 6), (1, 3), (9, 20), (3, 4), (10, 12), (9, 11), (5, 6), (21, 22)]
            .map(|(base, end)| region(base << 12, end << 12))
            .to_vec();
        merge(&mut regions);
        let expected = [(1, 4), (5, 6), (9, 20), (21, 22)];
        assert_eq!(regions, expected.map(|(base, end)| region(base << 12, end << 12)));
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Enhanced command queues (§2.6): where their registers are, and turning them off. Used, they are lanes of the
//! [`CommandQueue`](crate::command_queue::CommandQueue).
//!
//! An SMMU that has them describes pages of 64 KiB beyond the two that each has; each holds the registers of 2^NUMQ
//! queues, evenly spaced. Pages that [`Mmio::bytes`] does not cover are left alone.

use smmuv3_formats::register::{
    CONTROL_PAGE_STRIDE, CmdqControlPageBase, CmdqControlPageCfg, CmdqControlPageStatus, EcmdqCons,
    EcmdqProd, PAGE,
};

use crate::features::Features;
use crate::platform::Mmio;

/// Bytes of a queue's registers.
const SLOT: u32 = 16;
/// `CMDQGS` of pages of 64 KiB.
const PAGES_OF_64_KIB: u64 = 1;

/// The enhanced queues of an SMMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slots {
    log2_pages: u32,
    log2_queues: u32,
}

impl Slots {
    /// The enhanced queues of an SMMU with `features`; `None` if it has none.
    pub(crate) fn of(features: &Features) -> Option<Self> {
        let (log2_pages, log2_queues) = features.enhanced_queues_log2()?;
        let apart = PAGE >> log2_queues >= SLOT;
        // IDR6 has four bits of LOG2NUMP; what does not fit is a register that says anything.
        let end = CmdqControlPageBase::OFFSET + (CONTROL_PAGE_STRIDE << log2_pages);
        (apart && end <= PAGE).then_some(Self { log2_pages, log2_queues })
    }

    /// How many there are.
    pub(crate) const fn count(self) -> u32 {
        1 << (self.log2_pages + self.log2_queues)
    }

    /// Where the description of a page is.
    const fn description(self, page: u32) -> u32 {
        page * CONTROL_PAGE_STRIDE
    }

    /// Offset of a page, if it can be used: fixed in place, of the size that there is, and covered by `mmio`.
    fn page(self, mmio: &impl Mmio, page: u32) -> Option<u32> {
        let at = CmdqControlPageBase::OFFSET + self.description(page);
        let low = mmio.read32(at);
        let base = CmdqControlPageBase(u64::from(low) | u64::from(mmio.read32(at + 4)) << 32);
        let end = base.addr().checked_add(u64::from(PAGE))?;
        // Beyond the two pages that every SMMU has, within what `mmio` covers.
        let beyond = base.addr() >= 2 * u64::from(PAGE) && end <= mmio.bytes();
        let fits = beyond && base.preset() && base.gs() == PAGES_OF_64_KIB;
        fits.then(|| u32::try_from(base.addr()).ok()).flatten()
    }

    /// Offsets of the registers of each queue that can be used, with the number of its page.
    pub(crate) fn offsets(self, mmio: &impl Mmio) -> impl Iterator<Item = (u32, u32)> {
        let pages = (0..1u32 << self.log2_pages)
            .filter_map(move |page| Some((page, self.page(mmio, page)?)));
        // No overflow: the slot is within its page, whose end is an offset.
        let slot = move |queue: u32| queue * (PAGE >> self.log2_queues);
        pages.flat_map(move |(page, base)| {
            (0..1u32 << self.log2_queues).map(move |queue| (page, base + slot(queue)))
        })
    }

    /// Asks for the page to be enabled; `poll` waits until the register at an offset shows what it is asked for.
    pub(crate) fn enable<E>(
        self,
        mmio: &impl Mmio,
        page: u32,
        poll: impl FnOnce(u32, u32) -> Result<(), E>,
    ) -> Result<(), E> {
        let (cfg, status) = (CmdqControlPageCfg::OFFSET, CmdqControlPageStatus::OFFSET);
        let enabled = CmdqControlPageCfg::default().with_en(true);
        mmio.write32(cfg + self.description(page), enabled.0);
        let acknowledged = CmdqControlPageStatus::default().with_enack(true);
        poll(status + self.description(page), acknowledged.0)
    }
}

/// Asks the SMMU not to use the queue whose registers are at `slot`, if it does. It does not when ECMDQ_CONS, whose offset
/// is returned, shows ENACK = 0.
pub(crate) fn disable(mmio: &impl Mmio, slot: u32) -> u32 {
    let (prod, cons) = (slot + EcmdqProd::OFFSET, slot + EcmdqCons::OFFSET);
    let value = EcmdqProd(mmio.read32(prod));
    if value.en() {
        mmio.write32(prod, value.with_en(false).0);
    }
    cons
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests;

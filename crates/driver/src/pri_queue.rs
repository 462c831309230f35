// SPDX-License-Identifier: MIT OR Apache-2.0
//! The queue of page requests (§13): read in order, like events, but for what an overflow means.
//!
//! While an overflow is not acknowledged, the SMMU takes no requests, and answers complete groups by itself: nobody
//! waits for what is lost, and devices ask again. So it is acknowledged only when all that is in the queue was handed
//! over; what came of groups that are not complete by then, the SMMU has dropped.

use core::sync::atomic::{AtomicU64, Ordering};

use smmuv3_formats::register::{PriqBase, PriqCons, PriqProd};
use smmuv3_formats::{PAGE_REQUEST_BYTES, PageRequest, PhysAddr};

use crate::platform::{Mmio, Platform};
use crate::queue::{Inconsistent, Size};
use crate::spin::SpinLock;

/// The queue of page requests of one SMMU.
pub struct PriQueue {
    base: PhysAddr,
    size: Size,
    /// Position of the next record to read.
    head: SpinLock<u64>,
}

/// What the queue hands over, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// A record, as it is.
    Record(PageRequest),
    /// The queue was full: requests were lost here. The SMMU has answered the groups that they completed; those that are
    /// not complete by now may lack some, which devices ask for again.
    Overflow,
}

impl PriQueue {
    /// Takes memory for a queue of `size` from the platform; `None` when there is none.
    ///
    /// # Safety
    /// All other methods are given the same platform.
    pub unsafe fn new<P: Platform>(platform: &P, size: Size) -> Option<Self> {
        let base = platform.allocate_coherent(queue_bytes(size), queue_bytes(size).max(LEAST))?;
        Some(Self { base, size, head: SpinLock::new(0) })
    }

    /// Gives the memory back.
    ///
    /// # Safety
    /// The SMMU cannot access the queue: PRIQEN was seen 0, or the queue was never enabled.
    pub unsafe fn free<P: Platform>(self, platform: &P) {
        let bytes = queue_bytes(self.size);
        // SAFETY: allocated in `new`; the caller says the SMMU is done with it, and `self` is consumed.
        unsafe { platform.free_coherent(self.base, bytes, bytes.max(LEAST)) };
    }

    /// What PRIQ_BASE is to hold.
    pub fn base_register(&self) -> PriqBase {
        PriqBase::default()
            .with_log2size(u64::from(self.size.log2()))
            .with_addr(self.base.0)
            .with_wa(true)
    }

    /// Gives the queue, empty, to an SMMU whose PRIQEN is 0. Requests that nobody has read are gone: while PRIQEN is 0
    /// the SMMU tells devices that all has failed.
    pub fn restart<P: Platform>(&self, platform: &P, mmio: &P::Mmio) {
        // The registers under the lock too: a reader meanwhile must not compare old with new ones.
        self.head.with(platform, |head| {
            *head = 0;
            mmio.write64(PriqBase::OFFSET, self.base_register().0);
            mmio.write32(PriqProd::OFFSET, 0);
            mmio.write32(PriqCons::OFFSET, 0);
        });
    }

    /// Hands at most `budget` records to `sink`, oldest first, and makes room for new ones: before anybody can answer
    /// them, since an answer lets a device ask again. Returns whether more records are waiting. `sink` runs with
    /// interrupts masked, and does not come back to this queue. May be called in interrupt context.
    ///
    /// # Errors
    /// [`Inconsistent`] when the SMMU's index makes no sense; nothing was read then.
    pub fn drain<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        budget: usize,
        sink: &mut dyn FnMut(Delivery),
    ) -> Result<bool, Inconsistent> {
        self.head.with(platform, |head| {
            let prod = PriqProd(mmio.read32(PriqProd::OFFSET));
            let cons = PriqCons(mmio.read32(PriqCons::OFFSET));
            let register = prod.wr() as u32 & (2 * self.size.entries() as u32 - 1);
            let tail = self.size.position(*head, register)?;
            // The records are read after the index that says they are there, and the slots are given back after they
            // were read: `Mmio`'s contract.
            let end = tail.min(head.saturating_add(budget as u64));
            let read = end != *head;
            for position in *head..end {
                sink(Delivery::Record(self.read(platform, position)));
            }
            *head = end;
            // Nothing comes while it is not acknowledged, so what was there is all of it.
            let lost = end == tail && prod.ovflg() != cons.ovackflg();
            if lost {
                sink(Delivery::Overflow);
            }
            if read || lost {
                let acknowledged = if lost { prod.ovflg() } else { cons.ovackflg() };
                let cons = PriqCons(self.size.register(end)).with_ovackflg(acknowledged);
                mmio.write32(PriqCons::OFFSET, cons.0);
            }
            Ok(end < tail)
        })
    }

    fn read<P: Platform>(&self, platform: &P, position: u64) -> PageRequest {
        let offset = (self.size.slot(position) * PAGE_REQUEST_BYTES) as u64;
        PageRequest([0, 8].map(|byte| {
            let word = platform.pointer(PhysAddr(self.base.0 + offset + byte)).cast::<AtomicU64>();
            // SAFETY: the slot is below the number of entries, so this lies in the memory allocated in `new`,
            // 8-byte aligned; hardware writes it, so it is only ever read as atomic words.
            u64::from_le(unsafe { &*word.as_ptr() }.load(Ordering::Relaxed))
        }))
    }
}

/// What a queue is aligned to at least (§2.5).
const LEAST: usize = 32;

const fn queue_bytes(size: Size) -> usize {
    size.entries() as usize * PAGE_REQUEST_BYTES
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! The event queue (§3.3): records of refused transactions, read in order.

use core::sync::atomic::{AtomicU64, Ordering};

use smmuv3_formats::register::{EventqBase, EventqCons, EventqProd};
use smmuv3_formats::{EVENT_BYTES, EventRecord, PhysAddr};

use crate::platform::{Mmio, Platform};
use crate::queue::{Inconsistent, Size};
use crate::spin::SpinLock;

/// The event queue of one SMMU.
pub struct EventQueue {
    base: PhysAddr,
    size: Size,
    head: SpinLock<Head>,
}

#[derive(Clone, Copy)]
struct Head {
    /// Of the next record to read.
    position: u64,
    /// The SMMU was given the queue before.
    used: bool,
    /// Records were lost by a reset, and nobody was told yet.
    lost: bool,
}

/// What a look at the event queue found besides the records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Records read.
    pub records: usize,
    /// The queue was full and records were lost since the last look.
    pub overflow: bool,
    /// More records were waiting when the budget was spent.
    pub more: bool,
}

/// What the SMMU's index registers say.
struct Ends {
    /// Position after the last record.
    tail: u64,
    /// EVENTQ_PROD.OVFLG.
    overflow: bool,
    /// It differs from its acknowledgement: records were lost since.
    lost: bool,
}

impl EventQueue {
    /// Takes memory for a queue of `size` from the platform; `None` when there is none.
    pub fn new<P: Platform>(platform: &P, size: Size) -> Option<Self> {
        let base = platform.allocate_coherent(queue_bytes(size), queue_bytes(size))?;
        Some(Self {
            base,
            size,
            head: SpinLock::new(Head { position: 0, used: false, lost: false }),
        })
    }

    /// Gives the memory back.
    ///
    /// # Safety
    /// The SMMU cannot access the queue: EVENTQEN was seen 0, or the queue was never enabled.
    pub unsafe fn free<P: Platform>(self, platform: &P) {
        let bytes = queue_bytes(self.size);
        // SAFETY: allocated in `new`; the caller says the SMMU is done with it, and `self` is consumed.
        unsafe { platform.free_coherent(self.base, bytes, bytes) };
    }

    /// What EVENTQ_BASE is to hold.
    pub fn base_register(&self) -> EventqBase {
        EventqBase::default()
            .with_log2size(u64::from(self.size.log2()))
            .with_addr(self.base.0)
            .with_wa(true)
    }

    /// Gives the queue, empty, to an SMMU whose EVENTQEN is 0. Records that nobody has read are reported as
    /// lost by the next [`EventQueue::drain`].
    pub(crate) fn restart<P: Platform>(&self, platform: &P, mmio: &P::Mmio) {
        // The registers under the lock too: a reader meanwhile must not compare old with new ones.
        self.head.with(platform, |head| {
            if head.used {
                let unread = self.ends(head.position, mmio);
                head.lost |= unread.map_or(true, |ends| ends.tail != head.position || ends.lost);
            }
            head.used = true;
            head.position = 0;
            mmio.write64(EventqBase::OFFSET, self.base_register().0);
            mmio.write32(EventqProd::OFFSET, 0);
            mmio.write32(EventqCons::OFFSET, 0);
        });
    }

    /// Hands at most `budget` records to `sink`, oldest first, and makes room for new ones. `sink` runs with
    /// interrupts masked. May be called in interrupt context.
    ///
    /// # Errors
    /// [`Inconsistent`] when the SMMU's index makes no sense; nothing was read then.
    pub fn drain<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        budget: usize,
        sink: &mut dyn FnMut(EventRecord),
    ) -> Result<Drained, Inconsistent> {
        self.head.with(platform, |head| {
            let Ends { tail, overflow, lost } = self.ends(head.position, mmio)?;
            // The records are read after the index that says they are there, and the slots are given back after
            // they were read: `Mmio`'s contract.
            let end = tail.min(head.position.saturating_add(budget as u64));
            let records = (end - head.position) as usize;
            for position in head.position..end {
                sink(self.read(platform, position));
            }
            head.position = end;
            if records > 0 || lost {
                let cons = EventqCons(self.size.register(end)).with_ovackflg(overflow);
                mmio.write32(EventqCons::OFFSET, cons.0);
            }
            let overflow = lost | core::mem::take(&mut head.lost);
            Ok(Drained { records, overflow, more: end < tail })
        })
    }

    /// What the SMMU has written, given the position of the next record to read.
    fn ends(&self, head: u64, mmio: &impl Mmio) -> Result<Ends, Inconsistent> {
        let prod = EventqProd(mmio.read32(EventqProd::OFFSET));
        let cons = EventqCons(mmio.read32(EventqCons::OFFSET));
        let register = prod.wr() as u32 & (2 * self.size.entries() as u32 - 1);
        Ok(Ends {
            tail: self.size.position(head, register)?,
            overflow: prod.ovflg(),
            lost: prod.ovflg() != cons.ovackflg(),
        })
    }

    fn read<P: Platform>(&self, platform: &P, position: u64) -> EventRecord {
        let offset = (self.size.slot(position) * EVENT_BYTES) as u64;
        EventRecord([0, 8, 16, 24].map(|byte| {
            let word = platform.pointer(PhysAddr(self.base.0 + offset + byte)).cast::<AtomicU64>();
            // SAFETY: the slot is below the number of entries, so this lies in the memory allocated in `new`,
            // 8-byte aligned; hardware writes it, so it is only ever read as atomic words.
            u64::from_le(unsafe { &*word.as_ptr() }.load(Ordering::Relaxed))
        }))
    }
}

const fn queue_bytes(size: Size) -> usize {
    size.entries() as usize * EVENT_BYTES
}

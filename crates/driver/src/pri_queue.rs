// SPDX-License-Identifier: MIT OR Apache-2.0
//! The queue of page requests (§13): read in order, like events, but for what an overflow means.
//!
//! While an overflow is not acknowledged, the SMMU takes no requests, and answers complete groups by itself: nobody
//! waits for what is lost, and devices ask again. So it is acknowledged only when all that is in the queue was handed
//! over; what came of groups that are not complete by then, the SMMU has dropped.

use core::fmt;
#[cfg(feature = "alloc")]
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use smmuv3_formats::register::{PriqBase, PriqCons, PriqProd};
use smmuv3_formats::{PAGE_REQUEST_BYTES, PageRequest, PhysAddr};

use crate::platform::{Mmio, Platform};
use crate::queue::{Inconsistent, Size};
use crate::spin::SpinLock;

/// The queue of page requests of one SMMU (§13), in memory of the platform. Whoever reads it has it alone.
pub struct PriQueue {
    base: PhysAddr,
    size: Size,
    /// Offsets of PRIQ_PROD and PRIQ_CONS.
    offsets: [u32; 2],
    head: SpinLock<Head>,
}

impl fmt::Debug for PriQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PriQueue").field("base", &self.base_register()).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy)]
struct Head {
    /// Position of the next record to read.
    position: u64,
    /// Whether the SMMU was given the queue before.
    used: bool,
    /// What a reset threw away and was not reported yet: how many records, and whether others had not fitted.
    thrown: Option<(usize, bool)>,
}

/// What the queue hands over, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// A record, as it is.
    Record(PageRequest),
    /// Records are missing here.
    Lost(Gap),
}

/// Requests that nobody will see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// The queue was full: requests were lost here. The SMMU has answered the groups that they completed; those that are
    /// not complete by now may lack some, which devices ask for again.
    Overflow,
    /// A reset emptied the queue.
    Reset {
        /// Records that were thrown away; at most so many, if the SMMU's index made no sense.
        unread: usize,
        /// Others had not fitted before, or could not be written.
        overflow: bool,
    },
}

/// Whoever reads the queue, in its lock and with interrupts masked.
pub(crate) trait Reader {
    /// The next record.
    fn take(&mut self, record: PageRequest) -> Next;

    /// The slots of all that was taken have been given back to the SMMU: those requests may be answered now.
    fn consumed(&mut self);

    /// Requests are missing behind those that were taken.
    fn lost(&mut self, gap: Gap);
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The record was not taken: it and those behind it stay for the next time.
    Later,
    /// The record was taken.
    Taken,
    /// The record was taken, and may be answered, after [`Reader::consumed`].
    Answerable,
}

impl Reader for &mut dyn FnMut(Delivery) {
    fn take(&mut self, record: PageRequest) -> Next {
        self(Delivery::Record(record));
        Next::Taken
    }

    fn consumed(&mut self) {}

    fn lost(&mut self, gap: Gap) {
        self(Delivery::Lost(gap));
    }
}

impl PriQueue {
    /// Takes memory for a queue of `size` from the platform; `None` when there is none.
    ///
    /// # Safety
    /// All other methods are given the same platform.
    pub unsafe fn new<P: Platform>(platform: &P, size: Size) -> Option<Self> {
        let base = platform.allocate_coherent(queue_bytes(size), queue_bytes(size).max(LEAST))?;
        let head = Head { position: 0, used: false, thrown: None };
        let offsets = [PriqProd::OFFSET, PriqCons::OFFSET];
        Some(Self { base, size, offsets, head: SpinLock::new(head) })
    }

    /// The same queue, of an SMMU whose registers of page 1 are in page 0 ([`Features::page_0_only`]).
    ///
    /// [`Features::page_0_only`]: crate::Features::page_0_only
    #[must_use]
    pub fn in_page_0(mut self) -> Self {
        self.move_to_page_0();
        self
    }

    /// As [`PriQueue::in_page_0`], where it is.
    pub(crate) fn move_to_page_0(&mut self) {
        self.offsets.iter_mut().for_each(|offset| *offset &= 0xffff);
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

    /// Number of entries.
    pub const fn size(&self) -> Size {
        self.size
    }

    /// What PRIQ_BASE is to hold.
    pub fn base_register(&self) -> PriqBase {
        PriqBase::default()
            .with_log2size(u64::from(self.size.log2()))
            .with_addr(self.base.0)
            .with_wa(true)
    }

    /// Gives the queue, empty, to an SMMU whose PRIQEN is 0: until it is 1, the SMMU tells devices that all has failed.
    /// Records that nobody has read are shown to `unread`, a few each time that interrupts are masked, and reported as lost by the
    /// next [`PriQueue::drain`]; their groups wait for an answer all the same, but those whose end is not among them.
    pub fn restart<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        unread: &mut dyn FnMut(PageRequest),
    ) {
        // No more than there can be, whatever becomes of the index meanwhile.
        let mut left = self.size.entries();
        loop {
            // The registers are written under the lock as well: a reader must not compare old indices with new ones.
            let more = self.head.with(platform, |head| {
                if head.used && self.throw_away(platform, mmio, head, &mut left, unread) {
                    return true;
                }
                head.used = true;
                head.position = 0;
                mmio.write64(PriqBase::OFFSET, self.base_register().0);
                mmio.write32(self.offsets[0], 0);
                mmio.write32(self.offsets[1], 0);
                false
            });
            if !more {
                return;
            }
        }
    }

    /// Throws away the next few records that nobody has read, at most those that are `left`, and shows them to `unread`. Whether
    /// there are more: until they are thrown away, too, a reader may come to them.
    fn throw_away<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        head: &mut Head,
        left: &mut u64,
        unread: &mut dyn FnMut(PageRequest),
    ) -> bool {
        let prod = PriqProd(mmio.read32(self.offsets[0]));
        let cons = PriqCons(mmio.read32(self.offsets[1]));
        let (mut count, mut overflow) = head.thrown.unwrap_or((0, false));
        let mut more = false;
        match self.tail(head.position, prod) {
            Ok(tail) => {
                let some = (tail - head.position).min(AT_ONCE).min(*left);
                let end = head.position + some;
                for at in head.position..end {
                    unread(self.read(platform, at));
                    self.clear(platform, at);
                }
                // At most the size of the queue.
                count += some as usize;
                (head.position, *left) = (end, *left - some);
                more = end != tail && *left != 0;
                if !more {
                    // And one more, of which a part may have arrived.
                    self.clear(platform, end);
                }
                overflow |= !more && prod.ovflg() != cons.ovackflg();
            }
            Err(_) => {
                count += self.size.entries() as usize;
                overflow = true;
                (0..self.size.entries()).for_each(|at| self.clear(platform, at));
            }
        }
        head.thrown = (count != 0 || overflow).then_some((count, overflow));
        more
    }

    /// Notes that a reset acknowledged, in the name of this queue, that the SMMU could not write to it: the next
    /// [`PriQueue::drain`] reports it. What was before the queue was given to the SMMU is not its concern.
    pub(crate) fn aborted<P: Platform>(&self, platform: &P) {
        self.head.with(platform, |head| {
            if head.used {
                head.thrown = Some((head.thrown.map_or(0, |(count, _)| count), true));
            }
        });
    }

    /// The index registers mean nothing any more, because the SMMU lost its power: [`PriQueue::restart`] throws
    /// nothing away.
    pub(crate) fn forget_indices<P: Platform>(&self, platform: &P) {
        self.head.with(platform, |head| head.used = false);
        // Nobody reads it as long as its SMMU sleeps.
        (0..self.size.entries()).for_each(|position| self.clear(platform, position));
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
        mut sink: &mut dyn FnMut(Delivery),
    ) -> Result<bool, Inconsistent> {
        self.drain_to(platform, mmio, budget, &mut sink)
    }

    /// As [`PriQueue::drain`], for whoever answers as soon as there is room, or leaves records for the next time.
    pub(crate) fn drain_to<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        budget: usize,
        reader: &mut dyn Reader,
    ) -> Result<bool, Inconsistent> {
        self.head.with(platform, |head| {
            let prod = PriqProd(mmio.read32(self.offsets[0]));
            let acknowledged = PriqCons(mmio.read32(self.offsets[1])).ovackflg();
            let tail = self.tail(head.position, prod)?;
            if let Some((unread, overflow)) = head.thrown.take() {
                reader.lost(Gap::Reset { unread, overflow });
            }
            let told = |position, flag| {
                let cons = PriqCons(self.size.register(position)).with_ovackflg(flag);
                mmio.write32(self.offsets[1], cons.0);
            };
            // The records are read after the index that says they are there, and the slots are given back after they
            // were read: `Mmio`'s contract.
            let limit = tail.min(head.position.saturating_add(budget as u64));
            let (begin, mut given_back) = (head.position, head.position);
            while head.position != limit {
                let next = reader.take(self.read(platform, head.position));
                if next == Next::Later {
                    break;
                }
                self.clear(platform, head.position);
                head.position += 1;
                if next == Next::Answerable {
                    given_back = head.position;
                    told(given_back, acknowledged);
                    reader.consumed();
                }
            }
            // The SMMU takes no requests while the overflow is not acknowledged, so with `tail` reached the queue is
            // empty.
            let lost = head.position == tail && prod.ovflg() != acknowledged;
            if lost {
                reader.lost(Gap::Overflow);
            }
            let flag = if lost { prod.ovflg() } else { acknowledged };
            if lost || given_back != head.position {
                told(head.position, flag);
            }
            if head.position < tail || head.position == begin && !lost {
                return Ok(head.position < tail);
            }
            // The interrupt comes only when the queue stops being empty (§2.4). A record that came before the SMMU had
            // seen CONS raised none, nor did one that found the queue full: so the index is read once more.
            let prod = PriqProd(mmio.read32(self.offsets[0]));
            Ok(self.tail(head.position, prod)? != head.position || prod.ovflg() != flag)
        })
    }

    /// The records that nobody has read yet.
    ///
    /// # Errors
    /// [`Inconsistent`] when the SMMU's index makes no sense.
    #[cfg(feature = "alloc")]
    pub(crate) fn unread<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
    ) -> Result<Range<u64>, Inconsistent> {
        self.head.with(platform, |head| {
            let prod = PriqProd(mmio.read32(self.offsets[0]));
            Ok(head.position..self.tail(head.position, prod)?)
        })
    }

    /// Shows at most `most` of the `range` of records that [`PriQueue::unread`] returned, without those that were read
    /// meanwhile, and takes them off it. Those that are `over` become [`OVER`]. The queue was not given to the SMMU
    /// anew since.
    #[cfg(feature = "alloc")]
    pub(crate) fn revise<P: Platform>(
        &self,
        platform: &P,
        range: &mut Range<u64>,
        most: usize,
        over: &mut dyn FnMut(PageRequest) -> bool,
    ) {
        self.head.with(platform, |head| {
            range.start = range.start.max(head.position).min(range.end);
            for position in range.by_ref().take(most) {
                if over(self.read(platform, position)) {
                    self.clear(platform, position);
                }
            }
        });
    }

    /// Position after the last record, given that of the next one to read.
    fn tail(&self, head: u64, prod: PriqProd) -> Result<u64, Inconsistent> {
        self.size.position(head, self.size.register(prod.wr()))
    }

    fn read<P: Platform>(&self, platform: &P, position: u64) -> PageRequest {
        let mut record = PageRequest([0; 2]);
        for (word, value) in self.words(platform, position).zip(&mut record.0) {
            *value = u64::from_le(word.load(Ordering::Relaxed));
        }
        record
    }

    /// Puts [`OVER`] in the place of a record, also before its slot is given back: should the next one for that slot not arrive,
    /// although PROD says that it did (an asynchronous abort), what was there is not taken for it.
    fn clear<P: Platform>(&self, platform: &P, position: u64) {
        for (word, value) in self.words(platform, position).zip(OVER.0) {
            word.store(value.to_le(), Ordering::Relaxed);
        }
    }

    /// The words of a record.
    fn words<'a, P: Platform>(
        &'a self,
        platform: &'a P,
        position: u64,
    ) -> impl Iterator<Item = &'a AtomicU64> + use<'a, P> {
        let record = self.base.0 + (self.size.slot(position) * PAGE_REQUEST_BYTES) as u64;
        [0, 8].into_iter().map(move |byte| {
            let word = platform.pointer(PhysAddr(record + byte)).cast::<AtomicU64>();
            // SAFETY: the slot is below the number of entries, so this lies in the memory allocated in `new`,
            // 8-byte aligned, which lives until `free` consumes the queue; hardware writes it, so it is only ever
            // accessed as atomic words.
            unsafe { &*word.as_ptr() }
        })
    }
}

/// A record that says nothing: neither is a page asked for, nor an answer. What was in its place is over, or nothing ever was there.
pub(crate) const OVER: PageRequest = PageRequest([0; 2]);

/// How many records a reset goes through each time it holds the lock.
const AT_ONCE: u64 = 32;

/// What a queue is aligned to at least (§2.5).
const LEAST: usize = 32;

const fn queue_bytes(size: Size) -> usize {
    size.entries() as usize * PAGE_REQUEST_BYTES
}

#[cfg(all(test, feature = "alloc", not(any(loom, shuttle))))]
mod tests;

// SPDX-License-Identifier: MIT OR Apache-2.0
//! The event queue (§3.3): records of refused transactions, read in order.

use core::fmt;
#[cfg(feature = "alloc")]
use core::ops::Range;
#[cfg(feature = "counts")]
use core::sync::atomic::AtomicBool;
use core::sync::atomic::{AtomicU64, Ordering};

use smmuv3_formats::register::{EventqBase, EventqCons, EventqProd};
use smmuv3_formats::{EVENT_BYTES, EventRecord, PhysAddr};

use crate::mutation::{LeftOut, Mutation};
use crate::platform::{Mmio, Platform};
use crate::queue::{Inconsistent, Size};
use crate::spin::SpinLock;
use crate::statistics::EventStatistics;
#[cfg(feature = "counts")]
use crate::tally::Noted;
#[cfg(feature = "alloc")]
use crate::tally::Tally;

/// The event queue of one SMMU (§10), in memory of the platform. Whoever reads it has it alone.
pub struct EventQueue {
    base: PhysAddr,
    size: Size,
    /// Where EVENTQ_PROD and EVENTQ_CONS are.
    offsets: [u32; 2],
    head: SpinLock<Head>,
    /// Whether the tally may have faults in it.
    #[cfg(feature = "counts")]
    tallied: AtomicBool,
    left_out: LeftOut,
}

impl fmt::Debug for EventQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventQueue").field("base", &self.base_register()).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy)]
struct Head {
    /// Position of the next record to read.
    position: u64,
    /// Added to a record's position, this is its number. Positions begin anew when the SMMU is given the queue anew,
    /// numbers do not.
    before: u64,
    /// Whether the SMMU was given the queue before.
    used: bool,
    /// Records that resets threw away and that were not reported yet,
    unread: usize,
    /// and whether others had not fitted, or could not be written.
    overflow: bool,
    handed: EventStatistics,
    /// The faults that were handed over, until they are settled with their domains.
    #[cfg(feature = "counts")]
    tally: Tally,
}

/// What the queue hands over, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// A record, as it is.
    Record(EventRecord),
    /// Records are missing here.
    Lost(Lost),
}

/// Events that nobody will see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lost {
    /// The queue was full, and some did not fit; the SMMU does not count them (§3.3). They came after all records that
    /// were handed over before, and lie between the next `among` ones, or right after these.
    Overflow {
        /// Records in the queue.
        among: usize,
    },
    /// The SMMU could not write to the queue (`GERROR.EVENTQ_ABT_ERR`). It does not count them; they came before this
    /// was reported, and what is in the queue by then may not be what the SMMU meant: a record of which nothing has arrived, although
    /// the SMMU says that it is there, is handed over as it is, with a zero in every word.
    ///
    /// Among them may be the event of a transaction that has stalled, and waits: nobody knows its number, so nobody can answer it. It
    /// ends when the last of what its master is attached to is detached, or with a reset of the SMMU.
    Aborted,
    /// A reset emptied the queue.
    Reset {
        /// Records that were thrown away; at most so many, if the SMMU's index made no sense.
        unread: usize,
        /// Others had not fitted before, or could not be written.
        overflow: bool,
    },
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overflow { among } => {
                write!(f, "the event queue was full; events were lost among the next {among}")
            }
            Self::Aborted => f.write_str("events could not be written to the queue"),
            Self::Reset { unread, overflow } => {
                write!(f, "a reset threw {unread} unread events away")?;
                f.write_str(if *overflow { ", and others had not fitted" } else { "" })
            }
        }
    }
}

/// A record, as it is in memory.
type Words = [AtomicU64; EVENT_BYTES / 8];

/// What the SMMU's index registers say.
struct Ends {
    /// Position after the last record.
    tail: u64,
    /// EVENTQ_PROD.OVFLG.
    overflow: bool,
    /// Whether OVFLG differs from its acknowledgement: then records were lost since.
    lost: bool,
}

impl EventQueue {
    /// Takes memory for a queue of `size` from the platform; `None` when there is none.
    ///
    /// # Safety
    /// All other methods are given the same platform.
    pub unsafe fn new<P: Platform>(platform: &P, size: Size) -> Option<Self> {
        let base = platform.allocate_coherent(queue_bytes(size), queue_bytes(size))?;
        Some(Self {
            base,
            size,
            offsets: [EventqProd::OFFSET, EventqCons::OFFSET],
            head: SpinLock::new(Head {
                position: 0,
                before: 0,
                used: false,
                unread: 0,
                overflow: false,
                handed: EventStatistics { events: 0, gaps: 0, untold: 0 },
                #[cfg(feature = "counts")]
                tally: Tally::new(),
            }),
            #[cfg(feature = "counts")]
            tallied: AtomicBool::new(false),
            left_out: LeftOut::default(),
        })
    }

    /// The same queue, of an SMMU whose registers of page 1 are in page 0 ([`Features::page_0_only`]).
    ///
    /// [`Features::page_0_only`]: crate::Features::page_0_only
    #[must_use]
    pub fn in_page_0(mut self) -> Self {
        self.move_to_page_0();
        self
    }

    /// As [`EventQueue::in_page_0`], where it is.
    pub(crate) fn move_to_page_0(&mut self) {
        self.offsets.iter_mut().for_each(|offset| *offset &= 0xffff);
    }

    /// Leaves a step out, if that is one of its own.
    pub(crate) fn leave_out(&mut self, left_out: LeftOut) {
        self.left_out = left_out;
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

    /// How much was handed over so far, and how many gaps there were, with those that callers have counted by
    /// `note_gap`.
    pub fn statistics<P: Platform>(&self, platform: &P) -> EventStatistics {
        self.head.with(platform, |head| head.handed)
    }

    /// Counts a gap that is not among the records: the SMMU could not write them.
    #[cfg(feature = "alloc")]
    pub(crate) fn note_gap<P: Platform>(&self, platform: &P) {
        self.head.with(platform, |head| head.handed.gaps += 1);
    }

    /// Gives the queue, empty, to an SMMU whose EVENTQEN is 0. Records that nobody has read are reported as
    /// lost by the next [`EventQueue::drain`].
    pub(crate) fn restart<P: Platform>(&self, platform: &P, mmio: &P::Mmio) {
        // The registers are written under the lock as well: a reader must not compare old indices with new ones.
        self.head.with(platform, |head| {
            if head.used {
                let (tail, lost) = match self.ends(head.position, mmio) {
                    Ok(ends) => (ends.tail, ends.lost),
                    Err(_) => (head.position + self.size.entries(), true),
                };
                // And one more, of which a part may have arrived.
                for position in head.position..tail + 1 {
                    clear(self.words(platform, position));
                }
                // At most the size of the queue.
                head.unread += (tail - head.position) as usize;
                head.overflow |= lost;
            }
            head.used = true;
            // Numbers go on: beyond that of any record that could have been in the queue.
            head.before += head.position + self.size.entries();
            head.position = 0;
            mmio.write64(EventqBase::OFFSET, self.base_register().0);
            let [prod, cons] = self.offsets;
            mmio.write32(prod, 0);
            mmio.write32(cons, 0);
        });
    }

    /// Notes that a reset acknowledged, in the name of this queue, that the SMMU could not write to it: the next
    /// [`EventQueue::drain`] reports it. What was before the queue was given to the SMMU is not its concern.
    pub(crate) fn aborted<P: Platform>(&self, platform: &P) {
        self.head.with(platform, |head| {
            head.overflow |= head.used;
        });
    }

    /// The index registers mean nothing any more, because the SMMU lost its power: [`EventQueue::restart`] throws
    /// nothing away.
    pub(crate) fn forget_indices<P: Platform>(&self, platform: &P) {
        self.head.with(platform, |head| head.used = false);
        // Nobody reads it as long as its SMMU sleeps.
        (0..self.size.entries()).for_each(|position| clear(self.words(platform, position)));
    }

    /// Hands at most `budget` records to `sink`, oldest first, with the gaps where some were lost, and makes room
    /// for new ones. Returns whether more records are waiting. `sink` runs with interrupts masked, and does not come
    /// back to this queue, not even to reset the SMMU. May be called in interrupt context.
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
        self.drain_while(platform, mmio, budget, &|_| false, &mut |delivery, _| {
            sink(delivery);
            true
        })
    }

    /// As [`EventQueue::drain`], but `sink` may leave a record, and those behind it, for the next time, and is given the
    /// number of the next record beside each delivery: greater ones are of later records, also after a reset. Faults are tallied
    /// that are `counted`.
    pub(crate) fn drain_while<P: Platform>(
        &self,
        platform: &P,
        mmio: &P::Mmio,
        budget: usize,
        counted: &dyn Fn(&EventRecord) -> bool,
        sink: &mut dyn FnMut(Delivery, u64) -> bool,
    ) -> Result<bool, Inconsistent> {
        let _ = counted;
        self.head.with(platform, |head| {
            let Ends { tail, overflow, lost } = self.ends(head.position, mmio)?;
            let before = head.before;
            let number = |position: u64| before + position;
            if head.unread != 0 || head.overflow {
                let reset = Lost::Reset { unread: head.unread, overflow: head.overflow };
                (head.unread, head.overflow) = (0, false);
                head.handed.gaps += 1;
                sink(Delivery::Lost(reset), number(head.position));
            }
            if lost {
                // The queue became full at some moment after the last look, or before that look made room: the gap is
                // somewhere among the records that are in it. Their number fits: at most its size.
                let among = (tail - head.position) as usize;
                head.handed.gaps += 1;
                sink(Delivery::Lost(Lost::Overflow { among }), number(head.position));
            }
            // The records are read after the index that says they are there, and the slots are given back after
            // they were read: `Mmio`'s contract.
            let limit = tail.min(head.position.saturating_add(budget as u64));
            let mut end = head.position;
            while end != limit {
                let words = self.words(platform, end);
                let record = read(words);
                if !sink(Delivery::Record(record), number(end)) {
                    break;
                }
                clear(words);
                #[cfg(feature = "counts")]
                {
                    let noted = counted(&record).then(|| head.tally.note(&record));
                    match noted {
                        None | Some(Noted::NoFault) => {}
                        Some(Noted::Counted) => self.tallied.store(true, Ordering::Relaxed),
                        Some(Noted::NoRoom(lost)) => head.handed.untold += lost,
                    }
                }
                end += 1;
            }
            let read = end != head.position;
            let count = end - head.position;
            let count = if self.left_out.is(Mutation::UncountedEvents) { 0 } else { count };
            head.handed.events += count;
            head.position = end;
            if read || lost {
                // The overflow is acknowledged as soon as it is seen: until then another one would not show (§3.3).
                let cons = EventqCons(self.size.register(end)).with_ovackflg(overflow);
                mmio.write32(self.offsets[1], cons.0);
            }
            if !read || end < tail {
                return Ok(end < tail);
            }
            // The interrupt comes only when the queue stops being empty (§2.4). A record that came before the SMMU had
            // seen CONS raised none, nor did one that found the queue full: so the index is read once more.
            let prod = EventqProd(mmio.read32(self.offsets[0]));
            let more = self.size.register(prod.wr()) != self.size.register(end);
            Ok(more || prod.ovflg() != overflow)
        })
    }

    /// The faults that were handed over since the last call, if any.
    #[cfg(feature = "counts")]
    pub(crate) fn take_tally<P: Platform>(&self, platform: &P) -> Option<Tally> {
        if !self.tallied.load(Ordering::Relaxed) {
            return None;
        }
        Some(self.head.with(platform, |head| {
            self.tallied.store(false, Ordering::Relaxed);
            core::mem::replace(&mut head.tally, Tally::new())
        }))
    }

    /// Nobody counts.
    #[cfg(all(feature = "alloc", not(feature = "counts")))]
    pub(crate) const fn take_tally<P: Platform>(&self, _: &P) -> Option<Tally> {
        None
    }

    /// A number that is greater than those of all records that the SMMU has written, and not than those of any that it will
    /// write. Where the registers of its index are not to be read, or make no sense, it is greater than those of some that come
    /// before the queue is given to the SMMU anew.
    #[cfg(all(feature = "alloc", feature = "nested"))]
    pub(crate) fn next_number<P: Platform>(&self, platform: &P, mmio: Option<&P::Mmio>) -> u64 {
        self.head.with(platform, |head| {
            let ends = mmio.and_then(|mmio| self.ends(head.position, mmio).ok());
            let most = head.position + self.size.entries();
            head.before + ends.map_or(most, |ends| ends.tail)
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
        self.head.with(platform, |head| Ok(head.position..self.ends(head.position, mmio)?.tail))
    }

    /// Shows at most `most` of the `range` of records that [`EventQueue::unread`] returned, without those that were read
    /// meanwhile, and takes them off it. A record that `revise` returns takes the place of the one that it was shown.
    /// The queue was not given to the SMMU anew since.
    #[cfg(feature = "alloc")]
    pub(crate) fn revise<P: Platform>(
        &self,
        platform: &P,
        range: &mut Range<u64>,
        most: usize,
        revise: &mut dyn FnMut(EventRecord) -> Option<EventRecord>,
    ) {
        self.head.with(platform, |head| {
            range.start = range.start.max(head.position).min(range.end);
            for position in range.by_ref().take(most) {
                let words = self.words(platform, position);
                if let Some(record) = revise(read(words)) {
                    for (word, value) in words.iter().zip(record.0) {
                        word.store(value.to_le(), Ordering::Relaxed);
                    }
                }
            }
        });
    }

    /// The end of what the SMMU has written, and whether records were lost, given the position of the next record to
    /// read.
    fn ends(&self, head: u64, mmio: &impl Mmio) -> Result<Ends, Inconsistent> {
        let [prod, cons] = self.offsets;
        let (prod, cons) = (EventqProd(mmio.read32(prod)), EventqCons(mmio.read32(cons)));
        let register = self.size.register(prod.wr());
        Ok(Ends {
            tail: self.size.position(head, register)?,
            overflow: prod.ovflg(),
            lost: prod.ovflg() != cons.ovackflg(),
        })
    }

    /// The words of a record.
    fn words<'a, P: Platform>(&'a self, platform: &'a P, position: u64) -> &'a Words {
        let record = self.base.0 + (self.size.slot(position) * EVENT_BYTES) as u64;
        let words = platform.pointer(PhysAddr(record)).cast();
        // SAFETY: the slot is below the number of entries, so this lies in the memory allocated in `new`, 8-byte aligned,
        // which lives until `free` consumes the queue; hardware writes it, so it is only ever accessed as atomic words.
        unsafe { words.as_ref() }
    }
}

fn read([first, second, third, last]: &Words) -> EventRecord {
    let word = |word: &AtomicU64| u64::from_le(word.load(Ordering::Relaxed));
    EventRecord([word(first), word(second), word(third), word(last)])
}

/// Takes a record that is over out of its slot, before CONS says so: should the next one for that slot not arrive, although PROD
/// says that it did (an asynchronous abort, §3.3), what was there is not taken for it, and nobody answers by its STAG. Zero is the
/// number of no event.
fn clear(words: &Words) {
    words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
}

const fn queue_bytes(size: Size) -> usize {
    size.entries() as usize * EVENT_BYTES
}

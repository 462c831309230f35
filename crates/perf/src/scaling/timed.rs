// SPDX-License-Identifier: MIT OR Apache-2.0
//! An SMMU that takes its time: what it is told is done so much later, unread.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use smmuv3::Mmio;
use smmuv3_formats::register::{CmdqCons, CmdqProd, EcmdqCons, EcmdqProd, PAGE};

use super::cpus::Line;
use crate::machine::{ENHANCED, Registers};

/// An SMMU that has done what it was told `latency` nanoseconds after it was told, in order, however much that is: each of
/// its command queues by itself.
pub struct Timed {
    registers: Registers,
    latency: u64,
    begun: Instant,
    /// The command queue, and the enhanced ones.
    queues: Vec<Due>,
}

/// What one queue has been told of: each index that was written to PROD, and when it is done. Without a lock, as
/// registers are: nobody who writes one waits for somebody who reads another.
struct Due {
    /// Of those who read CONS: how many of what was told is done, and found so. On cache lines of its own.
    done: Line<AtomicU64>,
    /// Of the one who writes PROD: whoever uses the queue sees to it that there is one at a time.
    told: Line<AtomicU64>,
    /// By number, modulo how many there are: far more than any queue holds.
    entries: Vec<(AtomicU64, AtomicU32)>,
    cons: u32,
}

/// A power of two, above the size of all queues.
const ENTRIES: usize = 1024;

impl Due {
    fn new(cons: u32) -> Self {
        let entries = (0..ENTRIES).map(|_| (AtomicU64::new(0), AtomicU32::new(0))).collect();
        let [done, told] = [(); 2].map(|()| Line(AtomicU64::new(0)));
        Self { done, told, entries, cons }
    }

    fn entry(&self, number: u64) -> &(AtomicU64, AtomicU32) {
        &self.entries[number as usize % ENTRIES]
    }

    /// It is done at `when` what comes before `index`.
    fn tell(&self, when: u64, index: u32) {
        let number = self.told.0.load(Ordering::Relaxed);
        let entry = self.entry(number);
        entry.0.store(when, Ordering::Relaxed);
        entry.1.store(index, Ordering::Relaxed);
        self.told.0.store(number + 1, Ordering::Release);
    }

    /// What CONS shows, if anything is done.
    fn index(&self, now: impl Fn() -> u64) -> Option<u32> {
        loop {
            let before = self.done.0.load(Ordering::Acquire);
            let (mut done, told) = (before, self.told.0.load(Ordering::Acquire));
            if done < told {
                let now = now();
                while done < told && self.entry(done).0.load(Ordering::Relaxed) <= now {
                    done += 1;
                }
            }
            let index = self.entry(done.checked_sub(1)?).1.load(Ordering::Acquire);
            // Else it may be of a later round: others were much faster.
            if self.told.0.load(Ordering::Relaxed) - done < ENTRIES as u64 / 2 {
                if done > before {
                    self.done.0.fetch_max(done, Ordering::AcqRel);
                }
                return Some(index);
            }
        }
    }
}

/// log2 of the enhanced queues, where there are any.
const ENHANCED_LOG2: u32 = 3;
/// Bytes from the registers of one of them to those of the next.
const APART: u32 = PAGE >> ENHANCED_LOG2;

impl Timed {
    /// One that does nothing yet.
    pub fn new(latency: u64) -> Self {
        let queues = vec![Due::new(CmdqCons::OFFSET)];
        Self { registers: Registers::new(), latency, begun: Instant::now(), queues }
    }

    /// The same, with eight enhanced command queues.
    pub fn enhanced(latency: u64) -> Self {
        let slots = (0..1 << ENHANCED_LOG2).map(|queue| ENHANCED as u32 + queue * APART);
        let cons = slots.map(|slot| slot + EcmdqCons::OFFSET);
        let queues = [CmdqCons::OFFSET].into_iter().chain(cons).map(Due::new).collect();
        let registers = Registers::with_enhanced_queues(ENHANCED_LOG2);
        Self { registers, latency, begun: Instant::now(), queues }
    }

    fn now(&self) -> u64 {
        self.begun.elapsed().as_nanos() as u64
    }

    /// The queue one of whose registers is at `offset`: `main` of the command queue, `enhanced` in the slot of another.
    fn queue(&self, offset: u32, main: u32, enhanced: u32) -> Option<&Due> {
        if offset == main {
            return self.queues.first();
        }
        let within = offset.checked_sub(ENHANCED as u32)?;
        let nth = (within % APART == enhanced).then_some(within / APART)?;
        self.queues.get(1 + nth as usize)
    }
}

impl Mmio for Timed {
    #[inline]
    fn read32(&self, offset: u32) -> u32 {
        if self.latency != 0
            && let Some(queue) = self.queue(offset, CmdqCons::OFFSET, EcmdqCons::OFFSET)
            && let Some(index) = queue.index(|| self.now())
        {
            // Of a queue that works it has the index alone, and of an enhanced one that it is in use, which is in the
            // same bit of PROD.
            return index;
        }
        self.registers.read32(offset)
    }

    #[inline]
    fn write32(&self, offset: u32, value: u32) {
        let Some(queue) = self.queue(offset, CmdqProd::OFFSET, EcmdqProd::OFFSET) else {
            return self.registers.write32(offset, value);
        };
        if offset != CmdqProd::OFFSET {
            // It is read when the driver turns queues off.
            self.registers.write32(offset, value);
        }
        if self.latency != 0 {
            queue.tell(self.now() + self.latency, value);
        } else if offset == CmdqProd::OFFSET {
            self.registers.write32(offset, value);
        } else {
            self.registers.write32(queue.cons, value);
        }
    }

    fn bytes(&self) -> u64 {
        self.registers.bytes()
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! An SMMU that takes its time, and a platform with several CPUs: the threads of this process.

use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use smmuv3::{Frames, Mmio, PhysAddr, Platform};
use smmuv3_formats::register::{CmdqCons, CmdqProd, EcmdqCons, EcmdqProd, PAGE};

use crate::machine::{ENHANCED, Flag, Host, Registers};

thread_local! {
    static CPU: Cell<usize> = const { Cell::new(0) };
    static TURNS: Cell<u32> = const { Cell::new(0) };
}

/// There are more threads than processors.
static SHARED: AtomicBool = AtomicBool::new(false);

/// So many threads are about to run.
pub(super) fn share(threads: usize) {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    SHARED.store(threads > processors, Ordering::Relaxed);
}

/// Whether they are more than there are processors.
pub(super) fn is_shared() -> bool {
    SHARED.load(Ordering::Relaxed)
}

/// One turn of a loop that waits. Now and then whoever is waited for gets the processor, if there is none for everybody.
/// Not each time: with other work on the machine, that would be waited for, too.
pub(super) fn pause() {
    TURNS.set(TURNS.get().wrapping_add(1));
    if TURNS.get().is_multiple_of(256) && is_shared() {
        std::thread::yield_now();
    } else {
        std::hint::spin_loop();
    }
}

/// Makes this thread the CPU of that number.
pub(super) fn be(cpu: usize) {
    CPU.set(cpu);
}

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

/// A value on cache lines of its own.
#[repr(align(128))]
pub(super) struct Line<T>(pub(super) T);

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

/// A machine of which each thread is a CPU.
pub struct Cpus {
    host: Host,
    cpus: usize,
    begun: Instant,
    frames: Mutex<()>,
}

impl Cpus {
    /// With so many threads and bytes.
    pub fn new(cpus: usize, bytes: usize) -> Self {
        Self { host: Host::new(bytes), cpus, begun: Instant::now(), frames: Mutex::new(()) }
    }
}

// SAFETY: the host's, of which one thread takes and gives at a time.
unsafe impl Frames for Cpus {
    fn allocate(&self, size: usize, align: usize) -> Option<PhysAddr> {
        let _one = self.frames.lock().ok()?;
        self.host.allocate(size, align)
    }

    unsafe fn free(&self, frame: PhysAddr, size: usize, align: usize) {
        let _one = self.frames.lock();
        // SAFETY: the caller's promise.
        unsafe { self.host.free(frame, size, align) };
    }

    #[inline]
    fn pointer(&self, pa: PhysAddr) -> NonNull<u8> {
        self.host.pointer(pa)
    }

    #[inline]
    fn publish(&self, _: PhysAddr, _: usize) {}
}

// SAFETY: as for `Frames`; everything is coherent, and there are no interrupts.
unsafe impl Platform for Cpus {
    type Mmio = Timed;
    type Mutex = Flag;

    fn allocate_coherent(&self, size: usize, align: usize) -> Option<PhysAddr> {
        self.allocate(size, align)
    }

    unsafe fn free_coherent(&self, memory: PhysAddr, size: usize, align: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.free(memory, size, align) };
    }

    #[inline]
    fn mask_irqs<R>(&self, critical: impl FnOnce() -> R) -> R {
        critical()
    }

    fn cpu(&self) -> usize {
        CPU.get()
    }

    fn max_cpus(&self) -> usize {
        self.cpus
    }

    fn relax(&self) {
        pause();
    }

    fn now(&self) -> u64 {
        self.begun.elapsed().as_nanos() as u64
    }
}

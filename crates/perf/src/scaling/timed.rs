// SPDX-License-Identifier: MIT OR Apache-2.0
//! An SMMU that takes its time, and a platform with several CPUs: the threads of this process.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// One turn of a loop that waits. Now and then whoever is waited for gets the processor, if there is none for everybody.
/// Not each time: with other work on the machine, that would be waited for, too.
pub(super) fn pause() {
    TURNS.set(TURNS.get().wrapping_add(1));
    if TURNS.get().is_multiple_of(256) && SHARED.load(Ordering::Relaxed) {
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

/// What one queue has been told of, on cache lines of its own: when it is done, and what CONS will be.
#[repr(align(128))]
struct Due {
    cons: u32,
    due: Mutex<VecDeque<(u64, u32)>>,
}

impl Due {
    fn new(cons: u32) -> Self {
        Self { cons, due: Mutex::new(VecDeque::with_capacity(1024)) }
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

    /// Carries out what is due. If another CPU is just looking, that does.
    fn carry_on(&self, queue: &Due) {
        let Ok(mut due) = queue.due.try_lock() else { return };
        if due.is_empty() {
            return;
        }
        let now = self.now();
        let mut done = None;
        while let Some((_, cons)) = due.pop_front_if(|(when, _)| *when <= now) {
            done = Some(cons);
        }
        if let Some(cons) = done {
            // Of a queue that works it has the index alone, and of an enhanced one that it is in use, which is in the
            // same bit of PROD.
            self.registers.write32(queue.cons, cons);
        }
    }
}

impl Mmio for Timed {
    #[inline]
    fn read32(&self, offset: u32) -> u32 {
        if self.latency != 0
            && let Some(queue) = self.queue(offset, CmdqCons::OFFSET, EcmdqCons::OFFSET)
        {
            self.carry_on(queue);
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
            let mut due = queue.due.lock().expect("nobody panics with it");
            due.push_back((self.now() + self.latency, value));
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

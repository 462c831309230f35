// SPDX-License-Identifier: MIT OR Apache-2.0
//! A platform with several CPUs: the threads of this process.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use smmuv3::{Frames, Mmio, PhysAddr, Platform};

use super::Timed;
use crate::bytes::Bytes;
use crate::machine::{Flag, Host};

thread_local! {
    static CPU: Cell<usize> = const { Cell::new(0) };
    static TURNS: Cell<u32> = const { Cell::new(0) };
    static GAVE_WAY: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// How long a thread waits, at least, before it gives its processor to another one.
const PATIENCE: Duration = Duration::from_micros(3);

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
/// Not each time: with other work on the machine, that would be waited for, too. By time, and not by turns: those of one queue
/// are longer than those of another.
pub(super) fn pause() {
    std::hint::spin_loop();
    if !is_shared() {
        return;
    }
    TURNS.set(TURNS.get().wrapping_add(1));
    if !TURNS.get().is_multiple_of(16) {
        return;
    }
    if GAVE_WAY.get().is_none_or(|before| before.elapsed() >= PATIENCE) {
        std::thread::yield_now();
        GAVE_WAY.set(Some(Instant::now()));
    }
}

/// Makes this thread the CPU of that number.
pub(super) fn be(cpu: usize) {
    CPU.set(cpu);
}

/// A value on cache lines of its own.
#[repr(align(128))]
pub(super) struct Line<T>(pub(super) T);

/// A machine of which each thread is a CPU, with SMMUs whose registers are an `M`.
pub struct Cpus<M = Timed> {
    host: Host,
    cpus: usize,
    begun: Instant,
    frames: Mutex<()>,
    smmus: PhantomData<fn() -> M>,
}

impl<M> Cpus<M> {
    /// With so many threads and bytes.
    pub fn new(cpus: usize, bytes: usize) -> Self {
        let (host, frames) = (Host::new(bytes), Mutex::new(()));
        Self { host, cpus, begun: Instant::now(), frames, smmus: PhantomData }
    }

    /// Its memory, for an SMMU that reads it.
    pub fn bytes(&self) -> Arc<Bytes> {
        self.host.bytes()
    }
}

// SAFETY: the host's, of which one thread takes and gives at a time.
unsafe impl<M> Frames for Cpus<M> {
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
unsafe impl<M: Mmio> Platform for Cpus<M> {
    type Mmio = M;
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

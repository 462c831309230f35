// SPDX-License-Identifier: MIT OR Apache-2.0
//! Surroundings that cost next to nothing, so that what is measured is the code under test: linear memory,
//! locks that nobody else takes, and SMMUs that have consumed every command as soon as they are told of it.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use smmuv3::{Frames, Mmio, PhysAddr, Platform, RawMutex};
use smmuv3_formats::register::{
    CmdqCons, CmdqControlPageBase, CmdqControlPageStatus, CmdqProd, Cr0, Cr0Ack, Gbpa, Idr0, Idr1,
    Idr3, Idr5, Idr6, IrqCtrl, IrqCtrlAck, PAGE,
};

use crate::bytes::{BASE, Bytes};

const FRAME: usize = 4096;
/// Where the registers of enhanced command queues are.
pub(crate) const ENHANCED: u64 = 2 * PAGE as u64;

/// Memory, and a clock that ticks when it is looked at.
pub struct Host {
    /// The start of `bytes`.
    memory: NonNull<u8>,
    bytes: Arc<Bytes>,
    /// Bytes handed out from the start.
    used: AtomicUsize,
    /// Frames that were given back, to be used first. Its room is for all there are.
    spare: Mutex<Vec<u64>>,
    live: AtomicUsize,
    clock: AtomicU64,
}

// SAFETY: the memory is owned, parts of it are handed out once, and its content is used atomically.
unsafe impl Send for Host {}
// SAFETY: as above.
unsafe impl Sync for Host {}

impl Host {
    /// A machine with `bytes` of memory. All of it has been touched.
    pub fn new(bytes: usize) -> Self {
        let bytes = Arc::new(Bytes::new(bytes.next_multiple_of(FRAME)));
        Self {
            memory: bytes.start(),
            spare: Mutex::new(Vec::with_capacity(bytes.len() / FRAME)),
            bytes,
            used: AtomicUsize::new(0),
            live: AtomicUsize::new(0),
            clock: AtomicU64::new(0),
        }
    }

    /// All of its memory, for those who share it.
    pub(crate) fn bytes(&self) -> Arc<Bytes> {
        Arc::clone(&self.bytes)
    }

    /// Bytes of memory that are handed out.
    pub fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    fn take(&self, size: usize, align: usize) -> Option<PhysAddr> {
        if size == FRAME
            && let Some(frame) = self.spare.lock().ok()?.pop()
        {
            let frame = PhysAddr(frame);
            self.clear(frame, size);
            self.live.fetch_add(size, Ordering::Relaxed);
            return Some(frame);
        }
        let start = self.used.load(Ordering::Relaxed).next_multiple_of(align);
        let end = start.checked_add(size)?;
        if end > self.bytes.len() {
            return None;
        }
        self.used.store(end, Ordering::Relaxed);
        self.live.fetch_add(size, Ordering::Relaxed);
        let memory = PhysAddr(BASE + start as u64);
        // As an operating system would: it does not know that this is the first use.
        self.clear(memory, size);
        Some(memory)
    }

    /// Zeroes what nobody uses, word by word: of a string instruction callgrind would count every byte.
    fn clear(&self, memory: PhysAddr, size: usize) {
        let words = self.pointer(memory).cast::<AtomicU64>();
        for word in 0..size / 8 {
            // SAFETY: inside the memory, and aligned: all of it is handed out in multiples of words.
            unsafe { words.add(word).as_ref() }.store(0, Ordering::Relaxed);
        }
    }

    fn give(&self, memory: PhysAddr, size: usize) {
        self.live.fetch_sub(size, Ordering::Relaxed);
        if size == FRAME
            && let Ok(mut spare) = self.spare.lock()
        {
            spare.push(memory.0);
        }
    }
}

// SAFETY: parts of one allocation, which lives as long as this, handed out once until they are given back,
// zeroed; one thread takes and gives at a time, as all that is measured here has one. BASE and the allocation
// are equally aligned, up to 64 KiB.
unsafe impl Frames for Host {
    fn allocate(&self, size: usize, align: usize) -> Option<PhysAddr> {
        self.take(size, align)
    }

    unsafe fn free(&self, frame: PhysAddr, size: usize, _align: usize) {
        self.give(frame, size);
    }

    #[inline]
    fn pointer(&self, pa: PhysAddr) -> NonNull<u8> {
        // SAFETY: `pa` lies in the memory, by the contract of `Frames`.
        unsafe { self.memory.add((pa.0 - BASE) as usize) }
    }

    /// Walks are coherent.
    #[inline]
    fn publish(&self, _pa: PhysAddr, _bytes: usize) {}
}

// SAFETY: as above; everything is coherent, and there are no interrupts.
unsafe impl Platform for Host {
    type Mmio = Registers;
    type Mutex = Flag;

    fn allocate_coherent(&self, size: usize, align: usize) -> Option<PhysAddr> {
        self.take(size, align)
    }

    unsafe fn free_coherent(&self, memory: PhysAddr, size: usize, _align: usize) {
        self.give(memory, size);
    }

    #[inline]
    fn mask_irqs<R>(&self, critical: impl FnOnce() -> R) -> R {
        critical()
    }

    fn relax(&self) {}

    #[inline]
    fn now(&self) -> u64 {
        let now = self.clock.load(Ordering::Relaxed);
        self.clock.store(now + 1, Ordering::Relaxed);
        now
    }
}

/// A lock that is always free.
pub struct Flag(AtomicBool);

// SAFETY: the flag is set by one caller at a time, with acquire and release ordering.
unsafe impl RawMutex for Flag {
    fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    fn lock(&self) {
        while self.0.swap(true, Ordering::Acquire) {
            std::hint::spin_loop();
        }
    }

    unsafe fn unlock(&self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Registers of an SMMU with range invalidation and 16-bit ASIDs that answers at once.
pub struct Registers(Box<[AtomicU32]>);

impl Registers {
    /// After reset.
    pub fn new() -> Self {
        let registers: Vec<AtomicU32> = (0..0x2_0000 / 4).map(|_| AtomicU32::new(0)).collect();
        let smmu = Self(registers.into_boxed_slice());
        let idr0 = Idr0::default()
            .with_s1p(true)
            .with_ttf(2)
            .with_cohacc(true)
            .with_asid16(true)
            .with_ttendian(2)
            .with_stall_model(1)
            .with_st_level(1);
        let idr1 = Idr1::default().with_sidsize(16).with_cmdqs(8).with_eventqs(7);
        let idr3 = Idr3::default().with_had(true).with_ril(true);
        let idr5 = Idr5::default().with_oas(5).with_gran4k(true);
        for (offset, value) in [
            (Idr0::OFFSET, idr0.0),
            (Idr1::OFFSET, idr1.0),
            (Idr3::OFFSET, idr3.0),
            (Idr5::OFFSET, idr5.0),
        ] {
            smmu.set(offset, value);
        }
        smmu
    }

    /// The same, with substreams of 20 bits, in two levels.
    pub fn with_pasids() -> Self {
        let smmu = Self::new();
        let idr0 = Idr0(smmu.read32(Idr0::OFFSET)).with_cd2l(true);
        let idr1 = Idr1(smmu.read32(Idr1::OFFSET)).with_ssidsize(20);
        smmu.set(Idr0::OFFSET, idr0.0);
        smmu.set(Idr1::OFFSET, idr1.0);
        smmu
    }

    /// The same, with 2^`log2` enhanced command queues (§2.6), in a page of their own.
    pub fn with_enhanced_queues(log2: u32) -> Self {
        let mut smmu = Self::new();
        let more = (0..PAGE / 4).map(|_| AtomicU32::new(0));
        smmu.0 = smmu.0.into_iter().chain(more).collect();
        let idr1 = Idr1(smmu.read32(Idr1::OFFSET)).with_ecmdq(true);
        smmu.set(Idr1::OFFSET, idr1.0);
        smmu.set(Idr6::OFFSET, Idr6::default().with_log2_num_q(u64::from(log2)).0);
        // The page after the two that each has, of 64 KiB, and always enabled.
        let base = CmdqControlPageBase::default().with_addr(ENHANCED).with_preset(true).with_gs(1);
        smmu.set(CmdqControlPageBase::OFFSET, base.0 as u32);
        let status = CmdqControlPageStatus::default().with_enack(true);
        smmu.set(CmdqControlPageStatus::OFFSET, status.0);
        smmu
    }

    #[inline]
    fn set(&self, offset: u32, value: u32) {
        self.0[offset as usize / 4].store(value, Ordering::Relaxed);
    }
}

impl Default for Registers {
    fn default() -> Self {
        Self::new()
    }
}

impl Mmio for Registers {
    #[inline]
    fn read32(&self, offset: u32) -> u32 {
        self.0[offset as usize / 4].load(Ordering::Relaxed)
    }

    #[inline]
    fn write32(&self, offset: u32, value: u32) {
        match offset {
            // All commands are consumed.
            CmdqProd::OFFSET => self.set(CmdqCons::OFFSET, value),
            Cr0::OFFSET => self.set(Cr0Ack::OFFSET, value),
            IrqCtrl::OFFSET => self.set(IrqCtrlAck::OFFSET, value),
            Gbpa::OFFSET => return self.set(offset, Gbpa(value).with_update(false).0),
            _ => {}
        }
        self.set(offset, value);
    }

    fn bytes(&self) -> u64 {
        self.0.len() as u64 * 4
    }
}

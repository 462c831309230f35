// SPDX-License-Identifier: MIT OR Apache-2.0
//! SMMUs whose registers are pages of memory, and that have carried out every command as soon as they are told of it.

use core::ptr::NonNull;

use smmuv3::formats::register::{
    CmdqCons, CmdqProd, Cr0, Cr0Ack, Gbpa, Idr0, Idr1, Idr3, Idr5, IrqCtrl, IrqCtrlAck,
};
use smmuv3::hardware::Registers;
use smmuv3::{Frames, Mmio, PhysAddr, Platform, SpinMutex};

use crate::heap::FRAMES;
use crate::platform::Kernel;

/// Two pages of 64 KiB (§2.1).
const BYTES: usize = 2 << 16;

/// Registers with the barriers of real ones, in memory that stays. What the SMMU does is one store more.
pub struct Memory {
    registers: Registers,
    pages: NonNull<u8>,
}

// SAFETY: accesses are single volatile loads and stores of memory that is only used by way of this.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// An SMMU after reset, with range invalidation and 16-bit ASIDs; `None` if there is no memory.
    pub fn new() -> Option<Self> {
        let pages = FRAMES.allocate(BYTES, BYTES)?;
        // SAFETY: so many bytes, aligned, for ever. That they are memory, and no device's, changes no access.
        let registers = unsafe { Registers::new(pages, BYTES) };
        let smmu = Self { registers, pages };
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
        smmu.set(Idr0::OFFSET, idr0.0);
        smmu.set(Idr1::OFFSET, idr1.0);
        smmu.set(Idr3::OFFSET, idr3.0);
        smmu.set(Idr5::OFFSET, idr5.0);
        Some(smmu)
    }

    /// What the SMMU does to a register.
    #[inline(always)]
    fn set(&self, offset: u32, value: u32) {
        debug_assert!((offset as usize) < BYTES);
        // SAFETY: offsets here are of registers, and so within the pages, which are aligned.
        unsafe { self.pages.add(offset as usize).cast::<u32>().write_volatile(value) };
    }
}

impl Mmio for Memory {
    #[inline(always)]
    fn read32(&self, offset: u32) -> u32 {
        self.registers.read32(offset)
    }

    #[inline(always)]
    fn write32(&self, offset: u32, value: u32) {
        self.registers.write32(offset, value);
        match offset {
            // All commands are consumed.
            CmdqProd::OFFSET => self.set(CmdqCons::OFFSET, value),
            Cr0::OFFSET => self.set(Cr0Ack::OFFSET, value),
            IrqCtrl::OFFSET => self.set(IrqCtrlAck::OFFSET, value),
            Gbpa::OFFSET => self.set(Gbpa::OFFSET, Gbpa(value).with_update(false).0),
            _ => {}
        }
    }
}

/// This kernel, with such SMMUs.
#[derive(Clone, Copy, Debug)]
pub struct Rig(pub Kernel);

// SAFETY: the kernel's.
unsafe impl Frames for Rig {
    fn allocate(&self, size: usize, align: usize) -> Option<PhysAddr> {
        self.0.allocate(size, align)
    }

    unsafe fn free(&self, frame: PhysAddr, size: usize, align: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.0.free(frame, size, align) };
    }

    fn pointer(&self, pa: PhysAddr) -> NonNull<u8> {
        self.0.pointer(pa)
    }

    fn publish(&self, pa: PhysAddr, bytes: usize) {
        self.0.publish(pa, bytes);
    }
}

// SAFETY: as above.
unsafe impl Platform for Rig {
    type Mmio = Memory;
    type Mutex = SpinMutex;

    fn allocate_coherent(&self, size: usize, align: usize) -> Option<PhysAddr> {
        self.0.allocate_coherent(size, align)
    }

    unsafe fn free_coherent(&self, memory: PhysAddr, size: usize, align: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.0.free_coherent(memory, size, align) };
    }

    #[inline(always)]
    fn mask_irqs<R>(&self, critical: impl FnOnce() -> R) -> R {
        self.0.mask_irqs(critical)
    }

    fn cpu(&self) -> usize {
        self.0.cpu()
    }

    fn max_cpus(&self) -> usize {
        self.0.max_cpus()
    }

    fn relax(&self) {
        self.0.relax();
    }

    fn now(&self) -> u64 {
        self.0.now()
    }
}

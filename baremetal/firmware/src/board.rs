// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a firmware knows of its board without being told: QEMU's `virt`, with an `edu` on its first PCI bus.

use core::sync::atomic::{Ordering, fence};

use smmuv3::hardware::order_stores;
use smmuv3::{PhysAddr, StreamId};

/// The SMMU's registers.
pub const SMMU: usize = 0x0905_0000;

/// Memory for devices, and its length: a block of the table.
pub const WINDOW: (PhysAddr, u64) = (PhysAddr(0x4800_0000), 2 << 20);

/// Configuration space of the first bus: 32 KiB a device.
const CONFIGURATION: usize = 0x40_1000_0000;
/// Device and vendor of `edu`.
const ID: u32 = 0x11e8_1234;
/// Where its registers are to be.
const BAR: usize = 0x1000_0000;

const SOURCE: usize = 0x80;
const DESTINATION: usize = 0x88;
const COUNT: usize = 0x90;
const COMMAND: usize = 0x98;

/// Polls of the device before it counts as dead: some seconds.
const PATIENCE: u32 = 100_000_000;

/// The device, which copies its buffer to memory.
pub struct Edu {
    /// What it issues.
    pub stream: StreamId,
}

impl Edu {
    /// Finds the device, makes it answer at `BAR`, and lets it do DMA.
    pub fn find() -> Option<Self> {
        let word = |device: usize, at: usize| (CONFIGURATION + (device << 15) + at) as *mut u32;
        // SAFETY: configuration space, mapped as Device memory; where there is no device, all bits are read as 1.
        let device = (0..32).find(|device| unsafe { word(*device, 0).read_volatile() } == ID)?;
        // SAFETY: as above: BAR 0, and memory space and bus master.
        unsafe {
            word(device, 0x10).write_volatile(BAR as u32);
            word(device, 0x04).write_volatile(0b110);
        }
        // The first function of a device on bus 0; less than 256.
        Some(Self { stream: StreamId((device << 3) as u32) })
    }

    /// Writes the first `count` bytes of its buffer to `address`; `None` if it does not end.
    pub fn write(&self, address: u64, count: u64) -> Option<()> {
        let register = |offset: usize| (BAR + offset) as *mut u64;
        // What was stored before is in memory for the device, and what is loaded afterwards is what it wrote.
        order_stores();
        // SAFETY: registers of the device, mapped as Device memory.
        let ended = unsafe {
            register(SOURCE).write_volatile(0x4_0000);
            register(DESTINATION).write_volatile(address);
            register(COUNT).write_volatile(count);
            register(COMMAND).write_volatile(0b11);
            (0..PATIENCE).any(|_| register(COMMAND).read_volatile() & 1 == 0)
        };
        fence(Ordering::Acquire);
        ended.then_some(())
    }
}

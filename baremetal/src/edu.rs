// SPDX-License-Identifier: MIT OR Apache-2.0
//! QEMU's `edu`: a device with a 4 KiB buffer that it fills from memory or empties to memory. It never says whether
//! an access was refused: then a read gives zeros, and a write is lost.

use core::fmt;

use crate::pci::Device;
use crate::registers::Registers;
use crate::time;

/// Vendor and device.
pub const ID: (u16, u16) = (0x1234, 0x11e8);

/// Bytes of its buffer.
pub const BUFFER: u64 = 4096;

/// Where the buffer is in the device's own addresses. QEMU does not survive transfers elsewhere.
const BUFFER_START: u64 = 0x4_0000;

// Offsets of 64-bit registers.
const SOURCE: usize = 0x80;
const DESTINATION: usize = 0x88;
const COUNT: usize = 0x90;
const COMMAND: usize = 0x98;

/// Starts a transfer; set while it lasts.
const RUN: u64 = 1 << 0;
/// The transfer goes to memory.
const TO_MEMORY: u64 = 1 << 1;

/// A transfer takes 100 ms, and QEMU may be held up.
const LIMIT: u64 = 20_000_000_000;

/// Its registers.
pub struct Edu(Registers);

/// A transfer did not end.
#[derive(Debug)]
pub struct Stuck;

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a transfer of edu did not end within {} s", LIMIT / 1_000_000_000)
    }
}

impl core::error::Error for Stuck {}

impl Edu {
    /// The device at `device`.
    pub fn new(device: &Device) -> Self {
        Self(device.registers())
    }

    /// Reads `count` bytes, at most [`BUFFER`], at the address `iova` into the buffer, and waits for the end.
    ///
    /// # Errors
    /// [`Stuck`].
    pub fn read(&self, iova: u64, count: u64) -> Result<(), Stuck> {
        self.transfer([iova, BUFFER_START], count, 0)
    }

    /// Writes the first `count` bytes of the buffer to the address `iova`, and waits for the end.
    ///
    /// # Errors
    /// [`Stuck`].
    pub fn write(&self, iova: u64, count: u64) -> Result<(), Stuck> {
        self.transfer([BUFFER_START, iova], count, TO_MEMORY)
    }

    fn transfer(&self, [from, to]: [u64; 2], count: u64, direction: u64) -> Result<(), Stuck> {
        assert!(count <= BUFFER, "the buffer is smaller");
        self.0.write64(SOURCE, from);
        self.0.write64(DESTINATION, to);
        self.0.write64(COUNT, count);
        self.0.write64(COMMAND, RUN | direction);
        let ended = || self.0.read64(COMMAND) & RUN == 0;
        if time::wait(LIMIT, ended) { Ok(()) } else { Err(Stuck) }
    }
}

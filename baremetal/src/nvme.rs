// SPDX-License-Identifier: MIT OR Apache-2.0
//! A reader of NVMe disks: one queue pair, one command at a time, completion by polling (NVM Express 1.4). Published
//! drivers bring interrupts and an executor of their own; this one is all DMA, and small.

use core::error::Error;
use core::fmt;
use core::sync::atomic::{Ordering, fence};

use crate::buffer::Buffer;
use crate::pci::Device;
use crate::registers::Registers;
use crate::time;

/// Class, subclass, programming interface.
pub const CLASS: [u8; 3] = [1, 8, 2];

/// Bytes of a page, of the disk's and of the tables'.
const PAGE: u64 = 4096;

// Offsets of registers (section 3.1).
const CAP: usize = 0x00;
const CC: usize = 0x14;
const CSTS: usize = 0x1c;
const AQA: usize = 0x24;
const ASQ: usize = 0x28;
const ACQ: usize = 0x30;
const DOORBELLS: usize = 0x1000;

/// CC: enabled, entries of 64 and of 16 bytes.
const ENABLE: u32 = 4 << 20 | 6 << 16 | 1;

// Opcodes (sections 5 and 6).
const CREATE_SQ: u32 = 0x01;
const CREATE_CQ: u32 = 0x05;
const IDENTIFY: u32 = 0x06;
const READ: u32 = 0x02;

/// The one namespace.
const NAMESPACE: u32 = 1;

/// Entries of each queue.
const ENTRIES: u32 = 16;

/// Most bytes of one read: as many pages as QEMU's disks transfer at once.
pub const LARGEST: u64 = 512 << 10;

/// Nanoseconds that a command may take.
const LIMIT: u64 = 10_000_000_000;

/// Bytes of memory that [`Nvme::new`] wants: a page for each queue of both pairs, one for lists of pages, one for what the
/// disk says of itself.
pub const RINGS: usize = 6 * PAGE as usize;
const LIST: u64 = 4;
const IDENTITY: u64 = 5;

/// Why it does not work.
#[derive(Debug)]
pub enum NvmeError {
    /// The controller did not become ready, or did not answer.
    Silent(&'static str),
    /// A command failed, with this status.
    Status(u16),
}

impl fmt::Display for NvmeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(what) => write!(f, "nvme: no answer: {what}"),
            Self::Status(status) => write!(f, "nvme: status {status:#x}"),
        }
    }
}

impl Error for NvmeError {}

/// A queue pair.
#[derive(Clone, Copy)]
struct Queue {
    number: u64,
    tail: u32,
    head: u32,
    phase: u64,
}

impl Queue {
    const fn new(number: u64) -> Self {
        Self { number, tail: 0, head: 0, phase: 1 }
    }

    /// Pages of the memory: submissions, completions.
    const fn pages(self) -> [u64; 2] {
        [self.number * 2, self.number * 2 + 1]
    }
}

/// A disk.
pub struct Nvme {
    registers: Registers,
    stride: usize,
    /// [`RINGS`] bytes, and where the disk sees them.
    rings: Buffer,
    iova: u64,
    queue: Queue,
    /// Blocks, and bytes of each.
    pub blocks: (u64, u64),
}

impl Nvme {
    /// Starts the disk at `device`. It reaches `rings`, which has [`RINGS`] bytes, by the address `iova`.
    ///
    /// # Errors
    /// See [`NvmeError`].
    pub fn new(device: &Device, rings: Buffer, iova: u64) -> Result<Self, NvmeError> {
        let registers = device.registers();
        registers.write32(CC, 0);
        let ready = |wanted: u32| move || registers.read32(CSTS) & 1 == wanted;
        if !time::wait(LIMIT, ready(0)) {
            return Err(NvmeError::Silent("disable"));
        }
        let stride = 4 << (registers.read64(CAP) >> 32 & 0xf);
        let mut admin = Queue::new(0);
        let [submissions, completions] = admin.pages().map(|page| iova + page * PAGE);
        registers.write32(AQA, (ENTRIES - 1) << 16 | (ENTRIES - 1));
        registers.write64(ASQ, submissions);
        registers.write64(ACQ, completions);
        registers.write32(CC, ENABLE);
        if !time::wait(LIMIT, ready(1)) {
            return Err(NvmeError::Silent("enable"));
        }
        let queue = Queue::new(1);
        let mut disk = Self { registers, stride, rings, iova, queue, blocks: (0, 0) };
        disk.command(&mut admin, IDENTIFY, NAMESPACE, [iova + IDENTITY * PAGE, 0], [0, 0, 0])?;
        disk.blocks = disk.identity();
        // Physically contiguous, no interrupts.
        let size = (ENTRIES - 1) << 16 | 1;
        let [submissions, completions] = queue.pages().map(|page| iova + page * PAGE);
        disk.command(&mut admin, CREATE_CQ, 0, [completions, 0], [size, 1, 0])?;
        disk.command(&mut admin, CREATE_SQ, 0, [submissions, 0], [size, 1 << 16 | 1, 0])?;
        Ok(disk)
    }

    /// Blocks, and bytes of each, from what the disk said of its namespace (figure 245).
    fn identity(&self) -> (u64, u64) {
        let base = (IDENTITY * PAGE / 8) as usize;
        let format = self.rings.read(base + 3) >> 16 & 0xf;
        let formats = self.rings.read(base + 16 + format as usize / 2) >> (format % 2 * 32);
        (self.rings.read(base), 1 << (formats >> 16 & 0xff))
    }

    /// Reads `bytes` bytes, whole blocks and at most [`LARGEST`], from the block `first` on. The disk reaches the
    /// memory for it by the address `iova`, of a page.
    ///
    /// # Errors
    /// See [`NvmeError`].
    pub fn read(&mut self, first: u64, iova: u64, bytes: u64) -> Result<(), NvmeError> {
        assert!(bytes > 0 && bytes <= LARGEST && iova.is_multiple_of(PAGE), "no such read");
        let pages = bytes.div_ceil(PAGE);
        let second = match pages {
            1 => 0,
            2 => iova + PAGE,
            _ => {
                for page in 1..pages {
                    self.rings.write((LIST * PAGE / 8 + page - 1) as usize, iova + page * PAGE);
                }
                self.iova + LIST * PAGE
            }
        };
        let count = (bytes / self.blocks.1 - 1) as u32;
        let words = [first as u32, (first >> 32) as u32, count];
        let mut queue = self.queue;
        let result = self.command(&mut queue, READ, NAMESPACE, [iova, second], words);
        self.queue = queue;
        result
    }

    /// Gives a command and waits for its completion (sections 4.2 and 4.6).
    fn command(
        &self,
        queue: &mut Queue,
        opcode: u32,
        namespace: u32,
        pages: [u64; 2],
        words: [u32; 3],
    ) -> Result<(), NvmeError> {
        let [submissions, completions] = queue.pages().map(|page| (page * PAGE / 8) as usize);
        let at = submissions + queue.tail as usize * 8;
        let [first, second, third] = words.map(u64::from);
        // Its number is its place in the queue.
        let entry = [
            u64::from(opcode) | u64::from(queue.tail) << 16 | u64::from(namespace) << 32,
            0,
            0,
            pages[0],
            pages[1],
            first | second << 32,
            third,
            0,
        ];
        for (index, word) in entry.into_iter().enumerate() {
            self.rings.write(at + index, word);
        }
        queue.tail = (queue.tail + 1) % ENTRIES;
        self.registers.write32(self.doorbell(queue.number, 0), queue.tail);
        let at = completions + queue.head as usize * 2 + 1;
        let done = || self.rings.read(at) >> 48 & 1 == queue.phase;
        if !time::wait(LIMIT, done) {
            return Err(NvmeError::Silent("command"));
        }
        // What the disk had stored before the completion is read after it.
        fence(Ordering::Acquire);
        let status = (self.rings.read(at) >> 49) as u16;
        queue.head += 1;
        if queue.head == ENTRIES {
            (queue.head, queue.phase) = (0, queue.phase ^ 1);
        }
        self.registers.write32(self.doorbell(queue.number, 1), queue.head);
        if status == 0 { Ok(()) } else { Err(NvmeError::Status(status)) }
    }

    fn doorbell(&self, queue: u64, completions: usize) -> usize {
        DOORBELLS + (queue as usize * 2 + completions) * self.stride
    }

    /// Switches the disk off; it does no DMA any more. The memory of its rings is given back.
    ///
    /// # Errors
    /// [`NvmeError::Silent`].
    pub fn close(self) -> Result<Buffer, NvmeError> {
        self.registers.write32(CC, 0);
        let off = time::wait(LIMIT, || self.registers.read32(CSTS) & 1 == 0);
        if off { Ok(self.rings) } else { Err(NvmeError::Silent("disable")) }
    }
}

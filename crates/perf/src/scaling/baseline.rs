// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two command queues to compare with. Both spare themselves the checks, and errors; both wait as the driver does, also
//! where a kernel would spin with interrupts masked: whoever is waited for may have no processor.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

use smmuv3::{Frames, Mmio, PhysAddr};
use smmuv3_formats::command::Sync;
use smmuv3_formats::register::{CmdqBase, CmdqCons, CmdqProd, Cr0, Cr0Ack};
use smmuv3_formats::{COMMAND_BYTES, Command};

use super::Cpus;
use super::cpus::{Line, pause};

/// log2 of the slots of the queue, as the driver's has them.
const LOG2: u64 = 8;
const ENTRIES: u64 = 1 << LOG2;
/// Of an index with its wrap bit.
const INDEX: u64 = 2 * ENTRIES - 1;

/// What both have.
struct Hardware<M> {
    mmio: M,
    cpus: Cpus<M>,
    /// Where the slots are in its memory.
    queue: PhysAddr,
}

impl<M: Mmio> Hardware<M> {
    /// An SMMU that takes commands, from a queue in memory of `cpus`.
    fn new(cpus: Cpus<M>, mmio: M) -> Self {
        let bytes = ENTRIES as usize * COMMAND_BYTES;
        let queue = cpus.allocate(bytes, bytes).expect("there is memory");
        let base = CmdqBase::default().with_addr(queue.0).with_log2size(LOG2);
        mmio.write64(CmdqBase::OFFSET, base.0);
        mmio.write32(CmdqProd::OFFSET, 0);
        mmio.write32(CmdqCons::OFFSET, 0);
        let on = Cr0::default().with_cmdqen(true).0;
        mmio.write32(Cr0::OFFSET, on);
        assert_eq!(mmio.read32(Cr0Ack::OFFSET), on, "it answers at once");
        Self { mmio, cpus, queue }
    }

    /// Writes `commands` and a CMD_SYNC from a position on.
    fn fill(&self, start: u64, commands: &[Command]) {
        let slots = self.cpus.pointer(self.queue).cast::<AtomicU64>();
        let sync = Command::from(Sync::new());
        for (position, command) in (start..).zip(commands.iter().chain([&sync])) {
            let at = 2 * (position & (ENTRIES - 1)) as usize;
            for (word, value) in (at..).zip(command.0) {
                // SAFETY: a word of one of the slots.
                unsafe { slots.add(word).as_ref() }.store(value, Ordering::Relaxed);
            }
        }
    }

    fn write_prod(&self, position: u64) {
        self.mmio.write32(CmdqProd::OFFSET, (position & INDEX) as u32);
    }

    fn read_cons(&self) -> u64 {
        u64::from(self.mmio.read32(CmdqCons::OFFSET)) & INDEX
    }
}

/// A spin lock around the next free slot: what changes is on one cache line.
#[repr(C, align(128))]
pub(super) struct Locked<M> {
    taken: AtomicBool,
    tail: AtomicU64,
    consumed: AtomicU64,
    hardware: Line<Hardware<M>>,
}

impl<M: Mmio> Locked<M> {
    pub(super) fn new(cpus: Cpus<M>, mmio: M) -> Self {
        Self {
            hardware: Line(Hardware::new(cpus, mmio)),
            taken: AtomicBool::new(false),
            tail: AtomicU64::new(0),
            consumed: AtomicU64::new(0),
        }
    }

    fn observe(&self) {
        let behind = self.consumed.load(Ordering::Acquire);
        let ahead = self.hardware.0.read_cons().wrapping_sub(behind) & INDEX;
        if ahead != 0 && ahead <= ENTRIES {
            self.consumed.fetch_max(behind + ahead, Ordering::AcqRel);
        }
    }

    /// Gives `commands` with a CMD_SYNC, all of which the queue has room for, and waits until that is consumed.
    pub(super) fn carry_out(&self, commands: &[Command]) {
        let slots = commands.len() as u64 + 1;
        let hardware = &self.hardware.0;
        let end = loop {
            while self.taken.swap(true, Ordering::Acquire) {
                pause();
            }
            let start = self.tail.load(Ordering::Relaxed);
            let end = start + slots;
            let room = end <= self.consumed.load(Ordering::Acquire) + ENTRIES;
            if room {
                hardware.fill(start, commands);
                self.tail.store(end, Ordering::Relaxed);
                fence(Ordering::Release);
                hardware.write_prod(end);
            }
            self.taken.store(false, Ordering::Release);
            if room {
                break end;
            }
            self.observe();
            pause();
        };
        loop {
            self.observe();
            if self.consumed.load(Ordering::Acquire) >= end {
                return;
            }
            pause();
        }
    }
}

/// Producer and consumer index in one word, changed by compare-and-exchange; the producer that finds no owner owns the
/// run that begins with its slots, and publishes what others have added to it meanwhile.
///
/// What changes is on cache lines by who changes it.
#[repr(C, align(128))]
pub(super) struct Exchanged<M> {
    /// PROD in the lower half, with `OWNED`; CONS in the upper one.
    indices: AtomicU64,
    /// Those who wait for a CMD_SYNC; negative while one copies CONS.
    sharers: AtomicU64,
    /// Where the next owner may begin.
    owned_from: Line<AtomicU64>,
    /// A bit a slot, flipped in each lap.
    valid: Line<Vec<AtomicU64>>,
    hardware: Hardware<M>,
}

const OWNED: u64 = 1 << 31;
const EXCLUSIVE: u64 = 1 << 63;

impl<M: Mmio> Exchanged<M> {
    pub(super) fn new(cpus: Cpus<M>, mmio: M) -> Self {
        Self {
            hardware: Hardware::new(cpus, mmio),
            indices: AtomicU64::new(0),
            owned_from: Line(AtomicU64::new(0)),
            sharers: AtomicU64::new(0),
            valid: Line((0..ENTRIES / 64).map(|_| AtomicU64::new(0)).collect()),
        }
    }

    const fn prod(indices: u64) -> u64 {
        indices & (OWNED - 1)
    }

    fn has_room(indices: u64, slots: u64) -> bool {
        let used = Self::prod(indices).wrapping_sub(indices >> 32) & INDEX;
        used + slots <= ENTRIES
    }

    /// Stores the upper half; the lower one may be changed by others meanwhile.
    fn set_cons(&self, cons: u64) {
        let _ = self.indices.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |indices| {
            Some(indices & u64::from(u32::MAX) | cons << 32)
        });
    }

    fn is_valid(&self, position: u64) -> bool {
        let slot = (position & (ENTRIES - 1)) as usize;
        let lap = (position / ENTRIES) & 1;
        self.valid.0[slot / 64].load(Ordering::Acquire) >> (slot % 64) & 1 == 1 - lap
    }

    /// Gives `commands` with a CMD_SYNC, all of which the queue has room for, and waits until that is consumed.
    pub(super) fn carry_out(&self, commands: &[Command]) {
        let slots = commands.len() as u64 + 1;
        let hardware = &self.hardware;
        let mut old = self.indices.load(Ordering::Relaxed);
        loop {
            while !Self::has_room(old, slots) {
                let (free, taken) = (Ordering::Relaxed, Ordering::Relaxed);
                if self.sharers.compare_exchange(0, EXCLUSIVE, free, taken).is_ok() {
                    self.set_cons(hardware.read_cons());
                    self.sharers.fetch_and(!EXCLUSIVE, Ordering::Release);
                } else {
                    pause();
                }
                old = self.indices.load(Ordering::Relaxed);
            }
            let prod = (Self::prod(old) + slots) & INDEX;
            let new = old & !u64::from(u32::MAX) | prod | OWNED;
            match self.indices.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break,
                Err(found) => old = found,
            }
        }
        let (owner, start) = (old & OWNED == 0, Self::prod(old));
        // Written, and CONS kept from being moved until the CMD_SYNC is complete.
        hardware.fill(start, commands);
        let mut sharers = self.sharers.fetch_add(1, Ordering::Relaxed);
        while sharers & EXCLUSIVE != 0 {
            pause();
            sharers = self.sharers.load(Ordering::Relaxed);
        }
        // Marked as valid.
        fence(Ordering::Release);
        for position in start..start + slots {
            let slot = position & (ENTRIES - 1);
            self.valid.0[slot as usize / 64].fetch_xor(1 << (slot % 64), Ordering::Release);
        }
        if owner {
            // The owner publishes the run.
            while self.owned_from.0.load(Ordering::Acquire) != start {
                pause();
            }
            let end = Self::prod(self.indices.fetch_and(!OWNED, Ordering::Relaxed));
            let mut position = start;
            while position != end {
                while !self.is_valid(position) {
                    pause();
                }
                position = (position + 1) & INDEX;
            }
            hardware.write_prod(end);
            self.owned_from.0.store(end, Ordering::Release);
        }
        let cons = loop {
            let cons = hardware.read_cons();
            let ahead = cons.wrapping_sub(start) & INDEX;
            if (slots..=ENTRIES).contains(&ahead) {
                break cons;
            }
            pause();
        };
        if self.sharers.load(Ordering::Relaxed) == 1 {
            self.set_cons(cons);
        }
        self.sharers.fetch_sub(1, Ordering::Release);
    }
}

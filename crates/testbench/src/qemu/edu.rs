// SPDX-License-Identifier: MIT OR Apache-2.0
//! `edu`: a device with a 4 KiB buffer that it fills from memory, or empties to memory.
//!
//! The buffer can be reached by the device's own DMA only, so data gets in and out through a page
//! of RAM that is ours, by a transfer that no mapping exists for. For that one transfer the instance
//! is set to bypass: CR0.SMMUEN and GBPA.ABORT (§6) are cleared and put back as they were. Nobody can
//! see it: QEMU does DMA only while it is told to here, the lock on its socket is held throughout,
//! and neither register touches the SMMU's queues or caches.

use std::time::Instant;

use super::error::QemuError;
use super::qtest::Qtest;
use super::topology::MasterPlan;
use crate::ram::Ram;

/// The size of the buffer, and so of one transfer, in bytes.
pub(super) const BUFFER: usize = 4096;

/// Where the buffer is in the device's own addresses. QEMU does not survive transfers elsewhere.
const BUFFER_START: u64 = 0x4_0000;

// Offsets in BAR 0, of 64-bit registers.
const SOURCE: u64 = 0x80;
const DESTINATION: u64 = 0x88;
const COUNT: u64 = 0x90;
const COMMAND: u64 = 0x98;

/// Starts a transfer; set while it lasts.
const RUN: u64 = 1 << 0;
/// The transfer goes to memory.
const TO_MEMORY: u64 = 1 << 1;

/// A transfer takes 100 ms of virtual time.
const DURATION_NS: u64 = 100_000_000;

// Offsets in the SMMU's first page (§6).
const CR0: u64 = 0x20;
const GBPA: u64 = 0x44;
const CR0_SMMUEN: u32 = 1 << 0;
const GBPA_ABORT: u32 = 1 << 20;
const GBPA_UPDATE: u32 = 1 << 31;

/// How QEMU's virtual time passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clock {
    /// Only when stepped.
    Stepped,
    /// By itself: it jumps to the next timer whenever the guest's CPU is idle, and it always is.
    Free,
}

/// An edu, and what it takes to use it.
pub(super) struct Edu<'a> {
    pub(super) index: usize,
    pub(super) plan: &'a MasterPlan,
    /// The registers of the instance in front of it.
    pub(super) smmu: u64,
    /// A page of RAM that nobody else uses.
    pub(super) staging: &'a Ram,
    pub(super) clock: Clock,
}

impl Edu<'_> {
    /// Writes `data`, at most [`BUFFER`] bytes, to `iova`.
    pub(super) fn write(&self, qtest: &mut Qtest, iova: u64, data: &[u8]) -> Result<(), QemuError> {
        self.staging.write(self.staging.base(), data)?;
        let count = data.len() as u64;
        self.bypassing(qtest, |qtest| {
            self.transfer(qtest, self.staging.base(), BUFFER_START, count, 0)
        })?;
        self.transfer(qtest, BUFFER_START, iova, count, TO_MEMORY)
    }

    /// Fills `data`, at most [`BUFFER`] bytes, from `iova`.
    pub(super) fn read(
        &self,
        qtest: &mut Qtest,
        iova: u64,
        data: &mut [u8],
    ) -> Result<(), QemuError> {
        let count = data.len() as u64;
        self.transfer(qtest, iova, BUFFER_START, count, 0)?;
        self.bypassing(qtest, |qtest| {
            self.transfer(qtest, BUFFER_START, self.staging.base(), count, TO_MEMORY)
        })?;
        Ok(self.staging.read(self.staging.base(), data)?)
    }

    /// Runs `transfer` with the instance in bypass, then puts it back as it was.
    fn bypassing(
        &self,
        qtest: &mut Qtest,
        transfer: impl FnOnce(&mut Qtest) -> Result<(), QemuError>,
    ) -> Result<(), QemuError> {
        let (cr0, gbpa) = (qtest.readl(self.smmu + CR0)?, qtest.readl(self.smmu + GBPA)?);
        let (enabled, aborts) = (cr0 & CR0_SMMUEN != 0, gbpa & GBPA_ABORT != 0);
        if aborts {
            qtest.writel(self.smmu + GBPA, gbpa & !GBPA_ABORT | GBPA_UPDATE)?;
        }
        if enabled {
            qtest.writel(self.smmu + CR0, cr0 & !CR0_SMMUEN)?;
        }
        // An error ends QEMU, so there is nothing to put back then.
        transfer(qtest)?;
        if enabled {
            qtest.writel(self.smmu + CR0, cr0)?;
        }
        if aborts {
            qtest.writel(self.smmu + GBPA, gbpa | GBPA_UPDATE)?;
        }
        Ok(())
    }

    fn transfer(
        &self,
        qtest: &mut Qtest,
        source: u64,
        destination: u64,
        count: u64,
        direction: u64,
    ) -> Result<(), QemuError> {
        debug_assert!(count <= BUFFER as u64, "the buffer is smaller");
        let bar = self.plan.bar;
        qtest.writeq(bar + SOURCE, source)?;
        qtest.writeq(bar + DESTINATION, destination)?;
        qtest.writeq(bar + COUNT, count)?;
        qtest.writeq(bar + COMMAND, RUN | direction)?;
        if self.clock == Clock::Stepped {
            qtest.clock_step(DURATION_NS)?;
        }
        let started = Instant::now();
        while qtest.readq(bar + COMMAND)? & RUN != 0 {
            let waited = started.elapsed();
            if self.clock == Clock::Stepped || waited > qtest.deadline() {
                let what = format!("a transfer of {count} bytes did not end within {waited:?}");
                let (master, kind) = (self.index, self.plan.kind);
                return Err(qtest.fail(|_| QemuError::Device { master, kind, what }));
            }
            std::thread::yield_now();
        }
        Ok(())
    }
}

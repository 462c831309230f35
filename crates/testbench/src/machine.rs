// SPDX-License-Identifier: MIT OR Apache-2.0
//! A machine to run the driver on: memory, SMMUs, and devices that do DMA.

use smmuv3_model::{Model, Observation};
use thiserror::Error;

use crate::caches::SmmuMemory;
use crate::lock::Guard;
use crate::oracle::AccessKind;
use crate::qemu::QemuError;
use crate::ram::{Ram, RamError};

/// What a device does to memory.
#[derive(Debug)]
pub enum Dma<'a> {
    /// It writes these bytes.
    Write(&'a [u8]),
    /// It fills this buffer.
    Read(&'a mut [u8]),
    /// The same, with instructions that it is to execute.
    Fetch(&'a mut [u8]),
}

impl Dma<'_> {
    /// Bytes that are moved.
    pub fn len(&self) -> usize {
        match self {
            Self::Write(data) => data.len(),
            Self::Read(buffer) | Self::Fetch(buffer) => buffer.len(),
        }
    }

    /// Whether nothing is moved.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the device writes to memory.
    pub fn is_write(&self) -> bool {
        matches!(self, Self::Write(_))
    }

    /// What the device says of it.
    pub fn kind(&self) -> AccessKind {
        match self {
            Self::Write(_) => AccessKind::Write,
            Self::Read(_) => AccessKind::Read,
            Self::Fetch(_) => AccessKind::Fetch,
        }
    }
}

/// What became of the part of a DMA that lies in one page of input addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// First input address.
    pub iova: u64,
    /// Bytes.
    pub bytes: usize,
    /// What happened, where the machine tells.
    pub outcome: Outcome,
}

/// What became of a DMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It reached this physical address.
    Reached(u64),
    /// It was refused.
    Refused,
    /// It has stalled: it is not over.
    Stalled,
    /// The device asked for a translation, and was granted none that permits it: it never sent it, and nobody was
    /// told.
    NotGranted,
    /// The machine does not tell; memory and events do.
    Unknown,
}

/// Why a machine cannot go on.
#[derive(Clone, Debug, Error)]
pub enum MachineError {
    /// QEMU's failure.
    #[error(transparent)]
    Qemu(#[from] QemuError),
    /// Its memory could not be had, or the device of a test accessed what is not memory.
    #[error("memory: {0}")]
    Ram(String),
    /// The machine has no such master.
    #[error("no master {0}")]
    NoMaster(usize),
    /// The machine's devices have no substreams.
    #[error("the devices have no PASIDs")]
    NoSubstreams,
}

impl From<RamError> for MachineError {
    fn from(error: RamError) -> Self {
        Self::Ram(error.to_string())
    }
}

/// Translations that a machine counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Translations {
    /// Answered from the TLB.
    pub hits: u64,
    /// Not in the TLB.
    pub misses: u64,
}

/// A machine. All methods may be called from any thread.
pub trait Machine: Send + Sync {
    /// `model` or `qemu`, with its version.
    fn name(&self) -> String;

    /// Its memory.
    fn ram(&self) -> &Ram;

    /// Reads a 32-bit register of an SMMU.
    fn read32(&self, instance: usize, offset: u32) -> u32;

    /// Writes a 32-bit register of an SMMU.
    fn write32(&self, instance: usize, offset: u32, value: u32);

    /// Writes a 64-bit register of an SMMU.
    fn write64(&self, instance: usize, offset: u32, value: u64);

    /// The driver took memory that CPUs cache.
    fn allocated(&self, _pa: u64, _bytes: u64) {}

    /// The driver gave memory back.
    fn freed(&self, _pa: u64, _bytes: u64) {}

    /// The driver made stores visible to SMMUs that do not snoop.
    fn published(&self, _pa: u64, _bytes: u64) {}

    /// The driver made a store visible, or touched a register: hardware may do something.
    fn act(&self);

    /// As [`Machine::act`]. Then each of `seen`, which are empty, is what the model of the SMMU with that number observed
    /// since it was asked last; gives whether there are models.
    fn act_and_tell(&self, seen: &mut [Vec<Observation>]) -> bool {
        self.act();
        let mut models = false;
        for (instance, seen) in seen.iter_mut().enumerate() {
            let Some(mut model) = self.model(instance) else { break };
            models = true;
            model.swap_observations(seen);
        }
        models
    }

    /// The driver waits: hardware gets time to do what it was told.
    fn wait(&self);

    /// Lets `master` do DMA at `iova`, page by page, without a substream or with this SubstreamID.
    ///
    /// # Errors
    /// [`MachineError`]; that the SMMU refuses an access is not an error.
    fn dma(
        &self,
        master: usize,
        substream: Option<u32>,
        iova: u64,
        transfer: Dma<'_>,
    ) -> Result<Vec<Part>, MachineError>;

    /// All power goes and comes back, while every SMMU is off, just before `waking` is to be taken into use: it is as after
    /// reset, the others let pass what they did, and memory keeps what it had. Nothing where each SMMU has a power of its
    /// own, as models have.
    ///
    /// # Errors
    /// [`MachineError`].
    fn power_cycle(&self, _waking: usize) -> Result<(), MachineError> {
        Ok(())
    }

    /// The model of an SMMU, where the machine has one: for the oracle.
    fn model(&self, instance: usize) -> Option<Guard<'_, Model<SmmuMemory>>>;

    /// Translations so far, where the machine counts them.
    fn translations(&self) -> Option<Translations>;

    /// The run is over: what the machine remembers is given back, also where somebody who is gone for good still has it.
    fn discard(&self) {
        self.ram().discard();
    }

    /// Whether the machine still works.
    ///
    /// # Errors
    /// What broke it.
    fn health(&self) -> Result<(), MachineError>;
}

/// Cuts `bytes` at `iova` into parts that lie in one 4 KiB page each: offset and length.
pub(crate) fn pages(iova: u64, bytes: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut offset = 0;
    std::iter::from_fn(move || {
        let left = bytes - offset;
        if left == 0 {
            return None;
        }
        let to_end = 0x1000 - (iova.wrapping_add(offset as u64) & 0xfff) as usize;
        let part = (offset, left.min(to_end));
        offset += part.1;
        Some(part)
    })
}

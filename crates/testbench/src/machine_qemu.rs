// SPDX-License-Identifier: MIT OR Apache-2.0
//! The machine made of QEMU's SMMUv3 and its PCI devices.

use std::path::PathBuf;

use smmuv3_formats::register::Gbpa;
use smmuv3_model::Model;

use crate::caches::SmmuMemory;
use crate::lock::Guard;
use crate::machine::{Dma, Machine, MachineError, Outcome, Part, Translations, pages};
use crate::qemu::{
    DeviceKind, Interrupts, Qemu, QemuConfig, QemuError, QemuInstance, QemuMaster, QemuMmio, Stage,
};
use crate::ram::Ram;
use crate::scenario::{Device, Scenario};

/// QEMU, with the registers of its SMMUs.
pub struct QemuMachine {
    qemu: Qemu,
    registers: Vec<QemuMmio>,
    ram: Ram,
}

/// MiB of RAM: a scenario's memories, tables, queues, and what random steps use.
const RAM_MIB: u32 = 256;

impl QemuMachine {
    /// Starts the program `binary` as the machine that `scenario` describes.
    ///
    /// # Errors
    /// What QEMU cannot do, or its failure.
    pub fn start(scenario: &Scenario, binary: PathBuf) -> Result<Self, QemuError> {
        let mut config = QemuConfig::new(binary);
        config.ram_mib = RAM_MIB;
        config.log_translations = true;
        config.instances = scenario
            .instances
            .iter()
            .map(|instance| QemuInstance {
                stage: match (instance.stage_1, instance.stage_2) {
                    (false, _) => Stage::Two,
                    (true, false) => Stage::One,
                    (true, true) => Stage::Nested,
                },
            })
            .collect();
        config.masters = scenario
            .masters
            .iter()
            .map(|master| QemuMaster {
                instance: master.instance,
                stream: master.streams.first().copied().unwrap_or(0),
                device: match master.device {
                    Device::Edu => DeviceKind::Edu,
                    Device::TestDevice => DeviceKind::Testdev,
                },
            })
            .collect();
        let qemu = Qemu::start(config)?;
        let registers =
            (0..qemu.instances()).map(|index| qemu.mmio(index)).collect::<Result<_, _>>()?;
        let ram = qemu.ram().clone();
        Ok(Self { qemu, registers, ram })
    }

    /// How often an SMMU has raised its wires so far.
    ///
    /// # Errors
    /// There is no such SMMU.
    pub fn interrupts(&self, instance: usize) -> Result<Interrupts, QemuError> {
        self.qemu.interrupts(instance)
    }

    /// The number of QEMU's process.
    pub fn process_id(&self) -> u32 {
        self.qemu.process_id()
    }
}

/// What a register of a machine that broke reads as. The error is kept for [`Machine::health`].
const BROKEN: u32 = u32::MAX;

impl Machine for QemuMachine {
    fn name(&self) -> String {
        format!("qemu {}", self.qemu.version())
    }

    fn ram(&self) -> &Ram {
        &self.ram
    }

    fn read32(&self, instance: usize, offset: u32) -> u32 {
        let registers = self.registers.get(instance);
        registers.and_then(|registers| registers.read32(offset).ok()).unwrap_or(BROKEN)
    }

    fn write32(&self, instance: usize, offset: u32, value: u32) {
        if let Some(registers) = self.registers.get(instance) {
            // Kept for `health`.
            let _ = registers.write32(offset, value);
        }
    }

    fn write64(&self, instance: usize, offset: u32, value: u64) {
        if let Some(registers) = self.registers.get(instance) {
            // Kept for `health`.
            let _ = registers.write64(offset, value);
        }
    }

    /// QEMU does everything within the access that causes it.
    fn act(&self) {}

    fn wait(&self) {}

    fn dma(
        &self,
        master: usize,
        substream: Option<u32>,
        iova: u64,
        transfer: Dma<'_>,
    ) -> Result<Vec<Part>, MachineError> {
        if substream.is_some() {
            return Err(MachineError::NoSubstreams);
        }
        let parts: Vec<Part> = pages(iova, transfer.len())
            .map(|(offset, bytes)| Part {
                iova: iova.wrapping_add(offset as u64),
                bytes,
                outcome: Outcome::Unknown,
            })
            .collect();
        match transfer {
            Dma::Write(data) => {
                // What the device says of it, if it says anything, is less than memory and events say.
                self.qemu.write(master, iova, data)?;
            }
            // Its devices do not tell one from the other.
            Dma::Read(buffer) | Dma::Fetch(buffer) => {
                let data = self.qemu.read(master, iova, buffer.len())?;
                for (to, from) in buffer.iter_mut().zip(data) {
                    *to = from;
                }
            }
        }
        Ok(parts)
    }

    fn power_cycle(&self, waking: usize) -> Result<(), MachineError> {
        let others = || self.registers.iter().enumerate().filter(|(index, _)| *index != waking);
        let passed: Vec<u32> = others()
            .map(|(_, registers)| registers.read32(Gbpa::OFFSET))
            .collect::<Result<_, _>>()?;
        self.qemu.power_cycle()?;
        for ((_, registers), passed) in others().zip(passed) {
            // As firmware does, which knows what may pass.
            registers.write32(Gbpa::OFFSET, Gbpa(passed).with_update(true).0)?;
        }
        Ok(())
    }

    fn model(&self, _instance: usize) -> Option<Guard<'_, Model<SmmuMemory>>> {
        None
    }

    fn translations(&self) -> Option<Translations> {
        let counts = self.qemu.translation_counts().ok()??;
        Some(Translations { hits: counts.hits, misses: counts.misses })
    }

    fn health(&self) -> Result<(), MachineError> {
        Ok(self.qemu.health()?)
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Command queues: the one that each SMMU has, and an enhanced one (§2.6, §4.1).

use smmuv3::{Mmio, Platform};
use smmuv3_formats::Command;
use smmuv3_formats::command::Sync;
use smmuv3_formats::register::{
    CmdqCons, CmdqControlPageBase, CmdqControlPageCfg, CmdqProd, EcmdqBase, EcmdqCons, EcmdqProd,
};

use super::{COMMANDS_LOG2, Hand};

/// One of them, of 2^[`COMMANDS_LOG2`] commands.
#[derive(Clone, Copy)]
pub(super) struct Queue {
    memory: u64,
    /// Offset of the PROD register, with EN of an enhanced queue in it, and of CONS.
    registers: [u32; 2],
    enabled: u32,
    /// Next producer index, with its wrap bit.
    prod: u32,
}

impl Queue {
    /// The one that each SMMU has.
    pub(super) fn main(memory: u64) -> Self {
        let registers = [CmdqProd::OFFSET, CmdqCons::OFFSET];
        Self { memory, registers, enabled: 0, prod: 0 }
    }

    pub(super) fn memory(&self) -> u64 {
        self.memory
    }

    /// Its indices are zero again.
    pub(super) fn restart(&mut self) {
        self.prod = 0;
    }
}

impl Hand {
    /// Makes an enhanced queue ready beside the one that each SMMU has.
    pub fn enable_second_queue(&mut self, instance: usize) {
        let memory = self.allocate(16 << COMMANDS_LOG2);
        let mmio = &self.smmus[instance].mmio;
        let at = CmdqControlPageBase::OFFSET;
        let page = u64::from(mmio.read32(at)) | u64::from(mmio.read32(at + 4)) << 32;
        // Registers are within 4 GiB.
        let slot = CmdqControlPageBase(page).addr() as u32;
        let page = CmdqControlPageCfg::default().with_en(true);
        mmio.write32(CmdqControlPageCfg::OFFSET, page.0);
        let base = EcmdqBase::default().with_addr(memory).with_log2size(COMMANDS_LOG2);
        mmio.write64(slot + EcmdqBase::OFFSET, base.0);
        let registers = [slot + EcmdqProd::OFFSET, slot + EcmdqCons::OFFSET];
        // Whatever was there.
        mmio.write32(registers[0], 0);
        mmio.write32(registers[1], 0);
        let enabled = EcmdqProd::default().with_en(true).0;
        mmio.write32(registers[0], enabled);
        while !EcmdqCons(mmio.read32(registers[1])).enack() {
            self.platform.relax();
        }
        self.smmus[instance].second = Some(Queue { memory, registers, enabled, prod: 0 });
    }

    /// Gives the commands of `steps` to the enhanced queue of `instance`.
    pub fn in_second_queue(&mut self, instance: usize, steps: impl FnOnce(&mut Self)) {
        self.exchange_queues(instance);
        steps(self);
        self.exchange_queues(instance);
    }

    fn exchange_queues(&mut self, instance: usize) {
        let smmu = &mut self.smmus[instance];
        let second = smmu.second.as_mut().expect("there is one");
        std::mem::swap(&mut smmu.queue, second);
    }

    /// Gives `instance` a command, and does not wait. The queue is never filled between two waits.
    pub fn send(&mut self, instance: usize, command: impl Into<Command>) {
        let command = command.into();
        self.unfinished[instance].push(command);
        let words = command.0;
        let queue = self.smmus[instance].queue;
        let slot = queue.memory + 16 * u64::from(queue.prod & ((1 << COMMANDS_LOG2) - 1));
        for (at, word) in [(slot, words[0]), (slot + 8, words[1])] {
            self.world.machine().ram().write64(at, word).expect("the queue is in RAM");
        }
        let prod = (queue.prod + 1) & ((2 << COMMANDS_LOG2) - 1);
        self.smmus[instance].queue.prod = prod;
        self.smmus[instance].mmio.write32(queue.registers[0], queue.enabled | prod);
    }

    /// Waits until `instance` has done everything that it was told by the queue in use.
    pub fn sync(&mut self, instance: usize) {
        let commands = self.sync_once(instance);
        if self.repeats {
            for command in commands {
                self.send(instance, command);
            }
            self.sync_once(instance);
        }
    }

    /// As [`Hand::sync`], and nothing is repeated; what was completed by it.
    pub fn sync_once(&mut self, instance: usize) -> Vec<Command> {
        let commands = std::mem::take(&mut self.unfinished[instance]);
        self.send(instance, Sync::new());
        self.consumed(instance);
        self.unfinished[instance].clear();
        commands
    }

    /// Waits until `instance` has consumed all commands, which means nothing unless the last is a CMD_SYNC.
    pub fn consumed(&mut self, instance: usize) {
        let queue = self.smmus[instance].queue;
        for _ in 0..1000 {
            // The fields of an enhanced queue are in the same places.
            let cons = CmdqCons(self.smmus[instance].mmio.read32(queue.registers[1]));
            assert_eq!(cons.err(), 0, "the command queue stopped");
            if cons.rd() == u64::from(queue.prod) {
                return;
            }
            self.platform.relax();
        }
        panic!("instance {instance} consumes no commands");
    }
}

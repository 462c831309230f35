// SPDX-License-Identifier: MIT OR Apache-2.0
//! The registers of one SMMU of the machine, and what is looked at on the way to them.

use std::sync::Arc;

use smmuv3::Mmio;
use smmuv3_formats::register::{
    CmdqBase, CmdqCons, CmdqProd, EcmdqBase, EcmdqCons, EcmdqProd, Idr6, PAGE,
};

use super::{Point, World};

/// The registers of one SMMU of the machine.
#[derive(Clone)]
pub struct TestMmio {
    /// The surroundings.
    pub world: Arc<World>,
    /// Which SMMU.
    pub instance: usize,
}

impl TestMmio {
    /// The queue whose register is at `offset`, and the same register of the command queue, which is number 0.
    fn queue(&self, offset: u32) -> Option<(usize, u32)> {
        let Some(inside) = offset.checked_sub(2 * PAGE) else {
            let known = [CmdqBase::OFFSET, CmdqProd::OFFSET, CmdqCons::OFFSET].contains(&offset);
            return known.then_some((0, offset));
        };
        let idr6 = Idr6(self.world.machine.read32(self.instance, Idr6::OFFSET));
        let slot = PAGE >> idr6.log2_num_q();
        let known = match inside % slot {
            EcmdqBase::OFFSET => CmdqBase::OFFSET,
            EcmdqProd::OFFSET => CmdqProd::OFFSET,
            EcmdqCons::OFFSET => CmdqCons::OFFSET,
            _ => return None,
        };
        Some((1 + (inside / slot) as usize, known))
    }
}

impl Mmio for TestMmio {
    fn bytes(&self) -> u64 {
        u64::from(3 * PAGE)
    }

    fn read32(&self, offset: u32) -> u32 {
        let value = self.world.machine.read32(self.instance, offset);
        if let Some((queue, CmdqCons::OFFSET)) = self.queue(offset) {
            // The field has 20 bits.
            let cons = CmdqCons(value).rd() as u32;
            self.world.trace(|trace| trace.consumer((self.instance, queue), cons));
        }
        self.world.at(Point::Idle);
        value
    }

    fn write32(&self, offset: u32, value: u32) {
        if let Some((queue, CmdqProd::OFFSET)) = self.queue(offset) {
            // The field has 20 bits.
            let prod = CmdqProd(value).wr() as u32;
            self.world.snoop_commands(self.instance, queue, prod);
        }
        self.world.machine.write32(self.instance, offset, value);
        self.world.at(Point::Idle);
    }

    fn write64(&self, offset: u32, value: u64) {
        if let Some((queue, CmdqBase::OFFSET)) = self.queue(offset)
            && let Some(queues) = self.world.snoop().queues.get_mut(self.instance)
        {
            queues.insert(queue, (CmdqBase(value), 0));
            self.world.trace(|trace| trace.abandon((self.instance, queue)));
        }
        self.world.machine.write64(self.instance, offset, value);
        self.world.at(Point::Idle);
    }
}

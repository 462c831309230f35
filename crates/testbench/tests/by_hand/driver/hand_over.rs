// SPDX-License-Identifier: MIT OR Apache-2.0
//! Another kernel in the place of the one that had worked by hand: it has its own queues, tables and domains.

use smmuv3::Mmio;
use smmuv3_formats::Command;
use smmuv3_formats::command::TlbiNsnhAll;
use smmuv3_formats::register::{
    CmdqBase, CmdqCons, CmdqProd, Cr0, EventqBase, EventqCons, EventqProd, StrtabBase,
};
use smmuv3_testbench::oracle::{PAGE, Shape};

use super::{ABORT, COMMANDS_LOG2, EVENTS_LOG2, Hand, INSTANCES, Queue, STREAMS_LOG2};

impl Hand {
    /// The kernel is gone: streams go on, domains are empty, with these ASIDs.
    pub fn crash(&mut self, asids: [[u16; 2]; 2]) {
        self.watch().collect(&self.world);
        self.watch().oracle.crash();
        for (domain, asids) in asids.into_iter().enumerate() {
            let root = self.allocate(PAGE);
            self.watch().oracle.renew_domain(domain, root, Shape::default());
            self.spaces[domain] = super::Space { root, asids };
        }
        // Pages that are mapped from here on are others.
        assert!(INSTANCES.iter().all(|it| self.watch().oracle.is_kept(*it)));
    }

    /// Puts queues of the new kernel in place of the old ones, while the instance translates (§2.1), and empties its
    /// caches.
    pub fn take_queues(&mut self, instance: usize) {
        self.control(instance, Cr0::default().with_smmuen(true));
        self.put_queues(instance);
        self.start_queues(instance, Cr0::default().with_smmuen(true));
    }

    /// As a kernel does that knows of nobody before it: off, another stream table, all streams blocked, and on.
    pub fn start_over(&mut self, instance: usize) {
        self.control(instance, Cr0::default());
        let table = self.allocate(64 << STREAMS_LOG2);
        for stream in 0..1 << STREAMS_LOG2 {
            self.store(table + 64 * stream, ABORT);
        }
        let base = StrtabBase::default().with_addr(table);
        self.smmus[instance].mmio.write64(StrtabBase::OFFSET, base.0);
        self.put_queues(instance);
        self.start_queues(instance, Cr0::default());
        let cr0 = Cr0::default().with_cmdqen(true).with_eventqen(true);
        self.control(instance, cr0.with_smmuen(true));
    }

    fn put_queues(&mut self, instance: usize) {
        let queue = self.allocate(16 << COMMANDS_LOG2);
        let events = self.allocate(32 << EVENTS_LOG2);
        let smmu = &mut self.smmus[instance];
        smmu.queue = Queue::main(queue);
        let mmio = &smmu.mmio;
        let base = CmdqBase::default().with_addr(queue).with_log2size(COMMANDS_LOG2);
        mmio.write64(CmdqBase::OFFSET, base.0);
        mmio.write32(CmdqProd::OFFSET, 0);
        mmio.write32(CmdqCons::OFFSET, 0);
        let base = EventqBase::default().with_addr(events).with_log2size(EVENTS_LOG2);
        mmio.write64(EventqBase::OFFSET, base.0);
        mmio.write32(EventqProd::OFFSET, 0);
        mmio.write32(EventqCons::OFFSET, 0);
    }

    fn start_queues(&mut self, instance: usize, cr0: Cr0) {
        self.control(instance, cr0.with_cmdqen(true));
        self.send(instance, Command::cfgi_all());
        self.send(instance, TlbiNsnhAll::new());
        self.sync(instance);
        self.control(instance, cr0.with_cmdqen(true).with_eventqen(true));
    }
}

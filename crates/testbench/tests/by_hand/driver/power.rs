// SPDX-License-Identifier: MIT OR Apache-2.0
//! SMMUs that are off for a while, with power and without (§2.4, §17.4).

use smmuv3::{Mmio, Overrides, Platform};
use smmuv3_formats::Command;
use smmuv3_formats::command::{Sync, completion};
use smmuv3_formats::register::{Cr0, Gbpa};
use smmuv3_testbench::oracle::{PAGE, Power};
use smmuv3_testbench::platform::{Observer, Point};

use super::{COMMANDS_LOG2, EVENTS_LOG2, Hand, STREAMS_LOG2, Smmu};

impl Hand {
    /// An instance is about to be suspended, and still translates.
    pub fn suspending(&mut self, instance: usize) {
        self.watch().oracle.set_power(instance, Power::Changing);
    }

    /// Suspends an instance, and the power goes.
    pub fn sleep(&mut self, instance: usize) {
        self.halt(instance);
        let mut model = self.world.machine().model(instance).expect("it is a model");
        model.power_off();
        drop(model);
        self.watch().collect(&self.world);
    }

    /// Turns an instance off for good: nothing passes, and nothing is under way.
    pub fn halt(&mut self, instance: usize) {
        self.suspending(instance);
        self.set_abort(instance, true);
        self.off(instance);
        self.send(instance, Command::cfgi_all());
        self.tlbi_all(instance);
        self.sync(instance);
        self.control(instance, Cr0::default());
        let mut watch = self.watch();
        watch.collect(&self.world);
        watch.oracle.set_power(instance, Power::Off);
    }

    /// Resumes an instance, and makes it forget all that its caches hold, if so.
    pub fn wake(&mut self, instance: usize, empties: bool) {
        self.suspending(instance);
        let mut model = self.world.machine().model(instance).expect("it is a model");
        model.power_on(true);
        drop(model);
        self.start(instance, empties);
        let mut watch = self.watch();
        watch.collect(&self.world);
        watch.oracle.set_power(instance, Power::On);
    }

    /// The stream table, the command queue and the event queue of an instance are freed. Nothing takes their place.
    pub fn free_memory(&mut self, instance: usize) {
        let Smmu { queue, table, events, .. } = &self.smmus[instance];
        let queue = (queue.memory(), 16 << COMMANDS_LOG2);
        for (pa, bytes) in [(*table, 64 << STREAMS_LOG2), queue, (*events, 32 << EVENTS_LOG2)] {
            self.eyes.at(Point::Freeing { pa, bytes }, false);
        }
    }

    /// Turns an instance off behind a CMD_SYNC whose message goes to `word`, and waits, or does not, until that must be
    /// there (§4.2).
    pub fn halt_behind_a_message(&mut self, instance: usize, word: u64, waits: bool) {
        self.suspending(instance);
        self.set_abort(instance, true);
        self.off(instance);
        let sync = Sync::new().with_cs(completion::IRQ).with_msi_addr(word).with_msi_data(1);
        self.send(instance, sync);
        self.consumed(instance);
        if waits {
            self.sync(instance);
        }
        self.control(instance, Cr0::default());
        let mut watch = self.watch();
        watch.collect(&self.world);
        watch.oracle.set_power(instance, Power::Off);
    }

    /// Takes an instance that is off into use again, as after a loss of power.
    pub fn wake_anew(&mut self, instance: usize) {
        let mut model = self.world.machine().model(instance).expect("it is a model");
        model.power_off();
        drop(model);
        self.wake(instance, true);
    }

    /// An instance is to translate again, and nobody waits until it does.
    pub fn begin_on(&mut self, instance: usize) {
        let enabled = Cr0::default().with_cmdqen(true).with_eventqen(true).with_smmuen(true);
        self.smmus[instance].mmio.write32(Cr0::OFFSET, enabled.0);
    }

    /// An instance translates again, and devices are used.
    pub fn is_on(&mut self, instance: usize) {
        self.on(instance);
        let mut watch = self.watch();
        watch.collect(&self.world);
        watch.oracle.set_power(instance, Power::On);
    }

    /// Frees the context that the master's entry leads to.
    pub fn free_context(&mut self, instance: usize) {
        let pa = self.entry(instance).s1_context_ptr();
        self.eyes.at(Point::Freeing { pa, bytes: 64 }, false);
    }

    /// Memory for a message.
    pub fn take_page(&mut self) -> u64 {
        self.allocate(PAGE)
    }

    /// An instance does not translate any more.
    pub fn off(&mut self, instance: usize) {
        self.control(instance, Cr0::default().with_cmdqen(true).with_eventqen(true));
    }

    /// An instance translates again.
    pub fn on(&mut self, instance: usize) {
        let enabled = Cr0::default().with_cmdqen(true).with_eventqen(true);
        self.control(instance, enabled.with_smmuen(true));
    }

    /// Whether an instance aborts what it does not translate.
    pub fn set_abort(&mut self, instance: usize, aborts: bool) {
        self.set_gbpa(instance, Gbpa::default().with_sh_cfg(1).with_abort(aborts));
    }

    /// Turns an instance off, which lets everything pass as `gbpa` says, and is to let it pass with these attributes.
    pub fn let_pass(&mut self, instance: usize, overrides: &Overrides, gbpa: Gbpa) {
        self.watch().oracle.passes_while_off(instance, overrides);
        self.suspending(instance);
        self.set_gbpa(instance, gbpa);
        self.off(instance);
        self.is_off(instance);
    }

    /// Looks at what passes an instance that is off.
    pub fn is_off(&mut self, instance: usize) {
        self.watch().is_off(&self.world, instance);
    }

    /// What an instance does with what it does not translate.
    fn set_gbpa(&mut self, instance: usize, gbpa: Gbpa) {
        let mmio = &self.smmus[instance].mmio;
        mmio.write32(Gbpa::OFFSET, gbpa.with_update(true).0);
        while Gbpa(mmio.read32(Gbpa::OFFSET)).update() {
            self.platform.relax();
        }
    }
}

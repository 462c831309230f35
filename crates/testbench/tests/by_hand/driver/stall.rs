// SPDX-License-Identifier: MIT OR Apache-2.0
//! Devices that stall, and what answers them.

use smmuv3_formats::command::{Resume, StallTerm};
use smmuv3_testbench::oracle::{AccessKind, Use};

use super::{ABORT, Hand, STREAMS};

impl Hand {
    /// The device behind `instance` reads at `iova`, where nothing is mapped; the STAG with which it waits.
    pub fn fault(&mut self, instance: usize, iova: u64) -> u16 {
        self.access(instance, iova, AccessKind::Read);
        let model = self.world.machine().model(instance).expect("it is a model");
        let stalled = model.stalled().filter(|it| it.recorded && it.behind.is_none());
        // The field has 16 bits.
        let stag = stalled.last().expect("it stalls").event.stag() as u16;
        drop(model);
        self.watch().collect(&self.world);
        stag
    }

    /// Aborts the transaction of this STAG.
    pub fn resume(&mut self, instance: usize, stag: u16) {
        let command = Resume::new().with_sid(STREAMS[instance].into()).with_ab(true);
        self.send(instance, command.with_stag(stag.into()));
    }

    /// Aborts all that wait.
    pub fn stall_term(&mut self, instance: usize) {
        self.send(instance, StallTerm::new().with_sid(STREAMS[instance].into()));
    }

    /// Blocks the master behind `instance`, which uses `domain` and stalls: the entry, CFGI and SYNC, then whatever
    /// `ends` what waits (§11).
    pub fn detach_stalling(
        &mut self,
        instance: usize,
        domain: usize,
        ends: impl FnOnce(&mut Self),
    ) {
        self.changing(instance, Use::Blocked, |hand| {
            hand.store_entry(instance, 0, ABORT);
            hand.cfgi_ste(instance);
            hand.sync(instance);
            ends(hand);
            hand.forget(instance, domain);
            hand.sync(instance);
        });
    }

    /// No device waits any more.
    pub fn end(&mut self) {
        let mut watch = self.watch();
        watch.collect(&self.world);
        watch.oracle.no_stall_is_left();
    }
}

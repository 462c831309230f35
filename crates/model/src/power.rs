// SPDX-License-Identifier: MIT OR Apache-2.0
//! The power goes, and comes back: registers as after a reset, and caches that may still hold anything (§2.1, §17.4).

use crate::command_queue::Faults;
use crate::config_cache::ConfigCache;
use crate::ecmdq::{self, Enhanced};
use crate::memory::Memory;
use crate::model::Model;
use crate::observation::Misuse;
use crate::random::Random;
use crate::registers::Registers;
use crate::tlb::{Tlb, WalkCache};

/// Caches as they were.
#[derive(Clone, Debug, Default)]
pub(crate) struct Residue {
    config: ConfigCache,
    tlb: Option<[Tlb; 2]>,
    walks: [WalkCache; 2],
}

impl<M: Memory> Model<M> {
    /// SMMUEN became 0: memory of caches keeps what was there, whatever is invalidated from here on.
    pub(crate) fn leave_residue(&mut self) {
        self.residue = Residue {
            config: self.config.clone(),
            tlb: Some([self.tlb.clone(), self.ipa_tlb.clone()]),
            walks: [self.walk_cache.clone(), self.ipa_walk_cache.clone()],
        };
    }

    /// The power goes: nobody answers, and every access is refused, until [`Model::power_on`].
    pub fn power_off(&mut self) {
        let cr0 = self.registers.cr0.ack | self.registers.cr0.written;
        let enhanced = self.enhanced.iter().any(Enhanced::guards);
        if cr0 != 0 || enhanced || !self.held.is_empty() {
            self.misuse(Misuse::PowerLost { cr0 });
        }
        self.powered = false;
        self.held.clear();
        self.pending.clear();
        self.atc_pending.clear();
        self.messages.clear();
        self.faults = Faults::default();
    }

    /// The power comes back, with GBPA.ABORT as `abort` says, and other registers as after a reset. What becomes of caches
    /// then is implementation defined (§8.1): of what they held when SMMUEN became 0, each part is there again, or not,
    /// even if it was invalidated since.
    pub fn power_on(&mut self, abort: bool) {
        self.powered = true;
        let stuck = self.registers.stuck;
        self.registers = Registers::new(&self.profile, &mut self.random);
        self.enhanced = ecmdq::queues(&self.profile, &mut self.random);
        self.registers.gbpa = self.registers.gbpa.with_abort(abort);
        self.registers.stuck = stuck;
        let Residue { config, tlb, walks } = std::mem::take(&mut self.residue);
        self.config = config;
        if let Some(tlb) = tlb {
            [self.tlb, self.ipa_tlb] = tlb;
        }
        [self.walk_cache, self.ipa_walk_cache] = walks;
        self.forget_some();
    }

    /// Whether it has power.
    pub const fn is_powered(&self) -> bool {
        self.powered
    }

    /// Whether it translates: SMMUEN is 1.
    pub fn translates(&self) -> bool {
        self.powered && self.registers.enabled()
    }

    /// Whether it translates, or may from now on: SMMUEN is 1, or on its way to or from that (§2.4).
    pub fn may_translate(&self) -> bool {
        self.powered && self.registers.cr0.guards(1)
    }

    fn forget_some(&mut self) {
        let mut seed = Random::new(self.random.next());
        // By what they are, since the order of a map depends on its history.
        let salt = seed.next();
        let stays = |key: u64| (key ^ salt).wrapping_mul(0x9fb2_1c65_1e98_df25) >> 63 == 0;
        let config = &mut self.config;
        config.fetches.clear();
        config.stes.retain(|stream, _| stays(u64::from(stream)));
        config.cds.retain(|(stream, substream), _| {
            stays(u64::from(*stream) << 20 | u64::from(*substream))
        });
        config.l1.retain(|index, _| stays(u64::from(*index)));
        config
            .l1_cds
            .retain(|(stream, index), _| stays(u64::from(*stream) << 20 | u64::from(*index)));
        for tlb in [&mut self.tlb, &mut self.ipa_tlb] {
            tlb.remove(|entry| !stays(entry.id));
        }
        for cache in [&mut self.walk_cache, &mut self.ipa_walk_cache] {
            cache.remove(|entry| !stays(entry.id));
        }
    }
}

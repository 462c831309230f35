// SPDX-License-Identifier: MIT OR Apache-2.0
//! The whole instance.

use std::collections::{BTreeMap, VecDeque};

use smmuv3_formats::descriptor::Stage;
use smmuv3_formats::legality::Implementation;

use crate::atc::{AtcPending, AtcSpan};
use crate::command_queue::Faults;
use crate::config_cache::ConfigCache;
use crate::ecmdq::{self, Enhanced};
use crate::endpoint::Endpoint;
use crate::errata::Errata;
use crate::held::{Held, Performed};
use crate::invalidation::{Once, Pending};
use crate::memory::Memory;
use crate::monitor::Monitor;
use crate::observation::{Misuse, Observation, Statistics};
use crate::power::Residue;
use crate::profile::Profile;
use crate::random::Random;
use crate::registers::{Msi, Registers};
use crate::stall::Stalls;
use crate::tlb::{Tlb, TlbEntry, WalkCache, WalkEntry};
use crate::transaction::Access;

/// Wired interrupts, edges since the last look (§2.4), and events for processors that wait for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interrupts {
    /// The event queue became non-empty.
    pub eventq: bool,
    /// An error became active.
    pub gerror: bool,
    /// A CMD_SYNC that asked for it completed.
    pub cmd_sync: bool,
    /// An event was sent: a CMD_SYNC that asked for one completed, or the full command queue got room. Only with
    /// IDR0.SEV, and not from parts whose events get lost ([`Errata::lost_events`]).
    pub event: bool,
    /// The PRI queue became non-empty or, with LO, got the last request of a group.
    pub priq: bool,
}

/// Observations that there is room for from the beginning: to move those of many walks to a larger place takes as long as
/// some of the walks.
const OBSERVATIONS: usize = 2048;

/// One SMMUv3: registers, queues, caches and the transactions of its devices.
///
/// It acts only when it is called, and does the same for the same seed and the same calls.
#[derive(Debug)]
pub struct Model<M> {
    pub(crate) profile: Profile,
    /// Of the part that IIDR names.
    pub(crate) errata: Errata,
    pub(crate) memory: M,
    pub(crate) random: Random,
    pub(crate) registers: Registers,
    pub(crate) faults: Faults,
    /// Enhanced command queues.
    pub(crate) enhanced: Vec<Enhanced>,
    /// Messages of CMD_SYNCs that are on their way, with the number of their queue.
    pub(crate) messages: VecDeque<(usize, Msi)>,
    pub(crate) pending: Vec<Pending>,
    /// What was asked for once, where that is not enough (§19).
    pub(crate) once: Vec<Once>,
    /// Devices by stream, and what they were told that no CMD_SYNC has completed yet.
    pub(crate) endpoints: BTreeMap<u32, Endpoint>,
    pub(crate) atc_pending: Vec<AtcPending>,
    /// What devices were told, did not do in time, and will do.
    pub(crate) atc_late: Vec<AtcSpan>,
    pub(crate) config: ConfigCache,
    pub(crate) tlb: Tlb,
    pub(crate) walk_cache: WalkCache,
    /// Those of stage 2, by intermediate address.
    pub(crate) ipa_tlb: Tlb,
    pub(crate) ipa_walk_cache: WalkCache,
    pub(crate) held: Vec<Held>,
    pub(crate) finished: Vec<Performed>,
    pub(crate) stalls: Stalls,
    pub(crate) recent: Vec<Access>,
    pub(crate) recent_next: usize,
    pub(crate) interrupts: Interrupts,
    pub(crate) statistics: Statistics,
    pub(crate) monitor: Option<Box<Monitor>>,
    /// It has power.
    pub(crate) powered: bool,
    /// What was in the caches when SMMUEN last became 0.
    pub(crate) residue: Residue,
    observations: Vec<Observation>,
    clock: u64,
}

impl<M: Memory> Model<M> {
    /// An instance after reset, with empty caches.
    pub fn new(profile: Profile, memory: M, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let registers = Registers::new(&profile, &mut random);
        let enhanced = ecmdq::queues(&profile, &mut random);
        let errata = Errata::of(profile.iidr);
        Self {
            profile,
            errata,
            memory,
            random,
            registers,
            faults: Faults::default(),
            enhanced,
            messages: VecDeque::new(),
            pending: Vec::new(),
            once: Vec::new(),
            endpoints: BTreeMap::new(),
            atc_pending: Vec::new(),
            atc_late: Vec::new(),
            config: ConfigCache::default(),
            tlb: Tlb::new(),
            walk_cache: WalkCache::default(),
            ipa_tlb: Tlb::new(),
            ipa_walk_cache: WalkCache::default(),
            held: Vec::new(),
            finished: Vec::new(),
            stalls: Stalls::default(),
            recent: Vec::new(),
            recent_next: 0,
            interrupts: Interrupts::default(),
            statistics: Statistics::default(),
            monitor: None,
            powered: true,
            residue: Residue::default(),
            observations: Vec::with_capacity(OBSERVATIONS),
            clock: 0,
        }
    }

    /// What the instance is.
    pub const fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The memory it works on.
    pub const fn memory(&self) -> &M {
        &self.memory
    }

    /// Everything that happened since the last call, in order.
    pub fn observations(&mut self) -> Vec<Observation> {
        std::mem::take(&mut self.observations)
    }

    /// The same into `empty`, whose memory is used for what comes next: for who asks often.
    #[inline]
    pub fn swap_observations(&mut self, empty: &mut Vec<Observation>) {
        empty.clear();
        // Mostly there are none.
        if !self.observations.is_empty() {
            std::mem::swap(&mut self.observations, empty);
        }
    }

    /// Edges of the wired interrupts, and events, since the last call.
    pub fn interrupts(&mut self) -> Interrupts {
        std::mem::take(&mut self.interrupts)
    }

    /// Counters since the model was made.
    pub const fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// The cached translations, in no particular order.
    pub fn tlb_entries(&self) -> impl Iterator<Item = &TlbEntry> {
        self.tlb.iter().chain(self.ipa_tlb.iter())
    }

    /// The cached table descriptors, in no particular order.
    pub fn walk_entries(&self) -> impl Iterator<Item = &WalkEntry> {
        self.walk_cache.iter().chain(self.ipa_walk_cache.iter())
    }

    #[inline]
    pub(crate) const fn walk_cache_of(&self, stage: Stage) -> &WalkCache {
        match stage {
            Stage::One => &self.walk_cache,
            Stage::Two => &self.ipa_walk_cache,
        }
    }

    pub(crate) fn implementation(&self) -> Implementation {
        self.profile.implementation(self.registers.cr2_in_effect.e2h())
    }

    #[inline]
    pub(crate) fn observe(&mut self, observation: Observation) {
        self.observations.push(observation);
    }

    pub(crate) fn misuse(&mut self, misuse: Misuse) {
        self.observe(Observation::Misuse(misuse));
    }

    /// The next moment.
    #[inline]
    pub(crate) const fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Groups of performance monitors beside the SMMUs, used through the driver, against what the models saw.

use std::sync::{Arc, Mutex, PoisonError};

use smmuv3::pmcg::{Event, Filter, Group, PmcgError};
use smmuv3::{Mmio, StreamId};
use smmuv3_formats::register::{PMCG_CNTENSET, PMCG_EVCNTR, PmcgCfgr, PmcgCr};
use smmuv3_model::Monitor;

use super::Bench;
use crate::platform::World;
use crate::scenario::Scenario;

/// Bits of a counter: it overflows in a long run.
const BITS: u32 = 16;

/// A group of the machine's, for so many counters.
pub(crate) fn monitor(counters: u32) -> Monitor {
    // Both fields say one less.
    let mut monitor = Monitor::new(PmcgCfgr((BITS - 1) << 8 | (counters - 1)));
    // Firmware has used it, and it still counts.
    for counter in 0..counters {
        monitor.write32(0, PMCG_EVCNTR + 4 * counter, 0xfff0 - counter);
    }
    monitor.write32(0, PMCG_CNTENSET, 1);
    monitor.write32(0, PmcgCr::OFFSET, PmcgCr::default().with_e(true).0);
    monitor
}

/// A page of a group's registers.
struct Page {
    world: Arc<World>,
    instance: usize,
    number: u32,
}

impl Page {
    fn monitor<R>(&self, access: impl FnOnce(&mut Monitor) -> R) -> Option<R> {
        Some(access(self.world.machine().model(self.instance)?.monitor()?))
    }
}

impl Mmio for Page {
    fn read32(&self, offset: u32) -> u32 {
        self.monitor(|monitor| monitor.read32(self.number, offset)).unwrap_or(0)
    }

    fn write32(&self, offset: u32, value: u32) {
        self.monitor(|monitor| monitor.write32(self.number, offset, value));
    }
}

/// What a counter counts, in words, with its number.
type Counts = Vec<(String, u64)>;

/// The group of an instance.
pub(super) struct Counters {
    instance: usize,
    group: Mutex<Group<Page>>,
    /// What each counts.
    names: Vec<String>,
    /// Transactions before it was started.
    since: u64,
}

impl Counters {
    /// What all groups have, as far as they have so many counters; the rest counts transactions, a stream each.
    const FIRST: [(&str, Event); 4] = [
        ("transactions", Event::TRANSACTION),
        ("TLB misses", Event::TLB_MISS),
        ("configuration misses", Event::CONFIGURATION_MISS),
        ("table accesses", Event::TABLE_ACCESS),
    ];

    /// Starts the group of an instance, if it has one.
    pub(super) fn start(
        world: &Arc<World>,
        scenario: &Scenario,
        instance: usize,
        #[cfg(feature = "mutation")] mutation: Option<smmuv3::Mutation>,
    ) -> Result<Option<Self>, PmcgError> {
        let page = |number| Page { world: world.clone(), instance, number };
        if scenario.instances.get(instance).is_none_or(|it| it.counters == 0) {
            return Ok(None);
        }
        let mut group = Group::new(page(0), None)?;
        #[cfg(feature = "mutation")]
        group.leave_out(mutation);
        let first = Self::FIRST.map(|(name, event)| (name.to_owned(), event, Filter::Any));
        let masters = scenario.masters.iter().filter(|master| master.instance == instance);
        let streams = masters.flat_map(|it| it.streams.iter().map(move |stream| (it, *stream)));
        let streams = streams.map(|(it, stream)| {
            let name = format!("transactions of {} ({stream:#x})", it.name);
            (name, Event::TRANSACTION, Filter::Stream(StreamId(stream)))
        });
        let mut names = Vec::new();
        let all = first.into_iter().chain(streams).take(group.counters());
        for (counter, (name, event, filter)) in all.enumerate() {
            group.count(counter, event, filter)?;
            names.push(name);
        }
        group.set_interrupt(true, None)?;
        let since = transactions(world, instance);
        group.start();
        Ok(Some(Self { instance, group: Mutex::new(group), names, since }))
    }

    fn read(&self) -> Result<Counts, PmcgError> {
        let mut group = self.group.lock().unwrap_or_else(PoisonError::into_inner);
        let numbers = self.names.iter().enumerate();
        numbers.map(|(counter, name)| Ok((name.clone(), group.read(counter)?))).collect()
    }
}

/// Transactions that the model of an instance has seen.
fn transactions(world: &World, instance: usize) -> u64 {
    let model = world.machine().model(instance);
    model.map_or(0, |model| model.statistics().transactions)
}

impl Bench {
    /// What the counters of an instance say.
    pub(super) fn counts(&self, instance: usize) -> Counts {
        let counters = self.counters.iter().find(|it| it.instance == instance);
        counters.and_then(|it| it.read().ok()).unwrap_or_default()
    }

    /// Lets the driver take note of counters that have overflown.
    pub(super) fn overflows(&self) {
        for counters in &self.counters {
            let model = self.world.machine().model(counters.instance);
            let raised = model.is_some_and(|mut it| it.monitor().is_some_and(Monitor::interrupt));
            if raised {
                let mut group = counters.group.lock().unwrap_or_else(PoisonError::into_inner);
                group.handle_interrupt();
            }
        }
    }

    /// The counters, against what the models saw.
    pub(super) fn check_counters(&self) -> Result<(), String> {
        for counters in &self.counters {
            let instance = counters.instance;
            let counts =
                counters.read().map_err(|error| format!("instance {instance}: {error}"))?;
            let seen = transactions(&self.world, instance) - counters.since;
            let counted = counts.first().map_or(0, |(_, count)| *count);
            if counted != seen {
                return Err(format!(
                    "instance {instance}: its counter says {counted} transactions, but there were {seen}"
                ));
            }
            // Strangers have no counter of their own.
            let streams = counts.iter().skip(Counters::FIRST.len());
            let streams: u64 = streams.map(|(_, count)| *count).sum();
            if streams > counted {
                return Err(format!(
                    "instance {instance}: of {counted} transactions, its streams had {streams}"
                ));
            }
        }
        Ok(())
    }
}

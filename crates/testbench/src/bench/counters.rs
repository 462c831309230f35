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

/// A group of the machine's, for so many counters, with `one_filter` or one each.
pub(crate) fn monitor(counters: u32, one_filter: bool) -> Monitor {
    // Both fields say one less.
    let cfgr = PmcgCfgr((BITS - 1) << 8 | (counters - 1)).with_sid_filter_type(one_filter);
    let mut monitor = Monitor::new(cfgr);
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
    counted: Vec<Counted>,
    /// Transactions before it was started.
    since: u64,
}

/// What a counter counts.
struct Counted {
    /// In words.
    name: String,
    event: Event,
    filter: Filter,
    /// What there was of that before, if it is transactions.
    since: u64,
}

impl Counters {
    /// What all groups have, as far as they have so many counters; the rest counts transactions, those of neighbouring streams
    /// together, and then a stream each. With one filter, all of these are of the same streams.
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
        let mut counted: Vec<Counted> = Vec::new();
        for (counter, (name, event, filter)) in
            wanted(scenario, instance).take(group.counters()).enumerate()
        {
            group.count(counter, event, filter)?;
            let since = seen(world, instance, filter);
            counted.push(Counted { name, event, filter, since });
        }
        group.set_interrupt(true, None)?;
        let since = transactions(world, instance);
        group.start();
        Ok(Some(Self { instance, group: Mutex::new(group), counted, since }))
    }

    fn read(&self) -> Result<Counts, PmcgError> {
        let mut group = self.group.lock().unwrap_or_else(PoisonError::into_inner);
        let numbers = self.counted.iter().enumerate();
        numbers.map(|(counter, it)| Ok((it.name.clone(), group.read(counter)?))).collect()
    }
}

/// What the counters of an instance are to count, in order.
fn wanted(
    scenario: &Scenario,
    instance: usize,
) -> impl Iterator<Item = (String, Event, Filter)> + use<'_> {
    let masters = || scenario.masters.iter().filter(move |it| it.instance == instance);
    let spans = masters().filter_map(|it| {
        let (first, last) = (*it.streams.first()?, *it.streams.last()?);
        let log2 = neighbours(&it.streams)?;
        let name = format!("transactions of {} ({first:#x} to {last:#x})", it.name);
        Some((name, Event::TRANSACTION, Filter::Streams { first: StreamId(first), log2 }))
    });
    let streams = masters().flat_map(|it| it.streams.iter().map(move |stream| (it, *stream)));
    let streams = streams.map(|(it, stream)| {
        let name = format!("transactions of {} ({stream:#x})", it.name);
        (name, Event::TRANSACTION, Filter::Stream(StreamId(stream)))
    });
    let own: Vec<_> = spans.chain(streams).collect();
    let one = scenario.instances.get(instance).is_some_and(|it| it.one_filter);
    let filter = own.first().map_or(Filter::Any, |(_, _, filter)| *filter);
    let first = Counters::FIRST.map(|(name, event)| (name.to_owned(), event, Filter::Any));
    let all = first.into_iter().chain(own);
    all.map(move |(name, event, own)| (name, event, if one { filter } else { own }))
}

/// log2 of how many streams there are, if they are that many neighbours from a multiple of that on.
fn neighbours(streams: &[u32]) -> Option<u32> {
    let first = *streams.first()?;
    let many = streams.len().is_power_of_two() && streams.len() > 1;
    let log2 = streams.len().trailing_zeros();
    let aligned = many && first.trailing_zeros() >= log2;
    (aligned && (first..=u32::MAX).zip(streams).all(|(next, stream)| next == *stream))
        .then_some(log2)
}

/// Transactions of the streams of `filter` that the model of an instance has seen while its group counted.
fn seen(world: &World, instance: usize, filter: Filter) -> u64 {
    let range = match filter {
        Filter::Any => 0..=u32::MAX,
        Filter::Stream(StreamId(stream)) => stream..=stream,
        // A group is told of no more.
        Filter::Streams { first, log2 } => {
            first.0..=first.0 | (u32::MAX >> (32 - log2.clamp(1, 32)))
        }
    };
    let model = world.machine().model(instance);
    model.map_or(0, |mut model| model.monitor().map_or(0, |it| it.transactions(range)))
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
            let all = transactions(&self.world, instance) - counters.since;
            for (it, (name, count)) in counters.counted.iter().zip(counts) {
                let seen = match it.filter {
                    _ if it.event != Event::TRANSACTION => continue,
                    Filter::Any => all,
                    filter => seen(&self.world, instance, filter) - it.since,
                };
                if count != seen {
                    return Err(format!(
                        "instance {instance}: its counter says {count} {name}, but there were {seen}"
                    ));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::neighbours;

    /// Also where the last of them is the last that there can be.
    #[test]
    fn neighbours_are_as_many_as_a_power_of_two_from_a_multiple_of_that_on() {
        assert_eq!(neighbours(&[6, 7]), Some(1));
        assert_eq!(neighbours(&[7, 8]), None);
        assert_eq!(neighbours(&[4, 5, 7, 6]), None);
        assert_eq!(neighbours(&[u32::MAX - 1, u32::MAX]), Some(1));
        assert_eq!(neighbours(&[u32::MAX]), None);
    }
}

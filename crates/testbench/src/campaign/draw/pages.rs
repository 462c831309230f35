// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a random scenario has of devices that ask for pages.

use fastrand::Rng;

use super::one_of;
use crate::scenario::{Action, Scenario};

/// Where this randomness starts, beside that of the rest, which is the same with and without it.
const APART: u64 = 0x61c8_8646_80b5_83eb;

/// `scenario` with them.
pub(super) fn asked(scenario: Scenario) -> Scenario {
    let mut scenario = scenario;
    let rng = &mut Rng::with_seed(scenario.seed ^ APART);
    for instance in &mut scenario.instances {
        instance.pri = instance.ats && rng.u8(..) < 224;
    }
    for master in &mut scenario.masters {
        let there = scenario.instances.get(master.instance).is_some_and(|it| it.pri);
        master.pri = master.ats.is_some() && there && rng.u8(..) < 144;
        master.response_pasid = master.pri && rng.bool();
    }
    room(&mut scenario, rng);
    for step in &mut scenario.steps {
        if let Action::Random(random) = &mut step.action {
            (random.weights.ask, random.weights.grant) = (rng.u32(4..=20), rng.u32(2..=12));
        }
    }
    scenario
}

/// `scenario` with guests that are shown some, fewer than there are, or as many; and then often with devices that ask, where those
/// have PASIDs or are given intermediate addresses, too.
pub(super) fn shown(scenario: Scenario) -> Scenario {
    let mut scenario = scenario;
    let rng = &mut Rng::with_seed(scenario.seed ^ APART.rotate_left(16));
    for domain in scenario.domains.iter_mut().filter(|it| it.tables.guests) {
        domain.tables.guest_pages = one_of(rng, &[0, 1, 2, 8, 8, 0xffff]);
    }
    if scenario.domains.iter().all(|it| it.tables.guest_pages == 0) {
        return scenario;
    }
    for master in &mut scenario.masters {
        let (often, needs_pasid) = (rng.u8(..) < 208, rng.bool());
        let there = scenario.instances.get(master.instance).is_some_and(|it| it.pri);
        if often && there && master.ats.is_some() && !master.pri {
            (master.pri, master.response_pasid) = (true, needs_pasid);
        }
    }
    room(&mut scenario, rng);
    for step in &mut scenario.steps {
        if let Action::Random(random) = &mut step.action {
            random.weights.ask += rng.u32(4..=12);
        }
    }
    scenario
}

/// Queues that the devices' requests fit into.
fn room(scenario: &mut Scenario, rng: &mut Rng) {
    for (index, instance) in scenario.instances.iter_mut().enumerate() {
        let asking = scenario.masters.iter().filter(|it| it.pri && it.instance == index);
        let streams: usize = asking.map(|it| it.streams.len()).sum();
        // Two entries for each stream are the least; larger ones are seldom full.
        let least = (2 * streams.max(1)).next_power_of_two().ilog2();
        let log2 = least + rng.u32(0..=2);
        if instance.pri {
            instance.page_request_queue_log2 = log2;
        }
    }
}

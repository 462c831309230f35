// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a random scenario has of policies, substreams and processes.

use fastrand::Rng;
use smmuv3::AtsMode;

use super::one_of;
use crate::scenario::{Action, AsidPolicy, Instance, Places, Process, Random, Scenario};

/// Where this randomness starts, beside that of the rest, which is the same with and without it.
const APART: u64 = 0x5bd1_e995_9d1c_4d3b;

/// `scenario` with them. Every domain has `window` bits of addresses at least, in which the random step works.
pub(super) fn shared(scenario: Scenario, window: u32) -> Scenario {
    let mut scenario = scenario;
    let rng = &mut Rng::with_seed(scenario.seed ^ APART);
    if rng.bool() {
        scenario.asid_policy = one_of(rng, &AsidPolicy::ALL);
    }
    if scenario.asid_policy == AsidPolicy::Banked && rng.bool() {
        let first = rng.u16(1..=3);
        scenario.banks = Some((first, first + rng.u16(0..=8)));
    }
    if rng.u8(..) < 64 {
        scenario.cpu_asid_bits = 8;
    }
    for instance in &mut scenario.instances {
        (instance.two_level_contexts, instance.btm) = (rng.bool(), rng.bool());
        if rng.bool() {
            // Enough for two levels.
            instance.ssid_bits = rng.u32(7..=20);
        }
    }
    for master in &mut scenario.masters {
        // Leaves of 4 KiB begin at 7 bits, those of 64 KiB at 18. Tables are looked through at each free: large
        // ones are slow.
        master.pasid_bits = match rng.u8(..) {
            0..64 => 0,
            64..160 => rng.u32(1..=6),
            160..244 => rng.u32(7..=10),
            _ => rng.u32(11..=20),
        };
    }
    // With many, contexts of one master lie in several leaves.
    scenario.pasids = match rng.u8(..) {
        0..64 => 0,
        64..144 => rng.u32(1..=6),
        144..240 => rng.u32(66..=200),
        _ => rng.u32(1000..=1200),
    };
    let bits = scenario.cpu_asid_bits;
    let count = if rng.u8(..) < 64 { 0 } else { rng.usize(1..=3) };
    for index in 0..count {
        let input_bits = rng.u32(window..=48);
        let asid = asid(rng, index, bits);
        let (name, places) = (format!("process{index}"), Places::default());
        scenario.processes.push(Process { name, input_bits, asid, places });
    }
    devices(&mut scenario);
    worlds(&mut scenario);
    for step in &mut scenario.steps {
        if let Action::Random(random) = &mut step.action {
            weights(rng, random);
        }
    }
    // A bind to what is not coherent is refused, always.
    if count > 0 && !scenario.instances.iter().any(|instance| instance.coherent) {
        scenario.instances.iter_mut().take(1).for_each(|it: &mut Instance| it.coherent = true);
    }
    scenario
}

/// Lets some devices keep translations. Its randomness stands apart, too.
fn devices(scenario: &mut Scenario) {
    let rng = &mut Rng::with_seed(scenario.seed ^ APART.rotate_left(32));
    for instance in &mut scenario.instances {
        instance.ats = rng.bool();
    }
    for master in &mut scenario.masters {
        let there = scenario.instances.get(master.instance).is_some_and(|it| it.ats);
        let keeps = there && rng.u8(..) < 192;
        master.ats = if keeps { AtsMode::Full } else { AtsMode::Off };
    }
}

/// Lets some hosts run in EL2, with SMMUs that follow, or do not. Its randomness stands apart, too.
fn worlds(scenario: &mut Scenario) {
    let rng = &mut Rng::with_seed(scenario.seed ^ APART.rotate_left(16));
    scenario.el2_host = rng.u8(..) < 96;
    for instance in &mut scenario.instances {
        instance.hyp = rng.u8(..) < 160;
    }
}

/// An ASID that no other process has: one that an instance is likely to have given to a domain, none, or any.
fn asid(rng: &mut Rng, index: usize, bits: u32) -> Option<u16> {
    // There are few processes.
    let apart = 4 * index as u16 + rng.u16(0..4);
    // The highest number of so many bits.
    let last = ((1u32 << bits) - 1) as u16;
    match rng.u8(0..5) {
        0 => Some(0),
        1 => Some(1 + apart),
        2 | 3 => Some(last - apart),
        _ => None,
    }
}

fn weights(rng: &mut Rng, random: &mut Random) {
    let weights = &mut random.weights;
    weights.attach_pasid = rng.u32(1..=16);
    weights.detach_pasid = rng.u32(1..=8);
    weights.bind = rng.u32(1..=16);
    weights.unbind = rng.u32(1..=8);
    weights.release = rng.u32(1..=4);
}

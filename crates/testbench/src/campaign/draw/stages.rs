// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a random scenario has of SMMUs without stage 1, as hypervisors and firmware use them: seldom one among others, and
//! in a part of the scenarios all of them, or all but the first.

use fastrand::Rng;

use crate::scenario::Scenario;

/// Where this randomness starts, beside that of the rest, which is the same with and without it.
const APART: u64 = 0x3c6e_f372_fe94_f82b;
/// Of 256 scenarios, how many have mostly such SMMUs.
const MANY: u8 = 42;

/// `scenario` with them. Every domain keeps `window` bits of addresses at least, which they put out.
pub(super) fn alone(scenario: Scenario, window: u32) -> Scenario {
    let mut scenario = scenario;
    let rng = &mut Rng::with_seed(scenario.seed ^ APART);
    if rng.u8(..) >= MANY {
        return scenario;
    }
    let first = usize::from(scenario.instances.len() > 1 && rng.bool());
    for instance in scenario.instances.iter_mut().skip(first) {
        (instance.stage_1, instance.stage_2, instance.hyp) = (false, true, false);
    }
    // Else there is no domain of stage 2.
    for instance in scenario.instances.iter_mut().filter(|it| it.oas < window) {
        instance.oas = 48;
    }
    for master in scenario.masters.iter_mut().filter(|it| it.instance >= first) {
        if rng.bool() {
            master.pasid_bits = 0;
        }
    }
    // They take stage 1, and where there are any nothing is handed over.
    if first == 0 || rng.bool() {
        scenario.processes.clear();
    }
    scenario
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a random scenario has of transactions that stall.

use fastrand::Rng;
use smmuv3::AtsMode;

use super::one_of;
use crate::scenario::{Action, Scenario};

/// Where this randomness starts, beside that of the rest, which is the same with and without it.
const APART: u64 = 0x2f1c_93d6_0b74_a1e5;

/// `scenario` with them.
pub(super) fn stalling(scenario: Scenario) -> Scenario {
    let mut scenario = scenario;
    let rng = &mut Rng::with_seed(scenario.seed ^ APART);
    for instance in &mut scenario.instances {
        // A few, or more than a queue holds.
        let most = one_of(rng, &[1, 2, 4, 4, 16, 64, 0xffff]);
        let (stalls, forced) = (rng.bool(), rng.u8(..) < 64);
        if stalls {
            (instance.stalls, instance.forced_stalls) = (most, forced);
        }
    }
    for master in &mut scenario.masters {
        let stalls = rng.u8(..) < 176;
        let instance = &scenario.instances[master.instance];
        // What keeps translations does not stall.
        if instance.forced_stalls {
            master.ats = AtsMode::Off;
        }
        master.stalls = stalls && instance.stalls > 0 && !master.ats.is_some();
    }
    // Guests that are shown some, fewer than there are, or as many.
    let rng = &mut Rng::with_seed(scenario.seed ^ APART.rotate_left(16));
    for domain in scenario.domains.iter_mut().filter(|it| it.tables.guests) {
        domain.tables.guest_stalls = one_of(rng, &[0, 1, 2, 8, 0xffff]);
    }
    for step in &mut scenario.steps {
        if let Action::Random(random) = &mut step.action {
            random.weights.answer = rng.u32(1..=24);
        }
    }
    scenario
}

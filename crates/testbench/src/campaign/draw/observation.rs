// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a random scenario has of translation operations and performance monitors.

use fastrand::Rng;

use super::one_of;
use crate::scenario::{Action, Scenario};

/// Where this randomness starts, beside that of the rest, which is the same with and without it.
const APART: u64 = 0x6b1d_58c3_97e0_42af;

/// `scenario` with them.
pub(super) fn observed(scenario: Scenario) -> Scenario {
    let mut scenario = scenario;
    let rng = &mut Rng::with_seed(scenario.seed ^ APART);
    let apart = &mut Rng::with_seed(scenario.seed ^ APART.rotate_left(32));
    for instance in &mut scenario.instances {
        instance.atos = rng.bool();
        // None, what there is to count, or more than a word has bits for.
        instance.counters = one_of(rng, &[0, 0, 1, 4, 40, 64]);
        instance.one_filter = instance.counters > 0 && apart.u8(..) < 64;
    }
    for step in &mut scenario.steps {
        if let Action::Random(random) = &mut step.action {
            random.weights.translate = rng.u32(1..=12);
        }
    }
    scenario
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a random scenario has of devices that reach memory by translated addresses alone (ATS that is always on).

use fastrand::Rng;
use smmuv3::AtsMode;

use crate::scenario::{Instance, Scenario};

/// Where this randomness starts, beside that of the rest, which is the same with and without it.
const APART: u64 = 0x2e5d_8f13_c04b_96a7;

/// `scenario` with them: a good part of those that have ATS, where their instance can do that.
pub(super) fn on(scenario: Scenario) -> Scenario {
    let mut scenario = scenario;
    let rng = &mut Rng::with_seed(scenario.seed ^ APART);
    for master in &mut scenario.masters {
        let chosen = rng.u8(..) < 112;
        let skips = scenario.instances.get(master.instance).is_some_and(Instance::skips);
        if chosen && skips && master.ats == AtsMode::Full {
            master.ats = AtsMode::Always;
        }
    }
    scenario
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a random scenario has of devices that are given intermediate addresses (split-stage ATS).

use fastrand::Rng;
use smmuv3::AtsMode;

use crate::scenario::Scenario;

/// Where this randomness starts, beside that of the rest, which is the same with and without it.
const APART: u64 = 0x7a3b_90d4_21c6_e85f;

/// `scenario` with them: often where there are guests, and seldom where it is off all the time.
pub(super) fn split(scenario: Scenario) -> Scenario {
    let mut scenario = scenario;
    let rng = &mut Rng::with_seed(scenario.seed ^ APART);
    let guests = scenario.domains.iter().any(|domain| domain.tables.over.is_some());
    let often = if guests { 144 } else { 24 };
    for index in 0..scenario.masters.len() {
        let (chosen, more) = (rng.u8(..) < often, rng.bool());
        let stalls = scenario.stalls(index);
        let master = &mut scenario.masters[index];
        let instance = scenario.instances.get(master.instance);
        let nests = instance.is_some_and(|it| it.ats && it.nests());
        // Some that would have none at all.
        let free = guests && more && !stalls && master.keep.is_none();
        if chosen && nests && (master.ats == AtsMode::Full || free) {
            master.ats = AtsMode::Split;
        }
    }
    scenario
}

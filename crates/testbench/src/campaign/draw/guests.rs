// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a random scenario has of guests' contexts for PASIDs.

use fastrand::Rng;

use super::one_of;
use crate::scenario::{ContextLayout, Scenario, WithoutPasid};

/// Where this randomness starts, beside that of the rest, which is the same with and without it.
const APART: u64 = 0x51ed_270b_9f86_4c2d;

/// `scenario` with them.
pub(super) fn contexts(scenario: Scenario) -> Scenario {
    let mut scenario = scenario;
    let rng = &mut Rng::with_seed(scenario.seed ^ APART);
    for domain in &mut scenario.domains {
        let layout = one_of(rng, &ContextLayout::WORDS.map(|(_, layout)| layout));
        let without = one_of(rng, &WithoutPasid::WORDS.map(|(_, without)| without));
        let tables = &mut domain.tables;
        if tables.guests && rng.u8(..) < 224 {
            tables.guest_contexts = Some(layout);
        }
        if tables.over.is_some() {
            tables.without_pasid = without;
        }
    }
    scenario
}

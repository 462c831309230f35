// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a random scenario has of devices that firmware left working.

use fastrand::Rng;

use crate::machine_model::{LOW_RAM_BASE, RAM_BASE};
use crate::scenario::{AsidPolicy, Memory, PAGE, Places, Scenario};

/// Where this randomness starts, beside that of the rest, which is the same with and without it.
const APART: u64 = 0x2545_f491_4f6c_dd1d;
/// Where the first of their memories is, from the beginning of RAM on, and how far they are apart.
const FIRST: u64 = 64 << 20;
const APART_BYTES: u64 = 4 << 20;

/// `scenario` with them.
pub(super) fn kept(scenario: Scenario) -> Scenario {
    let mut scenario = scenario;
    let rng = &mut Rng::with_seed(scenario.seed ^ APART);
    if rng.u8(..) >= 72 {
        return scenario;
    }
    let narrow = scenario.instances.iter().any(|instance| instance.oas < 36);
    let base = if narrow { LOW_RAM_BASE } else { RAM_BASE };
    // Banks are all VMIDs of 8 bits, unless it is said which; what is left working would find none for stage 2.
    let all_banked = scenario.asid_policy == AsidPolicy::Banked && scenario.banks.is_none();
    for index in 0..scenario.masters.len() {
        let instance = scenario.instances.get(scenario.masters[index].instance);
        let banked = all_banked && instance.is_some_and(|it| !it.stage_1);
        if scenario.masters[index].ats.is_some() || banked || rng.u8(..) < 64 {
            continue;
        }
        let number = scenario.memories.len() as u64;
        scenario.masters[index].keep = Some(scenario.memories.len());
        scenario.memories.push(Memory {
            name: format!("left{number}"),
            // Pages, and blocks with pages behind them.
            size: (64 << 10) * rng.u64(1..=40),
            align: PAGE,
            at: Some(base + FIRST + APART_BYTES * number),
            fill: None,
            places: Places::default(),
        });
    }
    scenario
}

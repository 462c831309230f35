// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a random scenario has of masters whose streams are neighbours, so that one command names several (CMD_CFGI_STE_RANGE).

use std::collections::BTreeSet;

use fastrand::Rng;

use super::one_of;
use crate::scenario::Scenario;

/// Where this randomness starts, beside that of the rest, which is the same with and without it.
const APART: u64 = 0x0f1b_6c9d_e2a4_7358;

/// `scenario` with them: in a part of the masters, an aligned run, with a neighbour or without, in place of what there is.
pub(super) fn aligned(scenario: Scenario) -> Scenario {
    let mut scenario = scenario;
    let rng = &mut Rng::with_seed(scenario.seed ^ APART);
    for index in 0..scenario.masters.len() {
        let (chosen, log2, more) = (rng.u8(..) < 72, one_of(rng, &[1, 1, 2, 3]), rng.u8(..) < 96);
        let Some(master) = scenario.masters.get(index) else { continue };
        let instance = master.instance;
        let bits = scenario.instances.get(instance).map_or(0, |it| it.sid_bits);
        if !chosen || bits < log2 {
            continue;
        }
        let others: BTreeSet<u32> = scenario
            .masters
            .iter()
            .enumerate()
            .filter(|(at, it)| *at != index && it.instance == instance)
            .flat_map(|(_, it)| it.streams.iter().copied())
            .collect();
        let last = ((1u64 << bits) - 1) as u32;
        // Around what it has: the first and the last stream are likely.
        let first = master.streams.first().copied().unwrap_or(0) >> log2 << log2;
        let mut streams: Vec<u32> = (first..=first | ((1 << log2) - 1)).collect();
        let next = streams.last().and_then(|it| it.checked_add(1)).filter(|it| *it <= last);
        streams.extend(next.filter(|_| more));
        if streams.iter().any(|stream| others.contains(stream)) {
            continue;
        }
        if let Some(master) = scenario.masters.get_mut(index) {
            master.streams = streams;
        }
    }
    scenario
}

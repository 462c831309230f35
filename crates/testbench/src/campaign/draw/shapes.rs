// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a random scenario has of tables that few have: the upper half, other first levels, other output sizes, all
//! attributes, forced types, access flags.

use fastrand::Rng;
use smmuv3_formats::granule::Granule;

use super::one_of;
use crate::scenario::Scenario;

/// Where this randomness starts, beside that of the rest, which is the same with and without it.
const APART: u64 = 0x1f83_d9ab_fb41_bd6b;
/// Bits of the addresses of the machine's memory, which begins lower if an SMMU outputs 32 bits only.
const MEMORY_BITS: [u32; 2] = [32, 36];

/// `scenario` with them.
pub(super) fn shaped(scenario: Scenario) -> Scenario {
    let mut scenario = scenario;
    let rng = &mut Rng::with_seed(scenario.seed ^ APART);
    let narrow = scenario.instances.iter().any(|instance| instance.oas < 36);
    let least = MEMORY_BITS[usize::from(!narrow)];
    let most = scenario.instances.iter().map(|instance| instance.oas).max().unwrap_or(48);
    for index in 0..scenario.domains.len() {
        let (granule, bits) = (scenario.granule(index), scenario.input_bits(index));
        let tables = &mut scenario.domains[index].tables;
        if tables.over.is_some() {
            continue;
        }
        let [upper, flags, all, output] = std::array::from_fn(|_| rng.u8(..) < 80);
        let [forced, level] = std::array::from_fn(|_| rng.u8(..) < 144);
        tables.upper = upper && !tables.stage_2;
        tables.forced_types = forced && tables.stage_2;
        (tables.access_flags, tables.all_attributes) = (flags, all);
        if output && bits <= 48 {
            // Wider than some SMMU, which then refuses it.
            tables.output_bits = {
                let most = most.min(48);
                let any = rng.u32(least..=most);
                one_of(rng, &[least, any, most])
            };
            if tables.stage_2 {
                // 41 bits of 16 KiB begin at level 1, which takes outputs of 42.
                let level_1 = granule == Granule::K16 && bits == 41;
                tables.output_bits = tables.output_bits.max(bits + u32::from(level_1));
            }
        }
        // The first table, up to 16 of them side by side, a level later than need be.
        if level && tables.stage_2 && bits <= 48 {
            let per_level = granule.shift() - 3;
            let natural = 4 - (bits - granule.shift()).div_ceil(per_level);
            let beyond = bits - granule.shift() - per_level * (3 - natural);
            let last = if granule.shift() == 12 { 2 } else { 3 };
            if beyond <= 4 && natural < last {
                tables.start_level = Some(natural as i8 + 1);
            }
        }
    }
    scenario
}

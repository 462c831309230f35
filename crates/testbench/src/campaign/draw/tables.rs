// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a random scenario has of stages, granules, and tables that change.

use fastrand::Rng;
use smmuv3_formats::granule::Granule;

use super::one_of;
use crate::bench::GUESTS;
use crate::scenario::{Action, AsidPolicy, Domain, Instance, PAGE, Places, Scenario, Tables};

/// Where this randomness starts, beside that of the rest, which is the same with and without it.
const APART: u64 = 0x2545_f491_4f6c_dd1d;

/// `scenario` with them. Every domain keeps `window` bits of addresses at least.
pub(super) fn drawn(scenario: Scenario, window: u32) -> Scenario {
    let mut scenario = scenario;
    let rng = &mut Rng::with_seed(scenario.seed ^ APART);
    for instance in &mut scenario.instances {
        let walks = &mut instance.walks;
        // Version 3.2 has range invalidation, and one of them.
        walks.bbml = rng.u32(u32::from(instance.range_invalidation)..=2);
        (walks.lpa2, walks.wide_input) = (rng.bool(), rng.bool());
        walks.httu = if rng.bool() { 2 } else { rng.u32(0..=2) };
        if instance.stage_2 && rng.u8(..) < 16 {
            (instance.stage_1, instance.hyp) = (false, false);
        }
    }
    let any_stage_2 = scenario.instances.iter().any(|instance| instance.stage_2);
    let output = scenario.instances.iter().map(|instance| instance.oas).min().unwrap_or(32);
    // Where nothing else can be used, all are; where it may be, many.
    let [any_stage_1, all_stage_1] = {
        let stage_1 = |it: &Instance| it.stage_1;
        [scenario.instances.iter().any(stage_1), scenario.instances.iter().all(stage_1)]
    };
    let of_stage_2 = if all_stage_1 { 96 } else { 192 };
    let granules: Vec<Granule> = {
        let instances = scenario.instances.iter();
        let of_any = |it: &Granule| instances.clone().any(|instance| instance.has_granule(*it));
        Granule::ALL.into_iter().filter(of_any).collect()
    };
    for (domain, index) in scenario.domains.iter_mut().zip(0u16..) {
        let tables = &mut domain.tables;
        if any_stage_2 && output >= window && (rng.u8(..) < of_stage_2 || !any_stage_1) {
            tables.stage_2 = true;
            domain.input_bits = domain.input_bits.min(output);
            if scenario.asid_policy != AsidPolicy::Banked && rng.u8(..) < 64 {
                tables.vmid = Some(100 + index);
            }
        }
        if rng.bool() {
            tables.granule = Some(one_of(rng, &granules));
        }
        tables.contiguous = rng.u8(..) < 96;
        tables.splitting = rng.u8(..) < 96;
        tables.dirty = rng.u8(..) < 96;
    }
    wide(&mut scenario);
    guests(&mut scenario);
    scenario
}

/// Puts guests' domains over some of stage 2. Its randomness stands apart, too.
fn guests(scenario: &mut Scenario) {
    let rng = &mut Rng::with_seed(scenario.seed ^ APART.rotate_left(16));
    let output = scenario.instances.iter().map(|instance| instance.oas).min().unwrap_or(32);
    let window = scenario.steps.iter().find_map(|step| match &step.action {
        Action::Random(random) => Some(random.iova..random.iova + random.pages * PAGE),
        _ => None,
    });
    // Guests have tables in memory of their own, which no other mapping may come near to.
    let own = GUESTS.start - (1 << 30)..GUESTS.end + (1 << 30);
    let apart = window.is_some_and(|window| window.end <= own.start || own.end <= window.start);
    // A size that the SMMU of a guest can have.
    const BITS: u32 = 40;
    let nested = scenario.instances.iter().any(|instance| instance.stage_1);
    if !apart || BITS > output || !nested {
        return;
    }
    let parents = scenario.domains.len();
    for over in 0..parents {
        let Some(domain) = scenario.domains.get_mut(over) else { continue };
        let count = rng.usize(0..=2);
        if !domain.tables.stage_2 || count == 0 {
            continue;
        }
        domain.input_bits = domain.input_bits.max(BITS);
        domain.tables.guests = true;
        let tables = Tables { over: Some(over), ..Tables::default() };
        for _ in 0..count {
            let (name, places) = (format!("domain{}", scenario.domains.len()), Places::default());
            scenario.domains.push(Domain { name, input_bits: 48, tables, places });
        }
    }
}

/// Lets some domains of stage 1 have more than 48 bits of addresses, where an SMMU walks them. Its randomness stands apart,
/// too.
fn wide(scenario: &mut Scenario) {
    let rng = &mut Rng::with_seed(scenario.seed ^ APART.rotate_left(32));
    for instance in &mut scenario.instances {
        // Of 64 KiB, it takes outputs of 52 bits.
        if instance.granules.kib_64 && instance.walks.wide_input && rng.u8(..) < 64 {
            instance.oas = 52;
        }
    }
    let of_any = |granule: Granule| {
        scenario.instances.iter().any(|it| {
            let wide = if granule == Granule::K64 { it.oas == 52 } else { it.walks.lpa2 };
            it.walks.wide_input && it.has_granule(granule) && wide
        })
    };
    let granules: Vec<Granule> = Granule::ALL.into_iter().filter(|it| of_any(*it)).collect();
    for domain in &mut scenario.domains {
        if domain.tables.stage_2 || granules.is_empty() || rng.u8(..) >= 80 {
            continue;
        }
        domain.input_bits = rng.u32(49..=52);
        domain.tables.granule = Some(one_of(rng, &granules));
    }
}

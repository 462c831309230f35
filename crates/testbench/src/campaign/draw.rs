// SPDX-License-Identifier: MIT OR Apache-2.0
//! A random scenario, from a seed: what SMMUs there are, who is behind them, and one random step.

mod always;
mod attributes;
mod guests;
mod kept;
mod observation;
mod pages;
mod parts;
mod queues;
mod runs;
mod shapes;
mod sharing;
mod split;
mod stages;
mod stalls;
mod tables;

use std::collections::BTreeSet;

use fastrand::Rng;
use smmuv3::AtsMode;

use crate::bench::Bench;
use crate::scenario::{
    Action, AsidPolicy, Device, Domain, Granules, Instance, Master, Overrides, PAGE, Places,
    Queues, Quirks, Random, Scenario, Step, StreamTableKind, Tables, Walks, Weights,
};

/// The scenario of `seed`, with so many random operations. Always the same one.
pub fn scenario(seed: u64, steps: u64) -> Scenario {
    let mut rng = Rng::with_seed(seed);
    let instances: Vec<Instance> =
        (0..rng.usize(1..=4)).map(|index| instance(&mut rng, index)).collect();
    let masters = masters(&mut rng, &instances);
    let domains: Vec<Domain> = (0..rng.usize(1..=4))
        .map(|index| Domain {
            name: format!("domain{index}"),
            input_bits: rng.u32(32..=48),
            tables: Tables::default(),
            places: Places::default(),
        })
        .collect();
    let narrowest = domains.iter().map(|domain| domain.input_bits).min().unwrap_or(32);
    let random = random(&mut rng, narrowest, steps);
    let scenario = Scenario {
        file: format!("seed {seed}"),
        name: format!("fuzz-{seed}"),
        description: String::new(),
        seed,
        asid_policy: AsidPolicy::default(),
        banks: None,
        cpu_asid_bits: 16,
        el2_host: false,
        pasids: 0,
        instances,
        masters,
        domains,
        processes: Vec::new(),
        memories: Vec::new(),
        steps: vec![Step {
            line: 0,
            note: None,
            interrupt: None,
            again: false,
            action: Action::Random(random),
        }],
    };
    let scenario = runs::aligned(scenario);
    let scenario = stages::alone(sharing::shared(scenario, narrowest), narrowest);
    let scenario = tables::drawn(scenario, narrowest);
    let mut scenario =
        observation::observed(pages::asked(queues::queued(stalls::stalling(scenario))));
    scenario = split::split(kept::kept(parts::parted(shapes::shaped(scenario))));
    scenario = always::on(attributes::overridden(pages::shown(guests::contexts(scenario))));
    // From randomness of its own: what was drawn before stays what it was.
    let mut rng = Rng::with_seed(seed ^ 0x7077_7200);
    for step in &mut scenario.steps {
        if let Action::Random(random) = &mut step.action {
            let weights = &mut random.weights;
            weights.power = rng.u32(1..=6);
            weights.reset = rng.u32(0..=2);
            weights.replug = rng.u32(0..=1);
            weights.defer = rng.u32(0..=8);
            weights.mute = rng.u32(2..=8);
            weights.hand_over = rng.u32(4..=8);
            weights.command_error = rng.u32(0..=2);
            weights.misbehave = rng.u32(1..=6);
        }
    }
    scenario
}

/// An SMMU that the driver must be able to use. What a scenario can say of an instance is drawn here, and
/// nowhere else.
fn instance(rng: &mut Rng, index: usize) -> Instance {
    let stage_2 = rng.bool();
    // At each free the model looks through first levels: large ones are slow.
    let sid_bits = match rng.u8(..) {
        0 => 32,
        1..=15 => rng.u32(17..=25),
        _ => rng.u32(0..=16),
    };
    let two_level_streams = sid_bits > 6 || rng.bool();
    let mut shapes = vec![StreamTableKind::Automatic];
    if sid_bits <= StreamTableKind::LINEAR_BITS {
        shapes.push(StreamTableKind::Linear);
    }
    if two_level_streams {
        shapes.push(StreamTableKind::TwoLevel);
    }
    let instance = Instance {
        name: format!("smmu{index}"),
        asid_bits: if rng.bool() { 8 } else { 16 },
        vmid_bits: if stage_2 && rng.bool() { 16 } else { 8 },
        stage_1: true,
        stage_2,
        granules: Granules { kib_4: true, kib_16: rng.bool(), kib_64: rng.bool() },
        // With 32 the memory of the whole machine is low: not too often.
        oas: one_of(rng, &[32, 36, 36, 40, 40, 42, 42, 44, 44, 44, 48, 48]),
        sid_bits,
        ssid_bits: if rng.bool() { 0 } else { rng.u32(1..=20) },
        two_level_contexts: false,
        btm: false,
        msi: rng.bool(),
        atos: false,
        counters: 0,
        one_filter: false,
        hyp: false,
        stalls: 0,
        forced_stalls: false,
        queues: Queues::default(),
        two_level_streams,
        stream_table: one_of(rng, &shapes),
        command_queue_log2: rng.u32(1..=8),
        event_queue_log2: rng.u32(1..=8),
        ats: false,
        pri: false,
        page_request_queue_log2: 8,
        range_invalidation: rng.bool(),
        repeated_invalidation: false,
        coherent: rng.u8(..) < 192,
        walks: Walks::usual(true),
        quirks: Quirks::default(),
        places: Places::default(),
    };
    Instance { walks: Walks::usual(instance.range_invalidation), ..instance }
}

/// Devices with streams of their own.
fn masters(rng: &mut Rng, instances: &[Instance]) -> Vec<Master> {
    let mut taken: Vec<BTreeSet<u32>> = vec![BTreeSet::new(); instances.len()];
    let mut masters = Vec::new();
    for _ in 0..rng.usize(1..=6) {
        let instance = rng.usize(0..instances.len());
        let (taken, bits) = (&mut taken[instance], instances[instance].sid_bits);
        let free = (1usize << bits) - taken.len();
        let mut streams = Vec::new();
        for _ in 0..rng.usize(1..=3).min(free) {
            // The first and the last stream are likely: whoever counts wrongly does so there.
            let last = ((1u64 << bits) - 1) as u32;
            let any = rng.u32(0..=last);
            let mut stream = one_of(rng, &[0, last, any, any]);
            while !taken.insert(stream) {
                stream = rng.u32(0..=last);
            }
            streams.push(stream);
        }
        if !streams.is_empty() {
            let device = if rng.u8(..) < 32 { Device::TestDevice } else { Device::Edu };
            let (name, places) = (format!("master{}", masters.len()), Places::default());
            let pasid_bits = 0;
            let stalls = false;
            masters.push(Master {
                name,
                instance,
                streams,
                pasid_bits,
                stalls,
                ats: AtsMode::Off,
                pri: false,
                response_pasid: false,
                overrides: Overrides::NONE,
                keep: None,
                device,
                places,
            });
        }
    }
    masters
}

/// The random step, in a window that every domain has.
fn random(rng: &mut Rng, input_bits: u32, steps: u64) -> Random {
    let pages = match rng.u8(0..4) {
        0 => rng.u64(4..=16),
        1 => rng.u64(16..=128),
        2 => rng.u64(128..=1024),
        _ => rng.u64(1024..=4096),
    };
    // Below, nothing interrupts with an unmap.
    let first = Bench::WINDOW;
    let last = (1u64 << input_bits) - pages * PAGE;
    let anywhere = first + PAGE * rng.u64(0..=(last - first) / PAGE);
    let iova = match rng.u8(0..4) {
        0 => first,
        // Up to the last address there is.
        1 => last,
        // Across tables of every level that lie there.
        2 => {
            let level = one_of(rng, &[21, 30, 39]);
            let edge = anywhere.next_multiple_of(1 << level).min(1 << input_bits);
            edge.saturating_sub(PAGE * rng.u64(0..=pages)).clamp(first, last)
        }
        _ => anywhere,
    };
    let mut weight = |most: u32| rng.u32(1..=most);
    let weights = Weights {
        map: weight(32),
        unmap: weight(24),
        attach: weight(16),
        detach: weight(8),
        identity: weight(4),
        read: weight(44),
        write: weight(44),
        stale: weight(24),
        fault: weight(16),
        ..Weights::default()
    };
    let longest = one_of(rng, &[8, 8, 8, 64, 600, 1600]).min(pages);
    Random { steps, seed: None, iova, pages, longest, weights }
}

fn one_of<T: Copy>(rng: &mut Rng, values: &[T]) -> T {
    values[rng.usize(0..values.len())]
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a random scenario has of command queues, completions and interrupts.

use fastrand::Rng;
use smmuv3::Completion;

use super::one_of;
use crate::scenario::{Interrupts, Queues, Scenario};

/// Where this randomness starts, beside that of the rest, which is the same with and without it.
const APART: u64 = 0x2c1b_3c6d_9a83_71f5;

/// `scenario` with them.
pub(super) fn queued(scenario: Scenario) -> Scenario {
    let mut scenario = scenario;
    let rng = &mut Rng::with_seed(scenario.seed ^ APART);
    for instance in &mut scenario.instances {
        let enhanced = rng.bool().then(|| rng.u32(0..=3));
        let completions =
            [Completion::Poll, Completion::Interrupt, Completion::Event, Completion::Message];
        let interrupts =
            one_of(rng, &[Interrupts::Combined, Interrupts::Wired, Interrupts::Messages]);
        instance.queues = Queues {
            enhanced_log2: enhanced.filter(|_| instance.coherent),
            completion: one_of(rng, &completions),
            interrupts,
        };
        instance.msi |= interrupts == Interrupts::Messages;
    }
    // The shortest ones, which are full at once, more often than others.
    let rng = &mut Rng::with_seed(scenario.seed ^ APART.rotate_left(32));
    for instance in &mut scenario.instances {
        if rng.u8(..) < 48 {
            instance.command_queue_log2 = 1;
        }
        if rng.u8(..) < 48 {
            instance.event_queue_log2 = 1;
        }
    }
    // Some have to be told twice.
    let rng = &mut Rng::with_seed(scenario.seed ^ APART.rotate_left(16));
    for instance in &mut scenario.instances {
        instance.repeated_invalidation = rng.u8(..) < 40;
    }
    scenario
}

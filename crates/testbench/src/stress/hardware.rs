// SPDX-License-Identifier: MIT OR Apache-2.0
//! The threads of a stress that are not workers: hardware that acts on its own, and a CPU that takes events.

use std::sync::atomic::{AtomicBool, Ordering};

use smmuv3::{Interrupt, Report};
use smmuv3_model::Observation;

use super::counts::{Counters, Did};
use super::setup::Setup;
use crate::machine::Machine;

/// Lets the SMMUs do what hurts.
pub fn act(setup: &Setup, stop: &AtomicBool) -> Result<(), String> {
    while !stop.load(Ordering::Relaxed) {
        setup.machine.act();
        std::thread::yield_now();
    }
    Ok(())
}

/// Takes events, and looks at what the models saw.
pub fn report(setup: &Setup, counters: &Counters, stop: &AtomicBool) -> Result<(), String> {
    while !stop.load(Ordering::Relaxed) {
        look(setup, counters)?;
        std::thread::yield_now();
    }
    look(setup, counters)
}

fn look(setup: &Setup, counters: &Counters) -> Result<(), String> {
    let mut wrong = None;
    for (instance, smmu) in setup.smmus.iter().enumerate() {
        let _ =
            setup.iommu.handle_interrupt(smmu, Interrupt::Any, 16, &mut |report| match report {
                Report::Event(_) => counters.add(Did::Reported, 1),
                Report::EventsLost(_) => {}
                other => wrong = Some(format!("instance {instance} reports {other:?}")),
            });
        let observations = match setup.machine.model(instance) {
            Some(mut model) => {
                drop(model.finished());
                model.observations()
            }
            None => Vec::new(),
        };
        for observation in observations {
            match observation {
                Observation::TagConflict { tag, ttb_old, ttb_new, stream } => {
                    wrong = Some(format!(
                        "R2: instance {instance}: {tag} is that of the tables at {ttb_new:#x} (stream \
                         {stream:#x}), and still of those at {ttb_old:#x}"
                    ));
                }
                Observation::Misuse(misuse) => {
                    wrong = Some(format!("misuse: instance {instance}: {misuse}"));
                }
                Observation::Unsupported(what) => {
                    wrong = Some(format!("instance {instance}: the model does not have {what}"));
                }
                _ => {}
            }
        }
    }
    counters.add(Did::Commanded, setup.world.take_commands().len() as u64);
    // First, since the model may see what came of it: memory that was freed has other contents soon, which to an SMMU that
    // still reads it as a table are descriptors replaced without a break.
    let freed = setup.frees.wrong().first().map(|wrong| format!("R3: {wrong}"));
    freed.or(wrong).map_or(Ok(()), Err)
}

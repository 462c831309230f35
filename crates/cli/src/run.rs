// SPDX-License-Identifier: MIT OR Apache-2.0
//! Running a scenario on the machine that was asked for.

use std::path::Path;

use smmuv3_testbench::qemu::{self, QemuError};
use smmuv3_testbench::report::Report;
use smmuv3_testbench::scenario::{Capabilities, Scenario, ScenarioErrors};

use crate::args::MachineName;

/// How far a step with many operations is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Number of the step, from 1.
    pub step: usize,
    /// Operations done.
    pub done: u64,
    /// Operations of the step.
    pub total: u64,
}

/// Why a scenario could not be run: there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The machine lacks what the scenario asks for.
    #[error(transparent)]
    Scenario(#[from] ScenarioErrors),
    /// No QEMU, or one that can't be used.
    #[error(transparent)]
    Qemu(#[from] QemuError),
    /// The machine could not be started, or it broke.
    #[error("{0}")]
    Machine(String),
}

/// Runs `scenario`; `qemu` is the program to use where it is asked for, `seed` is instead of the
/// scenario's.
///
/// # Errors
/// [`RunError`]. That a rule was broken is no error: the report says it.
pub fn run(
    scenario: &Scenario,
    machine: MachineName,
    qemu: Option<&Path>,
    seed: Option<u64>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, RunError> {
    let capabilities = match machine {
        MachineName::Model => Capabilities::model(),
        MachineName::Qemu => {
            let version = qemu::version(&qemu::find(qemu)?)?;
            Capabilities::qemu(&format!("QEMU {version}"), version.has_several_instances())
        }
    };
    scenario.check_for(&capabilities)?;
    let _ = (seed, progress);
    Err(RunError::Machine("the runner is not connected".to_owned()))
}

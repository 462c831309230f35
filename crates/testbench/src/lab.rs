// SPDX-License-Identifier: MIT OR Apache-2.0
//! The laboratory: the same domains, devices and processes under each ASID policy, on modelled SMMUs that count what
//! they are told.
//!
//! Nothing does DMA here, so nothing is cached either: what is compared is what the policies refuse, move and say.
//! That no stale translation survives is what scenarios and campaigns are for.

mod cost;
mod machine;
mod plan;
mod policy;
mod report;
mod rig;
mod scale;

pub use smmuv3::{AsidPolicy, MOST_INSTANCES};

pub use cost::{Cost, Work};
pub use machine::{Counters, LabPlatform, Registers, Touch};
pub use plan::{MOST_JOINED, Setup, SetupError};
pub use policy::{Progress, compare};
pub use report::{
    ChurnReport, InstanceReport, LabReport, PolicyReport, ProcessReport, Reason, Refused,
    UnmapReport,
};
pub use rig::{LabError, Rig};
pub use scale::{Point, ScaleReport, measure};

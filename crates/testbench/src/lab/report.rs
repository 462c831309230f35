// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was found, for people and programs.

use std::collections::BTreeMap;

use serde::Serialize;
use smmuv3::AttachError;
use smmuv3_formats::Opcode;

use crate::lab::cost::Cost;

/// Why an attach was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The domain's ASID is wider than the instance's.
    AsidWidth,
    /// No ASID is left that the policy may use on the instance.
    IdsExhausted,
    /// The CPU's ASID belongs to another process already.
    PinnedTwice,
    /// The master's PASIDs do not reach so far.
    PasidRange,
    /// The instance cannot walk the tables.
    Mismatch,
}

impl Reason {
    /// That of `error`, if it is a refusal and not a failure.
    pub(crate) fn of(error: &AttachError) -> Option<Self> {
        Some(match error {
            AttachError::AsidWidth { .. } => Self::AsidWidth,
            AttachError::NoAsid { .. } => Self::IdsExhausted,
            AttachError::PinnedTwice { .. } => Self::PinnedTwice,
            AttachError::PasidRange { .. } => Self::PasidRange,
            AttachError::Mismatch { .. } => Self::Mismatch,
            _ => return None,
        })
    }
}

/// How many were refused, by reason.
pub type Refused = BTreeMap<Reason, u64>;

/// The policies, compared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LabReport {
    /// Where everything random started.
    pub seed: u64,
    /// The instances.
    pub instances: Vec<InstanceReport>,
    /// Domains that were asked for.
    pub domains: u64,
    /// Attaches that were asked for: a domain joins one to three instances, by a master each.
    pub attaches: u64,
    /// Processes that were asked for.
    pub processes: u64,
    /// Changes of masters that were asked for.
    pub churn: u64,
    /// Of each policy, in the order asked for.
    pub policies: Vec<PolicyReport>,
}

/// An instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InstanceReport {
    /// Bits of its ASIDs.
    pub asid_bits: u32,
    /// Its masters.
    pub masters: u64,
    /// It takes part in broadcast TLB maintenance.
    pub broadcast: bool,
}

/// What one policy did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PolicyReport {
    /// Its name.
    pub policy: &'static str,
    /// Domains of which every attach succeeded.
    pub attached: u64,
    /// Attaches that succeeded.
    pub attaches: u64,
    /// Those that did not.
    pub refused: Refused,
    /// The same, by instance.
    pub refused_on: Vec<u64>,
    /// Live tags that were changed: an ASID that is on two instances counts twice.
    pub moved: u64,
    /// What the SMMUs were told by all attaches, by command.
    pub commands: BTreeMap<&'static str, u64>,
    /// ASIDs left on each instance, as far as the policy may use them, after everything was attached and bound.
    pub ids_free: Vec<u64>,
    /// Cost of an attach that succeeded; that of moves, and of attaches that were refused after one, is in it.
    pub per_attach: Cost,
    /// Cost of a detach, when in the end all masters are.
    pub per_detach: Cost,
    /// Cost of an unmap.
    pub per_unmap: UnmapReport,
    /// What binding processes came to, if there were any.
    pub processes: Option<ProcessReport>,
    /// What changing masters came to, if that was asked for.
    pub churn: Option<ChurnReport>,
    /// {domains asked for, domains attached}, at some steps.
    pub steps: Vec<[u64; 2]>,
}

impl PolicyReport {
    /// Attaches that were refused.
    pub fn refusals(&self) -> u64 {
        self.refused.values().sum()
    }
}

/// What an unmap of one page costs, on average over some domains that are attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct UnmapReport {
    /// Instances that the domain is used on.
    pub instances: f64,
    /// Tags that it has there.
    pub tags: f64,
    /// CMD_TLBIs.
    pub invalidations: f64,
    /// CMD_SYNCs.
    pub syncs: f64,
}

/// What binding processes came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProcessReport {
    /// Processes that are bound on every instance.
    pub bound: u64,
    /// Binds that succeeded.
    pub binds: u64,
    /// Those that did not.
    pub refused: Refused,
    /// Binds by the CPU's ASID.
    pub shared: u64,
    /// Live tags of domains and processes that were changed.
    pub moved: u64,
    /// Cost of a bind.
    pub per_bind: Cost,
    /// Cost of one [`invalidate`](smmuv3::Process::invalidate) of a page.
    pub per_invalidate: Cost,
}

/// What changing masters came to: each is detached and attached to another domain.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChurnReport {
    /// Attaches that were asked for.
    pub attaches: u64,
    /// Those that were refused.
    pub refused: Refused,
    /// Live tags that were changed.
    pub moved: u64,
    /// Cost of an attach that succeeded.
    pub per_attach: Cost,
    /// Cost of a detach.
    pub per_detach: Cost,
}

/// What was told more of than before, by the names of commands.
pub(crate) fn commands(before: &[u64; 256], after: &[u64; 256]) -> BTreeMap<&'static str, u64> {
    let more = (0..=u8::MAX).zip(before.iter().zip(after));
    let more = more.filter(|(_, (before, after))| before != after);
    more.filter_map(|(code, (before, after))| {
        Some((Opcode::from_code(code)?.name(), after - before))
    })
    .collect()
}

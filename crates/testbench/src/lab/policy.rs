// SPDX-License-Identifier: MIT OR Apache-2.0
//! One policy after the other: domains are attached, processes bound, masters changed, and everything is taken down.

use std::collections::BTreeSet;

use fastrand::Rng;
use smmuv3::{AsidPolicy, Bond, Domain, Iova};

use crate::lab::cost::{Work, mean};
use crate::lab::machine::LabPlatform;
use crate::lab::plan::{Plan, Setup};
use crate::lab::report::{
    ChurnReport, InstanceReport, LabReport, PolicyReport, ProcessReport, Refused, UnmapReport,
    commands,
};
use crate::lab::rig::{LabError, Rig, Slot};

/// Domains, and processes, whose unmaps are measured.
const SAMPLE: usize = 64;
/// Calls between two words about progress.
const OFTEN: usize = 1000;

/// How far it is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// The policy.
    pub policy: AsidPolicy,
    /// What is being done.
    pub what: &'static str,
    /// How much of it is done.
    pub done: usize,
    /// How much there is.
    pub of: usize,
}

/// Does what `setup` says under each of `policies`.
///
/// # Errors
/// [`LabError`]. That a policy refuses something is none.
pub fn compare(
    setup: &Setup,
    policies: &[AsidPolicy],
    progress: &mut dyn FnMut(Progress),
) -> Result<LabReport, LabError> {
    setup.check()?;
    let plan = Plan::draw(setup);
    let instances = setup.instances.iter().zip(&plan.masters).enumerate();
    let instances = instances.map(|(index, (bits, masters))| InstanceReport {
        asid_bits: *bits,
        masters: *masters as u64,
        broadcast: setup.broadcast.contains(&index),
    });
    let policies: Result<_, _> =
        policies.iter().map(|policy| one(setup, &plan, *policy, progress)).collect();
    Ok(LabReport {
        seed: setup.seed,
        instances: instances.collect(),
        domains: setup.domains as u64,
        attaches: plan.attaches() as u64,
        processes: setup.processes as u64,
        churn: setup.churn as u64,
        policies: policies?,
    })
}

fn one(
    setup: &Setup,
    plan: &Plan,
    policy: AsidPolicy,
    progress: &mut dyn FnMut(Progress),
) -> Result<PolicyReport, LabError> {
    let mut tell = |what, done, of| {
        if done % OFTEN == 0 {
            progress(Progress { policy, what, done, of });
        }
    };
    tell("setting up", 0, 1);
    let rig = Rig::with_plan(setup, plan, policy)?;
    let domains: Result<Vec<_>, _> = (0..setup.domains).map(|_| rig.domain()).collect();
    let domains = domains?;
    let mut fill = fill(&rig, setup, plan, &domains, &mut tell)?;
    let per_unmap = unmaps(&rig, &domains, &fill.complete)?;
    let (bonds, processes) = bind(&rig, setup, &mut tell)?;
    let ids_free = rig.free().into_iter().map(|free| free as u64).collect();
    let churn = churn(&rig, setup, &plan.rng, &domains, &mut fill.slots, &mut tell)?;
    for (done, bond) in bonds.into_iter().enumerate() {
        tell("unbinding", done, done);
        bond.unbind().map_err(|refused| rig.broken(refused))?;
    }
    let (mut work, mut detached) = (Work::default(), 0);
    let total = fill.slots.len();
    for (done, (slot, attached)) in fill.slots.into_iter().enumerate() {
        tell("detaching", done, total);
        if attached {
            work += rig.detach(slot)?;
            detached += 1;
        }
    }
    rig.check()?;
    Ok(PolicyReport {
        policy: policy.name(),
        attached: fill.complete.len() as u64,
        attaches: fill.attaches,
        refused: fill.refused,
        refused_on: fill.refused_on,
        moved: fill.moved,
        commands: fill.commands,
        ids_free,
        per_attach: fill.work.per(fill.attaches),
        per_detach: work.per(detached),
        per_unmap,
        processes,
        churn,
        steps: fill.steps,
    })
}

/// What attaching all domains came to.
struct Fill {
    /// Places in masters, and whether a domain is there.
    slots: Vec<(Slot, bool)>,
    /// Domains that have all their masters.
    complete: Vec<usize>,
    attaches: u64,
    refused: Refused,
    refused_on: Vec<u64>,
    moved: u64,
    work: Work,
    commands: std::collections::BTreeMap<&'static str, u64>,
    steps: Vec<[u64; 2]>,
}

fn fill(
    rig: &Rig,
    setup: &Setup,
    plan: &Plan,
    domains: &[Domain<LabPlatform>],
    tell: &mut impl FnMut(&'static str, usize, usize),
) -> Result<Fill, LabError> {
    let before = rig.counters.commands();
    let mut next = vec![0; rig.smmus.len()];
    let mut fill = Fill {
        slots: Vec::new(),
        complete: Vec::new(),
        attaches: 0,
        refused: Refused::new(),
        refused_on: vec![0; rig.smmus.len()],
        moved: 0,
        work: Work::default(),
        commands: Default::default(),
        steps: Vec::new(),
    };
    let mut steps = setup.steps().into_iter().peekable();
    for (index, domain) in domains.iter().enumerate() {
        tell("attaching", index, domains.len());
        let mut complete = true;
        for instance in plan.joins(index) {
            let instance = usize::from(*instance);
            let slot = rig.slot(instance, next[instance]);
            let outcome = rig.attach(slot, domain)?;
            fill.work += outcome.work;
            fill.moved += outcome.moved;
            match outcome.refused {
                None => {
                    next[instance] += 1;
                    fill.attaches += 1;
                    fill.slots.push((slot, true));
                }
                Some(reason) => {
                    *fill.refused.entry(reason).or_default() += 1;
                    fill.refused_on[instance] += 1;
                    complete = false;
                }
            }
        }
        if complete {
            fill.complete.push(index);
        }
        if steps.next_if_eq(&(index + 1)).is_some() {
            fill.steps.push([index as u64 + 1, fill.complete.len() as u64]);
        }
    }
    fill.commands = commands(&before, &rig.counters.commands());
    Ok(fill)
}

/// What unmaps cost, of some of the domains that are attached.
fn unmaps(
    rig: &Rig,
    domains: &[Domain<LabPlatform>],
    attached: &[usize],
) -> Result<UnmapReport, LabError> {
    let step = attached.len().div_ceil(SAMPLE).max(1);
    let (mut count, mut instances, mut tags, mut told, mut work) = (0, 0, 0, 0, Work::default());
    for index in attached.iter().step_by(step) {
        let domain = &domains[*index];
        let targets = domain.targets().unwrap_or_default();
        let of: BTreeSet<_> = targets.iter().map(|target| target.instance).collect();
        let (cost, invalidations) = rig.unmap(domain)?;
        work += cost;
        told += invalidations;
        count += 1;
        instances += of.len() as u64;
        tags += targets.len() as u64;
    }
    Ok(UnmapReport {
        instances: mean(instances, count),
        tags: mean(tags, count),
        invalidations: mean(told, count),
        syncs: mean(work.syncs, count),
    })
}

pub(crate) type Bonds = Vec<Bond<LabPlatform>>;

/// Binds every process on every instance: neighbours to the same master.
pub(crate) fn bind(
    rig: &Rig,
    setup: &Setup,
    tell: &mut impl FnMut(&'static str, usize, usize),
) -> Result<(Bonds, Option<ProcessReport>), LabError> {
    if setup.processes == 0 {
        return Ok((Bonds::new(), None));
    }
    let (mut bonds, mut processes) = (Bonds::new(), Vec::new());
    let (mut bound, mut refused, mut moved) = (0, Refused::new(), 0);
    let mut work = Work::default();
    for index in 0..setup.processes {
        tell("binding processes", index, setup.processes);
        let process = rig.process(index)?;
        let before = bonds.len();
        for masters in &rig.masters {
            let master = &masters[index * masters.len() / setup.processes];
            let outcome = rig.measured(|| process.bind(master).map(|bond| bonds.push(bond)))?;
            work += outcome.work;
            moved += outcome.moved;
            if let Some(reason) = outcome.refused {
                *refused.entry(reason).or_default() += 1;
            }
        }
        bound += u64::from(bonds.len() - before == rig.masters.len());
        processes.push(process);
    }
    let targets = processes.iter().flat_map(|process| process.targets().unwrap_or_default());
    let shared = targets.filter(|target| target.shared).count() as u64;
    let step = processes.len().div_ceil(SAMPLE);
    let (before, mut count) = (rig.counters.work(), 0);
    for process in processes.iter().step_by(step) {
        process.invalidate(Iova(0x1000), 0x1000).map_err(|error| rig.broken(error))?;
        count += 1;
    }
    let invalidated = rig.counters.work() - before;
    let binds = bonds.len() as u64;
    let report = ProcessReport {
        bound,
        binds,
        refused,
        shared,
        moved,
        per_bind: work.per(binds),
        per_invalidate: invalidated.per(count),
    };
    Ok((bonds, Some(report)))
}

/// Takes masters at random from their domains, and gives them to others.
fn churn(
    rig: &Rig,
    setup: &Setup,
    rng: &Rng,
    domains: &[Domain<LabPlatform>],
    slots: &mut [(Slot, bool)],
    tell: &mut impl FnMut(&'static str, usize, usize),
) -> Result<Option<ChurnReport>, LabError> {
    if setup.churn == 0 || slots.is_empty() {
        return Ok(None);
    }
    let mut rng = rng.clone();
    let (mut attaching, mut attaches) = (Work::default(), 0);
    let (mut detaching, mut detaches) = (Work::default(), 0);
    let (mut refused, mut moved) = (Refused::new(), 0);
    for done in 0..setup.churn {
        tell("changing masters", done, setup.churn);
        let (slot, attached) = &mut slots[rng.usize(0..slots.len())];
        if *attached {
            detaching += rig.detach(*slot)?;
            detaches += 1;
        }
        let outcome = rig.attach(*slot, &domains[rng.usize(0..domains.len())])?;
        attaching += outcome.work;
        moved += outcome.moved;
        *attached = outcome.refused.is_none();
        match outcome.refused {
            None => attaches += 1,
            Some(reason) => *refused.entry(reason).or_default() += 1,
        }
    }
    Ok(Some(ChurnReport {
        attaches: setup.churn as u64,
        refused,
        moved,
        per_attach: attaching.per(attaches),
        per_detach: detaching.per(detaches),
    }))
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether attaching gets dearer as domains become many.

use std::time::{Duration, Instant};

use serde::Serialize;
use smmuv3::{AsidPolicy, Domain, Master, MasterConfig, StreamId};

use crate::lab::cost::{Cost, Work};
use crate::lab::machine::LabPlatform;
use crate::lab::plan::{Plan, Setup};
use crate::lab::policy::{Progress, bind};
use crate::lab::report::Refused;
use crate::lab::rig::{LabError, Rig};

/// Attaches and detaches that are measured at each point.
const PROBES: usize = 1000;
/// Numbers of domains at which that is done, besides the last.
const POINTS: [usize; 3] = [10, 1000, 10_000];
/// Attaches between two words about progress.
const OFTEN: usize = 1000;

/// A run with many of everything.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScaleReport {
    /// Where everything random started.
    pub seed: u64,
    /// The policy.
    pub policy: &'static str,
    /// Bits of the ASIDs of each instance.
    pub instances: Vec<u32>,
    /// Masters of all instances.
    pub masters: u64,
    /// Domains.
    pub domains: u64,
    /// Processes, each to be bound on every instance.
    pub processes: u64,
    /// Attaches of domains that succeeded.
    pub attaches: u64,
    /// Those that did not.
    pub refused: Refused,
    /// Live tags that they changed.
    pub moved: u64,
    /// Cost of one of them; that of moves is in it.
    pub per_attach: Cost,
    /// Binds of processes that succeeded.
    pub binds: u64,
    /// Those that did not.
    pub binds_refused: Refused,
    /// Live tags that they changed.
    pub binds_moved: u64,
    /// Cost of one of them.
    pub per_bind: Cost,
    /// Costs of one more device, while there are so many domains.
    pub points: Vec<Point>,
    /// Bytes of memory that the driver got from its platform.
    pub driver_bytes: u64,
    /// Most bytes that this process had, where the operating system tells.
    pub peak_bytes: Option<u64>,
}

/// What it costs to attach an idle device to a domain of its own, and to detach it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Domains that there are.
    pub domains: u64,
    /// Processes that there are.
    pub processes: u64,
    /// Cost of an attach.
    pub per_attach: Cost,
    /// Cost of a detach.
    pub per_detach: Cost,
    /// Milliseconds of a thousand attaches, model included, by the median of many; for information, it depends on this
    /// computer.
    pub attach_ms: f64,
    /// The same of detaches.
    pub detach_ms: f64,
}

/// Fills instances with the domains and processes of `setup` under `policy`, and measures on the way.
///
/// # Errors
/// [`LabError`]. That the policy refuses something is none.
pub fn measure(
    setup: &Setup,
    policy: AsidPolicy,
    progress: &mut dyn FnMut(Progress),
) -> Result<ScaleReport, LabError> {
    setup.check()?;
    let plan = Plan::draw(setup);
    let mut tell = |what, done, of| {
        if done % OFTEN == 0 {
            progress(Progress { policy, what, done, of });
        }
    };
    tell("setting up", 0, 1);
    let rig = Rig::with_plan(setup, &plan, policy)?;
    let probe = Probe::new(&rig)?;
    let mut report = ScaleReport {
        seed: setup.seed,
        policy: policy.name(),
        instances: setup.instances.clone(),
        masters: rig.masters.iter().map(|masters| masters.len() as u64).sum(),
        domains: setup.domains as u64,
        processes: setup.processes as u64,
        attaches: 0,
        refused: Refused::new(),
        moved: 0,
        per_attach: Cost::default(),
        binds: 0,
        binds_refused: Refused::new(),
        binds_moved: 0,
        per_bind: Cost::default(),
        points: Vec::new(),
        driver_bytes: 0,
        peak_bytes: None,
    };
    let (mut domains, mut slots, mut work) = (Vec::new(), Vec::new(), Work::default());
    let mut next = vec![0; rig.smmus.len()];
    for index in 0..setup.domains {
        tell("attaching", index, setup.domains);
        let domain = rig.domain()?;
        for instance in plan.joins(index) {
            let instance = usize::from(*instance);
            let slot = rig.slot(instance, next[instance]);
            let outcome = rig.attach(slot, &domain)?;
            work += outcome.work;
            report.moved += outcome.moved;
            match outcome.refused {
                None => {
                    next[instance] += 1;
                    slots.push(slot);
                }
                Some(reason) => *report.refused.entry(reason).or_default() += 1,
            }
        }
        domains.push(domain);
        if POINTS.contains(&(index + 1)) || index + 1 == setup.domains {
            report.points.push(probe.measure(&rig, index + 1, 0)?);
        }
    }
    report.attaches = slots.len() as u64;
    report.per_attach = work.per(report.attaches);
    let (bonds, bound) = bind(&rig, setup, &mut tell)?;
    if let Some(bound) = bound {
        report.points.push(probe.measure(&rig, setup.domains, setup.processes)?);
        (report.binds, report.binds_refused) = (bound.binds, bound.refused);
        (report.binds_moved, report.per_bind) = (bound.moved, bound.per_bind);
    }
    report.driver_bytes = rig.iommu.platform().live();
    for (done, bond) in bonds.into_iter().enumerate() {
        tell("unbinding", done, usize::try_from(report.binds).unwrap_or(usize::MAX));
        bond.unbind().map_err(|refused| rig.broken(refused))?;
    }
    let total = slots.len();
    for (done, slot) in slots.into_iter().enumerate() {
        tell("detaching", done, total);
        rig.detach(slot)?;
    }
    rig.check()?;
    report.peak_bytes = peak();
    Ok(report)
}

/// An idle device of each instance, and a domain for them.
struct Probe {
    domain: Domain<LabPlatform>,
    masters: Vec<Master<LabPlatform>>,
}

impl Probe {
    fn new(rig: &Rig) -> Result<Self, LabError> {
        let masters = rig.smmus.iter().zip(&rig.masters).map(|(smmu, masters)| {
            let stream = StreamId(u32::try_from(masters.len()).unwrap_or(u32::MAX));
            rig.iommu.add_master(smmu, &[stream], MasterConfig::default())
        });
        let masters: Result<Vec<_>, _> = masters.collect();
        let masters = masters.map_err(|_| LabError::Memory { what: "so many masters" })?;
        Ok(Self { domain: rig.domain()?, masters })
    }

    fn measure(&self, rig: &Rig, domains: usize, processes: usize) -> Result<Point, LabError> {
        let (mut attaching, mut detaching) = (Work::default(), Work::default());
        let (mut attaches, mut detaches) = (Vec::new(), Vec::new());
        for master in self.masters.iter().cycle().take(PROBES) {
            let begun = Instant::now();
            let outcome = rig.measured(|| rig.iommu.attach(master, &self.domain))?;
            let attached = begun.elapsed();
            if outcome.refused.is_some() {
                // The instance is full.
                continue;
            }
            let (before, begun) = (rig.counters.work(), Instant::now());
            rig.iommu.detach(master).map_err(|error| rig.broken(error))?;
            detaches.push(begun.elapsed());
            attaches.push(attached);
            attaching += outcome.work;
            detaching += rig.counters.work() - before;
        }
        let count = attaches.len() as u64;
        Ok(Point {
            domains: domains as u64,
            processes: processes as u64,
            per_attach: attaching.per(count),
            per_detach: detaching.per(count),
            attach_ms: milliseconds(&mut attaches),
            detach_ms: milliseconds(&mut detaches),
        })
    }
}

/// Of a thousand such as the median of `times`, which others on this computer disturb least.
fn milliseconds(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(0.0, |median| 1e6 * median.as_secs_f64())
}

/// Most memory that this process had so far.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

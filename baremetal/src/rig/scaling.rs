// SPDX-License-Identifier: MIT OR Apache-2.0
//! What CPUs do at once that all map and unmap, in operations a second: `scaling=1`, on as many CPUs as there are.
//!
//! A line is a name, with the number of CPUs, a figure, and its unit. It is the clock's, hence not the same in every run.
//! Under `-icount` it would be; but then CPUs take turns, long ones, and are in each other's way only where a turn happens to
//! end, which says nothing about CPUs that run at the same time.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use smmuv3::{Attributes, Domain, Iova, PhysAddr, Prot};

use super::{Bench, MEMORY, PAGE};
use crate::counter::figure;
use crate::machine::Machine;
use crate::platform::Kernel;
use crate::rig_smmu::Rig;
use crate::verdict::{Outcome, Report};
use crate::{cpu, ensure, time};

/// Nanoseconds that the other CPUs have to start.
const START: u64 = 10_000_000_000;
/// Nanoseconds of one run.
const RUN: u64 = 20_000_000;
/// Runs, of which the fastest counts: the host has other things to do.
const RUNS: usize = 20;
/// Operations between two looks at the clock.
const BATCH: u64 = 32;
/// Input addresses of a CPU: a table of pages.
const SPAN: u64 = 1 << 21;

/// What CPUs have in common, by name: whether each has a domain to itself, and an SMMU.
const SHARED: [(&str, bool, bool); 3] = [
    ("one domain, one SMMU", false, false),
    ("a domain each, one SMMU", true, false),
    ("a domain and an SMMU each", true, true),
];

/// Measures, and prints the figures.
pub fn run(report: &mut Report, machine: &Machine) {
    let cpus = machine.cpus.len();
    report.note("cpus", start(machine, cpus));
    if cpu::online() != cpus {
        return;
    }
    for (name, own_domain, own_smmu) in SHARED {
        let measured = measure(cpus, own_domain, own_smmu);
        let outcome: Outcome = measured.map(|rate| {
            let s = if cpus == 1 { "" } else { "s" };
            figure(format_args!("{name}, {cpus} CPU{s}"), rate / 1e3, "thousand/s");
            "maps and unmaps of a page".into()
        });
        report.note("scaling", outcome);
    }
}

fn start(machine: &Machine, cpus: usize) -> Outcome {
    cpu::start_others(machine).map_err(|error| alloc::format!("PSCI: {error}"))?;
    time::wait(START, || cpu::online() == cpus);
    ensure!(cpu::online() == cpus, "{} of {cpus} run", cpu::online());
    Ok(alloc::format!("{cpus} run"))
}

/// Pages mapped and unmapped in a second, in the fastest of some runs.
fn measure(
    cpus: usize,
    own_domain: bool,
    own_smmu: bool,
) -> Result<f64, alloc::boxed::Box<dyn core::error::Error>> {
    let smmus = if own_smmu { cpus } else { 1 };
    // Of a domain each behind one SMMU, masters are its streams.
    let masters = if own_domain { cpus } else { 1 };
    let bench = Bench::with_masters(Rig(Kernel { cpus }), smmus, masters)?;
    let mut domains = alloc::vec::Vec::new();
    for master in &bench.masters {
        let domain = bench.domain()?;
        bench.iommu.attach(master, &domain)?;
        domains.push(domain);
    }
    let failed = AtomicU64::new(0);
    let once = |cpu: usize, count: u64| {
        let Some(domain) = domains.get(if own_domain { cpu } else { 0 }) else { return };
        let iova = Iova(cpu as u64 * SPAN + count % 512 * PAGE);
        if !map_and_unmap(domain, iova) {
            failed.fetch_add(1, Ordering::Relaxed);
        }
    };
    let best = (0..RUNS).map(|_| rate(cpus, &once)).fold(0.0, f64::max);
    let failed = failed.into_inner();
    ensure!(failed == 0, "{failed} maps or unmaps failed");
    for master in &bench.masters {
        bench.iommu.detach(master)?;
    }
    Ok(best)
}

fn map_and_unmap(domain: &Domain<Rig>, iova: Iova) -> bool {
    let both = Attributes::normal(Prot::READ | Prot::WRITE);
    // SAFETY: no device is there that could access it, and each CPU has addresses of its own.
    let mapped = unsafe { domain.map(iova, PhysAddr(MEMORY), PAGE, both) };
    // SAFETY: as above.
    mapped.is_ok() && unsafe { domain.unmap(iova, PAGE) } == Ok(PAGE)
}

/// How often in a second all CPUs together do `once`, which is told which CPU it is on, and how often that has done it before.
fn rate(cpus: usize, once: &(dyn Fn(usize, u64) + Sync)) -> f64 {
    let (ready, begun, done) = (AtomicUsize::new(0), AtomicU64::new(u64::MAX), AtomicU64::new(0));
    let last = AtomicU64::new(0);
    cpu::on_all(&|cpu| {
        // Whatever is slow only the first time.
        once(cpu, 0);
        ready.fetch_add(1, Ordering::AcqRel);
        while ready.load(Ordering::Acquire) != cpus {
            core::hint::spin_loop();
        }
        // One beginning for all: the first CPU's that gets so far.
        begun.fetch_min(time::now(), Ordering::Relaxed);
        let begun = begun.load(Ordering::Relaxed);
        let (mut count, mut now) = (0, begun);
        while now.saturating_sub(begun) < RUN {
            (0..BATCH).for_each(|nth| once(cpu, count + nth));
            count += BATCH;
            now = time::now();
        }
        done.fetch_add(count, Ordering::Relaxed);
        last.fetch_max(now, Ordering::Relaxed);
    });
    let took = last.into_inner().saturating_sub(begun.into_inner()).max(1);
    done.into_inner() as f64 * 1e9 / took as f64
}

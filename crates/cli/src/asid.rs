// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command `smmuv3 asid`: the policies for ASIDs, compared.

use std::io;

use serde::Serialize;
use smmuv3_testbench::lab::{self, AsidPolicy, LabError, Progress, ScaleReport, Setup};

use crate::args::{Asid, Domains};
use crate::output::show;
use crate::progress::Bar;
use crate::{BROKEN, Failure, HELD, columns, error};
use crate::{plot, report};

/// What `--scale` means for what was not said.
const SCALE: (usize, usize, usize) = (256, 65_000, 4096);

/// Runs with many of everything, a policy each.
#[derive(Serialize)]
struct Runs {
    runs: Vec<ScaleReport>,
}

/// Compares the policies; the exit status.
pub fn execute(asid: &Asid) -> Result<u8, Failure> {
    let setup = setup(asid);
    let result = if asid.scale { scale(asid, &setup) } else { compare(asid, &setup) };
    match result {
        Ok(()) => Ok(HELD),
        Err(Failure::Lab(broken @ LabError::Broken { .. })) => {
            error(&broken.to_string());
            Ok(BROKEN)
        }
        Err(failure) => Err(failure),
    }
}

/// What was asked for.
fn setup(asid: &Asid) -> Setup {
    let usual = Setup::default();
    let (masters, domains, processes) = match asid.scale {
        true => (Some(SCALE.0), SCALE.1, SCALE.2),
        false => (usual.masters, usual.domains, usual.processes),
    };
    let instances = match (&asid.instances, asid.scale) {
        (Some(widths), _) => widths.0.clone(),
        (None, true) => [[8; 32], [16; 32]].concat(),
        (None, false) => usual.instances,
    };
    let Domains { first, last } = asid.domains.unwrap_or(Domains { first: None, last: domains });
    Setup {
        instances,
        broadcast: asid.broadcast.clone(),
        first: first.unwrap_or(1),
        domains: last,
        masters: asid.masters.or(masters),
        processes: asid.processes.unwrap_or(processes),
        churn: asid.churn.unwrap_or(usual.churn),
        seed: asid.seed,
    }
}

fn compare(asid: &Asid, setup: &Setup) -> Result<(), Failure> {
    let policies = if asid.policies.is_empty() { &AsidPolicy::ALL[..] } else { &asid.policies };
    let report = {
        let mut bar = Bar::new();
        lab::compare(setup, policies, &mut |progress| bar.say(words(&progress)))
    };
    let report = report.map_err(Failure::Lab)?;
    if let Some(path) = &asid.plot {
        let unwritable = |reason| Failure::Plot { path: path.clone(), reason };
        let svg = plot::draw(&report).map_err(io::Error::other).map_err(unwritable)?;
        std::fs::write(path, svg).map_err(unwritable)?;
    }
    let stepped = asid.domains.is_some_and(|domains| domains.first.is_some());
    show(asid.json, &report, || report::render_policies(&report, stepped, columns()))?;
    Ok(())
}

fn scale(asid: &Asid, setup: &Setup) -> Result<(), Failure> {
    let policies =
        if asid.policies.is_empty() { &[AsidPolicy::Banked][..] } else { &asid.policies };
    let reports: Result<Vec<_>, _> = {
        let mut bar = Bar::new();
        let one = |policy: &AsidPolicy| {
            lab::measure(setup, *policy, &mut |progress| bar.say(words(&progress)))
        };
        policies.iter().map(one).collect::<Result<_, _>>()
    };
    let report = Runs { runs: reports.map_err(Failure::Lab)? };
    show(asid.json, &report, || report::render_scale(&report.runs, columns()))?;
    Ok(())
}

fn words(progress: &Progress) -> String {
    let Progress { policy, what, done, of } = progress;
    if *of <= 1 { format!("{policy}: {what}") } else { format!("{policy}: {what}, {done} of {of}") }
}

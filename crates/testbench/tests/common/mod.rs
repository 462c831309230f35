// SPDX-License-Identifier: MIT OR Apache-2.0
//! What several tests need: QEMU, or the word that there is none; eyes on every free.
#![allow(dead_code, reason = "not every test needs all of it")]

pub mod every_step;
pub mod pair;

use std::path::PathBuf;
use std::sync::Arc;

use smmuv3::{InstanceConfig, Iommu, Smmu};
use smmuv3_testbench::platform::{TestMmio, TestPlatform, World};
use smmuv3_testbench::qemu;
use smmuv3_testbench::report::Report;
use smmuv3_testbench::run::{Choice, Options, run};
use smmuv3_testbench::scenario::Scenario;

/// The scenario that `text` is.
pub fn parse(text: &str) -> Scenario {
    Scenario::parse(text, "test").unwrap_or_else(|errors| panic!("{errors}"))
}

/// Takes an SMMU of `world` into use.
pub fn enable(
    iommu: &Iommu<TestPlatform>,
    world: &Arc<World>,
    instance: usize,
    config: InstanceConfig,
) -> Smmu<TestPlatform> {
    let mmio = TestMmio { world: world.clone(), instance };
    iommu.probe(mmio, config).unwrap().enable().unwrap()
}

/// Where a QEMU with several SMMUs is. `None`, and a line for whoever counts, when there is none and none is
/// required.
pub fn qemu_or_skip() -> Option<PathBuf> {
    find(|version| version.has_several_instances())
}

/// Where any usable QEMU is; otherwise as [`qemu_or_skip`].
pub fn any_qemu_or_skip() -> Option<PathBuf> {
    find(|version| version.is_supported())
}

/// Runs `scenario` on this QEMU, and the same on the model: all rules hold on both, and devices reached and were refused the
/// same. What QEMU's run was.
#[track_caller]
pub fn agree(qemu: PathBuf, scenario: &Scenario, seed: u64) -> Report {
    let on = |machine, undisturbed| {
        let options = Options { machine, undisturbed, seed: Some(seed), ..Options::default() };
        let report = run(scenario, &options, &mut |_| ()).unwrap_or_else(|error| panic!("{error}"));
        let Report { scenario, machine, failure, .. } = &report;
        assert!(report.is_ok(), "{scenario} on {machine}, seed {seed}: {failure:#?}");
        report
    };
    let (mut model, mut qemu) = (on(Choice::Model, true), on(Choice::Qemu(Some(qemu)), false));
    if scenario.domains.iter().any(|domain| domain.tables.stage_2) {
        // Whether a write that stage 2 does not permit has to be told of is R9's to judge, on each.
        for report in [&mut model, &mut qemu] {
            report.random_faults.retain(|it| it.event != "F_PERMISSION" || it.access != "write");
        }
    }
    let name = &scenario.name;
    assert_eq!(model.faults, qemu.faults, "{name}, seed {seed}");
    assert_eq!(model.dma, qemu.dma, "{name}, seed {seed}");
    assert_eq!(model.random_faults, qemu.random_faults, "{name}, seed {seed}");
    assert_eq!(model.data, qemu.data, "{name}, seed {seed}");
    qemu
}

fn find(wanted: impl Fn(&qemu::Version) -> bool) -> Option<PathBuf> {
    let found = qemu::find(None).and_then(|path| Ok((qemu::version(&path)?, path)));
    match found {
        Ok((version, path)) if wanted(&version) => Some(path),
        Ok((version, _)) => {
            skipped(&format!("QEMU {version} lacks what the test needs"));
            None
        }
        Err(error) => {
            let required = std::env::var_os("SMMUV3_REQUIRE_QEMU");
            assert!(required.is_none_or(|value| value != "1"), "{error}");
            skipped(&error.to_string());
            None
        }
    }
}

/// Says that the running test does nothing, and why: to whoever reads, and to whoever counts.
pub fn skipped(reason: &str) {
    use std::io::Write;
    eprintln!("skipped: {reason}");
    if let Some(list) = std::env::var_os("SMMUV3_SKIPPED") {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(list);
        let mut file = file.unwrap_or_else(|error| panic!("the list of skipped tests: {error}"));
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("a test");
        // One write, so that lines of tests that run at the same time stay apart.
        let line = format!("{test}: {reason}\n");
        file.write_all(line.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    }
}

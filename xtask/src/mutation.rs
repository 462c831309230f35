// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of a driver with a step left out that lie beside what they test, and not in `tests/mutation.rs`: found in the
//! sources, so that none has to be named here.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::environment::Workspace;
use crate::report::{Step, Verdict};

/// What the step is for.
pub const WHAT: &str = "the same, by tests that lie beside what they test";

const PACKAGE: &str = "smmuv3-testbench";

/// The target that is one such test as a whole, and is run by a step of its own.
const WHOLE: &str = "mutation";

const GATE: &str = "#[cfg(feature = \"mutation\")]";

/// What there is: targets of the package, and names of tests in them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Gated {
    targets: BTreeSet<String>,
    tests: BTreeSet<String>,
}

/// Runs those tests and no others. `run` is what runs and counts tests.
pub fn check(
    step: &mut Step,
    workspace: &Workspace,
    run: impl FnOnce(&mut Step, &mut std::process::Command) -> Result<Verdict>,
) -> Result<Verdict> {
    let gated = look(&workspace.root.join("crates/testbench/tests"))?;
    let targets = gated.targets.iter().flat_map(|target| ["--test", target]);
    let arguments = ["test", "-p", PACKAGE, "--features", "mutation", "--no-fail-fast"];
    let mut command = workspace.cargo(arguments.into_iter().chain(targets));
    let verdict = run(step, command.arg("--").args(&gated.tests))?;
    let (tally, expected) = (verdict.tally, gated.tests.len());
    let count = tally.passed + tally.failed + tally.skipped;
    // A name may be part of another's, so there may be more.
    ensure!(tally.failed > 0 || count >= expected, "{count} of {expected} tests were run");
    Ok(verdict)
}

/// Looks through the folder `tests` of a package: a target is a file there, or a folder with several.
fn look(tests: &Path) -> Result<Gated> {
    let mut gated = Gated::default();
    for entry in fs::read_dir(tests).with_context(|| format!("cannot read {}", tests.display()))? {
        let path = entry?.path();
        let target = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if target == WHOLE {
            continue;
        }
        let before = gated.tests.len();
        look_in(&path, &mut gated.tests)?;
        if gated.tests.len() != before {
            gated.targets.insert(target);
        }
    }
    ensure!(!gated.tests.is_empty(), "no gated test in {}", tests.display());
    Ok(gated)
}

/// The tests of a file, or of all files in a folder.
fn look_in(path: &Path, tests: &mut BTreeSet<String>) -> Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            look_in(&entry?.path(), tests)?;
        }
        return Ok(());
    }
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    tests.extend(tests_of(&text));
    Ok(())
}

/// Names of those functions of a source that are tests behind the gate.
fn tests_of(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    // What is said of the item that comes next: that it is gated, and a test.
    let (mut gate, mut test) = (false, false);
    for line in text.lines().map(str::trim_start) {
        if line.starts_with("#[") {
            gate |= line == GATE;
            test |= line == "#[test]";
        } else if !line.starts_with("//") {
            let name = line.strip_prefix("fn ").and_then(|rest| rest.split('(').next());
            names.extend(name.filter(|_| gate && test).map(str::to_owned));
            (gate, test) = (false, false);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_gated_in_whichever_order_that_is_said() {
        let text = "\
#[cfg(feature = \"mutation\")]
#[test]
fn one() {}

#[test]
/// Why.
#[cfg(feature = \"mutation\")]
    fn two() {

#[test]
fn other() {}
#[cfg(feature = \"mutation\")]
fn helper(a: u32) {}
#[cfg(feature = \"mutation\")]
use this;
#[test]
fn last() {}
";
        assert_eq!(tests_of(text), ["one", "two"]);
    }

    /// Wherever the gate is, it is that of a test which is found, or of a whole file.
    #[test]
    fn no_gate_in_the_testbenchs_tests_is_missed() {
        let root = Workspace::find().unwrap().root.join("crates/testbench/tests");
        let gated = look(&root).unwrap();
        let mut gates = 0;
        let mut folders = vec![root];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = fs::read_to_string(&path).unwrap();
                if !text.contains("#![cfg(feature = \"mutation\")]") {
                    gates += text.matches("cfg(feature = \"mutation\")").count();
                } else {
                    assert_eq!(path.file_stem().unwrap(), WHOLE);
                }
            }
        }
        assert_eq!(gated.tests.len(), gates, "{gated:?}");
        assert!(gated.targets.contains("nested") && !gated.targets.contains(WHOLE), "{gated:?}");
    }
}

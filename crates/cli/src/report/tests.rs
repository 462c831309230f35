// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reports as they look, in `tests/expected`.

use anstream::adapter::strip_str;

use super::text::width;
use super::*;
use smmuv3_testbench::report::Failure;

fn setting(columns: usize) -> Setting {
    Setting {
        columns,
        file: "scenarios/two-instances.toml".to_owned(),
        again: "smmuv3 run two-instances --seed 1".to_owned(),
    }
}

fn plain(report: &Report, columns: usize) -> String {
    strip_str(&render(report, &setting(columns))).to_string()
}

/// Compares with a file of `tests/expected`. A change that is meant is written there with
/// `SMMUV3_BLESS=1 cargo test -p smmuv3-cli`.
fn assert_looks_like(name: &str, actual: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/expected").join(name);
    if std::env::var_os("SMMUV3_BLESS").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    for (number, (expected, actual)) in (1..).zip(expected.lines().zip(actual.lines())) {
        assert_eq!(expected, actual, "{name}, line {number}");
    }
    assert_eq!(expected, actual, "{name}");
}

#[test]
fn a_run_that_went_well_is_shown_whole() {
    assert_looks_like("ok.txt", &plain(&samples::ok(), 100));
}

#[test]
fn tags_and_faults_of_substreams_say_what_is_theirs() {
    let mut report = samples::ok();
    let step = report.steps.iter_mut().find(|step| !step.tags.is_empty()).unwrap();
    (step.tags[0].vmid, step.tags[0].asid, step.tags[0].shared) = (3, 0x101, true);
    let faulting = report.steps.iter_mut().find(|step| !step.faults.is_empty()).unwrap();
    faulting.faults[0].substream = Some(0x46);
    faulting.faults[0].event = "C_BAD_CD";
    let text = plain(&report, 160);
    assert!(text.contains(" vmid 0x3 asid 0x101 (the CPU's)"), "{text}");
    // It says no address.
    assert!(text.contains("C_BAD_CD  gpu (sid 0x1100 ssid 0x46): "), "{text}");
}

#[test]
fn a_narrow_terminal_gets_narrow_lines() {
    assert_looks_like("ok-narrow.txt", &plain(&samples::ok(), 60));
}

#[test]
fn a_broken_rule_is_shown_with_its_step_and_trace() {
    assert_looks_like("broken.txt", &plain(&samples::broken(), 100));
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    for columns in [80, 100, 160] {
        for report in [samples::ok(), samples::broken()] {
            for line in plain(&report, columns).lines() {
                assert!(width(line) <= columns, "{} of {columns} columns: {line}", width(line));
                assert_eq!(line, line.trim_end());
            }
        }
    }
}

#[test]
fn the_last_line_of_a_good_run_is_the_verdict() {
    let text = plain(&samples::ok(), 100);
    let last = text.lines().last().unwrap();
    assert_eq!(last, "verdict: ok. Rules R0-R9 held on model, seed 1");
    let on_qemu = Report { machine: "qemu 11.1.3".to_owned(), ..samples::ok() };
    let last = verdict::lines(&on_qemu, &setting(100), 100).pop().unwrap();
    assert!(strip_str(&last).to_string().ends_with("held on qemu 11.1.3, seed 1"), "{last}");
}

#[test]
fn each_kind_of_failure_has_words_of_its_own() {
    let mut report = samples::broken();
    for (rule, words) in [
        ("R3", "R3 is broken in step 6 (f.toml:182)"),
        ("misuse", "the driver did what the architecture does not define in step 6 (f.toml:182)"),
        ("expectation", "the scenario expected something else in step 6 (f.toml:182)"),
        ("driver", "a call of the driver failed in step 6 (f.toml:182)"),
    ] {
        let failure = report.failure.as_mut().unwrap();
        failure.rule = rule.to_owned();
        let failure = failure.clone();
        assert_eq!(one_line(&failure, &report, "f.toml"), words);
    }
    let failure = Failure { line: 0, ..report.failure.clone().unwrap() };
    assert!(one_line(&failure, &report, "f.toml").ends_with("in step 6"));
}

#[test]
fn of_a_very_long_trace_the_middle_is_left_out() {
    let mut report = samples::broken();
    let trace = (1..=500).map(|number| format!("operation {number}")).collect();
    report.failure.as_mut().unwrap().trace = trace;
    let text = plain(&report, 100);
    let shown: Vec<&str> = text.lines().filter(|line| line.contains("operation")).collect();
    assert_eq!(shown.iter().filter(|line| line.contains("  operation ")).count(), 80);
    assert!(text.contains("\n   20  operation 20\n  … 420 more, which --json shows"), "{text}");
    assert!(text.contains("\n  441  operation 441\n"), "{text}");
    assert!(text.contains("\n  500  operation 500\n"), "{text}");
}

#[test]
fn an_empty_report_is_shown_without_empty_sections() {
    let report = Report {
        instances: Vec::new(),
        steps: Vec::new(),
        commands: Default::default(),
        faults: Vec::new(),
        coverage: None,
        description: String::new(),
        ..samples::ok()
    };
    let text = plain(&report, 20);
    assert!(!text.contains("Instances") && !text.contains("Steps"), "{text}");
    assert!(text.contains("commands  none"), "{text}");
}

#[test]
fn names_and_notes_cannot_draw_over_the_report() {
    let mut report = samples::ok();
    let evil = "x\x1b[2J\x1b]0;title\x07".to_owned();
    report.scenario.clone_from(&evil);
    report.description.clone_from(&evil);
    report.machine.clone_from(&evil);
    for step in &mut report.steps {
        step.text.clone_from(&evil);
        step.outcome.clone_from(&evil);
        step.note = Some(evil.clone());
    }
    let text = render(&report, &setting(100));
    assert!(!text.contains("\x1b[2J") && !text.contains("\x1b]") && !text.contains('\x07'));
}

#[test]
fn what_is_json_has_the_keys_that_programs_rely_on() {
    let value = serde_json::to_value(samples::broken()).unwrap();
    for key in
        ["scenario", "machine", "seed", "verdict", "instances", "steps", "commands", "faults"]
    {
        assert!(!value[key].is_null(), "{key}");
    }
    for key in ["transfers", "bytes", "faults_expected"] {
        assert!(value["dma"][key].is_u64(), "{key}");
    }
    assert_eq!(value["commands"]["CMD_SYNC"], 1312);
    assert_eq!(value["verdict"], "R1");
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! `smmuv3 asid` as a shell sees it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smmuv3"));
    command.arg("asid").args(arguments).stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn text(arguments: &[&str]) -> String {
    let output = run(arguments);
    let told = str::from_utf8(&output.stderr).unwrap();
    assert_eq!((output.status.code(), told), (Some(0), ""), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn json(arguments: &[&str]) -> serde_json::Value {
    serde_json::from_str(&text(&[arguments, &["--json"]].concat())).unwrap()
}

const POLICIES: [&str; 6] = [
    "per-instance",
    "shared-8",
    "shared-8-on-move",
    "shared-min-refuse",
    "shared-min-move",
    "banked",
];

#[test]
fn the_default_is_readable_on_one_screen_and_always_the_same() {
    let report = text(&[]);
    assert!(report.starts_with("ASID policies on instances with 8-, 16- and 16-bit ASIDs\n"));
    assert!(report.lines().count() <= 40, "{report}");
    assert!(report.lines().all(|line| line.chars().count() <= 80), "{report}");
    assert!(!report.contains('\x1b'), "colours without a terminal");
    let (_, words) = report.split_once("In words\n").unwrap();
    for policy in POLICIES {
        assert!(words.contains(&format!("  {policy}: refuses ")), "{policy}: {words}");
    }
    assert_eq!(text(&["--seed", "1"]), report);
    assert_ne!(text(&["--seed", "2"]), report);
}

#[test]
fn what_is_said_is_what_was_counted() {
    let report = json(&[]);
    let words = text(&[]).replace("\n    ", " ");
    for policy in report["policies"].as_array().unwrap() {
        let name = policy["policy"].as_str().unwrap();
        let head = format!("  {name}: ");
        let sentence = words.lines().find_map(|line| line.strip_prefix(&head)).unwrap();
        let refused: u64 = policy["refused"]
            .as_object()
            .unwrap()
            .values()
            .filter_map(|count| count.as_u64())
            .sum();
        match refused {
            0 => assert!(sentence.starts_with("refuses nothing"), "{sentence}"),
            _ => {
                let of = format!("refuses {refused} of {} attaches", report["attaches"]);
                assert!(sentence.starts_with(&of), "{sentence}");
            }
        }
        let moved = format!("changes {} live tags", policy["moved"]);
        assert_eq!(policy["moved"] != 0, sentence.contains(&moved), "{sentence}");
        let some = format!("so {} of {} domains", policy["attached"], report["domains"]);
        let all = format!("so all {} domains", report["domains"]);
        assert!(sentence.contains(&some) || sentence.contains(&all), "{sentence}");
    }
}

#[test]
fn json_has_everything_for_each_policy() {
    let report = json(&["--policy", "shared-min-move", "--policy", "banked", "--seed", "0x7"]);
    assert_eq!(report["seed"], 7);
    let widths: Vec<_> = report["instances"].as_array().unwrap().iter().collect();
    let widths: Vec<_> = widths.iter().map(|instance| instance["asid_bits"].as_u64()).collect();
    assert_eq!(widths, [Some(8), Some(16), Some(16)]);
    let policies = report["policies"].as_array().unwrap();
    let names: Vec<_> = policies.iter().map(|policy| policy["policy"].as_str().unwrap()).collect();
    assert_eq!(names, ["shared-min-move", "banked"]);
    for policy in policies {
        assert_eq!(policy["ids_free"].as_array().unwrap().len(), 3);
        assert!(policy["commands"]["CMD_SYNC"].as_u64().unwrap() > 0);
        assert!(policy["per_attach"]["stores"].as_f64().unwrap() > 0.0);
        assert!(policy["per_unmap"]["invalidations"].as_f64().unwrap() >= 1.0);
        assert_eq!(policy["processes"], serde_json::Value::Null);
    }
    assert!(policies[0]["refused"]["ids-exhausted"].as_u64().unwrap() > 0);
    assert!(policies[0]["moved"].as_u64().unwrap() > 0);
    assert_eq!(policies[1]["refused"], serde_json::json!({}));
}

#[test]
fn a_range_of_domains_is_counted_on_the_way() {
    let report = text(&["--domains", "100..1000", "--instances", "8", "--policy", "per-instance"]);
    let (_, table) = report.split_once("Domains attached, of those asked for\n").unwrap();
    let rows: Vec<Vec<&str>> =
        table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[1], ["asked", "for", "instance"]);
    assert_eq!(rows[2], ["100", "100"]);
    assert!(rows.contains(&vec!["1,000", "255"]), "{table}");
}

#[test]
fn processes_and_changes_have_tables_of_their_own() {
    let more = ["--processes", "20", "--broadcast", "1", "--churn", "100", "--domains", "50"];
    let report = text(&more);
    assert!(report.contains("\nProcesses\n") && report.contains("\nChanges of masters\n"));
    assert!(report.lines().all(|line| line.chars().count() <= 80), "{report}");
    let report = json(&more);
    for policy in report["policies"].as_array().unwrap() {
        assert_eq!(policy["processes"]["shared"], 20, "{policy}");
        assert_eq!(policy["churn"]["attaches"], 100);
    }
}

#[test]
fn many_of_everything_costs_no_more() {
    let few = ["--scale", "--instances", "2x8,2x16", "--masters", "20", "--domains", "1500"];
    let few = [&few[..], &["--processes", "10"]].concat();
    let report = text(&few);
    assert!(
        report.contains("One more device costs the same with 1,500 domains and 10"),
        "{report}"
    );
    assert!(report.lines().all(|line| line.chars().count() <= 80), "{report}");
    let report = &json(&few)["runs"];
    assert_eq!(report[0]["policy"], "banked");
    assert_eq!(report[0]["masters"], 80);
    assert_eq!(report[0]["points"].as_array().unwrap().len(), 4);
    assert_eq!(report[0]["binds"], 40);
}

#[test]
fn what_cannot_be_tried_is_refused_with_advice() {
    for (arguments, words) in [
        (&["--policy", "best"][..], "possible values: per-instance, shared-8, shared-8-on-move"),
        (&["--instances", "8,12"], "ASIDs have 8 or 16 bits, not 12; instances are a list"),
        (&["--instances", "65x8"], "there can be 1 to 64 instances"),
        (&["--domains", "9..3"], "domains are a range such as 1..70000; 3 is less than 9"),
        (&["--domains", "0"], "at least one domain is needed"),
        (&["--broadcast", "3"], "there is no instance 3; the 3 instances are counted from 0"),
        (&["--processes", "65536"], "there can be 65535 processes at most"),
        (&["--masters", "0"], "each instance needs at least one master"),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(output.stdout, b"");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains(words), "no {words:?} in {told}");
    }
}

/// A file of the repository.
fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

#[test]
fn the_page_shows_what_is_printed_and_drawn_now() {
    let page = std::fs::read_to_string(file("docs/asid.md")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let drawn = folder.path().join("asid.svg");
    let mut samples = 0;
    // A command, and lines of what it prints, in their order; `…` stands for others.
    for part in page.split("```console\n$ smmuv3 asid").skip(1) {
        let (command, rest) = part.split_once("\n```").unwrap();
        let (_, sample) = rest.split_once("```text\n").unwrap();
        let (sample, _) = sample.split_once("```").unwrap();
        let mut words: Vec<&str> = command.split_whitespace().collect();
        let plot = words.iter().position(|word| *word == "docs/asid.svg");
        if let Some(plot) = plot {
            words[plot] = drawn.to_str().unwrap();
        }
        let printed = text(&words);
        let mut lines = printed.lines();
        for line in sample.lines().filter(|line| *line != "…") {
            assert!(lines.any(|printed| printed == line), "`{command}` does not print: {line}");
        }
        samples += 1;
    }
    assert!(samples >= 5, "{samples}");
    let [drawn, shown] = [drawn, file("docs/asid.svg")].map(std::fs::read_to_string);
    assert!(
        drawn.unwrap() == shown.unwrap(),
        "docs/asid.svg is out of date; make it again as docs/asid.md says"
    );
    let words = text(&[]).replace("\n    ", " ");
    let (_, words) = words.split_once("In words\n").unwrap();
    for line in words.lines() {
        let (policy, sentence) = line.trim().trim_end_matches('.').split_once(": ").unwrap();
        let row = page.lines().find(|row| row.starts_with(&format!("| `{policy}` |"))).unwrap();
        assert!(row.ends_with(&format!("| {sentence} |")), "{row}");
    }
}

#[test]
fn a_plot_has_a_line_with_a_name_for_each_policy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("some.svg");
    let few = ["--domains", "5..50", "--policy", "banked", "--policy", "shared-8"];
    let report = text(&few);
    let plotted = text(&[&few[..], &["--plot", path.to_str().unwrap()]].concat());
    assert_eq!(plotted, report);
    let svg = std::fs::read_to_string(&path).unwrap();
    assert!(svg.starts_with("<svg role=\"img\" aria-label=\"Domains attached on instances"));
    let texts: Vec<&str> = svg.lines().filter(|line| !line.starts_with('<')).collect();
    for words in ["banked", "shared-8", "domains asked for (logarithmic)", "10"] {
        assert!(texts.contains(&words), "no {words} in {texts:?}");
    }
    assert!(!texts.contains(&"per-instance"));
    let nowhere = folder.path().join("no/some.svg");
    let output = run(&["--domains", "5", "--plot", nowhere.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("the plot can't be written to "));
}

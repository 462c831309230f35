// SPDX-License-Identifier: MIT OR Apache-2.0
//! The program as a shell sees it: what it prints where, and its exit status.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn smmuv3() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smmuv3"));
    command.env_remove("SMMUV3_QEMU").env_remove("CLICOLOR_FORCE").stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    smmuv3().args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> &str {
    str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    str::from_utf8(&output.stderr).unwrap()
}

/// Runs with `text` as standard input.
fn fed(arguments: &[&str], text: &str) -> Output {
    let mut child = smmuv3()
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Refused: status 2, nothing on standard output, and these words on standard error.
#[track_caller]
fn assert_refused(output: &Output, words: &[&str]) {
    assert_eq!(output.status.code(), Some(2), "{}", stderr(output));
    assert_eq!(stdout(output), "");
    for word in words {
        assert!(stderr(output).contains(word), "no {word:?} in {}", stderr(output));
    }
}

const MISTAKES: &str = r#"name = "mistakes"

[[instance]]
name = "smmu0"
asid-bits = 12

[[master]]
name = "nic"
instance = "smmu1"
streams = [0x900]
"#;

#[test]
fn help_has_examples_and_is_no_error() {
    for arguments in [
        &["--help"][..],
        &["-h"],
        &["run", "--help"],
        &["help", "run"],
        &["picture", "--help"],
        &["fuzz", "--help"],
        &["asid", "--help"],
        &["stress", "--help"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(stdout(&output).contains("Examples:\n  smmuv3"), "{}", stdout(&output));
        assert!(stdout(&output).contains("Exit status"), "{}", stdout(&output));
    }
    let help = run(&["stress", "--help"]);
    let widest = stdout(&help).lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(100) && stdout(&help).contains("docs/stress.md"), "{}", stdout(&help));
    let help = run(&["run", "--help"]);
    let (_, names) = stdout(&help).split_once("Built-in scenarios:\n  two-instances ").unwrap();
    for name in ["option-1", "option-2", "the-patch", "the-fix", "banks", "process"] {
        assert!(names.contains(&format!("\n  {name} ")), "no {name} in {names}");
    }
    for option in
        ["[SCENARIO]", "--machine", "--qemu <PATH>", "--seed <N>", "--json", "--trace <FILE>"]
    {
        assert!(stdout(&help).contains(option), "no {option} in {}", stdout(&help));
    }
}

#[test]
fn a_stress_says_what_was_done_and_whether_the_rules_held() {
    let arguments =
        ["stress", "--seconds", "1", "--threads", "2", "--instances", "2", "--policy", "banked"];
    let output = run(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.starts_with("2 threads on 2 SMMUs at once, on the model\n"), "{text}");
    let held = "verdict: ok. R0 to R3 held, and R8 where an attach was refused, seed 1\n";
    assert!(text.contains("banked") && text.ends_with(held), "{text}");
    let mut arguments = arguments.to_vec();
    arguments.push("--json");
    let report: serde_json::Value = serde_json::from_str(stdout(&run(&arguments))).unwrap();
    assert_eq!(
        (&report["verdict"], &report["runs"][0]["policy"]),
        (&"ok".into(), &"banked".into())
    );
    assert!(report["runs"][0]["counts"]["unmaps"].as_u64().unwrap() > 0, "{report}");
    let names = "possible values: per-instance, shared-8, shared-8-on-move";
    assert_refused(&run(&["stress", "--policy", "shared"]), &[names]);
    assert_refused(&run(&["stress", "--threads", "65"]), &["65 is not in 1..=64"]);
    for seconds in ["soon", "0", "0.5"] {
        assert_refused(&run(&["stress", "--seconds", seconds]), &["seconds are", "at least 1"]);
    }
}

#[test]
fn the_help_of_a_campaign_has_every_option_and_its_default() {
    let help = run(&["fuzz", "--help"]);
    for words in [
        "--seeds <A..B>",
        "[default: 0..100]",
        "--steps <N>",
        "[default: 2000]",
        "--minutes <M>",
        "--jobs <N>",
        "--keep-going",
        "--out <DIR>",
        "--coverage",
        "--json",
    ] {
        assert!(stdout(&help).contains(words), "no {words} in {}", stdout(&help));
    }
}

#[test]
fn every_mistake_of_a_scenario_is_told_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mistakes.toml"), MISTAKES).unwrap();
    let output =
        smmuv3().args(["run", "mistakes.toml"]).current_dir(folder.path()).output().unwrap();
    assert_refused(
        &output,
        &[
            "mistakes.toml:5:13: asid-bits of instance \"smmu0\" must be 8 or 16, not 12\n",
            "mistakes.toml:9:12: unknown instance \"smmu1\"",
            "error: 2 mistakes in the scenario; docs/scenarios.md",
        ],
    );
}

#[test]
fn a_scenario_is_read_from_standard_input() {
    assert_refused(&fed(&["run", "-"], MISTAKES), &["standard input:5:13: asid-bits"]);
    assert_refused(&fed(&["run", "-", "--json"], "name = "), &["standard input:1:"]);
}

#[test]
fn what_is_no_scenario_is_refused_with_advice() {
    assert_refused(
        &run(&["run", "no-such.toml"]),
        &["error: there is no file no-such.toml; give the path of a scenario", "two-instances"],
    );
    let folder = tempfile::tempdir().unwrap();
    assert_refused(&run(&["run", folder.path().to_str().unwrap()]), &["is a folder"]);
    let binary = folder.path().join("binary");
    std::fs::write(&binary, [0xff, 0xfe]).unwrap();
    assert_refused(&run(&["run", binary.to_str().unwrap()]), &["is not UTF-8 text"]);
}

#[test]
fn what_is_no_command_line_is_refused_with_advice() {
    assert_refused(&run(&["wander"]), &["unrecognized subcommand 'wander'", "Usage:"]);
    assert_refused(&run(&["run", "--machine", "arm"]), &["possible values: model, qemu"]);
    assert_refused(&run(&["run", "--seed", "x"]), &["a seed is a whole number such as 7 or 0x1f"]);
    assert_refused(
        &run(&["run", "--machine", "model", "--qemu", "/q"]),
        &["leave one of them out"],
    );
}

#[test]
fn a_campaign_that_cannot_be_is_refused_with_advice() {
    let range = "seeds are a range such as 0..100, without its end";
    assert_refused(&run(&["fuzz", "--seeds", "7"]), &[range]);
    assert_refused(&run(&["fuzz", "--seeds", "9..9"]), &["no seed is in 9..9", range]);
    assert_refused(&run(&["fuzz", "--seeds", "a..b"]), &["a seed is a whole number"]);
    assert_refused(&run(&["fuzz", "--steps", "0"]), &["from 1 to 10000000"]);
    assert_refused(&run(&["fuzz", "--minutes", "soon"]), &["minutes are a number"]);
    assert_refused(&run(&["fuzz", "--jobs", "0"]), &["--jobs"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let output = run(&["fuzz", "--seeds", "0..1", "--out", file.to_str().unwrap()]);
    assert_refused(&output, &["error: ", "file can't be written"]);
}

#[test]
fn a_clean_campaign_leaves_no_file_and_ends_with_status_0() {
    let folder = tempfile::tempdir().unwrap();
    let fuzz = |more: &[&str]| {
        let few = ["fuzz", "--seeds", "0..4", "--steps", "100"];
        smmuv3().args(few).args(more).current_dir(folder.path()).output().unwrap()
    };
    let output = fuzz(&[]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    assert_eq!(stderr(&output), "");
    let text = stdout(&output);
    assert!(text.starts_with("Random scenarios on the model, seeds 0..4\n"), "{text}");
    assert!(text.contains("tried  4 seeds, "), "{text}");
    assert!(text.contains("possible pairs of an operation and a feature"), "{text}");
    assert!(text.ends_with("verdict: ok. All rules held on 4 seeds\n"), "{text}");
    // The table of what was covered is only there for whoever asks.
    assert!(text.lines().count() < 12 && text.lines().all(|line| line.len() <= 100), "{text}");
    let covered = fuzz(&["--coverage"]);
    assert!(stdout(&covered).contains("\n  feature "), "{}", stdout(&covered));
    let output = fuzz(&["--json", "--jobs", "2"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let outcome: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(outcome["verdict"], "ok");
    assert_eq!(outcome["seeds"], serde_json::json!([0, 4]));
    assert_eq!(outcome["tried"]["seeds"], 4);
    assert!(outcome["tried"]["operations"].as_u64().unwrap() >= 400);
    assert!(outcome["tried"]["tlb_hits"].as_f64().unwrap() > 0.0);
    assert!(!outcome["tried"]["pairs"].as_object().unwrap().is_empty());
    assert_eq!(outcome["tried"]["findings"], serde_json::json!([]));
    let output = fuzz(&["--minutes", "0", "--jobs", "1"]);
    assert!(stdout(&output).ends_with("All rules held on 1 seed\n"), "{}", stdout(&output));
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
}

#[test]
fn a_missing_qemu_is_told_with_what_to_install() {
    assert_refused(
        &run(&["run", "--qemu", "/nonexistent/qemu"]),
        &["error: no QEMU: /nonexistent/qemu", "apt-get install"],
    );
    let output =
        smmuv3().args(["run", "--machine", "qemu"]).env("PATH", "/nonexistent").output().unwrap();
    assert_refused(&output, &["qemu-system-aarch64 is not on PATH", "--qemu"]);
}

#[test]
fn a_reader_that_left_is_no_error() {
    for arguments in [&["--help"][..], &[], &["run", "--json"]] {
        let mut child =
            smmuv3().args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!(stderr(&output), "");
    }
}

#[test]
fn a_report_that_cannot_be_written_is_an_error() {
    let full = Path::new("/dev/full");
    if full.exists() {
        let full = std::fs::File::options().write(true).open(full).unwrap();
        let output = smmuv3().arg("run").stdout(full).output().unwrap();
        assert_refused(&output, &["error: the report can't be written: No space left on device"]);
    }
}

#[test]
fn without_operands_the_built_in_scenario_runs_from_any_folder_and_holds_all_rules() {
    let folder = tempfile::tempdir().unwrap();
    let output = smmuv3().current_dir(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    assert_eq!(stderr(&output), "");
    let text = stdout(&output);
    assert!(text.starts_with("two-instances\n"), "{text}");
    let verdict = text.lines().last().unwrap();
    assert!(verdict.starts_with("verdict: ok. Rules R0-R9 held on model"), "{verdict}");
    assert!(!text.contains('\x1b'), "colours without a terminal");
    let same = smmuv3().args(["run", "two-instances"]).current_dir(folder.path()).output().unwrap();
    assert_eq!(stdout(&same), text, "the same seed gives the same report");
}

#[test]
fn json_is_one_object_and_nothing_else() {
    let output = run(&["run", "--json", "--seed", "7"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["scenario"], "two-instances");
    assert_eq!(report["seed"], 7);
    assert_eq!(report["verdict"], "ok");
    assert_eq!(report["instances"].as_array().unwrap().len(), 2);
    assert!(report["commands"]["CMD_SYNC"].as_u64().unwrap() > 0);
    assert!(report["dma"]["faults_expected"].as_u64().unwrap() > 0);
}

#[test]
fn an_expectation_that_does_not_hold_ends_with_status_1() {
    let scenario = r#"
name = "wrong"
instance = [{ name = "smmu0" }]
master = [{ name = "nic", instance = "smmu0", streams = [0x900] }]
domain = [{ name = "net" }]
memory = [{ name = "rx", size = "4K" }]
step = [
    { attach = { master = "nic", domain = "net" } },
    { map = { domain = "net", iova = 0x10000, memory = "rx" } },
    { write = { master = "nic", iova = 0x10000, data = "abcd" } },
    { expect-data = { memory = "rx", data = "abcx" } },
]
"#;
    let output = fed(&["run", "-"], scenario);
    assert_eq!(output.status.code(), Some(1), "{}{}", stdout(&output), stderr(&output));
    let text = stdout(&output);
    assert!(text.contains("verdict: the scenario expected something else, on model"), "{text}");
    assert!(text.contains("(standard input:11): "), "{text}");
    let json = fed(&["run", "-", "--json"], scenario);
    assert_eq!(json.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(report["verdict"], "expectation");
    assert!(stderr(&json).starts_with("smmuv3: the scenario expected something else in step"));
}

/// A file of the repository.
fn file(path: &str) -> String {
    format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_trace_is_written_beside_the_report() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.json");
    let traced = run(&["run", "--trace", path.to_str().unwrap()]);
    assert_eq!(traced.status.code(), Some(0), "{}", stderr(&traced));
    assert_eq!(stdout(&traced), stdout(&run(&["run"])));
    let trace = std::fs::read_to_string(&path).unwrap();
    let trace: serde_json::Value = serde_json::from_str(&trace).unwrap();
    assert_eq!(trace["otherData"]["scenario"], "two-instances");
    let mut steps = trace["traceEvents"].as_array().unwrap().iter();
    let last = steps.rfind(|event| event["cat"] == "step").unwrap();
    assert_eq!(last["name"], "take everything down");
}

#[test]
fn a_trace_that_cannot_be_written_is_an_error_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("no/trace.json");
    for path in [nowhere.as_path(), folder.path()] {
        let output = run(&["run", "--trace", path.to_str().unwrap()]);
        let told = format!("error: the trace can't be written to {}: ", path.display());
        assert_refused(&output, &[&told, "give --trace a file that may be written"]);
    }
    let full = Path::new("/dev/full");
    if full.exists() {
        let output = run(&["run", "--trace", "/dev/full"]);
        assert_refused(&output, &["written to /dev/full: No space left on device"]);
    }
}

#[test]
fn what_cannot_run_leaves_a_trace_of_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.json");
    let arguments = ["run", "--qemu", "/nonexistent/qemu", "--trace", path.to_str().unwrap()];
    assert_refused(&run(&arguments), &["error: no QEMU"]);
    let trace: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(trace["traceEvents"], serde_json::json!([]));
}

#[test]
fn a_trace_does_not_overwrite_a_scenario() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    std::fs::write(&path, MISTAKES).unwrap();
    let output = run(&["run", "--trace", path.to_str().unwrap()]);
    assert_refused(&output, &["mine.toml: that is the name of a scenario"]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), MISTAKES);
}

#[test]
fn the_picture_in_docs_is_the_one_that_is_drawn_now() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace.json");
    let output = run(&["run", &file("docs/trace.toml"), "--trace", trace.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    let picture = run(&["picture", trace.to_str().unwrap()]);
    assert_eq!(picture.status.code(), Some(0), "{}", stderr(&picture));
    assert!(
        stdout(&picture) == std::fs::read_to_string(file("docs/trace.svg")).unwrap(),
        "docs/trace.svg is out of date; make it again as `smmuv3 picture --help` says"
    );
}

#[test]
fn the_readme_shows_what_is_printed_now() {
    let readme = std::fs::read_to_string(file("README.md")).unwrap();
    let (_, sample) = readme.split_once("```text\nInstances\n").unwrap();
    let (sample, _) = sample.split_once("```").unwrap();
    let output = run(&["run", &file("scenarios/two-instances.toml")]);
    let printed: Vec<&str> = stdout(&output).lines().map(str::trim_end).collect();
    for line in sample.lines().filter(|line| *line != "…") {
        assert!(printed.contains(&line), "not printed: {line}");
    }
}

#[test]
fn what_is_no_trace_is_not_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.json");
    let path = path.to_str().unwrap();
    assert_refused(&run(&["picture", path]), &["can't be read", "smmuv3 run --trace wrote"]);
    for (text, why) in [
        ("{", "this is no trace of smmuv3 run --trace: EOF"),
        ("[1, {}]", "it has no traceEvents"),
        (r#"{"traceEvents": [1, {"ph": "X", "ts": "1"}]}"#, "it has no steps"),
    ] {
        std::fs::write(path, text).unwrap();
        assert_refused(&run(&["picture", path]), &[why]);
    }
    assert_eq!(run(&["run", "--trace", path]).status.code(), Some(0));
    assert_refused(&run(&["picture", path]), &["events are too many", "open the trace in"]);
}

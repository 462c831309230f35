// SPDX-License-Identifier: MIT OR Apache-2.0
//! `decode` of logs as a shell sees it.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

fn smmuv3(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smmuv3"));
    command.args(arguments).env_remove("CLICOLOR_FORCE").stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    smmuv3(arguments).output().unwrap()
}

fn piped(arguments: &[&str]) -> Child {
    let mut command = smmuv3(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn fed(arguments: &[&str], text: &[u8]) -> Output {
    let mut child = piped(arguments);
    // Whoever refuses its input does not read all of it.
    let _ = child.stdin.take().unwrap().write_all(text);
    child.wait_with_output().unwrap()
}

fn stdout(output: &Output) -> &str {
    str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    str::from_utf8(&output.stderr).unwrap()
}

fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../decode/tests/corpus").join(name)
}

fn log(name: &str) -> String {
    corpus(name).to_str().unwrap().to_owned()
}

#[track_caller]
fn assert_refused(output: &Output, words: &[&str]) {
    assert_eq!(output.status.code(), Some(2), "{}", stderr(output));
    assert_eq!(stdout(output), "");
    for word in words {
        assert!(stderr(output).contains(word), "no {word:?} in {}", stderr(output));
    }
}

#[test]
fn the_status_says_whether_something_is_wrong() {
    let bad = run(&["decode", &log("linux-old.log")]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(stdout(&bad).contains("msi-doorbell"), "{}", stdout(&bad));
    let fine = run(&["decode", &log("nothing.log")]);
    assert_eq!((fine.status.code(), stderr(&fine)), (Some(0), ""));
    let nothing = "summary: 0 problems in 10 lines, 0 events\n  nothing about an SMMU was found; for one \
                   structure: smmuv3 decode ste - < FILE\n";
    assert_eq!(stdout(&fine), nothing);
    // What an SMMU can do is not wrong.
    let banner = b"arm-smmu-v3 smmu0: oas 44-bit (features 0x01008305)\n";
    let about = fed(&["decode"], banner);
    assert_eq!(about.status.code(), Some(0));
    assert!(!stdout(&about).contains("nothing about"), "{}", stdout(&about));
    let several = run(&["decode", "a.log", "b.log"]);
    assert_refused(&several, &["cat a.log b.log | smmuv3 decode -"]);
    assert_refused(&run(&["decode", "no-such-log"]), &["no-such-log can't be read", "give a log"]);
    assert_refused(&run(&["decode", env!("CARGO_MANIFEST_DIR")]), &["it is a folder"]);
}

#[test]
fn json_is_what_the_corpus_expects_from_a_file_and_from_a_pipe() {
    let expected = std::fs::read_to_string(corpus("errors.jsonl")).unwrap();
    assert_eq!(stdout(&run(&["decode", "--json", &log("errors.log")])), expected);
    let text = std::fs::read(corpus("errors.log")).unwrap();
    for arguments in [&["decode", "--json", "-"][..], &["decode", "--json"]] {
        let output = fed(arguments, &text);
        assert_eq!((stdout(&output), output.status.code()), (&*expected, Some(1)));
    }
}

#[test]
fn what_is_like_something_before_takes_one_line() {
    let text = run(&["decode", &log("storm.log")]);
    let text = stdout(&text);
    assert_eq!(text.matches("CLASS       IN").count(), 2, "{text}");
    let short = "line 7 [10.001000] arm-smmu-v3.0.auto: event 0x10 F_TRANSLATION, stream 0x900, read \
                 0x7ffd106000 (cpu-pointer)\n";
    assert!(text.contains(short), "{text}");
    assert!(!text.contains('\x1b'), "no colours in a pipe");
}

#[test]
fn the_log_can_be_narrowed() {
    let file = log("storm.log");
    let only = run(&["decode", &file, "--json", "--only", "sid=0xa00"]);
    assert_eq!(stdout(&only).lines().count(), 2);
    let only =
        run(&["decode", &file, "--json", "--only", "event=C_BAD_STREAMID", "--since", "10.5"]);
    assert_eq!(stdout(&only).lines().count(), 2);
    let none = run(&["decode", &file, "--since", "12"]);
    // The status is of what is shown, and the summary says that there is more.
    assert_eq!(none.status.code(), Some(0), "{}", stdout(&none));
    let summary = stdout(&none);
    let none = "summary: 0 problems in 52 lines, 0 events, of those that --only and --since let through; 10 records left out\n";
    assert_eq!(summary, none);
    assert_refused(&run(&["decode", &file, "--only", "sid=x"]), &["no StreamID", "0x100"]);
    assert_refused(
        &run(&["decode", &file, "--only", "event=F_TL_PF"]),
        &["no event", "F_TRANSLATION"],
    );
    assert_refused(&run(&["decode", &file, "--since", "soon"]), &["no time", "12.5"]);
    assert_refused(&run(&["decode", &file, "--kernel", "new"]), &["no kernel version", "6.12"]);
    let banner = b"arm-smmu-v3 smmu0: ias 48-bit, oas 48-bit (features 0x00800000)\n";
    let names = |kernel: &str| stdout(&fed(&["decode", "--kernel", kernel], banner)).to_owned();
    assert!(names("6.14").contains("0x00800000: S2FWB"), "{}", names("6.14"));
    assert!(names("5.10.0-60.oe2203").contains("0x00800000: ECMDQ"));
}

#[test]
fn packed_logs_are_refused_with_what_to_do() {
    let gzip = fed(&["decode", "-"], &[0x1f, 0x8b, 8, 0, 0, 0]);
    assert_refused(&gzip, &["compressed with gzip", "zcat FILE | smmuv3 decode -"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log.xz");
    std::fs::write(&file, b"\xfd7zXZ\0...").unwrap();
    let name = file.to_str().unwrap();
    let help = format!("xzcat {name} | smmuv3 decode -");
    assert_refused(&run(&["decode", name]), &["compressed with xz", &help]);
    assert_refused(&fed(&["decode"], &[0xff, 0xfe, b'a', 0]), &["UTF-16", "iconv"]);
}

#[test]
fn a_log_that_is_still_written_is_explained_as_it_comes() {
    let mut child = piped(&["decode", "-"]);
    let mut log = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for part in ["event 0x10 received:\n0x0000020000000010\n", "0x0000020000000000\n0x0\n"] {
        log.write_all(part.as_bytes()).unwrap();
    }
    drop(log.write_all(b"event 0x04 received: 0x0000010000000004 0x0 0x0 0x0\n"));
    log.flush().unwrap();
    // The input stays open: these lines come since nothing more does.
    let first = lines.next().unwrap().unwrap();
    assert!(first.starts_with("line 1: event 0x10 F_TRANSLATION, stream 0x200"), "{first}");
    assert!(lines.any(|line| line.unwrap().starts_with("line 5: event 0x04 C_BAD_STE")));
    drop(log);
    assert!(lines.any(|line| line.unwrap().starts_with("summary: 2 problems in 5 lines")));
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = piped(&["decode", "-"]);
    let mut log = child.stdin.take().unwrap();
    let mut out = child.stdout.take().unwrap();
    let event = "event 0x10 received: 0x0000010000000010 0x0000020800000000 0x00000000fe000000 0x0\n\
                 event 0x04 received: 0x0000010000000004 0x0 0x0 0x0\n";
    let mut some = [0; 10];
    log.write_all(event.as_bytes()).unwrap();
    out.read_exact(&mut some).unwrap();
    drop(out);
    // As long as somebody listens.
    while log.write_all(event.repeat(100).as_bytes()).is_ok() {}
    drop(log);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output)), (Some(1), ""));
}

#[test]
fn the_examples_of_the_help_work() {
    let help = run(&["decode", "--help"]);
    let text = stdout(&help);
    assert!(text.contains("Examples:\n  smmuv3 decode dmesg.txt"), "{text}");
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(corpus("storm.log"), folder.path().join("dmesg.txt")).unwrap();
    let examples: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("smmuv3 decode") && line.contains("dmesg.txt"))
        .collect();
    assert!(examples.len() >= 3, "{text}");
    for example in examples {
        let command = example.split(" | ").next().unwrap();
        // What it is for stands behind two spaces.
        let command = command.split("   ").next().unwrap();
        let arguments: Vec<&str> = command.split_whitespace().skip(1).collect();
        let output = smmuv3(&arguments).current_dir(folder.path()).output().unwrap();
        assert!(output.status.code() < Some(2), "{example}: {}", stderr(&output));
        assert!(stdout(&output).contains("summary"), "{example}");
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What holds for every command: help with examples that run, pipes that end early, and no colours where nobody
//! wants them.

use std::process::{Command, Output, Stdio};

use crate::common::{Sample, commands, run, said, smmuv3, stderr, stdout};
use crate::{machine, table};

const WORDS: [&str; 2] = ["9,100000000000,0,0,0,0,0,0", "1,0,0,0,0,0,0,0"];

/// A folder with the files that examples are about.
fn files() -> Sample {
    let files = Sample::new("IORT", &table::golden());
    files.add("machine.dtb", &machine::machine());
    files.add("IORT.txt", machine::acpidump(&table::golden()).as_bytes());
    files.add("before.txt", WORDS[0].as_bytes());
    files.add("after.txt", WORDS[1].as_bytes());
    files
}

/// Command lines that end soon, with their exit status; all that has one of its own is here, and `--help` of the rest.
fn lines() -> Vec<(Vec<String>, i32)> {
    let mut lines: Vec<(String, i32)> = [
        ("run", 0),
        ("fuzz --seeds 0..1 --steps 20", 0),
        ("asid --policy banked --domains 10", 0),
        ("stress --seconds 1 --threads 1 --instances 2 --policy banked", 0),
        ("sid 01:00.0 0x77", 0),
        ("sid --iort IORT 0xabcdef", 1),
        ("sid --span 0x41-0x47", 0),
        ("tlbi 0x1000+33p", 0),
        ("iort IORT", 0),
        ("iort IORT --device 0x100", 0),
        ("iort IORT --svg", 0),
        ("dt machine.dtb", 0),
        ("update ste @before.txt @after.txt", 0),
        ("update ste 8002000b,d4,0,0,0,0,0,0 8003000b,54,0,0,0,0,0,0", 1),
        ("completions bash", 0),
        ("man", 0),
    ]
    .map(|(line, status)| (line.to_owned(), status))
    .to_vec();
    lines.extend(commands().iter().map(|command| (format!("{command} --help"), 0)));
    let words = |line: &str| line.split(' ').map(str::to_owned).collect();
    lines.iter().map(|(line, status)| (words(line), *status)).collect()
}

#[test]
fn a_reader_that_left_is_no_error() {
    let files = files();
    for (line, status) in lines() {
        let mut child = smmuv3()
            .args(&line)
            .current_dir(files.folder())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{line:?}: {}", stderr(&output));
        // What a program says there is the verdict, if any.
        assert!(!stderr(&output).contains("error"), "{line:?}: {}", stderr(&output));
    }
}

#[test]
fn colours_are_for_terminals_and_not_with_no_color() {
    let files = files();
    let run = |line: &[String], variables: &[(&str, &str)]| -> Output {
        let mut command = smmuv3();
        command.args(line).current_dir(files.folder()).envs(variables.iter().copied());
        command.output().unwrap()
    };
    let mut coloured = Vec::new();
    for (line, status) in lines() {
        if line[0] == "stress" && line.len() > 2 {
            // Takes its time, and prints as the others do.
            continue;
        }
        let force = ("CLICOLOR_FORCE", "1");
        for variables in [&[][..], &[force, ("NO_COLOR", "1")], &[("TERM", "dumb")]] {
            let output = run(&line, variables);
            assert_eq!(output.status.code(), Some(status), "{line:?}");
            let escapes = [stdout(&output), stderr(&output)].iter().any(|it| it.contains('\x1b'));
            assert!(!escapes, "{line:?} {variables:?}: {}", stdout(&output));
        }
        if stdout(&run(&line, &[force])).contains("\x1b[") {
            coloured.push(line[0].clone());
        }
    }
    // They have some, where they are wanted.
    for command in ["run", "sid", "tlbi", "iort", "dt", "update"] {
        assert!(coloured.iter().any(|one| one == command), "{command}: {coloured:?}");
    }
}

/// Examples of a command's help, without what is said about them.
fn examples(help: &str) -> Vec<String> {
    let (_, examples) = help.split_once("Examples:\n").unwrap_or_default();
    let lines = examples.lines().take_while(|line| !line.is_empty());
    // What is indented further is about the line above.
    let lines = lines.filter_map(|line| line.strip_prefix("  ").filter(|it| !it.starts_with(' ')));
    lines.map(|line| line.split("  ").next().unwrap_or(line).trim_end().to_owned()).collect()
}

#[test]
fn every_command_has_two_examples_and_says_its_exit_status() {
    for command in commands() {
        let help = run(&[&command, "--help"]);
        let help = said(&help, 0);
        assert!(examples(help).len() >= 2, "{command}: {:?}", examples(help));
        assert!(help.contains("Exit status: 0"), "{command}: {help}");
        let widest = help.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(100), "{command}: {help}");
    }
}

/// Help is broken where the terminal ends, and nowhere else; examples fit on a small one.
#[test]
fn help_fills_the_lines_of_any_terminal() {
    for columns in [80, 100, 120] {
        let width = columns.min(100);
        for command in std::iter::once("help".to_owned()).chain(commands()) {
            let command =
                if command == "help" { vec!["--help"] } else { vec![&*command, "--help"] };
            let output = smmuv3().args(&command).env("COLUMNS", columns.to_string()).output();
            let output = output.unwrap();
            let help = said(&output, 0);
            let lines: Vec<&str> = help.lines().collect();
            for pair in lines.windows(2) {
                let (Some(line), Some(next)) = (pair.first(), pair.last()) else { continue };
                let long = line.chars().count();
                assert!(
                    long <= width || line.starts_with("Usage: "),
                    "{command:?} at {columns}: {line}"
                );
                let prose = |line: &str| !line.is_empty() && !line.starts_with(' ');
                if prose(line) && prose(next) {
                    let word = next.split(' ').next().unwrap_or_default();
                    let fits = long + 1 + word.chars().count() <= width;
                    assert!(!fits, "{command:?} at {columns}: {word} fits behind: {line}");
                }
            }
            let (_, rest) = help.split_once("Examples:\n").unwrap_or_default();
            for line in rest.lines().take_while(|line| !line.is_empty()) {
                // What clap wraps goes on where the line begins, with a word that is no program.
                let program = line.trim_start().split(' ').next().unwrap_or_default();
                let begins = ["smmuv3", "dmesg", "xxd", "sed", "sudo", "dtc", "(bypass"];
                assert!(begins.contains(&program), "{command:?} at {columns}: {line}");
            }
        }
    }
}

#[test]
fn examples_run() {
    let files = files();
    let bin = std::path::Path::new(env!("CARGO_BIN_EXE_smmuv3")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    for folder in [".local/share/bash-completion/completions", ".zfunc", ".config/fish/completions"]
    {
        std::fs::create_dir_all(files.folder().join(folder)).unwrap();
    }
    for command in ["sid", "tlbi", "iort", "dt", "update", "completions", "man"] {
        let help = run(&[command, "--help"]);
        for example in examples(said(&help, 0)) {
            // Programs that are not everywhere, and files of a machine that has an SMMU.
            let mut line = example.clone();
            for (what, instead) in [
                ("sudo acpidump -n IORT", "cat IORT.txt"),
                ("dtc -O dtb machine.dts", "cat machine.dtb"),
                ("/sys/firmware/acpi/tables/IORT", "IORT"),
                ("/sys/firmware/fdt", "machine.dtb"),
                ("| man -l -", "| cat"),
            ] {
                line = line.replace(what, instead);
            }
            let json = line.split_once("| jq").map(|(line, _)| line.to_owned());
            let output = Command::new("sh")
                .args(["-e", "-c", json.as_ref().unwrap_or(&line)])
                .current_dir(files.folder())
                .env("PATH", &path)
                .env("HOME", files.folder())
                .stdin(Stdio::null())
                .output()
                .unwrap();
            assert_eq!(output.status.code(), Some(0), "{example}: {}", stderr(&output));
            assert_eq!(stderr(&output), "", "{example}");
            let quiet = line.contains('>') || line.contains("--out");
            assert_eq!(stdout(&output).is_empty(), quiet, "{example}");
            if json.is_some() {
                let _: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            }
        }
    }
}

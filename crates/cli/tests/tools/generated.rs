// SPDX-License-Identifier: MIT OR Apache-2.0
//! `smmuv3 completions` and `smmuv3 man`.

use std::collections::BTreeSet;
use std::process::Command;

use crate::common::{assert_refused, commands, run, said};

/// Options of a command, as its help lists them.
fn options(command: &str) -> BTreeSet<String> {
    let help = run(&[command, "--help"]);
    let lines = said(&help, 0).lines().map(str::trim_start);
    let words = lines
        .filter(|line| line.starts_with('-'))
        .flat_map(|line| line.split([' ', ',', ']', ';', '.']));
    words.filter(|word| word.starts_with("--")).map(str::to_owned).collect()
}

#[test]
fn every_command_and_option_is_completed_in_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run(&["completions", shell]);
        let script = said(&output, 0);
        for command in commands() {
            assert!(script.contains(&command), "no {command} in {shell}");
            for option in options(&command) {
                // fish has them without their hyphens.
                let known = script.contains(&option)
                    || script.contains(&format!("-l {}", option.trim_start_matches('-')));
                assert!(known, "no {option} of {command} in {shell}");
            }
        }
    }
    assert_refused(&run(&["completions", "cmd"]), &["possible values: bash, elvish, fish"]);
}

#[test]
fn bash_completes() {
    let script = run(&["completions", "bash"]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &script.stdout).unwrap();
    let complete = |words: &[&str]| {
        let (last, before) = (words.last().unwrap(), words[words.len() - 2]);
        let all = words.join("' '");
        let text = format!(
            "source '{}'; COMP_WORDS=('{all}'); COMP_CWORD={}; _smmuv3 smmuv3 '{last}' '{before}'; \
             echo \"${{COMPREPLY[@]}}\"",
            file.path().display(),
            words.len() - 1
        );
        let Ok(output) = Command::new("bash").args(["--norc", "-c", &text]).output() else {
            return None;
        };
        Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    };
    // Without bash there is nothing to be seen.
    if let Some(found) = complete(&["smmuv3", "tl"]) {
        assert_eq!(found, "tlbi");
        assert_eq!(complete(&["smmuv3", "tlbi", "--any"]).unwrap(), "--any-asid");
        assert_eq!(complete(&["smmuv3", "tlbi", "--tg", "6"]).unwrap(), "64k");
    }
}

#[test]
fn every_command_has_a_page_with_its_options_and_examples() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("man1");
    assert_eq!(said(&run(&["man", "--out", out.to_str().unwrap()]), 0), "");
    let main = std::fs::read_to_string(out.join("smmuv3.1")).unwrap();
    assert_eq!(said(&run(&["man"]), 0), main);
    for command in commands() {
        assert!(main.contains(&format!("smmuv3\\-{command}(1)")), "{command}");
        let page = std::fs::read_to_string(out.join(format!("smmuv3-{command}.1"))).unwrap();
        assert!(page.contains(&format!(".TH smmuv3-{command} 1")), "{page}");
        for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES", "EXIT STATUS"] {
            assert!(
                page.contains(&format!(".SH {section}\n")),
                "no {section} of {command}: {page}"
            );
        }
        for option in options(&command) {
            let option = option.replace('-', "\\-");
            assert!(page.contains(&option), "no {option} of {command}");
        }
        assert_eq!(said(&run(&["man", &command]), 0), page);
    }
    assert!(!out.join("smmuv3-help.1").exists());
}

#[test]
fn pages_are_what_man_can_show() {
    // Without groff there is nothing to be seen.
    let Ok(groff) = Command::new("groff").arg("--version").output() else { return };
    assert!(groff.status.success());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), run(&["man", "sid"]).stdout).unwrap();
    let output = Command::new("groff")
        .args(["-man", "-Tascii", "-P-cbou", "-ww"])
        .arg(file.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert!(text.contains("smmuv3 sid --span 0x42"), "{text}");
}

#[test]
fn pages_that_cannot_be_are_refused_with_advice() {
    assert_refused(
        &run(&["man", "grep"]),
        &["there is no command grep; those that there are: decode, "],
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    let inside = file.path().join("man1");
    let output = run(&["man", "--out", inside.to_str().unwrap()]);
    assert_refused(&output, &["man1 can't be written: ", "give --out a folder"]);
}

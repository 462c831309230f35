// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the pages about debugging show is what the commands print.
//!
//! Every `$ smmuv3 ...` of a page runs where the page's reader is; what follows it in the block is what it prints, a line
//! with nothing but `…` standing for any lines. `SMMUV3_BLESS=1` writes what they print now into the pages, shortened where
//! it was, and `memory.bin` from `memory.txt`.
#![cfg(unix)]

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// Stands for lines that are left out.
const GAP: &str = "…";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn blessing() -> bool {
    std::env::var_os("SMMUV3_BLESS").is_some()
}

/// What a command line prints on both streams, as a shell in `folder` has it.
fn printed(line: &str, folder: &Path) -> Vec<String> {
    let program = Path::new(env!("CARGO_BIN_EXE_smmuv3")).parent().unwrap();
    let mut path = OsString::from(program);
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{line} 2>&1")]).current_dir(folder).env("PATH", path);
    for variable in ["CLICOLOR_FORCE", "CLICOLOR", "COLUMNS"] {
        shell.env_remove(variable);
    }
    let output = shell.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // 1 says that the command found a problem, which is what these pages are about.
    assert!(matches!(output.status.code(), Some(0 | 1)), "{line}: {}\n{text}", output.status);
    text.lines().map(|line| line.trim_end().to_owned()).collect()
}

/// Whether `lines` are what is shown, gaps being any lines.
fn agrees(shown: &[String], lines: &[String]) -> bool {
    match shown.split_first() {
        None => lines.is_empty(),
        Some((first, rest)) if first == GAP => {
            (0..=lines.len()).any(|from| agrees(rest, &lines[from..]))
        }
        Some((first, rest)) => {
            lines.split_first().is_some_and(|(line, after)| line == first && agrees(rest, after))
        }
    }
}

/// `lines` with gaps where `shown` has them: a part between gaps is as long as it was, and begins where the most words are
/// those that it began with.
fn shortened(shown: &[String], lines: &[String]) -> Vec<String> {
    let parts: Vec<&[String]> = shown.split(|line| line == GAP).collect();
    if parts.len() == 1 {
        return lines.to_vec();
    }
    let mut result = Vec::new();
    let mut at = 0;
    for (index, part) in parts.iter().enumerate() {
        let room = lines.len().saturating_sub(part.len());
        let start = match part.first() {
            _ if index == 0 => 0,
            None => lines.len(),
            Some(_) if index + 1 == parts.len() => room.max(at),
            Some(first) => {
                (at..=room).max_by_key(|start| (alike(first, &lines[*start]), !start)).unwrap_or(at)
            }
        };
        if index > 0 {
            result.push(GAP.to_owned());
        }
        at = (start + part.len()).min(lines.len());
        result.extend_from_slice(&lines[start.min(at)..at]);
    }
    result
}

/// How many words two lines begin with alike.
fn alike(one: &str, other: &str) -> usize {
    one.split_whitespace().zip(other.split_whitespace()).take_while(|(a, b)| a == b).count()
}

/// The page with what its commands print now, and those that print something else than it shows.
fn held(page: &str, folder: &Path) -> (String, Vec<String>, usize) {
    let (mut result, mut wrong, mut count) = (Vec::new(), Vec::new(), 0);
    let mut lines = page.lines().map(str::to_owned).peekable();
    let mut inside = false;
    while let Some(line) = lines.next() {
        if line.starts_with("```") {
            inside = line == "```console";
        }
        let command = line.strip_prefix("$ ").filter(|rest| inside && rest.starts_with("smmuv3 "));
        let Some(command) = command.map(str::to_owned) else {
            result.push(line);
            continue;
        };
        let mut full = command.trim_end_matches('\\').to_owned();
        let mut continued = command.ends_with('\\');
        result.push(line);
        while continued {
            let more = lines.next().unwrap();
            continued = more.ends_with('\\');
            full.push_str(more.trim_end_matches('\\'));
            result.push(more);
        }
        let mut shown = Vec::new();
        while let Some(line) = lines.next_if(|line| line != "```" && !line.starts_with("$ ")) {
            shown.push(line);
        }
        // A blank line before the next command is the page's, not the command's.
        let blank = shown.pop_if(|line| line.is_empty());
        let now = printed(&full, folder);
        count += 1;
        if agrees(&shown, &now) {
            result.extend(shown);
        } else {
            wrong.push(format!("$ {full}\n{}\n", now.join("\n")));
            result.extend(shortened(&shown, &now));
        }
        result.extend(blank);
    }
    (result.join("\n") + "\n", wrong, count)
}

#[track_caller]
fn assert_held(name: &str, folder: &str, at_least: usize) {
    let path = root().join(name);
    let page = fs::read_to_string(&path).unwrap();
    let (now, wrong, count) = held(&page, &root().join(folder));
    assert!(count >= at_least, "{name} has {count} commands only");
    if blessing() {
        fs::write(path, now).unwrap();
    } else {
        assert!(
            wrong.is_empty(),
            "{name} shows something else than this (SMMUV3_BLESS=1 rewrites it):\n{}",
            wrong.join("\n")
        );
    }
}

#[test]
fn the_session_is_what_the_commands_print() {
    assert_held("docs/debugging.md", "docs/debugging", 12);
}

/// The record that docs/decode.md shows, a line for each of its parts.
#[test]
fn the_record_is_what_decode_prints() {
    let path = root().join("docs/decode.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once("```json\n").unwrap();
    let (shown, after) = rest.split_once("```").unwrap();
    let shown: Value = serde_json::from_str(shown).unwrap();
    let lines = printed("smmuv3 decode --json dmesg.txt", &root().join("docs/debugging"));
    let records = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut now = records.into_iter().find(|record| record["kind"] == "event").unwrap();
    now["causes"].as_array_mut().unwrap().truncate(1);
    if blessing() {
        // In the order in which they are printed, which a Value forgets.
        let line = lines.iter().find(|line| line.contains("\"kind\":\"event\"")).unwrap();
        let mut parts: Vec<_> = now.as_object().unwrap().iter().collect();
        parts.sort_by_key(|(key, _)| line.find(&format!("\"{key}\":")));
        let parts: Vec<_> =
            parts.iter().map(|(key, value)| format!("  \"{key}\": {value}")).collect();
        let page = format!("{before}```json\n{{\n{}\n}}\n```{after}", parts.join(",\n"));
        fs::write(path, page).unwrap();
    } else {
        assert!(shown == now, "SMMUV3_BLESS=1 writes what it is now: {now:#}");
    }
}

/// No record of the corpus has a cause that docs/decode.md does not list.
#[test]
fn every_cause_is_listed() {
    let page = fs::read_to_string(root().join("docs/decode.md")).unwrap();
    let listed = page.split_once("## Causes").unwrap().1;
    let corpus = root().join("crates/decode/tests/corpus");
    let mut count = 0;
    for entry in fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "jsonl") {
            continue;
        }
        for line in fs::read_to_string(path).unwrap().lines() {
            let record: Value = serde_json::from_str(line).unwrap();
            for cause in record["causes"].as_array().into_iter().flatten() {
                let id = cause["id"].as_str().unwrap();
                assert!(listed.contains(&format!("`{id}`")), "{id} is not listed");
                count += 1;
            }
        }
    }
    assert!(count > 100, "{count}");
}

#[test]
fn the_readme_is_what_the_commands_print() {
    assert_held("README.md", ".", 2);
}

#[test]
fn the_image_is_what_its_list_says() {
    const BASE: usize = 0x8800_0000;
    let folder = root().join("docs/debugging");
    let mut image = vec![0; 0x1_0000];
    let list = fs::read_to_string(folder.join("memory.txt")).unwrap();
    for line in list.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (address, words) = line.split_once(": ").unwrap();
        let at = usize::from_str_radix(address, 16).unwrap() - BASE;
        for (index, word) in words.split_whitespace().enumerate() {
            let word = u64::from_str_radix(word, 16).unwrap();
            image[at + 8 * index..][..8].copy_from_slice(&word.to_le_bytes());
        }
    }
    if blessing() {
        fs::write(folder.join("memory.bin"), &image).unwrap();
    }
    assert!(fs::read(folder.join("memory.bin")).unwrap() == image);
}

#[test]
fn gaps_stand_for_any_lines() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let all = lines("head\na 1\nb 2\nc 3\nd 4\ntail");
    for shown in
        ["head\n…\ntail", "…", "head\n…", "…\nb 2\nc 3\n…", "head\na 1\nb 2\nc 3\nd 4\ntail"]
    {
        assert!(agrees(&lines(shown), &all), "{shown}");
    }
    for shown in ["", "head", "head\n…\nd 4", "…\nc 3\nb 2\n…", "head\n…\nb 3\n…\ntail"] {
        assert!(!agrees(&lines(shown), &all), "{shown}");
    }
    // What was shown of another version, in which b was 9.
    let shown = lines("head\n…\nb 9\nc 3\n…\ntail");
    assert_eq!(shortened(&shown, &all), lines("head\n…\nb 2\nc 3\n…\ntail"));
    assert_eq!(shortened(&lines("old"), &all), all);
}

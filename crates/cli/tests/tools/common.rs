// SPDX-License-Identifier: MIT OR Apache-2.0
//! Running the program, and looking at what it says.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The program, as nobody's terminal is in its way.
pub fn smmuv3() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smmuv3"));
    for variable in ["SMMUV3_QEMU", "CLICOLOR_FORCE", "CLICOLOR", "NO_COLOR"] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null());
    command
}

pub fn run(arguments: &[&str]) -> Output {
    smmuv3().args(arguments).output().unwrap()
}

/// Runs with `bytes` as standard input.
pub fn fed(arguments: &[&str], bytes: &[u8]) -> Output {
    let mut child = smmuv3()
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that has seen enough may leave first.
    let _ = child.stdin.take().unwrap().write_all(bytes);
    child.wait_with_output().unwrap()
}

pub fn stdout(output: &Output) -> &str {
    str::from_utf8(&output.stdout).unwrap()
}

pub fn stderr(output: &Output) -> &str {
    str::from_utf8(&output.stderr).unwrap()
}

/// What it says, when it ends with `status` and complains of nothing.
#[track_caller]
pub fn said(output: &Output, status: i32) -> &str {
    assert_eq!(output.status.code(), Some(status), "{}{}", stdout(output), stderr(output));
    assert_eq!(stderr(output), "");
    stdout(output)
}

/// The same as JSON.
#[track_caller]
pub fn json(output: &Output, status: i32) -> serde_json::Value {
    serde_json::from_str(said(output, status)).unwrap()
}

/// Refused: status 2, nothing on standard output, and these words on standard error.
#[track_caller]
pub fn assert_refused(output: &Output, words: &[&str]) {
    assert_eq!(output.status.code(), Some(2), "{}", stderr(output));
    assert_eq!(stdout(output), "");
    for word in words {
        assert!(stderr(output).contains(word), "no {word:?} in {}", stderr(output));
    }
}

/// The same as the file of that name in `expected`, which is written anew where `SMMUV3_BLESS` is set.
#[track_caller]
pub fn assert_expected(text: &str, name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/expected").join(name);
    if std::env::var_os("SMMUV3_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(text == expected, "{name} is not what is expected:\n{text}");
}

/// All commands, as the help lists them.
pub fn commands() -> Vec<String> {
    let help = run(&["--help"]);
    let (_, list) = stdout(&help).split_once("\nCommands:\n").unwrap();
    let lines = list.lines().take_while(|line| !line.is_empty());
    let lines = lines.filter_map(|line| line.strip_prefix("  ").filter(|it| !it.starts_with(' ')));
    let names = lines.filter_map(|line| line.split(' ').next()).filter(|name| *name != "help");
    names.map(str::to_owned).collect()
}

/// A folder with a file of these bytes, which goes with the value.
pub struct Sample {
    folder: tempfile::TempDir,
}

impl Sample {
    pub fn new(name: &str, bytes: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), bytes).unwrap();
        Self { folder }
    }

    /// Another file beside it.
    pub fn add(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.folder().join(name), bytes).unwrap();
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs in its folder, where its name is enough.
    pub fn run(&self, arguments: &[&str]) -> Output {
        smmuv3().args(arguments).current_dir(self.folder.path()).output().unwrap()
    }
}

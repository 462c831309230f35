// SPDX-License-Identifier: MIT OR Apache-2.0
//! `core` and `alloc` for a target without an operating system, and how they are got.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::environment::{self, Workspace};
use crate::report::{Step, Verdict};

/// The target of the bare-metal image.
pub const TARGET: &str = "aarch64-unknown-none";

/// The variable that names a folder with the libraries, as `aarch64-sysroot` makes it.
const VARIABLE: &str = "SMMUV3_SYSROOT";

/// How long rustup may take; without a network it should not take long to notice.
const RUSTUP_LIMIT: Duration = Duration::from_secs(120);

/// Where the libraries of [`TARGET`] are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Libraries {
    /// Beside the compiler.
    Installed,
    /// In a folder of their own.
    Sysroot(PathBuf),
}

impl Libraries {
    /// Whether what is built with them is as the figures of docs/performance.md were: optimised when it is linked.
    pub fn are_optimised(&self) -> bool {
        matches!(self, Self::Installed)
    }

    /// Makes `command`, a cargo, build for [`TARGET`] with them. It must be given `--target`.
    pub fn apply(&self, command: &mut Command) {
        let Self::Sysroot(folder) = self else { return };
        // Cargo takes its flags from one place only: what comes from outside has to be among them.
        let outside = env::var("RUSTFLAGS").unwrap_or_default();
        let flags = outside.split_whitespace().map(Into::into);
        let flags: Vec<String> =
            flags.chain(["--sysroot".into(), folder.display().to_string()]).collect();
        command.env_remove("RUSTFLAGS").env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
        // They were built without bitcode.
        command.env("CARGO_PROFILE_RELEASE_LTO", "false");
    }
}

/// Gets the libraries from the first source that works, for the step that announces it.
///
/// Without them the verdict is skipped, or failed when a person named a folder.
pub fn obtain(step: &mut Step, workspace: &Workspace) -> (Option<Libraries>, Verdict) {
    if let Some(named) = env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        let folder = PathBuf::from(named);
        return match in_folder(&folder) {
            Ok(libraries) => {
                (Some(libraries), Verdict::passed(format!("{TARGET} from ${VARIABLE}")))
            }
            Err(error) => (None, Verdict::failed(format!("${VARIABLE}: {error:#}"))),
        };
    }
    if has_libraries() {
        return (Some(Libraries::Installed), Verdict::passed(format!("{TARGET} is installed")));
    }
    let by_rustup = match add_by_rustup(step, workspace, TARGET) {
        Ok(()) => {
            let verdict = Verdict::passed(format!("rustup target add {TARGET}"));
            return (Some(Libraries::Installed), verdict);
        }
        Err(error) => format!("rustup target add {TARGET}: {error:#}"),
    };
    match build_by_script(step, workspace) {
        Ok(libraries) => {
            let how = format!("{TARGET} built by aarch64-sysroot; not {by_rustup}");
            (Some(libraries), Verdict::passed(how))
        }
        Err(error) => {
            let reason = format!("no core for {TARGET} ({by_rustup}; aarch64-sysroot: {error:#})");
            (None, Verdict::skipped(reason))
        }
    }
}

/// Whether `core` for the target is installed beside the compiler.
fn has_libraries() -> bool {
    is_installed(TARGET)
}

/// Whether `core` for `target` is installed beside the compiler.
pub fn is_installed(target: &str) -> bool {
    let mut rustc = Command::new("rustc");
    rustc.args(["--print", "target-libdir", "--target", target]);
    environment::output_of(&mut rustc).is_some_and(|folder| has_core(Path::new(folder.trim())))
}

fn has_core(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|files| {
        files.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libcore-"))
    })
}

/// Installs the libraries of `target` beside the compiler.
///
/// # Errors
/// There is no rustup, or it cannot.
pub fn add_by_rustup(step: &mut Step, workspace: &Workspace, target: &str) -> Result<()> {
    ensure!(environment::find_on_path("rustup").is_some(), "rustup is not installed");
    let mut command = Command::new("rustup");
    workspace.prepare(command.args(["target", "add", target]).env("RUSTUP_MAX_RETRIES", "0"));
    let Some(status) = step.run_within(&mut command, RUSTUP_LIMIT)? else {
        anyhow::bail!("no answer within {} s", RUSTUP_LIMIT.as_secs());
    };
    ensure!(status.success(), "{status}: {}", step.complaint());
    ensure!(is_installed(target), "it says that it did, but rustc does not find them");
    Ok(())
}

/// Builds them from the toolchain's sources, by a script beside the checkout.
fn build_by_script(step: &mut Step, workspace: &Workspace) -> Result<Libraries> {
    let script = workspace.root.parent().map(|beside| beside.join("shared/tools/aarch64-sysroot"));
    let script = script.filter(|script| environment::is_program(script));
    let script = script.context("../shared/tools/aarch64-sysroot is not there")?;
    let folder = workspace.target.join("sysroot");
    let mut command = Command::new(script);
    workspace.prepare(command.arg(&folder).arg(TARGET));
    let status = step.run(&mut command)?;
    ensure!(status.success(), "{status}: {}", step.complaint());
    in_folder(&folder)
}

/// What `aarch64-sysroot` left in `folder`, or in its folder `sysroot`.
fn in_folder(folder: &Path) -> Result<Libraries> {
    let within = |folder: &Path| has_core(&folder.join("lib/rustlib").join(TARGET).join("lib"));
    let folders = [folder.join("sysroot"), folder.to_path_buf()];
    let found = folders.iter().find(|folder| within(folder));
    let found = found.with_context(|| format!("no {TARGET} in {}", folder.display()))?;
    Ok(Libraries::Sysroot(std::path::absolute(found)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_in_a_folder_are_passed_to_the_compiler_and_installed_ones_are_not() {
        let flags = |libraries: &Libraries| {
            let mut command = Command::new("cargo");
            libraries.apply(&mut command);
            let encoded = command.get_envs().find(|(name, _)| *name == "CARGO_ENCODED_RUSTFLAGS");
            encoded.and_then(|(_, value)| Some(value?.to_str()?.to_owned()))
        };
        assert_eq!(flags(&Libraries::Installed), None);
        let given = flags(&Libraries::Sysroot("/a folder/sysroot".into())).expect("flags");
        assert!(given.ends_with("--sysroot\u{1f}/a folder/sysroot"), "{given:?}");
    }

    #[test]
    fn a_folder_without_the_target_is_refused() {
        let error = in_folder(Path::new("/nonexistent")).expect_err("nothing is there");
        assert!(error.to_string().contains(TARGET), "{error}");
    }
}

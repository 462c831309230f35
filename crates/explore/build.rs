// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compiles this crate once more, to WebAssembly, for the page.
//!
//! That is a cargo inside of a cargo, with a target folder of its own and nothing of the outer one's
//! flags. Where the target's standard library is not installed, or this is not the workspace that it is
//! developed in, the module is empty, and the page leaves the decoding to the server.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "wasm32-unknown-unknown";

/// Small, since it travels inside the page; and a panic ends it, since nothing can catch one there.
const PROFILE: &[&str] = &[
    "profile.release.opt-level='s'",
    "profile.release.lto=true",
    "profile.release.codegen-units=1",
    "profile.release.panic='abort'",
    "profile.release.debug=false",
    "profile.release.strip=true",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=page");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo names a folder"));
    let module = out.join("explore.wasm");
    // The inner build comes here too. And fuzz targets have no page.
    let inner = env::var("TARGET").is_ok_and(|target| target == TARGET);
    let fuzzing = env::var_os("CARGO_CFG_FUZZING").is_some();
    let bytes = if inner || fuzzing { Vec::new() } else { build(&out).unwrap_or_default() };
    fs::write(module, bytes).expect("cargo's folder can be written to");
}

/// The module; `None` where it cannot be built.
fn build(out: &Path) -> Option<Vec<u8>> {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR")?);
    let crates = manifest.parent()?;
    let root = crates.parent()?;
    if !root.join("Cargo.lock").is_file() || !crates.join("formats").is_dir() {
        return None;
    }
    for part in [
        "explore/src",
        "explore/Cargo.toml",
        "decode/src",
        "decode/Cargo.toml",
        "formats/src",
        "formats/Cargo.toml",
    ] {
        println!("cargo::rerun-if-changed={}", crates.join(part).display());
    }
    for part in ["Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(part).display());
    }
    if !has_target()? {
        return None;
    }
    // One folder for all profiles of the outer build, beside theirs: the inner one has one profile only.
    let folder = out.ancestors().nth(4).unwrap_or(out).join("explore-wasm");
    let mut command = Command::new(env::var_os("CARGO")?);
    command.args(["rustc", "--quiet", "--offline", "--locked", "--release", "--lib"]);
    command.args(["--crate-type", "cdylib", "--target", TARGET, "--manifest-path"]);
    command.arg(manifest.join("Cargo.toml")).arg("--target-dir").arg(&folder);
    for setting in PROFILE {
        command.args(["--config", setting]);
    }
    for (name, _) in env::vars_os() {
        if is_outer(&name) {
            command.env_remove(name);
        }
    }
    // Nothing of the outer one's, nor of a configuration file. The page is given away: where its panics are
    // names no folder of whoever built it, and so the same sources give the same page anywhere.
    let mut flags = Vec::new();
    for (folder, name) in [(Some(root.to_owned()), "smmuv3"), (cargo_home(), "cargo")] {
        if let Some(folder) = folder.as_deref().and_then(Path::to_str) {
            flags.push(format!("--remap-path-prefix={folder}={name}"));
        }
    }
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    let said = match command.output() {
        Ok(output) if output.status.success() => {
            let module = folder.join(TARGET).join("release").join("smmuv3_explore.wasm");
            return fs::read(module).ok();
        }
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    println!("cargo::warning=the page will have no WebAssembly, since it could not be built:");
    for line in said.lines().take(20) {
        println!("cargo::warning={line}");
    }
    None
}

/// Where cargo keeps the sources of dependencies.
fn cargo_home() -> Option<PathBuf> {
    let home = || env::var_os("HOME").or_else(|| env::var_os("USERPROFILE"));
    env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&home()?).join(".cargo")))
}

/// What the outer build set for itself, and its wrappers around the compiler (clippy's, a coverage
/// tool's). The jobs that it may run at once are the inner build's too.
fn is_outer(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    let kept = ["CARGO", "CARGO_HOME", "CARGO_MAKEFLAGS", "CARGO_TERM_COLOR"];
    let other = [
        "RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "CLIPPY_ARGS",
        "__CARGO_DEFAULT_LIB_METADATA",
    ];
    other.contains(&name) || name.starts_with("CARGO_") && !kept.contains(&name)
}

/// Whether the compiler has the target's standard library.
fn has_target() -> Option<bool> {
    let output = Command::new(env::var_os("RUSTC")?).args(["--print", "sysroot"]).output().ok()?;
    let libraries = Path::new(str::from_utf8(&output.stdout).ok()?.trim()).join("lib/rustlib");
    // rustup's list: when the target is added, this is to be tried again.
    let components = libraries.join("components");
    if components.is_file() {
        println!("cargo::rerun-if-changed={}", components.display());
    }
    Some(libraries.join(TARGET).join("lib").is_dir())
}

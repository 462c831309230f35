// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which QEMU the driver is tested on, and how it is got when the machine has none.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::environment::{self, Workspace};
use crate::report::{Step, Verdict};

/// The program's usual name.
pub const PROGRAM: &str = "qemu-system-aarch64";

/// The oldest major version whose SMMUv3 has nested translation and correct access-flag faults.
const OLDEST_MAJOR: u32 = 10;

/// The Debian package that has the program.
const PACKAGE: &str = "qemu-system-arm";

/// What decides where QEMU is taken from.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// `--qemu`.
    pub argument: Option<PathBuf>,
    /// `$SMMUV3_QEMU`, when not empty.
    pub variable: Option<PathBuf>,
    /// The script get-qemu11 beside the checkout, when it is there.
    pub script: Option<PathBuf>,
    /// The program on `$PATH`.
    pub on_path: Option<PathBuf>,
    /// Packages can be installed: apt-get exists and this is root.
    pub can_install: bool,
}

/// A place to take QEMU from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Argument(PathBuf),
    Variable(PathBuf),
    Script(PathBuf),
    OnPath(PathBuf),
    Package,
}

impl Source {
    /// A person named this program: nothing else will do instead.
    fn is_final(&self) -> bool {
        matches!(self, Self::Argument(_) | Self::Variable(_))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument(path) => write!(f, "--qemu {}", path.display()),
            Self::Variable(path) => write!(f, "SMMUV3_QEMU={}", path.display()),
            Self::Script(path) => write!(f, "{}", path.display()),
            Self::OnPath(path) => write!(f, "{} on PATH", path.display()),
            Self::Package => write!(f, "apt-get install {PACKAGE}"),
        }
    }
}

impl Surroundings {
    /// Looks around on this machine.
    pub fn look(workspace: &Workspace, argument: Option<PathBuf>) -> Self {
        let variable =
            env::var_os("SMMUV3_QEMU").filter(|value| !value.is_empty()).map(PathBuf::from);
        let script = workspace
            .root
            .parent()
            .map(|beside| beside.join("shared/tools/get-qemu11"))
            .filter(|script| environment::is_program(script));
        let can_install = environment::find_on_path("apt-get").is_some() && environment::is_root();
        let on_path = environment::find_on_path(PROGRAM);
        Self { argument, variable, script, on_path, can_install }
    }

    /// The places to try, best first.
    ///
    /// What a person named is the only one. The script's build comes before the one on PATH, since
    /// it can have two SMMUs in one machine. A package is installed only where there is no QEMU.
    pub fn sources(&self) -> Vec<Source> {
        if let Some(path) = &self.argument {
            return vec![Source::Argument(path.clone())];
        }
        if let Some(path) = &self.variable {
            return vec![Source::Variable(path.clone())];
        }
        let mut sources = Vec::new();
        sources.extend(self.script.clone().map(Source::Script));
        sources.extend(self.on_path.clone().map(Source::OnPath));
        if self.on_path.is_none() && self.can_install {
            sources.push(Source::Package);
        }
        sources
    }
}

/// A QEMU that runs and is new enough.
#[derive(Clone, Debug)]
pub struct Qemu {
    /// Absolute, since tests run in the folders of their packages.
    pub path: PathBuf,
    version: Version,
}

impl Qemu {
    /// Whether it has the device `iommu-testdev`.
    pub fn has_testdev(&self) -> bool {
        self.version.major >= 11
    }

    /// Whether a machine can have several SMMUs, each in front of a PCI root of its own.
    pub fn has_several_smmus(&self) -> bool {
        self.version.major >= 11
    }
}

/// Gets a QEMU from the first source that works, for the step that announces it.
///
/// Without one the verdict is skipped, or failed when one is `required` or a person named one.
pub fn obtain(
    step: &mut Step,
    workspace: &Workspace,
    surroundings: &Surroundings,
    required: bool,
) -> (Option<Qemu>, Verdict) {
    let sources = surroundings.sources();
    let mut reasons = Vec::new();
    for source in &sources {
        match obtain_from(step, workspace, source) {
            Ok(qemu) => {
                let mut summary = format!("QEMU {} from {source}", qemu.version);
                for reason in reasons {
                    summary.push_str(&format!("; not {reason}"));
                }
                return (Some(qemu), Verdict::passed(summary));
            }
            Err(error) => reasons.push(format!("{source}: {error:#}")),
        }
    }
    if reasons.is_empty() {
        reasons.push(format!("no {PROGRAM} on PATH, and no apt-get as root to install it"));
    }
    let reason = format!("no usable QEMU ({})", reasons.join("; "));
    let verdict = if required || sources.iter().any(Source::is_final) {
        Verdict::failed(format!(
            "{reason}. Install QEMU {OLDEST_MAJOR}.0 or newer (Debian: {PACKAGE}, if need be from \
             backports) or name one with --qemu PATH or SMMUV3_QEMU"
        ))
    } else {
        Verdict::skipped(format!("{reason}: the tests on QEMU are skipped"))
    };
    (None, verdict)
}

fn obtain_from(step: &mut Step, workspace: &Workspace, source: &Source) -> Result<Qemu> {
    match source {
        Source::Argument(path) | Source::Variable(path) => examine(&named(path)?),
        Source::OnPath(path) => examine(path),
        Source::Script(script) => {
            let dir = workspace.target.join("qemu11");
            let mut command = Command::new(script);
            workspace.prepare(command.arg(&dir));
            let status = step.run(&mut command)?;
            ensure!(status.success(), "{status}: {}", step.complaint());
            examine(&dir.join(PROGRAM))
        }
        Source::Package => {
            install_package(step, workspace)?;
            examine(&environment::find_on_path(PROGRAM).context("not on PATH after installing")?)
        }
    }
}

/// The program that a person named: a path from the current folder, or a name to look up on PATH.
fn named(path: &Path) -> Result<PathBuf> {
    if path.components().count() == 1 && !path.exists() {
        let name = path.to_string_lossy();
        return environment::find_on_path(&name).context("no such file, neither here nor on PATH");
    }
    Ok(std::path::absolute(path)?)
}

/// Starts the program once, to know that it runs and is new enough.
fn examine(path: &Path) -> Result<Qemu> {
    ensure!(path.exists(), "no such file");
    let output = environment::output_of(Command::new(path).arg("--version"))
        .context("`--version` fails: is it a QEMU?")?;
    let version = Version::of_program(&output).with_context(|| {
        format!("`--version` prints no QEMU version: {:?}", output.lines().next())
    })?;
    ensure!(version.major >= OLDEST_MAJOR, "QEMU {version} is older than {OLDEST_MAJOR}.0");
    Ok(Qemu { path: std::path::absolute(path)?, version })
}

/// Installs the package, from a backports suite when only that one has a version new enough.
fn install_package(step: &mut Step, workspace: &Workspace) -> Result<()> {
    let mut apt_get = |arguments: &[&str]| -> Result<()> {
        let mut command = Command::new("apt-get");
        workspace.prepare(command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive"));
        let status = step.run(&mut command)?;
        ensure!(status.success(), "apt-get: {status}: {}", step.complaint());
        Ok(())
    };
    apt_get(&["update", "--quiet"])?;
    let listed = environment::output_of(Command::new("apt-cache").args(["madison", PACKAGE]))
        .context("apt-cache fails")?;
    let Some(suite) = suite_with_new_enough(&listed) else {
        bail!("apt has no version from {OLDEST_MAJOR}.0 on");
    };
    apt_get(&["install", "--quiet", "--yes", "--no-install-recommends", "-t", &suite, PACKAGE])
}

/// The suite of the first line of `apt-cache madison` whose version is new enough.
///
/// Lines are ` package | epoch:version | mirror suite/component arch Packages`, newest first.
fn suite_with_new_enough(madison: &str) -> Option<String> {
    madison.lines().find_map(|line| {
        let mut columns = line.split('|').map(str::trim);
        let (_package, version, origin) = (columns.next()?, columns.next()?, columns.next()?);
        let upstream = version.split_once(':').map_or(version, |(_epoch, upstream)| upstream);
        if Version::parse(upstream)?.major < OLDEST_MAJOR || !origin.ends_with("Packages") {
            return None;
        }
        let (suite, _component) = origin.split_whitespace().nth(1)?.rsplit_once('/')?;
        Some(suite.to_owned())
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    major: u32,
    minor: u32,
}

impl Version {
    /// From what `--version` prints: `QEMU emulator version 11.1.3 (...)`.
    fn of_program(output: &str) -> Option<Self> {
        Self::parse(output.lines().next()?.strip_prefix("QEMU emulator version ")?)
    }

    /// From `major.minor` and anything after it.
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(|c: char| !c.is_ascii_digit());
        let major = numbers.next()?.parse().ok()?;
        let minor = numbers.next()?.parse().ok()?;
        Some(Self { major, minor })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn everything() -> Surroundings {
        Surroundings {
            argument: Some("/a/qemu".into()),
            variable: Some("/v/qemu".into()),
            script: Some("/s/get-qemu11".into()),
            on_path: Some("/p/qemu".into()),
            can_install: true,
        }
    }

    #[test]
    fn the_argument_wins_over_everything_and_nothing_replaces_it() {
        let sources = everything().sources();
        assert_eq!(sources, [Source::Argument("/a/qemu".into())]);
        assert!(sources[0].is_final());
    }

    #[test]
    fn the_variable_is_next_and_nothing_replaces_it() {
        let sources = Surroundings { argument: None, ..everything() }.sources();
        assert_eq!(sources, [Source::Variable("/v/qemu".into())]);
        assert!(sources[0].is_final());
    }

    #[test]
    fn the_script_comes_before_path_and_falls_back_on_it() {
        let sources = Surroundings { argument: None, variable: None, ..everything() }.sources();
        assert_eq!(
            sources,
            [Source::Script("/s/get-qemu11".into()), Source::OnPath("/p/qemu".into())]
        );
        assert!(!sources.iter().any(Source::is_final));
    }

    #[test]
    fn a_package_is_installed_only_where_path_has_no_qemu_and_packages_can_be_installed() {
        let bare = Surroundings::default();
        assert_eq!(bare.sources(), []);
        let root = Surroundings { can_install: true, ..bare.clone() };
        assert_eq!(root.sources(), [Source::Package]);
        let root_with_script = Surroundings { script: Some("/s".into()), ..root.clone() };
        assert_eq!(root_with_script.sources(), [Source::Script("/s".into()), Source::Package]);
        let root_with_qemu = Surroundings { on_path: Some("/p".into()), ..root };
        assert_eq!(root_with_qemu.sources(), [Source::OnPath("/p".into())]);
    }

    #[test]
    fn versions_are_read_from_what_the_program_prints() {
        let printed = "QEMU emulator version 11.1.3 (Debian 1:11.1.3+ds-1~bpo13+1)\nCopyright\n";
        assert_eq!(Version::of_program(printed), Some(Version { major: 11, minor: 1 }));
        for other in ["", "QEMU emulator version ", "QEMU emulator version x.1", "bash 5.2"] {
            assert_eq!(Version::of_program(other), None, "{other:?}");
        }
    }

    #[test]
    fn the_suite_is_the_newest_that_has_a_version_new_enough() {
        let madison = "\
 qemu-system-arm | 1:10.0.2+ds-2~bpo12+1 | http://example.org/debian bookworm-backports/main amd64 Packages
 qemu-system-arm | 1:7.2+dfsg-7+deb12u16 | http://example.org/debian bookworm/main amd64 Packages
 qemu-system-arm | 1:7.2+dfsg-7+deb12u15 | http://example.org/debian-security bookworm-security/main amd64 Packages
";
        assert_eq!(suite_with_new_enough(madison).as_deref(), Some("bookworm-backports"));
        let only_old = madison.split_once('\n').expect("several lines").1;
        assert_eq!(suite_with_new_enough(only_old), None);
        assert_eq!(suite_with_new_enough(""), None);
    }
}

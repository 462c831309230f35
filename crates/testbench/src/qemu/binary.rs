// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which program is QEMU, and what this version of it can do.

use core::fmt;
use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::fs::Access;

use super::error::QemuError;
use super::process;

/// The environment variable that names the program.
pub const VARIABLE: &str = "SMMUV3_QEMU";

/// The program's name on `PATH`.
const NAME: &str = "qemu-system-aarch64";

/// How long a program may take to say its version.
const LIMIT: Duration = Duration::from_secs(10);

/// A version of QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
    /// The third number.
    pub micro: u32,
}

impl Version {
    /// Whether its SMMUv3 is complete enough to test against.
    #[must_use]
    pub fn is_supported(self) -> bool {
        self.major >= 10
    }

    /// Whether a machine can have several SMMUs, each in front of PCI buses of its own.
    #[must_use]
    pub fn has_several_instances(self) -> bool {
        self.major >= 11
    }

    /// Whether it has `iommu-testdev`, [`super::DeviceKind::Testdev`].
    #[must_use]
    pub fn has_testdev(self) -> bool {
        self.major >= 11
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

/// Finds QEMU: the `explicit` path, else the one in `$SMMUV3_QEMU`, else `qemu-system-aarch64` on
/// `PATH`. A path that is named but wrong is an error: nothing else is taken in its place.
///
/// # Errors
/// [`QemuError::NotFound`], which says where it looked and what to install.
pub fn find(explicit: Option<&Path>) -> Result<PathBuf, QemuError> {
    find_in(explicit, env::var_os(VARIABLE).as_deref(), env::var_os("PATH").as_deref())
}

fn find_in(
    explicit: Option<&Path>,
    variable: Option<&OsStr>,
    path: Option<&OsStr>,
) -> Result<PathBuf, QemuError> {
    let named = match (explicit, variable.filter(|value| !value.is_empty())) {
        (Some(named), _) => Some((named, String::from("the path given"))),
        (None, Some(named)) => Some((Path::new(named), format!("${VARIABLE}"))),
        (None, None) => None,
    };
    if let Some((named, origin)) = named {
        if is_program(named) {
            return Ok(named.to_owned());
        }
        let looked = vec![format!("{} ({origin}) is not a program", named.display())];
        return Err(QemuError::NotFound { looked });
    }
    let found = path
        .map(|path| env::split_paths(path).map(|folder| folder.join(NAME)).collect())
        .and_then(|candidates: Vec<_>| candidates.into_iter().find(|name| is_program(name)));
    found.ok_or_else(|| QemuError::NotFound {
        looked: vec![format!("${VARIABLE} is not set"), format!("{NAME} is not on PATH")],
    })
}

fn is_program(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, Access::EXEC_OK).is_ok()
}

/// Asks `binary` for its version.
///
/// # Errors
/// [`QemuError::NotQemu`] when it cannot be run, is silent, or says something else.
pub fn version(binary: &Path) -> Result<Version, QemuError> {
    let not_qemu = |reason| QemuError::NotQemu { binary: binary.to_owned(), reason };
    let mut command = Command::new(binary);
    command.arg("--version");
    let (output, end) = process::output_of(command, LIMIT)
        .map_err(|error| not_qemu(error.to_string()))?
        .ok_or_else(|| not_qemu(format!("`--version` did not end within {LIMIT:?}")))?;
    parse(&output).ok_or_else(|| {
        let first = output.lines().next().unwrap_or_default();
        not_qemu(format!("`--version` said `{first}` ({}) {}", end.status, end.last_words))
    })
}

fn parse(output: &str) -> Option<Version> {
    let rest = output.lines().next()?.strip_prefix("QEMU emulator version ")?;
    let mut numbers = rest.split([' ', '.']).map(str::parse);
    let mut next = || numbers.next()?.ok();
    Some(Version { major: next()?, minor: next()?, micro: next().unwrap_or(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_the_first_line() {
        let text = "QEMU emulator version 11.1.3 (Debian 1:11.1.3+ds-1~bpo13+1)\nCopyright\n";
        assert_eq!(parse(text), Some(Version { major: 11, minor: 1, micro: 3 }));
        let text = "QEMU emulator version 10.0.2 (v10.0.2)";
        assert_eq!(parse(text), Some(Version { major: 10, minor: 0, micro: 2 }));
        assert_eq!(parse("GNU bash, version 5.2"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn a_named_program_that_is_missing_is_not_replaced_by_another() {
        let sh = Some(OsStr::new("/bin/sh"));
        let missing = Path::new("/nonexistent/qemu");
        let error = find_in(Some(missing), sh, Some(OsStr::new("/bin"))).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/qemu"), "{error}");
        assert!(find_in(None, Some(missing.as_os_str()), Some(OsStr::new("/bin"))).is_err());
        assert!(find_in(None, None, Some(OsStr::new("/nonexistent"))).is_err());
        assert!(find_in(None, None, None).is_err());
    }

    #[test]
    fn the_explicit_path_wins_over_the_variable() {
        let sh = Path::new("/bin/sh");
        let found = find_in(Some(sh), Some(OsStr::new("/nonexistent/qemu")), None);
        assert_eq!(found.as_deref(), Ok(sh));
        assert_eq!(find_in(None, Some(sh.as_os_str()), None).as_deref(), Ok(sh));
        assert!(find_in(Some(Path::new("/bin")), None, None).is_err(), "a folder is no program");
    }

    #[test]
    fn a_program_that_is_not_qemu_is_refused() {
        let error = version(Path::new("/bin/sh")).unwrap_err();
        assert!(matches!(error, QemuError::NotQemu { .. }), "{error}");
    }
}

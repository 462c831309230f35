// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where QEMU's SMMUv3 does otherwise than the architecture: the one list. What compares with QEMU allows for these and for
//! nothing else, each by its name. The driver works around none of them.
//!
//! `docs/qemu-deviations.md` is this list as a page.

use core::fmt;

use super::Version;

/// Something that QEMU does otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deviation {
    /// Its name.
    pub name: &'static str,
    /// Section of the reference.
    pub section: &'static str,
    /// What the architecture says.
    pub architecture: &'static str,
    /// What QEMU does.
    pub qemu: &'static str,
    /// First numbers of the versions that were measured, and do it.
    pub versions: &'static [(u32, u32)],
    /// The test that allows for it, or that shows it: a path in the repository.
    pub test: &'static str,
}

impl Deviation {
    /// Whether a version is known to do it, or was never measured: then as the newest one that was.
    #[must_use]
    pub fn holds(&self, version: Version) -> bool {
        let version = (version.major, version.minor);
        let measured = MEASURED.iter().rev().find(|measured| **measured <= version);
        measured.is_some_and(|measured| self.versions.contains(measured))
    }
}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, section, architecture, qemu, .. } = self;
        write!(f, "{name}: {qemu}, where {architecture} (§{section})")
    }
}

/// Versions that were measured, in order.
pub const MEASURED: &[(u32, u32)] = &[(10, 0), (11, 1)];

macro_rules! deviations {
    ($($(#[$meta:meta])* $constant:ident: $name:literal, $section:literal, $architecture:literal, $qemu:literal,
        $versions:expr, $test:literal;)*) => {
        $($(#[$meta])* pub const $constant: Deviation = Deviation {
            name: $name,
            section: $section,
            architecture: $architecture,
            qemu: $qemu,
            versions: $versions,
            test: $test,
        };)*
        /// All of them, in the order of sections.
        pub const DEVIATIONS: &[Deviation] = &[$($constant),*];
    };
}

deviations! {
    /// Two levels for ever.
    STICKY_LEVELS: "sticky-levels", "2.5", "with FMT = 0 the stream table is linear, whatever it was before",
        "once it has been of two levels, it is so until reset", &[(11, 1)],
        "crates/testbench/tests/qemu.rs";
    /// The overflow flag of the event queue.
    OVERFLOW_ABORTS: "overflow-aborts", "3.3", "an event that finds the queue full toggles OVFLG",
        "it is dropped with GERROR.EVENTQ_ABT_ERR, and OVFLG stays", &[(10, 0), (11, 1)],
        "crates/testbench/tests/qemu_errors.rs";
    /// Commands of what is not there.
    IGNORED_COMMANDS: "ignored-commands", "4.1", "a command of a feature that is not there is CERROR_ILL",
        "those of EL2, ATS, PRI and stalls are taken, and do nothing", &[(10, 0), (11, 1)],
        "crates/testbench/tests/qemu_errors.rs";
    /// S2AA64 = 0 ends QEMU.
    DIES_OF_S2AA64: "dies-of-s2aa64", "7.1(7c)",
        "an entry of stage 2 with a table format that is not there is C_BAD_STE",
        "QEMU ends in an assertion", &[(11, 1)],
        "crates/walk/tests/qemu.rs";
    /// An event for each word.
    EVENT_A_WORD: "event-a-word", "9", "a transaction is one event at most",
        "what a device transfers is refused in words of four bytes, an event each", &[(10, 0), (11, 1)],
        "crates/testbench/tests/runs.rs";
    /// Sizes of addresses are judged last.
    LATE_ADDRESS_SIZE: "late-address-size", "9", "F_ADDR_SIZE of a leaf comes before F_ACCESS and F_PERMISSION",
        "it comes after them", &[(11, 1)],
        "crates/walk/tests/qemu.rs";
    /// No privilege.
    NO_PRIVILEGE: "no-privilege", "10.1", "PnU tells whether an access is privileged, and permissions follow it",
        "permissions are those of privileged accesses, and PnU is 0", &[(11, 1)],
        "crates/walk/tests/qemu.rs";
    /// Permissions of stage 2 in the TLB.
    SILENT_CACHED_WRITES: "silent-cached-writes", "10.1",
        "a write that stage 2 does not permit is F_PERMISSION, whatever the TLB has",
        "where a read has filled the TLB and there is no stage 1, it is refused without an event", &[(10, 0), (11, 1)],
        "crates/testbench/tests/domains.rs";
    /// Low bits of the IPA.
    WHOLE_IPA: "whole-ipa", "10.1", "bits 11:0 of the IPA in an event are 0",
        "they are those of the address", &[(11, 1)],
        "crates/walk/tests/qemu.rs";
    /// A fault at the fetch of a context.
    CONTEXT_READS: "context-reads", "10.2", "RnW is the transaction's where stage 2 faults at the fetch of a context",
        "it is 1, the fetch's", &[(11, 1)],
        "crates/walk/tests/qemu.rs";
    /// A fault at a table of stage 1.
    TABLES_OF_STAGE_1: "tables-of-stage-1", "10.2",
        "where stage 2 faults at a table of stage 1, S2 is 1 and the IPA that of the descriptor",
        "S2 is 0, and the IPA that of the table or near it", &[(11, 1)],
        "crates/walk/tests/qemu.rs";
    /// Blocks where there are none.
    BLOCKS_ANYWHERE: "blocks-anywhere", "15.1", "a block at a level that has none is F_TRANSLATION",
        "it translates", &[(11, 1)],
        "crates/walk/tests/qemu.rs";
    /// CD.IPS 6 and 7 end QEMU.
    DIES_OF_IPS: "dies-of-ips", "15.3", "a size in CD.IPS beyond what the SMMU outputs counts as that",
        "QEMU ends in an assertion at 6 and 7", &[(10, 0), (11, 1)],
        "crates/testbench/tests/qemu.rs";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn root() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
    }

    fn read(path: &str) -> String {
        std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    #[test]
    fn names_are_unique_and_the_tests_that_are_named_name_them() {
        let mut names: Vec<&str> = DEVIATIONS.iter().map(|it| it.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DEVIATIONS.len());
        for deviation in DEVIATIONS {
            let constant = deviation.name.to_uppercase().replace('-', "_");
            let of_it = format!("deviation::{constant}");
            assert!(read(deviation.test).contains(&of_it), "{} in {}", of_it, deviation.test);
            assert!(deviation.versions.iter().all(|version| MEASURED.contains(version)));
        }
    }

    #[test]
    fn versions_between_those_that_were_measured_are_as_the_one_before() {
        let holds = |of: Deviation, major, minor| of.holds(Version { major, minor, micro: 2 });
        for (major, minor, aborts, late) in [
            (9, 2, false, false),
            (10, 0, true, false),
            (10, 2, true, false),
            (11, 1, true, true),
            (12, 0, true, true),
        ] {
            assert_eq!(holds(OVERFLOW_ABORTS, major, minor), aborts, "{major}.{minor}");
            assert_eq!(holds(LATE_ADDRESS_SIZE, major, minor), late, "{major}.{minor}");
        }
    }

    #[test]
    fn the_page_is_the_list() {
        let page = read("docs/qemu-deviations.md");
        let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
        let expected: Vec<String> = DEVIATIONS
            .iter()
            .map(|Deviation { name, section, architecture, qemu, versions, test }| {
                let versions: Vec<String> =
                    versions.iter().map(|(major, minor)| format!("{major}.{minor}")).collect();
                let versions = versions.join(", ");
                format!("| `{name}` | §{section} | {architecture} | {qemu} | {versions} | [{}](../{test}) |",
                    test.rsplit('/').next().unwrap())
            })
            .collect();
        assert_eq!(rows, expected, "the rows of docs/qemu-deviations.md");
    }
}

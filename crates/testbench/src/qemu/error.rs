// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can go wrong with QEMU, in words that say what to do.

use std::path::PathBuf;
use std::time::Duration;

use super::binary::Version;
use super::device::DeviceKind;
use super::topology::TopologyError;
use crate::ram::RamError;

/// Why QEMU could not be started, or why a request to it failed.
///
/// After [`QemuError::ends_the_run`] errors QEMU is gone, and every later request gives the same error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QemuError {
    /// No QEMU where one was looked for.
    #[error(
        "no QEMU: {}. Install one that is 10.0 or later, best 11.1 (Debian 12: apt-get install -t \
         bookworm-backports qemu-system-arm; Debian 13: qemu-system-arm, -t trixie-backports for \
         11.1), or name one with $SMMUV3_QEMU or --qemu", looked.join("; ")
    )]
    NotFound {
        /// Where it was looked for, and what was there.
        looked: Vec<String>,
    },
    /// The program runs, but it is not a QEMU, or does not even say its version.
    #[error("{} is not a usable qemu-system-aarch64: {reason}", binary.display())]
    NotQemu {
        /// The program.
        binary: PathBuf,
        /// What it did instead.
        reason: String,
    },
    /// This QEMU's SMMUv3 is too old: before 10.0 it checks no access flag and has no stage 2.
    #[error(
        "{} is QEMU {version}; 10.0 or later is needed, best 11.1 (Debian 12: apt-get install -t \
         bookworm-backports qemu-system-arm; Debian 13: qemu-system-arm, -t trixie-backports for 11.1)",
        binary.display()
    )]
    TooOld {
        /// The program.
        binary: PathBuf,
        /// Its version.
        version: Version,
    },
    /// This QEMU lacks something that the configuration asks for.
    #[error("QEMU {version} has no {what}: QEMU 11.1 has")]
    Lacks {
        /// The version that was found.
        version: Version,
        /// What it lacks.
        what: &'static str,
    },
    /// The machine that was asked for cannot be built.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// No guest RAM, or an access outside it.
    #[error(transparent)]
    Ram(#[from] RamError),
    /// The operating system refused something around the child process.
    #[error("{what}: {reason}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the operating system answered.
        reason: String,
    },
    /// QEMU ended.
    #[error("QEMU died ({status}) at `{request}`{}", quoted(last_words))]
    Died {
        /// How the process ended.
        status: String,
        /// The request that found it dead.
        request: String,
        /// The last lines of its standard error.
        last_words: String,
    },
    /// QEMU lives, but gave no answer in time; it was killed.
    #[error("QEMU gave no answer to `{request}` within {waited:?}{}", quoted(last_words))]
    Silent {
        /// The request without an answer.
        request: String,
        /// How long was waited.
        waited: Duration,
        /// The last lines of its standard error.
        last_words: String,
    },
    /// QEMU answered something that the protocol does not have; it was killed.
    #[error("QEMU answered `{reply}` to `{request}`")]
    Protocol {
        /// The request.
        request: String,
        /// The answer.
        reply: String,
    },
    /// [`super::Qemu`] was dropped while a handle to it was still in use.
    #[error("QEMU was stopped: its machine was dropped")]
    Stopped,
    /// There is no such instance.
    #[error("no SMMU instance {instance}: there are {count}")]
    NoInstance {
        /// The index that was asked for.
        instance: usize,
        /// How many there are.
        count: usize,
    },
    /// There is no such master.
    #[error("no master {master}: there are {count}")]
    NoMaster {
        /// The index that was asked for.
        master: usize,
        /// How many there are.
        count: usize,
    },
    /// A register access that is outside the two 64 KiB pages, or not aligned to its size.
    #[error("no {bits}-bit register at offset {offset:#x} of instance {instance}")]
    NoRegister {
        /// The instance.
        instance: usize,
        /// The offset in bytes.
        offset: u32,
        /// The size of the access in bits.
        bits: u32,
    },
    /// This kind of device cannot do that.
    #[error("master {master} is {kind} and cannot {what}")]
    CannotDo {
        /// The master.
        master: usize,
        /// What it is.
        kind: DeviceKind,
        /// What it cannot do.
        what: &'static str,
    },
    /// The device behind a master did not show up, or behaved unlike itself; QEMU was killed.
    #[error("master {master} ({kind}): {what}")]
    Device {
        /// The master.
        master: usize,
        /// What it is.
        kind: DeviceKind,
        /// What happened.
        what: String,
    },
}

impl QemuError {
    /// Whether QEMU is gone, so that every later request gives this error too.
    #[must_use]
    pub fn ends_the_run(&self) -> bool {
        match self {
            Self::Died { .. }
            | Self::Silent { .. }
            | Self::Protocol { .. }
            | Self::Device { .. }
            | Self::Stopped => true,
            Self::NotFound { .. }
            | Self::NotQemu { .. }
            | Self::TooOld { .. }
            | Self::Lacks { .. }
            | Self::Topology(_)
            | Self::Ram(_)
            | Self::System { .. }
            | Self::NoInstance { .. }
            | Self::NoMaster { .. }
            | Self::NoRegister { .. }
            | Self::CannotDo { .. } => false,
        }
    }

    /// Whether the reason is that this machine has no QEMU that is new enough: a test may be skipped then.
    #[must_use]
    pub fn is_missing_qemu(&self) -> bool {
        matches!(self, Self::NotFound { .. } | Self::TooOld { .. } | Self::Lacks { .. })
    }
}

fn quoted(last_words: &str) -> String {
    if last_words.is_empty() {
        String::from(", saying nothing")
    } else {
        format!(", saying:\n{last_words}")
    }
}

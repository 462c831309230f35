// SPDX-License-Identifier: MIT OR Apache-2.0
//! Causes of errors of the SMMU itself.

use super::super::queue::Stuck;
use super::Cause;

const POWER: &str = "Check the SMMU's power domain and clocks, and runtime power management of \
    what shares them; read CR0 and CR0ACK.";
const ENDPOINT: &str = "Find the device that does not answer: which one was reset, removed or \
    hung just before; look for AER and hotplug messages. Turn its ATS off (pci=noats) to \
    confirm.";

/// Causes of a CMD_SYNC that did not complete. `atc`: the line of an ATC invalidation that was not answered; `ats`:
/// whether the SMMU has ATS, where the log says.
pub fn sync_timeout(
    stuck: Option<Stuck>,
    unbound: bool,
    atc: Option<u64>,
    ats: Option<bool>,
) -> Vec<Cause> {
    let mut causes = Vec::new();
    if unbound {
        causes.push(Cause::likely(
            "driver-unbound",
            "the message names the bus (platform), not the driver: no driver is bound to the \
             SMMU any more, yet it is given commands",
            "Do not unbind an SMMU's driver while its devices do DMA; reboot.",
        ));
    }
    let hung = |why: &str| Cause::likely("hung-endpoint", why, ENDPOINT);
    match stuck {
        Some(Stuck::Never) => causes.push(Cause::likely(
            "smmu-unpowered",
            "CONS never moved: the SMMU has no clock or power, or was reset and not set up again",
            POWER,
        )),
        Some(Stuck::Gone) => causes.push(Cause::certain(
            "smmu-unpowered",
            "its registers read as ones: the SMMU, or the bus to it, is off",
            POWER,
        )),
        Some(Stuck::Error(3)) => causes.push(hung(
            "CONS.ERR is CERROR_ATC_INV_SYNC: a device did \
            not answer an ATC invalidation",
        )),
        Some(Stuck::Error(1)) => causes.push(Cause::likely(
            "illegal-command",
            "CONS.ERR is CERROR_ILL: the queue stopped at a command that the SMMU refuses",
            "Look for the command error in the log; the command's words are printed behind it.",
        )),
        Some(Stuck::Error(_)) => causes.push(Cause::likely(
            "memory-not-accessible",
            "CONS.ERR says that commands could not be fetched",
            "Check that the SMMU may read the memory of its command queue.",
        )),
        Some(Stuck::AtSync) => {
            if ats == Some(false) {
                causes.push(Cause::likely(
                    "walk-unanswered",
                    "the SMMU waits at the CMD_SYNC for earlier commands, and has no ATS: a walk that \
                     memory does not answer, or transactions that do not end",
                    "Look for a device or a bus that hangs: transactions that used what is invalidated \
                     must end first.",
                ));
            } else {
                causes.push(hung(
                    "the SMMU waits at the CMD_SYNC for earlier commands: an ATC invalidation that a \
                     device does not answer, or a walk that memory does not answer",
                ));
            }
            causes.push(Cause::possible(
                "slow-invalidation",
                "or very many invalidations are under way",
                "See whether it comes only under load; update to a kernel with range invalidation.",
            ));
        }
        Some(Stuck::Inconsistent) => causes.push(Cause::likely(
            "smmu-reset",
            "PROD and CONS contradict each other: the SMMU was reset behind the driver's back, \
             or woke up from power-down without being set up again",
            POWER,
        )),
        Some(Stuck::Unseen) => causes.push(Cause::possible(
            "completion-unseen",
            "all commands were consumed: they took longer than the driver waits (1 s), or the \
             completion's MSI did not arrive",
            "If it repeats, boot with arm-smmu-v3.disable_msipolling=1 to see whether the MSI is \
             at fault.",
        )),
        Some(Stuck::Before) | None => {
            causes.push(Cause::possible(
                "hung-endpoint",
                "the SMMU waits for an earlier command: an ATC invalidation that a device does not answer",
                ENDPOINT,
            ));
            causes.push(Cause::possible(
                "smmu-unpowered",
                "or the SMMU stopped: clock or power are gone",
                POWER,
            ));
        }
    }
    if let Some(line) = atc {
        causes.insert(
            0,
            hung(&format!(
                "an ATC invalidation timed out before (line {line}), and \
            the CMD_SYNC is run again each time"
            )),
        );
    }
    super::once(causes)
}

/// Causes of a command queue that stayed full.
pub fn queue_timeout() -> Vec<Cause> {
    vec![
        Cause::likely(
            "command-queue-stuck",
            "the command queue stayed full for a second: the SMMU consumes nothing",
            "Look for the first CMD_SYNC timeout or command error before this.",
        ),
        Cause::possible("smmu-unpowered", "the SMMU may have no clock or power", POWER),
    ]
}

/// Causes of a command error by its code.
pub fn command_error(code: Option<u32>) -> Vec<Cause> {
    match code {
        Some(1) => vec![
            Cause::likely(
                "illegal-command",
                "the SMMU does not know the command, or an operand is illegal: a feature that \
                 this SMMU lacks, a driver's bug, or words that were not yet in memory when they \
                 were fetched",
                "Decode the command that is skipped (its words follow), and compare it with the \
                 SMMU's features.",
            ),
            Cause::possible(
                "not-coherent",
                "if the words in the log look right, the SMMU may have read old memory: it does \
                 not snoop, and firmware says it does",
                "Check dma-coherent (device tree) or the COHACC override (IORT).",
            ),
        ],
        Some(2) => vec![Cause::likely(
            "memory-not-accessible",
            "the bus aborted the SMMU's read of its command queue",
            "Check the queue's address against the memory map, and that protection units let the \
             SMMU's own master through.",
        )],
        Some(3) => vec![Cause::likely(
            "hung-endpoint",
            "a device did not answer an ATC invalidation; which one is not recorded. Its cached \
             translations may be stale",
            ENDPOINT,
        )],
        Some(0) => vec![Cause::possible(
            "spurious-error",
            "the error is signalled but none is recorded: it was handled before, or the register \
             was read too late",
            "Nothing, unless it repeats.",
        )],
        _ => vec![Cause::possible(
            "unknown-error",
            "the architecture has no such error code",
            "Check that the register's value is real: all ones means that nothing answers.",
        )],
    }
}

/// Causes of global errors.
pub fn gerror(value: u32) -> Vec<Cause> {
    let mut causes = Vec::new();
    let has = |bit: u32| value >> bit & 1 == 1;
    if value == u32::MAX {
        return vec![Cause::likely(
            "smmu-unpowered",
            "GERROR reads as all ones: the SMMU, or the bus to it, is off",
            POWER,
        )];
    }
    if has(8) {
        causes.push(Cause::certain(
            "service-failure",
            "the SMMU found an error in itself and stopped translating",
            "Reset the machine; if it repeats, the hardware (ECC of its caches) is suspect.",
        ));
    }
    if has(2) || has(3) {
        causes.push(Cause::likely(
            "memory-not-accessible",
            "the bus aborted the SMMU's write to its own queue; QEMU also raises EVENTQ_ABT_ERR \
             when the queue is full",
            "Check the queue's address against the memory map, and that protection units let the \
             SMMU's own master through.",
        ));
    }
    if (4..=7).any(has) {
        causes.push(Cause::likely(
            "msi-doorbell",
            "the bus aborted the SMMU's own interrupt message: the doorbell's address is wrong \
             or not reachable for it",
            "Check msi-parent or IORT's device ID mapping of the SMMU; firmware without one must \
             leave MSIs off.",
        ));
    }
    if has(0) {
        causes.push(Cause::certain(
            "command-queue-stopped",
            "the SMMU stopped at a command",
            "Look at the command queue's error, which follows.",
        ));
    }
    if has(9) || has(10) {
        causes.push(Cause::possible(
            "unknown-error",
            "an enhanced command queue or the device permission table reports an error",
            "Read the registers of that part.",
        ));
    }
    causes
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Queues in trouble: the indices of a timeout, the error of a command, global errors, page requests.

use memchr::memmem;

use super::number::{decimal, leading};

/// Bits of GERROR (§2.4): the name, what it means, and what Linux says of it.
pub const GERROR: [(u32, &str, &str, &str); 10] = [
    (0, "CMDQ_ERR", "the command queue stopped at a command", ""),
    (
        2,
        "EVENTQ_ABT_ERR",
        "writing the event queue was aborted: events are lost",
        "EVTQ write aborted",
    ),
    (
        3,
        "PRIQ_ABT_ERR",
        "writing the PRI queue was aborted: page requests are lost",
        "PRIQ write aborted",
    ),
    (4, "MSI_CMDQ_ABT_ERR", "the MSI of a CMD_SYNC was aborted", "CMDQ MSI write aborted"),
    (5, "MSI_EVENTQ_ABT_ERR", "the MSI of the event queue was aborted", "EVTQ MSI write aborted"),
    (6, "MSI_PRIQ_ABT_ERR", "the MSI of the PRI queue was aborted", "PRIQ MSI write aborted"),
    (7, "MSI_GERROR_ABT_ERR", "the MSI of global errors was aborted", "GERROR MSI write aborted"),
    (
        8,
        "SFM_ERR",
        "service failure mode: the SMMU stopped translating until it is reset",
        "device has entered Service Failure Mode",
    ),
    (9, "CMDQP_ERR", "an enhanced command queue stopped", ""),
    (10, "DPT_ERR", "a fault of the device permission table", ""),
];

/// The bit of GERROR that Linux says in words.
pub fn gerror_bit(text: &[u8]) -> Option<u32> {
    let said = |said: &str| !said.is_empty() && memmem::find(text, said.as_bytes()).is_some();
    GERROR.iter().find(|row| said(row.3)).map(|row| 1 << row.0)
}

/// Names of the bits that are set.
pub fn gerror_names(value: u32) -> Vec<String> {
    let name = |bit: u32| {
        let row = GERROR.iter().find(|row| row.0 == bit);
        row.map_or(format!("BIT_{bit}"), |row| row.1.to_owned())
    };
    (0..32).filter(|bit| value >> bit & 1 == 1).map(name).collect()
}

/// CMDQ_CONS.ERR (§3.2): the name, and what it means.
pub fn command_error(code: u32) -> (&'static str, &'static str) {
    match code {
        0 => ("CERROR_NONE", "no error is recorded"),
        1 => ("CERROR_ILL", "the command is illegal or not supported"),
        2 => ("CERROR_ABT", "the command could not be fetched"),
        3 => ("CERROR_ATC_INV_SYNC", "a device did not answer an ATC invalidation in time"),
        _ => ("reserved", "the architecture has no such error"),
    }
}

/// What the indices of a CMD_SYNC that did not complete say (§3.1, §3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// In words.
    pub text: String,
    /// The kind.
    pub stuck: Stuck,
}

/// Why commands are not consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stuck {
    /// A command was refused.
    Error(u32),
    /// Nothing was ever consumed.
    Never,
    /// Registers read as ones.
    Gone,
    /// All is consumed, but completion was not seen.
    Unseen,
    /// At the CMD_SYNC itself.
    AtSync,
    /// Before it.
    Before,
    /// The indices contradict each other.
    Inconsistent,
}

/// A diagnosis of a timeout at index `at`. `size_log2` of the queue where it is known, else it is taken from the
/// indices as far as they say.
pub fn diagnose(at: u32, prod: u32, cons: u32, size_log2: Option<u32>) -> Diagnosis {
    let say = |stuck, text: String| Diagnosis { text, stuck };
    if prod == u32::MAX || cons == u32::MAX {
        let text = "the registers read as all ones: nothing answers there, the SMMU is without \
            power or clock";
        return say(Stuck::Gone, text.to_owned());
    }
    let error = cons >> 24 & 0x7f;
    let (prod, cons, at) = (prod & 0xf_ffff, cons & 0xf_ffff, at & 0xf_ffff);
    if error != 0 {
        let (name, meaning) = command_error(error);
        return say(
            Stuck::Error(error),
            format!(
                "CONS.ERR is {name} ({meaning}): consumption stopped at index {cons:#x}, if the \
                 error is still active"
            ),
        );
    }
    if cons == 0 && at > 1 {
        let left =
            if prod == at { "PROD is where the driver left it" } else { "PROD moved on since" };
        return say(
            Stuck::Never,
            format!(
                "CONS is still 0 and {left}: no command was ever consumed, or the SMMU was reset since. CMDQEN is off, \
                 the SMMU is without clock, or CMDQ_BASE is wrong"
            ),
        );
    }
    if let Some(size) = size_log2.filter(|size| *size < 20) {
        let mask = (1 << (size + 1)) - 1;
        let used = prod.wrapping_sub(cons) & mask;
        if used > 1 << size {
            let text = format!(
                "PROD and CONS are {used} commands apart in a queue of {}: these indices contradict each other, as after \
                 a reset or a corrupted register",
                1_u32 << size
            );
            return say(Stuck::Inconsistent, text);
        }
    }
    // The index that is printed is that of the CMD_SYNC's slot, or the one behind it, by kernel.
    if cons == prod {
        return say(
            Stuck::Unseen,
            "CONS reached PROD: everything was consumed, but too late, or its completion (an MSI, or the read of CONS) \
             was not seen"
                .to_owned(),
        );
    }
    let index = size_log2.map_or(0xf_ffff, |size| (1_u32 << size.min(19)) - 1);
    if cons & index == at & index || (cons + 1) & index == at & index {
        let wrap = if cons & index == at & index && cons != at {
            ", on the other lap (wrap bit)"
        } else {
            ""
        };
        return say(
            Stuck::AtSync,
            format!(
                "CONS is at the CMD_SYNC{wrap}: earlier commands were consumed, and the SMMU waits for one of them to \
                 complete"
            ),
        );
    }
    say(
        Stuck::Before,
        format!(
            "CONS {cons:#x} is before the CMD_SYNC at {at:#x}: the SMMU consumes, but slowly, or it waits at an earlier \
             CMD_SYNC"
        ),
    )
}

/// The fields of a page request, as Linux prints them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// StreamID.
    pub sid: u64,
    /// SubstreamID.
    pub ssid: u64,
    /// Group.
    pub group: u64,
    /// Last of its group.
    pub last: bool,
    /// Privileged.
    pub privileged: bool,
    /// Read, write, execute.
    pub access: [bool; 3],
    /// The page.
    pub iova: u64,
}

impl Request {
    /// From `sid 0x00000100.0x00001: [5L] unprivileged RW access at iova 0x0000000000001000`.
    pub fn read(text: &[u8]) -> Option<Self> {
        let start = memmem::find(text, b"sid 0x")?;
        let (sid, rest) = leading(text.get(start + 4..)?)?;
        let (ssid, rest) = leading(rest.strip_prefix(b".")?)?;
        let (group, rest) = decimal(rest.strip_prefix(b": [")?)?;
        let last = rest.starts_with(b"L");
        let rest = rest.get(usize::from(last)..)?.strip_prefix(b"] ")?;
        let privileged = !rest.starts_with(b"un");
        let rights = rest.get(memmem::find(rest, b"privileged ")? + 11..)?;
        let length = memchr::memchr(b' ', rights)?;
        let rights = rights.get(..length)?;
        let at = memmem::find(rest, b"iova ")?;
        Some(Self {
            sid,
            ssid,
            group,
            last,
            privileged,
            access: [b'R', b'W', b'X'].map(|right| rights.contains(&right)),
            iova: leading(rest.get(at + 5..)?)?.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_indices_of_a_timeout_are_diagnosed() {
        let stuck = |at, prod, cons, size| diagnose(at, prod, cons, size).stuck;
        // After the driver was unbound (log samples, S20).
        assert_eq!(stuck(0x146, 0x146, 0, None), Stuck::Never);
        assert_eq!(stuck(0xb1b7, 0xb1c0, 0xb1b7, Some(16)), Stuck::AtSync);
        assert_eq!(stuck(0xb1b7, 0xb1c0, 0x0300_b1b7, Some(16)), Stuck::Error(3));
        assert_eq!(stuck(0x10, 0x10, 0x10, None), Stuck::Unseen);
        assert_eq!(stuck(0x100, 0x110, 0x80, Some(8)), Stuck::Before);
        // 16 entries: 31 apart cannot be.
        assert_eq!(stuck(0x1f, 0x1f, 0x10, Some(4)), Stuck::Before);
        assert_eq!(stuck(0x0f, 0x0f, 0x10, Some(4)), Stuck::Inconsistent);
        assert_eq!(stuck(1, u32::MAX, u32::MAX, None), Stuck::Gone);
        // Index 4 on both laps of a queue of 16.
        let lap = diagnose(0x14, 0x15, 0x04, Some(4));
        assert_eq!(lap.stuck, Stuck::Inconsistent);
    }

    #[test]
    fn a_page_request_is_read() {
        let text =
            b"\tsid 0x00000100.0x00001: [5L] unprivileged RW access at iova 0x0000000012345000";
        let request = Request::read(text).unwrap();
        assert_eq!((request.sid, request.ssid, request.group, request.last), (0x100, 1, 5, true));
        assert_eq!((request.privileged, request.access), (false, [true, true, false]));
        assert_eq!(request.iova, 0x1234_5000);
    }
}

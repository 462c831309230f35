// SPDX-License-Identifier: MIT OR Apache-2.0
//! QEMU's qtest protocol: one line asks, one line answers, over a socket that the child inherited.

use core::fmt::Write as _;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::error::QemuError;
use super::process::{End, Process};

/// The longest answer that makes sense, in bytes.
const LONGEST_REPLY: usize = 4096;

/// A QEMU process and the socket to it. The first failure ends the process and is kept: every
/// later request gives it again.
pub(super) struct Qtest {
    socket: UnixStream,
    process: Process,
    deadline: Duration,
    failure: Option<QemuError>,
    /// What was received beyond the last reply.
    inbox: Vec<u8>,
    /// The request being made; kept to save an allocation.
    request: String,
    /// How often each input of the device that is intercepted was raised.
    raised: BTreeMap<u32, u64>,
}

impl Qtest {
    pub(super) fn new(
        socket: UnixStream,
        process: Process,
        deadline: Duration,
    ) -> Result<Self, QemuError> {
        let timeout = Some(deadline.max(Duration::from_millis(1)));
        for set in [socket.set_read_timeout(timeout), socket.set_write_timeout(timeout)] {
            set.map_err(|error| QemuError::System {
                what: "setting the deadline of QEMU's socket",
                reason: error.to_string(),
            })?;
        }
        let (inbox, request, raised) = (Vec::new(), String::new(), BTreeMap::new());
        Ok(Self { socket, process, deadline, failure: None, inbox, request, raised })
    }

    pub(super) fn process_id(&self) -> u32 {
        self.process.id()
    }

    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    pub(super) fn failure(&self) -> Option<&QemuError> {
        self.failure.as_ref()
    }

    pub(super) fn readl(&mut self, address: u64) -> Result<u32, QemuError> {
        let value = self.request(format_args!("readl {address:#x}"))?;
        // A 32-bit read answers 32 bits; QEMU prints them as a 64-bit number.
        Ok(value as u32)
    }

    pub(super) fn readq(&mut self, address: u64) -> Result<u64, QemuError> {
        self.request(format_args!("readq {address:#x}"))
    }

    pub(super) fn writel(&mut self, address: u64, value: u32) -> Result<(), QemuError> {
        self.request(format_args!("writel {address:#x} {value:#x}")).map(drop)
    }

    pub(super) fn writeq(&mut self, address: u64, value: u64) -> Result<(), QemuError> {
        self.request(format_args!("writeq {address:#x} {value:#x}")).map(drop)
    }

    /// Lets virtual time pass; QEMU must run with the qtest accelerator.
    pub(super) fn clock_step(&mut self, nanoseconds: u64) -> Result<(), QemuError> {
        self.request(format_args!("clock_step {nanoseconds}")).map(drop)
    }

    /// Reports from here on what raises an input of the device at `path` in QEMU's tree of objects, in place of letting the
    /// device have it: once for a machine.
    pub(super) fn intercept_inputs(&mut self, path: &str) -> Result<(), QemuError> {
        self.request(format_args!("irq_intercept_in {path}")).map(drop)
    }

    /// How often `input` was raised, of the device that is intercepted.
    pub(super) fn raised(&self, input: u32) -> u64 {
        self.raised.get(&input).copied().unwrap_or(0)
    }

    /// Makes one request and gives the number in the answer, 0 when there is none.
    fn request(&mut self, request: core::fmt::Arguments<'_>) -> Result<u64, QemuError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        self.request.clear();
        // Writing to a `String` cannot fail.
        let _ = writeln!(self.request, "{request}");
        if let Err(error) = self.socket.write_all(self.request.as_bytes()) {
            return Err(self.lost(&error));
        }
        let reply = self.reply()?;
        let mut words = reply.split_ascii_whitespace();
        let value = match (words.next(), words.next()) {
            (Some("OK"), None) => Some(0),
            (Some("OK"), Some(number)) => parse_number(number),
            _ => None,
        };
        value.ok_or_else(|| {
            let request = self.asked();
            self.fail(|_| QemuError::Protocol { request, reply })
        })
    }

    /// The next line that is an answer; interrupt reports may come before it.
    fn reply(&mut self) -> Result<String, QemuError> {
        let started = Instant::now();
        let mut chunk = [0; 256];
        loop {
            while let Some(end) = self.inbox.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.inbox.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line).trim().to_owned();
                let Some(report) = line.strip_prefix("IRQ ") else { return Ok(line) };
                if let Some(Ok(input)) = report.strip_prefix("raise ").map(str::parse) {
                    *self.raised.entry(input).or_default() += 1;
                }
            }
            if self.inbox.len() > LONGEST_REPLY {
                let reply = String::from_utf8_lossy(&self.inbox).into_owned();
                let request = self.asked();
                return Err(self.fail(|_| QemuError::Protocol { request, reply }));
            }
            // The socket's own timeout starts anew with each read: QEMU that dribbles is silent too.
            if started.elapsed() > self.deadline {
                return Err(self.lost(&ErrorKind::TimedOut.into()));
            }
            match self.socket.read(&mut chunk) {
                Ok(0) => return Err(self.lost(&ErrorKind::UnexpectedEof.into())),
                // `count` is at most the chunk's length.
                Ok(count) => self.inbox.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.lost(&error)),
            }
        }
    }

    /// Ends QEMU and keeps why, unless an earlier failure is already known. Gives what is kept.
    pub(super) fn fail(&mut self, why: impl FnOnce(End) -> QemuError) -> QemuError {
        let end = self.process.stop();
        self.failure.get_or_insert_with(|| why(end)).clone()
    }

    /// The failure that an error of the socket means.
    fn lost(&mut self, error: &std::io::Error) -> QemuError {
        let (request, waited) = (self.asked(), self.deadline);
        let silent = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
        self.fail(|End { status, last_words }| match silent {
            true => QemuError::Silent { request, waited, last_words },
            false => QemuError::Died { status, request, last_words },
        })
    }

    fn asked(&self) -> String {
        self.request.trim().to_owned()
    }
}

/// `0x…` is hexadecimal, the rest decimal (`clock_step` answers so).
fn parse_number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// A client whose QEMU is a process that does nothing, and the other end of its socket.
    fn client(deadline: Duration) -> (Qtest, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut command = Command::new("/bin/sleep");
        command.arg("600");
        let process = Process::spawn(command, vec![]).unwrap();
        (Qtest::new(ours, process, deadline).unwrap(), theirs)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_request_is_a_line_and_its_answer_a_number() {
        let (mut qtest, mut qemu) = client(LONG);
        qemu.write_all(b"IRQ raise 4\nIRQ lower 4\nOK 0x00000000d44101b\nOK\nOK 100\n").unwrap();
        assert_eq!(qtest.raised(4), 0);
        assert_eq!(qtest.readl(0x0c00_0000), Ok(0x0d44_101b));
        assert_eq!((qtest.raised(4), qtest.raised(5)), (1, 0));
        assert_eq!(qtest.writeq(0x10, u64::MAX), Ok(()));
        assert_eq!(qtest.clock_step(100), Ok(()));
        let mut seen = [0; 256];
        let count = qemu.read(&mut seen).unwrap();
        let expected = "readl 0xc000000\nwriteq 0x10 0xffffffffffffffff\nclock_step 100\n";
        assert_eq!(std::str::from_utf8(&seen[..count]).unwrap(), expected);
    }

    #[test]
    fn silence_is_an_error_and_stays_one() {
        let (mut qtest, qemu) = client(Duration::from_millis(20));
        let first = qtest.readl(0x10).unwrap_err();
        assert!(matches!(&first, QemuError::Silent { request, .. } if request == "readl 0x10"));
        assert_eq!(qtest.writel(0x20, 1), Err(first));
        drop(qemu);
    }

    #[test]
    fn a_closed_socket_is_a_death() {
        let (mut qtest, qemu) = client(LONG);
        drop(qemu);
        let error = qtest.readq(0x10).unwrap_err();
        assert!(matches!(error, QemuError::Died { .. }), "{error}");
        assert_eq!(qtest.failure(), Some(&error));
    }

    #[test]
    fn a_refused_request_is_an_error_that_quotes_both() {
        let (mut qtest, mut qemu) = client(LONG);
        qemu.write_all(b"FAIL Unknown command 'clock_step'\n").unwrap();
        let error = qtest.clock_step(1).unwrap_err().to_string();
        assert!(error.contains("clock_step 1") && error.contains("FAIL Unknown"), "{error}");
    }

    #[test]
    fn an_answer_without_an_end_is_refused() {
        let (mut qtest, mut qemu) = client(LONG);
        qemu.write_all(&[b'x'; 2 * LONGEST_REPLY]).unwrap();
        assert!(matches!(qtest.readl(0), Err(QemuError::Protocol { .. })));
    }
}

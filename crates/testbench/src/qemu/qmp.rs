// SPDX-License-Identifier: MIT OR Apache-2.0
//! QEMU's monitor protocol: a JSON object a line, over a socket that the child inherited. For what qtest has no requests
//! for: a reset of the whole machine, and the names of its parts.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::error::QemuError;
use super::process::End;
use super::qtest::Qtest;

/// The longest line that makes sense, in bytes.
const LONGEST_LINE: u64 = 1 << 16;

/// The socket to a QEMU's monitor.
pub(super) struct Qmp {
    socket: BufReader<UnixStream>,
    deadline: Duration,
    /// QEMU has been told that we understand it, before which it takes no commands.
    greeted: bool,
}

/// Why there was no answer.
enum Lost {
    Silent,
    Ended,
    Odd(String),
}

impl Qmp {
    pub(super) fn new(socket: UnixStream, deadline: Duration) -> std::io::Result<Self> {
        let timeout = Some(deadline.max(Duration::from_millis(1)));
        socket.set_read_timeout(timeout)?;
        socket.set_write_timeout(timeout)?;
        Ok(Self { socket: BufReader::new(socket), deadline, greeted: false })
    }

    /// Resets the machine, and waits until it has been. What goes wrong ends QEMU: `qtest` has its process.
    pub(super) fn reset(&mut self, qtest: &mut Qtest) -> Result<(), QemuError> {
        self.greet(qtest)?;
        let reset = json!({"execute": "system_reset"});
        self.request(qtest, &reset, |line| line["event"] == "RESET").map(drop)
    }

    /// The path of the interrupt controller in QEMU's tree of objects; `None` where none has such a type.
    pub(super) fn interrupt_controller(
        &mut self,
        qtest: &mut Qtest,
    ) -> Result<Option<String>, QemuError> {
        self.greet(qtest)?;
        for parent in ["/machine", "/machine/unattached"] {
            let list = json!({"execute": "qom-list", "arguments": {"path": parent}});
            let answer = self.request(qtest, &list, |line| line.get("return").is_some())?;
            for child in answer["return"].as_array().into_iter().flatten() {
                let is_one = ["child<arm_gic>", "child<arm-gicv3>"]
                    .contains(&child["type"].as_str().unwrap_or(""));
                if let (true, Some(name)) = (is_one, child["name"].as_str()) {
                    return Ok(Some(format!("{parent}/{name}")));
                }
            }
        }
        Ok(None)
    }

    /// Says that we understand it, before which it takes no commands.
    fn greet(&mut self, qtest: &mut Qtest) -> Result<(), QemuError> {
        if !self.greeted {
            let hello = json!({"execute": "qmp_capabilities"});
            self.request(qtest, &hello, |line| line.get("return").is_some())?;
            self.greeted = true;
        }
        Ok(())
    }

    /// Gives a command and reads until a line `is_last`, which is returned.
    fn request(
        &mut self,
        qtest: &mut Qtest,
        command: &Value,
        is_last: impl Fn(&Value) -> bool,
    ) -> Result<Value, QemuError> {
        if let Some(failure) = qtest.failure() {
            return Err(failure.clone());
        }
        let lost = match self.ask(command, is_last) {
            Ok(line) => return Ok(line),
            Err(lost) => lost,
        };
        let (request, waited) = (command.to_string(), self.deadline);
        Err(qtest.fail(|End { status, last_words }| match lost {
            Lost::Silent => QemuError::Silent { request, waited, last_words },
            Lost::Ended => QemuError::Died { status, request, last_words },
            Lost::Odd(reply) => QemuError::Protocol { request, reply },
        }))
    }

    fn ask(&mut self, command: &Value, is_last: impl Fn(&Value) -> bool) -> Result<Value, Lost> {
        let line = format!("{command}\n");
        self.socket.get_mut().write_all(line.as_bytes()).map_err(|_| Lost::Ended)?;
        let started = Instant::now();
        loop {
            if started.elapsed() > self.deadline {
                return Err(Lost::Silent);
            }
            let mut line = String::new();
            match self.socket.by_ref().take(LONGEST_LINE).read_line(&mut line) {
                Ok(0) => return Err(Lost::Ended),
                Ok(_) => {}
                Err(error) => {
                    use std::io::ErrorKind::{TimedOut, WouldBlock};
                    let silent = matches!(error.kind(), WouldBlock | TimedOut);
                    return Err(if silent { Lost::Silent } else { Lost::Ended });
                }
            }
            // The greeting, other events, and what is returned for a command that ends with an event are passed over.
            match serde_json::from_str::<Value>(&line) {
                Ok(value) if value.get("error").is_some() => return Err(Lost::Odd(line)),
                Ok(value) if is_last(&value) => return Ok(value),
                Ok(_) => {}
                Err(_) => return Err(Lost::Odd(line)),
            }
        }
    }
}

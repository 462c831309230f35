// SPDX-License-Identifier: MIT OR Apache-2.0
//! Records that are not events, from what a line says.

use smmuv3_formats::{Command, Opcode};

use super::assembly::Open;
use super::cause::{self, Cause};
use super::number::words;
use super::probe::Probe;
use super::queue;
use super::record::{Detail, Fields, Hex, Kind, Record, Value};

/// How a record of one line is made.
pub type Make<'a> = dyn Fn(Kind, &str, bool, Detail, Vec<Cause>) -> Record + 'a;

/// Global errors.
pub fn gerror(value: u32, record: &Make<'_>) -> Record {
    let set = queue::gerror_names(value);
    let meaning: Vec<&str> =
        queue::GERROR.iter().filter(|row| value >> row.0 & 1 == 1).map(|row| row.2).collect();
    let name = if set.is_empty() { "none".to_owned() } else { set.join(" ") };
    let detail = Detail::Gerror { value: Hex::register(value), set, meaning: meaning.join("; ") };
    record(Kind::Gerror, &name, true, detail, cause::gerror(value))
}

/// An output queue that was full.
pub fn overflow(name: &str, record: &Make<'_>) -> Record {
    let (meaning, causes) = if name == "PRIQ" {
        (
            "the PRI queue was full: page requests are lost, devices get an automatic answer",
            vec![Cause::likely(
                "queue-overflow",
                "devices sent more page requests than the queue holds",
                "Give devices fewer page request credits than the queue has entries.",
            )],
        )
    } else {
        (
            "the event queue was full: events of terminated transactions are lost, nobody knows \
             how many; stalled ones are not",
            vec![Cause::likely(
                "queue-overflow",
                "events came faster than the driver took them out: a storm",
                "Find the stream with the most events before this, and stop its device.",
            )],
        )
    };
    record(Kind::Overflow, name, true, Detail::Overflow { meaning: meaning.to_owned() }, causes)
}

/// Why the kernel keeps back messages.
pub fn suppressed() -> Vec<Cause> {
    vec![Cause::likely(
        "suppressed",
        "messages of one kind came faster than the kernel prints them",
        "The first of them tells most: look at what stands before this.",
    )]
}

/// A page request.
pub fn page_request(request: &queue::Request, record: &Make<'_>) -> Record {
    let [read, write, execute] = request.access;
    let hex = |value| Value::Hex(Hex::short(value));
    let fields = [
        ("sid", hex(request.sid)),
        ("ssid", hex(request.ssid)),
        ("prgindex", Value::Number(request.group)),
        ("last", Value::Bool(request.last)),
        ("priv", Value::Bool(request.privileged)),
        ("r", Value::Bool(read)),
        ("w", Value::Bool(write)),
        ("x", Value::Bool(execute)),
        ("addr", hex(request.iova)),
    ];
    let fields = Fields(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect());
    let cause = Cause::likely(
        "pri-not-supported",
        format!(
            "stream {:#x} asks for a page to be mapped, and the driver does not serve page \
             requests: it denies them",
            request.sid
        ),
        "Turn PRI off in the device, or pin the memory that it uses; a device that needs PRI \
         works only with a driver that serves it.",
    );
    record(Kind::PageRequest, "PPR", true, Detail::PageRequest { fields }, vec![cause])
}

/// Something that a driver says while it starts.
pub fn probe(probe: &Probe, text: &[u8], record: &Make<'_>) -> Record {
    let cause = Cause::likely(probe.id, probe.why, probe.next);
    let text = String::from_utf8_lossy(text.get(..300).unwrap_or(text)).into_owned();
    record(Kind::Probe, probe.id, probe.problem, Detail::Text { text }, vec![cause])
}

/// The command at which the queue stopped.
pub fn command(open: &Open) -> Record {
    let (words, whole) = words(&open.bytes);
    let whole = whole.min(2);
    let command = Command([words[0], words[1]]);
    let mut violations = Vec::new();
    let mut fields = Vec::new();
    if whole < 2 {
        violations.push(format!("{} of 2 words are missing: the log was cut", 2 - whole));
    } else {
        for field in command.opcode().map_or(&[][..], Opcode::fields) {
            let value = field.extract(command.0[field.word & 1]);
            let name = field.name.to_ascii_lowercase();
            let is_id = matches!(
                name.as_str(),
                "sid" | "ssid" | "asid" | "vmid" | "stag" | "opcode" | "msidata"
            );
            let value = if field.hi == field.lo {
                Value::Bool(value == 1)
            } else if field.address || is_id {
                Value::Hex(Hex::short(value))
            } else {
                Value::Number(value)
            };
            fields.push((name, value));
        }
        for (place, bits) in command.reserved_bits().into_iter().enumerate() {
            if bits != 0 && command.opcode().is_some() {
                violations.push(format!(
                    "word {place} has bits {bits:#x} set, which are reserved in {}",
                    command.name()
                ));
            }
        }
    }
    let mut causes = Vec::new();
    if whole == 2 && command.0 == [0, 0] {
        causes.push(Cause::likely(
            "not-coherent",
            "the command is all zero: the SMMU stopped at a slot that was never written, or read \
             it before it was",
            "Check the driver's order of writing commands and PROD, and dma-coherent (device \
             tree) or the COHACC override (IORT).",
        ));
    } else if whole == 2 && command.opcode().is_none() {
        causes.push(Cause::likely(
            "illegal-command",
            format!("the opcode {:#04x} is {}", command.0[0] as u8, command.name()),
            "Find who built this command; a guest's driver may use what the SMMU does not have.",
        ));
    } else if whole == 2 {
        causes.push(Cause::possible(
            "illegal-command",
            format!(
                "{} exists: the SMMU lacks what it is for, or an operand is illegal",
                command.name()
            ),
            "Compare the command with the SMMU's features (IDR0, IDR1, IDR3).",
        ));
    }
    Record {
        kind: Kind::SkippedCommand,
        name: if whole == 0 { "unknown".to_owned() } else { command.name().to_owned() },
        id: (whole > 0).then_some(words[0] as u8),
        instance: open.instance.clone(),
        line: open.line,
        count: 1,
        time: None,
        problem: true,
        detail: Detail::Command {
            words: words.iter().take(whole).map(|word| Hex::word(*word)).collect(),
            fields: Fields(fields),
            meaning: if whole == 2 { command.to_string() } else { String::new() },
        },
        violations,
        causes,
    }
}

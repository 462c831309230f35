// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writing a scenario as the file that it would be read from.

use std::fmt::{self, Write};

use super::{
    Access, Action, Device, Domain, Granules, Instance, Master, Memory, MemoryKind, PAGE, Random,
    Scenario, Step, StreamTableKind, Target, Weights,
};

/// See [`Scenario::to_toml`].
pub(super) fn scenario(scenario: &Scenario) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut text, scenario);
    text
}

fn write(out: &mut String, scenario: &Scenario) -> fmt::Result {
    writeln!(out, "name = {}", quoted(&scenario.name))?;
    if !scenario.description.is_empty() {
        writeln!(out, "description = {}", quoted(&scenario.description))?;
    }
    writeln!(out, "seed = {}", scenario.seed)?;
    scenario.instances.iter().try_for_each(|it| instance(out, it))?;
    scenario.masters.iter().try_for_each(|it| master(out, it, scenario))?;
    scenario.domains.iter().try_for_each(|it| domain(out, it))?;
    scenario.memories.iter().try_for_each(|it| memory(out, it))?;
    scenario.steps.iter().try_for_each(|it| step(out, it, scenario))
}

/// A line for `key`, unless it has its default.
fn key<T: fmt::Display + PartialEq>(
    out: &mut String,
    key: &str,
    value: T,
    default: T,
) -> fmt::Result {
    if value == default { Ok(()) } else { writeln!(out, "{key} = {value}") }
}

fn instance(out: &mut String, it: &Instance) -> fmt::Result {
    writeln!(out, "\n[[instance]]\nname = {}", quoted(&it.name))?;
    key(out, "asid-bits", it.asid_bits, 16)?;
    match (it.stage_1, it.stage_2) {
        (true, true) => {}
        (true, false) => writeln!(out, "stages = [1]")?,
        (false, _) => writeln!(out, "stages = [2]")?,
    }
    key(out, "vmid-bits", it.vmid_bits, if it.stage_2 { 16 } else { 8 })?;
    if it.granules != Granules::ALL {
        let Granules { kib_4, kib_16, kib_64 } = it.granules;
        let all = [(kib_4, "\"4K\""), (kib_16, "\"16K\""), (kib_64, "\"64K\"")];
        let names: Vec<&str> = all.iter().filter(|(has, _)| *has).map(|(_, name)| *name).collect();
        writeln!(out, "granules = [{}]", names.join(", "))?;
    }
    key(out, "oas", it.oas, 44)?;
    key(out, "sid-bits", it.sid_bits, 16)?;
    key(out, "ssid-bits", it.ssid_bits, 0)?;
    key(out, "msi", it.msi, false)?;
    key(out, "two-level-streams", it.two_level_streams, true)?;
    match it.stream_table {
        StreamTableKind::Automatic => {}
        StreamTableKind::Linear => writeln!(out, "stream-table = \"linear\"")?,
        StreamTableKind::TwoLevel => writeln!(out, "stream-table = \"two-level\"")?,
    }
    key(out, "command-queue", it.command_queue_log2, 8)?;
    key(out, "event-queue", it.event_queue_log2, 8)?;
    key(out, "range-invalidation", it.range_invalidation, true)?;
    key(out, "coherent", it.coherent, true)
}

fn master(out: &mut String, it: &Master, scenario: &Scenario) -> fmt::Result {
    writeln!(out, "\n[[master]]\nname = {}", quoted(&it.name))?;
    writeln!(out, "instance = {}", name(&scenario.instances, it.instance, |it| &it.name))?;
    let streams: Vec<String> = it.streams.iter().map(|stream| format!("{stream:#x}")).collect();
    writeln!(out, "streams = [{}]", streams.join(", "))?;
    if it.device != Device::default() {
        writeln!(out, "device = {}", quoted(it.device.name()))?;
    }
    Ok(())
}

fn domain(out: &mut String, it: &Domain) -> fmt::Result {
    writeln!(out, "\n[[domain]]\nname = {}", quoted(&it.name))?;
    key(out, "input-bits", it.input_bits, 48)
}

fn memory(out: &mut String, it: &Memory) -> fmt::Result {
    writeln!(out, "\n[[memory]]\nname = {}\nsize = {}", quoted(&it.name), bytes(it.size))?;
    if it.align != PAGE {
        writeln!(out, "align = {}", bytes(it.align))?;
    }
    match it.fill {
        Some(fill) => writeln!(out, "fill = {fill:#04x}"),
        None => Ok(()),
    }
}

fn step(out: &mut String, step: &Step, scenario: &Scenario) -> fmt::Result {
    writeln!(out, "\n[[step]]")?;
    if let Some(note) = &step.note {
        writeln!(out, "note = {}", quoted(note))?;
    }
    if let Some(number) = step.interrupt {
        writeln!(out, "interrupt = {number}")?;
    }
    let master = |index| name(&scenario.masters, index, |it: &Master| &it.name);
    let domain = |index| name(&scenario.domains, index, |it: &Domain| &it.name);
    let memory = |index| name(&scenario.memories, index, |it: &Memory| &it.name);
    let range = |index: usize, iova: u64, length: u64| {
        format!("{{ domain = {}, iova = {iova:#x}, length = {} }}", domain(index), bytes(length))
    };
    match &step.action {
        Action::Attach { master: index, domain: to } => {
            let to = match to {
                Target::Domain(index) => domain(*index),
                Target::Identity => quoted("identity"),
                Target::Blocked => quoted("blocked"),
            };
            writeln!(out, "attach = {{ master = {}, domain = {to} }}", master(*index))
        }
        Action::Detach { master: index } => {
            writeln!(out, "detach = {{ master = {} }}", master(*index))
        }
        Action::Map { domain: index, iova, memory: from, offset, length, access, kind } => {
            write!(out, "map = {{ domain = {}, iova = {iova:#x}", domain(*index))?;
            write!(out, ", memory = {}", memory(*from))?;
            if *offset != 0 {
                write!(out, ", offset = {offset:#x}")?;
            }
            write!(out, ", length = {}", bytes(*length))?;
            if *access == Access::ReadOnly {
                write!(out, ", access = \"ro\"")?;
            }
            match kind {
                MemoryKind::Normal => {}
                MemoryKind::Uncached => write!(out, ", kind = \"uncached\"")?,
                MemoryKind::Device => write!(out, ", kind = \"device\"")?,
            }
            writeln!(out, " }}")
        }
        Action::Unmap { domain, iova, length } => {
            writeln!(out, "unmap = {}", range(*domain, *iova, *length))
        }
        Action::Reclaim { domain, iova, length } => {
            writeln!(out, "reclaim = {}", range(*domain, *iova, *length))
        }
        Action::Write { master: index, iova, data: what } => {
            let (who, data) = (master(*index), data(what));
            writeln!(out, "write = {{ master = {who}, iova = {iova:#x}, data = {data} }}")
        }
        Action::Read { master: index, iova, length, expect } => {
            write!(out, "read = {{ master = {}, iova = {iova:#x}", master(*index))?;
            match expect {
                Some(expect) => writeln!(out, ", expect = {} }}", data(expect)),
                None => writeln!(out, ", length = {length} }}"),
            }
        }
        Action::ExpectFault { master: index, iova, event, .. } => {
            let (who, event) = (master(*index), quoted(event.name()));
            writeln!(out, "expect-fault = {{ master = {who}, iova = {iova:#x}, event = {event} }}")
        }
        Action::ExpectBlocked { master: index } => {
            writeln!(out, "expect-blocked = {{ master = {} }}", master(*index))
        }
        Action::ExpectData { memory: index, offset, data: what } => {
            let (what, of) = (data(what), memory(*index));
            writeln!(out, "expect-data = {{ memory = {of}, offset = {offset:#x}, data = {what} }}")
        }
        Action::Random(it) => random(out, it),
    }
}

fn random(out: &mut String, it: &Random) -> fmt::Result {
    write!(out, "random = {{ steps = {}", it.steps)?;
    if let Some(seed) = it.seed {
        write!(out, ", seed = {seed}")?;
    }
    write!(out, ", iova = {:#x}, pages = {}", it.iova, it.pages)?;
    if it.longest != Random::LONGEST {
        write!(out, ", longest = {}", it.longest)?;
    }
    if it.weights != Weights::default() {
        let Weights { map, unmap, attach, detach, identity, read, write: writes, stale, fault } =
            it.weights;
        write!(out, ", weights = {{ map = {map}, unmap = {unmap}, attach = {attach}")?;
        write!(out, ", detach = {detach}, identity = {identity}, read = {read}")?;
        write!(out, ", write = {writes}, stale = {stale}, fault = {fault} }}")?;
    }
    writeln!(out, " }}")
}

/// The name of the thing with this index; indices of a scenario are valid.
fn name<T>(things: &[T], index: usize, of: impl Fn(&T) -> &str) -> String {
    quoted(things.get(index).map_or("?", of))
}

/// A number of bytes, with a unit where that is exact.
fn bytes(number: u64) -> String {
    match number {
        number if number != 0 && number.is_multiple_of(1 << 20) => format!("\"{}M\"", number >> 20),
        number if number != 0 && number.is_multiple_of(1 << 10) => format!("\"{}K\"", number >> 10),
        number => number.to_string(),
    }
}

/// Bytes that a device moves: as a pattern where they are one.
fn data(bytes: &[u8]) -> String {
    let (words, rest) = bytes.as_chunks::<4>();
    match words.first() {
        Some(word) if rest.is_empty() && words.iter().all(|it| it == word) => {
            let (word, length) = (u32::from_le_bytes(*word), bytes.len());
            format!("{{ pattern = {word:#010x}, length = {length} }}")
        }
        _ => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{{ hex = \"{digits}\" }}")
        }
    }
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(c);
            }
            '\n' => quoted.push_str("\\n"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writing a scenario as the file that it would be read from.

use std::fmt::{self, Write};

use smmuv3::AtsMode;

use super::queues;
use super::{
    Access, Action, Answer, AsidPolicy, Device, Domain, Granules, Instance, Master, Memory,
    MemoryKind, PAGE, Process, Queues, Random, Rights, Scenario, Step, StreamTableKind, Substream,
    Target, Weights,
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
    if scenario.asid_policy != AsidPolicy::default() {
        writeln!(out, "asid-policy = {}", quoted(scenario.asid_policy.name()))?;
    }
    if let Some((first, last)) = scenario.banks {
        writeln!(out, "banks = [{first}, {last}]")?;
    }
    key(out, "cpu-asid-bits", scenario.cpu_asid_bits, 16)?;
    if scenario.el2_host {
        writeln!(out, "world = \"el2-e2h\"")?;
    }
    let named = scenario.steps.iter().filter_map(|step| step.action.pasid()).max();
    key(out, "pasids", scenario.pasids, named.unwrap_or(0))?;
    scenario.instances.iter().try_for_each(|it| instance(out, it))?;
    scenario.masters.iter().try_for_each(|it| master(out, it, scenario))?;
    scenario.domains.iter().try_for_each(|it| {
        let over = it.tables.over.and_then(|over| scenario.domains.get(over));
        domain(out, it, over.map(|over| over.name.as_str()), &scenario.instances)
    })?;
    scenario.processes.iter().try_for_each(|it| process(out, it))?;
    scenario.memories.iter().try_for_each(|it| memory(out, it))?;
    scenario.steps.iter().try_for_each(|it| step(out, it, scenario))
}

/// The pages that must be reported as written, if that is said.
fn written(out: &mut String, expect: Option<&[u64]>) -> fmt::Result {
    let Some(pages) = expect else { return Ok(()) };
    let pages: Vec<String> = pages.iter().map(|page| format!("{page:#x}")).collect();
    write!(out, ", expect = [{}]", pages.join(", "))
}

/// The key for what a mapping permits beside reads of data, and writes.
fn written_rights(out: &mut String, rights: Rights) -> fmt::Result {
    if rights == Rights::Data {
        return Ok(());
    }
    write!(out, ", rights = {}", quoted(queues::word(&Rights::WORDS, &rights)))
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
    key(out, "two-level-contexts", it.two_level_contexts, false)?;
    key(out, "btm", it.btm, false)?;
    key(out, "msi", it.msi, false)?;
    key(out, "atos", it.atos, false)?;
    key(out, "counters", it.counters, 0)?;
    key(out, "one-filter", it.one_filter, false)?;
    key(out, "hyp", it.hyp, false)?;
    key(out, "stalls", it.stalls, 0)?;
    key(out, "forced-stalls", it.forced_stalls, false)?;
    let Queues { enhanced_log2, completion, interrupts } = it.queues;
    key(out, "ecmdq", enhanced_log2.map_or(0, |log2| 1u32 << log2.min(31)), 0)?;
    let how = |out: &mut String, name, word: &str, usual: &str| match word == usual {
        true => Ok(()),
        false => writeln!(out, "{name} = {}", quoted(word)),
    };
    how(out, "completion", queues::word(&queues::COMPLETIONS, &completion), "poll")?;
    how(out, "interrupts", queues::word(&queues::INTERRUPTS, &interrupts), "combined")?;
    key(out, "two-level-streams", it.two_level_streams, true)?;
    match it.stream_table {
        StreamTableKind::Automatic => {}
        StreamTableKind::Linear => writeln!(out, "stream-table = \"linear\"")?,
        StreamTableKind::TwoLevel => writeln!(out, "stream-table = \"two-level\"")?,
    }
    key(out, "command-queue", it.command_queue_log2, 8)?;
    key(out, "event-queue", it.event_queue_log2, 8)?;
    key(out, "ats", it.ats, false)?;
    key(out, "pri", it.pri, false)?;
    key(out, "page-request-queue", it.page_request_queue_log2, 8)?;
    key(out, "range-invalidation", it.range_invalidation, true)?;
    key(out, "repeated-invalidation", it.repeated_invalidation, false)?;
    key(out, "coherent", it.coherent, true)?;
    it.walks.write(out, it.range_invalidation)?;
    it.quirks.write(out)
}

fn master(out: &mut String, it: &Master, scenario: &Scenario) -> fmt::Result {
    writeln!(out, "\n[[master]]\nname = {}", quoted(&it.name))?;
    writeln!(out, "instance = {}", name(&scenario.instances, it.instance, |it| &it.name))?;
    let streams: Vec<String> = it.streams.iter().map(|stream| format!("{stream:#x}")).collect();
    writeln!(out, "streams = [{}]", streams.join(", "))?;
    key(out, "pasid-bits", it.pasid_bits, 0)?;
    key(out, "stalls", it.stalls, false)?;
    match it.ats {
        AtsMode::Off => {}
        AtsMode::Full => writeln!(out, "ats = true")?,
        AtsMode::Always => writeln!(out, "ats = \"always\"")?,
        AtsMode::Split => writeln!(out, "ats = \"split\"")?,
    }
    key(out, "pri", it.pri, false)?;
    key(out, "response-pasid", it.response_pasid, false)?;
    super::attributes::write(out, &it.overrides)?;
    if let Some(keep) = it.keep {
        writeln!(out, "keep = {}", name(&scenario.memories, keep, |it| &it.name))?;
    }
    if it.device != Device::default() {
        writeln!(out, "device = {}", quoted(it.device.name()))?;
    }
    Ok(())
}

fn domain(
    out: &mut String,
    it: &Domain,
    over: Option<&str>,
    instances: &[Instance],
) -> fmt::Result {
    writeln!(out, "\n[[domain]]\nname = {}", quoted(&it.name))?;
    super::domain::write(out, it, over, instances)
}

fn process(out: &mut String, it: &Process) -> fmt::Result {
    writeln!(out, "\n[[process]]\nname = {}", quoted(&it.name))?;
    key(out, "input-bits", it.input_bits, 48)?;
    match it.asid {
        Some(asid) => writeln!(out, "asid = {asid:#x}"),
        None => Ok(()),
    }
}

fn memory(out: &mut String, it: &Memory) -> fmt::Result {
    writeln!(out, "\n[[memory]]\nname = {}\nsize = {}", quoted(&it.name), bytes(it.size))?;
    if it.align != PAGE {
        writeln!(out, "align = {}", bytes(it.align))?;
    }
    if let Some(at) = it.at {
        writeln!(out, "at = {at:#x}")?;
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
    let process = |index| name(&scenario.processes, index, |it: &Process| &it.name);
    let memory = |index| name(&scenario.memories, index, |it: &Memory| &it.name);
    let range = |iova: u64, length: u64| format!("iova = {iova:#x}, length = {}", bytes(length));
    // A master, with its substream.
    let user = |index, substream: Substream| match substream {
        Substream::None => master(index),
        Substream::Pasid(pasid) => format!("{}, pasid = {pasid}", master(index)),
        Substream::Process(of) => format!("{}, process = {}", master(index), process(of)),
    };
    let with = |pasid: Option<u32>| pasid.map_or(Substream::None, Substream::Pasid);
    let mapping = |from: usize, offset: u64, length: u64, access: Access| {
        let offset = if offset == 0 { String::new() } else { format!(", offset = {offset:#x}") };
        let access = if access == Access::ReadOnly { ", access = \"ro\"" } else { "" };
        format!("memory = {}{offset}, length = {}{access}", memory(from), bytes(length))
    };
    match &step.action {
        Action::Attach { master, pasid, domain: to, answer } => {
            let to = match to {
                Target::Domain(index) => domain(*index),
                Target::Identity => quoted("identity"),
                Target::Blocked => quoted("blocked"),
            };
            let (user, refused) = (user(*master, with(*pasid)), refused(scenario, *answer));
            writeln!(out, "attach = {{ master = {user}, domain = {to}{refused} }}")
        }
        Action::Detach { master, pasid } => {
            writeln!(out, "detach = {{ master = {} }}", user(*master, with(*pasid)))
        }
        Action::Bind { process: of, master: to, answer } => {
            let (of, to, refused) = (process(*of), master(*to), refused(scenario, *answer));
            writeln!(out, "bind = {{ process = {of}, master = {to}{refused} }}")
        }
        Action::Unbind { process: of, master: from } => {
            let (of, from) = (process(*of), master(*from));
            writeln!(out, "unbind = {{ process = {of}, master = {from} }}")
        }
        Action::Release { process: of } => {
            writeln!(out, "release = {{ process = {} }}", process(*of))
        }
        Action::Change { instance, change } => {
            let of = name(&scenario.instances, *instance, |it: &Instance| &it.name);
            writeln!(out, "{} = {{ instance = {of} }}", change.name())
        }
        Action::Mute { master: of, late } => {
            let late = if *late { ", late = true" } else { "" };
            writeln!(out, "mute = {{ master = {}{late} }}", master(*of))
        }
        Action::Readmit { master: of } => {
            writeln!(out, "readmit = {{ master = {} }}", master(*of))
        }
        Action::HandOver { lost } if lost.is_empty() => writeln!(out, "hand-over = {{}}"),
        Action::HandOver { lost } => {
            let lost: Vec<String> = lost.iter().map(|index| master(*index)).collect();
            writeln!(out, "hand-over = {{ lose = [{}] }}", lost.join(", "))
        }
        Action::Replace { process: of } => {
            writeln!(out, "replace = {{ process = {} }}", process(*of))
        }
        Action::Map { domain: index, iova, memory, offset, length, access, kind, rights } => {
            let mapping = mapping(*memory, *offset, *length, *access);
            write!(out, "map = {{ domain = {}, iova = {iova:#x}, {mapping}", domain(*index))?;
            if *kind != MemoryKind::Normal {
                write!(out, ", kind = {}", quoted(queues::word(&MemoryKind::WORDS, kind)))?;
            }
            written_rights(out, *rights)?;
            writeln!(out, " }}")
        }
        Action::ProcessMap { process: of, iova, memory, offset, length, access, rights } => {
            let (of, mapping) = (process(*of), mapping(*memory, *offset, *length, *access));
            write!(out, "process-map = {{ process = {of}, iova = {iova:#x}, {mapping}")?;
            written_rights(out, *rights)?;
            writeln!(out, " }}")
        }
        Action::Unmap { domain: of, iova, length } => {
            let (of, range) = (domain(*of), range(*iova, *length));
            writeln!(out, "unmap = {{ domain = {of}, {range} }}")
        }
        Action::Cut { domain: of, iova, length, must } => {
            let (of, range) = (domain(*of), range(*iova, *length));
            let refused = quoted(if *must { Answer::STRADDLE } else { Answer::JUDGED });
            writeln!(out, "unmap = {{ domain = {of}, {range}, refused = {refused} }}")
        }
        Action::Defer { domain: of, iova, length } => {
            let (of, range) = (domain(*of), range(*iova, *length));
            writeln!(out, "unmap-deferred = {{ domain = {of}, {range} }}")
        }
        Action::Flush { domain: of } => {
            writeln!(out, "invalidate-all = {{ domain = {} }}", domain(*of))
        }
        Action::Reclaim { domain: of, iova, length } => {
            let (of, range) = (domain(*of), range(*iova, *length));
            writeln!(out, "reclaim = {{ domain = {of}, {range} }}")
        }
        Action::Dirty { domain: of, iova, length, expect } => {
            let (of, range) = (domain(*of), range(*iova, *length));
            write!(out, "dirty = {{ domain = {of}, {range}")?;
            written(out, expect.as_deref())?;
            writeln!(out, " }}")
        }
        Action::Accessed { domain: of, iova, length, expect } => {
            let (of, range) = (domain(*of), range(*iova, *length));
            write!(out, "accessed = {{ domain = {of}, {range}")?;
            written(out, expect.as_deref())?;
            writeln!(out, " }}")
        }
        Action::Take { domain: of, iova, length, expect } => {
            let (of, range) = (domain(*of), range(*iova, *length));
            write!(out, "unmap = {{ domain = {of}, {range}, dirty = true")?;
            written(out, expect.as_deref())?;
            writeln!(out, " }}")
        }
        Action::ProcessUnmap { process: of, iova, length } => {
            let (of, range) = (process(*of), range(*iova, *length));
            writeln!(out, "process-unmap = {{ process = {of}, {range} }}")
        }
        Action::Write { master, substream, iova, data: what } => {
            let (who, data) = (user(*master, *substream), data(what));
            writeln!(out, "write = {{ master = {who}, iova = {iova:#x}, data = {data} }}")
        }
        Action::Read { master, substream, iova, length, instruction, expect } => {
            write!(out, "read = {{ master = {}, iova = {iova:#x}", user(*master, *substream))?;
            if *instruction {
                out.write_str(", instruction = true")?;
            }
            match expect {
                Some(expect) => writeln!(out, ", expect = {} }}", data(expect)),
                None => writeln!(out, ", length = {length} }}"),
            }
        }
        Action::ExpectFault { master, substream, iova, event, stalled, .. } => {
            let (who, event) = (user(*master, *substream), quoted(event.name()));
            let stalled = if *stalled { ", stalled = true" } else { "" };
            writeln!(
                out,
                "expect-fault = {{ master = {who}, iova = {iova:#x}, event = {event}{stalled} }}"
            )
        }
        Action::Answer { master: of, reply } => {
            let (of, reply) = (master(*of), quoted(reply.name()));
            writeln!(out, "answer = {{ master = {of}, reply = {reply} }}")
        }
        Action::Translate { master, substream, iova, write, refused } => {
            write!(out, "translate = {{ master = {}, iova = {iova:#x}", user(*master, *substream))?;
            if *write {
                write!(out, ", access = \"write\"")?;
            }
            if let Some(event) = refused {
                write!(out, ", refused = {}", quoted(event.name()))?;
            }
            writeln!(out, " }}")
        }
        Action::Ask { master, substream, iova, pages, write, unfinished } => {
            let who = user(*master, *substream);
            write!(out, "ask = {{ master = {who}, iova = {iova:#x}, pages = {pages}")?;
            out.write_str(if *write { ", access = \"write\"" } else { "" })?;
            out.write_str(if *unfinished { ", unfinished = true" } else { "" })?;
            writeln!(out, " }}")
        }
        Action::Grant { master: of, grant } => {
            let (of, reply) = (master(*of), quoted(grant.name()));
            writeln!(out, "grant = {{ master = {of}, reply = {reply} }}")
        }
        Action::Stop { master, substream } => {
            writeln!(out, "stop = {{ master = {} }}", user(*master, *substream))
        }
        Action::ExpectBlocked { master, substream } => {
            writeln!(out, "expect-blocked = {{ master = {} }}", user(*master, *substream))
        }
        Action::Claim { master: of } => writeln!(out, "claim = {{ master = {} }}", master(*of)),
        Action::CommandError { instance, error } => {
            let (of, error) =
                (name(&scenario.instances, *instance, |it| &it.name), quoted(error.name()));
            writeln!(out, "command-error = {{ instance = {of}, error = {error} }}")
        }
        Action::Misbehave { domain, seed } => {
            let of = name(&scenario.domains, *domain, |it| &it.name);
            writeln!(out, "misbehave = {{ domain = {of}, seed = {seed} }}")
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
        let (all, usual) = (it.weights, Weights::default());
        let weights = [
            ("map", all.map, None),
            ("unmap", all.unmap, None),
            ("attach", all.attach, None),
            ("detach", all.detach, None),
            ("identity", all.identity, None),
            ("read", all.read, None),
            ("write", all.write, None),
            ("stale", all.stale, None),
            ("fault", all.fault, None),
            ("attach-pasid", all.attach_pasid, Some(usual.attach_pasid)),
            ("detach-pasid", all.detach_pasid, Some(usual.detach_pasid)),
            ("bind", all.bind, Some(usual.bind)),
            ("unbind", all.unbind, Some(usual.unbind)),
            ("release", all.release, Some(usual.release)),
            ("answer", all.answer, Some(usual.answer)),
            ("translate", all.translate, Some(usual.translate)),
            ("ask", all.ask, Some(usual.ask)),
            ("grant", all.grant, Some(usual.grant)),
            ("power", all.power, Some(usual.power)),
            ("reset", all.reset, Some(usual.reset)),
            ("replug", all.replug, Some(usual.replug)),
            ("defer", all.defer, Some(usual.defer)),
            ("mute", all.mute, Some(usual.mute)),
            ("command-error", all.command_error, Some(usual.command_error)),
            ("misbehave", all.misbehave, Some(usual.misbehave)),
            ("hand-over", all.hand_over, Some(usual.hand_over)),
        ];
        let written = weights.iter().filter(|(_, weight, usual)| Some(*weight) != *usual);
        let written: Vec<String> =
            written.map(|(name, weight, _)| format!("{name} = {weight}")).collect();
        write!(out, ", weights = {{ {} }}", written.join(", "))?;
    }
    writeln!(out, " }}")
}

/// The key for what an attach or a bind comes to. What randomness may have refused is only said where the policy
/// does refuse.
fn refused(scenario: &Scenario, answer: Answer) -> String {
    match answer {
        Answer::Refused(refusal) => format!(", refused = {}", quoted(refusal.name())),
        Answer::Judged if !scenario.never_refuses() => {
            format!(", refused = {}", quoted(Answer::JUDGED))
        }
        Answer::Done | Answer::Judged => String::new(),
    }
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

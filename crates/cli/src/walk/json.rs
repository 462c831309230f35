// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was walked, for programs. Addresses, identities and words are hexadecimal strings.

use serde_json::{Value, json};
use smmuv3_formats::{EventId, EventRecord};
use smmuv3_walk::reach::{Finding, Range, Space, Stream, Survey};
use smmuv3_walk::{Access, Ending, Outcome, Permissions, Step, Translation, Walk};

/// A number as a string, as numbers of more than 53 bits are not safe in JSON.
pub fn hex(number: u64) -> String {
    format!("{number:#x}")
}

fn words(words: &[u64]) -> Vec<String> {
    words.iter().map(|word| format!("{word:#018x}")).collect()
}

/// One access.
pub fn walk(walk: &Walk) -> Value {
    let steps: Vec<Value> = walk.steps.iter().map(step).collect();
    json!({
        "kind": "walk",
        "access": access(&walk.access),
        "steps": steps,
        "result": outcome(&walk.outcome),
    })
}

fn access(access: &Access) -> Value {
    json!({
        "sid": hex(access.stream.into()),
        "ssid": access.substream.map(|substream| hex(substream.into())),
        "address": hex(access.address),
        "write": access.write,
        "exec": access.instruction,
        "privileged": access.privileged,
    })
}

fn step(step: &Step) -> Value {
    json!({
        "what": step.what.name(),
        "depth": step.depth,
        "level": step.level,
        "index": step.index,
        "ipa": step.ipa.map(hex),
        "address": step.address.map(hex),
        "words": words(&step.words),
        "meaning": step.meaning,
    })
}

fn outcome(outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Translated(translation) => translated(translation),
        Outcome::Fault(fault) => json!({
            "kind": "fault",
            "event": event(&fault.event),
            "recorded": fault.recorded,
            "ending": match fault.ending {
                Ending::Abort => "abort",
                Ending::Ignored => "raz-wi",
                Ending::Stall => "stall",
            },
            "why": fault.why,
            "illegal": fault.rule.map(|rule| json!({
                "section": rule.section, "field": rule.field, "text": rule.text,
            })),
        }),
        Outcome::Silent { why } => json!({ "kind": "silent", "why": why }),
        Outcome::Missing { address, what, event: record } => json!({
            "kind": "missing",
            "address": hex(*address),
            "what": what.name(),
            "event_if_abort": event(record),
        }),
        Outcome::Unsupported { what } => json!({ "kind": "unsupported", "what": what }),
    }
}

fn translated(translation: &Translation) -> Value {
    json!({
        "kind": "translated",
        "address": hex(translation.address),
        "size": hex(1u64.checked_shl(translation.bytes_log2).unwrap_or(0)),
        "permissions": permissions(&translation.permissions),
        "memory": translation.attributes.memory.to_string(),
        "shareability": translation.attributes.shareability.name(),
        "updates": translation.updates,
    })
}

pub fn permissions(permissions: &Permissions) -> Value {
    json!({
        "privileged": permissions.privileged.to_string(),
        "unprivileged": permissions.unprivileged.to_string(),
    })
}

fn event(record: &EventRecord) -> Value {
    let id = record.event();
    json!({
        "name": id.map(EventId::name),
        "id": record.0[0] & 0xff,
        "words": words(&record.0),
    })
}

/// Everything that streams reach; at most `limit` ranges of each space, and findings.
pub fn survey(survey: &Survey, limit: usize) -> Value {
    let streams: Vec<Value> = survey.streams.iter().map(|each| stream(each, limit)).collect();
    let findings: Vec<Value> = survey.findings.iter().take(limit).map(finding).collect();
    let more = survey.findings.len().saturating_sub(limit) as u64;
    json!({
        "kind": "reach",
        "streams": streams,
        "streams_left_out": survey.streams_left_out,
        "findings": findings,
        "findings_left_out": survey.findings_left_out + more,
        "ranges_left_out": survey.ranges_left_out,
        "descriptors": survey.descriptors,
        "complete": !survey.cut_short
            && survey.ranges_left_out == 0
            && survey.streams_left_out == 0
            && !survey.missing(),
    })
}

fn stream(stream: &Stream, limit: usize) -> Value {
    let spaces: Vec<Value> = stream.spaces.iter().map(|each| space(each, limit)).collect();
    json!({
        "sid": hex(stream.stream.into()),
        "last_sid": hex(stream.last.into()),
        "address": hex(stream.address),
        "words": words(&stream.ste.0),
        "meaning": stream.meaning,
        "spaces": spaces,
    })
}

fn space(space: &Space, limit: usize) -> Value {
    let ranges: Vec<Value> = space.ranges.iter().take(limit).map(range).collect();
    let same = space.same_as.map(|(stream, substream)| {
        json!({ "sid": hex(stream.into()), "ssid": substream.map(|one| hex(one.into())) })
    });
    json!({
        "ssid": space.substream.map(|substream| hex(substream.into())),
        "meaning": space.meaning,
        "same_as": same,
        "ranges": ranges,
        "ranges_left_out": space.ranges.len().saturating_sub(limit),
        "bytes": hex(space.bytes),
    })
}

fn range(range: &Range) -> Value {
    json!({
        "input": hex(range.input),
        "output": hex(range.output),
        "bytes": hex(range.bytes),
        "permissions": permissions(&range.permissions),
        "memory": range.attributes.memory.to_string(),
        "shareability": range.attributes.shareability.name(),
    })
}

fn finding(finding: &Finding) -> Value {
    json!({
        "kind": finding.kind.name(),
        "severity": finding.kind.severity().name(),
        "sid": finding.stream.map(|stream| hex(stream.into())),
        "last_sid": finding.last_stream.or(finding.stream).map(|stream| hex(stream.into())),
        "ssid": finding.substream.map(|substream| hex(substream.into())),
        "address": finding.address.map(hex),
        "input": finding.input.map(hex),
        "text": finding.text,
    })
}

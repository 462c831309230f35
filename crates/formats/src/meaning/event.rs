// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fields of event records (§10) and page requests (§13).

use super::common::*;
use super::{Text, Whole};
use crate::EventId;

/// What a field of an event is.
pub(super) fn field(name: &str) -> Option<&'static str> {
    Some(match name {
        "EventID" => "what happened",
        "SSV" => "the transaction had a substream",
        "SubstreamID" => "substream (PASID)",
        "StreamID" => "stream",
        "STAG" => "stalled transaction, to be named in the answer",
        "Reason" => "implementation defined cause",
        "GPCF" => "granule protection check failed",
        "Stall" => "the transaction waits for an answer",
        "PnU" => "privilege",
        "InD" => "instruction or data",
        "RnW" => "read or write",
        "NSIPA" => "the intermediate address is a Non-secure one (Secure streams)",
        "S2" => "stage that faulted",
        "CLASS" => "what was being accessed",
        "TTRnW" => "how the stage-1 table was accessed",
        "InputAddr" => "address that the device gave",
        "FetchAddr" => "physical address that could not be read",
        "IPA" => "intermediate address that faulted",
        "uX" => "unprivileged execution will be needed",
        "uW" => "unprivileged writes will be needed",
        "uR" => "unprivileged reads will be needed",
        "pX" => "privileged execution will be needed",
        "pW" => "privileged writes will be needed",
        "pR" => "privileged reads will be needed",
        "Span" => "size, in pages of 4 KiB",
        _ => return None,
    })
}

/// What a value of an event's field means.
pub(super) fn value(name: &str, value: u64, whole: &Whole<'_>) -> Option<Text> {
    match name {
        "EventID" => match u8::try_from(value).ok()? {
            0xe0..=0xef => plain("implementation defined"),
            code => plain(EventId::from_code(code).map_or("reserved", EventId::name)),
        },
        "SSV" => either(value, "no substream", "with substream"),
        // C_BAD_SUBSTREAMID has no SSV: its SubstreamID always counts.
        "SubstreamID" if whole.has("SSV") && !whole.is("SSV") => plain("not valid (SSV = 0)"),
        "STAG" if whole.has("Stall") && !whole.is("Stall") => plain("not valid (Stall = 0)"),
        "GPCF" => either(value, "no", "yes"),
        "Stall" => either(value, "terminated", "stalled"),
        "PnU" => either(value, "unprivileged", "privileged"),
        "InD" => either(value, "data", "instruction"),
        "RnW" => either(value, "write", "read"),
        "S2" => either(value, "stage 1", "stage 2"),
        "CLASS" => choice(
            value,
            &["context descriptor", "stage-1 translation table", "the input address", "reserved"],
        ),
        // Only F_PERMISSION on a stage-1 table has it.
        "TTRnW" if whole.get("CLASS") != 1 => plain("not valid (CLASS is not a table)"),
        "TTRnW" => either(value, "written", "read"),
        "Span" if value != 0 => Some(Text::pages(value, 12)),
        "IPA" if !whole.is("S2") => plain("not valid (S2 = 0)"),
        _ => None,
    }
}

/// What a field of a page request is.
pub(super) fn request_field(name: &str) -> Option<&'static str> {
    Some(match name {
        "SID" => "stream",
        "SSID" => "substream (PASID)",
        "Priv" => "privilege",
        "X" => "execution is asked for",
        "R" => "reads are asked for",
        "W" => "writes are asked for",
        "Last" => "last of its group: an answer is due",
        "SSV" => "the request has a substream",
        "PRGIndex" => "group of page requests",
        "Addr" => "address of the page",
        _ => return None,
    })
}

/// What a value of a page request's field means.
pub(super) fn request_value(name: &str, value: u64, whole: &Whole<'_>) -> Option<Text> {
    let stop = whole.is("SSV") && whole.is("Last") && !whole.is("R") && !whole.is("W");
    match name {
        "SSID" if !whole.is("SSV") => plain("not valid (SSV = 0)"),
        "SSV" => either(value, "no substream", "with substream"),
        "Priv" => either(value, "unprivileged", "privileged"),
        "Last" if stop => plain("stop marker: no answer"),
        "Last" => either(value, "more will follow", "the last: an answer is due"),
        "R" | "W" | "X" => either(value, "no", "yes"),
        _ => None,
    }
}

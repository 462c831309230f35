// SPDX-License-Identifier: MIT OR Apache-2.0
//! Command fields (§4).

use super::common::*;
use super::{Text, Whole};
use crate::command::{ALL_STREAMS, Opcode};
use crate::granule::Granule;
use crate::memory_type;

/// What a field of a command is.
pub(super) fn field(name: &str) -> Option<&'static str> {
    Some(match name {
        "Opcode" => "which command",
        "SSec" => "Secure stream",
        "SSV" => "the substream counts",
        "SSID" => "substream (PASID)",
        "SID" => "stream",
        "Size" => "size of the range",
        "Stride" => "distance of addresses",
        "Addr" => "address",
        "Leaf" => "only the last level",
        "Range" => "how many streams",
        "VMID" => "virtual machine",
        "ASID" => "address space",
        "NUM" => "length of the range: NUM + 1, times 2 to the power of SCALE, pages",
        "SCALE" => "length of the range: power of two",
        "TTL128" => "the level is of 128-bit tables",
        "TTL" => "level of the leaves",
        "TG" => "granule of the range",
        "G" => "in every address space of the device",
        "PRGIndex" => "group of page requests",
        "Resp" => "answer to the device",
        "Ac" => "retry",
        "Ab" => "how a terminated transaction ends",
        "STAG" => "stalled transaction",
        "CS" => "how completion is told",
        "MSH" => "shareability of the message",
        "MSIAttr" => "memory type of the message",
        "MSIData" => "payload of the message",
        "MSIAddr" => "address of the message",
        _ => return None,
    })
}

/// What a value of a command's field means.
pub(super) fn value(name: &str, value: u64, whole: &Whole<'_>) -> Option<Text> {
    // Only then are NUM, SCALE and TTL more than reserved (§4.2).
    let granule = Granule::from_tlbi(whole.get("TG"));
    match name {
        "Opcode" => match u8::try_from(value).ok()? {
            code @ 0x80..=0x8f if Opcode::from_code(code).is_none() => {
                plain("implementation defined")
            }
            code => plain(Opcode::from_code(code).map_or("reserved", Opcode::name)),
        },
        "SSec" => either(value, "Non-secure", "Secure"),
        "SSV" => either(value, "no substream", "with substream"),
        "SSID" if whole.has("SSV") && !whole.is("SSV") => plain("unused (SSV = 0)"),
        "Leaf" if whole.has("Addr") => {
            either(value, "walk caches too", "last-level translations alone")
        }
        "Leaf" => either(value, "the first-level descriptor too", "the entry alone"),
        "Range" if value == ALL_STREAMS => plain("every stream (CMD_CFGI_ALL)"),
        "Range" => {
            let log2 = value as u32 + 1;
            Some(Text::streams(log2, whole.get("SID") >> log2 << log2))
        }
        "SID" if whole.has("Range") && whole.get("Range") == ALL_STREAMS => {
            plain("unused (every stream)")
        }
        "TG" if value == 0 => plain("one address, any granule"),
        "TG" => crate::meaning::common::granule(granule),
        "NUM" | "SCALE" => match granule {
            None => plain("reserved (TG = 0)"),
            // SCALE above 39 counts as 39: 32 << 39 pages of 2^16 bytes exceed 64 bits of bytes only.
            Some(granule) => {
                let pages = (whole.get("NUM") + 1) << whole.get("SCALE").min(39);
                Some(Text::pages(pages, granule.shift()))
            }
        },
        "TTL" => match (granule, value) {
            (None, _) => plain("reserved (TG = 0)"),
            (_, 0) => plain("any level"),
            (_, level) => Some(Text::start(level as i8, 1)),
        },
        "Size" if whole.has("G") => match value {
            0..=51 => Some(Text::bytes(12 + value as u32)),
            52 => plain("everything"),
            _ => plain("reserved"),
        },
        "G" => either(value, "no", "yes"),
        "Resp" => choice(value, &["Failure", "Invalid Request", "Success", "reserved"]),
        "Ac" => either(value, "terminate", "retry"),
        "Ab" if whole.is("Ac") => plain("unused (retry)"),
        "Ab" => either(value, "reads give zero, writes are ignored", "abort"),
        "CS" => choice(
            value,
            &[
                "by the consumer index alone",
                "by an interrupt or a message",
                "by an event to waiting processors (SEV)",
                "reserved",
            ],
        ),
        "MSH" | "MSIAttr" | "MSIData" | "MSIAddr" if whole.get("CS") != 1 => {
            plain("unused (no interrupt)")
        }
        "MSIAddr" if value == 0 => plain("no message: a wired interrupt"),
        "MSH" => shareability(value),
        "MSIAttr" => plain(memory_type::overriding(value)),
        _ => None,
    }
}

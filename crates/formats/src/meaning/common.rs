// SPDX-License-Identifier: MIT OR Apache-2.0
//! Encodings that several structures share. Those that look alike and differ have names of their own.

use super::Text;
use crate::granule::Granule;
use crate::memory_type;
use crate::register::address_bits;

pub(super) const fn plain(words: &'static str) -> Option<Text> {
    Some(Text::plain(words))
}

/// `yes` for 1, `no` for 0.
pub(super) const fn either(value: u64, no: &'static str, yes: &'static str) -> Option<Text> {
    plain(if value == 0 { no } else { yes })
}

/// The word at `value`, the last word for all beyond.
pub(super) fn choice(value: u64, words: &[&'static str]) -> Option<Text> {
    let index = usize::try_from(value).ok()?;
    words.get(index).or(words.last()).copied().map(Text::plain)
}

/// Shareability where 1 is reserved: tables, walks, MSIs.
pub(super) fn shareability(value: u64) -> Option<Text> {
    choice(value, &["non-shareable", "reserved", "outer shareable", "inner shareable"])
}

/// Shareability of an override: SHCFG, where 1 keeps what comes in.
pub(super) fn share_override(value: u64) -> Option<Text> {
    choice(value, &["non-shareable", "as it comes in", "outer shareable", "inner shareable"])
}

/// Cacheability of walks: IRx, ORx, S2IR0, S2OR0.
pub(super) fn walk_cacheability(value: u64) -> Option<Text> {
    choice(
        value,
        &[
            "non-cacheable",
            "write-back, read- and write-allocate",
            "write-through, read-allocate",
            "write-back, read-allocate",
        ],
    )
}

/// Cacheability of CD fetches: S1CIR, S1COR.
pub(super) fn fetch_cacheability(value: u64) -> Option<Text> {
    choice(
        value,
        &[
            "non-cacheable",
            "write-back, read-allocate",
            "write-through, read-allocate",
            "write-back, no allocation",
        ],
    )
}

/// TG0 and S2TG.
pub(super) fn granule_tg0(value: u64) -> Option<Text> {
    granule(Granule::from_tg0(value))
}

/// TG1.
pub(super) fn granule_tg1(value: u64) -> Option<Text> {
    granule(Granule::from_tg1(value))
}

pub(super) fn granule(granule: Option<Granule>) -> Option<Text> {
    Some(granule.map_or(Text::plain("reserved"), |granule| Text::bytes(granule.shift())))
}

/// IPS, S2PS, OAS.
pub(super) fn address_size(value: u64) -> Option<Text> {
    Some(address_bits(value).map_or(Text::plain("reserved"), |bits| Text::bits(bits.into())))
}

/// TxSZ and S2T0SZ.
pub(super) const fn input_size(value: u64) -> Option<Text> {
    if value >= 64 { None } else { Some(Text::bits(64 - value)) }
}

/// ALLOCCFG: 1RWT, or what comes in.
pub(super) fn allocation(value: u64) -> Option<Text> {
    let words = match value {
        0b1000 => "no allocation",
        0b1001 => "no allocation, transient",
        0b1010 => "write-allocate",
        0b1011 => "write-allocate, transient",
        0b1100 => "read-allocate",
        0b1101 => "read-allocate, transient",
        0b1110 => "read- and write-allocate",
        0b1111 => "read- and write-allocate, transient",
        _ => "as it comes in",
    };
    plain(words)
}

pub(super) fn privilege_override(value: u64) -> Option<Text> {
    choice(value, &["as it comes in", "reserved", "unprivileged", "privileged"])
}

pub(super) fn instruction_override(value: u64) -> Option<Text> {
    choice(value, &["as it comes in", "reserved", "data", "instruction (reads)"])
}

/// MemAttr of an override that MTCFG switches on.
pub(super) const fn type_override(value: u64, on: bool) -> Option<Text> {
    if on { plain(memory_type::overriding(value)) } else { plain("unused (MTCFG = 0)") }
}

/// Endianness of tables.
pub(super) const fn endianness(value: u64) -> Option<Text> {
    either(value, "little-endian", "big-endian")
}

/// CMDQ_CONS.ERR and ECMDQ_CONS.ERR_REASON.
pub(super) fn command_error(value: u64) -> Option<Text> {
    choice(
        value,
        &[
            "CERROR_NONE: no error",
            "CERROR_ILL: illegal command",
            "CERROR_ABT: the command could not be read",
            "CERROR_ATC_INV_SYNC: a device did not complete an ATC invalidation in time",
            "unknown",
        ],
    )
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! A few words, put together when they are written.

use core::fmt;

use crate::memory_type::Attribute;
use crate::permission;

/// What a value means. Written with `Display`; takes no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain(&'static str),
    /// `48 bits`, `512 entries`: the number, what is counted, one and several.
    Count(u64, &'static str, &'static str),
    /// `4 KiB`, by log2 of the bytes.
    Bytes(u32),
    /// `8 KiB: 2 pages`: pages, and log2 of the bytes of one.
    Pages(u64, u32),
    /// `level 1, 2 tables side by side`.
    Start(i8, u32),
    /// `32 streams from 0x100`.
    Streams(u32, u64),
    /// `at 0x20000`.
    At(u64),
    /// `SMMUv3.2`.
    Version(u64),
    Attribute(Attribute),
    /// All eight of a MAIR.
    Attributes(u64),
    /// All sixteen of PIIP or PIIU.
    Permissions(u64),
}

impl Text {
    /// Fixed words.
    pub(super) const fn plain(words: &'static str) -> Self {
        Self(Kind::Plain(words))
    }

    pub(super) const fn count(number: u64, one: &'static str, several: &'static str) -> Self {
        Self(Kind::Count(number, one, several))
    }

    pub(super) const fn bits(number: u64) -> Self {
        Self::count(number, "bit", "bits")
    }

    /// 2 to the power of `log2`, which is less than 64.
    pub(super) const fn power(log2: u64, one: &'static str, several: &'static str) -> Self {
        Self::count(1 << (log2 & 63), one, several)
    }

    /// By log2.
    pub(super) const fn bytes(log2: u32) -> Self {
        Self(Kind::Bytes(log2))
    }

    pub(super) const fn pages(number: u64, page_log2: u32) -> Self {
        Self(Kind::Pages(number, page_log2))
    }

    pub(super) const fn start(level: i8, tables: u32) -> Self {
        Self(Kind::Start(level, tables))
    }

    pub(super) const fn streams(log2: u32, first: u64) -> Self {
        Self(Kind::Streams(log2, first))
    }

    pub(super) const fn at(offset: u64) -> Self {
        Self(Kind::At(offset))
    }

    pub(super) const fn version(minor: u64) -> Self {
        Self(Kind::Version(minor))
    }

    pub(super) const fn attribute(attribute: Attribute) -> Self {
        Self(Kind::Attribute(attribute))
    }

    pub(super) const fn permissions(codes: u64) -> Self {
        Self(Kind::Permissions(codes))
    }

    pub(super) const fn attributes(mair: u64) -> Self {
        Self(Kind::Attributes(mair))
    }
}

const UNITS: [&str; 7] = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// `number << log2` bytes, in the largest unit that leaves a whole number.
fn bytes(f: &mut fmt::Formatter<'_>, number: u64, log2: u32) -> fmt::Result {
    let total = log2.saturating_add(number.trailing_zeros().min(63));
    let unit = (total / 10).min(6);
    let rest = 10 * unit;
    // No unit is chosen that the number is not a multiple of.
    let shown = if rest <= log2 {
        u128::from(number) << (log2 - rest).min(63)
    } else {
        u128::from(number) >> (rest - log2).min(63)
    };
    write!(f, "{shown} {}", UNITS.get(unit as usize).copied().unwrap_or_default())
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Kind::Plain(words) => f.write_str(words),
            Kind::Count(1, one, _) => write!(f, "1 {one}"),
            Kind::Count(number, _, several) => write!(f, "{number} {several}"),
            Kind::Bytes(log2) => bytes(f, 1, log2),
            Kind::Pages(number, page_log2) => {
                bytes(f, number, page_log2)?;
                write!(f, ": {number} page{}", if number == 1 { "" } else { "s" })
            }
            Kind::Start(level, 1) => write!(f, "level {level}"),
            Kind::Start(level, tables) => write!(f, "level {level}, {tables} tables side by side"),
            Kind::Streams(log2, first) => {
                write!(f, "{} streams from {first:#x}", 1u64 << (log2 & 63))
            }
            Kind::At(offset) => write!(f, "at {offset:#x}"),
            Kind::Version(minor) => write!(f, "SMMUv3.{minor}"),
            Kind::Attribute(attribute) => attribute.fmt(f),
            Kind::Attributes(mair) => list(f, 8, |f, i| match Attribute::of_mair(mair, i.into()) {
                Some(attribute) => attribute.fmt(f),
                None => Ok(()),
            }),
            Kind::Permissions(codes) => list(f, 16, |f, i| match permission::indirect(codes, i) {
                Some(rights) => rights.fmt(f),
                None => f.write_str("reserved"),
            }),
        }
    }
}

/// `0: first; 1: second`.
fn list(
    f: &mut fmt::Formatter<'_>,
    entries: u32,
    entry: impl Fn(&mut fmt::Formatter<'_>, u32) -> fmt::Result,
) -> fmt::Result {
    (0..entries).try_for_each(|i| {
        write!(f, "{}{i}: ", if i == 0 { "" } else { "; " })?;
        entry(f, i)
    })
}

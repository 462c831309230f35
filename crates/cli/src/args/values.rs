// SPDX-License-Identifier: MIT OR Apache-2.0
//! Values of options, read from their text.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use smmuv3_testbench::lab::{AsidPolicy, MOST_INSTANCES};

use super::{Domains, Widths};

/// A number as the scenarios have it: `7`, `0x1f`, `1_000`.
pub fn seed(text: &str) -> Result<u64, String> {
    let digits = text.replace('_', "");
    let number = match digits.strip_prefix("0x") {
        Some(hex) if !hex.starts_with('+') => u64::from_str_radix(hex, 16),
        Some(_) => return Err("a seed is a whole number such as 7 or 0x1f, from 0 on".to_owned()),
        None => digits.parse(),
    };
    number.map_err(|error| match error.kind() {
        core::num::IntErrorKind::PosOverflow => format!("the largest seed is {}", u64::MAX),
        _ => "a seed is a whole number such as 7 or 0x1f, from 0 on".to_owned(),
    })
}

/// A range as Rust has it: `0..100`.
pub fn seeds(text: &str) -> Result<Range<u64>, String> {
    let right = "seeds are a range such as 0..100, without its end";
    let (first, end) = text.split_once("..").ok_or(right)?;
    let range = seed(first)?..seed(end)?;
    if range.is_empty() { Err(format!("no seed is in {text}; {right}")) } else { Ok(range) }
}

/// Minutes, at most a year.
pub fn minutes(text: &str) -> Result<Duration, String> {
    let minutes = text.parse().ok().filter(|minutes| (0.0..=525_600.0).contains(minutes));
    let minutes: f64 =
        minutes.ok_or("minutes are a number such as 10 or 0.5, from 0 to 525600 (a year)")?;
    Ok(Duration::from_secs_f64(60.0 * minutes))
}

/// The policies by their names.
pub fn policies() -> impl TypedValueParser<Value = AsidPolicy> {
    let names = PossibleValuesParser::new(AsidPolicy::ALL.map(AsidPolicy::name));
    // One of them.
    names.map(|name| AsidPolicy::ALL.into_iter().find(|one| one.name() == name).unwrap_or_default())
}

/// A list such as `8,2x16`.
pub fn widths(text: &str) -> Result<Widths, String> {
    let right = "instances are a list of the bits of their ASIDs, such as 8,16,16 or 32x8,32x16";
    let mut widths = Vec::new();
    for part in text.split(',') {
        let (count, bits) = part.split_once('x').unwrap_or(("1", part));
        let count: usize = count.trim().parse().map_err(|_| right)?;
        let bits: u32 = bits.trim().parse().map_err(|_| right)?;
        if !matches!(bits, 8 | 16) {
            return Err(format!("ASIDs have 8 or 16 bits, not {bits}; {right}"));
        }
        if !(1..=MOST_INSTANCES).contains(&count) || widths.len() + count > MOST_INSTANCES {
            return Err(format!("there can be 1 to {MOST_INSTANCES} instances; {right}"));
        }
        widths.extend(std::iter::repeat_n(bits, count));
    }
    Ok(Widths(widths))
}

/// A number such as `400`, or a range with its end, such as `1..70000`.
pub fn domains(text: &str) -> Result<Domains, String> {
    let number = |text: &str| match few(text) {
        Ok(0) => Err("at least one domain is needed".to_owned()),
        other => other,
    };
    let Some((first, last)) = text.split_once("..") else {
        return Ok(Domains { first: None, last: number(text)? });
    };
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(format!("domains are a range such as 1..70000; {last} is less than {first}"));
    }
    Ok(Domains { first: Some(first), last })
}

/// A number up to a million.
pub fn few(text: &str) -> Result<usize, String> {
    let number = text.replace('_', "").parse().ok();
    let number = number.filter(|number| *number <= 1_000_000);
    number.ok_or_else(|| "it is a whole number from 0 to 1000000".to_owned())
}

/// Operations of a seed.
pub fn steps(text: &str) -> Result<u64, String> {
    let number = text.replace('_', "").parse().ok();
    let number = number.filter(|number| (1..=10_000_000).contains(number));
    number.ok_or_else(|| "steps are a whole number from 1 to 10000000".to_owned())
}

/// Seeds at once.
pub fn jobs(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "jobs are a whole number, at least 1".to_owned())
}

/// Seconds, at most a year. In less than one, nothing that is worth a verdict happens.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (1.0..=31_536_000.0).contains(seconds));
    let right = "seconds are a number such as 30 or 1.5, at least 1 and at most 31536000 (a year)";
    let seconds: f64 = seconds.ok_or(right)?;
    Ok(Duration::from_secs_f64(seconds))
}

/// A whole number, decimal or 0x…, of at most so many bits; `what` it is.
fn id(text: &str, bits: u32, what: &str) -> Result<u64, String> {
    let digits = text.replace('_', "");
    let number = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) if !hex.starts_with('+') => u64::from_str_radix(hex, 16).ok(),
        Some(_) => None,
        None => digits.parse().ok(),
    };
    let largest = (1 << bits) - 1;
    let right = || format!("{what} is a number such as 7 or 0x1f, up to {largest:#x}");
    number.filter(|number| *number <= largest).ok_or_else(right)
}

/// An ASID or VMID.
pub fn id16(text: &str) -> Result<u16, String> {
    // It fits.
    id(text, 16, "an ASID or VMID").map(|id| id as u16)
}

/// A SubstreamID.
pub fn id20(text: &str) -> Result<u32, String> {
    id(text, 20, "a SubstreamID").map(|id| id as u32)
}

/// A StreamID.
pub fn id32(text: &str) -> Result<u32, String> {
    id(text, 32, "a StreamID").map(|id| id as u32)
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Addresses, IDs and words in JSON: strings such as `"0x100"`, which no reader rounds.

use std::fmt::LowerHex;

use serde::{Serialize, Serializer};

/// As a field's `serialize_with`.
///
/// # Errors
/// The serializer's.
pub fn serialize<S: Serializer>(value: &impl LowerHex, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&format_args!("{value:#x}"))
}

/// A number that is written so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hex(pub u64);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        serialize(&self.0, to)
    }
}

/// A word, with all its digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word(pub u64);

impl Serialize for Word {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{:#018x}", self.0))
    }
}

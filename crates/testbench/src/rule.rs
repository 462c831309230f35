// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rules that always hold.

use std::fmt;

/// A rule of the design.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// Permitted DMA reaches its memory, without a fault.
    R0,
    /// Once taken away, memory is out of reach.
    R1,
    /// A tag has one owner, and nothing left of the last one.
    R2,
    /// Memory that hardware may read is not freed.
    R3,
    /// Hardware never sees a mixture of two configurations.
    R4,
    /// Unmap and attach do not miss each other.
    R5,
    /// A live tag's change misses no unmap.
    R6,
    /// Translations are invalidated before device caches, which are used only while the stream has ATS.
    R7,
    /// A failed call leaves nothing half done.
    R8,
    /// Nothing is dropped silently.
    R9,
    /// The driver stays within what the architecture defines.
    Misuse,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 11] = [
        Self::R0,
        Self::R1,
        Self::R2,
        Self::R3,
        Self::R4,
        Self::R5,
        Self::R6,
        Self::R7,
        Self::R8,
        Self::R9,
        Self::Misuse,
    ];

    /// `R0` to `R9`, or `misuse`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::R0 => "R0",
            Self::R1 => "R1",
            Self::R2 => "R2",
            Self::R3 => "R3",
            Self::R4 => "R4",
            Self::R5 => "R5",
            Self::R6 => "R6",
            Self::R7 => "R7",
            Self::R8 => "R8",
            Self::R9 => "R9",
            Self::Misuse => "misuse",
        }
    }

    /// What must hold, in a sentence.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::R0 => "what is mapped and attached can be reached, without a fault",
            Self::R1 => "when unmap, detach or attach has returned, no DMA reaches the old memory",
            Self::R2 => "a tag is handed out only when no cache carries it, and has one owner",
            Self::R3 => "memory that hardware may read is freed only after its invalidation",
            Self::R4 => "hardware sees the old or the new configuration, never a mixture",
            Self::R5 => "an unmap reaches a new instance, or the instance walks the new tables",
            Self::R6 => "while a tag is changed, an unmap reaches both",
            Self::R7 => "translations are invalidated before the caches of devices",
            Self::R8 => "a call that fails leaves everything as it was, or says what is not",
            Self::R9 => "no event, request or error is dropped silently",
            Self::Misuse => "the driver does only what the architecture defines",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A rule was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// What happened.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.text)
    }
}

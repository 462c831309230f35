// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a command queue is made to stop at a command.

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// It is given a command that does not exist (CERROR_ILL, §3.2).
    Illegal,
    /// Memory refuses the next command once (CERROR_ABT).
    Abort,
}

impl CommandError {
    /// Each with its word.
    pub const WORDS: [(&'static str, Self); 2] =
        [("illegal", Self::Illegal), ("abort", Self::Abort)];

    /// As scenarios write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Illegal => "illegal",
            Self::Abort => "abort",
        }
    }

    /// CMDQ_CONS.ERR.
    pub const fn code(self) -> u8 {
        match self {
            Self::Illegal => 1,
            Self::Abort => 2,
        }
    }
}

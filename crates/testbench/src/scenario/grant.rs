// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a group of page requests is answered.

use smmuv3::page_request::Answer;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// The pages are there, or may be.
    Success,
    /// They never will be.
    Invalid,
    /// Something failed: the device asks for nothing any more until it is attached anew.
    Failure,
    /// The handle is dropped.
    Drop,
}

impl Grant {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Success, Self::Invalid, Self::Failure, Self::Drop];

    /// As scenarios write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Invalid => "invalid",
            Self::Failure => "failure",
            Self::Drop => "drop",
        }
    }

    /// What the driver is told, unless it is told nothing.
    pub const fn answer(self) -> Option<Answer> {
        match self {
            Self::Success => Some(Answer::Success),
            Self::Invalid => Some(Answer::Invalid),
            Self::Failure => Some(Answer::Failure),
            Self::Drop => None,
        }
    }
}

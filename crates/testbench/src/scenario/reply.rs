// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a transaction that has stalled is answered.

use smmuv3::Response;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is tried again.
    Retry,
    /// It aborts.
    Abort,
    /// It ends without an error.
    Terminate,
    /// Its handle is dropped.
    Drop,
}

impl Reply {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Retry, Self::Abort, Self::Terminate, Self::Drop];

    /// As scenarios write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Abort => "abort",
            Self::Terminate => "terminate",
            Self::Drop => "drop",
        }
    }

    /// What the driver is told, unless it is told nothing.
    pub const fn response(self) -> Option<Response> {
        match self {
            Self::Retry => Some(Response::Retry),
            Self::Abort => Some(Response::Abort),
            Self::Terminate => Some(Response::Terminate),
            Self::Drop => None,
        }
    }
}

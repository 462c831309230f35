// SPDX-License-Identifier: MIT OR Apache-2.0
//! Each command is judged before it is placed, in builds with debug assertions: by the rules of
//! [`legality`](smmuv3_formats::legality) (§4.1, §4.2), for the instance's ID registers. In others nothing of this is left.

use smmuv3_formats::Command;
#[cfg(debug_assertions)]
use smmuv3_formats::legality::Implementation;

use crate::features::Features;
#[cfg(debug_assertions)]
use crate::legal;

/// The implementation whose rules a lane's commands are judged by; none before its features are known.
#[derive(Clone, Copy, Default)]
pub(super) struct Judge {
    #[cfg(debug_assertions)]
    implementation: Option<Implementation>,
}

impl Judge {
    pub(super) const fn new() -> Self {
        Self {
            #[cfg(debug_assertions)]
            implementation: None,
        }
    }

    pub(super) const fn of(features: &Features) -> Self {
        #[cfg(not(debug_assertions))]
        let _ = features;
        Self {
            #[cfg(debug_assertions)]
            implementation: Some(features.implementation()),
        }
    }

    /// A command that is to be placed.
    #[inline(always)]
    #[track_caller]
    pub(super) fn accept(self, command: &Command) {
        #[cfg(not(debug_assertions))]
        let _ = command;
        #[cfg(debug_assertions)]
        if let Some(implementation) = &self.implementation {
            legal::command(command, implementation);
        }
    }
}

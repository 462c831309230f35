// SPDX-License-Identifier: MIT OR Apache-2.0
//! What calls of the driver cost, in units that do not depend on who measures.

use std::ops::{AddAssign, Sub};

use serde::Serialize;

/// What was done, in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Commands that SMMUs were given, CMD_SYNCs included.
    pub commands: u64,
    /// CMD_SYNCs among them: each is waited for.
    pub syncs: u64,
    /// Stores that were published to SMMUs: words of STEs, CDs, level-1 descriptors and tables.
    pub stores: u64,
}

impl Sub for Work {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            commands: self.commands - earlier.commands,
            syncs: self.syncs - earlier.syncs,
            stores: self.stores - earlier.stores,
        }
    }
}

impl AddAssign for Work {
    fn add_assign(&mut self, more: Self) {
        self.commands += more.commands;
        self.syncs += more.syncs;
        self.stores += more.stores;
    }
}

impl Work {
    /// That of one of `calls` calls, on average; nothing if there were none.
    pub fn per(self, calls: u64) -> Cost {
        Cost {
            commands: mean(self.commands, calls),
            syncs: mean(self.syncs, calls),
            stores: mean(self.stores, calls),
        }
    }
}

/// [`Work`] of one call, on average.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Cost {
    /// Commands, CMD_SYNCs included.
    pub commands: f64,
    /// CMD_SYNCs.
    pub syncs: f64,
    /// Published stores.
    pub stores: f64,
}

/// `sum` of `count` things each, to three digits after the point.
pub(crate) fn mean(sum: u64, count: u64) -> f64 {
    if count == 0 {
        return 0.0;
    }
    // Far below 2^53.
    (1000.0 * sum as f64 / count as f64).round() / 1000.0
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a command queue counts: waits and their turns, how often there was no room, refused commands.

use super::lane::Lane;
use super::{CommandQueue, Common};
use crate::platform::Platform;
use crate::statistics::CommandStatistics;
use crate::trace::Trace;

/// Numbers of the counts of [`Common`].
pub(super) const WAITS: usize = 0;
pub(super) const TURNS: usize = 1;
pub(super) const FULL: usize = 2;
pub(super) const REFUSED: usize = 3;
/// CMD_SYNCs that do not end a batch.
#[cfg(feature = "ats")]
const WITHIN: usize = 4;

/// A wait; counted, with its turns, when it is dropped.
pub(super) struct Waiting<'a, P: Platform> {
    common: &'a Common,
    platform: &'a P,
    pub(super) turns: u64,
}

impl<'a, P: Platform> Waiting<'a, P> {
    pub(super) fn new(common: &'a Common, platform: &'a P) -> Self {
        Self { common, platform, turns: 0 }
    }
}

impl<P: Platform> Drop for Waiting<'_, P> {
    fn drop(&mut self) {
        let Self { common, platform, turns } = *self;
        common.counters.add(platform, WAITS, 1);
        common.counters.add(platform, TURNS, turns);
        platform.trace(&Trace::Waited { instance: &common.name, turns });
    }
}

impl CommandQueue {
    /// Counts so far. Not to be read while the SMMU is being reset, when positions jump.
    pub fn statistics<P: Platform>(&self, platform: &P) -> CommandStatistics {
        let count = |which| self.common.counters.sum(platform, which);
        let (commands, batches) = self.all(platform).map(Lane::counts).fold(
            (0u64, 0u64),
            |(sum, all), (commands, batches)| {
                (sum.wrapping_add(commands), all.wrapping_add(batches))
            },
        );
        #[cfg(feature = "ats")]
        let within = count(WITHIN);
        #[cfg(not(feature = "ats"))]
        let within = 0;
        CommandStatistics {
            commands,
            batches,
            syncs: batches.wrapping_add(within),
            waits: count(WAITS),
            turns: count(TURNS),
            full: count(FULL),
            refused: count(REFUSED),
        }
    }

    /// Notes that a batch was placed that has so many CMD_SYNCs before the one that ends it.
    #[cfg(feature = "ats")]
    pub(crate) fn count_within<P: Platform>(&self, platform: &P, syncs: usize) {
        self.common.counters.add(platform, WITHIN, syncs as u64);
    }
}

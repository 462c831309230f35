// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where things stand in the file.

use super::Position;

/// Where a thing and its keys stand in the file. Empty for a thing that was not read from a file.
#[derive(Clone, Debug, Default)]
pub struct Places {
    pub(super) whole: Position,
    pub(super) keys: Vec<(String, Position)>,
}

impl Places {
    /// Line of the thing, from 1; 0 if it was not read from a file.
    pub const fn line(&self) -> usize {
        self.whole.line
    }

    /// Where `key` stands, or the whole thing where the key was left out.
    pub(super) fn of(&self, key: &str) -> Position {
        self.keys.iter().find(|(name, _)| name == key).map_or(self.whole, |(_, at)| *at)
    }
}

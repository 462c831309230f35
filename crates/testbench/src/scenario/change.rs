// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be done to an instance as a whole.

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It is suspended, and its power goes.
    Suspend,
    /// Its power comes back, and it is resumed.
    Resume,
    /// It is reset.
    Reset,
    /// Its masters are closed, it is removed, loses its power, and is taken into use again with the same masters.
    Replug,
    /// What was kept of it when it was taken over is over: tags of before can be used.
    EndAdoption,
}

impl Change {
    /// All, with what a step calls them.
    pub const NAMES: [(&'static str, Self); 5] = [
        ("suspend", Self::Suspend),
        ("resume", Self::Resume),
        ("reset", Self::Reset),
        ("replug", Self::Replug),
        ("end-adoption", Self::EndAdoption),
    ];

    /// What a step calls it.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, change)| *change == self).map_or("?", |(name, _)| name)
    }
}

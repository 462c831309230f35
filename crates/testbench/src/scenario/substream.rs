// SPDX-License-Identifier: MIT OR Apache-2.0
//! Substreams, as a scenario names them.

/// Which of a master's accesses are meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Substream {
    /// Those without a substream.
    #[default]
    None,
    /// Those with the PASID that the scenario calls by this number. Which one that is the driver says.
    Pasid(u32),
    /// Those with the PASID of the process with this index.
    Process(usize),
}

impl Substream {
    /// The most PASIDs that a scenario can name.
    pub const MOST_PASIDS: u32 = 4095;
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! StreamWorlds of Non-secure streams (§1): each has translations of its own.

use core::fmt;

/// In whose place a stream translates: STE.STRW, and CR2.E2H when its context was fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum World {
    /// NS-EL1: two tables, VMIDs and ASIDs.
    #[default]
    El1,
    /// NS-EL2: one table, and neither VMIDs nor ASIDs. All its translations are global.
    El2,
    /// NS-EL2-E2H: two tables and ASIDs, without VMIDs.
    El2E2h,
}

impl World {
    /// Whether two worlds' translations are told apart when an address is looked up: those of EL2 with and without
    /// E2H are not, and one must not be live beside the other.
    pub(crate) const fn is_el2(self) -> bool {
        !matches!(self, Self::El1)
    }
}

/// `EL2-E2H`.
impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::El1 => "EL1",
            Self::El2 => "EL2",
            Self::El2E2h => "EL2-E2H",
        })
    }
}

/// The worlds that an invalidation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Worlds {
    One(World),
    /// EL2 and EL2-E2H.
    El2,
}

impl Worlds {
    pub(crate) fn has(self, world: World) -> bool {
        match self {
            Self::One(own) => own == world,
            Self::El2 => world.is_el2(),
        }
    }
}

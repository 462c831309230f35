// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the driver gives out ASIDs.

/// Which ASID a domain has on its instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AsidPolicy {
    /// One an instance, as wide as that instance allows.
    #[default]
    PerInstance,
    /// One for all instances, always of 8 bits.
    Shared8,
    /// One for all instances; of 8 bits only when it is given out anew because it had to move.
    Shared8OnMove,
    /// One for all instances, as wide as the narrowest installed one allows: a narrower one that comes later is
    /// refused.
    SharedMinRefuse,
    /// As `SharedMinRefuse`, but the ASID moves instead.
    SharedMinMove,
    /// One an instance and bank: instances with stage 2 have a whole space of ASIDs for each of many VMIDs.
    Banked,
}

impl AsidPolicy {
    /// All of them, each with the word that scenarios have for it.
    pub const NAMES: [(&str, Self); 6] = [
        ("per-instance", Self::PerInstance),
        ("shared-8", Self::Shared8),
        ("shared-8-on-move", Self::Shared8OnMove),
        ("shared-min-refuse", Self::SharedMinRefuse),
        ("shared-min-move", Self::SharedMinMove),
        ("banked", Self::Banked),
    ];

    /// The word that scenarios have for it.
    pub fn name(self) -> &'static str {
        let found = Self::NAMES.iter().find(|(_, policy)| *policy == self);
        found.map_or("per-instance", |(name, _)| name)
    }

    /// Whether an attach may be refused because a live ASID is too wide for the instance.
    pub const fn refuses_width(self) -> bool {
        matches!(self, Self::Shared8OnMove | Self::SharedMinRefuse)
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an attach or a bind comes to, as a scenario has it.

/// Why the driver refuses an attach or a bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// One ASID is to serve all instances, and the live one is too wide for this instance.
    AsidWidth,
    /// No ASID is left.
    IdsExhausted,
    /// The instance cannot walk the tables.
    Mismatch,
    /// The PASID is beyond the master's substreams.
    PasidRange,
    /// A PASID does not go with stage 2.
    PasidStage,
    /// No VMID is left, or the domain's is too wide or somebody else's.
    Vmid,
    /// The process is gone.
    Released,
    /// The ASID that the CPU pinned belongs to another process already.
    PinnedTwice,
}

impl Refusal {
    /// All of them, each with the word that scenarios have for it.
    pub const NAMES: [(&str, Self); 8] = [
        ("asid-width", Self::AsidWidth),
        ("ids-exhausted", Self::IdsExhausted),
        ("mismatch", Self::Mismatch),
        ("pasid-range", Self::PasidRange),
        ("pasid-stage", Self::PasidStage),
        ("vmid", Self::Vmid),
        ("released", Self::Released),
        ("pinned-twice", Self::PinnedTwice),
    ];

    /// The word that scenarios have for it.
    pub fn name(self) -> &'static str {
        let found = Self::NAMES.iter().find(|(_, refusal)| *refusal == self);
        found.map_or("refused", |(name, _)| name)
    }
}

/// What a call must come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// It is done.
    #[default]
    Done,
    /// It is refused like this, and changes nothing.
    Refused(Refusal),
    /// It is done, or refused with good reason: as random operations are.
    Judged,
}

impl Answer {
    /// The word that scenarios have for [`Answer::Judged`].
    pub const JUDGED: &str = "maybe";

    /// The word that scenarios have for an unmap that is refused, since a block reaches over an end of its range.
    pub const STRADDLE: &str = "straddle";
}

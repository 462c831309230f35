// SPDX-License-Identifier: MIT OR Apache-2.0
//! Steps that a test can leave out, to see that the oracle notices (feature `mutation`).

/// A step of the driver without which a rule is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mutation {
    /// The configuration is invalidated before, not after, the entry is written.
    CfgiBeforeSte,
    /// The configuration is not invalidated.
    NoCfgi,
    /// Translations are not invalidated.
    NoTlbi,
    /// Translations of another ASID are invalidated.
    WrongAsid,
    /// Only the first instance of a domain is invalidated.
    OneInstanceOnly,
    /// Unlinked tables are freed before the invalidation.
    FreeBeforeSync,
    /// A live stream table entry is rewritten word by word.
    WordByWord,
    /// Nobody waits for completion: there is no CMD_SYNC.
    NoSync,
    /// A tag is given back without an invalidation.
    NoTagFlush,
    /// Only leaves are invalidated although tables were unlinked.
    LeafOnly,
    /// A level-1 descriptor is not invalidated although it became valid.
    NoL1Cfgi,
    /// The same of a table of contexts.
    NoLeafCfgi,
    /// Contexts get a new tag before the targets name it.
    TagBeforeTarget,
    /// An SMMU wakes without its caches being emptied.
    NoWakeFlush,
    /// Invalidations are left out while the SMMU is being suspended, and still translates.
    SleepWhileOn,
}

impl Mutation {
    /// Every mutation.
    pub const ALL: [Self; 15] = [
        Self::CfgiBeforeSte,
        Self::NoCfgi,
        Self::NoTlbi,
        Self::WrongAsid,
        Self::OneInstanceOnly,
        Self::FreeBeforeSync,
        Self::WordByWord,
        Self::NoSync,
        Self::NoTagFlush,
        Self::LeafOnly,
        Self::NoL1Cfgi,
        Self::NoLeafCfgi,
        Self::TagBeforeTarget,
        Self::NoWakeFlush,
        Self::SleepWhileOn,
    ];
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! The contexts of a guest's devices that use PASIDs (§5.3).

/// How a guest lays its contexts out, where its SMMU has what that takes: else side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContextLayout {
    /// Side by side.
    Linear,
    /// In leaves of 4 KiB, 64 each.
    Leaves4K,
    /// In leaves of 64 KiB, 1024 each.
    Leaves64K,
}

impl ContextLayout {
    /// Each with its word.
    pub const WORDS: [(&'static str, Self); 3] =
        [("linear", Self::Linear), ("4K", Self::Leaves4K), ("64K", Self::Leaves64K)];
    /// Bits of the SubstreamIDs for which a guest has contexts, at most.
    pub const MOST_BITS: u32 = 8;

    /// S1Fmt.
    pub const fn format(self) -> u64 {
        match self {
            Self::Linear => 0,
            Self::Leaves4K => 1,
            Self::Leaves64K => 2,
        }
    }

    /// log2 of the contexts in a leaf.
    pub const fn split(self) -> Option<u32> {
        match self {
            Self::Linear => None,
            Self::Leaves4K => Some(6),
            Self::Leaves64K => Some(10),
        }
    }
}

/// What becomes of accesses without a PASID of a guest's device that uses PASIDs (S1DSS).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WithoutPasid {
    /// They are refused.
    Terminate,
    /// They bypass the guest's stage 1.
    Bypass,
    /// They have the first context.
    #[default]
    Context,
}

impl WithoutPasid {
    /// Each with its word.
    pub const WORDS: [(&'static str, Self); 3] =
        [("terminate", Self::Terminate), ("bypass", Self::Bypass), ("context", Self::Context)];

    /// S1DSS.
    pub const fn code(self) -> u64 {
        match self {
            Self::Terminate => 0,
            Self::Bypass => 1,
            Self::Context => 2,
        }
    }
}

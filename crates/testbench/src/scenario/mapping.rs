// SPDX-License-Identifier: MIT OR Apache-2.0
//! What mappings say beside where they lead: who may do what, and as what kind of memory.

/// What devices may do with a mapping. Stage 1 can't allow writes alone (§16.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read.
    ReadOnly,
    /// Read and write.
    ReadWrite,
}

/// As what kind of memory something is mapped (§16.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryKind {
    /// Normal, write-back cacheable.
    Normal,
    /// Normal, not cacheable.
    Uncached,
    /// Device-nGnRE.
    Device,
    /// Normal, write-through cacheable. It takes [`Tables::all_attributes`](super::Tables::all_attributes).
    WriteThrough,
    /// Device-nGnRnE. As well.
    StrictDevice,
    /// Stage 2 with [`Tables::forced_types`](super::Tables::forced_types): what the device says. As well.
    AsStage1,
}

/// What a mapping permits beside reads of data, and writes (§16.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rights {
    /// Nothing.
    #[default]
    Data,
    /// Reads of instructions, too.
    Code,
    /// Those, but not to privileged accesses. It takes [`Tables::all_attributes`](super::Tables::all_attributes).
    UserCode,
    /// Those, but to privileged accesses only. As well.
    PrivilegedCode,
    /// Privileged accesses only. Stage 1.
    Privileged,
}

impl MemoryKind {
    /// All of them, with the words for them.
    pub(crate) const WORDS: [(&'static str, Self); 6] = [
        ("normal", Self::Normal),
        ("uncached", Self::Uncached),
        ("device", Self::Device),
        ("write-through", Self::WriteThrough),
        ("strict-device", Self::StrictDevice),
        ("as-stage-1", Self::AsStage1),
    ];
}

impl Rights {
    /// All of them, with the words for them.
    pub(crate) const WORDS: [(&'static str, Self); 5] = [
        ("data", Self::Data),
        ("code", Self::Code),
        ("user-code", Self::UserCode),
        ("privileged-code", Self::PrivilegedCode),
        ("privileged", Self::Privileged),
    ];
}

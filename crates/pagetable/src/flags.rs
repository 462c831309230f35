// SPDX-License-Identifier: MIT OR Apache-2.0
//! What hardware marks in leaves (§14): that a device has accessed what is mapped, or written it.
//!
//! `DBM` says that hardware may mark; whether it has is the bit that otherwise permits writes. Hardware exchanges a leaf
//! for the marked one in one atomic step, and only if it is still what was read: a leaf that is cleared stays so, and what
//! clears it with an exchange knows whether it was marked. So everything that such a leaf may lose by, here and elsewhere
//! in the crate, is an exchange or an atomic operation on one bit.

use core::sync::atomic::{AtomicU64, Ordering};

/// `DBM` of a leaf (§15.3).
pub(crate) const DBM: u64 = 1 << 51;

/// `AF` of a leaf.
const AF: u64 = 1 << 10;

/// AP\[2\] at stage 1, which forbids writes; S2AP\[1\] at stage 2, which permits them.
const WRITE: u64 = 1 << 7;

/// A leaf, or an empty entry, as it is when it was written: dirty, if hardware may mark it, and accessed.
#[inline]
pub(crate) const fn written<const STAGE: u8>(leaf: u64) -> u64 {
    match (leaf & DBM, STAGE) {
        _ if leaf == 0 => 0,
        (0, _) => leaf | AF,
        (_, 1) => leaf & !WRITE | AF,
        _ => leaf | WRITE | AF,
    }
}

/// What is asked about a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flag {
    /// Whether it was written.
    Dirty,
    /// Whether it was accessed.
    Accessed,
}

impl Flag {
    /// Whether `leaf` has it. An empty entry has none.
    #[inline]
    pub(crate) const fn is_set<const STAGE: u8>(self, leaf: u64) -> bool {
        match self {
            Self::Accessed => leaf & AF != 0,
            Self::Dirty => leaf & DBM != 0 && (leaf & WRITE == 0) == (STAGE == 1),
        }
    }

    /// Takes it from a leaf that has it; gives whether it still had.
    ///
    /// Only who unmaps the leaf, with the same right as the caller, may do so meanwhile: it is a leaf of the caller's.
    #[inline]
    pub(crate) fn take<const STAGE: u8>(self, cell: &AtomicU64) -> bool {
        // Release and acquire: whoever is told of a mark sees what was written before it was made.
        let before = match self {
            Self::Accessed => cell.fetch_and(!AF, Ordering::AcqRel),
            Self::Dirty if STAGE == 1 => cell.fetch_or(WRITE, Ordering::AcqRel),
            Self::Dirty => cell.fetch_and(!WRITE, Ordering::AcqRel),
        };
        self.is_set::<STAGE>(before)
    }
}

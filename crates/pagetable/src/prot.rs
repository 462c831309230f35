// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a device may do with a mapping, and as what kind of memory.

use core::fmt;
use core::ops::{BitOr, BitOrAssign};

/// `CD.MAIR` for the attribute indices used here (§16.3, appendix A1): 0 is Normal write-back, 1 Normal
/// non-cacheable, 2 Device-nGnRE.
pub const MAIR: u64 = 0x0004_44FF;

/// Permissions of a mapping (§16.1, §16.2): a set of flags, joined with `|`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Prot(u8);

impl Prot {
    /// Nothing: no mapping can have it.
    pub const NONE: Self = Self(0);
    /// Reads. Stage 1 has no way to refuse them: a stage-1 mapping that may be written may be read too.
    pub const READ: Self = Self(1);
    /// Writes.
    pub const WRITE: Self = Self(2);
    /// Instruction reads. Without it UXN and PXN (stage 2: XN) are set.
    pub const EXECUTE: Self = Self(4);
    /// Privileged transactions only (stage 1: AP\[1\] = 0, and UXN = 1 even with
    /// [`EXECUTE`](Self::EXECUTE)). Stage 2 can't tell and refuses it.
    pub const PRIVILEGED: Self = Self(8);

    /// The flags as a number: bit 0 read, 1 write, 2 execute, 3 privileged.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The flags of `bits` as [`bits`](Self::bits) gives them; others are dropped.
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & 0xF)
    }

    /// Whether every flag of `other` is in `self`.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The flags of both.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOr for Prot {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

impl BitOrAssign for Prot {
    fn bitor_assign(&mut self, other: Self) {
        *self = self.union(other);
    }
}

/// `rwxp`, with `-` for each flag that is missing.
impl fmt::Display for Prot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (flag, letter) in
            [(Self::READ, "r"), (Self::WRITE, "w"), (Self::EXECUTE, "x"), (Self::PRIVILEGED, "p")]
        {
            f.write_str(if self.contains(flag) { letter } else { "-" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Prot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prot({self})")
    }
}

/// Memory type of a mapping (§16.3). The numbers are the indices into [`MAIR`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Memory {
    /// Normal, write-back cacheable, Inner Shareable.
    #[default]
    NormalCacheable = 0,
    /// Normal, non-cacheable, Outer Shareable.
    NormalNonCacheable = 1,
    /// Device-nGnRE: registers, doorbells.
    Device = 2,
}

/// Everything about a mapping but its addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// What is permitted.
    pub prot: Prot,
    /// The memory type.
    pub memory: Memory,
}

impl Attributes {
    /// Permissions and type.
    pub const fn new(prot: Prot, memory: Memory) -> Self {
        Self { prot, memory }
    }

    /// Ordinary cacheable memory.
    pub const fn normal(prot: Prot) -> Self {
        Self::new(prot, Memory::NormalCacheable)
    }
}

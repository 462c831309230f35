// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a device may do with a mapping, and as what kind of memory.

use core::fmt;
use core::ops::{BitOr, BitOrAssign};

use smmuv3_formats::memory_type::Attribute;

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
    /// Takes execution by privileged transactions from [`EXECUTE`](Self::EXECUTE), without which it means nothing
    /// and is refused. At stage 2 it needs XNX.
    pub const PXN: Self = Self(16);
    /// As well, by unprivileged ones.
    pub const UXN: Self = Self(32);
    /// Guarded page (stage 1: GP): for a CPU that shares the tables. An SMMU ignores it.
    pub const GUARDED: Self = Self(64);

    /// The flags as a number: bit 0 read, 1 write, 2 execute, 3 privileged, 4 PXN, 5 UXN, 6 guarded.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The flags of `bits` as [`bits`](Self::bits) gives them; others are dropped.
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & 0x7F)
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

/// `rwxp`, with `-` for each of these that is missing; the others behind it, in words.
impl fmt::Display for Prot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (flag, letter) in
            [(Self::READ, "r"), (Self::WRITE, "w"), (Self::EXECUTE, "x"), (Self::PRIVILEGED, "p")]
        {
            f.write_str(if self.contains(flag) { letter } else { "-" })?;
        }
        for (flag, word) in [(Self::PXN, " pxn"), (Self::UXN, " uxn"), (Self::GUARDED, " guarded")]
        {
            f.write_str(if self.contains(flag) { word } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Prot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prot({self})")
    }
}

/// Memory type of a mapping, and who shares it (§16.3). Memory that is not cached is Outer Shareable.
///
/// At stage 1 each is a byte of a CD's MAIR: of those, [`MAIR`] has all that are in the list before
/// [`NormalWriteThrough`](Self::NormalWriteThrough), and [`DeviceNGnRnE`](Self::DeviceNGnRnE). At stage 2 what stage 1
/// says wins if it is stricter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Memory {
    /// Normal, write-back cacheable, Inner Shareable. At stage 2 with FWB it is so whatever stage 1 says.
    #[default]
    NormalCacheable = 0,
    /// Normal, non-cacheable.
    NormalNonCacheable = 1,
    /// Device-nGnRE: registers, doorbells.
    Device = 2,
    /// As [`NormalCacheable`](Self::NormalCacheable), Outer Shareable.
    NormalCacheableOuter = 3,
    /// As [`NormalCacheable`](Self::NormalCacheable), Non-shareable.
    NormalCacheableNonShareable = 4,
    /// Normal, write-through cacheable, Inner Shareable.
    NormalWriteThrough = 5,
    /// Device-nGnRnE.
    DeviceNGnRnE = 6,
    /// Device-nGRE.
    DeviceNGRE = 7,
    /// Device-GRE.
    DeviceGRE = 8,
    /// Stage 2 with FWB: what stage 1 says, or the device.
    AsStage1 = 9,
}

impl Memory {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::NormalCacheable,
        Self::NormalNonCacheable,
        Self::Device,
        Self::NormalCacheableOuter,
        Self::NormalCacheableNonShareable,
        Self::NormalWriteThrough,
        Self::DeviceNGnRnE,
        Self::DeviceNGRE,
        Self::DeviceGRE,
        Self::AsStage1,
    ];

    /// Who shares it.
    pub const fn shareability(self) -> Shareability {
        match self {
            Self::NormalCacheable | Self::NormalWriteThrough => Shareability::Inner,
            Self::NormalCacheableNonShareable | Self::AsStage1 => Shareability::Non,
            _ => Shareability::Outer,
        }
    }

    /// Whether it may be cached, so that shareability is a matter of choice.
    pub const fn is_cacheable(self) -> bool {
        !matches!(
            self,
            Self::NormalNonCacheable
                | Self::Device
                | Self::DeviceNGnRnE
                | Self::DeviceNGRE
                | Self::DeviceGRE
        )
    }

    /// The byte of a MAIR that it is (§6); `None` where stage 1 has no such type.
    pub(crate) const fn attribute(self) -> Option<Attribute> {
        Some(Attribute(match self {
            Self::NormalCacheable
            | Self::NormalCacheableOuter
            | Self::NormalCacheableNonShareable => 0xFF,
            Self::NormalNonCacheable => 0x44,
            Self::NormalWriteThrough => 0xBB,
            Self::DeviceNGnRnE => 0x00,
            Self::Device => 0x04,
            Self::DeviceNGRE => 0x08,
            Self::DeviceGRE => 0x0C,
            Self::AsStage1 => return None,
        }))
    }

    /// The code of a stage-2 leaf (§16.3), whose encoding `fwb` changes; `None` where that has no such type.
    pub(crate) const fn mem_attr(self, fwb: bool) -> Option<u64> {
        Some(match (self, fwb) {
            (
                Self::NormalCacheable
                | Self::NormalCacheableOuter
                | Self::NormalCacheableNonShareable,
                _,
            ) => {
                if fwb {
                    0b0110
                } else {
                    0b1111
                }
            }
            (Self::NormalNonCacheable, _) => 0b0101,
            (Self::NormalWriteThrough, false) => 0b1010,
            (Self::DeviceNGnRnE, _) => 0b0000,
            (Self::Device, _) => 0b0001,
            (Self::DeviceNGRE, _) => 0b0010,
            (Self::DeviceGRE, _) => 0b0011,
            (Self::AsStage1, true) => 0b0111,
            (Self::NormalWriteThrough, true) | (Self::AsStage1, false) => return None,
        })
    }

    /// Its name, as `write-back` or `device-nGnRE`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NormalCacheable => "write-back",
            Self::NormalNonCacheable => "non-cacheable",
            Self::Device => "device-nGnRE",
            Self::NormalCacheableOuter => "outer shareable write-back",
            Self::NormalCacheableNonShareable => "non-shareable write-back",
            Self::NormalWriteThrough => "write-through",
            Self::DeviceNGnRnE => "device-nGnRnE",
            Self::DeviceNGRE => "device-nGRE",
            Self::DeviceGRE => "device-GRE",
            Self::AsStage1 => "as stage 1 says",
        }
    }
}

/// Who sees accesses in the same order. The numbers are those of SH fields (§15.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Shareability {
    /// Nobody else.
    Non = 0b00,
    /// The Outer Shareable domain.
    Outer = 0b10,
    /// The Inner Shareable domain.
    #[default]
    Inner = 0b11,
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

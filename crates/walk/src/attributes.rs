// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory types and shareability, and how two stages combine them (§16.3).

use core::fmt;

/// A device's memory type, the most restrictive first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Device {
    /// No gathering, no reordering, no early write acknowledgement.
    NGnRnE,
    /// No gathering, no reordering.
    NGnRE,
    /// No gathering.
    NGRE,
    /// All of them allowed.
    GRE,
}

impl Device {
    const fn from_code(code: u8) -> Self {
        match code & 3 {
            0 => Self::NGnRnE,
            1 => Self::NGnRE,
            2 => Self::NGRE,
            _ => Self::GRE,
        }
    }
}

/// Cacheability of Normal memory, the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cacheability {
    /// Non-cacheable.
    Non,
    /// Write-through.
    Through,
    /// Write-back.
    Back,
}

impl Cacheability {
    const fn name(self) -> &'static str {
        match self {
            Self::Non => "NC",
            Self::Through => "WT",
            Self::Back => "WB",
        }
    }
}

/// What kind of memory it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemoryType {
    /// Device memory.
    Device(Device),
    /// Normal memory.
    Normal {
        /// Outer cacheability.
        outer: Cacheability,
        /// Inner cacheability.
        inner: Cacheability,
    },
    /// A code without meaning, or one whose meaning the reference does not give.
    Unknown,
}

impl fmt::Display for MemoryType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(Device::NGnRnE) => f.write_str("Device-nGnRnE"),
            Self::Device(Device::NGnRE) => f.write_str("Device-nGnRE"),
            Self::Device(Device::NGRE) => f.write_str("Device-nGRE"),
            Self::Device(Device::GRE) => f.write_str("Device-GRE"),
            Self::Normal { outer, inner } if outer == inner => write!(f, "Normal {}", outer.name()),
            Self::Normal { outer, inner } => {
                write!(f, "Normal outer {}, inner {}", outer.name(), inner.name())
            }
            Self::Unknown => f.write_str("memory of an unknown type"),
        }
    }
}

/// Normal, write-back: what is assumed of a device that says nothing (§16.4).
const WRITE_BACK: MemoryType =
    MemoryType::Normal { outer: Cacheability::Back, inner: Cacheability::Back };
const NON_CACHEABLE: MemoryType =
    MemoryType::Normal { outer: Cacheability::Non, inner: Cacheability::Non };

/// Who sees an access in order, the fewest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Shareability {
    /// Nobody else.
    Non,
    /// The inner domain.
    Inner,
    /// The outer domain.
    Outer,
}

impl Shareability {
    /// By the code of SH fields: 0, 2 and 3; 1 is reserved and taken as non-shareable.
    pub(crate) const fn from_code(code: u64) -> Self {
        match code {
            2 => Self::Outer,
            3 => Self::Inner,
            _ => Self::Non,
        }
    }

    /// NSH, ISH or OSH.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Non => "NSH",
            Self::Inner => "ISH",
            Self::Outer => "OSH",
        }
    }
}

/// What the memory system is told of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// Its type.
    pub memory: MemoryType,
    /// Its shareability.
    pub shareability: Shareability,
}

impl Attributes {
    /// What is assumed of a device that says nothing: write-back, non-shareable (§16.4).
    pub const INCOMING: Self = Self { memory: WRITE_BACK, shareability: Shareability::Non };

    /// With what always holds: Device memory and non-cacheable memory are outer shareable (§16.3).
    #[must_use]
    pub(crate) fn output(self) -> Self {
        let strict = matches!(self.memory, MemoryType::Device(_)) || self.memory == NON_CACHEABLE;
        let shareability = if strict { Shareability::Outer } else { self.shareability };
        Self { shareability, ..self }
    }
}

impl fmt::Display for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.memory, self.shareability.name())
    }
}

/// The meaning of one byte of MAIR (§6).
pub fn mair(byte: u8) -> MemoryType {
    let (outer, inner) = (byte >> 4, byte & 0xf);
    if outer == 0 {
        return MemoryType::Device(Device::from_code(inner >> 2));
    }
    let half = |nibble: u8| match nibble {
        0b0100 => Cacheability::Non,
        // `xxxx0000` is reserved and behaves as inner write-through.
        0b0000..=0b0011 | 0b1000..=0b1011 => Cacheability::Through,
        _ => Cacheability::Back,
    };
    MemoryType::Normal { outer: half(outer), inner: half(inner) }
}

/// The meaning of STE.MemAttr, an override (§5.2): the codes of stage 2, reserved ones being Device-nGnRnE.
pub(crate) fn override_type(code: u64) -> MemoryType {
    match stage_2_type(code) {
        MemoryType::Unknown => MemoryType::Device(Device::NGnRnE),
        known => known,
    }
}

/// The meaning of MemAttr in a stage-2 leaf without FWB (§16.3).
fn stage_2_type(code: u64) -> MemoryType {
    let half = |bits: u64| match bits & 3 {
        1 => Some(Cacheability::Non),
        2 => Some(Cacheability::Through),
        3 => Some(Cacheability::Back),
        _ => None,
    };
    match (code >> 2 & 3, code & 3) {
        (0, device) => MemoryType::Device(Device::from_code(device as u8)),
        (outer, inner) => match (half(outer), half(inner)) {
            (Some(outer), Some(inner)) => MemoryType::Normal { outer, inner },
            _ => MemoryType::Unknown,
        },
    }
}

/// The more restrictive of two types: Device beats Normal, NC beats WT beats WB.
fn stricter(one: MemoryType, other: MemoryType) -> MemoryType {
    use MemoryType::{Device, Normal, Unknown};
    match (one, other) {
        (Unknown, _) | (_, Unknown) => Unknown,
        (Device(one), Device(other)) => Device(one.min(other)),
        (device @ Device(_), Normal { .. }) | (Normal { .. }, device @ Device(_)) => device,
        (Normal { outer: a, inner: b }, Normal { outer: c, inner: d }) => {
            Normal { outer: a.min(c), inner: b.min(d) }
        }
    }
}

/// What stage 2 makes of the attributes that come in: `code` is MemAttr of the leaf, `shareability` its SH (or
/// STE.S2SH0 with DS) (§16.3).
pub(crate) fn stage_2(
    incoming: Attributes,
    code: u64,
    shareability: Shareability,
    fwb: bool,
) -> Attributes {
    let memory = if !fwb {
        stricter(incoming.memory, stage_2_type(code))
    } else {
        match code & 0b111 {
            device @ 0..=3 => {
                stricter(incoming.memory, MemoryType::Device(Device::from_code(device as u8)))
            }
            5 => stricter(incoming.memory, NON_CACHEABLE),
            6 => WRITE_BACK,
            7 => incoming.memory,
            _ => MemoryType::Unknown,
        }
    };
    Attributes { memory, shareability: incoming.shareability.max(shareability) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_mair_mean_what_the_reference_says() {
        for (byte, text) in [
            (0x00, "Device-nGnRnE"),
            (0x04, "Device-nGnRE"),
            (0x08, "Device-nGRE"),
            (0x0c, "Device-GRE"),
            (0x44, "Normal NC"),
            (0xbb, "Normal WT"),
            (0xff, "Normal WB"),
            (0x4f, "Normal outer NC, inner WB"),
        ] {
            assert_eq!(mair(byte).to_string(), text, "{byte:#x}");
        }
    }

    #[test]
    fn stage_2_makes_types_stricter() {
        let share = Shareability::Inner;
        let of = |memory, code, fwb| {
            stage_2(Attributes { memory, ..Attributes::INCOMING }, code, share, fwb).memory
        };
        let device = MemoryType::Device(Device::NGnRE);
        assert_eq!(of(WRITE_BACK, 0b1111, false), WRITE_BACK);
        assert_eq!(of(WRITE_BACK, 0b0101, false), NON_CACHEABLE);
        assert_eq!(of(NON_CACHEABLE, 0b1111, false), NON_CACHEABLE);
        assert_eq!(of(device, 0b1111, false), device);
        assert_eq!(of(device, 0b0000, false), MemoryType::Device(Device::NGnRnE));
        assert_eq!(of(WRITE_BACK, 0b0100, false), MemoryType::Unknown);
        // Forced.
        assert_eq!(of(NON_CACHEABLE, 0b0110, true), WRITE_BACK);
        assert_eq!(of(device, 0b0111, true), device);
        assert_eq!(of(device, 0b0101, true), device);
        assert_eq!(of(WRITE_BACK, 0b0001, true), device);
    }

    #[test]
    fn what_is_not_cached_is_outer_shareable() {
        let incoming = Attributes { memory: NON_CACHEABLE, ..Attributes::INCOMING };
        assert_eq!(incoming.output().shareability, Shareability::Outer);
        assert_eq!(Attributes::INCOMING.output().shareability, Shareability::Non);
    }
}

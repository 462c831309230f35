// SPDX-License-Identifier: MIT OR Apache-2.0
//! Names of memory types: attributes of MAIR (§6), MemAttr of stage 2 and of overrides (§16.3).

use core::fmt;

/// One byte of a MAIR: the type that AttrIndx chooses. Written as `Normal write-back` and the like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attribute(pub u8);

impl Attribute {
    /// The byte of `mair` that a leaf with AttrIndx `index` uses: 0 to 7, or with CD.AIE up to 15, of which
    /// those above 7 use byte 7. `None` beyond.
    pub const fn of_mair(mair: u64, index: u64) -> Option<Self> {
        match index {
            0..8 => Some(Self((mair >> (8 * index)) as u8)),
            8..16 => Some(Self((mair >> 56) as u8)),
            _ => None,
        }
    }

    /// Whether it is Device memory.
    pub const fn is_device(self) -> bool {
        self.0 & 0xf0 == 0
    }
}

/// How far a cache may go, and its hints.
struct Cacheability(u8);

impl fmt::Display for Cacheability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An inner nibble of zero behaves as write-through, transient, read and write allocate.
        let nibble = if self.0 == 0 { 0b0011 } else { self.0 };
        let kind = match nibble {
            0b0100 => return f.write_str("non-cacheable"),
            0b0000..=0b0011 => "write-through transient",
            0b0101..=0b0111 => "write-back transient",
            0b1000..=0b1011 => "write-through",
            _ => "write-back",
        };
        let hint = match nibble & 0b11 {
            0b11 => "",
            0b10 => " read-allocate",
            0b01 => " write-allocate",
            _ => " no-allocate",
        };
        write!(f, "{kind}{hint}")
    }
}

/// `Device-nGnRE`, `Normal write-back`, `Normal outer write-through, inner non-cacheable`. Caches allocate on
/// reads and writes unless it says otherwise.
impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (outer, inner) = (self.0 >> 4, self.0 & 0xf);
        if self.is_device() {
            // Reserved codes behave as the type in bits 3:2.
            return f.write_str(device(u64::from(inner >> 2)));
        }
        if self.0 == 0xf0 {
            return f.write_str("Tagged Normal write-back (not supported)");
        }
        if outer == inner {
            return write!(f, "Normal {}", Cacheability(outer));
        }
        write!(f, "Normal outer {}, inner {}", Cacheability(outer), Cacheability(inner))
    }
}

const fn device(code: u64) -> &'static str {
    match code {
        0 => "Device-nGnRnE",
        1 => "Device-nGnRE",
        2 => "Device-nGRE",
        _ => "Device-GRE",
    }
}

/// Name of a stage-2 MemAttr (§16.3), of which `fwb` (STE.S2FWB) changes the encoding; `None` for a reserved
/// code. Only the low 4 bits count; with `fwb` only 3.
pub const fn stage_2(mem_attr: u64, fwb: bool) -> Option<&'static str> {
    if fwb {
        return Some(match mem_attr & 0b111 {
            code @ 0b000..=0b011 => device(code),
            0b101 => "Normal non-cacheable, or Device if stage 1 says so",
            0b110 => "Normal write-back, forced",
            0b111 => "as stage 1 says",
            _ => return None,
        });
    }
    Some(match mem_attr & 0xf {
        code @ 0b0000..=0b0011 => device(code),
        0b0101 => "Normal non-cacheable",
        0b0110 => "Normal outer non-cacheable, inner write-through",
        0b0111 => "Normal outer non-cacheable, inner write-back",
        0b1001 => "Normal outer write-through, inner non-cacheable",
        0b1010 => "Normal write-through",
        0b1011 => "Normal outer write-through, inner write-back",
        0b1101 => "Normal outer write-back, inner non-cacheable",
        0b1110 => "Normal outer write-back, inner write-through",
        0b1111 => "Normal write-back",
        _ => return None,
    })
}

/// Name of a MemAttr that replaces the incoming type (STE.MemAttr, GBPA.MemAttr) or is that of an MSI: as
/// stage 2 without FWB, but reserved codes are Device-nGnRnE (§5.2).
pub const fn overriding(mem_attr: u64) -> &'static str {
    match stage_2(mem_attr, false) {
        Some(name) => name,
        None => device(0),
    }
}

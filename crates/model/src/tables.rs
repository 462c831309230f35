// SPDX-License-Identifier: MIT OR Apache-2.0
//! The translation tables of one half of stage 1, or of stage 2: shape, place, and how descriptors are read
//! (§15).

use smmuv3_formats::descriptor::{Form, Meaning, Stage};
use smmuv3_formats::granule::{Granule, Tables as Shape};

/// How the descriptors of tables are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) stage: Stage,
    pub(crate) granule: Granule,
    /// LPA2: CD.DS or STE.S2DS.
    pub(crate) ds: bool,
    /// STE.S2FWB.
    pub(crate) fwb: bool,
    /// Output address bits of the instance.
    pub(crate) oas: u8,
    /// Output address bits that may be used; more is F_ADDR_SIZE.
    pub(crate) output: u8,
}

impl Layout {
    /// What `descriptor` is in a table of `level`.
    #[inline]
    pub(crate) const fn read(&self, descriptor: u64, level: i8) -> Meaning {
        let Self { stage, granule, ds, fwb, oas, .. } = *self;
        let output_bits = oas as u32;
        Form { stage, granule, level, ds, output_bits, pie: false, fwb }.read(descriptor)
    }

    /// Whether an output address has the configured size.
    #[inline]
    pub(crate) const fn fits(&self, address: u64) -> bool {
        // At most 52 bits.
        address >> self.output == 0
    }
}

/// Tables, as a legal CD or STE configures them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tables {
    pub(crate) stage: Stage,
    /// Granule, input size and start level.
    pub(crate) shape: Shape,
    /// LPA2: CD.DS or STE.S2DS.
    pub(crate) ds: bool,
    /// STE.S2FWB.
    pub(crate) fwb: bool,
    /// Output address bits of the instance.
    pub(crate) oas: u8,
    /// Output address bits that may be used; more is F_ADDR_SIZE.
    pub(crate) output: u8,
    /// Address of the first table, or of the first of several side by side, aligned.
    pub(crate) base: u64,
    /// A clear access flag is no fault: AFFD.
    pub(crate) affd: bool,
    /// Hardware sets access flags: HA. AFFD means nothing then (§14).
    pub(crate) access: bool,
    /// Hardware marks what is written: HA and HD (§14).
    pub(crate) dirty: bool,
}

impl Tables {
    #[inline]
    pub(crate) const fn granule(&self) -> Granule {
        self.shape.granule()
    }

    #[inline]
    pub(crate) const fn start(&self) -> i8 {
        self.shape.start_level()
    }

    /// What `descriptor` is in a table of `level`.
    pub(crate) const fn read(&self, descriptor: u64, level: i8) -> Meaning {
        self.layout().read(descriptor, level)
    }

    #[inline]
    pub(crate) const fn layout(&self) -> Layout {
        let Self { stage, ds, fwb, oas, output, .. } = *self;
        Layout { stage, granule: self.granule(), ds, fwb, oas, output }
    }

    /// Shareability of what a leaf maps: its own, or `configured`, where LPA2 has address bits in that place (§15.3).
    #[inline]
    pub(crate) const fn shareability(&self, own: u64, configured: u8) -> u8 {
        let lpa2 = self.ds && !matches!(self.granule(), Granule::K64);
        // The field has 2 bits.
        if lpa2 { configured } else { own as u8 }
    }

    /// Bytes of a table of `level`; of all that stand side by side at the start level.
    #[inline]
    pub(crate) const fn bytes(&self, level: i8) -> u64 {
        if level == self.start() { self.shape.first_bytes() } else { 1 << self.granule().shift() }
    }

    /// Offset of the descriptor for `input` in a table of `level`, in bytes.
    #[inline]
    pub(crate) const fn offset(&self, input: u64, level: i8) -> u64 {
        // Both are powers of two; bits above the input size are not looked at.
        (input >> self.granule().span(level) << 3) & (self.bytes(level) - 1)
    }

    /// Whether an output address has the configured size.
    #[inline]
    pub(crate) const fn fits(&self, address: u64) -> bool {
        self.layout().fits(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_those_of_the_index() {
        // Appendix A1, and A2's two concatenated tables.
        let shapes = [
            (Shape::stage_1(Granule::K4, 16), 0x12_3456_7000u64, [0, 0x240, 0xd10, 0xb38]),
            (
                Shape::stage_2(Granule::K4, 1, 24, false, false),
                0xff_1234_5000,
                [0, 0x1fe0, 0x488, 0xa28],
            ),
        ];
        for (shape, input, offsets) in shapes {
            let shape = shape.unwrap();
            let tables = Tables {
                stage: Stage::One,
                shape,
                ds: false,
                fwb: false,
                oas: 48,
                output: 48,
                base: 0,
                affd: false,
                access: false,
                dirty: false,
            };
            for level in shape.start_level()..=3 {
                // What is above the input does not matter.
                for high in [0, u64::MAX << shape.input_bits()] {
                    assert_eq!(tables.offset(input | high, level), offsets[level as usize]);
                }
                assert_eq!(tables.offset(input, level), 8 * shape.index(input, level));
            }
        }
    }
}

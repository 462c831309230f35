// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any words as an SMMU, an access and memory: everything is walked, and walks end.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // As it is every fourth time; else memory is made of what leads on, for tables that are deep.
    match data.split_first() {
        Some((first, data)) if first & 3 != 0 => smmuv3_walk::fuzz(&shaped(data)),
        _ => smmuv3_walk::fuzz(data),
    }
});

/// The words of `data`, those behind the registers and the access each in the shape that its lowest bits name.
fn shaped(data: &[u8]) -> Vec<u8> {
    let (words, _) = data.as_chunks::<8>();
    let words = words.iter().enumerate().map(|(index, word)| {
        let word = u64::from_le_bytes(*word);
        let address = word >> 4 & 0xff_ffff_f000;
        match (index, word & 15) {
            // A stream table in memory, of one level or two, and few streams.
            (0, _) => word & 0xff_ffff_ffc0,
            (1, _) => word & 0x7_0001_07c8 | 0x8,
            (4, _) => word & !0xffff_ff00,
            (..8, _) => word,
            // Tables and pages; blocks; all rights and attributes come from the upper bits.
            (_, 0..=3) => address | 0x403 | word & 0xfff0_0000_0000_0000,
            (_, 4) => address | 0x401,
            // Word 0 of an STE for each configuration, a first-level STD and CD among them.
            (_, 5) => address | 0xb,
            (_, 6) => address | 0xd,
            (_, 7) => address | 0xf,
            (_, 8) => address | word >> 44 & 0xf,
            // Word 0 of a CD, AArch64 and valid; the second-stage word of an STE.
            (_, 9) => 0x0005_e204_c000_3510,
            (_, 10) => 0x0005_e204_0000_0010 | word >> 8 & 0x3f | word & 0xff00,
            (_, 11) => 0x040c_3558_0000_0007,
            (_, 12) => 0x0008_3558_0000_0000 | word >> 8 & 0xffff,
            (_, 13) => 0,
            _ => word >> 4,
        }
    });
    words.flat_map(u64::to_le_bytes).collect()
}

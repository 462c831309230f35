// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any bytes as memory: an entry for fuzzers.

use smmuv3_formats::register::{Idr0, Idr1, Idr3, Idr5, StrtabBase, StrtabBaseCfg};

use crate::access::Access;
use crate::memory::{Gap, Memory};
use crate::outcome::Outcome;
use crate::reach::{Limits, Scope, reach};
use crate::smmu::{Smmu, beyond};
use crate::translate::walk;

/// Bytes that are repeated through all of memory, so that every pointer leads somewhere, but for a hole.
struct Repeated<'a> {
    bytes: &'a [u8],
}

impl Memory for Repeated<'_> {
    fn read64(&self, pa: u64) -> Result<u64, Gap> {
        match pa >> 40 {
            0xd => return Err(Gap::Missing),
            0xe => return Err(Gap::Abort),
            _ => {}
        }
        let (words, _) = self.bytes.as_chunks::<8>();
        // A table of 2^n words repeats; others shift against the tables, which is as good.
        let index = (pa / 8).checked_rem(words.len() as u64).unwrap_or(0);
        Ok(words.get(index as usize).map_or(0, |word| u64::from_le_bytes(*word)))
    }

    fn data_from(&self, pa: u64, end: u64) -> Option<u64> {
        let any = self.bytes.iter().any(|byte| *byte != 0);
        (any && pa < end).then_some(pa)
    }
}

/// Walks with `data` as registers, access and memory. For fuzzers: nothing that it is given makes it panic, or run
/// for long.
pub fn fuzz(data: &[u8]) {
    let Some((head, bytes)) = data.split_at_checked(64) else { return };
    let (words, _) = head.as_chunks::<8>();
    let word = |index: usize| words.get(index).map_or(0, |word| u64::from_le_bytes(*word));
    let low = |index: usize| word(index) as u32;
    let mut smmu = Smmu::with_everything(StrtabBase(word(0)), StrtabBaseCfg(low(1)));
    let all = &mut smmu.implementation;
    all.e2h = word(1) >> 32 & 1 != 0;
    smmu.recinvsid = word(1) >> 33 & 1 != 0;
    // Half of the time everything is there: random features refuse nearly everything.
    if word(1) >> 34 & 1 != 0 {
        all.idr0 = Idr0(low(2));
        all.idr1 = Idr1((word(2) >> 32) as u32);
        all.idr3 = Idr3(low(3));
        all.idr5 = Idr5((word(3) >> 32) as u32);
    }
    let access = Access {
        stream: low(4),
        substream: (word(4) >> 32 & 1 != 0).then_some((word(4) >> 40) as u32 & 0xf_ffff),
        address: word(5),
        write: word(4) >> 33 & 1 != 0,
        privileged: word(4) >> 34 & 1 != 0,
        instruction: word(4) >> 35 & 1 != 0,
    };
    let memory = Repeated { bytes };
    let found = walk(&memory, &smmu, access);
    if let Outcome::Translated(translation) = &found.outcome {
        assert!(!beyond(translation.address, smmu.implementation.output_bits()));
    }
    let limits = Limits {
        descriptors: 1 << 14,
        ranges: 64,
        findings: 64,
        streams: 16,
        nodes: 16,
        entries: 256,
        pieces: 1 << 14,
    };
    let scope = Scope { stream: (word(6) & 1 != 0).then_some(access.stream), ..Scope::default() };
    let survey = reach(&memory, &smmu, scope, limits, &mut |_| {});
    assert!(survey.descriptors <= limits.descriptors);
    assert!(survey.findings.len() <= limits.findings && survey.tree.len() <= limits.nodes);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers without pattern, of which some are small.
    fn bytes(seed: u64, count: usize) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z ^ (z >> 27)
        };
        (0..count / 8)
            .flat_map(|_| {
                let word = next();
                // Valid entries and tables that point nearby are rare among random numbers.
                let word = match word & 7 {
                    0 => (word >> 3 & 0xff_ffff_f000) | 0b11,
                    1 => (word >> 3 & 0xff_ffff_ffc0) | 0xb,
                    2 => (word >> 3 & 0xff_ffff_ffc0) | 0xf,
                    3 => 0x0005_e204_c000_3510,
                    4 => 0x040c_3558_0000_0007,
                    5 => 0,
                    _ => word,
                };
                word.to_le_bytes()
            })
            .collect()
    }

    #[test]
    fn nothing_makes_it_panic_or_hang() {
        for seed in 0..400 {
            fuzz(&bytes(seed, 64 + 8 * (1 + seed as usize % 700)));
        }
        fuzz(&[]);
        fuzz(&[0xff; 1000]);
        fuzz(&[0; 64]);
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where entries of a stream table are, read from registers and memory as an SMMU does (§2.5, §5.1).

use smmuv3_formats::L1Std;
use smmuv3_formats::register::{StrtabBase, StrtabBaseCfg};

use crate::ram::Ram;

/// A stream table, by the registers that say where it is.
#[derive(Clone, Copy, Debug)]
pub struct StreamTable {
    /// STRTAB_BASE.
    pub base: StrtabBase,
    /// STRTAB_BASE_CFG.
    pub shape: StrtabBaseCfg,
}

impl StreamTable {
    /// Where its leaves are; none of a linear table.
    pub fn leaves(&self, ram: &Ram) -> Vec<u64> {
        const TWO_LEVELS: u64 = 1;
        if self.shape.fmt() != TWO_LEVELS {
            return Vec::new();
        }
        let descriptors = 1u64 << self.shape.log2size().saturating_sub(self.shape.split());
        let words = (0..descriptors).filter_map(|index| ram.read64(self.base.addr() + 8 * index));
        let valid = words.map(|word| L1Std([word])).filter(|it| (1..=11).contains(&it.span()));
        valid.map(|descriptor| descriptor.l2_ptr()).collect()
    }

    /// Address of the entry of `stream`; `None` where there is none.
    pub fn entry(&self, ram: &Ram, stream: u32) -> Option<u64> {
        const ENTRY: u64 = 64;
        const TWO_LEVELS: u64 = 1;
        let stream = u64::from(stream);
        if stream >> self.shape.log2size() != 0 {
            return None;
        }
        if self.shape.fmt() != TWO_LEVELS {
            return Some(self.base.addr() + ENTRY * stream);
        }
        let split = self.shape.split();
        let descriptor = L1Std([ram.read64(self.base.addr() + 8 * (stream >> split))?]);
        let index = stream & ((1 << split) - 1);
        let within =
            (1..=split + 1).contains(&descriptor.span()) && index >> (descriptor.span() - 1) == 0;
        within.then_some(descriptor.l2_ptr() + ENTRY * index)
    }
}

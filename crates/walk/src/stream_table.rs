// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a StreamID to its STE (§5.1, §2.5).

use smmuv3_formats::{EventId, L1Std, STE_BYTES, Ste};

use crate::describe;
use crate::memory::Memory;
use crate::outcome::What;
use crate::smmu::Smmu;
use crate::translate::{Cause, Stop, Walker};

/// Why an L1STD leads to no STE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoArray {
    /// Span is 0.
    Invalid,
    /// Span is reserved, or larger than SPLIT + 1.
    BadSpan,
}

/// The array of STEs that `descriptor` points to: its address, and log2 of its STEs (§5.1).
pub(crate) fn array(descriptor: L1Std, split: u32) -> Result<(u64, u32), NoArray> {
    match descriptor.span() {
        0 => Err(NoArray::Invalid),
        span if span > 11 || span > u64::from(split) + 1 => Err(NoArray::BadSpan),
        span => {
            // At most 11, so it fits.
            let log2 = span as u32 - 1;
            Ok((descriptor.l2_ptr() & !(((STE_BYTES as u64) << log2) - 1), log2))
        }
    }
}

/// Address of the level-1 descriptor, or of the STE of a linear table, with this index.
pub(crate) fn place(smmu: &Smmu, index: u64) -> u64 {
    let bytes = if smmu.split().is_some() { 8 } else { STE_BYTES as u64 };
    // Indices have at most 32 bits and the base 56.
    smmu.stream_table() + index * bytes
}

impl<M: Memory> Walker<'_, M> {
    /// The STE of the access.
    pub(crate) fn ste(&mut self) -> Result<Ste, Stop> {
        let stream = u64::from(self.access.stream);
        let bad = |why| Stop::from(Cause::new(EventId::CBadStreamId, why));
        if stream >> self.smmu.stream_bits() != 0 {
            return Err(bad("the StreamID is outside the stream table"));
        }
        let (address, index) = match self.smmu.split() {
            None => (place(self.smmu, stream), stream),
            Some(split) => {
                let index = stream >> split;
                let address = place(self.smmu, index);
                let step = self.step(What::L1Std, None, index, None, Some(address));
                let [word] = self.fetch_entry(step, address)?;
                let descriptor = L1Std([word]);
                self.mean(step, describe::l1_std(descriptor, split));
                let low = stream & ((1 << split) - 1);
                let (table, log2) = array(descriptor, split).map_err(|no| match no {
                    NoArray::Invalid => bad("the level-1 descriptor is invalid (Span = 0)"),
                    NoArray::BadSpan => bad("Span of the level-1 descriptor is out of range"),
                })?;
                if low >> log2 != 0 {
                    return Err(bad("the stream is beyond Span of the level-1 descriptor"));
                }
                (table + low * STE_BYTES as u64, low)
            }
        };
        let step = self.step(What::Ste, None, index, None, Some(address));
        let ste = Ste(self.fetch_entry(step, address)?);
        self.mean(step, describe::ste(&ste));
        Ok(ste)
    }

    /// Reads an STE or L1STD.
    fn fetch_entry<const N: usize>(&mut self, step: usize, address: u64) -> Result<[u64; N], Stop> {
        let why = "the stream table cannot be read";
        let cause = Cause { fetch: Some(address), ..Cause::new(EventId::FSteFetch, why) };
        if self.smmu.beyond_output(address) {
            let why = "the stream table is beyond the output size";
            return Err(Cause { why, ..cause }.into());
        }
        self.fetch(step, address, cause)
    }
}

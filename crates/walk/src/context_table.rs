// SPDX-License-Identifier: MIT OR Apache-2.0
//! From an STE and a SubstreamID to a CD (§5.3, §6).

use smmuv3_formats::event::class;
use smmuv3_formats::{CD_BYTES, Cd, EventId, L1Cd};

use crate::describe;
use crate::memory::Memory;
use crate::outcome::What;
use crate::smmu::Smmu;
use crate::stage::Use;
use crate::tables::{Contexts, Stage2};
use crate::translate::{Cause, Stop, Walker};

/// Which CD an access uses; `None` where it skips stage 1 (§5.3).
pub(crate) fn selected(
    substream: Option<u32>,
    contexts: &Contexts,
) -> Result<Option<u32>, (EventId, &'static str)> {
    let bad = |why| Err((EventId::CBadSubstreamId, why));
    let disabled = |why| Err((EventId::FStreamDisabled, why));
    match (substream, contexts.log2, contexts.s1_dss) {
        (None, 0, _) => Ok(Some(0)),
        (Some(_), 0, _) => bad("the stream has no substreams (S1CDMax = 0)"),
        (Some(index), log2, _) if u64::from(index) >> log2 != 0 => {
            bad("the substream is outside the table of contexts (S1CDMax)")
        }
        (Some(0), _, 2) => disabled("substream 0 is for accesses without substream (S1DSS = 2)"),
        (Some(index), ..) => Ok(Some(index)),
        (None, _, 1) => Ok(None),
        (None, _, 2) => Ok(Some(0)),
        (None, ..) => disabled("accesses without substream are terminated (S1DSS = 0)"),
    }
}

/// The leaf that an L1CD points to; `None` where it leads nowhere. `nested` addresses are intermediate (§5.3).
pub(crate) fn leaf(descriptor: L1Cd, split: u32, nested: bool, smmu: &Smmu) -> Option<u64> {
    let pointer = descriptor.l2_ptr();
    let beyond =
        if nested { smmu.beyond_intermediate(pointer) } else { smmu.beyond_output(pointer) };
    let fine = descriptor.v() && !beyond;
    // Bits below the size of a leaf are RES0, and dropped.
    fine.then_some(pointer & !(((CD_BYTES as u64) << split) - 1))
}

impl<M: Memory> Walker<'_, M> {
    /// The CD with index `substream`, which is in range.
    pub(crate) fn cd(
        &mut self,
        substream: u32,
        contexts: &Contexts,
        second: Option<&Stage2>,
    ) -> Result<Cd, Stop> {
        let index = u64::from(substream);
        let (address, low) = match contexts.split {
            None => (contexts.table + index * CD_BYTES as u64, index),
            Some(split) => {
                let above = index >> split;
                let (step, [word]) =
                    self.fetch_context(What::L1Cd, above, contexts.table + 8 * above, second)?;
                let descriptor = L1Cd([word]);
                self.mean(step, describe::l1_cd(descriptor));
                let low = index & ((1 << split) - 1);
                let why = if descriptor.v() {
                    "the level-1 descriptor of contexts points beyond the address size"
                } else {
                    "the level-1 descriptor of contexts is invalid"
                };
                let leaf = leaf(descriptor, split, second.is_some(), self.smmu)
                    .ok_or(Cause::new(EventId::CBadSubstreamId, why))?;
                (leaf + low * CD_BYTES as u64, low)
            }
        };
        let (step, words) = self.fetch_context(What::Cd, low, address, second)?;
        let cd = Cd(words);
        self.mean(step, describe::cd(&cd));
        Ok(cd)
    }

    /// Reads a CD or L1CD, through stage 2 where there is one; with the step that it is.
    fn fetch_context<const N: usize>(
        &mut self,
        what: What,
        index: u64,
        address: u64,
        second: Option<&Stage2>,
    ) -> Result<(usize, [u64; N]), Stop> {
        let ipa = second.map(|_| address);
        let step = self.step(what, None, index, ipa, None);
        let physical = match second {
            None => address,
            Some(second) => {
                self.below(|walker| walker.stage_2(second, address, Use::fetch(class::CD)))?.address
            }
        };
        self.locate(step, physical);
        let why = "the context cannot be read";
        let cause = Cause { fetch: Some(physical), ..Cause::new(EventId::FCdFetch, why) };
        Ok((step, self.fetch(step, physical, cause)?))
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which ID becomes which: requester IDs become StreamIDs, and those DeviceIDs.

use alloc::vec::Vec;

use smmuv3::NoMemory;

use crate::device::{InstanceIndex, LookupError};
use crate::memory::push;

/// Where what is mapped goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// An SMMUv3 of this topology; the output is a StreamID.
    Smmu(InstanceIndex),
    /// No SMMU: an ITS at once, for messages; memory is reached as it is.
    Direct,
    /// An IOMMU that this driver does not drive, or that firmware says is not to be used.
    Foreign,
}

/// A range of IDs and what becomes of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The first ID.
    pub first: u32,
    /// The last one.
    pub last: u32,
    /// What the first one becomes; the others follow in order.
    pub output: u32,
    /// Where they go.
    pub target: Target,
    /// All IDs become the same.
    pub single: bool,
}

impl Mapping {
    /// What `id` becomes; `None` where it is not in the range.
    #[must_use]
    pub fn map(&self, id: u32) -> Option<u32> {
        // Mappings whose outputs would pass 32 bits are left out when they are read.
        let offset = if self.single { 0 } else { id.wrapping_sub(self.first) };
        (self.first..=self.last).contains(&id).then(|| self.output.wrapping_add(offset))
    }

    /// An ID that becomes `output` at `target`: the first, if it is several.
    pub(crate) fn inverse(&self, (target, output): (Target, u32)) -> Option<u32> {
        if self.target != target || !(self.output..=self.last_output()).contains(&output) {
            return None;
        }
        // Within the range, since the output is.
        Some(self.first.wrapping_add(output.wrapping_sub(self.output)))
    }

    /// The last output.
    #[must_use]
    pub fn last_output(&self) -> u32 {
        self.map(self.last).unwrap_or(self.output)
    }
}

/// What `id` becomes by `mappings`: `None` when none has it.
///
/// Some firmware counts a range one too long, so that its last ID is the first of the next: the one that begins
/// there wins. Any other contradiction is an error.
pub(crate) fn look_up<'a>(
    mappings: impl Iterator<Item = &'a Mapping> + Clone,
    id: u32,
) -> Result<Option<(Target, u32)>, LookupError> {
    let found = |mapping: &Mapping| Some((mapping.target, mapping.map(id)?));
    let mut all = mappings.clone().filter_map(found);
    let Some(answer) = all.next() else { return Ok(None) };
    if all.all(|other| other == answer) {
        return Ok(Some(answer));
    }
    let mut answer = None;
    for mapping in mappings.filter(|mapping| mapping.map(id).is_some()) {
        let new = found(mapping);
        if mapping.first == id && answer.is_none() {
            answer = new;
        } else if (mapping.first == id || mapping.last != id) && answer != new {
            return Err(LookupError::Ambiguous { id });
        }
    }
    answer.map_or(Err(LookupError::Ambiguous { id }), |answer| Ok(Some(answer)))
}

/// Ranges that `mappings` both have, in no useful order; at most as many as there are mappings.
pub(crate) fn overlaps(mappings: &[Mapping]) -> Result<Vec<(u32, u32)>, NoMemory> {
    let mut sorted = Vec::new();
    for mapping in mappings {
        push(&mut sorted, *mapping)?;
    }
    sorted.sort_unstable_by_key(|mapping| (mapping.first, mapping.last));
    let mut found = Vec::new();
    let mut reached: Option<u32> = None;
    for mapping in &sorted {
        if let Some(last) = reached
            && mapping.first <= last
        {
            push(&mut found, (mapping.first, last.min(mapping.last)))?;
        }
        reached = reached.max(Some(mapping.last));
    }
    Ok(found)
}

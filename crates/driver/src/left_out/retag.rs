// SPDX-License-Identifier: MIT OR Apache-2.0
//! No tag that is in use is changed (feature `policies`): whoever would need that is refused, or does without.

use crate::attach::AttachError;
use crate::configuration::Configuration;
use crate::iommu::Core;
use crate::platform::Platform;

/// No other ASID for the space of a place.
pub(crate) fn change_asid<P: Platform>(
    _: &Core<P>,
    configuration: &mut Configuration<P>,
    index: usize,
    bits: u32,
) -> Result<u16, AttachError> {
    let Some(place) = configuration.places.get(index) else { return Err(AttachError::Foreign) };
    Err(AttachError::NoAsid { instance: place.instance, bits })
}

/// No other bank for a master.
pub(crate) fn change_bank<P: Platform>(
    _: &Core<P>,
    _: &mut Configuration<P>,
    _: usize,
) -> Result<Option<u16>, AttachError> {
    Ok(None)
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! No streams that firmware left working (feature `hand-over`).

use core::marker::PhantomData;

use crate::configuration::Configuration;
use crate::error::InstanceId;
use crate::instance::{EnableError, Instance};
use crate::iommu::Core;
use crate::platform::Platform;

/// None that are to be kept.
pub(crate) struct Kept<P>(PhantomData<P>);

impl<P> Kept<P> {
    pub(crate) const fn new() -> Self {
        Self(PhantomData)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        true
    }

    pub(crate) const fn len(&self) -> usize {
        0
    }
}

/// None that are ready.
pub(crate) struct Ready;

pub(crate) fn prepare<P: Platform>(
    _: &Core<P>,
    _: &mut Configuration<P>,
    _: InstanceId,
    _: &Instance<P>,
    _: &Kept<P>,
) -> Result<Ready, EnableError> {
    Ok(Ready)
}

pub(crate) fn commit<P: Platform>(_: &Core<P>, _: &mut Configuration<P>, _: InstanceId, _: Ready) {}

pub(crate) fn undo<P: Platform>(
    _: &Core<P>,
    _: &mut Configuration<P>,
    _: InstanceId,
    _: Ready,
    _: bool,
) {
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! No SMMU that runs is taken over (feature `hand-over`).

use alloc::vec::Vec;

use smmuv3_formats::StreamId;

use crate::configuration::Configuration;
use crate::error::{Failure, InstanceId};
use crate::instance::{EnableError, Instance};
use crate::invalidate::Tag;
use crate::iommu::Core;
use crate::platform::Platform;
use crate::stream_table::StreamTable;

/// What was found: nobody has looked.
pub(crate) enum Found {}

impl Found {
    pub(crate) unsafe fn table(&mut self) -> StreamTable {
        match *self {}
    }

    pub(crate) fn take_requests(&mut self) -> Option<OldRequests> {
        match *self {}
    }

    pub(crate) fn cut_off(&self) -> &[StreamId] {
        match *self {}
    }

    pub(crate) fn without_tags(self) -> Self {
        self
    }
}

/// A predecessor's queue of page requests.
pub(crate) enum OldRequests {}

impl OldRequests {
    pub(crate) fn read<P: Platform>(&mut self, _: &P, _: &Instance<P>) {
        match *self {}
    }

    pub(crate) fn answer<P: Platform>(self, _: &P, _: &Instance<P>) -> Result<(), Failure> {
        match self {}
    }
}

/// Nothing that goes on as a predecessor left it.
pub(crate) struct Adoptions;

impl Adoptions {
    pub(crate) const fn new() -> Self {
        Self
    }
}

impl<P: Platform> Configuration<P> {
    pub(crate) fn reserve_adopted(
        &mut self,
        _: InstanceId,
        found: Found,
    ) -> Result<Vec<StreamId>, EnableError> {
        match found {}
    }

    pub(crate) fn is_kept(&self, _: InstanceId, _: Tag) -> bool {
        false
    }

    pub(crate) fn disown(&mut self, _: InstanceId) {}

    pub(crate) fn claim_adopted(&mut self, _: InstanceId, _: &[StreamId]) -> bool {
        false
    }
}

pub(crate) fn block<P: Platform>(
    _: &Core<P>,
    _: &Instance<P>,
    _: &[StreamId],
) -> Result<(), EnableError> {
    Ok(())
}

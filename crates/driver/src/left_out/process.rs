// SPDX-License-Identifier: MIT OR Apache-2.0
//! No processes (feature `sva`).

use core::convert::Infallible;

use smmuv3_formats::Cd;

use crate::compatibility::Mismatch;
use crate::configuration::Configuration;
use crate::features::Features;
use crate::iommu::Core;
use crate::platform::Platform;

/// How a space would hold it.
pub(crate) type Held = Registers;

/// What is known of a process's tables.
pub(crate) struct Registers {
    pub(crate) cookie: u64,
    none: Infallible,
}

/// Nothing is bound.
pub(crate) enum Binding {}

/// There is no seat that was bound.
#[derive(Clone, Copy)]
pub(crate) enum SeatNumber {}

impl SeatNumber {
    pub(crate) const fn get(self) -> u64 {
        match self {}
    }
}

/// How far the end of a process is.
#[derive(PartialEq, Eq)]
pub(crate) enum Life {
    Live,
}

impl Registers {
    pub(crate) fn context(&self) -> Cd {
        match self.none {}
    }

    pub(crate) fn life<P: Platform>(&self, _: &Configuration<P>) -> Life {
        match self.none {}
    }

    pub(crate) fn end<P: Platform>(&self, _: &Core<P>) {
        match self.none {}
    }

    pub(crate) fn fits(&self, _: &Features) -> Result<(), Mismatch> {
        match self.none {}
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! The IORT: ACPI's I/O remapping table (Arm DEN 0049).

use crate::topology::{ReadError, Topology};

/// TODO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IortError {}
impl core::fmt::Display for IortError {
    fn fmt(&self, _: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {}
    }
}
/// TODO.
pub struct Iort<'a>(&'a [u8]);

pub(crate) fn read(_: &mut Topology, _: &Iort<'_>) -> Result<(), ReadError> {
    Ok(())
}

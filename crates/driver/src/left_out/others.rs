// SPDX-License-Identifier: MIT OR Apache-2.0
//! No accesses with substreams (feature `pasids`): all that a master does is without.

use core::iter;

use crate::place::Slot;
use crate::shared::NoMemory;

/// The slots of a master's substreams: all are blocked.
pub(crate) struct Others;

impl Others {
    pub(crate) const fn new() -> Self {
        Self
    }

    pub(crate) const fn is_empty(&self) -> bool {
        true
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &(u32, Slot)> {
        iter::empty()
    }

    pub(crate) const fn slot(&self, _: u32) -> &Slot {
        &Slot::Blocked
    }

    pub(crate) const fn slot_mut(&mut self, _: u32) -> Option<&mut Slot> {
        None
    }

    pub(crate) const fn reserve(&mut self) -> Result<(), NoMemory> {
        Ok(())
    }

    pub(crate) fn set(&mut self, _: u32, _: Slot) {}
}

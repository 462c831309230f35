// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the accesses of a master with substreams are subject to.

use alloc::vec::Vec;

use crate::place::Slot;
use crate::room::Room;
use crate::shared::NoMemory;

/// The slots of a master's substreams: those that are not blocked, in order.
pub(crate) struct Others(Vec<(u32, Slot)>);

impl Others {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &(u32, Slot)> {
        self.0.iter()
    }

    /// Where the slot of `substream` is, or is to be.
    fn search(&self, substream: u32) -> Result<usize, usize> {
        self.0.binary_search_by_key(&substream, |(substream, _)| *substream)
    }

    pub(crate) fn slot(&self, substream: u32) -> &Slot {
        let at = self.search(substream);
        at.ok().and_then(|at| self.0.get(at)).map_or(&Slot::Blocked, |(_, slot)| slot)
    }

    /// The slot of `substream`, unless it is blocked.
    pub(crate) fn slot_mut(&mut self, substream: u32) -> Option<&mut Slot> {
        let at = self.search(substream).ok()?;
        self.0.get_mut(at).map(|(_, slot)| slot)
    }

    /// Room for one more.
    pub(crate) fn reserve(&mut self) -> Result<(), NoMemory> {
        self.0.room(1)
    }

    /// Sets the slot of `substream`. There is room for it.
    pub(crate) fn set(&mut self, substream: u32, slot: Slot) {
        match (self.search(substream), slot) {
            (Ok(at), Slot::Blocked) => {
                self.0.remove(at);
            }
            (Err(_), Slot::Blocked) => {}
            (Ok(at), _) => {
                if let Some(place) = self.0.get_mut(at) {
                    place.1 = slot;
                }
            }
            (Err(at), _) => self.0.put_at(at, (substream, slot)),
        }
    }
}

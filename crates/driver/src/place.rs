// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where address spaces are used: by which tags of which instances, and by whom. ARCHITECTURE.md, "Words inside the driver",
//! has the words: place, user, seat, bound, slot, stuck, ghost, held.

use alloc::vec::Vec;

use crate::error::InstanceId;
use crate::invalidate::Tag;
use crate::platform::Platform;
use crate::shared::Shared;
use crate::space::Space;

/// An address space under one tag of one instance.
pub(crate) struct Place<P: Platform> {
    pub(crate) space: Shared<Space<P>>,
    pub(crate) instance: InstanceId,
    pub(crate) tag: Tag,
    /// The tag is the CPU's.
    pub(crate) shared: bool,
    pub(crate) users: Vec<User>,
}

impl<P: Platform> Place<P> {
    /// Whether nobody uses it any more, but its instance did not flush its tag. Its space stays alive: translations may lead
    /// there. Otherwise a place goes with its last user, in the same call.
    pub(crate) fn is_held(&self) -> bool {
        self.users.is_empty()
    }

    /// Whether it has a [`GHOST`].
    pub(crate) fn is_haunted(&self) -> bool {
        self.users.iter().any(|user| user.substream == GHOST)
    }
}

/// A master that uses a place, with one of its substreams.
#[derive(Clone, Copy)]
pub(crate) struct User {
    /// Index of the master.
    pub(crate) master: usize,
    /// [`WITHOUT`] for its accesses without a substream.
    pub(crate) substream: u32,
}

/// Stands for accesses without a substream, whose context is the first: no PASID is 0.
pub(crate) const WITHOUT: u32 = 0;

/// Whether `substream` is [`WITHOUT`]: there is no other without the feature `pasids`, which is known when the driver is
/// compiled. Not to be asked of a [`GHOST`].
#[inline(always)]
pub(crate) const fn is_without(substream: u32) -> bool {
    substream == WITHOUT || !cfg!(feature = "pasids")
}

/// Stands for a master that has another tag by now, which its instance did not confirm: the place's tag stays in use
/// until a reset.
pub(crate) const GHOST: u32 = u32::MAX;

/// Which user of which place a [`Slot`] is: a seat.
#[derive(Clone, Copy)]
pub(crate) struct Bound {
    pub(crate) place: usize,
    /// Index among the place's users.
    pub(crate) at: usize,
    /// How many [`Bond`](crate::Bond)s stand for it.
    pub(crate) bonds: usize,
    /// Number of the seat, never used again: a bond that outlives its seat finds another number there.
    pub(crate) seat: u64,
}

/// What a master's accesses with a certain substream, or without, are subject to.
#[derive(Clone, Copy, Default)]
pub(crate) enum Slot {
    /// They are refused.
    #[default]
    Blocked,
    /// They pass untranslated. Only for accesses without a substream.
    Identity,
    At(Bound),
    /// The instance did not confirm the last change: they may still reach these.
    Stuck([Option<Bound>; 2]),
}

impl Slot {
    pub(crate) const fn bound(&self) -> Option<Bound> {
        match self {
            Self::At(bound) => Some(*bound),
            Self::Blocked | Self::Identity | Self::Stuck(_) => None,
        }
    }

    /// Whether this is the seat with that number, or, after an unconfirmed change, may be.
    pub(crate) fn may_be(&self, seat: u64) -> bool {
        match self {
            Self::At(bound) => bound.seat == seat,
            Self::Stuck(bounds) => bounds.iter().flatten().any(|bound| bound.seat == seat),
            Self::Blocked | Self::Identity => false,
        }
    }
}

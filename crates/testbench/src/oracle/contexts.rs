// SPDX-License-Identifier: MIT OR Apache-2.0
//! Guests' devices with PASIDs: which contexts their guest has for them, and what accesses go through (§5.2, §5.3).

use smmuv3_formats::EventId;

use super::user::MasterState;
use super::{Contexts, Expected, Oracle, Refused, Use, User};
use crate::scenario::{ContextLayout, WithoutPasid};

impl Oracle {
    /// The contexts of `master` have two levels where a guest wants that.
    pub(crate) fn has_two_levels(&mut self, master: usize) {
        if let Some(state) = self.masters.get_mut(master) {
            state.two_levels = true;
        }
    }

    /// How a guest would lay out contexts for `master` that uses its space `space`, and what becomes of accesses without a
    /// PASID; `None` where it has one context alone.
    pub(crate) fn guest_contexts(
        &self,
        master: usize,
        space: usize,
    ) -> Option<(ContextLayout, Contexts, WithoutPasid)> {
        self.contexts_in(self.masters.get(master)?, space)
    }

    pub(super) fn contexts_in(
        &self,
        state: &MasterState,
        space: usize,
    ) -> Option<(ContextLayout, Contexts, WithoutPasid)> {
        let (layout, without) = self.shape(space).contexts?;
        let layout = if state.two_levels { layout } else { ContextLayout::Linear };
        let bits = state.contexts.bits.min(ContextLayout::MOST_BITS);
        (bits != 0).then_some((layout, Contexts { bits, split: layout.split() }, without))
    }

    /// The domain whose guest has contexts for PASIDs of `master`, if there is one.
    pub(crate) fn guest_of(&self, master: usize) -> Option<usize> {
        let space = self.space(self.using(master))?;
        self.guest_contexts(master, space).and_then(|_| self.over(space))
    }

    /// Whether both uses are of one guest that has such contexts for `master`.
    pub(super) fn is_same_guest(&self, master: usize, one: Use, other: Use) -> bool {
        let guest = |use_| {
            let space = self.space(use_)?;
            self.guest_contexts(master, space).and_then(|_| self.over(space))
        };
        guest(one).is_some_and(|of| guest(other) == Some(of))
    }

    /// The space that accesses of `user` go through: that which it uses, but for those that bypass a guest's stage 1, or that the
    /// guest has terminated.
    pub fn goes_through(&self, user: User) -> Option<usize> {
        let space = self.space(self.using(user))?;
        let without = self.guest_contexts(user.master, space).map(|(_, _, without)| without);
        match without.filter(|_| user.substream.is_none()) {
            Some(WithoutPasid::Terminate) => None,
            Some(WithoutPasid::Bypass) => self.over(space),
            _ => Some(space),
        }
    }

    /// Whether accesses of `user` bypass a guest's stage 1 beside PASIDs.
    pub(crate) fn bypasses(&self, user: User) -> bool {
        let through = self.goes_through(user);
        through.is_some() && through != self.space(self.using(user))
    }

    /// What becomes of an access with `substream`, or without, that a guest's contexts decide about: by none of its spaces, or by
    /// one of these.
    pub(super) fn by_contexts(
        &self,
        master: &MasterState,
        plain: usize,
        substream: Option<u32>,
        own: Use,
    ) -> Option<Result<usize, Expected>> {
        let (_, contexts, without) = self.contexts_in(master, plain)?;
        let refused = |event| {
            let refused = Some(Refused::With(event));
            Err(Expected { reach: Vec::new(), refused })
        };
        Some(match (substream, without) {
            (None, WithoutPasid::Terminate) => refused(EventId::FStreamDisabled),
            (None, WithoutPasid::Bypass) => Ok(self.owner(plain)),
            (None, WithoutPasid::Context) => Ok(plain),
            (Some(number), _) if number >> contexts.bits != 0 => refused(EventId::CBadSubstreamId),
            (Some(0), WithoutPasid::Context) => refused(EventId::FStreamDisabled),
            (Some(number), _) => match self.space(own) {
                Some(space) => Ok(space),
                // Without a leaf, or by an invalid context in one.
                None => match contexts.split.map(|split| number >> split) {
                    Some(leaf) if !master.guest_leaves.contains(&leaf) => {
                        refused(EventId::CBadSubstreamId)
                    }
                    _ => refused(EventId::CBadCd),
                },
            },
        })
    }

    /// The guest has made a table of contexts for `master`, or a context with `substream`: with the leaves that these are in.
    pub(super) fn guest_leaves(&mut self, master: usize, substream: Option<u32>) {
        let Some(space) = self.space(self.using(master)) else { return };
        let Some((_, contexts, without)) = self.guest_contexts(master, space) else { return };
        let Some(split) = contexts.split else { return };
        let Some(state) = self.masters.get_mut(master) else { return };
        match substream {
            Some(number) => {
                state.guest_leaves.insert(number >> split);
            }
            None => {
                let numbers = state.uses.keys().filter_map(|number| *number);
                state.guest_leaves = numbers.map(|number| number >> split).collect();
                if without == WithoutPasid::Context {
                    state.guest_leaves.insert(0);
                }
            }
        }
    }
}

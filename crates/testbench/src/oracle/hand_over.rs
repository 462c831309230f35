// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is left of a kernel that crashed: the next one takes over what its SMMUs do, and knows nothing of its domains.
//!
//! The tables of the old kernel stay as they are, since nobody is left who would write to them. So what masters used is
//! kept as a space of its own each, beside those of the new kernel, which begin empty: [`Use::Kept`].

use std::collections::BTreeMap;

use super::events::Events;
use super::pages::Requests;
use super::space::{Shape, SpaceState};
use super::stalls::Stalls;
use super::user::Useful;
use super::{Oracle, Use};

impl Oracle {
    /// The kernel is gone. All masters go on with what they use, until something is done about them; all domains are empty.
    /// Returns for each space that is used which one it is kept as.
    pub fn crash(&mut self) -> BTreeMap<usize, usize> {
        let mut kept = BTreeMap::new();
        for (user, use_) in self.users().collect::<Vec<_>>() {
            let Some(space) = self.space(use_) else { continue };
            // What an earlier kernel left stays what it is.
            let number = match use_ {
                Use::Kept(_) => space,
                _ => {
                    // A guest's goes on over what it was over, whoever else uses that.
                    let over = self.over(space).map(|under| self.left_as(under, None, &mut kept));
                    self.left_as(space, over, &mut kept)
                }
            };
            if let Some(master) = self.masters.get_mut(user.master) {
                let useful = Useful { now: Use::Kept(number), ..Useful::default() };
                master.uses.insert(user.substream, useful);
            }
        }
        for (_, use_) in self.users().collect::<Vec<_>>() {
            if let Use::Kept(space) = use_ {
                kept.insert(space, space);
                // Whose tags it has.
                kept.insert(self.owner(space), self.owner(space));
            }
        }
        for master in &mut self.masters {
            master.kept = !master.uses.is_empty();
            if !master.kept {
                // The next kernel makes its contexts anew.
                master.leaves.clear();
                master.perhaps.clear();
            }
        }
        // Whatever waited for the old kernel.
        self.events.iter_mut().for_each(Events::forget);
        self.requests.iter_mut().for_each(Requests::forget);
        kept
    }

    /// What `space` is kept as: its number among those that are `kept`, and over what it is, if it is a guest's.
    fn left_as(
        &mut self,
        space: usize,
        over: Option<usize>,
        kept: &mut BTreeMap<usize, usize>,
    ) -> usize {
        *kept.entry(space).or_insert_with(|| {
            let state = self.spaces.get(space).cloned().unwrap_or_default();
            // Its PASID is somebody else's by now.
            self.spaces.push(SpaceState { pasid: None, over, ..state });
            self.kept_spaces += 1;
            self.spaces.len() - 1
        })
    }

    /// `master` goes on to reach `memory`, by its physical addresses, through tables that start at `root`. All domains and
    /// processes come before. Returns the number of that space.
    pub fn keep(
        &mut self,
        master: usize,
        root: u64,
        shape: Shape,
        memory: std::ops::Range<u64>,
    ) -> usize {
        let number = self.spaces.len();
        self.spaces.push(SpaceState { root, shape, ..SpaceState::default() });
        self.kept_spaces += 1;
        self.map_begins(number, memory.clone(), memory.start, true);
        self.map_ends(number, memory, true);
        if let Some(master) = self.masters.get_mut(master) {
            let useful = Useful { now: Use::Kept(number), ..Useful::default() };
            master.uses.insert(None, useful);
            if !shape.stage_2 {
                // With the context that leads there.
                master.leaves.insert(0);
            }
        }
        number
    }

    /// The event queue of the old kernel is off: whatever came into it waits for nobody, even if that was after the crash.
    pub(crate) fn forget_events(&mut self, instance: usize) {
        if let Some(events) = self.events.get_mut(instance) {
            events.forget();
        }
    }

    /// A domain of the new kernel, in place of one of the old.
    pub fn renew_domain(&mut self, domain: usize, root: u64, shape: Shape) {
        let Some(space) = self.spaces.get_mut(domain).filter(|_| domain < self.domains) else {
            return;
        };
        let old = std::mem::take(space);
        let over = old.over;
        // What the old one mapped is still worth an attempt.
        let gone = old.forgotten();
        *space = SpaceState { root, shape, gone, over, ..SpaceState::default() };
    }

    /// The master's streams do not go on: it is blocked.
    pub fn lose(&mut self, master: usize) {
        if let Some(state) = self.masters.get_mut(master) {
            state.uses.clear();
            state.leaves.clear();
            state.perhaps.clear();
            state.kept = false;
        }
    }

    /// `instance` was taken over, or started anew: of what had stalled before nothing is left.
    pub fn no_stall_outlives(&mut self, instance: usize) {
        if let Some(stalls) = self.stalls.get_mut(instance) {
            *stalls = Stalls::default();
        }
    }

    /// Another kernel has `instance` now, with a queue of its own, in which there are so many events, and perhaps others did not
    /// fit: what was recorded before, after the old kernel had stopped, nobody reads.
    pub fn recorded_for_nobody(&mut self, instance: usize, unread: usize, full: bool) {
        if let Some(events) = self.events.get_mut(instance) {
            events.renew(unread, full);
        }
    }

    /// Whether `master` goes on as an older kernel left it.
    pub fn is_kept(&self, master: usize) -> bool {
        self.masters.get(master).is_some_and(|state| state.kept)
    }
}

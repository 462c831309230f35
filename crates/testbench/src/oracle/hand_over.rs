// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is left of a kernel that crashed: the next one takes over what its SMMUs do, and knows nothing of its domains.
//!
//! The tables of the old kernel stay as they are, since nobody is left who would write to them. So what masters used is
//! kept as a space of its own each, beside those of the new kernel, which begin empty: [`Use::Kept`].

use std::collections::BTreeMap;

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
                _ => *kept.entry(space).or_insert_with(|| {
                    let state = self.spaces.get(space).cloned().unwrap_or_default();
                    self.spaces.push(state);
                    self.kept_spaces += 1;
                    self.spaces.len() - 1
                }),
            };
            if let Some(master) = self.masters.get_mut(user.master) {
                let useful = Useful { now: Use::Kept(number), ..Useful::default() };
                master.uses.insert(user.substream, useful);
            }
        }
        for (_, use_) in self.users().collect::<Vec<_>>() {
            if let Use::Kept(space) = use_ {
                kept.insert(space, space);
            }
        }
        for master in &mut self.masters {
            master.kept = !master.uses.is_empty();
        }
        // Whatever waited for the old kernel.
        self.recorded.iter_mut().for_each(|queue| queue.clear());
        self.lost.iter_mut().for_each(|lost| *lost = 0);
        self.requests.iter_mut().for_each(|requests| *requests = Default::default());
        kept
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
        }
        number
    }

    /// The event queue of the old kernel is off: whatever came into it waits for nobody, even if that was after the crash.
    pub(crate) fn forget_events(&mut self, instance: usize) {
        if let Some(queue) = self.recorded.get_mut(instance) {
            queue.clear();
        }
        if let Some(lost) = self.lost.get_mut(instance) {
            *lost = 0;
        }
    }

    /// A domain of the new kernel, in place of one of the old.
    pub fn renew_domain(&mut self, domain: usize, root: u64, shape: Shape) {
        let Some(space) = self.spaces.get_mut(domain).filter(|_| domain < self.domains) else {
            return;
        };
        let old = std::mem::take(space);
        // What the old one mapped is still worth an attempt.
        let gone = old.forgotten();
        *space = SpaceState { root, shape, gone, ..SpaceState::default() };
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

    /// Whether `master` goes on as an older kernel left it.
    pub fn is_kept(&self, master: usize) -> bool {
        self.masters.get(master).is_some_and(|state| state.kept)
    }
}

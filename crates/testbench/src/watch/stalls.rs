// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is seen of transactions that stall.

use smmuv3_model::{Access, Observation, StallEnd};

use super::Watch;
use crate::oracle::{AccessKind, Rule, Stalled, User, Waiting};
use crate::platform::World;

/// The transactions of a user that wait when a change begins, and groups of page requests.
#[derive(Clone, Debug, Default)]
pub struct Before {
    events: Vec<Stalled>,
    /// Their numbers, and those of others whose events are not in the queue.
    ids: Vec<u64>,
    /// The groups of page requests that wait, and whether those are of all PASIDs.
    groups: Vec<Waiting>,
    whole: bool,
}

impl Watch {
    pub(super) fn observe_stall(&mut self, instance: usize, observation: &Observation) {
        let user = |watch: &Self, access: &Access| {
            let master = watch.oracle.master_of(instance, access.stream)?;
            Some(User { master, substream: access.substream })
        };
        match observation {
            Observation::Stalled { access, .. } => {
                if let Some(user) = user(self, access) {
                    let kind = AccessKind::of(access);
                    self.oracle.refused(user, access.address, kind, "a stalling");
                }
            }
            Observation::StallAnswered { stream, stag, .. } => {
                self.oracle.answered(instance, *stream, *stag);
            }
            Observation::StallEnded { access, end, .. } => {
                let Some(user) = user(self, access) else { return };
                let Access { stream, address, write, .. } = *access;
                match end {
                    StallEnd::Translated(to) => {
                        // What it moves is still on its way.
                        let kind = AccessKind::of(access);
                        self.oracle.goes_to(user, address, kind, to.pa, "a stalled");
                    }
                    // Whether it had to be, and how it is reported, depends on the moment.
                    StallEnd::Refused(_) => self.caused(stream, user, address, write),
                    StallEnd::Terminated(_) => {}
                }
            }
            _ => {}
        }
    }

    /// What waits of `user` now.
    pub fn before_change(&self, world: &World, user: User) -> Before {
        let whole = self.oracle.is_change_of_guest(user);
        Before {
            events: self.oracle.pending(user),
            ids: ids(world, &self.streams(user), user),
            groups: self.oracle.asking(user, whole),
            whole,
        }
    }

    /// What `user` used was taken from it, all of it if it is `blocked`: nothing is left of what waited.
    pub fn after_change(&mut self, world: &World, user: User, before: &Before, blocked: bool) {
        self.oracle.stalls_are_over(user, &before.events, blocked);
        self.oracle.groups_are_over(user, &before.groups, before.whole);
        let left = ids(world, &self.streams(user), user);
        if let Some(id) = left.iter().find(|id| blocked || before.ids.contains(id)) {
            let text =
                format!("{user}: what it used is gone, but its transaction {id} still waits");
            self.oracle.accuse(Rule::R9, text);
        }
    }

    fn streams(&self, user: User) -> (usize, Vec<u32>) {
        let (instance, streams) = self.oracle.streams(user.master);
        (instance, streams.to_vec())
    }
}

/// The numbers of the transactions that wait.
fn ids(world: &World, (instance, streams): &(usize, Vec<u32>), user: User) -> Vec<u64> {
    let Some(model) = world.machine().model(*instance) else { return Vec::new() };
    // Of one substream alone nobody can end what found the event queue full: it has no number that an answer could name
    // until its event is read.
    let unknown: Vec<u64> = match user.substream {
        Some(_) => model.stalled().filter(|it| !it.recorded).map(|it| it.id).collect(),
        None => Vec::new(),
    };
    let is_known = |id: u64| !unknown.contains(&id);
    let of_user = model
        .stalled()
        .filter(|it| streams.contains(&it.access.stream) && it.access.substream == user.substream)
        .filter(|it| it.behind.map_or(is_known(it.id), is_known));
    of_user.map(|it| it.id).collect()
}

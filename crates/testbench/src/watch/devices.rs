// SPDX-License-Identifier: MIT OR Apache-2.0
//! What devices keep and ask for: rules R1, R7 and R9 where translations are theirs and pages are asked for.

use std::ops::Range;

use smmuv3_model::{AtcEntry, Completion, Observation};

use super::Watch;
use crate::oracle::{PAGE, Rule, Use, User};
use crate::platform::World;

impl Watch {
    /// What the models observed of devices.
    pub(super) fn observe_device(&mut self, instance: usize, observation: &Observation) {
        // A device that asks has ATS on, and so must its stream; but those that do not answer are blocked as they are.
        if let Observation::Requested { request, completion: Completion::Unsupported } = observation
            && !self
                .oracle
                .master_of(instance, request.stream)
                .is_some_and(|master| self.oracle.is_mute(master))
        {
            let text = format!(
                "instance {instance}: stream {:#x} asked for the translation of {:#x}, but has no ATS: \
                 the device's is on before, or longer than, the stream's",
                request.stream, request.address
            );
            self.oracle.accuse(Rule::R7, text);
        }
    }

    /// The entries of devices behind `instance`, each with whose it is.
    fn kept(&self, world: &World, instance: usize) -> Vec<(User, AtcEntry)> {
        let Some(model) = world.machine().model(instance) else { return Vec::new() };
        let endpoints = model.endpoints().filter_map(|(stream, endpoint)| {
            Some((self.oracle.master_of(instance, stream)?, endpoint))
        });
        endpoints
            // Of those that do not answer, what they keep must be of no use, which accesses show.
            .filter(|(master, _)| !self.oracle.is_mute(*master))
            .flat_map(|(master, endpoint)| {
                let entries = endpoint.atc().iter();
                entries.map(move |it| (User { master, substream: it.substream }, *it))
            })
            .collect()
    }

    /// After an unmap of `range` has returned: no device keeps any of it.
    pub(super) fn devices_after_unmap(&mut self, world: &World, space: usize, range: &Range<u64>) {
        for instance in 0..self.structures.instances() {
            let stale = self.kept(world, instance).into_iter().find(|(user, entry)| {
                let uses = self.oracle.is_space(self.oracle.using(*user), space);
                if !uses || entry.first >= range.end || entry.last() < range.start {
                    return false;
                }
                // A device that is on its way to another space may know that one already.
                let iova = entry.first.max(range.start);
                !self.oracle.may_keep(*user, iova, entry.output(iova))
            });
            if let Some((user, entry)) = stale {
                let text = format!(
                    "unmap of {:#x}..{:#x} has returned, but {user} still keeps where {:#x} leads",
                    range.start, range.end, entry.first
                );
                let rule = self.missed(space, instance);
                self.oracle.accuse(rule, text);
            }
        }
    }

    /// After a change of `user` has returned: its device keeps nothing of what it used before.
    pub(super) fn devices_after_attach(&mut self, world: &World, user: User, before: Use) {
        let (instance, _) = self.oracle.streams(user.master);
        let kept = self.kept(world, instance).into_iter().filter(|(of, _)| *of == user);
        let using = self.oracle.using(user);
        let space = self.oracle.goes_through(user);
        let bypasses = self.oracle.bypasses(user);
        let stale = kept.map(|(_, entry)| entry).find(|entry| {
            let pages = entry.granted.size / PAGE;
            let led = |page: &u64| {
                let iova = entry.first + page * PAGE;
                // Granted as it is, where stage 1 is skipped (S1DSS, §12.1).
                if self.oracle.is_split(user.master) && bypasses {
                    return entry.output(iova) == iova;
                }
                if self.oracle.is_split(user.master) {
                    return space.is_some_and(|space| {
                        self.oracle.leads_first(space, iova, entry.output(iova))
                    });
                }
                if using == Use::Identity {
                    return entry.output(iova) == iova;
                }
                space.is_some_and(|space| self.oracle.leads(space, iova, entry.output(iova)))
            };
            // Entries of blocks are of whole ones: their ends tell.
            ![0, pages - 1].iter().all(led)
        });
        if let Some(entry) = stale {
            let text = format!(
                "{user} does not use {before:?} any more, but its device still keeps where {:#x} led",
                entry.first
            );
            self.oracle.accuse(Rule::R1, text);
        }
    }

    /// After a process was released: no device keeps anything of it.
    pub(super) fn devices_after_release(&mut self, world: &World, space: usize) {
        for instance in 0..self.structures.instances() {
            let stale = self
                .kept(world, instance)
                .into_iter()
                .find(|(user, _)| self.oracle.space(self.oracle.using(*user)) == Some(space));
            if let Some((user, entry)) = stale {
                let text = format!(
                    "release has returned, but {user} still keeps where {:#x} led",
                    entry.first
                );
                self.oracle.accuse(Rule::R1, text);
            }
        }
    }

    /// At the end: each group that was asked for was answered.
    pub fn all_answered(&mut self, world: &World) {
        for instance in 0..self.structures.instances() {
            let Some(model) = world.machine().model(instance) else { return };
            let open = model.endpoints().find_map(|(stream, endpoint)| {
                let waits = endpoint.waiting().find(|(_, complete)| *complete);
                waits.map(|(index, _)| (stream, index))
            });
            drop(model);
            if let Some((stream, index)) = open {
                let text = format!(
                    "instance {instance}: group {index:#x} of stream {stream:#x} was never answered"
                );
                self.oracle.accuse(Rule::R9, text);
            }
        }
    }
}

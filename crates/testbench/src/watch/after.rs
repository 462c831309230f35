// SPDX-License-Identifier: MIT OR Apache-2.0
//! What must hold once a call of the driver has returned: nothing of what is gone is left in hardware.

use std::ops::Range;

use smmuv3_formats::L1Cd;
use smmuv3_model::TlbEntry;

use super::Watch;
use super::structures::words;
use crate::mixture::{self, Kind};
use crate::oracle::{AccessKind, Rule, Use, User};
use crate::platform::World;

impl Watch {
    /// After an unmap of `range` has returned: no instance holds any of it, under whatever tag.
    pub fn after_unmap(&mut self, world: &World, space: usize, range: &Range<u64>) {
        let root = self.oracle.root(space);
        for instance in 0..self.structures.instances() {
            let Some(model) = world.machine().model(instance) else { return };
            let stale = model
                .tlb_entries()
                .filter(|_| model.translates())
                .find(|entry| entry.uses(root, range.start, range.end.wrapping_sub(1)));
            let stale = stale.map(|entry| {
                format!("{} still leads {:#x} to {:#x}", entry.tag, entry.va, entry.pa)
            });
            let held = model.held().find(|held| {
                let input = |entry: &TlbEntry| entry.input_of(root, held.access.address);
                held.entry.as_ref().and_then(input).is_some_and(|input| range.contains(&input))
            });
            let held = held.map(|held| {
                format!(
                    "an access to {:#x} is still on its way to {:#x}",
                    held.access.address, held.pa
                )
            });
            drop(model);
            if let Some(what) = stale.or(held) {
                let text = format!(
                    "unmap of {:#x}..{:#x} has returned, but on instance {instance} {what}",
                    range.start, range.end
                );
                let rule = self.missed(space, instance);
                self.oracle.accuse(rule, text);
            }
        }
        self.devices_after_unmap(world, space, range);
    }

    /// After a change of `user` has returned: all instances use the new configuration, and nothing is left of
    /// an address space that it was the last to use.
    pub fn after_attach(&mut self, world: &World, user: impl Into<User>, before: Use) {
        let user = user.into();
        let (instance, streams) = self.oracle.streams(user.master);
        let streams = streams.to_vec();
        self.check_settled();
        let mut changed = self.structures.take_stored();
        changed.insert(instance);
        for instance in changed {
            self.stale_structure(world, instance, before);
        }
        let Some(model) = world.machine().model(instance) else { return };
        let held = model
            .held()
            .filter(|held| streams.contains(&held.access.stream))
            .filter(|held| held.access.substream == user.substream)
            .map(|held| (held.access, held.pa))
            .collect::<Vec<_>>();
        // What a kernel before this one left keeps its tag until its adoption is ended.
        let before_this = matches!(before, Use::Kept(_));
        let left = self.oracle.space(before).filter(|_| !before_this);
        let left = left.map(|left| self.oracle.owner(left));
        let left = left.filter(|left| !self.oracle.is_used_on(*left, instance));
        let left = left.map(|left| self.oracle.root(left)).and_then(|root| {
            let translation = model.tlb_entries().find(|entry| entry.is_of(root));
            let walk = model.walk_entries().find(|entry| entry.ttb == root);
            let tag = translation.map(|entry| entry.tag).or(walk.map(|entry| entry.tag));
            tag.filter(|_| model.translates())
        });
        drop(model);
        for (access, pa) in held {
            let kind = AccessKind::of(&access);
            self.oracle.goes_to(user, access.address, kind, pa, "a delayed");
        }
        if let Some(tag) = left {
            let text =
                format!("{tag} was given back on instance {instance} while its TLB holds it");
            self.oracle.accuse(Rule::R2, text);
        }
        self.devices_after_attach(world, user, before);
    }

    /// After a process was released: nothing of it is left anywhere, and nothing leads to it.
    pub fn after_release(&mut self, world: &World, space: usize) {
        let root = self.oracle.root(space);
        self.check_settled();
        for instance in self.structures.take_stored() {
            self.stale_structure(world, instance, Use::Identity);
        }
        for instance in 0..self.structures.instances() {
            let Some(model) = world.machine().model(instance) else { return };
            let translation = model.tlb_entries().find(|entry| entry.is_of(root));
            let walk = model.walk_entries().find(|entry| entry.ttb == root);
            let left = translation.map(|entry| entry.tag).or(walk.map(|entry| entry.tag));
            let held = model.held().filter_map(|held| held.entry.as_ref());
            let left = left.filter(|_| model.translates());
            let left =
                left.or(held.filter(|entry| entry.is_of(root)).map(|entry| entry.tag).next());
            drop(model);
            if let Some(tag) = left {
                let text = format!(
                    "release has returned, but instance {instance} still holds translations of {tag}"
                );
                self.oracle.accuse(Rule::R1, text);
            }
        }
        self.devices_after_release(world, space);
    }

    /// Accuses when hardware may still be using an old entry or context of a master that nobody is changing.
    fn check_settled(&mut self) {
        let unsettled =
            self.structures.unsettled(|instance, stream| self.is_at_rest(instance, stream));
        if let Some((_, stream, kind)) = unsettled.filter(|_| self.models) {
            let text = format!(
                "the {kind:?} of stream {stream:#x} was changed without a completed CFGI and SYNC"
            );
            self.oracle.accuse(Rule::R4, text);
        }
    }

    /// The streams of masters behind `instance` that nobody is changing, each once.
    fn at_rest(&self, instance: usize) -> Vec<u32> {
        let masters = (0..self.oracle.masters()).map(|master| self.oracle.streams(master));
        let here = masters.filter(|(of, _)| *of == instance).flat_map(|(_, streams)| streams);
        let mut streams: Vec<u32> =
            here.copied().filter(|stream| self.is_at_rest(instance, *stream)).collect();
        streams.sort_unstable();
        streams.dedup();
        streams
    }

    /// Whether `stream` is that of a master that nobody is changing.
    fn is_at_rest(&self, instance: usize, stream: u32) -> bool {
        let master = self.oracle.master_of(instance, stream);
        master.is_some_and(|master| !self.oracle.is_changing(master))
    }

    /// Accuses when `instance` still has a structure cached that means something else by now.
    fn stale_structure(&mut self, world: &World, instance: usize, before: Use) {
        let Some(model) = world.machine().model(instance) else { return };
        if !model.translates() {
            return;
        }
        let ram = world.machine().ram();
        let outdated = model.outdated(&self.at_rest(instance));
        let stale = outdated
            .iter()
            .find(|entry| {
                let kind = if entry.substream.is_some() { Kind::Cd } else { Kind::Ste };
                !mixture::is_same(kind, &entry.words, &words(ram, entry.pa))
            })
            .map(|entry| match entry.substream {
                Some(_) => (entry.stream, "context"),
                None => (entry.stream, "stream table entry"),
            });
        let first_levels = model.cached_l1_cds().into_iter();
        let stale = stale.or(first_levels
            .filter(|entry| entry.differs && self.is_at_rest(instance, entry.stream))
            .find(|entry| {
                let (cached, now) = (L1Cd([entry.word]), L1Cd([ram.read64(entry.pa).unwrap_or(0)]));
                cached.v() || now.v()
            })
            .map(|entry| (entry.stream, "level-1 context descriptor")));
        drop(model);
        if let Some((stream, what)) = stale {
            let rule = if before == Use::Blocked { Rule::R0 } else { Rule::R1 };
            let text = format!(
                "the change of stream {stream:#x} has returned, but instance {instance} still uses \
                 its old {what}"
            );
            self.oracle.accuse(rule, text);
        }
    }
}

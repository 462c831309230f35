// SPDX-License-Identifier: MIT OR Apache-2.0
//! What interrupts the driver: devices and unmaps at random, or one operation at a chosen moment.

use smmuv3_model::{Access, Attributes, Reason, Transfer};

use super::Watch;
use crate::bench::Bench;
use crate::lock::Guard;
use crate::operation::Operation;
use crate::oracle::{AccessKind, PAGE, User};
use crate::platform::{Observer, Point, World};

/// An operation that interrupts the next call of the driver, once.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// Moments at which the driver can be interrupted until then.
    left: u64,
    operation: Operation,
}

impl Watch {
    /// Lets `operation` interrupt the driver: when it can be interrupted for the `moment`th time from now on,
    /// counted from 0.
    pub fn interrupt_at(&mut self, moment: u64, operation: Operation) {
        self.script = Some(Script { left: moment, operation });
    }

    /// Takes back an interruption that has not happened; whether there was one.
    pub fn call_off(&mut self) -> bool {
        self.script.take().is_some()
    }

    /// The operation that is to interrupt the driver now.
    fn due(&mut self) -> Option<Operation> {
        let script = self.script.as_mut()?;
        match script.left.checked_sub(1) {
            Some(left) => {
                script.left = left;
                None
            }
            None => self.script.take().map(|script| script.operation),
        }
    }

    /// Chooses an access of a device at a moment when the driver is at work.
    fn choose_access(&mut self) -> Option<(User, u64, AccessKind)> {
        let master = self.rng.usize(0..self.oracle.masters().max(1));
        let user = User { master, substream: self.choose_substream(master) };
        let Some(space) = self.oracle.goes_through(user) else {
            let iova = 0xc000_0000 + PAGE * self.rng.u64(0..64);
            return Some((user, iova, self.rng.bool().into()));
        };
        let (mapped, gone) = self.oracle.counts(space);
        let write = self.rng.bool();
        let iova = if mapped > 0 && (gone == 0 || self.rng.u8(..) < 200) {
            let nth = self.rng.usize(0..mapped);
            self.oracle.pages(space, 0..u64::MAX).nth(nth)?.0
        } else if gone > 0 {
            let nth = self.rng.usize(0..gone);
            self.oracle.gone(space, 0..u64::MAX).nth(nth)?.0
        } else {
            return None;
        };
        let fetches = !write && self.oracle.fetches(user.master, user.substream);
        let kind = match fetches && self.rng.u8(..) < 48 {
            true => AccessKind::Fetch,
            false => write.into(),
        };
        Some((user, iova + 8 * self.rng.u64(0..PAGE / 8), kind))
    }

    /// A substream of `master`, mostly one that is used, or none.
    fn choose_substream(&mut self, master: usize) -> Option<u32> {
        let bits = self.oracle.contexts(master).bits;
        if bits == 0 {
            return None;
        }
        if self.rng.u8(..) < 16 {
            return Some(self.rng.u32(0..1 << bits));
        }
        let mut choices = vec![None];
        choices.extend(self.oracle.substreams(master));
        self.rng.choice(choices).flatten()
    }

    /// A device accesses memory at a moment when the driver is at work.
    pub fn interrupt_by_access(&mut self, world: &World) {
        let Some((user, iova, kind)) = self.choose_access() else { return };
        let (instance, streams) = self.oracle.streams(user.master);
        let Some(stream) = self.rng.choice(streams).copied() else { return };
        let delayed = self.rng.u8(..) < 128;
        let transfer = if delayed {
            let write = kind == AccessKind::Write;
            let write = write.then(|| Transfer::Write(vec![self.rng.u8(..); 8]));
            Some(write.unwrap_or(Transfer::Read(8)))
        } else {
            None
        };
        self.interruptions += 1;
        self.access(world, instance, stream, user, (iova, kind), transfer);
    }

    /// An instance was turned off, and has power: looks at what its devices' accesses become.
    pub fn is_off(&mut self, world: &World, instance: usize) {
        /// Anywhere that every SMMU puts out.
        const ADDRESS: u64 = 0x8000_0000;
        for master in 0..self.oracle.masters() {
            let (of, streams) = self.oracle.streams(master);
            let Some(stream) = streams.first().copied().filter(|_| of == instance) else {
                continue;
            };
            for kind in [AccessKind::Read, AccessKind::Write, AccessKind::Fetch] {
                let access = kind.access(stream, ADDRESS);
                let Some(model) = world.machine().model(instance) else { return };
                if model.translates() {
                    return;
                }
                let found = model.attributes(&access, Attributes::default());
                let found = found.zip(model.hints(&access));
                drop(model);
                self.oracle.while_off(instance, &access, found);
            }
        }
    }

    /// The device of `user` reads at `iova`, with each of its streams.
    pub(crate) fn read(&mut self, world: &World, user: User, iova: u64) {
        let (instance, streams) = self.oracle.streams(user.master);
        let streams = streams.to_vec();
        for stream in streams {
            self.access(world, instance, stream, user, (iova, AccessKind::Read), None);
        }
        self.collect(world);
    }

    /// The device of `user` was refused at `iova`, and tries the same again at once.
    pub(crate) fn insist(&mut self, world: &World, user: User, iova: u64, kind: AccessKind) {
        let (instance, streams) = self.oracle.streams(user.master);
        if let Some(stream) = streams.first().copied() {
            self.access(world, instance, stream, user, (iova, kind), None);
        }
    }

    /// Every device that uses `space`, or is about to, reads at `iova`.
    fn touch(&mut self, world: &World, space: usize, iova: u64) {
        for user in self.oracle.users_of(space) {
            self.read(world, user, iova);
        }
        self.collect(world);
    }

    /// The streams of a master write at `iova`, and begin to write one page later.
    fn write(&mut self, world: &World, master: usize, iova: u64) {
        let (instance, streams) = self.oracle.streams(master);
        let streams = streams.to_vec();
        let user = User { master, substream: None };
        for stream in streams {
            self.access(world, instance, stream, user, (iova, AccessKind::Write), None);
            let later = Some(Transfer::Write(vec![1; 8]));
            self.access(world, instance, stream, user, (iova + PAGE, AccessKind::Write), later);
        }
        self.collect(world);
    }

    /// An access that is translated now, and done now or later.
    fn access(
        &mut self,
        world: &World,
        instance: usize,
        stream: u32,
        user: User,
        (iova, kind): (u64, AccessKind),
        delayed: Option<Transfer>,
    ) {
        let Some(mut model) = world.machine().model(instance) else { return };
        let access = Access { substream: user.substream, ..kind.access(stream, iova) };
        let how = "an interrupting";
        let waits = delayed.is_some();
        let outcome = match delayed {
            Some(transfer) => model.hold_access(access, transfer),
            None => model.access(access),
        };
        // What the device says itself: write-back, not shared.
        let attributes = match outcome {
            Ok(_) => model
                .attributes(&access, Attributes::default())
                .map(|attributes| (attributes, model.hints(&access))),
            Err(_) => None,
        };
        drop(model);
        if let Some(found) = attributes {
            self.oracle.arrived_as(user, iova, kind, found);
        }
        match outcome {
            Ok(translation) if waits => {
                self.oracle.goes_to(user, iova, kind, translation.pa, how);
            }
            Ok(translation) => self.oracle.reached(user, iova, kind, translation.pa, how),
            Err(refusal) => {
                self.oracle.refused(user, iova, kind, how);
                let event = refusal.event.and_then(|event| event.event());
                self.oracle.refused_by(user, iova, kind, event);
                if refusal.reason != Reason::NotGranted {
                    self.caused(stream, user, iova, access.write);
                }
            }
        }
    }

    /// Chooses a run of mapped pages that nobody is changing, to be unmapped.
    fn choose_unmap(&mut self) -> Option<(usize, u64, u64)> {
        // Behind those that are the driver's come those that firmware left, which it does not unmap.
        let spaces = 0..self.oracle.spaces();
        let space = if spaces.is_empty() { return None } else { self.rng.usize(spaces) };
        let free = |iova: u64| {
            self.busy.as_ref().is_none_or(|(busy, range)| *busy != space || !range.contains(&iova))
        };
        let mut pages = Vec::with_capacity(self.oracle.counts(space).0);
        let there = self.oracle.pages(space, Bench::WINDOW..u64::MAX);
        there.filter(|(iova, page)| !page.changing && free(*iova)).for_each(|it| pages.push(it.0));
        let unit = self.oracle.shape(space).unit;
        // All that one page of the space spans is mapped together.
        let first = &(*self.rng.choice(&pages)? & !(unit - 1));
        if let Some(block) = self.oracle.block(space, *first) {
            let whole = block.clone().step_by(PAGE as usize).all(|iova| pages.contains(&iova));
            return whole.then_some((space, block.start, block.end - block.start));
        }
        let run = pages
            .iter()
            .skip_while(|iova| *iova < first)
            .zip(0u64..self.rng.u64(1..5) * (unit / PAGE))
            .take_while(|(iova, index)| {
                **iova == first + index * PAGE && self.oracle.block(space, **iova).is_none()
            })
            .count();
        let bytes = (run as u64 * PAGE) & !(unit - 1);
        (bytes != 0).then_some((space, *first, bytes))
    }
}

impl Bench {
    /// Interruptions only unmap from here on: below are the mappings of a scenario's own steps.
    pub(crate) const WINDOW: u64 = 0xc000_0000;

    /// Lets an unmap interrupt the next call of the driver: when that can be interrupted for the `moment`th time,
    /// counted from 0. Devices touch the memory just before, through whatever leads to it then, and just after. Or a
    /// device's write without a substream, and one that only begins, a page later.
    ///
    /// [`Bench::call_off`] tells whether the call was over before.
    pub fn interrupt_at(&self, moment: u64, unmap: Operation) {
        self.watch().interrupt_at(moment, unmap);
    }

    /// Takes back an interruption that has not happened; whether there was one.
    pub fn call_off(&self) -> bool {
        self.watch().call_off()
    }

    /// The first call that the driver refused although nothing was wrong with it.
    pub fn refusal(&self) -> Option<String> {
        self.watch().refusal.clone()
    }

    /// Another call of the driver, in the middle of the one under way.
    fn interrupting<R>(&self, mut watch: Guard<'_, Watch>, call: impl FnOnce(&Self) -> R) {
        watch.depth += 1;
        watch.interruptions += 1;
        drop(watch);
        let interrupted = self.world.calls();
        call(self);
        self.world.goes_on(interrupted);
        self.watch().depth -= 1;
    }

    fn interrupt(&self, operation: &Operation) {
        let (space, iova) = match *operation {
            Operation::Unmap { space, iova, .. } => (space, iova),
            Operation::Take { domain, iova, .. } => (domain, iova),
            Operation::Write { master, iova, .. } => {
                return self.watch().write(&self.world, master, iova);
            }
            _ => return,
        };
        self.watch().touch(&self.world, space, iova);
        match *operation {
            Operation::Take { bytes, .. } => self.take(space, iova, bytes),
            Operation::Unmap { bytes, .. } => self.unmap(space, iova, bytes),
            _ => return,
        };
        self.watch().touch(&self.world, space, iova);
    }
}

impl Observer for Bench {
    fn at(&self, point: Point, interruptible: bool) {
        let mut watch = self.watch();
        watch.at(&self.world, point);
        if interruptible
            && watch.depth == 0
            && let Some(operation) = watch.due()
        {
            self.interrupting(watch, |bench| bench.interrupt(&operation));
            return;
        }
        if !watch.interfering {
            return;
        }
        if watch.rng.u8(..) < 24 {
            watch.interrupt_by_access(&self.world);
        }
        if interruptible && watch.depth == 0 && self.may_stall() && watch.rng.u8(..) < 12 {
            let chosen = watch.rng.usize(..);
            self.interrupting(watch, |bench| bench.interrupt_for_stalls(chosen));
            return;
        }
        if interruptible && watch.depth == 0 && self.may_ask() && watch.rng.u8(..) < 12 {
            let chosen = watch.rng.usize(..);
            self.interrupting(watch, |bench| bench.interrupt_for_pages(chosen));
            return;
        }
        if interruptible && watch.depth == 0 && watch.asks && watch.rng.u8(..) < 64 {
            let chosen = watch.rng.usize(..);
            self.interrupting(watch, |bench| bench.interrupt_to_ask(chosen));
            return;
        }
        // It is while somebody else changes tags and contexts that an unmap is most likely to miss something.
        if !interruptible || watch.depth != 0 {
            return;
        }
        // Most rolls are too high for either.
        let roll = watch.rng.u8(..);
        let changing = roll < 16 && watch.oracle.is_any_changing();
        if roll < if changing { 16 } else { 4 } {
            let Some((space, iova, bytes)) = watch.choose_unmap() else { return };
            if changing && watch.rng.bool() {
                watch.touch(&self.world, space, iova);
            }
            let asks = watch.oracle.shape(space).dirty && watch.rng.bool();
            self.interrupting(watch, |bench| match asks {
                true => bench.take(space, iova, bytes),
                false => bench.unmap(space, iova, bytes),
            });
        }
    }
}

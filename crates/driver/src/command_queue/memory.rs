// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory of a command queue: its lanes, one behind the other, and the words that messages go to.

use core::iter;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::time::Duration;
use core::{ptr, slice};

use smmuv3_formats::PhysAddr;
use smmuv3_formats::command::{Sync, completion};

use super::judge::Judge;
use super::lane::{Lane, Ring};
use super::port::Port;
use super::{CommandQueue, Common, Completion};
use crate::counters::Counters;
use crate::features::Features;
use crate::message::Message;
use crate::mutation::LeftOut;
use crate::name::Name;
use crate::platform::{Platform, nanoseconds};
use crate::queue::Size;
use crate::state::State;

/// Bytes of a word that CMD_SYNCs write to: a cache line of its own.
const WORD_BYTES: usize = 128;

/// What a queue without enhanced ones takes.
pub(crate) struct Memory {
    main: Ring,
    counters: Counters,
}

impl Memory {
    /// Memory for a queue of `size`. `None` when there is none, or for a queue of one entry.
    ///
    /// # Safety
    /// All other methods, and those of the queue, are given the same platform.
    pub(crate) unsafe fn new<P: Platform>(platform: &P, size: Size) -> Option<Self> {
        if size.entries() < 2 {
            return None;
        }
        let main = Ring::new(platform, size)?;
        // SAFETY: the caller's promise.
        let Some(counters) = (unsafe { Counters::new(platform) }) else {
            // SAFETY: never shown to the SMMU.
            unsafe { main.free(platform) };
            return None;
        };
        Some(Self { main, counters })
    }

    /// Gives it back.
    ///
    /// # Safety
    /// As for [`Memory::new`].
    pub(crate) unsafe fn free<P: Platform>(self, platform: &P) {
        // SAFETY: never shown to the SMMU; nobody uses it.
        unsafe {
            self.main.free(platform);
            self.counters.free(platform);
        }
    }

    /// The queue in it.
    pub(crate) fn queue(self, largest_batch: u32, deadline: Duration) -> CommandQueue {
        let Self { main, counters } = self;
        // SAFETY: as whoever called `new` has promised.
        let main = unsafe { Lane::new(main, Port::main()) };
        // At most a quarter of the queue, so that it finds room beside others; at least one command.
        let largest_batch = u64::from(largest_batch).min(main.size().entries() / 4).max(1);
        CommandQueue {
            common: Common {
                largest_batch,
                deadline: nanoseconds(deadline),
                device_deadline: 0,
                asked: AtomicUsize::new(0),
                repeating: false,
                direct_below: largest_batch + 1,
                state: State::new(),
                name: Name::new(""),
                counters,
                left_out: LeftOut::default(),
            },
            main,
            others: PhysAddr(0),
            count: 0,
            words: None,
            silent: AtomicBool::new(true),
        }
    }
}

impl CommandQueue {
    /// Takes memory for a queue of `size` from the platform. `largest_batch` commands may precede a CMD_SYNC;
    /// the SMMU may stand still for `deadline`. `None` when there is no memory, or for a queue of one
    /// entry, which has no room for a command and its CMD_SYNC.
    ///
    /// # Safety
    /// All other methods are given the same platform.
    pub unsafe fn new<P: Platform>(
        platform: &P,
        size: Size,
        largest_batch: u32,
        deadline: Duration,
    ) -> Option<Self> {
        // SAFETY: the caller's promise.
        let memory = unsafe { Memory::new(platform, size) }?;
        Some(memory.queue(largest_batch, deadline))
    }

    /// The same queue, with `most` enhanced ones, whose registers are in the slots of these offsets; none if there is no
    /// memory for all, or fewer slots.
    ///
    /// # Safety
    /// The queue was not used before. Each slot is that of a queue of its own, within what the registers cover.
    #[must_use]
    pub unsafe fn beside<P: Platform>(
        mut self,
        platform: &P,
        most: usize,
        slots: impl Iterator<Item = u32>,
    ) -> Self {
        // SAFETY: the caller's promise.
        unsafe { self.add_beside(platform, most, slots) };
        self
    }

    /// As [`CommandQueue::beside`], where it is.
    ///
    /// # Safety
    /// The same.
    pub(crate) unsafe fn add_beside<P: Platform>(
        &mut self,
        platform: &P,
        most: usize,
        slots: impl Iterator<Item = u32>,
    ) {
        debug_assert_eq!(self.count(), 0);
        if most == 0 || !cfg!(feature = "ecmdq") {
            return;
        }
        let memory = platform.allocate(lanes_bytes(most), LANE_ALIGN);
        let Some(memory) = memory else { return };
        let lanes = platform.pointer(memory).cast::<MaybeUninit<Lane>>();
        // SAFETY: just allocated for so many, aligned; uninitialised is what they may be.
        let lanes = unsafe { slice::from_raw_parts_mut(lanes.as_ptr(), most) };
        let mut count = 0;
        for (lane, slot) in lanes.iter_mut().zip(slots) {
            let Some(ring) = Ring::new(platform, self.main.size()) else { break };
            // SAFETY: the platform is the one of `new`.
            lane.write(unsafe { Lane::new(ring, Port::enhanced(slot)) });
            count += 1;
        }
        if count != most {
            // Not all lanes could be allocated: none are used, because `free` has to pass the size that was allocated.
            for lane in lanes.iter_mut().take(count) {
                // SAFETY: written above, and never shown to anybody; read once.
                unsafe { lane.assume_init_read().free(platform) };
            }
            // SAFETY: just allocated, with this size; nobody uses it.
            unsafe { platform.free(memory, lanes_bytes(most), LANE_ALIGN) };
            return;
        }
        // At most as many as were allocated, far below 2^32.
        (self.others, self.count) = (memory, most as u32);
        self.common.direct_below = 0;
    }

    /// The same queue, whose batches are to tell of their completion so; with [`Completion::Interrupt`] by `message`, if
    /// there is one. [`Completion::Event`] and [`Completion::Message`] are for SMMUs that have them; without memory for the
    /// latter it does not tell.
    ///
    /// # Safety
    /// The queue was not used before.
    #[must_use]
    pub unsafe fn telling<P: Platform>(
        mut self,
        platform: &P,
        completion: Completion,
        message: Option<Message>,
    ) -> Self {
        // SAFETY: the caller's promise.
        unsafe { self.tell_by(platform, completion, message) };
        self
    }

    /// As [`CommandQueue::telling`], where it is.
    ///
    /// # Safety
    /// The same.
    pub(crate) unsafe fn tell_by<P: Platform>(
        &mut self,
        platform: &P,
        completion: Completion,
        message: Option<Message>,
    ) {
        if cfg!(feature = "sync-messages") && completion == Completion::Message {
            let lanes = 1 + self.count();
            self.words = platform.allocate_coherent(lanes * WORD_BYTES, WORD_BYTES);
            let Some(words) = self.words else { return };
            self.common.direct_below = 0;
            for (lane, word) in self.lanes_mut(platform).zip((words.0..).step_by(WORD_BYTES)) {
                lane.end_with_message(PhysAddr(word));
            }
            return;
        }
        let how = match completion {
            Completion::Poll | Completion::Message => completion::NONE,
            Completion::Interrupt => completion::IRQ,
            Completion::Event => completion::SEV,
        };
        // Without an address the CMD_SYNC sends no message, and raises the wired interrupt.
        let message = message.filter(|_| completion == Completion::Interrupt);
        let sync = message.map_or(Sync::new(), |message| message.on(Sync::new())).with_cs(how);
        for lane in self.lanes_mut(platform) {
            lane.end_with(sync, completion != Completion::Poll);
        }
    }

    /// The same queue, of an SMMU that has to be told twice of what it is to forget
    /// ([`Firmware::repeated_invalidation`](crate::Firmware::repeated_invalidation)): [`CommandQueue::carry_out`] gives each
    /// batch again once it was complete. Who submits and waits by itself does the same, where [`CommandQueue::repeats`].
    #[must_use]
    pub fn repeating(mut self) -> Self {
        self.repeat();
        self
    }

    /// As [`CommandQueue::repeating`], where it is.
    pub(crate) fn repeat(&mut self) {
        (self.common.repeating, self.common.direct_below) = (true, 0);
    }

    /// The same queue, of an SMMU with these features: in builds with debug assertions commands that it would not accept, or
    /// that mean nothing to it, are a panic (§4.1, §4.2). To be called last: it judges the lanes that exist at that
    /// moment.
    ///
    /// # Safety
    /// The queue was not used before.
    #[must_use]
    pub unsafe fn judged<P: Platform>(mut self, platform: &P, features: &Features) -> Self {
        // SAFETY: the caller's promise.
        unsafe { self.judge_by(platform, features) };
        self
    }

    /// As [`CommandQueue::judged`], where it is.
    ///
    /// # Safety
    /// The same.
    pub(crate) unsafe fn judge_by<P: Platform>(&mut self, platform: &P, features: &Features) {
        if cfg!(debug_assertions) {
            let judge = Judge::of(features);
            self.lanes_mut(platform).for_each(|lane| lane.judge_by(judge));
        }
    }

    /// Gives the memory back, except words that messages may still be written to.
    ///
    /// # Safety
    /// The SMMU cannot access the queues: CMDQEN, and each EN of an enhanced one, was seen 0, or they were never enabled.
    pub unsafe fn free<P: Platform>(self, platform: &P) {
        for lane in self.others(platform) {
            // SAFETY: each is read once, and nobody uses it afterwards. The caller says that the SMMU is done with it.
            unsafe { ptr::read(lane).free(platform) };
        }
        // SAFETY: allocated with these sizes; nobody uses them any more, as the caller says.
        unsafe {
            if self.count() != 0 {
                let lanes = self.count();
                platform.free(self.others, lanes_bytes(lanes), LANE_ALIGN);
            }
            // A message that is on its way when a queue is disabled is still written (§2.4): until none can be, the
            // words stay allocated.
            let silent = self.silent.load(Ordering::Acquire);
            if let Some(words) = self.words().filter(|_| silent) {
                let bytes = (1 + self.count()) * WORD_BYTES;
                platform.free_coherent(words, bytes, WORD_BYTES);
            }
            self.main.free(platform);
            self.common.counters.free(platform);
        }
    }

    /// How many lanes there are beside the first: none without enhanced queues, which is known when the driver is compiled.
    #[inline]
    pub(super) const fn count(&self) -> usize {
        if cfg!(feature = "ecmdq") { self.count as usize } else { 0 }
    }

    /// The words that messages go to, if they do; likewise.
    pub(super) const fn words(&self) -> Option<PhysAddr> {
        if cfg!(feature = "sync-messages") { self.words } else { None }
    }

    /// The lanes beside the first.
    #[inline]
    pub(super) fn others<'a, P: Platform>(&'a self, platform: &'a P) -> &'a [Lane] {
        if self.count() == 0 {
            return &[];
        }
        let lanes = platform.pointer(self.others).cast::<Lane>();
        // SAFETY: `beside` wrote so many there, which live until `free` consumes the queue.
        unsafe { slice::from_raw_parts(lanes.as_ptr(), self.count()) }
    }

    /// All lanes, of a queue that was not used before.
    fn lanes_mut<'a, P: Platform>(
        &'a mut self,
        platform: &'a P,
    ) -> impl Iterator<Item = &'a mut Lane> {
        let others: &mut [Lane] = if self.count() == 0 {
            &mut []
        } else {
            let lanes = platform.pointer(self.others).cast::<Lane>();
            // SAFETY: as in `others`; `self` is borrowed for as long.
            unsafe { slice::from_raw_parts_mut(lanes.as_ptr(), self.count()) }
        };
        iter::once(&mut self.main).chain(others)
    }
}

/// Power of two, at least the alignment of a lane.
const LANE_ALIGN: usize = align_of::<Lane>();

const fn lanes_bytes(lanes: usize) -> usize {
    lanes * size_of::<Lane>()
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! The queue between an SMMU that is played by hand and its reader.

use core::cell::Cell;
use core::ptr::NonNull;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr;
use std::sync::Mutex;
use std::vec::Vec;

use super::*;
use crate::platform::{Frames, RawMutex};

std::thread_local! {
    /// How often interrupts were masked.
    static MASKED: Cell<usize> = const { Cell::new(0) };
}

/// Memory at the CPU's own addresses.
struct Memory;

// SAFETY: never used by two.
unsafe impl RawMutex for Memory {
    fn new() -> Self {
        Self
    }
    fn lock(&self) {}
    unsafe fn unlock(&self) {}
}

// SAFETY: allocations are the global allocator's, zeroed, at their own addresses.
unsafe impl Frames for Memory {
    fn allocate(&self, size: usize, align: usize) -> Option<PhysAddr> {
        let layout = Layout::from_size_align(size, align).ok()?;
        // SAFETY: no queue is without bytes.
        let memory = unsafe { alloc_zeroed(layout) };
        Some(PhysAddr(memory.expose_provenance() as u64))
    }
    unsafe fn free(&self, frame: PhysAddr, size: usize, align: usize) {
        let layout = Layout::from_size_align(size, align).unwrap();
        // SAFETY: the caller gives back what `allocate` gave.
        unsafe { dealloc(self.pointer(frame).as_ptr(), layout) };
    }
    fn pointer(&self, pa: PhysAddr) -> NonNull<u8> {
        NonNull::new(ptr::with_exposed_provenance_mut(pa.0 as usize)).unwrap()
    }
    fn publish(&self, _: PhysAddr, _: usize) {}
}

// SAFETY: as above; it runs what is critical once.
unsafe impl Platform for Memory {
    type Mmio = Registers;
    type Mutex = Self;
    fn allocate_coherent(&self, size: usize, align: usize) -> Option<PhysAddr> {
        self.allocate(size, align)
    }
    unsafe fn free_coherent(&self, memory: PhysAddr, size: usize, align: usize) {
        // SAFETY: as the caller says.
        unsafe { self.free(memory, size, align) };
    }
    fn mask_irqs<R>(&self, critical: impl FnOnce() -> R) -> R {
        MASKED.set(MASKED.get() + 1);
        critical()
    }
    fn relax(&self) {}
    fn now(&self) -> u64 {
        0
    }
}

#[derive(Default)]
struct Registers(Mutex<State>);

#[derive(Default)]
struct State {
    prod: u32,
    cons: u32,
    base: u64,
    /// Values of CONS since the last look.
    written: Vec<u32>,
    /// Records that come as soon as CONS was written.
    coming: u32,
}

impl Mmio for Registers {
    fn read32(&self, offset: u32) -> u32 {
        let state = self.0.lock().unwrap();
        match offset {
            PriqProd::OFFSET => state.prod,
            PriqCons::OFFSET => state.cons,
            _ => panic!("{offset:#x} is read"),
        }
    }
    fn write32(&self, offset: u32, value: u32) {
        let mut state = self.0.lock().unwrap();
        match offset {
            PriqProd::OFFSET => state.prod = value,
            PriqCons::OFFSET => {
                state.cons = value;
                state.written.push(value);
                state.prod = state.prod.wrapping_add(std::mem::take(&mut state.coming));
            }
            _ => panic!("{offset:#x} is written"),
        }
    }
    fn write64(&self, offset: u32, value: u64) {
        assert_eq!(offset, PriqBase::OFFSET);
        self.0.lock().unwrap().base = value;
    }
}

const OVERFLOW: u32 = 1 << 31;

/// A queue of four, and its SMMU.
struct Machine {
    queue: PriQueue,
    registers: Registers,
}

impl Machine {
    fn new() -> Self {
        Self::with(2)
    }

    /// A queue of 2^`log2`.
    fn with(log2: u32) -> Self {
        // SAFETY: there is one platform.
        let queue = unsafe { PriQueue::new(&Memory, Size::new(log2).unwrap()) }.unwrap();
        let registers = Registers::default();
        queue.restart(&Memory, &registers, &mut |_| panic!("it was never used"));
        registers.0.lock().unwrap().written.clear();
        Self { queue, registers }
    }

    /// The SMMU writes a record with `word` where `position` is.
    fn write(&self, position: u64, word: u64) {
        let words = [word, !word];
        for (to, value) in self.queue.words(&Memory, position).zip(words) {
            to.store(value.to_le(), Ordering::Relaxed);
        }
    }

    fn set_prod(&self, prod: u32) {
        self.registers.0.lock().unwrap().prod = prod;
    }

    fn written(&self) -> Vec<u32> {
        std::mem::take(&mut self.registers.0.lock().unwrap().written)
    }

    fn drain(&self, budget: usize) -> (Vec<Delivery>, Result<bool, Inconsistent>) {
        let mut seen = Vec::new();
        let mut sink = |delivery| seen.push(delivery);
        let more = self.queue.drain(&Memory, &self.registers, budget, &mut sink);
        (seen, more)
    }

    fn end(self) {
        // SAFETY: the SMMU is a structure of this test.
        unsafe { self.queue.free(&Memory) };
    }
}

const fn record(word: u64) -> Delivery {
    Delivery::Record(PageRequest([word, !word]))
}

#[test]
fn records_come_in_order_within_the_budget_and_make_room() {
    let machine = Machine::new();
    assert_eq!(machine.registers.0.lock().unwrap().base, machine.queue.base_register().0);
    assert_eq!(machine.drain(8), (Vec::new(), Ok(false)));
    (0..3).for_each(|at| machine.write(at, 10 + at));
    machine.set_prod(3);
    assert_eq!(machine.drain(2), ([record(10), record(11)].to_vec(), Ok(true)));
    // Beyond the end of the ring: index 1, wrapped.
    machine.write(3, 13);
    machine.write(4, 14);
    machine.set_prod(5);
    assert_eq!(machine.drain(8), ([record(12), record(13), record(14)].to_vec(), Ok(false)));
    assert_eq!(machine.written(), [2, 5]);
    assert_eq!(machine.drain(8), (Vec::new(), Ok(false)));
    assert_eq!(machine.written(), []);
    machine.end();
}

#[test]
fn an_overflow_is_acknowledged_only_when_all_was_read() {
    let machine = Machine::new();
    (0..4).for_each(|at| machine.write(at, at));
    machine.set_prod(4 | OVERFLOW);
    assert_eq!(machine.drain(3), ([0, 1, 2].map(record).to_vec(), Ok(true)));
    assert_eq!(machine.written(), [3], "not yet");
    let lost = Delivery::Lost(Gap::Overflow);
    assert_eq!(machine.drain(3), ([record(3), lost].to_vec(), Ok(false)));
    assert_eq!(machine.written(), [4 | OVERFLOW]);
    // It is the next one that shows as 0; with no records behind it.
    machine.set_prod(4);
    assert_eq!(machine.drain(3), ([lost].to_vec(), Ok(false)));
    assert_eq!(machine.written(), [4]);
    machine.end();
}

#[test]
fn a_record_that_came_without_an_interrupt_is_waiting() {
    let machine = Machine::new();
    machine.set_prod(1);
    machine.registers.0.lock().unwrap().coming = 1;
    assert_eq!(machine.drain(8).1, Ok(true));
    assert_eq!(machine.drain(8).1, Ok(false));
    machine.end();
}

/// No interrupt tells of it, and nothing comes before it is acknowledged.
#[test]
fn an_overflow_of_a_queue_that_was_just_read_is_waiting() {
    let machine = Machine::new();
    machine.set_prod(4);
    machine.registers.0.lock().unwrap().coming = OVERFLOW;
    assert_eq!(machine.drain(8).1, Ok(true));
    assert_eq!(machine.drain(8), ([Delivery::Lost(Gap::Overflow)].to_vec(), Ok(false)));
    assert_eq!(machine.written(), [4, 4 | OVERFLOW]);
    machine.end();
}

#[test]
fn an_index_that_makes_no_sense_is_refused_with_its_value() {
    let machine = Machine::new();
    machine.set_prod(5);
    let refused = Inconsistent { expected: 0, register: 5 };
    assert_eq!(machine.drain(8), (Vec::new(), Err(refused)));
    assert_eq!(machine.written(), []);
    machine.end();
}

/// What is done with records, and when they were consumed.
struct Watched<'a> {
    registers: &'a Registers,
    fates: &'a [Next],
    consumed: Vec<u32>,
}

impl Reader for Watched<'_> {
    fn take(&mut self, _: PageRequest) -> Next {
        let (first, rest) = self.fates.split_first().unwrap();
        self.fates = rest;
        *first
    }
    fn consumed(&mut self) {
        self.consumed.push(self.registers.0.lock().unwrap().cons);
    }
    fn lost(&mut self, gap: Gap) {
        panic!("{gap:?}");
    }
}

#[test]
fn room_is_made_before_an_answer_can_be_given_and_what_is_left_stays() {
    let machine = Machine::new();
    (0..4).for_each(|at| machine.write(at, at));
    machine.set_prod(4);
    let read = |fates: &[Next]| {
        let registers = &machine.registers;
        let mut watched = Watched { registers, fates, consumed: Vec::new() };
        let more = machine.queue.drain_to(&Memory, registers, 8, &mut watched);
        assert!(watched.fates.is_empty());
        (watched.consumed, more)
    };
    let fates = [Next::Taken, Next::Answerable, Next::Taken, Next::Later];
    assert_eq!(read(&fates), ([2].to_vec(), Ok(true)));
    assert_eq!(machine.written(), [2, 3]);
    assert_eq!(read(&[Next::Later]), (Vec::new(), Ok(true)));
    assert_eq!(machine.written(), []);
    assert_eq!(read(&[Next::Answerable]), ([4].to_vec(), Ok(false)));
    assert_eq!(machine.written(), [4]);
    machine.end();
}

#[test]
fn what_is_over_is_marked_where_it_is_unless_it_was_read() {
    let machine = Machine::new();
    (0..4).for_each(|at| machine.write(at, 1 + at));
    machine.set_prod(4);
    let mut unread = machine.queue.unread(&Memory, &machine.registers).unwrap();
    assert_eq!(unread, 0..4);
    assert_eq!(machine.drain(1).0, [record(1)]);
    let mut shown = Vec::new();
    let mut over = |record: PageRequest| {
        shown.push(record.0[0]);
        record.0[0].is_multiple_of(2)
    };
    machine.queue.revise(&Memory, &mut unread, 2, &mut over);
    assert_eq!(unread, 3..4);
    machine.queue.revise(&Memory, &mut unread, 2, &mut over);
    assert!(unread.is_empty());
    assert_eq!(shown, [2, 3, 4]);
    assert_eq!(machine.drain(8).0, [Delivery::Record(OVER), record(3), Delivery::Record(OVER)]);
    machine.end();
}

#[test]
fn a_reset_shows_what_nobody_read_and_says_so_later() {
    let machine = Machine::new();
    (0..3).for_each(|at| machine.write(at, 1 + at));
    machine.set_prod(3 | OVERFLOW);
    assert_eq!(machine.drain(1).0, [record(1)]);
    let mut shown = Vec::new();
    let mut restart = || {
        machine.queue.restart(&Memory, &machine.registers, &mut |record| shown.push(record.0[0]));
    };
    restart();
    // Nothing more since; but what was lost is still to be said.
    restart();
    machine.write(0, 9);
    machine.set_prod(1);
    let lost = Delivery::Lost(Gap::Reset { unread: 2, overflow: true });
    assert_eq!(machine.drain(8).0, [lost, record(9)]);
    // It could not be written.
    machine.queue.aborted(&Memory);
    restart();
    let lost = Delivery::Lost(Gap::Reset { unread: 0, overflow: true });
    assert_eq!(machine.drain(8).0, [lost]);
    machine.set_prod(7);
    restart();
    let lost = Delivery::Lost(Gap::Reset { unread: 4, overflow: true });
    assert_eq!(machine.drain(8).0, [lost]);
    assert_eq!(shown, [2, 3]);
    machine.end();
}

/// However many there are: interrupts are not masked for all of them at once, and all are told of as lost.
#[test]
fn a_reset_masks_interrupts_for_a_few_records_at_a_time() {
    let machine = Machine::with(7);
    for position in 0..128 {
        machine.write(position, position + 1);
    }
    machine.set_prod(128);
    let mut shown: Vec<(usize, u64)> = Vec::new();
    machine.queue.restart(&Memory, &machine.registers, &mut |request| {
        shown.push((MASKED.get(), request.0[0]));
    });
    let words: Vec<u64> = shown.iter().map(|(_, word)| *word).collect();
    assert_eq!(words, (1..=128).collect::<Vec<u64>>());
    let most = shown.chunk_by(|one, other| one.0 == other.0).map(<[_]>::len).max();
    assert_eq!(most, Some(32));
    let lost = Delivery::Lost(Gap::Reset { unread: 128, overflow: false });
    assert_eq!(machine.drain(4), (Vec::from([lost]), Ok(false)));
    machine.end();
}

/// An index that goes on moving, although the SMMU is off, ends the reset all the same.
#[test]
fn a_reset_ends_whatever_becomes_of_the_index() {
    let machine = Machine::with(7);
    machine.set_prod(128);
    let mut shown = 0;
    machine.queue.restart(&Memory, &machine.registers, &mut |_| {
        shown += 1;
        // One more for each: the queue is always full, and its index goes round.
        let mut state = machine.registers.0.lock().unwrap();
        state.prod = (state.prod + 1) & 0xff;
    });
    assert_eq!(shown, 128);
    machine.end();
}

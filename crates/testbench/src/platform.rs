// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver's platform in a test: memory of a machine, an injected clock, and a hook at every point at which
//! the world may change under the driver.

mod registers;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use smmuv3::{Frames, InstanceId, PhysAddr, Platform, RawMutex, StreamId};
use smmuv3_formats::Command;
use smmuv3_formats::register::CmdqBase;
use smmuv3_model::{Interrupts, Observation};

use crate::cpu::Cpu;
use crate::frames::FrameAllocator;
use crate::lock::{Guard, Lock};
use crate::machine::Machine;
use crate::ram::Ram;
use crate::trace::{Trace, Tracer};

pub use registers::TestMmio;

/// What the driver just did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// It made stores to memory visible to hardware.
    Published {
        /// First byte.
        pa: u64,
        /// How many.
        bytes: u64,
    },
    /// It is about to free memory.
    Freeing {
        /// First byte.
        pa: u64,
        /// How many.
        bytes: u64,
    },
    /// It accessed a register, or waits.
    Idle,
}

/// Somebody who looks on, or interferes.
pub trait Observer: Send + Sync {
    /// The driver is at `point`. When `interruptible`, the driver may be called from here: nothing is locked
    /// and interrupts are on.
    fn at(&self, point: Point, interruptible: bool);
}

type Once = Cell<Option<Box<dyn FnOnce()>>>;

thread_local! {
    static BEFORE_MASKING: Once = const { Cell::new(None) };
    static AFTER_UNLOCKING: Once = const { Cell::new(None) };
}

/// Does something, once, where the driver is next about to mask interrupts on this thread: it may have read what it goes by
/// then, and has told hardware nothing of it.
pub fn before_masking(then: impl FnOnce() + 'static) {
    BEFORE_MASKING.set(Some(Box::new(then)));
}

/// Does something, once, where the driver has next given its mutex back on this thread.
pub fn after_unlocking(then: impl FnOnce() + 'static) {
    AFTER_UNLOCKING.set(Some(Box::new(then)));
}

/// Called with what the driver does, where it does it.
pub type Hook = Arc<dyn Fn(&smmuv3::Trace<'_>) + Send + Sync>;

/// The driver's surroundings.
pub struct World {
    machine: Arc<dyn Machine>,
    /// The machine's: for what looks into it all the time.
    ram: Ram,
    frames: Lock<FrameAllocator>,
    cpu: Lock<Cpu>,
    clock: AtomicU64,
    observer: Lock<Option<Arc<dyn Observer>>>,
    commands: Lock<Snoop>,
    tracer: Option<Tracer>,
    /// Which of the machine's instances each of the driver's is; those that are not here have the machine's numbers.
    numbers: Lock<BTreeMap<InstanceId, usize>>,
    /// Who is told what the driver does.
    hook: Lock<Option<Hook>>,
    /// What was traced of each instance while nobody looked on.
    unseen: Lock<Vec<Vec<Observation>>>,
    /// Wires of each instance that were traced as raised, and that nobody has handled since.
    raised: Lock<Vec<Interrupts>>,
    /// The first thread that waited here, 0 before that, and whether any other has.
    first: AtomicUsize,
    several: AtomicBool,
}

/// What goes through the command queues.
#[derive(Debug, Default)]
struct Snoop {
    /// Of each instance, of each of its queues: base register and next producer value.
    queues: Vec<BTreeMap<usize, (CmdqBase, u32)>>,
    log: Vec<(usize, Command)>,
    /// How many went through those of each instance.
    given: Vec<u64>,
    /// The call under way, and how many there were.
    call: (u64, u64),
    /// The call that gave a command: of each instance, of each of its queues, by producer index, which comes again.
    givers: Vec<BTreeMap<usize, Vec<Option<u64>>>>,
}

thread_local! {
    /// How deep this thread is in sections with interrupts masked.
    static MASKED: Cell<u32> = const { Cell::new(0) };
}

impl World {
    /// Nanoseconds that pass whenever the driver looks at the clock or waits.
    const TICK: u64 = 1000;

    /// The surroundings on `machine`, with `instances` SMMUs.
    pub fn new(machine: Arc<dyn Machine>, instances: usize) -> Arc<Self> {
        Self::traced(machine, instances, None)
    }

    /// As [`World::new`]; what happens is traced as well.
    pub fn traced(
        machine: Arc<dyn Machine>,
        instances: usize,
        tracer: Option<Tracer>,
    ) -> Arc<Self> {
        let ram = machine.ram().clone();
        let frames = FrameAllocator::new(ram.clone());
        // What is no model is another process, which takes its turns, too.
        let elsewhere = machine.model(0).is_none();
        Arc::new(Self {
            machine,
            ram,
            frames: Lock::new(frames),
            cpu: Lock::default(),
            clock: AtomicU64::new(0),
            observer: Lock::new(None),
            commands: Lock::new(Snoop {
                queues: vec![BTreeMap::new(); instances],
                givers: vec![BTreeMap::new(); instances],
                given: vec![0; instances],
                ..Snoop::default()
            }),
            tracer,
            numbers: Lock::new(BTreeMap::new()),
            hook: Lock::new(None),
            unseen: Lock::new(vec![Vec::new(); instances]),
            raised: Lock::new(vec![Interrupts::default(); instances]),
            first: AtomicUsize::new(0),
            several: AtomicBool::new(elsewhere),
        })
    }

    /// Lets others run, if there are any that wait: most runs have one thread, which would only lose its turn.
    fn yield_to_others(&self) {
        // Where its own depth is, which no other thread has.
        let own = MASKED.with(|depth| std::ptr::from_ref(depth).addr());
        let before = self.first.compare_exchange(0, own, Ordering::Relaxed, Ordering::Relaxed);
        if before.is_err_and(|first| first != own) {
            self.several.store(true, Ordering::Relaxed);
        }
        if self.several.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
    }

    /// The machine.
    pub fn machine(&self) -> &dyn Machine {
        &*self.machine
    }

    /// The memory allocator.
    pub fn frames(&self) -> Guard<'_, FrameAllocator> {
        self.frames.lock()
    }

    /// What CPUs know of processes.
    pub fn cpu(&self) -> Guard<'_, Cpu> {
        self.cpu.lock()
    }

    /// Lets `observer` look on, instead of whoever did before.
    pub fn set_observer(&self, observer: Option<Arc<dyn Observer>>) {
        *self.observer.lock() = observer;
    }

    /// Lets `hook` be told what the driver does, instead of whoever was before.
    pub fn set_hook(&self, hook: Option<Hook>) {
        *self.hook.lock() = hook;
    }

    /// How many commands the driver gave `instance` so far.
    pub fn given(&self, instance: usize) -> u64 {
        self.snoop().given.get(instance).copied().unwrap_or(0)
    }

    /// Another call of the driver begins. What it returns is under way again once this one has returned, for
    /// [`World::goes_on`].
    pub(crate) fn calls(&self) -> u64 {
        let (call, calls) = &mut self.snoop().call;
        *calls += 1;
        std::mem::replace(call, *calls)
    }

    /// The call that was interrupted is under way again.
    pub(crate) fn goes_on(&self, interrupted: u64) {
        self.snoop().call.0 = interrupted;
    }

    /// Which call gave the command at this index of a queue, the last time that there was one.
    pub(crate) fn giver(&self, (instance, queue): (usize, usize), index: u32) -> Option<u64> {
        let snoop = self.snoop();
        *snoop.givers.get(instance)?.get(&queue)?.get(index as usize)?
    }

    /// The driver has enabled this instance of the machine, and calls it `id`.
    pub fn enabled(&self, id: InstanceId, instance: usize) {
        self.numbers.lock().insert(id, instance);
    }

    /// Another driver begins to count.
    pub(crate) fn forget_enabled(&self) {
        self.numbers.lock().clear();
    }

    /// Which of the machine's instances the driver calls so.
    fn number(&self, instance: InstanceId) -> usize {
        self.numbers.lock().get(&instance).copied().unwrap_or(instance.index())
    }

    /// Counts from 0 again: what is there now is another instance.
    pub(crate) fn forget_given(&self, instance: usize) {
        if let Some(given) = self.snoop().given.get_mut(instance) {
            *given = 0;
        }
    }

    /// The commands that the driver gave since the last call, with their instance.
    pub fn take_commands(&self) -> Vec<(usize, Command)> {
        std::mem::take(&mut self.snoop().log)
    }

    /// Nanoseconds of the driver's clock; looking at it here lets no time pass.
    pub fn time(&self) -> u64 {
        self.clock.load(Ordering::Relaxed)
    }

    /// Lets time pass on the driver's clock, as when a CPU is kept from running.
    pub fn pass(&self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.clock.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Notes something in the trace, if there is one.
    pub(crate) fn trace(&self, note: impl FnOnce(&mut Trace)) {
        if let Some(tracer) = &self.tracer {
            tracer.at(self.time(), note);
        }
    }

    /// What the model of `instance` did since the last call; `None` where the machine has no model of it.
    pub fn observations(&self, instance: usize) -> Option<Vec<Observation>> {
        let mut model = self.machine.model(instance)?;
        let news = model.observations();
        if self.tracer.is_none() {
            return Some(news);
        }
        let interrupts = model.interrupts();
        if let Some(raised) = self.raised.lock().get_mut(instance) {
            *raised = either(*raised, interrupts);
        }
        drop(model);
        self.trace(|trace| {
            for observation in &news {
                trace.observe(instance, observation);
            }
            trace.interrupts(instance, interrupts);
        });
        let mut unseen = self.unseen.lock();
        let mut all = unseen.get_mut(instance).map(std::mem::take).unwrap_or_default();
        all.extend(news);
        Some(all)
    }

    /// The wires that the model of `instance` has raised since the last call, traced by then or not; `None` where the machine
    /// has no model of it.
    pub(crate) fn interrupts(&self, instance: usize) -> Option<Interrupts> {
        let mut model = self.machine.model(instance)?;
        let now = model.interrupts();
        drop(model);
        if self.tracer.is_none() {
            return Some(now);
        }
        self.trace(|trace| trace.interrupts(instance, now));
        let mut raised = self.raised.lock();
        let before = raised.get_mut(instance).map(std::mem::take).unwrap_or_default();
        Some(either(before, now))
    }

    /// Each of `seen`, which are empty, becomes what the model of the SMMU with that number did since the last call; whether
    /// there are models. Where hardware is to `act`, it does so before.
    pub(crate) fn see(&self, act: bool, seen: &mut [Vec<Observation>]) -> bool {
        if act && self.tracer.is_none() {
            return self.machine.act_and_tell(seen);
        }
        if act {
            self.machine.act();
        }
        let mut models = false;
        for (instance, seen) in seen.iter_mut().enumerate() {
            if self.tracer.is_some() {
                let Some(news) = self.observations(instance) else { break };
                *seen = news;
            } else {
                let Some(mut model) = self.machine.model(instance) else { break };
                model.swap_observations(seen);
            }
            models = true;
        }
        models
    }

    /// Traces what happens while nobody looks on, and keeps it for whoever does next.
    fn trace_unseen(&self) {
        if self.tracer.is_none() {
            return;
        }
        for instance in 0..self.snoop().queues.len() {
            let Some(seen) = self.observations(instance) else { continue };
            let mut unseen = self.unseen.lock();
            if let Some(unseen) = unseen.get_mut(instance) {
                *unseen = seen;
            }
        }
    }

    fn snoop(&self) -> Guard<'_, Snoop> {
        self.commands.lock()
    }

    pub(crate) fn at(&self, point: Point) {
        let observer = self.observer.lock().clone();
        self.trace(Trace::pass);
        match observer {
            Some(observer) => observer.at(point, MASKED.get() == 0),
            None => self.trace_unseen(),
        }
    }

    pub(crate) fn allocate(&self, size: usize, align: usize) -> Option<PhysAddr> {
        self.frames().allocate(size as u64, align as u64).map(PhysAddr)
    }

    pub(crate) fn free(&self, pa: PhysAddr, size: usize) {
        self.at(Point::Freeing { pa: pa.0, bytes: size as u64 });
        self.machine.freed(pa.0, size as u64);
        self.frames().free(pa.0, size as u64);
    }

    /// Notes the commands between the last producer value and `prod`.
    fn snoop_commands(&self, instance: usize, queue: usize, prod: u32) {
        let snoop = &mut *self.snoop();
        let queues = snoop.queues.get_mut(instance);
        let Some((base, next)) = queues.and_then(|queues| queues.get_mut(&queue)) else { return };
        let (size, mask) = (1u32 << base.log2size(), (2u32 << base.log2size()) - 1);
        let Some(givers) = snoop.givers.get_mut(instance) else { return };
        let givers = givers.entry(queue).or_default();
        let mut count = 0;
        while *next != prod & mask && count < size {
            let slot = base.addr() + 16 * u64::from(*next & (size - 1));
            let word = |at| self.ram.read64(at).unwrap_or(0);
            let command = Command([word(slot), word(slot + 8)]);
            let (log2, index) = (u32::from(base.log2size() as u8), *next);
            self.trace(|trace| trace.given((instance, queue), log2, index, command));
            snoop.log.push((instance, command));
            // A queue has up to 2^19 entries, and few ever use all of them.
            if givers.len() <= index as usize {
                givers.resize(index as usize + 1, None);
            }
            givers[index as usize] = Some(snoop.call.0);
            count += 1;
            *next = (*next + 1) & mask;
        }
        if let Some(given) = snoop.given.get_mut(instance) {
            *given += u64::from(count);
        }
    }
}

/// What was raised at either of two times.
fn either(one: Interrupts, other: Interrupts) -> Interrupts {
    Interrupts {
        eventq: one.eventq || other.eventq,
        gerror: one.gerror || other.gerror,
        cmd_sync: one.cmd_sync || other.cmd_sync,
        event: one.event || other.event,
        priq: one.priq || other.priq,
    }
}

/// A handle to the [`World`], as the driver's platform.
#[derive(Clone)]
pub struct TestPlatform(pub Arc<World>);

// SAFETY: the allocator hands out disjoint ranges of RAM that stays mapped as long as the world lives, zeroed
// through the same mapping; RAM is accessed atomically only.
unsafe impl Frames for TestPlatform {
    fn allocate(&self, size: usize, align: usize) -> Option<PhysAddr> {
        let memory = self.0.allocate(size, align)?;
        self.0.machine.allocated(memory.0, size as u64);
        Some(memory)
    }

    unsafe fn free(&self, frame: PhysAddr, size: usize, _align: usize) {
        self.0.free(frame, size);
    }

    fn pointer(&self, pa: PhysAddr) -> NonNull<u8> {
        self.0.ram.pointer(pa.0).unwrap_or_else(|| panic!("{pa} is not RAM"))
    }

    fn publish(&self, pa: PhysAddr, bytes: usize) {
        self.0.machine.published(pa.0, bytes as u64);
        self.0.at(Point::Published { pa: pa.0, bytes: bytes as u64 });
    }
}

// SAFETY: as above; RAM is coherent.
unsafe impl Platform for TestPlatform {
    type Mmio = TestMmio;
    type Mutex = SpinMutex;

    fn allocate_coherent(&self, size: usize, align: usize) -> Option<PhysAddr> {
        self.0.allocate(size, align)
    }

    unsafe fn free_coherent(&self, memory: PhysAddr, size: usize, _align: usize) {
        self.0.free(memory, size);
    }

    fn mask_irqs<R>(&self, critical: impl FnOnce() -> R) -> R {
        /// Unmasks them; also when the driver panics, as the thread may go on with another run.
        struct Unmask;
        impl Drop for Unmask {
            fn drop(&mut self) {
                MASKED.set(MASKED.get() - 1);
            }
        }
        if MASKED.get() == 0
            && let Some(then) = BEFORE_MASKING.take()
        {
            then();
        }
        MASKED.set(MASKED.get() + 1);
        let unmask = Unmask;
        let result = critical();
        drop(unmask);
        if MASKED.get() == 0 {
            // What was pending is taken now.
            self.0.at(Point::Idle);
        }
        result
    }

    fn pin_asid(&self, process: u64) -> Option<u16> {
        self.0.cpu().pin(process)
    }

    fn unpin_asid(&self, process: u64, asid: u16) {
        self.0.cpu().unpin(process, asid);
    }

    /// Whichever the clock says: calls move from one CPU to another.
    fn cpu(&self) -> usize {
        let mixed = (self.0.time() / World::TICK).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // Two bits.
        (mixed >> 62) as usize
    }

    fn enable_ats(&self, instance: InstanceId, stream: StreamId) {
        self.switch_ats(instance, stream, true);
    }

    fn disable_ats(&self, instance: InstanceId, stream: StreamId) {
        self.switch_ats(instance, stream, false);
    }

    fn enable_page_requests(&self, instance: InstanceId, stream: StreamId, _: u32) {
        self.switch_pri(instance, stream, true);
    }

    fn disable_page_requests(&self, instance: InstanceId, stream: StreamId) {
        self.switch_pri(instance, stream, false);
    }

    fn max_cpus(&self) -> usize {
        4
    }

    fn relax(&self) {
        self.0.clock.fetch_add(World::TICK, Ordering::Relaxed);
        self.0.machine.wait();
        self.0.at(Point::Idle);
        self.0.yield_to_others();
    }

    fn trace(&self, event: &smmuv3::Trace<'_>) {
        self.0.trace(|trace| trace.driver(event));
        let hook = self.0.hook.lock().clone();
        if let Some(hook) = hook {
            hook(event);
        }
    }

    fn now(&self) -> u64 {
        self.0.clock.fetch_add(World::TICK, Ordering::Relaxed)
    }
}

/// A mutex that yields while it waits.
pub struct SpinMutex(AtomicBool);

// SAFETY: the flag is set by one caller at a time, with acquire and release ordering.
unsafe impl RawMutex for SpinMutex {
    fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    fn lock(&self) {
        while self.0.swap(true, Ordering::Acquire) {
            std::thread::yield_now();
        }
    }

    unsafe fn unlock(&self) {
        self.0.store(false, Ordering::Release);
        if let Some(then) = AFTER_UNLOCKING.take() {
            then();
        }
    }
}

impl TestPlatform {
    /// Switches ATS in the device behind `stream`.
    fn switch_ats(&self, instance: InstanceId, stream: StreamId, on: bool) {
        if let Some(mut model) = self.0.machine().model(self.0.number(instance))
            && let Some(endpoint) = model.endpoint_mut(stream.0)
        {
            endpoint.ats = on;
        }
    }

    fn switch_pri(&self, instance: InstanceId, stream: StreamId, on: bool) {
        if let Some(mut model) = self.0.machine().model(self.0.number(instance))
            && let Some(endpoint) = model.endpoint_mut(stream.0)
        {
            endpoint.pri = on;
        }
    }
}

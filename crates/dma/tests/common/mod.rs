// SPDX-License-Identifier: MIT OR Apache-2.0
//! A machine with one modelled SMMU, whose devices do DMA: memory, a platform, and what the tests do again and again.

#![allow(dead_code, reason = "each test uses a part of it")]

mod store;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use smmuv3::{
    Config, Frames, InstanceConfig, Iommu, Iova, Master, MasterConfig, Mmio, PhysAddr, Platform,
    RawMutex, Smmu, StreamId,
};
use smmuv3_dma::{Closed, Direction, DmaConfig, DmaPlatform, DmaSpace};
use smmuv3_model::{Access, Adversary, Memory, Model, Profile, Reason};

use store::{BUFFER_PAGES, Bus, FRAME_BYTES, FRAMES, Store};

pub const PAGE: usize = 4096;
pub const STREAM: u32 = 5;

/// Cache maintenance, in the order in which it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maintenance {
    /// Physical address of the first byte, and bytes.
    Clean(u64, usize),
    Invalidate(u64, usize),
}
#[derive(Default)]
struct Allocator {
    next: u64,
    /// Freed memory by its size.
    free: BTreeMap<usize, Vec<u64>>,
    live: BTreeMap<u64, usize>,
}

/// What driver, devices and tests share.
pub struct World {
    store: Arc<Store>,
    pub model: Mutex<Model<Bus>>,
    allocator: Mutex<Allocator>,
    /// Frames that may still be allocated.
    pub frames_left: AtomicUsize,
    clock: AtomicU64,
    /// Time passes when it is looked at.
    ticking: AtomicBool,
    pub maintenance: Mutex<Vec<Maintenance>>,
    cpus: usize,
    /// Pages of `buffers` that are given out.
    buffers: AtomicUsize,
    pub publishes: AtomicUsize,
    handler: Mutex<Option<Handler>>,
}

thread_local! {
    /// What the platform says this thread runs on.
    static CPU: Cell<usize> = const { Cell::new(0) };
    static MASKED: Cell<u32> = const { Cell::new(0) };
    static OUTSIDE: Cell<u32> = const { Cell::new(0) };
    static HANDLING: Cell<bool> = const { Cell::new(false) };
}

/// Lets this thread be on `cpu`.
pub fn run_on(cpu: usize) {
    CPU.set(cpu);
}

/// What is to happen wherever an interrupt may be taken.
pub type Handler = Arc<dyn Fn() + Send + Sync>;

/// Runs what is the platform's or the machine's, not the library's.
fn outside<R>(run: impl FnOnce() -> R) -> R {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            OUTSIDE.set(OUTSIDE.get() - 1);
        }
    }
    OUTSIDE.set(OUTSIDE.get() + 1);
    let _leave = Leave;
    run()
}

/// Whether this thread runs the library, or a test, and not what it calls.
pub fn is_inside() -> bool {
    OUTSIDE.try_with(|depth| depth.get() == 0).unwrap_or(false)
}

fn assert_unmasked(what: &str) {
    assert_eq!(MASKED.get(), 0, "{what} with interrupts masked");
}

#[derive(Clone)]
pub struct Kernel(pub Arc<World>);

// SAFETY: memory is handed out once until it is freed, zeroed, and stays where it is.
unsafe impl Frames for Kernel {
    fn allocate(&self, size: usize, align: usize) -> Option<PhysAddr> {
        assert_unmasked("allocated");
        self.0.interrupt();
        outside(|| self.0.allocate(size, align))
    }
    unsafe fn free(&self, frame: PhysAddr, size: usize, _align: usize) {
        assert_unmasked("freed");
        outside(|| self.0.free(frame.0, size));
        self.0.interrupt();
    }

    fn pointer(&self, pa: PhysAddr) -> NonNull<u8> {
        self.0.store.at(pa.0).unwrap()
    }

    fn publish(&self, _pa: PhysAddr, _bytes: usize) {
        self.0.publishes.fetch_add(1, Ordering::Relaxed);
        self.0.interrupt();
    }
}

// SAFETY: as above; everything is coherent.
unsafe impl Platform for Kernel {
    type Mmio = Registers;
    type Mutex = Flag;

    fn allocate_coherent(&self, size: usize, align: usize) -> Option<PhysAddr> {
        self.allocate(size, align)
    }

    unsafe fn free_coherent(&self, memory: PhysAddr, size: usize, align: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.free(memory, size, align) }
    }

    fn mask_irqs<R>(&self, critical: impl FnOnce() -> R) -> R {
        struct Unmask;
        impl Drop for Unmask {
            fn drop(&mut self) {
                MASKED.set(MASKED.get() - 1);
            }
        }
        MASKED.set(MASKED.get() + 1);
        let unmask = Unmask;
        let result = critical();
        drop(unmask);
        // What was pending is taken now.
        self.0.interrupt();
        result
    }

    fn cpu(&self) -> usize {
        CPU.get()
    }

    fn max_cpus(&self) -> usize {
        self.0.cpus
    }

    fn relax(&self) {
        assert_unmasked("waited");
        self.0.clock.fetch_add(1000, Ordering::Relaxed);
        outside(|| self.0.model().run(4));
        self.0.interrupt();
        std::thread::yield_now();
    }

    fn now(&self) -> u64 {
        let tick = u64::from(self.0.ticking.load(Ordering::Relaxed));
        self.0.clock.fetch_add(tick * 1000, Ordering::Relaxed)
    }
}

// SAFETY: the store says where its memory is.
unsafe impl DmaPlatform for Kernel {
    fn physical(&self, start: NonNull<u8>, len: usize) -> Option<(PhysAddr, usize)> {
        self.0.store.physical(start, len)
    }

    fn clean(&self, start: NonNull<u8>, len: usize) {
        self.0.maintain(start, len, Maintenance::Clean);
    }

    fn invalidate(&self, start: NonNull<u8>, len: usize) {
        self.0.maintain(start, len, Maintenance::Invalidate);
    }
}

pub struct Registers(Arc<World>);

impl Mmio for Registers {
    fn read32(&self, offset: u32) -> u32 {
        outside(|| self.0.model().read32(offset))
    }

    fn write32(&self, offset: u32, value: u32) {
        outside(|| self.0.model().write32(offset, value));
    }

    fn write64(&self, offset: u32, value: u64) {
        outside(|| self.0.model().write64(offset, value));
    }
}

pub struct Flag(AtomicBool);

// SAFETY: the flag is set by one caller at a time, with acquire and release ordering.
unsafe impl RawMutex for Flag {
    fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    fn lock(&self) {
        assert_unmasked("slept");
        while self.0.swap(true, Ordering::Acquire) {
            std::thread::yield_now();
        }
    }

    unsafe fn unlock(&self) {
        self.0.store(false, Ordering::Release);
    }
}

/// A buffer of a test, within memory that devices may be lent. It is never given back.
#[derive(Clone, Copy)]
pub struct Area {
    pub pointer: NonNull<[u8]>,
}

// SAFETY: a test says who uses it.
unsafe impl Send for Area {}
// SAFETY: as above.
unsafe impl Sync for Area {}

impl Area {
    pub fn bytes(&self) -> Vec<u8> {
        // SAFETY: the memory lives as long as the world, and the test says when it is read.
        unsafe { self.pointer.as_ref() }.to_vec()
    }

    pub fn fill(&self, bytes: &[u8]) {
        assert_eq!(bytes.len(), self.pointer.len());
        // SAFETY: as above.
        unsafe { self.pointer.cast::<u8>().copy_from(NonNull::from(bytes).cast(), bytes.len()) };
    }

    /// A part of it.
    pub fn part(&self, range: Range<usize>) -> Self {
        assert!(range.end <= self.pointer.len());
        // SAFETY: within the area.
        let start = unsafe { self.pointer.cast::<u8>().add(range.start) };
        Self { pointer: NonNull::slice_from_raw_parts(start, range.len()) }
    }

    /// As a buffer that owns its memory, for ever.
    ///
    /// # Safety
    /// The area is not used otherwise.
    pub unsafe fn into_static(self) -> &'static mut [u8] {
        // SAFETY: worlds of tests that do this are leaked.
        unsafe { &mut *self.pointer.as_ptr() }
    }
}

/// What became of an access.
pub type Reached<T> = Result<T, Reason>;

impl World {
    pub fn new(cpus: usize, adversary: Adversary) -> Arc<Self> {
        let store = Arc::new(Store::new());
        let profile = Profile::default()
            .oas(44)
            .s2p(true)
            .ril(true)
            .sidsize(8)
            .two_level_stream_table(false)
            .queues(6, 6)
            .eager(false)
            .adversary(adversary);
        let model = Model::new(profile, Bus(store.clone()), 1);
        Arc::new(Self {
            store,
            model: Mutex::new(model),
            allocator: Mutex::default(),
            frames_left: AtomicUsize::new(usize::MAX / 2),
            clock: AtomicU64::new(0),
            ticking: AtomicBool::new(true),
            maintenance: Mutex::default(),
            cpus,
            buffers: AtomicUsize::new(0),
            publishes: AtomicUsize::new(0),
            handler: Mutex::default(),
        })
    }

    pub fn model(&self) -> MutexGuard<'_, Model<Bus>> {
        self.model.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn maintain(&self, start: NonNull<u8>, len: usize, what: fn(u64, usize) -> Maintenance) {
        let pa = match self.store.physical(start, len) {
            Some((pa, _)) => pa.0,
            None => {
                let offset = start.as_ptr().addr() - self.store.memory.as_ptr().addr();
                FRAMES + offset as u64
            }
        };
        self.maintenance.lock().unwrap().push(what(pa, len));
    }

    fn allocate(&self, size: usize, align: usize) -> Option<PhysAddr> {
        let left = |left: usize| left.checked_sub(1);
        self.frames_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).ok()?;
        let size = size.next_multiple_of(PAGE);
        assert!(align <= size.next_power_of_two());
        let mut allocator = self.allocator.lock().unwrap();
        let pa = match allocator.free.get_mut(&size).and_then(Vec::pop) {
            Some(pa) => pa,
            None => {
                let at =
                    (FRAMES + allocator.next).next_multiple_of(size.next_power_of_two() as u64);
                allocator.next = at + size as u64 - FRAMES;
                if allocator.next > FRAME_BYTES as u64 {
                    return None;
                }
                at
            }
        };
        assert_eq!(allocator.live.insert(pa, size), None);
        // SAFETY: it is nobody's.
        unsafe { self.store.at(pa).unwrap().write_bytes(0, size) };
        Some(PhysAddr(pa))
    }

    fn free(&self, frame: u64, size: usize) {
        let size = size.next_multiple_of(PAGE);
        let mut allocator = self.allocator.lock().unwrap();
        assert_eq!(allocator.live.remove(&frame), Some(size), "freed what was not allocated");
        // SAFETY: it is nobody's any more.
        unsafe { self.store.at(frame).unwrap().write_bytes(0xfb, size) };
        allocator.free.entry(size).or_default().push(frame);
        let left = &self.frames_left;
        left.fetch_add(1, Ordering::Relaxed);
    }

    /// Lets `handler` run wherever an interrupt can be taken, but not inside itself.
    pub fn interrupt_with(&self, handler: Option<Handler>) {
        *self.handler.lock().unwrap() = handler;
    }

    /// Interrupts are taken here, unless they are masked.
    fn interrupt(&self) {
        if MASKED.get() != 0 || HANDLING.get() {
            return;
        }
        let handler = self.handler.lock().unwrap().clone();
        if let Some(handler) = handler {
            HANDLING.set(true);
            handler();
            HANDLING.set(false);
        }
    }

    /// Frames and coherent memory that are allocated.
    pub fn live(&self) -> usize {
        self.allocator.lock().unwrap().live.values().sum()
    }

    pub fn pass(&self, duration: Duration) {
        self.clock.fetch_add(duration.as_nanos() as u64, Ordering::Relaxed);
    }

    /// Time stands still unless it is made to pass, or something is waited for.
    pub fn stop_clock(&self) {
        self.ticking.store(false, Ordering::Relaxed);
    }

    /// Memory for a buffer, `offset` bytes after the beginning of a page that others are not in.
    pub fn area(&self, offset: usize, len: usize) -> Area {
        let pages = (offset + len).div_ceil(PAGE);
        let first = self.buffers.fetch_add(pages, Ordering::Relaxed);
        assert!(first + pages <= BUFFER_PAGES, "the test needs more memory");
        // SAFETY: within the buffers.
        let start = unsafe { self.store.buffers.add(first * PAGE + offset) };
        Area { pointer: NonNull::slice_from_raw_parts(start, len) }
    }

    /// Pages of buffers that are given out.
    pub fn area_pages(&self) -> usize {
        self.buffers.load(Ordering::Relaxed)
    }

    /// The pages that an area lies in, whole.
    pub fn pages_of(&self, area: &Area) -> Area {
        let start = area.pointer.cast::<u8>();
        let offset = start.as_ptr().addr() % PAGE;
        let len = (offset + area.pointer.len()).next_multiple_of(PAGE);
        // SAFETY: areas lie in the buffers.
        let start = unsafe { start.sub(offset) };
        Area { pointer: NonNull::slice_from_raw_parts(start, len) }
    }

    /// Where a byte is.
    pub fn physical(&self, area: &Area, offset: usize) -> u64 {
        // SAFETY: within the area.
        let pointer = unsafe { area.pointer.cast::<u8>().add(offset) };
        self.store.physical(pointer, 1).unwrap().0.0
    }

    /// The device reads.
    pub fn read(&self, iova: Iova, len: usize) -> Reached<Vec<u8>> {
        let mut bytes = vec![0; len];
        let mut model = self.model();
        for part in parts(iova, len) {
            let pa = translate(&mut model, iova.0 + part.start as u64, false)?;
            model.memory().read(pa, &mut bytes[part]).unwrap();
        }
        Ok(bytes)
    }

    /// The device writes.
    pub fn write(&self, iova: Iova, bytes: &[u8]) -> Reached<()> {
        let mut model = self.model();
        for part in parts(iova, bytes.len()) {
            let pa = translate(&mut model, iova.0 + part.start as u64, true)?;
            model.memory().write(pa, &bytes[part]).unwrap();
        }
        Ok(())
    }

    /// Where an access of the device goes.
    pub fn reaches(&self, iova: Iova, write: bool) -> Reached<u64> {
        translate(&mut self.model(), iova.0, write)
    }
}

/// What lies in one page each.
fn parts(iova: Iova, len: usize) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let end = len.min(at + PAGE - (iova.0 as usize + at) % PAGE);
        let part = at..end;
        at = end;
        (!part.is_empty()).then_some(part)
    })
}

fn translate(model: &mut Model<Bus>, address: u64, write: bool) -> Reached<u64> {
    let access = if write { Access::write(STREAM, address) } else { Access::read(STREAM, address) };
    match model.translate(access) {
        Ok(translation) => Ok(translation.pa),
        Err(refusal) => Err(refusal.reason),
    }
}

/// A space with one device on one SMMU.
pub struct Rig {
    pub world: Arc<World>,
    pub iommu: Iommu<Kernel>,
    pub smmu: Smmu<Kernel>,
    pub master: Master<Kernel>,
    pub space: DmaSpace<Kernel>,
}

impl Rig {
    pub fn new(config: DmaConfig) -> Self {
        Self::with(config, 2, Adversary::NONE)
    }

    pub fn with(config: DmaConfig, cpus: usize, adversary: Adversary) -> Self {
        run_on(0);
        let world = World::new(cpus, adversary);
        let iommu = Iommu::new(Kernel(world.clone()), Config::default()).unwrap();
        let mut instance = InstanceConfig::named("smmu");
        instance.sid_bits = 4;
        // Where threads hold each other up, time passes for no reason.
        instance.deadline = Duration::from_micros(if cpus > 2 { 1_000_000 } else { 200 });
        let probe = iommu.probe(Registers(world.clone()), instance).unwrap();
        let smmu = probe.enable().unwrap();
        let master = iommu.add_master(&smmu, &[StreamId(STREAM)], MasterConfig::default()).unwrap();
        let space = DmaSpace::new(&iommu, config).unwrap();
        space.attach(&master).unwrap();
        Self { world, iommu, smmu, master, space }
    }

    pub fn map(&self, area: &Area, direction: Direction) -> Iova {
        // SAFETY: tests leave areas alone while devices have them, but where that is what they are about.
        unsafe { self.space.map(area.pointer, direction) }.unwrap()
    }

    pub fn unmap(&self, iova: Iova, area: &Area, direction: Direction) {
        // SAFETY: as above.
        unsafe { self.space.unmap(iova, area.pointer, direction) }.unwrap();
    }

    /// Unmaps without waiting, and has it given back after a flush; how many of those were not confirmed.
    pub fn give_back(&self, iova: Iova, area: &Area, direction: Direction) -> usize {
        let mut unconfirmed = 0;
        // SAFETY: nobody uses it before it is given back.
        let later = unsafe { self.space.unmap_later(iova, area.pointer, direction) }.unwrap();
        // SAFETY: as above.
        while !unsafe { self.space.regain(later, area.pointer, direction) } {
            if self.space.flush().is_err() {
                unconfirmed += 1;
                std::thread::yield_now();
            }
        }
        unconfirmed
    }

    /// Closes everything. Nothing stays allocated but what the SMMU itself has.
    pub fn close(self) {
        self.close_and(drop);
    }

    /// The same, with what there is to be had of the closed space.
    pub fn close_and(self, then: impl FnOnce(Closed<Kernel>)) {
        self.space.detach(&self.master).unwrap();
        then(self.space.close().unwrap());
        assert!(self.master.close().is_ok());
        assert!(self.iommu.remove(self.smmu).is_ok());
        drop(self.iommu);
        assert_eq!(self.world.live(), 0, "leaked");
    }
}

/// A deferred space.
pub fn deferred() -> DmaConfig {
    // SAFETY: devices do what tests tell them. Where they break their word, only memory of the test's world is touched,
    // and only while nobody uses it.
    unsafe { DmaConfig::deferred() }
}

/// Bytes that differ from place to place.
pub fn pattern(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| seed.wrapping_add(at as u8).wrapping_mul(31) ^ (at >> 8) as u8 | 1).collect()
}

/// Commands that the driver has given are left undone from now on, or not.
pub fn wedge(world: &World, wedged: bool) {
    world.model().wedge_after(wedged.then_some(0));
}

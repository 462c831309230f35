// SPDX-License-Identifier: MIT OR Apache-2.0
//! Surroundings for many domains: memory that is used when it is touched, SMMUs that carry out every command at
//! once, and counters of what they were told.

use std::collections::HashMap;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smmuv3::{Frames, Mmio, PhysAddr, Platform};
use smmuv3_formats::Opcode;
use smmuv3_formats::register::{CmdqCons, CmdqProd};
use smmuv3_model::{Adversary, Model, Observation, Profile};

use crate::caches::SmmuMemory;
use crate::lab::cost::Work;
use crate::platform::SpinMutex;
use crate::ram::{Ram, RamError};

/// Where memory begins.
const BASE: u64 = 0x8000_0000;
/// Nanoseconds that pass whenever the driver looks at the clock.
const TICK: u64 = 1000;

/// A touch of a command queue's indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// CMDQ_PROD of the instance was written.
    Told(usize),
    /// CMDQ_CONS of the instance was read.
    Looked(usize),
}

/// What the SMMUs of a machine were told.
#[derive(Debug)]
pub struct Counters {
    /// By opcode.
    commands: [AtomicU64; 256],
    all: AtomicU64,
    stores: AtomicU64,
    /// The first thing that should not have happened.
    trouble: Mutex<Option<String>>,
    touches: Mutex<Option<Vec<Touch>>>,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            commands: std::array::from_fn(|_| AtomicU64::new(0)),
            all: AtomicU64::new(0),
            stores: AtomicU64::new(0),
            trouble: Mutex::new(None),
            touches: Mutex::new(None),
        }
    }
}

impl Counters {
    /// Commands of this kind so far.
    pub fn of(&self, opcode: Opcode) -> u64 {
        self.commands[usize::from(opcode as u8)].load(Ordering::Relaxed)
    }

    /// Commands so far, by opcode.
    pub fn commands(&self) -> [u64; 256] {
        std::array::from_fn(|code| self.commands[code].load(Ordering::Relaxed))
    }

    /// All that was done so far.
    pub fn work(&self) -> Work {
        Work {
            commands: self.all.load(Ordering::Relaxed),
            syncs: self.of(Opcode::Sync),
            stores: self.stores.load(Ordering::Relaxed),
        }
    }

    /// What an SMMU complained about, if any did.
    pub fn trouble(&self) -> Option<String> {
        locked(&self.trouble).clone()
    }

    /// Keeps the order in which command queues are touched, from now on.
    pub fn watch(&self) {
        *locked(&self.touches) = Some(Vec::new());
    }

    /// The touches since [`Counters::watch`], which ends.
    pub fn touches(&self) -> Vec<Touch> {
        locked(&self.touches).take().unwrap_or_default()
    }

    fn touch(&self, touch: Touch) {
        if let Some(touches) = &mut *locked(&self.touches) {
            touches.push(touch);
        }
    }

    fn note(&self, instance: usize, observation: &Observation) {
        match observation {
            Observation::Command { command, .. } => {
                let code = command.0[0] as u8;
                self.commands[usize::from(code)].fetch_add(1, Ordering::Relaxed);
                self.all.fetch_add(1, Ordering::Relaxed);
            }
            Observation::Applied { .. } | Observation::SyncCompleted { .. } => {}
            other => {
                let mut trouble = locked(&self.trouble);
                trouble.get_or_insert_with(|| format!("smmu{instance}: {other:?}"));
            }
        }
    }
}

/// Whatever a panicking holder did to a list or a number, it is one.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The driver's platform: memory, a clock, and the CPU's ASIDs.
pub struct LabPlatform {
    ram: Ram,
    pool: Mutex<Pool>,
    clock: AtomicU64,
    counters: Arc<Counters>,
    /// Of each process, by its cookie.
    asids: Vec<u16>,
}

/// Memory that is free.
struct Pool {
    /// Never used from here on, and zero.
    next: u64,
    /// What was given back, by size and alignment.
    spare: HashMap<(usize, usize), Vec<u64>>,
    live: u64,
}

impl LabPlatform {
    /// A machine with room for `bytes` of memory; `asids` are those that the processes with cookies 0, 1, … have on the
    /// CPUs.
    ///
    /// # Errors
    /// [`RamError`]: the operating system does not give so much address space.
    pub fn new(bytes: usize, asids: Vec<u16>) -> Result<Self, RamError> {
        let ram = Ram::heap(BASE, bytes.next_multiple_of(Ram::PAGE).max(Ram::PAGE))?;
        Ok(Self {
            ram,
            pool: Mutex::new(Pool { next: BASE, spare: HashMap::new(), live: 0 }),
            clock: AtomicU64::new(0),
            counters: Arc::default(),
            asids,
        })
    }

    /// What its SMMUs were told.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Bytes that the driver has.
    pub fn live(&self) -> u64 {
        locked(&self.pool).live
    }

    /// The registers of a new SMMU: number `instance`, as `profile` says, but obedient and quick.
    pub fn smmu(&self, instance: usize, profile: Profile) -> Registers {
        let profile = profile.eager(true).adversary(Adversary::NONE);
        let memory = SmmuMemory::new(self.ram.clone(), None);
        Registers {
            instance,
            model: Mutex::new(Model::new(profile, memory, instance as u64)),
            counters: self.counters.clone(),
        }
    }

    fn take(&self, size: usize, align: usize) -> Option<PhysAddr> {
        let mut pool = locked(&self.pool);
        if let Some(at) = pool.spare.get_mut(&(size, align)).and_then(Vec::pop) {
            for word in (at..at + size as u64).step_by(8) {
                // Inside: it was handed out before.
                self.ram.write64(word, 0)?;
            }
            pool.live += size as u64;
            return Some(PhysAddr(at));
        }
        let size = size.next_multiple_of(8);
        let at = pool.next.next_multiple_of(align.max(8) as u64);
        if !self.ram.contains(at, size) {
            return None;
        }
        pool.next = at + size as u64;
        pool.live += size as u64;
        Some(PhysAddr(at))
    }

    fn give(&self, memory: PhysAddr, size: usize, align: usize) {
        let mut pool = locked(&self.pool);
        pool.live = pool.live.saturating_sub(size as u64);
        pool.spare.entry((size, align)).or_default().push(memory.0);
    }
}

impl Drop for LabPlatform {
    fn drop(&mut self) {
        // Instances that are not taken down keep referring to it.
        self.ram.discard();
    }
}

// SAFETY: ranges of RAM that stays mapped as long as anybody refers to it, disjoint until they are given back, and
// zero: fresh from the operating system, or cleared when they are used again. RAM is accessed atomically only.
unsafe impl Frames for LabPlatform {
    fn allocate(&self, size: usize, align: usize) -> Option<PhysAddr> {
        self.take(size, align)
    }

    unsafe fn free(&self, frame: PhysAddr, size: usize, align: usize) {
        self.give(frame, size, align);
    }

    fn pointer(&self, pa: PhysAddr) -> NonNull<u8> {
        self.ram.pointer(pa.0).unwrap_or_else(|| panic!("{pa} is not RAM"))
    }

    fn publish(&self, _pa: PhysAddr, _bytes: usize) {
        self.counters.stores.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: as above; everything is coherent, and there are no interrupts.
unsafe impl Platform for LabPlatform {
    type Mmio = Registers;
    type Mutex = SpinMutex;

    fn allocate_coherent(&self, size: usize, align: usize) -> Option<PhysAddr> {
        self.take(size, align)
    }

    unsafe fn free_coherent(&self, memory: PhysAddr, size: usize, align: usize) {
        self.give(memory, size, align);
    }

    fn mask_irqs<R>(&self, critical: impl FnOnce() -> R) -> R {
        critical()
    }

    fn pin_asid(&self, process: u64) -> Option<u16> {
        self.asids.get(usize::try_from(process).ok()?).copied()
    }

    fn relax(&self) {}

    fn now(&self) -> u64 {
        self.clock.fetch_add(TICK, Ordering::Relaxed)
    }
}

/// The registers of one SMMU.
pub struct Registers {
    instance: usize,
    model: Mutex<Model<SmmuMemory>>,
    counters: Arc<Counters>,
}

impl Registers {
    /// Lets `access` at the model, and counts what came of it.
    fn with<T>(&self, access: impl FnOnce(&mut Model<SmmuMemory>) -> T) -> T {
        let mut model = locked(&self.model);
        let result = access(&mut model);
        for observation in model.observations() {
            self.counters.note(self.instance, &observation);
        }
        result
    }
}

impl Mmio for Registers {
    fn read32(&self, offset: u32) -> u32 {
        if offset == CmdqCons::OFFSET {
            self.counters.touch(Touch::Looked(self.instance));
        }
        self.with(|model| model.read32(offset))
    }

    fn write32(&self, offset: u32, value: u32) {
        if offset == CmdqProd::OFFSET {
            self.counters.touch(Touch::Told(self.instance));
        }
        self.with(|model| model.write32(offset, value));
    }

    fn write64(&self, offset: u32, value: u64) {
        self.with(|model| model.write64(offset, value));
    }
}

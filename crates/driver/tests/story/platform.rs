// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the driver runs on here: memory, SMMUs that are models, and a clock that goes on when it is looked at.

use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use smmuv3::{Frames, Mmio, PhysAddr, Platform, SpinMutex};
use smmuv3_model::{Abort, Memory, Model, Profile, Reference};

/// Where memory begins: tables and what only CPUs look at first, then what is coherent everywhere.
const BASE: u64 = 0x8000_0000;
const HALF: u64 = 2 << 20;
/// Bytes of a chunk, and the largest alignment that there is.
const CHUNK: usize = 1 << 16;
/// What is behind caches before anything was published: a descriptor of a table.
const LEFT_BEHIND: u64 = BASE | 3;
/// Nanoseconds that pass with each look at the clock, and each turn of hardware.
const TICK: u64 = 1_000;
/// Instead of how many commands or allocations go well before one does not: all do, and one has not.
const NEVER: u64 = u64::MAX - 1;
const HAPPENED: u64 = u64::MAX;

/// A part of memory, aligned as its physical address is.
#[repr(align(65536))]
struct Chunk([AtomicU64; CHUNK / 8]);

fn chunks(bytes: u64, fill: u64) -> Vec<Chunk> {
    let chunk = |_| Chunk(std::array::from_fn(|_| AtomicU64::new(fill)));
    (0..bytes as usize / CHUNK).map(chunk).collect()
}

/// Memory, as CPUs and SMMUs see it.
pub struct Ram {
    words: Vec<Chunk>,
    /// What SMMUs that do not look into caches see of the first half: only what was published. It begins as anything.
    behind_caches: Option<Vec<Chunk>>,
}

impl Ram {
    fn slot(chunks: &[Chunk], pa: u64) -> Result<&AtomicU64, Abort> {
        let offset =
            pa.checked_sub(BASE).filter(|_| pa.is_multiple_of(8)).ok_or(Abort { pa })? as usize;
        let chunk = chunks.get(offset / CHUNK).ok_or(Abort { pa })?;
        Ok(&chunk.0[offset % CHUNK / 8])
    }

    /// The word that an SMMU reads and writes.
    fn seen(&self, pa: u64) -> Result<&AtomicU64, Abort> {
        match &self.behind_caches {
            Some(behind) if pa < BASE + HALF => Self::slot(behind, pa),
            _ => Self::slot(&self.words, pa),
        }
    }
}

impl Memory for Ram {
    fn read64(&self, pa: u64) -> Result<u64, Abort> {
        Ok(self.seen(pa)?.load(Ordering::Acquire))
    }

    fn write64(&self, pa: u64, value: u64) -> Result<(), Abort> {
        self.seen(pa)?.store(value, Ordering::Release);
        Ok(())
    }

    fn read(&self, pa: u64, buffer: &mut [u8]) -> Result<(), Abort> {
        for (at, byte) in (pa..=u64::MAX).zip(buffer) {
            *byte = (self.read64(at & !7)? >> (8 * (at & 7))) as u8;
        }
        Ok(())
    }

    /// Devices reach no memory here that is not made up; events are written in words.
    fn write(&self, pa: u64, bytes: &[u8]) -> Result<(), Abort> {
        for (at, byte) in (pa..=u64::MAX).zip(bytes) {
            let (word, shift) = (self.seen(at & !7)?, 8 * (at & 7));
            let change = |old: u64| Some(old & !(0xff << shift) | u64::from(*byte) << shift);
            // The closure never declines, so the update cannot fail.
            let _ = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, change);
        }
        Ok(())
    }
}

/// What is handed out of one half.
struct Half {
    next: u64,
    end: u64,
    /// Given back, by size and alignment.
    spare: BTreeMap<(usize, usize), Vec<u64>>,
}

impl Half {
    fn new(first: u64) -> Self {
        Self { next: first, end: first + HALF, spare: BTreeMap::new() }
    }

    fn take(&mut self, size: usize, align: usize) -> Option<u64> {
        assert!(align.is_power_of_two() && align <= CHUNK && size > 0, "{size:#x}, {align:#x}");
        if let Some(spare) = self.spare.get_mut(&(size, align)).and_then(Vec::pop) {
            return Some(spare);
        }
        // Whole words each, so that who zeroes one leaves its neighbours alone.
        let start = self.next.next_multiple_of(align.max(8) as u64);
        let end = start + (size as u64).next_multiple_of(8);
        (end <= self.end).then(|| {
            self.next = end;
            start
        })
    }
}

/// The allocator: two halves, and what is out.
struct Supply {
    frames: Half,
    coherent: Half,
    live: BTreeMap<u64, (usize, usize)>,
    /// Allocations until one fails.
    until_failure: u64,
}

/// An SMMU.
pub type Hardware = Model<Arc<Ram>>;

struct Inside {
    ram: Arc<Ram>,
    supply: Mutex<Supply>,
    smmus: Vec<Arc<Mutex<Hardware>>>,
    /// Commands until one is refused.
    refuse_at: AtomicU64,
    clock: AtomicU64,
    masked: AtomicU32,
}

/// A machine: the driver's platform. Clones are the same one.
#[derive(Clone)]
pub struct Machine(Arc<Inside>);

/// Nothing is left half done where one of these is locked, also if a test ends there.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Machine {
    /// With SMMUs of these kinds, the habits of which come from `seed`.
    pub fn new(profiles: &[Profile], seed: u64) -> Self {
        let coherent = profiles.iter().all(|profile| profile.idr0.cohacc());
        let behind_caches = (!coherent).then(|| chunks(HALF, LEFT_BEHIND));
        let ram = Arc::new(Ram { words: chunks(2 * HALF, 0), behind_caches });
        let smmus = (seed..).zip(profiles).map(|(seed, profile)| {
            assert_eq!(profile.contradictions(), Vec::<&str>::new());
            Arc::new(Mutex::new(Model::new(profile.clone(), ram.clone(), seed)))
        });
        let inside = Inside {
            ram: ram.clone(),
            supply: Mutex::new(Supply {
                frames: Half::new(BASE),
                coherent: Half::new(BASE + HALF),
                live: BTreeMap::new(),
                until_failure: NEVER,
            }),
            smmus: smmus.collect(),
            refuse_at: AtomicU64::new(NEVER),
            clock: AtomicU64::new(0),
            masked: AtomicU32::new(0),
        };
        Self(Arc::new(inside))
    }

    fn smmus(&self) -> &[Arc<Mutex<Hardware>>] {
        &self.0.smmus
    }

    /// How many SMMUs it has.
    pub fn count(&self) -> usize {
        self.smmus().len()
    }

    /// The model of an SMMU.
    pub fn smmu(&self, index: usize) -> MutexGuard<'_, Hardware> {
        lock(&self.smmus()[index])
    }

    /// Memory.
    #[cfg(feature = "hand-over")]
    pub fn ram(&self) -> &Ram {
        &self.0.ram
    }

    /// Its registers.
    pub fn registers(&self, index: usize) -> Registers {
        Registers { machine: self.clone(), smmu: self.smmus()[index].clone() }
    }

    /// Bytes of memory, in parts that are handed out.
    pub fn live(&self) -> usize {
        lock(&self.0.supply).live.values().map(|(size, _)| size).sum()
    }

    /// After `count` more allocations one fails; `None`: none does. Whether one has, since this was last asked for.
    pub fn fail_allocation(&self, count: Option<u64>) -> bool {
        let supply = &mut *lock(&self.0.supply);
        std::mem::replace(&mut supply.until_failure, count.unwrap_or(NEVER)) == HAPPENED
    }

    /// The SMMU that comes to it first refuses the command after `count` more as illegal; `None`: none does. Whether one
    /// has, since this was last asked for.
    pub fn refuse_command(&self, count: Option<u64>) -> bool {
        self.0.refuse_at.swap(count.unwrap_or(NEVER), Ordering::Relaxed) == HAPPENED
    }

    /// Hardware goes on for a little.
    fn act(&self) {
        self.smmus().iter().for_each(|smmu| lock(smmu).act());
    }

    /// Hardware goes on with what it is told, and time with it.
    pub fn turn(&self) {
        self.0.clock.fetch_add(TICK, Ordering::Relaxed);
        for smmu in self.smmus() {
            let mut smmu = lock(smmu);
            smmu.act();
            let left = self.0.refuse_at.load(Ordering::Relaxed);
            if left == 0 && smmu.waiting_commands() != 0 {
                smmu.fail_next_command(1);
                self.0.refuse_at.store(HAPPENED, Ordering::Relaxed);
            }
            let consumed = smmu.run(1) as u64;
            if left < NEVER {
                self.0.refuse_at.fetch_sub(consumed.min(left), Ordering::Relaxed);
            }
        }
    }

    fn take(&self, coherent: bool, size: usize, align: usize) -> Option<PhysAddr> {
        let supply = &mut *lock(&self.0.supply);
        match supply.until_failure {
            0 => {
                supply.until_failure = HAPPENED;
                return None;
            }
            NEVER | HAPPENED => {}
            _ => supply.until_failure -= 1,
        }
        let half = if coherent { &mut supply.coherent } else { &mut supply.frames };
        let pa = half.take(size, align)?;
        supply.live.insert(pa, (size, align));
        for word in (pa..pa + size as u64).step_by(8) {
            let zeroed =
                Ram::slot(&self.0.ram.words, word).map(|word| word.store(0, Ordering::Relaxed));
            zeroed.ok()?;
        }
        Some(PhysAddr(pa))
    }

    fn give(&self, coherent: bool, pa: u64, size: usize, align: usize) {
        if std::thread::panicking() {
            // Whatever is wrong was told of.
            return;
        }
        // What hardware still reads may not become somebody else's (rule R3).
        for smmu in self.smmus() {
            let smmu = lock(smmu);
            // What caches hold of tables is forgotten before it translates again. Queues work without that.
            let counts = |reference: &Reference| {
                let is_queue = matches!(reference, Reference::CommandQueue | Reference::EventQueue);
                is_queue || smmu.may_translate()
            };
            let reference = smmu.references(pa, size as u64).filter(counts);
            assert!(reference.is_none(), "{pa:#x} is freed, and is in use: {reference:?}");
        }
        let supply = &mut *lock(&self.0.supply);
        assert_eq!(
            supply.live.remove(&pa),
            Some((size, align)),
            "{pa:#x} is given back as it was taken"
        );
        let half = if coherent { &mut supply.coherent } else { &mut supply.frames };
        half.spare.entry((size, align)).or_default().push(pa);
    }
}

// SAFETY: parts of one vector, which lives as long as this and never moves, handed out once until they are given back, and
// zeroed before. They are words with interior mutability, used atomically by all others. Its chunks are aligned to 64 KiB as
// BASE is, and no allocation is aligned to more.
unsafe impl Frames for Machine {
    fn allocate(&self, size: usize, align: usize) -> Option<PhysAddr> {
        self.take(false, size, align)
    }

    unsafe fn free(&self, frame: PhysAddr, size: usize, align: usize) {
        self.give(false, frame.0, size, align);
    }

    fn pointer(&self, pa: PhysAddr) -> NonNull<u8> {
        let words = NonNull::from(self.0.ram.words.as_slice()).cast::<u8>();
        let offset = pa.0 - BASE;
        assert!(offset < 2 * HALF, "{pa:?} is not memory");
        // SAFETY: inside of the vector, whose elements have no bytes between them.
        unsafe { words.add(offset as usize) }
    }

    fn publish(&self, pa: PhysAddr, bytes: usize) {
        if self.0.ram.behind_caches.is_some() && pa.0 < BASE + HALF {
            for word in (pa.0 & !7..pa.0 + bytes as u64).step_by(8) {
                let from = Ram::slot(&self.0.ram.words, word);
                if let (Ok(from), Ok(to)) = (from, self.0.ram.seen(word)) {
                    to.store(from.load(Ordering::Relaxed), Ordering::Release);
                }
            }
        }
        // What was stored is seen word by word.
        self.act();
    }
}

// SAFETY: as above; SMMUs see the second half as CPUs do. There are no interrupts.
unsafe impl Platform for Machine {
    type Mmio = Registers;
    type Mutex = SpinMutex;

    fn allocate_coherent(&self, size: usize, align: usize) -> Option<PhysAddr> {
        assert_eq!(self.0.masked.load(Ordering::Relaxed), 0, "it may sleep");
        self.take(true, size, align)
    }

    unsafe fn free_coherent(&self, memory: PhysAddr, size: usize, align: usize) {
        self.give(true, memory.0, size, align);
    }

    fn mask_irqs<R>(&self, critical: impl FnOnce() -> R) -> R {
        self.0.masked.fetch_add(1, Ordering::Relaxed);
        let result = critical();
        self.0.masked.fetch_sub(1, Ordering::Relaxed);
        result
    }

    fn relax(&self) {
        assert_eq!(self.0.masked.load(Ordering::Relaxed), 0, "nobody waits with interrupts masked");
        self.turn();
    }

    fn now(&self) -> u64 {
        self.0.clock.fetch_add(TICK, Ordering::Relaxed)
    }
}

/// The registers of an SMMU.
pub struct Registers {
    machine: Machine,
    smmu: Arc<Mutex<Hardware>>,
}

impl Mmio for Registers {
    fn read32(&self, offset: u32) -> u32 {
        let value = lock(&self.smmu).read32(offset);
        self.machine.act();
        value
    }

    fn write32(&self, offset: u32, value: u32) {
        lock(&self.smmu).write32(offset, value);
        self.machine.act();
    }

    fn write64(&self, offset: u32, value: u64) {
        lock(&self.smmu).write64(offset, value);
        self.machine.act();
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! All CPUs map, unmap and invalidate in two domains at once, for some seconds, while devices do DMA in both.
//!
//! Each CPU has input addresses and memory of its own in both. Disks read into memory that is mapped for each read. Where
//! there is an `iommu-testdev`, it writes to what was just mapped, and again once it is unmapped: that must arrive, this
//! must be refused and reported.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::error::Error;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use smmuv3::formats::EventId;
use smmuv3::{Attributes, Domain, DomainConfig, Iova, Master, Prot, StreamId};
use spin::Mutex;

use super::{Bench, disk, events_of};
use crate::buffer::Buffer;
use crate::nvme::{self, Nvme};
use crate::platform::Kernel;
use crate::testdev::{self, Testdev};
use crate::verdict::Outcome;
use crate::{cpu, ensure, heap, time};

const PAGE: u64 = 4096;
/// What one descriptor of the second-last level maps, and the size of each CPU's memory.
const BLOCK: u64 = 2 << 20;

// Input addresses, in both domains.
const RINGS: u64 = 0x1000_0000;
const DISK: u64 = 0x2000_0000;
const CPUS: u64 = 0x10_0000_0000;
/// Of each CPU: blocks at random in so many.
const SLOTS: u64 = 64;

/// Bytes of a disk's read.
const READ: u64 = 64 << 10;
/// Rounds of mapping between two reads of a disk.
const READS: u64 = 16;
/// Rounds between two accesses of a testdev.
const TEST: u64 = 64;
/// Rounds after which tables that became empty are freed.
const RECLAIM: u64 = 256;

/// A domain, with what does DMA in it.
struct Side {
    domain: Domain<Kernel>,
    disk: Option<(Mutex<Option<Nvme>>, Master<Kernel>)>,
    testdev: Option<(Testdev, StreamId, Master<Kernel>)>,
}

/// What was done.
#[derive(Default)]
struct Counts {
    mapped: AtomicU64,
    pages: AtomicU64,
    reclaimed: AtomicU64,
    read: AtomicU64,
    arrived: AtomicU64,
    refused: AtomicU64,
}

struct Stress<'a> {
    bench: &'a Bench,
    sides: [Side; 2],
    counts: Counts,
    /// One testdev is used at a time, so that reports are known to be its.
    testing: Mutex<()>,
    /// Somebody failed, and said why.
    failed: AtomicBool,
    why: Mutex<Option<String>>,
}

/// Numbers that look random, the same for each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

/// Stresses for `seconds`.
pub fn run(bench: &Bench, seconds: u64) -> Outcome {
    // Tables of a bus's streams stay.
    for master in bench.pci.devices.iter().filter_map(|device| bench.master(device).ok()) {
        master.close()?;
    }
    let before = heap::FRAMES.usage().used;
    let iommu = bench.smmus.iommu();
    let mut sides = Vec::new();
    let mut disks = bench.pci.find_class(nvme::CLASS);
    // The last first: where there are two SMMUs, both domains are then behind both.
    let testdevs: Vec<_> = bench.pci.find(testdev::ID.0, testdev::ID.1).collect();
    let mut testdevs = testdevs.into_iter().rev();
    for _ in 0..2 {
        let domain = iommu.create_domain(DomainConfig::default())?;
        let mut side = Side { domain, disk: None, testdev: None };
        if let Some(device) = disks.next() {
            let master = bench.master(device)?;
            let rings = Buffer::new(nvme::RINGS);
            disk::map(&side.domain, RINGS, &rings)?;
            iommu.attach(&master, &side.domain)?;
            let disk = Nvme::new(device, rings, RINGS)?;
            side.disk = Some((Mutex::new(Some(disk)), master));
        }
        if let Some(device) = testdevs.next() {
            let master = bench.master(device)?;
            iommu.attach(&master, &side.domain)?;
            side.testdev = Some((Testdev::new(device), bench.stream(device)?, master));
        }
        sides.push(side);
    }
    let sides = <[Side; 2]>::try_from(sides).map_err(|_| "there are two")?;
    let dma = sides.iter().filter(|side| side.disk.is_some() || side.testdev.is_some()).count();
    ensure!(dma > 0, "no device does DMA");
    let (counts, testing) = (Counts::default(), Mutex::new(()));
    let (failed, why) = (AtomicBool::new(false), Mutex::new(None));
    let stress = Stress { bench, sides, counts, testing, failed, why };

    let end = time::now() + seconds * 1_000_000_000;
    cpu::on_all(&|cpu| {
        if let Err(error) = stress.work(cpu, end) {
            stress.failed.store(true, Ordering::Relaxed);
            stress.why.lock().get_or_insert_with(|| format!("CPU {cpu}: {error}"));
        }
    });
    let Stress { sides, counts, why, .. } = stress;
    if let Some(why) = why.into_inner() {
        return Err(why.into());
    }
    for side in sides {
        side.end(bench)?;
    }
    let after = heap::FRAMES.usage().used;
    ensure!(after == before, "{} KiB of frames are gone", after.abs_diff(before) >> 10);
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    ensure!(count(&counts.mapped) > 0 && count(&counts.read) > 0, "nothing was done");
    let looked = if bench.pci.find(testdev::ID.0, testdev::ID.1).next().is_some() {
        let (arrived, refused) = (count(&counts.arrived), count(&counts.refused));
        ensure!(arrived > 0 && refused > 0, "{arrived} writes arrived, {refused} were refused");
        format!("{arrived} writes arrived, {refused} refused and reported")
    } else {
        String::from("without a testdev, so nobody looked at what was unmapped")
    };
    Ok(format!(
        "{} CPUs, 2 domains, {seconds} s: {} maps and unmaps of {} MiB, {} tables freed, {} MiB read by disks, \
         {looked}",
        cpu::online(),
        count(&counts.mapped),
        count(&counts.pages) >> 8,
        count(&counts.reclaimed),
        count(&counts.read) >> 20,
    ))
}

impl Stress<'_> {
    /// What each CPU does.
    fn work(&self, cpu: usize, end: u64) -> Result<(), Box<dyn Error>> {
        let own = Buffer::new(BLOCK as usize);
        let data = Buffer::new(READ as usize);
        let mut dice = Dice(0x5eed + cpu as u64);
        let mut round = 0;
        while time::now() < end && !self.failed.load(Ordering::Relaxed) {
            for (index, side) in self.sides.iter().enumerate() {
                if index % cpu::online() == cpu && round % READS == 0 {
                    self.read(side, &data, &mut dice)?;
                }
                self.map_and_unmap(side, cpu, &own, round, &mut dice)?;
            }
            round += 1;
        }
        Ok(())
    }

    /// Maps a piece of the CPU's memory, and takes it away.
    fn map_and_unmap(
        &self,
        side: &Side,
        cpu: usize,
        own: &Buffer,
        round: u64,
        dice: &mut Dice,
    ) -> Result<(), Box<dyn Error>> {
        let base = CPUS + cpu as u64 * SLOTS * BLOCK;
        let slot = base + dice.below(SLOTS) * BLOCK;
        // A page, some, or a whole block.
        let (first, pages) = match dice.below(8) {
            0 => (0, BLOCK / PAGE),
            1..4 => (dice.below(448), 1 + dice.below(64)),
            _ => (dice.below(512), 1),
        };
        let (iova, len) = (Iova(slot + first * PAGE), pages * PAGE);
        let pa = smmuv3::PhysAddr(own.address().0 + first * PAGE);
        let both = Attributes::normal(Prot::READ | Prot::WRITE);
        // SAFETY: the memory outlives the mapping; the addresses are this CPU's.
        unsafe { side.domain.map(iova, pa, len, both)? };
        // If it is free: who waits for it keeps others from working.
        let testing = (round % TEST == TEST - 1).then(|| self.testing.try_lock()).flatten();
        if testing.is_some() {
            self.arrives(side, iova, pa)?;
        }
        // SAFETY: as above.
        let gone = unsafe { side.domain.unmap(iova, len)? };
        ensure!(gone == len, "{gone} of {len} bytes were unmapped");
        if testing.is_some() {
            let word = ((pa.0 - own.address().0) / 8) as usize;
            self.is_refused(side, iova, own, word)?;
        }
        drop(testing);
        self.counts.mapped.fetch_add(1, Ordering::Relaxed);
        self.counts.pages.fetch_add(pages, Ordering::Relaxed);
        if round % RECLAIM == RECLAIM - 1 {
            // SAFETY: all of it is this CPU's, and nothing is mapped there now.
            let freed = unsafe { side.domain.reclaim(Iova(base), SLOTS * BLOCK)? };
            self.counts.reclaimed.fetch_add(freed, Ordering::Relaxed);
        }
        Ok(())
    }

    /// A write to what is mapped arrives, and fills the SMMU's caches.
    fn arrives(&self, side: &Side, iova: Iova, pa: smmuv3::PhysAddr) -> Result<(), String> {
        let Some((testdev, ..)) = &side.testdev else { return Ok(()) };
        // The device looks whether the memory has it.
        let told = testdev.write(iova.0, 64, pa.0);
        ensure!(told == testdev::WRITTEN, "a write to {iova} ended with {told:#x}");
        self.counts.arrived.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// A write to what is unmapped is refused, changes nothing, and is reported.
    fn is_refused(&self, side: &Side, iova: Iova, own: &Buffer, word: usize) -> Result<(), String> {
        let Some((testdev, stream, _)) = &side.testdev else { return Ok(()) };
        own.write(word, 0);
        let told = testdev.write(iova.0, 4, own.address().0);
        ensure!(told == testdev::REFUSED, "a write to unmapped {iova} ended with {told:#x}");
        ensure!(own.read(word) == 0, "a write to unmapped {iova} arrived");
        let (reports, _) = self.bench.faults.take(1);
        let events = events_of(*stream, &reports)?;
        let [event] = events[..] else {
            return Err(format!("{} events of one write", events.len()));
        };
        let right = event.event() == Some(EventId::FTranslation) && event.input_addr() == iova.0;
        ensure!(right, "a write to unmapped {iova} was reported as {event}");
        self.counts.refused.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// A disk reads a piece of itself into memory that is mapped for that.
    fn read(&self, side: &Side, data: &Buffer, dice: &mut Dice) -> Result<(), Box<dyn Error>> {
        let Some((disk, _)) = &side.disk else { return Ok(()) };
        let mut disk = disk.lock();
        let Some(disk) = disk.as_mut() else { return Ok(()) };
        let (blocks, size) = disk.blocks;
        let piece = dice.below(blocks * size / READ);
        let iova = DISK + dice.below(SLOTS) * READ;
        data.fill(0);
        disk::map(&side.domain, iova, data)?;
        disk.read(piece * READ / size, iova, READ)?;
        // SAFETY: nobody else uses these addresses.
        unsafe { side.domain.unmap(Iova(iova), READ)? };
        let wrong = data.differences_from(disk::SEED, (piece * READ / 8) as usize);
        ensure!(wrong == 0, "{wrong} words of a read are wrong");
        self.counts.read.fetch_add(READ, Ordering::Relaxed);
        Ok(())
    }
}

impl Side {
    /// Detaches everything, and ends the domain.
    fn end(self, bench: &Bench) -> Result<(), Box<dyn Error>> {
        let iommu = bench.smmus.iommu();
        let Self { domain, disk, testdev } = self;
        if let Some((disk, master)) = disk {
            let rings = disk.into_inner().map(Nvme::close).transpose()?;
            iommu.detach(&master)?;
            // SAFETY: nobody else uses the domain any more.
            unsafe { domain.unmap(Iova(RINGS), nvme::RINGS as u64)? };
            drop(rings);
            master.close()?;
        }
        if let Some((_, _, master)) = testdev {
            iommu.detach(&master)?;
            master.close()?;
        }
        domain.close()?;
        Ok(())
    }
}

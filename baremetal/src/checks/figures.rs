// SPDX-License-Identifier: MIT OR Apache-2.0
//! What calls of the driver cost in instructions, and what it takes in memory: `count=1`, on one CPU.
//!
//! Each is an average of a few rounds, after some that are not counted. A line is a name, a figure, and its unit. They are
//! functions of their own, so that what one of them keeps in registers is not in the way of another.

use alloc::collections::VecDeque;
use core::ptr::{NonNull, with_exposed_provenance_mut};

use smmuv3::formats::Command;
use smmuv3::formats::command::TlbiNhVa;
use smmuv3::{Attributes, DomainConfig, Interrupt, Iova, PhysAddr, Prot, Smmu};
use smmuv3_dma::{Direction, DmaConfig, Lazy, Reclaim};

use super::Bench;
use crate::buffer::Buffer;
use crate::counter::{Counter, average, figure};
use crate::edu::{self, Edu};
use crate::platform::Kernel;
use crate::verdict::{Outcome, Report};
use crate::{bring_up, cpu, ensure, heap, memory};

const ROUNDS: u64 = 64;
/// Entries of a space's flush queue, by default.
const QUEUE: u64 = 256;
/// A space that waits for a flush before memory is used again, and copies nothing.
const LATER: &str = "given back";
/// A transfer of edu takes a while.
const FAULTS: u64 = 4;

const PAGE: u64 = 4096;
const IOVA: u64 = 0x12_4000_0000;
/// Never mapped.
const NOWHERE: u64 = 0x12_8000_0000;

/// Counts, and prints the figures.
pub fn run(report: &mut Report, bench: &Bench) {
    let Some(counter) = Counter::start() else {
        report.note("counter", Err("this CPU does not count instructions".into()));
        return;
    };
    memory_use(bench);
    report.note("queue", queue(counter, bench));
    report.note("domain", domain(counter, bench));
    report.note("space", space(counter, bench));
    report.note("pool", pool(counter, bench));
    report.note("fault", fault(counter, bench));
}

/// What is in use once an SMMU is, without the room that this kernel has for reports; and the image.
fn memory_use(bench: &Bench) {
    let image = memory::image();
    figure(format_args!("image, with data and one stack"), image.len() as f64, "bytes");
    let used = heap::usage().used - bench.faults.room();
    figure(format_args!("heap, one SMMU in use"), used as f64, "bytes");
    let frames = heap::FRAMES.usage().used;
    figure(format_args!("frames, one SMMU in use"), frames as f64, "bytes");
}

/// The first SMMU.
fn first(bench: &Bench) -> Result<&Smmu<Kernel>, &'static str> {
    let (_, _, smmu) = bench.smmus.smmus().next().ok_or("no SMMU")?;
    Ok(smmu)
}

#[inline(never)]
fn queue(counter: Counter, bench: &Bench) -> Outcome {
    let iommu = bench.smmus.iommu();
    let smmu = first(bench)?;
    // SAFETY: it is given invalidations alone, with the platform that it has.
    let instance = unsafe { smmu.instance() };
    for count in [1, 64u64] {
        let command = |page| TlbiNhVa::new().with_asid(5).with_leaf(true).with_addr(page * PAGE);
        let all: alloc::vec::Vec<Command> = (0..count).map(|page| command(page).into()).collect();
        ensure!(instance.commands().largest_batch() >= all.len(), "the queue is too small");
        let [taken] = average(ROUNDS, |_| {
            let all = core::hint::black_box(all.iter().copied());
            let (taken, result) = counter.count(|| instance.carry_out(iommu.platform(), all));
            result?;
            Ok([taken])
        })?;
        figure(format_args!("command queue: {count} TLBI + SYNC"), taken, "instructions");
    }
    Ok("by CONS, without interrupts".into())
}

#[inline(never)]
fn domain(counter: Counter, bench: &Bench) -> Outcome {
    let iommu = bench.smmus.iommu();
    let device = bench.pci.find(edu::ID.0, edu::ID.1).next().ok_or("no edu")?;
    let before = (heap::usage().used, heap::FRAMES.usage().used);
    let master = bench.master(device)?;
    let domain = iommu.create_domain(DomainConfig::default())?;
    let [attach, detach] = average(ROUNDS, |_| {
        let (attach, result) = counter.count(|| iommu.attach(&master, &domain));
        result?;
        let (detach, result) = counter.count(|| iommu.detach(&master));
        result?;
        Ok([attach, detach])
    })?;
    iommu.attach(&master, &domain)?;
    figure(format_args!("attach"), attach, "instructions");
    figure(format_args!("detach"), detach, "instructions");
    let after = (heap::usage().used, heap::FRAMES.usage().used);
    let (on_heap, in_frames) = (after.0 - before.0, after.1 - before.1);
    figure(format_args!("heap, a master in a domain of its own"), on_heap as f64, "bytes");
    figure(format_args!("frames, a master in a domain of its own"), in_frames as f64, "bytes");

    // A page beyond a large boundary, so that no block fits.
    let buffer = Buffer::new(1 << 20);
    let start = PhysAddr(buffer.address().0 + PAGE);
    let both = Attributes::normal(Prot::READ | Prot::WRITE);
    for pages in [1, 16, 64] {
        let len = core::hint::black_box(pages * PAGE);
        let [map, unmap] = average(ROUNDS, |_| {
            // SAFETY: the buffer stays until it is unmapped, and nobody else uses the domain.
            let (map, result) =
                counter.count(|| unsafe { domain.map(Iova(IOVA), start, len, both) });
            result?;
            // SAFETY: nobody else uses the domain.
            let (unmap, result) = counter.count(|| unsafe { domain.unmap(Iova(IOVA), len) });
            ensure!(result? == len, "not all was mapped");
            Ok([map, unmap])
        })?;
        let s = if pages == 1 { "" } else { "s" };
        figure(format_args!("domain: map of {pages} page{s}"), map, "instructions");
        figure(format_args!("domain: unmap + SYNC of {pages} page{s}"), unmap, "instructions");
        let both = map + unmap;
        figure(format_args!("domain: map + unmap + SYNC of {pages} page{s}"), both, "instructions");
    }
    iommu.detach(&master)?;
    master.close()?;
    domain.close()?;
    Ok("one SMMU, one master".into())
}

/// Buffers lent to a device and taken back, by a space.
#[inline(never)]
fn space(counter: Counter, bench: &Bench) -> Outcome {
    let device = bench.pci.find(edu::ID.0, edu::ID.1).next().ok_or("no edu")?;
    let memory = Buffer::new(64 * PAGE as usize);
    let start = NonNull::new(with_exposed_provenance_mut(memory.address().0 as usize));
    let start: NonNull<u8> = start.ok_or("a buffer at 0")?;
    // SAFETY: edu does nothing unless it is told to, and here it is not.
    let deferred = unsafe { DmaConfig::deferred() };
    let all = [
        ("strict", DmaConfig::strict()),
        ("lazy", DmaConfig::lazy()),
        (LATER, not_copied()),
        ("deferred", deferred),
    ];
    for (how, config) in all {
        // What waits, oldest first, as a pool has it.
        let mut waiting = VecDeque::with_capacity(2 * QUEUE as usize);
        let (master, space) = bring_up::connect(&bench.smmus, device.name(), config)?;
        for (what, bytes) in [("512 bytes", 512), ("1 page", PAGE), ("64 pages", 64 * PAGE)] {
            let buffer =
                NonNull::slice_from_raw_parts(start, core::hint::black_box(bytes as usize));
            let direction = Direction::FromDevice;
            let mut once = |_| {
                // SAFETY: the memory is there until it is out of reach, and nobody uses it meanwhile.
                let (map, iova) = counter.count(|| unsafe { space.map(buffer, direction) });
                let iova = iova?;
                if how != LATER {
                    // SAFETY: it was mapped just now, for the same direction.
                    let (unmap, result) =
                        counter.count(|| unsafe { space.unmap(iova, buffer, direction) });
                    result?;
                    return Ok([map, unmap]);
                }
                // SAFETY: as above. Nobody uses it but edu, for which it is mapped again and again.
                let (unmap, later) =
                    counter.count(|| unsafe { space.unmap_later(iova, buffer, direction) });
                waiting.push_back(later?);
                // And one is had from it, as soon as there is one.
                let first = *waiting.front().ok_or("it was put there")?;
                let (look, is_over) = counter.count(|| space.is_out_of_reach(&first));
                if is_over {
                    waiting.pop_front();
                }
                ensure!(waiting.len() <= QUEUE as usize + 1, "it is not given back");
                Ok([map, unmap + look])
            };
            // Until flush queues are full for the first time, which takes other addresses, and other bounce pages, each
            // time, and tables for those.
            average(QUEUE, &mut once)?;
            // So many that flushes, each of which serves many buffers, have their share.
            let [map, unmap] = average(16 * ROUNDS, &mut once)?;
            figure(format_args!("space, {how}: map of {what}"), map, "instructions");
            figure(format_args!("space, {how}: unmap of {what}"), unmap, "instructions");
            figure(
                format_args!("space, {how}: map + unmap of {what}"),
                map + unmap,
                "instructions",
            );
        }
        bring_up::disconnect(master, space)?;
    }
    // What is copied of the page above where it is lazy: in before, and out afterwards.
    let buffer = Buffer::new(PAGE as usize);
    let other = NonNull::new(with_exposed_provenance_mut(buffer.address().0 as usize));
    let other: NonNull<u8> = other.ok_or("a buffer at 0")?;
    let len = core::hint::black_box(PAGE as usize);
    let [copied] = average(ROUNDS, |_| {
        let (taken, ()) = counter.count(|| {
            // SAFETY: both are memory of so many bytes, and apart.
            unsafe { other.copy_from_nonoverlapping(start, len) };
            // Or the compiler finds that the other way back changes nothing.
            let other = core::hint::black_box(other);
            // SAFETY: as above.
            unsafe { start.copy_from_nonoverlapping(other, len) };
        });
        Ok([taken])
    })?;
    figure(format_args!("copying of 1 page, there and back"), copied, "instructions");
    Ok("from the device to memory".into())
}

/// Lazy, but that nothing is copied.
fn not_copied() -> DmaConfig {
    DmaConfig::default().with_reclaim(Reclaim::Lazy(Lazy::default().with_copy_up_to(0)))
}

/// A page of memory that stays.
struct Page(NonNull<u8>);

// SAFETY: whoever makes one gives it a page of memory of its own, for as long as it is used.
unsafe impl smmuv3_dma::Buffer for Page {
    fn memory(&mut self) -> NonNull<[u8]> {
        NonNull::slice_from_raw_parts(self.0, PAGE as usize)
    }
}

/// The same with buffers that have owners, a pool of them.
#[inline(never)]
#[expect(clippy::result_large_err, reason = "what is refused is handed back, and nothing is here")]
fn pool(counter: Counter, bench: &Bench) -> Outcome {
    let device = bench.pci.find(edu::ID.0, edu::ID.1).next().ok_or("no edu")?;
    let (master, space) = bring_up::connect(&bench.smmus, device.name(), not_copied())?;
    // As many as wait, and some.
    let pages = QUEUE + 8;
    let memory = Buffer::new((pages * PAGE) as usize);
    let page = |nth| {
        let address = memory.address().0 + nth * PAGE;
        NonNull::new(with_exposed_provenance_mut(address as usize)).map(Page)
    };
    let mut free: VecDeque<Page> = (0..pages).filter_map(page).collect();
    let mut waiting = VecDeque::with_capacity(pages as usize);
    let mut once = |_| {
        let page = free.pop_front().ok_or("none was given back")?;
        let (lend, lent) = counter.count(|| space.lend(page, Direction::FromDevice));
        let lent = lent.map_err(|refused| refused.error)?;
        let (retire, retiring) = counter.count(|| space.retire(lent));
        waiting.push_back(retiring?);
        let first = waiting.pop_front().ok_or("it was put there")?;
        let (recover, recovered) = counter.count(|| space.recover(first));
        match recovered {
            Ok(page) => free.push_back(page),
            Err(first) => waiting.push_front(first),
        }
        Ok([lend + retire + recover])
    };
    average(QUEUE, &mut once)?;
    let [taken] = average(16 * ROUNDS, &mut once)?;
    figure(
        format_args!("space, {LATER}: lend + retire + recover of 1 page"),
        taken,
        "instructions",
    );
    space.flush()?;
    while let Some(retiring) = waiting.pop_front() {
        ensure!(space.recover(retiring).is_ok(), "it is not given back");
    }
    bring_up::disconnect(master, space)?;
    Ok("a page at a time".into())
}

/// From the call of the handler until the event is known.
#[inline(never)]
fn fault(counter: Counter, bench: &Bench) -> Outcome {
    let iommu = bench.smmus.iommu();
    let smmu = first(bench)?;
    let device = bench.pci.find(edu::ID.0, edu::ID.1).next().ok_or("no edu")?;
    let (master, domain) = (bench.master(device)?, iommu.create_domain(DomainConfig::default())?);
    iommu.attach(&master, &domain)?;
    let edu = Edu::new(device);
    let [taken] = average(FAULTS, |_| {
        // The interrupt waits until its event has been taken.
        cpu::mask_irqs(|| {
            edu.write(NOWHERE, 4)?;
            let mut events = 0;
            let (taken, more) = counter.count(|| {
                iommu.handle_interrupt(smmu, Interrupt::Events, 64, &mut |_| events += 1)
            });
            ensure!(events == 1 && !more, "{events} events");
            Ok([taken])
        })
    })?;
    figure(format_args!("fault: an event delivered"), taken, "instructions");
    iommu.detach(&master)?;
    master.close()?;
    domain.close()?;
    Ok("one event at a time".into())
}

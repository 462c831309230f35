// SPDX-License-Identifier: MIT OR Apache-2.0
//! What calls of the driver cost, in instructions (INST_RETIRED): `count=1`, under `-icount` and on one CPU, where the
//! figures are exact and the same each time.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::arch::asm;
use core::error::Error;
use core::hint::black_box;

use smmuv3::{Attributes, DomainConfig, Interrupt, Iova, Prot};
use smmuv3_dma::{Direction, DmaConfig};
use smmuv3_formats::Command;
use smmuv3_formats::command::TlbiNhVa;

use super::Bench;
use crate::buffer::Buffer;
use crate::edu;
use crate::testdev::{self, Testdev};
use crate::verdict::Outcome;
use crate::{bring_up, cpu, ensure, heap, memory, println};

const PAGE: u64 = 4096;
const IOVA: u64 = 0x12_4000_0000;

/// How often each call is made, after a few that are not counted.
const ROUNDS: u64 = 1000;
const FIRST: u64 = 20;

/// Counts everything.
pub fn run(bench: &Bench) -> Outcome {
    start();
    let nothing = count(|| Ok(()))?;
    ensure!(
        nothing > 0 && nothing < 20 * ROUNDS,
        "{nothing} instructions for nothing: no -icount?"
    );
    println!();
    println!("instructions  call");
    queue(bench)?;
    domain(bench)?;
    attach(bench)?;
    faults(bench)?;
    spaces(bench)?;
    println!();
    let image = memory::image();
    println!("{:>8} KiB  image, with its stack", image.len() >> 10);
    println!("{:>8} KiB  of heap", heap::usage().used >> 10);
    println!("{:>8} KiB  of frames", heap::FRAMES.usage().used >> 10);
    Ok("INST_RETIRED, the mean of 1000 calls each".into())
}

/// Has counter 0 count instructions.
fn start() {
    const INST_RETIRED: u64 = 0x08;
    // SAFETY: the performance monitor is nobody else's.
    unsafe {
        asm!(
            "msr pmevtyper0_el0, {event}",
            "mrs {tmp}, pmcr_el0",
            "orr {tmp}, {tmp}, #1",
            "msr pmcr_el0, {tmp}",
            "mov {tmp}, #1",
            "msr pmcntenset_el0, {tmp}",
            "isb",
            event = in(reg) INST_RETIRED,
            tmp = out(reg) _,
            options(nostack),
        );
    }
}

fn instructions() -> u32 {
    let count: u64;
    // SAFETY: a register is read.
    unsafe { asm!("isb", "mrs {}, pmevcntr0_el0", out(reg) count, options(nostack)) };
    // 32 bits count.
    count as u32
}

/// Instructions of [`ROUNDS`] calls, without interrupts.
fn count(mut call: impl FnMut() -> Result<(), Box<dyn Error>>) -> Result<u64, Box<dyn Error>> {
    cpu::mask_irqs(|| {
        for _ in 0..FIRST {
            call()?;
        }
        let before = instructions();
        for _ in 0..ROUNDS {
            call()?;
        }
        Ok(u64::from(instructions().wrapping_sub(before)))
    })
}

/// Counts a call and prints it.
fn line(
    name: &str,
    call: impl FnMut() -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let total = count(call)?;
    println!("{:>10}.{}  {name}", total / ROUNDS, total % ROUNDS * 10 / ROUNDS);
    Ok(())
}

fn queue(bench: &Bench) -> Result<(), Box<dyn Error>> {
    let (_, _, smmu) = bench.smmus.smmus().next().ok_or("no SMMU")?;
    let (instance, platform) = (smmu.instance().ok_or("no SMMU")?, bench.smmus.iommu().platform());
    for (number, name) in
        [(1, "command queue: 1 TLBI + SYNC"), (64, "command queue: 64 TLBI + SYNC, ready-made")]
    {
        let command =
            |page| TlbiNhVa::new().with_asid(5).with_leaf(true).with_addr(IOVA + page * PAGE);
        let commands: Vec<Command> = (0..number).map(|page| command(page).into()).collect();
        line(name, || Ok(instance.carry_out(platform, black_box(&commands).iter().copied())?))?;
    }
    Ok(())
}

fn domain(bench: &Bench) -> Result<(), Box<dyn Error>> {
    let iommu = bench.smmus.iommu();
    let device = bench.pci.find(edu::ID.0, edu::ID.1).next().ok_or("no edu")?;
    let (master, domain) = (bench.master(device)?, iommu.create_domain(DomainConfig::default())?);
    iommu.attach(&master, &domain)?;
    let buffer = Buffer::new(64 * PAGE as usize);
    let both = Attributes::normal(Prot::READ | Prot::WRITE);
    for (pages, name) in [
        (1, "domain: map + unmap + SYNC of 1 page"),
        (16, "domain: map + unmap + SYNC of 16 pages"),
        (64, "domain: map + unmap + SYNC of 64 pages"),
    ] {
        let len = black_box(pages * PAGE);
        line(name, || {
            // SAFETY: the buffer outlives the mapping, and nobody else uses the domain.
            unsafe {
                domain.map(Iova(IOVA), buffer.address(), len, both)?;
                domain.unmap(Iova(IOVA), len)?;
            }
            Ok(())
        })?;
    }
    iommu.detach(&master)?;
    master.close().map_err(|_| "the master does not close")?;
    domain.close().map_err(|_| "the domain does not close")?;
    Ok(())
}

fn attach(bench: &Bench) -> Result<(), Box<dyn Error>> {
    let iommu = bench.smmus.iommu();
    let device = bench.pci.find(edu::ID.0, edu::ID.1).next().ok_or("no edu")?;
    let (master, domain) = (bench.master(device)?, iommu.create_domain(DomainConfig::default())?);
    line("attach + detach of a master", || {
        iommu.attach(&master, &domain)?;
        iommu.detach(&master)?;
        Ok(())
    })?;
    master.close().map_err(|_| "the master does not close")?;
    domain.close().map_err(|_| "the domain does not close")?;
    Ok(())
}

/// An event, from the queue to whoever handles it. Its cause is not counted.
fn faults(bench: &Bench) -> Result<(), Box<dyn Error>> {
    let iommu = bench.smmus.iommu();
    let Some(device) = bench.pci.find(testdev::ID.0, testdev::ID.1).next() else {
        return Ok(());
    };
    let (testdev, master) = (Testdev::new(device), bench.master(device)?);
    let domain = iommu.create_domain(DomainConfig::default())?;
    iommu.attach(&master, &domain)?;
    let (_, _, smmu) = bench.smmus.smmus().next().ok_or("no SMMU")?;
    for (bytes, name) in [(4, "fault delivery: 1 event"), (128, "fault delivery: 32 events")] {
        let (mut total, mut events) = (0, 0);
        cpu::mask_irqs(|| {
            for _ in 0..ROUNDS {
                testdev.write(IOVA, bytes, 0);
                let before = instructions();
                while iommu.handle_interrupt(smmu, Interrupt::Events, 64, &mut |_| events += 1) {}
                total += u64::from(instructions().wrapping_sub(before));
            }
        });
        ensure!(events == ROUNDS * u64::from(bytes) / 4, "{events} events");
        println!("{:>10}.{}  {name}", total / ROUNDS, total % ROUNDS * 10 / ROUNDS);
    }
    iommu.detach(&master)?;
    master.close().map_err(|_| "the master does not close")?;
    domain.close().map_err(|_| "the domain does not close")?;
    // The interrupts that they raised find nothing any more.
    bench.faults.take(0);
    Ok(())
}

fn spaces(bench: &Bench) -> Result<(), Box<dyn Error>> {
    let device = bench.pci.find(edu::ID.0, edu::ID.1).next().ok_or("no edu")?;
    for (config, kind) in [(DmaConfig::strict(), "strict"), (DmaConfig::lazy(), "lazy")] {
        let (master, space) = bring_up::connect(&bench.smmus, device.name(), config)?;
        // Whole pages, a part of one, and so many that lazy ones are not copied either.
        for bytes in [1500, 4096, 65536] {
            let mut buffer = Some(vec![0u8; bytes].into_boxed_slice());
            let name = alloc::format!("DMA space, {kind}: lend + take back of {bytes} bytes");
            line(&name, || {
                let Some(owned) = buffer.take() else { return Ok(()) };
                let lent = space.lend(owned, Direction::ToDevice).map_err(|(_, error)| error)?;
                buffer = Some(space.take_back(lent).map_err(|(_, error)| error)?);
                Ok(())
            })?;
        }
        bring_up::disconnect(master, space)?;
    }
    Ok(())
}

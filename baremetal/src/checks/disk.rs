// SPDX-License-Identifier: MIT OR Apache-2.0
//! A disk reads into memory that is mapped for each read, and taken away after it.

use alloc::boxed::Box;
use alloc::{format, vec};
use core::error::Error;

use smmuv3::{Attributes, Domain, DomainConfig, Iova, Master, Prot};

use smmuv3_dma::{DmaConfig, Translated};
use virtio_drivers::device::blk::{SECTOR_SIZE as SECTOR, VirtIOBlk};
use virtio_drivers::device::rng::VirtIORng;

use super::Bench;
use crate::buffer::{self, Buffer};
use crate::nvme::{self, Nvme};
use crate::pci::Device;
use crate::platform::Kernel;
use crate::verdict::{Outcome, Report};
use crate::virtio;
use crate::{bring_up, ensure, heap, time};

/// What the disk's pattern is known by.
pub const SEED: u64 = 0xd15c;

/// Where the disk finds its rings, and its reads.
const RINGS: u64 = 0x8000_0000;
const DATA: u64 = 0x1_0000_0000;

pub fn run(report: &mut Report, bench: &Bench) {
    for disk in bench.pci.find_class(nvme::CLASS) {
        report.note("nvme", nvme(bench, disk));
    }
    let alone = |device, check: fn(&Bench, &Device) -> Outcome| {
        // The table of its bus's streams stays.
        bench.master(device)?.close()?;
        heap::as_before(|| check(bench, device))
    };
    for disk in bench.pci.find(virtio::VENDOR, virtio::BLOCK) {
        report.note("virtio blk", alone(disk, virtio_block));
    }
    for source in bench.pci.find(virtio::VENDOR, virtio::ENTROPY) {
        report.note("virtio rng", alone(source, virtio_entropy));
    }
}

/// Maps `buffer` for a device to read and write.
pub fn map(domain: &Domain<Kernel>, iova: u64, buffer: &Buffer) -> Result<(), smmuv3::MapError> {
    let both = Attributes::normal(Prot::READ | Prot::WRITE);
    // SAFETY: the callers keep the buffer until they have unmapped it, and nobody else uses the domain.
    unsafe { domain.map(Iova(iova), buffer.address(), buffer.bytes(), both) }
}

/// Reads the whole disk.
fn nvme(bench: &Bench, device: &Device) -> Outcome {
    let iommu = bench.smmus.iommu();
    let (master, domain) = (bench.master(device)?, iommu.create_domain(DomainConfig::default())?);
    let rings = Buffer::new(nvme::RINGS);
    map(&domain, RINGS, &rings)?;
    iommu.attach(&master, &domain)?;
    let mut disk = Nvme::new(device, rings, RINGS)?;
    let (blocks, size) = disk.blocks;
    let bytes = blocks * size;
    ensure!(bytes > 0 && bytes.is_multiple_of(nvme::LARGEST), "a disk of {bytes} bytes");

    let buffer = Buffer::new(nvme::LARGEST as usize);
    let (begun, mut wrong) = (time::now(), 0);
    for offset in (0..bytes).step_by(nvme::LARGEST as usize) {
        buffer.fill(0);
        map(&domain, DATA, &buffer)?;
        disk.read(offset / size, DATA, nvme::LARGEST)?;
        // SAFETY: nobody else uses the domain.
        unsafe { domain.unmap(Iova(DATA), nvme::LARGEST)? };
        wrong += buffer.differences_from(SEED, offset as usize / 8);
    }
    let took = (time::now() - begun) / 1_000_000;
    ensure!(wrong == 0, "{wrong} words of {} are wrong", bytes / 8);

    // Into nowhere: QEMU's disk says that all is well, but the memory is as it was, and the SMMU has told.
    buffer.fill(1);
    disk.read(0, DATA, size)?;
    let (reports, interrupts) = bench.faults.take(size as usize / 4);
    ensure!(
        interrupts > 0 && !reports.is_empty(),
        "a read to where nothing is mapped was not reported"
    );
    ensure!(buffer.differences(1) == 0, "memory was written after it was unmapped");

    let rings = disk.close()?;
    iommu.detach(&master)?;
    // SAFETY: nobody else uses the domain.
    unsafe { domain.unmap(Iova(RINGS), rings.bytes())? };
    master.close()?;
    domain.close()?;
    Ok(format!(
        "{} MiB read in pieces of {} KiB as they are on {device}, {took} ms; then {} events",
        bytes >> 20,
        nvme::LARGEST >> 10,
        reports.len(),
    ))
}

/// The crate's errors do not say that they are errors.
fn of_virtio(error: virtio_drivers::Error) -> Box<dyn Error> {
    format!("virtio: {error}").into()
}

/// Reads the whole disk, twice: what is unmapped is gone at once, and later.
fn virtio_block(bench: &Bench, device: &Device) -> Outcome {
    let strict = read_by_virtio::<0>(bench, device, DmaConfig::strict())?;
    let lazy = read_by_virtio::<1>(bench, device, DmaConfig::lazy())?;
    Ok(format!(
        "{} MiB read as they are on {device}: strict {strict} ms, lazy {lazy} ms",
        VIRTIO >> 20
    ))
}

/// Bytes to read.
const VIRTIO: usize = 16 << 20;
/// Bytes of each read, by turns: a few, some that are copied where unmapping is lazy, more.
const PIECES: [usize; 4] = [512, 4096, 12288, 131072 - 12288 - 4096 - 512];

/// The milliseconds that it took.
fn read_by_virtio<const N: usize>(
    bench: &Bench,
    device: &Device,
    config: DmaConfig,
) -> Result<u64, Box<dyn Error>> {
    let (master, space) = bring_up::connect(&bench.smmus, device.name(), config)?;
    let space = virtio::Spaces::<N>::set(space);
    let transport = Translated::new(bench.pci.virtio::<virtio::Hal<N>>(device)?)?;
    let mut disk = VirtIOBlk::<virtio::Hal<N>, _>::new(transport).map_err(of_virtio)?;
    let bytes = disk.capacity() * SECTOR as u64;
    ensure!(bytes == VIRTIO as u64, "a disk of {bytes} bytes");
    let rings = space.usage().mapped_pages;

    // Not at the beginning of a page.
    let mut memory = vec![0; 64 + PIECES[3]];
    let (begun, mut offset, mut wrong) = (time::now(), 0, 0);
    for bytes in PIECES.iter().cycle() {
        if offset == VIRTIO {
            break;
        }
        let piece = &mut memory[64..][..*bytes];
        piece.fill(0);
        disk.read_blocks(offset / SECTOR, piece).map_err(of_virtio)?;
        let words = piece.chunks_exact(8).enumerate();
        let differs = |(index, found): &(usize, &[u8])| {
            **found != buffer::word(SEED, offset / 8 + index).to_le_bytes()
        };
        wrong += words.filter(differs).count();
        offset += bytes;
    }
    let took = (time::now() - begun) / 1_000_000;
    ensure!(wrong == 0, "{wrong} words of {} are wrong", VIRTIO / 8);
    let left = space.usage().mapped_pages;
    ensure!(left == rings, "{left} pages are mapped, and were {rings} before");
    // It gives its rings back.
    drop(disk);
    space.flush()?;
    let usage = space.usage();
    ensure!(usage.mapped_pages == 0, "mapped after all: {usage:?}");
    ensure!(usage.held == 0 && usage.lost_pages == 0, "kept from use: {usage:?}");
    drop(space);
    end::<N>(master)?;
    Ok(took)
}

/// Ends space `N`, over which there are no drivers any more.
fn end<const N: usize>(master: Master<Kernel>) -> Result<(), Box<dyn Error>> {
    let space = virtio::Spaces::<N>::take().ok_or("the space is in use")?;
    bring_up::disconnect(master, space)
}

/// Gets random numbers.
fn virtio_entropy(bench: &Bench, device: &Device) -> Outcome {
    let (master, space) = bring_up::connect(&bench.smmus, device.name(), DmaConfig::lazy())?;
    let space = virtio::Spaces::<2>::set(space);
    let transport = Translated::new(bench.pci.virtio::<virtio::Hal<2>>(device)?)?;
    let mut source = VirtIORng::<virtio::Hal<2>, _>::new(transport).map_err(of_virtio)?;
    let (mut total, mut ones) = (0, 0);
    for _ in 0..64 {
        let mut bytes = [0; 64];
        let got = source.request_entropy(&mut bytes).map_err(of_virtio)?;
        ensure!(got > 0 && got <= bytes.len(), "{got} bytes came");
        total += got;
        ones += bytes[..got].iter().map(|byte| byte.count_ones()).sum::<u32>();
    }
    drop(source);
    drop(space);
    end::<2>(master)?;
    let half = total as u32 * 4;
    ensure!(ones.abs_diff(half) < half / 4, "{ones} of {} bits are 1", total * 8);
    Ok(format!("{total} bytes from {device}, {ones} of {} bits are 1", total * 8))
}

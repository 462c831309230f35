// SPDX-License-Identifier: MIT OR Apache-2.0
//! A disk reads into memory that is mapped for each read, and taken away after it.

use alloc::format;

use smmuv3::{Attributes, Domain, DomainConfig, Iova, Prot};

use super::Bench;
use crate::buffer::Buffer;
use crate::nvme::{self, Nvme};
use crate::pci::Device;
use crate::platform::Kernel;
use crate::verdict::{Outcome, Report};
use crate::{ensure, time};

/// What the disk's pattern is known by.
pub const SEED: u64 = 0xd15c;

/// Where the disk finds its rings, and its reads.
const RINGS: u64 = 0x8000_0000;
const DATA: u64 = 0x1_0000_0000;

pub fn run(report: &mut Report, bench: &Bench) {
    for disk in bench.pci.find_class(nvme::CLASS) {
        report.note("nvme", nvme(bench, disk));
    }
}

/// Maps `buffer` for a device to read and write.
fn map(domain: &Domain<Kernel>, iova: u64, buffer: &Buffer) -> Result<(), smmuv3::MapError> {
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
    master.close().map_err(|_| "the master does not close")?;
    domain.close().map_err(|_| "the domain does not close")?;
    Ok(format!(
        "{} MiB read in pieces of {} KiB as they are on {device}, {took} ms; then {} events",
        bytes >> 20,
        nvme::LARGEST >> 10,
        reports.len(),
    ))
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! All CPUs at once.

use alloc::format;
use core::sync::atomic::{AtomicU64, Ordering};

use smmuv3::{Attributes, DomainConfig, Iova, Prot};

use super::Bench;
use crate::buffer::Buffer;
use crate::verdict::Outcome;
use crate::{cpu, edu, ensure, time};

/// How often each CPU maps and unmaps.
const ROUNDS: u64 = 2_000;

/// Bytes that each has to itself.
const SPAN: u64 = 1 << 21;

/// Every CPU maps and unmaps, in a domain that a device is attached to.
pub fn map_and_unmap(bench: &Bench) -> Outcome {
    let iommu = bench.smmus.iommu();
    let device = bench.pci.find(edu::ID.0, edu::ID.1).next().ok_or("no edu")?;
    let (master, domain) = (bench.master(device)?, iommu.create_domain(DomainConfig::default())?);
    iommu.attach(&master, &domain)?;
    let buffer = Buffer::new(1 << 14);
    let (done, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let begun = time::now();
    cpu::on_all(&|cpu| {
        let both = Attributes::normal(Prot::READ | Prot::WRITE);
        let base = cpu as u64 * SPAN;
        for round in 0..ROUNDS {
            let iova = Iova(base + (round % 64) * (1 << 14));
            // SAFETY: the buffer outlives the mapping; each CPU has a range to itself.
            let ok = unsafe {
                domain.map(iova, buffer.address(), buffer.bytes(), both).is_ok()
                    && domain.lookup(iova).is_some()
                    && domain.unmap(iova, buffer.bytes()) == Ok(buffer.bytes())
                    && domain.lookup(iova).is_none()
            };
            if ok { &done } else { &failed }.fetch_add(1, Ordering::Relaxed);
        }
    });
    let took = (time::now() - begun) / 1_000_000;
    let (done, failed, cpus) = (done.into_inner(), failed.into_inner(), cpu::online());
    ensure!(failed == 0, "{failed} of {} failed", done + failed);
    ensure!(done == ROUNDS * cpus as u64, "{done} were done");
    iommu.detach(&master)?;
    master.close()?;
    domain.close()?;
    Ok(format!("{cpus} CPUs mapped and unmapped 16 KiB {done} times in one domain, {took} ms"))
}

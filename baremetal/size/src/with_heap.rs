// SPDX-License-Identifier: MIT OR Apache-2.0
//! By `Iommu`: one device in a domain of its own.

use core::hint::black_box;

use smmuv3::{
    Attributes, Config, DomainConfig, InstanceConfig, Interrupt, Iommu, Iova, MasterConfig,
    PhysAddr, Prot, StreamId,
};

use crate::board::{Board, Registers};

/// Everything once. `None`: something went wrong.
pub fn everything() -> Option<()> {
    let iommu = Iommu::new(Board, Config::default()).ok()?;
    let probe = iommu.probe(Registers, InstanceConfig::named("smmu")).ok()?;
    let smmu = probe.enable().ok()?;
    let stream = StreamId(black_box(0x100));
    let master = iommu.add_master(&smmu, &[stream], MasterConfig::default()).ok()?;
    let domain = iommu.create_domain(DomainConfig::default()).ok()?;
    let (iova, pa, bytes) = black_box((Iova(0x1_0000), PhysAddr(0x8000_0000), 0x4000));
    let attributes = Attributes::normal(Prot::READ | Prot::WRITE);
    // SAFETY: nothing is run.
    unsafe { domain.map(iova, pa, bytes, attributes) }.ok()?;
    iommu.attach(&master, &domain).ok()?;
    let _ = iommu.handle_interrupt(&smmu, Interrupt::Any, 64, &mut |report| {
        black_box(&report);
    });
    // SAFETY: as above.
    unsafe { domain.unmap(iova, bytes) }.ok()?;
    iommu.detach(&master).ok()
}

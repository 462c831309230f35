// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is counted on many SMMUs.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::error::Error;

use smmuv3::{
    Attributes, Config, Domain, DomainConfig, InstanceConfig, Iommu, Iova, Master, MasterConfig,
    PhysAddr, Prot, Smmu, StreamId,
};

use crate::counter::{Counter, average, figure};
use crate::ensure;
use crate::machine::Machine;
use crate::platform::Kernel;
use crate::rig_smmu::{Memory, Rig};
use crate::verdict::{Outcome, Report};

#[path = "scaling.rs"]
pub mod scaling;

const ROUNDS: u64 = 64;
const PAGE: u64 = 4096;
const IOVA: u64 = 0x12_4000_0000;
/// A page beyond a large boundary, so that no block fits. Nobody accesses it.
const MEMORY: u64 = 0x20_0000_1000;

/// Counts, and prints the figures.
pub fn run(report: &mut Report, machine: &Machine) {
    let Some(counter) = Counter::start() else {
        report.note("counter", Err("this CPU does not count instructions".into()));
        return;
    };
    let rig = Rig(Kernel { cpus: machine.cpus.len() });
    report.note("instances", instances(counter, rig));
}

/// Some SMMUs in use, and a master behind each.
struct Bench {
    iommu: Iommu<Rig>,
    masters: Vec<Master<Rig>>,
    _smmus: Vec<Smmu<Rig>>,
}

impl Bench {
    /// So many SMMUs, and a master behind each.
    fn new(rig: Rig, count: usize) -> Result<Self, Box<dyn Error>> {
        Self::with_masters(rig, count, count)
    }

    /// So many SMMUs, and masters, which are behind one after the other of those.
    fn with_masters(rig: Rig, smmus: usize, masters: usize) -> Result<Self, Box<dyn Error>> {
        let iommu = Iommu::new(rig, Config::default())?;
        let mut all = Vec::new();
        for _ in 0..smmus {
            let mut config = InstanceConfig::named("smmu");
            config.sid_bits = 4;
            let registers = Memory::new().ok_or("no memory for registers")?;
            all.push(iommu.probe(registers, config)?.enable()?);
        }
        let mut made = Vec::new();
        // There are 16 streams behind each.
        for (stream, smmu) in (0..masters).zip(all.iter().cycle()) {
            let stream = StreamId(stream as u32 % 16);
            made.push(iommu.add_master(smmu, &[stream], MasterConfig::default())?);
        }
        Ok(Self { iommu, masters: made, _smmus: all })
    }

    fn domain(&self) -> Result<Domain<Rig>, Box<dyn Error>> {
        Ok(self.iommu.create_domain(DomainConfig::default())?)
    }
}

/// An unmap of a page of a domain that is used on so many SMMUs.
fn instances(counter: Counter, rig: Rig) -> Outcome {
    let both = Attributes::normal(Prot::READ | Prot::WRITE);
    for count in [1, 8, 64] {
        let bench = Bench::new(rig, count)?;
        let domain = bench.domain()?;
        for master in &bench.masters {
            bench.iommu.attach(master, &domain)?;
        }
        let len = core::hint::black_box(PAGE);
        let [taken] = average(ROUNDS, |_| {
            // SAFETY: no device is there that could access it, and nobody else uses the domain.
            unsafe { domain.map(Iova(IOVA), PhysAddr(MEMORY), len, both) }?;
            // SAFETY: as above.
            let (taken, result) = counter.count(|| unsafe { domain.unmap(Iova(IOVA), len) });
            ensure!(result? == len, "not all was mapped");
            Ok([taken])
        })?;
        let s = if count == 1 { "" } else { "s" };
        figure(
            format_args!("domain: unmap + SYNC of 1 page, {count} SMMU{s}"),
            taken,
            "instructions",
        );
    }
    Ok("registers in memory".into())
}

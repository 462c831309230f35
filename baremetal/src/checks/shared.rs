// SPDX-License-Identifier: MIT OR Apache-2.0
//! One domain behind two SMMUs: devices of both reach the same memory by the same addresses, and lose it together.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use smmuv3::formats::EventId;
use smmuv3::{Attributes, DomainConfig, Iova, Prot};

use super::{Bench, events_of};
use crate::buffer::Buffer;
use crate::edu::{self, Edu};
use crate::ensure;
use crate::verdict::Outcome;

const IN: u64 = 0x56_7800_0000;
const OUT: u64 = 0x56_7800_1000;
/// Bytes of a transfer that is to fail.
const FEW: u64 = 16;

/// Lets an edu of each of two SMMUs use one domain.
pub fn run(bench: &Bench) -> Outcome {
    let iommu = bench.smmus.iommu();
    let mut devices: Vec<_> = bench.pci.find(edu::ID.0, edu::ID.1).collect();
    let behind = |name| bench.smmus.topology().streams_of(name).map(|(instance, _)| instance).ok();
    devices.dedup_by_key(|device| behind(device.name()));
    let [first, second, ..] = devices[..] else {
        return Err("no two devices behind two SMMUs".into());
    };
    let domain = iommu.create_domain(DomainConfig::default())?;
    let masters = [bench.master(first)?, bench.master(second)?];
    let edus = [Edu::new(first), Edu::new(second)];
    let (source, target) = (Buffer::new(4096), Buffer::new(4096));
    let both = Attributes::normal(Prot::READ | Prot::WRITE);
    for master in &masters {
        iommu.attach(master, &domain)?;
    }
    // SAFETY: the buffers stay until they are unmapped; nobody else uses the domain.
    unsafe {
        domain.map(Iova(IN), source.address(), edu::BUFFER, both)?;
        domain.map(Iova(OUT), target.address(), edu::BUFFER, both)?;
    }
    let tags: Vec<String> = domain
        .targets()?
        .iter()
        .map(|target| format!("{} ASID {:#x}", target.instance, target.tag.asid))
        .collect();
    ensure!(tags.len() == 2, "the domain is on {tags:?}");
    for (seed, edu) in (8..).zip(&edus) {
        source.fill(seed);
        target.fill(0);
        edu.read(IN, edu::BUFFER)?;
        edu.write(OUT, edu::BUFFER)?;
        let wrong = target.differences(seed);
        ensure!(wrong == 0, "{wrong} words are wrong behind SMMU {}", seed - 8);
    }
    // SAFETY: as above.
    let gone = unsafe { domain.unmap(Iova(IN), 2 * edu::BUFFER)? };
    ensure!(gone == 2 * edu::BUFFER, "{gone} bytes were unmapped");
    target.fill(1);
    for (device, edu) in [first, second].into_iter().zip(&edus) {
        edu.write(OUT, FEW)?;
        let (reports, _) = bench.faults.take((FEW / 4) as usize);
        let events = events_of(bench.stream(device)?, &reports)?;
        ensure!(target.differences(1) == 0, "{device} wrote to memory that was unmapped");
        let right = events.iter().all(|event| event.event() == Some(EventId::FTranslation));
        ensure!(right && !events.is_empty(), "{device}: {events:?}");
    }
    for master in masters {
        iommu.detach(&master)?;
        master.close()?;
    }
    domain.close()?;
    Ok(format!("{first} and {second} in one domain ({}), and out of it together", tags.join(", ")))
}

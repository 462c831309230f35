// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver: its command queue, a domain on one SMMU, and what an idle domain takes.

use std::hint::black_box;

use smmuv3::instance::{Instance, Probed};
use smmuv3::{
    Attributes, Config, Domain, DomainConfig, InstanceConfig, Iommu, Iova, MasterConfig, PhysAddr,
    Prot, StreamId,
};
use smmuv3_formats::Command;
use smmuv3_formats::command::TlbiNhVa;

use crate::heap;
use crate::machine::{Host, Registers};
use crate::{Run, Workload};

const PAGE: u64 = 4096;
const IOVA: u64 = 0x12_4000_0000;
/// A page beyond a large boundary, so that no block fits.
const MEMORY: u64 = 0x20_0000_1000;
const ROUNDS: u64 = 2000;

pub(crate) fn workloads() -> Vec<Workload> {
    let whole = |name, prepare| Workload { name, units: 1, rounds: ROUNDS, prepare };
    vec![
        whole("command queue: 1 TLBI + SYNC", || ready_made(1)),
        whole("command queue: 64 TLBI + SYNC, ready-made", || ready_made(64)),
        whole("command queue: 64 TLBI + SYNC, made on the way", || made_on_the_way(64)),
        whole("domain: map + unmap + SYNC of 1 page", || domain(1)),
        whole("domain: map + unmap + SYNC of 16 pages", || domain(16)),
        whole("domain: map + unmap + SYNC of 64 pages", || domain(64)),
        whole("domain: unmap + SYNC of 1 page, 1 SMMU", || unmap_on(1)),
        whole("domain: unmap + SYNC of 1 page, 8 SMMUs", || unmap_on(8)),
        // Fewer, so that a run is short enough not to be interrupted as a rule.
        Workload {
            rounds: ROUNDS / 8,
            ..whole("domain: unmap + SYNC of 1 page, 64 SMMUs", || unmap_on(64))
        },
    ]
}

fn config() -> InstanceConfig {
    let mut config = InstanceConfig::named("smmu");
    config.sid_bits = 4;
    config
}

/// An SMMU in use, and its surroundings.
fn instance() -> (Host, Instance<Host>) {
    let host = Host::new(1 << 20);
    let probed = Probed::<Host>::new(Registers::new(), config()).expect("a usable SMMU");
    // SAFETY: both are kept together.
    let instance = unsafe { probed.enable(&host) };
    let instance = instance.expect("an SMMU that answers");
    (host, instance)
}

/// Gives the SMMU `commands` and a CMD_SYNC, and waits for them.
#[inline(always)]
fn round(
    instance: &Instance<Host>,
    host: &Host,
    commands: impl ExactSizeIterator<Item = Command> + Clone,
) {
    instance.carry_out(host, commands).expect("an SMMU that answers");
}

fn command(page: u64) -> Command {
    TlbiNhVa::new().with_asid(5).with_leaf(true).with_addr(IOVA + page * PAGE).into()
}

fn ready_made(count: u64) -> Run {
    let (host, instance) = instance();
    let commands: Vec<Command> = (0..count).map(command).collect();
    Box::new(move |rounds| {
        for _ in 0..rounds {
            round(&instance, &host, black_box(&commands).iter().copied());
        }
    })
}

fn made_on_the_way(count: u32) -> Run {
    let (host, instance) = instance();
    Box::new(move |rounds| {
        for _ in 0..rounds {
            round(&instance, &host, (0..black_box(count)).map(|page| command(page.into())));
        }
    })
}

fn iommu() -> Iommu<Host> {
    Iommu::new(Host::new(1 << 20), Config::default()).expect("there is memory")
}

#[inline(never)]
fn map_and_unmap(domain: &Domain<Host>, iova: u64, pa: u64, len: u64, attributes: Attributes) {
    // SAFETY: one thread, and memory that does not exist.
    unsafe { domain.map(Iova(iova), PhysAddr(pa), len, attributes) }.expect("nothing is there");
    // SAFETY: as above.
    let unmapped = unsafe { domain.unmap(Iova(iova), len) };
    assert_eq!(unmapped, Ok(len));
}

fn domain(pages: u64) -> Run {
    let iommu = iommu();
    let smmu = iommu.probe(Registers::new(), config()).expect("a usable SMMU");
    let smmu = smmu.enable().expect("an SMMU that answers");
    let master =
        iommu.add_master(&smmu, &[StreamId(1)], MasterConfig::default()).expect("a free stream");
    let domain = iommu.create_domain(DomainConfig::default()).expect("there is memory");
    iommu.attach(&master, &domain).expect("it fits");
    let attributes = Attributes::normal(Prot::READ | Prot::WRITE);
    map_and_unmap(&domain, IOVA, MEMORY, PAGE, attributes);
    Box::new(move |rounds| {
        // Kept alive as long as it is measured.
        let (_smmu, _master) = (&smmu, &master);
        let len = black_box(pages * PAGE);
        for _ in 0..rounds {
            map_and_unmap(&domain, IOVA, MEMORY, len, attributes);
        }
    })
}

/// Unmaps a page after the other, of a domain that is used on so many SMMUs.
fn unmap_on(smmus: u32) -> Run {
    let iommu = Iommu::new(Host::new(16 << 20), Config::default()).expect("there is memory");
    let domain = {
        let enable = |_| {
            let smmu = iommu.probe(Registers::new(), config()).expect("a usable SMMU");
            smmu.enable().expect("an SMMU that answers")
        };
        let smmus: Vec<_> = (0..smmus).map(enable).collect();
        let domain = iommu.create_domain(DomainConfig::default()).expect("there is memory");
        for smmu in &smmus {
            let master = iommu.add_master(smmu, &[StreamId(1)], MasterConfig::default());
            iommu.attach(&master.expect("a free stream"), &domain).expect("it fits");
        }
        domain
    };
    // As many as are unmapped, in tables that stay.
    let (pages, attributes) = (2 * ROUNDS, Attributes::normal(Prot::READ | Prot::WRITE));
    // SAFETY: one thread, and memory that does not exist.
    unsafe { domain.map(Iova(IOVA), PhysAddr(MEMORY), pages * PAGE, attributes) }
        .expect("nothing is there");
    Box::new(move |rounds| {
        let _iommu = &iommu;
        for page in 0..rounds {
            // SAFETY: one thread.
            let unmapped = unsafe { domain.unmap(Iova(IOVA + page * PAGE), black_box(PAGE)) };
            assert_eq!(unmapped, Ok(PAGE));
        }
    })
}

/// Bytes that a domain without mappings takes on the heap and in memory, beyond its first table.
pub fn idle_domain() -> usize {
    let iommu = iommu();
    // What the first domain of an `Iommu` takes once is not counted.
    let first = iommu.create_domain(DomainConfig::default()).expect("there is memory");
    let before = heap::live() + iommu.platform().live();
    let domain = iommu.create_domain(DomainConfig::default()).expect("there is memory");
    let bytes = heap::live() + iommu.platform().live() - before;
    drop((first, domain));
    bytes - PAGE as usize
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What things take: bytes on the heap, and of frames and coherent memory. Counted exactly, by the heap and the platform.

use smmuv3::{
    Attributes, Config, Domain, DomainConfig, InstanceConfig, Iommu, Iova, Master, MasterConfig,
    PhysAddr, Prot, Smmu, StreamId,
};

use crate::heap;
use crate::machine::{Host, Registers};

const PAGE: u64 = 4096;
const TABLE: u64 = 512 * PAGE;

/// What is shown of one thing.
pub struct Taken {
    /// What it is.
    pub name: &'static str,
    /// Bytes on the heap.
    pub heap: f64,
    /// Bytes of frames and coherent memory.
    pub memory: f64,
}

/// Everything that is in the table.
pub fn taken() -> Vec<Taken> {
    vec![
        mapped("a mapped page of 1 GiB", 1 << 18, PAGE),
        mapped("a mapped page alone in 2 MiB", 1 << 9, TABLE),
        mapped("a mapped page alone in 1 GiB", 1 << 7, 512 * TABLE),
        domain(),
        master("a master without PASIDs", 0),
        master("a master with 64 PASIDs", 6),
        master("a master with 1,048,576 PASIDs", 20),
        instance(),
    ]
}

struct Machine {
    iommu: Iommu<Host>,
    smmu: Smmu<Host>,
}

impl Machine {
    fn new(bytes: usize) -> Self {
        let iommu = Iommu::new(Host::new(bytes), Config::default()).expect("there is memory");
        let smmu = enable(&iommu, Registers::with_pasids());
        Self { iommu, smmu }
    }

    fn domain(&self) -> Domain<Host> {
        self.iommu.create_domain(DomainConfig::default()).expect("there is memory")
    }

    fn master(&self, stream: u32, bits: u32) -> Master<Host> {
        let mut config = MasterConfig::default();
        config.pasid_bits = bits;
        self.iommu.add_master(&self.smmu, &[StreamId(stream)], config).expect("a free stream")
    }
}

/// An SMMU of 16 StreamID bits, with all PASIDs.
fn enable(iommu: &Iommu<Host>, registers: Registers) -> Smmu<Host> {
    let mut config = InstanceConfig::named("smmu");
    config.sid_bits = 16;
    let probe = iommu.probe(registers, config).expect("a usable SMMU");
    probe.enable().expect("an SMMU that answers")
}

/// What `grow` adds, for each of `count`. It returns what is to be kept until that was looked at.
fn added<T>(
    name: &'static str,
    iommu: &Iommu<Host>,
    count: u64,
    grow: impl FnOnce() -> T,
) -> Taken {
    let now = || (heap::live(), iommu.platform().live());
    let before = now();
    let kept = grow();
    let after = now();
    drop(kept);
    let each = |before: usize, after: usize| (after - before) as f64 / count as f64;
    Taken { name, heap: each(before.0, after.0), memory: each(before.1, after.1) }
}

/// Pages of 4 KiB, `apart` bytes from one to the next, in a domain that has its first table only.
fn mapped(name: &'static str, pages: u64, apart: u64) -> Taken {
    let machine = Machine::new(16 << 20);
    let domain = machine.domain();
    added(name, &machine.iommu, pages, || {
        for page in 0..pages {
            // A page beyond a large boundary, so that no block fits.
            let (iova, pa) = (Iova(page * apart), PhysAddr(0x20_0000_1000 + page * apart));
            // SAFETY: one thread, and memory that does not exist.
            unsafe { domain.map(iova, pa, PAGE, Attributes::normal(Prot::READ)) }
                .expect("nothing is there");
        }
    })
}

fn domain() -> Taken {
    let machine = Machine::new(1 << 20);
    let _first = machine.domain();
    added("a domain, with its first table", &machine.iommu, 1, || machine.domain())
}

/// One that is attached, beside another on the same SMMU.
fn master(name: &'static str, bits: u32) -> Taken {
    let machine = Machine::new(1 << 20);
    let domain = machine.domain();
    let attached = |stream| {
        let master = machine.master(stream, bits);
        machine.iommu.attach(&master, &domain).expect("it fits");
        master
    };
    // Lists double when they grow: with four more they are as long as they are large.
    let _first: Vec<_> = (0..4).map(attached).collect();
    added(name, &machine.iommu, 4, || (4..8).map(attached).collect::<Vec<_>>())
}

fn instance() -> Taken {
    let machine = Machine::new(1 << 20);
    // Those are not the driver's.
    let registers = Registers::with_pasids();
    added("an SMMU in use", &machine.iommu, 1, || enable(&machine.iommu, registers))
}

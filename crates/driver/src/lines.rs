// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which lines of memory an unmap writes that another CPU's unmap writes as well: those of the command queue, and no others. Each goes
//! to and fro between CPUs that unmap at once, whatever it is that each of them writes there.
//!
//! The SMMU is a file of registers that has consumed whatever it is told of at once. What an unmap writes is recorded by the crate's
//! own atomics ([`crate::sync::plain`]), and by `publish` for descriptors; nothing is allocated or freed meanwhile. The CPUs take
//! turns: the way is that of most unmaps, which find nobody in their way.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::boxed::Box;
use std::collections::BTreeSet;
use std::string::String;
use std::vec::Vec;

use smmuv3_formats::register::{CmdqCons, CmdqProd};
use smmuv3_formats::register::{Cr0, Cr0Ack, Gbpa, Idr0, Idr1, Idr3, Idr5, IrqCtrl, IrqCtrlAck};
use smmuv3_formats::{Iova, PhysAddr, StreamId};

use crate::platform::{Frames, Mmio, Platform};
use crate::spin_mutex::SpinMutex;
use crate::sync::recorded;
use crate::{
    Attributes, Config, Domain, DomainConfig, InstanceConfig, Iommu, MasterConfig, Prot, Smmu,
};

const PAGE: u64 = 0x1000;

/// Registers, a word each.
struct Registers(Box<[AtomicU32]>);

impl Registers {
    fn new() -> Self {
        let words = (0..0x2_0000 / 4).map(|_| AtomicU32::new(0));
        let registers = Self(words.collect());
        // As QEMU's, without stage 2, and with addresses as wide as the process has.
        for (offset, value) in [
            (Idr0::OFFSET, 0x0d44_101a),
            (Idr1::OFFSET, 0x0273_0010),
            (Idr3::OFFSET, 0x0000_1414),
            (Idr5::OFFSET, 0x0000_0075),
        ] {
            registers.word(offset).store(value, Ordering::Relaxed);
        }
        registers
    }

    fn word(&self, offset: u32) -> &AtomicU32 {
        &self.0[offset as usize / 4]
    }
}

impl Mmio for Registers {
    fn read32(&self, offset: u32) -> u32 {
        let from = match offset {
            Cr0Ack::OFFSET => Cr0::OFFSET,
            IrqCtrlAck::OFFSET => IrqCtrl::OFFSET,
            CmdqCons::OFFSET => CmdqProd::OFFSET,
            offset => offset,
        };
        let value = self.word(from).load(Ordering::Relaxed);
        if offset == Gbpa::OFFSET { Gbpa(value).with_update(false).0 } else { value }
    }

    fn write32(&self, offset: u32, value: u32) {
        self.word(offset).store(value, Ordering::Relaxed);
    }
}

/// Memory of the process's own, and as many CPUs as are said.
struct Bench {
    cpu: AtomicUsize,
    cpus: usize,
    allocations: AtomicUsize,
}

// SAFETY: what the global allocator gives, at its own address; its pointer is exposed, and live until it is freed.
unsafe impl Frames for Bench {
    fn allocate(&self, size: usize, align: usize) -> Option<PhysAddr> {
        self.allocations.fetch_add(1, Ordering::Relaxed);
        let layout = Layout::from_size_align(size, align).ok()?;
        // SAFETY: the driver asks for no empty memory.
        let memory = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(PhysAddr(memory.as_ptr().expose_provenance() as u64))
    }

    unsafe fn free(&self, frame: PhysAddr, size: usize, align: usize) {
        self.allocations.fetch_add(1, Ordering::Relaxed);
        let layout = Layout::from_size_align(size, align).expect("it was one");
        // SAFETY: it came from `allocate` with this layout.
        unsafe { dealloc(self.pointer(frame).as_ptr(), layout) };
    }

    fn pointer(&self, pa: PhysAddr) -> NonNull<u8> {
        let pointer = core::ptr::with_exposed_provenance_mut(pa.0 as usize);
        NonNull::new(pointer).expect("nothing is allocated at 0")
    }

    fn publish(&self, pa: PhysAddr, bytes: usize) {
        recorded::write(pa.0 as usize, bytes);
    }
}

// SAFETY: all memory is coherent; interrupts there are none.
unsafe impl Platform for Bench {
    type Mmio = Registers;
    type Mutex = SpinMutex;

    fn allocate_coherent(&self, size: usize, align: usize) -> Option<PhysAddr> {
        self.allocate(size, align)
    }

    unsafe fn free_coherent(&self, memory: PhysAddr, size: usize, align: usize) {
        // SAFETY: as the caller says.
        unsafe { self.free(memory, size, align) }
    }

    fn mask_irqs<R>(&self, critical: impl FnOnce() -> R) -> R {
        critical()
    }

    fn cpu(&self) -> usize {
        self.cpu.load(Ordering::Relaxed)
    }

    fn max_cpus(&self) -> usize {
        self.cpus
    }

    fn relax(&self) {}

    fn now(&self) -> u64 {
        0
    }
}

/// Two domains with a device each behind one SMMU.
struct Setup {
    iommu: Iommu<Bench>,
    smmu: Smmu<Bench>,
    domains: [Domain<Bench>; 2],
}

impl Setup {
    fn new(cpus: usize, config: DomainConfig) -> Self {
        let bench = Bench { cpu: AtomicUsize::new(0), cpus, allocations: AtomicUsize::new(0) };
        let iommu = Iommu::new(bench, Config::default()).unwrap();
        let mut instance = InstanceConfig::named("smmu");
        instance.sid_bits = 4;
        let smmu = iommu.probe(Registers::new(), instance).unwrap().enable();
        let smmu = smmu.unwrap_or_else(|refused| panic!("{}", refused.error));
        let domains = [0, 1].map(|stream| {
            let domain = iommu.create_domain(config).unwrap();
            let master = iommu.add_master(&smmu, &[StreamId(stream)], MasterConfig::default());
            iommu.attach(&master.unwrap(), &domain).unwrap();
            domain
        });
        Self { iommu, smmu, domains }
    }

    /// The lines that an unmap of a few pages of `domain` from `iova` on writes, on the CPU of that number. The pages around stay
    /// mapped.
    fn unmap(&self, cpu: usize, domain: usize, iova: u64) -> BTreeSet<usize> {
        let (domain, bench) = (&self.domains[domain], self.iommu.platform());
        bench.cpu.store(cpu, Ordering::Relaxed);
        let attributes = Attributes::normal(Prot::READ);
        // SAFETY: no device does anything.
        unsafe { domain.map(Iova(iova), PhysAddr(1 << 40), 64 * PAGE, attributes) }.unwrap();
        let before = bench.allocations.load(Ordering::Relaxed);
        let lines = recorded::lines_of(|| {
            for at in 0..4 {
                // SAFETY: as above.
                unsafe { domain.unmap(Iova(iova + (16 + at) * PAGE), PAGE) }.unwrap();
            }
        });
        assert_eq!(bench.allocations.load(Ordering::Relaxed), before, "something was allocated");
        // SAFETY: as above.
        unsafe { domain.unmap(Iova(iova), 64 * PAGE) }.unwrap();
        lines
    }

    /// What both write, by name.
    fn shared(&self, one: &BTreeSet<usize>, other: &BTreeSet<usize>) -> BTreeSet<String> {
        let places = self.smmu.hardware().commands().places(self.iommu.platform());
        let name = |line: usize| {
            let of = places.iter().find(|(_, place)| place.contains(&line));
            of.map_or_else(|| String::from("something else"), |(name, _)| String::from(*name))
        };
        one.intersection(other).map(|line| name(*line)).collect()
    }
}

/// All that two CPUs may both write.
const OF_THE_QUEUE: [&str; 4] =
    ["claims of room, and tickets", "what is known to be consumed", "slots", "marks of runs"];

const PLACES: [u64; 2] = [0x4000_0000, 0x4000_0000 + 128 * PAGE];

/// Both ways: of disjoint ranges of one domain, in one table, and of two domains.
fn both_write(setup: &Setup) -> [BTreeSet<String>; 2] {
    [[0, 0], [0, 1]].map(|domains| {
        let lines: Vec<_> = (0..2).map(|cpu| setup.unmap(cpu, domains[cpu], PLACES[cpu])).collect();
        setup.shared(&lines[0], &lines[1])
    })
}

#[test]
fn two_cpus_that_unmap_both_write_the_command_queues_lines_and_no_others() {
    let counts = [false, true].into_iter().take(if cfg!(feature = "counts") { 2 } else { 1 });
    for config in counts.map(|statistics| DomainConfig { statistics, ..DomainConfig::default() }) {
        let setup = Setup::new(2, config);
        for shared in both_write(&setup) {
            let others: Vec<_> =
                shared.iter().filter(|name| !OF_THE_QUEUE.contains(&name.as_str())).collect();
            assert!(others.is_empty(), "{shared:?}");
            assert!(shared.contains("claims of room, and tickets"), "{shared:?}");
            // Each finds the queue at rest.
            assert!(!shared.contains("marks of runs"), "{shared:?}");
        }
    }
}

/// What the test above is worth: where both CPUs have one number, they count what they do on the same lines.
#[test]
fn cpus_that_are_not_told_apart_write_more() {
    let setup = Setup::new(1, DomainConfig::default());
    for shared in both_write(&setup) {
        assert!(shared.contains("something else"), "{shared:?}");
    }
}

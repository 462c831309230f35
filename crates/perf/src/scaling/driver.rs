// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver on threads: its command queue, mapping and unmapping, several SMMUs at once.

use std::sync::Mutex;
use std::time::Instant;

use smmuv3::instance::{Instance, Probed};
use smmuv3::{
    Attributes, Config, Domain, DomainConfig, InstanceConfig, Iommu, Iova, MasterConfig, Mmio,
    PhysAddr, Prot, Smmu, StreamId,
};
use smmuv3_formats::Command;
use smmuv3_formats::command::TlbiNhVa;

use super::{BYTES, Cpus, Rate, THREADS, Timed, Work, rates};

const PAGE: u64 = 4096;
/// Input addresses of a thread: a table of pages.
const SPAN: u64 = 1 << 21;
/// What the SMMU takes where maps and unmaps are counted, in nanoseconds.
pub(super) const LATENCY: u64 = 1_000;
/// Times that an unmap on several SMMUs is timed.
const TIMES: u64 = 400;

fn config() -> InstanceConfig {
    let mut config = InstanceConfig::named("smmu");
    config.sid_bits = 4;
    config
}

/// The driver's queue, or its enhanced ones beside it.
pub(super) struct Ticketed<M: Mmio> {
    cpus: Cpus<M>,
    instance: Instance<Cpus<M>>,
}

impl<M: Mmio> Ticketed<M> {
    /// Of an SMMU that is to have so many.
    pub(super) fn new(cpus: Cpus<M>, smmu: M, queues: usize) -> Self {
        let probed = Probed::<Cpus<M>>::new(smmu, config()).expect("a usable SMMU");
        // SAFETY: both are kept together.
        let instance = unsafe { probed.enable(&cpus) }.expect("an SMMU that answers");
        assert_eq!(instance.commands().lanes(), queues);
        Self { cpus, instance }
    }

    /// One command and CMD_SYNC.
    pub(super) fn carry_out(&self, command: Command) {
        self.instance.carry_out(&self.cpus, [command]).expect("an SMMU that answers");
    }
}

/// What is invalidated the so manieth time.
pub(super) fn invalidation(count: u64) -> Command {
    TlbiNhVa::new().with_asid(5).with_leaf(true).with_addr((count % 512) * PAGE).into()
}

/// How threads do that share one queue, and where each has a queue of its own: the command queue, or an enhanced one.
pub fn enhanced(threads: usize, latency: u64) -> [Rate; 2] {
    let cpus = || Cpus::new(threads, BYTES);
    let one = Ticketed::new(cpus(), Timed::new(latency), 1);
    let each = Ticketed::new(cpus(), Timed::enhanced(latency), threads);
    let [one, each]: [Work<'_>; 2] =
        [&|_, count| one.carry_out(invalidation(count)), &|_, count| {
            each.carry_out(invalidation(count))
        }];
    rates(threads, [one, each])
}

/// What threads that map and unmap have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrangement {
    /// One domain that no SMMU uses: page tables alone.
    Tables,
    /// One domain on one SMMU.
    Domain,
    /// The same, each call under one lock: what a domain costs that is not made for many CPUs.
    Lock,
    /// A domain each, on one SMMU.
    Instance,
    /// A domain each, on an SMMU each.
    Nothing,
}

impl Arrangement {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Tables, Self::Domain, Self::Lock, Self::Instance, Self::Nothing];

    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tables => "one domain, no SMMU",
            Self::Domain => "one domain, one SMMU",
            Self::Lock => "the same under one lock",
            Self::Instance => "a domain each, one SMMU",
            Self::Nothing => "a domain and an SMMU each",
        }
    }
}

struct Machine {
    iommu: Iommu<Cpus>,
    /// Used as long as the machine is.
    smmus: Vec<Smmu<Cpus>>,
    domains: Vec<Domain<Cpus>>,
}

impl Machine {
    fn new(cpus: usize, smmus: usize, latency: u64) -> Self {
        let iommu = Iommu::new(Cpus::new(cpus, 16 << 20), Config::default());
        let iommu = iommu.expect("there is memory");
        let enable = |_| {
            let probe = iommu.probe(Timed::new(latency), config()).expect("a usable SMMU");
            probe.enable().expect("an SMMU that answers")
        };
        let smmus = (0..smmus).map(enable).collect();
        Self { iommu, smmus, domains: Vec::new() }
    }

    /// Makes a domain, and attaches a device to it behind each of `smmus`.
    fn add(&mut self, smmus: std::ops::Range<usize>) {
        let domain = self.iommu.create_domain(DomainConfig::default()).expect("there is memory");
        for smmu in &self.smmus[smmus] {
            let stream = StreamId(self.domains.len() as u32);
            let master = self.iommu.add_master(smmu, &[stream], MasterConfig::default());
            self.iommu.attach(&master.expect("a free stream"), &domain).expect("it fits");
        }
        self.domains.push(domain);
    }
}

fn map(domain: &Domain<Cpus>, iova: u64) {
    let attributes = Attributes::normal(Prot::READ | Prot::WRITE);
    // SAFETY: each thread has addresses of its own, and the memory does not exist.
    unsafe { domain.map(Iova(iova), PhysAddr(0x20_0000_1000), PAGE, attributes) }
        .expect("nothing is there");
}

fn unmap(domain: &Domain<Cpus>, iova: u64) {
    // SAFETY: as above.
    let unmapped = unsafe { domain.unmap(Iova(iova), PAGE) };
    assert_eq!(unmapped, Ok(PAGE));
}

/// A machine whose threads share what an arrangement says.
struct Arranged {
    machine: Machine,
    lock: Option<Mutex<()>>,
}

impl Arranged {
    fn new(arrangement: Arrangement, threads: usize) -> Self {
        let smmus = match arrangement {
            Arrangement::Tables => 0,
            Arrangement::Nothing => threads,
            _ => 1,
        };
        let mut machine = Machine::new(threads, smmus, LATENCY);
        match arrangement {
            Arrangement::Tables => machine.add(0..0),
            Arrangement::Domain | Arrangement::Lock => machine.add(0..1),
            Arrangement::Instance => (0..threads).for_each(|_| machine.add(0..1)),
            Arrangement::Nothing => (0..threads).for_each(|smmu| machine.add(smmu..smmu + 1)),
        }
        let lock = (arrangement == Arrangement::Lock).then(|| Mutex::new(()));
        Self { machine, lock }
    }

    /// Maps a page of the thread's own and unmaps it.
    fn once(&self, thread: usize, count: u64) {
        let domains = &self.machine.domains;
        let domain = &domains[thread.min(domains.len() - 1)];
        let iova = thread as u64 * SPAN + (count % 512) * PAGE;
        let _one = self.lock.as_ref().map(Mutex::lock);
        map(domain, iova);
        unmap(domain, iova);
    }
}

/// How threads do that each map a page of their own and unmap it, in each of [`Arrangement::ALL`].
pub fn arranged(threads: usize) -> [Rate; 5] {
    let machines = Arrangement::ALL.map(|arrangement| Arranged::new(arrangement, threads));
    let works = machines.each_ref().map(|it| move |thread, count| it.once(thread, count));
    rates(threads, works.each_ref().map(|work| work as Work<'_>))
}

/// The least nanoseconds of an unmap of a domain on several SMMUs.
#[derive(Clone, Copy, Debug)]
pub struct Overlap {
    /// All are told before the first is waited for.
    pub together: f64,
    /// The same invalidation, one SMMU after the other.
    pub one_by_one: f64,
}

/// How an unmap does on so many SMMUs, which take so many nanoseconds each.
pub fn overlapped(smmus: usize, latency: u64) -> Overlap {
    super::cpus::be(0);
    let mut machine = Machine::new(THREADS[0], smmus, latency);
    machine.add(0..smmus);
    let domain = &machine.domains[0];
    let least = |once: &dyn Fn()| {
        let timed = (0..TIMES).map(|_| {
            map(domain, 0);
            let begun = Instant::now();
            once();
            begun.elapsed().as_nanos()
        });
        timed.min().unwrap_or_default() as f64
    };
    let together = least(&|| unmap(domain, 0));
    let targets = domain.targets().expect("there is memory");
    let one_by_one = least(&|| {
        let platform = machine.iommu.platform();
        for (smmu, target) in machine.smmus.iter().zip(&targets) {
            let command = TlbiNhVa::new().with_asid(u64::from(target.tag.asid)).with_leaf(true);
            // SAFETY: an invalidation, with the platform that it has.
            let instance = unsafe { smmu.instance() };
            instance.carry_out(platform, [command.into()]).expect("an SMMU that answers");
        }
        // For the next round; none of it is waited for.
        // SAFETY: one thread.
        unsafe { domain.unmap_deferred(Iova(0), PAGE) }.expect("it is mapped");
    });
    Overlap { together, one_by_one }
}

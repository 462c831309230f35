// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two unlike SMMUs, three masters, and the oracle looking on at every store, free and command.

use smmuv3_testbench::inside::Inside as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smmuv3::{
    AttachError, Attributes, Config, Domain, DomainConfig, Failure, InstanceConfig, Interrupt,
    Iommu, Iova, MapError, Master, MasterConfig, PhysAddr, Platform, Prot, Quarantined, Report,
    Smmu, StreamId, Unconfirmed, UnmapError,
};
use smmuv3_model::Profile;
use smmuv3_testbench::machine::{Dma, Machine, Outcome};
use smmuv3_testbench::machine_model::{ModelMachine, profile};
use smmuv3_testbench::oracle::Use;
use smmuv3_testbench::platform::{Observer, Point, TestMmio, TestPlatform, World};
use smmuv3_testbench::scenario::Scenario;
use smmuv3_testbench::stream_table::StreamTable;
use smmuv3_testbench::watch::Watch;

use crate::machine::FaultyMachine;

pub const PAGE: u64 = 0x1000;
pub const BLOCK: u64 = 0x20_0000;
/// Nanoseconds that an SMMU has to answer: a hundred looks or so.
pub const DEADLINE: Duration = Duration::from_micros(200);
/// More than any call takes that does not wait.
pub const AT_ONCE: Duration = Duration::from_micros(40);

/// `narrow` has 8-bit ASIDs and two masters, of one and of two streams; `wide` has 16 bits and one master.
const SCENARIO: &str = r#"
name = "failures"
[[instance]]
name = "narrow"
asid-bits = 8
[[instance]]
name = "wide"
[[master]]
name = "nic"
instance = "narrow"
streams = [1]
[[master]]
name = "disk"
instance = "narrow"
streams = [2, 3]
[[master]]
name = "gpu"
instance = "wide"
streams = [1]
[[domain]]
name = "shared"
[[step]]
attach = { master = "nic", domain = "shared" }
"#;

/// Masters.
pub const NIC: usize = 0;
pub const DISK: usize = 1;
pub const GPU: usize = 2;
/// Instances.
pub const NARROW: usize = 0;
pub const WIDE: usize = 1;

/// The oracle's eyes.
pub struct Eyes {
    world: Arc<World>,
    watch: Mutex<Watch>,
}

impl Observer for Eyes {
    fn at(&self, point: Point, _interruptible: bool) {
        self.watch().at(&self.world, point);
    }
}

impl Eyes {
    pub fn watch(&self) -> MutexGuard<'_, Watch> {
        // A panic elsewhere must not hide itself behind another one.
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The SMMUs, not yet enabled.
pub fn world(seed: u64, change: impl Fn(Profile) -> Profile) -> (Arc<FaultyMachine>, Arc<World>) {
    let scenario =
        Scenario::parse(SCENARIO, "failures").unwrap_or_else(|errors| panic!("{errors}"));
    let inner = ModelMachine::with_profiles(&scenario, seed, |instance| change(profile(instance)));
    let machine = Arc::new(FaultyMachine::new(inner.unwrap()));
    let world = World::new(machine.clone(), 2);
    (machine, world)
}

pub fn config() -> InstanceConfig {
    let mut config = InstanceConfig::named("smmu");
    config.command_queue_log2 = 4;
    config.event_queue_log2 = 3;
    config.sid_bits = 4;
    config.deadline = DEADLINE;
    config.device_deadline = config.deadline;
    config
}

/// The driver at work.
pub struct Setup {
    pub machine: Arc<FaultyMachine>,
    pub world: Arc<World>,
    pub iommu: Iommu<TestPlatform>,
    pub smmus: Vec<Smmu<TestPlatform>>,
    pub masters: Vec<Master<TestPlatform>>,
    pub domains: Vec<Domain<TestPlatform>>,
    /// Memory for devices.
    pub memory: u64,
    eyes: Arc<Eyes>,
}

const MEMORY: u64 = 16 << 20;

impl Setup {
    /// Everything enabled, all masters blocked, two empty domains.
    pub fn new(seed: u64) -> Self {
        Self::with(seed, config(), |profile| profile)
    }

    pub fn with(seed: u64, config: InstanceConfig, change: impl Fn(Profile) -> Profile) -> Self {
        let (machine, world) = world(seed, change);
        let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
        let eyes = Eyes { world: world.clone(), watch: Mutex::new(Watch::new(2, seed)) };
        let mut smmus = Vec::new();
        let mut masters = Vec::new();
        for instance in [NARROW, WIDE] {
            let mmio = TestMmio { world: world.clone(), instance };
            let probe = iommu.probe(mmio, config).unwrap();
            let smmu = probe.enable().unwrap();
            let streams = smmu.inside().streams();
            let (base, shape) = (streams.base_register(), streams.config_register());
            eyes.watch().add_instance(StreamTable { base, shape });
            let owned: &[&[u32]] = if instance == NARROW { &[&[1], &[2, 3]] } else { &[&[1]] };
            for streams in owned {
                let ids: Vec<StreamId> = streams.iter().copied().map(StreamId).collect();
                masters.push(iommu.add_master(&smmu, &ids, MasterConfig::default()).unwrap());
                eyes.watch().collect(&world);
                eyes.watch().oracle.add_master(instance, streams.to_vec());
                for stream in *streams {
                    eyes.watch().watch_stream(&world, instance, *stream);
                }
            }
            smmus.push(smmu);
        }
        let memory = world.frames().allocate(MEMORY, BLOCK).unwrap();
        let eyes = Arc::new(eyes);
        world.set_observer(Some(eyes.clone()));
        let domains = Vec::new();
        let mut setup = Self { machine, world, iommu, smmus, masters, domains, memory, eyes };
        setup.add_domain();
        setup.add_domain();
        setup
    }

    /// Another domain; its index.
    pub fn add_domain(&mut self) -> usize {
        let before: Vec<u64> = self.world.frames().live().map(|(start, _)| start).collect();
        let domain = self.iommu.create_domain(DomainConfig::default()).unwrap();
        let root = self.world.frames().live().find(|(start, _)| !before.contains(start));
        self.eyes.watch().oracle.add_domain(root.unwrap().0);
        self.domains.push(domain);
        self.domains.len() - 1
    }

    pub fn watch(&self) -> MutexGuard<'_, Watch> {
        self.eyes.watch()
    }

    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.iommu.platform().now())
    }

    pub fn live_bytes(&self) -> u64 {
        self.world.frames().live_bytes()
    }

    pub fn has_failed(&self, instance: usize) -> bool {
        self.smmus[instance].has_failed()
    }

    /// Attaches `master`, or blocks it. While it is unconfirmed the oracle accepts the old and the new; see
    /// [`Setup::reset`].
    /// [`WIDE`] was removed, and is in use again.
    pub fn comes_back(&self, smmu: &Smmu<TestPlatform>) {
        let streams = smmu.inside().streams();
        let (base, shape) = (streams.base_register(), streams.config_register());
        self.watch().replace_instance(WIDE, StreamTable { base, shape });
    }

    pub fn attach(&self, master: usize, to: Use) -> Result<(), AttachError> {
        let before = self.watch().oracle.using(master);
        self.watch().oracle.attach_begins(master, to);
        let handle = &self.masters[master];
        let result = match to {
            Use::Blocked => self.iommu.detach(handle).map_err(Into::into),
            // SAFETY: devices of a test only touch what the test tells them to.
            Use::Identity => unsafe { self.iommu.attach_identity(handle) },
            Use::Domain(domain) => self.iommu.attach(handle, &self.domains[domain]),
            Use::Process(_) | Use::Kept(_) => panic!("these tests have no processes"),
        };
        let mut watch = self.watch();
        watch.collect(&self.world);
        match &result {
            Ok(()) => {
                watch.oracle.attach_ends(master, true);
                watch.after_attach(&self.world, master, before);
            }
            Err(AttachError::Unconfirmed(_)) => {
                // Until the reset hardware may use the old entry, the new one or the blocked one: three
                // configurations, where a history compares two.
                let (instance, streams) = watch.oracle.streams(master);
                let streams = streams.to_vec();
                for stream in streams {
                    watch.watch_stream(&self.world, instance, stream);
                }
            }
            Err(_) => watch.oracle.attach_ends(master, false),
        }
        result
    }

    /// Maps memory from `offset` on.
    pub fn map(&self, domain: usize, iova: u64, offset: u64, len: u64) -> Result<(), MapError> {
        let (range, pa) = (iova..iova + len, self.memory + offset);
        self.watch().oracle.map_begins(domain, range.clone(), pa, true);
        let attributes = Attributes::normal(Prot::READ | Prot::WRITE);
        // SAFETY: the memory lives as long as the test, which is alone.
        let result = unsafe { self.domains[domain].map(Iova(iova), PhysAddr(pa), len, attributes) };
        let mut watch = self.watch();
        watch.collect(&self.world);
        watch.oracle.map_ends(domain, range.clone(), result.is_ok());
        if result.is_err_and(|error| error.unconfirmed.is_none()) {
            watch.after_unmap(&self.world, domain, &range);
        }
        result
    }

    /// Unmaps. While it is unconfirmed the oracle accepts both; see [`Setup::reset`].
    pub fn unmap(&self, domain: usize, iova: u64, len: u64) -> Result<u64, UnmapError> {
        let range = iova..iova + len;
        self.watch().oracle.unmap_begins(domain, range.clone());
        // SAFETY: the test is alone.
        let result = unsafe { self.domains[domain].unmap(Iova(iova), len) };
        let mut watch = self.watch();
        watch.collect(&self.world);
        match &result {
            Ok(_) => {
                watch.oracle.unmap_ends(domain, range.clone(), true);
                watch.after_unmap(&self.world, domain, &range);
            }
            Err(UnmapError::Unconfirmed(_)) => {}
            Err(UnmapError::Table(_)) => watch.oracle.unmap_ends(domain, range, false),
            Err(_) => unreachable!("there are two ways to fail"),
        }
        result
    }

    /// Lets `master` write 8 bytes; where they went. The oracle judges.
    pub fn dma(&self, master: usize, iova: u64) -> Option<u64> {
        let parts = self.machine.dma(master, None, iova, Dma::Write(&[0xa5; 8])).unwrap();
        let mut watch = self.watch();
        watch.collect(&self.world);
        match parts[0].outcome {
            Outcome::Reached(pa) => {
                watch.oracle.reached(master, iova, true, pa, "a");
                Some(pa)
            }
            _ => {
                watch.oracle.refused(master, iova, true, "a");
                None
            }
        }
    }

    /// Resets `instance`, which answers again. Whatever was unconfirmed there is settled: stuck masters are
    /// blocked, unmapped ranges are gone.
    pub fn reset(&self, instance: usize, stuck: &[usize], unmapped: &[(usize, u64, u64)]) {
        self.iommu.reset(&self.smmus[instance]).unwrap();
        let mut watch = self.watch();
        watch.collect(&self.world);
        for master in stuck {
            watch.oracle.attach_begins(*master, Use::Blocked);
            watch.oracle.attach_ends(*master, true);
        }
        for (domain, iova, len) in unmapped {
            watch.oracle.unmap_ends(*domain, *iova..iova + len, true);
            watch.after_unmap(&self.world, *domain, &(*iova..iova + len));
        }
    }

    pub fn quarantined(&self) -> Vec<Quarantined> {
        let mut list = Vec::new();
        self.iommu.quarantined(&mut |item| list.push(item));
        list
    }

    /// Everything that `instance` reports.
    pub fn reports(&self, instance: usize, budget: usize) -> (Vec<Report<TestPlatform>>, bool) {
        let mut reports = Vec::new();
        let more = self.iommu.handle_interrupt(
            &self.smmus[instance],
            Interrupt::Any,
            budget,
            &mut |report| reports.push(report),
        );
        (reports, more)
    }

    /// No rule was broken so far.
    #[track_caller]
    pub fn check(&self, context: impl std::fmt::Display) {
        let watch = self.watch();
        if let Some(violation) = watch.oracle.violation() {
            panic!("{context}: {violation}");
        }
    }

    /// Blocks and closes everything: nothing is left.
    #[track_caller]
    pub fn tear_down(self, context: impl std::fmt::Display) {
        for master in 0..self.masters.len() {
            assert_eq!(self.attach(master, Use::Blocked), Ok(()), "{context}: master {master}");
        }
        self.check(&context);
        assert_eq!(self.quarantined(), [], "{context}");
        self.world.set_observer(None);
        let Self { world, iommu, smmus, masters, domains, memory, .. } = self;
        for master in masters {
            assert!(master.close().is_ok(), "{context}");
        }
        for domain in domains {
            assert!(domain.close().is_ok(), "{context}");
        }
        for smmu in smmus {
            assert!(iommu.remove(smmu).is_ok(), "{context}");
        }
        drop(iommu);
        let mut frames = world.frames();
        frames.free(memory, MEMORY);
        assert_eq!((frames.live_bytes(), frames.bad_frees()), (0, 0), "{context}");
    }
}

/// What an instance did to an attach, or a detach.
#[track_caller]
pub fn attach_failure(result: Result<(), impl Into<AttachError>>) -> (usize, Failure) {
    match result.map_err(Into::into) {
        Err(AttachError::Unconfirmed(Unconfirmed { instance, what, .. })) => {
            (instance.index(), what)
        }
        other => panic!("{other:?}"),
    }
}

/// What an instance did to an unmap.
#[track_caller]
pub fn unmap_failure(result: Result<u64, UnmapError>) -> (usize, Failure) {
    match result {
        Err(UnmapError::Unconfirmed(Unconfirmed { instance, what, .. })) => {
            (instance.index(), what)
        }
        other => panic!("{other:?}"),
    }
}

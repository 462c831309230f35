// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the SMMU does not snoop: `publish` is called for what the driver stores where hardware reads, each call begins
//! and ends with a word that is news, and nothing that was published once is changed without being published again.
//! (That hardware needs no more is shown wherever a model that does not snoop runs under the oracle.)

mod common;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use smmuv3::{
    Attributes, Config, Domain, DomainConfig, InstanceConfig, Iommu, Iova, Master, MasterConfig,
    PhysAddr, Prot, Region, Smmu, StreamId,
};
use smmuv3_testbench::machine::{Dma, Outcome};
use smmuv3_testbench::machine_model::ModelMachine;
use smmuv3_testbench::platform::{Observer, Point, TestMmio, TestPlatform, World};

const SCENARIO: &str = r#"
name = "publish"
[[instance]]
name = "near"
coherent = false
ssid-bits = 8
two-level-contexts = true
[[instance]]
name = "far"
coherent = false
[[master]]
name = "nic"
instance = "near"
streams = [1, 2]
[[master]]
name = "disk"
instance = "far"
streams = [1]
"#;

/// Software's own bits of a descriptor of a table: hardware ignores them (§15.2).
const MARK: u64 = 0b11 << 55;
const PAGE: u64 = 0x1000;
const IOVA: u64 = 0x1000_0000;

/// What was published.
struct Count {
    world: Arc<World>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Words as they were when they were last published.
    words: BTreeMap<u64, u64>,
    /// Calls since the last look, and those that began or ended with no news.
    calls: Vec<(u64, u64)>,
    wasted: Vec<(u64, u64)>,
}

impl Count {
    fn word(&self, pa: u64) -> u64 {
        self.world.machine().ram().read64(pa).unwrap() & !MARK
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }
}

impl Observer for Count {
    fn at(&self, point: Point, _: bool) {
        let mut seen = self.seen();
        match point {
            Point::Published { pa, bytes } => {
                let last = pa + bytes - 8;
                let news = |at| seen.words.get(&at) != Some(&self.word(at));
                if !(news(pa) && news(last)) {
                    seen.wasted.push((pa, bytes));
                }
                seen.calls.push((pa, bytes));
                for at in (pa..pa + bytes).step_by(8) {
                    let word = self.word(at);
                    seen.words.insert(at, word);
                }
            }
            Point::Freeing { pa, bytes } => {
                seen.words.retain(|at, _| !(pa..pa + bytes).contains(at));
            }
            Point::Idle => {}
        }
    }
}

struct Setup {
    world: Arc<World>,
    count: Arc<Count>,
    iommu: Iommu<TestPlatform>,
    smmus: Vec<Smmu<TestPlatform>>,
    memory: u64,
}

impl Setup {
    fn new() -> Self {
        let machine = ModelMachine::new(&common::parse(SCENARIO), 1).unwrap();
        let world = World::new(Arc::new(machine), 2);
        let memory = world.frames().allocate(4 << 20, 2 << 20).unwrap();
        let count = Arc::new(Count { world: world.clone(), seen: Mutex::default() });
        world.set_observer(Some(count.clone()));
        let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
        let smmus = (0..2).map(|id| common::enable(&iommu, &world, id, config())).collect();
        let setup = Self { world, count, iommu, smmus, memory };
        // Two stream tables; nothing of queues, which are not in memory that has to be published.
        assert_eq!(setup.calls(), 2);
        setup
    }

    /// Calls since the last look, none of which was for nothing. What was published once is as it was.
    #[track_caller]
    fn calls(&self) -> usize {
        let mut seen = self.count.seen();
        assert_eq!(seen.wasted, []);
        let stale = seen.words.iter().find(|(at, word)| self.count.word(**at) != **word);
        assert_eq!(stale, None, "stored and not published");
        std::mem::take(&mut seen.calls).len()
    }

    fn add(&self, smmu: usize, streams: &[u32], bits: u32) -> Master<TestPlatform> {
        let streams: Vec<StreamId> = streams.iter().copied().map(StreamId).collect();
        let config = MasterConfig::default().with_pasid_bits(bits);
        self.iommu.add_master(&self.smmus[smmu], &streams, config).unwrap()
    }

    fn map(&self, domain: &Domain<TestPlatform>, iova: u64, len: u64) {
        let attributes = Attributes::normal(Prot::READ | Prot::WRITE);
        // SAFETY: the test is alone, and its memory stays.
        unsafe { domain.map(Iova(iova), PhysAddr(self.memory), len, attributes) }.unwrap();
    }

    fn reaches(&self, master: usize, iovas: Range<u64>) -> bool {
        iovas.step_by(PAGE as usize).all(|iova| {
            let parts = self.world.machine().dma(master, None, iova, Dma::Write(&[1; 8])).unwrap();
            matches!(parts[0].outcome, Outcome::Reached(_))
        })
    }
}

fn config() -> InstanceConfig {
    let mut config = InstanceConfig::named("smmu");
    config.sid_bits = 6;
    config
}

#[test]
fn of_maps_and_unmaps_each_run_is_published_once_whoever_walks_it() {
    let setup = Setup::new();
    let domain = setup.iommu.create_domain(DomainConfig::default()).unwrap();
    assert_eq!(setup.calls(), 1, "the first table");
    let (nic, disk) = (setup.add(0, &[1, 2], 0), setup.add(1, &[1], 0));
    for master in [&nic, &disk] {
        setup.iommu.attach(master, &domain).unwrap();
    }
    setup.calls();
    // Two calls a new table, one a run: on both instances together.
    setup.map(&domain, IOVA, 4 * PAGE);
    assert_eq!(setup.calls(), 2 * 3 + 1);
    setup.map(&domain, IOVA + 4 * PAGE, 4 * PAGE);
    assert_eq!(setup.calls(), 1);
    assert!(setup.reaches(0, IOVA..IOVA + 8 * PAGE) && setup.reaches(1, IOVA..IOVA + 8 * PAGE));
    // SAFETY: the test is alone, here and below.
    assert_eq!(unsafe { domain.unmap(Iova(IOVA), 2 * PAGE) }, Ok(2 * PAGE));
    assert_eq!(setup.calls(), 1);
    // SAFETY: as above.
    assert_eq!(unsafe { domain.unmap_deferred(Iova(IOVA + 2 * PAGE), 6 * PAGE) }, Ok(6 * PAGE));
    assert_eq!(setup.calls(), 1);
    domain.invalidate_all().unwrap();
    assert_eq!(setup.calls(), 0, "commands are not in memory that has to be published");
    assert!(!setup.reaches(0, IOVA..IOVA + PAGE) && !setup.reaches(1, IOVA..IOVA + PAGE));
    // SAFETY: as above.
    assert_eq!(unsafe { domain.reclaim(Iova(0), 1 << 30) }, Ok(2));
    assert_eq!(setup.calls(), 2, "a descriptor a table");
    // SAFETY: as above.
    assert_eq!(unsafe { domain.unmap(Iova(0), 1 << 40) }, Ok(0));
    assert_eq!(setup.calls(), 1, "the first level of tables is unlinked");
}

#[test]
fn of_attaches_the_words_that_change_are_published_one_by_one() {
    let setup = Setup::new();
    let domain = setup.iommu.create_domain(DomainConfig::default()).unwrap();
    let other = setup.iommu.create_domain(DomainConfig::default()).unwrap();
    setup.calls();
    let disk = setup.add(1, &[1], 0);
    assert_eq!(setup.calls(), 1, "its context, which is empty");
    setup.map(&domain, IOVA, PAGE);
    setup.calls();
    // Words 0, 1 and 3 of the context; words 0 and 1 of the entry, which is where that is and how it is read.
    setup.iommu.attach(&disk, &domain).unwrap();
    let calls = std::mem::take(&mut setup.count.seen().calls);
    assert!(calls.iter().all(|(_, bytes)| *bytes == 8), "{calls:?}");
    let mut places: Vec<u64> = calls.iter().map(|(pa, _)| *pa).collect();
    let all = places.len();
    places.sort_unstable();
    places.dedup();
    assert_eq!((places.len(), all), (5, 5), "{calls:x?}");
    assert!(setup.reaches(1, IOVA..IOVA + PAGE));
    // Between domains: those words of the context beside it, and the word of the entry that leads there.
    setup.iommu.attach(&disk, &other).unwrap();
    assert_eq!(setup.calls(), 4);
    assert!(!setup.reaches(1, IOVA..IOVA + PAGE));
    setup.iommu.attach(&disk, &other).unwrap();
    assert_eq!(setup.calls(), 0, "nothing changes");
    setup.iommu.detach(&disk).unwrap();
    setup.calls();
    // SAFETY: the device only does what the test tells it to.
    unsafe { setup.iommu.attach_identity(&disk) }.unwrap();
    setup.iommu.attach(&disk, &domain).unwrap();
    setup.iommu.detach(&disk).unwrap();
    setup.calls();
    // With substreams, and two streams.
    let nic = setup.add(0, &[1, 2], 8);
    let pasid = setup.iommu.allocate_pasid().unwrap();
    setup.iommu.attach_pasid(&nic, pasid, &domain).unwrap();
    setup.iommu.attach(&nic, &other).unwrap();
    setup.iommu.attach_pasid(&nic, pasid, &other).unwrap();
    setup.iommu.detach_pasid(&nic, pasid).unwrap();
    setup.iommu.detach(&nic).unwrap();
    assert!(setup.calls() > 0);
    assert!(nic.close().is_ok() && disk.close().is_ok());
    // After a reset entries are what they were.
    setup.iommu.reset(&setup.smmus[0]).unwrap();
    assert_eq!(setup.calls(), 0);
}

#[test]
fn of_kept_streams_everything_is_published_before_the_smmu_is_on() {
    let machine = ModelMachine::new(&common::parse(SCENARIO), 1).unwrap();
    let world = World::new(Arc::new(machine), 2);
    let memory = world.frames().allocate(PAGE, PAGE).unwrap();
    let count = Arc::new(Count { world: world.clone(), seen: Mutex::default() });
    world.set_observer(Some(count.clone()));
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    let mmio = TestMmio { world: world.clone(), instance: 1 };
    let mut probe = iommu.probe(mmio, config()).unwrap();
    let regions = [Region::normal(PhysAddr(memory), PAGE)];
    // SAFETY: the memory is the test's.
    unsafe { probe.keep(&[StreamId(1)], MasterConfig::default(), &regions) }.unwrap();
    let _smmu = probe.enable().unwrap();
    let seen = count.seen();
    assert_eq!(seen.wasted, []);
    // The first table; three more with their descriptors; the page; the stream table; a context that is empty, and
    // three words of it; two of the entry.
    assert_eq!(seen.calls.len(), 1 + 2 * 3 + 1 + 1 + 1 + 3 + 2, "{:x?}", seen.calls);
}

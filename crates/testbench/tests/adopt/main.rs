// SPDX-License-Identifier: MIT OR Apache-2.0
//! A running SMMU is taken over from a driver that is gone: what worked goes on at every moment, what was not to go on
//! aborts, and structures that lie are refused before anything is written.

#[path = "../common/mod.rs"]
mod common;
mod cut_off;
mod given_up;
mod leaves;
mod numbers;
mod requests;
mod shared;

use smmuv3_testbench::inside::Inside as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use smmuv3::features::Features;
use smmuv3::{
    AdoptError, AsidPolicy, Attributes, Config, Domain, DomainConfig, EnableError, InstanceConfig,
    Iommu, Iova, KeepError, MasterConfig, PhysAddr, Prot, Region, Remains, Smmu, StreamId,
    Structure,
};
use smmuv3_formats::register::{Cr0, Cr0Ack, Cr2, StrtabBase, StrtabBaseCfg};
use smmuv3_model::{Access, Observation, Profile};
use smmuv3_testbench::machine::Machine;
use smmuv3_testbench::machine_model::{ModelMachine, RAM_BASE, profile};
use smmuv3_testbench::platform::{Observer, Point, TestMmio, TestPlatform, World};
use smmuv3_testbench::ram::Ram;
use smmuv3_testbench::stream_table::StreamTable;

use common::parse;

const PAGE: u64 = 0x1000;
const IOVA: u64 = 0x40_0000;
/// Streams of the predecessor: one in a domain, one that reaches all memory, one with PASIDs, and one that is blocked.
const NET: u32 = 1;
const ALL: u32 = 0x102;
const DISK: u32 = 0x203;
const IDLE: u32 = 4;
/// One that only the successor knows.
const NEW: u32 = 0x305;

const SCENARIO: &str = r#"
name = "adopt"
instance = [{ name = "smmu", sid-bits = 10, ssid-bits = 8 }]
master = [{ name = "nic", instance = "smmu", streams = [1] }]
domain = [{ name = "domain" }]
"#;

/// All of RAM.
struct Everything {
    ram: Ram,
    keeps: fn(StreamId) -> bool,
}

impl Remains for Everything {
    fn read(&self, pa: u64) -> Option<u64> {
        self.ram.read64(pa)
    }

    fn keeps(&self, stream: StreamId) -> bool {
        (self.keeps)(stream)
    }
}

struct Crashed {
    machine: Arc<ModelMachine>,
    world: Arc<World>,
    /// What stream `NET` and `DISK` reach at `IOVA`.
    memory: u64,
    table: (StrtabBase, StrtabBaseCfg),
}

fn config() -> InstanceConfig {
    let mut config = InstanceConfig::named("smmu");
    (config.command_queue_log2, config.event_queue_log2) = (4, 3);
    config.sid_bits = 10;
    config.deadline = Duration::from_micros(400);
    config.device_deadline = config.deadline;
    config
}

fn map(domain: &Domain<TestPlatform>, pa: u64) {
    let attributes = Attributes::normal(Prot::READ | Prot::WRITE);
    // SAFETY: nobody else uses that memory, which lives as long as the test.
    unsafe { domain.map(Iova(IOVA), PhysAddr(pa), PAGE, attributes).unwrap() };
}

/// A driver at work, which is not there any more.
fn crash(seed: u64, change: impl Fn(Profile) -> Profile) -> Crashed {
    let scenario = parse(SCENARIO);
    let machine = ModelMachine::with_profiles(&scenario, seed, |it| change(profile(it)));
    let machine = Arc::new(machine.unwrap());
    let world = World::new(machine.clone(), 1);
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    let mut config = config();
    config.firmware.page_0_only = change(Profile::default()).page_0_only;
    let smmu = common::enable(&iommu, &world, 0, config);
    let memory = world.frames().allocate(4 * PAGE, PAGE).unwrap();
    let pasids = MasterConfig::default().with_pasid_bits(8);
    let plain = MasterConfig::default();
    let domains = [0, 1].map(|index| {
        let domain = iommu.create_domain(DomainConfig::default()).unwrap();
        map(&domain, memory + index * PAGE);
        domain
    });
    let masters = [(NET, plain), (ALL, plain), (DISK, pasids), (IDLE, plain)]
        .map(|(stream, config)| iommu.add_master(&smmu, &[StreamId(stream)], config).unwrap());
    iommu.attach(&masters[0], &domains[0]).unwrap();
    // SAFETY: the device is the test's.
    unsafe { iommu.attach_identity(&masters[1]).unwrap() };
    iommu.attach(&masters[2], &domains[1]).unwrap();
    let pasid = iommu.allocate_pasid().unwrap();
    iommu.attach_pasid(&masters[2], pasid, &domains[0]).unwrap();
    let streams = smmu.inside().streams();
    let table = (streams.base_register(), streams.config_register());
    std::mem::forget((iommu, smmu, masters, domains));
    let crashed = Crashed { machine, world, memory, table };
    assert_eq!(crashed.reach(NET), Some(memory));
    assert_eq!(crashed.reach(ALL), Some(IOVA));
    assert_eq!(crashed.reach(DISK), Some(memory + PAGE));
    crashed
}

impl Crashed {
    fn reach(&self, stream: u32) -> Option<u64> {
        let mut model = self.machine.model(0).unwrap();
        model.translate(Access::read(stream, IOVA)).ok().map(|found| found.pa)
    }

    fn everything(&self) -> Everything {
        Everything { ram: self.machine.ram().clone(), keeps: |_| true }
    }

    fn successor(&self, policy: AsidPolicy) -> Iommu<TestPlatform> {
        let mut config = Config::default();
        config.asid_policy = policy;
        Iommu::new(TestPlatform(self.world.clone()), config).unwrap()
    }

    fn mmio(&self) -> TestMmio {
        TestMmio { world: self.world.clone(), instance: 0 }
    }

    fn adopt(&self, remains: &dyn Remains) -> Result<usize, AdoptError> {
        let iommu = self.successor(AsidPolicy::PerInstance);
        let mut probe = iommu.probe(self.mmio(), config()).unwrap();
        // SAFETY: RAM stays as long as the world, and nobody else is left.
        unsafe { probe.adopt(remains) }
    }

    fn put(&self, pa: u64, value: u64) {
        self.machine.ram().write64(pa, value).unwrap();
    }

    fn get(&self, pa: u64) -> u64 {
        self.machine.ram().read64(pa).unwrap()
    }

    /// The entry of a stream.
    fn entry(&self, stream: u32) -> u64 {
        let (base, shape) = self.table;
        StreamTable { base, shape }.entry(self.machine.ram(), stream).unwrap()
    }

    fn no_misuse(&self) {
        let mut seen = self.machine.model(0).unwrap().observations();
        seen.retain(|it| matches!(it, Observation::Misuse(_) | Observation::TagConflict { .. }));
        assert_eq!(seen, []);
    }
}

/// Accesses memory at every moment.
struct Devices {
    crashed: Arc<Crashed>,
    streams: Mutex<Vec<(u32, u64)>>,
}

impl Observer for Devices {
    fn at(&self, _point: Point, _interruptible: bool) {
        self.crashed.machine.act();
        for (stream, pa) in &*self.streams.lock().unwrap() {
            assert_eq!(self.crashed.reach(*stream), Some(*pa), "stream {stream:#x}");
        }
    }
}

fn adopted(
    crashed: &Crashed,
    iommu: &Iommu<TestPlatform>,
    keeps: fn(StreamId) -> bool,
) -> (usize, Smmu<TestPlatform>) {
    let remains = Everything { keeps, ..crashed.everything() };
    let mut probe = iommu.probe(crashed.mmio(), config()).unwrap();
    // SAFETY: RAM stays as long as the world, and nobody else is left.
    let count = unsafe { probe.adopt(&remains) }.unwrap();
    (count, probe.enable().unwrap())
}

#[test]
fn what_worked_goes_on_at_every_moment_until_its_master_is_attached() {
    for (seed, split) in (0..12).zip([true, false].into_iter().cycle()) {
        let linear = |profile: Profile| match split {
            true => profile,
            false => Profile { ack_delay: 3, ..profile },
        };
        let crashed = Arc::new(crash(seed, linear));
        let memory = crashed.memory;
        let streams = vec![(NET, memory), (ALL, IOVA), (DISK, memory + PAGE)];
        let devices = Devices { crashed: crashed.clone(), streams: Mutex::new(streams) };
        let devices = Arc::new(devices);
        crashed.world.set_observer(Some(devices.clone() as Arc<dyn Observer>));
        let iommu = crashed.successor(AsidPolicy::PerInstance);
        let free = |smmu: &Smmu<TestPlatform>| iommu.free_asids(smmu);
        let (count, smmu) = adopted(&crashed, &iommu, |_| true);
        assert_eq!(count, 3);
        // Two ASIDs of theirs are taken.
        assert_eq!(free(&smmu), 0xffff - 2, "seed {seed}");
        assert_eq!(crashed.reach(IDLE), None);
        assert_eq!(crashed.reach(NEW), None);

        let domain = iommu.create_domain(DomainConfig::default()).unwrap();
        map(&domain, memory + 2 * PAGE);
        let add = |stream| iommu.add_master(&smmu, &[StreamId(stream)], MasterConfig::default());
        let masters = [NET, IDLE, NEW].map(|stream| add(stream).unwrap());
        // Still as before.
        assert_eq!(crashed.reach(NET), Some(memory));
        devices.streams.lock().unwrap().retain(|(stream, _)| *stream != NET);
        for (master, stream) in masters.iter().zip([NET, IDLE, NEW]) {
            iommu.attach(master, &domain).unwrap();
            assert_eq!(crashed.reach(stream), Some(memory + 2 * PAGE), "{stream:#x}");
        }
        // Detached without ever having been attached.
        let all = add(ALL).unwrap();
        assert_eq!(iommu.end_adoption(&smmu), Err(EnableError::Claimed));
        devices.streams.lock().unwrap().retain(|(stream, _)| *stream != ALL);
        iommu.detach(&all).unwrap();
        assert_eq!(crashed.reach(ALL), None);
        devices.streams.lock().unwrap().clear();
        assert_eq!(iommu.end_adoption(&smmu), Ok(1));
        assert_eq!(crashed.reach(DISK), None);
        assert_eq!(crashed.reach(NET), Some(memory + 2 * PAGE));
        assert_eq!(free(&smmu), 0xffff - 1);
        crashed.world.set_observer(None);
        crashed.no_misuse();
    }
}

/// Streams that firmware needs (RMR) are not kept beside what is adopted: they go on by it, and a domain that maps the same
/// takes its place without a gap.
#[test]
fn what_a_new_domain_maps_as_well_is_reached_at_every_moment_of_the_attach() {
    for seed in 60..68 {
        let crashed = Arc::new(crash(seed, |profile| profile));
        let reached = [(NET, crashed.memory), (ALL, IOVA)];
        let devices = Devices { crashed: crashed.clone(), streams: Mutex::new(reached.to_vec()) };
        crashed.world.set_observer(Some(Arc::new(devices) as Arc<dyn Observer>));
        let iommu = crashed.successor(AsidPolicy::PerInstance);
        let region = Region::normal(PhysAddr(IOVA), PAGE);
        let mut probe = iommu.probe(crashed.mmio(), config()).unwrap();
        // SAFETY: RAM stays as long as the world, and nobody else is left.
        unsafe { probe.adopt(&crashed.everything()) }.unwrap();
        // SAFETY: the device is the test's.
        let kept = unsafe { probe.keep(&[StreamId(ALL)], MasterConfig::default(), &[region]) };
        assert_eq!(kept, Err(KeepError::Adopted));
        let smmu = probe.enable().unwrap();
        let masters = reached.map(|(stream, pa)| {
            let plain = MasterConfig::default();
            let master = iommu.add_master(&smmu, &[StreamId(stream)], plain).unwrap();
            let domain = iommu.create_domain(DomainConfig::default()).unwrap();
            map(&domain, pa);
            iommu.attach(&master, &domain).unwrap();
            (master, domain)
        });
        assert_eq!(iommu.end_adoption(&smmu), Ok(1));
        assert_eq!(crashed.reach(DISK), None);
        crashed.world.set_observer(None);
        crashed.no_misuse();
        drop(masters);
    }
}

/// What was not confirmed is let go of by the reset, and the entry is the driver's from then on.
#[test]
fn a_reset_ends_what_an_attach_was_to_replace() {
    let crashed = crash(17, |profile| profile);
    let iommu = crashed.successor(AsidPolicy::PerInstance);
    let (_, smmu) = adopted(&crashed, &iommu, |stream| stream == StreamId(NET));
    let net = iommu.add_master(&smmu, &[StreamId(NET)], MasterConfig::default()).unwrap();
    let domain = iommu.create_domain(DomainConfig::default()).unwrap();
    crashed.machine.model(0).unwrap().wedge_after(Some(0));
    assert!(iommu.attach(&net, &domain).is_err());
    crashed.machine.model(0).unwrap().wedge_after(None);
    iommu.reset(&smmu).unwrap();
    assert_eq!(crashed.reach(NET), None);
    assert!(net.close().is_ok());
    assert_eq!(iommu.end_adoption(&smmu), Ok(0));
    crashed.no_misuse();
}

/// Its contexts are not this driver's, which has nothing to change in them: all of it, or nothing.
#[test]
fn no_single_pasid_is_detached_from_what_was_adopted() {
    let crashed = crash(16, |profile| profile);
    let iommu = crashed.successor(AsidPolicy::PerInstance);
    let (_, smmu) = adopted(&crashed, &iommu, |_| true);
    let config = MasterConfig::default().with_pasid_bits(8);
    let disk = iommu.add_master(&smmu, &[StreamId(DISK)], config).unwrap();
    // The same number as the predecessor's.
    let pasid = iommu.allocate_pasid().unwrap();
    let reach = || {
        let access = Access { substream: Some(pasid.0), ..Access::read(DISK, IOVA) };
        crashed.machine.model(0).unwrap().translate(access).ok().map(|found| found.pa)
    };
    assert_eq!(reach(), Some(crashed.memory));
    let refused = iommu.detach_pasid(&disk, pasid).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "instance 0: the master works as it was adopted, with all its PASIDs"
    );
    assert_eq!(reach(), Some(crashed.memory));
    iommu.detach(&disk).unwrap();
    assert_eq!((reach(), crashed.reach(DISK)), (None, None));
    assert_eq!(iommu.detach_pasid(&disk, pasid), Ok(()));
    crashed.no_misuse();
}

#[test]
fn what_is_not_kept_aborts_and_the_rest_goes_on() {
    let crashed = crash(3, |profile| profile);
    let iommu = crashed.successor(AsidPolicy::PerInstance);
    let (count, smmu) = adopted(&crashed, &iommu, |stream| stream.0 == DISK);
    assert_eq!(count, 1);
    let reached = [NET, ALL, DISK, IDLE].map(|stream| crashed.reach(stream));
    assert_eq!(reached, [None, None, Some(crashed.memory + PAGE), None]);
    // It survives a power cycle: its table is as good as any.
    iommu.suspend(&smmu, &mut |_| ()).unwrap();
    crashed.machine.model(0).unwrap().power_off();
    crashed.machine.model(0).unwrap().power_on(true);
    assert_eq!(crashed.reach(DISK), None);
    iommu.resume(&smmu).unwrap();
    assert_eq!(crashed.reach(DISK), Some(crashed.memory + PAGE));
    crashed.no_misuse();
}

#[test]
fn without_adoption_everything_aborts() {
    let crashed = crash(4, |profile| profile);
    let iommu = crashed.successor(AsidPolicy::PerInstance);
    let _smmu = common::enable(&iommu, &crashed.world, 0, config());
    assert_eq!([NET, ALL, DISK].map(|stream| crashed.reach(stream)), [None; 3]);
    crashed.no_misuse();
}

/// What a predecessor had chosen (CR2) holds only as long as it is gone on with.
#[test]
fn an_adoption_that_failed_takes_nothing_from_the_next_try() {
    let crashed = crash(2, |profile| profile.hyp(true).btm(true));
    let iommu = crashed.successor(AsidPolicy::PerInstance);
    let mut config = config();
    (config.el2_host, config.broadcast) = (true, true);
    let chosen = |features: &Features| (features.e2h, features.el2_host, features.broadcast);
    let mut probe = iommu.probe(crashed.mmio(), config).unwrap();
    let before = *probe.features();
    assert_eq!(chosen(&before), (true, true, true));
    // SAFETY: RAM stays as long as the world, and nobody else is left.
    unsafe { probe.adopt(&crashed.everything()) }.unwrap();
    assert_eq!(chosen(probe.features()), (false, false, false));
    crashed.machine.model(0).unwrap().fail_next_command(1);
    let Err(refused) = probe.enable() else { panic!("a command was refused") };
    assert!(matches!(refused.error, EnableError::Commands(_)), "{}", refused.error);
    assert_eq!(*refused.value.features(), before);
    let smmu = refused.value.enable().unwrap();
    // Streams of EL2-E2H, and it takes part in broadcasts (§2.4).
    let cr2 = Cr2(crashed.machine.read32(0, Cr2::OFFSET));
    assert_eq!((cr2.e2h(), cr2.ptm()), (true, false));
    assert_eq!(*smmu.features(), before);
    crashed.no_misuse();
}

/// What is refused writes nothing, and enabling makes everything abort.
fn refused(crashed: &Crashed, remains: &dyn Remains) -> AdoptError {
    let iommu = crashed.successor(AsidPolicy::PerInstance);
    let mut probe = iommu.probe(crashed.mmio(), config()).unwrap();
    let before = [0x20, 0x28, 0x2c, 0x44, 0x80, 0x88, 0x90].map(|at| crashed.machine.read32(0, at));
    // SAFETY: RAM stays as long as the world, and nobody else is left.
    let error = unsafe { probe.adopt(remains) }.unwrap_err();
    let after = [0x20, 0x28, 0x2c, 0x44, 0x80, 0x88, 0x90].map(|at| crashed.machine.read32(0, at));
    assert_eq!(before, after);
    let _smmu = probe.enable().unwrap();
    assert_eq!([NET, ALL, DISK].map(|stream| crashed.reach(stream)), [None; 3], "{error}");
    error
}

#[test]
fn structures_that_lie_are_refused_by_name() {
    let lie = |change: fn(&Crashed)| {
        let crashed = crash(5, |profile| profile);
        change(&crashed);
        refused(&crashed, &crashed.everything())
    };
    // A level-1 descriptor that leads out of memory, to the first level itself, and to another's leaf.
    let outside = lie(|crashed| {
        crashed.put(crashed.table.0.addr() + 8, 0x10_0000_0000 | 9);
    });
    let what = Structure::StreamLeaf;
    assert_eq!(outside, AdoptError::Outside { what, pa: 0x10_0000_0000 });
    let itself = lie(|crashed| {
        let base = crashed.table.0.addr() & !0x3fff;
        crashed.put(crashed.table.0.addr() + 8, base | 9);
    });
    assert!(matches!(itself, AdoptError::Overlap { .. } | AdoptError::Entry { .. }), "{itself}");
    let twice = lie(|crashed| {
        let base = crashed.table.0.addr();
        crashed.put(base + 8, crashed.get(base));
    });
    assert!(matches!(twice, AdoptError::Overlap { what: Structure::StreamLeaf, .. }), "{twice}");
    let crooked = lie(|crashed| {
        let base = crashed.table.0.addr();
        crashed.put(base + 8, ((crashed.get(base) & !0x3f) + 0x40) | 9);
    });
    assert!(matches!(crooked, AdoptError::Misaligned { .. }), "{crooked}");
    // An entry whose contexts are nowhere, and one with a reserved world.
    let nowhere = lie(|crashed| {
        let entry = crashed.entry(NET);
        crashed.put(entry, crashed.get(entry) & !0x00ff_ffff_ffff_ffc0 | 0x10_0000_0000);
    });
    let what = Structure::Contexts;
    assert_eq!(nowhere, AdoptError::Outside { what, pa: 0x10_0000_0000 });
    let illegal = lie(|crashed| {
        let entry = crashed.entry(DISK);
        crashed.put(entry, crashed.get(entry) | 31 << 59);
    });
    assert!(matches!(illegal, AdoptError::Entry { stream: StreamId(DISK), .. }), "{illegal}");
    // One that answers for its neighbours (CONT), whose streams could not be changed one by one.
    let contiguous = lie(|crashed| {
        let word = crashed.entry(DISK) + 8;
        crashed.put(word, crashed.get(word) | 3 << 13);
    });
    assert_eq!(contiguous, AdoptError::Contiguous { stream: StreamId(DISK), cont: 3 });
    // A context whose tables are nowhere, and one with another granule.
    let contexts = |crashed: &Crashed| crashed.get(crashed.entry(NET)) & 0x00ff_ffff_ffff_ffc0;
    let crashed = crash(6, |profile| profile);
    crashed.put(contexts(&crashed) + 8, 0x4_0000_0000);
    let what = Structure::Table;
    let error = refused(&crashed, &crashed.everything());
    assert_eq!(error, AdoptError::Outside { what, pa: 0x4_0000_0000 });
    let crashed = crash(6, |profile| profile);
    let at = contexts(&crashed);
    crashed.put(at, crashed.get(at) | 3 << 6);
    let error = refused(&crashed, &crashed.everything());
    assert!(matches!(error, AdoptError::Context { substream: 0, .. }), "{error}");
}

/// Memory that ends early.
struct Little(Ram);

impl Remains for Little {
    fn read(&self, pa: u64) -> Option<u64> {
        (pa < RAM_BASE + 0x1000).then(|| self.0.read64(pa))?
    }
}

#[test]
fn an_smmu_that_is_off_or_whose_memory_is_not_vouched_for_is_not_adopted() {
    let crashed = crash(7, |profile| profile);
    let little = Little(crashed.machine.ram().clone());
    assert!(matches!(refused(&crashed, &little), AdoptError::Outside { .. }));
    let crashed = crash(7, |profile| profile);
    let cr0 = Cr0(crashed.machine.read32(0, Cr0::OFFSET)).with_smmuen(false);
    crashed.machine.write32(0, Cr0::OFFSET, cr0.0);
    assert_eq!(crashed.adopt(&crashed.everything()), Err(AdoptError::Off));
}

/// Whatever is in memory: an answer, in bounded time, and nothing is written. If it is taken over, hardware agrees
/// that kept streams do what they did.
#[test]
fn no_memory_is_too_wrong_to_be_looked_through() {
    let (mut good, mut bad) = (0, 0);
    for seed in 0..400u64 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let crashed = crash(seed % 8, |profile| profile);
        let base = crashed.table.0.addr();
        let contexts = |stream| crashed.get(crashed.entry(stream)) & 0x00ff_ffff_ffff_ffc0;
        let places = [base, crashed.entry(NET), crashed.entry(DISK), contexts(NET), contexts(DISK)];
        for _ in 0..rng.u32(1..=6) {
            let at = places[rng.usize(0..places.len())] + 8 * rng.u64(0..4);
            let value = match rng.u8(0..4) {
                0 => rng.u64(..),
                1 => crashed.get(at) ^ 1 << rng.u32(0..64),
                2 => base | rng.u64(0..16),
                _ => places[rng.usize(0..places.len())] | rng.u64(0..64),
            };
            crashed.put(at, value);
        }
        let iommu = crashed.successor(AsidPolicy::PerInstance);
        let mut probe = iommu.probe(crashed.mmio(), config()).unwrap();
        // SAFETY: as elsewhere.
        match unsafe { probe.adopt(&crashed.everything()) } {
            Ok(_) => {
                good += 1;
                let smmu = probe.enable().unwrap();
                iommu.end_adoption(&smmu).unwrap();
                assert_eq!([NET, ALL, DISK].map(|it| crashed.reach(it)), [None; 3], "{seed}");
            }
            Err(_) => {
                bad += 1;
                let _smmu = probe.enable().unwrap();
                assert_eq!([NET, ALL, DISK].map(|it| crashed.reach(it)), [None; 3], "{seed}");
            }
        }
    }
    println!("{good} taken, {bad} refused");
    assert!(good > 20 && bad > 50);
}

/// A device that is blocked tries to be believed in what is translated, having made the SMMU read its entry at every moment
/// of an adoption from a driver that checked nothing.
struct Liar(Arc<Crashed>);

impl Observer for Liar {
    fn at(&self, _point: Point, _interruptible: bool) {
        self.0.machine.act();
        assert_eq!(self.0.reach(IDLE), None);
    }
}

#[test]
fn what_devices_say_is_translated_is_checked_whenever_the_entry_was_read() {
    for seed in 0..8 {
        let crashed = Arc::new(crash(seed, |profile| Profile {
            idr0: profile.idr0.with_ats(true),
            ..profile
        }));
        let translated = || {
            let mut model = crashed.machine.model(0).unwrap();
            model.translated(Access::read(IDLE, crashed.memory)).is_ok()
        };
        let cr0 = Cr0(crashed.machine.read32(0, Cr0::OFFSET));
        assert!(cr0.atschk());
        crashed.machine.write32(0, Cr0::OFFSET, cr0.with_atschk(false).0);
        while Cr0(crashed.machine.read32(0, Cr0Ack::OFFSET)).atschk() {
            crashed.machine.act();
        }
        assert!(translated());
        let iommu = crashed.successor(AsidPolicy::PerInstance);
        crashed.world.set_observer(Some(Arc::new(Liar(crashed.clone()))));
        let (_, smmu) = adopted(&crashed, &iommu, |_| true);
        crashed.world.set_observer(None);
        assert!(!translated(), "seed {seed}");
        assert!(smmu.features().checks_translated());
        crashed.no_misuse();
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stream tables of both shapes: what is in registers and memory, which streams have an entry, and what an SMMU
//! makes of the others. Words are written by hand from §2.5, §5.1 and §5.2.

mod common;

use smmuv3_testbench::inside::Inside as _;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};

use smmuv3::features::IdRegisters;
use smmuv3::instance::Probed;
use smmuv3::stream_table::StreamTable;
use smmuv3::{
    AddMasterError, Attributes, Config, DomainConfig, Features, InstanceConfig, Interrupt, Iommu,
    Iova, MasterConfig, PhysAddr, Prot, Report, Split, StreamId, StreamTableShape,
};
use smmuv3_formats::command::{CfgiSte, CfgiSteRange};
use smmuv3_formats::{EventId, Opcode};
use smmuv3_model::Access;
use smmuv3_testbench::frees::Frees;
use smmuv3_testbench::machine_model::{ModelMachine, profile};
use smmuv3_testbench::platform::{Observer, Point, TestMmio, TestPlatform, World};
use smmuv3_testbench::scenario::Scenario;

use StreamTableShape::{Automatic, Linear, TwoLevel};

const SIX: StreamTableShape = TwoLevel { split: Split::Six };
const EIGHT: StreamTableShape = TwoLevel { split: Split::Eight };
const TEN: StreamTableShape = TwoLevel { split: Split::Ten };

/// A machine whose only SMMU has so many StreamID bits.
fn world(sid_bits: u32, two_levels: bool) -> Arc<World> {
    let text = format!(
        "name = \"streams\"\n[[instance]]\nname = \"smmu\"\nsid-bits = {sid_bits}\n\
         [[master]]\nname = \"nic\"\ninstance = \"smmu\"\nstreams = [0]\n"
    );
    let scenario = Scenario::parse(&text, "streams").unwrap_or_else(|errors| panic!("{errors}"));
    let machine = ModelMachine::with_profiles(&scenario, 1, |instance| {
        // Also beyond 6 bits, where §2.3 wants two levels.
        let mut profile = profile(instance);
        profile.idr0 = profile.idr0.with_st_level(two_levels.into());
        profile
    });
    World::new(Arc::new(machine.unwrap()), 1)
}

fn mmio(world: &Arc<World>) -> TestMmio {
    TestMmio { world: world.clone(), instance: 0 }
}

fn features(world: &Arc<World>) -> Features {
    Features::decode(IdRegisters::read(&mmio(world))).unwrap()
}

fn words(world: &World, pa: u64) -> [u64; 8] {
    std::array::from_fn(|index| world.machine().ram().read64(pa + 8 * index as u64).unwrap())
}

/// A table of 2^`log2` streams. Everything here has one platform.
fn new_table(
    platform: &TestPlatform,
    features: &Features,
    shape: StreamTableShape,
    log2: u32,
) -> Option<StreamTable> {
    // SAFETY: each test has one world, and so one platform.
    unsafe { StreamTable::new(platform, features, shape, log2) }
}

/// What an access of `stream` comes to: the event that it was refused with, if any.
fn refused(world: &World, stream: u32, iova: u64) -> Option<EventId> {
    let mut model = world.machine().model(0).unwrap();
    let refusal = model.translate(Access::write(stream, iova)).unwrap_err();
    refusal.event.map(|event| {
        assert_eq!(event.sid(), u64::from(stream));
        event.event().unwrap()
    })
}

#[track_caller]
fn assert_nothing_left(world: &World) {
    let frames = world.frames();
    assert_eq!((frames.live_bytes(), frames.bad_frees()), (0, 0));
}

#[test]
fn the_registers_and_the_memory_of_a_table_follow_its_shape() {
    let world = world(32, true);
    let platform = TestPlatform(world.clone());
    for (shape, log2, register, bytes) in [
        (Linear, 0, 0x0_0000, 64),
        (Linear, 16, 0x0_0010, 4 << 20),
        (Automatic, 0, 0x0_0000, 64),
        (Automatic, 8, 0x0_0008, 16 << 10),
        (Automatic, 9, 0x1_0209, 64),
        (Automatic, 16, 0x1_0210, 2 << 10),
        (Automatic, 25, 0x1_0219, 1 << 20),
        (Automatic, 26, 0x1_029a, 512 << 10),
        (Automatic, 32, 0x1_02a0, 32 << 20),
        (SIX, 0, 0x1_0180, 64),
        (SIX, 6, 0x1_0186, 64),
        (SIX, 20, 0x1_0194, 128 << 10),
        (EIGHT, 16, 0x1_0210, 2 << 10),
        (TEN, 9, 0x1_0289, 64),
    ] {
        let table = new_table(&platform, &features(&world), shape, log2).unwrap();
        let context = format!("{shape:?}, {log2} bits");
        assert_eq!(table.config_register().0, register, "{context}");
        let live: Vec<_> = world.frames().live().collect();
        let [(base, taken)] = live[..] else { panic!("{context}: {live:?}") };
        assert_eq!((taken, base % bytes), (bytes, 0), "{context}");
        assert_eq!(table.base_register().0, 1 << 62 | base, "{context}");
        // SAFETY: no SMMU was told of it.
        unsafe { table.free(&platform) };
        assert_nothing_left(&world);
    }
}

#[test]
fn an_smmu_without_two_levels_gets_a_linear_table_of_16_bits_unless_more_are_asked_for() {
    let world = world(6, false);
    let platform = TestPlatform(world.clone());
    for (shape, log2, bits) in [
        (Linear, 9, 9),
        (Automatic, 9, 9),
        (SIX, 9, 9),
        (EIGHT, 16, 16),
        (Automatic, 16, 16),
        (Automatic, 17, 16),
        (TEN, 32, 16),
        (Linear, 17, 17),
    ] {
        let table = new_table(&platform, &features(&world), shape, log2).unwrap();
        let context = format!("{shape:?}, {log2} bits");
        assert_eq!((table.config_register().0, table.split()), (bits, None), "{context}");
        assert_eq!(world.frames().live_bytes(), 64 << bits, "{context}");
        // SAFETY: no SMMU was told of it.
        unsafe { table.free(&platform) };
    }
}

#[test]
fn a_descriptor_leads_to_a_whole_leaf_of_entries_that_abort() {
    let world = world(32, true);
    let platform = TestPlatform(world.clone());
    let features = features(&world);
    // Span is one more than log2 of the entries.
    for (shape, log2, stream, slot, span, entries) in [
        (SIX, 16, 0x1203, 0x48, 7, 64),
        (EIGHT, 16, 0x1203, 0x12, 9, 256),
        (TEN, 16, 0x1203, 0x4, 11, 1024),
        (EIGHT, 5, 0x1f, 0, 6, 32),
        (SIX, 0, 0, 0, 1, 1),
        (TEN, 32, u32::MAX, 0x3f_ffff, 11, 1024),
    ] {
        let context = format!("{shape:?}, {log2} bits");
        let table = new_table(&platform, &features, shape, log2).unwrap();
        assert_eq!(table.entry(&platform, StreamId(stream)), None, "{context}");
        let (base, _) = world.frames().live().next().unwrap();
        // SAFETY: the test is alone.
        unsafe { table.make_room(&platform, &features, &[StreamId(stream)]) }.unwrap();
        let (leaf, bytes) = world.frames().live().find(|(start, _)| *start != base).unwrap();
        assert_eq!((bytes, leaf % bytes), (64 * entries, 0), "{context}");
        let word = world.machine().ram().read64(base + 8 * slot);
        assert_eq!(word, Some(leaf | span), "{context}");
        for index in 0..entries {
            assert_eq!(words(&world, leaf + 64 * index), [1, 0, 0, 0, 0, 0, 0, 0], "{context}");
        }
        let entry = table.entry(&platform, StreamId(stream)).unwrap();
        assert_eq!(entry.address().0, leaf + 64 * (u64::from(stream) % entries), "{context}");
        // SAFETY: no SMMU was told of it.
        unsafe { table.free(&platform) };
    }
    assert_nothing_left(&world);
}

#[test]
fn streams_share_leaves_and_those_beyond_the_table_have_none() {
    let world = world(32, true);
    let platform = TestPlatform(world.clone());
    let features = features(&world);
    for (shape, log2, inside, outside, leaves) in [
        (TEN, 32, &[0, 1023, 1024, 0x7fff_ffff, 0x8000_0000, u32::MAX][..], &[][..], 5 << 16),
        (TEN, 11, &[0, 1023, 1024, 2047], &[2048, 0x8000_0000, u32::MAX], 2 << 16),
        // The first index holds both.
        (EIGHT, 5, &[0x10], &[0x20], 2 << 10),
    ] {
        let table = new_table(&platform, &features, shape, log2).unwrap();
        let first_level = world.frames().live_bytes();
        let streams: Vec<StreamId> =
            inside.iter().chain(outside).rev().copied().map(StreamId).collect();
        for _ in 0..2 {
            // SAFETY: the test is alone.
            unsafe { table.make_room(&platform, &features, &streams) }.unwrap();
            assert_eq!(world.frames().live_bytes() - first_level, leaves);
        }
        let mut entries: Vec<u64> = inside
            .iter()
            .map(|stream| table.entry(&platform, StreamId(*stream)).unwrap().address().0)
            .collect();
        entries.sort_unstable();
        entries.dedup();
        assert_eq!(entries.len(), inside.len());
        for stream in outside {
            assert!(!table.reaches(StreamId(*stream)), "{stream:#x}");
            assert_eq!(table.entry(&platform, StreamId(*stream)), None, "{stream:#x}");
        }
        // SAFETY: no SMMU was told of it.
        unsafe { table.free(&platform) };
    }
    assert_nothing_left(&world);
}

/// Looks at every descriptor at the moment at which it becomes valid.
struct Links {
    world: Arc<World>,
    first_level: OnceLock<Range<u64>>,
    links: Mutex<Vec<u64>>,
    published: Mutex<Vec<Range<u64>>>,
}

impl Links {
    fn watch(world: &Arc<World>) -> Arc<Self> {
        let links = Arc::new(Self {
            world: world.clone(),
            first_level: OnceLock::new(),
            links: Mutex::default(),
            published: Mutex::default(),
        });
        world.set_observer(Some(links.clone()));
        links
    }

    fn was_published(&self, pa: u64, bytes: u64) -> bool {
        self.published.lock().unwrap().contains(&(pa..pa + bytes))
    }
}

impl Observer for Links {
    fn at(&self, point: Point, _interruptible: bool) {
        let ram = self.world.machine().ram();
        for pa in self.first_level.get().cloned().unwrap_or_default().step_by(8) {
            let word = ram.read64(pa).unwrap();
            let (leaf, span) = (word & !0x3f, word & 0x1f);
            if span != 0 && !self.links.lock().unwrap().contains(&pa) {
                assert_eq!(point, Point::Published { pa, bytes: 8 });
                assert!(self.was_published(leaf, 64 << (span - 1)), "{leaf:#x}");
                for entry in 0..1u64 << (span - 1) {
                    assert_eq!(ram.read64(leaf + 64 * entry), Some(1), "entry {entry}");
                }
                self.links.lock().unwrap().push(pa);
            }
        }
        if let Point::Published { pa, bytes } = point {
            self.published.lock().unwrap().push(pa..pa + bytes);
        }
    }
}

#[test]
fn a_table_is_published_before_anybody_learns_of_it() {
    let world = world(12, true);
    let platform = TestPlatform(world.clone());
    let links = Links::watch(&world);
    for (shape, bytes) in [(Linear, 256 << 10), (SIX, 512), (EIGHT, 128), (TEN, 64)] {
        let table = new_table(&platform, &features(&world), shape, 12).unwrap();
        assert!(links.was_published(table.base_register().addr(), bytes), "{shape:?}");
    }
    world.set_observer(None);
}

#[test]
fn entries_are_there_before_the_descriptor_that_leads_to_them() {
    let world = world(12, true);
    let platform = TestPlatform(world.clone());
    let features = features(&world);
    let table = new_table(&platform, &features, EIGHT, 12).unwrap();
    let base = table.base_register().addr();
    let links = Links::watch(&world);
    links.first_level.set(base..base + 128).unwrap();
    let streams = [0x501, 0x5ff, 0xfff, 0].map(StreamId);
    // SAFETY: the test is alone.
    unsafe { table.make_room(&platform, &features, &streams) }.unwrap();
    world.set_observer(None);
    assert_eq!(*links.links.lock().unwrap(), [base + 0x28, base + 0x78, base]);
}

/// The layer without a heap; and what the SMMU does if nobody tells it.
#[test]
fn a_descriptor_that_became_valid_counts_only_when_the_smmu_was_told() {
    let world = world(16, true);
    let platform = TestPlatform(world.clone());
    let probed = Probed::new(mmio(&world), InstanceConfig::named("smmu")).unwrap();
    // SAFETY: it is used with this platform only.
    let instance = unsafe { probed.enable(&platform) }.unwrap();
    let stream = StreamId(0x1203);
    assert_eq!(refused(&world, stream.0, 0), Some(EventId::CBadStreamId));
    // SAFETY: the test is alone.
    unsafe { instance.streams().make_room(&platform, instance.features(), &[stream]) }.unwrap();
    assert_eq!(refused(&world, stream.0, 0), Some(EventId::CBadStreamId), "it was kept");
    instance.forget_streams(&platform, &[stream]).unwrap();
    assert_eq!(refused(&world, stream.0, 0), Some(EventId::CBadStreamId), "entries only");
    let _ = world.take_commands();
    instance.forget_descriptors(&platform, &[stream]).unwrap();
    let told = world.take_commands();
    assert_eq!(told[0], (0, CfgiSte::new().with_sid(0x1203).into()));
    assert_eq!(refused(&world, stream.0, 0), None, "the entry aborts, silently");
    // A neighbour in the leaf, too.
    assert_eq!(refused(&world, 0x12ff, 0), None);
    // A reset keeps the leaf.
    instance.start(&platform).unwrap();
    assert_eq!(refused(&world, stream.0, 0), None);
    instance.stop(&platform).unwrap();
    let frees = Frees::watch(&world, 1);
    // SAFETY: it confirmed that it is off.
    unsafe { instance.dismantle(&platform) };
    frees.finish();
    assert_nothing_left(&world);
}

/// All functions of a large device: each step of their entries takes one command and a CMD_SYNC where they are a run, and
/// one CMD_SYNC for 64 of them wherever they are. None names a neighbour's.
#[test]
fn a_master_of_many_streams_is_changed_by_a_few_commands_that_name_no_others() {
    let run: Vec<StreamId> = (0x400..0x800).map(StreamId).collect();
    let odd: Vec<StreamId> = (0x200..0x600).map(|nth| StreamId(2 * nth + 1)).collect();
    // What one step names: first streams, and how many.
    let whole = vec![(0x400, 0x400)];
    let apart: Vec<(u64, u64)> = odd.iter().map(|it| (u64::from(it.0), 1)).collect();
    for (streams, step, syncs) in [(run, whole, 1), (odd, apart, 16)] {
        let world = world(16, true);
        let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
        let smmu = iommu.probe(mmio(&world), InstanceConfig::named("smmu")).unwrap();
        let smmu = smmu.enable().unwrap();
        let add = |streams: &[StreamId]| {
            iommu.add_master(&smmu, streams, MasterConfig::default()).unwrap()
        };
        let (first, last) = (streams[0].0, streams[streams.len() - 1].0);
        let _neighbours = [first - 1, last + 1].map(|stream| add(&[StreamId(stream)]));
        // CMD_SYNCs, and the streams of all other commands.
        let said = || {
            let (mut syncs, mut named) = (0, Vec::new());
            for (_, command) in world.take_commands() {
                match command.opcode() {
                    Some(Opcode::Sync) => syncs += 1,
                    Some(Opcode::CfgiSte) => named.push((CfgiSte(command.0).sid(), 1)),
                    Some(Opcode::CfgiSteRange) => {
                        let range = CfgiSteRange(command.0);
                        named.push((range.sid(), 2 << range.range()));
                    }
                    _ => panic!("{command}"),
                }
            }
            (syncs, named)
        };
        let _ = world.take_commands();
        let master = add(&streams);
        let once = |(times, named): (usize, Vec<(u64, u64)>)| {
            println!("{times} CMD_SYNCs, {} others", named.len());
            assert!(times <= syncs, "{times} CMD_SYNCs");
            assert_eq!(named, step);
        };
        let twice = |(times, named): (usize, Vec<(u64, u64)>)| {
            let (one, other) = named.split_at(named.len() / 2);
            assert_eq!(one, other);
            once((times / 2, one.to_vec()));
        };
        once(said());
        let domain = iommu.create_domain(DomainConfig::default()).unwrap();
        iommu.attach(&master, &domain).unwrap();
        twice(said());
        for stream in [streams[0], streams[1023]] {
            assert_eq!(refused(&world, stream.0, 0x1000), Some(EventId::FTranslation));
        }
        assert_eq!(refused(&world, first - 1, 0x1000), None, "it aborts");
        iommu.detach(&master).unwrap();
        assert_eq!(refused(&world, streams[512].0, 0x1000), None, "it aborts");
    }
}

/// Adds a master of `stream` and lets it reach memory; then everything is taken down.
fn works(world: &Arc<World>, config: InstanceConfig, stream: u32, beyond: Option<u32>) {
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    let probe = iommu.probe(mmio(world), config).unwrap();
    let smmu = probe.enable().unwrap();
    let streams = smmu.inside().streams();
    let (bits, two_levels) = (streams.log2(), streams.split().is_some());
    let frees = Frees::watch(world, 1);
    let events = || {
        let mut events = Vec::new();
        let _ = iommu.handle_interrupt(&smmu, Interrupt::Any, 8, &mut |report| match report {
            Report::Event(record) => events.push((record.event().unwrap(), record.sid() as u32)),
            other => panic!("{other:?}"),
        });
        events
    };
    // Before it is added: reported where there is no entry.
    let bad = (EventId::CBadStreamId, stream);
    assert_eq!(refused(world, stream, 0x1000), two_levels.then_some(bad.0));
    assert_eq!(events(), if two_levels { vec![bad] } else { vec![] });
    if let Some(beyond) = beyond {
        assert_eq!(refused(world, beyond, 0x1000), Some(EventId::CBadStreamId));
        assert_eq!(events(), [(EventId::CBadStreamId, beyond)]);
        let error = AddMasterError::OutOfRange { stream: StreamId(beyond), bits };
        assert_eq!(
            iommu.add_master(&smmu, &[StreamId(beyond)], MasterConfig::default()).err(),
            Some(error)
        );
    }
    let master = iommu.add_master(&smmu, &[StreamId(stream)], MasterConfig::default()).unwrap();
    assert_eq!((refused(world, stream, 0x1000), events()), (None, vec![]));
    let domain = iommu.create_domain(DomainConfig::default()).unwrap();
    let memory = world.frames().allocate(0x1000, 0x1000).unwrap();
    let attributes = Attributes::normal(Prot::READ | Prot::WRITE);
    // SAFETY: the memory lives as long as the test, which is alone.
    unsafe { domain.map(Iova(0x1000), PhysAddr(memory), 0x1000, attributes).unwrap() };
    iommu.attach(&master, &domain).unwrap();
    let reached = |world: &World| {
        let mut model = world.machine().model(0).unwrap();
        model.translate(Access::write(stream, 0x1008)).map(|to| to.pa).ok()
    };
    assert_eq!(reached(world), Some(memory + 8));
    iommu.reset(&smmu).unwrap();
    assert_eq!(reached(world), Some(memory + 8), "after a reset");
    iommu.detach(&master).unwrap();
    assert_eq!((refused(world, stream, 0x1008), events()), (None, vec![]));
    assert!(master.close().is_ok() && domain.close().is_ok());
    assert!(iommu.remove(smmu).is_ok());
    drop(iommu);
    frees.finish();
    world.frames().free(memory, 0x1000);
    assert_nothing_left(world);
}

#[test]
fn an_smmu_works_as_it_comes_whatever_its_streams() {
    for (sid_bits, two_levels, last, beyond) in [
        (0, true, 0, Some(1)),
        (0, false, 0, Some(1)),
        (6, false, 63, Some(64)),
        (16, true, 0xffff, Some(0x1_0000)),
        (32, false, 0xffff, Some(0x1_0000)),
        (32, true, 0x1ff_ffff, Some(0x200_0000)),
    ] {
        let world = world(sid_bits, two_levels);
        works(&world, InstanceConfig::named("smmu"), last, beyond);
    }
}

#[test]
fn every_stream_can_be_had_with_either_shape() {
    for (sid_bits, shape, last, beyond) in [
        (0, SIX, 0, Some(1)),
        (5, EIGHT, 31, Some(32)),
        (16, Linear, 0xffff, Some(0x1_0000)),
        (16, TEN, 0xffff, Some(0x1_0000)),
        (32, Automatic, u32::MAX, None),
    ] {
        let world = world(sid_bits, true);
        let mut config = InstanceConfig::named("smmu");
        (config.sid_bits, config.stream_table) = (sid_bits, shape);
        works(&world, config, last, beyond);
    }
}

/// Bytes of a context, and of the one beside it.
const CONTEXT: u64 = 128;

#[test]
fn the_memory_of_a_16_bit_instance_is_that_of_the_streams_in_use() {
    let world = world(16, true);
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    let probe = iommu.probe(mmio(&world), InstanceConfig::named("smmu")).unwrap();
    let smmu = probe.enable().unwrap();
    assert!(world.frames().live_bytes() < 32 << 10, "{}", world.frames().live_bytes());
    let mut masters = Vec::new();
    for (streams, leaves) in [(&[0x100, 0x1ff][..], 1), (&[0x101], 0), (&[0x200, 0x300], 2)] {
        let before = world.frames().live_bytes();
        let streams: Vec<StreamId> = streams.iter().copied().map(StreamId).collect();
        masters.push(iommu.add_master(&smmu, &streams, MasterConfig::default()).unwrap());
        assert_eq!(world.frames().live_bytes() - before, CONTEXT + leaves * (16 << 10));
    }
    // What is closed gives back its context; the leaf stays for whoever comes next.
    let before = world.frames().live_bytes();
    assert!(masters.remove(0).close().is_ok());
    assert_eq!(world.frames().live_bytes(), before - CONTEXT);
    masters.push(iommu.add_master(&smmu, &[StreamId(0x1ff)], MasterConfig::default()).unwrap());
    assert_eq!(world.frames().live_bytes(), before);
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! A display that firmware left working while the SMMU is taken into use: it writes at every single step of that, and
//! arrives each time; afterwards everything else aborts.

mod common;

use std::sync::{Arc, Mutex};

use smmuv3::{
    AddMasterError, AsidPolicy, Config, DomainConfig, InstanceConfig, Iommu, Iova, KeepError,
    MasterConfig, PhysAddr, Probe, Region, Smmu, StreamId,
};
use smmuv3_formats::EventId;
use smmuv3_formats::register::{Cr0Ack, Gbpa};
use smmuv3_model::{Access, Profile};
use smmuv3_testbench::machine::{Dma, Outcome};
use smmuv3_testbench::machine_model::{ModelMachine, profile};
use smmuv3_testbench::platform::{Observer, Point, TestMmio, TestPlatform, World};
use smmuv3_testbench::run::{Options, run};
use smmuv3_testbench::scenario::Scenario;

const SCENARIO: &str = r#"
name = "keep"
[[instance]]
name = "smmu"
ssid-bits = 8
two-level-contexts = true
[[master]]
name = "display"
instance = "smmu"
streams = [5]
[[master]]
name = "cursor"
instance = "smmu"
streams = [6]
[[master]]
name = "nic"
instance = "smmu"
streams = [9]
"#;

const DISPLAY: usize = 0;
const CURSOR: usize = 1;
const NIC: usize = 2;
const STREAMS: [StreamId; 2] = [StreamId(5), StreamId(6)];
const PAGE: u64 = 0x1000;
/// Of the frame buffer: blocks and pages.
const BYTES: u64 = (2 << 20) + 3 * PAGE;

struct Setup {
    world: Arc<World>,
    /// Of the frame buffer; the pages in front of it and behind it are others'.
    buffer: u64,
}

/// The display's writes, at every step of the driver.
struct Picture {
    world: Arc<World>,
    at: Mutex<Seen>,
    buffer: u64,
}

#[derive(Default)]
struct Seen {
    steps: usize,
    /// Steps at which a write did not arrive, and whether the SMMU was on.
    lost: Vec<(usize, bool)>,
    /// Values of GBPA.ABORT while the SMMU was off.
    aborts_while_off: Vec<bool>,
}

impl Observer for Picture {
    fn at(&self, _: Point, _: bool) {
        self.look();
    }
}

impl Picture {
    fn look(&self) {
        let mut seen = self.at.lock().unwrap();
        // The SMMU gets as far as it can, and prefetches, before each.
        self.world.machine().act();
        let on = {
            let mut model = self.world.machine().model(0).unwrap();
            let on = model.read32(Cr0Ack::OFFSET) & 1 == 1;
            if !on {
                seen.aborts_while_off.push(Gbpa(model.read32(Gbpa::OFFSET)).abort());
            }
            on
        };
        let step = seen.steps;
        seen.steps += 1;
        for (master, offset) in [(DISPLAY, step as u64 * 8 % BYTES), (CURSOR, BYTES - 8)] {
            let iova = self.buffer + offset;
            let outcome = dma(&self.world, master, iova);
            if outcome != Outcome::Reached(iova) {
                seen.lost.push((step, on));
            }
        }
    }
}

fn dma(world: &World, master: usize, iova: u64) -> Outcome {
    world.machine().dma(master, None, iova, Dma::Write(&[0x5a; 8])).unwrap()[0].outcome
}

impl Setup {
    fn new(seed: u64, change: impl Fn(Profile) -> Profile) -> Self {
        let scenario = common::parse(SCENARIO);
        let machine =
            ModelMachine::with_profiles(&scenario, seed, |instance| change(profile(instance)));
        let world = World::new(Arc::new(machine.unwrap()), 1);
        let memory = world.frames().allocate(8 << 20, 2 << 20).unwrap();
        Self { world, buffer: memory + (2 << 20) }
    }

    fn iommu(&self, policy: AsidPolicy) -> Iommu<TestPlatform> {
        let mut config = Config::default();
        config.asid_policy = policy;
        Iommu::new(TestPlatform(self.world.clone()), config).unwrap()
    }

    fn probe(&self, iommu: &Iommu<TestPlatform>, config: InstanceConfig) -> Probe<TestPlatform> {
        iommu.probe(TestMmio { world: self.world.clone(), instance: 0 }, config).unwrap()
    }

    fn region(&self) -> Region {
        Region::normal(PhysAddr(self.buffer), BYTES)
    }

    fn keep(&self, probe: &mut Probe<TestPlatform>, bits: u32) {
        let config = MasterConfig::default().with_pasid_bits(bits);
        // SAFETY: the memory is the display's.
        unsafe { probe.keep(&STREAMS, config, &[self.region()]) }.unwrap();
    }

    /// Does `call` while the display writes.
    fn watched<R>(&self, call: impl FnOnce() -> R) -> (R, Seen) {
        let (world, buffer) = (self.world.clone(), self.buffer);
        let picture = Arc::new(Picture { world, at: Mutex::default(), buffer });
        self.world.set_observer(Some(picture.clone()));
        let result = call();
        picture.look();
        self.world.set_observer(None);
        let seen = std::mem::take(&mut *picture.at.lock().unwrap());
        (result, seen)
    }

    fn gbpa_aborts(&self) -> bool {
        Gbpa(self.world.machine().read32(0, Gbpa::OFFSET)).abort()
    }

    /// Lets firmware take the SMMU into use, with every stream of the display passing, and GBPA as said.
    fn firmware(&self, aborts: bool) {
        let iommu = self.iommu(AsidPolicy::PerInstance);
        let smmu = self.probe(&iommu, config()).enable().unwrap();
        let master = iommu.add_master(&smmu, &STREAMS, MasterConfig::default()).unwrap();
        // SAFETY: the display only does what the test tells it to.
        unsafe { iommu.attach_identity(&master) }.unwrap();
        let machine = self.world.machine();
        let gbpa = Gbpa::default().with_sh_cfg(1).with_abort(aborts).with_update(true);
        machine.write32(0, Gbpa::OFFSET, gbpa.0);
        while Gbpa(machine.read32(0, Gbpa::OFFSET)).update() {}
        // Its memory stays: nobody tells the next owner of it.
        std::mem::forget((iommu, smmu, master));
    }

    /// What `stream` is refused with at `iova`: `Some(None)` if silently, `None` if it is not.
    fn refusal(&self, stream: u32, iova: u64) -> Option<Option<EventId>> {
        let mut model = self.world.machine().model(0).unwrap();
        let refusal = model.translate(Access::write(stream, iova)).err()?;
        Some(refusal.event.and_then(|event| event.event()))
    }

    /// Kept streams reach the frame buffer only, and nobody else reaches anything.
    #[track_caller]
    fn check_enabled(&self) {
        let inside = [self.buffer, self.buffer + BYTES - 8];
        for iova in inside {
            assert_eq!(dma(&self.world, DISPLAY, iova), Outcome::Reached(iova), "{iova:#x}");
            assert_eq!(dma(&self.world, CURSOR, iova), Outcome::Reached(iova), "{iova:#x}");
        }
        for iova in [self.buffer - 8, self.buffer + BYTES, 0] {
            for stream in [5, 6] {
                let refused = self.refusal(stream, iova);
                assert_eq!(refused, Some(Some(EventId::FTranslation)), "{iova:#x}");
            }
        }
        assert_eq!(self.refusal(9, self.buffer), Some(None));
        assert!(self.gbpa_aborts());
    }
}

fn config() -> InstanceConfig {
    let mut config = InstanceConfig::named("smmu");
    config.command_queue_log2 = 4;
    config.sid_bits = 10;
    config
}

/// Takes the kept master over, then gives everything back.
#[track_caller]
fn take_over(setup: &Setup, iommu: Iommu<TestPlatform>, smmu: Smmu<TestPlatform>, before: u64) {
    assert!(iommu.take_kept(&smmu, StreamId(9)).is_none());
    let taken = iommu.add_master(&smmu, &[StreamId(6)], MasterConfig::default());
    assert_eq!(taken.err(), Some(AddMasterError::Taken { stream: StreamId(6) }));
    let (display, domain) = iommu.take_kept(&smmu, StreamId(6)).unwrap();
    assert!(STREAMS.iter().all(|stream| iommu.take_kept(&smmu, *stream).is_none()));
    assert_eq!((display.instance(), domain.targets().unwrap().len()), (smmu.id(), 1));
    // Once more through a reset: as any other master.
    iommu.reset(&smmu).unwrap();
    setup.check_enabled();
    // SAFETY: the test is alone, here and below.
    let found = unsafe { domain.lookup(Iova(setup.buffer + PAGE)) };
    assert_eq!(found.unwrap().pa, PhysAddr(setup.buffer + PAGE));
    // SAFETY: as above.
    unsafe { domain.unmap(Iova(setup.buffer), BYTES) }.unwrap();
    for stream in [5, 6] {
        let refused = setup.refusal(stream, setup.buffer);
        assert_eq!(refused, Some(Some(EventId::FTranslation)));
    }
    let other = iommu.create_domain(DomainConfig::default()).unwrap();
    iommu.attach(&display, &other).unwrap();
    assert!(domain.close().is_ok());
    iommu.detach(&display).unwrap();
    assert_eq!(setup.refusal(5, setup.buffer), Some(None));
    assert!(other.close().is_ok() && display.close().is_ok());
    assert!(iommu.remove(smmu).is_ok());
    drop(iommu);
    let frames = setup.world.frames();
    assert_eq!((frames.live_bytes(), frames.bad_frees()), (before, 0));
}

/// The kinds of SMMU that the tests run on.
fn kinds() -> [fn(Profile) -> Profile; 4] {
    [
        |profile| profile,
        |profile| Profile { ack_delay: 7, ..profile.cohacc(false) },
        |profile| profile.asid16(false).vmid16(false).s2p(false).ril(false),
        |profile| Profile { ack_delay: 3, ..profile.two_level_stream_table(false) },
    ]
}

#[test]
fn a_display_goes_on_at_every_step_where_everything_passed_before() {
    for (seed, kind) in kinds().into_iter().enumerate() {
        for policy in AsidPolicy::ALL {
            let setup = Setup::new(seed as u64, kind);
            let before = setup.world.frames().live_bytes();
            let others = setup.buffer - PAGE;
            assert_eq!(dma(&setup.world, NIC, others), Outcome::Reached(others));
            let iommu = setup.iommu(policy);
            let (smmu, seen) = setup.watched(|| {
                let mut probe = setup.probe(&iommu, config());
                setup.keep(&mut probe, if seed % 2 == 0 { 0 } else { 8 });
                probe.enable().unwrap()
            });
            assert_eq!(seen.lost, [], "{policy:?}, {seed}: (step, SMMU on) of {}", seen.steps);
            assert!(seen.steps > 50, "{} steps", seen.steps);
            assert!(seen.aborts_while_off.iter().all(|aborts| !aborts));
            setup.check_enabled();
            take_over(&setup, iommu, smmu, before);
        }
    }
}

#[test]
fn a_display_goes_on_where_firmware_had_enabled_the_smmu_and_lets_pass_what_comes_while_it_is_off()
{
    for (seed, kind) in kinds().into_iter().enumerate() {
        let setup = Setup::new(seed as u64, kind);
        setup.firmware(false);
        let before = setup.world.frames().live_bytes();
        let iommu = setup.iommu(AsidPolicy::PerInstance);
        let (smmu, seen) = setup.watched(|| {
            let mut probe = setup.probe(&iommu, config());
            setup.keep(&mut probe, 0);
            probe.enable().unwrap()
        });
        assert_eq!(seen.lost, [], "{seed}: (step, SMMU on) of {}", seen.steps);
        assert!(!seen.aborts_while_off.is_empty(), "it was never off");
        setup.check_enabled();
        take_over(&setup, iommu, smmu, before);
    }
}

#[test]
fn gbpa_stays_as_firmware_left_it_until_the_smmu_is_on() {
    for enabled in [false, true] {
        let setup = Setup::new(1, |profile| Profile { gbpa_abort: true, ..profile });
        if enabled {
            setup.firmware(true);
        }
        let before = setup.world.frames().live_bytes();
        let iommu = setup.iommu(AsidPolicy::PerInstance);
        let (smmu, seen) = setup.watched(|| {
            let mut probe = setup.probe(&iommu, config());
            setup.keep(&mut probe, 0);
            probe.enable().unwrap()
        });
        assert!(seen.aborts_while_off.iter().all(|aborts| *aborts));
        // Only then were writes lost.
        assert!(!seen.lost.is_empty() && seen.lost.iter().all(|(_, on)| !on), "{:?}", seen.lost);
        setup.check_enabled();
        take_over(&setup, iommu, smmu, before);
    }
}

/// The twin of the first test: what happens to a display that is not kept, but attached as soon as can be.
#[test]
fn without_being_kept_the_display_is_refused_for_a_while() {
    let setup = Setup::new(1, |profile| profile);
    let iommu = setup.iommu(AsidPolicy::PerInstance);
    let (_smmu, seen) = setup.watched(|| {
        let smmu = setup.probe(&iommu, config()).enable().unwrap();
        let master = iommu.add_master(&smmu, &STREAMS, MasterConfig::default()).unwrap();
        // SAFETY: the display only does what the test tells it to.
        unsafe { iommu.attach_identity(&master) }.unwrap();
        smmu
    });
    assert!(seen.lost.iter().any(|(_, on)| !on), "refused by GBPA");
    assert!(seen.lost.iter().any(|(_, on)| *on), "refused by its entry");
}

#[test]
fn several_masters_are_kept_each_with_its_own_regions() {
    let setup = Setup::new(2, |profile| profile);
    let iommu = setup.iommu(AsidPolicy::PerInstance);
    let mut probe = setup.probe(&iommu, config());
    let (first, second) = (setup.buffer, setup.buffer + 0x10_0000);
    for (stream, pa) in [(5, first), (6, second)] {
        let regions = [Region::normal(PhysAddr(pa), PAGE)];
        // SAFETY: the memory is the test's.
        unsafe { probe.keep(&[StreamId(stream)], MasterConfig::default(), &regions) }.unwrap();
    }
    let smmu = probe.enable().unwrap();
    assert_eq!((setup.refusal(5, first), setup.refusal(6, second)), (None, None));
    let refused = Some(Some(EventId::FTranslation));
    assert_eq!((setup.refusal(5, second), setup.refusal(6, first)), (refused, refused));
    let (_, domain_6) = iommu.take_kept(&smmu, StreamId(6)).unwrap();
    let (_, domain_5) = iommu.take_kept(&smmu, StreamId(5)).unwrap();
    let tags = [&domain_5, &domain_6].map(|domain| domain.targets().unwrap()[0].tag);
    assert_ne!(tags[0], tags[1]);
}

#[test]
fn streams_that_cannot_be_kept_are_refused_and_nothing_is_left_of_them() {
    use smmuv3::pagetable::{MapErrorKind, RangeError};
    let setup = Setup::new(3, |profile| profile);
    let before = setup.world.frames().live_bytes();
    let iommu = setup.iommu(AsidPolicy::PerInstance);
    let mut probe = setup.probe(&iommu, config());
    let live = setup.world.frames().live_bytes();
    let (pa, region) = (PhysAddr(setup.buffer), setup.region());
    let unaligned = Region::normal(PhysAddr(setup.buffer + 8), PAGE);
    let beyond = Region::normal(PhysAddr(1 << 44), PAGE);
    let range = RangeError::Unaligned { iova: Iova(unaligned.pa.0), len: PAGE, granule: PAGE };
    for (streams, regions, error) in [
        (&[][..], &[region][..], KeepError::Master(AddMasterError::NoStream)),
        (
            &[StreamId(1024)],
            &[region],
            KeepError::Master(AddMasterError::OutOfRange { stream: StreamId(1024), bits: 10 }),
        ),
        (
            &[StreamId(5), StreamId(5)],
            &[region],
            KeepError::Master(AddMasterError::Taken { stream: StreamId(5) }),
        ),
        (
            &STREAMS,
            &[region, unaligned],
            KeepError::Region { region: unaligned, error: MapErrorKind::Range(range) },
        ),
        (
            &STREAMS,
            &[region, region],
            KeepError::Region { region, error: MapErrorKind::Overlap { at: Iova(pa.0) } },
        ),
        (
            &STREAMS,
            &[beyond],
            KeepError::Region {
                region: beyond,
                error: MapErrorKind::BeyondOutput { pa: beyond.pa, len: PAGE, output_bits: 44 },
            },
        ),
    ] {
        // SAFETY: the memory is the test's.
        let kept = unsafe { probe.keep(streams, MasterConfig::default(), regions) };
        assert_eq!(kept, Err(error));
        assert_eq!(setup.world.frames().live_bytes(), live, "{error}");
    }
    setup.keep(&mut probe, 0);
    // SAFETY: as above.
    let again = unsafe { probe.keep(&[StreamId(6)], MasterConfig::default(), &[]) };
    assert_eq!(again, Err(KeepError::Master(AddMasterError::Taken { stream: StreamId(6) })));
    drop((probe, iommu));
    assert_eq!(setup.world.frames().live_bytes(), before);
    assert!(!setup.gbpa_aborts());
}

/// Firmware that has SMMUs on, what it left working, and others beside that: as `smmuv3 run keep`, and at random.
#[test]
fn the_scenario_holds_on_every_seed() {
    let text = include_str!("../../../scenarios/keep.toml");
    let scenario = Scenario::parse(text, "keep.toml").unwrap_or_else(|errors| panic!("{errors}"));
    for seed in 0..8 {
        let options = Options { seed: Some(seed), ..Options::default() };
        let report = run(&scenario, &options, &mut |_| ()).unwrap();
        assert!(report.is_ok(), "seed {seed}: {:#?}", report.failure);
    }
}

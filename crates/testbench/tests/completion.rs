// SPDX-License-Identifier: MIT OR Apache-2.0
//! An SMMU that tells of completed commands, and a CPU that sleeps until it is told: no wait is longer than the SMMU
//! takes. Without being told it would sleep until its timer.

mod common;

use smmuv3_testbench::inside::Inside as _;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use smmuv3::{
    Attributes, Completion, Config, DomainConfig, Failure, Frames, InstanceConfig, Interrupt,
    Iommu, Iova, MasterConfig, PhysAddr, Platform, Prot, Report, Smmu, StreamId,
};
use smmuv3_formats::register::Iidr;
use smmuv3_model::Profile;
use smmuv3_testbench::machine_model::{ModelMachine, profile};
use smmuv3_testbench::platform::{SpinMutex, TestMmio, TestPlatform, World};

const SCENARIO: &str = r#"
name = "completion"
[[instance]]
name = "near"
[[instance]]
name = "far"
asid-bits = 8
[[master]]
name = "nic"
instance = "near"
streams = [1]
"#;

const PAGE: u64 = 0x1000;
const IOVA: Iova = Iova(0x1000_0000);
/// Steps of hardware that a sleeping CPU's timer takes: many more than any command.
const TIMER: u64 = 1000;

/// A CPU whose `relax` is a WFE, and whose interrupt handler has nothing to do.
struct Sleeper {
    inner: TestPlatform,
    sleeps: AtomicU64,
    /// How often it was the timer that ended one.
    timer: AtomicU64,
}

impl Sleeper {
    /// Whether an event came since the last time, or an interrupt was taken.
    fn is_told(&self) -> bool {
        let told = [0, 1].map(|instance| {
            let told = self.inner.0.machine().model(instance).unwrap().interrupts();
            told.event || told.cmd_sync || told.gerror
        });
        told[0] || told[1]
    }
}

// SAFETY: the inner one's promises.
unsafe impl Frames for Sleeper {
    fn allocate(&self, size: usize, align: usize) -> Option<PhysAddr> {
        self.inner.allocate(size, align)
    }

    unsafe fn free(&self, frame: PhysAddr, size: usize, align: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.inner.free(frame, size, align) }
    }

    fn pointer(&self, pa: PhysAddr) -> NonNull<u8> {
        self.inner.pointer(pa)
    }

    fn publish(&self, pa: PhysAddr, bytes: usize) {
        self.inner.publish(pa, bytes)
    }
}

// SAFETY: the inner one's promises.
unsafe impl Platform for Sleeper {
    type Mmio = TestMmio;
    type Mutex = SpinMutex;

    fn allocate_coherent(&self, size: usize, align: usize) -> Option<PhysAddr> {
        self.inner.allocate_coherent(size, align)
    }

    unsafe fn free_coherent(&self, memory: PhysAddr, size: usize, align: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.inner.free_coherent(memory, size, align) }
    }

    fn mask_irqs<R>(&self, critical: impl FnOnce() -> R) -> R {
        self.inner.mask_irqs(critical)
    }

    fn relax(&self) {
        self.sleeps.fetch_add(1, Ordering::Relaxed);
        // What came before the WFE is kept, and ends it at once.
        for _ in 0..TIMER {
            if self.is_told() {
                return;
            }
            self.inner.0.machine().wait();
        }
        self.timer.fetch_add(1, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        self.inner.now()
    }
}

struct Setup {
    world: Arc<World>,
    iommu: Iommu<Sleeper>,
    smmus: Vec<Smmu<Sleeper>>,
}

impl Setup {
    fn new(completion: Completion, change: impl Fn(Profile) -> Profile) -> Self {
        let scenario = common::parse(SCENARIO);
        let machine =
            ModelMachine::with_profiles(&scenario, 1, |instance| change(profile(instance)));
        let world = World::new(Arc::new(machine.unwrap()), 2);
        let inner = TestPlatform(world.clone());
        let sleeper = Sleeper { inner, sleeps: AtomicU64::new(0), timer: AtomicU64::new(0) };
        let iommu = Iommu::new(sleeper, Config::default()).unwrap();
        let enable = |instance| {
            let mut config = InstanceConfig::named("smmu");
            config.command_queue_log2 = 4;
            config.sid_bits = 4;
            config.completion = completion;
            let mmio = TestMmio { world: world.clone(), instance };
            iommu.probe(mmio, config).unwrap().enable().unwrap()
        };
        let smmus = (0..2).map(enable).collect();
        Self { world, iommu, smmus }
    }

    /// Attaches masters of both instances, maps, unmaps and detaches.
    fn work(&self) {
        let domain = self.iommu.create_domain(DomainConfig::default()).unwrap();
        let memory = self.world.frames().allocate(64 * PAGE, PAGE).unwrap();
        let masters = [0, 1].map(|smmu| {
            let smmu = &self.smmus[smmu];
            self.iommu.add_master(smmu, &[StreamId(1)], MasterConfig::default()).unwrap()
        });
        for master in &masters {
            self.iommu.attach(master, &domain).unwrap();
        }
        let attributes = Attributes::normal(Prot::READ | Prot::WRITE);
        for round in 0..20 {
            let len = (1 + round % 3 * 31) * PAGE;
            // SAFETY: the test is alone, and its memory stays.
            unsafe {
                domain.map(IOVA, PhysAddr(memory), len, attributes).unwrap();
                assert_eq!(domain.unmap(IOVA, len), Ok(len));
            }
            domain.invalidate_all().unwrap();
        }
        for master in &masters {
            self.iommu.detach(master).unwrap();
        }
    }

    /// Sleeps that the timer ended, of how many.
    fn slept(&self) -> (u64, u64) {
        let sleeper = self.iommu.platform();
        (sleeper.timer.load(Ordering::Relaxed), sleeper.sleeps.load(Ordering::Relaxed))
    }

    /// The first words of the CMD_SYNCs given to `instance` since the last look.
    fn syncs(&self, instance: usize) -> Vec<u64> {
        let commands = self.world.take_commands().into_iter();
        let here = commands.filter(|(id, _)| *id == instance).map(|(_, command)| command.0[0]);
        here.filter(|word| word & 0xff == 0x46).collect()
    }
}

#[test]
fn who_is_told_never_sleeps_longer_than_the_smmu_works() {
    for completion in [Completion::Interrupt, Completion::Event] {
        let setup = Setup::new(completion, |profile| profile.sev(true));
        setup.work();
        let (timer, sleeps) = setup.slept();
        assert_eq!(timer, 0, "{completion:?}, {sleeps} sleeps");
        assert!(sleeps > 20, "{completion:?}, {sleeps} sleeps");
    }
}

/// The twin: nobody tells.
#[test]
fn who_is_not_told_sleeps_until_the_timer() {
    for (completion, sev) in [(Completion::Poll, true), (Completion::Event, false)] {
        let setup = Setup::new(completion, |profile| profile.sev(sev));
        setup.work();
        let (timer, sleeps) = setup.slept();
        assert!(timer > 20, "{completion:?}, {sleeps} sleeps");
    }
}

#[test]
fn each_batch_ends_in_a_sync_that_asks_for_what_was_chosen() {
    // CS in [13:12]; no message (§4.1).
    let events = |profile: Profile| profile.sev(true);
    // MMU-600 r0p2: erratum 1076982 (§19).
    let erratum = |profile: Profile| {
        let iidr = Iidr::default().with_implementer(0x43b).with_product_id(0x483);
        Profile { iidr: iidr.with_revision(2), ..profile.sev(true) }
    };
    let without = |profile: Profile| profile;
    type Change = fn(Profile) -> Profile;
    let cases: [(Completion, Change, u64); 6] = [
        (Completion::Poll, events, 0x46),
        (Completion::Interrupt, events, 0x1046),
        (Completion::Interrupt, without, 0x1046),
        (Completion::Event, events, 0x2046),
        (Completion::Event, without, 0x46),
        (Completion::Event, erratum, 0x46),
    ];
    for (completion, change, word) in cases {
        let setup = Setup::new(completion, change);
        setup.work();
        let syncs = setup.syncs(0);
        assert!(!syncs.is_empty());
        assert!(syncs.iter().all(|sync| *sync == word), "{completion:?}: {syncs:x?}");
        assert_eq!(setup.smmus[0].config().completion, completion);
    }
}

#[test]
fn who_waits_for_a_command_that_stops_the_queue_is_woken_by_the_error_and_then_told() {
    for completion in [Completion::Interrupt, Completion::Event] {
        let setup = Setup::new(completion, |profile| profile.sev(true));
        let instance = setup.smmus[0].inside();
        // A CMD_SYNC that is refused comes back as one that tells (CERROR_ILL); one that could not be fetched is
        // tried again (CERROR_ABT).
        for code in [1, 2] {
            setup.world.machine().model(0).unwrap().fail_next_command(code);
            let result = instance.carry_out(setup.iommu.platform(), []);
            match (code, result) {
                (1, Err(Failure::Refused { command, code: 1 })) => {
                    assert_eq!(command.0[0] & 0xff, 0x46);
                }
                (2, Ok(()) | Err(Failure::Refused { code: 2, .. })) => {}
                other => panic!("{other:?}"),
            }
        }
        let mut reports = Vec::new();
        let sink = &mut |report| reports.push(report);
        let _ = setup.iommu.handle_interrupt(&setup.smmus[0], Interrupt::Error, 8, sink);
        assert!(matches!(reports[..], [Report::CommandError { .. }, ..]), "{reports:?}");
        let (timer, sleeps) = setup.slept();
        assert_eq!(timer, 0, "{completion:?}, {sleeps} sleeps");
    }
}

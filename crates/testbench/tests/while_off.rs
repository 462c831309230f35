// SPDX-License-Identifier: MIT OR Apache-2.0
//! What devices do while their SMMU is off (GBPA, §2.4), and attributes that it overrides (§16.4).

mod common;

use smmuv3_testbench::inside::Inside as _;
use std::sync::{Arc, Mutex};

use smmuv3::features::Unsupported;
use smmuv3::{
    AddMasterError, Caching, Config, InstanceConfig, Iommu, MasterConfig, OverrideError, Overrides,
    Privilege, Sharing, StreamId, WhileOff,
};
use smmuv3_formats::register::{Cr0, Gbpa};
use smmuv3_model::{Access, Observation, Profile};
use smmuv3_testbench::machine::{Dma, Machine};
use smmuv3_testbench::machine_model::{ModelMachine, profile};
use smmuv3_testbench::machine_qemu::QemuMachine;
use smmuv3_testbench::platform::{Observer, Point, TestMmio, TestPlatform, World};
use smmuv3_testbench::stream_table::StreamTable;

use common::parse;

const SCENARIO: &str = r#"
name = "off"
instance = [{ name = "smmu" }]
master = [{ name = "nic", instance = "smmu", streams = [1] }]
domain = [{ name = "domain" }]
"#;
const ADDRESS: u64 = 0x8_8000_0000;

struct Setup {
    machine: Arc<ModelMachine>,
    world: Arc<World>,
    iommu: Iommu<TestPlatform>,
}

impl Setup {
    fn new(types: bool, permissions: bool) -> Self {
        let change = |mut profile: Profile| {
            profile.idr1 = profile.idr1.with_attr_types_ovr(types);
            profile.idr1 = profile.idr1.with_attr_perms_ovr(permissions);
            profile
        };
        let machine = ModelMachine::with_profiles(&parse(SCENARIO), 1, |it| change(profile(it)));
        let machine = Arc::new(machine.unwrap());
        let world = World::new(machine.clone(), 1);
        let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
        Self { machine, world, iommu }
    }

    fn mmio(&self) -> TestMmio {
        TestMmio { world: self.world.clone(), instance: 0 }
    }

    fn gbpa(&self) -> Gbpa {
        Gbpa(self.machine.read32(0, Gbpa::OFFSET))
    }

    fn reaches(&self) -> bool {
        self.machine.model(0).unwrap().translate(Access::read(1, ADDRESS)).is_ok()
    }
}

fn config(while_off: WhileOff) -> InstanceConfig {
    let mut config = InstanceConfig::named("smmu");
    config.sid_bits = 4;
    config.while_off = while_off;
    config
}

/// GBPA.ABORT whenever SMMUEN was 0 after the first write of GBPA.
struct Eyes {
    machine: Arc<ModelMachine>,
    aborts: Mutex<Vec<bool>>,
}

impl Observer for Eyes {
    fn at(&self, _point: Point, _interruptible: bool) {
        let mut model = self.machine.model(0).unwrap();
        if !Cr0(model.read32(Cr0::OFFSET)).smmuen() {
            let abort = Gbpa(model.read32(Gbpa::OFFSET)).abort();
            self.aborts.lock().unwrap().push(abort);
        }
    }
}

#[test]
fn who_is_off_aborts_unless_asked_otherwise_and_never_while_it_is_being_set_up() {
    let overrides = Overrides::NONE.with_memory(Caching::WriteBack).with_sharing(Sharing::Inner);
    // SAFETY: the device is the test's.
    let bypass = unsafe { WhileOff::bypass(overrides) };
    for (while_off, passes) in [(WhileOff::ABORT, false), (bypass, true)] {
        let setup = Setup::new(true, false);
        let eyes = Eyes { machine: setup.machine.clone(), aborts: Mutex::default() };
        let eyes = Arc::new(eyes);
        setup.world.set_observer(Some(eyes.clone() as Arc<dyn Observer>));
        let smmu = common::enable(&setup.iommu, &setup.world, 0, config(while_off));
        setup.world.set_observer(None);
        let aborts = std::mem::take(&mut *eyes.aborts.lock().unwrap());
        let first = aborts.iter().position(|abort| *abort).unwrap();
        assert!(first < 16 && aborts[first..].iter().all(|abort| *abort), "{aborts:?}");
        assert_eq!(setup.gbpa().abort(), !passes);
        if passes {
            // MemAttr 0b1111, MTCFG, SHCFG 3.
            assert_eq!(setup.gbpa().0, 0x1f | 3 << 12);
        }
        assert!(!setup.reaches(), "it has no master");
        setup.iommu.suspend(&smmu, &mut |_| ()).unwrap();
        assert_eq!(setup.reaches(), passes);
        setup.iommu.resume(&smmu).unwrap();
        assert!(!setup.reaches());
        setup.iommu.remove(smmu).unwrap();
        assert_eq!(setup.reaches(), passes);
        let seen = setup.machine.model(0).unwrap().observations();
        assert!(!seen.iter().any(|it| matches!(it, Observation::Misuse(_))));
    }
}

#[test]
fn what_cannot_be_overridden_is_refused_before_anything_is_done() {
    let setup = Setup::new(false, true);
    let types = Overrides::NONE.with_memory(Caching::NonCacheable);
    // SAFETY: it is refused.
    let while_off = unsafe { WhileOff::bypass(types) };
    let refused = setup.iommu.probe(setup.mmio(), config(while_off)).err();
    assert_eq!(refused, Some(Unsupported::WhileOff(OverrideError::Types)));
    let smmu = common::enable(&setup.iommu, &setup.world, 0, config(WhileOff::ABORT));
    let add = |overrides| {
        let config = MasterConfig::default().with_overrides(overrides);
        setup.iommu.add_master(&smmu, &[StreamId(1)], config)
    };
    let refused = add(types).err();
    assert_eq!(refused, Some(AddMasterError::Overrides(OverrideError::Types)));
    // Privilege can be.
    let master = add(Overrides::NONE.with_privilege(Privilege::Privileged)).unwrap();
    // SAFETY: the device is the test's.
    unsafe { setup.iommu.attach_identity(&master).unwrap() };
    assert!(setup.reaches());
    let streams = smmu.inside().streams();
    let (base, shape) = (streams.base_register(), streams.config_register());
    let ram = setup.machine.ram();
    let entry = StreamTable { base, shape }.entry(ram, 1).unwrap();
    // PRIVCFG 3, SHCFG as it comes; nothing else of the word.
    assert_eq!(ram.read64(entry + 8), Some(3 << 48 | 1 << 44));
    setup.iommu.detach(&master).unwrap();
    assert!(!setup.reaches());
}

/// What QEMU's registers say at every moment of a call: whether it is off, and whether it aborts then.
struct Registers(Arc<QemuMachine>, Mutex<Vec<(bool, bool)>>);

impl Observer for Registers {
    fn at(&self, _point: Point, _interruptible: bool) {
        let off = !Cr0(self.0.read32(0, Cr0::OFFSET)).smmuen();
        let abort = Gbpa(self.0.read32(0, Gbpa::OFFSET)).abort();
        self.1.lock().unwrap().push((off, abort));
    }
}

/// As on the model, but that a device of QEMU's tries it: suspended, removed, and before anything was done to it.
#[test]
fn who_is_off_on_qemu_aborts_unless_asked_otherwise() {
    let Some(path) = common::qemu_or_skip() else { return };
    let scenario = parse(&SCENARIO.replace("[1]", "[0x900]"));
    // SAFETY: the device is the test's.
    let bypass = unsafe { WhileOff::bypass(Overrides::NONE) };
    for (while_off, passes) in [(WhileOff::ABORT, false), (bypass, true)] {
        let machine = Arc::new(QemuMachine::start(&scenario, path.clone()).unwrap());
        let world = World::new(machine.clone(), 1);
        let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
        let page = world.frames().allocate(0x1000, 0x1000).unwrap();
        let mut serial = 0u64;
        let mut reaches = || {
            serial += 1;
            machine.dma(0, None, page, Dma::Write(&serial.to_le_bytes())).unwrap();
            let mut read = [0; 8];
            machine.dma(0, None, page, Dma::Read(&mut read)).unwrap();
            let there = machine.ram().read64(page) == Some(serial);
            // What is refused reads as zeros, and no serial is 0.
            assert_eq!(read == serial.to_le_bytes(), there);
            there
        };
        assert!(reaches(), "out of reset it is in bypass");
        let eyes = Arc::new(Registers(machine.clone(), Mutex::default()));
        world.set_observer(Some(eyes.clone() as Arc<dyn Observer>));
        let mut config = config(while_off);
        config.sid_bits = 12;
        let smmu = common::enable(&iommu, &world, 0, config);
        world.set_observer(None);
        let seen = std::mem::take(&mut *eyes.1.lock().unwrap());
        let off: Vec<bool> = seen.iter().filter(|(off, _)| *off).map(|(_, abort)| *abort).collect();
        let first = off.iter().position(|abort| *abort).unwrap();
        assert!(first < 16 && off[first..].iter().all(|abort| *abort), "{off:?}");
        let gbpa = || Gbpa(machine.read32(0, Gbpa::OFFSET));
        // SHCFG as it comes, and nothing else that bypass could change.
        assert_eq!((gbpa().abort(), gbpa().update()), (!passes, false));
        assert_eq!(gbpa().0 & 0xf_ffff, 1 << 12);
        assert!(!reaches(), "it has no master");
        let master = iommu.add_master(&smmu, &[StreamId(0x900)], MasterConfig::default()).unwrap();
        // SAFETY: as above.
        unsafe { iommu.attach_identity(&master).unwrap() };
        assert!(reaches());
        iommu.detach(&master).unwrap();
        assert!(!reaches());
        iommu.suspend(&smmu, &mut |_| ()).unwrap();
        assert_eq!(reaches(), passes);
        iommu.resume(&smmu).unwrap();
        assert!(!reaches(), "its master is blocked");
        iommu.reset(&smmu).unwrap();
        assert!(!reaches());
        master.close().unwrap();
        iommu.remove(smmu).unwrap();
        assert_eq!(reaches(), passes);
        machine.health().unwrap();
    }
    // It overrides neither types nor permissions.
    let machine = Arc::new(QemuMachine::start(&scenario, path).unwrap());
    let world = World::new(machine, 1);
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    let types = Overrides::NONE.with_memory(Caching::NonCacheable);
    // SAFETY: it is refused.
    let while_off = unsafe { WhileOff::bypass(types) };
    let refused = iommu.probe(TestMmio { world, instance: 0 }, config(while_off)).err();
    assert_eq!(refused, Some(Unsupported::WhileOff(OverrideError::Types)));
}

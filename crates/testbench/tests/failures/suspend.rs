// SPDX-License-Identifier: MIT OR Apache-2.0
//! An SMMU that does not confirm that it is off, or works again, halfway through a suspend or a resume: it may still write what it
//! records, so nothing of it is freed before it has confirmed that, and what it recorded is told.

use std::sync::Arc;

use smmuv3::{Config, Interrupt, Iommu, MasterConfig, Report, Smmu, StreamId};
use smmuv3_formats::register::{Cr0, Cr0Ack, Gbpa, IrqCtrl};
use smmuv3_model::Access;
use smmuv3_testbench::machine::Machine;
use smmuv3_testbench::platform::{TestMmio, TestPlatform, World};

use crate::machine::FaultyMachine;
use crate::setup::{config, world};

struct Setup {
    machine: Arc<FaultyMachine>,
    world: Arc<World>,
    iommu: Iommu<TestPlatform>,
    smmu: Smmu<TestPlatform>,
}

impl Setup {
    fn new(seed: u64) -> Self {
        let (machine, world) = world(seed, |profile| profile);
        let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
        let mmio = TestMmio { world: world.clone(), instance: 0 };
        let smmu = iommu.probe(mmio, config()).unwrap().enable().unwrap();
        Self { machine, world, iommu, smmu }
    }

    /// From the `nth` handshake on the SMMU confirms none.
    fn sticks_at(&self, nth: u64) {
        let mut left = nth;
        self.machine.on_write(move |machine, _, offset, _| {
            if matches!(offset, Gbpa::OFFSET | Cr0::OFFSET | IrqCtrl::OFFSET) {
                if left == 0 {
                    machine.model(0).unwrap().set_stuck(true);
                }
                left = left.wrapping_sub(1);
            }
        });
    }

    /// It answers again.
    fn answers(&self) {
        self.machine.behave();
        self.machine.model(0).unwrap().set_stuck(false);
    }

    /// It does not confirm that it is off, so `remove` fails and nothing is freed; then it does, and all is.
    fn goes(self) {
        let Self { machine, world, iommu, smmu } = self;
        let live = world.frames().live_bytes();
        let off = |machine: &FaultyMachine| machine.read32(0, Cr0Ack::OFFSET) == 0;
        let smmu = match iommu.remove(smmu) {
            Ok(()) => {
                assert!(off(&machine), "it is removed, and may write to its queues");
                None
            }
            Err(refused) => Some(refused.value),
        };
        if let Some(smmu) = smmu {
            assert_eq!(world.frames().live_bytes(), live);
            machine.behave();
            machine.model(0).unwrap().set_stuck(false);
            assert!(iommu.remove(smmu).is_ok());
        }
        assert!(off(&machine));
        drop(iommu);
        let frames = world.frames();
        assert_eq!((frames.live_bytes(), frames.bad_frees()), (0, 0));
    }
}

#[test]
fn whichever_acknowledgement_of_a_suspend_never_comes_nothing_is_freed_that_is_in_use() {
    let mut failed = 0;
    for nth in 0.. {
        let setup = Setup::new(nth);
        setup.sticks_at(nth);
        let suspended = setup.iommu.suspend(&setup.smmu, &mut |_| ());
        let done = suspended.is_ok();
        assert_eq!(setup.iommu.is_suspended(&setup.smmu), done, "{nth}");
        failed += u32::from(setup.smmu.has_failed());
        setup.goes();
        if done {
            break;
        }
    }
    assert!(failed >= 3, "CR0 twice, IRQ_CTRL");
}

#[test]
fn whichever_acknowledgement_of_a_resume_never_comes_nothing_is_freed_that_is_in_use() {
    for nth in 0.. {
        let setup = Setup::new(nth);
        setup.iommu.suspend(&setup.smmu, &mut |_| ()).unwrap();
        setup.sticks_at(nth);
        let resumed = setup.iommu.resume(&setup.smmu);
        assert!(!setup.iommu.is_suspended(&setup.smmu), "{nth}");
        if resumed.is_ok() {
            assert!(nth > 5, "{nth}");
            setup.goes();
            break;
        }
        assert!(setup.smmu.has_failed(), "{nth}");
        if nth % 2 == 0 {
            // It can be tried again.
            setup.answers();
            setup.iommu.reset(&setup.smmu).unwrap();
            assert!(!setup.smmu.has_failed(), "{nth}");
        }
        setup.goes();
    }
}

/// What was recorded before is there to be read, though nobody has suspended it.
#[test]
fn what_was_recorded_before_a_suspend_that_fails_is_told() {
    const STREAM: StreamId = StreamId(1);
    for nth in 0.. {
        let setup = Setup::new(nth);
        let config = MasterConfig::default();
        let master = setup.iommu.add_master(&setup.smmu, &[STREAM], config).unwrap();
        let domain = setup.iommu.create_domain(smmuv3::DomainConfig::default()).unwrap();
        setup.iommu.attach(&master, &domain).unwrap();
        let mut model = setup.machine.model(0).unwrap();
        assert!(model.translate(Access::read(STREAM.0, 0x5000)).is_err());
        drop(model);
        setup.sticks_at(nth);
        let mut told = 0;
        let mut count = |report| told += u32::from(matches!(report, Report::Event(_)));
        let done = setup.iommu.suspend(&setup.smmu, &mut count).is_ok();
        while setup.iommu.handle_interrupt(&setup.smmu, Interrupt::Any, 8, &mut count) {}
        assert_eq!(told, 1, "{nth}");
        setup.answers();
        if !done {
            setup.iommu.reset(&setup.smmu).unwrap();
        }
        setup.iommu.detach(&master).unwrap();
        assert!(master.close().is_ok() && domain.close().is_ok());
        setup.goes();
        if done {
            break;
        }
    }
}

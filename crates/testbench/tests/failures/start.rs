// SPDX-License-Identifier: MIT OR Apache-2.0
//! An SMMU that does not acknowledge what it is told while it is being enabled: an error with the register and
//! its values, in bounded time, and the probe to try again with.

use std::sync::Arc;
use std::time::Duration;

use smmuv3::{Config, EnableError, Failure, Iommu, Platform, Refused, RemoveError};
use smmuv3_formats::register::{Cr0, Cr0Ack, Gbpa, IrqCtrl};
use smmuv3_model::{Observation, Profile};
use smmuv3_testbench::machine::Machine;
use smmuv3_testbench::platform::{TestMmio, TestPlatform, World};

use crate::machine::FaultyMachine;
use crate::setup::{DEADLINE, NARROW, Setup, WIDE, config, world};

/// Everything that the model calls a misuse.
fn misuses(machine: &FaultyMachine) -> Vec<Observation> {
    let mut observations = machine.model(0).unwrap().observations();
    observations.retain(|seen| matches!(seen, Observation::Misuse(_)));
    observations
}

fn iommu(world: &Arc<World>) -> (Iommu<TestPlatform>, TestMmio) {
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    (iommu, TestMmio { world: world.clone(), instance: 0 })
}

#[test]
fn an_smmu_that_acknowledges_nothing_is_given_back_and_works_when_it_does() {
    let (machine, world) = world(1, |profile| profile);
    let (iommu, mmio) = iommu(&world);
    machine.model(0).unwrap().set_stuck(true);
    let probe = iommu.probe(mmio, config()).unwrap();
    let Err(Refused { value: probe, error }) = probe.enable() else { panic!("it was enabled") };
    let EnableError::Handshake { register: "GBPA", expected: 0, read } = error else {
        panic!("{error:?}")
    };
    assert!(Gbpa(read).update(), "{read:#x}");
    // CR0 was 0 all the time, so that nothing can be using the memory.
    assert_eq!(world.frames().live_bytes(), 0);
    machine.model(0).unwrap().set_stuck(false);
    let smmu = probe.enable().unwrap();
    assert!(iommu.remove(smmu).is_ok());
    drop(iommu);
    assert_eq!(world.frames().live_bytes(), 0);
    assert_eq!(misuses(&machine), []);
}

#[test]
fn whichever_acknowledgement_never_comes_the_error_says_so_and_nothing_in_use_is_freed() {
    let mut kept = 0;
    for nth in 0.. {
        let (machine, world) = world(nth, |profile| profile);
        let (iommu, mmio) = iommu(&world);
        let mut left = nth;
        machine.on_write(move |machine, _, offset, _| {
            if matches!(offset, Gbpa::OFFSET | Cr0::OFFSET | IrqCtrl::OFFSET) {
                if left == 0 {
                    machine.model(0).unwrap().set_stuck(true);
                }
                left = left.wrapping_sub(1);
            }
        });
        let now = || Duration::from_nanos(iommu.platform().now());
        let begun = now();
        let probe = iommu.probe(mmio, config()).unwrap();
        let Refused { value: probe, error } = match probe.enable() {
            Ok(smmu) => {
                assert_eq!(nth, 7, "GBPA, CR0 four times, IRQ_CTRL twice");
                machine.behave();
                assert!(iommu.remove(smmu).is_ok());
                break;
            }
            Err(failed) => failed,
        };
        let waited = now() - begun;
        assert!(waited < 6 * DEADLINE, "register {nth}: {waited:?}");
        let EnableError::Handshake { register, expected, read } = error else {
            panic!("register {nth}: {error:?}")
        };
        assert_ne!(expected, read, "register {nth}: {register}");
        // Memory is kept if, and only if, the SMMU did not confirm that it is off.
        let off = machine.read32(0, Cr0Ack::OFFSET) == 0 && machine.read32(0, Cr0::OFFSET) == 0;
        let live = world.frames().live_bytes();
        assert_eq!(live == 0, off, "register {nth}: {live} bytes live");
        kept += u32::from(live != 0);
        machine.behave();
        machine.model(0).unwrap().set_stuck(false);
        let smmu = probe.enable().unwrap();
        assert!(iommu.remove(smmu).is_ok(), "register {nth}");
        drop(iommu);
        assert_eq!(world.frames().live_bytes(), live, "register {nth}");
        assert_eq!(misuses(&machine), [], "register {nth}");
    }
    assert!(kept > 0, "no handshake failed while the SMMU was on");
}

#[test]
fn slow_acknowledgements_are_waited_for() {
    for seed in 0..20 {
        let slow = |profile: Profile| Profile { ack_delay: 30, ..profile };
        let setup = Setup::with(seed, config(), slow);
        setup.reset(NARROW, &[], &[]);
        setup.check(seed);
        setup.tear_down(seed);
    }
}

#[test]
fn an_smmu_that_takes_no_commands_is_not_enabled() {
    let (machine, world) = world(1, |profile| profile);
    let (iommu, mmio) = iommu(&world);
    machine.model(0).unwrap().wedge_after(Some(0));
    let probe = iommu.probe(mmio, config()).unwrap();
    let Err(Refused { value: probe, error }) = probe.enable() else { panic!("it was enabled") };
    let EnableError::Commands(Failure::Timeout { waited }) = error else { panic!("{error:?}") };
    assert!(waited > DEADLINE);
    assert_eq!(world.frames().live_bytes(), 0, "it confirmed that it is off");
    machine.model(0).unwrap().wedge_after(None);
    machine.model(0).unwrap().fail_next_command(1);
    let Err(Refused { value: probe, error }) = probe.enable() else { panic!("it was enabled") };
    assert!(matches!(error, EnableError::Commands(Failure::Refused { code: 1, .. })), "{error:?}");
    let smmu = probe.enable().unwrap();
    assert!(iommu.remove(smmu).is_ok());
    drop(iommu);
    assert_eq!(world.frames().live_bytes(), 0);
    assert_eq!(misuses(&machine), []);
}

#[test]
fn an_smmu_that_does_not_turn_off_is_not_removed() {
    let mut setup = Setup::new(1);
    let smmu = setup.smmus.pop().unwrap();
    let masters = setup.masters.pop().unwrap();
    let Err(Refused { value: smmu, error }) = setup.iommu.remove(smmu) else {
        panic!("it has a master")
    };
    assert_eq!(error, RemoveError::InUse { masters: 1 });
    assert!(masters.close().is_ok());
    setup.machine.model(WIDE).unwrap().set_stuck(true);
    let Err(Refused { value: smmu, error }) = setup.iommu.remove(smmu) else {
        panic!("it was removed")
    };
    assert!(matches!(error, RemoveError::Hardware(EnableError::Handshake { .. })), "{error:?}");
    setup.machine.model(WIDE).unwrap().set_stuck(false);
    assert!(setup.iommu.remove(smmu).is_ok());
    setup.tear_down("after a removal that failed first");
}

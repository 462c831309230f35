// SPDX-License-Identifier: MIT OR Apache-2.0
//! ID registers that contradict each other, or say what the driver cannot do: a typed error with the value, and not a
//! single write.

use std::sync::Arc;

use smmuv3::features::Unsupported;
use smmuv3::{Config, Iommu, IommuError};
use smmuv3_formats::register::{Aidr, Idr0, Idr1, Idr2, Idr3, Idr5, Iidr};
use smmuv3_testbench::machine::Machine;
use smmuv3_testbench::oracle::Use;
use smmuv3_testbench::platform::{TestMmio, TestPlatform, World};

use crate::machine::FaultyMachine;
use crate::setup::{GPU, NIC, PAGE, Setup, config, world};

const IOVA: u64 = 0x1000_0000;

fn probe(world: &Arc<World>) -> Result<(), Unsupported> {
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    iommu.probe(TestMmio { world: world.clone(), instance: 0 }, config()).map(drop)
}

/// What probing says of the model with one ID register changed.
fn with(offset: u32, change: impl Fn(u32) -> u32) -> Result<(), Unsupported> {
    let (machine, world) = world(1, |profile| profile);
    let truth = machine.read32(0, offset);
    machine.lie(0, offset, Some(change(truth)));
    check(&machine, &world)
}

fn check(machine: &FaultyMachine, world: &Arc<World>) -> Result<(), Unsupported> {
    let result = probe(world);
    assert_eq!((machine.writes(), world.frames().count()), (0, 0), "{result:?}");
    assert!(!result.is_err_and(|error| error.to_string().is_empty()));
    result
}

fn idr0(change: impl Fn(Idr0) -> Idr0) -> Result<(), Unsupported> {
    with(Idr0::OFFSET, |value| change(Idr0(value)).0)
}

fn idr1(change: impl Fn(Idr1) -> Idr1) -> Result<(), Unsupported> {
    with(Idr1::OFFSET, |value| change(Idr1(value)).0)
}

fn idr3(change: impl Fn(Idr3) -> Idr3) -> Result<(), Unsupported> {
    with(Idr3::OFFSET, |value| change(Idr3(value)).0)
}

fn idr5(change: impl Fn(Idr5) -> Idr5) -> Result<(), Unsupported> {
    with(Idr5::OFFSET, |value| change(Idr5(value)).0)
}

#[test]
fn numbers_of_a_width_that_nobody_can_have_are_refused_with_the_width() {
    let (machine, world) = world(1, |profile| profile);
    let platform = || TestPlatform(world.clone());
    for (asked, is_legal) in [(0, false), (5, false), (6, true), (20, true), (21, false)] {
        let refused = Iommu::new(platform(), Config::default().with_pasid_bits(asked)).err();
        assert_eq!(refused, (!is_legal).then_some(IommuError::PasidBits { asked }));
    }
    let iommu = Iommu::new(platform(), Config::default()).unwrap();
    for (asked, is_legal) in [(0, false), (5, false), (6, true), (16, true), (17, false)] {
        let mmio = TestMmio { world: world.clone(), instance: 0 };
        let refused = iommu.probe(mmio, config().with_asid_bits(asked)).err();
        assert_eq!(refused, (!is_legal).then_some(Unsupported::AsidBits { asked }));
    }
    assert_eq!(machine.writes(), 0);
}

#[test]
fn an_smmu_that_the_driver_cannot_drive_is_refused_with_the_reason() {
    assert_eq!(idr0(|idr0| idr0), Ok(()));
    let refused = idr0(|idr0| idr0.with_s1p(false).with_s2p(false));
    assert!(matches!(refused, Err(Unsupported::NoStage { idr0 }) if !Idr0(idr0).s1p()));
    assert_eq!(idr0(|idr0| idr0.with_s1p(false).with_s2p(true)), Ok(()), "stage 2 alone");
    for ttf in [0, 1] {
        assert_eq!(idr0(|idr0| idr0.with_ttf(ttf)), Err(Unsupported::TableFormat { ttf }));
    }
    for ttendian in [1, 3] {
        let refused = idr0(|idr0| idr0.with_ttendian(ttendian));
        assert_eq!(refused, Err(Unsupported::Endianness { ttendian }));
    }
    for (tables, queues) in [(true, false), (false, true), (true, true)] {
        let refused = idr1(|idr1| idr1.with_tables_preset(tables).with_queues_preset(queues));
        assert!(matches!(refused, Err(Unsupported::Preset { idr1 }) if idr1 >> 29 != 0));
    }
    assert_eq!(idr5(|idr5| idr5.with_oas(7)), Err(Unsupported::OutputSize { oas: 7 }));
    let refused = idr5(|idr5| idr5.with_gran4k(false).with_gran16k(false).with_gran64k(false));
    assert!(matches!(refused, Err(Unsupported::NoGranule { .. })), "{refused:?}");
    let refused = idr1(|idr1| idr1.with_cmdqs(0));
    assert_eq!(refused, Err(Unsupported::CommandQueue { cmdqs: 0 }));
    let refused = with(Aidr::OFFSET, |_| 0x12);
    assert_eq!(refused, Err(Unsupported::Version { aidr: 0x12 }));
}

#[test]
fn sizes_beyond_the_architecture_are_refused_with_the_largest() {
    let size = |field, value, largest| Err(Unsupported::Size { field, value, largest });
    assert_eq!(idr1(|idr1| idr1.with_sidsize(33)), size("IDR1.SIDSIZE", 33, 32));
    assert_eq!(idr1(|idr1| idr1.with_ssidsize(21)), size("IDR1.SSIDSIZE", 21, 20));
    assert_eq!(idr1(|idr1| idr1.with_cmdqs(20)), size("IDR1.CMDQS", 20, 19));
    assert_eq!(idr1(|idr1| idr1.with_eventqs(31)), size("IDR1.EVENTQS", 31, 19));
    assert_eq!(idr5(|idr5| idr5.with_vax(3)), size("IDR5.VAX", 3, 2));
    assert_eq!(idr1(|idr1| idr1.with_sidsize(32).with_cmdqs(19).with_eventqs(19)), Ok(()));
}

#[test]
fn registers_that_contradict_each_other_are_refused_with_the_rule() {
    let broken = |rule| Err(Unsupported::Contradiction { rule });
    assert_eq!(idr0(|idr0| idr0.with_stall_model(3)), broken("IDR0.STALL_MODEL 3 is reserved"));
    assert_eq!(idr0(|idr0| idr0.with_pri(true)), broken("PRI needs ATS"));
    assert_eq!(idr3(|idr3| idr3.with_ril(false)), broken("v3.2 and later have range invalidation"));
    assert_eq!(idr3(|idr3| idr3.with_bbml(0)), broken("v3.2 and later have BBML 1 or 2"));
}

#[test]
fn registers_of_nothing_at_all_are_refused() {
    let all = [
        Idr0::OFFSET,
        Idr1::OFFSET,
        Idr2::OFFSET,
        Idr3::OFFSET,
        Idr5::OFFSET,
        Iidr::OFFSET,
        Aidr::OFFSET,
    ];
    let mut rng = fastrand::Rng::with_seed(1);
    for round in 0..2000 {
        let (machine, world) = world(1, |profile| profile);
        for offset in all {
            let value = match round {
                0 => 0,
                1 => u32::MAX,
                _ => rng.u32(..),
            };
            machine.lie(0, offset, Some(value));
        }
        let result = check(&machine, &world);
        match round {
            0 => assert_eq!(result, Err(Unsupported::NoStage { idr0: 0 })),
            1 => assert_eq!(result, Err(Unsupported::Version { aidr: u32::MAX })),
            // Whatever comes of noise, it must not panic nor write.
            _ => {}
        }
    }
}

/// As QEMU 11.1 has it with `stage=1`: there are no VMIDs, however wide they are said to be.
#[test]
fn wide_vmids_without_stage_2_are_ignored() {
    let setup = Setup::with(1, config(), |profile| profile.s2p(false).vmid16(true));
    for master in [NIC, GPU] {
        let features = setup.smmus[usize::from(master == GPU)].features();
        assert_eq!((features.registers.idr0.vmid16(), features.vmid_bits), (true, 8));
        setup.attach(master, Use::Domain(0)).unwrap();
        if master == NIC {
            setup.map(0, IOVA, 0, PAGE).unwrap();
        }
        assert_eq!(setup.dma(master, IOVA), Some(setup.memory));
        setup.attach(master, Use::Blocked).unwrap();
        assert_eq!(setup.dma(master, IOVA), None);
    }
    setup.check("VMID16 without stage 2");
    setup.tear_down("VMID16 without stage 2");
}

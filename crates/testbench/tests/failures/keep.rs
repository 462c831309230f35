// SPDX-License-Identifier: MIT OR Apache-2.0
//! An SMMU that is to keep streams and cannot be enabled: the probe comes back with all that it had, GBPA is as it was
//! unless the SMMU was on, and nothing is freed that may be in use.

use smmuv3::{
    Config, EnableError, Iommu, MasterConfig, PhysAddr, Probe, Refused, Region, StreamId,
};
use smmuv3_formats::register::{CmdqCons, Cr0, Cr0Ack, Gbpa, IrqCtrl};
use smmuv3_model::Access;
use smmuv3_testbench::machine::Machine;
use smmuv3_testbench::platform::{TestMmio, TestPlatform, World};

use crate::machine::FaultyMachine;
use crate::setup::{PAGE, config, world};

const STREAM: StreamId = StreamId(3);

/// The memory that the stream writes to; another's follows it.
const REGION: u64 = 2 * PAGE;

fn probe(iommu: &Iommu<TestPlatform>, world: &std::sync::Arc<World>) -> (Probe<TestPlatform>, u64) {
    let memory = world.frames().allocate(REGION + PAGE, PAGE).unwrap();
    let mut probe = iommu.probe(TestMmio { world: world.clone(), instance: 0 }, config()).unwrap();
    let regions = [Region::normal(PhysAddr(memory), REGION)];
    // SAFETY: the memory is the test's.
    unsafe { probe.keep(&[STREAM], MasterConfig::default(), &regions) }.unwrap();
    (probe, memory)
}

fn reaches(machine: &FaultyMachine, pa: u64) -> bool {
    machine.model(0).unwrap().translate(Access::write(STREAM.0, pa)).is_ok_and(|to| to.pa == pa)
}

#[test]
fn without_frames_the_smmu_is_not_touched_and_the_stream_goes_on() {
    let (machine, world) = world(1, |profile| profile);
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    let (mut probe, memory) = probe(&iommu, &world);
    let live = world.frames().live_bytes();
    let mut failures = 0;
    let smmu = loop {
        world.frames().fail(Some(failures + 1));
        match probe.enable() {
            Ok(smmu) => break smmu,
            Err(Refused { value: again, error }) => {
                assert_eq!(error, EnableError::NoMemory);
                assert_eq!((world.frames().live_bytes(), machine.writes()), (live, 0));
                assert!(reaches(&machine, memory + REGION));
                probe = again;
                failures += 1;
            }
        }
    };
    world.frames().fail(None);
    assert_eq!(failures, 6, "two queues, records, counts, the stream table, and a context");
    assert!(reaches(&machine, memory) && !reaches(&machine, memory + REGION));
    let (master, domain) = iommu.take_kept(&smmu, STREAM).unwrap();
    iommu.detach(&master).unwrap();
    assert!(master.close().is_ok() && domain.close().is_ok() && iommu.remove(smmu).is_ok());
    drop(iommu);
    let mut frames = world.frames();
    frames.free(memory, REGION + PAGE);
    assert_eq!((frames.live_bytes(), frames.bad_frees()), (0, 0));
}

#[test]
fn whichever_acknowledgement_never_comes_the_probe_comes_back_whole() {
    let mut kept = 0;
    for nth in 0.. {
        let (machine, world) = world(nth, |profile| profile);
        let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
        let (probe, memory) = probe(&iommu, &world);
        let before = world.frames().live_bytes();
        let mut left = nth;
        machine.on_write(move |machine, _, offset, _| {
            if matches!(offset, Gbpa::OFFSET | Cr0::OFFSET | IrqCtrl::OFFSET) {
                if left == 0 {
                    machine.model(0).unwrap().set_stuck(true);
                }
                left = left.wrapping_sub(1);
            }
        });
        let enabled = probe.enable();
        machine.behave();
        let done = enabled.is_ok();
        let (smmu, leaked) = match enabled {
            Ok(smmu) => {
                assert_eq!(nth, 7, "CR0 four times, IRQ_CTRL twice, GBPA");
                (smmu, 0)
            }
            Err(Refused { value: probe, error }) => {
                assert!(matches!(error, EnableError::Handshake { .. }), "{nth}: {error:?}");
                let off =
                    machine.read32(0, Cr0Ack::OFFSET) == 0 && machine.read32(0, Cr0::OFFSET) == 0;
                // What an SMMU may be reading is kept, and nothing else.
                let leaked = world.frames().live_bytes() - before;
                assert_eq!(leaked == 0, off, "{nth}: {leaked} bytes");
                kept += u32::from(!off);
                let gbpa = Gbpa(machine.read32(0, Gbpa::OFFSET));
                assert!(gbpa.update() || !gbpa.abort(), "{nth}");
                machine.model(0).unwrap().set_stuck(false);
                let smmu = probe.enable().unwrap();
                // The tables of the domain are not freed either.
                (smmu, if off { 0 } else { leaked + 4 * PAGE })
            }
        };
        assert!(reaches(&machine, memory) && !reaches(&machine, memory + REGION), "{nth}");
        assert!(Gbpa(machine.read32(0, Gbpa::OFFSET)).abort(), "{nth}");
        let (master, domain) = iommu.take_kept(&smmu, STREAM).unwrap();
        iommu.detach(&master).unwrap();
        assert!(master.close().is_ok() && domain.close().is_ok(), "{nth}");
        assert!(iommu.remove(smmu).is_ok(), "{nth}");
        drop(iommu);
        let frames = world.frames();
        let live = frames.live_bytes() - (REGION + PAGE);
        assert_eq!(frames.bad_frees(), 0, "{nth}");
        if done {
            assert_eq!(live, 0);
            break;
        }
        assert_eq!(live == 0, leaked == 0, "{nth}: {live:#x} bytes, {leaked:#x} expected");
    }
    assert!(kept > 0, "no handshake failed while the SMMU was on");
}

/// Where firmware's tables confined devices, a driver that fails does not let them loose. Where nothing did, it does not
/// abort what it was to keep.
#[test]
fn after_a_failure_gbpa_aborts_if_firmware_had_the_smmu_on() {
    for was_on in [false, true] {
        let (machine, world) = world(3, |profile| profile);
        if was_on {
            let firmware = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
            let mmio = TestMmio { world: world.clone(), instance: 0 };
            let smmu = firmware.probe(mmio, config()).unwrap().enable().unwrap();
            let passes = Gbpa::default().with_sh_cfg(1).with_update(true);
            machine.write32(0, Gbpa::OFFSET, passes.0);
            while Gbpa(machine.read32(0, Gbpa::OFFSET)).update() {}
            // Its memory stays: nobody tells the next owner of it.
            std::mem::forget((firmware, smmu));
        }
        assert!(!Gbpa(machine.read32(0, Gbpa::OFFSET)).abort());
        let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
        let (probe, _) = probe(&iommu, &world);
        // No command is ever carried out.
        machine.lie(0, CmdqCons::OFFSET, Some(0));
        let Err(Refused { error, .. }) = probe.enable() else { panic!("it was enabled") };
        assert!(matches!(error, EnableError::Commands(_)), "{error:?}");
        assert_eq!(machine.read32(0, Cr0Ack::OFFSET), 0);
        assert_eq!(Gbpa(machine.read32(0, Gbpa::OFFSET)).abort(), was_on);
    }
}

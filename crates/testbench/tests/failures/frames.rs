// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames that run out at each possible moment (rule R8): a typed error, everything as before, and the same call
//! works when there are frames again.

use smmuv3::pagetable::{MapErrorKind, TableError};
use smmuv3::{
    AddMasterError, Config, CreateError, DomainConfig, EnableError, Iommu, Iova, MasterConfig,
    Refused, StreamId,
};
use smmuv3_testbench::oracle::Use;
use smmuv3_testbench::platform::{TestMmio, TestPlatform};

use crate::setup::{BLOCK, DISK, GPU, NIC, PAGE, Setup, WIDE, config, world};

#[test]
fn an_smmu_that_gets_no_memory_is_not_touched_and_can_be_enabled_later() {
    let (machine, world) = world(1, |profile| profile);
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    let mmio = TestMmio { world: world.clone(), instance: 0 };
    let mut probe = iommu.probe(mmio, config()).unwrap();
    let mut failures = 0;
    let smmu = loop {
        world.frames().fail(Some(failures + 1));
        match probe.enable() {
            Ok(smmu) => break smmu,
            Err(Refused { value: again, error }) => {
                assert_eq!(error, EnableError::NoMemory);
                let live = world.frames().live_bytes();
                assert_eq!((live, machine.writes()), (0, 0));
                probe = again;
                failures += 1;
            }
        }
    };
    world.frames().fail(None);
    assert_eq!(failures, 5, "command queue, its records and counts, event queue, stream table");
    assert!(iommu.remove(smmu).is_ok());
    drop(iommu);
    let frames = world.frames();
    assert_eq!((frames.live_bytes(), frames.bad_frees()), (0, 0));
}

#[test]
fn a_master_or_a_domain_without_memory_is_not_made() {
    let setup = Setup::new(1);
    let before = setup.live_bytes();
    let add =
        || setup.iommu.add_master(&setup.smmus[WIDE], &[StreamId(9)], MasterConfig::default());
    setup.world.frames().fail(Some(1));
    assert_eq!(add().err(), Some(AddMasterError::NoMemory));
    setup.world.frames().fail(Some(1));
    let refused = setup.iommu.create_domain(DomainConfig::default()).err();
    assert_eq!(refused, Some(CreateError::Table(TableError::NoFrames { size: 4096 })));
    assert_eq!(setup.live_bytes(), before);
    assert!(add().unwrap().close().is_ok());
    let domain = setup.iommu.create_domain(DomainConfig::default()).unwrap();
    assert!(domain.close().is_ok());
    assert_eq!(setup.live_bytes(), before);
    setup.tear_down("after a master and a domain without memory");
}

/// Maps `len` bytes at `iova` with every allocation failing in turn; returns how many there were.
fn map_without_frames(iova: u64, offset: u64, len: u64) -> u64 {
    let mut failures = 0;
    loop {
        let context = format!("{len:#x} bytes at {iova:#x}, allocation {}", failures + 1);
        let setup = Setup::new(failures);
        // Devices are there all the time, and prefetch whatever is mapped.
        setup.attach(NIC, Use::Domain(0)).unwrap();
        setup.attach(GPU, Use::Domain(0)).unwrap();
        let before = setup.live_bytes();
        setup.world.frames().fail(Some(failures + 1));
        let result = setup.map(0, iova, offset, len);
        setup.world.frames().fail(None);
        if let Err(error) = result {
            assert!(
                matches!(error.kind, MapErrorKind::NoFrames { at } if (iova..iova + len).contains(&at.0)),
                "{context}: {error}"
            );
            assert_eq!(error.unconfirmed, None, "{context}");
            for page in (iova..iova + len).step_by(PAGE as usize) {
                // SAFETY: the test is alone.
                assert_eq!(unsafe { setup.domains[0].lookup(Iova(page)) }, None, "{context}");
            }
            assert_eq!(setup.dma(NIC, iova), None, "{context}");
            // Empty tables may stay; no more than that.
            // SAFETY: the test is alone.
            unsafe { setup.domains[0].reclaim(Iova(0), 1 << 44).unwrap() };
            assert_eq!(setup.live_bytes(), before, "{context}");
            assert_eq!(setup.map(0, iova, offset, len), Ok(()), "{context}");
        }
        for at in [0, len - 8] {
            let reached = Some(setup.memory + offset + at);
            assert_eq!((setup.dma(NIC, iova + at), setup.dma(GPU, iova + at)), (reached, reached));
        }
        assert_eq!(setup.unmap(0, iova, len), Ok(len), "{context}");
        setup.tear_down(&context);
        if result.is_ok() {
            return failures;
        }
        failures += 1;
    }
}

#[test]
fn a_map_without_frames_leaves_nothing_mapped() {
    assert_eq!(map_without_frames(0x1000_0000, 0, PAGE), 3, "a table of each level");
    // Pages in two tables: three levels, and a second last one.
    assert_eq!(map_without_frames(0x1010_0000, PAGE, 3 << 20), 4);
    // Blocks, then pages beyond a gigabyte's end: the second level-2 table and its pages.
    let near_end = 0x4000_0000 - 2 * BLOCK;
    assert_eq!(map_without_frames(near_end, 0, 2 * BLOCK + 4 * PAGE), 4);
    // Pages, blocks, pages, under two level-2 tables.
    assert_eq!(map_without_frames(near_end - PAGE, BLOCK - PAGE, 3 * BLOCK), 5);
}

#[test]
fn attaching_and_unmapping_take_no_frames() {
    let setup = Setup::new(1);
    setup.map(0, 0x1000_0000, 0, 3 << 20).unwrap();
    let count = setup.world.frames().count();
    for to in [Use::Domain(0), Use::Domain(1), Use::Identity, Use::Domain(0), Use::Blocked] {
        setup.attach(DISK, to).unwrap();
    }
    setup.unmap(0, 0x1000_0000, 3 << 20).unwrap();
    assert_eq!(setup.world.frames().count(), count);
    setup.tear_down("after attaching and unmapping");
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mappings that cannot be made and ranges that cannot be unmapped: errors with the values, and nothing changed.

use smmuv3::pagetable::{MapErrorKind, RangeError, UnmapError as TableUnmapError};
use smmuv3::{
    AttachError, Attributes, CreateError, DomainConfig, Iova, MapError, Mismatch, PhysAddr, Prot,
    Quarantined, ReclaimError, UnmapError, pagetable::TableError,
};
use smmuv3_formats::granule::Granule;
use smmuv3_testbench::machine::Machine;
use smmuv3_testbench::oracle::Use;

use crate::setup::{BLOCK, GPU, NARROW, NIC, PAGE, Setup, WIDE};

const IOVA: u64 = 0x1000_0000;

fn prepared(seed: u64) -> Setup {
    let setup = Setup::new(seed);
    setup.attach(NIC, Use::Domain(0)).unwrap();
    setup.attach(GPU, Use::Domain(0)).unwrap();
    setup
}

#[test]
fn a_map_that_runs_into_a_mapping_is_undone_on_every_instance() {
    for seed in 0..20 {
        let setup = prepared(seed);
        let taken = IOVA + 3 * PAGE;
        setup.map(0, taken, 0, PAGE).unwrap();
        let _ = setup.world.take_commands();
        // Devices prefetch the first pages while they are mapped; `map` looks for what is left of it.
        let attributes = Attributes::normal(Prot::READ | Prot::WRITE);
        let pa = PhysAddr(setup.memory + BLOCK);
        // The oracle is told of what will be mapped for a moment.
        let range = IOVA..taken;
        setup.watch().oracle.map_begins(0, range.clone(), pa.0, true);
        // SAFETY: the test is alone.
        let result = unsafe { setup.domains[0].map(Iova(IOVA), pa, 8 * PAGE, attributes) };
        let MapError { kind, unconfirmed: None, .. } = result.unwrap_err() else {
            panic!("{result:?}")
        };
        assert_eq!(kind, MapErrorKind::Overlap { at: Iova(taken) });
        let mut watch = setup.watch();
        watch.collect(&setup.world);
        watch.oracle.map_ends(0, range.clone(), false);
        watch.after_unmap(&setup.world, 0, &range);
        drop(watch);
        let told = setup.world.take_commands();
        assert!(
            [NARROW, WIDE].iter().all(|id| told.iter().any(|(told, _)| told == id)),
            "{told:?}"
        );
        for page in 0..8 {
            let reached = (page == 3).then_some(setup.memory);
            assert_eq!(setup.dma(NIC, IOVA + page * PAGE), reached, "{page}");
            assert_eq!(setup.dma(GPU, IOVA + page * PAGE), reached, "{page}");
        }
        setup.check(seed);
        setup.tear_down(seed);
    }
}

#[test]
fn a_range_that_cannot_be_mapped_is_refused_with_its_values() {
    let setup = prepared(1);
    let granule = PAGE;
    let input_bits = 48;
    let map = |iova: u64, pa: u64, len: u64, prot| {
        let attributes = Attributes::normal(prot);
        // SAFETY: nothing of this is mapped.
        let result = unsafe { setup.domains[0].map(Iova(iova), PhysAddr(pa), len, attributes) };
        result.map_err(|error| (error.kind, error.unconfirmed))
    };
    let live = setup.live_bytes();
    let _ = setup.world.take_commands();
    let (iova, pa) = (IOVA, setup.memory);
    let range = |error| MapErrorKind::Range(error);
    for (result, kind) in [
        (map(iova, pa, 0, Prot::READ), range(RangeError::Empty)),
        (
            map(iova + 8, pa, PAGE, Prot::READ),
            range(RangeError::Unaligned { iova: Iova(iova + 8), len: PAGE, granule }),
        ),
        (
            map(iova, pa, PAGE + 8, Prot::READ),
            range(RangeError::Unaligned { iova: Iova(iova), len: PAGE + 8, granule }),
        ),
        (
            map(iova, pa + 8, PAGE, Prot::READ),
            MapErrorKind::UnalignedOutput { pa: PhysAddr(pa + 8), granule },
        ),
        (
            map((1 << 48) - PAGE, pa, 2 * PAGE, Prot::READ),
            range(RangeError::BeyondInput {
                iova: Iova((1 << 48) - PAGE),
                len: 2 * PAGE,
                input_bits,
            }),
        ),
        (
            map(u64::MAX - PAGE + 1, pa, 2 * PAGE, Prot::READ),
            range(RangeError::BeyondInput {
                iova: Iova(u64::MAX - PAGE + 1),
                len: 2 * PAGE,
                input_bits,
            }),
        ),
        (
            map(iova, (1 << 44) - PAGE, 2 * PAGE, Prot::READ),
            MapErrorKind::BeyondOutput {
                pa: PhysAddr((1 << 44) - PAGE),
                len: 2 * PAGE,
                output_bits: 44,
            },
        ),
        (
            map(iova, pa, PAGE, Prot::from_bits(0)),
            MapErrorKind::NoPermission { prot: Prot::from_bits(0) },
        ),
    ] {
        assert_eq!(result, Err((kind, None)), "{kind}");
    }
    assert_eq!((setup.live_bytes(), setup.world.take_commands()), (live, vec![]));
    setup.tear_down("after maps that make no sense");
}

#[test]
fn a_range_that_cannot_be_unmapped_is_refused_and_stays() {
    let setup = prepared(1);
    setup.map(0, IOVA, 0, BLOCK).unwrap();
    let straddle = TableUnmapError::Straddle { block: Iova(IOVA), size: BLOCK };
    assert_eq!(setup.unmap(0, IOVA, PAGE), Err(UnmapError::Table(straddle)));
    assert_eq!(setup.unmap(0, IOVA - BLOCK, BLOCK + PAGE), Err(UnmapError::Table(straddle)));
    let unaligned = RangeError::Unaligned { iova: Iova(IOVA), len: 1, granule: PAGE };
    let unaligned = UnmapError::Table(TableUnmapError::Range(unaligned));
    assert_eq!(setup.unmap(0, IOVA, 1), Err(unaligned));
    // SAFETY: the test is alone.
    let reclaimed = unsafe { setup.domains[0].reclaim(Iova(IOVA), 0) };
    assert_eq!(reclaimed, Err(ReclaimError::Range(RangeError::Empty)));
    assert_eq!(setup.dma(NIC, IOVA + BLOCK - 8), Some(setup.memory + BLOCK - 8));
    assert_eq!(setup.unmap(0, IOVA, BLOCK), Ok(BLOCK));
    assert_eq!(setup.unmap(0, IOVA, BLOCK), Ok(0), "holes are allowed");
    setup.tear_down("after unmaps that make no sense");
}

#[test]
fn reclaimed_tables_of_a_wedged_smmu_are_kept_until_its_reset() {
    let setup = prepared(1);
    setup.map(0, IOVA, 0, PAGE).unwrap();
    setup.unmap(0, IOVA, PAGE).unwrap();
    let live = setup.live_bytes();
    setup.machine.model(NARROW).unwrap().wedge_after(Some(0));
    // SAFETY: the test is alone.
    let result = unsafe { setup.domains[0].reclaim(Iova(IOVA), BLOCK) };
    assert!(matches!(result, Err(ReclaimError::Unconfirmed(_))), "{result:?}");
    assert_eq!(setup.live_bytes(), live);
    let tables = |item: &Quarantined| matches!(item, Quarantined::Table { .. });
    assert!(setup.quarantined().iter().any(tables));
    setup.machine.model(NARROW).unwrap().wedge_after(None);
    setup.reset(NARROW, &[], &[]);
    assert!(setup.live_bytes() < live);
    setup.check("after reclaimed tables");
    setup.tear_down("after reclaimed tables");
}

#[test]
fn a_domain_of_impossible_size_is_not_made_and_one_that_does_not_fit_is_not_attached() {
    let mut setup = Setup::with(1, crate::setup::config(), |profile| profile.oas(40));
    let create = |input, output| {
        let config = DomainConfig::default().with_input_bits(input).with_output_bits(output);
        setup.iommu.create_domain(config)
    };
    for (input, output, error) in [
        (31, 0, TableError::InputBits(31)),
        (53, 0, TableError::InputBits(53)),
        (u32::MAX, 0, TableError::InputBits(u32::MAX)),
        (0, 31, TableError::OutputBits(31)),
        (0, 53, TableError::OutputBits(53)),
    ] {
        assert_eq!(create(input, output).err(), Some(CreateError::Table(error)));
    }
    let wide = create(48, 44).unwrap();
    let instance = setup.smmus[NARROW].id();
    let what = Mismatch::Output { domain: 44, instance: 40 };
    let refused = setup.iommu.attach(&setup.masters[NIC], &wide);
    assert_eq!(refused, Err(AttachError::Mismatch { instance, what }));
    assert_eq!(wide.targets().unwrap(), []);
    setup.domains.push(wide);
    setup.tear_down("after domains that do not fit");
}

#[test]
fn an_instance_without_the_granule_refuses_the_domain() {
    let setup =
        Setup::with(1, crate::setup::config(), |profile| profile.granules(false, true, true));
    let instance = setup.smmus[NARROW].id();
    let config = DomainConfig::default().with_granule(Granule::K4);
    let small = setup.iommu.create_domain(config).unwrap();
    let refused = setup.iommu.attach(&setup.masters[NIC], &small);
    let what = Mismatch::Granule { shift: 12 };
    assert_eq!(refused, Err(AttachError::Mismatch { instance, what }));
    assert_eq!(what.to_string(), "the instance has no granule of 4 KiB");
    assert!(small.close().is_ok());
    setup.tear_down("without the granule");
}

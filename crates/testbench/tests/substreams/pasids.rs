// SPDX-License-Identifier: MIT OR Apache-2.0
//! PASIDs: one allocator for the whole machine, lowest first; those of processes are theirs alone.

use smmuv3::{
    AddProcessError, AttachError, Config, PasidError, Refused, StillAttached, SubstreamId,
};

use crate::setup::{Setup, Tables, hardware, unbind};

#[test]
fn the_lowest_free_pasid_is_given_out_and_can_be_given_back() {
    let setup = Setup::one(8, true);
    let iommu = &setup.iommu;
    let numbers: Vec<u32> = (0..4).map(|_| setup.pasid().0).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    // A process takes from the same.
    let (process, tables) = setup.process(1, None, 0);
    assert_eq!((process.pasid(), setup.pasid()), (SubstreamId(5), SubstreamId(6)));
    assert_eq!(iommu.free_pasid(SubstreamId(2)), Ok(()));
    let unknown = |pasid| Err(PasidError::Unknown { pasid });
    for number in [0, 2, 5, 7, 1 << 20, u32::MAX] {
        let pasid = SubstreamId(number);
        assert_eq!(iommu.free_pasid(pasid), unknown(pasid), "{number}");
    }
    assert_eq!((setup.pasid(), setup.pasid()), (SubstreamId(2), SubstreamId(7)));
    assert!(process.close().is_ok());
    assert_eq!(setup.pasid(), SubstreamId(5));
    tables.free();
    setup.tear_down(vec![], vec![]);
}

#[test]
fn a_pasid_that_masters_are_attached_by_is_not_given_back() {
    let masters: &[(usize, &[u32], u32)] = &[(0, &[1], 8), (0, &[2], 8), (1, &[1], 8)];
    let setup = Setup::new(&[hardware(8, true), hardware(8, false)], masters);
    let domain = setup.domain(0);
    let pasid = setup.pasid();
    for masters in 1..=3 {
        setup.iommu.attach_pasid(&setup.masters[masters - 1], pasid, &domain).unwrap();
        assert_eq!(setup.iommu.free_pasid(pasid), Err(PasidError::InUse { pasid, masters }));
    }
    for masters in [2, 1, 0] {
        setup.iommu.detach_pasid(&setup.masters[masters], pasid).unwrap();
        if masters != 0 {
            assert_eq!(setup.iommu.free_pasid(pasid), Err(PasidError::InUse { pasid, masters }));
        }
    }
    assert_eq!(setup.iommu.free_pasid(pasid), Ok(()));
    // Attaching by it is refused, and changes nothing.
    for result in [
        setup.iommu.attach_pasid(&setup.masters[0], pasid, &domain),
        setup.iommu.detach_pasid(&setup.masters[0], pasid).map_err(Into::into),
    ] {
        assert_eq!(result, Err(AttachError::PasidUnknown { pasid }));
    }
    setup.tear_down(vec![domain], vec![]);
}

#[test]
fn a_process_has_its_pasid_for_itself() {
    let setup = Setup::one(8, true);
    let domain = setup.domain(0);
    let (process, tables) = setup.process(1, None, 16);
    let pasid = process.pasid();
    let bond = process.bind(&setup.masters[0]).unwrap();
    let steps = setup.steps(|| {
        for result in [
            setup.iommu.attach_pasid(&setup.masters[0], pasid, &domain),
            setup.iommu.detach_pasid(&setup.masters[0], pasid).map_err(Into::into),
        ] {
            assert_eq!(result, Err(AttachError::PasidUnknown { pasid }));
        }
        assert_eq!(setup.iommu.free_pasid(pasid), Err(PasidError::Unknown { pasid }));
    });
    assert_eq!(steps.1, []);
    assert_eq!(setup.dma(0, Some(pasid)), Some(setup.page(16)));
    // Nor is 0 anybody's.
    let zero = SubstreamId(0);
    assert_eq!(
        setup.iommu.attach_pasid(&setup.masters[0], zero, &domain),
        Err(AttachError::PasidUnknown { pasid: zero })
    );
    // As long as it is bound it cannot be closed, and dropping it gives nothing back.
    let Err(Refused { value: process, error: StillAttached { masters: 1, .. } }) = process.close()
    else {
        panic!("it is bound")
    };
    drop(process);
    assert_eq!(setup.dma(0, Some(pasid)), Some(setup.page(16)));
    assert_eq!(setup.pasid(), SubstreamId(pasid.0 + 1));
    unbind(bond);
    assert_eq!(setup.dma(0, Some(pasid)), None);
    assert_eq!(setup.pasid(), pasid);
    tables.free();
    setup.tear_down(vec![domain], vec![]);
}

#[test]
fn pasids_run_out() {
    for bits in [6, 7, 20] {
        let setup = Setup::with(
            Config::default().with_pasid_bits(bits),
            &[hardware(8, true)],
            &[(0, &[1], 8)],
        );
        for expected in 1..1u32 << bits {
            // Nothing but a bitmap and a list: quick enough for all of 20 bits.
            assert_eq!(setup.pasid().0, expected);
        }
        assert_eq!(setup.iommu.allocate_pasid(), Err(PasidError::Exhausted { bits }));
        let tables = Tables::new(&setup.world);
        // SAFETY: nobody is bound to it.
        let refused = unsafe { setup.iommu.add_process(tables.config(), 1) };
        assert_eq!(refused.err(), Some(AddProcessError::NoPasid { bits }));
        setup.iommu.free_pasid(SubstreamId(17)).unwrap();
        let process = setup.add_process(tables.config(), 1);
        assert_eq!(process.pasid(), SubstreamId(17));
        setup.tear_down(vec![], vec![(process, tables)]);
    }
}

#[test]
fn the_default_is_16_bits() {
    assert_eq!(Config::default().pasid_bits, 16);
}

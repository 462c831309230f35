// SPDX-License-Identifier: MIT OR Apache-2.0
//! The end of a process while devices go on: nothing of its memory is reached, nothing of its tables read (R1, R3),
//! and nobody is told of what devices try (§5.4).

use smmuv3::{AttachError, Process};
use smmuv3_formats::{Cd, EventId};
use smmuv3_model::{Access, Profile, Reason, Transfer};

use crate::os::Os;
use crate::setup::{IOVA, PAGE, Setup, Tables, failure, hardware, sharing, unbind};

/// Refused, silently: a fault that aborts, of which no event is made.
const SILENT: (Reason, Option<EventId>) = (Reason::Event(EventId::FTranslation), None);

/// A process on a shared and on a private instance, whose masters have a domain and a PASID besides.
struct Case {
    setup: Setup,
    domains: Vec<smmuv3::Domain<Os>>,
    pasid: smmuv3::SubstreamId,
    process: Process<Os>,
    /// Until they are freed.
    tables: Option<Tables>,
}

impl Case {
    fn new() -> Self {
        let masters: &[(usize, &[u32], u32)] = &[(0, &[1, 2], 8), (1, &[1], 8), (0, &[3], 8)];
        let narrow = Profile::small_asid().ssidsize(8).two_level_contexts(true);
        let setup = Setup::new(&[sharing(), narrow], masters);
        let domains = vec![setup.domain(0), setup.domain(16)];
        let pasid = setup.pasid();
        let (process, tables) = setup.process(7, Some(0x77), 32);
        for master in &setup.masters {
            setup.iommu.attach(master, &domains[0]).unwrap();
            setup.iommu.attach_pasid(master, pasid, &domains[1]).unwrap();
        }
        Self { setup, domains, pasid, process, tables: Some(tables) }
    }

    fn bind(&self) -> Vec<smmuv3::Bond<Os>> {
        self.setup.masters.iter().map(|master| self.process.bind(master).unwrap()).collect()
    }

    /// Something by which an SMMU can still read the process's tables.
    fn reference(&self) -> Option<String> {
        self.tables.as_ref().and_then(|tables| tables.reference(&self.setup.machine))
    }

    /// What is not the process's works; what is comes to `expected`.
    #[track_caller]
    fn check(&self, expected: impl Fn(Result<u64, (Reason, Option<EventId>)>) -> bool) {
        for master in 0..3 {
            assert_eq!(self.setup.dma(master, None), Some(self.setup.page(0)));
            assert_eq!(self.setup.dma(master, Some(self.pasid)), Some(self.setup.page(16)));
            for page in 0..4 {
                let iova = IOVA + page * PAGE;
                let result = self.setup.dma_at(master, Some(self.process.pasid()), iova);
                assert!(expected(result.clone()), "master {master}: {result:x?}");
            }
        }
    }

    fn finish(self) {
        let Self { setup, domains, pasid, process, tables } = self;
        if let Some(tables) = tables {
            tables.free();
        }
        assert!(process.close().is_ok());
        for master in &setup.masters {
            setup.iommu.detach_pasid(master, pasid).unwrap();
            setup.iommu.detach(master).unwrap();
        }
        // Its PASID is free.
        assert_eq!(setup.pasid().0, pasid.0 + 1);
        setup.tear_down(domains, vec![]);
    }
}

#[test]
fn devices_that_go_on_are_refused_in_silence_until_they_are_unbound() {
    let mut case = Case::new();
    let bonds = case.bind();
    let pasid = case.process.pasid();
    case.check(|result| result.is_ok());
    // Somebody is about to write.
    for (instance, stream) in [(0, 1), (0, 3), (1, 1)] {
        let access = Access { substream: Some(pasid.0), ..Access::write(stream, IOVA) };
        case.setup.model(instance).hold(access, Transfer::Write(vec![0xdd; 8])).unwrap();
    }
    case.setup.eyes.take_events();
    case.setup.during(
        || case.process.release().unwrap(),
        move |machine| {
            for (instance, stream) in [(0, 1), (0, 2), (0, 3), (1, 1)] {
                for page in [0, 1, 9] {
                    let iova = IOVA + page * PAGE;
                    let there =
                        crate::setup::device(machine, instance, &[stream], Some(pasid), iova);
                    assert!(there.is_ok() || there == Err(SILENT), "{there:x?}");
                }
                let own = crate::setup::device(machine, instance, &[stream], None, IOVA);
                assert!(own.is_ok(), "R0: {own:x?}");
            }
        },
    );
    assert_eq!([0, 1].map(|at| case.setup.model(at).held().count()), [0, 0], "R1");
    assert_eq!(case.reference(), None, "R3");
    case.check(|result| result == Err(SILENT));
    assert_eq!(case.setup.eyes.take_events(), []);
    for master in 0..3 {
        let cd = Cd(case.setup.cd(master, pasid.0));
        assert!(cd.v() && cd.epd0() && cd.epd1() && cd.a() && !cd.r() && !cd.s(), "{cd:?}");
        assert_eq!(cd.ttb0(), 0);
    }
    assert_eq!(
        case.process.bind(&case.setup.masters[0]).err(),
        Some(AttachError::Released),
        "also where it is bound"
    );
    // Once more is nothing.
    let (again, steps) = case.setup.steps(|| case.process.release());
    assert_eq!((again, steps), (Ok(()), vec![]));
    case.tables.take().unwrap().free();
    // The number stays the process's until it is unbound.
    let masters: usize = case.process.targets().unwrap().iter().map(|target| target.masters).sum();
    assert_eq!(masters, 3);
    let pinned = |case: &Case| case.setup.iommu.platform().pins().held[&7];
    assert_eq!(pinned(&case), 1);
    case.setup.iommu.reset(&case.setup.smmus[0]).unwrap();
    assert_eq!(case.setup.dma_at(0, Some(pasid), IOVA), Err(SILENT));
    bonds.into_iter().for_each(unbind);
    assert_eq!((case.process.targets().unwrap(), pinned(&case)), (vec![], 0));
    // From now on they are told of.
    let told = case.setup.dma_at(1, Some(pasid), IOVA);
    assert_eq!(told, Err((Reason::Event(EventId::CBadCd), Some(EventId::CBadCd))));
    case.finish();
}

#[test]
fn a_process_may_be_released_after_it_was_unbound_or_never_bound() {
    for bound in [false, true] {
        let case = Case::new();
        if bound {
            let bonds = case.bind();
            case.check(|result| result.is_ok());
            bonds.into_iter().for_each(unbind);
        }
        let (result, steps) = case.setup.steps(|| case.process.release());
        assert_eq!((result, steps), (Ok(()), vec![]));
        let refused = case.process.bind(&case.setup.masters[0]).err();
        assert_eq!(refused, Some(AttachError::Released));
        case.check(|result| result.is_err());
        case.finish();
    }
}

/// One that is bound twice, and one whose handle is gone.
#[test]
fn a_released_process_goes_with_its_last_bond() {
    let case = Case::new();
    let bonds = case.bind();
    let twice = case.bind();
    case.process.release().unwrap();
    bonds.into_iter().for_each(unbind);
    case.check(|result| result == Err(SILENT));
    let mut twice = twice.into_iter();
    unbind(twice.next().unwrap());
    let Case { setup, domains, pasid, process, tables } = case;
    tables.unwrap().free();
    let number = process.pasid();
    drop(process);
    twice.for_each(unbind);
    assert_eq!(setup.pasid(), number);
    for master in &setup.masters {
        setup.iommu.detach_pasid(master, pasid).unwrap();
        setup.iommu.detach(master).unwrap();
    }
    setup.tear_down(domains, vec![]);
}

/// Whichever command is refused: as long as `release` has not returned `Ok`, nothing may be freed, and it can be
/// called again, without a reset.
#[test]
fn a_release_that_was_not_confirmed_is_none_until_it_is_repeated() {
    let mut refused = 0;
    for nth in 0.. {
        let case = Case::new();
        let bonds = case.bind();
        case.check(|result| result.is_ok());
        case.setup.refuse(0, nth);
        let result = case.process.release();
        case.setup.machine.behave();
        if result.is_ok() {
            bonds.into_iter().for_each(unbind);
            case.finish();
            break;
        }
        refused += 1;
        assert_eq!(failure(result).0, 0, "batch {nth}");
        assert_eq!(
            case.process.bind(&case.setup.masters[1]).err(),
            Some(AttachError::Released),
            "batch {nth}"
        );
        assert_eq!(case.process.release(), Ok(()), "batch {nth}");
        assert_eq!(case.reference(), None, "R3, batch {nth}");
        case.check(|result| result == Err(SILENT));
        bonds.into_iter().for_each(unbind);
        // The second time took away what the first had left.
        assert_eq!(case.setup.quarantined(), [], "batch {nth}");
        case.setup.iommu.reset(&case.setup.smmus[0]).unwrap();
        case.finish();
    }
    // Two for the context of each of two masters, and one for the tag.
    assert_eq!(refused, 5);
}

/// The same with an instance that stands still: it has to be reset.
#[test]
fn a_release_on_a_wedged_instance_is_none_until_the_reset() {
    for commands in [0, 1, 3, 6] {
        let case = Case::new();
        let bonds = case.bind();
        case.check(|result| result.is_ok());
        case.setup.eyes.be_lenient();
        case.setup.wedge(0, Some(commands));
        assert_eq!(failure(case.process.release()).0, 0, "{commands}");
        // The other instance was told.
        let pasid = case.process.pasid();
        assert_eq!(case.setup.dma_at(1, Some(pasid), IOVA), Err(SILENT), "{commands}");
        let again = failure(case.process.release());
        assert_eq!(again, (0, smmuv3::Failure::Failed), "{commands}");
        case.setup.wedge(0, None);
        case.setup.iommu.reset(&case.setup.smmus[0]).unwrap();
        assert_eq!(case.reference(), None, "R3, {commands}");
        case.check(|result| result == Err(SILENT));
        assert_eq!(case.process.release(), Ok(()), "{commands}");
        bonds.into_iter().for_each(unbind);
        case.finish();
    }
}

#[test]
fn hardware_without_2_level_tables_is_released_alike() {
    let setup = Setup::new(&[hardware(8, false)], &[(0, &[1], 8)]);
    let (process, tables) = setup.process(1, None, 0);
    let bond = process.bind(&setup.masters[0]).unwrap();
    assert_eq!(setup.dma(0, Some(process.pasid())), Some(setup.page(0)));
    process.release().unwrap();
    assert_eq!(setup.dma_at(0, Some(process.pasid()), IOVA), Err(SILENT));
    tables.free();
    unbind(bond);
    // The last one: the entry blocks again.
    assert_eq!(setup.ste(0).0, [1, 0, 0, 0, 0, 0, 0, 0]);
    assert!(process.close().is_ok());
    setup.tear_down(vec![], vec![]);
}

/// A bind or an unbind was refused on the way, so that hardware may have any step of it, and then the process ends.
#[test]
fn a_process_is_released_beside_a_master_that_is_stuck() {
    for bind in [true, false] {
        let mut refused = 0;
        for nth in 0.. {
            let context = format!("bind {bind}, batch {nth}");
            let case = Case::new();
            let mut bonds = case.bind();
            case.check(|result| result.is_ok());
            case.setup.eyes.be_lenient();
            let changing = bonds.remove(0);
            let left = if bind {
                unbind(changing);
                case.setup.refuse(0, nth);
                match case.process.bind(&case.setup.masters[0]) {
                    Ok(bond) => Some((bond, None)),
                    Err(error) => {
                        assert_eq!(failure::<()>(Err(error)).0, 0, "{context}");
                        None
                    }
                }
            } else {
                case.setup.refuse(0, nth);
                changing.unbind().err().map(|refused| (refused.value, Some(refused.error)))
            };
            case.setup.machine.behave();
            let stuck = !case.setup.quarantined().is_empty();
            refused += u64::from(stuck);
            assert_eq!(case.process.release(), Ok(()), "{context}");
            assert_eq!(case.reference(), None, "R3, {context}");
            for iova in [IOVA, IOVA + PAGE] {
                let there = case.setup.dma_at(0, Some(case.process.pasid()), iova);
                assert!(there.is_err(), "{context}: {there:x?}");
            }
            case.setup.eyes.check(&context);
            case.setup.iommu.reset(&case.setup.smmus[0]).unwrap();
            bonds.into_iter().for_each(unbind);
            if let Some((bond, _)) = left {
                unbind(bond);
            }
            case.check(|result| result.is_err());
            case.finish();
            if !stuck {
                break;
            }
        }
        // The rest of the context is still there from before.
        assert_eq!(refused, 1, "bind {bind}: the valid bit's word");
    }
}

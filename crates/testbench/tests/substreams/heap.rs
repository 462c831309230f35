// SPDX-License-Identifier: MIT OR Apache-2.0
//! A heap that fails at each possible moment of the calls with substreams: a typed error, nothing changed, nothing
//! leaked, and the same call works afterwards.

use smmuv3::{
    AddProcessError, AttachError, Bond, Config, Domain, PasidError, Process, SubstreamId,
};

use crate::allocator::{driver, failing, live};
use crate::os::Os;
use crate::setup::{Setup, Tables, noticeable, sharing};

/// Two masters with a domain each, one by a PASID; a process that shares its ASID, which is the first domain's.
struct Case {
    setup: Setup,
    domains: Vec<Domain<Os>>,
    pasids: [SubstreamId; 2],
    process: Process<Os>,
    tables: Tables,
    bonds: Vec<Bond<Os>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    AttachFirst,
    AttachBeside,
    Move,
    Detach,
    Bind,
    BindTwice,
    Unbind,
    Release,
}

impl Case {
    fn new(call: Call) -> Self {
        let masters: &[(usize, &[u32], u32)] = &[(0, &[1, 2], 8), (0, &[3], 8)];
        let setup = Setup::with(Config::default(), &[sharing()], masters);
        let domains = vec![setup.domain(0), setup.domain(16), setup.domain(32)];
        let pasids = [setup.pasid(), setup.pasid()];
        if call != Call::AttachFirst {
            setup.iommu.attach(&setup.masters[0], &domains[0]).unwrap();
            setup.iommu.attach_pasid(&setup.masters[0], pasids[0], &domains[1]).unwrap();
        }
        let stolen = domains[0].targets().unwrap().first().map_or(9, |target| target.tag.asid);
        let (process, tables) = setup.process(7, Some(stolen), 48);
        let mut case =
            Self { setup, domains, pasids, process, tables, bonds: Vec::with_capacity(4) };
        if matches!(call, Call::BindTwice | Call::Unbind | Call::Release) {
            let bond = case.process.bind(&case.setup.masters[1]).unwrap();
            case.bonds.push(bond);
        }
        case
    }

    fn call(&mut self, call: Call) -> Result<(), AttachError> {
        let (iommu, [first, second]) = (&self.setup.iommu, &self.setup.masters[..]) else {
            panic!()
        };
        match call {
            Call::AttachFirst => iommu.attach_pasid(first, self.pasids[0], &self.domains[1]),
            Call::AttachBeside => iommu.attach_pasid(first, self.pasids[1], &self.domains[2]),
            Call::Move => iommu.attach_pasid(first, self.pasids[0], &self.domains[2]),
            Call::Detach => iommu.detach_pasid(first, self.pasids[0]).map_err(Into::into),
            Call::Bind | Call::BindTwice => self.process.bind(second).map(|bond| {
                self.bonds.push(bond);
            }),
            Call::Unbind => self.bonds.pop().unwrap().unbind().map_err(|refused| {
                self.bonds.push(refused.value);
                refused.error.into()
            }),
            Call::Release => self.process.release().map_err(Into::into),
        }
    }

    /// Everything that may not change: entries, targets, pins, where accesses go.
    fn state(&self) -> impl PartialEq + std::fmt::Debug + use<> {
        let setup = &self.setup;
        let targets: Vec<_> = self.domains.iter().map(Domain::targets).collect();
        let accesses: Vec<_> = [0, 1]
            .into_iter()
            .flat_map(|master| {
                let pasids = [None, Some(self.pasids[0]), Some(self.pasids[1])];
                pasids
                    .into_iter()
                    .chain([Some(self.process.pasid())])
                    .map(move |pasid| (master, pasid))
            })
            .map(|(master, pasid)| setup.dma(master, pasid))
            .collect();
        let held = setup.iommu.platform().pins().held.get(&7).copied().unwrap_or(0);
        let stes = [setup.ste(0), setup.ste(1)];
        (targets, self.process.targets().unwrap(), accesses, held, stes, setup.quarantined().len())
    }

    fn finish(self) {
        let Self { setup, domains, pasids, process, tables, bonds } = self;
        bonds.into_iter().for_each(crate::setup::unbind);
        for pasid in pasids {
            setup.iommu.detach_pasid(&setup.masters[0], pasid).unwrap();
        }
        setup.iommu.detach(&setup.masters[0]).unwrap();
        setup.tear_down(domains, vec![(process, tables)]);
    }
}

#[test]
fn a_change_without_heap_changes_nothing_and_can_be_made_later() {
    for (call, expected) in [
        // The slot, the place, its users, the targets with it (two).
        (Call::AttachFirst, 5),
        // Lists have room for some more.
        (Call::AttachBeside, 3),
        // And the targets without the one that is left (two).
        (Call::Move, 5),
        (Call::Detach, 2),
        // The move of the domain's tag as well.
        (Call::Bind, 13),
        (Call::BindTwice, 0),
        (Call::Unbind, 2),
        (Call::Release, 0),
    ] {
        let mut failures = 0;
        for nth in 1.. {
            let mut case = Case::new(call);
            let before = case.state();
            case.setup.eyes.take_steps();
            let (result, failed) = failing(nth, || driver(|| case.call(call)));
            let steps = noticeable(case.setup.eyes.take_steps());
            let context = format!("{call:?}, allocation {nth}");
            if result.is_err() {
                assert!(failed, "{context}");
                assert_eq!(result, Err(AttachError::NoMemory), "{context}");
                // Not even a tag was moved to make room.
                assert_eq!(steps, [], "{context}");
                assert_eq!(case.state(), before, "{context}");
                let held = case.setup.iommu.platform().pins().held.get(&7).copied();
                assert!(call != Call::Bind || held.unwrap_or(0) == 0, "{context}");
                assert_eq!(case.setup.dma(0, None).is_some(), call != Call::AttachFirst);
                failures += 1;
                assert_eq!(case.call(call), Ok(()), "{context}");
            }
            case.finish();
            if !failed {
                break;
            }
        }
        assert_eq!(failures, expected, "{call:?}");
    }
}

/// The heap itself is balanced, with every failure on the way.
#[test]
fn nothing_is_left_on_the_heap() {
    let setup = Setup::new(&[sharing()], &[]);
    let tables = Tables::new(&setup.world);
    setup.iommu.platform().pins().answers.insert(7, 0x99);
    let before = live();
    let round = |nth: u64| {
        let config = tables.config();
        // SAFETY: devices of a test only touch what the test tells them to.
        let (process, failed) =
            failing(nth, || driver(|| unsafe { setup.iommu.add_process(config, 7) }));
        match process {
            Ok(process) => {
                // The lowest: those before gave theirs back.
                assert_eq!(process.pasid().0, 1, "allocation {nth}");
                driver(|| drop(process));
            }
            Err(error) => assert_eq!(error, AddProcessError::NoMemory),
        }
        failed
    };
    // Whatever is kept for later is kept once.
    while round(u64::MAX) {}
    let kept = live();
    let failures = (1..).find(|nth| !round(*nth)).unwrap() - 1;
    assert_eq!(failures, 3, "registers, targets, the process");
    assert_eq!(live(), kept);
    assert!(kept - before < 1024);
    let (pasid, failed) = failing(1, || driver(|| setup.iommu.allocate_pasid()));
    assert_eq!((pasid, failed), (Err(PasidError::NoMemory), true));
    assert_eq!(driver(|| setup.iommu.allocate_pasid()), Ok(SubstreamId(1)));
    tables.free();
    setup.tear_down(vec![], vec![]);
}

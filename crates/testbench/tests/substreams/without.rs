// SPDX-License-Identifier: MIT OR Apache-2.0
//! Accesses without a PASID, of a master that has PASIDs too (STE.S1DSS, §5.3): what becomes of them, and that each
//! change leaves alone what it does not concern, at every moment (R0).

use std::sync::{Arc, Mutex};

use smmuv3::{AttachError, Domain, MasterConfig, SubstreamId};
use smmuv3_formats::EventId;
use smmuv3_model::Reason;

use crate::os::Os;
use crate::setup::{IOVA, Setup, device, hardware};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Own {
    Blocked,
    Identity,
    Domain(usize),
}
use Own::{Blocked, Identity};

const ALL: [Own; 4] = [Blocked, Identity, Own::Domain(0), Own::Domain(1)];

struct Case {
    setup: Setup,
    domains: Vec<Domain<Os>>,
    pasids: [SubstreamId; 2],
}

impl Case {
    fn new(two_levels: bool) -> Self {
        Self::with(two_levels, false)
    }

    /// The master's faults stall, or not.
    fn with(two_levels: bool, stalls: bool) -> Self {
        let hardware = hardware(8, two_levels);
        let hardware = if stalls { hardware.stalls(0, 16) } else { hardware };
        let mut setup = Setup::new(&[hardware], &[]);
        let config = MasterConfig::default().with_pasid_bits(8);
        setup.add_master_with(0, &[1, 2], if stalls { config.with_stalls() } else { config });
        let domains = (0..4).map(|at| setup.domain(16 * at)).collect();
        let pasids = [setup.pasid(), setup.pasid()];
        Self { setup, domains, pasids }
    }

    fn own(&self, own: Own) -> Result<(), AttachError> {
        let (iommu, master) = (&self.setup.iommu, &self.setup.masters[0]);
        match own {
            Blocked => iommu.detach(master).map_err(Into::into),
            // SAFETY: devices of a test only touch what the test tells them to.
            Identity => unsafe { iommu.attach_identity(master) },
            Own::Domain(domain) => iommu.attach(master, &self.domains[domain]),
        }
    }

    fn pasid(&self, which: usize, domain: Option<usize>) -> Result<(), AttachError> {
        let (iommu, master) = (&self.setup.iommu, &self.setup.masters[0]);
        match domain {
            Some(domain) => iommu.attach_pasid(master, self.pasids[which], &self.domains[domain]),
            None => iommu.detach_pasid(master, self.pasids[which]).map_err(Into::into),
        }
    }

    /// What becomes of accesses without a PASID, while there are PASIDs or not.
    fn expected_own(&self, own: Own, pasids: bool) -> Result<u64, (Reason, Option<EventId>)> {
        match own {
            Own::Domain(domain) => Ok(self.setup.page(16 * domain as u64)),
            Identity => Ok(IOVA),
            Blocked if pasids => {
                let id = EventId::FStreamDisabled;
                Err((Reason::Event(id), Some(id)))
            }
            Blocked => Err((Reason::Config, None)),
        }
    }

    /// Everything is as it should be.
    fn check(&self, own: Own, with: [Option<usize>; 2], context: &str) {
        let setup = &self.setup;
        let any = with.iter().any(Option::is_some);
        let ste = setup.ste(0);
        // Plain entries when no context is in use.
        let plain = match own {
            Blocked if !any => Some([1, 0, 0, 0, 0, 0, 0, 0]),
            Identity if !any => Some([9, 1 << 44, 0, 0, 0, 0, 0, 0]),
            _ => None,
        };
        match plain {
            Some(words) => assert_eq!(ste.0, words, "{context}"),
            None => {
                let dss = match own {
                    Blocked => 0,
                    // What is not translated is shared as it comes.
                    Identity => 1 | 1 << 44,
                    Own::Domain(_) => 2,
                };
                assert_eq!(ste.0[0] & 0xf, 0b1011, "{context}");
                assert_eq!(ste.0[0] >> 59, 8, "{context}");
                assert_eq!(ste.0[1..], [0xd4 | dss, 0, 0, 0, 0, 0, 0], "{context}");
            }
        }
        assert_eq!(setup.dma_at(0, None, IOVA), self.expected_own(own, any), "{context}");
        for (pasid, domain) in self.pasids.iter().zip(with) {
            let result = setup.dma_at(0, Some(*pasid), IOVA);
            match domain {
                Some(domain) => assert_eq!(result, Ok(setup.page(16 * domain as u64)), "{context}"),
                None => assert!(result.is_err(), "{context}: {result:?}"),
            }
        }
        // SSV = 1 with SSID 0 (§5.3): disabled with S1DSS 2; else the first context, which is nobody's.
        let zero = setup.dma_at(0, Some(SubstreamId(0)), IOVA).unwrap_err();
        let event = match (plain, own) {
            (Some(_), Blocked) => None,
            (Some(_), _) => Some(EventId::CBadSubstreamId),
            (None, Own::Domain(_)) => Some(EventId::FStreamDisabled),
            (None, _) => Some(EventId::CBadCd),
        };
        assert_eq!(zero.1, event, "{context}");
    }

    fn finish(self) {
        self.setup.tear_down(self.domains, vec![]);
    }
}

/// Does `call`; at every moment of it, accesses that are `watched` come out as one of what they did before and after,
/// and are not refused if they never are.
fn watched(case: &Case, pasids: &[Option<SubstreamId>], call: impl FnOnce()) {
    type Seen = Vec<Vec<Option<u64>>>;
    let outcome = |pasid: &Option<SubstreamId>| case.setup.dma(0, *pasid);
    let before: Vec<_> = pasids.iter().map(outcome).collect();
    let seen: Arc<Mutex<Seen>> = Arc::new(Mutex::new(vec![Vec::new(); pasids.len()]));
    let (log, list) = (seen.clone(), Vec::from(pasids));
    case.setup.during(call, move |machine| {
        let mut log = log.lock().unwrap();
        for (pasid, log) in list.iter().zip(log.iter_mut()) {
            // The streams' entries change one after the other.
            for stream in [1, 2] {
                log.push(device(machine, 0, &[stream], *pasid, IOVA).ok());
            }
        }
    });
    let after: Vec<_> = pasids.iter().map(outcome).collect();
    for (at, seen) in seen.lock().unwrap().iter().enumerate() {
        assert!(before == after || seen.len() >= 4, "nobody looked");
        for outcome in seen {
            let fine = *outcome == before[at] || *outcome == after[at];
            assert!(
                fine,
                "{:?}: {outcome:x?}, not {:x?} or {:x?}",
                pasids[at], before[at], after[at]
            );
        }
    }
}

#[test]
fn each_order_of_coming_and_going_leaves_the_rest_as_it_is() {
    for (two_levels, stalls) in [(false, false), (true, false), (false, true), (true, true)] {
        for own in ALL {
            for next in ALL {
                let case = Case::with(two_levels, stalls);
                let context = format!("{own:?}, then {next:?}, {two_levels}, {stalls}");
                let [one, two] = case.pasids.map(Some);
                case.own(own).unwrap();
                case.check(own, [None, None], &context);
                // The first PASID: the entry may have to become one with contexts, with no access refused.
                watched(&case, &[None, two], || case.pasid(0, Some(2)).unwrap());
                case.check(own, [Some(2), None], &context);
                watched(&case, &[None, one], || case.pasid(1, Some(3)).unwrap());
                case.check(own, [Some(2), Some(3)], &context);
                // Accesses without a PASID change; those with one do not.
                watched(&case, &[one, two, None], || case.own(next).unwrap());
                case.check(next, [Some(2), Some(3)], &context);
                // And the other way round, from one domain to another, and there once more.
                watched(&case, &[one, two, None], || case.pasid(1, Some(1)).unwrap());
                case.check(next, [Some(2), Some(1)], &context);
                watched(&case, &[one, two, None], || case.pasid(0, Some(3)).unwrap());
                case.check(next, [Some(3), Some(1)], &context);
                watched(&case, &[one, two, None], || case.pasid(1, Some(3)).unwrap());
                watched(&case, &[None, two], || case.pasid(0, None).unwrap());
                case.check(next, [None, Some(3)], &context);
                watched(&case, &[None, one], || case.pasid(1, None).unwrap());
                case.check(next, [None, None], &context);
                case.own(Blocked).unwrap();
                case.check(Blocked, [None, None], &context);
                case.finish();
            }
        }
    }
}

/// Everything refused or reached is what was attached, whoever uses the same domain by another way.
#[test]
fn a_domain_may_be_used_by_several_pasids_and_without() {
    let case = Case::new(true);
    case.own(Own::Domain(0)).unwrap();
    case.pasid(0, Some(0)).unwrap();
    case.pasid(1, Some(0)).unwrap();
    let targets = case.domains[0].targets().unwrap();
    assert_eq!((targets.len(), targets[0].masters), (1, 3));
    case.check(Own::Domain(0), [Some(0), Some(0)], "all three");
    // The same again is nothing.
    let (result, steps) = case.setup.steps(|| case.pasid(0, Some(0)));
    assert_eq!((result, steps), (Ok(()), vec![]));
    case.own(Blocked).unwrap();
    case.pasid(0, None).unwrap();
    assert_eq!(case.domains[0].targets().unwrap()[0].masters, 1);
    case.check(Blocked, [None, Some(0)], "one");
    // SAFETY: the test is alone.
    unsafe { case.domains[0].unmap(smmuv3::Iova(IOVA), 0x1000).unwrap() };
    assert_eq!(case.setup.dma(0, case.pasids.get(1).copied()), None);
    case.pasid(1, None).unwrap();
    assert_eq!(case.domains[0].targets().unwrap(), []);
    // Detaching what is not attached is nothing.
    let (result, steps) = case.setup.steps(|| case.pasid(1, None));
    assert_eq!((result, steps), (Ok(()), vec![]));
    case.finish();
}

/// What one PASID could reach, it cannot when the call that took it away has returned, also not by a transfer that was
/// translated before (R1).
#[test]
fn a_transfer_under_way_is_over_when_its_pasid_is_detached_or_moved() {
    for to in [None, Some(3)] {
        let case = Case::new(true);
        case.own(Identity).unwrap();
        case.pasid(0, Some(2)).unwrap();
        let pasid = Some(case.pasids[0].0);
        let access =
            smmuv3_model::Access { substream: pasid, ..smmuv3_model::Access::write(1, IOVA) };
        let payload = smmuv3_model::Transfer::Write(vec![0xee; 8]);
        let held = case.setup.model(0).hold(access, payload).unwrap();
        assert_eq!(held.pa, case.setup.page(32));
        case.pasid(0, to).unwrap();
        assert_eq!(case.setup.model(0).held().count(), 0);
        case.check(Identity, [to, None], "moved");
        case.pasid(0, None).unwrap();
        case.own(Blocked).unwrap();
        case.finish();
    }
}

/// How often an instance with one stream is waited for (§8.2).
#[test]
fn each_change_of_an_entry_takes_as_few_steps_as_it_can() {
    let setup = Setup::new(&[hardware(4, false)], &[(0, &[1], 4)]);
    let domains = [setup.domain(0), setup.domain(16)];
    let pasid = setup.pasid();
    let (iommu, master) = (&setup.iommu, &setup.masters[0]);
    let syncs = |call: &dyn Fn() -> Result<(), AttachError>| {
        let (result, told) = setup.told(0, call);
        result.unwrap();
        told.iter().filter(|step| step.starts_with("CMD_SYNC")).count()
    };
    // SAFETY: devices of a test only touch what the test tells them to.
    let identity = || unsafe { iommu.attach_identity(master) };
    let attach_pasid = || iommu.attach_pasid(master, pasid, &domains[1]);
    let detach_pasid = || iommu.detach_pasid(master, pasid).map_err(Into::into);
    let detach = || iommu.detach(master).map_err(Into::into);
    let counts = [
        // Blocked to contexts: the rest, then V and Config's word. Back: Config's, then the rest; the tag.
        ("first PASID of blocked", syncs(&attach_pasid), 2),
        ("last PASID of blocked", syncs(&detach_pasid), 3),
        ("identity", syncs(&identity), 2),
        ("first PASID of identity", syncs(&attach_pasid), 2),
        // S1DSS and SHCFG are one word; before it the first context, which takes two.
        ("a domain without PASID", syncs(&|| iommu.attach(master, &domains[0])), 3),
        // The word, the context's, the tag.
        ("none without PASID", syncs(&detach), 3),
        ("identity beside a PASID", syncs(&identity), 1),
        ("last PASID of identity", syncs(&detach_pasid), 3),
        ("blocked", syncs(&detach), 2),
    ];
    for (name, count, expected) in counts {
        assert_eq!(count, expected, "{name}");
    }
    setup.tear_down(Vec::from(domains), vec![]);
}

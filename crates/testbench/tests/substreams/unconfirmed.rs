// SPDX-License-Identifier: MIT OR Apache-2.0
//! An instance that stops at any command of a change, or refuses any (rule R8): the change is blocked, what the master
//! had besides works again after a reset, others go on, and nothing is lost or left.

use std::sync::atomic::Ordering;

use smmuv3::{
    AsidPolicy, AttachError, Bond, Config, Domain, Failure, Iova, Process, Quarantined, Refused,
    StreamId, SubstreamId, UnmapError,
};
use smmuv3_model::Profile;

use crate::os::Os;
use crate::setup::{IOVA, PAGE, Setup, Tables, failure, hardware, sharing, unbind};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    /// The first PASID of a master, beside identity.
    AttachFirst,
    /// Another one beside a domain, in a leaf of its own.
    AttachLeaf,
    /// A PASID from one domain to another.
    Move,
    /// A PASID, beside others.
    Detach,
    /// The last PASID of a master that is identity.
    DetachLast,
    /// A process by an ASID of the instance's.
    BindPrivate,
    /// A process by an ASID that a domain has.
    BindShared,
    /// A process's last bond with the master.
    Unbind,
    /// A process on both instances.
    Release,
}

const ALL: [Call; 9] = [
    Call::AttachFirst,
    Call::AttachLeaf,
    Call::Move,
    Call::Detach,
    Call::DetachLast,
    Call::BindPrivate,
    Call::BindShared,
    Call::Unbind,
    Call::Release,
];

/// How the instance fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// It stops after so many commands.
    Stops(u64),
    /// It refuses the first command of that batch.
    Refuses(u64),
}

/// Master 0 is the one that changes, 1 another one of the same instance, 2 one of another instance.
struct Case {
    setup: Setup,
    domains: Vec<Domain<Os>>,
    /// Two low ones and one in another leaf.
    pasids: [SubstreamId; 3],
    process: Process<Os>,
    tables: Tables,
    bonds: Vec<Bond<Os>>,
    call: Call,
}

const OTHERS: usize = 3;

impl Case {
    fn new(call: Call) -> Self {
        let masters: &[(usize, &[u32], u32)] = &[(0, &[1, 2], 8), (0, &[3], 8), (1, &[1], 8)];
        let setup = Setup::new(&[sharing(), hardware(8, false)], masters);
        let domains: Vec<_> = (0..4).map(|at| setup.domain(16 * at)).collect();
        let mut numbers: Vec<_> = (0..64).map(|_| setup.pasid()).collect();
        let pasids = [numbers[0], numbers[1], numbers[63]];
        numbers.retain(|pasid| !pasids.contains(pasid));
        numbers.into_iter().for_each(|pasid| setup.iommu.free_pasid(pasid).unwrap());
        // The domain that the others share.
        setup.iommu.attach(&setup.masters[1], &domains[OTHERS]).unwrap();
        setup.iommu.attach_pasid(&setup.masters[1], pasids[0], &domains[OTHERS]).unwrap();
        setup.iommu.attach(&setup.masters[2], &domains[OTHERS]).unwrap();
        let asid = domains[OTHERS].targets().unwrap()[0].tag.asid;
        let asid = if call == Call::BindPrivate { None } else { Some(asid) };
        let (process, tables) = setup.process(7, asid, 64);
        let case = Self { setup, domains, pasids, process, tables, bonds: Vec::new(), call };
        case.prepare()
    }

    fn prepare(mut self) -> Self {
        let (iommu, master) = (&self.setup.iommu, &self.setup.masters[0]);
        if self.is_identity() {
            // SAFETY: devices of a test only touch what the test tells them to.
            unsafe { iommu.attach_identity(master).unwrap() };
        } else {
            iommu.attach(master, &self.domains[0]).unwrap();
            iommu.attach_pasid(master, self.pasids[0], &self.domains[1]).unwrap();
        }
        if matches!(self.call, Call::Move | Call::Detach | Call::DetachLast) {
            iommu.attach_pasid(master, self.pasids[1], &self.domains[2]).unwrap();
        }
        if matches!(self.call, Call::Unbind | Call::Release) {
            self.bonds.push(self.process.bind(master).unwrap());
        }
        if self.call == Call::Release {
            self.bonds.push(self.process.bind(&self.setup.masters[2]).unwrap());
        }
        // Everything is in caches.
        let _ = self.changing();
        self.check_rest(true, "before");
        self
    }

    fn is_identity(&self) -> bool {
        matches!(self.call, Call::AttachFirst | Call::DetachLast)
    }

    fn run(&mut self) -> Result<(), AttachError> {
        let (iommu, master) = (&self.setup.iommu, &self.setup.masters[0]);
        let [_, second, third] = self.pasids;
        match self.call {
            Call::AttachFirst => iommu.attach_pasid(master, second, &self.domains[2]),
            Call::AttachLeaf => iommu.attach_pasid(master, third, &self.domains[2]),
            Call::Move => iommu.attach_pasid(master, second, &self.domains[1]),
            Call::Detach | Call::DetachLast => {
                iommu.detach_pasid(master, second).map_err(Into::into)
            }
            Call::BindPrivate | Call::BindShared => {
                self.process.bind(master).map(|bond| self.bonds.push(bond))
            }
            Call::Unbind => match self.bonds.pop().unwrap().unbind() {
                Ok(()) => Ok(()),
                Err(Refused { value: bond, error }) => {
                    self.bonds.push(bond);
                    Err(error.into())
                }
            },
            Call::Release => self.process.release().map_err(Into::into),
        }
    }

    /// Where the accesses go that the call is about.
    fn changing(&self) -> Option<u64> {
        let pasid = match self.call {
            Call::AttachFirst | Call::Move | Call::Detach | Call::DetachLast => self.pasids[1],
            Call::AttachLeaf => self.pasids[2],
            Call::BindPrivate | Call::BindShared | Call::Unbind | Call::Release => {
                self.process.pasid()
            }
        };
        self.setup.dma(0, Some(pasid))
    }

    /// Where they go after it.
    fn goal(&self) -> Option<u64> {
        match self.call {
            Call::AttachFirst | Call::AttachLeaf => Some(self.setup.page(32)),
            Call::Move => Some(self.setup.page(16)),
            Call::BindPrivate | Call::BindShared => Some(self.setup.page(64)),
            Call::Detach | Call::DetachLast | Call::Unbind | Call::Release => None,
        }
    }

    /// What the call is not about: of the master itself, if it `works`, and of the others.
    #[track_caller]
    fn check_rest(&self, works: bool, context: &str) {
        let setup = &self.setup;
        let there = |page: u64| Some(setup.page(page));
        if works {
            let own = if self.is_identity() { Some(IOVA) } else { there(0) };
            assert_eq!(setup.dma(0, None), own, "{context}");
            if !self.is_identity() {
                assert_eq!(setup.dma(0, Some(self.pasids[0])), there(16), "{context}");
            }
        }
        assert_eq!(setup.dma(1, None), there(48), "{context}");
        assert_eq!(setup.dma(1, Some(self.pasids[0])), there(48), "{context}");
        assert_eq!(setup.dma(2, None), there(48), "{context}");
    }

    fn unmap(&self, page: u64) -> Result<u64, UnmapError> {
        // SAFETY: the test is alone.
        unsafe { self.domains[OTHERS].unmap(Iova(IOVA + page * PAGE), PAGE) }
    }

    fn finish(self) {
        let Self { setup, domains, pasids, process, tables, bonds, .. } = self;
        bonds.into_iter().for_each(unbind);
        for master in &setup.masters {
            for pasid in pasids {
                setup.iommu.detach_pasid(master, pasid).unwrap();
            }
            setup.iommu.detach(master).unwrap();
        }
        setup.tear_down(domains, vec![(process, tables)]);
    }
}

/// Does `call` with `fault`; whether it noticed.
fn fail(call: Call, fault: Fault) -> bool {
    let context = &format!("{call:?}, {fault:?}");
    let mut case = Case::new(call);
    case.setup.eyes.be_lenient();
    match fault {
        Fault::Stops(commands) => case.setup.wedge(0, Some(commands)),
        Fault::Refuses(batch) => case.setup.refuse(0, batch),
    }
    let live = case.setup.live_bytes();
    let result = case.run();
    case.setup.machine.behave();
    if result.is_ok() {
        case.setup.wedge(0, None);
        assert_eq!(case.changing(), case.goal(), "{context}");
        case.check_rest(true, context);
        case.finish();
        return false;
    }
    let (instance, what) = failure(result);
    assert_eq!(instance, 0, "{context}");
    let stops = matches!(fault, Fault::Stops(_));
    match what {
        Failure::Timeout { .. } => assert!(stops, "{context}: {what}"),
        Failure::Refused { code: 1, .. } => assert!(!stops, "{context}: {what}"),
        _ => panic!("{context}: {what}"),
    }
    assert_eq!(case.setup.has_failed(0), stops, "{context}");
    assert!(!case.setup.has_failed(1), "{context}");
    // Nothing was freed that may still be reached; a table may have come.
    assert!(case.setup.live_bytes() >= live, "{context}");
    let listed = case.setup.quarantined();
    let stuck: Vec<_> = listed
        .iter()
        .filter_map(|item| match item {
            Quarantined::Stream { stream: StreamId(stream), .. } => Some(*stream),
            _ => None,
        })
        .collect();
    assert!(!listed.is_empty(), "{context}");
    if stuck.is_empty() {
        // The flush of a tag was not confirmed, or the call was about another master's.
    } else {
        assert_eq!(stuck, [1, 2], "{context}");
        for stream in [1, 2] {
            let word = case.setup.read(case.setup.ste_at(0, stream));
            assert_eq!(word, 1, "{context}: stream {stream} is not blocked in memory");
        }
        let again = case.setup.iommu.detach(&case.setup.masters[0]);
        assert_eq!(failure(again), (0, Failure::Failed), "{context}");
    }
    // Others go on, and whatever they unmap is unmapped; only a failed instance does not confirm it.
    case.check_rest(false, context);
    let unmapped = case.unmap(1);
    if stops {
        let Err(UnmapError::Unconfirmed(unconfirmed)) = unmapped else { panic!("{context}") };
        assert_eq!((unconfirmed.instance.index(), unconfirmed.what), (0, Failure::Failed));
        let domain = case.domains[OTHERS].id();
        let (iova, waiting) = (Iova(IOVA + PAGE), unconfirmed.waiting);
        let range = Quarantined::Range { domain, iova, bytes: PAGE, waiting };
        assert!(case.setup.quarantined().contains(&range), "{context}");
    } else {
        assert_eq!(unmapped, Ok(PAGE), "{context}");
        for (master, pasid) in [(1, None), (1, Some(case.pasids[0]))] {
            assert!(case.setup.dma_at(master, pasid, IOVA + PAGE).is_err(), "{context}");
        }
    }
    assert!(case.setup.dma_at(2, None, IOVA + PAGE).is_err(), "{context}");
    let other = &case.setup.masters[2];
    let beside = SubstreamId(case.pasids[1].0);
    case.setup.iommu.attach_pasid(other, beside, &case.domains[2]).unwrap();
    assert_eq!(case.setup.dma(2, Some(beside)), Some(case.setup.page(32)), "{context}");
    case.setup.iommu.detach_pasid(other, beside).unwrap();

    case.setup.wedge(0, None);
    case.setup.iommu.reset(&case.setup.smmus[0]).unwrap();
    assert_eq!(case.setup.quarantined(), [], "{context}");
    for (master, pasid) in [(1, None), (1, Some(case.pasids[0])), (2, None)] {
        assert!(case.setup.dma_at(master, pasid, IOVA + PAGE).is_err(), "{context}");
    }
    case.check_rest(true, context);
    // What was being changed is blocked, unless it was done but for the old tag.
    let after = case.changing();
    assert!(after.is_none() || stuck.is_empty() && after == case.goal(), "{context}: {after:x?}");
    // It can be done now.
    assert_eq!(case.run(), Ok(()), "{context}");
    assert_eq!(case.changing(), case.goal(), "{context}");
    case.check_rest(true, context);
    case.setup.eyes.check(context);
    case.finish();
    true
}

#[test]
fn an_instance_may_stop_at_any_command() {
    for call in ALL {
        let commands = (0..).find(|commands| !fail(call, Fault::Stops(*commands))).unwrap();
        // Two streams: two CFGIs and a CMD_SYNC at least; and the tag.
        assert!(commands >= 5, "{call:?}: {commands}");
    }
}

#[test]
fn an_instance_may_refuse_any_command() {
    for call in ALL {
        let batches = (0..).find(|batch| !fail(call, Fault::Refuses(*batch))).unwrap();
        assert!(batches >= 2, "{call:?}: {batches}");
    }
}

/// On a failed instance all that needs it is refused at once, with nothing changed.
#[test]
fn a_failed_instance_is_not_touched() {
    for call in ALL {
        let mut case = Case::new(call);
        case.setup.wedge(0, Some(0));
        assert!(case.unmap(1).is_err());
        assert!(case.setup.has_failed(0));
        let begun = smmuv3::Platform::now(case.setup.iommu.platform());
        let (result, steps) = {
            case.setup.eyes.take_steps();
            let result = case.run();
            (result, case.setup.eyes.take_steps())
        };
        assert_eq!(failure(result), (0, Failure::Failed), "{call:?}");
        assert!(smmuv3::Platform::now(case.setup.iommu.platform()) - begun < 60_000, "{call:?}");
        if call != Call::Release {
            assert_eq!(steps, [], "{call:?}");
        }
        case.setup.eyes.be_lenient();
        case.setup.wedge(0, None);
        case.setup.iommu.reset(&case.setup.smmus[0]).unwrap();
        case.check_rest(true, "after the reset");
        assert_eq!(case.run(), Ok(()), "{call:?}");
        assert_eq!(case.changing(), case.goal(), "{call:?}");
        case.finish();
    }
}

/// A bond that was handed back ends nothing but itself, whatever came after the reset.
#[test]
fn a_bond_that_was_handed_back_does_not_end_a_later_one() {
    let mut case = Case::new(Call::Unbind);
    case.setup.eyes.be_lenient();
    case.setup.refuse(0, 0);
    assert_eq!(failure(case.run()).0, 0);
    case.setup.machine.behave();
    case.setup.iommu.reset(&case.setup.smmus[0]).unwrap();
    assert_eq!(case.changing(), None);
    let later = case.process.bind(&case.setup.masters[0]).unwrap();
    assert_eq!(case.changing(), Some(case.setup.page(64)));
    let (_, steps) = case.setup.steps(|| unbind(case.bonds.pop().unwrap()));
    assert_eq!(steps, []);
    assert_eq!(case.changing(), Some(case.setup.page(64)));
    unbind(later);
    assert_eq!(case.changing(), None);
    case.finish();
}

/// Nor does it depend on the master still being there.
#[test]
fn a_bond_that_was_handed_back_ends_after_its_master() {
    for again in [false, true] {
        let mut setup = Setup::new(&[hardware(8, true)], &[(0, &[1], 8)]);
        let (process, tables) = setup.process(7, None, 0);
        let bond = process.bind(&setup.masters[0]).unwrap();
        setup.eyes.be_lenient();
        setup.refuse(0, 0);
        let Err(Refused { value: bond, error }) = bond.unbind() else { panic!("it was refused") };
        setup.machine.behave();
        assert_eq!(failure(Err::<(), _>(error)).0, 0);
        setup.iommu.reset(&setup.smmus[0]).unwrap();
        assert!(setup.masters.pop().unwrap().close().is_ok());
        setup.places.clear();
        if again {
            // In its place there is one without substreams.
            setup.add_master(0, &[2], 0);
        }
        unbind(bond);
        setup.tear_down(vec![], vec![(process, tables)]);
    }
}

/// A master is stuck between two domains when another one's number is changed: its context stays one of them, under
/// its own number.
#[test]
fn a_number_is_changed_beside_a_master_that_is_stuck() {
    // One step where there is memory for a copy, of a leaf or of all; else three, through an invalid context.
    for (bits, exhausted, steps) in [(8, false, 1), (4, false, 1), (8, true, 3)] {
        beside_a_master_that_is_stuck(bits, exhausted, steps);
    }
}

fn beside_a_master_that_is_stuck(bits: u32, exhausted: bool, steps: u64) {
    let mut stuck = 0;
    for batch in 0.. {
        let masters: &[(usize, &[u32], u32)] = &[(0, &[1], bits), (0, &[2], bits), (0, &[3], bits)];
        let setup = Setup::new(&[sharing()], masters);
        let domains = [setup.domain(0), setup.domain(16)];
        setup.iommu.attach(&setup.masters[0], &domains[0]).unwrap();
        setup.iommu.attach(&setup.masters[1], &domains[0]).unwrap();
        let old = Setup::asid(&domains[0].targets().unwrap(), 0);
        let (process, tables) = setup.process(7, Some(old), 32);
        assert_eq!(setup.dma(0, None), Some(setup.page(0)));
        setup.eyes.be_lenient();
        setup.refuse(0, batch);
        setup.iommu.platform().exhausted.store(exhausted, Ordering::Relaxed);
        let moved = setup.iommu.attach(&setup.masters[0], &domains[1]);
        setup.machine.behave();
        setup.iommu.platform().exhausted.store(false, Ordering::Relaxed);
        let done = moved.is_ok();
        stuck += u64::from(!done);
        let bond = process.bind(&setup.masters[2]).unwrap();
        // Whichever of the two it may use, nobody else is led there.
        for page in 0..4 {
            let there = setup.dma_at(0, None, IOVA + page * PAGE).ok();
            let fine = [None, Some(setup.page(page)), Some(setup.page(16 + page))];
            assert!(fine.contains(&there), "{there:x?}");
            for (master, pasid, first) in [(1, None, 0), (2, Some(process.pasid()), 32)] {
                let there = setup.dma_at(master, pasid, IOVA + page * PAGE);
                assert_eq!(there, Ok(setup.page(first + page)), "batch {batch}");
            }
        }
        setup.eyes.check(&format!("batch {batch}"));
        setup.iommu.reset(&setup.smmus[0]).unwrap();
        assert_eq!(setup.dma(1, None), Some(setup.page(0)));
        for master in 0..2 {
            setup.iommu.detach(&setup.masters[master]).unwrap();
        }
        unbind(bond);
        setup.tear_down(Vec::from(domains), vec![(process, tables)]);
        if done {
            break;
        }
    }
    assert_eq!(stuck, steps, "{bits} bits");
}

/// A master that is stuck between two copies of its contexts: hardware may go by either, for what it uses with other
/// substreams, too.
#[test]
fn what_a_stuck_master_uses_beside_is_in_either_copy() {
    // One table for all, and leaves.
    for bits in [4, 8] {
        let masters: &[(usize, &[u32], u32)] = &[(0, &[1], bits), (0, &[2], bits), (0, &[3], bits)];
        let setup = Setup::new(&[sharing()], masters);
        let domains = [setup.domain(0), setup.domain(16), setup.domain(48)];
        let (pasid, [own, beside, next]) = (setup.pasid(), &domains);
        setup.iommu.attach(&setup.masters[0], own).unwrap();
        setup.iommu.attach_pasid(&setup.masters[0], pasid, beside).unwrap();
        setup.iommu.attach(&setup.masters[1], beside).unwrap();
        let number = Setup::asid(&beside.targets().unwrap(), 0);
        let (ending, its) = setup.process(9, None, 64);
        let (wanting, tables) = setup.process(7, Some(number), 32);
        let ends = ending.bind(&setup.masters[0]).unwrap();
        let [first, second] = [Some(pasid), Some(ending.pasid())];
        assert_eq!(setup.dma(0, first), Some(setup.page(16)));
        assert_eq!(setup.dma(0, second), Some(setup.page(64)));
        setup.eyes.be_lenient();
        setup.refuse(0, 0);
        assert_eq!(failure(setup.iommu.attach(&setup.masters[0], next)).0, 0, "{bits} bits");
        setup.machine.behave();

        // The number that is wanted may be what it goes by.
        let bond = wanting.bind(&setup.masters[2]).unwrap();
        for page in 0..4 {
            let there = setup.dma_at(0, first, IOVA + page * PAGE).ok();
            assert!(
                [None, Some(setup.page(16 + page))].contains(&there),
                "{bits} bits: {there:x?}"
            );
            let there = setup.dma_at(2, Some(wanting.pasid()), IOVA + page * PAGE);
            assert_eq!(there, Ok(setup.page(32 + page)), "{bits} bits");
        }
        // Whichever it goes by, it is over when that has returned.
        assert_eq!(ending.release(), Ok(()), "{bits} bits");
        for page in 0..4 {
            let there = setup.dma_at(0, second, IOVA + page * PAGE);
            assert!(there.is_err(), "{bits} bits: {there:x?}");
        }
        setup.eyes.check(&format!("{bits} bits"));
        setup.iommu.reset(&setup.smmus[0]).unwrap();
        assert_eq!(setup.dma(0, first), Some(setup.page(16)), "{bits} bits");
        unbind(ends);
        unbind(bond);
        setup.iommu.detach_pasid(&setup.masters[0], pasid).unwrap();
        for master in 0..2 {
            setup.iommu.detach(&setup.masters[master]).unwrap();
        }
        setup.tear_down(Vec::from(domains), vec![(ending, its), (wanting, tables)]);
    }
}

/// The VMID of an entry that hardware may still be using stays where it is.
#[test]
fn an_entry_that_is_blocked_unconfirmed_keeps_its_bank() {
    let mut config = Config::default();
    config.asid_policy = AsidPolicy::Banked;
    let narrow = Profile::small_asid().s2p(true).ssidsize(10).two_level_contexts(true);
    let setup = Setup::with(config, &[narrow], &[(0, &[1], 10), (0, &[2], 10)]);
    // The first bank is full.
    let domains: Vec<_> = (0..256).map(|at| setup.domain(at)).collect();
    let pasids: Vec<_> = (0..255).map(|_| setup.pasid()).collect();
    for (pasid, domain) in pasids.iter().zip(&domains) {
        setup.iommu.attach_pasid(&setup.masters[0], *pasid, domain).unwrap();
    }
    setup.iommu.attach(&setup.masters[1], &domains[255]).unwrap();
    let vmid = domains[255].targets().unwrap()[0].tag.vmid;
    let before = setup.ste(1);
    assert_eq!((before.s2_vmid(), vmid == 0), (u64::from(vmid), false));
    assert_eq!(setup.dma(1, None), Some(setup.page(255)));
    setup.refuse(0, 0);
    assert_eq!(failure(setup.iommu.detach(&setup.masters[1])).0, 0);
    setup.machine.behave();
    // Blocked by its first word; hardware may have read that before, and reads the others now.
    let now = setup.ste(1);
    assert_eq!(now.0[0], 1);
    assert_eq!(now.0[1..], before.0[1..], "R4");
    setup.eyes.be_lenient();
    setup.iommu.reset(&setup.smmus[0]).unwrap();
    assert_eq!(setup.ste(1).0, [1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(setup.dma(1, None), None);
    for pasid in pasids {
        setup.iommu.detach_pasid(&setup.masters[0], pasid).unwrap();
    }
    setup.tear_down(domains, vec![]);
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! The three occasions on which a tag is changed while it is in use.

use std::sync::Mutex;

use smmuv3::{AsidPolicy, AttachError, Bond, Quarantined};

use crate::allocator::driver;
use crate::heap::Apart;
use crate::setup::{BANKS, CPU, Kind, NARROW, PAGES, Setup, WIDE, config};

/// Why a tag has to be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// An instance joins whose ASIDs are too narrow for the domain's, which two others have.
    Narrow,
    /// A master needs one more number, but its bank is full.
    Bank,
    /// A process has the domain's number on the CPUs.
    Process,
    /// The same, where the number is common to two instances.
    Common,
}

impl Cause {
    fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Narrow => &[NARROW, WIDE, WIDE],
            Self::Bank => &[BANKS],
            Self::Process => &[CPU],
            Self::Common => &[CPU, WIDE],
        }
    }

    /// All instances.
    pub fn instances(self) -> std::ops::Range<usize> {
        0..self.kinds().len()
    }
}

pub const CAUSES: [Cause; 4] = [Cause::Narrow, Cause::Bank, Cause::Process, Cause::Common];

/// A device, the PASID by which it uses a domain, and the domain.
pub type Seat = (usize, u32, usize);

/// A machine just before a change of tags.
pub struct Scene {
    pub setup: Setup,
    cause: Cause,
    /// Those who use a domain whose tag is changed, and some others.
    pub seats: Vec<Seat>,
    /// Who makes the change necessary, and will be there after it; the domain means nothing for a process.
    gain: Seat,
    bond: Mutex<Option<Bond<Apart>>>,
    /// A device and a domain behind each instance that nobody uses.
    pub spares: Vec<(usize, usize)>,
}

impl Scene {
    pub fn new(cause: Cause, seed: u64) -> Self {
        let policy = match cause {
            Cause::Narrow | Cause::Common => AsidPolicy::SharedMinMove,
            Cause::Bank => AsidPolicy::Banked,
            Cause::Process => AsidPolicy::PerInstance,
        };
        let kinds = cause.kinds();
        let mut setup = Setup::with(config(policy), kinds, seed);
        let mut spares = Vec::new();
        for instance in 0..kinds.len() {
            spares.push((setup.device(instance, &[40]), setup.domain()));
        }
        let (moved, other) = (setup.domain(), setup.domain());
        let (first, second) = (setup.pasid(), setup.pasid());
        // One with two streams, and one that uses the domain by a PASID and another one without.
        let on = if cause == Cause::Narrow { 1 } else { 0 };
        let plain = setup.device(on, &[1, 2]);
        let many = setup.device_with(on, &[3, 4], 6);
        let mut seats =
            vec![(plain, 0, moved), (many, first, moved), (many, 0, other), (many, second, other)];
        match cause {
            Cause::Narrow => seats.push((setup.device(2, &[5]), 0, moved)),
            Cause::Common => seats.push((setup.device(1, &[5]), 0, moved)),
            Cause::Bank | Cause::Process => {}
        }
        for (device, pasid, domain) in &seats {
            setup.attach(*device, *pasid, *domain).unwrap();
        }
        let gain = match cause {
            Cause::Narrow => (setup.device_with(0, &[6], 3), 0, moved),
            Cause::Bank => {
                let filler = setup.device_with(0, &[100], 6);
                let mut pasid = 0;
                for _ in 2..63 {
                    let domain = setup.domain_of(1);
                    pasid = setup.pasid();
                    setup.attach(filler, pasid, domain).unwrap();
                }
                (many, pasid, setup.domain())
            }
            Cause::Process | Cause::Common => {
                let asid = setup.asid(moved, 0);
                let process = setup.process(asid);
                (many, 0, process)
            }
        };
        Self { setup, cause, seats, gain, bond: Mutex::new(None), spares }
    }

    /// Does what makes the change necessary.
    pub fn run(&self) -> Result<(), AttachError> {
        let (device, pasid, domain) = self.gain;
        match self.cause {
            Cause::Narrow | Cause::Bank => self.setup.attach(device, pasid, domain),
            Cause::Process | Cause::Common => {
                let (process, _) = &self.setup.processes[domain];
                let bond = driver(|| process.bind(&self.setup.devices[device].master))?;
                *self.bond.lock().unwrap() = Some(bond);
                Ok(())
            }
        }
    }

    /// Domains that are in use, or will be.
    pub fn domains(&self) -> Vec<usize> {
        let mut domains: Vec<usize> = self.seats.iter().map(|(.., domain)| *domain).collect();
        if self.gain_is_a_domain() {
            domains.push(self.gain.2);
        }
        domains.sort_unstable();
        domains.dedup();
        domains
    }

    fn gain_is_a_domain(&self) -> bool {
        matches!(self.cause, Cause::Narrow | Cause::Bank)
    }

    /// All targets of all domains in use.
    pub fn targets(&self) -> Vec<Vec<smmuv3::Target>> {
        self.domains().iter().map(|domain| self.setup.domains[*domain].targets().unwrap()).collect()
    }

    /// Everybody reaches all pages but `gone` of his domain, and nobody reaches those.
    #[track_caller]
    pub fn check_seats(&self, gained: bool, gone: &[(usize, u64)], why: &dyn std::fmt::Display) {
        let gain = (gained && self.gain_is_a_domain()).then_some(self.gain);
        let seats: Vec<Seat> = self.seats.iter().copied().chain(gain).collect();
        self.check_accesses(&seats, None, gone, why);
    }

    /// The same after a failure, which may have blocked the master that made the change necessary.
    #[track_caller]
    pub fn check_survivors(&self, gone: &[(usize, u64)], why: &dyn std::fmt::Display) {
        let blocked = Some(self.gain.0).filter(|device| self.is_stuck(*device));
        self.check_accesses(&self.seats, blocked, gone, why);
    }

    #[track_caller]
    fn check_accesses(
        &self,
        seats: &[Seat],
        blocked: Option<usize>,
        gone: &[(usize, u64)],
        why: &dyn std::fmt::Display,
    ) {
        for (device, pasid, domain) in seats.iter().copied() {
            let may_be_blocked = Some(device) == blocked;
            for page in 0..PAGES {
                let there = !gone.contains(&(domain, page));
                let expected = there.then(|| self.setup.memory(domain, page));
                let reached = self.setup.dma(device, pasid, page);
                let right = reached == expected || may_be_blocked && reached.is_none();
                assert!(
                    right,
                    "{why}: device {device}, PASID {pasid}, page {page}: {reached:x?} instead of \
                     {expected:x?}"
                );
            }
        }
    }

    /// Its streams are in quarantine.
    fn is_stuck(&self, device: usize) -> bool {
        let streams = &self.setup.devices[device].streams;
        self.setup.quarantined().iter().any(|item| {
            matches!(item, Quarantined::Stream { stream, .. } if streams.contains(&stream.0))
        })
    }

    /// The change was made as it should be.
    #[track_caller]
    pub fn check_change(&self, why: &dyn std::fmt::Display) {
        let (setup, moved) = (&self.setup, self.seats[0].2);
        let tags = |instance| setup.tags(moved, instance);
        match self.cause {
            Cause::Narrow => {
                let narrow = setup.asid(moved, 0);
                assert!(narrow < 256, "{why}");
                assert_eq!((setup.asid(moved, 1), setup.asid(moved, 2)), (narrow, narrow), "{why}");
            }
            Cause::Bank => {
                // The one that stays, and the one that was taken along.
                let vmids: Vec<u16> = tags(0).iter().map(|tag| tag.vmid).collect();
                assert!(vmids.len() == 2 && vmids[0] == 0 && vmids[1] != 0, "{why}: {vmids:?}");
                let own = setup.domains[self.gain.2].targets().unwrap();
                assert_eq!((own.len(), own[0].tag.vmid), (1, vmids[1]), "{why}");
                assert_eq!(setup.tags(self.seats[2].2, 0)[0].vmid, vmids[1], "{why}");
            }
            Cause::Process | Cause::Common => {
                let targets = setup.processes[0].0.targets().unwrap();
                assert!(targets.len() == 1 && targets[0].shared, "{why}: {targets:?}");
                assert_eq!(setup.pins.count(0), 1, "{why}");
                let private = setup.asid(moved, 0);
                assert_ne!(private, targets[0].tag.asid, "{why}");
                if self.cause == Cause::Common {
                    assert_eq!(setup.asid(moved, 1), private, "{why}");
                }
            }
        }
    }

    /// Ends everything; nothing is left.
    #[track_caller]
    pub fn tear_down(self, why: &dyn std::fmt::Display) {
        let bond = self.bond.into_inner().unwrap();
        if let Some(bond) = bond {
            assert!(driver(|| bond.unbind().is_ok()), "{why}");
            assert_eq!(self.setup.pins.count(0), 0, "{why}");
        }
        self.setup.tear_down(why);
    }
}

#[test]
fn tags_are_changed_without_anybody_noticing() {
    for cause in CAUSES {
        for seed in 0..20 {
            let scene = Scene::new(cause, seed);
            let why = format!("{cause:?}, seed {seed}");
            scene.check_seats(false, &[], &why);
            scene.run().unwrap();
            scene.check_seats(true, &[], &why);
            scene.check_change(&why);
            scene.setup.check(&why);
            scene.tear_down(&why);
        }
    }
}

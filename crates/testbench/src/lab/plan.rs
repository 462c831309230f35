// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is asked of every policy: drawn once, from a seed.

use fastrand::Rng;
use smmuv3::MOST_INSTANCES;
use thiserror::Error;

/// Instances that a domain is used on, at most, unless there are fewer.
pub const MOST_JOINED: usize = 3;
/// Steps at which attached domains are counted.
const STEPS: u32 = 48;
/// PASIDs have 20 bits.
const MOST_PASIDS: usize = (1 << 20) - 1;

/// What is to be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Bits of the ASIDs of each instance: 8 or 16. All have 8-bit VMIDs.
    pub instances: Vec<u32>,
    /// Indices of the instances that take part in broadcast TLB maintenance.
    pub broadcast: Vec<usize>,
    /// The least number of domains of interest, 1 at least.
    pub first: usize,
    /// How many domains there are.
    pub domains: usize,
    /// Masters of each instance. `None`: a master for each time that a domain joins an instance.
    pub masters: Option<usize>,
    /// Processes, each bound on every instance.
    pub processes: usize,
    /// How often a master is detached and attached to another domain, after all.
    pub churn: usize,
    /// Where everything random starts.
    pub seed: u64,
}

/// The seed's question: a narrow instance beside wide ones, and more domains than it has ASIDs.
impl Default for Setup {
    fn default() -> Self {
        Self {
            instances: vec![8, 16, 16],
            broadcast: Vec::new(),
            first: 1,
            domains: 500,
            masters: None,
            processes: 0,
            churn: 0,
            seed: 1,
        }
    }
}

/// Why something cannot be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SetupError {
    /// Too many or no instances.
    #[error("there can be 1 to {MOST_INSTANCES} instances, not {0}")]
    Instances(usize),
    /// An instance with another width.
    #[error("ASIDs have 8 or 16 bits, not {0}")]
    Width(u32),
    /// An index beyond the instances.
    #[error("there is no instance {index}; the {count} instances are counted from 0")]
    Broadcast {
        /// The index.
        index: usize,
        /// How many instances there are.
        count: usize,
    },
    /// No domains, or fewer than the least.
    #[error("at least one domain is needed, and the last number must not be below the first")]
    Domains,
    /// More processes than CPUs can pin ASIDs for.
    #[error("there can be 65535 processes at most, one for each ASID of the CPUs")]
    Processes,
    /// No masters.
    #[error("each instance needs at least one master")]
    Masters,
    /// Masters that need more PASIDs than there are.
    #[error("{masters} masters an instance are too few for so many domains and processes")]
    Pasids {
        /// How many there would be.
        masters: usize,
    },
}

impl Setup {
    /// Whether it can be tried.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), SetupError> {
        let count = self.instances.len();
        if !(1..=MOST_INSTANCES).contains(&count) {
            return Err(SetupError::Instances(count));
        }
        if let Some(width) = self.instances.iter().find(|width| !matches!(width, 8 | 16)) {
            return Err(SetupError::Width(*width));
        }
        if let Some(index) = self.broadcast.iter().find(|index| **index >= count) {
            return Err(SetupError::Broadcast { index: *index, count });
        }
        if self.first == 0 || self.domains < self.first {
            return Err(SetupError::Domains);
        }
        if self.processes > usize::from(u16::MAX) {
            return Err(SetupError::Processes);
        }
        match self.masters {
            Some(0) => Err(SetupError::Masters),
            Some(masters) if self.domains / masters + self.processes >= MOST_PASIDS => {
                Err(SetupError::Pasids { masters })
            }
            _ => Ok(()),
        }
    }

    /// Numbers of domains, evenly spaced by their ratio, from the first to the last.
    pub(crate) fn steps(&self) -> Vec<usize> {
        let ratio = self.domains as f64 / self.first as f64;
        let step = |step: u32| {
            let place = f64::from(step) / f64::from(STEPS);
            (self.first as f64 * ratio.powf(place)).round() as usize
        };
        let mut steps: Vec<usize> = (0..STEPS).map(step).chain([self.domains]).collect();
        steps.dedup();
        steps
    }
}

/// What is drawn.
pub(crate) struct Plan {
    /// The instances that each domain joins, in its order, domain after domain.
    joins: Vec<u8>,
    /// Where those of each domain end.
    ends: Vec<usize>,
    /// Masters of each instance.
    pub(crate) masters: Vec<usize>,
    /// The ASID of each process on the CPUs, no two the same.
    pub(crate) asids: Vec<u16>,
    /// For what is drawn later.
    pub(crate) rng: Rng,
}

impl Plan {
    pub(crate) fn draw(setup: &Setup) -> Self {
        let mut rng = Rng::with_seed(setup.seed);
        let count = setup.instances.len();
        let mut joined = vec![0; count];
        let (mut joins, mut ends) = (Vec::new(), Vec::new());
        // At most 64 instances.
        let mut order: Vec<u8> = (0..count as u8).collect();
        for _ in 0..setup.domains {
            let wanted = rng.usize(1..=count.min(MOST_JOINED));
            for at in 0..wanted {
                // One of those that are left.
                order.swap(at, rng.usize(at..count));
                joins.push(order[at]);
                joined[usize::from(order[at])] += 1;
            }
            ends.push(joins.len());
        }
        let masters = match setup.masters {
            Some(masters) => vec![masters; count],
            // Processes need one even where no domain goes.
            None => joined.iter().map(|joined| (*joined).max(1)).collect(),
        };
        let mut asids: Vec<u16> = (1..=u16::MAX).collect();
        rng.shuffle(&mut asids);
        asids.truncate(setup.processes);
        Self { joins, ends, masters, asids, rng }
    }

    /// The instances that `domain` joins, in order.
    pub(crate) fn joins(&self, domain: usize) -> &[u8] {
        let begin = domain.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.joins[begin..self.ends[domain]]
    }

    /// How many attaches there are.
    pub(crate) fn attaches(&self) -> usize {
        self.joins.len()
    }

    /// How many domains a master is to hold at most: one without a PASID, and the others with.
    pub(crate) fn domains_of_a_master(&self) -> usize {
        let mut joined = vec![0usize; self.masters.len()];
        for instance in &self.joins {
            joined[usize::from(*instance)] += 1;
        }
        let each = joined.iter().zip(&self.masters).map(|(joined, all)| joined.div_ceil(*all));
        each.max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_go_from_the_first_to_the_last() {
        let steps = |first, domains| Setup { first, domains, ..Setup::default() }.steps();
        assert_eq!(steps(1, 1), [1]);
        assert_eq!(steps(3, 5), [3, 4, 5]);
        let many = steps(1, 70_000);
        assert_eq!((many[0], many.last()), (1, Some(&70_000)));
        assert!(many.is_sorted() && many.len() > 40, "{many:?}");
    }

    #[test]
    fn every_domain_joins_one_to_three_different_instances() {
        let setup = Setup { instances: vec![8, 16, 16, 16, 8], processes: 9, ..Setup::default() };
        let plan = Plan::draw(&setup);
        let mut seen = [0; 4];
        for domain in 0..setup.domains {
            let mut joins = plan.joins(domain).to_vec();
            seen[joins.len()] += 1;
            joins.sort_unstable();
            joins.dedup();
            assert_eq!(joins.len(), plan.joins(domain).len());
            assert!(joins.iter().all(|instance| *instance < 5));
        }
        assert!(seen[0] == 0 && seen[1..].iter().all(|count| *count > 80), "{seen:?}");
        assert_eq!(plan.masters.iter().sum::<usize>(), plan.attaches());
        assert_eq!((plan.asids.len(), plan.domains_of_a_master()), (9, 1));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let wrong = |change: fn(&mut Setup)| {
            let mut setup = Setup::default();
            change(&mut setup);
            setup.check()
        };
        assert_eq!(wrong(|_| ()), Ok(()));
        let count = |count| move |setup: &mut Setup| setup.instances = vec![8; count];
        let mut many = Setup::default();
        count(65)(&mut many);
        assert_eq!(many.check(), Err(SetupError::Instances(65)));
        assert_eq!(wrong(|setup| setup.instances.clear()), Err(SetupError::Instances(0)));
        assert_eq!(wrong(|setup| setup.instances[0] = 12), Err(SetupError::Width(12)));
        let beyond = SetupError::Broadcast { index: 3, count: 3 };
        assert_eq!(wrong(|setup| setup.broadcast.push(3)), Err(beyond));
        assert_eq!(wrong(|setup| setup.domains = 0), Err(SetupError::Domains));
        assert_eq!(wrong(|setup| setup.processes = 65_536), Err(SetupError::Processes));
        assert_eq!(wrong(|setup| setup.masters = Some(0)), Err(SetupError::Masters));
        let few = wrong(|setup| (setup.masters, setup.domains) = (Some(1), 2_000_000));
        assert_eq!(few, Err(SetupError::Pasids { masters: 1 }));
    }
}

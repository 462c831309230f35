// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random operations: chosen from what the oracle says is mapped, attached and gone.

mod access;
mod attachment;
mod device;
mod instance;
mod mapping;
mod state;

use crate::operation::Operation;
use crate::oracle::{Oracle, PAGE, Power, User};
use crate::scenario::{Change, Random, Scenario, Substream, Weights};
pub use state::State;

/// Chooses operations for one random step.
pub struct Workload<'a> {
    scenario: &'a Scenario,
    random: &'a Random,
    /// Those of `random`, but 0 for what the scenario lacks the things for.
    weights: Weights,
    rng: fastrand::Rng,
    /// Some of what is mapped is for privileged accesses only.
    pub privilege: bool,
    /// Devices read instructions, too.
    pub fetches: bool,
    /// For what only some scenarios come to, so that all others stay what they are.
    apart: fastrand::Rng,
    /// Makes what devices write differ from what was written before.
    serial: u32,
    /// Pages that were accessed last, which devices tend to access again.
    hot: Vec<(usize, Substream, u64)>,
    /// Memory for lists of pages to choose from.
    pages: Vec<u64>,
}

impl<'a> Workload<'a> {
    /// For `random`, a step of `scenario`.
    pub fn new(scenario: &'a Scenario, random: &'a Random, seed: u64) -> Self {
        let substreams = (0..scenario.masters.len()).any(|master| scenario.pasid_bits(master) > 0);
        let mut weights = random.weights;
        if scenario.pasids == 0 || !substreams {
            (weights.attach_pasid, weights.detach_pasid) = (0, 0);
        }
        if scenario.processes.is_empty() || !substreams {
            (weights.bind, weights.unbind, weights.release) = (0, 0, 0);
        }
        if !(0..scenario.masters.len()).any(|master| scenario.stalls(master)) {
            weights.answer = 0;
        }
        if !(0..scenario.masters.len()).any(|master| scenario.answers(master)) {
            weights.translate = 0;
        }
        if !scenario.masters.iter().any(|master| master.pri) {
            (weights.ask, weights.grant) = (0, 0);
        }
        if !scenario.masters.iter().any(|master| master.ats.is_some()) {
            weights.mute = 0;
        }
        if scenario.domains.iter().all(|domain| domain.tables.over.is_none()) {
            weights.misbehave = 0;
        }
        let rng = fastrand::Rng::with_seed(seed);
        let (hot, pages) = (Vec::new(), Vec::new());
        let apart = fastrand::Rng::with_seed(seed ^ 0x6665_7463_6800);
        let (privilege, fetches, serial) = (true, true, 0);
        Self { scenario, random, weights, rng, privilege, fetches, apart, serial, hot, pages }
    }

    /// The next operation, and whether it is an attempt at something stale.
    pub fn next(&mut self, oracle: &Oracle) -> (Operation, bool) {
        loop {
            let weights = self.weights;
            let mut at = self.rng.u32(0..weights.sum().max(1));
            let mut choose = |weight: u32| {
                let chosen = at < weight;
                at = at.wrapping_sub(weight);
                chosen
            };
            let (operation, stale) = if choose(weights.map) {
                (self.map(oracle), false)
            } else if choose(weights.unmap) {
                (self.unmap(oracle), false)
            } else if choose(weights.attach) {
                (self.attach(oracle), false)
            } else if choose(weights.detach) {
                (self.detach(), false)
            } else if choose(weights.identity) {
                (self.identity(), false)
            } else if choose(weights.read) {
                (self.access(oracle, false), false)
            } else if choose(weights.write) {
                (self.access(oracle, true), false)
            } else if choose(weights.stale) {
                (self.stale(oracle), true)
            } else if choose(weights.fault) {
                (self.fault(oracle), false)
            } else if choose(weights.attach_pasid) {
                (self.attach_pasid(oracle), false)
            } else if choose(weights.detach_pasid) {
                (self.detach_pasid(oracle), false)
            } else if choose(weights.bind) {
                (self.bind(), false)
            } else if choose(weights.unbind) {
                (self.unbind(oracle), false)
            } else if choose(weights.answer) {
                (self.answer(), false)
            } else if choose(weights.translate) {
                (self.translate(oracle), false)
            } else if choose(weights.ask) {
                (self.ask(oracle), false)
            } else if choose(weights.grant) {
                (self.grant(), false)
            } else if choose(weights.release) {
                (self.release(oracle), false)
            } else if choose(weights.power) {
                (self.power(oracle), false)
            } else if choose(weights.reset) {
                (self.change(Change::Reset), false)
            } else if choose(weights.replug) {
                (self.change(Change::Replug), false)
            } else if choose(weights.defer) {
                (self.defer(oracle), false)
            } else if choose(weights.mute) {
                (self.mute(oracle), false)
            } else if choose(weights.command_error) {
                (self.command_error(), false)
            } else if choose(weights.misbehave) {
                (self.misbehave(oracle), false)
            } else {
                (self.hand_over(oracle), false)
            };
            if let Some(operation) = operation {
                return (operation, stale);
            }
            // Nothing to unmap, or to access: something else, in the end a map.
            if self.rng.u8(..) < 64
                && let Some(operation) = self.map(oracle)
            {
                return (operation, false);
            }
        }
    }

    /// Operations that bring everything back to where it was before: mappings of the window gone, masters
    /// where `before` says.
    pub fn undo(&self, oracle: &Oracle, before: &State) -> Vec<Operation> {
        let mut operations: Vec<Operation> = (0..oracle.spaces())
            .filter(|space| oracle.pages(*space, self.window(*space)).next().is_some())
            .map(|space| {
                let (window, _) = self.pages_of(oracle, space);
                let (iova, bytes) = (window.start, window.end - window.start);
                Operation::Unmap { space, iova, bytes }
            })
            .collect();
        operations.extend(before.restore(&State::of(oracle, self.scenario)));
        let asleep = (0..self.scenario.instances.len())
            .filter(|instance| oracle.power(*instance) == Power::Off)
            .map(|instance| Operation::Change { instance, change: Change::Resume });
        operations.extend(asleep);
        operations
    }

    /// The window in an address space: in the upper half, at the same place, but never its last page, since no range can
    /// say that it ends there.
    fn window(&self, space: usize) -> std::ops::Range<u64> {
        let kept = space.checked_sub(self.scenario.spaces());
        if let Some((_, memory)) = kept.and_then(|nth| self.scenario.kept().nth(nth)) {
            return memory;
        }
        let (first, end) = (self.random.iova, self.random.iova + self.random.pages * PAGE);
        match self.scenario.base(space) {
            0 => first..end,
            base => base | first..(base | (end - PAGE)),
        }
    }

    /// One of these pages.
    fn one_page(&mut self, pages: impl Iterator<Item = u64>) -> Option<u64> {
        let list = &mut self.pages;
        list.clear();
        // From inside the iterators, which are nested: hundreds of pages at every other step.
        pages.for_each(|page| list.push(page));
        self.rng.choice(&self.pages).copied()
    }

    /// Some page of the window.
    fn any_page(&mut self, space: usize) -> u64 {
        let window = self.window(space);
        window.start + PAGE * self.rng.u64(0..(window.end - window.start) / PAGE)
    }

    fn domain(&mut self) -> Option<usize> {
        let domains = self.scenario.domains.len();
        (domains > 0).then(|| self.rng.usize(0..domains))
    }

    fn master(&mut self) -> Option<usize> {
        let masters = self.scenario.masters.len();
        (masters > 0).then(|| self.rng.usize(0..masters))
    }

    /// An address space.
    fn space(&mut self) -> Option<usize> {
        let spaces = self.scenario.spaces();
        (spaces > 0).then(|| self.rng.usize(0..spaces))
    }

    /// A master with substreams.
    fn master_with_substreams(&mut self) -> Option<usize> {
        let masters = 0..self.scenario.masters.len();
        let with: Vec<usize> =
            masters.filter(|master| self.scenario.pasid_bits(*master) > 0).collect();
        self.rng.choice(with)
    }

    /// A master, with its substream, that uses an address space.
    fn attached(&mut self, oracle: &Oracle) -> Option<(usize, Substream, usize)> {
        let attached: Vec<(usize, Substream, usize)> = oracle
            .users()
            .filter_map(|(User { master, substream }, _)| {
                let space = oracle.goes_through(User { master, substream })?;
                Some((master, oracle.substream_name(substream)?, space))
            })
            .collect();
        self.rng.choice(attached)
    }

    /// What whole pages of `space` there are in the window, and bytes of one.
    fn pages_of(&self, oracle: &Oracle, space: usize) -> (std::ops::Range<u64>, u64) {
        let unit = oracle.shape(space).unit;
        let window = self.window(space);
        let first = window.start.checked_next_multiple_of(unit).unwrap_or(window.end);
        (first..window.end & !(unit - 1), unit)
    }
}

fn one_of<T: Copy>(rng: &mut fastrand::Rng, values: &[T]) -> T {
    values[rng.usize(0..values.len())]
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random operations: chosen from what the oracle says is mapped, attached and gone.

mod state;

use crate::bench::POOL_BYTES;
use crate::operation::{Operation, Source};
use crate::oracle::{Life, Oracle, PAGE, Page, Power, Use, User};
use crate::scenario::{
    Answer, Change, CommandError, Device, Grant, MemoryKind, Random, Reply, Rights, Scenario,
    Substream, Weights,
};
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
    /// Makes what devices write differ from what was written before.
    serial: u32,
    /// Pages that were accessed last, which devices tend to access again.
    hot: Vec<(usize, Substream, u64)>,
    /// Memory for lists of pages to choose from.
    pages: Vec<u64>,
}

/// Most bytes of a random access.
const MOST_BYTES: u64 = 64;
/// Pages that devices tend to access again.
const HOT_PAGES: usize = 4;
/// Pages of a level-3 table.
const TABLE_PAGES: u64 = 512;

impl<'a> Workload<'a> {
    /// For `random`, a step of `scenario`.
    pub fn new(scenario: &'a Scenario, random: &'a Random, seed: u64) -> Self {
        let substreams =
            (0..scenario.masters.len()).any(|master| scenario.substream_bits(master) > 0);
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
        let rng = fastrand::Rng::with_seed(seed);
        let (hot, pages) = (Vec::new(), Vec::new());
        Self { scenario, random, weights, rng, privilege: true, serial: 0, hot, pages }
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
            masters.filter(|master| self.scenario.substream_bits(*master) > 0).collect();
        self.rng.choice(with)
    }

    /// A master, with its substream, that uses an address space.
    fn attached(&mut self, oracle: &Oracle) -> Option<(usize, Substream, usize)> {
        let attached: Vec<(usize, Substream, usize)> = oracle
            .users()
            .filter_map(|(User { master, substream }, use_)| {
                let space = oracle.space(use_)?;
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

    fn map(&mut self, oracle: &Oracle) -> Option<Operation> {
        let space = self.space()?;
        let (window, unit) = self.pages_of(oracle, space);
        let there = window.end.saturating_sub(window.start) / unit;
        if there == 0 {
            return None;
        }
        if oracle.life(space) != Life::Live {
            return None;
        }
        let free = |first: u64, pages: u64| {
            let range = first..first + pages * PAGE;
            oracle.pages(space, range).next().is_none()
        };
        let write = self.rng.u8(..) < 208;
        let (kind, rights) = self.kind(space);
        // A block, where the window has room for one.
        let block = TABLE_PAGES * PAGE;
        let whole = self.window(space);
        let first_block = whole.start.checked_next_multiple_of(block).unwrap_or(whole.end);
        let blocks = whole.end.saturating_sub(first_block) / block;
        if blocks > 0 && self.rng.u8(..) < 16 {
            let iova = first_block + block * self.rng.u64(0..blocks);
            let source = Source::Pool(block * self.rng.u64(0..POOL_BYTES / block));
            if free(iova, TABLE_PAGES) {
                let bytes = block;
                return Some(Operation::Map { space, iova, bytes, source, write, kind, rights });
            }
        }
        for _ in 0..8 {
            // Counted in pages of the space, then in those of 4 KiB.
            let longest = (self.longest() * PAGE).div_ceil(unit);
            let units = 1 + self.rng.u64(0..longest).min(there - 1);
            let iova = window.start + unit * self.rng.u64(0..=there - units);
            let pages = units * (unit / PAGE);
            if free(iova, pages) {
                let mut offset = unit * self.rng.u64(0..=POOL_BYTES / unit - units);
                let group = oracle.shape(space).group;
                if group != 0 && self.rng.bool() {
                    // Groups of contiguous pages.
                    let fitting = offset & !(group - 1) | iova & (group - 1);
                    offset = if fitting + pages * PAGE <= POOL_BYTES { fitting } else { offset };
                }
                if pages > TABLE_PAGES && self.rng.bool() {
                    // Blocks with pages before and after them, where there is memory for that.
                    let fitting = offset & !(block - 1) | iova & (block - 1);
                    offset = if fitting + pages * PAGE <= POOL_BYTES { fitting } else { offset };
                }
                let source = Source::Pool(offset);
                return Some(Operation::Map {
                    space,
                    iova,
                    bytes: pages * PAGE,
                    source,
                    write,
                    kind,
                    rights,
                });
            }
        }
        None
    }

    /// As what something is mapped: mostly as most things are, else as anything that the tables can say.
    fn kind(&mut self, space: usize) -> (MemoryKind, Rights) {
        let usual = (MemoryKind::Normal, Rights::Data);
        let Some(domain) = self.scenario.domains.get(space).filter(|_| self.rng.bool()) else {
            return usual;
        };
        let tables = domain.tables;
        if tables.over.is_some() {
            return usual;
        }
        let all = tables.all_attributes || tables.dirty;
        let mut kinds = vec![MemoryKind::Normal, MemoryKind::Uncached, MemoryKind::Device];
        let mut rights = vec![Rights::Data, Rights::Data, Rights::Data, Rights::Code];
        if tables.all_attributes {
            kinds.push(MemoryKind::StrictDevice);
            if !tables.forced_types {
                kinds.push(MemoryKind::WriteThrough);
            }
        }
        // With descriptors of 52 bits, all that is cached is shared alike.
        let narrow = domain.input_bits <= 48 && tables.output_bits <= 48;
        if tables.forced_types && all && narrow {
            // Few domains can have it.
            kinds.extend([MemoryKind::AsStage1; 4]);
        }
        if !tables.stage_2 && self.privilege {
            rights.push(Rights::Privileged);
        }
        // At stage 2 only where all instances tell who executes.
        if all && !tables.stage_2 {
            rights.push(Rights::UserCode);
        }
        (one_of(&mut self.rng, &kinds), one_of(&mut self.rng, &rights))
    }

    /// The most pages of what comes next: long runs fill the window, so they are not always chosen.
    fn longest(&mut self) -> u64 {
        let longest = self.random.longest;
        if longest > Random::LONGEST && self.rng.bool() { Random::LONGEST } else { longest }
    }

    fn unmap(&mut self, oracle: &Oracle) -> Option<Operation> {
        let space = self.space()?;
        let (_, unit) = self.pages_of(oracle, space);
        // What a last-level table spans.
        let table = unit * (unit / 8);
        let roll = self.rng.u8(..);
        let shape = oracle.shape(space);
        if roll >= 208 && (shape.dirty || shape.accessed) {
            return self.harvest(oracle, space);
        }
        if roll < 40 {
            // Whole tables, where nothing but the window lies in them: they are unlinked, or, if empty, freed.
            let whole = self.window(space);
            let start = whole.start & !(table - 1);
            let end = match self.scenario.base(space) {
                0 => 1 << self.scenario.input_bits(space),
                // The last page has no end.
                _ => unit.wrapping_neg(),
            };
            let bytes = whole.end.checked_next_multiple_of(table).unwrap_or(end).min(end) - start;
            let foreign = |(iova, _): (u64, _)| !whole.contains(&iova);
            if oracle.pages(space, start..start + bytes).any(foreign) {
                return None;
            }
            // The tables of a process are the operating system's.
            let is_process = space >= self.scenario.domains.len();
            return Some(if roll < 24 || is_process {
                self.unmap_of(oracle, space, start, bytes)
            } else {
                Operation::Reclaim { domain: space, iova: start, bytes }
            });
        }
        self.unmap_in(oracle, space)
    }

    /// A run of pages, with what must not be cut.
    fn unmap_in(&mut self, oracle: &Oracle, space: usize) -> Option<Operation> {
        let (window, unit) = self.pages_of(oracle, space);
        let mapped = oracle.pages(space, window.clone()).map(|(iova, _)| iova);
        let first = self.one_page(mapped)? & !(unit - 1);
        // Holes are allowed, but blocks must not be cut.
        let longest = self.longest();
        let longest = (longest * PAGE).div_ceil(unit);
        let bytes = unit * self.rng.u64(1..=longest);
        let mut range = first..first.saturating_add(bytes).min(window.end);
        for iova in [range.start, range.end - PAGE] {
            if let Some(block) = oracle.block(space, iova) {
                range = range.start.min(block.start)..range.end.max(block.end);
            }
        }
        let end = range.end.min(window.end);
        Some(self.unmap_of(oracle, space, range.start, end - range.start))
    }

    /// An unmap; half of those that can ask for what was written do.
    fn unmap_of(&mut self, oracle: &Oracle, space: usize, iova: u64, bytes: u64) -> Operation {
        if oracle.shape(space).dirty && self.rng.bool() {
            Operation::Take { domain: space, iova, bytes }
        } else {
            Operation::Unmap { space, iova, bytes }
        }
    }

    /// Unmaps a run of pages of a domain, but tells nobody; or tells what was unmapped so. In domains that split, it may be
    /// refused, since a block would be cut.
    fn defer(&mut self, oracle: &Oracle) -> Option<Operation> {
        let domain = self.domain()?;
        let tables = self.scenario.domains.get(domain)?.tables;
        if tables.over.is_some() {
            return None;
        }
        if self.rng.u8(..) < 80 && oracle.is_deferred(domain, &(0..u64::MAX)) {
            return Some(Operation::Flush { domain });
        }
        let (Operation::Unmap { space: domain, iova, bytes }
        | Operation::Take { domain, iova, bytes }) = self.unmap_in(oracle, domain)?
        else {
            return None;
        };
        Some(Operation::Defer { domain, iova, bytes })
    }

    /// Reads what was written, or accessed, in all of the window, or in a part that cuts no block.
    fn harvest(&mut self, oracle: &Oracle, space: usize) -> Option<Operation> {
        let (window, unit) = self.pages_of(oracle, space);
        let block = unit * (unit / 8);
        let mut range = window.clone();
        if self.rng.bool() {
            let start = window.start.checked_next_multiple_of(block).unwrap_or(window.end);
            let blocks = window.end.saturating_sub(start) / block;
            if blocks > 0 {
                let first = self.rng.u64(0..blocks);
                range = start + block * first..start + block * (first + 1);
            }
        }
        let (domain, iova) = (space, range.start);
        let bytes = range.end.checked_sub(iova).filter(|bytes| *bytes > 0)?;
        let shape = oracle.shape(space);
        Some(match shape.accessed && (!shape.dirty || self.rng.bool()) {
            true => Operation::Accessed { domain, iova, bytes },
            false => Operation::Dirty { domain, iova, bytes },
        })
    }

    fn attach(&mut self, oracle: &Oracle) -> Option<Operation> {
        let (master, domain) = (self.master()?, self.domain()?);
        if matches!(oracle.using(master), Use::Kept(_)) && self.rng.bool() {
            return Some(Operation::Claim { master });
        }
        let (to, answer) = (Use::Domain(domain), Answer::Judged);
        Some(Operation::Attach { master, pasid: None, to, answer })
    }

    fn detach(&mut self) -> Option<Operation> {
        Some(Operation::attach(self.master()?, Use::Blocked))
    }

    fn identity(&mut self) -> Option<Operation> {
        Some(Operation::attach(self.master()?, Use::Identity))
    }

    /// One of the scenario's PASIDs, mostly one that `master` can use.
    fn pasid(&mut self, oracle: &Oracle, master: usize) -> Option<u32> {
        let bits = self.scenario.substream_bits(master);
        let fits = |number: &u32| {
            let pasid = oracle.substream(Substream::Pasid(*number)).flatten();
            pasid.is_some_and(|pasid| u64::from(pasid) >> bits == 0)
        };
        let fitting: Vec<u32> = (1..=self.scenario.pasids).filter(fits).collect();
        if self.rng.u8(..) < 240 && !fitting.is_empty() {
            return self.rng.choice(fitting);
        }
        (self.scenario.pasids > 0).then(|| self.rng.u32(1..=self.scenario.pasids))
    }

    fn attach_pasid(&mut self, oracle: &Oracle) -> Option<Operation> {
        let (master, domain) = (self.master_with_substreams()?, self.domain()?);
        let pasid = Some(self.pasid(oracle, master)?);
        let (to, answer) = (Use::Domain(domain), Answer::Judged);
        Some(Operation::Attach { master, pasid, to, answer })
    }

    fn detach_pasid(&mut self, oracle: &Oracle) -> Option<Operation> {
        let attached: Vec<(usize, u32)> = oracle
            .users()
            .filter_map(|(User { master, substream }, _)| {
                match oracle.substream_name(substream)? {
                    Substream::Pasid(pasid) => Some((master, pasid)),
                    Substream::None | Substream::Process(_) => None,
                }
            })
            .collect();
        let (master, pasid) = self.rng.choice(attached)?;
        let (to, answer) = (Use::Blocked, Answer::Done);
        Some(Operation::Attach { master, pasid: Some(pasid), to, answer })
    }

    fn bind(&mut self) -> Option<Operation> {
        let master = self.master_with_substreams()?;
        let process = self.rng.usize(0..self.scenario.processes.len().max(1));
        Some(Operation::Bind { process, master, answer: Answer::Judged })
    }

    fn unbind(&mut self, oracle: &Oracle) -> Option<Operation> {
        let bound: Vec<(usize, usize)> = oracle
            .users()
            .filter_map(|(user, use_)| match use_ {
                Use::Process(process) => Some((process, user.master)),
                Use::Blocked | Use::Identity | Use::Domain(_) | Use::Kept(_) => None,
            })
            .collect();
        let (process, master) = self.rng.choice(bound)?;
        Some(Operation::Unbind { process, master })
    }

    /// Mostly a retry: what it needs may be there by now.
    fn answer(&mut self) -> Option<Operation> {
        let stalling = (0..self.scenario.masters.len()).filter(|it| self.scenario.stalls(*it));
        let master = self.rng.choice(stalling.collect::<Vec<usize>>())?;
        let reply = if self.rng.bool() { Some(Reply::Retry) } else { self.rng.choice(Reply::ALL) };
        Some(Operation::Answer { master, reply: reply? })
    }

    /// About what is mapped, was mapped lately, or is not; also of what is blocked.
    fn translate(&mut self, oracle: &Oracle) -> Option<Operation> {
        let (master, substream, space) = if self.rng.u8(..) < 224 {
            let (master, substream, space) = self.attached(oracle)?;
            (master, substream, Some(space))
        } else {
            (self.master()?, Substream::None, None)
        };
        if !self.scenario.answers(master) {
            return None;
        }
        let gone = self.rng.u8(..) < 64;
        // Somewhere, where no space is.
        let any = self.any_page(space.unwrap_or(usize::MAX));
        let known = match space.map(|space| (space, self.window(space))) {
            Some((space, window)) if gone => {
                self.one_page(oracle.gone(space, window).map(|(iova, _)| iova))
            }
            Some((space, window)) => {
                self.one_page(oracle.pages(space, window).map(|(iova, _)| iova))
            }
            None => None,
        };
        let page = known.filter(|_| self.rng.u8(..) < 240);
        let iova = page.unwrap_or(any) + 4 * self.rng.u64(0..PAGE / 4);
        let write = self.rng.bool();
        Some(Operation::Translate { master, substream, iova, write })
    }

    /// Pages anywhere in the window, of a substream that uses something, or, less often, of any.
    fn ask(&mut self, oracle: &Oracle) -> Option<Operation> {
        let asks = |master: usize| self.scenario.masters.get(master).is_some_and(|it| it.pri);
        let attached: Vec<(usize, Substream)> = oracle
            .users()
            .filter_map(|(user, _)| Some((user.master, oracle.substream_name(user.substream)?)))
            .filter(|(master, _)| asks(*master))
            .collect();
        let masters: Vec<usize> = (0..self.scenario.masters.len()).filter(|it| asks(*it)).collect();
        let (master, substream) = if self.rng.u8(..) < 224 {
            self.rng.choice(attached)?
        } else {
            let mut substreams = vec![Substream::None];
            substreams.extend((1..=self.scenario.pasids.min(4)).map(Substream::Pasid));
            substreams.extend((0..self.scenario.processes.len()).map(Substream::Process));
            (self.rng.choice(masters)?, self.rng.choice(substreams)?)
        };
        if substream != Substream::None && self.rng.u8(..) < 64 {
            return Some(Operation::Stop { master, substream });
        }
        let user = oracle.substream(substream).map(|substream| User { master, substream });
        let space = user.and_then(|user| oracle.space(oracle.using(user)));
        let iova = self.any_page(space.unwrap_or(usize::MAX));
        let most = if self.rng.u8(..) < 16 { 24 } else { 4 };
        let pages = self.rng.u64(1..=most);
        let (write, unfinished) = (self.rng.bool(), self.rng.u8(..) < 16);
        Some(Operation::Ask { master, substream, iova, pages, write, unfinished })
    }

    /// Mostly a success: what it needs may be there by now.
    fn grant(&mut self) -> Option<Operation> {
        let asking = (0..self.scenario.masters.len())
            .filter(|master| self.scenario.masters.get(*master).is_some_and(|it| it.pri));
        let master = self.rng.choice(asking.collect::<Vec<usize>>())?;
        let grant = match self.rng.u8(..) {
            0..160 => Grant::Success,
            160..208 => Grant::Invalid,
            208..248 => Grant::Drop,
            _ => Grant::Failure,
        };
        Some(Operation::Grant { master, grant })
    }

    /// A device that keeps translations falls silent; one that has is reset before long.
    fn mute(&mut self, oracle: &Oracle) -> Option<Operation> {
        let masters = self.scenario.masters.iter().enumerate();
        let keeping = masters.filter(|(_, it)| it.ats.is_some()).map(|(master, _)| master);
        let master = self.rng.choice(keeping.collect::<Vec<usize>>())?;
        Some(match oracle.is_mute(master) {
            true => Operation::Readmit { master },
            false => Operation::Mute { master, late: self.rng.bool() },
        })
    }

    fn release(&mut self, oracle: &Oracle) -> Option<Operation> {
        let process = self.rng.usize(0..self.scenario.processes.len().max(1));
        let is_live = oracle.life(oracle.process_space(process)) == Life::Live;
        Some(if is_live && self.rng.u8(..) < 192 {
            Operation::Release { process }
        } else {
            Operation::Replace { process }
        })
    }

    /// Suspends an instance, or wakes it: those that sleep are found soon.
    fn power(&mut self, oracle: &Oracle) -> Option<Operation> {
        let instance = self.rng.usize(0..self.scenario.instances.len().max(1));
        let asleep = oracle.power(instance) == Power::Off;
        let change = if asleep { Change::Resume } else { Change::Suspend };
        Some(Operation::Change { instance, change })
    }

    /// Another kernel takes over, now and then without some of the masters; or it ends what it took over.
    fn hand_over(&mut self, oracle: &Oracle) -> Option<Operation> {
        if oracle.all_spaces() > oracle.spaces() && self.rng.u8(..) < 160 {
            return self.change(Change::EndAdoption);
        }
        let masters = 0..self.scenario.masters.len();
        // With one that waits its instance does not go on: now and then without all of those.
        let without = self.rng.bool();
        let waits = |master: usize| {
            self.scenario.masters.get(master).is_some_and(|it| it.ats.is_some())
                || self.scenario.stalls(master)
        };
        let lost = masters.filter(|it| self.rng.u8(..) < 48 || without && waits(*it)).collect();
        Some(Operation::HandOver { lost })
    }

    fn command_error(&mut self) -> Option<Operation> {
        let instance = self.rng.usize(0..self.scenario.instances.len().max(1));
        let error = one_of(&mut self.rng, &[CommandError::Illegal, CommandError::Abort]);
        Some(Operation::CommandError { instance, error })
    }

    fn change(&mut self, change: Change) -> Option<Operation> {
        let instance = self.rng.usize(0..self.scenario.instances.len().max(1));
        Some(Operation::Change { instance, change })
    }

    fn access(&mut self, oracle: &Oracle, write: bool) -> Option<Operation> {
        let space = |user: User| oracle.space(oracle.using(user));
        if let Some((master, substream, page)) = self.rng.choice(&self.hot).copied()
            && self.rng.bool()
            && let Some(number) = oracle.substream(substream)
            && let Some(space) = space(User { master, substream: number })
            && oracle.life(space) == Life::Live
            && oracle.page(space, page).is_some_and(|it| is_open(self.scenario, master, &it, write))
        {
            return self.dma(master, substream, page, write);
        }
        let (master, substream, space) = self.attached(oracle)?;
        if oracle.life(space) != Life::Live {
            return None;
        }
        let scenario = self.scenario;
        let pages = oracle
            .pages(space, self.window(space))
            .filter(|(_, page)| is_open(scenario, master, page, write))
            .map(|(iova, _)| iova);
        let page = self.one_page(pages)?;
        if self.hot.len() == HOT_PAGES {
            self.hot.remove(0);
        }
        self.hot.push((master, substream, page));
        self.dma(master, substream, page, write)
    }

    fn stale(&mut self, oracle: &Oracle) -> Option<Operation> {
        let (master, substream, space) = self.attached(oracle)?;
        let released = oracle.life(space) == Life::Released;
        let gone = oracle
            .gone(space, self.window(space))
            .map(|(iova, _)| iova)
            .filter(|iova| oracle.page(space, *iova).is_none());
        // Of a process that was released everything is gone.
        let left = oracle.pages(space, self.window(space)).map(|(iova, _)| iova);
        let page = self.one_page(gone.chain(left.filter(|_| released)))?;
        let write = self.rng.bool();
        self.dma(master, substream, page, write)
    }

    fn fault(&mut self, oracle: &Oracle) -> Option<Operation> {
        if self.weights.attach_pasid + self.weights.bind > 0 && self.rng.u8(..) < 64 {
            return self.unattached(oracle);
        }
        let (master, substream, space) = self.attached(oracle)?;
        for _ in 0..8 {
            let iova = self.any_page(space);
            match oracle.page(space, iova) {
                None => {
                    let write = self.rng.bool();
                    return self.dma(master, substream, iova, write);
                }
                Some(page) if !is_open(self.scenario, master, &page, false) => {
                    let write = self.rng.bool();
                    return self.dma(master, substream, iova, write);
                }
                Some(page) if !page.write => return self.dma(master, substream, iova, true),
                Some(_) => {}
            }
        }
        None
    }

    /// An access with a substream, or without, that has nothing to use.
    fn unattached(&mut self, oracle: &Oracle) -> Option<Operation> {
        let master = self.master_with_substreams()?;
        let mut substreams = vec![Substream::None];
        substreams.extend((1..=self.scenario.pasids).map(Substream::Pasid));
        substreams.extend((0..self.scenario.processes.len()).map(Substream::Process));
        substreams.retain(|substream| {
            oracle
                .substream(*substream)
                .is_some_and(|substream| oracle.using(User { master, substream }) == Use::Blocked)
        });
        let substream = self.rng.choice(substreams)?;
        let page = self.any_page(usize::MAX);
        let write = self.rng.bool();
        self.dma(master, substream, page, write)
    }

    /// An access within one page.
    fn dma(
        &mut self,
        master: usize,
        substream: Substream,
        page: u64,
        write: bool,
    ) -> Option<Operation> {
        let device = self.scenario.masters.get(master)?.device;
        let bytes = 4 * self.rng.u64(1..=MOST_BYTES / 4);
        let iova = page + 4 * self.rng.u64(0..=(PAGE - bytes) / 4);
        if write || device == Device::TestDevice {
            self.serial += 1;
            let word = match device {
                Device::TestDevice => Device::TEST_PATTERN,
                // Never zero, and never what an earlier write left.
                Device::Edu => 0x8000_0000 | self.serial,
            };
            let data = word.to_le_bytes().into_iter().cycle().take(bytes as usize).collect();
            return Some(Operation::Write { master, substream, iova, data });
        }
        Some(Operation::Read { master, substream, iova, bytes: bytes as usize })
    }
}

/// Whether a master may access a page.
fn is_open(scenario: &Scenario, master: usize, page: &Page, write: bool) -> bool {
    (page.write || !write) && (page.rights != Rights::Privileged || scenario.is_privileged(master))
}

fn one_of<T: Copy>(rng: &mut fastrand::Rng, values: &[T]) -> T {
    values[rng.usize(0..values.len())]
}

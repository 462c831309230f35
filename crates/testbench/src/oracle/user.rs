// SPDX-License-Identifier: MIT OR Apache-2.0
//! Masters and their substreams: which address space each uses, or is being given.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use smmuv3::Overrides;
use smmuv3_model::Attributes;

use super::attributes::untranslated;
use super::{Life, Oracle};
use crate::scenario::Substream;

/// What accesses are meant to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Nothing.
    Blocked,
    /// All memory.
    Identity,
    /// The domain with this index.
    Domain(usize),
    /// The process with this index.
    Process(usize),
    /// What a kernel before this one had given it, or firmware: the space with this number.
    Kept(usize),
}

/// Whose accesses: those of a master, without a substream or with this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct User {
    /// Index of the master.
    pub master: usize,
    /// SubstreamID.
    pub substream: Option<u32>,
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "master {}", self.master)?;
        self.substream.map_or(Ok(()), |substream| write!(f, " substream {substream:#x}"))
    }
}

impl From<usize> for User {
    /// A master's accesses without a substream.
    fn from(master: usize) -> Self {
        Self { master, substream: None }
    }
}

/// What a substream, or none, of a master uses: now, and what it is being changed to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Useful {
    pub(super) now: Use,
    pub(super) next: Option<Use>,
    /// How often the process was bound, less how often it was unbound.
    pub(super) bonds: usize,
}

impl Default for Useful {
    fn default() -> Self {
        Self { now: Use::Blocked, next: None, bonds: 0 }
    }
}

/// The contexts of a master with substreams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contexts {
    /// log2 of their number, but 0 for a single one without substreams.
    pub bits: u32,
    /// log2 of the contexts in a leaf, where there are two levels.
    pub split: Option<u32>,
}

impl Contexts {
    /// As the driver lays out a table for `bits` bits of substreams on an instance that has, or has not, 2-level
    /// tables (§5.3).
    pub fn new(bits: u32, two_levels: bool) -> Self {
        let split = match bits {
            0..=6 => None,
            7..=17 => Some(6),
            _ => Some(10),
        };
        Self { bits, split: split.filter(|_| two_levels) }
    }
}

#[derive(Clone, Debug)]
pub(super) struct MasterState {
    streams: Vec<u32>,
    pub(super) instance: usize,
    pub(super) contexts: Contexts,
    pub(super) uses: BTreeMap<Option<u32>, Useful>,
    /// Leaves of its table that are there, and those that may be since an attach failed.
    pub(super) leaves: BTreeSet<u32>,
    pub(super) perhaps: BTreeSet<u32>,
    /// Leaves of the table that its guest has for it.
    pub(super) guest_leaves: BTreeSet<u32>,
    /// Its instance has tables of contexts of two levels.
    pub(super) two_levels: bool,
    /// Its SMMU leaves no choice: what is refused stalls, or has an event.
    pub(super) stalls_always: bool,
    /// Bits of the addresses that its SMMU puts out.
    pub(super) output_bits: u32,
    /// All that it does is privileged.
    pub(super) privileged: bool,
    /// What its SMMU says in place of its device.
    pub(super) overrides: Overrides,
    /// Its device may keep translations.
    pub(super) keeps: bool,
    /// And it may where it uses all memory: its contexts, of which there are two at least, are skipped there.
    pub(super) always: bool,
    /// Its device does not answer invalidations: it may be blocked at any moment.
    pub(super) mute: bool,
    /// Or did not, once.
    pub(super) was_mute: bool,
    /// Its device is given intermediate addresses, while a guest's stage 1 translates, and has no ATS else.
    pub(super) split: bool,
    /// Its faults may stall.
    pub(super) stalls: bool,
    /// It goes from one thing to another without a moment in between, where no stage 2 is part of that.
    pub(super) hitless: bool,
    /// Types of its accesses are others where nothing translates than where stage 2 does: that is another word of an entry.
    pub(super) overridden: bool,
    /// With which attributes accesses arrive that nothing translates.
    pub(super) untranslated: Attributes,
    /// It goes on as a kernel before this one left it, all its substreams together.
    pub(super) kept: bool,
    /// Changes of what it uses that have begun.
    pub(super) changes: u64,
    /// Bits of the PASIDs that responses to its page requests can carry, where they do.
    response_bits: Option<u32>,
}

impl MasterState {
    /// Whether its SMMU can put out `address`.
    pub(super) fn puts_out(&self, address: u64) -> bool {
        address.checked_shr(self.output_bits).unwrap_or(0) == 0
    }

    pub(super) fn useful(&self, substream: Option<u32>) -> Useful {
        self.uses.get(&substream).copied().unwrap_or_default()
    }

    /// What `substream` uses once everything under way is done, or as it was before.
    pub(super) fn uses(&self, substream: Option<u32>, after: bool) -> Use {
        let useful = self.useful(substream);
        useful.next.filter(|_| after).unwrap_or(useful.now)
    }

    /// Bits of a substream that its contexts have (S1CDMax).
    pub(super) fn context_bits(&self) -> u32 {
        self.contexts.bits.max(u32::from(self.always))
    }

    /// Whether its entry leads to contexts, before or after: any accesses use a domain or a process, or contexts are skipped
    /// where all memory is used.
    pub(super) fn has_contexts(&self, after: bool) -> bool {
        self.always && self.uses(None, after) == Use::Identity || self.is_translated(after)
    }

    /// Whether any accesses use, before or after, a domain or a process.
    fn is_translated(&self, after: bool) -> bool {
        let translated = |use_: Use| !matches!(use_, Use::Blocked | Use::Identity);
        self.uses.keys().any(|substream| translated(self.uses(*substream, after)))
    }

    /// Whether anything of it is being changed right now.
    pub(super) fn is_changing(&self) -> bool {
        self.uses.values().any(|useful| useful.next.is_some())
    }

    fn leaf(&self, substream: Option<u32>) -> u32 {
        let substream = substream.unwrap_or(0);
        self.contexts.split.map_or(0, |split| substream >> split)
    }
}

impl Oracle {
    /// Another master, without substreams.
    pub fn add_master(&mut self, instance: usize, streams: Vec<u32>) {
        self.add_master_with(instance, streams, Contexts::default());
    }

    /// Another master, with these contexts.
    pub fn add_master_with(&mut self, instance: usize, streams: Vec<u32>, contexts: Contexts) {
        self.masters.push(MasterState {
            streams,
            instance,
            contexts,
            uses: BTreeMap::new(),
            leaves: BTreeSet::new(),
            perhaps: BTreeSet::new(),
            guest_leaves: BTreeSet::new(),
            two_levels: false,
            stalls_always: false,
            output_bits: u64::BITS,
            privileged: false,
            overrides: Overrides::NONE,
            keeps: false,
            always: false,
            mute: false,
            was_mute: false,
            split: false,
            stalls: false,
            hitless: false,
            overridden: false,
            untranslated: untranslated(&Overrides::default()),
            kept: false,
            changes: 0,
            response_bits: None,
        });
    }

    /// The device of `master` has split-stage ATS.
    pub fn keeps_intermediate(&mut self, master: usize) {
        if let Some(state) = self.masters.get_mut(master) {
            state.split = true;
        }
    }

    /// Faults of `master` may stall.
    pub fn may_stall(&mut self, master: usize) {
        if let Some(state) = self.masters.get_mut(master) {
            state.stalls = true;
        }
    }

    /// The device of `master` may keep translations (ATS).
    pub fn keeps_translations(&mut self, master: usize) {
        if let Some(state) = self.masters.get_mut(master) {
            state.keeps = true;
        }
    }

    /// So may it where it uses all memory.
    pub fn always_keeps(&mut self, master: usize) {
        if let Some(state) = self.masters.get_mut(master) {
            state.always = true;
        }
    }

    /// Whether the device of `master` has split-stage ATS.
    pub(crate) fn is_split(&self, master: usize) -> bool {
        self.masters.get(master).is_some_and(|master| master.split)
    }

    /// Responses to page requests of `master` carry PASIDs, of which its instance has so many bits.
    pub fn responses_carry(&mut self, master: usize, bits: u32) {
        if let Some(state) = self.masters.get_mut(master) {
            state.response_bits = Some(bits);
        }
    }

    /// Whether a response can name a group of `stream` with `substream`: it has no other PASIDs than the instance.
    pub(super) fn can_answer(&self, instance: usize, stream: u32, substream: Option<u32>) -> bool {
        let master = self.master_of(instance, stream).and_then(|master| self.masters.get(master));
        let bits = master.and_then(|master| master.response_bits);
        bits.zip(substream).is_none_or(|(bits, substream)| substream >> bits.min(31) == 0)
    }

    /// The master was made anew, with contexts of its own.
    pub(crate) fn renew_master(&mut self, master: usize) {
        if let Some(state) = self.masters.get_mut(master) {
            state.leaves.clear();
            state.perhaps.clear();
        }
    }

    /// The driver gave the scenario another PASID.
    pub fn add_pasid(&mut self, pasid: u32) {
        self.pasids.push(pasid);
    }

    /// The SubstreamIDs of the scenario's PASIDs.
    pub fn pasids(&self) -> impl Iterator<Item = u32> {
        self.pasids.iter().copied()
    }

    /// How many masters there are.
    pub fn masters(&self) -> usize {
        self.masters.len()
    }

    /// The SubstreamID that is meant; `None` inside for none, outside when there is no such PASID or process.
    pub fn substream(&self, substream: Substream) -> Option<Option<u32>> {
        match substream {
            Substream::None => Some(None),
            Substream::Pasid(number) => {
                let index = (number as usize).checked_sub(1)?;
                self.pasids.get(index).map(|pasid| Some(*pasid))
            }
            Substream::Process(process) => self.spaces.get(self.domains + process)?.pasid.map(Some),
        }
    }

    /// What the scenario calls a SubstreamID.
    pub fn substream_name(&self, substream: Option<u32>) -> Option<Substream> {
        let Some(pasid) = substream else { return Some(Substream::None) };
        let processes = self.spaces.get(self.domains..)?;
        let process = processes.iter().position(|space| space.pasid == Some(pasid));
        let number = || self.pasids.iter().position(|known| *known == pasid);
        process
            .map(Substream::Process)
            // There are at most 4095.
            .or_else(|| number().map(|index| Substream::Pasid(index as u32 + 1)))
    }

    /// What accesses are meant to use.
    pub fn using(&self, user: impl Into<User>) -> Use {
        let User { master, substream } = user.into();
        self.masters.get(master).map_or(Use::Blocked, |master| master.uses(substream, false))
    }

    /// Whoever uses something: a domain, a process, or all memory.
    pub fn users(&self) -> impl Iterator<Item = (User, Use)> {
        self.masters.iter().enumerate().flat_map(|(master, state)| {
            let user = move |substream| User { master, substream };
            let uses = state.uses.iter().map(move |(of, useful)| (user(*of), useful.now));
            uses.filter(|(_, now)| *now != Use::Blocked)
        })
    }

    /// The SubstreamIDs of `master` that use something, or are about to.
    pub fn substreams(&self, master: usize) -> impl Iterator<Item = Option<u32>> {
        let uses = self.masters.get(master).into_iter().flat_map(|master| master.uses.keys());
        uses.copied().filter(Option::is_some)
    }

    /// Whoever uses `space`, or is about to.
    pub fn users_of(&self, space: usize) -> Vec<User> {
        let users = self.masters.iter().enumerate().flat_map(|(master, state)| {
            let uses = |of: &Option<u32>| {
                let now_or_next = [state.uses(*of, false), state.uses(*of, true)];
                now_or_next.iter().any(|use_| self.is_space(*use_, space))
            };
            let substreams = state.uses.keys().copied().filter(uses).collect::<Vec<_>>();
            substreams.into_iter().map(move |substream| User { master, substream })
        });
        users.collect()
    }

    /// The address space that a use means.
    pub fn space(&self, use_: Use) -> Option<usize> {
        match use_ {
            Use::Blocked | Use::Identity => None,
            Use::Domain(domain) => Some(domain),
            Use::Process(process) => Some(self.domains + process),
            Use::Kept(space) => Some(space),
        }
    }

    /// Whether a use means `space`, or a guest's over it.
    pub(crate) fn is_space(&self, use_: Use, space: usize) -> bool {
        self.space(use_).is_some_and(|used| used == space || self.owner(used) == space)
    }

    /// How often `process` is bound to `master`.
    pub fn bonds(&self, master: usize, process: usize) -> usize {
        let pasid = self.spaces.get(self.domains + process).and_then(|space| space.pasid);
        let master = self.masters.get(master);
        master.zip(pasid).map_or(0, |(master, pasid)| master.useful(Some(pasid)).bonds)
    }

    /// The layout of the contexts of `master`.
    pub fn contexts(&self, master: usize) -> Contexts {
        self.masters.get(master).map_or_else(Contexts::default, |master| master.contexts)
    }

    /// The instance and streams of `master`.
    pub fn streams(&self, master: usize) -> (usize, &[u32]) {
        self.masters.get(master).map_or((0, &[]), |master| (master.instance, &master.streams))
    }

    /// The master that issues `stream` behind `instance`.
    pub fn master_of(&self, instance: usize, stream: u32) -> Option<usize> {
        self.masters
            .iter()
            .position(|master| master.instance == instance && master.streams.contains(&stream))
    }

    /// Whether anybody behind `instance` uses `space`, or may still.
    pub fn is_used_on(&self, space: usize, instance: usize) -> bool {
        self.masters.iter().filter(|master| master.instance == instance).any(|master| {
            master.uses.keys().any(|substream| {
                [false, true]
                    .iter()
                    .any(|after| self.is_space(master.uses(*substream, *after), space))
            })
        })
    }

    /// Whether `master`, or one of its substreams, uses anything.
    pub fn is_in_use(&self, master: usize) -> bool {
        self.masters
            .get(master)
            .is_some_and(|master| master.uses.values().any(|useful| useful.now != Use::Blocked))
    }

    /// Whether anything of `master` is being changed right now.
    pub fn is_changing(&self, master: usize) -> bool {
        self.masters.get(master).is_some_and(MasterState::is_changing)
    }

    /// Whether anything of any master is being changed, or a process released: a call is under way that may
    /// change tags.
    pub fn is_any_changing(&self) -> bool {
        self.masters.iter().any(MasterState::is_changing)
            || self.spaces.iter().any(|space| space.life == Life::Releasing)
    }

    /// No access of `master` that is permitted before a change and after it is refused meanwhile, unless it goes from one
    /// translation to another, and one of these has a stage 2, other than from one context of a guest to another of it where no
    /// fault stalls; or, where types of accesses are overridden that nothing translates, between those and a stage 2, which looks
    /// at the same word; or where what is not translated has an entry of stage 1.
    pub fn changes_without_a_hit(&mut self, master: usize, overrides: &Overrides) {
        if let Some(state) = self.masters.get_mut(master) {
            state.hitless = true;
            let Overrides { memory, sharing, allocation, .. } = overrides;
            state.overridden = memory.is_some() || sharing.is_some() || allocation.is_some();
            state.untranslated = untranslated(overrides);
            state.overrides = *overrides;
        }
    }

    /// Whether that is so for accesses of `substream` at `iova` now.
    pub(super) fn is_hitless(
        &self,
        master: &MasterState,
        substream: Option<u32>,
        iova: u64,
    ) -> bool {
        let used = [false, true].map(|after| master.uses(substream, after));
        // Beyond what an SMMU puts out, all is refused that is not translated.
        let passes = |used| used != Use::Identity || master.puts_out(iova);
        master.hitless && !self.is_in_steps(master, used) && used.into_iter().all(passes)
    }

    /// Whether no single word decides between these two uses of a master.
    pub(super) fn is_in_steps(&self, master: &MasterState, used: [Use; 2]) -> bool {
        let spaces = used.map(|used| self.space(used));
        let [before, after] = spaces.map(|space| self.over(space?));
        let plain = !master.kept && !master.stalls && master.contexts.bits == 0;
        if plain && before.is_some() && before == after {
            // From one context of a guest to another of it: S1ContextPtr alone.
            return false;
        }
        let guest = |space| self.over(space).is_some();
        let stage_2 = |space| self.shape(space).stage_2;
        let both = spaces.iter().all(Option::is_some);
        let typed = (master.overridden || master.always) && used.contains(&Use::Identity);
        let in_steps = (both || typed) && spaces.into_iter().flatten().any(stage_2);
        let of_guests = spaces.into_iter().flatten().any(guest);
        // Contexts of a kernel that is gone are elsewhere, and its entry says in another word what becomes of accesses without
        // a substream, whose meaning changes at once with theirs.
        let adopted = master.kept && master.uses.keys().any(Option::is_some);
        in_steps || of_guests || adopted
    }

    /// Whether `space` is being attached behind `instance` right now, where nobody used it before.
    pub fn is_joining(&self, space: usize, instance: usize) -> bool {
        let here = |master: &&MasterState| master.instance == instance;
        let uses = |after: bool| {
            self.masters.iter().filter(here).any(|master| {
                let mut substreams = master.uses.keys();
                substreams.any(|of| self.is_space(master.uses(*of, after), space))
            })
        };
        uses(true) && !uses(false)
    }

    /// The use of `user` is being changed to `next`.
    pub fn attach_begins(&mut self, user: impl Into<User>, next: Use) {
        let User { master, substream } = user.into();
        let now = self.using(master);
        let guests = substream.is_none() && self.guest_of(master).is_some();
        let stays = guests && self.is_same_guest(master, now, next);
        if let Some(master) = self.masters.get_mut(master) {
            master.changes += 1;
            if guests && !master.kept {
                // Its contexts are in another table of the guest's, or nowhere.
                for useful in master.uses.values_mut() {
                    useful.next = Some(if stays { useful.now } else { Use::Blocked });
                }
            }
            if master.kept {
                // Its entry becomes another, and with it all that it led to.
                master.uses.values_mut().for_each(|useful| useful.next = Some(Use::Blocked));
            }
            master.uses.entry(substream).or_default().next = Some(next);
        }
    }

    /// The change of `user` has returned; `done` when it did what it was asked.
    pub fn attach_ends(&mut self, user: impl Into<User>, done: bool) {
        let user = user.into();
        let User { master, substream } = user;
        let next = self.masters.get(master).and_then(|it| it.uses.get(&substream)?.next);
        let next = next.and_then(|next| self.space(next));
        // By stage 2 alone, or a guest's contexts, the driver's are not looked at.
        let translated = next.is_some_and(|space| !self.shape(space).stage_2);
        let Some(master) = self.masters.get_mut(master) else { return };
        let leaf = master.leaf(substream);
        if substream.is_none() && !master.kept {
            for useful in master.uses.iter_mut().filter(|(of, _)| of.is_some()).map(|(_, it)| it) {
                if let Some(next) = useful.next.take().filter(|_| done) {
                    useful.now = next;
                }
            }
            master.uses.retain(|of, useful| of.is_none() || useful.now != Use::Blocked);
        }
        let useful = master.uses.entry(substream).or_default();
        let Some(next) = useful.next.take() else { return };
        if done {
            useful.now = next;
        }
        let now_used = useful.now != Use::Blocked;
        if !now_used {
            master.uses.remove(&substream);
        }
        if master.kept {
            master.kept = !done;
            master.uses.values_mut().for_each(|useful| useful.next = None);
            if done {
                master.uses.retain(|of, _| *of == substream);
                master.leaves.clear();
                master.perhaps.clear();
            }
        }
        if translated && done {
            master.leaves.insert(leaf);
        } else if translated {
            master.perhaps.insert(leaf);
        }
        if done && (substream.is_none() || now_used) {
            self.guest_leaves(user.master, substream);
        }
    }

    /// `process` was bound to `master` once more, or once less.
    pub fn bound(&mut self, master: usize, process: usize, more: bool) {
        let pasid = self.spaces.get(self.domains + process).and_then(|space| space.pasid);
        let Some((master, pasid)) = self.masters.get_mut(master).zip(pasid) else { return };
        if let Some(useful) = master.uses.get_mut(&Some(pasid)) {
            useful.bonds = if more { useful.bonds + 1 } else { useful.bonds.saturating_sub(1) };
        }
    }
}

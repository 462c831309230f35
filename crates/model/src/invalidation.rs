// SPDX-License-Identifier: MIT OR Apache-2.0
//! CFGI and TLBI commands: what they must hit, and nothing more (§4.2).

use smmuv3_formats::command::{ALL_STREAMS, CfgiCd, CfgiSteRange, TlbiNhVa, TlbiS2Ipa};
use smmuv3_formats::granule::Granule;
use smmuv3_formats::{Command, Opcode};

use crate::config_cache::{Fetch, Target};
use crate::context::Route;
use crate::held::Held;
use crate::memory::Memory;
use crate::model::Model;
use crate::observation::{Misuse, Observation};
use crate::tlb::{TlbEntry, WalkEntry};
use crate::tlb_scope::{Asids, Kinds, Range, TlbScope};
use crate::world::{World, Worlds};

/// What an invalidation reaches.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scope {
    /// STEs from the first to the last stream with all their CDs, and L1STDs if so.
    Stes { first: u32, last: u32, l1: bool },
    /// One CD of a stream, and its L1CD if so; without `substream` all.
    Cds { stream: u32, substream: Option<u32>, l1: bool },
    /// Translations.
    Tlb(TlbScope),
}

/// An invalidation that no CMD_SYNC has completed yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub(crate) scope: Scope,
    /// What was read before this moment must go.
    pub(crate) cutoff: u64,
    pub(crate) position: u64,
    /// The queue whose CMD_SYNC completes it.
    pub(crate) queue: usize,
    pub(crate) applied: bool,
}

/// An invalidation that was asked for once, by an SMMU that has to be asked twice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Once {
    command: Command,
    pub(crate) queue: usize,
    /// A CMD_SYNC has completed it.
    pub(crate) complete: bool,
}

impl Pending {
    /// Whether a held transfer used what this invalidates.
    pub(crate) fn reaches(&self, held: &Held) -> bool {
        let old = held.configuration.is_some_and(|basis| basis < self.cutoff);
        match self.scope {
            Scope::Stes { first, last, .. } => old && (first..=last).contains(&held.access.stream),
            Scope::Cds { stream, substream, .. } => {
                old && held.access.stream == stream
                    && substream.is_none_or(|index| held.access.substream.unwrap_or(0) == index)
            }
            Scope::Tlb(scope) => {
                held.entry.is_some_and(|entry| entry.basis < self.cutoff && scope.leaf(&entry))
            }
        }
    }
}

impl<M: Memory> Model<M> {
    /// Takes an invalidation: it takes effect now, or later.
    pub(crate) fn invalidate(&mut self, command: &Command, position: u64, queue: usize) {
        let scope = match self.scope(command) {
            Ok(Some(scope)) => scope,
            Ok(None) => return,
            Err(misuse) => return self.misuse(misuse),
        };
        if self.loses_invalidation(queue, &scope) {
            return;
        }
        if self.profile.repeated_invalidation
            && !self.is_repeated(command, queue)
            // Somebody else's in another queue may have been taken for this one's first, and be late.
            && !self.pending.iter().any(|it| !it.applied && it.queue != queue)
            && self.random.one_in(2)
        {
            return;
        }
        let cutoff = self.tick();
        let late = self.profile.adversary.late_invalidation && self.random.one_in(2);
        self.pending.push(Pending { scope, cutoff, position, queue, applied: false });
        if !late {
            self.apply_pending(1);
        } else if self.pending.len() > 1024 {
            self.apply_pending(self.pending.len());
        }
    }

    /// Whether the same was asked for before, and was complete: then this one counts, and the next is the first again.
    fn is_repeated(&mut self, command: &Command, queue: usize) -> bool {
        let once = &mut self.once;
        let found = once.iter().position(|it| it.complete && it.command == *command);
        match found {
            Some(found) => {
                once.swap_remove(found);
            }
            None => once.push(Once { command: *command, queue, complete: false }),
        }
        found.is_some()
    }

    /// Lets the last `count` pending invalidations take effect.
    pub(crate) fn apply_pending(&mut self, count: usize) {
        let from = self.pending.len().saturating_sub(count);
        self.apply_those(from, |_| true);
        // What took effect matters on only for transfers, and stalled transactions, that it still reaches.
        let held = &self.held;
        let stalls = &self.stalls;
        self.pending.retain(|p| {
            !p.applied || held.iter().any(|held| p.reaches(held)) || stalls.reached_by(p)
        });
    }

    /// Lets those of the pending invalidations from index `from` on take effect that `which` chooses.
    pub(crate) fn apply_those(&mut self, from: usize, which: impl Fn(&Pending) -> bool) {
        for index in from..self.pending.len() {
            let pending = self.pending[index];
            if !pending.applied && which(&pending) {
                self.pending[index].applied = true;
                self.apply(&pending);
            }
        }
    }

    /// Lets one of the pending invalidations take effect.
    pub(crate) fn apply_some(&mut self) {
        let count = self.pending.len();
        if count != 0 {
            let at = self.random.below(count as u64) as usize;
            self.pending.swap(at, count - 1);
            self.apply_pending(1);
        }
    }

    fn apply(&mut self, pending: &Pending) {
        let cutoff = pending.cutoff;
        let removed = match pending.scope {
            Scope::Stes { first, last, l1 } => {
                let inside = |stream: &u32| (first..=last).contains(stream);
                let only = (first == last).then_some(first);
                let matches = |target: Target| inside(&target.stream());
                self.config.stes.narrow(first, last, cutoff);
                let mut removed = self.remove_config(only, matches, cutoff);
                if let (true, Some(split)) = (l1, self.split()) {
                    let (first, last) = (first >> split, last >> split);
                    let before = self.config.l1.len();
                    self.config.l1.retain(|index, entry| {
                        entry.basis >= cutoff || !(first..=last).contains(index)
                    });
                    removed += before - self.config.l1.len();
                }
                removed
            }
            Scope::Cds { stream, substream, l1 } => {
                // Without a 2-level table there is no L1CD to hit.
                let split = self.context_split(stream).unwrap_or(0);
                self.remove_config(
                    Some(stream),
                    |target| match target {
                        _ if target.stream() != stream => false,
                        Target::Ste { .. } => false,
                        Target::Cd { substream: index, .. } => {
                            substream.is_none_or(|own| own == index)
                        }
                        Target::L1Cd { index, .. } => {
                            l1 && substream.is_none_or(|own| own >> split == index)
                        }
                    },
                    cutoff,
                )
            }
            Scope::Tlb(scope) => self.remove_translations(&scope, cutoff),
        };
        self.observe(Observation::Applied { position: pending.position, removed });
    }

    /// Forgets translations and table descriptors from before `cutoff`; how many.
    pub(crate) fn remove_translations(&mut self, scope: &TlbScope, cutoff: u64) -> usize {
        let leaf = |entry: &TlbEntry| entry.basis < cutoff && scope.leaf(entry);
        let table = |entry: &WalkEntry| entry.basis < cutoff && scope.table(entry);
        let (mut removed, kinds) = (0, scope.kinds);
        if kinds != Kinds::Intermediate {
            let gone = (self.tlb.remove(leaf), self.walk_cache.remove(table));
            removed += self.gone(&gone);
        }
        if kinds != Kinds::Virtual {
            let gone = (self.ipa_tlb.remove(leaf), self.ipa_walk_cache.remove(table));
            removed += self.gone(&gone);
            // The SMMU's own fetches go where stage 2 leads by now, once a CMD_SYNC is complete (§4.2): those
            // that are under way begin again.
            let stage_2_hit = |fetch: &Fetch| {
                fetch.basis < cutoff && fetch.vmid.is_some() && scope.vmid_is(fetch.vmid)
            };
            let before = self.config.fetches.len();
            self.config.fetches.retain(|fetch| !stage_2_hit(fetch));
            removed += before - self.config.fetches.len();
        }
        removed
    }

    /// Looks at what went; how much that is. What changed while nothing was translated needed no break; what
    /// had changed before was looked at then ([`Model::check_cached`]).
    fn gone(&mut self, (leaves, tables): &(Vec<TlbEntry>, Vec<WalkEntry>)) -> usize {
        if self.registers.enabled() {
            self.check_leaves(leaves);
            self.check_tables(tables);
        }
        leaves.len() + tables.len()
    }

    /// Forgets configuration from before `cutoff`, fetches under way included. If it is of one stream alone, that is `only`.
    fn remove_config(
        &mut self,
        only: Option<u32>,
        matches: impl Fn(Target) -> bool,
        cutoff: u64,
    ) -> usize {
        let config = &mut self.config;
        let before = config.len();
        let goes = |target, basis: u64| basis < cutoff && matches(target);
        match only {
            Some(stream) => {
                config.stes.remove_if(stream, |entry| goes(Target::Ste { stream }, entry.basis))
            }
            None => config.stes.retain(|stream, entry| !goes(Target::Ste { stream }, entry.basis)),
        }
        config.cds.retain(|(stream, substream), entry| {
            !goes(Target::Cd { stream: *stream, substream: *substream }, entry.basis)
        });
        config.l1_cds.retain(|(stream, index), entry| {
            !goes(Target::L1Cd { stream: *stream, index: *index }, entry.basis)
        });
        // A pointer is not followed any more once the descriptor that holds it is gone (§4.2).
        config.fetches.retain(|fetch| {
            let through = fetch.through.is_some_and(|through| goes(through, fetch.basis));
            !through && !goes(fetch.target, fetch.basis)
        });
        before - config.len()
    }

    /// log2 of the CDs of a leaf of `stream`, whose STE is cached wherever one of its L1CDs is.
    fn context_split(&self, stream: u32) -> Option<u32> {
        match self.config.stes.get(&stream)?.route {
            Route::Stage1(contexts) => contexts.split,
            _ => None,
        }
    }

    /// What `command` must hit; `None` for nothing.
    fn scope(&self, command: &Command) -> Result<Option<Scope>, Misuse> {
        use Opcode as Op;
        // At one place in all that have them. SID has 32 and SSID 20 bits.
        let of_stream = CfgiCd(command.0);
        let has_substream = command.is(Op::CfgiCd);
        let stream = of_stream.sid() as u32;
        let substream = if has_substream { of_stream.ssid() as u32 } else { 0 };
        let missing = Misuse::NoSuchStream { stream, substream };
        let exists = u64::from(stream) >> self.profile.idr1.sidsize().min(63) == 0;
        let scope = |kinds, asid, range| {
            let vmid = self.vmid(command)?;
            let worlds = Worlds::One(World::El1);
            Ok(Some(Scope::Tlb(TlbScope { worlds, vmid, asid, range, kinds, shared: false })))
        };
        let tlb = |asid, range| scope(Kinds::Virtual, asid, range);
        // Without VMIDs.
        let el2 = |worlds, asid, range| {
            let kinds = Kinds::Virtual;
            Scope::Tlb(TlbScope { worlds, vmid: None, asid, range, kinds, shared: false })
        };
        Ok(Some(match command.opcode() {
            Some(Op::CfgiSteRange) if CfgiSteRange(command.0).range() == ALL_STREAMS => {
                Scope::Stes { first: 0, last: u32::MAX, l1: true }
            }
            Some(Op::CfgiSte | Op::CfgiSteRange | Op::CfgiCd | Op::CfgiCdAll) if !exists => {
                return Err(missing);
            }
            Some(Op::CfgiSte) => Scope::Stes { first: stream, last: stream, l1: !of_stream.leaf() },
            Some(Op::CfgiSteRange) => {
                // Range is at most 30 here.
                let low = u32::MAX >> (31 - CfgiSteRange(command.0).range() as u32);
                Scope::Stes { first: stream & !low, last: stream | low, l1: true }
            }
            Some(Op::CfgiCd) => {
                if u64::from(substream) >> self.profile.idr1.ssidsize().min(63) != 0 {
                    return Err(missing);
                }
                Scope::Cds { stream, substream: Some(substream), l1: !of_stream.leaf() }
            }
            Some(Op::CfgiCdAll) => Scope::Cds { stream, substream: None, l1: true },
            Some(Op::TlbiNhAll) => return tlb(Asids::Any, None),
            Some(Op::TlbiS12Vmall) => return scope(Kinds::All, Asids::Any, None),
            Some(Op::TlbiS2Ipa) => {
                let range = self.range(command)?;
                return scope(Kinds::Intermediate, Asids::Any, Some(range));
            }
            Some(Op::TlbiNsnhAll) => Scope::Tlb(TlbScope {
                worlds: Worlds::One(World::El1),
                vmid: None,
                asid: Asids::Any,
                range: None,
                kinds: Kinds::All,
                shared: false,
            }),
            Some(Op::TlbiNhAsid) => return tlb(Asids::NonGlobal(self.asid(command)?), None),
            Some(Op::TlbiNhVa) => {
                return tlb(Asids::OrGlobal(self.asid(command)?), Some(self.range(command)?));
            }
            Some(Op::TlbiNhVaa) => return tlb(Asids::Any, Some(self.range(command)?)),
            Some(Op::TlbiEl2All) => el2(Worlds::El2, Asids::Any, None),
            Some(Op::TlbiEl2Asid) => {
                let asid = Asids::NonGlobal(self.asid(command)?);
                el2(Worlds::One(World::El2E2h), asid, None)
            }
            Some(Op::TlbiEl2Va | Op::TlbiEl2Vaa) => {
                let range = Some(self.range(command)?);
                // Which of the two it is about is not known between a change of E2H and SMMUEN.
                let Some(e2h) = self.registers.e2h() else { return Ok(None) };
                match (e2h, command.opcode()) {
                    (false, _) => el2(Worlds::One(World::El2), Asids::Any, range),
                    (true, Some(Op::TlbiEl2Va)) => {
                        let asid = Asids::OrGlobal(self.asid(command)?);
                        el2(Worlds::One(World::El2E2h), asid, range)
                    }
                    (true, _) => el2(Worlds::One(World::El2E2h), Asids::Any, range),
                }
            }
            _ => return Ok(None),
        }))
    }

    /// Of a command that has an ASID, which is at one place in all of them.
    fn asid(&self, command: &Command) -> Result<u16, Misuse> {
        // The field has 16 bits.
        let asid = TlbiNhVa(command.0).asid() as u16;
        match self.profile.idr0.asid16() || asid <= 0xff {
            true => Ok(asid),
            false => Err(Misuse::AsidTooWide { asid }),
        }
    }

    /// Of a command that has a VMID, which is at one place in all of them.
    fn vmid(&self, command: &Command) -> Result<Option<(u16, u16)>, Misuse> {
        let idr0 = self.profile.idr0;
        // The field has 16 bits.
        let vmid = TlbiNhVa(command.0).vmid() as u16;
        let limit = match (idr0.s2p(), idr0.vmid16()) {
            (false, _) => 0,
            (true, false) => 0xff,
            (true, true) => 0xffff,
        };
        match vmid <= limit {
            true => Ok(Some((vmid, self.registers.vmid_wildcard()))),
            false => Err(Misuse::VmidTooWide { vmid }),
        }
    }

    /// Of a command that has a range, which is at one place in all of them, but for the width of the address.
    fn range(&self, command: &Command) -> Result<Range, Misuse> {
        let (idr3, idr5) = (self.profile.idr3, self.profile.idr5);
        let of_range = TlbiNhVa(command.0);
        let (num, scale) = (of_range.num(), of_range.scale());
        let (ttl, tg, ttl128) = (of_range.ttl(), of_range.tg(), of_range.ttl128());
        let bad = Misuse::BadRange { command: *command };
        let intermediate = command.is(Opcode::TlbiS2Ipa);
        let first = if intermediate { TlbiS2Ipa(command.0).addr() } else { of_range.addr() };
        let leaf = of_range.leaf();
        // Bits 63:48 must agree where addresses have 49 bits.
        let top = (first as i64) >> (48 + 4 * idr5.vax().min(2));
        let outside = match intermediate {
            true => first >> self.implementation().intermediate_bits() != 0,
            false => top != 0 && top != -1,
        };
        if outside {
            return Err(Misuse::AddressOutOfRange { command: *command });
        }
        let granule = Granule::from_tlbi(tg);
        let Some(granule) = granule.filter(|_| idr3.ril()) else {
            if num != 0 || scale != 0 || ttl != 0 || tg != 0 || ttl128 {
                return Err(bad);
            }
            return Ok(Range { first, last: first, granule: None, ttl: 0, leaf });
        };
        if scale > if idr5.ds() { 63 } else { 31 } || ttl128 {
            return Err(bad);
        }
        // Level 1 of the 16 KiB granule has no leaves unless DS: as if no level was given.
        let ttl = if granule == Granule::K16 && ttl == 1 && !idr5.ds() { 0 } else { ttl };
        let unit = match ttl {
            1 | 2 => granule.span(ttl as i8),
            _ => granule.shift(),
        };
        if first & ((1 << unit) - 1) != 0 {
            return Err(bad);
        }
        // At most 32 * 2^39 units of 2^16 bytes: 60 bits.
        let bytes = (num + 1) << scale.min(39) << granule.shift();
        let last = half_end(first).min(first.saturating_add(bytes - 1));
        Ok(Range { first, last, granule: Some(granule), ttl: ttl as i8, leaf })
    }
}

/// Last address of the half of the input addresses that `va` is in: a range does not leave it (§4.2).
pub(crate) const fn half_end(va: u64) -> u64 {
    if va >> 63 == 0 { i64::MAX as u64 } else { u64::MAX }
}

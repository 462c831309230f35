// SPDX-License-Identifier: MIT OR Apache-2.0
//! The cache of a device for translations that it was granted, and the commands that make it forget them (§4.2, §12).
//!
//! The cache is the device's: nothing leaves it but by CMD_ATC_INV, not even when the device is told to use it no
//! more.

use std::collections::{BTreeMap, BTreeSet};

use smmuv3_formats::Command;
use smmuv3_formats::command::AtcInv;

use crate::ats::Granted;
use crate::endpoint::Endpoint;
use crate::held::Held;
use crate::memory::Memory;
use crate::model::Model;
use crate::observation::{Misuse, Observation};
use crate::transaction::Access;

/// A translation that a device keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtcEntry {
    /// Number of the entry; later ones have greater numbers.
    pub id: u64,
    /// The substream that it asked with.
    pub substream: Option<u32>,
    /// First address.
    pub first: u64,
    /// What it was granted.
    pub granted: Granted,
}

impl AtcEntry {
    /// Last address.
    pub const fn last(&self) -> u64 {
        self.first | (self.granted.size - 1)
    }

    /// Where `address`, which it covers, goes.
    pub const fn output(&self, address: u64) -> u64 {
        self.granted.address | address & (self.granted.size - 1)
    }

    const fn permits(&self, access: &Access) -> bool {
        match (access.write, access.instruction) {
            (true, _) => self.granted.write,
            (false, true) => self.granted.execute,
            (false, false) => self.granted.read,
        }
    }
}

/// Whose, of which size as a power of two, for which privilege, and from where.
type Key = (Option<u32>, u32, bool, u64);

/// An address translation cache.
#[derive(Clone, Debug, Default)]
pub struct Atc {
    entries: BTreeMap<Key, AtcEntry>,
    /// A bit for each size, as a power of two, that one of them has had since there were none.
    sizes: u64,
}

impl Atc {
    /// What it holds, in no order that matters.
    pub fn iter(&self) -> impl Iterator<Item = &AtcEntry> {
        self.entries.values()
    }

    /// The entry for an access, the oldest of those that permit it.
    pub(crate) fn lookup(&self, access: &Access) -> Option<&AtcEntry> {
        let privileged = access.privileged && access.substream.is_some();
        let found = (12..=63).filter(|log2| self.sizes >> log2 & 1 != 0).filter_map(|log2| {
            let first = access.address & !((1 << log2) - 1);
            self.entries.get(&(access.substream, log2, privileged, first))
        });
        found.filter(|entry| entry.permits(access)).min_by_key(|entry| entry.id)
    }

    pub(crate) fn insert(&mut self, entry: AtcEntry) {
        let Granted { size, privileged, .. } = entry.granted;
        let key = (entry.substream, size.trailing_zeros(), privileged, entry.first);
        self.sizes |= size;
        self.entries.insert(key, entry);
    }

    fn forget(&mut self, span: &AtcSpan) -> usize {
        let before = self.entries.len();
        self.entries.retain(|_, entry| {
            !(span.reaches(entry.substream)
                && entry.first <= span.last
                && entry.last() >= span.first)
        });
        if self.entries.is_empty() {
            self.sizes = 0;
        }
        before - self.entries.len()
    }
}

/// What a CMD_ATC_INV names (§4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AtcSpan {
    pub(crate) stream: u32,
    /// Entries of this substream; without, all of them (PCIe knows no way to name those without substream alone).
    pub(crate) substream: Option<u32>,
    /// With `substream`: those of all substreams.
    pub(crate) global: bool,
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl AtcSpan {
    fn reaches(&self, substream: Option<u32>) -> bool {
        match self.substream {
            None => true,
            Some(_) if self.global => substream.is_some(),
            own => substream == own,
        }
    }

    /// Whether a held transfer used what this makes a device forget.
    fn holds(&self, held: &Held) -> bool {
        held.atc.is_some()
            && held.access.stream == self.stream
            && self.reaches(held.access.substream)
            && (self.first..=self.last).contains(&held.access.address)
    }
}

/// An invalidation that a device was sent, and no CMD_SYNC has completed yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AtcPending {
    pub(crate) span: AtcSpan,
    pub(crate) position: u64,
    /// The queue whose CMD_SYNC completes it.
    pub(crate) queue: usize,
    pub(crate) applied: bool,
}

/// How a device answers invalidations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answers {
    /// In time.
    #[default]
    InTime,
    /// Never: each one times out, and what it names stays.
    Never,
    /// Each one times out, and the device obeys and answers some time after that. Nobody waits for such an answer any
    /// more (§3.2).
    TooLate,
}

impl<M: Memory> Model<M> {
    /// Sends a CMD_ATC_INV to its device, which obeys now, or later.
    pub(crate) fn invalidate_device(&mut self, command: &Command, position: u64, queue: usize) {
        if !self.registers.enabled() {
            return;
        }
        let span = match self.span(command) {
            Ok(span) => span,
            Err(misuse) => return self.misuse(misuse),
        };
        // A stream without a device answers with UR, which is none (§4.2).
        let Some(endpoint) = self.endpoints.get(&span.stream) else { return };
        let prompt = endpoint.answers == Answers::InTime;
        let late = self.profile.adversary.late_invalidation && self.random.one_in(2);
        self.atc_pending.push(AtcPending { span, position, queue, applied: false });
        if prompt && !late {
            self.apply_to_device(self.atc_pending.len() - 1);
        }
    }

    fn span(&self, command: &Command) -> Result<AtcSpan, Misuse> {
        let command = AtcInv(command.0);
        // SID has 32 and SSID 20 bits.
        let (stream, substream) = (command.sid() as u32, command.ssid() as u32);
        let bits = if command.ssv() { self.profile.idr1.ssidsize().min(63) } else { 63 };
        if u64::from(stream) >> self.profile.idr1.sidsize().min(63) != 0
            || command.ssv() && bits == 0
            || u64::from(substream) >> bits != 0
        {
            return Err(Misuse::NoSuchStream { stream, substream });
        }
        let size = command.size();
        if size > 52 || 1 << (12 + size.min(51)) < self.smallest_unit() {
            return Err(Misuse::BadRange { command: command.into() });
        }
        let inside = if size == 52 { u64::MAX } else { (1 << (12 + size)) - 1 };
        let first = command.addr() & !inside;
        Ok(AtcSpan {
            stream,
            substream: command.ssv().then_some(substream),
            global: command.global(),
            first,
            last: first | inside,
        })
    }

    /// Lets a device obey one of the pending invalidations. The index is one of them.
    pub(crate) fn apply_to_device(&mut self, at: usize) {
        let AtcPending { span, position, applied, .. } = self.atc_pending[at];
        let Some(endpoint) = self.endpoints.get_mut(&span.stream).filter(|_| !applied) else {
            return;
        };
        self.atc_pending[at].applied = true;
        let removed = endpoint.atc.forget(&span);
        self.observe(Observation::Applied { position, removed });
    }

    /// Lets a device obey some pending invalidation, if there is one that may.
    pub(crate) fn apply_to_some_device(&mut self) {
        let count = self.atc_pending.len();
        if count != 0 {
            let at = self.random.below(count as u64) as usize;
            if self.is_answered(&self.atc_pending[at]) {
                self.apply_to_device(at);
            }
        }
    }

    fn is_answered(&self, pending: &AtcPending) -> bool {
        let endpoint = self.endpoints.get(&pending.span.stream);
        pending.applied || endpoint.is_none_or(|it| it.answers == Answers::InTime)
    }

    /// Whether devices have still to answer invalidations of a queue, and do not.
    pub(crate) fn has_unanswered(&self, queue: usize) -> bool {
        self.atc_pending.iter().any(|it| it.queue == queue && !self.is_answered(it))
    }

    /// At a CMD_SYNC: whether devices left invalidations of its queue before it unanswered. These have failed, and nothing
    /// is known of them any more (§3.2).
    pub(crate) fn devices_time_out(&mut self, queue: usize) -> bool {
        if self.atc_pending.is_empty() {
            return false;
        }
        let (left, unanswered): (Vec<_>, Vec<_>) = self
            .atc_pending
            .iter()
            .copied()
            .partition(|it| it.queue != queue || self.is_answered(it));
        let silent: BTreeSet<u32> = unanswered.iter().map(|it| it.span.stream).collect();
        for stream in &silent {
            self.observe(Observation::Unanswered { stream: *stream });
        }
        let failed = !silent.is_empty();
        let late = self.atc_pending.iter().filter(|it| it.queue == queue && !it.applied);
        let late = late.filter(|it| {
            self.endpoints.get(&it.span.stream).is_some_and(|it| it.answers == Answers::TooLate)
        });
        let late: Vec<AtcSpan> = late.map(|it| it.span).collect();
        self.atc_late.extend(late);
        self.atc_pending = left;
        failed
    }

    /// A device obeys and answers an invalidation that has timed out; whether there was one.
    pub fn answer_too_late(&mut self) -> bool {
        if self.atc_late.is_empty() {
            return false;
        }
        let at = self.random.below(self.atc_late.len() as u64) as usize;
        let span = self.atc_late.swap_remove(at);
        if let Some(endpoint) = self.endpoints.get_mut(&span.stream) {
            endpoint.atc.forget(&span);
        }
        true
    }

    /// The device behind `stream` is reset: it keeps nothing, waits for nothing, and has ATS and PRI off; it answers in time
    /// from now on.
    pub fn reset_device(&mut self, stream: u32) {
        if let Some(endpoint) = self.endpoints.get_mut(&stream) {
            *endpoint = Endpoint::default().response_pasid(endpoint.response_pasid);
        }
        self.atc_pending.retain(|it| it.span.stream != stream);
        self.atc_late.retain(|span| span.stream != stream);
    }

    /// At a CMD_SYNC that completes: devices have obeyed what its queue told them, and what used what they forgot is in
    /// memory.
    pub(crate) fn complete_devices(&mut self, queue: usize) {
        for at in 0..self.atc_pending.len() {
            if self.atc_pending[at].queue == queue {
                self.apply_to_device(at);
            }
        }
        let pending: Vec<_> = self.atc_pending.extract_if(.., |it| it.queue == queue).collect();
        let reached: Vec<u64> = self
            .held
            .iter()
            .filter(|held| pending.iter().any(|pending| pending.span.holds(held)))
            .map(|held| held.id)
            .collect();
        for id in reached {
            self.drain(id);
        }
    }
}

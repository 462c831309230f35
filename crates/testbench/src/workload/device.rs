// SPDX-License-Identifier: MIT OR Apache-2.0
//! What devices ask for, and what they are answered; and when they fall silent.

use super::Workload;
use crate::operation::Operation;
use crate::oracle::{Oracle, Use, User};
use crate::scenario::{Answer, Grant, Reply, Substream};

impl Workload<'_> {
    /// Mostly a retry: what it needs may be there by now.
    pub(super) fn answer(&mut self) -> Option<Operation> {
        let stalling = (0..self.scenario.masters.len()).filter(|it| self.scenario.stalls(*it));
        let master = self.rng.choice(stalling.collect::<Vec<usize>>())?;
        let reply = if self.rng.bool() { Some(Reply::Retry) } else { self.rng.choice(Reply::ALL) };
        Some(Operation::Answer { master, reply: reply? })
    }

    /// Pages anywhere in the window, of a substream that uses something, or, less often, of any.
    pub(super) fn ask(&mut self, oracle: &Oracle) -> Option<Operation> {
        let asks = |master: usize| self.scenario.masters.get(master).is_some_and(|it| it.pri);
        let attached: Vec<(usize, Substream)> = oracle
            .users()
            .filter_map(|(user, _)| Some((user.master, oracle.substream_name(user.substream)?)))
            .filter(|(master, _)| asks(*master))
            .collect();
        let masters: Vec<usize> = (0..self.scenario.masters.len()).filter(|it| asks(*it)).collect();
        // Those of guests are few, and come and go.
        let of_guest = |(master, substream): &(usize, Substream)| {
            *substream != Substream::None && oracle.guest_of(*master).is_some()
        };
        let few: Vec<_> = attached.iter().copied().filter(of_guest).collect();
        let of_guests = !few.is_empty() && self.rng.bool();
        let (master, substream) = if of_guests {
            self.rng.choice(few)?
        } else if self.rng.u8(..) < 224 {
            self.rng.choice(attached)?
        } else {
            let mut substreams = vec![Substream::None];
            substreams.extend((1..=self.scenario.pasids.min(4)).map(Substream::Pasid));
            substreams.extend((0..self.scenario.processes.len()).map(Substream::Process));
            (self.rng.choice(masters)?, self.rng.choice(substreams)?)
        };
        if substream != Substream::None && self.rng.u8(..) < if of_guests { 128 } else { 64 } {
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
    pub(super) fn grant(&mut self) -> Option<Operation> {
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

    /// A guest does what it may not: mostly one that has devices; where none has, one may get some.
    pub(super) fn misbehave(&mut self, oracle: &Oracle) -> Option<Operation> {
        let guests = 0..self.scenario.domains.len();
        let guests: Vec<usize> = guests.filter(|it| oracle.over(*it).is_some()).collect();
        let mut used = oracle.users().filter_map(|(_, use_)| oracle.space(use_));
        let used =
            self.rng.choice(used.by_ref().filter(|it| guests.contains(it)).collect::<Vec<_>>());
        let any = self.rng.choice(guests)?;
        if used.is_none() && self.rng.u8(..) < 192 {
            return Some(Operation::Attach {
                master: self.master()?,
                pasid: None,
                to: Use::Domain(any),
                answer: Answer::Judged,
            });
        }
        let domain = used.filter(|_| self.rng.u8(..) < 224).unwrap_or(any);
        Some(Operation::Misbehave { domain, seed: self.rng.u32(..) })
    }

    /// A device that keeps translations falls silent; one that has is reset before long.
    pub(super) fn mute(&mut self, oracle: &Oracle) -> Option<Operation> {
        let masters = self.scenario.masters.iter().enumerate();
        let keeping = masters.filter(|(_, it)| it.ats.is_some()).map(|(master, _)| master);
        let master = self.rng.choice(keeping.collect::<Vec<usize>>())?;
        Some(match oracle.is_mute(master) {
            true => Operation::Readmit { master },
            false => Operation::Mute { master, late: self.rng.bool() },
        })
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! DMA of a device, and the judgement of what became of it: told by the machine, or seen in memory.

use super::{Bench, BenchError, Done};
use crate::machine::{Dma, Outcome, Part, pages};
use crate::oracle::{AccessKind, PAGE, Rule, User};
use crate::scenario::Substream;
use crate::trace;

/// Whether what came of an access that reached `pa` is also what comes of one that is refused: zeros are read, and a write
/// leaves what was there.
fn looks_refused(moved: &[u8], write: bool, pa: u64, before: &[(u64, Vec<u8>)]) -> bool {
    match write {
        true => before.iter().any(|(of, was)| *of == pa && was == moved),
        false => moved.iter().all(|byte| *byte == 0),
    }
}

/// Physical addresses, each with what is there.
type Candidates = Vec<(u64, Vec<u8>)>;

impl Bench {
    /// Lets a device do DMA and judges what became of it.
    pub(super) fn dma(
        &self,
        master: usize,
        substream: Substream,
        iova: u64,
        mut transfer: Dma<'_>,
    ) -> Result<Done, BenchError> {
        let Some(number) = self.oracle(|oracle| oracle.substream(substream)) else {
            return Ok(Done::default());
        };
        let user = User { master, substream: number };
        let fetches = self.oracle(|oracle| oracle.fetches(master, number));
        transfer = match transfer {
            Dma::Fetch(buffer) if !fetches => Dma::Read(buffer),
            transfer => transfer,
        };
        let (write, kind) = (transfer.is_write(), transfer.kind());
        let total = transfer.len();
        // A model tells where an access went.
        let seen = self.world.machine().model(0).is_none();
        let candidates: Vec<Candidates> = pages(iova, total)
            .filter(|_| seen)
            .map(|(offset, bytes)| self.candidates(user, iova + offset as u64, bytes))
            .collect();
        let lent = match &mut transfer {
            Dma::Write(data) => Dma::Write(data),
            Dma::Read(buffer) => Dma::Read(buffer),
            Dma::Fetch(buffer) => Dma::Fetch(buffer),
        };
        let operands =
            || trace::range(("master", &self.user_name(master, substream)), iova, total as u64);
        let name = match kind {
            AccessKind::Write => "DMA write",
            AccessKind::Read => "DMA read",
            AccessKind::Fetch => "DMA fetch",
        };
        let parts = self.traced("dma", name, operands, || {
            let parts = self.world.machine().dma(master, number, iova, lent);
            self.look(|watch| watch.collect(&self.world));
            parts
        })?;
        let moved: &[u8] = match &transfer {
            Dma::Write(data) => data,
            Dma::Read(buffer) | Dma::Fetch(buffer) => buffer,
        };
        let mut done = Done { accesses: parts.len(), ..Done::default() };
        for (number, part) in parts.iter().enumerate() {
            let offset = (part.iova - iova) as usize;
            // `pages` cut the transfer.
            let moved = &moved[offset..offset + part.bytes];
            let candidates = candidates.get(number).map_or(&[][..], Vec::as_slice);
            let outcome = match part.outcome {
                Outcome::Unknown => self.infer(user, part, moved, kind, candidates),
                known => known,
            };
            if part.outcome == Outcome::Unknown
                && let Outcome::Reached(pa) = outcome
                && looks_refused(moved, write, pa, candidates)
            {
                self.look(|watch| watch.may_be_refused(user, part.iova, kind));
            }
            self.look(|watch| match outcome {
                Outcome::Reached(pa) => {
                    watch.oracle.reached(user, part.iova, kind, pa, "a");
                    done.bytes += part.bytes as u64;
                }
                Outcome::Stalled => {
                    watch.oracle.refused(user, part.iova, kind, "a");
                    (done.refused, done.stalled) = (done.refused + 1, done.stalled + 1);
                }
                _ => {
                    watch.oracle.refused(user, part.iova, kind, "a");
                    let expected = watch.oracle.expected(user, part.iova, kind);
                    let sent = outcome != Outcome::NotGranted;
                    if let Some(how) = expected.refused.filter(|_| sent) {
                        watch.expect_refused(user, part.iova, write, how);
                    }
                    if sent && watch.is_of_guest(user) {
                        watch.insist(&self.world, user, part.iova, kind);
                    }
                    done.refused += 1;
                }
            });
        }
        if !write && done.refused == 0 {
            self.check_read(iova, moved, &parts);
        }
        done.acted = done.refused < done.accesses;
        done.outcome = match (done.refused, done.accesses) {
            (0, _) => "done".to_owned(),
            (refused, _) if refused == done.stalled => "stalled".to_owned(),
            (refused, all) if refused == all => "refused".to_owned(),
            (refused, all) => format!("{refused} of {all} pages refused"),
        };
        Ok(done)
    }

    /// Where an access might go, rightly or wrongly, and what is there now.
    fn candidates(&self, user: User, iova: u64, bytes: usize) -> Candidates {
        let page = iova & !(PAGE - 1);
        let mut addresses = self.look(|watch| {
            let mut addresses = watch.oracle.expected(user, iova, false).reach;
            for space in 0..watch.oracle.all_spaces() {
                let now = watch.oracle.page(space, iova).map(|page| page.pa);
                let gone = watch.oracle.gone(space, page..page + 1).map(|(_, pa)| pa);
                addresses.extend(now.into_iter().chain(gone).map(|pa| pa + iova % PAGE));
            }
            addresses
        });
        addresses.dedup();
        let read = |pa| {
            let mut before = vec![0; bytes];
            self.world.machine().ram().read(pa, &mut before).ok().map(|()| (pa, before))
        };
        addresses.into_iter().filter_map(read).collect()
    }

    /// What became of an access, judged by what it did to memory or brought back.
    fn infer(
        &self,
        user: User,
        part: &Part,
        moved: &[u8],
        kind: AccessKind,
        candidates: &[(u64, Vec<u8>)],
    ) -> Outcome {
        let expected = self.look(|watch| watch.oracle.expected(user, part.iova, kind));
        let now = |pa: u64| {
            let mut now = vec![0; part.bytes];
            self.world.machine().ram().read(pa, &mut now).ok().map(|()| now)
        };
        if kind == AccessKind::Write {
            let right = expected.reach.iter().find(|pa| now(**pa).as_deref() == Some(moved));
            let changed = candidates
                .iter()
                .find(|(pa, before)| now(*pa).is_some_and(|now| now != *before))
                .map(|(pa, _)| pa);
            return right.or(changed).map_or(Outcome::Refused, |pa| Outcome::Reached(*pa));
        }
        let same = |pa: &&u64| now(**pa).as_deref() == Some(moved);
        if let Some(pa) = expected.reach.iter().find(same) {
            return Outcome::Reached(*pa);
        }
        // What was refused arrives as zeros: anything else came from somewhere.
        let came_from = |(pa, _): &&(u64, Vec<u8>)| now(*pa).as_deref() == Some(moved);
        if moved.iter().any(|byte| *byte != 0)
            && let Some((pa, _)) = candidates.iter().find(came_from)
        {
            return Outcome::Reached(*pa);
        }
        Outcome::Refused
    }

    /// A device must get what memory holds.
    fn check_read(&self, iova: u64, data: &[u8], parts: &[Part]) {
        for part in parts {
            let Outcome::Reached(pa) = part.outcome else { continue };
            let offset = (part.iova - iova) as usize;
            let mut memory = vec![0; part.bytes];
            if self.world.machine().ram().read(pa, &mut memory).is_ok()
                && memory != data[offset..offset + part.bytes]
            {
                let text = format!("a device read something else than {pa:#x} holds");
                self.look(|watch| watch.oracle.accuse(Rule::R0, text));
            }
        }
    }
}

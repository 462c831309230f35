// SPDX-License-Identifier: MIT OR Apache-2.0
//! Attaching masters and binding processes.

use std::sync::Arc;

use smmuv3::AttachError;

use super::{Bench, Done, Handle, calls};
use crate::oracle::{Life, Use, User};
use crate::scenario::{Answer, AsidPolicy, Instance, Refusal, Substream};
use crate::trace::{self, Args};
use crate::watch::Widths;

impl Bench {
    /// The operands of an attach or a detach, for the trace.
    fn attachment(&self, master: usize, substream: Substream, to: Use) -> Args {
        let domain = match to {
            Use::Blocked => "none",
            Use::Identity => "all memory",
            Use::Domain(domain) => self.scenario.space(domain),
            Use::Process(process) => self.scenario.space(self.domains.len() + process),
            Use::Kept(_) => "what it had",
        };
        let master = self.user_name(master, substream);
        trace::args([("master", master.into()), ("domain", domain.into())])
    }

    /// Attaches a master, or one of its PASIDs, or takes away what it has.
    pub(super) fn attach(
        &self,
        master: usize,
        pasid: Option<u32>,
        to: Use,
        answer: Answer,
    ) -> Done {
        let handle = self.masters.get(master).and_then(Handle::get);
        let Some(handle) = handle else { return Done::default() };
        let name = pasid.map_or(Substream::None, Substream::Pasid);
        let substream = self.oracle(|oracle| oracle.substream(name));
        let Some(substream) = substream else { return Done::default() };
        let call = if to == Use::Blocked { "detach" } else { "attach" };
        if to == Use::Blocked && pasid.is_some() && self.oracle(|oracle| oracle.is_kept(master)) {
            // The driver knows of no PASIDs there: the master as a whole is to be detached.
            return Done { outcome: "nothing to do".to_owned(), ..Done::default() };
        }
        let operands = || self.attachment(master, name, to);
        let user = User { master, substream };
        let left = self.left_to(master);
        let was_kept = self.oracle(|oracle| oracle.is_kept(master));
        let done = self.changing(user, to, (answer, self.foreseen(user, to)), || {
            self.traced("call", call, operands, || match self.guests_pasid(master, substream, to) {
                Some(()) => Some(Ok(())),
                None => self.call_attach(&handle, substream, to),
            })
        });
        if substream.is_none() && self.oracle(|oracle| oracle.guest_of(master)).is_none() {
            self.exchange_table(master, None);
        }
        self.look(|watch| {
            if was_kept && !watch.oracle.is_kept(master) {
                watch.after_kept(master);
            }
            left.into_iter().for_each(|(user, iova)| watch.read(&self.world, user, iova));
        });
        done
    }

    /// Where a kernel before this one had mapped something, a page of each that `master` has still.
    fn left_to(&self, master: usize) -> Vec<(User, u64)> {
        self.oracle(|oracle| {
            let users =
                oracle.users().filter(|(user, _)| user.master == master && oracle.is_kept(master));
            let page = |use_| oracle.pages(oracle.space(use_)?, 0..u64::MAX).next();
            users.filter_map(|(user, use_)| Some((user, page(use_)?.0))).collect()
        })
    }

    /// Binds a process to a master.
    pub(super) fn bind(&self, process: usize, master: usize, answer: Answer) -> Done {
        let Some((user, slot, handle)) = self.bond(process, master) else {
            return Done::default();
        };
        let to = Use::Process(process);
        let operands = || self.attachment(master, Substream::Process(process), to);
        let mut is_bound = false;
        let done = self.changing(user, to, (answer, self.foreseen(user, to)), || {
            let result = self.traced("call", "bind", operands, || slot.bind(master, &handle));
            is_bound = result.is_ok();
            Some(result)
        });
        if is_bound {
            self.look(|watch| watch.oracle.bound(master, process, true));
        }
        done
    }

    /// Undoes one bind.
    pub(super) fn unbind(&self, process: usize, master: usize) -> Done {
        let Some((user, slot, _)) = self.bond(process, master) else { return Done::default() };
        let bonds = self.oracle(|oracle| oracle.bonds(master, process));
        self.look(|watch| watch.oracle.bound(master, process, false));
        // The last one counts.
        let to = if bonds > 1 { Use::Process(process) } else { Use::Blocked };
        let operands = || self.attachment(master, Substream::Process(process), to);
        self.changing(user, to, (Answer::Done, Vec::new()), || {
            self.traced("call", "unbind", operands, || slot.unbind(master))
        })
    }

    fn bond(
        &self,
        process: usize,
        master: usize,
    ) -> Option<(User, &super::Slot, Arc<smmuv3::Master<crate::platform::TestPlatform>>)> {
        let substream = self.oracle(|oracle| oracle.substream(Substream::Process(process)))?;
        let user = User { master, substream };
        Some((user, self.processes.get(process)?, self.masters.get(master)?.get()?))
    }

    /// Releases a process: its address space dies, and masters stay bound to it.
    pub(super) fn release(&self, process: usize) -> Done {
        let Some(slot) = self.processes.get(process) else { return Done::default() };
        let stalls = self.look(|watch| {
            watch.oracle.release_begins(process);
            let users = watch.oracle.users_of(watch.oracle.process_space(process));
            let before = |user| (user, watch.before_change(&self.world, user));
            users.into_iter().map(before).collect::<Vec<_>>()
        });
        let name = self.scenario.space(self.domains.len() + process);
        let operands = || trace::args([("process", name.into())]);
        let result = self.traced("call", "release", operands, || slot.release());
        let owned = self.tags();
        self.look(|watch| {
            watch.collect(&self.world);
            watch.oracle.release_ends(process, result.is_ok());
            if result.is_ok() {
                let space = watch.oracle.process_space(process);
                watch.after_release(&self.world, space);
                for (user, before) in &stalls {
                    watch.after_change(&self.world, *user, before, false);
                }
                watch.check_tags(&self.world, &owned, &self.widths());
            }
        });
        let acted = result.is_ok();
        let outcome = match result {
            Ok(()) => "done".to_owned(),
            Err(error) => {
                self.look(|watch| watch.refuse(format_args!("release was refused: {error}")));
                error.to_string()
            }
        };
        Done { outcome, acted, ..Done::default() }
    }

    /// Does `call`, which changes what `user` uses, and judges what came of it. It must be refused for one of the
    /// reasons in `foreseen`, if there are any.
    fn changing(
        &self,
        user: User,
        to: Use,
        (answer, foreseen): (Answer, Vec<Refusal>),
        call: impl FnOnce() -> Option<Result<(), AttachError>>,
    ) -> Done {
        // If it is found out only now that its device does not answer, the change is made all the same.
        let mute = self.oracle(|oracle| oracle.is_mute(user.master));
        let known = mute && self.is_quarantined(user.master);
        let owned_before = self.tags();
        let guests =
            user.substream.is_some_and(|pasid| self.is_guests_pasid(user.master, pasid, to));
        // What else of a guest's goes, or may.
        let beside: Vec<(User, Use)> = self.oracle(|oracle| {
            let own = oracle.users().filter(|(of, _)| of.master == user.master && *of != user);
            let has = user.substream.is_none() && oracle.guest_of(user.master).is_some();
            own.filter(|_| has).collect()
        });
        let of_contexts = self.oracle(|oracle| oracle.guest_of(user.master).is_some());
        let (before, stalls, of_beside) = self.look(|watch| {
            let before = watch.oracle.using(user);
            watch.oracle.attach_begins(user, to);
            let of_beside: Vec<_> = beside
                .iter()
                .map(|(user, _)| (*user, watch.before_change(&self.world, *user)))
                .collect();
            (before, watch.before_change(&self.world, user), of_beside)
        });
        self.look(|watch| watch.silent_before = known);
        let result = call();
        let known = self.look(|watch| watch.silent_before);
        let Some(result) = result else {
            self.look(|watch| watch.oracle.attach_ends(user, false));
            return Done::default();
        };
        let silent = mute && matches!(result, Err(AttachError::Quarantined { .. }));
        // What cannot be done is not, also if somebody else has found out that the device is silent before it was looked at.
        let made = result.is_ok() || silent && !known && foreseen.is_empty();
        let owned = self.tags();
        self.look(|watch| {
            watch.collect(&self.world);
            watch.blame(&owned_before, &owned);
            watch.oracle.attach_ends(user, made);
            if made {
                watch.after_attach(&self.world, user, before);
                for (user, before) in beside {
                    watch.after_attach(&self.world, user, before);
                }
                // What has stalled by a guest's context is the guest's to answer, as long as it has the device.
                if to != before && !guests {
                    watch.after_change(&self.world, user, &stalls, to == Use::Blocked);
                    for (user, stalls) in &of_beside {
                        watch.after_change(&self.world, *user, stalls, false);
                    }
                }
                if to == before && user.substream.is_none() && of_contexts {
                    // The same space by another table, which is another entry: what was asked for by the former is over.
                    watch.oracle.groups_are_over(user, &[], true);
                }
            }
            watch.check_tags(&self.world, &owned, &self.widths());
        });
        let wrong = match (&result, answer) {
            (Err(_), _) if silent => None,
            (Ok(()), Answer::Refused(refusal)) => {
                Some(format!("attach was done, not refused ({})", refusal.name()))
            }
            (Ok(()), Answer::Done | Answer::Judged) => foreseen
                .first()
                .map(|refusal| format!("attach was done, not refused ({})", refusal.name())),
            (Err(error), Answer::Done) => Some(format!("attach was refused: {error}")),
            (Err(error), Answer::Refused(refusal)) => (calls::refusal(error) != Some(refusal))
                .then(|| format!("attach was refused: {error} (not {})", refusal.name())),
            (Err(error), Answer::Judged) => {
                let rightly = calls::refusal(error).is_some_and(|refusal| {
                    foreseen.contains(&refusal) || self.may_refuse(refusal, error, to)
                });
                (!rightly).then(|| format!("attach was refused: {error}"))
            }
        };
        if let Some(wrong) = wrong {
            self.look(|watch| watch.refuse(wrong));
        }
        let acted = result.is_ok();
        let outcome = match result {
            Ok(()) => "done".to_owned(),
            Err(error) => error.to_string(),
        };
        Done { outcome, acted, ..Done::default() }
    }

    /// Why a change must be refused, whatever the policy.
    fn foreseen(&self, user: User, to: Use) -> Vec<Refusal> {
        let mut foreseen = Vec::new();
        let (Use::Domain(_) | Use::Process(_)) = to else { return foreseen };
        if user.substream.is_some_and(|pasid| self.is_guests_pasid(user.master, pasid, to)) {
            return foreseen;
        }
        let (instance, bits, life) = self.oracle(|oracle| {
            let life = oracle.space(to).map_or(Life::Live, |space| oracle.life(space));
            let (instance, _) = oracle.streams(user.master);
            (instance, oracle.contexts(user.master).bits, life)
        });
        if user.substream.is_some_and(|substream| u64::from(substream) >> bits != 0 || bits == 0) {
            foreseen.push(Refusal::PasidRange);
        }
        let stage_2 = |use_: Use| {
            self.oracle(|oracle| {
                oracle.space(use_).is_some_and(|space| oracle.shape(space).stage_2)
            })
        };
        // What another kernel left goes as a whole, and is in nobody's way.
        let own = self.oracle(|oracle| match oracle.is_kept(user.master) {
            true => Use::Blocked,
            false => oracle.using(User { substream: None, ..user }),
        });
        let others = || {
            self.oracle(|oracle| {
                // A guest's are no word of the host's.
                let guests = oracle.guest_of(user.master).is_some();
                let any = oracle.substreams(user.master).next().is_some();
                !oracle.is_kept(user.master) && !guests && any
            })
        };
        let clash = match user.substream {
            Some(_) => stage_2(to) || stage_2(own),
            None => stage_2(to) && others(),
        };
        if clash {
            foreseen.push(Refusal::PasidStage);
        }
        if let Use::Domain(domain) = to
            && self.scenario.is_misfit(domain, instance)
        {
            foreseen.push(Refusal::Mismatch);
        }
        let Use::Process(_) = to else { return foreseen };
        let unfit = |instance: &Instance| !instance.coherent || !instance.stage_1;
        if self.scenario.instances.get(instance).is_some_and(unfit) {
            foreseen.push(Refusal::Mismatch);
        }
        if life == Life::Released {
            foreseen.push(Refusal::Released);
        }
        foreseen
    }

    /// Whether the policy, or the number of address spaces, is a good reason.
    fn may_refuse(&self, refusal: Refusal, error: &AttachError, to: Use) -> bool {
        match refusal {
            Refusal::AsidWidth => {
                let space = self.oracle(|oracle| oracle.space(to));
                let tags = space.map(|space| self.tags_of(space)).unwrap_or_default();
                self.scenario.refuses_width()
                    && calls::too_wide(error).is_some_and(|(bits, asid)| {
                        u32::from(asid) >> bits != 0 && tags.iter().any(|tag| tag.asid == asid)
                    })
            }
            // With 8 bits there are 255.
            Refusal::IdsExhausted => self.scenario.spaces() >= 255,
            Refusal::PinnedTwice => {
                let pinned = self.scenario.processes.iter().filter_map(|process| process.asid);
                let mut pinned: Vec<u16> = pinned.filter(|asid| *asid != 0).collect();
                pinned.sort_unstable();
                pinned.windows(2).any(|pair| pair[0] == pair[1])
            }
            Refusal::Vmid => match *error {
                // One that a hypervisor chose: it is as wide as that, or another domain's there.
                AttachError::VmidWidth { instance, vmid, .. } => {
                    let widths = self.widths();
                    let width = widths.get(self.index_of(instance));
                    width.is_some_and(|width| u32::from(vmid) >> width.vmid != 0)
                }
                AttachError::VmidTaken { instance, vmid } => {
                    let space = self.oracle(|oracle| oracle.space(to));
                    let theirs = (self.index_of(instance), vmid);
                    let tags = self.tags();
                    let mut others = tags.iter().filter(|tag| Some(tag.space) != space);
                    others.any(|tag| (tag.instance, tag.vmid) == theirs)
                }
                // With 8 bits there are 255, but for banks and those that a hypervisor chose.
                _ => {
                    self.scenario.asid_policy == AsidPolicy::Banked || self.scenario.spaces() >= 255
                }
            },
            Refusal::Mismatch | Refusal::PasidRange | Refusal::PasidStage | Refusal::Released => {
                false
            }
        }
    }

    /// How wide tags are on each instance.
    pub(super) fn widths(&self) -> Vec<Widths> {
        let instances = self.scenario.instances.iter();
        let widths = instances.map(|instance| Widths {
            asid: instance.asid_bits,
            vmid: if instance.stage_2 { instance.vmid_bits } else { 0 },
        });
        widths.collect()
    }
}

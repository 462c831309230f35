// SPDX-License-Identifier: MIT OR Apache-2.0
//! What guests' devices ask for: each group is handed on to the guest whose the device is, and the guest answers it, does so
//! wrongly, or never.

use std::sync::Arc;

use fastrand::Rng;
use smmuv3::nest::{Cause, Nest};
use smmuv3::page_request::{Group, Page};
use smmuv3::{InstanceId, PageGroup, StreamId, SubstreamId};
use smmuv3_formats::command::PriResp;
use smmuv3_formats::{Command, PageRequest};

use super::Bench;
use super::guest::carry_out;
use super::stall::{ANSWERED, DROPPED, Wrong};
use crate::oracle::Rule;
use crate::platform::TestPlatform;
use crate::scenario::Grant;
use crate::trace;

/// What a guest is to answer.
#[derive(Clone)]
pub(super) struct Shown {
    nest: Arc<Nest<TestPlatform>>,
    /// What the device asked for, and the last record that the guest was told.
    group: Group,
    told: PageRequest,
}

impl Shown {
    pub(super) fn instance(&self) -> InstanceId {
        self.nest.instance()
    }

    /// In the oracle's words.
    fn name(&self) -> crate::oracle::Group {
        let Group { stream, pasid, index } = self.group;
        (stream.0, pasid.map(|pasid| pasid.0), index)
    }
}

/// What a record says of a page, beside its group.
const fn asked(record: &PageRequest) -> (u64, bool, bool, bool) {
    (record.addr(), record.read(), record.write(), record.last())
}

impl Bench {
    /// The driver handed out `group`: it is its guest's, if that is shown such, or the host's to answer.
    pub(super) fn take_group(&self, instance: usize, group: PageGroup<TestPlatform>) {
        let caused = self.oracle(|oracle| oracle.cause_of_group(instance));
        let mut left = group;
        for guest in self.guests.iter().flatten() {
            // That of the first guest over a domain.
            let Some(nest) = guest.own_nest(left.instance()) else { continue };
            let group = left.group();
            let pages: Vec<Page> = left.pages().collect();
            let mut records = Vec::new();
            match nest.show_pages(left, &mut |record| records.push(record)) {
                Ok(_) => {
                    self.judge_records(group, &pages, &records);
                    if let Some(caused) = caused {
                        let over = guest.under();
                        self.look(|watch| watch.oracle.told(over, &group, &caused));
                    }
                    let told = records.last().copied();
                    self.groups().shown.extend(told.map(|told| Shown { nest, group, told }));
                    return;
                }
                Err(refused) => {
                    left = refused.value;
                    if matches!(refused.error, Cause::Before | Cause::Stream)
                        && let Some(caused) = caused
                    {
                        let over = guest.under();
                        self.look(|watch| watch.oracle.kept_from(over, &group, &caused));
                    }
                }
            }
        }
        self.groups().own.push(left);
    }

    /// What a guest is told is what its device asked for, by its own number of the stream; or nothing, if too many wait.
    fn judge_records(&self, group: Group, pages: &[Page], records: &[PageRequest]) {
        let asked_for = pages.iter().map(|it| (it.iova.0, it.read, it.write, it.last));
        let same = records.iter().map(asked).eq(asked_for);
        let named = records.iter().all(|it| {
            let pasid = it.ssv().then_some(it.ssid());
            let group =
                (u64::from(group.stream.0 ^ 1), group.pasid.map(|it| it.0.into()), group.index);
            (it.sid(), pasid, it.prg_index()) == (group.0, group.1, group.2.into())
        });
        if !(named && (same || records.is_empty())) {
            let text = format!("a guest was told {records:x?} where {group} asked for {pages:x?}");
            self.look(|watch| watch.oracle.accuse(Rule::R9, text));
        }
    }

    /// A device uses a PASID no more: the guest that has it, and that is shown page requests, is told so.
    pub(super) fn tell_stop(&self, instance: usize, stream: StreamId, pasid: SubstreamId) {
        let Some(smmu) = self.smmu(instance) else { return };
        for guest in self.guests.iter().flatten() {
            let Some(nest) = guest.own_nest(smmu.id()) else { continue };
            let Some(told) = nest.stopped(stream, pasid) else { continue };
            let own = (u64::from(stream.0 ^ 1), u64::from(pasid.0));
            if !told.is_stop_marker() || (told.sid(), told.ssid()) != own {
                let text = format!("a guest was told {told:x?} where {stream} stopped {pasid}");
                self.look(|watch| watch.oracle.accuse(Rule::R9, text));
            }
        }
    }

    /// A guest answers the oldest group of these streams that it is shown; `None` if there is none.
    pub(super) fn grant_by_guest(
        &self,
        instance: usize,
        streams: &[u32],
        grant: Grant,
    ) -> Option<String> {
        let shown = {
            let shown = &mut self.groups().shown;
            let of_master = |it: &Shown| {
                self.index_of(it.instance()) == instance && streams.contains(&it.group.stream.0)
            };
            shown.iter().position(of_master).map(|at| shown.remove(at))?
        };
        // A guest that does wrong does it where something is left to chance.
        let random = self.look(|watch| watch.interfering);
        let waiting = self.oracle(|oracle| oracle.waiting_group(instance, shown.name()));
        let wrong = if random { Wrong::Twice } else { Wrong::Nothing };
        let outcome = self.say_of_guest(shown, grant, wrong);
        if !random && let Some(mut model) = self.world.machine().model(instance) {
            model.run(usize::MAX);
            drop(model);
            self.look(|watch| {
                watch.collect(&self.world);
                if let Some(waiting) = waiting.filter(|_| grant != Grant::Drop) {
                    watch.oracle.must_be_granted(instance, &waiting);
                }
            });
        }
        Some(outcome)
    }

    /// A guest answers, and does what is `wrong`.
    pub(super) fn say_of_guest(&self, shown: Shown, grant: Grant, wrong: Wrong) -> String {
        let code = match grant {
            Grant::Success => 2,
            Grant::Invalid => 1,
            Grant::Failure => 0,
            // It never answers.
            Grant::Drop => {
                // Those that are over are nobody's concern.
                let waits = |it: &Shown| {
                    let instance = self.index_of(it.instance());
                    self.oracle(|oracle| oracle.waiting_group(instance, it.name()).is_some())
                };
                let unanswered = std::mem::take(&mut self.groups().unanswered);
                let left = unanswered.into_iter().chain([shown]).filter(waits).collect::<Vec<_>>();
                self.groups().unanswered.extend(left);
                return DROPPED.to_owned();
            }
        };
        let instance = self.index_of(shown.instance());
        let right = self.response_to(&shown, code);
        let mut commands: Vec<Command> = match wrong {
            Wrong::Others => self.others(&shown, right).into_iter().map(Into::into).collect(),
            // It has the wrong form, or is of another PASID.
            Wrong::All => {
                let other = right.with_ssv(!right.ssv()).with_ssid(shown.told.ssid());
                vec![other.into()]
            }
            Wrong::Nothing | Wrong::Twice => Vec::new(),
        };
        let has_pasids = shown.nest.guest().shown().idr1.ssidsize() != 0;
        commands.retain(|command| has_pasids || !PriResp(command.0).ssv());
        commands.push(right.into());
        if wrong == Wrong::Twice {
            commands.push(right.with_resp(1).into());
        }
        let name = shown.name();
        let waited = self.oracle(|oracle| oracle.waiting_group(instance, name).is_some());
        let operands = || trace::args([("reply", grant.name().into())]);
        let given = self.traced("call", "forward", operands, || carry_out(&shown.nest, &commands));
        match given {
            Ok(()) if waited => ANSWERED.to_owned(),
            Ok(()) => "too late: it was over".to_owned(),
            Err(error) => {
                self.look(|watch| watch.refuse(format_args!("a guest's answer: {error}")));
                error
            }
        }
    }

    /// The guest's command that answers what it is shown, with the PASID where the device needs that.
    fn response_to(&self, shown: &Shown, code: u64) -> PriResp {
        let Shown { group, told, .. } = shown;
        let response = PriResp::new().with_sid(told.sid()).with_prg_index(told.prg_index());
        let instance = self.index_of(shown.instance());
        let master = self.oracle(|oracle| oracle.master_of(instance, group.stream.0));
        let master = master.and_then(|master| self.scenario.masters.get(master));
        let carries = master.is_some_and(|master| master.response_pasid) && told.ssv();
        let ssid = if carries { told.ssid() } else { 0 };
        response.with_resp(code).with_ssv(carries).with_ssid(ssid)
    }

    /// Answers of the guest to what is others' and waits: by the host's numbers of their streams, by another's, and by its own.
    fn others(&self, shown: &Shown, right: PriResp) -> Vec<PriResp> {
        let groups = self.groups();
        let known = groups.own.iter().map(PageGroup::group);
        let known = known.chain(groups.shown.iter().map(|it| it.group));
        let known: Vec<Group> = known.filter(|it| *it != shown.group).collect();
        let own = groups.shown.iter().chain(&groups.unanswered);
        let own: Vec<(u64, u64)> = own.map(|it| (it.told.sid(), it.told.prg_index())).collect();
        drop(groups);
        let sids = |it: &Group| [u64::from(it.stream.0), u64::from(it.stream.0 ^ 1), right.sid()];
        let named = known.iter().flat_map(|it| {
            let response = right.with_prg_index(it.index.into());
            sids(it).map(move |sid| response.with_sid(sid))
        });
        // What it is shown itself it answers another time.
        let named = named.filter(|it| !own.contains(&(it.sid(), it.prg_index())) && *it != right);
        named.take(8).collect()
    }

    /// An answer to a group that no guest is shown behind `instance`, if possible one that the host knows; without a stream.
    pub(super) fn unshown_group(&self, instance: usize, rng: &mut Rng) -> PriResp {
        let groups = self.groups();
        let shown = groups.shown.iter().chain(&groups.unanswered);
        let shown = shown.filter(|it| self.index_of(it.instance()) == instance);
        let told: Vec<u16> = shown.map(|it| it.group.index).collect();
        let known = groups.own.iter().map(|group| group.group().index);
        let known: Vec<u16> = known.filter(|index| !told.contains(index)).collect();
        let any = (0..512).cycle().skip(rng.usize(0..512)).take(512);
        let unknown = any.into_iter().find(|index| !told.contains(index)).unwrap_or(511);
        let index = rng.choice(known).filter(|_| rng.bool()).unwrap_or(unknown);
        PriResp::new().with_prg_index(index.into()).with_resp(rng.u64(0..3))
    }

    /// The guests' SMMUs on an instance are gone: what they were to answer has ended.
    pub(super) fn hide_pages(&self, instance: InstanceId) {
        let gone = {
            let mut groups = self.groups();
            let mut gone: Vec<Shown> =
                groups.shown.extract_if(.., |it| it.instance() == instance).collect();
            gone.extend(groups.unanswered.extract_if(.., |it| it.instance() == instance));
            gone
        };
        drop(gone);
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Devices that ask for pages: what they ask for is kept, and answered later, also where the driver is at work.

use std::sync::{MutexGuard, PoisonError};

use smmuv3::{InstanceId, Interrupt, PageGroup};
use smmuv3_model::Page;

use super::guest_pages::Shown;
use super::stall::{ANSWERED, DROPPED, Wrong};
use super::{Bench, Done, Handle};
use crate::oracle::{PAGE, User};
use crate::platform::TestPlatform;
use crate::scenario::{Grant, Substream};
use crate::trace;

/// Requests that are looked at where the driver is interrupted.
const FEW: usize = 3;

/// What waits for an answer, oldest first.
#[derive(Default)]
pub(super) struct Groups {
    /// The host's.
    pub(super) own: Vec<PageGroup<TestPlatform>>,
    /// Those that guests are to answer.
    pub(super) shown: Vec<Shown>,
    /// What guests were to answer, and never will. Some wait still.
    pub(super) unanswered: Vec<Shown>,
}

impl Groups {
    /// Drops those of instances that are not kept.
    pub(super) fn retain(&mut self, is_kept: impl Fn(InstanceId) -> bool) {
        self.own.retain(|group| is_kept(group.instance()));
        self.shown.retain(|shown| is_kept(shown.instance()));
        self.unanswered.retain(|shown| is_kept(shown.instance()));
    }
}

impl Bench {
    /// What waits for an answer.
    pub(super) fn groups(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A device asks for `pages` pages from `iova` on, as one group, whose end it forgets if that is `unfinished`.
    pub(super) fn ask(
        &self,
        master: usize,
        substream: Substream,
        (iova, pages): (u64, u64),
        write: bool,
        unfinished: bool,
    ) -> Done {
        let Some((instance, stream, number)) = self.asker(master, substream) else {
            return Done::default();
        };
        let page = |index| Page { address: iova.wrapping_add(index * PAGE), read: true, write };
        let list: Vec<Page> = (0..pages).map(page).collect();
        let name = self.user_name(master, substream);
        let operands = || trace::range(("master", &name), iova, pages * PAGE);
        let index = self.traced("dma", "page requests", operands, || {
            let mut model = self.world.machine().model(instance)?;
            let index = model.ask_for_pages(stream, number, &list, !unfinished);
            drop(model);
            self.look(|watch| watch.collect(&self.world));
            index
        });
        let acted = index.is_some();
        let outcome = match index {
            Some(index) => format!("asked as group {index}"),
            None => "it may not ask".to_owned(),
        };
        Done { outcome, acted, ..Done::default() }
    }

    /// A device uses a PASID no more, and says so.
    pub(super) fn stop(&self, master: usize, substream: Substream) -> Done {
        if let Some((instance, stream, Some(number))) = self.asker(master, substream)
            && let Some(mut model) = self.world.machine().model(instance)
            && model.endpoint(stream).is_some_and(|endpoint| endpoint.pri)
        {
            model.stop_pasid(stream, number);
            drop(model);
            self.look(|watch| watch.collect(&self.world));
            return Done { outcome: "said".to_owned(), acted: true, ..Done::default() };
        }
        Done { outcome: "it may not say so".to_owned(), ..Done::default() }
    }

    fn asker(&self, master: usize, substream: Substream) -> Option<(usize, u32, Option<u32>)> {
        self.oracle(|oracle| {
            let (instance, streams) = oracle.streams(master);
            Some((instance, *streams.first()?, oracle.substream(substream)?))
        })
    }

    /// Answers the oldest group that waits of a master.
    pub(super) fn grant(&self, master: usize, grant: Grant) -> Done {
        let (instance, streams) = self.oracle(|oracle| {
            let (instance, streams) = oracle.streams(master);
            (instance, streams.to_vec())
        });
        let group = {
            let groups = &mut self.groups().own;
            let of_master = |group: &PageGroup<TestPlatform>| {
                self.index_of(group.instance()) == instance
                    && streams.contains(&group.group().stream.0)
            };
            groups.iter().position(of_master).map(|at| groups.remove(at))
        };
        let outcome = match group {
            Some(group) => Some(self.say(group, grant)),
            None => self.grant_by_guest(instance, &streams, grant),
        };
        let Some(outcome) = outcome else {
            return Done { outcome: "nothing waits".to_owned(), ..Done::default() };
        };
        let acted = outcome == ANSWERED || outcome == DROPPED;
        Done { outcome, acted, ..Done::default() }
    }

    fn say(&self, group: PageGroup<TestPlatform>, grant: Grant) -> String {
        let operands = || trace::args([("reply", grant.name().into())]);
        self.traced("call", "respond", operands, || match grant.answer() {
            None => {
                drop(group);
                DROPPED.to_owned()
            }
            Some(answer) => match group.respond(answer) {
                Ok(true) => ANSWERED.to_owned(),
                Ok(false) => "too late: it was over".to_owned(),
                Err(error) => {
                    self.look(|watch| watch.refuse(format_args!("an answer was refused: {error}")));
                    error.to_string()
                }
            },
        })
    }

    /// Whether something may be done about page requests where the driver is interrupted.
    pub(crate) fn may_ask(&self) -> bool {
        self.habits.asks
    }

    /// Interrupts the driver: a device asks, or some requests of an instance are taken, or one that waits is answered,
    /// whichever `chosen` says.
    pub(crate) fn interrupt_for_pages(&self, chosen: usize) {
        if (chosen / 64).is_multiple_of(3) {
            return self.ask_meanwhile(chosen / 192);
        }
        let (own, shown) = {
            let groups = self.groups();
            (groups.own.len(), groups.shown.len())
        };
        if own + shown > 0 && chosen.is_multiple_of(2) {
            // Failures are for steps: the device would ask for nothing any more.
            let grants = [Grant::Success, Grant::Success, Grant::Invalid, Grant::Drop];
            let (at, grant) = (chosen / 8 % (own + shown), grants[chosen / 2 % grants.len()]);
            if at < own {
                let group = self.groups().own.remove(at);
                self.say(group, grant);
            } else {
                let shown = self.groups().shown.remove(at - own);
                self.say_of_guest(shown, grant, Wrong::ALL[chosen / 8192 % Wrong::ALL.len()]);
            }
            return;
        }
        let instance = chosen / 2 % self.smmus.len().max(1);
        let Some(smmu) = self.smmus.get(instance).and_then(Handle::get) else { return };
        let mut reports = Vec::new();
        let mut sink = |report| reports.push(report);
        let _ = self.iommu.handle_interrupt(&smmu, Interrupt::PageRequests, FEW, &mut sink);
        self.look(|watch| watch.collect(&self.world));
        for report in reports {
            self.take_report(instance, report);
        }
    }

    /// Some device asks for some pages, if it may, by a substream that it uses or by none.
    fn ask_meanwhile(&self, chosen: usize) {
        let asker = self.oracle(|oracle| {
            let asks = |master: usize| self.scenario.masters.get(master).is_some_and(|it| it.pri);
            let users: Vec<User> =
                oracle.users().map(|(user, _)| user).filter(|user| asks(user.master)).collect();
            let user = *users.get(chosen % users.len().max(1))?;
            let (instance, streams) = oracle.streams(user.master);
            let stream = *streams.get(chosen / 8 % streams.len().max(1))?;
            Some((instance, stream, user.substream))
        });
        let Some((instance, stream, substream)) = asker else { return };
        let address = Self::WINDOW + (chosen / 64 % 16) as u64 * PAGE;
        let page = Page { address, read: true, write: (chosen / 1024).is_multiple_of(2) };
        let pages = [page; 3];
        let count = 1 + chosen / 2048 % 3;
        if let Some(mut model) = self.world.machine().model(instance) {
            model.ask_for_pages(
                stream,
                substream,
                &pages[..count],
                !(chosen / 8192).is_multiple_of(8),
            );
        }
        self.look(|watch| watch.collect(&self.world));
    }

    /// Nobody answers any more: all that is left is over, and must be without a command.
    pub(super) fn grant_late(&self) {
        let Groups { own, shown, .. } = std::mem::take(&mut *self.groups());
        for (index, group) in own.into_iter().enumerate() {
            self.say(group, Grant::ALL[index % Grant::ALL.len()]);
        }
        for shown in shown {
            self.say_of_guest(shown, Grant::Success, Wrong::Others);
        }
        for instance in 0..self.smmus.len() {
            if let Some(mut model) = self.world.machine().model(instance) {
                // Those who were denied were told without anybody waiting for that.
                model.run(usize::MAX);
            }
        }
        self.look(|watch| {
            watch.collect(&self.world);
            watch.oracle.no_group_is_left();
        });
    }
}

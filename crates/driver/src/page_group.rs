// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pages that devices ask for (PRI, §13): handed to the caller as [`PageGroup`]s, each answered exactly once; and their
//! end, when what they were asked of is taken away.
//!
//! Whoever may not ask is denied. A group that is not complete is not answered, since nothing is due; a device whose
//! requests were lost is told to try again by the answer to those that were not, and asks for the rest.
//!
//! A detach goes so: the device is told to ask no more, its stream is blocked, CFGI, SYNC. All that it asked for is in the
//! queue by then. What nobody has read is marked as over, where it is; groups that were handed out are taken back; and
//! only then their answers are given: that nobody answers twice. A late answer finds that its generation is gone.

mod handler;

use core::fmt;

#[cfg(feature = "nested")]
use smmuv3_formats::StreamId;
use smmuv3_formats::{Command, SubstreamId};

use crate::answer::{self, BATCH, Batch};
use crate::devices::is_of_device;
use crate::error::{Failure, InstanceId};
use crate::fault::Report;
use crate::gather::{self, Chain, Of};
use crate::instance::Instance;
use crate::iommu::{Core, Smmu};
use crate::master::MasterState;
use crate::mutation::Mutation;
use crate::page_request::{Answer, Group, Page, PagesLost, Request, Standing};
#[cfg(feature = "nested")]
use crate::pending::Showing;
use crate::pending::{Handle, Key};
use crate::place::WITHOUT;
use crate::platform::Platform;
use crate::pri_queue::OVER;
use crate::queue::Inconsistent;
use crate::shared::Shared;

use handler::{Handler, tell};

/// Pages that a device asks for together, and waits for ([`MasterConfig::with_page_requests`]).
///
/// It is the caller's: it can be kept, sent to another CPU, and answered there, once:
///
/// ```compile_fail,E0382
/// use smmuv3::page_request::Answer;
///
/// fn twice<P: smmuv3::Platform>(pages: smmuv3::PageGroup<P>) {
///     let _ = pages.respond(Answer::Success);
///     let _ = pages.respond(Answer::Invalid);
/// }
/// ```
///
/// Dropping it answers [`Answer::Invalid`], and never waits: where there is no room in the command queue, the answer is given by
/// the next [`Iommu::handle_interrupt`](crate::Iommu::handle_interrupt) of its SMMU, for which no interrupt comes. Who drops it
/// outside of the `sink` of that, and does not call it anyway, calls [`PageGroup::respond`] instead. A detach, an attach of something else, the release of the process, the
/// device's word that it uses the PASID no more, and a reset end what is pending; an answer that comes after that does
/// nothing.
///
/// It may lack pages that the device asked for: those that were lost, which [`Report::PagesLost`] says. The device asks
/// for them again.
///
/// [`MasterConfig::with_page_requests`]: crate::MasterConfig::with_page_requests
#[must_use = "the device waits until it is answered, and dropping it denies the pages"]
pub struct PageGroup<P: Platform> {
    smmu: Smmu<P>,
    handle: Handle,
    group: Group,
    chain: Chain,
}

impl<P: Platform> PageGroup<P> {
    /// Stream, PASID and number.
    pub fn group(&self) -> Group {
        self.group
    }

    /// The SMMU that the device is behind.
    pub fn instance(&self) -> InstanceId {
        self.smmu.id
    }

    /// How many pages: one at least.
    #[expect(clippy::len_without_is_empty, reason = "none is empty")]
    pub fn len(&self) -> usize {
        self.chain.len()
    }

    /// The pages, in the order in which they were asked for.
    pub fn pages(&self) -> impl Iterator<Item = Page> + '_ {
        self.smmu.hardware().gather().pages(self.group, self.chain)
    }

    /// Answers it: with [`Answer::Success`] when all that is to be there was mapped. Waits for room in the command
    /// queue if need be, and not for the device. May be called in interrupt context, on any CPU, and allocates nothing.
    /// Returns whether it still waited for an answer.
    ///
    /// # Errors
    /// As [`CommandQueue::wait_for_room`]: the SMMU does not answer. The group ends with the reset.
    ///
    /// [`CommandQueue::wait_for_room`]: crate::command_queue::CommandQueue::wait_for_room
    pub fn respond(mut self, answer: Answer) -> Result<bool, Failure> {
        // The nodes are given back first: once answered, the device may ask again.
        self.give_back();
        let (core, instance) = (&*self.smmu.core, self.smmu.hardware());
        let pending = &instance.gather().pending;
        answer::respond(core, instance, pending, (self.handle, answer as u8), answers(core))
        // The answer is decided, so the drop does nothing more.
    }

    fn give_back(&mut self) {
        let chain = core::mem::replace(&mut self.chain, Chain::EMPTY);
        self.smmu.hardware().gather().release(&self.smmu.core.platform, chain);
    }
}

#[cfg(feature = "nested")]
impl<P: Platform> PageGroup<P> {
    /// Whether it belongs to this instance of this `Iommu`.
    pub(crate) fn is_of(&self, core: &Shared<Core<P>>, instance: InstanceId) -> bool {
        self.smmu.core.is(core) && self.smmu.id == instance
    }

    /// Hands it on to a guest ([`Pending::show`](crate::pending::Pending::show)). Once it is shown, dropping it answers nothing.
    pub(crate) fn show(&self, most: u64, own: impl Fn(StreamId) -> bool) -> Showing {
        let pending = &self.smmu.hardware().gather().pending;
        pending.show(self.handle, most, |key| own(key.stream))
    }

    /// Answers it without waiting for room in the command queue: if there is none, whoever comes by does it.
    pub(crate) fn answer_now(mut self, answer: Answer) {
        self.give_back();
        let (core, instance) = (&*self.smmu.core, self.smmu.hardware());
        let pending = &instance.gather().pending;
        answer::decide(core, instance, pending, (self.handle, answer as u8), answers(core));
    }
}

impl<P: Platform> Drop for PageGroup<P> {
    fn drop(&mut self) {
        self.give_back();
        let (core, instance) = (&*self.smmu.core, self.smmu.hardware());
        let pending = &instance.gather().pending;
        let answer = (self.handle, Answer::Invalid as u8);
        answer::decide(core, instance, pending, answer, answers(core));
    }
}

impl<P: Platform> fmt::Debug for PageGroup<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("PageGroup");
        fields.field("instance", &self.smmu.id).field("group", &self.group);
        fields.field("pages", &self.len()).finish()
    }
}

impl<P: Platform> fmt::Display for PageGroup<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} pages", self.group, self.len())
    }
}

/// Whether both are the same group of the same moment.
impl<P: Platform> PartialEq for PageGroup<P> {
    fn eq(&self, other: &Self) -> bool {
        let same = self.smmu.id == other.smmu.id && self.handle == other.handle;
        same && self.smmu.core.is(&other.smmu.core)
    }
}

impl<P: Platform> Eq for PageGroup<P> {}

/// A function that makes commands of the codes of answers.
fn answers<P: Platform>(core: &Core<P>) -> impl Fn(Key, u8) -> Command {
    |key, code| {
        let (group, with_pasid) = gather::group(key);
        command(core, group, answer_of(code), with_pasid)
    }
}

fn answer_of(code: u8) -> Answer {
    Answer::ALL.get(usize::from(code)).copied().unwrap_or(Answer::Invalid)
}

fn command<P: Platform>(core: &Core<P>, group: Group, answer: Answer, with_pasid: bool) -> Command {
    let with_pasid = with_pasid && !core.leaves_out(Mutation::NoResponsePasid);
    group.command(answer, with_pasid)
}

/// Reports at most `budget` requests of an instance; whether more are waiting.
pub(crate) fn drain<P: Platform>(
    core: &Shared<Core<P>>,
    id: InstanceId,
    instance: &Instance<P>,
    budget: usize,
    sink: &mut dyn FnMut(Report<P>),
) -> bool {
    let Some(queue) = instance.page_requests() else { return false };
    let mut handler = Handler::new(core, id, instance, sink);
    let drained = queue.drain_to(&core.platform, instance.mmio(), budget, &mut handler);
    drained.unwrap_or_else(|inconsistent| {
        sink(Report::BadIndex { register: inconsistent.register });
        false
    })
}

const fn failure(inconsistent: Inconsistent) -> Failure {
    Failure::Index { register: inconsistent.register }
}

/// Gives the answers that found no room before, at most `budget`, which goes down; whether there is none left.
pub(crate) fn give_owed<P: Platform>(
    core: &Core<P>,
    instance: &Instance<P>,
    budget: &mut usize,
) -> bool {
    answer::give_owed(core, instance, &instance.gather().pending, budget, answers(core))
}

/// The SMMU could not write to the queue: forgets the groups that have begun, all of which lack something.
pub(crate) fn aborted<P: Platform>(
    platform: &P,
    instance: &Instance<P>,
    sink: &mut dyn FnMut(Report<P>),
) {
    let begun = instance.gather().forget(platform, Of::All);
    tell(platform, instance, sink, Report::PagesLost(PagesLost::Aborted { begun }));
}

/// Gives the answer of a guest to a group that it is shown, which was decided, and waits for room if need be.
///
/// # Errors
/// As [`PageGroup::respond`].
#[cfg(feature = "nested")]
pub(crate) fn give<P: Platform>(
    core: &Core<P>,
    instance: &Instance<P>,
    handle: Handle,
) -> Result<(), Failure> {
    answer::give(core, instance, &instance.gather().pending, handle, answers(core))
}

/// Which of a master's groups are to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    All,
    /// Those with this substream, or without for [`WITHOUT`].
    Substream(u32),
}

/// Ends what the devices of a master have asked for, with `answer`; without one, they were reset, and wait for none. When
/// it has returned, what they asked for before is pending no more, and no command about it is on its way.
pub(crate) fn end<P: Platform>(
    core: &Core<P>,
    instance: &Instance<P>,
    master: &MasterState,
    which: Which,
    answer: Option<Answer>,
) -> Result<(), Failure> {
    // Even if the driver did not switch page requests on: as long as its entry has EATS, a device may ask.
    let Some(queue) = instance.page_requests().filter(|_| master.ats.is_some()) else {
        return Ok(());
    };
    // Nothing is pending behind a suspended SMMU: the suspend ended it.
    if instance.commands().is_asleep() {
        return Ok(());
    }
    if core.leaves_out(Mutation::NoPageEnd) {
        return Ok(());
    }
    let (platform, gather) = (&core.platform, instance.gather());
    let ours = |group: &Group| {
        let substream = group.pasid.map_or(WITHOUT, |pasid| pasid.0);
        let named = match which {
            Which::All => true,
            Which::Substream(which) => substream == which,
        };
        named && master.streams.contains(&group.stream)
    };
    #[cfg(feature = "nested")]
    if core.leaves_out(Mutation::GuestsGroups)
        && gather.pending.shows(|key| ours(&gather::group(key).0))
    {
        return Ok(());
    }
    let with_pasid = master.response_pasid;
    let said = |group: Group| {
        let answer = answer.filter(|_| group.is_answerable(instance.features(), with_pasid));
        answer.map(|answer| command(core, group, answer, with_pasid))
    };
    let (mut batch, mut result) = (Batch::new(), Ok(()));

    // Records that nobody has read yet are marked as over in the queue; those that were read before are in `gather`.
    let mut unread = queue.unread(platform, instance.mmio()).map_err(failure)?;
    while !unread.is_empty() {
        queue.revise(platform, &mut unread, BATCH, &mut |record| match Request::read(&record) {
            Request::Page(page) if record != OVER && ours(&page.group) => {
                let group = page.group;
                let due = page.last && group.is_answerable(instance.features(), with_pasid);
                // Answered once, however often the queue has its last request: it joins those that wait, or, without
                // room there, is answered here.
                if due
                    && !gather.is_waiting(platform, group, with_pasid)
                    && gather.wait(platform, group, with_pasid).is_none()
                {
                    said(group).into_iter().for_each(|command| batch.push(command));
                }
                true
            }
            // Other records stay: PASID stops are still to be reported.
            _ => false,
        });
        match batch.carry_out(platform, instance) {
            Err(what) if instance.commands().has_failed() => return Err(what),
            // These commands count once they are consumed (§4.2), and the groups that wait are to be answered whatever
            // became of these.
            Err(what) if is_of_device(&what) => {}
            given => result = result.and(given),
        }
    }
    for stream in &master.streams {
        gather.forget(
            platform,
            match which {
                Which::All => Of::Stream(*stream),
                Which::Substream(substream) => {
                    Of::Pasid(*stream, (substream != WITHOUT).then_some(SubstreamId(substream)))
                }
            },
        );
    }
    let which = |key| ours(&gather::group(key).0);
    let Some(answer) = answer else {
        gather.pending.sweep(|| platform.relax(), which, |_, _| ());
        // Waits for answers that were placed just now by callers that did not know of the device's reset: when the
        // device asks again, it would take one for the answer to a new group of the same number.
        let none = core::iter::empty();
        let settled = match instance.commands().carry_out_first(platform, instance.mmio(), none) {
            Err(what) if is_of_device(&what) => Ok(()),
            settled => settled,
        };
        return result.and(settled);
    };
    let code = answer as u8;
    answer::give_all(platform, instance, &gather.pending, which, code, answers(core))?;
    // Waits for answers that others have just placed as well.
    result.and(instance.commands().settle(platform, instance.mmio()))
}

/// Gives the queue, empty, to an SMMU that is being reset. The groups whose end nobody has read wait for an answer until it
/// works again, and those without one are forgotten.
pub(crate) fn restart<P: Platform>(platform: &P, instance: &Instance<P>) {
    let (Some(queue), gather) = (instance.page_requests(), instance.gather()) else { return };
    // Answers would be ignored until SMMUEN is 1 again (§4.2).
    gather.pending.close();
    queue.restart(platform, instance.mmio(), &mut |record| {
        if let Request::Page(page) = Request::read(&record)
            && page.last
        {
            let standing = Standing::find(platform, instance.streams(), page.group.stream);
            let (Standing::Known { with_pasid } | Standing::Unknown { with_pasid }) = standing;
            let answerable = page.group.is_answerable(instance.features(), with_pasid);
            if answerable && !gather.is_waiting(platform, page.group, with_pasid) {
                // Without room the device has asked for more than its credits allow, and gets no answer.
                let _ = gather.wait(platform, page.group, with_pasid);
            }
        }
    });
    gather.forget(platform, Of::All);
}

/// A command that a reset found in a queue, and that the SMMU had not come to: if it is an answer, it will be given
/// again.
pub(crate) fn unheard<P: Platform>(platform: &P, instance: &Instance<P>, command: Command) {
    let Some((group, answer, _)) = Group::read(command) else { return };
    let gather = instance.gather();
    // Not what the command has: a group without a PASID has none in its answer, where those of others have theirs.
    let standing = Standing::find(platform, instance.streams(), group.stream);
    let (Standing::Known { with_pasid } | Standing::Unknown { with_pasid }) = standing;
    if gather.is_waiting(platform, group, with_pasid) {
        // The device has ended it again since, and takes whichever answer comes first for that of both: one is enough.
        return;
    }
    // There was a slot for it when its command was placed, or it was a denial without one; if all are taken now, devices
    // have asked for more than their credits allow, and this one goes without.
    if let Some(handle) = gather.wait(platform, group, with_pasid) {
        gather.pending.decide(handle, answer as u8);
    }
}

/// After a reset: gives the answers that are due, and denies all else that was pending before, since hardware did not. (It
/// ignores answers while it is off, §4.2.) What it cannot give is left to the next reset.
pub(crate) fn answer_all<P: Platform>(platform: &P, instance: &Instance<P>) -> Result<(), Failure> {
    let command = |key, code| {
        let (group, with_pasid) = gather::group(key);
        group.command(answer_of(code), with_pasid)
    };
    let (pending, code) = (&instance.gather().pending, Answer::Invalid as u8);
    let denied = answer::give_all(platform, instance, pending, |_| true, code, command);
    pending.open();
    denied
}

/// Forgets all that is pending: the SMMU is off, for good.
pub(crate) fn forget<P: Platform>(platform: &P, instance: &Instance<P>) {
    let gather = instance.gather();
    gather.forget(platform, Of::All);
    gather.pending.sweep(|| platform.relax(), |_| true, |_, _| ());
}

/// How many entries of the queue are for a master with so many streams: a stream may also say once that it uses a PASID
/// no more, which takes no credit (§13).
pub(crate) const fn share(streams: usize, credits: u32) -> u64 {
    if credits == 0 { 0 } else { (credits as u64 + 1).saturating_mul(streams as u64) }
}

/// How many are for all of `masters`.
pub(crate) fn taken<'a>(masters: impl Iterator<Item = &'a MasterState>) -> u64 {
    masters.map(|state| share(state.streams.len(), state.page_requests)).sum()
}

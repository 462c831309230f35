// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stalled transactions (§11): handed to the caller as [`Fault`]s, each answered exactly once; and their end, when what
//! they were subject to is taken away.
//!
//! Of a master that can stall, a change to what does not stall goes so: the context or the entry is made that, CFGI, SYNC.
//! From then on every stall of before has its event in the queue, and no other comes. Those that nobody has read are
//! marked as over, where they are; those that were handed out are taken back; and only then hardware is told: that
//! nobody answers twice. A late answer finds that its generation is gone.
//!
//! Between two contexts, both of which stall, there is no such moment, or accesses that both allow would be refused in it.
//! What waits is ended before the change instead. What stalls after that, and before the new context counts, may have met
//! either: it is the caller's, as what stalls later is, and neither answer is wrong. A stalled transaction is held by no
//! configuration: tried again after the CFGI and SYNC, it goes by the new one (§11).

use core::fmt;

use smmuv3_formats::command::{Resume, StallTerm};
use smmuv3_formats::{Cd, Command, EventRecord, Iova, Ste, StreamId, SubstreamId};

use crate::answer::{self, BATCH, Batch};
use crate::error::{Failure, InstanceId};
use crate::event::Event;
use crate::features::Features;
use crate::instance::Instance;
use crate::iommu::{Core, Smmu};
use crate::mutation::Mutation;
pub(crate) use crate::pending::Pending;
#[cfg(feature = "nested")]
use crate::pending::Showing;
use crate::pending::{Handle, Key};
use crate::place::WITHOUT;
use crate::platform::Platform;
use crate::shared::Shared;

/// What is to become of a stalled transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response {
    /// It is tried again, and sees everything that was changed before: mappings and attachments. It may stall anew,
    /// which is another [`Fault`]. Mappings that were added need no invalidation; more rights for one that there was do.
    Retry,
    /// It ends with an error for the device.
    Abort,
    /// It ends without an error for the device: reads give zeros, writes do nothing. Where the SMMU cannot do that
    /// (IDR0.TERM_MODEL = 1), it ends as with [`Response::Abort`].
    Terminate,
}

impl Response {
    const ALL: [Self; 3] = [Self::Retry, Self::Abort, Self::Terminate];

    fn command(self, stream: StreamId, stag: u16) -> Command {
        let command = Resume::new().with_sid(u64::from(stream.0)).with_stag(u64::from(stag));
        match self {
            Self::Retry => command.with_ac(true),
            Self::Abort => command.with_ab(true),
            Self::Terminate => command,
        }
        .into()
    }
}

/// A transaction that has stalled and waits for an answer ([`MasterConfig::with_stalls`]).
///
/// It is the caller's: it can be kept, sent to another CPU, and answered there, once:
///
/// ```compile_fail,E0382
/// fn twice<P: smmuv3::Platform>(fault: smmuv3::Fault<P>) {
///     let _ = fault.respond(smmuv3::Response::Retry);
///     let _ = fault.respond(smmuv3::Response::Abort);
/// }
/// ```
///
/// Dropping it answers [`Response::Abort`], and never waits: where there is no room in the command queue, the answer is given by
/// the next [`Iommu::handle_interrupt`](crate::Iommu::handle_interrupt) of its SMMU, for which no interrupt comes. Who drops it
/// outside of the `sink` of that, and does not call it anyway, calls [`Fault::respond`] instead. A detach, an attach of something else, the release of the process, and a
/// reset end what is pending; an answer that comes after that does nothing. Between two domains of stage 1, what stalls while the
/// attach is under way stays, to be answered as any other ([`Iommu::attach`](crate::Iommu::attach)).
///
/// To answer is not to know that it is over: the device tells that. In particular, a transaction that was to end may
/// have gone on just before, if what it lacked was mapped meanwhile.
///
/// [`MasterConfig::with_stalls`]: crate::MasterConfig::with_stalls
#[must_use = "the device waits until it is answered, and dropping it aborts the transaction"]
pub struct Fault<P: Platform> {
    smmu: Smmu<P>,
    handle: Handle,
    record: EventRecord,
    /// The event's number.
    number: u64,
}

impl<P: Platform> fmt::Display for Fault<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.record.fmt(f)
    }
}

impl<P: Platform> Fault<P> {
    /// The event, which says all there is to know. Its STAG is not for the caller.
    pub fn record(&self) -> EventRecord {
        self.record
    }

    /// The event, with its place among the events of the SMMU.
    pub fn event(&self) -> Event {
        Event::new(self.record, self.smmu.id, self.number)
    }

    /// The SMMU that the device is behind.
    pub fn instance(&self) -> InstanceId {
        self.smmu.id
    }

    /// The stream.
    pub fn stream(&self) -> StreamId {
        key(&self.record).stream
    }

    /// The event's SubstreamID (§10), if the access has one: the PASID of a process, or of [`Iommu::attach_pasid`].
    ///
    /// [`Iommu::attach_pasid`]: crate::Iommu::attach_pasid
    pub fn substream(&self) -> Option<SubstreamId> {
        self.record.ssv().then(|| key(&self.record).substream)
    }

    /// The address that the device gave.
    pub fn address(&self) -> Iova {
        Iova(self.record.input_addr())
    }

    /// Whether it writes.
    pub fn is_write(&self) -> bool {
        !self.record.rnw()
    }

    /// Answers it. Waits for room in the command queue if need be, and not for the device. May be called in interrupt
    /// context, on any CPU, and allocates nothing. Returns whether it still waited for an answer.
    ///
    /// # Errors
    /// As [`CommandQueue::wait_for_room`]: the SMMU does not answer. The transaction ends with the reset.
    ///
    /// [`CommandQueue::wait_for_room`]: crate::command_queue::CommandQueue::wait_for_room
    pub fn respond(self, response: Response) -> Result<bool, Failure> {
        let result = self.answer(response);
        // The answer is decided: the drop finds nothing that waits, and does nothing.
        drop(self);
        result
    }

    fn answer(&self, response: Response) -> Result<bool, Failure> {
        let (core, instance) = (&*self.smmu.core, self.smmu.hardware());
        let answer = (self.handle, response as u8);
        answer::respond(core, instance, instance.pending(), answer, answers(core))
    }
}

#[cfg(feature = "nested")]
impl<P: Platform> Fault<P> {
    /// Whether it belongs to this instance of this `Iommu`.
    pub(crate) fn is_of(&self, core: &Shared<Core<P>>, instance: InstanceId) -> bool {
        self.smmu.core.is(core) && self.smmu.id == instance
    }

    /// Hands the stall on to a guest ([`Pending::show`]). Once it is shown, dropping the `Fault` answers nothing.
    pub(crate) fn show(&self, most: u64, own: impl Fn(StreamId) -> bool) -> Showing {
        self.smmu.hardware().pending().show(self.handle, most, |key| own(key.stream))
    }
}

impl<P: Platform> Drop for Fault<P> {
    fn drop(&mut self) {
        let (core, instance) = (&*self.smmu.core, self.smmu.hardware());
        let answer = (self.handle, Response::Abort as u8);
        answer::decide(core, instance, instance.pending(), answer, answers(core));
    }
}

impl<P: Platform> fmt::Debug for Fault<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Fault").field(&self.smmu.id).field(&self.record).finish()
    }
}

/// Whether both are the same stalled transaction.
impl<P: Platform> PartialEq for Fault<P> {
    fn eq(&self, other: &Self) -> bool {
        let same = self.smmu.id == other.smmu.id && self.handle == other.handle;
        same && self.smmu.core.is(&other.smmu.core)
    }
}

impl<P: Platform> Eq for Fault<P> {}

/// What a record of a stalled transaction names.
fn key(record: &EventRecord) -> Key {
    // The fields have 32, 16 and 20 bits.
    let substream = if record.ssv() { record.ssid() as u32 } else { WITHOUT };
    Key {
        stream: StreamId(record.sid() as u32),
        stag: record.stag() as u16,
        substream: SubstreamId(substream),
    }
}

/// Whether a record is of a transaction that waits for an answer.
pub(crate) fn is_stall(record: &EventRecord, features: &Features) -> bool {
    features.can_stall()
        && record.stall()
        && record.event().is_some_and(|event| event.is_translation_fault())
}

/// A function that makes commands of the codes of answers.
fn answers<P: Platform>(core: &Core<P>) -> impl Fn(Key, u8) -> Command {
    |key, code| {
        let response = Response::ALL.get(usize::from(code)).copied().unwrap_or(Response::Abort);
        answer_of(core, key, response)
    }
}

fn answer_of<P: Platform>(core: &Core<P>, key: Key, response: Response) -> Command {
    if core.leaves_out(Mutation::WrongStag) {
        return response.command(key.stream, key.stag ^ 1);
    }
    response.command(key.stream, key.stag)
}

/// What becomes of the event of a stalled transaction.
pub(crate) enum Taken<P: Platform> {
    /// The stall was handed to the caller.
    Handed(Fault<P>),
    /// There was no room in `pending`, or no more of it for the guest, and the transaction was aborted.
    Ended,
    /// There is no room in the command queue for aborting it either: to be tried again.
    Later,
}

/// Takes the stalled transaction of `event`. Called by one reader of the event queue at a time, in its lock.
pub(crate) fn take<P: Platform>(
    core: &Shared<Core<P>>,
    instance: &Instance<P>,
    event: Event,
) -> Taken<P> {
    let (record, id, number) = (event.record(), event.instance(), event.number());
    let key = key(&record);
    if instance.pending().is_closed() {
        return Taken::Ended;
    }
    if let Some(handle) = insert(core, instance, key) {
        let smmu = Smmu::new(core.clone(), id);
        return Taken::Handed(Fault { smmu, handle, record, number });
    }
    let mut failed = None;
    let command = answer_of(core, key, Response::Abort);
    let placed = answer::place(core, instance, command, &mut failed);
    // If the SMMU takes no more commands, its reset ends the transaction.
    if !placed && failed.is_none() {
        return Taken::Later;
    }
    instance.pending().refuse();
    Taken::Ended
}

/// Puts what has stalled among what waits, if there is room: of a guest's device, as much as the guest has a share in, wherever it
/// stalls.
#[cfg_attr(not(feature = "nested"), expect(unused_variables, reason = "there are no guests"))]
fn insert<P: Platform>(core: &Core<P>, instance: &Instance<P>, key: Key) -> Option<Handle> {
    #[cfg(feature = "nested")]
    if let Some(guest) = crate::fault::of_guest(&core.platform, instance, key.stream) {
        return instance.pending().insert_for(crate::pending::Sharer::new(guest.vmid), key);
    }
    instance.pending().insert(key)
}

/// Gives the answers that found no room before, at most `budget`, which goes down; whether there is none left.
pub(crate) fn give_owed<P: Platform>(
    core: &Core<P>,
    instance: &Instance<P>,
    budget: &mut usize,
) -> bool {
    answer::give_owed(core, instance, instance.pending(), budget, answers(core))
}

/// Gives the answer of a guest to what it is shown, which was decided, and waits for room if need be.
///
/// # Errors
/// As [`Fault::respond`].
#[cfg(feature = "nested")]
pub(crate) fn give<P: Platform>(
    core: &Core<P>,
    instance: &Instance<P>,
    handle: Handle,
) -> Result<(), Failure> {
    answer::give(core, instance, instance.pending(), handle, answers(core))
}

/// Which transactions are to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// All of the streams: their entries terminate everything, which hardware has confirmed.
    Everything,
    /// All of the streams, whose entries do something else now.
    Translated,
    /// Those with this substream, or without for [`WITHOUT`].
    Substream(u32),
}

/// Ends stalled transactions of `streams`. When it has returned, none is pending that had its event in the queue when this was
/// called: none at all, if they cannot stall any more as they did, and hardware has confirmed that; but of one substream, those
/// whose events found the queue full wait until these are read, since nothing else tells their STAGs.
pub(crate) fn end<P: Platform>(
    core: &Core<P>,
    instance: &Instance<P>,
    streams: &[StreamId],
    ending: Ending,
) -> Result<(), Failure> {
    // Nothing is pending behind a suspended SMMU: `close` has taken it back.
    if !instance.features().can_stall() || instance.commands().is_asleep() {
        return Ok(());
    }
    if core.leaves_out(Mutation::NoStallEnd) {
        return Ok(());
    }
    let platform = &core.platform;
    let ours = |key: Key| {
        streams.contains(&key.stream)
            && match ending {
                Ending::Everything | Ending::Translated => true,
                Ending::Substream(substream) => key.substream.0 == substream,
            }
    };
    #[cfg(feature = "nested")]
    if core.leaves_out(Mutation::GuestsStalls) && instance.pending().shows(ours) {
        return Ok(());
    }
    let one_by_one = ending != Ending::Everything;
    let mut batch = Batch::new();
    // Otherwise one STALL_TERM for each stream, at the end, terminates all of them.
    let give = |batch: &mut Batch| match one_by_one {
        true => batch.carry_out(platform, instance),
        false => {
            drop(batch.take());
            Ok(())
        }
    };

    // Records that nobody has read yet are revised in the queue so that they are no stalls; those that were read before
    // are in `pending`.
    let index = |inconsistent: crate::queue::Inconsistent| Failure::Index {
        register: inconsistent.register,
    };
    let mut unread = instance.events().unread(platform, instance.mmio()).map_err(index)?;
    loop {
        instance.events().revise(platform, &mut unread, BATCH, &mut |record| {
            let key = key(&record);
            if !is_stall(&record, instance.features()) || !ours(key) {
                return None;
            }
            batch.push(answer_of(core, key, Response::Abort));
            Some(record.with_stall(false))
        });
        give(&mut batch)?;
        if unread.is_empty() {
            break;
        }
    }
    let mut result = Ok(());
    instance.pending().sweep(
        || platform.relax(),
        ours,
        |key, _| {
            batch.push(answer_of(core, key, Response::Abort));
            if batch.is_full() {
                result = result.and(give(&mut batch));
            }
        },
    );
    result?;
    if one_by_one {
        // Even for no command: this CMD_SYNC completes after the answers that others have just placed.
        return tell(core, instance, batch.take());
    }
    // STALL_TERM also ends stalls whose events the SMMU could not write.
    let term = |stream: &StreamId| StallTerm::new().with_sid(u64::from(stream.0)).into();
    tell(core, instance, streams.iter().map(term))
}

/// Ends what a predecessor's devices had stalled at `streams`, which abort by now.
#[cfg(feature = "hand-over")]
pub(crate) fn end_inherited<P: Platform>(
    core: &Core<P>,
    instance: &Instance<P>,
    streams: &[StreamId],
) -> Result<(), Failure> {
    end(core, instance, streams, Ending::Everything)
}

/// Gives `commands`, and waits for them and for all answers that were placed before, on whichever CPU.
fn tell<P: Platform>(
    core: &Core<P>,
    instance: &Instance<P>,
    commands: impl ExactSizeIterator<Item = Command>,
) -> Result<(), Failure> {
    instance.commands().carry_out_first(&core.platform, instance.mmio(), commands)
}

/// Forgets all that is pending: the SMMU is off, and has ended them (§2.4).
pub(crate) fn forget<P: Platform>(platform: &P, pending: &Pending) {
    pending.sweep(|| platform.relax(), |_| true, |_, _| ());
    pending.open();
}

/// Takes back all that is pending, for an SMMU that is about to be suspended: it ends them itself when SMMUEN is 0 (§2.4),
/// and nobody may answer those any more then. What stalls from here on is reported as aborted, until [`forget`].
pub(crate) fn close<P: Platform>(platform: &P, instance: &Instance<P>) -> Result<(), Failure> {
    if !instance.features().can_stall() {
        return Ok(());
    }
    let pending = instance.pending();
    pending.close();
    // Taking the event queue's lock here waits for a reader that is just handing stalls out.
    let index = |inconsistent: crate::queue::Inconsistent| Failure::Index {
        register: inconsistent.register,
    };
    instance.events().unread(platform, instance.mmio()).map_err(index)?;
    pending.sweep(|| platform.relax(), |_| true, |_, _| ());
    // Waits until the answers that were placed before are consumed.
    instance.commands().settle(platform, instance.mmio())
}

/// The entry of a stream whose faults are to stall, or not (§7.1).
pub(crate) fn entry(ste: Ste, stalls: bool) -> Ste {
    // For nested entries S1STALLD was chosen with the guest's entry.
    let stage_1 = ste.config() == 0b101;
    let stage_2 = ste.config() & 0b110 == 0b110;
    let ste = if stage_1 && stalls { ste.with_s1_stalld(false) } else { ste };
    if stage_2 { ste.with_s2_s(stalls) } else { ste }
}

/// The context of a stream whose faults are to stall, or not (§7.2).
pub(crate) fn context(cd: Cd, stalls: bool) -> Cd {
    cd.with_s(stalls)
}

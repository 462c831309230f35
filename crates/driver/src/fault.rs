// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an SMMU reports: events and page requests of devices, and errors of its own (rule R9).

use smmuv3_formats::register::Gerror;
use smmuv3_formats::ste::config;
use smmuv3_formats::{Command, EventRecord, Ste, StreamId, SubstreamId};

use core::fmt;
use core::sync::atomic::Ordering;

use crate::entry::{GUEST, GUEST_ASKS};
use crate::error::{CommandError, Failure, InstanceId};
use crate::event::Event;
use crate::event_queue::{Delivery, Lost};
use crate::instance::Instance;
use crate::iommu::Core;
use crate::page_group::{self, PageGroup};
use crate::page_request::Page;
use crate::page_request::{Denied, PagesLost};
use crate::platform::Platform;
use crate::shared::Shared;
use crate::stall::{self, Fault, Taken};
use crate::trace::Trace;

/// Which interrupt was raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// The event queue's.
    Events,
    /// That of the queue of page requests.
    PageRequests,
    /// The global error interrupt.
    Error,
    /// The one that tells of completed commands ([`Completion::Interrupt`](crate::Completion::Interrupt)): there is
    /// nothing to look at. That it was taken is what those who wait needed; see
    /// [`Platform::relax`](crate::Platform::relax) for how the handler passes it on to others.
    Sync,
    /// A combined one, or none: look at everything. It may be that commands were completed, too.
    Any,
}

/// Something that an SMMU reports.
///
/// Some come together, and no SMMU counts what it lost:
/// * The event queue was full, and the SMMU says so by its index: [`Report::EventsLost`] ([`Lost::Overflow`]) in its
///   place among the events, once for however many were lost there.
/// * It could not write the queue: [`Report::GlobalError`] with EVENTQ_ABT_ERR, then [`Report::EventsLost`]
///   ([`Lost::Aborted`]), once for however many; both from the error interrupt, before the events that are in the queue.
///   QEMU says that, too, where the queue was full, in place of the former.
/// * It is out of service: [`Report::GlobalError`] with SFM_ERR, then [`Report::Failed`].
///
/// So [`Report::EventsLost`] is what to count losses by, and it means that at least one event is missing.
#[non_exhaustive]
pub enum Report<P: Platform> {
    /// A transaction was refused. Events of unknown kind are handed on as they are. One with a STAG and Stall = 0 may have
    /// stalled, and was aborted when what it was subject to went, before anybody read this.
    Event(Event),
    /// A transaction has stalled, and waits for an answer; that of a guest, if [`Nest::show`](crate::nest::Nest::show) hands it
    /// on to one.
    Stalled(Fault<P>),
    /// A transaction had stalled, and was aborted because as many as [`InstanceConfig::stalls`] wait already; or, of a guest's
    /// device, as many of the guest's as there is room left for others.
    ///
    /// [`InstanceConfig::stalls`]: crate::InstanceConfig::stalls
    Aborted(Event),
    /// Events were lost.
    EventsLost(Lost),
    /// A device asks for pages, and waits for an answer: the host's, or that of the guest to which it is handed on
    /// (`Nest::show_pages`), by whose addresses it asks.
    Pages(PageGroup<P>),
    /// A device asked for a page in vain. If it is the last of its group, that was answered
    /// ([`Answer::Invalid`](crate::page_request::Answer)), but where its stream or PASID is beyond those that the SMMU has,
    /// which no answer can name, and where its number waits for an answer already ([`Denied::Repeated`]); else nothing is
    /// due.
    PageDenied {
        /// The page.
        page: Page,
        /// Why.
        why: Denied,
    },
    /// A device has stopped to use a PASID, and asks for nothing with it any more. What it had asked for was answered:
    /// it does not wait for that. A guest whose device it is learns of it by `Nest::stopped`.
    PasidStopped {
        /// The stream.
        stream: StreamId,
        /// The PASID.
        pasid: SubstreamId,
    },
    /// Page requests were lost.
    PagesLost(PagesLost),
    /// A device did not answer in time when it was to forget translations that it keeps (ATS), and was cut off: its stream
    /// aborts until [`Iommu::readmit`](crate::Iommu::readmit), after its device was reset
    /// ([`Master::is_quarantined`](crate::Master::is_quarantined)). The call that found out, an unmap perhaps, or a guest's
    /// command, did what it was asked: the device reaches nothing any more.
    /// Streams that a predecessor had cut off are told of once more by whoever adopts its SMMU ([`Probe::adopt`](crate::Probe::adopt)).
    ///
    /// Told by the next look at anything but [`Interrupt::Sync`], whichever interrupt that is for: none comes for this alone.
    /// Those beyond the budget of one look are told by the next, and count as waiting until then. A
    /// stream that is cut off twice until then is told once. By then it may have been readmitted, or its master closed.
    Quarantined {
        /// The stream.
        stream: StreamId,
    },
    /// The queue stopped at a command, and goes on. What became of it, the code says (§3.2): an illegal one is left out,
    /// one that could not be fetched (2) is tried again, and so is a CMD_SYNC before which devices did not answer
    /// (3). Whoever waits for the batch is told as well, unless it was carried out after all.
    CommandError {
        /// The command.
        command: Command,
        /// `CMDQ_CONS.ERR`.
        code: u8,
    },
    /// The queue stopped at so many more commands, before those just reported ([`Report::CommandError`]), which are not
    /// remembered.
    ForgottenCommandErrors(u64),
    /// Global errors other than a refused command, acknowledged. What follows from them is reported as well: events
    /// that could not be written ([`Lost::Aborted`]), or page requests ([`PagesLost::Aborted`]), an SMMU that is out of
    /// service ([`Failure::Service`]). After an interrupt message that was lost its queue is looked at all the same;
    /// the others concern what this driver does not use.
    GlobalError(Gerror),
    /// The SMMU does not work any more, until it is reset ([`Iommu::reset`](crate::Iommu::reset)).
    Failed(Failure),
    /// An index of the queue of events, or of page requests, makes no sense at present: nothing was read. The SMMU goes on,
    /// and a later look may find what it wrote.
    BadIndex {
        /// The value read.
        register: u32,
    },
}

impl<P: Platform> fmt::Debug for Report<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut tuple = f.debug_tuple(match self {
            Self::Event(_) => "Event",
            Self::Stalled(_) => "Stalled",
            Self::Aborted(_) => "Aborted",
            Self::EventsLost(_) => "EventsLost",
            Self::Pages(_) => "Pages",
            Self::PageDenied { page, why } => {
                let mut fields = f.debug_struct("PageDenied");
                return fields.field("page", page).field("why", why).finish();
            }
            Self::PasidStopped { stream, pasid } => {
                let mut fields = f.debug_struct("PasidStopped");
                return fields.field("stream", stream).field("pasid", pasid).finish();
            }
            Self::PagesLost(_) => "PagesLost",
            Self::Quarantined { stream } => {
                return f.debug_struct("Quarantined").field("stream", stream).finish();
            }
            Self::CommandError { command, code } => {
                let mut fields = f.debug_struct("CommandError");
                return fields.field("command", command).field("code", code).finish();
            }
            Self::ForgottenCommandErrors(_) => "ForgottenCommandErrors",
            Self::BadIndex { register } => {
                return f.debug_struct("BadIndex").field("register", register).finish();
            }
            Self::GlobalError(_) => "GlobalError",
            Self::Failed(_) => "Failed",
        });
        match self {
            Self::Event(record) | Self::Aborted(record) => tuple.field(record),
            Self::Stalled(fault) => tuple.field(fault),
            Self::EventsLost(lost) => tuple.field(lost),
            Self::Pages(pages) => tuple.field(pages),
            Self::PagesLost(lost) => tuple.field(lost),
            Self::ForgottenCommandErrors(count) => tuple.field(count),
            Self::GlobalError(error) => tuple.field(error),
            Self::Failed(failure) => tuple.field(failure),
            Self::CommandError { .. }
            | Self::PageDenied { .. }
            | Self::PasidStopped { .. }
            | Self::Quarantined { .. }
            | Self::BadIndex { .. } => &mut tuple,
        }
        .finish()
    }
}

/// In words, for a log.
impl<P: Platform> fmt::Display for Report<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event(event) => event.fmt(f),
            Self::Stalled(fault) => write!(f, "stalled: {fault}"),
            Self::Aborted(event) => write!(f, "stalled, and aborted, since many wait: {event}"),
            Self::EventsLost(lost) => lost.fmt(f),
            Self::Pages(pages) => write!(f, "pages are asked for: {pages}"),
            Self::PageDenied { page, why } => {
                write!(f, "page {:#x} denied to {}: {why}", page.iova.0, page.group)
            }
            Self::PasidStopped { stream, pasid } => {
                write!(f, "stream {stream} has stopped to use PASID {pasid}")
            }
            Self::PagesLost(lost) => lost.fmt(f),
            Self::Quarantined { stream } => {
                write!(f, "the device of stream {stream} does not answer, and was cut off")
            }
            Self::CommandError { command, code } => {
                write!(f, "the queue stopped at `{command}` with {}", CommandError(*code))
            }
            Self::ForgottenCommandErrors(count) => {
                write!(f, "the queue had stopped at {count} other commands")
            }
            Self::GlobalError(errors) => write!(f, "global errors: {errors:?}"),
            Self::Failed(failure) => write!(f, "the SMMU has failed: {failure}"),
            Self::BadIndex { register } => {
                write!(f, "an index register shows the impossible value {register:#x}")
            }
        }
    }
}

impl<P: Platform> PartialEq for Report<P> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Event(one), Self::Event(other)) => one == other,
            (Self::Stalled(one), Self::Stalled(other)) => one == other,
            (Self::Aborted(one), Self::Aborted(other)) => one == other,
            (Self::EventsLost(one), Self::EventsLost(other)) => one == other,
            (Self::Pages(one), Self::Pages(other)) => one == other,
            (
                Self::PageDenied { page: one, why },
                Self::PageDenied { page: other, why: because },
            ) => (one, why) == (other, because),
            (
                Self::PasidStopped { stream: one, pasid },
                Self::PasidStopped { stream: other, pasid: with },
            ) => (one, pasid) == (other, with),
            (Self::PagesLost(one), Self::PagesLost(other)) => one == other,
            (Self::Quarantined { stream: one }, Self::Quarantined { stream: other }) => {
                one == other
            }
            (
                Self::CommandError { command: one, code },
                Self::CommandError { command: other, code: with },
            ) => (one, code) == (other, with),
            (Self::ForgottenCommandErrors(one), Self::ForgottenCommandErrors(other)) => {
                one == other
            }
            (Self::BadIndex { register: one }, Self::BadIndex { register: other }) => one == other,
            (Self::GlobalError(one), Self::GlobalError(other)) => one == other,
            (Self::Failed(one), Self::Failed(other)) => one == other,
            _ => false,
        }
    }
}

impl<P: Platform> Eq for Report<P> {}

/// Reports at most `budget` records of each queue, as many devices that were cut off, and all errors of an instance; and gives as
/// many answers to what has stalled, and to page requests, that found no room before.
/// Returns whether there is more to do: what is left of these, or answers that found no room.
pub(crate) fn handle<P: Platform>(
    core: &Shared<Core<P>>,
    id: InstanceId,
    instance: &Instance<P>,
    which: Interrupt,
    budget: usize,
    sink: &mut dyn FnMut(Report<P>),
) -> bool {
    let platform = &core.platform;
    if which == Interrupt::Sync {
        return false;
    }
    // Reported at every look, since no interrupt is for this: the one for the command error may be over before it is
    // known which device did not answer.
    let cut_off = core::iter::from_fn(|| instance.silent().take(platform));
    cut_off.take(budget).for_each(|stream| sink(Report::Quarantined { stream }));
    let mut more = instance.silent().is_any();
    let mut look_at_events = matches!(which, Interrupt::Events | Interrupt::Any);
    let mut look_at_requests = matches!(which, Interrupt::PageRequests | Interrupt::Any);
    if matches!(which, Interrupt::Error | Interrupt::Any) {
        // The error interrupt may say that a queue's own interrupt message was lost: that queue is looked at.
        let active = errors(platform, instance, sink);
        look_at_events |= active.msi_eventq_abt_err() || active.eventq_abt_err();
        look_at_requests |= active.msi_priq_abt_err() || active.priq_abt_err();
    }
    more |= look_at_events && events(core, id, instance, budget, sink);
    if look_at_requests {
        more |= page_group::drain(core, id, instance, budget, sink);
    }
    // Answers for what `sink` has dropped may have found no room.
    let mut answers = budget;
    let stalls_owed = !stall::give_owed(core, instance, &mut answers);
    let mut answers = budget;
    let pages_owed = !page_group::give_owed(core, instance, &mut answers);
    more || stalls_owed || pages_owed
}

/// Whether `stream`, which may be any, is a guest's by its entry.
pub(crate) fn is_guests<P: Platform>(
    platform: &P,
    instance: &Instance<P>,
    stream: StreamId,
) -> bool {
    of_guest(platform, instance, stream).is_some()
}

/// What a stream's entry says of the guest whose it is: subject to the guest's stage 1, or to what is under that alone, since the
/// guest bypasses it.
#[derive(Clone, Copy)]
pub(crate) struct OfGuest {
    /// The VMID of its translations.
    #[cfg_attr(not(feature = "nested"), expect(dead_code, reason = "there are no guests"))]
    pub(crate) vmid: u16,
    /// It is shown page requests, and the stream's device may ask.
    #[cfg_attr(not(feature = "ats"), expect(dead_code, reason = "nobody asks"))]
    pub(crate) asks: bool,
}

/// The guest whose `stream`, which may be any, is by its entry. One whose accesses the guest lets abort is nobody's: nothing of it
/// stalls, and its device is not to ask.
pub(crate) fn of_guest<P: Platform>(
    platform: &P,
    instance: &Instance<P>,
    stream: StreamId,
) -> Option<OfGuest> {
    let streams = instance.streams();
    let entry = streams.reaches(stream).then(|| streams.entry(platform, stream));
    let ste = entry.flatten().map(|entry| Ste(entry.load(platform)));
    // Only guests have both stages. One that bypasses its own has the host's alone, as others have.
    let of_guest = |ste: &Ste| match ste.config() {
        config::NESTED => true,
        config::STAGE_2 => ste.sw_reserved() & GUEST != 0,
        _ => false,
    };
    // The field has 16 bits.
    ste.filter(of_guest).map(|ste| OfGuest {
        vmid: ste.s2_vmid() as u16,
        asks: ste.sw_reserved() & GUEST_ASKS != 0,
    })
}

/// Reports at most `budget` events; whether more are waiting.
fn events<P: Platform>(
    core: &Shared<Core<P>>,
    id: InstanceId,
    instance: &Instance<P>,
    budget: usize,
    sink: &mut dyn FnMut(Report<P>),
) -> bool {
    let platform = &core.platform;
    let features = instance.features();
    let name = &instance.config().name;
    let told = |record: &EventRecord, stalled| {
        platform.trace(&Trace::Event { instance: name, record, stalled });
    };
    let mut deliver = |delivery, number| {
        let event = |record| Event::new(record, id, number);
        sink(match delivery {
            Delivery::Record(record) if stall::is_stall(&record, features) => {
                match stall::take(core, instance, event(record)) {
                    Taken::Handed(fault) => {
                        told(&record, true);
                        Report::Stalled(fault)
                    }
                    Taken::Ended => {
                        told(&record, false);
                        Report::Aborted(event(record))
                    }
                    Taken::Later => return false,
                }
            }
            Delivery::Record(record) => {
                told(&record, false);
                Report::Event(event(record))
            }
            Delivery::Lost(lost) => {
                platform.trace(&Trace::Lost { instance: name, lost });
                Report::EventsLost(lost)
            }
        });
        true
    };
    let (events, mmio) = (instance.events(), instance.mmio());
    let counts = cfg!(feature = "counts") && core.faults_count.load(Ordering::Relaxed);
    // What a guest causes in its own stage 1 is nobody's, and takes nobody's room.
    let counted = |record: &EventRecord| {
        // The field has 32 bits.
        counts && (record.s2() || !is_guests(platform, instance, StreamId(record.sid() as u32)))
    };
    match events.drain_while(platform, mmio, budget, &counted, &mut deliver) {
        Ok(more) => more,
        Err(inconsistent) => {
            sink(Report::BadIndex { register: inconsistent.register });
            false
        }
    }
}

/// Reports errors, each of which was acknowledged, and returns those other than a refused command.
fn errors<P: Platform>(
    platform: &P,
    instance: &Instance<P>,
    sink: &mut dyn FnMut(Report<P>),
) -> Gerror {
    let mmio = instance.mmio();
    let recovered = instance.commands().recover(platform, mmio);
    // Includes errors from which waiters have recovered on their own.
    let mut error = |command, code| sink(Report::CommandError { command, code });
    let forgotten = instance.commands().report_errors(platform, &mut error);
    if forgotten != 0 {
        sink(Report::ForgottenCommandErrors(forgotten));
    }
    if let Err(failure) = recovered {
        sink(Report::Failed(failure));
    }
    let active = instance.commands().acknowledge(platform, mmio);
    let name = &instance.config().name;
    if active.0 != 0 {
        platform.trace(&Trace::Errors { instance: name, active });
        sink(Report::GlobalError(active));
    }
    if active.eventq_abt_err() {
        instance.events().note_gap(platform);
        platform.trace(&Trace::Lost { instance: name, lost: Lost::Aborted });
        sink(Report::EventsLost(Lost::Aborted));
    }
    if active.priq_abt_err() && instance.page_requests().is_some() {
        page_group::aborted(platform, instance, sink);
    }
    if active.sfm_err() {
        // In service failure mode the SMMU carries out nothing any more.
        instance.commands().give_up();
        sink(Report::Failed(Failure::Service));
    }
    active
}

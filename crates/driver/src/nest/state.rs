// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a guest has been given of one instance: changed under the configuration mutex, with its masters, and read
//! without it, by its commands.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use smmuv3_formats::{Ste, StreamId, legality};

use crate::attach::{AttachError, Goal};
use crate::configuration::Configuration;
use crate::entry::{Stage2, Stream};
use crate::error::InstanceId;
use crate::features::{Features, IdRegisters};
use crate::instance::Instance;
use crate::iommu::Core;
use crate::nest::{Assignment, Guest, Illegal, Limits, Parent, Request, Streams};
use crate::place::{Slot, WITHOUT};
use crate::platform::Platform;
use crate::room::Room;
use crate::shared::{NoMemory, Shared, try_box};
use crate::space::Space;
use crate::targets::{Retired, Snapshot};

/// The SMMU of one guest, on one instance.
pub(crate) struct NestState {
    /// Number of the domain whose stage 2 it is over.
    pub(crate) space: usize,
    pub(crate) instance: InstanceId,
    shown: IdRegisters,
    /// The guest while it has no stream, hence no VMID of its own.
    pub(crate) blank: Guest,
    /// How many groups of page requests may wait for the guest's answer at once; 0 if it is shown none.
    pub(crate) page_requests: u32,
    pub(crate) given: Snapshot<Given>,
}

/// The guest's streams, and their tag.
#[derive(Default)]
pub(crate) struct Given {
    /// The guest with its VMID, while it has streams.
    pub(crate) guest: Option<Guest>,
    /// The guest's streams, in order of its numbers.
    rows: Vec<Assignment>,
    /// For each of `rows`, in the same order: the number from which on events of the stream are the guest's.
    since: Vec<AtomicU64>,
}

/// In `since`: no event of the stream is the guest's yet. Hardware has not confirmed that it reads the guest's entry,
/// so what it records may be about the former one.
const NOT_YET: u64 = u64::MAX;

impl Given {
    /// Whether hardware has confirmed that it reads the guest's entry of `host`.
    pub(crate) fn has_begun(&self, host: StreamId) -> bool {
        self.since(host).is_some_and(|since| since != NOT_YET)
    }

    /// The number from which on events of `host` are the guest's, if the stream is.
    pub(crate) fn since(&self, host: StreamId) -> Option<u64> {
        let rows = self.rows.iter().zip(&self.since);
        let mut of_it = rows.filter(|(row, _)| row.host == host);
        of_it.next().map(|(_, since)| since.load(Ordering::Acquire))
    }
}

impl Streams for Given {
    fn next(&self, guest: StreamId) -> Option<Assignment> {
        self.rows.as_slice().next(guest)
    }

    fn guest(&self, host: StreamId) -> Option<StreamId> {
        self.rows.as_slice().guest(host)
    }
}

impl NestState {
    /// For a guest that is shown `shown`, on an instance with `features`, over `tables`.
    pub(crate) fn new(
        space: usize,
        instance: InstanceId,
        features: &Features,
        tables: Stage2,
        (shown, page_requests): (IdRegisters, u32),
    ) -> Result<Result<Self, Illegal>, NoMemory> {
        let given = Snapshot::new(try_box(Given::default())?);
        let guest = guest(features, tables, shown);
        let page_requests = if shown.idr0.pri() { page_requests } else { 0 };
        Ok(guest.map(|blank| Self { space, instance, shown, blank, page_requests, given }))
    }

    /// Whether its devices may ask it for pages.
    pub(crate) const fn has_page_requests(&self) -> bool {
        self.page_requests != 0
    }

    /// The guest's streams without those of `host` and with `more`. If these `stay` with the guest, their events go on
    /// being its own.
    fn changed(
        &self,
        host: &[StreamId],
        more: impl ExactSizeIterator<Item = Assignment>,
        stay: bool,
    ) -> Result<Box<Given>, NoMemory> {
        let mut given = try_box(Given::default())?;
        let current = self.given.for_writer();
        let count = current.rows.len() + more.len();
        given.rows.room_exact(count)?;
        given.since.room_exact(count)?;
        given.rows.put_all(current.rows.iter().filter(|row| !host.contains(&row.host)).copied());
        given.rows.put_all(more);
        given.rows.sort_unstable();
        let Given { rows, since, .. } = &mut *given;
        since.put_all(rows.iter().map(|row| {
            let goes_on = stay || !host.contains(&row.host);
            let same = current.rows.contains(row) && goes_on;
            let before = current.since(row.host).filter(|_| same);
            AtomicU64::new(before.unwrap_or(NOT_YET))
        }));
        given.guest = current.guest.filter(|_| !given.rows.is_empty());
        Ok(given)
    }

    /// Notes that hardware has confirmed the guest's entries for the streams `host`: events from `number` on are the
    /// guest's. Under the configuration mutex.
    fn begin(&self, host: &[StreamId], number: u64) {
        let given = self.given.for_writer();
        for (row, since) in given.rows.iter().zip(&given.since) {
            if host.contains(&row.host) && since.load(Ordering::Relaxed) == NOT_YET {
                since.store(number, Ordering::Release);
            }
        }
    }

    /// Notes that the entries of the streams `host` are about to change: from here on no event of theirs is the
    /// guest's, not even earlier ones that nobody has asked about yet. Under the configuration mutex.
    fn end(&self, host: &[StreamId]) {
        let given = self.given.for_writer();
        for (row, since) in given.rows.iter().zip(&given.since) {
            if host.contains(&row.host) {
                since.store(NOT_YET, Ordering::Release);
            }
        }
    }

    /// The guest over `tables`, and the entry for what it asks.
    fn entry(
        &self,
        features: &Features,
        tables: Stage2,
        request: Request,
        limits: Limits,
    ) -> (Option<Guest>, Ste) {
        let guest = guest(features, tables, self.shown).ok();
        // Only the VMID differs from when the guest was judged, so `guest` is always there; otherwise the entry aborts.
        let request = if guest.is_some() { request } else { Request::Abort };
        let ste = request.encode(guest.as_ref().unwrap_or(&self.blank), limits);
        debug_assert_eq!(legality::ste(&ste, &features.implementation()), Ok(()));
        (guest, ste)
    }
}

fn guest(features: &Features, tables: Stage2, shown: IdRegisters) -> Result<Guest, Illegal> {
    let parent = Parent::new(Stream::Stage2(tables).encode(features), features)?;
    Guest::new(features, parent, shown)
}

/// What a guest asks of a master.
pub(crate) struct Nesting<P: Platform> {
    pub(crate) space: Shared<Space<P>>,
    pub(crate) state: Shared<NestState>,
    pub(crate) request: Request,
    /// The guest's number of each of the master's streams.
    pub(crate) streams: Vec<StreamId>,
}

/// What changes in what guests are given when a master changes, made ready beforehand.
pub(crate) struct Moves {
    enter: Option<(Shared<NestState>, Box<Given>)>,
    /// For guests that are to lose the master's streams: two, where an instance did not confirm an earlier change.
    leave: [Option<(Shared<NestState>, Box<Given>)>; 2],
}

impl Moves {
    pub(crate) fn prepare<P: Platform>(
        configuration: &Configuration<P>,
        master: usize,
        substream: u32,
        goal: &Goal<'_, P>,
    ) -> Result<Self, AttachError> {
        let state = configuration.masters.get(master).filter(|_| substream == WITHOUT);
        let Some(state) = state else {
            return Ok(Self { enter: None, leave: [None, None] });
        };
        let mut enter = None;
        if let Goal::Nest(nesting) = goal {
            let instance = state.instance;
            if nesting.state.instance != instance {
                return Err(AttachError::NestInstance { instance, nest: nesting.state.instance });
            }
            if nesting.streams.len() != state.streams.len() {
                let streams = state.streams.len();
                return Err(AttachError::GuestStreams { instance, streams });
            }
            let pairs = nesting.streams.iter().zip(&state.streams);
            let ats = state.ats().is_some();
            let rows = pairs.map(|(guest, host)| Assignment { guest: *guest, host: *host, ats });
            // Whether the streams were this guest's all along, so that their events are too.
            let had = state.nest.as_ref().is_some_and(|nest| nest.is(&nesting.state));
            let stay = had && state.nested.is_some() && matches!(state.own, Slot::At(_));
            let given = nesting.state.changed(&state.streams, rows, stay)?;
            for pair in given.rows.windows(2) {
                if let [one, next] = pair
                    && one.guest == next.guest
                {
                    return Err(AttachError::GuestStream { instance, stream: one.guest });
                }
            }
            enter = Some((nesting.state.clone(), given));
        }
        let mut leave = [None, None];
        for (slot, nest) in leave.iter_mut().zip([&state.nest, &state.former]) {
            let Some(nest) = nest else { continue };
            let entered = enter.as_ref().is_some_and(|(entered, _)| entered.is(nest));
            if !entered {
                *slot = Some((nest.clone(), nest.changed(&state.streams, [].into_iter(), false)?));
            }
        }
        Ok(Self { enter, leave })
    }

    /// Gives the guest of `goal` the master's streams, before its entries lead anywhere: a command of the guest that
    /// comes after a change of its tables finds them, or the SMMU finds the change (rule R5). Returns what the
    /// entries are to say.
    pub(crate) fn enter<P: Platform>(
        &mut self,
        configuration: &mut Configuration<P>,
        master: usize,
        features: &Features,
        tables: Option<Stage2>,
        goal: &Goal<'_, P>,
    ) -> (Option<Ste>, Option<Retired<Given>>) {
        let (Goal::Nest(nesting), Some(tables)) = (goal, tables) else { return (None, None) };
        let Some((state, mut given)) = self.enter.take() else { return (None, None) };
        let master_of = configuration.masters.get(master);
        let limits = master_of.map(|it| Limits { ats: it.ats(), stalls: it.stalls() });
        let limits = limits.unwrap_or_default();
        let (guest, ste) = state.entry(features, tables, nesting.request, limits);
        given.guest = guest;
        let retired = state.given.replace(given);
        if let Some(master) = configuration.masters.get_mut(master) {
            let before = master.nest.replace(state.clone());
            if let Some(before) = before.filter(|before| !before.is(&state)) {
                // Kept until the change is confirmed.
                master.former = Some(before);
            }
        }
        (Some(ste), Some(retired))
    }

    /// Hardware has confirmed the entries that say what `goal` asks for: from here on events of the master are its guest's. All
    /// that was recorded by the entries before is in the queue, or comes never (§4.2, CMD_SYNC).
    pub(crate) fn begin<P: Platform>(
        &self,
        core: &Core<P>,
        configuration: &Configuration<P>,
        instance: &Instance<P>,
        master: usize,
        goal: &Goal<'_, P>,
    ) {
        let Goal::Nest(nesting) = goal else { return };
        let Some(master) = configuration.masters.get(master) else { return };
        // A suspended SMMU has no registers to read; what it had recorded is gone when it wakes.
        let awake = !instance.commands().is_asleep();
        let mmio = awake.then(|| instance.mmio());
        nesting.state.begin(&master.streams, instance.events().next_number(&core.platform, mmio));
    }

    /// Before the master's entries say something else: from here on none of its events is that of a guest that is to lose its
    /// streams, although it has them until hardware has confirmed that.
    pub(crate) fn end<P: Platform>(&self, configuration: &Configuration<P>, master: usize) {
        let Some(master) = configuration.masters.get(master) else { return };
        for (state, _) in self.leave.iter().flatten() {
            state.end(&master.streams);
        }
    }

    /// Whether no guest has the master's streams that is to lose them.
    #[inline]
    pub(crate) fn leaves_nobody(&self) -> bool {
        self.leave.iter().all(Option::is_none)
    }

    /// The VMIDs of guests that have no stream once the master has left them. Nobody listens to them then: nothing of
    /// theirs may be cached.
    pub(crate) fn emptied(&self) -> [Option<u16>; 2] {
        self.leave.each_ref().map(|change| {
            let (state, given) = change.as_ref()?;
            let guest = state.given.for_writer().guest.filter(|_| given.guest.is_none());
            Some(guest?.parent().vmid())
        })
    }

    /// Takes the master's streams from the guests that had them, after its entries say something else.
    pub(crate) fn leave<P: Platform>(
        &mut self,
        configuration: &mut Configuration<P>,
        master: usize,
    ) -> [Option<Retired<Given>>; 2] {
        let leave = core::mem::take(&mut self.leave);
        leave.map(|change| {
            let (left, given) = change?;
            let retired = left.given.replace(given);
            if let Some(master) = configuration.masters.get_mut(master) {
                for nest in [&mut master.nest, &mut master.former] {
                    if nest.as_ref().is_some_and(|nest| nest.is(&left)) {
                        *nest = None;
                    }
                }
            }
            Some(retired)
        })
    }
}

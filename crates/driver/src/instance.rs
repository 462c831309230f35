// SPDX-License-Identifier: MIT OR Apache-2.0
//! One SMMU: found, enabled, told to forget (§17). How it is turned on and off is in `start`.

use core::borrow::BorrowMut;
use core::fmt;
use core::sync::atomic::AtomicBool;

use smmuv3_formats::command::{CfgiCd, CfgiSte};
use smmuv3_formats::{Command, StreamId, SubstreamId};

use crate::atos::Asking;
use crate::command_queue::{CommandQueue, Memory, Ticket};
use crate::ecmdq::Slots;
use crate::error::Failure;
use crate::event_queue::EventQueue;
use crate::features::{Features, IdRegisters, Unsupported};
#[cfg(feature = "alloc")]
use crate::gather::Gather;
use crate::invalidate::{self, Scope, Tag};
use crate::mutation::{LeftOut, Mutation};
use crate::platform::{Mmio as _, Platform};
use crate::pri_queue::PriQueue;
use crate::queue::Size;
use crate::refused::Refused;
use crate::runs::Runs;
#[cfg(feature = "alloc")]
use crate::silent::Silent;
#[cfg(feature = "alloc")]
use crate::stall::Pending;
use crate::stream_table::StreamTable;

#[cfg(feature = "alloc")]
mod adopt;
mod config;
mod power;
mod start;

pub use config::InstanceConfig;
pub(crate) use start::{NotStarted, cr1};

/// log2 of the largest queue of page requests: as many answers may be pending.
const MOST_REQUESTS: u32 = 12;

/// Whether what an SMMU itself accesses, tables and queues, is coherent with the CPUs' caches.
///
/// IDR0.COHACC says what the SMMU was built for, firmware what it was built into: a device tree by `dma-coherent`, the
/// IORT by its COHACC override. Where both disagree, firmware is right (§2.3, §19).
///
/// | | COHACC = 1 | COHACC = 0 |
/// |---|---|---|
/// | `Detected` | coherent | not coherent |
/// | `Yes` | coherent | coherent |
/// | `No` | not coherent | not coherent |
///
/// * *Coherent*: queues, stream table, contexts and walks are write-back, inner shareable (CR1, STE.S1CIR and CSH,
///   CD.IR0 and SH0). [`Frames::publish`](crate::Frames::publish) only has to order stores, and
///   [`Platform::allocate_coherent`] may return cacheable memory. Wrongly chosen, the SMMU reads stale tables.
/// * *Not coherent*: all of that is non-cacheable, outer shareable. `publish` has to clean caches, and
///   `allocate_coherent` returns uncached memory. Processes ([`Iommu::add_process`](crate::Iommu::add_process)), whose
///   tables nobody publishes, cannot be bound. Always right if the platform does both.
///
/// The platform serves all SMMUs. If one of them is not coherent, all are to be `No`: the memory of
/// `allocate_coherent` is then uncached, and an SMMU that accesses it as cacheable may not see what CPUs store, nor
/// they what it does. The DMA of devices is another matter: neither says anything about that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coherence {
    /// As IDR0.COHACC says.
    #[default]
    Detected,
    /// Coherent, whatever it says.
    Yes,
    /// Not coherent, whatever it says.
    No,
}

/// An SMMU whose features are known and that nothing has been written to yet.
#[must_use]
pub struct Probed<P: Platform> {
    mmio: P::Mmio,
    pub(crate) features: Features,
    config: InstanceConfig,
}

impl<P: Platform> fmt::Debug for Probed<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.config.name.as_str();
        f.debug_struct("Probed").field("name", &name).finish_non_exhaustive()
    }
}

/// Why an SMMU could not be taken into use, or back into it: by a reset, a resume; or not out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EnableError {
    /// No memory: for its tables and queues, or for what a reset or a removal lets go of.
    NoMemory,
    /// A handshake register did not follow within the deadline.
    Handshake {
        /// The register that was written.
        register: &'static str,
        /// What its acknowledgement should show.
        expected: u32,
        /// What it shows.
        read: u32,
    },
    /// Commands were not carried out: the first ones, or those by which it is to forget.
    Commands(Failure),
    /// The policy has no ASID left for the streams that are to be kept.
    NoAsid {
        /// Bits of the ASID that it would have to be.
        bits: u32,
    },
    /// No VMID is left for the streams that are to be kept, on an instance without stage 1.
    NoVmid,
    /// Adopted contexts have a tag that others have, or may come to have (§8.4). Nothing was changed.
    Tag {
        /// Its VMID.
        vmid: u16,
        /// Its ASID; `None` for any.
        asid: Option<u16>,
    },
    /// Masters use what was adopted: attach or detach them first.
    Claimed,
    /// There are as many instances as an `Iommu` can hold.
    TooManyInstances {
        /// How many that is.
        largest: usize,
    },
}

impl fmt::Display for EnableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMemory => f.write_str("no memory"),
            Self::Handshake { register, expected, read } => {
                write!(f, "{register} is not acknowledged: expected {expected:#x}, read {read:#x}")
            }
            Self::Commands(failure) => write!(f, "commands were not carried out: {failure}"),
            Self::NoAsid { bits } => write!(f, "all ASIDs of {bits} bits are in use"),
            Self::NoVmid => f.write_str("all VMIDs for stage 2 are in use"),
            Self::Tag { vmid, asid: Some(asid) } => {
                write!(f, "adopted contexts have ASID {asid} of VMID {vmid}, which is in use")
            }
            Self::Tag { vmid, asid: None } => {
                write!(f, "adopted streams have VMID {vmid}, which is this driver's")
            }
            Self::Claimed => f.write_str("masters use what was adopted"),
            Self::TooManyInstances { largest } => {
                write!(f, "there are {largest} instances already")
            }
        }
    }
}

impl core::error::Error for EnableError {}

/// Bytes of the two pages of registers.
const PAGES: u64 = 0x2_0000;

impl<P: Platform> Probed<P> {
    /// Reads the ID registers of the SMMU behind `mmio`.
    ///
    /// # Errors
    /// What makes the SMMU unusable for this driver, or as `config` says.
    // A call of its own, from which `config` comes back in one piece: else each move of it is one of all its fields.
    #[inline(never)]
    pub fn new(mmio: P::Mmio, config: InstanceConfig) -> Result<Self, Unsupported> {
        if !(6..=16).contains(&config.asid_bits) {
            return Err(Unsupported::AsidBits { asked: config.asid_bits });
        }
        // No SMMU has less than two pages, but for those that have the registers of the second in the first (§2.1).
        let bytes = mmio.bytes();
        if bytes < PAGES && !config.firmware.page_0_only {
            return Err(Unsupported::Pages { bytes });
        }
        let mut features = Features::decode(IdRegisters::read(&mmio))?;
        features.limit(&config);
        let probed = Self { mmio, features, config };
        let Self { features, config, .. } = &probed;
        features.can_do_without_stalls()?;
        config.messages.check(features)?;
        config.while_off.fits(features).map_err(Unsupported::WhileOff)?;
        Ok(probed)
    }

    /// What the SMMU can do.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// How it is to be used.
    pub fn config(&self) -> &InstanceConfig {
        &self.config
    }

    /// Takes the SMMU into use: every stream aborts until a master is attached.
    ///
    /// # Errors
    /// See [`EnableError`]. After [`EnableError::NoMemory`] the SMMU was not touched; after the others it is off, and
    /// aborts what it can be told to abort. Memory that it may still be reading, because it did not even confirm being
    /// off, is never freed.
    ///
    /// # Safety
    /// All methods of the instance, and of its parts, are given the same platform; and where they take registers, its own.
    /// Whoever has the instance answers for the commands that it is given: the message of a CMD_SYNC is written to any
    /// memory. It is started, stopped, suspended and resumed by one caller at a time.
    #[expect(clippy::result_large_err, reason = "the probe is handed back to be tried again")]
    pub unsafe fn enable(self, platform: &P) -> Result<Instance<P>, Refused<Self, EnableError>> {
        // SAFETY: the caller's promise, for this and the next.
        let Some(parts) = (unsafe { Parts::new(platform, &self, None) }) else {
            return Err(Refused { value: self, error: EnableError::NoMemory });
        };
        // SAFETY: as above.
        let instance = unsafe { self.build(platform, parts, |instance| instance) };
        match instance.start_first(platform, false) {
            Ok(()) => Ok(instance),
            // SAFETY: as above; nobody has used an entry.
            Err(NotStarted { error, off }) => unsafe {
                Err(Refused { value: instance.unbuild(platform, off), error })
            },
        }
    }

    /// Bits of a StreamID in the table that it will have.
    #[cfg(feature = "alloc")]
    pub(crate) fn stream_bits(&self) -> u32 {
        self.config.stream_table.bits(&self.features, self.features.sid_bits)
    }

    /// The instance, of which the SMMU is not told yet, with that memory for its tables and queues; `put` puts it where it is
    /// to be.
    ///
    /// # Safety
    /// As for [`Probed::enable`]. The memory was taken for this.
    pub(crate) unsafe fn build<R: BorrowMut<Instance<P>>>(
        self,
        platform: &P,
        parts: Parts,
        put: impl FnOnce(Instance<P>) -> R,
    ) -> R {
        let mut instance = put(Instance {
            commands: parts.commands.queue(self.features.largest_batch, self.config.deadline),
            events: parts.events,
            page_requests: parts.page_requests,
            streams: parts.streams,
            asking: Asking::new(),
            confirmed_off: AtomicBool::new(false),
            #[cfg(feature = "alloc")]
            pending: parts.pending,
            #[cfg(feature = "alloc")]
            gather: parts.gather,
            #[cfg(feature = "alloc")]
            silent: Silent::new(),
            left_out: LeftOut::default(),
            mmio: self.mmio,
            features: self.features,
            config: self.config,
        });
        // SAFETY: just made.
        unsafe { instance.borrow_mut().set_up(platform) };
        instance
    }
}

/// What takes memory of an instance.
pub(crate) struct Parts {
    commands: Memory,
    events: EventQueue,
    page_requests: Option<PriQueue>,
    streams: StreamTable,
    #[cfg(feature = "alloc")]
    pending: Pending,
    #[cfg(feature = "alloc")]
    gather: Gather,
}

impl Parts {
    /// Memory for what `probed` can do and is to do, with `table` as the stream table, or a new one. `None` if there is not
    /// enough: then none is taken.
    ///
    /// # Safety
    /// As for [`Probed::enable`].
    pub(crate) unsafe fn new<P: Platform>(
        platform: &P,
        Probed { features, config, .. }: &Probed<P>,
        table: Option<StreamTable>,
    ) -> Option<Self> {
        let requests = config.page_request_queue_log2.filter(|_| features.pri);
        let requests = requests.map(|log2| log2.min(features.page_request_queue_log2));
        let requests = requests.and_then(|log2| Size::new(log2.min(MOST_REQUESTS)));
        #[cfg(feature = "alloc")]
        let pending = Pending::new(features.most_stalls as usize).ok()?;
        #[cfg(feature = "alloc")]
        // At most 2^12 entries.
        let gather = Gather::new(requests.map_or(0, |size| size.entries() as u32)).ok()?;
        let commands = Size::new(features.command_queue_log2)?;
        let events = Size::new(features.event_queue_log2)?;
        // SAFETY: the caller's promise, for this and for those below.
        let commands = unsafe { Memory::new(platform, commands) }?;
        // SAFETY: as above.
        let events = unsafe { EventQueue::new(platform, events) };
        let shape = config.stream_table;
        // SAFETY: as above.
        let new = || unsafe { StreamTable::new(platform, features, shape, features.sid_bits) };
        let streams = events.as_ref().and_then(|_| table.or_else(new));
        let page_requests = match requests.filter(|_| streams.is_some()) {
            // SAFETY: as above.
            Some(size) => unsafe { PriQueue::new(platform, size) }.map(Some),
            None => Some(None),
        };
        match (events, streams, page_requests) {
            (Some(events), Some(streams), Some(page_requests)) => Some(Self {
                commands,
                events,
                page_requests,
                streams,
                #[cfg(feature = "alloc")]
                pending,
                #[cfg(feature = "alloc")]
                gather,
            }),
            (events, streams, _) => {
                // SAFETY: the SMMU was never told of them.
                unsafe {
                    commands.free(platform);
                    if let Some(events) = events {
                        events.free(platform);
                    }
                    if let Some(streams) = streams {
                        streams.free(platform);
                    }
                }
                None
            }
        }
    }
}

/// An SMMU in use.
pub struct Instance<P: Platform> {
    mmio: P::Mmio,
    features: Features,
    config: InstanceConfig,
    commands: CommandQueue,
    events: EventQueue,
    page_requests: Option<PriQueue>,
    streams: StreamTable,
    asking: Asking,
    /// It is suspended, and has confirmed that it is off: it is not accessed.
    confirmed_off: AtomicBool,
    /// Stalled transactions that were handed out.
    #[cfg(feature = "alloc")]
    pending: Pending,
    /// Page requests that were read.
    #[cfg(feature = "alloc")]
    gather: Gather,
    /// Devices that were cut off, of whom nobody was told yet.
    #[cfg(feature = "alloc")]
    silent: Silent,
    left_out: LeftOut,
}

impl<P: Platform> fmt::Debug for Instance<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.config.name.as_str();
        f.debug_struct("Instance").field("name", &name).finish_non_exhaustive()
    }
}

impl<P: Platform> Instance<P> {
    /// What the SMMU can do, as far as it is used.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// How it is used.
    pub fn config(&self) -> &InstanceConfig {
        &self.config
    }

    /// Its registers.
    pub fn mmio(&self) -> &P::Mmio {
        &self.mmio
    }

    pub(crate) fn asking(&self) -> &Asking {
        &self.asking
    }

    /// Its command queue.
    pub fn commands(&self) -> &CommandQueue {
        &self.commands
    }

    /// Leaves a step out, if that is one of its own.
    pub(crate) fn leave_out(&mut self, left_out: LeftOut) {
        self.left_out = left_out;
        self.commands.leave_out(left_out);
        self.events.leave_out(left_out);
    }

    /// Whether it leaves this step out.
    #[inline]
    pub(crate) const fn leaves_out(&self, step: Mutation) -> bool {
        self.left_out.is(step)
    }

    /// Its event queue.
    pub fn events(&self) -> &EventQueue {
        &self.events
    }

    /// Its queue of page requests, if it is to have one.
    pub fn page_requests(&self) -> Option<&PriQueue> {
        self.page_requests.as_ref()
    }

    #[cfg(feature = "alloc")]
    pub(crate) fn gather(&self) -> &Gather {
        &self.gather
    }

    #[cfg(feature = "alloc")]
    pub(crate) fn silent(&self) -> &Silent {
        &self.silent
    }

    #[cfg(feature = "alloc")]
    pub(crate) fn pending(&self) -> &Pending {
        &self.pending
    }

    /// Makes the queues do as the features and the configuration say.
    ///
    /// # Safety
    /// As for [`Probed::enable`]; nothing of the instance was used before.
    unsafe fn set_up(&mut self, platform: &P) {
        let Self { mmio, features, config, commands, events, page_requests, .. } = self;
        commands.set_name(config.name);
        commands.wait_for_devices(config.device_deadline);
        if let Some(slots) = Slots::of(features).filter(|_| cfg!(feature = "ecmdq")) {
            // At most one queue for each CPU, counting the command queue.
            let cpus = u32::try_from(platform.max_cpus().saturating_sub(1)).unwrap_or(u32::MAX);
            let most = config.enhanced_queues.min(slots.count()).min(cpus);
            let usable = slots.offsets(mmio).map(|(_, slot)| slot).take(most as usize);
            let count = slots.offsets(mmio).take(most as usize).count();
            // SAFETY: not used before; each slot is another queue's, within what `mmio` covers.
            unsafe { commands.add_beside(platform, count, usable) };
        }
        let completion = features.completion(config.completion);
        // SAFETY: not used before.
        unsafe { commands.tell_by(platform, completion, config.messages.sync) };
        if features.repeated_invalidation {
            commands.repeat();
        }
        // SAFETY: as above.
        unsafe { commands.judge_by(platform, features) };
        if features.page_0_only {
            events.move_to_page_0();
            page_requests.iter_mut().for_each(PriQueue::move_to_page_0);
        }
    }

    /// Its stream table.
    pub fn streams(&self) -> &StreamTable {
        &self.streams
    }

    /// Frees the memory and returns the registers.
    ///
    /// # Safety
    /// The SMMU is off: [`Instance::stop`] confirmed it. No [`Entry`](crate::update::Entry) of its stream table is used
    /// afterwards.
    pub unsafe fn dismantle(self, platform: &P) -> P::Mmio {
        let Self { mmio, commands, events, page_requests, streams, .. } = self;
        // SAFETY: the caller says that the SMMU is off, and that no entry is in use.
        unsafe {
            commands.free(platform);
            events.free(platform);
            if let Some(queue) = page_requests {
                queue.free(platform);
            }
            streams.free(platform);
        }
        mmio
    }

    /// Gives the SMMU `commands`, and waits until they are complete.
    ///
    /// # Errors
    /// As [`CommandQueue::carry_out`].
    #[inline]
    pub fn carry_out<C>(&self, platform: &P, commands: C) -> Result<(), Failure>
    where
        C: IntoIterator<Item = Command>,
        C::IntoIter: ExactSizeIterator + Clone,
    {
        self.commands.carry_out(platform, &self.mmio, commands)
    }

    /// As [`Instance::carry_out`], compiled once.
    pub(crate) fn carry_out_shared(
        &self,
        platform: &P,
        commands: impl ExactSizeIterator<Item = Command> + Clone,
    ) -> Result<(), Failure> {
        if cfg!(feature = "fast-paths") {
            self.commands.carry_out_shared(platform, &self.mmio, commands)
        } else {
            self.commands.carry_out_later(platform, &self.mmio, commands)
        }
    }

    /// Waits until the commands of `ticket` are complete.
    ///
    /// # Errors
    /// As [`CommandQueue::wait`].
    #[inline]
    pub fn wait(&self, platform: &P, ticket: Ticket) -> Result<(), Failure> {
        self.commands.wait(platform, &self.mmio, ticket)
    }

    /// The commands that make the SMMU forget translations of `tags`: always one batch.
    #[inline]
    pub fn invalidation<T>(&self, tags: T, scope: Scope) -> invalidate::Commands<T>
    where
        T: Iterator<Item = Tag> + Clone,
    {
        invalidate::commands(&self.features, tags, scope, self.commands.largest_batch())
    }

    /// Gives the SMMU [`Instance::invalidation`], and waits for room if need be. Where the queue
    /// [repeats](CommandQueue::repeats), it is to be called again once its ticket was waited for.
    ///
    /// # Errors
    /// As [`CommandQueue::submit`].
    pub fn invalidate(&self, platform: &P, tag: Tag, scope: Scope) -> Result<Ticket, Failure> {
        let mut commands = self.invalidation(core::iter::once(tag), scope);
        self.commands.submit(platform, &self.mmio, &mut commands)
    }

    /// As [`Instance::invalidate`], but waits for nothing: `None` when there is no room for it just now.
    ///
    /// # Errors
    /// As [`CommandQueue::try_submit`].
    pub fn try_invalidate(
        &self,
        platform: &P,
        tag: Tag,
        scope: Scope,
    ) -> Result<Option<Ticket>, Failure> {
        let mut commands = self.invalidation(core::iter::once(tag), scope);
        self.commands.try_submit(platform, &self.mmio, &mut commands)
    }

    /// Makes the SMMU read the stream table entries of `streams` anew, and what lies behind them: one command for each run of
    /// neighbours that is a power of two long and aligned (CFGI_STE_RANGE), and a CMD_SYNC for each batch.
    ///
    /// # Errors
    /// As [`Instance::carry_out`].
    pub fn forget_streams(&self, platform: &P, streams: &[StreamId]) -> Result<(), Failure> {
        if cfg!(feature = "fast-paths") {
            return self.carry_out_shared(platform, Runs::new(streams, true));
        }
        self.forget_each(platform, streams, CfgiSte::new().with_leaf(true).into())
    }

    /// Makes the SMMU read the level-1 descriptors on the way to `streams` anew, and what lies behind them: it may
    /// have kept that they were invalid (§8.2). Nothing to do where the stream table is linear.
    ///
    /// # Errors
    /// As [`Instance::carry_out`].
    pub fn forget_descriptors(&self, platform: &P, streams: &[StreamId]) -> Result<(), Failure> {
        if self.streams.split().is_none() {
            return Ok(());
        }
        if cfg!(feature = "fast-paths") {
            return self.carry_out_shared(platform, Runs::new(streams, false));
        }
        self.forget_each(platform, streams, CfgiSte::new().into())
    }

    /// Makes the SMMU read the contexts that `streams` have for `substream` anew: it keeps one a stream, even of a
    /// shared one. Where there are no substreams, that is number 0.
    ///
    /// # Errors
    /// As [`Instance::carry_out`].
    pub fn forget_contexts(
        &self,
        platform: &P,
        streams: &[StreamId],
        substream: SubstreamId,
    ) -> Result<(), Failure> {
        self.forget(platform, streams, substream, true)
    }

    /// Makes the SMMU read the level-1 descriptors anew that lead `streams` to the context of `substream`, and what
    /// lies behind them: it may have kept that they were invalid (§8.2).
    ///
    /// # Errors
    /// As [`Instance::carry_out`].
    pub fn forget_leaf(
        &self,
        platform: &P,
        streams: &[StreamId],
        substream: SubstreamId,
    ) -> Result<(), Failure> {
        self.forget(platform, streams, substream, false)
    }

    fn forget(
        &self,
        platform: &P,
        streams: &[StreamId],
        substream: SubstreamId,
        leaf: bool,
    ) -> Result<(), Failure> {
        let command = CfgiCd::new().with_ssid(u64::from(substream.0)).with_leaf(leaf);
        self.forget_each(platform, streams, command.into())
    }

    /// Gives the SMMU `command`, which names no stream, for each of `streams`.
    #[inline(never)]
    fn forget_each(
        &self,
        platform: &P,
        streams: &[StreamId],
        Command(words): Command,
    ) -> Result<(), Failure> {
        // StreamIDs are at the same place in all commands that name one of a configuration.
        let command = |sid: &StreamId| Command(CfgiSte(words).with_sid(u64::from(sid.0)).0);
        self.carry_out_shared(platform, streams.iter().map(command))
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;

// SPDX-License-Identifier: MIT OR Apache-2.0
//! One SMMU: found, enabled, told to forget, disabled (§17).

use core::fmt;

use smmuv3_formats::command::{CfgiCd, CfgiSte, TlbiEl2All, TlbiNsnhAll};
use smmuv3_formats::register::{
    CmdqBase, CmdqCons, CmdqProd, Cr0, Cr0Ack, Cr1, Cr2, EventqIrqCfg0, Gbpa, GerrorIrqCfg0,
    IrqCtrl, IrqCtrlAck, StrtabBase, StrtabBaseCfg,
};
use smmuv3_formats::{Command, StreamId, SubstreamId};

use crate::command_queue::{CommandQueue, Completion, Ticket};
use crate::error::Failure;
use crate::event_queue::EventQueue;
use crate::features::{Features, IdRegisters, Unsupported};
use crate::invalidate::{self, Scope, Tag};
use crate::platform::{Mmio, Platform};
use crate::queue::Size;
use crate::stream_table::{StreamTable, StreamTableShape};

/// How an SMMU is to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InstanceConfig {
    /// What reports call it.
    pub name: &'static str,
    /// log2 of the commands that the queue is to hold; less when the SMMU supports less.
    pub command_queue_log2: u32,
    /// log2 of the events that the queue is to hold; less when the SMMU supports less.
    pub event_queue_log2: u32,
    /// Streams beyond this many bits always abort, which is reported (C_BAD_STREAMID), and take no memory. All 32 can be
    /// had. See [`StreamTableShape`] for streams within that no master has.
    pub sid_bits: u32,
    /// How the stream table is laid out.
    pub stream_table: StreamTableShape,
    /// Use ASIDs of at most this many bits, although the SMMU may support more.
    pub asid_bits: u32,
    /// Nanoseconds that the SMMU may do nothing although it has something to do.
    pub deadline: u64,
    /// Raise the event queue's and the error interrupt (wired).
    pub interrupts: bool,
    /// How the SMMU tells of completed commands. With anything but [`Completion::Poll`], [`Platform::relax`] may wait for
    /// that; see there for what else it takes.
    pub completion: Completion,
    /// Take part in the TLB maintenance that CPUs broadcast, where the SMMU can (CR2.PTM = 0, §8.3). To be
    /// chosen only where broadcasts reach the SMMU. Processes can then have the CPU's ASID there.
    pub broadcast: bool,
}

impl InstanceConfig {
    /// Queues of 256 commands and 128 events, StreamIDs of up to 25 bits (for which a 2-level stream table takes at most
    /// 1 MiB, and 16 KiB for each 256 neighbouring streams in use; where the SMMU has linear ones only, 16 bits and
    /// 4 MiB at most), one second to answer, interrupts on, completion polled, broadcasts of CPUs ignored.
    pub const fn named(name: &'static str) -> Self {
        Self {
            name,
            command_queue_log2: 8,
            event_queue_log2: 7,
            sid_bits: 25,
            stream_table: StreamTableShape::Automatic,
            asid_bits: 16,
            deadline: 1_000_000_000,
            interrupts: true,
            completion: Completion::Poll,
            broadcast: false,
        }
    }
}

/// An SMMU whose features are known and that nothing has been written to yet.
#[must_use]
pub struct Probed<P: Platform> {
    mmio: P::Mmio,
    features: Features,
    config: InstanceConfig,
}

/// Why an SMMU could not be taken into use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EnableError {
    /// No memory for its tables and queues.
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
    /// The first commands were not carried out.
    Commands(Failure),
    /// The policy has no ASID left for the streams that are to be kept.
    NoAsid {
        /// Bits of the ASID that it would have to be.
        bits: u32,
    },
    /// There are as many instances as an `Iommu` can hold.
    TooManyInstances {
        /// How many that is.
        largest: usize,
    },
}

impl fmt::Display for EnableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMemory => f.write_str("no memory for tables and queues"),
            Self::Handshake { register, expected, read } => {
                write!(f, "{register} is not acknowledged: expected {expected:#x}, read {read:#x}")
            }
            Self::Commands(failure) => write!(f, "the first commands failed: {failure}"),
            Self::NoAsid { bits } => write!(f, "all ASIDs of {bits} bits are in use"),
            Self::TooManyInstances { largest } => {
                write!(f, "there are {largest} instances already")
            }
        }
    }
}

impl core::error::Error for EnableError {}

impl<P: Platform> Probed<P> {
    /// Reads the ID registers of the SMMU behind `mmio`.
    ///
    /// # Errors
    /// What makes the SMMU unusable for this driver.
    pub fn new(mmio: P::Mmio, config: InstanceConfig) -> Result<Self, Unsupported> {
        let mut features = Features::decode(IdRegisters::read(&mmio))?;
        features.asid_bits = features.asid_bits.min(config.asid_bits.clamp(6, 16));
        Ok(Self { mmio, features, config })
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
    /// See [`EnableError`]. The SMMU is off then, and aborts what it can be told to abort. Memory that it
    /// may still be reading, because it did not even confirm being off, is never freed.
    ///
    /// # Safety
    /// All methods of the instance, and of its parts, are given the same platform.
    #[expect(clippy::result_large_err, reason = "the probe is handed back to be tried again")]
    pub unsafe fn enable(self, platform: &P) -> Result<Instance<P>, (Self, EnableError)> {
        // SAFETY: the caller's promise, for both.
        let instance = unsafe { self.build(platform) }?;
        // SAFETY: as above; nobody has used an entry.
        let started = unsafe { instance.start_first(platform, false) };
        started.map_err(|NotStarted { probed, error, .. }| (probed, error))
    }

    /// Bits of a StreamID in the table that it will have.
    #[cfg(feature = "alloc")]
    pub(crate) fn stream_bits(&self) -> u32 {
        let log2 = self.config.sid_bits.min(self.features.sid_bits);
        self.config.stream_table.bits(&self.features, log2)
    }

    /// The instance, with memory for its tables and queues, of which the SMMU is not told yet.
    ///
    /// # Safety
    /// As for [`Probed::enable`].
    #[expect(clippy::result_large_err, reason = "the probe is handed back to be tried again")]
    pub(crate) unsafe fn build(self, platform: &P) -> Result<Instance<P>, (Self, EnableError)> {
        let Self { mmio, features, config } = self;
        let again = |mmio, error| Err((Self { mmio, features, config }, error));
        let size = |wanted: u32, most: u32| Size::new(wanted.min(most));
        let sizes = (
            // Room for one command and its CMD_SYNC at least.
            size(config.command_queue_log2.max(1), features.command_queue_log2),
            size(config.event_queue_log2, features.event_queue_log2),
        );
        let (Some(commands), Some(events)) = sizes else {
            return again(mmio, EnableError::NoMemory);
        };
        let sid_bits = config.sid_bits.min(features.sid_bits);
        // SAFETY: the caller's promise, for this and for those below.
        let commands = unsafe {
            CommandQueue::new(platform, commands, features.largest_batch, config.deadline)
        };
        let Some(commands) = commands else {
            return again(mmio, EnableError::NoMemory);
        };
        let commands = commands.telling(match config.completion {
            Completion::Event if !features.events => Completion::Poll,
            completion => completion,
        });
        // SAFETY: as above.
        let Some(events) = (unsafe { EventQueue::new(platform, events) }) else {
            // SAFETY: the SMMU was never told of it.
            unsafe { commands.free(platform) };
            return again(mmio, EnableError::NoMemory);
        };
        let shape = config.stream_table;
        // SAFETY: as above.
        let streams = unsafe { StreamTable::new(platform, &features, shape, sid_bits) };
        let Some(streams) = streams else {
            // SAFETY: as above.
            unsafe {
                events.free(platform);
                commands.free(platform);
            }
            return again(mmio, EnableError::NoMemory);
        };
        Ok(Instance { mmio, features, config, commands, events, streams })
    }
}

/// What is left of an instance that could not be started.
pub(crate) struct NotStarted<P: Platform> {
    pub(crate) probed: Probed<P>,
    pub(crate) error: EnableError,
    /// It confirmed that it is off. Otherwise it may be reading whatever its stream table leads to, for ever.
    #[cfg_attr(not(feature = "alloc"), expect(dead_code, reason = "nothing was led to"))]
    pub(crate) off: bool,
}

/// An SMMU in use.
pub struct Instance<P: Platform> {
    mmio: P::Mmio,
    features: Features,
    config: InstanceConfig,
    commands: CommandQueue,
    events: EventQueue,
    streams: StreamTable,
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

    /// Its command queue.
    pub fn commands(&self) -> &CommandQueue {
        &self.commands
    }

    #[cfg(feature = "mutation")]
    pub(crate) fn omit_sync(&mut self) {
        self.commands.omit_sync();
    }

    /// Its event queue.
    pub fn events(&self) -> &EventQueue {
        &self.events
    }

    /// Its stream table.
    pub fn streams(&self) -> &StreamTable {
        &self.streams
    }

    /// Resets the SMMU and enables it, with empty queues and caches. Entries of the stream table count from
    /// then on.
    ///
    /// # Errors
    /// See [`EnableError`].
    pub fn start(&self, platform: &P) -> Result<(), EnableError> {
        self.start_as(platform, false)
    }

    /// Starts the SMMU for the first time. If that fails, its memory is given back, unless it may be reading that.
    ///
    /// When it is `keeping` streams, whose entries lead to what they are to reach already, GBPA is left as it is until
    /// the SMMU is on: it decides what transactions do meanwhile. If it cannot be started, it stays so.
    ///
    /// # Safety
    /// All methods of the instance, and of its parts, are given the same platform. No entry of its stream table is used
    /// after an error.
    #[expect(clippy::result_large_err, reason = "the probe is handed back to be tried again")]
    pub(crate) unsafe fn start_first(
        self,
        platform: &P,
        keeping: bool,
    ) -> Result<Self, NotStarted<P>> {
        let Err(error) = self.start_as(platform, keeping) else { return Ok(self) };
        let (features, config) = (self.features, self.config);
        if !keeping {
            // The error is known already, and being off is all that the memory depends on.
            let _ = self.abort_while_off(platform);
        }
        let off = self.write_cr0(platform, Cr0::default()).is_ok();
        let mmio = if off {
            let _ = self.write_irq_ctrl(platform, IrqCtrl::default());
            // SAFETY: all enables of CR0 were acknowledged as 0. The memory was taken by `build`, and the caller
            // uses no entry.
            unsafe { self.dismantle(platform) }
        } else {
            // Tables and queues are never freed: hardware may be using them.
            self.mmio
        };
        Err(NotStarted { probed: Probed { mmio, features, config }, error, off })
    }

    /// Gives the memory back of an instance that was never started.
    ///
    /// # Safety
    /// As for [`Instance::start_first`].
    #[cfg(feature = "alloc")]
    pub(crate) unsafe fn unbuild(self, platform: &P) -> Probed<P> {
        let (features, config) = (self.features, self.config);
        // SAFETY: the SMMU was never told of it; the caller uses no entry.
        Probed { mmio: unsafe { self.dismantle(platform) }, features, config }
    }

    fn start_as(&self, platform: &P, keeping: bool) -> Result<(), EnableError> {
        // Until it works, whoever else has to do with it is told so at once.
        self.commands.give_up();
        let result = self.bring_up(platform, keeping);
        if result.is_err() {
            self.commands.give_up();
        }
        result
    }

    fn bring_up(&self, platform: &P, keeping: bool) -> Result<(), EnableError> {
        let mmio = &self.mmio;
        if !keeping {
            self.abort_while_off(platform)?;
        }
        self.write_cr0(platform, Cr0::default())?;
        self.write_irq_ctrl(platform, IrqCtrl::default())?;
        // Errors of whoever had the SMMU before us are not ours.
        if self.commands.forget_errors(platform, mmio).eventq_abt_err() {
            self.events.aborted(platform);
        }

        mmio.write32(Cr1::OFFSET, self.cr1().0);
        // With private TLB maintenance, broadcasts of CPUs are for their own ASIDs only.
        let private = !(self.config.broadcast && self.features.broadcast);
        mmio.write32(Cr2::OFFSET, Cr2::default().with_ptm(private).with_recinvsid(true).0);
        mmio.write64(StrtabBase::OFFSET, self.streams.base_register().0);
        mmio.write32(StrtabBaseCfg::OFFSET, self.streams.config_register().0);

        self.commands.restart(platform);
        mmio.write64(CmdqBase::OFFSET, self.commands.base_register().0);
        mmio.write32(CmdqProd::OFFSET, 0);
        mmio.write32(CmdqCons::OFFSET, 0);
        let mut cr0 = Cr0::default().with_cmdqen(true);
        self.write_cr0(platform, cr0)?;
        self.commands.resume();

        // Configuration before translations: what is still cached of the former could refill the latter.
        self.carry_out(platform, [Command::cfgi_all()]).map_err(EnableError::Commands)?;
        let all = [TlbiNsnhAll::new().into(), TlbiEl2All::new().into()];
        let worlds = if self.features.el2 { 2 } else { 1 };
        self.carry_out(platform, all.into_iter().take(worlds)).map_err(EnableError::Commands)?;

        self.events.restart(platform, mmio);
        cr0 = cr0.with_eventqen(true);
        self.write_cr0(platform, cr0)?;

        if self.features.registers.idr0.msi() {
            // Wired interrupts: no address, no message. The registers are unknown after reset.
            mmio.write64(GerrorIrqCfg0::OFFSET, 0);
            mmio.write64(EventqIrqCfg0::OFFSET, 0);
        }
        let enabled = self.config.interrupts;
        self.write_irq_ctrl(
            platform,
            IrqCtrl::default().with_gerror(enabled).with_eventq(enabled),
        )?;
        self.write_cr0(platform, cr0.with_smmuen(true))?;
        if keeping {
            // For when it is turned off or reset.
            self.abort_while_off(platform)?;
        }
        Ok(())
    }

    /// Turns the SMMU off; transactions abort from then on.
    ///
    /// # Errors
    /// [`EnableError::Handshake`] when it does not confirm: it may still be using its tables and queues. It
    /// counts as failed in any case.
    pub fn stop(&self, platform: &P) -> Result<(), EnableError> {
        self.commands.give_up();
        // Tried, not required: being off matters more.
        let _ = self.abort_while_off(platform);
        self.write_cr0(platform, Cr0::default())?;
        self.write_irq_ctrl(platform, IrqCtrl::default())
    }

    /// Frees the memory and returns the registers.
    ///
    /// # Safety
    /// The SMMU is off: [`Instance::stop`] confirmed it. No [`Entry`](crate::update::Entry) of its stream table is used
    /// afterwards.
    pub unsafe fn dismantle(self, platform: &P) -> P::Mmio {
        let Self { mmio, commands, events, streams, .. } = self;
        // SAFETY: the caller says that the SMMU is off, and that no entry is in use.
        unsafe {
            commands.free(platform);
            events.free(platform);
            streams.free(platform);
        }
        mmio
    }

    /// Gives the SMMU `commands`, and waits until they are complete.
    ///
    /// # Errors
    /// As [`CommandQueue::carry_out`].
    pub fn carry_out<C>(&self, platform: &P, commands: C) -> Result<(), Failure>
    where
        C: IntoIterator<Item = Command>,
        C::IntoIter: ExactSizeIterator,
    {
        self.commands.carry_out(platform, &self.mmio, commands)
    }

    /// Waits until the commands of `ticket` are complete.
    ///
    /// # Errors
    /// As [`CommandQueue::wait`].
    pub fn wait(&self, platform: &P, ticket: Ticket) -> Result<(), Failure> {
        self.commands.wait(platform, &self.mmio, ticket)
    }

    /// The commands that make the SMMU forget translations of `tags`: always one batch.
    pub fn invalidation<T>(&self, tags: T, scope: Scope) -> invalidate::Commands<T>
    where
        T: Iterator<Item = Tag> + Clone,
    {
        invalidate::commands(&self.features, tags, scope, self.commands.largest_batch())
    }

    /// Gives the SMMU [`Instance::invalidation`], and waits for room if need be.
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

    /// Makes the SMMU read the stream table entries of `streams` anew, and what lies behind them.
    ///
    /// # Errors
    /// As [`Instance::carry_out`].
    pub fn forget_streams(&self, platform: &P, streams: &[StreamId]) -> Result<(), Failure> {
        let command =
            |sid: &StreamId| CfgiSte::new().with_sid(u64::from(sid.0)).with_leaf(true).into();
        self.carry_out(platform, streams.iter().map(command))
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
        let command = |sid: &StreamId| CfgiSte::new().with_sid(u64::from(sid.0)).into();
        self.carry_out(platform, streams.iter().map(command))
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
        let command = |sid: &StreamId| command.with_sid(u64::from(sid.0)).into();
        self.carry_out(platform, streams.iter().map(command))
    }

    /// Attributes with which the SMMU accesses queues and the stream table.
    fn cr1(&self) -> Cr1 {
        const WRITE_BACK: u64 = 1;
        const INNER_SHAREABLE: u64 = 3;
        if !self.features.coherent {
            return Cr1::default();
        }
        Cr1::default()
            .with_queue_ic(WRITE_BACK)
            .with_queue_oc(WRITE_BACK)
            .with_queue_sh(INNER_SHAREABLE)
            .with_table_ic(WRITE_BACK)
            .with_table_oc(WRITE_BACK)
            .with_table_sh(INNER_SHAREABLE)
    }

    /// Makes transactions abort while SMMUEN is 0 (§2.4).
    fn abort_while_off(&self, platform: &P) -> Result<(), EnableError> {
        let read = || Gbpa(self.mmio.read32(Gbpa::OFFSET));
        let settled = |gbpa: u32| !Gbpa(gbpa).update();
        self.poll(platform, "GBPA", 0, Gbpa::OFFSET, settled)?;
        self.mmio.write32(Gbpa::OFFSET, read().with_abort(true).with_update(true).0);
        self.poll(platform, "GBPA", 0, Gbpa::OFFSET, settled)
    }

    fn write_cr0(&self, platform: &P, cr0: Cr0) -> Result<(), EnableError> {
        self.acknowledged(platform, "CR0", [Cr0::OFFSET, Cr0Ack::OFFSET], cr0.0)
    }

    fn write_irq_ctrl(&self, platform: &P, ctrl: IrqCtrl) -> Result<(), EnableError> {
        self.acknowledged(platform, "IRQ_CTRL", [IrqCtrl::OFFSET, IrqCtrlAck::OFFSET], ctrl.0)
    }

    /// Writes a register and waits until the one that acknowledges it shows the same (§2.4).
    fn acknowledged(
        &self,
        platform: &P,
        register: &'static str,
        [offset, acknowledgement]: [u32; 2],
        value: u32,
    ) -> Result<(), EnableError> {
        // A field whose last change is not acknowledged yet must not be changed again.
        let before = self.mmio.read32(offset);
        let still = |ack: u32| (ack ^ before) & (before ^ value) == 0;
        self.poll(platform, register, before, acknowledgement, still)?;
        self.mmio.write32(offset, value);
        self.poll(platform, register, value, acknowledgement, |ack| ack == value)
    }

    /// Reads the register at `offset` until `done` says that it settled.
    fn poll(
        &self,
        platform: &P,
        register: &'static str,
        expected: u32,
        offset: u32,
        done: impl Fn(u32) -> bool,
    ) -> Result<(), EnableError> {
        let begun = platform.now();
        loop {
            let read = self.mmio.read32(offset);
            if done(read) {
                return Ok(());
            }
            if platform.now().saturating_sub(begun) > self.config.deadline {
                return Err(EnableError::Handshake { register, expected, read });
            }
            platform.relax();
        }
    }
}

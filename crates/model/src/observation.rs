// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the model saw and did, in order; the judgement is somebody else's.

use core::fmt;

use smmuv3_formats::descriptor::Stage;
use smmuv3_formats::register::Gerror;
use smmuv3_formats::{Command, EventId, EventRecord, PageRequest};

use crate::ats::{Completion, TranslationRequest};
use crate::broadcast::Broadcast;
use crate::pri::Answered;
use crate::stall::{Answer, StallEnd};
use crate::tlb::{Stages, Tag};
use crate::transaction::Access;

/// One thing that happened. `position` numbers commands from 0, in the order they are consumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// A command was consumed from slot `index` (with wrap bit) of a command queue.
    Command {
        /// Number of the command.
        position: u64,
        /// Which queue: 0 is the command queue, enhanced ones follow.
        queue: usize,
        /// CMDQ_CONS.RD before.
        index: u32,
        /// The command.
        command: Command,
    },
    /// An invalidation took effect on the caches.
    Applied {
        /// Number of the command.
        position: u64,
        /// Entries of all caches that went.
        removed: usize,
    },
    /// A processor broadcast an invalidation, and it is complete (§8.3).
    Broadcast {
        /// What it was.
        broadcast: Broadcast,
        /// Entries that went; `None` when broadcasts are not taken: IDR0.BTM = 0 or CR2.PTM = 1.
        removed: Option<usize>,
    },
    /// A CMD_SYNC completed: every older command of its queue is complete (§4.2).
    SyncCompleted {
        /// Which queue.
        queue: usize,
        /// Number of the CMD_SYNC.
        position: u64,
    },
    /// A device had left a CMD_ATC_INV unanswered when a CMD_SYNC looked, which fails (CERROR_ATC_INV_SYNC, §3.2).
    Unanswered {
        /// Its stream.
        stream: u32,
    },
    /// An STE was fetched and is cached (§8.1).
    SteFetched {
        /// StreamID.
        stream: u32,
        /// The words, each as it was when it was read.
        words: [u64; 8],
        /// Where it is.
        pa: u64,
        /// Whether no transaction needed it.
        speculative: bool,
    },
    /// A CD was fetched and is cached (§8.1).
    CdFetched {
        /// StreamID through which it was reached.
        stream: u32,
        /// SubstreamID; 0 where there are none.
        substream: u32,
        /// The words, each as it was when it was read.
        words: [u64; 8],
        /// Where it is.
        pa: u64,
        /// Whether no transaction needed it.
        speculative: bool,
    },
    /// An L1CD was read and is cached, valid or not (§8.1).
    L1CdFetched {
        /// StreamID through which it was reached.
        stream: u32,
        /// Its index in the table.
        index: u32,
        /// What it says.
        word: u64,
        /// Where it is.
        pa: u64,
        /// Whether no transaction needed it.
        speculative: bool,
    },
    /// A table descriptor was read and is cached.
    WalkedTo {
        /// Tag of the entry.
        tag: Tag,
        /// First input address that it covers.
        va: u64,
        /// Level of the descriptor.
        level: i8,
        /// Physical address of the table that it points to.
        table: u64,
        /// Stream whose walk it was.
        stream: u32,
    },
    /// A leaf was read and is cached.
    TlbFilled {
        /// Number of the entry.
        id: u64,
        /// Tag of the entry.
        tag: Tag,
        /// Which stages it stands for.
        stages: Stages,
        /// First input address.
        va: u64,
        /// First output address.
        pa: u64,
        /// Bytes.
        size: u64,
        /// Whether an unprivileged write is permitted.
        write: bool,
        /// Table base of the walk.
        ttb: u64,
        /// Stream whose walk it was.
        stream: u32,
        /// Whether no transaction needed it.
        speculative: bool,
    },
    /// Hardware set flags in a leaf (§14).
    Updated {
        /// Stage of its table.
        stage: Stage,
        /// Physical address of the descriptor.
        pa: u64,
        /// What it was.
        from: u64,
        /// What it is.
        to: u64,
    },
    /// A walk ended, after what it cached.
    Walked {
        /// Stream whose walk it was.
        stream: u32,
        /// Input address.
        va: u64,
        /// Descriptors that it read.
        descriptors: u64,
        /// Why it found no mapping; `None` when it found one.
        fault: Option<EventId>,
        /// Whether no transaction needed it.
        speculative: bool,
    },
    /// An interrupt's message, or a CMD_SYNC's, was written to memory (§2.4).
    Message {
        /// Where.
        pa: u64,
        /// What.
        data: u32,
        /// Whether the memory refused it.
        aborted: bool,
    },
    /// A translation request was answered (§12.1).
    Requested {
        /// The request.
        request: TranslationRequest,
        /// The answer.
        completion: Completion,
    },
    /// A page request is in the PRI queue, or not (§13).
    PageRequested {
        /// As it is written.
        request: PageRequest,
        /// Whether it is in the queue.
        queued: bool,
    },
    /// Page requests are lost from here on, which the SMMU says once: by PRIQ_PROD.OVFLG, or where the queue could not be
    /// written by GERROR.PRIQ_ABT_ERR (§3.4).
    RequestsLost {
        /// The queue could not be written.
        aborted: bool,
    },
    /// A device got a response to a group of page requests (§13).
    PageResponse {
        /// StreamID.
        stream: u32,
        /// PASID of the response, if it has one.
        substream: Option<u32>,
        /// PRGIndex.
        index: u16,
        /// What it says.
        answer: Answered,
        /// The SMMU answered by itself.
        automatic: bool,
        /// The device has such a group, complete and without response, and the PASID is as it needs it.
        expected: bool,
    },
    /// An event is in the event queue.
    EventRecorded(EventRecord),
    /// An event is one with another in the event queue that says the same (§10.1).
    EventMerged(EventRecord),
    /// An event says the same as another in the event queue, and its stream does not let them be one (STE.MEV, §10.1): it is
    /// recorded besides, or lost.
    EventRepeated(EventRecord),
    /// CR0.EVENTQEN was acknowledged as 0: none is written to that queue any more (§2.4).
    EventQueueOff,
    /// Events are lost from here on, which the SMMU says once: by EVENTQ_PROD.OVFLG, or where the queue could not be
    /// written by GERROR.EVENTQ_ABT_ERR (§3.3).
    EventsLost {
        /// The queue could not be written.
        aborted: bool,
    },
    /// An event was lost (§3.3).
    EventDropped {
        /// The event.
        event: EventRecord,
        /// Why.
        because: Dropped,
    },
    /// A transaction stalled (§11).
    Stalled {
        /// Its number.
        id: u64,
        /// The access.
        access: Access,
        /// What the answer is to name; `None` when it waits for another one's.
        stag: Option<u16>,
    },
    /// A stalled transaction whose event is in the queue was answered.
    StallAnswered {
        /// Its stream.
        stream: u32,
        /// What its event named.
        stag: u16,
        /// By what.
        answer: Answer,
    },
    /// A stalled transaction ended, or began anew.
    StallEnded {
        /// Its number.
        id: u64,
        /// The access.
        access: Access,
        /// What became of it.
        end: StallEnd,
    },
    /// A held transfer went to memory.
    Performed {
        /// Its number.
        id: u64,
        /// The access.
        access: Access,
        /// Where it went.
        pa: u64,
        /// Bytes.
        bytes: usize,
        /// Whether a CMD_SYNC, or a broadcast invalidation, forced it.
        drained: bool,
        /// Whether the memory refused it.
        aborted: bool,
    },
    /// An error became active (§2.4); the value is the register's.
    Gerror(Gerror),
    /// A CD came into use whose tag other cached state with another table base carries (§8.1).
    TagConflict {
        /// The tag.
        tag: Tag,
        /// Table base of what was cached before.
        ttb_old: u64,
        /// Table base of the CD.
        ttb_new: u64,
        /// Stream through which the CD was reached.
        stream: u32,
    },
    /// An STE came into use whose VMID other cached state with another stage 2 carries (§8.1).
    VmidConflict {
        /// The VMID.
        vmid: u16,
        /// Table base of what was cached before.
        ttb_old: u64,
        /// Table base of the STE.
        ttb_new: u64,
        /// Its stream.
        stream: u32,
    },
    /// Software did what the architecture leaves unpredictable or ignores.
    Misuse(Misuse),
    /// Something is configured that the model lacks; whatever used it was terminated or ignored.
    Unsupported(&'static str),
}

/// Why an event was lost (§3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// EVENTQEN is 0.
    Disabled,
    /// The queue is full; OVFLG tells.
    Full,
    /// EVENTQ_ABT_ERR is active.
    Error,
    /// The memory of the queue refused it.
    Abort,
    /// It did not arrive, and PROD has moved on: an asynchronous abort.
    Late,
}

/// A software error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Misuse {
    /// A register was changed while its guard was set or in transition; ignored (§2.1).
    GuardedWrite {
        /// Offset of the register.
        offset: u32,
        /// Value that was ignored.
        value: u64,
    },
    /// A read-only or absent register was written; ignored.
    NotWritable {
        /// Offset.
        offset: u32,
    },
    /// Unaligned, or 64 bits at 32-bit registers; reads zero, writes are ignored (§2.1).
    BadAccess {
        /// Offset.
        offset: u32,
        /// Bytes.
        bytes: u32,
    },
    /// A register was accessed while the SMMU had no power.
    Unpowered {
        /// Offset.
        offset: u32,
    },
    /// The power went while it was translating, or took commands or wrote events (§17.4).
    PowerLost {
        /// CR0ACK.
        cr0: u32,
    },
    /// A field whose update is pending was given another value; ignored (§2.4).
    PendingUpdate {
        /// Offset of the register.
        offset: u32,
    },
    /// GBPA was written without Update, or during an update; ignored (§2.4).
    GbpaWithoutUpdate,
    /// Bits of a register that mean nothing here were set; ignored.
    ReservedRegisterBits {
        /// Offset of the register.
        offset: u32,
        /// The bits.
        bits: u32,
    },
    /// A bit of GERRORN was toggled although the error is not active; ignored (§2.4).
    InactiveError {
        /// The bits.
        bits: u32,
    },
    /// The indices of a queue are neither empty, full nor between; the queue stands still (§3.1).
    InconsistentIndex {
        /// `CMDQ`, `ECMDQ`, `EVENTQ` or `PRIQ`.
        queue: &'static str,
        /// Producer index.
        prod: u32,
        /// Consumer index.
        cons: u32,
    },
    /// CMDQ_PROD went back while commands may have been consumed (§3.1).
    ProducerMovedBack {
        /// Before.
        from: u32,
        /// After.
        to: u32,
    },
    /// A command was changed after CMDQ_PROD had passed it; the first version was executed (§3.1).
    CommandRewritten {
        /// Index of the slot.
        index: u32,
    },
    /// A base address is not aligned to what it points to; low bits are dropped (§2.5).
    Misaligned {
        /// Offset of the register.
        offset: u32,
        /// The value.
        value: u64,
    },
    /// A command has bits where it has no field (§4).
    ReservedCommandBits {
        /// The command.
        command: Command,
    },
    /// An ASID is wider than the instance's; nothing was invalidated (§4.2).
    AsidTooWide {
        /// The ASID.
        asid: u16,
    },
    /// A VMID is wider than the instance's, or not zero without stage 2; nothing was invalidated (§4.2).
    VmidTooWide {
        /// The VMID.
        vmid: u16,
    },
    /// A command names a stream or substream that cannot exist; it did nothing (§4).
    NoSuchStream {
        /// StreamID.
        stream: u32,
        /// SubstreamID.
        substream: u32,
    },
    /// A range invalidation is not aligned as its TTL demands, or its fields mean nothing here; nothing was
    /// invalidated (§4.2).
    BadRange {
        /// The command.
        command: Command,
    },
    /// The address of an invalidation is not an address; nothing was invalidated (§4.2).
    AddressOutOfRange {
        /// The command.
        command: Command,
    },
    /// A leaf was cached over another one of the same tag with another level (§8.2).
    Overlap {
        /// The tag.
        tag: Tag,
        /// First input address of the new entry.
        va: u64,
        /// Bytes of the new entry.
        size: u64,
    },
    /// A valid descriptor that was cached was replaced by another valid one, and not invalid until an
    /// invalidation was complete, although the output, the memory type, or with this IDR3.BBML the size is
    /// another (§8.2).
    WithoutBreak {
        /// The tag.
        tag: Tag,
        /// First input address of what was cached; intermediate, with ASID 0, for a leaf of stage 2.
        va: u64,
        /// The descriptor as it was cached.
        from: u64,
        /// The descriptor in its place.
        to: u64,
    },
    /// The valid members of a contiguous group do not all have the hint, successive outputs and the same
    /// attributes (§8.2).
    BrokenGroup {
        /// The tag.
        tag: Tag,
        /// First input address of the group.
        va: u64,
    },
    /// CMD_RESUME names no stalled transaction whose event is in the queue, or one that was answered before; it did
    /// nothing (§11).
    UnknownStall {
        /// StreamID.
        stream: u32,
        /// The STAG.
        stag: u16,
    },
    /// CMD_STALL_TERM of a stream whose STE does not terminate everything (§11).
    StallTermEarly {
        /// StreamID.
        stream: u32,
    },
    /// Two cached STEs of one VMID differ in what the TLB may cache of stage 2 (§8.1).
    VmidDisagreement {
        /// The VMID.
        vmid: u16,
        /// Stream of the newer STE.
        stream: u32,
    },
    /// A stream of stage 1 alone and one of both stages have the same VMID: they hit each other's entries (§1).
    VmidOfBoth {
        /// The VMID.
        vmid: u16,
        /// Stream of the newer STE.
        stream: u32,
    },
    /// A valid L1CD does not point to the beginning of a leaf; low bits are dropped (§6).
    MisalignedContexts {
        /// StreamID through which it was reached.
        stream: u32,
        /// Index of the L1CD.
        index: u32,
        /// Its pointer.
        pointer: u64,
    },
    /// Two cached CDs of one tag and table base differ in what the TLB may cache (§8.1). A half that one of
    /// them disables (EPDx) is not compared.
    TagDisagreement {
        /// The tag.
        tag: Tag,
        /// Stream of the newer CD.
        stream: u32,
    },
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GuardedWrite { offset, value } => {
                write!(f, "register {offset:#x} was written ({value:#x}) while it is in use")
            }
            Self::NotWritable { offset } => write!(f, "register {offset:#x} cannot be written"),
            Self::BadAccess { offset, bytes } => {
                write!(f, "an access of {bytes} bytes at {offset:#x} fits no register")
            }
            Self::Unpowered { offset } => {
                write!(f, "the register at {offset:#x} was accessed without power")
            }
            Self::PowerLost { cr0 } => write!(f, "the power went while CR0ACK was {cr0:#x}"),
            Self::PendingUpdate { offset } => {
                write!(
                    f,
                    "register {offset:#x} was changed before its last change was acknowledged"
                )
            }
            Self::GbpaWithoutUpdate => f.write_str("GBPA was written without Update"),
            Self::ReservedRegisterBits { offset, bits } => {
                write!(f, "register {offset:#x} does not have the bits {bits:#x}")
            }
            Self::InactiveError { bits } => {
                write!(f, "GERRORN acknowledged errors that are not active: {bits:#x}")
            }
            Self::InconsistentIndex { queue, prod, cons } => {
                write!(f, "{queue} cannot hold PROD {prod:#x} and CONS {cons:#x}")
            }
            Self::ProducerMovedBack { from, to } => {
                write!(f, "CMDQ_PROD went back from {from:#x} to {to:#x}")
            }
            Self::CommandRewritten { index } => {
                write!(f, "command {index:#x} was written after CMDQ_PROD had passed it")
            }
            Self::Misaligned { offset, value } => {
                write!(f, "the base in register {offset:#x} is not aligned: {value:#x}")
            }
            Self::ReservedCommandBits { command } => write!(f, "{command} has reserved bits set"),
            Self::AsidTooWide { asid } => write!(f, "ASID {asid:#x} does not exist here"),
            Self::VmidTooWide { vmid } => write!(f, "VMID {vmid:#x} does not exist here"),
            Self::NoSuchStream { stream, substream } => {
                write!(f, "stream {stream:#x}, substream {substream:#x} does not exist here")
            }
            Self::BadRange { command } => write!(f, "{command} names no range"),
            Self::AddressOutOfRange { command } => write!(f, "{command} names no address"),
            Self::Overlap { tag, va, size } => {
                write!(f, "{tag}: {size:#x} bytes at {va:#x} overlap what is cached already")
            }
            Self::WithoutBreak { tag, va, from, to } => write!(
                f,
                "{tag}: the descriptor for {va:#x} was changed from {from:#x} to {to:#x} without a break"
            ),
            Self::BrokenGroup { tag, va } => {
                write!(f, "{tag}: the contiguous group at {va:#x} is not one")
            }
            Self::UnknownStall { stream, stag } => {
                write!(
                    f,
                    "no transaction of stream {stream:#x} with STAG {stag:#x} waits for an answer"
                )
            }
            Self::StallTermEarly { stream } => {
                write!(f, "CMD_STALL_TERM of stream {stream:#x}, which can still stall")
            }
            Self::VmidDisagreement { vmid, stream } => {
                write!(f, "VMID {vmid:#x}: stage 2 of stream {stream:#x} differs from a cached one")
            }
            Self::VmidOfBoth { vmid, stream } => write!(
                f,
                "VMID {vmid:#x} of stream {stream:#x} is that of streams with and without stage 2"
            ),
            Self::MisalignedContexts { stream, index, pointer } => {
                write!(f, "L1CD {index:#x} of stream {stream:#x} is not aligned: {pointer:#x}")
            }
            Self::TagDisagreement { tag, stream } => {
                write!(f, "{tag}: the context of stream {stream:#x} differs from a cached one")
            }
        }
    }
}

/// Counters since the model was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Transactions that were asked for.
    pub transactions: u64,
    /// Translations that a cached entry answered, faults by it included.
    pub tlb_hits: u64,
    /// Translations that no cached entry answered.
    pub tlb_misses: u64,
    /// Walks of tables, speculative ones included.
    pub walks: u64,
    /// Descriptors that walks read.
    pub descriptors: u64,
    /// Leaves in which flags were set.
    pub updates: u64,
    /// Transactions that stalled.
    pub stalls: u64,
    /// Transactions that were refused.
    pub faults: u64,
    /// STEs and CDs that were fetched.
    pub configuration_fetches: u64,
    /// Entries that were fetched without need.
    pub speculative: u64,
    /// Translation requests of devices.
    pub requests: u64,
    /// Page requests of devices.
    pub page_requests: u64,
    /// Commands consumed.
    pub commands: u64,
    /// Broadcast invalidations that were taken.
    pub broadcasts: u64,
    /// Held transfers that a CMD_SYNC, or a broadcast, forced.
    pub drained: u64,
}

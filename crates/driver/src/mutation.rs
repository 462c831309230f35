// SPDX-License-Identifier: MIT OR Apache-2.0
//! Steps that a test can leave out, to see that the oracle notices (feature `mutation`). Without the feature none is, as the
//! compiler knows: what asks for one here leaves nothing behind.

#[cfg(feature = "alloc")]
mod wrong;

use smmuv3_formats::Command;

/// Which step is left out, if any.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LeftOut(#[cfg(feature = "mutation")] pub(crate) Option<Mutation>);

impl LeftOut {
    /// What becomes of a command that is about to be placed.
    #[cfg(feature = "mutation")]
    pub(crate) fn given(self, command: Command) -> Command {
        use smmuv3_formats::Opcode;
        use smmuv3_formats::command::{ALL_STREAMS, CfgiSte, CfgiSteRange, TlbiNhVa};

        let ranges = [Opcode::TlbiNhVa, Opcode::TlbiNhVaa, Opcode::TlbiEl2Va, Opcode::TlbiS2Ipa];
        let opcode = command.opcode();
        if self.is(Mutation::ShortStreams) && opcode == Some(Opcode::CfgiSteRange) {
            let all = CfgiSteRange(command.0);
            return match all.range() {
                0 => CfgiSte::new().with_sid(all.sid()).with_leaf(true).into(),
                ALL_STREAMS => command,
                range => all.with_range(range - 1).into(),
            };
        }
        if !opcode.is_some_and(|opcode| ranges.contains(&opcode)) {
            return command;
        }
        // These fields are at the same places in all of them.
        let range = TlbiNhVa(command.0);
        let short = match (range.num(), range.scale()) {
            (num @ 1.., _) if self.is(Mutation::ShortNum) => range.with_num(num - 1),
            (_, scale @ 1..) if self.is(Mutation::ShortScale) => range.with_scale(scale - 1),
            _ => return command,
        };
        // A single page whose level is not said is reserved.
        let single = short.ttl() == 0 && short.num() == 0 && short.scale() == 0;
        if single { command } else { Command(short.0) }
    }

    /// What becomes of a command that is about to be placed.
    #[cfg(not(feature = "mutation"))]
    #[inline(always)]
    pub(crate) const fn given(self, command: Command) -> Command {
        command
    }

    /// Whether it is `step`.
    #[cfg(feature = "mutation")]
    #[inline]
    pub(crate) const fn is(self, step: Mutation) -> bool {
        // Numbers, since two of them cannot be compared in a constant otherwise.
        matches!(self.0, Some(left_out) if left_out as u8 == step as u8)
    }

    /// Whether it is `step`.
    #[cfg(not(feature = "mutation"))]
    #[inline(always)]
    pub(crate) const fn is(self, _: Mutation) -> bool {
        false
    }
}

/// A step of the driver without which a rule is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "mutation"),
    allow(dead_code, reason = "parts may be left out that have these")
)]
#[non_exhaustive]
pub enum Mutation {
    /// The configuration is invalidated before, not after, the entry is written.
    CfgiBeforeSte,
    /// The configuration is not invalidated.
    NoCfgi,
    /// Translations are not invalidated.
    NoTlbi,
    /// Translations of another ASID are invalidated.
    WrongAsid,
    /// Translations of EL2 are invalidated as if they were of EL1.
    El2AsEl1,
    /// Only the first instance of a domain is invalidated.
    OneInstanceOnly,
    /// Unlinked tables are freed before the invalidation.
    FreeBeforeSync,
    /// A live stream table entry is rewritten word by word.
    WordByWord,
    /// Nobody waits for completion: there is no CMD_SYNC.
    NoSync,
    /// A tag is given back without an invalidation.
    NoTagFlush,
    /// Only leaves are invalidated although tables were unlinked.
    LeafOnly,
    /// A level-1 descriptor is not invalidated although it became valid.
    NoL1Cfgi,
    /// The same of a table of contexts, or although it leads to another leaf.
    NoLeafCfgi,
    /// Contexts get a new tag before the targets name it.
    TagBeforeTarget,
    /// Translations of stage 2 are invalidated under another VMID.
    WrongVmid,
    /// They are invalidated as if they were of stage 1.
    Stage2ByAsid,
    /// A VMID of stage 2 is given back without an invalidation.
    NoVmidFlush,
    /// Devices are not told to forget what they keep.
    NoAtcInv,
    /// They are told before the SMMU has forgotten it.
    AtcBeforeSync,
    /// A device that is to be given intermediate addresses is given physical ones, of whose end nobody tells it.
    SplitAsFull,
    /// Such a device is not told to forget when its entry becomes another.
    SplitKept,
    /// ATS that is to be always on is off under identity.
    AtsUnderTables,
    /// Entries of identity with ATS get the bank of their first context no sooner than anything else in them.
    LateVmid,
    /// ATS is switched on in a device before its stream allows it, and off after it does not any more.
    DeviceFirst,
    /// Nobody is told of devices that were cut off.
    NoQuarantineReport,
    /// What was read as written, and made clean, is not invalidated.
    NoDirtyTlbi,
    /// What was read as accessed, and made so no more, is not invalidated.
    NoAccessedTlbi,
    /// What was written is read, and made clean, before it is unmapped, not by that.
    DirtyBeforeUnmap,
    /// Stalled transactions stay pending when what they are subject to goes.
    NoStallEnd,
    /// A stalled transaction is answered by the number of another.
    WrongStag,
    /// Groups of page requests stay pending when what they ask of goes.
    NoPageEnd,
    /// Answers to page requests lack the PASID that devices need.
    NoResponsePasid,
    /// A CMD_SYNC is placed in another queue than the commands that it is to complete.
    SyncElsewhere,
    /// Where interrupts are written to is said only after they are on.
    LateMessages,
    /// Events and page requests raise no interrupt.
    NoQueueInterrupts,
    /// What is cached of both stages together is not invalidated when a stage 2 under a guest changes.
    NoGuestFlush,
    /// It is invalidated before, not after, what is cached of the stage 2.
    GuestFlushFirst,
    /// A guest's invalidations are those of the VMID that it names itself.
    GuestsVmid,
    /// What a guest says of a stream, contexts and what its device keeps, is said of another.
    GuestsStream,
    /// What guests' devices are refused is recorded each time, and never merged.
    NoMerging,
    /// A guest's answers to stalls are forwarded as they are, whatever it is shown.
    GuestsAnswer,
    /// What a guest is to answer stays its own to answer when what it is subject to goes.
    GuestsStalls,
    /// A guest's answers to page requests are forwarded as they are, whatever it is shown.
    GuestsPages,
    /// Groups that a guest is to answer stay its own to answer when what they ask of goes.
    GuestsGroups,
    /// A guest is told of what a device was refused before it was the guest's.
    EventsBefore,
    /// What a guest says of a PASID, its context and what its device keeps, is said of another.
    GuestsPasid,
    /// What leads to a guest's context is not forgotten with it.
    GuestsLeaf,
    /// Accesses without a PASID have the first of a guest's contexts, whatever its entry says.
    GuestsFirst,
    /// Commands that a guest's SMMU does not accept are forwarded as they are.
    GuestsCommands,
    /// What a guest's commands come to is forgotten where one behind them is not accepted.
    GuestsBatch,
    /// An entry of a guest's that its SMMU does not accept is taken for one that bypasses.
    GuestsEntry,
    /// An SMMU wakes without its caches being emptied.
    NoWakeFlush,
    /// Invalidations are left out while the SMMU is being suspended, and still translates.
    SleepWhileOn,
    /// A group of contiguous leaves keeps its hint when a part of it is unmapped.
    KeepHint,
    /// Of such a group only the part that is unmapped is invalidated.
    PartOfGroup,
    /// A block is not marked before a table takes its place.
    NoNt,
    /// Pages that were unmapped are not published to SMMUs that do not snoop.
    NoPublish,
    /// A run of streams is invalidated but for its second half.
    ShortStreams,
    /// Of a range a command says one page, or a power of two of them, less (NUM).
    ShortNum,
    /// Of a range a command says half (SCALE).
    ShortScale,
    /// Whatever is mapped may be executed.
    Executable,
    /// Contexts of domains with all types have the types of those with few.
    DefaultMair,
    /// Types are not forced where they should be (S2FWB).
    NoForcedTypes,
    /// What passes while an SMMU is off has the attributes that it comes with.
    NoGbpaAttributes,
    /// An SMMU that has to be told twice is told once.
    NoRepeat,
    /// Events that were handed over are not counted.
    UncountedEvents,
    /// Ranges that were unmapped are not counted.
    UncountedUnmaps,
    /// A counter goes on from what was in it before.
    OldCount,
    /// A counter of several streams counts half of them.
    ShortSpan,
    /// Tags of what was taken over from another kernel are given out.
    ReuseLiveTag,
    /// What was taken over is not ended when its master is detached.
    NoAdoptedEnd,
    /// Tags of what was taken over are given back without an invalidation.
    NoAdoptedFlush,
    /// What is not translated is aborted while kept streams are not yet.
    AbortKept,
    /// What an address translates to is read before the SMMU has answered.
    EarlyAnswer,
    /// Several may ask an SMMU at once.
    NoAskingLock,
    /// A part that broadcasts do not reach reliably takes part in them.
    BroadcastsTaken,
    /// A part that bears only so many commands before a CMD_SYNC is given more.
    WholeBatches,
    /// A part whose events for WFE get lost is asked for them.
    EventsAsked,
}

#[cfg(feature = "mutation")]
impl Mutation {
    /// Every mutation that takes no guest to be noticed.
    pub const ALL: [Self; 55] = [
        Self::CfgiBeforeSte,
        Self::NoCfgi,
        Self::NoTlbi,
        Self::WrongAsid,
        Self::El2AsEl1,
        Self::OneInstanceOnly,
        Self::FreeBeforeSync,
        Self::WordByWord,
        Self::NoSync,
        Self::NoTagFlush,
        Self::LeafOnly,
        Self::NoL1Cfgi,
        Self::NoLeafCfgi,
        Self::TagBeforeTarget,
        Self::WrongVmid,
        Self::Stage2ByAsid,
        Self::NoVmidFlush,
        Self::NoAtcInv,
        Self::AtcBeforeSync,
        Self::SplitAsFull,
        Self::SplitKept,
        Self::AtsUnderTables,
        Self::LateVmid,
        Self::DeviceFirst,
        Self::NoQuarantineReport,
        Self::NoDirtyTlbi,
        Self::NoAccessedTlbi,
        Self::DirtyBeforeUnmap,
        Self::NoStallEnd,
        Self::WrongStag,
        Self::NoPageEnd,
        Self::NoResponsePasid,
        Self::SyncElsewhere,
        Self::LateMessages,
        Self::NoQueueInterrupts,
        Self::NoWakeFlush,
        Self::SleepWhileOn,
        Self::KeepHint,
        Self::PartOfGroup,
        Self::NoNt,
        Self::NoPublish,
        Self::ShortStreams,
        Self::ShortNum,
        Self::ShortScale,
        Self::Executable,
        Self::DefaultMair,
        Self::NoForcedTypes,
        Self::NoGbpaAttributes,
        Self::NoRepeat,
        Self::ReuseLiveTag,
        Self::NoAdoptedEnd,
        Self::NoAdoptedFlush,
        Self::AbortKept,
        Self::EarlyAnswer,
        Self::NoAskingLock,
    ];

    /// Every one that takes a part with errata to be noticed.
    pub const OF_PARTS: [Self; 3] = [Self::BroadcastsTaken, Self::WholeBatches, Self::EventsAsked];

    /// Every one that breaks no rule, but makes numbers wrong.
    pub const OF_NUMBERS: [Self; 4] =
        [Self::UncountedEvents, Self::UncountedUnmaps, Self::OldCount, Self::ShortSpan];

    /// Every one that takes a guest to be noticed.
    pub const OF_GUESTS: [Self; 6] = [
        Self::NoGuestFlush,
        Self::GuestFlushFirst,
        Self::GuestsVmid,
        Self::GuestsStream,
        Self::NoMerging,
        Self::EventsBefore,
    ];

    /// Every one that takes a guest whose devices use PASIDs.
    pub const OF_GUESTS_PASIDS: [Self; 3] =
        [Self::GuestsPasid, Self::GuestsLeaf, Self::GuestsFirst];

    /// Every one that takes a guest that misbehaves.
    pub const OF_HOSTILE_GUESTS: [Self; 3] =
        [Self::GuestsCommands, Self::GuestsBatch, Self::GuestsEntry];

    /// Every one that takes a guest that is shown stalls.
    pub const OF_GUESTS_STALLS: [Self; 2] = [Self::GuestsAnswer, Self::GuestsStalls];

    /// Every one that takes a guest that is shown page requests.
    pub const OF_GUESTS_PAGES: [Self; 2] = [Self::GuestsPages, Self::GuestsGroups];
}

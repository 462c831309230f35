// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scenarios: which instances, masters, domains and memory there are, and what is done with them.
//!
//! A scenario is a TOML file (`docs/scenarios.md` describes every key). It is checked when it is
//! read: all mistakes are reported at once, each with file, line, column and what would be right.
//! What a machine can't do is asked with [`Scenario::check_for`] before the machine is started.
//!
//! ```
//! use smmuv3_testbench::scenario::{Capabilities, Scenario};
//!
//! let text = r#"
//!     name = "smallest"
//!     instance = [{ name = "smmu0", asid-bits = 8 }]
//!     master = [{ name = "nic", instance = "smmu0", streams = [0x900] }]
//!     domain = [{ name = "d" }]
//!     memory = [{ name = "rx", size = "16K" }]
//!     step = [
//!         { attach = { master = "nic", domain = "d" } },
//!         { map = { domain = "d", iova = 0x10000, memory = "rx" } },
//!         { write = { master = "nic", iova = 0x10000, data = "abcd" } },
//!         { expect-data = { memory = "rx", data = "abcd" } },
//!     ]
//! "#;
//! let scenario = Scenario::parse(text, "smallest.toml").unwrap();
//! scenario.check_for(&Capabilities::model()).unwrap();
//!
//! let errors = Scenario::parse(&text.replace("\"rx\" }", "\"xr\" }"), "smallest.toml").unwrap_err();
//! assert_eq!(
//!     errors.to_string(),
//!     "smallest.toml:9:58: unknown memory \"xr\"; memories are rx (did you mean \"rx\"?)"
//! );
//! ```

mod answer;
mod attributes;
mod change;
mod check;
mod command_error;
mod data;
mod domain;
mod error;
mod grant;
mod machine;
mod process;
mod queues;
mod quirks;
mod random;
mod read;
mod reply;
mod source;
mod step;
mod substream;
mod write;

use smmuv3::{AtsMode, Privilege};
use smmuv3_formats::EventId;

pub use answer::{Answer, Refusal};
pub use change::Change;
pub use command_error::CommandError;
pub use domain::{Tables, Walks};
pub use error::{Position, ScenarioError, ScenarioErrors};
pub use grant::Grant;
pub use machine::{Capabilities, StreamSet, Streams, Support};
pub use process::Process;
pub use queues::{Interrupts, Queues};
pub use quirks::{Part, Quirks};
pub use random::{Random, Weights};
pub use reply::Reply;
pub use smmuv3::{AsidPolicy, Overrides};
pub use substream::Substream;

/// The page that everything in a scenario is measured in, bytes: domains have the 4 KiB granule.
pub const PAGE: u64 = 4096;

/// A scenario that was read and found to make sense. Indices (`instance`, `master`, `domain`, `process`,
/// `memory`) are those of the vectors here and always valid. A *space* is an address space: the domains come
/// first, the processes after them.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The file it came from, for messages.
    pub file: String,
    /// Its name.
    pub name: String,
    /// What it shows, in a sentence or two; may be empty.
    pub description: String,
    /// Where everything random starts.
    pub seed: u64,
    /// How the driver gives out ASIDs.
    pub asid_policy: AsidPolicy,
    /// The first and the last VMID that the driver may use as banks, where the scenario says.
    pub banks: Option<(u16, u16)>,
    /// Bits of an ASID of the CPUs, 8 or 16.
    pub cpu_asid_bits: u32,
    /// The host's kernel runs in EL2 with E2H, and streams of stage 1 with it, where an instance has [`Instance::hyp`].
    pub el2_host: bool,
    /// PASIDs that it has to itself; steps call them 1, 2, ... up to this number.
    pub pasids: u32,
    /// The SMMUs, at least one.
    pub instances: Vec<Instance>,
    /// The devices.
    pub masters: Vec<Master>,
    /// The address spaces.
    pub domains: Vec<Domain>,
    /// The address spaces of the CPU.
    pub processes: Vec<Process>,
    /// The buffers.
    pub memories: Vec<Memory>,
    /// What is done, in order.
    pub steps: Vec<Step>,
}

/// An SMMU, by what its ID registers say (§2.3).
#[derive(Clone, Debug)]
pub struct Instance {
    /// Its name, unique among instances.
    pub name: String,
    /// Bits of an ASID: 8 or 16 (IDR0.ASID16).
    pub asid_bits: u32,
    /// Bits of a VMID: 8 or 16 (IDR0.VMID16). 8 without stage 2.
    pub vmid_bits: u32,
    /// Whether it has stage 1 (IDR0.S1P).
    pub stage_1: bool,
    /// Whether it has stage 2 (IDR0.S2P).
    pub stage_2: bool,
    /// Granules of its walks (IDR5.GRAN*).
    pub granules: Granules,
    /// Output address bits: 32, 36, 40, 42, 44, 48 or 52 (IDR5.OAS).
    pub oas: u32,
    /// Bits of a StreamID (IDR1.SIDSIZE).
    pub sid_bits: u32,
    /// Bits of a SubstreamID (IDR1.SSIDSIZE).
    pub ssid_bits: u32,
    /// Whether it has 2-level context tables (IDR0.CD2L).
    pub two_level_contexts: bool,
    /// Whether it takes part in broadcast TLB maintenance (IDR0.BTM), and the driver lets it.
    pub btm: bool,
    /// It can send messages (IDR0.MSI).
    pub msi: bool,
    /// It can be asked what an address translates to (IDR0.ATOS).
    pub atos: bool,
    /// Counters in the group of performance monitors beside it, 64 at most; 0 where there is none.
    pub counters: u32,
    /// It has streams of EL2 (IDR0.Hyp).
    pub hyp: bool,
    /// Transactions that can be stalled at the same time; 0 where faults terminate.
    pub stalls: u32,
    /// All faults of translation stall, whatever is configured.
    pub forced_stalls: bool,
    /// Command queues, completion and interrupts.
    pub queues: Queues,
    /// Whether it has 2-level stream tables (IDR0.ST_LEVEL).
    pub two_level_streams: bool,
    /// How the driver lays its stream table out.
    pub stream_table: StreamTableKind,
    /// log2 of the most entries of its command queue (IDR1.CMDQS), 1 to 19.
    pub command_queue_log2: u32,
    /// log2 of the most entries of its event queue (IDR1.EVENTQS), 1 to 19.
    pub event_queue_log2: u32,
    /// Whether devices can have translations of their own (IDR0.ATS).
    pub ats: bool,
    /// Whether devices can ask for pages (IDR0.PRI).
    pub pri: bool,
    /// log2 of the most entries of its queue of page requests (IDR1.PRIQS), 1 to 19.
    pub page_request_queue_log2: u32,
    /// Whether it has range invalidation (IDR3.RIL).
    pub range_invalidation: bool,
    /// Whether it has to be told twice of what it is to forget, which firmware says (§19).
    pub repeated_invalidation: bool,
    /// Whether its accesses to tables and queues are coherent with CPUs (IDR0.COHACC).
    pub coherent: bool,
    /// What it can walk.
    pub walks: Walks,
    /// What it does otherwise than most, and what firmware says of it.
    pub quirks: Quirks,
    /// Where it stands in the file.
    pub places: Places,
}

/// How the driver is told to lay a stream table out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamTableKind {
    /// As it does when nobody says.
    #[default]
    Automatic,
    /// In one piece.
    Linear,
    /// In two levels, however few streams there are.
    TwoLevel,
}

impl StreamTableKind {
    /// The most StreamID bits for which a linear table is small enough: 4 MiB.
    pub(crate) const LINEAR_BITS: u32 = 16;
}

/// A set of granules (§2.3, IDR5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granules {
    /// 4 KiB.
    pub kib_4: bool,
    /// 16 KiB.
    pub kib_16: bool,
    /// 64 KiB.
    pub kib_64: bool,
}

impl Granules {
    /// All three.
    pub const ALL: Self = Self { kib_4: true, kib_16: true, kib_64: true };
}

/// A device: one or more streams behind one instance.
#[derive(Clone, Debug)]
pub struct Master {
    /// Its name, unique among masters.
    pub name: String,
    /// Index of its instance.
    pub instance: usize,
    /// Its StreamIDs, at least one, no other master of the instance has them. DMA uses the first.
    pub streams: Vec<u32>,
    /// Bits of the PASIDs that it may use; 0 without substreams.
    pub substream_bits: u32,
    /// Its faults stall, until they are answered.
    pub stalls: bool,
    /// Whether, and how, it keeps translations, if it may (PCIe ATS).
    pub ats: AtsMode,
    /// It asks for pages, if it may (PCIe PRI).
    pub pri: bool,
    /// It needs the PASID in answers to that ("PRG Response PASID Required").
    pub response_pasid: bool,
    /// Attributes of its accesses that its instance overrides.
    pub overrides: Overrides,
    /// Index of the memory that firmware left it to reach, by its physical addresses, while the driver takes its instance
    /// into use, and until it is claimed. With it no substreams, stalls or ATS.
    pub keep: Option<usize>,
    /// What it is where devices are real.
    pub device: Device,
    /// Where it stands in the file.
    pub places: Places,
}

/// Which device does the DMA on a machine with real devices; the model's can do what `Edu` does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// QEMU's `edu`: reads and writes, up to 4 KiB a transfer.
    #[default]
    Edu,
    /// QEMU's `iommu-testdev`: writes the pattern [`Device::TEST_PATTERN`], reads nothing.
    TestDevice,
}

impl Device {
    /// The only data that [`Device::TestDevice`] writes: this word, little-endian, again and again.
    pub const TEST_PATTERN: u32 = 0x1234_5678;

    /// The word that scenarios and QEMU have for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Edu => "edu",
            Self::TestDevice => "testdev",
        }
    }
}

/// An address space.
#[derive(Clone, Debug)]
pub struct Domain {
    /// Its name, unique among domains.
    pub name: String,
    /// Bits of its input addresses (IOVAs): 32 to 52.
    pub input_bits: u32,
    /// Its tables.
    pub tables: Tables,
    /// Where it stands in the file.
    pub places: Places,
}

impl Domain {
    /// The most that `count` stands for.
    pub const MOST: u64 = 4096;
}

/// A buffer, contiguous in physical memory.
#[derive(Clone, Debug)]
pub struct Memory {
    /// Its name, unique among memories.
    pub name: String,
    /// Bytes; a multiple of [`PAGE`], not 0.
    pub size: u64,
    /// Alignment of its physical address, bytes; a power of two, at least [`PAGE`].
    pub align: u64,
    /// Its physical address, where the scenario says; a multiple of [`PAGE`].
    pub at: Option<u64>,
    /// The byte it is filled with at the start; zeros without.
    pub fill: Option<u8>,
    /// Where it stands in the file.
    pub places: Places,
}

/// One thing that is done.
#[derive(Clone, Debug)]
pub struct Step {
    /// Line of the file, from 1.
    pub line: usize,
    /// What the reader of the report is told about it.
    pub note: Option<String>,
    /// Devices and unmaps interrupt the driver during this step, as they do in random steps; the number is
    /// where that randomness starts. Whether its DMA is refused is up to them, and judged all the same.
    pub interrupt: Option<u32>,
    /// It is one of the steps that a step with `count` stands for, but not the first.
    pub again: bool,
    /// What is done.
    pub action: Action,
}

/// What a step does. IOVAs, offsets and lengths of `Map` and `Unmap` are multiples of [`PAGE`]; no
/// length is 0 and no sum of an address and a length overflows or leaves the domain or the memory.
#[derive(Clone, Debug)]
pub enum Action {
    /// Give a master an address space; replaces what it had.
    Attach {
        /// Index of the master.
        master: usize,
        /// For its accesses with this PASID only; a number of the scenario's.
        pasid: Option<u32>,
        /// What it gets. With a PASID a domain, or nothing.
        domain: Target,
        /// What it comes to.
        answer: Answer,
    },
    /// Take the master's address space away: it is blocked afterwards, as it is at the start.
    Detach {
        /// Index of the master.
        master: usize,
        /// For its accesses with this PASID only.
        pasid: Option<u32>,
    },
    /// Let the master use the address space of a process, with the PASID of that process.
    Bind {
        /// Index of the process.
        process: usize,
        /// Index of the master.
        master: usize,
        /// What it comes to.
        answer: Answer,
    },
    /// Undo one `Bind`.
    Unbind {
        /// Index of the process.
        process: usize,
        /// Index of the master.
        master: usize,
    },
    /// The process ends: its address space is taken from all masters, which stay bound.
    Release {
        /// Index of the process.
        process: usize,
    },
    /// The process goes for good, with whatever is still bound, and another one takes its name.
    Replace {
        /// Index of the process.
        process: usize,
    },
    /// The kernel crashes, and another one takes over what runs: it knows no domain and no mapping of before.
    HandOver {
        /// Masters whose streams do not go on, in order.
        lost: Vec<usize>,
    },
    /// Change an instance as a whole.
    Change {
        /// Index of the instance.
        instance: usize,
        /// What becomes of it.
        change: Change,
    },
    /// The device does not answer invalidations in time from now on.
    Mute {
        /// Index of the master.
        master: usize,
        /// It answers too late, rather than never.
        late: bool,
    },
    /// The device was reset, and is used again.
    Readmit {
        /// Index of the master.
        master: usize,
    },
    /// Map a part of a memory in a process.
    ProcessMap {
        /// Index of the process.
        process: usize,
        /// First address.
        iova: u64,
        /// Index of the memory.
        memory: usize,
        /// Bytes from the start of the memory.
        offset: u64,
        /// Bytes.
        length: u64,
        /// What devices may do there.
        access: Access,
    },
    /// Remove all mappings of a range of a process; holes are allowed.
    ProcessUnmap {
        /// Index of the process.
        process: usize,
        /// First address.
        iova: u64,
        /// Bytes.
        length: u64,
    },
    /// Map a part of a memory.
    Map {
        /// Index of the domain.
        domain: usize,
        /// First input address.
        iova: u64,
        /// Index of the memory.
        memory: usize,
        /// Bytes from the start of the memory.
        offset: u64,
        /// Bytes.
        length: u64,
        /// What devices may do there.
        access: Access,
        /// As what kind of memory.
        kind: MemoryKind,
        /// What else is permitted.
        rights: Rights,
    },
    /// Remove all mappings of a range; holes are allowed.
    Unmap {
        /// Index of the domain.
        domain: usize,
        /// First input address.
        iova: u64,
        /// Bytes.
        length: u64,
    },
    /// Remove all mappings of a range, and tell no instance yet.
    Defer {
        /// Index of the domain.
        domain: usize,
        /// First input address.
        iova: u64,
        /// Bytes.
        length: u64,
    },
    /// Tell all instances what was removed of a domain.
    Flush {
        /// Index of the domain.
        domain: usize,
    },
    /// Remove all mappings of a range, and read what devices have written there.
    Take {
        /// Index of the domain, in which that is marked.
        domain: usize,
        /// First input address.
        iova: u64,
        /// Bytes.
        length: u64,
        /// The pages that must be reported, and no others.
        expect: Option<Vec<u64>>,
    },
    /// Free the tables of a range that have become empty.
    Reclaim {
        /// Index of the domain.
        domain: usize,
        /// First input address.
        iova: u64,
        /// Bytes.
        length: u64,
    },
    /// Read what devices have written in a range, and make it clean.
    Dirty {
        /// Index of the domain.
        domain: usize,
        /// First input address.
        iova: u64,
        /// Bytes.
        length: u64,
        /// The 4 KiB pages that must be reported, and no others; their first addresses.
        expect: Option<Vec<u64>>,
    },
    /// Read what devices have accessed in a range, and forget that they did.
    Accessed {
        /// Index of the domain.
        domain: usize,
        /// First input address.
        iova: u64,
        /// Bytes.
        length: u64,
        /// The 4 KiB pages that must be reported, and no others; their first addresses.
        expect: Option<Vec<u64>>,
    },
    /// The device writes to memory.
    Write {
        /// Index of the master.
        master: usize,
        /// With which substream.
        substream: Substream,
        /// First input address.
        iova: u64,
        /// What it writes, not empty.
        data: Vec<u8>,
    },
    /// The device reads from memory.
    Read {
        /// Index of the master.
        master: usize,
        /// With which substream.
        substream: Substream,
        /// First input address.
        iova: u64,
        /// Bytes.
        length: u64,
        /// What it must get, `length` bytes.
        expect: Option<Vec<u8>>,
    },
    /// The DMA before this step (of the same master; other expectations may lie between) must have
    /// been refused with this event.
    ExpectFault {
        /// Index of the master.
        master: usize,
        /// With which substream.
        substream: Substream,
        /// An address in that DMA; its page is what must have been reported.
        iova: u64,
        /// The event.
        event: EventId,
        /// Whether it was a write.
        write: bool,
        /// It stalled, and waits for an answer.
        stalled: bool,
    },
    /// The DMA before this step (as for `ExpectFault`) must have been refused without any event:
    /// the master is blocked (STE.Config = 0, §5.2), or the process was released.
    ExpectBlocked {
        /// Index of the master.
        master: usize,
        /// With which substream.
        substream: Substream,
    },
    /// Answer the oldest transaction of a master that has stalled, if there is one.
    Answer {
        /// Index of the master.
        master: usize,
        /// By what.
        reply: Reply,
    },
    /// A device asks for pages, as one group.
    Ask {
        /// Index of the master.
        master: usize,
        /// With which substream.
        substream: Substream,
        /// First input address.
        iova: u64,
        /// How many.
        pages: u64,
        /// It means to write.
        write: bool,
        /// It never says which is the last.
        unfinished: bool,
    },
    /// Answer the oldest group of page requests of a master that waits, if there is one.
    Grant {
        /// Index of the master.
        master: usize,
        /// By what.
        grant: Grant,
    },
    /// A device says that it uses a substream no more.
    Stop {
        /// Index of the master.
        master: usize,
        /// Which.
        substream: Substream,
    },
    /// Ask the instance where an access of a master would go.
    Translate {
        /// Index of the master.
        master: usize,
        /// With which substream.
        substream: Substream,
        /// The input address.
        iova: u64,
        /// Whether it is a write.
        write: bool,
        /// The event that it must be refused with; `None`: whatever is right.
        refused: Option<EventId>,
    },
    /// The driver of a device that firmware left working takes it over.
    Claim {
        /// Index of the master.
        master: usize,
    },
    /// A command queue stops at a command.
    CommandError {
        /// Index of the instance.
        instance: usize,
        /// Why.
        error: CommandError,
    },
    /// A memory must hold these bytes.
    ExpectData {
        /// Index of the memory.
        memory: usize,
        /// Bytes from its start.
        offset: u64,
        /// What must be there, not empty.
        data: Vec<u8>,
    },
    /// Random operations.
    Random(Random),
}

impl Action {
    /// The scenario's PASID that the step names.
    pub fn pasid(&self) -> Option<u32> {
        match self {
            Self::Attach { pasid, .. } | Self::Detach { pasid, .. } => *pasid,
            Self::Write { substream: Substream::Pasid(pasid), .. }
            | Self::Read { substream: Substream::Pasid(pasid), .. }
            | Self::Ask { substream: Substream::Pasid(pasid), .. }
            | Self::Translate { substream: Substream::Pasid(pasid), .. }
            | Self::Stop { substream: Substream::Pasid(pasid), .. } => Some(*pasid),
            _ => None,
        }
    }
}

impl Action {
    /// What about the step needs substreams.
    fn with_substream(&self) -> Option<&'static str> {
        match self {
            Self::Bind { .. } | Self::Unbind { .. } => Some("a bind"),
            Self::Attach { pasid: Some(_), .. } | Self::Detach { pasid: Some(_), .. } => {
                Some("an attach with a PASID")
            }
            Self::Write { substream, .. }
            | Self::Read { substream, .. }
            | Self::Translate { substream, .. }
                if *substream != Substream::None =>
            {
                Some("a DMA with a PASID")
            }
            Self::Ask { substream, .. } | Self::Stop { substream, .. }
                if *substream != Substream::None =>
            {
                Some("a page request with a PASID")
            }
            _ => None,
        }
    }
}

/// What a master is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The domain with this index.
    Domain(usize),
    /// All of memory, untranslated.
    Identity,
    /// Nothing.
    Blocked,
}

/// What devices may do with a mapping. Stage 1 can't allow writes alone (§16.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read.
    ReadOnly,
    /// Read and write.
    ReadWrite,
}

/// As what kind of memory something is mapped (§16.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryKind {
    /// Normal, write-back cacheable.
    Normal,
    /// Normal, not cacheable.
    Uncached,
    /// Device-nGnRE.
    Device,
    /// Normal, write-through cacheable. It takes [`Tables::all_attributes`].
    WriteThrough,
    /// Device-nGnRnE. As well.
    StrictDevice,
    /// Stage 2 with [`Tables::forced_types`]: what the device says. As well.
    AsStage1,
}

/// What a mapping permits beside reads of data, and writes (§16.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rights {
    /// Nothing.
    #[default]
    Data,
    /// Reads of instructions, too.
    Code,
    /// Those, but not to privileged accesses. It takes [`Tables::all_attributes`].
    UserCode,
    /// Privileged accesses only. Stage 1.
    Privileged,
}

impl MemoryKind {
    /// All of them, with the words for them.
    pub(crate) const WORDS: [(&'static str, Self); 6] = [
        ("normal", Self::Normal),
        ("uncached", Self::Uncached),
        ("device", Self::Device),
        ("write-through", Self::WriteThrough),
        ("strict-device", Self::StrictDevice),
        ("as-stage-1", Self::AsStage1),
    ];
}

impl Rights {
    /// All of them, with the words for them.
    pub(crate) const WORDS: [(&'static str, Self); 4] = [
        ("data", Self::Data),
        ("code", Self::Code),
        ("user-code", Self::UserCode),
        ("privileged", Self::Privileged),
    ];
}

/// Where a thing and its keys stand in the file. Empty for a thing that was not read from a file.
#[derive(Clone, Debug, Default)]
pub struct Places {
    whole: Position,
    keys: Vec<(String, Position)>,
}

impl Places {
    /// Line of the thing, from 1; 0 if it was not read from a file.
    pub const fn line(&self) -> usize {
        self.whole.line
    }

    /// Where `key` stands, or the whole thing where the key was left out.
    fn of(&self, key: &str) -> Position {
        self.keys.iter().find(|(name, _)| name == key).map_or(self.whole, |(_, at)| *at)
    }
}

impl Scenario {
    /// The name of an address space.
    pub fn space(&self, space: usize) -> &str {
        let process = |process: usize| self.processes.get(process).map_or("?", |it| &*it.name);
        match self.domains.get(space) {
            Some(domain) => &domain.name,
            None => process(space - self.domains.len()),
        }
    }

    /// The masters that firmware left working, each with the physical addresses that it reaches: in this order, their
    /// spaces come after the others.
    pub fn kept(&self) -> impl Iterator<Item = (usize, std::ops::Range<u64>)> {
        self.masters.iter().enumerate().filter_map(|(index, master)| {
            let memory = self.memories.get(master.keep?)?;
            let at = memory.at?;
            Some((index, at..at + memory.size))
        })
    }

    /// How many address spaces there are.
    pub fn spaces(&self) -> usize {
        self.domains.len() + self.processes.len()
    }

    /// Bits of the addresses of an address space.
    pub fn input_bits(&self, space: usize) -> u32 {
        let domains = self.domains.iter().map(|domain| domain.input_bits);
        let all = domains.chain(self.processes.iter().map(|process| process.input_bits));
        all.into_iter().nth(space).unwrap_or(48)
    }

    /// Bits of the PASIDs that a master can use: what it asks for, within what its instance has. Where there are
    /// linear context tables only, the driver makes none of more than 2^10 contexts.
    pub fn substream_bits(&self, master: usize) -> u32 {
        const LINEAR: u32 = 10;
        let Some(master) = self.masters.get(master) else { return 0 };
        let Some(instance) = self.instances.get(master.instance) else { return 0 };
        let bits = master.substream_bits.min(instance.ssid_bits);
        if instance.two_level_contexts { bits } else { bits.min(LINEAR) }
    }

    /// Whether all accesses of a master are privileged.
    pub fn is_privileged(&self, master: usize) -> bool {
        let overrides = self.masters.get(master).map(|master| master.overrides);
        overrides.is_some_and(|it| it.privilege == Some(Privilege::Privileged))
    }

    /// Whether faults of a master stall.
    pub fn stalls(&self, master: usize) -> bool {
        let Some(master) = self.masters.get(master) else { return false };
        let Some(instance) = self.instances.get(master.instance) else { return false };
        instance.stalls > 0 && (master.stalls || instance.forced_stalls)
    }

    /// Whether the instance of a master can be asked where its accesses would go.
    pub fn answers(&self, master: usize) -> bool {
        let instance = self.masters.get(master).and_then(|it| self.instances.get(it.instance));
        instance.is_some_and(|it| it.atos)
    }

    /// Whether streams of stage 1 behind an instance are in EL2 with E2H.
    pub fn in_el2(&self, instance: usize) -> bool {
        self.el2_host && self.instances.get(instance).is_some_and(|it| it.hyp)
    }

    /// Whether an attach may be refused because a live ASID is too wide for the instance.
    pub(crate) fn refuses_width(&self) -> bool {
        matches!(self.asid_policy, AsidPolicy::Shared8OnMove | AsidPolicy::SharedMinRefuse)
    }

    /// Whether an attach is never refused for a good reason: there are neither ASIDs to be shared nor PASIDs, and each
    /// instance can walk the tables of each domain.
    pub fn never_refuses(&self) -> bool {
        let fits = |domain: usize| {
            (0..self.instances.len()).all(|instance| !self.is_misfit(domain, instance))
        };
        !self.refuses_width()
            && self.pasids == 0
            && self.processes.is_empty()
            && (0..self.domains.len()).all(fits)
    }

    /// Reads and checks a scenario. `file` is what messages call it.
    ///
    /// # Errors
    /// Everything that is wrong with it, by line.
    pub fn parse(text: &str, file: &str) -> Result<Self, ScenarioErrors> {
        read::scenario(text, file)
    }

    /// The file that it would be read from: what has its default is left out.
    pub fn to_toml(&self) -> String {
        write::scenario(self)
    }

    /// Checks that a machine can run it.
    ///
    /// # Errors
    /// Everything that the machine can't do, by line.
    pub fn check_for(&self, capabilities: &Capabilities) -> Result<(), ScenarioErrors> {
        machine::check(self, capabilities)
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver set up on a machine, under the eyes of the oracle.

mod access;
mod attach;
mod calls;
mod command_error;
mod contexts;
pub(crate) mod counters;
mod deferred;
mod dirty;
mod end;
mod events;
mod guest;
mod guest_pages;
mod hand_over;
mod handle;
mod interrupts;
mod keep;
mod mapping;
mod misbehave;
mod mute;
mod pages;
mod power;
mod process;
mod set_up;
mod stall;
mod statistics;
mod stray;
mod told;
mod translate;
mod wrong;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use smmuv3::{Domain, InstanceId, Iommu, Master, Smmu};
use smmuv3_formats::{EventId, EventRecord};
use thiserror::Error;

use crate::lock::{Guard, Lock};
use crate::machine::{Dma, Machine, MachineError};
use crate::operation::Operation;
use crate::oracle::{Oracle, PAGE};
use crate::platform::{Observer, TestPlatform, World};
use crate::scenario::{Scenario, Substream};
use crate::trace::{Args, Trace, Tracer};
use crate::watch::{OwnedTag, Watch};
use counters::Counters;
use guest::Guest;
use hand_over::Left;
pub(crate) use handle::Handle;
use keep::Kept;
use process::Slot;
use stall::Stalls;

/// Bytes of memory that random steps map.
pub const POOL_BYTES: u64 = 8 << 20;
pub(crate) use guest::ALL as GUESTS;

/// Why a run could not be set up, or could not go on. A broken rule is none of these.
#[derive(Clone, Debug, Error)]
pub enum BenchError {
    /// The machine broke.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The driver refused something that it should be able to do.
    #[error("{doing}: {error}")]
    Driver {
        /// What was being done.
        doing: String,
        /// The driver's error.
        error: String,
    },
    /// The machine's memory does not hold the scenario's.
    #[error("no memory for {0}")]
    NoMemory(String),
}

/// How to set up the driver.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Let devices, prefetches and other calls interrupt the driver at every step.
    pub interfering: bool,
    /// A step that the driver leaves out.
    #[cfg(feature = "mutation")]
    pub mutation: Option<smmuv3::Mutation>,
    /// Where to trace what happens.
    pub tracer: Option<Tracer>,
}

/// What came of an operation.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// In words.
    pub outcome: String,
    /// It came to something: it was not refused, nor was there nothing to do.
    pub acted: bool,
    /// Faults that the driver reported because of it, without duplicates.
    pub faults: Vec<FaultKey>,
    /// Accesses of pages that were refused, or stalled.
    pub refused: usize,
    /// Those that stalled.
    pub stalled: usize,
    /// Accesses of pages.
    pub accesses: usize,
    /// Bytes that arrived.
    pub bytes: u64,
    /// What a device read.
    pub data: Vec<u8>,
    /// Where devices had written: starts and bytes.
    pub reported: Vec<(u64, u64)>,
    /// The event that an instance would refuse with what it was asked about.
    pub asked: Option<EventId>,
}

/// What makes two faults the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FaultKey {
    /// Instance.
    pub instance: usize,
    /// StreamID.
    pub stream: u32,
    /// SubstreamID, where the event says one.
    pub substream: Option<u32>,
    /// Which event.
    pub event: EventId,
    /// First address of the page.
    pub page: u64,
    /// A write was refused.
    pub write: bool,
}

impl FaultKey {
    /// Of an event that `instance` reported; `None` for events of unknown kind.
    pub fn of(instance: usize, record: &EventRecord) -> Option<Self> {
        let event = record.event()?;
        // This one always has one, and no bit that says so.
        let has_substream = record.ssv() || event == EventId::CBadSubstreamId;
        Some(Self {
            instance,
            stream: record.sid() as u32,
            // The field has 20 bits.
            substream: has_substream.then_some(record.ssid() as u32),
            event,
            page: record.input_addr() & !(PAGE - 1),
            write: !record.rnw(),
        })
    }
}

/// What devices of a scenario do: asked at every moment, and always the same.
#[derive(Clone, Copy, Debug)]
struct Habits {
    /// Some of their accesses stall.
    stalls: bool,
    /// Some ask for pages.
    asks: bool,
}

impl Habits {
    fn of(scenario: &Scenario) -> Self {
        Self {
            stalls: (0..scenario.masters.len()).any(|master| scenario.stalls(master)),
            asks: scenario.masters.iter().any(|master| master.pri),
        }
    }
}

/// The driver on a machine.
pub struct Bench {
    pub(crate) world: Arc<World>,
    pub(crate) scenario: Scenario,
    habits: Habits,
    config: smmuv3::Config,
    pub(crate) iommu: Iommu<TestPlatform>,
    pub(crate) smmus: Vec<Handle<Smmu<TestPlatform>>>,
    /// Their performance monitors, of those that have some.
    counters: Vec<Counters>,
    /// Which instance of the scenario each is that the driver has, or had.
    ids: Mutex<BTreeMap<InstanceId, usize>>,
    /// Where the messages of each instance's interrupts go, if they are messages.
    messages: Vec<Option<u64>>,
    pub(crate) masters: Vec<Handle<Master<TestPlatform>>>,
    pub(crate) domains: Vec<Domain<TestPlatform>>,
    /// Of each domain that is a guest's, what the guest has.
    guests: Vec<Option<Guest>>,
    /// Contexts that guests have for PASIDs of masters.
    contexts: Mutex<BTreeMap<usize, contexts::Table>>,
    processes: Vec<Slot>,
    /// Physical addresses of the scenario's memories.
    pub(crate) memories: Vec<u64>,
    pub(crate) pool: u64,
    pub(crate) watch: Lock<Watch>,
    /// What waits for an answer, and what was reported where the driver was interrupted.
    stalls: Mutex<Stalls>,
    /// Events that the host has read, and may ask about again.
    told: Mutex<told::Kept>,
    /// Groups of page requests that wait for an answer.
    groups: Mutex<pages::Groups>,
    /// What firmware left working, in the order of the scenario.
    kept: Mutex<Vec<Kept>>,
    /// What kernels left that were here before.
    left: Left,
    /// The tags that the last one of them had, until all is taken over.
    former_tags: Vec<OwnedTag>,
}

impl Bench {
    /// Brings the SMMUs of `scenario` up on `machine` and creates its masters, domains and memories.
    ///
    /// # Errors
    /// [`BenchError`].
    pub fn new(
        scenario: &Scenario,
        machine: Arc<dyn Machine>,
        seed: u64,
        settings: Settings,
    ) -> Result<Arc<Self>, BenchError> {
        let observed = machine.model(0).is_some();
        let world = World::traced(machine, scenario.instances.len(), settings.tracer);
        world.trace(|trace| trace.open(scenario, &world.machine().name(), seed, observed));
        let watch = Watch::new(scenario.instances.len(), seed);
        world.set_observer(None);
        let config = calls::config(scenario);
        #[cfg(feature = "mutation")]
        let config = {
            let mut config = config;
            config.mutation = settings.mutation;
            config
        };
        let iommu = Iommu::new(TestPlatform(world.clone()), config)
            .map_err(|_| BenchError::NoMemory("the driver".to_owned()))?;
        let mut bench = Self {
            iommu,
            config,
            smmus: Vec::new(),
            counters: Vec::new(),
            ids: Mutex::default(),
            messages: Vec::new(),
            masters: Vec::new(),
            domains: Vec::new(),
            guests: Vec::new(),
            contexts: Mutex::default(),
            processes: Vec::new(),
            memories: Vec::new(),
            pool: 0,
            watch: Lock::new(watch),
            stalls: Mutex::default(),
            told: Mutex::default(),
            groups: Mutex::default(),
            kept: Mutex::default(),
            left: Left::default(),
            former_tags: Vec::new(),
            world,
            scenario: scenario.clone(),
            habits: Habits::of(scenario),
        };
        bench.set_up()?;
        let bench = Arc::new(bench);
        bench.watch().interfering = settings.interfering;
        bench.world.set_observer(Some(bench.clone() as Arc<dyn Observer>));
        Ok(bench)
    }

    pub(crate) fn watch(&self) -> Guard<'_, Watch> {
        self.watch.lock()
    }

    /// The driver's surroundings.
    pub fn world(&self) -> &Arc<World> {
        &self.world
    }

    /// Reads the oracle.
    pub fn oracle<R>(&self, read: impl FnOnce(&Oracle) -> R) -> R {
        read(&self.watch().oracle)
    }

    /// The tags of all address spaces, as the driver has them now.
    pub fn tags(&self) -> Vec<OwnedTag> {
        let mut tags = Vec::new();
        for (space, domain) in self.domains.iter().enumerate() {
            tags.extend(
                domain.targets().unwrap_or_default().iter().map(|target| self.tag(space, target)),
            );
        }
        for (process, slot) in self.processes.iter().enumerate() {
            let space = self.domains.len() + process;
            tags.extend(slot.targets().iter().map(|target| self.tag(space, target)));
        }
        tags.extend(self.tags_of_kept());
        tags
    }

    /// The tags of one address space.
    fn tags_of(&self, space: usize) -> Vec<OwnedTag> {
        match (self.domains.get(space), self.slot(space)) {
            (Some(domain), _) => domain
                .targets()
                .unwrap_or_default()
                .iter()
                .map(|target| self.tag(space, target))
                .collect(),
            (None, Some(slot)) => {
                slot.targets().iter().map(|target| self.tag(space, target)).collect()
            }
            (None, None) => Vec::new(),
        }
    }

    /// The guest whose address space this is.
    fn guest(&self, space: usize) -> Option<&Guest> {
        self.guests.get(space)?.as_ref()
    }

    /// The process whose address space this is.
    fn slot(&self, space: usize) -> Option<&Slot> {
        self.processes.get(space.checked_sub(self.domains.len())?)
    }

    /// Does `operation`, and lets the oracle judge it.
    ///
    /// # Errors
    /// [`BenchError`]; a broken rule is found in the oracle instead.
    pub fn perform(&self, operation: &Operation) -> Result<Done, BenchError> {
        self.world.calls();
        let mut done = match operation {
            Operation::Attach { master, pasid, to, answer } => {
                self.attach(*master, *pasid, *to, *answer)
            }
            Operation::Bind { process, master, answer } => self.bind(*process, *master, *answer),
            Operation::Unbind { process, master } => self.unbind(*process, *master),
            Operation::Release { process } => self.release(*process),
            Operation::Change { instance, change } => self.change(*instance, *change),
            Operation::Claim { master } => self.claim(*master),
            Operation::CommandError { instance, error } => self.command_error(*instance, *error),
            Operation::Misbehave { domain, seed } => self.misbehave(*domain, *seed),
            Operation::Mute { master, late } => self.mute(*master, *late),
            Operation::Readmit { master } => self.readmit(*master),
            Operation::Replace { process } => self.replace(*process)?,
            // Whoever runs the scenario goes on with another bench: [`Bench::hand_over`].
            Operation::HandOver { .. } => Done::default(),
            Operation::Map { space, iova, bytes, source, write, kind, rights } => {
                self.map(*space, *iova, *bytes, *source, (*write, *kind, *rights))
            }
            Operation::Unmap { space, iova, bytes } => self.unmap(*space, *iova, *bytes),
            Operation::Cut { domain, iova, bytes, must } => self.cut(*domain, *iova, *bytes, *must),
            Operation::Defer { domain, iova, bytes } => self.defer(*domain, *iova, *bytes),
            Operation::Flush { domain } => self.flush(*domain),
            Operation::Take { domain, iova, bytes } => self.take(*domain, *iova, *bytes),
            Operation::Reclaim { domain, iova, bytes } => self.reclaim(*domain, *iova, *bytes),
            Operation::Dirty { domain, iova, bytes } => self.dirty(*domain, *iova, *bytes),
            Operation::Accessed { domain, iova, bytes } => self.accessed(*domain, *iova, *bytes),
            Operation::Answer { master, reply } => self.answer(*master, *reply),
            Operation::Translate { master, substream, iova, write } => {
                self.translate(*master, *substream, *iova, *write)
            }
            Operation::Ask { master, substream, iova, pages, write, unfinished } => {
                self.ask(*master, *substream, (*iova, *pages), *write, *unfinished)
            }
            Operation::Grant { master, grant } => self.grant(*master, *grant),
            Operation::Stop { master, substream } => self.stop(*master, *substream),
            Operation::Write { master, substream, iova, data } => {
                self.dma(*master, *substream, *iova, Dma::Write(data))?
            }
            Operation::Read { master, substream, iova, bytes, instruction } => {
                let mut data = vec![0; *bytes];
                let transfer = match instruction {
                    true => Dma::Fetch(&mut data),
                    false => Dma::Read(&mut data),
                };
                let mut done = self.dma(*master, *substream, *iova, transfer)?;
                done.data = data;
                done
            }
        };
        self.look(|watch| watch.collect(&self.world));
        self.take_events(&mut done);
        self.overflows();
        self.world.machine().health()?;
        Ok(done)
    }

    /// Does `act`: a call of the driver, or what a device does.
    fn traced<R>(
        &self,
        category: &str,
        name: &str,
        operands: impl FnOnce() -> Args,
        act: impl FnOnce() -> R,
    ) -> R {
        self.world.trace(Trace::begin);
        let result = act();
        self.world.trace(|trace| trace.end(name, category, &operands()));
        result
    }

    /// What the trace calls a master's accesses.
    fn user_name(&self, master: usize, substream: Substream) -> String {
        let name = self.scenario.masters.get(master).map_or("?", |master| &*master.name);
        match substream {
            Substream::None => name.to_owned(),
            Substream::Pasid(pasid) => format!("{name} PASID {pasid}"),
            Substream::Process(process) => {
                format!("{name} for {}", self.scenario.space(self.domains.len() + process))
            }
        }
    }

    fn look<R>(&self, look: impl FnOnce(&mut Watch) -> R) -> R {
        look(&mut self.watch())
    }
}

/// A range of input addresses that an operation has to itself.
pub(crate) type Busy = Option<(usize, Range<u64>)>;

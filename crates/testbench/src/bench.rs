// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver set up on a machine, under the eyes of the oracle.

mod access;
mod stray;

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smmuv3::{
    Attributes, Config, Domain, DomainConfig, InstanceConfig, Interrupt, Iommu, Iova, Master,
    MasterConfig, Memory, PhysAddr, Prot, Report, Smmu, Split, StreamId, StreamTableShape,
};
use smmuv3_formats::{EventId, EventRecord};
use thiserror::Error;

use crate::machine::{Dma, Machine, MachineError};
use crate::operation::{Operation, Source};
use crate::oracle::{Oracle, PAGE, Use, Violation};
use crate::platform::{Observer, Point, TestMmio, TestPlatform, World};
use crate::scenario::{MemoryKind, Scenario, StreamTableKind};
use crate::stream_table::StreamTable;
use crate::trace::{self, Args, Trace, Tracer};
use crate::watch::Watch;

/// Bytes of memory that random steps map.
pub const POOL_BYTES: u64 = 8 << 20;
/// Events taken from an instance at once.
const EVENT_BUDGET: usize = 64;

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
    /// Faults that the driver reported because of it, without duplicates.
    pub faults: Vec<FaultKey>,
    /// Accesses of pages that were refused.
    pub refused: usize,
    /// Accesses of pages.
    pub accesses: usize,
    /// Bytes that arrived.
    pub bytes: u64,
    /// What a device read.
    pub data: Vec<u8>,
}

/// What makes two faults the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FaultKey {
    /// Instance.
    pub instance: usize,
    /// StreamID.
    pub stream: u32,
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
        Some(Self {
            instance,
            stream: record.sid() as u32,
            event: record.event()?,
            page: record.input_addr() & !(PAGE - 1),
            write: !record.rnw(),
        })
    }
}

/// The driver on a machine.
pub struct Bench {
    pub(crate) world: Arc<World>,
    pub(crate) scenario: Scenario,
    pub(crate) iommu: Iommu<TestPlatform>,
    pub(crate) smmus: Vec<Smmu<TestPlatform>>,
    pub(crate) masters: Vec<Master<TestPlatform>>,
    pub(crate) domains: Vec<Domain<TestPlatform>>,
    /// Physical addresses of the scenario's memories.
    pub(crate) memories: Vec<u64>,
    pub(crate) pool: u64,
    pub(crate) watch: Mutex<Watch>,
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
        #[cfg_attr(not(feature = "mutation"), expect(unused_mut, reason = "nothing to set"))]
        let mut config = Config::default();
        #[cfg(feature = "mutation")]
        {
            config.mutation = settings.mutation;
        }
        let iommu = Iommu::new(TestPlatform(world.clone()), config)
            .map_err(|_| BenchError::NoMemory("the driver".to_owned()))?;
        let mut bench = Self {
            iommu,
            smmus: Vec::new(),
            masters: Vec::new(),
            domains: Vec::new(),
            memories: Vec::new(),
            pool: 0,
            watch: Mutex::new(watch),
            world,
            scenario: scenario.clone(),
        };
        bench.set_up()?;
        let bench = Arc::new(bench);
        bench.watch().interfering = settings.interfering;
        bench.world.set_observer(Some(bench.clone() as Arc<dyn Observer>));
        Ok(bench)
    }

    fn set_up(&mut self) -> Result<(), BenchError> {
        let scenario = self.scenario.clone();
        for (index, instance) in scenario.instances.iter().enumerate() {
            let doing = || format!("enable {}", instance.name);
            // Names live as long as the process: a run has a handful.
            let mut config = InstanceConfig::named(String::leak(instance.name.clone()));
            config.asid_bits = instance.asid_bits;
            config.sid_bits = instance.sid_bits;
            config.stream_table = match instance.stream_table {
                StreamTableKind::Automatic => StreamTableShape::Automatic,
                StreamTableKind::Linear => StreamTableShape::Linear,
                StreamTableKind::TwoLevel => StreamTableShape::TwoLevel {
                    split: match instance.sid_bits {
                        0..=16 => Split::Six,
                        17..=25 => Split::Eight,
                        _ => Split::Ten,
                    },
                },
            };
            config.command_queue_log2 = instance.command_queue_log2;
            config.event_queue_log2 = instance.event_queue_log2;
            let mmio = TestMmio { world: self.world.clone(), instance: index };
            let probe = self
                .iommu
                .probe(mmio, config)
                .map_err(|error| BenchError::Driver { doing: doing(), error: error.to_string() })?;
            let smmu = probe.enable().map_err(|(_, error)| BenchError::Driver {
                doing: doing(),
                error: error.to_string(),
            })?;
            if let Some(instance) = smmu.instance() {
                let base = instance.streams().base_register();
                let shape = instance.streams().config_register();
                self.watch().add_instance(StreamTable { base, shape });
            }
            self.smmus.push(smmu);
            self.world.machine().health()?;
        }
        self.stray()?;
        for master in &scenario.masters {
            let streams: Vec<StreamId> = master.streams.iter().copied().map(StreamId).collect();
            let smmu = self.smmus.get(master.instance).ok_or_else(|| BenchError::Driver {
                doing: format!("add {}", master.name),
                error: "its instance is missing".to_owned(),
            })?;
            let added = self.iommu.add_master(smmu, &streams, MasterConfig::default());
            self.masters.push(added.map_err(|error| BenchError::Driver {
                doing: format!("add {}", master.name),
                error: error.to_string(),
            })?);
            // What was said of its streams so far is no word about a master.
            self.watch().collect(&self.world);
            self.watch().oracle.add_master(master.instance, master.streams.clone());
            for stream in &master.streams {
                self.watch().watch_stream(&self.world, master.instance, *stream);
            }
        }
        for domain in &scenario.domains {
            let before: Vec<u64> = self.world.frames().live().map(|(start, _)| start).collect();
            let config = DomainConfig::default().with_input_bits(domain.input_bits);
            let created = self.iommu.create_domain(config);
            self.domains.push(created.map_err(|error| BenchError::Driver {
                doing: format!("create {}", domain.name),
                error: error.to_string(),
            })?);
            // All that a new domain takes is the root of its tables.
            let root = self.world.frames().live().find(|(start, _)| !before.contains(start));
            self.watch().oracle.add_domain(root.map_or(0, |(start, _)| start));
        }
        for memory in &scenario.memories {
            let pa = self.world.frames().allocate(memory.size, memory.align.max(PAGE));
            let pa = pa.ok_or_else(|| BenchError::NoMemory(memory.name.clone()))?;
            if let Some(fill) = memory.fill {
                let bytes = vec![fill; memory.size as usize];
                self.world.machine().ram().write(pa, &bytes).map_err(MachineError::from)?;
            }
            self.memories.push(pa);
        }
        let pool = self.world.frames().allocate(POOL_BYTES, 2 << 20);
        self.pool = pool.ok_or_else(|| BenchError::NoMemory("random steps".to_owned()))?;
        Ok(())
    }

    pub(crate) fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The driver's surroundings.
    pub fn world(&self) -> &Arc<World> {
        &self.world
    }

    /// Reads the oracle.
    pub fn oracle<R>(&self, read: impl FnOnce(&Oracle) -> R) -> R {
        read(&self.watch().oracle)
    }

    /// The tag of each domain on each instance where it is attached.
    pub fn tags(&self) -> Vec<(usize, usize, u16)> {
        self.domains
            .iter()
            .enumerate()
            .flat_map(|(index, domain)| {
                domain
                    .targets()
                    .into_iter()
                    .map(move |target| (index, target.instance.index(), target.tag.asid))
            })
            .collect()
    }

    /// Does `operation`, and lets the oracle judge it.
    ///
    /// # Errors
    /// [`BenchError`]; a broken rule is found in the oracle instead.
    pub fn perform(&self, operation: &Operation) -> Result<Done, BenchError> {
        let mut done = match operation {
            Operation::Attach { master, to } => self.attach(*master, *to),
            Operation::Map { domain, iova, bytes, source, write, kind } => {
                self.map(*domain, *iova, *bytes, *source, *write, *kind)
            }
            Operation::Unmap { domain, iova, bytes } => self.unmap(*domain, *iova, *bytes),
            Operation::Reclaim { domain, iova, bytes } => self.reclaim(*domain, *iova, *bytes),
            Operation::Write { master, iova, data } => {
                self.dma(*master, *iova, Dma::Write(data))?
            }
            Operation::Read { master, iova, bytes } => {
                let mut data = vec![0; *bytes];
                let mut done = self.dma(*master, *iova, Dma::Read(&mut data))?;
                done.data = data;
                done
            }
        };
        self.look(|watch| watch.collect(&self.world));
        self.take_events(&mut done);
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

    /// The operands of an attach or a detach, for the trace.
    fn attachment(&self, master: usize, to: Use) -> Args {
        let domain = match to {
            Use::Blocked => "none",
            Use::Identity => "all memory",
            Use::Domain(domain) => self.scenario.domains.get(domain).map_or("?", |it| &*it.name),
        };
        let master = self.scenario.masters.get(master).map_or("?", |it| &*it.name);
        trace::args([("master", master.into()), ("domain", domain.into())])
    }

    /// The operands of a call on input addresses of a domain, for the trace.
    fn range(&self, domain: usize, iova: u64, bytes: u64) -> Args {
        let name = self.scenario.domains.get(domain).map_or("?", |domain| &*domain.name);
        trace::range(("domain", name), iova, bytes)
    }

    fn look<R>(&self, look: impl FnOnce(&mut Watch) -> R) -> R {
        look(&mut self.watch())
    }

    fn attach(&self, master: usize, to: Use) -> Done {
        let Some(handle) = self.masters.get(master) else { return Done::default() };
        let before = self.look(|watch| {
            watch.oracle.attach_begins(master, to);
            watch.oracle.using(master)
        });
        let name = if to == Use::Blocked { "detach" } else { "attach" };
        let result = self.traced(
            "call",
            name,
            || self.attachment(master, to),
            || match to {
                Use::Blocked => Some(self.iommu.detach(handle)),
                // SAFETY: devices of a test only touch what the scenario tells them to.
                Use::Identity => Some(unsafe { self.iommu.attach_identity(handle) }),
                Use::Domain(domain) => {
                    self.domains.get(domain).map(|domain| self.iommu.attach(handle, domain))
                }
            },
        );
        let Some(result) = result else { return Done::default() };
        self.look(|watch| {
            watch.collect(&self.world);
            watch.oracle.attach_ends(master, result.is_ok());
            if result.is_ok() {
                watch.after_attach(&self.world, master, before);
            }
        });
        let outcome = match result {
            Ok(()) => "done".to_owned(),
            Err(error) => {
                self.look(|watch| watch.refuse(format_args!("attach was refused: {error}")));
                error.to_string()
            }
        };
        Done { outcome, ..Done::default() }
    }

    fn map(
        &self,
        domain: usize,
        iova: u64,
        bytes: u64,
        source: Source,
        write: bool,
        kind: MemoryKind,
    ) -> Done {
        let Some(handle) = self.domains.get(domain) else { return Done::default() };
        let pa = match source {
            Source::Memory { memory, offset } => {
                self.memories.get(memory).map_or(0, |base| base + offset)
            }
            Source::Pool(offset) => self.pool + offset,
        };
        let range = iova..iova + bytes;
        let prot = if write { Prot::READ | Prot::WRITE } else { Prot::READ };
        let attributes = match kind {
            MemoryKind::Normal => Attributes::normal(prot),
            MemoryKind::Uncached => Attributes::new(prot, Memory::NormalNonCacheable),
            MemoryKind::Device => Attributes::new(prot, Memory::Device),
        };
        let overlaps = self.look(|watch| {
            let overlaps = watch.oracle.pages(domain, range.clone()).next().is_some();
            if !overlaps {
                watch.oracle.map_begins(domain, range.clone(), pa, write);
                watch.busy = Some((domain, range.clone()));
            }
            overlaps
        });
        // SAFETY: nobody else uses the range: interruptions avoid the busy one, and the memory lives as long as
        // the run.
        let map = || unsafe { handle.map(Iova(iova), PhysAddr(pa), bytes, attributes) };
        let result = self.traced("call", "map", || self.range(domain, iova, bytes), map);
        self.look(|watch| {
            watch.collect(&self.world);
            watch.busy = None;
            if overlaps {
                if result.is_ok() {
                    watch.refuse("a mapping was mapped over");
                }
            } else {
                watch.oracle.map_ends(domain, range.clone(), result.is_ok());
                if let Err(error) = &result {
                    watch.after_unmap(&self.world, domain, &range);
                    watch.refuse(format_args!("map was refused: {error}"));
                }
            }
        });
        let outcome = match result {
            Ok(()) => "done".to_owned(),
            Err(error) => error.to_string(),
        };
        Done { outcome, ..Done::default() }
    }

    /// Unmaps; also as an interruption of another operation.
    pub(crate) fn unmap(&self, domain: usize, iova: u64, bytes: u64) -> Done {
        let Some(handle) = self.domains.get(domain) else { return Done::default() };
        let range = iova..iova + bytes;
        let (outer, mapped) = self.look(|watch| {
            let mapped = watch.oracle.pages(domain, range.clone()).count() as u64 * PAGE;
            watch.oracle.unmap_begins(domain, range.clone());
            (watch.busy.replace((domain, range.clone())), mapped)
        });
        // SAFETY: nobody else uses the range: interruptions avoid the busy one.
        let unmap = || unsafe { handle.unmap(Iova(iova), bytes) };
        let result = self.traced("call", "unmap", || self.range(domain, iova, bytes), unmap);
        self.look(|watch| {
            watch.collect(&self.world);
            watch.busy = outer;
            watch.oracle.unmap_ends(domain, range.clone(), result.is_ok());
            match &result {
                Ok(removed) => {
                    watch.after_unmap(&self.world, domain, &range);
                    if *removed != mapped {
                        watch.refuse(format_args!(
                            "unmap removed {removed:#x} of {mapped:#x} bytes"
                        ));
                    }
                }
                Err(error) => watch.refuse(format_args!("unmap was refused: {error}")),
            }
        });
        let outcome = match result {
            Ok(0) => "nothing was mapped there".to_owned(),
            Ok(removed) => format!("{} KiB gone", removed >> 10),
            Err(error) => error.to_string(),
        };
        Done { outcome, ..Done::default() }
    }

    fn reclaim(&self, domain: usize, iova: u64, bytes: u64) -> Done {
        let Some(handle) = self.domains.get(domain) else { return Done::default() };
        // Whole tables must be out of others' hands.
        let span = 2u64 << 20;
        let busy = (iova & !(span - 1))..(iova + bytes).next_multiple_of(span);
        self.look(|watch| watch.busy = Some((domain, busy)));
        // SAFETY: as in `unmap`.
        let reclaim = || unsafe { handle.reclaim(Iova(iova), bytes) };
        let result = self.traced("call", "reclaim", || self.range(domain, iova, bytes), reclaim);
        self.look(|watch| {
            watch.collect(&self.world);
            watch.busy = None;
        });
        let outcome = match result {
            Ok(tables) => format!("{tables} tables freed"),
            Err(error) => {
                self.look(|watch| watch.refuse(format_args!("reclaim was refused: {error}")));
                error.to_string()
            }
        };
        Done { outcome, ..Done::default() }
    }

    /// Lets the driver report all events, and compares them with what had to come.
    fn take_events(&self, done: &mut Done) {
        // Whatever devices cause from here on would be reported with the next operation.
        let interfering = std::mem::take(&mut self.watch().interfering);
        for (instance, smmu) in self.smmus.iter().enumerate() {
            loop {
                let mut reports = Vec::new();
                let mut sink = |report| reports.push(report);
                let name = self.scenario.instances.get(instance).map_or("?", |it| &*it.name);
                let operands = || trace::args([("instance", name.into())]);
                let more = self.traced("call", "handle_interrupt", operands, || {
                    self.iommu.handle_interrupt(smmu, Interrupt::Any, EVENT_BUDGET, &mut sink)
                });
                self.look(|watch| {
                    watch.collect(&self.world);
                    for report in &reports {
                        self.world.trace(|trace| trace.report(instance, report));
                        watch.report(instance, report);
                        if let Report::Event(record) = report
                            && let Some(fault) = FaultKey::of(instance, record)
                        {
                            done.faults.push(fault);
                        }
                    }
                    if !more {
                        watch.oracle.all_reported(instance);
                    }
                });
                if !more {
                    break;
                }
            }
        }
        done.faults.sort_unstable();
        done.faults.dedup();
        self.look(|watch| {
            watch.settle_faults(&mut done.faults);
            watch.interfering = interfering;
        });
    }

    /// Takes everything down: masters blocked and closed, domains closed, instances removed, all under the eyes
    /// of the oracle. Nothing may be left of the driver's memory, nor of its tags.
    ///
    /// # Errors
    /// [`BenchError::Driver`] when something cannot be closed, or is left.
    pub fn tear_down(self: Arc<Self>) -> Result<Option<Violation>, BenchError> {
        let failed =
            |doing: &str, error: String| BenchError::Driver { doing: doing.to_owned(), error };
        for master in 0..self.masters.len() {
            self.attach(master, Use::Blocked);
        }
        self.check_tags().map_err(|error| failed("end the run", error))?;
        self.look(|watch| watch.collect(&self.world));
        self.world.set_observer(None);
        let bench = Arc::try_unwrap(self)
            .map_err(|_| failed("end the run", "it is still in use".to_owned()))?;
        let Self { world, iommu, smmus, masters, domains, memories, pool, scenario, watch } = bench;
        let rest = Arc::new(Rest { world: world.clone(), watch });
        world.set_observer(Some(rest.clone() as Arc<dyn Observer>));
        for master in masters {
            master.close().map_err(|_| failed("close a master", "it is attached".to_owned()))?;
        }
        for domain in domains {
            domain.close().map_err(|(_, masters)| {
                failed("close a domain", format!("{masters} masters are attached"))
            })?;
        }
        for smmu in smmus {
            iommu
                .remove(smmu)
                .map_err(|(_, error)| failed("remove an instance", error.to_string()))?;
        }
        drop(iommu);
        world.set_observer(None);
        let mut frames = world.frames();
        for (pa, memory) in memories.iter().zip(&scenario.memories) {
            frames.free(*pa, memory.size);
        }
        frames.free(pool, POOL_BYTES);
        let (left, bad) = (frames.live_bytes(), frames.bad_frees());
        if left != 0 || bad != 0 {
            let error = format!("{left} bytes were never freed, {bad} frees were wrong");
            return Err(failed("end the run", error));
        }
        let watch = rest.watch.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(watch.oracle.violation().cloned())
    }

    /// With every master blocked all tags are free: the next one is the first that an instance gives out.
    fn check_tags(&self) -> Result<(), String> {
        for (index, smmu) in self.smmus.iter().enumerate() {
            let master = self.masters.iter().position(|master| master.instance() == smmu.id());
            let (Some(master), Some(domain)) = (master, self.domains.first()) else { continue };
            let Some(instance) = smmu.instance() else { continue };
            let last = (1u32 << instance.features().asid_bits) - 1;
            self.attach(master, Use::Domain(0));
            let tag = domain.targets().iter().map(|target| u32::from(target.tag.asid)).next();
            self.attach(master, Use::Blocked);
            if tag != Some(1) && tag != Some(last) {
                return Err(format!("instance {index} gave out {tag:?}: a tag was not given back"));
            }
        }
        Ok(())
    }
}

/// What is left of a run while it is taken down.
struct Rest {
    world: Arc<World>,
    watch: Mutex<Watch>,
}

impl Observer for Rest {
    fn at(&self, point: Point, _interruptible: bool) {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner).at(&self.world, point);
    }
}

/// A range of input addresses that an operation has to itself.
pub(crate) type Busy = Option<(usize, Range<u64>)>;

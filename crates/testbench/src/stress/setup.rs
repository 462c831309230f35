// SPDX-License-Identifier: MIT OR Apache-2.0
//! The machine of a stress, the driver on it, and what all workers share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use smmuv3::{
    AsidPolicy, Attributes, Config, Domain, DomainConfig, InstanceConfig, Iommu, Iova, Master,
    MasterConfig, PhysAddr, Prot, Smmu, StreamId, SubstreamId,
};
use smmuv3_model::{Access, Profile, Refusal, Transfer, Translation};

use super::Stress;
use super::cpu::Cpus;
use super::process::Shared;
use crate::frees::Frees;
use crate::machine::Machine;
use crate::machine_model::ModelMachine;
use crate::platform::{TestMmio, World};
use crate::scenario::Scenario;

pub const PAGE: u64 = 0x1000;
/// What one table of the last level spans.
pub const TABLE: u64 = 0x20_0000;
/// Input addresses of one board.
const SPAN: u64 = 1 << 30;
/// Domains that belong to nobody.
const COMMON: usize = 2;
/// Pages of memory for each worker's own mappings.
const PAGES: u64 = 16;
/// PASIDs of each worker.
const PASIDS: usize = 2;
/// Spaces that fill the first bank of a narrow instance, whose ASIDs then have 6 bits.
const FILLERS: usize = 58;
pub const ATTRIBUTES: Attributes = Attributes::normal(Prot::READ.union(Prot::WRITE));

/// A domain that any worker may use, with a page that stays mapped as long as it lives.
pub struct Board {
    pub domain: Domain<Cpus>,
    /// Which of the boards it is, or was.
    pub index: usize,
    pub anchor: u64,
    /// Its first table, once it is known.
    pub root: AtomicU64,
}

/// A master that uses many domains, each by a PASID.
struct Fillers {
    master: Master<Cpus>,
    domains: Vec<(SubstreamId, Domain<Cpus>)>,
}

/// What all threads share.
pub struct Setup {
    pub machine: Arc<ModelMachine>,
    pub world: Arc<World>,
    pub cpus: Cpus,
    pub iommu: Iommu<Cpus>,
    pub smmus: Vec<Smmu<Cpus>>,
    pub workers: usize,
    /// Of each instance, those of each worker.
    pub masters: Vec<Vec<Master<Cpus>>>,
    /// Domains of nobody, then those of each worker.
    pub boards: Vec<RwLock<Arc<Board>>>,
    /// Of each worker.
    pub processes: Vec<RwLock<Option<Arc<Shared>>>>,
    pub frees: Arc<Frees>,
    /// Of each worker: PASIDs whose contexts lie apart.
    pub pasids: Vec<Vec<SubstreamId>>,
    /// What fills a bank.
    fillers: Option<Fillers>,
    memory: u64,
    memory_bytes: u64,
}

/// Narrow with stage 2; wide with stage 2 and broadcasts; narrow; wide with broadcasts. Contexts have two levels where
/// there is stage 2.
fn profile(index: usize) -> Profile {
    let (wide, stage_2) = (index & 1 == 1, index & 2 == 0);
    Profile::default()
        .asid16(wide)
        .s2p(stage_2)
        .btm(wide)
        .two_level_contexts(stage_2)
        .ssidsize(10)
        .sidsize(8)
        .queues(if wide { 6 } else { 4 }, 5)
        .eager(false)
        .ril(index % 3 != 2)
}

fn scenario(instances: usize) -> Result<Scenario, String> {
    let mut text = String::from("name = \"stress\"\n");
    for index in 0..instances {
        text += &format!("[[instance]]\nname = \"{index}\"\n");
    }
    text += "[[master]]\nname = \"m\"\ninstance = \"0\"\nstreams = [1]\n[[domain]]\nname = \"d\"\n\
             [[step]]\nattach = { master = \"m\", domain = \"d\" }\n";
    Scenario::parse(&text, "stress").map_err(|errors| errors.to_string())
}

impl Setup {
    pub fn new(stress: &Stress, policy: AsidPolicy) -> Result<Self, String> {
        let shown =
            |what: &'static str| move |error: &dyn std::fmt::Display| format!("{what}: {error}");
        let scenario = scenario(stress.instances)?;
        let profile = |instance: &crate::scenario::Instance| {
            profile(instance.name.parse().unwrap_or_default())
        };
        let machine = ModelMachine::with_profiles(&scenario, stress.seed, profile);
        let machine = Arc::new(machine.map_err(|error| shown("machine")(&error))?);
        let world = World::new(machine.clone(), stress.instances);
        let workers = stress.threads;
        let cpus = Cpus::new(&world, workers);
        let mut config = Config::default();
        config.asid_policy = policy;
        #[cfg(feature = "mutation")]
        {
            config.mutation = stress.mutation;
        }
        let iommu = Iommu::new(cpus.clone(), config).map_err(|_| "no memory for an Iommu")?;

        let banked = policy == AsidPolicy::Banked;
        let (mut smmus, mut masters) = (Vec::new(), Vec::new());
        for instance in 0..stress.instances {
            let mut config = InstanceConfig::named("smmu");
            config.command_queue_log2 = if instance & 1 == 0 { 4 } else { 6 };
            config.event_queue_log2 = 5;
            config.sid_bits = 8;
            config.broadcast = true;
            if banked && instance == 0 {
                config.asid_bits = 6;
            }
            let mmio = TestMmio { world: world.clone(), instance };
            let probe = iommu.probe(mmio, config).map_err(|error| shown("probe")(&error))?;
            let smmu = probe.enable().map_err(|refused| shown("enable")(&refused))?;
            let add = |worker| {
                iommu
                    .add_master(
                        &smmu,
                        &[stream(worker)],
                        MasterConfig::default().with_pasid_bits(10),
                    )
                    .map_err(|error| shown("add_master")(&error))
            };
            masters.push((0..workers).map(add).collect::<Result<Vec<_>, _>>()?);
            smmus.push(smmu);
        }

        let boards = COMMON + workers;
        let memory_bytes = (workers as u64 * (PAGES + 1) + 8 * boards as u64) * PAGE;
        let memory = world.frames().allocate(memory_bytes, PAGE).ok_or("no memory for devices")?;
        let frees = Frees::watch(&world, stress.instances);
        let mut setup = Self {
            machine,
            world,
            cpus,
            iommu,
            smmus,
            workers,
            masters,
            boards: Vec::new(),
            processes: (0..workers).map(|_| RwLock::new(None)).collect(),
            frees,
            pasids: Vec::new(),
            fillers: None,
            memory,
            memory_bytes,
        };
        setup.allocate_pasids()?;
        for index in 0..boards {
            let board = setup.new_board(index, 0)?;
            setup.boards.push(RwLock::new(board));
        }
        if banked {
            setup.fill()?;
        }
        Ok(setup)
    }

    fn allocate_pasids(&mut self) -> Result<(), String> {
        // So many, with those between, that processes and fillers find room in 10 bits.
        let apart = (700 / (self.workers * PASIDS)).min(48);
        let mut between = Vec::new();
        let next = || self.iommu.allocate_pasid().map_err(|error| format!("a PASID: {error}"));
        for _ in 0..self.workers {
            let mut own = Vec::new();
            for _ in 0..PASIDS {
                own.push(next()?);
                for _ in 1..apart {
                    between.push(next()?);
                }
            }
            self.pasids.push(own);
        }
        for pasid in between {
            self.iommu.free_pasid(pasid).map_err(|error| format!("free_pasid: {error}"))?;
        }
        Ok(())
    }

    /// Takes most of the first bank of the first instance.
    fn fill(&mut self) -> Result<(), String> {
        let config = MasterConfig::default().with_pasid_bits(10);
        let smmu = self.smmus.first().ok_or("no instance")?;
        let master = self.iommu.add_master(smmu, &[stream(self.workers)], config);
        let master = master.map_err(|error| error.to_string())?;
        let mut domains = Vec::new();
        for _ in 0..FILLERS {
            let pasid = self.iommu.allocate_pasid().map_err(|error| error.to_string())?;
            let domain = self.iommu.create_domain(DomainConfig::default());
            let domain = domain.map_err(|error| error.to_string())?;
            let attached = self.iommu.attach_pasid(&master, pasid, &domain);
            attached.map_err(|error| error.to_string())?;
            domains.push((pasid, domain));
        }
        self.fillers = Some(Fillers { master, domains });
        Ok(())
    }

    /// The `generation`th domain of a board, with its anchor.
    pub fn new_board(&self, index: usize, generation: u64) -> Result<Arc<Board>, String> {
        let domain = self.iommu.create_domain(DomainConfig::default());
        let domain = domain.map_err(|error| format!("a domain: {error}"))?;
        let pages = self.workers as u64 * (PAGES + 1);
        let anchor = self.memory + (pages + 8 * index as u64 + generation % 8) * PAGE;
        let at = Iova(anchor_of(index));
        // SAFETY: nobody else maps an anchor, and the memory lives until the end.
        unsafe { domain.map(at, PhysAddr(anchor), PAGE, ATTRIBUTES) }
            .map_err(|error| format!("an anchor: {error}"))?;
        Ok(Arc::new(Board { domain, index, anchor, root: AtomicU64::new(0) }))
    }

    /// Memory for devices: that of a worker, and in it a page for its processes.
    pub fn memory_of(&self, worker: usize) -> (u64, u64) {
        let first = self.memory + worker as u64 * (PAGES + 1) * PAGE;
        (first, first + PAGES * PAGE)
    }

    /// An access of a device; `held` ones go to memory later.
    pub fn access(
        &self,
        who: Who,
        iova: u64,
        write: bool,
        held: bool,
    ) -> Result<Translation, Refusal> {
        let Who { instance, stream, substream } = who;
        let access = Access {
            stream,
            substream,
            ..if write { Access::write(0, iova) } else { Access::read(0, iova) }
        };
        match self.machine.model(instance) {
            None => panic!("instance {instance} is missing"),
            Some(mut model) if held => {
                let transfer =
                    if write { Transfer::Write(vec![0x5a; 8]) } else { Transfer::Read(8) };
                model.hold(access, transfer)
            }
            Some(mut model) => model.translate(access),
        }
    }

    /// Whatever is left of input addresses: translations, and accesses under way.
    pub fn left_of(&self, range: core::ops::Range<u64>) -> Option<String> {
        (0..self.smmus.len()).find_map(|instance| {
            let model = self.machine.model(instance)?;
            let entry = model
                .tlb_entries()
                .find(|entry| entry.va < range.end && entry.last() >= range.start);
            let entry = entry.map(|entry| {
                format!("{} still leads {:#x} to {:#x}", entry.tag, entry.va, entry.pa)
            });
            let held = model.held().find(|held| range.contains(&held.access.address));
            let held = held
                .map(|held| format!("an access to {:#x} is still on its way", held.access.address));
            Some(format!("on instance {instance} {}", entry.or(held)?))
        })
    }

    /// Whatever is left of the tables at `root`.
    pub fn left_of_tables(&self, root: u64) -> Option<String> {
        (0..self.smmus.len()).find_map(|instance| {
            let model = self.machine.model(instance)?;
            let entry = model.tlb_entries().find(|entry| entry.ttb == root).map(|entry| entry.tag);
            let walk = model.walk_entries().find(|entry| entry.ttb == root).map(|entry| entry.tag);
            Some(format!(
                "on instance {instance} {} still leads to tables at {root:#x}",
                entry.or(walk)?
            ))
        })
    }

    /// Notes where the tables of `board` are, by the translation of its anchor.
    pub fn learn_root(&self, board: &Board, instance: usize, entry: Option<u64>) {
        if board.root.load(Ordering::Relaxed) == 0
            && let Some(model) = self.machine.model(instance)
            && let Some(entry) = model.tlb_entries().find(|cached| Some(cached.id) == entry)
        {
            board.root.store(entry.ttb, Ordering::Relaxed);
        }
    }

    /// Somebody is done with `board`. The last one ends it: nothing of it may be left.
    pub fn retire(&self, board: Arc<Board>) -> Result<(), String> {
        let Some(board) = Arc::into_inner(board) else { return Ok(()) };
        let targets = board.domain.targets().unwrap_or_default();
        if !targets.is_empty() {
            return Err(format!("nobody uses a domain any more, but it has the tags {targets:?}"));
        }
        let root = board.root.load(Ordering::Relaxed);
        if root != 0
            && let Some(left) = self.left_of_tables(root)
        {
            return Err(format!("R2: nobody uses a domain any more, but {left}"));
        }
        board.domain.close().map_err(|refused| format!("a domain of nobody: {refused}"))
    }

    /// Gives everything back: nothing of the driver's memory may be left.
    pub fn tear_down(self) -> Result<(), String> {
        let Self { boards, masters, smmus, iommu, cpus, world, frees, fillers, pasids, .. } = self;
        let shown = |error: &dyn std::fmt::Display| format!("at the end: {error}");
        for board in boards {
            let board = board.into_inner().map_err(|error| shown(&error))?;
            let board = Arc::into_inner(board).ok_or("somebody still has a domain")?;
            board.domain.close().map_err(|refused| shown(&refused))?;
        }
        if let Some(Fillers { master, domains }) = fillers {
            for (pasid, domain) in domains {
                iommu.detach_pasid(&master, pasid).map_err(|error| shown(&error))?;
                iommu.free_pasid(pasid).map_err(|error| shown(&error))?;
                domain.close().map_err(|refused| shown(&refused))?;
            }
            master.close().map_err(|refused| shown(&refused))?;
        }
        for pasid in pasids.into_iter().flatten() {
            iommu.free_pasid(pasid).map_err(|error| shown(&error))?;
        }
        for master in masters.into_iter().flatten() {
            master.close().map_err(|refused| shown(&refused))?;
        }
        let mut listed = Vec::new();
        iommu.quarantined(&mut |item| listed.push(item));
        if !listed.is_empty() {
            return Err(format!("in quarantine at the end: {listed:?}"));
        }
        for smmu in smmus {
            iommu.remove(smmu).map_err(|refused| shown(&refused))?;
        }
        drop(iommu);
        if cpus.live() != 0 {
            return Err(format!("{} processes are left at the end", cpus.live()));
        }
        world.set_observer(None);
        if let Some(wrong) = frees.wrong().first() {
            return Err(format!("R3: freed while it can be read: {wrong}"));
        }
        let frames = world.frames();
        match (frames.live_bytes() - self.memory_bytes, frames.bad_frees()) {
            (0, 0) => Ok(()),
            (bytes, frees) => {
                Err(format!("{bytes} bytes are left at the end, {frees} wrong frees"))
            }
        }
    }
}

/// Who accesses.
#[derive(Clone, Copy, Debug)]
pub struct Who {
    pub instance: usize,
    pub stream: u32,
    pub substream: Option<u32>,
}

/// The stream of a worker's masters.
pub fn stream(worker: usize) -> StreamId {
    StreamId(worker as u32 + 1)
}

/// The page of a board that stays mapped.
pub fn anchor_of(index: usize) -> u64 {
    (1 + index as u64) * SPAN + SPAN - PAGE
}

/// Pages of a worker in a board: in a table that it shares with others, or all of one of its own.
pub fn window_of(index: usize, worker: usize, own_table: bool) -> u64 {
    let (board, worker) = ((1 + index as u64) * SPAN, worker as u64);
    if own_table {
        board + SPAN / 2 + worker * TABLE
    } else {
        board + (worker / 8) * TABLE + (worker % 8) * 64 * PAGE
    }
}

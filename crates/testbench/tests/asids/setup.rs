// SPDX-License-Identifier: MIT OR Apache-2.0
//! SMMUs that differ in the width of their ASIDs, masters with PASIDs, and domains whose pages lead to memory of
//! their own.

use std::fmt::Display;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use smmuv3::invalidate::Tag;
use smmuv3::{
    AsidPolicy, AttachError, Attributes, Config, Domain, DomainConfig, Failure, InstanceConfig,
    Iommu, Iova, Master, MasterConfig, PhysAddr, Process, ProcessConfig, Prot, Quarantined, Smmu,
    StreamId, SubstreamId, Unconfirmed, UnmapError,
};
use smmuv3_formats::Command;
use smmuv3_formats::register::CmdqProd;
use smmuv3_model::{Access, Observation, Profile, Transfer};
use smmuv3_testbench::machine::Machine;
use smmuv3_testbench::machine_model::ModelMachine;
use smmuv3_testbench::platform::{Observer, Point, TestMmio, TestPlatform, World};

use crate::allocator::{driver, live};
use crate::common::parse;
use crate::heap::{Apart, ApartMmio, Pins};
use crate::machine::FaultyMachine;

pub const PAGE: u64 = 0x1000;
/// Where every domain's pages begin.
pub const IOVA: u64 = 0x1000_0000;
/// Pages of a domain.
pub const PAGES: u64 = 8;
/// Nanoseconds that an SMMU has to answer: a hundred looks or so.
const DEADLINE: Duration = Duration::from_micros(200);

/// What an SMMU is like.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Bits of its ASIDs that the driver is told to use.
    pub bits: u32,
    /// Stage 2 exists, and 8-bit VMIDs.
    pub stage_2: bool,
    /// It takes part in what CPUs broadcast.
    pub broadcast: bool,
    /// log2 of its command queue.
    pub queue: u32,
}

pub const WIDE: Kind = Kind { bits: 16, stage_2: false, broadcast: false, queue: 5 };
pub const NARROW: Kind = Kind { bits: 8, ..WIDE };
/// 63 ASIDs.
pub const TINY: Kind = Kind { bits: 6, ..WIDE };
/// 63 ASIDs in each bank.
pub const BANKS: Kind = Kind { stage_2: true, ..TINY };
/// Shares the ASIDs of CPUs.
pub const CPU: Kind = Kind { broadcast: true, stage_2: true, ..WIDE };

pub type Dom = Domain<Apart>;

pub struct Device {
    pub master: Master<Apart>,
    pub instance: usize,
    pub streams: Vec<u32>,
}

/// See the module.
pub struct Setup {
    pub machine: Arc<FaultyMachine>,
    pub world: Arc<World>,
    pub pins: Arc<Pins>,
    pub iommu: Iommu<Apart>,
    kinds: Vec<Kind>,
    pub smmus: Vec<Smmu<Apart>>,
    pub devices: Vec<Device>,
    pub domains: Vec<Dom>,
    /// Of each domain: the root of its tables, its memory, and how many pages that has.
    places: Vec<(u64, u64, u64)>,
    /// A process, and the root of its tables.
    pub processes: Vec<(Process<Apart>, u64)>,
    /// How many ASIDs were free on each instance at first.
    free: Vec<usize>,
}

/// The default configuration with `policy`.
pub fn config(policy: AsidPolicy) -> Config {
    let mut config = Config::default();
    config.asid_policy = policy;
    config
}

impl Setup {
    pub fn new(policy: AsidPolicy, kinds: &[Kind]) -> Self {
        Self::with(config(policy), kinds, 1)
    }

    /// All instances enabled.
    pub fn with(config: Config, kinds: &[Kind], seed: u64) -> Self {
        let mut setup = Self::probed(config, kinds, seed);
        for _ in kinds {
            setup.enable();
        }
        setup
    }

    /// No instance enabled.
    pub fn probed(config: Config, kinds: &[Kind], seed: u64) -> Self {
        let instances: String = (0..kinds.len())
            .map(|index| format!("[[instance]]\nname = \"{index}\"\nstages = [1]\n"))
            .collect();
        let scenario = parse(&format!(
            "name = \"asids\"\n{instances}\
             [[master]]\nname = \"m\"\ninstance = \"0\"\nstreams = [0]\n\
             [[domain]]\nname = \"d\"\n[[step]]\nattach = {{ master = \"m\", domain = \"d\" }}\n"
        ));
        let profile = |kind: Kind| {
            let profile = Profile::default().asid16(kind.bits > 8).s2p(kind.stage_2).sidsize(10);
            profile.ssidsize(6).btm(kind.broadcast)
        };
        let inner = ModelMachine::with_profiles(&scenario, seed, |instance| {
            profile(kinds[instance.name.parse::<usize>().unwrap()])
        });
        let machine = Arc::new(FaultyMachine::new(inner.unwrap()));
        let world = World::new(machine.clone(), kinds.len());
        let pins = Arc::<Pins>::default();
        let apart = Apart { inner: TestPlatform(world.clone()), pins: pins.clone() };
        Self {
            machine,
            world,
            pins,
            iommu: driver(|| Iommu::new(apart, config).unwrap()),
            kinds: kinds.to_vec(),
            smmus: Vec::new(),
            devices: Vec::new(),
            domains: Vec::new(),
            places: Vec::new(),
            processes: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Enables the next instance.
    pub fn enable(&mut self) -> usize {
        let instance = self.smmus.len();
        let smmu = self.take_into_use(instance);
        self.free.push(self.iommu.free_asids(&smmu));
        self.smmus.push(smmu);
        instance
    }

    pub fn take_into_use(&self, instance: usize) -> Smmu<Apart> {
        let kind = self.kinds[instance];
        let mut config = InstanceConfig::named("smmu");
        config.command_queue_log2 = kind.queue;
        config.event_queue_log2 = 5;
        config.sid_bits = 10;
        config.asid_bits = kind.bits;
        config.deadline = DEADLINE;
        config.broadcast = kind.broadcast;
        let mmio = ApartMmio(TestMmio { world: self.world.clone(), instance });
        driver(|| {
            let probe = self.iommu.probe(mmio, config).unwrap();
            probe.enable().unwrap()
        })
    }

    /// The last instance was removed, and nothing is expected of it any more.
    pub fn forget_last(&mut self) {
        self.free.pop();
    }

    /// A master without PASIDs.
    pub fn device(&mut self, instance: usize, streams: &[u32]) -> usize {
        self.device_with(instance, streams, 0)
    }

    pub fn device_with(&mut self, instance: usize, streams: &[u32], pasid_bits: u32) -> usize {
        let ids: Vec<StreamId> = streams.iter().copied().map(StreamId).collect();
        let config = MasterConfig::default().with_pasid_bits(pasid_bits);
        let smmu = &self.smmus[instance];
        let master = driver(|| self.iommu.add_master(smmu, &ids, config).unwrap());
        self.devices.push(Device { master, instance, streams: streams.to_vec() });
        self.devices.len() - 1
    }

    pub fn pasid(&self) -> u32 {
        driver(|| self.iommu.allocate_pasid().unwrap().0)
    }

    pub fn domain(&mut self) -> usize {
        self.domain_of(PAGES)
    }

    /// A domain with `pages` pages, from [`IOVA`] on.
    pub fn domain_of(&mut self, pages: u64) -> usize {
        let before: Vec<u64> = self.world.frames().live().map(|(start, _)| start).collect();
        let domain = driver(|| self.iommu.create_domain(DomainConfig::default()).unwrap());
        let root = self.world.frames().live().find(|(start, _)| !before.contains(start));
        let memory = self.world.frames().allocate(pages * PAGE, PAGE).unwrap();
        let attributes = Attributes::normal(Prot::READ | Prot::WRITE);
        // SAFETY: the memory is given to nobody else.
        let mapped = driver(|| unsafe {
            domain.map(Iova(IOVA), PhysAddr(memory), pages * PAGE, attributes)
        });
        mapped.unwrap();
        self.domains.push(domain);
        self.places.push((root.unwrap().0, memory, pages));
        self.domains.len() - 1
    }

    /// A process without mappings, which has `asid` on the CPUs.
    pub fn process(&mut self, asid: u16) -> usize {
        let cookie = self.processes.len() as u64;
        self.pins.add(cookie, asid);
        let ttb = self.world.frames().allocate(PAGE, PAGE).unwrap();
        // T0SZ 16, write-back, inner shareable, 44 bits out (§6).
        let tcr = 16 | 1 << 8 | 1 << 10 | 3 << 12 | 4 << 32;
        let config = ProcessConfig::new(PhysAddr(ttb), tcr, 0xff);
        // SAFETY: the tables stay, and are empty.
        let process = driver(|| unsafe { self.iommu.add_process(config, cookie).unwrap() });
        self.processes.push((process, ttb));
        cookie as usize
    }

    /// Attaches a device by a PASID, or without one where that is 0.
    pub fn attach(&self, device: usize, pasid: u32, domain: usize) -> Result<(), AttachError> {
        let (master, domain) = (&self.devices[device].master, &self.domains[domain]);
        driver(|| match pasid {
            0 => self.iommu.attach(master, domain),
            _ => self.iommu.attach_pasid(master, SubstreamId(pasid), domain),
        })
    }

    pub fn detach(&self, device: usize, pasid: u32) -> Result<(), AttachError> {
        let master = &self.devices[device].master;
        let ended = driver(|| match pasid {
            0 => self.iommu.detach(master),
            _ => self.iommu.detach_pasid(master, SubstreamId(pasid)),
        });
        ended.map_err(Into::into)
    }

    /// Where page `page` of `domain` leads.
    pub fn memory(&self, domain: usize, page: u64) -> u64 {
        self.places[domain].1 + page * PAGE
    }

    pub fn root(&self, domain: usize) -> u64 {
        self.places[domain].0
    }

    /// The only number of `domain` on `instance`.
    #[track_caller]
    pub fn asid(&self, domain: usize, instance: usize) -> u16 {
        let tags = self.tags(domain, instance);
        assert_eq!(tags.len(), 1, "{tags:?}");
        tags[0].asid
    }

    pub fn tags(&self, domain: usize, instance: usize) -> Vec<Tag> {
        let targets = self.domains[domain].targets().unwrap();
        let here = targets.iter().filter(|target| target.instance.index() == instance);
        here.map(|target| target.tag).collect()
    }

    pub fn free(&self, instance: usize) -> usize {
        self.iommu.free_asids(&self.smmus[instance])
    }

    fn access(pasid: u32, stream: u32, page: u64) -> Access {
        let substream = (pasid != 0).then_some(pasid);
        Access { substream, ..Access::write(stream, IOVA + page * PAGE) }
    }

    /// Where accesses to a page go, by each stream of a device: all to the same place.
    #[track_caller]
    pub fn dma(&self, device: usize, pasid: u32, page: u64) -> Option<u64> {
        let Device { instance, streams, .. } = &self.devices[device];
        let mut model = self.machine.model(*instance).unwrap();
        let reached = streams.iter().map(|stream| {
            let access = Self::access(pasid, *stream, page);
            model.translate(access).ok().map(|translation| translation.pa)
        });
        let reached: Vec<Option<u64>> = reached.collect();
        assert!(reached.iter().all(|pa| *pa == reached[0]), "{reached:x?}");
        reached[0]
    }

    /// Lets accesses of a device hang between translation and memory.
    pub fn hold(&self, device: usize, pasid: u32, page: u64) {
        let Device { instance, streams, .. } = &self.devices[device];
        let mut model = self.machine.model(*instance).unwrap();
        for stream in streams {
            // Where it goes is for `dma` to judge.
            let _ = model.hold(Self::access(pasid, *stream, page), Transfer::Write(vec![1; 8]));
        }
    }

    pub fn unmap(&self, domain: usize, page: u64) -> Result<u64, UnmapError> {
        // SAFETY: the test is alone.
        driver(|| unsafe { self.domains[domain].unmap(Iova(IOVA + page * PAGE), PAGE) })
    }

    /// No instance but `failed` has anything left of a page that was unmapped.
    #[track_caller]
    pub fn check_unmapped(
        &self,
        domain: usize,
        page: u64,
        failed: Option<usize>,
        why: &dyn Display,
    ) {
        let (root, va) = (self.root(domain), IOVA + page * PAGE);
        for instance in (0..self.smmus.len()).filter(|instance| Some(*instance) != failed) {
            let model = self.machine.model(instance).unwrap();
            let stale = model.tlb_entries().find(|entry| entry.ttb == root && entry.va == va);
            assert_eq!(stale, None, "{why}: instance {instance}");
            let held = model.held().find(|held| {
                held.entry.as_ref().is_some_and(|entry| entry.ttb == root && entry.va == va)
            });
            assert!(held.is_none(), "{why}: instance {instance}: {held:?}");
        }
    }

    pub fn quarantined(&self) -> Vec<Quarantined> {
        let mut list = Vec::new();
        self.iommu.quarantined(&mut |item| list.push(item));
        list
    }

    pub fn reset(&self, instance: usize) {
        driver(|| self.iommu.reset(&self.smmus[instance]).unwrap());
    }

    /// Refuses the first command of the `nth` batch that `instance` is given from now on.
    pub fn refuse(&self, instance: usize, mut nth: u64) {
        self.machine.on_write(move |machine, at, offset, _| {
            if at == instance && offset == CmdqProd::OFFSET {
                if nth == 0 {
                    machine.model(instance).unwrap().fail_next_command(1);
                }
                nth = nth.wrapping_sub(1);
            }
        });
    }

    /// Stops `instance` after so many commands, or lets it go on.
    pub fn wedge(&self, instance: usize, commands: Option<u64>) {
        self.machine.model(instance).unwrap().wedge_after(commands);
    }

    /// The names of the commands that `instance` was given since the last call, and themselves.
    pub fn commands(&self, instance: usize) -> Vec<Command> {
        let all = self.world.take_commands().into_iter();
        all.filter(|(at, _)| *at == instance).map(|(_, command)| command).collect()
    }

    /// Calls `hook` wherever the world may change under the driver; not from within itself.
    pub fn hook(&self, hook: impl FnMut(Point, bool) + Send + 'static) {
        self.world.set_observer(Some(Arc::new(Hook(Mutex::new(hook)))));
    }

    pub fn unhook(&self) {
        self.world.set_observer(None);
    }

    /// The SMMUs found nothing wrong; whatever they cached carries a tag that its address space has; no tag has
    /// two owners.
    #[track_caller]
    pub fn check(&self, why: &dyn Display) {
        let mut owners: Vec<(u64, Vec<smmuv3::Target>)> = Vec::new();
        for (domain, (root, ..)) in self.domains.iter().zip(&self.places) {
            owners.push((*root, domain.targets().unwrap()));
        }
        for (process, root) in &self.processes {
            owners.push((*root, process.targets().unwrap()));
        }
        let mut tags: Vec<(usize, Tag)> = Vec::new();
        for (_, targets) in &owners {
            tags.extend(targets.iter().map(|target| (target.instance.index(), target.tag)));
        }
        let all = tags.len();
        tags.sort_unstable();
        tags.dedup();
        assert_eq!(tags.len(), all, "{why}: a tag has two owners");
        for instance in 0..self.smmus.len() {
            for observation in self.world.observations(instance).unwrap() {
                let wrong = matches!(
                    observation,
                    Observation::TagConflict { .. }
                        | Observation::Misuse(_)
                        | Observation::Unsupported(_)
                );
                assert!(!wrong, "{why}: instance {instance}: {observation:x?}");
            }
            let model = self.machine.model(instance).unwrap();
            let leaves = model.tlb_entries().map(|entry| (entry.ttb, entry.tag));
            for (ttb, tag) in leaves.chain(model.walk_entries().map(|entry| (entry.ttb, entry.tag)))
            {
                let tag = Tag::el1(tag.vmid.unwrap_or(0), tag.asid);
                let Some((_, targets)) = owners.iter().find(|(root, _)| *root == ttb) else {
                    panic!("{why}: instance {instance}: {tag:?} of tables that are gone");
                };
                let named = |target: &smmuv3::Target| {
                    target.instance.index() == instance && target.tag == tag
                };
                let named = targets.iter().any(named);
                assert!(named, "{why}: instance {instance}: {tag:?} is not in {targets:?}");
            }
        }
    }

    /// Detaches and closes everything: nothing is left.
    #[track_caller]
    pub fn tear_down(self, why: &dyn Display) {
        self.unhook();
        for (index, device) in self.devices.iter().enumerate() {
            assert_eq!(self.detach(index, 0), Ok(()), "{why}: device {index}");
            for pasid in 1..1u32 << device.master.pasid_bits() {
                match self.detach(index, pasid) {
                    Ok(()) | Err(AttachError::PasidUnknown { .. }) => {}
                    Err(error) => panic!("{why}: device {index}, PASID {pasid}: {error}"),
                }
            }
        }
        self.check(why);
        assert_eq!(self.quarantined(), [], "{why}");
        for domain in &self.domains {
            assert_eq!(domain.targets().unwrap(), [], "{why}");
        }
        for (instance, free) in self.free.iter().enumerate() {
            assert_eq!(self.free(instance), *free, "{why}: instance {instance} lost ASIDs");
        }
        let Self { world, iommu, smmus, devices, domains, places, processes, .. } = self;
        for Device { master, streams, .. } in devices {
            assert!(driver(|| master.close().is_ok()), "{why}: {streams:?}");
        }
        for domain in domains {
            assert!(driver(|| domain.close().is_ok()), "{why}");
        }
        let mut theirs: u64 = places.iter().map(|(_, _, pages)| pages * PAGE).sum();
        for (process, _) in processes {
            assert!(driver(|| process.release().is_ok() && process.close().is_ok()), "{why}");
            theirs += PAGE;
        }
        for smmu in smmus {
            assert!(driver(|| iommu.remove(smmu).is_ok()), "{why}");
        }
        driver(|| drop(iommu));
        let frames = world.frames();
        assert_eq!((frames.live_bytes(), frames.bad_frees()), (theirs, 0), "{why}");
        drop(frames);
        assert_eq!(live(), 0, "{why}: heap");
    }
}

/// What an instance did to a change.
#[track_caller]
pub fn failure(result: Result<(), AttachError>) -> (usize, Failure) {
    match result {
        Err(
            AttachError::Unconfirmed(Unconfirmed { instance, what, .. })
            | AttachError::MakingRoom(Unconfirmed { instance, what, .. }),
        ) => (instance.index(), what),
        other => panic!("{other:?}"),
    }
}

/// The same of one that was needed to make room for another.
#[track_caller]
pub fn no_room(result: Result<(), AttachError>) -> (usize, Failure) {
    match result {
        Err(AttachError::MakingRoom(Unconfirmed { instance, what, .. })) => {
            (instance.index(), what)
        }
        other => panic!("{other:?}"),
    }
}

struct Hook<F>(Mutex<F>);

impl<F: FnMut(Point, bool) + Send> Observer for Hook<F> {
    fn at(&self, point: Point, interruptible: bool) {
        // What the hook itself makes the driver do is not looked at.
        if let Ok(mut hook) = self.0.try_lock() {
            hook(point, interruptible);
        }
    }
}

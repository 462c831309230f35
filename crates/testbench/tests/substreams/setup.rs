// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any number of SMMUs and masters; processes with page tables of their own.

use smmuv3_testbench::inside::Inside as _;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use smmuv3::{
    AttachError, Attributes, Bond, Config, Domain, DomainConfig, Failure, InstanceConfig, Iommu,
    Iova, Master, MasterConfig, PhysAddr, Process, ProcessConfig, Prot, Quarantined, Refused, Smmu,
    StreamId, SubstreamId, Unconfirmed,
};
use smmuv3_formats::register::CmdqProd;
use smmuv3_formats::{EventId, L1Cd, Ste};
use smmuv3_model::{Access, Profile, Reason};
use smmuv3_testbench::machine::Machine;
use smmuv3_testbench::machine_model::ModelMachine;
use smmuv3_testbench::platform::{TestMmio, TestPlatform, World};
use smmuv3_testbench::scenario::Scenario;

use crate::eyes::{Eyes, Step};
use crate::machine::FaultyMachine;
use crate::os::{Os, OsMmio};

pub const PAGE: u64 = 0x1000;
/// Where everything is mapped.
pub const IOVA: u64 = 0x4000_0000;
/// Nanoseconds that an SMMU has to answer.
pub const DEADLINE: Duration = Duration::from_micros(200);
const MEMORY: u64 = 4 << 20;

/// Substreams of `bits` bits, in 2-level tables too if `two_levels`; 16-bit ASIDs.
pub fn hardware(bits: u32, two_levels: bool) -> Profile {
    Profile::default().ssidsize(bits).two_level_contexts(two_levels)
}

/// That takes broadcasts.
pub fn sharing() -> Profile {
    hardware(8, true).btm(true)
}

/// A driver at work.
pub struct Setup {
    pub machine: Arc<FaultyMachine>,
    pub world: Arc<World>,
    pub iommu: Iommu<Os>,
    pub smmus: Vec<Smmu<Os>>,
    pub masters: Vec<Master<Os>>,
    /// Of each master: its instance and its streams.
    pub places: Vec<(usize, Vec<u32>)>,
    pub eyes: Arc<Eyes>,
    /// Memory for devices.
    pub memory: u64,
}

pub type MasterOf<'a> = (usize, &'a [u32], u32);

impl Setup {
    /// Masters with an instance, streams, and bits of substreams.
    pub fn new(profiles: &[Profile], masters: &[MasterOf<'_>]) -> Self {
        Self::with(Config::default(), profiles, masters)
    }

    /// One instance with a master of two streams, 1 and 2.
    pub fn one(bits: u32, two_levels: bool) -> Self {
        Self::new(&[hardware(bits, two_levels)], &[(0, &[1, 2], bits)])
    }

    pub fn with(config: Config, profiles: &[Profile], masters: &[MasterOf<'_>]) -> Self {
        let mut text = String::from("name = \"substreams\"\n");
        for (index, profile) in profiles.iter().enumerate() {
            let coherent = profile.idr0.cohacc();
            text += &format!("[[instance]]\nname = \"{index}\"\ncoherent = {coherent}\n");
        }
        text += "[[master]]\nname = \"m\"\ninstance = \"0\"\nstreams = [0]\n";
        text += "[[domain]]\nname = \"d\"\n[[step]]\nattach = { master = \"m\", domain = \"d\" }\n";
        let scenario =
            Scenario::parse(&text, "substreams").unwrap_or_else(|errors| panic!("{errors}"));
        let profile = |instance: &smmuv3_testbench::scenario::Instance| {
            profiles[instance.name.parse::<usize>().unwrap()].clone()
        };
        let inner = ModelMachine::with_profiles(&scenario, 1, profile).unwrap();
        let machine = Arc::new(FaultyMachine::new(inner));
        let world = World::new(machine.clone(), profiles.len());
        let iommu = Iommu::new(Os::new(TestPlatform(world.clone())), config).unwrap();
        let eyes = Eyes::new(&world);
        let smmus: Vec<_> = (0..profiles.len())
            .map(|instance| {
                let mut config = InstanceConfig::named("smmu");
                config.sid_bits = 5;
                config.command_queue_log2 = 5;
                config.deadline = DEADLINE;
                config.device_deadline = config.deadline;
                config.broadcast = profiles[instance].idr0.btm();
                config.el2_host = profiles[instance].idr0.hyp();
                let mmio = OsMmio(TestMmio { world: world.clone(), instance });
                let probe = iommu.probe(mmio, config).unwrap();
                probe.enable().unwrap()
            })
            .collect();
        let memory = world.frames().allocate(MEMORY, MEMORY).unwrap();
        let mut setup = Self {
            machine,
            world,
            iommu,
            smmus,
            masters: Vec::new(),
            places: Vec::new(),
            eyes,
            memory,
        };
        for (instance, streams, bits) in masters {
            setup.add_master(*instance, streams, *bits);
        }
        setup.world.set_observer(Some(setup.eyes.clone()));
        setup
    }

    pub fn add_master(&mut self, instance: usize, streams: &[u32], bits: u32) -> usize {
        let config = MasterConfig::default().with_pasid_bits(bits);
        self.add_master_with(instance, streams, config)
    }

    pub fn add_master_with(
        &mut self,
        instance: usize,
        streams: &[u32],
        config: MasterConfig,
    ) -> usize {
        let ids: Vec<StreamId> = streams.iter().copied().map(StreamId).collect();
        self.masters.push(self.iommu.add_master(&self.smmus[instance], &ids, config).unwrap());
        self.places.push((instance, streams.to_vec()));
        for stream in streams {
            self.eyes.add_entry(instance, *stream, self.ste_at(instance, *stream));
        }
        self.masters.len() - 1
    }

    /// A domain in which `IOVA` leads to the `page`th page of memory, and fifteen more.
    pub fn domain(&self, page: u64) -> Domain<Os> {
        let domain = self.iommu.create_domain(DomainConfig::default()).unwrap();
        let attributes = Attributes::normal(Prot::READ | Prot::WRITE);
        let pa = PhysAddr(self.page(page));
        // SAFETY: the memory lives as long as the test.
        unsafe { domain.map(Iova(IOVA), pa, 16 * PAGE, attributes).unwrap() };
        domain
    }

    /// Address of the `page`th page of memory.
    pub fn page(&self, page: u64) -> u64 {
        self.memory + page * PAGE
    }

    pub fn pasid(&self) -> SubstreamId {
        self.iommu.allocate_pasid().unwrap()
    }

    /// A process that the operating system can pin by `asid`, if any; its tables lead from `IOVA` to the `page`th
    /// page of memory, and fifteen more.
    pub fn process(&self, cookie: u64, asid: Option<u16>, page: u64) -> (Process<Os>, Tables) {
        let tables = Tables::new(&self.world);
        for index in 0..16 {
            tables.map(IOVA + index * PAGE, self.page(page + index));
        }
        if let Some(asid) = asid {
            self.iommu.platform().pins().answers.insert(cookie, asid);
        }
        (self.add_process(tables.config(), cookie), tables)
    }

    pub fn add_process(&self, config: ProcessConfig, cookie: u64) -> Process<Os> {
        // SAFETY: devices of a test only touch what the test tells them to.
        unsafe { self.iommu.add_process(config, cookie).unwrap() }
    }

    /// Where the entry of a stream is.
    pub fn ste_at(&self, instance: usize, stream: u32) -> u64 {
        let table = self.smmus[instance].inside().streams();
        table.entry(self.iommu.platform(), StreamId(stream)).unwrap().address().0
    }

    pub fn words(&self, pa: u64) -> [u64; 8] {
        std::array::from_fn(|word| self.read(pa + 8 * word as u64))
    }

    pub fn read(&self, pa: u64) -> u64 {
        self.machine.ram().read64(pa).unwrap()
    }

    /// The entry of a master's first stream; the others have the same.
    pub fn ste(&self, master: usize) -> Ste {
        let (instance, streams) = &self.places[master];
        let first = self.words(self.ste_at(*instance, streams[0]));
        for stream in streams {
            assert_eq!(self.words(self.ste_at(*instance, *stream)), first, "stream {stream}");
        }
        Ste(first)
    }

    /// Where the context of a substream is, by the rules of §5.3.
    pub fn cd_at(&self, master: usize, substream: u32) -> Option<u64> {
        let ste = self.ste(master);
        let (base, index) = (ste.s1_context_ptr(), u64::from(substream));
        let split = match ste.s1_fmt() {
            0 => return Some(base + 64 * index),
            1 => 6,
            _ => 10,
        };
        let descriptor = L1Cd([self.read(base + 8 * (index >> split))]);
        descriptor.v().then(|| descriptor.l2_ptr() + 64 * (index & ((1 << split) - 1)))
    }

    /// The context of a substream.
    pub fn cd(&self, master: usize, substream: u32) -> [u64; 8] {
        self.words(self.cd_at(master, substream).unwrap())
    }

    /// What becomes of a write by a master, with each of its streams: where it goes, or why it does not.
    #[track_caller]
    pub fn dma_at(
        &self,
        master: usize,
        substream: Option<SubstreamId>,
        iova: u64,
    ) -> Result<u64, (Reason, Option<EventId>)> {
        let (instance, streams) = &self.places[master];
        device(&self.machine, *instance, streams, substream, iova)
    }

    #[track_caller]
    pub fn dma(&self, master: usize, substream: Option<SubstreamId>) -> Option<u64> {
        self.dma_at(master, substream, IOVA).ok()
    }

    /// Calls `look` at every point of `call` at which a device may do something. With no driver underneath.
    pub fn during<R>(
        &self,
        call: impl FnOnce() -> R,
        look: impl Fn(&FaultyMachine) + Send + Sync + 'static,
    ) -> R {
        let machine = self.machine.clone();
        self.eyes.hook(Some(Arc::new(move |_| look(&machine))));
        let result = call();
        self.eyes.hook(None);
        result
    }

    /// What the driver does during `call`.
    pub fn steps<R>(&self, call: impl FnOnce() -> R) -> (R, Vec<Step>) {
        self.eyes.take_steps();
        let result = call();
        (result, self.eyes.take_steps())
    }

    /// As [`Setup::steps`], in words. Stores to a stream's entry and to contexts of `master` are named.
    pub fn told<R>(&self, master: usize, call: impl FnOnce() -> R) -> (R, Vec<String>) {
        let (result, steps) = self.steps(call);
        let mut names: BTreeMap<u64, String> = BTreeMap::new();
        let (instance, streams) = &self.places[master];
        for stream in streams {
            names.insert(self.ste_at(*instance, *stream), format!("ste {stream}"));
        }
        let bits = self.masters[master].pasid_bits();
        if self.ste(master).s1_context_ptr() != 0 {
            for substream in 0..1u32 << bits {
                if let Some(at) = self.cd_at(master, substream) {
                    names.insert(at, format!("cd {substream}"));
                }
            }
        }
        let step = |step: &Step| match step {
            Step::Store(pa, value) => {
                let unknown = || format!("{:#x}", pa & !63);
                let name = names.get(&(pa & !63)).cloned().unwrap_or_else(unknown);
                format!("{name}[{}] = {value:#x}", (pa & 63) / 8)
            }
            Step::Published(pa, bytes) => format!("{pa:#x}: {bytes} bytes"),
            Step::Command(at, command) => {
                assert_eq!(at, instance);
                command.to_string()
            }
        };
        (result, steps.iter().map(step).collect())
    }

    pub fn quarantined(&self) -> Vec<Quarantined> {
        let mut list = Vec::new();
        self.iommu.quarantined(&mut |item| list.push(item));
        list
    }

    pub fn model(
        &self,
        instance: usize,
    ) -> smmuv3_testbench::lock::Guard<'_, smmuv3_model::Model<smmuv3_testbench::caches::SmmuMemory>>
    {
        self.machine.model(instance).unwrap()
    }

    pub fn wedge(&self, instance: usize, commands: Option<u64>) {
        self.model(instance).wedge_after(commands);
    }

    /// Lets the first command of the `nth` batch from now on of `instance` be refused.
    pub fn refuse(&self, instance: usize, nth: u64) {
        let mut left = nth;
        self.machine.on_write(move |machine, at, offset, _| {
            if at == instance && offset == CmdqProd::OFFSET {
                if left == 0 {
                    machine.model(instance).unwrap().fail_next_command(1);
                }
                left = left.wrapping_sub(1);
            }
        });
    }

    pub fn has_failed(&self, instance: usize) -> bool {
        self.smmus[instance].has_failed()
    }

    pub fn live_bytes(&self) -> u64 {
        self.world.frames().live_bytes()
    }

    /// The only tag of a process or domain on an instance.
    #[track_caller]
    pub fn asid(targets: &[smmuv3::Target], instance: usize) -> u16 {
        let here = targets.iter().filter(|target| target.instance.index() == instance);
        let tags: Vec<u16> = here.map(|target| target.tag.asid).collect();
        let [asid] = tags[..] else { panic!("{tags:x?}") };
        asid
    }

    /// Closes everything, which is blocked: nothing is left, nothing was wrong.
    #[track_caller]
    pub fn tear_down(self, domains: Vec<Domain<Os>>, processes: Vec<(Process<Os>, Tables)>) {
        assert_eq!(self.quarantined(), []);
        self.eyes.check("in the end");
        self.eyes.hook(None);
        for domain in domains {
            assert!(domain.close().is_ok());
        }
        for (process, tables) in processes {
            assert!(process.close().is_ok());
            tables.free();
        }
        for master in self.masters {
            assert!(master.close().is_ok());
        }
        for smmu in &self.smmus {
            // All of them, of each bank; or as many as the policy uses.
            let (bits, free) = (smmu.features().asid_bits, self.iommu.free_asids(smmu));
            assert!(free % ((1 << bits) - 1) == 0 || free == 255, "{free}");
        }
        for smmu in self.smmus {
            assert!(self.iommu.remove(smmu).is_ok());
        }
        let held = self.iommu.platform().pins().held.clone();
        assert!(held.values().all(|held| *held == 0), "{held:?}");
        self.eyes.check("at the end");
        self.world.set_observer(None);
        drop(self.iommu);
        let mut frames = self.world.frames();
        frames.free(self.memory, MEMORY);
        assert_eq!((frames.live_bytes(), frames.bad_frees()), (0, 0));
    }
}

/// A write by each of the streams, which all come to the same.
#[track_caller]
pub fn device(
    machine: &FaultyMachine,
    instance: usize,
    streams: &[u32],
    substream: Option<SubstreamId>,
    iova: u64,
) -> Result<u64, (Reason, Option<EventId>)> {
    let mut model = machine.model(instance).unwrap();
    let mut results = streams.iter().map(|stream| {
        let substream = substream.map(|pasid| pasid.0);
        let result = model.translate(Access { substream, ..Access::write(*stream, iova) });
        result.map(|translation| translation.pa).map_err(|refusal| {
            let event = refusal.event.map(|event| event.event().unwrap());
            (refusal.reason, event)
        })
    });
    let first = results.next().unwrap();
    for other in results {
        assert_eq!(other, first);
    }
    first
}

/// The page tables of a process: 39 bits of input, 4 KiB, one table of each level.
pub struct Tables {
    world: Arc<World>,
    frames: [u64; 3],
}

impl Tables {
    /// T0SZ = 25, write-back, inner shareable, 4 KiB, IPS of 44 bits.
    pub const TCR: u64 = 4 << 32 | 3 << 12 | 1 << 10 | 1 << 8 | 25;
    pub const MAIR: u64 = 0xff;

    pub fn new(world: &Arc<World>) -> Self {
        let frame = || world.frames().allocate(PAGE, PAGE).unwrap();
        let tables = Self { world: world.clone(), frames: [frame(), frame(), frame()] };
        tables.write(0, IOVA >> 30, tables.frames[1] | 3);
        tables.write(1, IOVA >> 21 & 0x1ff, tables.frames[2] | 3);
        tables
    }

    pub fn root(&self) -> u64 {
        self.frames[0]
    }

    pub fn config(&self) -> ProcessConfig {
        ProcessConfig::new(PhysAddr(self.frames[0]), Self::TCR, Self::MAIR)
    }

    /// A page for unprivileged reads and writes: nG, AF, inner shareable, AP = 01.
    pub fn map(&self, iova: u64, pa: u64) {
        self.write(2, iova >> 12 & 0x1ff, pa | 1 << 11 | 1 << 10 | 3 << 8 | 1 << 6 | 3);
    }

    pub fn unmap(&self, iova: u64) {
        self.write(2, iova >> 12 & 0x1ff, 0);
    }

    fn write(&self, table: usize, index: u64, value: u64) {
        self.world.machine().ram().write64(self.frames[table] + 8 * index, value).unwrap();
    }

    /// Something by which an SMMU can still read them.
    pub fn reference(&self, machine: &FaultyMachine) -> Option<String> {
        (0..).map_while(|instance| machine.model(instance)).find_map(|model| {
            let found = self.frames.iter().find_map(|frame| model.references(*frame, PAGE));
            found.map(|reference| reference.to_string())
        })
    }

    /// The process is gone: no SMMU reads them.
    #[track_caller]
    pub fn free(self) {
        for instance in (0..).map_while(|instance| self.world.machine().model(instance)) {
            for frame in self.frames {
                let reference = instance.references(frame, PAGE);
                assert!(reference.is_none(), "{}", reference.unwrap());
            }
        }
        for frame in self.frames {
            self.world.frames().free(frame, PAGE);
        }
    }
}

/// Unbinds, which works.
#[track_caller]
pub fn unbind(bond: Bond<Os>) {
    if let Err(Refused { error, .. }) = bond.unbind() {
        panic!("{error}");
    }
}

/// Those steps that hardware or anybody else could notice; memory that nothing leads to was made ready at most.
pub fn noticeable(steps: Vec<Step>) -> Vec<Step> {
    steps.into_iter().filter(|step| !matches!(step, Step::Published(..))).collect()
}

/// What an instance did to a change.
#[track_caller]
pub fn failure<T>(result: Result<T, impl Into<AttachError>>) -> (usize, Failure) {
    match result.map_err(Into::into) {
        Err(
            AttachError::Unconfirmed(Unconfirmed { instance, what, .. })
            | AttachError::MakingRoom(Unconfirmed { instance, what, .. }),
        ) => (instance.index(), what),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was confirmed"),
    }
}

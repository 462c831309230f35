// SPDX-License-Identifier: MIT OR Apache-2.0
//! A host with one SMMU, a guest on it, and devices that are given to the guest.

use smmuv3_testbench::keeping::keeping;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use smmuv3::nest::{Forwarder, Nest, NestConfig, Owner, Stop};
use smmuv3::{
    AtsMode, Attributes, Config, Domain, DomainConfig, InstanceConfig, Interrupt, Iommu, Iova,
    Master, MasterConfig, PhysAddr, Prot, Report, Smmu, StreamId,
};
use smmuv3_formats::{Command, EventRecord, Ste};
use smmuv3_model::Adversary;
use smmuv3_testbench::machine::{Dma, Machine, Outcome};
use smmuv3_testbench::machine_model::{ModelMachine, profile};
use smmuv3_testbench::platform::{Observer, Point, TestMmio, TestPlatform, World};
use smmuv3_testbench::scenario::{Instance, Scenario};

use crate::guest::{Guest, PAGE, PAGES, SPAN, VA};

/// What a device of the guest is subject to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// The guest's space, over the domain.
    Space(usize),
    /// The domain alone, since the guest bypasses its SMMU.
    Bypass,
    /// Nothing, since the guest's entry is invalid.
    Invalid,
    /// The domain alone, as the host says.
    Plain,
    Detached,
}

/// The host's numbers of the devices' streams, and the guest's.
pub const STREAMS: [(u32, u32); 2] = [(0x900, 0x20), (0xa00, 0x10)];

/// How many page requests each device may have under way, where it asks.
pub const CREDITS: u32 = 6;

pub struct Host {
    pub world: Arc<World>,
    pub iommu: Iommu<TestPlatform>,
    pub smmu: Smmu<TestPlatform>,
    pub domain: Domain<TestPlatform>,
    pub nest: Nest<TestPlatform>,
    pub masters: Vec<Master<TestPlatform>>,
    pub uses: [Use; 2],
    pub guest: Guest,
    /// Which pages of the guest's memory it has at present.
    pub present: BTreeMap<usize, u64>,
    forwarder: Forwarder,
    pub events: Vec<EventRecord>,
}

/// What the devices do beyond the rest.
#[derive(Clone, Copy, Default)]
struct Devices {
    ats: [AtsMode; 2],
    /// They stall, and the guest is shown so many of that at once.
    stalls: Option<u32>,
    /// They ask for pages, and the guest is shown so many groups of that at once; answers carry PASIDs.
    pages: Option<(u32, bool)>,
}

pub const MACHINE: &str = r#"
name = "nested"
[[instance]]
name = "smmu"
stages = [1, 2]
[[master]]
name = "nic"
instance = "smmu"
streams = [0x900]
[[master]]
name = "gpu"
instance = "smmu"
streams = [0xa00]
"#;

/// Devices that never rest.
struct Restless {
    world: Arc<World>,
    numbers: Mutex<u64>,
}

impl Observer for Restless {
    fn at(&self, _: Point, _: bool) {
        let draw = |limit: u64| {
            let mut state = self.numbers.lock().unwrap();
            *state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (*state >> 33) % limit
        };
        let va = VA + draw(SPAN as u64) * PAGE;
        let mut buffer = [0; 8];
        // What comes of it is judged when nothing changes.
        let _ = self.world.machine().dma(draw(2) as usize, None, va, Dma::Read(&mut buffer));
    }
}

/// A device that accesses one address all the time.
struct Watching {
    world: Arc<World>,
    master: usize,
    address: u64,
    count: Arc<AtomicUsize>,
}

impl Observer for Watching {
    fn at(&self, _: Point, _: bool) {
        let mut buffer = [0; 8];
        let machine = self.world.machine();
        let parts = machine.dma(self.master, None, self.address, Dma::Read(&mut buffer)).unwrap();
        if !matches!(parts[0].outcome, Outcome::Reached(_)) {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Host {
    /// On the model, with ATS; the first device has it, too.
    pub fn with_ats(seed: u64) -> Self {
        Self::with_ats_on(seed, InstanceConfig::named("smmu"))
    }

    /// The same, of which the driver is told this.
    pub fn with_ats_on(seed: u64, config: InstanceConfig) -> Self {
        Self::with_ats_of(seed, [AtsMode::Full, AtsMode::Off], config)
    }

    /// The first device is given intermediate addresses.
    pub fn with_split_ats(seed: u64) -> Self {
        Self::with_ats_of(seed, [AtsMode::Split, AtsMode::Off], InstanceConfig::named("smmu"))
    }

    /// And the other one physical ones.
    pub fn with_both_kinds_of_ats(seed: u64) -> Self {
        Self::with_ats_of(seed, [AtsMode::Split, AtsMode::Full], InstanceConfig::named("smmu"))
    }

    fn with_ats_of(seed: u64, ats: [AtsMode; 2], instance: InstanceConfig) -> Self {
        let mut scenario = Scenario::parse(MACHINE, "nested").unwrap();
        scenario.instances[0].ats = true;
        for (master, ats) in scenario.masters.iter_mut().zip(ats) {
            master.ats = ats;
        }
        let machine = Arc::new(ModelMachine::new(&scenario, seed).unwrap());
        let devices = Devices { ats, ..Devices::default() };
        Self::of(machine, Config::default(), devices, instance)
    }

    /// On a model with page requests and 8 bits of PASIDs; the guest is shown so many groups at once. Both devices ask, and need
    /// PASIDs in answers or not. The queue has `log2` bits.
    pub fn with_pages(shown: u32, needs_pasid: bool, ats: AtsMode, log2: u32) -> Self {
        let mut scenario = Scenario::parse(MACHINE, "nested").unwrap();
        let instance = &mut scenario.instances[0];
        (instance.ats, instance.pri, instance.ssid_bits) = (true, true, 8);
        for master in &mut scenario.masters {
            (master.ats, master.pri, master.response_pasid) = (ats, true, needs_pasid);
        }
        let machine = Arc::new(ModelMachine::new(&scenario, 1).unwrap());
        let devices = Devices { ats: [ats; 2], pages: Some((shown, needs_pasid)), stalls: None };
        let mut config = InstanceConfig::named("smmu");
        config.page_request_queue_log2 = Some(log2);
        Self::of(machine, Config::default(), devices, config)
    }

    /// On a model that stalls whatever it may, without more; the guest is shown so many at once. Both devices stall, and so
    /// do the guest's contexts. Of `instance` the scenario's machine is made.
    pub fn with_stalls(shown: u32, instance: impl Fn(&mut Instance)) -> Self {
        let mut scenario = Scenario::parse(MACHINE, "nested").unwrap();
        scenario.instances[0].stalls = 8;
        instance(&mut scenario.instances[0]);
        let exact = |it: &Instance| {
            let mut profile = profile(it);
            profile.adversary = Adversary::NONE;
            profile
        };
        let machine = Arc::new(ModelMachine::with_profiles(&scenario, 1, exact).unwrap());
        let devices = Devices { stalls: Some(shown), ..Devices::default() };
        let mut host = Self::of(machine, Config::default(), devices, InstanceConfig::named("smmu"));
        host.guest.stall(true);
        host
    }

    /// On the model.
    pub fn new(seed: u64, config: Config) -> Self {
        let scenario = Scenario::parse(MACHINE, "nested").unwrap();
        Self::on(Arc::new(ModelMachine::new(&scenario, seed).unwrap()), config)
    }

    pub fn on(machine: Arc<dyn Machine>, config: Config) -> Self {
        Self::of(machine, config, Devices::default(), InstanceConfig::named("smmu"))
    }

    fn of(
        machine: Arc<dyn Machine>,
        config: Config,
        devices: Devices,
        instance: InstanceConfig,
    ) -> Self {
        let world = World::new(machine, 1);
        let iommu = Iommu::new(TestPlatform(world.clone()), config).unwrap();
        let mmio = TestMmio { world: world.clone(), instance: 0 };
        let smmu = iommu.probe(mmio, instance).unwrap().enable().unwrap();
        let shape = DomainConfig::default().with_stage_2().with_guests().with_input_bits(40);
        let domain = iommu.create_domain(shape).unwrap();
        let config = NestConfig::new().with_snooped().with_stalls(devices.stalls.unwrap_or(0));
        let config = config.with_page_requests(devices.pages.map_or(0, |(shown, _)| shown));
        let nest = iommu.nest(&smmu, &domain, config).unwrap();
        let add = |((stream, _), ats)| {
            let mut config = keeping(MasterConfig::default(), ats);
            config.stalls = devices.stalls.is_some();
            if let Some((_, needs_pasid)) = devices.pages {
                config = config.with_page_requests(CREDITS, needs_pasid);
            }
            iommu.add_master(&smmu, &[StreamId(stream)], config).unwrap()
        };
        let masters = STREAMS.into_iter().zip(devices.ats).map(add).collect();
        let frame = |_| world.frames().allocate(PAGE, PAGE).unwrap();
        let frames: Vec<u64> = (0..PAGES).map(frame).collect();
        let guest = Guest::new(world.machine().ram().clone(), frames);
        let mut host = Self {
            world,
            iommu,
            smmu,
            domain,
            nest,
            masters,
            uses: [Use::Detached; 2],
            guest,
            present: BTreeMap::new(),
            forwarder: Forwarder::new(),
            events: Vec::new(),
        };
        (0..PAGES).for_each(|page| host.give(page));
        host
    }

    /// From now on devices access what they like while the driver works.
    pub fn restless(&self, seed: u64) {
        let world = self.world.clone();
        let restless = Restless { world, numbers: Mutex::new(seed) };
        self.world.set_observer(Some(Arc::new(restless)));
    }

    /// From now on a device accesses an address whenever it can: how often it is refused.
    pub fn watch(&self, master: usize, address: u64) -> Arc<AtomicUsize> {
        let refused = Arc::new(AtomicUsize::new(0));
        let (world, count) = (self.world.clone(), refused.clone());
        self.world.set_observer(Some(Arc::new(Watching { world, master, address, count })));
        refused
    }

    /// Lets the guest have a page of its memory.
    pub fn give(&mut self, page: usize) {
        let (ipa, pa) = (Iova(Guest::ipa(page)), PhysAddr(self.guest.frames[page]));
        let attributes = Attributes::normal(Prot::READ | Prot::WRITE);
        // SAFETY: the frame is the guest's until it is taken.
        unsafe { self.domain.map(ipa, pa, PAGE, attributes) }.unwrap();
        self.present.insert(page, pa.0);
    }

    /// Takes it away.
    pub fn take(&mut self, page: usize) {
        // SAFETY: nothing else works on the domain.
        let bytes = unsafe { self.domain.unmap(Iova(Guest::ipa(page)), PAGE) }.unwrap();
        assert_eq!(bytes, PAGE);
        self.present.remove(&page);
    }

    /// The host moves what is in a page elsewhere, while the guest goes on.
    pub fn migrate(&mut self, page: usize) {
        self.take(page);
        let new = self.world.frames().allocate(PAGE, PAGE).unwrap();
        let old = std::mem::replace(&mut self.guest.frames[page], new);
        let ram = self.world.machine().ram();
        for offset in (0..PAGE).step_by(8) {
            ram.write64(new + offset, ram.read64(old + offset).unwrap()).unwrap();
            // What is left behind is somebody else's.
            ram.write64(old + offset, 0xdead).unwrap();
        }
        self.give(page);
    }

    /// Carries out what the guest has given its SMMU.
    pub fn commands(&mut self, mut commands: &[Command]) {
        while !commands.is_empty() {
            let done = self.nest.forward(&mut self.forwarder, commands).unwrap();
            assert!(!matches!(done.stop, Stop::Refused { .. }), "{:?}", done.stop);
            commands = &commands[done.consumed..];
        }
    }

    pub fn nest(&mut self, master: usize, ste: Ste, becomes: Use) {
        let guests = [StreamId(STREAMS[master].1)];
        self.nest.attach(&self.masters[master], &guests, &ste).unwrap();
        self.uses[master] = becomes;
    }

    pub fn plain(&mut self, master: usize) {
        self.iommu.attach(&self.masters[master], &self.domain).unwrap();
        self.uses[master] = Use::Plain;
    }

    pub fn detach(&mut self, master: usize) {
        self.iommu.detach(&self.masters[master]).unwrap();
        self.uses[master] = Use::Detached;
    }

    /// Where an access is to end.
    pub fn expected(&self, master: usize, address: u64) -> Option<u64> {
        let there = |ipa: u64| {
            let page = ipa.checked_sub(Guest::ipa(0))? / PAGE;
            Some(self.present.get(&usize::try_from(page).ok()?)? + ipa % PAGE)
        };
        match self.uses[master] {
            Use::Space(space) => {
                let walked = Guest::pages_of(space).all(|page| self.present.contains_key(&page));
                let at = usize::try_from(address.checked_sub(VA)? / PAGE).ok()?;
                let page = self.guest.mapped.get(&(space, at)).filter(|_| walked)?;
                there(Guest::ipa(*page) + address % PAGE)
            }
            Use::Bypass | Use::Plain => there(address),
            Use::Invalid | Use::Detached => None,
        }
    }

    pub fn reached(&self, master: usize, address: u64) -> Option<u64> {
        let mut buffer = [0; 8];
        let dma = Dma::Read(&mut buffer);
        let parts = self.world.machine().dma(master, None, address, dma).unwrap();
        match parts[0].outcome {
            Outcome::Reached(pa) => Some(pa),
            _ => None,
        }
    }

    /// What is wrong with where devices get.
    pub fn verdict(&self) -> Result<(), String> {
        for master in 0..2 {
            let addresses = (0..SPAN).map(|at| VA + at as u64 * PAGE + 0x18);
            let plain = (0..PAGES).step_by(3).map(|page| Guest::ipa(page) + 8);
            for address in addresses.chain(plain) {
                let (expected, reached) =
                    (self.expected(master, address), self.reached(master, address));
                if expected != reached {
                    let how = self.uses[master];
                    return Err(format!(
                        "master {master} ({how:?}) at {address:#x}: {reached:x?}, not {expected:x?}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Reads events; those that are the guest's are kept, as it is told of them.
    pub fn read_events(&mut self) {
        let mut records = Vec::new();
        let mut keep = |report| match report {
            Report::Event(record) => records.push(record),
            Report::EventsLost(_) => {}
            other => panic!("{other:?}"),
        };
        // Devices that never rest are refused while this reads, and there is always more.
        for _ in 0..8 {
            if !self.iommu.handle_interrupt(&self.smmu, Interrupt::Any, 64, &mut keep) {
                break;
            }
        }
        for record in records {
            if let Owner::Guest(record) = self.nest.owner(&record) {
                self.events.push(record);
            }
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! A driver at work, and what its devices are to reach: each call is done to both, and looked at through the SMMUs.

use std::ops::Range;
use std::time::Duration;

use smmuv3::{
    Attributes, Config, Domain, DomainConfig, Firmware, InstanceConfig, Interrupt, Iommu, Iova,
    Master, MasterConfig, PhysAddr, Prot, Quarantined, Report, Smmu, StreamId, UnmapError,
    pagetable,
};
use smmuv3_model::{Access, Observation, Profile, Reason, Refusal, Transfer};

use smmuv3::formats::EventId;

use crate::platform::Machine;

/// Bytes of a page.
pub const PAGE: u64 = 0x1000;
/// Pages of a table, or of a block.
pub const TABLE: usize = 512;
/// Pages that are mapped and unmapped: four tables, below two of the level above.
pub const PAGES: usize = 4 * TABLE;
const FIRST: u64 = (1 << 30) - 2 * TABLE as u64 * PAGE;
/// How long an SMMU may do nothing.
pub const DEADLINE: Duration = Duration::from_millis(1);

/// The input address of a page.
pub const fn iova(page: usize) -> u64 {
    FIRST + page as u64 * PAGE
}

/// Numbers that follow from a seed.
pub struct Random(u64);

impl Random {
    pub fn below(&mut self, end: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % end as u64) as usize
    }
}

/// What a page is mapped to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    pub pa: u64,
    pub write: bool,
    /// It is a part of a block.
    block: bool,
}

/// A domain, and what is mapped in it.
pub struct Space {
    pub domain: Domain<Machine>,
    pub pages: Vec<Option<Page>>,
}

impl Space {
    /// Whether an end of the range cuts a block.
    fn cuts(&self, range: &Range<usize>) -> bool {
        [range.start, range.end].into_iter().any(|end| {
            let inside = !end.is_multiple_of(TABLE);
            inside && self.pages.get(end).copied().flatten().is_some_and(|page| page.block)
        })
    }
}

/// What a device uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    Nothing,
    Everything,
    Space(usize),
}

/// A device.
pub struct Device {
    pub master: Master<Machine>,
    pub smmu: usize,
    streams: Vec<u32>,
    pub uses: Use,
}

/// The whole of it.
pub struct World {
    pub machine: Machine,
    pub iommu: Iommu<Machine>,
    pub smmus: Vec<Smmu<Machine>>,
    pub spaces: Vec<Space>,
    pub devices: Vec<Device>,
    pub random: Random,
    /// Commands are refused on purpose.
    pub refuses: bool,
    /// Where nothing has been mapped yet.
    unused: u64,
}

impl World {
    /// With SMMUs of these kinds, all enabled.
    pub fn new(profiles: &[Profile], seed: u64) -> Self {
        let machine = Machine::new(profiles, seed);
        let mut world = Self::without_smmus(machine, seed);
        for (index, kind) in profiles.iter().enumerate() {
            let registers = world.machine.registers(index);
            let probe = world.iommu.probe(registers, config(kind)).unwrap();
            world.smmus.push(probe.enable().unwrap());
        }
        world
    }

    /// On `machine`, none of whose SMMUs is in use.
    pub fn without_smmus(machine: Machine, seed: u64) -> Self {
        let iommu = Iommu::new(machine.clone(), Config::default()).unwrap();
        Self {
            machine,
            iommu,
            smmus: Vec::new(),
            spaces: Vec::new(),
            devices: Vec::new(),
            random: Random(seed),
            refuses: false,
            unused: 0x40_0000_0000,
        }
    }

    pub fn add_space(&mut self) -> usize {
        let domain = self.iommu.create_domain(DomainConfig::default()).unwrap();
        self.take_in(domain)
    }

    /// A domain that was made elsewhere, in which nothing is mapped.
    pub fn take_in(&mut self, domain: Domain<Machine>) -> usize {
        self.spaces.push(Space { domain, pages: vec![None; PAGES] });
        self.spaces.len() - 1
    }

    pub fn add_device(&mut self, smmu: usize, streams: &[u32]) -> usize {
        let ids: Vec<_> = streams.iter().copied().map(StreamId).collect();
        let master = self.iommu.add_master(&self.smmus[smmu], &ids, MasterConfig::default());
        self.take_in_device(master.unwrap(), smmu, streams)
    }

    /// A device that was added elsewhere, and uses nothing.
    pub fn take_in_device(&mut self, master: Master<Machine>, smmu: usize, ids: &[u32]) -> usize {
        let streams = ids.to_vec();
        self.devices.push(Device { master, smmu, streams, uses: Use::Nothing });
        self.devices.len() - 1
    }

    /// Memory for so many pages, which nothing else is mapped to.
    pub fn memory(&mut self, pages: usize, block: bool) -> u64 {
        let odd = if block { 0 } else { (1 + self.random.below(TABLE - 1)) as u64 * PAGE };
        let start = self.unused + odd;
        self.unused += (pages as u64 * PAGE).next_multiple_of(1 << 21) + (2 << 20);
        start
    }

    /// The call alone.
    pub fn try_map(
        &self,
        space: usize,
        pages: &Range<usize>,
        pa: u64,
        write: bool,
    ) -> Result<(), smmuv3::MapError> {
        let prot = if write { Prot::READ.union(Prot::WRITE) } else { Prot::READ };
        let (start, len) = (Iova(iova(pages.start)), pages.len() as u64 * PAGE);
        let attributes = Attributes::normal(prot);
        // SAFETY: memory that is nobody's, and one thread.
        unsafe { self.spaces[space].domain.map(start, PhysAddr(pa), len, attributes) }
    }

    /// Maps pages that are not, to memory of their own.
    pub fn map(&mut self, space: usize, pages: Range<usize>) {
        let block = pages.start.is_multiple_of(TABLE) && pages.len().is_multiple_of(TABLE);
        let block = block && self.random.below(3) != 0;
        let (pa, write) = (self.memory(pages.len(), block), self.random.below(4) != 0);
        self.try_map(space, &pages, pa, write).unwrap();
        self.mapped(space, pages, pa, write, block);
    }

    /// Notes that they are.
    pub fn mapped(&mut self, space: usize, pages: Range<usize>, pa: u64, write: bool, block: bool) {
        let of_it = &mut self.spaces[space].pages[pages];
        for (number, page) in (0..).zip(of_it) {
            *page = Some(Page { pa: pa + number * PAGE, write, block });
        }
    }

    /// The call alone.
    pub fn try_unmap(&self, space: usize, pages: &Range<usize>) -> Result<u64, UnmapError> {
        let (start, len) = (Iova(iova(pages.start)), pages.len() as u64 * PAGE);
        // SAFETY: one thread.
        unsafe { self.spaces[space].domain.unmap(start, len) }
    }

    /// Notes that nothing is mapped there; what was.
    pub fn unmapped(&mut self, space: usize, pages: &Range<usize>) -> Vec<Page> {
        let of_it = self.spaces[space].pages[pages.clone()].iter_mut();
        of_it.filter_map(Option::take).collect()
    }

    /// Unmaps what is mapped there, in one of the ways that there are, or nothing if a block is cut.
    pub fn unmap(&mut self, space: usize, pages: Range<usize>) {
        self.start_transfers(space);
        let cuts = self.spaces[space].cuts(&pages);
        let (start, len) = (Iova(iova(pages.start)), pages.len() as u64 * PAGE);
        let domain = &self.spaces[space].domain;
        let result = if self.random.below(4) == 0 {
            // SAFETY: one thread, and nothing is mapped there before the invalidation is over.
            let cleared = unsafe { domain.unmap_deferred(start, len) };
            domain.invalidate_all().unwrap();
            cleared
        } else {
            // SAFETY: one thread.
            unsafe { domain.unmap(start, len) }
        };
        match result {
            Err(UnmapError::Table(pagetable::UnmapError::Straddle { .. })) if cuts => {}
            Ok(bytes) if !cuts => {
                let gone = self.unmapped(space, &pages);
                assert_eq!(bytes, gone.len() as u64 * PAGE);
                self.nothing_is_under_way_to(&gone, None);
            }
            result => panic!("{result:?}, a block is cut: {cuts}"),
        }
    }

    /// Frees empty tables.
    fn reclaim(&self, space: usize) {
        let (start, len) = (Iova(iova(0)), PAGES as u64 * PAGE);
        // SAFETY: one thread, and whole tables.
        unsafe { self.spaces[space].domain.reclaim(start, len) }.unwrap();
    }

    /// The call alone.
    pub fn try_attach(&self, device: usize, uses: Use) -> Result<(), smmuv3::AttachError> {
        let master = &self.devices[device].master;
        match uses {
            Use::Nothing => self.iommu.detach(master).map_err(smmuv3::AttachError::from),
            // SAFETY: memory is made up.
            Use::Everything => unsafe { self.iommu.attach_identity(master) },
            Use::Space(space) => self.iommu.attach(master, &self.spaces[space].domain),
        }
    }

    /// Lets a device use something else.
    pub fn attach(&mut self, device: usize, uses: Use) {
        let before = self.devices[device].uses;
        if let Use::Space(space) = before {
            self.start_transfers(space);
        }
        self.try_attach(device, uses).unwrap();
        self.devices[device].uses = uses;
        if let Use::Space(space) = before
            && before != uses
        {
            let gone: Vec<Page> = self.spaces[space].pages.iter().copied().flatten().collect();
            self.nothing_is_under_way_to(&gone, Some(device));
        }
    }

    /// Devices that use the space begin to write to it, and are not ready.
    fn start_transfers(&mut self, space: usize) {
        for index in 0..self.devices.len() {
            let page = self.random.below(PAGES);
            let device = &self.devices[index];
            let mapped = self.spaces[space].pages[page].is_some_and(|page| page.write);
            if device.uses == Use::Space(space) && mapped {
                let access = Access::write(device.streams[0], iova(page));
                let mut smmu = self.machine.smmu(device.smmu);
                smmu.hold(access, Transfer::Write(vec![1; 8])).unwrap();
            }
        }
    }

    /// No transfer, of one device or of all, is between its translation and that memory.
    fn nothing_is_under_way_to(&self, gone: &[Page], device: Option<usize>) {
        for index in 0..self.machine.count() {
            let mut smmu = self.machine.smmu(index);
            for held in smmu.held() {
                let of_it = |device: usize| {
                    let device = &self.devices[device];
                    device.smmu == index && device.streams.contains(&held.access.stream)
                };
                let late = gone.iter().any(|page| page.pa == held.pa & !(PAGE - 1));
                assert!(!late || !device.is_none_or(of_it), "SMMU {index}: {held:?}");
            }
            smmu.finished();
        }
    }

    /// An access by a device reaches what it is to reach, or is refused and told of.
    pub fn access(&mut self, device: usize, address: u64, write: bool) {
        let streams = self.devices[device].streams.len();
        let stream = self.random.below(streams);
        let Device { smmu, streams, uses, .. } = &self.devices[device];
        let (smmu, uses) = (*smmu, *uses);
        let access = if write { Access::write } else { Access::read };
        let access = access(streams[stream], address);
        let mut model = self.machine.smmu(smmu);
        model.interrupts();
        let result = model.translate(access);
        let interrupts = model.interrupts();
        drop(model);
        let page = address.checked_sub(FIRST).map(|offset| (offset / PAGE) as usize);
        let page = page.filter(|page| *page < PAGES);
        let expected = match uses {
            Use::Nothing => Err(Reason::Config),
            Use::Everything => Ok(address),
            Use::Space(space) => match page.and_then(|page| self.spaces[space].pages[page]) {
                None => Err(Reason::Event(EventId::FTranslation)),
                Some(page) if write && !page.write => Err(Reason::Event(EventId::FPermission)),
                Some(page) => Ok(page.pa + address % PAGE),
            },
        };
        let reached = result.as_ref().map(|reached| reached.pa);
        assert_eq!(reached.map_err(|it| it.reason.clone()), expected, "{access:x?}, {uses:x?}");
        let event = match result {
            Err(Refusal { event: Some(event), recorded, .. }) => {
                assert!(recorded && interrupts.eventq, "{event:?} is told of");
                Some(event)
            }
            Err(_) | Ok(_) => None,
        };
        // Streams that use nothing are refused without a word (§5.2).
        assert_eq!(event.is_some(), matches!(expected, Err(Reason::Event(_))));
        let mut told = Vec::new();
        let which = [Interrupt::Events, Interrupt::Any][self.random.below(2)];
        let id = self.smmus[smmu].id();
        let more =
            self.iommu.handle_interrupt(&self.smmus[smmu], which, 16, &mut |report| match report {
                Report::Event(event) => {
                    assert_eq!(event.instance(), id);
                    told.push(event.record());
                }
                other => panic!("{other:?}"),
            });
        assert!(!more);
        assert_eq!(told, Vec::from_iter(event));
    }

    /// What the driver says of its SMMUs' errors: codes of commands that were refused.
    pub fn refused(&self) -> Vec<u8> {
        let mut codes = Vec::new();
        for smmu in &self.smmus {
            let more =
                self.iommu.handle_interrupt(
                    smmu,
                    Interrupt::Error,
                    16,
                    &mut |report| match report {
                        Report::CommandError { code, .. } => codes.push(code),
                        other => panic!("{other:?}"),
                    },
                );
            assert!(!more);
        }
        codes
    }

    /// Every device, at ends of the range and somewhere.
    pub fn look(&mut self, pages: Range<usize>) {
        let (start, end) = (pages.start, pages.end);
        for device in 0..self.devices.len() {
            let somewhere = start + self.random.below(pages.len());
            let anywhere = self.random.below(PAGES);
            let edges = [start.saturating_sub(1), start, somewhere, end - 1, end, anywhere];
            for page in edges {
                let (offset, write) =
                    (self.random.below(512) as u64 * 8, self.random.below(2) == 0);
                self.access(device, iova(page) + offset, write);
            }
        }
        for Space { domain, pages } in &self.spaces {
            let page = start + self.random.below(end - start);
            // SAFETY: one thread.
            let found = unsafe { domain.lookup(Iova(iova(page))) };
            let found = found.map(|found| found.pa.0);
            assert_eq!(found, pages[page].map(|page| page.pa), "page {page}");
        }
        self.nothing_was_wrong();
    }

    /// The SMMUs saw nothing that software must not do.
    pub fn nothing_was_wrong(&self) {
        for index in 0..self.machine.count() {
            for observation in self.machine.smmu(index).observations() {
                let wrong = match &observation {
                    Observation::Misuse(_)
                    | Observation::Unsupported(_)
                    | Observation::EventsLost { .. }
                    | Observation::EventDropped { .. }
                    | Observation::TagConflict { .. }
                    | Observation::VmidConflict { .. } => true,
                    Observation::Gerror(_) => !self.refuses,
                    _ => false,
                };
                assert!(!wrong, "SMMU {index}: {observation:?}");
            }
        }
    }

    /// What is in quarantine.
    pub fn quarantined(&self) -> Vec<Quarantined> {
        let mut all = Vec::new();
        self.iommu.quarantined(&mut |what| all.push(what));
        all
    }

    /// A random range of pages: one, some, whole tables, or everything.
    fn range(&mut self) -> Range<usize> {
        let start = self.random.below(PAGES);
        match self.random.below(8) {
            0..2 => start..start + 1,
            2..4 => start..PAGES.min(start + 2 + self.random.below(30)),
            4 => start..PAGES.min(start + 1 + self.random.below(700)),
            5..7 => {
                let start = start / TABLE * TABLE;
                start..PAGES.min(start + TABLE * (1 + self.random.below(2)))
            }
            _ => 0..PAGES,
        }
    }

    /// Does something, and looks whether it came to what it should have.
    pub fn step(&mut self) {
        let space = self.random.below(self.spaces.len());
        let mut range = self.range();
        match self.random.below(10) {
            0..5 => {
                // As far as nothing is mapped.
                let pages = &self.spaces[space].pages[range.clone()];
                let free = pages.iter().position(Option::is_some).unwrap_or(pages.len());
                if free != 0 {
                    range.end = range.start + free;
                    self.map(space, range.clone());
                }
            }
            5..8 => {
                // From something that is mapped on, which SMMUs have cached.
                let mut pages = self.spaces[space].pages.iter().skip(range.start);
                if range.len() < TABLE
                    && let Some(holes) = pages.position(Option::is_some)
                {
                    range = range.start + holes..PAGES.min(range.end + holes);
                }
                self.look(range.clone());
                self.unmap(space, range.clone());
            }
            8 => self.reclaim(space),
            _ => {
                let device = self.random.below(self.devices.len());
                let uses = match self.random.below(2 + 2 * self.spaces.len()) {
                    0 => Use::Nothing,
                    1 => Use::Everything,
                    other => Use::Space(other % self.spaces.len()),
                };
                self.attach(device, uses);
            }
        }
        self.look(range);
    }

    /// Ends everything that can be ended: devices use nothing, and they and the domains are gone.
    pub fn close(&mut self) {
        for device in 0..self.devices.len() {
            self.attach(device, Use::Nothing);
        }
        self.look(0..PAGES);
        for device in self.devices.drain(..) {
            device.master.close().unwrap();
        }
        for space in self.spaces.drain(..) {
            space.domain.close().unwrap();
        }
        assert_eq!(self.quarantined(), []);
        self.nothing_was_wrong();
    }
}

/// How an SMMU of that kind is used.
pub fn config(kind: &Profile) -> InstanceConfig {
    let mut firmware = Firmware::NONE;
    firmware.repeated_invalidation = kind.repeated_invalidation;
    InstanceConfig::named("smmu").with_deadline(DEADLINE).with_firmware(firmware)
}

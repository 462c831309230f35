// SPDX-License-Identifier: MIT OR Apache-2.0
//! An SMMU with two devices that ask for pages.

use smmuv3_testbench::keeping::trusted;
use std::sync::Arc;

use smmuv3::page_request::Group;
use smmuv3::{
    Config, Domain, DomainConfig, InstanceConfig, Interrupt, Iommu, Master, PageGroup, Report,
    Smmu, StreamId, SubstreamId,
};
use smmuv3_formats::PageRequest;
use smmuv3_model::{Answered, Observation, Page, Profile};
use smmuv3_testbench::machine_model::{ModelMachine, profile};
use smmuv3_testbench::platform::{TestMmio, TestPlatform, World};

use crate::parse;

pub const PAGE: u64 = 0x1000;
pub const IOVA: u64 = 0x10_0000;
/// Streams: that of a device that needs no PASIDs in answers, that of one that does, and one that nobody has.
pub const NIC: u32 = 5;
pub const GPU: u32 = 6;
pub const STRANGER: u32 = 7;

const MACHINE: &str = r#"
name = "pri"
instance = [{ name = "smmu", ssid-bits = 4, ats = true, pri = true, page-request-queue = 8 }]
master = [
    { name = "nic", instance = "smmu", streams = [5], pasid-bits = 4, ats = true, pri = true },
    { name = "gpu", instance = "smmu", streams = [6], pasid-bits = 4, ats = true, pri = true, response-pasid = true },
]
"#;

pub struct Setup {
    pub world: Arc<World>,
    pub iommu: Iommu<TestPlatform>,
    pub smmu: Smmu<TestPlatform>,
    pub nic: Master<TestPlatform>,
    pub gpu: Master<TestPlatform>,
    pub domain: Domain<TestPlatform>,
    pub other: Domain<TestPlatform>,
}

/// An instance with a queue of 2^`requests` page requests and one of 2^`commands` commands.
pub fn config(requests: u32, commands: u32) -> InstanceConfig {
    let mut config = InstanceConfig::named("smmu");
    config.page_request_queue_log2 = Some(requests);
    config.command_queue_log2 = commands;
    config
}

impl Setup {
    /// With both devices attached to the first domain, without PASIDs.
    pub fn new(requests: u32) -> Self {
        let setup = Self::blocked(config(requests, 6));
        setup.iommu.attach(&setup.nic, &setup.domain).unwrap();
        setup.iommu.attach(&setup.gpu, &setup.domain).unwrap();
        setup
    }

    /// With devices that are attached to nothing.
    pub fn blocked(config: InstanceConfig) -> Self {
        Self::with(config, 1, |profile| profile)
    }

    /// The same, behind an SMMU that is a little otherwise.
    pub fn with(config: InstanceConfig, seed: u64, change: impl Fn(Profile) -> Profile) -> Self {
        let of_instance = |instance: &_| change(profile(instance));
        let machine = ModelMachine::with_profiles(&parse(MACHINE), seed, of_instance).unwrap();
        let world = World::new(Arc::new(machine), 1);
        let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
        let mmio = TestMmio { world: world.clone(), instance: 0 };
        let smmu = iommu.probe(mmio, config).unwrap().enable().unwrap();
        let add = |stream, response_pasid| {
            let config = trusted().with_pasid_bits(4);
            let config = config.with_page_requests(1, response_pasid);
            iommu.add_master(&smmu, &[StreamId(stream)], config).unwrap()
        };
        let (nic, gpu) = (add(NIC, false), add(GPU, true));
        let domain = iommu.create_domain(DomainConfig::default()).unwrap();
        let other = iommu.create_domain(DomainConfig::default()).unwrap();
        Self { world, iommu, smmu, nic, gpu, domain, other }
    }

    /// A device asks for pages that follow each other; the number of its group.
    pub fn ask(&self, stream: u32, pasid: Option<SubstreamId>, count: u64) -> u16 {
        let page = |index| Page { address: IOVA + index * PAGE, read: true, write: index == 0 };
        let pages: Vec<Page> = (0..count).map(page).collect();
        let mut model = self.world.machine().model(0).unwrap();
        model.ask_for_pages(stream, pasid.map(|pasid| pasid.0), &pages, true).expect("PRI is on")
    }

    /// A request as some device may send it.
    pub fn send(&self, stream: u32, pasid: Option<u32>, index: u16, last: bool) {
        let request = PageRequest::default()
            .with_sid(stream.into())
            .with_ssv(pasid.is_some())
            .with_ssid(pasid.unwrap_or(0).into())
            .with_read(true)
            .with_prg_index(index.into())
            .with_addr(IOVA + PAGE * u64::from(index))
            .with_last(last);
        self.world.machine().model(0).unwrap().page_request(request);
    }

    /// What the driver reports of page requests, at most so many; and whether more are waiting.
    pub fn reports(&self, budget: usize) -> (Vec<Report<TestPlatform>>, bool) {
        let mut reports = Vec::new();
        let mut sink = |report| reports.push(report);
        let which = Interrupt::PageRequests;
        let more = self.iommu.handle_interrupt(&self.smmu, which, budget, &mut sink);
        (reports, more)
    }

    /// The only group that is reported.
    pub fn group(&self) -> PageGroup<TestPlatform> {
        let (mut reports, more) = self.reports(64);
        assert!(!more && reports.len() == 1, "{reports:?}");
        let Some(Report::Pages(group)) = reports.pop() else { panic!("{reports:?}") };
        group
    }

    /// The answers that a device got since the last look: groups, and what was said.
    pub fn answers(&self, stream: u32) -> Vec<(u16, Answered)> {
        let mut model = self.world.machine().model(0).unwrap();
        model.run(usize::MAX);
        model.endpoint_mut(stream).unwrap().take_answers()
    }

    /// All answers that the driver gave since the last look: stream, PASID, group, what was said, and whether a device
    /// waited for that.
    pub fn responses(&self) -> Vec<(u32, Option<u32>, u16, Answered, bool)> {
        self.world.machine().model(0).unwrap().run(usize::MAX);
        let observations = self.world.observations(0).unwrap();
        let response = |observation| match observation {
            Observation::PageResponse {
                stream,
                substream,
                index,
                answer,
                automatic: false,
                expected,
            } => Some((stream, substream, index, answer, expected)),
            _ => None,
        };
        observations.into_iter().filter_map(response).collect()
    }

    /// Whether a device waits for the answer to some group that is complete.
    pub fn waits(&self, stream: u32) -> bool {
        let model = self.world.machine().model(0).unwrap();
        model.endpoint(stream).unwrap().waiting().any(|(_, complete)| complete)
    }
}

/// The name of a group.
pub fn named(stream: u32, pasid: Option<u32>, index: u16) -> Group {
    Group { stream: StreamId(stream), pasid: pasid.map(SubstreamId), index }
}

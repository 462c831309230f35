// SPDX-License-Identifier: MIT OR Apache-2.0
//! Page requests that the predecessor had not read: they are not the successor's, which has them fail, and denies what comes
//! until a master asks for pages.

use smmuv3::{Denied, Interrupt, Report};
use smmuv3_formats::PageRequest;
use smmuv3_formats::register::{PriqBase, PriqCons, PriqProd};
use smmuv3_model::{Answered, Endpoint, Page};
use smmuv3_testbench::keeping::trusted;

use super::*;

impl Crashed {
    /// The device behind `IDLE` asks for a page, as the end of a group; its number.
    fn ask(&self, page: u64) -> u16 {
        let page = Page { address: IOVA + page * PAGE, read: true, write: false };
        let mut model = self.machine.model(0).unwrap();
        model.ask_for_pages(IDLE, None, &[page], true).expect("PRI is on")
    }

    /// What the device was answered.
    fn answers(&self) -> Vec<(u16, Answered)> {
        let mut model = self.machine.model(0).unwrap();
        model.run(usize::MAX);
        model.endpoint_mut(IDLE).unwrap().take_answers()
    }
}

fn reports(iommu: &Iommu<TestPlatform>, smmu: &Smmu<TestPlatform>) -> Vec<Report<TestPlatform>> {
    let mut reports = Vec::new();
    while iommu.handle_interrupt(smmu, Interrupt::PageRequests, 8, &mut |it| reports.push(it)) {}
    reports
}

#[test]
fn requests_of_before_fail_and_new_ones_are_denied_until_a_master_asks() {
    for page_0_only in [false, true] {
        let crashed = crash(31, |it| Profile { page_0_only, ..it.ats(true).pri(8) });
        let mut config = config();
        config.firmware.page_0_only = page_0_only;
        config.page_request_queue_log2 = Some(4);
        // The queue of the predecessor works, and a device that it has just blocked has asked for pages.
        let endpoint = Endpoint::default().ats(true).pri(true);
        crashed.machine.model(0).unwrap().plug(IDLE, endpoint);
        let [one, two] = [0, 1].map(|page| crashed.ask(page));
        crashed.machine.model(0).unwrap().run(usize::MAX);
        let at = |offset: u32| if page_0_only { offset & 0xffff } else { offset };
        let index = |offset| crashed.machine.read32(0, at(offset));
        let before = PriqBase(u64::from(crashed.machine.read32(0, PriqBase::OFFSET))).addr();
        assert_eq!((index(PriqProd::OFFSET), index(PriqCons::OFFSET)), (2, 0), "{page_0_only}");

        let iommu = crashed.successor(AsidPolicy::PerInstance);
        let mut probe = iommu.probe(crashed.mmio(), config).unwrap();
        // SAFETY: RAM stays as long as the world, and nobody else is left.
        assert_eq!(unsafe { probe.adopt(&crashed.everything()) }, Ok(3));
        let smmu = probe.enable().unwrap();
        // Another queue, which is empty.
        let after = PriqBase(u64::from(crashed.machine.read32(0, PriqBase::OFFSET))).addr();
        assert_ne!(before, after);
        assert_eq!((index(PriqProd::OFFSET), index(PriqCons::OFFSET)), (0, 0));
        assert!(Cr0(crashed.machine.read32(0, Cr0::OFFSET)).priqen());
        assert_eq!(reports(&iommu, &smmu), []);
        assert_eq!(crashed.answers(), [(one, Answered::Failure), (two, Answered::Failure)]);
        // It asks no more after that, until it is told to.
        crashed.machine.model(0).unwrap().endpoint_mut(IDLE).unwrap().pri = true;

        // Nobody has that stream yet.
        let three = crashed.ask(2);
        let denied = reports(&iommu, &smmu);
        let [Report::PageDenied { page, why: Denied::Unknown }] = &denied[..] else {
            panic!("{denied:?}")
        };
        assert_eq!((page.group.stream, page.group.index), (StreamId(IDLE), three));
        assert_eq!(crashed.answers(), [(three, Answered::Invalid)]);

        // A device that is reset for its new master has forgotten what it had asked for.
        crashed.machine.model(0).unwrap().plug(IDLE, Endpoint::default());
        let config = trusted().with_page_requests(1, false);
        let master = iommu.add_master(&smmu, &[StreamId(IDLE)], config).unwrap();
        let domain = iommu.create_domain(DomainConfig::default()).unwrap();
        map(&domain, crashed.memory + 2 * PAGE);
        iommu.attach(&master, &domain).unwrap();
        let asked = crashed.ask(0);
        let mut groups = reports(&iommu, &smmu);
        assert_eq!(groups.len(), 1, "{groups:?}");
        let Some(Report::Pages(group)) = groups.pop() else { panic!("{page_0_only}") };
        assert_eq!(group.group().index, asked);
        assert_eq!(group.respond(smmuv3::page_request::Answer::Success), Ok(true));
        assert_eq!(crashed.answers(), [(asked, Answered::Success)]);
        // What went on was not disturbed.
        assert_eq!(crashed.reach(NET), Some(crashed.memory));
        crashed.no_misuse();
    }
}

/// What devices have written there is believed in nothing: each group is answered once, and only what has an end and a stream.
#[test]
fn each_group_of_before_fails_once_however_often_it_ends() {
    let crashed = crash(33, |it| it.ats(true).pri(8));
    let send = |stream: u32, index, last| {
        let request = PageRequest::default().with_sid(stream.into()).with_read(true);
        let request = request.with_prg_index(index).with_addr(IOVA).with_last(last);
        crashed.machine.model(0).unwrap().page_request(request);
    };
    for (index, last) in [(3, false), (7, true), (5, true), (7, true), (9, false), (7, true)] {
        send(IDLE, index, last);
    }
    send(NEW, 7, true);
    send(0x8000_0000, 1, true);
    crashed.world.observations(0);
    let iommu = crashed.successor(AsidPolicy::PerInstance);
    let (count, smmu) = adopted(&crashed, &iommu, |_| true);
    assert_eq!((count, reports(&iommu, &smmu)), (3, vec![]));
    let mut answered: Vec<_> = crashed.world.observations(0).unwrap();
    let response = |seen: Observation| match seen {
        Observation::PageResponse { stream, substream: None, index, answer, .. } => {
            Some((stream, index, answer == Answered::Failure))
        }
        Observation::Misuse(misuse) => panic!("{misuse:?}"),
        _ => None,
    };
    let answered: Vec<_> = answered.drain(..).filter_map(response).collect();
    assert_eq!(answered, [(IDLE, 5, true), (IDLE, 7, true), (NEW, 7, true)]);
}

/// A stream whose device may ask for translations is not taken over: nobody would tell the device to forget them.
#[test]
fn a_device_that_keeps_translations_and_asks_for_pages_is_refused_and_denied() {
    let crashed = crash(32, |it| it.ats(true).pri(8));
    let endpoint = Endpoint::default().ats(true).pri(true);
    crashed.machine.model(0).unwrap().plug(IDLE, endpoint);
    crashed.ask(0);
    // EATS, in word 1.
    let word = crashed.entry(NET) + 8;
    crashed.put(word, crashed.get(word) | 1 << 28);
    let error = refused(&crashed, &crashed.everything());
    assert_eq!(error, AdoptError::Ats { stream: StreamId(NET) });
    assert_eq!(crashed.answers(), []);
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Streams that the successor does without: whatever their entries say, nobody else is kept from going on by them. They
//! abort, what they had stalled ends, and nothing is left in caches of what they used.

use smmuv3::{Interrupt, Report};
use smmuv3_formats::Ste;
use smmuv3_model::{Endpoint, Tag};
use smmuv3_testbench::inside::Inside as _;
use smmuv3_testbench::keeping::trusted;

use super::*;

/// Neighbours, of which a power of two may be equal.
const SPAN: [u32; 4] = [NET - 1, NET, NET + 1, NET + 2];

/// What is wrong, and how it came to be.
type Lie = (&'static str, fn(&Crashed));

impl Crashed {
    fn ste(&self, stream: u32) -> Ste {
        let at = self.entry(stream);
        Ste(std::array::from_fn(|word| self.get(at + 8 * word as u64)))
    }

    fn set(&self, stream: u32, ste: Ste) {
        let at = self.entry(stream);
        for (word, value) in (0u64..).zip(ste.0) {
            self.put(at + 8 * word, value);
        }
    }

    /// The tags that translations are cached with.
    fn cached(&self) -> Vec<Tag> {
        let model = self.machine.model(0).unwrap();
        let mut tags: Vec<Tag> = model.tlb_entries().map(|entry| entry.tag).collect();
        tags.extend(model.walk_entries().map(|entry| entry.tag));
        tags.dedup();
        tags
    }
}

fn without_net(stream: StreamId) -> bool {
    stream.0 != NET
}

fn without_net_and_disk(stream: StreamId) -> bool {
    stream.0 != NET && stream.0 != DISK
}

#[test]
fn entries_of_streams_that_are_given_up_are_not_followed() {
    let lies: [Lie; 5] = [
        ("illegal", |crashed| crashed.set(NET, crashed.ste(NET).with_s1_cd_max(31))),
        ("with ATS", |crashed| crashed.set(NET, crashed.ste(NET).with_eats(1))),
        ("contexts nowhere", |crashed| {
            crashed.set(NET, crashed.ste(NET).with_s1_context_ptr(0x10_0000_0000));
        }),
        ("contexts in the stream table", |crashed| {
            crashed.set(NET, crashed.ste(NET).with_s1_context_ptr(crashed.entry(IDLE)));
        }),
        ("tables nowhere", |crashed| {
            let contexts = crashed.ste(NET).s1_context_ptr();
            crashed.put(contexts + 8, 0x4_0000_0000);
        }),
    ];
    for (what, lie) in lies {
        let crashed = crash(41, |it| it.ats(true));
        lie(&crashed);
        let error = crashed.adopt(&crashed.everything());
        assert!(error.is_err(), "{what}");
        let iommu = crashed.successor(AsidPolicy::PerInstance);
        let (count, smmu) = adopted(&crashed, &iommu, without_net);
        assert_eq!(count, 2, "{what}");
        let reached = [NET, ALL, DISK].map(|it| crashed.reach(it));
        assert_eq!(reached, [None, Some(IOVA), Some(crashed.memory + PAGE)], "{what}");
        assert_eq!(crashed.ste(NET), Ste::default().with_v(true), "{what}");
        // It is a stream as any other.
        let domain = iommu.create_domain(DomainConfig::default()).unwrap();
        map(&domain, crashed.memory + 2 * PAGE);
        let net = iommu.add_master(&smmu, &[StreamId(NET)], MasterConfig::default()).unwrap();
        iommu.attach(&net, &domain).unwrap();
        assert_eq!(crashed.reach(NET), Some(crashed.memory + 2 * PAGE), "{what}");
        crashed.no_misuse();
    }
}

/// Another kernel has used it since, with `NET` as `config` says, and crashed as well.
fn crash_again(crashed: Crashed, config: MasterConfig) -> Crashed {
    let iommu = crashed.successor(AsidPolicy::PerInstance);
    let smmu = common::enable(&iommu, &crashed.world, 0, super::config());
    let net = iommu.add_master(&smmu, &[StreamId(NET)], config).unwrap();
    let domain = iommu.create_domain(DomainConfig::default()).unwrap();
    map(&domain, crashed.memory);
    iommu.attach(&net, &domain).unwrap();
    let all = iommu.add_master(&smmu, &[StreamId(ALL)], MasterConfig::default()).unwrap();
    // SAFETY: the device is the test's.
    unsafe { iommu.attach_identity(&all).unwrap() };
    let streams = smmu.inside().streams();
    let table = (streams.base_register(), streams.config_register());
    std::mem::forget((iommu, smmu, net, domain, all));
    Crashed { table, ..crashed }
}

/// The device is not asked to forget it: it is not believed any more (ATSCHK, §12.2).
#[test]
fn what_a_device_keeps_that_is_given_up_leads_nowhere() {
    let crashed = crash(42, |it| it.ats(true));
    crashed.machine.model(0).unwrap().plug(NET, Endpoint::default());
    let crashed = crash_again(crashed, trusted());
    let translated = || {
        let sent = Access::read(NET, crashed.memory);
        crashed.machine.model(0).unwrap().translated(sent).ok().map(|it| it.pa)
    };
    assert_eq!(translated(), Some(crashed.memory));
    let refused = crashed.adopt(&crashed.everything());
    assert_eq!(refused, Err(AdoptError::Ats { stream: StreamId(NET) }));
    let iommu = crashed.successor(AsidPolicy::PerInstance);
    let (count, _smmu) = adopted(&crashed, &iommu, without_net);
    assert_eq!((count, translated(), crashed.reach(NET)), (1, None, None));
    assert_eq!(crashed.reach(ALL), Some(IOVA));
    crashed.no_misuse();
}

/// As soon as it is taken over.
#[test]
fn tags_of_what_is_given_up_are_in_no_cache_and_given_out() {
    let crashed = crash(43, |profile| profile);
    let iommu = crashed.successor(AsidPolicy::PerInstance);
    assert!(!crashed.cached().is_empty());
    let (count, smmu) = adopted(&crashed, &iommu, without_net_and_disk);
    assert_eq!(count, 1);
    assert_eq!(crashed.cached(), []);
    assert_eq!(iommu.free_asids(&smmu), 0xffff);
    let domain = iommu.create_domain(DomainConfig::default()).unwrap();
    map(&domain, crashed.memory + 2 * PAGE);
    let idle = iommu.add_master(&smmu, &[StreamId(IDLE)], MasterConfig::default()).unwrap();
    iommu.attach(&idle, &domain).unwrap();
    // The one that NET had.
    assert_eq!(domain.targets().unwrap()[0].tag.asid, 0xffff);
    assert_eq!(crashed.reach(IDLE), Some(crashed.memory + 2 * PAGE));
    assert_eq!([NET, DISK, ALL].map(|it| crashed.reach(it)), [None, None, Some(IOVA)]);
    crashed.no_misuse();
}

/// Nobody would answer what waits: it ends, and whoever reads events hears of nothing to answer.
#[test]
fn what_waits_ends_with_its_stream() {
    for (model, seed) in [(0, 44), (2, 45), (0, 46)] {
        let crashed = crash(seed, |it| it.stalls(model, 8));
        let crashed = crash_again(crashed, MasterConfig::default().with_stalls());
        let waits = |page: u64| {
            let mut model = crashed.machine.model(0).unwrap();
            let refused = model.translate(Access::read(NET, IOVA + page * PAGE));
            assert!(refused.is_err());
            model.stalled().count()
        };
        assert_eq!((waits(1), waits(2)), (1, 2));
        assert_eq!(
            crashed.adopt(&crashed.everything()),
            Err(AdoptError::Stalls { stream: StreamId(NET) })
        );

        let iommu = crashed.successor(AsidPolicy::PerInstance);
        let (count, smmu) = adopted(&crashed, &iommu, without_net);
        assert_eq!(count, 1);
        crashed.machine.model(0).unwrap().run(usize::MAX);
        assert_eq!(crashed.machine.model(0).unwrap().stalled().count(), 0);
        let mut reports = Vec::new();
        while iommu.handle_interrupt(&smmu, Interrupt::Events, 8, &mut |it| reports.push(it)) {}
        assert!(!reports.iter().any(|it| matches!(it, Report::Stalled(_))), "{reports:?}");
        assert_eq!([NET, ALL].map(|it| crashed.reach(it)), [None, Some(IOVA)]);
        crashed.no_misuse();
    }
}

/// While one of them is changed, hardware may take any for the others (§8.1): those that go on must not be among them.
#[test]
fn equal_entries_are_changed_unless_one_of_them_goes_on() {
    let blocked = Ste::default().with_v(true);
    let equal = |ste: fn(Ste) -> Ste| {
        let crashed = crash(47, |profile| profile);
        let ste = ste(crashed.ste(NET)).with_cont(2);
        SPAN.iter().for_each(|stream| crashed.set(*stream, ste));
        crashed
    };
    let crashed = equal(|ste| ste);
    let remains = Everything { keeps: without_net, ..crashed.everything() };
    let error = AdoptError::Contiguous { stream: StreamId(SPAN[0]), cont: 2 };
    assert_eq!(crashed.adopt(&remains), Err(error));
    // A neighbour that goes on is not asked whether it says so itself.
    for stream in [SPAN[0], SPAN[3]] {
        crashed.set(stream, blocked);
    }
    crashed.set(SPAN[2], crashed.ste(SPAN[2]).with_cont(0));
    let error = AdoptError::Contiguous { stream: StreamId(NET), cont: 2 };
    assert_eq!(crashed.adopt(&remains), Err(error));
    crashed.set(SPAN[2], blocked);
    assert_eq!(crashed.adopt(&remains), Ok(2));

    // All of them work, or all abort.
    for ste in [(|ste| ste) as fn(Ste) -> Ste, |_| Ste::default().with_v(true)] {
        let crashed = equal(ste);
        let iommu = crashed.successor(AsidPolicy::PerInstance);
        let (count, smmu) = adopted(&crashed, &iommu, |it| !SPAN.contains(&it.0));
        assert_eq!(count, 2);
        assert_eq!(SPAN.map(|stream| crashed.ste(stream)), [blocked; 4]);
        assert_eq!(SPAN.map(|stream| crashed.reach(stream)), [None; 4]);
        let domain = iommu.create_domain(DomainConfig::default()).unwrap();
        map(&domain, crashed.memory + 2 * PAGE);
        let net = iommu.add_master(&smmu, &[StreamId(NET)], MasterConfig::default()).unwrap();
        iommu.attach(&net, &domain).unwrap();
        let reached = [SPAN[0], NET, SPAN[2], DISK].map(|it| crashed.reach(it));
        let memory = crashed.memory;
        assert_eq!(reached, [None, Some(memory + 2 * PAGE), None, Some(memory + PAGE)]);
        crashed.no_misuse();
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Context tables: what the stream's entry says of them (§5.2), where contexts are (§5.3), and when leaves come.

use smmuv3::{AttachError, SubstreamId};
use smmuv3_formats::EventId;
use smmuv3_model::Reason;

use crate::eyes::Step;
use crate::setup::{IOVA, Setup, hardware};

const F_BAD_SUBSTREAM: EventId = EventId::CBadSubstreamId;

/// A PASID of exactly this number; those below stay taken.
fn pasid(setup: &Setup, number: u32) -> SubstreamId {
    loop {
        let pasid = setup.pasid();
        if pasid.0 == number {
            return pasid;
        }
        assert!(pasid.0 < number);
    }
}

#[test]
fn the_entry_says_where_contexts_are_and_how_many() {
    // Bits of the instance, of the master; 2-level; then S1Fmt, S1CDMax, and bytes of the table and of a leaf.
    for (ssid, asked, two_levels, fmt, bits, root, leaf) in [
        (4, 4, false, 0, 4, 1024, 0),
        (10, 10, false, 0, 10, 64 << 10, 0),
        (20, 20, false, 0, 10, 64 << 10, 0),
        (20, 6, true, 0, 6, 4096, 0),
        (20, 7, true, 1, 7, 64, 4096),
        (8, 20, true, 1, 8, 64, 4096),
        (20, 16, true, 1, 16, 8 << 10, 4096),
        (20, 17, true, 1, 17, 16 << 10, 4096),
        (20, 18, true, 2, 18, 2048, 64 << 10),
        (20, 32, true, 2, 20, 8 << 10, 64 << 10),
    ] {
        let context = format!("{ssid} bits, {asked} asked for, {two_levels}");
        let setup = Setup::new(&[hardware(ssid, two_levels)], &[(0, &[1, 2], asked)]);
        let substreams = setup.masters[0].pasid_bits();
        assert_eq!(u64::from(substreams), bits, "{context}");
        let domain = setup.domain(0);
        let before: Vec<_> = setup.world.frames().live().collect();
        let number = setup.pasid();
        setup.iommu.attach_pasid(&setup.masters[0], number, &domain).unwrap();
        let mut new: Vec<_> = setup.world.frames().live().collect();
        new.retain(|taken| !before.contains(taken));
        let mut sizes: Vec<u64> = new.iter().map(|(_, bytes)| *bytes).collect();
        sizes.sort_unstable();
        let mut expected = vec![root, leaf];
        expected.retain(|bytes| *bytes != 0);
        expected.sort_unstable();
        assert_eq!(sizes, expected, "{context}");
        let (base, _) = *new.iter().find(|(_, bytes)| *bytes == root).unwrap();
        assert_eq!(base % root, 0, "{context}");
        // S1ContextPtr [55:6], S1CDMax [63:59], S1Fmt [5:4], Config 101, V; no S1DSS: terminate. CDs are fetched
        // write-back, inner shareable.
        let ste = [bits << 59 | base | fmt << 4 | 0b1011, 0xd4, 0, 0, 0, 0, 0, 0];
        assert_eq!(setup.ste(0).0, ste, "{context}");
        let cd = setup.cd(0, number.0);
        assert_eq!(cd[0] >> 31 & 1, 1, "{context}");
        assert_eq!(setup.dma(0, Some(number)), Some(setup.page(0)), "{context}");
        setup.iommu.detach_pasid(&setup.masters[0], number).unwrap();
        // Leaves stay, and the entry blocks.
        assert_eq!(setup.ste(0).0, [1, 0, 0, 0, 0, 0, 0, 0], "{context}");
        assert!(new.iter().all(|taken| setup.world.frames().live().any(|live| live == *taken)));
        setup.tear_down(vec![domain], vec![]);
    }
}

#[test]
fn contexts_are_where_hardware_looks_for_their_substream() {
    for (bits, two_levels, numbers) in [
        (8, false, &[1u32, 2, 63, 64, 255][..]),
        (8, true, &[1, 2, 63, 64, 65, 127, 128, 255]),
        (20, true, &[1, 1023, 1024, 1025, 4096, 65535]),
    ] {
        let setup = Setup::one(bits, two_levels);
        let domains: Vec<_> = (0..numbers.len() as u64).map(|at| setup.domain(16 * at)).collect();
        for (number, domain) in numbers.iter().zip(&domains) {
            let substream = pasid(&setup, *number);
            setup.iommu.attach_pasid(&setup.masters[0], substream, domain).unwrap();
        }
        for (at, number) in numbers.iter().enumerate() {
            let here = setup.dma(0, Some(SubstreamId(*number)));
            assert_eq!(here, Some(setup.page(16 * at as u64)), "{number}");
            // The TTB0 of this domain, and of no other.
            let contexts: Vec<u64> = numbers.iter().map(|number| setup.cd(0, *number)[1]).collect();
            let same = contexts.iter().filter(|ttb| **ttb == contexts[at]).count();
            assert_eq!(same, 1, "{contexts:x?}");
            // Neighbours have none.
            for other in [number - 1, number + 1] {
                if !numbers.contains(&other) && u64::from(other) >> bits == 0 {
                    let refused = setup.dma_at(0, Some(SubstreamId(other)), IOVA).unwrap_err();
                    let event = if two_levels && setup.cd_at(0, other).is_none() {
                        F_BAD_SUBSTREAM
                    } else {
                        EventId::CBadCd
                    };
                    assert_eq!(refused, (Reason::Event(event), Some(event)), "{other}");
                }
            }
        }
        for number in numbers {
            setup.iommu.detach_pasid(&setup.masters[0], SubstreamId(*number)).unwrap();
            assert_eq!(setup.dma(0, Some(SubstreamId(*number))), None, "{number}");
        }
        setup.tear_down(domains, vec![]);
    }
}

/// The model reads and keeps the invalid L1CD before; it must be told.
#[test]
fn a_leaf_that_is_linked_under_a_live_entry_counts_at_once() {
    for bits in [8, 18] {
        let split = if bits == 8 { 6 } else { 10 };
        let setup = Setup::one(bits, true);
        let domains = [setup.domain(0), setup.domain(16)];
        let low = setup.pasid();
        setup.iommu.attach_pasid(&setup.masters[0], low, &domains[0]).unwrap();
        let high = pasid(&setup, 1 << split);
        let refused = setup.dma_at(0, Some(high), IOVA).unwrap_err();
        assert_eq!(refused, (Reason::Event(F_BAD_SUBSTREAM), Some(F_BAD_SUBSTREAM)));
        let kept = setup.model(0).cached_l1_cds();
        assert_eq!(kept.iter().filter(|l1| (l1.index, l1.word) == (1, 0)).count(), 2, "{kept:?}");
        let before = setup.world.frames().count();
        let (result, steps) =
            setup.steps(|| setup.iommu.attach_pasid(&setup.masters[0], high, &domains[1]));
        assert_eq!(result, Ok(()));
        assert_eq!(setup.dma(0, Some(high)), Some(setup.page(16)));
        assert_eq!(setup.dma(0, Some(low)), Some(setup.page(0)));
        assert_eq!(setup.world.frames().count(), before + 1, "one leaf");
        // The leaf is visible before the descriptor that leads there; then both streams are told, Leaf = 0 (§8.2).
        let base = setup.ste(0).s1_context_ptr();
        let leaf = setup.read(base + 8);
        let bytes = 64 << split;
        assert_eq!(leaf % bytes, 1, "aligned, V");
        assert_eq!(steps[0], Step::Published(leaf & !1, bytes));
        assert_eq!(steps[1], Step::Store(base + 8, leaf));
        let cfgi = |sid: u64| {
            let words = [sid << 32 | u64::from(high.0) << 12 | 0x05, 0];
            Step::Command(0, smmuv3_formats::Command(words))
        };
        assert_eq!(steps[2..4], [cfgi(1), cfgi(2)]);
        assert!(matches!(&steps[4], Step::Command(0, sync) if sync.to_string().contains("SYNC")));
        // A second one in the same leaf needs neither.
        let next = setup.pasid();
        assert_eq!(next.0, high.0 + 1);
        let (result, steps) =
            setup.steps(|| setup.iommu.attach_pasid(&setup.masters[0], next, &domains[1]));
        assert_eq!(result, Ok(()));
        assert_eq!(setup.world.frames().count(), before + 1);
        let leafless = |step: &&Step| matches!(step, Step::Command(_, command) if command.0[0] & 0xff == 5 && command.0[1] & 1 == 0);
        assert_eq!(steps.iter().find(leafless), None);
        for number in [low, high, next] {
            setup.iommu.detach_pasid(&setup.masters[0], number).unwrap();
        }
        setup.tear_down(Vec::from(domains), vec![]);
    }
}

#[test]
fn pasids_beyond_a_master_are_refused_with_its_limits() {
    // The instance's, the master's, and what is left of linear tables.
    for (ssid, asked, two_levels, bits) in
        [(0, 8, true, 0), (3, 8, true, 3), (8, 3, true, 3), (20, 20, false, 10), (8, 0, true, 0)]
    {
        let setup = Setup::new(&[hardware(ssid, two_levels)], &[(0, &[1], asked)]);
        assert_eq!(setup.masters[0].pasid_bits(), bits);
        let domain = setup.domain(0);
        let instance = setup.smmus[0].id();
        let over = pasid(&setup, (1 << bits).max(1));
        let frames = setup.live_bytes();
        let (result, steps) =
            setup.steps(|| setup.iommu.attach_pasid(&setup.masters[0], over, &domain));
        let error = AttachError::PasidRange { instance, pasid: over, bits };
        assert_eq!((result, steps), (Err(error), vec![]));
        assert_eq!((domain.targets().unwrap(), setup.live_bytes()), (vec![], frames));
        let (process, tables) = setup.process(1, None, 0);
        let pasid = process.pasid();
        assert_eq!(pasid.0, over.0 + 1);
        let refused = process.bind(&setup.masters[0]).err();
        assert_eq!(refused, Some(AttachError::PasidRange { instance, pasid, bits }));
        // The largest that fits.
        if bits != 0 {
            let most = SubstreamId(over.0 - 1);
            setup.iommu.attach_pasid(&setup.masters[0], most, &domain).unwrap();
            assert_eq!(setup.dma(0, Some(most)), Some(setup.page(0)));
            setup.iommu.detach_pasid(&setup.masters[0], most).unwrap();
        }
        setup.iommu.attach(&setup.masters[0], &domain).unwrap();
        assert_eq!(setup.dma(0, None), Some(setup.page(0)));
        setup.iommu.detach(&setup.masters[0]).unwrap();
        setup.tear_down(vec![domain], vec![(process, tables)]);
    }
}

#[test]
fn a_table_comes_with_the_first_attach_and_goes_with_the_master() {
    let mut setup = Setup::one(18, true);
    let domain = setup.domain(0);
    let before = setup.live_bytes();
    let second = setup.add_master(0, &[5], 18);
    assert_eq!(setup.live_bytes(), before, "nothing yet");
    let numbers = [1, 1024, 3000].map(|number| pasid(&setup, number));
    for number in numbers {
        setup.iommu.attach_pasid(&setup.masters[second], number, &domain).unwrap();
    }
    assert_eq!(setup.live_bytes() - before, 2048 + 3 * (64 << 10));
    for number in numbers {
        setup.iommu.detach_pasid(&setup.masters[second], number).unwrap();
    }
    setup.eyes.check("detached");
    let master = setup.masters.pop().unwrap();
    assert!(master.close().is_ok());
    assert_eq!(setup.live_bytes(), before);
    setup.places.pop();
    setup.tear_down(vec![domain], vec![]);
}

#[test]
fn without_frames_for_a_table_or_a_leaf_nothing_changes() {
    let setup = Setup::one(8, true);
    let domains = [setup.domain(0), setup.domain(16)];
    let low = setup.pasid();
    let high = pasid(&setup, 64);
    // SAFETY: devices of a test only touch what the test tells them to.
    unsafe { setup.iommu.attach_identity(&setup.masters[0]).unwrap() };
    let state = || {
        (
            setup.ste(0),
            setup.live_bytes(),
            domains[0].targets().unwrap(),
            domains[1].targets().unwrap(),
        )
    };
    let attach = |number, domain: usize| {
        setup.iommu.attach_pasid(&setup.masters[0], number, &domains[domain])
    };
    let fail = |nth: u64| setup.world.frames().fail(Some(nth));
    let mut before = state();
    for (number, domain, frames) in [(low, 0, 2), (high, 1, 1)] {
        for nth in 1..=frames {
            fail(nth);
            let (result, steps) = setup.steps(|| attach(number, domain));
            setup.world.frames().fail(None);
            assert_eq!(result, Err(AttachError::NoMemory), "frame {nth}");
            let store = |step: &Step| matches!(step, Step::Store(..) | Step::Command(..));
            assert!(!steps.iter().any(store), "frame {nth}: {steps:x?}");
            let now = state();
            assert_eq!((now.0, &now.2, &now.3), (before.0, &before.2, &before.3), "frame {nth}");
            // At most the table is kept, for the next time.
            assert!(now.1 - before.1 <= (nth - 1) * 64, "frame {nth}");
            assert_eq!(setup.dma(0, None), Some(IOVA));
            assert_eq!(setup.dma(0, Some(number)), None);
        }
        attach(number, domain).unwrap();
        assert_eq!(setup.dma(0, Some(number)), Some(setup.page(16 * domain as u64)));
        before = state();
    }
    for number in [low, high] {
        setup.iommu.detach_pasid(&setup.masters[0], number).unwrap();
    }
    setup.iommu.detach(&setup.masters[0]).unwrap();
    setup.tear_down(Vec::from(domains), vec![]);
}

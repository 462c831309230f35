// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a space is made of: limits, reserved addresses, doorbells, coherent allocations, cache maintenance.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

mod common;

use std::iter::from_fn;

use common::Maintenance::{Clean, Invalidate};
use common::{PAGE, Rig, deferred, pattern, wedge};
use smmuv3::{CreateError, DomainConfig, Iova, Memory, NestConfig, PhysAddr, Prot, Refused};
use smmuv3_dma::{
    CloseError, Direction, DmaConfig, DmaSpace, Lazy, MapError, NewError, Reclaim, ReserveError,
};
use smmuv3_formats::EventId;
use smmuv3_formats::granule::Granule;
use smmuv3_model::Reason;

const BOTH: Direction = Direction::Both;
const TRANSLATION: Reason = Reason::Event(EventId::FTranslation);
const PERMISSION: Reason = Reason::Event(EventId::FPermission);

#[test]
fn settings_that_make_no_sense_are_refused() {
    let rig = Rig::new(DmaConfig::strict());
    let new = |config| DmaSpace::new(&rig.iommu, config).map(drop).unwrap_err();
    let window = |start, bits, limit_bits| {
        let start = Iova(start);
        let config = DmaConfig::strict().with_limit_bits(limit_bits).with_window(start, bits);
        assert_eq!(new(config), NewError::Window { start, bits, limit_bits });
    };
    // Across the limit, not aligned, too small, too large, larger than the limit, and a limit that no domain has.
    window(0x1_0000_0000, 29, 32);
    window(0x1000_0000, 29, 32);
    window(0, 15, 32);
    window(0, 33, 48);
    window(0, 32, 31);
    window(0, 29, 49);
    assert_eq!(
        new(DmaConfig::strict().with_coherent(false).with_whole_pages(true)),
        NewError::WholePages
    );
    let lazy = |bounds| DmaConfig::default().with_reclaim(Reclaim::Lazy(bounds));
    assert_eq!(
        new(lazy(Lazy::default().with_copy_up_to(65537))),
        NewError::CopyUpTo { bytes: 65537, most: 65536 }
    );
    assert_eq!(
        new(lazy(Lazy::default().with_queue(16))),
        NewError::Queue { entries: 16, least: 17 }
    );
    let narrow = DomainConfig::default().with_input_bits(39);
    assert_eq!(
        new(DmaConfig::strict().with_domain(narrow).with_limit_bits(40)),
        NewError::BeyondInput { input_bits: 39 }
    );
    let coarse = DomainConfig::default().with_granule(Granule::K64);
    let error = new(DmaConfig::strict().with_domain(coarse));
    // A driver without the feature has no such tables.
    let left_out = NewError::Domain(CreateError::LeftOut { feature: "granules" });
    assert!(error == NewError::Granule || error == left_out, "{error}");
    assert!(matches!(
        new(DmaConfig::strict().with_domain(DomainConfig::default().with_input_bits(53))),
        NewError::Domain(_)
    ));
    rig.close();
}

#[test]
fn addresses_are_below_the_limit_and_within_the_window() {
    let wide = DmaConfig::strict().with_limit_bits(48);
    let placed = DmaConfig::strict().with_window(Iova(0), 16);
    for (config, expected) in [
        (DmaConfig::strict(), 0xe000_0000..0x1_0000_0000),
        (wide, 0xffff_e000_0000..0x1_0000_0000_0000),
        (placed, 0..0x1_0000),
    ] {
        let rig = Rig::new(config);
        assert_eq!(rig.space.window(), expected);
        let areas: Vec<_> = (0..8).map(|_| rig.world.area(100, 100)).collect();
        let iovas: Vec<_> = areas.iter().map(|area| rig.map(area, BOTH)).collect();
        for iova in &iovas {
            assert!(expected.contains(&iova.0) && iova.0 >= PAGE as u64, "page 0 is nobody's");
            assert!(rig.world.reaches(*iova, true).is_ok());
        }
        for (iova, area) in iovas.into_iter().zip(&areas) {
            rig.unmap(iova, area, BOTH);
        }
        rig.close();
    }
}

#[test]
fn reserved_addresses_are_never_given_out() {
    let rig = Rig::new(DmaConfig::strict().with_window(Iova(0x10_0000), 16));
    let page = |index: u64| 0x10_0000 + index * PAGE as u64;
    // CPUs have taken some for themselves.
    let area = rig.world.area(0, 8);
    let iova = rig.map(&area, BOTH);
    rig.unmap(iova, &area, BOTH);
    rig.space.reserve(page(2)..page(4)).unwrap();
    rig.space.reserve(page(3)..page(7)).unwrap();
    rig.space.reserve(page(15)..page(20)).unwrap();
    rig.space.reserve(0..page(1)).unwrap();
    // 1, and 7 to 14.
    let mut iovas = Vec::new();
    // SAFETY: the area is nobody's.
    while let Ok(iova) = unsafe { rig.space.map(area.pointer, BOTH) } {
        iovas.push(iova);
    }
    let mut pages: Vec<_> = iovas.iter().map(|iova| iova.0).collect();
    pages.sort_unstable();
    let expected: Vec<_> = [1, 7, 8, 9, 10, 11, 12, 13, 14].map(page).to_vec();
    assert_eq!(pages, expected);
    // What is in use cannot be reserved, and nothing changes then.
    let in_use = ReserveError::InUse { iova: Iova(page(7)) };
    assert_eq!(rig.space.reserve(page(5)..page(9)), Err(in_use));
    let start = Iova(page(5));
    for end in [page(5), page(5) + 1] {
        assert_eq!(rig.space.reserve(page(5)..end), Err(ReserveError::Range { start, end }));
    }
    for iova in iovas {
        rig.unmap(iova, &area, BOTH);
    }
    for _ in 0..60 {
        rig.space.reserve(0..page(0)).unwrap();
    }
    assert_eq!(rig.space.reserve(0..page(0)), Err(ReserveError::TooMany { most: 64 }));
    rig.close();
}

#[test]
fn addresses_that_only_wait_for_a_flush_can_be_reserved() {
    let rig = Rig::new(DmaConfig::lazy().with_window(Iova(0x10_0000), 16));
    rig.world.stop_clock();
    let area = rig.world.area(0, 8);
    let iova = rig.map(&area, BOTH);
    rig.unmap(iova, &area, BOTH);
    assert_eq!(rig.space.usage().retired, 2);
    assert_eq!(rig.space.reserve(iova.0..iova.0 + PAGE as u64), Ok(()));
    // And the device has lost them.
    assert!(rig.world.reaches(iova, true).is_err());
    rig.close();
}

#[test]
fn ranges_are_reserved_together_or_not_at_all() {
    let rig = Rig::new(DmaConfig::strict().with_window(Iova(0x10_0000), 16));
    let page = |index: u64| 0x10_0000 + index * PAGE as u64;
    let area = rig.world.area(0, 8);
    let used = rig.map(&area, BOTH);
    let index = (used.0 - page(0)) / PAGE as u64;
    // Overlapping each other, outside, and one that cannot be.
    let good = [page(8)..page(12), page(11)..page(15), 0..page(0)];
    let in_use = page(index)..page(index + 1);
    let not_pages = page(1)..page(2) + 1;
    for (bad, error) in [
        (in_use, ReserveError::InUse { iova: Iova(page(index)) }),
        (not_pages, ReserveError::Range { start: Iova(page(1)), end: page(2) + 1 }),
    ] {
        let all = good.iter().cloned().chain([bad]);
        assert_eq!(rig.space.reserve_all(all), Err(error));
    }
    let too_many = ReserveError::TooMany { most: 64 };
    let many = |count| (0..count).map(|_| page(8)..page(9));
    assert_eq!(rig.space.reserve_all(many(65)), Err(too_many));
    // Nothing of that was reserved.
    let mut iovas = Vec::new();
    // SAFETY: the area is nobody's.
    while let Ok(iova) = unsafe { rig.space.map(area.pointer, BOTH) } {
        iovas.push(iova);
    }
    assert_eq!(iovas.len(), 15);
    for iova in iovas {
        rig.unmap(iova, &area, BOTH);
    }
    rig.space.reserve_all(good).unwrap();
    // SAFETY: the area is nobody's.
    let free: Vec<_> = from_fn(|| unsafe { rig.space.map(area.pointer, BOTH) }.ok()).collect();
    assert_eq!(free.len(), 8);
    assert!(free.iter().all(|iova| !(page(8)..page(15)).contains(&iova.0)));
    for iova in free.into_iter().chain([used]) {
        rig.unmap(iova, &area, BOTH);
    }
    // Three are there.
    assert_eq!(rig.space.reserve_all(many(62)), Err(too_many));
    rig.space.reserve_all(many(61)).unwrap();
    assert_eq!(rig.space.reserve_all(many(0)), Ok(()));
    rig.close();
}

#[test]
fn a_doorbell_is_device_memory_in_a_page_of_its_own() {
    let rig = Rig::new(DmaConfig::strict());
    let doorbell = PhysAddr(0x0809_0040);
    // SAFETY: there is nothing.
    let iova = unsafe { rig.space.map_doorbell(doorbell) }.unwrap();
    assert_eq!(iova.0 % PAGE as u64, 0x40);
    assert_eq!(rig.world.reaches(iova, true), Ok(doorbell.0));
    // SAFETY: nobody unmaps it.
    let mapping = unsafe { rig.space.domain().lookup(iova) }.unwrap();
    assert_eq!(mapping.attributes.memory, Memory::Device);
    assert_eq!(mapping.attributes.prot, Prot::READ | Prot::WRITE);
    let area = rig.world.area(0, 100);
    let other = rig.map(&area, BOTH);
    assert_ne!(other.0 >> 12, iova.0 >> 12);
    assert_eq!(rig.space.usage().mapped_pages, 2);
    rig.unmap(other, &area, BOTH);
    // It does not keep the space from being closed.
    rig.close();
}

#[test]
fn what_firmware_left_in_use_is_mapped_to_itself() {
    let rig =
        Rig::new(DmaConfig::strict().with_window(Iova(0x9_0000_0000), 24).with_limit_bits(40));
    let frame_buffer = rig.world.area(0, 16 * PAGE);
    let start = rig.world.physical(&frame_buffer, 0);
    let range = start..start + 4 * PAGE as u64;
    // SAFETY: it is the test's.
    unsafe { rig.space.map_identity(range.clone()) }.unwrap();
    rig.world.write(Iova(start), &pattern(1, 4 * PAGE)).unwrap();
    assert!(frame_buffer.bytes()[..4 * PAGE] == pattern(1, 4 * PAGE));
    assert_eq!(rig.world.reaches(Iova(range.end), false), Err(TRANSLATION));
    let area = rig.world.area(0, 8 * PAGE);
    for _ in 0..20 {
        let iova = rig.map(&area, BOTH);
        assert!(iova.0 >= range.end || iova.0 + 8 * PAGE as u64 <= range.start);
        rig.unmap(iova, &area, BOTH);
    }
    rig.close();
}

#[test]
fn coherent_memory_is_zeroed_seen_by_both_and_freed_after_a_flush() {
    for config in [DmaConfig::strict(), DmaConfig::lazy(), deferred()] {
        let is_lazy = config.reclaim != Reclaim::Strict;
        let rig = Rig::new(config);
        rig.world.stop_clock();
        let ring = rig.space.allocate(5000, BOTH).unwrap();
        assert_eq!((ring.len(), ring.iova().0 % (2 * PAGE) as u64), (2 * PAGE, 0));
        assert_eq!(rig.world.read(ring.iova(), 2 * PAGE), Ok(vec![0; 2 * PAGE]));
        rig.world.write(Iova(ring.iova().0 + 4095), &[1, 2, 3]).unwrap();
        // SAFETY: within the memory.
        let seen = [0, 1, 2].map(|at| unsafe { ring.pointer().add(4095 + at).read_volatile() });
        assert_eq!(seen, [1, 2, 3]);
        let readable = rig.space.allocate(1, Direction::ToDevice).unwrap();
        assert_eq!(rig.world.read(readable.iova(), 1), Ok(vec![0]));
        assert_eq!(rig.world.write(readable.iova(), &[1]), Err(PERMISSION));
        let at = ring.iova();
        rig.world.reaches(at, true).unwrap();
        let before = rig.world.live();
        rig.space.free(ring).unwrap();
        rig.space.free(readable).unwrap();
        assert_eq!(rig.world.live() == before, is_lazy);
        rig.space.flush().unwrap();
        assert_eq!(rig.world.live(), before - 3 * PAGE);
        assert_eq!(rig.world.reaches(at, true), Err(TRANSLATION));
        assert!(matches!(rig.space.allocate(0, BOTH), Err(MapError::Buffer(_))));
        let too_large = rig.space.allocate(1 << 30, BOTH).unwrap_err();
        assert_eq!(too_large, MapError::NoIova { pages: 1 << 18 });
        let size = 100 << 20;
        assert_eq!(rig.space.allocate(size, BOTH).unwrap_err(), MapError::NoMemory { size });
        rig.close();
    }
}

#[test]
fn coherent_memory_that_was_not_confirmed_is_freed_later() {
    for config in [DmaConfig::strict(), DmaConfig::lazy(), deferred()] {
        let rig = Rig::new(config);
        let ring = rig.space.allocate(PAGE, BOTH).unwrap();
        rig.world.reaches(ring.iova(), true).unwrap();
        let live = rig.world.live();
        wedge(&rig.world, true);
        rig.space.free(ring).unwrap();
        assert!(rig.space.flush().is_err());
        assert_eq!(rig.world.live(), live);
        wedge(&rig.world, false);
        rig.iommu.reset(&rig.smmu).unwrap();
        rig.space.flush().unwrap();
        assert_eq!(rig.world.live(), live - PAGE);
        rig.close();
    }
}

#[test]
fn caches_are_cleaned_before_devices_and_invalidated_before_cpus() {
    let lazy = Reclaim::Lazy(Lazy::default().with_copy_up_to(PAGE));
    for reclaim in [Reclaim::Strict, lazy, deferred().reclaim] {
        let rig = Rig::new(DmaConfig::strict().with_reclaim(reclaim).with_coherent(false));
        let done = || std::mem::take(&mut *rig.world.maintenance.lock().unwrap());
        // Bounced at both ends; two pages and four follow each other in memory.
        let large = rig.world.area(2 * PAGE + 64, 7 * PAGE);
        let small = rig.world.area(7, 100);
        let lent = rig.world.physical(&large, PAGE - 64);
        for direction in [Direction::ToDevice, Direction::FromDevice, BOTH] {
            let iova = rig.map(&large, direction);
            // SAFETY: nobody unmaps it.
            let mapping = unsafe { rig.space.domain().lookup(iova) }.unwrap();
            assert_eq!(mapping.attributes.memory, Memory::NormalNonCacheable);
            let last = Iova(iova.0 + 7 * PAGE as u64 - 1);
            let [head, tail] =
                [iova, last].map(|at| rig.world.reaches(at, false).unwrap() & !0xfff);
            let ends = [Clean(head, PAGE), Clean(tail, PAGE)];
            assert_eq!(done(), [&ends[..], &[Clean(lent, 6 * PAGE)]].concat(), "{direction:?}");
            // SAFETY: the device waits.
            unsafe { rig.space.sync_for_cpu(iova, large.pointer, direction) }.unwrap();
            let for_cpu = if direction == Direction::ToDevice {
                vec![]
            } else {
                vec![Invalidate(lent, 6 * PAGE), Invalidate(head, PAGE), Invalidate(tail, PAGE)]
            };
            assert_eq!(done(), for_cpu);
            // SAFETY: as above.
            unsafe { rig.space.sync_for_device(iova, large.pointer, direction) }.unwrap();
            assert_eq!(done(), [&ends[..], &[Clean(lent, 6 * PAGE)]].concat());
            rig.unmap(iova, &large, direction);
            assert_eq!(done(), for_cpu);

            // Never a line of the buffer itself, which has neighbours.
            let iova = rig.map(&small, direction);
            let page = rig.world.reaches(iova, false).unwrap() & !0xfff;
            rig.unmap(iova, &small, direction);
            let expected = match direction {
                Direction::ToDevice => vec![Clean(page, PAGE)],
                _ => vec![Clean(page, PAGE), Invalidate(page, PAGE)],
            };
            assert_eq!(done(), expected);
        }
        rig.close();
    }
    // Nothing of that where devices are coherent.
    let rig = Rig::new(DmaConfig::strict());
    let area = rig.world.area(5, 3 * PAGE);
    let iova = rig.map(&area, BOTH);
    rig.unmap(iova, &area, BOTH);
    assert_eq!(*rig.world.maintenance.lock().unwrap(), []);
    rig.close();
}

#[test]
fn a_space_that_is_in_use_is_not_closed() {
    let rig = Rig::new(DmaConfig::lazy());
    let Rig { world, space, master, .. } = rig;
    let area = world.area(0, 100);
    // SAFETY: the area is left alone.
    let iova = unsafe { space.map(area.pointer, BOTH) }.unwrap();
    let Refused { value: space, error } = space.close().unwrap_err();
    assert_eq!(error, CloseError::Mapped { pages: 1 });
    // SAFETY: as above.
    unsafe { space.unmap(iova, area.pointer, BOTH) }.unwrap();
    let Refused { value: space, error } = space.close().unwrap_err();
    assert_eq!(error, CloseError::Attached { masters: 1, nests: 0 });
    // It works as before.
    // SAFETY: as above.
    let iova = unsafe { space.map(area.pointer, BOTH) }.unwrap();
    world.write(iova, &[1]).unwrap();
    // SAFETY: as above.
    unsafe { space.unmap(iova, area.pointer, BOTH) }.unwrap();
    space.detach(&master).unwrap();
    assert!(space.close().is_ok());
}

/// The memory at addresses that it reserved is its owner's again when it is closed: no guest's device comes to it afterwards.
#[test]
fn a_space_is_not_closed_as_long_as_a_guest_has_an_smmu_over_its_domain() {
    let domain = DomainConfig::default().with_stage_2().with_guests();
    let rig = Rig::new(DmaConfig::strict().with_domain(domain));
    let Rig { iommu, smmu, space, master, .. } = rig;
    let config = NestConfig::new().with_snooped();
    let nest = iommu.nest(&smmu, space.domain(), config).unwrap();
    space.detach(&master).unwrap();
    let Refused { value: space, error } = space.close().unwrap_err();
    assert_eq!(error, CloseError::Attached { masters: 0, nests: 1 });
    assert_eq!(error.to_string(), "0 masters are attached, and SMMUs of guests over it: 1");
    drop(nest);
    assert!(space.close().is_ok());
}

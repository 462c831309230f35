// SPDX-License-Identifier: MIT OR Apache-2.0
//! `virtio_drivers::Hal` over a space.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

mod common;

use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use std::sync::Arc;

use common::{Kernel, PAGE, Rig, pattern, wedge};
use smmuv3::{Iova, PhysAddr};
use smmuv3_dma::{
    Direction, DmaConfig, DmaSpace, MapError, NOWHERE, UnmapError, VirtioFailure, VirtioHal,
    VirtioSpace,
};
use smmuv3_formats::EventId;
use smmuv3_model::Reason;
use virtio_drivers::{BufferDirection, Hal};

const TRANSLATION: Reason = Reason::Event(EventId::FTranslation);

thread_local! {
    static SPACE: Cell<Option<&'static DmaSpace<Kernel>>> = const { Cell::new(None) };
    static FAILURES: RefCell<Vec<VirtioFailure>> = const { RefCell::new(Vec::new()) };
}

struct Virtio;

// SAFETY: no registers are accessed.
unsafe impl VirtioSpace for Virtio {
    type Platform = Kernel;
    type Space = &'static DmaSpace<Kernel>;

    fn space() -> Option<Self::Space> {
        SPACE.get()
    }

    unsafe fn mmio(pa: PhysAddr, _size: usize) -> NonNull<u8> {
        NonNull::new(std::ptr::without_provenance_mut(pa.0 as usize + 1)).unwrap()
    }

    fn failed(failure: VirtioFailure) {
        FAILURES.with_borrow_mut(|failures| failures.push(failure));
    }
}

type Under = VirtioHal<Virtio>;

/// A rig whose space is this thread's. It is never closed.
fn rig(config: DmaConfig) -> &'static Rig {
    let rig: &'static Rig = Box::leak(Box::new(Rig::new(config)));
    SPACE.set(Some(&rig.space));
    rig
}

fn failures() -> Vec<VirtioFailure> {
    FAILURES.take()
}

#[test]
fn buffers_are_shared_and_unshared() {
    for config in [DmaConfig::strict(), DmaConfig::lazy()] {
        let rig = rig(config);
        for (offset, len) in [(16, 16), (100, 512), (0, 9 * PAGE)] {
            let area = rig.world.area(offset, len);
            area.fill(&pattern(1, len));
            // SAFETY: the area is left alone.
            let at = unsafe { Under::share(area.pointer, BufferDirection::DriverToDevice) };
            assert_eq!(rig.world.read(Iova(at), len), Ok(pattern(1, len)));
            assert!(rig.world.write(Iova(at), &[1]).is_err());
            // SAFETY: as above.
            unsafe { Under::unshare(at, area.pointer, BufferDirection::DriverToDevice) };
            // SAFETY: as above.
            let at = unsafe { Under::share(area.pointer, BufferDirection::DeviceToDriver) };
            rig.world.write(Iova(at), &pattern(2, len)).unwrap();
            // SAFETY: as above.
            unsafe { Under::unshare(at, area.pointer, BufferDirection::DeviceToDriver) };
            assert!(area.bytes() == pattern(2, len));
        }
        assert_eq!(failures(), []);
        assert_eq!(rig.space.usage().mapped_pages, 0);
    }
}

#[test]
fn queues_are_zeroed_pages_that_come_and_go() {
    for config in [DmaConfig::strict(), DmaConfig::lazy()] {
        let rig = rig(config);
        // With its tables, which stay.
        let (at, pointer) = Under::dma_alloc(1, BufferDirection::Both);
        // SAFETY: just allocated.
        assert_eq!(unsafe { Under::dma_dealloc(at, pointer, 1) }, 0);
        rig.space.flush().unwrap();
        let before = rig.world.live();
        let (at, pointer) = Under::dma_alloc(3, BufferDirection::Both);
        assert_eq!(rig.world.live(), before + 3 * PAGE);
        assert!(at != 0 && at.is_multiple_of(PAGE as u64));
        assert!(pointer.as_ptr().addr().is_multiple_of(PAGE));
        assert_eq!(rig.world.read(Iova(at), 3 * PAGE), Ok(vec![0; 3 * PAGE]));
        rig.world.write(Iova(at + 5), &[7]).unwrap();
        // SAFETY: within the pages.
        assert_eq!(unsafe { pointer.add(5).read_volatile() }, 7);
        // SAFETY: just allocated.
        assert_eq!(unsafe { Under::dma_dealloc(at, pointer, 3) }, 0);
        rig.space.flush().unwrap();
        assert_eq!(rig.world.reaches(Iova(at), false), Err(TRANSLATION));
        assert_eq!(rig.world.live(), before);
        // What the device only reads.
        let (at, pointer) = Under::dma_alloc(1, BufferDirection::DriverToDevice);
        assert!(rig.world.write(Iova(at), &[1]).is_err());
        // SAFETY: just allocated.
        assert_eq!(unsafe { Under::dma_dealloc(at, pointer, 1) }, 0);
        assert_eq!(failures(), []);
    }
}

#[test]
fn what_cannot_be_mapped_is_nowhere_and_is_told() {
    let rig = rig(DmaConfig::strict().with_bounce_pages(0));
    let area = rig.world.area(5, 20);
    area.fill(&pattern(1, 20));
    // SAFETY: the area is left alone.
    let at = unsafe { Under::share(area.pointer, BufferDirection::Both) };
    assert_eq!(at, NOWHERE.0);
    let none = MapError::NoBouncePage { most: 0 };
    assert_eq!(failures(), [VirtioFailure::Share(none)]);
    for offset in [0, 1 << 20, 1 << 40, (1 << 54) - 1] {
        for write in [false, true] {
            let found = rig.world.reaches(Iova(at + offset), write);
            assert_eq!(found, Err(TRANSLATION), "{offset:#x}");
        }
    }
    // SAFETY: as above.
    unsafe { Under::unshare(at, area.pointer, BufferDirection::Both) };
    assert_eq!(area.bytes(), pattern(1, 20));
    let too_many = usize::MAX / 2;
    assert_eq!(Under::dma_alloc(too_many, BufferDirection::Both).0, 0);
    assert!(matches!(failures()[..], [VirtioFailure::Allocate(MapError::NoIova { .. })]));
}

#[test]
fn an_unshare_that_was_not_confirmed_is_told_unless_it_was_a_copy() {
    let rig = rig(DmaConfig::lazy());
    let (small, large) = (rig.world.area(9, 16384 - 9), rig.world.area(0, 20000));
    let share = |area: &common::Area| {
        // SAFETY: the area is left alone.
        unsafe { Under::share(area.pointer, BufferDirection::Both) }
    };
    let (first, second) = (share(&small), share(&large));
    let (queue, pointer) = Under::dma_alloc(1, BufferDirection::Both);
    for at in [first, second, queue] {
        rig.world.reaches(Iova(at), true).unwrap();
    }
    wedge(&rig.world, true);
    // SAFETY: they were shared and allocated above.
    unsafe {
        Under::unshare(first, small.pointer, BufferDirection::Both);
        assert_eq!(failures(), []);
        Under::unshare(second, large.pointer, BufferDirection::Both);
        assert!(matches!(failures()[..], [VirtioFailure::Unshare(UnmapError::Unconfirmed(_))]));
        // The drivers panic if this fails.
        assert_eq!(Under::dma_dealloc(queue, pointer, 1), 0);
    }
    assert_eq!(failures(), []);
    let registers = PhysAddr(0x1000);
    // SAFETY: nothing is accessed.
    let pointer = unsafe { Under::mmio_phys_to_virt(registers.0, 8) };
    assert_eq!(pointer.as_ptr().addr(), 0x1001);
    assert_eq!(Direction::from(BufferDirection::Both), Direction::Both);
}

thread_local! {
    static PLACES: [RefCell<Option<Arc<DmaSpace<Kernel>>>>; 2] = const { [const { RefCell::new(None) }; 2] };
}

/// Spaces that end.
struct Nth<const N: usize>;

// SAFETY: no registers are accessed.
unsafe impl<const N: usize> VirtioSpace for Nth<N> {
    type Platform = Kernel;
    type Space = Arc<DmaSpace<Kernel>>;

    fn space() -> Option<Self::Space> {
        PLACES.with(|places| places[N].borrow().clone())
    }

    unsafe fn mmio(_: PhysAddr, _: usize) -> NonNull<u8> {
        unreachable!("there are no registers")
    }

    fn failed(failure: VirtioFailure) {
        FAILURES.with_borrow_mut(|failures| failures.push(failure));
    }
}

#[test]
fn spaces_by_number_are_apart_and_end() {
    let Rig { world, iommu, smmu, master, space } = Rig::new(DmaConfig::strict());
    let other = DmaSpace::new(&iommu, DmaConfig::lazy()).unwrap();
    PLACES.with(|[first, second]| {
        first.replace(Some(Arc::new(space)));
        second.replace(Some(Arc::new(other)));
    });
    let area = world.area(0, PAGE);
    let share = |area: &common::Area| {
        // SAFETY: the area is left alone.
        unsafe { VirtioHal::<Nth<0>>::share(area.pointer, BufferDirection::Both) }
    };
    let at = share(&area);
    world.write(Iova(at), &[9]).unwrap();
    // The other space has nothing there.
    // SAFETY: not so, but all that it does is look.
    unsafe { VirtioHal::<Nth<1>>::unshare(at, area.pointer, BufferDirection::Both) };
    let not_mapped = UnmapError::NotMapped { iova: Iova(at) };
    assert_eq!(failures(), [VirtioFailure::Unshare(not_mapped)]);
    // SAFETY: it was shared above.
    unsafe { VirtioHal::<Nth<0>>::unshare(at, area.pointer, BufferDirection::Both) };
    assert_eq!(failures(), []);

    for index in [0, 1] {
        let space = PLACES.with(|places| places[index].take());
        let space = space.and_then(Arc::into_inner).unwrap();
        if index == 0 {
            space.detach(&master).unwrap();
        }
        assert!(space.close().is_ok());
    }
    // A driver that is used after all gets nothing, and nothing happens.
    assert_eq!(share(&area), NOWHERE.0);
    let (queue, pointer) = VirtioHal::<Nth<0>>::dma_alloc(1, BufferDirection::Both);
    assert_eq!(queue, 0);
    // SAFETY: there is nothing.
    unsafe {
        VirtioHal::<Nth<0>>::unshare(at, area.pointer, BufferDirection::Both);
        assert_eq!(VirtioHal::<Nth<0>>::dma_dealloc(at, pointer, 1), 0);
    }
    assert_eq!(failures(), [VirtioFailure::NoSpace; 4]);
    assert!(master.close().is_ok());
    assert!(iommu.remove(smmu).is_ok());
    drop(iommu);
    assert_eq!(world.live(), 0, "leaked");
}

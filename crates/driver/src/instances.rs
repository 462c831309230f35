// SPDX-License-Identifier: MIT OR Apache-2.0
//! All SMMUs of an `Iommu`: added one by one, never freed before it, found by number without a lock.

use alloc::boxed::Box;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use crate::error::InstanceId;
use crate::instance::Instance;
use crate::platform::Platform;

/// Most instances of one `Iommu`: a set of them fits in 64 bits.
pub const MOST_INSTANCES: usize = 64;

pub(crate) struct Instances<P: Platform> {
    slots: [AtomicPtr<Instance<P>>; MOST_INSTANCES],
    /// Those that were removed, a bit each: their hardware may be somebody else's.
    removed: AtomicU64,
}

impl<P: Platform> Instances<P> {
    pub(crate) fn new() -> Self {
        Self {
            slots: [const { AtomicPtr::new(null_mut()) }; MOST_INSTANCES],
            removed: AtomicU64::new(0),
        }
    }

    /// The first number without an instance.
    pub(crate) fn vacant(&self) -> Option<InstanceId> {
        let index = self.slots.iter().position(|slot| slot.load(Ordering::Acquire).is_null())?;
        // Below 64.
        Some(InstanceId(index as u8))
    }

    /// Gives `instance` the number `id`, which [`Instances::vacant`] returned under the same lock.
    pub(crate) fn add(&self, id: InstanceId, instance: Box<Instance<P>>) {
        if let Some(slot) = self.slots.get(id.index()) {
            slot.store(Box::into_raw(instance), Ordering::Release);
        }
    }

    #[inline]
    pub(crate) fn get(&self, id: InstanceId) -> Option<&Instance<P>> {
        let pointer = self.slots.get(id.index())?.load(Ordering::Acquire);
        // SAFETY: null, or a leaked box that is taken back only by `take_all`, which has `self` to itself.
        unsafe { pointer.as_ref() }
    }

    /// For those who do not hold the configuration lock.
    pub(crate) fn is_removed(&self, id: InstanceId) -> bool {
        self.removed.load(Ordering::Acquire) & id.bit() != 0
    }

    pub(crate) fn remove(&self, id: InstanceId) {
        self.removed.fetch_or(id.bit(), Ordering::Release);
    }

    /// All instances with their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (InstanceId, &Instance<P>)> + Clone {
        (0..MOST_INSTANCES as u8).filter_map(|id| Some((InstanceId(id), self.get(InstanceId(id))?)))
    }

    /// Takes all instances out.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = Box<Instance<P>>> {
        self.slots.iter_mut().filter_map(|slot| {
            let pointer = core::mem::replace(slot.get_mut(), null_mut());
            // SAFETY: not null: a leaked box, and nobody else has a reference, since `self` is borrowed mutably.
            (!pointer.is_null()).then(|| unsafe { Box::from_raw(pointer) })
        })
    }
}

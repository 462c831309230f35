// SPDX-License-Identifier: MIT OR Apache-2.0
//! All SMMUs of an `Iommu`: found by number without a lock, by those who have a handle of one, or its targets.
//!
//! The number of one that was removed is another's once nobody can come by it any more, and only then its memory is given
//! back ([`Core::reclaim`]). Those who can are:
//!
//! | who | how it is known that they are gone |
//! |---|---|
//! | handles: of the SMMU, of what has stalled, of pages, of a guest's | counted for each number: from none there are never more, since each is made from another, but the first, under the mutex |
//! | readers of targets | a grace period: no targets name it since it was removed |
//! | who looks once after it has left the targets | is counted by the instance itself, from while it was a reader |
//! | who waits after it has left the targets | has begun to while it was a reader, or was counted by the instance: a grace period of [`Core::waiters`] behind both |
//! | whoever holds the mutex | it is held |

use alloc::boxed::Box;
use core::ptr::null_mut;

use crate::configuration::Configuration;
use crate::error::InstanceId;
use crate::instance::Instance;
use crate::iommu::Core;
use crate::platform::Platform;
use crate::sync::Ordering;
use crate::sync::plain::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};

/// Most instances of one `Iommu` at the same time: a set of them fits in 64 bits.
pub const MOST_INSTANCES: usize = 64;

pub(crate) struct Instances<P: Platform> {
    slots: [AtomicPtr<Instance<P>>; MOST_INSTANCES],
    /// How many had each number before what is in its slot, or is the next there.
    generations: [AtomicU32; MOST_INSTANCES],
    /// Handles of each, as long as somebody may ask: for removal.
    holders: [AtomicUsize; MOST_INSTANCES],
    /// Those that were removed, a bit each: their hardware may be somebody else's.
    removed: AtomicU64,
}

impl<P: Platform> Instances<P> {
    pub(crate) fn new() -> Self {
        Self {
            slots: [const { AtomicPtr::new(null_mut()) }; MOST_INSTANCES],
            generations: [const { AtomicU32::new(0) }; MOST_INSTANCES],
            holders: [const { AtomicUsize::new(0) }; MOST_INSTANCES],
            removed: AtomicU64::new(0),
        }
    }

    /// The first number without an instance, as the next one's. Under the configuration lock.
    pub(crate) fn vacant(&self) -> Option<InstanceId> {
        let index = self.slots.iter().position(|slot| slot.load(Ordering::Acquire).is_null())?;
        Some(self.id(index))
    }

    /// Gives `instance` the number `id`, which [`Instances::vacant`] returned under the same lock.
    pub(crate) fn add(&self, id: InstanceId, instance: Box<Instance<P>>) {
        if let Some(slot) = self.slots.get(id.index()) {
            slot.store(Box::into_raw(instance), Ordering::Release);
        }
    }

    /// What has the number `index` is called so, as long as it is there.
    pub(crate) fn id(&self, index: usize) -> InstanceId {
        let before = match self.generations.get(index) {
            Some(before) if cfg!(feature = "removal") => before.load(Ordering::Relaxed),
            _ => 0,
        };
        InstanceId::new(index, before)
    }

    /// Called by someone who keeps it from being reclaimed, see above.
    #[inline]
    pub(crate) fn get(&self, id: InstanceId) -> Option<&Instance<P>> {
        self.at(id.index())
    }

    /// The same, by its number.
    #[inline]
    pub(crate) fn at(&self, index: usize) -> Option<&Instance<P>> {
        let pointer = self.slots.get(index)?.load(Ordering::Acquire);
        // SAFETY: null, or a leaked box that is taken back only by `take_all`, which has `self` to itself, and by `take`, whose
        // caller has made sure that nobody is here, nor has what was returned.
        unsafe { pointer.as_ref() }
    }

    /// For those who do not hold the configuration lock.
    pub(crate) fn is_removed(&self, id: InstanceId) -> bool {
        cfg!(feature = "removal") && self.removed.load(Ordering::Acquire) & id.bit() != 0
    }

    #[cfg(feature = "removal")]
    pub(crate) fn remove(&self, id: InstanceId) {
        self.removed.fetch_or(id.bit(), Ordering::Release);
    }

    /// All instances with what they are called, for as long as the configuration is locked: none is reclaimed meanwhile.
    pub(crate) fn iter<'a>(
        &'a self,
        _: &'a Configuration<P>,
    ) -> impl Iterator<Item = (InstanceId, &'a Instance<P>)> + Clone {
        (0..MOST_INSTANCES).filter_map(|index| Some((self.id(index), self.at(index)?)))
    }

    /// There is another handle of `id`, made from one.
    pub(crate) fn hold(&self, id: InstanceId) {
        if cfg!(feature = "removal")
            && let Some(holders) = self.holders.get(id.index())
        {
            // Relaxed: there is one already, or whoever added the instance still has the mutex, without which it is not removed.
            holders.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A handle of `id` is gone.
    pub(crate) fn let_go(&self, id: InstanceId) {
        if cfg!(feature = "removal")
            && let Some(holders) = self.holders.get(id.index())
        {
            // What its holder did comes before whatever whoever finds none of them does.
            holders.fetch_sub(1, Ordering::Release);
        }
    }

    /// Those that were removed and of which there is no handle: nor will there be one. A bit each.
    #[cfg(feature = "removal")]
    fn forgotten(&self) -> u64 {
        let held = self.holders.iter().enumerate().filter_map(|(index, holders)| {
            (holders.load(Ordering::Acquire) != 0).then_some(1 << index)
        });
        self.removed.load(Ordering::Acquire) & !held.sum::<u64>()
    }

    /// Takes out what has the number of `id`, which is another's from then on.
    ///
    /// # Safety
    /// Nobody has what [`Instances::get`] returned for it, nor will ask for it.
    #[cfg(feature = "removal")]
    unsafe fn take(&self, id: InstanceId) -> Option<Box<Instance<P>>> {
        let pointer = self.slots.get(id.index())?.swap(null_mut(), Ordering::Acquire);
        self.removed.fetch_and(!id.bit(), Ordering::Release);
        let generation = self.generations.get(id.index())?;
        generation.store(id.next().generation(), Ordering::Relaxed);
        // SAFETY: not null: a leaked box, which nobody else has by what the caller says.
        (!pointer.is_null()).then(|| unsafe { Box::from_raw(pointer) })
    }

    /// Takes all instances out; whether each was removed.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = (bool, Box<Instance<P>>)> {
        let removed = if cfg!(feature = "removal") { *self.removed.get_mut() } else { 0 };
        self.slots.iter_mut().enumerate().filter_map(move |(index, slot)| {
            let pointer = core::mem::replace(slot.get_mut(), null_mut());
            // SAFETY: not null: a leaked box, and nobody else has a reference, since `self` is borrowed mutably.
            let instance = (!pointer.is_null()).then(|| unsafe { Box::from_raw(pointer) })?;
            Some((removed >> index & 1 == 1, instance))
        })
    }
}

impl<P: Platform> Core<P> {
    /// Gives back the memory and the numbers of instances that were removed, and of which no handle is left. Called under the
    /// configuration mutex. Waits for those who are still at it: they find that it has failed, and leave.
    pub(crate) fn reclaim(&self) {
        #[cfg(feature = "removal")]
        {
            let forgotten = self.instances.forgotten();
            if forgotten != 0 {
                self.reclaim_those(forgotten);
            }
        }
    }

    #[cfg(feature = "removal")]
    #[cold]
    #[inline(never)]
    fn reclaim_those(&self, forgotten: u64) {
        let relax: &dyn Fn() = &|| self.platform.relax();
        let all = || (0..MOST_INSTANCES).filter(|index| forgotten >> index & 1 == 1);
        self.readers.grace(relax);
        // Whoever was a reader may look since then, and whoever looked may wait since then: in another order they are
        // missed.
        for instance in all().filter_map(|index| self.instances.at(index)) {
            instance.commands().wait_outside(&self.platform);
        }
        self.waiters.grace(relax);
        for index in all() {
            // SAFETY: no target names it, since it has no masters; the readers from before are gone, and so are those who
            // look once or wait since then. No handle is left, and others ask under the mutex only, which is held.
            let Some(instance) = (unsafe { self.instances.take(self.instances.id(index)) }) else {
                continue;
            };
            // SAFETY: `remove`, or the suspend before it, saw the SMMU confirm that it is off. There is one platform only, and
            // entries are not used beyond the call that asks for them.
            unsafe { (*instance).dismantle(&self.platform) };
        }
    }
}

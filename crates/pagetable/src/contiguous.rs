// SPDX-License-Identifier: MIT OR Apache-2.0
//! The contiguous hint: groups of leaves that a TLB may keep as one (§8.2, §15.1).
//!
//! The hint is set by a map that stores all leaves of a group, and only then. So either all members of a group have
//! it, and are valid and alike, or none has. A TLB may keep the whole group for any member, so before one of them
//! goes, all lose the hint, and what is invalidated is the group. Changing nothing but the hint needs no
//! break-before-make from BBML 1 on. At BBML 0 it does, and DMA to the rest of the group would fault meanwhile: there,
//! an unmap that cuts a group is refused.
//!
//! Callers with neighbouring pages of one group may cut it at the same time. Who comes second finds no hint any
//! more, though the other's invalidation may not be complete: so leaves that lost it keep a mark, and whoever unmaps one
//! invalidates the group, too.

use core::sync::atomic::{AtomicU64, Ordering};

use smmuv3_formats::PhysAddr;

use crate::flags::written;
use crate::geometry::Geometry;
use crate::table::entry;
use crate::{Frames, Table};

/// `Contiguous` of a leaf (§15.3).
pub(crate) const HINT: u64 = 1 << 52;

/// Software bit of our leaves: it had the hint. Bits 58:55 are ignored by the hardware (§15.3).
pub(crate) const HAD_HINT: u64 = 1 << 57;

/// A leaf in memory that others may cut out of its group at the same time. A trait only so that the protocol can be
/// run on a checker's atomics.
pub(crate) trait Member {
    fn read(&self) -> u64;
    /// Exchanges `old` for `new`, or gives what is there.
    fn exchange(&self, old: u64, new: u64) -> Result<u64, u64>;
}

impl Member for AtomicU64 {
    fn read(&self) -> u64 {
        self.load(Ordering::Relaxed)
    }

    fn exchange(&self, old: u64, new: u64) -> Result<u64, u64> {
        // Relaxed: nothing but the descriptor itself is passed on.
        self.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed)
    }
}

/// Takes the hint from a leaf. Returns whether a TLB may still keep the whole group because of it.
///
/// Its owner may clear it meanwhile, and hardware may set its flags: those stores stay. It becomes dirty, if hardware marks
/// that, and accessed: a mark of another member may be meant for it, also one that is made before the group is invalidated.
pub(crate) fn take_hint<M: Member, const STAGE: u8>(member: &M) -> bool {
    let mut value = member.read();
    while value & HINT != 0 {
        match member.exchange(value, written::<STAGE>(value & !HINT | HAD_HINT)) {
            Ok(_) => return true,
            Err(found) => value = found,
        }
    }
    value & HAD_HINT != 0
}

/// The offsets of a group that was cut, end exclusive, and log2 of the size of its leaves.
pub(crate) struct Cut {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) shift: u32,
}

impl<const SHIFT: u32, const STAGE: u8, const WIDE: bool> Table<SHIFT, STAGE, WIDE> {
    /// Whether maps set the contiguous hint.
    pub const fn has_contiguous(&self) -> bool {
        cfg!(feature = "resizing") && self.contiguous
    }

    /// log2 of the span of a group of leaves of `1 << shift` bytes; `None` where there are none.
    #[inline]
    pub(crate) const fn group_shift(shift: u32) -> Option<u32> {
        match Geometry::<SHIFT, WIDE>::GRANULE.contiguous(Geometry::<SHIFT, WIDE>::level(shift)) {
            Some(log2) => Some(shift + log2),
            None => None,
        }
    }

    /// Takes the hint from the group of the leaf at `at` in `table`, whose entries span `1 << shift` bytes, if the range
    /// `start..end` of the caller, which holds `at`, cuts it. Gives the group if it must be invalidated as a whole.
    ///
    /// # Safety
    /// `table` is on the walk for `at`, and the contract of [`Table`] holds for the range.
    #[cold]
    pub(crate) unsafe fn cut<F: Frames + ?Sized>(
        &self,
        frames: &F,
        (table, shift): (PhysAddr, u32),
        at: u64,
        (start, end): (u64, u64),
    ) -> Option<Cut> {
        let group = Self::group_shift(shift)?;
        let first = at >> group << group;
        // No overflow: offsets are below 2^52. A first table may end before its group would.
        let last = (first + (1 << group)).min(1 << self.input_bits());
        if first >= start && last <= end {
            return None;
        }
        let index = self.index(first, shift);
        let mut whole = false;
        for (nth, member) in (first..last).step_by(1 << shift).enumerate() {
            // SAFETY: a group lies in one table, which is live while a part of it is ours.
            let cell = unsafe { entry(frames, table, index + nth).as_ref() };
            #[cfg(feature = "mutation")]
            if self.wrong == Some(crate::Wrong::HintKept) {
                let had = cell.load(Ordering::Relaxed) & HINT != 0;
                whole |= had && member < end && member + (1 << shift) > start;
                continue;
            }
            // Not set in a table's descriptor: its marks are other bits.
            let had = cell.load(Ordering::Relaxed) & (HINT | HAD_HINT) != 0
                && take_hint::<_, STAGE>(cell);
            whole |= had && member < end && member + (1 << shift) > start;
        }
        if !whole {
            return None;
        }
        // Published even if another caller took the hint: its stores may not be published yet, and no walk after our
        // invalidation may still find the hint.
        let count = ((last - first) >> shift) as usize;
        frames.publish(PhysAddr(table.0 + index as u64 * 8), count * 8);
        #[cfg(feature = "mutation")]
        if self.wrong == Some(crate::Wrong::PartOnly) {
            return None;
        }
        Some(Cut { start: first, end: last, shift })
    }
}

#[cfg(all(test, loom))]
mod tests {
    //! Two callers each unmap one of the two leaves of a group; a TLB keeps the group for any member with the hint.

    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicU64, Ordering, fence};
    use loom::thread;

    use super::{HAD_HINT, HINT, Member, take_hint};

    impl Member for AtomicU64 {
        fn read(&self) -> u64 {
            self.load(Ordering::Relaxed)
        }

        fn exchange(&self, old: u64, new: u64) -> Result<u64, u64> {
            self.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed)
        }
    }

    struct Machine {
        leaves: [AtomicU64; 2],
        /// What the TLB keeps: bits 0 and 1 for a leaf, bit 2 for the group.
        tlb: AtomicU64,
    }

    impl Machine {
        /// The SMMU walks for one leaf.
        fn walk(&self, leaf: usize) {
            fence(Ordering::SeqCst);
            let value = self.leaves[leaf].load(Ordering::Acquire);
            let kept = if value & HINT != 0 { 4 } else { u64::from(value != 0) << leaf };
            self.tlb.fetch_or(kept, Ordering::AcqRel);
        }
    }

    /// Unmaps a leaf; gives once the invalidation is complete.
    fn unmap(machine: &Machine, mine: usize, marks: bool) {
        let mut whole = false;
        for (leaf, cell) in machine.leaves.iter().enumerate() {
            let had = if marks { take_hint::<_, 1>(cell) } else { unmarked(cell) };
            whole |= had && leaf == mine;
        }
        machine.leaves[mine].store(0, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        // Only an invalidation of the group is sure to find what is kept for the group.
        let kept = if whole { 0 } else { !(1 << mine) };
        machine.tlb.fetch_and(kept, Ordering::AcqRel);
        fence(Ordering::SeqCst);
    }

    /// Forgets that there was a hint.
    fn unmarked(cell: &AtomicU64) -> bool {
        let value = cell.read();
        value & HINT != 0 && cell.exchange(value, value & !HINT).is_ok()
    }

    fn race(marks: bool) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(move || {
            let machine = Arc::new(Machine {
                leaves: [AtomicU64::new(HINT | 3), AtomicU64::new(HINT | 3)],
                tlb: AtomicU64::new(4),
            });
            let other = {
                let machine = machine.clone();
                thread::spawn(move || unmap(&machine, 0, marks))
            };
            unmap(&machine, 1, marks);
            // Mine is gone: neither the TLB nor a walk may lead there.
            assert_eq!(machine.tlb.load(Ordering::Acquire) & 0b110, 0, "kept after the unmap");
            other.join().expect("an unmap failed");
            machine.walk(0);
            machine.walk(1);
            assert_eq!(machine.tlb.load(Ordering::Acquire), 0);
            assert!(machine.leaves.iter().all(|leaf| leaf.load(Ordering::Relaxed) == 0));
        });
    }

    #[test]
    fn loom_who_unmaps_a_part_of_a_group_leaves_nothing_of_it_in_a_tlb() {
        assert_eq!(HINT & HAD_HINT, 0);
        race(true);
    }

    #[test]
    #[should_panic(expected = "kept after the unmap")]
    fn loom_without_marks_who_comes_second_invalidates_too_little() {
        race(false);
    }
}

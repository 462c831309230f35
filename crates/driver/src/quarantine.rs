// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an SMMU that did not answer may still reach (rule R8): kept until the SMMU has been reset.

use alloc::vec::Vec;
use core::{fmt, mem};

use smmuv3_formats::{Iova, PhysAddr, StreamId};
use smmuv3_pagetable::Detached;

use crate::error::InstanceId;
use crate::platform::Platform;
use crate::room::Room;
use crate::shared::NoMemory;
use crate::spin::SpinLock;
use crate::trace::{InstanceSet, Trace};

/// Something that must not be used again before a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Quarantined {
    /// Input addresses that a device may still reach memory through.
    Range {
        /// Number of the domain, as [`crate::Domain::id`] gives it, or of the process ([`crate::Process::id`]).
        domain: usize,
        /// First address.
        iova: Iova,
        /// Bytes.
        bytes: u64,
        /// The instances that have to be reset.
        waiting: InstanceSet,
    },
    /// A table that hardware may still read, with all below it.
    Table {
        /// Its address.
        frame: PhysAddr,
        /// The instances that have to be reset.
        waiting: InstanceSet,
    },
    /// An ASID that translations may still carry. It may be listed more than once.
    Asid {
        /// On which instance.
        instance: InstanceId,
        /// The ASID.
        asid: u16,
    },
    /// A VMID of stage 2 that translations may still carry. It may be listed more than once.
    Vmid {
        /// On which instance.
        instance: InstanceId,
        /// The VMID.
        vmid: u16,
    },
    /// A stream that was blocked, but that may still use what its master was attached to, or was being
    /// attached to; or one whose master was being moved to another bank.
    Stream {
        /// Of which instance.
        instance: InstanceId,
        /// The stream.
        stream: StreamId,
    },
    /// Ranges and tables that there was no record left for. Such a table is never used again.
    Unlisted {
        /// How many.
        count: usize,
        /// The instances that have to be reset before none is counted any more.
        waiting: InstanceSet,
    },
}

impl Quarantined {
    /// The instances that have to be reset, or removed, before it can be used again.
    pub fn waiting(&self) -> InstanceSet {
        match *self {
            Self::Range { waiting, .. }
            | Self::Table { waiting, .. }
            | Self::Unlisted { waiting, .. } => waiting,
            Self::Asid { instance, .. }
            | Self::Vmid { instance, .. }
            | Self::Stream { instance, .. } => instance.into(),
        }
    }
}

impl fmt::Display for Quarantined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range { domain, iova, bytes, .. } => {
                // Not past the last address.
                let last = iova.0.saturating_add(bytes.saturating_sub(1));
                write!(f, "addresses {:#x} to {last:#x} of domain {domain}", iova.0)
            }
            Self::Table { frame, .. } => write!(f, "the table at {:#x}", frame.0),
            Self::Asid { asid, .. } => write!(f, "ASID {asid}"),
            Self::Vmid { vmid, .. } => write!(f, "VMID {vmid}"),
            Self::Stream { stream, .. } => write!(f, "stream {stream}"),
            Self::Unlisted { count, .. } => write!(f, "{count} more ranges and tables"),
        }?;
        let mut waiting = self.waiting().iter();
        waiting.next().map_or(Ok(()), |first| write!(f, ", until a reset of instance {first}"))?;
        waiting.try_for_each(|index| write!(f, " and instance {index}"))
    }
}

struct Item {
    /// The number of marks when the item was put here: a reset only releases items from before its own mark.
    since: u64,
    /// Instances that must be reset, a bit each.
    waiting: u64,
    what: Kept,
}

enum Kept {
    Range { domain: usize, iova: Iova, bytes: u64 },
    Table(Detached),
}

pub(crate) struct Quarantine {
    records: SpinLock<Records>,
}

struct Records {
    items: Items,
    /// How many items there was no room for; the instances that these wait for, and when the last of them came.
    unlisted: usize,
    waiting: u64,
    unlisted_since: u64,
    /// Marks made so far.
    marks: u64,
    /// Instances that are off for good: nothing waits for them.
    removed: u64,
}

/// A list in blocks, so that no item moves when there is made more room.
struct Items {
    /// Each with room for [`BLOCK`] items; all but the last that has any are full.
    blocks: Vec<Vec<Item>>,
    len: usize,
}

/// Items of a block.
const BLOCK: usize = 2 * SPARE;

impl Items {
    fn room(&self) -> usize {
        self.blocks.len() * BLOCK - self.len
    }

    /// Whether there was room for it.
    fn push(&mut self, item: Item) -> bool {
        let Some(block) = self.blocks.get_mut(self.len / BLOCK) else { return false };
        block.put(item);
        self.len += 1;
        true
    }

    fn get_mut(&mut self, at: usize) -> Option<&mut Item> {
        self.blocks.get_mut(at / BLOCK)?.get_mut(at % BLOCK)
    }

    /// Takes the item at `at` off the list; the last one comes to its place.
    fn swap_remove(&mut self, at: usize) -> Option<Item> {
        let end = self.len.checked_sub(1).filter(|end| at <= *end)?;
        let last = self.blocks.get_mut(end / BLOCK)?.pop()?;
        self.len = end;
        if at == end {
            return Some(last);
        }
        self.get_mut(at).map(|item| core::mem::replace(item, last))
    }

    fn iter(&self) -> impl Iterator<Item = &Item> {
        self.blocks.iter().flatten()
    }
}

/// A moment: what is kept later than it is not released by the reset that it belongs to.
#[derive(Clone, Copy)]
pub(crate) struct Mark(u64);

/// Free records after [`Quarantine::reserve`]: more than one unmap needs.
const SPARE: usize = 64;

/// How many items are looked at each time the lock is held.
const AT_ONCE: usize = 32;

impl Quarantine {
    /// With room, as [`Quarantine::reserve`] makes it.
    pub(crate) fn new<P: Platform>(platform: &P) -> Result<Self, NoMemory> {
        let quarantine = Self {
            records: SpinLock::new(Records {
                items: Items { blocks: Vec::new(), len: 0 },
                unlisted: 0,
                waiting: 0,
                unlisted_since: 0,
                marks: 0,
                removed: 0,
            }),
        };
        quarantine.reserve(platform)?;
        Ok(quarantine)
    }

    /// Makes room, so that [`Quarantine::keep`] need not: unmap allocates nothing.
    pub(crate) fn reserve<P: Platform>(&self, platform: &P) -> Result<(), NoMemory> {
        let wanted = self.records.with(platform, |records| {
            let items = &records.items;
            (items.room() < SPARE).then_some(items.blocks.len() + 1)
        });
        let Some(wanted) = wanted else { return Ok(()) };
        // Memory is allocated and freed outside the lock, in which blocks change hands, and no item moves.
        let (mut larger, mut block) = (Vec::new(), Vec::new());
        larger.room_exact(wanted)?;
        block.room_exact(BLOCK)?;
        self.records.with(platform, |records| {
            let blocks = &mut records.items.blocks;
            // Others may have made room meanwhile.
            if blocks.len() < larger.capacity() {
                larger.put_all(blocks.iter_mut().map(mem::take));
                larger.put(mem::take(&mut block));
                mem::swap(&mut larger, blocks);
            }
        });
        Ok(())
    }

    /// Keeps a range of `domain` and tables of it until the instances in `waiting` are reset.
    pub(crate) fn keep<P: Platform>(
        &self,
        platform: &P,
        waiting: u64,
        domain: usize,
        range: core::ops::Range<u64>,
        tables: &[Detached],
    ) {
        let (start, bytes) = (range.start, range.end - range.start);
        let waits = InstanceSet(waiting);
        platform.trace(&Trace::Held { space: domain, start, bytes, waiting: waits });
        // An instance in `waiting` may have been removed meanwhile: nobody would release its items later.
        if let Some((removed, mark)) = self.put(platform, waiting, domain, range, tables) {
            self.release_from(platform, removed, mark);
        }
    }

    /// As [`Quarantine::keep`]. Returns those of `waiting` for which nothing is to be kept, since they are removed, and up to
    /// which moment that holds: afterwards there may be others of these numbers.
    fn put<P: Platform>(
        &self,
        platform: &P,
        waiting: u64,
        domain: usize,
        range: core::ops::Range<u64>,
        tables: &[Detached],
    ) -> Option<(u64, Mark)> {
        self.records.with(platform, |records| {
            // Tables first, in case there is no room for both: the range is in the error as well.
            let since = records.marks;
            for table in tables {
                records.push(Item { since, waiting, what: Kept::Table(*table) });
            }
            if !records.widen(waiting, domain, range.clone()) {
                let (iova, bytes) = (Iova(range.start), range.end - range.start);
                records.push(Item { since, waiting, what: Kept::Range { domain, iova, bytes } });
            }
            let removed = if cfg!(feature = "removal") { records.removed & waiting } else { 0 };
            (removed != 0).then(|| (removed, records.mark()))
        })
    }

    /// Forgets the ranges of a process whose release every instance has confirmed.
    pub(crate) fn forget<P: Platform>(&self, platform: &P, process: usize) {
        let of_it =
            |item: &mut Item| matches!(item.what, Kept::Range { domain, .. } if domain == process);
        let mut at = usize::MAX;
        while !matches!(
            self.records.with(platform, |records| records.take_some(&mut at, of_it)),
            Step::End
        ) {}
    }

    /// Lets go of what only waited for `instance`, which is off for good.
    #[cfg(feature = "removal")]
    pub(crate) fn remove<P: Platform>(&self, platform: &P, instance: InstanceId) {
        let mark = self.records.with(platform, |records| {
            records.removed |= instance.bit();
            records.mark()
        });
        self.release(platform, instance, mark);
    }

    /// There is another instance of the number of one that was removed: for the former nothing was kept. (A call that waited for
    /// it in vain, and is not back yet, may still keep what it wanted to free, which then waits for a reset of this one.)
    pub(crate) fn add<P: Platform>(&self, platform: &P, instance: InstanceId) {
        self.records.with(platform, |records| records.removed &= !instance.bit());
    }

    /// Marks this moment, before a reset of `instance`. If a removal of it was begun and failed, it no longer counts as
    /// removed.
    pub(crate) fn mark<P: Platform>(&self, platform: &P, instance: InstanceId) -> Mark {
        self.records.with(platform, |records| {
            records.removed &= !instance.bit();
            records.mark()
        })
    }

    /// Lets go of what was kept before `mark` and only waited for `instance`, whose caches were emptied after
    /// it.
    pub(crate) fn release<P: Platform>(&self, platform: &P, instance: InstanceId, mark: Mark) {
        self.release_from(platform, instance.bit(), mark);
    }

    /// As [`Quarantine::release`], for a set of instances.
    fn release_from<P: Platform>(&self, platform: &P, instances: u64, mark: Mark) {
        let mut at = usize::MAX;
        loop {
            let step = self.records.with(platform, |records| {
                if records.unlisted_since < mark.0 {
                    records.waiting &= !instances;
                }
                if records.waiting == 0 {
                    records.unlisted = 0;
                }
                records.take_some(&mut at, |item| {
                    if item.since < mark.0 {
                        item.waiting &= !instances;
                    }
                    item.waiting == 0
                })
            });
            match step {
                Step::End => return,
                Step::More | Step::Gone(Kept::Range { .. }) => {}
                // SAFETY: unlinked, and every instance that could walk it confirmed an invalidation or was
                // reset since; the item was the only copy.
                Step::Gone(Kept::Table(table)) => unsafe { table.free(platform) },
            }
        }
    }

    /// Shows every item to `visit`.
    pub(crate) fn list<P: Platform>(&self, platform: &P, visit: &mut dyn FnMut(Quarantined)) {
        self.records.with(platform, |records| {
            for item in records.items.iter() {
                let waiting = InstanceSet(item.waiting);
                visit(match &item.what {
                    Kept::Range { domain, iova, bytes } => {
                        Quarantined::Range { domain: *domain, iova: *iova, bytes: *bytes, waiting }
                    }
                    Kept::Table(table) => Quarantined::Table { frame: table.frame(), waiting },
                });
            }
            if records.unlisted != 0 {
                let (count, waiting) = (records.unlisted, InstanceSet(records.waiting));
                visit(Quarantined::Unlisted { count, waiting });
            }
        });
    }
}

/// The outcome of a look at some items.
enum Step {
    /// This item was taken off the list.
    Gone(Kept),
    /// There are more items to look at.
    More,
    /// All items were looked at.
    End,
}

impl Records {
    /// Marks this moment.
    fn mark(&mut self) -> Mark {
        self.marks += 1;
        Mark(self.marks)
    }

    /// Looks at a few items before `at`, until one is to `go`. From the end: whoever else takes one off moves the last item to
    /// its place, so that items only ever move to where nobody has been yet.
    fn take_some(&mut self, at: &mut usize, mut go: impl FnMut(&mut Item) -> bool) -> Step {
        for _ in 0..AT_ONCE {
            let Some(next) = self.items.len.min(*at).checked_sub(1) else { return Step::End };
            *at = next;
            let Some(item) = self.items.get_mut(next) else { return Step::End };
            if go(item) {
                return self
                    .items
                    .swap_remove(next)
                    .map_or(Step::End, |item| Step::Gone(item.what));
            }
        }
        Step::More
    }

    /// Adds `range` to one of the latest records, if it touches one. Returns whether it did.
    fn widen(&mut self, waiting: u64, domain: usize, range: core::ops::Range<u64>) -> bool {
        let now = self.marks;
        let alike = |item: &&mut Item| item.waiting == waiting && item.since == now;
        let len = self.items.len;
        (len.saturating_sub(AT_ONCE)..len).rev().any(|at| {
            let Some(item) = self.items.get_mut(at).filter(alike) else { return false };
            let Kept::Range { domain: of, iova, bytes } = &mut item.what else { return false };
            let end = iova.0 + *bytes;
            if *of != domain || range.start > end || range.end < iova.0 {
                return false;
            }
            iova.0 = iova.0.min(range.start);
            *bytes = end.max(range.end) - iova.0;
            true
        })
    }

    /// Without room for the record the item stays out of use for ever, which is safe.
    fn push(&mut self, item: Item) {
        let (since, waiting) = (item.since, item.waiting);
        if !self.items.push(item) {
            self.unlisted += 1;
            self.unlisted_since = since;
            self.waiting |= waiting;
        }
    }
}

#[cfg(all(test, feature = "ats", feature = "removal", not(any(loom, shuttle))))]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::nothing::Nothing;

    fn listed(quarantine: &Quarantine) -> Vec<usize> {
        let mut all = Vec::new();
        quarantine.list(&Nothing, &mut |what| match what {
            Quarantined::Range { domain, .. } => all.push(domain),
            other => panic!("{other:?}"),
        });
        all.sort_unstable();
        all
    }

    /// More than are looked at with the lock held once.
    #[test]
    fn all_that_waits_for_nobody_else_is_let_go_of_and_nothing_later() {
        let quarantine = Quarantine::new(&Nothing).unwrap();
        let [one, other] = [InstanceId::first(0), InstanceId::first(5)];
        let keep = |domains: core::ops::Range<usize>| {
            for domain in domains {
                quarantine.reserve(&Nothing).unwrap();
                let bits = [one.bit(), other.bit(), one.bit() | other.bit()];
                quarantine.keep(&Nothing, bits[domain % 3], domain, 0..0x1000, &[]);
            }
        };
        keep(0..1000);
        let mark = quarantine.mark(&Nothing, one);
        keep(1000..1200);
        quarantine.release(&Nothing, one, mark);
        let left: Vec<usize> = (0..1200).filter(|it| *it >= 1000 || it % 3 != 0).collect();
        assert_eq!(listed(&quarantine), left);
        // What waited for both waits for one now.
        let mark = quarantine.mark(&Nothing, other);
        quarantine.release(&Nothing, other, mark);
        let left: Vec<usize> = (1000..1200).filter(|it| it % 3 != 1).collect();
        assert_eq!(listed(&quarantine), left);
        quarantine.remove(&Nothing, one);
        assert_eq!(listed(&quarantine), []);
        // For one that is off for good nothing is kept.
        quarantine.keep(&Nothing, one.bit(), 1, 0..0x1000, &[]);
        assert_eq!(listed(&quarantine), []);
    }

    /// A call that waited for an instance in vain is stopped between its look at who is removed and what follows from that. By
    /// then the number is another's, and what is kept for that is not let go of.
    #[test]
    fn what_is_kept_for_the_next_of_a_number_stays_whatever_the_former_was() {
        let quarantine = Quarantine::new(&Nothing).unwrap();
        let one = InstanceId::first(3);
        quarantine.remove(&Nothing, one);
        let (removed, mark) =
            quarantine.put(&Nothing, one.bit(), 1, 0..0x1000, &[]).expect("it is removed");
        quarantine.add(&Nothing, one.next());
        quarantine.keep(&Nothing, one.next().bit(), 2, 0..0x1000, &[]);
        quarantine.release_from(&Nothing, removed, mark);
        assert_eq!(listed(&quarantine), [2]);
    }

    /// However long the list is: it is gone through a few at a time, and while there is made more room nothing of it moves.
    #[test]
    fn a_long_list_masks_interrupts_for_a_few_items_at_a_time() {
        use crate::nothing::masked;

        let quarantine = Quarantine::new(&Nothing).unwrap();
        let keep = |range: core::ops::Range<usize>| {
            for item in range {
                quarantine.reserve(&Nothing).unwrap();
                // Apart, so that each is an item of its own.
                let start = (item as u64) << 16;
                quarantine.keep(&Nothing, 1, item % 2, start..start + 0x1000, &[]);
            }
        };
        keep(0..1000);
        let first = quarantine
            .records
            .with(&Nothing, |records| records.items.get_mut(0).map(core::ptr::from_mut).unwrap());
        keep(1000..2000);
        let now = quarantine
            .records
            .with(&Nothing, |records| records.items.get_mut(0).map(core::ptr::from_mut).unwrap());
        assert_eq!(first, now);
        let before = masked();
        quarantine.forget(&Nothing, 0);
        assert!(masked() - before >= 2000 / AT_ONCE, "{}", masked() - before);
        assert_eq!(listed(&quarantine), [1; 1000]);
        let mark = quarantine.mark(&Nothing, InstanceId::first(0));
        quarantine.release(&Nothing, InstanceId::first(0), mark);
        assert_eq!(listed(&quarantine), []);
    }

    #[test]
    fn a_range_that_touches_one_of_the_latest_is_no_other() {
        let quarantine = Quarantine::new(&Nothing).unwrap();
        for page in 0..100u64 {
            for domain in 0..3 {
                let start = page << 12;
                quarantine.keep(&Nothing, 1, domain, start..start + 0x1000, &[]);
            }
        }
        assert_eq!(listed(&quarantine), [0, 1, 2]);
    }
}

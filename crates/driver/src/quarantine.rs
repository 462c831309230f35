// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an SMMU that did not answer may still reach (rule R8): kept until the SMMU has been reset.

use alloc::vec::Vec;

use smmuv3_formats::{Iova, PhysAddr};
use smmuv3_pagetable::{Detached, Gather};

use crate::error::InstanceId;
use crate::platform::Platform;
use crate::shared::NoMemory;
use crate::spin::SpinLock;

/// Something that must not be used again before a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Quarantined {
    /// Input addresses that a device may still reach memory through.
    Range {
        /// Number of the domain, as [`crate::Domain::id`] gives it.
        domain: usize,
        /// First address.
        iova: Iova,
        /// Bytes.
        bytes: u64,
    },
    /// A table that hardware may still read, with all below it.
    Table {
        /// Its address.
        frame: PhysAddr,
    },
    /// An ASID that translations may still carry.
    Asid {
        /// On which instance.
        instance: InstanceId,
        /// The ASID.
        asid: u16,
    },
}

struct Item {
    /// Instances that must be reset, a bit each.
    waiting: u64,
    what: Kept,
}

enum Kept {
    Range { domain: usize, iova: Iova, bytes: u64 },
    Table(Detached),
}

pub(crate) struct Quarantine {
    items: SpinLock<Vec<Item>>,
}

impl Quarantine {
    pub(crate) fn new() -> Result<Self, NoMemory> {
        let mut items = Vec::new();
        // One unmap's worth, so that the first failure finds room without allocating.
        items.try_reserve(33).map_err(|_| NoMemory)?;
        Ok(Self { items: SpinLock::new(items) })
    }

    /// Keeps what `gather` holds until the instances in `waiting` are reset.
    pub(crate) fn keep<P: Platform>(
        &self,
        platform: &P,
        waiting: u64,
        domain: usize,
        gather: &Gather,
    ) {
        let range = gather.range();
        let (iova, bytes) = (Iova(range.start), range.end - range.start);
        self.items.with(platform, |items| {
            push(items, Item { waiting, what: Kept::Range { domain, iova, bytes } });
            for table in gather.tables() {
                push(items, Item { waiting, what: Kept::Table(*table) });
            }
        });
    }

    /// Lets go of what only waited for `instance`, whose caches are empty now.
    pub(crate) fn release<P: Platform>(&self, platform: &P, instance: InstanceId) {
        loop {
            let done = self.items.with(platform, |items| {
                for item in items.iter_mut() {
                    item.waiting &= !instance.bit();
                }
                let index = items.iter().position(|item| item.waiting == 0)?;
                Some(items.swap_remove(index).what)
            });
            match done {
                None => return,
                Some(Kept::Range { .. }) => {}
                // SAFETY: unlinked, and every instance that could walk it confirmed an invalidation or was
                // reset since; the item was the only copy.
                Some(Kept::Table(table)) => unsafe { table.free(platform) },
            }
        }
    }

    /// Shows every item to `visit`.
    pub(crate) fn list<P: Platform>(&self, platform: &P, visit: &mut dyn FnMut(Quarantined)) {
        self.items.with(platform, |items| {
            for item in items.iter() {
                visit(match &item.what {
                    Kept::Range { domain, iova, bytes } => {
                        Quarantined::Range { domain: *domain, iova: *iova, bytes: *bytes }
                    }
                    Kept::Table(table) => Quarantined::Table { frame: table.frame() },
                });
            }
        });
    }
}

/// Without memory for the record the item stays out of use for ever, which is safe.
fn push(items: &mut Vec<Item>, item: Item) {
    if items.try_reserve(1).is_ok() {
        items.push(item);
    }
}

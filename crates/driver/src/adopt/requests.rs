// SPDX-License-Identifier: MIT OR Apache-2.0
//! Page requests that whoever had the SMMU before had not read: devices still wait for answers to them, and nobody knows
//! what for. They are told that it has failed (§13), so that they ask for nothing until they are set up anew. Of those that
//! it had read and not answered nobody knows.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use smmuv3_formats::register::{PriqBase, PriqCons, PriqProd};
use smmuv3_formats::{PAGE_REQUEST_BYTES, PageRequest, PhysAddr};

use super::Remains;
use crate::error::Failure;
use crate::features::Features;
use crate::instance::Instance;
use crate::page_request::{Answer, Group, Request, Standing};
use crate::platform::{Mmio, Platform};
use crate::queue::Size;
use crate::room::Room;

/// The predecessor's queue of page requests.
#[derive(Debug)]
pub(crate) struct OldRequests {
    base: u64,
    size: Size,
    /// Groups whose end is among them; there is room for as many as it has entries.
    ended: Vec<Group>,
}

impl OldRequests {
    /// The queue that `register` describes; `None` where it is in no memory that can be read, or there is no heap
    /// memory for a list of groups.
    pub(super) fn find(
        register: PriqBase,
        features: &Features,
        memory: &dyn Remains,
    ) -> Option<Self> {
        // The records are read again once PRIQEN is 0. Where the SMMU does not snoop caches, the CPU's may hold older
        // contents.
        if !features.coherent {
            return None;
        }
        // The field has five bits, and the SMMU caps it (§2.4).
        let log2 = (register.log2size() as u32).min(features.page_request_queue_log2);
        let size = Size::new(log2)?;
        let (base, bytes) = (register.addr(), size.entries() * PAGE_REQUEST_BYTES as u64);
        let end = base.checked_add(bytes).filter(|_| base.is_multiple_of(bytes.max(32)));
        let end = end?;
        if (base..end).step_by(8).any(|pa| memory.read(pa).is_none()) {
            return None;
        }
        let mut ended = Vec::new();
        if ended.room_exact(size.entries() as usize).is_err() {
            return None;
        }
        Some(Self { base, size, ended })
    }

    /// Reads the records, once PRIQEN is acknowledged as 0, and before the queue's registers are written. A group is
    /// noted once, however often it ends, as its device tells answers apart.
    pub(crate) fn read<P: Platform>(&mut self, platform: &P, instance: &Instance<P>) {
        let features = instance.features();
        let at = |offset: u32| if features.page_0_only { offset & 0xffff } else { offset };
        let read = |offset| instance.mmio().read32(at(offset));
        // Index and wrap bit; at most 20 bits.
        let mask = 2 * self.size.entries() as u32 - 1;
        let begin = PriqCons(read(PriqCons::OFFSET)).rd() & u64::from(mask);
        let prod = PriqProd(read(PriqProd::OFFSET)).wr() as u32 & mask;
        // If the indices make no sense, no record is believed.
        let Ok(end) = self.size.position(begin, prod) else { return };
        for position in begin..end {
            let Request::Page(page) = Request::read(&self.record(platform, position)) else {
                continue;
            };
            let standing = Standing::find(platform, instance.streams(), page.group.stream);
            let (Standing::Known { with_pasid } | Standing::Unknown { with_pasid }) = standing;
            let pasid = page.group.pasid.filter(|_| with_pasid);
            let group = Group { pasid, ..page.group };
            let due = page.last && group.is_answerable(features, with_pasid);
            if due && self.ended.len() < self.ended.capacity() {
                self.ended.put(group);
            }
        }
        self.ended.sort_unstable();
        self.ended.dedup();
    }

    /// Answers them, with a command queue that works.
    ///
    /// # Errors
    /// What the instance did, unless it refuses an answer and works on.
    pub(crate) fn answer<P: Platform>(
        self,
        platform: &P,
        instance: &Instance<P>,
    ) -> Result<(), Failure> {
        for group in self.ended {
            // `true`: `read` has left the PASID in `group` only where answers carry it.
            let command = group.command(Answer::Failure, true);
            let answered = instance.carry_out(platform, [command]);
            answered.or_else(|what| match instance.commands().has_failed() {
                true => Err(what),
                false => Ok(()),
            })?;
        }
        Ok(())
    }

    fn record<P: Platform>(&self, platform: &P, position: u64) -> PageRequest {
        let record = self.base + (self.size.slot(position) * PAGE_REQUEST_BYTES) as u64;
        PageRequest([record, record + 8].map(|pa| {
            let word = platform.pointer(PhysAddr(pa)).cast::<AtomicU64>();
            // SAFETY: a slot of the queue, aligned to 8 bytes, in memory that `remains` has read, and which the platform's
            // pointers lead to, as `adopt`'s caller says; the SMMU has written it, and nobody writes to it any more.
            u64::from_le(unsafe { word.as_ref() }.load(Ordering::Relaxed))
        }))
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where blocks of input addresses and bounce pages come from, where they go to, and what they wait for on the way.
//!
//! From the CPU's own; else from what all share; else, once everything was flushed and collected, from there again.
//! No lock is held inside another, nor while memory is allocated or freed or an instance is waited for.

use smmuv3::Unconfirmed;

use crate::bounce::{Bounced, Pages};
use crate::flush::Stamp;
use crate::iova::Block;
use crate::local::{BLOCKS, Local, ORDERS, PAGES, Stack, most};
use crate::platform::DmaPlatform;
use crate::retired::Item;
use crate::space::DmaSpace;
use crate::span::PAGE;
use crate::spin::SpinLock;
use crate::sync::Ordering;

/// What is handed over between a CPU's own and what all share, at once.
const BATCH: usize = 32;

impl<P: DmaPlatform> DmaSpace<P> {
    /// What this CPU has for itself.
    #[inline]
    pub(crate) fn local(&self) -> &SpinLock<Local> {
        // There is at least one, so the remainder is an index.
        &self.locals[self.platform().cpu() % self.locals.len()]
    }

    /// A block of 2^`order` pages, and bounce pages up to `count`: fewer if there are no more.
    #[inline]
    pub(crate) fn take(&self, order: u8, count: usize, pages: &mut Pages) -> Option<Block> {
        let block = self.local().with(self.platform(), |local| {
            let block = local.take_block_or_released(order, &self.flushes);
            while pages.len() < count {
                let Some(page) = local.take_page_or_released(&self.flushes) else { break };
                // There is room for as many as a mapping has, and here and below no more are wanted.
                let _ = pages.push(page);
            }
            block
        });
        if pages.len() < count {
            self.take_more_pages(count, pages);
        }
        block.or_else(|| self.take_more_blocks(order))
    }

    /// A block of 2^`order` pages.
    #[inline]
    pub(crate) fn take_block(&self, order: u8) -> Option<Block> {
        let block = self
            .local()
            .with(self.platform(), |local| local.take_block_or_released(order, &self.flushes));
        block.or_else(|| self.take_more_blocks(order))
    }

    /// Blocks from the window: one to return, the others for this CPU.
    #[cold]
    fn take_more_blocks(&self, order: u8) -> Option<Block> {
        let platform = self.platform();
        let is_scarce = self.scarce.load(Ordering::Relaxed) != 0;
        let wanted = match usize::from(order) < ORDERS && !is_scarce {
            true => most(order).div_ceil(2).min(BATCH),
            false => 1,
        };
        // Whatever is before it in the queue, too.
        self.collect_until(self.local(), |local| local.blocks(order) >= wanted);
        if let Some(block) = self.local().with(platform, |local| local.take_block(order)) {
            return Some(block);
        }
        let mut got = Stack::<Item, BATCH>::new();
        self.window.with(platform, |window| {
            while got.len() < wanted {
                let Some(page) = window.take(order) else { break };
                // No more than a batch is wanted.
                let _ = got.push(Item::Block(Block { page, order }));
            }
        });
        if got.len() == 0 {
            let take = || self.window.with(platform, |window| window.take(order));
            return self.scrape(take).map(|page| Block { page, order });
        }
        let mut first = None;
        let mut spill = Stack::<Item, BATCH>::new();
        self.local().with(platform, |local| {
            while let Some(Item::Block(block)) = got.pop() {
                if first.is_none() {
                    first = Some(block);
                } else if !local.give_block(block) {
                    // No more than there were in `got`, which is as large.
                    let _ = spill.push(Item::Block(block));
                }
            }
        });
        self.release(spill.as_slice());
        first
    }

    /// Fills `pages` up to `count`, as far as there are any.
    #[cold]
    fn take_more_pages(&self, count: usize, pages: &mut Pages) {
        let platform = self.platform();
        let missing = count - pages.len();
        self.collect_until(self.local(), |local| local.pages.len() >= missing + BATCH / 2);
        self.local().with(platform, |local| {
            while pages.len() < count {
                let Some(page) = local.pages.pop() else { break };
                let _ = pages.push(page);
            }
        });
        self.take_shared_pages(count, pages);
        while pages.len() < count {
            let Some(page) = self.pool.allocate(platform) else { break };
            let _ = pages.push(page);
        }
        if pages.len() < count {
            self.scrape(|| {
                self.take_shared_pages(count, pages);
                (pages.len() >= count).then_some(())
            });
        }
    }

    /// Flushes, and tries to `take` what CPUs have for themselves once they have given it to all. Again if that failed while
    /// they had something: another CPU may have been quicker, and have more than it needs.
    fn scrape<T>(&self, mut take: impl FnMut() -> Option<T>) -> Option<T> {
        self.scarce.fetch_add(1, Ordering::Relaxed);
        let _ = self.flush();
        let mut taken = None;
        for _ in 0..=self.locals.len() {
            let had_any = self.empty_locals();
            taken = take();
            if taken.is_some() || !had_any {
                break;
            }
        }
        self.scarce.fetch_sub(1, Ordering::Relaxed);
        taken
    }

    /// As far as there are spare ones that no CPU has for itself; some more for this CPU, unless they are scarce.
    fn take_shared_pages(&self, count: usize, pages: &mut Pages) {
        let missing = count.saturating_sub(pages.len());
        if missing == 0 {
            return;
        }
        let platform = self.platform();
        let spare = if self.scarce.load(Ordering::Relaxed) == 0 { BATCH / 2 } else { 0 };
        let mut more = Stack::<Item, BATCH>::new();
        self.pool.take(platform, missing + spare, |page| {
            // At most 16 and 16, of which there is room for both.
            let _ = match pages.len() < count {
                true => pages.push(page),
                false => more.push(Item::Page(page)),
            };
        });
        let mut spill = Stack::<Item, BATCH>::new();
        self.local().with(platform, |local| {
            while let Some(Item::Page(page)) = more.pop() {
                if !local.pages.push(page) {
                    // No more than there were in `more`, which is as large.
                    let _ = spill.push(Item::Page(page));
                }
            }
        });
        self.release(spill.as_slice());
    }

    /// Puts a block behind which devices reach nothing to use again.
    #[inline]
    pub(crate) fn give_block(&self, block: Block) {
        if !self.local().with(self.platform(), |local| local.give_block(block)) {
            self.give_to_all(Some(block), &Bounced::none(), 0);
        }
    }

    /// Puts what no device can reach to use again.
    #[inline]
    pub(crate) fn give(&self, block: Block, bounced: &Bounced) {
        let mut kept = 0;
        let kept_block = self.local().with(self.platform(), |local| {
            for (_, page) in bounced.iter() {
                if !local.pages.push(page) {
                    break;
                }
                kept += 1;
            }
            local.give_block(block)
        });
        if !kept_block || kept < bounced.len() {
            self.give_to_all((!kept_block).then_some(block), bounced, kept);
        }
    }

    /// Gives what this CPU has no room for to all, and half of what it has of that kind.
    #[cold]
    pub(crate) fn give_to_all(&self, block: Option<Block>, bounced: &Bounced, kept: usize) {
        if let Some(block) = block {
            let mut spill = Stack::<Item, BATCH>::new();
            self.local().with(self.platform(), |local| local.halve(block.order, &mut spill));
            self.release(spill.as_slice());
            self.release(&[Item::Block(block)]);
        }
        if kept < bounced.len() {
            let mut spill = Stack::<Item, BATCH>::new();
            for (_, page) in bounced.iter().skip(kept) {
                // A mapping has at most half a batch.
                let _ = spill.push(Item::Page(page));
            }
            self.local().with(self.platform(), |local| {
                while !spill.is_full() {
                    let Some(page) = local.pages.pop() else { break };
                    // It is not full.
                    let _ = spill.push(Item::Page(page));
                }
            });
            self.release(spill.as_slice());
        }
    }

    /// Gives things that no device can reach to all, or to the platform.
    pub(crate) fn release(&self, items: &[Item]) {
        let platform = self.platform();
        if items.iter().any(|item| matches!(item, Item::Block(_))) {
            self.window.with(platform, |window| {
                for item in items {
                    if let Item::Block(block) = item {
                        window.give(*block);
                    }
                }
            });
        }
        if items.iter().any(|item| matches!(item, Item::Page(_))) {
            let pages = items.iter().filter_map(|item| match item {
                Item::Page(page) => Some(*page),
                _ => None,
            });
            self.pool.give(platform, pages);
        }
        for item in items {
            if let Item::Memory { pa, pages } = *item {
                // SAFETY: of a coherent allocation of that many pages, which no device can reach any more; its handle
                // is gone.
                unsafe { self.free_memory(pa, pages as usize * PAGE) };
            }
        }
    }

    /// Puts off the use of what has been cleared, and which devices may go on reaching, until a flush that begins from
    /// now on is over: the stamp of that. Flushes if that is due.
    pub(crate) fn put_off(&self, items: &[Item]) -> Stamp {
        let Some(most_age) = self.age else {
            return self.flush_for(items);
        };
        let platform = self.platform();
        let now = platform.now();
        let mut spill = Stack::<Item, BATCH>::new();
        let local = self.local();
        let is_due = local.with(platform, |local| {
            // At the cost of what a flush has released, which stays there until then: so in the long run each unmap takes
            // one entry out and puts one in, and what all CPUs share is not visited.
            if !local.make_room(items.len(), &self.flushes, &mut spill) {
                return None;
            }
            // In the lock, so that stamps do not decrease in the queue.
            let stamp = self.flushes.stamp();
            for item in items {
                // There is room.
                let _ = local.retired.push(*item, stamp, now);
            }
            let oldest = local.retired.oldest(&self.flushes);
            Some((stamp, oldest.is_some_and(|oldest| now.saturating_sub(oldest) >= most_age)))
        });
        if spill.len() != 0 {
            self.release(spill.as_slice());
        }
        match is_due {
            Some((stamp, false)) => stamp,
            // What it does not release stays in the queue.
            Some((stamp, true)) => {
                let _ = self.flush_alone();
                self.collect(local);
                stamp
            }
            None => {
                let stamp = self.flush_for(items);
                if local.with(platform, |local| local.retired.has_memory()) {
                    self.collect(local);
                }
                stamp
            }
        }
    }

    /// Flushes, and puts what has been cleared before to use again. The stamp of that, which is over if the flush was
    /// confirmed.
    fn flush_for(&self, items: &[Item]) -> Stamp {
        let stamp = self.flushes.stamp();
        match self.flush_alone() {
            Ok(()) => {
                self.release(items);
                stamp
            }
            Err(_) => self.hold(items),
        }
    }

    /// Keeps what an instance did not confirm.
    pub(crate) fn hold(&self, items: &[Item]) -> Stamp {
        let platform = self.platform();
        let now = platform.now();
        let (stamp, lost) = self.held.with(platform, |held| {
            let stamp = self.flushes.stamp();
            let lost = items.iter().filter(|item| held.push(**item, stamp, now).is_err());
            (stamp, lost.map(|item| item.pages() as usize).sum())
        });
        self.lost.fetch_add(lost, Ordering::Relaxed);
        stamp
    }

    /// Gives up `block` and `pages` of memory behind it, where it is not known whether devices reach them. They are not used again.
    #[cold]
    pub(crate) fn lose(&self, block: Block, pages: usize) {
        self.lost.fetch_add(block.pages() as usize + pages, Ordering::Relaxed);
    }

    /// Makes sure that no device reaches anything that was unmapped before this call, and puts all of that to use
    /// again.
    ///
    /// May be called in interrupt context. From a timer, [`tick`](Self::tick) is the cheaper one.
    ///
    /// # Errors
    /// [`Unconfirmed`]: everything waits for the next flush. The instance needs a [reset](smmuv3::Iommu::reset) first.
    pub fn flush(&self) -> Result<(), Unconfirmed> {
        self.flush_alone()?;
        for local in &self.locals {
            self.collect(local);
        }
        Ok(())
    }

    /// To be called from a timer, on one CPU: flushes if anything that was unmapped lazily, or deferred, has waited for longer
    /// than [`Lazy::age`](crate::Lazy::age), or [`Deferred::age`](crate::Deferred::age), whichever CPU's queue it is in; whether it did.
    /// What a flush of one CPU has released in the queue of another is put to use again when it is as old, and coherent
    /// memory in any case, without a flush. Otherwise it looks at the queue of each CPU, and no more; in a strict space, at
    /// nothing.
    ///
    /// Called every so often, nothing is reached, or kept in a queue, for longer than `age` and that after its
    /// buffer was unmapped, however quiet the CPU was. May be called in interrupt context.
    ///
    /// # Errors
    /// As from [`flush`](Self::flush).
    pub fn tick(&self) -> Result<bool, Unconfirmed> {
        let Some(age) = self.age else { return Ok(false) };
        let platform = self.platform();
        // What is retired from now on is not old.
        let now = platform.now();
        let mut is_due = false;
        for local in &self.locals {
            let (oldest, is_stale) = local.with(platform, |local| {
                let oldest = local.retired.oldest(&self.flushes);
                (oldest, local.retired.is_stale(now, age))
            });
            is_due |= oldest.is_some_and(|oldest| now.saturating_sub(oldest) >= age);
            if is_stale {
                self.collect(local);
            }
        }
        if !is_due {
            return Ok(false);
        }
        self.flush().map(|()| true)
    }

    /// A flush that leaves the queues of CPUs to them.
    fn flush_alone(&self) -> Result<(), Unconfirmed> {
        let flush = self.flushes.begin();
        self.domain.invalidate_all()?;
        self.flushes.confirm(flush);
        loop {
            let mut spill = Stack::<Item, BATCH>::new();
            self.held.with(self.platform(), |held| {
                while !spill.is_full() {
                    let Some(item) = held.pop(&self.flushes) else { break };
                    // It is not full.
                    let _ = spill.push(item);
                }
            });
            self.release(spill.as_slice());
            if !spill.is_full() {
                return Ok(());
            }
        }
    }

    /// Puts what flushes have released to use: as far as possible on the CPU whose queue it was in.
    fn collect(&self, local: &SpinLock<Local>) {
        self.collect_until(local, |_| false);
    }

    /// As [`collect`](Self::collect), until that CPU has `enough`.
    fn collect_until(&self, local: &SpinLock<Local>, enough: impl Fn(&Local) -> bool + Copy) {
        let mut more = true;
        while more {
            let mut spill = Stack::<Item, BATCH>::new();
            more = local
                .with(self.platform(), |local| local.collect(&self.flushes, &mut spill, enough));
            self.release(spill.as_slice());
        }
    }

    /// Takes from all CPUs what they have for themselves, and what waits there for nothing any more. Whether that was
    /// anything.
    pub(crate) fn empty_locals(&self) -> bool {
        let mut had_any = false;
        for local in &self.locals {
            self.collect(local);
            // Others may fill it meanwhile; what was there at first has gone after so many rounds.
            for _ in 0..=(2 * BLOCKS + PAGES) / BATCH {
                let mut spill = Stack::<Item, BATCH>::new();
                local.with(self.platform(), |local| local.empty(&mut spill));
                self.release(spill.as_slice());
                had_any |= spill.len() != 0;
                if !spill.is_full() {
                    break;
                }
            }
        }
        had_any
    }
}

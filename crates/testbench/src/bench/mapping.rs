// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mapping and unmapping.

use std::ops::Range;

use smmuv3::{Attributes, Iova, Memory, PhysAddr, Prot, UnmapError};
use smmuv3_pagetable::UnmapError as TableUnmapError;

use super::{Bench, Done};
use crate::bytes::Bytes;
use crate::operation::Source;
use crate::oracle::{Oracle, PAGE};
use crate::scenario::{MemoryKind, Rights};
use crate::trace::{self, Args};

/// Whether an unmap of `range` was refused since it would cut a block, of which the driver says where it is, and which
/// may be there by all that is known of `space`.
pub(super) fn cuts(oracle: &Oracle, space: usize, range: &Range<u64>, error: &UnmapError) -> bool {
    let UnmapError::Table(TableUnmapError::Straddle { block, size }) = *error else { return false };
    let Some(end) = block.0.checked_add(size) else { return false };
    let inside = |at: u64| block.0 < at && at < end;
    (inside(range.start) || inside(range.end)) && oracle.may_be_one(space, block.0, size)
}

impl Bench {
    /// The operands of a call on input addresses of an address space, for the trace.
    fn range(&self, space: usize, iova: u64, bytes: u64) -> Args {
        trace::range(("domain", self.scenario.space(space)), iova, bytes)
    }

    pub(super) fn map(
        &self,
        space: usize,
        iova: u64,
        bytes: u64,
        source: Source,
        (write, kind, rights): (bool, MemoryKind, Rights),
    ) -> Done {
        let pa = match source {
            // A guest's leads to the same address of what it is over.
            _ if self.guest(space).is_some() => iova,
            Source::Memory { memory, offset } => {
                self.memories.get(memory).map_or(0, |base| base + offset)
            }
            Source::Pool(offset) => self.pool + offset,
        };
        let range = iova..iova + bytes;
        let prot = if write { Prot::READ | Prot::WRITE } else { Prot::READ };
        let prot = prot
            | match rights {
                Rights::Data => Prot::NONE,
                Rights::Code => Prot::EXECUTE,
                Rights::UserCode => Prot::EXECUTE | Prot::PXN,
                Rights::PrivilegedCode => Prot::EXECUTE | Prot::UXN,
                Rights::Privileged => Prot::PRIVILEGED,
            };
        let memory = match kind {
            MemoryKind::Normal => Memory::NormalCacheable,
            MemoryKind::Uncached => Memory::NormalNonCacheable,
            MemoryKind::Device => Memory::Device,
            MemoryKind::WriteThrough => Memory::NormalWriteThrough,
            MemoryKind::StrictDevice => Memory::DeviceNGnRnE,
            MemoryKind::AsStage1 => Memory::AsStage1,
        };
        let attributes = Attributes::new(prot, memory);
        self.flush_first(space, &range);
        let overlaps = self.look(|watch| {
            let overlaps = watch.oracle.pages(space, range.clone()).next().is_some();
            if !overlaps {
                watch.oracle.map_begins(space, range.clone(), pa, write);
                watch.oracle.map_is(space, range.clone(), kind, rights);
                watch.busy = Some((space, range.clone()));
            }
            overlaps
        });
        let result = if let Some(guest) = self.guest(space) {
            let map = || guest.map(self, iova, bytes, attributes);
            self.traced("call", "map", || self.range(space, iova, bytes), map)
        } else if let Some(domain) = self.domains.get(space) {
            // SAFETY: nobody else uses the range: interruptions avoid the busy one, and the memory lives as long
            // as the run.
            let map = || unsafe { domain.map(Iova(iova), PhysAddr(pa), bytes, attributes) };
            let result = self.traced("call", "map", || self.range(space, iova, bytes), map);
            result.map_err(|error| error.to_string())
        } else if let Some(slot) = self.slot(space) {
            let map = || self.map_process(slot, iova, pa, bytes, attributes);
            self.traced("call", "map", || self.range(space, iova, bytes), map)
        } else {
            return Done::default();
        };
        self.look(|watch| {
            watch.collect(&self.world);
            watch.busy = None;
            if overlaps {
                if result.is_ok() {
                    watch.refuse("a mapping was mapped over");
                }
            } else {
                watch.oracle.map_ends(space, range.clone(), result.is_ok());
                if let Err(error) = &result {
                    watch.after_unmap(&self.world, space, &range);
                    watch.refuse(format_args!("map was refused: {error}"));
                }
            }
        });
        let acted = result.is_ok();
        let outcome = match result {
            Ok(()) => "done".to_owned(),
            Err(error) => error,
        };
        Done { outcome, acted, ..Done::default() }
    }

    /// Unmaps; also as an interruption of another operation.
    pub(crate) fn unmap(&self, space: usize, iova: u64, bytes: u64) -> Done {
        self.unmap_as(space, iova, bytes, false)
    }

    /// The same, and reads what devices have written there, which hardware marks.
    pub(crate) fn take(&self, domain: usize, iova: u64, bytes: u64) -> Done {
        self.unmap_as(domain, iova, bytes, true)
    }

    fn unmap_as(&self, space: usize, iova: u64, bytes: u64, asks: bool) -> Done {
        let range = iova..iova + bytes;
        self.flush_first(space, &range);
        let mut reported: Vec<(u64, u64)> = Vec::new();
        let (outer, mapped) = self.look(|watch| {
            let mapped = watch.oracle.pages(space, range.clone()).count() as u64 * PAGE;
            watch.oracle.unmap_begins(space, range.clone());
            if asks {
                watch.oracle.taking_begins(space, &range);
            }
            (watch.busy.replace((space, range.clone())), mapped)
        });
        let result = if let Some(guest) = self.guest(space) {
            let unmap = || guest.unmap(self, iova, bytes);
            self.traced("call", "unmap", || self.range(space, iova, bytes), unmap)
        } else if let Some(domain) = self.domains.get(space) {
            let (name, start) = (if asks { "unmap_reporting" } else { "unmap" }, Iova(iova));
            let unmap = || {
                if !asks {
                    // SAFETY: nobody else uses the range: interruptions avoid the busy one.
                    return unsafe { domain.unmap(start, bytes) };
                }
                let mut report = |start: Iova, bytes| reported.push((start.0, bytes));
                // SAFETY: as above.
                unsafe { domain.unmap_reporting(start, bytes, &mut report) }
            };
            let result = self.traced("call", name, || self.range(space, iova, bytes), unmap);
            result.map_err(|error| error.to_string())
        } else if let Some(slot) = self.slot(space) {
            let unmap = || self.unmap_process(slot, iova, bytes);
            self.traced("call", "unmap", || self.range(space, iova, bytes), unmap)
        } else {
            Ok(0)
        };
        self.look(|watch| {
            watch.collect(&self.world);
            watch.busy = outer;
            if asks {
                let done = result.is_ok().then_some(&reported[..]);
                watch.oracle.taking_ends(space, &range, done);
            }
            watch.oracle.unmap_ends(space, range.clone(), result.is_ok());
            match &result {
                Ok(removed) => {
                    watch.after_unmap(&self.world, space, &range);
                    if *removed != mapped {
                        watch.refuse(format_args!(
                            "unmap removed {removed:#x} of {mapped:#x} bytes"
                        ));
                    }
                }
                Err(error) => watch.refuse(format_args!("unmap was refused: {error}")),
            }
        });
        let acted = result.as_ref().is_ok_and(|removed| *removed > 0);
        let outcome = match result {
            Ok(0) => "nothing was mapped there".to_owned(),
            Ok(removed) if asks => {
                let written: u64 = reported.iter().map(|(_, bytes)| bytes).sum();
                format!("{} gone, {} of them written", Bytes(removed), Bytes(written))
            }
            Ok(removed) => format!("{} gone", Bytes(removed)),
            Err(error) => error,
        };
        Done { outcome, acted, reported, ..Done::default() }
    }

    /// Unmaps what may cut a block, or cuts one for certain: is it refused, then rightly, and nothing has changed.
    pub(super) fn cut(&self, domain: usize, iova: u64, bytes: u64, must: bool) -> Done {
        let handle = self.domains.get(domain).filter(|_| self.guest(domain).is_none());
        let Some(handle) = handle else { return Done::default() };
        let range = iova..iova + bytes;
        self.flush_first(domain, &range);
        let (outer, mapped) = self.look(|watch| {
            let mapped = watch.oracle.pages(domain, range.clone()).count() as u64 * PAGE;
            watch.oracle.unmap_begins(domain, range.clone());
            (watch.busy.replace((domain, range.clone())), mapped)
        });
        // SAFETY: as in `unmap_as`.
        let unmap = || unsafe { handle.unmap(Iova(iova), bytes) };
        let result = self.traced("call", "unmap", || self.range(domain, iova, bytes), unmap);
        self.look(|watch| {
            watch.collect(&self.world);
            watch.busy = outer;
            watch.oracle.unmap_ends(domain, range.clone(), result.is_ok());
            match &result {
                Err(error) if cuts(&watch.oracle, domain, &range, error) => {}
                Err(error) => watch.refuse(format_args!("unmap was refused: {error}")),
                Ok(_) if must => watch.refuse("an unmap that cuts a block was done"),
                Ok(removed) => {
                    watch.after_unmap(&self.world, domain, &range);
                    if *removed != mapped {
                        watch.refuse(format_args!(
                            "unmap removed {removed:#x} of {mapped:#x} bytes"
                        ));
                    }
                }
            }
        });
        let outcome = match &result {
            Ok(removed) => format!("{} gone", Bytes(*removed)),
            Err(error) => error.to_string(),
        };
        Done { outcome, acted: true, ..Done::default() }
    }

    pub(super) fn reclaim(&self, domain: usize, iova: u64, bytes: u64) -> Done {
        let handle = self.domains.get(domain).filter(|_| self.guest(domain).is_none());
        let Some(handle) = handle else { return Done::default() };
        // Whole tables must be out of others' hands.
        let unit = self.scenario.unit(domain);
        let span = unit * (unit / 8);
        let end = (iova + bytes).checked_next_multiple_of(span).unwrap_or(u64::MAX);
        let busy = (iova & !(span - 1))..end;
        self.look(|watch| watch.busy = Some((domain, busy)));
        // SAFETY: as in `unmap`.
        let reclaim = || unsafe { handle.reclaim(Iova(iova), bytes) };
        let result = self.traced("call", "reclaim", || self.range(domain, iova, bytes), reclaim);
        self.look(|watch| {
            watch.collect(&self.world);
            watch.busy = None;
        });
        let acted = result.as_ref().is_ok_and(|tables| *tables > 0);
        let outcome = match result {
            Ok(tables) => format!("{tables} tables freed"),
            Err(error) => {
                self.look(|watch| watch.refuse(format_args!("reclaim was refused: {error}")));
                error.to_string()
            }
        };
        Done { outcome, acted, ..Done::default() }
    }
}

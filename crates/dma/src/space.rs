// SPDX-License-Identifier: MIT OR Apache-2.0
//! A space: a domain, the input addresses in it, and who waits for what.

use alloc::vec::Vec;
use core::ops::Range;
use core::slice;
use core::sync::atomic::AtomicU64 as Counter;

use smmuv3::pagetable::{RangeError, UnmapError as TableError};
use smmuv3::{
    AttachError, Attributes, DetachError, Domain, Iommu, Iova, Master, Memory, PhysAddr, Prot,
    Refused, StillAttached, UnmapError,
};

use crate::bounce::Pool;
use crate::closed::Closed;
use crate::config::DmaConfig;
use crate::error::{CloseError, MapError, NewError, ReserveError};
use crate::flush::Flushes;
use crate::iova::{MOST_RESERVED, Place, Window};
use crate::local::Local;
use crate::platform::{Direction, DmaPlatform};
use crate::retired::Retired;
use crate::span::PAGE;
use crate::spin::SpinLock;
use crate::sync::{AtomicUsize, Line, Ordering};

/// Spaces so far, of all `Iommu`s. 64 bits do not overflow: no number comes twice, whatever handles there are of old ones.
static SPACES: Counter = Counter::new(0);

/// An address space in which buffers are lent to devices.
///
/// See the [crate](crate) for what that means. All methods take `&self`; which of them may be called where is said
/// there as well. Dropping a space without [`close`](Self::close) leaks its bounce pages: devices may reach them.
pub struct DmaSpace<P: DmaPlatform> {
    /// A number that no other space has, or had: handles say by it whose they are.
    pub(crate) id: u64,
    pub(crate) iommu: Iommu<P>,
    pub(crate) domain: Domain<P>,
    pub(crate) config: DmaConfig,
    /// What waits for a flush waits for so many nanoseconds of the platform's clock; nothing waits in a strict space.
    pub(crate) age: Option<u64>,
    /// Buffers of at most so many bytes are copied altogether: 0 where the space is not lazy.
    pub(crate) copied: usize,
    pub(crate) place: Place,
    pub(crate) window: SpinLock<Window>,
    pub(crate) pool: Pool,
    /// One for each CPU, at least one.
    pub(crate) locals: Vec<Line<SpinLock<Local>>>,
    pub(crate) flushes: Flushes,
    /// How many look for what they found none of: meanwhile nobody takes more than they need.
    pub(crate) scarce: AtomicUsize,
    /// What an instance did not confirm.
    pub(crate) held: SpinLock<Retired>,
    /// Pages that will not be used again: see `Usage::lost_pages`.
    pub(crate) lost: AtomicUsize,
    /// Pages of input addresses that are mapped for as long as the space lives.
    fixed: AtomicUsize,
}

/// What a space has at a moment. While others map and unmap, the numbers need not fit together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Pages of input addresses behind which something is mapped, rounded up to powers of two for each mapping;
    /// doorbells too. Also those of handles that were dropped, and of what was lost.
    pub mapped_pages: u64,
    /// Pages of input addresses that CPUs keep for themselves.
    pub cached_pages: u64,
    /// Bounce pages that were allocated, in use or not.
    pub bounce_pages: usize,
    /// Entries of the flush queues that no flush has released.
    pub retired: usize,
    /// Entries for what an instance did not confirm.
    pub held: usize,
    /// Pages, of input addresses and of memory, for which there was no entry any more, or of which somebody had unmapped a
    /// part by hand: they are not used again.
    pub lost_pages: usize,
}

impl<P: DmaPlatform> DmaSpace<P> {
    /// An empty space, for masters of any of the instances enabled so far.
    ///
    /// # Errors
    /// See [`NewError`].
    pub fn new(iommu: &Iommu<P>, config: DmaConfig) -> Result<Self, NewError> {
        let place = config.check()?;
        let domain = iommu.create_domain(config.domain).map_err(NewError::Domain)?;
        let last = Iova(place.start + ((PAGE as u64) << place.order) - PAGE as u64);
        // Nothing is mapped yet, so this looks whether it could be, and no more.
        // SAFETY: nobody else knows the domain.
        let unmapped = unsafe { domain.unmap(last, PAGE as u64) };
        match unmapped {
            Err(UnmapError::Table(TableError::Range(RangeError::BeyondInput {
                input_bits,
                ..
            }))) => return Err(NewError::BeyondInput { input_bits }),
            // Aligned to 4 KiB, and not to what the domain maps at least.
            Err(UnmapError::Table(TableError::Range(_))) => return Err(NewError::Granule),
            _ => {}
        }
        let mut window = Window::new(place)?;
        if place.start == 0 {
            // Of an empty window, so it is free.
            let _ = window.reserve(slice::from_ref(&(0..PAGE as u64)));
        }
        let bounds = config.reclaim.bounds();
        let queue = bounds.map_or(0, |(queue, _)| queue);
        // One that is too long for the clock is as good as for ever.
        let age = bounds.map(|(_, age)| u64::try_from(age.as_nanos()).unwrap_or(u64::MAX));
        let cpus = iommu.platform().max_cpus().max(1);
        let mut locals = Vec::new();
        locals.try_reserve_exact(cpus).map_err(|_| NewError::NoMemory)?;
        for _ in 0..cpus {
            locals.push(Line(SpinLock::new(Local::new(queue)?)));
        }
        Ok(Self {
            id: SPACES.fetch_add(1, Ordering::Relaxed),
            iommu: iommu.clone(),
            domain,
            config,
            age,
            copied: config.reclaim.copied(),
            place,
            window: SpinLock::new(window),
            pool: Pool::new(config.bounce_pages)?,
            locals,
            flushes: Flushes::new(),
            scarce: AtomicUsize::new(0),
            held: SpinLock::new(Retired::new(config.held)?),
            lost: AtomicUsize::new(0),
            fixed: AtomicUsize::new(0),
        })
    }

    /// The settings that it was made with.
    pub fn config(&self) -> &DmaConfig {
        &self.config
    }

    /// The domain. What is mapped in it by hand must lie outside of the window, or in what is
    /// [reserved](Self::reserve).
    pub fn domain(&self) -> &Domain<P> {
        &self.domain
    }

    /// The addresses that buffers get, from the first to the end, exclusive; those reserved among them they do not get.
    pub fn window(&self) -> Range<u64> {
        self.place.start..self.place.start + ((PAGE as u64) << self.place.order)
    }

    pub(crate) fn platform(&self) -> &P {
        self.iommu.platform()
    }

    /// Lets `master` use the space: see [`Iommu::attach`].
    ///
    /// # Errors
    /// See [`AttachError`].
    pub fn attach(&self, master: &Master<P>) -> Result<(), AttachError> {
        self.iommu.attach(master, &self.domain)
    }

    /// Blocks `master`: see [`Iommu::detach`].
    ///
    /// # Errors
    /// As there.
    pub fn detach(&self, master: &Master<P>) -> Result<(), DetachError> {
        self.iommu.detach(master)
    }

    /// Keeps the input addresses of `range`, whole pages, from being given out, for good. To be called for the windows
    /// of host bridges, which never reach the SMMU, and for MSI doorbells behind which there is no translation, before
    /// buffers are mapped. Ranges outside of the window are noted, too; they may overlap.
    ///
    /// # Errors
    /// See [`ReserveError`]: at most 64 ranges, and none that is in use.
    pub fn reserve(&self, range: Range<u64>) -> Result<(), ReserveError> {
        self.reserve_all([range])
    }

    /// [Reserves](Self::reserve) all of `ranges`, or none: what the firmware says about a device, mostly.
    ///
    /// # Errors
    /// See [`ReserveError`], for the first range that cannot be.
    pub fn reserve_all(
        &self,
        ranges: impl IntoIterator<Item = Range<u64>>,
    ) -> Result<(), ReserveError> {
        let mut all = [const { 0..0 }; MOST_RESERVED];
        let mut count = 0;
        for range in ranges {
            let too_many = ReserveError::TooMany { most: MOST_RESERVED };
            *all.get_mut(count).ok_or(too_many)? = range;
            count += 1;
        }
        // What waits for a flush is not in use, nor what CPUs have for themselves.
        let _ = self.flush();
        self.empty_locals();
        let ranges = all.get(..count).unwrap_or_default();
        self.window.with(self.platform(), |window| window.reserve(ranges))
    }

    /// Reserves `range`, and lets devices reach the memory at those addresses by the same ones, for as long as the
    /// space lives: for what firmware has left a device using (RMR, `iommu-addresses`).
    ///
    /// # Errors
    /// See [`ReserveError`].
    ///
    /// # Safety
    /// The memory is the device's, to read and to write, until the space is closed. Nothing is mapped there by hand.
    pub unsafe fn map_identity(&self, range: Range<u64>) -> Result<(), ReserveError> {
        self.reserve(range.clone())?;
        let attributes = self.attributes(Direction::Both);
        let (iova, pa, len) = (Iova(range.start), PhysAddr(range.start), range.end - range.start);
        // SAFETY: the range is not given out, and the caller's promise.
        unsafe { self.domain.map(iova, pa, len, attributes) }.map_err(ReserveError::Map)
    }

    /// Maps the page of an MSI doorbell (GICv3: `GITS_TRANSLATER` or `GICD_SETSPI_NSR`; GICv2m: `MSI_SETSPI_NS`) as
    /// Device memory, for as long as the space lives. Returns what devices are to write to instead of `doorbell`.
    ///
    /// # Errors
    /// See [`MapError`].
    ///
    /// # Safety
    /// Devices may write, and read, anywhere in the 4 KiB page of `doorbell`.
    pub unsafe fn map_doorbell(&self, doorbell: PhysAddr) -> Result<Iova, MapError> {
        let in_page = doorbell.0 & (PAGE as u64 - 1);
        let block = self.take_block(0).ok_or(MapError::NoIova { pages: 1 })?;
        let iova = self.place.iova(block);
        // A mapping that may be written may be read as well.
        let attributes = Attributes::new(Prot::READ | Prot::WRITE, Memory::Device);
        let page = PhysAddr(doorbell.0 - in_page);
        // SAFETY: the block is this call's, and the caller's promise.
        if let Err(error) = unsafe { self.domain.map(iova, page, PAGE as u64, attributes) } {
            // A single page is mapped or is not.
            self.give_block(block);
            return Err(MapError::Domain(error));
        }
        self.fixed.fetch_add(1, Ordering::Relaxed);
        Ok(Iova(iova.0 + in_page))
    }

    /// What devices may do with memory.
    pub(crate) fn attributes(&self, direction: Direction) -> Attributes {
        let write = if direction.is_written() { Prot::WRITE } else { Prot::NONE };
        Attributes::new(Prot::READ | write, self.memory())
    }

    /// The type of memory that devices see.
    fn memory(&self) -> Memory {
        if self.config.coherent { Memory::NormalCacheable } else { Memory::NormalNonCacheable }
    }

    /// What there is.
    pub fn usage(&self) -> Usage {
        let platform = self.platform();
        let (mut cached, mut waiting, mut retired) = (0, 0, 0);
        for local in &self.locals {
            local.with(platform, |local| {
                cached += local.cached_pages();
                waiting += local.retired.block_pages();
                retired += local.retired.waiting(&self.flushes);
            });
        }
        let (held, held_pages) = self.held.with(platform, |held| (held.len(), held.block_pages()));
        let taken = self.window.with(platform, |window| window.taken_pages());
        Usage {
            mapped_pages: taken.saturating_sub(cached + waiting + held_pages),
            cached_pages: cached,
            bounce_pages: self.pool.allocated(),
            retired,
            held,
            lost_pages: self.lost.load(Ordering::Relaxed),
        }
    }

    /// Gives bounce pages that nobody uses back to the platform; how many.
    pub fn trim(&self) -> usize {
        self.empty_locals();
        self.pool.trim(self.platform())
    }

    /// Ends the space: all masters have been detached, all buffers unmapped, all allocations freed. It [flushes](Self::flush):
    /// no device reaches any more what was unmapped. Buffers that were not given back since are had from what this returns:
    /// those that are [retiring](crate::Retiring), and those that an instance had not confirmed.
    ///
    /// # Errors
    /// The space, and why not: see [`CloseError`].
    #[expect(clippy::result_large_err, reason = "the space is handed back to be closed later")]
    pub fn close(self) -> Result<Closed<P>, Refused<Self, CloseError>> {
        if let Err(unconfirmed) = self.flush() {
            return Err(Refused { value: self, error: CloseError::Unconfirmed(unconfirmed) });
        }
        self.empty_locals();
        let fixed = self.fixed.load(Ordering::Relaxed) as u64;
        let pages = self.window.with(self.platform(), |window| window.taken_pages());
        if pages > fixed {
            let error = CloseError::Mapped { pages: pages - fixed };
            return Err(Refused { value: self, error });
        }
        let Self {
            id,
            iommu,
            domain,
            config,
            age,
            copied,
            place,
            window,
            pool,
            locals,
            flushes,
            scarce,
            held,
            lost,
            fixed,
        } = self;
        match domain.close() {
            Ok(()) => {
                pool.trim(iommu.platform());
                Ok(Closed { id, iommu, config })
            }
            Err(Refused { value: domain, error: StillAttached { masters, nests, .. } }) => {
                let value = Self {
                    id,
                    iommu,
                    domain,
                    config,
                    age,
                    copied,
                    place,
                    window,
                    pool,
                    locals,
                    flushes,
                    scarce,
                    held,
                    lost,
                    fixed,
                };
                Err(Refused { value, error: CloseError::Attached { masters, nests } })
            }
        }
    }
}

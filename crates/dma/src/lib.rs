// SPDX-License-Identifier: MIT OR Apache-2.0
//! DMA over the [`smmuv3`] driver: buffers are lent to devices by input addresses (IOVAs) that the crate gives out, and
//! taken back. It is what an operating system puts under its drivers, and the safe face of a
//! [`Domain`](smmuv3::Domain).
//!
//! A [`DmaSpace`] is a domain with an allocator of input addresses. What happens to a buffer in it:
//!
//! ```text
//!                 page           page           page           page
//!  CPU    │  neighbours ▓▓▓│▓▓▓▓▓▓▓▓▓▓▓▓▓▓│▓▓▓▓▓▓▓▓▓▓▓▓▓▓│▓▓▓▓▓ neighbours │   ▓ the buffer
//!               │  copied        lent           lent       copied │
//!               ▼                 │              │                ▼
//!         │ 0 0 0 0 0 0 ▓▓▓│      │              │      │▓▓▓▓▓ 0 0 0 0 0 0 │   bounce pages of the space
//!               │                 │              │                │
//!  device │ iova, read-only or read-write, for as long as it is mapped     │
//! ```
//!
//! * Pages that a buffer has to itself are lent as they are, scattered or not; the device sees one range.
//! * A page of which it has only a part is *bounced*: a page of the space's own, zeros but for the buffer's bytes,
//!   stands in for it. The bytes are copied there by `map`, and back by `unmap` if the device was to write. So nothing
//!   beside the buffer is ever reached. [`DmaConfig::whole_pages`] chooses the opposite.
//! * With [`Direction::ToDevice`] the device cannot write. That a device only writes cannot be expressed at stage 1:
//!   [`Direction::FromDevice`] may be read as well.
//!
//! ```
//! use smmuv3::{Iommu, Master};
//! use smmuv3_dma::{Direction, DmaConfig, DmaPlatform, DmaSpace};
//!
//! fn receive<P: DmaPlatform + 'static>(
//!     iommu: &Iommu<P>,
//!     nic: &Master<P>,
//!     tell: impl Fn(u64), // gives the device an address, and waits until it is done
//! ) -> Result<Vec<u8>, Box<dyn core::error::Error>> {
//!     let space = DmaSpace::new(iommu, DmaConfig::lazy())?;
//!     space.reserve(0xf000_0000..0xf010_0000)?; // the host bridge's window: never given out
//!     space.attach(nic)?;
//!
//!     let packet = vec![0; 1500];
//!     let lent = space.lend(packet, Direction::FromDevice)?;
//!     tell(lent.iova().0);
//!     let packet = space.take_back(lent)?; // from here on it is out of reach
//!
//!     space.detach(nic)?;
//!     space.close()?;
//!     Ok(packet)
//! }
//! ```
//!
//! [`DmaSpace::map`] and [`DmaSpace::unmap`] are the same for raw buffers, `unsafe` since nobody owns those.
//! [`DmaSpace::allocate`] gives memory that both sides use at once, for rings. With the feature `virtio-drivers`,
//! `VirtioHal` puts a space under the drivers of that crate.
//!
//! # Strict, lazy, deferred
//! A buffer is taken back by `unmap` or [`DmaSpace::take_back`] in one of three ways, of which a space has one; or [given back
//! after a flush](#given-back-after-a-flush), in any.
//!
//! Strict or lazy, **when `unmap` has returned `Ok`, no device reaches the caller's memory.** They differ in how. *Deferred*
//! does not keep that: it is for devices that are trusted to leave alone what was taken back, and choosing it is
//! `unsafe`, see [`Deferred::trusting`]. Linux's default for such devices is of this kind.
//!
//! | | strict | lazy | deferred |
//! |---|---|---|---|
//! | buffers up to [`Lazy::copy_up_to`] | lent, but for partial pages | copied to bounce pages altogether | lent, but for partial pages |
//! | larger buffers | as above | as strict, in all of this | as above |
//! | `unmap` | one invalidation, waited for | clears descriptors, copies back; the bounce pages and addresses wait in a flush queue | clears descriptors; the addresses and what there is of bounce pages wait in a flush queue |
//! | what a device can reach after `unmap` | nothing | bounce pages that nobody uses, until a flush | the buffer, which may be in use for anything, until a flush; of its neighbours in a page, nothing |
//! | addresses are used again | at once | after a flush *that began after* the unmap has been confirmed | as lazy |
//! | who flushes | | the unmap that finds its CPU's queue full, or its oldest entry older than [`Lazy::age`]; a timer, by [`DmaSpace::tick`]; [`DmaSpace::flush`]; whoever runs out | as lazy, by [`Deferred::age`] |
//!
//! A flush is one invalidation of the whole domain, and serves up to a queue of each CPU. Where a CPU unmaps nothing for a
//! long time, it flushes nothing either: call [`DmaSpace::tick`] from a timer, every [`Lazy::age`] or so, if a device
//! must not see stale pages, nor a quiet CPU keep them, for longer than the age and the timer's period.
//!
//! # Given back after a flush
//! Nothing is copied, nobody is trusted, and nothing is waited for where memory can be done without for a while:
//! [`DmaSpace::retire`] unmaps a buffer and keeps it, and [`DmaSpace::recover`] gives it back once a flush *that began after* that
//! has been confirmed. Pools of pages, as network and block drivers have them, work like that. Until then devices may
//! go on writing to it, which is legal, so what it holds is known when it is given back, or when the driver knows by other means
//! that the device was done.
//!
//! ```
//! use std::collections::VecDeque;
//!
//! use smmuv3_dma::{DmaConfig, DmaPlatform, DmaSpace, Lazy, Lent, Reclaim, Retiring, UnmapError};
//!
//! /// Nothing is copied in such a space, but partial pages.
//! fn config() -> DmaConfig {
//!     DmaConfig::default().with_reclaim(Reclaim::Lazy(Lazy::default().with_copy_up_to(0)))
//! }
//!
//! /// Buffers of a ring, the one first that was done with first.
//! struct Pool(VecDeque<Retiring<Box<[u8]>>>);
//!
//! impl Pool {
//!     fn put<P: DmaPlatform>(
//!         &mut self,
//!         space: &DmaSpace<P>,
//!         done: Lent<Box<[u8]>>,
//!     ) -> Result<(), UnmapError> {
//!         self.0.push_back(space.retire(done)?); // waits for nothing, but for a flush if one is due
//!         Ok(())
//!     }
//!
//!     fn take<P: DmaPlatform>(&mut self, space: &DmaSpace<P>) -> Option<Box<[u8]>> {
//!         let is_over = space.is_out_of_reach(&self.0.front()?.later());
//!         let first = if is_over { self.0.pop_front() } else { None };
//!         first.and_then(|retiring| space.recover(retiring).ok()) // else a new one, or `flush`
//!     }
//! }
//! ```
//!
//! [`DmaSpace::unmap_later`], [`is_out_of_reach`](DmaSpace::is_out_of_reach) and [`regain`](DmaSpace::regain) are the same for raw
//! buffers. A space does it beside `unmap`, which it is made for:
//!
//! | `retire`, `unmap_later` of | strict | lazy | deferred |
//! |---|---|---|---|
//! | whole pages that were lent | one invalidation, waited for; given back at once | clears descriptors; given back after a flush | as lazy, also from devices that are not trusted |
//! | partial pages at the ends of those | as above | copied back at once; the bounce pages wait, too | as lazy |
//! | a buffer of which all was bounced | as above | copied back at once, and given back at once | as lazy |
//! | addresses, and who flushes | used again at once | as for `unmap` | as for `unmap` |
//!
//! Buffers of at most [`Lazy::copy_up_to`] bytes are copied all the same, so that is 0 where nothing is to be. A
//! buffer that is needed now is had by [`DmaSpace::flush`], or taken back as a [`Lent`], which flushes. When the space is closed,
//! what it has not given back is had from what is left of it: [`Closed::recover`], [`Closed::regain`]. Dropped instead, a
//! buffer is leaked.
//!
//! # What it costs
//! AArch64 instructions of `map` and `unmap` together, rounded, with one SMMU that answers at once (`cargo xtask boot --count`).
//! The SMMU's time for an invalidation, which strict waits for, is not among them: microseconds on hardware. Copies
//! are 64 bytes a turn, as a kernel's; `docs/performance.md` has all rows.
//!
//! | buffer | strict | lazy | given back after a flush | deferred | of it the domain's, strict |
//! |---|---|---|---|---|---|
//! | 512 bytes | 1,320 | 1,360 | 1,380 | 1,380 | 360; most of the rest fills a bounce page with zeros |
//! | 1 page | 640 | 2,140 | 610 | 620 | 360; lazy copies 8 KiB in all, 1,300 |
//! | 64 pages | 1,290 | 1,290 | 1,250 | 1,250 | 1,000; not copied |
//!
//! So what is needed when `unmap` returns is better strict where an SMMU answers within the time that a copy takes, and lazy
//! where it does not. What can be done without until a flush is best given back after it, as fast as deferred, and
//! without its trust: by `lend`, `retire` and `recover` 640 a page.
//! Heap of a space, all of it taken by [`DmaSpace::new`]: 2 bits
//! for each page of the window (32 KiB for 512 MiB), 2 KiB for each CPU and 32 bytes for each entry of its flush queue
//! (8 KiB), and 16 KiB for the lists of spare bounce pages and of what was not confirmed.
//!
//! # What may be called where
//! | | interrupt context | waits for |
//! |---|---|---|
//! | `map`, `lend`, `allocate` | yes, if the platform's allocator may | nothing; for one flush when addresses or bounce pages run out |
//! | `unmap`, `take_back`, `free` | yes, if the platform's allocator may | an invalidation, or a flush that is due |
//! | `retire`, `unmap_later` | yes, if the platform's allocator may | a flush that is due; where the space is strict, an invalidation |
//! | `recover`, `regain`, `is_out_of_reach` | yes | nothing |
//! | `sync_for_cpu`, `sync_for_device`, `read`, `write`, `usage` | yes | nothing |
//! | `tick`, `flush`, `trim` | yes, if the platform's allocator may | `flush`, and `tick` if one is due: for one |
//! | `new`, `attach`, `detach`, `reserve`, `map_identity`, `close` | no | the driver's mutex, and the SMMU |
//!
//! Locks are spin locks that are taken with interrupts masked, one at a time, for a bounded number of instructions. The
//! one that is taken by each call belongs to the CPU; what CPUs share (the window of addresses, spare bounce pages) is
//! visited for a batch when a CPU's own runs out or over, and for blocks of more than 128 pages. After `new` there is
//! no heap use.
//!
//! # Input addresses
//! Blocks of 2ⁿ pages, each at a multiple of its size, from a window below [`DmaConfig::limit_bits`] (32 unless chosen
//! otherwise, for masters with 32 address lines). What must not be given out is [reserved](DmaSpace::reserve); MSI
//! doorbells are [mapped](DmaSpace::map_doorbell); what firmware left a device using is
//! [mapped to itself](DmaSpace::map_identity). Running out is an error only when the caches of all CPUs are empty and
//! all that could be flushed was.
//!
//! # Devices that are not coherent
//! With [`DmaConfig::coherent`] off, `map` cleans the caches over what it lends and over bounce pages, whatever the
//! direction, so that no dirty line is written back over what a device writes; `unmap` invalidates them before the CPU
//! reads, if the device was to write. What is given back after a flush may be written, and read ahead by CPUs, until then: bounce pages
//! are invalidated and copied when it is unmapped, the pages that were lent invalidated when it is given back. Lines at the ends of a buffer are never shared with neighbours: they are in
//! bounce pages.
//!
//! # When an SMMU does not answer
//! Nothing that it may still reach is used again. Bounce pages, addresses and coherent memory are held in a bounded
//! list until a flush is confirmed, after [`Iommu::reset`](smmuv3::Iommu::reset); if that list is full they are lost,
//! and counted ([`Usage`]). A buffer of which pages were lent stays with the caller, who is told
//! ([`UnmapError::Unconfirmed`]); one that was bounced altogether is safe, and `unmap` returns `Ok`. So it does in a
//! deferred space, where devices leave the buffer alone whether the flush is confirmed or not; its addresses wait.
//! What is to be given back after a flush is so after one that was confirmed, in any space, whether there was room in that list
//! or not.
#![no_std]
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_macros))]

extern crate alloc;
#[cfg(any(test, loom))]
extern crate std;

mod bounce;
mod buffer;
mod closed;
mod coherent;
mod config;
mod error;
mod flush;
mod iova;
mod local;
mod map;
mod platform;
mod retired;
mod retiring;
mod single;
mod space;
mod span;
mod spin;
mod supply;
mod sync;
#[cfg(feature = "virtio-drivers")]
mod translated;
mod unmap;
#[cfg(feature = "virtio-drivers")]
mod virtio;

pub use buffer::{Buffer, Lent};
pub use closed::Closed;
pub use coherent::Coherent;
pub use config::{Deferred, DmaConfig, Lazy, Reclaim};
pub use error::{BufferError, CloseError, MapError, NewError, ReserveError, UnmapError};
pub use platform::{Direction, DmaPlatform};
pub use retiring::{Later, Retiring};
pub use space::{DmaSpace, Usage};
#[cfg(feature = "virtio-drivers")]
pub use translated::{NotTranslated, Translated};
#[cfg(feature = "virtio-drivers")]
pub use virtio::{NOWHERE, VirtioFailure, VirtioHal, VirtioSpace};

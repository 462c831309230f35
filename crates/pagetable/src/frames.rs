// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where tables come from, and how the hardware gets to see what was stored in them.

use core::ptr::NonNull;

use smmuv3_formats::PhysAddr;

/// Physical memory for structures that both CPU and SMMU read.
///
/// All methods take `&self`, and may be called from any thread that has the reference; in interrupt context, if tables
/// are changed there.
///
/// # Safety
/// Implementation safety. Whoever implements this promises that
/// * [`allocate`](Self::allocate) gives memory that overlaps no other live allocation, holds zeros in
///   every byte that the CPU reads, and stays in place until it is freed;
/// * [`pointer`](Self::pointer) gives, for an address inside a live allocation, a pointer that is valid
///   for reads and writes up to the end of that allocation, the same memory on every call, and aligned
///   as the physical address is (up to the allocation's alignment);
/// * no method reads or writes the content of a live allocation other than atomically.
///
/// That the *SMMU* sees the stored values is what [`publish`](Self::publish) is for. A wrong `publish`
/// lets a device use stale translations; it can't break the CPU's memory safety by itself, but a device
/// that writes where it should not can.
pub unsafe trait Frames {
    /// A zeroed allocation of `size` bytes, at a multiple of `align` (a power of two), that the SMMU can
    /// read at the address returned. `None` when there is no memory.
    ///
    /// The zeros need not be visible to the SMMU yet: the caller publishes them. Not all of it is for the SMMU: what only
    /// CPUs use comes from here as well where there need not be a heap, so ordinary cacheable memory is right.
    fn allocate(&self, size: usize, align: usize) -> Option<PhysAddr>;

    /// Takes an allocation back.
    ///
    /// # Safety
    /// `frame` came from [`allocate`](Self::allocate) of this object with the same `size` and `align` and
    /// was not freed since. Neither CPU nor SMMU can reach it any more: it is unlinked, and the
    /// invalidation that removes cached pointers to it has completed.
    unsafe fn free(&self, frame: PhysAddr, size: usize, align: usize);

    /// The CPU's pointer to `pa`, which lies in a live allocation. It carries the provenance of that
    /// allocation.
    fn pointer(&self, pa: PhysAddr) -> NonNull<u8>;

    /// Makes the CPU's stores to the `bytes` bytes at `pa` visible to the SMMU's table walks, in order
    /// before anything the caller stores or publishes afterwards.
    ///
    /// Called after every store that hardware reads: once for a run of leaves in a table, for a new table,
    /// and for the descriptor that links or unlinks one. Where walks are coherent it does nothing, or is a
    /// store barrier if nothing else orders the stores before the device is told; elsewhere it cleans the
    /// cache lines to the point of coherency and waits for it. Several threads may call it for the same
    /// line at once. On AArch64, `smmuv3::hardware` has both: `order_stores` is the barrier, which no fence of the
    /// language is, and `clean_to_poc` the clean.
    fn publish(&self, pa: PhysAddr, bytes: usize);
}

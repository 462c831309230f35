// SPDX-License-Identifier: MIT OR Apache-2.0
//! The context descriptors of a master (§6): one, or one a substream, in one piece or in two levels.
//!
//! With two levels, arrays of descriptors (*leaves*) come into being when a substream of theirs is first needed,
//! and stay until the table is freed. Where they are is read back from the level-1 descriptors; there is no other
//! record of them.
//!
//! Two words of a descriptor do not change at once, but one word leads to all that are in one piece: S1ContextPtr of the
//! stream table entries to a linear table, a level-1 descriptor to a leaf. So another context is written into a *copy* of
//! that piece, which then takes its place without a moment in between (§8.2). A single descriptor has its copy beside it;
//! memory for any other comes into being when one is first needed, and stays until the table is freed.

use core::sync::atomic::{AtomicU64, Ordering};

use smmuv3_formats::{CD_BYTES, L1Cd, PhysAddr, SubstreamId};

use crate::features::Features;
use crate::legal;
use crate::platform::Platform;
use crate::update::Entry;

/// Bytes of a level-1 descriptor.
const L1_BYTES: usize = 8;

/// How a table is laid out: STE.S1Fmt (§5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContextFormat {
    /// All descriptors in one piece.
    Linear,
    /// A first level, and leaves of 64 descriptors (4 KiB).
    Leaves4K,
    /// A first level, and leaves of 1024 descriptors (64 KiB).
    Leaves64K,
}

impl ContextFormat {
    /// The code of STE.S1Fmt (§5.2).
    pub const fn code(self) -> u64 {
        match self {
            Self::Linear => 0,
            Self::Leaves4K => 1,
            Self::Leaves64K => 2,
        }
    }

    /// For 2^`bits` substreams: linear up to what a leaf of 4 KiB holds; then two levels, with the smaller leaves
    /// as long as the first level then takes 16 KiB at most.
    const fn of(features: &Features, bits: u32) -> Self {
        match bits {
            _ if !features.two_level_contexts => Self::Linear,
            0..=6 => Self::Linear,
            7..=17 => Self::Leaves4K,
            _ => Self::Leaves64K,
        }
    }

    /// log2 of the descriptors in a leaf.
    const fn split(self) -> u32 {
        match self {
            Self::Linear => 0,
            Self::Leaves4K => 6,
            Self::Leaves64K => 10,
        }
    }
}

/// The context descriptors of a master (§6): in one piece, or in two levels.
#[derive(Debug)]
pub struct ContextTable {
    /// Address of the descriptors, or of the level-1 descriptors.
    base: PhysAddr,
    /// Memory for a copy, which hardware does not reach: of a linear table, or of a leaf.
    copy: Option<PhysAddr>,
    /// log2 of the number of descriptors.
    bits: u32,
    format: ContextFormat,
}

impl ContextTable {
    /// Bits of SubstreamID of the largest table that an SMMU with `features` can have: a linear one is kept to 64 KiB.
    pub fn most_bits(features: &Features) -> u32 {
        const LINEAR: u32 = 10;
        let most = if features.two_level_contexts { 20 } else { LINEAR };
        if cfg!(feature = "pasids") { features.ssid_bits.min(most) } else { 0 }
    }

    /// Takes memory from the platform for 2^`bits` descriptors (20 bits at most; without the feature `pasids` 0), all of them
    /// invalid: for all, or for the first level. `None` when there is no memory.
    ///
    /// # Safety
    /// All other methods are given the same platform.
    pub unsafe fn new<P: Platform>(platform: &P, features: &Features, bits: u32) -> Option<Self> {
        let bits = if cfg!(feature = "pasids") { bits.min(20) } else { 0 };
        let format = ContextFormat::of(features, bits);
        let bytes = root_bytes(format, bits);
        let base = platform.allocate_coherent(bytes, bytes)?;
        // The memory is zeroed, so every descriptor is invalid.
        platform.publish(base, bytes);
        // The second half of the memory is the copy.
        let copy = (bits == 0).then_some(PhysAddr(base.0 + CD_BYTES as u64));
        Some(Self { base, copy, bits, format })
    }

    /// Gives the memory back, with all leaves.
    ///
    /// # Safety
    /// No SMMU can reach the table any more, and no [`Entry`] of it is used afterwards.
    pub unsafe fn free<P: Platform>(self, platform: &P) {
        let leaf = CD_BYTES << self.format().split();
        for index in 0..self.level_1() {
            let descriptor = self.descriptor(platform, index).load(Ordering::Relaxed);
            let descriptor = L1Cd([u64::from_le(descriptor)]);
            if descriptor.l2_ptr() != 0 {
                // SAFETY: allocated in `make_room`; the caller says that nobody reaches it.
                unsafe { platform.free_coherent(PhysAddr(descriptor.l2_ptr()), leaf, leaf) };
            }
        }
        let bytes = root_bytes(self.format(), self.bits());
        let base = match self.copy {
            // A single context and its copy are one allocation, which begins at the lower of both.
            Some(copy) if self.bits() == 0 => self.base.min(copy),
            Some(copy) => {
                let piece = self.piece();
                // SAFETY: allocated in `reserve_copy`; as above.
                unsafe { platform.free_coherent(copy, piece, piece) };
                self.base
            }
            None => self.base,
        };
        // SAFETY: allocated in `new`; as above.
        unsafe { platform.free_coherent(base, bytes, bytes) };
    }

    /// Address of the first descriptor, or of the first level (STE.S1ContextPtr).
    pub fn base(&self) -> PhysAddr {
        self.base
    }

    /// Bits of a SubstreamID (STE.S1CDMax).
    pub const fn bits(&self) -> u32 {
        // No context but the first, which is known when the driver is compiled.
        if cfg!(feature = "pasids") { self.bits } else { 0 }
    }

    /// How it is laid out.
    pub const fn format(&self) -> ContextFormat {
        if cfg!(feature = "pasids") { self.format } else { ContextFormat::Linear }
    }

    /// Sees to it that `substream` can have a descriptor. A new leaf is not linked yet: hardware does not see it
    /// before [`ContextTable::link`]. `None` when there is no memory, or the substream is beyond the table.
    pub fn make_room<P: Platform>(&self, platform: &P, substream: SubstreamId) -> Option<()> {
        if u64::from(substream.0) >> self.bits() != 0 {
            return None;
        }
        let Some(index) = self.level_1_index(substream) else { return Some(()) };
        let descriptor = self.descriptor(platform, index);
        if L1Cd([u64::from_le(descriptor.load(Ordering::Relaxed))]).l2_ptr() != 0 {
            return Some(());
        }
        let bytes = CD_BYTES << self.format().split();
        let leaf = platform.allocate_coherent(bytes, bytes)?;
        platform.publish(leaf, bytes);
        // As long as V is 0 the rest of a descriptor means nothing to hardware.
        descriptor.store(L1Cd::default().with_l2_ptr(leaf.0).0[0].to_le(), Ordering::Relaxed);
        Some(())
    }

    /// Links the leaf of `substream`, after [`ContextTable::make_room`]. True when it was not linked before: then
    /// hardware may have kept that there was none (§8.2), and must be told ([`Instance::forget_leaf`]).
    ///
    /// [`Instance::forget_leaf`]: crate::instance::Instance::forget_leaf
    pub fn link<P: Platform>(&self, platform: &P, substream: SubstreamId) -> bool {
        if u64::from(substream.0) >> self.bits() != 0 {
            return false;
        }
        let Some(index) = self.level_1_index(substream) else { return false };
        let descriptor = self.descriptor(platform, index);
        let current = L1Cd([u64::from_le(descriptor.load(Ordering::Relaxed))]);
        if current.v() || current.l2_ptr() == 0 {
            return false;
        }
        let linked = current.with_v(true);
        legal::l1_cd(linked, self.format().code());
        // Release: hardware must see the leaf's descriptors, which are all invalid, before this one.
        descriptor.store(linked.0[0].to_le(), Ordering::Release);
        platform.publish(self.descriptor_address(index), L1_BYTES);
        true
    }

    /// The descriptor of `substream`; `None` where there is no leaf for it.
    pub fn entry<P: Platform>(
        &self,
        platform: &P,
        substream: SubstreamId,
    ) -> Option<Entry<'static>> {
        if u64::from(substream.0) >> self.bits() != 0 {
            return None;
        }
        let (array, index) = match self.level_1_index(substream) {
            None => (self.base.0, substream.0),
            Some(index) => {
                let descriptor = self.descriptor(platform, index).load(Ordering::Relaxed);
                let leaf = L1Cd([u64::from_le(descriptor)]).l2_ptr();
                if leaf == 0 {
                    return None;
                }
                (leaf, substream.0 & ((1 << self.format().split()) - 1))
            }
        };
        let address = PhysAddr(array + u64::from(index) * CD_BYTES as u64);
        // SAFETY: within the table or a leaf, which are aligned to their size and live as long as the table;
        // `free` says that no entry is used afterwards. Whoever has the table for changing writes one at a time.
        Some(unsafe { Entry::new(address) })
    }

    /// Sees to it that there is memory for a copy ([`ContextTable::copy`]). `None` when there is none.
    pub fn reserve_copy<P: Platform>(&mut self, platform: &P) -> Option<()> {
        if self.copy.is_none() {
            let bytes = self.piece();
            let copy = platform.allocate_coherent(bytes, bytes)?;
            platform.publish(copy, bytes);
            self.copy = Some(copy);
        }
        Some(())
    }

    /// The descriptor of `substream` in a copy of all that are in one piece with it, which is brought up to date; hardware
    /// does not reach it before [`ContextTable::exchange`]. `None` without memory for one, or for `substream`.
    pub fn copy<P: Platform>(
        &self,
        platform: &P,
        substream: SubstreamId,
    ) -> Option<Entry<'static>> {
        // The entry that is used now, and where it is in its piece.
        let used = self.entry(platform, substream)?.address().0;
        let piece = self.piece() as u64;
        let own = (u64::from(substream.0) * CD_BYTES as u64) & (piece - 1);
        let (from, to) = (used - own, self.copy?.0);
        // SAFETY: both are within memory of that size, as in `entry`.
        let entries =
            |at: u64| unsafe { (Entry::new(PhysAddr(from + at)), Entry::new(PhysAddr(to + at))) };
        for at in (0..piece).step_by(CD_BYTES).filter(|at| *at != own) {
            let (from, to) = entries(at);
            // Words that are equal were published when they were stored.
            to.store_changed(platform, &mut to.load(platform), &from.load(platform));
        }
        Some(entries(own).1)
    }

    /// Makes the copy with the descriptor of `substream` the one that is used, and what was used the memory for the next
    /// one. Entries have to lead to the new [`ContextTable::base`] then; or, if it returns true, they lead to it already,
    /// and hardware may have kept where its leaf was and what is there ([`Instance::forget_streams`]). Without a copy, or
    /// without a leaf for `substream`, it does nothing.
    ///
    /// [`Instance::forget_streams`]: crate::instance::Instance::forget_streams
    pub fn exchange<P: Platform>(&mut self, platform: &P, substream: SubstreamId) -> bool {
        let Some(copy) = self.copy else { return false };
        if self.entry(platform, substream).is_none() {
            return false;
        }
        let Some(index) = self.level_1_index(substream) else {
            self.copy = Some(core::mem::replace(&mut self.base, copy));
            return false;
        };
        let descriptor = self.descriptor(platform, index);
        let current = L1Cd([u64::from_le(descriptor.load(Ordering::Relaxed))]);
        let linked = current.with_l2_ptr(copy.0);
        legal::l1_cd(linked, self.format().code());
        // Release: hardware must see the leaf's descriptors before this one.
        descriptor.store(linked.0[0].to_le(), Ordering::Release);
        platform.publish(self.descriptor_address(index), L1_BYTES);
        self.copy = Some(PhysAddr(current.l2_ptr()));
        true
    }

    /// Bytes of descriptors in one piece: a linear table, or a leaf. The memory is aligned to that.
    const fn piece(&self) -> usize {
        match self.format() {
            ContextFormat::Linear => CD_BYTES << self.bits(),
            format => CD_BYTES << format.split(),
        }
    }

    /// How many level-1 descriptors there are.
    fn level_1(&self) -> usize {
        match self.format() {
            ContextFormat::Linear => 0,
            format => 1 << self.bits().saturating_sub(format.split()),
        }
    }

    /// Index of the level-1 descriptor that leads to `substream`; `None` in a linear table.
    fn level_1_index(&self, substream: SubstreamId) -> Option<usize> {
        (self.format() != ContextFormat::Linear)
            .then(|| (substream.0 >> self.format().split()) as usize)
    }

    fn descriptor<P: Platform>(&self, platform: &P, index: usize) -> &AtomicU64 {
        let word = platform.pointer(self.descriptor_address(index)).cast::<AtomicU64>();
        // SAFETY: one of the level-1 descriptors of `new`, which are zeroed, aligned, live as long as the
        // table, and always accessed as atomic words.
        unsafe { &*word.as_ptr() }
    }

    /// Address of the level-1 descriptor at `index`.
    const fn descriptor_address(&self, index: usize) -> PhysAddr {
        PhysAddr(self.base.0 + (index * L1_BYTES) as u64)
    }
}

/// Bytes of the first level, or of all.
const fn root_bytes(format: ContextFormat, bits: u32) -> usize {
    match format {
        // A single context and its copy.
        ContextFormat::Linear if bits == 0 => 2 * CD_BYTES,
        ContextFormat::Linear => CD_BYTES << bits,
        format => {
            let bytes = L1_BYTES << bits.saturating_sub(format.split());
            // §5.2: S1ContextPtr has bits from 6 on.
            if bytes < 64 { 64 } else { bytes }
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! The stream table (§5): one entry a stream, in one piece or in two levels.
//!
//! With two levels, arrays of entries (*leaves*) come into being when a stream of theirs is first needed, and
//! stay until the table is freed: so nobody ever has to wait until hardware has let go of one. Where they are
//! is read back from the level-1 descriptors; there is no other record of them.

#[cfg(feature = "hand-over")]
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use smmuv3_formats::register::{StrtabBase, StrtabBaseCfg};
use smmuv3_formats::{L1Std, PhysAddr, STE_BYTES, StreamId};

use crate::entry::Stream;
use crate::features::Features;
use crate::legal;
use crate::platform::Platform;
use crate::update::{Entry, FirstWords};

/// How a stream table is laid out.
///
/// Where the SMMU has linear tables only (IDR0.ST_LEVEL), it is linear whatever is asked for. Such an SMMU has 64 streams
/// at most (§2.3); one that has more gets 16 bits (4 MiB) at most, unless `Linear` is asked for: streams beyond
/// abort.
///
/// With two levels every access of a stream without leaf is reported (C_BAD_STREAMID), until a master needs a stream
/// of that leaf. An entry that no master has, in a linear table or beside others in a leaf, aborts silently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamTableShape {
    /// Linear up to 8 bits of StreamID, which takes no more than one leaf would. Beyond that two levels, with
    /// leaves of 256 streams (16 KiB) as long as the first level then takes 1 MiB at most: up to 25 bits.
    /// Beyond that leaves of 1024 streams, and up to 32 MiB.
    Automatic,
    /// One entry for each stream: 64 bytes << [`sid_bits`], which is 2 GiB by default. So lower that.
    ///
    /// [`sid_bits`]: crate::instance::InstanceConfig::sid_bits
    Linear,
    /// A first level of 8 bytes for each of the leaves there may be, and those leaves that are needed. Without the feature
    /// `two-level`, or where the SMMU has none of these, the table is linear, and of 16 bits at most.
    TwoLevel {
        /// How large leaves are.
        split: Split,
    },
}

/// Bits of a StreamID within a leaf (STRTAB_BASE_CFG.SPLIT).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// 64 streams, 4 KiB.
    Six = 6,
    /// 256 streams, 16 KiB: as many as there are functions on a PCI bus.
    Eight = 8,
    /// 1024 streams, 64 KiB.
    Ten = 10,
}

impl Split {
    /// The number.
    pub const fn bits(self) -> u32 {
        self as u32
    }
}

impl StreamTableShape {
    /// Bits of StreamID of a table that is linear although nobody asked for that.
    const LINEAR_BITS: u32 = 16;

    /// How many of `log2` bits a table has.
    pub(crate) fn bits(self, features: &Features, log2: u32) -> u32 {
        match self {
            Self::Automatic | Self::TwoLevel { .. }
                if !features.two_level_streams || !cfg!(feature = "two-level") =>
            {
                log2.min(Self::LINEAR_BITS)
            }
            _ => log2,
        }
    }

    /// The split of a table for `log2` bits; `None` for a linear one.
    fn split(self, features: &Features, log2: u32) -> Option<Split> {
        match self {
            _ if !features.two_level_streams || !cfg!(feature = "two-level") => None,
            Self::Linear => None,
            Self::TwoLevel { split } => Some(split),
            Self::Automatic => match log2 {
                0..=8 => None,
                9..=25 => Some(Split::Eight),
                _ => Some(Split::Ten),
            },
        }
    }
}

/// A stream table (§5): in one piece, or in two levels whose leaves are made when a stream of theirs is first needed.
#[derive(Debug)]
pub struct StreamTable {
    /// Address of the entries, or of the level-1 descriptors.
    base: PhysAddr,
    /// log2 of the number of streams.
    log2: u32,
    split: Option<Split>,
    /// If the table was adopted: the level-1 descriptors, in order, whose leaves were there before. Neither these
    /// leaves nor the table are ever freed.
    #[cfg(feature = "hand-over")]
    former: Option<Vec<u32>>,
    first_words: FirstWords,
}

impl StreamTable {
    /// A stream table that is in memory already.
    ///
    /// # Safety
    /// As for [`StreamTable::new`]; the table was looked through, its parts are disjoint and stay, and the platform's
    /// pointers lead to them. `leaves` are the level-1 descriptors that lead to entries, in order.
    #[cfg(feature = "hand-over")]
    pub(crate) const unsafe fn adopt(
        base: PhysAddr,
        log2: u32,
        split: Option<Split>,
        leaves: Vec<u32>,
    ) -> Self {
        Self { base, log2, split, former: Some(leaves), first_words: FirstWords::new(()) }
    }

    /// Takes memory from the platform for 2^`log2` streams (`log2` is at most 32), all of which abort; for fewer where
    /// [`StreamTableShape`] says so. `None` when there is no memory.
    ///
    /// # Safety
    /// All other methods are given the same platform.
    pub unsafe fn new<P: Platform>(
        platform: &P,
        features: &Features,
        shape: StreamTableShape,
        log2: u32,
    ) -> Option<Self> {
        let log2 = shape.bits(features, log2);
        let split = shape.split(features, log2);
        let bytes = table_bytes(log2, split)?;
        let base = platform.allocate_coherent(bytes, bytes)?;
        match split {
            None => block(platform, features, base, log2),
            // The memory is zeroed, so every level-1 descriptor is invalid.
            Some(_) => platform.publish(base, bytes),
        }
        let first_words = FirstWords::new(());
        #[cfg(feature = "hand-over")]
        return Some(Self { base, log2, split, former: None, first_words });
        #[cfg(not(feature = "hand-over"))]
        Some(Self { base, log2, split, first_words })
    }

    /// Gives the memory back, with all leaves; of an adopted table only the leaves that were added to it.
    ///
    /// # Safety
    /// The SMMU cannot access the table: SMMUEN was seen 0, or the table was never enabled. No [`Entry`] of it is used
    /// afterwards.
    pub unsafe fn free<P: Platform>(self, platform: &P) {
        let Some(bytes) = table_bytes(self.log2, self.split()) else { return };
        #[cfg(feature = "hand-over")]
        let former = self.former.as_deref();
        #[cfg(not(feature = "hand-over"))]
        let former: Option<&[u32]> = None;
        if let Some(split) = self.split() {
            let leaf = leaf_bytes(self.leaf_log2(split));
            for index in 0..1u32 << self.log2.saturating_sub(split.bits()) {
                let descriptor = self.descriptor(index);
                let linked = descriptor.load(platform);
                let kept = former.is_some_and(|former| former.binary_search(&index).is_ok());
                if kept || Self::is_none(linked, split.bits()) {
                    continue;
                }
                if former.is_some() {
                    // The adopted level-1 table stays, so its descriptor must not lead to the freed leaf.
                    descriptor.store(platform, L1Std::default());
                    platform.publish(descriptor.address, DESCRIPTOR_BYTES);
                }
                // SAFETY: allocated in `make_room`; the caller says that the SMMU is done with it.
                unsafe { platform.free_coherent(PhysAddr(linked.l2_ptr()), leaf, leaf) };
            }
        }
        if former.is_some() {
            return;
        }
        // SAFETY: allocated in `new`; the caller says that the SMMU is done with it.
        unsafe { platform.free_coherent(self.base, bytes, bytes) };
    }

    /// Makes sure that each of `streams` has an entry; new ones abort. Streams beyond the table are ignored. A
    /// linear table has all its entries already.
    ///
    /// The SMMU may have kept that there were none: [`Instance::forget_descriptors`] comes next.
    ///
    /// `None` when there is no memory for all of them: then everything is as it was.
    ///
    /// # Safety
    /// No other call of `make_room` on this table runs meanwhile. (`Iommu::add_master` calls it, under its lock.)
    ///
    /// [`Instance::forget_descriptors`]: crate::instance::Instance::forget_descriptors
    pub unsafe fn make_room<P: Platform>(
        &self,
        platform: &P,
        features: &Features,
        streams: &[StreamId],
    ) -> Option<()> {
        let Some(split) = self.split() else { return Some(()) };
        let log2 = self.leaf_log2(split);
        let bytes = leaf_bytes(log2);
        // As long as Span is 0 the rest of a descriptor means nothing to hardware: new leaves wait there until
        // there are all that are needed.
        for (count, descriptor) in self.vacant(platform, streams).enumerate() {
            let Some(leaf) = platform.allocate_coherent(bytes, bytes) else {
                for descriptor in self.vacant(platform, streams).take(count) {
                    let leaf = PhysAddr(descriptor.load(platform).l2_ptr());
                    descriptor.store(platform, L1Std::default());
                    // SAFETY: allocated just now; hardware never saw a valid descriptor that leads there.
                    unsafe { platform.free_coherent(leaf, bytes, bytes) };
                }
                return None;
            };
            block(platform, features, leaf, log2);
            descriptor.store(platform, L1Std::default().with_l2_ptr(leaf.0));
        }
        for descriptor in self.vacant(platform, streams) {
            // The SMMU must see the entries before the descriptor that leads to them: they were published
            // above, and this is a release store.
            let linked = descriptor.load(platform).with_span(u64::from(log2) + 1);
            legal::l1_std(linked, split.bits(), features);
            descriptor.store(platform, linked);
            platform.publish(descriptor.address, DESCRIPTOR_BYTES);
        }
        Some(())
    }

    /// The entry of `stream`; `None` beyond the table, or where there is none yet (see [`StreamTable::make_room`]).
    ///
    /// The entry must not be used after [`StreamTable::free`].
    pub fn entry<P: Platform>(&self, platform: &P, stream: StreamId) -> Option<Entry<'_>> {
        if !self.reaches(stream) {
            return None;
        }
        let (table, index) = match self.split() {
            None => (self.base.0, stream.0),
            Some(split) => {
                let descriptor = self.descriptor(stream.0 >> split.bits()).load(platform);
                let within = stream.0 & ((1 << split.bits()) - 1);
                // An adopted leaf may be shorter than a whole one.
                let none = Self::is_none(descriptor, split.bits());
                if none || u64::from(within) >> (descriptor.span() - 1) != 0 {
                    return None;
                }
                (descriptor.l2_ptr(), within)
            }
        };
        let offset = u64::from(index) * STE_BYTES as u64;
        // SAFETY: inside the table or a leaf, both of which are aligned to their size, in coherent memory, and stay
        // until the table is freed; only this driver's attach code writes entries that hardware can reach,
        // under the configuration mutex; there is one lock.
        Some(unsafe { Entry::guarded(PhysAddr(table + offset), &self.first_words) })
    }

    /// Whether the table is large enough for `stream`.
    pub fn reaches(&self, stream: StreamId) -> bool {
        u64::from(stream.0) >> self.log2 == 0
    }

    /// What STRTAB_BASE is to hold.
    pub fn base_register(&self) -> StrtabBase {
        StrtabBase::default().with_addr(self.base.0).with_ra(true)
    }

    /// What STRTAB_BASE_CFG is to hold.
    pub fn config_register(&self) -> StrtabBaseCfg {
        const TWO_LEVELS: u64 = 1;
        let linear = StrtabBaseCfg::default().with_log2size(u64::from(self.log2));
        match self.split() {
            None => linear,
            Some(split) => linear.with_split(u64::from(split.bits())).with_fmt(TWO_LEVELS),
        }
    }

    /// log2 of the number of streams.
    pub fn log2(&self) -> u32 {
        self.log2
    }

    /// Bits of a StreamID within a leaf; `None` when the table is linear.
    pub fn split(&self) -> Option<Split> {
        self.split.filter(|_| cfg!(feature = "two-level"))
    }

    /// log2 of the entries of a leaf: no more than there are streams.
    fn leaf_log2(&self, split: Split) -> u32 {
        split.bits().min(self.log2)
    }

    /// The descriptors on the way to `streams` that lead nowhere yet, each once. Each stream is compared with those
    /// before it, which needs no memory: the time is quadratic in the number of a master's streams.
    fn vacant<P: Platform>(
        &self,
        platform: &P,
        streams: &[StreamId],
    ) -> impl Iterator<Item = Descriptor> {
        let bits = self.split().map_or(0, Split::bits);
        streams.iter().enumerate().filter_map(move |(at, stream)| {
            if !self.reaches(*stream) {
                return None;
            }
            let index = stream.0 >> bits;
            // Only streams within the table count: in one smaller than a leaf, others would share the index.
            let mut before = streams.iter().take(at).filter(|other| self.reaches(**other));
            if before.any(|other| other.0 >> bits == index) {
                return None;
            }
            let descriptor = self.descriptor(index);
            Self::is_none(descriptor.load(platform), bits).then_some(descriptor)
        })
    }

    /// Whether a descriptor leads to no entries. Adopted descriptors may have other codes than 0 that mean so (§5.1).
    fn is_none(descriptor: L1Std, bits: u32) -> bool {
        let span = descriptor.span();
        span == 0 || span > u64::from(bits) + 1
    }

    /// The level-1 descriptor at `index`, which is in a table of two levels.
    fn descriptor(&self, index: u32) -> Descriptor {
        Descriptor { address: PhysAddr(self.base.0 + u64::from(index) * DESCRIPTOR_BYTES as u64) }
    }
}

/// A level-1 descriptor in memory (§5.1).
#[derive(Clone, Copy)]
struct Descriptor {
    address: PhysAddr,
}

impl Descriptor {
    fn load<P: Platform>(self, platform: &P) -> L1Std {
        L1Std([u64::from_le(self.word(platform).load(Ordering::Acquire))])
    }

    fn store<P: Platform>(self, platform: &P, descriptor: L1Std) {
        self.word(platform).store(descriptor.0[0].to_le(), Ordering::Release);
    }

    fn word<P: Platform>(self, platform: &P) -> &AtomicU64 {
        let word = platform.pointer(self.address).cast::<AtomicU64>();
        // SAFETY: one of the words of a first level, which is aligned to its size and is always accessed as atomic
        // words.
        unsafe { &*word.as_ptr() }
    }
}

const DESCRIPTOR_BYTES: usize = 8;

/// Makes the 2^`log2` entries at `table`, zeroed memory that hardware does not know of yet, abort.
fn block<P: Platform>(platform: &P, features: &Features, table: PhysAddr, log2: u32) {
    let blocked = Stream::BLOCKED.0;
    legal::ste(&blocked, features);
    for index in 0..1u64 << log2 {
        // SAFETY: inside the table, which is coherent memory and aligned; nobody else knows it yet.
        let entry = unsafe { Entry::new(PhysAddr(table.0 + index * STE_BYTES as u64)) };
        // One word is all that differs from zeroed memory.
        entry.prepare(platform, 0, blocked[0]);
    }
    platform.publish(table, leaf_bytes(log2));
}

/// What a table, or its first level, takes, and is aligned to (§2.5); `None` beyond what the address space holds.
fn table_bytes(log2: u32, split: Option<Split>) -> Option<usize> {
    match split {
        None => STE_BYTES.checked_mul(1usize.checked_shl(log2)?),
        Some(split) => {
            // At most 2^26 descriptors.
            let descriptors = 1usize << log2.saturating_sub(split.bits());
            // Hardware drops the lowest six bits of the address.
            Some((descriptors * DESCRIPTOR_BYTES).max(STE_BYTES))
        }
    }
}

/// Bytes of 2^`log2` entries, for which there is memory.
const fn leaf_bytes(log2: u32) -> usize {
    STE_BYTES << log2
}

#[cfg(test)]
mod tests {
    use smmuv3_formats::register::{Aidr, Idr0, Idr1, Idr3, Idr5};

    use super::*;
    use crate::context_table::ContextTable;
    use crate::features::IdRegisters;

    /// Two levels of both kinds of tables, StreamIDs of 32 bits, SubstreamIDs of 20.
    fn features() -> Features {
        Features::decode(IdRegisters {
            idr0: Idr0(0x0d4c_101b).with_cd2l(true),
            idr1: Idr1(0x0273_0020).with_ssidsize(20),
            idr3: Idr3(0x1414),
            idr5: Idr5(0x74),
            aidr: Aidr(1),
            ..IdRegisters::default()
        })
        .unwrap()
    }

    #[test]
    fn tables_that_are_left_out_are_none_that_are_chosen() {
        let features = features();
        assert!(features.two_level_streams && features.two_level_contexts);
        let there = cfg!(feature = "two-level");
        for shape in
            [StreamTableShape::Automatic, StreamTableShape::TwoLevel { split: Split::Eight }]
        {
            assert_eq!(shape.split(&features, 25).is_some(), there);
            assert_eq!(shape.bits(&features, 25), if there { 25 } else { 16 });
        }
        // Whoever asks for a linear one has all of it.
        assert_eq!(StreamTableShape::Linear.split(&features, 25), None);
        assert_eq!(StreamTableShape::Linear.bits(&features, 25), 25);
        let bits = if cfg!(feature = "pasids") { 20 } else { 0 };
        assert_eq!(ContextTable::most_bits(&features), bits);
    }
}

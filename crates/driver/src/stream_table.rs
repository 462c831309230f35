// SPDX-License-Identifier: MIT OR Apache-2.0
//! The stream table (§5): one entry a stream, in one piece.

use smmuv3_formats::register::{StrtabBase, StrtabBaseCfg};
use smmuv3_formats::{PhysAddr, STE_BYTES, StreamId};

use crate::entry::Stream;
use crate::features::Features;
use crate::platform::Platform;
use crate::update::Entry;

/// A linear stream table.
#[derive(Debug)]
pub struct StreamTable {
    base: PhysAddr,
    /// log2 of the number of entries.
    log2: u32,
}

impl StreamTable {
    /// Takes memory for 2^`log2` entries from the platform and makes every stream abort. `None` when there is
    /// no memory.
    pub fn new<P: Platform>(platform: &P, features: &Features, log2: u32) -> Option<Self> {
        let bytes = table_bytes(log2)?;
        let base = platform.allocate_coherent(bytes, bytes)?;
        let table = Self { base, log2 };
        let blocked = Stream::Blocked.encode(features).0;
        for sid in 0..=u32::MAX.checked_shr(32u32.saturating_sub(log2)).unwrap_or(0) {
            if let Some(entry) = table.entry(StreamId(sid)) {
                // One word is all that differs from zeroed memory.
                entry.prepare(platform, 0, blocked[0]);
            }
        }
        platform.publish(base, bytes);
        Some(table)
    }

    /// Gives the memory back.
    ///
    /// # Safety
    /// The SMMU cannot access the table: SMMUEN was seen 0, or the table was never enabled.
    pub unsafe fn free<P: Platform>(self, platform: &P) {
        if let Some(bytes) = table_bytes(self.log2) {
            // SAFETY: allocated in `new`; the caller says that the SMMU is done with it.
            unsafe { platform.free_coherent(self.base, bytes, bytes) };
        }
    }

    /// The entry of `stream`; `None` beyond the table.
    pub fn entry(&self, stream: StreamId) -> Option<Entry> {
        if u64::from(stream.0) >> self.log2 != 0 {
            return None;
        }
        let offset = u64::from(stream.0) * STE_BYTES as u64;
        // SAFETY: inside the table, which is aligned to its size, in coherent memory; only this driver's
        // attach code writes it, under the configuration mutex.
        Some(unsafe { Entry::new(PhysAddr(self.base.0 + offset)) })
    }

    /// What STRTAB_BASE is to hold.
    pub fn base_register(&self) -> StrtabBase {
        StrtabBase::default().with_addr(self.base.0).with_ra(true)
    }

    /// What STRTAB_BASE_CFG is to hold.
    pub fn config_register(&self) -> StrtabBaseCfg {
        StrtabBaseCfg::default().with_log2size(u64::from(self.log2))
    }

    /// log2 of the number of entries.
    pub fn log2(&self) -> u32 {
        self.log2
    }
}

/// `None` beyond what the address space holds.
fn table_bytes(log2: u32) -> Option<usize> {
    STE_BYTES.checked_mul(1usize.checked_shl(log2)?)
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Changing a stream table entry or context that hardware may be reading (§8.2).
//!
//! An SMMU reads an entry in 64-bit words, in any order, at any time, and keeps what it read until told
//! otherwise. So the new entry is brought in by steps, each followed by an invalidation: first the bits that
//! hardware does not look at yet, then the one word that switches over, then the bits that it does not
//! look at any more. Only when two words must switch at once does the entry become invalid in between.

use core::sync::atomic::{AtomicU64, Ordering};

use smmuv3_formats::ste::config;
use smmuv3_formats::{Cd, PhysAddr, Ste};

use crate::platform::Platform;

/// The words of an entry.
pub type Words = [u64; 8];

/// An entry in memory that the SMMU reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    address: PhysAddr,
}

impl Entry {
    /// The 64 bytes at `address`.
    ///
    /// # Safety
    /// They are aligned to 64 bytes, belong to the platform's coherent memory for as long as the value is
    /// used, and CPUs write them only through `Entry`, one caller at a time.
    pub const unsafe fn new(address: PhysAddr) -> Self {
        Self { address }
    }

    /// Where it is.
    pub const fn address(self) -> PhysAddr {
        self.address
    }

    /// What it holds.
    pub fn load<P: Platform>(self, platform: &P) -> Words {
        core::array::from_fn(|index| {
            u64::from_le(self.word(platform, index).load(Ordering::Relaxed))
        })
    }

    /// Stores one word, and lets hardware see it.
    pub fn store<P: Platform>(self, platform: &P, index: usize, value: u64) {
        self.word(platform, index).store(value.to_le(), Ordering::Release);
        platform.publish(self.word_address(index), 8);
    }

    /// Stores one word of an entry that hardware does not know of yet; the caller publishes it.
    pub(crate) fn prepare<P: Platform>(self, platform: &P, index: usize, value: u64) {
        self.word(platform, index).store(value.to_le(), Ordering::Relaxed);
    }

    /// Stores the words that differ from `current`; whether there were any.
    fn store_changed<P: Platform>(self, platform: &P, current: &mut Words, new: &Words) -> bool {
        let mut changed = false;
        for (index, (old, new)) in current.iter_mut().zip(new).enumerate() {
            if *old != *new {
                self.store(platform, index, *new);
                *old = *new;
                changed = true;
            }
        }
        changed
    }

    fn word<P: Platform>(self, platform: &P, index: usize) -> &AtomicU64 {
        let word = platform.pointer(self.word_address(index)).cast::<AtomicU64>();
        // SAFETY: one of the eight words that `new`'s caller vouched for; always accessed as atomic words.
        unsafe { &*word.as_ptr() }
    }

    fn word_address(self, index: usize) -> PhysAddr {
        // Below 64: eight words. The allocation does not wrap.
        PhysAddr(self.address.0 + 8 * (index as u64 & 7))
    }
}

/// Which bits of an entry hardware looks at.
pub trait Kind {
    /// Of an entry that holds `words`.
    fn used(words: &Words) -> Words;
}

/// Stream table entries.
#[derive(Clone, Copy, Debug)]
pub enum SteKind {}

impl Kind for SteKind {
    fn used(words: &Words) -> Words {
        let ste = Ste(*words);
        let valid = Ste::default().with_v(true);
        if !ste.v() {
            return valid.0;
        }
        let mut used = valid.with_config(0b111);
        let overrides = |used: Ste| {
            used.with_mem_attr(0xf)
                .with_mt_cfg(true)
                .with_alloc_cfg(0xf)
                .with_sh_cfg(3)
                .with_ns_cfg(3)
                .with_priv_cfg(3)
                .with_inst_cfg(3)
        };
        if ste.config() == config::BYPASS {
            used = overrides(used);
        }
        if ste.config() & 0b101 == 0b101 {
            used = used
                .with_s1_fmt(3)
                .with_s1_context_ptr(Ste([u64::MAX; 8]).s1_context_ptr())
                .with_s1_cd_max(0x1f)
                .with_s1_dss(3)
                .with_s1_cir(3)
                .with_s1_cor(3)
                .with_s1_csh(3)
                .with_s1_stalld(true)
                .with_s1_pie(true)
                .with_strw(3)
                .with_eats(3)
                .with_mev(true)
                .with_priv_cfg(3)
                .with_inst_cfg(3)
                .with_s2_vmid(0xffff);
            if ste.s1_dss() == 1 {
                used = overrides(used);
            }
        }
        if ste.config() & 0b110 == 0b110 {
            used = overrides(used).with_eats(3).with_mev(true).with_s2_fwb(true);
            used.0[2] = !Ste::default().with_impdef_2(0xffff).0[2];
            used.0[3] = u64::MAX;
        }
        used.0
    }
}

/// Context descriptors.
#[derive(Clone, Copy, Debug)]
pub enum CdKind {}

impl Kind for CdKind {
    fn used(words: &Words) -> Words {
        let cd = Cd(*words);
        if !cd.v() {
            return Cd::default().with_v(true).0;
        }
        let mut used = Cd([u64::MAX; 8]);
        if cd.epd0() {
            used = used.with_t0sz(0).with_tg0(0).with_ir0(0).with_or0(0).with_sh0(0).with_ttb0(0);
        }
        if cd.epd1() {
            used = used.with_t1sz(0).with_tg1(0).with_ir1(0).with_or1(0).with_sh1(0).with_ttb1(0);
        }
        used.0
    }
}

/// How an update went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Updated {
    /// At no moment was the entry anything but the old or the new one.
    pub hitless: bool,
    /// How often hardware was told to read it anew.
    pub syncs: u32,
}

/// Makes `entry` hold `target`, without a moment at which hardware can see a mixture. `sync` invalidates
/// what the SMMU holds of the entry and waits until that is complete.
///
/// # Errors
/// The first error of `sync`; the entry may then be in any of its steps.
pub fn update<P: Platform, K: Kind, E>(
    platform: &P,
    entry: Entry,
    target: &Words,
    mut sync: impl FnMut() -> Result<(), E>,
) -> Result<Updated, E> {
    let mut current = entry.load(platform);
    let (used_now, used_then) = (K::used(&current), K::used(target));
    // The entry with all bits that hardware ignores already at their new value.
    let prepared: Words =
        core::array::from_fn(|i| current[i] & used_now[i] | target[i] & !used_now[i]);
    let mut critical =
        (0..8).filter(|&i: &usize| prepared[i] & used_then[i] != target[i] & used_then[i]);
    let (first, second) = (critical.next(), critical.next());

    let mut syncs = 0;
    let mut step = |current: &mut Words, new: &Words| {
        if entry.store_changed(platform, current, new) {
            syncs += 1;
            sync()?;
        }
        Ok(())
    };
    let hitless = second.is_none();
    match first {
        _ if !hitless => {
            // Two words would have to switch at once: through an invalid entry, by its valid bit's word.
            let mut invalid = current;
            invalid[0] = 0;
            step(&mut current, &invalid)?;
            let mut filled = *target;
            filled[0] = 0;
            step(&mut current, &filled)?;
        }
        Some(word) => {
            let mut before = prepared;
            before[word] = current[word];
            step(&mut current, &before)?;
            before[word] = target[word];
            step(&mut current, &before)?;
        }
        None => {}
    }
    step(&mut current, target)?;
    Ok(Updated { hitless, syncs })
}

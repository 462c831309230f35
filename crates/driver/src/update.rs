// SPDX-License-Identifier: MIT OR Apache-2.0
//! Changing a stream table entry or context that hardware may be reading (§8.2).
//!
//! An SMMU reads an entry in 64-bit words, in any order, at any time, and keeps what it read until told
//! otherwise. So the new entry is brought in by steps, each followed by an invalidation: first the bits that
//! hardware does not look at yet, then the one word that switches over, then the bits that it does not
//! look at any more. Only when two words must switch at once does the entry become invalid in between.

use core::sync::atomic::{AtomicU64, Ordering};
use core::{fmt, iter};

use smmuv3_formats::ste::config;
use smmuv3_formats::{Cd, PhysAddr, Ste};

use crate::platform::Platform;
use crate::spin::SpinLock;

mod all;

pub(crate) use all::update_all;

/// The first word of a stream table entry in quarantine: valid, and Config = 001, which aborts as 000 does (§5.2). No
/// entry that the driver writes otherwise, and no context, begins like this.
const QUARANTINED: u64 = 0b0011;

/// The words of an entry.
pub type Words = [u64; 8];

/// Whether a stream table entry with these words is in quarantine.
#[cfg(feature = "alloc")]
pub(crate) const fn is_quarantined(words: &Words) -> bool {
    words[0] == QUARANTINED
}

/// Who may change the first words of entries that others put in quarantine meanwhile, without the configuration mutex. A lock
/// in ordinary memory, since the entries may be in memory that is not cached, where nothing but loads and stores is sure
/// to work.
pub(crate) type FirstWords = SpinLock<()>;

/// One word of an entry. It may be in memory that is not cached (Normal Non-cacheable, for SMMUs that are not coherent), where
/// exclusive accesses and atomic read-modify-writes may abort: so there are none.
struct Word<'a>(&'a AtomicU64);

impl Word<'_> {
    #[inline]
    fn load(&self, order: Ordering) -> u64 {
        u64::from_le(self.0.load(order))
    }

    #[inline]
    fn store(&self, value: u64, order: Ordering) {
        self.0.store(value.to_le(), order);
    }
}

/// An entry in memory that the SMMU reads.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    address: PhysAddr,
    /// The lock for the first word, if this is a stream table entry in use.
    first: Option<&'a FirstWords>,
}

impl fmt::Debug for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("address", &self.address).finish_non_exhaustive()
    }
}

impl PartialEq for Entry<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.address == other.address
    }
}

impl Eq for Entry<'_> {}

impl<'a> Entry<'a> {
    /// The 64 bytes at `address`.
    ///
    /// # Safety
    /// They are aligned to 64 bytes, belong to the platform's coherent memory for as long as the value is
    /// used, and CPUs write them only through `Entry`, one caller at a time.
    pub const unsafe fn new(address: PhysAddr) -> Self {
        Self { address, first: None }
    }

    /// As [`Entry::new`], of a stream table entry that others may put in quarantine at any time.
    ///
    /// # Safety
    /// As for [`Entry::new`], but for [`Entry::quarantine`]. All that are made of one address have the same lock.
    pub(crate) const unsafe fn guarded(address: PhysAddr, first: &'a FirstWords) -> Self {
        Self { address, first: Some(first) }
    }

    /// The lock for the first word, where there can be one, which is known when the driver is compiled: nobody is put in
    /// quarantine without ATS, and what a predecessor put there is an entry that aborts.
    fn first(self) -> Option<&'a FirstWords> {
        self.first.filter(|_| cfg!(feature = "ats"))
    }

    /// Where it is.
    pub const fn address(self) -> PhysAddr {
        self.address
    }

    /// What it holds.
    #[cfg_attr(not(feature = "fast-paths"), inline(never))]
    pub fn load<P: Platform>(self, platform: &P) -> Words {
        core::array::from_fn(|index| self.word(platform, index).load(Ordering::Relaxed))
    }

    /// Stores one word, and lets hardware see it.
    ///
    /// The first word of a stream table entry in quarantine stays as it is.
    ///
    /// # Safety
    /// Whatever devices can reach by what the entry then says, with any of the words that hardware has kept of it, is theirs
    /// to reach. Nobody else stores to the entry meanwhile, the driver included.
    ///
    /// ```compile_fail,E0133
    /// fn bypass<P: smmuv3::Platform>(platform: &P, entry: smmuv3::update::Entry<'_>) {
    ///     entry.store(platform, 0, 0b1001);
    /// }
    /// ```
    pub unsafe fn store<P: Platform>(self, platform: &P, index: usize, value: u64) {
        self.write(platform, index, value);
    }

    /// As [`Entry::store`], by the driver.
    pub(crate) fn write<P: Platform>(self, platform: &P, index: usize, value: u64) {
        let word = self.word(platform, index);
        let store = || word.store(value, Ordering::Release);
        match self.first().filter(|_| index == 0) {
            // Quarantine is entered under this same lock.
            Some(first) => first.with(platform, |()| {
                if word.load(Ordering::Relaxed) != QUARANTINED {
                    store();
                }
            }),
            None => store(),
        }
        platform.publish(self.word_address(index), 8);
    }

    /// Whether it is in quarantine.
    #[cfg(feature = "alloc")]
    pub(crate) fn is_quarantined<P: Platform>(self, platform: &P) -> bool {
        self.word(platform, 0).load(Ordering::Acquire) == QUARANTINED
    }

    /// Whether it was in quarantine when it held `words`. Hardware may not have noticed yet: nothing is planned from that.
    fn is_cut_off(self, words: &Words) -> bool {
        self.first().is_some() && words[0] == QUARANTINED
    }

    /// Puts a stream table entry in quarantine: it aborts, and stays so. A store that is under way has been made before, or
    /// finds it so. Whether it was not in it before.
    #[cfg(feature = "alloc")]
    pub(crate) fn quarantine<P: Platform>(self, platform: &P) -> bool {
        self.decide(platform, |word| (word != QUARANTINED).then_some(QUARANTINED))
    }

    /// Lets an entry out of quarantine, if it is in it; it still aborts.
    #[cfg(feature = "alloc")]
    pub(crate) fn readmit<P: Platform>(self, platform: &P) {
        let aborts = Ste::default().with_v(true).with_config(config::ABORT);
        self.decide(platform, |word| (word == QUARANTINED).then_some(aborts.0[0]));
    }

    /// Replaces the first word by what `which` makes of it, if anything: nobody changes it in between.
    /// Whether it was replaced.
    #[cfg(feature = "alloc")]
    fn decide<P: Platform>(self, platform: &P, which: impl FnOnce(u64) -> Option<u64>) -> bool {
        let word = self.word(platform, 0);
        let decide = || {
            let new = which(word.load(Ordering::Relaxed));
            if let Some(new) = new {
                word.store(new, Ordering::Release);
            }
            new.is_some()
        };
        let changed = match self.first() {
            Some(first) => first.with(platform, |()| decide()),
            None => decide(),
        };
        // Outside the lock: `publish` is the platform's.
        if changed {
            platform.publish(self.word_address(0), 8);
        }
        changed
    }

    /// Stores one word of an entry that hardware does not know of yet; the caller publishes it.
    pub(crate) fn prepare<P: Platform>(self, platform: &P, index: usize, value: u64) {
        self.word(platform, index).store(value, Ordering::Relaxed);
    }

    /// Stores the words that differ from `current`; whether there were any.
    #[inline(never)]
    pub(crate) fn store_changed<P: Platform>(
        self,
        platform: &P,
        current: &mut Words,
        new: &Words,
    ) -> bool {
        let mut changed = false;
        for (index, (old, new)) in current.iter_mut().zip(new).enumerate() {
            if *old != *new {
                self.write(platform, index, *new);
                *old = *new;
                changed = true;
            }
        }
        changed
    }

    #[inline]
    fn word<P: Platform>(self, platform: &P, index: usize) -> Word<'_> {
        let word = platform.pointer(self.word_address(index)).cast::<AtomicU64>();
        // SAFETY: one of the eight words that `new`'s caller vouched for; always accessed as atomic words.
        Word(unsafe { &*word.as_ptr() })
    }

    #[inline]
    fn word_address(self, index: usize) -> PhysAddr {
        // No overflow: the offset is below 64, within the entry's 64 bytes.
        PhysAddr(self.address.0 + 8 * (index as u64 & 7))
    }
}

/// Which bits of an entry hardware looks at.
pub trait Kind {
    /// The bits that hardware looks at in an entry that holds `words`.
    fn used(words: &Words) -> Words;

    /// Bits that may have either value at any time while an entry goes from `old` to `new`.
    fn indifferent(old: &Words, new: &Words) -> Words {
        let _ = (old, new);
        [0; 8]
    }
}

/// Stream table entries.
#[derive(Clone, Copy, Debug)]
pub enum SteKind {}

/// STE.STRW of a stream in EL2, with E2H or without (§5.2).
const EL2: u64 = 2;

impl SteKind {
    const NOTHING: Ste = Ste([0; 8]);

    /// What only stage 1 looks at (§5.2).
    const STAGE_1: Ste = Self::NOTHING
        .with_s1_fmt(3)
        .with_s1_context_ptr(Ste([u64::MAX; 8]).s1_context_ptr())
        .with_s1_cd_max(0x1f)
        .with_s1_dss(3)
        .with_s1_cir(3)
        .with_s1_cor(3)
        .with_s1_csh(3)
        .with_s1_stalld(true)
        .with_s1_pie(true)
        .with_s1_mpam(true)
        .with_strw(3);

    /// What only stage 2 looks at.
    const STAGE_2: Ste = {
        let flags = Self::NOTHING.with_s2_hwu59(true).with_s2_hwu60(true).with_s2_hwu61(true);
        let flags = flags.with_s2_hwu62(true).with_s2_fwb(true);
        // The upper half of word 2 but DPT_VMATCH; the tables, overlays and partitions.
        Ste([0, flags.0[1], 0x3fff_ffff_0000_0000, u64::MAX, 0, 0, 0, u64::MAX])
    };

    /// What only a stage looks at, whichever.
    const TRANSLATION: Ste = Self::NOTHING.with_eats(3).with_mev(true).with_s2_vmid(0xffff);

    /// What only translations of EL1, and of stage 2, are tagged with (§1).
    const TAG: Ste = Self::NOTHING.with_s2_vmid(0xffff);

    /// Attributes of accesses that stage 1 does not translate. For the others they are at most hints where to
    /// allocate (§16.4).
    const UNTRANSLATED: Ste =
        Self::NOTHING.with_mem_attr(0xf).with_mt_cfg(true).with_alloc_cfg(0xf).with_sh_cfg(3);
}

impl Kind for SteKind {
    /// All bits but those that are known to be ignored.
    fn used(words: &Words) -> Words {
        let ste = Ste(*words);
        let valid = Self::NOTHING.with_v(true);
        if !ste.v() {
            return valid.0;
        }
        if ste.config() & config::BYPASS == 0 {
            return valid.with_config(0b111).0;
        }
        let (stage_1, stage_2) = (ste.config() & 0b001 != 0, ste.config() & 0b010 != 0);
        let mut used = [u64::MAX; 8];
        for (ignored, bits) in [
            (!stage_1, &Self::STAGE_1),
            (!stage_2, &Self::STAGE_2),
            (!stage_1 && !stage_2, &Self::TRANSLATION),
            (stage_1 && !stage_2 && ste.strw() == EL2, &Self::TAG),
            (stage_1 && ste.s1_dss() != 1, &Self::UNTRANSLATED),
        ] {
            if ignored {
                used.iter_mut().zip(&bits.0).for_each(|(used, bits)| *used &= !bits);
            }
        }
        used
    }

    /// MEV may have either value at any time, and so may SW_RESERVED, which is software's own. So may EATS on the way between
    /// none and full, since the device's ATS is off meanwhile (§8.2); except with stage-2 stalls, with which full ATS is illegal
    /// (§7.1(4)).
    fn indifferent(old: &Words, new: &Words) -> Words {
        let bits = Self::NOTHING.with_mev(true).with_sw_reserved(0xf);
        let either = |words: &Words| Ste(*words).eats() <= 1 && !Ste(*words).s2_s();
        bits.with_eats(u64::from(either(old) && either(new))).0
    }
}

/// Context descriptors of streams in EL1.
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

/// The bits that hardware looks at both in an entry that holds `current` and in one that holds `target`, and that
/// differ. [`update`] is hitless where they are in one word: two words do not change at once.
#[must_use]
pub fn critical<K: Kind>(current: &Words, target: &Words) -> Words {
    prepare(current, target, Bits::of::<K>()).map(|(_, differ)| differ)
}

/// How many words of an entry would have to switch at once: with more than one it becomes invalid in between.
pub(crate) fn switches<K: Kind>(current: &Words, target: &Words) -> usize {
    count(current, target, Bits::of::<K>())
}

/// As [`switches`], for all kinds.
fn count(current: &Words, target: &Words, bits: &Bits) -> usize {
    prepare(current, target, bits).iter().filter(|(_, differ)| *differ != 0).count()
}

/// What a [`Kind`] says, for what is compiled once for all of them.
struct Bits {
    used: fn(&Words) -> Words,
    indifferent: fn(&Words, &Words) -> Words,
}

impl Bits {
    const fn of<K: Kind>() -> &'static Self {
        &const { Self { used: K::used, indifferent: K::indifferent } }
    }
}

/// The words of the entry with all bits already at their new value that hardware ignores, or does not care about; each
/// with the bits of it that are then still to change.
fn prepare(current: &Words, target: &Words, bits: &Bits) -> [(u64, u64); 8] {
    let (used_now, used_then) = ((bits.used)(current), (bits.used)(target));
    let indifferent = (bits.indifferent)(current, target);
    core::array::from_fn(|i| {
        let keep = used_now[i] & !(indifferent[i] & used_then[i]);
        let prepared = current[i] & keep | target[i] & !keep;
        (prepared, (prepared ^ target[i]) & used_then[i])
    })
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
/// what the SMMU holds of the entry and waits until that is complete; it is called three times at most.
///
/// What hardware ignores in `target` is zero. Where `EATS` changes, the device's ATS is off, and a change
/// between full and split-stage ATS goes through none (§8.2). Split-stage ATS is legal over both stages alone (§7.1(4)): to
/// or from an entry with another Config that translates, it goes off before, and on after that, by an update of its own;
/// in one, the entry becomes invalid in between.
///
/// # Errors
/// The first error of `sync`; the entry may then be in any of its steps.
///
/// # Safety
/// Whatever devices can reach by `target` is theirs to reach, and stays so for as long as hardware may know of it: until the
/// `sync` of a later change has succeeded. Nobody else changes the entry meanwhile, the driver included.
///
/// ```compile_fail,E0133
/// use smmuv3::update::{Entry, SteKind, update};
///
/// fn bypass<P: smmuv3::Platform>(platform: &P, entry: Entry<'_>) {
///     let _ = update::<P, SteKind, ()>(platform, entry, &[0b1001, 0, 0, 0, 0, 0, 0, 0], || Ok(()));
/// }
/// ```
pub unsafe fn update<P: Platform, K: Kind, E>(
    platform: &P,
    entry: Entry<'_>,
    target: &Words,
    mut sync: impl FnMut() -> Result<(), E>,
) -> Result<Updated, E> {
    let current = entry.load(platform);
    // An entry in quarantine keeps its first word, so nothing can go wrong.
    let hitless = entry.is_cut_off(&current) || switches::<K>(&current, target) <= 1;
    let mut syncs = 0;
    update_all::<P, K, E>(platform, iter::once(entry), target, || {
        syncs += 1;
        sync()
    })?;
    Ok(Updated { hitless, syncs })
}

#[cfg(all(test, feature = "alloc", not(any(loom, shuttle))))]
mod tests;

#[cfg(test)]
mod differences {
    use super::*;

    #[test]
    fn what_differs_and_counts_on_both_sides_is_critical() {
        let stage_1 = [0x8002_000b, 0xd4, 0, 0, 0, 0, 0, 0];
        let bypass = [0b1001, 1 << 44, 0, 0, 0, 0, 0, 0];
        let nothing = [0; 8];
        let in_word_0 = |bits| [bits, 0, 0, 0, 0, 0, 0, 0];
        // Config, and the pointer; what only one side looks at is prepared, or cleared, before and after.
        assert_eq!(critical::<SteKind>(&bypass, &stage_1), in_word_0(0b0010));
        assert_eq!(critical::<SteKind>(&stage_1, &stage_1), nothing);
        assert_eq!(critical::<SteKind>(&nothing, &stage_1), in_word_0(1));
        // Another table (S1ContextPtr), and another S1CSH, at once.
        let moved = [0x8003_000b, 0x54, 0, 0, 0, 0, 0, 0];
        assert_eq!(critical::<SteKind>(&stage_1, &moved), [0x1_0000, 0x80, 0, 0, 0, 0, 0, 0]);
        // What software notes for itself, beside that.
        let noted = [0x8003_000b, 0xd4 | 1 << 20, 0, 0, 0, 0, 0, 0];
        assert_eq!(critical::<SteKind>(&stage_1, &noted), in_word_0(0x1_0000));
        // EATS on is nobody's business while ATS is off.
        let ats = [0x8002_000b, 0xd4 | 1 << 28, 0, 0, 0, 0, 0, 0];
        assert_eq!(critical::<SteKind>(&stage_1, &ats), nothing);
        // Stage 2 is prepared behind the first word; but two VMIDs are looked at on both sides.
        let stage_2 = [0xd, 1 << 44, 0x040c_3558_0000_0007, 0x8004_0000, 0, 0, 0, 0];
        let blocked = in_word_0(1);
        assert_eq!(critical::<SteKind>(&bypass, &stage_2), in_word_0(0b0100));
        assert_eq!(critical::<SteKind>(&blocked, &stage_2), in_word_0(0b1100));
        assert_eq!(critical::<SteKind>(&stage_2, &bypass), in_word_0(0b0100));
        assert_eq!(critical::<SteKind>(&stage_1, &stage_2), [0b0110, 0, 7, 0, 0, 0, 0, 0]);
        let same_vmid = [stage_1[0], stage_1[1], 7, 0, 0, 0, 0, 0];
        assert_eq!(critical::<SteKind>(&same_vmid, &stage_2), in_word_0(0b0110));
        // ASID and TTB0 of a context.
        let context = |asid: u64, ttb| [asid << 48 | 1 << 31, ttb, 0, 0, 0, 0, 0, 0];
        assert_eq!(
            critical::<CdKind>(&context(1, 0x1000), &context(2, 0x2000)),
            [3 << 48, 0x3000, 0, 0, 0, 0, 0, 0]
        );
    }
}

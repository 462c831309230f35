// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rule R4: every combination of words that hardware may have read of an entry means the old or the new
//! configuration.
//!
//! Between two completed CFGI + SYNC of an entry, hardware may have read each of its words at any moment. So
//! all values that each word has held since are kept, and when the next CFGI + SYNC completes, every
//! combination is looked at. What it means is taken from the architecture's list of fields, field by field, and
//! from its rules of legality; the driver's opinion is not asked.

use std::sync::OnceLock;

use smmuv3_formats::legality::{self, Implementation};
use smmuv3_formats::register::{Aidr, Idr0, Idr1, Idr3, Idr5};
use smmuv3_formats::ste::config;
use smmuv3_formats::{Cd, Layout, Ste};

/// The words of an entry.
pub type Words = [u64; 8];

/// Which structure an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A stream table entry.
    Ste,
    /// A context descriptor.
    Cd,
}

/// Where the contexts of a stream are (§5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextTable {
    /// Where it begins: with contexts, or with descriptors of leaves.
    pub pa: u64,
    /// log2 of the contexts.
    pub log2: u32,
    /// log2 of the contexts in a leaf, where there are two levels.
    pub split: Option<u32>,
}

impl ContextTable {
    /// As word 0 of an entry says.
    fn of(ste: &Ste) -> Self {
        // S1CDMax has 5 bits.
        let log2 = ste.s1_cd_max() as u32;
        let split = match ste.s1_fmt() {
            1 => Some(6),
            2 => Some(10),
            _ => None,
        };
        Self { pa: ste.s1_context_ptr(), log2, split: split.filter(|_| log2 != 0) }
    }

    /// Bytes of the part that it begins with.
    pub const fn bytes(&self) -> u64 {
        match self.split {
            Some(split) => 8 << self.log2.saturating_sub(split),
            None => 64 << self.log2,
        }
    }
}

/// The values that an entry's words have held.
#[derive(Clone, Debug)]
pub struct History {
    kind: Kind,
    /// Where it is.
    pub pa: u64,
    values: [Vec<u64>; 8],
    /// What it was before an access was cut off by one store, while hardware may still be using it.
    cut: Option<Words>,
    /// Values of each word when the last CFGI for it was consumed; cleared by the SYNC after it.
    told: Option<[usize; 8]>,
    /// The command queue of that CFGI: only its CMD_SYNCs complete it.
    pub(crate) queue: usize,
}

/// More combinations than this are not looked at, but taken for a mixture: eight words that change three times
/// each have as many, and an update changes each at most once from one SYNC to the next.
const MOST: usize = 1 << 16;

impl History {
    /// An entry at `pa` that has held `words` and nothing else.
    pub fn new(kind: Kind, pa: u64, words: Words) -> Self {
        Self { kind, pa, values: words.map(|word| vec![word]), cut: None, told: None, queue: 0 }
    }

    /// The word at `index` was stored.
    pub fn stored(&mut self, index: usize, value: u64) {
        let before = self.latest();
        if self.kind == Kind::Ste && index == 0 && is_cut_off(value) && !is_cut_off(before[0]) {
            self.cut = Some(before);
        }
        if let Some(values) = self.values.get_mut(index)
            && values.last() != Some(&value)
        {
            values.push(value);
        }
    }

    /// Hardware was told to read the entry anew.
    pub fn told(&mut self) {
        self.told = Some(std::array::from_fn(|index| self.values[index].len()));
    }

    /// A CMD_SYNC has completed: of what hardware was told before, nothing older is in use. Where the device `is_silent`, a
    /// change may have been cut short once it was made: then it may be read, too.
    ///
    /// # Errors
    /// A combination that means neither the old nor the new configuration.
    pub fn synchronised(&mut self, is_silent: bool) -> Result<(), Words> {
        let Some(told) = self.told.take() else { return Ok(()) };
        let oldest = self.values.each_ref().map(|values| values[0]);
        let cut = self.cut.filter(|_| is_silent);
        let result = match (self.check(&[oldest, self.latest()]), cut) {
            (Err(_), Some(cut)) => self.check(&[oldest, cut, self.latest()]),
            (result, _) => result,
        };
        for (values, told) in self.values.iter_mut().zip(told) {
            // What was stored last before the CFGI is what hardware reads from then on.
            values.drain(..told.saturating_sub(1));
        }
        if self.is_settled() {
            self.cut = None;
        }
        result
    }

    /// The entry holds `words`, and hardware has seen nothing else.
    pub(crate) fn settle(&mut self, words: Words) {
        for (values, word) in self.values.iter_mut().zip(words) {
            values.clear();
            values.push(word);
        }
        (self.cut, self.told, self.queue) = (None, None, 0);
    }

    /// Whether hardware may still be using an old value.
    pub fn is_settled(&self) -> bool {
        self.values.iter().all(|values| values.len() == 1)
    }

    /// The newest words.
    pub fn latest(&self) -> Words {
        std::array::from_fn(|index| self.values[index].last().copied().unwrap_or(0))
    }

    /// All tables of contexts that hardware may have read a pointer to.
    pub fn tables(&self) -> Vec<ContextTable> {
        let mut tables: Vec<ContextTable> = self.pointers().collect();
        tables.dedup();
        tables
    }

    /// Whether hardware may have read a pointer to the table that begins at `pa`.
    pub(crate) fn leads_to(&self, pa: u64) -> bool {
        self.pointers().any(|table| table.pa == pa)
    }

    fn pointers(&self) -> impl Iterator<Item = ContextTable> {
        self.values[0]
            .iter()
            .map(|word| Ste([*word, 0, 0, 0, 0, 0, 0, 0]))
            .filter(|ste| ste.v() && ste.config() & 0b101 == 0b101)
            .map(|ste| ContextTable::of(&ste))
    }

    /// Whether every combination that hardware may have read means one of `configurations`.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self, configurations: &[Words]) -> Result<(), Words> {
        let allowed = allowed(self.kind, configurations);
        // Each value of a word once, in their order.
        let mut all = Vec::with_capacity(2 * self.values.len());
        let ranges = self.values.each_ref().map(|values| {
            let first = all.len();
            for value in values {
                if let Err(at) = all[first..].binary_search(value) {
                    all.insert(first + at, *value);
                }
            }
            first..all.len()
        });
        let values = ranges.map(|range| &all[range]);
        let count = values.iter().try_fold(1usize, |count, word| count.checked_mul(word.len()));
        let Some(count) = count.filter(|count| *count <= MOST) else { return Err(self.latest()) };
        for mut number in 0..count {
            let words = values.map(|values| {
                let word = values[number % values.len()];
                number /= values.len();
                word
            });
            if !allowed.contains(&meaning(self.kind, &words)) || !is_legal(self.kind, &words) {
                return Err(words);
            }
        }
        Ok(())
    }
}

/// Whether an entry with this first word aborts all.
fn is_cut_off(word: u64) -> bool {
    let entry = Ste([word, 0, 0, 0, 0, 0, 0, 0]);
    entry.v() && entry.config() & 0b100 == 0
}

/// The bits of an entry that holds `words` which an SMMU looks at. Reserved ones are not among them.
pub fn counted(kind: Kind, words: &Words) -> Words {
    /// By [`shape`]: going through the names of all fields takes long.
    static KNOWN: [OnceLock<Words>; SHAPES] = [const { OnceLock::new() }; SHAPES];
    match KNOWN.get(shape(kind, words)) {
        Some(known) => *known.get_or_init(|| counted_by_name(kind, words)),
        None => counted_by_name(kind, words),
    }
}

/// More than any [`shape`].
const SHAPES: usize = 1 << 10;

/// A number for all of an entry that [`counts_in_ste`] and [`counts_in_cd`] look at, besides the name of the field.
fn shape(kind: Kind, words: &Words) -> usize {
    let (ste, cd) = (Ste(*words), Cd(*words));
    let bits = |flags: &[bool]| flags.iter().fold(0, |bits, flag| bits << 1 | usize::from(*flag));
    match kind {
        Kind::Ste => {
            let contexts = [ste.s1_cd_max() > 0, ste.s1_dss() == 1];
            let others = [ste.s1_mpam(), ste.strw() != 2, ste.s2_poe(), ste.v()];
            // Config has 3 bits.
            (bits(&contexts) << 4 | bits(&others)) << 3 | ste.config() as usize
        }
        Kind::Cd => SHAPES / 2 + bits(&[cd.epd0(), cd.epd1(), cd.v()]),
    }
}

fn counted_by_name(kind: Kind, words: &Words) -> Words {
    let (ste, cd) = (Ste(*words), Cd(*words));
    let (valid, fields) = match kind {
        Kind::Ste => (ste.v(), Ste::FIELDS),
        Kind::Cd => (cd.v(), Cd::FIELDS),
    };
    let mut counted = [0; 8];
    for field in fields {
        let counts = match kind {
            _ if !valid => field.name == "V",
            Kind::Ste => counts_in_ste(&ste, field.name),
            Kind::Cd => counts_in_cd(&cd, field.name),
        };
        if counts {
            counted[field.word] |= field.mask();
        }
    }
    counted
}

/// Whether an SMMU looks at a field of a valid entry of a Non-secure stream (§5.2).
fn counts_in_ste(ste: &Ste, name: &str) -> bool {
    let config = ste.config();
    if config & 0b100 == 0 {
        return matches!(name, "V" | "Config");
    }
    let (stage_1, stage_2) = (config & 0b001 != 0, config & 0b010 != 0);
    let contexts = stage_1 && ste.s1_cd_max() > 0;
    match name {
        // Whether events are merged: either is right at any time. And what is not for hardware.
        "MEV" | "SW_RESERVED" => false,
        // Secure and Realm streams.
        "NSCFG" | "S2NSW" | "S2NSA" | "S2SW" | "S2SA" => false,
        name if name.starts_with("S_S2") => false,
        "S1Fmt" | "S1DSS" => contexts,
        "S1MPAM" => config == config::NESTED,
        "VMSPtr" => config == config::NESTED && ste.s1_mpam(),
        // The stream's world, and the tag of its translations in EL1 (§1).
        "STRW" => config == config::STAGE_1,
        "S2VMID" => stage_2 || stage_1 && ste.strw() != 2,
        "EATS" | "PPAR" | "DPT_VMATCH" => stage_1 || stage_2,
        "S2POI" => stage_2 && ste.s2_poe(),
        "AssuredOnly" | "TL0" | "TL1" => stage_2,
        // Attributes of what stage 1 does not translate (§5.3). Else they are at most hints where to
        // allocate (§16.4), which no access depends on.
        "MemAttr" | "MTCFG" | "ALLOCCFG" | "SHCFG" => !stage_1 || contexts && ste.s1_dss() == 1,
        name if name.starts_with("S1") => stage_1,
        name if name.starts_with("S2") => stage_2,
        _ => true,
    }
}

/// Whether an SMMU looks at a field of a valid context of a stream in EL1 (§6): not at the tables of a half
/// that is not walked.
fn counts_in_cd(cd: &Cd, name: &str) -> bool {
    match name {
        "T0SZ" | "TG0" | "IR0" | "OR0" | "SH0" | "TTB0" => !cd.epd0(),
        "T1SZ" | "TG1" | "IR1" | "OR1" | "SH1" | "TTB1" => !cd.epd1(),
        _ => true,
    }
}

/// What hardware takes an entry for: what it looks at, and nothing else.
fn meaning(kind: Kind, words: &Words) -> Words {
    let counted = counted(kind, words);
    let mut seen: Words = std::array::from_fn(|index| words[index] & counted[index]);
    let ste = Ste(seen);
    if kind == Kind::Ste && ste.config() & 0b100 == 0 {
        // All of these codes abort.
        seen = ste.with_config(config::ABORT).0;
    }
    seen
}

/// Whether hardware takes two entries for the same.
pub fn is_same(kind: Kind, one: &Words, other: &Words) -> bool {
    meaning(kind, one) == meaning(kind, other)
}

/// The meanings of `configurations`. Where EATS changes between none and full, ATS is off in the device (§8.2),
/// so that both are alike.
fn allowed(kind: Kind, configurations: &[Words]) -> Vec<Words> {
    let mut allowed: Vec<Words> = configurations.iter().map(|words| meaning(kind, words)).collect();
    if kind == Kind::Cd {
        return allowed;
    }
    let translating: Vec<Ste> =
        allowed.iter().map(|words| Ste(*words)).filter(|ste| counts_in_ste(ste, "EATS")).collect();
    let changes = [0, 1].iter().all(|eats| translating.iter().any(|ste| ste.eats() == *eats));
    if changes {
        let full_or_none = translating.iter().filter(|ste| ste.eats() <= 1);
        allowed.extend(full_or_none.map(|ste| ste.with_eats(ste.eats() ^ 1).0));
    }
    allowed
}

/// Whether some SMMU accepts the entry, or it is invalid (§7). What makes a context illegal all counts, so that
/// it cannot be illegal and mean what a legal one does.
fn is_legal(kind: Kind, words: &Words) -> bool {
    let ste = Ste(*words);
    // Before version 3.1 hardware may look at S2S without a stage 2 (§7.1).
    let stalls = ste.config() & 0b110 == 0b100 && ste.eats() == 1 && ste.s2_s();
    kind == Kind::Cd || !ste.v() || !stalls && legality::ste(&ste, &everything()).is_ok()
}

/// An SMMU that has everything.
pub fn everything() -> Implementation {
    let idr0 = Idr0(0).with_s1p(true).with_s2p(true).with_hyp(true).with_ttf(3).with_httu(2);
    let idr0 = idr0.with_ats(true).with_asid16(true).with_vmid16(true).with_cd2l(true);
    let idr3 = Idr3(0).with_fwb(true).with_mpam(true).with_pbha(true).with_stt(true);
    Implementation {
        idr0: idr0.with_cohacc(true),
        idr1: Idr1(0).with_ssidsize(20).with_attr_perms_ovr(true).with_attr_types_ovr(true),
        idr3: idr3.with_dpt(true).with_s1pi(true).with_s2pi(true).with_s2po(true),
        idr5: Idr5(0x70).with_oas(6).with_ds(true).with_vax(1),
        aidr: Aidr(4),
        e2h: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABORT: Words = [0b0001, 0, 0, 0, 0, 0, 0, 0];
    const STAGE_1: Words = [0x8002_000b, 0xd4, 0, 0, 0, 0, 0, 0];

    #[test]
    fn what_is_looked_at_depends_on_the_shape_alone() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let mut words: Words = std::array::from_fn(|_| rng.u64(..));
            words[0] = words[0] & !0b1111 | rng.u64(0..16);
            for kind in [Kind::Ste, Kind::Cd] {
                assert!(shape(kind, &words) < SHAPES);
                assert_eq!(
                    counted(kind, &words),
                    counted_by_name(kind, &words),
                    "{kind:?} {words:x?}"
                );
            }
        }
    }

    #[test]
    fn preparing_unused_words_first_is_no_mixture() {
        let mut ste = History::new(Kind::Ste, 0, ABORT);
        ste.stored(0, 0x8002_0001);
        ste.stored(1, STAGE_1[1]);
        ste.told();
        assert_eq!(ste.synchronised(false), Ok(()));
        ste.stored(0, STAGE_1[0]);
        ste.told();
        assert_eq!(ste.synchronised(false), Ok(()));
        assert!(ste.is_settled());
        let table = ContextTable { pa: 0x8002_0000, log2: 0, split: None };
        assert_eq!((ste.latest(), ste.tables()), (STAGE_1, vec![table]));
    }

    #[test]
    fn switching_before_preparing_is_a_mixture() {
        let mut ste = History::new(Kind::Ste, 0, ABORT);
        ste.stored(0, STAGE_1[0]);
        ste.stored(1, STAGE_1[1]);
        ste.told();
        assert_eq!(ste.synchronised(false), Err([0x8002_000b, 0, 0, 0, 0, 0, 0, 0]));
    }

    #[test]
    fn a_change_may_be_cut_short_where_a_device_is_silent_but_only_once_it_was_made() {
        let cut_short = |order: [usize; 2], silent| {
            let mut ste = History::new(Kind::Ste, 0, ABORT);
            for index in order {
                ste.stored(index, STAGE_1[index]);
            }
            // Aborts as well, and says why.
            ste.stored(0, ABORT[0] | 0b10);
            ste.told();
            ste.synchronised(silent)
        };
        let mixture = Err([0x8002_000b, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(cut_short([0, 1], true), mixture);
        assert_eq!(cut_short([0, 1], false), mixture);
        // The unused word first, which hardware has read by then.
        let mut old = ABORT;
        old[1] = STAGE_1[1];
        for (silent, right) in [(true, Ok(())), (false, Err(STAGE_1))] {
            let mut ste = History::new(Kind::Ste, 0, old);
            ste.stored(0, STAGE_1[0]);
            ste.stored(0, ABORT[0]);
            ste.told();
            assert_eq!(ste.synchronised(silent), right);
        }
    }

    #[test]
    fn two_words_of_a_live_context_cannot_change_at_once() {
        let valid = Cd::default().with_v(true).with_epd1(true);
        let old = valid.with_asid(1).with_ttb0(0x1000).0;
        let mut cd = History::new(Kind::Cd, 0, old);
        cd.stored(0, valid.with_asid(2).0[0]);
        cd.stored(1, 0x2000);
        cd.told();
        assert!(cd.synchronised(false).is_err());
        // Through an invalid one they can.
        let mut cd = History::new(Kind::Cd, 0, old);
        for (index, word) in [(0, 0), (1, 0x2000), (0, valid.with_asid(2).0[0])] {
            cd.stored(index, word);
            cd.told();
            assert_eq!(cd.synchronised(false), Ok(()));
        }
    }

    #[test]
    fn more_combinations_than_can_be_looked_at_are_a_mixture() {
        // Unused words: each combination alone would be right.
        let mut ste = History::new(Kind::Ste, 0, ABORT);
        for value in 1..5 {
            (1..8).for_each(|index| ste.stored(index, value));
        }
        ste.told();
        assert_eq!(ste.synchronised(false), Err(ste.latest()));
    }

    #[test]
    fn an_entry_says_how_its_contexts_are_laid_out() {
        // S1Fmt, S1CDMax; bytes that are read first (§5.3).
        for (fmt, log2, split, bytes) in [
            (0, 0, None, 64),
            (1, 0, None, 64),
            (0, 6, None, 4096),
            (1, 6, Some(6), 8),
            (1, 8, Some(6), 32),
            (2, 20, Some(10), 8192),
        ] {
            let ste = Ste(STAGE_1).with_s1_fmt(fmt).with_s1_cd_max(log2);
            let table = ContextTable { pa: 0x8002_0000, log2: log2 as u32, split };
            assert_eq!(History::new(Kind::Ste, 0, ste.0).tables(), [table]);
            assert_eq!(table.bytes(), bytes);
        }
    }

    #[test]
    fn a_store_after_the_cfgi_is_not_settled_by_its_sync() {
        let mut cd = History::new(Kind::Cd, 0, [0; 8]);
        cd.stored(1, 1);
        cd.told();
        cd.stored(1, 2);
        assert_eq!(cd.synchronised(false), Ok(()));
        assert!(!cd.is_settled());
    }
}

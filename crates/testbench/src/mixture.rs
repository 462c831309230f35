// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rule R4: every combination of words that hardware may have read of an entry means the old or the new
//! configuration.
//!
//! Between two completed CFGI + SYNC of an entry, hardware may have read each of its words at any moment. So
//! all values that each word has held since are kept, and when the next CFGI + SYNC completes, every
//! combination is looked at.

use smmuv3_formats::ste::config;
use smmuv3_formats::{Cd, Ste};

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

/// The values that an entry's words have held.
#[derive(Clone, Debug)]
pub struct History {
    kind: Kind,
    /// Where it is.
    pub pa: u64,
    values: [Vec<u64>; 8],
    /// Values of each word when the last CFGI for it was consumed; cleared by the SYNC after it.
    told: Option<[usize; 8]>,
}

/// More combinations than this are not looked at: hitless updates have at most a few.
const MOST: usize = 1 << 12;

impl History {
    /// An entry at `pa` that has held `words` and nothing else.
    pub fn new(kind: Kind, pa: u64, words: Words) -> Self {
        Self { kind, pa, values: words.map(|word| vec![word]), told: None }
    }

    /// The word at `index` was stored.
    pub fn stored(&mut self, index: usize, value: u64) {
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

    /// A CMD_SYNC has completed: of what hardware was told before, nothing older is in use.
    ///
    /// # Errors
    /// A combination that means neither the old nor the new configuration.
    pub fn synchronised(&mut self) -> Result<(), Words> {
        let Some(told) = self.told.take() else { return Ok(()) };
        let result = self.check();
        for (values, told) in self.values.iter_mut().zip(told) {
            // What was stored last before the CFGI is what hardware reads from then on.
            values.drain(..told.saturating_sub(1));
        }
        result
    }

    /// Whether hardware may still be using an old value.
    pub fn is_settled(&self) -> bool {
        self.values.iter().all(|values| values.len() == 1)
    }

    /// The newest words.
    pub fn latest(&self) -> Words {
        std::array::from_fn(|index| self.values[index].last().copied().unwrap_or(0))
    }

    /// All pointers to a context that hardware may have read.
    pub fn contexts(&self) -> Vec<u64> {
        let mut contexts: Vec<u64> = self.values[0]
            .iter()
            .map(|word| Ste([*word, 0, 0, 0, 0, 0, 0, 0]))
            .filter(|ste| ste.v() && ste.config() & 0b101 == 0b101)
            .map(|ste| ste.s1_context_ptr())
            .collect();
        contexts.dedup();
        contexts
    }

    fn check(&self) -> Result<(), Words> {
        let oldest = self.values.each_ref().map(|values| values[0]);
        let allowed = [meaning(self.kind, &oldest), meaning(self.kind, &self.latest())];
        let combinations: usize = self.values.iter().map(Vec::len).product();
        for mut number in 0..combinations.min(MOST) {
            let words = self.values.each_ref().map(|values| {
                let word = values[number % values.len()];
                number /= values.len();
                word
            });
            if !allowed.contains(&meaning(self.kind, &words)) {
                return Err(words);
            }
        }
        Ok(())
    }
}

/// What hardware takes an entry for: what it looks at, and nothing else.
fn meaning(kind: Kind, words: &Words) -> Words {
    match kind {
        Kind::Ste => {
            let ste = Ste(*words);
            let valid = Ste::default().with_v(ste.v());
            if !ste.v() {
                return valid.0;
            }
            let base = valid.with_config(ste.config());
            match ste.config() {
                config::BYPASS => {
                    // Overrides only.
                    let unused = Ste::default().with_s1_dss(3).with_s1_cir(3).with_s1_cor(3);
                    let unused = unused.with_s1_csh(3).with_eats(3).with_strw(3);
                    let unused = unused.with_s1_stalld(true);
                    let mut seen = base.0;
                    seen[1] = words[1] & !unused.0[1];
                    seen
                }
                config::STAGE_1 => {
                    let mut seen = [words[0], words[1], words[2] & 0xffff, 0, 0, 0, 0, 0];
                    if ste.s1_dss() != 1 || ste.s1_cd_max() == 0 {
                        // The overrides of untranslated accesses mean nothing here (§5.2).
                        seen[1] = Ste(seen).with_sh_cfg(0).with_mem_attr(0).with_mt_cfg(false).0[1];
                    }
                    seen
                }
                code if code & 0b100 == 0 => Ste::default().with_v(true).0,
                _ => *words,
            }
        }
        Kind::Cd => {
            let cd = Cd(*words);
            if !cd.v() {
                return [0; 8];
            }
            let mut seen = cd;
            if cd.epd1() {
                seen = seen.with_t1sz(0).with_tg1(0).with_ir1(0).with_or1(0).with_sh1(0);
                seen = seen.with_ttb1(0);
            }
            if cd.epd0() {
                seen = seen.with_t0sz(0).with_tg0(0).with_ir0(0).with_or0(0).with_sh0(0);
                seen = seen.with_ttb0(0);
            }
            seen.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABORT: Words = [0b0001, 0, 0, 0, 0, 0, 0, 0];
    const STAGE_1: Words = [0x8002_000b, 0xd4, 0, 0, 0, 0, 0, 0];

    #[test]
    fn preparing_unused_words_first_is_no_mixture() {
        let mut ste = History::new(Kind::Ste, 0, ABORT);
        ste.stored(0, 0x8002_0001);
        ste.stored(1, STAGE_1[1]);
        ste.told();
        assert_eq!(ste.synchronised(), Ok(()));
        ste.stored(0, STAGE_1[0]);
        ste.told();
        assert_eq!(ste.synchronised(), Ok(()));
        assert!(ste.is_settled());
        assert_eq!((ste.latest(), ste.contexts()), (STAGE_1, vec![0x8002_0000]));
    }

    #[test]
    fn switching_before_preparing_is_a_mixture() {
        let mut ste = History::new(Kind::Ste, 0, ABORT);
        ste.stored(0, STAGE_1[0]);
        ste.stored(1, STAGE_1[1]);
        ste.told();
        assert_eq!(ste.synchronised(), Err([0x8002_000b, 0, 0, 0, 0, 0, 0, 0]));
    }

    #[test]
    fn two_words_of_a_live_context_cannot_change_at_once() {
        let valid = Cd::default().with_v(true).with_epd1(true);
        let old = valid.with_asid(1).with_ttb0(0x1000).0;
        let mut cd = History::new(Kind::Cd, 0, old);
        cd.stored(0, valid.with_asid(2).0[0]);
        cd.stored(1, 0x2000);
        cd.told();
        assert!(cd.synchronised().is_err());
        // Through an invalid one they can.
        let mut cd = History::new(Kind::Cd, 0, old);
        for (index, word) in [(0, 0), (1, 0x2000), (0, valid.with_asid(2).0[0])] {
            cd.stored(index, word);
            cd.told();
            assert_eq!(cd.synchronised(), Ok(()));
        }
    }

    #[test]
    fn a_store_after_the_cfgi_is_not_settled_by_its_sync() {
        let mut cd = History::new(Kind::Cd, 0, [0; 8]);
        cd.stored(1, 1);
        cd.told();
        cd.stored(1, 2);
        assert_eq!(cd.synchronised(), Ok(()));
        assert!(!cd.is_settled());
    }
}

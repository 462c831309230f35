// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long a machine lives: a seed with many operations does them on several machines, one after the other, since one alone
//! has few of all features.

use std::iter;
use std::ops::RangeInclusive;

use fastrand::Rng;

/// One machine, and how much is done on it before everything is taken down.
///
/// Both follow from its seed alone, so it can be tried by itself: it is the first one of its own seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// What its scenario is drawn from.
    pub seed: u64,
    /// Which one it is, from 0.
    pub number: u64,
    /// Random operations.
    pub steps: u64,
}

/// Operations of most lives. Nothing is cut at fewer, so whoever asks for that has one machine.
const SHORT: RangeInclusive<u64> = 2_000..=3_000;
/// Operations of one in [`RARE`].
const LONG: RangeInclusive<u64> = 10_000..=40_000;
const RARE: u8 = 16;
/// Of the seeds that people give, the machine of one in so many lives for up to [`WHOLE`] operations: nothing of what it
/// remembers is too old to go wrong.
const WHOLE_OF: u8 = 8;
const WHOLE: u64 = 100_000;
/// Seeds of later lives are above all that people give, and still easy to copy.
const LATER: u64 = 1 << 32;

impl Life {
    /// Those that do `steps` operations, beginning with the machine of `seed`. There is always one.
    pub fn all(seed: u64, steps: u64) -> impl Iterator<Item = Self> {
        let first = Self { seed, number: 0, steps: Self::cut(seed, steps) };
        let mut left = steps - first.steps;
        iter::successors(Some(first), move |before| {
            let (number, seed) = (before.number + 1, next(before.seed));
            let life = Self { seed, number, steps: Self::cut(seed, left) };
            left -= life.steps;
            (life.steps > 0).then_some(life)
        })
    }

    /// How many of the `left` operations the machine of `seed` does.
    fn cut(seed: u64, left: u64) -> u64 {
        if seed < LATER && Rng::with_seed(seed ^ 0x7768_6f6c).u8(0..WHOLE_OF) == 0 {
            return left.min(WHOLE);
        }
        let mut rng = Rng::with_seed(seed ^ 0x6c69_6665);
        let long = rng.u8(0..RARE) == 0;
        rng.u64(if long { LONG } else { SHORT }).min(left)
    }
}

/// The seed of the machine after that of `seed`.
fn next(seed: u64) -> u64 {
    LATER | u64::from(Rng::with_seed(seed ^ 0x6e65_7874).u32(..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_operations_are_one_life_and_many_are_several_of_which_some_are_long() {
        for seed in 0..100 {
            let one = Life { seed, number: 0, steps: 2000 };
            assert_eq!(Life::all(seed, 2000).collect::<Vec<_>>(), [one]);
        }
        let none = Life { seed: 7, number: 0, steps: 0 };
        assert_eq!(Life::all(7, 0).collect::<Vec<_>>(), [none]);
        let all: Vec<Life> = (0..50).flat_map(|seed| Life::all(seed, 100_000)).collect();
        assert_eq!(all.iter().map(|life| life.steps).sum::<u64>(), 50 * 100_000);
        let long = all.iter().filter(|life| life.steps >= 10_000).count();
        assert!(all.len() > 1000 && long > 50, "{} lives, {long} of them long", all.len());
        let whole = all.iter().filter(|life| life.steps == 100_000).count();
        assert!((3..=12).contains(&whole), "{whole} machines do all of what their seed has");
        // And as many of other seeds, which have more.
        let whole =
            (50..100).filter(|seed| Life::all(*seed, 250_000).any(|it| it.steps == 100_000));
        assert!((3..=12).contains(&whole.count()));
    }

    #[test]
    fn a_life_is_the_first_one_of_its_own_seed() {
        for life in Life::all(3, 100_000) {
            let alone: Vec<Life> = Life::all(life.seed, life.steps).collect();
            assert_eq!(alone, [Life { number: 0, ..life }]);
        }
        let seeds: Vec<u64> = Life::all(3, 100_000).map(|life| life.seed).collect();
        assert_eq!(seeds[0], 3);
        assert!(seeds[1..].iter().all(|seed| *seed >= LATER && *seed < 2 * LATER), "{seeds:?}");
    }
}

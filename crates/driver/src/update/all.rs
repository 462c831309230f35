// SPDX-License-Identifier: MIT OR Apache-2.0
//! Changing the entries of several streams at once: a step of all of them, then one invalidation.

use super::{Bits, Entry, Kind, Words, prepare};
use crate::platform::Platform;

/// The most steps that an entry takes.
const STEPS: usize = 3;

/// Whether both are the same. Inlined where fewer instructions are wanted: a call to compare costs more than eight words do.
#[cfg_attr(feature = "fast-paths", inline)]
#[cfg_attr(not(feature = "fast-paths"), inline(never))]
fn same(one: &Words, other: &Words) -> bool {
    one.iter().zip(other).fold(0, |differ, (one, other)| differ | (one ^ other)) == 0
}

/// The next step of an entry that holds `now` on its way to `target`.
fn next(now: &Words, target: &Words, bits: &Bits) -> Words {
    if same(now, target) {
        return *target;
    }
    let words = prepare(now, target, bits);
    match words.iter().filter(|(_, differ)| *differ != 0).count() {
        0 => *target,
        1 => {
            // All but the word that decides; then that as well.
            let with = |decides: &Words| {
                core::array::from_fn(|i| if words[i].1 == 0 { words[i].0 } else { decides[i] })
            };
            let before = with(now);
            if same(&before, now) { with(target) } else { before }
        }
        // Two words would have to switch at once, so the entry becomes invalid in between.
        _ => {
            let mut invalid = *now;
            invalid[0] = 0;
            invalid
        }
    }
}

/// What became of an entry.
struct Step {
    changed: bool,
    /// It holds what it is to hold.
    arrived: bool,
}

/// Takes the next step of `entry` on its way to `target`. Compiled once, for both kinds.
#[inline(never)]
fn step<P: Platform>(platform: &P, entry: Entry<'_>, target: &Words, bits: &Bits) -> Step {
    let mut now = entry.load(platform);
    if entry.is_cut_off(&now) {
        return Step { changed: true, arrived: true };
    }
    let next = next(&now, target, bits);
    let changed = entry.store_changed(platform, &mut now, &next);
    // An entry that was put in quarantine meanwhile keeps its first word, and counts as arrived.
    Step { changed, arrived: same(&next, target) }
}

/// As [`update`](super::update), of all `entries`, which may hold different things. `sync` invalidates what the SMMU holds
/// of any of them; it is called three times at most, after a step of each that has one.
///
/// An entry that others put in quarantine takes no step: its first word stays, and until hardware has noticed that, the
/// other words belong to the former entry. `sync` is called for it all the same.
///
/// # Errors
/// The first error of `sync`; each entry may then be in any of its steps.
pub(crate) fn update_all<'a, P: Platform, K: Kind, E>(
    platform: &P,
    entries: impl Iterator<Item = Entry<'a>> + Clone,
    target: &Words,
    mut sync: impl FnMut() -> Result<(), E>,
) -> Result<(), E> {
    for _ in 0..STEPS {
        let (mut changed, mut arrived) = (false, true);
        for entry in entries.clone() {
            let step = step(platform, entry, target, Bits::of::<K>());
            changed |= step.changed;
            arrived &= step.arrived;
        }
        if changed {
            sync()?;
        }
        if arrived {
            break;
        }
    }
    Ok(())
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use alloc::vec::Vec;

    use super::super::{CdKind, SteKind, critical};
    use super::*;

    fn steps<K: Kind>(mut now: Words, target: Words) -> Vec<Words> {
        let mut steps = Vec::new();
        while now != target {
            now = next(&now, &target, Bits::of::<K>());
            steps.push(now);
            assert!(steps.len() <= STEPS, "{steps:x?}");
        }
        steps
    }

    /// From §5.2: what is not looked at yet, the word that decides, what is not looked at any more.
    #[test]
    fn steps_are_those_of_one_entry() {
        let blocked = [1, 0, 0, 0, 0, 0, 0, 0];
        let stage_1 = [0x8002_000b, 0xd4, 0, 0, 0, 0, 0, 0];
        let stage_2 = [0xd, 1 << 44, 0x040c_3558_0000_0007, 0x8004_0000, 0, 0, 0, 0];
        let in_word_0 = |word| {
            let mut words = stage_1;
            words[0] = word;
            words
        };
        // The pointer is in the word that decides.
        let expected = [in_word_0(1), stage_1];
        assert_eq!(steps::<SteKind>(blocked, stage_1), expected);
        let expected = [in_word_0(1), blocked];
        assert_eq!(steps::<SteKind>(stage_1, blocked), expected);
        // Config and S2VMID: through an invalid one.
        let mut filled = stage_2;
        filled[0] = 0;
        assert_eq!(critical::<SteKind>(&stage_1, &stage_2)[2], 7);
        let expected = [in_word_0(0), filled, stage_2];
        assert_eq!(steps::<SteKind>(stage_1, stage_2), expected);
        assert_eq!(steps::<SteKind>(stage_2, stage_2), [[0; 8]; 0]);
        let context = |asid: u64, ttb| [asid << 48 | 1 << 31, ttb, 0, 0, 0, 0, 0, 0];
        let expected = [[0, 0x1000, 0, 0, 0, 0, 0, 0], [0, 0x2000, 0, 0, 0, 0, 0, 0]];
        let [invalid, filled] = expected;
        let expected = [invalid, filled, context(2, 0x2000)];
        assert_eq!(steps::<CdKind>(context(1, 0x1000), context(2, 0x2000)), expected);
    }
}

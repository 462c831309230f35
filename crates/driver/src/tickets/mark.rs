// SPDX-License-Identifier: MIT OR Apache-2.0
//! The marks of slots: that a run is complete which begins there, or that the baton lies there. One word, which whoever marks a
//! run and whoever lays the baton down there both change.

use super::{Drawn, Reached, Turn, pause};
use crate::queue::at;
use crate::sync::{AtomicU64, Ordering};

/// The mark of the first position that is not published, while somebody has the baton who took it up there.
pub(super) const HELD: u64 = 1 << 63;

/// The mark of the slot of `position`, if the baton lies there. Not what a mark is at first.
pub(super) const fn baton(position: u64) -> u64 {
    4 * position + 4
}

/// The mark of a run that ends at `position`, and of which whoever marked it has left.
pub(super) const fn filled(position: u64) -> u64 {
    4 * position + 2
}

/// The mark of a run that ends at `position`, and of which whoever marked it waits for the baton.
pub(super) const fn awaits(position: u64) -> u64 {
    4 * position + 3
}

/// Where the run that begins at `position` ends, by the mark of its slot; `None` if it is not marked yet.
#[inline]
pub(super) const fn end_in(mark: u64, position: u64) -> Option<u64> {
    if mark & 2 != 0 && mark > baton(position) { Some(mark / 4) } else { None }
}

/// Marks a run that was drawn behind others, up to `end`: whether the baton is here, or was waited for.
pub(super) fn comes_to(marks: &[AtomicU64], Drawn { start, turn }: Drawn, end: u64) -> bool {
    let Some(mark) = at(marks, start) else { return false };
    let stays = turn == Turn::Appointed;
    let complete = if stays { awaits(end) } else { filled(end) };
    // Release: whoever publishes this run for us sees its slots before it tells the SMMU. Acquire: where we have the
    // baton, we see those of others, and tell it after others have.
    if mark.swap(complete, Ordering::AcqRel) == baton(start) {
        return true;
    }
    if stays {
        receive(mark, start);
    }
    stays
}

/// Lays the baton down where it has come to, for whoever marks the run there; or for the one who has, and was appointed.
/// False if a run was marked there since its mark was seen: the caller has it still.
#[inline]
pub(super) fn lay_down(marks: &[AtomicU64], Reached { to, seen, .. }: Reached) -> bool {
    // Release: whoever takes it up tells the SMMU after we have. Where a run was marked meanwhile, it is looked at again.
    let (left, other) = (Ordering::Release, Ordering::Relaxed);
    at(marks, to).is_none_or(|mark| {
        // A load before the exchange: most that would be refused are not tried.
        mark.load(Ordering::Relaxed) == seen
            && mark.compare_exchange(seen, baton(to), left, other).is_ok()
    })
}

/// Waits until the baton lies in the mark of the run that begins at `start`, and takes it up. Whoever was appointed for that
/// has interrupts masked, as those have whom it waits for.
#[cold]
#[inline(never)]
fn receive(mark: &AtomicU64, start: u64) {
    let (taken, other) = (Ordering::Acquire, Ordering::Relaxed);
    while mark.compare_exchange(baton(start), HELD, taken, other).is_err() {
        pause();
    }
}

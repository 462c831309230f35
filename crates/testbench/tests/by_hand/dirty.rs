// SPDX-License-Identifier: MIT OR Apache-2.0
//! Marks of what was written, which are read and taken away while devices go on (§14).

use smmuv3_testbench::oracle::{PAGE, Rule};

use crate::IOVA;
use crate::driver::{Hand, INSTANCES, Layout};
use crate::judge::judge_with;

/// For each instance, which alone uses the domain: some pages that are written, then these steps, and the question
/// again. What was written in between must be told by then.
fn written(hand: &mut Hand, steps: impl Fn(&mut Hand, usize)) {
    let range = IOVA..IOVA + 4 * PAGE;
    hand.map(0, IOVA, 4);
    for instance in INSTANCES {
        hand.attach(instance, 0);
        hand.devices();
        steps(hand, instance);
        hand.devices();
        hand.harvest(0, &range, |hand| {
            let written = hand.take_marks(0, &range);
            hand.forget(instance, 0);
            hand.sync(instance);
            written
        });
        hand.detach(instance, 0);
    }
}

/// Whoever keeps a page as written marks it no more.
#[test]
fn a_page_that_was_made_clean_without_a_tlbi_is_written_unnoticed() {
    judge_with(Layout::Dirty, &[Rule::R9], &[Rule::R9], |hand| {
        let range = IOVA..IOVA + 4 * PAGE;
        written(hand, |hand, instance| {
            hand.harvest(0, &range, |hand| {
                let written = hand.take_marks(0, &range);
                if !hand.errs(instance) {
                    hand.forget(instance, 0);
                }
                hand.sync(instance);
                written
            });
        });
    });
}

#[test]
fn a_mark_that_is_made_between_look_and_store_must_not_be_overwritten() {
    judge_with(Layout::Dirty, &[Rule::R9], &[Rule::R9], |hand| {
        let range = IOVA..IOVA + 4 * PAGE;
        let clean = |hand: &mut Hand, instance: usize, errs: bool| {
            hand.harvest(0, &range, |hand| {
                let written = match errs {
                    true => hand.overwrite_marks(0, &range),
                    false => hand.take_marks(0, &range),
                };
                hand.forget(instance, 0);
                hand.sync(instance);
                written
            });
        };
        written(hand, |hand, instance| {
            // A device may have written just before the look, each time.
            for _ in 0..4 {
                clean(hand, instance, false);
                clean(hand, instance, hand.errs(instance));
            }
            // Nobody writes before they are asked for again.
            clean(hand, instance, false);
        });
    });
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! SMMUs that do not snoop, and so do not see what is not published (§2.3, COHACC).

use smmuv3_testbench::oracle::{PAGE, Rule};

use crate::driver::{Hand, INSTANCES, Layout};
use crate::judge::judge_with;
use crate::{IOVA, share, unmap_two};

fn anyone_errs(hand: &Hand) -> bool {
    INSTANCES.into_iter().any(|instance| hand.errs(instance))
}

#[test]
fn an_unmap_that_is_not_published_is_walked_again() {
    judge_with(Layout::Incoherent, &[Rule::R1], &[Rule::R1], |hand| {
        share(hand);
        hand.publishes = !anyone_errs(hand);
        unmap_two(hand, |hand, instance, range| {
            hand.publishes = true;
            hand.tlbi(instance, hand.asid(instance, 0), range, true);
            hand.sync(instance);
        });
        hand.devices();
    });
}

#[test]
fn a_map_that_is_not_published_does_not_happen() {
    judge_with(Layout::Incoherent, &[Rule::R0], &[Rule::R0], |hand| {
        share(hand);
        hand.publishes = !anyone_errs(hand);
        hand.map(0, IOVA + 8 * PAGE, 2);
        hand.publishes = true;
        hand.devices();
    });
}

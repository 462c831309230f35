// SPDX-License-Identifier: MIT OR Apache-2.0
//! Streams in EL2 with E2H: commands of EL1 are about other translations, whatever ASID they name (§4.2).

use smmuv3_testbench::oracle::{Rule, Use};

use crate::driver::{ABORT, Hand, INSTANCES, Layout, SPAN};
use crate::judge::judge_with;
use crate::{IOVA, share, unmap_two};

fn judge(inspected: &[Rule], suffered: &[Rule], sequence: impl Fn(&mut Hand)) {
    judge_with(Layout::El2, inspected, suffered, sequence);
}

#[test]
fn a_tlbi_of_el1_leaves_unmapped_memory_in_reach() {
    judge(&[Rule::R1], &[Rule::R1], |hand| {
        share(hand);
        unmap_two(hand, |hand, instance, range| {
            let asid = hand.asid(instance, 0);
            if hand.errs(instance) {
                hand.tlbi(instance, asid, range, true);
            } else {
                hand.tlbi_el2(instance, asid, range, true);
            }
            hand.sync(instance);
        });
    });
}

/// TLBI_NSNH_ALL is about all but EL2.
#[test]
fn everything_of_el1_is_nothing_of_el2() {
    judge(&[Rule::R1], &[Rule::R1], |hand| {
        share(hand);
        unmap_two(hand, |hand, instance, _| {
            if hand.errs(instance) {
                hand.tlbi_all(instance);
            } else {
                hand.tlbi_el2_all(instance);
            }
            hand.sync(instance);
        });
    });
}

#[test]
fn a_leaf_only_tlbi_leaves_walks_through_an_unlinked_table_that_is_then_freed() {
    judge(&[Rule::R3], &[Rule::R3], |hand| {
        share(hand);
        hand.unlinking(0, &(IOVA..IOVA + SPAN), |hand, table| {
            for instance in INSTANCES {
                let (asid, leaf) = (hand.asid(instance, 0), hand.errs(instance));
                hand.tlbi_el2(instance, asid, &(IOVA..IOVA + SPAN), leaf);
                hand.sync(instance);
            }
            hand.free_table(table);
        });
    });
}

#[test]
fn an_asid_that_was_flushed_in_el1_is_still_in_use_in_el2() {
    // Devices may find the old memory before the SMMU finds the contradiction.
    judge(&[Rule::R2], &[Rule::R2, Rule::R1], |hand| {
        share(hand);
        hand.map(1, IOVA, 4);
        for instance in INSTANCES {
            hand.changing(instance, Use::Blocked, |hand| {
                hand.store_entry(instance, 0, ABORT);
                hand.cfgi_ste(instance);
                hand.sync(instance);
                let asid = hand.asid(instance, 0);
                if hand.errs(instance) {
                    hand.tlbi_asid(instance, asid);
                } else {
                    hand.tlbi_el2_asid(instance, asid);
                }
                hand.sync(instance);
            });
            hand.give_asid(instance, 1, hand.asid(instance, 0));
            hand.attach(instance, 1);
        }
    });
}

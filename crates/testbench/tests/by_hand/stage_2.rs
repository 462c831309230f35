// SPDX-License-Identifier: MIT OR Apache-2.0
//! Domains with tables of stage 2, alone and below a guest's stage 1: what an unmap, a detach and a change of tables
//! must say, and that what is left out is caught (§4.2, §8.2).

use std::ops::Range;

use smmuv3_testbench::oracle::{PAGE, Rule, Use};

use crate::driver::{ABORT, Hand, INSTANCES, Layout, SPAN};
use crate::judge::judge_with;
use crate::{IOVA, ROUNDS, share, unmap_two};

const LAYOUTS: [Layout; 2] = [Layout::Stage2, Layout::Nested];

/// Everything that an unmap must say, and wait for: commands have no order without a CMD_SYNC, and what is cached of
/// stage 2 may be combined anew until it is gone (§4.2).
fn invalidate(hand: &mut Hand, instance: usize, range: &Range<u64>, leaf: bool) {
    let vmid = hand.asid(instance, 0);
    hand.tlbi_ipa(instance, vmid, range, leaf);
    hand.sync(instance);
    hand.tlbi_guest(instance, vmid);
    hand.sync(instance);
}

#[test]
fn without_a_tlbi_unmapped_memory_stays_in_reach() {
    for layout in LAYOUTS {
        judge_with(layout, &[Rule::R1], &[Rule::R1], |hand| {
            share(hand);
            unmap_two(hand, |hand, instance, range| {
                if hand.errs(instance) {
                    hand.sync(instance);
                } else {
                    invalidate(hand, instance, range, true);
                }
            });
        });
    }
}

/// Alone, TLBI_NH_ALL says nothing about intermediate addresses.
#[test]
fn commands_of_stage_1_do_not_invalidate_stage_2() {
    judge_with(Layout::Stage2, &[Rule::R1], &[Rule::R1], |hand| {
        share(hand);
        unmap_two(hand, |hand, instance, range| {
            if hand.errs(instance) {
                hand.tlbi_guest(instance, hand.asid(instance, 0));
                hand.sync(instance);
            } else {
                hand.tlbi_ipa(instance, hand.asid(instance, 0), range, true);
                hand.sync(instance);
            }
        });
    });
}

/// What is cached of both stages together is found by virtual addresses.
#[test]
fn commands_of_stage_2_alone_leave_what_is_cached_of_both() {
    judge_with(Layout::Nested, &[Rule::R1], &[Rule::R1], |hand| {
        share(hand);
        unmap_two(hand, |hand, instance, range| {
            if hand.errs(instance) {
                hand.tlbi_ipa(instance, hand.asid(instance, 0), range, true);
                hand.sync(instance);
            } else {
                invalidate(hand, instance, range, true);
            }
        });
    });
}

#[test]
fn a_tlbi_for_the_wrong_vmid_leaves_unmapped_memory_in_reach() {
    for layout in LAYOUTS {
        judge_with(layout, &[Rule::R1], &[Rule::R1], |hand| {
            share(hand);
            unmap_two(hand, |hand, instance, range| {
                let vmid = hand.asid(instance, usize::from(hand.errs(instance)));
                hand.tlbi_ipa(instance, vmid, range, true);
                hand.sync(instance);
                hand.tlbi_guest(instance, vmid);
                hand.sync(instance);
            });
        });
    }
}

/// Without a SYNC between them, the second may be done first: what it removed is put together again from what the
/// first has not removed yet.
#[test]
fn both_invalidations_of_an_unmap_in_one_go_leave_what_was_combined_between_them() {
    judge_with(Layout::Nested, &[Rule::R1], &[Rule::R1], |hand| {
        for instance in INSTANCES {
            hand.attach(instance, 0);
        }
        for round in 0..2 * ROUNDS {
            let iova = IOVA + 2 * round * PAGE;
            hand.map(0, iova, 2);
            hand.devices();
            hand.unmapping(0, &(iova..iova + 2 * PAGE), |hand, range| {
                for instance in INSTANCES {
                    if hand.errs(instance) {
                        hand.tlbi_ipa(instance, hand.asid(instance, 0), range, true);
                        hand.tlbi_guest(instance, hand.asid(instance, 0));
                        hand.consumed(instance);
                        hand.devices();
                        hand.sync(instance);
                    } else {
                        invalidate(hand, instance, range, true);
                    }
                }
            });
            hand.devices();
        }
    });
}

#[test]
fn a_leaf_only_tlbi_leaves_walks_through_an_unlinked_table_that_is_then_freed() {
    for layout in LAYOUTS {
        judge_with(layout, &[Rule::R3], &[Rule::R3], |hand| {
            share(hand);
            hand.unlinking(0, &(IOVA..IOVA + SPAN), |hand, table| {
                for instance in INSTANCES {
                    let leaf = hand.errs(instance);
                    invalidate(hand, instance, &(IOVA..IOVA + SPAN), leaf);
                }
                hand.free_table(table);
            });
        });
    }
}

#[test]
fn a_vmid_given_to_a_domain_while_the_tlb_holds_entries_of_another_is_caught() {
    for layout in LAYOUTS {
        // Devices may find the old memory before the SMMU finds the contradiction.
        judge_with(layout, &[Rule::R2], &[Rule::R2, Rule::R1], |hand| {
            share(hand);
            hand.map(1, IOVA, 4);
            for instance in INSTANCES {
                if hand.errs(instance) {
                    hand.changing(instance, Use::Blocked, |hand| {
                        hand.store_entry(instance, 0, ABORT);
                        hand.cfgi_ste(instance);
                        hand.sync(instance);
                    });
                } else {
                    hand.detach(instance, 0);
                }
                hand.give_asid(instance, 1, hand.asid(instance, 0));
                hand.attach(instance, 1);
            }
        });
    }
}

#[test]
fn a_type_that_is_changed_without_a_break_is_caught() {
    for layout in [Layout::Stage1, Layout::Stage2, Layout::Nested] {
        judge_with(layout, &[Rule::Misuse], &[Rule::Misuse], |hand| {
            share(hand);
            // Shareability needs a break; a bit for software does not.
            let wrong = INSTANCES.into_iter().any(|instance| hand.errs(instance));
            hand.change(0, IOVA + PAGE, if wrong { 1 << 8 } else { 1 << 55 });
            for instance in INSTANCES {
                hand.forget(instance, 0);
                hand.sync(instance);
            }
        });
    }
}

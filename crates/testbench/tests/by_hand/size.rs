// SPDX-License-Identifier: MIT OR Apache-2.0
//! Groups of pages that may be cached as one, and blocks that become tables: what comes before an unmap of a part, and
//! that what is left out is caught (§8.2).

use std::ops::Range;

use smmuv3_testbench::oracle::{PAGE, Rule};

use crate::IOVA;
use crate::driver::{GROUP, HINT, Hand, INSTANCES, Layout, SPAN};
use crate::judge::{judge, judge_on, with};

/// Groups that a part of is unmapped, one after the other: one may happen to be kept in pieces.
const GROUPS: u64 = 4;

fn anyone_errs(hand: &Hand) -> bool {
    INSTANCES.into_iter().any(|instance| hand.errs(instance))
}

/// Attaches both, and for each of some groups lets devices keep it, and does these steps.
fn for_groups(hand: &mut Hand, steps: impl Fn(&mut Hand, &Range<u64>)) {
    for instance in INSTANCES {
        hand.attach(instance, 0);
    }
    for nth in 0..GROUPS {
        let group = IOVA + nth * GROUP..IOVA + (nth + 1) * GROUP;
        hand.map_group(0, group.start);
        hand.devices();
        steps(hand, &group);
        hand.devices();
    }
}

/// A part of a group, with members before and after it.
fn part(group: &Range<u64>) -> Range<u64> {
    group.start + 8 * PAGE..group.start + 12 * PAGE
}

/// Tells both to forget `range`.
fn forget_range(hand: &mut Hand, range: &Range<u64>) {
    for instance in INSTANCES {
        hand.tlbi(instance, hand.asid(instance, 0), range, true);
        hand.sync(instance);
    }
}

#[test]
fn a_group_that_keeps_its_hint_keeps_what_is_unmapped_in_reach() {
    judge(&[Rule::R1], &[Rule::R1], |hand| {
        for_groups(hand, |hand, group| {
            if !anyone_errs(hand) {
                hand.change_group(0, group.start, HINT);
            }
            hand.unmapping(0, &part(group), |hand, _| forget_range(hand, group));
        });
    });
}

/// What is kept for the group may go by any of its addresses, but nobody knows by which.
#[test]
fn an_invalidation_of_a_part_of_a_group_leaves_it_in_reach() {
    judge(&[Rule::R1], &[Rule::R1], |hand| {
        for_groups(hand, |hand, group| {
            hand.change_group(0, group.start, HINT);
            hand.unmapping(0, &part(group), |hand, part| {
                for instance in INSTANCES {
                    let range = if hand.errs(instance) { part } else { group };
                    hand.tlbi(instance, hand.asid(instance, 0), range, true);
                    hand.sync(instance);
                }
            });
        });
    });
}

#[test]
fn a_member_that_alone_loses_its_hint_is_caught() {
    judge(&[Rule::Misuse], &[Rule::Misuse], |hand| {
        for_groups(hand, |hand, group| {
            if anyone_errs(hand) {
                hand.change(0, group.start + PAGE, HINT);
            } else {
                hand.change_group(0, group.start, HINT);
            }
            forget_range(hand, group);
        });
    });
}

/// At BBML 0 a change of the hint is a change of size: what is to have none is unmapped first, as a whole.
#[test]
fn a_group_that_loses_its_hint_without_a_break_is_caught_where_there_is_no_bbml() {
    let old = |machine| with(machine, "range-invalidation = false, bbml = 0");
    judge_on(Layout::Stage1, &old, &[Rule::Misuse], &[Rule::Misuse], |hand| {
        let page_by_page = |hand: &mut Hand, group: &Range<u64>| {
            for instance in INSTANCES {
                for iova in group.clone().step_by(PAGE as usize) {
                    let asid = hand.asid(instance, 0);
                    hand.tlbi(instance, asid, &(iova..iova + PAGE), true);
                }
                hand.sync(instance);
            }
        };
        for_groups(hand, |hand, group| {
            if anyone_errs(hand) {
                hand.change_group(0, group.start, HINT);
                page_by_page(hand, group);
            } else {
                hand.unmapping(0, group, page_by_page);
                hand.map(0, group.start, GROUP / PAGE);
            }
        });
    });
}

/// The block at [`IOVA`].
const BLOCK: Range<u64> = IOVA..IOVA + SPAN;

fn share_block(hand: &mut Hand) {
    hand.map_block(0, IOVA);
    for instance in INSTANCES {
        hand.attach(instance, 0);
    }
    hand.devices();
}

/// Tells both to forget all of the block, and tables in its place.
fn forget_block(hand: &mut Hand) {
    for instance in INSTANCES {
        hand.tlbi(instance, hand.asid(instance, 0), &BLOCK, false);
        hand.sync(instance);
    }
}

#[test]
fn a_block_that_becomes_a_table_unmarked_is_caught() {
    let one = |machine| with(machine, "bbml = 1");
    judge_on(Layout::Stage1, &one, &[Rule::Misuse], &[Rule::Misuse], |hand| {
        share_block(hand);
        if !anyone_errs(hand) {
            hand.mark_block(0, IOVA);
            forget_block(hand);
        }
        hand.split_block(0, IOVA);
        forget_block(hand);
    });
}

#[test]
fn a_mark_counts_only_once_the_unmarked_block_is_in_no_cache() {
    let one = |machine| with(machine, "bbml = 1");
    judge_on(Layout::Stage1, &one, &[Rule::Misuse], &[Rule::Misuse], |hand| {
        share_block(hand);
        hand.mark_block(0, IOVA);
        for instance in INSTANCES {
            if !hand.errs(instance) {
                hand.tlbi(instance, hand.asid(instance, 0), &BLOCK, true);
            }
            hand.sync(instance);
        }
        hand.split_block(0, IOVA);
        forget_block(hand);
    });
}

/// The page is there, but what is kept is the block.
#[test]
fn an_invalidation_that_names_the_level_of_pages_leaves_a_block_that_was_not_forgotten() {
    judge(&[Rule::R1], &[Rule::R1], |hand| {
        share_block(hand);
        hand.split_block(0, IOVA);
        for instance in INSTANCES {
            if !hand.errs(instance) {
                hand.tlbi(instance, hand.asid(instance, 0), &BLOCK, false);
            }
            hand.sync(instance);
        }
        hand.unmapping(0, &(IOVA + 7 * PAGE..IOVA + 8 * PAGE), |hand, range| {
            for instance in INSTANCES {
                hand.tlbi_page(instance, hand.asid(instance, 0), range.start);
                hand.sync(instance);
            }
        });
    });
}

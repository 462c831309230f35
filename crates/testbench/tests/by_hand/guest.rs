// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest changes its tables and contexts, and gives commands: what the host makes of them (§4.2).

use std::ops::Range;

use smmuv3_testbench::oracle::{PAGE, Rule, Use};

use crate::driver::{GUEST, Hand, INSTANCES, Layout};
use crate::judge::judge_with;
use crate::{IOVA, ROUNDS};

fn judge(inspected: &[Rule], suffered: &[Rule], sequence: impl Fn(&mut Hand)) {
    judge_with(Layout::Guest, inspected, suffered, sequence);
}

/// The guest has four pages, and uses them behind both instances.
fn share(hand: &mut Hand) {
    hand.map(0, IOVA, 4);
    hand.map_in_guest(&(IOVA..IOVA + 4 * PAGE));
    for instance in INSTANCES {
        hand.attach(instance, GUEST);
    }
    hand.devices();
}

/// The guest unmaps two of them, and the host does these steps for its command.
fn unmap_two(hand: &mut Hand, steps: impl Fn(&mut Hand, usize, &Range<u64>)) {
    hand.unmapping(GUEST, &(IOVA..IOVA + 2 * PAGE), |hand, range| {
        for instance in INSTANCES {
            steps(hand, instance, range);
        }
    });
}

#[test]
fn an_invalidation_that_is_not_carried_over_leaves_unmapped_memory_in_reach() {
    judge(&[Rule::R1], &[Rule::R1], |hand| {
        share(hand);
        unmap_two(hand, |hand, instance, range| {
            if !hand.errs(instance) {
                hand.forward_va(instance, hand.asid(instance, 0), range);
            }
            hand.sync(instance);
        });
    });
}

/// A guest names VMID 0, or whatever it likes.
#[test]
fn an_invalidation_under_the_vmid_that_the_guest_names_leaves_unmapped_memory_in_reach() {
    judge(&[Rule::R1], &[Rule::R1], |hand| {
        share(hand);
        unmap_two(hand, |hand, instance, range| {
            let vmid = if hand.errs(instance) { 0 } else { hand.asid(instance, 0) };
            hand.forward_va(instance, vmid, range);
            hand.sync(instance);
        });
    });
}

#[test]
fn an_invalidation_under_another_guests_vmid_leaves_unmapped_memory_in_reach() {
    judge(&[Rule::R1], &[Rule::R1], |hand| {
        share(hand);
        unmap_two(hand, |hand, instance, range| {
            let vmid = hand.asid(instance, usize::from(hand.errs(instance)));
            hand.forward_va(instance, vmid, range);
            hand.sync(instance);
        });
    });
}

/// The guest's CMD_SYNC completes as soon as the command was given.
#[test]
fn a_guests_sync_that_is_not_waited_for_may_be_early() {
    judge(&[Rule::R1], &[Rule::R1], |hand| {
        hand.map(0, IOVA, 4);
        for instance in INSTANCES {
            hand.attach(instance, GUEST);
        }
        for _ in 0..ROUNDS {
            hand.map_in_guest(&(IOVA..IOVA + 2 * PAGE));
            hand.devices();
            unmap_two(hand, |hand, instance, range| {
                hand.forward_va(instance, hand.asid(instance, 0), range);
                if hand.errs(instance) {
                    hand.consumed(instance);
                } else {
                    hand.sync(instance);
                }
            });
            hand.devices();
        }
    });
}

/// The guest makes its context invalid, and says so of its own number of the stream. Nobody uses the VMID any more.
#[test]
fn a_context_is_forgotten_by_the_hosts_number_of_the_stream() {
    judge(&[Rule::R4], &[Rule::R1], |hand| {
        share(hand);
        for instance in INSTANCES {
            hand.changing(instance, Use::Blocked, |hand| {
                hand.store_context(instance, 0, 0);
                hand.forward_cfgi_cd(instance, hand.errs(instance));
                hand.sync(instance);
                hand.forget(instance, GUEST);
                hand.sync(instance);
            });
        }
        hand.devices();
    });
}

/// The guest's device stalls; the guest answers, and once more by the same number, which the host forwards unseen. Or it
/// answers by the number of one that it was not shown.
#[test]
fn a_guests_answer_that_the_host_does_not_look_at_is_noticed() {
    for other in [0, 0x100] {
        judge(&[Rule::R9], &[Rule::R9], |hand| {
            hand.stalls = true;
            share(hand);
            unmap_two(hand, |hand, instance, range| {
                hand.forward_va(instance, hand.asid(instance, 0), range);
                hand.sync(instance);
            });
            for instance in INSTANCES {
                let stag = hand.fault(instance, IOVA + PAGE);
                hand.resume(instance, stag);
                // Its number may be that of another by then, which then has none.
                let again = if hand.errs(instance) { 4 } else { 0 };
                (0..again).for_each(|_| hand.resume(instance, stag ^ other));
                hand.sync(instance);
                hand.detach_stalling(instance, GUEST, |hand| hand.stall_term(instance));
            }
        });
    }
}

/// A guest's device goes, and what the guest was to answer is left to it.
#[test]
fn what_a_guest_never_answered_is_ended_with_its_device() {
    judge(&[Rule::R9], &[Rule::R9], |hand| {
        hand.stalls = true;
        share(hand);
        unmap_two(hand, |hand, instance, range| {
            hand.forward_va(instance, hand.asid(instance, 0), range);
            hand.sync(instance);
        });
        for instance in INSTANCES {
            hand.fault(instance, IOVA);
            hand.detach_stalling(instance, GUEST, |hand| {
                if !hand.errs(instance) {
                    hand.stall_term(instance);
                }
            });
        }
    });
}

/// Nobody reads events here: what the guest's devices are refused again would fill the queue.
#[test]
fn an_entry_of_a_guest_that_lets_no_events_be_merged_is_noticed() {
    judge(&[Rule::R9], &[Rule::R9], |hand| {
        hand.unmerged = true;
        share(hand);
        unmap_two(hand, |hand, instance, range| {
            hand.forward_va(instance, hand.asid(instance, 0), range);
            hand.sync(instance);
        });
        hand.devices();
        hand.devices();
    });
}

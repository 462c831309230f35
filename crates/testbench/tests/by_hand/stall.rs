// SPDX-License-Identifier: MIT OR Apache-2.0
//! Wrong sequences with transactions that stall (§11).

use smmuv3_testbench::oracle::{PAGE, Rule, Use};

use super::{IOVA, share, unmap_two};
use crate::driver::{ABORT, Hand, INSTANCES};
use crate::judge::judge;

/// As [`share`], but the devices stall, and two of the pages are gone.
fn share_stalling(hand: &mut Hand) {
    hand.stalls = true;
    share(hand);
    unmap_two(hand, |hand, instance, range| {
        hand.tlbi(instance, hand.asid(instance, 0), range, true);
        hand.sync(instance);
    });
}

#[test]
fn a_detach_that_ends_nothing_leaves_devices_waiting() {
    judge(&[Rule::R9], &[Rule::R9], |hand| {
        share_stalling(hand);
        for instance in INSTANCES {
            hand.fault(instance, IOVA);
            hand.detach_stalling(instance, 0, |hand| {
                if !hand.errs(instance) {
                    hand.stall_term(instance);
                }
            });
        }
    });
}

#[test]
fn an_answer_with_another_number_is_none() {
    judge(&[Rule::R9], &[Rule::R9], |hand| {
        share_stalling(hand);
        for instance in INSTANCES {
            let stag = hand.fault(instance, IOVA + PAGE);
            let wrong = if hand.errs(instance) { 0x100 } else { 0 };
            hand.resume(instance, stag ^ wrong);
            hand.sync(instance);
            hand.detach_stalling(instance, 0, |hand| hand.stall_term(instance));
        }
    });
}

#[test]
fn stall_term_comes_after_the_entry_terminates_for_sure() {
    judge(&[Rule::Misuse], &[Rule::Misuse], |hand| {
        share_stalling(hand);
        for instance in INSTANCES {
            hand.fault(instance, IOVA);
            hand.changing(instance, Use::Blocked, |hand| {
                // Its entry is cached.
                hand.fault(instance, IOVA);
                hand.store_entry(instance, 0, ABORT);
                if hand.errs(instance) {
                    hand.stall_term(instance);
                    hand.consumed(instance);
                }
                hand.cfgi_ste(instance);
                hand.sync(instance);
                hand.stall_term(instance);
                hand.forget(instance, 0);
                hand.sync(instance);
            });
        }
    });
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Devices that keep translations and ask for pages: what an unmap, a detach and an answer must say, in which order,
//! and that what is left out or too early is caught (§4.2, §8.2, §12, §13).

use std::ops::Range;

use smmuv3_testbench::oracle::{PAGE, Rule, Use};

use crate::driver::{ABORT, Hand, INSTANCES, Layout};
use crate::judge::{judge_on, judge_with};
use crate::{IOVA, ROUNDS, share, unmap_two};

fn judge(inspected: &[Rule], suffered: &[Rule], sequence: impl Fn(&mut Hand)) {
    judge_with(Layout::Devices, inspected, suffered, sequence);
}

/// Everything that an unmap must say, in its order.
fn invalidate(hand: &mut Hand, instance: usize, range: &Range<u64>) {
    hand.tlbi(instance, hand.asid(instance, 0), range, true);
    hand.sync(instance);
    hand.atc_inv(instance, range);
    hand.sync(instance);
}

/// Maps two pages, lets devices keep them, and unmaps them with these steps for each instance; often, since a device
/// may happen to keep nothing.
fn again_and_again(hand: &mut Hand, steps: impl Fn(&mut Hand, usize, &Range<u64>)) {
    for instance in INSTANCES {
        hand.attach(instance, 0);
    }
    for round in 0..ROUNDS {
        let iova = IOVA + 2 * round * PAGE;
        hand.map(0, iova, 2);
        hand.devices();
        hand.unmapping(0, &(iova..iova + 2 * PAGE), |hand, range| {
            for instance in INSTANCES {
                steps(hand, instance, range);
            }
        });
        hand.devices();
    }
}

#[test]
fn without_an_atc_inv_unmapped_memory_stays_in_reach() {
    judge(&[Rule::R1], &[Rule::R1], |hand| {
        again_and_again(hand, |hand, instance, range| {
            if hand.errs(instance) {
                hand.tlbi(instance, hand.asid(instance, 0), range, true);
                hand.sync(instance);
            } else {
                invalidate(hand, instance, range);
            }
        });
    });
}

#[test]
fn an_atc_inv_before_the_tlbi_is_complete_is_too_early() {
    // The device may ask again, and get the old answer.
    judge(&[Rule::R7], &[Rule::R7], |hand| {
        share(hand);
        unmap_two(hand, |hand, instance, range| {
            if hand.errs(instance) {
                hand.tlbi(instance, hand.asid(instance, 0), range, true);
                hand.atc_inv(instance, range);
                hand.sync(instance);
            } else {
                invalidate(hand, instance, range);
            }
        });
    });
}

/// A CMD_SYNC says nothing of commands in other queues (§2.6).
#[test]
fn an_atc_inv_in_another_queue_than_a_tlbi_without_a_sync_is_too_early() {
    judge(&[Rule::R7], &[Rule::R7], |hand| {
        for instance in INSTANCES {
            hand.enable_second_queue(instance);
        }
        again_and_again(hand, |hand, instance, range| {
            hand.tlbi(instance, hand.asid(instance, 0), range, true);
            if hand.errs(instance) {
                hand.consumed(instance);
            } else {
                hand.sync(instance);
            }
            hand.in_second_queue(instance, |hand| {
                hand.atc_inv(instance, range);
                hand.sync(instance);
            });
            hand.sync(instance);
        });
    });
}

#[test]
fn an_atc_inv_before_the_tlbi_leaves_what_the_device_asks_for_in_between() {
    judge(&[Rule::R1], &[Rule::R1], |hand| {
        again_and_again(hand, |hand, instance, range| {
            if hand.errs(instance) {
                hand.atc_inv(instance, range);
                hand.sync(instance);
                hand.tlbi(instance, hand.asid(instance, 0), range, true);
                hand.sync(instance);
            } else {
                invalidate(hand, instance, range);
            }
        });
    });
}

#[test]
fn an_atc_inv_without_a_sync_may_be_late() {
    judge(&[Rule::R1], &[Rule::R1], |hand| {
        again_and_again(hand, |hand, instance, range| {
            hand.tlbi(instance, hand.asid(instance, 0), range, true);
            hand.sync(instance);
            hand.atc_inv(instance, range);
            if hand.errs(instance) {
                hand.consumed(instance);
            } else {
                hand.sync(instance);
            }
        });
    });
}

#[test]
fn an_atc_inv_of_too_few_pages_leaves_the_others_in_reach() {
    judge(&[Rule::R1], &[Rule::R1], |hand| {
        again_and_again(hand, |hand, instance, range| {
            hand.tlbi(instance, hand.asid(instance, 0), range, true);
            hand.sync(instance);
            let half = range.start..range.start + PAGE;
            hand.atc_inv(instance, if hand.errs(instance) { &half } else { range });
            hand.sync(instance);
        });
    });
}

#[test]
fn a_device_that_is_on_before_its_stream_is_told_so() {
    judge(&[Rule::R7], &[Rule::R7], |hand| {
        hand.map(0, IOVA, 4);
        for _ in 0..ROUNDS {
            for instance in INSTANCES {
                hand.changing(instance, Use::Domain(0), |hand| {
                    let entry = hand.prepare(instance, 0);
                    if hand.errs(instance) {
                        hand.switch(instance, true);
                    }
                    hand.store_entry(instance, 0, entry.0[0]);
                    hand.cfgi_ste(instance);
                    hand.sync(instance);
                    hand.switch(instance, true);
                });
            }
            hand.devices();
            for instance in INSTANCES {
                hand.detach(instance, 0);
            }
        }
    });
}

#[test]
fn a_device_that_is_on_when_its_stream_is_blocked_is_caught() {
    // What it keeps is not accepted any more, and it is told that there is no ATS.
    judge(&[Rule::R1, Rule::R7], &[Rule::R7], |hand| {
        share(hand);
        for _ in 0..ROUNDS {
            for instance in INSTANCES {
                if hand.errs(instance) {
                    hand.changing(instance, Use::Blocked, |hand| {
                        hand.store_entry(instance, 0, ABORT);
                        hand.cfgi_ste(instance);
                        hand.sync(instance);
                        hand.forget(instance, 0);
                        hand.sync(instance);
                        hand.leave_device(instance);
                    });
                } else {
                    hand.detach(instance, 0);
                }
            }
            hand.devices();
            for instance in INSTANCES {
                hand.attach(instance, 0);
            }
        }
    });
}

#[test]
fn a_device_that_keeps_what_it_had_before_uses_it_in_its_next_domain() {
    // Off and on again, nothing left it.
    judge(&[Rule::R1], &[Rule::R1], |hand| {
        share(hand);
        hand.map(1, IOVA, 4);
        for instance in INSTANCES {
            if hand.errs(instance) {
                hand.switch(instance, false);
                hand.changing(instance, Use::Blocked, |hand| {
                    hand.store_entry(instance, 0, ABORT);
                    hand.cfgi_ste(instance);
                    hand.sync(instance);
                    hand.forget(instance, 0);
                    hand.sync(instance);
                });
            } else {
                hand.detach(instance, 0);
            }
            hand.attach(instance, 1);
        }
    });
}

#[test]
fn what_is_said_about_a_stream_after_its_detach_is_caught() {
    judge(&[Rule::R7], &[Rule::R7], |hand| {
        share(hand);
        for instance in INSTANCES {
            hand.detach(instance, 0);
            if hand.errs(instance) {
                hand.atc_inv(instance, &(IOVA..IOVA + PAGE));
                hand.sync(instance);
            }
        }
    });
}

#[test]
fn a_group_that_is_answered_twice_or_never_is_caught() {
    for twice in [false, true] {
        judge(&[Rule::R9], &[Rule::R9], |hand| {
            share(hand);
            for instance in INSTANCES {
                let index = hand.ask_for_page(instance, IOVA + 0x10_0000);
                match (hand.errs(instance), twice) {
                    (true, false) => {}
                    (false, _) => hand.respond(instance, index),
                    (true, true) => {
                        hand.respond(instance, index);
                        hand.respond(instance, index);
                    }
                }
            }
            hand.judge_answers();
        });
    }
}

#[test]
fn an_answer_without_the_pasid_that_a_device_needs_is_none() {
    let named = |machine: String| {
        let machine = machine.replace("ecmdq = 1 }", "ssid-bits = 6, ecmdq = 1 }");
        machine.replace("pri = true }", "pri = true, pasid-bits = 6, response-pasid = true }")
    };
    judge_on(Layout::Devices, &named, &[Rule::R9], &[Rule::R9], |hand| {
        share(hand);
        for instance in INSTANCES {
            let index = hand.ask_for_page_of(instance, 3, IOVA + 0x10_0000);
            if hand.errs(instance) {
                hand.respond(instance, index);
            } else {
                hand.respond_to(instance, 3, index);
            }
        }
        hand.judge_answers();
    });
}

/// The detach has answered for whoever still has the group.
#[test]
fn an_answer_after_a_detach_that_answered_is_caught() {
    judge(&[Rule::R9], &[Rule::R9], |hand| {
        share(hand);
        for instance in INSTANCES {
            let index = hand.ask_for_page(instance, IOVA + 0x10_0000);
            hand.respond(instance, index);
            hand.detach(instance, 0);
            if hand.errs(instance) {
                hand.respond(instance, index);
            }
        }
        hand.judge_answers();
    });
}

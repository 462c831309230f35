// SPDX-License-Identifier: MIT OR Apache-2.0
//! Command queues: a CMD_SYNC is about the commands of its own queue (§2.6).

use smmuv3_testbench::oracle::{PAGE, Rule, Use};

use crate::driver::{ABORT, Hand, INSTANCES, Layout};
use crate::judge::{judge_on, with};
use crate::{IOVA, ROUNDS};

fn judge(inspected: &[Rule], suffered: &[Rule], sequence: impl Fn(&mut Hand)) {
    let enhanced = |machine| with(machine, "ecmdq = 1");
    judge_on(Layout::Stage1, &enhanced, inspected, suffered, sequence);
}

/// Waits for `instance` by the queue that has the commands, or wrongly by the other one.
fn sync(hand: &mut Hand, instance: usize) {
    if hand.errs(instance) {
        hand.in_second_queue(instance, |hand| hand.sync(instance));
    } else {
        hand.sync(instance);
    }
}

#[test]
fn a_sync_in_another_queue_does_not_complete_a_tlbi() {
    judge(&[Rule::R1], &[Rule::R1], |hand| {
        for instance in INSTANCES {
            hand.enable_second_queue(instance);
            hand.attach(instance, 0);
        }
        for round in 0..ROUNDS {
            let iova = IOVA + 2 * round * PAGE;
            hand.map(0, iova, 2);
            hand.devices();
            hand.unmapping(0, &(iova..iova + 2 * PAGE), |hand, range| {
                for instance in INSTANCES {
                    hand.tlbi(instance, hand.asid(instance, 0), range, true);
                    sync(hand, instance);
                }
            });
            hand.devices();
        }
    });
}

#[test]
fn a_sync_in_another_queue_does_not_complete_a_cfgi() {
    judge(&[Rule::R4], &[Rule::R1], |hand| {
        hand.map(0, IOVA, 4);
        for instance in INSTANCES {
            hand.enable_second_queue(instance);
        }
        for _ in 0..ROUNDS {
            for instance in INSTANCES {
                hand.attach(instance, 0);
            }
            hand.devices();
            for instance in INSTANCES {
                if !hand.errs(instance) {
                    hand.detach(instance, 0);
                    continue;
                }
                hand.changing(instance, Use::Blocked, |hand| {
                    hand.store_entry(instance, 0, ABORT);
                    hand.cfgi_ste(instance);
                    hand.tlbi_asid(instance, hand.asid(instance, 0));
                    sync(hand, instance);
                });
            }
            hand.devices();
        }
    });
}

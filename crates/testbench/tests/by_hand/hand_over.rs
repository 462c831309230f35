// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a kernel can do wrongly with SMMUs that run since before it was there.

use smmuv3_testbench::oracle::{Rule, Use};

use crate::driver::{ABORT, Hand, INSTANCES};
use crate::judge::judge;
use crate::{IOVA, share};

/// ASIDs of the domains of a new kernel, which are none of the old one's.
const OTHERS: [[u16; 2]; 2] = [[0x15, 0x115], [0x16, 0x116]];

/// Devices at work, and their kernel gone.
fn crash(hand: &mut Hand) {
    share(hand);
    hand.crash(OTHERS);
}

/// Between off and on devices are refused, or reach all of memory, and afterwards nothing of what they had.
#[test]
fn starting_over_with_another_stream_table_ends_what_was_to_go_on() {
    let ended = [Rule::R0, Rule::R1];
    judge(&ended, &ended, |hand| {
        crash(hand);
        for instance in INSTANCES {
            if hand.errs(instance) {
                hand.start_over(instance);
            } else {
                hand.take_queues(instance);
            }
        }
        hand.devices();
    });
}

#[test]
fn an_asid_of_before_is_given_out_while_caches_have_it() {
    let caught = [Rule::R2, Rule::R1];
    judge(&caught, &caught, |hand| {
        crash(hand);
        for instance in INSTANCES {
            hand.take_queues(instance);
            hand.devices();
            let old = [0x05, 0x105][instance];
            hand.changing(instance, Use::Blocked, |hand| {
                hand.store_entry(instance, 0, ABORT);
                hand.cfgi_ste(instance);
                hand.sync(instance);
            });
            if !hand.errs(instance) {
                hand.tlbi_asid(instance, old);
                hand.sync(instance);
            }
            hand.give_asid(instance, 0, old);
        }
        // Where the old kernel had something else.
        hand.map(0, IOVA, 4);
        for instance in INSTANCES {
            hand.attach(instance, 0);
        }
        hand.devices();
    });
}

/// The new kernel has never told the SMMU of that entry, which knows it all the same.
#[test]
fn without_a_cfgi_a_stream_goes_on_that_was_to_be_ended() {
    judge(&[Rule::R4], &[Rule::R1], |hand| {
        crash(hand);
        for instance in INSTANCES {
            hand.take_queues(instance);
            hand.devices();
            hand.changing(instance, Use::Blocked, |hand| {
                hand.store_entry(instance, 0, ABORT);
                if !hand.errs(instance) {
                    hand.cfgi_ste(instance);
                }
                hand.sync(instance);
            });
        }
    });
}

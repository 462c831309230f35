// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an implementation does wrong (§19).

use smmuv3_testbench::oracle::{PAGE, Rule};

use crate::driver::{INSTANCES, Layout};
use crate::judge::{judge_on, with};
use crate::{IOVA, ROUNDS};

/// Whoever has to be told twice may not have heard the first time.
#[test]
fn an_invalidation_that_is_not_repeated_where_it_must_be_may_be_none() {
    let deaf = |machine| with(machine, "repeated-invalidation = true");
    judge_on(Layout::Stage1, &deaf, &[Rule::R1], &[Rule::R1], |hand| {
        hand.repeats = true;
        for instance in INSTANCES {
            hand.attach(instance, 0);
        }
        for round in 0..ROUNDS {
            let iova = IOVA + 2 * round * PAGE;
            hand.map(0, iova, 2);
            hand.devices();
            hand.unmapping(0, &(iova..iova + 2 * PAGE), |hand, range| {
                for instance in INSTANCES {
                    hand.tlbi(instance, hand.asid(instance, 0), range, true);
                    if hand.errs(instance) {
                        hand.sync_once(instance);
                    } else {
                        hand.sync(instance);
                    }
                }
            });
            hand.devices();
        }
    });
}

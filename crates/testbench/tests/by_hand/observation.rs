// SPDX-License-Identifier: MIT OR Apache-2.0
//! Questions about translations, one at a time (§2.5).

use smmuv3_testbench::oracle::{PAGE, Rule};

use crate::driver::{INSTANCES, Layout};
use crate::judge::{judge_on, with};
use crate::{IOVA, share};

#[test]
fn a_question_that_is_asked_before_the_last_one_is_answered_is_caught() {
    let asking = |machine| with(machine, "atos = true");
    judge_on(Layout::Stage1, &asking, &[Rule::Misuse], &[Rule::Misuse], |hand| {
        share(hand);
        for instance in INSTANCES {
            for iova in [IOVA, IOVA + PAGE] {
                hand.ask(instance, iova);
                if !hand.errs(instance) {
                    assert!(!hand.answered(instance).fault(), "it is mapped");
                }
            }
            hand.answered(instance);
        }
        hand.devices();
    });
}

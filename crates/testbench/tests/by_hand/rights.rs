// SPDX-License-Identifier: MIT OR Apache-2.0
//! What nobody asked for is not permitted: reads of instructions, of what was mapped for data (§16.1, §16.2).

use smmuv3_testbench::oracle::Rule;

use crate::IOVA;
use crate::driver::{INSTANCES, Layout};
use crate::judge::judge_with;

/// A domain for each instance.
#[test]
fn execution_of_data_is_caught() {
    for layout in [Layout::Stage1, Layout::Stage2] {
        judge_with(layout, &[Rule::R1], &[Rule::R1], |hand| {
            for instance in INSTANCES {
                hand.executes = hand.errs(instance);
                hand.map(instance, IOVA, 2);
                hand.attach(instance, instance);
            }
            hand.devices();
        });
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Devices of a guest that are given intermediate addresses (split-stage ATS): what they need not be told, and what they
//! must (§8.2, §12).

use std::ops::Range;

use smmuv3_testbench::oracle::{PAGE, Rule, Use};

use crate::driver::{FAR, GUEST, Hand, INSTANCES, Layout, OTHER};
use crate::judge::judge_with;
use crate::{IOVA, ROUNDS};

fn judge(inspected: &[Rule], suffered: &[Rule], sequence: impl Fn(&mut Hand)) {
    judge_with(Layout::Split, inspected, suffered, sequence);
}

/// The guest has `pages` from `iova` on, and maps them.
fn give(hand: &mut Hand, iova: u64, pages: u64) {
    hand.map(0, iova, pages);
    hand.map_in_guest(&(iova..iova + pages * PAGE));
}

/// It uses four behind both instances.
fn share(hand: &mut Hand) {
    give(hand, IOVA, 4);
    for instance in INSTANCES {
        hand.attach(instance, GUEST);
    }
    hand.devices();
}

/// What the host says when it has taken `range` from the guest; to devices nothing.
fn taken(hand: &mut Hand, instance: usize, range: &Range<u64>) {
    let vmid = hand.asid(instance, 0);
    hand.tlbi_ipa(instance, vmid, range, true);
    hand.sync(instance);
    hand.tlbi_guest(instance, vmid);
    hand.sync(instance);
}

/// With EATS = 1 a device is given physical addresses, and whoever takes it for one that has none does not tell it.
#[test]
fn a_device_that_is_given_physical_addresses_keeps_what_the_host_takes() {
    judge(&[Rule::R1], &[Rule::R1], |hand| {
        hand.physical = true;
        for instance in INSTANCES {
            hand.attach(instance, GUEST);
        }
        for round in 0..ROUNDS {
            let iova = IOVA + 2 * round * PAGE;
            give(hand, iova, 2);
            hand.devices();
            hand.unmapping(0, &(iova..iova + 2 * PAGE), |hand, range| {
                for instance in INSTANCES {
                    taken(hand, instance, range);
                }
            });
            hand.devices();
        }
    });
}

/// The device is not told, but the SMMU must be: what was translated is translated once more.
#[test]
fn without_a_tlbi_of_stage_2_what_the_host_takes_stays_in_reach_by_what_devices_keep() {
    judge(&[Rule::R1], &[Rule::R1], |hand| {
        share(hand);
        hand.unmapping(0, &(IOVA..IOVA + 2 * PAGE), |hand, range| {
            for instance in INSTANCES {
                if hand.errs(instance) {
                    hand.tlbi_guest(instance, hand.asid(instance, 0));
                    hand.sync(instance);
                } else {
                    taken(hand, instance, range);
                }
            }
        });
        hand.devices();
    });
}

#[test]
fn what_the_guest_unmaps_devices_are_told_to_forget() {
    judge(&[Rule::R1], &[Rule::R1], |hand| {
        share(hand);
        hand.unmapping(GUEST, &(IOVA..IOVA + 2 * PAGE), |hand, range| {
            for instance in INSTANCES {
                hand.forward_va(instance, hand.asid(instance, 0), range);
                hand.sync(instance);
                if !hand.errs(instance) {
                    hand.atc_inv(instance, range);
                    hand.sync(instance);
                }
            }
        });
        hand.devices();
    });
}

/// Another space of the guest, in which nothing is mapped, over the same stage 2.
#[test]
fn a_device_that_keeps_what_the_guests_former_entry_led_to_is_caught() {
    judge(&[Rule::R1], &[Rule::R1], |hand| {
        share(hand);
        for instance in INSTANCES {
            hand.changing(instance, Use::Domain(OTHER), |hand| {
                hand.replace_entry(instance, OTHER);
                if !hand.errs(instance) {
                    hand.forget_device(instance);
                    hand.sync(instance);
                }
            });
        }
        hand.devices();
    });
}

/// Addresses of one stage 2 are others in another: the second guest has memory there that it has not mapped for its device.
#[test]
fn a_device_that_forgets_only_after_another_stage_2_came_reaches_what_nobody_mapped_for_it() {
    judge(&[Rule::R1], &[Rule::R1], |hand| {
        share(hand);
        hand.map(1, IOVA, 4);
        for instance in INSTANCES {
            hand.changing(instance, Use::Domain(FAR), |hand| {
                let late = hand.errs(instance);
                if !late {
                    hand.leave_device(instance);
                }
                hand.replace_entry(instance, FAR);
                if late {
                    hand.forget_device(instance);
                    hand.sync(instance);
                }
                hand.forget(instance, GUEST);
                hand.sync(instance);
                hand.switch(instance, true);
            });
        }
    });
}

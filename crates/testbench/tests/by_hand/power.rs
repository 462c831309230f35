// SPDX-License-Identifier: MIT OR Apache-2.0
//! SMMUs that sleep, and streams that must work while one is taken into use (§2.4, §17.1, §17.4).

use std::ops::Range;

use smmuv3::{Access, Caching, Overrides, Sharing};
use smmuv3_formats::Ste;
use smmuv3_formats::register::Gbpa;
use smmuv3_formats::ste::config;
use smmuv3_testbench::oracle::{PAGE, Rule, Use};

use crate::driver::{ABORT, Hand, INSTANCES, Layout};
use crate::judge::{judge, judge_on, with};
use crate::{IOVA, ROUNDS};

/// Pages that go while an instance sleeps, or is about to.
const PAGES: u64 = 8;

/// Domains with pages for each instance to miss.
fn share_many(hand: &mut Hand) {
    hand.map(0, IOVA, 2 * PAGES + 2);
    for instance in INSTANCES {
        hand.attach(instance, 0);
    }
    hand.devices();
}

/// Those that go on account of `instance`.
fn of(instance: usize) -> Range<u64> {
    let first = IOVA + instance as u64 * PAGES * PAGE;
    first..first + PAGES * PAGE
}

/// Tells `instance` that they are gone.
fn tell(hand: &mut Hand, instance: usize, range: &Range<u64>) {
    hand.tlbi(instance, hand.asid(instance, 0), range, true);
    hand.sync(instance);
}

/// Caches may hold anything when the power comes back, also what was there before.
#[test]
fn an_smmu_that_wakes_with_full_caches_leads_to_what_was_unmapped_while_it_slept() {
    judge(&[Rule::R1], &[Rule::R1], |hand| {
        share_many(hand);
        for instance in INSTANCES {
            hand.sleep(instance);
            hand.unmapping(0, &of(instance), |hand, range| tell(hand, 1 - instance, range));
            hand.wake(instance, !hand.errs(instance));
            hand.devices();
        }
    });
}

#[test]
fn an_smmu_that_is_about_to_sleep_is_told_as_long_as_it_translates() {
    judge(&[Rule::R1], &[Rule::R1], |hand| {
        share_many(hand);
        for instance in INSTANCES {
            hand.suspending(instance);
            hand.unmapping(0, &of(instance), |hand, range| {
                tell(hand, 1 - instance, range);
                if !hand.errs(instance) {
                    tell(hand, instance, range);
                }
            });
            hand.devices();
            hand.sleep(instance);
            hand.wake(instance, true);
        }
    });
}

/// A message that is on its way when CMDQEN becomes 0 is written all the same (§2.4): only a later CMD_SYNC says that it is
/// there (§4.2).
#[test]
fn memory_of_a_message_that_may_be_on_its_way_is_freed_too_early() {
    let messages = |machine| with(machine, "msi = true");
    judge_on(Layout::Stage1, &messages, &[Rule::R3], &[Rule::R3], |hand| {
        // It may be there by the time that the queue is off.
        for _ in 0..3 * ROUNDS {
            for instance in INSTANCES {
                let page = hand.take_page();
                hand.halt_behind_a_message(instance, page, !hand.errs(instance));
                hand.free_table(page);
                hand.wake_anew(instance);
            }
        }
    });
}

/// From the write of CR0 on (§2.4).
#[test]
fn memory_that_an_smmu_may_read_as_it_is_turned_on_is_freed_too_late() {
    judge(&[Rule::R3], &[Rule::R3], |hand| {
        share_many(hand);
        for instance in INSTANCES {
            hand.suspending(instance);
            hand.set_abort(instance, true);
            hand.off(instance);
            if hand.errs(instance) {
                hand.begin_on(instance);
            }
            hand.free_context(instance);
            hand.changing(instance, Use::Blocked, |hand| {
                hand.store_entry(instance, 0, ABORT);
                hand.cfgi_ste(instance);
                hand.forget(instance, 0);
                hand.sync(instance);
            });
            hand.is_on(instance);
        }
    });
}

/// Lets the master behind `instance` work as firmware left it: everything passes, through the entry, and while the
/// instance is off.
fn work(hand: &mut Hand, instance: usize) -> Ste {
    let bypass = Ste::default().with_v(true).with_config(config::BYPASS).with_sh_cfg(1);
    hand.changing(instance, Use::Identity, |hand| {
        for index in [1, 0] {
            hand.store_entry(instance, index, bypass.0[index as usize]);
            hand.cfgi_ste(instance);
            hand.sync(instance);
        }
    });
    hand.map(1, IOVA, 2);
    hand.devices();
    hand.off(instance);
    hand.devices();
    bypass
}

/// §5.2: ALLOCCFG, PRIVCFG and INSTCFG of an entry by which nothing is translated.
#[test]
fn an_identity_entry_says_nothing_that_nobody_asked_for() {
    let machine = |machine| with(machine, "type-overrides = true, permission-overrides = true");
    let right = Ste::default().with_v(true).with_config(config::BYPASS).with_sh_cfg(1);
    for wrong in [right.with_alloc_cfg(0b1000), right.with_priv_cfg(3), right.with_inst_cfg(3)] {
        judge_on(Layout::Stage1, &machine, &[Rule::R0], &[Rule::R0], |hand| {
            for instance in INSTANCES {
                let entry = if hand.errs(instance) { wrong } else { right };
                hand.changing(instance, Use::Identity, |hand| {
                    for index in [1, 0] {
                        hand.store_entry(instance, index, entry.0[index as usize]);
                        hand.cfgi_ste(instance);
                        hand.sync(instance);
                    }
                });
            }
            hand.map(1, IOVA, 16);
        });
    }
}

#[test]
fn a_stream_that_is_blocked_until_its_owner_comes_loses_what_it_writes() {
    judge(&[Rule::R0], &[Rule::R0], |hand| {
        for instance in INSTANCES {
            let bypass = work(hand, instance);
            if hand.errs(instance) {
                hand.store_entry(instance, 0, ABORT);
                hand.cfgi_ste(instance);
                hand.sync(instance);
            }
            hand.on(instance);
            hand.devices();
            hand.store_entry(instance, 0, bypass.0[0]);
            hand.cfgi_ste(instance);
            hand.sync(instance);
        }
    });
}

#[test]
fn gbpa_must_not_abort_in_between() {
    judge(&[Rule::R0], &[Rule::R0], |hand| {
        for instance in INSTANCES {
            work(hand, instance);
            if hand.errs(instance) {
                hand.set_abort(instance, true);
            }
            hand.devices();
            hand.on(instance);
        }
    });
}

/// §2.4: without MTCFG, MemAttr says nothing; without INSTCFG reads are for what the device says.
#[test]
fn what_passes_while_an_smmu_is_off_has_the_attributes_that_were_asked_for() {
    let machine = |machine| with(machine, "type-overrides = true, permission-overrides = true");
    let overrides = Overrides::NONE.with_memory(Caching::DeviceNgnre).with_sharing(Sharing::Inner);
    let overrides = overrides.with_allocation(true, false, false).with_access(Access::Data);
    let right = Gbpa::default().with_mem_attr(0b0001).with_mt_cfg(true).with_sh_cfg(3);
    let right = right.with_alloc_cfg(0b1100).with_inst_cfg(2);
    for wrong in [
        right.with_mt_cfg(false),
        right.with_mt_cfg(false).with_sh_cfg(1),
        right.with_alloc_cfg(0b0100),
        right.with_inst_cfg(0),
        right.with_priv_cfg(3),
    ] {
        judge_on(Layout::Stage1, &machine, &[Rule::R0], &[Rule::R0], |hand| {
            for instance in INSTANCES {
                let gbpa = if hand.errs(instance) { wrong } else { right };
                hand.let_pass(instance, &overrides, gbpa);
            }
        });
    }
    // Nobody asked for that.
    judge(&[Rule::R1], &[Rule::R1], |hand| {
        for instance in INSTANCES {
            hand.suspending(instance);
            hand.set_abort(instance, !hand.errs(instance));
            hand.off(instance);
            hand.is_off(instance);
        }
    });
}

#[test]
fn memory_of_an_smmu_that_is_on_is_not_freed() {
    judge(&[Rule::R3], &[Rule::R3], |hand| {
        share_many(hand);
        for instance in INSTANCES {
            if hand.errs(instance) {
                hand.free_memory(instance);
                hand.halt(instance);
            } else {
                hand.halt(instance);
                hand.free_memory(instance);
            }
        }
    });
}

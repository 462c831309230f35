// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every wrong sequence of stores and commands is caught, and the right one beside it is not: the SMMUs are
//! driven by hand, without the driver, so that it is the model and the oracle that are tested.

mod coherence;
mod devices;
mod dirty;
mod driver;
mod el2;
mod guest;
mod hand_over;
mod instance;
mod judge;
mod observation;
mod power;
mod queues;
mod rights;
mod size;
mod split;
mod stage_2;
mod stall;

use smmuv3_formats::Ste;
use smmuv3_formats::ste::config;
use smmuv3_testbench::oracle::{PAGE, Rule, Use};

use driver::{ABORT, Hand, INSTANCES, NARROW, SPAN, WIDE};
use judge::judge;

/// Where pages are mapped.
const IOVA: u64 = 0x4000_0000;
/// How often a mistake is made of which hardware takes advantage only at times.
const ROUNDS: u64 = 12;

/// One domain used behind both instances, with some pages that devices have accessed.
fn share(hand: &mut Hand) {
    hand.map(0, IOVA, 4);
    for instance in INSTANCES {
        hand.attach(instance, 0);
    }
    hand.devices();
}

/// Unmaps two of the pages of [`share`], with these steps for each instance.
fn unmap_two(hand: &mut Hand, steps: impl Fn(&mut Hand, usize, &std::ops::Range<u64>)) {
    hand.unmapping(0, &(IOVA..IOVA + 2 * PAGE), |hand, range| {
        for instance in INSTANCES {
            steps(hand, instance, range);
        }
    });
}

#[test]
fn a_cfgi_before_the_entry_is_written_keeps_the_stream_blocked() {
    judge(&[Rule::R4], &[Rule::R0], |hand| {
        hand.map(0, IOVA, 1);
        for instance in INSTANCES {
            hand.changing(instance, Use::Domain(0), |hand| {
                let entry = hand.prepare(instance, 0);
                if hand.errs(instance) {
                    hand.cfgi_ste(instance);
                    hand.sync(instance);
                    hand.store_entry(instance, 0, entry.0[0]);
                } else {
                    hand.store_entry(instance, 0, entry.0[0]);
                    hand.cfgi_ste(instance);
                    hand.sync(instance);
                }
            });
        }
    });
}

#[test]
fn a_cfgi_before_the_entry_is_blocked_leaves_the_domain_in_reach() {
    judge(&[Rule::R4], &[Rule::R1], |hand| {
        share(hand);
        for instance in INSTANCES {
            hand.changing(instance, Use::Blocked, |hand| {
                if hand.errs(instance) {
                    hand.cfgi_ste(instance);
                    hand.sync(instance);
                    hand.store_entry(instance, 0, ABORT);
                } else {
                    hand.store_entry(instance, 0, ABORT);
                    hand.cfgi_ste(instance);
                    hand.sync(instance);
                }
                hand.tlbi_asid(instance, hand.asid(instance, 0));
                hand.sync(instance);
            });
        }
    });
}

#[test]
fn without_a_cfgi_an_attached_stream_stays_blocked() {
    judge(&[Rule::R4], &[Rule::R0], |hand| {
        hand.map(0, IOVA, 1);
        for instance in INSTANCES {
            hand.changing(instance, Use::Domain(0), |hand| {
                let entry = hand.prepare(instance, 0);
                hand.store_entry(instance, 0, entry.0[0]);
                if !hand.errs(instance) {
                    hand.cfgi_ste(instance);
                }
                hand.sync(instance);
            });
        }
    });
}

#[test]
fn without_a_cfgi_a_detached_stream_still_reaches_its_domain() {
    judge(&[Rule::R4], &[Rule::R1], |hand| {
        share(hand);
        for instance in INSTANCES {
            hand.changing(instance, Use::Blocked, |hand| {
                hand.store_entry(instance, 0, ABORT);
                if !hand.errs(instance) {
                    hand.cfgi_ste(instance);
                }
                hand.sync(instance);
                hand.tlbi_asid(instance, hand.asid(instance, 0));
                hand.sync(instance);
            });
        }
    });
}

/// The streams are 5 and 9: of the first 4, or 8, neither is one of that instance's.
#[test]
fn a_range_of_streams_that_is_too_small_leaves_an_entry_behind() {
    judge(&[Rule::R4], &[Rule::R1], |hand| {
        share(hand);
        for instance in INSTANCES {
            let right = if instance == NARROW { 3 } else { 4 };
            hand.changing(instance, Use::Blocked, |hand| {
                hand.store_entry(instance, 0, ABORT);
                hand.cfgi_first(instance, if hand.errs(instance) { right - 1 } else { right });
                hand.sync(instance);
                hand.tlbi_asid(instance, hand.asid(instance, 0));
                hand.sync(instance);
            });
        }
    });
}

#[test]
fn without_a_tlbi_unmapped_memory_stays_in_reach() {
    judge(&[Rule::R1], &[Rule::R1], |hand| {
        share(hand);
        unmap_two(hand, |hand, instance, range| {
            if !hand.errs(instance) {
                hand.tlbi(instance, hand.asid(instance, 0), range, true);
            }
            hand.sync(instance);
        });
    });
}

#[test]
fn a_tlbi_for_the_wrong_asid_leaves_unmapped_memory_in_reach() {
    judge(&[Rule::R1], &[Rule::R1], |hand| {
        share(hand);
        unmap_two(hand, |hand, instance, range| {
            let domain = if hand.errs(instance) { 1 } else { 0 };
            hand.tlbi(instance, hand.asid(instance, domain), range, true);
            hand.sync(instance);
        });
    });
}

/// On the narrow instance the ASID of the wide one does not exist, which is an error of its own.
#[test]
fn a_tlbi_for_the_asid_of_the_other_instance_is_caught_on_either() {
    judge(&[Rule::R1, Rule::R2], &[Rule::R1, Rule::R2], |hand| {
        assert!(hand.asid(NARROW, 0) <= 0xff && hand.asid(WIDE, 0) > 0xff);
        share(hand);
        unmap_two(hand, |hand, instance, range| {
            let tagged = if hand.errs(instance) { 1 - instance } else { instance };
            hand.tlbi(instance, hand.asid(tagged, 0), range, true);
            hand.sync(instance);
        });
    });
}

#[test]
fn an_instance_that_is_never_invalidated_keeps_unmapped_memory_in_reach() {
    judge(&[Rule::R1], &[Rule::R1], |hand| {
        share(hand);
        unmap_two(hand, |hand, instance, range| {
            if !hand.errs(instance) {
                hand.tlbi(instance, hand.asid(instance, 0), range, true);
                hand.sync(instance);
            }
        });
    });
}

#[test]
fn a_table_freed_before_the_sync_can_still_be_walked() {
    judge(&[Rule::R3], &[Rule::R3], |hand| {
        for instance in INSTANCES {
            hand.attach(instance, 0);
        }
        for _ in 0..ROUNDS {
            hand.map(0, IOVA, 2);
            hand.devices();
            hand.unlinking(0, &(IOVA..IOVA + SPAN), |hand, table| {
                for instance in INSTANCES {
                    hand.tlbi(instance, hand.asid(instance, 0), &(IOVA..IOVA + SPAN), false);
                    if !hand.errs(instance) {
                        hand.sync(instance);
                    }
                }
                hand.free_table(table);
                for instance in INSTANCES {
                    hand.sync(instance);
                }
            });
        }
    });
}

/// Config alone, in one word, says that nothing passes (§5.2): an entry that is invalid on the way there has devices'
/// accesses recorded as errors of the entry (C_BAD_STE, §10.2).
#[test]
fn an_entry_that_is_invalid_on_its_way_to_blocked_is_an_error_that_need_not_be() {
    judge(&[Rule::R4], &[Rule::R4], |hand| {
        share(hand);
        for _ in 0..ROUNDS {
            for instance in INSTANCES {
                hand.needs_no_gap(instance);
                hand.changing(instance, Use::Blocked, |hand| {
                    for word in [0, ABORT].into_iter().skip(usize::from(!hand.errs(instance))) {
                        hand.store_entry(instance, 0, word);
                        hand.cfgi_ste(instance);
                        hand.sync(instance);
                    }
                    hand.tlbi_asid(instance, hand.asid(instance, 0));
                    hand.sync(instance);
                });
                hand.attach(instance, 0);
            }
        }
    });
}

#[test]
fn a_valid_entry_rewritten_word_by_word_is_a_mixture() {
    judge(&[Rule::R4], &[Rule::R4], |hand| {
        share(hand);
        let bypass = Ste::default().with_v(true).with_config(config::BYPASS).with_sh_cfg(1);
        for instance in INSTANCES {
            hand.changing(instance, Use::Identity, |hand| {
                if hand.errs(instance) {
                    for (index, word) in (0..).zip(bypass.0) {
                        hand.store_entry(instance, index, word);
                    }
                    hand.cfgi_ste(instance);
                    hand.sync(instance);
                } else {
                    // What stage 1 does not look at, the switch, and what bypass does not look at.
                    let both = hand.entry(instance).0[1] | bypass.0[1];
                    for (index, word) in [(1, both), (0, bypass.0[0]), (1, bypass.0[1])] {
                        hand.store_entry(instance, index, word);
                        hand.cfgi_ste(instance);
                        hand.sync(instance);
                    }
                }
                hand.tlbi_asid(instance, hand.asid(instance, 0));
                hand.sync(instance);
            });
        }
    });
}

/// Hardware could read the new ASID and the old tables, and give one tag to both domains.
#[test]
fn a_valid_context_rewritten_word_by_word_is_a_mixture() {
    judge(&[Rule::R4], &[Rule::R4], |hand| {
        share(hand);
        hand.map(1, IOVA, 4);
        for instance in INSTANCES {
            hand.changing(instance, Use::Domain(1), |hand| {
                let new = hand.context(instance, 1).0;
                if hand.errs(instance) {
                    hand.store_context(instance, 0, new[0]);
                    hand.store_context(instance, 1, new[1]);
                    hand.cfgi_cd(instance);
                    hand.sync(instance);
                } else {
                    for (index, word) in [(0, 0), (1, new[1]), (0, new[0])] {
                        hand.store_context(instance, index, word);
                        hand.cfgi_cd(instance);
                        hand.sync(instance);
                    }
                }
                hand.tlbi_asid(instance, hand.asid(instance, 0));
                hand.sync(instance);
            });
        }
    });
}

#[test]
fn a_tlbi_without_a_sync_may_be_late() {
    judge(&[Rule::R1], &[Rule::R1], |hand| {
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
                        hand.consumed(instance);
                    } else {
                        hand.sync(instance);
                    }
                }
            });
            hand.devices();
        }
    });
}

#[test]
fn a_cfgi_without_a_sync_may_be_late() {
    judge(&[Rule::R4], &[Rule::R1], |hand| {
        share(hand);
        for _ in 0..ROUNDS {
            for instance in INSTANCES {
                if hand.errs(instance) {
                    hand.changing(instance, Use::Blocked, |hand| {
                        hand.store_entry(instance, 0, ABORT);
                        hand.cfgi_ste(instance);
                        hand.tlbi_asid(instance, hand.asid(instance, 0));
                        hand.consumed(instance);
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
fn an_asid_given_to_a_domain_while_the_tlb_holds_entries_of_another_is_caught() {
    // Devices may find the old memory before the SMMU finds the contradiction.
    judge(&[Rule::R2], &[Rule::R2, Rule::R1], |hand| {
        share(hand);
        hand.map(1, IOVA, 4);
        for instance in INSTANCES {
            if hand.errs(instance) {
                hand.changing(instance, Use::Blocked, |hand| {
                    hand.store_entry(instance, 0, ABORT);
                    hand.cfgi_ste(instance);
                    hand.sync(instance);
                });
            } else {
                hand.detach(instance, 0);
            }
            hand.give_asid(instance, 1, hand.asid(instance, 0));
            hand.attach(instance, 1);
        }
    });
}

#[test]
fn a_leaf_only_tlbi_leaves_walks_through_an_unlinked_table_that_is_then_freed() {
    judge(&[Rule::R3], &[Rule::R3], |hand| {
        share(hand);
        hand.unlinking(0, &(IOVA..IOVA + SPAN), |hand, table| {
            for instance in INSTANCES {
                let leaf = hand.errs(instance);
                hand.tlbi(instance, hand.asid(instance, 0), &(IOVA..IOVA + SPAN), leaf);
                hand.sync(instance);
            }
            hand.free_table(table);
        });
    });
}

/// The old table still says what it said.
#[test]
fn a_leaf_only_tlbi_leaves_memory_in_reach_through_an_unlinked_table_that_is_kept() {
    judge(&[Rule::R1], &[Rule::R1], |hand| {
        share(hand);
        hand.unlinking(0, &(IOVA..IOVA + SPAN), |hand, _| {
            for instance in INSTANCES {
                let leaf = hand.errs(instance);
                hand.tlbi(instance, hand.asid(instance, 0), &(IOVA..IOVA + SPAN), leaf);
                hand.sync(instance);
            }
        });
    });
}

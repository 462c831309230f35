// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the oracle expects, and what it accuses of.

use super::*;

fn oracle() -> Oracle {
    let mut oracle = Oracle::new(1);
    oracle.add_domain(0x1000);
    oracle.add_domain(0x2000);
    oracle.add_master(0, vec![7]);
    oracle.attach_begins(0, Use::Domain(0));
    oracle.attach_ends(0, true);
    oracle.map_begins(0, 0x10000..0x12000, 0x8000_0000, false);
    oracle.map_ends(0, 0x10000..0x12000, true);
    oracle
}

fn broken(oracle: &Oracle) -> Option<Rule> {
    oracle.violation().map(|violation| violation.rule)
}

#[test]
fn a_mapped_page_must_be_reached_where_it_leads() {
    let mut oracle = oracle();
    oracle.reached(0, 0x11010, false, 0x8000_1010, "a");
    assert_eq!(broken(&oracle), None);
    oracle.refused(0, 0x11010, false, "a");
    assert_eq!(broken(&oracle), Some(Rule::R0));
}

#[test]
fn an_unmapped_or_forbidden_page_must_be_refused() {
    let mut oracle = oracle();
    oracle.refused(0, 0x12000, false, "a");
    oracle.refused(0, 0x10000, true, "a");
    assert_eq!(broken(&oracle), None);
    oracle.reached(0, 0x10000, true, 0x8000_0000, "a");
    assert_eq!(broken(&oracle), Some(Rule::R1));
}

#[test]
fn while_something_changes_both_sides_are_right_and_afterwards_one() {
    let mut oracle = oracle();
    oracle.unmap_begins(0, 0x10000..0x11000);
    oracle.reached(0, 0x10000, false, 0x8000_0000, "a");
    oracle.refused(0, 0x10000, false, "a");
    assert_eq!(broken(&oracle), None);
    oracle.unmap_ends(0, 0x10000..0x11000, true);
    assert_eq!(oracle.gone(0, 0..u64::MAX).next(), Some((0x10000, 0x8000_0000)));
    oracle.reached(0, 0x10000, false, 0x8000_0000, "a");
    assert_eq!(broken(&oracle), Some(Rule::R1));

    let mut oracle = self::oracle();
    oracle.attach_begins(0, Use::Domain(1));
    oracle.reached(0, 0x10000, false, 0x8000_0000, "a");
    oracle.refused(0, 0x10000, false, "a");
    oracle.attach_ends(0, true);
    oracle.refused(0, 0x10000, false, "a");
    assert_eq!(broken(&oracle), None);
    oracle.reached(0, 0x10000, false, 0x8000_0000, "a");
    assert_eq!(broken(&oracle), Some(Rule::R1));
}

#[test]
fn events_must_be_reported_once_in_order_and_completely() {
    let event = |id| EventRecord::default().with_id(id);
    let mut oracle = oracle();
    oracle.recorded(0, event(0x10));
    oracle.recorded(0, event(0x13));
    oracle.reported(0, event(0x10));
    oracle.reported(0, event(0x13));
    oracle.all_reported(0);
    assert_eq!(broken(&oracle), None);
    oracle.recorded(0, event(0x10));
    oracle.all_reported(0);
    assert_eq!(broken(&oracle), Some(Rule::R9));
    let mut oracle = self::oracle();
    oracle.lost(0);
    oracle.reported_loss(0);
    oracle.all_reported(0);
    assert_eq!(broken(&oracle), None);
    oracle.reported(0, event(0x10));
    assert_eq!(broken(&oracle), Some(Rule::R9));
}

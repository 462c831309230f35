// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the oracle expects, and what it accuses of.

use smmuv3::{Lost, Overrides};
use smmuv3_formats::{EventId, EventRecord, PageRequest};

use super::*;
use crate::scenario::Substream;

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
    oracle.reported(0, event(0x10));
    assert_eq!(broken(&oracle), Some(Rule::R9));
}

/// The queue has two records, is full, and has a third after that; whether this is an account of what was lost.
fn told(lost: &[Lost]) -> bool {
    let event = |id| EventRecord::default().with_id(id);
    let mut oracle = oracle();
    oracle.recorded(0, event(0x10));
    oracle.recorded(0, event(0x11));
    oracle.lost(0, false);
    oracle.recorded(0, event(0x12));
    lost.iter().for_each(|lost| oracle.reported_loss(0, *lost));
    let first = 0x13 - oracle.unread(0) as u64;
    for id in first..0x13 {
        let _ = oracle.reported(0, event(id));
    }
    oracle.all_reported(0);
    broken(&oracle).is_none()
}

#[test]
fn a_loss_must_be_reported_once_and_where_it_was() {
    let overflow = |among| Lost::Overflow { among };
    assert!(!told(&[]), "nobody is told");
    assert!(told(&[overflow(2)]) && told(&[overflow(3)]));
    assert!(!told(&[overflow(1)]), "it came after two");
    assert!(!told(&[overflow(4)]), "there are three");
    assert!(!told(&[overflow(3), overflow(3)]), "it was one");
    assert!(!told(&[Lost::Aborted, overflow(3)]), "the queue could be written");
    let reset = |unread, overflow| Lost::Reset { unread, overflow };
    assert!(told(&[reset(3, true)]) && told(&[reset(2, true)]));
    assert!(!told(&[reset(3, false)]) && !told(&[reset(4, true)]));
    // It was in the queue of after the reset.
    assert!(told(&[reset(1, false), overflow(1)]));
    assert!(!told(&[reset(1, true), overflow(1)]));
}

/// It is told before what came later.
#[test]
fn a_loss_is_no_later_than_the_record_behind_it() {
    let event = |id| EventRecord::default().with_id(id);
    for late in [false, true] {
        let mut oracle = oracle();
        oracle.recorded(0, event(0x10));
        oracle.lost(0, false);
        oracle.recorded(0, event(0x11));
        oracle.reported(0, event(0x10));
        if late {
            oracle.reported(0, event(0x11));
        }
        oracle.reported_loss(0, Lost::Overflow { among: 0 });
        assert_eq!(broken(&oracle), late.then_some(Rule::R9));
    }
}

#[test]
fn what_could_not_be_written_is_told_as_often() {
    for (times, right) in [(0, false), (1, true), (2, false)] {
        let mut oracle = oracle();
        oracle.lost(0, true);
        (0..times).for_each(|_| oracle.reported_loss(0, Lost::Aborted));
        oracle.all_reported(0);
        assert_eq!(broken(&oracle).is_none(), right);
    }
}

#[test]
fn an_overflow_of_page_requests_is_reported_only_where_there_was_one() {
    let request = PageRequest::default().with_sid(7).with_read(true).with_prg_index(1);
    let told = |lost: u64, begun: &[usize]| {
        let mut oracle = oracle();
        oracle.asked(0, request, true);
        (0..lost).for_each(|_| oracle.lost_requests(0, false));
        begun.iter().for_each(|begun| oracle.reported_overflow(0, *begun));
        broken(&oracle).is_none()
    };
    assert!(told(1, &[1]) && told(1, &[0]) && told(2, &[1, 0]));
    assert!(!told(0, &[1]) && !told(1, &[1, 0]));
    assert!(!told(1, &[2]), "one group had begun");
    let told = |aborted, reset, overflow| {
        let mut oracle = oracle();
        oracle.lost_requests(0, aborted);
        oracle.reported_requests_lost(0, reset, overflow);
        broken(&oracle).is_none()
    };
    assert!(told(true, false, true) && told(true, true, true) && told(false, true, true));
    assert!(told(false, true, false), "that was after the reset");
    assert!(!told(false, false, true), "the queue could be written");
}

/// A master with 8 bits of substreams in leaves of 64, which uses domain 0 with PASID 3 and process 0, which has
/// PASID 70, after domain 0 and 1.
fn sharing() -> Oracle {
    let mut oracle = Oracle::new(1);
    oracle.add_domain(0x1000);
    oracle.add_domain(0x2000);
    oracle.add_process(0x3000, 70);
    oracle.add_pasid(3);
    oracle.add_master_with(0, vec![7], Contexts::new(8, true));
    for (substream, to) in [(3, Use::Domain(0)), (70, Use::Process(0))] {
        let user = User { master: 0, substream: Some(substream) };
        oracle.attach_begins(user, to);
        oracle.attach_ends(user, true);
    }
    for (space, pa) in [(0, 0x8000_0000), (1, 0x9000_0000), (2, 0xa000_0000)] {
        oracle.map_begins(space, 0x10000..0x11000, pa, true);
        oracle.map_ends(space, 0x10000..0x11000, true);
    }
    oracle
}

fn with(substream: u32) -> User {
    User { master: 0, substream: Some(substream) }
}

/// Where an access at what is mapped goes, or how it is refused.
fn fate(oracle: &Oracle, user: impl Into<User>) -> Result<u64, Refused> {
    let Expected { reach, refused } = oracle.expected(user, 0x10000, false);
    match refused {
        Some(refused) => Err(refused),
        None => Ok(reach[0]),
    }
}

const fn event(event: EventId) -> Result<u64, Refused> {
    Err(Refused::With(event))
}

#[test]
fn each_substream_has_its_own_space_and_the_rest_is_refused_as_tables_say() {
    let mut oracle = sharing();
    assert_eq!(fate(&oracle, with(3)), Ok(0x8000_0000));
    assert_eq!(fate(&oracle, with(70)), Ok(0xa000_0000));
    // No context there; no leaf there; no table there.
    assert_eq!(fate(&oracle, with(4)), event(EventId::CBadCd));
    assert_eq!(fate(&oracle, with(0)), event(EventId::CBadCd));
    assert_eq!(fate(&oracle, with(130)), event(EventId::CBadSubstreamId));
    assert_eq!(fate(&oracle, with(256)), event(EventId::CBadSubstreamId));
    // Without a substream (S1DSS = 0, 1, 2).
    assert_eq!(fate(&oracle, 0), event(EventId::FStreamDisabled));
    oracle.attach_begins(0, Use::Identity);
    oracle.attach_ends(0, true);
    assert_eq!(fate(&oracle, 0), Ok(0x10000));
    assert_eq!(fate(&oracle, with(0)), event(EventId::CBadCd));
    oracle.attach_begins(0, Use::Domain(1));
    // Others do not notice.
    assert_eq!(fate(&oracle, with(3)), Ok(0x8000_0000));
    assert_eq!(fate(&oracle, with(0)), Err(Refused::Somehow));
    oracle.attach_ends(0, true);
    assert_eq!(fate(&oracle, 0), Ok(0x9000_0000));
    assert_eq!(fate(&oracle, with(0)), event(EventId::FStreamDisabled));
}

#[test]
fn without_translation_substreams_are_refused_as_the_entry_says() {
    let mut oracle = sharing();
    for substream in [3, 70] {
        oracle.attach_begins(with(substream), Use::Blocked);
        oracle.attach_ends(with(substream), true);
    }
    assert_eq!(fate(&oracle, with(3)), Err(Refused::Silently));
    oracle.attach_begins(0, Use::Identity);
    oracle.attach_ends(0, true);
    assert_eq!(fate(&oracle, with(3)), event(EventId::CBadSubstreamId));
}

#[test]
fn an_attach_that_failed_may_have_left_its_leaf() {
    let mut oracle = sharing();
    oracle.attach_begins(with(130), Use::Domain(0));
    oracle.attach_ends(with(130), false);
    let either = Refused::WithEither(EventId::CBadCd, EventId::CBadSubstreamId);
    assert_eq!(fate(&oracle, with(130)), Err(either));
}

#[test]
fn a_released_process_is_refused_silently_and_a_new_one_has_nothing() {
    let mut oracle = sharing();
    oracle.release_begins(0);
    oracle.reached(with(70), 0x10000, false, 0xa000_0000, "a");
    assert_eq!(fate(&oracle, with(70)), Err(Refused::Somehow));
    oracle.release_ends(0, true);
    assert_eq!(fate(&oracle, with(70)), Err(Refused::Silently));
    assert_eq!(oracle.expected(with(70), 0x5_0000, false).refused, Some(Refused::Silently));
    oracle.reached(with(70), 0x10000, false, 0xa000_0000, "a");
    assert_eq!(broken(&oracle), Some(Rule::R1));

    let mut oracle = sharing();
    oracle.attach_begins(with(70), Use::Blocked);
    oracle.attach_ends(with(70), true);
    oracle.replace_process(0, 0x4000, 71);
    assert_eq!((oracle.root(2), oracle.page(2, 0x10000)), (0x4000, None));
    assert_eq!(oracle.gone(2, 0..u64::MAX).next(), Some((0x10000, 0xa000_0000)));
    assert_eq!(oracle.substream(Substream::Process(0)), Some(Some(71)));
}

/// What is tried again may stall anew, and its event says the same.
#[test]
fn a_transaction_that_stalls_anew_is_another() {
    let event = EventRecord::default().with_id(EventId::FTranslation as u64);
    let event = event.with_sid(7).with_stall(true).with_input_addr(0x12000);
    let user = User::from(0);
    for answered in [true, false] {
        let mut oracle = oracle();
        oracle.recorded(0, event);
        let before = oracle.pending(user);
        assert_eq!(before.len(), 1);
        if answered {
            oracle.answered(0, 7, 0);
            oracle.recorded(0, event);
        }
        oracle.stalls_are_over(user, &before, false);
        assert_eq!(broken(&oracle), (!answered).then_some(Rule::R9));
        // Blocked, nothing may wait at all.
        oracle.stalls_are_over(user, &before, true);
        assert_eq!(broken(&oracle), Some(Rule::R9));
    }
}

/// Whose answer was carried out waits no more, though what it retried may stall anew.
#[test]
fn an_answer_that_came_to_nothing_is_noticed() {
    let event = EventRecord::default().with_id(EventId::FTranslation as u64);
    let event = event.with_sid(7).with_stall(true).with_input_addr(0x12000);
    for answered in [true, false] {
        let mut oracle = oracle();
        oracle.recorded(0, event);
        let waiting = oracle.waiting(0, &event).unwrap();
        assert_eq!(oracle.waiting(0, &event.with_stag(1)), None);
        if answered {
            oracle.answered(0, 7, 0);
            oracle.recorded(0, event);
        }
        oracle.must_be_answered(0, &waiting);
        assert_eq!(broken(&oracle), (!answered).then_some(Rule::R9));
    }
}

/// A guest's addresses are those of what it is over: there its writes are marked.
#[test]
fn what_is_written_through_a_guest_is_owed_by_what_it_is_over() {
    for reported in [true, false] {
        let mut oracle = Oracle::new(1);
        oracle.add_domain_with(0x1000, Shape { stage_2: true, dirty: true, ..Shape::default() });
        oracle.add_domain(0x2000);
        oracle.put_over(0);
        oracle.add_master(0, vec![7]);
        oracle.attach_begins(0, Use::Domain(1));
        oracle.attach_ends(0, true);
        for (space, iova, pa) in [(0, 0x4000, 0x8000_0000), (1, 0x10000, 0x4000)] {
            oracle.map_begins(space, iova..iova + PAGE, pa, true);
            oracle.map_ends(space, iova..iova + PAGE, true);
        }
        oracle.reached(0, 0x10010, true, 0x8000_0010, "a");
        let range = 0x4000..0x5000;
        oracle.harvest_begins(0, &range);
        let bytes = if reported { PAGE } else { 0 };
        oracle.harvest_ends(0, &range, &[(0x4000, bytes)]);
        assert_eq!(broken(&oracle), (!reported).then_some(Rule::R9));
    }
}

#[test]
fn a_device_that_was_reset_is_answered_in_vain_until_it_works_again() {
    let mut oracle = oracle();
    let ask = |oracle: &mut Oracle, index: u64| {
        let request = PageRequest::default().with_sid(7).with_read(true).with_last(true);
        oracle.asked(0, request.with_addr(0x10000).with_prg_index(index), true);
    };
    ask(&mut oracle, 1);
    ask(&mut oracle, 2);
    oracle.device_was_reset(0);
    assert_eq!(oracle.granted(0, 7, 1), Granted::InVain);
    assert_eq!(oracle.granted(0, 7, 1), Granted::Nobody);
    oracle.readmitted(0);
    assert_eq!(oracle.granted(0, 7, 2), Granted::Nobody);
    // Neither need be reported.
    oracle.all_groups_reported(0);
    oracle.no_group_is_left();
    assert_eq!(broken(&oracle), None);
    ask(&mut oracle, 2);
    assert_eq!(oracle.granted(0, 7, 2), Granted::Waiting);
    oracle.all_groups_reported(0);
    assert_eq!(broken(&oracle), Some(Rule::R9));
}

#[test]
fn a_deferred_unmap_that_was_refused_changes_nothing() {
    let mut oracle = oracle();
    // Pages that follow each other to memory that is not aligned so, and such that is.
    oracle.map_begins(0, 0x20000..0x24000, 0x8000_4000, true);
    oracle.map_ends(0, 0x20000..0x24000, true);
    for (iova, bytes, may) in [
        (0x20000, 0x4000, true),
        (0x22000, 0x2000, true),
        (0x20000, 0x8000, false),
        (0x20000, 0x3000, false),
        (0x21000, 0x2000, false),
    ] {
        assert_eq!(oracle.may_be_one(0, iova, bytes), may, "{iova:#x} {bytes:#x}");
    }
    oracle.deferred(0, 0x20000..0x21000);
    oracle.refused(0, 0x20000, false, "a");
    oracle.deferred_nothing(0, &(0x20000..0x21000));
    assert!(!oracle.is_deferred(0, &(0x20000..0x24000)));
    assert_eq!(broken(&oracle), None);
    oracle.refused(0, 0x20000, false, "a");
    assert_eq!(broken(&oracle), Some(Rule::R0));
}

#[test]
fn what_a_kernel_left_is_apart_from_what_comes_after_it() {
    let mut oracle = Oracle::new(1);
    oracle.add_domain_with(0x1000, Shape { stage_2: true, ..Shape::default() });
    oracle.add_domain_with(0x2000, Shape { stage_2: true, ..Shape::default() });
    oracle.put_over(0);
    oracle.add_process(0x3000, 5);
    oracle.add_master(0, vec![7]);
    oracle.add_master_with(0, vec![8], Contexts::new(4, false));
    for (space, from, to) in [(0, 0x5000, 0x9000), (1, 0x10000, 0x5000), (2, 0x10000, 0xa000)] {
        oracle.map_begins(space, from..from + 0x1000, to, true);
        oracle.map_ends(space, from..from + 0x1000, true);
    }
    let bound = User { master: 1, substream: Some(5) };
    for (user, to) in [(User::from(0), Use::Domain(1)), (bound, Use::Process(0))] {
        oracle.attach_begins(user, to);
        oracle.attach_ends(user, true);
    }
    let kept = oracle.crash();
    // The guest's, what it is over, and the process.
    assert_eq!(kept.keys().filter(|space| **space < 3).count(), 3, "{kept:?}");
    let guest = oracle.space(oracle.using(0)).unwrap();
    assert_eq!((oracle.owner(guest), oracle.life(guest)), (kept[&0], Life::Live));
    assert!(oracle.is_used_on(kept[&0], 0) && !oracle.is_used_on(0, 0));
    oracle.renew_domain(0, 0x6000, Shape { stage_2: true, ..Shape::default() });
    oracle.renew_domain(1, 0x7000, Shape { stage_2: true, ..Shape::default() });
    oracle.replace_process(0, 0x8000, 6);
    assert_eq!(oracle.over(1), Some(0));
    // A PASID that is nobody's, or another's, says nothing of what goes on.
    assert_eq!(oracle.substream_name(Some(5)), None);
    oracle.reached(0, 0x10000, false, 0x9000, "a");
    oracle.reached(bound, 0x10000, true, 0xa000, "a");
    assert_eq!(broken(&oracle), None);
    // Another kernel finds the same.
    assert_eq!(oracle.crash()[&guest], guest);
    oracle.reached(0, 0x10000, false, 0x9000, "a");
    oracle.refused(bound, 0x10000, true, "a");
    assert_eq!(broken(&oracle), Some(Rule::R0));
}

#[test]
fn what_a_kernel_left_changes_without_a_hit_where_that_is_one_word() {
    for (pasid, hitless) in [(false, true), (true, false)] {
        let mut oracle = Oracle::new(1);
        oracle.add_domain(0x1000);
        oracle.add_domain(0x2000);
        oracle.add_master_with(0, vec![7], Contexts::new(8, true));
        oracle.changes_without_a_hit(0, &Overrides::default());
        let uses = [(User::from(0), Use::Identity), (with(5), Use::Domain(1))];
        for (user, to) in uses.into_iter().take(1 + usize::from(pasid)) {
            oracle.attach_begins(user, to);
            oracle.attach_ends(user, true);
        }
        oracle.crash();
        oracle.renew_domain(0, 0x6000, Shape::default());
        oracle.map_begins(0, 0x8000..0x9000, 0x8000, true);
        oracle.map_ends(0, 0x8000..0x9000, true);
        oracle.attach_begins(0, Use::Domain(0));
        oracle.refused(0, 0x8000, false, "a");
        assert_eq!(broken(&oracle), hitless.then_some(Rule::R0), "{pasid}");
    }
}

/// Domains 1 and 3 are guests' over 0 and 2; the master goes from one to the other.
#[test]
fn an_event_is_told_to_the_guest_that_had_the_device_and_to_no_other() {
    let event = EventRecord::default().with_id(0x10).with_sid(7);
    let guests = || {
        let mut oracle = Oracle::new(1);
        for over in [None, Some(0), None, Some(2)] {
            oracle.add_domain(0x1000);
            over.into_iter().for_each(|over| oracle.put_over(over));
        }
        oracle.add_master(0, vec![7]);
        oracle.attach_begins(0, Use::Domain(1));
        oracle.attach_ends(0, true);
        oracle.recorded(0, event);
        let caused = oracle.cause_of_next(0).unwrap();
        (oracle, caused)
    };
    let judged = |moved: bool, judge: &dyn Fn(&mut Oracle, &Caused)| {
        let (mut oracle, caused) = guests();
        if moved {
            oracle.attach_begins(0, Use::Domain(3));
            oracle.attach_ends(0, true);
        }
        judge(&mut oracle, &caused);
        broken(&oracle)
    };
    for moved in [false, true] {
        assert_eq!(judged(moved, &|oracle, caused| oracle.told(0, &event, caused)), None);
        let told = judged(moved, &|oracle, caused| oracle.told(2, &event, caused));
        assert_eq!(told, Some(Rule::R9), "{moved}");
        let kept = judged(moved, &|oracle, caused| oracle.kept_from(2, &event, caused));
        assert_eq!(kept, None, "{moved}");
    }
    // Who has it still is to be told; who has lost it need not.
    let kept = |moved| judged(moved, &|oracle, caused| oracle.kept_from(0, &event, caused));
    assert_eq!((kept(false), kept(true)), (Some(Rule::R9), None));
}

/// As of events: by what the device used when it asked.
#[test]
fn a_group_is_the_guests_that_had_the_device_and_is_over_when_that_loses_it() {
    let guests = || {
        let mut oracle = Oracle::new(1);
        for over in [None, Some(0), None, Some(2)] {
            oracle.add_domain(0x1000);
            over.into_iter().for_each(|over| oracle.put_over(over));
        }
        oracle.add_master(0, vec![7]);
        oracle.attach_begins(0, Use::Domain(1));
        oracle.attach_ends(0, true);
        let request = PageRequest::default().with_sid(7).with_read(true).with_last(true);
        oracle.asked(0, request.with_addr(0x10000).with_ssv(true).with_ssid(3), true);
        oracle.asked(0, request.with_addr(0x11000).with_prg_index(1), true);
        oracle
    };
    let (with, without) = ((7, Some(3), 0), (7, None, 1));
    for (over, right) in [(0, true), (2, false)] {
        let mut oracle = guests();
        oracle.attach_begins(0, Use::Domain(3));
        oracle.attach_ends(0, true);
        oracle.reported_group(0, with, &[(0x10000, true, false)]);
        let caused = oracle.cause_of_group(0).unwrap();
        oracle.told(over, &"a group", &caused);
        assert_eq!(broken(&oracle), (!right).then_some(Rule::R9), "{over}");
    }
    // All of it, whatever its PASID, ends with its guest's entry.
    let user = User { master: 0, substream: None };
    for (answered, right) in [(vec![0, 1], true), (vec![1], false), (vec![0], false)] {
        let mut oracle = guests();
        oracle.attach_begins(0, Use::Domain(3));
        assert!(oracle.is_change_of_guest(user));
        let before = oracle.asking(user, true);
        assert_eq!(before.iter().map(|it| it.group).collect::<Vec<_>>(), [with, without]);
        for index in &answered {
            assert_eq!(oracle.granted(0, 7, *index), Granted::Waiting);
        }
        oracle.attach_ends(0, true);
        oracle.groups_are_over(user, &before, true);
        // What nobody has read need not be reported.
        oracle.all_groups_reported(0);
        assert_eq!(broken(&oracle), (!right).then_some(Rule::R9), "{answered:?}");
    }
    // What its guest has answered waits no more.
    let mut oracle = guests();
    let waiting = oracle.waiting_group(0, without).unwrap();
    assert_eq!(oracle.granted(0, 7, 1), Granted::Waiting);
    oracle.must_be_granted(0, &waiting);
    assert_eq!(broken(&oracle), None);
    let other = oracle.waiting_group(0, with).unwrap();
    oracle.must_be_granted(0, &other);
    assert_eq!(broken(&oracle), Some(Rule::R9));
    assert_eq!(oracle.all_asking(0), [other]);
}

/// The host's entry leads to the guest's context by one word, so what both contexts allow is never refused meanwhile; from one
/// guest to another, and where faults stall, it is for a moment (§8.2).
#[test]
fn from_one_context_of_a_guest_to_another_nothing_is_refused() {
    const PAGES: std::ops::Range<u64> = 0x10000..0x11000;
    for (to, stalls, bits, fine) in
        [(2, false, 0, false), (3, false, 0, true), (2, true, 0, true), (2, false, 4, true)]
    {
        let mut oracle = Oracle::new(1);
        for over in [None, Some(0), Some(0), Some(4), None] {
            let shape = Shape { stage_2: true, ..Shape::default() };
            oracle.add_domain_with(0x1000 * (oracle.spaces() as u64 + 1), shape);
            over.into_iter().for_each(|over| oracle.put_over(over));
        }
        oracle.add_master_with(0, vec![7], Contexts::new(bits, false));
        oracle.changes_without_a_hit(0, &Overrides::NONE);
        if stalls {
            oracle.may_stall(0);
        }
        for space in 0..oracle.spaces() {
            oracle.map_begins(space, PAGES, PAGES.start, true);
            oracle.map_ends(space, PAGES, true);
        }
        oracle.attach_begins(0, Use::Domain(1));
        oracle.attach_ends(0, true);
        oracle.reached(0, PAGES.start, false, PAGES.start, "a");
        assert_eq!(broken(&oracle), None);
        oracle.attach_begins(0, Use::Domain(to));
        oracle.refused(0, PAGES.start, false, "a");
        assert_eq!(broken(&oracle).is_none(), fine, "{to}, {stalls}, {bits}");
    }
}

/// Between `uses` of a master without PASIDs, an access is refused by `event`; whether nothing is wrong about that.
fn may_be_refused(uses: [Use; 2], ends: bool, event: EventId) -> bool {
    let mut oracle = Oracle::new(1);
    for stage_2 in [false, false, true] {
        oracle.add_domain_with(0x1000, Shape { stage_2, ..Shape::default() });
    }
    oracle.add_master(0, vec![7]);
    oracle.changes_without_a_hit(0, &Overrides::NONE);
    let [before, after] = uses;
    oracle.attach_begins(0, before);
    oracle.attach_ends(0, true);
    oracle.attach_begins(0, after);
    if ends {
        oracle.attach_ends(0, true);
    }
    oracle.refused_by(0, 0x10000, AccessKind::Read, Some(event));
    broken(&oracle).is_none()
}

#[test]
fn what_refuses_an_access_is_a_step_that_the_change_needs() {
    let [first, other, second] = [0, 1, 2].map(Use::Domain);
    let blocked = [[first, Use::Blocked], [Use::Blocked, first], [second, Use::Blocked]];
    let by_one_word = [[first, other], [Use::Identity, first], [first, Use::Identity]];
    for uses in blocked.into_iter().chain(by_one_word) {
        assert!(!may_be_refused(uses, false, EventId::CBadSte), "{uses:?}");
        assert!(!may_be_refused(uses, false, EventId::CBadCd), "{uses:?}");
        assert!(may_be_refused(uses, false, EventId::FTranslation), "nothing is mapped");
    }
    for uses in [[first, second], [second, first]] {
        assert!(may_be_refused(uses, false, EventId::CBadSte), "two words say what translates");
        assert!(!may_be_refused(uses, false, EventId::CBadStreamId));
        assert!(!may_be_refused(uses, true, EventId::CBadSte), "it is over");
    }
    // Once nothing changes, there is one answer.
    assert!(may_be_refused([Use::Blocked, first], true, EventId::FTranslation));
    assert!(!may_be_refused([Use::Blocked, first], true, EventId::FPermission));
    assert!(!may_be_refused([first, Use::Blocked], true, EventId::FTranslation));
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What one caller after the other finds.

use std::vec::Vec;

use super::*;

const fn key(stream: u32, stag: u16, substream: u32) -> Key {
    Key { stream: StreamId(stream), stag, substream: SubstreamId(substream) }
}

fn sweep(pending: &Pending, ends: impl Fn(Key) -> bool) -> Vec<Key> {
    let mut ended = Vec::new();
    pending.sweep(|| panic!("nobody else is here"), ends, |key, _| ended.push(key));
    ended
}

#[test]
fn each_is_answered_once_and_a_late_answer_finds_nothing() {
    let pending = Pending::new(2).unwrap();
    let first = pending.insert(key(8, 3, 0)).unwrap();
    let second = pending.insert(key(0xffff_ffff, 0xffff, 0xf_ffff)).unwrap();
    assert_eq!(pending.insert(key(1, 1, 1)), None, "full");
    assert_eq!(pending.give(first, |_, _| panic!("not decided")), Given::Late);
    assert!(pending.decide(first, 2) && !pending.decide(first, 0));
    assert_eq!(pending.give(first, |_, _| false), Given::Full);
    let mut given = None;
    let place = |key, answer| {
        given = Some((key, answer));
        true
    };
    assert_eq!(pending.give(first, place), Given::Placed);
    assert_eq!(given, Some((key(8, 3, 0), 2)));
    assert_eq!(pending.give(first, |_, _| true), Given::Late);
    // The slot is another's, and the old handle does not name it.
    let third = pending.insert(key(8, 3, 0)).unwrap();
    assert!(!pending.decide(first, 1) && pending.decide(third, 1));
    assert!(pending.decide(second, 0));
    assert_eq!(pending.give(second, |key, _| key.stag == 0xffff), Given::Placed);
}

#[test]
fn a_sweep_ends_what_it_is_for_whether_or_not_an_answer_is_owed() {
    let pending = Pending::new(4).unwrap();
    let keys = [key(8, 0, 0), key(8, 1, 5), key(9, 0, 0), key(8, 2, 0)];
    let handles = keys.map(|key| pending.insert(key).unwrap());
    assert!(pending.decide(handles[3], 1));
    let ours = |key: Key| key.stream == StreamId(8) && key.substream == SubstreamId(0);
    assert_eq!(sweep(&pending, ours), [keys[0], keys[3]]);
    assert_eq!(sweep(&pending, ours), []);
    for late in [handles[0], handles[3]] {
        assert!(!pending.decide(late, 1));
        assert_eq!(pending.give(late, |_, _| panic!("it is over")), Given::Late);
    }
    assert_eq!(sweep(&pending, |_| true), [keys[1], keys[2]]);
}

/// As many as an SMMU can stall: who looks through them, at every detach, looks at those that ever did.
#[test]
fn slots_are_made_one_by_one_and_those_that_are_free_again_come_first() {
    let pending = Pending::new(0xffff).unwrap();
    assert!(pending.slots.is_empty() && pending.slots.most() == 0xffff);
    let insert = |stag| pending.insert(key(8, stag, 0)).unwrap().slot();
    assert_eq!([0, 1, 2].map(insert), [0, 1, 2]);
    assert_eq!(sweep(&pending, |key| key.stag != 1), [key(8, 0, 0), key(8, 2, 0)]);
    assert_eq!([3, 4, 5].map(insert), [2, 0, 3]);
    assert_eq!(pending.slots.len(), 4);
    assert!((6..=0xffff).all(|stag| usize::from(stag) == insert(stag) + 2));
    assert_eq!((insert(0), pending.insert(key(8, 1, 0)), pending.count()), (0xfffe, None, 0xffff));
}

#[test]
fn a_sweep_says_what_was_decided() {
    let pending = Pending::new(2).unwrap();
    let [answered, other] = [key(8, 0, 0), key(8, 1, 0)];
    let handle = pending.insert(answered).unwrap();
    pending.insert(other).unwrap();
    assert!(pending.decide(handle, 2));
    let mut ended = Vec::new();
    pending.sweep(|| panic!("nobody else is here"), |_| true, |key, said| ended.push((key, said)));
    assert_eq!(ended, [(answered, Some(2)), (other, None)]);
}

#[test]
fn what_is_owed_is_given_once_there_is_room() {
    let pending = Pending::new(3).unwrap();
    for stag in 0..3 {
        let handle = pending.insert(key(8, stag, 0)).unwrap();
        assert!(pending.decide(handle, 1));
    }
    assert!(!pending.is_owed() && pending.give_owed(|_, _| panic!("nobody said so")));
    pending.set_owed();
    let mut room = 2;
    let mut place = |_, _| {
        room -= 1;
        room >= 0
    };
    assert!(!pending.give_owed(&mut place) && pending.is_owed());
    let mut rest = Vec::new();
    assert!(pending.give_owed(|key, answer| {
        rest.push((key.stag, answer));
        true
    }));
    assert_eq!((rest, pending.is_owed()), ([(2, 1)].to_vec(), false));
}

#[test]
fn the_same_answer_is_decided_for_all_that_wait_and_given_later() {
    let pending = Pending::new(4).unwrap();
    let keys = [key(8, 0, 1), key(8, 1, 1), key(9, 2, 1), key(8, 3, 1)];
    let handles = keys.map(|key| pending.insert(key).unwrap());
    // Answered otherwise before.
    assert!(pending.decide(handles[1], 2));
    let of_8 = |key: Key| key.stream == StreamId(8);
    assert!(pending.decide_all(of_8, 1));
    assert!(!pending.decide_all(of_8, 0), "none waits any more");
    assert!(!pending.decide(handles[0], 0) && pending.decide(handles[2], 0));
    pending.set_owed();
    let mut given = Vec::new();
    assert!(pending.give_owed(|key, answer| {
        given.push((key.stag, answer));
        true
    }));
    assert_eq!(given, [(0, 1), (1, 2), (2, 0), (3, 1)]);
}

#[test]
fn a_slot_is_given_what_was_decided_or_the_answer_for_all() {
    let pending = Pending::new(5).unwrap();
    let keys = [key(8, 0, 1), key(9, 1, 1), key(8, 2, 1), key(8, 3, 1)];
    let handles = keys.map(|key| pending.insert(key).unwrap());
    assert!(pending.decide(handles[2], 2));
    let mut given = Vec::new();
    let mut give = |at, room| {
        let which = |key: Key| key.stream == StreamId(8);
        pending.give_at(at, which, 1, |key, answer| {
            given.push((key.stag, answer));
            room
        })
    };
    // Without room it is decided all the same.
    assert_eq!(give(0, false), Some(Given::Full));
    assert!(!pending.decide(handles[0], 0));
    assert!((0..4).all(|at| give(at, true) == Some(Given::Placed)));
    // Nothing was ever in the last one.
    assert_eq!((give(0, true), give(4, true)), (Some(Given::Placed), None));
    assert_eq!(given, [(0, 1), (0, 1), (2, 2), (3, 1)]);
    assert_eq!((pending.waiting(1), pending.count()), (Some(handles[1]), 1), "another's");
    assert!((0..6).all(|at| at == 1 || pending.waiting(at).is_none()));
}

#[cfg(feature = "nested")]
mod shown {
    use super::*;
    use crate::pending::shown::Showing;

    fn decided(pending: &Pending, stag: u16, stream: u32) -> Option<Handle> {
        let which = |key: Key, name| key.stream == StreamId(stream) && name == stag;
        pending.decide_shown(pending.slot_of(stag), which, 1)
    }

    #[test]
    fn what_a_guest_is_shown_it_answers_once_and_the_handle_no_more() {
        let pending = Pending::new(5).unwrap();
        let handles = [key(8, 7, 0), key(9, 7, 0)].map(|key| pending.insert(key).unwrap());
        let Showing::Shown(stag) = pending.show(handles[1], 4, |_| true) else { panic!() };
        assert!(!pending.decide(handles[1], 0), "it is the guest's");
        assert_eq!(pending.show(handles[1], 4, |_| true), Showing::Over, "once");
        assert_eq!(decided(&pending, stag, 8), None, "of another stream");
        assert_eq!(decided(&pending, stag ^ 8, 9), None, "of another generation");
        assert_eq!(decided(&pending, stag ^ 1, 8), None, "that is nobody's but its handle's");
        assert_eq!(decided(&pending, 7, 9), None, "nor by a slot that is not there");
        assert_eq!(decided(&pending, stag, 9), Some(handles[1]));
        assert_eq!(decided(&pending, stag, 9), None);
        let place = |given: Key, answer| (given, answer) == (key(9, 7, 0), 1);
        assert_eq!(pending.give(handles[1], place), Given::Placed);
        assert!(pending.decide(handles[0], 2));
        assert_eq!(sweep(&pending, |_| true), [key(8, 7, 0)]);
    }

    #[test]
    fn a_number_comes_again_late_and_an_answer_of_before_finds_nothing() {
        let pending = Pending::new(3).unwrap();
        let mut numbers = Vec::new();
        // Two bits are the slot's.
        for round in 0..1 << 14 {
            let handle = pending.insert(key(8, 0, 0)).unwrap();
            let Showing::Shown(stag) = pending.show(handle, 1, |_| true) else { panic!("{round}") };
            let before = numbers.last().copied().unwrap_or(stag ^ 4);
            assert_eq!(decided(&pending, before, 8), None, "{round}");
            assert_eq!(sweep(&pending, |_| true), [key(8, 0, 0)]);
            numbers.push(stag);
        }
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 1 << 14);
    }

    #[test]
    fn a_guest_is_shown_as_many_as_it_may_and_others_theirs() {
        let pending = Pending::new(4).unwrap();
        let own = |key: Key| key.stream == StreamId(8);
        let insert = |stream, stag| pending.insert(key(stream, stag, 0)).unwrap();
        let (first, second) = (insert(8, 0), insert(8, 1));
        let Showing::Shown(stag) = pending.show(first, 1, own) else { panic!() };
        assert_eq!(pending.show(second, 1, own), Showing::Full);
        assert!(pending.decide(second, 1), "it waits as before");
        assert_eq!(pending.show(second, 1, own), Showing::Over);
        let other = insert(9, 0);
        let others = |key: Key| key.stream == StreamId(9);
        assert!(matches!(pending.show(other, 1, others), Showing::Shown(_)));
        assert_eq!(decided(&pending, stag, 8), Some(first));
        assert!(matches!(pending.show(insert(8, 2), 1, own), Showing::Shown(_)));
        // Whether they are owed an answer, shown, or were never handed on.
        assert_eq!(sweep(&pending, own).len(), 3);
        assert_eq!(sweep(&pending, |_| true), [key(9, 0, 0)]);
    }

    /// As where their device says that it waits no more.
    #[test]
    #[cfg(feature = "ats")]
    fn what_a_guest_is_shown_may_be_decided_for_it() {
        let pending = Pending::new(4).unwrap();
        let handles = [0, 1, 2].map(|stag| pending.insert(key(8, stag, 0)).unwrap());
        let Showing::Shown(stag) = pending.show(handles[0], 4, |_| true) else { panic!() };
        let Showing::Shown(other) = pending.show(handles[1], 4, |_| true) else { panic!() };
        assert!(!pending.decide(handles[0], 2), "it is not its holder's to answer");
        assert!(pending.decide_for(handles[0], 2) && !pending.decide_for(handles[0], 1));
        assert_eq!(decided(&pending, stag, 8), None, "too late");
        // All that wait: shown to a guest or not.
        assert!(pending.decide_all(|_| true, 1));
        assert_eq!(decided(&pending, other, 8), None);
        let mut answers = Vec::new();
        for handle in handles {
            let place = |key: Key, answer| {
                answers.push((key.stag, answer));
                true
            };
            assert_eq!(pending.give(handle, place), Given::Placed);
            assert!(!pending.decide_for(handle, 0), "it is over");
        }
        assert_eq!(answers, [(0, 2), (1, 1), (2, 1)]);
    }

    #[test]
    fn the_largest_table_has_a_number_for_each() {
        let pending = Pending::new(0xffff).unwrap();
        let last = (0..0xffff).map(|_| pending.insert(key(8, 0, 0)).unwrap()).last().unwrap();
        let Showing::Shown(stag) = pending.show(last, 1, |_| true) else { panic!() };
        assert_eq!((stag, pending.slot_of(stag)), (0xfffe, 0xfffe));
        assert_eq!(decided(&pending, 0xffff, 8), None);
        assert_eq!(decided(&pending, 0xfffe, 8), Some(last));
        let one = Pending::new(1).unwrap();
        let only = one.insert(key(8, 0, 0)).unwrap();
        let Showing::Shown(stag) = one.show(only, 1, |_| true) else { panic!() };
        assert_eq!((one.slot_of(stag), one.slot_of(0x1234)), (0, 0));
    }
}

#[test]
fn of_many_answers_that_are_owed_a_few_are_given_at_once() {
    let many = 3 * AT_ONCE;
    let pending = Pending::new(many).unwrap();
    for stag in 0..many as u16 {
        let handle = pending.insert(key(8, stag, 0)).unwrap();
        assert!(pending.decide(handle, 1));
    }
    pending.set_owed();
    let mut given = 0;
    let mut some = |at: &mut usize, budget: &mut usize| {
        let before = given;
        let left = pending.give_some(at, budget, |key, _| {
            assert_eq!(usize::from(key.stag), given);
            given += 1;
            true
        });
        (left, given - before)
    };
    // A look with a budget: the rest is still owed.
    let (mut at, mut budget) = (0, 5);
    assert_eq!(some(&mut at, &mut budget), (Left::Answers, 5));
    assert!(pending.is_owed() && budget == 0);
    // One without gives no more than a few with interrupts masked.
    let (mut at, mut budget) = (0, usize::MAX);
    assert_eq!(some(&mut at, &mut budget), (Left::Slots, AT_ONCE - 5));
    assert_eq!(some(&mut at, &mut budget), (Left::Slots, AT_ONCE));
    assert_eq!(some(&mut at, &mut budget), (Left::Slots, AT_ONCE));
    assert_eq!(some(&mut at, &mut budget), (Left::Nothing, 0));
    assert!(!pending.is_owed() && pending.count() == 0);
}

#[cfg(feature = "nested")]
#[test]
fn each_guest_leaves_as_much_room_as_it_takes() {
    let pending = Pending::new(12).unwrap();
    let [one, other] = [1, 2].map(Sharer::new);
    let take = |guest, most: u16| -> Vec<Handle> {
        (0..most)
            .map_while(|stag| pending.insert_for(guest, key(guest_stream(guest), stag, 7)))
            .collect()
    };
    fn guest_stream(guest: Sharer) -> u32 {
        if guest == Sharer::new(1) { 1 } else { 2 }
    }
    let ones = take(one, 20);
    assert_eq!(ones.len(), 6);
    let others = take(other, 20);
    assert_eq!(others.len(), 3);
    // Nor does one that asks again and again get more.
    assert!(take(one, 20).is_empty() && take(other, 20).is_empty());
    let hosts: Vec<Handle> = (0..3).map(|stag| pending.insert(key(3, stag, 0)).unwrap()).collect();
    assert_eq!(pending.insert(key(3, 3, 0)), None);
    // What is answered, and what is ended, is room again; what it is of is as it was.
    assert!(pending.decide(ones[0], 1));
    let place = |given: Key, _| given == key(1, 0, 7);
    assert_eq!(pending.give(ones[0], place), Given::Placed);
    assert_eq!(sweep(&pending, |key| key.stream == StreamId(1)).len(), 5);
    assert_eq!(sweep(&pending, |key| key.stream == StreamId(3)).len(), hosts.len());
    assert_eq!(take(other, 20).len(), 3, "of 9, three are its own");
    assert_eq!(take(one, 20).len(), 3);
    assert_eq!(sweep(&pending, |_| true).len(), 9);
    assert_eq!(take(one, 20).len(), 6);
}

/// However many guests there are, and however little room.
#[cfg(feature = "nested")]
#[test]
fn the_host_finds_room_whatever_guests_take() {
    for most in 1..=64 {
        let pending = Pending::new(most).unwrap();
        let mut of_each: Vec<usize> = Vec::new();
        for guest in 0..100 {
            let insert = |stag| pending.insert_for(Sharer::new(guest), key(1, stag, 0));
            of_each.push((0..100).map_while(insert).count());
        }
        assert!(of_each[0] * 2 <= most, "{most}: {of_each:?}");
        let hosts = (0..100).map_while(|stag| pending.insert(key(2, stag, 0))).count();
        assert!(hosts >= most.div_ceil(8), "{most}: {of_each:?}, {hosts}");
        assert!(hosts >= of_each.iter().copied().filter(|own| *own != 0).min().unwrap_or(0));
        assert_eq!(hosts + of_each.iter().sum::<usize>(), most);
    }
    let of_8: Vec<usize> = {
        let pending = Pending::new(8).unwrap();
        let take = |guest| {
            (0..8).map_while(|stag| pending.insert_for(Sharer::new(guest), key(1, stag, 0))).count()
        };
        (1..5).map(take).collect()
    };
    assert_eq!(of_8, [4, 2, 1, 0]);
}

/// Whichever VMIDs they have: as long as few of them have something wait at once.
#[cfg(feature = "nested")]
#[test]
fn guests_do_not_share_what_one_of_them_takes() {
    let pending = Pending::new(64).unwrap();
    let take = |vmid, most: u16| -> Vec<Handle> {
        let insert = |stag| pending.insert_for(Sharer::new(vmid), key(u32::from(vmid), stag, 0));
        (0..most).map_while(insert).collect()
    };
    assert_eq!(take(5, 64).len(), 32);
    assert_eq!((take(69, 64).len(), take(133, 64).len()), (16, 8));
    // What is given back is that guest's, and where nothing is counted another may be.
    assert_eq!(sweep(&pending, |key| key.stream == StreamId(5)).len(), 32);
    assert_eq!(take(197, 1).len(), 1);
    assert_eq!(sweep(&pending, |key| key.stream == StreamId(69)).len(), 16);
    assert_eq!(take(5, 64).len(), 27, "of 55, as 8 and 1 are others'");
    assert_eq!(take(133, 64).len(), 10, "18 of its own, and 18 that nobody has");
    assert_eq!(sweep(&pending, |_| true).len(), 46);
    // More guests than are told apart: those share with others, and none is refused for that.
    let many = Pending::new(0xffff).unwrap();
    for vmid in 0..200 {
        assert!(many.insert_for(Sharer::new(vmid), key(1, vmid, 0)).is_some(), "{vmid}");
    }
    assert_eq!(sweep(&many, |_| true).len(), 200);
}

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
    assert!((0..5).all(|at| give(at, true) == Some(Given::Placed)));
    assert_eq!((give(0, true), give(5, true)), (Some(Given::Placed), None));
    assert_eq!(given, [(0, 1), (0, 1), (2, 2), (3, 1)]);
    assert_eq!((pending.waiting(1), pending.count()), (Some(handles[1]), 1), "another's");
    assert!((0..6).all(|at| at == 1 || pending.waiting(at).is_none()));
}

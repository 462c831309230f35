// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who is told of, in which order, and how often.

use std::vec::Vec;

use super::*;
use crate::nothing::{Nothing, masked};

fn with(streams: &[u32]) -> Silent {
    let silent = Silent::new();
    reserve(&silent, streams);
    silent
}

fn reserve(silent: &Silent, streams: &[u32]) {
    let streams: Vec<StreamId> = streams.iter().copied().map(StreamId).collect();
    silent.reserve(&Nothing, &streams).unwrap();
}

fn note(silent: &Silent, streams: &[u32]) {
    streams.iter().for_each(|stream| silent.note(&Nothing, StreamId(*stream)));
}

fn told(silent: &Silent) -> Vec<u32> {
    core::iter::from_fn(|| silent.take(&Nothing)).map(|stream| stream.0).collect()
}

#[test]
fn each_is_told_of_once_in_the_order_in_which_they_were_cut_off() {
    let silent = with(&[9, 3, 7]);
    assert_eq!((told(&silent), silent.is_any()), ([].to_vec(), false));
    note(&silent, &[7, 3, 7, 9, 3]);
    assert!(silent.is_any());
    assert_eq!((told(&silent), silent.is_any()), ([7, 3, 9].to_vec(), false));
    // Again, after that was told.
    note(&silent, &[3, 7]);
    assert_eq!(silent.take(&Nothing), Some(StreamId(3)));
    note(&silent, &[3]);
    assert!(silent.is_any());
    assert_eq!(told(&silent), [7, 3]);
    // Round and round in the same room.
    for _ in 0..10 {
        note(&silent, &[9, 7]);
        assert_eq!(told(&silent), [9, 7]);
    }
}

#[test]
fn what_waits_is_kept_in_order_when_there_is_more_room() {
    let silent = with(&[5]);
    note(&silent, &[5]);
    // More than are copied at once.
    let others: Vec<u32> = (100..200).rev().collect();
    reserve(&silent, &others);
    note(&silent, &[150, 5, 199]);
    reserve(&silent, &[1, 5, 150]);
    reserve(&silent, &[1]);
    note(&silent, &[1, 199]);
    assert_eq!(told(&silent), [5, 150, 199, 1]);
    note(&silent, &others);
    assert_eq!(told(&silent), others);
}

/// One after the other, with some that wait, and some that are told of meanwhile.
#[test]
fn room_for_many_masters_is_made_in_a_few_steps_for_each() {
    const MASTERS: u32 = 1 << 14;
    let silent = Silent::new();
    let (mut expected, mut heard) = (Vec::new(), Vec::new());
    let before = masked();
    let streams = (0..MASTERS).map(|it| it.wrapping_mul(0x9e37_79b1));
    for (stream, number) in streams.clone().zip(0u32..) {
        reserve(&silent, &[stream]);
        if number % 64 == 0 {
            note(&silent, &[stream, stream]);
            expected.push(stream);
        }
        if number % 100 == 0 {
            heard.extend(told(&silent));
        }
    }
    // To copy all that there are, 32 at once, would be 256 for each on average.
    let each = (masked() - before) / MASTERS as usize;
    assert!(each < 16, "{each}");
    heard.extend(told(&silent));
    assert_eq!(heard, expected);
    // All of them are known, and there is room for all.
    let all: Vec<u32> = streams.collect();
    let capacity = silent.streams.with(&Nothing, |state| state.waiting.capacity());
    note(&silent, &all);
    note(&silent, &all);
    assert_eq!(silent.streams.with(&Nothing, |state| state.waiting.capacity()), capacity);
    assert_eq!(told(&silent), all);
    let runs = silent.streams.with(&Nothing, |state| state.runs.len());
    assert!(runs <= 15, "{runs}");
}

/// Whoever notes one may do so in interrupt context.
#[test]
fn all_of_them_wait_without_another_allocation() {
    let streams: Vec<u32> = (0..1000).collect();
    let silent = with(&streams);
    let capacity = |silent: &Silent| {
        silent.streams.with(&Nothing, |state| (state.count(), state.waiting.capacity()))
    };
    let before = capacity(&silent);
    for _ in 0..3 {
        note(&silent, &streams);
        assert_eq!(told(&silent), streams);
    }
    // One that was never given room is none that keeps anything.
    note(&silent, &[1000]);
    assert_eq!((told(&silent), capacity(&silent)), ([].to_vec(), before));
}

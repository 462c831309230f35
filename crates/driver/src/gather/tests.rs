// SPDX-License-Identifier: MIT OR Apache-2.0
//! What becomes of pages, in order and in excess.

use std::vec::Vec;

use super::*;
use crate::nothing::Nothing;

const fn named(stream: u32, index: u16) -> Group {
    Group { stream: StreamId(stream), pasid: Some(SubstreamId(3)), index }
}

const fn page(group: Group, iova: u64, last: bool) -> Page {
    let iova = Iova(iova);
    Page { group, iova, read: true, write: false, execute: false, privileged: false, last }
}

fn begin(gather: &Gather, group: Group, iova: u64) -> Option<Group> {
    let Added { fate, forgotten } = gather.add(&Nothing, &page(group, iova, false));
    assert_eq!(fate, Fate::Begun);
    forgotten
}

/// Ends a group, and returns its chain and addresses.
fn end(gather: &Gather, group: Group, iova: u64) -> (Chain, Vec<u64>) {
    let Fate::Complete(chain) = gather.add(&Nothing, &page(group, iova, true)).fate else {
        panic!("there is room")
    };
    let iovas: Vec<u64> = gather.pages(group, chain).map(|page| page.iova.0).collect();
    assert_eq!(iovas.len(), chain.len());
    (chain, iovas)
}

#[test]
fn groups_that_come_in_a_mixture_are_told_apart_and_keep_their_order() {
    let gather = Gather::new(7).unwrap();
    let (one, other) = (named(8, 1), named(8, 2));
    let plain = Group { pasid: None, ..one };
    let elsewhere = Group { stream: StreamId(9), ..one };
    for (group, iova) in [(one, 0x3000), (other, 0x1000), (plain, 0x7000), (elsewhere, 0x8000)] {
        assert_eq!(begin(&gather, group, iova), None);
    }
    assert_eq!(begin(&gather, one, 0x1000), None);
    assert_eq!(end(&gather, one, 0x2000).1, [0x3000, 0x1000, 0x2000]);
    assert_eq!(end(&gather, other, 0x5000).1, [0x1000, 0x5000]);
    // All are taken, two by groups that have begun; one of these has to go.
    let added = gather.add(&Nothing, &page(named(8, 0), 0, true));
    assert_eq!(added.forgotten, Some(plain));
    assert!(matches!(added.fate, Fate::Complete(_)));
}

#[test]
fn what_a_page_says_is_kept() {
    let gather = Gather::new(2).unwrap();
    let group = named(8, 0x1ff);
    let first = Page { write: true, privileged: true, ..page(group, 0xffff_ffff_ffff_f000, false) };
    let last = Page { read: false, execute: true, ..page(group, 0, true) };
    assert_eq!(gather.add(&Nothing, &first).fate, Fate::Begun);
    let Fate::Complete(chain) = gather.add(&Nothing, &last).fate else { panic!("complete") };
    assert!(gather.pages(group, chain).eq([first, last]));
}

#[test]
fn room_is_given_back_whole_and_nothing_grows() {
    let gather = Gather::new(4).unwrap();
    let group = named(8, 0);
    for round in 0..5 {
        for iova in [0x1000, 0x2000, 0x3000] {
            begin(&gather, group, iova);
        }
        let (chain, iovas) = end(&gather, group, 0x4000);
        assert_eq!(iovas, [0x1000, 0x2000, 0x3000, 0x4000], "round {round}");
        // It is all with those that wait for an answer.
        for last in [false, true] {
            let added = gather.add(&Nothing, &page(named(9, 0), 0, last));
            assert_eq!(added, Added { fate: Fate::Full, forgotten: None });
        }
        gather.release(&Nothing, chain);
        gather.release(&Nothing, Chain::EMPTY);
    }
}

#[test]
fn a_device_without_end_forgets_its_own_groups_and_never_those_of_others() {
    let gather = Gather::new(4).unwrap();
    let honest = named(1, 0);
    assert_eq!(begin(&gather, honest, 0x1000), None);
    for index in 0..3 {
        assert_eq!(begin(&gather, named(2, index), 0), None);
    }
    for index in 3..100 {
        assert_eq!(begin(&gather, named(2, index), 0), Some(named(2, index - 3)));
    }
    // Whoever comes takes its room, until both have as much.
    assert_eq!(begin(&gather, named(3, 0), 0), Some(named(2, 97)));
    assert_eq!(begin(&gather, named(3, 1), 0), Some(named(2, 98)));
    assert_eq!(begin(&gather, honest, 0x2000), Some(named(3, 0)));
    assert_eq!(begin(&gather, named(3, 2), 0), Some(honest));
    let (chain, iovas) = end(&gather, honest, 0x3000);
    assert_eq!(iovas, [0x3000], "it had more than anybody else");
    gather.release(&Nothing, chain);
}

#[test]
fn a_group_larger_than_all_that_there_is_loses_its_beginning() {
    let gather = Gather::new(3).unwrap();
    let group = named(8, 5);
    for iova in [0x1000, 0x2000, 0x3000] {
        assert_eq!(begin(&gather, group, iova), None);
    }
    assert_eq!(begin(&gather, group, 0x4000), Some(group));
    assert_eq!(end(&gather, group, 0x5000).1, [0x4000, 0x5000]);
}

#[test]
fn those_that_have_begun_are_forgotten_by_name() {
    let gather = Gather::new(4).unwrap();
    for index in 0..4 {
        begin(&gather, named(8 + u32::from(index) % 2, index), 0);
    }
    assert_eq!(gather.forget(&Nothing, |group| group.stream == StreamId(9)), 2);
    assert_eq!(gather.forget(&Nothing, |group| group.stream == StreamId(9)), 0);
    // Their room is free.
    for index in 4..6 {
        assert_eq!(begin(&gather, named(9, index), 0), None);
    }
    assert_eq!(gather.forget(&Nothing, |_| true), 4);
}

#[test]
fn without_room_at_all_there_is_none() {
    let gather = Gather::new(0).unwrap();
    let added = gather.add(&Nothing, &page(named(1, 1), 0, true));
    assert_eq!(added, Added { fate: Fate::Full, forgotten: None });
    assert_eq!(gather.forget(&Nothing, |_| true), 0);
}

#[test]
fn a_key_says_which_group_and_how_it_is_answered() {
    let plain = Group { pasid: None, ..named(0xffff_ffff, 0x1ff) };
    let with = Group { pasid: Some(SubstreamId(0xf_ffff)), ..plain };
    let zero = Group { pasid: Some(SubstreamId(0)), ..plain };
    for named in [plain, with, zero] {
        for with_pasid in [false, true] {
            assert_eq!(group(key(named, with_pasid)), (named, with_pasid));
        }
    }
    assert_eq!(key(zero, false).stag, 0x41ff);
    assert_eq!(key(with, true).stag, 0xc1ff);
}

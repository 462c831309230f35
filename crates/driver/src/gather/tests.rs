// SPDX-License-Identifier: MIT OR Apache-2.0
//! What becomes of pages, in order and in excess.

use std::vec::Vec;

use super::*;
use crate::nothing::Nothing;
use crate::pending::Given;

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
    assert_eq!(gather.forget(&Nothing, Of::Stream(StreamId(9))), 2);
    assert_eq!(gather.forget(&Nothing, Of::Stream(StreamId(9))), 0);
    // Their room is free.
    for index in 4..6 {
        assert_eq!(begin(&gather, named(9, index), 0), None);
    }
    assert_eq!(gather.forget(&Nothing, Of::All), 4);
}

#[test]
fn without_room_at_all_there_is_none() {
    let gather = Gather::new(0).unwrap();
    let added = gather.add(&Nothing, &page(named(1, 1), 0, true));
    assert_eq!(added, Added { fate: Fate::Full, forgotten: None });
    assert_eq!(gather.forget(&Nothing, Of::All), 0);
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

/// Names in the order of their parts, so that those that have some in common lie together.
#[test]
fn a_name_says_which_group_and_what_it_has_in_common_with_others() {
    let some = |pasid| Some(SubstreamId(pasid));
    for pasid in [None, some(0), some(1), some(0xf_ffff)] {
        for stream in [0, 1, 0xffff_ffff] {
            for index in [0, 1, 0x1ff] {
                let group = Group { stream: StreamId(stream), pasid, index };
                assert_eq!(group_of(name_of(group)), group);
                let alike = |of: Of, other: Group| {
                    let (prefix, bits) = of.prefix();
                    (prefix ^ name_of(other)).checked_shr(64 - bits).unwrap_or(0) == 0
                };
                let other = Group { index: index ^ 0x100, ..group };
                assert!(alike(Of::Pasid(group.stream, pasid), other) && alike(Of::All, other));
                assert!(!alike(Of::Group(group), other) && alike(Of::Group(group), group));
                let other = Group { pasid: some(7), index: 5, ..group };
                assert!(alike(Of::Stream(group.stream), other));
                assert!(!alike(Of::Pasid(group.stream, pasid), other));
                assert!(!alike(Of::Stream(group.stream), Group { stream: StreamId(2), ..group }));
                let (one, other) = (number_of(group), number_of(Group { pasid: some(7), ..group }));
                assert!(one != other && (one ^ other) >> (64 - STREAM_BITS - NUMBER_BITS) == 0);
            }
        }
    }
}

/// Whatever comes in whichever order: what is forgotten is always the oldest of one that has as much as anybody.
#[test]
fn who_has_most_is_always_known() {
    const MOST: u32 = 24;
    let gather = Gather::new(MOST).unwrap();
    // In order of their beginning.
    let mut begun: Vec<(Group, Vec<u64>)> = Vec::new();
    let mut state = 1u64;
    for round in 0..20_000u64 {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let bits = state >> 32;
        let group = Group {
            stream: StreamId((bits & 7).min(bits >> 3 & 7) as u32),
            pasid: (bits >> 6 & 1 != 0).then_some(SubstreamId(bits as u32 >> 7 & 1)),
            index: (bits >> 8 & 3) as u16,
        };
        if bits >> 10 & 0xff == 0 {
            let mut count = begun.len();
            begun.retain(|(other, _)| other.stream != group.stream);
            count -= begun.len();
            assert_eq!(gather.forget(&Nothing, Of::Stream(group.stream)), count, "{round}");
        }
        if bits >> 18 & 0xff == 0 {
            let mut count = begun.len();
            begun.retain(|(other, _)| (other.stream, other.pasid) != (group.stream, group.pasid));
            count -= begun.len();
            let of = Of::Pasid(group.stream, group.pasid);
            assert_eq!(gather.forget(&Nothing, of), count, "{round}");
        }
        let last = bits >> 26 & 7 == 0;
        let iova = round << 12;
        let pages = |begun: &[(Group, Vec<u64>)], stream| -> usize {
            let of = begun.iter().filter(|(group, _)| group.stream == stream);
            of.map(|(_, pages)| pages.len()).sum()
        };
        let all: usize = begun.iter().map(|(_, pages)| pages.len()).sum();
        let Added { fate, forgotten } = gather.add(&Nothing, &page(group, iova, last));
        assert_eq!(forgotten.is_some(), all == MOST as usize, "{round}");
        if let Some(gone) = forgotten {
            let most = begun.iter().map(|(group, _)| pages(&begun, group.stream)).max();
            assert_eq!(Some(pages(&begun, gone.stream)), most, "{round}");
            assert!(Some(pages(&begun, group.stream)) < most || gone.stream == group.stream);
            let oldest = begun.iter().position(|(other, _)| other.stream == gone.stream);
            assert_eq!(begun.remove(oldest.unwrap()).0, gone, "{round}");
        }
        let at = begun.iter().position(|(other, _)| *other == group).unwrap_or_else(|| {
            begun.push((group, Vec::new()));
            begun.len() - 1
        });
        begun[at].1.push(iova);
        match fate {
            Fate::Complete(chain) => {
                assert!(last, "{round}");
                let (_, expected) = begun.remove(at);
                let asked: Vec<u64> = gather.pages(group, chain).map(|it| it.iova.0).collect();
                assert_eq!(asked, expected, "{round}");
                gather.release(&Nothing, chain);
            }
            other => assert_eq!((other, last), (Fate::Begun, false), "{round}"),
        }
    }
}

#[test]
fn who_waits_is_known_by_its_number_and_by_its_pasid_until_it_is_answered() {
    let gather = Gather::new(4).unwrap();
    let of = |pasid: Option<u32>, index| Group {
        stream: StreamId(5),
        pasid: pasid.map(SubstreamId),
        index,
    };
    let waits = |group, with_pasid| gather.is_waiting(&Nothing, group, with_pasid);
    let answer = |handle| {
        assert!(gather.pending.decide(handle, 0));
        // While its command is being placed it waits no more.
        let given = gather.pending.give(handle, |key, _| {
            let (group, with_pasid) = group(key);
            !waits(group, with_pasid)
        });
        assert_eq!(given, Given::Placed);
    };
    let one = gather.wait(&Nothing, of(Some(3), 1), true).unwrap();
    let two = gather.wait(&Nothing, of(Some(3), 2), true).unwrap();
    assert!(waits(of(Some(3), 1), true) && !waits(of(Some(4), 1), true));
    assert!(waits(of(Some(4), 1), false) && waits(of(None, 2), false), "all look alike");
    assert!(
        !waits(of(Some(3), 3), false)
            && !waits(Group { stream: StreamId(6), ..of(Some(3), 1) }, false)
    );
    // Decided, and not given, is waiting still.
    assert!(gather.pending.decide(two, 1) && waits(of(Some(3), 2), true));
    answer(one);
    assert!(!waits(of(Some(3), 1), true) && !waits(of(Some(3), 1), false));
    // Its slot is another's, of the same number.
    let three = gather.wait(&Nothing, of(Some(9), 1), true).unwrap();
    assert!(!waits(of(Some(3), 1), true) && waits(of(Some(3), 1), false));
    let four = gather.wait(&Nothing, of(Some(3), 4), true).unwrap();
    let five = gather.wait(&Nothing, of(None, 4), true).unwrap();
    assert_eq!(gather.wait(&Nothing, of(None, 5), true), None, "there is no room");
    // Each of a PASID once, whether or not it was decided.
    let mut of_pasid: Vec<usize> =
        core::iter::from_fn(|| gather.next_waiting(&Nothing, StreamId(5), SubstreamId(3)))
            .map(Handle::slot)
            .collect();
    of_pasid.sort_unstable();
    assert_eq!(of_pasid, [two.slot(), four.slot()]);
    assert!(waits(of(Some(3), 4), true), "it was not answered");
    for handle in [three, four, five] {
        answer(handle);
    }
    assert!(!waits(of(Some(3), 4), false) && waits(of(Some(3), 2), false));
    // Round and round.
    for index in 0..100 {
        let handle = gather.wait(&Nothing, of(Some(3), index), true).unwrap();
        assert!(waits(of(Some(3), index), true));
        answer(handle);
    }
}

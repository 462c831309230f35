// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use core::iter;
use smmuv3_formats::register::{Aidr, Idr0, Idr1, Idr3, Idr5};
use std::vec;
use std::vec::Vec;

use crate::features::IdRegisters;

fn features(ranges: bool) -> Features {
    Features::decode(IdRegisters {
        idr0: Idr0(0x0d44_101b),
        idr1: Idr1(0x0273_0010),
        idr3: Idr3(0x1014).with_ril(ranges),
        idr5: Idr5(0x74),
        aidr: Aidr(1),
        ..IdRegisters::default()
    })
    .unwrap()
}

fn range(start: u64, pages: u64, granule_shift: u32, leaf_shift: Option<u32>) -> Range {
    let leaf_only = leaf_shift.is_some();
    let bytes = pages << granule_shift;
    Range { start, bytes, granule_shift, leaf_shift, leaf_only }
}

const TAG: Tag = Tag::el1(0, 5);

fn all(ranges: bool, scope: Scope) -> Vec<Command> {
    let commands = commands(&features(ranges), iter::once(TAG), scope, 64);
    let promised = commands.len();
    let commands: Vec<Command> = commands.collect();
    assert_eq!(commands.len(), promised);
    commands
}

/// (NUM, SCALE, TTL) of each command.
fn shapes(range: Range) -> Vec<(u64, u64, u64)> {
    all(true, Scope::Range(range))
        .iter()
        .map(|command| {
            let command = TlbiNhVa(command.0);
            (command.num(), command.scale(), command.ttl())
        })
        .collect()
}

#[test]
fn ranges_are_encoded_as_in_appendix_a4() {
    assert_eq!(
        all(true, Scope::Range(range(0x100_0000, 0x12345, 12, Some(12)))),
        [
            Command([0x0005_0000_0000_4012, 0x0000_0000_0100_0701]),
            Command([0x0005_0000_0060_c012, 0x0000_0000_0100_5701]),
            Command([0x0005_0000_00d0_8012, 0x0000_0000_0134_5701]),
        ]
    );
    assert_eq!(
        all(true, Scope::Range(range(0x12_3456_7000, 1, 12, Some(12)))),
        [Command([0x0005_0000_0000_0012, 0x0000_0012_3456_7701])]
    );
}

#[cfg(feature = "alloc")]
#[test]
fn one_command_after_the_other_is_for_each_what_it_would_be_alone() {
    for pages in (1..200).chain([512, 513, 1 << 18]) {
        for leaf_shift in [None, Some(12)] {
            let scope = Scope::Range(range(0x4000_0000, pages, 12, leaf_shift));
            let mut single = Single::new(scope);
            for (ranges, asid) in [(true, 5), (false, 6), (false, 7), (true, 8)] {
                let (features, tag) = (features(ranges), Tag::el1(0, asid));
                let all: Vec<_> = commands(&features, iter::once(tag), scope, 64).collect();
                let one = <[Command; 1]>::try_from(all).ok().map(|[one]| one);
                let command = single.command(&features, |whole| named(tag, whole));
                assert_eq!(command, one, "{pages} {leaf_shift:?}");
            }
        }
    }
    let all = Single::new(Scope::All).command(&features(true), |whole| named(TAG, whole));
    assert_eq!(all, super::tests::all(true, Scope::All).first().copied());
}

#[cfg(feature = "alloc")]
#[test]
fn pages_are_named_as_any_range_of_them_is() {
    let tag = Tag { regime: Regime::Stage2, vmid: 7, asid: 0 };
    for (ranges, shift) in [12, 14, 16].map(|shift| [(true, shift), (false, shift)]).concat() {
        let features = features(ranges);
        for pages in 1..=8192 {
            let range = range(0x12_3456_0000, pages, shift, Some(shift));
            let (start, bytes) = (range.start, range.bytes);
            let quick = super::pages(&features, start, bytes, shift);
            let (scope, named) = (Scope::Range(range), |whole| named(tag, whole));
            let any = Single::new(scope).command(&features, named);
            let tagged = quick.map(|Command([first, second])| [first | named(false), second]);
            let same = tagged == any.map(|command| command.0);
            assert!(same || quick.is_none(), "{pages} of 2^{shift}: {quick:?} {any:?}");
            // Whoever knows it already has the same for this kind of SMMU, and finds out for another.
            let mut known = Single::known(scope, &features, quick);
            assert_eq!(known.command(&features, named), any);
            let other = self::features(!ranges);
            let any = Single::new(scope).command(&other, named);
            assert_eq!(known.command(&other, named), any);
            assert!(quick.is_some() || pages > 31 || !ranges && pages != 1);
        }
    }
}

#[test]
fn range_vectors() {
    let leaf = |pages| range(0, pages, 12, Some(12));
    let any = |pages| range(0, pages, 12, None);
    assert_eq!(shapes(leaf(1)), [(0, 0, 3)]);
    assert_eq!(shapes(any(1)), [(0, 1, 0)]);
    assert_eq!(shapes(leaf(33)), [(0, 0, 3), (0, 5, 3)]);
    assert_eq!(shapes(any(33)), [(16, 1, 0)]);
    assert_eq!(shapes(range(0, 512, 12, Some(21))), [(0, 9, 2)]);
    assert_eq!(shapes(range(0, 1 << 18, 12, Some(30))), [(0, 18, 1)]);
    assert_eq!(shapes(leaf(63)), [(30, 0, 3), (0, 5, 3)]);
    assert_eq!(shapes(range(0, 17, 16, Some(16))), [(16, 0, 3)]);
    assert_eq!(shapes(range(0, 1000, 14, Some(14))), [(28, 3, 3), (2, 8, 3)]);
    // Half of a 48-bit address space: SCALE stops at 31.
    assert_eq!(shapes(any(1 << 35)), [(15, 31, 0)]);
    assert_eq!(shapes(any(1 << 36)), [(30, 31, 0), (0, 31, 0)]);
}

#[test]
fn commands_of_a_range_cover_it_without_a_gap_and_none_is_reserved() {
    for pages in (1..5000).chain([0x1_0000, 0xf_ffff, (1 << 36) - 1]) {
        for leaf_shift in [None, Some(12)] {
            let range = range(0x4000_0000, pages, 12, leaf_shift);
            let mut at = range.start;
            for command in all(true, Scope::Range(range)) {
                let command = TlbiNhVa(command.0);
                assert_eq!(command.addr(), at, "{pages} pages");
                assert!(command.num() + command.scale() + command.ttl() > 0, "{pages} pages");
                at += (command.num() + 1) << command.scale() << 12;
            }
            let over = at - (range.start + range.bytes);
            assert!(over == 0 || over == 0x1000 && leaf_shift.is_none(), "{pages} pages");
        }
    }
}

#[test]
fn ranges_of_every_granule_are_aligned_as_their_ttl_asks_for() {
    for (granule, leaf) in
        [(12, 12), (12, 21), (12, 30), (14, 14), (14, 25), (14, 36), (16, 16), (16, 29)]
    {
        for leaves in (1..200).chain([511, 512, 513, 1023, 1025]) {
            for start in [0u64, 1, 31, 33] {
                let (start, pages) = (start << leaf, leaves << (leaf - granule));
                let mut at = start;
                for command in all(true, Scope::Range(range(start, pages, granule, Some(leaf)))) {
                    let command = TlbiNhVa(command.0);
                    // Else the range is UNPREDICTABLE (§4.2).
                    assert_eq!((command.addr(), at % (1 << leaf)), (at, 0), "{granule} {leaf}");
                    // Not reserved, also where TTL = 1 counts as 0, as with 16 KiB.
                    let ttl = if granule == 14 && command.ttl() == 1 { 0 } else { command.ttl() };
                    assert!(command.num() + command.scale() + ttl > 0, "{granule} {leaf}");
                    at += (command.num() + 1) << command.scale() << granule;
                }
                assert_eq!(at, start + (pages << granule), "{granule} {leaf} {leaves}");
            }
        }
    }
}

#[test]
fn each_tag_is_told_of_or_all_of_them_at_once() {
    let tags = [Tag::el1(0, 5), Tag::el1(2, 5), Tag::el1(2, 9)];
    let all = |scope, most| {
        let commands = commands(&features(false), tags.iter().copied(), scope, most);
        let promised = commands.len();
        let commands: Vec<Command> = commands.collect();
        assert_eq!(commands.len(), promised);
        commands
    };
    let two = Scope::Range(range(0x4000, 2, 12, Some(12)));
    // {VMID, ASID} in [47:32] and [63:48] (§4.1).
    let words = |opcode, addresses: &[u64]| -> Vec<Command> {
        let heads = [0x0005_0000, 0x0005_0002, 0x0009_0002].map(|tag: u64| tag << 32 | opcode);
        let each = |head| addresses.iter().map(move |address| Command([head, *address]));
        heads.into_iter().flat_map(each).collect()
    };
    assert_eq!(all(two, 6), words(0x12, &[0x4001, 0x5001]));
    assert_eq!(all(two, 5), words(0x11, &[0]));
    assert_eq!(all(Scope::All, 3), words(0x11, &[0]));
    // CMD_TLBI_NSNH_ALL.
    assert_eq!(all(two, 2), [Command([0x30, 0])]);
}

#[test]
fn each_regime_has_its_commands() {
    let words = |tag, scope, most: usize| {
        let tags = [tag; 2];
        let commands = commands(&features(true), tags.iter().copied(), scope, most);
        commands.map(|command| command.0).collect::<Vec<_>>()
    };
    let one = Scope::Range(range(0x12_3456_7000, 1, 12, Some(12)));
    for (tag, address, whole, all) in [
        (Tag::el1(7, 5), 0x0005_0007_0000_0012, 0x0005_0007_0000_0011, 0x30),
        (Tag::el2(5), 0x0005_0000_0000_0022, 0x0005_0000_0000_0021, 0x20),
        (Tag::stage_2(7), 0x0000_0007_0000_002a, 0x0000_0007_0000_0028, 0x30),
    ] {
        assert_eq!(words(tag, one, 2), [[address, 0x12_3456_7701]; 2], "{tag:?}");
        assert_eq!(words(tag, Scope::All, 2), [[whole, 0]; 2], "{tag:?}");
        // More tags than there is room for.
        assert_eq!(words(tag, one, 1), [[all, 0]], "{tag:?}");
    }
}

#[test]
fn scale_goes_to_39_where_addresses_have_52_bits() {
    let wide = Features { lpa2: true, ..features(true) };
    let shapes = |features: &Features, range| {
        let commands = commands(features, iter::once(TAG), Scope::Range(range), 64);
        let shape = |it: Command| {
            let it = TlbiNhVa(it.0);
            (it.addr(), it.num(), it.scale())
        };
        commands.map(shape).collect::<Vec<_>>()
    };
    // Half of 52 bits: 2^39 pages of 4 KiB.
    let half = range(0, 1 << 39, 12, None);
    assert_eq!(shapes(&wide, half), [(0, 0, 39)]);
    let pieces: Vec<_> = (0..8).map(|nth| ((nth * 31) << 43, 30, 31)).collect();
    let narrow = shapes(&features(true), half);
    assert_eq!((narrow.len(), &narrow[..8]), (9, &pieces[..]));
    assert_eq!(narrow[8], ((8 * 31) << 43, 7, 31));
    // All of them but a page, in the upper half: no command reaches over the end.
    let upper = range(0xfff0_0000_0000_0000, (1 << 40) - 1, 12, None);
    let last = shapes(&wide, upper);
    let end = last.last().map(|(at, num, scale)| at + (((num + 1) << scale) << 12));
    assert_eq!(end, Some(0xffff_ffff_ffff_f000));
    // 512 GiB by one block of level 0 have no TTL, 64 GiB of 16 KiB pages have 1.
    for (range, ttl) in [
        (range(0, 1 << 27, 12, Some(39)), 0),
        (range(0, 1 << 22, 14, Some(36)), 1),
        (range(0, 1 << 26, 16, Some(42)), 1),
    ] {
        let command = commands(&wide, iter::once(TAG), Scope::Range(range), 64).next();
        let command = TlbiNhVa(command.unwrap().0);
        assert_eq!(command.ttl(), ttl);
        assert!(command.num() + command.scale() > 0);
    }
}

#[test]
fn single_addresses_are_counted_by_leaf_and_by_table() {
    assert_eq!(range(0x4000, 65, 12, Some(12)).singles(), 65);
    assert_eq!(range(0x4000_0000, 1024, 12, Some(21)).singles(), 2);
    // Tables may have been unlinked: one of 2 MiB each.
    let mixed = Range { leaf_only: false, ..range(0, 1 << 13, 12, Some(30)) };
    assert_eq!(mixed.singles(), 16);
    assert_eq!(range(0, 1000, 14, None).singles(), 1000);
}

#[cfg(feature = "alloc")]
#[test]
fn what_is_cached_over_a_stage_2_goes_with_its_vmid() {
    // TLBI_NH_ALL, whatever the address; TLBI_NSNH_ALL where there is no room for more.
    let tags = [Tag::stage_2(7), Tag::stage_2(9)].map(Tag::guests);
    let all = |most| -> Vec<Command> {
        commands(&features(true), tags.into_iter(), Scope::All, most).collect()
    };
    assert_eq!(all(2), [Command([7 << 32 | 0x10, 0]), Command([9 << 32 | 0x10, 0])]);
    assert_eq!(all(1), [Command([0x30, 0])]);
}

#[test]
fn without_ranges_each_leaf_is_named_or_the_whole_tag() {
    let two = range(0x4000, 2, 12, Some(12));
    assert_eq!(
        all(false, Scope::Range(two)),
        [Command([0x0005_0000_0000_0012, 0x4001]), Command([0x0005_0000_0000_0012, 0x5001])]
    );
    let blocks = range(0x4000_0000, 1024, 12, Some(21));
    let addresses: Vec<u64> =
        all(false, Scope::Range(blocks)).iter().map(|command| TlbiNhVa(command.0).addr()).collect();
    assert_eq!(addresses, [0x4000_0000, 0x4020_0000]);
    // A block of 1 GiB beside tables that were empty and are unlinked: each of those must be hit.
    let mixed = Range { leaf_only: false, ..range(0, 1 << 13, 12, Some(30)) };
    let addresses: Vec<u64> =
        all(false, Scope::Range(mixed)).iter().map(|command| TlbiNhVa(command.0).addr()).collect();
    assert_eq!(addresses, (0..16).map(|table| table << 21).collect::<Vec<u64>>());
    let whole = vec![Command([0x0005_0000_0000_0011, 0])];
    assert_eq!(all(false, Scope::Range(range(0, 65, 12, Some(12)))), whole);
    // 64 blocks, and one that ends within the 65th.
    let blocks = range(0, 64 << 9, 12, Some(21));
    assert_eq!(all(false, Scope::Range(blocks)).len(), 64);
    let more = Range { bytes: blocks.bytes + 0x1000, ..blocks };
    assert_eq!((more.singles(), all(false, Scope::Range(more))), (65, whole.clone()));
    assert_eq!(all(false, Scope::All), whole);
    // A batch that is too small for the leaves, and for the parts of a range.
    let three = Scope::Range(range(0, 0x12345, 12, Some(12)));
    for (ranges, scope, most) in [(false, Scope::Range(two), 1), (true, three, 2)] {
        let commands = commands(&features(ranges), iter::once(TAG), scope, most);
        assert_eq!(commands.collect::<Vec<_>>(), whole);
    }
    assert_eq!(all(true, Scope::All), whole);
}

#[test]
fn of_guests_all_is_invalidated_whatever_the_scope() {
    let tag = Tag { regime: Regime::Guests, vmid: 7, asid: 0 };
    for ranges in [false, true] {
        for pages in [1, 100, 0x12345] {
            let scope = Scope::Range(range(0x4000_0000, pages, 12, Some(12)));
            let commands = commands(&features(ranges), iter::once(tag), scope, 64);
            // CMD_TLBI_NH_ALL: opcode 0x10, the VMID, and nothing else.
            assert_eq!(commands.collect::<Vec<_>>(), [Command([7 << 32 | 0x10, 0])]);
        }
    }
}

#[cfg(feature = "alloc")]
#[test]
fn the_command_for_a_whole_tag_is_that_for_everything_of_it() {
    for tag in [TAG, Tag::el2(7), Tag::stage_2(3)] {
        let mut commands = commands(&features(true), iter::once(tag), Scope::All, 64);
        assert_eq!((commands.next(), commands.next()), (Some(whole(tag)), None));
    }
}

/// Whoever works by the hardware blocks alone may say anything: that is no reason to stop, nor to invalidate too little.
#[test]
fn of_a_range_of_no_tables_all_is_invalidated() {
    for ranges in [false, true] {
        for (granule_shift, leaf_shift) in [
            (0, None),
            (3, Some(3)),
            (3, Some(12)),
            (11, Some(21)),
            (13, None),
            (63, None),
            (u32::MAX, Some(u32::MAX)),
            (12, Some(0)),
            (12, Some(11)),
            (16, Some(43)),
            (12, Some(64)),
        ] {
            for leaf_only in [false, true] {
                let range =
                    Range { start: 0, bytes: 1 << 20, granule_shift, leaf_shift, leaf_only };
                let commands = all(ranges, Scope::Range(range));
                assert_eq!(commands, [TlbiNhAsid::new().with_asid(5).into()], "{range:?}");
                assert_eq!(range.singles(), u64::MAX, "{range:?}");
            }
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest's commands, one by one, bit by bit, and in batches.

use super::*;
use smmuv3_formats::Command;
use smmuv3_formats::command::{AtcInv, Sync, TlbiNhVa};
use std::format;
use std::vec;
use std::vec::Vec;

const NOTHING: Command = Command([0; 2]);

/// What is made of `command` alone.
fn made_for(guest: &Guest, command: [u64; 2]) -> Result<Vec<[u64; 2]>, (&'static str, u64)> {
    let mut out = [NOTHING; 8];
    let mut forwarder = Forwarder::new();
    let done = forwarder.forward(guest, &STREAMS, &[Command(command)], &mut out);
    if let Stop::Refused { index, illegal } = done.stop {
        assert_eq!((index, done.consumed, done.produced), (0, 0, 0));
        return Err((illegal.rule.field, illegal.value));
    }
    assert_eq!(done.consumed, 1);
    Ok(out.iter().take(done.produced).map(|command| command.0).collect())
}

fn made(command: [u64; 2]) -> Result<Vec<[u64; 2]>, (&'static str, u64)> {
    made_for(&guest(), command)
}

/// Words of the host's VMID, 7.
const VMID: u64 = 7 << 32;

#[test]
fn invalidations_of_translations_are_those_of_the_guests_vmid() {
    // NH_ALL, NH_ASID, and NSNH_ALL, which would be everybody's; the guest's own VMID says nothing.
    for own in [0, 1, 0xffff] {
        let own = own << 32;
        assert_eq!(made([0x10 | own, 0]), Ok(vec![[0x10 | VMID, 0]]));
        assert_eq!(made([5 << 48 | own | 0x11, 0]), Ok(vec![[5 << 48 | VMID | 0x11, 0]]));
        // App. A4: {SCALE 6, NUM 12}, leaf, TTL 3.
        let range = 0x0005_0000_0060_c012;
        let made_of = made([range | own, 0x0100_5701]);
        assert_eq!(made_of, Ok(vec![[range | VMID, 0x0100_5701]]));
        assert_eq!(made([0x13 | own, 0x1234_5000]), Ok(vec![[0x13 | VMID, 0x1234_5000]]));
    }
    assert_eq!(made([0x30, 0]), Ok(vec![[0x10 | VMID, 0]]));
}

#[test]
fn invalidations_of_configuration_are_those_of_the_guests_streams() {
    // CFGI_CD of stream 0x10, substream 3, leaf; CFGI_CD_ALL.
    assert_eq!(made([0x10 << 32 | 3 << 12 | 5, 1]), Ok(vec![[0x4_0001 << 32 | 3 << 12 | 5, 1]]));
    assert_eq!(made([0x11 << 32 | 6, 0]), Ok(vec![[0x3_0000 << 32 | 6, 0]]));
    // CFGI_STE: always of the leaf alone.
    assert_eq!(made([0x80 << 32 | 3, 0]), Ok(vec![[0x10 << 32 | 3, 1]]));
    // Streams that it has not been given, among them the host's numbers of those it has.
    for stream in [0, 0x12, 0x4_0001, 0x3_0000, 0xffff_ffff] {
        for command in [3, 5, 6, 0x40] {
            assert_eq!(made([stream << 32 | command, 0]), Ok(vec![]));
        }
    }
    // A substream beyond the 8 bits that it is shown.
    assert_eq!(made([0x10 << 32 | 0x100 << 12 | 5, 1]), Ok(vec![]));
}

#[test]
fn a_range_of_streams_is_those_of_them_that_it_has() {
    let first = [0x4_0001 << 32 | 3, 1];
    let second = [0x3_0000 << 32 | 3, 1];
    let third = [0x10 << 32 | 3, 1];
    let entries = |command| {
        let mut out = [NOTHING; 8];
        let done = Forwarder::new().forward(&guest(), &STREAMS, &[Command(command)], &mut out);
        let Stop::Entries { first, last } = done.stop else { panic!("{:?}", done.stop) };
        let made: Vec<_> = out.iter().take(done.produced).map(|command| command.0).collect();
        (made, first.0, last.0)
    };
    assert_eq!(entries([0x11 << 32 | 3, 1]), (vec![second], 0x11, 0x11));
    // 2^(Range+1) streams, the low Range+1 bits ignored.
    assert_eq!(entries([0x11 << 32 | 4, 0]), (vec![first, second], 0x10, 0x11));
    assert_eq!(entries([0x12 << 32 | 4, 0]), (vec![], 0x12, 0x13));
    assert_eq!(entries([0x7f << 32 | 4, 7]), (vec![first, second, third], 0, 0xff));
    assert_eq!(entries([0x7f << 32 | 4, 30]), (vec![first, second, third], 0, 0x7fff_ffff));
    // CFGI_ALL: its SID is ignored.
    assert_eq!(entries([0xdead << 32 | 4, 31]), (vec![first, second, third], 0, u32::MAX));
}

#[test]
fn caches_of_devices_are_those_of_its_streams() {
    // ATC_INV all; of a page in substream 5, and global.
    assert_eq!(made([0x10 << 32 | 0x40, 52]), Ok(vec![[0x4_0001 << 32 | 0x40, 52]]));
    let substream = 5 << 12 | 1 << 11 | 1 << 9 | 0x40;
    let made_of = made([0x11 << 32 | substream, 0x7000]);
    assert_eq!(made_of, Ok(vec![[0x3_0000 << 32 | substream, 0x7000]]));
    // Without SSV neither SSID nor G means anything.
    let loose = 0x10 << 32 | 5 << 12 | 1 << 9 | 0x40;
    assert_eq!(made([loose, 0x7000]), Ok(vec![[0x4_0001 << 32 | 0x40, 0x7000]]));
    assert_eq!(made([0x10 << 32 | 0x40, 53]), Err(("Size", 53)));
    // Devices behind an SMMU of 64 KiB pages know nothing smaller.
    let large = rich_but(|r| {
        r.idr0 = r.idr0.with_ttf(2);
        r.idr3 = r.idr3.with_s2pi(false);
        r.idr5 = Idr5::default().with_oas(4).with_gran64k(true);
    });
    let stage_2 = STAGE_2.with_s2_tg(1).with_s2_sl0(1);
    let parent = Parent::new(stage_2, &large).unwrap();
    let guest = Guest::new(&large, parent, Guest::offer(&large, &parent)).unwrap();
    let made_of = made_for(&guest, [0x10 << 32 | 0x40, 0x7000]);
    assert_eq!(made_of, Ok(vec![[0x4_0001 << 32 | 0x40, 0x7004]]));
}

/// They need not answer (§4.2), however often the guest asks.
#[test]
fn devices_without_ats_are_told_nothing() {
    let streams = STREAMS.map(|one| Assignment { ats: one.guest == StreamId(0x80), ..one });
    let mut out = [NOTHING; 2];
    let commands = [0x10u64, 0x11, 0x12, 0x80].map(|sid| Command([sid << 32 | 0x40, 52]));
    let done = Forwarder::new().forward(&guest(), &streams, &commands, &mut out);
    assert_eq!((done.consumed, done.produced, done.stop), (4, 1, Stop::Empty));
    assert_eq!(out[0], Command([0x10 << 32 | 0x40, 52]));
}

#[test]
fn hints_do_nothing() {
    assert_eq!(made([0x10 << 32 | 1, 0]), Ok(vec![]));
    assert_eq!(made([0x10 << 32 | 2, 0x7000]), Ok(vec![]));
}

#[test]
fn every_other_command_is_refused_by_its_opcode() {
    let known = [1, 2, 3, 4, 5, 6, 0x10, 0x11, 0x12, 0x13, 0x30, 0x40, 0x46];
    for code in (0..=0xffu64).filter(|code| !known.contains(code)) {
        // All that is offered: stalls and page requests, EL2, stage 2, MPAM, Secure are not.
        assert_eq!(made([code, 0]), Err(("Opcode", code)), "{code:#x}");
    }
    // Without ATS, ATC_INV is none of its commands either.
    let guest = guest_of(&qemu(), |_| {});
    assert_eq!(made_for(&guest, [0x40, 0]), Err(("Opcode", 0x40)));
}

enum Bit {
    /// The host's command has it, too.
    Follows,
    Ignored,
    /// No effect.
    Nothing,
    /// The host's command is this.
    Makes([u64; 2]),
    Refused(&'static str),
}

/// Flips every bit of `base` but the opcode's, which gives `host`.
fn flip(guest: &Guest, base: [u64; 2], host: [u64; 2], table: [&[(u32, u32, Bit)]; 2]) {
    assert_eq!(made_for(guest, base), Ok(vec![host]));
    let mut seen = 0;
    for (word, rows) in table.into_iter().enumerate() {
        for (hi, lo, expected) in rows {
            for bit in *lo..=*hi {
                seen += 1;
                let flipped = |mut words: [u64; 2]| {
                    words[word] ^= 1 << bit;
                    words
                };
                let result = made_for(guest, flipped(base));
                let place = format!("bit {bit} of word {word} of {:#x}", base[0]);
                match expected {
                    Bit::Follows => assert_eq!(result, Ok(vec![flipped(host)]), "{place}"),
                    Bit::Ignored => assert_eq!(result, Ok(vec![host]), "{place}"),
                    Bit::Nothing => assert_eq!(result, Ok(vec![]), "{place}"),
                    Bit::Makes(words) => assert_eq!(result, Ok(vec![*words]), "{place}"),
                    Bit::Refused(field) => assert_eq!(result.unwrap_err().0, *field, "{place}"),
                }
            }
        }
    }
    assert_eq!(seen, 128 - 8);
}

#[test]
fn every_bit_of_a_range_is_taken_over_masked_or_refused_by_name() {
    use Bit::*;
    // NUM 1, SCALE 1, TG = 4 KiB, TTL 3, at 1 GiB.
    let base = [0x0005_0000_0010_1012, 0x4000_0000 | 1 << 10 | 3 << 8];
    let host = [base[0] | VMID, base[1]];
    let table: [&[(u32, u32, Bit)]; 2] = [
        &[
            (11, 8, Refused("word 0")),
            (16, 12, Follows),
            (19, 17, Refused("word 0")),
            // DS is shown: six bits.
            (25, 20, Follows),
            (31, 26, Refused("word 0")),
            (47, 32, Ignored),
            (63, 48, Follows),
        ],
        &[
            (0, 0, Follows),
            (6, 1, Refused("word 1")),
            (7, 7, Refused("TTL128")),
            // TTL 11 -> 10, 01: both aligned at 1 GiB.
            (9, 8, Follows),
            // TG 01 -> 00: no range without one.
            (10, 10, Refused("NUM")),
            // TG 01 -> 11: TTL 3 of 64 KiB, still aligned.
            (11, 11, Follows),
            (63, 12, Follows),
        ],
    ];
    let wide = guest_of(&rich(), |_| {});
    // 40 bits of guest memory, but 52 of virtual addresses.
    flip(&wide, base, host, table);
    // The same without DS: SCALE has five bits.
    let narrow = guest_of(&rich(), |shown| shown.idr5 = shown.idr5.with_ds(false));
    assert_eq!(made_for(&narrow, [base[0] | 1 << 25, base[1]]), Err(("SCALE", 33)));
}

#[test]
fn every_bit_of_an_invalidation_without_ranges() {
    use Bit::*;
    let features = rich_but(|r| {
        r.aidr = Aidr(1);
        r.idr0 = r.idr0.with_asid16(false);
        r.idr3 = r.idr3.with_ril(false).with_bbml(0);
    });
    let guest = guest_of(&features, |_| {});
    let base = [0x0005_0000_0000_0012, 0x1234_5001];
    let table: [&[(u32, u32, Bit)]; 2] = [
        &[
            (11, 8, Refused("word 0")),
            (16, 12, Refused("NUM")),
            (19, 17, Refused("word 0")),
            (25, 20, Refused("SCALE")),
            (31, 26, Refused("word 0")),
            (47, 32, Ignored),
            (55, 48, Follows),
            (63, 56, Refused("ASID")),
        ],
        &[
            (0, 0, Follows),
            (6, 1, Refused("word 1")),
            (7, 7, Refused("TTL128")),
            (9, 8, Refused("TTL")),
            (11, 10, Refused("TG")),
            (63, 12, Follows),
        ],
    ];
    flip(&guest, base, [base[0] | VMID, base[1]], table);
}

#[test]
fn every_bit_of_the_commands_that_name_streams() {
    use Bit::*;
    let guest = guest();
    // CFGI_CD.
    let (base, host) = ([0x80 << 32 | 3 << 12 | 5, 1], [0x10 << 32 | 3 << 12 | 5, 1]);
    let table: [&[(u32, u32, Bit)]; 2] = [
        &[
            (9, 8, Refused("word 0")),
            (10, 10, Refused("SSec")),
            // SSV is unused; it is no field.
            (11, 11, Refused("word 0")),
            (19, 12, Follows),
            (31, 20, Nothing),
            (63, 32, Nothing),
        ],
        &[(0, 0, Follows), (63, 1, Refused("word 1"))],
    ];
    flip(&guest, base, host, table);
    // ATC_INV with a substream.
    let base = [0x80 << 32 | 3 << 12 | 1 << 11 | 0x40, 0x7000 | 4];
    let host = [base[0] ^ (0x80 ^ 0x10) << 32, base[1]];
    let table: [&[(u32, u32, Bit)]; 2] = [
        &[
            (8, 8, Refused("word 0")),
            (9, 9, Follows),
            (10, 10, Refused("word 0")),
            // Without SSV what it qualifies goes, too.
            (11, 11, Makes([0x10 << 32 | 0x40, 0x7000 | 4])),
            (19, 12, Follows),
            (31, 20, Nothing),
            (63, 32, Nothing),
        ],
        // Size 4 -> 5, 6, 0, 12, 20, 36.
        &[(5, 0, Follows), (11, 6, Refused("word 1")), (63, 12, Follows)],
    ];
    flip(&guest, base, host, table);
}

#[test]
fn ranges_are_held_to_their_rules() {
    let guest = guest();
    let at = |tg: u64, ttl: u64, num: u64, address: u64| {
        let command = TlbiNhVa::new().with_tg(tg).with_ttl(ttl).with_num(num).with_addr(address);
        made_for(&guest, command.0)
    };
    let fine = |tg, ttl, address| {
        let expected = TlbiNhVa::new().with_vmid(7).with_tg(tg).with_ttl(ttl).with_num(1);
        assert_eq!(at(tg, ttl, 1, address), Ok(vec![expected.with_addr(address).0]));
    };
    // §4.2: alignment by granule (1: 4, 2: 16, 3: 64 KiB) and TTL.
    for (tg, ttl, bits) in [
        (1, 0, 12),
        (1, 1, 30),
        (1, 2, 21),
        (1, 3, 12),
        (2, 0, 14),
        (2, 1, 36),
        (2, 2, 25),
        (2, 3, 14),
        (3, 0, 16),
        (3, 1, 42),
        (3, 2, 29),
        (3, 3, 16),
    ] {
        fine(tg, ttl, 3 << bits);
        if bits > 12 {
            let unaligned = 3 << bits | 1 << (bits - 1);
            assert_eq!(at(tg, ttl, 1, unaligned), Err(("Addr", unaligned)), "{tg} {ttl}");
        }
    }
    // One page, any level, with a granule: reserved.
    assert_eq!(at(1, 0, 0, 0), Err(("TG", 1)));
    assert_eq!(at(0, 2, 0, 0), Err(("TTL", 2)));
    assert_eq!(at(0, 0, 3, 0), Err(("NUM", 3)));
}

#[test]
fn the_first_level_of_16k_is_none_without_ds() {
    let guest = guest_of(&rich(), |shown| shown.idr5 = shown.idr5.with_ds(false));
    let command = TlbiNhVa::new().with_tg(2).with_ttl(1).with_addr(0x4000);
    // Treated as TTL 0, for which NUM = SCALE = 0 is reserved.
    assert_eq!(made_for(&guest, command.0), Err(("TG", 2)));
    // The host has DS: there the hint would leave the guest's pages in place.
    let expected = command.with_num(1).with_ttl(0).with_vmid(7).0;
    assert_eq!(made_for(&guest, command.with_num(1).0), Ok(vec![expected]));
}

#[test]
fn without_substreams_none_is_named() {
    let guest = guest_of(&rich(), |shown| shown.idr1 = shown.idr1.with_ssidsize(0));
    assert_eq!(made_for(&guest, [0x10 << 32 | 1 << 12 | 5, 0]), Err(("SSID", 1)));
    assert_eq!(made_for(&guest, AtcInv::new().with_ssv(true).0), Err(("SSV", 1)));
    let expected = Ok(vec![[0x4_0001 << 32 | 5, 0]]);
    assert_eq!(made_for(&guest, [0x10 << 32 | 5, 0]), expected);
}

#[test]
fn a_batch_ends_at_a_sync_at_what_is_illegal_and_where_there_is_no_more_room() {
    let guest = guest();
    let nh_asid = |asid: u64| Command([asid << 48 | 0x11, 0]);
    let host = |asid: u64| Command([asid << 48 | VMID | 0x11, 0]);
    let sync = Sync::new().with_cs(1).with_msi_addr(0x8000_1000);
    let commands = [
        nh_asid(1),
        Command([1, 0]),
        nh_asid(2),
        sync.into(),
        nh_asid(3),
        Command([0x28, 0]),
        nh_asid(4),
    ];
    let mut out = [NOTHING; 2];
    let mut forwarder = Forwarder::new();
    let done = forwarder.forward(&guest, &STREAMS, &commands, &mut out);
    assert_eq!(done, Forwarded { consumed: 4, produced: 2, stop: Stop::Sync(sync) });
    assert_eq!(out, [host(1), host(2)]);
    let done = forwarder.forward(&guest, &STREAMS, &commands[4..], &mut out);
    assert_eq!((done.consumed, done.produced, out[0]), (1, 1, host(3)));
    let Stop::Refused { index: 1, illegal } = done.stop else { panic!("{:?}", done.stop) };
    assert_eq!((illegal.rule.field, illegal.value), ("Opcode", 0x28));
    // One slot at a time.
    let mut one = [NOTHING; 1];
    let done = forwarder.forward(&guest, &STREAMS, &commands, &mut one);
    assert_eq!(done, Forwarded { consumed: 2, produced: 1, stop: Stop::Full });
    let done = forwarder.forward(&guest, &STREAMS, &commands[2..], &mut one);
    assert_eq!(done, Forwarded { consumed: 2, produced: 1, stop: Stop::Sync(sync) });
    // No commands, no room.
    let done = forwarder.forward(&guest, &STREAMS, &[], &mut []);
    assert_eq!(done, Forwarded { consumed: 0, produced: 0, stop: Stop::Empty });
    let done = forwarder.forward(&guest, &STREAMS, &[nh_asid(1)], &mut []);
    assert_eq!(done, Forwarded { consumed: 0, produced: 0, stop: Stop::Full });
}

/// Of which nothing comes: hints, streams that are not the guest's, devices without ATS.
#[test]
fn a_call_looks_at_so_many_commands_whatever_comes_of_them() {
    let guest = guest();
    let unknown = 0x777u64 << 32;
    // PREFETCH_CONFIG; CFGI_CD and ATC_INV of a stream that nobody gave the guest.
    for nothing in [[0x10 << 32 | 0x01, 0], [unknown | 0x05, 1], [unknown | 0x40, 52]] {
        let flood = [Command(nothing); 3 * LARGEST_LOOK - 1];
        let (mut forwarder, mut left, mut calls) = (Forwarder::new(), &flood[..], Vec::new());
        while !left.is_empty() {
            let done = forwarder.forward(&guest, &STREAMS, left, &mut [NOTHING; 1]);
            assert_eq!(done.produced, 0);
            calls.push((done.consumed, done.stop));
            left = &left[done.consumed..];
        }
        let full = (256, Stop::Full);
        assert_eq!(calls, [full, full, (255, Stop::Empty)], "{nothing:x?}");
    }
    // As many as one call looks at are all.
    let done = Forwarder::new().forward(
        &guest,
        &STREAMS,
        &[Command([0x10 << 32 | 0x01, 0]); LARGEST_LOOK],
        &mut [],
    );
    assert_eq!((done.consumed, done.stop), (256, Stop::Empty));
}

#[test]
fn what_stands_for_many_streams_goes_on_where_there_was_no_more_room() {
    let guest = guest();
    let all = [Command::cfgi_all(), Sync::new().into()];
    for room in 1..5 {
        let mut forwarder = Forwarder::new();
        let mut made = Vec::new();
        let mut calls = 0;
        loop {
            calls += 1;
            let mut out = [NOTHING; 4];
            let done = forwarder.forward(&guest, &STREAMS, &all, &mut out[..room]);
            made.extend(out.iter().take(done.produced).map(|command| command.0[0] >> 32));
            match done.stop {
                Stop::Full => assert_eq!((done.consumed, done.produced), (0, room)),
                Stop::Entries { .. } => {
                    assert_eq!(done.consumed, 1);
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(made, [0x4_0001, 0x3_0000, 0x10]);
        // The last call may only find that there are no more.
        assert_eq!(calls, 3usize.div_ceil(room), "{room}");
    }
}

#[test]
fn stalls_are_answered_by_whoever_handed_them_on() {
    let features = rich();
    let guest = guest_of(&features, |shown| {
        shown.idr0 = shown.idr0.with_stall_model(0);
    });
    let stop = |command| {
        let mut out = [NOTHING; 1];
        let done = Forwarder::new().forward(&guest, &STREAMS, &[Command(command)], &mut out);
        assert_eq!((done.consumed, done.produced), (1, 0));
        done.stop
    };
    // RESUME (retry) and STALL_TERM of stream 0x11.
    let resume = [0x11 << 32 | 1 << 12 | 0x44, 3];
    let host = Command([0x3_0000 << 32 | 1 << 12 | 0x44, 3]);
    assert_eq!(stop(resume), Stop::Answer(host));
    assert_eq!(stop([0x11 << 32 | 0x45, 0]), Stop::Answer(Command([0x3_0000 << 32 | 0x45, 0])));
    assert_eq!(stop([0x12 << 32 | 0x45, 0]), Stop::Empty);
}

#[test]
fn page_requests_are_answered_by_whoever_handed_them_on() {
    let features = rich();
    let guest = guest_of(&features, |shown| {
        shown.idr0 = shown.idr0.with_pri(true);
        shown.idr1 = shown.idr1.with_ssidsize(8);
    });
    let forward = |command| {
        let mut out = [NOTHING; 1];
        let done = Forwarder::new().forward(&guest, &STREAMS, &[Command(command)], &mut out);
        assert_eq!(done.produced, 0);
        done.stop
    };
    // Success for group 5 of stream 0x11, without a PASID and with the last one that there is.
    assert_eq!(
        forward([0x11 << 32 | 0x41, 0x2005]),
        Stop::Answer(Command([0x3_0000 << 32 | 0x41, 0x2005]))
    );
    assert_eq!(
        forward([0x11 << 32 | 255 << 12 | 1 << 11 | 0x41, 0x2005]),
        Stop::Answer(Command([0x3_0000 << 32 | 255 << 12 | 1 << 11 | 0x41, 0x2005]))
    );
    // Another's stream, and a PASID that its SMMU does not have.
    assert_eq!(forward([0x12 << 32 | 0x41, 0x2005]), Stop::Empty);
    assert_eq!(forward([0x11 << 32 | 256 << 12 | 1 << 11 | 0x41, 0x2005]), Stop::Empty);
    // Resp = 3 means nothing.
    let Stop::Refused { index: 0, illegal } = forward([0x11 << 32 | 0x41, 0x3005]) else {
        panic!()
    };
    assert_eq!((illegal.rule.field, illegal.value), ("Resp", 3));
}

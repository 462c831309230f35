// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any words of a guest, on any SMMU: what is the host's stays the host's.

use super::*;
use crate::nest::context::check;
use crate::nest::event::{blamed, owner};
use smmuv3_formats::legality;
use smmuv3_formats::{Cd, Command, EventId, EventRecord, Opcode};

/// SMMUs, and guests that are shown parts of them.
fn guests(numbers: &mut Numbers) -> std::vec::Vec<Guest> {
    let mut guests = std::vec![guest(), guest_of(&qemu(), |_| {})];
    while guests.len() < 60 {
        let bits = numbers.next();
        let features = rich_but(|r| {
            r.idr0 = r.idr0.with_stall_model(bits & 1).with_ats(bits & 2 != 0);
            r.idr0 = r.idr0.with_pri(bits & 6 == 6).with_asid16(bits & 8 != 0).with_ns1ats(false);
            r.idr0 = r.idr0.with_cd2l(bits & 16 != 0).with_term_model(bits & 32 != 0);
        });
        let stage_2 = STAGE_2.with_s2_s(bits & 1 == 0 && bits & 64 != 0);
        let stage_2 = stage_2.with_s2_fwb(bits & 128 != 0).with_s2_vmid(bits >> 48);
        let parent = Parent::new(stage_2, &features).unwrap();
        let mut shown = Guest::offer(&features, &parent);
        let bits = numbers.next();
        shown.idr0 = shown.idr0.with_stall_model(numbers.below(2)).with_pri(bits & 2 != 0);
        shown.idr0 = shown.idr0.with_ats(bits & 4 != 0).with_asid16(bits & 8 != 0);
        shown.idr1 = shown.idr1.with_ssidsize(numbers.below(21));
        shown.idr5 = shown.idr5.with_oas(numbers.below(4)).with_ds(bits & 16 != 0);
        shown.idr3 = shown.idr3.with_s1pi(bits & 32 != 0).with_aie(bits & 64 != 0);
        guests.extend(Guest::new(&features, parent, shown));
    }
    guests
}

fn limits(numbers: &mut Numbers) -> Limits {
    let ats = [AtsMode::Off, AtsMode::Full, AtsMode::Split][numbers.below(3) as usize];
    Limits { ats, stalls: numbers.below(2) == 1 }
}

/// What of a nested entry a guest can choose.
fn chosen() -> Ste {
    let pointer = Ste([u64::MAX; 8]).s1_context_ptr();
    let ste = Ste::default().with_s1_fmt(3).with_s1_context_ptr(pointer).with_s1_cd_max(31);
    let ste = ste.with_s1_dss(3).with_s1_cir(3).with_s1_cor(3).with_s1_csh(3);
    ste.with_s1_stalld(true).with_s1_pie(true).with_eats(3)
}

#[test]
fn any_entry_is_legal_and_has_the_hosts_half() {
    let mut numbers = Numbers(1);
    let (mut nested, mut split, mut refused) = (0, 0, 0);
    for guest in guests(&mut numbers) {
        for _ in 0..4000 {
            // Legal ones with some bits changed, and any.
            let mut words = [5 << 59 | 0x8002_0000 | 1 << 4 | 0b1011, 0xd6, 0, 0, 0, 0, 0, 0];
            match numbers.below(4) {
                0 => words = core::array::from_fn(|_| numbers.word()),
                changes => {
                    for _ in 0..changes {
                        words[numbers.below(8) as usize & 7] ^= 1 << numbers.below(64);
                        words[numbers.below(2) as usize] ^= 1 << numbers.below(64);
                    }
                }
            }
            let limits = limits(&mut numbers);
            let Ok(request) = Request::decode(&Ste(words), &guest) else {
                refused += 1;
                continue;
            };
            let ste = request.encode(&guest, limits);
            assert_eq!(legality::ste(&ste, &guest.host().implementation()), Ok(()), "{words:x?}");
            let host = guest.parent().entry();
            match request {
                Request::Invalid | Request::Abort => assert_eq!(ste, Ste([1, 0, 0, 0, 0, 0, 0, 0])),
                Request::Bypass => assert_eq!(ste, host),
                Request::Stage1(_) => {
                    nested += 1;
                    let expected = host.with_config(0b111);
                    for ((word, host), chosen) in ste.0.iter().zip(expected.0).zip(chosen().0) {
                        assert_eq!(word & !chosen, host & !chosen, "{words:x?}");
                    }
                    split += usize::from(ste.eats() == 2);
                    let eats = [0, limits.ats.eats()];
                    assert!(ste.mev() && eats.contains(&ste.eats()), "{words:x?}");
                    let never = guest.shown().idr0.stall_model() == 1 || !limits.stalls;
                    let chosen = guest.host().registers.idr0.stall_model() == 0;
                    assert!(ste.s1_stalld() || !never || !chosen, "{words:x?}");
                }
            }
        }
    }
    assert!(nested > 10_000 && refused > 10_000, "{nested} nested, {refused} refused");
    assert!(split > 20, "{split} with split-stage ATS");
}

#[test]
fn any_context_that_passes_is_legal_for_the_hosts_smmu() {
    let mut numbers = Numbers(2);
    let mut fine = 0;
    for guest in guests(&mut numbers) {
        let entry = Ste([0x8002_000b, 0xd4, 0, 0, 0, 0, 0, 0]);
        let request = Request::decode(&entry, &guest).unwrap();
        let Request::Stage1(contexts) = request else { panic!("{request:?}") };
        for _ in 0..4000 {
            let mut words = [0x0005_e204_c000_3510, 0x1000_0000, 0, 0x0004_44ff, 0, 0, 0, 0];
            for _ in 0..numbers.below(4) {
                words[numbers.below(8) as usize & 7] ^= 1 << numbers.below(64);
            }
            let limits = limits(&mut numbers);
            if check(&Cd(words), &contexts, &guest, limits).is_ok() {
                fine += 1;
                let ste = request.encode(&guest, limits);
                let host = guest.host().implementation();
                assert_eq!(legality::cd(&Cd(words), &ste, &host), Ok(()), "{words:x?}");
            }
        }
    }
    assert!(fine > 10_000, "{fine}");
}

#[test]
fn any_command_concerns_the_guest_alone() {
    let mut numbers = Numbers(3);
    let (mut made, mut refused) = (0, 0);
    let codes = [1, 2, 3, 4, 5, 6, 0x10, 0x11, 0x12, 0x13, 0x30, 0x40, 0x41, 0x44, 0x45, 0x46];
    for guest in guests(&mut numbers) {
        let vmid = u64::from(guest.parent().vmid());
        let mut forwarder = Forwarder::new();
        for _ in 0..4000 {
            let commands: [Command; 4] = core::array::from_fn(|_| {
                let code = codes[numbers.below(codes.len() as u64) as usize];
                let stream = [0x10, 0x11, 0x80, 0x12][numbers.below(4) as usize];
                match numbers.below(3) {
                    0 => Command([numbers.word() & !0xff | code, numbers.word()]),
                    1 => Command([stream << 32 | code, numbers.below(32)]),
                    _ => Command([numbers.next() & 0xffff << 48 | code, numbers.next() << 12]),
                }
            });
            let mut out = [Command([0; 2]); 3];
            let done = forwarder.forward(&guest, &STREAMS, &commands, &mut out);
            assert!(done.consumed <= 4 && done.produced <= 3);
            let answer = match done.stop {
                Stop::Answer(command) => Some(command),
                Stop::Refused { index, .. } => {
                    refused += 1;
                    assert_eq!(index, done.consumed);
                    None
                }
                _ => None,
            };
            for command in out.iter().take(done.produced).copied().chain(answer) {
                made += 1;
                let host = guest.host().implementation();
                assert_eq!(legality::command(&command, &host), Ok(()), "{command}");
                assert_eq!(command.reserved_bits(), [0; 2], "{command}");
                use Opcode as Op;
                match command.opcode().unwrap() {
                    Op::TlbiNhAll | Op::TlbiNhAsid | Op::TlbiNhVa | Op::TlbiNhVaa => {
                        assert_eq!(command.field("VMID"), Some(vmid), "{command}");
                    }
                    Op::CfgiSte | Op::CfgiCd | Op::CfgiCdAll | Op::AtcInv => {
                        let stream = StreamId(command.field("SID").unwrap() as u32);
                        assert!(STREAMS.guest(stream).is_some(), "{command}");
                    }
                    Op::Resume | Op::StallTerm | Op::PriResp => {
                        assert_eq!(Some(command), answer);
                        let stream = StreamId(command.field("SID").unwrap() as u32);
                        assert!(STREAMS.guest(stream).is_some(), "{command}");
                    }
                    _ => panic!("{command}"),
                }
            }
        }
    }
    assert!(made > 10_000 && refused > 10_000, "{made} made, {refused} refused");
}

#[test]
fn any_event_is_told_as_the_guests_smmu_would() {
    let mut numbers = Numbers(4);
    let mut told = 0;
    for guest in guests(&mut numbers) {
        for _ in 0..4000 {
            let stream = [0x4_0001, 0x3_0000, 0x10, 0x11][numbers.below(4) as usize];
            let id = [numbers.below(0x26), 0x10 + numbers.below(4)][numbers.below(2) as usize];
            let first = stream << 32 | numbers.word() & 0xffff_ff00 | id;
            let record = EventRecord([first, numbers.word(), numbers.word(), numbers.word()]);
            let told_instead = blamed(&record, &guest, &STREAMS);
            let owned = match owner(&record, &guest, &STREAMS) {
                Owner::Guest(record) => Some(record),
                Owner::Host(_) => None,
            };
            for event in [told_instead, owned].into_iter().flatten() {
                told += 1;
                let mut found = None;
                let shown = guest.implementation();
                legality::event(&event, Some(&shown), &mut |rule| found = Some(rule));
                assert_eq!(found, None, "{event}");
                assert!(STREAMS.host(StreamId(event.sid() as u32)).is_some());
                // Other bits of E_PAGE_REQUEST are there.
                let request = event.event() == Some(EventId::EPageRequest);
                let lower = event.s2() || event.gpcf() || event.nsipa();
                assert!(request || !lower, "{event}");
                // Addresses of the host are never told; what is there was an intermediate address.
                assert!(event.fetch_addr() == 0 || Some(event) == told_instead, "{event}");
            }
        }
    }
    assert!(told > 10_000, "{told}");
}

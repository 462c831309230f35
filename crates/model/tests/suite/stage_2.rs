// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stage 2 alone: appendix A2, its negative results, permissions, tags and invalidations (§4.2, §5.2, §9, §16.2).

use smmuv3_formats::Command;
use smmuv3_formats::command::{TlbiNhVaa, TlbiNsnhAll, TlbiS2Ipa, TlbiS12Vmall};
use smmuv3_model::{Access, Misuse, Observation, Profile, Reason, Reference, Stages, Transfer};

use crate::machine::*;

/// A2: two concatenated tables of level 1, those below, and what they map.
pub const S2_L1: u64 = 0x8004_0000;
pub const S2_L2: u64 = 0x8004_2000;
pub const S2_L3: u64 = 0x8004_3000;
pub const IPA: u64 = 0xff_1234_5000;
pub const A2_W1: u64 = 0x0000_1000_0000_0000;
pub const A2_W2: u64 = 0x040c_3558_0000_0007;
const VMID: u64 = 7;
/// Word 1 of a fault of stage 2 about the input: read, or write.
const READ: u64 = 0x0000_0288_0000_0000;
const WRITE: u64 = 0x0000_0280_0000_0000;

/// With both stages, 44-bit addresses.
pub fn both() -> Profile {
    quiet().s2p(true)
}

/// A page of stage 2: read and write, WB, ISH, AF, never executed.
pub const fn page(address: u64) -> u64 {
    address | 0b10 << 53 | 1 << 10 | 0b11 << 8 | 0b11 << 6 | 0b1111 << 2 | 0b11
}

pub const fn a2_ste() -> [u64; 8] {
    [0xd, A2_W1, A2_W2, S2_L1, 0, 0, 0, 0]
}

fn slot() -> u64 {
    S2_L3 + 8 * 0x145
}

fn a2(profile: Profile) -> Machine {
    let machine = Machine::new(profile, 1);
    machine.ste(SID, a2_ste());
    machine.put(S2_L1 + 0x1fe0, S2_L2 | 3);
    machine.put(S2_L2 + 8 * 0x91, S2_L3 | 3);
    machine.put(slot(), page(PA));
    machine
}

fn only_event(machine: &mut Machine) -> [u64; 4] {
    let events = machine.events();
    assert_eq!(events.len(), 1, "{events:?}");
    events[0].0
}

fn words(id: u64, w1: u64, input: u64, ipa: u64) -> [u64; 4] {
    [id | u64::from(SID) << 32, w1, input, ipa]
}

#[test]
fn the_worked_example_translates() {
    let mut machine = a2(both());
    let found = machine.translate(Access::write(SID, IPA + 0x678)).unwrap();
    assert_eq!((found.pa, found.size, found.tlb_hit), (PA + 0x678, 0x1000, false));
    assert!(machine.translate(Access::read(SID, IPA)).unwrap().tlb_hit);
    let entries: Vec<_> = machine.smmu.tlb_entries().copied().collect();
    assert_eq!(entries.len(), 1);
    assert_eq!((entries[0].stages, entries[0].va, entries[0].ttb), (Stages::Two, IPA, S2_L1));
    assert_eq!(entries[0].tag.vmid, Some(7));
    // Two table descriptors, and nothing of stage 1.
    assert!(machine.smmu.walk_entries().all(|entry| entry.stages() == Stages::Two));
    assert_eq!(machine.smmu.walk_entries().count(), 2);
    assert_eq!(machine.smmu.statistics().descriptors, 3);
    assert_eq!((machine.smmu.statistics().tlb_hits, machine.smmu.statistics().tlb_misses), (1, 1));
    assert_eq!(machine.events(), []);
    assert_eq!(machine.misuses(), []);
}

#[test]
fn addresses_beyond_the_input_are_faults_of_the_stage_that_lacks_them() {
    let mut machine = a2(both());
    let inside = 1 << 40;
    assert_eq!(machine.read(inside), None);
    assert_eq!(only_event(&mut machine), words(0x10, READ, inside, inside));
    let outside = 1 << 44;
    assert_eq!(machine.read(outside), None);
    assert_eq!(only_event(&mut machine), words(0x11, 0x208_0000_0000, outside, 0));
    // Within the input, where nothing is.
    assert!(machine.translate(Access::write(SID, IPA + 0x1008)).is_err());
    assert_eq!(only_event(&mut machine), words(0x10, WRITE, IPA + 0x1008, IPA + 0x1000));
}

#[test]
fn start_levels_must_go_with_the_input_size() {
    // 32 concatenated tables.
    let mut machine = a2(both());
    let mut ste = a2_ste();
    ste[2] = 0x040c_3554_0000_0007;
    machine.ste(SID, ste);
    assert_eq!(machine.read(IPA), None);
    assert_eq!(only_event(&mut machine), words(0x04, 0, 0, 0));
    // One table of level 0.
    let mut machine = a2(both());
    ste[2] = 0x040c_3598_0000_0007;
    machine.ste(SID, ste);
    machine.put(S2_L1 + 8, (S2_L3 + 0x1000) | 3);
    machine.put(S2_L3 + 0x1000 + 8 * 0x1fc, S2_L2 | 3);
    assert_eq!(machine.read(IPA), Some(PA));
    assert_eq!(machine.smmu.statistics().descriptors, 4);
}

#[test]
fn stage_2_alone_has_no_substreams() {
    let mut machine = a2(both().ssidsize(4));
    let access = Access { substream: Some(1), ..Access::read(SID, IPA) };
    assert!(machine.translate(access).is_err());
    assert_eq!(only_event(&mut machine), [0x0000_0005_0000_1008, 0, 0, 0]);
}

#[test]
fn outputs_flags_and_records_follow_the_entry() {
    // S2PS = 40 bits: the output has one more.
    let mut machine = a2(both());
    let mut ste = a2_ste();
    ste[2] = ste[2] & !(7 << 48) | 2 << 48;
    machine.ste(SID, ste);
    machine.put(slot(), page(1 << 40));
    assert_eq!(machine.read(IPA), None);
    assert_eq!(only_event(&mut machine), words(0x11, READ, IPA, IPA));
    // AF = 0, and S2AFFD.
    let mut machine = a2(both());
    machine.put(slot(), page(PA) & !(1 << 10));
    assert_eq!(machine.read(IPA), None);
    assert_eq!(only_event(&mut machine), words(0x12, READ, IPA, IPA));
    let mut ste = a2_ste();
    ste[2] |= 1 << 53;
    machine.ste(SID, ste);
    machine.command(cfgi_ste(SID));
    assert_eq!(machine.read(IPA), Some(PA));
    // S2R = 0: aborted all the same.
    let mut machine = a2(both());
    ste[2] &= !(1 << 58);
    machine.ste(SID, ste);
    let refusal = machine.translate(Access::read(SID, IPA + 0x1000)).unwrap_err();
    assert!(matches!(refusal.reason, Reason::Event(_)) && refusal.event.is_none());
    // An unreadable table is recorded whatever S2R is.
    machine.ram.break_range(slot(), 8);
    assert_eq!(machine.read(IPA), None);
    assert_eq!(only_event(&mut machine), words(0x0b, READ, IPA, slot()));
}

#[test]
fn permissions_follow_s2ap_and_xn() {
    // S2AP and XN -> unprivileged r, w, x; privileged r, w, x. Execution needs no other right.
    for (s2ap, xn, with_xnx, without) in [
        (0b00, 0b00, "--x--x", "--x--x"),
        (0b01, 0b00, "r-xr-x", "r-xr-x"),
        (0b10, 0b00, "-wx-wx", "-wx-wx"),
        (0b11, 0b00, "rwxrwx", "rwxrwx"),
        (0b11, 0b01, "rwxrw-", "rwxrwx"),
        (0b11, 0b10, "rw-rw-", "rw-rw-"),
        (0b11, 0b11, "rw-rwx", "rw-rw-"),
    ] {
        for (xnx, expected) in [(true, with_xnx), (false, without)] {
            let mut profile = both();
            profile.idr3 = profile.idr3.with_xnx(xnx);
            let mut machine = a2(profile);
            machine.put(slot(), page(PA) & !(3 << 6) & !(3 << 53) | s2ap << 6 | xn << 53);
            let mut found = String::new();
            for privileged in [false, true] {
                for (kind, write, instruction) in
                    [('r', false, false), ('w', true, false), ('x', false, true)]
                {
                    let access =
                        Access { write, instruction, privileged, ..Access::read(SID, IPA) };
                    let allowed = machine.translate(access).is_ok();
                    found.push(if allowed { kind } else { '-' });
                    for event in machine.events() {
                        let w1 = 0x280_0000_0000
                            | u64::from(privileged) << 33
                            | u64::from(instruction) << 34
                            | u64::from(!write) << 35;
                        assert_eq!(event.0, words(0x13, w1, IPA, IPA));
                    }
                }
            }
            assert_eq!(found, expected, "{s2ap:b} {xn:b} {xnx}");
        }
    }
}

#[test]
fn concatenated_tables_of_other_granules() {
    // 16 KiB (S2TG = 2), level 2 (SL0 = 1), T0SZ = 25: 8 tables side by side, 128 KiB in all.
    let ipa = 0x70_1234_4000u64;
    let mut machine = Machine::new(both().granules(true, true, true), 1);
    let w2 = 0x040c_3500_0000_0007 & !(3 << 46) | 2 << 46 | 1 << 38 | 25;
    // A2's T0SZ and S2SL0 are gone: only what is named is there.
    let w2 = w2 & !(0x3f << 32) | 25 << 32;
    let root = 0x8060_0000;
    machine.ste(SID, [0xd, A2_W1, w2 & !0x3f | 7, root, 0, 0, 0, 0]);
    machine.put(root + 8 * (ipa >> 25), 0x8064_0003);
    machine.put(0x8064_0000 + 8 * (ipa >> 14 & 0x7ff), page(PA));
    assert_eq!(machine.read(ipa + 0x123), Some(PA + 0x123));
    // 64 KiB (S2TG = 1), level 3 (SL0 = 0), T0SZ = 31: 16 tables.
    let ipa = 0x1_2345_0000u64;
    let mut machine = Machine::new(both().granules(true, true, true), 1);
    let w2 = 0x040c_3500_0000_0007 & !(3 << 46) & !(0x3f << 32) | 1 << 46 | 31 << 32;
    machine.ste(SID, [0xd, A2_W1, w2, root, 0, 0, 0, 0]);
    machine.put(root + 8 * (ipa >> 16), page(PA));
    assert_eq!(machine.read(ipa + 0x123), Some(PA + 0x123));
}

fn s2_ipa(vmid: u64, ipa: u64) -> TlbiS2Ipa {
    TlbiS2Ipa::new().with_vmid(vmid).with_addr(ipa)
}

#[test]
fn invalidations_hit_what_they_must_and_nothing_else() {
    let leaf = |command: TlbiS2Ipa| command.with_leaf(true);
    // (command, leaves left, tables left).
    let cases: [(Command, usize, usize); 11] = [
        (tlbi_all().with_vmid(VMID).into(), 1, 2),
        (TlbiNhVaa::new().with_vmid(VMID).with_addr(IPA).into(), 1, 2),
        (tlbi_asid(0).with_vmid(VMID).into(), 1, 2),
        (s2_ipa(VMID, IPA).into(), 0, 0),
        (leaf(s2_ipa(VMID, IPA)).into(), 0, 2),
        (s2_ipa(VMID, IPA + 0x1000).into(), 1, 0),
        (s2_ipa(8, IPA).into(), 1, 2),
        (s2_ipa(VMID, IPA - 0x1000).with_tg(1).with_num(1).with_ttl(3).into(), 0, 0),
        (s2_ipa(VMID, IPA & !0x1f_ffff).with_tg(1).with_ttl(2).into(), 1, 1),
        (TlbiS12Vmall::new().with_vmid(VMID).into(), 0, 0),
        (TlbiNsnhAll::new().into(), 0, 0),
    ];
    for (command, leaves, tables) in cases {
        let mut machine = a2(both());
        assert_eq!(machine.read(IPA), Some(PA));
        machine.command(command);
        machine.sync();
        let left = (machine.smmu.tlb_entries().count(), machine.smmu.walk_entries().count());
        assert_eq!(left, (leaves, tables), "{command}");
        assert_eq!(machine.misuses(), [], "{command}");
    }
    let mut machine = a2(both());
    assert_eq!(machine.read(IPA), Some(PA));
    machine.command(TlbiS12Vmall::new().with_vmid(6));
    assert_eq!(machine.smmu.tlb_entries().count(), 1);
}

#[test]
fn vmids_and_addresses_that_do_not_exist_invalidate_nothing() {
    for (command, what) in [
        (s2_ipa(0x107, IPA), "VMID"),
        (s2_ipa(VMID, 1 << 44), "names no address"),
        (s2_ipa(VMID, IPA).with_ttl(2).with_tg(1), "names no range"),
        (s2_ipa(VMID, IPA).with_num(1), "names no range"),
    ] {
        let mut machine = a2(both());
        assert_eq!(machine.read(IPA), Some(PA));
        machine.smmu.observations();
        machine.command(command);
        machine.sync();
        assert_eq!(machine.smmu.tlb_entries().count(), 1, "{command:?}");
        let misuses: Vec<String> = machine.misuses().iter().map(ToString::to_string).collect();
        assert!(matches!(&misuses[..], [one] if one.contains(what)), "{misuses:?}");
    }
    // 16 bits of them, where the instance has that.
    let mut machine = a2(both().vmid16(true));
    let mut ste = a2_ste();
    ste[2] |= 0x100;
    machine.ste(SID, ste);
    assert_eq!(machine.read(IPA), Some(PA));
    machine.command(s2_ipa(VMID, IPA));
    assert_eq!(machine.smmu.tlb_entries().count(), 1);
    machine.command(s2_ipa(0x107, IPA));
    assert_eq!(machine.smmu.tlb_entries().count(), 0);
    // Without, such an entry is illegal.
    let mut machine = a2(both());
    machine.ste(SID, ste);
    assert_eq!(machine.read(IPA), None);
    assert_eq!(only_event(&mut machine), words(0x04, 0, 0, 0));
}

#[test]
fn streams_of_one_vmid_share_what_is_cached() {
    let mut machine = a2(both());
    assert_eq!(machine.read(IPA), Some(PA));
    // The page is unmapped, but its entry is not invalidated.
    machine.put(slot(), 0);
    machine.ste(6, a2_ste());
    let found = machine.translate(Access::read(6, IPA)).unwrap();
    assert_eq!((found.pa, found.tlb_hit), (PA, true));
    assert_eq!(machine.misuses(), []);
    let mut other = a2_ste();
    other[2] += 1;
    machine.ste(7, other);
    assert!(machine.translate(Access::read(7, IPA)).is_err(), "another VMID");
}

#[test]
fn streams_of_one_vmid_must_agree_on_stage_2() {
    // S2R may differ; S2AFFD may not.
    for (bit, wrong) in [(58, false), (53, true), (45, true)] {
        let mut machine = a2(both());
        assert_eq!(machine.read(IPA), Some(PA));
        let mut other = a2_ste();
        other[2] ^= 1 << bit;
        machine.ste(6, other);
        let _ = machine.translate(Access::read(6, IPA));
        let reported = [Misuse::VmidDisagreement { vmid: 7, stream: 6 }];
        assert_eq!(machine.misuses(), if wrong { &reported[..] } else { &[] }, "bit {bit}");
    }
    // Other tables, and what is cached of the first.
    let mut machine = a2(both());
    assert_eq!(machine.read(IPA), Some(PA));
    let mut other = a2_ste();
    other[3] = 0x8060_0000;
    machine.ste(SID, other);
    machine.command(cfgi_ste(SID));
    machine.sync();
    machine.smmu.observations();
    assert_eq!(machine.read(IPA), Some(PA), "the old entry hits");
    let seen = machine.smmu.observations();
    let conflict =
        Observation::VmidConflict { vmid: 7, ttb_old: S2_L1, ttb_new: 0x8060_0000, stream: SID };
    assert!(seen.contains(&conflict), "{seen:?}");
}

#[test]
fn tables_of_stage_2_are_in_use_until_nothing_leads_to_them() {
    let mut machine = a2(both());
    let of = |machine: &Machine, pa| machine.smmu.references(pa, 8);
    for (pa, level) in [(S2_L1, 1), (S2_L1 + 0x1ff8, 1), (S2_L2, 2), (S2_L3, 3)] {
        let found = Some(Reference::Stage2Table { stream: SID, level, cached: false });
        assert_eq!(of(&machine, pa), found);
    }
    assert_eq!(of(&machine, PA), None);
    assert_eq!(machine.read(IPA), Some(PA));
    // Unlinked, and hit by less than is needed.
    machine.put(S2_L2 + 8 * 0x91, 0);
    machine.command(s2_ipa(VMID, IPA).with_leaf(true));
    machine.sync();
    assert!(matches!(of(&machine, S2_L3), Some(Reference::WalkEntry { level: 3, .. })));
    machine.command(s2_ipa(VMID, IPA));
    machine.sync();
    assert_eq!(of(&machine, S2_L3), None);
    // The stream is detached, its entry still cached.
    machine.ste(SID, [1, 0, 0, 0, 0, 0, 0, 0]);
    machine.command(TlbiS12Vmall::new().with_vmid(VMID));
    machine.sync();
    let cached = Some(Reference::Stage2Table { stream: SID, level: 1, cached: true });
    assert_eq!(of(&machine, S2_L1), cached);
    machine.command(cfgi_ste(SID));
    machine.sync();
    assert_eq!(of(&machine, S2_L1), None);
}

#[test]
fn it_fetches_ahead_of_need() {
    let mut machine = a2(Profile::default().s2p(true));
    assert_eq!(machine.read(IPA), Some(PA));
    machine.put(slot() - 8 * 0x100, page(PA + 0x1000));
    machine.smmu.observations();
    let mut ahead = false;
    for _ in 0..400 {
        machine.smmu.act();
        ahead |= machine.smmu.tlb_entries().any(|entry| entry.va == IPA - 0x10_0000);
    }
    assert!(ahead);
    assert_eq!(machine.misuses(), []);
    assert_eq!(machine.events(), []);
}

#[test]
fn transfers_wait_for_invalidations_of_what_they_used_alone() {
    for (command, drained) in [
        (Command::from(s2_ipa(VMID, IPA)), true),
        (s2_ipa(VMID, IPA + 0x1000).into(), false),
        (TlbiS12Vmall::new().with_vmid(VMID).into(), true),
        (tlbi_all().with_vmid(VMID).into(), false),
    ] {
        let mut machine = a2(both());
        machine.put(slot(), page(0x8070_0000));
        machine.smmu.hold(Access::write(SID, IPA), Transfer::Write(vec![7; 8])).unwrap();
        machine.command(command);
        machine.sync();
        assert_eq!(machine.get(0x8070_0000) != 0, drained, "{command}");
    }
}

#[test]
fn stage_2_alone_may_have_the_vmid_of_stage_1_alone() {
    // Their entries are of different kinds (§1): TLBI_S12_VMALL hits both, and nothing else goes wrong.
    let mut machine = a2(both());
    assert_eq!(machine.read(IPA), Some(PA));
    let mut alone = ste_words(CD);
    alone[2] = VMID;
    machine.ste(6, alone);
    machine.cd_at(CD, cd_words(5, L0));
    machine.tables_a1(L0, PA + 0x1000);
    assert_eq!(machine.translate(Access::read(6, VA)).map(|found| found.pa), Ok(PA + 0x1000));
    assert_eq!(machine.read(IPA), Some(PA));
    assert_eq!(machine.misuses(), []);
    machine.command(TlbiS12Vmall::new().with_vmid(VMID));
    assert_eq!(machine.smmu.tlb_entries().count(), 0);
}

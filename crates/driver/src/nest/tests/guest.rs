// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a guest can be shown.

use super::*;
use crate::errata::Firmware;

/// The field that is refused when `change` is made to what the rich SMMU offers.
fn refused(change: impl FnOnce(&mut IdRegisters)) -> (&'static str, u64) {
    refused_on(&rich(), change)
}

fn refused_on(features: &Features, change: impl FnOnce(&mut IdRegisters)) -> (&'static str, u64) {
    let parent = parent(features);
    let mut shown = Guest::offer(features, &parent);
    change(&mut shown);
    let illegal = Guest::new(features, parent, shown).unwrap_err();
    (illegal.rule.field, illegal.value)
}

#[test]
fn what_is_offered_is_stage_1_of_what_there_is() {
    for features in [qemu(), rich()] {
        let guest = guest_of(&features, |_| {});
        let (shown, host) = (guest.shown(), features.registers);
        assert!(shown.idr0.s1p() && !shown.idr0.s2p() && !shown.idr0.hyp() && !shown.idr0.btm());
        assert_eq!((shown.idr0.stall_model(), shown.idr0.ats()), (1, features.ats));
        assert_eq!(shown.idr1.ssidsize(), host.idr1.ssidsize());
        assert!(!shown.idr1.attr_types_ovr() && !shown.idr1.attr_perms_ovr() && !shown.idr0.pri());
        // 40 bits: what stage 2 translates.
        assert_eq!((shown.idr5.oas(), guest.output_bits()), (2, 40));
    }
}

/// Also what the SMMU has, and the driver was built without (feature `ats`).
#[test]
fn what_the_driver_lacks_is_not_offered() {
    let mut host = rich();
    host.ats = false;
    assert!(host.registers.idr0.ats());
    assert!(!Guest::offer(&host, &parent(&host)).idr0.ats());
}

#[test]
fn what_would_be_the_hosts_is_not_shown() {
    assert_eq!(refused(|r| r.idr0 = r.idr0.with_s1p(false)), ("IDR0.S1P", 0));
    assert_eq!(refused(|r| r.idr0 = r.idr0.with_s2p(true)), ("IDR0.S2P", 1));
    assert_eq!(refused(|r| r.idr0 = r.idr0.with_btm(true)), ("IDR0.BTM", 1));
    assert_eq!(refused(|r| r.idr0 = r.idr0.with_hyp(true)), ("IDR0.Hyp", 1));
    assert_eq!(refused(|r| r.idr0 = r.idr0.with_rme_impl(true)), ("IDR0.RME_IMPL", 1));
    let types = |r: &mut IdRegisters| r.idr1 = r.idr1.with_attr_types_ovr(true);
    assert_eq!(refused(types), ("IDR1.ATTR_TYPES_OVR", 1));
    let permissions = |r: &mut IdRegisters| r.idr1 = r.idr1.with_attr_perms_ovr(true);
    assert_eq!(refused(permissions), ("IDR1.ATTR_PERMS_OVR", 1));
    assert_eq!(refused(|r| r.idr3 = r.idr3.with_mpam(true)), ("IDR3.MPAM", 1));
    assert_eq!(refused(|r| r.idr3 = r.idr3.with_dpt(true)), ("IDR3.DPT", 1));
    assert_eq!(refused(|r| r.idr5 = r.idr5.with_d128(true)), ("IDR5.D128", 1));
}

#[test]
fn what_the_hosts_smmu_lacks_is_not_shown() {
    let refused = |change: fn(&mut IdRegisters)| refused_on(&qemu(), change);
    assert_eq!(refused(|r| r.idr0 = r.idr0.with_httu(1)), ("IDR0.HTTU", 1));
    assert_eq!(refused(|r| r.idr0 = r.idr0.with_ats(true)), ("IDR0.ATS", 1));
    assert_eq!(refused(|r| r.idr0 = r.idr0.with_cd2l(true)), ("IDR0.CD2L", 1));
    assert_eq!(refused(|r| r.idr0 = r.idr0.with_ttf(3)), ("IDR0.TTF", 3));
    assert_eq!(refused(|r| r.idr0 = r.idr0.with_ttf(1)), ("IDR0.TTF", 1));
    assert_eq!(refused(|r| r.idr0 = r.idr0.with_ttendian(0)), ("IDR0.TTENDIAN", 0));
    assert_eq!(refused(|r| r.idr0 = r.idr0.with_stall_model(0)), ("IDR0.STALL_MODEL", 0));
    assert_eq!(refused(|r| r.idr0 = r.idr0.with_term_model(false)), ("IDR0.TERM_MODEL", 0));
    assert_eq!(refused(|r| r.idr1 = r.idr1.with_ssidsize(1)), ("IDR1.SSIDSIZE", 1));
    assert_eq!(refused(|r| r.idr3 = r.idr3.with_pbha(true)), ("IDR3.PBHA", 1));
    assert_eq!(refused(|r| r.idr3 = r.idr3.with_stt(true)), ("IDR3.STT", 1));
    assert_eq!(refused(|r| r.idr3 = r.idr3.with_e0pd(true)), ("IDR3.E0PD", 1));
    assert_eq!(refused(|r| r.idr3 = r.idr3.with_epan(true)), ("IDR3.EPAN", 1));
    assert_eq!(refused(|r| r.idr3 = r.idr3.with_s1pi(true)), ("IDR3.S1PI", 1));
    assert_eq!(refused(|r| r.idr3 = r.idr3.with_aie(true)), ("IDR3.AIE", 1));
    assert_eq!(refused(|r| r.idr5 = r.idr5.with_oas(5)), ("IDR5.OAS", 5));
    assert_eq!(refused(|r| r.idr5 = r.idr5.with_ds(true)), ("IDR5.DS", 1));
    assert_eq!(refused(|r| r.idr5 = r.idr5.with_vax(1)), ("IDR5.VAX", 1));
    assert_eq!(refused(|r| r.idr5 = r.idr5.with_stall_max(1)), ("IDR5.STALL_MAX", 1));
    assert_eq!(refused(|r| r.aidr = Aidr(3)), ("AIDR", 3));
    // An SMMU whose ASIDs are narrow.
    let narrow = rich_but(|r| r.idr0 = r.idr0.with_asid16(false));
    let wide = |r: &mut IdRegisters| r.idr0 = r.idr0.with_asid16(true);
    assert_eq!(refused_on(&narrow, wide), ("IDR0.ASID16", 1));
    // Coherence is what the host takes it for, not what its register says.
    let mut incoherent = rich();
    incoherent.coherent = false;
    let coherent = |r: &mut IdRegisters| r.idr0 = r.idr0.with_cohacc(true);
    assert_eq!(refused_on(&incoherent, coherent), ("IDR0.COHACC", 1));
}

/// IDR0.HTTU does not count where firmware says what does, for guests as for the host's own tables.
#[test]
fn what_firmware_says_of_httu_is_what_guests_are_shown() {
    let told = |features: Features, httu| {
        features.told(&Firmware { httu: Some(httu), ..Firmware::default() })
    };
    assert_eq!((rich().registers.idr0.httu(), qemu().registers.idr0.httu()), (2, 0));
    for features in [rich(), qemu()] {
        for httu in 0..4u8 {
            let features = told(features, httu);
            let expected = u64::from(httu);
            assert_eq!(guest_of(&features, |_| {}).shown().idr0.httu(), expected);
            assert_eq!(features.implementation().idr0.httu(), expected);
            if expected < 3 {
                let more = |r: &mut IdRegisters| r.idr0 = r.idr0.with_httu(expected + 1);
                assert_eq!(refused_on(&features, more), ("IDR0.HTTU", expected + 1));
            }
        }
    }
    // More than 3 is taken for 3.
    assert_eq!(told(qemu(), 9).httu(), 3);
}

#[test]
fn what_is_shown_does_not_contradict_itself() {
    assert_eq!(refused(|r| r.idr3 = r.idr3.with_ril(false)), ("IDR3.RIL", 0));
    assert_eq!(refused(|r| r.idr3 = r.idr3.with_s2pi(true)), ("IDR3.S2PI", 1));
    assert_eq!(refused(|r| r.idr0 = r.idr0.with_st_level(0)), ("IDR0.ST_LEVEL", 0));
}

#[test]
fn less_may_be_shown() {
    let guest = guest_of(&rich(), |shown| {
        shown.aidr = Aidr(1);
        shown.idr0 = shown.idr0.with_asid16(false).with_ats(false).with_httu(0).with_cd2l(false);
        shown.idr1 = shown.idr1.with_ssidsize(0).with_sidsize(8);
        shown.idr3 = Idr3::default().with_had(true);
        shown.idr5 = Idr5::default().with_oas(0).with_gran64k(true);
    });
    assert_eq!(guest.output_bits(), 32);
}

#[test]
fn a_parent_is_a_legal_stage_2_alone() {
    let refused = |ste| Parent::new(ste, &rich()).unwrap_err();
    let illegal = refused(STAGE_2.with_config(0b111));
    assert_eq!((illegal.rule.field, illegal.value), ("Config", 0b111));
    let illegal = refused(STAGE_2.with_s2_t0sz(20));
    assert_eq!((illegal.rule.field, illegal.value), ("S2SL0", 1));
    assert_eq!(refused(STAGE_2.with_s2_aa64(false)).rule.field, "S2AA64");
    assert_eq!(refused(STAGE_2.with_v(false)).rule.field, "V");
    let parent = parent(&rich());
    assert_eq!((parent.vmid(), parent.input_bits()), (7, 40));
}

/// Wide addresses need what takes them, also where the host's registers have one without the other.
#[test]
fn what_is_offered_does_not_contradict_itself() {
    for bits in 0..16 {
        let bit = |at: u32| bits >> at & 1 != 0;
        let host = rich_but(|r| {
            r.idr5 = r.idr5.with_ds(bit(0)).with_vax(bit(1).into());
            r.idr5 = r.idr5.with_gran64k(bit(2)).with_gran16k(bit(3));
        });
        let parent = parent(&host);
        let offered = Guest::offer(&host, &parent);
        assert_eq!(Guest::new(&host, parent, offered).map(drop), Ok(()), "{bits:#x}");
        let wide = bit(1) && (bit(0) || bit(2));
        let shown = (offered.idr5.ds(), offered.idr5.vax());
        assert_eq!(shown, (bit(0) && bit(1), wide.into()), "{bits:#x}");
    }
}

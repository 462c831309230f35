// SPDX-License-Identifier: MIT OR Apache-2.0
//! Appendix A of the reference: its worked vectors, built and decoded.

use smmuv3_formats::command::TlbiNhVa;
use smmuv3_formats::descriptor::{Stage1Page, Stage1Table};
use smmuv3_formats::legality::{self, Implementation};
use smmuv3_formats::register::{Idr0, Idr1, Idr5, address_bits};
use smmuv3_formats::{Cd, Command, EventRecord, Ste};

/// 4 KiB granule: an index at a level (§15.5).
fn index(address: u64, level: u32) -> u64 {
    address >> (12 + 9 * (3 - level)) & 0x1ff
}

#[test]
fn a1_tables_are_indexed_and_chained() {
    let va = 0x0000_0012_3456_7000;
    assert_eq!([0, 1, 2, 3].map(|level| index(va, level)), [0x000, 0x048, 0x1a2, 0x167]);
    let tables = [0x8001_0000, 0x8001_1000, 0x8001_2000, 0x8001_3000];
    let addresses = [0, 1, 2, 3].map(|level| tables[level as usize] + 8 * index(va, level));
    assert_eq!(addresses, [0x8001_0000, 0x8001_1240, 0x8001_2d10, 0x8001_3b38]);

    for (next, descriptor) in
        [(0x8001_1000, 0x8001_1003), (0x8001_2000, 0x8001_2003), (0x8001_3000, 0x8001_3003)]
    {
        assert_eq!(Stage1Table::default().with_kind(3).with_next(next).0, [descriptor]);
        assert_eq!(Stage1Table([descriptor]).next(), next);
    }
}

#[test]
fn a1_the_leaf() {
    let leaf = Stage1Page::default()
        .with_kind(3)
        .with_attr_index(0)
        .with_ap(0b01)
        .with_sh(3)
        .with_af(true)
        .with_ng(true)
        .with_pxn(true)
        .with_uxn(true)
        .with_oa(0x9000_0000);
    assert_eq!(leaf.0, [0x0060_0000_9000_0f43]);

    let leaf = Stage1Page([0x0060_0000_9000_0f43]);
    assert_eq!((leaf.kind(), leaf.attr_index(), leaf.ap(), leaf.sh()), (3, 0, 1, 3));
    assert!(leaf.af() && leaf.ng() && leaf.pxn() && leaf.uxn());
    assert!(!leaf.ns() && !leaf.gp() && !leaf.dbm() && !leaf.contiguous());
    assert_eq!((leaf.oa(), leaf.software(), leaf.pbha()), (0x9000_0000, 0, 0));
}

#[test]
fn a1_the_context_descriptor() {
    let cd = Cd::default()
        .with_t0sz(16)
        .with_tg0(0)
        .with_ir0(1)
        .with_or0(1)
        .with_sh0(3)
        .with_epd1(true)
        .with_v(true)
        .with_ips(4)
        .with_aa64(true)
        .with_r(true)
        .with_a(true)
        .with_aset(true)
        .with_asid(5)
        .with_ttb0(0x8001_0000)
        .with_mair(0x0004_44ff);
    let words = [0x0005_e204_c000_3510, 0x8001_0000, 0, 0x0000_0000_0004_44ff, 0, 0, 0, 0];
    assert_eq!(cd.0, words);

    let cd = Cd(words);
    assert_eq!((cd.t0sz(), cd.tg0(), cd.ir0(), cd.or0(), cd.sh0()), (16, 0, 1, 1, 3));
    assert_eq!(
        (cd.epd0(), cd.epd1(), cd.endi(), cd.v(), cd.aa64()),
        (false, true, false, true, true)
    );
    assert_eq!((cd.s(), cd.r(), cd.a(), cd.aset()), (false, true, true, true));
    assert_eq!((cd.ips(), cd.asid(), cd.ttb0(), cd.mair()), (4, 5, 0x8001_0000, 0x4_44ff));
    assert_eq!((cd.t1sz(), cd.tg1(), cd.hd(), cd.ha(), cd.ttb1()), (0, 0, false, false, 0));
}

#[test]
fn a1_the_stream_table_entry() {
    let ste = Ste::default()
        .with_v(true)
        .with_config(0b101)
        .with_s1_context_ptr(0x8002_0000)
        .with_s1_cir(1)
        .with_s1_cor(1)
        .with_s1_csh(3);
    assert_eq!(ste.0, [0x0000_0000_8002_000b, 0x0000_0000_0000_00d4, 0, 0, 0, 0, 0, 0]);
}

/// Hardware on which the vectors are legal: OAS 44, with 8-bit ASIDs.
fn narrow() -> Implementation {
    Implementation {
        idr0: Idr0::default()
            .with_s1p(true)
            .with_s2p(true)
            .with_ttf(2)
            .with_ttendian(2)
            .with_stall_model(1)
            .with_term_model(true),
        idr5: Idr5::default().with_oas(4).with_gran4k(true),
        ..Implementation::default()
    }
}

#[test]
fn a1_negative_results_of_the_context() {
    let ste = Ste([0x8002_000b, 0xd4, 0, 0, 0, 0, 0, 0]);
    let cd = Cd([0x0005_e204_c000_3510, 0x8001_0000, 0, 0x4_44ff, 0, 0, 0, 0]);
    assert_eq!(legality::ste(&ste, &narrow()), Ok(()));
    assert_eq!(legality::cd(&cd, &ste, &narrow()), Ok(()));
    let invalid = Cd([0x0005_e204_4000_3510, cd.0[1], 0, cd.0[3], 0, 0, 0, 0]);
    assert_eq!(legality::cd(&invalid, &ste, &narrow()).map_err(|r| r.field), Err("V"));
    let wide = Cd([0x0105_e204_c000_3510, cd.0[1], 0, cd.0[3], 0, 0, 0, 0]);
    assert_eq!(legality::cd(&wide, &ste, &narrow()).map_err(|r| r.field), Err("ASID"));
    let mut sixteen = narrow();
    sixteen.idr0 = sixteen.idr0.with_asid16(true);
    assert_eq!(legality::cd(&wide, &ste, &sixteen), Ok(()));
}

/// A write to a read-only page: F_PERMISSION, CLASS 2, RnW 0.
#[test]
fn a1_the_event_of_a_refused_write() {
    let event = EventRecord::default()
        .with_id(0x13)
        .with_sid(0x200)
        .with_class(2)
        .with_input_addr(0x12_3456_7000);
    assert_eq!(event.0, [0x0000_0200_0000_0013, 0x0000_0200_0000_0000, 0x12_3456_7000, 0]);
}

#[test]
fn a2_stage_2_with_two_concatenated_tables() {
    let ste = Ste::default()
        .with_v(true)
        .with_config(0b110)
        .with_sh_cfg(1)
        .with_s2_vmid(7)
        .with_s2_t0sz(24)
        .with_s2_sl0(1)
        .with_s2_ir0(1)
        .with_s2_or0(1)
        .with_s2_sh0(3)
        .with_s2_tg(0)
        .with_s2_ps(4)
        .with_s2_aa64(true)
        .with_s2_r(true)
        .with_s2_ttb(0x8004_0000);
    let words = [0xd, 0x0000_1000_0000_0000, 0x040c_3558_0000_0007, 0x8004_0000, 0, 0, 0, 0];
    assert_eq!(ste.0, words);

    let ste = Ste(words);
    assert_eq!((ste.s2_vmid(), ste.s2_t0sz(), ste.s2_sl0()), (7, 24, 1));
    assert_eq!((ste.s2_ir0(), ste.s2_or0(), ste.s2_sh0(), ste.s2_tg()), (1, 1, 3, 0));
    assert_eq!((ste.s2_ps(), ste.s2_aa64(), ste.s2_endi(), ste.s2_affd()), (4, true, false, false));
    assert_eq!((ste.s2_s(), ste.s2_r(), ste.s2_ha(), ste.s2_hd()), (false, true, false, false));

    // The first index takes one bit more: its second half is the second table.
    let ipa = 0x00ff_1234_5000_u64;
    let first = ipa >> 30 & 0x3ff;
    assert_eq!((first, 0x8004_0000 + 8 * first), (0x3fc, 0x8004_1fe0));
    assert_eq!((index(ipa, 2), index(ipa, 3)), (0x91, 0x145));

    assert_eq!(legality::ste(&ste, &narrow()), Ok(()));
    assert_eq!(legality::ste(&ste.with_s2_sl0(2), &narrow()), Ok(()));
    let refused = legality::ste(&ste.with_s2_t0sz(20), &narrow());
    assert_eq!(refused.map_err(|rule| rule.field), Err("S2SL0"));
}

#[test]
fn a3_nested() {
    let ste = Ste([
        0x0000_0000_8002_000f,
        0x0000_0000_0000_00d4,
        0x040c_3558_0000_0007,
        0x8004_0000,
        0,
        0,
        0,
        0,
    ]);
    assert_eq!((ste.v(), ste.config(), ste.s1_context_ptr()), (true, 0b111, 0x8002_0000));
    assert_eq!(legality::ste(&ste, &narrow()), Ok(()));
    let cd = Cd([0x0005_e204_c000_3510, 0x8001_0000, 0, 0x4_44ff, 0, 0, 0, 0]);
    assert_eq!(legality::cd(&cd, &ste, &narrow()), Ok(()));
}

#[test]
fn a4_range_invalidations() {
    let of_page = |scale, num, addr| {
        let command: Command = TlbiNhVa::new()
            .with_asid(5)
            .with_scale(scale)
            .with_num(num)
            .with_leaf(true)
            .with_ttl(3)
            .with_tg(1)
            .with_addr(addr)
            .into();
        command.0
    };
    // 0x12345 pages from 0x0100_0000: 5, then 13 << 6, then 9 << 13 pages.
    assert_eq!(of_page(0, 4, 0x0100_0000), [0x0005_0000_0000_4012, 0x0000_0000_0100_0701]);
    assert_eq!(of_page(6, 12, 0x0100_5000), [0x0005_0000_0060_c012, 0x0000_0000_0100_5701]);
    assert_eq!(of_page(13, 8, 0x0134_5000), [0x0005_0000_00d0_8012, 0x0000_0000_0134_5701]);
    assert_eq!(5 + (13 << 6) + (9 << 13), 0x12345);
    assert_eq!(of_page(0, 0, 0x12_3456_7000), [0x0005_0000_0000_0012, 0x0000_0012_3456_7701]);

    let command = Command([0x0005_0000_0060_c012, 0x0000_0000_0100_5701]);
    let fields = ["NUM", "SCALE", "VMID", "ASID", "Leaf", "TTL", "TG", "Addr"];
    assert_eq!(
        fields.map(|name| command.field(name)),
        [12, 6, 0, 5, 1, 3, 1, 0x0100_5000].map(Some)
    );
}

#[test]
fn a5_the_id_registers_of_the_base_model() {
    let idr0 = Idr0(0x080f_e6bf);
    assert!(idr0.s1p() && idr0.s2p() && idr0.cohacc() && idr0.btm() && idr0.hyp() && idr0.ats());
    assert!(idr0.msi() && idr0.sev() && idr0.atos() && idr0.pri() && idr0.vmw() && idr0.vmid16());
    assert!(idr0.cd2l());
    assert!(!idr0.ns1ats() && !idr0.asid16() && !idr0.term_model() && !idr0.dormhint());
    assert_eq!((idr0.ttf(), idr0.httu(), idr0.ttendian()), (3, 2, 0));
    assert_eq!((idr0.stall_model(), idr0.st_level()), (0, 1));

    let idr1 = Idr1(0x0e73_9d20);
    assert_eq!((idr1.sidsize(), idr1.ssidsize()), (32, 20));
    assert_eq!((idr1.cmdqs(), idr1.eventqs(), idr1.priqs()), (19, 19, 19));
    assert!(idr1.attr_perms_ovr() && idr1.attr_types_ovr() && !idr1.rel() && !idr1.ecmdq());
    assert!(!idr1.queues_preset() && !idr1.tables_preset());

    let idr1 = Idr1(0x0273_0010);
    assert_eq!((idr1.sidsize(), idr1.ssidsize()), (16, 0));
    assert_eq!((idr1.cmdqs(), idr1.eventqs(), idr1.priqs()), (19, 19, 0));
    assert_eq!(address_bits(Idr5(0x74).oas()), Some(44));
}

/// §5.2: minimal entries.
#[test]
fn minimal_stream_table_entries() {
    let valid = Ste::default().with_v(true);
    assert_eq!(valid.0, [1, 0, 0, 0, 0, 0, 0, 0]);
    let bypass = valid.with_config(0b100).with_sh_cfg(1);
    assert_eq!(bypass.0, [9, 1 << 44, 0, 0, 0, 0, 0, 0]);
    let stage_1 = valid.with_config(0b101).with_s1_context_ptr(0x1234_5678_9ac0);
    assert_eq!(stage_1.0[0], 0x1234_5678_9ac0 | 0xb);
    let stalls = stage_1.with_s1_cir(1).with_s1_cor(1).with_s1_csh(3).with_s1_stalld(true);
    assert_eq!(stalls.0[1], 0x0800_00d4);
    assert_eq!(stalls.with_strw(2).0[1], 0x8800_00d4);
    assert_eq!(valid.with_config(0b110).0[0], 0xd);
    for entry in [valid, bypass] {
        assert_eq!(legality::ste(&entry, &narrow()), Ok(()));
    }
}

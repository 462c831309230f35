// SPDX-License-Identifier: MIT OR Apache-2.0
//! Golden images of the commands (§4.1): words put together from the reference's bit numbers by other
//! means than this crate. In the first image of each every field is non-zero; in the second neighbouring
//! fields have alternating bits.

mod common;

use common::{golden, words};
use smmuv3_formats::command::*;

words!(array PrefetchConfig, PrefetchAddr, CfgiSte, CfgiSteRange, CfgiCd, CfgiCdAll, CfgiVmsPidm, TlbiNhAll, TlbiNhAsid, TlbiNhVa, TlbiNhVaa, TlbiEl3All, TlbiEl3Va, TlbiEl2All, TlbiEl2Asid, TlbiEl2Va, TlbiEl2Vaa, TlbiS12Vmall, TlbiS2Ipa, TlbiNsnhAll, AtcInv, PriResp, Resume, StallTerm, Sync, TlbiSEl2All, TlbiSEl2Asid, TlbiSEl2Va, TlbiSEl2Vaa, TlbiSS12Vmall, TlbiSS2Ipa, TlbiSnhAll, DptiAll);

/// §4.1.
#[test]
fn images_of_prefetch_config() {
    golden!(PrefetchConfig, [0xf878_7879_d2d2_dc01, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x1; ssec with_ssec "SSec" = true; ssv with_ssv "SSV" = true;
        ssid with_ssid "SSID" = 0xd2d2d; sid with_sid "SID" = 0xf8787879;
    });
    golden!(PrefetchConfig, [0x6918_0b23_386c_f401, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x1; ssec with_ssec "SSec" = true; ssv with_ssv "SSV" = false;
        ssid with_ssid "SSID" = 0x386cf; sid with_sid "SID" = 0x69180b23;
    });
    assert_eq!(PrefetchConfig::new().0, [0x01, 0]);
}

/// §4.1.
#[test]
fn images_of_prefetch_addr() {
    golden!(PrefetchAddr, [0xf878_7879_d2d2_dc02, 0xa5a5_a5a5_a5a5_b3f3], {
        opcode with_opcode "Opcode" = 0x2; ssec with_ssec "SSec" = true; ssv with_ssv "SSV" = true;
        ssid with_ssid "SSID" = 0xd2d2d; sid with_sid "SID" = 0xf8787879;
        size with_size "Size" = 0x13; stride with_stride "Stride" = 0x1f;
        addr with_addr "Addr" = 0xa5a5_a5a5_a5a5_b000;
    });
    golden!(PrefetchAddr, [0x6918_0b23_386c_f402, 0x5e35_e35e_35e0_3155], {
        opcode with_opcode "Opcode" = 0x2; ssec with_ssec "SSec" = true; ssv with_ssv "SSV" = false;
        ssid with_ssid "SSID" = 0x386cf; sid with_sid "SID" = 0x69180b23;
        size with_size "Size" = 0x15; stride with_stride "Stride" = 0xa;
        addr with_addr "Addr" = 0x5e35_e35e_35e0_3000;
    });
    assert_eq!(PrefetchAddr::new().0, [0x02, 0]);
}

/// §4.1.
#[test]
fn images_of_cfgi_ste() {
    golden!(CfgiSte, [0xe1e1_e1e1_0000_0403, 0x0000_0000_0000_0001], {
        opcode with_opcode "Opcode" = 0x3; ssec with_ssec "SSec" = true;
        sid with_sid "SID" = 0xe1e1e1e1; leaf with_leaf "Leaf" = true;
    });
    golden!(CfgiSte, [0x1af1_af01_0000_0403, 0x0000_0000_0000_0001], {
        opcode with_opcode "Opcode" = 0x3; ssec with_ssec "SSec" = true;
        sid with_sid "SID" = 0x1af1af01; leaf with_leaf "Leaf" = true;
    });
    assert_eq!(CfgiSte::new().0, [0x03, 0]);
}

/// §4.1.
#[test]
fn images_of_cfgi_ste_range() {
    golden!(CfgiSteRange, [0xe1e1_e1e1_0000_0404, 0x0000_0000_0000_001d], {
        opcode with_opcode "Opcode" = 0x4; ssec with_ssec "SSec" = true;
        sid with_sid "SID" = 0xe1e1e1e1; range with_range "Range" = 0x1d;
    });
    golden!(CfgiSteRange, [0x1af1_af01_0000_0404, 0x0000_0000_0000_0015], {
        opcode with_opcode "Opcode" = 0x4; ssec with_ssec "SSec" = true;
        sid with_sid "SID" = 0x1af1af01; range with_range "Range" = 0x15;
    });
    assert_eq!(CfgiSteRange::new().0, [0x04, 0]);
}

/// §4.1.
#[test]
fn images_of_cfgi_cd() {
    golden!(CfgiCd, [0xad2d_2d2d_9e1e_1405, 0x0000_0000_0000_0001], {
        opcode with_opcode "Opcode" = 0x5; ssec with_ssec "SSec" = true;
        ssid with_ssid "SSID" = 0x9e1e1; sid with_sid "SID" = 0xad2d2d2d;
        leaf with_leaf "Leaf" = true;
    });
    golden!(CfgiCd, [0x6f53_86cf_1af0_1405, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x5; ssec with_ssec "SSec" = true;
        ssid with_ssid "SSID" = 0x1af01; sid with_sid "SID" = 0x6f5386cf;
        leaf with_leaf "Leaf" = false;
    });
    assert_eq!(CfgiCd::new().0, [0x05, 0]);
}

/// §4.1.
#[test]
fn images_of_cfgi_cd_all() {
    golden!(CfgiCdAll, [0xe1e1_e1e1_0000_0406, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x6; ssec with_ssec "SSec" = true;
        sid with_sid "SID" = 0xe1e1e1e1;
    });
    golden!(CfgiCdAll, [0x1af1_af01_0000_0406, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x6; ssec with_ssec "SSec" = true;
        sid with_sid "SID" = 0x1af1af01;
    });
    assert_eq!(CfgiCdAll::new().0, [0x06, 0]);
}

/// §4.1.
#[test]
fn images_of_cfgi_vms_pidm() {
    golden!(CfgiVmsPidm, [0x0000_e1e1_0000_0407, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x7; ssec with_ssec "SSec" = true;
        vmid with_vmid "VMID" = 0xe1e1;
    });
    golden!(CfgiVmsPidm, [0x0000_af01_0000_0407, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x7; ssec with_ssec "SSec" = true;
        vmid with_vmid "VMID" = 0xaf01;
    });
    assert_eq!(CfgiVmsPidm::new().0, [0x07, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_nh_all() {
    golden!(TlbiNhAll, [0x0000_9697_0000_0010, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x10; vmid with_vmid "VMID" = 0x9697;
    });
    golden!(TlbiNhAll, [0x0000_62e9_0000_0010, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x10; vmid with_vmid "VMID" = 0x62e9;
    });
    assert_eq!(TlbiNhAll::new().0, [0x10, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_nh_asid() {
    golden!(TlbiNhAsid, [0xe1e1_9697_0000_0011, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x11; vmid with_vmid "VMID" = 0x9697;
        asid with_asid "ASID" = 0xe1e1;
    });
    golden!(TlbiNhAsid, [0xaf01_62e9_0000_0011, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x11; vmid with_vmid "VMID" = 0x62e9;
        asid with_asid "ASID" = 0xaf01;
    });
    assert_eq!(TlbiNhAsid::new().0, [0x11, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_nh_va() {
    golden!(TlbiNhVa, [0xf879_ad2d_0211_7012, 0x8f0f_0f0f_0f0f_1f81], {
        opcode with_opcode "Opcode" = 0x12; num with_num "NUM" = 0x17;
        scale with_scale "SCALE" = 0x21; vmid with_vmid "VMID" = 0xad2d;
        asid with_asid "ASID" = 0xf879; leaf with_leaf "Leaf" = true;
        ttl128 with_ttl128 "TTL128" = true; ttl with_ttl "TTL" = 0x3; tg with_tg "TG" = 0x3;
        addr with_addr "Addr" = 0x8f0f_0f0f_0f0f_1000;
    });
    golden!(TlbiNhVa, [0x0b23_86cf_02a1_5012, 0x2158_f215_8f26_1901], {
        opcode with_opcode "Opcode" = 0x12; num with_num "NUM" = 0x15;
        scale with_scale "SCALE" = 0x2a; vmid with_vmid "VMID" = 0x86cf;
        asid with_asid "ASID" = 0xb23; leaf with_leaf "Leaf" = true;
        ttl128 with_ttl128 "TTL128" = false; ttl with_ttl "TTL" = 0x1; tg with_tg "TG" = 0x2;
        addr with_addr "Addr" = 0x2158_f215_8f26_1000;
    });
    assert_eq!(TlbiNhVa::new().0, [0x12, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_nh_vaa() {
    golden!(TlbiNhVaa, [0x0000_ad2d_0211_7013, 0xda5a_5a5a_5a5a_5f81], {
        opcode with_opcode "Opcode" = 0x13; num with_num "NUM" = 0x17;
        scale with_scale "SCALE" = 0x21; vmid with_vmid "VMID" = 0xad2d;
        leaf with_leaf "Leaf" = true; ttl128 with_ttl128 "TTL128" = true; ttl with_ttl "TTL" = 0x3;
        tg with_tg "TG" = 0x3; addr with_addr "Addr" = 0xda5a_5a5a_5a5a_5000;
    });
    golden!(TlbiNhVaa, [0x0000_86cf_02a1_5013, 0x951d_840c_b73e_f680], {
        opcode with_opcode "Opcode" = 0x13; num with_num "NUM" = 0x15;
        scale with_scale "SCALE" = 0x2a; vmid with_vmid "VMID" = 0x86cf;
        leaf with_leaf "Leaf" = false; ttl128 with_ttl128 "TTL128" = true; ttl with_ttl "TTL" = 0x2;
        tg with_tg "TG" = 0x1; addr with_addr "Addr" = 0x951d_840c_b73e_f000;
    });
    assert_eq!(TlbiNhVaa::new().0, [0x13, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_el3_all() {
    golden!(TlbiEl3All, [0x0000_0000_0000_0018, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x18;
    });
    golden!(TlbiEl3All, [0x0000_0000_0000_0018, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x18;
    });
    assert_eq!(TlbiEl3All::new().0, [0x18, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_el3_va() {
    golden!(TlbiEl3Va, [0x0000_0000_0211_701a, 0xa5a5_a5a5_a5a5_bf81], {
        opcode with_opcode "Opcode" = 0x1a; num with_num "NUM" = 0x17;
        scale with_scale "SCALE" = 0x21; leaf with_leaf "Leaf" = true;
        ttl128 with_ttl128 "TTL128" = true; ttl with_ttl "TTL" = 0x3; tg with_tg "TG" = 0x3;
        addr with_addr "Addr" = 0xa5a5_a5a5_a5a5_b000;
    });
    golden!(TlbiEl3Va, [0x0000_0000_02a1_501a, 0x5e35_e35e_35e0_3901], {
        opcode with_opcode "Opcode" = 0x1a; num with_num "NUM" = 0x15;
        scale with_scale "SCALE" = 0x2a; leaf with_leaf "Leaf" = true;
        ttl128 with_ttl128 "TTL128" = false; ttl with_ttl "TTL" = 0x1; tg with_tg "TG" = 0x2;
        addr with_addr "Addr" = 0x5e35_e35e_35e0_3000;
    });
    assert_eq!(TlbiEl3Va::new().0, [0x1a, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_el2_all() {
    golden!(TlbiEl2All, [0x0000_0000_0000_0020, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x20;
    });
    golden!(TlbiEl2All, [0x0000_0000_0000_0020, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x20;
    });
    assert_eq!(TlbiEl2All::new().0, [0x20, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_el2_asid() {
    golden!(TlbiEl2Asid, [0x9697_0000_0000_0021, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x21; asid with_asid "ASID" = 0x9697;
    });
    golden!(TlbiEl2Asid, [0x62e9_0000_0000_0021, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x21; asid with_asid "ASID" = 0x62e9;
    });
    assert_eq!(TlbiEl2Asid::new().0, [0x21, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_el2_va() {
    golden!(TlbiEl2Va, [0xad2d_0000_0211_7022, 0xda5a_5a5a_5a5a_5f81], {
        opcode with_opcode "Opcode" = 0x22; num with_num "NUM" = 0x17;
        scale with_scale "SCALE" = 0x21; asid with_asid "ASID" = 0xad2d;
        leaf with_leaf "Leaf" = true; ttl128 with_ttl128 "TTL128" = true; ttl with_ttl "TTL" = 0x3;
        tg with_tg "TG" = 0x3; addr with_addr "Addr" = 0xda5a_5a5a_5a5a_5000;
    });
    golden!(TlbiEl2Va, [0x86cf_0000_02a1_5022, 0x951d_840c_b73e_f680], {
        opcode with_opcode "Opcode" = 0x22; num with_num "NUM" = 0x15;
        scale with_scale "SCALE" = 0x2a; asid with_asid "ASID" = 0x86cf;
        leaf with_leaf "Leaf" = false; ttl128 with_ttl128 "TTL128" = true; ttl with_ttl "TTL" = 0x2;
        tg with_tg "TG" = 0x1; addr with_addr "Addr" = 0x951d_840c_b73e_f000;
    });
    assert_eq!(TlbiEl2Va::new().0, [0x22, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_el2_vaa() {
    golden!(TlbiEl2Vaa, [0x0000_0000_0211_7023, 0xa5a5_a5a5_a5a5_bf81], {
        opcode with_opcode "Opcode" = 0x23; num with_num "NUM" = 0x17;
        scale with_scale "SCALE" = 0x21; leaf with_leaf "Leaf" = true;
        ttl128 with_ttl128 "TTL128" = true; ttl with_ttl "TTL" = 0x3; tg with_tg "TG" = 0x3;
        addr with_addr "Addr" = 0xa5a5_a5a5_a5a5_b000;
    });
    golden!(TlbiEl2Vaa, [0x0000_0000_02a1_5023, 0x5e35_e35e_35e0_3901], {
        opcode with_opcode "Opcode" = 0x23; num with_num "NUM" = 0x15;
        scale with_scale "SCALE" = 0x2a; leaf with_leaf "Leaf" = true;
        ttl128 with_ttl128 "TTL128" = false; ttl with_ttl "TTL" = 0x1; tg with_tg "TG" = 0x2;
        addr with_addr "Addr" = 0x5e35_e35e_35e0_3000;
    });
    assert_eq!(TlbiEl2Vaa::new().0, [0x23, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_s12_vmall() {
    golden!(TlbiS12Vmall, [0x0000_9697_0000_0028, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x28; vmid with_vmid "VMID" = 0x9697;
    });
    golden!(TlbiS12Vmall, [0x0000_62e9_0000_0028, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x28; vmid with_vmid "VMID" = 0x62e9;
    });
    assert_eq!(TlbiS12Vmall::new().0, [0x28, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_s2_ipa() {
    golden!(TlbiS2Ipa, [0x0000_ad2d_0211_702a, 0x00da_5a5a_5a5a_5f01], {
        opcode with_opcode "Opcode" = 0x2a; num with_num "NUM" = 0x17;
        scale with_scale "SCALE" = 0x21; vmid with_vmid "VMID" = 0xad2d;
        leaf with_leaf "Leaf" = true; ttl with_ttl "TTL" = 0x3; tg with_tg "TG" = 0x3;
        addr with_addr "Addr" = 0x00da_5a5a_5a5a_5000;
    });
    golden!(TlbiS2Ipa, [0x0000_86cf_02a1_502a, 0x001d_840c_b73e_f600], {
        opcode with_opcode "Opcode" = 0x2a; num with_num "NUM" = 0x15;
        scale with_scale "SCALE" = 0x2a; vmid with_vmid "VMID" = 0x86cf;
        leaf with_leaf "Leaf" = false; ttl with_ttl "TTL" = 0x2; tg with_tg "TG" = 0x1;
        addr with_addr "Addr" = 0x001d_840c_b73e_f000;
    });
    assert_eq!(TlbiS2Ipa::new().0, [0x2a, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_nsnh_all() {
    golden!(TlbiNsnhAll, [0x0000_0000_0000_0030, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x30;
    });
    golden!(TlbiNsnhAll, [0x0000_0000_0000_0030, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x30;
    });
    assert_eq!(TlbiNsnhAll::new().0, [0x30, 0]);
}

/// §4.1.
#[test]
fn images_of_atc_inv() {
    golden!(AtcInv, [0xf878_7879_d2d2_da40, 0xf0f0_f0f0_f0f0_f023], {
        opcode with_opcode "Opcode" = 0x40; global with_global "G" = true;
        ssv with_ssv "SSV" = true; ssid with_ssid "SSID" = 0xd2d2d; sid with_sid "SID" = 0xf8787879;
        size with_size "Size" = 0x23; addr with_addr "Addr" = 0xf0f0_f0f0_f0f0_f000;
    });
    golden!(AtcInv, [0x6918_0b23_386c_f240, 0x7da0_97da_097c_d015], {
        opcode with_opcode "Opcode" = 0x40; global with_global "G" = true;
        ssv with_ssv "SSV" = false; ssid with_ssid "SSID" = 0x386cf;
        sid with_sid "SID" = 0x69180b23; size with_size "Size" = 0x15;
        addr with_addr "Addr" = 0x7da0_97da_097c_d000;
    });
    assert_eq!(AtcInv::new().0, [0x40, 0]);
}

/// §4.1.
#[test]
fn images_of_pri_resp() {
    golden!(PriResp, [0xad2d_2d2d_9e1e_1841, 0x0000_0000_0000_3179], {
        opcode with_opcode "Opcode" = 0x41; ssv with_ssv "SSV" = true;
        ssid with_ssid "SSID" = 0x9e1e1; sid with_sid "SID" = 0xad2d2d2d;
        prg_index with_prg_index "PRGIndex" = 0x179; resp with_resp "Resp" = 0x3;
    });
    golden!(PriResp, [0x6f53_86cf_1af0_1841, 0x0000_0000_0000_1123], {
        opcode with_opcode "Opcode" = 0x41; ssv with_ssv "SSV" = true;
        ssid with_ssid "SSID" = 0x1af01; sid with_sid "SID" = 0x6f5386cf;
        prg_index with_prg_index "PRGIndex" = 0x123; resp with_resp "Resp" = 0x1;
    });
    assert_eq!(PriResp::new().0, [0x41, 0]);
}

/// §4.1.
#[test]
fn images_of_resume() {
    golden!(Resume, [0xf878_7879_0000_3444, 0x0000_0000_0000_c3c3], {
        opcode with_opcode "Opcode" = 0x44; ssec with_ssec "SSec" = true; ac with_ac "Ac" = true;
        ab with_ab "Ab" = true; sid with_sid "SID" = 0xf8787879; stag with_stag "STAG" = 0xc3c3;
    });
    golden!(Resume, [0x6918_0b23_0000_2444, 0x0000_0000_0000_3a2d], {
        opcode with_opcode "Opcode" = 0x44; ssec with_ssec "SSec" = true; ac with_ac "Ac" = false;
        ab with_ab "Ab" = true; sid with_sid "SID" = 0x69180b23; stag with_stag "STAG" = 0x3a2d;
    });
    assert_eq!(Resume::new().0, [0x44, 0]);
}

/// §4.1.
#[test]
fn images_of_stall_term() {
    golden!(StallTerm, [0xe1e1_e1e1_0000_0445, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x45; ssec with_ssec "SSec" = true;
        sid with_sid "SID" = 0xe1e1e1e1;
    });
    golden!(StallTerm, [0x1af1_af01_0000_0445, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x45; ssec with_ssec "SSec" = true;
        sid with_sid "SID" = 0x1af1af01;
    });
    assert_eq!(StallTerm::new().0, [0x45, 0]);
}

/// §4.1.
#[test]
fn images_of_sync() {
    golden!(Sync, [0xf878_7879_0bc0_3046, 0x008f_0f0f_0f0f_0f0c], {
        opcode with_opcode "Opcode" = 0x46; cs with_cs "CS" = 0x3; msh with_msh "MSH" = 0x3;
        msi_attr with_msi_attr "MSIAttr" = 0xb; msi_data with_msi_data "MSIData" = 0xf8787879;
        msi_addr with_msi_addr "MSIAddr" = 0x008f_0f0f_0f0f_0f0c;
    });
    golden!(Sync, [0x6918_0b23_0580_1046, 0x003d_f9a4_602c_e8b4], {
        opcode with_opcode "Opcode" = 0x46; cs with_cs "CS" = 0x1; msh with_msh "MSH" = 0x2;
        msi_attr with_msi_attr "MSIAttr" = 0x5; msi_data with_msi_data "MSIData" = 0x69180b23;
        msi_addr with_msi_addr "MSIAddr" = 0x003d_f9a4_602c_e8b4;
    });
    assert_eq!(Sync::new().0, [0x46, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_s_el2_all() {
    golden!(TlbiSEl2All, [0x0000_0000_0000_0050, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x50;
    });
    golden!(TlbiSEl2All, [0x0000_0000_0000_0050, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x50;
    });
    assert_eq!(TlbiSEl2All::new().0, [0x50, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_s_el2_asid() {
    golden!(TlbiSEl2Asid, [0x9697_0000_0000_0051, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x51; asid with_asid "ASID" = 0x9697;
    });
    golden!(TlbiSEl2Asid, [0x62e9_0000_0000_0051, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x51; asid with_asid "ASID" = 0x62e9;
    });
    assert_eq!(TlbiSEl2Asid::new().0, [0x51, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_s_el2_va() {
    golden!(TlbiSEl2Va, [0xad2d_0000_0211_7052, 0xda5a_5a5a_5a5a_5f81], {
        opcode with_opcode "Opcode" = 0x52; num with_num "NUM" = 0x17;
        scale with_scale "SCALE" = 0x21; asid with_asid "ASID" = 0xad2d;
        leaf with_leaf "Leaf" = true; ttl128 with_ttl128 "TTL128" = true; ttl with_ttl "TTL" = 0x3;
        tg with_tg "TG" = 0x3; addr with_addr "Addr" = 0xda5a_5a5a_5a5a_5000;
    });
    golden!(TlbiSEl2Va, [0x86cf_0000_02a1_5052, 0x951d_840c_b73e_f680], {
        opcode with_opcode "Opcode" = 0x52; num with_num "NUM" = 0x15;
        scale with_scale "SCALE" = 0x2a; asid with_asid "ASID" = 0x86cf;
        leaf with_leaf "Leaf" = false; ttl128 with_ttl128 "TTL128" = true; ttl with_ttl "TTL" = 0x2;
        tg with_tg "TG" = 0x1; addr with_addr "Addr" = 0x951d_840c_b73e_f000;
    });
    assert_eq!(TlbiSEl2Va::new().0, [0x52, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_s_el2_vaa() {
    golden!(TlbiSEl2Vaa, [0x0000_0000_0211_7053, 0xa5a5_a5a5_a5a5_bf81], {
        opcode with_opcode "Opcode" = 0x53; num with_num "NUM" = 0x17;
        scale with_scale "SCALE" = 0x21; leaf with_leaf "Leaf" = true;
        ttl128 with_ttl128 "TTL128" = true; ttl with_ttl "TTL" = 0x3; tg with_tg "TG" = 0x3;
        addr with_addr "Addr" = 0xa5a5_a5a5_a5a5_b000;
    });
    golden!(TlbiSEl2Vaa, [0x0000_0000_02a1_5053, 0x5e35_e35e_35e0_3901], {
        opcode with_opcode "Opcode" = 0x53; num with_num "NUM" = 0x15;
        scale with_scale "SCALE" = 0x2a; leaf with_leaf "Leaf" = true;
        ttl128 with_ttl128 "TTL128" = false; ttl with_ttl "TTL" = 0x1; tg with_tg "TG" = 0x2;
        addr with_addr "Addr" = 0x5e35_e35e_35e0_3000;
    });
    assert_eq!(TlbiSEl2Vaa::new().0, [0x53, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_s_s12_vmall() {
    golden!(TlbiSS12Vmall, [0x0000_9697_0000_0058, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x58; vmid with_vmid "VMID" = 0x9697;
    });
    golden!(TlbiSS12Vmall, [0x0000_62e9_0000_0058, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x58; vmid with_vmid "VMID" = 0x62e9;
    });
    assert_eq!(TlbiSS12Vmall::new().0, [0x58, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_s_s2_ipa() {
    golden!(TlbiSS2Ipa, [0x0000_ad2d_0211_705a, 0x00da_5a5a_5a5a_5f01], {
        opcode with_opcode "Opcode" = 0x5a; num with_num "NUM" = 0x17;
        scale with_scale "SCALE" = 0x21; vmid with_vmid "VMID" = 0xad2d;
        leaf with_leaf "Leaf" = true; ttl with_ttl "TTL" = 0x3; tg with_tg "TG" = 0x3;
        addr with_addr "Addr" = 0x00da_5a5a_5a5a_5000;
    });
    golden!(TlbiSS2Ipa, [0x0000_86cf_02a1_505a, 0x001d_840c_b73e_f600], {
        opcode with_opcode "Opcode" = 0x5a; num with_num "NUM" = 0x15;
        scale with_scale "SCALE" = 0x2a; vmid with_vmid "VMID" = 0x86cf;
        leaf with_leaf "Leaf" = false; ttl with_ttl "TTL" = 0x2; tg with_tg "TG" = 0x1;
        addr with_addr "Addr" = 0x001d_840c_b73e_f000;
    });
    assert_eq!(TlbiSS2Ipa::new().0, [0x5a, 0]);
}

/// §4.1.
#[test]
fn images_of_tlbi_snh_all() {
    golden!(TlbiSnhAll, [0x0000_0000_0000_0060, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x60;
    });
    golden!(TlbiSnhAll, [0x0000_0000_0000_0060, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x60;
    });
    assert_eq!(TlbiSnhAll::new().0, [0x60, 0]);
}

/// §4.1.
#[test]
fn images_of_dpti_all() {
    golden!(DptiAll, [0x0000_0000_0000_0070, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x70;
    });
    golden!(DptiAll, [0x0000_0000_0000_0070, 0x0000_0000_0000_0000], {
        opcode with_opcode "Opcode" = 0x70;
    });
    assert_eq!(DptiAll::new().0, [0x70, 0]);
}

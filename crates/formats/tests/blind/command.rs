// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands on the Non-secure queue (§4.1), ranges (§4.2), and which bits each command has.

use smmuv3_formats::{Command, legality};

use crate::{Row, implementation, rows, run};

// Images: StreamID 0x100, SubstreamID 3, VMID 7, ASID 5, address 0x0123_4567_7000 where there is one.
const PREFETCH_CONFIG: [u64; 2] = [0x0000_0100_0000_3801, 0];
const PREFETCH_ADDR: [u64; 2] = [0x0000_0100_0000_3802, 0x0123_4567_7000];
/// The vector of §4.1.
const CFGI_STE: [u64; 2] = [0x0000_0100_0000_0003, 1];
const CFGI_STE_RANGE: [u64; 2] = [0x0000_0100_0000_0004, 4];
/// The vector of §4.1.
const CFGI_ALL: [u64; 2] = [0x4, 0x1F];
const CFGI_CD: [u64; 2] = [0x0000_0100_0000_3005, 1];
const CFGI_CD_ALL: [u64; 2] = [0x0000_0100_0000_0006, 0];
const CFGI_VMS_PIDM: [u64; 2] = [0x7, 0];
const NH_ALL: [u64; 2] = [0x0000_0007_0000_0010, 0];
/// The vector of §4.1.
const NH_ASID: [u64; 2] = [0x0005_0000_0000_0011, 0];
const NH_VA: [u64; 2] = [0x0005_0007_0000_0012, 0x0123_4567_7001];
const NH_VAA: [u64; 2] = [0x0000_0007_0000_0013, 0x0123_4567_7001];
const EL3_ALL: [u64; 2] = [0x18, 0];
const EL3_VA: [u64; 2] = [0x1A, 0x0123_4567_7001];
const EL2_ALL: [u64; 2] = [0x20, 0];
const EL2_ASID: [u64; 2] = [0x0005_0000_0000_0021, 0];
const EL2_VA: [u64; 2] = [0x0005_0000_0000_0022, 0x0123_4567_7001];
const EL2_VAA: [u64; 2] = [0x23, 0x0123_4567_7001];
const S12_VMALL: [u64; 2] = [0x0000_0007_0000_0028, 0];
const S2_IPA: [u64; 2] = [0x0000_0007_0000_002A, 0x0012_3456_7001];
const NSNH_ALL: [u64; 2] = [0x30, 0];
/// The vector of §4.1: all of a device.
const ATC_INV: [u64; 2] = [0x0000_0100_0000_0040, 0x34];
/// The vector of §4.1: success, PASID 1, group 5.
const PRI_RESP: [u64; 2] = [0x0000_0100_0000_1841, 0x2005];
/// The vectors of §4.1: retry, abort.
const RESUME: [u64; 2] = [0x0000_0008_0000_1044, 3];
const RESUME_ABORT: [u64; 2] = [0x0000_0008_0000_2044, 3];
const STALL_TERM: [u64; 2] = [0x0000_0008_0000_0045, 0];
/// The vectors of §4.1: polling, and a message.
const SYNC: [u64; 2] = [0x46, 0];
const SYNC_MSI: [u64; 2] = [0x0FC0_1046, 0x8000_1000];
const S_EL2_ALL: [u64; 2] = [0x50, 0];
const S_EL2_ASID: [u64; 2] = [0x0005_0000_0000_0051, 0];
const S_EL2_VA: [u64; 2] = [0x0005_0000_0000_0052, 0x0123_4567_7001];
const S_EL2_VAA: [u64; 2] = [0x53, 0x0123_4567_7001];
const S_S12_VMALL: [u64; 2] = [0x0000_0007_0000_0058, 0];
const S_S2_IPA: [u64; 2] = [0x0000_0007_0000_005A, 0x0012_3456_7001];
const SNH_ALL: [u64; 2] = [0x60, 0];
const DPTI_ALL: [u64; 2] = [0x70, 0];
const DPTI_PA: [u64; 2] = [0x73, 0];

/// Appendix A4: three ranges, and one page with TTL 3.
const A4_FIRST: [u64; 2] = [0x0005_0000_0000_4012, 0x0100_0701];
const A4_SECOND: [u64; 2] = [0x0005_0000_0060_C012, 0x0100_5701];
const A4_THIRD: [u64; 2] = [0x0005_0000_00D0_8012, 0x0134_5701];
const A4_PAGE: [u64; 2] = [0x0005_0000_0000_0012, 0x12_3456_7701];
/// Two pages (NUM 1) from 0, leaves of any level: 4, 16, 64 KiB.
const TWO_4K: [u64; 2] = [0x0005_0007_0000_1012, 0x401];
const TWO_16K: [u64; 2] = [0x0005_0007_0000_1012, 0x801];
const TWO_64K: [u64; 2] = [0x0005_0007_0000_1012, 0xC01];
/// One page, 16 KiB, TTL 2.
const ONE_16K: [u64; 2] = [0x0005_0007_0000_0012, 0xA01];
const TWO_VAA: [u64; 2] = [0x0000_0007_0000_1013, 0x401];
const TWO_EL2: [u64; 2] = [0x0005_0000_0000_1022, 0x401];
const TWO_EL2_VAA: [u64; 2] = [0x0000_0000_0000_1023, 0x401];
const TWO_IPA: [u64; 2] = [0x0000_0007_0000_102A, 0x401];

const COMMANDS: &[Row<2>] = rows! {
    legal "4.1" "PREFETCH_CONFIG": PREFETCH_CONFIG {} [];
    illegal "4.1" "PREFETCH_CONFIG, SSec": PREFETCH_CONFIG { 0[10:10] = 1 } [];
    legal "4.1" "PREFETCH_CONFIG, SSV = 0": PREFETCH_CONFIG { 0[11:11] = 0 } [];
    legal "4.1" "PREFETCH_CONFIG, no stage 1": PREFETCH_CONFIG {} [NO_S1P];
    legal "4.1" "PREFETCH_ADDR": PREFETCH_ADDR {} [];
    illegal "4.1" "PREFETCH_ADDR, SSec": PREFETCH_ADDR { 0[10:10] = 1 } [];
    legal "4.1" "PREFETCH_ADDR, no stage 2": PREFETCH_ADDR {} [NO_S2P];
    legal "4.1" "CFGI_STE": CFGI_STE {} [];
    illegal "4.1" "CFGI_STE, SSec": CFGI_STE { 0[10:10] = 1 } [];
    legal "4.1" "CFGI_STE, not Leaf": CFGI_STE { 1[0:0] = 0 } [];
    legal "4.1" "CFGI_STE, no stage 1": CFGI_STE {} [NO_S1P];
    legal "4.1" "CFGI_STE, no stage 2": CFGI_STE {} [NO_S2P];
    legal "4.1" "CFGI_STE_RANGE": CFGI_STE_RANGE {} [];
    illegal "4.1" "CFGI_STE_RANGE, SSec": CFGI_STE_RANGE { 0[10:10] = 1 } [];
    legal "4.1" "CFGI_STE_RANGE, 0": CFGI_STE_RANGE { 1[4:0] = 0 } [];
    legal "4.1" "CFGI_STE_RANGE, 30": CFGI_STE_RANGE { 1[4:0] = 30 } [];
    legal "4.1" "CFGI_ALL": CFGI_ALL {} [];
    legal "4.1" "CFGI_ALL, SID is ignored": CFGI_ALL { 0[63:32] = 0xFFFF_FFFF } [];
    legal "4.1" "CFGI_ALL, no stage 1": CFGI_ALL {} [NO_S1P];
    illegal "4.1" "CFGI_ALL, SSec": CFGI_ALL { 0[10:10] = 1 } [];
    legal "4.1" "CFGI_CD": CFGI_CD {} [];
    illegal "4.1" "CFGI_CD, no stage 1": CFGI_CD {} [NO_S1P];
    illegal "4.1" "CFGI_CD, SSec": CFGI_CD { 0[10:10] = 1 } [];
    legal "4.1" "CFGI_CD, no stage 2": CFGI_CD {} [NO_S2P];
    legal "4.1" "CFGI_CD, SSID 0, no substreams": CFGI_CD { 0[31:12] = 0 } [SSID0];
    legal "4.1" "CFGI_CD_ALL": CFGI_CD_ALL {} [];
    illegal "4.1" "CFGI_CD_ALL, no stage 1": CFGI_CD_ALL {} [NO_S1P];
    illegal "4.1" "CFGI_CD_ALL, SSec": CFGI_CD_ALL { 0[10:10] = 1 } [];
    legal "4.1" "CFGI_VMS_PIDM": CFGI_VMS_PIDM {} [];
    illegal "4.1" "CFGI_VMS_PIDM, no MPAM": CFGI_VMS_PIDM {} [NO_MPAM];
    illegal "4.1" "CFGI_VMS_PIDM, SSec": CFGI_VMS_PIDM { 0[10:10] = 1 } [];

    legal "4.1" "TLBI_NH_ALL": NH_ALL {} [];
    illegal "4.1" "TLBI_NH_ALL, no stage 1": NH_ALL {} [NO_S1P];
    legal "4.1" "TLBI_NH_ALL, VMID 0, no stage 2": NH_ALL { 0[47:32] = 0 } [NO_S2P];
    legal "4.1" "TLBI_NH_ALL, no Hyp": NH_ALL {} [NO_HYP];
    legal "4.1" "TLBI_NH_ASID": NH_ASID {} [];
    illegal "4.1" "TLBI_NH_ASID, no stage 1": NH_ASID {} [NO_S1P];
    legal "4.1" "TLBI_NH_ASID, no stage 2": NH_ASID {} [NO_S2P];
    legal "4.1" "TLBI_NH_ASID, 0xFFFF": NH_ASID { 0[63:48] = 0xFFFF } [];
    legal "4.1" "TLBI_NH_ASID, 0xFF of 8 bits": NH_ASID { 0[63:48] = 0xFF } [ASID8];
    legal "4.1" "TLBI_NH_VA": NH_VA {} [];
    illegal "4.1" "TLBI_NH_VA, no stage 1": NH_VA {} [NO_S1P];
    legal "4.1" "TLBI_NH_VA, not Leaf": NH_VA { 1[0:0] = 0 } [];
    legal "4.1" "TLBI_NH_VA, upper half": NH_VA { 1[63:48] = 0xFFFF } [];
    legal "4.1" "TLBI_NH_VAA": NH_VAA {} [];
    illegal "4.1" "TLBI_NH_VAA, no stage 1": NH_VAA {} [NO_S1P];
    legal "4.1" "TLBI_NH_VAA, no Hyp": NH_VAA {} [NO_HYP];
    illegal "4.1" "TLBI_EL3_ALL": EL3_ALL {} [];
    illegal "4.1" "TLBI_EL3_VA": EL3_VA {} [];
    legal "4.1" "TLBI_EL2_ALL": EL2_ALL {} [];
    illegal "4.1" "TLBI_EL2_ALL, no Hyp": EL2_ALL {} [NO_HYP];
    legal "4.1" "TLBI_EL2_ALL, E2H": EL2_ALL {} [E2H];
    legal "4.1" "TLBI_EL2_ALL, no stage 2": EL2_ALL {} [NO_S2P];
    legal "4.1" "TLBI_EL2_ASID": EL2_ASID {} [];
    illegal "4.1" "TLBI_EL2_ASID, no Hyp": EL2_ASID {} [NO_HYP];
    legal "4.1" "TLBI_EL2_ASID, E2H": EL2_ASID {} [E2H];
    legal "4.1" "TLBI_EL2_VA": EL2_VA {} [];
    illegal "4.1" "TLBI_EL2_VA, no Hyp": EL2_VA {} [NO_HYP];
    legal "4.1" "TLBI_EL2_VAA": EL2_VAA {} [];
    illegal "4.1" "TLBI_EL2_VAA, no Hyp": EL2_VAA {} [NO_HYP];
    legal "4.1" "TLBI_S12_VMALL": S12_VMALL {} [];
    illegal "4.1" "TLBI_S12_VMALL, no stage 2": S12_VMALL {} [NO_S2P];
    legal "4.1" "TLBI_S12_VMALL, no stage 1": S12_VMALL {} [NO_S1P];
    legal "4.1" "TLBI_S12_VMALL, 0xFF of 8 bits": S12_VMALL { 0[47:32] = 0xFF } [VMID8];
    legal "4.1" "TLBI_S2_IPA": S2_IPA {} [];
    illegal "4.1" "TLBI_S2_IPA, no stage 2": S2_IPA {} [NO_S2P];
    legal "4.1" "TLBI_S2_IPA, no stage 1": S2_IPA {} [NO_S1P];
    legal "4.1" "TLBI_NSNH_ALL": NSNH_ALL {} [];
    legal "4.1" "TLBI_NSNH_ALL, no stage 1": NSNH_ALL {} [NO_S1P];
    legal "4.1" "TLBI_NSNH_ALL, no stage 2": NSNH_ALL {} [NO_S2P];
    legal "4.1" "TLBI_NSNH_ALL, no Hyp": NSNH_ALL {} [NO_HYP];

    legal "4.1" "ATC_INV": ATC_INV {} [];
    illegal "4.1" "ATC_INV, no ATS": ATC_INV {} [NO_ATS];
    legal "4.1" "ATC_INV, no PRI": ATC_INV {} [NO_PRI];
    legal "4.1" "ATC_INV, Size 0": ATC_INV { 1[5:0] = 0 } [];
    legal "4.1" "ATC_INV, SSV": ATC_INV { 0[11:11] = 1 } [];
    legal "4.1" "PRI_RESP, success": PRI_RESP {} [];
    illegal "4.1" "PRI_RESP, no PRI": PRI_RESP {} [NO_PRI];
    legal "4.1" "PRI_RESP, failure": PRI_RESP { 1[13:12] = 0 } [];
    legal "4.1" "PRI_RESP, invalid request": PRI_RESP { 1[13:12] = 1 } [];
    illegal "4.1" "PRI_RESP, 3": PRI_RESP { 1[13:12] = 3 } [];
    legal "4.1" "PRI_RESP, no PASID": PRI_RESP { 0[31:11] = 0 } [];
    legal "4.1" "PRI_RESP, group 511": PRI_RESP { 1[8:0] = 511 } [];
    legal "4.1" "RESUME, retry": RESUME {} [];
    illegal "4.1" "RESUME, terminate only": RESUME {} [TERMINATE];
    legal "4.1" "RESUME, stall forced": RESUME {} [FORCED];
    illegal "4.1" "RESUME, SSec": RESUME { 0[10:10] = 1 } [];
    legal "4.1" "RESUME, abort": RESUME_ABORT {} [];
    legal "4.1" "RESUME, Ac and Ab: Ab is ignored": RESUME { 0[13:13] = 1 } [];
    legal "4.1" "RESUME, neither, abort only": RESUME { 0[12:12] = 0 } [ABORT_ONLY];
    legal "4.1" "STALL_TERM": STALL_TERM {} [];
    illegal "4.1" "STALL_TERM, terminate only": STALL_TERM {} [TERMINATE];
    legal "4.1" "STALL_TERM, stall forced": STALL_TERM {} [FORCED];
    illegal "4.1" "STALL_TERM, SSec": STALL_TERM { 0[10:10] = 1 } [];
    legal "4.1" "SYNC": SYNC {} [];
    legal "4.1" "SYNC, message": SYNC_MSI {} [];
    legal "4.1" "SYNC, wired: address 0": SYNC { 0[13:12] = 1 } [NO_MSI];
    legal "4.1" "SYNC, SEV": SYNC { 0[13:12] = 2 } [];
    legal "4.1" "SYNC, SEV without SEV is as none": SYNC { 0[13:12] = 2 } [NO_SEV];
    illegal "4.1" "SYNC, CS 3": SYNC { 0[13:12] = 3 } [];
    illegal "4.1" "SYNC, CS 3, message": SYNC_MSI { 0[13:12] = 3 } [];
    legal "4.1" "SYNC, MSH 1": SYNC_MSI { 0[23:22] = 1 } [];
    legal "4.1" "SYNC, no stage 1": SYNC {} [NO_S1P];
    legal "4.1" "SYNC, no ATS": SYNC {} [NO_ATS];

    illegal "4.1" "TLBI_S_EL2_ALL": S_EL2_ALL {} [];
    illegal "4.1" "TLBI_S_EL2_ASID": S_EL2_ASID {} [];
    illegal "4.1" "TLBI_S_EL2_VA": S_EL2_VA {} [];
    illegal "4.1" "TLBI_S_EL2_VAA": S_EL2_VAA {} [];
    illegal "4.1" "TLBI_S_S12_VMALL": S_S12_VMALL {} [];
    illegal "4.1" "TLBI_S_S2_IPA": S_S2_IPA {} [];
    illegal "4.1" "TLBI_SNH_ALL": SNH_ALL {} [];
    legal "4.1" "DPTI_ALL": DPTI_ALL {} [];
    illegal "4.1" "DPTI_ALL, no DPT": DPTI_ALL {} [NO_DPT];
    legal "4.1" "DPTI_PA": DPTI_PA {} [];
    illegal "4.1" "DPTI_PA, no DPT": DPTI_PA {} [NO_DPT];
};

const RANGES: &[Row<2>] = rows! {
    legal "4.2" "A4, first": A4_FIRST {} [];
    legal "4.2" "A4, second": A4_SECOND {} [];
    legal "4.2" "A4, third": A4_THIRD {} [];
    legal "4.2" "A4, one page, TTL 3": A4_PAGE {} [];
    illegal "4.2" "A4, one page, TTL 0": A4_PAGE { 1[9:8] = 0 } [];
    legal "4.2" "one page, TTL 2": A4_PAGE { 1[9:8] = 2 } [];
    legal "4.2" "one page, TTL 1, 4 KiB": A4_PAGE { 1[9:8] = 1 } [];
    legal "4.2" "one page without TG": A4_PAGE { 1[11:8] = 0 } [];
    legal "4.2" "NUM 1, 4 KiB": TWO_4K {} [];
    legal "4.2" "NUM 1, 16 KiB": TWO_16K {} [];
    legal "4.2" "NUM 1, 64 KiB": TWO_64K {} [];
    illegal "4.2" "NUM 0, 4 KiB": TWO_4K { 0[16:12] = 0 } [];
    illegal "4.2" "NUM 0, 16 KiB": TWO_16K { 0[16:12] = 0 } [];
    illegal "4.2" "NUM 0, 64 KiB": TWO_64K { 0[16:12] = 0 } [];
    legal "4.2" "NUM 31": TWO_4K { 0[16:12] = 31 } [];
    legal "4.2" "SCALE 31, no DS": TWO_4K { 0[25:20] = 31 } [NO_DS];
    legal "4.2" "SCALE 39, DS": TWO_4K { 0[25:20] = 39 } [];
    legal "4.2" "SCALE 63, DS, is as 39": TWO_4K { 0[25:20] = 63 } [];
    illegal "4.2" "NUM 0, 4 KiB, no DS": TWO_4K { 0[16:12] = 0 } [NO_DS];
    illegal "4.2" "NH_VAA, NUM 0": TWO_VAA { 0[16:12] = 0 } [];
    legal "4.2" "NH_VAA, NUM 1": TWO_VAA {} [];
    illegal "4.2" "EL2_VA, NUM 0": TWO_EL2 { 0[16:12] = 0 } [];
    legal "4.2" "EL2_VA, NUM 1": TWO_EL2 {} [];
    illegal "4.2" "EL2_VAA, NUM 0": TWO_EL2_VAA { 0[16:12] = 0 } [];
    legal "4.2" "EL2_VAA, NUM 1": TWO_EL2_VAA {} [];
    illegal "4.2" "S2_IPA, NUM 0": TWO_IPA { 0[16:12] = 0 } [];
    legal "4.2" "S2_IPA, NUM 1": TWO_IPA {} [];
    legal "4.2" "16 KiB, TTL 2": ONE_16K {} [];
    legal "4.2" "16 KiB, TTL 3": ONE_16K { 1[9:8] = 3 } [];
    legal "4.2" "16 KiB, TTL 1, DS": ONE_16K { 1[9:8] = 1 } [];
    illegal "4.2" "16 KiB, TTL 1, no DS, is as 0": ONE_16K { 1[9:8] = 1 } [NO_DS];
    legal "4.2" "16 KiB, TTL 2, no DS": ONE_16K {} [NO_DS];
    legal "4.2" "16 KiB, TTL 1, no DS, two pages": TWO_16K { 1[9:8] = 1 } [NO_DS];
    legal "4.2" "TG 0 with NUM 0, SCALE 0, TTL 0": NH_VA {} [NO_DS];
};

fn judge(
    words: &[u64; 2],
    smmu: &legality::Implementation,
) -> Result<(), smmuv3_formats::legality::Rule> {
    legality::command(&Command(*words), smmu)
}

#[test]
fn commands() {
    run(COMMANDS, judge);
}

#[test]
fn ranges() {
    run(RANGES, judge);
}

/// Every code of §4.1's table, `80-8F` apart.
const CODES: [u8; 38] = [
    0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x10, 0x11, 0x12, 0x13, 0x18, 0x1A, 0x20, 0x21, 0x22,
    0x23, 0x28, 0x2A, 0x30, 0x40, 0x41, 0x44, 0x45, 0x46, 0x50, 0x51, 0x52, 0x53, 0x58, 0x5A, 0x60,
    0x70, 0x73, 0x80, 0x81, 0x82, 0x83,
];

/// All others are reserved, 0x00 among them: a row each.
#[test]
fn reserved_codes() {
    let free = |code: &u8| !CODES.contains(code) && !(0x80..=0x8F).contains(code);
    let mut rows = 0;
    for code in (0..=0xFF).filter(free) {
        let said = legality::command(&Command([u64::from(code), 0]), &implementation(&[]));
        assert_eq!(said.expect_err("reserved").section, "4.1", "{code:#x}");
        rows += 1;
    }
    assert_eq!(rows, 256 - 34 - 16);
}

const SID: u64 = 0xFFFF_FFFF_0000_0000;
const SSID: u64 = 0xFFFF_F000;
const SSV: u64 = 0x800;
const SSEC: u64 = 0x400;
const VMID: u64 = 0xFFFF_0000_0000;
const ASID: u64 = 0xFFFF_0000_0000_0000;
/// NUM and SCALE.
const RANGE: u64 = 0x03F1_F000;
/// Leaf, TTL128, TTL, TG and Addr.
const ADDRESS: u64 = 0xFFFF_FFFF_FFFF_FF81;
/// The same, Addr ending at bit 55.
const IPA: u64 = 0x00FF_FFFF_FFFF_FF81;

/// §4.1: the bits that a command has beside its code, by word. Those of 07, 5A and 73 are [?].
const FIELDS: &[(u64, u64, u64)] = &[
    (0x01, SSEC | SSV | SSID | SID, 0),
    (0x02, SSEC | SSV | SSID | SID, 0xFFFF_FFFF_FFFF_F3FF),
    (0x03, SSEC | SID, 1),
    (0x04, SSEC | SID, 0x1F),
    (0x05, SSEC | SSID | SID, 1),
    (0x06, SSEC | SID, 0),
    (0x10, VMID, 0),
    (0x11, VMID | ASID, 0),
    (0x12, RANGE | VMID | ASID, ADDRESS),
    (0x13, RANGE | VMID, ADDRESS),
    (0x18, 0, 0),
    (0x1A, RANGE, ADDRESS),
    (0x20, 0, 0),
    (0x21, ASID, 0),
    (0x22, RANGE | ASID, ADDRESS),
    (0x23, RANGE, ADDRESS),
    (0x28, VMID, 0),
    (0x2A, RANGE | VMID, IPA),
    (0x30, 0, 0),
    (0x40, 0x200 | SSV | SSID | SID, 0xFFFF_FFFF_FFFF_F03F),
    (0x41, SSV | SSID | SID, 0x31FF),
    (0x44, SSEC | 0x3000 | SID, 0xFFFF),
    (0x45, SSEC | SID, 0),
    (0x46, 0xFFFF_FFFF_0FC0_3000, 0x00FF_FFFF_FFFF_FFFC),
    (0x50, 0, 0),
    (0x51, ASID, 0),
    (0x52, RANGE | ASID, ADDRESS),
    (0x53, RANGE, ADDRESS),
    (0x58, VMID, 0),
    (0x60, 0, 0),
    (0x70, 0, 0),
];

/// A bit that a command does not have is told, whoever it is given to; one that it has is not.
#[test]
fn reserved_bits_are_told() {
    for &(code, first, second) in FIELDS {
        for bit in 8..128 {
            let word =
                |from: u32| if (from..from + 64).contains(&bit) { 1 << (bit - from) } else { 0 };
            let (w0, w1): (u64, u64) = (word(0), word(64));
            let mut told = false;
            legality::command_reserved(&Command([code | w0, w1]), None, &mut |_| told = true);
            let reserved = w0 & !first | w1 & !second != 0;
            // Without TG, what says how far and at which level is reserved (§4.2), so those are not asserted.
            let range = first & RANGE != 0 && (w0 & RANGE | w1 & 0xF80) != 0;
            assert!(told == reserved || range, "{code:#x}: bit {bit}, told: {told}");
        }
    }
}

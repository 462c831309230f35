// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stream table entries (§5.2, §7.1, §15.4).

use smmuv3_formats::{Ste, legality};

use crate::{Row, rows, run};

const fn ste(w0: u64, w1: u64, w2: u64, w3: u64) -> [u64; 8] {
    [w0, w1, w2, w3, 0, 0, 0, 0]
}

/// Stage 2 alone, incoming shareability.
const fn stage_2(w2: u64, w3: u64) -> [u64; 8] {
    ste(0xD, 0x1000_0000_0000, w2, w3)
}

pub(crate) const ABORT: [u64; 8] = ste(0x1, 0, 0, 0);
pub(crate) const BYPASS: [u64; 8] = ste(0x9, 0x1000_0000_0000, 0, 0);
/// One CD at 0x8002_0000, fetched WB inner shareable (appendix A1).
pub(crate) const S1: [u64; 8] = ste(0x8002_000B, 0xD4, 0, 0);
/// The same with STRW = 2.
pub(crate) const S1_EL2: [u64; 8] = ste(0x8002_000B, 0x8000_00D4, 0, 0);
/// 2^8 CDs in one piece.
const S1_SUBSTREAMS: [u64; 8] = ste(0x4000_0000_8002_000B, 0xD4, 0, 0);
/// VMID 7, T0SZ 24, SL0 1, WB/WB/ISH, 4 KiB, PS 44, AA64, S2R, at 0x8004_0000 (A2).
const S2: [u64; 8] = stage_2(0x040C_3558_0000_0007, 0x8004_0000);
/// A3: both.
pub(crate) const NESTED: [u64; 8] =
    ste(0x8002_000F, 0x1000_0000_00D4, 0x040C_3558_0000_0007, 0x8004_0000);
const NESTED_SUBSTREAMS: [u64; 8] =
    ste(0x4000_0000_8002_000F, 0x1000_0000_00D4, 0x040C_3558_0000_0007, 0x8004_0000);
/// `NESTED` with EATS = 2.
const NESTED_SPLIT: [u64; 8] =
    ste(0x8002_000F, 0x1000_2000_00D4, 0x040C_3558_0000_0007, 0x8004_0000);
/// `NESTED` with EATS = 3.
const NESTED_DPT: [u64; 8] = ste(0x8002_000F, 0x1000_3000_00D4, 0x040C_3558_0000_0007, 0x8004_0000);
/// `NESTED` with EATS = 1.
const NESTED_ATS: [u64; 8] = ste(0x8002_000F, 0x1000_1000_00D4, 0x040C_3558_0000_0007, 0x8004_0000);
/// `S2` with EATS = 1.
const S2_ATS: [u64; 8] = ste(0xD, 0x1000_1000_0000, 0x040C_3558_0000_0007, 0x8004_0000);
/// `S1` with EATS = 3.
const S1_DPT: [u64; 8] = ste(0x8002_000B, 0x3000_00D4, 0, 0);
/// `NESTED` with S1MPAM = 1.
const NESTED_MPAM: [u64; 8] =
    ste(0x8002_000F, 0x1000_0400_00D4, 0x040C_3558_0000_0007, 0x8004_0000);
const S1_MPAM: [u64; 8] = ste(0x8002_000B, 0x0400_00D4, 0, 0);
/// LPAE: T0SZ 24 is its -8 (40 bits), two tables of level 1.
pub(crate) const NESTED_LPAE: [u64; 8] =
    ste(0x8002_000F, 0x1000_0000_00D4, 0x0404_3558_0000_0007, 0x8004_0000);
const S2_LPAE: [u64; 8] = stage_2(0x0404_3558_0000_0007, 0x8004_0000);
const S2_STALLS: [u64; 8] = stage_2(0x060C_3558_0000_0007, 0x8004_0000);
const S2_BIG: [u64; 8] = stage_2(0x041C_3558_0000_0007, 0x8004_0000);
const S2_HA: [u64; 8] = stage_2(0x050C_3558_0000_0007, 0x8004_0000);
const S2_HA_HD: [u64; 8] = stage_2(0x058C_3558_0000_0007, 0x8004_0000);
const S2_PIE: [u64; 8] = stage_2(0x140C_3558_0000_0007, 0x8004_0000);
const S2_POE: [u64; 8] = stage_2(0x340C_3558_0000_0007, 0x8004_0000);
const S2_PS48: [u64; 8] = stage_2(0x040D_3558_0000_0007, 0x8004_0000);
const S2_PS52: [u64; 8] = stage_2(0x040E_3558_0000_0007, 0x8004_0000);
const S2_PS52_DS: [u64; 8] = stage_2(0x040E_3558_0000_0007, 0x8004_0008);
const S2_16K_PS52: [u64; 8] = stage_2(0x040E_B598_0000_0007, 0x8004_0000);
const S2_16K_PS52_DS: [u64; 8] = stage_2(0x040E_B598_0000_0007, 0x8004_0008);
const S2_64K_PS48: [u64; 8] = stage_2(0x040D_7558_0000_0007, 0x8004_0000);
const S2_64K_PS52: [u64; 8] = stage_2(0x040E_7558_0000_0007, 0x8004_0000);

// A start level each (§15.4): granule, SL0.
const K4_SL2: [u64; 8] = stage_2(0x040C_3594_0000_0007, 0x8004_0000);
const K4_SL2_DS: [u64; 8] = stage_2(0x040C_3594_0000_0007, 0x8004_0008);
const K4_SL1: [u64; 8] = stage_2(0x040C_355C_0000_0007, 0x8004_0000);
const K4_SL0: [u64; 8] = stage_2(0x040C_3524_0000_0007, 0x8004_0000);
const K4_SL3: [u64; 8] = stage_2(0x040C_35EC_0000_0007, 0x8004_0000);
/// SL0_2 = 1, SL0 = 0: level -1.
const K4_SL4_DS: [u64; 8] = stage_2(0x040C_350E_0000_0007, 0x8004_000C);
const K16_SL3_DS: [u64; 8] = stage_2(0x040C_B5CE_0000_0007, 0x8004_0008);
const K16_SL2: [u64; 8] = stage_2(0x040C_B596_0000_0007, 0x8004_0000);
const K16_SL2_DS: [u64; 8] = stage_2(0x040C_B596_0000_0007, 0x8004_0008);
const K16_SL1: [u64; 8] = stage_2(0x040C_B560_0000_0007, 0x8004_0000);
const K16_SL0: [u64; 8] = stage_2(0x040C_B527_0000_0007, 0x8004_0000);
const K64_SL2: [u64; 8] = stage_2(0x040C_7592_0000_0007, 0x8004_0000);
const K64_SL1: [u64; 8] = stage_2(0x040C_755C_0000_0007, 0x8004_0000);
const K64_SL0: [u64; 8] = stage_2(0x040C_7525_0000_0007, 0x8004_0000);

const STREAMS: &[Row<8>] = rows! {
    illegal "7.1(1)" "V = 0": S1 { 0[0:0] = 0 } [];
    illegal "7.1(1)" "V = 0, abort": ABORT { 0[0:0] = 0 } [];
    legal "7.1(2)" "abort": ABORT {} [];
    legal "7.1(2)" "Config 001 is as 000": S1 { 0[3:1] = 1 } [NO_S1P];
    legal "7.1(2)" "Config 010 is as 000": S2 { 0[3:1] = 2 } [NO_S2P];
    legal "7.1(2)" "Config 011 is as 000": NESTED { 0[3:1] = 3 } [NO_S1P, NO_S2P];
    legal "7.1(2)" "abort: the rest of word 1 is ignored": ABORT { 1[63:0] = 0xFFFF_FFFF_FFFF_FFFF } [TERMINATE];
    legal "7.1(2)" "abort: word 2 is ignored": ABORT { 2[63:0] = 0xFFFF_FFFF_FFFF_FFFF } [VMID8, TERMINATE];
    legal "7.1(2)" "abort: word 3 is ignored": ABORT { 3[63:0] = 0xFFFF_FFFF_FFFF_FFFF } [OAS36];
    legal "7.1(2)" "abort: S1ContextPtr, S1CDMax are ignored": ABORT { 0[63:4] = 0xFFF_FFFF_FFFF_FFFF } [OAS36];

    legal "7.1(3)" "stage 1": S1 {} [];
    illegal "7.1(3)" "stage 1 without S1P": S1 {} [NO_S1P];
    legal "7.1(3)" "stage 1 without S2P": S1 {} [NO_S2P];
    legal "7.1(3)" "stage 2": S2 {} [];
    illegal "7.1(3)" "stage 2 without S2P": S2 {} [NO_S2P];
    legal "7.1(3)" "stage 2 without S1P": S2 {} [NO_S1P];
    legal "7.1(3)" "both": NESTED {} [];
    illegal "7.1(3)" "both without S1P": NESTED {} [NO_S1P];
    illegal "7.1(3)" "both without S2P": NESTED {} [NO_S2P];
    legal "7.1(3)" "bypass needs neither": BYPASS {} [NO_S1P];
    legal "7.1(3)" "bypass needs no stage 2": BYPASS {} [NO_S2P];

    legal "7.1(4)" "full ATS, stage 1": S1 { 1[29:28] = 1 } [];
    legal "7.1(4)" "full ATS, stage 2": S2 { 1[29:28] = 1 } [];
    legal "7.1(4)" "full ATS, both": NESTED { 1[29:28] = 1 } [];
    legal "7.1(4)" "split stage, both": NESTED { 1[29:28] = 2 } [];
    illegal "7.1(4)" "split stage, stage 1": S1 { 1[29:28] = 2 } [];
    illegal "7.1(4)" "split stage, stage 2": S2 { 1[29:28] = 2 } [];
    illegal "7.1(4)" "split stage with S2S": NESTED_SPLIT { 2[57:57] = 1 } [];
    illegal "7.1(4)" "split stage, NS1ATS": NESTED_SPLIT {} [NO_SPLIT];
    legal "7.1(4)" "full ATS, NS1ATS": NESTED_ATS {} [NO_SPLIT];
    legal "7.1(4)" "split stage, bypass: ignored": BYPASS { 1[29:28] = 2 } [];
    legal "7.1(4)" "split stage, stage 1, no ATS: ignored": S1 { 1[29:28] = 2 } [NO_ATS];
    legal "7.1(4)" "split stage with S2S, no ATS: ignored": NESTED_SPLIT { 2[57:57] = 1 } [NO_ATS];
    legal "7.1(4)" "NS1ATS, no ATS: ignored": NESTED_SPLIT {} [NO_SPLIT, NO_ATS];
    illegal "7.1(4)" "full ATS with S2S, stage 2": S2_ATS { 2[57:57] = 1 } [];
    illegal "7.1(4)" "full ATS with S2S, both": NESTED_ATS { 2[57:57] = 1 } [];
    legal "7.1(4)" "full ATS with S2S, no ATS: ignored": S2_ATS { 2[57:57] = 1 } [NO_ATS];
    legal "7.1(4)" "S2S without ATS in use": NESTED { 2[57:57] = 1 } [];
    legal "7.1(4)" "DPT, stage 1": S1 { 1[29:28] = 3 } [];
    legal "7.1(4)" "DPT, both": NESTED { 1[29:28] = 3 } [];
    illegal "7.1(4)" "DPT with STRW 2": S1_EL2 { 1[29:28] = 3 } [];
    legal "7.1(4)" "EATS 3 without DPT acts as 0": S1_EL2 { 1[29:28] = 3 } [NO_DPT];
    legal "7.1(4)" "DPT, STRW is not used without Hyp": S1_DPT { 1[31:30] = 2 } [NO_HYP];
    legal "7.1(4)" "DPT, STRW is not used by both": NESTED_DPT { 1[31:30] = 2 } [];
    illegal "7.1(4)" "DPT with S2S, both": NESTED_DPT { 2[57:57] = 1 } [];
    legal "7.1(4)" "EATS 3 with S2S without DPT acts as 0": NESTED_DPT { 2[57:57] = 1 } [NO_DPT];

    legal "7.1(5)" "STRW 0": S1 { 1[31:30] = 0 } [];
    illegal "7.1(5)" "STRW 1": S1 { 1[31:30] = 1 } [];
    legal "7.1(5)" "STRW 2": S1 { 1[31:30] = 2 } [];
    illegal "7.1(5)" "STRW 3": S1 { 1[31:30] = 3 } [];
    illegal "7.1(5)" "STRW 3 with E2H": S1 { 1[31:30] = 3 } [E2H];
    legal "7.1(5)" "STRW 1 is ignored without Hyp": S1 { 1[31:30] = 1 } [NO_HYP];
    legal "7.1(5)" "STRW 3 is ignored without Hyp": S1 { 1[31:30] = 3 } [NO_HYP];
    legal "7.1(5)" "STRW 1 is ignored by both": NESTED { 1[31:30] = 1 } [];
    legal "7.1(5)" "STRW 3 is ignored by both": NESTED { 1[31:30] = 3 } [];
    legal "7.1(5)" "STRW 1 is ignored by stage 2": S2 { 1[31:30] = 1 } [];
    legal "7.1(5)" "STRW 3 is ignored by bypass": BYPASS { 1[31:30] = 3 } [];

    legal "7.1(6a)" "S1STALLD": S1 { 1[27:27] = 1 } [];
    legal "7.1(6a)" "S1STALLD, both": NESTED { 1[27:27] = 1 } [];
    illegal "7.1(6a)" "S1STALLD, terminate only": S1 { 1[27:27] = 1 } [TERMINATE];
    illegal "7.1(6a)" "S1STALLD, stall forced": S1 { 1[27:27] = 1 } [FORCED];
    illegal "7.1(6a)" "S1STALLD, both, terminate only": NESTED { 1[27:27] = 1 } [TERMINATE];
    legal "7.1(6a)" "S1STALLD is ignored by stage 2": S2 { 1[27:27] = 1 } [TERMINATE];
    legal "7.1(6a)" "S1STALLD is ignored by bypass": BYPASS { 1[27:27] = 1 } [FORCED];

    legal "7.1(6b)" "S1CDMax = SSIDSIZE": S1_SUBSTREAMS {} [SSID8];
    illegal "7.1(6b)" "S1CDMax > SSIDSIZE": S1_SUBSTREAMS {} [SSID7];
    illegal "7.1(6b)" "S1CDMax 21 of 20": S1 { 0[63:59] = 21 } [];
    legal "7.1(6b)" "S1CDMax 20 of 20": S1 { 0[63:59] = 20 } [];
    illegal "7.1(6b)" "S1CDMax > SSIDSIZE, both": NESTED_SUBSTREAMS {} [SSID7];
    legal "7.1(6b)" "S1CDMax is ignored without substreams": S1 { 0[63:59] = 31 } [SSID0];
    legal "7.1(6b)" "S1CDMax is ignored by stage 2": S2 { 0[63:59] = 31 } [];
    legal "7.1(6b)" "S1CDMax is ignored by bypass": BYPASS { 0[63:59] = 31 } [];

    legal "7.1(6c)" "4 KiB leaves": S1_SUBSTREAMS { 0[5:4] = 1 } [];
    legal "7.1(6c)" "64 KiB leaves": S1_SUBSTREAMS { 0[5:4] = 2 } [];
    illegal "7.1(6c)" "4 KiB leaves without CD2L": S1_SUBSTREAMS { 0[5:4] = 1 } [NO_CD2L];
    illegal "7.1(6c)" "64 KiB leaves without CD2L": S1_SUBSTREAMS { 0[5:4] = 2 } [NO_CD2L];
    illegal "7.1(6c)" "4 KiB leaves without CD2L, both": NESTED_SUBSTREAMS { 0[5:4] = 1 } [NO_CD2L];
    legal "7.1(6c)" "S1Fmt 3 is as 0": S1_SUBSTREAMS { 0[5:4] = 3 } [NO_CD2L];
    legal "7.1(6c)" "one piece without CD2L": S1_SUBSTREAMS { 0[5:4] = 0 } [NO_CD2L];
    legal "7.1(6c)" "S1Fmt is ignored with one CD": S1 { 0[5:4] = 1 } [NO_CD2L];
    legal "7.1(6c)" "S1Fmt is ignored without substreams": S1_SUBSTREAMS { 0[5:4] = 2 } [NO_CD2L, SSID0];

    legal "7.1(6d)" "S1ContextPtr, bit 43 of 44": S1 { 0[43:43] = 1 } [OAS44];
    illegal "7.1(6d)" "S1ContextPtr, bit 44 of 44": S1 { 0[44:44] = 1 } [OAS44];
    legal "7.1(6d)" "S1ContextPtr, bit 51 of 52": S1 { 0[51:51] = 1 } [];
    illegal "7.1(6d)" "S1ContextPtr, bit 52 of 52": S1 { 0[52:52] = 1 } [];
    illegal "7.1(6d)" "S1ContextPtr, bit 36 of 36": S1 { 0[36:36] = 1 } [OAS36];
    legal "7.1(6d)" "S1ContextPtr is ignored by stage 2": S2 { 0[55:44] = 0xFFF } [OAS44];
    legal "7.1(6d)" "S1ContextPtr is ignored by bypass": BYPASS { 0[55:44] = 0xFFF } [OAS44];
    legal "5.2" "S1DSS 3 is as 0": S1_SUBSTREAMS { 1[1:0] = 3 } [];
    legal "5.2" "CONT is a hint": S1 { 1[16:13] = 15 } [];
    legal "5.2" "S1CSH 1": S1 { 1[7:6] = 1 } [];
    legal "5.2" "SHCFG 3": BYPASS { 1[45:44] = 3 } [];
    legal "5.2" "MemAttr 0100": BYPASS { 1[36:32] = 0x14 } [];
    legal "5.2" "software's bits": S2 { 1[23:20] = 15 } [];
    legal "5.2" "PRIVCFG 1": S1 { 1[49:48] = 1 } [];
};

const STAGE_2: &[Row<8>] = rows! {
    legal "7.1(7a)" "S2FWB": S2 { 1[25:25] = 1 } [];
    illegal "7.1(7a)" "S2FWB with LPAE": S2_LPAE { 1[25:25] = 1 } [];
    legal "7.1(7a)" "S2FWB with LPAE, no FWB": S2_LPAE { 1[25:25] = 1 } [NO_FWB];
    legal "7.1(7a)" "S2FWB is ignored by stage 1": S1 { 1[25:25] = 1 } [];

    legal "7.1(7b)" "S2S": S2 { 2[57:57] = 1 } [];
    illegal "7.1(7b)" "S2S, terminate only": S2 { 2[57:57] = 1 } [TERMINATE];
    illegal "7.1(7b)" "S2S, terminate only, both": NESTED { 2[57:57] = 1 } [TERMINATE];
    legal "7.1(7b)" "no S2S, terminate only": S2 {} [TERMINATE];
    illegal "7.1(7b)" "no S2S, stall forced": S2 {} [FORCED];
    illegal "7.1(7b)" "no S2S, stall forced, both": NESTED {} [FORCED];
    legal "7.1(7b)" "S2S, stall forced": S2_STALLS {} [FORCED];
    legal "7.1(7b)" "S2S is ignored by stage 1, terminate only": S1 { 2[57:57] = 1 } [TERMINATE];
    legal "7.1(7b)" "S2S is ignored by stage 1, stall forced": S1 {} [FORCED];

    legal "7.1(7c)" "LPAE": S2_LPAE {} [];
    illegal "7.1(7c)" "LPAE, TTF 2": S2_LPAE {} [NO_LPAE];
    legal "7.1(7c)" "AA64, TTF 2": S2 {} [NO_LPAE];
    illegal "7.1(7c)" "AA64, TTF 1": S2 {} [ONLY_LPAE];
    legal "7.1(7c)" "LPAE, TTF 1": S2_LPAE {} [ONLY_LPAE];
    illegal "7.1(7c)" "LPAE, TTF 2, both": NESTED_LPAE {} [NO_LPAE];
    legal "7.1(7c)" "S2AA64 is ignored by stage 1": S1 { 2[51:51] = 0 } [NO_LPAE];

    legal "7.1(7d)" "S2HA": S2 { 2[56:56] = 1 } [];
    legal "7.1(7d)" "S2HA, HTTU 1": S2 { 2[56:56] = 1 } [HTTU_AF];
    illegal "7.1(7d)" "S2HA, HTTU 0": S2 { 2[56:56] = 1 } [HTTU_NONE];
    illegal "7.1(7d)" "S2HD, HTTU 0": S2 { 2[55:55] = 1 } [HTTU_NONE];
    illegal "7.1(7d)" "S2HD, HTTU 1": S2 { 2[55:55] = 1 } [HTTU_AF];
    illegal "7.1(7d)" "S2HA and S2HD, HTTU 1": S2_HA { 2[55:55] = 1 } [HTTU_AF];
    legal "7.1(7d)" "S2HA and S2HD, HTTU 2": S2_HA { 2[55:55] = 1 } [HTTU_DIRTY];
    legal "7.1(7d)" "S2HD without S2HA acts as 0, HTTU 2": S2 { 2[55:55] = 1 } [HTTU_DIRTY];
    legal "7.1(7d)" "S2HD without S2HA acts as 0, HTTU 3": S2 { 2[55:55] = 1 } [];
    illegal "7.1(7d)" "S2HA with LPAE": S2_LPAE { 2[56:56] = 1 } [];
    illegal "7.1(7d)" "S2HD with LPAE": S2_LPAE { 2[55:55] = 1 } [];
    illegal "7.1(7d)" "S2HAFT without S2HA, HTTU 3": S2 { 2[59:59] = 1 } [];
    legal "7.1(7d)" "S2HAFT with S2HA, HTTU 3": S2_HA { 2[59:59] = 1 } [];
    legal "7.1(7d)" "S2HAFT without S2HA, HTTU 2": S2 { 2[59:59] = 1 } [HTTU_DIRTY];
    legal "7.1(7d)" "S2HAFT with all, HTTU 3": S2_HA_HD { 2[59:59] = 1 } [];
    legal "7.1(7d)" "S2HA is ignored by stage 1": S1 { 2[56:55] = 3 } [HTTU_NONE];

    illegal "7.1(7e)" "4 KiB unsupported": K4_SL1 {} [NO_4K];
    illegal "7.1(7e)" "16 KiB unsupported": K16_SL1 {} [NO_16K];
    illegal "7.1(7e)" "64 KiB unsupported": K64_SL1 {} [NO_64K];
    legal "7.1(7e)" "4 KiB alone": K4_SL1 {} [NO_16K, NO_64K];
    legal "7.1(7e)" "16 KiB alone": K16_SL1 {} [NO_4K, NO_64K];
    legal "7.1(7e)" "64 KiB alone": K64_SL1 {} [NO_4K, NO_16K];
    illegal "7.1(7e)" "S2TG 3": K4_SL1 { 2[47:46] = 3 } [];
    legal "7.1(7e)" "not for LPAE: S2TG 3": S2_LPAE { 2[47:46] = 3 } [];
    legal "7.1(7e)" "not for LPAE: no 4 KiB": S2_LPAE {} [NO_4K];
    legal "7.1(7e)" "S2TG 3 is ignored by stage 1": S1 { 2[47:46] = 3 } [];

    legal "7.1(7f)" "S2TTB, bit 43 of PS 44": S2 { 3[43:43] = 1 } [];
    illegal "7.1(7f)" "S2TTB, bit 44 of PS 44": S2 { 3[44:44] = 1 } [];
    legal "7.1(7f)" "S2TTB, bit 44 of PS 48": S2_PS48 { 3[44:44] = 1 } [];
    illegal "7.1(7f)" "S2TTB, bit 44 of PS 48, OAS 44": S2_PS48 { 3[44:44] = 1 } [OAS44];
    illegal "7.1(7f)" "S2TTB, bit 40 of PS 44, OAS 40": S2 { 3[40:40] = 1 } [OAS40];
    legal "7.1(7f)" "S2PS above OAS is capped": S2_PS52 {} [OAS44];
    legal "7.1(7f)" "S2PS 7 is capped": S2 { 2[50:48] = 7 } [];
    illegal "7.1(7f)" "S2TTB, bit 48 of PS 52, 4 KiB": S2_PS52 { 3[48:48] = 1 } [];
    legal "7.1(7f)" "S2TTB, bit 47 of PS 52, 4 KiB": S2_PS52 { 3[47:47] = 1 } [];
    legal "7.1(7f)" "S2TTB, bit 48 of PS 52, 4 KiB, DS": S2_PS52_DS { 3[48:48] = 1 } [];
    legal "7.1(7f)" "S2TTB, bit 51 of PS 52, 4 KiB, DS": S2_PS52_DS { 3[51:51] = 1 } [];
    illegal "7.1(7f)" "S2TTB, bit 48 of PS 52, 4 KiB, DS, OAS 48": S2_PS52_DS { 3[48:48] = 1 } [OAS48];
    illegal "7.1(7f)" "S2TTB, bit 48 of PS 52, 16 KiB": S2_16K_PS52 { 3[48:48] = 1 } [];
    legal "7.1(7f)" "S2TTB, bit 48 of PS 52, 16 KiB, DS": S2_16K_PS52_DS { 3[48:48] = 1 } [];
    illegal "7.1(7f)" "S2TTB, bit 48 of PS 48, 64 KiB": S2_64K_PS48 { 3[48:48] = 1 } [];
    legal "7.1(7f)" "S2TTB, bit 48 of PS 52, 64 KiB": S2_64K_PS52 { 3[48:48] = 1 } [];
    legal "7.1(7f)" "S2TTB is ignored by stage 1": S1 { 3[51:44] = 0xFF } [OAS44];
    legal "5.2" "low bits of S2TTB are dropped": S2 { 3[12:4] = 0x1FF } [];

    illegal "7.1(7i)" "big endian, TTENDIAN 2": S2_BIG {} [LITTLE];
    legal "7.1(7i)" "big endian, mixed": S2_BIG {} [];
    legal "7.1(7i)" "big endian, TTENDIAN 3": S2_BIG {} [BIG];
    illegal "7.1(7i)" "little endian, TTENDIAN 3": S2 {} [BIG];
    legal "7.1(7i)" "little endian, TTENDIAN 2": S2 {} [LITTLE];
    illegal "7.1(7i)" "little endian, TTENDIAN 3, both": NESTED {} [BIG];
    legal "7.1(7i)" "S2ENDI is ignored by stage 1": S1 { 2[52:52] = 1 } [LITTLE];

    legal "7.1(7j)" "S2PIE": S2_PIE {} [];
    illegal "7.1(7j)" "S2PIE with LPAE": S2_LPAE { 2[60:60] = 1 } [];
    legal "7.1(7j)" "S2PIE with LPAE, no S2PI": S2_LPAE { 2[60:60] = 1 } [NO_S2PI];
    legal "7.1(7j)" "S2POE": S2_POE {} [];
    illegal "7.1(7j)" "S2POE without S2PIE": S2 { 2[61:61] = 1 } [];
    legal "7.1(7j)" "S2POE without S2PIE, no S2PO": S2 { 2[61:61] = 1 } [NO_S2PO];
    illegal "7.1(7j)" "S2POE with S2HWU59": S2_POE { 1[8:8] = 1 } [];
    illegal "7.1(7j)" "S2POE with S2HWU60": S2_POE { 1[9:9] = 1 } [];
    illegal "7.1(7j)" "S2POE with S2HWU61": S2_POE { 1[10:10] = 1 } [];
    illegal "7.1(7j)" "S2POE with S2HWU62": S2_POE { 1[11:11] = 1 } [];
    legal "7.1(7j)" "S2POE with S2HWU59, no PBHA": S2_POE { 1[8:8] = 1 } [NO_PBHA];
    legal "7.1(7j)" "S2HWU without S2POE": S2_PIE { 1[11:8] = 15 } [];
    illegal "7.1(7j)" "S2POI 1": S2_POE { 7[3:0] = 1 } [];
    illegal "7.1(7j)" "S2POI 5": S2_POE { 7[3:0] = 5 } [];
    illegal "7.1(7j)" "S2POI 1, last": S2_POE { 7[63:60] = 1 } [];
    illegal "7.1(7j)" "S2POI 5, ninth": S2_POE { 7[35:32] = 5 } [];
    legal "7.1(7j)" "S2POI 0, 2, 3, 4, 6, 7, 8 to 15": S2_POE { 7[63:0] = 0xFEDC_BA98_7643_2000 } [];
    legal "7.1(7j)" "S2POI 5 without S2POE": S2_PIE { 7[3:0] = 5 } [];
    legal "7.1(7j)" "S2POI 5, no S2PO": S2_POE { 7[3:0] = 5 } [NO_S2PO];
    legal "7.1(7j)" "S2POE is ignored by stage 1": S1 { 2[61:61] = 1 } [];

    legal "7.1(8)" "VMID 0x100 of 16 bits": S2 { 2[15:8] = 1 } [];
    illegal "7.1(8)" "VMID 0x100 of 8 bits": S2 { 2[15:8] = 1 } [VMID8];
    legal "7.1(8)" "VMID 0xFF of 8 bits": S2 { 2[7:0] = 0xFF } [VMID8];
    illegal "7.1(8)" "VMID 0x100 of 8 bits, both": NESTED { 2[15:8] = 1 } [VMID8];
    illegal "7.1(8)" "VMID 0x100 of 8 bits, stage 1": S1 { 2[15:8] = 1 } [VMID8];
    legal "7.1(8)" "VMID 0x100 of 16 bits, stage 1": S1 { 2[15:8] = 1 } [];
    illegal "7.1(8)" "VMID 0x8000 of 8 bits, stage 1": S1 { 2[15:8] = 0x80 } [VMID8];
    legal "7.1(8)" "VMID is ignored without S2P": S1 { 2[15:8] = 1 } [VMID8, NO_S2P];
    legal "7.1(8)" "VMID is ignored under EL2": S1_EL2 { 2[15:8] = 1 } [VMID8];
    legal "7.1(8)" "VMID is ignored under EL2 with E2H": S1_EL2 { 2[15:8] = 1 } [VMID8, E2H];
    illegal "7.1(8)" "VMID counts: without Hyp, STRW is not used": S1_EL2 { 2[15:8] = 1 } [VMID8, NO_HYP];
    legal "7.1(8)" "VMID is ignored by bypass": BYPASS { 2[15:8] = 1 } [VMID8];
    illegal "7.1(8)" "VMID counts for both, whatever STRW": NESTED { 2[15:8] = 0xFF } [VMID8, E2H];

    legal "7.1(9)" "VMSPtr, bit 43 of 44": NESTED_MPAM { 5[43:43] = 1 } [OAS44];
    illegal "7.1(9)" "VMSPtr, bit 44 of 44": NESTED_MPAM { 5[44:44] = 1 } [OAS44];
    illegal "7.1(9)" "VMSPtr, bit 52 of 52": NESTED_MPAM { 5[52:52] = 1 } [];
    legal "7.1(9)" "VMSPtr without S1MPAM": NESTED { 5[55:44] = 0xFFF } [OAS44];
    legal "7.1(9)" "VMSPtr is for both stages alone": S1_MPAM { 5[55:44] = 0xFFF } [OAS44];
    legal "7.1(9)" "VMSPtr without MPAM (§6: used only if supported)": NESTED_MPAM { 5[44:44] = 1 } [OAS44, NO_MPAM];
};

/// §15.4, both ends of each line; 7.1(7g) before 7.1(7h).
const SIZES: &[Row<8>] = rows! {
    legal "7.1(7h)" "4K SL0 2, 16": K4_SL2 { 2[37:32] = 16 } [];
    legal "7.1(7h)" "4K SL0 2, 24": K4_SL2 { 2[37:32] = 24 } [];
    illegal "7.1(7h)" "4K SL0 2, 25": K4_SL2 { 2[37:32] = 25 } [];
    illegal "7.1(7g)" "4K SL0 2, 15 without DS": K4_SL2 { 2[37:32] = 15 } [];
    legal "7.1(7h)" "4K SL0 2, 15 with DS, 2 tables": K4_SL2_DS { 2[37:32] = 15 } [];
    legal "7.1(7h)" "4K SL0 2, 12 with DS, 16 tables": K4_SL2_DS { 2[37:32] = 12 } [];
    illegal "7.1(7g)" "4K SL0 2, 11 with DS": K4_SL2_DS { 2[37:32] = 11 } [];
    illegal "7.1(7h)" "4K SL0 2, 25 with DS": K4_SL2_DS { 2[37:32] = 25 } [];
    legal "7.1(7h)" "4K SL0 1, 21, 16 tables": K4_SL1 { 2[37:32] = 21 } [];
    legal "7.1(7h)" "4K SL0 1, 25": K4_SL1 { 2[37:32] = 25 } [];
    legal "7.1(7h)" "4K SL0 1, 33": K4_SL1 { 2[37:32] = 33 } [];
    illegal "7.1(7h)" "4K SL0 1, 20: 32 tables (A2)": K4_SL1 { 2[37:32] = 20 } [];
    illegal "7.1(7h)" "4K SL0 1, 34": K4_SL1 { 2[37:32] = 34 } [];
    legal "7.1(7h)" "4K SL0 0, 30, 16 tables": K4_SL0 { 2[37:32] = 30 } [];
    illegal "7.1(7h)" "4K SL0 0, 29": K4_SL0 { 2[37:32] = 29 } [];
    legal "7.1(7h)" "4K SL0 0, 39 without STT": K4_SL0 { 2[37:32] = 39 } [NO_STT];
    illegal "7.1(7g)" "4K SL0 0, 40 without STT": K4_SL0 { 2[37:32] = 40 } [NO_STT];
    legal "7.1(7h)" "4K SL0 0, 42": K4_SL0 { 2[37:32] = 42 } [];
    illegal "7.1(7h)" "4K SL0 0, 43": K4_SL0 { 2[37:32] = 43 } [];
    legal "7.1(7h)" "4K SL0 3, 39, 16 tables": K4_SL3 { 2[37:32] = 39 } [];
    illegal "7.1(7h)" "4K SL0 3, 39 without STT": K4_SL3 { 2[37:32] = 39 } [NO_STT];
    illegal "7.1(7h)" "4K SL0 3, 38": K4_SL3 { 2[37:32] = 38 } [];
    legal "7.1(7h)" "4K SL0 3, 43": K4_SL3 { 2[37:32] = 43 } [];
    legal "7.1(7h)" "4K SL0 3, 48": K4_SL3 { 2[37:32] = 48 } [];
    illegal "7.1(7g)" "4K SL0 3, 49": K4_SL3 { 2[37:32] = 49 } [];
    illegal "7.1(7g)" "4K SL0 3, 44 without STT": K4_SL3 {} [NO_STT];
    legal "7.1(7h)" "4K SL0 4, 12": K4_SL4_DS { 2[37:32] = 12 } [];
    legal "7.1(7h)" "4K SL0 4, 15": K4_SL4_DS { 2[37:32] = 15 } [];
    illegal "7.1(7h)" "4K SL0 4, 16": K4_SL4_DS { 2[37:32] = 16 } [];
    illegal "7.1(7h)" "4K SL0 5": K4_SL4_DS { 2[39:38] = 1 } [];
    illegal "7.1(7h)" "4K SL0 6": K4_SL4_DS { 2[39:38] = 2 } [];
    illegal "7.1(7h)" "4K SL0 7": K4_SL4_DS { 2[39:38] = 3 } [];
    legal "7.1(7h)" "16K SL0 3, 12": K16_SL3_DS { 2[37:32] = 12 } [];
    legal "7.1(7h)" "16K SL0 3, 16": K16_SL3_DS { 2[37:32] = 16 } [];
    illegal "7.1(7h)" "16K SL0 3, 17": K16_SL3_DS { 2[37:32] = 17 } [];
    illegal "7.1(7g)" "16K SL0 3, 11": K16_SL3_DS { 2[37:32] = 11 } [];
    illegal "7.1(7h)" "16K SL0 3 without DS": K16_SL2 { 2[39:38] = 3 } [];
    legal "7.1(7h)" "16K SL0 2, 16, 2 tables": K16_SL2 { 2[37:32] = 16 } [];
    illegal "7.1(7g)" "16K SL0 2, 15 without DS": K16_SL2 { 2[37:32] = 15 } [];
    legal "7.1(7h)" "16K SL0 2, 13 with DS, 16 tables": K16_SL2_DS { 2[37:32] = 13 } [];
    illegal "7.1(7h)" "16K SL0 2, 12 with DS": K16_SL2_DS { 2[37:32] = 12 } [];
    legal "7.1(7h)" "16K SL0 2, 27": K16_SL2 { 2[37:32] = 27 } [];
    illegal "7.1(7h)" "16K SL0 2, 28": K16_SL2 { 2[37:32] = 28 } [];
    legal "7.1(7h)" "16K SL0 1, 24, 16 tables": K16_SL1 { 2[37:32] = 24 } [];
    illegal "7.1(7h)" "16K SL0 1, 23": K16_SL1 { 2[37:32] = 23 } [];
    legal "7.1(7h)" "16K SL0 1, 38": K16_SL1 { 2[37:32] = 38 } [];
    illegal "7.1(7h)" "16K SL0 1, 39": K16_SL1 { 2[37:32] = 39 } [];
    legal "7.1(7h)" "16K SL0 0, 35, 16 tables": K16_SL0 { 2[37:32] = 35 } [];
    illegal "7.1(7h)" "16K SL0 0, 34": K16_SL0 { 2[37:32] = 34 } [];
    legal "7.1(7h)" "16K SL0 0, 39 without STT": K16_SL0 {} [NO_STT];
    illegal "7.1(7g)" "16K SL0 0, 40 without STT": K16_SL0 { 2[37:32] = 40 } [NO_STT];
    legal "7.1(7h)" "16K SL0 0, 48": K16_SL0 { 2[37:32] = 48 } [];
    illegal "7.1(7g)" "16K SL0 0, 49": K16_SL0 { 2[37:32] = 49 } [];
    legal "7.1(7h)" "64K SL0 2, 12": K64_SL2 { 2[37:32] = 12 } [];
    illegal "7.1(7g)" "64K SL0 2, 11": K64_SL2 { 2[37:32] = 11 } [];
    legal "7.1(7h)" "64K SL0 2, 21": K64_SL2 { 2[37:32] = 21 } [];
    illegal "7.1(7h)" "64K SL0 2, 22": K64_SL2 { 2[37:32] = 22 } [];
    illegal "7.1(7g)" "64K SL0 2, 15, OAS 48": K64_SL2 { 2[37:32] = 15 } [OAS48];
    legal "7.1(7g)" "64K SL0 2, 16, OAS 48": K64_SL2 { 2[37:32] = 16 } [OAS48];
    legal "7.1(7h)" "64K SL0 1, 18, 16 tables": K64_SL1 { 2[37:32] = 18 } [];
    illegal "7.1(7h)" "64K SL0 1, 17": K64_SL1 { 2[37:32] = 17 } [];
    legal "7.1(7h)" "64K SL0 1, 34": K64_SL1 { 2[37:32] = 34 } [];
    illegal "7.1(7h)" "64K SL0 1, 35": K64_SL1 { 2[37:32] = 35 } [];
    legal "7.1(7h)" "64K SL0 0, 31, 16 tables": K64_SL0 { 2[37:32] = 31 } [];
    illegal "7.1(7h)" "64K SL0 0, 30": K64_SL0 { 2[37:32] = 30 } [];
    legal "7.1(7h)" "64K SL0 0, 47": K64_SL0 { 2[37:32] = 47 } [];
    illegal "7.1(7g)" "64K SL0 0, 48": K64_SL0 { 2[37:32] = 48 } [];
    illegal "7.1(7g)" "64K SL0 0, 40 without STT": K64_SL0 { 2[37:32] = 40 } [NO_STT];
    illegal "7.1(7h)" "64K SL0 3": K64_SL0 { 2[39:38] = 3 } [];
    legal "7.1(7g)" "IAS 44: T0SZ 20": K4_SL2 { 2[37:32] = 20 } [OAS44];
    illegal "7.1(7g)" "IAS 44: T0SZ 19": K4_SL2 { 2[37:32] = 19 } [OAS44];
    legal "7.1(7g)" "IAS is 40 with LPAE, OAS 36: T0SZ 24": K4_SL1 { 2[37:32] = 24 } [OAS36];
    illegal "7.1(7g)" "IAS is 36 without LPAE, OAS 36: T0SZ 27": K4_SL1 { 2[37:32] = 27 } [OAS36, NO_LPAE];
    legal "7.1(7g)" "IAS is 36 without LPAE, OAS 36: T0SZ 28": K4_SL1 { 2[37:32] = 28 } [OAS36, NO_LPAE];
    legal "7.1(7g)" "T0SZ is ignored by stage 1": S1 { 2[37:32] = 63 } [];
};

#[test]
fn streams() {
    run(STREAMS, |words, smmu| legality::ste(&Ste(*words), smmu));
}

#[test]
fn stage_2_fields() {
    run(STAGE_2, |words, smmu| legality::ste(&Ste(*words), smmu));
}

#[test]
fn sizes_and_start_levels() {
    run(SIZES, |words, smmu| legality::ste(&Ste(*words), smmu));
}

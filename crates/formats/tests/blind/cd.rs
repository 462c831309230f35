// SPDX-License-Identifier: MIT OR Apache-2.0
//! Context descriptors (§6, §7.2). Words 0 to 7 of an image are the CD, 8 to 15 the STE that leads to it.

use smmuv3_formats::{Cd, Ste, legality};

use crate::ste::{NESTED, NESTED_LPAE, S1, S1_EL2};
use crate::{Row, rows, run};

/// A CD with `w0`, `w1` and `w2`, MAIR of appendix A1, behind `ste`.
const fn behind(ste: [u64; 8], w0: u64, w1: u64, w2: u64) -> [u64; 16] {
    let [s0, s1, s2, s3, s4, s5, s6, s7] = ste;
    [w0, w1, w2, 0x4_44FF, 0, 0, 0, 0, s0, s1, s2, s3, s4, s5, s6, s7]
}

/// Appendix A1: TTB0 alone, T0SZ 16, 4 KiB, IPS 44, AA64, R, A, ASET, ASID 5.
const A1: [u64; 16] = behind(S1, 0x0005_E204_C000_3510, 0x8001_0000, 0);
/// A1 behind both stages.
const NEST: [u64; 16] = behind(NESTED, 0x0005_E204_C000_3510, 0x8001_0000, 0);
/// With TTB1 too: T1SZ 16, its 4 KiB is code 2.
const BOTH: [u64; 16] = behind(S1, 0x0005_E204_B590_3510, 0x8001_0000, 0x8002_0000);
/// TTB1 alone.
const UPPER: [u64; 16] = behind(S1, 0x0005_E204_B590_7510, 0x8001_0000, 0x8002_0000);
/// `BOTH` with 16 KiB: codes 2 and 1.
const BOTH_16K: [u64; 16] = behind(S1, 0x0005_E204_B550_3590, 0x8001_0000, 0x8002_0000);
/// `BOTH` with 64 KiB: codes 1 and 3.
const BOTH_64K: [u64; 16] = behind(S1, 0x0005_E204_B5D0_3550, 0x8001_0000, 0x8002_0000);
/// `BOTH` with DS = 1.
const BOTH_DS: [u64; 16] = behind(S1, 0x0005_E204_B590_3510, 0x8001_0000, 0x0400_0000_8002_0000);
const BOTH_16K_DS: [u64; 16] =
    behind(S1, 0x0005_E204_B550_3590, 0x8001_0000, 0x0400_0000_8002_0000);
/// IPS = 48 bits, then 52.
const BOTH_48: [u64; 16] = behind(S1, 0x0005_E205_B590_3510, 0x8001_0000, 0x8002_0000);
const BOTH_52: [u64; 16] = behind(S1, 0x0005_E206_B590_3510, 0x8001_0000, 0x8002_0000);
const BOTH_52_DS: [u64; 16] = behind(S1, 0x0005_E206_B590_3510, 0x8001_0000, 0x0400_0000_8002_0000);
const BOTH_16K_52: [u64; 16] = behind(S1, 0x0005_E206_B550_3590, 0x8001_0000, 0x8002_0000);
const BOTH_64K_48: [u64; 16] = behind(S1, 0x0005_E205_B5D0_3550, 0x8001_0000, 0x8002_0000);
const BOTH_64K_52: [u64; 16] = behind(S1, 0x0005_E206_B5D0_3550, 0x8001_0000, 0x8002_0000);
/// Neither half is walked.
const NONE: [u64; 16] = behind(S1, 0x0005_E204_C000_7510, 0x8001_0000, 0);
/// LPAE; neither half is walked, so that sizes are in no row.
const LPAE: [u64; 16] = behind(S1, 0x0005_E004_C000_7510, 0x8001_0000, 0);
const NEST_LPAE: [u64; 16] = behind(NESTED, 0x0005_E004_C000_7510, 0x8001_0000, 0);
const LPAE_OVER_LPAE: [u64; 16] = behind(NESTED_LPAE, 0x0005_E004_C000_7510, 0x8001_0000, 0);
const LPAE_EL2: [u64; 16] = behind(S1_EL2, 0x0005_E004_C000_7510, 0x8001_0000, 0);
/// One table: EPD0, EPD1 and all of TTB1 are 0.
const EL2: [u64; 16] = behind(S1_EL2, 0x0005_E204_8000_3510, 0x8001_0000, 0);
/// `EL2` with EPD0 = EPD1 = 1, which mean nothing there.
const EL2_EPD: [u64; 16] = behind(S1_EL2, 0x0005_E204_C000_7510, 0x8001_0000, 0);
/// A1 for EL2-E2H.
const E2H_A1: [u64; 16] = behind(S1_EL2, 0x0005_E204_C000_3510, 0x8001_0000, 0);
const E2H_NONE: [u64; 16] = EL2_EPD;
/// S1STALLD = 1.
const STALLD: [u64; 16] = {
    let [s0, s1, s2, s3, s4, s5, s6, s7] = S1;
    behind([s0, s1 | 0x800_0000, s2, s3, s4, s5, s6, s7], 0x0005_E204_C000_3510, 0x8001_0000, 0)
};
const STALLS: [u64; 16] = behind(S1, 0x0005_F204_C000_3510, 0x8001_0000, 0);
const HA: [u64; 16] = behind(S1, 0x0005_EA04_C000_3510, 0x8001_0000, 0);
const BIG_A1: [u64; 16] = behind(S1, 0x0005_E204_C000_B510, 0x8001_0000, 0);
/// S1PIE = 1 and PIE = 1; every code grants reading alone.
const PIE: [u64; 16] =
    indirect(0x100_00D4, 0x0005_E204_C000_3510, 0x800_0000_0000_0000, 0x2492_4924_9249);
const PIE_NO_S1PIE: [u64; 16] =
    indirect(0xD4, 0x0005_E204_C000_3510, 0x800_0000_0000_0000, 0x2492_4924_9249);
const PIE_OFF: [u64; 16] = indirect(0x100_00D4, 0x0005_E204_C000_3510, 0, 0x2492_4924_9249);
const PIE_LPAE: [u64; 16] =
    indirect(0x100_00D4, 0x0005_E004_C000_7510, 0x800_0000_0000_0000, 0x2492_4924_9249);
/// PIIU: index 0 may be read and written (5), the rest read. PIIP as in `PIE`.
const PIE_WRITES: [u64; 16] =
    indirect(0x100_00D4, 0x0005_E204_C000_3510, 0x800_0000_0000_0000, 0x2492_4924_924D);
/// The same with 7: executed, too.
const PIE_ALL: [u64; 16] =
    indirect(0x100_00D4, 0x0005_E204_C000_3510, 0x800_0000_0000_0000, 0x2492_4924_924F);

const fn indirect(s1: u64, w0: u64, w2: u64, piiu: u64) -> [u64; 16] {
    let piip = 0x2492_4924_9249;
    [w0, 0x8001_0000, w2, 0x4_44FF, 0, 0, piiu, piip, 0x8002_000B, s1, 0, 0, 0, 0, 0, 0]
}

const STATES: &[Row<16>] = rows! {
    legal "7.2(1)" "A1": A1 {} [];
    legal "7.2(1)" "A1 behind both stages (A3)": NEST {} [];
    illegal "7.2(1)" "V = 0": A1 { 0[31:31] = 0 } [];
    illegal "7.2(1)" "V = 0, nothing walked": NONE { 0[31:31] = 0 } [];

    legal "7.2(2)" "S = 1": A1 { 0[44:44] = 1 } [];
    illegal "7.2(2)" "S = 1 with S1STALLD": STALLD { 0[44:44] = 1 } [];
    legal "7.2(2)" "S = 0 with S1STALLD": STALLD {} [];
    illegal "7.2(2)" "S1STALLD with S = 1": STALLS { 9[27:27] = 1 } [];

    legal "7.2(3)" "A = 0": A1 { 0[46:46] = 0 } [];
    illegal "7.2(3)" "A = 0, abort only": A1 { 0[46:46] = 0 } [ABORT_ONLY];
    legal "7.2(3)" "A = 1, abort only": A1 {} [ABORT_ONLY];
    illegal "7.2(3)" "A = 0, abort only, both": NEST { 0[46:46] = 0 } [ABORT_ONLY];
    legal "7.2(3)" "R = 0": A1 { 0[45:45] = 0 } [ABORT_ONLY];

    illegal "7.2(4)" "S = 1, terminate only": A1 { 0[44:44] = 1 } [TERMINATE];
    legal "7.2(4)" "S = 0, terminate only": A1 {} [TERMINATE];
    illegal "7.2(4)" "S = 0, stall forced": A1 {} [FORCED];
    legal "7.2(4)" "S = 1, stall forced": STALLS {} [FORCED];
    illegal "7.2(4)" "S = 0, stall forced, nothing walked": NONE {} [FORCED];

    illegal "7.2(5)" "big endian, TTENDIAN 2": A1 { 0[15:15] = 1 } [LITTLE];
    legal "7.2(5)" "big endian, mixed": A1 { 0[15:15] = 1 } [];
    legal "7.2(5)" "big endian, TTENDIAN 3": BIG_A1 {} [BIG];
    illegal "7.2(5)" "little endian, TTENDIAN 3": A1 {} [BIG];
    legal "7.2(5)" "little endian, TTENDIAN 2": A1 {} [LITTLE];
    legal "7.2(5)" "big endian, TTENDIAN 2, nothing walked": NONE { 0[15:15] = 1 } [LITTLE];
    legal "7.2(5)" "little endian, TTENDIAN 3, nothing walked": NONE {} [BIG];
    illegal "7.2(5)" "little endian, TTENDIAN 3, TTB1 alone": UPPER {} [BIG];
    illegal "7.2(5)" "big endian, TTENDIAN 2, EPD means nothing under EL2": EL2_EPD { 0[15:15] = 1 } [LITTLE];
    legal "7.2(5)" "big endian, TTENDIAN 2, nothing walked under E2H": E2H_NONE { 0[15:15] = 1 } [LITTLE, E2H];

    legal "7.2(6)" "LPAE": LPAE {} [];
    illegal "7.2(6)" "LPAE, TTF 2": LPAE {} [NO_LPAE];
    legal "7.2(6)" "LPAE, TTF 1": LPAE {} [ONLY_LPAE];
    illegal "7.2(6)" "LPAE under E2H": E2H_NONE { 0[41:41] = 0 } [E2H];
    legal "7.2(6)" "LPAE, STRW is not used without Hyp": LPAE_EL2 {} [NO_HYP, E2H];
    illegal "7.2(6)" "AA64, TTF 1": A1 {} [ONLY_LPAE];
    legal "7.2(6)" "AA64, TTF 2": A1 {} [NO_LPAE];
    illegal "7.2(6)" "AA64 over S2AA64 = 0": NEST { 10[51:51] = 0 } [];
    legal "7.2(6)" "AA64, stage 1 alone, S2AA64 = 0": A1 { 10[51:51] = 0 } [];
    legal "7.2(6)" "LPAE over S2AA64 = 1": NEST_LPAE {} [];
    legal "7.2(6)" "LPAE over S2AA64 = 0": LPAE_OVER_LPAE {} [];
    illegal "7.2(6)" "AA64 over S2AA64 = 0, nothing walked": LPAE_OVER_LPAE { 0[41:41] = 1 } [];

    legal "7.2(7)" "HA, HTTU 1": A1 { 0[43:43] = 1 } [HTTU_AF];
    illegal "7.2(7)" "HA, HTTU 0": A1 { 0[43:43] = 1 } [HTTU_NONE];
    illegal "7.2(7)" "HD, HTTU 0": A1 { 0[42:42] = 1 } [HTTU_NONE];
    illegal "7.2(7)" "HD, HTTU 1": A1 { 0[42:42] = 1 } [HTTU_AF];
    illegal "7.2(7)" "HA and HD, HTTU 1": HA { 0[42:42] = 1 } [HTTU_AF];
    legal "7.2(7)" "HA and HD, HTTU 2": HA { 0[42:42] = 1 } [HTTU_DIRTY];
    legal "7.2(7)" "HD without HA acts as 0, HTTU 2": A1 { 0[42:42] = 1 } [HTTU_DIRTY];
    legal "7.2(7)" "HD without HA acts as 0, HTTU 3": A1 { 0[42:42] = 1 } [];
    illegal "7.2(7)" "HAFT without HA, HTTU 3": A1 { 1[3:3] = 1 } [];
    legal "7.2(7)" "HAFT with HA, HTTU 3": HA { 1[3:3] = 1 } [];
    legal "7.2(7)" "HAFT without HA, HTTU 2": A1 { 1[3:3] = 1 } [HTTU_DIRTY];
    legal "7.2(7)" "HA is asked of AA64 alone": LPAE { 0[43:43] = 1 } [HTTU_NONE];
    legal "7.2(7)" "HD is asked of AA64 alone": LPAE { 0[42:42] = 1 } [HTTU_AF];

    legal "7.2(8)" "ASID 0x105 of 16 bits": A1 { 0[63:48] = 0x105 } [];
    illegal "7.2(8)" "ASID 0x105 of 8 bits (A1)": A1 { 0[63:48] = 0x105 } [ASID8];
    legal "7.2(8)" "ASID 0xFF of 8 bits": A1 { 0[63:48] = 0xFF } [ASID8];
    illegal "7.2(8)" "ASID 0x8000 of 8 bits, both": NEST { 0[63:48] = 0x8000 } [ASID8];
    illegal "7.2(8)" "ASID 0x105 of 8 bits, LPAE": LPAE { 0[63:48] = 0x105 } [ASID8];
    illegal "7.2(8)" "ASID 0x105 of 8 bits, E2H": E2H_A1 { 0[63:48] = 0x105 } [ASID8, E2H];
    legal "7.2(8)" "ASID is ignored under EL2": EL2 { 0[63:48] = 0x105 } [ASID8];
    illegal "7.2(8)" "ASID counts: without Hyp, STRW is not used": E2H_A1 { 0[63:48] = 0x105 } [ASID8, NO_HYP];
    illegal "7.2(8)" "ASID counts for both, whatever STRW": NEST { 0[63:48] = 0x100 } [ASID8, E2H];
    illegal "7.2(8)" "ASID 0x105 of 8 bits, nothing walked": NONE { 0[63:48] = 0x105 } [ASID8];

    legal "7.2(10)" "permissions by index": PIE {} [];
    illegal "7.2(10)" "PIIP 4": PIE { 7[2:0] = 4 } [];
    illegal "7.2(10)" "PIIP 6": PIE { 7[2:0] = 6 } [];
    illegal "7.2(10)" "PIIU 4": PIE { 6[2:0] = 4 } [];
    illegal "7.2(10)" "PIIU 6, last": PIE { 6[47:45] = 6 } [];
    illegal "7.2(10)" "PIIP 4, last": PIE { 7[47:45] = 4 } [];
    legal "7.2(10)" "PIIP 4 without S1PI": PIE { 7[2:0] = 4 } [NO_S1PI];
    legal "7.2(10)" "PIIP 4 without S1PIE": PIE_NO_S1PIE { 7[2:0] = 4 } [];
    legal "7.2(10)" "PIIP 4 without PIE": PIE_OFF { 7[2:0] = 4 } [];
    legal "7.2(10)" "PIIP 4 with LPAE": PIE_LPAE { 7[2:0] = 4 } [];
    // The codes are not listed. That 4 and 6 are reserved, writing without reading, makes bit 0 reading,
    // bit 1 executing and bit 2 writing.
    illegal "7.2(10)" "privileged X (2) while unprivileged W (5)": PIE_WRITES { 7[2:0] = 2 } [];
    illegal "7.2(10)" "privileged RX (3) while unprivileged W (5)": PIE_WRITES { 7[2:0] = 3 } [];
    illegal "7.2(10)" "privileged RWX (7) while unprivileged W (5)": PIE_WRITES { 7[2:0] = 7 } [];
    illegal "7.2(10)" "privileged X (2) while unprivileged RWX (7)": PIE_ALL { 7[2:0] = 2 } [];
    legal "7.2(10)" "privileged RW (5) while unprivileged W (5)": PIE_WRITES { 7[2:0] = 5 } [];
    legal "7.2(10)" "privileged X at another index": PIE_WRITES { 7[5:3] = 7 } [];
    legal "7.2(10)" "privileged X while unprivileged R": PIE { 7[2:0] = 7 } [];

    legal "6" "IPS above OAS is capped": A1 { 0[34:32] = 6 } [OAS44];
    legal "6" "IPS 7 is capped": A1 { 0[34:32] = 7 } [];
    legal "6" "SH0 1": A1 { 0[13:12] = 1 } [];
    legal "6" "MAIR decides nothing": A1 { 3[63:0] = 0xF0F0_0102_0305_0609 } [];
    legal "6" "TBI0": A1 { 0[38:38] = 1 } [];
};

const HALVES: &[Row<16>] = rows! {
    legal "7.2(9)" "both halves": BOTH {} [];
    legal "7.2(9)" "T0SZ 39 without STT": BOTH { 0[5:0] = 39 } [NO_STT];
    illegal "7.2(9)" "T0SZ 40 without STT": BOTH { 0[5:0] = 40 } [NO_STT];
    legal "7.2(9)" "T0SZ 48 with STT": BOTH { 0[5:0] = 48 } [];
    illegal "7.2(9)" "T0SZ 49 with STT": BOTH { 0[5:0] = 49 } [];
    illegal "7.2(9)" "T0SZ 15 without DS": BOTH { 0[5:0] = 15 } [];
    illegal "7.2(9)" "T0SZ 0": BOTH { 0[5:0] = 0 } [];
    legal "7.2(9)" "T1SZ 39 without STT": BOTH { 0[21:16] = 39 } [NO_STT];
    illegal "7.2(9)" "T1SZ 40 without STT": BOTH { 0[21:16] = 40 } [NO_STT];
    legal "7.2(9)" "T1SZ 48 with STT": BOTH { 0[21:16] = 48 } [];
    illegal "7.2(9)" "T1SZ 49 with STT": BOTH { 0[21:16] = 49 } [];
    illegal "7.2(9)" "T1SZ 15 without DS": BOTH { 0[21:16] = 15 } [];
    legal "7.2(9)" "T0SZ 48, 16 KiB": BOTH_16K { 0[5:0] = 48 } [];
    illegal "7.2(9)" "T0SZ 15, 16 KiB": BOTH_16K { 0[5:0] = 15 } [];
    legal "7.2(9)" "T0SZ 47, 64 KiB": BOTH_64K { 0[5:0] = 47 } [];
    illegal "7.2(9)" "T0SZ 48, 64 KiB": BOTH_64K { 0[5:0] = 48 } [];
    illegal "7.2(9)" "T0SZ 40, 64 KiB without STT": BOTH_64K { 0[5:0] = 40 } [NO_STT];
    illegal "7.2(9)" "T1SZ 48, 64 KiB": BOTH_64K { 0[21:16] = 48 } [];
    legal "7.2(9)" "T0SZ 12, 64 KiB": BOTH_64K { 0[5:0] = 12 } [];
    illegal "7.2(9)" "T0SZ 11, 64 KiB": BOTH_64K { 0[5:0] = 11 } [];
    illegal "7.2(9)" "T0SZ 15, 64 KiB, VAX 0": BOTH_64K { 0[5:0] = 15 } [VA48];
    legal "7.2(9)" "T0SZ 16, 64 KiB, VAX 0": BOTH_64K { 0[5:0] = 16 } [VA48];
    legal "7.2(9)" "T1SZ 12, 64 KiB without DS": BOTH_64K { 0[21:16] = 12 } [NO_DS];
    legal "7.2(9)" "T0SZ 12, 4 KiB, DS": BOTH_DS { 0[5:0] = 12 } [];
    illegal "7.2(9)" "T0SZ 11, 4 KiB, DS": BOTH_DS { 0[5:0] = 11 } [];
    illegal "7.2(9)" "T0SZ 15, 4 KiB, CD.DS without IDR5.DS": BOTH_DS { 0[5:0] = 15 } [NO_DS];
    illegal "7.2(9)" "T0SZ 15, 4 KiB, DS, VAX 0": BOTH_DS { 0[5:0] = 15 } [VA48];
    legal "7.2(9)" "T1SZ 12, 16 KiB, DS": BOTH_16K_DS { 0[21:16] = 12 } [];
    illegal "7.2(9)" "T1SZ 11, 16 KiB, DS": BOTH_16K_DS { 0[21:16] = 11 } [];
    legal "7.2(9)" "T0SZ does not count with EPD0": UPPER { 0[5:0] = 63 } [];
    legal "7.2(9)" "T1SZ does not count with EPD1": A1 { 0[21:16] = 63 } [];
    illegal "7.2(9)" "T1SZ counts with EPD0": UPPER { 0[21:16] = 63 } [];
    illegal "7.2(9)" "T0SZ 49, both stages": NEST { 0[5:0] = 49 } [];
    illegal "7.2(9)" "T0SZ counts under EL2, whatever EPD0": EL2_EPD { 0[5:0] = 49 } [];
    illegal "7.2(9)" "T0SZ counts under EL2": EL2 { 0[5:0] = 40 } [NO_STT];
    legal "7.2(9)" "T0SZ does not count with EPD0 under E2H": E2H_NONE { 0[5:0] = 63 } [E2H];

    illegal "7.2(9)" "TG0 3": BOTH { 0[7:6] = 3 } [];
    illegal "7.2(9)" "TG1 0": BOTH { 0[23:22] = 0 } [];
    legal "7.2(9)" "TG0 3 does not count with EPD0": UPPER { 0[7:6] = 3 } [];
    legal "7.2(9)" "TG1 0 does not count with EPD1": A1 { 0[23:22] = 0 } [];
    illegal "7.2(9)" "TG0 4 KiB unsupported": A1 {} [NO_4K];
    legal "7.2(9)" "TG0 4 KiB alone": A1 {} [NO_16K, NO_64K];
    illegal "7.2(9)" "TG0 16 KiB unsupported": A1 { 0[7:6] = 2 } [NO_16K];
    illegal "7.2(9)" "TG0 64 KiB unsupported": A1 { 0[7:6] = 1 } [NO_64K];
    illegal "7.2(9)" "TG1 16 KiB unsupported": BOTH { 0[23:22] = 1 } [NO_16K];
    illegal "7.2(9)" "TG1 64 KiB unsupported": BOTH { 0[23:22] = 3 } [NO_64K];
    illegal "7.2(9)" "TG1 4 KiB unsupported": UPPER {} [NO_4K];
    legal "7.2(9)" "halves may differ: 4 and 64 KiB": BOTH { 0[23:22] = 3 } [NO_16K];
    legal "7.2(9)" "halves may differ: 64 and 4 KiB": BOTH { 0[7:6] = 1 } [NO_16K];
    legal "7.2(9)" "halves may differ: 4 and 16 KiB": BOTH { 0[23:22] = 1 } [NO_64K];
    illegal "7.2(9)" "TG0 3 under EL2": EL2 { 0[7:6] = 3 } [];
    legal "7.2(9)" "no granule that is walked is absent": NONE {} [NO_4K];

    legal "7.2(9)" "TTB0, bit 43 of IPS 44": BOTH { 1[43:43] = 1 } [];
    illegal "7.2(9)" "TTB0, bit 44 of IPS 44": BOTH { 1[44:44] = 1 } [];
    illegal "7.2(9)" "TTB1, bit 44 of IPS 44": BOTH { 2[44:44] = 1 } [];
    legal "7.2(9)" "TTB0, bit 44 of IPS 48": BOTH_48 { 1[44:44] = 1 } [];
    illegal "7.2(9)" "TTB0, bit 44 of IPS 48, OAS 44": BOTH_48 { 1[44:44] = 1 } [OAS44];
    illegal "7.2(9)" "TTB1, bit 44 of IPS 48, OAS 44": BOTH_48 { 2[44:44] = 1 } [OAS44];
    legal "7.2(9)" "TTB0 does not count with EPD0": UPPER { 1[51:44] = 0xFF } [];
    legal "7.2(9)" "TTB1 does not count with EPD1": A1 { 2[51:44] = 0xFF } [];
    illegal "7.2(9)" "TTB0, bit 48 of IPS 52, 4 KiB": BOTH_52 { 1[48:48] = 1 } [];
    legal "7.2(9)" "TTB0, bit 47 of IPS 52, 4 KiB": BOTH_52 { 1[47:47] = 1 } [];
    legal "7.2(9)" "TTB0, bit 48 of IPS 52, 4 KiB, DS": BOTH_52_DS { 1[48:48] = 1 } [];
    legal "7.2(9)" "TTB1, bit 51 of IPS 52, 4 KiB, DS": BOTH_52_DS { 2[51:51] = 1 } [];
    illegal "7.2(9)" "TTB0, bit 48 of IPS 52, 4 KiB, DS, OAS 48": BOTH_52_DS { 1[48:48] = 1 } [OAS48];
    illegal "7.2(9)" "TTB1, bit 48 of IPS 52, 16 KiB": BOTH_16K_52 { 2[48:48] = 1 } [];
    illegal "7.2(9)" "TTB0, bit 48 of IPS 48, 64 KiB": BOTH_64K_48 { 1[48:48] = 1 } [];
    legal "7.2(9)" "TTB0, bit 48 of IPS 52, 64 KiB": BOTH_64K_52 { 1[48:48] = 1 } [];
    illegal "7.2(9)" "TTB1, bit 48 of IPS 52, 64 KiB, OAS 48": BOTH_64K_52 { 2[48:48] = 1 } [OAS48];
    illegal "7.2(9)" "TTB0, bit 44 of IPS 44, both stages": NEST { 1[44:44] = 1 } [];
    illegal "7.2(9)" "TTB0, bit 44 of IPS 44, EL2": EL2 { 1[44:44] = 1 } [];
    legal "6" "low bits of TTB0 are dropped": BOTH { 1[11:4] = 0xFF } [];
};

fn judge(
    words: &[u64; 16],
    smmu: &legality::Implementation,
) -> Result<(), smmuv3_formats::legality::Rule> {
    let [c0, c1, c2, c3, c4, c5, c6, c7, s0, s1, s2, s3, s4, s5, s6, s7] = *words;
    let cd = Cd([c0, c1, c2, c3, c4, c5, c6, c7]);
    legality::cd(&cd, &Ste([s0, s1, s2, s3, s4, s5, s6, s7]), smmu)
}

#[test]
fn contexts() {
    run(STATES, judge);
}

#[test]
fn halves() {
    run(HALVES, judge);
}

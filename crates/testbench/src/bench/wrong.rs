// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a guest's SMMU does not accept: words of entries and contexts (§7), and commands (§4.1), each wrong in one field, by
//! whose name it must be refused.

use std::ops::RangeInclusive;

use fastrand::Rng;
use smmuv3::features::IdRegisters;
use smmuv3::nest::Guest;
use smmuv3_formats::command::{AtcInv, CfgiCd, CfgiSte, PriResp, Sync, TlbiNhAsid, TlbiNhVa};
use smmuv3_formats::{Cd, Command, Ste};

/// Bits of a word that must be 0, or not what they are, for an SMMU of which that is said.
type Row = (usize, RangeInclusive<u32>, &'static str, fn(&IdRegisters) -> bool);

const ALWAYS: fn(&IdRegisters) -> bool = |_| true;

/// Bits of an entry of stage 1.
const OF_ENTRIES: &[Row] = &[
    (0, 56..=58, "word 0", ALWAYS),
    (1, 24..=24, "S1PIE", |it| !it.idr3.s1pi()),
    (1, 26..=26, "S1MPAM", ALWAYS),
    (1, 27..=27, "S1STALLD", |it| it.idr0.stall_model() != 0),
    (1, 29..=29, "EATS", |it| it.idr0.ats()),
    (1, 41..=43, "word 1", ALWAYS),
    (1, 52..=63, "IMPDEF1", ALWAYS),
    (2, 16..=31, "IMPDEF2", ALWAYS),
    (2, 62..=63, "DPT_VMATCH", ALWAYS),
    (3, 52..=60, "word 3", ALWAYS),
    (3, 63..=63, "word 3", ALWAYS),
    (4, 0..=15, "IMPDEF4", ALWAYS),
    (4, 16..=31, "PARTID", ALWAYS),
    (4, 40..=45, "word 4", ALWAYS),
    (4, 48..=63, "MECID", ALWAYS),
    (5, 0..=7, "PMG", ALWAYS),
    (5, 8..=8, "MPAM_NS", ALWAYS),
    (5, 12..=55, "VMSPtr", ALWAYS),
    (5, 56..=63, "word 5", ALWAYS),
    (6, 3..=3, "word 6", ALWAYS),
    (6, 56..=60, "word 6", ALWAYS),
    (6, 63..=63, "word 6", ALWAYS),
];

/// Bits of a context of the lower half.
const OF_CONTEXTS: &[Row] = &[
    (0, 31..=31, "V", ALWAYS),
    (0, 41..=41, "AA64", ALWAYS),
    (0, 42..=42, "HD", |it| it.idr0.httu() < 2),
    (0, 43..=43, "HA", |it| it.idr0.httu() < 1),
    (0, 44..=44, "S", |it| it.idr0.stall_model() != 0),
    (0, 56..=63, "ASID", |it| !it.idr0.asid16()),
    (1, 2..=2, "E0PD0", |it| !it.idr3.e0pd()),
    (1, 3..=3, "HAFT", |it| it.idr0.httu() != 3),
    (1, 52..=57, "word 1", ALWAYS),
    (1, 58..=58, "PnCH", |it| !it.idr3.the()),
    (1, 59..=59, "EPAN", |it| !it.idr3.epan()),
    (1, 60..=60, "HWU059", |it| !it.idr3.pbha()),
    (1, 61..=61, "HWU060", |it| !it.idr3.pbha()),
    (1, 62..=62, "HWU061", |it| !it.idr3.pbha()),
    (1, 63..=63, "HWU062", |it| !it.idr3.pbha()),
    (2, 2..=2, "E0PD1", |it| !it.idr3.e0pd()),
    (2, 3..=3, "AIE", |it| !it.idr3.aie()),
    (2, 52..=57, "word 2", ALWAYS),
    (2, 58..=58, "DS", |it| !it.idr5.ds()),
    (2, 59..=59, "PIE", |it| !it.idr3.s1pi()),
    (2, 60..=60, "HWU159", |it| !it.idr3.pbha()),
    (2, 61..=61, "HWU160", |it| !it.idr3.pbha()),
    (2, 62..=62, "HWU161", |it| !it.idr3.pbha()),
    (2, 63..=63, "HWU162", |it| !it.idr3.pbha()),
    (4, 0..=63, "AMAIR", |it| !it.idr3.aie()),
    (5, 0..=31, "IMPDEF5", ALWAYS),
    (5, 32..=47, "PARTID", ALWAYS),
    (5, 48..=55, "PMG", ALWAYS),
    (5, 56..=63, "word 5", ALWAYS),
    (6, 0..=47, "PIIU", |it| !it.idr3.s1pi()),
    (6, 48..=63, "word 6", ALWAYS),
    (7, 0..=47, "PIIP", |it| !it.idr3.s1pi()),
    (7, 48..=63, "word 7", ALWAYS),
];

/// A legal entry of stage 1, `ste`, with a field that the guest's SMMU does not accept; and which.
pub(super) fn entry(rng: &mut Rng, ste: Ste, guest: &Guest) -> (Ste, &'static str) {
    let shown = guest.shown();
    let substreams = shown.idr1.ssidsize();
    match rng.u8(..) {
        // Stage 2, alone and below stage 1.
        0..24 => (ste.with_config(rng.u64(0b110..=0b111)), "Config"),
        24..48 => match beyond(rng, guest, 55) {
            Some(bit) => (ste.with_s1_context_ptr(ste.s1_context_ptr() | 1 << bit), "S1ContextPtr"),
            None => (ste.with_config(0b110), "Config"),
        },
        48..72 if substreams != 0 => (ste.with_s1_cd_max(rng.u64(substreams + 1..=31)), "S1CDMax"),
        _ => {
            let (words, field) = flipped(rng, OF_ENTRIES, shown, ste.0);
            (Ste(words), field)
        }
    }
}

/// The same of a legal context of 4 KiB pages.
pub(super) fn context(rng: &mut Rng, cd: Cd, guest: &Guest) -> (Cd, &'static str) {
    match rng.u8(..) {
        0..16 => (cd.with_t0sz(63), "T0SZ"),
        16..32 => (cd.with_tg0(3), "TG0"),
        32..56 => match beyond(rng, guest, 51) {
            Some(bit) => (cd.with_ttb0(cd.ttb0() | 1 << bit), "TTB0"),
            None => (cd.with_tg0(3), "TG0"),
        },
        _ => {
            let (words, field) = flipped(rng, OF_CONTEXTS, guest.shown(), cd.0);
            (Cd(words), field)
        }
    }
}

/// A bit of an address, up to `last`, that the guest's memory has not.
fn beyond(rng: &mut Rng, guest: &Guest, last: u32) -> Option<u32> {
    let first = guest.output_bits();
    (first <= last).then(|| rng.u32(first..=last))
}

/// `words` with one bit of one of `rows` the other way round, and its field.
fn flipped(
    rng: &mut Rng,
    rows: &[Row],
    shown: &IdRegisters,
    mut words: [u64; 8],
) -> ([u64; 8], &'static str) {
    let wrong = rows.iter().filter(|(.., wrong)| wrong(shown));
    // Some are wrong for any SMMU.
    let Some((word, bits, field, _)) = rng.choice(wrong.collect::<Vec<&Row>>()) else {
        return (words, "");
    };
    if let Some(word) = words.get_mut(*word) {
        *word ^= 1 << rng.u32(bits.clone());
    }
    (words, field)
}

/// Codes of the commands that the guest's SMMU has.
fn codes(shown: &IdRegisters) -> Vec<u64> {
    let mut codes = vec![1, 2, 3, 4, 5, 6, 0x10, 0x11, 0x12, 0x13, 0x30, 0x46];
    if shown.idr0.ats() {
        codes.push(0x40);
    }
    if shown.idr0.pri() {
        codes.push(0x41);
    }
    if shown.idr0.stall_model() != 1 {
        codes.extend([0x44, 0x45]);
    }
    codes
}

/// A command that the guest's SMMU does not accept, which names `stream` where it names one; and the field for which it does
/// not.
pub(super) fn command(rng: &mut Rng, stream: u64, shown: &IdRegisters) -> (Command, &'static str) {
    let known = codes(shown);
    let (ranges, substreams) = (shown.idr3.ril(), shown.idr1.ssidsize() != 0);
    let page = TlbiNhVa::new().with_addr(0x1_0020_0000 + (rng.u64(0..64) << 12));
    // What there is to be wrong with a command that it has.
    let mut wrong: Vec<(Command, &'static str)> = vec![
        (Sync::new().with_cs(3).into(), "CS"),
        (page.with_num(rng.u64(1..32)).into(), "NUM"),
        (page.with_scale(rng.u64(1..32)).into(), "SCALE"),
        (page.with_ttl(rng.u64(1..4)).into(), "TTL"),
        (page.with_ttl128(true).into(), "TTL128"),
        (page.with_tg(rng.u64(1..4)).into(), "TG"),
        (CfgiSte::new().with_sid(stream).with_ssec(true).into(), "SSec"),
        (CfgiCd::new().with_sid(stream).with_ssec(true).into(), "SSec"),
    ];
    if ranges {
        // Level 2 of 4 KiB: 2 MiB.
        let odd = page.with_addr(page.addr() | 0x1000).with_tg(1).with_ttl(2).with_num(1);
        wrong.push((odd.into(), "Addr"));
        if !shown.idr5.ds() {
            wrong.push((page.with_tg(1).with_scale(rng.u64(32..64)).into(), "SCALE"));
        }
    }
    if !shown.idr0.asid16() {
        wrong.push((TlbiNhAsid::new().with_asid(rng.u64(0x100..0x1_0000)).into(), "ASID"));
    }
    if !substreams {
        wrong.push((CfgiCd::new().with_sid(stream).with_ssid(rng.u64(1..99)).into(), "SSID"));
    }
    if shown.idr0.ats() {
        let whole = AtcInv::new().with_sid(stream);
        wrong.push((whole.with_size(rng.u64(53..64)).into(), "Size"));
        if !substreams {
            wrong.push((whole.with_size(52).with_ssv(true).into(), "SSV"));
        }
    }
    if shown.idr0.pri() {
        wrong.push((PriResp::new().with_sid(stream).with_resp(3).into(), "Resp"));
        if !substreams {
            wrong.push((PriResp::new().with_sid(stream).with_ssv(true).into(), "SSV"));
        }
    }
    match rng.u8(..) {
        // Those of other Security states and stages, and those that nobody has.
        0..64 => {
            let others: Vec<u64> = (0..=0xff).filter(|code| !known.contains(code)).collect();
            (Command([rng.choice(others).unwrap_or(0), 0]), "Opcode")
        }
        64..128 => {
            let code = rng.choice(known).unwrap_or(3);
            reserved(rng, code, stream)
        }
        at => {
            let at = usize::from(at) % wrong.len();
            wrong.swap_remove(at)
        }
    }
}

/// The command with that code, and a bit that it does not have.
fn reserved(rng: &mut Rng, code: u64, stream: u64) -> (Command, &'static str) {
    let all = Command([code | !0xff, u64::MAX]).reserved_bits();
    let names = all.into_iter().zip(["word 0", "word 1"]).enumerate();
    let bits = names.flat_map(|(word, (all, name))| {
        (0..64).filter(move |bit| all >> bit & 1 != 0).map(move |bit| (word, bit, name))
    });
    let plain = if Command([code, 0]).field("SID").is_some() { stream << 32 } else { 0 };
    let mut words = [code | plain, 0];
    // CFGI_STE and others have some; a code without any is no command here.
    let Some((word, bit, name)) = rng.choice(bits.collect::<Vec<(usize, u32, &str)>>()) else {
        return (Command([0xff, 0]), "Opcode");
    };
    if let Some(word) = words.get_mut(word) {
        *word |= 1 << bit;
    }
    (Command(words), name)
}

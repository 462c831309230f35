// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an entry does, in one sentence.

use smmuv3_formats::granule::Granule;
use smmuv3_formats::register::address_bits;
use smmuv3_formats::ste::config;
use smmuv3_formats::{Cd, L1Cd, L1Std, PageRequest, Ste};

use super::decode::array;

/// The sentence, where there is more to say than the fields do.
pub(super) fn of(name: &str, words: &[u64]) -> Option<String> {
    match name {
        "STE" => Some(ste(&Ste(array(words)))),
        "CD" => Some(cd(&Cd(array(words)))),
        "L1STD" => Some(l1_std(&L1Std(array(words)))),
        "L1CD" => Some(l1_cd(&L1Cd(array(words)))),
        "PPR" => Some(request(&PageRequest(array(words)))),
        _ => None,
    }
}

fn ste(ste: &Ste) -> String {
    if !ste.v() {
        return "invalid: every transaction gives C_BAD_STE".to_owned();
    }
    let contexts = || match (ste.s1_cd_max(), ste.s1_fmt()) {
        (0, _) => format!("one context at {:#x}", ste.s1_context_ptr()),
        (bits, 1 | 2) => {
            format!("2^{bits} contexts in a 2-level table at {:#x}", ste.s1_context_ptr())
        }
        (bits, _) => format!("2^{bits} contexts in a table at {:#x}", ste.s1_context_ptr()),
    };
    let stage_2 = || {
        let granule = Granule::from_tg0(ste.s2_tg());
        let granule =
            granule.map_or_else(|| "no granule".to_owned(), |granule| granule.to_string());
        let bits = 64u64.saturating_sub(ste.s2_t0sz());
        format!(
            "tables at {:#x} for {bits}-bit addresses, {granule}, VMID {:#x}",
            ste.s2_ttb(),
            ste.s2_vmid()
        )
    };
    match ste.config() {
        config::BYPASS => "transactions pass untranslated".to_owned(),
        config::STAGE_1 => format!("stage 1 translates: {}", contexts()),
        config::STAGE_2 => format!("stage 2 translates: {}", stage_2()),
        config::NESTED => {
            format!(
                "stage 1 translates, then stage 2: {} (an intermediate address); {}",
                contexts(),
                stage_2()
            )
        }
        _ => "every transaction is aborted, without an event".to_owned(),
    }
}

fn cd(cd: &Cd) -> String {
    if !cd.v() {
        return "invalid: every transaction gives C_BAD_CD".to_owned();
    }
    let half = |disabled: bool, name: &str, ttb: u64, txsz: u64, granule: Option<Granule>| {
        let granule =
            granule.map_or_else(|| "no granule".to_owned(), |granule| granule.to_string());
        let bits = 64u64.saturating_sub(txsz);
        (!disabled).then(|| format!("{name} at {ttb:#x} for {bits}-bit addresses, {granule}"))
    };
    let halves = [
        half(cd.epd0(), "TTB0", cd.ttb0(), cd.t0sz(), Granule::from_tg0(cd.tg0())),
        half(cd.epd1(), "TTB1", cd.ttb1(), cd.t1sz(), Granule::from_tg1(cd.tg1())),
    ];
    let halves: Vec<String> = halves.into_iter().flatten().collect();
    let tables = if halves.is_empty() { "no tables".to_owned() } else { halves.join("; ") };
    let output =
        address_bits(cd.ips()).map_or(String::new(), |bits| format!(", {bits}-bit output"));
    format!("ASID {:#x}: {tables}{output}", cd.asid())
}

fn l1_std(std: &L1Std) -> String {
    match std.span() {
        0 | 12.. => "invalid: its streams give C_BAD_STREAMID".to_owned(),
        span => format!("2^{} STEs at {:#x}", span.saturating_sub(1), std.l2_ptr()),
    }
}

fn l1_cd(cd: &L1Cd) -> String {
    if cd.v() {
        format!("contexts at {:#x}", cd.l2_ptr())
    } else {
        "invalid: its substreams give C_BAD_SUBSTREAMID".to_owned()
    }
}

fn request(request: &PageRequest) -> String {
    let substream =
        if request.ssv() { format!(" substream {:#x}", request.ssid()) } else { String::new() };
    if request.is_stop_marker() {
        return format!("stream {:#x}{substream} uses it no more; no answer is due", request.sid());
    }
    let wants: Vec<&str> =
        [(request.read(), "read"), (request.write(), "write"), (request.execute(), "execute")]
            .iter()
            .filter(|(wanted, _)| *wanted)
            .map(|(_, what)| *what)
            .collect();
    let wants = if wants.is_empty() { "look at".to_owned() } else { wants.join(" and ") };
    let due = if request.last() {
        format!("the last of group {:#x}, which is to be answered", request.prg_index())
    } else {
        format!("group {:#x}, of which more will follow", request.prg_index())
    };
    format!("stream {:#x}{substream} wants to {wants} {:#x}: {due}", request.sid(), request.addr())
}

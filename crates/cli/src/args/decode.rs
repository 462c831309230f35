// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operands of `decode`.

use clap::Args;
use smmuv3_decode::structure::words::Order;
use smmuv3_formats::descriptor::Stage;
use smmuv3_formats::granule::Granule;

use super::structure::order;

/// Operands of `decode`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct Decode {
    /// A log file; `-` is standard input, as is nothing where that is no terminal. Or the kind of one
    /// structure and its words: ste, event, cmd, ... as below, or any register
    #[arg(value_name = "FILE | KIND WORDS", allow_hyphen_values = false)]
    pub what: Vec<String>,

    /// Print one JSON object a line, the last one the summary (docs/decode.schema.json)
    #[arg(long)]
    pub json: bool,

    /// Only what has this: sid=0x100, event=F_TRANSLATION or event=0x10, instance=NAME. The same
    /// key again widens, another key narrows
    #[arg(long, value_name = "KEY=VALUE")]
    pub only: Vec<String>,

    /// Only from this time stamp on, in the log's own form: 12.5 (seconds since boot) or
    /// 2026-11-26T02:50:42
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,

    /// The kernel that wrote the log, such as 5.10: says which features its bits stand for
    #[arg(long, value_name = "VERSION")]
    pub kernel: Option<String>,

    /// Of one structure: the instance's ID registers: 0=0x...,1=0x...,3=...,5=... or the words of IDR0
    /// to IDR5, or a file with them, or qemu, qemu-7.2, fvp [default: an instance with every feature]
    #[arg(long, value_name = "REGISTERS", help_heading = "One structure")]
    pub idr: Option<String>,

    /// The STE through which a CD is reached: its words, or a file with them
    #[arg(long, value_name = "WORDS", help_heading = "One structure")]
    pub ste: Option<String>,

    /// How the words are ordered: auto, memory (word 0 and low halves first), high-first, last-first,
    /// or swapped-bytes
    #[arg(long, value_name = "ORDER", value_parser = order(), default_value = "auto")]
    #[arg(help_heading = "One structure")]
    pub order: Order,

    /// Of a pte: the stage of its table [default: 1]
    #[arg(long, value_name = "1|2", value_parser = stage, help_heading = "One structure")]
    pub stage: Option<Stage>,

    /// Of a pte: the level of its table, -1 to 3 [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i8).range(-1..=3))]
    #[arg(allow_negative_numbers = true, help_heading = "One structure")]
    pub level: Option<i8>,

    /// Of a pte: the granule of its table, 4k, 16k or 64k [default: 4k]
    #[arg(long, value_name = "SIZE", value_parser = granule, help_heading = "One structure")]
    pub granule: Option<Granule>,

    /// Of a pte: bits of the largest output address [default: 48, or 52 with --ds]
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u32).range(32..=56))]
    #[arg(help_heading = "One structure")]
    pub oas: Option<u32>,

    /// Of a pte: its tables are those of LPA2 (CD.DS, STE.S2DS)
    #[arg(long, help_heading = "One structure")]
    pub ds: bool,

    /// Of a pte: permissions are indirect (CD.PIE, STE.S2PIE)
    #[arg(long, help_heading = "One structure")]
    pub pie: bool,

    /// Of a pte: stage 2 forces memory types (STE.S2FWB)
    #[arg(long, help_heading = "One structure")]
    pub fwb: bool,
}

/// A stage, `1` or `2`.
fn stage(text: &str) -> Result<Stage, String> {
    match text {
        "1" => Ok(Stage::One),
        "2" => Ok(Stage::Two),
        _ => Err("a stage is 1 or 2".to_owned()),
    }
}

/// A granule, `4k`, `16k` or `64k`.
fn granule(text: &str) -> Result<Granule, String> {
    match text.to_ascii_lowercase().trim_end_matches("ib").trim_end_matches('b') {
        "4k" | "4096" => Ok(Granule::K4),
        "16k" | "16384" => Ok(Granule::K16),
        "64k" | "65536" => Ok(Granule::K64),
        _ => Err("a granule is 4k, 16k or 64k".to_owned()),
    }
}

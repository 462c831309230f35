// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operands of `decode`.

use clap::Args;
use smmuv3_decode::structure::words::Order;

use super::structure::{Where, order};

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
    /// 2026-11-26T02:50:42. What has no time stamp, or one of another form, is kept
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

    /// Where a descriptor lies.
    #[command(flatten)]
    pub place: Where,
}

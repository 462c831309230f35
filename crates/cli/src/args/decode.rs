// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operands of `decode`.

use clap::Args;

/// Operands of `decode`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct Decode {
    /// A log file; `-` is standard input, as is nothing where that is no terminal
    #[arg(value_name = "FILE")]
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
}

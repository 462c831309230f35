// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operands of `update`.

use clap::{Args, ValueEnum};

use super::values::{id20, id32};

/// Operands of `update`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Update {
    /// What is updated
    pub kind: EntryKind,

    /// What the entry holds: eight 64-bit words in hexadecimal, parted by commas or spaces (quoted);
    /// @FILE for a file that has them, or 64 bytes; - for standard input
    #[arg(value_name = "FROM")]
    pub from: String,

    /// What it is to hold: likewise
    #[arg(value_name = "TO")]
    pub to: String,

    /// The StreamID that the commands name [default: 0]
    #[arg(long, value_name = "N", value_parser = id32, allow_negative_numbers = true)]
    pub sid: Option<u32>,

    /// The SubstreamID that the commands name, of a CD [default: 0]
    #[arg(long, value_name = "N", value_parser = id20, allow_negative_numbers = true)]
    pub ssid: Option<u32>,

    /// Print the plan as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// An entry that streams are configured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EntryKind {
    /// Stream table entry
    Ste,
    /// Context descriptor
    Cd,
}

pub const EXAMPLES: &str = "\
Examples:
  smmuv3 update ste 9,100000000000,0,0,0,0,0,0 8002000b,d4,0,0,0,0,0,0
                                     (bypass to stage 1, in two steps)
  smmuv3 update cd @before.txt @after.txt --sid 0x100 --ssid 3
  smmuv3 update ste @before.txt @after.txt --json | jq .hitless

The stores are those of this project's driver. What hardware may see in between is judged apart from \
it: every combination of old and new words since the last completed CFGI and SYNC, since words are \
read in any order. Exit status: 0 when at every moment hardware finds the old entry or the new one; \
1 when it finds it invalid in between, or something else; 2 when the input could not be used.";

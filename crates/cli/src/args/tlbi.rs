// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operands of `tlbi`.

use clap::{Args, ValueEnum};

use super::values::{id16, id20, id32};

/// Operands of `tlbi`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Tlbi {
    /// Addresses: 0x1000..0x3000 (without its end), 0x1000-0x2fff (with it), 0x1000+8K, 0x1000+2p (pages), or
    /// 0x1234 alone (the page that has it); - reads ranges from standard input
    #[arg(required = true, value_name = "RANGE")]
    pub ranges: Vec<String>,

    /// Size of a page
    #[arg(long, value_name = "SIZE", default_value = "4k")]
    pub tg: Granule,

    /// The stage whose tables changed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=2), default_value_t = 1)]
    pub stage: u8,

    /// The address space's ASID [default: 0]
    #[arg(long, value_name = "N", value_parser = id16, allow_negative_numbers = true)]
    pub asid: Option<u16>,

    /// Whatever the ASID is
    #[arg(long, conflicts_with = "asid")]
    pub any_asid: bool,

    /// The address space's VMID [default: 0]
    #[arg(long, value_name = "N", value_parser = id16, allow_negative_numbers = true)]
    pub vmid: Option<u16>,

    /// Translations of EL2, not of EL1
    #[arg(long, conflicts_with = "vmid")]
    pub el2: bool,

    /// Only leaves changed; no table was unlinked
    #[arg(long)]
    pub leaf: bool,

    /// The level that all leaves are at, 3 being pages, so that a TLB need not look for other sizes
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(u8).range(1..=3), requires = "leaf")]
    #[arg(allow_negative_numbers = true)]
    pub ttl: Option<u8>,

    /// The StreamID whose ATC is invalidated [default: 0]
    #[arg(long, value_name = "N", value_parser = id32, allow_negative_numbers = true)]
    pub sid: Option<u32>,

    /// The SubstreamID (PASID) whose ATC entries are invalidated [default: all of the stream's]
    #[arg(long, value_name = "N", value_parser = id20, allow_negative_numbers = true)]
    pub ssid: Option<u32>,

    /// List all commands, not only the first of many
    #[arg(long)]
    pub all: bool,

    /// Print the commands as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Size of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Granule {
    /// 4 KiB
    #[value(name = "4k", alias = "4K")]
    K4,
    /// 16 KiB
    #[value(name = "16k", alias = "16K")]
    K16,
    /// 64 KiB
    #[value(name = "64k", alias = "64K")]
    K64,
}

impl Granule {
    /// log2 of its bytes.
    pub const fn shift(self) -> u32 {
        match self {
            Self::K4 => 12,
            Self::K16 => 14,
            Self::K64 => 16,
        }
    }
}

pub const EXAMPLES: &str = "\
Examples:
  smmuv3 tlbi 0x1000000+0x12345p --leaf --ttl 3 --asid 5
  smmuv3 tlbi 0x40000000..0x40200000        a table may have been unlinked
  smmuv3 tlbi 0x40000000+2M --leaf --ttl 2  one block of 2 MiB
  smmuv3 tlbi 0x80000000+1G --stage 2 --vmid 7 --tg 64k
  smmuv3 tlbi 0xfff000+8K --sid 0x100 --json | jq .ranges[0].atc

The commands are those of this project's driver. Each is told with what it names; beside them is \
what the whole address space takes, and what an ATC is told. Exit status: 0; 2 when the input could \
not be used.";

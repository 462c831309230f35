// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operands of `sid`.

use clap::Args;

/// Operands of `sid`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Sid {
    /// PCI functions (0000:01:00.0, 01:00.0), StreamIDs (0x100, 256), names of devices in the firmware's
    /// table (\_SB.DMA0, /soc/dma@12340000); with --span also ranges (0x100-0x1ff, 01:00.0+8); - reads
    /// them from standard input
    #[arg(required = true, value_name = "BDF|SID")]
    pub ids: Vec<String>,

    /// Ask the machine's ACPI table, such as /sys/firmware/acpi/tables/IORT
    #[arg(long, value_name = "FILE", conflicts_with = "dt")]
    pub iort: Option<String>,

    /// Ask the machine's device tree blob, such as /sys/firmware/fdt
    #[arg(long, value_name = "FILE")]
    pub dt: Option<String>,

    /// Filters of performance counters: which StreamIDs a filter_stream_id has with filter_span=1, and
    /// which filters have a range
    #[arg(long, conflicts_with_all = ["iort", "dt"])]
    pub span: bool,

    /// Print the answers as one JSON object
    #[arg(long)]
    pub json: bool,
}

pub const EXAMPLES: &str = "\
Examples:
  smmuv3 sid 0000:01:00.0                  0x100, if firmware maps one to one
  smmuv3 sid 0x7d00 0x42                   the devices of two StreamIDs
  smmuv3 sid --iort /sys/firmware/acpi/tables/IORT 01:00.0
  smmuv3 sid --dt /sys/firmware/fdt 0x100  as this machine's firmware says
  smmuv3 sid --span 0x42                   what filter_span=1 counts with it
  smmuv3 sid --span 0x40-0x4f              the filter that counts sixteen

Exit status: 0 when all were found; 1 when a device has no StreamID, or a StreamID no device, as \
firmware says; 2 when the input could not be used.";

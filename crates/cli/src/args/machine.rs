// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operands of `iort` and `dt`.

use clap::Args;

/// Operands of `iort` and `dt`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Machine {
    /// The file; - for standard input
    pub file: String,

    /// Only which SMMU this device is behind, its StreamIDs, and where its interrupts go: a PCI function
    /// (0000:01:00.0), a name (\_SB.DMA0, /soc/dma@12340000) or a StreamID (0x100)
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,

    /// Print it as one JSON object
    #[arg(long)]
    pub json: bool,

    /// Draw it (SVG), on standard output
    #[arg(long, conflicts_with_all = ["json", "device"])]
    pub svg: bool,
}

pub const IORT_EXAMPLES: &str = "\
Examples:
  smmuv3 iort /sys/firmware/acpi/tables/IORT
  sudo acpidump -n IORT | smmuv3 iort -   what acpidump prints; iasl -d, too
  smmuv3 iort IORT --device 0000:01:00.0  one device: its SMMU and its IDs
  smmuv3 iort IORT --svg > iort.svg       a drawing
  smmuv3 iort IORT --json | jq .findings  what is odd about it

Exit status: 0 when all fits together; 1 when something does not (streams that two devices claim, \
mappings that overlap, references to nothing, ...), or the device is behind no SMMU; 2 when the table \
could not be read.";

pub const DT_EXAMPLES: &str = "\
Examples:
  smmuv3 dt /sys/firmware/fdt
  dtc -O dtb machine.dts | smmuv3 dt -       from its source
  smmuv3 dt machine.dtb --device /soc/dma@12340000
  smmuv3 dt machine.dtb --svg > machine.svg  a drawing
  smmuv3 dt machine.dtb --json | jq .smmus[].registers

Exit status: 0 when all fits together; 1 when something does not (streams that two devices claim, \
mappings that overlap, references to nothing, ...), or the device is behind no SMMU; 2 when the blob \
could not be read.";

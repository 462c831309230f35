// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operands of `walk`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

/// Operands of `walk`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(group = ArgGroup::new("table").args(["strtab", "registers"]).required(true).multiple(true))]
pub struct Walk {
    /// An image of physical memory: FILE@BASE for a raw file, whose first byte is at BASE; FILE for an
    /// ELF core (QEMU's dump-guest-memory, /proc/vmcore), which knows its addresses. May be given several
    /// times. `-` is standard input
    #[arg(long = "memory", value_name = "FILE[@BASE]", required = true, value_parser = image)]
    #[arg(allow_hyphen_values = true)]
    pub memory: Vec<ImageName>,

    /// The registers STRTAB_BASE and STRTAB_BASE_CFG, or the former alone with --log2size
    #[arg(long, value_name = "BASE[,CFG]", value_parser = strtab)]
    pub strtab: Option<Strtab>,

    /// log2 of the number of streams, STRTAB_BASE_CFG.LOG2SIZE
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=63))]
    pub log2size: Option<u32>,

    /// A table of two levels, whose second has 2^N streams: 6, 8 or 10
    #[arg(long, value_name = "N", value_parser = split, requires = "log2size")]
    pub split: Option<u32>,

    /// A file with registers: lines such as `STRTAB_BASE 0x80000000` or `IDR0: 0d44101b`, the words of the
    /// register page as a debugger shows them, or its bytes as they are. `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub registers: Option<PathBuf>,

    /// ID registers of the SMMU, such as idr0=0x0d44101b,idr1=0x02730010,idr5=0x74 [default: an SMMU
    /// that has every feature]
    #[arg(long, value_name = "LIST", value_parser = idr)]
    pub idr: Option<Idr>,

    /// StreamID; a PCI address such as 0000:08:00.0 is one too. Without: the streams are listed
    #[arg(long, value_name = "N", value_parser = stream)]
    pub sid: Option<u32>,

    /// SubstreamID (PASID)
    #[arg(long, value_name = "N", value_parser = substream, requires = "sid")]
    pub ssid: Option<u32>,

    /// Address that the device issues
    #[arg(long, value_name = "A", value_parser = number, requires = "sid", conflicts_with = "all")]
    pub address: Option<u64>,

    /// The device writes [default: it reads]
    #[arg(long)]
    pub write: bool,

    /// The device fetches instructions
    #[arg(long, conflicts_with = "write")]
    pub exec: bool,

    /// The access is privileged
    #[arg(long)]
    pub privileged: bool,

    /// Everything that the stream can reach, or every stream without --sid, and what is wrong with the
    /// tables
    #[arg(long)]
    pub all: bool,

    /// The images are all of memory: what they do not have answers with an external abort
    #[arg(long)]
    pub whole: bool,

    /// Lines of ranges, findings and streams that are printed, each; the rest is counted
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub limit: usize,

    /// Print what was found as one JSON object
    #[arg(long, conflicts_with = "svg")]
    pub json: bool,

    /// Draw the tree of what was read (SVG), on standard output
    #[arg(long)]
    pub svg: bool,
}

/// An image as it is named on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageName {
    /// The file; `-` is standard input.
    pub path: PathBuf,
    /// Physical address of its first byte; `None` where the file says so.
    pub base: Option<u64>,
}

/// STRTAB_BASE, and STRTAB_BASE_CFG where it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strtab {
    /// STRTAB_BASE.
    pub base: u64,
    /// STRTAB_BASE_CFG.
    pub cfg: Option<u32>,
}

/// ID registers by name and value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idr(pub Vec<(String, u32)>);

/// A number: `7`, `0x1f`, `1_000`.
fn number(text: &str) -> Result<u64, String> {
    let digits = text.replace('_', "");
    let number = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) if !hex.starts_with('+') => u64::from_str_radix(hex, 16).ok(),
        Some(_) => None,
        None => digits.parse().ok(),
    };
    number.ok_or_else(|| "it is a number of at most 64 bits such as 0x80000000 or 7".to_owned())
}

fn image(text: &str) -> Result<ImageName, String> {
    let (path, base) = match text.rsplit_once('@') {
        Some((path, base)) if !path.is_empty() => {
            let base = number(base).map_err(|_| {
                let base = if base.is_empty() { "nothing" } else { base };
                format!(
                    "{base} behind @ is no address; say FILE@0x40000000, or FILE for an ELF core"
                )
            })?;
            (path, Some(base))
        }
        _ => (text, None),
    };
    Ok(ImageName { path: path.into(), base })
}

/// SPLIT, which hardware knows three of.
fn split(text: &str) -> Result<u32, String> {
    match text {
        "6" => Ok(6),
        "8" => Ok(8),
        "10" => Ok(10),
        _ => Err("SPLIT is 6, 8 or 10".to_owned()),
    }
}

fn strtab(text: &str) -> Result<Strtab, String> {
    let (base, cfg) = match text.split_once(',') {
        Some((base, cfg)) => (base, Some(cfg)),
        None => (text, None),
    };
    let cfg = cfg.map(|cfg| {
        let value = number(cfg)?;
        u32::try_from(value).map_err(|_| "STRTAB_BASE_CFG has 32 bits".to_owned())
    });
    Ok(Strtab { base: number(base)?, cfg: cfg.transpose()? })
}

/// The registers that `--idr` takes.
pub const IDR_NAMES: [&str; 8] = ["idr0", "idr1", "idr2", "idr3", "idr4", "idr5", "aidr", "cr2"];

fn idr(text: &str) -> Result<Idr, String> {
    let right = "ID registers are a list such as idr0=0x0d44101b,idr1=0x02730010,idr5=0x74";
    let mut list = Vec::new();
    for part in text.split(',') {
        let (name, value) = part.split_once('=').ok_or(right)?;
        let name = name.trim().to_ascii_lowercase();
        if !IDR_NAMES.contains(&name.as_str()) {
            return Err(format!("{name} is none of {}; {right}", IDR_NAMES.join(", ")));
        }
        let value = number(value.trim()).ok().and_then(|value| u32::try_from(value).ok());
        list.push((name, value.ok_or("ID registers have 32 bits")?));
    }
    Ok(Idr(list))
}

/// A StreamID, or bus, device and function of PCI.
fn stream(text: &str) -> Result<u32, String> {
    let right =
        "a StreamID is a number of at most 32 bits such as 0x100, or a PCI address such as 01:00.0";
    if let Some((bus, function)) = text.split_once('.') {
        let hex = |text: &str| u32::from_str_radix(text, 16).map_err(|_| right.to_owned());
        let mut parts = bus.rsplit(':');
        let device = hex(parts.next().unwrap_or(""))?;
        let bus = hex(parts.next().unwrap_or(""))?;
        let segment = parts.next().map_or(Ok(0), hex)?;
        let function = hex(function)?;
        if device > 0x1f || bus > 0xff || function > 7 || segment > 0xffff || parts.next().is_some()
        {
            return Err(right.to_owned());
        }
        // The segment belongs to the root complex, and is no part of the StreamID.
        return Ok(bus << 8 | device << 3 | function);
    }
    number(text).ok().and_then(|number| u32::try_from(number).ok()).ok_or_else(|| right.to_owned())
}

fn substream(text: &str) -> Result<u32, String> {
    let number = number(text).ok().and_then(|number| u32::try_from(number).ok());
    number
        .filter(|number| number >> 20 == 0)
        .ok_or_else(|| "a SubstreamID is a number of at most 20 bits".to_owned())
}

/// What follows the options in the help.
pub const WALK_EXAMPLES: &str = "\
Examples:
  smmuv3 walk --memory guest.elf --registers smmu.txt --sid 8 --address 0x1000
  smmuv3 walk --memory ram.bin@0x40000000 --strtab 0x44000000,8 --sid 8 --all
  smmuv3 walk --memory vmcore --strtab 0x44000000,0x10210 --sid 01:00.0 --all
  smmuv3 walk --memory guest.elf --registers smmu.txt --json | jq .streams
  smmuv3 walk --memory guest.elf --registers smmu.txt --all --svg > walk.svg

A debugger shows the registers, on Linux devmem does (not xp of QEMU's monitor: it reads memory alone). \
The monitor's dump-guest-memory guest.elf, without -z, -l, -s, writes an image of a guest.

Exit status: 0 when the access is translated, or nothing is wrong with the tables; 1 when it faults, \
or something is; 2 when the input could not be read, or does not have what the walk needs.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_may_say_where_they_begin() {
        let of = |text| image(text).map(|image| (image.path.display().to_string(), image.base));
        assert_eq!(of("a.bin@0x4000_0000"), Ok(("a.bin".to_owned(), Some(0x4000_0000))));
        assert_eq!(
            of("a@b/core"),
            Err("b/core behind @ is no address; say FILE@0x40000000, or FILE for an ELF core"
                .to_owned())
        );
        assert_eq!(of("core"), Ok(("core".to_owned(), None)));
        assert_eq!(of("-@0"), Ok(("-".to_owned(), Some(0))));
    }

    #[test]
    fn streams_are_numbers_or_places_on_a_bus() {
        assert_eq!(stream("0x7d00"), Ok(0x7d00));
        assert_eq!(stream("0000:7d:00.1"), Ok(0x7d01));
        assert_eq!(stream("08:1f.7"), Ok(0x8ff));
        for wrong in ["", "1:20.0", "x", "1:2:3:4.0", "0x100000000", "1.8"] {
            assert!(stream(wrong).is_err(), "{wrong}");
        }
        assert!(substream("0x100000").is_err() && substream("0xfffff").is_ok());
    }

    #[test]
    fn registers_are_read_from_lists() {
        assert_eq!(strtab("0x80,0x10"), Ok(Strtab { base: 0x80, cfg: Some(16) }));
        assert!(strtab("0x80,0x100000000").is_err());
        assert!(split("7").is_err() && split("10") == Ok(10));
        assert_eq!(
            idr("IDR0=1,idr5=0x74"),
            Ok(Idr(vec![("idr0".into(), 1), ("idr5".into(), 0x74)]))
        );
        assert!(idr("idr9=1").is_err() && idr("idr0").is_err());
    }
}

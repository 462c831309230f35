// SPDX-License-Identifier: MIT OR Apache-2.0
//! What firmware says of a machine, from a file: an ACPI table, or a device tree blob.

use smmuv3_discovery::iort::{Iort, IortError};
use smmuv3_discovery::{ReadError, Topology};

use crate::input::{self, InputError};

/// More than any of them, and little enough to stop soon when given an endless file.
const MOST_BYTES: u64 = 64 << 20;

/// What firmware says.
pub struct Firmware {
    /// What messages call the file.
    pub file: String,
    /// Which SMMUs there are, and what is behind them.
    pub topology: Topology,
    /// What kind of table it was, in a few words.
    pub about: String,
    /// What its bytes add up to, where that is not 0 as it should be: of an IORT only.
    pub checksum: Option<u8>,
}

/// Why nothing is known of the machine.
#[derive(Debug, thiserror::Error)]
pub enum FirmwareError {
    /// The file can't be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// It is something else, and what to do about it.
    #[error("{file} is {what}; {advice}")]
    Other {
        /// The file.
        file: String,
        /// What it is.
        what: String,
        /// What to do.
        advice: String,
    },
    /// It can't be walked.
    #[error("{0}: {1}; it may be cut off, so copy all of it again")]
    Read(String, ReadError),
}

/// Who asks: where the other kind of table is to be given instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// `iort` or `dt`: to the other command.
    Command,
    /// `sid`, which takes either: by the other option.
    Option,
}

impl Asker {
    /// What takes tables of `kind`, `iort` or `dt`.
    fn other(self, kind: &str) -> String {
        match self {
            Self::Command => format!("smmuv3 {kind}"),
            Self::Option => format!("--{kind}"),
        }
    }
}

/// Reads an IORT: the table, what `acpidump` prints, or what `iasl -d` makes of it.
///
/// # Errors
/// [`FirmwareError`], which says what to give instead.
pub fn iort(name: &str, asker: Asker) -> Result<Firmware, FirmwareError> {
    let bytes = input::bytes(name, "an IORT", MOST_BYTES)?;
    let file = input::called(name).to_owned();
    let other = |what: &str, advice: String| FirmwareError::Other {
        file: file.clone(),
        what: what.to_owned(),
        advice,
    };
    let dumped = dumped_table(&bytes, "IORT");
    let table = match (&dumped, kind(&bytes)) {
        (Some(table), _) => table,
        (None, Kind::Blob) => {
            return Err(other("a device tree blob", format!("use {} {name}", asker.other("dt"))));
        }
        (None, Kind::Source) => {
            let dt = asker.other("dt");
            let advice = format!(
                "use {dt} with the blob that dtc makes of it: dtc -O dtb -o machine.dtb {name}"
            );
            return Err(other("a device tree's source", advice));
        }
        (None, Kind::Disassembly) => {
            let advice =
                "give the table itself (/sys/firmware/acpi/tables/IORT, or what iasl makes of";
            return Err(other("a disassembled table", format!("{advice} {name})")));
        }
        (None, Kind::Dump) => {
            let advice = "dump it with acpidump -n IORT, or give /sys/firmware/acpi/tables/IORT";
            return Err(other("a dump of ACPI tables without an IORT", advice.to_owned()));
        }
        (None, Kind::Unknown) => &bytes,
    };
    let read = |error: IortError| match error {
        IortError::Signature { found } if found.is_ascii() && !found.contains(&0) => {
            let what = format!("no IORT: it begins with {}", found.escape_ascii());
            other(&what, "give /sys/firmware/acpi/tables/IORT, or what acpidump prints".to_owned())
        }
        IortError::Signature { .. } => {
            let advice = "give /sys/firmware/acpi/tables/IORT, or what acpidump prints";
            other("no ACPI table", advice.to_owned())
        }
        error => FirmwareError::Read(file.clone(), error.into()),
    };
    let (iort, checksum) = match Iort::new(table) {
        Err(IortError::Checksum { sum }) => (Iort::unsummed(table).map_err(read)?, Some(sum)),
        result => (result.map_err(read)?, None),
    };
    let topology =
        Topology::from_iort(&iort).map_err(|error| FirmwareError::Read(file.clone(), error))?;
    let (oem, table_id, revision) = iort.oem();
    let about = format!(
        "IORT revision {}, {} bytes, {} nodes, by {} {} {revision:#x}",
        iort.revision(),
        iort.len(),
        iort.count(),
        oem.trim_ascii().escape_ascii(),
        table_id.trim_ascii().escape_ascii(),
    );
    Ok(Firmware { file, topology, about, checksum })
}

/// Reads a device tree blob.
///
/// # Errors
/// [`FirmwareError`], which says what to give instead.
pub fn device_tree(name: &str, asker: Asker) -> Result<Firmware, FirmwareError> {
    let bytes = input::bytes(name, "a device tree blob", MOST_BYTES)?;
    let file = input::called(name).to_owned();
    let other = |what: &str, advice: String| FirmwareError::Other {
        file: file.clone(),
        what: what.to_owned(),
        advice,
    };
    match kind(&bytes) {
        Kind::Source => {
            let advice = format!("make a blob of it: dtc -O dtb -o machine.dtb {name}");
            return Err(other("a device tree's source, not the blob", advice));
        }
        Kind::Dump | Kind::Disassembly => {
            return Err(other(
                "an ACPI table's text",
                format!("use {} {name}", asker.other("iort")),
            ));
        }
        Kind::Unknown if bytes.starts_with(b"IORT") => {
            return Err(other("an IORT", format!("use {} {name}", asker.other("iort"))));
        }
        Kind::Unknown => {
            let advice = "give /sys/firmware/fdt, or what dtc -O dtb makes of a source or of \
                          /proc/device-tree";
            return Err(other("no device tree blob", advice.to_owned()));
        }
        Kind::Blob => {}
    }
    let topology = Topology::from_device_tree(&bytes)
        .map_err(|error| FirmwareError::Read(file.clone(), error))?;
    Ok(Firmware { file, topology, about: "device tree".to_owned(), checksum: None })
}

/// What a file seems to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A device tree blob.
    Blob,
    /// A device tree's source.
    Source,
    /// What `acpidump` prints.
    Dump,
    /// What `iasl -d` makes of a table.
    Disassembly,
    /// Anything else.
    Unknown,
}

fn kind(bytes: &[u8]) -> Kind {
    if bytes.starts_with(&[0xd0, 0x0d, 0xfe, 0xed]) {
        return Kind::Blob;
    }
    // Where such a file says what it is.
    let head = bytes.get(..4096).unwrap_or(bytes);
    let has = |text: &str| head.windows(text.len()).any(|window| window == text.as_bytes());
    if has("/dts-v1/") || has("/ {") && has("compatible") {
        Kind::Source
    } else if has("Signature : \"") || has("[000h") {
        Kind::Disassembly
    } else if has(" @ 0x") && has("0000: ") {
        Kind::Dump
    } else {
        Kind::Unknown
    }
}

/// The table of that signature in what `acpidump` prints, or at the end of what `iasl -d` makes of it: a line
/// `IORT @ 0x…` or `Raw Table Data`, then lines of an offset, a colon and 16 bytes, with their characters behind. `None`
/// if there is none.
pub fn dumped_table(bytes: &[u8], signature: &str) -> Option<Vec<u8>> {
    let text = str::from_utf8(bytes).ok()?;
    let begins = |line: &str| {
        line.starts_with("Raw Table Data")
            || line.split_once(" @ ").is_some_and(|(name, _)| name == signature)
    };
    let mut lines = text.lines().skip_while(|line| !begins(line.trim_end()));
    lines.next()?;
    let mut table = Vec::new();
    for line in lines.skip_while(|line| line.trim().is_empty()) {
        let Some((offset, rest)) = line.trim_start().split_once(": ") else { break };
        if usize::from_str_radix(offset, 16) != Ok(table.len()) {
            break;
        }
        // Two digits and a space for each byte; the characters come after.
        let digits = rest.get(..rest.len().min(48))?;
        for byte in digits.split_ascii_whitespace() {
            table.push(u8::from_str_radix(byte, 16).ok()?);
        }
    }
    table.starts_with(signature.as_bytes()).then_some(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_found_among_others_in_a_dump() {
        let dump = "DBG2 @ 0x0000000000000000\n    0000: 44 42 47 32  DBG2\n\n\
                    IORT @ 0x0000000000000000\n\
                    \x20   0000: 49 4F 52 54 EC 02 00 00 03 3F 48 49 53 49 20 20  IORT.....?HISI  \n\
                    \x20   0010: 48 49 50 30 37 20 41 42                          HIP07 AB\n\n\
                    GTDT @ 0x0000000000000000\n    0000: 47 54 44 54  GTDT\n";
        let table = dumped_table(dump.as_bytes(), "IORT").unwrap();
        assert_eq!(table.len(), 24);
        assert_eq!(table, b"IORT\xec\x02\0\0\x03\x3fHISI  HIP07 AB");
        assert_eq!(dumped_table(dump.as_bytes(), "MADT"), None);
        assert_eq!(kind(dump.as_bytes()), Kind::Dump);
    }

    #[test]
    fn a_disassembly_has_the_table_at_its_end() {
        let text = "[000h 0000   4]  Signature : \"IORT\"\n\nRaw Table Data: Length 20 (0x14)\n\n\
                    \x20   0000: 49 4F 52 54 7C 00 00 00 00 07 42 4F 43 48 53 20  // IORT|.....BOCHS\n\
                    \x20   0010: 42 58 50 43                                      // BXPC\n";
        let table = dumped_table(text.as_bytes(), "IORT").unwrap();
        assert_eq!(table, b"IORT|\0\0\0\0\x07BOCHS BXPC");
        assert_eq!(dumped_table(text.as_bytes(), "DSDT"), None);
    }

    #[test]
    fn what_a_file_is_shows_in_its_beginning() {
        assert_eq!(kind(&[0xd0, 0x0d, 0xfe, 0xed, 0]), Kind::Blob);
        assert_eq!(kind(b"/dts-v1/;\n/ {\n};"), Kind::Source);
        assert_eq!(kind(b"[000h 0000   4] Signature : \"IORT\""), Kind::Disassembly);
        assert_eq!(kind(b"IORT\x2c"), Kind::Unknown);
        assert_eq!(kind(b""), Kind::Unknown);
    }
}

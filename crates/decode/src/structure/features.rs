// SPDX-License-Identifier: MIT OR Apache-2.0
//! What Linux found in an instance: the bits of `features 0x...` in its boot log.

use super::decode::{DecodeError, by_name};
use super::decoded::{Decoded, Described, Value};
use super::registers::unknown;
use crate::log::Kernel;

/// What each feature is.
const MEANINGS: &[(&str, &str)] = &[
    ("2_LVL_STRTAB", "2-level stream tables"),
    ("2_LVL_CDTAB", "2-level tables of contexts"),
    ("TT_LE", "little-endian translation tables"),
    ("TT_BE", "big-endian translation tables"),
    ("PRI", "page requests of PCIe devices"),
    ("ATS", "address translation services of PCIe"),
    ("SEV", "wakes processors that wait for a free command slot"),
    ("MSI", "interrupts by messages"),
    ("COHERENCY", "coherent with the processors' caches"),
    ("TRANS_S1", "stage 1"),
    ("TRANS_S2", "stage 2"),
    ("STALLS", "faulting transactions may stall"),
    ("HYP", "streams of EL2"),
    ("STALL_FORCE", "faulting transactions always stall"),
    ("VAX", "52-bit input addresses"),
    ("RANGE_INV", "invalidation of ranges (RIL)"),
    ("BTM", "takes part in the processors' broadcast invalidation"),
    ("SVA", "shares address spaces with processes"),
    ("E2H", "EL2 with two tables and ASIDs"),
    ("NESTING", "both stages at once"),
    ("ATTR_TYPES_OVR", "memory types of transactions can be replaced"),
    ("HA", "sets access flags"),
    ("HD", "marks pages dirty"),
    ("S2FWB", "stage 2 can force write-back"),
    ("BBML1", "block and page sizes can be changed in place, with care"),
    ("BBML2", "block and page sizes can be changed in place"),
    ("HAFT", "sets access flags of tables"),
    ("DS", "52-bit addresses with 4 and 16 KiB (LPA2)"),
    ("ECMDQ", "enhanced command queues"),
    ("MPAM", "memory partitions"),
];

/// The number in `features 0x...`, wherever it stands in a line.
pub(super) fn value(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once("features")?;
    let digits = rest.trim_start_matches([' ', '=', ':']).strip_prefix("0x")?;
    let end = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len());
    u32::from_str_radix(digits.get(..end)?, 16).ok().map(u64::from)
}

/// The features in one word.
pub(super) fn features(words: &[u64], kernel: Kernel) -> Result<Decoded, DecodeError> {
    const NEED: &str = "give the one number that Linux prints: features 0x00008325";
    let value = match words {
        [value] => u32::try_from(*value).ok(),
        _ => None,
    };
    let value = value.ok_or(DecodeError::Registers { given: words.len(), need: NEED })?;
    let mut decoded = unknown("features", u64::from(value));
    let mut described = Vec::new();
    let mut names = Vec::new();
    for bit in (0..32).filter(|bit| value >> bit & 1 == 1) {
        let (found, odd) = crate::log::features(1 << bit, kernel);
        decoded.violations.extend(odd);
        let name = found.into_iter().next().unwrap_or_default();
        let known = MEANINGS.iter().find(|(known, _)| *known == name);
        described.push(Described {
            structure: None,
            name: name.clone(),
            word: 0,
            hi: bit,
            lo: bit,
            value: Value::Bit(true),
            meaning: known.map(|(_, meaning)| (*meaning).to_owned()),
        });
        names.push(name);
    }
    decoded.name = "Linux's features of an SMMU".to_owned();
    decoded.section = "B".to_owned();
    decoded.summary = Some(names.join(" "));
    decoded.by_name = by_name(&described);
    decoded.described = described;
    decoded.assumed.push(match kernel.version {
        Some((major, minor)) => format!("the numbers of Linux {major}.{minor}"),
        None => "the numbers of a recent Linux; --kernel gives another".to_owned(),
    });
    Ok(decoded)
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fields of translation table descriptors (§15). What a MAIR, S2FWB or XNX make of them is asked of
//! [`memory_type`](crate::memory_type) and [`permission`](crate::permission).

use super::Text;
use super::common::*;
use crate::memory_type;

/// What a field of a descriptor is.
pub(super) fn field(name: &str) -> Option<&'static str> {
    Some(match name {
        "Type" => "valid, and table, block or page",
        "AttrIndx" => "memory type: which attribute of MAIR",
        "NS" => "Non-secure output (Secure)",
        "MemAttr" => "memory type",
        "AP" => "access permissions",
        "S2AP" => "access permissions",
        "PIIndex_0" | "PIIndex_1" | "PIIndex_2" | "PIIndex_3" => "permission index, one bit",
        "nDirty" => "not written yet",
        "Dirty" => "written",
        "SH" => "shareability",
        "AF" => "accessed",
        "nG" => "belongs to one address space",
        "OA" => "output address",
        "OA_51_50" => "output address, bits 51:50",
        "OA_51_48" => "output address, bits 51:48",
        "nT" => "being replaced by a table (BBML 1)",
        "GP" => "guarded page (ignored by an SMMU)",
        "DBM" => "dirty bit modifier: hardware may make it writable",
        "Contiguous" => "one of a group that may be cached as one",
        "PXN" => "no privileged execution",
        "UXN" => "no unprivileged execution; none with one privilege",
        "XN" => "execution",
        "Software" => "software's",
        "PBHA" => "page-based hardware attributes, or software's",
        "NextTable" => "address of the next table",
        "NextTable_51_50" => "address of the next table, bits 51:50",
        "NextTable_51_48" => "address of the next table, bits 51:48",
        "PXNTable" => "no privileged execution below",
        "UXNTable" => "no unprivileged execution below",
        "APTable" => "rights taken from everything below",
        "NSTable" => "Non-secure from here on (Secure)",
        _ => return None,
    })
}

/// What a value of a descriptor's field means.
pub(super) fn value(structure: &str, name: &str, value: u64) -> Option<Text> {
    match name {
        "Type" if value & 1 == 0 => plain("invalid"),
        "Type" if structure.contains(" table ") => either(value & 2, "block", "table"),
        "Type" if structure.contains(" page ") => either(value & 2, "reserved: invalid", "page"),
        "Type" => either(value & 2, "block", "table"),
        "MemAttr" => plain(memory_type::stage_2(value, false).unwrap_or("reserved")),
        "AP" => choice(
            value,
            &["privileged read-write", "read-write", "privileged read-only", "read-only"],
        ),
        "S2AP" => choice(value, &["no access", "read-only", "write-only", "read-write"]),
        "SH" => shareability(value),
        "AF" => either(value, "no", "yes"),
        "nG" => either(value, "global", "this ASID"),
        "DBM" | "Contiguous" | "nT" | "nDirty" | "Dirty" => either(value, "no", "yes"),
        "PXN" | "UXN" => either(value, "executable", "not executable"),
        "XN" => choice(
            value,
            &[
                "executable",
                "unprivileged execution alone (executable without XNX)",
                "not executable",
                "privileged execution alone (not executable without XNX)",
            ],
        ),
        "PXNTable" | "UXNTable" => either(value, "nothing taken", "not executable below"),
        "APTable" => choice(
            value,
            &[
                "nothing taken",
                "no unprivileged access",
                "no writes",
                "no writes, no unprivileged access",
            ],
        ),
        _ => None,
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Attributes of a master's accesses that its instance overrides, or of all accesses while that is off (§16.4).

use std::fmt::{self, Write};

use smmuv3::{Access, Caching, Overrides, Privilege, Sharing};

use super::Quirks;
use super::queues::word;
use super::source::Fields;

/// Words for types of memory.
const CACHINGS: [(&str, Option<Caching>); 6] = [
    ("incoming", None),
    ("strict-device", Some(Caching::DeviceNgnrne)),
    ("device", Some(Caching::DeviceNgnre)),
    ("uncached", Some(Caching::NonCacheable)),
    ("write-through", Some(Caching::WriteThrough)),
    ("write-back", Some(Caching::WriteBack)),
];
/// Words for who shares it.
const SHARINGS: [(&str, Option<Sharing>); 4] = [
    ("incoming", None),
    ("none", Some(Sharing::None)),
    ("outer", Some(Sharing::Outer)),
    ("inner", Some(Sharing::Inner)),
];
/// Words for privilege.
const PRIVILEGES: [(&str, Option<Privilege>); 3] = [
    ("incoming", None),
    ("unprivileged", Some(Privilege::Unprivileged)),
    ("privileged", Some(Privilege::Privileged)),
];
/// Words for what reads are for.
const READS: [(&str, Option<Access>); 3] =
    [("incoming", None), ("data", Some(Access::Data)), ("instructions", Some(Access::Instruction))];
/// What caches are to keep, unless the device says: what is read, what is written, and not for long.
type Allocation = Option<(bool, bool, bool)>;

/// Words for that.
const ALLOCATIONS: [(&str, Allocation); 6] = [
    ("incoming", None),
    ("none", Some((false, false, false))),
    ("read", Some((true, false, false))),
    ("write", Some((false, true, false))),
    ("read-write", Some((true, true, false))),
    ("transient", Some((true, true, true))),
];

/// Reads them.
pub(super) fn read(fields: &Fields<'_>) -> Overrides {
    let mut overrides = Overrides::NONE;
    overrides.memory = fields.word("memory-override", &CACHINGS).flatten();
    overrides.sharing = fields.word("sharing-override", &SHARINGS).flatten();
    overrides.allocation = fields.word("allocation-override", &ALLOCATIONS).flatten();
    overrides.privilege = fields.word("privilege-override", &PRIVILEGES).flatten();
    overrides.access = fields.word("read-override", &READS).flatten();
    overrides
}

/// Says of what is overridden that it cannot be, where an SMMU with `quirks` cannot.
pub(super) fn check(fields: &Fields<'_>, overrides: &Overrides, quirks: &Quirks) {
    let (types, permissions) = (quirks.type_overrides, quirks.permission_overrides);
    for (key, wanted, there, needed) in [
        ("memory-override", overrides.memory.is_some(), types, "type-overrides"),
        ("sharing-override", overrides.sharing.is_some(), types, "type-overrides"),
        ("allocation-override", overrides.allocation.is_some(), types, "type-overrides"),
        ("privilege-override", overrides.privilege.is_some(), permissions, "permission-overrides"),
        ("read-override", overrides.access.is_some(), permissions, "permission-overrides"),
    ] {
        if wanted && !there {
            let message = format!("{key} in {} needs an instance with {needed}", fields.what);
            fields.source.wrong_at(fields.places().of(key), message);
        }
    }
}

/// Writes them.
pub(super) fn write(out: &mut String, overrides: &Overrides) -> fmt::Result {
    if overrides.memory.is_some() {
        writeln!(out, "memory-override = \"{}\"", word(&CACHINGS, &overrides.memory))?;
    }
    if overrides.sharing.is_some() {
        writeln!(out, "sharing-override = \"{}\"", word(&SHARINGS, &overrides.sharing))?;
    }
    if overrides.allocation.is_some() {
        let word = word(&ALLOCATIONS, &overrides.allocation);
        writeln!(out, "allocation-override = \"{word}\"")?;
    }
    if overrides.privilege.is_some() {
        writeln!(out, "privilege-override = \"{}\"", word(&PRIVILEGES, &overrides.privilege))?;
    }
    if overrides.access.is_some() {
        writeln!(out, "read-override = \"{}\"", word(&READS, &overrides.access))?;
    }
    Ok(())
}

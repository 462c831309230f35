// SPDX-License-Identifier: MIT OR Apache-2.0
//! Attributes of a master's accesses that its instance overrides (§16.4).

use std::fmt::{self, Write};

use smmuv3::{Caching, Overrides, Privilege, Sharing};

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

/// Reads them.
pub(super) fn read(fields: &Fields<'_>) -> Overrides {
    let mut overrides = Overrides::NONE;
    overrides.memory = fields.word("memory-override", &CACHINGS).flatten();
    overrides.sharing = fields.word("sharing-override", &SHARINGS).flatten();
    overrides.privilege = fields.word("privilege-override", &PRIVILEGES).flatten();
    overrides
}

/// Writes them.
pub(super) fn write(out: &mut String, overrides: &Overrides) -> fmt::Result {
    if overrides.memory.is_some() {
        writeln!(out, "memory-override = \"{}\"", word(&CACHINGS, &overrides.memory))?;
    }
    if overrides.sharing.is_some() {
        writeln!(out, "sharing-override = \"{}\"", word(&SHARINGS, &overrides.sharing))?;
    }
    if overrides.privilege.is_some() {
        writeln!(out, "privilege-override = \"{}\"", word(&PRIVILEGES, &overrides.privilege))?;
    }
    Ok(())
}

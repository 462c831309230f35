// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a mapping allows (§16.1, §16.2).

use core::fmt;

use smmuv3_formats::descriptor::{Stage1Page, Stage1Table, Stage2Page};

use crate::access::Access;
use crate::tables::{Stage1, Stage2};

/// What an access may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rights {
    /// Read data.
    pub read: bool,
    /// Write.
    pub write: bool,
    /// Read instructions.
    pub execute: bool,
}

impl Rights {
    /// All of them.
    pub const ALL: Self = Self { read: true, write: true, execute: true };

    /// What both allow.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            read: self.read && other.read,
            write: self.write && other.write,
            execute: self.execute && other.execute,
        }
    }
}

/// As `ls` shows them: `rw-`.
impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = |set, letter| if set { letter } else { '-' };
        write!(
            f,
            "{}{}{}",
            letter(self.read, 'r'),
            letter(self.write, 'w'),
            letter(self.execute, 'x')
        )
    }
}

/// Rights of privileged and of unprivileged accesses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Permissions {
    /// Of privileged accesses.
    pub privileged: Rights,
    /// Of the others, which is what PCIe devices do without PASID.
    pub unprivileged: Rights,
}

impl Permissions {
    /// Everything.
    pub const ALL: Self = Self { privileged: Rights::ALL, unprivileged: Rights::ALL };

    /// What both allow.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            privileged: self.privileged.and(other.privileged),
            unprivileged: self.unprivileged.and(other.unprivileged),
        }
    }

    /// Whether they allow `access`.
    pub const fn allow(&self, access: &Access) -> bool {
        let rights = if access.privileged { &self.privileged } else { &self.unprivileged };
        if access.write {
            rights.write
        } else if access.instruction {
            rights.execute
        } else {
            rights.read
        }
    }

    /// Whether some access may write.
    pub const fn write(&self) -> bool {
        self.privileged.write || self.unprivileged.write
    }

    /// Whether something that can be written can also be executed.
    pub const fn write_and_execute(&self) -> bool {
        self.write() && (self.privileged.execute || self.unprivileged.execute)
    }
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.privileged == self.unprivileged {
            write!(f, "{}", self.privileged)
        } else {
            write!(f, "privileged {}, unprivileged {}", self.privileged, self.unprivileged)
        }
    }
}

/// What the table descriptors on the way take away (§15.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Limits {
    pub(crate) no_unprivileged: bool,
    pub(crate) no_write: bool,
    pub(crate) uxn: bool,
    pub(crate) pxn: bool,
}

impl Limits {
    pub(crate) fn below(self, table: &Stage1Table) -> Self {
        Self {
            no_unprivileged: self.no_unprivileged || table.ap_table() & 0b01 != 0,
            no_write: self.no_write || table.ap_table() & 0b10 != 0,
            uxn: self.uxn || table.uxn_table(),
            pxn: self.pxn || table.pxn_table(),
        }
    }
}

/// Whether a write makes hardware mark the leaf as written: it is read-only by its own AP alone, and DBM is set
/// (§14).
pub(crate) fn stage_1_writable_clean(leaf: &Stage1Page, limits: Limits, stage: &Stage1) -> bool {
    stage.tables.dirty && leaf.dbm() && leaf.ap() & 0b10 != 0 && !limits.no_write
}

/// What a leaf of stage 1 allows below its tables (§16.1).
pub(crate) fn stage_1(leaf: &Stage1Page, limits: Limits, stage: &Stage1) -> Permissions {
    let writable = leaf.ap() & 0b10 == 0 || stage_1_writable_clean(leaf, limits, stage);
    let write = writable && !limits.no_write;
    if stage.one_privilege {
        // AP[1] is RES1 and XN is where UXN is elsewhere.
        let xn = leaf.uxn() || limits.uxn || stage.wxn && write;
        let rights = Rights { read: true, write, execute: !xn };
        return Permissions { privileged: rights, unprivileged: rights };
    }
    let open = leaf.ap() & 0b01 != 0 && !limits.no_unprivileged;
    let (uxn, pxn) = (leaf.uxn() || limits.uxn, leaf.pxn() || limits.pxn);
    let unprivileged =
        Rights { read: open, write: open && write, execute: !uxn && !(stage.wxn && open && write) };
    let mut privileged = Rights {
        read: true,
        write,
        // What anybody can write is not executed with privilege.
        execute: !pxn && !unprivileged.write && !(stage.wxn && write),
    };
    if stage.pan && (open || stage.epan && !uxn) {
        privileged.read = false;
        privileged.write = false;
    }
    Permissions { privileged, unprivileged }
}

/// Whether a write makes hardware mark the leaf of stage 2 as written (§14).
pub(crate) fn stage_2_writable_clean(leaf: &Stage2Page, stage: &Stage2) -> bool {
    stage.tables.dirty && leaf.dbm() && leaf.s2ap() & 0b10 == 0
}

/// What a leaf of stage 2 allows (§16.2). Execution needs the right to read as well.
pub(crate) fn stage_2(leaf: &Stage2Page, stage: &Stage2) -> Permissions {
    let read = leaf.s2ap() & 0b01 != 0;
    let write = leaf.s2ap() & 0b10 != 0 || stage_2_writable_clean(leaf, stage);
    let (privileged, unprivileged) = match (stage.xnx, leaf.xn()) {
        (true, 0b00) => (true, true),
        (true, 0b01) => (false, true),
        (true, 0b11) => (true, false),
        (true, _) => (false, false),
        // XN[0] is not there.
        (false, xn) => (xn & 0b10 == 0, xn & 0b10 == 0),
    };
    let rights = |execute: bool| Rights { read, write, execute: execute && read };
    Permissions { privileged: rights(privileged), unprivileged: rights(unprivileged) }
}

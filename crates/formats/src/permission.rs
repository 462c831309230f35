// SPDX-License-Identifier: MIT OR Apache-2.0
//! What translations permit (§16.1, §16.2): directly, by bits of the leaf, and at stage 1 indirectly, by an
//! index into CD.PIIP and CD.PIIU (CD.PIE). What the indices of STE.S2PIE permit is in a register, S2PII.

use core::fmt;

use crate::descriptor::{Stage1Page, Stage1PageIndirect, Stage1Table, Stage2Page};

/// What one kind of software may do. Written `rwx` with `-` for what it may not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rights {
    /// Data reads.
    pub read: bool,
    /// Writes.
    pub write: bool,
    /// Instruction reads, which need no other right.
    pub execute: bool,
}

impl Rights {
    /// What both permit.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            read: self.read && other.read,
            write: self.write && other.write,
            execute: self.execute && other.execute,
        }
    }
}

/// `rw-`.
impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = [(self.read, "r"), (self.write, "w"), (self.execute, "x")];
        letters
            .iter()
            .try_for_each(|(given, letter)| f.write_str(if *given { letter } else { "-" }))
    }
}

/// What a translation permits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Permissions {
    /// To privileged transactions.
    pub privileged: Rights,
    /// To unprivileged ones.
    pub unprivileged: Rights,
}

impl Permissions {
    /// What both permit: stage 1 and stage 2 together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            privileged: self.privileged.and(other.privileged),
            unprivileged: self.unprivileged.and(other.unprivileged),
        }
    }

    /// What is permitted to one of them.
    pub const fn of(&self, privileged: bool) -> Rights {
        if privileged { self.privileged } else { self.unprivileged }
    }
}

/// `privileged rw-, unprivileged r--`, or once `rw-` when both are the same.
impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { privileged, unprivileged } = self;
        if privileged == unprivileged {
            return privileged.fmt(f);
        }
        write!(f, "privileged {privileged}, unprivileged {unprivileged}")
    }
}

/// What the tables above a leaf take from it at stage 1 (§15.2, §16.1), unless CD.HADx is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Limits {
    /// `APTable[0]`: no unprivileged data access.
    pub no_unprivileged: bool,
    /// `APTable[1]`: no write.
    pub no_write: bool,
    /// UXNTable (XNTable with one privilege): no unprivileged execution.
    pub uxn: bool,
    /// PXNTable: no privileged execution.
    pub pxn: bool,
}

impl Limits {
    /// Nothing is taken.
    pub const NONE: Self = Self { no_unprivileged: false, no_write: false, uxn: false, pxn: false };

    /// What one table descriptor of stage 1 takes.
    pub const fn of_table(descriptor: u64) -> Self {
        let table = Stage1Table([descriptor]);
        Self {
            no_unprivileged: table.ap_table() & 0b01 != 0,
            no_write: table.ap_table() & 0b10 != 0,
            uxn: table.uxn_table(),
            pxn: table.pxn_table(),
        }
    }

    /// What two tables take together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self {
            no_unprivileged: self.no_unprivileged || other.no_unprivileged,
            no_write: self.no_write || other.no_write,
            uxn: self.uxn || other.uxn,
            pxn: self.pxn || other.pxn,
        }
    }
}

/// How a CD makes stage-1 permissions count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Regime {
    /// StreamWorld EL2: one privilege, which `AP[1]` and PXN do not tell apart. Both kinds of transaction have
    /// the same rights.
    pub one_privilege: bool,
    /// CD.WXN: what is writable is not executable.
    pub wxn: bool,
    /// CD.PAN: no privileged data access to what unprivileged transactions may access.
    pub pan: bool,
    /// CD.EPAN: nor to what they may execute.
    pub epan: bool,
    /// Hardware marks pages dirty (HA and HD): DBM makes a read-only leaf writable (§14).
    pub dirty: bool,
}

/// What a stage-1 leaf permits below tables that take `limits` (§16.1).
pub const fn stage_1(leaf: u64, limits: Limits, regime: &Regime) -> Permissions {
    let leaf = Stage1Page([leaf]);
    let writable = leaf.ap() & 0b10 == 0 || regime.dirty && leaf.dbm();
    let write = writable && !limits.no_write;
    let uxn = leaf.uxn() || limits.uxn;
    if regime.one_privilege {
        let rights = Rights { read: true, write, execute: !(uxn || regime.wxn && write) };
        return Permissions { privileged: rights, unprivileged: rights };
    }
    let open = leaf.ap() & 0b01 != 0 && !limits.no_unprivileged;
    let unprivileged =
        Rights { read: open, write: open && write, execute: !(uxn || regime.wxn && open && write) };
    let pxn = leaf.pxn() || limits.pxn;
    let hidden = regime.pan && (open || regime.epan && !uxn);
    let privileged = Rights {
        read: !hidden,
        write: write && !hidden,
        // What unprivileged software can write is never run with privilege.
        execute: !(pxn || unprivileged.write || regime.wxn && write),
    };
    Permissions { privileged, unprivileged }
}

/// What entry `index` (0 to 15) of PIIP or PIIU permits (§6); `None` for a reserved code and beyond the end.
pub const fn indirect(codes: u64, index: u32) -> Option<Rights> {
    if index > 15 {
        return None;
    }
    let (read, write, execute) = match codes >> (3 * index) & 0b111 {
        0b000 => (false, false, false),
        0b001 => (true, false, false),
        0b010 => (false, false, true),
        0b011 => (true, false, true),
        0b101 => (true, true, false),
        0b111 => (true, true, true),
        _ => return None,
    };
    Some(Rights { read, write, execute })
}

/// What a stage-1 leaf permits where permissions are indirect, by CD.PIIP and CD.PIIU (§15.3, §6); `None` for a
/// reserved code, which makes a CD illegal. Tables take nothing then; WXN and EPAN mean nothing.
/// A leaf that is not dirty (nDirty) permits no write unless hardware marks it.
pub fn stage_1_indirect(leaf: u64, piip: u64, piiu: u64, regime: &Regime) -> Option<Permissions> {
    let leaf = Stage1PageIndirect([leaf]);
    let index = u32::from(leaf.pi_index_0())
        | u32::from(leaf.pi_index_1()) << 1
        | u32::from(leaf.pi_index_2()) << 2
        | u32::from(leaf.pi_index_3()) << 3;
    let clean = leaf.n_dirty() && !regime.dirty;
    let written = |rights: Rights| Rights { write: rights.write && !clean, ..rights };
    let privileged = indirect(piip, index)?;
    if regime.one_privilege {
        let rights = written(privileged);
        return Some(Permissions { privileged: rights, unprivileged: rights });
    }
    let unprivileged = indirect(piiu, index)?;
    let hidden = regime.pan && unprivileged != Rights::default();
    let privileged =
        if hidden { Rights { read: false, write: false, ..privileged } } else { privileged };
    Some(Permissions { privileged: written(privileged), unprivileged: written(unprivileged) })
}

/// What a stage-2 leaf permits (§16.2): `xnx` is IDR3.XNX, without which both privileges are alike; `dirty`
/// says that hardware marks pages dirty (S2HA and S2HD), so that DBM makes a read-only leaf writable (§14).
/// Execution needs no other right, as at stage 1: the AArch64 format has execute-only leaves at stage 2, too. An
/// AArch32 one does not.
pub const fn stage_2(leaf: u64, xnx: bool, dirty: bool) -> Permissions {
    let leaf = Stage2Page([leaf]);
    let (read, write) = (leaf.s2ap() & 0b01 != 0, leaf.s2ap() & 0b10 != 0 || dirty && leaf.dbm());
    let xn = leaf.xn();
    let (privileged, unprivileged) = match xn {
        _ if !xnx => (xn & 0b10 == 0, xn & 0b10 == 0),
        0b00 => (true, true),
        0b01 => (false, true),
        0b10 => (false, false),
        _ => (true, false),
    };
    Permissions {
        privileged: Rights { read, write, execute: privileged },
        unprivileged: Rights { read, write, execute: unprivileged },
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What mappings allow to an access (§14, §16).

use smmuv3_formats::descriptor::{Stage1Page, Stage1PageIndirect, Stage2Page};
use smmuv3_formats::permission::{self, Limits, Permissions, Rights};

use crate::access::Access;
use crate::tables::{Stage1, Stage2};

/// Everything.
pub(crate) const ALL: Permissions = Permissions { privileged: EVERY, unprivileged: EVERY };
const EVERY: Rights = Rights { read: true, write: true, execute: true };

/// Whether they allow `access`.
pub(crate) const fn allow(permissions: &Permissions, access: &Access) -> bool {
    let rights = permissions.of(access.privileged);
    if access.write {
        rights.write
    } else if access.instruction {
        rights.execute
    } else {
        rights.read
    }
}

/// Whether somebody may write.
pub(crate) const fn writable(permissions: &Permissions) -> bool {
    permissions.privileged.write || permissions.unprivileged.write
}

/// What a leaf of stage 1 allows below its tables (§16.1), or by its index (§15.3).
pub(crate) fn stage_1(leaf: u64, limits: Limits, stage: &Stage1) -> Permissions {
    if stage.tables.form.pie {
        // A reserved code makes the CD illegal, so none is met here.
        return permission::stage_1_indirect(leaf, stage.piip, stage.piiu, &stage.regime)
            .unwrap_or_default();
    }
    permission::stage_1(leaf, limits, &stage.regime)
}

/// What a leaf of stage 2 allows (§16.2).
pub(crate) fn stage_2(leaf: u64, stage: &Stage2) -> Permissions {
    permission::stage_2(leaf, stage.xnx, stage.tables.dirty)
}

/// Whether a write that is allowed makes hardware mark the leaf as written: it is read-only by its own AP alone,
/// and DBM is set (§14); or its index permits the write, and nDirty is set (§15.3).
pub(crate) fn stage_1_writable_clean(leaf: u64, limits: Limits, stage: &Stage1) -> bool {
    if stage.tables.form.pie {
        return stage.tables.dirty && Stage1PageIndirect([leaf]).n_dirty();
    }
    let leaf = Stage1Page([leaf]);
    stage.tables.dirty && leaf.dbm() && leaf.ap() & 0b10 != 0 && !limits.no_write
}

/// Whether a write makes hardware mark the leaf of stage 2 as written (§14).
pub(crate) fn stage_2_writable_clean(leaf: u64, stage: &Stage2) -> bool {
    let leaf = Stage2Page([leaf]);
    stage.tables.dirty && leaf.dbm() && leaf.s2ap() & 0b10 == 0
}

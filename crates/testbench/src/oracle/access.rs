// SPDX-License-Identifier: MIT OR Apache-2.0
//! What accesses are for, and which mappings permit them (§16.1, §16.2).

use std::fmt;

use smmuv3_model::Access;

use super::{Oracle, Page};
use crate::scenario::Rights;

/// What an access is for, as the device says (RnW, InD).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessKind {
    /// A read of data.
    Read,
    /// A write, which is always of data.
    Write,
    /// A read of instructions.
    Fetch,
}

impl From<bool> for AccessKind {
    /// A write, or a read of data.
    fn from(write: bool) -> Self {
        if write { Self::Write } else { Self::Read }
    }
}

impl fmt::Display for AccessKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Fetch => "fetch",
        })
    }
}

impl AccessKind {
    /// What `access` is.
    pub const fn of(access: &Access) -> Self {
        match (access.write, access.instruction) {
            (true, _) => Self::Write,
            (false, true) => Self::Fetch,
            (false, false) => Self::Read,
        }
    }

    /// Such an access of a stream, unprivileged and without a substream.
    pub const fn access(self, stream: u32, address: u64) -> Access {
        let mut access = match self {
            Self::Write => Access::write(stream, address),
            Self::Read | Self::Fetch => Access::read(stream, address),
        };
        access.instruction = matches!(self, Self::Fetch);
        access
    }

    /// What the SMMU takes it for, where its stream says what `reads` are for (STE.INSTCFG).
    #[must_use]
    pub const fn taken_as(self, reads: Option<smmuv3::Access>) -> Self {
        match (self, reads) {
            (Self::Read, Some(smmuv3::Access::Instruction)) => Self::Fetch,
            (Self::Fetch, Some(smmuv3::Access::Data)) => Self::Read,
            (kind, _) => kind,
        }
    }

    /// Whether `page` permits it, of tables of stage 2 or else of stage 1 with two privileges. Nobody executes with privilege
    /// what others may write: at stage 1 that holds whatever is mapped.
    pub fn is_permitted(self, page: &Page, stage_2: bool, privileged: bool) -> bool {
        let open = privileged || page.rights != Rights::Privileged;
        match self {
            Self::Read => open,
            Self::Write => open && page.write,
            Self::Fetch => {
                let executed = match page.rights {
                    Rights::Data | Rights::Privileged => false,
                    Rights::Code => true,
                    Rights::UserCode => !privileged,
                    Rights::PrivilegedCode => privileged,
                };
                executed && !(privileged && page.write && !stage_2)
            }
        }
    }
}

impl Oracle {
    /// Whether tables of `space`, which is there, are those of stage 2. Those of a guest are of stage 1.
    pub(crate) fn is_stage_2(&self, space: usize) -> bool {
        self.shape(space).stage_2 && self.over(space).is_none()
    }

    /// What the accesses of a master are taken for that the device calls `kind`.
    pub(crate) fn taken_as(&self, master: usize, kind: AccessKind) -> AccessKind {
        kind.taken_as(self.masters.get(master).and_then(|it| it.overrides.access))
    }

    /// Whether the device of a master may read instructions with `substream`. What has ATS says so in the prefix with its
    /// PASID, and where its addresses are intermediate, nothing later says it again (§12.2).
    pub fn fetches(&self, master: usize, substream: Option<u32>) -> bool {
        self.masters.get(master).is_some_and(|it| !it.split && (!it.keeps || substream.is_some()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::MemoryKind;

    /// §16.1, §16.2: by rights, whether {unprivileged, privileged} accesses read instructions of a page that may not be
    /// written, at either stage.
    #[test]
    fn who_executes_is_told_by_privilege() {
        for (rights, wanted) in [
            (Rights::Data, [false, false]),
            (Rights::Code, [true, true]),
            (Rights::UserCode, [true, false]),
            (Rights::PrivilegedCode, [false, true]),
            (Rights::Privileged, [false, false]),
        ] {
            let page =
                |write| Page { pa: 0, write, kind: MemoryKind::Normal, rights, changing: false };
            for stage_2 in [false, true] {
                let fetched = |write| {
                    [false, true].map(|privileged| {
                        AccessKind::Fetch.is_permitted(&page(write), stage_2, privileged)
                    })
                };
                assert_eq!(fetched(false), wanted, "{rights:?}");
                // What all may write nobody executes with privilege, at stage 1.
                let [user, privileged] = wanted;
                assert_eq!(fetched(true), [user, privileged && stage_2], "{rights:?}");
            }
            let reads = |kind: AccessKind| kind.is_permitted(&page(true), false, false);
            assert_eq!(reads(AccessKind::Read), rights != Rights::Privileged);
            assert_eq!(reads(AccessKind::Write), rights != Rights::Privileged);
        }
    }

    #[test]
    fn a_stream_says_what_reads_are_for_and_writes_are_of_data() {
        use AccessKind::{Fetch, Read, Write};
        use smmuv3::Access::{Data, Instruction};
        for (reads, wanted) in [
            (None, [Read, Write, Fetch]),
            (Some(Data), [Read, Write, Read]),
            (Some(Instruction), [Fetch, Write, Fetch]),
        ] {
            assert_eq!([Read, Write, Fetch].map(|kind| kind.taken_as(reads)), wanted);
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an SMMU makes of attributes that come with transactions (§16.4): of a master's, by its stream table entries, and of
//! everybody's while the SMMU is off, by GBPA (§2.4).

use core::fmt;

#[cfg(any(feature = "alloc", test))]
use smmuv3_formats::Ste;
use smmuv3_formats::register::Gbpa;

use crate::features::Features;

/// Who shares what is accessed (SHCFG).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Nobody.
    None = 0,
    /// Observers of the outer shareable domain.
    Outer = 2,
    /// Those of the inner one.
    Inner = 3,
}

/// Which type of memory it is taken for (MTCFG, MemAttr as stage 2 has it).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caching {
    /// Device-nGnRnE.
    DeviceNgnrne = 0b0000,
    /// Device-nGnRE.
    DeviceNgnre = 0b0001,
    /// Normal, non-cacheable.
    NonCacheable = 0b0101,
    /// Normal, write-through.
    WriteThrough = 0b1010,
    /// Normal, write-back.
    WriteBack = 0b1111,
}

/// With which privilege (PRIVCFG).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// Unprivileged.
    Unprivileged = 2,
    /// Privileged.
    Privileged = 3,
}

/// What reads are for (INSTCFG); writes are always of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Data.
    Data = 2,
    /// Instructions.
    Instruction = 3,
}

/// Attributes in place of those that come with a transaction; what is `None` stays as it comes.
///
/// `memory`, `sharing` and `allocation` concern what is not translated: a master that is attached to identity
/// ([`Iommu::attach_identity`](crate::Iommu::attach_identity)), also where its PASIDs are translated. Translated accesses have those of their
/// mapping. For devices of PCI they are implementation defined. `privilege` and `access` come before translation and concern all,
/// also under a guest's stage 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Overrides {
    /// The type of memory.
    pub memory: Option<Caching>,
    /// Who shares it.
    pub sharing: Option<Sharing>,
    /// Hints for caches: allocate for reads, allocate for writes, transient (ALLOCCFG).
    pub allocation: Option<(bool, bool, bool)>,
    /// Privilege.
    pub privilege: Option<Privilege>,
    /// What reads are for.
    pub access: Option<Access>,
}

/// The SMMU cannot override what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverrideError {
    /// Memory type, sharing, allocation: IDR1.ATTR_TYPES_OVR is 0.
    Types,
    /// Privilege and instruction: IDR1.ATTR_PERMS_OVR is 0.
    Permissions,
}

impl fmt::Display for OverrideError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Types => "types of memory cannot be overridden (IDR1.ATTR_TYPES_OVR)",
            Self::Permissions => "privilege cannot be overridden (IDR1.ATTR_PERMS_OVR)",
        })
    }
}

impl core::error::Error for OverrideError {}

/// SHCFG: as it comes.
pub(crate) const AS_INCOMING: u64 = 1;

impl Overrides {
    /// Everything as it comes.
    pub const NONE: Self =
        Self { memory: None, sharing: None, allocation: None, privilege: None, access: None };

    /// With this type of memory.
    #[must_use]
    pub const fn with_memory(mut self, memory: Caching) -> Self {
        self.memory = Some(memory);
        self
    }

    /// Shared so.
    #[must_use]
    pub const fn with_sharing(mut self, sharing: Sharing) -> Self {
        self.sharing = Some(sharing);
        self
    }

    /// With these hints: allocate for reads, for writes, transient.
    #[must_use]
    pub const fn with_allocation(mut self, read: bool, write: bool, transient: bool) -> Self {
        self.allocation = Some((read, write, transient));
        self
    }

    /// With this privilege.
    #[must_use]
    pub const fn with_privilege(mut self, privilege: Privilege) -> Self {
        self.privilege = Some(privilege);
        self
    }

    /// With reads taken for this.
    #[must_use]
    pub const fn with_access(mut self, access: Access) -> Self {
        self.access = Some(access);
        self
    }

    /// Whether an SMMU with `features` can do that.
    ///
    /// # Errors
    /// What it cannot override.
    pub fn fits(&self, features: &Features) -> Result<(), OverrideError> {
        let Self { memory, sharing, allocation, privilege, access } = self;
        let types = memory.is_some() || sharing.is_some() || allocation.is_some();
        if types && !features.type_overrides {
            return Err(OverrideError::Types);
        }
        if (privilege.is_some() || access.is_some()) && !features.permission_overrides {
            return Err(OverrideError::Permissions);
        }
        Ok(())
    }

    /// ALLOCCFG: 1RWT, or 0.
    fn alloc_cfg(&self) -> u64 {
        let bits = |(read, write, transient)| {
            1 << 3 | u64::from(read) << 2 | u64::from(write) << 1 | u64::from(transient)
        };
        self.allocation.map_or(0, bits)
    }

    #[cfg(any(feature = "alloc", test))]
    fn sh_cfg(&self) -> u64 {
        self.sharing.map_or(AS_INCOMING, |sharing| sharing as u64)
    }

    #[cfg(any(feature = "alloc", test))]
    /// An entry that has them. `bypass`: what has no substream is not translated. An entry that aborts stays as it is.
    #[must_use]
    pub(crate) fn on(&self, ste: Ste, bypass: bool) -> Ste {
        if ste.config() & 0b100 == 0 {
            return ste;
        }
        let ste = ste
            .with_priv_cfg(self.privilege.map_or(0, |privilege| privilege as u64))
            .with_inst_cfg(self.access.map_or(0, |access| access as u64));
        if !bypass {
            return ste;
        }
        ste.with_mt_cfg(self.memory.is_some())
            .with_mem_attr(self.memory.map_or(0, |memory| memory as u64))
            .with_alloc_cfg(self.alloc_cfg())
            .with_sh_cfg(self.sh_cfg())
    }
}

/// What transactions do while their SMMU is off (§2.4).
///
/// [`WhileOff::ABORT`] unless somebody asks for more. While an SMMU is being enabled or reset everything aborts in any
/// case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WhileOff {
    bypass: Option<Overrides>,
}

impl WhileOff {
    /// They abort.
    pub const ABORT: Self = Self { bypass: None };

    /// They reach all memory, with these attributes.
    ///
    /// # Safety
    /// Devices behind an SMMU that is configured so only access memory that they were given, whenever it is stopped,
    /// removed or suspended.
    pub const unsafe fn bypass(overrides: Overrides) -> Self {
        Self { bypass: Some(overrides) }
    }

    /// Whether they abort.
    pub const fn aborts(&self) -> bool {
        self.bypass.is_none()
    }

    /// What a driver that is wrong on purpose does instead.
    pub(crate) fn without_attributes(self) -> Self {
        Self { bypass: self.bypass.map(|_| Overrides::NONE) }
    }

    pub(crate) fn fits(&self, features: &Features) -> Result<(), OverrideError> {
        self.bypass.map_or(Ok(()), |overrides| overrides.fits(features))
    }

    /// `gbpa` changed so. What is not said stays as firmware, or a reset, left it.
    pub(crate) fn on(self, gbpa: Gbpa) -> Gbpa {
        let Some(overrides) = self.bypass else { return gbpa.with_abort(true) };
        let mut gbpa = gbpa.with_abort(false);
        if let Some(memory) = overrides.memory {
            gbpa = gbpa.with_mt_cfg(true).with_mem_attr(memory as u64);
        }
        if let Some(sharing) = overrides.sharing {
            gbpa = gbpa.with_sh_cfg(sharing as u64);
        }
        if overrides.allocation.is_some() {
            gbpa = gbpa.with_alloc_cfg(overrides.alloc_cfg());
        }
        if let Some(privilege) = overrides.privilege {
            gbpa = gbpa.with_priv_cfg(privilege as u64);
        }
        if let Some(access) = overrides.access {
            gbpa = gbpa.with_inst_cfg(access as u64);
        }
        gbpa
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::IdRegisters;
    use smmuv3_formats::register::{Aidr, Idr0, Idr1, Idr3, Idr5};

    fn features(types: bool, permissions: bool) -> Features {
        Features::decode(IdRegisters {
            idr0: Idr0(0x0d44_101b),
            idr1: Idr1(0x0273_0010).with_attr_types_ovr(types).with_attr_perms_ovr(permissions),
            idr3: Idr3(0x1414),
            idr5: Idr5(0x74),
            aidr: Aidr(1),
            ..IdRegisters::default()
        })
        .unwrap()
    }

    const ALL: Overrides = Overrides::NONE
        .with_memory(Caching::NonCacheable)
        .with_sharing(Sharing::Inner)
        .with_allocation(true, false, true)
        .with_privilege(Privilege::Privileged)
        .with_access(Access::Data);

    /// §5.2: MemAttr w1[35:32], MTCFG 36, ALLOCCFG [40:37], SHCFG [45:44], PRIVCFG [49:48], INSTCFG [51:50].
    #[test]
    fn an_entry_that_bypasses_says_all_of_it_and_one_that_translates_what_comes_before() {
        let bypass = Ste([0b1001, 1 << 44, 0, 0, 0, 0, 0, 0]);
        let permissions = 3 << 48 | 2 << 50;
        let types = 0b0101 << 32 | 1 << 36 | 0b1101 << 37 | 3 << 44;
        assert_eq!(ALL.on(bypass, true).0[..2], [0b1001, permissions | types]);
        assert_eq!(Overrides::NONE.on(bypass, true), bypass);
        let stage_1 = Ste([0x8002_000b, 0xd4, 0, 0, 0, 0, 0, 0]);
        assert_eq!(ALL.on(stage_1, false).0[..2], [0x8002_000b, 0xd4 | permissions]);
        assert_eq!(Overrides::NONE.on(stage_1, false), stage_1);
        let abort = Ste([1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(ALL.on(abort, false), abort);
    }

    /// §2.4: MemAttr [3:0], MTCFG 4, ALLOCCFG [11:8], SHCFG [13:12], PRIVCFG [17:16], INSTCFG [19:18], ABORT 20.
    #[test]
    fn gbpa_keeps_what_is_not_said() {
        let reset = Gbpa(1 << 12 | 1 << 20);
        assert_eq!(WhileOff::ABORT.on(Gbpa(1 << 12)).0, 1 << 12 | 1 << 20);
        // SAFETY: no device.
        let bypass = |overrides| unsafe { WhileOff::bypass(overrides) };
        assert_eq!(bypass(Overrides::NONE).on(reset).0, 1 << 12);
        assert_eq!(bypass(ALL).on(reset).0, 0xb_3d15);
    }

    #[test]
    fn what_the_smmu_cannot_override_is_refused_by_name() {
        let types = Overrides::NONE.with_sharing(Sharing::Outer);
        let permissions = Overrides::NONE.with_access(Access::Instruction);
        assert_eq!(types.fits(&features(false, true)), Err(OverrideError::Types));
        assert_eq!(permissions.fits(&features(true, false)), Err(OverrideError::Permissions));
        assert_eq!(ALL.fits(&features(true, true)), Ok(()));
        assert_eq!(Overrides::NONE.fits(&features(false, false)), Ok(()));
    }
}

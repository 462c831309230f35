// SPDX-License-Identifier: MIT OR Apache-2.0
//! Settings of all SMMUs together.

use core::fmt;

use crate::asid::{AsidPolicy, Cpu, Vmids};
use crate::shared::NoMemory;

/// Settings of an [`Iommu`](crate::Iommu).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// How ASIDs are chosen.
    pub asid_policy: AsidPolicy,
    /// The VMIDs that [`AsidPolicy::Banked`] may use as banks, beside the CPU's: nobody else uses them on any of
    /// the instances. Those that an instance is too narrow for are left out there.
    pub banks: Vmids,
    /// The VMIDs that domains of stage 2 may be given, but for those that are banks, the CPU's, or the hypervisor's.
    /// Those that an instance is too narrow for are left out there.
    pub stage_2_vmids: Vmids,
    /// The VMIDs that a hypervisor gives its guests, which [`DomainConfig::vmid`](crate::DomainConfig::vmid) may name. One that is a bank, or the
    /// CPU's, is not among them.
    pub hypervisor_vmids: Vmids,
    /// The CPUs whose processes devices may share.
    pub cpu: Cpu,
    /// Bits of the PASIDs that are given out: 6 to 20, or it is refused ([`IommuError::PasidBits`]).
    pub pasid_bits: u32,
    /// A step to leave out: for tests of the oracle only.
    #[cfg(feature = "mutation")]
    pub mutation: Option<crate::Mutation>,
}

/// An ASID of its own for each domain on each instance; VMIDs 1 to 255 for banks, all that are left for stage 2, none for
/// the hypervisor; CPUs with 16-bit ASIDs, a kernel in
/// EL1, and VMID 0; PASIDs of 16 bits.
impl Default for Config {
    fn default() -> Self {
        Self {
            asid_policy: AsidPolicy::PerInstance,
            banks: Vmids { first: 1, last: 255 },
            stage_2_vmids: Vmids { first: 1, last: u16::MAX },
            hypervisor_vmids: Vmids::NONE,
            cpu: Cpu { asid_bits: 16, el2_host: false, vmid: 0 },
            pasid_bits: 16,
            #[cfg(feature = "mutation")]
            mutation: None,
        }
    }
}

impl Config {
    /// With ASIDs chosen in that way.
    #[must_use]
    pub const fn with_asid_policy(mut self, policy: AsidPolicy) -> Self {
        self.asid_policy = policy;
        self
    }

    /// With these VMIDs for banks.
    #[must_use]
    pub const fn with_banks(mut self, banks: Vmids) -> Self {
        self.banks = banks;
        self
    }

    /// With these VMIDs for domains of stage 2.
    #[must_use]
    pub const fn with_stage_2_vmids(mut self, vmids: Vmids) -> Self {
        self.stage_2_vmids = vmids;
        self
    }

    /// With these VMIDs for the hypervisor's guests.
    #[must_use]
    pub const fn with_hypervisor_vmids(mut self, vmids: Vmids) -> Self {
        self.hypervisor_vmids = vmids;
        self
    }

    /// With these CPUs.
    #[must_use]
    pub const fn with_cpu(mut self, cpu: Cpu) -> Self {
        self.cpu = cpu;
        self
    }

    /// With PASIDs of `bits` bits, 6 to 20.
    #[must_use]
    pub const fn with_pasid_bits(mut self, bits: u32) -> Self {
        self.pasid_bits = bits;
        self
    }

    /// With that step left out.
    #[cfg(feature = "mutation")]
    #[must_use]
    pub const fn with_mutation(mut self, mutation: crate::Mutation) -> Self {
        self.mutation = Some(mutation);
        self
    }

    /// Whether there can be an `Iommu` with it.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn check(&self) -> Result<(), IommuError> {
        if !(6..=20).contains(&self.pasid_bits) {
            return Err(IommuError::PasidBits { asked: self.pasid_bits });
        }
        if !self.asid_policy.is_there() {
            return Err(IommuError::LeftOut { policy: self.asid_policy, feature: "policies" });
        }
        Ok(())
    }

    /// Whether a domain may have `vmid` because it is the hypervisor's.
    pub(crate) fn is_hypervisors(&self, vmid: u16) -> bool {
        let is_bank = self.asid_policy == AsidPolicy::Banked && self.banks.contains(vmid);
        self.hypervisor_vmids.contains(vmid) && !is_bank && vmid != self.cpu.vmid && vmid != 0
    }
}

/// Why there is no [`Iommu`](crate::Iommu).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IommuError {
    /// [`Config::pasid_bits`] is not 6 to 20.
    PasidBits {
        /// What it is.
        asked: u32,
    },
    /// [`Config::asid_policy`] was left out of the driver.
    LeftOut {
        /// The policy.
        policy: AsidPolicy,
        /// The feature that has it: `policies`.
        feature: &'static str,
    },
    /// No memory.
    NoMemory,
}

impl fmt::Display for IommuError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PasidBits { asked } => write!(f, "PASIDs of {asked} bits: 6 to 20 can be had"),
            Self::LeftOut { policy, feature } => {
                write!(
                    f,
                    "ASIDs as in {policy}: the driver was built without them (feature `{feature}`)"
                )
            }
            Self::NoMemory => f.write_str("no memory"),
        }
    }
}

impl core::error::Error for IommuError {}

impl From<NoMemory> for IommuError {
    fn from(NoMemory: NoMemory) -> Self {
        Self::NoMemory
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_is_left_out_is_refused_and_no_other() {
        for policy in AsidPolicy::ALL {
            let there = policy == AsidPolicy::PerInstance || cfg!(feature = "policies");
            let refused = Err(IommuError::LeftOut { policy, feature: "policies" });
            let wanted = if there { Ok(()) } else { refused };
            assert_eq!(Config::default().with_asid_policy(policy).check(), wanted);
        }
    }

    #[test]
    fn every_field_can_be_set_in_a_chain() {
        let vmids = |first| Vmids { first, last: 2 * first };
        let expected = Config {
            asid_policy: AsidPolicy::Banked,
            banks: vmids(1),
            stage_2_vmids: vmids(7),
            hypervisor_vmids: vmids(32),
            cpu: Cpu { asid_bits: 8, el2_host: true, vmid: 3 },
            pasid_bits: 12,
            #[cfg(feature = "mutation")]
            mutation: None,
        };
        let config = Config::default()
            .with_asid_policy(AsidPolicy::Banked)
            .with_banks(vmids(1))
            .with_stage_2_vmids(vmids(7))
            .with_hypervisor_vmids(vmids(32))
            .with_cpu(expected.cpu)
            .with_pasid_bits(12);
        assert_eq!(config, expected);
    }
}

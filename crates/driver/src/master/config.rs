// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a master is to be used, and whether an instance can do that.

use super::AddMasterError;
#[cfg(doc)]
use crate::Platform;
use crate::ats::AtsMode;
use crate::features::Features;
use crate::overrides::Overrides;

/// How a master is to be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MasterConfig {
    /// Bits of the PASIDs that it may use; 0 for none. Fewer where the instance has fewer (IDR1.SSIDSIZE), and 10 at
    /// most where it has linear context tables only. 0 without the feature `pasids`.
    pub pasid_bits: u32,
    /// Its translation faults stall: each is reported as a [`Fault`](crate::Fault) that the caller answers.
    pub stalls: bool,
    /// See [`MasterConfig::ats`]. That it is [`AtsMode::Full`] or [`AtsMode::Always`] is a promise.
    pub(crate) ats: AtsMode,
    /// Each of its streams may ask for pages (PCIe PRI), and have so many requests under way; 0 for none. Each request
    /// is reported ([`Report::Pages`](crate::Report::Pages)) for the caller to answer. The driver switches that on and
    /// off with ATS, by [`Platform::enable_page_requests`] and [`Platform::disable_page_requests`]. Under a guest's
    /// stage 1 ([`Nest::attach`](crate::nest::Nest::attach)), by whose addresses nobody else could answer, it is on if the guest is
    /// shown page requests ([`NestConfig::page_requests`](crate::NestConfig::page_requests)).
    pub page_requests: u32,
    /// Its devices need the PASID in answers to requests with one ("PRG Response PASID Required"); else they need answers
    /// without.
    pub response_pasid: bool,
    /// Attributes of its accesses that the SMMU overrides.
    pub overrides: Overrides,
    /// It works with physical addresses alone: it is attached by [`Iommu::attach_identity`](crate::Iommu::attach_identity)
    /// or not at all, and everything else is refused ([`AttachError::IdentityOnly`](crate::AttachError::IdentityOnly)).
    pub identity_only: bool,
}

impl MasterConfig {
    /// Whether, and how, its streams may keep translations (PCIe ATS) while the master is attached: the driver switches them
    /// on and off by [`Platform::enable_ats`] and [`Platform::disable_ats`]. At first they are off.
    ///
    /// Not together with [`MasterConfig::stalls`], nor where the SMMU stalls always.
    #[must_use]
    pub const fn ats(&self) -> AtsMode {
        self.ats
    }

    /// With translations that its streams keep, of all stages ([`AtsMode::Full`]); where the instance has no ATS, that counts
    /// for nothing.
    ///
    /// # Safety
    /// The devices are trusted: they say that an address was translated only of one that they were given, and have not been
    /// told to forget since. With any other they reach any memory, past what they are attached to (§12.2).
    ///
    /// ```compile_fail,E0133
    /// let config = smmuv3::MasterConfig::default().with_ats();
    /// ```
    ///
    /// ```compile_fail,E0616
    /// let mut config = smmuv3::MasterConfig::default();
    /// config.ats = smmuv3::AtsMode::Full;
    /// ```
    #[must_use]
    pub const unsafe fn with_ats(mut self) -> Self {
        self.ats = AtsMode::Full;
        self
    }

    /// As [`MasterConfig::with_ats`], for devices that reach memory by translated addresses alone, as those of CXL.cache do: ATS is on
    /// in them whenever they are attached, to identity as well ([`AtsMode::Always`]). It is off while they are blocked, in quarantine
    /// or behind an instance that is off: then they are to reach nothing. Under a guest's stage 1 the guest says whether it is on.
    ///
    /// An instance that lacks something for that does not take the master ([`AddMasterError::NoAtsAlwaysOn`]). A master without
    /// PASIDs has two contexts all the same, of which the second is never valid.
    ///
    /// # Safety
    /// As for [`MasterConfig::with_ats`].
    ///
    /// ```compile_fail,E0133
    /// let config = smmuv3::MasterConfig::default().with_ats_always_on();
    /// ```
    #[must_use]
    pub const unsafe fn with_ats_always_on(mut self) -> Self {
        self.ats = AtsMode::Always;
        self
    }

    /// With translations that its streams keep of a guest's stage 1 alone ([`AtsMode::Split`]). No trust is needed for that:
    /// whatever devices say was translated goes through the host's stage 2, so they reach no more than their guest has.
    ///
    /// Not for devices that take what they are given for physical addresses on a link of their own, as those of CXL.cache do
    /// (§12.2). What they reach by that link no SMMU sees, whatever it is told.
    #[must_use]
    pub const fn with_split_ats(mut self) -> Self {
        self.ats = AtsMode::Split;
        self
    }

    /// With requests for pages, `credits` for each of its streams, which also need translations that they keep
    /// ([`MasterConfig::with_ats`]); and whether devices need the PASID in answers. With [`MasterConfig::with_split_ats`]
    /// they are guests' alone: that is on under a guest's stage 1 only.
    #[must_use]
    pub const fn with_page_requests(mut self, credits: u32, response_pasid: bool) -> Self {
        self.page_requests = credits;
        self.response_pasid = response_pasid;
        self
    }

    /// With PASIDs of `bits` bits.
    #[must_use]
    pub const fn with_pasid_bits(mut self, bits: u32) -> Self {
        self.pasid_bits = bits;
        self
    }

    /// With faults that stall until the caller answers them, for devices that can wait: those of a platform, whose
    /// firmware says so. Never for PCIe, where an access that waits may stop those that the answer depends on. Where the
    /// SMMU stalls always ([`Stalls::Forced`](crate::features::Stalls)), all masters do.
    #[must_use]
    pub const fn with_stalls(mut self) -> Self {
        self.stalls = true;
        self
    }

    /// With attributes overridden.
    #[must_use]
    pub const fn with_overrides(mut self, overrides: Overrides) -> Self {
        self.overrides = overrides;
        self
    }

    /// For a device that works with physical addresses alone, as HiSilicon's PTT does (a trace unit of its PCIe root complexes,
    /// function 19e5:a12e). Which devices do is for whoever knows them to say: neither SMMU nor firmware does.
    #[must_use]
    pub const fn with_identity_only(mut self) -> Self {
        self.identity_only = true;
        self
    }

    /// What the configuration comes to behind an instance with `features`: whether faults stall, and how translations
    /// are kept.
    ///
    /// # Errors
    /// [`AddMasterError`], of what the instance cannot do, or not together.
    pub(crate) fn on(&self, features: &Features) -> Result<(bool, AtsMode), AddMasterError> {
        self.overrides.fits(features).map_err(AddMasterError::Overrides)?;
        let stalls = features.stalls_if(self.stalls);
        if self.stalls && !stalls {
            return Err(AddMasterError::NoStalls);
        }
        if self.ats == AtsMode::Always {
            features.ats_always_on().map_err(AddMasterError::NoAtsAlwaysOn)?;
        }
        let ats = features.ats_if(self.ats).map_err(AddMasterError::NoSplitAts)?;
        if stalls && ats.is_some() {
            return Err(AddMasterError::AtsStalls);
        }
        Ok((stalls, ats))
    }
}

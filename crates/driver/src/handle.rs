// SPDX-License-Identifier: MIT OR Apache-2.0
//! What handles show of themselves, which takes no lock; and which are the same.

use core::fmt;

use crate::domain::Domain;
use crate::iommu::{Iommu, Probe, Smmu};
use crate::master::Master;
#[cfg(feature = "nested")]
use crate::nest::Nest;
use crate::platform::Platform;
#[cfg(feature = "sva")]
use crate::process::{Bond, Process};

impl<P: Platform> fmt::Debug for Iommu<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Iommu ")?;
        f.debug_list().entries(self.smmus()).finish()
    }
}

impl<P: Platform> PartialEq for Iommu<P> {
    /// Whether both are the same.
    fn eq(&self, other: &Self) -> bool {
        self.core.is(&other.core)
    }
}

impl<P: Platform> Eq for Iommu<P> {}

impl<P: Platform> fmt::Debug for Smmu<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Smmu").field("id", &self.id).field("name", &self.name()).finish()
    }
}

impl<P: Platform> PartialEq for Smmu<P> {
    /// Whether both are the same.
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.core.is(&other.core)
    }
}

impl<P: Platform> Eq for Smmu<P> {}

impl<P: Platform> fmt::Debug for Probe<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.probed.config().name;
        let mut probe = f.debug_struct("Probe");
        probe.field("name", &name.as_str()).field("keeps", &self.kept.len());
        probe.field("adopts", &self.adopted.is_some()).finish_non_exhaustive()
    }
}

impl<P: Platform> fmt::Debug for Master<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut master = f.debug_struct("Master");
        master.field("instance", &self.instance()).field("index", &self.index).finish()
    }
}

impl<P: Platform> PartialEq for Master<P> {
    /// Whether both are the same.
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index && self.core.is(&other.core)
    }
}

impl<P: Platform> Eq for Master<P> {}

impl<P: Platform> fmt::Debug for Domain<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Domain").field("id", &self.id()).finish_non_exhaustive()
    }
}

impl<P: Platform> PartialEq for Domain<P> {
    /// Whether both are the same.
    fn eq(&self, other: &Self) -> bool {
        self.space.is(&other.space)
    }
}

impl<P: Platform> Eq for Domain<P> {}

#[cfg(feature = "sva")]
impl<P: Platform> fmt::Debug for Process<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut process = f.debug_struct("Process");
        process.field("id", &self.id()).field("pasid", &self.pasid()).finish_non_exhaustive()
    }
}

#[cfg(feature = "sva")]
impl<P: Platform> fmt::Debug for Bond<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bond").field("process", &self.process()).finish_non_exhaustive()
    }
}

#[cfg(feature = "nested")]
impl<P: Platform> fmt::Debug for Nest<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut nest = f.debug_struct("Nest");
        nest.field("instance", &self.instance()).field("domain", &self.domain()).finish()
    }
}

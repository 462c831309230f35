// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tags by which instances know an address space.

use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};

use crate::devices::Device;
use crate::error::InstanceId;
use crate::invalidate::{self, Tag};

/// A tag by which an instance knows an address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The instance.
    pub instance: InstanceId,
    /// What its TLB keys the address space by.
    pub tag: Tag,
    /// It is the CPU's ASID: broadcasts of CPUs invalidate it.
    pub shared: bool,
    /// How many masters use it there; one counts again for each PASID that it uses it with.
    pub masters: usize,
}

/// A tag that an invalidation must reach.
#[derive(Clone, Copy)]
pub(crate) struct Installed {
    pub(crate) instance: InstanceId,
    pub(crate) tag: Tag,
    /// The bits by which commands for addresses name the tag.
    pub(crate) named: u64,
    pub(crate) shared: bool,
    /// Index of the [`Place`](crate::place::Place) that it is.
    pub(crate) place: usize,
}

impl Installed {
    pub(crate) fn new(instance: InstanceId, tag: Tag, shared: bool, place: usize) -> Self {
        Self { instance, tag, named: invalidate::named(tag, false), shared, place }
    }
}

/// All tags that an invalidation must reach, in order of instances; and devices.
#[derive(Default)]
pub(crate) struct Targets {
    tags: Vec<Installed>,
    /// By [`Device::key`].
    pub(crate) devices: Vec<Device>,
    /// Each instance has one tag, and no device keeps translations: as a rule. Known only where there is a shorter way then.
    pub(super) plain: bool,
}

impl Targets {
    pub(crate) const fn new() -> Self {
        Self { tags: Vec::new(), devices: Vec::new(), plain: false }
    }

    /// Whether any device keeps translations: none does without ATS, which is known when the driver is compiled.
    #[inline]
    pub(crate) fn has_devices(&self) -> bool {
        cfg!(feature = "ats") && !self.devices.is_empty()
    }

    /// Computes `plain`, once all tags and devices are there.
    pub(crate) fn complete(&mut self) {
        let differ = |pair: &[Installed]| match pair {
            [first, second] => first.instance != second.instance,
            _ => true,
        };
        self.plain =
            cfg!(feature = "fast-paths") && !self.has_devices() && self.tags.windows(2).all(differ);
    }
}

impl Deref for Targets {
    type Target = Vec<Installed>;

    fn deref(&self) -> &Self::Target {
        &self.tags
    }
}

impl DerefMut for Targets {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.tags
    }
}

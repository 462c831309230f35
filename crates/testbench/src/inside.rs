// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is inside of an SMMU: its queues, its stream table.

use smmuv3::instance::Instance;
use smmuv3::{Platform, Smmu};

/// An SMMU of a machine of the testbench, as tests look into it.
pub trait Inside<P: Platform> {
    /// Its registers, queues and stream table.
    fn inside(&self) -> &Instance<P>;
}

impl<P: Platform> Inside<P> for Smmu<P> {
    fn inside(&self) -> &Instance<P> {
        // SAFETY: the SMMU is a model's, or QEMU's: whatever it is told to do, it does in the memory of a machine, where
        // nothing of the program is. Each machine has one platform.
        unsafe { self.instance() }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! A lock that interrupt handlers may take, too.

use crate::cpu;

/// A value for one at a time. Whoever has it has interrupts masked, so that a handler on the same CPU cannot wait for
/// what it interrupted.
pub struct Lock<T>(spin::Mutex<T>);

impl<T> Lock<T> {
    /// An unlocked one.
    pub const fn new(value: T) -> Self {
        Self(spin::Mutex::new(value))
    }

    /// Runs `critical` alone.
    pub fn with<R>(&self, critical: impl FnOnce(&mut T) -> R) -> R {
        cpu::mask_irqs(|| critical(&mut self.0.lock()))
    }
}

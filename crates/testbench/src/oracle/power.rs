// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether instances translate at all.

use super::Oracle;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Power {
    /// It works.
    #[default]
    On,
    /// It is being suspended, resumed, reset or removed: accesses may be refused.
    Changing,
    /// It is suspended, or gone: accesses are refused silently.
    Off,
}

impl Oracle {
    /// Of `instance`.
    pub fn power(&self, instance: usize) -> Power {
        self.power.get(instance).copied().unwrap_or_default()
    }

    /// All memory is reached behind `instance` while it is off but has power (GBPA.ABORT = 0, §2.4).
    pub fn passes_while_off(&mut self, instance: usize) {
        self.passing.insert(instance);
    }

    /// `instance` is so from now on.
    pub fn set_power(&mut self, instance: usize, power: Power) {
        if let Some(of) = self.power.get_mut(instance) {
            *of = power;
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether instances translate at all.

use smmuv3::Overrides;
use smmuv3_model::{Access, Attributes, Hints};

use super::attributes::{hints, untranslated};
use super::{AccessKind, Oracle, Rule};

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

    /// All memory is reached behind `instance` while it is off but has power (GBPA.ABORT = 0, §2.4), with attributes that it
    /// overrides so.
    pub fn passes_while_off(&mut self, instance: usize, overrides: &Overrides) {
        self.passing.insert(instance, *overrides);
    }

    /// Judges what becomes of an access of `stream` while `instance` is off, with power, and nobody is about to change that: with
    /// which attributes and hints it passes, if it does.
    pub fn while_off(
        &mut self,
        instance: usize,
        access: &Access,
        found: Option<(Attributes, Hints)>,
    ) {
        let wanted = self.passing.get(&instance);
        let wanted = wanted.map(|it| (untranslated(it), hints(it, AccessKind::of(access))));
        if found == wanted {
            return;
        }
        let kind = AccessKind::of(access);
        let rule = if wanted.is_none() { Rule::R1 } else { Rule::R0 };
        let text = format_args!(
            "instance {instance} is off: a {kind} of stream {:#x} passes as {found:?}; it should as {wanted:?}",
            access.stream
        );
        self.accuse(rule, text);
    }

    /// `instance` is so from now on.
    pub fn set_power(&mut self, instance: usize, power: Power) {
        if let Some(of) = self.power.get_mut(instance) {
            *of = power;
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Masters whose devices keep translations.

use smmuv3::{AtsMode, MasterConfig};

/// A master whose devices keep translations of all stages.
pub fn trusted() -> MasterConfig {
    keeping(MasterConfig::default(), AtsMode::Full)
}

/// The same master, with devices that keep what `ats` says.
pub fn keeping(config: MasterConfig, ats: AtsMode) -> MasterConfig {
    match ats {
        AtsMode::Off => config,
        // SAFETY: devices of the testbench reach the memory of a machine, where nothing of the program is.
        AtsMode::Full => unsafe { config.with_ats() },
        // SAFETY: as above.
        AtsMode::Always => unsafe { config.with_ats_always_on() },
        AtsMode::Split => config.with_split_ats(),
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a random scenario has of errata, of what firmware says, of attributes that are overridden, and of what is reached
//! while an instance is off.

use fastrand::Rng;
use smmuv3::{Caching, Overrides, Privilege, Sharing};

use super::one_of;
use crate::scenario::{Part, Scenario};

/// Where this randomness starts, beside that of the rest, which is the same with and without it.
const APART: u64 = 0x5be0_cd19_137e_2179;

/// `scenario` with them.
pub(super) fn parted(scenario: Scenario) -> Scenario {
    let mut scenario = scenario;
    let rng = &mut Rng::with_seed(scenario.seed ^ APART);
    for instance in &mut scenario.instances {
        let quirks = &mut instance.quirks;
        quirks.silent_termination = rng.bool();
        if rng.u8(..) < 96 {
            quirks.part = one_of(rng, &Part::ALL);
        }
        let [one_page, prefetch, httu, off] = std::array::from_fn(|_| rng.u8(..) < 48);
        // Enhanced queues have pages of their own.
        quirks.one_page = one_page && instance.queues.enhanced_log2.is_none();
        quirks.no_prefetch = prefetch;
        if httu {
            quirks.firmware_httu = Some(rng.u32(0..=instance.walks.httu));
        }
        (quirks.type_overrides, quirks.permission_overrides) = (rng.bool(), rng.bool());
        quirks.while_off = off.then_some(Overrides::NONE);
    }
    for master in &mut scenario.masters {
        let Some(instance) = scenario.instances.get(master.instance) else { continue };
        let [types, permissions] = [rng.bool(), rng.u8(..) < 96];
        let memories = [
            Caching::DeviceNgnrne,
            Caching::DeviceNgnre,
            Caching::NonCacheable,
            Caching::WriteThrough,
            Caching::WriteBack,
        ];
        let (memory, sharing) =
            (one_of(rng, &memories), one_of(rng, &[Sharing::None, Sharing::Outer, Sharing::Inner]));
        let privilege = one_of(rng, &[Privilege::Unprivileged, Privilege::Privileged]);
        if types && instance.quirks.type_overrides {
            master.overrides = master.overrides.with_memory(memory).with_sharing(sharing);
        }
        if permissions && instance.quirks.permission_overrides {
            master.overrides = master.overrides.with_privilege(privilege);
        }
    }
    scenario
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a random scenario has of attributes that few override: what reads are for, hints for caches, and those of what passes
//! while an instance is off.

use fastrand::Rng;
use smmuv3::{Access, AtsMode, Caching, Overrides, Privilege, Sharing};

use super::one_of;
use crate::scenario::{Quirks, Scenario};

/// Where this randomness starts, beside that of the rest, which is the same with and without it.
const APART: u64 = 0x43a8_1f6e_d20b_957c;

/// `scenario` with them.
pub(super) fn overridden(scenario: Scenario) -> Scenario {
    let mut scenario = scenario;
    let rng = &mut Rng::with_seed(scenario.seed ^ APART);
    for instance in &mut scenario.instances {
        let quirks = &mut instance.quirks;
        if quirks.while_off.is_some() {
            quirks.while_off = Some(any(rng, quirks));
        }
    }
    for master in &mut scenario.masters {
        let [reads, data, hints] = [rng.u8(..) < 96, rng.bool(), rng.u8(..) < 96];
        let Some(instance) = scenario.instances.get(master.instance) else { continue };
        let quirks = &instance.quirks;
        let overrides = &mut master.overrides;
        if hints && quirks.type_overrides {
            *overrides = allocated(rng, *overrides);
        }
        if reads && quirks.permission_overrides {
            // Nothing says of an intermediate address that there are instructions, and firmware gave none away.
            let as_data = data || master.keep.is_some() || master.ats == AtsMode::Split;
            let access = if as_data { Access::Data } else { Access::Instruction };
            *overrides = overrides.with_access(access);
        }
    }
    scenario
}

/// Anything that an SMMU with `quirks` overrides.
fn any(rng: &mut Rng, quirks: &Quirks) -> Overrides {
    let mut overrides = Overrides::NONE;
    if quirks.type_overrides && rng.u8(..) < 192 {
        let memories = [
            Caching::DeviceNgnrne,
            Caching::DeviceNgnre,
            Caching::NonCacheable,
            Caching::WriteThrough,
            Caching::WriteBack,
        ];
        let sharings = [Sharing::None, Sharing::Outer, Sharing::Inner];
        overrides = overrides.with_memory(one_of(rng, &memories));
        overrides = overrides.with_sharing(one_of(rng, &sharings));
        overrides = if rng.bool() { allocated(rng, overrides) } else { overrides };
    }
    if quirks.permission_overrides && rng.u8(..) < 192 {
        let privileges = [Privilege::Unprivileged, Privilege::Privileged];
        overrides = overrides.with_privilege(one_of(rng, &privileges));
        overrides = overrides.with_access(one_of(rng, &[Access::Data, Access::Instruction]));
    }
    overrides
}

/// Those that scenarios have words for.
fn allocated(rng: &mut Rng, overrides: Overrides) -> Overrides {
    let hints = [
        (false, false, false),
        (true, false, false),
        (false, true, false),
        (true, true, false),
        (true, true, true),
    ];
    let (read, write, transient) = one_of(rng, &hints);
    overrides.with_allocation(read, write, transient)
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Live entries change without a moment at which hardware can read a mixture (rule R4), in as few steps as
//! possible.

use std::sync::Arc;

use smmuv3::PhysAddr;
use smmuv3::update::{CdKind, Entry, Kind, SteKind, Words, update};
use smmuv3_formats::ste::config;
use smmuv3_formats::{Cd, Ste};
use smmuv3_testbench::machine_model::ModelMachine;
use smmuv3_testbench::mixture::{self, History};
use smmuv3_testbench::platform::{TestPlatform, World};
use smmuv3_testbench::scenario::Scenario;

fn world() -> Arc<World> {
    let text = "name = \"update\"\n[[instance]]\nname = \"smmu\"\n[[master]]\nname = \"nic\"\n\
                instance = \"smmu\"\nstreams = [1]\n[[domain]]\nname = \"d\"\n[[step]]\n\
                attach = { master = \"nic\", domain = \"d\" }\n";
    let scenario = Scenario::parse(text, "update").unwrap_or_else(|errors| panic!("{errors}"));
    World::new(Arc::new(ModelMachine::new(&scenario, 1).unwrap()), 1)
}

fn abort() -> Ste {
    Ste::default().with_v(true)
}

fn bypass() -> Ste {
    abort().with_config(config::BYPASS).with_sh_cfg(1)
}

fn stage_1() -> Ste {
    let ste = abort().with_config(config::STAGE_1).with_s1_context_ptr(0x8002_0000);
    ste.with_s1_cir(1).with_s1_cor(1).with_s1_csh(3).with_s1_cd_max(5).with_s1_dss(2)
}

fn stage_2() -> Ste {
    let ste = abort().with_config(config::STAGE_2).with_sh_cfg(1);
    let ste = ste.with_s2_vmid(7).with_s2_t0sz(24).with_s2_sl0(1).with_s2_ir0(1).with_s2_or0(1);
    let ste = ste.with_s2_sh0(3).with_s2_ps(4).with_s2_aa64(true).with_s2_r(true);
    ste.with_s2_ttb(0x8004_0000)
}

fn context(asid: u64, table: u64) -> Cd {
    let cd = Cd::default().with_t0sz(16).with_ir0(1).with_or0(1).with_sh0(3).with_epd1(true);
    let cd = cd.with_v(true).with_ips(4).with_aa64(true).with_r(true).with_a(true).with_aset(true);
    cd.with_asid(asid).with_ttb0(table).with_mair(0x0004_44ff)
}

/// Updates an entry from `from` to `to`, under the eyes of R4: the number of invalidations, and whether hardware
/// never found it invalid.
#[track_caller]
fn change<K: Kind>(kind: mixture::Kind, from: Words, to: Words) -> (u32, bool) {
    let world = world();
    let platform = TestPlatform(world.clone());
    let pa = world.frames().allocate(64, 64).unwrap();
    // SAFETY: 64 bytes just allocated, used by this test alone.
    let entry = unsafe { Entry::new(PhysAddr(pa)) };
    for (index, word) in from.into_iter().enumerate() {
        entry.store(&platform, index, word);
    }
    let mut history = History::new(kind, pa, from);
    let sync = || {
        for (index, word) in entry.load(&platform).into_iter().enumerate() {
            history.stored(index, word);
        }
        history.told();
        history.synchronised()
    };
    let updated = update::<_, K, _>(&platform, entry, &to, sync)
        .unwrap_or_else(|mixture| panic!("{from:x?} to {to:x?}: hardware may read {mixture:x?}"));
    assert_eq!(entry.load(&platform), to);
    assert!(history.is_settled(), "{from:x?} to {to:x?}: not settled");
    (updated.syncs, updated.hitless)
}

#[test]
fn stream_table_entries_change_without_a_hit() {
    let other_context = stage_1().with_s1_context_ptr(0x8003_0000);
    for (from, to, expected) in [
        (abort(), bypass(), (2, true)),
        (bypass(), abort(), (2, true)),
        (stage_1(), abort(), (2, true)),
        (abort(), stage_1(), (2, true)),
        (stage_1(), bypass(), (3, true)),
        (bypass(), stage_1(), (3, true)),
        (stage_1(), stage_1().with_s1_dss(1), (1, true)),
        (stage_1().with_s1_dss(1), stage_1(), (1, true)),
        (stage_2(), abort(), (2, true)),
        (abort(), stage_2(), (2, true)),
        (stage_2(), bypass(), (2, true)),
        (bypass(), stage_2(), (2, true)),
        (stage_1(), other_context, (1, true)),
        (stage_1(), other_context.with_s1_dss(1), (3, false)),
        (abort(), abort(), (0, true)),
    ] {
        let result = change::<SteKind>(mixture::Kind::Ste, from.0, to.0);
        assert_eq!(result, expected, "{from:?} to {to:?}");
    }
}

#[test]
fn contexts_change_their_asid_without_a_hit_and_more_through_an_invalid_one() {
    let (old, invalid) = (context(778, 0x8001_0000), Cd::default());
    for (from, to, expected) in [
        (old, context(1997, 0x8001_0000), (1, true)),
        (invalid, old, (2, true)),
        (old, invalid, (2, true)),
        (
            old,
            old.with_epd0(true).with_t0sz(0).with_ir0(0).with_or0(0).with_sh0(0).with_ttb0(0),
            (2, true),
        ),
        // A new address space: two words at once.
        (old, context(1997, 0x8005_0000), (3, false)),
    ] {
        let result = change::<CdKind>(mixture::Kind::Cd, from.0, to.0);
        assert_eq!(result, expected, "{from:?} to {to:?}");
    }
}

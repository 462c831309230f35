// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the model does on its own, and that it does it again for the same seed (§8.1).

use smmuv3_formats::command::CfgiCd;
use smmuv3_model::{Access, Adversary, Observation, Profile, Transfer};

use crate::context_table::*;
use crate::machine::*;

/// A run with everything in it; what was observed.
fn busy(seed: u64) -> Vec<Observation> {
    let mut machine = Machine::new(Profile::default(), seed);
    machine.a1();
    machine.put(leaf_slot(L0), 0x8070_0000 | LEAF);
    for round in 0..200u64 {
        match round % 5 {
            0 => {
                let _ = machine.translate(Access::read(SID, VA + round));
            }
            1 => {
                let _ = machine.smmu.hold(Access::write(SID, VA), Transfer::Write(vec![1; 4]));
            }
            2 => machine.queue(tlbi_va(5, VA)),
            3 => machine.queue(cfgi_ste(SID)),
            _ => machine.sync(),
        }
        machine.smmu.act();
    }
    machine.sync();
    machine.smmu.observations()
}

#[test]
fn the_same_seed_gives_the_same_observations() {
    for seed in 0..8 {
        assert_eq!(busy(seed), busy(seed));
    }
    assert_ne!(busy(1), busy(2));
}

#[test]
fn it_fetches_ahead_of_need() {
    let mut machine = Machine::new(Profile::default(), 3);
    machine.a1();
    // Seen once, then forgotten.
    assert_eq!(machine.read(VA), Some(PA));
    machine.command(tlbi_all());
    machine.command(cfgi_ste(SID));
    machine.sync();
    machine.smmu.observations();
    for _ in 0..200 {
        machine.smmu.act();
    }
    let seen = machine.smmu.observations();
    let filled = |o: &Observation| matches!(o, Observation::TlbFilled { speculative: true, .. });
    assert!(seen.iter().any(filled), "{seen:?}");
    let fetched = |o: &Observation| matches!(o, Observation::SteFetched { speculative: true, .. });
    assert!(seen.iter().any(fetched), "{seen:?}");
    assert!(!seen.iter().any(|o| matches!(o, Observation::EventRecorded(_))), "no events");
}

#[test]
fn it_fetches_nothing_while_disabled() {
    let mut machine = Machine::new(Profile::default(), 3);
    machine.a1();
    machine.read(VA);
    machine.command(tlbi_all());
    machine.command(cfgi_ste(SID));
    machine.sync();
    machine.switch(0b1100);
    machine.smmu.observations();
    for _ in 0..200 {
        machine.smmu.act();
    }
    assert_eq!(machine.smmu.cached_stes(), []);
    assert_eq!(machine.smmu.tlb_entries().count(), 0);
}

#[test]
fn entries_rewritten_while_valid_are_torn_in_some_run() {
    let habits = Adversary { split_fetches: true, ..Adversary::NONE };
    let (old, new) = ([0x11 | 8, 1, 2, 3, 4, 5, 6, 7], [0x11 | 8, 9, 9, 9, 9, 9, 9, 9]);
    let mut torn = 0;
    for seed in 0..64 {
        let mut machine = Machine::new(Profile::default().adversary(habits), seed);
        machine.ste(SID, old);
        // Something to remember the stream by; then forgotten.
        machine.read(0x1000);
        machine.command(cfgi_ste(SID));
        machine.sync();
        for index in 0..8 {
            machine.put(STRTAB + 64 * u64::from(SID) + 8 * index, new[index as usize]);
            machine.smmu.act();
            machine.smmu.act();
        }
        machine.read(0x1000);
        let cached = machine.smmu.cached_stes();
        let entry = cached.iter().find(|entry| entry.stream == SID).unwrap();
        torn += u32::from(entry.words != old && entry.words != new);
        // The fetch is restarted, or was finished, when CFGI and SYNC complete.
        machine.command(cfgi_ste(SID));
        machine.sync();
        machine.read(0x1000);
        assert!(machine.smmu.cached_stes().iter().any(|e| e.stream == SID && e.words == new));
    }
    assert!(torn > 8, "{torn}");
}

#[test]
fn a_fetch_under_way_is_restarted_by_its_cfgi() {
    let habits = Adversary { split_fetches: true, ..Adversary::NONE };
    for seed in 0..64 {
        let mut machine = Machine::new(Profile::default().adversary(habits), seed);
        machine.ste(SID, [1, 0, 0, 0, 0, 0, 0, 0]);
        machine.read(VA);
        machine.command(cfgi_ste(SID));
        machine.sync();
        for _ in 0..4 {
            machine.smmu.act();
        }
        machine.a1();
        machine.command(cfgi_ste(SID));
        machine.sync();
        assert_eq!(machine.read(VA), Some(PA));
    }
}

#[test]
fn held_transfers_and_commands_get_done_some_time() {
    let mut machine = Machine::new(Profile::default(), 5);
    machine.a1();
    machine.put(leaf_slot(L0), 0x8070_0000 | LEAF);
    machine.smmu.hold(Access::write(SID, VA), Transfer::Write(vec![1; 4])).unwrap();
    machine.queue(cfgi_ste(SID));
    for _ in 0..500 {
        machine.smmu.act();
    }
    assert_eq!(machine.smmu.held().count(), 0);
    assert_eq!(machine.smmu.finished().len(), 1);
    assert_eq!(machine.smmu.waiting_commands(), 0);
}

/// 2^10 CDs in leaves of 4 KiB; substreams 3 and 0x147 have tables.
fn processes(profile: Profile, seed: u64) -> Machine {
    let mut machine = Machine::new(profile.ssidsize(20).two_level_contexts(true), seed);
    machine.tables_a1(L0, PA);
    machine.tables_a1(OTHER_L0, OTHER_PA);
    machine.ste(SID, substream_ste(L1, SMALL_LEAVES, 10));
    machine.put(L1, LEAF_A | 1);
    machine.put(L1 + 40, LEAF_B | 1);
    machine.cd_at(LEAF_A + 3 * 64, cd_words(5, L0));
    machine.cd_at(LEAF_B + 7 * 64, cd_words(6, OTHER_L0));
    // Somebody used one of them, and everything was forgotten.
    assert!(machine.translate(through(SID, 3, VA)).is_ok());
    machine.command(tlbi_all());
    machine.command(cfgi_ste(SID));
    machine.sync();
    machine.smmu.observations();
    machine
}

#[test]
fn contexts_that_were_used_and_ones_that_are_valid_are_fetched_ahead() {
    for seed in 0..8 {
        let mut machine = processes(Profile::default(), seed);
        for _ in 0..600 {
            machine.smmu.act();
        }
        let seen = machine.smmu.observations();
        for (substream, ttb) in [(3, L0), (0x147, OTHER_L0)] {
            let fetched = |o: &&Observation| {
                matches!(o, Observation::CdFetched { substream: s, speculative: true, .. }
                    if *s == substream)
            };
            assert_eq!(seen.iter().filter(fetched).count(), 1, "{substream:#x}, seed {seed}");
            let filled = |o: &Observation| matches!(o, Observation::TlbFilled { ttb: t, speculative: true, .. } if *t == ttb);
            assert!(seen.iter().any(filled), "{substream:#x}, seed {seed}");
        }
        assert!(!seen.iter().any(|o| matches!(o, Observation::EventRecorded(_))), "no events");
    }
}

#[test]
fn invalid_descriptors_are_fetched_ahead_and_hurt_who_forgets_leaf_0() {
    let mut hurt = 0;
    for seed in 0..16 {
        let mut machine = processes(Profile::default(), seed);
        for _ in 0..100 {
            machine.smmu.act();
        }
        let invalid = |machine: &Machine| {
            let cached = machine.smmu.cached_l1_cds();
            cached.iter().find(|entry| entry.word == 0).map(|entry| entry.index)
        };
        let Some(index) = invalid(&machine) else { continue };
        // A new leaf, and its CD is said to be new: the L1CD is not.
        let substream = index << 6 | 1;
        machine.cd_at(LEAF_B + 64, cd_words(7, L0));
        machine.put(L1 + 8 * u64::from(index), LEAF_B | 1);
        let cfgi = CfgiCd::new().with_sid(SID.into()).with_ssid(substream.into());
        machine.command(cfgi.with_leaf(true));
        machine.sync();
        assert!(machine.translate(through(SID, substream, VA)).is_err());
        machine.command(cfgi);
        machine.sync();
        assert!(machine.translate(through(SID, substream, VA)).is_ok());
        hurt += 1;
    }
    assert!(hurt > 6, "{hurt}");
}

#[test]
fn nothing_of_two_level_contexts_depends_on_more_than_the_seed() {
    let run = |seed| {
        let mut machine = processes(Profile::default(), seed);
        for _ in 0..200 {
            machine.smmu.act();
        }
        machine.smmu.observations()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

/// §5.2: an STE with CONT may answer for its neighbours, whatever they hold, until a CFGI names these; its own CFGI is
/// about itself alone.
#[test]
fn an_entry_that_says_so_stands_for_its_neighbours() {
    const CONT: u64 = 1 << 13;
    let wide = quiet().adversary(Adversary { contiguous_entries: true, ..Adversary::NONE });
    let reads = |machine: &mut Machine, stream| machine.translate(Access::read(stream, VA)).is_ok();
    let mut seen = [0; 2];
    for seed in 0..32 {
        let mut machine = Machine::new(wide.clone(), seed);
        machine.a1();
        let mut words = ste_words(CD);
        words[1] |= CONT;
        machine.ste(SID, words);
        machine.ste(SID ^ 1, [1, 0, 0, 0, 0, 0, 0, 0]);
        machine.ste(SID ^ 2, [1, 0, 0, 0, 0, 0, 0, 0]);
        assert!(reads(&mut machine, SID));
        let neighbours = reads(&mut machine, SID ^ 1);
        seen[usize::from(neighbours)] += 1;
        assert!(!reads(&mut machine, SID ^ 2), "it is beyond");
        // What is cached stays as it is.
        assert_eq!(reads(&mut machine, SID ^ 1), neighbours);
        machine.command(cfgi_ste(SID));
        machine.sync();
        assert_eq!(reads(&mut machine, SID ^ 1), neighbours);
        assert!(reads(&mut machine, SID));
        machine.command(cfgi_ste(SID ^ 1));
        machine.sync();
        assert!(!reads(&mut machine, SID ^ 1), "seed {seed}: it was told");
        assert!(reads(&mut machine, SID));
    }
    assert!(seen.iter().all(|count| *count > 4), "{seen:?}");
    let mut machine = Machine::new(quiet(), 1);
    machine.a1();
    let mut words = ste_words(CD);
    words[1] |= CONT;
    machine.ste(SID, words);
    assert!(reads(&mut machine, SID) && !reads(&mut machine, SID ^ 1));
}

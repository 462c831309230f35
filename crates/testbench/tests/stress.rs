// SPDX-License-Identifier: MIT OR Apache-2.0
//! Slices of a stress, under those policies that change tags of live domains in different ways.

use smmuv3::AsidPolicy;
use smmuv3_testbench::stress::{Stress, Until};

fn slice(policy: AsidPolicy) {
    let stress = Stress { until: Until::Rounds(150), ..Stress::default() };
    let outcome = stress.run(policy, &mut |_| ());
    println!("{outcome:?}");
    assert_eq!(outcome.failure, None, "{policy}, seed {}", stress.seed);
    // All of it happens; of what depends on when, little is promised.
    let counts = outcome.counts;
    let done = [counts.unmaps, counts.invalidations, counts.attaches, counts.detaches];
    assert!(done.iter().all(|count| *count > 20), "{counts:?}");
    assert!(counts.releases > 0 && counts.binds > 0 && counts.unbinds > 0, "{counts:?}");
}

/// Processes take the numbers of domains.
#[test]
fn everything_at_once_with_an_asid_on_each_instance() {
    slice(AsidPolicy::PerInstance);
}

/// Domains that come to a narrow instance get narrower numbers.
#[test]
fn everything_at_once_with_asids_that_are_made_to_fit() {
    slice(AsidPolicy::SharedMinMove);
}

/// Masters change their bank when it is full.
#[test]
fn everything_at_once_with_banks() {
    slice(AsidPolicy::Banked);
}

#[test]
fn too_much_is_refused() {
    for (threads, instances) in [(0, 4), (65, 4), (8, 1), (8, 17)] {
        let stress = Stress { threads, instances, ..Stress::default() };
        let failure = stress.run(AsidPolicy::PerInstance, &mut |_| ()).failure.unwrap();
        assert_eq!(failure, "it takes 1..=64 threads and 2..=16 instances");
    }
}

/// Eyes that see nothing would find nothing wrong. (Mixtures of words are not looked for here; a race that only
/// a wrong order of steps opens takes longer.)
#[cfg(feature = "mutation")]
#[test]
fn a_driver_that_leaves_a_step_out_does_not_get_away_with_it() {
    use smmuv3::Mutation;

    // Which rule shows it first depends on when things happen. It is one of R0 to R9: what the model calls misuse comes later,
    // of memory that was freed too early.
    for mutation in [
        Mutation::CfgiBeforeSte,
        Mutation::NoCfgi,
        Mutation::NoTlbi,
        Mutation::WrongAsid,
        Mutation::OneInstanceOnly,
        Mutation::FreeBeforeSync,
        Mutation::LeafOnly,
        Mutation::NoSync,
        Mutation::NoTagFlush,
        Mutation::NoLeafCfgi,
    ] {
        let (until, mutation) = (Until::Rounds(400), Some(mutation));
        let stress = Stress { until, mutation, ..Stress::default() };
        let failure = stress.run(AsidPolicy::PerInstance, &mut |_| ()).failure.unwrap_or_default();
        println!("{mutation:?}: {failure}");
        assert!(failure.starts_with('R'), "{mutation:?}: {failure}");
    }
}

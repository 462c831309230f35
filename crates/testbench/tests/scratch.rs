#![cfg(feature = "mutation")]
use smmuv3::Mutation;
use smmuv3_testbench::campaign;
use smmuv3_testbench::run::{Options, run};
#[test]
fn scratch() {
    for mutation in [Mutation::NoLeafCfgi, Mutation::TagBeforeTarget] {
        let mut found = Vec::new();
        for seed in 0..60 {
            let options = Options { mutation: Some(mutation), no_shrink: true, ..Options::default() };
            let verdict = run(&campaign::scenario(seed, 500), &options, &mut |_| ()).unwrap().verdict;
            if verdict != "ok" { found.push((seed, verdict)); }
        }
        println!("{mutation:?} {found:?}");
    }
}

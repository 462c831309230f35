// SPDX-License-Identifier: MIT OR Apache-2.0
//! Command lines, and what they mean.

use clap::CommandFactory;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

fn run(line: &str) -> Run {
    match parse(line).unwrap().command {
        Some(Command::Run(run)) => run,
        other => panic!("{line}: {other:?}"),
    }
}

fn fuzz(line: &str) -> Fuzz {
    match parse(line).unwrap().command {
        Some(Command::Fuzz(fuzz)) => fuzz,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn nothing_is_run_with_the_defaults() {
    assert_eq!(parse("smmuv3").unwrap().command, None);
    assert_eq!(run("smmuv3 run"), Run::bare());
    assert_eq!(Run::bare().machine().unwrap(), MachineName::Model);
}

#[test]
fn every_operand_is_understood() {
    let all = run("smmuv3 run a.toml --machine qemu --qemu /q --seed 0x10 --json --trace t");
    assert_eq!(
        all,
        Run {
            scenario: "a.toml".to_owned(),
            machine: Some(MachineName::Qemu),
            qemu: Some(PathBuf::from("/q")),
            seed: Some(16),
            json: true,
            trace: Some(PathBuf::from("t")),
        }
    );
    assert_eq!(run("smmuv3 run -").scenario, "-");
}

#[test]
fn naming_a_qemu_asks_for_qemu() {
    assert_eq!(run("smmuv3 run --qemu /q").machine().unwrap(), MachineName::Qemu);
    let contradiction = run("smmuv3 run --machine model --qemu /q").machine().unwrap_err();
    assert_eq!(contradiction.exit_code(), 2);
    assert!(contradiction.to_string().contains("leave one of them out"), "{contradiction}");
}

#[test]
fn seeds_are_whole_numbers_in_either_base() {
    assert_eq!(seed("7"), Ok(7));
    assert_eq!(seed("0xff"), Ok(255));
    assert_eq!(seed("1_000"), Ok(1000));
    assert_eq!(seed("18446744073709551615"), Ok(u64::MAX));
    for wrong in ["", "-1", "seven", "0x", "0x+1", "1.5", "18446744073709551616"] {
        assert!(seed(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_campaign_has_defaults_and_every_operand_of_it_is_understood() {
    let bare = fuzz("smmuv3 fuzz");
    assert_eq!((bare.seeds, bare.steps, bare.minutes, bare.jobs), (0..100, 2000, None, None));
    let all = "smmuv3 fuzz --seeds 0x10..18 --steps 5 --minutes 0.5 --jobs 2 --keep-going \
               --no-shrink --out found --coverage --json";
    assert_eq!(
        fuzz(all),
        Fuzz {
            seeds: 16..18,
            steps: 5,
            minutes: Some(Duration::from_secs(30)),
            jobs: NonZeroUsize::new(2),
            keep_going: true,
            no_shrink: true,
            out: PathBuf::from("found"),
            coverage: true,
            json: true,
        }
    );
}

#[test]
fn every_operand_of_the_laboratory_is_understood() {
    let asid = |line: &str| match parse(line).unwrap().command {
        Some(Command::Asid(asid)) => asid,
        other => panic!("{line}: {other:?}"),
    };
    let bare = asid("smmuv3 asid");
    assert_eq!((bare.policies.len(), bare.seed, bare.scale), (0, 1, false));
    let all = asid(
        "smmuv3 asid --policy banked --policy shared-8 --instances 8,2x16 --domains 1..70_000 \
         --masters 9 --processes 3 --broadcast 1,2 --churn 5 --seed 0x10 --json --plot a.svg",
    );
    let expected = Asid {
        policies: vec![AsidPolicy::Banked, AsidPolicy::Shared8],
        instances: Some(Widths(vec![8, 16, 16])),
        domains: Some(Domains { first: Some(1), last: 70_000 }),
        masters: Some(9),
        processes: Some(3),
        broadcast: vec![1, 2],
        churn: Some(5),
        seed: 16,
        scale: false,
        json: true,
        plot: Some(PathBuf::from("a.svg")),
    };
    assert_eq!(all, expected);
    assert_eq!(asid("smmuv3 asid --domains 7").domains, Some(Domains { first: None, last: 7 }));
    for wrong in [
        "--policy best",
        "--instances 12",
        "--instances 65x8",
        "--instances 0x8",
        "--instances 8,,8",
        "--domains 0",
        "--domains 9..3",
        "--domains 1..",
        "--domains 1000001",
        "--masters -1",
        "--broadcast one",
        "--scale --plot a.svg",
        "--scale --churn 1",
    ] {
        let line = format!("smmuv3 asid {wrong}");
        assert_eq!(parse(&line).unwrap_err().exit_code(), 2, "{wrong}");
    }
}

fn stress(line: &str) -> Stress {
    match parse(line).unwrap().command {
        Some(Command::Stress(stress)) => stress,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn a_stress_has_defaults_and_every_operand_of_it_is_understood() {
    let bare = stress("smmuv3 stress");
    assert_eq!((bare.seconds, bare.threads, bare.instances), (Duration::from_secs(30), 8, 4));
    assert_eq!((bare.seed, bare.policy, bare.json), (1, None, false));
    let all = "smmuv3 stress --seconds 1.5 --threads 64 --instances 16 --seed 0x10 \
               --policy banked --json";
    assert_eq!(
        stress(all),
        Stress {
            seconds: Duration::from_millis(1500),
            threads: 64,
            instances: 16,
            seed: 16,
            policy: Some(AsidPolicy::Banked),
            json: true,
        }
    );
}

#[test]
fn what_is_not_understood_is_a_usage_error() {
    for wrong in [
        "smmuv3 walk",
        "smmuv3 run --machine arm",
        "smmuv3 run --seed x",
        "smmuv3 run a b",
        "smmuv3 run --fast",
        "smmuv3 fuzz --seeds 7",
        "smmuv3 fuzz --seeds 7..7",
        "smmuv3 fuzz --seeds 0..=7",
        "smmuv3 fuzz --steps 0",
        "smmuv3 fuzz --jobs 0",
        "smmuv3 fuzz --minutes -1",
        "smmuv3 fuzz --minutes inf",
        "smmuv3 stress --seconds 0",
        "smmuv3 stress --seconds 0.9",
        "smmuv3 stress --seconds -1",
        "smmuv3 stress --seconds inf",
        "smmuv3 stress --threads 0",
        "smmuv3 stress --threads 65",
        "smmuv3 stress --instances 1",
        "smmuv3 stress --policy shared",
    ] {
        assert_eq!(parse(wrong).unwrap_err().exit_code(), 2, "{wrong}");
    }
}

/// `-1` is a number that is too small, not an option.
#[test]
fn a_negative_number_is_told_the_range() {
    for (line, range) in [
        ("asid --processes -1", "from 0 to 1000000"),
        ("asid --masters -1", "from 0 to 1000000"),
        ("asid --churn -1", "from 0 to 1000000"),
        ("asid --domains -1", "from 0 to 1000000"),
        ("asid --broadcast -1", "from 0 to 1000000"),
        ("asid --instances -8", "bits of their ASIDs, such as 8,16,16"),
        ("asid --seed -1", "from 0 on"),
        ("stress --seconds -1", "at least 1 and at most"),
        ("stress --threads -1", "-1 is not in 1..=64"),
        ("stress --instances -1", "-1 is not in 2..=16"),
        ("stress --seed -1", "from 0 on"),
        ("fuzz --minutes -0.5", "from 0 to 525600"),
        ("fuzz --seeds -1", "seeds are a range"),
        ("fuzz --steps -1", "from 1 to 10000000"),
        ("fuzz --jobs -1", "at least 1"),
        ("run --seed -1", "from 0 on"),
    ] {
        let error = parse(&format!("smmuv3 {line}")).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        assert!(error.to_string().contains(range), "{line}: {error}");
    }
}

#[test]
fn the_default_in_the_help_is_the_built_in_scenario() {
    assert_eq!(run("smmuv3 run").scenario, crate::source::DEFAULT);
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whatever call is under way, an unmap may come at any moment of it: when it has returned, nobody reaches the
//! memory (rules R1, R5, R6).

mod common;

use smmuv3_testbench::bench::Settings;
use smmuv3_testbench::operation::{Operation, Source};
use smmuv3_testbench::oracle::Use;
use smmuv3_testbench::scenario::{Answer, MemoryKind, Rights, Scenario};

use common::every_step::EveryStep;
use common::pair::pair;
use common::parse;

/// What is mapped, and then unmapped: two pages.
const IOVA: u64 = 0x1_0000;
const BYTES: u64 = 0x2000;
const SEEDS: std::ops::Range<u64> = 0..3;

/// Masters and processes.
const NARROW: usize = 0;
const WIDE: usize = 1;
const SHELL: usize = 0;
/// Domains; the process comes after them.
const NET: usize = 0;
const VIDEO: usize = 1;
const SHELL_SPACE: usize = 2;

/// Two SMMUs, and a process that has the highest ASID on the CPUs.
fn scenario(policy: &str) -> Scenario {
    with_cpu_asid(policy, 0xffff)
}

/// As [`scenario`], where the process has `asid`.
fn with_cpu_asid(policy: &str, asid: u16) -> Scenario {
    let top = format!("asid-policy = \"{policy}\"\npasids = 2");
    parse(&pair(&top, &format!("[[process]]\nname = \"shell\"\nasid = {asid}")))
}

fn map(space: usize) -> Operation {
    let (source, kind) = (Source::Memory { memory: 0, offset: 0 }, MemoryKind::Normal);
    Operation::Map {
        space,
        iova: IOVA,
        bytes: BYTES,
        source,
        write: true,
        kind,
        rights: Rights::Data,
    }
}

fn attach(master: usize, to: Use) -> Operation {
    Operation::attach(master, to)
}

fn attach_pasid(master: usize, to: Use) -> Operation {
    attach_nth(master, 1, to)
}

fn attach_nth(master: usize, pasid: u32, to: Use) -> Operation {
    Operation::Attach { master, pasid: Some(pasid), to, answer: Answer::Done }
}

fn bind(master: usize) -> Operation {
    Operation::Bind { process: SHELL, master, answer: Answer::Done }
}

/// An unmap of `space` at every moment of `call`, after `before`: no rule breaks, and there are moments enough.
#[track_caller]
fn holds(scenario: &Scenario, space: usize, before: &[Operation], call: &Operation) {
    for seed in SEEDS {
        holds_with(seed, scenario, space, before, call);
    }
}

/// As [`holds`], with one seed.
#[track_caller]
fn holds_with(
    seed: u64,
    scenario: &Scenario,
    space: usize,
    before: &[Operation],
    call: &Operation,
) {
    let unmap = &Operation::Unmap { space, iova: IOVA, bytes: BYTES };
    let settings = Settings::default();
    let verdicts = EveryStep { scenario, settings, before, call, unmap, seed }.verdicts();
    for (moment, verdict) in verdicts.iter().enumerate() {
        assert_eq!(*verdict, None, "seed {seed}, moment {moment}");
    }
    assert!(verdicts.len() >= 8, "{} moments", verdicts.len());
}

#[test]
fn of_an_attach_where_the_domain_is_new_or_known() {
    let scenario = scenario("per-instance");
    let call = &attach(NARROW, Use::Domain(NET));
    holds(&scenario, NET, &[map(NET)], call);
    holds(&scenario, NET, &[map(NET), attach(WIDE, Use::Domain(NET))], call);
    let call = &attach_pasid(NARROW, Use::Domain(NET));
    holds(&scenario, NET, &[map(NET)], call);
    holds(&scenario, NET, &[map(NET), attach(NARROW, Use::Domain(NET))], call);
    holds(&scenario, NET, &[map(NET), attach(NARROW, Use::Identity)], call);
    holds(&scenario, VIDEO, &[map(VIDEO), attach(NARROW, Use::Domain(VIDEO))], call);
}

#[test]
fn of_a_detach_or_a_change_of_domains() {
    let scenario = scenario("per-instance");
    let both = [map(NET), attach(NARROW, Use::Domain(NET)), attach(WIDE, Use::Domain(NET))];
    holds(&scenario, NET, &both, &attach(NARROW, Use::Blocked));
    holds(&scenario, NET, &both, &attach(NARROW, Use::Domain(VIDEO)));
    let before = [map(NET), attach_pasid(NARROW, Use::Domain(NET))];
    holds(&scenario, NET, &before, &attach_pasid(NARROW, Use::Blocked));
    holds(&scenario, NET, &before, &attach_pasid(NARROW, Use::Domain(VIDEO)));
}

#[test]
fn of_a_bind_an_unbind_and_a_release() {
    let scenario = scenario("per-instance");
    for master in [NARROW, WIDE] {
        holds(&scenario, SHELL_SPACE, &[map(SHELL_SPACE)], &bind(master));
        let bound = [map(SHELL_SPACE), bind(NARROW), bind(WIDE)];
        holds(&scenario, SHELL_SPACE, &bound, &Operation::Unbind { process: SHELL, master });
    }
    let bound = [map(SHELL_SPACE), bind(NARROW), bind(WIDE)];
    holds(&scenario, SHELL_SPACE, &bound, &Operation::Release { process: SHELL });
}

/// The narrow instance cannot have the domain's ASID, so that it is changed on the wide one.
fn moved() -> (Scenario, [Operation; 3], Operation) {
    let before = [map(NET), attach(WIDE, Use::Domain(NET)), attach_pasid(WIDE, Use::Domain(NET))];
    (scenario("shared-min-move"), before, attach(NARROW, Use::Domain(NET)))
}

#[test]
fn of_an_attach_that_changes_the_asid_of_the_domain() {
    let (scenario, before, call) = moved();
    holds(&scenario, NET, &before, &call);
}

/// The wide instance gives out its highest ASID first, which is that of the process.
fn made_way() -> (Scenario, [Operation; 2], Operation) {
    let before = [map(NET), attach(WIDE, Use::Domain(NET))];
    (scenario("per-instance"), before, bind(WIDE))
}

#[test]
fn of_a_bind_that_takes_the_asid_of_a_domain() {
    let (scenario, before, call) = made_way();
    holds(&scenario, NET, &before, &call);
}

/// With one ASID for all instances, the domain has that of the process on both: the narrow one gives out its lowest
/// first.
fn made_way_everywhere() -> (Scenario, [Operation; 3], Operation) {
    let before = [map(NET), attach(NARROW, Use::Domain(NET)), attach(WIDE, Use::Domain(NET))];
    (with_cpu_asid("shared-min-move", 1), before, bind(WIDE))
}

#[test]
fn of_a_bind_that_takes_the_asid_that_a_domain_has_on_all_instances() {
    let (scenario, before, call) = made_way_everywhere();
    holds(&scenario, NET, &before, &call);
}

/// One more master of the narrow instance.
const STAYER: usize = 2;
/// ASIDs of a bank there (0 is what nobody has).
const BANK: usize = 255;

/// The first bank is full: of one domain of a master, and those of the other, which uses the former as well if it is
/// `shared`. With one more domain the first master goes to the second bank.
fn moved_on(shared: bool) -> (Scenario, Vec<Operation>, Operation) {
    let top = format!("asid-policy = \"banked\"\nbanks = [1, 1]\npasids = {BANK}");
    let guests = BANK - 1;
    let rest = format!(
        r#"
[[master]]
name = "stayer"
instance = "narrow"
streams = [7]
pasid-bits = 8
[[domain]]
name = "guest"
count = {guests}
"#
    );
    let mut before = vec![map(NET), attach_pasid(NARROW, Use::Domain(NET))];
    let each = (1..=guests).map(|nth| attach_nth(STAYER, nth as u32, Use::Domain(VIDEO + nth)));
    before.extend(each);
    if shared {
        before.push(attach(STAYER, Use::Domain(NET)));
    }
    (parse(&pair(&top, &rest)), before, attach_nth(NARROW, 2, Use::Domain(VIDEO)))
}

#[test]
fn of_an_attach_that_changes_the_bank_of_the_master() {
    // To fill a bank each time takes a while.
    for (seed, shared) in [(0, false), (1, true)] {
        let (scenario, before, call) = moved_on(shared);
        holds_with(seed, &scenario, NET, &before, &call);
    }
}

/// With the tag changed before the targets name it, some moments are bad; and it is said why.
#[cfg(feature = "mutation")]
#[test]
fn a_driver_that_changes_tags_too_early_breaks_the_rule_for_that() {
    use smmuv3_testbench::oracle::Rule;
    let unmap = &Operation::Unmap { space: NET, iova: IOVA, bytes: BYTES };
    let wrong = |scenario: &Scenario, before: &[Operation], call: &Operation| {
        let mutation = Some(smmuv3::Mutation::TagBeforeTarget);
        let settings = Settings { mutation, ..Settings::default() };
        let steps = EveryStep { scenario, settings, before, call, unmap, seed: 0 };
        let rules: Vec<Rule> = steps.verdicts().into_iter().flatten().map(|it| it.rule).collect();
        assert!(!rules.is_empty());
        assert!(rules.iter().all(|rule| *rule == Rule::R6), "{rules:?}");
    };
    let (scenario, before, call) = moved();
    wrong(&scenario, &before, &call);
    let (scenario, before, call) = made_way();
    wrong(&scenario, &before, &call);
    let (scenario, before, call) = made_way_everywhere();
    wrong(&scenario, &before, &call);
    for shared in [false, true] {
        let (scenario, before, call) = moved_on(shared);
        wrong(&scenario, &before, &call);
    }
}

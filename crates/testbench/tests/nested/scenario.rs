// SPDX-License-Identifier: MIT OR Apache-2.0
//! The scenario `nested-ats`, with all rules watched, and with a step left out.

use smmuv3_testbench::run::{Options, run};
use smmuv3_testbench::scenario::{ContextLayout, Scenario, WithoutPasid};

fn scenario() -> Scenario {
    let text = include_str!("../../../../scenarios/nested-ats.toml");
    Scenario::parse(text, "nested-ats.toml").unwrap_or_else(|errors| panic!("{errors}"))
}

/// The same, where stage 2 marks what is written, also by what goes through the guest's stage 1.
fn marked() -> Scenario {
    let mut text = include_str!("../../../../scenarios/nested-ats.toml").to_owned();
    for (old, more) in [("[[instance]]\n", "httu = 2\n"), ("stage = 2\n", "dirty = true\n")] {
        assert!(text.contains(old), "{old}");
        text = text.replace(old, &format!("{old}{more}"));
    }
    Scenario::parse(&text, "marked.toml").unwrap_or_else(|errors| panic!("{errors}"))
}

/// The scenario `guest-stall`.
fn stalls() -> Scenario {
    let text = include_str!("../../../../scenarios/guest-stall.toml");
    Scenario::parse(text, "guest-stall.toml").unwrap_or_else(|errors| panic!("{errors}"))
}

/// The scenario `guest-pages`.
fn pages() -> Scenario {
    let text = include_str!("../../../../scenarios/guest-pages.toml");
    Scenario::parse(text, "guest-pages.toml").unwrap_or_else(|errors| panic!("{errors}"))
}

/// The scenario `guest-hostile`.
fn hostile() -> Scenario {
    let text = include_str!("../../../../scenarios/guest-hostile.toml");
    Scenario::parse(text, "guest-hostile.toml").unwrap_or_else(|errors| panic!("{errors}"))
}

/// The scenario `guest-pasids`.
fn pasids() -> Scenario {
    let text = include_str!("../../../../scenarios/guest-pasids.toml");
    Scenario::parse(text, "guest-pasids.toml").unwrap_or_else(|errors| panic!("{errors}"))
}

fn verdicts(seeds: std::ops::Range<u64>, options: &Options) -> Vec<String> {
    verdicts_of(&scenario(), seeds, options)
}

fn verdicts_of(scenario: &Scenario, seeds: std::ops::Range<u64>, options: &Options) -> Vec<String> {
    seeds
        .map(|seed| {
            let options = Options { seed: Some(seed), no_shrink: true, ..options.clone() };
            let report = run(scenario, &options, &mut |_| ()).unwrap();
            if let Some(failure) = &report.failure {
                println!("seed {seed}: line {}: {}", failure.line, failure.text);
            }
            report.verdict
        })
        .collect()
}

#[test]
fn it_holds_all_rules_on_every_seed() {
    let verdicts = verdicts(0..20, &Options::default());
    assert!(verdicts.iter().all(|verdict| verdict == "ok"), "{verdicts:?}");
}

#[test]
fn what_is_written_through_the_guest_is_reported_on_every_seed() {
    let scenario = marked();
    assert!(scenario.domains[0].tables.dirty);
    let verdicts = verdicts_of(&scenario, 0..20, &Options::default());
    assert!(verdicts.iter().all(|verdict| verdict == "ok"), "{verdicts:?}");
}

#[cfg(feature = "mutation")]
#[test]
fn a_step_left_out_is_caught_on_nearly_every_seed() {
    for mutation in smmuv3::Mutation::OF_GUESTS {
        let options = Options { mutation: Some(mutation), ..Options::default() };
        let verdicts = verdicts(0..20, &options);
        let caught = verdicts.iter().filter(|verdict| *verdict != "ok" && *verdict != "driver");
        let caught = caught.count();
        assert!(caught >= 19, "{mutation:?} is caught on {caught} seeds only: {verdicts:?}");
    }
}

#[test]
fn guests_that_are_shown_stalls_hold_all_rules_on_every_seed() {
    let verdicts = verdicts_of(&stalls(), 0..20, &Options::default());
    assert!(verdicts.iter().all(|verdict| verdict == "ok"), "{verdicts:?}");
}

#[test]
fn guests_that_misbehave_are_refused_and_harm_nobody_on_every_seed() {
    let verdicts = verdicts_of(&hostile(), 0..20, &Options::default());
    assert!(verdicts.iter().all(|verdict| verdict == "ok"), "{verdicts:?}");
    let report = run(&hostile(), &Options { no_shrink: true, ..Options::default() }, &mut |_| ());
    let report = report.unwrap();
    let wrong = report.steps.iter().filter(|step| step.text.contains("misbehaves"));
    let outcomes: Vec<&str> = wrong.map(|step| &*step.outcome).collect();
    assert_eq!(outcomes.len(), 4);
    assert!(outcomes.iter().all(|it| it.contains("was refused behind")), "{outcomes:?}");
}

#[cfg(feature = "mutation")]
#[test]
fn a_guest_that_is_not_judged_is_caught_on_nearly_every_seed() {
    for mutation in smmuv3::Mutation::OF_HOSTILE_GUESTS {
        let options = Options { mutation: Some(mutation), ..Options::default() };
        let verdicts = verdicts_of(&hostile(), 0..20, &options);
        let caught = verdicts.iter().filter(|verdict| *verdict != "ok" && *verdict != "driver");
        let caught = caught.count();
        assert!(caught >= 19, "{mutation:?} is caught on {caught} seeds only: {verdicts:?}");
    }
}

/// In tables of every layout; where the instance has no two levels, all are linear.
#[test]
fn guests_with_pasids_hold_all_rules_on_every_seed() {
    for layout in ["linear", "4K", "64K"] {
        let text = include_str!("../../../../scenarios/guest-pasids.toml");
        let of_layout = format!("guest-contexts = \"{layout}\"");
        let text = text.replace("guest-contexts = \"4K\"", &of_layout);
        assert!(text.contains(&of_layout));
        let scenario = Scenario::parse(&text, "guest-pasids.toml").unwrap();
        let verdicts = verdicts_of(&scenario, 0..20, &Options::default());
        assert!(verdicts.iter().all(|verdict| verdict == "ok"), "{layout}: {verdicts:?}");
    }
}

#[cfg(feature = "mutation")]
#[test]
fn a_step_left_out_of_what_guests_say_of_pasids_is_caught_on_nearly_every_seed() {
    for mutation in smmuv3::Mutation::OF_GUESTS_PASIDS {
        let options = Options { mutation: Some(mutation), ..Options::default() };
        let verdicts = verdicts_of(&pasids(), 0..20, &options);
        let caught = verdicts.iter().filter(|verdict| *verdict != "ok" && *verdict != "driver");
        let caught = caught.count();
        assert!(caught >= 19, "{mutation:?} is caught on {caught} seeds only: {verdicts:?}");
    }
}

#[test]
fn what_contexts_a_guest_has_is_written_as_it_is_read() {
    let again = Scenario::parse(&pasids().to_toml(), "again.toml").unwrap();
    let said = |it: &Scenario| -> Vec<_> {
        let tables = it.domains.iter().map(|domain| domain.tables);
        tables.map(|it| (it.guest_contexts, it.without_pasid)).collect()
    };
    let [context, bypass, terminate] =
        [WithoutPasid::Context, WithoutPasid::Bypass, WithoutPasid::Terminate];
    let layout = Some(ContextLayout::Leaves4K);
    let expected =
        [(layout, context), (None, context), (None, context), (None, bypass), (None, terminate)];
    assert_eq!((said(&pasids()), said(&again)), (expected.to_vec(), expected.to_vec()));
    let text = include_str!("../../../../scenarios/guest-pasids.toml");
    for (right, wrong, message) in [
        (
            "stage = 2\nguest-contexts",
            "guest-contexts",
            "guest-contexts in domain \"memory\" needs stage = 2",
        ),
        (
            "over = \"memory\"\nwithout-pasid",
            "without-pasid",
            "without-pasid in domain \"plain\" needs over",
        ),
    ] {
        let wrong = text.replace(right, wrong);
        let errors = Scenario::parse(&wrong, "wrong.toml").unwrap_err().to_string();
        assert!(errors.contains(message), "{errors}");
    }
}

#[test]
fn what_a_guest_does_wrong_is_written_as_it_is_read() {
    let scenario = hostile();
    let again = Scenario::parse(&scenario.to_toml(), "again.toml").unwrap();
    let steps = |it: &Scenario| -> Vec<String> {
        it.steps.iter().map(|step| format!("{:?}", step.action)).collect()
    };
    assert_eq!(steps(&again), steps(&scenario));
}

/// Every guest's answer is one: what is tried again goes on, or stalls anew.
#[test]
fn what_a_guest_answers_is_not_left_waiting() {
    let report = run(&stalls(), &Options { no_shrink: true, ..Options::default() }, &mut |_| ());
    let report = report.unwrap();
    let answers = report.steps.iter().filter(|step| step.text.starts_with("answer"));
    let outcomes: Vec<&str> = answers.map(|step| &*step.outcome).collect();
    let late = "too late: it was over";
    assert_eq!(outcomes, ["answered", "answered", "answered", "dropped", late, "answered"]);
}

#[cfg(feature = "mutation")]
#[test]
fn a_step_left_out_of_what_guests_answer_is_caught_on_nearly_every_seed() {
    for mutation in smmuv3::Mutation::OF_GUESTS_STALLS {
        let options = Options { mutation: Some(mutation), ..Options::default() };
        let verdicts = verdicts_of(&stalls(), 0..20, &options);
        let caught = verdicts.iter().filter(|verdict| *verdict == "R9").count();
        assert!(caught >= 19, "{mutation:?} is caught on {caught} seeds only: {verdicts:?}");
    }
}

#[test]
fn how_many_stalls_a_guest_is_shown_is_written_as_it_is_read() {
    let again = Scenario::parse(&stalls().to_toml(), "again.toml").unwrap();
    let shown = |it: &Scenario| -> Vec<u32> {
        it.domains.iter().map(|domain| domain.tables.guest_stalls).collect()
    };
    assert_eq!(shown(&again), [2, 0, 0, 0]);
    let text = include_str!("../../../../scenarios/guest-stall.toml");
    let wrong = text.replace("stage = 2\nguest-stalls", "guest-stalls");
    let errors = Scenario::parse(&wrong, "wrong.toml").unwrap_err().to_string();
    assert!(errors.contains("guest-stalls in domain \"memory\" needs stage = 2"), "{errors}");
}

/// What a guest is asked for it answers once, and no more than it is shown.
#[test]
fn what_guests_are_asked_for_is_not_left_waiting() {
    let report = run(&pages(), &Options { no_shrink: true, ..Options::default() }, &mut |_| ());
    let report = report.unwrap();
    let said = report.steps.iter().filter(|step| step.text.starts_with("answer what"));
    let outcomes: Vec<&str> = said.map(|step| &*step.outcome).collect();
    let (late, nothing) = ("too late: it was over", "nothing waits");
    let expected = ["answered", "answered", "dropped", nothing, late, "answered", "answered"];
    assert_eq!(outcomes, expected);
    let asked = report.steps.iter().filter(|step| step.outcome == "it may not ask");
    assert_eq!(asked.count(), 1, "of the guest that is shown none");
    let verdicts = verdicts_of(&pages(), 0..20, &Options::default());
    assert!(verdicts.iter().all(|verdict| verdict == "ok"), "{verdicts:?}");
}

#[cfg(feature = "mutation")]
#[test]
fn a_step_left_out_of_what_guests_grant_is_caught_on_nearly_every_seed() {
    for mutation in smmuv3::Mutation::OF_GUESTS_PAGES {
        let options = Options { mutation: Some(mutation), ..Options::default() };
        let verdicts = verdicts_of(&pages(), 0..20, &options);
        let caught = verdicts.iter().filter(|verdict| *verdict == "R9").count();
        assert!(caught >= 19, "{mutation:?} is caught on {caught} seeds only: {verdicts:?}");
    }
}

#[test]
fn how_many_groups_a_guest_is_shown_is_written_as_it_is_read() {
    let again = Scenario::parse(&pages().to_toml(), "again.toml").unwrap();
    let shown = |it: &Scenario| -> Vec<u32> {
        it.domains.iter().map(|domain| domain.tables.guest_pages).collect()
    };
    assert_eq!(shown(&again), [2, 0, 0, 0, 0, 0]);
    let text = include_str!("../../../../scenarios/guest-pages.toml");
    let wrong = text.replace("stage = 2\nguest-page-requests", "guest-page-requests");
    let errors = Scenario::parse(&wrong, "wrong.toml").unwrap_err().to_string();
    let expected = "guest-page-requests in domain \"memory\" needs stage = 2";
    assert!(errors.contains(expected), "{errors}");
}

#[test]
fn it_is_written_as_it_is_read() {
    let scenario = scenario();
    let again = Scenario::parse(&scenario.to_toml(), "again.toml").unwrap();
    let over = |it: &Scenario| -> Vec<_> {
        it.domains.iter().map(|domain| (domain.tables.over, domain.tables.guests)).collect()
    };
    assert_eq!(over(&again), [(None, true), (Some(0), false), (Some(0), false), (None, false)]);
    assert_eq!(over(&scenario), over(&again));
}

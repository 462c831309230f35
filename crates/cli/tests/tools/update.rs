// SPDX-License-Identifier: MIT OR Apache-2.0
//! `smmuv3 update`: the transitions of Linux's own tests, and what hardware may see on the way.

use serde_json::Value;
use smmuv3_formats::ste::config;
use smmuv3_formats::{Cd, Ste};

use crate::common::{Sample, assert_expected, assert_refused, fed, json, run, said};

fn text(words: [u64; 8]) -> String {
    words.map(|word| format!("{word:x}")).join(",")
}

/// The plan, as JSON.
fn plan(kind: &str, [from, to]: [[u64; 8]; 2]) -> (i32, Value) {
    let output = run(&["update", kind, &text(from), &text(to), "--json"]);
    let status = output.status.code().unwrap();
    (status, json(&output, status))
}

fn abort() -> Ste {
    Ste::default().with_v(true)
}

fn bypass() -> Ste {
    abort().with_config(config::BYPASS).with_sh_cfg(1)
}

fn stage_1() -> Ste {
    let ste = abort().with_config(config::STAGE_1).with_s1_context_ptr(0x8002_0000).with_s1_fmt(1);
    ste.with_s1_cir(1).with_s1_cor(1).with_s1_csh(3).with_s1_cd_max(7).with_s1_dss(2)
}

fn stage_2() -> Ste {
    // Appendix A.2.
    Ste([0xd, 0x0000_1000_0000_0000, 0x040c_3558_0000_0000, 0x8004_0000, 0, 0, 0, 0])
}

fn context(asid: u64, table: u64) -> Cd {
    // Appendix A.1.
    Cd([0x0005_e204_c000_3510, 0x8001_0000, 0, 0x0004_44ff, 0, 0, 0, 0])
        .with_asid(asid)
        .with_ttb0(table)
}

#[test]
fn the_transitions_that_linux_tests() {
    let dss = |ste: Ste| ste.with_s1_dss(1).with_sh_cfg(1);
    let moved = stage_1().with_s1_context_ptr(0x8003_0000);
    let s1 = context(778, 0x8001_0000);
    let released = s1.with_epd0(true).with_t0sz(0).with_ttb0(0).with_ir0(0).with_or0(0).with_sh0(0);
    let ste = |from: Ste, to: Ste| ("ste", [from.0, to.0]);
    let cd = |from: Cd, to: Cd| ("cd", [from.0, to.0]);
    for (number, (kind, ends), syncs, hitless) in [
        ("1", ste(bypass(), abort()), 2, true),
        ("2", ste(abort(), bypass()), 2, true),
        ("3", ste(stage_1().with_eats(1), abort()), 2, true),
        ("5", ste(stage_1(), bypass()), 3, true),
        ("6", ste(bypass(), stage_1()), 3, true),
        ("7", ste(stage_1(), dss(stage_1())), 1, true),
        ("8", ste(dss(stage_1()), bypass()), 2, true),
        ("11", ste(abort(), stage_2().with_eats(1)), 2, true),
        ("14", ste(stage_1(), stage_2()), 3, true),
        ("15", ste(stage_2(), stage_1()), 3, true),
        ("16", ste(stage_1(), dss(moved)), 3, false),
        ("17", cd(Cd::default(), s1), 2, true),
        ("18", cd(s1, context(1997, 0x8001_0000)), 1, true),
        ("24", cd(s1, released), 2, true),
        ("the table alone", ste(stage_1(), moved), 1, true),
        ("another address space", cd(s1, context(1997, 0x8005_0000)), 3, false),
        ("EATS", ste(stage_1().with_eats(1), stage_1()), 1, true),
    ] {
        let (status, plan) = plan(kind, ends);
        assert_eq!(
            (&plan["syncs"], &plan["hitless"]),
            (&syncs.into(), &hitless.into()),
            "{number}"
        );
        assert_eq!(status, i32::from(!hitless), "{number}");
        assert_eq!(plan["steps"].as_array().unwrap().len(), syncs as usize);
        assert_eq!(plan["conflicts"].as_array().unwrap().is_empty(), hitless, "{number}");
        assert_eq!(plan["warnings"], serde_json::json!([]), "{number}");
        for step in plan["steps"].as_array().unwrap() {
            for seen in step["seen"].as_array().unwrap() {
                let meaning = seen["meaning"].as_str().unwrap();
                assert_ne!(meaning, "mixture", "{number}");
                assert!(!hitless || meaning != "invalid", "{number}");
            }
        }
    }
}

#[test]
fn all_combinations_of_words_between_two_syncs_are_judged() {
    let (_, plan) = plan("ste", [stage_1().0, stage_2().with_s2_vmid(7).0]);
    let seen: Vec<Vec<(&str, u64)>> = plan["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| {
            let all = step["seen"].as_array().unwrap().iter();
            all.map(|it| (it["meaning"].as_str().unwrap(), it["combinations"].as_u64().unwrap()))
                .collect()
        })
        .collect();
    // Word 0; words 1 to 3; word 0.
    assert_eq!(
        seen,
        [vec![("old", 1), ("invalid", 1)], vec![("invalid", 8)], vec![("new", 1), ("invalid", 1)]]
    );
    // Config and S2VMID are in two words, and both count on both sides.
    assert_eq!(plan["conflicts"][0]["new_meaning"], "stage 2 translates");
    let conflicts: Vec<_> =
        plan["conflicts"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert_eq!(conflicts, ["Config", "S2VMID"]);
    assert_eq!(plan["after"][0]["name"], "CMD_TLBI_NH_ALL");
}

#[test]
fn commands_name_the_stream_and_the_substream() {
    let (from, to) = (text(context(5, 0x1000).0), text(context(6, 0x1000).0));
    let output = run(&["update", "cd", &from, &to, "--sid", "0x100", "--ssid", "3", "--json"]);
    let plan = json(&output, 0);
    let commands = &plan["steps"][0]["commands"];
    assert_eq!(
        commands[0]["words"],
        serde_json::json!(["0x0000010000003005", "0x0000000000000001"])
    );
    assert_eq!(commands[1]["name"], "CMD_SYNC");
    // By the old ASID (§8.2).
    assert_eq!(plan["after"][0]["words"][0], "0x0005000000000011");
}

#[test]
fn what_is_printed() {
    let print = |kind: &str, from: [u64; 8], to: [u64; 8], status| {
        said(&run(&["update", kind, &text(from), &text(to)]), status).to_owned()
    };
    assert_expected(&print("ste", bypass().0, stage_1().0, 0), "update-hitless.txt");
    let stage_2 = stage_2().with_s2_vmid(7).0;
    assert_expected(&print("ste", stage_1().with_eats(1).0, stage_2, 1), "update-hit.txt");
    let (old, new) = (context(5, 0x8001_0000), context(6, 0x8005_0000));
    assert_expected(&print("cd", old.0, new.0, 1), "update-cd.txt");
    assert!(print("ste", stage_2, stage_2, 0).contains("Nothing changes"));
}

#[test]
fn an_entry_that_is_wrong_by_itself_is_told() {
    // S2TG = 3 is reserved.
    let (_, plan) = plan("ste", [abort().0, stage_2().with_s2_tg(3).0]);
    let warning = plan["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("TO is illegal on any SMMU: S2TG: "), "{warning}");
    let (_, plan) = self::plan("ste", [abort().0, bypass().with_s2_poi(0xff).0]);
    let warning = plan["warnings"][0].as_str().unwrap();
    assert!(warning.ends_with("should be 0: S2POI"), "{warning}");
    let eats = [
        stage_1().with_config(config::NESTED).with_eats(1),
        stage_1().with_config(config::NESTED).with_eats(2),
    ];
    let (_, plan) = self::plan("ste", eats.map(|ste| ste.0));
    assert!(plan["notes"][0].as_str().unwrap().contains("through 0"), "{plan}");
}

#[test]
fn words_come_from_files_and_standard_input() {
    let sample = Sample::new("before", text(abort().0).as_bytes());
    let to = text(bypass().0);
    assert!(
        said(&sample.run(&["update", "ste", "@before", &to]), 0).contains("STE: abort to bypass")
    );
    let output = fed(&["update", "ste", &to, "-"], text(abort().0).as_bytes());
    assert!(said(&output, 0).contains("STE: bypass to abort"));
}

#[test]
fn what_is_no_entry_is_refused_with_advice() {
    let entry = text(abort().0);
    assert_refused(&run(&["update", "ste", "1,2", &entry]), &["1,2 has 2 words, not eight"]);
    assert_refused(
        &run(&["update", "ste", &entry, "x"]),
        &["\"x\" is no hexadecimal word of 64 bits"],
    );
    assert_refused(&run(&["update", "ste", "@none", &entry]), &["there is no file none"]);
    assert_refused(
        &run(&["update", "ste", "-", "-"]),
        &["standard input can't be both FROM and TO"],
    );
    assert_refused(&run(&["update", "pte", &entry, &entry]), &["possible values: ste, cd"]);
    assert_refused(&run(&["update", "ste", &entry, &entry, "--ssid", "1"]), &["an STE has none"]);
}

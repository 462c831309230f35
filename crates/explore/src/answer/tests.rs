// SPDX-License-Identifier: MIT OR Apache-2.0
//! Questions as the page asks them.

use serde_json::{Value, json};

use super::answer;

fn ask(question: &Value) -> Value {
    serde_json::from_str(&answer(&question.to_string())).unwrap()
}

#[track_caller]
fn assert_error(question: &str, words: &str) {
    let answer: Value = serde_json::from_str(&answer(question)).unwrap();
    let error = answer["error"].as_str().unwrap_or_else(|| panic!("no error: {answer}"));
    assert!(error.contains(words), "no {words:?} in {error:?}");
    assert_eq!(answer.as_object().unwrap().len(), 1);
}

#[test]
fn a_structure_has_its_fields() {
    let question =
        json!({"request": "structure", "kind": "ste", "text": "0x8002000b 0x54 0 0 0 0 0 0"});
    let ste = ask(&question);
    assert_eq!((&ste["name"], &ste["section"]), (&json!("STE"), &json!("5.2")));
    assert_eq!(ste["fields"]["config"], json!(5));
    assert_eq!(ste["fields"]["s1contextptr"], json!("0x80020000"));
    assert_eq!(ste["word_bits"], json!(64));
    let field = &ste["described"][3];
    assert_eq!(field["name"], "S1ContextPtr");
    assert_eq!((&field["word"], &field["hi"], &field["lo"]), (&json!(0), &json!(55), &json!(6)));
}

#[test]
fn an_instance_judges_and_an_order_is_obeyed() {
    // Stage 1 and 2, for an instance without stage 2.
    let nested = "0x8002000f 0x54 0 0 0 0 0 0";
    let judged = |idr: &str| {
        let options = json!({"idr": idr});
        ask(&json!({"request": "structure", "kind": "ste", "text": nested, "options": options}))
    };
    assert!(judged("idr0=0x2")["illegal"]["text"].is_string());
    let turned = json!({"request": "structure", "kind": "ste", "text": "0 0 0 0 0 0 0x54 0x8002000b",
        "options": {"order": "last-first"}});
    assert_eq!(ask(&turned)["fields"]["s1contextptr"], json!("0x80020000"));
}

/// Appendix A: the leaf of vector A1, and a block at the same place one level up.
#[test]
fn a_descriptor_is_read_as_its_place_asks_for() {
    let at = |options: Value| {
        ask(
            &json!({"request": "structure", "kind": "pte", "text": "0x0060000090000f43", "options": options}),
        )
    };
    let page = at(json!({"level": "3", "stage": "1", "granule": "4k"}));
    assert!(page["summary"].as_str().unwrap().contains("0x90000000"), "{page}");
    let table = at(json!({"level": "2"}));
    assert!(table["summary"].as_str().unwrap().contains("table"), "{table}");
    for (option, value) in [("level", "4"), ("stage", "3"), ("granule", "8k"), ("oas", "57")] {
        let refused = at(json!({option: value}));
        assert!(refused["error"].as_str().unwrap().contains(option), "{refused}");
    }
}

/// Vector A5, out of order and with a gap.
#[test]
fn registers_are_known_by_their_names() {
    let text = "IDR1 = 0x0e739d20, IDR0: 0x080fe6bf\nSMMU_AIDR: 2";
    let idr = ask(&json!({"request": "structure", "kind": "idr", "text": text}));
    assert_eq!(idr["words"][0], "0x080fe6bf");
    let described = idr["described"].as_array().unwrap();
    let of = |structure: &str, name: &str| {
        let mut found = described.iter().filter(|it| it["structure"] == structure);
        found.find(|it| it["name"] == name).map(|it| (it["word"].clone(), it["value"].clone()))
    };
    assert_eq!(of("IDR0", "ASID16"), Some((json!(0), json!(false))));
    assert_eq!(of("IDR1", "SIDSIZE"), Some((json!(1), json!(32))));
    assert!(described.iter().all(|it| it["structure"] != "IDR5"));
    assert!(idr["assumed"].to_string().contains("IDR5"), "{idr}");
}

/// As in a log: bit 19 is HA in openEuler's kernels, NESTING elsewhere.
#[test]
fn the_kernel_names_features() {
    let of = |kernel: &str| {
        let options = json!({"kernel": kernel});
        ask(
            &json!({"request": "structure", "kind": "features", "text": "0x00080000", "options": options}),
        )
    };
    assert_eq!(of("")["summary"], "NESTING");
    assert_eq!(of("5.10.0-60.oe2203")["summary"], "HA");
    assert!(of("mine")["error"].as_str().unwrap().contains("5.10"));
}

#[test]
fn what_was_decoded_encodes_again() {
    let fields = json!({"V": "1", "Config": "5", "S1ContextPtr": "0x80020000"});
    let encoded = ask(&json!({"request": "encode", "kind": "ste", "fields": fields}));
    assert_eq!(encoded["words"][0], json!("0x000000008002000b"));
    assert_eq!(encoded["words"].as_array().unwrap().len(), 8);
    assert_eq!(encoded["name"], "STE");
}

#[test]
fn a_log_has_records() {
    let text = "arm-smmu-v3 smmu0: event 0x10 received:\n\
        arm-smmu-v3 smmu0: \t0x0000018000000010\narm-smmu-v3 smmu0: \t0x0000020100000000\n\
        arm-smmu-v3 smmu0: \t0x00000000ffffe040\narm-smmu-v3 smmu0: \t0x00000000ffffe000\n";
    let answer = ask(&json!({"request": "log", "text": text}));
    assert_eq!(answer["records"][0]["name"], "F_TRANSLATION");
    assert_eq!(answer["records"][0]["fields"]["sid"], "0x180");
}

#[test]
fn every_layout_can_be_drawn() {
    let answer = ask(&json!({"request": "fields"}));
    let structures = answer["structures"].as_array().unwrap();
    assert_eq!(structures.len(), smmuv3_formats::structure::ALL.len());
    let names: std::collections::HashSet<_> =
        structures.iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), structures.len(), "links are by name");
    for one in structures {
        let bits = one["bits"].as_u64().unwrap();
        for field in one["fields"].as_array().unwrap() {
            let place = |name: &str| field[name].as_u64().unwrap();
            assert!(place("lo") <= place("hi") && place("hi") < bits.min(64), "{one}");
            assert!(place("word") < one["words"].as_u64().unwrap(), "{one}");
        }
    }
}

#[test]
fn every_kind_that_is_offered_is_known() {
    let answer = ask(&json!({"request": "kinds"}));
    for list in ["kinds", "others"] {
        let kinds = answer[list].as_array().unwrap();
        assert!(kinds.len() > 10);
        for kind in kinds {
            let decoded =
                ask(&json!({"request": "structure", "kind": kind["name"], "text": "nonsense"}));
            let error = decoded["error"].as_str().unwrap();
            assert!(!error.contains("no structure"), "{error}");
        }
    }
    let word = "0x8002000b 0 0 0 0 0 0 0";
    for order in answer["orders"].as_array().unwrap() {
        let options = json!({"order": order["name"]});
        let decoded =
            ask(&json!({"request": "structure", "kind": "ste", "text": word, "options": options}));
        assert!(decoded["error"].is_null(), "{order}: {decoded}");
    }
}

#[test]
fn what_cannot_be_answered_is_told() {
    assert_error("", "not a question");
    assert_error("{}", "request");
    assert_error(r#"{"request": "nonsense"}"#, "nonsense");
    assert_error(r#"{"request": "detect", "text": "1"}"#, "choose");
    assert_error(r#"{"request": "structure", "kind": "stee", "text": "0"}"#, "ste");
    assert_error(r#"{"request": "structure", "kind": "ste", "text": "0x1"}"#, "8");
    let options = r#""kind": "ste", "text": "0 0 0 0 0 0 0 0", "options""#;
    assert_error(&format!(r#"{{"request": "structure", {options}: {{"order": "none"}}}}"#), "none");
    assert_error(&format!(r#"{{"request": "structure", {options}: {{"idr": "9=1"}}}}"#), "9");
    assert_error(&format!(r#"{{"request": "structure", {options}: {{"ste": "1"}}}}"#), "the STE");
    assert_error(
        r#"{"request": "encode", "kind": "ste", "fields": {"config": "9"}}"#,
        "does not fit",
    );
}

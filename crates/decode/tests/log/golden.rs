// SPDX-License-Identifier: MIT OR Apache-2.0
//! Each log of the corpus gives what is expected, and JSON as the schema has it.

use std::fmt::Write;
use std::path::Path;

use smmuv3_decode::log::{Options, of_record, of_summary};

use super::{corpus, decode, json};

fn text(log: &[u8]) -> String {
    let (records, summary) = decode(log, Options::default());
    let mut text = String::new();
    for record in &records {
        for (_, line) in of_record(record) {
            writeln!(text, "{line}").unwrap();
        }
    }
    for (_, line) in of_summary(&summary) {
        writeln!(text, "{line}").unwrap();
    }
    text
}

#[track_caller]
fn check(path: &Path, found: &str) {
    if std::env::var_os("SMMUV3_BLESS").is_some() {
        std::fs::write(path, found).unwrap();
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    for (number, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
        assert_eq!(found, expected, "{}, line {}", path.display(), number + 1);
    }
    assert_eq!(found.lines().count(), expected.lines().count(), "{}", path.display());
}

#[test]
fn every_log_of_the_corpus_gives_what_is_expected() {
    for (path, log) in corpus() {
        check(&path.with_extension("txt"), &text(&log));
        check(&path.with_extension("jsonl"), &json(&log, Options::default()));
    }
}

#[test]
fn json_is_as_the_schema_has_it() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/decode.schema.json");
    let schema: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let mut kinds = std::collections::BTreeSet::new();
    for (path, log) in corpus() {
        let text = json(&log, Options::default());
        for line in text.lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            if let Err(error) = validator.validate(&value) {
                panic!("{}: {error} at {} in {line}", path.display(), error.instance_path());
            }
            kinds.insert(value["kind"].as_str().unwrap().to_owned());
        }
        let last = text.lines().last().unwrap();
        assert!(last.starts_with("{\"kind\":\"summary\""), "{last}");
    }
    // The corpus has every kind that the schema knows.
    let known = schema["$defs"]["kind"]["enum"].as_array().unwrap();
    let known: std::collections::BTreeSet<String> =
        known.iter().map(|kind| kind.as_str().unwrap().to_owned()).collect();
    assert_eq!(kinds, known);
    // What is wrong is refused.
    for wrong in [
        r#"{"kind":"event"}"#,
        r#"{"kind":"summary","lines":1}"#,
        r#"{"kind":"other","name":"x","instance":null,"line":1,"count":1}"#,
    ] {
        assert!(!validator.is_valid(&serde_json::from_str(wrong).unwrap()), "{wrong}");
    }
}

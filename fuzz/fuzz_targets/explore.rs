// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any question to the page, and any log in pieces: the answer is JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use smmuv3_explore::{Log, answer};

fuzz_target!(|text: &str| {
    if text.starts_with('{') {
        return check(&answer(text));
    }
    // Lines are the parts of a question, so that not every one has to be JSON by chance.
    let mut lines = text.splitn(6, '\n');
    let mut next = || lines.next().unwrap_or_default();
    let (request, kind, order, idr, ste) = (next(), next(), next(), next(), next());
    let text = next();
    let fields: serde_json::Map<String, Value> = text
        .split_whitespace()
        .filter_map(|word| word.split_once('='))
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .collect();
    let options = json!({"order": order, "idr": idr, "ste": ste, "level": idr, "stage": ste});
    let question = json!({
        "request": request, "kind": kind, "text": text, "fields": fields, "options": options,
        "kernel": order,
    });
    check(&answer(&question.to_string()));
    if request == "log" {
        let mut log = Log::new(&json!({"kernel": order}).to_string());
        text.as_bytes().chunks(1 + text.len() % 31).for_each(|piece| log.feed(piece));
        let pieces = log.finish();
        check(&pieces);
        let whole = answer(&json!({"request": "log", "text": text, "kernel": order}).to_string());
        assert_eq!(pieces, whole);
    }
});

fn check(answer: &str) {
    let answer: Value = serde_json::from_str(answer).expect("an answer is JSON");
    assert!(answer.is_object());
    assert!(
        answer.get("error").is_none_or(|error| error.as_str().is_some_and(|text| !text.is_empty()))
    );
}

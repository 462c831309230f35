// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any text as a kind, and fields with their values: what is encoded decodes to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smmuv3_decode::structure::{Kind, Options, decode, encode};

fuzz_target!(|text: &str| {
    let mut words = text.split_whitespace();
    let Some(Ok(kind)) = words.next().map(Kind::find) else { return };
    let fields: Vec<_> = words
        .filter_map(|word| word.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let options = Options::default();
    let encoded = match encode(kind, &fields, &options) {
        Ok(encoded) => encoded,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let again = decode(kind, encoded.words(), &options).expect("what was encoded can be decoded");
    let of = |decoded| serde_json::to_value(decoded).expect("JSON");
    // It may have been chosen by its code, and then has a name of its own.
    assert_eq!(of(&again)["fields"], of(&encoded.decoded)["fields"]);
    for (name, value) in &fields {
        // Where a value is a plain number, the field has it.
        let (Ok(value), Some(found)) = (value.parse::<u64>(), again.value(name)) else { continue };
        assert_eq!(found.number(), value, "{name}");
    }
});

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Questions of the page and their answers.

use serde::Serialize;
use serde_json::{Value, json};
use smmuv3_formats::structure::{self, Class, Structure};

use crate::Log;

/// The answer to a question.
pub fn answer(request: &str) -> String {
    let Ok(question) = serde_json::from_str::<Value>(request) else {
        return json!({"error": "not JSON"}).to_string();
    };
    let text = |name: &str| question.get(name).and_then(Value::as_str).unwrap_or_default();
    match text("request") {
        "log" => {
            let mut log = Log::new("{}");
            log.feed(text("text").as_bytes());
            log.finish()
        }
        "fields" => {
            json!({"structures": structure::ALL.iter().map(Picture::of).collect::<Vec<_>>()})
                .to_string()
        }
        "kinds" => json!({"kinds": [
            {"kind": "event", "about": "An event"}, {"kind": "ste", "about": "An STE"},
            {"kind": "cd", "about": "A CD"}, {"kind": "cmd", "about": "A command"},
        ]})
        .to_string(),
        "structure" => one(text("kind"), text("text")).to_string(),
        _ => json!({"error": "no such request"}).to_string(),
    }
}

fn one(kind: &str, text: &str) -> Value {
    let words: Vec<u64> = text
        .split_whitespace()
        .filter_map(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok())
        .collect();
    let code = words.first().map_or(0, |word| *word as u8);
    let found = match kind {
        "event" => structure::with_code(Class::Event, code),
        "cmd" => structure::with_code(Class::Command, code),
        other => structure::find(other),
    };
    let Some(found) = found else { return json!({"error": "unknown"}) };
    let described: Vec<_> = found
        .fields
        .iter()
        .map(|field| {
            json!({
                "name": field.name, "word": field.word, "hi": field.hi, "lo": field.lo,
                "value": format!("{:#x}", found.value(field, &words).unwrap_or(0)), "meaning": null,
            })
        })
        .collect();
    json!({"kind": kind, "name": found.name, "section": found.section,
        "words": words.iter().map(|word| format!("{word:#018x}")).collect::<Vec<_>>(),
        "described": described, "violations": [], "illegal": null})
}

/// The layout of a structure, as the page draws it.
#[derive(Serialize)]
struct Picture {
    name: &'static str,
    class: &'static str,
    section: &'static str,
    words: usize,
    bits: u32,
    code: Option<u8>,
    offset: Option<u32>,
    fields: Vec<Part>,
}

/// A field of one.
#[derive(Serialize)]
struct Part {
    name: &'static str,
    word: usize,
    hi: u32,
    lo: u32,
    /// What it is, in a few words.
    about: &'static str,
}

impl Picture {
    fn of(structure: &Structure) -> Self {
        Self {
            name: structure.name,
            class: match structure.class {
                Class::Entry => "entry",
                Class::Command => "command",
                Class::Event => "event",
                Class::Request => "request",
                Class::Descriptor => "descriptor",
                Class::Register => "register",
            },
            section: structure.section,
            words: structure.words,
            bits: structure.bits,
            code: structure.code,
            offset: structure.offset,
            fields: structure
                .fields
                .iter()
                .map(|field| Part {
                    name: field.name,
                    word: field.word,
                    hi: field.hi,
                    lo: field.lo,
                    about: "",
                })
                .collect(),
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Meanings of fields and values, each value from the reference's section.

#[path = "meanings/command.rs"]
mod command;
#[path = "meanings/entry.rs"]
mod entry;
#[path = "meanings/record.rs"]
mod record;
#[path = "meanings/register.rs"]
mod register;

use smmuv3_formats::meaning;
use smmuv3_formats::structure::{ALL, find};

/// The structure, other fields that are set, the field, and what its values 0, 1, .. mean.
type Values<'a> = (&'a str, &'a [(&'a str, u64)], &'a str, &'a [&'a str]);

/// The same for one value.
type Single<'a> = (&'a str, &'a [(&'a str, u64)], &'a str, u64, &'a str);

/// What one value means; empty where it means nothing more.
fn shown(structure: &str, others: &[(&str, u64)], field: &str, value: u64) -> String {
    let structure = find(structure).unwrap_or_else(|| panic!("no {structure}"));
    let mut words = vec![0; structure.words];
    for (name, value) in others.iter().chain(&[(field, value)]) {
        let field = structure.field(name).unwrap_or_else(|| panic!("no {name}"));
        words[field.word] = field.insert(words[field.word], *value).unwrap();
    }
    let field = structure.field(field).unwrap();
    meaning::of(structure, field, &words).map_or(String::new(), |text| text.to_string())
}

#[track_caller]
fn check(rows: &[Values]) {
    let mut found = Vec::new();
    for (structure, others, field, meanings) in rows {
        for (value, expected) in (0..).zip(*meanings) {
            let shown = shown(structure, others, field, value);
            if shown != *expected {
                found.push(format!("{structure}.{field} {value} {others:?}: {shown:?}"));
            }
        }
    }
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
}

#[track_caller]
fn check_single(rows: &[Single]) {
    for (structure, others, field, value, expected) in rows {
        assert_eq!(shown(structure, others, field, *value), *expected, "{structure}.{field}");
    }
}

#[test]
fn every_field_says_what_it_is() {
    let silent: Vec<String> = ALL
        .iter()
        .flat_map(|s| s.fields.iter().map(move |f| (s, f)))
        .filter(|(s, f)| meaning::field(s, f).is_empty())
        .map(|(s, f)| format!("{} {f}", s.name))
        .collect();
    assert_eq!(silent, [""; 0]);
    // A few words: they fit in a column.
    let longest = ALL.iter().flat_map(|s| s.fields.iter().map(move |f| meaning::field(s, f).len()));
    assert!(longest.max() <= Some(72));
}

/// Any value of any field, alone or among ones, can be shown.
#[test]
fn no_value_is_refused() {
    for structure in ALL {
        for field in structure.fields {
            let most = if field.address { field.mask() } else { field.mask() >> field.lo };
            for value in [0, 1, 2, 3, 4, 31, 52, 63, 255, most / 2, most] {
                let value = if field.address { value & most } else { value.min(most) };
                let alone = meaning::of_value(structure, field, value).unwrap();
                assert_ne!(alone.map(|text| text.to_string()), Some(String::new()));
                let mut words = [u64::MAX; 8];
                words[field.word] = field.insert(words[field.word], value).unwrap();
                let among = meaning::of(structure, field, &words);
                assert_ne!(among.map(|text| text.to_string()), Some(String::new()));
            }
            assert_eq!(meaning::of(structure, field, &[][..]), None, "{field}: no words");
        }
    }
}

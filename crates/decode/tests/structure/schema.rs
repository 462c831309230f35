// SPDX-License-Identifier: MIT OR Apache-2.0
//! JSON is as docs/structure.schema.json has it.

use std::path::Path;

use serde_json::Value;
use smmuv3_decode::structure::words::Order;
use smmuv3_decode::structure::{Kind, Options, encode, kinds, read};

fn schema(name: &str) -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

#[track_caller]
fn assert_valid(validator: &jsonschema::Validator, value: &Value) {
    let errors: Vec<String> = validator.iter_errors(value).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?} in {value}");
}

#[test]
fn json_is_as_the_schema_has_it() {
    let structure = jsonschema::validator_for(&schema("structure.schema.json")).unwrap();
    let log = jsonschema::validator_for(&schema("decode.schema.json")).unwrap();
    let options = Options { order: Order::Memory, ..Options::default() };
    let fills = [0u64, 1, u64::MAX, 0x0123_4567_89ab_cdef, 0x8000_0000_8000_0010, 0x46, 0x13];
    let mut records = 0;
    for (name, _) in kinds() {
        let kind = Kind::find(&name).unwrap();
        let mut count = 0;
        for fill in fills {
            for (words, digits) in [(1, 8), (2, 8), (6, 8), (1, 16), (2, 16), (4, 16), (8, 16)] {
                let fill = if digits == 8 { fill & 0xffff_ffff } else { fill };
                let text = format!("{fill:0digits$x} ").repeat(words);
                let Ok(decoded) = read(kind, &text, &options) else { continue };
                count += 1;
                assert_valid(&structure, &serde_json::to_value(&decoded).unwrap());
                if let Some(record) = &decoded.record {
                    records += 1;
                    assert_valid(&log, &serde_json::to_value(record).unwrap());
                }
            }
        }
        // Commands and events of one code are seldom hit; their fields are seen in those of any code.
        let certain = matches!(kind, Kind::One(one) if one.code.is_some());
        assert!(count > 0 || certain, "{name}");
    }
    assert!(records > 0);
    let made = encode(Kind::find("cfgi_ste").unwrap(), &[], &Options::default()).unwrap();
    assert_valid(&structure, &serde_json::to_value(made).unwrap());
    let wrong = serde_json::json!({"kind": "ste", "name": "STE"});
    assert!(!structure.is_valid(&wrong));
}

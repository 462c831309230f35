// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any text as ID registers: what they allow can be asked for, whatever they are.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smmuv3_decode::structure::{Instance, Kind, Options, encode, read};
use smmuv3_formats::legality;

fuzz_target!(|text: &str| {
    let idr = Kind::find("idr").expect("a kind");
    if let Ok(decoded) = read(idr, text, &Options::default()) {
        // Whatever was read has a name and a value for each field, and they are the words.
        let fields: Vec<_> = decoded
            .described
            .iter()
            .map(|field| (field.name.to_string(), field.value.to_string()))
            .collect();
        drop(encode(idr, &fields, &Options::default()));
    }
    let Ok(instance) = Instance::parse(text) else { return };
    let implementation = instance.implementation();
    assert!((32..=56).contains(&implementation.output_bits()));
    assert!(implementation.intermediate_bits() <= 56);
    assert!(!instance.is_known() || instance.assumed().len() < 4096);
    legality::registers(&instance.registers(), &mut |rule| drop(rule.to_string()));
    let options = Options { instance, ..Options::default() };
    for kind in ["ste", "cd", "event", "cmd"] {
        drop(read(Kind::find(kind).expect("a kind"), "1 2 3 4 5 6 7 8", &options));
    }
});

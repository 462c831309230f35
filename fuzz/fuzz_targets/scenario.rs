// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any text as a scenario: it is read, or refused with errors; what was read and written is the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smmuv3_testbench::scenario::Scenario;

fuzz_target!(|text: &str| {
    if let Ok(scenario) = Scenario::parse(text, "fuzz.toml") {
        let written = scenario.to_toml();
        let again = Scenario::parse(&written, "again.toml").expect("what was written can be read");
        assert_eq!(again.to_toml(), written);
    }
});

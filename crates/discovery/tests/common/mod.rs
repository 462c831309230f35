// SPDX-License-Identifier: MIT OR Apache-2.0
//! What several tests need.
#![allow(dead_code, reason = "not every test needs all of it")]

pub mod qemu;
pub mod table;
pub mod tree;

/// A scenario of a machine with these SMMUs, and masters by name, SMMU and streams.
pub fn machine(instances: &[&str], masters: &[(&str, &str, &[u32])]) -> String {
    let mut text = String::from("name = \"machine\"\n");
    for name in instances {
        text += &format!("[[instance]]\nname = {name:?}\n");
    }
    for (name, instance, streams) in masters {
        text += &format!("[[master]]\nname = {name:?}\ninstance = {instance:?}\n");
        text += &format!("streams = {streams:?}\n");
    }
    text + "[[domain]]\nname = \"shared\"\n[[memory]]\nname = \"buffer\"\nsize = \"64K\"\n"
}

/// Says that the running test does nothing, and why: to whoever reads, and to whoever counts.
pub fn skipped(reason: &str) {
    use std::io::Write;
    eprintln!("skipped: {reason}");
    if let Some(list) = std::env::var_os("SMMUV3_SKIPPED") {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(list);
        let mut file = file.unwrap_or_else(|error| panic!("the list of skipped tests: {error}"));
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("a test");
        // One write, so that lines of tests that run at the same time stay apart.
        let line = format!("{test}: {reason}\n");
        file.write_all(line.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    }
}

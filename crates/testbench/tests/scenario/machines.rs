// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a machine lacks for a scenario is named, each with its key and place; what it can be told to imitate is not.

use std::fs;

use smmuv3_testbench::scenario::{Capabilities, Scenario};

use crate::{BASE, blocks, docs, root};

fn qemu_10() -> Capabilities {
    Capabilities::qemu("QEMU 10.0.2", false)
}

pub fn qemu_11() -> Capabilities {
    Capabilities::qemu("QEMU 11.1.3", true)
}

#[test]
fn what_a_machine_lacks_is_said_as_documented() {
    let docs = docs();
    let shown = blocks(&docs, "text machine");
    let file = "scenarios/two-instances.toml";
    let text = fs::read_to_string(root().join(file)).unwrap();
    let errors = Scenario::parse(&text, file).unwrap().check_for(&qemu_10()).unwrap_err();
    assert_eq!([errors.to_string().as_str()], [shown[0].trim_end()]);
}

#[test]
fn qemu_has_no_pasids() {
    let text = format!(
        "{BASE}step = [\n{}\n{}\n{}\n]",
        "{ attach = { master = \"sub\", domain = \"d\", pasid = 1 } },",
        "{ bind = { process = \"shell\", master = \"sub\" } },",
        "{ read = { master = \"sub\", pasid = 1, iova = 0, length = 4 } },",
    );
    let text =
        text.replace("{ name = \"second\"", "{ name = \"second\", two-level-contexts = true");
    let text = text.replace("{ name = \"third\"", "{ name = \"third\", btm = true");
    let scenario = Scenario::parse(&text, "x.toml").unwrap_or_else(|errors| panic!("{errors}"));
    let errors = scenario.check_for(&qemu_11()).unwrap_err().to_string();
    let lack = "which QEMU 11.1.3 can't do;";
    for expected in [
        format!("instance \"smmu0\" has ssid-bits = 8, {lack} there it is 0"),
        format!("instance \"second\" has two-level-contexts = true, {lack} there it is false"),
        format!("instance \"third\" has btm = true, {lack} there it is false"),
        format!("master \"sub\" has pasid-bits = 8, {lack} there are no PASIDs"),
        format!("x.toml:19:1: an attach with a PASID, {lack} there are no PASIDs"),
        format!("x.toml:20:1: a bind, {lack} there are no PASIDs"),
        format!("x.toml:21:1: a DMA with a PASID, {lack} there are no PASIDs"),
    ] {
        assert!(errors.contains(&expected), "{expected}\n{errors}");
    }
}

#[test]
fn what_a_machine_lacks_is_named_with_its_key() {
    let text = r#"
name = "much"
[[instance]]
name = "a"
stages = [1]
oas = 48
sid-bits = 8
range-invalidation = false
coherent = false
command-queue = 3
asid-bits = 8
[[instance]]
name = "b"
[[master]]
name = "m"
instance = "a"
streams = [8, 9]
device = "testdev"
[[master]]
name = "n"
instance = "b"
streams = [0x10]
[[memory]]
name = "big"
size = "1G"
[[step]]
write = { master = "m", iova = 0, data = { pattern = 0x12345678, length = 8192 } }
[[step]]
expect-blocked = { master = "m" }
[[step]]
read = { master = "n", iova = 2, length = 4 }
"#;
    let scenario = Scenario::parse(text, "much.toml").unwrap();
    let errors = scenario.check_for(&qemu_10()).unwrap_err().to_string();
    let lack = "which QEMU 10.0.2 can't do;";
    let expected = [
        format!(
            "much.toml:3:1: instance \"a\" walks more, or bears less, {lack} leave lpa2, wide-input, bbml and httu out"
        ),
        format!("much.toml:5:1: instance \"a\" has stages = [1], {lack} there it is [1, 2]"),
        format!("much.toml:6:1: instance \"a\" has oas = 48, {lack} there it is 44"),
        format!("much.toml:7:1: instance \"a\" has sid-bits = 8, {lack} there it is 16"),
        format!(
            "much.toml:8:1: instance \"a\" has range-invalidation = false, {lack} there it is true"
        ),
        format!("much.toml:9:1: instance \"a\" has coherent = false, {lack} there it is true"),
        format!("much.toml:12:1: the scenario has 2 instances, {lack} at most 1"),
        format!("much.toml:17:1: master \"m\" has 2 streams, {lack} at most 1"),
        format!(
            "much.toml:17:1: master \"m\" has stream 0x9, {lack} streams there are 0x8, 0x10 … 0xf8 and \
             0x100, 0x200 … 0xff00"
        ),
        format!("much.toml:18:1: master \"m\" is a testdev, {lack} devices there are edu"),
        format!(
            "much.toml:25:1: the memories up to \"big\" have 1073741824 bytes, {lack} at most 134217728 bytes together"
        ),
        format!("much.toml:26:1: a DMA of 8192 bytes, {lack} at most 4096 bytes at once"),
        format!(
            "much.toml:30:1: a DMA of 4 bytes at 0x2, {lack} address and length are multiples of 4"
        ),
    ];
    assert_eq!(errors.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn instances_that_qemu_can_be_told_to_imitate_are_accepted() {
    let text = r#"
name = "narrow"
[[instance]]
name = "a"
asid-bits = 8
command-queue = 3
event-queue = 4
granules = ["4K"]
bbml = 1
"#;
    let scenario = Scenario::parse(text, "x.toml").unwrap();
    scenario.check_for(&qemu_10()).unwrap_or_else(|errors| panic!("{errors}"));
}

#[test]
fn on_qemu_devices_read_data_alone() {
    let text = r#"
name = "fetch"
instance = [{ name = "a" }]
master = [{ name = "nic", instance = "a", streams = [0x900] }]
[[step]]
read = { master = "nic", iova = 0, length = 4 }
[[step]]
read = { master = "nic", iova = 0, length = 4, instruction = true }
"#;
    let scenario = Scenario::parse(text, "x.toml").unwrap();
    scenario.check_for(&Capabilities::model()).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(
        scenario.check_for(&qemu_11()).unwrap_err().to_string(),
        "x.toml:7:1: a read of instructions, which QEMU 11.1.3 can't do; devices there read data alone"
    );
}

/// Its deviation `no-privilege`: nobody would be refused.
#[test]
fn on_qemu_nothing_is_mapped_for_privileged_accesses_only() {
    let text = r#"
name = "privileged"
instance = [{ name = "a" }]
domain = [{ name = "d" }]
memory = [{ name = "m", size = "4K" }]
[[step]]
map = { domain = "d", iova = 0, memory = "m", rights = "code" }
[[step]]
unmap = { domain = "d", iova = 0, length = "4K" }
[[step]]
map = { domain = "d", iova = 0, memory = "m", rights = "privileged" }
"#;
    let scenario = Scenario::parse(text, "x.toml").unwrap();
    scenario.check_for(&Capabilities::model()).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(
        scenario.check_for(&qemu_11()).unwrap_err().to_string(),
        "x.toml:10:1: a mapping for privileged accesses only, which QEMU 11.1.3 can't do; all are privileged there"
    );
}

#[test]
fn a_stream_on_two_instances_is_possible_on_the_model_only() {
    let text = r#"
name = "same"
instance = [{ name = "a" }, { name = "b" }]
master = [
    { name = "m", instance = "a", streams = [0x900] },
    { name = "n", instance = "b", streams = [0x900] },
]
"#;
    let scenario = Scenario::parse(text, "x.toml").unwrap();
    scenario.check_for(&Capabilities::model()).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(
        scenario.check_for(&qemu_11()).unwrap_err().to_string(),
        "x.toml:6:35: masters \"m\" and \"n\" both have stream 0x900, which QEMU 11.1.3 can't do; \
         there each stream exists once, whatever the instance"
    );
}

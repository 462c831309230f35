// SPDX-License-Identifier: MIT OR Apache-2.0
//! Substreams and processes, on the model.

mod common;

use smmuv3_testbench::run::{Options, run};

use common::pair::pair;
use common::parse;

/// One more master, without PASIDs, processes of several kinds, and memory.
const REST: &str = r#"
[[master]]
name = "old"
instance = "wide"
streams = [10]
[[process]]
name = "shell"
[[process]]
name = "editor"
asid = 7
[[process]]
name = "unpinned"
asid = 0
[[memory]]
name = "heap"
size = "64K"
"#;

fn verdict(steps: &str) -> Result<(), String> {
    let steps = steps.lines().map(str::trim).filter(|line| !line.is_empty());
    let steps: String = steps.map(|line| format!("[[step]]\n{line}\n")).collect();
    let scenario = parse(&pair("", &format!("{REST}{steps}")));
    let report = run(&scenario, &Options::default(), &mut |_| ()).map_err(|it| it.to_string())?;
    match report.failure {
        None => Ok(()),
        Some(failure) => Err(format!("line {}: {}: {}", failure.line, failure.rule, failure.text)),
    }
}

#[track_caller]
fn holds(steps: &str) {
    if let Err(wrong) = verdict(steps) {
        panic!("{wrong}");
    }
}

#[test]
fn a_pasid_has_a_domain_of_its_own() {
    holds(
        r#"
        map = { domain = "net", iova = 0x10000, memory = "rx" }
        map = { domain = "video", iova = 0x10000, memory = "heap" }
        attach = { master = "nic", domain = "net", pasid = 1 }
        write = { master = "nic", pasid = 1, iova = 0x10000, data = "hello" }
        expect-data = { memory = "rx", data = "hello" }
        write = { master = "nic", iova = 0x10000, data = "no" }
        expect-fault = { master = "nic", event = "F_STREAM_DISABLED" }
        write = { master = "nic", pasid = 2, iova = 0x10000, data = "no" }
        expect-fault = { master = "nic", pasid = 2, event = "C_BAD_CD" }
        write = { master = "nic", pasid = 200, iova = 0x10000, data = "no" }
        expect-fault = { master = "nic", pasid = 200, event = "C_BAD_SUBSTREAMID" }
        write = { master = "nic", pasid = 300, iova = 0x10000, data = "no" }
        expect-fault = { master = "nic", pasid = 300, event = "C_BAD_SUBSTREAMID" }
        attach = { master = "nic", domain = "video", pasid = 200 }
        attach = { master = "nic", domain = "video" }
        write = { master = "nic", iova = 0x10000, data = "world" }
        expect-data = { memory = "heap", data = "world" }
        write = { master = "nic", pasid = 200, iova = 0x10000, data = "there" }
        expect-data = { memory = "heap", data = "there" }
        detach = { master = "nic", pasid = 1 }
        write = { master = "nic", pasid = 1, iova = 0x10000, data = "no" }
        expect-fault = { master = "nic", pasid = 1, event = "C_BAD_CD" }
        detach = { master = "nic" }
        detach = { master = "nic", pasid = 200 }
        write = { master = "nic", pasid = 1, iova = 0x10000, data = "no" }
        expect-blocked = { master = "nic", pasid = 1 }
        attach = { master = "nic", domain = "identity" }
        write = { master = "nic", pasid = 1, iova = 0x10000, data = "no" }
        expect-fault = { master = "nic", pasid = 1, event = "C_BAD_SUBSTREAMID" }
        attach = { master = "nic", domain = "net", pasid = 1 }
        write = { master = "nic", pasid = 1, iova = 0x10000, data = "again" }
        expect-data = { memory = "rx", data = "again" }
        attach = { master = "nic", domain = "net", pasid = 300, refused = "pasid-range" }
        attach = { master = "old", domain = "net", pasid = 1, refused = "pasid-range" }
        attach = { master = "old", domain = "net" }
        write = { master = "old", pasid = 1, iova = 0x10000, data = "no" }
        expect-fault = { master = "old", pasid = 1, event = "C_BAD_SUBSTREAMID" }
        "#,
    );
}

#[test]
fn devices_share_the_address_space_of_a_process_until_it_is_released() {
    for process in ["shell", "editor", "unpinned"] {
        holds(
            &r#"
            process-map = { process = "P", iova = 0x10000, memory = "heap" }
            bind = { process = "P", master = "nic" }
            bind = { process = "P", master = "gpu" }
            bind = { process = "P", master = "gpu" }
            write = { master = "nic", process = "P", iova = 0x10000, data = "hello" }
            read = { master = "gpu", process = "P", iova = 0x10000, expect = "hello" }
            process-unmap = { process = "P", iova = 0x11000, length = "4K" }
            read = { master = "gpu", process = "P", iova = 0x11000, length = 4 }
            expect-fault = { master = "gpu", process = "P", event = "F_TRANSLATION" }
            unbind = { process = "P", master = "gpu" }
            read = { master = "gpu", process = "P", iova = 0x10000, expect = "hello" }
            release = { process = "P" }
            read = { master = "gpu", process = "P", iova = 0x10000, length = 4 }
            expect-blocked = { master = "gpu", process = "P" }
            read = { master = "nic", process = "P", iova = 0x50000, length = 4 }
            expect-blocked = { master = "nic", process = "P" }
            bind = { process = "P", master = "gpu", refused = "released" }
            process-unmap = { process = "P", iova = 0x10000, length = "64K" }
            unbind = { process = "P", master = "nic" }
            read = { master = "nic", process = "P", iova = 0x10000, length = 4 }
            expect-blocked = { master = "nic", process = "P" }
            replace = { process = "P" }
            process-map = { process = "P", iova = 0x10000, memory = "rx" }
            bind = { process = "P", master = "gpu" }
            write = { master = "gpu", process = "P", iova = 0x10000, data = "second" }
            expect-data = { memory = "rx", data = "second" }
            "#
            .replace("\"P\"", &format!("\"{process}\"")),
        );
    }
}

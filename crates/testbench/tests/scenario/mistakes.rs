// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mistakes in a file: each is named, none hides another.

use std::fs;

use smmuv3::AtsMode;
use smmuv3_testbench::scenario::Scenario;

use crate::{messages, parse_steps, root, with_steps};

#[test]
fn each_mistake_in_a_step_is_named() {
    let cases = [
        (
            r#"attach = { master = "nik", domain = "d" }"#,
            r#"unknown master "nik"; masters are nic, disk, test, other, sub, far (did you mean "nic"?)"#,
        ),
        (
            r#"attach = { master = "nic", domain = "blokced" }"#,
            r#"unknown domain "blokced"; domains are d, small, identity, blocked (did you mean "blocked"?)"#,
        ),
        (
            r#"attach = { master = "other", domain = "d" }"#,
            r#"instance "second" of master "other" can't walk the tables of domain "d"; write refused = "mismatch", or give it the stage, the granule and the sizes"#,
        ),
        (r#"detach = { master = "nic" }"#, r#"master "nic" was never attached; attach it first"#),
        (r#"misbehave = { domain = "d" }"#, r#"domain "d" is no guest's; name one with over"#),
        (r#"detach = {}"#, r#"detach has no master; write for example master = "nic""#),
        (
            r#"atach = {}"#,
            r#"unknown action atach; actions are attach, detach, bind, unbind, release, replace, suspend, resume, reset, replug, hand-over, end-adoption, map, unmap, unmap-deferred, invalidate-all, reclaim, dirty, accessed, process-map, process-unmap, write, read, answer, translate, ask, grant, stop, mute, readmit, claim, command-error, misbehave, expect-fault, expect-blocked, expect-data, random (did you mean "attach"?)"#,
        ),
        (
            r#"note = "nothing""#,
            "this step does nothing; write one of attach, detach, bind, unbind, release, replace, suspend, resume, reset, replug, hand-over, end-adoption, map, unmap, unmap-deferred, invalidate-all, reclaim, dirty, accessed, process-map, process-unmap, write, read, answer, translate, ask, grant, stop, mute, readmit, claim, command-error, misbehave, expect-fault, expect-blocked, expect-data, random",
        ),
        (
            r#"map = { domain = "d", iova = 0x800, memory = "rx" }"#,
            "iova = 0x800 in map is no multiple of 4 KiB, so no page begins or ends there; near it are 0x1000",
        ),
        (
            r#"map = { domain = "d", iova = 0, memory = "rx", length = "68K" }"#,
            r#"map of 0x11000 bytes from offset 0x0 leaves memory "rx", which has 0x10000 bytes"#,
        ),
        (
            r#"map = { domain = "d", iova = 0, memory = "tx", offset = "8K" }"#,
            r#"map of 0x0 bytes from offset 0x2000 leaves memory "tx", which has 0x2000 bytes"#,
        ),
        (
            r#"map = { domain = "small", iova = 0xfffff000, memory = "tx" }"#,
            r#"0x2000 bytes at 0xfffff000 leave domain "small", whose input-bits = 32 end at 0x100000000"#,
        ),
        (
            r#"map = { domain = "d", iova = 0, memory = "tx", access = "wo" }"#,
            r#"access "wo": stage 1 can't allow writes alone; use "rw""#,
        ),
        (
            r#"map = { domain = "d", iova = 0, memory = "tx", kind = "divice" }"#,
            r#"unknown kind "divice" in map; it is one of "normal", "uncached", "device", "write-through", "strict-device", "as-stage-1" (did you mean "device"?)"#,
        ),
        (
            r#"unmap = { domain = "d", iova = 0, length = 0 }"#,
            r#"length 0 in unmap; the shortest is "4K""#,
        ),
        (
            r#"unmap = { domain = "d", iova = -4096, length = "4K" }"#,
            r#"iova of unmap must be bytes like 65536, 0x10000 or "64K" (K, M, G: 1024 each), not -4096"#,
        ),
        (
            r#"write = { master = "nic", iova = 0, data = "" }"#,
            r#"data of write is empty; write "text", [1, 2, 3], { hex = "de ad" } or { pattern = 0x12345678, length = 64 }"#,
        ),
        (
            r#"write = { master = "nic", iova = 0, data = [256] }"#,
            "data of write has 256; they are whole numbers from 0 to 255",
        ),
        (
            r#"write = { master = "nic", iova = 0, data = { hex = "abc" } }"#,
            r#"hex = "abc" is not pairs of hexadecimal digits"#,
        ),
        (
            r#"write = { master = "nic", iova = 0, data = { pattern = 1 } }"#,
            r#"data has the wrong keys; it is "text", [1, 2, 3], { hex = "de ad" } or { pattern = 0x12345678, length = 64 }"#,
        ),
        (
            r#"write = { master = "nic", iova = 0, data = { pattern = 1, length = "1G" } }"#,
            r#"length of data must be a whole number from 1 to 0x100000, not the string "1G""#,
        ),
        (
            r#"write = { master = "test", iova = 0, data = "abcd" }"#,
            r#"master "test" is a testdev, which writes only { pattern = 0x12345678, length = a multiple of 4 }"#,
        ),
        (
            r#"read = { master = "test", iova = 0, length = 4 }"#,
            r#"master "test" is a testdev, which only writes; give it device = "edu""#,
        ),
        (
            r#"read = { master = "nic", iova = 0 }"#,
            "read has no length; write for example length = 64",
        ),
        (
            r#"read = { master = "nic", iova = 0, length = 0 }"#,
            "a DMA of 0 bytes at 0x0; it has 1 byte to 1 MiB and stays within 64 bits",
        ),
        (
            r#"read = { master = "nic", iova = 0, length = 3, expect = "ab" }"#,
            "length = 3, but expect has 2 bytes; leave length out",
        ),
        (
            r#"expect-fault = { master = "nic", event = "F_TRANSLATION" }"#,
            r#"expect-fault without a DMA before; it must follow a write or read of "nic" (other expectations may lie between)"#,
        ),
        (
            r#"expect-data = { memory = "tx", offset = 8190, data = "abc" }"#,
            r#"3 bytes from offset 0x1ffe leave memory "tx", which has 0x2000 bytes"#,
        ),
        (
            r#"attach = { master = "nic", domain = "d", pasid = 1 }"#,
            r#"master "nic" has no PASIDs; give it pasid-bits, and its instance ssid-bits"#,
        ),
        (
            r#"attach = { master = "sub", domain = "identity", pasid = 1 }"#,
            "a PASID can't be attached to identity; attach it to a domain",
        ),
        (
            r#"attach = { master = "sub", domain = "d", pasid = 0 }"#,
            "pasid = 0 in attach; it must be a whole number from 1 to 4095",
        ),
        (
            r#"attach = { master = "sub", domain = "d", refused = "asid" }"#,
            r#"unknown refused "asid" in attach; it is one of "asid-width", "ids-exhausted", "mismatch", "pasid-range", "pasid-stage", "vmid", "released", "pinned-twice", "maybe" (did you mean "vmid"?)"#,
        ),
        (
            r#"detach = { master = "sub", pasid = 2 }"#,
            r#"PASID 2 of master "sub" was never attached; attach it first"#,
        ),
        (
            r#"bind = { process = "shel", master = "sub" }"#,
            r#"unknown process "shel"; processes are shell (did you mean "shell"?)"#,
        ),
        (
            r#"bind = { process = "shell", master = "nic" }"#,
            r#"master "nic" has no PASIDs; give it pasid-bits, and its instance ssid-bits"#,
        ),
        (
            r#"bind = { process = "shell", master = "far" }"#,
            r#"instance "third" of master "far" is not coherent, which the tables of a process need; leave coherent out"#,
        ),
        (
            r#"unbind = { process = "shell", master = "sub" }"#,
            r#"process "shell" was never bound to master "sub"; bind it first"#,
        ),
        (
            r#"process-map = { process = "shell", iova = "512G", memory = "rx" }"#,
            r#"0x10000 bytes at 0x8000000000 leave process "shell", whose input-bits = 39 end at 0x8000000000"#,
        ),
        (
            r#"write = { master = "sub", pasid = 1, process = "shell", iova = 0, data = "x" }"#,
            "a DMA has one PASID; leave pasid or process out",
        ),
        (r#"random = {}"#, "random has no steps; write for example steps = 500"),
        (
            r#"random = { steps = 1, iova = 0xffff0000 }"#,
            r#"0x40000 bytes at 0xffff0000 leave domain "small", whose input-bits = 32 end at 0x100000000"#,
        ),
        (
            r#"random = { steps = 1, weights = { map = 0, unmap = 0, read = 0, write = 0, attach = 0, detach = 0, stale = 0, fault = 0 } }"#,
            "all weights are 0; leave one of them out",
        ),
    ];
    for (step, message) in cases {
        assert_eq!(messages(&with_steps(step)), [message], "{step}");
    }
}

#[test]
fn each_mistake_in_a_sequence_of_steps_is_named() {
    let cases = [
        (
            r#"attach = { master = "nic", domain = "d" }
            detach = { master = "nic" }
            detach = { master = "nic" }"#,
            r#"master "nic" was detached on line 20 already"#,
        ),
        (
            r#"map = { domain = "d", iova = 0x10000, memory = "rx" }
            map = { domain = "d", iova = 0x1f000, memory = "tx" }"#,
            r#"0x1f000 to 0x20fff of domain "d" overlaps what line 19 mapped; unmap that first"#,
        ),
        (
            r#"map = { domain = "d", iova = 0x10000, memory = "rx" }
            unmap = { domain = "d", iova = 0x12000, length = "4K" }
            map = { domain = "d", iova = 0x12000, memory = "tx" }"#,
            r#"0x12000 to 0x13fff of domain "d" overlaps what line 19 mapped; unmap that first"#,
        ),
        (
            r#"map = { domain = "d", iova = 0xc0000000, memory = "rx" }
            random = { steps = 1 }"#,
            r#"the window of random, 0xc0000000 to 0xc003ffff, overlaps what line 19 mapped in domain "d"; give random another iova"#,
        ),
        (
            r#"write = { master = "nic", iova = 0, data = "ab" }
            expect-fault = { master = "disk", event = "F_TRANSLATION" }"#,
            r#"expect-fault for master "disk", but the DMA before is of "nic"; it must follow a write or read of "disk""#,
        ),
        (
            r#"write = { master = "nic", iova = 0, data = "ab" }
            expect-fault = { master = "nic", iova = 2, event = "F_TRANSLATION" }"#,
            "0x2 is not in the DMA before, which is 0x0 to 0x1",
        ),
        (
            r#"write = { master = "nic", iova = 0, data = "ab" }
            expect-fault = { master = "nic", event = "F_TRANSLATION", access = "read" }"#,
            r#"the DMA before is a write; write access = "write" or leave it out"#,
        ),
        (
            r#"read = { master = "nic", iova = 0, expect = "ab" }
            expect-blocked = { master = "nic" }"#,
            "the read before expects data and to be blocked; leave one of them out",
        ),
        (
            r#"write = { master = "nic", iova = 0, data = "ab" }
            attach = { master = "nic", domain = "d" }
            expect-blocked = { master = "nic" }"#,
            r#"expect-blocked without a DMA before; it must follow a write or read of "nic" (other expectations may lie between)"#,
        ),
        (
            r#"bind = { process = "shell", master = "sub" }
            unbind = { process = "shell", master = "sub" }
            unbind = { process = "shell", master = "sub" }"#,
            r#"process "shell" was unbound from master "sub" on line 20 already"#,
        ),
        (
            r#"release = { process = "shell" }
            bind = { process = "shell", master = "sub" }"#,
            r#"process "shell" was released on line 19; write refused = "released", or replace it first"#,
        ),
        (
            r#"release = { process = "shell" }
            release = { process = "shell" }"#,
            r#"process "shell" was released on line 19 already"#,
        ),
        (
            r#"process-map = { process = "shell", iova = 0x10000, memory = "rx" }
            process-map = { process = "shell", iova = 0x11000, memory = "tx" }"#,
            r#"0x11000 to 0x12fff of process "shell" overlaps what line 19 mapped; unmap that first"#,
        ),
        (
            r#"write = { master = "sub", pasid = 1, iova = 0, data = "ab" }
            expect-fault = { master = "sub", event = "C_BAD_CD" }"#,
            r#"expect-fault for master "sub", but the DMA before has another PASID; write the same pasid or process, or none"#,
        ),
    ];
    for (steps, message) in cases {
        assert_eq!(messages(&with_steps(steps)), [message], "{steps}");
    }
}

#[test]
fn a_mapping_may_follow_an_unmap_of_its_range() {
    parse_steps(
        r#"map = { domain = "d", iova = 0x10000, memory = "rx" }
        unmap = { domain = "d", iova = 0x12000, length = "8K" }
        map = { domain = "d", iova = 0x12000, memory = "tx" }
        map = { domain = "small", iova = 0x10000, memory = "tx" }"#,
    );
}

#[test]
fn a_mistake_does_not_hide_others_and_brings_no_false_ones() {
    let found = messages(&with_steps(
        r#"attach = { master = "nik", domain = "d" }
        detach = { master = "nic" }
        write = { master = "nic", iova = 0, dota = "x" }
        expect-fault = { master = "nic", event = "F_TRANSLATION" }
        unmap = { domain = "e", iova = 1, length = "4K", memory = "rx" }"#,
    ));
    let starts = [
        "unknown master \"nik\"",
        "write has no data",
        "unknown key dota",
        "unknown domain \"e\"",
        "iova = 0x1 in unmap",
        "unknown key memory in unmap",
    ];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    for (message, start) in found.iter().zip(starts) {
        assert!(message.starts_with(start), "{message}");
    }
}

#[test]
fn a_file_that_is_not_toml_is_refused_with_the_place() {
    let errors = Scenario::parse("name = \"x\"\n[[instance]\nname = 3", "x.toml").unwrap_err();
    assert!(errors.to_string().starts_with("x.toml:2:"), "{errors}");
    assert!(errors.errors[0].message.starts_with("not TOML: "), "{errors}");
}

/// A flag, or a word; and what the instance needs for it.
#[test]
fn how_a_master_keeps_translations_is_one_of_four_things() {
    let with = |instance: &str, ats: &str| {
        let text = format!(
            "name = \"x\"\ninstance = [{{ name = \"i\", {instance} }}]\n\
             master = [{{ name = \"m\", instance = \"i\", streams = [1], ats = {ats} }}]"
        );
        match Scenario::parse(&text, "x.toml") {
            Ok(scenario) => Ok(scenario.masters[0].ats),
            Err(_) => Err(messages(&text)),
        }
    };
    let said = |text: &str| Err(vec![text.to_owned()]);
    let has = "ats = true";
    assert_eq!(with(has, "false"), Ok(AtsMode::Off));
    assert_eq!(with(has, "true"), Ok(AtsMode::Full));
    assert_eq!(with(has, "\"split\""), Ok(AtsMode::Split));
    let known = r#"unknown ats "splitt" in master "m"; it is one of "split", "always" (did you mean "split"?)"#;
    assert_eq!(with(has, "\"splitt\""), said(known));
    let wrong = r#"ats of master "m" must be true, false or "split", "always", not 2"#;
    assert_eq!(with(has, "2"), said(wrong));
    let without = r#"ats = "split" in master "m" needs an instance that has it"#;
    assert_eq!(with("ats = false", "\"split\""), said(without));
    let nests = r#"ats = "split" in master "m" needs an instance that nests both stages"#;
    for lacks in ["stages = [1]", "stages = [2]", "part = \"mmu-600-r1p0\""] {
        assert_eq!(with(&format!("{has}, {lacks}"), "\"split\""), said(nests), "{lacks}");
    }
    let skips = format!("{has}, ssid-bits = 1");
    assert_eq!(with(&skips, "\"always\""), Ok(AtsMode::Always));
    let needs = r#"ats = "always" in master "m" needs an instance with stage 1 and ssid-bits"#;
    assert_eq!(with(has, "\"always\""), said(needs));
    assert_eq!(with(&format!("{skips}, stages = [2]"), "\"always\""), said(needs));
    let stalls = r#"ats = "split" in master "m" needs a master that does not stall"#;
    assert_eq!(
        with(&format!("{has}, stalls = 4, forced-stalls = true"), "\"split\""),
        said(stalls)
    );
}

#[test]
fn an_empty_file_lacks_a_name_and_an_instance() {
    assert_eq!(messages("").len(), 2);
}

#[test]
fn a_table_that_should_be_a_list_is_named() {
    let found = messages("name = \"x\"\n[instance]\nname = \"smmu0\"\n");
    assert!(found[0].starts_with("instance is a list: write [[instance]]"), "{found:?}");
}

#[test]
fn no_text_makes_reading_panic() {
    let text = fs::read_to_string(root().join("scenarios/two-instances.toml")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for n in 0..lines.len() {
        // Each beginning, each line left out, and each line with its values exchanged for others.
        let _ = Scenario::parse(&lines[..n].join("\n"), "x.toml");
        let without = [&lines[..n], &lines[n + 1..]].concat();
        let _ = Scenario::parse(&without.join("\n"), "x.toml");
        for (old, new) in [
            ("\"", "'"),
            ("0x", "0xffff_ffff_ffff_"),
            (" = ", " = -"),
            ("{", "[{"),
            ("\"", "\"\\u0000é"),
            ("1", "18446744073709551615"),
            ("K\"", "G\""),
        ] {
            let changed = lines[n].replace(old, new);
            let mut others = lines.clone();
            others[n] = &changed;
            let _ = Scenario::parse(&others.join("\n"), "x.toml");
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pairs of a feature and an operation, each shown by steps: what goes on, and what is over.

mod common;

use common::parse;
use smmuv3::AsidPolicy;
use smmuv3_testbench::report::{Report, Step};
use smmuv3_testbench::run::{Options, run};

/// All steps of `text`, on some seeds; what came of the last run.
fn shown(text: &str) -> Report {
    let scenario = parse(text);
    let mut last = None;
    for seed in 0..8 {
        let options = Options { seed: Some(seed), no_shrink: true, ..Options::default() };
        let report = run(&scenario, &options, &mut |_| ()).unwrap();
        assert_eq!(report.verdict, "ok", "{seed}: {:#?}", report.failure);
        last = Some(report);
    }
    last.unwrap()
}

/// What came of the steps that begin so, in order.
fn outcomes<'a>(report: &'a Report, text: &str) -> Vec<&'a str> {
    let of = |step: &&Step| step.text.starts_with(text);
    report.steps.iter().filter(of).map(|step| &*step.outcome).collect()
}

/// What came of deferred unmaps.
fn later(report: &Report) -> Vec<&str> {
    let of = |step: &&Step| step.text.ends_with("and tell nobody yet");
    report.steps.iter().filter(of).map(|step| &*step.outcome).collect()
}

/// A device asks with a PASID and without, falls silent, is cut off, asks on, and is reset: it waits for nothing of that, and
/// for what it asks afterwards as any other.
#[test]
fn a_device_that_is_reset_waits_for_no_pages_that_it_asked_for_before() {
    for (response, late) in [(false, false), (false, true), (true, false), (true, true)] {
        let text = RESET_ASKS.replace("RESPONSE", &response.to_string());
        let report = shown(&text.replace("LATE", &late.to_string()));
        assert_eq!(outcomes(&report, "reset the device of nic"), ["it works again"]);
        let late = "too late: it was over";
        let grants = outcomes(&report, "answer what nic asked for");
        assert_eq!(grants, [late, "dropped", "answered", "nothing waits"], "{report:#?}");
    }
}

const RESET_ASKS: &str = r#"
name = "reset-asks"
pasids = 1
instance = [{ name = "smmu", ssid-bits = 4, ats = true, pri = true }]
domain = [{ name = "shared" }, { name = "own" }]
memory = [{ name = "buffer", size = "64K" }]
[[master]]
name = "nic"
instance = "smmu"
streams = [5, 6]
pasid-bits = 4
ats = true
pri = true
response-pasid = RESPONSE
[[step]]
attach = { master = "nic", domain = "own" }
[[step]]
attach = { master = "nic", domain = "shared", pasid = 1 }
[[step]]
map = { domain = "shared", iova = 0x100000, memory = "buffer", length = "8K" }
[[step]]
write = { master = "nic", pasid = 1, iova = 0x100000, data = "d001" }
[[step]]
ask = { master = "nic", pasid = 1, iova = 0x102000, pages = 2 }
[[step]]
ask = { master = "nic", iova = 0x102000 }
[[step]]
ask = { master = "nic", iova = 0x103000, unfinished = true }
[[step]]
mute = { master = "nic", late = LATE }
[[step]]
note = "It is told to forget, and does not answer."
unmap = { domain = "shared", iova = 0x100000, length = "4K" }
[[step]]
note = "Who is cut off is denied."
ask = { master = "nic", iova = 0x104000 }
[[step]]
readmit = { master = "nic" }
[[step]]
grant = { master = "nic", reply = "success" }
[[step]]
grant = { master = "nic", reply = "drop" }
[[step]]
ask = { master = "nic", pasid = 1, iova = 0x101000 }
[[step]]
grant = { master = "nic", reply = "success" }
[[step]]
grant = { master = "nic", reply = "success" }
[[step]]
write = { master = "nic", pasid = 1, iova = 0x101000, data = "d002" }
[[step]]
expect-data = { memory = "buffer", offset = "4K", data = "d002" }
"#;

/// The CPU's ASID of a process of before is nobody else's as long as that goes on: the process of the next kernel that has
/// the same one gets another on that SMMU, which is told of everything.
#[test]
fn processes_of_a_kernel_that_is_gone_go_on_until_their_master_is_bound() {
    for policy in ["per-instance", "banked"] {
        let report = shown(&PROCESSES.replace("POLICY", policy));
        let took = outcomes(&report, "another kernel takes over");
        assert_eq!(took, ["smmu goes on with 2 streams"]);
        assert_eq!(outcomes(&report, "end-adoption"), ["refused, as masters go on", "done"]);
    }
}

const PROCESSES: &str = r#"
name = "old-processes"
asid-policy = "POLICY"
instance = [{ name = "smmu", ssid-bits = 8, btm = true }]
process = [{ name = "shell", asid = 7 }, { name = "editor" }]
memory = [{ name = "old", size = "64K" }, { name = "new", size = "64K" }]
[[master]]
name = "nic"
instance = "smmu"
streams = [5]
pasid-bits = 6
[[master]]
name = "gpu"
instance = "smmu"
streams = [6]
pasid-bits = 8
[[master]]
name = "npu"
instance = "smmu"
streams = [7]
pasid-bits = 8
[[step]]
process-map = { process = "shell", iova = 0x100000, memory = "old", length = "8K" }
[[step]]
bind = { process = "shell", master = "nic" }
[[step]]
bind = { process = "editor", master = "nic" }
[[step]]
bind = { process = "shell", master = "gpu" }
[[step]]
note = "Nobody reaches it any more, and the next kernel finds it so."
release = { process = "editor" }
[[step]]
write = { master = "nic", process = "shell", iova = 0x100000, data = "d001" }
[[step]]
hand-over = {}
[[step]]
process-map = { process = "shell", iova = 0x100000, memory = "new", length = "8K" }
[[step]]
note = "By the tables of the process of before."
write = { master = "nic", process = "shell", iova = 0x100000, data = "d002" }
[[step]]
expect-data = { memory = "old", offset = 0, data = "d002" }
[[step]]
bind = { process = "shell", master = "npu" }
[[step]]
write = { master = "npu", process = "shell", iova = 0x100000, data = "d003" }
[[step]]
expect-data = { memory = "new", offset = 0, data = "d003" }
[[step]]
process-unmap = { process = "shell", iova = 0x100000, length = "4K" }
[[step]]
write = { master = "npu", process = "shell", iova = 0x100000, data = "d004" }
[[step]]
expect-fault = { master = "npu", process = "shell", event = "F_TRANSLATION" }
[[step]]
note = "That was another's: nothing is over for this one."
write = { master = "nic", process = "shell", iova = 0x100000, data = "d005" }
[[step]]
expect-data = { memory = "old", offset = 0, data = "d005" }
[[step]]
end-adoption = { instance = "smmu" }
[[step]]
note = "All that it had goes with that."
bind = { process = "shell", master = "nic" }
[[step]]
write = { master = "nic", process = "shell", iova = 0x101000, data = "d006" }
[[step]]
expect-data = { memory = "new", offset = "4K", data = "d006" }
[[step]]
write = { master = "nic", process = "shell", iova = 0x100000, data = "d007" }
[[step]]
expect-fault = { master = "nic", process = "shell", event = "F_TRANSLATION" }
[[step]]
note = "Neither of what it had goes on beside that."
attach = { master = "gpu", domain = "identity" }
[[step]]
end-adoption = { instance = "smmu" }
[[step]]
note = "Now it may have the CPU's."
bind = { process = "shell", master = "gpu" }
[[step]]
write = { master = "gpu", process = "shell", iova = 0x101000, data = "d008" }
[[step]]
expect-data = { memory = "new", offset = "4K", data = "d008" }
[[step]]
process-unmap = { process = "shell", iova = 0x101000, length = "4K" }
[[step]]
write = { master = "gpu", process = "shell", iova = 0x101000, data = "d009" }
[[step]]
expect-fault = { master = "gpu", process = "shell", event = "F_TRANSLATION" }
"#;

/// Where all instances have the same numbers, those that were kept for what an instance went on with are free for the others
/// once it is gone, whether its adoption was ended or not.
#[test]
fn tags_of_before_go_with_an_instance_that_is_removed() {
    for policy in AsidPolicy::ALL {
        let report = shown(&format!(
            r#"
name = "adopted-and-removed"
asid-policy = "{policy}"
instance = [{{ name = "smmu0" }}, {{ name = "smmu1" }}]
master = [
    {{ name = "nic", instance = "smmu0", streams = [5] }},
    {{ name = "gpu", instance = "smmu1", streams = [6] }},
]
domain = [{{ name = "shared" }}]
step = [
    {{ attach = {{ master = "nic", domain = "shared" }} }},
    {{ hand-over = {{}} }},
    {{ replug = {{ instance = "smmu0" }} }},
    {{ attach = {{ master = "gpu", domain = "shared" }} }},
    {{ attach = {{ master = "nic", domain = "shared" }} }},
]
"#
        ));
        assert_eq!(outcomes(&report, "replug"), ["done"]);
    }
}

/// A guest's SMMU is gone with the host's, and is there again with the one that comes in its place.
#[test]
fn a_guest_is_given_its_part_of_an_instance_that_comes_again() {
    let report = shown(
        r#"
name = "replugged-guest"
instance = [
    { name = "smmu0", ats = true },
    { name = "smmu1", ats = true },
]
memory = [{ name = "ram", size = "64K" }]
domain = [{ name = "memory", stage = 2 }, { name = "driver", over = "memory" }, { name = "program", over = "memory" }]
master = [
    { name = "nic", instance = "smmu0", streams = [8], ats = true },
    { name = "gpu", instance = "smmu1", streams = [9], ats = true },
]
[[step]]
map = { domain = "memory", iova = 0x40000000, memory = "ram" }
[[step]]
map = { domain = "driver", iova = 0x40000000, memory = "ram" }
[[step]]
map = { domain = "program", iova = 0x40000000, memory = "ram", length = "4K" }
[[step]]
attach = { master = "nic", domain = "driver" }
[[step]]
attach = { master = "gpu", domain = "driver" }
[[step]]
read = { master = "nic", iova = 0x40000000, length = 16 }
[[step]]
replug = { instance = "smmu0" }
[[step]]
read = { master = "nic", iova = 0x40000000, length = 16 }
[[step]]
expect-blocked = { master = "nic" }
[[step]]
note = "The other one goes on."
write = { master = "gpu", iova = 0x40000000, data = "d001" }
[[step]]
attach = { master = "nic", domain = "driver" }
[[step]]
read = { master = "nic", iova = 0x40000000, expect = "d001" }
[[step]]
note = "The guest tells both, and their devices."
unmap = { domain = "driver", iova = 0x40000000, length = "4K" }
[[step]]
read = { master = "nic", iova = 0x40000000, length = 4 }
[[step]]
expect-blocked = { master = "nic" }
[[step]]
attach = { master = "nic", domain = "program" }
[[step]]
read = { master = "nic", iova = 0x40000000, expect = "d001" }
[[step]]
replug = { instance = "smmu0" }
[[step]]
replug = { instance = "smmu1" }
[[step]]
attach = { master = "gpu", domain = "program" }
[[step]]
read = { master = "gpu", iova = 0x40000000, expect = "d001" }
"#,
    );
    assert_eq!(outcomes(&report, "replug"), ["done"; 3]);
}

/// What firmware left working goes on under a second kernel, whether the first one claimed it or not.
#[test]
fn what_firmware_left_working_goes_on_in_the_next_kernel() {
    let report = shown(
        r#"
name = "left-to-two"
instance = [{ name = "smmu0" }, { name = "smmu1", stages = [2] }]
domain = [{ name = "shared" }]
master = [
    { name = "display", instance = "smmu0", streams = [16, 17], keep = "frames" },
    { name = "audio", instance = "smmu0", streams = [18], keep = "sound" },
    { name = "cursor", instance = "smmu1", streams = [16], keep = "sprite" },
]
memory = [
    { name = "frames", size = "2112K", at = 0x884000000 },
    { name = "sound", size = "64K", at = 0x88c000000 },
    { name = "sprite", size = "64K", at = 0x888000000 },
    { name = "buffer", size = "64K" },
]
[[step]]
claim = { master = "audio" }
[[step]]
hand-over = {}
[[step]]
write = { master = "display", iova = 0x884000000, data = "f001" }
[[step]]
expect-data = { memory = "frames", offset = 0, data = "f001" }
[[step]]
write = { master = "audio", iova = 0x88c000000, data = "f002" }
[[step]]
expect-data = { memory = "sound", offset = 0, data = "f002" }
[[step]]
write = { master = "cursor", iova = 0x888000000, data = "f003" }
[[step]]
write = { master = "display", iova = 0x884210000, data = "f004" }
[[step]]
expect-fault = { master = "display", event = "F_TRANSLATION" }
[[step]]
map = { domain = "shared", iova = 0x884000000, memory = "buffer" }
[[step]]
attach = { master = "display", domain = "shared" }
[[step]]
write = { master = "display", iova = 0x884000000, data = "f005" }
[[step]]
expect-data = { memory = "buffer", offset = 0, data = "f005" }
[[step]]
expect-data = { memory = "frames", offset = 0, data = "f001" }
[[step]]
note = "And in a third, without the last that firmware knew of."
hand-over = { lose = ["audio", "cursor"] }
[[step]]
write = { master = "display", iova = 0x884000000, data = "f007" }
[[step]]
expect-data = { memory = "buffer", offset = 0, data = "f007" }
[[step]]
write = { master = "audio", iova = 0x88c000000, data = "f008" }
[[step]]
expect-blocked = { master = "audio" }
[[step]]
write = { master = "cursor", iova = 0x888000000, data = "f009" }
[[step]]
expect-blocked = { master = "cursor" }
[[step]]
end-adoption = { instance = "smmu1" }
"#,
    );
    let took = outcomes(&report, "another kernel takes over");
    let all = "smmu0 goes on with 3 streams; smmu1 goes on with 1 streams";
    assert_eq!(took, [all, "smmu0 goes on with 2 streams; smmu1 goes on with 0 streams"]);
}

/// A part of a block is not unmapped without anybody being told: that is refused, and all of it is reached as before.
#[test]
fn a_deferred_unmap_cuts_no_block_and_may_take_what_was_cut() {
    let report = shown(
        r#"
name = "cut-later"
instance = [{ name = "smmu" }]
domain = [{ name = "cut", splitting = true }]
master = [{ name = "nic", instance = "smmu", streams = [5] }]
memory = [{ name = "big", size = "4M", align = "2M" }]
[[step]]
map = { domain = "cut", iova = 0x40000000, memory = "big" }
[[step]]
attach = { master = "nic", domain = "cut" }
[[step]]
unmap-deferred = { domain = "cut", iova = 0x40001000, length = "8K" }
[[step]]
unmap-deferred = { domain = "cut", iova = 0x401ff000, length = "8K" }
[[step]]
write = { master = "nic", iova = 0x40001000, data = "d001" }
[[step]]
expect-data = { memory = "big", offset = "4K", data = "d001" }
[[step]]
unmap = { domain = "cut", iova = 0x40000000, length = "4K" }
[[step]]
note = "The block was cut: its pages are pages."
unmap-deferred = { domain = "cut", iova = 0x40001000, length = "8K" }
[[step]]
note = "The other one is whole."
unmap-deferred = { domain = "cut", iova = 0x40200000, length = "2M" }
[[step]]
invalidate-all = { domain = "cut" }
[[step]]
write = { master = "nic", iova = 0x40001000, data = "d002" }
[[step]]
expect-fault = { master = "nic", event = "F_TRANSLATION" }
[[step]]
write = { master = "nic", iova = 0x40003000, data = "d003" }
[[step]]
expect-data = { memory = "big", offset = "12K", data = "d003" }
"#,
    );
    let refused = "the block of 0x200000 bytes at 0x40000000 reaches over the range's end";
    let later = later(&report);
    assert_eq!(later[..2], [refused; 2], "{later:?}");
    assert_eq!(later[2], "8 KiB gone, once all were told");
    assert_eq!(outcomes(&report, "tell all of what was unmapped"), ["2 ranges gone"]);
}

/// A guest's devices go on by its stage 1, over the tables of a host that is gone.
#[test]
fn guests_of_a_host_that_is_gone_go_on_until_their_master_is_attached() {
    let report = shown(
        r#"
name = "old-guests"
instance = [{ name = "smmu0" }, { name = "smmu1" }]
memory = [{ name = "old", size = "64K" }, { name = "new", size = "64K" }]
domain = [{ name = "memory", stage = 2 }, { name = "driver", over = "memory" }]
master = [
    { name = "nic", instance = "smmu0", streams = [8, 10] },
    { name = "gpu", instance = "smmu1", streams = [9] },
    { name = "npu", instance = "smmu1", streams = [10] },
]
[[step]]
map = { domain = "memory", iova = 0x40000000, memory = "old" }
[[step]]
map = { domain = "driver", iova = 0x40000000, memory = "old", length = "8K" }
[[step]]
attach = { master = "nic", domain = "driver" }
[[step]]
attach = { master = "gpu", domain = "driver" }
[[step]]
hand-over = {}
[[step]]
map = { domain = "memory", iova = 0x40000000, memory = "new" }
[[step]]
map = { domain = "driver", iova = 0x40000000, memory = "new", length = "4K" }
[[step]]
write = { master = "nic", iova = 0x40001000, data = "d001" }
[[step]]
expect-data = { memory = "old", offset = "4K", data = "d001" }
[[step]]
write = { master = "gpu", iova = 0x40000000, data = "d002" }
[[step]]
expect-data = { memory = "old", offset = 0, data = "d002" }
[[step]]
note = "A guest of the new host, beside that of the old one."
attach = { master = "npu", domain = "driver" }
[[step]]
write = { master = "npu", iova = 0x40000000, data = "d003" }
[[step]]
expect-data = { memory = "new", offset = 0, data = "d003" }
[[step]]
unmap = { domain = "memory", iova = 0x40000000, length = "4K" }
[[step]]
write = { master = "gpu", iova = 0x40000000, data = "d004" }
[[step]]
expect-data = { memory = "old", offset = 0, data = "d004" }
[[step]]
end-adoption = { instance = "smmu1" }
[[step]]
attach = { master = "gpu", domain = "driver" }
[[step]]
write = { master = "gpu", iova = 0x40001000, data = "d005" }
[[step]]
expect-fault = { master = "gpu", event = "F_TRANSLATION" }
[[step]]
end-adoption = { instance = "smmu1" }
[[step]]
note = "Once more, with a guest of the first host and one of the second."
hand-over = {}
[[step]]
write = { master = "nic", iova = 0x40001000, data = "d006" }
[[step]]
expect-data = { memory = "old", offset = "4K", data = "d006" }
"#,
    );
    let took = outcomes(&report, "another kernel takes over");
    assert_eq!(
        took,
        [
            "smmu0 goes on with 2 streams; smmu1 goes on with 1 streams",
            "smmu0 goes on with 2 streams; smmu1 goes on with 2 streams"
        ]
    );
    assert_eq!(outcomes(&report, "end-adoption"), ["refused, as masters go on", "done"]);
}

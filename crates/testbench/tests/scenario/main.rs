// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a scenario file may say, what it means, and how mistakes in it are reported.

mod machines;
mod mistakes;

use std::fs;
use std::path::{Path, PathBuf};

use smmuv3_formats::EventId;
use smmuv3_testbench::scenario::{
    Access, Action, Answer, AsidPolicy, Capabilities, Device, Granules, MemoryKind, Refusal,
    Rights, Scenario, StreamTableKind, Substream, Target, Weights,
};

/// A scenario without steps, to append to.
const BASE: &str = r#"
name = "base"
instance = [
    { name = "smmu0", ssid-bits = 8 }, { name = "second", stages = [2] },
    { name = "third", ssid-bits = 4, coherent = false },
]
master = [
    { name = "nic", instance = "smmu0", streams = [0x900] },
    { name = "disk", instance = "smmu0", streams = [0xa00] },
    { name = "test", instance = "smmu0", streams = [0xb00], device = "testdev" },
    { name = "other", instance = "second", streams = [0x900] },
    { name = "sub", instance = "smmu0", streams = [0xc00], pasid-bits = 8 },
    { name = "far", instance = "third", streams = [0xc00], pasid-bits = 8 },
]
domain = [{ name = "d" }, { name = "small", input-bits = 32 }]
process = [{ name = "shell", input-bits = 39 }]
memory = [{ name = "rx", size = "64K" }, { name = "tx", size = 8192 }]
"#;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn docs() -> String {
    fs::read_to_string(root().join("docs/scenarios.md")).expect("docs/scenarios.md")
}

/// Blocks of the documentation that begin with three backticks and `kind`.
fn blocks<'a>(docs: &'a str, kind: &str) -> Vec<&'a str> {
    let fence = format!("```{kind}\n");
    let end = |text: &'a str| &text[..text.find("```").expect("the block's end")];
    docs.match_indices(&fence).map(|(at, _)| end(&docs[at + fence.len()..])).collect()
}

fn with_steps(steps: &str) -> String {
    let steps = steps.lines().map(str::trim).filter(|line| !line.is_empty());
    let steps: String = steps.map(|line| format!("    {{ {line} }},\n")).collect();
    format!("{BASE}step = [\n{steps}]\n")
}

fn parse_steps(steps: &str) -> Scenario {
    Scenario::parse(&with_steps(steps), "x.toml").unwrap_or_else(|errors| panic!("{errors}"))
}

/// The messages about `text`, without places.
fn messages(text: &str) -> Vec<String> {
    match Scenario::parse(text, "x.toml") {
        Ok(_) => Vec::new(),
        Err(errors) => errors.errors.into_iter().map(|error| error.message).collect(),
    }
}

#[test]
fn every_complete_example_of_the_documentation_is_right() {
    let docs = docs();
    let examples = blocks(&docs, "toml complete");
    assert!(!examples.is_empty());
    for text in examples {
        let scenario = Scenario::parse(text, "docs").unwrap_or_else(|errors| panic!("{errors}"));
        scenario.check_for(&Capabilities::model()).unwrap_or_else(|errors| panic!("{errors}"));
    }
}

#[test]
fn every_fragment_of_the_documentation_has_known_keys_and_good_values() {
    let docs = docs();
    let fragments = blocks(&docs, "toml");
    assert!(fragments.len() >= 8);
    for text in fragments {
        for message in messages(text) {
            // Names that a fragment uses are declared elsewhere, and a fragment has no top.
            let about_the_rest = message.starts_with("the scenario has no ")
                || message.contains("; there are no ")
                || message.starts_with("unknown domain ")
                || message.starts_with("random works with ");
            assert!(about_the_rest, "{message} in\n{text}");
        }
    }
}

#[test]
fn the_documented_mistakes_give_the_documented_messages() {
    let docs = docs();
    let wrong = blocks(&docs, "toml wrong");
    let shown = blocks(&docs, "text");
    assert_eq!((wrong.len(), shown.len()), (1, 1));
    let errors = Scenario::parse(wrong[0], "mistakes.toml").unwrap_err();
    assert_eq!(errors.to_string(), shown[0].trim_end());
}

#[test]
fn every_key_is_documented() {
    let docs = docs();
    let tables = format!(
        "zz = 1\n{}[[instance]]\nname = \"i\"\nzz = 1\n[[master]]\nname = \"m\"\nzz = 1\n\
         [[domain]]\nname = \"e\"\nzz = 1\n[[memory]]\nname = \"y\"\nzz = 1\n",
        "name = \"keys\"\n"
    );
    let actions = messages(&with_steps("zz = 1")).concat();
    let actions = actions.split("actions are ").nth(1).expect("the list of actions").to_owned();
    let steps: String =
        actions.split(", ").map(|action| format!("{action} = {{ zz = 1 }}\n")).collect();
    let steps = with_steps(&format!("{steps}random = {{ steps = 1, weights = {{ zz = 1 }} }}"));
    let mut keys: Vec<String> = actions.split(", ").map(str::to_owned).collect();
    for message in [messages(&tables), messages(&steps)].concat() {
        if let Some(list) = message.strip_prefix("unknown key zz in ") {
            let list = list.split("keys are ").nth(1).expect("a list");
            keys.extend(list.split(", ").map(str::to_owned));
        }
    }
    assert!(keys.len() > 50, "{keys:?}");
    for key in keys {
        let named = [format!("`{key}`"), format!("[[{key}]]")];
        assert!(named.iter().any(|name| docs.contains(name)), "{key} is not documented");
    }
}

#[test]
fn every_scenario_of_the_project_is_right_for_the_model() {
    let mut found = 0;
    for entry in fs::read_dir(root().join("scenarios")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let text = fs::read_to_string(&path).unwrap();
            let scenario = Scenario::parse(&text, &path.to_string_lossy())
                .unwrap_or_else(|errors| panic!("{errors}"));
            scenario.check_for(&Capabilities::model()).unwrap_or_else(|errors| panic!("{errors}"));
            found += 1;
        }
    }
    assert!(found > 0);
}

#[test]
fn two_instances_has_what_it_promises_and_fits_qemu() {
    let text = fs::read_to_string(root().join("scenarios/two-instances.toml")).unwrap();
    let scenario = Scenario::parse(&text, "two-instances.toml").unwrap();
    scenario.check_for(&machines::qemu_11()).unwrap_or_else(|errors| panic!("{errors}"));
    let bits: Vec<u32> = scenario.instances.iter().map(|instance| instance.asid_bits).collect();
    assert_eq!(bits, [8, 16]);
    assert_eq!(scenario.masters.len(), 3);

    // The instances that each domain was attached on.
    let mut attached = vec![[false; 2]; scenario.domains.len()];
    for step in &scenario.steps {
        if let Action::Attach { master, domain: Target::Domain(domain), .. } = step.action {
            attached[domain][scenario.masters[master].instance] = true;
        }
    }
    assert_eq!(attached, [[true, true], [true, false], [false, true]]);

    let has = |event| {
        let is =
            |action: &Action| matches!(action, Action::ExpectFault { event: e, .. } if *e == event);
        scenario.steps.iter().any(|step| is(&step.action))
    };
    assert!(has(EventId::FTranslation) && has(EventId::FPermission));
}

#[test]
fn an_instance_has_the_documented_defaults() {
    let scenario = Scenario::parse(BASE, "x.toml").unwrap();
    let instance = &scenario.instances[0];
    assert_eq!((instance.asid_bits, instance.vmid_bits), (16, 16));
    assert_eq!((instance.stage_1, instance.stage_2), (true, true));
    assert_eq!(instance.granules, Granules::ALL);
    assert_eq!((instance.oas, instance.sid_bits), (44, 16));
    assert_eq!((instance.command_queue_log2, instance.event_queue_log2), (8, 8));
    assert!(instance.two_level_streams && instance.range_invalidation && instance.coherent);
    assert_eq!((scenario.seed, scenario.description.as_str()), (1, ""));
    assert_eq!((scenario.domains[0].input_bits, scenario.domains[1].input_bits), (48, 32));
    assert_eq!((scenario.memories[0].size, scenario.memories[0].align), (65536, 4096));
    assert_eq!(scenario.memories[0].fill, None);
    assert_eq!(scenario.masters[0].device, Device::Edu);
    assert_eq!(instance.stream_table, StreamTableKind::Automatic);
}

#[test]
fn every_value_of_an_instance_can_be_set() {
    let text = r#"
        name = "n"
        description = " d "
        seed = 0xffff_ffff
        [[instance]]
        name = "i"
        asid-bits = 8
        stages = [1]
        granules = ["4K", "64K"]
        oas = 48
        sid-bits = 6
        two-level-streams = false
        stream-table = "linear"
        command-queue = 1
        event-queue = 19
        range-invalidation = false
        coherent = false
        ats = false
        ssid-bits = 8
        msi = true
        [[memory]]
        name = "m"
        size = "2M"
        align = "2M"
        fill = 0xff
    "#;
    let scenario = Scenario::parse(text, "x.toml").unwrap();
    let instance = &scenario.instances[0];
    assert_eq!((instance.asid_bits, instance.vmid_bits), (8, 8));
    assert_eq!((instance.stage_1, instance.stage_2), (true, false));
    assert_eq!(instance.granules, Granules { kib_16: false, ..Granules::ALL });
    assert_eq!((instance.oas, instance.sid_bits), (48, 6));
    assert_eq!((instance.ssid_bits, instance.msi), (8, true));
    assert_eq!(instance.stream_table, StreamTableKind::Linear);
    assert_eq!((instance.command_queue_log2, instance.event_queue_log2), (1, 19));
    assert!(!instance.two_level_streams && !instance.range_invalidation && !instance.coherent);
    assert_eq!((scenario.seed, scenario.description.as_str()), (0xFFFF_FFFF, "d"));
    let memory = &scenario.memories[0];
    assert_eq!((memory.size, memory.align, memory.fill), (2 << 20, 2 << 20, Some(0xFF)));
}

#[test]
fn the_shape_of_a_stream_table_goes_with_the_instance() {
    let found = |keys: &str| messages(&format!("name = \"x\"\n[[instance]]\nname = \"i\"\n{keys}"));
    let two = Scenario::parse(
        "name = \"x\"\ninstance = [{ name = \"i\", sid-bits = 32, stream-table = \"two-level\" }]",
        "x.toml",
    );
    assert_eq!(two.unwrap().instances[0].stream_table, StreamTableKind::TwoLevel);
    let unknown = "unknown stream-table \"2-level\" in instance \"i\"; it is one of \"linear\", \"two-level\"";
    assert!(found("stream-table = \"2-level\"")[0].starts_with(unknown));
    let large =
        "stream-table of instance \"i\" does not go with sid-bits = 17; it is at most 16 then";
    assert_eq!(found("sid-bits = 17\nstream-table = \"linear\""), [large]);
    let missing = "stream-table of instance \"i\" does not go with two-level-streams = false; leave one of them out";
    let keys = "sid-bits = 6\ntwo-level-streams = false\nstream-table = \"two-level\"";
    assert_eq!(found(keys), [missing]);
}

#[test]
fn steps_mean_what_they_say() {
    let scenario = parse_steps(
        r#"
        note = "hello", attach = { master = "nic", domain = "d" }
        attach = { master = "disk", domain = "identity" }
        attach = { master = "disk", domain = "blocked" }
        map = { domain = "d", iova = 0x10000, memory = "rx" }
        map = { domain = "d", iova = "1G", memory = "tx", offset = 4096, access = "ro", kind = "device" }
        unmap = { domain = "d", iova = 0x10000, length = "64K" }
        write = { master = "nic", iova = 0x10001, data = [1, 0xff] }
        expect-fault = { master = "nic", event = "F_TRANSLATION" }
        read = { master = "nic", iova = 0x40000ffc, length = 8 }
        expect-data = { memory = "tx", offset = 1, data = { hex = "De aD" } }
        expect-fault = { master = "nic", iova = 0x40001000, event = "F_ADDR_SIZE", access = "read" }
        write = { master = "test", iova = 0, data = { pattern = 0x12345678, length = 8 } }
        expect-blocked = { master = "test" }
        read = { master = "nic", iova = 0, expect = "é" }
        detach = { master = "nic" }
        random = { steps = 5 }
        random = { steps = 6, seed = 2, iova = 0, pages = 8, weights = { map = 0, stale = 9 } }
        "#,
    );
    let step = |n: usize| &scenario.steps[n].action;
    assert_eq!(scenario.steps[0].note.as_deref(), Some("hello"));
    assert_eq!((scenario.steps[0].line, scenario.steps[1].line), (19, 20));
    assert!(matches!(step(0), Action::Attach { master: 0, domain: Target::Domain(0), .. }));
    assert!(matches!(step(1), Action::Attach { master: 1, domain: Target::Identity, .. }));
    assert!(matches!(step(2), Action::Attach { master: 1, domain: Target::Blocked, .. }));
    assert!(matches!(
        step(3),
        Action::Map {
            domain: 0,
            iova: 0x10000,
            memory: 0,
            offset: 0,
            length: 0x10000,
            access: Access::ReadWrite,
            kind: MemoryKind::Normal,
            rights: Rights::Data,
        }
    ));
    assert!(matches!(
        step(4),
        Action::Map {
            iova: 0x4000_0000,
            memory: 1,
            offset: 4096,
            length: 4096,
            access: Access::ReadOnly,
            kind: MemoryKind::Device,
            ..
        }
    ));
    assert!(matches!(step(5), Action::Unmap { domain: 0, iova: 0x10000, length: 0x10000 }));
    assert!(
        matches!(step(6), Action::Write { master: 0, iova: 0x10001, data, .. } if *data == [1, 255])
    );
    assert!(matches!(
        step(7),
        Action::ExpectFault {
            master: 0,
            iova: 0x10001,
            event: EventId::FTranslation,
            write: true,
            ..
        }
    ));
    assert!(matches!(step(8), Action::Read { length: 8, instruction: false, expect: None, .. }));
    assert!(
        matches!(step(9), Action::ExpectData { memory: 1, offset: 1, data } if *data == [0xDE, 0xAD])
    );
    assert!(matches!(
        step(10),
        Action::ExpectFault { iova: 0x4000_1000, event: EventId::FAddrSize, write: false, .. }
    ));
    let pattern = [0x78, 0x56, 0x34, 0x12, 0x78, 0x56, 0x34, 0x12];
    assert!(matches!(step(11), Action::Write { master: 2, data, .. } if *data == pattern));
    assert!(matches!(step(12), Action::ExpectBlocked { master: 2, .. }));
    assert!(
        matches!(step(13), Action::Read { length: 2, expect: Some(e), .. } if e == "é".as_bytes())
    );
    let Action::Random(first) = step(15) else { panic!("{:?}", step(15)) };
    assert_eq!((first.steps, first.seed, first.pages), (5, None, 64));
    assert_eq!((first.iova, first.weights), (0xC000_0000, Weights::default()));
    let Action::Random(second) = step(16) else { panic!("{:?}", step(16)) };
    assert_eq!((second.steps, second.seed, second.iova, second.pages), (6, Some(2), 0, 8));
    assert_eq!(second.weights, Weights { map: 0, stale: 9, ..Weights::default() });
}

#[test]
fn steps_of_pasids_and_processes_mean_what_they_say() {
    let scenario = parse_steps(
        r#"
        attach = { master = "sub", domain = "d", pasid = 3, refused = "asid-width" }
        attach = { master = "sub", domain = "d", pasid = 2 }
        bind = { process = "shell", master = "sub", refused = "maybe" }
        process-map = { process = "shell", iova = 0x1000, memory = "tx", access = "ro" }
        write = { master = "sub", pasid = 2, iova = 5, data = "x" }
        expect-fault = { master = "sub", pasid = 2, event = "C_BAD_CD" }
        read = { master = "sub", process = "shell", iova = 5, length = 2 }
        expect-blocked = { master = "sub", process = "shell" }
        process-unmap = { process = "shell", iova = 0x1000, length = "4K" }
        release = { process = "shell" }
        unbind = { process = "shell", master = "sub" }
        replace = { process = "shell" }
        detach = { master = "sub", pasid = 2 }
        "#,
    );
    let step = |n: usize| &scenario.steps[n].action;
    assert_eq!(scenario.pasids, 3);
    assert_eq!((scenario.processes[0].input_bits, scenario.processes[0].asid), (39, None));
    let width = Answer::Refused(Refusal::AsidWidth);
    assert!(matches!(step(0), Action::Attach { pasid: Some(3), answer, .. } if *answer == width));
    assert!(matches!(step(1), Action::Attach { pasid: Some(2), answer: Answer::Done, .. }));
    assert!(matches!(step(2), Action::Bind { process: 0, master: 4, answer: Answer::Judged }));
    assert!(matches!(
        step(3),
        Action::ProcessMap { process: 0, length: 8192, access: Access::ReadOnly, .. }
    ));
    let (pasid, process) = (Substream::Pasid(2), Substream::Process(0));
    assert!(matches!(step(4), Action::Write { substream, .. } if *substream == pasid));
    assert!(matches!(step(5), Action::ExpectFault { substream, .. } if *substream == pasid));
    assert!(matches!(step(6), Action::Read { substream, .. } if *substream == process));
    assert!(matches!(step(7), Action::ExpectBlocked { substream, .. } if *substream == process));
    assert!(matches!(step(8), Action::ProcessUnmap { iova: 0x1000, length: 4096, .. }));
    assert!(matches!(step(9), Action::Release { process: 0 }));
    assert!(matches!(step(10), Action::Unbind { process: 0, master: 4 }));
    assert!(matches!(step(11), Action::Replace { process: 0 }));
    assert!(matches!(step(12), Action::Detach { master: 4, pasid: Some(2) }));
}

#[test]
fn policies_banks_and_cpus_are_said_at_the_top() {
    let top = |keys: &str| format!("name = \"x\"\n{keys}\ninstance = [{{ name = \"i\" }}]");
    let scenario = Scenario::parse(
        &top("asid-policy = \"banked\"\nbanks = [2, 9]\ncpu-asid-bits = 8\npasids = 7"),
        "x.toml",
    );
    let scenario = scenario.unwrap();
    assert_eq!((scenario.asid_policy, scenario.banks), (AsidPolicy::Banked, Some((2, 9))));
    assert_eq!((scenario.cpu_asid_bits, scenario.pasids), (8, 7));
    let plain = Scenario::parse(&top(""), "x.toml").unwrap();
    assert_eq!((plain.asid_policy, plain.banks), (AsidPolicy::PerInstance, None));
    assert_eq!((plain.cpu_asid_bits, plain.pasids), (16, 0));
    let policies = "\"per-instance\", \"shared-8\", \"shared-8-on-move\", \"shared-min-refuse\", \
                    \"shared-min-move\", \"banked\"";
    assert_eq!(
        messages(&top("asid-policy = \"shared\"\nbanks = [9, 2]\ncpu-asid-bits = 9")),
        [
            format!(
                "unknown asid-policy \"shared\" in the scenario; it is one of {policies} (did you mean \"shared-8\"?)"
            ),
            "banks are the first and the last VMID, like [1, 255]".to_owned(),
            "cpu-asid-bits of the scenario must be 8 or 16, not 9".to_owned(),
        ]
    );
}

#[test]
fn a_step_can_be_interrupted_where_it_calls_the_driver() {
    let scenario = parse_steps(
        r#"
        interrupt = 7, attach = { master = "nic", domain = "d" }
        reclaim = { domain = "d", iova = "2M", length = "2M" }
        "#,
    );
    assert_eq!(scenario.steps[0].interrupt, Some(7));
    assert_eq!(scenario.steps[1].interrupt, None);
    let Action::Reclaim { domain: 0, iova: 0x20_0000, length: 0x20_0000 } =
        scenario.steps[1].action
    else {
        panic!("{:?}", scenario.steps[1])
    };
    assert_eq!(
        messages(&with_steps(
            r#"
            interrupt = 0x1_0000_0000, attach = { master = "nic", domain = "d" }
            interrupt = 1, random = { steps = 5 }
            interrupt = 1, expect-data = { memory = "rx", data = "x" }
            "#
        )),
        [
            "interrupt = 0x100000000 in step; it must be a whole number from 0 to 0xffffffff",
            "random is not interrupted from here; leave interrupt out",
            "expect-data is not interrupted from here; leave interrupt out",
        ]
    );
}

/// An interruption may have unmapped what was mapped.
#[test]
fn after_an_interrupted_step_a_mapping_may_be_mapped_over() {
    let map = r#"map = { domain = "d", iova = 0x10000, memory = "rx" }"#;
    let twice = messages(&with_steps(&format!("{map}\n{map}")));
    assert!(matches!(&twice[..], [message] if message.contains("overlaps")), "{twice:?}");
    assert!(messages(&with_steps(&format!("interrupt = 1, {map}\n{map}"))).is_empty());
}

#[test]
fn a_count_stands_for_several_domains_and_several_attaches() {
    let text = format!(
        "{}step = [\n    {{ attach = {{ master = \"sub\", domain = \"vm2\", pasid = 7, count = 3 }} }},\n]\n",
        BASE.replace("{ name = \"d\" }", "{ name = \"vm\", count = 5 }, { name = \"d\" }")
    );
    let scenario = Scenario::parse(&text, "x.toml").unwrap_or_else(|errors| panic!("{errors}"));
    let names: Vec<&str> = scenario.domains.iter().map(|domain| &*domain.name).collect();
    assert_eq!(names, ["vm1", "vm2", "vm3", "vm4", "vm5", "d", "small"]);
    let attached: Vec<(bool, u32, usize)> = scenario
        .steps
        .iter()
        .map(|step| match step.action {
            Action::Attach { pasid: Some(pasid), domain: Target::Domain(domain), .. } => {
                (step.again, pasid, domain)
            }
            ref other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(attached, [(false, 7, 1), (true, 8, 2), (true, 9, 3)]);
    // Written out, it is the same without counts.
    let again = Scenario::parse(&scenario.to_toml(), "x.toml").unwrap();
    assert_eq!((again.domains.len(), again.steps.len()), (7, 3));

    for (from, to, message) in [
        ("count = 3", "count = 7", "count = 7, but there are 6 domains from this one on"),
        ("pasid = 7, ", "", "count needs pasid: a master has one domain without"),
        ("pasid = 7", "pasid = 4094", "count = 3, but there are 2 PASIDs from this one on"),
        (
            "count = 5 }, { name = \"d\" }",
            "count = 5 }, { name = \"vm3\" }",
            "domain \"vm3\" is one of several already; names are unique",
        ),
    ] {
        assert_eq!(messages(&text.replace(from, to)), [message]);
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Traces in time: what they hold, that they agree with the report, and that they change nothing.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use smmuv3_testbench::report::Report;
use smmuv3_testbench::run::{Choice, Options, run};
use smmuv3_testbench::scenario::Scenario;
use smmuv3_testbench::trace::Tracer;

fn scenario(name: &str) -> Scenario {
    let path = format!("{}/../../scenarios/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    Scenario::parse(&text, &path).unwrap_or_else(|errors| panic!("{errors}"))
}

/// A file in memory.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn traced(name: &str, machine: Choice, seed: u64) -> (Report, String) {
    let memory = Memory::default();
    let tracer = Tracer::new(memory.clone());
    let options =
        Options { machine, seed: Some(seed), tracer: Some(tracer.clone()), ..Options::default() };
    let report = run(&scenario(name), &options, &mut |_| ()).unwrap();
    assert!(report.is_ok(), "seed {seed}: {:#?}", report.failure);
    tracer.finish().unwrap();
    let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
    (report, text)
}

fn on_model(name: &str, seed: u64) -> (Report, Vec<Value>) {
    let (report, text) = traced(name, Choice::Model, seed);
    (report, events(&text))
}

fn events(text: &str) -> Vec<Value> {
    let trace: Value = serde_json::from_str(text).unwrap();
    assert_eq!(trace["displayTimeUnit"], "ns");
    trace["traceEvents"].as_array().unwrap().clone()
}

/// Nanoseconds.
fn begin(event: &Value) -> u64 {
    (event["ts"].as_f64().unwrap() * 1000.0).round() as u64
}

fn end(event: &Value) -> u64 {
    begin(event) + (event["dur"].as_f64().unwrap() * 1000.0).round() as u64
}

fn track(event: &Value) -> (u64, u64) {
    (event["pid"].as_u64().unwrap(), event["tid"].as_u64().unwrap())
}

fn of_kind<'a>(events: &'a [Value], kind: &str) -> impl Iterator<Item = &'a Value> {
    events.iter().filter(move |event| event["cat"] == kind)
}

/// How many there are of each name.
fn names<'a>(events: impl Iterator<Item = &'a Value>) -> BTreeMap<String, u64> {
    let mut names = BTreeMap::new();
    for event in events {
        *names.entry(event["name"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    names
}

/// Processes by number.
fn processes(events: &[Value]) -> BTreeMap<u64, String> {
    let named = events.iter().filter(|event| event["name"] == "process_name");
    named.map(|event| (track(event).0, event["args"]["name"].as_str().unwrap().into())).collect()
}

#[test]
fn every_event_has_what_the_format_asks_for() {
    let (_, events) = on_model("two-instances", 1);
    let named = events.iter().filter(|event| event["name"] == "thread_name").map(track);
    let threads: BTreeSet<(u64, u64)> = named.collect();
    for event in &events {
        assert!(event["name"].is_string() && event["args"].is_object(), "{event}");
        let (pid, tid) = track(event);
        assert!(pid > 0 && event["ts"].as_f64().unwrap() >= 0.0, "{event}");
        match event["ph"].as_str().unwrap() {
            "X" => assert!(event["dur"].as_f64().unwrap() > 0.0, "{event}"),
            "i" => assert_eq!(event["s"], "t", "{event}"),
            "M" => continue,
            _ => panic!("{event}"),
        }
        assert!(event["cat"].is_string() && tid > 0, "{event}");
        assert!(threads.contains(&(pid, tid)), "the thread of {event} has no name");
    }
}

#[test]
fn spans_of_a_track_lie_within_or_beside_each_other() {
    for (name, seed) in [("two-instances", 1), ("two-instances", 2), ("random-short", 3)] {
        let (_, events) = on_model(name, seed);
        let mut tracks: BTreeMap<_, Vec<(u64, u64)>> = BTreeMap::new();
        for event in events.iter().filter(|event| event["ph"] == "X") {
            tracks.entry(track(event)).or_default().push((begin(event), end(event)));
        }
        for (track, mut spans) in tracks {
            spans.sort_by_key(|(begin, end)| (*begin, u64::MAX - end));
            let mut open: Vec<u64> = Vec::new();
            for (begin, end) in spans {
                open.retain(|outer| *outer > begin);
                let inside = open.last().is_none_or(|outer| end <= *outer);
                assert!(inside, "{name} {seed}: {begin}..{end} of {track:?} leaves what it is in");
                open.push(end);
            }
        }
    }
}

#[test]
fn each_instance_is_a_process_and_the_driver_another() {
    let (report, events) = on_model("two-instances", 1);
    let mut expected = vec!["driver".to_owned()];
    expected.extend(report.instances.iter().map(|instance| instance.name.clone()));
    assert_eq!(processes(&events).into_values().collect::<Vec<_>>(), expected);
    for kind in ["command", "wait", "walk", "fetch", "event", "interrupt"] {
        let pids: BTreeSet<u64> = of_kind(&events, kind).map(|event| track(event).0).collect();
        assert_eq!(pids.into_iter().collect::<Vec<_>>(), [2, 3], "{kind}");
    }
}

#[test]
fn commands_are_those_of_the_report() {
    let (report, events) = on_model("two-instances", 1);
    let commands = of_kind(&events, "command").filter(|event| event["ph"] == "X");
    assert_eq!(names(commands), report.commands);
    let narrow = |event: &&Value| track(event).0 == 2 && event["name"] == "CMD_TLBI_NH_VA";
    let tlbi = of_kind(&events, "command").find(narrow);
    let operands = &tlbi.unwrap()["args"];
    assert_eq!((&operands["ASID"], &operands["Addr"]), (&"0x1".into(), &"0x10000".into()));
}

#[test]
fn every_sync_is_waited_for_from_before_it_is_consumed_until_after() {
    let (report, events) = on_model("two-instances", 1);
    let waits: Vec<&Value> = of_kind(&events, "wait").collect();
    assert_eq!(waits.len() as u64, report.commands["CMD_SYNC"]);
    for wait in waits {
        assert_eq!(wait["args"]["complete"], true, "{wait}");
        let consumed = |event: &&Value| {
            event["name"] == "CMD_SYNC"
                && track(event).0 == track(wait).0
                && event["args"]["slot"] == wait["args"]["slot"]
                && (begin(wait)..end(wait)).contains(&begin(event))
        };
        assert_eq!(events.iter().filter(consumed).count(), 1, "{wait}");
    }
}

#[test]
fn steps_and_their_faults_are_those_of_the_report() {
    let (report, events) = on_model("two-instances", 1);
    let steps: Vec<&Value> = of_kind(&events, "step").collect();
    assert_eq!(steps.len(), report.steps.len());
    for (traced, step) in steps.iter().zip(&report.steps) {
        assert_eq!(traced["name"], step.text);
        // Devices that are refused before their master is added are no step's.
        if step.text.contains("random") || step.text.starts_with("bring up") {
            continue;
        }
        let within = |event: &&Value| (begin(traced)..end(traced)).contains(&begin(event));
        let faults: BTreeSet<String> = of_kind(&events, "report")
            .filter(within)
            .map(|event| {
                let args = &event["args"];
                let text = |key: &str| args[key].as_str().unwrap().to_owned();
                let address = u64::from_str_radix(&text("address")[2..], 16).unwrap() & !0xfff;
                let event = event["name"].as_str().unwrap();
                let (instance, sid, access) = (text("instance"), text("sid"), text("access"));
                format!("{event} {instance} {sid} {access} {address:#x}")
            })
            .collect();
        let expected: BTreeSet<String> = step
            .faults
            .iter()
            .map(|fault| {
                let (event, instance, sid) = (&fault.event, &fault.instance, fault.stream);
                format!("{event} {instance} {sid:#x} {} {:#x}", fault.access, fault.page)
            })
            .collect();
        assert_eq!(faults, expected, "{}", step.text);
    }
    assert!(report.faults.len() >= 5);
}

#[test]
fn what_the_smmus_recorded_is_what_the_driver_reported() {
    for seed in 1..4 {
        let (_, events) = on_model("random-short", seed);
        let recorded = names(of_kind(&events, "event"));
        assert!(recorded["F_TRANSLATION"] > 100, "{recorded:?}");
        assert_eq!(names(of_kind(&events, "report")), recorded, "seed {seed}");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let [first, second, other] =
        [7, 7, 8].map(|seed| traced("two-instances", Choice::Model, seed).1);
    assert!(first == second);
    assert!(first != other);
}

#[test]
fn tracing_changes_nothing() {
    for seed in 1..4 {
        let options = Options { seed: Some(seed), ..Options::default() };
        let plain = run(&scenario("two-instances"), &options, &mut |_| ()).unwrap();
        let (report, _) = traced("two-instances", Choice::Model, seed);
        let json = |report: &Report| serde_json::to_string(report).unwrap();
        assert_eq!(json(&report), json(&plain), "seed {seed}");
        assert_eq!(report.data, plain.data, "seed {seed}");
    }
}

/// Takes some bytes, then none.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_does_not_disturb_the_run_and_is_told_at_the_end() {
    let tracer = Tracer::new(Full(10_000));
    let options = Options { tracer: Some(tracer.clone()), ..Options::default() };
    let report = run(&scenario("one-instance"), &options, &mut |_| ()).unwrap();
    assert!(report.is_ok());
    assert_eq!(tracer.finish().unwrap_err().kind(), io::ErrorKind::StorageFull);
}

#[test]
fn a_trace_of_nothing_is_a_trace() {
    let memory = Memory::default();
    Tracer::new(memory.clone()).finish().unwrap();
    let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
    assert_eq!(events(&text), [Value::Null; 0]);
}

fn on_qemu(path: PathBuf) -> (Report, Vec<Value>) {
    let (report, text) = traced("one-instance", Choice::Qemu(Some(path)), 1);
    (report, events(&text))
}

#[test]
fn on_qemu_a_trace_holds_what_the_driver_does() {
    let Some(path) = common::any_qemu_or_skip() else { return };
    let (report, events) = on_qemu(path);
    assert_eq!(names(of_kind(&events, "command")), report.commands);
    assert_eq!(of_kind(&events, "wait").count() as u64, report.commands["CMD_SYNC"]);
    assert_eq!(of_kind(&events, "step").count(), report.steps.len());
    assert!(of_kind(&events, "report").count() >= report.faults.len());
    for kind in ["walk", "fetch", "event", "interrupt"] {
        assert_eq!(of_kind(&events, kind).count(), 0, "{kind}");
    }
}

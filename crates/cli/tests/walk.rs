// SPDX-License-Identifier: MIT OR Apache-2.0
//! `smmuv3 walk` as a shell sees it.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// Where the images begin, and their stream table is.
const RAM: u64 = 0x4000_0000;
const TABLE: u64 = 0x4400_0000;

fn run(folder: &Path, arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smmuv3"));
    command.arg("walk").args(arguments.split_whitespace()).current_dir(folder);
    command.env_remove("CLICOLOR_FORCE").stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn ended(output: &Output, status: i32) -> String {
    let told = str::from_utf8(&output.stderr).unwrap();
    assert_eq!((output.status.code(), told), (Some(status), ""));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn json(output: &Output, status: i32) -> serde_json::Value {
    serde_json::from_str(&ended(output, status)).unwrap()
}

/// Words of memory, with their addresses.
type Contents = Vec<(u64, Vec<u64>)>;

/// Stage-1 tables for one page at 0x8080604000, and a page beside it that is read-only and executable.
fn tables() -> Contents {
    vec![
        (TABLE + 0x2_0000, vec![0x0005_e204_c000_3510, TABLE + 0x1_0000, 0, 0x0004_44ff]),
        (TABLE + 0x1_0008, vec![TABLE + 0x1_1003]),
        (TABLE + 0x1_1010, vec![TABLE + 0x1_2003]),
        (TABLE + 0x1_2018, vec![TABLE + 0x1_3003]),
        (TABLE + 0x1_3020, vec![0x0060_0000_4123_4f43, 0x0000_0000_4500_0fc3]),
    ]
}

/// Stream 8 of a linear table translates, 9 bypasses.
fn linear() -> Contents {
    let mut contents = tables();
    contents.push((TABLE + 64 * 8, vec![(TABLE + 0x2_0000) | 0xb, 0xd4]));
    contents.push((TABLE + 64 * 9, vec![0x9, 1 << 44]));
    contents
}

/// Stream 0x100 of a table of two levels.
fn two_levels() -> Contents {
    let mut contents = tables();
    contents.push((TABLE + 8, vec![(TABLE + 0x4_0000) | 9]));
    contents.push((TABLE + 0x4_0000, vec![(TABLE + 0x2_0000) | 0xb, 0xd4]));
    contents
}

fn put(file: &File, origin: u64, contents: &Contents) {
    for (at, words) in contents {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        file.write_all_at(&bytes, at - origin).unwrap();
    }
}

/// An ELF core of one run of memory, sparse.
fn core(path: &Path, contents: &Contents, bytes: u64) {
    let mut head = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0];
    head.resize(16, 0);
    head.extend([4, 0, 183, 0, 1, 0, 0, 0]);
    for value in [0u64, 64, 0] {
        head.extend(value.to_le_bytes());
    }
    head.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
    head.extend([1, 0, 0, 0, 7, 0, 0, 0]);
    for value in [4096u64, 0, RAM, bytes, bytes, 0] {
        head.extend(value.to_le_bytes());
    }
    let file = File::create(path).unwrap();
    file.write_all_at(&head, 0).unwrap();
    file.set_len(4096 + bytes).unwrap();
    put(&file, RAM - 4096, contents);
}

/// The files that the examples of the help name.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    let raw = File::create(folder.path().join("ram.bin")).unwrap();
    raw.set_len(128 << 20).unwrap();
    put(&raw, RAM, &linear());
    core(&folder.path().join("vmcore"), &two_levels(), 128 << 20);
    core(&folder.path().join("guest.elf"), &linear(), 128 << 20);
    let registers = "STRTAB_BASE 0x4000000044000000\nSTRTAB_BASE_CFG: 8\nIDR0: 0d44101b\nIDR1: 02730010\n\
                     IDR3: 1414\nIDR5: 74\n";
    std::fs::write(folder.path().join("smmu.txt"), registers).unwrap();
    folder
}

const STREAM_8: &str = "--memory ram.bin@0x40000000 --strtab 0x44000000 --log2size 8 --sid 8";

#[test]
fn every_example_of_the_help_runs() {
    let folder = folder();
    let help =
        Command::new(env!("CARGO_BIN_EXE_smmuv3")).args(["walk", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let examples: Vec<&str> =
        help.lines().filter_map(|line| line.trim().strip_prefix("smmuv3 walk ")).collect();
    assert!(examples.len() >= 4, "{help}");
    for example in examples {
        let arguments = example.split(['|', '>']).next().unwrap();
        let output = run(folder.path(), arguments);
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(matches!(output.status.code(), Some(0 | 1)), "{example}: {told}");
        assert!(!output.stdout.is_empty() && told.is_empty(), "{example}: {told}");
    }
}

#[test]
fn an_access_is_followed_to_its_page() {
    let folder = folder();
    let text = ended(&run(folder.path(), &format!("{STREAM_8} --address 0x8080604010 --write")), 0);
    let expected = "\
stream 0x8, write to 0x8080604010

STE[0x8] at 0x44000200  stage 1, one context at 0x44020000
  00: 000000004402000b 00000000000000d4
  CD[0x0] at 0x44020000  ASID 5, TTB0 0x44010000 (48-bit, 4 KiB), TTB1 off
    00: 0005e204c0003510 0000000044010000 0000000000000000 00000000000444ff
    S1 L0[0x1] at 0x44010008: 0x0000000044011003  table at 0x44011000
    S1 L1[0x2] at 0x44011010: 0x0000000044012003  table at 0x44012000
    S1 L2[0x3] at 0x44012018: 0x0000000044013003  table at 0x44013000
    S1 L3[0x4] at 0x44013020: 0x0060000041234f43  4 KiB page at 0x41234000, rw-, Normal WB, ISH

→ 0x41234010  in a mapping of 4 KiB, rw-, Normal WB, ISH
";
    assert_eq!(text, expected);
    let json = json(&run(folder.path(), &format!("{STREAM_8} --address 0x8080604010 --json")), 0);
    assert_eq!(json["result"]["address"], "0x41234010");
    assert_eq!(json["result"]["size"], "0x1000");
    assert_eq!(json["steps"][5]["words"][0], "0x0060000041234f43");
    assert_eq!(json["steps"][5]["level"], 3);
    assert_eq!(json["access"]["ssid"], serde_json::Value::Null);
}

#[test]
fn a_fault_is_the_event_that_hardware_writes() {
    let folder = folder();
    let text = ended(&run(folder.path(), &format!("{STREAM_8} --address 0x8080605008 --write")), 1);
    assert!(text.contains("F_PERMISSION: stage 1 does not allow the access"), "{text}");
    let words = "0x0000000800000013 0x0000020000000000 0x0000008080605008 0x0000000000000000";
    assert!(text.contains(words), "{text}");
    assert!(text.contains("the event is recorded; the access is aborted"), "{text}");
    let json = json(&run(folder.path(), &format!("{STREAM_8} --address 0 --ssid 1 --json")), 1);
    assert_eq!(json["result"]["event"]["name"], "C_BAD_SUBSTREAMID");
    // An illegal entry names its rule, and says for whom it was judged.
    let image = File::options().write(true).open(folder.path().join("ram.bin")).unwrap();
    put(&image, RAM, &vec![(TABLE + 64 * 8 + 8, vec![0xd4 | 1 << 30])]);
    let text = ended(&run(folder.path(), &format!("{STREAM_8} --address 0")), 1);
    assert!(
        text.contains("C_BAD_STE") && text.contains("§7.1(5)") && text.contains("--idr"),
        "{text}"
    );
}

#[test]
fn what_the_image_lacks_is_not_an_abort_unless_it_is_all_of_memory() {
    let folder = folder();
    let image = File::options().write(true).open(folder.path().join("ram.bin")).unwrap();
    put(&image, RAM, &vec![(TABLE + 0x1_1010, vec![0x9000_0003])]);
    let command = format!("{STREAM_8} --address 0x8080604000");
    let text = ended(&run(folder.path(), &command), 2);
    assert!(
        text.contains("the image does not have 0x90000018, where the stage-1 descriptor is"),
        "{text}"
    );
    assert!(text.contains("F_WALK_EABT"), "{text}");
    let json = json(&run(folder.path(), &format!("{command} --json")), 2);
    assert_eq!(json["result"]["kind"], "missing");
    let text = ended(&run(folder.path(), &format!("{command} --whole")), 1);
    assert!(text.contains("F_WALK_EABT: a translation table cannot be read"), "{text}");
}

#[test]
fn streams_are_listed_and_what_they_reach() {
    let folder = folder();
    let memory = "--memory guest.elf --registers smmu.txt";
    let text = ended(&run(folder.path(), memory), 0);
    let streams: Vec<&str> = text.lines().map(|line| line.split("  ").next().unwrap()).collect();
    assert_eq!(streams, ["stream 0x8", "stream 0x9"]);
    let found = json(&run(folder.path(), &format!("{memory} --all --json")), 1);
    assert_eq!(found["streams"][0]["spaces"][0]["ranges"][0]["input"], "0x8080604000");
    assert_eq!(found["streams"][0]["spaces"][0]["ranges"][1]["permissions"]["unprivileged"], "r-x");
    assert_eq!(found["findings"][0]["kind"], "bypass");
    assert_eq!(found["complete"], true);
    // A stream that is in order.
    let text = ended(&run(folder.path(), &format!("{memory} --all --sid 0x8")), 0);
    assert!(text.contains("Nothing is wrong with 2048 descriptors."), "{text}");
    assert!(
        text.contains("0x8080604000-0x8080604fff → 0x41234000  rw-, Normal WB, ISH  4 KiB"),
        "{text}"
    );
    let text = ended(&run(folder.path(), &format!("{memory} --all --sid 0x8 --limit 1")), 0);
    assert!(text.contains("… and 1 ranges more"), "{text}");
    let text = ended(&run(folder.path(), &format!("{memory} --all --sid 0x7")), 1);
    assert_eq!(text, "stream 0x7 has no valid entry: its accesses abort\n");
}

#[test]
fn pictures_are_whole_and_know_light_and_dark() {
    let folder = folder();
    for what in ["--address 0x8080604000", "--address 0", "--all"] {
        let status = if what == "--address 0" { 1 } else { 0 };
        let svg = ended(&run(folder.path(), &format!("{STREAM_8} {what} --svg")), status);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
        assert!(svg.contains("prefers-color-scheme:dark") && !svg.contains("href"), "{svg}");
        assert_eq!(svg.matches("<g ").count(), svg.matches("</g>").count());
    }
}

/// What the page in docs shows is what is printed: the folder of the examples, and three streams that abort.
#[test]
fn the_page_shows_what_is_printed() {
    let folder = folder();
    let image = File::options().write(true).open(folder.path().join("ram.bin")).unwrap();
    for stream in 16..19 {
        put(&image, RAM, &vec![(TABLE + 64 * stream, vec![1])]);
    }
    let page = include_str!("../../../docs/walk.md");
    let mut shown = page.split("```console\n$ smmuv3 walk ").skip(1);
    for status in [1, 1] {
        let (command, rest) = shown.next().unwrap().split_once('\n').unwrap();
        let (expected, _) = rest.split_once("```").unwrap();
        assert_eq!(ended(&run(folder.path(), command), status), expected, "{command}");
    }
    assert!(shown.next().is_none());
}

#[test]
fn json_is_as_the_schema_says() {
    let schema = serde_json::from_str(include_str!("../../../docs/walk.schema.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let folder = folder();
    let image = File::options().write(true).open(folder.path().join("ram.bin")).unwrap();
    // A table that is not in the image, streams that abort, and one whose entry is illegal.
    put(&image, RAM, &vec![(TABLE + 0x1_0010, vec![0x9000_0003])]);
    put(&image, RAM, &vec![(TABLE + 64 * 10, [1, 0, 0, 0, 0, 0, 0, 0].repeat(3))]);
    put(&image, RAM, &vec![(TABLE + 64 * 13, vec![(TABLE + 0x2_0000) | 0xb, 0xd4 | 1 << 30])]);
    let mut kinds = Vec::new();
    for arguments in [
        "--sid 8 --address 0x8080604010",
        "--sid 8 --address 0x8080605010 --write --ssid 0",
        "--sid 8 --address 0x8080605010 --write",
        "--sid 8 --address 0x10000000000",
        "--sid 10 --address 0",
        "--sid 13 --address 0",
        "--all",
        "--all --sid 8",
        "--all --limit 1",
        "",
    ] {
        let output = run(
            folder.path(),
            &format!("--memory ram.bin@0x40000000 --strtab 0x44000000,8 {arguments} --json"),
        );
        let value = serde_json::from_slice(&output.stdout).unwrap();
        if let Err(error) = validator.validate(&value) {
            panic!("{arguments}: {error} at {}", error.instance_path());
        }
        let result = &value["result"]["kind"];
        kinds.push(result.as_str().unwrap_or(value["kind"].as_str().unwrap()).to_owned());
        if arguments == "--all" {
            let runs: Vec<_> =
                value["streams"].as_array().unwrap().iter().map(|each| &each["last_sid"]).collect();
            assert_eq!(runs, ["0x8", "0x9", "0xc", "0xd"]);
            assert_eq!(value["complete"], false);
        }
    }
    let walks = ["translated", "fault", "fault", "missing", "silent", "fault"];
    assert_eq!(kinds, [&walks[..], &["reach"; 4]].concat());
    // The schema is no rubber stamp.
    let wrong = serde_json::json!({ "kind": "reach", "streams": [] });
    assert!(!validator.is_valid(&wrong));
}

#[test]
fn an_smmu_that_is_off_is_told() {
    let folder = folder();
    let registers = "CR0 0\nSTRTAB_BASE 0x44000000\nSTRTAB_BASE_CFG 8\n";
    std::fs::write(folder.path().join("off.txt"), registers).unwrap();
    let arguments = "--memory ram.bin@0x40000000 --registers off.txt --sid 9 --address 0";
    let output = run(folder.path(), arguments);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && told.contains("CR0.SMMUEN = 0"), "{told}");
}

#[test]
fn an_image_may_come_through_a_pipe() {
    let folder = folder();
    let bytes = std::fs::read(folder.path().join("ram.bin")).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_smmuv3"))
        .args(["walk", "--memory", "-@0x44000000", "--strtab", "0x44000000,8"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // The stream table and what is behind it.
    child.stdin.take().unwrap().write_all(&bytes[64 << 20..65 << 20]).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("stream 0x8  stage 1"));
}

#[test]
fn what_cannot_be_used_says_what_to_do() {
    let folder = folder();
    std::fs::write(folder.path().join("zeros"), [0; 4096]).unwrap();
    std::fs::write(folder.path().join("dump"), b"KDUMP   \x06\0\0\0").unwrap();
    for (arguments, words) in [
        ("--memory dump --strtab 0,3", "makedumpfile -E"),
        ("--memory ram.bin --strtab 0,3", "say at which physical address"),
        ("--memory ram.bin@0x3c000000 --memory guest.elf --strtab 0,3", "both have 0x40000000"),
        ("--memory ram.bin@0 --strtab 0x44000000", "--log2size N"),
        // Either would do.
        ("--memory ram.bin@0", "--strtab"),
        ("--memory ram.bin@0", "--registers <FILE>"),
        ("--memory ram.bin@ --strtab 0,3", "nothing behind @ is no address"),
        ("--memory ram.bin@0 --strtab 0 --log2size 8 --split 7", "6, 8 or 10"),
        ("--memory -@0 --strtab 0,3 --registers -", "standard input can be read once"),
        ("--memory gone@0 --strtab 0,3", "gone can't be read"),
        ("--memory ram.bin@0 --strtab 0,3 --sid 8", "--address A, or --all"),
        ("--memory ram.bin@0 --registers dump", "names no register that counts"),
        ("--memory ram.bin@0 --registers zeros", "has an IDR0 of 0"),
        ("--memory ram.bin@0 --strtab 0,3 --idr idr9=1", "idr9 is none of"),
    ] {
        let output = run(folder.path(), arguments);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments}: {told}");
        assert!(told.contains(words) && output.stdout.is_empty(), "{arguments}: {told}");
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! `decode KIND`, `encode` and `fields` as a shell sees them.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use smmuv3_formats::structure::ALL;

fn smmuv3() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smmuv3"));
    command.env_remove("CLICOLOR_FORCE").stdin(Stdio::null());
    command
}

fn run(line: &str) -> Output {
    smmuv3().args(line.split_whitespace()).output().unwrap()
}

/// Runs with `text` as standard input.
fn fed(line: &str, text: &str) -> Output {
    let mut child = smmuv3()
        .args(line.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Who is refused at once does not read.
    let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
    child.wait_with_output().unwrap()
}

fn stdout(output: &Output) -> &str {
    str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    str::from_utf8(&output.stderr).unwrap()
}

#[track_caller]
fn text(output: &Output, status: i32) -> &str {
    assert_eq!(output.status.code(), Some(status), "{}{}", stdout(output), stderr(output));
    stdout(output)
}

#[track_caller]
fn json(output: &Output, status: i32) -> Value {
    serde_json::from_str(text(output, status)).unwrap()
}

/// Refused: status 2, nothing on standard output, these words on standard error.
#[track_caller]
fn assert_refused(output: &Output, words: &str) {
    assert_eq!(text(output, 2), "");
    assert!(stderr(output).contains(words), "no {words:?} in {}", stderr(output));
}

const STE: &str = "0x8002000b 0xd4 0 0 0 0 0 0";

#[test]
fn a_command_is_explained() {
    let output = run("decode cmd 0x0000010000000003 0x1");
    let expected = "\
CMD_CFGI_STE  §4.1
  0x0000010000000003  0x0000000000000001

  bits      field   value  meaning
  w0 7:0    Opcode  0x3    CMD_CFGI_STE
  w0 10     SSec    0      Non-secure
  w0 63:32  SID     0x100
  w1 0      Leaf    1      the entry alone

legal: no rule of §7 and §4.1 rejects it
assumed: judged for an instance that has every feature and the largest sizes; --idr gives the real
  one
";
    assert_eq!(text(&output, 0), expected);
    assert_eq!(stderr(&output), "");
}

#[test]
fn the_first_rule_that_is_broken_is_named() {
    let line = format!("decode ste {} --idr qemu", STE.replace("0xd4", "0x80000d4"));
    let output = run(&line);
    let illegal =
        "illegal: S1STALLD: must be 0 unless stalls can be chosen (STALL_MODEL = 0) (§7.1(6a))\n";
    assert!(text(&output, 1).contains(illegal), "{}", stdout(&output));
    assert!(stdout(&output).contains("assumed: judged for the instance qemu\n"));
    let object = json(&run(&(line + " --json")), 1);
    assert_eq!(object["illegal"]["section"], "7.1(6a)");
    assert_eq!(object["fields"]["s1contextptr"], "0x80020000");
    assert_eq!(object["fields"]["s1stalld"], true);
}

#[test]
fn words_come_as_arguments_or_on_standard_input() {
    let dump = "00000000: 0b00 0280 0000 0000 d400 0000 0000 0000  ................\n\
                00000010: 0000 0000 0000 0000 0000 0000 0000 0000  ................\n*\n\
                00000030: 0000 0000 0000 0000 0000 0000 0000 0000  ................\n";
    let given = run(&format!("decode ste {STE}"));
    for output in [fed("decode ste -", STE), fed("decode ste", STE), fed("decode ste -", dump)] {
        let body = text(&output, 0).lines().take(80).collect::<Vec<_>>();
        assert_eq!(body, text(&given, 0).lines().take(80).collect::<Vec<_>>());
    }
    let halves = "decode cmd 0x100 0x3 0x0 0x1 --order high-first";
    assert!(text(&run(halves), 0).starts_with("CMD_CFGI_STE"));
    assert_refused(
        &run("decode ste 1 2 3"),
        "an STE is 8 64-bit words, or 16 32-bit words, or 64 bytes",
    );
    assert_refused(&run("decode ste"), "no words were given");
    assert_refused(&run("decode stee 1 2"), "did you mean ste?");
    assert_refused(
        &run("decode 0x10 0x20"),
        "Say what the words are, as in smmuv3 decode event 0x10",
    );
    assert_refused(&run("decode cmd 1 2 --order upside-down"), "high-first");
    assert_refused(&run("decode cmd 0x1g 2"), "\"0x1g\" is no hexadecimal number");
}

#[test]
fn an_instance_may_be_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("idr");
    std::fs::write(&path, "0000000009050000: 0x0d44101b 0x02730010 0x00000000 0x00001414\n0000000009050010: 0x00000000 0x00000074\n").unwrap();
    let output = run(&format!("decode cmd 0x40 0x34 --idr {}", path.display()));
    assert!(
        text(&output, 1).contains("illegal: Opcode: the command is not available on this queue")
    );
    assert!(stdout(&output).contains("assumed: judged for the given ID registers\n"));
    std::fs::write(&path, STE.replace("0xd4", "0x80000d4")).unwrap();
    let output =
        run(&format!("decode cd 0x5f204c0003510 0x80010000 0 0 0 0 0 0 --ste {}", path.display()));
    assert!(text(&output, 1).contains("illegal: S: the STE forbids stalls"), "{}", stdout(&output));
    assert_refused(&run("decode cmd 1 2 --idr 9=1"), "--idr: \"9\" is no ID register");
    assert_refused(&run("decode cd 1 2 3 4 5 6 7 8 --ste 1"), "--ste: an STE is 8 64-bit words");
}

#[test]
fn an_event_is_the_record_that_a_log_has() {
    let words =
        ["0x0000790000000010", "0x0000020800000000", "0x00000000ffffe040", "0x0000000000000000"];
    let mut one = json(&run(&format!("decode event {} --json", words.join(" "))), 1);
    let log: String = std::iter::once("arm-smmu-v3 smmu0: event 0x10 received:\n".to_owned())
        .chain(words.iter().map(|word| format!("arm-smmu-v3 smmu0: \t{word}\n")))
        .collect();
    let output = fed("decode - --json", &log);
    let first = text(&output, 1).lines().next().unwrap();
    let mut all: Value = serde_json::from_str(first).unwrap();
    for record in [&mut one, &mut all] {
        record.as_object_mut().unwrap().remove("instance");
    }
    assert_eq!(one, all);
    let output = run(&format!("decode event {}", words.join(" ")));
    assert!(text(&output, 1).contains("stream: PCI 79:00.0, if StreamIDs are requester IDs\n"));
    assert!(stdout(&output).contains("cause: "), "{}", stdout(&output));
    // A tool that prints bytes in groups tells so by its form; an order that had to be found is said.
    assert!(!stdout(&output).contains("--order"));
    let halves = run("decode event 0x7900 0x10 0x208 0x0 0 0xffffe040 0 0");
    assert!(
        text(&halves, 1)
            .contains("assumed: read with --order high-first, the only one that makes sense")
    );
}

#[test]
fn registers_report_errors() {
    assert!(text(&run("decode gerror 0x1 0x0"), 1).contains("CMDQ_ERR: the command queue stopped"));
    assert!(text(&run("decode gerror 0x1 0x1"), 0).contains("no error is active"));
    let cons = run("decode cmdq-cons 0x03000003");
    assert!(
        text(&cons, 1).contains("CERROR_ATC_INV_SYNC") && stdout(&cons).contains("what to do: ")
    );
    let object = json(&run("decode features 0x8325 --json"), 0);
    assert_eq!(object["set"].as_array().unwrap().len(), 6);
    let old = run("decode features 0x01000000 --kernel 5.10");
    assert!(text(&old, 1).contains("violation: bit 24 is BBML2 in newer kernels"));
    assert!(
        text(&run("decode idr 0x0d44101b 0x02730010 0 0x1414 0 0x74 0 1"), 0).contains("44 bits")
    );
    assert!(text(&run("decode cr0 0x9"), 0).contains("CMDQEN"));
}

#[test]
fn a_descriptor_says_what_was_assumed() {
    let output = run("decode pte 0x60000090000f43");
    assert!(text(&output, 0).contains("a page of 4 KiB at 0x90000000"));
    assert!(stdout(&output).contains("--stage, --level,"), "{}", stdout(&output));
    let given = run("decode pte 0x80011003 --stage 2 --level -1 --granule 4k --ds --oas 52");
    assert!(text(&given, 0).contains("the table of level 0 is at 0x80011000"));
    assert!(!stdout(&given).contains("would tell"));
    assert_refused(&run("decode pte 1 --granule 8k"), "a granule is 4k, 16k or 64k");
    assert_refused(&run("decode pte 1 --level 4"), "4 is not in -1..=3");
}

#[test]
fn fields_become_words() {
    let words = text(&run("encode cfgi_ste sid=0x100 leaf=1"), 0).to_owned();
    assert_eq!(words, "0x0000010000000003 0x0000000000000001\n");
    let halves = run("encode cfgi_ste sid=0x100 leaf=1 --format words32");
    assert_eq!(text(&halves, 0), "0x00000003 0x00000100 0x00000001 0x00000000\n");
    let bytes = run("encode cfgi_ste sid=0x100 leaf=1 --format bytes");
    assert_eq!(text(&bytes, 0), "03000000000100000100000000000000\n");
    for form in [&words, stdout(&halves), stdout(&bytes)] {
        assert!(text(&fed("decode cmd -", form), 0).contains("SID     0x100"), "{form}");
    }
    assert_eq!(text(&run("encode cr0 smmuen=1 cmdqen=true"), 0), "0x00000009\n");
    assert_eq!(text(&fed("encode cr0 -", "smmuen=1\neventqen=1\n"), 0), "0x00000005\n");
    let named =
        smmuv3().args(["encode", "cd", "ips=44 bits", "sh0=inner shareable"]).output().unwrap();
    assert!(text(&named, 1).starts_with("0x0000000400003000 "), "{}", stdout(&named));
    let object = json(&run("encode l1std span=9 l2ptr=0x80030000 --json"), 0);
    assert_eq!(
        (&object["bytes"], &object["fields"]["span"]),
        (&"0900038000000000".into(), &9.into())
    );
    // The words of what hardware rejects are printed, and it is said.
    let illegal = run("encode ste v=1 config=s1 strw=1");
    assert!(text(&illegal, 1).starts_with("0x000000000000000b 0x0000000040000000 "));
    assert!(
        stderr(&illegal)
            .contains("warning: hardware rejects it: STRW: must be 0 (EL1) or 2 (EL2) (§7.1(5))")
    );
    assert_refused(&run("encode ste config=9"), "0x9 does not fit in Config[3:1]: it has 3 bits");
    assert_refused(&run("encode ste confg=1"), "STE has no field \"confg\", did you mean Config?");
    assert_refused(
        &run("encode ste v"),
        "\"v\" is no field with a value; give fields as NAME=VALUE",
    );
}

#[test]
fn all_fields_of_everything_for_programs() {
    let rows = json(&run("fields --json"), 0);
    let rows = rows.as_array().unwrap();
    let mut given = rows.iter();
    for structure in ALL {
        for field in structure.fields {
            let row = given.next().unwrap();
            let expected = serde_json::json!({
                "structure": structure.name,
                "name": field.name,
                "word": field.word,
                "hi": field.hi,
                "lo": field.lo,
                "section": structure.section,
            });
            assert_eq!(*row, expected);
        }
    }
    assert!(given.next().is_none());
    assert!(rows.len() > 1000, "{}", rows.len());
    let one = json(&run("fields l1std --json"), 0);
    assert_eq!(one.as_array().unwrap().len(), 2);
}

#[test]
fn fields_are_a_table_and_a_picture() {
    let output = run("fields cr1");
    let expected = "\
      ┌───────────────────────────────────────┬───┬───┬───┬───┬───┬───┐
w0    │░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░│TAB│TAB│TAB│QUE│QUE│QUE│
      │░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░│LE_│LE_│LE_│UE_│UE_│UE_│
      │░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░│SH │OC │IC │SH │OC │IC │
      └───────────────────────────────────────┴───┴───┴───┴───┴───┴───┘
";
    assert!(text(&output, 0).ends_with(expected), "{}", stdout(&output));
    assert!(
        stdout(&output)
            .starts_with("CR1  32-bit register, offset 0x28, §2.4\n\n  1:0    QUEUE_IC  ")
    );
    let all = run("fields");
    for name in
        ["STE", "CMD_SYNC", "F_TRANSLATION", "STRTAB_BASE_CFG", "S1 page descriptor", "cmdq-cons"]
    {
        assert!(text(&all, 0).contains(name), "{name}");
    }
    assert_refused(&run("fields strtab_bse"), "did you mean strtab-base?");
    assert_refused(&run("fields cmd --svg"), "--svg draws one structure");
    let svg = run("fields ste --svg");
    assert!(text(&svg, 0).starts_with("<svg xmlns=") && stdout(&svg).ends_with("</svg>\n"));
}

#[test]
fn a_closed_pipe_is_no_error() {
    for line in
        ["fields --json", "fields ste --svg", "decode ste 1 0 0 0 0 0 0 0", "encode cr0 smmuen=1"]
    {
        let mut child = smmuv3()
            .args(line.split_whitespace())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(matches!(output.status.code(), Some(0)), "{line}: {}", stderr(&output));
        assert_eq!(stderr(&output), "");
    }
}

/// The examples of `--help`, run in a folder that has what they read.
#[test]
fn examples_are_true() {
    let folder = tempfile::tempdir().unwrap();
    for (command, least) in [("encode", 5), ("fields", 5)] {
        let help = run(&format!("{command} --help"));
        let (_, examples) = text(&help, 0).split_once("Examples:\n").unwrap();
        let (examples, status) = examples.split_once("\n\n").unwrap();
        assert!(status.starts_with("Exit status"), "{status}");
        let mut count = 0;
        for line in examples.lines() {
            // What follows two spaces is said about it; so is `> FILE`.
            let line = line.trim();
            let line = line.split("  ").next().unwrap();
            let (line, further) =
                line.split_once(" | ").map_or((line, None), |(a, b)| (a, Some(b)));
            let line = line.split(" > ").next().unwrap();
            let words: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(words[0], "smmuv3", "{line}");
            let output = smmuv3().args(&words[1..]).current_dir(folder.path()).output().unwrap();
            // One of them shows what is illegal on a certain instance.
            let status = i32::from(line.contains("--idr") || line.contains("opcode=0x46"));
            let code = output.status.code().unwrap();
            assert!(code == 0 || code == status, "{line}: {}", stderr(&output));
            assert!(!stdout(&output).is_empty());
            if let Some(further) = further {
                let further = further.strip_prefix("smmuv3 ").unwrap();
                // An event is a problem.
                text(&fed(further, stdout(&output)), i32::from(further.contains("event")));
            }
            count += 1;
        }
        assert!(count >= least, "{command}: {count}");
    }
    let decode = run("decode --help");
    let examples = text(&decode, 0);
    let widest = examples.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(100), "{examples}");
    assert!(examples.contains("  smmuv3 decode ste 0x8002000b 0xd4 0 0 0 0 0 0 --idr qemu\n"));
    text(&run("decode ste 0x8002000b 0xd4 0 0 0 0 0 0 --idr qemu"), 0);
    text(&run("decode pte 0x60000090000f43 --stage 1 --level 3 --granule 4k"), 0);
    let xxd = "00000000: 1000 0000 0079 0000 8000 0000 0802 0000  .....y..........\n\
               00000010: 40e0 ffff 0000 0000 0000 0000 0000 0000  @...............\n";
    assert!(text(&fed("decode event -", xxd), 1).starts_with("F_TRANSLATION"));
}

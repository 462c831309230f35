// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the reference has worked out by hand: Appendix A, the bytes of §4.1, examples of §10.2, log samples.

use serde_json::{Value, json};
use smmuv3_decode::structure::{
    DecodeError, Decoded, Instance, Kind, Options, Place, decode, read,
};
use smmuv3_formats::descriptor::Stage;
use smmuv3_formats::granule::Granule;

#[track_caller]
fn decoded(kind: &str, text: &str) -> Decoded {
    with(kind, text, &Options::default())
}

#[track_caller]
fn with(kind: &str, text: &str, options: &Options) -> Decoded {
    read(Kind::find(kind).unwrap(), text, options).unwrap()
}

fn on(instance: &str) -> Options {
    Options { instance: Instance::parse(instance).unwrap(), ..Options::default() }
}

/// The value and the meaning of a field.
#[track_caller]
fn field<'a>(decoded: &'a Decoded, name: &str) -> (u64, &'a str) {
    let named = |field: &&smmuv3_decode::structure::Described| field.name == name;
    let field = decoded.described.iter().find(named).unwrap_or_else(|| panic!("no {name}"));
    (field.value.number(), field.meaning.as_deref().unwrap_or(""))
}

#[test]
fn a_stage_1_entry_and_its_context() {
    let ste = decoded("ste", "0x000000008002000B 0x00000000000000D4 0 0 0 0 0 0");
    assert_eq!((ste.name.as_str(), ste.section.as_str(), ste.kind.as_str()), ("STE", "5.2", "ste"));
    assert_eq!(field(&ste, "Config"), (5, "stage 1 translates"));
    assert_eq!(field(&ste, "S1ContextPtr").0, 0x8002_0000);
    assert_eq!((field(&ste, "S1CIR").0, field(&ste, "S1COR").0, field(&ste, "S1CSH").0), (1, 1, 3));
    assert!(ste.is_fine() && ste.illegal.is_none(), "{ste:?}");
    let cd = "0x0005E204C0003510 0x80010000 0 0x000000000004FF44 0 0 0 0";
    // MAIR as the reference has it: attribute 0 is 0xff, 1 is 0x44, 2 is 0x04.
    let cd = cd.replace("4FF44", "444FF");
    let cd = decoded("cd", &cd);
    assert_eq!(field(&cd, "T0SZ"), (16, "48 bits"));
    assert_eq!(field(&cd, "IPS"), (4, "44 bits"));
    assert_eq!((field(&cd, "ASID").0, field(&cd, "TTB0").0), (5, 0x8001_0000));
    assert_eq!(
        (field(&cd, "V").0, field(&cd, "A").0, field(&cd, "R").0, field(&cd, "S").0),
        (1, 1, 1, 0)
    );
    assert_eq!(field(&cd, "MAIR").0, 0x0004_44ff);
    assert!(cd.is_fine());
}

#[test]
fn what_is_illegal_is_named_by_the_first_rule() {
    let illegal = |kind: &str, text: &str, options: &Options| {
        let decoded = with(kind, text, options);
        decoded.illegal.map(|rule| (rule.section, rule.field))
    };
    let rule = |section: &str, field: &str| Some((section.to_owned(), field.to_owned()));
    // Appendix A1: V cleared; an ASID of 9 bits where there are 8.
    let cd = |w0: u64| format!("{w0:#x} 0x80010000 0 0x444ff 0 0 0 0");
    assert_eq!(illegal("cd", &cd(0x0005_e204_4000_3510), &on("qemu")), rule("7.2(1)", "V"));
    let wide = cd(0x0105_e204_c000_3510);
    assert_eq!(illegal("cd", &wide, &on("fvp")), rule("7.2(8)", "ASID"));
    assert_eq!(illegal("cd", &wide, &on("qemu")), None);
    // Its STE forbids stalls, and the CD asks for them.
    let stalls = cd(0x0005_f204_c000_3510);
    let ste = [0x8002_000b, 0xd4 | 1 << 27, 0, 0, 0, 0, 0, 0];
    let reached = Options { ste: Some(ste), ..Options::default() };
    assert_eq!(illegal("cd", &stalls, &reached), rule("7.2(2)", "S"));
    assert_eq!(illegal("cd", &stalls, &Options::default()), None);
    // Appendix A2: two concatenated level-1 tables; S2SL0 = 1 with T0SZ = 20 asks for too many.
    let ste = |w2: u64| format!("0xD 0x0000100000000000 {w2:#x} 0x80040000 0 0 0 0");
    assert_eq!(illegal("ste", &ste(0x040c_3558_0000_0007), &on("qemu")), None);
    let wrong = ste(0x040c_3554_0000_0007);
    assert_eq!(illegal("ste", &wrong, &on("qemu")), rule("7.1(7h)", "S2SL0"));
    assert_eq!(
        illegal("ste", &ste(0x040c_3558_0000_0007), &on("qemu-7.2")),
        rule("7.1(3)", "Config")
    );
    assert_eq!(illegal("ste", "0x8 0 0 0 0 0 0 0", &on("qemu")), rule("7.1(1)", "V"));
    // §4.1: an ATC invalidation where there is no ATS; a reserved opcode anywhere.
    let atc = "0000010000000040 0000000000000034";
    assert_eq!(illegal("cmd", atc, &on("qemu")), rule("4.1", "Opcode"));
    assert_eq!(illegal("cmd", atc, &Options::default()), None);
    assert_eq!(illegal("cmd", "0 0", &Options::default()), rule("4.1", "Opcode"));
}

#[test]
fn what_was_assumed_is_said() {
    let ste = with("ste", "1 0 0 0 0 0 0 0", &on("qemu"));
    assert_eq!(ste.assumed, ["judged for the instance qemu"]);
    let cd = decoded("cd", "0x80000000 0 0 0 0 0 0 0");
    assert_eq!(cd.assumed.len(), 2);
    assert!(cd.assumed[0].contains("every feature") && cd.assumed[1].contains("--ste"), "{cd:?}");
    let halves = decoded("cmd", "0x100 0x3 0x0 0x1");
    assert!(halves.assumed.iter().any(|text| text.contains("--order high-first")), "{halves:?}");
}

#[test]
fn commands_of_the_reference() {
    let name = |text: &str| decoded("cmd", text).name;
    let ste = decoded("cmd", "0000010000000003 0000000000000001");
    assert_eq!(
        (ste.name.as_str(), field(&ste, "SID").0, field(&ste, "Leaf").0),
        ("CMD_CFGI_STE", 0x100, 1)
    );
    assert_eq!(name("0000000000000004 000000000000001f"), "CMD_CFGI_ALL");
    let asid = decoded("cmd", "0005000000000011 0");
    assert_eq!(
        (asid.name.as_str(), field(&asid, "ASID").0, field(&asid, "VMID").0),
        ("CMD_TLBI_NH_ASID", 5, 0)
    );
    let sync = decoded("cmd", "000000000fc01046 0000000080001000");
    let fields = ["CS", "MSH", "MSIAttr", "MSIData", "MSIAddr"].map(|name| field(&sync, name).0);
    assert_eq!((sync.name.as_str(), fields), ("CMD_SYNC", [1, 3, 0xf, 0, 0x8000_1000]));
    let resume = decoded("cmd", "0000000800001044 0000000000000003");
    let fields = ["SID", "STAG", "Ac", "Ab"].map(|name| field(&resume, name).0);
    assert_eq!((resume.name.as_str(), fields), ("CMD_RESUME", [8, 3, 1, 0]));
    let abort = decoded("cmd", "0000000800002044 0000000000000003");
    assert_eq!((field(&abort, "Ac").0, field(&abort, "Ab").0), (0, 1));
    let answer = decoded("cmd", "0000010000001841 0000000000002005");
    let fields = ["SID", "SSV", "SSID", "PRGIndex"].map(|name| field(&answer, name).0);
    assert_eq!((answer.name.as_str(), fields), ("CMD_PRI_RESP", [0x100, 1, 1, 5]));
    assert_eq!(field(&answer, "Resp").0, 2);
    let range = decoded("cmd", "000500000060c012 0000000001005701");
    let fields = ["NUM", "SCALE", "ASID", "TTL", "TG", "Addr"].map(|name| field(&range, name).0);
    assert_eq!((range.name.as_str(), fields), ("CMD_TLBI_NH_VA", [12, 6, 5, 3, 1, 0x0100_5000]));
    // TG without a range is reserved (§4.2).
    let one = decoded("cmd", "0005000000000012 0000001234567401");
    assert_eq!(one.illegal.unwrap().field, "TG");
    let reserved = decoded("cmd", "0000010000000103 0000000000000001");
    assert_eq!(reserved.violations, ["bit 8 of word 0 is reserved and set"]);
    let own = decoded("cmd", "0x85 0");
    assert!(own.illegal.is_none() && own.name.starts_with("implementation defined"), "{own:?}");
}

#[test]
fn a_certain_command_is_no_other() {
    let error = read(Kind::find("cfgi_cd").unwrap(), "0x3 1", &Options::default()).unwrap_err();
    let expected =
        "these words are CMD_CFGI_STE, not CMD_CFGI_CD; ask for cmd to decode any of them";
    assert_eq!(error.to_string(), expected);
    assert_eq!(decoded("cmd_cfgi_ste", "0x3 1").name, "CMD_CFGI_STE");
    let error = decode(Kind::find("ste").unwrap(), &[1, 2], &Options::default()).unwrap_err();
    assert!(matches!(error, DecodeError::Count { need: 8, given: 2, .. }));
    let error = decode(Kind::find("cr0").unwrap(), &[1 << 32], &Options::default()).unwrap_err();
    assert_eq!(error.to_string(), "0x100000000 does not fit in the 32 bits of CR0");
}

#[test]
fn descriptors_where_they_stand() {
    let at = |text: &str, place: Place| with("pte", text, &Options { place, ..Options::default() });
    let leaf = at("0x0060_0000_9000_0F43", Place::default());
    assert_eq!(leaf.name, "S1 page descriptor");
    assert_eq!(leaf.summary.as_deref(), Some("a page of 4 KiB at 0x90000000; all may rw-"));
    let fields =
        ["AttrIndx", "AP", "SH", "AF", "nG", "PXN", "UXN"].map(|name| field(&leaf, name).0);
    assert_eq!((fields, field(&leaf, "OA").0), ([0, 1, 3, 1, 1, 1, 1], 0x9000_0000));
    assert!(leaf.assumed[0].ends_with("--stage, --level, --granule, --oas would tell"));
    let level = |level| Place { level: Some(level), ..Place::default() };
    let table = at("0x80011003", level(0));
    assert_eq!(table.summary.as_deref(), Some("the table of level 1 is at 0x80011000"));
    let block = at("0x0060_0000_8000_0F41", level(2));
    assert!(block.summary.unwrap().starts_with("a block of 2 MiB at 0x80000000"));
    let wrong = at("0x80011001", level(3));
    assert!(wrong.summary.unwrap().starts_with("reserved here"));
    assert_eq!(wrong.violations.len(), 1);
    let none = at("0x80011000", level(3));
    assert!(none.is_fine() && none.name == "invalid descriptor");
    // Appendix A1: bit 44 of the output address, where there are 44.
    let far = at("0x0060_1000_9000_0F43", Place { output_bits: Some(44), ..Place::default() });
    let rule = far.illegal.unwrap();
    assert_eq!((rule.field.as_str(), rule.section.as_str()), ("OA", "15.3"));
    assert!(rule.text.contains("F_ADDR_SIZE"));
    // The same bits in other forms: LPA2 has two address bits where SH was, 64 KiB four in 15:12.
    let lpa2 = at("0x0000_0000_9000_0743", Place { ds: true, ..Place::default() });
    assert!(lpa2.summary.unwrap().contains("at 0xc000090000000"));
    let granule = Some(Granule::K64);
    let wide = at("0x9000_3f43", Place { granule, output_bits: Some(52), ..Place::default() });
    assert!(wide.summary.unwrap().starts_with("a page of 64 KiB at 0x3000090000000"));
    let stage = Some(Stage::Two);
    let second = at("0x9000_07ff", Place { stage, ..Place::default() });
    assert_eq!(field(&second, "MemAttr"), (15, "Normal write-back"));
    assert!(second.summary.unwrap().ends_with("all may rwx"));
}

#[test]
fn registers_of_instances() {
    let fvp = decoded("idr", "0x080FE6BF 0x0E739D20");
    assert_eq!(
        (field(&fvp, "ASID16").0, field(&fvp, "VMID16").0, field(&fvp, "SIDSIZE").0),
        (0, 1, 32)
    );
    assert_eq!((field(&fvp, "SSIDSIZE").0, field(&fvp, "NS1ATS").0), (20, 0));
    let qemu = decoded("idr", "0d44101b 02730010 0 1414 0 74 0 1");
    assert_eq!(
        (field(&qemu, "SIDSIZE").0, field(&qemu, "EVENTQS").0, field(&qemu, "PRIQS").0),
        (16, 19, 0)
    );
    assert_eq!(field(&qemu, "OAS"), (4, "44 bits"));
    assert_eq!(field(&qemu, "ArchMinorRev"), (1, "SMMUv3.1"));
    assert!(qemu.is_fine(), "{:?}", qemu.violations);
    assert_eq!(qemu.described[0].structure, Some("IDR0"));
    let base = decoded("strtab_base", "0x4000000080040000");
    assert_eq!((field(&base, "ADDR").0, field(&base, "RA").0), (0x8004_0000, 1));
    let cfg = decoded("STRTAB_BASE_CFG", "0x10210");
    assert_eq!(["LOG2SIZE", "SPLIT", "FMT"].map(|name| field(&cfg, name).0), [16, 8, 1]);
    assert_eq!(decoded("cr0", "0x20").violations, ["bit 5 of word 0 is reserved and set"]);
}

#[test]
fn errors_are_active_while_two_registers_differ() {
    let none = decoded("gerror", "0x1 0x1");
    assert!(none.is_fine() && none.assumed.is_empty(), "{none:?}");
    assert_eq!(none.summary.as_deref(), Some("no error is active"));
    let two = decoded("gerror", "0x4 0x100");
    let names: Vec<&str> = two.problems.iter().map(|problem| problem.name.as_str()).collect();
    assert_eq!(names, ["EVENTQ_ABT_ERR", "SFM_ERR"]);
    assert_eq!(field(&two, "SFM_ERR"), (0, "active"));
    let alone = decoded("gerror", "0x1");
    assert!(alone.assumed[0].contains("GERRORN was taken to be 0") && !alone.is_fine());
    let error = read(Kind::Gerror, "1 2 3", &Options::default()).unwrap_err();
    assert!(error.to_string().starts_with("3 words are given; give GERROR"));
}

#[test]
fn command_errors_say_what_to_do() {
    // Log sample S18.
    let atc = decoded("cmdq-cons", "0x03000003");
    assert_eq!((field(&atc, "ERR"), field(&atc, "RD").0), ((3, "CERROR_ATC_INV_SYNC"), 3));
    assert!(atc.problems[0].advice.contains("CMD_ATC_INV since the last CMD_SYNC"));
    let illegal = decoded("cmdq-cons", "0x01000146");
    assert_eq!(illegal.problems[0].name, "CERROR_ILL");
    assert!(illegal.problems[0].text.contains("index 0x146"));
    assert_eq!(decoded("cmdq-cons", "0x02000000").problems[0].name, "CERROR_ABT");
    assert!(decoded("cmdq-cons", "0x146").is_fine());
    assert_eq!(decoded("cmdq-cons", "0x7f000000").problems[0].name, "reserved");
}

#[test]
fn json_has_names_in_lower_case_and_addresses_in_hexadecimal() {
    let value = serde_json::to_value(decoded("l1std", "0x80030009")).unwrap();
    let fields = json!({"span": 9, "l2ptr": "0x80030000"});
    assert_eq!((&value["kind"], &value["fields"]), (&json!("l1std"), &fields));
    assert_eq!((&value["name"], &value["section"]), (&json!("L1STD"), &json!("5.1")));
    assert_eq!(
        (&value["words"], &value["violations"]),
        (&json!(["0x0000000080030009"]), &json!([]))
    );
    assert_eq!(value["illegal"], Value::Null);
    let span = &value["described"][0];
    assert_eq!(
        (&span["name"], &span["word"], &span["hi"], &span["lo"], &span["value"]),
        (&json!("Span"), &json!(0), &json!(4), &json!(0), &json!(9))
    );
    assert!(span["meaning"].as_str().unwrap().contains("256"), "{span}");
    let value = serde_json::to_value(decoded("cmd", "0000010000001841 0000000000002005")).unwrap();
    let fields = json!({"opcode": "0x41", "ssv": true, "ssid": "0x1", "sid": "0x100", "prgindex": "0x5", "resp": 2});
    assert_eq!(value["fields"], fields);
    let value = serde_json::to_value(decoded("ste", "0 0 0 0 0 0 0 0")).unwrap();
    let rule = json!({"section": "7.1(1)", "field": "V", "text": "must be 1"});
    assert_eq!(value["illegal"], rule);
}

#[test]
fn what_an_entry_does_in_one_sentence() {
    let said = |kind: &str, text: &str| decoded(kind, text).summary.unwrap();
    assert_eq!(
        said("ste", "0x8002000B 0xD4 0 0 0 0 0 0"),
        "stage 1 translates: one context at 0x80020000"
    );
    assert_eq!(
        said("ste", "0xD 0x100000000000 0x040C355800000007 0x80040000 0 0 0 0"),
        "stage 2 translates: tables at 0x80040000 for 40-bit addresses, 4 KiB, VMID 0x7"
    );
    assert!(
        said("ste", "0x8002000F 0xD4 0x040C355800000007 0x80040000 0 0 0 0")
            .contains("then stage 2")
    );
    assert_eq!(said("ste", "1 0 0 0 0 0 0 0"), "every transaction is aborted, without an event");
    assert_eq!(said("ste", "9 0x100000000000 0 0 0 0 0 0"), "transactions pass untranslated");
    assert_eq!(said("ste", "0 0 0 0 0 0 0 0"), "invalid: every transaction gives C_BAD_STE");
    assert_eq!(
        said("cd", "0x0005E204C0003510 0x80010000 0 0x444FF 0 0 0 0"),
        "ASID 0x5: TTB0 at 0x80010000 for 48-bit addresses, 4 KiB, 44-bit output"
    );
    assert_eq!(said("l1std", "0x80030009"), "2^8 STEs at 0x80030000");
    assert_eq!(said("l1cd", "0x80030001"), "contexts at 0x80030000");
    assert_eq!(
        said("pri", "0xF000000100000100 0x1005"),
        "stream 0x100 substream 0x1 wants to read and write 0x1000: the last of group 0x5, which is to be answered"
    );
    assert!(said("pri", "0xC000000100000100 0").contains("no answer is due"));
}

/// §2.3: registers with their names are those, wherever they stand and whatever is left out.
#[test]
fn named_registers_are_what_their_names_say() {
    let one_line = decoded("idr", "IDR0: 0x080fe6bf IDR1: 0x0e739d20");
    assert_eq!(one_line.words, [0x080f_e6bf, 0x0e73_9d20]);
    assert_eq!((field(&one_line, "SIDSIZE").0, field(&one_line, "SSIDSIZE").0), (32, 20));
    // With gaps, and not in order.
    let gaps = decoded("idr", "AIDR: 0x1\nIDR5: 0x74\nidr0=0x0d44101b\n");
    assert_eq!(gaps.words, [0x0d44_101b, 0x74, 1]);
    assert_eq!(field(&gaps, "OAS"), (4, "44 bits"));
    let places: Vec<_> = gaps.described.iter().map(|it| (it.structure, it.word)).collect();
    assert!(places.contains(&(Some("IDR5"), 1)) && places.contains(&(Some("AIDR"), 2)));
    assert!(!places.iter().any(|(register, _)| *register == Some("IDR1")));
    let last = decoded("idr", "IDR0=0x0d44101b IDR6=0x01020000");
    assert_eq!(field(&last, "CMDQ_CONTROL_PAGE_LOG2NUMQ"), (2, "4 queues"));
    assert_eq!(decoded("idr", "qemu").words, [0x0d44_101b, 0x0273_0010, 0, 0x1414, 0, 0x74, 1]);
    let wrong = |text: &str| {
        let kind = Kind::find("idr").unwrap();
        read(kind, text, &Options::default()).unwrap_err().to_string()
    };
    assert!(wrong("IDR9: 0x1").starts_with("\"IDR9\" is no ID register; give"));
    assert!(wrong("IDR0: zz").starts_with("\"zz\" is no value of IDR0; give"));

    let gerror = decoded("gerror", "GERRORN: 0x0 GERROR: 0x1");
    assert_eq!(gerror.words, [1, 0]);
    assert_eq!(gerror.problems.len(), 1);
}

/// Names of words that stand in one line with them count up; all others would be read in a wrong order.
#[test]
fn names_between_words_are_no_words() {
    let event = decoded("event", "w0: 0x0000020000000010 w1: 0x20800000000 w2: 0xdead000 w3: 0x0");
    assert_eq!((event.name.as_str(), event.words[2]), ("F_TRANSLATION", 0x0dea_d000));
    let ste = "STE[0]=0x9, STE[1]=0x100000000000, STE[2]=0x0, STE[3]=0x0, STE[4]=0x0, STE[5]=0x0, STE[6]=0x0, \
               STE[7]=0x0";
    assert_eq!(field(&decoded("ste", ste), "Config").0, 4);
    let kind = Kind::find("cmd").unwrap();
    let said = read(kind, "w1: 0x1 w0: 0x3", &Options::default()).unwrap_err().to_string();
    assert!(said.starts_with("\"w0\" names a number between others; give the numbers"), "{said}");
}

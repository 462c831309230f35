// SPDX-License-Identifier: MIT OR Apache-2.0
//! `smmuv3 tlbi`: vectors of appendix A.4, and of the invalidation array that Linux has.

use serde_json::Value;

use crate::common::{assert_expected, assert_refused, fed, json, run, said};

/// The plan of one range.
fn plan(arguments: &str) -> Value {
    let mut words = vec!["tlbi", "--json"];
    words.extend(arguments.split_whitespace());
    json(&run(&words), 0)["ranges"][0].take()
}

/// Words of the commands of a way.
fn words(way: &Value) -> Vec<(String, String)> {
    let commands = way["commands"].as_array().unwrap();
    let word = |command: &Value, at: usize| command["words"][at].as_str().unwrap()[2..].to_owned();
    commands.iter().map(|command| (word(command, 0), word(command, 1))).collect()
}

/// NUM, SCALE and TTL of each command with ranges.
fn shapes(arguments: &str) -> Vec<(u64, u64, u64)> {
    let plan = plan(arguments);
    let commands = plan["with_ril"]["commands"].as_array().unwrap();
    let operand = |command: &Value, name: &str| command["operands"][name].as_u64().unwrap();
    let shape = |it: &Value| (operand(it, "num"), operand(it, "scale"), operand(it, "ttl"));
    commands.iter().map(shape).collect()
}

fn notes(plan: &Value) -> Vec<&str> {
    plan["notes"].as_array().unwrap().iter().map(|note| note["id"].as_str().unwrap()).collect()
}

#[test]
fn ranges_are_encoded_as_in_appendix_a4() {
    let plan = plan("0x1000000+0x12345p --leaf --ttl 3 --asid 5");
    assert_eq!(
        words(&plan["with_ril"]),
        [
            ("0005000000004012", "0000000001000701"),
            ("000500000060c012", "0000000001005701"),
            ("0005000000d08012", "0000000001345701"),
        ]
        .map(|(first, second)| (first.to_owned(), second.to_owned()))
    );
    let one = self::plan("0x1234567000 --leaf --ttl 3 --asid 5");
    let expected = ("0005000000000012".to_owned(), "0000001234567701".to_owned());
    assert_eq!(words(&one["with_ril"]), [expected]);
}

#[test]
fn range_vectors() {
    for (arguments, expected) in [
        ("0 --leaf --ttl 3", &[(0, 0, 3)][..]),
        // Reserved without TTL: one page more.
        ("0", &[(0, 1, 0)]),
        ("0+33p --leaf --ttl 3", &[(0, 0, 3), (0, 5, 3)]),
        ("0+33p", &[(16, 1, 0)]),
        ("0+2M --leaf --ttl 2", &[(0, 9, 2)]),
        ("0+1G --leaf --ttl 1", &[(0, 18, 1)]),
        ("0+63p --leaf --ttl 3", &[(30, 0, 3), (0, 5, 3)]),
        ("0+0x12345p --leaf --ttl 3", &[(4, 0, 3), (12, 6, 3), (8, 13, 3)]),
        ("0+17p --leaf --ttl 3 --tg 64k", &[(16, 0, 3)]),
        ("0+1000p --leaf --ttl 3 --tg 16k", &[(28, 3, 3), (2, 8, 3)]),
        // Larger than any SCALE without 52-bit addresses.
        ("0+0x1000000000p", &[(30, 31, 0), (0, 31, 0)]),
    ] {
        assert_eq!(shapes(arguments), expected, "{arguments}");
    }
}

#[test]
fn vectors_of_atc_spans() {
    for (arguments, first, size, words) in [
        ("0x8000+4p", "0x8000", 2, "0x0000000000008002"),
        ("0x7000+4p", "0x0", 4, "0x0000000000000004"),
        ("0x12345000", "0x12345000", 0, "0x0000000012345000"),
        ("0xfff000+0x2000", "0x0", 13, "0x000000000000000d"),
        ("0x12345000+0x10000", "0x12340000", 5, "0x0000000012340005"),
    ] {
        let atc = plan(&format!("{arguments} --sid 0x100"))["atc"].take();
        assert_eq!((&atc["first"], &atc["size"]), (&first.into(), &size.into()), "{arguments}");
        assert_eq!(atc["command"]["words"], serde_json::json!(["0x0000010000000040", words]));
    }
    let atc = plan("0x7000+4p --ssid 3")["atc"].take();
    assert_eq!(atc["command"]["words"][0], "0x0000000000003840");
    assert_eq!((&atc["last"], &atc["exact"]), (&"0xffff".into(), &3.into()));
}

#[test]
fn without_ranges_each_leaf_is_named_or_all_of_the_tag() {
    let few = plan("0x4000+2p --leaf --asid 5");
    let expected =
        [("0005000000000012", "0000000000004001"), ("0005000000000012", "0000000000005001")];
    let expected = expected.map(|(first, second)| (first.to_owned(), second.to_owned()));
    assert_eq!(words(&few["without_ril"]), expected);
    // Blocks of 2 MiB are hit by any address within.
    let blocks = plan("0x40000000+64M --leaf --ttl 2")["without_ril"].take();
    assert_eq!((&blocks["exact"], &blocks["falls_back"]), (&32.into(), &false.into()));
    let many = plan("0+65p --asid 5");
    assert_eq!(many["without_ril"]["exact"], 65);
    assert_eq!(words(&many["without_ril"]), [("0005000000000011".to_owned(), "0".repeat(16))]);
    assert_eq!(many["whole"]["name"], "CMD_TLBI_NH_ASID");
    assert!(notes(&many).contains(&"fall-back"));
}

#[test]
fn other_tags_have_other_commands() {
    for (arguments, by_address, whole, first) in [
        ("--asid 5 --vmid 7", "CMD_TLBI_NH_VA", "CMD_TLBI_NH_ASID", "0x0005000700100012"),
        ("--any-asid --vmid 7", "CMD_TLBI_NH_VAA", "CMD_TLBI_NH_ALL", "0x0000000700100013"),
        ("--stage 2 --vmid 7", "CMD_TLBI_S2_IPA", "CMD_TLBI_S12_VMALL", "0x000000070010002a"),
        ("--el2 --asid 5", "CMD_TLBI_EL2_VA", "CMD_TLBI_EL2_ASID", "0x0005000000100022"),
        ("--el2 --any-asid", "CMD_TLBI_EL2_VAA", "CMD_TLBI_EL2_ALL", "0x0000000000100023"),
    ] {
        let plan = plan(&format!("0x8000+2p {arguments}"));
        let command = &plan["with_ril"]["commands"][0];
        assert_eq!((&command["name"], &plan["whole"]["name"]), (&by_address.into(), &whole.into()));
        assert_eq!(command["words"], serde_json::json!([first, "0x0000000000008400"]));
    }
    let stage_2 = plan("0x8000+2p --stage 2");
    assert!(notes(&stage_2).contains(&"nested"));
}

#[test]
fn traps_are_told_where_they_are() {
    assert!(notes(&plan("0+33p")).contains(&"reserved-single"));
    assert!(!notes(&plan("0+32p")).contains(&"reserved-single"));
    assert!(notes(&plan("0+0x100000000p")).contains(&"scale"));
    assert!(!notes(&plan("0+0xffffffffp")).contains(&"scale"));
    assert!(notes(&plan("0 --asid 0x100")).contains(&"wide-asid"));
    assert!(notes(&plan("0+16 --leaf")).contains(&"rounded"));
    assert!(notes(&plan("0+64G --leaf --ttl 1 --tg 16k")).contains(&"ttl-16k"));
}

#[test]
fn what_is_printed() {
    let text = |words: &[&str]| said(&run(&[&["tlbi"], words].concat()), 0).to_owned();
    let many = ["0x1000000+0x12345p", "--leaf", "--ttl", "3", "--asid", "5"];
    assert_expected(&text(&many), "tlbi-range.txt");
    let several = ["0x40000000+33p", "0xfff000+8K", "--vmid", "7", "--stage", "2"];
    assert_expected(&text(&several), "tlbi-stage-2.txt");
    let all = text(&["0+33p", "--all"]);
    assert!(all.contains("\n  33  TLBI_NH_VA ") && !all.contains("more; --all"), "{all}");
}

#[test]
fn ranges_come_from_standard_input_as_well() {
    let plans = json(&fed(&["tlbi", "-", "--json"], b"0x1000..0x3000\n0x8000\n"), 0);
    let pages: Vec<_> = plans["ranges"].as_array().unwrap().iter().map(|p| &p["pages"]).collect();
    assert_eq!(pages, [2, 1]);
}

#[test]
fn what_makes_no_sense_is_refused_with_advice() {
    let refused = |arguments: &str, words: &[&str]| {
        let all: Vec<&str> = ["tlbi"].into_iter().chain(arguments.split_whitespace()).collect();
        assert_refused(&run(&all), words);
    };
    refused("0x2000-0x1000", &["nothing is in it", "0x1000..0x3000"]);
    refused("0x1000+2M --leaf --ttl 2", &["a leaf at level 2 has 2M bytes", "leave --ttl out"]);
    refused("0x1000 --ttl 3", &["--leaf"]);
    refused("0xfffffffff000..0xffff000000000000", &["both halves"]);
    refused("0x80000000000000", &["bits [63:52]"]);
    refused("0x100000000000000 --stage 2", &["at most 56 bits"]);
    refused("0 --stage 2 --asid 1", &["stage 2 has no ASIDs"]);
    refused("0 --asid 65536", &["an ASID or VMID is a number", "0xffff"]);
    refused("0 --ssid 0x100000", &["up to 0xfffff"]);
    refused("0 --tg 8k", &["possible values: 4k, 16k, 64k"]);
    refused("0 --asid -1", &["an ASID or VMID is a number"]);
}

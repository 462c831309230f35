// SPDX-License-Identifier: MIT OR Apache-2.0
//! From fields to words, and back again: every field of every structure.

use proptest::prelude::*;
use smmuv3_decode::structure::words::Order;
use smmuv3_decode::structure::{Encoded, Instance, Kind, Options, Place, decode, encode, read};
use smmuv3_formats::granule::Granule;
use smmuv3_formats::structure::{ALL, Structure};

fn encoded(kind: &str, fields: &[(&str, &str)]) -> Result<Encoded, String> {
    let fields: Vec<(String, String)> =
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let kind = Kind::find(kind).map_err(|error| error.to_string())?;
    encode(kind, &fields, &Options::default()).map_err(|error| error.to_string())
}

#[track_caller]
fn words(kind: &str, fields: &[(&str, &str)]) -> Vec<u64> {
    encoded(kind, fields).unwrap().words().to_vec()
}

#[test]
fn the_vectors_of_the_reference_are_made() {
    let leaf = words("cfgi_ste", &[("sid", "0x100"), ("leaf", "true")]);
    assert_eq!(leaf, [0x0000_0100_0000_0003, 1]);
    assert_eq!(words("cmd_cfgi_ste_range", &[("range", "31")]), [4, 0x1f]);
    let sync = [
        ("opcode", "0x46"),
        ("cs", "1"),
        ("msh", "3"),
        ("msiattr", "0xf"),
        ("msiaddr", "0x80001000"),
    ];
    assert_eq!(words("cmd", &sync), [0x0fc0_1046, 0x8000_1000]);
    let named = [
        ("opcode", "cmd_sync"),
        ("cs", "1"),
        ("MSH", "0b11"),
        ("MSIAttr", "15"),
        ("msi_addr", "0x8000_1000"),
    ];
    assert_eq!(words("cmd", &named), words("cmd", &sync));
    let ste = [
        ("v", "1"),
        ("config", "s1"),
        ("s1contextptr", "0x80020000"),
        ("s1cir", "1"),
        ("s1cor", "1"),
        ("s1csh", "3"),
    ];
    assert_eq!(words("ste", &ste), [0x8002_000b, 0xd4, 0, 0, 0, 0, 0, 0]);
    let cd = [
        ("t0sz", "16"),
        ("ir0", "1"),
        ("or0", "1"),
        ("sh0", "inner"),
        ("epd1", "1"),
        ("v", "yes"),
        ("ips", "44 bits"),
        ("aa64", "1"),
        ("r", "1"),
        ("a", "1"),
        ("aset", "1"),
        ("asid", "5"),
        ("ttb0", "0x80010000"),
        ("mair", "0x444ff"),
        ("tg0", "4k"),
    ];
    assert_eq!(words("cd", &cd), [0x0005_e204_c000_3510, 0x8001_0000, 0, 0x444ff, 0, 0, 0, 0]);
    let stage_2 = [
        ("v", "1"),
        ("config", "stage-2"),
        ("shcfg", "1"),
        ("s2vmid", "7"),
        ("s2t0sz", "24"),
        ("s2sl0", "1"),
        ("s2ir0", "1"),
        ("s2or0", "1"),
        ("s2sh0", "3"),
        ("s2ps", "4"),
        ("s2aa64", "1"),
        ("s2r", "1"),
        ("s2ttb", "0x80040000"),
    ];
    let expected = [0xd, 0x0000_1000_0000_0000, 0x040c_3558_0000_0007, 0x8004_0000, 0, 0, 0, 0];
    assert_eq!(words("ste", &stage_2), expected);
    let event = [
        ("id", "0x10"),
        ("sid", "0x7900"),
        ("rnw", "1"),
        ("class", "2"),
        ("addr", "0xffffe040"),
        ("stag", "0x80"),
    ];
    assert_eq!(words("event", &event), [0x7900_0000_0010, 0x0000_0208_0000_0080, 0xffff_e040, 0]);
    let bytes = encoded("cr0", &[("smmuen", "1"), ("cmdqen", "1")]).unwrap();
    assert_eq!((bytes.words(), bytes.bytes.as_str()), (&[9][..], "09000000"));
}

#[test]
fn what_is_illegal_is_made_and_said() {
    let two = encoded("ste", &[("v", "1"), ("config", "s1"), ("strw", "1")]).unwrap();
    assert_eq!(two.decoded.illegal.unwrap().field, "STRW");
    let options = Options { instance: Instance::parse("qemu").unwrap(), ..Options::default() };
    let fields = [
        ("v".to_owned(), "1".to_owned()),
        ("config".to_owned(), "s1".to_owned()),
        ("s1stalld".to_owned(), "1".to_owned()),
    ];
    let strict = encode(Kind::find("ste").unwrap(), &fields, &options).unwrap();
    assert_eq!(strict.decoded.illegal.unwrap().section, "7.1(6a)");
}

#[test]
fn what_does_not_fit_is_refused() {
    let refused = |kind: &str, fields: &[(&str, &str)]| encoded(kind, fields).unwrap_err();
    assert_eq!(
        refused("ste", &[("config", "8")]),
        "0x8 does not fit in Config[3:1]: it has 3 bits, at most 7 (0x7)"
    );
    assert_eq!(
        refused("ste", &[("s1contextptr", "0x80020001")]),
        "0x80020001 does not fit in S1ContextPtr[55:6]: it is an address below 0x100000000000000, aligned to 0x40 bytes"
    );
    assert!(refused("cmd_tlbi_nh_va", &[("addr", "0x1001")]).ends_with("aligned to 0x1000 bytes"));
    assert!(
        refused("ste", &[("s1contxtptr", "0")])
            .starts_with("STE has no field \"s1contxtptr\", did you mean S1ContextPtr?")
    );
    assert_eq!(refused("ste", &[("v", "1"), ("V", "1")]), "V is given twice; give it once");
    let fast = refused("ste", &[("config", "fast")]);
    assert!(fast.contains("or the beginning of a name: "), "{fast}");
    assert!(
        fast.ends_with("; or in short abort, bypass, s1, stage1, s2, stage2, s1s2, nested"),
        "{fast}"
    );
    assert!(
        refused("ste", &[("v", "-1")])
            .starts_with("\"-1\" is no value of V; give a number such as 5")
    );
    assert!(refused("cfgi_ste", &[("opcode", "4")]).starts_with("Opcode of CMD_CFGI_STE is 0x03"));
    assert!(refused("cmd", &[("sid", "4")]).contains("smmuv3 encode cmd opcode=0x03"));
    assert!(refused("event", &[("id", "0x17f")]).contains("does not fit in EventID[7:0]"));
    assert!(refused("event", &[("sid", "1")]).contains("name the event"));
    assert!(refused("idr", &[("asid61", "1")]).contains("did you mean ASID16?"));
    assert!(refused("features", &[("atss", "1")]).contains("did you mean ATS?"));
    assert_eq!(
        refused("stee", &[]),
        "there is no structure \"stee\", did you mean ste?; smmuv3 fields lists all"
    );
}

/// Values for all fields of a structure, each within its bits.
fn values(structure: &'static Structure) -> impl Strategy<Value = Vec<u64>> {
    let edges = prop_oneof![Just(0), Just(u64::MAX), any::<u64>()];
    proptest::collection::vec(edges, structure.fields.len()).prop_map(move |raw| {
        let fields = structure.fields.iter().zip(raw);
        fields
            .map(
                |(field, raw)| {
                    if field.address { raw & field.mask() } else { raw & field.mask() >> field.lo }
                },
            )
            .collect()
    })
}

/// Encodes `values` by the fields' names, and decodes them.
fn round_trip(
    structure: &'static Structure,
    values: &[u64],
    style: usize,
) -> Result<(), TestCaseError> {
    let code_field = |name: &str| matches!(name, "Opcode" | "EventID");
    let mut assignments = Vec::new();
    let mut expected = Vec::new();
    for (field, value) in structure.fields.iter().zip(values) {
        // The code says which structure it is.
        let any = structure.name == "event record";
        let value = match (code_field(field.name), structure.code) {
            (true, Some(code)) => u64::from(code),
            // One that the implementation defines: it has no layout of its own.
            (true, None) if any => 0xe5,
            _ => *value,
        };
        expected.push((field.name, value));
        if !code_field(field.name) || any {
            let text = match style {
                0 => format!("{value}"),
                1 => format!("{value:#x}"),
                _ => format!("{value:#b}"),
            };
            assignments.push((field.name.to_owned(), text));
        }
    }
    let kind =
        Kind::find(structure.name).map_err(|error| TestCaseError::fail(error.to_string()))?;
    let options = Options { order: Order::Memory, ..Options::default() };
    let made = encode(kind, &assignments, &options)
        .map_err(|error| TestCaseError::fail(error.to_string()))?;
    let again = |decoded: smmuv3_decode::structure::Decoded| {
        for (name, value) in &expected {
            let found = decoded.value(name).map(|value| value.number());
            prop_assert_eq!(found, Some(*value), "{} of {}", name, structure.name);
        }
        Ok(())
    };
    let words = made.words().to_vec();
    let fail =
        |error: smmuv3_decode::structure::DecodeError| TestCaseError::fail(error.to_string());
    again(decode(kind, &words, &options).map_err(fail)?)?;
    // And through each form that is printed.
    let wide = words.iter().map(|word| format!("{word:#x}")).collect::<Vec<_>>().join(" ");
    let spaced: Vec<&str> =
        made.bytes.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).unwrap()).collect();
    let mut forms = vec![wide];
    if structure.bits > 32 {
        let halves = words.iter().flat_map(|word| [word & 0xffff_ffff, word >> 32]);
        forms.push(halves.map(|half| format!("{half:08x}")).collect::<Vec<_>>().join("\n"));
        forms.push(spaced.join(" "));
    }
    for form in forms {
        let decoded = read(kind, &form, &options).map_err(fail)?;
        prop_assert_eq!(&decoded.words, &words, "{}", form);
        again(decoded)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// All structures in each case.
    #[test]
    fn decode_of_encode_is_the_same(values in ALL.iter().map(values).collect::<Vec<_>>(), style in 0usize..3) {
        for (structure, values) in ALL.iter().zip(&values) {
            round_trip(structure, values, style)?;
        }
    }
}

#[test]
fn each_field_alone_and_full() {
    for structure in ALL {
        for (at, field) in structure.fields.iter().enumerate() {
            let mut values = vec![0; structure.fields.len()];
            values[at] = if field.address { field.mask() } else { field.mask() >> field.lo };
            round_trip(structure, &values, 1).unwrap();
        }
    }
}

#[test]
fn descriptors_are_made_for_their_place() {
    let made = |place: Place, fields: &[(&str, &str)]| {
        let fields: Vec<(String, String)> =
            fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let options = Options { place, ..Options::default() };
        let made =
            encode(Kind::Descriptor, &fields, &options).map_err(|error| error.to_string())?;
        Ok::<_, String>((made.words()[0], made.decoded.name))
    };
    let leaf = [("attrindx", "0"), ("ap", "1"), ("sh", "3"), ("af", "1"), ("ng", "1")];
    let leaf = [&leaf[..], &[("pxn", "1"), ("uxn", "1"), ("oa", "0x90000000")]].concat();
    let expected = (0x0060_0000_9000_0f43, "S1 page descriptor".to_owned());
    assert_eq!(made(Place::default(), &leaf), Ok(expected));
    let level = Place { level: Some(2), ..Place::default() };
    assert_eq!(made(level, &[("type", "3"), ("nexttable", "0x80012000")]).unwrap().0, 0x8001_2003);
    assert!(made(level, &[("af", "1")]).unwrap_err().contains("type=1 for a block"));
    let wide = Place { granule: Some(Granule::K64), output_bits: Some(52), ..Place::default() };
    let (word, name) = made(wide, &[("oa_51_48", "3"), ("oa", "0x90000000")]).unwrap();
    assert_eq!((word, name.as_str()), (0x9000_3003, "S1 page descriptor (64K, 52-bit)"));
    let first = Place { level: Some(0), ..Place::default() };
    assert!(made(first, &[("type", "1")]).unwrap_err().contains("reserved where --level"));
}

#[test]
fn id_registers_and_features_come_back() {
    let qemu = words(
        "idr",
        &[
            ("s2p", "1"),
            ("s1p", "1"),
            ("ttf", "2"),
            ("cohacc", "1"),
            ("asid16", "1"),
            ("vmid16", "1"),
            ("ttendian", "2"),
            ("stall_model", "1"),
            ("term_model", "1"),
            ("st_level", "1"),
            ("sidsize", "16"),
            ("eventqs", "19"),
            ("cmdqs", "19"),
            ("had", "1"),
            ("xnx", "1"),
            ("ril", "1"),
            ("bbml", "2"),
            ("oas", "44 bits"),
            ("gran4k", "1"),
            ("gran16k", "1"),
            ("gran64k", "1"),
        ],
    );
    assert_eq!(qemu, [0x0d44_101b, 0x0273_0010, 0, 0x1414, 0, 0x74]);
    let version = words("idr", &[("archminorrev", "3")]);
    assert_eq!(version, [0, 0, 0, 0, 0, 0, 0, 3]);
    let fields = [
        ("2_lvl_strtab", "1"),
        ("tt_le", "yes"),
        ("ats", "1"),
        ("coherency", "1"),
        ("trans_s1", "1"),
        ("range-inv", "1"),
    ];
    assert_eq!(words("features", &fields), [0x8325]);
    let all: Vec<(String, String)> = id_fields();
    let made = encode(Kind::Idr, &all, &Options::default()).unwrap();
    let again = decode(Kind::Idr, made.words(), &Options::default()).unwrap();
    for (name, value) in &all {
        let found = again.value(name).map(|value| value.number().to_string());
        assert_eq!(found.as_ref(), Some(value), "{name}");
    }
}

/// Every field of the ID registers, each with all its bits set.
fn id_fields() -> Vec<(String, String)> {
    let names = ["IDR0", "IDR1", "IDR2", "IDR3", "IDR4", "IDR5", "IIDR", "AIDR"];
    let registers = names.iter().map(|name| ALL.iter().find(|one| one.name == *name).unwrap());
    let full = |field: &smmuv3_formats::Field| {
        (field.name.to_owned(), (field.mask() >> field.lo).to_string())
    };
    registers.flat_map(|register| register.fields.iter().map(full)).collect()
}

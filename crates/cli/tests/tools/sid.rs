// SPDX-License-Identifier: MIT OR Apache-2.0
//! `smmuv3 sid`.

use crate::common::{Sample, assert_refused, fed, json, run, said};
use crate::table;
use crate::tree::Tree;

#[test]
fn functions_and_streams_are_each_others_where_nothing_else_is_known() {
    let output = run(&["sid", "0000:01:00.0", "0x7d00", "66", "0x10100", "1:00:01.0", "--json"]);
    let answers = json(&output, 0);
    assert_eq!(answers["mapping"], "requester IDs");
    let all: Vec<(Option<&str>, &str)> = answers["ids"]
        .as_array()
        .unwrap()
        .iter()
        .map(|id| (id["device"].as_str(), id["streams"][0][0].as_str().unwrap()))
        .collect();
    assert_eq!(
        all,
        [
            (Some("0000:01:00.0"), "0x100"),
            (Some("0000:7d:00.0"), "0x7d00"),
            (Some("0000:00:08.2"), "0x42"),
            // Wider than a requester ID.
            (None, "0x10100"),
            (Some("0001:00:01.0"), "0x8"),
        ]
    );
    assert!(answers["ids"][0]["note"].is_null());
    assert!(answers["ids"][3]["note"].as_str().unwrap().contains("bits [31:16] are 0x1"));
    assert!(answers["ids"][4]["note"].as_str().unwrap().contains("segment 0x1"));
    let text = "  asked         device        StreamIDs\n  0000:01:00.0  0000:01:00.0  0x100\n";
    assert!(said(&run(&["sid", "0000:01:00.0"]), 0).starts_with(text));
}

#[test]
fn firmware_says_which_smmu_and_which_streams() {
    let sample = Sample::new("IORT", &table::golden());
    // Segment 1: IDs 0 to 0xff are streams from 0x100 on, those above go to the ITS at once.
    let asked = ["sid", "--iort", "IORT", "1:00:01.0", r"\_SB.DMA0", "0x77", "0x100", "--json"];
    let answers = json(&sample.run(&asked), 0);
    assert_eq!(answers["mapping"], "IORT");
    let ids = answers["ids"].as_array().unwrap();
    let of = |at: usize| {
        let id = &ids[at];
        (
            id["device"].as_str().unwrap(),
            id["smmu"]["index"].as_u64().unwrap(),
            id["streams"][0][0].as_str().unwrap(),
        )
    };
    assert_eq!(of(0), ("0001:00:01.0", 0, "0x108"));
    // The SMMU's own mapping of streams to DeviceIDs begins at 0x10000.
    assert_eq!(ids[0]["device_id"], "0x10108");
    assert_eq!(of(1), (r"\_SB.DMA0", 0, "0x77"));
    assert_eq!(of(2), (r"\_SB.DMA0", 0, "0x77"));
    // Two SMMUs have either.
    assert_eq!(of(3), ("0000:00:0e.7", 1, "0x77"));
    assert_eq!((of(4), of(5)), (("0001:00:00.0", 0, "0x100"), ("0000:01:00.0", 1, "0x100")));
    let text = sample.run(&["sid", "--iort", "IORT", "0x100"]);
    assert_eq!(
        said(&text, 0),
        "  asked  device        SMMU                   StreamIDs  DeviceID\n  \
         0x100  0001:00:00.0  SMMUv3 at offset 0x4c  0x100      0x10100\n  \
         0x100  0000:01:00.0  SMMUv3 at offset 0xcc  0x100      -\n"
    );
}

#[test]
fn what_firmware_does_not_know_is_a_problem() {
    let sample = Sample::new("IORT", &table::golden());
    let asked = [
        "sid",
        "--iort",
        "IORT",
        "1:01:00.0",
        "7:00:00.0",
        r"\_SB.X",
        r"\_SB.GPU0",
        "0xabcd00",
        "--json",
    ];
    let answers = json(&sample.run(&asked), 1);
    let why = |at: usize| answers["ids"][at]["error"].as_str().unwrap();
    assert!(why(0).contains("behind no SMMU"), "{}", why(0));
    assert!(why(1).contains("knows no such device; there are root complexes of segments 0x0, 0x1"));
    assert!(why(2).contains(r"names that it has: \_SB.DMA0"), "{}", why(2));
    assert!(why(3).contains("behind no SMMU that can be used"), "{}", why(3));
    assert!(why(4).contains("mentions no device with this StreamID"), "{}", why(4));
    let text = sample.run(&["sid", "--iort", "IORT", "0xabcd00"]);
    assert!(said(&text, 1).contains("0xabcd00: firmware mentions no device"));
}

#[test]
fn a_device_tree_is_asked_as_well() {
    let mut tree = Tree::new();
    tree.open("").cells("#address-cells", &[2]).cells("#size-cells", &[2]);
    tree.open("iommu@9050000").text("compatible", "arm,smmu-v3").cells("#iommu-cells", &[1]);
    tree.cells("reg", &[0, 0x905_0000, 0, 0x2_0000]).cells("phandle", &[1]).close();
    tree.open("dma@1000").cells("iommus", &[1, 0x300]).close();
    tree.open("pcie@4010000000")
        .text("device_type", "pci")
        .text("compatible", "pci-host-ecam-generic");
    tree.cells("reg", &[0x40, 0x1000_0000, 0, 0x1000_0000]).cells("bus-range", &[0, 255]);
    tree.cells("iommu-map", &[0, 1, 0x1_0000, 0x1_0000]).close().close();
    let sample = Sample::new("machine.dtb", &tree.blob());
    let asked =
        ["sid", "--dt", "machine.dtb", "01:00.0", "/dma@1000", "0x300", "0x10008", "--json"];
    let answers = json(&sample.run(&asked), 0);
    let all: Vec<_> = answers["ids"].as_array().unwrap().iter().collect();
    assert_eq!(all[0]["streams"], serde_json::json!([["0x10100", "0x10100"]]));
    assert_eq!(all[0]["smmu"]["name"], "iommu@9050000");
    assert_eq!(all[1]["streams"], serde_json::json!([["0x300", "0x300"]]));
    assert_eq!(
        (&all[2]["device"], &all[3]["device"]),
        (&"/dma@1000".into(), &"0000:00:01.0".into())
    );
}

#[test]
fn names_come_from_standard_input_as_well() {
    let answers = json(&fed(&["sid", "-", "--json"], b"01:00.0\n0x200\n\n"), 0);
    assert_eq!(answers["ids"].as_array().unwrap().len(), 2);
    assert_refused(&fed(&["sid", "-"], b"\n"), &["standard input can't be read: it is empty"]);
    let twice = run(&["sid", "--iort", "-", "-"]);
    assert_refused(&twice, &["standard input can't be both the names and the table"]);
}

#[test]
fn filters_of_counters() {
    let output = run(&["sid", "--span", "0x42", "0x41-0x44", "01:00.0+256", "--json"]);
    let spans = json(&output, 0);
    let filter = |span: usize, at: usize| {
        let filter = &spans["spans"][span]["filters"][at];
        let text = |name: &str| filter[name].as_str().unwrap().to_owned();
        (text("filter_stream_id"), filter["filter_span"] == true, text("first"), text("last"))
    };
    let of = |id: &str, span, first: &str, last: &str| (id.into(), span, first.into(), last.into());
    assert_eq!(filter(0, 0), of("0x42", true, "0x42", "0x43"));
    assert_eq!(filter(1, 0), of("0x41", false, "0x41", "0x41"));
    assert_eq!(filter(1, 1), of("0x42", true, "0x42", "0x43"));
    assert_eq!(filter(1, 2), of("0x44", false, "0x44", "0x44"));
    assert_eq!(spans["spans"][1]["covering"]["filter_stream_id"], "0x43");
    assert_eq!(filter(2, 0), of("0x17f", true, "0x100", "0x1ff"));
    let text = run(&["sid", "--span", "0x40-0x4f"]);
    assert!(
        said(&text, 0)
            .contains("filter_enable=1,filter_span=1,filter_stream_id=0x47  16 StreamIDs")
    );
    let refused = run(&["sid", "--span", "0x4f-0x40"]);
    assert_refused(&refused, &["0x4f-0x40: the last StreamID is below the first"]);
}

#[test]
fn what_is_no_name_or_no_table_is_refused_with_advice() {
    assert_refused(&run(&["sid", "7d0f"]), &["write 0x7d0f if that is a StreamID"]);
    assert_refused(&run(&["sid", "01:20.0"]), &["a device is 00 to 1f", "such as 0000:01:00.0"]);
    assert_refused(
        &run(&["sid", r"\_SB.DMA0"]),
        &[r"only firmware knows \_SB.DMA0; add --iort or --dt"],
    );
    assert_refused(
        &run(&["sid", "--iort", "none", "1"]),
        &["there is no file none; give the path of an IORT"],
    );
    assert_refused(&run(&["sid"]), &["required", "Usage: smmuv3 sid"]);
    // Another kind of table goes to the other option.
    let dt = fed(&["sid", "--dt", "-", "1"], &table::golden());
    assert_refused(&dt, &["is an IORT; use --iort -"]);
    let iort = fed(&["sid", "--iort", "-", "1"], b"\xd0\x0d\xfe\xed");
    assert_refused(&iort, &["is a device tree blob; use --dt -"]);
    assert_refused(&run(&["sid", "--span", "--dt", "x", "1"]), &["cannot be used with"]);
}

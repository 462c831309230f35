// SPDX-License-Identifier: MIT OR Apache-2.0
//! `smmuv3 iort` and `smmuv3 dt`.

use serde_json::{Value, json};

use crate::common::{Sample, assert_expected, assert_refused, fed, json, run, said, stdout};
use crate::table::{self, summed};
use crate::tree::Tree;

/// A machine with an SMMU, its performance monitors, a PCI root, a device that may stall, and a frame buffer that is in use.
pub fn machine() -> Vec<u8> {
    let mut tree = Tree::new();
    tree.open("").cells("#address-cells", &[2]).cells("#size-cells", &[2]);
    tree.open("gic").text("compatible", "arm,gic-v3").cells("phandle", &[1]);
    tree.cells("#interrupt-cells", &[3]).close();
    tree.open("iommu@9050000").text("compatible", "arm,smmu-v3").cells("#iommu-cells", &[1]);
    tree.cells("reg", &[0, 0x905_0000, 0, 0x2_0000]).cells("phandle", &[2]);
    tree.bytes("interrupt-names", b"eventq\0gerror\0").cells("interrupt-parent", &[1]);
    tree.cells("interrupts", &[0, 74, 1, 0, 77, 1]).bytes("dma-coherent", &[]).close();
    tree.open("pmu@9052000").text("compatible", "arm,smmu-v3-pmcg");
    tree.cells("reg", &[0, 0x905_2000, 0, 0x1000]).cells("interrupt-parent", &[1]);
    tree.cells("interrupts", &[0, 80, 4]).close();
    tree.open("soc").cells("#address-cells", &[2]).cells("#size-cells", &[2]);
    tree.open("dma@12340000").cells("iommus", &[2, 0x10300, 2, 0x10301]);
    tree.bytes("dma-can-stall", &[]).cells("pasid-num-bits", &[16]).close();
    tree.open("display@2000").cells("iommus", &[2, 0x10400]).cells("memory-region", &[5]);
    tree.cells("phandle", &[4]).close().close();
    tree.open("pcie@40000000").text("device_type", "pci");
    tree.text("compatible", "pci-host-ecam-generic");
    tree.cells("reg", &[0x40, 0x1000_0000, 0, 0x1000_0000]).cells("bus-range", &[0, 255]);
    tree.cells("linux,pci-domain", &[0]).cells("iommu-map", &[0, 2, 0, 0x1_0000]).close();
    tree.open("reserved-memory").cells("#address-cells", &[2]).cells("#size-cells", &[2]);
    tree.bytes("ranges", &[]).open("splash@90000000");
    tree.cells("reg", &[0, 0x9000_0000, 0, 0x80_0000]).cells("phandle", &[5]);
    tree.cells("iommu-addresses", &[4, 0, 0x9000_0000, 0, 0x80_0000]).close().close();
    tree.close();
    tree.blob()
}

/// The golden IORT, whose first root complex claims a stream that DMA0 has, and whose RMR ends nowhere.
fn odd_iort() -> Vec<u8> {
    let mut table = table::golden();
    // Output of the first mapping of the root complex at 0x110: streams from 0 on.
    table[0x110 + 0x28 + 8..][..4].copy_from_slice(&[0, 0, 0, 0]);
    // The RMR's mapping refers to the middle of a node.
    table[0x1e4 + 0x1c + 12] = 0x50;
    summed(table)
}

fn findings(view: &Value) -> Vec<String> {
    let text = |finding: &Value| {
        let part = |name: &str| finding[name].as_str().unwrap().to_owned();
        format!("{}: {}: {}", part("severity"), part("place"), part("text"))
    };
    view["findings"].as_array().unwrap().iter().map(text).collect()
}

#[test]
fn an_iort_is_shown() {
    let sample = Sample::new("IORT", &table::golden());
    assert_expected(said(&sample.run(&["iort", "IORT"]), 0), "iort.txt");
    let view = json(&sample.run(&["iort", "IORT", "--json"]), 0);
    assert_eq!(view["about"], "IORT revision 6, 708 bytes, 11 nodes, by FIRMWA GOLDEN 0x2");
    let smmu = &view["smmus"][0];
    assert_eq!(smmu["registers"], json!({ "base": "0x2b400000", "bytes": "0x20000" }));
    assert_eq!(smmu["interrupts"]["event"], json!({ "intid": 106, "edge": true }));
    assert_eq!((&smmu["interrupts"]["pri"], &smmu["httu"]), (&Value::Null, &2.into()));
    assert_eq!(smmu["msi"]["device_id"], "0xabcd");
    assert_eq!(view["smmus"][1]["model"], "Cavium CN99xx: page 1 in page 0");
    let map = &view["roots"][0]["mappings"][0];
    assert_eq!(
        map,
        &json!({ "ids": ["0x0", "0xff"], "to": ["0x100", "0x1ff"], "smmu": 0, "target": "smmu" })
    );
    assert_eq!(view["devices"][0]["streams"][0]["to"], json!(["0x77", "0x77"]));
    assert_eq!(view["kept"][0]["regions"][1], json!({ "base": "0x90000000", "bytes": "0x20000" }));
    let monitor = &view["monitors"][0];
    assert_eq!(monitor["linux_name"], "smmuv3_pmcg_2b402");
    assert_eq!(monitor["registers"][1], json!({ "base": "0x2b412000", "bytes": "0x1000" }));
    assert_eq!((&monitor["smmu"], &monitor["interrupt"]["intid"]), (&json!(0), &json!(110)));
    assert_eq!(findings(&view).len(), 1);
}

#[test]
fn a_device_tree_is_shown() {
    let sample = Sample::new("machine.dtb", &machine());
    assert_expected(said(&sample.run(&["dt", "machine.dtb"]), 0), "dt.txt");
    let view = json(&sample.run(&["dt", "machine.dtb", "--json"]), 0);
    assert_eq!(view["smmus"][0]["interrupts"]["gerror"], json!({ "intid": 109, "edge": true }));
    let monitor = &view["monitors"][0];
    assert_eq!((&monitor["name"], &monitor["smmu"]), (&"/pmu@9052000".into(), &Value::Null));
    assert_eq!(monitor["interrupt"], json!({ "intid": 112, "edge": false }));
    let dma = &view["devices"][0];
    assert_eq!((&dma["can_stall"], &dma["pasid_bits"]), (&true.into(), &16.into()));
    let kept = &view["kept"][0];
    assert_eq!(kept["streams"][0]["to"], json!(["0x10400", "0x10400"]));
    assert_eq!(kept["regions"], json!([{ "base": "0x90000000", "bytes": "0x800000" }]));
}

#[test]
fn what_does_not_fit_together_is_a_problem() {
    let sample = Sample::new("IORT", &odd_iort());
    assert_expected(said(&sample.run(&["iort", "IORT"]), 1), "iort-odd.txt");
    let view = json(&sample.run(&["iort", "IORT", "--json"]), 1);
    let all = findings(&view);
    assert!(all.iter().any(|it| it.contains("stream 0x77 of SMMU 0 is also one of")));
    assert!(
        all.iter().any(|it| it.contains("it refers to 0x50, and there is nothing there")),
        "{all:?}"
    );
    // Two mappings of one host bridge have the same IDs; another bus has no SMMU.
    let mut tree = Tree::new();
    tree.open("").cells("#address-cells", &[2]).cells("#size-cells", &[2]);
    tree.open("iommu@9050000").text("compatible", "arm,smmu-v3").cells("#iommu-cells", &[1]);
    tree.cells("reg", &[0, 0x905_0000, 0, 0x2_0000]).cells("phandle", &[2]).close();
    for (name, map) in
        [("pcie@1000", &[0, 2, 0, 0x200, 0x100, 2, 0x800, 0x100][..]), ("pcie@2000", &[])]
    {
        tree.open(name).text("device_type", "pci").text("compatible", "pci-host-ecam-generic");
        tree.cells("iommu-map", map).close();
    }
    let odd = Sample::new("odd.dtb", &tree.close().blob());
    let all = findings(&json(&odd.run(&["dt", "odd.dtb", "--json"]), 1));
    let has = |words: &str| all.iter().any(|it| it.contains(words));
    assert!(has("error: /pcie@1000: several mappings have ids 0x100 to 0x1ff"), "{all:?}");
    assert!(has("note: /pcie@2000: none of its ids leads to an SMMU"), "{all:?}");
}

#[test]
fn one_device_is_told_of_alone() {
    let sample = Sample::new("IORT", &table::golden());
    let device = |name: &str, status| {
        let output = sample.run(&["iort", "IORT", "--json", "--device", name]);
        json(&output, status)
    };
    let dma = &device(r"\_SB.DMA0", 0)["devices"][0];
    assert_eq!((&dma["smmu"]["index"], &dma["streams"]), (&0.into(), &json!([["0x77", "0x77"]])));
    assert_eq!(dma["msi"]["device_id"], "0x10077");
    assert_eq!((&dma["address_bits"], &dma["coherent"]), (&32.into(), &false.into()));
    assert_eq!(dma["reserved"][0], json!({ "base": "0x80000000", "bytes": "0x10000" }));
    // A StreamID that two SMMUs know.
    assert_eq!(device("0x100", 0)["devices"].as_array().unwrap().len(), 2);
    // Straight to the ITS.
    let direct = device("1:01:00.0", 1);
    assert!(direct["devices"][0]["error"].as_str().unwrap().contains("behind no SMMU"));
    assert_eq!(direct["devices"][0]["msi"]["device_id"], "0x100");
    assert!(
        device("0xabcdef", 1)["error"].as_str().unwrap().contains("no device with this StreamID")
    );
    let text = sample.run(&["iort", "IORT", "--device", "1:00:01.0"]);
    let lines = "0001:00:01.0\n  SMMU       0, SMMUv3 at offset 0x4c\n  StreamIDs  0x108\n  \
                 messages   DeviceID 0x10108 to ITS 5\n  DMA        48-bit addresses, coherent with caches\n";
    assert_eq!(said(&text, 0), lines);
    let tree = Sample::new("machine.dtb", &machine());
    let text = tree.run(&["dt", "machine.dtb", "--device", "/soc/dma@12340000"]);
    assert!(said(&text, 0).contains("StreamIDs  0x10300-0x10301\n"));
}

#[test]
fn drawings_have_every_node() {
    let sample = Sample::new("IORT", &table::golden());
    let svg = sample.run(&["iort", "IORT", "--svg"]);
    let svg = said(&svg, 0);
    assert!(
        svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\"") && svg.ends_with("</svg>\n")
    );
    for name in [
        "SMMU 1: SMMUv3 at offset 0xcc",
        r"\_SB.DMA0",
        "PCI segment 0x1, buses 00-ff",
        "kept: RMR at offset 0x1e4",
        "streams 0x200-0x20f",
        "No SMMU that is driven here",
    ] {
        assert!(svg.contains(name), "no {name} in {svg}");
    }
    let odd = Sample::new("IORT", &odd_iort());
    assert!(said(&odd.run(&["iort", "IORT", "--svg"]), 1).contains("that do not fit"));
}

/// As `acpidump` prints it.
pub fn acpidump(table: &[u8]) -> String {
    let mut text =
        "DBG2 @ 0x0000000000000000\n    0000: 44 42 47 32\n\nIORT @ 0x0000000000000000\n"
            .to_owned();
    for (at, line) in table.chunks(16).enumerate() {
        let digits: String = line.iter().map(|byte| format!("{byte:02X} ")).collect();
        let letters: String = line
            .iter()
            .map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '.' })
            .collect();
        text += &format!("    {:04X}: {digits:<48} {letters}\n", 16 * at);
    }
    text + "\n"
}

#[test]
fn what_acpidump_prints_is_a_table_as_well() {
    let dump = acpidump(&table::golden());
    let whole = fed(&["iort", "-"], dump.as_bytes());
    let table = fed(&["iort", "-"], &table::golden());
    assert_eq!(said(&whole, 0), said(&table, 0));
    assert!(stdout(&whole).starts_with("standard input\n"));
    let other = dump.replace("IORT @", "XXXX @");
    assert_refused(
        &fed(&["iort", "-"], other.as_bytes()),
        &["without an IORT", "acpidump -n IORT"],
    );
}

#[test]
fn a_wrong_checksum_is_a_finding() {
    let mut table = table::golden();
    table[9] = table[9].wrapping_add(3);
    let view = json(&fed(&["iort", "-", "--json"], &table), 1);
    let expected =
        "error: table: its bytes add up to 0x03 instead of 0: it is damaged, or was edited";
    assert_eq!(findings(&view)[0], expected);
}

#[test]
fn what_is_something_else_is_refused_with_advice() {
    let iort = |bytes: &[u8], words: &[&str]| assert_refused(&fed(&["iort", "-"], bytes), words);
    let dt = |bytes: &[u8], words: &[&str]| assert_refused(&fed(&["dt", "-"], bytes), words);
    let source = b"/dts-v1/;\n/ {\n\tcompatible = \"x\";\n};\n";
    dt(source, &["is a device tree's source, not the blob", "dtc -O dtb -o machine.dtb"]);
    iort(source, &["is a device tree's source", "smmuv3 dt", "dtc -O dtb"]);
    iort(&machine(), &["is a device tree blob; use smmuv3 dt"]);
    dt(&table::golden(), &["is an IORT; use smmuv3 iort"]);
    dt(b"hello", &["is no device tree blob; give /sys/firmware/fdt"]);
    dt(acpidump(&table::golden()).as_bytes(), &["is an ACPI table's text; use smmuv3 iort"]);
    iort(
        b"[000h 0000   4]  Signature : \"IORT\"\n",
        &["a disassembled table", "what iasl makes of"],
    );
    iort(&[b"DSDT", &[0; 60][..]].concat(), &["is no IORT: it begins with DSDT"]);
    iort(b"\x00\x01\x02\x03\x04", &["is no ACPI table"]);
    iort(
        &table::golden()[..100],
        &["708 bytes, of which only 100 are there", "copy all of it again"],
    );
    dt(&machine()[..100], &["it may be cut off"]);
    assert_refused(&run(&["iort", "none"]), &["there is no file none; give the path of an IORT"]);
    assert_refused(&run(&["dt", "/"]), &["/ is a folder"]);
    assert_refused(&run(&["dt", "-", "--device", "01:40.0"]), &["a device is 00 to 1f"]);
    assert_refused(&run(&["iort", "-", "--svg", "--json"]), &["cannot be used with"]);
}

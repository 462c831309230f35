// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two SMMUs with substreams that differ in their ASIDs.

/// An SMMU with 8-bit ASIDs and one with 16 bits that listens to the CPUs, a master with PASIDs behind each, and two
/// domains: as the text of a scenario, with these keys at its top and these tables at its end.
pub fn pair(top: &str, rest: &str) -> String {
    format!("name = \"pair\"\n{top}\n{TABLES}\n{rest}\n")
}

const TABLES: &str = r#"
[[instance]]
name = "narrow"
asid-bits = 8
ssid-bits = 8
two-level-contexts = true
[[instance]]
name = "wide"
ssid-bits = 20
two-level-contexts = true
btm = true
[[master]]
name = "nic"
instance = "narrow"
streams = [5, 6]
pasid-bits = 8
[[master]]
name = "gpu"
instance = "wide"
streams = [9]
pasid-bits = 20
[[domain]]
name = "net"
[[domain]]
name = "video"
[[memory]]
name = "rx"
size = "64K"
"#;

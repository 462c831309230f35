// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any bytes as a device tree: it is read, or refused with an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smmuv3_discovery::Topology;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(topology) = Topology::from_device_tree(bytes) {
        topology.check().iter().for_each(|finding| drop(finding.to_string()));
    }
});

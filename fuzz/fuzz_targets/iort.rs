// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any bytes as an IORT: it is read, or refused with an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smmuv3_discovery::{Topology, iort::Iort};

fuzz_target!(|bytes: &[u8]| {
    // Nothing that is made up has the right checksum: without it, only the refusal would be tried.
    let _ = Iort::new(bytes);
    if let Ok(iort) = Iort::unsummed(bytes)
        && let Ok(topology) = Topology::from_iort(&iort)
    {
        topology.check().iter().for_each(|finding| drop(finding.to_string()));
    }
});

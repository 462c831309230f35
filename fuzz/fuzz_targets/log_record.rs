// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any words as what a kernel prints: the record can be printed, and has these words.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smmuv3_decode::log::{Decoder, Options, event, in_short, of_record, of_summary, read};

fuzz_target!(|words: [u64; 6]| {
    let [w0, w1, w2, w3, other, more] = words;
    let alone = event([w0, w1, w2, w3]);
    let (low, high, index) = (other as u32, (other >> 32) as u32, more as u32);
    let id = w0 & 0xff;
    let log = format!(
        "arm-smmu-v3 smmu0: ias {}-bit, oas {}-bit (features {low:#010x})\n\
         arm-smmu-v3 smmu0: event {id:#04x} received:\n\
         arm-smmu-v3 smmu0: \t{w0:#018x}\n\
         arm-smmu-v3 smmu0: \t{w1:#018x}\n\
         arm-smmu-v3 smmu0: \t{w2:#018x}\n\
         arm-smmu-v3 smmu0: \t{w3:#018x}\n\
         arm-smmu-v3 smmu0: unexpected global error reported ({high:#010x}), this could be serious\n\
         arm-smmu-v3 smmu0: CMDQ error (cons {index:#010x}): Illegal command\n\
         arm-smmu-v3 smmu0: skipping command in error state:\n\
         arm-smmu-v3 smmu0: \t{other:#018x}\n\
         arm-smmu-v3 smmu0: \t{more:#018x}\n\
         arm-smmu-v3 smmu0: CMD_SYNC timeout at {low:#010x} [hwprod {high:#010x}, hwcons {index:#010x}]\n\
         arm-smmu-v3 smmu0: unexpected PRI request received:\n\
         arm-smmu-v3 smmu0: \tsid {low:#010x}.{index:#07x}: [{}] read access at iova {other:#018x}\n",
        low & 0xff,
        high & 0xff,
        high & 0x1ff,
    );
    let mut records = Vec::new();
    let mut out = |record| records.push(record);
    let mut decoder = Decoder::new(Options::default());
    read(log.as_bytes(), &mut decoder, &mut out).expect("reading from memory does not fail");
    let summary = decoder.finish(&mut out);
    let in_log = records.iter().find(|record| record.line == 2).expect("the event");
    assert_eq!(in_log.name, alone.name);
    for record in records.iter().chain([&alone]) {
        assert!(!of_record(record).is_empty() && !in_short(record).is_empty());
        let json = serde_json::to_string(record).expect("JSON");
        let json: serde_json::Value =
            serde_json::from_str(&json).expect("what was written is JSON");
        assert!(json["kind"].is_string());
    }
    assert!(!of_summary(&summary).is_empty());
});

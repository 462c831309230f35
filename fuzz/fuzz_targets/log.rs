// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any bytes as a log: it is read, and where it is cut into pieces makes no difference.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smmuv3_decode::log::{Blocks, Decoder, Options, Record, of_record, of_summary, read};

fuzz_target!(|log: &[u8]| {
    let whole = told(|decoder, out| drop(read(log, decoder, out)));
    // The length of a log chooses that of its pieces, so that logs need nothing around them.
    let piece = 1 + log.len() % 97;
    let pieces = told(|decoder, out| {
        let mut blocks = Blocks::default();
        for piece in log.chunks(piece) {
            blocks.add(piece, decoder, out);
        }
        blocks.end(decoder, out);
    });
    assert_eq!(whole, pieces, "in pieces of {piece}");
});

/// The records and the summary, each in JSON; that they can be told in words is tried too.
fn told(read: impl FnOnce(&mut Decoder, &mut dyn FnMut(Record))) -> Vec<String> {
    let mut told = Vec::new();
    let mut out = |record: Record| {
        assert!(!of_record(&record).is_empty());
        told.push(serde_json::to_string(&record).expect("JSON"));
    };
    let mut decoder = Decoder::new(Options::default());
    read(&mut decoder, &mut out);
    let summary = decoder.finish(&mut out);
    assert!(!of_summary(&summary).is_empty());
    told.push(serde_json::to_string(&summary).expect("JSON"));
    told
}

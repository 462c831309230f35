// SPDX-License-Identifier: MIT OR Apache-2.0
//! A log that comes in pieces.

use serde::{Deserialize, Serialize};
use serde_json::json;
use smmuv3_decode::log::{Blocks, Decoder, Kernel, Options, Record, Summary, packed};

/// Records that are kept for the answer. More of them nobody reads, and a storm of faults has hundreds of
/// thousands: those are in the summary alone.
const MOST: usize = 2000;

/// A log that is being read, in bounded memory.
///
/// Its options are JSON: `{"kernel": "5.10"}` says who wrote it. Its answer is
/// `{records, left_out, summary}`: records and summary as `smmuv3 decode --json` prints them, and how many
/// records had no room; or `{error}`.
pub struct Log {
    decoder: Decoder,
    blocks: Blocks,
    records: Vec<Record>,
    left_out: u64,
    /// Why it is not read.
    error: Option<String>,
    begun: bool,
}

/// The options, as a question has them. Empty texts are as good as none.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Given {
    kernel: String,
}

/// The answer.
#[derive(Serialize)]
struct Answer<'a> {
    records: &'a [Record],
    left_out: u64,
    summary: &'a Summary,
}

impl Log {
    /// At the start of one.
    pub fn new(options: &str) -> Self {
        let given = serde_json::from_str(options).map_err(|error| format!("the options: {error}"));
        let (kernel, error) = match given.and_then(|given: Given| kernel_of(&given.kernel)) {
            Ok(kernel) => (kernel, None),
            Err(error) => (Kernel::default(), Some(error)),
        };
        Self {
            decoder: Decoder::new(Options { kernel, ..Options::default() }),
            blocks: Blocks::default(),
            records: Vec::new(),
            left_out: 0,
            error,
            begun: false,
        }
    }

    /// The next piece, wherever it was cut.
    pub fn feed(&mut self, piece: &[u8]) {
        if !self.begun && !piece.is_empty() {
            self.begun = true;
            if let Some((what, how)) = packed(piece) {
                self.error = Some(format!("this is {what}; make it text first: {how}"));
            }
        }
        if self.error.is_none() {
            let Self { decoder, blocks, records, left_out, .. } = self;
            blocks.add(piece, decoder, &mut |record| keep(records, left_out, record));
        }
    }

    /// The answer.
    pub fn finish(mut self) -> String {
        if let Some(error) = self.error {
            return json!({ "error": error }).to_string();
        }
        let (records, left_out) = (&mut self.records, &mut self.left_out);
        self.blocks.end(&mut self.decoder, &mut |record| keep(records, left_out, record));
        let summary = self.decoder.finish(&mut |record| keep(records, left_out, record));
        let answer = Answer { records: &self.records, left_out: self.left_out, summary: &summary };
        serde_json::to_string(&answer)
            .unwrap_or_else(|error| json!({ "error": error.to_string() }).to_string())
    }
}

fn keep(records: &mut Vec<Record>, left_out: &mut u64, record: Record) {
    if records.len() < MOST {
        records.push(record);
    } else {
        *left_out += 1;
    }
}

/// The kernel that is meant; a recent one by no text.
pub fn kernel_of(text: &str) -> Result<Kernel, String> {
    if text.trim().is_empty() {
        return Ok(Kernel::default());
    }
    Kernel::parse(text).ok_or_else(|| format!("{text:?} is no version of a kernel, such as 5.10"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const EVENT: &str = "[   42.1] arm-smmu-v3 smmu0: event 0x10 received:\n\
        [   42.1] arm-smmu-v3 smmu0: \t0x0000018000000010\n\
        [   42.1] arm-smmu-v3 smmu0: \t0x0000020000000000\n\
        [   42.1] arm-smmu-v3 smmu0: \t0x00000000ffffe040\n\
        [   42.1] arm-smmu-v3 smmu0: \t0x0000000000000000\n";

    fn answer(options: &str, pieces: &[&[u8]]) -> Value {
        let mut log = Log::new(options);
        for piece in pieces {
            log.feed(piece);
        }
        serde_json::from_str(&log.finish()).unwrap()
    }

    #[test]
    fn where_it_is_cut_makes_no_difference() {
        let whole = answer("{}", &[EVENT.as_bytes()]);
        assert_eq!(whole["records"][0]["name"], "F_TRANSLATION");
        assert_eq!(whole["records"][0]["causes"][0]["id"], "msi-doorbell");
        assert_eq!(whole["summary"]["events"], 1);
        assert_eq!(whole["left_out"], 0);
        for at in 0..EVENT.len() {
            let (first, second) = EVENT.as_bytes().split_at(at);
            assert_eq!(answer("{}", &[first, second]), whole, "{at}");
        }
    }

    #[test]
    fn a_storm_is_kept_in_part_and_counted_whole() {
        let events = MOST + 10;
        let mut log = Log::new("{}");
        for page in 0..events {
            log.feed(EVENT.replace("ffffe040", &format!("{page:05x}000")).as_bytes());
        }
        let answer: Value = serde_json::from_str(&log.finish()).unwrap();
        assert_eq!(answer["records"].as_array().unwrap().len(), MOST);
        assert_eq!(answer["left_out"], 10);
        assert_eq!(answer["summary"]["events"], events);
    }

    #[test]
    fn what_is_no_text_is_told() {
        let packed = answer("{}", &[b"", b"\x1f\x8b\x08\0", EVENT.as_bytes()]);
        assert!(packed["error"].as_str().unwrap().contains("gzip"), "{packed}");
        let wrong = answer(r#"{"kernel": "mine"}"#, &[EVENT.as_bytes()]);
        assert!(wrong["error"].as_str().unwrap().contains("5.10"), "{wrong}");
        assert!(answer("[", &[])["error"].is_string());
    }

    #[test]
    fn the_kernel_names_features() {
        // Bit 19 is HA in openEuler's kernels, NESTING elsewhere.
        let line = b"arm-smmu-v3 smmu0: ias 48-bit, oas 48-bit (features 0x00080000)\n";
        let set = |options: &str| answer(options, &[line])["records"][0]["set"].to_string();
        assert!(set(r#"{"kernel": "5.10.0-60.oe2203"}"#).contains("HA"));
        assert!(set("{}").contains("NESTING"));
    }
}

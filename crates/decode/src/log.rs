// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kernel logs: what of them is about SMMUs, and what it means.
//!
//! Bytes go in, in blocks ([`read`]) or by lines ([`Decoder::line`]); [`Record`]s come out as they are complete, and
//! a [`Summary`] at the end. A log is never trusted: lines are cut at [`LINE`] bytes, everything that is kept between
//! lines is bounded, and what does not look as expected is ignored.
//!
//! ```
//! use smmuv3_decode::log::{Decoder, Options};
//!
//! let log = b"[  7.4] arm-smmu-v3 smmu0: event 0x10 received:\n\
//!     [  7.4] arm-smmu-v3 smmu0:\t0x0000020000000010\n\
//!     [  7.4] arm-smmu-v3 smmu0:\t0x0000020000000000\n\
//!     [  7.4] arm-smmu-v3 smmu0:\t0x0000000000000000\n\
//!     [  7.4] arm-smmu-v3 smmu0:\t0x0000000000000000\n";
//! let mut decoder = Decoder::new(Options::default());
//! let mut records = Vec::new();
//! for line in log.split(|byte| *byte == b'\n') {
//!     decoder.line(line, &mut |record| records.push(record));
//! }
//! let summary = decoder.finish(&mut |record| records.push(record));
//! assert_eq!((records[0].name.as_str(), records[0].line), ("F_TRANSLATION", 1));
//! assert_eq!(records[0].causes[0].id, "iova-zero");
//! assert_eq!(summary.events, 1);
//! ```

mod assembly;
mod cause;
mod decoder;
mod event;
mod features;
mod filter;
mod history;
mod kernel;
mod line;
mod made;
mod message;
mod number;
mod probe;
mod queue;
mod record;
mod scan;
mod stamp;
mod summary;
mod text;
mod wrap;

pub use cause::{Cause, Certainty};
pub use decoder::Decoder;
pub use event::{bus_device_function, event};
pub use features::{Kernel, features};
pub use filter::{Filter, FilterError};
pub use record::{Detail, Fields, Hex, Kind, Record, Value};
pub use scan::{Blocks, interesting, packed, read};
pub use stamp::Stamp;
pub use summary::{Advice, Group, Place, Summary};
pub use text::{Tone, in_short, of_record, of_summary};

/// Bytes of a line that are looked at; what is beyond them is ignored.
pub const LINE: usize = 4096;

/// How a log is read.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whose records are reported; the others still count as evidence.
    pub filter: Filter,
    /// Who wrote the log: says what its feature bits stand for.
    pub kernel: Kernel,
}

/// Reads `log` whole and forgets what was found: for fuzzing. Never panics.
pub fn survives(log: &[u8]) {
    let mut decoder = Decoder::new(Options::default());
    let mut text = 0;
    let mut count = |record: Record| text += of_record(&record).len();
    // Reading from memory does not fail.
    let _ = read(log, &mut decoder, &mut count);
    let summary = decoder.finish(&mut count);
    text += of_summary(&summary).len();
    std::hint::black_box(text);
}

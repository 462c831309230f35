// SPDX-License-Identifier: MIT OR Apache-2.0
//! One structure: from words to fields, and back.
//!
//! [`read`] takes text in any form that [`words`] understands, [`decode`] takes words. Both give a [`Decoded`]:
//! every field with its place, value and meaning, what the architecture does not allow in it, and the first rule
//! for which an instance rejects it. [`encode`] goes the other way, from fields to words.
//!
//! ```
//! use smmuv3_decode::structure::{Kind, Options, read};
//!
//! let ste = read(Kind::find("ste")?, "0x8002000b 0xd4 0 0 0 0 0 0", &Options::default())?;
//! assert_eq!(ste.value("S1ContextPtr").map(|value| value.number()), Some(0x8002_0000));
//! assert!(ste.illegal.is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod decode;
mod decoded;
mod descriptor;
mod encode;
mod features;
mod instance;
mod kind;
mod nearest;
pub mod picture;
mod registers;
mod summary;
pub mod words;

pub use decode::{DecodeError, Options, decode, read};
pub use decoded::{Decoded, Described, Illegal, Problem, Value};
pub use descriptor::Place;
pub use encode::{EncodeError, Encoded, encode};
pub use instance::{Instance, InstanceError};
pub use kind::{Kind, NAMED, UnknownKind};

/// The names of all kinds, each with what it is: those with a name of their own first, then every other structure
/// of the table.
pub fn kinds() -> impl Iterator<Item = (String, String)> {
    use smmuv3_formats::structure::ALL;
    let named = NAMED.iter().map(|(name, what)| ((*name).to_owned(), (*what).to_owned()));
    named.chain(ALL.iter().map(|structure| {
        (kind::plain(structure.name), format!("{} (§{})", structure.name, structure.section))
    }))
}

/// Reads `text` as each kind, in each order, and forgets what was found: for fuzzing. Never panics.
pub fn survives(text: &str) {
    for (name, _) in NAMED {
        let Ok(kind) = Kind::find(name) else { continue };
        for order in words::Order::ALL {
            let options = Options { order, ..Options::default() };
            std::hint::black_box(read(kind, text, &options).is_ok());
        }
    }
    std::hint::black_box(Instance::parse(text).is_ok());
}

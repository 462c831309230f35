// SPDX-License-Identifier: MIT OR Apache-2.0
//! `encode KIND FIELD=VALUE`: the words of one structure.

use std::io;

use smmuv3_decode::structure::words::Order;
use smmuv3_decode::structure::{self, Encoded, Kind, Options};

use crate::args::{Encode, WordFormat};
use crate::structure::{StructureError, options, standard_input};
use crate::{BROKEN, Failure, HELD, say, write_out};

/// Prints the words.
///
/// # Errors
/// A field is unknown, or a value does not fit.
pub fn execute(encode: &Encode) -> Result<u8, Failure> {
    let kind = Kind::find(&encode.kind).map_err(StructureError::Kind)?;
    let fields: Vec<(String, String)> = match &encode.fields[..] {
        [only] if only == "-" => {
            standard_input()?.split_whitespace().map(assignment).collect::<Result<_, _>>()?
        }
        // A value may be a name of several words.
        fields => fields.iter().map(|field| assignment(field)).collect::<Result<_, _>>()?,
    };
    let options = options(encode.idr.as_deref(), encode.ste.as_deref(), Order::Auto)?;
    let options = Options { place: encode.place.place(), ..options };
    let encoded = structure::encode(kind, &fields, &options).map_err(StructureError::Encode)?;
    let text = if encode.json {
        serde_json::to_string(&encoded).map_err(|error| Failure::Output(error.into()))?
    } else {
        printed(&encoded, encode.format)
    };
    write_out(&(text + "\n"), io::stdout().lock()).map_err(Failure::Output)?;
    let decoded = &encoded.decoded;
    for violation in &decoded.violations {
        say(&format!("warning: {violation}"));
    }
    if let Some(rule) = &decoded.illegal {
        let style = anstyle::AnsiColor::Yellow.on_default().bold();
        say(&format!("{style}warning:{style:#} hardware rejects it: {rule}"));
    }
    // An error that a register reports is what was asked for.
    let wrong = decoded.illegal.is_some() || !decoded.violations.is_empty();
    Ok(if wrong { BROKEN } else { HELD })
}

fn assignment(text: &str) -> Result<(String, String), StructureError> {
    let wrong = || StructureError::Assignment(text.to_owned());
    let (name, value) = text.split_once('=').ok_or_else(wrong)?;
    if name.is_empty() || value.is_empty() {
        return Err(wrong());
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// The words in a line.
fn printed(encoded: &Encoded, format: WordFormat) -> String {
    let short = encoded.decoded.word_bits == 32;
    let words: Vec<String> = match format {
        WordFormat::Bytes => return encoded.bytes.clone(),
        WordFormat::Words64 if short => {
            encoded.words().iter().map(|word| format!("{word:#010x}")).collect()
        }
        WordFormat::Words64 => encoded.words().iter().map(|word| format!("{word:#018x}")).collect(),
        WordFormat::Words32 => {
            let halves = |word: &u64| match short {
                true => vec![*word],
                false => vec![*word & 0xffff_ffff, *word >> 32],
            };
            let halves = encoded.words().iter().flat_map(halves);
            halves.map(|half| format!("{half:#010x}")).collect()
        }
    };
    words.join(" ")
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What fields are, and what their values mean, in a few words.
//!
//! ```
//! use smmuv3_formats::{meaning, structure};
//!
//! let ste = structure::find("STE").unwrap();
//! let config = ste.field("Config").unwrap();
//! assert_eq!(meaning::field(ste, config), "what becomes of transactions");
//! assert_eq!(meaning::of(ste, config, &[0xb]).unwrap().to_string(), "stage 1 translates");
//! ```

use crate::structure::{Class, MOST_WORDS, Structure};
use crate::{DoesNotFit, Field};

mod command;
mod common;
mod descriptor;
mod entry;
mod event;
mod register;
mod text;

pub use text::Text;

/// What a field is; empty for a field that the structure does not have.
pub fn field(structure: &Structure, field: &Field) -> &'static str {
    let name = field.name;
    let what = match structure.class {
        Class::Entry => entry::field(name),
        Class::Command => command::field(name),
        Class::Event => event::field(name),
        Class::Request => event::request_field(name),
        Class::Descriptor => descriptor::field(name),
        Class::Register => register::field(structure.name, name),
    };
    what.unwrap_or_default()
}

/// What the value of `field` in `words` means, all words of the structure: a value may depend on other fields.
/// `None` where it is a number, an address or a flag that says no more than itself, and where its word is
/// missing.
pub fn of(structure: &Structure, field: &Field, words: &[u64]) -> Option<Text> {
    let value = structure.value(field, words)?;
    let whole = Whole { structure, words };
    let (name, title) = (field.name, structure.name);
    match structure.class {
        Class::Entry => entry::value(title, name, value, &whole),
        Class::Command => command::value(name, value, &whole),
        Class::Event => event::value(name, value, &whole),
        Class::Request => event::request_value(name, value, &whole),
        Class::Descriptor => descriptor::value(title, name, value),
        Class::Register => register::value(title, name, value, &whole),
    }
}

/// What `value` means in `field` of a structure whose other fields are zero.
///
/// # Errors
/// [`DoesNotFit`] when the field cannot hold it.
pub fn of_value(
    structure: &Structure,
    field: &Field,
    value: u64,
) -> Result<Option<Text>, DoesNotFit> {
    let mut words = [0; MOST_WORDS];
    if let Some(word) = words.get_mut(field.word) {
        *word = field.insert(0, value)?;
    }
    Ok(of(structure, field, &words))
}

/// The structure that a value belongs to.
struct Whole<'a> {
    structure: &'a Structure,
    words: &'a [u64],
}

impl Whole<'_> {
    /// The value of another field; zero where it is missing.
    fn get(&self, name: &str) -> u64 {
        let field = self.structure.field(name);
        field.and_then(|field| self.structure.value(field, self.words)).unwrap_or(0)
    }

    /// Whether another field is not zero.
    fn is(&self, name: &str) -> bool {
        self.get(name) != 0
    }

    /// Whether the structure has a field of that name.
    fn has(&self, name: &str) -> bool {
        self.structure.field(name).is_some()
    }
}

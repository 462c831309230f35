// SPDX-License-Identifier: MIT OR Apache-2.0
//! From fields to words.

use serde::Serialize;
use smmuv3_formats::structure::{self, Class, Structure};
use smmuv3_formats::{DoesNotFit, EventId, Opcode};

use super::decode::{DecodeError, Options, decode};
use super::decoded::Decoded;
use super::kind::{self, Kind};
use super::nearest::nearest;
use super::registers;

mod value;

/// The words of a structure, and what is to be said of them.
#[derive(Clone, Debug, Serialize)]
pub struct Encoded {
    /// All that is known of it, as of words that were read.
    #[serde(flatten)]
    pub decoded: Decoded,
    /// As they lie in memory, two digits a byte.
    pub bytes: String,
}

impl Encoded {
    /// The 64-bit words, or the register of 32 bits.
    pub fn words(&self) -> &[u64] {
        &self.decoded.words
    }
}

/// Why there are no words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The kind has no one layout.
    #[error("{name} has more than one layout; {advice}")]
    Which {
        /// The kind.
        name: String,
        /// What to say instead.
        advice: String,
    },
    /// There is no such field.
    #[error("{structure} has no field {field:?}{}; smmuv3 fields {} lists all", .nearest.as_ref().map(|name| format!(", did you mean {name}?")).unwrap_or_default(), kind::plain(.structure))]
    UnknownField {
        /// The structure.
        structure: &'static str,
        /// What was given.
        field: String,
        /// The field that is most like it.
        nearest: Option<String>,
    },
    /// A field is given twice.
    #[error("{0} is given twice; give it once")]
    Twice(&'static str),
    /// A value is no number and no name.
    #[error(
        "{value:?} is no value of {field}; give a number such as 5, 0x5 or 0b101, true or false{names}"
    )]
    Value {
        /// The field.
        field: &'static str,
        /// What was given.
        value: String,
        /// The names that values of the field have, as a clause.
        names: String,
    },
    /// A value has too many bits, or an address bits below its field.
    #[error("{}", too_large(.0))]
    DoesNotFit(DoesNotFit),
    /// The code of a command or event is given, and another one.
    #[error("{field} of {structure} is {code:#04x}; leave it out, or encode another structure")]
    Code {
        /// The structure.
        structure: &'static str,
        /// `Opcode` or `EventID`.
        field: &'static str,
        /// Its code.
        code: u8,
    },
    /// What was encoded could not be decoded.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

fn too_large(DoesNotFit { field, value }: &DoesNotFit) -> String {
    let bits = field.hi.saturating_sub(field.lo).saturating_add(1);
    if field.address {
        let align = 1u64.checked_shl(field.lo).unwrap_or(0);
        return format!(
            "{value:#x} does not fit in {field}: it is an address below {:#x}, aligned to {align:#x} bytes",
            u128::from(field.mask()) + u128::from(align)
        );
    }
    if bits == 1 {
        return format!("{value:#x} does not fit in {field}: it is one bit, 0 or 1");
    }
    let max = field.mask() >> field.lo;
    format!("{value:#x} does not fit in {field}: it has {bits} bits, at most {max} ({max:#x})")
}

/// The words of `kind` with the named fields set and all others 0; of a certain command or event also its code.
/// Fields have the architecture's names, in any case, or those of [`Decoded`]; values are decimal,
/// `0x` or `0b` numbers, `true`, `false`, or the beginning of what a value means (`config=stage-1`).
///
/// A descriptor is one of [`Options::place`]; ID registers are those of register page 0 from IDR0 on.
///
/// # Errors
/// [`EncodeError`]. That hardware would reject the words is none: [`Decoded::illegal`] says it.
pub fn encode(
    kind: Kind,
    fields: &[(String, String)],
    options: &Options,
) -> Result<Encoded, EncodeError> {
    match kind {
        Kind::Idr => return finished(kind, id_registers(fields)?, 4, options),
        Kind::Features => return finished(kind, vec![features(fields, options)?], 4, options),
        _ => {}
    }
    let Layout { structure, first, settled } = layout(kind, fields, options)?;
    let mut words = vec![0u64; structure.words];
    if let Some(word) = words.first_mut() {
        *word = first;
    }
    let mut seen: Vec<&'static str> = Vec::new();
    for (name, text) in fields {
        let field = value::field(structure, name)?;
        if seen.contains(&field.name) {
            return Err(EncodeError::Twice(field.name));
        }
        seen.push(field.name);
        let code = structure.code.filter(|_| matches!(field.name, "Opcode" | "EventID"));
        if let Some(code) = code {
            // It chose the layout, or it is the layout's own.
            if !settled && value::number(text) != Some(u64::from(code)) {
                let structure = structure.name;
                return Err(EncodeError::Code { structure, field: field.name, code });
            }
            continue;
        }
        let value = value::value(structure, field, text)?;
        if let Some(word) = words.get_mut(field.word) {
            *word = field.insert(*word, value).map_err(EncodeError::DoesNotFit)?;
        }
    }
    let kind = match kind {
        Kind::One(_) if structure.name == ANY_EVENT => Kind::Event,
        Kind::One(_) => Kind::One(structure),
        _ => kind,
    };
    finished(kind, words, if structure.bits == 32 { 4 } else { 8 }, options)
}

/// With all that is known of `words` of `size` bytes each.
fn finished(
    kind: Kind,
    words: Vec<u64>,
    size: usize,
    options: &Options,
) -> Result<Encoded, EncodeError> {
    let decoded = decode(kind, &words, options)?;
    let bytes = words.iter().flat_map(|word| word.to_le_bytes().into_iter().take(size));
    let bytes = bytes.map(|byte| format!("{byte:02x}")).collect();
    Ok(Encoded { decoded, bytes })
}

/// The union of all events' fields: what an event without a layout of its own is made of.
const ANY_EVENT: &str = "event record";

/// What words are made of.
struct Layout {
    structure: &'static Structure,
    /// What word 0 begins with: the code, or the type of a descriptor.
    first: u64,
    /// Whether a field has chosen the code.
    settled: bool,
}

/// The layout of `kind`, for commands and events with the code that `fields` give.
fn layout(
    kind: Kind,
    fields: &[(String, String)],
    options: &Options,
) -> Result<Layout, EncodeError> {
    let which = |advice: &str| EncodeError::Which { name: kind.name(), advice: advice.to_owned() };
    let of = |structure: &'static Structure, settled| Layout {
        structure,
        first: u64::from(structure.code.unwrap_or(0)),
        settled,
    };
    let table = |name: &str| structure::find(name).ok_or_else(|| which("name one structure"));
    let given = |names: &[&str]| {
        let named =
            |(name, _): &&(String, String)| names.iter().any(|one| kind::plain(name) == *one);
        fields.iter().find(named).map(|(_, text)| text.as_str())
    };
    match kind {
        Kind::One(structure) => Ok(of(structure, false)),
        Kind::Gerror => Ok(of(table("GERROR")?, false)),
        Kind::CmdqCons => Ok(of(table("CMDQ_CONS")?, false)),
        Kind::Command => {
            let advice = "name the command: smmuv3 encode cmd opcode=0x03 ..., or smmuv3 encode cfgi_ste ...";
            let text = given(&["opcode"]).ok_or_else(|| which(advice))?;
            let named = structure::find(text).filter(|one| one.class == Class::Command);
            let coded =
                value::number(text).and_then(|code| Opcode::from_code(u8::try_from(code).ok()?));
            let found = coded.map(structure::command).or(named).ok_or_else(|| which(advice))?;
            Ok(of(found, true))
        }
        Kind::Event => {
            let advice = "name the event: smmuv3 encode event eventid=0x10 ..., or smmuv3 encode f_translation ...";
            let text = given(&["eventid", "id"]).ok_or_else(|| which(advice))?;
            let named = structure::find(text).filter(|one| one.class == Class::Event);
            let found = match value::number(text).map(u8::try_from) {
                Some(code) => match code.ok().and_then(EventId::from_code) {
                    Some(id) => structure::event(id),
                    None => table(ANY_EVENT)?,
                },
                None => named.ok_or_else(|| which(advice))?,
            };
            Ok(of(found, true))
        }
        Kind::Descriptor => {
            let form = options.place.form();
            // At level 3 there are only pages.
            let usual = if form.level == 3 { Some(3) } else { None };
            let kind = match given(&["type"]) {
                Some(text) => value::number(text),
                None => usual,
            };
            let advice = "give type=1 for a block, or type=3 for a table (or a page at level 3)";
            let kind = kind.ok_or_else(|| which(advice))?;
            let structure = form.structure(kind).ok_or_else(|| {
                which("a descriptor of this type is invalid or reserved where --level and --granule put it")
            })?;
            Ok(Layout { structure, first: kind, settled: false })
        }
        Kind::Idr | Kind::Features => Err(which("name one structure")),
    }
}

/// ID registers by the names of their fields, which are unique: six, or eight if IIDR or AIDR have some.
fn id_registers(fields: &[(String, String)]) -> Result<Vec<u64>, EncodeError> {
    let registers: Vec<&'static Structure> =
        registers::IDS.iter().filter_map(|name| structure::find(name)).collect();
    let mut words = vec![0u64; registers.len()];
    let mut seen: Vec<&'static str> = Vec::new();
    let mut all = false;
    for (name, text) in fields {
        let own = |structure: &&'static Structure| value::field(structure, name).ok();
        let found = registers.iter().enumerate().find_map(|(at, one)| Some((at, one, own(one)?)));
        let Some((at, register, field)) = found else {
            let names = registers.iter().flat_map(|one| one.fields);
            let nearest = nearest(name, names.map(|field| field.name.to_owned()));
            return Err(EncodeError::UnknownField {
                structure: "idr",
                field: name.clone(),
                nearest,
            });
        };
        if seen.contains(&field.name) {
            return Err(EncodeError::Twice(field.name));
        }
        seen.push(field.name);
        let value = value::value(register, field, text)?;
        if let Some(word) = words.get_mut(at) {
            *word = field.insert(*word, value).map_err(EncodeError::DoesNotFit)?;
        }
        all |= at >= 6;
    }
    words.truncate(if all { 8 } else { 6 });
    Ok(words)
}

/// Linux's features by their names.
fn features(fields: &[(String, String)], options: &Options) -> Result<u64, EncodeError> {
    let name = |bit: u32| crate::log::features(1 << bit, options.kernel).0.into_iter().next();
    let names: Vec<String> = (0..32).map(|bit| name(bit).unwrap_or_default()).collect();
    let mut word = 0u64;
    for (name, text) in fields {
        let bit = names.iter().position(|known| kind::plain(known) == kind::plain(name));
        let Some(bit) = bit else {
            let nearest = nearest(name, names.iter().cloned());
            let structure = "features";
            return Err(EncodeError::UnknownField { structure, field: name.clone(), nearest });
        };
        let set = match value::number(text) {
            Some(0) => Some(false),
            Some(1) => Some(true),
            _ => value::truth(text),
        };
        let Some(set) = set else {
            let (value, names) = (text.clone(), String::new());
            return Err(EncodeError::Value { field: "a feature", value, names });
        };
        word |= u64::from(set) << bit;
    }
    Ok(word)
}

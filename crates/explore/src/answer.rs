// SPDX-License-Identifier: MIT OR Apache-2.0
//! Questions and their answers, both in JSON.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::json;
use smmuv3_decode::structure::words::Order;
use smmuv3_decode::structure::{self, Decoded, Encoded, Instance, Kind, NAMED, Options, Place};
use smmuv3_formats::descriptor::Stage;
use smmuv3_formats::granule::Granule;
use smmuv3_formats::structure::Class;

use crate::log::kernel_of;
use crate::{Log, detect, layout};

/// A question. `request` says which.
#[derive(Deserialize)]
#[serde(tag = "request", rename_all = "lowercase")]
enum Question {
    /// What of `text`, a whole log, is about SMMUs.
    Log {
        text: String,
        #[serde(flatten)]
        options: BTreeMap<String, serde_json::Value>,
    },
    /// Which kind `text` is: `log`, or one of the kinds of structures.
    Detect { text: String },
    /// What `text` says, the words of one structure.
    Structure {
        kind: String,
        text: String,
        #[serde(default)]
        options: Given,
    },
    /// The words that have these fields, by name; all others are zero.
    Encode {
        kind: String,
        fields: BTreeMap<String, String>,
        #[serde(default)]
        options: Given,
    },
    /// The layouts of all structures.
    Fields,
    /// The kinds of structures, orders of words and instances that can be chosen.
    Kinds,
}

/// What words are read and judged by. Empty texts are as good as none.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Given {
    /// The name of an order.
    order: String,
    /// The instance, in any form that `--idr` takes.
    idr: String,
    /// The words of the STE through which a CD is reached.
    ste: String,
    /// Of a descriptor: the stage, level (-1 to 3), granule (`4k`, `16k`, `64k`) and bits of output addresses of
    /// its table.
    stage: String,
    level: String,
    granule: String,
    oas: String,
    /// The kernel whose numbers of features they are.
    kernel: String,
    /// `1` where these are set: LPA2, indirect permissions, forced memory types of stage 2.
    ds: String,
    pie: String,
    fwb: String,
}

/// What is told of a structure: that, and how wide its words are.
#[derive(Serialize)]
struct Told<T> {
    #[serde(flatten)]
    told: T,
    word_bits: u32,
}

/// Something to choose, with what it is.
#[derive(Serialize)]
struct Choice {
    name: String,
    about: String,
}

/// The answer to a question, both in JSON.
///
/// | `request` | with | answer |
/// |---|---|---|
/// | `log` | `text`, and the options of [`Log`] | `{records, summary}`: see [`Log`] |
/// | `detect` | `text` | `{kind}`: `log` or a kind of structure |
/// | `structure` | `kind`, `text`, `options: {order, idr, ste, ...}` | the structure, as `smmuv3 decode KIND --json` prints it |
/// | `encode` | `kind`, `fields: {name: text}`, `options` | the same of the words that have these fields |
/// | `fields` | | `{structures: [{name, class, section, words, bits, code, offset, fields}]}` |
/// | `kinds` | | `{kinds, others, orders, instances}`, each `[{name, about}]` |
///
/// What cannot be answered is answered by `{error}`, a sentence for the user.
pub fn answer(question: &str) -> String {
    let answered = match serde_json::from_str(question) {
        Ok(question) => reply(question),
        Err(error) => Err(format!("not a question: {error}")),
    };
    answered.unwrap_or_else(|error| json!({ "error": error }).to_string())
}

fn reply(question: Question) -> Result<String, String> {
    match question {
        Question::Log { text, options } => {
            let options = serde_json::to_string(&options).map_err(text_of)?;
            let mut log = Log::new(&options);
            log.feed(text.as_bytes());
            Ok(log.finish())
        }
        Question::Detect { text } => match detect::detect(&text) {
            Some(kind) => Ok(json!({ "kind": kind }).to_string()),
            None => Err("these numbers may be several things; choose what they are".to_owned()),
        },
        Question::Structure { kind, text, options } => {
            let kind = Kind::find(&kind).map_err(text_of)?;
            let decoded = if kind == Kind::Idr && text.to_ascii_lowercase().contains("idr") {
                named_registers(&text)?
            } else {
                structure::read(kind, &text, &options.understood()?).map_err(text_of)?
            };
            Ok(told(&decoded, decoded.word_bits))
        }
        Question::Encode { kind, fields, options } => {
            let kind = Kind::find(&kind).map_err(text_of)?;
            let fields: Vec<_> = fields.into_iter().collect();
            let encoded: Encoded =
                structure::encode(kind, &fields, &options.understood()?).map_err(text_of)?;
            Ok(told(&encoded, encoded.decoded.word_bits))
        }
        Question::Fields => Ok(json!({ "structures": layout::all() }).to_string()),
        Question::Kinds => Ok(kinds()),
    }
}

/// ID registers that have their names beside them, in any order: `IDR0: 0x... IDR5: 0x...`.
fn named_registers(text: &str) -> Result<Decoded, String> {
    let Instance { idr, iidr, aidr, .. } = Instance::parse(text).map_err(text_of)?;
    let names = ["IDR0", "IDR1", "IDR2", "IDR3", "IDR4", "IDR5", "IIDR", "AIDR"];
    let values: Vec<_> = idr.into_iter().take(6).chain([iidr, aidr]).collect();
    let count = values.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    let known = values.iter().take(count);
    let words: Vec<_> = known.clone().map(|value| u64::from(value.unwrap_or(0))).collect();
    let mut decoded = structure::decode(Kind::Idr, &words, &Options::default()).map_err(text_of)?;
    // What is not known is not zero.
    let unknown = known.zip(names).filter(|(value, _)| value.is_none());
    let unknown: Vec<_> = unknown.map(|(_, name)| name).collect();
    decoded.described.retain(|field| field.structure.is_none_or(|name| !unknown.contains(&name)));
    if !unknown.is_empty() {
        decoded.assumed.push(format!("{} not given", unknown.join(", ")));
    }
    Ok(decoded)
}

fn text_of(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn told(told: impl Serialize, word_bits: u32) -> String {
    serde_json::to_string(&Told { told, word_bits })
        .unwrap_or_else(|error| json!({ "error": error.to_string() }).to_string())
}

impl Given {
    fn understood(&self) -> Result<Options, String> {
        let mut options = Options::default();
        let order = self.order.trim();
        if !order.is_empty() {
            let named = Order::ALL.into_iter().find(|known| known.name() == order);
            options.order = named.ok_or_else(|| format!("there is no order {order:?}"))?;
        }
        if !self.idr.trim().is_empty() {
            options.instance = Instance::parse(&self.idr).map_err(text_of)?;
        }
        if !self.ste.trim().is_empty() {
            let ste: Decoded = Kind::find("ste")
                .map_err(text_of)
                .and_then(|kind| {
                    structure::read(kind, &self.ste, &Options::default()).map_err(text_of)
                })
                .map_err(|error| format!("the STE: {error}"))?;
            options.ste = <[u64; 8]>::try_from(ste.words).ok();
        }
        options.place = self.place()?;
        options.kernel = kernel_of(&self.kernel)?;
        Ok(options)
    }

    fn place(&self) -> Result<Place, String> {
        Ok(Place {
            stage: named("stage", &self.stage, &[("1", Stage::One), ("2", Stage::Two)])?,
            level: number("level", &self.level, -1..=3)?,
            granule: named(
                "granule",
                &self.granule,
                &[("4k", Granule::K4), ("16k", Granule::K16), ("64k", Granule::K64)],
            )?,
            output_bits: number("oas", &self.oas, 32..=56)?,
            ds: self.ds == "1",
            pie: self.pie == "1",
            fwb: self.fwb == "1",
        })
    }
}

/// One of some values by its name; `None` for no name.
fn named<T: Copy>(option: &str, text: &str, values: &[(&str, T)]) -> Result<Option<T>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let value = values.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    value.map(|(_, value)| Some(*value)).ok_or_else(|| format!("{text:?} is no {option}"))
}

/// A number in a range; `None` for no text.
fn number<T: FromStr + PartialOrd>(
    option: &str,
    text: &str,
    range: RangeInclusive<T>,
) -> Result<Option<T>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let value = text.parse().ok().filter(|value| range.contains(value));
    value.map(Some).ok_or_else(|| format!("{text:?} is no {option}"))
}

fn kinds() -> String {
    let choice = |(name, about): (String, String)| Choice { name, about };
    let mut kinds: Vec<_> = structure::kinds().map(choice).collect();
    // Commands, events and descriptors are told apart by their words.
    let is_register =
        |name: &str| matches!(Kind::find(name), Ok(Kind::One(one)) if one.class == Class::Register);
    let mut others = kinds.split_off(NAMED.len().min(kinds.len()));
    others.retain(|choice| is_register(&choice.name));
    let orders: Vec<_> = Order::ALL
        .into_iter()
        .map(|order| {
            let about = match order {
                Order::Auto => "as in memory, or the one order that makes sense",
                Order::Memory => "as in memory: word 0 first, low half first",
                Order::HighFirst => "the high half of each word first",
                Order::LastFirst => "the last word first",
                Order::SwappedBytes => "each number as its bytes lie in memory",
            };
            Choice { name: order.name().to_owned(), about: about.to_owned() }
        })
        .collect();
    let instances: Vec<_> = Instance::presets()
        .map(|(name, about)| Choice { name: name.to_owned(), about: about.to_owned() })
        .collect();
    json!({"kinds": kinds, "others": others, "orders": orders, "instances": instances}).to_string()
}

#[cfg(test)]
mod tests;

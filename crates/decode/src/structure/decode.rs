// SPDX-License-Identifier: MIT OR Apache-2.0
//! From words to fields.

use smmuv3_formats::legality::{self, Rule};
use smmuv3_formats::structure::{self, Class, Structure};
use smmuv3_formats::{
    Cd, Command, EventId, EventRecord, Field, L1Cd, L1Std, Layout, Opcode, PageRequest, Ste,
    meaning, ste,
};

use super::decoded::{Decoded, Described, Fields, Illegal, Value};
use super::descriptor::{Place, descriptor};
use super::instance::{Instance, InstanceError};
use super::kind::Kind;
use super::words::{self, Order, WordsError};
use super::{features, registers, summary};
use crate::log::{Detail, Kernel};

/// What words are judged by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The instance that they are of.
    pub instance: Instance,
    /// The STE through which a CD is reached.
    pub ste: Option<[u64; 8]>,
    /// Where a descriptor lies.
    pub place: Place,
    /// The kernel whose features are told.
    pub kernel: Kernel,
    /// In which order words are given.
    pub order: Order,
}

/// Why words are not explained.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// There are no words, or not as many as there must be.
    #[error(transparent)]
    Words(#[from] WordsError),
    /// There are more or fewer words than the kind has.
    #[error("{name} is {need} words of {bits} bits, but {given} are given")]
    Count {
        /// The kind, with an article.
        name: String,
        /// How many there must be.
        need: usize,
        /// Bits of each.
        bits: u32,
        /// How many there are.
        given: usize,
    },
    /// A certain command or event was asked for, and they are another one.
    #[error("these words are {found}, not {wanted}; ask for {kind} to decode any of them")]
    Another {
        /// What they are.
        found: String,
        /// What was asked for.
        wanted: &'static str,
        /// The kind that takes them.
        kind: &'static str,
    },
    /// ID registers are named, but not as they should be.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// There are more words than registers.
    #[error("{given} words are given; {need}")]
    Registers {
        /// How many there are.
        given: usize,
        /// What there must be.
        need: &'static str,
    },
}

/// Explains the structure of `kind` in `text`, which [`words`] reads.
///
/// # Errors
/// [`DecodeError`].
pub fn read(kind: Kind, text: &str, options: &Options) -> Result<Decoded, DecodeError> {
    let name = kind.with_article();
    if let (Kind::Features, Some(line)) = (kind, features::value(text)) {
        return decode(kind, &[line], options);
    }
    if kind == Kind::Idr
        && let Some(decoded) = registers::named(text)
    {
        return decoded;
    }
    let Some(shape) = kind.shape(&name) else {
        let both = match kind {
            Kind::Gerror => registers::named_gerror(text).map(|both| both.join(" ")),
            _ => None,
        };
        let words = words::registers(both.as_deref().unwrap_or(text), options.order)?;
        let words: Vec<u64> = words.into_iter().map(u64::from).collect();
        return decode(kind, &words, options);
    };
    let found = words::parse(text, &shape, options.order)?;
    let mut decoded = decode(kind, &found.words, options)?;
    if found.deduced {
        decoded
            .assumed
            .push(format!("read with --order {}, the only one that makes sense", found.order));
    }
    Ok(decoded)
}

/// Explains `words`: the 64-bit words of a structure, or 32-bit registers.
///
/// # Errors
/// [`DecodeError`]: they are too few or too many, or something else than was asked for.
pub fn decode(kind: Kind, words: &[u64], options: &Options) -> Result<Decoded, DecodeError> {
    let name = kind.with_article();
    if let Some(shape) = kind.shape(&name) {
        let (need, bits) = if shape.bytes == 4 { (1, 32) } else { (shape.bytes / 8, 64) };
        if words.len() != need {
            return Err(DecodeError::Count { name, need, bits, given: words.len() });
        }
        if let (32, Some(&value)) = (bits, words.first())
            && u32::try_from(value).is_err()
        {
            return Err(WordsError::DoesNotFit { value, name }.into());
        }
    }
    let first = words.first().copied().unwrap_or(0);
    let code = (first & 0xff) as u8;
    match kind {
        Kind::Event => Ok(event(words, code, options)),
        Kind::Command => Ok(command(words, code, options)),
        Kind::Descriptor => Ok(descriptor(first, &options.place)),
        Kind::Idr => registers::idr(words),
        Kind::Gerror => registers::gerror(words),
        Kind::CmdqCons => Ok(registers::cmdq_cons(first)),
        Kind::Features => features::features(words, options.kernel),
        Kind::One(structure) => match structure.class {
            Class::Event if structure.code != Some(code) => {
                Err(another(event(words, code, options).name, structure.name, "event"))
            }
            Class::Command if structure.code != Some(code) => {
                Err(another(command(words, code, options).name, structure.name, "cmd"))
            }
            Class::Event => Ok(event(words, code, options)),
            Class::Command => Ok(command(words, code, options)),
            _ => Ok(judged(structure, words, options)),
        },
    }
}

fn another(found: String, wanted: &'static str, kind: &'static str) -> DecodeError {
    DecodeError::Another { found, wanted, kind }
}

/// The fields of `structure`, and what is wrong with reserved bits.
pub(super) fn plain(structure: &'static Structure, words: &[u64]) -> Decoded {
    let described = structure.fields.iter().filter_map(|field| {
        let value = structure.value(field, words)?;
        Some(described(structure, field, value, words))
    });
    let described: Vec<Described> = described.collect();
    Decoded {
        kind: Kind::One(structure).name(),
        name: structure.name.to_owned(),
        section: structure.section.to_owned(),
        summary: None,
        words: words.to_vec(),
        word_bits: structure.bits.min(64),
        by_name: by_name(&described),
        described,
        violations: reserved(&structure.reserved(words)),
        illegal: None,
        problems: Vec::new(),
        assumed: Vec::new(),
        record: None,
    }
}

pub(super) fn by_name(described: &[Described]) -> Fields {
    let named = described.iter().map(|field| (field.name.to_ascii_lowercase(), field.value));
    Fields::Own(named.collect())
}

/// One field, with its meaning.
pub(super) fn described(
    structure: &Structure,
    field: &Field,
    value: u64,
    words: &[u64],
) -> Described {
    Described {
        structure: None,
        name: field.name.to_owned(),
        word: field.word,
        hi: field.hi,
        lo: field.lo,
        value: Value::of(field, value),
        meaning: meaning::of(structure, field, words).map(|meaning| meaning.to_string()),
    }
}

/// What a field is, in a few words.
pub fn purpose(structure: &Structure, field: &Field) -> &'static str {
    meaning::field(structure, field)
}

/// A sentence for each run of reserved bits that has some set.
pub(super) fn reserved(words: &[u64]) -> Vec<String> {
    let mut found = Vec::new();
    for (index, word) in words.iter().enumerate() {
        let mut left = *word;
        while left != 0 {
            let lo = left.trailing_zeros();
            let run = (left >> lo).trailing_ones();
            let hi = lo.saturating_add(run).saturating_sub(1);
            let bits = if run == 1 {
                format!("bit {lo} of word {index} is reserved and set")
            } else {
                format!("bits {hi}:{lo} of word {index} are reserved and set")
            };
            found.push(bits);
            left &= u64::MAX.checked_shl(hi.saturating_add(1)).unwrap_or(0);
        }
    }
    found
}

fn illegal(verdict: Result<(), Rule>) -> Option<Illegal> {
    verdict.err().map(Illegal::from)
}

fn event(words: &[u64], code: u8, options: &Options) -> Decoded {
    if let Some(id) = EventId::from_code(code) {
        let mut decoded = plain(structure::event(id), words);
        decoded.summary = Some(id.meaning().to_owned());
        return recorded(decoded, options);
    }
    // The bits mean what they mean in most records.
    let own = (0xe0..=0xef).contains(&code);
    let described = EventRecord::FIELDS.iter().map(|field| Described {
        structure: None,
        name: field.name.to_owned(),
        word: field.word,
        hi: field.hi,
        lo: field.lo,
        value: Value::of(field, words.get(field.word).map_or(0, |word| field.extract(*word))),
        meaning: None,
    });
    let described: Vec<Described> = described.collect();
    let name = if own { "implementation defined event" } else { "reserved event" };
    let decoded = Decoded {
        kind: "event".to_owned(),
        name: format!("{name} {code:#04x}"),
        section: "10.2".to_owned(),
        summary: own.then(|| "the implementation's manual says what it is".to_owned()),
        words: words.to_vec(),
        word_bits: 64,
        by_name: by_name(&described),
        described,
        violations: Vec::new(),
        illegal: None,
        problems: Vec::new(),
        assumed: vec!["fields are where most events have them".to_owned()],
        record: None,
    };
    recorded(decoded, options)
}

/// With what the log decoder says of such an event: names, violations and causes are its own.
fn recorded(decoded: Decoded, options: &Options) -> Decoded {
    let words = array(&decoded.words);
    let mut record = crate::log::event(words);
    if options.instance.is_known() {
        // What a log does not know: whether this instance could have written it.
        let (event, implementation) = (EventRecord(words), options.instance.implementation());
        let mut alone: Vec<Rule> = Vec::new();
        legality::event(&event, None, &mut |rule| alone.push(rule));
        legality::event(&event, Some(&implementation), &mut |rule| {
            if !alone.contains(&rule) {
                record.violations.push(rule.to_string());
            }
        });
    }
    let by_name = match &record.detail {
        Detail::Event { fields, .. } => Fields::Log(fields.clone()),
        _ => decoded.by_name,
    };
    Decoded { by_name, violations: record.violations.clone(), record: Some(record), ..decoded }
}

fn command(words: &[u64], code: u8, options: &Options) -> Decoded {
    let raw = Command(array(words));
    let mut decoded = match Opcode::from_code(code) {
        Some(opcode) => {
            let mut decoded = plain(structure::command(opcode), words);
            decoded.name = raw.name().to_owned();
            decoded
        }
        None => Decoded {
            kind: "cmd".to_owned(),
            name: format!("{} command {code:#04x}", raw.name()),
            section: "4.1".to_owned(),
            summary: None,
            words: words.to_vec(),
            word_bits: 64,
            by_name: Fields::Own(vec![("opcode".to_owned(), Value::Hex(u64::from(code)))]),
            described: vec![Described {
                structure: None,
                name: "Opcode".to_owned(),
                word: 0,
                hi: 7,
                lo: 0,
                value: Value::Hex(u64::from(code)),
                meaning: Some(raw.name().to_owned()),
            }],
            violations: Vec::new(),
            illegal: None,
            problems: Vec::new(),
            assumed: Vec::new(),
            record: None,
        },
    };
    // What the implementation defines is judged by its manual.
    if !raw.is_implementation_defined() {
        decoded.illegal = illegal(legality::command(&raw, &options.instance.implementation()));
        decoded.assumed.push(options.instance.assumed());
    }
    decoded
}

/// An entry, a page request or a register.
fn judged(structure: &'static Structure, words: &[u64], options: &Options) -> Decoded {
    let mut decoded = plain(structure, words);
    decoded.summary = summary::of(structure.name, words);
    let implementation = options.instance.implementation();
    let instance = Some(&implementation);
    let mut rules: Vec<Rule> = Vec::new();
    let found = &mut |rule| rules.push(rule);
    let ste = options.ste.map(Ste);
    match structure.name {
        "L1STD" => legality::l1_std(&L1Std(array(words)), None, instance, found),
        "L1CD" => legality::l1_cd(&L1Cd(array(words)), ste.as_ref(), instance, found),
        "PPR" => legality::page_request(&PageRequest(array(words)), instance, found),
        "STE" => {
            let entry = Ste(array(words));
            decoded.illegal = illegal(legality::ste(&entry, &implementation));
            legality::ste_reserved(&entry, instance, found);
        }
        "CD" => {
            let entry = Cd(array(words));
            let usual = Ste::default().with_v(true).with_config(ste::config::STAGE_1);
            let through = ste.unwrap_or(usual.with_s1_pie(true));
            decoded.illegal = illegal(legality::cd(&entry, &through, &implementation));
            legality::cd_reserved(&entry, instance, found);
        }
        _ => return decoded,
    }
    // What is reserved is told bit by bit.
    let (in_words, others): (Vec<Rule>, Vec<Rule>) =
        rules.into_iter().partition(|rule| rule.field.starts_with("word "));
    let mut bits = structure.reserved(words);
    for (index, word) in bits.iter_mut().enumerate() {
        let counts = in_words.iter().any(|rule| rule.field.ends_with(&index.to_string()));
        if !counts {
            *word = 0;
        }
        // Where tables may have 128-bit descriptors, their addresses may have 56 bits.
        let address = matches!((structure.name, index), ("STE", 3) | ("CD", 1 | 2));
        if address && implementation.idr5.d128() {
            *word &= !(0xf << 52);
        }
    }
    decoded.violations = reserved(&bits);
    decoded.violations.extend(others.iter().map(Rule::to_string));
    decoded.assumed.push(options.instance.assumed());
    if structure.name == "CD" && options.ste.is_none() {
        let text = "judged as reached through an STE with stage 1 alone; --ste gives the real one";
        decoded.assumed.push(text.to_owned());
    }
    decoded
}

/// The first `N` words; missing ones are 0.
pub(super) fn array<const N: usize>(words: &[u64]) -> [u64; N] {
    let mut whole = [0; N];
    for (to, from) in whole.iter_mut().zip(words) {
        *to = *from;
    }
    whole
}

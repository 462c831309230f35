// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be decoded and encoded, by name.

use smmuv3_formats::structure::{self, Class, Structure};
use smmuv3_formats::{EventId, Opcode};

use super::nearest::nearest;
use super::words::{Plausible, Shape};

/// A kind of thing that can be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An event record of any event (§10).
    Event,
    /// A command of any opcode (§4).
    Command,
    /// A translation table descriptor, whose fields depend on where it lies (§15).
    Descriptor,
    /// The identification registers of an instance (§2.3).
    Idr,
    /// GERROR, and GERRORN with it (§2.4).
    Gerror,
    /// CMDQ_CONS: how far commands were consumed, and why they are no further (§3.2).
    CmdqCons,
    /// What a line of Linux's boot log says of an instance.
    Features,
    /// One structure of the table: an STE, a CD, a page request, a register, a certain command or event.
    One(&'static Structure),
}

/// The kinds that have a name of their own, with what they are.
pub const NAMED: &[(&str, &str)] = &[
    ("event", "event record (4 words)"),
    ("ste", "stream table entry (8 words)"),
    ("cd", "context descriptor (8 words)"),
    ("l1std", "level-1 stream table descriptor (1 word)"),
    ("l1cd", "level-1 context descriptor (1 word)"),
    ("cmd", "command (2 words)"),
    ("pri", "page request (2 words)"),
    ("pte", "translation table descriptor (1 word)"),
    ("idr", "ID registers IDR0 to IDR5, then IIDR and AIDR"),
    ("gerror", "GERROR, and GERRORN if it is known"),
    ("cmdq-cons", "CMDQ_CONS: the consumer index and the error"),
    ("features", "the features that Linux prints at boot"),
];

/// There is no such kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no structure {name:?}{}; smmuv3 fields lists all", suggestion(.nearest))]
pub struct UnknownKind {
    /// What was asked for.
    pub name: String,
    /// The name that is most like it, if one is.
    pub nearest: Option<String>,
}

fn suggestion(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!(", did you mean {name}?")).unwrap_or_default()
}

impl Kind {
    /// The kind called `name`: one of [`NAMED`], or any structure of the table: a command or an event, a
    /// register, a descriptor. Case does not matter, nor whether `-`, `_` or a space parts words.
    ///
    /// # Errors
    /// [`UnknownKind`], with the nearest name.
    pub fn find(name: &str) -> Result<Self, UnknownKind> {
        let plain = plain(name);
        let table = |name: &str| structure::find(name).map(Self::One);
        let kind = match plain.as_str() {
            "event" | "evt" | "event-record" => Some(Self::Event),
            "cmd" | "command" => Some(Self::Command),
            "pte" | "descriptor" => Some(Self::Descriptor),
            "pri" | "ppr" => table("PPR"),
            "idr" | "idrs" => Some(Self::Idr),
            "gerror" => Some(Self::Gerror),
            "cmdq-cons" => Some(Self::CmdqCons),
            "features" => Some(Self::Features),
            _ => structure::ALL
                .iter()
                .find(|structure| self::plain(structure.name) == plain)
                .or_else(|| if is_number(name) { None } else { structure::find(name) })
                .map(Self::One),
        };
        kind.ok_or_else(|| {
            let names = NAMED.iter().map(|(name, _)| (*name).to_owned());
            let all = names.chain(structure::ALL.iter().map(|one| self::plain(one.name)));
            UnknownKind { name: name.to_owned(), nearest: nearest(&plain, all) }
        })
    }

    /// The name in records: one of [`NAMED`]; the name of the register or descriptor for others.
    pub fn name(self) -> String {
        let named = match self {
            Self::Event => "event",
            Self::Command => "cmd",
            Self::Descriptor => "pte",
            Self::Idr => "idr",
            Self::Gerror => "gerror",
            Self::CmdqCons => "cmdq-cons",
            Self::Features => "features",
            Self::One(structure) => match structure.class {
                Class::Event => "event",
                Class::Command => "cmd",
                Class::Request => "pri",
                Class::Descriptor => "pte",
                Class::Entry | Class::Register => return plain(structure.name),
            },
        };
        named.to_owned()
    }

    /// What words of the kind look like, where they have a fixed number.
    pub(super) fn shape(self, name: &str) -> Option<Shape<'_>> {
        let (bytes, plausible): (usize, Option<Plausible>) = match self {
            Self::Event => (32, Some(is_event)),
            Self::Command => (16, Some(is_command)),
            Self::Descriptor => (8, None),
            Self::CmdqCons => (4, None),
            Self::Idr | Self::Gerror | Self::Features => return None,
            Self::One(structure) => {
                let bytes = usize::try_from(structure.bits / 8).ok()?;
                let plausible: Option<Plausible> = match structure.class {
                    Class::Event => Some(is_event),
                    Class::Command => Some(is_command),
                    Class::Entry if structure.words > 1 => match structure.name {
                        "STE" => Some(is_ste),
                        _ => Some(is_cd),
                    },
                    _ => None,
                };
                (bytes, plausible)
            }
        };
        Some(Shape { name, bytes, plausible })
    }

    /// What messages call one of it: `an event record`, `an STE`, `CR0`.
    pub(super) fn with_article(self) -> String {
        match self {
            Self::Event => "an event record".to_owned(),
            Self::Command => "a command".to_owned(),
            Self::Descriptor => "a descriptor".to_owned(),
            Self::CmdqCons => "CMDQ_CONS".to_owned(),
            Self::Gerror => "GERROR".to_owned(),
            Self::Idr => "an ID register".to_owned(),
            Self::Features => "a line of features".to_owned(),
            Self::One(structure) => match structure.class {
                Class::Register => structure.name.to_owned(),
                Class::Request => "a page request".to_owned(),
                Class::Event => "an event record".to_owned(),
                _ => match structure.name {
                    "CD" => "a CD".to_owned(),
                    name if name.starts_with("CMD_") => "a command".to_owned(),
                    name => format!("an {name}"),
                },
            },
        }
    }
}

/// A name without case and without a difference between what parts words.
pub(super) fn plain(name: &str) -> String {
    let part = |c: char| if c == '_' || c == ' ' { '-' } else { c.to_ascii_lowercase() };
    name.trim().chars().filter(|c| !"(),".contains(*c)).map(part).collect()
}

/// A bare number names no kind: it could be a word that was meant.
fn is_number(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_digit())
}

fn unreserved(structure: &Structure, words: &[u64]) -> bool {
    structure.reserved(words).iter().all(|bits| *bits == 0)
}

fn is_event(words: &[u64]) -> bool {
    let id = words.first().and_then(|word| EventId::from_code((word & 0xff) as u8));
    id.is_some_and(|id| unreserved(structure::event(id), words))
}

fn is_command(words: &[u64]) -> bool {
    let opcode = words.first().and_then(|word| Opcode::from_code((word & 0xff) as u8));
    opcode.is_some_and(|opcode| unreserved(structure::command(opcode), words))
}

fn is_ste(words: &[u64]) -> bool {
    let valid = words.first().is_some_and(|word| word & 1 == 1);
    valid && structure::find("STE").is_some_and(|ste| unreserved(ste, words))
}

fn is_cd(words: &[u64]) -> bool {
    let valid = words.first().is_some_and(|word| word >> 31 & 1 == 1);
    valid && structure::find("CD").is_some_and(|cd| unreserved(cd, words))
}

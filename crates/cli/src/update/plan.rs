// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the driver does, step by step, and what hardware may find meanwhile (rule R4).

use serde::Serialize;
use smmuv3::update::{CdKind, Kind, SteKind, Words, critical};
use smmuv3_formats::command::{CfgiCd, CfgiSte, Sync};
use smmuv3_formats::ste::config;
use smmuv3_formats::{Cd, Command, Field, Layout, Ste, legality, meaning, structure};
use smmuv3_testbench::mixture::{self, History, everything, is_same};

use super::after::{After, after};
use super::recorder::{Act, record};
use crate::args::EntryKind;
use crate::command::Shown;
use crate::hex::{Hex, Word};

/// From one content to the other.
#[derive(Debug, Serialize)]
pub struct Plan {
    /// `STE` or `CD`.
    pub kind: &'static str,
    /// What the old entry does, and the new one.
    pub ends: [&'static str; 2],
    /// What the entry holds.
    pub from: [Word; 8],
    /// What it is to hold.
    pub to: [Word; 8],
    /// Neither end apart, hardware finds nothing.
    pub hitless: bool,
    /// How often hardware is told to read it anew, and waited for.
    pub syncs: u32,
    /// In order.
    pub steps: Vec<Step>,
    /// Fields that hardware looks at before and after, and that would have to change in more than one word at once:
    /// why it is not hitless.
    pub conflicts: Vec<Change>,
    /// What is wrong with either end.
    pub warnings: Vec<String>,
    /// What is easily forgotten.
    pub notes: Vec<&'static str>,
    /// What is to be done with caches of translations.
    pub after: Vec<After>,
}

/// Some stores, and a CFGI and a CMD_SYNC behind them.
#[derive(Debug, Serialize)]
pub struct Step {
    /// What it is for.
    pub purpose: &'static str,
    /// In order.
    pub stores: Vec<Store>,
    /// What hardware is told.
    pub commands: Vec<Shown>,
    /// What hardware may find from the first store until the CMD_SYNC is complete.
    pub seen: Vec<Seen>,
}

/// A word that changes.
#[derive(Debug, Serialize)]
pub struct Store {
    /// Which.
    pub word: usize,
    /// What it held.
    pub old: Word,
    /// What it holds.
    pub new: Word,
    /// Fields of it that change.
    pub fields: Vec<Change>,
}

/// A field that changes.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// Its name.
    pub name: &'static str,
    /// Its word.
    pub word: usize,
    /// Its highest bit.
    pub hi: u32,
    /// Its lowest.
    pub lo: u32,
    /// What it was.
    pub old: Hex,
    /// What that means, where it is more than a number.
    pub old_meaning: Option<String>,
    /// What it will be.
    pub new: Hex,
    /// What that means.
    pub new_meaning: Option<String>,
}

/// What some of the combinations mean.
#[derive(Debug, Serialize)]
pub struct Seen {
    /// What they are.
    pub meaning: Meaning,
    /// How many there are.
    pub combinations: usize,
    /// One of them.
    pub example: [Word; 8],
    /// What is wrong with that one, if it is something else.
    pub why: Option<String>,
}

/// What hardware takes a combination of words for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Meaning {
    /// What it was before.
    Old,
    /// What it is to be.
    New,
    /// Both mean the same to hardware.
    Either,
    /// One of them but for EATS, which is nobody's business while ATS is off in the device.
    OldOrNewAts,
    /// Invalid: transactions abort, and are reported.
    Invalid,
    /// Anything else.
    Mixture,
}

impl Plan {
    /// What the driver does to bring an entry of `kind` from `from` to `to`.
    pub fn new(kind: EntryKind, from: &Words, to: &Words, sid: u32, ssid: u32) -> Self {
        let (acts, updated) = match kind {
            EntryKind::Ste => record::<SteKind>(from, to),
            EntryKind::Cd => record::<CdKind>(from, to),
        };
        let differ = match kind {
            EntryKind::Ste => critical::<SteKind>(from, to),
            EntryKind::Cd => critical::<CdKind>(from, to),
        };
        let judge = Judge { kind, from: *from, to: *to };
        let cfgi: Command = match kind {
            EntryKind::Ste => CfgiSte::new().with_sid(sid.into()).with_leaf(true).into(),
            EntryKind::Cd => {
                CfgiCd::new().with_sid(sid.into()).with_ssid(ssid.into()).with_leaf(true).into()
            }
        };
        let mut steps = Vec::new();
        let (mut before, mut now) = (*from, *from);
        let mut stores = Vec::new();
        for act in acts {
            match act {
                Act::Store { index, value } => {
                    // There are eight.
                    let index = index & 7;
                    stores.push(store(kind, index, &now, value));
                    now[index] = value;
                }
                Act::Sync => {
                    steps.push(Step {
                        purpose: judge.purpose(&before, &now),
                        stores: std::mem::take(&mut stores),
                        commands: vec![cfgi.into(), Command::from(Sync::new()).into()],
                        seen: judge.seen(&before, &now),
                    });
                    before = now;
                }
            }
        }
        let words = differ.iter().filter(|bits| **bits != 0).count();
        let conflicts = if words < 2 { Vec::new() } else { changes(kind, from, to, &differ) };
        let ends = [("FROM", from), ("TO", to)];
        let warnings = ends.iter().filter_map(|(name, words)| judge.warning(name, words));
        let mut warnings: Vec<String> = warnings.collect();
        warnings.extend(judge.left_over());
        let notes = ats(kind, from, to).into_iter().chain(shared(kind)).collect();
        Self {
            kind: judge.name(),
            ends: [from, to].map(|words| judge.does(words)),
            from: from.map(Word),
            to: to.map(Word),
            hitless: updated.hitless && steps.iter().all(Step::is_hitless),
            syncs: updated.syncs,
            steps,
            conflicts,
            warnings,
            notes,
            after: after(kind, from, to, sid),
        }
    }
}

impl Step {
    fn is_hitless(&self) -> bool {
        self.seen.iter().all(|seen| seen.meaning < Meaning::Invalid)
    }
}

/// Between FROM and TO.
struct Judge {
    kind: EntryKind,
    from: Words,
    to: Words,
}

impl Judge {
    const fn name(&self) -> &'static str {
        match self.kind {
            EntryKind::Ste => "STE",
            EntryKind::Cd => "CD",
        }
    }

    const fn kind(&self) -> mixture::Kind {
        match self.kind {
            EntryKind::Ste => mixture::Kind::Ste,
            EntryKind::Cd => mixture::Kind::Cd,
        }
    }

    /// What hardware takes `words` for.
    fn meaning(&self, words: &Words) -> Meaning {
        let same = |other| is_same(self.kind(), words, other);
        match (same(&self.from), same(&self.to)) {
            (true, true) => Meaning::Either,
            (true, false) => Meaning::Old,
            (false, true) => Meaning::New,
            // V is bit 0 of word 0 of an STE, and bit 31 of a CD's.
            _ if !self.is_valid(words) => Meaning::Invalid,
            _ => {
                let history = History::new(self.kind(), 0, *words);
                match history.check(&[self.from, self.to]) {
                    Ok(()) => Meaning::OldOrNewAts,
                    Err(_) => Meaning::Mixture,
                }
            }
        }
    }

    fn is_valid(&self, words: &Words) -> bool {
        match self.kind {
            EntryKind::Ste => Ste(*words).v(),
            EntryKind::Cd => Cd(*words).v(),
        }
    }

    /// What hardware may find while words go from `before` to `now`, each of which it reads at some moment.
    fn seen(&self, before: &Words, now: &Words) -> Vec<Seen> {
        let changed: Vec<usize> = (0..8).filter(|&index| before[index] != now[index]).collect();
        let mut seen: Vec<Seen> = Vec::new();
        for number in 0..1usize << changed.len() {
            let mut words = *before;
            for (bit, &index) in changed.iter().enumerate() {
                if number >> bit & 1 != 0 {
                    words[index] = now[index];
                }
            }
            let meaning = self.meaning(&words);
            match seen.iter_mut().find(|seen| seen.meaning == meaning) {
                Some(seen) => seen.combinations += 1,
                None => {
                    let why = (meaning == Meaning::Mixture).then(|| self.why(&words)).flatten();
                    let example = words.map(Word);
                    seen.push(Seen { meaning, combinations: 1, example, why });
                }
            }
        }
        seen.sort_by_key(|seen| seen.meaning);
        seen
    }

    /// What is wrong with a mixture.
    fn why(&self, words: &Words) -> Option<String> {
        let illegal = self.illegal(words).map(|rule| rule.to_string());
        illegal.or_else(|| {
            let counted = mixture::counted(self.kind(), words);
            let other = |end: &Words| {
                let differ = std::array::from_fn(|i| (words[i] ^ end[i]) & counted[i]);
                let all = changes(self.kind, end, words, &differ);
                all.iter().map(|change| change.name).collect::<Vec<_>>().join(", ")
            };
            let (old, new) = (other(&self.from), other(&self.to));
            Some(format!("it is not the old one in {old}, nor the new one in {new}"))
        })
    }

    /// The rule that a valid entry breaks on every SMMU.
    fn illegal(&self, words: &Words) -> Option<legality::Rule> {
        if !self.is_valid(words) {
            return None;
        }
        match self.kind {
            EntryKind::Ste => legality::ste(&Ste(*words), &everything()).err(),
            EntryKind::Cd => {
                // Any stream that stage 1 translates.
                let ste = Ste::default().with_v(true).with_config(0b101);
                legality::cd(&Cd(*words), &ste, &everything()).err()
            }
        }
    }

    /// What is to be said of an end.
    fn warning(&self, name: &str, words: &Words) -> Option<String> {
        let rule = self.illegal(words)?;
        Some(format!("{name} is illegal on any SMMU: {rule}"))
    }

    /// Bits of TO that mean nothing: nobody is served by them, and an entry with them takes a step more to leave.
    fn left_over(&self) -> Option<String> {
        if !self.is_valid(&self.to) {
            return None;
        }
        let used = match self.kind {
            EntryKind::Ste => SteKind::used(&self.to),
            EntryKind::Cd => CdKind::used(&self.to),
        };
        let ignored = std::array::from_fn(|i| self.to[i] & !used[i]);
        let all = changes(self.kind, &[0; 8], &self.to, &ignored);
        let mut names: Vec<String> = all.iter().map(|change| change.name.to_owned()).collect();
        let mut reserved = self.to;
        for field in fields(self.kind) {
            reserved[field.word & 7] &= !field.mask();
        }
        let words = reserved.iter().enumerate().filter(|(_, bits)| **bits != 0);
        names.extend(words.map(|(word, bits)| format!("reserved bits {bits:#x} of word {word}")));
        if names.is_empty() {
            return None;
        }
        Some(format!("TO sets what hardware ignores in it, and should be 0: {}", names.join(", ")))
    }

    /// What an entry does.
    fn does(&self, words: &Words) -> &'static str {
        let (ste, cd) = (Ste(*words), Cd(*words));
        match self.kind {
            _ if !self.is_valid(words) => "invalid",
            EntryKind::Ste => match ste.config() {
                config::BYPASS => "bypass",
                config::STAGE_1 => "stage 1",
                config::STAGE_2 => "stage 2",
                config::NESTED => "both stages",
                _ => "abort",
            },
            EntryKind::Cd => match (cd.epd0(), cd.epd1()) {
                (true, true) => "no table",
                (false, true) => "the lower half's table",
                (true, false) => "the upper half's table",
                (false, false) => "two tables",
            },
        }
    }

    /// What a step is for.
    fn purpose(&self, before: &Words, now: &Words) -> &'static str {
        use Meaning::{Either, Invalid, New, Old, OldOrNewAts};
        match (self.meaning(before), self.meaning(now)) {
            (Invalid, Invalid) => "fill in the rest while it is invalid",
            (_, Invalid) => "make it invalid",
            (Invalid, _) => "make it valid",
            (Old, Old) => "prepare what hardware does not look at yet",
            (Old, New) if self.is_valid(before) && !self.is_valid(now) => "make it invalid",
            (Old, New) if !self.is_valid(before) && self.is_valid(now) => "make it valid",
            (Old | OldOrNewAts, New) => "switch over",
            (Old, OldOrNewAts) => "prepare what hardware does not look at, or does not care about",
            (New, New) => "clear what hardware does not look at any more",
            (Either, Either) => "change what hardware does not look at",
            _ => "change it",
        }
    }
}

fn fields(kind: EntryKind) -> &'static [Field] {
    match kind {
        EntryKind::Ste => Ste::FIELDS,
        EntryKind::Cd => Cd::FIELDS,
    }
}

/// Fields with one of `bits` among those that differ.
pub fn changes(kind: EntryKind, old: &Words, new: &Words, bits: &Words) -> Vec<Change> {
    let word = |words: &Words, field: &Field| words[field.word & 7];
    let differ = |field: &&Field| {
        (word(old, field) ^ word(new, field)) & word(bits, field) & field.mask() != 0
    };
    let structure = structure::find(match kind {
        EntryKind::Ste => Ste::NAME,
        EntryKind::Cd => Cd::NAME,
    });
    // The other fields of an invalid entry mean nothing.
    let valid = |words: &Words| match kind {
        EntryKind::Ste => Ste(*words).v(),
        EntryKind::Cd => Cd(*words).v(),
    };
    let means = |field: &Field, words: &Words| {
        if field.name != "V" && !valid(words) {
            return None;
        }
        // What an entry is prepared with means what it will mean once its stage translates.
        let words = match kind {
            EntryKind::Ste if field.name != "Config" => Ste(*words).with_config(config::NESTED).0,
            _ => *words,
        };
        let text = structure.and_then(|structure| meaning::of(structure, field, &words));
        text.map(|text| text.to_string())
    };
    let change = |field: &Field| Change {
        name: field.name,
        word: field.word,
        hi: field.hi,
        lo: field.lo,
        old: Hex(field.extract(word(old, field))),
        old_meaning: means(field, old),
        new: Hex(field.extract(word(new, field))),
        new_meaning: means(field, new),
    };
    fields(kind).iter().filter(differ).map(change).collect()
}

/// The word at `index` changed, of `old` and nothing else.
fn store(kind: EntryKind, index: usize, old: &Words, new: u64) -> Store {
    let mut bits = [0; 8];
    let mut words = *old;
    (bits[index], words[index]) = (u64::MAX, new);
    let fields = changes(kind, old, &words, &bits);
    Store { word: index, old: Word(old[index]), new: Word(new), fields }
}

/// What has to be so with ATS (§8.2).
fn ats(kind: EntryKind, from: &Words, to: &Words) -> Option<&'static str> {
    let (from, to) = (Ste(*from), Ste(*to));
    if kind != EntryKind::Ste || from.eats() == to.eats() || !(from.v() && to.v()) {
        return None;
    }
    let split = (from.eats() == 2) != (to.eats() == 2) && from.eats() != 0 && to.eats() != 0;
    Some(if split {
        "EATS must not go from full to split-stage ATS, or back, at once: through 0, with ATS off in the device"
    } else {
        "EATS changes: the device's ATS has to be off meanwhile; it is turned on after the last CMD_SYNC, or \
         turned off, and its ATC invalidated, before the first store"
    })
}

/// What a table of contexts asks for (§4.2).
fn shared(kind: EntryKind) -> Option<&'static str> {
    (kind == EntryKind::Cd).then_some(
        "an SMMU keeps a CD for each stream that leads to it: each needs a CMD_CFGI_CD of its own",
    )
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the driver and an instance talk to each other: command queues, completion, interrupts.

use smmuv3::Completion;

use super::Instance;
use super::source::Fields;

/// What an instance has for that, and what of it the driver uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queues {
    /// log2 of its enhanced command queues (IDR1.ECMDQ, IDR6), if it has any. The driver uses them.
    pub enhanced_log2: Option<u32>,
    /// How it tells the driver of completed commands.
    pub completion: Completion,
    /// How its interrupts reach the driver.
    pub interrupts: Interrupts,
}

/// How interrupts reach the driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interrupts {
    /// By one wire, whatever it is: the handler looks at everything.
    #[default]
    Combined,
    /// By a wire each.
    Wired,
    /// By messages, each to a word of its own. The handler runs when there is one.
    Messages,
}

/// The words for completions.
pub(super) const COMPLETIONS: [(&str, Completion); 4] = [
    ("poll", Completion::Poll),
    ("interrupt", Completion::Interrupt),
    ("event", Completion::Event),
    ("msi", Completion::Message),
];

/// The words for interrupts.
pub(super) const INTERRUPTS: [(&str, Interrupts); 3] = [
    ("combined", Interrupts::Combined),
    ("wired", Interrupts::Wired),
    ("msi", Interrupts::Messages),
];

/// The most enhanced queues of an instance: as many as the model has room for.
const MOST: u64 = 4096;

/// Reads them.
pub(super) fn read(fields: &Fields<'_>) -> Queues {
    let count = fields.number("ecmdq", 0..=MOST).unwrap_or(0);
    if count != 0 && !count.is_power_of_two() {
        let what = format!("ecmdq = {count} in {}; it is 0 or a power of two", fields.what);
        fields.source.wrong_at(fields.places().of("ecmdq"), what);
    }
    Queues {
        enhanced_log2: (count != 0).then(|| count.ilog2()),
        completion: fields.word("completion", &COMPLETIONS).unwrap_or_default(),
        interrupts: fields.word("interrupts", &INTERRUPTS).unwrap_or_default(),
    }
}

/// What does not go together: the key of it, and what is wrong.
pub(super) fn contradiction(instance: &Instance) -> Option<(&'static str, &'static str)> {
    let Queues { enhanced_log2, interrupts, .. } = instance.queues;
    if interrupts == Interrupts::Messages && !instance.msi {
        return Some(("interrupts", "interrupts = \"msi\" without msi = true"));
    }
    if enhanced_log2.is_some() && !instance.coherent {
        return Some(("ecmdq", "ecmdq with coherent = false; such queues are coherent"));
    }
    None
}

/// The word for a value.
pub(super) fn word<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> &'static str {
    words.iter().find(|(_, meaning)| meaning == value).map_or("?", |(word, _)| word)
}

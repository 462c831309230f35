// SPDX-License-Identifier: MIT OR Apache-2.0
//! One structure's words out of text, as people and tools write them.
//!
//! Understood are numbers (`0x8002000b`, `8002000b`, `0x8002_000b`, `0x8002000bULL`; always hexadecimal) parted
//! by spaces, lines, commas or brackets, and what these tools print, with or without their addresses:
//! `xxd`, `xxd -p`, `xxd -e`, `hexdump`, `hexdump -C`, `od -t x1|x2|x4|x8`, QEMU's `xp`, gdb's `x` and `p/x`,
//! crash's `rd`, U-Boot's `md`, `devmem`, `devmem2`, and the words in a line of a kernel log.
//!
//! How many numbers there are tells their size: an event record is 4 numbers of 64 bits, 8 of 32, 16 of 16, or
//! 32 bytes. Numbers lie in memory in the order in which they are given, the low half of a word first;
//! [`Order`] asks for others. Lines with addresses are put in their order, and must leave no gap.

use core::fmt;

mod assemble;
mod lex;

#[cfg(test)]
mod tests;

/// Most characters of a text that is worth reading: a hundred times what the longest dump of a structure has.
pub const MOST_TEXT: usize = 1 << 20;

/// In which order the parts of a structure are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Order {
    /// As in memory. Where that makes no sense for the kind (a reserved code, reserved bits, V = 0) and exactly
    /// one other order does, that one.
    #[default]
    Auto,
    /// As in memory: word 0 first, the low half of a word first, the least significant byte first.
    Memory,
    /// The high half of each 64-bit word before its low half.
    HighFirst,
    /// The last number first.
    LastFirst,
    /// Each number shows its bytes as they lie in memory (`xxd -g 8`); of bytes, each 64-bit word's most
    /// significant one first.
    SwappedBytes,
}

impl Order {
    /// Every order that can be asked for.
    pub const ALL: [Self; 5] =
        [Self::Auto, Self::Memory, Self::HighFirst, Self::LastFirst, Self::SwappedBytes];

    /// The name that asks for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Memory => "memory",
            Self::HighFirst => "high-first",
            Self::LastFirst => "last-first",
            Self::SwappedBytes => "swapped-bytes",
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether words make sense for their kind.
pub type Plausible = fn(&[u64]) -> bool;

/// What is to be read.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'a> {
    /// Its name with an article, for messages: `an event record`.
    pub name: &'a str,
    /// Bytes that it takes: 4, or a multiple of 8.
    pub bytes: usize,
    /// Whether words make sense, where that can be told: then [`Order::Auto`] tries other orders.
    pub plausible: Option<Plausible>,
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// 64-bit words, or one of 32 bits where [`Shape::bytes`] is 4.
    pub words: Vec<u64>,
    /// The order in which they were found; never [`Order::Auto`].
    pub order: Order,
    /// Whether that was neither asked for nor told by the form: no other order makes sense.
    pub deduced: bool,
}

/// Why there are no words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// There is no number in it.
    #[error("no words were given; {0}")]
    Empty(Need),
    /// Something is no hexadecimal number.
    #[error(
        "{token:?} is no hexadecimal number; give words as 0x8002000b or 8002000b, or a dump of xxd, \
         hexdump -C, od, xp, gdb, crash or U-Boot; a whole kernel log goes to smmuv3 decode FILE"
    )]
    NotHex {
        /// What stands there.
        token: String,
    },
    /// A number has more than 64 bits.
    #[error("{token} has more than 64 bits; give 64-bit words apart, word 0 first")]
    TooLong {
        /// The number.
        token: String,
    },
    /// A string of bytes has half a byte.
    #[error("{token} has an odd number of digits: half a byte is missing; give all of it")]
    HalfByte {
        /// The string.
        token: String,
    },
    /// A number is too large for what it is.
    #[error("{value:#x} does not fit in the 32 bits of {name}")]
    DoesNotFit {
        /// The number.
        value: u64,
        /// What it should be, with an article.
        name: String,
    },
    /// There are too few or too many.
    #[error("{need}; given: {given} {} of up to {size}", if *given == 1 { "number" } else { "numbers" })]
    Count {
        /// How many numbers there are.
        given: usize,
        /// Of which size they seem to be.
        size: String,
        /// What there should be.
        need: Need,
    },
    /// Lines of a dump are missing, or there twice.
    #[error(
        "the dump goes on at {next:#x} where {expected:#x} was expected; give all lines of one structure"
    )]
    Gap {
        /// The address that follows the line before.
        expected: u64,
        /// The address of the line.
        next: u64,
    },
    /// The words can be read in more than one way.
    #[error("the order of these words is not clear: {}", ways(.orders))]
    Ambiguous {
        /// Orders that are possible.
        orders: Vec<Order>,
    },
    /// Several numbers of a line have names, and these do not count words.
    #[error(
        "{name:?} names a number between others; give the numbers alone, or a line each, word 0 first"
    )]
    Named {
        /// The name that does not fit.
        name: String,
    },
    /// The text is too long for one structure.
    #[error(
        "the text is too long for one structure; a whole kernel log goes to smmuv3 decode FILE"
    )]
    TooMuch,
}

/// How much a structure needs, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// The structure, with an article.
    pub name: String,
    /// Its bytes.
    pub bytes: usize,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, bytes } = self;
        if *bytes == 4 {
            return write!(f, "{name} is one 32-bit number, or 4 bytes");
        }
        let (words, halves) = (bytes / 8, bytes / 4);
        let plural = if words == 1 { "" } else { "s" };
        write!(
            f,
            "{name} is {words} 64-bit word{plural}, or {halves} 32-bit words, or {bytes} bytes"
        )
    }
}

fn ways(orders: &[Order]) -> String {
    let ways: Vec<String> = orders.iter().map(|order| format!("--order {order}")).collect();
    format!("give {}; see smmuv3 decode --help", ways.join(" or "))
}

/// Names and the numbers beside them, two or more: `GERROR: 0x1 GERRORN: 0x0`, over several lines or in one;
/// `None` where there is anything else.
pub(super) fn labelled(text: &str) -> Option<Vec<(&str, &str)>> {
    lex::labelled(text)
}

/// The words of one structure of `shape`, in any form that the module lists.
///
/// # Errors
/// [`WordsError`]: something is no number, there are too few or too many, or their order is not clear.
pub fn parse(text: &str, shape: &Shape<'_>, order: Order) -> Result<Words, WordsError> {
    let need = || Need { name: shape.name.to_owned(), bytes: shape.bytes };
    let mut failure = None;
    // What could be an offset without a colon could be a word, too: what fits is taken.
    for lines in lex::readings(text)? {
        match assemble::assemble(&lines, shape, order) {
            Ok(words) => return Ok(words),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(failure.unwrap_or_else(|| WordsError::Empty(need())))
}

/// 32-bit registers in the order given, however many there are: numbers, or a dump of bytes or words. A
/// number of more than 8 digits is two registers, the low half first.
///
/// # Errors
/// [`WordsError`]: something is no number, or lines of a dump are missing.
pub fn registers(text: &str, order: Order) -> Result<Vec<u32>, WordsError> {
    let mut failure = None;
    for lines in lex::readings(text)? {
        match assemble::registers(&lines, order) {
            Ok(words) => return Ok(words),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    let name = "a register".to_owned();
    Err(failure.unwrap_or(WordsError::Empty(Need { name, bytes: 4 })))
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operands of `encode` and `fields`.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use smmuv3_decode::structure::words::Order;

/// Operands of `encode`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Encode {
    /// What to make: ste, cd, cmd, event, ..., a command, an event or a register by its name
    pub kind: String,

    /// Fields and their values: numbers such as 5, 0x5, 0b101, or true and false, or the name that a
    /// value has. Fields that are not given are 0; `-` reads them from standard input
    #[arg(value_name = "FIELD=VALUE")]
    pub fields: Vec<String>,

    /// How to print: 64-bit words, 32-bit words with the low half first, or bytes as in memory
    #[arg(long, value_name = "FORM", default_value = "words64")]
    pub format: WordFormat,

    /// The instance that it is for, as in smmuv3 decode
    #[arg(long, value_name = "REGISTERS")]
    pub idr: Option<String>,

    /// The STE through which a CD is reached, as in smmuv3 decode
    #[arg(long, value_name = "WORDS")]
    pub ste: Option<String>,

    /// Print all that is known of it as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// How words are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WordFormat {
    /// 64-bit words; a 32-bit register as one of 32 bits
    Words64,
    /// 32-bit words, the low half of each 64-bit word first
    Words32,
    /// Bytes as they lie in memory
    Bytes,
}

/// Operands of `fields`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Fields {
    /// What to show; everything there is when nothing is said
    pub kind: Option<String>,

    /// Draw the bits as a picture (SVG) on standard output
    #[arg(long, requires = "kind", conflicts_with = "json")]
    pub svg: bool,

    /// Print a JSON array with one object a field: structure, name, word, hi, lo, section
    #[arg(long)]
    pub json: bool,
}

/// An order of words by its name.
pub fn order() -> impl TypedValueParser<Value = Order> {
    let names = PossibleValuesParser::new(Order::ALL.map(Order::name));
    // One of them.
    names.map(|name| Order::ALL.into_iter().find(|one| one.name() == name).unwrap_or_default())
}

pub const ENCODE_EXAMPLES: &str = "\
Examples:
  smmuv3 encode ste v=1 config=s1 s1contextptr=0x80020000 s1cir=1 s1cor=1 s1csh=3
  smmuv3 encode cfgi_ste sid=0x100 leaf=1             a command by its name
  smmuv3 encode cmd opcode=0x46 cs=1 --format words32
  smmuv3 encode cr0 smmuen=1 eventqen=1 cmdqen=1      a register
  smmuv3 encode cd v=1 aa64=1 asid=0x105 --idr qemu   judged for a certain instance
  smmuv3 encode f_translation sid=0x180 class=2 addr=0xffffe040 | smmuv3 decode event -

Exit status: 0 when the words are legal; 1 when hardware would reject them, or reserved bits are set:
the words are printed all the same, and what is wrong on standard error; 2 when a field is unknown,
or a value does not fit.";

pub const FIELDS_EXAMPLES: &str = "\
Examples:
  smmuv3 fields                          every structure, command, event and register
  smmuv3 fields ste                      the fields of an STE, and a picture of its bits
  smmuv3 fields cmd_tlbi_nh_va           a command
  smmuv3 fields strtab_base_cfg          a register
  smmuv3 fields cd --svg > cd.svg        a picture for a page
  smmuv3 fields --json                   all fields of everything, for programs

Exit status: 0 when it was shown; 2 when there is no such structure.";

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operands of `encode` and `fields`.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use smmuv3_decode::structure::Place;
use smmuv3_decode::structure::words::Order;
use smmuv3_formats::descriptor::Stage;
use smmuv3_formats::granule::Granule;

/// Where a descriptor lies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "A pte")]
pub struct Where {
    /// The stage of its table [default: 1]
    #[arg(long, value_name = "1|2", value_parser = stage)]
    pub stage: Option<Stage>,

    /// The level of its table, -1 to 3 [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i8).range(-1..=3))]
    #[arg(allow_negative_numbers = true)]
    pub level: Option<i8>,

    /// The granule of its table, 4k, 16k or 64k [default: 4k]
    #[arg(long, value_name = "SIZE", value_parser = granule)]
    pub granule: Option<Granule>,

    /// Bits of the largest output address [default: 48, or 52 with --ds]
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u32).range(32..=56))]
    pub oas: Option<u32>,

    /// Its tables are those of LPA2 (CD.DS, STE.S2DS)
    #[arg(long)]
    pub ds: bool,

    /// Permissions are indirect (CD.PIE, STE.S2PIE)
    #[arg(long)]
    pub pie: bool,

    /// Stage 2 forces memory types (STE.S2FWB)
    #[arg(long)]
    pub fwb: bool,
}

impl Where {
    /// As the decoder takes it.
    pub fn place(&self) -> Place {
        let Self { stage, level, granule, oas: output_bits, ds, pie, fwb } = *self;
        Place { stage, level, granule, ds, output_bits, pie, fwb }
    }
}

/// A stage, `1` or `2`.
fn stage(text: &str) -> Result<Stage, String> {
    match text {
        "1" => Ok(Stage::One),
        "2" => Ok(Stage::Two),
        _ => Err("a stage is 1 or 2".to_owned()),
    }
}

/// A granule, `4k`, `16k` or `64k`.
fn granule(text: &str) -> Result<Granule, String> {
    match text.to_ascii_lowercase().trim_end_matches("ib").trim_end_matches('b') {
        "4k" | "4096" => Ok(Granule::K4),
        "16k" | "16384" => Ok(Granule::K16),
        "64k" | "65536" => Ok(Granule::K64),
        _ => Err("a granule is 4k, 16k or 64k".to_owned()),
    }
}

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

    /// Where a descriptor lies.
    #[command(flatten)]
    pub place: Where,

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
  smmuv3 encode ste v=1 config=s1 s1contextptr=0x80020000 s1cir=1 s1csh=3
  smmuv3 encode cfgi_ste sid=0x100 leaf=1            a command by its name
  smmuv3 encode cmd opcode=0x46 cs=1 --format words32
  smmuv3 encode cr0 smmuen=1 eventqen=1 cmdqen=1     a register
  smmuv3 encode pte --level 2 type=1 oa=0x80000000 af=1
  smmuv3 encode cd v=1 aa64=1 asid=0x105 --idr qemu  judged for an instance
  smmuv3 encode f_translation sid=0x180 class=2 | smmuv3 decode event -

Exit status: 0 when the words are legal; 1 when hardware would reject them, or reserved bits are set \
(the words are printed all the same, and what is wrong on standard error); 2 when a field is unknown, \
or a value does not fit.";

pub const FIELDS_EXAMPLES: &str = "\
Examples:
  smmuv3 fields                    every structure, command, event and register
  smmuv3 fields ste                the fields of an STE, and its bits drawn
  smmuv3 fields cmd_tlbi_nh_va     a command
  smmuv3 fields strtab_base_cfg    a register
  smmuv3 fields cd --svg > cd.svg  a picture for a page
  smmuv3 fields --json             all fields of everything, for programs

Exit status: 0 when it was shown; 2 when there is no such structure.";

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any words as any structure, in any place and of any instance: they are explained, or refused with an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smmuv3_decode::structure::{Instance, Kind, NAMED, Options, Place, Value, decode};
use smmuv3_formats::descriptor::Stage;
use smmuv3_formats::granule::Granule;
use smmuv3_formats::structure::ALL;

/// A kind by number, and how many of the words it is given; a place in four bytes; the instance and the STE.
type Input = (u16, u8, [u64; 8], [u8; 4], Option<[u32; 8]>, Option<[u64; 8]>);

fuzz_target!(|input: Input| {
    let (kind, count, words, [stage, level, granule, flags], idr, ste) = input;
    let kind = match usize::from(kind) % (NAMED.len() + ALL.len()) {
        named if named < NAMED.len() => Kind::find(NAMED[named].0).expect("it is named"),
        other => Kind::One(&ALL[other - NAMED.len()]),
    };
    let granules = [Granule::K4, Granule::K16, Granule::K64];
    let place = Place {
        stage: [None, Some(Stage::One), Some(Stage::Two)][usize::from(stage % 3)],
        level: (level < 5).then(|| level as i8 - 1),
        granule: granules.get(usize::from(granule % 4)).copied(),
        ds: flags & 1 != 0,
        output_bits: (flags & 2 != 0).then_some(32 + u32::from(flags >> 4) % 25),
        pie: flags & 4 != 0,
        fwb: flags & 8 != 0,
    };
    let instance = idr.and_then(|words| Instance::of_words(&words).ok()).unwrap_or_default();
    let options = Options { instance, ste, place, ..Options::default() };
    // As many as it has, unless that is to be wrong.
    let need = match kind {
        Kind::One(one) => one.words,
        Kind::Event => 4,
        Kind::Command => 2,
        _ => 1 + usize::from(count % 8),
    };
    let need = if count > 240 { usize::from(count % 9) } else { need };
    let mut words = words[..need.min(8)].to_vec();
    let is_narrow = matches!(kind, Kind::Idr | Kind::Gerror | Kind::CmdqCons | Kind::Features)
        || matches!(kind, Kind::One(one) if one.bits == 32);
    if is_narrow && count < 200 {
        words.iter_mut().for_each(|word| *word &= 0xffff_ffff);
    }
    if let Kind::One(one) = kind
        && let (Some(code), Some(word)) = (one.code, words.first_mut())
        && count < 200
    {
        *word = *word & !0xff | u64::from(code);
    }
    match decode(kind, &words, &options) {
        Ok(decoded) => {
            let json = serde_json::to_string(&decoded).expect("JSON");
            assert!(json.starts_with("{\"kind\""), "{json}");
            for field in &decoded.described {
                // Addresses are told whole, not as the bits that are in the word.
                if let Value::Number(value) = field.value {
                    assert!(value >> (field.hi - field.lo) < 2, "{} {value:#x}", field.name);
                }
            }
            decoded.illegal.iter().for_each(|illegal| drop(illegal.to_string()));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});

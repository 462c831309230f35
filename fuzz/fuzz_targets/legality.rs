// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any words as entries, commands and records of any instance: they are judged, and rules have their places.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smmuv3_formats::legality::{self, Implementation, Rule};
use smmuv3_formats::register::{Aidr, Idr0, Idr1, Idr3, Idr5};
use smmuv3_formats::{Cd, Command, EventRecord, L1Cd, L1Std, PageRequest, Ste};

/// Words of an entry, those of its STE where it is a CD, and ID registers.
type Input = ([u64; 8], [u64; 8], [u32; 5], bool, bool);

fuzz_target!(|input: Input| {
    let (words, ste, [idr0, idr1, idr3, idr5, aidr], e2h, known) = input;
    let implementation = Implementation {
        idr0: Idr0(idr0),
        idr1: Idr1(idr1),
        idr3: Idr3(idr3),
        idr5: Idr5(idr5),
        aidr: Aidr(aidr),
        e2h,
    };
    let [w0, w1, w2, w3, ..] = words;
    let found = &mut |rule: Rule| {
        assert!(
            rule.section.starts_with(|first: char| first.is_ascii_digit())
                || rule.section.starts_with("App"),
            "{rule}"
        );
        assert!(!rule.field.is_empty() && !rule.text.is_empty());
    };
    let ste = Ste(ste);
    let first = [
        legality::ste(&Ste(words), &implementation),
        legality::cd(&Cd(words), &ste, &implementation),
        legality::command(&Command([w0, w1]), &implementation),
    ];
    first.into_iter().filter_map(Result::err).for_each(&mut *found);
    let some = known.then_some(&implementation);
    legality::ste_reserved(&Ste(words), some, found);
    legality::cd_reserved(&Cd(words), some, found);
    legality::l1_std(&L1Std([w0]), known.then_some(w1), some, found);
    legality::l1_cd(&L1Cd([w0]), known.then_some(&ste), some, found);
    legality::event(&EventRecord([w0, w1, w2, w3]), some, found);
    legality::page_request(&PageRequest([w0, w1]), some, found);
    legality::registers(&legality::IdRegisters::from(&implementation), found);
});

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every rule of §7, and the last column of §4.1, through the model: a row for each breaks it alone, beside the
//! nearest entry that does not.

mod cd;
mod command;
mod ste;

use smmuv3_formats::EventId;
use smmuv3_formats::register::{Idr0, Idr1, Idr3, Idr5};
use smmuv3_model::{Access, Profile, Reason};

use crate::machine::*;
use crate::stage_2::both;

/// Changes of the instance.
type Change = fn(&mut Profile);

/// Words of an entry that are not the base's: which, and what is set and cleared.
type Edit = &'static [(usize, u64, u64)];

fn with(mut words: [u64; 8], edit: Edit) -> [u64; 8] {
    for (word, set, clear) in edit {
        words[*word] = words[*word] & !clear | set;
    }
    words
}

fn profile(change: Change) -> Profile {
    let mut profile = both();
    change(&mut profile);
    profile
}

fn idr0(profile: &mut Profile, change: fn(Idr0) -> Idr0) {
    profile.idr0 = change(profile.idr0);
}

fn idr1(profile: &mut Profile, change: fn(Idr1) -> Idr1) {
    profile.idr1 = change(profile.idr1);
}

fn idr3(profile: &mut Profile, change: fn(Idr3) -> Idr3) {
    profile.idr3 = change(profile.idr3);
}

fn idr5(profile: &mut Profile, change: fn(Idr5) -> Idr5) {
    profile.idr5 = change(profile.idr5);
}

/// Whether a transaction of `SID` finds `event`; then it is terminated, and the event recorded.
fn is_refused(machine: &mut Machine, event: EventId, name: &str) -> bool {
    let access = Access::read(SID, VA);
    let bad = match machine.translate(access) {
        Err(refusal) => refusal.reason == Reason::Event(event),
        Ok(_) => false,
    };
    let recorded: Vec<_> = machine.events().iter().map(|record| record.0[0] & 0xff).collect();
    assert_eq!(bad, recorded.contains(&(event as u64)), "{name}");
    bad
}

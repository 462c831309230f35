// SPDX-License-Identifier: MIT OR Apache-2.0
//! Wrong ways to change an entry, each of which must be caught.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::marker::PhantomData;

use smmuv3_formats::Field;

use super::*;

#[test]
fn a_writer_that_takes_no_steps_is_caught() {
    for (kind, (name, ends, (syncs, _))) in cases() {
        let result = Live::change(kind, ends, |live| {
            for (index, word) in live.to.into_iter().enumerate() {
                // SAFETY: no hardware reads it.
                unsafe { live.entry.store(&live.platform, index, word) };
            }
            live.sync()
        });
        // One SYNC is enough where one word changes.
        assert_eq!(matches!(result, Err(Wrong::Mixture(_))), syncs > 1, "{name}: {result:x?}");
    }
}

#[test]
fn a_writer_that_leaves_out_any_sync_is_caught() {
    for (kind, (name, ends, (syncs, _))) in cases() {
        for missing in 0..syncs {
            let result = Live::change(kind, ends, |live| {
                let mut number = 0..;
                let sync = || if number.next() == Some(missing) { Ok(()) } else { live.sync() };
                let (platform, entry, to) = (&live.platform, live.entry, &live.to);
                // SAFETY: as above.
                unsafe {
                    match kind {
                        mixture::Kind::Ste => update::<_, SteKind, _>(platform, entry, to, sync),
                        mixture::Kind::Cd => update::<_, CdKind, _>(platform, entry, to, sync),
                    }
                }
            });
            // Where nothing but EATS and MEV is prepared, R4 would do without that SYNC.
            let superfluous = name == "21" && missing == 0;
            assert_eq!(result.is_err(), !superfluous, "{name} without SYNC {missing}: {result:x?}");
        }
    }
}

#[test]
fn a_writer_that_goes_through_a_third_configuration_is_caught() {
    let result = Live::change(mixture::Kind::Ste, [stage_1().0, stage_2().0], |live| {
        for target in [abort().0, live.to] {
            let sync = || live.sync();
            // SAFETY: as above.
            unsafe { update::<_, SteKind, _>(&live.platform, live.entry, &target, sync) }?;
        }
        Ok(())
    });
    assert!(matches!(result, Err(Wrong::Mixture(_))), "{result:x?}");
}

thread_local! {
    /// Word and bits that [`Forgetful`] forgets.
    static FORGOTTEN: Cell<(usize, u64)> = const { Cell::new((0, 0)) };
}

/// A driver that takes one field for unused.
struct Forgetful<K>(PhantomData<K>);

impl<K: Kind> Kind for Forgetful<K> {
    fn used(words: &Words) -> Words {
        let (word, bits) = FORGOTTEN.get();
        let mut used = K::used(words);
        used[word] &= !bits;
        used
    }

    fn indifferent(old: &Words, new: &Words) -> Words {
        K::indifferent(old, new)
    }
}

/// Whether an update that forgets `field` is caught between `ends`.
fn is_caught<K: Kind>(kind: mixture::Kind, field: &Field, ends: [Words; 2]) -> bool {
    FORGOTTEN.set((field.word, field.mask()));
    let result = Live::change(kind, ends, |live| live.update::<Forgetful<K>>());
    matches!(result, Err(Wrong::Mixture(_)))
}

fn with(words: Words, field: &Field, value: u64) -> Option<Words> {
    let mut changed = words;
    changed[field.word] = field.insert(words[field.word], value).ok()?;
    Some(changed)
}

/// The fields whose loss is not caught: neither in the table of transitions, nor between entries of `bases` that
/// differ in the field and in `other` or `another`, whichever is in another word.
fn uncaught<K: Kind>(
    kind: mixture::Kind,
    fields: &'static [Field],
    bases: &[Words],
    others: [(&str, u64); 2],
) -> BTreeSet<&'static str> {
    let caught = |field: &&Field| {
        let others = others
            .map(|(name, value)| (fields.iter().find(|field| field.name == name).unwrap(), value));
        let (other, value) =
            others.into_iter().find(|(other, _)| other.word != field.word).unwrap();
        let synthetic = bases.iter().flat_map(|base| {
            let from = with(*base, other, value).unwrap();
            [0, 1, 2, 3, 0x11, 0x19, 0x8008_0000].map(|value| {
                let ends = [from, with(*base, field, value)?];
                let counts =
                    ends.iter().all(|end| counted(kind, end)[field.word] & field.mask() != 0);
                (counts && ends.iter().all(|end| is_legal(kind, *end))).then_some(ends)
            })
        });
        let table = cases().into_iter().filter(|case| case.0 == kind).map(|(_, case)| case.1);
        table.chain(synthetic.flatten()).any(|ends| is_caught::<K>(kind, field, ends))
    };
    fields.iter().filter(|field| !caught(field)).map(|field| field.name).collect()
}

#[test]
fn an_update_that_forgets_any_field_is_caught() {
    let partitioned = nested().with_s1_mpam(true);
    let overlaid = nested().with_s2_pie(true).with_s2_poe(true);
    let bases = [stage_1(), stage_1_bypassed(), nested(), partitioned, overlaid].map(|ste| ste.0);
    let others = [("S1ContextPtr", 0x8007_0000), ("INSTCFG", 2)];
    let never = [
        // Right at any time; not for hardware; not for Non-secure streams.
        "MEV",
        "SW_RESERVED",
        "NSCFG",
        "S2NSW",
        "S2NSA",
        "S2SW",
        "S2SA",
        "S_S2T0SZ",
        "S_S2SL0",
        "S_S2TG",
        "S_S2SL0_2",
        "S_S2TTB",
        "S_S2SKL",
    ];
    assert_eq!(
        uncaught::<SteKind>(mixture::Kind::Ste, Ste::FIELDS, &bases, others),
        BTreeSet::from(never)
    );
    let both = context(5, 0x8001_0000).with_epd1(false).with_t1sz(16).with_tg1(2);
    let others = [("MAIR", 0xff), ("ASID", 6)];
    assert_eq!(
        uncaught::<CdKind>(mixture::Kind::Cd, Cd::FIELDS, &[both.0], others),
        BTreeSet::new()
    );
}

/// A driver that takes bit 0 of EATS for indifferent, come what may.
enum Careless {}

impl Kind for Careless {
    fn used(words: &Words) -> Words {
        SteKind::used(words)
    }

    fn indifferent(_: &Words, _: &Words) -> Words {
        Ste(INVALID).with_mev(true).with_eats(1).0
    }
}

#[test]
fn an_update_to_which_ats_is_always_indifferent_is_caught() {
    for (from, to) in [
        // Both stalls and ATS.
        (stage_1().with_eats(1), stage_2().with_s2_s(true)),
        (stage_2().with_s2_s(true), stage_1().with_eats(1)),
        // Split-stage ATS before its contexts.
        (nested().with_eats(3), nested().with_eats(2).with_s1_context_ptr(0x8003_0000)),
    ] {
        let result =
            Live::change(mixture::Kind::Ste, [from.0, to.0], |live| live.update::<Careless>());
        assert!(matches!(result, Err(Wrong::Mixture(_))), "{from:?} to {to:?}: {result:x?}");
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! The walk against the model with both stages: random streams of stage 1, stage 2 and both, LPA2 and 52-bit tables,
//! flags that hardware sets, some words damaged or unreadable, and random accesses.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use common::Random;
use common::build::{BASE, BYTES, Builder};
use smmuv3_formats::Ste;
use smmuv3_formats::descriptor::Stage;
use smmuv3_formats::register::{Cr0, Cr0Ack, Cr2, StrtabBase, StrtabBaseCfg};
use smmuv3_model::Memory as _;
use smmuv3_model::{Adversary, Model, Observation, Profile, Ram, Reason};
use smmuv3_walk::{Access, Ending, Gap, Memory, Outcome, Smmu, walk};

const STREAMS: u64 = 3;

/// The model's memory, for the walk.
struct Same<'a>(&'a Ram);

impl Memory for Same<'_> {
    fn read64(&self, pa: u64) -> Result<u64, Gap> {
        self.0.read64(pa).map_err(|_| Gap::Abort)
    }
}

/// What both say, in the same words.
#[derive(Debug, PartialEq)]
enum Said {
    Translated { address: u64, bytes_log2: u32 },
    Silent,
    Event { words: [u64; 4], recorded: bool, abort: bool },
}

/// Leaves in which hardware sets flags: those of stage 2 by address, those of stage 1 only counted, since the walk
/// has their intermediate addresses and the model the physical ones.
#[derive(Debug, Default, PartialEq)]
struct Updates {
    first: usize,
    second: BTreeSet<u64>,
}

/// `None` for what neither is to implement.
fn walked(ram: &Ram, smmu: &Smmu, access: Access) -> Option<(Said, Updates)> {
    let walk = walk(&Same(ram), smmu, access);
    let mut updates = Updates::default();
    let said = match walk.outcome {
        Outcome::Translated(found) => {
            for text in &found.updates {
                let (_, address) = text.rsplit_once("0x").unwrap();
                let address = u64::from_str_radix(address, 16).unwrap();
                if text.contains("stage-2") {
                    updates.second.insert(address);
                } else {
                    updates.first += 1;
                }
            }
            Said::Translated { address: found.address, bytes_log2: found.bytes_log2 }
        }
        Outcome::Silent { .. } => Said::Silent,
        Outcome::Fault(fault) => {
            // What is not recorded has no words.
            let words = if fault.recorded { fault.event.0 } else { [fault.id as u64, 0, 0, 0] };
            Said::Event { words, recorded: fault.recorded, abort: fault.ending == Ending::Abort }
        }
        _ => return None,
    };
    Some((said, updates))
}

fn modelled(model: &mut Model<Rc<Ram>>, access: Access) -> Option<Said> {
    let refusal = match model.translate(smmuv3_model::Access {
        stream: access.stream,
        substream: access.substream,
        address: access.address,
        write: access.write,
        privileged: access.privileged,
        instruction: access.instruction,
    }) {
        Ok(found) => {
            let bytes_log2 = found.size.trailing_zeros();
            return Some(Said::Translated { address: found.pa, bytes_log2 });
        }
        Err(refusal) => refusal,
    };
    let (id, abort) = match refusal.reason {
        Reason::Config => return Some(Said::Silent),
        Reason::Event(id) => (id, true),
        Reason::Ignored(id) => (id, false),
        Reason::Unsupported(_) => return None,
        other => panic!("{other:?}"),
    };
    let words = refusal.event.map_or([id as u64, 0, 0, 0], |event| event.0);
    Some(Said::Event { words, recorded: refusal.event.is_some(), abort })
}

#[derive(Debug, Default)]
struct Counts {
    /// By Config.
    translated: BTreeMap<u64, u32>,
    unsupported: u32,
    /// By event, whether of stage 2, and CLASS.
    events: BTreeMap<(u64, bool, u64), u32>,
    updates: [u32; 2],
}

/// Varies what the builder leaves as it is in the entry of a stream.
fn vary(ram: &Ram, random: &mut Random, stream: u64) {
    let at = BASE + 64 * stream;
    let mut ste = Ste([0, 1, 2, 3, 4, 5, 6, 7].map(|word| ram.read64(at + 8 * word).unwrap()));
    if ste.config() & 0b010 != 0 {
        ste = ste.with_s2_ha(random.one_in(3)).with_s2_affd(random.one_in(4));
        ste = ste.with_s2_hd(ste.s2_ha() && random.one_in(2)).with_s2_ptw(random.one_in(4));
        ste = ste.with_s2_r(!random.one_in(6)).with_s2_vmid(random.below(0x108));
        if random.one_in(8) {
            ste = ste.with_s2_ps(random.below(7));
        }
    }
    if random.one_in(3) {
        ste = ste.with_priv_cfg(random.below(4)).with_inst_cfg(random.below(4));
    }
    for (index, word) in (0u64..).zip(ste.0) {
        ram.write64(at + 8 * index, word).unwrap();
    }
}

fn compare(seed: u64, counts: &mut Counts) {
    let mut builder = Builder::new(seed);
    let mut inputs = vec![Vec::new(); STREAMS as usize];
    for (stream, inputs) in (0..).zip(&mut inputs) {
        // Where memory is full, the rest is not mapped.
        let _ = builder.stream(BASE + 64 * stream, inputs);
    }
    let ram = Rc::new(Ram::new(BASE, BYTES as usize));
    for (at, word) in &builder.written {
        ram.write64(*at, *word).unwrap();
    }
    let random = &mut builder.random;
    for stream in 0..STREAMS {
        vary(&ram, random, stream);
    }
    if random.one_in(3) {
        let (at, _) = random.one_of(&builder.written.clone());
        ram.write64(at, ram.read64(at).unwrap() ^ 1 << random.below(64)).unwrap();
    }
    if random.one_in(6) {
        ram.break_range(random.one_of(&builder.written.clone()).0, 8);
    }

    let cfg = StrtabBaseCfg(3);
    let mut smmu = Smmu::with_everything(StrtabBase(BASE), cfg);
    let all = &mut smmu.implementation;
    all.idr0 = all.idr0.with_httu(2).with_hyp(false).with_stall_model(1);
    all.idr0 = all.idr0.with_term_model(random.one_in(2)).with_vmid16(random.one_in(2));
    all.idr1 = all.idr1.with_attr_perms_ovr(random.one_in(2));
    all.idr3 = all.idr3.with_s1pi(false).with_s2pi(false).with_xnx(random.one_in(2));
    let profile = Profile {
        idr0: all.idr0,
        idr1: all.idr1,
        idr3: all.idr3,
        idr5: all.idr5,
        aidr: all.aidr,
        ..Profile::default().adversary(Adversary::NONE)
    };
    // A new one for each access: what another has cached must not count.
    let enabled = || {
        let mut model = Model::new(profile.clone(), Rc::clone(&ram), seed);
        model.write64(StrtabBase::OFFSET, BASE);
        model.write32(StrtabBaseCfg::OFFSET, cfg.0);
        model.write32(Cr2::OFFSET, Cr2::default().with_recinvsid(true).0);
        model.write32(Cr0::OFFSET, Cr0::default().with_smmuen(true).0);
        while model.read32(Cr0Ack::OFFSET) == 0 {}
        model
    };

    for _ in 0..24 {
        let stream = random.below(STREAMS);
        let mapped = &inputs[stream as usize];
        let mut address = if mapped.is_empty() { random.next() } else { random.one_of(mapped) };
        address ^= random.below(0x1000);
        if random.one_in(8) {
            address ^= random.next() << random.below(64);
        }
        let access = Access {
            stream: stream as u32,
            substream: random.one_in(30).then_some(0),
            address,
            write: random.one_in(2),
            privileged: random.one_in(2),
            instruction: random.one_in(3),
        };
        let mine = walked(&ram, &smmu, access);
        let mut model = enabled();
        let theirs = modelled(&mut model, access);
        let (Some((mine, expected)), Some(theirs)) = (mine, theirs) else {
            counts.unsupported += 1;
            continue;
        };
        assert_eq!(mine, theirs, "seed {seed}: {access:x?}");
        let mut found = Updates::default();
        let mut first = BTreeSet::new();
        // For the next access, everything is as it was.
        for seen in model.observations().into_iter().rev() {
            if let Observation::Updated { stage, pa, from, to } = seen {
                assert_eq!(ram.read64(pa), Ok(to));
                ram.write64(pa, from).unwrap();
                let set = if stage == Stage::One { &mut first } else { &mut found.second };
                set.insert(pa);
            }
        }
        found.first = first.len();
        counts.updates[0] += u32::from(found.first != 0);
        counts.updates[1] += u32::from(!found.second.is_empty());
        match mine {
            Said::Translated { .. } => {
                assert_eq!(found.first, expected.first, "seed {seed}: {access:x?}");
                // A stage-1 leaf that is written may have its page marked as written at stage 2.
                let more = found.second.difference(&expected.second).count();
                assert!(more <= found.first, "seed {seed}: {access:x?}");
                assert!(expected.second.is_subset(&found.second), "seed {seed}: {access:x?}");
                let config = Ste([ram.read64(BASE + 64 * stream).unwrap(), 0, 0, 0, 0, 0, 0, 0]);
                *counts.translated.entry(config.config()).or_default() += 1;
            }
            Said::Event { words, .. } => {
                let key = (words[0] & 0xff, words[1] >> 39 & 1 == 1, words[1] >> 40 & 3);
                *counts.events.entry(key).or_default() += 1;
            }
            Said::Silent => {}
        }
    }
}

#[test]
fn the_walk_says_what_the_model_does_with_both_stages() {
    let mut counts = Counts::default();
    for seed in 0..12_000 {
        compare(seed, &mut counts);
    }
    // Nothing of what there is to say went untried.
    let Counts { translated, unsupported, events, updates } = counts;
    let [first, second] = updates;
    for config in 5..8 {
        assert!(translated[&config] > 2000, "{translated:?}");
    }
    assert!(unsupported < 100 && first > 2000 && second > 2000, "{unsupported} {first} {second}");
    // Of stage 2, with each CLASS: a context, a table, the input. No right but that to read can be missing for a
    // context.
    for (id, classes) in
        [(0x0b, [0, 2].as_slice()), (0x10, &[0, 1, 2]), (0x11, &[2]), (0x12, &[2]), (0x13, &[1, 2])]
    {
        for class in classes {
            assert!(
                events.get(&(id, true, *class)).is_some_and(|n| *n > 50),
                "{id:#x} {class}: {events:?}"
            );
        }
    }
}

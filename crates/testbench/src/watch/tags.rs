// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rules R2 and R6: who owns which tag, and that nothing carries a tag that its owner gave back.

use std::collections::{BTreeMap, BTreeSet};

use smmuv3_formats::Ste;
use smmuv3_model::{Stages, Tag};

use super::Watch;
use crate::oracle::Rule;
use crate::platform::World;
use crate::ram::Ram;

/// A tag of an address space on an instance, as the driver has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwnedTag {
    /// Number of the address space.
    pub space: usize,
    /// Index of the instance.
    pub instance: usize,
    /// VMID; 0 where there is no stage 2.
    pub vmid: u16,
    /// ASID; 0 for tables of stage 2, which have the VMID alone.
    pub asid: u16,
    /// It is the CPU's.
    pub shared: bool,
}

impl OwnedTag {
    fn is(&self, instance: usize, vmid: Option<u16>, asid: u16) -> bool {
        (self.instance, self.vmid, self.asid) == (instance, vmid.unwrap_or(0), asid)
    }
}

/// How wide the tags of an instance are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Widths {
    /// Bits of an ASID.
    pub asid: u32,
    /// Bits of a VMID; 0 where there is no stage 2.
    pub vmid: u32,
}

impl Watch {
    /// When nothing is being changed: each tag has one owner, fits its instance, and whatever caches or contexts
    /// carry belongs to its owner.
    pub fn check_tags(&mut self, world: &World, owned: &[OwnedTag], widths: &[Widths]) {
        let owned = &[owned, &self.kept_tags].concat()[..];
        if let Some(text) = misgiven(owned, widths) {
            self.oracle.accuse(Rule::R2, text);
        }
        let roots: BTreeMap<u64, usize> =
            (0..self.oracle.all_spaces()).map(|space| (self.oracle.root(space), space)).collect();
        // Where two spaces have the same tables, they are the later one's.
        let own = owned.iter().filter_map(|tag| {
            let root = self.oracle.root(tag.space);
            let theirs = roots.get(&root) == Some(&tag.space);
            theirs.then_some((tag.instance, tag.vmid, tag.asid, root))
        });
        let own: Vec<_> = own.collect();
        let belongs = |instance: usize, vmid: Option<u16>, asid: u16, ttb: u64| {
            own.contains(&(instance, vmid.unwrap_or(0), asid, ttb))
        };
        for instance in 0..self.structures.instances() {
            let Some(model) = world.machine().model(instance) else { return };
            // What a guest's stage 1 leads to has its VMID, and tables of stage 2 that are its owner's.
            let vmid_alone = |tag: Tag| Tag { asid: 0, ..tag };
            let entries = model.tlb_entries().map(|entry| match entry.second {
                Some(second) => (vmid_alone(entry.tag), second.ttb, "translation"),
                None => (entry.tag, entry.ttb, "translation"),
            });
            let walks = model
                .walk_entries()
                .filter(|entry| entry.stages() != Stages::Both)
                .map(|entry| (entry.tag, entry.ttb, "walk"));
            let stray = entries
                .chain(walks)
                .filter(|_| model.translates())
                .find(|(tag, ttb, _)| !belongs(instance, tag.vmid, tag.asid, *ttb));
            let text = stray.map(|(tag, ttb, what)| {
                format!(
                    "instance {instance} still holds a {what} of {tag} for the tables at {ttb:#x}, \
                     which do not have that tag"
                )
            });
            drop(model);
            if let Some(text) = text {
                self.oracle.accuse(Rule::R2, text);
            }
        }
        let has_vmids = |instance: usize| widths.get(instance).is_some_and(|it| it.vmid != 0);
        // Either half may be walked, or neither (§6: EPD0, EPD1).
        let halves = self.structures.contexts().flat_map(|(instance, stream, substream, cd)| {
            let lower = (!cd.epd0()).then_some(cd.ttb0());
            let upper = (!cd.epd1()).then_some(cd.ttb1());
            let tables = [lower, upper].into_iter().flatten();
            tables.map(move |ttb| (instance, stream, substream, cd.asid(), ttb))
        });
        let stray = halves.into_iter().find(|(instance, stream, _, asid, ttb)| {
            let ste = Ste(self.structures.entry(*instance, *stream).unwrap_or_default());
            // The fields have 16 bits.
            let vmid = has_vmids(*instance).then_some(ste.s2_vmid() as u16);
            !belongs(*instance, vmid, *asid as u16, *ttb)
        });
        let text = stray.map(|(instance, stream, substream, asid, ttb)| {
            format!(
                "on instance {instance} the context of stream {stream:#x}, substream {substream:#x} has \
                 ASID {asid:#x} for the tables at {ttb:#x}, which do not have that tag"
            )
        });
        if let Some(text) = text {
            self.oracle.accuse(Rule::R2, text);
        }
    }

    /// The tags that entries and contexts of these masters have: instance, VMID and ASID, which is 0 where it is tables of stage 2
    /// that have it.
    pub(crate) fn tags_of(
        &self,
        ram: &Ram,
        masters: impl Fn(usize) -> bool,
    ) -> BTreeSet<(usize, u16, u16)> {
        let mut tags = BTreeSet::new();
        for master in (0..self.oracle.masters()).filter(|master| masters(*master)) {
            let (instance, streams) = self.oracle.streams(master);
            for stream in streams {
                // Fields of VMIDs and ASIDs have 16 bits.
                let vmid = self.entry(instance, *stream).s2_vmid() as u16;
                let contexts = self.structures.contexts_in_memory(ram, instance, *stream);
                let asids = contexts.into_iter().map(|cd| cd.asid() as u16);
                tags.extend(asids.chain([0]).map(|asid| (instance, vmid, asid)));
            }
        }
        tags
    }

    /// The rule that is broken when `space` is unmapped and `instance` still holds some of it.
    pub(super) fn missed(&mut self, space: usize, instance: usize) -> Rule {
        if self.oracle.is_joining(space, instance) {
            // Both sides missed it.
            return Rule::R5;
        }
        if self.oracle.violation().is_none() && self.oracle.is_any_changing() {
            // The call that is being interrupted may be changing the tag: when it is over, that can be seen.
            self.missed = Some((space, instance));
        }
        Rule::R1
    }

    /// The call is over that was under way when an unmap missed something, if it did. If the call changed the tag
    /// of what was missed, that was the reason.
    pub(crate) fn blame(&mut self, before: &[OwnedTag], after: &[OwnedTag]) {
        let Some((space, instance)) = self.missed.take() else { return };
        let tags = |owned: &[OwnedTag]| {
            let here = |tag: &&OwnedTag| (tag.space, tag.instance) == (space, instance);
            owned.iter().filter(here).copied().collect::<BTreeSet<_>>()
        };
        let (before, after) = (tags(before), tags(after));
        if !before.is_empty() && !after.is_empty() && before != after {
            self.oracle.accuse_instead(Rule::R6);
        }
    }
}

/// Tags that are too wide, or have two owners.
fn misgiven(owned: &[OwnedTag], widths: &[Widths]) -> Option<String> {
    for (index, tag) in owned.iter().enumerate() {
        let OwnedTag { instance, vmid, asid, .. } = *tag;
        let too_wide = widths.get(instance).is_some_and(|widths| {
            u32::from(asid) >> widths.asid != 0 || u32::from(vmid) >> widths.vmid != 0
        });
        if too_wide {
            return Some(format!(
                "VMID {vmid:#x} ASID {asid:#x} is too wide for instance {instance}"
            ));
        }
        let twice = |other: &&OwnedTag| {
            let whole = (asid == 0 || other.asid == 0) && vmid != 0 && other.vmid == vmid;
            other.space != tag.space
                && other.instance == instance
                && (whole || other.is(instance, Some(vmid), asid))
        };
        if let Some(other) = owned.iter().take(index).find(twice) {
            return Some(format!(
                "VMID {vmid:#x} ASID {asid:#x} of instance {instance} belongs to the address spaces {} and {}",
                other.space, tag.space
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use smmuv3_formats::Cd;
    use smmuv3_formats::register::{StrtabBase, StrtabBaseCfg};
    use smmuv3_formats::ste::config;

    use super::*;
    use crate::machine_model::{ModelMachine, RAM_BASE};
    use crate::scenario::Scenario;
    use crate::stream_table::StreamTable;

    /// Where the stream table, a context, and the tables of two domains are, from the beginning of memory on.
    const TABLE: u64 = 0x0000;
    const CONTEXT: u64 = 0x1000;
    const ROOTS: [u64; 2] = [0x2000, 0x3000];
    const STREAM: u32 = 5;

    /// What is said when the context of a stream leads to the tables of the first domain, in the lower half, the upper,
    /// or neither, with this ASID: the domains have 1 and 2. Nothing is accessed.
    fn context_with(asid: u64, lower: bool, upper: bool) -> Option<String> {
        let machine = "instance = [{ name = \"a\" }]\nmaster = [{ name = \"m\", instance = \"a\", streams = [5] }]";
        let scenario = Scenario::parse(&format!("name = \"tags\"\n{machine}"), "tags").unwrap();
        let machine = ModelMachine::new(&scenario, 1).unwrap();
        let world = World::new(Arc::new(machine), 1);
        let mut watch = Watch::new(1, 1);
        let base = |offset| RAM_BASE + offset;
        let ste = Ste::default().with_v(true).with_config(config::STAGE_1);
        let ste = ste.with_s1_context_ptr(base(CONTEXT));
        let cd = Cd::default().with_v(true).with_asid(asid).with_epd0(!lower).with_epd1(!upper);
        let cd = if lower { cd.with_ttb0(base(ROOTS[0])) } else { cd };
        let cd = if upper { cd.with_ttb1(base(ROOTS[0])) } else { cd };
        let table = StrtabBase::default().with_addr(base(TABLE));
        let shape = StrtabBaseCfg::default().with_log2size(4);
        watch.add_instance(StreamTable { base: table, shape });
        watch.watch_stream(&world, 0, STREAM);
        let ram = world.machine().ram();
        for (at, words) in [(CONTEXT, cd.0), (TABLE + 64 * u64::from(STREAM), ste.0)] {
            for (pa, word) in (base(at)..).step_by(8).zip(words) {
                ram.write64(pa, word).unwrap();
                watch.structures.stored(ram, pa);
            }
        }
        for root in ROOTS {
            watch.oracle.add_domain(base(root));
        }
        watch.check_tags(&world, &[tag(0, 0, 0, 1), tag(1, 0, 0, 2)], &WIDTHS);
        watch.oracle.violation().map(|violation| violation.text.clone())
    }

    #[test]
    fn a_context_has_the_tag_of_the_tables_it_leads_to_in_either_half() {
        for (lower, upper) in [(true, false), (false, true), (true, true)] {
            assert_eq!(context_with(1, lower, upper), None, "{lower}, {upper}");
            let text = context_with(2, lower, upper).expect("it is another's");
            assert!(text.contains("substream 0x0 has ASID 0x2"), "{text}");
        }
        // Nothing is walked by one that leads nowhere, as that of a process that is gone.
        assert_eq!(context_with(2, false, false), None);
    }

    const WIDTHS: [Widths; 2] = [Widths { asid: 8, vmid: 0 }, Widths { asid: 16, vmid: 8 }];

    fn tag(space: usize, instance: usize, vmid: u16, asid: u16) -> OwnedTag {
        OwnedTag { space, instance, vmid, asid, shared: false }
    }

    #[test]
    fn a_tag_has_one_owner_an_instance() {
        let apart = [tag(0, 0, 0, 1), tag(0, 1, 0, 1), tag(1, 1, 1, 1), tag(1, 0, 0, 2)];
        assert_eq!(misgiven(&apart, &WIDTHS), None);
        // One space may have two on an instance, while one is moved.
        assert_eq!(misgiven(&[tag(0, 0, 0, 1), tag(0, 0, 0, 2)], &WIDTHS), None);
        let shared = misgiven(&[tag(0, 1, 3, 9), tag(1, 1, 3, 9)], &WIDTHS).unwrap();
        assert!(shared.contains("address spaces 0 and 1"), "{shared}");
        // Tables of stage 2 have a VMID for themselves.
        assert!(misgiven(&[tag(0, 1, 3, 0), tag(1, 1, 3, 0)], &WIDTHS).is_some());
        assert!(misgiven(&[tag(0, 1, 3, 0), tag(1, 1, 3, 9)], &WIDTHS).is_some());
        assert_eq!(misgiven(&[tag(0, 1, 3, 0), tag(1, 1, 4, 0)], &WIDTHS), None);
    }

    #[test]
    fn a_tag_fits_its_instance() {
        for (tag, fits) in [
            (tag(0, 0, 0, 0xff), true),
            (tag(0, 0, 0, 0x100), false),
            (tag(0, 0, 1, 1), false),
            (tag(0, 1, 0xff, 0xffff), true),
            (tag(0, 1, 0x100, 1), false),
        ] {
            assert_eq!(misgiven(&[tag], &WIDTHS).is_none(), fits, "{tag:?}");
        }
    }
}

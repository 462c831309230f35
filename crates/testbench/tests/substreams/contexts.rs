// SPDX-License-Identifier: MIT OR Apache-2.0
//! The cases in which a context is written, with the exact stores, commands and waits of each (§8.2). The master has
//! two streams, and its accesses without a PASID are translated by a domain, so that hardware may read every context
//! at any time.

use std::sync::atomic::Ordering;

use smmuv3::SubstreamId;

use crate::setup::{PAGE, Setup, Tables, sharing, unbind};

/// Word 0 of a domain's context without its ASID: T0SZ 16, write-back, inner shareable, EPD1, V, 44 bits, AA64, R, A,
/// ASET.
const DOMAIN: u64 = 0xe204_c000_3510;
/// Word 0 of a process's with a private ASID: T0SZ 25; otherwise the same.
const PROCESS: u64 = 0xe204_c000_3519;
const ASET: u64 = 1 << 47;
/// Of domains: write-back, non-cacheable, device.
const MAIR: u64 = 0x0004_44ff;

const SYNC: &str = "CMD_SYNC";

/// Tells both streams of the master to read the context of `substream` anew, and waits.
fn forget(substream: u32) -> Vec<String> {
    let ssid = if substream == 0 { String::new() } else { format!(" SSID={substream:#x}") };
    let one = |sid: u32| format!("CMD_CFGI_CD{ssid} SID={sid:#x} Leaf=0x1");
    vec![one(1), one(2), SYNC.to_owned()]
}

fn flush(asid: u16) -> Vec<String> {
    vec![format!("CMD_TLBI_NH_ASID ASID={asid:#x}"), SYNC.to_owned()]
}

fn store(substream: u32, words: &[(usize, u64)]) -> Vec<String> {
    let one = |(word, value): &(usize, u64)| format!("cd {substream}[{word}] = {value:#x}");
    words.iter().map(one).collect()
}

#[track_caller]
fn assert_told(told: &[String], expected: &[Vec<String>]) {
    // Nothing is known of how the CMD_SYNC is told to end.
    let told: Vec<&str> =
        told.iter().map(|step| if step.starts_with(SYNC) { SYNC } else { step }).collect();
    assert_eq!(told, expected.concat());
}

struct Live {
    setup: Setup,
    domains: Vec<smmuv3::Domain<crate::os::Os>>,
}

/// `domains[0]` is attached without a PASID.
fn live() -> Live {
    live_with(4)
}

/// With so many bits of substreams: in two levels from 7 on.
fn live_with(bits: u32) -> Live {
    let setup = Setup::new(&[sharing()], &[(0, &[1, 2], bits)]);
    let domains = vec![setup.domain(0), setup.domain(16), setup.domain(32)];
    setup.iommu.attach(&setup.masters[0], &domains[0]).unwrap();
    assert_eq!(setup.dma(0, None), Some(setup.page(0)));
    Live { setup, domains }
}

impl Live {
    fn asid(&self, domain: usize) -> u16 {
        Setup::asid(&self.domains[domain].targets().unwrap(), 0)
    }

    fn finish(self, processes: Vec<(smmuv3::Process<crate::os::Os>, Tables)>) {
        self.setup.iommu.detach(&self.setup.masters[0]).unwrap();
        self.setup.tear_down(self.domains, processes);
    }
}

#[test]
fn a_context_is_installed_all_but_the_word_with_its_valid_bit_first() {
    let live = live();
    let setup = &live.setup;
    let pasid = setup.pasid();
    // Hardware keeps that there is none.
    assert_eq!(setup.dma(0, Some(pasid)), None);
    let (result, told) =
        setup.told(0, || setup.iommu.attach_pasid(&setup.masters[0], pasid, &live.domains[1]));
    assert_eq!(result, Ok(()));
    let asid = live.asid(1);
    let (word, root) = (u64::from(asid) << 48 | DOMAIN, setup.cd(0, pasid.0)[1]);
    assert_eq!(setup.cd(0, pasid.0), [word, root, 0, MAIR, 0, 0, 0, 0]);
    assert_told(
        &told,
        &[
            store(pasid.0, &[(1, root), (3, MAIR)]),
            forget(pasid.0),
            store(pasid.0, &[(0, word)]),
            forget(pasid.0),
        ],
    );
    assert_eq!(setup.dma(0, Some(pasid)), Some(setup.page(16)));
    setup.iommu.detach_pasid(&setup.masters[0], pasid).unwrap();
    live.finish(vec![]);
}

/// Without a live entry that leads there, hardware cannot have read it, and one CFGI_STE is enough for all.
#[test]
fn a_context_that_nothing_leads_to_is_written_at_once() {
    let Live { setup, domains } = live();
    setup.iommu.detach(&setup.masters[0]).unwrap();
    let (result, told) = setup.told(0, || setup.iommu.attach(&setup.masters[0], &domains[0]));
    assert_eq!(result, Ok(()));
    assert!(!told.iter().any(|step| step.contains("CFGI_CD")), "{told:?}");
    let at = |text: &str| told.iter().position(|step| step.starts_with(text)).unwrap();
    assert!(at("cd 0[0]") < at("ste 1["), "{told:?}");
    let syncs = told.iter().filter(|step| step.starts_with(SYNC)).count();
    assert_eq!(syncs, 2, "two for the entries of both streams: {told:?}");
    setup.iommu.detach(&setup.masters[0]).unwrap();
    setup.tear_down(domains, vec![]);
}

#[test]
fn another_asid_comes_in_one_store_and_the_old_one_is_flushed_after_it() {
    let live = live();
    let setup = &live.setup;
    let old = live.asid(0);
    let (process, tables) = setup.process(7, Some(old), 32);
    let pasid = process.pasid();
    let (bond, told) = setup.told(0, || process.bind(&setup.masters[0]));
    let bond = bond.unwrap();
    let new = live.asid(0);
    assert_ne!(new, old);
    assert_eq!(setup.cd(0, 0)[0], u64::from(new) << 48 | DOMAIN);
    // The CPU's number, and ASET = 0.
    let word = u64::from(old) << 48 | PROCESS & !ASET;
    let expected = [word, tables.root(), 0, Tables::MAIR, 0, 0, 0, 0];
    assert_eq!(setup.cd(0, pasid.0), expected);
    assert_told(
        &told,
        &[
            store(0, &[(0, u64::from(new) << 48 | DOMAIN)]),
            forget(0),
            flush(old),
            store(pasid.0, &[(1, tables.root()), (3, Tables::MAIR)]),
            forget(pasid.0),
            store(pasid.0, &[(0, word)]),
            forget(pasid.0),
        ],
    );
    assert_eq!(setup.dma(0, Some(pasid)), Some(setup.page(32)));
    assert_eq!(setup.dma(0, None), Some(setup.page(0)));
    unbind(bond);
    live.finish(vec![(process, tables)]);
}

#[test]
fn a_context_is_made_quiet_by_one_store_and_stays_valid() {
    let live = live();
    let setup = &live.setup;
    let (process, tables) = setup.process(7, None, 32);
    let pasid = process.pasid();
    let bond = process.bind(&setup.masters[0]).unwrap();
    assert_eq!(setup.dma(0, Some(pasid)), Some(setup.page(32)));
    let asid = Setup::asid(&process.targets().unwrap(), 0);
    let live_words = setup.cd(0, pasid.0);
    let word = u64::from(asid) << 48 | PROCESS;
    assert_eq!(live_words, [word, tables.root(), 0, Tables::MAIR, 0, 0, 0, 0]);
    let (result, told) = setup.told(0, || process.release());
    assert_eq!(result, Ok(()));
    // EPD0 [14] = 1, R [45] = 0, what EPD0 makes meaningless is 0; A, V, AA64, EPD1, IPS, ASET, ASID as they were.
    let quiet = u64::from(asid) << 48 | 0xc204_c000_4000;
    assert_eq!(setup.cd(0, pasid.0), [quiet, 0, 0, Tables::MAIR, 0, 0, 0, 0]);
    assert_told(
        &told,
        &[
            store(pasid.0, &[(0, quiet)]),
            forget(pasid.0),
            store(pasid.0, &[(1, 0)]),
            forget(pasid.0),
            flush(asid),
        ],
    );
    unbind(bond);
    live.finish(vec![(process, tables)]);
}

#[test]
fn a_context_is_removed_by_its_valid_bit_and_its_tag_flushed_after_it() {
    let live = live();
    let setup = &live.setup;
    let pasid = setup.pasid();
    setup.iommu.attach_pasid(&setup.masters[0], pasid, &live.domains[1]).unwrap();
    assert_eq!(setup.dma(0, Some(pasid)), Some(setup.page(16)));
    let asid = live.asid(1);
    let (result, told) = setup.told(0, || setup.iommu.detach_pasid(&setup.masters[0], pasid));
    assert_eq!(result, Ok(()));
    assert_told(
        &told,
        &[
            store(pasid.0, &[(0, 0)]),
            forget(pasid.0),
            // What the other words hold means nothing any more.
            flush(asid),
        ],
    );
    assert_eq!(setup.dma(0, Some(pasid)), None);
    live.finish(vec![]);
}

/// Two words have to change at once: all contexts that lie together are written elsewhere, and one word leads there.
#[test]
fn another_space_comes_with_a_copy_of_the_contexts_around_it() {
    for bits in [4, 8] {
        let live = live_with(bits);
        let setup = &live.setup;
        let (pasid, other) = (setup.pasid(), setup.pasid());
        let attach = |pasid, domain: usize| {
            setup.iommu.attach_pasid(&setup.masters[0], pasid, &live.domains[domain])
        };
        attach(pasid, 1).unwrap();
        attach(other, 0).unwrap();
        // There and back, and once more: the same memory serves each time.
        let mut memory = Vec::new();
        for domain in [2, 1, 2] {
            let old = live.asid(if domain == 2 { 1 } else { 2 });
            let (before, beside) = (setup.cd_at(0, pasid.0), setup.cd(0, other.0));
            let (result, told) = setup.told(0, || attach(pasid, domain));
            assert_eq!(result, Ok(()));
            assert_ne!(setup.cd_at(0, pasid.0), before);
            assert_eq!(setup.cd(0, other.0), beside);
            memory.push(setup.live_bytes());
            // After all contexts that are not there already: what leads there, and what makes hardware look.
            let last = told.iter().rposition(|step| step.starts_with("cd "));
            let last = last.map_or(0, |at| at + 1);
            let (contexts, rest) = told.split_at(last);
            assert!(contexts.iter().all(|step| !step.starts_with("CMD")), "{contexts:?}");
            let entry = setup.ste(0).0[0];
            let leads = match bits {
                4 => vec![
                    format!("ste 1[0] = {entry:#x}"),
                    format!("ste 2[0] = {entry:#x}"),
                    "CMD_CFGI_STE SID=0x1 Leaf=0x1".to_owned(),
                    "CMD_CFGI_STE SID=0x2 Leaf=0x1".to_owned(),
                    SYNC.to_owned(),
                ],
                _ => {
                    // The level-1 descriptor: the first, valid.
                    let (first, leaf) = (setup.ste(0).s1_context_ptr(), setup.cd_at(0, 0));
                    vec![
                        format!("{first:#x}[0] = {:#x}", leaf.unwrap() | 1),
                        "CMD_CFGI_STE SID=0x1 Leaf=0x1".to_owned(),
                        "CMD_CFGI_STE SID=0x2 Leaf=0x1".to_owned(),
                        SYNC.to_owned(),
                    ]
                }
            };
            assert_told(rest, &[leads, flush(old)]);
            assert_eq!(setup.dma(0, Some(pasid)), Some(setup.page(16 * domain as u64)));
            assert_eq!([None, Some(other)].map(|it| setup.dma(0, it)), [Some(setup.page(0)); 2]);
        }
        assert_eq!(memory, [memory[0]; 3]);
        // What is in the copy by now is not what hardware is led to.
        setup.iommu.detach_pasid(&setup.masters[0], other).unwrap();
        attach(pasid, 1).unwrap();
        assert_eq!(setup.dma(0, Some(other)), None);
        setup.iommu.detach_pasid(&setup.masters[0], pasid).unwrap();
        live.finish(vec![]);
    }
}

/// Without memory for that: through an invalid context, never through a mixture.
#[test]
fn another_space_comes_through_an_invalid_context_where_memory_is_short() {
    let live = live();
    let setup = &live.setup;
    let pasid = setup.pasid();
    setup.iommu.attach_pasid(&setup.masters[0], pasid, &live.domains[1]).unwrap();
    assert_eq!(setup.dma(0, Some(pasid)), Some(setup.page(16)));
    let old = live.asid(1);
    setup.iommu.platform().exhausted.store(true, Ordering::Relaxed);
    let (result, told) =
        setup.told(0, || setup.iommu.attach_pasid(&setup.masters[0], pasid, &live.domains[2]));
    setup.iommu.platform().exhausted.store(false, Ordering::Relaxed);
    assert_eq!(result, Ok(()));
    let word = u64::from(live.asid(2)) << 48 | DOMAIN;
    let root = setup.cd(0, pasid.0)[1];
    assert_told(
        &told,
        &[
            store(pasid.0, &[(0, 0)]),
            forget(pasid.0),
            store(pasid.0, &[(1, root)]),
            forget(pasid.0),
            store(pasid.0, &[(0, word)]),
            forget(pasid.0),
            flush(old),
        ],
    );
    assert_eq!(setup.dma(0, Some(pasid)), Some(setup.page(32)));
    assert_eq!(setup.dma(0, None), Some(setup.page(0)));
    // The tag of a space that somebody else still uses is not flushed.
    let second = SubstreamId(setup.pasid().0);
    setup.iommu.attach_pasid(&setup.masters[0], second, &live.domains[2]).unwrap();
    let (result, told) = setup.told(0, || setup.iommu.detach_pasid(&setup.masters[0], second));
    assert_eq!(result, Ok(()));
    assert!(!told.iter().any(|step| step.contains("TLBI")), "{told:?}");
    assert_eq!(setup.dma_at(0, Some(pasid), super::setup::IOVA + PAGE), Ok(setup.page(33)));
    setup.iommu.detach_pasid(&setup.masters[0], pasid).unwrap();
    live.finish(vec![]);
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What hardware marks as written or accessed (§14): none of it is lost, whichever call reads it, and whenever devices
//! write.

mod common;

use std::sync::Arc;

use smmuv3::pagetable::HarvestError;
use smmuv3::{
    Attributes, Config, Dirty, DirtyError, Domain, DomainConfig, Granule, InstanceConfig, Iommu,
    Iova, Master, MasterConfig, PhysAddr, Prot, Smmu, StreamId, UnmapError,
};
use smmuv3_testbench::bench::Settings;
use smmuv3_testbench::machine::{Dma, Machine, Outcome};
use smmuv3_testbench::machine_model::ModelMachine;
use smmuv3_testbench::operation::{Operation, Source};
use smmuv3_testbench::oracle::{PAGE, Use};
use smmuv3_testbench::platform::{TestPlatform, World};
use smmuv3_testbench::run::{Options, run};
use smmuv3_testbench::scenario::{MemoryKind, Rights, Scenario};

use common::every_step::EveryStep;
use common::{enable, parse};

/// What is mapped, and then unmapped.
const IOVA: u64 = 0x20_0000;
const BYTES: u64 = 4 * PAGE;

/// An SMMU that has everything, a device, and memory.
struct Setup {
    machine: Arc<ModelMachine>,
    iommu: Iommu<TestPlatform>,
    smmu: Smmu<TestPlatform>,
    master: Master<TestPlatform>,
    memory: u64,
}

/// Of memory, and of a page of the largest granule.
const MEMORY: u64 = 4 << 20;
const LARGEST: u64 = 0x1_0000;
const ATTRIBUTES: Attributes = Attributes::normal(Prot::READ.union(Prot::WRITE));

impl Setup {
    fn new(instance: &str) -> Self {
        let scenario = parse(&format!(
            "name = \"one\"\ninstance = [{{ name = \"smmu\", sid-bits = 4, {instance} }}]\n\
             master = [{{ name = \"nic\", instance = \"smmu\", streams = [1] }}]\n"
        ));
        let machine = Arc::new(ModelMachine::new(&scenario, 1).unwrap());
        let world = World::new(machine.clone(), 1);
        let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
        let smmu = enable(&iommu, &world, 0, InstanceConfig::named("smmu"));
        let master = iommu.add_master(&smmu, &[StreamId(1)], MasterConfig::default()).unwrap();
        let memory = world.frames().allocate(MEMORY, MEMORY / 2).unwrap();
        Self { machine, iommu, smmu, master, memory }
    }

    /// A domain like that, in which the device reaches the memory from `iova` on.
    fn mapped(&self, config: DomainConfig, iova: u64, bytes: u64) -> Domain<TestPlatform> {
        let domain = self.iommu.create_domain(config).unwrap();
        self.iommu.attach(&self.master, &domain).unwrap();
        // SAFETY: this test alone uses the domain; the device only touches the memory.
        unsafe { domain.map(Iova(iova), PhysAddr(self.memory), bytes, ATTRIBUTES).unwrap() };
        domain
    }

    fn write(&self, iova: u64) -> Outcome {
        self.machine.dma(0, None, iova, Dma::Write(&[1; 8])).unwrap()[0].outcome
    }

    fn read(&self, iova: u64) -> Outcome {
        self.machine.dma(0, None, iova, Dma::Read(&mut [0; 8])).unwrap()[0].outcome
    }
}

/// What a call reports, and comes to.
fn told<R>(call: impl FnOnce(&mut dyn FnMut(Iova, u64)) -> R) -> (R, Vec<(u64, u64)>) {
    let mut told = Vec::new();
    let result = call(&mut |start, bytes| told.push((start.0, bytes)));
    (result, told)
}

fn taken(domain: &Domain<TestPlatform>, iova: u64, bytes: u64) -> (u64, Vec<(u64, u64)>) {
    // SAFETY: as in `Setup::mapped`.
    let (result, told) = told(|it| unsafe { domain.unmap_reporting(Iova(iova), bytes, it) });
    (result.unwrap(), told)
}

fn dirty(domain: &Domain<TestPlatform>, iova: u64, bytes: u64) -> Vec<(u64, u64)> {
    // SAFETY: as in `Setup::mapped`.
    let (result, told) = told(|it| unsafe { domain.read_and_clear_dirty(Iova(iova), bytes, it) });
    result.unwrap();
    told
}

fn accessed(domain: &Domain<TestPlatform>, iova: u64, bytes: u64) -> Vec<(u64, u64)> {
    // SAFETY: as in `Setup::mapped`.
    let (result, told) =
        told(|it| unsafe { domain.read_and_clear_accessed(Iova(iova), bytes, it) });
    result.unwrap();
    told
}

/// The last page is written, read, and written again: it is told of by the unmap, and only it, in tables of every shape.
#[test]
fn an_unmap_tells_of_what_was_written_since_it_was_asked_for() {
    let setup = Setup::new("httu = 2, oas = 52, lpa2 = true, wide-input = true, bbml = 2");
    let all = DomainConfig::default().with_dirty(Dirty::Clean);
    for granule in Granule::ALL {
        let size = 1 << granule.shift();
        let plain = all.with_granule(granule);
        let wide = plain.with_input_bits(52).with_output_bits(52);
        let shapes = [
            (plain, IOVA),
            (wide, 0xf_ffff_ffe0_0000),
            (plain.with_stage_2(), IOVA),
            (wide.with_stage_2(), 0xf_ffff_ffe0_0000),
            (plain.with_all_attributes(), IOVA),
            (plain.with_upper_half(), 0xffff << 48),
            (plain.with_contiguous(), IOVA + LARGEST),
            (plain.with_access_flags(), IOVA),
        ];
        for (config, iova) in shapes {
            let domain = setup.mapped(config, iova, 4 * LARGEST);
            let (first, last) = (iova, iova + 4 * LARGEST - size);
            // 16 pages of 4 KiB are one group: all of it. Of the others none is whole.
            let is_group = config.contiguous && granule == Granule::K4;
            let marked = if is_group { (iova + 3 * LARGEST, LARGEST) } else { (last, size) };
            assert_eq!(setup.write(last), Outcome::Reached(setup.memory + 4 * LARGEST - size));
            assert_eq!(dirty(&domain, iova, 4 * LARGEST), [marked], "{config:?}");
            setup.write(last + 8);
            setup.read(first);
            let (unmapped, written) = taken(&domain, iova, 4 * LARGEST);
            assert_eq!((unmapped, &written[..]), (4 * LARGEST, &[marked][..]), "{config:?}");
            assert_eq!(setup.write(last), Outcome::Refused);
            assert_eq!(taken(&domain, iova, 4 * LARGEST), (0, vec![]));
        }
    }
}

#[test]
fn an_unmap_of_whole_tables_and_blocks_tells_of_what_was_written() {
    let setup = Setup::new("httu = 2, bbml = 2");
    let config = DomainConfig::default().with_dirty(Dirty::Clean).with_granule(Granule::K4);
    // Pages that fill a table, which is unlinked.
    let domain = setup.iommu.create_domain(config).unwrap();
    setup.iommu.attach(&setup.master, &domain).unwrap();
    for nth in 0..512 {
        let (iova, pa) = (Iova(IOVA + nth * PAGE), PhysAddr(setup.memory + (nth ^ 1) * PAGE));
        // SAFETY: as in `Setup::mapped`.
        unsafe { domain.map(iova, pa, PAGE, ATTRIBUTES).unwrap() };
    }
    for nth in [3, 4, 511] {
        setup.write(IOVA + nth * PAGE);
    }
    let expected = [(IOVA + 3 * PAGE, 2 * PAGE), (IOVA + 511 * PAGE, PAGE)];
    assert_eq!(taken(&domain, IOVA, 2 << 20), (2 << 20, expected.to_vec()));
    // A block: all of it.
    let domain = setup.mapped(config, IOVA, 2 << 20);
    assert_eq!(taken(&domain, IOVA, 2 << 20), (2 << 20, vec![]));
    let domain = setup.mapped(config, IOVA, 2 << 20);
    setup.write(IOVA + 5 * PAGE);
    assert_eq!(taken(&domain, IOVA, 2 << 20), (2 << 20, vec![(IOVA, 2 << 20)]));
    // A part of one that was written is told as that part; the rest is as if it had been written.
    let domain = setup.mapped(config.with_splitting(), IOVA, 2 << 20);
    setup.write(IOVA + 5 * PAGE);
    let half = 1 << 20;
    assert_eq!(taken(&domain, IOVA, half), (half, vec![(IOVA, half)]));
    assert_eq!(dirty(&domain, IOVA + half, half), [(IOVA + half, half)]);
}

#[test]
fn an_unmap_that_is_deferred_tells_too_and_only_what_it_told_is_written_until_the_invalidation() {
    let setup = Setup::new("httu = 2");
    let config = DomainConfig::default().with_dirty(Dirty::Clean).with_granule(Granule::K4);
    let domain = setup.mapped(config, IOVA, BYTES);
    setup.write(IOVA);
    setup.read(IOVA + PAGE);
    // SAFETY: as in `Setup::mapped`.
    let (unmapped, written) =
        told(|it| unsafe { domain.unmap_deferred_reporting(Iova(IOVA), BYTES, it) });
    assert_eq!((unmapped, written), (Ok(BYTES), vec![(IOVA, PAGE)]));
    // The TLB has both pages.
    assert_eq!(setup.write(IOVA + 16), Outcome::Reached(setup.memory + 16));
    assert_eq!(setup.write(IOVA + PAGE), Outcome::Refused);
    domain.invalidate_all().unwrap();
    assert_eq!(setup.write(IOVA), Outcome::Refused);
}

#[test]
fn what_is_not_marked_cannot_be_told_and_nothing_changes() {
    let setup = Setup::new("httu = 2");
    let domain = setup.mapped(DomainConfig::default(), IOVA, BYTES);
    let nothing = &mut |_, _| panic!("nothing is marked");
    let untracked = Err(UnmapError::Untracked);
    // SAFETY: as in `Setup::mapped`, here and below.
    assert_eq!(unsafe { domain.unmap_reporting(Iova(IOVA), BYTES, nothing) }, untracked);
    // SAFETY: as above.
    assert_eq!(unsafe { domain.unmap_deferred_reporting(Iova(IOVA), BYTES, nothing) }, untracked);
    let untracked = Err(DirtyError::Table(HarvestError::Untracked));
    // SAFETY: as above.
    assert_eq!(unsafe { domain.read_and_clear_accessed(Iova(IOVA), BYTES, nothing) }, untracked);
    // SAFETY: as above.
    assert_eq!(unsafe { domain.read_accessed(Iova(IOVA), BYTES, nothing) }, untracked);
    assert_eq!(setup.write(IOVA), Outcome::Reached(setup.memory));
}

#[test]
fn what_is_written_between_a_reading_and_an_unmap_is_lost_by_an_unmap_that_does_not_tell() {
    let setup = Setup::new("httu = 2");
    let config = DomainConfig::default().with_dirty(Dirty::Clean).with_granule(Granule::K4);
    for tells in [false, true] {
        let domain = setup.mapped(config, IOVA, BYTES);
        assert_eq!(dirty(&domain, IOVA, BYTES), []);
        setup.write(IOVA + PAGE);
        let mut written = Vec::new();
        if tells {
            written = taken(&domain, IOVA, BYTES).1;
        } else {
            // SAFETY: as in `Setup::mapped`.
            unsafe { domain.unmap(Iova(IOVA), BYTES).unwrap() };
        }
        // The harvest that comes later, as in a migration.
        written.extend(dirty(&domain, IOVA, BYTES));
        assert_eq!(written, if tells { vec![(IOVA + PAGE, PAGE)] } else { vec![] });
    }
}

/// The second time the TLB has the page: without an invalidation it would be used without a mark.
#[test]
fn what_was_accessed_is_told_each_time() {
    let setup = Setup::new("httu = 2, oas = 52, lpa2 = true, wide-input = true");
    let plain = DomainConfig::default().with_access_flags();
    for granule in Granule::ALL {
        let size = 1 << granule.shift();
        let config = plain.with_granule(granule);
        let wide = config.with_input_bits(52).with_output_bits(52);
        for config in [config, config.with_stage_2(), wide, wide.with_stage_2()] {
            let domain = setup.mapped(config, IOVA, 2 * LARGEST);
            assert_eq!(accessed(&domain, IOVA, 2 * LARGEST), [], "{config:?}");
            for _ in 0..3 {
                assert_eq!(setup.read(IOVA + size), Outcome::Reached(setup.memory + size));
                let read = |it: &mut dyn FnMut(Iova, u64)| {
                    // SAFETY: as in `Setup::mapped`.
                    unsafe { domain.read_accessed(Iova(IOVA), 2 * LARGEST, it) }
                };
                for _ in 0..2 {
                    assert_eq!(told(read), (Ok(()), vec![(IOVA + size, size)]), "{config:?}");
                }
                assert_eq!(accessed(&domain, IOVA, 2 * LARGEST), [(IOVA + size, size)]);
                assert_eq!(accessed(&domain, IOVA, 2 * LARGEST), []);
            }
            setup.write(IOVA);
            assert_eq!(accessed(&domain, IOVA, size), [(IOVA, size)]);
        }
    }
}

/// Nothing is invalidated where nothing was accessed, and the range once where something was.
#[test]
fn reading_what_was_accessed_invalidates_once() {
    let setup = Setup::new("httu = 2");
    let config = DomainConfig::default().with_access_flags().with_granule(Granule::K4);
    let domain = setup.mapped(config, IOVA, BYTES);
    let commands = || setup.smmu.statistics().commands.commands;
    let before = commands();
    assert_eq!(accessed(&domain, IOVA, BYTES), []);
    assert_eq!(commands(), before);
    setup.read(IOVA);
    setup.read(IOVA + 2 * PAGE);
    assert_eq!(accessed(&domain, IOVA, BYTES), [(IOVA, PAGE), (IOVA + 2 * PAGE, PAGE)]);
    assert_eq!(commands() - before, 2, "TLBI, SYNC");
}

/// A device behind each of two SMMUs; of stage 1, of stage 2, or of stage 2 below a guest.
fn scenario(domain: &str) -> Scenario {
    parse(&format!(
        r#"
name = "marks"
instance = [{{ name = "smmu0", httu = 2, bbml = 2, asid-bits = 8 }}, {{ name = "smmu1", httu = 2, bbml = 2 }}]
master = [
    {{ name = "nic", instance = "smmu0", streams = [5] }},
    {{ name = "gpu", instance = "smmu1", streams = [9] }},
]
domain = [{{ name = "ram", dirty = true, {domain} }}]
memory = [{{ name = "rx", size = "2M", align = "2M" }}]
"#
    ))
}

/// Two writes of a device at every moment of `call`, one of which only begins then: no rule breaks.
fn at_every_moment(domain: &str, settings: &Settings) -> Vec<Option<String>> {
    let scenario = &scenario(domain);
    let map = Operation::Map {
        space: 0,
        iova: IOVA,
        bytes: if domain.contains("splitting") { 2 << 20 } else { BYTES },
        source: Source::Memory { memory: 0, offset: 0 },
        write: true,
        kind: MemoryKind::Normal,
        rights: Rights::Data,
    };
    let write = |master, page| {
        let (iova, data) = (IOVA + page * PAGE, vec![1; 8]);
        let substream = smmuv3_testbench::scenario::Substream::None;
        Operation::Write { master, substream, iova, data }
    };
    let read = Operation::Read {
        master: 1,
        substream: smmuv3_testbench::scenario::Substream::None,
        iova: IOVA + PAGE,
        bytes: 8,
        instruction: false,
    };
    let attach = |master| Operation::attach(master, Use::Domain(0));
    // TLBs have a page as written, and one as clean.
    let before = [attach(0), attach(1), map, write(0, 3), read];
    let call = &Operation::Take { domain: 0, iova: IOVA, bytes: BYTES };
    let mut verdicts = Vec::new();
    for (seed, master) in [(0, 0), (1, 1), (2, 0)] {
        for unmap in [&write(master, 0), &write(master, 2)] {
            let (before, settings) = (&before[..], settings.clone());
            let steps = EveryStep { scenario, settings, before, call, unmap, seed };
            let found = steps.verdicts();
            assert!(found.len() >= 4, "{} moments", found.len());
            verdicts.extend(found.into_iter().map(|it| it.map(|it| it.to_string())));
        }
    }
    verdicts
}

const SHAPES: [&str; 4] = ["", "stage = 2", "contiguous = true", "splitting = true"];

#[test]
fn a_write_at_any_moment_of_an_unmap_that_tells_is_told_or_faults() {
    for domain in SHAPES {
        for (moment, verdict) in at_every_moment(domain, &Settings::default()).iter().enumerate() {
            assert_eq!(*verdict, None, "{domain}, moment {moment}");
        }
    }
}

/// A driver that reads and then unmaps loses what is written between.
#[cfg(feature = "mutation")]
#[test]
fn a_driver_that_reads_before_it_unmaps_loses_a_write() {
    let mutation = Some(smmuv3::Mutation::DirtyBeforeUnmap);
    let settings = Settings { mutation, ..Settings::default() };
    for domain in ["", "stage = 2"] {
        let verdicts = at_every_moment(domain, &settings);
        let lost = verdicts.iter().flatten().filter(|it| it.contains("went with its mapping"));
        assert!(lost.count() > 0, "{verdicts:?}");
    }
}

/// As a step, and at random: half of the unmaps of what is marked.
#[test]
fn unmaps_of_scenarios_tell_what_was_written() {
    let text = r#"
name = "take"
instance = [{ name = "smmu0", httu = 2 }]
master = [{ name = "nic", instance = "smmu0", streams = [5] }]
domain = [{ name = "ram", dirty = true }, { name = "other" }]
memory = [{ name = "rx", size = "16K" }]
[[step]]
attach = { master = "nic", domain = "ram" }
[[step]]
map = { domain = "ram", iova = 0x10000, memory = "rx" }
[[step]]
write = { master = "nic", iova = 0x12000, data = "new" }
[[step]]
unmap = { domain = "ram", iova = 0x10000, length = "16K", dirty = true, expect = [0x12000] }
[[step]]
random = { steps = 400, pages = 16 }
"#;
    let scenario = parse(text);
    assert_eq!(parse(&scenario.to_toml()).to_toml(), scenario.to_toml());
    for seed in 0..4 {
        let options = Options { seed: Some(seed), ..Options::default() };
        let report = run(&scenario, &options, &mut |_| ()).unwrap();
        assert!(report.is_ok(), "seed {seed}: {:#?}", report.failure);
    }
    let wrong = run(&parse(&text.replace("[0x12000]", "[]")), &Options::default(), &mut |_| ());
    assert_eq!(wrong.unwrap().verdict, "expectation");
    let unmarked = text.replace("unmap = { domain = \"ram\"", "unmap = { domain = \"other\"");
    let errors = Scenario::parse(&unmarked, "take").unwrap_err().to_string();
    assert!(errors.contains("nobody marks what is written in domain \"other\""), "{errors}");
}

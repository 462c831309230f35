// SPDX-License-Identifier: MIT OR Apache-2.0
//! By the layer below `Iommu`: one stream under one table of stage 1.

use core::hint::black_box;

use smmuv3::context_table::ContextTable;
use smmuv3::entry::{Context, Stream, WithoutSubstream};
use smmuv3::instance::Probed;
use smmuv3::invalidate::{Range, Scope};
use smmuv3::pagetable::{Gather, Stage1Table4K};
use smmuv3::update::{CdKind, SteKind, update};
use smmuv3::{Attributes, InstanceConfig, Iova, PhysAddr, Prot, StreamId, SubstreamId, Tag};

use crate::board::{Board, Registers};

/// Everything once. `None`: something went wrong.
pub fn everything() -> Option<()> {
    let platform = &Board;
    let mut config = InstanceConfig::named("smmu");
    config.sid_bits = 16;
    let probed = Probed::<Board>::new(Registers, config).ok()?;
    // SAFETY: there is one platform.
    let smmu = unsafe { probed.enable(platform) }.ok()?;
    let features = smmu.features();
    let (input_bits, output_bits) = (features.input_bits.min(48), features.output_bits.min(48));
    let table = Stage1Table4K::new(platform, input_bits, output_bits).ok()?;
    let (iova, pa, bytes) = black_box((Iova(0x1_0000), PhysAddr(0x8000_0000), 0x4000));
    let attributes = Attributes::normal(Prot::READ | Prot::WRITE);
    // SAFETY: nothing is run.
    unsafe { table.map(platform, iova, pa, bytes, attributes) }.ok()?;

    // SAFETY: there is one platform.
    let contexts = unsafe { ContextTable::new(platform, features, 0) }?;
    let tag = Tag::el1(0, black_box(1));
    let context = Context::new(table.root(), 12, [input_bits, output_bits], tag.asid);
    let entry = contexts.entry(platform, SubstreamId(0))?;
    let untold = || Ok::<(), ()>(());
    // SAFETY: nothing is run.
    unsafe { update::<_, CdKind, _>(platform, entry, &context.encode(features).0, untold) }.ok()?;
    let translated = Stream::Stage1 {
        contexts: contexts.base(),
        format: contexts.format(),
        bits: 0,
        without: WithoutSubstream::First,
        vmid: 0,
    };
    let stream = StreamId(black_box(0x100));
    let write = |what: Stream| {
        let entry = smmu.streams().entry(platform, stream)?;
        let forget = || smmu.forget_streams(platform, &[stream]);
        let target = what.encode(features).0;
        // SAFETY: nothing is run.
        unsafe { update::<_, SteKind, _>(platform, entry, &target, forget) }.ok().map(drop)
    };
    write(translated)?;

    let mut keep = |delivery| {
        black_box(&delivery);
    };
    while smmu.events().drain(platform, smmu.mmio(), 64, &mut keep).ok()? {}

    let mut gather = Gather::<4>::sized();
    // SAFETY: as above.
    let mut cursor = unsafe { table.unmap(platform, iova, bytes) }.ok()?;
    while cursor.next(&mut gather) {
        let gathered = gather.range();
        let scope = Scope::Range(Range {
            start: gathered.start,
            bytes: gathered.end - gathered.start,
            granule_shift: 12,
            leaf_shift: gather.leaf_size().map(u64::trailing_zeros),
            leaf_only: gather.leaf_only(),
        });
        smmu.wait(platform, smmu.invalidate(platform, tag, scope).ok()?).ok()?;
        // SAFETY: no SMMU walks them any more.
        unsafe { gather.free_tables(platform) };
        gather.clear();
    }
    write(Stream::Blocked)
}

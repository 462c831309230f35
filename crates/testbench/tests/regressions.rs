// SPDX-License-Identifier: MIT OR Apache-2.0
//! What once went wrong, each as short as it could be made.

mod common;

use std::sync::Arc;

use smmuv3::{
    Attributes, Config, DomainConfig, InstanceConfig, Iommu, Iova, MasterConfig, PhysAddr, Prot,
    StreamId,
};
use smmuv3_testbench::frees::Frees;
use smmuv3_testbench::machine::{Dma, Machine};
use smmuv3_testbench::machine_model::ModelMachine;
use smmuv3_testbench::platform::{TestMmio, TestPlatform, World};
use smmuv3_testbench::run::{Options, run};
use smmuv3_testbench::scenario::Scenario;

const ONE_WITHOUT_RANGES: &str = r#"
name = "one-without-ranges"
[[instance]]
name = "smmu"
range-invalidation = false
[[master]]
name = "nic"
instance = "smmu"
streams = [1]
[[domain]]
name = "space"
[[step]]
attach = { master = "nic", domain = "space" }
"#;

/// The single-address commands for a 1 GiB block stepped over the tables that were unlinked with it.
#[test]
fn empty_tables_beside_a_large_block_are_invalidated_before_they_are_freed() {
    const GIB: u64 = 1 << 30;
    let scenario = Scenario::parse(ONE_WITHOUT_RANGES, "regression").unwrap();
    let machine = Arc::new(ModelMachine::new(&scenario, 1).unwrap());
    let world = World::new(machine.clone(), 1);
    let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
    let mut config = InstanceConfig::named("smmu");
    config.sid_bits = 4;
    let mmio = TestMmio { world: world.clone(), instance: 0 };
    let smmu = iommu.probe(mmio, config).unwrap().enable().unwrap();
    let nic = iommu.add_master(&smmu, &[StreamId(1)], MasterConfig::default()).unwrap();
    let space = iommu.create_domain(DomainConfig::default()).unwrap();
    iommu.attach(&nic, &space).unwrap();
    let frees = Frees::watch(&world, 1);

    let memory = PhysAddr(world.frames().allocate(0x1000, 0x1000).unwrap());
    let attributes = Attributes::normal(Prot::READ | Prot::WRITE);
    let page = Iova(GIB + (10 << 20));
    // SAFETY: this test alone uses the domain; the devices only touch the page.
    unsafe {
        space.map(page, memory, 0x1000, attributes).unwrap();
        machine.dma(0, None, page.0, Dma::Write(&[1; 8])).unwrap();
        // The page goes; its table stays, and so does the SMMU's entry for the table.
        space.unmap(page, 0x1000).unwrap();
        space.map(Iova(0), PhysAddr(0x4000_0000), GIB, attributes).unwrap();
        assert_eq!(space.unmap(Iova(0), 2 * GIB), Ok(GIB));
    }
    frees.finish();
}

const MANY_ON_A_SHORT_QUEUE: &str = r#"
name = "many-on-a-short-queue"
instance = [{ name = "smmu", event-queue = 1, stream-table = "two-level" }]
master = [
    { name = "nic", instance = "smmu", streams = [0x100] },
    { name = "disk", instance = "smmu", streams = [0x200] },
    { name = "gpu", instance = "smmu", streams = [0x300] },
]
"#;

/// The testbench looked at the events only after all devices had tried, when the queue had lost one.
#[test]
fn each_device_without_an_entry_is_reported_though_the_queue_holds_two_events() {
    let scenario = Scenario::parse(MANY_ON_A_SHORT_QUEUE, "regression").unwrap();
    let report = run(&scenario, &Options::default(), &mut |_| ()).unwrap();
    assert_eq!(report.verdict, "ok", "{:?}", report.failure);
}

/// One whose write finds at its end that its mapping cannot be marked any more, while the events of the other SMMU are read.
const LATE_MARK: &str = r#"
name = "late-mark"
seed = 1285
instance = [
    { name = "smmu0", repeated-invalidation = true, httu = 2 },
    { name = "smmu1", ecmdq = 2, wide-input = true },
]
master = [{ name = "nic", instance = "smmu0", streams = [0xc0] }]
domain = [{ name = "domain", granule = "4K", dirty = true }]
memory = [{ name = "pool", size = "8M", align = "2M" }]
step = [
    { map = { domain = "domain", iova = 0xdbfffd000, memory = "pool", offset = 0x45f000, length = "8K" } },
    { map = { domain = "domain", iova = 0xdc0000000, memory = "pool", offset = 0x88000, length = "4K" } },
    { attach = { master = "nic", domain = "domain" } },
    { interrupt = 1297, unmap-deferred = { domain = "domain", iova = 0xdbfffd000, length = "28K" } },
]
"#;

/// The testbench read each queue once, and took what came into the first meanwhile for unreported.
#[test]
fn an_event_that_comes_while_another_queue_is_read_is_looked_for_again() {
    let scenario = Scenario::parse(LATE_MARK, "regression").unwrap();
    let report = run(&scenario, &Options::default(), &mut |_| ()).unwrap();
    assert_eq!(report.verdict, "ok", "{:?}", report.failure);
}

const STALLS_AT_A_CRASH: &str = r#"
name = "stalls-at-a-crash"
seed = 5
instance = [{
    name = "smmu1", msi = true, stalls = 16, interrupts = "msi", repeated-invalidation = true,
    lpa2 = true, wide-input = true, httu = 2,
}]
master = [{ name = "nic", instance = "smmu1", streams = [1], stalls = true }]
domain = [{ name = "domain", granule = "16K" }]
step = [
    { interrupt = 17, attach = { master = "nic", domain = "domain" } },
    { interrupt = 21, answer = { master = "nic", reply = "retry" } },
    { hand-over = {} },
]
"#;

/// The testbench forgot what was in the old kernel's event queue when that crashed, not what came into it until the new one
/// took it away.
#[test]
fn what_comes_into_the_queue_of_a_kernel_that_crashed_is_for_nobody() {
    let scenario = Scenario::parse(STALLS_AT_A_CRASH, "regression").unwrap();
    let report = run(&scenario, &Options::default(), &mut |_| ()).unwrap();
    assert_eq!(report.verdict, "ok", "{:?}", report.failure);
}

const IDENTITY_BESIDE_A_PASID: &str = r#"
name = "identity-beside-a-pasid"
seed = 12
instance = [{ name = "smmu", ssid-bits = 16 }]
master = [{ name = "nic", instance = "smmu", streams = [0x1f], pasid-bits = 6 }]
domain = [{ name = "old", granule = "4K" }, { name = "new", granule = "4K" }]
memory = [{ name = "pool", size = "8M", align = "2M" }]
step = [
    { attach = { master = "nic", pasid = 1, domain = "old" } },
    { attach = { master = "nic", domain = "identity" } },
    { hand-over = {} },
    { map = { domain = "new", iova = 0xf05f8000, memory = "pool", offset = 0x56f000, length = "12K" } },
    { interrupt = 253, attach = { master = "nic", domain = "new" } },
]
"#;

/// Another table and another S1DSS are two words. The testbench knew that of those with a PASID alone, not of the others.
#[test]
fn an_adopted_entry_with_contexts_changes_through_an_invalid_one() {
    let scenario = Scenario::parse(IDENTITY_BESIDE_A_PASID, "regression").unwrap();
    let report = run(&scenario, &Options::default(), &mut |_| ()).unwrap();
    assert_eq!(report.verdict, "ok", "{:?}", report.failure);
}

const CUT_OFF_TWICE: &str = r#"
name = "cut-off-twice"
instance = [{ name = "smmu", ssid-bits = 9, two-level-contexts = true, ats = true, pri = true }]
master = [{ name = "nic", instance = "smmu", streams = [0x208], pasid-bits = 8, ats = true, pri = true }]
process = [{ name = "old" }, { name = "new" }]
step = [
    { mute = { master = "nic", late = true } },
    { bind = { process = "old", master = "nic", refused = "maybe" } },
    { hand-over = {} },
    { readmit = { master = "nic" } },
    { mute = { master = "nic", late = true } },
    { interrupt = NUMBER, bind = { process = "new", master = "nic", refused = "maybe" } },
]
"#;

/// A device is cut off, readmitted before anybody was told, and cut off once more: that is told twice. The testbench took the
/// second time for one too many.
#[test]
fn a_device_that_is_cut_off_again_before_that_was_told_is_told_of_again() {
    for number in 1..=60 {
        let text = CUT_OFF_TWICE.replace("NUMBER", &number.to_string());
        let scenario = Scenario::parse(&text, "regression").unwrap();
        let options = Options { seed: Some(2346), no_shrink: true, ..Options::default() };
        let report = run(&scenario, &options, &mut |_| ()).unwrap();
        assert_eq!(report.verdict, "ok", "{number}: {:?}", report.failure);
    }
}

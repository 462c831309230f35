// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reports made by hand, to be shown in tests.

use std::collections::BTreeMap;

use smmuv3_testbench::coverage::Pairs;
use smmuv3_testbench::report::{
    Coverage, DmaCounts, Failure, Fault, Instance, Report, Step, TagOf, Told,
};

/// A run that went well, with every kind of thing in it.
pub fn ok() -> Report {
    Report {
        scenario: "two-instances".to_owned(),
        description: "One domain is attached on an SMMU with 8-bit ASIDs and on one with 16-bit \
                      ASIDs, beside a domain of each alone. Unmapping it must reach both; nothing \
                      stale may be left on either."
            .to_owned(),
        machine: "model".to_owned(),
        seed: 1,
        verdict: "ok".to_owned(),
        failure: None,
        instances: vec![
            instance("smmu0", 8, &[("nic", &[0x900]), ("disk", &[0xa00])]),
            instance("smmu1", 16, &[("gpu", &[0x1100, 0x1102, 0x1103, 0x1104])]),
        ],
        steps: steps(),
        commands: [
            ("CMD_SYNC", 1312),
            ("CMD_CFGI_STE", 44),
            ("CMD_TLBI_NH_VA", 130),
            ("CMD_TLBI_NH_ASID", 9),
        ]
        .map(|(name, times)| (name.to_owned(), times))
        .into(),
        statistics: Vec::new(),
        domains: Vec::new(),
        faults: vec![fault(5, 0x21000)],
        random_faults: Vec::new(),
        data: 0,
        dma: DmaCounts { transfers: 345, bytes: 1_254_321, faults_expected: 120 },
        coverage: Some(Coverage {
            operations: 10_000,
            accesses: 6_400,
            tlb_hits: Some(45.25),
            faults: 12.06,
            stale_attempts: 9.0,
            interruptions: 1_031,
            pairs: Pairs::default(),
        }),
    }
}

/// The same, until an unmap left something behind.
pub fn broken() -> Report {
    let mut report = ok();
    report.steps.truncate(6);
    report.steps[5].outcome = "smmu1 still reaches what was unmapped".to_owned();
    report.verdict = "R1".to_owned();
    report.failure = Some(Failure {
        rule: "R1".to_owned(),
        meaning: "when unmap, detach or attach has returned, no DMA reaches the old memory"
            .to_owned(),
        text: "gpu (sid 0x1100) read 0x10000 through a TLB entry of smmu1 with asid 0xffff, which \
               leads to 0x80010000: not mapped since the unmap returned"
            .to_owned(),
        step: 5,
        line: 182,
        trace: [
            "attach gpu to shared",
            "map shared 0x10000, 4K of packets",
            "read 4 bytes at 0x10000 with gpu",
            "unmap shared 0x10000, 4K",
            "read 4 bytes at 0x10000 with gpu",
        ]
        .map(str::to_owned)
        .to_vec(),
        hardware: [
            "smmu1 stream 0x1100 read 0x10000 as asid 0xffff: TLB hit, 0x80010000",
            "smmu1 took CMD_SYNC",
        ]
        .map(str::to_owned)
        .to_vec(),
    });
    report
}

fn instance(name: &str, asid_bits: u32, masters: &[(&str, &[u32])]) -> Instance {
    let registers = [
        ("AIDR", 1),
        ("IDR0", 0x0d44_101b),
        ("IDR1", 0x0273_0010),
        ("IDR3", 0x1014),
        ("IDR5", 0x74),
    ];
    Instance {
        name: name.to_owned(),
        asid_bits,
        sid_bits: 16,
        output_bits: 44,
        stage_1: true,
        stage_2: asid_bits == 16,
        granules: ["4K", "16K", "64K"].map(str::to_owned).to_vec(),
        range_invalidation: true,
        coherent: asid_bits == 16,
        commands: 256,
        id_registers: registers.map(|(name, value)| (name.to_owned(), value)).into(),
        masters: masters
            .iter()
            .map(|(name, streams)| ((*name).to_owned(), streams.to_vec()))
            .collect::<BTreeMap<_, _>>(),
    }
}

fn fault(step: usize, page: u64) -> Fault {
    Fault {
        step,
        instance: "smmu1".to_owned(),
        master: "gpu".to_owned(),
        stream: 0x1100,
        substream: None,
        event: "F_TRANSLATION",
        meaning: "nothing is mapped there",
        page,
        access: "read",
    }
}

fn told(instance: &str, command: &str, times: u64) -> Told {
    Told { instance: instance.to_owned(), command: command.to_owned(), times }
}

fn tag(instance: &str, asid: u16) -> TagOf {
    let (domain, instance) = ("shared".to_owned(), instance.to_owned());
    TagOf { domain, instance, vmid: 0, asid, shared: false }
}

fn step(number: usize, line: usize, text: &str, outcome: &str) -> Step {
    Step {
        number,
        line,
        text: text.to_owned(),
        note: None,
        outcome: outcome.to_owned(),
        commands: Vec::new(),
        tags: Vec::new(),
        faults: Vec::new(),
    }
}

fn steps() -> Vec<Step> {
    let enable = |instance| {
        ["CMD_CFGI_ALL SID=0x0 Range=0x1f", "CMD_SYNC CS=0x1", "CMD_TLBI_NSNH_ALL", "CMD_SYNC"]
            .map(|command| told(instance, command, 1))
    };
    let unmapped = |instance, asid| {
        let tlbi =
            format!("CMD_TLBI_NH_VA SCALE=0x3 ASID={asid:#x} Leaf=0x1 TTL=0x3 TG=0x1 Addr=0x10000");
        [told(instance, &tlbi, 1), told(instance, "CMD_SYNC", 1)]
    };
    let random = (0..40).flat_map(|n| {
        [
            told("smmu0", &format!("CMD_CFGI_STE SID={n:#x} Leaf=0x1"), 1),
            told("smmu1", "CMD_TLBI_NH_ASID ASID=0xffff", 1),
            told("smmu0", "CMD_SYNC", 1),
            told("smmu1", "CMD_SYNC", 1),
        ]
    });
    vec![
        Step {
            commands: enable("smmu0").into_iter().chain(enable("smmu1")).collect(),
            ..step(1, 0, "probe, reset and enable both SMMUs", "on, every stream blocked")
        },
        Step {
            note: Some("A device that nobody attached reaches nothing.".to_owned()),
            ..step(2, 60, "nic writes 20 bytes at 0x10000", "refused without an event")
        },
        Step {
            note: Some(
                "gpu joins the same domain behind the other SMMU: an ASID of its own there, as \
                 wide as 16 bits."
                    .to_owned(),
            ),
            tags: vec![tag("smmu0", 1), tag("smmu1", 0xffff)],
            commands: vec![
                told("smmu1", "CMD_TLBI_NH_ASID ASID=0xffff", 1),
                told("smmu1", "CMD_SYNC", 1),
                told("smmu1", "CMD_CFGI_STE SID=0x1100 Leaf=0x1", 1),
                told("smmu1", "CMD_SYNC", 2),
            ],
            ..step(3, 70, "attach gpu to shared", "attached")
        },
        step(
            4,
            80,
            "expect data in memory frames at offset 0x100000: 00 11 22 33 44 55 66 77 and 8 more",
            "found",
        ),
        Step {
            faults: vec![fault(5, 0x21000), fault(5, 0x22000), fault(5, 0x40000)],
            ..step(5, 90, "gpu reads 64 bytes at 0x21000", "refused")
        },
        Step {
            note: Some(
                "Half of the packets go. When unmap returns, neither may use them.".to_owned(),
            ),
            tags: vec![tag("smmu0", 1), tag("smmu1", 0xffff)],
            commands: unmapped("smmu0", 1).into_iter().chain(unmapped("smmu1", 0xffff)).collect(),
            ..step(6, 182, "unmap shared 0x10000, 32K", "32K unmapped")
        },
        Step {
            commands: random.collect(),
            ..step(7, 200, "10000 random operations", "every one as it must be")
        },
    ]
}

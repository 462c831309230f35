// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whatever software, memory and devices do, the model carries on.

use proptest::collection::vec;
use proptest::prelude::*;
use smmuv3_formats::Command;
use smmuv3_model::{
    Access, Answers, Broadcast, Endpoint, Granule, Page, Pages, Profile, Tlbi, Transfer, World,
};

use crate::context_table::*;
use crate::machine::*;
use crate::nested::{OFFSET, OUTPUT, OUTPUT_SLOT, a3, a3_ste, slot_of};
use crate::stage_2::{S2_L1, S2_L2, page};

#[derive(Clone, Debug)]
enum Step {
    Write32(u32, u32),
    Write64(u32, u64),
    Read32(u32),
    Read64(u32),
    Poke(u64, u64),
    Command([u64; 2]),
    Access(Access),
    Hold(Access, usize, bool),
    Act,
    Run(usize),
    Perform,
    References(u64, u64),
    Break(u64),
    Broadcast(Broadcast),
    Switch(bool, bool, bool, bool),
    Device(Access),
    HoldDevice(Access, usize),
    Pages(Option<u32>, u64, bool),
    Stop(u32),
}

fn offset() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => (0u32..0x50).prop_map(|n| 4 * n),
        2 => prop::sample::select(vec![EVENTQ_PROD, EVENTQ_CONS, 0x100c8, 0x100cc]),
        1 => any::<u32>(),
    ]
}

/// Numbers that look like bases, descriptors, entries, or like nothing.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0u64..64,
        (0u64..0x800, 0u64..16).prop_map(|(page, low)| RAM + 0x1000 * page + low),
        Just(L0 | 3),
        Just(PA | LEAF),
        Just(cd_words(5, L0)[0]),
        Just(LEAF_A | 1),
        (0u64..4, 0u64..9).prop_map(|(fmt, log2)| substream_ste(L1, fmt, log2)[0]),
        Just(a3_ste()[0]),
        (1u64..4).prop_map(|eats| a3_ste()[1] | eats << 28),
        // Every field of stage 2, and of the contexts, once in a while.
        (0u32..64).prop_map(|bit| a3_ste()[2] ^ 1 << bit),
        (0u32..64).prop_map(|bit| cd_words(5, OFFSET + L0)[0] ^ 1 << bit),
        (0u32..64).prop_map(|bit| page(OUTPUT) ^ 1 << bit),
        (0u32..64).prop_map(|bit| ((OFFSET + PA) | LEAF | 1 << 52) ^ 1 << bit),
        (any::<u64>(), any::<u64>()).prop_map(|(a, b)| a & b),
    ]
}

fn place() -> impl Strategy<Value = u64> {
    prop_oneof![
        (0u64..512).prop_map(|n| STRTAB + 8 * n),
        (0u64..16).prop_map(|n| CD + 8 * n),
        (0u64..2048).prop_map(|n| L0 + 8 * n),
        (0u64..64).prop_map(|n| CMDQ + 8 * n),
        Just(leaf_slot(L0)),
        Just(STRTAB + 64 * u64::from(SID)),
        (0u64..8).prop_map(|n| L1 + 8 * n),
        (0u64..64).prop_map(|n| LEAF_A + 8 * n),
        (0u64..4).prop_map(|n| S2_L1 + 8 * (0x3fc + n)),
        Just(S2_L2),
        prop::sample::select(vec![L0, L0 + 0x3000, CD]).prop_map(slot_of),
        Just(OUTPUT_SLOT),
    ]
}

fn access() -> impl Strategy<Value = Access> {
    let stream = prop_oneof![3 => Just(SID), 1 => 0u32..70, 1 => any::<u32>()];
    let address = prop_oneof![3 => (0u64..0x4000).prop_map(|n| VA + n), 1 => any::<u64>()];
    (stream, prop::option::of(0u32..20), address, any::<[bool; 4]>()).prop_map(
        |(stream, substream, address, [write, privileged, instruction, plain])| Access {
            stream,
            substream: substream.filter(|_| plain),
            address,
            write,
            privileged,
            instruction,
        },
    )
}

fn command() -> impl Strategy<Value = [u64; 2]> {
    let opcode = prop::sample::select(vec![
        0x01u64, 0x02, 0x03, 0x04, 0x05, 0x06, 0x10, 0x11, 0x12, 0x13, 0x28, 0x2a, 0x30, 0x46,
        0x46, 0xff, 0x40, 0x41,
    ]);
    prop_oneof![
        3 => (opcode, any::<[u64; 4]>()).prop_map(|(opcode, [a, b, c, d])| {
            [a & b & !0xfff | opcode, c & d]
        }),
        1 => any::<[u64; 2]>(),
    ]
}

fn broadcast() -> impl Strategy<Value = Broadcast> {
    let id = || prop_oneof![Just(0u16), Just(5), any::<u16>()];
    let pages = || {
        let granule = prop::sample::select(vec![Granule::K4, Granule::K16, Granule::K64]);
        (word(), any::<[u64; 2]>(), granule, any::<bool>()).prop_map(
            |(va, [a, b], granule, last_level)| {
                let count = a >> (b & 63);
                Pages { va, count, granule, last_level }
            },
        )
    };
    let tlbi = prop_oneof![
        (id(), pages()).prop_map(|(asid, pages)| Tlbi::Va { asid, pages }),
        pages().prop_map(|pages| Tlbi::Vaa { pages }),
        id().prop_map(|asid| Tlbi::Asid { asid }),
        Just(Tlbi::All),
    ];
    let world = prop::sample::select(vec![World::El1, World::El2, World::El2E2h]);
    (world, id(), tlbi).prop_map(|(world, vmid, tlbi)| Broadcast { world, vmid, tlbi })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (offset(), word()).prop_map(|(offset, value)| Step::Write32(offset, value as u32)),
        2 => (offset(), word()).prop_map(|(offset, value)| Step::Write64(offset, value)),
        1 => (0u32..32).prop_map(|value| Step::Write32(CR0, value)),
        1 => offset().prop_map(Step::Read32),
        1 => offset().prop_map(Step::Read64),
        4 => (place(), word()).prop_map(|(pa, value)| Step::Poke(pa, value)),
        6 => command().prop_map(Step::Command),
        6 => access().prop_map(Step::Access),
        2 => (access(), 0usize..9000, any::<bool>())
            .prop_map(|(access, bytes, write)| Step::Hold(access, bytes, write)),
        8 => Just(Step::Act),
        2 => (0usize..20).prop_map(Step::Run),
        1 => Just(Step::Perform),
        1 => (word(), word()).prop_map(|(start, bytes)| Step::References(start, bytes)),
        1 => place().prop_map(Step::Break),
        1 => broadcast().prop_map(Step::Broadcast),
        1 => any::<[bool; 4]>().prop_map(|[ats, pri, pasid, answers]| {
            Step::Switch(ats, pri, pasid, answers)
        }),
        3 => access().prop_map(Step::Device),
        2 => (access(), 0usize..9000).prop_map(|(access, bytes)| Step::HoldDevice(access, bytes)),
        2 => (prop::option::of(0u32..20), any::<u64>(), any::<bool>())
            .prop_map(|(substream, address, last)| Step::Pages(substream, address, last)),
        1 => any::<u32>().prop_map(Step::Stop),
    ]
}

fn profile() -> impl Strategy<Value = Profile> {
    let bits = (any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>());
    let wild = bits.prop_map(|(idr0, idr1, idr3, idr5)| {
        let mut profile = Profile::default();
        profile.idr0.0 = idr0;
        // Small tables, so that looking through all of memory stays quick.
        profile.idr1.0 = idr1 & !0x7ff | idr1 & 0x7 | idr1 & 0xc0;
        profile.idr3.0 = idr3;
        profile.idr5.0 = idr5;
        profile
    });
    prop_oneof![
        2 => Just(Profile::default().sidsize(7)),
        2 => Just(Profile::default().sidsize(6).ssidsize(8).two_level_contexts(true).btm(true)),
        1 => Just(Profile::small_asid().s2p(true).ssidsize(4).msi(true).eager(true).sidsize(6)),
        1 => Just(Profile::default().granules(true, true, true).oas(52).sidsize(8)),
        3 => Just(Profile::default().s2p(true).httu(2).ssidsize(4).sidsize(6)),
        1 => Just(
            Profile::default()
                .s2p(true)
                .httu(2)
                .granules(true, true, true)
                .oas(52)
                .lpa2(true)
                .wide_addresses(true)
                .small_tables(true)
                .ril(false)
                .bbml(1)
                .sidsize(6)
        ),
        3 => Just(Profile::default().s2p(true).ssidsize(4).sidsize(6).ats(true).pri(3)),
        1 => wild,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn nothing_makes_it_panic(
        profile in profile(),
        seed in any::<u64>(),
        set_up in 0u32..4,
        steps in vec(step(), 1..100),
    ) {
        // Profiles without the usual features cannot be set up in the usual way.
        let usual = profile.idr0.s1p() && !profile.stuck;
        let mut machine = match set_up {
            1 if usual => {
                let machine = Machine::new(profile, seed);
                machine.a1();
                machine
            }
            2.. if usual => {
                let machine = a3(profile, seed);
                // S2HA and S2HD.
                machine.put(STRTAB + 64 * u64::from(SID) + 16, a3_ste()[2] | 3 << 55);
                machine
            }
            _ => Machine::reset(profile, seed),
        };
        for step in steps {
            match step {
                Step::Write32(offset, value) => machine.smmu.write32(offset, value),
                Step::Write64(offset, value) => machine.smmu.write64(offset, value),
                Step::Read32(offset) => { let _ = machine.smmu.read32(offset); }
                Step::Read64(offset) => { let _ = machine.smmu.read64(offset); }
                Step::Poke(pa, value) => { let _ = smmuv3_model::Memory::write64(&*machine.ram, pa, value); }
                Step::Command(words) => {
                    machine.ram.repair();
                    machine.queue(Command(words));
                }
                Step::Access(access) => { let _ = machine.translate(access); }
                Step::Hold(access, bytes, write) => {
                    let payload = match write {
                        true => Transfer::Write(vec![7; bytes]),
                        false => Transfer::Read(bytes),
                    };
                    let _ = machine.smmu.hold(access, payload);
                }
                Step::Act => machine.smmu.act(),
                Step::Run(budget) => { let _ = machine.smmu.run(budget); }
                Step::Perform => {
                    let id = machine.smmu.held().next().map(|held| held.id);
                    id.map(|id| machine.smmu.perform(id));
                }
                Step::References(start, bytes) => { let _ = machine.smmu.references(start, bytes); }
                Step::Broadcast(broadcast) => {
                    let _ = machine.smmu.broadcast(broadcast);
                }
                Step::Switch(ats, pri, pasid, answers) => {
                    if machine.smmu.endpoint(SID).is_none() {
                        machine.smmu.plug(SID, Endpoint::default());
                    }
                    let device = machine.smmu.endpoint_mut(SID).unwrap();
                    (device.ats, device.pri, device.response_pasid) = (ats, pri, pasid);
                    device.answers = if answers { Answers::InTime } else { Answers::Never };
                }
                Step::Device(access) => { let _ = machine.smmu.access(access); }
                Step::HoldDevice(access, bytes) => {
                    let _ = machine.smmu.hold_access(access, Transfer::Write(vec![7; bytes]));
                }
                Step::Pages(substream, address, last) => {
                    let page = Page { address, read: true, write: last };
                    let _ = machine.smmu.ask_for_pages(SID, substream, &[page; 2], last);
                }
                Step::Stop(substream) => { let _ = machine.smmu.stop_pasid(SID, substream); }
                Step::Break(pa) => machine.ram.break_range(pa, 64),
            }
        }
        for misuse in machine.misuses() {
            prop_assert!(!misuse.to_string().is_empty());
        }
        machine.smmu.cached_stes();
        machine.smmu.cached_cds();
        machine.smmu.cached_l1_cds();
        machine.smmu.interrupts();
    }
}

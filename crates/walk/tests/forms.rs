// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the model lacks: large addresses, updates by hardware, stalls, the EL2 world, big-endian tables, types
//! that stage 2 forces. Descriptors are put together by hand from §14 to §16.

use smmuv3_formats::register::{StrtabBase, StrtabBaseCfg};
use smmuv3_formats::{Cd, EventId, Ste};
use smmuv3_walk::{Access, Ending, Fault, Outcome, Smmu, Translation, Words, walk};

const BASE: u64 = 0x8000_0000;
const CD: u64 = 0x8000_1000;
/// Where tables begin: room for one of 64 KiB each.
const fn table(number: u64) -> u64 {
    0x8010_0000 + (number << 16)
}

fn smmu() -> Smmu {
    Smmu::with_everything(StrtabBase(BASE), StrtabBaseCfg(1))
}

/// A context with 4 KiB pages, 39-bit addresses and tables from 0 on, of which the rest is for the test.
fn cd() -> Cd {
    let cd = Cd::default().with_v(true).with_aa64(true).with_a(true).with_r(true).with_epd1(true);
    cd.with_t0sz(25).with_ips(5).with_ttb0(table(0)).with_mair(0xff)
}

fn ste() -> Ste {
    Ste::default().with_v(true).with_config(0b101).with_sh_cfg(1).with_s1_context_ptr(CD)
}

/// A stage-1 page: for everybody, AF, never executed.
const fn page(address: u64) -> u64 {
    address | 1 << 54 | 1 << 53 | 1 << 10 | 0b01 << 6 | 0b11
}

fn memory(ste: &Ste, cd: &Cd) -> Words {
    let mut memory = Words::new().with_range(BASE, 0x100_0000);
    memory.write_words(BASE, &ste.0);
    memory.write_words(CD, &cd.0);
    memory
}

/// Three levels that lead from 0x1000 to `leaf`.
fn with_page(ste: &Ste, cd: &Cd, leaf: u64) -> Words {
    let mut memory = memory(ste, cd);
    memory.write64(table(0), table(1) | 0b11);
    memory.write64(table(1), table(2) | 0b11);
    memory.write64(table(2) + 8, leaf);
    memory
}

#[track_caller]
fn translated(memory: &Words, smmu: &Smmu, access: Access) -> Translation {
    match walk(memory, smmu, access).outcome {
        Outcome::Translated(translation) => translation,
        other => panic!("{other:x?}"),
    }
}

#[track_caller]
fn fault(memory: &Words, smmu: &Smmu, access: Access) -> Fault {
    match walk(memory, smmu, access).outcome {
        Outcome::Fault(fault) => fault,
        other => panic!("{other:x?}"),
    }
}

#[test]
fn lpa2_begins_at_level_minus_one_and_splits_addresses() {
    let cd = cd().with_t0sz(12).with_ips(6).with_ds(true).with_sh0(3);
    let mut memory = memory(&ste(), &cd);
    // 0x000a_8123_4567_8000: bits 51:48, then four times nine bits.
    let va = 0x000a_8123_4567_8000;
    memory.write64(table(0) + 8 * 0xa, table(1) | 0b11);
    memory.write64(table(1) + 8 * 0x102, table(2) | 0b11);
    memory.write64(table(2) + 8 * 0x08d, table(3) | 0b11);
    memory.write64(table(3) + 8 * 0x02b, table(4) | 0b11);
    // Bits 49:48 of 0x000d_1234_5678_9000 in place, 51:50 in bits 9:8.
    memory.write64(table(4) + 8 * 0x078, 0x0061_1234_5678_9743);
    let found = translated(&memory, &smmu(), Access::write(0, va | 0x321));
    assert_eq!((found.address, found.bytes_log2), (0x000d_1234_5678_9321, 12));
    // Shareability is that of the CD.
    assert_eq!(found.attributes.to_string(), "Normal WB, ISH");
    let levels: Vec<_> = walk(&memory, &smmu(), Access::read(0, va))
        .steps
        .iter()
        .filter_map(|step| step.level)
        .collect();
    assert_eq!(levels, [-1, 0, 1, 2, 3]);
    // A block of 512 GiB.
    memory.write64(table(1) + 8 * 0x102, 0x0060_0080_0000_0441);
    let found = translated(&memory, &smmu(), Access::read(0, va));
    assert_eq!((found.address, found.bytes_log2), (0x0000_00a3_4567_8000, 39));
    // Without DS on the instance, the CD's T0SZ is out of range.
    let mut small = smmu();
    small.implementation.idr5 = small.implementation.idr5.with_ds(false);
    let fault = fault(&memory, &small, Access::read(0, va));
    assert_eq!((fault.id, fault.rule.unwrap().field), (EventId::CBadCd, "T0SZ"));
}

#[test]
fn granules_of_64_kib_have_52_bits() {
    let cd = cd().with_t0sz(12).with_tg0(1).with_ips(6);
    let mut memory = memory(&ste(), &cd);
    // Bits 51:42, 41:29, 28:16 of the address.
    let va = 0x000a_8123_4567_8000;
    memory.write64(table(0) + 8 * 0x2a0, table(1) | 0b11);
    memory.write64(table(1) + 8 * 0x091a, table(2) | 0b11);
    memory.write64(table(2) + 8 * 0x0567, 0x0060_1234_5678_d443);
    let found = translated(&memory, &smmu(), Access::read(0, va));
    assert_eq!((found.address, found.bytes_log2), (0x000d_1234_5678_8000, 16));
    // Under IPS 48 those bits are too many.
    memory.write_words(CD, &cd.with_ips(5).0);
    assert_eq!(fault(&memory, &smmu(), Access::read(0, va)).id, EventId::FAddrSize);
    // On an instance of 48 bits they mean nothing.
    let mut small = smmu();
    small.implementation.idr5 = small.implementation.idr5.with_oas(5);
    let found = translated(&memory, &small, Access::read(0, va));
    assert_eq!(found.address, 0x0000_1234_5678_8000);
}

#[test]
fn hardware_sets_flags_where_it_may() {
    let access = Access::read(0, 0x1000);
    let clear = page(0x9000_0000) & !(1 << 10);
    let old = with_page(&ste(), &cd(), clear);
    assert_eq!(fault(&old, &smmu(), access).id, EventId::FAccess);
    let set = with_page(&ste(), &cd().with_ha(true), clear);
    let found = translated(&set, &smmu(), access);
    assert_eq!(
        found.updates,
        ["hardware sets the access flag of the stage-1 descriptor at 0x80120008"]
    );
    // AFFD: nobody looks.
    let quiet = with_page(&ste(), &cd().with_affd(true), clear);
    assert_eq!(translated(&quiet, &smmu(), access).updates, [""; 0]);
    // Writable-clean: AP[2] and DBM.
    let clean = page(0x9000_0000) | 0b10 << 6 | 1 << 51;
    let write = Access::write(0, 0x1000);
    let access_only = with_page(&ste(), &cd().with_ha(true), clean);
    assert_eq!(fault(&access_only, &smmu(), write).id, EventId::FPermission);
    let both = with_page(&ste(), &cd().with_ha(true).with_hd(true), clean);
    let found = translated(&both, &smmu(), write);
    assert_eq!(found.updates, ["hardware marks as written the stage-1 descriptor at 0x80120008"]);
    assert_eq!(translated(&both, &smmu(), access).updates, [""; 0]);
    // Not where a table has taken the right away.
    let mut limited = both.clone();
    limited.write64(table(1), table(2) | 0b11 | 0b10 << 61);
    assert_eq!(fault(&limited, &smmu(), write).id, EventId::FPermission);
}

/// Stage 2 of one level-1 table: 1 GiB blocks, read and written unless `read_only`.
fn nested(memory: &mut Words, ste: &Ste, attributes: u64) -> Ste {
    memory.write64(table(9) + 8 * 2, 0x8000_0000 | attributes);
    let ste =
        ste.with_config(0b111).with_s2_aa64(true).with_s2_t0sz(25).with_s2_sl0(1).with_s2_r(true);
    let ste = ste.with_s2_ps(5).with_s2_ttb(table(9));
    memory.write_words(BASE, &ste.0);
    ste
}

#[test]
fn stage_2_has_a_say_in_updates_of_stage_1() {
    let clear = page(0x9000_0000) & !(1 << 10);
    let mut memory = with_page(&ste(), &cd().with_ha(true), clear);
    // A block: AF, ISH, read and write, WB.
    let open = 1 << 10 | 0b11 << 8 | 0b11 << 6 | 0b1111 << 2 | 0b01;
    nested(&mut memory, &ste(), open);
    let found = translated(&memory, &smmu(), Access::read(0, 0x1000));
    assert_eq!((found.address, found.updates.len()), (0x9000_0000, 1));
    nested(&mut memory, &ste(), open & !(0b10 << 6));
    let fault = fault(&memory, &smmu(), Access::read(0, 0x1000));
    // S2, CLASS = TT, a write of the table: TTRnW is clear; the access is a read.
    let flags = 1 << 39 | 1 << 40 | 1 << 35;
    assert_eq!(fault.event.0, [EventId::FPermission as u64, flags, 0x1000, table(2)]);
}

#[test]
fn stage_2_combines_and_forces_types() {
    // MAIR 0x44: non-cacheable at stage 1.
    let mut memory = with_page(&ste(), &cd().with_mair(0x44), page(0x9000_0000) | 0b11 << 8);
    let ste = nested(&mut memory, &ste(), 1 << 10 | 0b11 << 6 | 0b1111 << 2 | 0b01);
    let of = |memory: &Words| {
        translated(memory, &smmu(), Access::read(0, 0x1000)).attributes.to_string()
    };
    assert_eq!(of(&memory), "Normal NC, OSH");
    // FWB, 110: write-back whatever stage 1 says; 001: Device.
    let forced = ste.with_s2_fwb(true);
    nested(&mut memory, &forced, 1 << 10 | 0b11 << 6 | 0b0110 << 2 | 0b01);
    assert_eq!(of(&memory), "Normal WB, ISH");
    nested(&mut memory, &forced, 1 << 10 | 0b11 << 6 | 0b0001 << 2 | 0b01);
    assert_eq!(of(&memory), "Device-nGnRE, OSH");
}

#[test]
fn faults_end_as_the_context_says() {
    let access = Access::write(0, 0x2000);
    let of = |cd: Cd| fault(&with_page(&ste(), &cd, 0), &smmu(), access);
    let plain = of(cd());
    assert_eq!((plain.ending, plain.recorded, plain.event.stall()), (Ending::Abort, true, false));
    let quiet = of(cd().with_r(false));
    assert_eq!((quiet.ending, quiet.recorded), (Ending::Abort, false));
    let ignored = of(cd().with_a(false));
    assert_eq!((ignored.ending, ignored.recorded), (Ending::Ignored, true));
    let stalled = of(cd().with_r(false).with_s(true));
    assert_eq!(
        (stalled.ending, stalled.recorded, stalled.event.stall()),
        (Ending::Stall, true, true)
    );
    // What is no fault of translation is not concerned.
    let memory = with_page(&ste(), &cd().with_a(false).with_r(false).with_v(false), 0);
    let bad = fault(&memory, &smmu(), access);
    assert_eq!((bad.id, bad.ending, bad.recorded), (EventId::CBadCd, Ending::Abort, true));
}

#[test]
fn el2_has_one_half_and_one_privilege() {
    let ste = ste().with_strw(2);
    // Without AP[1], and executable but for XN.
    let leaf = page(0x9000_0000) & !(0b01 << 6) & !(1 << 54);
    let memory = with_page(&ste, &cd().with_epd0(true).with_epd1(false).with_tg1(0), leaf);
    let found = translated(&memory, &smmu(), Access::write(0, 0x1000));
    assert_eq!(found.permissions.to_string(), "rwx");
    let upper = 0xffff_ff80_0000_1000;
    assert_eq!(fault(&memory, &smmu(), Access::read(0, upper)).id, EventId::FTranslation);
    // With E2H there are two, and EPD0 counts.
    let mut host = smmu();
    host.implementation.e2h = true;
    let memory = with_page(&ste, &cd().with_epd0(true), leaf);
    assert_eq!(fault(&memory, &host, Access::write(0, 0x1000)).id, EventId::FTranslation);
}

#[test]
fn tables_may_be_big_endian() {
    let mut memory = memory(&ste(), &cd().with_endi(true));
    memory.write64(table(0), (table(1) | 0b11).swap_bytes());
    memory.write64(table(1), (table(2) | 0b11).swap_bytes());
    memory.write64(table(2) + 8, page(0x9000_0000).swap_bytes());
    assert_eq!(translated(&memory, &smmu(), Access::read(0, 0x1000)).address, 0x9000_0000);
    let mut little = smmu();
    little.implementation.idr0 = little.implementation.idr0.with_ttendian(2);
    assert_eq!(fault(&memory, &little, Access::read(0, 0x1000)).rule.unwrap().field, "ENDI");
}

#[test]
fn what_the_reference_does_not_describe_is_not_guessed() {
    let mut both = smmu();
    both.implementation.idr0 = both.implementation.idr0.with_ttf(3);
    let memory = with_page(&ste(), &cd().with_aa64(false), page(0x9000_0000));
    let found = walk(&memory, &both, Access::read(0, 0x1000)).outcome;
    assert!(
        matches!(found, Outcome::Unsupported { what } if what.contains("AArch32")),
        "{found:?}"
    );
}

#[test]
fn overrides_come_before_permissions_and_events() {
    // A page for privileged accesses.
    let leaf = page(0x9000_0000) & !(0b01 << 6);
    let access = Access::read(0, 0x1000);
    let plain = with_page(&ste(), &cd(), leaf);
    assert!(!fault(&plain, &smmu(), access).event.pnu());
    let raised = with_page(&ste().with_priv_cfg(3), &cd(), leaf);
    translated(&raised, &smmu(), access);
    // An instruction fetch, which XN forbids.
    let fetch = with_page(&ste().with_priv_cfg(3).with_inst_cfg(3), &cd(), leaf);
    let refused = fault(&fetch, &smmu(), access);
    assert_eq!((refused.event.pnu(), refused.event.ind()), (true, true));
    let mut fixed = smmu();
    fixed.implementation.idr1 = fixed.implementation.idr1.with_attr_perms_ovr(false);
    assert_eq!(fault(&raised, &fixed, access).id, EventId::FPermission);
}

/// Indices 0 to 3 of PIIP are rw, r, rwx, none, and of PIIU r, none, r, x; the index is bits 54, 53, 51 and 6.
#[test]
fn permissions_by_index_are_those_of_piip_and_piiu() {
    const PIIP: u64 = 0b000_111_001_101;
    const PIIU: u64 = 0b010_001_000_001;
    let base = table(8) | 1 << 10 | 0b11;
    let index = |index: u64| (index & 1) << 6 | (index >> 1 & 1) << 51;
    let cd = cd().with_pie(true).with_piip(PIIP).with_piiu(PIIU);
    let ste = ste().with_s1_pie(true);
    for (number, privileged, unprivileged) in
        [(0, "rw-", "r--"), (1, "r--", "---"), (2, "rwx", "r--"), (3, "---", "--x")]
    {
        // Tables take nothing then: APTable = 11 and both execute-nevers.
        let mut memory = with_page(&ste, &cd, base | index(number));
        memory.write64(table(0), table(1) | 0b11 | 0b1111 << 59);
        for (kind, rights) in [(true, privileged), (false, unprivileged)] {
            for (letter, write, instruction) in
                [('r', false, false), ('w', true, false), ('x', false, true)]
            {
                let access =
                    Access { write, instruction, privileged: kind, ..Access::read(0, 0x1000) };
                let found = walk(&memory, &smmu(), access).outcome;
                assert_eq!(
                    matches!(found, Outcome::Translated(_)),
                    rights.contains(letter),
                    "{number} {access:x?}: {found:x?}"
                );
            }
        }
    }
    // Bit 7 is nDirty: no write, unless hardware clears it.
    let clean = base | 1 << 7;
    let write = Access { privileged: true, ..Access::write(0, 0x1000) };
    let why = fault(&with_page(&ste, &cd, clean), &smmu(), write);
    assert_eq!(why.id, EventId::FPermission);
    let marking = cd.with_ha(true).with_hd(true);
    let found = translated(&with_page(&ste, &marking, clean), &smmu(), write);
    assert_eq!(found.updates.len(), 1);
    assert!(found.updates[0].contains("marks as written"), "{:?}", found.updates);
    // The access flag comes first.
    let why = fault(&with_page(&ste, &cd, clean & !(1 << 10)), &smmu(), write);
    assert_eq!(why.id, EventId::FAccess);
    // Without STE.S1PIE the same bits mean what they always do: AP = 00 is privileged alone.
    let why =
        fault(&with_page(&ste.with_s1_pie(false), &cd, base), &smmu(), Access::read(0, 0x1000));
    assert_eq!(why.id, EventId::FPermission);
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Processes whose registers lie, or that an instance cannot walk: an error with the value, before anything is
//! written.

use smmuv3::{AddProcessError, AttachError, Mismatch, PhysAddr, ProcessConfig};
use smmuv3_model::Profile;

use crate::setup::{Setup, Tables, hardware, sharing, unbind};

/// TCR_EL1 with another T0SZ [5:0], TG0 [15:14] or IPS [34:32].
const fn tcr(t0sz: u64, tg0: u64, ips: u64) -> u64 {
    ips << 32 | tg0 << 14 | 3 << 12 | 1 << 10 | 1 << 8 | t0sz
}

#[test]
fn registers_that_describe_no_tables_are_refused_when_the_process_is_added() {
    let setup = Setup::one(8, true);
    let tables = Tables::new(&setup.world);
    let root = tables.root();
    for (ttb, tcr) in [
        // More than 52 bits.
        (root, tcr(11, 0, 4)),
        (root, tcr(0, 1, 4)),
        // TG0 3 is reserved.
        (root, tcr(25, 3, 4)),
        // ASID [63:48] and CnP [0] are no address.
        (root | 0x55 << 48, Tables::TCR),
        (root | 1, Tables::TCR),
        (root | 1 << 52, Tables::TCR),
    ] {
        let config = ProcessConfig::new(PhysAddr(ttb), tcr, 0xff);
        // SAFETY: nobody is bound to it.
        let refused = unsafe { setup.iommu.add_process(config, 1) };
        let error = AddProcessError::Registers { ttb: PhysAddr(ttb), tcr };
        assert_eq!(refused.err(), Some(error), "{ttb:#x} {tcr:#x}");
    }
    // None took a PASID.
    assert_eq!(setup.pasid().0, 1);
    tables.free();
    setup.tear_down(vec![], vec![]);
}

type Change = fn(&mut ProcessConfig);

/// What an instance has against a process that a change was made to.
#[track_caller]
fn mismatch(profile: Profile, change: Change) -> Mismatch {
    // Another one walks it, so that the process may be bound there.
    let setup = Setup::new(&[profile.btm(true)], &[(0, &[1, 2], 8)]);
    let tables = Tables::new(&setup.world);
    let mut config = tables.config();
    change(&mut config);
    setup.iommu.platform().pins().answers.insert(7, 9);
    let process = setup.add_process(config, 7);
    let before = (setup.ste(0), setup.live_bytes());
    let (result, steps) = setup.steps(|| process.bind(&setup.masters[0]).err());
    let Some(AttachError::Mismatch { instance, what }) = result else { panic!("{result:?}") };
    assert_eq!(instance, setup.smmus[0].id());
    // Not even memory was taken, and nobody asked for the ASID.
    assert_eq!((steps, setup.ste(0), setup.live_bytes()), (vec![], before.0, before.1));
    assert_eq!(setup.iommu.platform().pins().calls, [0, 0]);
    assert_eq!(process.targets().unwrap(), []);
    setup.tear_down(vec![], vec![(process, tables)]);
    what
}

#[test]
fn an_instance_says_what_it_cannot_walk() {
    let k64 = |profile: Profile| profile.granules(true, true, true);
    for (profile, change, expected) in [
        // Granules.
        (hardware(8, true), (|c| c.tcr = tcr(25, 1, 4)) as Change, Mismatch::Granule { shift: 16 }),
        (hardware(8, true), |c| c.tcr = tcr(25, 2, 4), Mismatch::Granule { shift: 14 }),
        // 52 and 49 bits of input.
        (
            k64(hardware(8, true)),
            |c| c.tcr = tcr(12, 1, 4),
            Mismatch::Input { domain: 52, instance: 48 },
        ),
        (
            hardware(8, true),
            |c| c.tcr = tcr(15, 0, 4),
            Mismatch::Input { domain: 49, instance: 48 },
        ),
        // 48 bits of output, 44 there are; 52; 56.
        (
            hardware(8, true),
            |c| c.tcr = tcr(25, 0, 5),
            Mismatch::Output { domain: 48, instance: 44 },
        ),
        (
            hardware(8, true),
            |c| c.tcr = tcr(25, 0, 6),
            Mismatch::Output { domain: 52, instance: 44 },
        ),
        (
            hardware(8, true),
            |c| c.tcr = tcr(25, 0, 7),
            Mismatch::Output { domain: 56, instance: 44 },
        ),
        // DS [59]: descriptors of 4 KiB with 52 bits (IDR5.DS), whatever IPS says.
        (hardware(8, true), |c| c.tcr |= 1 << 59, Mismatch::Output { domain: 52, instance: 44 }),
        (
            hardware(8, true).oas(52),
            |c| c.tcr |= 1 << 59,
            Mismatch::Output { domain: 52, instance: 48 },
        ),
        (hardware(8, true), |c| c.big_endian = true, Mismatch::Endianness { big: true }),
        // HA [39], HD [40].
        (hardware(8, true), |c| c.tcr |= 1 << 39, Mismatch::AccessFlag),
        (hardware(8, true), |c| c.tcr |= 3 << 39, Mismatch::AccessFlag),
        (
            // Announced only: the model does not set flags, but nothing gets that far.
            {
                let mut profile = hardware(8, true);
                profile.idr0 = profile.idr0.with_httu(1);
                profile
            },
            |c| c.tcr |= 3 << 39,
            Mismatch::DirtyState,
        ),
        (hardware(8, true).cohacc(false), |_| {}, Mismatch::Coherency),
        (
            hardware(8, true).ril(false),
            |c| c.bbml = 2,
            Mismatch::BreakBeforeMake { domain: 2, instance: 0 },
        ),
    ] {
        assert_eq!(mismatch(profile, change), expected);
    }
}

/// What only the rules of contexts refuse (§7.2(9)), with the field.
#[test]
fn an_illegal_context_is_never_written() {
    for (change, field) in [
        // 39 at most without small tables.
        ((|c| c.tcr = tcr(40, 0, 4)) as Change, "T0SZ"),
        (|c| c.tcr = tcr(63, 0, 4), "T0SZ"),
        // Beyond 32 bits of output.
        (|c| c.tcr = tcr(25, 0, 0), "TTB0"),
        (|c| c.ttb = PhysAddr(1 << 44), "TTB0"),
    ] {
        let what = mismatch(hardware(8, true), change);
        let Mismatch::Illegal(rule) = what else { panic!("{what:?}") };
        assert_eq!((rule.section, rule.field), ("7.2(9)", field));
    }
}

/// What is no business of devices is left out of the context.
#[test]
fn registers_of_the_upper_half_and_of_tags_do_not_matter() {
    let setup = Setup::new(&[sharing()], &[(0, &[1], 8)]);
    let tables = Tables::new(&setup.world);
    tables.map(crate::setup::IOVA, setup.page(0));
    let mut config = tables.config();
    // T1SZ, A1, SH1, ORGN1, IRGN1, TG1, AS, TBI0, TBI1, HD alone, HPD1, E0PD0, E0PD1, TCMA.
    config.tcr |= 25 << 16 | 1 << 22 | 0xf << 24 | 3 << 28 | 2 << 30 | 1 << 36 | 3 << 37;
    config.tcr |= 1 << 40 | 1 << 42 | 3 << 55 | 3 << 57;
    let process = setup.add_process(config, 1);
    let bond = process.bind(&setup.masters[0]).unwrap();
    let asid = Setup::asid(&process.targets().unwrap(), 0);
    let word = u64::from(asid) << 48 | 0xe204_c000_3519;
    let expected = [word, tables.root(), 0, Tables::MAIR, 0, 0, 0, 0];
    assert_eq!(setup.cd(0, process.pasid().0), expected);
    assert_eq!(setup.dma(0, Some(process.pasid())), Some(setup.page(0)));
    unbind(bond);
    // Hierarchical permissions off: HAD0 [0] of word 1.
    let mut config = tables.config();
    config.tcr |= 1 << 41;
    let other = setup.add_process(config, 1);
    let bond = other.bind(&setup.masters[0]).unwrap();
    assert_eq!(setup.cd(0, other.pasid().0)[1], tables.root() | 2);
    unbind(bond);
    assert!(other.close().is_ok());
    setup.tear_down(vec![], vec![(process, tables)]);
}

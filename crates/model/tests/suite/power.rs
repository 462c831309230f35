// SPDX-License-Identifier: MIT OR Apache-2.0
//! Power that goes and comes back (§2.1, §8.1), and registers in one page (§19).

use smmuv3_formats::Command;
use smmuv3_formats::command::TlbiNsnhAll;
use smmuv3_model::{Access, Misuse, Profile};

use crate::machine::*;

/// As [`Machine::new`] does it, on a machine that was used.
fn set_up_again(machine: &mut Machine) {
    let smmu = &mut machine.smmu;
    smmu.write32(CR1, 0xd75);
    smmu.write32(CR2, 0b10);
    smmu.write64(STRTAB_BASE, STRTAB);
    smmu.write32(STRTAB_BASE_CFG, 6);
    smmu.write64(CMDQ_BASE, CMDQ | CMDQ_BITS);
    smmu.write32(CMDQ_PROD, 0);
    smmu.write32(CMDQ_CONS, 0);
    smmu.write64(EVENTQ_BASE, EVENTQ | EVENTQ_BITS);
    smmu.write32(EVENTQ_PROD, 0);
    smmu.write32(EVENTQ_CONS, 0);
    machine.switch(0b1100);
}

/// One that has translated, and lost its power in an orderly way.
fn slept(seed: u64) -> Machine {
    let mut machine = Machine::new(quiet(), seed);
    machine.a1();
    assert_eq!(machine.read(VA), Some(PA));
    machine.switch(0b1100);
    machine.switch(0);
    machine.smmu.power_off();
    assert_eq!(machine.misuses(), []);
    machine
}

#[test]
fn nobody_answers_without_power_and_nothing_is_translated() {
    let mut machine = slept(1);
    assert!(!machine.smmu.is_powered() && !machine.smmu.translates());
    assert_eq!(machine.smmu.read32(CR0), u32::MAX);
    machine.smmu.write32(GBPA, 0x8000_0000);
    let unpowered = |offset| Misuse::Unpowered { offset };
    assert_eq!(machine.misuses(), [unpowered(CR0), unpowered(GBPA)]);
    assert_eq!(machine.read(VA), None);
    machine.smmu.power_on(true);
    assert_eq!((machine.smmu.read32(CR0), machine.smmu.read32(CR0ACK)), (0, 0));
    assert_eq!(machine.read(VA), None, "GBPA.ABORT");
    assert_eq!(machine.misuses(), []);
}

#[test]
fn power_that_goes_while_it_works_is_reported() {
    let mut machine = Machine::new(quiet(), 1);
    machine.smmu.power_off();
    assert_eq!(machine.misuses(), [Misuse::PowerLost { cr0: 0b1101 }]);
}

#[test]
fn caches_may_still_hold_what_was_there_until_they_are_emptied() {
    let mut stale = 0;
    for seed in 0..32 {
        for emptied in [false, true] {
            let mut machine = slept(seed);
            // Meanwhile the page is another.
            machine.put(leaf_slot(L0), 0x9100_0000 | LEAF);
            machine.smmu.power_on(true);
            set_up_again(&mut machine);
            if emptied {
                machine.command(Command::cfgi_all());
                machine.command(TlbiNsnhAll::new());
                machine.sync();
            }
            machine.switch(0b1101);
            match machine.read(VA) {
                Some(PA) => {
                    assert!(!emptied, "seed {seed}");
                    stale += 1;
                }
                other => assert_eq!(other, Some(0x9100_0000), "seed {seed}"),
            }
        }
    }
    assert!((4..28).contains(&stale), "{stale}");
}

#[test]
fn indices_of_the_event_queue_are_in_page_0_where_there_is_no_other() {
    let profile = Profile { page_0_only: true, ..quiet() };
    let mut machine = Machine::reset(profile, 1);
    machine.smmu.write32(0xac, 5);
    assert_eq!(machine.smmu.read32(0xac), 5);
    assert_eq!(machine.misuses(), []);
    assert_eq!(machine.smmu.read32(EVENTQ_CONS), u32::MAX);
    machine.smmu.write32(EVENTQ_PROD, 1);
    let nowhere = |offset| Misuse::BadAccess { offset, bytes: 4 };
    assert_eq!(machine.misuses(), [nowhere(EVENTQ_CONS), nowhere(EVENTQ_PROD)]);
    assert!(machine.translate(Access::read(SID, VA)).is_ok(), "GBPA");
}

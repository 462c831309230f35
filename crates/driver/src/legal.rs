// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is stored where an SMMU reads it is judged before, in builds with debug assertions: by the rules of
//! [`legality`] (§4, §7), for the instance's ID registers. In others nothing of this is left.
//!
//! Judged is each command, and what an entry is to become, before the first store of it. What an entry is in between needs
//! no judge of its own: [`update`](crate::update) leaves what hardware looks at as it was, or as it is to be, or makes it
//! invalid. Words that the driver did not make, a process's registers and a guest's entry or command, were refused before by
//! the same rules, with an error: what fails here is a mistake of the driver's.

#[cfg(feature = "alloc")]
use smmuv3_formats::Cd;
#[cfg(debug_assertions)]
use smmuv3_formats::Command;
use smmuv3_formats::{L1Cd, L1Std, Ste, legality};

use crate::features::Features;
use crate::update::Words;

/// A stream table entry that is to be stored.
#[inline]
#[track_caller]
pub(crate) fn ste(words: &Words, features: &Features) {
    if cfg!(debug_assertions) {
        let (ste, implementation) = (Ste(*words), features.implementation());
        let mut rule = legality::ste(&ste, &implementation).err();
        legality::ste_reserved(&ste, Some(&implementation), &mut |it| rule = rule.or(Some(it)));
        accept("stream table entry", words, rule.filter(|_| ste.v()));
    }
}

/// A context that is to be stored, and that `entry` leads to.
#[cfg(feature = "alloc")]
#[inline]
#[track_caller]
pub(crate) fn cd(words: &Words, entry: &Words, features: &Features) {
    if cfg!(debug_assertions) {
        let (cd, implementation) = (Cd(*words), features.implementation());
        let mut rule = legality::cd(&cd, &Ste(*entry), &implementation).err();
        legality::cd_reserved(&cd, Some(&implementation), &mut |it| rule = rule.or(Some(it)));
        accept("context", words, rule.filter(|_| cd.v()));
    }
}

/// A descriptor of a leaf of a stream table, whose split is `bits`.
#[inline]
#[track_caller]
pub(crate) fn l1_std(descriptor: L1Std, bits: u32, features: &Features) {
    if cfg!(debug_assertions) {
        let (implementation, mut rule) = (features.implementation(), None);
        let (split, found) = (Some(u64::from(bits)), &mut |it| rule = rule.or(Some(it)));
        legality::l1_std(&descriptor, split, Some(&implementation), found);
        accept("level-1 stream table descriptor", &descriptor.0, rule);
    }
}

/// A descriptor of a leaf of contexts, in a table whose format has this code.
#[inline]
#[track_caller]
pub(crate) fn l1_cd(descriptor: L1Cd, format: u64) {
    if cfg!(debug_assertions) {
        let mut rule = None;
        let ste = Ste::default().with_s1_fmt(format);
        legality::l1_cd(&descriptor, Some(&ste), None, &mut |it| rule = rule.or(Some(it)));
        accept("level-1 context descriptor", &descriptor.0, rule);
    }
}

/// A command that is to be placed in a queue.
#[cfg(debug_assertions)]
#[track_caller]
pub(crate) fn command(command: &Command, implementation: &legality::Implementation) {
    let mut rule = legality::command(command, implementation).err();
    let found = &mut |it| rule = rule.or(Some(it));
    legality::command_reserved(command, Some(implementation), found);
    accept(command.name(), &command.0, rule);
}

#[track_caller]
fn accept(what: &str, words: &[u64], rule: Option<legality::Rule>) {
    if let Some(rule) = rule {
        // A panic is right: nothing that hardware, firmware or a device wrote gets here, only the driver's own
        // mistakes.
        debug_assert!(false, "the driver made an illegal {what}, {words:#x?}: {rule}");
    }
}

#[cfg(all(test, debug_assertions, feature = "alloc"))]
mod tests {
    use super::*;
    use crate::features::IdRegisters;
    use smmuv3_formats::register::{Aidr, Idr0, Idr1, Idr3, Idr5};
    use std::panic::catch_unwind;
    use std::string::String;

    /// QEMU's.
    fn features() -> Features {
        Features::decode(IdRegisters {
            idr0: Idr0(0x0d44_101b),
            idr1: Idr1(0x0273_0010),
            idr3: Idr3(0x1414),
            idr5: Idr5(0x74),
            aidr: Aidr(1),
            ..IdRegisters::default()
        })
        .unwrap()
    }

    fn said(judge: impl FnOnce() + std::panic::UnwindSafe) -> String {
        let panic = catch_unwind(judge).expect_err("it was accepted");
        panic.downcast_ref::<String>().unwrap().clone()
    }

    const STE: Words = [0x8002_000b, 0xd4, 0, 0, 0, 0, 0, 0];
    const CD: Words = [0x0005_e204_c000_3510, 0x8001_0000, 0, 0x0004_44ff, 0, 0, 0, 0];

    #[test]
    fn entries_of_appendix_a_pass_and_invalid_ones_too() {
        let features = features();
        ste(&STE, &features);
        cd(&CD, &STE, &features);
        ste(&[0x00ff_fffe; 8], &features);
        cd(&[0x7fff_ffff; 8], &STE, &features);
        l1_std(L1Std([0x8002_0000 | 9]), 8, &features);
        l1_std(L1Std::default(), 8, &features);
        l1_cd(L1Cd([0x8002_0001]), 2);
    }

    /// The examples of §4.1 that QEMU's SMMU takes.
    #[test]
    fn commands_of_the_architecture_pass_and_others_are_told_with_their_rule() {
        let implementation = features().implementation();
        for words in [
            [0x0000_0100_0000_0003, 1],
            [0x0000_0000_0000_0004, 0x1f],
            [0x0005_0000_0000_0011, 0],
            [0x46, 0],
            [0x0000_0000_0fc0_1046, 0x8000_1000],
            [0x0005_0000_0060_c012, 0x0100_5701],
        ] {
            command(&Command(words), &implementation);
        }
        let said = |words| said(move || command(&Command(words), &implementation));
        assert!(said([0x7f, 0]).contains("Opcode: is reserved"));
        assert!(said([0x40, 0x34]).contains("is not available on this queue"));
        assert!(said([0x0005_0000_0000_0412, 0x0100_0701]).contains("word 0"));
        // A PASID without substreams; a range that is not aligned to its level.
        assert!(said([0x0000_0100_0000_1005, 1]).contains("SSIDSIZE"));
        assert!(said([0x0005_0000_0000_1012, 0x0100_1000 | 2 << 8 | 1 << 10]).contains("aligned"));
    }

    #[test]
    fn what_is_illegal_there_is_told_with_its_rule() {
        let features = features();
        // S1STALLD (bit 27 of word 1) where nothing stalls; a reserved bit; a stall in a context; leaves out of place.
        let stalls = [STE[0], STE[1] | 1 << 27, 0, 0, 0, 0, 0, 0];
        assert!(said(|| ste(&stalls, &features)).contains("7.1(6a)"));
        let reserved = [STE[0], STE[1], 0, 0, 0, 1 << 60, 0, 0];
        assert!(said(|| ste(&reserved, &features)).contains("word 5"));
        let mut stalls = CD;
        stalls[0] |= 1 << 44;
        assert!(said(|| cd(&stalls, &STE, &features)).contains("7.2(4)"));
        assert!(said(|| l1_std(L1Std([0x8002_1000 | 9]), 8, &features)).contains("L2Ptr"));
        assert!(said(|| l1_cd(L1Cd([0x8002_1001]), 2)).contains("L2Ptr"));
    }
}

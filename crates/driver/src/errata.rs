// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an implementation does differently from what its ID registers say: by IIDR, and as firmware tells (§19).

use core::fmt;

use smmuv3_formats::register::Iidr;

use crate::features::Features;

/// What firmware says of an SMMU that its ID registers do not, or say otherwise (§19, Appendix C).
///
/// A device tree says it by properties and `compatible`, the IORT by its model number and flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Firmware {
    /// CMD_PREFETCH_* must not be used (`hisilicon,broken-prefetch-cmd`; model 1: HiSilicon's Hi161x). This driver never
    /// does, and forwards no guest's. The messages of these SMMUs are of 64 bits, the upper half of which is 0: the words that
    /// completed commands are told by ([`Completion::Message`](crate::Completion::Message)) have room for that; other
    /// messages are the caller's to place.
    pub no_prefetch: bool,
    /// The registers of page 1 are in page 0, and there is one page only (`cavium,cn9900-broken-page1-regspace`; model
    /// 2): [`Mmio`](crate::Mmio) is never given an offset beyond 64 KiB.
    pub page_0_only: bool,
    /// Whatever was invalidated has to be invalidated once more after the first time was complete
    /// (`nvidia,tegra264-smmu`).
    pub repeated_invalidation: bool,
    /// In place of IDR0.HTTU, which then does not count: 0 none, 1 access flags, 2 dirty state as well, 3 access flags of
    /// table descriptors as well, which this driver does not use. More than 3 is taken for 3.
    pub httu: Option<u8>,
}

impl Firmware {
    /// It says nothing.
    pub const NONE: Self =
        Self { no_prefetch: false, page_0_only: false, repeated_invalidation: false, httu: None };
}

/// A field of an ID register that does not count, since firmware says otherwise: the register or firmware is wrong, which
/// people should hear of ([`Features::overridden`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overridden {
    /// The field, as the architecture names it.
    pub field: &'static str,
    /// What the register says.
    pub register: u64,
    /// What counts.
    pub counts: u64,
}

impl fmt::Display for Overridden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, register, counts } = self;
        write!(f, "{field} is {register}, but {counts} counts")
    }
}

/// What is wrong with some implementations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Erratum {
    /// Events for WFE are not sent.
    Events,
    /// Stage 1 and stage 2 must not both be on for a stream.
    Nesting,
    /// Broadcast TLB maintenance does not reach it reliably.
    Broadcast,
    /// Only so many commands may precede a CMD_SYNC.
    Batch(u32),
}

/// IIDR.ProductID of one of Arm's parts, whether IIDR.Variant and Revision are affected, and by what.
type Row = (u64, fn(u64, u64) -> bool, Erratum);

const ARM: u64 = 0x43b;
const MMU_600: u64 = 0x483;
const MMU_700: u64 = 0x487;
const MMU_L1: u64 = 0x48a;
const MMU_S3: u64 = 0x498;

const fn all(_: u64, _: u64) -> bool {
    true
}

const fn early_mmu_700(variant: u64, revision: u64) -> bool {
    variant < 1 || revision < 1
}

/// Commands before a CMD_SYNC for 2812531: of a batch of 64, one is the CMD_SYNC, and one stays free.
const SMALL_BATCH: u32 = 62;

/// The table of §19: what each erratum (or several) affects, and what is done about it.
const TABLE: [Row; 7] = [
    // 1076982, MMU-600 r0p0 to r0p2: events for WFE are not sent. CMD_SYNCs do not ask for them (SEV).
    (MMU_600, |variant, revision| variant == 0 && revision <= 2, Erratum::Events),
    // 1209401, MMU-600 before r2p0: stage 1 over stage 2 does not work. No nesting.
    (MMU_600, |variant, _| variant < 2, Erratum::Nesting),
    // MMU-700, all: broadcast TLB maintenance is not relied on. CPUs' ASIDs are not shared.
    (MMU_700, all, Erratum::Broadcast),
    // 2812531, MMU-700 before r1p1: a CMD_SYNC has to come before a batch of commands is full. Batches are smaller.
    (MMU_700, early_mmu_700, Erratum::Batch(SMALL_BATCH)),
    // 2268618 and 2812531, MMU-700 before r1p1: stage 1 over stage 2 does not work. No nesting.
    (MMU_700, early_mmu_700, Erratum::Nesting),
    // 3878312, MMU-L1, and 3995052, MMU-S3, all: as MMU-700. CPUs' ASIDs are not shared.
    (MMU_L1, all, Erratum::Broadcast),
    (MMU_S3, all, Erratum::Broadcast),
];

impl Features {
    /// The features without those that are broken in the implementation that IIDR names.
    #[must_use]
    pub(crate) fn corrected(mut self) -> Self {
        let iidr: Iidr = self.registers.iidr;
        let here = |product, affected: fn(u64, u64) -> bool| {
            iidr.implementer() == ARM
                && iidr.product_id() == product
                && affected(iidr.variant(), iidr.revision())
        };
        for (product, affected, erratum) in TABLE {
            match erratum {
                _ if !here(product, affected) => {}
                Erratum::Events => self.events = false,
                Erratum::Nesting => self.nesting = false,
                Erratum::Broadcast => self.broadcast = false,
                Erratum::Batch(most) => self.largest_batch = self.largest_batch.min(most),
            }
        }
        self
    }

    /// Where the ID registers say otherwise than [`Firmware::httu`] and [`InstanceConfig::coherent`], which have the last
    /// word: HTTU and COHACC of IDR0. To be told to people once, as Linux does when it boots.
    ///
    /// [`InstanceConfig::coherent`]: crate::InstanceConfig::coherent
    pub fn overridden(&self) -> impl Iterator<Item = Overridden> + use<> {
        let (read, counts) = (self.registers.idr0, self.registers_in_effect().idr0);
        let fields = [
            ("IDR0.HTTU", read.httu(), counts.httu()),
            ("IDR0.COHACC", read.cohacc().into(), counts.cohacc().into()),
        ];
        let fields = fields.into_iter().filter(|(_, register, counts)| register != counts);
        fields.map(|(field, register, counts)| Overridden { field, register, counts })
    }

    /// The features as firmware corrects them.
    #[must_use]
    pub(crate) fn told(mut self, firmware: &Firmware) -> Self {
        self.page_0_only = firmware.page_0_only;
        self.repeated_invalidation = firmware.repeated_invalidation;
        self.prefetch = !firmware.no_prefetch;
        if let Some(httu) = firmware.httu {
            (self.access_flag, self.dirty_state) = (httu >= 1, httu >= 2);
            self.table_access_flag = httu >= 3;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::IdRegisters;
    use crate::instance::{Coherence, InstanceConfig};
    use smmuv3_formats::register::{Aidr, Idr0, Idr1, Idr3, Idr5};

    /// Both stages, BTM, SEV, HTTU 2.
    fn features(iidr: Iidr) -> Features {
        Features::decode(IdRegisters {
            idr0: Idr0(0x0d44_101b).with_btm(true).with_sev(true).with_httu(2),
            idr1: Idr1(0x0273_0010),
            idr3: Idr3(0x1414),
            idr5: Idr5(0x74),
            iidr,
            aidr: Aidr(1),
            ..IdRegisters::default()
        })
        .unwrap()
    }

    /// {events, nesting, broadcast, largest batch} of a part of Arm's.
    fn seen(product: u64, variant: u64, revision: u64) -> (bool, bool, bool, u32) {
        let iidr = Iidr::default().with_implementer(0x43b).with_product_id(product);
        let features = features(iidr.with_variant(variant).with_revision(revision));
        (features.events, features.nesting, features.broadcast, features.largest_batch)
    }

    #[test]
    fn each_row_of_the_table_is_heeded_from_its_first_to_its_last_revision() {
        let no_limit = u32::MAX;
        for (product, variant, revision, expected) in [
            // MMU-600: 1076982 for r0p0 to r0p2, 1209401 for r0 and r1.
            (0x483, 0, 0, (false, false, true, no_limit)),
            (0x483, 0, 2, (false, false, true, no_limit)),
            (0x483, 0, 3, (true, false, true, no_limit)),
            (0x483, 1, 0, (true, false, true, no_limit)),
            (0x483, 2, 0, (true, true, true, no_limit)),
            // MMU-700: no BTM ever; 2812531 and 2268618 before r1p1.
            (0x487, 0, 0, (true, false, false, 62)),
            (0x487, 0, 1, (true, false, false, 62)),
            (0x487, 1, 0, (true, false, false, 62)),
            (0x487, 1, 1, (true, true, false, no_limit)),
            // MMU-L1, MMU-S3: no BTM.
            (0x48a, 3, 3, (true, true, false, no_limit)),
            (0x498, 0, 0, (true, true, false, no_limit)),
            // Another product.
            (0x484, 0, 0, (true, true, true, no_limit)),
        ] {
            let got = seen(product, variant, revision);
            assert_eq!(got, expected, "{product:#x} r{variant}p{revision}");
        }
    }

    #[test]
    fn products_of_others_are_not_arms() {
        let other = features(Iidr::default().with_implementer(0x36b).with_product_id(0x487));
        assert!(other.broadcast && other.nesting && other.events);
        assert_eq!(other.largest_batch, u32::MAX);
    }

    #[test]
    fn nesting_takes_both_stages() {
        let mut registers = features(Iidr::default()).registers;
        registers.idr0 = registers.idr0.with_s2p(false);
        assert!(!Features::decode(registers).unwrap().nesting);
    }

    #[test]
    fn what_firmware_says_otherwise_than_registers_is_told_and_nothing_else() {
        let has = features(Iidr::default());
        assert!(has.registers.idr0.cohacc() && has.registers.idr0.httu() == 2);
        let told = |httu, coherent| {
            let firmware = Firmware { httu, no_prefetch: true, ..Firmware::NONE };
            let config = InstanceConfig::named("smmu").with_firmware(firmware);
            let limited = has.limited(&config.with_coherence(coherent));
            limited
                .overridden()
                .map(|it| (it.field, it.register, it.counts))
                .collect::<std::vec::Vec<_>>()
        };
        for (httu, coherent, expected) in [
            (None, Coherence::Detected, &[][..]),
            (Some(2), Coherence::Yes, &[]),
            (Some(0), Coherence::Yes, &[("IDR0.HTTU", 2, 0)]),
            (Some(3), Coherence::Detected, &[("IDR0.HTTU", 2, 3)]),
            (Some(1), Coherence::No, &[("IDR0.HTTU", 2, 1), ("IDR0.COHACC", 1, 0)]),
        ] {
            assert_eq!(told(httu, coherent), expected, "{httu:?} {coherent:?}");
        }
        let overridden = Overridden { field: "IDR0.HTTU", register: 2, counts: 0 };
        let text = "IDR0.HTTU is 2, but 0 counts";
        assert_eq!(std::format!("{overridden}"), text);
    }

    #[test]
    fn firmware_has_the_last_word_on_httu_and_alone_knows_the_rest() {
        let plain = features(Iidr::default());
        assert!(plain.access_flag && plain.dirty_state && plain.prefetch);
        assert!(!plain.page_0_only && !plain.repeated_invalidation);
        assert_eq!(plain.told(&Firmware::default()), plain);
        for (httu, expected) in [(0, (false, false)), (1, (true, false)), (3, (true, true))] {
            let told = plain.told(&Firmware { httu: Some(httu), ..Firmware::default() });
            assert_eq!((told.access_flag, told.dirty_state), expected, "{httu}");
        }
        let all = Firmware {
            no_prefetch: true,
            page_0_only: true,
            repeated_invalidation: true,
            httu: None,
        };
        let told = plain.told(&all);
        assert!(!told.prefetch && told.page_0_only && told.repeated_invalidation);
        assert!(told.access_flag && told.dirty_state);
    }
}

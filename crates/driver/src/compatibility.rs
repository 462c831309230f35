// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether an instance can walk the tables of an address space.

use core::fmt;

use smmuv3_formats::legality::Rule;

use crate::features::{Endianness, Features};

/// Which of the two translations of an SMMU (§1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Stage {
    /// From what devices issue, by a context.
    #[default]
    One,
    /// By the stream table entry: from what devices issue, or from what stage 1 gives.
    Two,
}

/// What an address space asks of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Which stage its tables are for.
    pub stage: Stage,
    /// log2 of the granule.
    pub granule_shift: u32,
    /// Bits of an input address.
    pub input_bits: u32,
    /// Bits of an output address.
    pub output_bits: u32,
    /// Its descriptors are those of 52-bit addresses: of LPA2, or with 64 KiB of LPA (§15.2).
    pub wide: bool,
    /// Its tables are only visible to an SMMU that snoops CPUs' caches.
    pub coherent: bool,
    /// Its tables are big-endian.
    pub big_endian: bool,
    /// Hardware sets access flags in it.
    pub access_flag: bool,
    /// Hardware keeps dirty state in it.
    pub dirty_state: bool,
    /// The `IDR3.BBML` that changes of its tables need, since they are made without break-before-make (§8.2).
    pub bbml: u32,
    /// Stage 2: types are forced (S2FWB).
    pub forced_types: bool,
    /// Stage 2: execution depends on privilege (XNX).
    pub execute_by_privilege: bool,
}

/// Why an address space cannot be used on an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mismatch {
    /// The instance has no such stage.
    Stage(Stage),
    /// The instance does not support the granule.
    Granule {
        /// log2 of the granule.
        shift: u32,
    },
    /// Its input addresses are wider than the instance's.
    Input {
        /// The address space's bits.
        domain: u32,
        /// The instance's bits.
        instance: u32,
    },
    /// Its output addresses are wider than the instance's.
    Output {
        /// The address space's bits.
        domain: u32,
        /// The instance's bits.
        instance: u32,
    },
    /// The instance has no descriptors for 52-bit addresses (IDR5.DS; with 64 KiB, IDR5.OAS).
    Wide {
        /// log2 of the granule.
        shift: u32,
    },
    /// The instance does not snoop caches, and the tables are written for hardware that does.
    Coherency,
    /// The instance does not read tables of this endianness.
    Endianness {
        /// Big-endian is what is asked for.
        big: bool,
    },
    /// The instance does not set access flags.
    AccessFlag,
    /// The instance does not keep dirty state.
    DirtyState,
    /// The tables are changed in ways that the instance does not tolerate.
    BreakBeforeMake {
        /// The `IDR3.BBML` that is needed.
        domain: u32,
        /// The instance's.
        instance: u32,
    },
    /// The instance has no forced types (S2FWB).
    ForcedTypes,
    /// At stage 2 of the instance execution does not depend on privilege (XNX).
    ExecuteByPrivilege,
    /// The instance would refuse the context descriptor, or the stream table entry.
    Illegal(Rule),
}

impl Shape {
    /// Whether an SMMU with `features` can walk the tables.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn fits(&self, features: &Features) -> Result<(), Mismatch> {
        let output = features.output_bits;
        let input = match self.stage {
            Stage::One => features.input_bits,
            Stage::Two => features.implementation().intermediate_bits(),
        };
        let check = |missing: bool, what: Mismatch| if missing { Err(what) } else { Ok(()) };
        check(!features.has_stage(self.stage), Mismatch::Stage(self.stage))?;
        let shift = self.granule_shift;
        check(!features.has_granule(shift), Mismatch::Granule { shift })?;
        let bits = self.input_bits;
        check(bits > input, Mismatch::Input { domain: bits, instance: input })?;
        let bits = self.output_bits;
        check(bits > output, Mismatch::Output { domain: bits, instance: output })?;
        check(self.wide && !features.has_wide_addresses(shift), Mismatch::Wide { shift })?;
        check(self.coherent && !features.coherent, Mismatch::Coherency)?;
        let little = features.endianness == Endianness::Little;
        check(self.big_endian && little, Mismatch::Endianness { big: true })?;
        check(self.access_flag && !features.access_flag, Mismatch::AccessFlag)?;
        check(self.dirty_state && !features.dirty_state, Mismatch::DirtyState)?;
        let (domain, instance) = (self.bbml, features.bbml);
        check(domain > instance, Mismatch::BreakBeforeMake { domain, instance })?;
        check(self.forced_types && !features.forced_types, Mismatch::ForcedTypes)?;
        let unknown = self.execute_by_privilege && !features.execute_by_privilege;
        check(unknown, Mismatch::ExecuteByPrivilege)
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stage(stage) => {
                write!(f, "the instance has no stage {}", 1 + u32::from(*stage == Stage::Two))
            }
            Self::Granule { shift } => {
                // `checked_shl`, since the field is public and may hold any number.
                let kib = 1u64.checked_shl(*shift).unwrap_or(0) >> 10;
                write!(f, "the instance has no granule of {kib} KiB")
            }
            Self::Input { domain, instance } => {
                write!(f, "the domain has {domain}-bit input addresses, the instance {instance}")
            }
            Self::Output { domain, instance } => {
                write!(f, "the domain has {domain}-bit output addresses, the instance {instance}")
            }
            Self::Wide { shift } => {
                let kib = 1u64.checked_shl(*shift).unwrap_or(0) >> 10;
                write!(f, "the instance has no 52-bit addresses with a granule of {kib} KiB")
            }
            Self::Coherency => {
                f.write_str("the instance does not snoop caches, as the tables need it to")
            }
            Self::Endianness { big } => {
                let endian = if *big { "big" } else { "little" };
                write!(f, "the instance does not read {endian}-endian tables")
            }
            Self::AccessFlag => f.write_str("the instance does not set access flags"),
            Self::DirtyState => f.write_str("the instance does not keep dirty state"),
            Self::BreakBeforeMake { domain, instance } => write!(
                f,
                "the tables are changed as BBML {domain} allows, the instance has {instance}"
            ),
            Self::ForcedTypes => f.write_str("the instance has no forced types"),
            Self::ExecuteByPrivilege => {
                f.write_str("execution does not depend on privilege at stage 2 of the instance")
            }
            Self::Illegal(rule) => write!(f, "the instance would refuse the entry: {rule}"),
        }
    }
}

impl core::error::Error for Mismatch {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::IdRegisters;
    use smmuv3_formats::register::{Aidr, Idr0, Idr1, Idr3, Idr5};

    /// With a 48-bit output, and everything that a space can ask for.
    fn features(change: impl FnOnce(&mut IdRegisters)) -> Features {
        let mut registers = IdRegisters {
            idr0: Idr0(0x0d44_101b).with_httu(2).with_ttendian(0),
            idr1: Idr1(0x0273_0010),
            idr3: Idr3(0x1414),
            idr5: Idr5(0x75),
            aidr: Aidr(1),
            ..IdRegisters::default()
        };
        change(&mut registers);
        Features::decode(registers).unwrap()
    }

    const DEMANDING: Shape = Shape {
        stage: Stage::One,
        granule_shift: 16,
        input_bits: 48,
        output_bits: 48,
        wide: false,
        forced_types: false,
        execute_by_privilege: false,
        coherent: true,
        big_endian: true,
        access_flag: true,
        dirty_state: true,
        bbml: 2,
    };

    /// The 2023 series had this test upside down: what fitted was refused, and what did not was let through.
    #[test]
    fn what_fits_is_accepted_and_each_thing_that_does_not_is_named() {
        assert_eq!(DEMANDING.fits(&features(|_| {})), Ok(()));
        let mismatch = |change: fn(&mut IdRegisters)| DEMANDING.fits(&features(change));
        assert_eq!(
            mismatch(|r| r.idr5 = r.idr5.with_gran64k(false)),
            Err(Mismatch::Granule { shift: 16 })
        );
        assert_eq!(
            mismatch(|r| r.idr5 = r.idr5.with_oas(4)),
            Err(Mismatch::Output { domain: 48, instance: 44 })
        );
        assert_eq!(mismatch(|r| r.idr0 = r.idr0.with_cohacc(false)), Err(Mismatch::Coherency));
        assert_eq!(
            mismatch(|r| r.idr0 = r.idr0.with_ttendian(2)),
            Err(Mismatch::Endianness { big: true })
        );
        assert_eq!(mismatch(|r| r.idr0 = r.idr0.with_httu(0)), Err(Mismatch::AccessFlag));
        assert_eq!(mismatch(|r| r.idr0 = r.idr0.with_httu(1)), Err(Mismatch::DirtyState));
        assert_eq!(
            mismatch(|r| r.idr3 = r.idr3.with_bbml(1)),
            Err(Mismatch::BreakBeforeMake { domain: 2, instance: 1 })
        );
        let wide = Shape { input_bits: 52, ..DEMANDING };
        let (domain, instance) = (52, 48);
        assert_eq!(wide.fits(&features(|_| {})), Err(Mismatch::Input { domain, instance }));
        assert_eq!(wide.fits(&features(|r| r.idr5 = r.idr5.with_vax(1))), Ok(()));
        let without = Features { stage_1: false, ..features(|_| {}) };
        assert_eq!(DEMANDING.fits(&without), Err(Mismatch::Stage(Stage::One)));
    }

    #[test]
    fn stage_2_is_measured_by_what_it_is_given_and_wide_tables_by_what_has_them() {
        let second = Shape {
            stage: Stage::Two,
            forced_types: true,
            execute_by_privilege: true,
            ..DEMANDING
        };
        let mismatch = |shape: Shape, change: fn(&mut IdRegisters)| shape.fits(&features(change));
        let all: fn(&mut IdRegisters) = |r| r.idr3 = r.idr3.with_fwb(true).with_xnx(true);
        assert_eq!(mismatch(second, all), Ok(()));
        assert_eq!(mismatch(second, |_| {}), Err(Mismatch::ForcedTypes));
        let forced: fn(&mut IdRegisters) = |r| r.idr3 = r.idr3.with_fwb(true).with_xnx(false);
        assert_eq!(mismatch(second, forced), Err(Mismatch::ExecuteByPrivilege));
        let without: fn(&mut IdRegisters) = |r| r.idr0 = r.idr0.with_s2p(false).with_vmid16(false);
        assert_eq!(mismatch(second, without), Err(Mismatch::Stage(Stage::Two)));
        // IAS is OAS (§9), whatever VAX says.
        let narrow: fn(&mut IdRegisters) = |r| r.idr5 = r.idr5.with_oas(4).with_vax(1);
        let (domain, instance) = (48, 44);
        assert_eq!(mismatch(second, narrow), Err(Mismatch::Input { domain, instance }));
        for (shift, change) in [
            (12, (|r| r.idr5 = r.idr5.with_ds(true)) as fn(&mut IdRegisters)),
            (14, |r| r.idr5 = r.idr5.with_ds(true)),
            (16, |r| r.idr5 = r.idr5.with_oas(6)),
        ] {
            let wide = Shape { wide: true, granule_shift: shift, ..DEMANDING };
            assert_eq!(mismatch(wide, |_| {}), Err(Mismatch::Wide { shift }));
            assert_eq!(mismatch(wide, change), Ok(()));
        }
    }

    #[test]
    fn a_space_that_asks_for_little_is_accepted_where_there_is_little() {
        let modest = Shape {
            stage: Stage::One,
            granule_shift: 12,
            input_bits: 32,
            output_bits: 32,
            wide: false,
            forced_types: false,
            execute_by_privilege: false,
            coherent: false,
            big_endian: false,
            access_flag: false,
            dirty_state: false,
            bbml: 0,
        };
        let poor = features(|r| {
            r.idr0 = r.idr0.with_httu(0).with_ttendian(2).with_cohacc(false);
            r.idr3 = r.idr3.with_bbml(0);
            r.idr5 = Idr5(0x10);
        });
        assert_eq!(modest.fits(&poor), Ok(()));
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! The instance that a structure is judged against: its ID registers, as far as they are known.

use core::fmt::Write;

use smmuv3_formats::legality::{IdRegisters, Implementation};
use smmuv3_formats::register::{Aidr, Idr0, Idr1, Idr2, Idr3, Idr5, Idr6};

use super::words::{self, Order, WordsError};

/// ID registers as far as they are known. What is not is taken to be as permissive as can be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Instance {
    /// IDR0 to IDR6.
    pub idr: [Option<u32>; 7],
    /// IIDR.
    pub iidr: Option<u32>,
    /// AIDR.
    pub aidr: Option<u32>,
    /// CR2.E2H.
    pub e2h: bool,
    /// The preset that it is.
    preset: Option<&'static str>,
}

/// Why there is no instance.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InstanceError {
    /// A name is no register.
    #[error(
        "{0:?} is no ID register; give --idr 0=0x0d44101b,1=0x02730010,3=..,5=.. or idr0=.., or the words of \
         IDR0 to IDR5 in their order, or one of {names}", names = names()
    )]
    Register(String),
    /// A value is no number of 32 bits.
    #[error(
        "{value:?} is no value of {name}; give a hexadecimal number of 32 bits such as 0x0d44101b"
    )]
    Value {
        /// The register.
        name: String,
        /// What was given.
        value: String,
    },
    /// There are too few or too many words.
    #[error(
        "{0} words are no set of ID registers; give IDR0 to IDR5 (6 words), IIDR and AIDR after them (8), \
         iommufd's hw_info (10), or name them: 0=0x0d44101b,1=0x02730010,5=0x74"
    )]
    Count(usize),
    /// They are no words.
    #[error(transparent)]
    Words(#[from] WordsError),
}

/// An instance with a name.
struct Preset {
    name: &'static str,
    what: &'static str,
    /// IDRs by their numbers, as they were measured.
    idr: &'static [(usize, u32)],
    aidr: Option<u32>,
}

const PRESETS: &[Preset] = &[
    Preset {
        name: "qemu",
        what: "QEMU 10.0 to 11.1, virt with iommu=smmuv3",
        idr: &[(0, 0x0d44_101b), (1, 0x0273_0010), (2, 0), (3, 0x1414), (4, 0), (5, 0x74)],
        aidr: Some(1),
    },
    Preset {
        name: "qemu-7.2",
        what: "QEMU 7.2, virt with iommu=smmuv3: stage 1 alone",
        idr: &[(0, 0x0d40_101a), (1, 0x0273_0010), (2, 0), (3, 0x1404), (4, 0), (5, 0x74)],
        aidr: Some(1),
    },
    Preset {
        name: "fvp",
        what: "Arm's Base RevC model: IDR0 and IDR1, with 8-bit ASIDs",
        idr: &[(0, 0x080f_e6bf), (1, 0x0e73_9d20)],
        aidr: None,
    },
];

fn names() -> String {
    PRESETS.iter().map(|preset| preset.name).collect::<Vec<_>>().join(", ")
}

/// Everything there is and the largest sizes (§2.3): mixed endianness, stalls that can be chosen, tables of
/// both formats, 56-bit addresses.
const PERMISSIVE: [u32; 7] = [
    Idr0(0)
        .with_s2p(true)
        .with_s1p(true)
        .with_ttf(3)
        .with_cohacc(true)
        .with_btm(true)
        .with_httu(3)
        .with_hyp(true)
        .with_ats(true)
        .with_asid16(true)
        .with_msi(true)
        .with_sev(true)
        .with_atos(true)
        .with_pri(true)
        .with_vmw(true)
        .with_vmid16(true)
        .with_cd2l(true)
        .with_vatos(true)
        .with_atsrecerr(true)
        .with_st_level(1)
        .0,
    Idr1(0)
        .with_sidsize(32)
        .with_ssidsize(20)
        .with_priqs(19)
        .with_eventqs(19)
        .with_cmdqs(19)
        .with_attr_perms_ovr(true)
        .with_attr_types_ovr(true)
        .0,
    0,
    Idr3(0)
        .with_had(true)
        .with_pbha(true)
        .with_xnx(true)
        .with_pps(true)
        .with_mpam(true)
        .with_fwb(true)
        .with_stt(true)
        .with_ril(true)
        .with_bbml(2)
        .with_e0pd(true)
        .with_ptwnnc(true)
        .with_dpt(true)
        .with_pasidtt(true)
        .with_epan(true)
        .with_s1pi(true)
        .with_s2pi(true)
        .with_s2po(true)
        .with_the(true)
        .with_mteperm(true)
        .with_aie(true)
        .0,
    0,
    Idr5(0)
        .with_oas(7)
        .with_gran4k(true)
        .with_gran16k(true)
        .with_gran64k(true)
        .with_ds(true)
        .with_d128(true)
        .with_vax(2)
        .with_stall_max(0xffff)
        .0,
    0,
];

/// Registers on which legality depends.
const ASKED: [usize; 4] = [0, 1, 3, 5];

impl Instance {
    /// The names of the instances that are known, with what they are.
    pub fn presets() -> impl Iterator<Item = (&'static str, &'static str)> {
        PRESETS.iter().map(|preset| (preset.name, preset.what))
    }

    /// The instance called `name`.
    pub fn preset(name: &str) -> Option<Self> {
        let called = |preset: &&Preset| preset.name.eq_ignore_ascii_case(name.trim());
        let preset = PRESETS.iter().find(called)?;
        let mut instance = Self { aidr: preset.aidr, preset: Some(preset.name), ..Self::default() };
        for (index, value) in preset.idr {
            if let Some(register) = instance.idr.get_mut(*index) {
                *register = Some(*value);
            }
        }
        Some(instance)
    }

    /// An instance out of text: a preset's name; `0=0x...,1=0x...`, `idr0=0x...` or lines such as `IDR0: 0x...`
    /// (`e2h=1` says that CR2.E2H is set); or words in the order of [`Instance::of_words`].
    ///
    /// # Errors
    /// [`InstanceError`].
    pub fn parse(text: &str) -> Result<Self, InstanceError> {
        if let Some(preset) = Self::preset(text) {
            return Ok(preset);
        }
        if Self::is_named(text) {
            Self::named(text)
        } else {
            Self::of_words(&words::registers(text, Order::Auto)?)
        }
    }

    /// Whether `text` gives registers with their names.
    pub(super) fn is_named(text: &str) -> bool {
        text.contains('=') || text.to_ascii_lowercase().contains("idr")
    }

    /// `name=value`, parted by commas, spaces or lines.
    fn named(text: &str) -> Result<Self, InstanceError> {
        let mut instance = Self::default();
        let part = |c: char| c.is_whitespace() || ",;=:\"{}".contains(c);
        let mut parts = text.split(part).filter(|part| !part.is_empty());
        while let Some(name) = parts.next() {
            let plain = name.to_ascii_lowercase();
            let plain = plain.trim_start_matches("smmu_");
            let register = match plain {
                "iidr" => &mut instance.iidr,
                "aidr" => &mut instance.aidr,
                "e2h" => {
                    instance.e2h = matches!(parts.next(), Some("1" | "true" | "0x1"));
                    continue;
                }
                _ => plain
                    .trim_start_matches("idr")
                    .parse()
                    .ok()
                    .and_then(|index: usize| instance.idr.get_mut(index))
                    .ok_or_else(|| InstanceError::Register(name.to_owned()))?,
            };
            let value = parts.next().unwrap_or_default();
            let digits = value.trim_start_matches("0x").trim_start_matches("0X").replace('_', "");
            let number = u32::from_str_radix(&digits, 16).ok().filter(|_| !digits.starts_with('+'));
            let wrong = || InstanceError::Value { name: name.to_owned(), value: value.to_owned() };
            *register = Some(number.ok_or_else(wrong)?);
        }
        Ok(instance)
    }

    /// IDR0 to IDR5 in their order; with 8 words IIDR and AIDR follow, as in register page 0; 10 are iommufd's
    /// `struct iommu_hw_info_arm_smmuv3`: flags, a reserved word, and then those.
    ///
    /// # Errors
    /// There is another number of them.
    pub fn of_words(words: &[u32]) -> Result<Self, InstanceError> {
        let words = match words.len() {
            1..=8 => words,
            10 => words.get(2..).unwrap_or_default(),
            count => return Err(InstanceError::Count(count)),
        };
        let mut instance = Self::default();
        for (register, word) in instance.idr.iter_mut().zip(words.iter().take(6)) {
            *register = Some(*word);
        }
        instance.iidr = words.get(6).copied();
        instance.aidr = words.get(7).copied();
        Ok(instance)
    }

    /// What the rules ask for; registers that are not known are permissive.
    pub fn implementation(&self) -> Implementation {
        let register = |index: usize| {
            let known = self.idr.get(index).copied().flatten();
            known.or_else(|| PERMISSIVE.get(index).copied()).unwrap_or(0)
        };
        Implementation {
            idr0: Idr0(register(0)),
            idr1: Idr1(register(1)),
            idr3: Idr3(register(3)),
            idr5: Idr5(register(5)),
            aidr: Aidr(self.aidr.unwrap_or(4)),
            e2h: self.e2h,
        }
    }

    /// Whether anything is known of it.
    pub fn is_known(&self) -> bool {
        *self != Self::default()
    }

    /// The registers that are known.
    pub fn registers(&self) -> IdRegisters {
        let [idr0, idr1, idr2, idr3, _, idr5, idr6] = self.idr;
        IdRegisters {
            idr0: idr0.map(Idr0),
            idr1: idr1.map(Idr1),
            idr2: idr2.map(Idr2),
            idr3: idr3.map(Idr3),
            idr5: idr5.map(Idr5),
            idr6: idr6.map(Idr6),
            aidr: self.aidr.map(Aidr),
        }
    }

    /// What was assumed, for those who read the verdict.
    pub fn assumed(&self) -> String {
        let missing: Vec<usize> = ASKED
            .into_iter()
            .filter(|index| self.idr.get(*index).copied().flatten().is_none())
            .collect();
        let mut text = String::from("judged for ");
        let known = ASKED.len() - missing.len();
        match self.preset {
            Some(name) => text.push_str(&format!("the instance {name}")),
            None if known == 0 => {
                return "judged for an instance that has every feature and the largest sizes; --idr gives \
                        the real one"
                    .to_owned();
            }
            None => text.push_str("the given ID registers"),
        }
        if !missing.is_empty() {
            let names: Vec<String> = missing.iter().map(|index| format!("IDR{index}")).collect();
            let _ = write!(text, ", and every feature where {} would tell", names.join(", "));
        }
        if self.e2h {
            text.push_str(", with CR2.E2H = 1");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_named_or_given_by_its_registers() {
        let qemu = Instance::parse("qemu").unwrap();
        assert!(qemu.implementation().idr0.asid16() && !qemu.implementation().idr0.cd2l());
        let words = "0x0d44101b 0x02730010 0x0 0x1414 0x0 0x74";
        assert_eq!(Instance::parse(words).unwrap().idr, qemu.idr);
        let named = "0=0x0d44101b,1=0x02730010,idr2=0,3=0x00001414,IDR4=0,5=0x74";
        assert_eq!(Instance::parse(named).unwrap().idr, qemu.idr);
        let lines =
            "IDR0: 0x0d44101b\nIDR1: 0x02730010\nIDR2: 0\nIDR3: 1414\nIDR4: 0\nIDR5: 74\nAIDR: 1\n";
        let by_lines = Instance::parse(lines).unwrap();
        assert_eq!((by_lines.idr, by_lines.aidr), (qemu.idr, Some(1)));
        // iommufd's hw_info as xxd shows it: flags, reserved, IDRs, IIDR, AIDR.
        let dump = "00000000: 0000 0000 0000 0000 1b10 440d 1000 7302  ..........D...s.\n\
                    00000010: 0000 0000 1414 0000 0000 0000 7400 0000  ............t...\n\
                    00000020: 3b04 3048 0100 0000                      ;.0H....\n";
        let hw_info = Instance::parse(dump).unwrap();
        assert_eq!(
            (hw_info.idr, hw_info.iidr, hw_info.aidr),
            (qemu.idr, Some(0x4830_043b), Some(1))
        );
    }

    #[test]
    fn what_is_not_known_is_permissive_and_said() {
        let none = Instance::default();
        assert!(none.assumed().contains("every feature and the largest sizes; --idr"));
        assert_eq!(none.implementation().output_bits(), 56);
        let fvp = Instance::parse("fvp").unwrap();
        assert_eq!(
            fvp.assumed(),
            "judged for the instance fvp, and every feature where IDR3, IDR5 would tell"
        );
        assert!(!fvp.implementation().idr0.asid16() && fvp.implementation().idr3.ril());
        assert_eq!(Instance::parse("7=1"), Err(InstanceError::Register("7".to_owned())));
        let wrong = InstanceError::Value { name: "0".to_owned(), value: "0x1ffffffff".to_owned() };
        assert_eq!(Instance::parse("0=0x1ffffffff"), Err(wrong));
        assert_eq!(Instance::parse("1 2 3 4 5 6 7 8 9"), Err(InstanceError::Count(9)));
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Linux's feature and option bits, whose meaning depends on the kernel.

/// Who wrote a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    /// Major and minor version; `None`: a recent one.
    pub version: Option<(u32, u32)>,
    /// openEuler's kernels have numbers of their own.
    pub open_euler: bool,
}

impl Kernel {
    /// From `5.10`, `v6.12.3-arm64`, `5.10.0-60.18.0.50.oe2203`.
    pub fn parse(text: &str) -> Option<Self> {
        let lower = text.trim().to_ascii_lowercase();
        let digits = lower.strip_prefix('v').unwrap_or(&lower);
        let mut parts = digits.split('.');
        let major = parts.next()?.parse().ok()?;
        let minor: String = parts.next()?.chars().take_while(char::is_ascii_digit).collect();
        let open_euler = lower.contains(".oe") || lower.contains("openeuler");
        Some(Self { version: Some((major, minor.parse().ok()?)), open_euler })
    }
}

/// Bits of `features 0x...`: the name, and a release of Linux before which there was no such bit. Rather too early
/// than too late: only a bit that surely was not there is said to be a vendor's. Names and numbers are those of the
/// driver's header; 5.10 ends with SVA, 6.1 has NESTING (a fix of its stable series), 6.12 ends with HD, HAFT was
/// proposed during 7.2. The other releases are estimates, which only decide whether a name is printed with
/// `--kernel`.
const FEATURES: [(&str, (u32, u32)); 27] = [
    ("2_LVL_STRTAB", (4, 2)),
    ("2_LVL_CDTAB", (4, 2)),
    ("TT_LE", (4, 2)),
    ("TT_BE", (4, 2)),
    ("PRI", (4, 2)),
    ("ATS", (4, 2)),
    ("SEV", (4, 2)),
    ("MSI", (4, 2)),
    ("COHERENCY", (4, 2)),
    ("TRANS_S1", (4, 2)),
    ("TRANS_S2", (4, 2)),
    ("STALLS", (4, 2)),
    ("HYP", (4, 2)),
    ("STALL_FORCE", (4, 12)),
    ("VAX", (4, 16)),
    ("RANGE_INV", (5, 6)),
    ("BTM", (5, 10)),
    ("SVA", (5, 10)),
    ("E2H", (5, 11)),
    ("NESTING", (6, 1)),
    ("ATTR_TYPES_OVR", (6, 4)),
    ("HA", (6, 10)),
    ("HD", (6, 10)),
    ("S2FWB", (6, 13)),
    ("BBML2", (6, 15)),
    ("HAFT", (7, 2)),
    ("DS", (7, 2)),
];

/// What openEuler 5.10 has instead, from bit 19 on.
const OPEN_EULER_5: (usize, &[&str]) = (19, &["HA", "HD", "BBML1", "BBML2", "ECMDQ", "MPAM"]);
/// What openEuler 6.6 has instead, from bit 23 on; below it is as Linux 6.12.
const OPEN_EULER_6: (usize, &[&str]) = (23, &["BBML1", "BBML2", "ECMDQ", "S2FWB", "MPAM"]);

const OPTIONS: [&str; 5] =
    ["SKIP_PREFETCH", "PAGE0_REGS_ONLY", "MSIPOLL", "CMDQ_FORCE_SYNC", "TEGRA241_CMDQV"];

/// The features that are set, and what is odd about them.
pub fn features(value: u32, kernel: Kernel) -> (Vec<String>, Vec<String>) {
    let mut names = Vec::new();
    let mut odd = Vec::new();
    let old = kernel.version.is_some_and(|(major, _)| major < 6);
    let (first, own) = if old { OPEN_EULER_5 } else { OPEN_EULER_6 };
    for bit in (0..32).filter(|bit| value >> bit & 1 == 1) {
        let place = bit as usize;
        let vendor = place.checked_sub(first).and_then(|place| own.get(place));
        // What openEuler has below its own numbers came from later releases of Linux.
        let has = |since| {
            let backported = kernel.open_euler && place < first;
            backported || !kernel.open_euler && kernel.version.is_none_or(|is| is >= since)
        };
        match (FEATURES.get(place), vendor.filter(|_| kernel.open_euler)) {
            (_, Some(vendor)) => names.push((*vendor).to_owned()),
            (Some((name, since)), None) if has(*since) => {
                names.push((*name).to_owned());
            }
            (known, None) => {
                names.push(format!("BIT_{bit}"));
                odd.push(match (known, kernel.version) {
                    (Some((name, _)), Some((major, minor))) if !kernel.open_euler => format!(
                        "bit {bit} is {name} in newer kernels, but Linux {major}.{minor} does not have it: a \
                         vendor's kernel numbers its own features"
                    ),
                    _ => format!("bit {bit} is not known: a newer or a vendor's kernel"),
                });
            }
        }
    }
    (names, odd)
}

/// The options that are set.
pub fn options(value: u32) -> Vec<String> {
    let name =
        |bit: u32| OPTIONS.get(bit as usize).map_or(format!("BIT_{bit}"), |n| (*n).to_owned());
    (0..32).filter(|bit| value >> bit & 1 == 1).map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_have_the_names_of_the_kernel_that_wrote_them() {
        let names = |value, kernel| features(value, kernel).0.join(" ");
        let recent = Kernel::default();
        // Two builds of QEMU (log samples, S25).
        let qemu = "2_LVL_STRTAB TT_LE ATS COHERENCY TRANS_S1 RANGE_INV";
        assert_eq!(names(0x8325, recent), qemu);
        assert_eq!(
            names(0x0100_8305, recent),
            "2_LVL_STRTAB TT_LE COHERENCY TRANS_S1 RANGE_INV BBML2"
        );
        let euler = Kernel::parse("5.10.0-60.18.0.50.oe2203").unwrap();
        assert_eq!((euler.version, euler.open_euler), (Some((5, 10)), true));
        assert_eq!(names(1 << 23 | 1 << 18, euler), "E2H ECMDQ");
        let euler = Kernel::parse("6.6.0-28.0.0.34.oe2403").unwrap();
        assert_eq!(names(0x0fe8_0000, euler), "NESTING HA HD BBML1 BBML2 ECMDQ S2FWB MPAM");
        assert_eq!(features(1 << 28, euler).0, ["BIT_28"]);
        assert_eq!(names(1 << 19, Kernel::parse("6.1.46").unwrap()), "NESTING");
        assert_eq!(names(1 << 25, Kernel::parse("6.18").unwrap()), "BIT_25");
        let (old, odd) = features(1 << 23, Kernel::parse("v5.10").unwrap());
        assert_eq!(old, ["BIT_23"]);
        assert!(odd[0].contains("S2FWB in newer kernels, but Linux 5.10"), "{odd:?}");
        assert_eq!(options(0b100), ["MSIPOLL"]);
        assert_eq!(Kernel::parse("new"), None);
    }
}

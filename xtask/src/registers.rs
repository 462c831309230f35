// SPDX-License-Identifier: MIT OR Apache-2.0
//! What calls of the driver cost on registers, as the bare-metal image counts it: a section of docs/performance.md.

use std::fmt::{self, Write};

use anyhow::{Result, bail, ensure};

use crate::figures;

/// How far, of the recorded figure, a new one may be away.
const TOLERANCE: f64 = 0.05;

/// A line of the image's.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
}

/// As the image prints it.
impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<55} {:>8.1}  {}", self.name, self.value, self.unit)
    }
}

/// Takes the lines with figures out of what the image printed.
pub fn parse(output: &str) -> Vec<Figure> {
    output.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Figure> {
    let line = line.trim_end();
    let (line, unit) = ["instructions", "bytes"]
        .into_iter()
        .find_map(|unit| Some((line.strip_suffix(unit)?.trim_end(), unit)))?;
    let (name, value) = line.rsplit_once("  ")?;
    Some(Figure { name: name.trim().to_owned(), value: value.trim().parse().ok()?, unit })
}

/// Linux 7.3's own functions on AArch64, in user space, with an SMMU that has consumed everything at once.
const LINUX: [(&str, f64); 10] = [
    ("command queue: 1 TLBI + SYNC", 353.0),
    // Of 63 and a SYNC.
    ("command queue: 64 TLBI + SYNC", 1348.0),
    ("domain: map of 1 page", 279.0),
    // Of the invalidation alone.
    ("domain: unmap + SYNC of 1 page", 641.0),
    ("domain: map + unmap + SYNC of 1 page", 1381.0),
    ("domain: map + unmap + SYNC of 16 pages", 2680.0),
    ("domain: map + unmap + SYNC of 64 pages", 6845.0),
    // These, too, of the invalidation alone.
    ("domain: unmap + SYNC of 1 page, 1 SMMU", 641.0),
    ("domain: unmap + SYNC of 1 page, 8 SMMUs", 4059.0),
    ("domain: unmap + SYNC of 1 page, 64 SMMUs", 31388.0),
];

/// Instructions that calls may take at most.
const LIMITS: [(&str, f64); 8] = [
    ("command queue: 1 TLBI + SYNC", 130.0),
    ("command queue: 64 TLBI + SYNC", 900.0),
    ("domain: map + unmap + SYNC of 1 page", 500.0),
    ("domain: map + unmap + SYNC of 16 pages", 800.0),
    ("domain: map + unmap + SYNC of 64 pages", 1700.0),
    ("domain: unmap + SYNC of 1 page, 1 SMMU", 350.0),
    ("domain: unmap + SYNC of 1 page, 8 SMMUs", 1600.0),
    ("domain: unmap + SYNC of 1 page, 64 SMMUs", 12000.0),
];

/// Rows that are 1.3 times of a third at most, and what that may leave out of account: nobody waits for an SMMU there.
const DEFERRED: [&str; 3] = [
    "space, deferred: map + unmap of 1 page",
    "space, given back: map + unmap of 1 page",
    "space, given back: lend + retire + recover of 1 page",
];
const STRICT: [&str; 2] = ["space, strict: map + unmap of 1 page", "command queue: 1 TLBI + SYNC"];

/// The limit of a row, if it has one. It may be by other `figures`.
fn limit_of(name: &str, figures: &[Figure]) -> Option<f64> {
    if DEFERRED.contains(&name) {
        let [strict, sync] = STRICT;
        let value = |name| figures.iter().find(|f| f.name == name).map(|f| f.value);
        return Some((1.3 * (value(strict)? - value(sync)?)).round());
    }
    LIMITS.iter().find(|(of, _)| *of == name).map(|(_, limit)| *limit)
}

const HEADING: &str = "## On registers, AArch64";

const INTRODUCTION: &str = "
Counted by the CPU itself (INST_RETIRED) in the bare-metal image, under QEMU with `-icount shift=0`, on one
CPU: whole calls, with the barriers around registers, on an SMMU that has carried out every command by the time
it is looked at. So the wait for hardware is not in them, which is most of a strict unmap. The image is built as a
kernel would be, with link-time optimisation, but for plain ARMv8.0. Its `memcpy` and `memset` do 64 bytes a turn, as a
kernel's do; the compiler's own would be most of what a *space* costs for buffers that are copied. Instructions are the
same twice in a row, and on every machine.

Rows of several SMMUs are of another image (`baremetal/src/rig.rs`): the registers of its SMMUs are memory, with the barriers of
real ones, and what an SMMU does to them is one instruction for each batch. Of the command queue, 64 commands are ready-made; by hand, one and a SYNC take 37 instructions, and 64 take 541.
Linux's figures for `unmap + SYNC` are of the invalidation alone. A *space* that is not strict is counted once its flush
queue has been full for the first time; *deferred* and *given back* are held to 1.3 times of what strict takes for a page without TLBI
and SYNC: *deferred* is what Linux does by default, for devices that are trusted; *given back* trusts none and copies nothing: an unmap,
and the look whether the oldest buffer that waits has been out of reach since a flush (`unmap_later`, `is_out_of_reach`); *lend + retire
+ recover* is the same by the safe calls. *Lazy* gives
the buffer back when `unmap` returns, and copies it for that, which is what its time goes to, so it has no limit. *Copying*
is what of a page there is not the driver's: in before, and out afterwards.
The *heap* with one SMMU in use is this kernel's, but for its room for reports: what it knows of firmware and PCI, and the driver's
numbers of the whole machine (ASIDs and PASIDs), beside the SMMU.

| | ours | | limit | Linux 7.3 | ours / Linux |
|---|---|---|---|---|---|
";

const AFTER: &str = "
`cargo xtask boot --count` prints them; `cargo xtask test` counts them twice, and compares.

";

/// The section.
pub fn section(figures: &[Figure]) -> String {
    let mut section = format!("{HEADING}\n{INTRODUCTION}");
    for Figure { name, value, unit } in figures {
        let linux = LINUX.iter().find(|(of, _)| of == name).map(|(_, linux)| *linux);
        let (theirs, part) = match linux {
            Some(linux) => (format!("{linux}"), format!("{:.3}", value / linux)),
            None => Default::default(),
        };
        let limit = limit_of(name, figures).map_or_else(String::new, |limit| {
            let met = if *value <= limit { "met" } else { "**not met**" };
            format!("{limit}: {met}")
        });
        // Writing to a string does not fail.
        let _ = writeln!(section, "| {name} | {value:.1} | {unit} | {limit} | {theirs} | {part} |");
    }
    section + AFTER
}

/// The section of a page that has one.
pub fn section_of(page: &str) -> Result<&str> {
    figures::section(page, HEADING)
}

/// Compares `figures` with those of `page`; gives how many agree.
///
/// # Errors
/// A line for each that does not.
pub fn check(page: &str, figures: &[Figure]) -> Result<usize> {
    let rows = section_of(page)?.lines().filter_map(|row| {
        let mut cells = row.trim().strip_prefix('|')?.split('|').map(str::trim);
        Some((cells.next()?, cells.next()?.parse::<f64>().ok()?))
    });
    let rows: Vec<(&str, f64)> = rows.collect();
    ensure!(!figures.is_empty(), "the image printed no figures");
    let mut complaints = String::new();
    for Figure { name, value, .. } in figures {
        match rows.iter().find(|(of, _)| of == name) {
            None => writeln!(complaints, "{name}: {value:.1}, not recorded")?,
            Some((_, then)) if (value - then).abs() > TOLERANCE * then => {
                writeln!(complaints, "{name}: {value:.1}, recorded as {then:.1}")?;
            }
            // Where the page says that it is not met, that is known.
            Some((_, then))
                if limit_of(name, figures).is_some_and(|most| *value > most && *then <= most) =>
            {
                writeln!(complaints, "{name}: {value:.1}, more than is allowed")?;
            }
            Some(_) => {}
        }
    }
    for (name, _) in rows.iter().filter(|(name, _)| figures.iter().all(|now| now.name != *name)) {
        writeln!(complaints, "{name}: recorded, but not printed any more")?;
    }
    if !complaints.is_empty() {
        bail!(
            "run `cargo xtask boot --count --write` if this is meant:\n{}",
            complaints.trim_end()
        );
    }
    Ok(figures.len())
}

/// `page` with its section replaced.
pub fn replaced(page: &str, figures: &[Figure]) -> Result<String> {
    Ok(page.replacen(section_of(page)?, &section(figures), 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "ok      enable       smmu0 has 3 instructions\r
heap, one SMMU in use                                    99368.0  bytes\r
domain: map of 1 page                                       90.0  instructions\r
verdict: ok\r\n";

    fn page(figures: &[Figure]) -> String {
        let head = "# Cost\n| domain: map of 1 page | 106.0 | x86 |\n";
        format!("{head}\n{}## How\n| domain: map of 1 page | 1.0 |\n", section(figures))
    }

    #[test]
    fn figures_are_told_from_other_lines() {
        let figures = parse(OUTPUT);
        let seen: Vec<_> = figures.iter().map(|f| (f.name.as_str(), f.value, f.unit)).collect();
        let expected = [
            ("heap, one SMMU in use", 99368.0, "bytes"),
            ("domain: map of 1 page", 90.0, "instructions"),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_section_is_its_own_record_and_no_other_is_looked_at() {
        let figures = parse(OUTPUT);
        let page = page(&figures);
        assert!(page.contains("| domain: map of 1 page | 90.0 | instructions |  | 279 | 0.323 |"));
        assert_eq!(check(&page, &figures).unwrap(), 2);
        let changed = |by: f64| {
            let mut figures = figures.clone();
            figures[1].value *= by;
            figures
        };
        assert!(check(&page, &changed(1.04)).is_ok());
        assert!(check(&page, &changed(1.06)).is_err());
        assert!(check(&page, &changed(0.94)).is_err());
        assert!(check(&page, &[]).is_err());
        // One that is new, and one that is gone.
        assert!(check(&page, &figures[1..]).is_err());
        let mut more = figures.clone();
        more.push(Figure { name: "new".into(), value: 1.0, unit: "bytes" });
        assert!(check(&page, &more).is_err());
        assert!(check("# Cost\n", &figures).is_err());
    }

    #[test]
    fn a_figure_beyond_its_limit_is_marked_and_refused() {
        let figure = |value| {
            let (name, unit) = ("command queue: 1 TLBI + SYNC".into(), "instructions");
            [Figure { name, value, unit }]
        };
        let met = page(&figure(129.0));
        assert!(met.contains("| command queue: 1 TLBI + SYNC | 129.0 | instructions | 130: met |"));
        assert!(check(&met, &figure(130.0)).is_ok());
        // Within 5 %.
        assert!(check(&met, &figure(131.0)).is_err());
        let known = page(&figure(131.0));
        assert!(known.contains("| 131.0 | instructions | 130: **not met** |"));
        assert!(check(&known, &figure(132.0)).is_ok());
    }

    #[test]
    fn deferred_is_held_to_strict_without_the_wait() {
        let [strict, sync] = STRICT;
        for deferred in DEFERRED {
            let figures =
                |value| {
                    [(sync, 100.0), (strict, 600.0), (deferred, value)].map(|(name, value)| {
                        Figure { name: name.into(), value, unit: "instructions" }
                    })
                };
            let met = page(&figures(640.0));
            assert!(met.contains("| 640.0 | instructions | 650: met |"), "{met}");
            assert!(check(&met, &figures(650.0)).is_ok());
            assert!(check(&met, &figures(651.0)).is_err());
            assert!(page(&figures(651.0)).contains("| 650: **not met** |"));
            assert_eq!(limit_of(deferred, &[]), None);
            // What copies has none.
            assert_eq!(limit_of("space, lazy: map + unmap of 1 page", &figures(640.0)), None);
        }
    }

    #[test]
    fn only_the_section_is_replaced() {
        let figures = parse(OUTPUT);
        let old = page(&figures[..1]);
        let new = replaced(&old, &figures).unwrap();
        assert_eq!(new, page(&figures));
    }
}

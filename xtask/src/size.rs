// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask size`: what the driver weighs in an AArch64 image that uses it, and a section of docs/performance.md.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::bare::{self, Libraries};
use crate::boot;
use crate::environment::Workspace;
use crate::figures;
use crate::perf;
use crate::report::{Report, Step, Verdict};
use crate::tally::Tally;

const PACKAGE: &str = "smmuv3-size";

/// A driver that is weighed: what it is called, the arguments that build it, and the most KiB of code at opt-level 3 and
/// at "s". Limits are of stage 1 alone.
struct Driver {
    name: &'static str,
    arguments: &'static [&'static str],
    limits: Option<[f64; 2]>,
}

const DRIVERS: [Driver; 4] = [
    Driver {
        name: "without a heap, stage 1",
        arguments: &["--no-default-features"],
        limits: Some([29.0, 24.0]),
    },
    Driver { name: "`Iommu`, stage 1", arguments: &[], limits: Some([45.0, 38.0]) },
    Driver {
        name: "`Iommu`, stage 1, with `fast-paths`",
        arguments: &["--features", "fast"],
        limits: None,
    },
    Driver { name: "`Iommu`, everything", arguments: &["--features", "all"], limits: None },
];

/// The values of opt-level.
const LEVELS: [&str; 2] = ["3", "s"];

/// What the step is for.
pub const WHAT: &str = "code of a driver of stage 1 is as small as docs/performance.md says";

const HEADING: &str = "## Code";

const INTRODUCTION: &str = "
Bytes of code (`.text`) of an image for aarch64-unknown-none that takes an SMMU into use, attaches a device, maps,
unmaps, and reads events (`baremetal/size`), built with link-time optimisation. About 500 bytes are the image's own, and 900 the
compiler's `memcpy` and `memset`. *Stage 1* is without the features that are on by default, so for pages of 4 KiB and
48 bits, and without `nested`, `sva`, `ats`, `pmcg`, `resizing`, `fast-paths`, `pasids`, `two-level`, `removal`, `policies`, `stalls`, `hand-over`,
`dirty`, `ecmdq`, `sync-messages` and `counts`, too; *everything* is with all of them. Figures of speed, above, are of a driver with `fast-paths`: with them alone beside stage 1, it
is as fast. Limits are in KiB: at most 64 and
40 are what was set out for, and each is held to what it has come to.

| driver | opt-level 3 | limit | opt-level s | limit |
|---|---|---|---|---|
";

const AFTER: &str = "
| what bought it, of `Iommu` | opt-level 3 | opt-level s |
|---|---|---|
| as it was: all twelve kinds of tables, all parts | 385112 | 341252 |
| without `nested`, `sva`, `ats`, `pmcg` | | 292396 |
| and without `stage-2`, `granules`, `wide`: one kind of tables | 154628 | 141620 |
| one copy of the loop that carries commands out step by step | 148504 | 134928 |
| without `resizing`; the start gives its commands by that loop | 138048 | 125916 |
| no sorting of devices where there are none | 132632 | 122452 |
| since then: what was mended and added | 135220 | 126836 |
| contexts replaced as a whole, counts of domains | 143264 | 131420 |
| one way to change entries, one or several | 141648 | 130664 |
| a removal that waits for all who look, a detach's own errors | 151056 | 123760 |
| since then | 151540 | 123452 |
| without `policies`: one policy of ASIDs, no tag changed while it is in use | 129840 | 109232 |
| without `stalls`: every fault ends at once | 121360 | 101348 |
| without `hand-over`: nothing that ran before goes on | 113516 | 97404 |
| tables of one kind are known to be of it when it is compiled; an instance is built in its place | 105772 | 88288 |
| one copy of waiting, of grace periods, of the end of what is shared | 100612 | 87788 |
| without `dirty`: hardware marks nothing | 95344 | 85244 |
| without `ecmdq`, `sync-messages`: one command queue, whose completion is polled | 91028 | 80308 |
| one copy of what changes an entry, and of what gives commands for that | 86572 | 76976 |
| without `counts`: no domain counts what it did | 83920 | 73436 |
| the baton of the command queue, and what was mended | 86108 | 77072 |
| lists grow by one function, and nowhere unasked | 84664 | 75492 |
| an instance's memory is made apart from it: the probe is moved once | 83044 | 74624 |
| without `removal`: an SMMU that is in use stays | 81044 | 73220 |
| without `two-level`: stream tables are linear | 79056 | 71800 |
| without `pasids`: a master has one context | 74124 | 69004 |
| what parts that are left out would have set is known when it is compiled | 73292 | 68224 |
| tags counted no further than counts, steps of entries, filling an entry as changing one | 71716 | 67808 |
| without `fast-paths`: pages and invalidations go the general way | 64452 | 60924 |
| and so do commands for a change of configuration; lists of targets made in one pass | 60276 | 57132 |
| one end of a change of targets, one way to make room in quarantine, one place of an instance | 58600 | 54212 |
| one copy of a walk for an unmap, of changing a context, of telling streams, of reading an entry | 56696 | 53456 |
| the command queue's count, a reset that stops the queues first | 57264 | 53916 |
| locks, steps of an attach and commands of all kinds by one function each; a walk is a loop, every table takes every attribute | 54488 | 47612 |
| nothing that only a left-out part needs; one record of an attach, an instance made once all its memory is there, one loop for leaves of all levels | 44616 | 37456 |

`cargo xtask size` prints them, and with `--write` puts them here; `cargo xtask test` weighs those that have limits, and
fails where one is not kept.

";

/// What one driver weighs: bytes at each of [`LEVELS`].
type Weight = [u64; 2];

/// The section of a page that has one.
pub fn section_of(page: &str) -> Result<&str> {
    figures::section(page, HEADING)
}

fn section(weights: &[Weight]) -> String {
    let mut section = format!("{HEADING}\n{INTRODUCTION}");
    for (Driver { name, limits, .. }, weight) in DRIVERS.iter().zip(weights) {
        let judged = |level: usize| {
            limits.map_or_else(String::new, |limits| {
                let met =
                    if is_within(weight[level], limits[level]) { "met" } else { "**not met**" };
                format!("{}: {met}", limits[level])
            })
        };
        // Writing to a string does not fail.
        let _ = writeln!(
            section,
            "| {name} | {} | {} | {} | {} |",
            weight[0],
            judged(0),
            weight[1],
            judged(1)
        );
    }
    section + AFTER
}

fn is_within(bytes: u64, kib: f64) -> bool {
    bytes as f64 <= kib * 1024.0
}

/// Weighs, and shows it; with `write` docs/performance.md is to have it.
pub fn alone(write: bool) -> Result<Tally> {
    let workspace = Workspace::find()?;
    let mut report = Report::new(workspace.target.join("xtask"))?;
    let mut libraries = None;
    report.step("target", boot::WHAT_TARGET, |step| {
        let (obtained, verdict) = bare::obtain(step, &workspace);
        libraries = obtained;
        Ok(boot::required(verdict))
    });
    let mut weights = Vec::new();
    report.step("size", "code of the driver", |step| {
        let libraries = libraries.as_ref().context("no libraries")?;
        weights = weigh(step, &workspace, libraries, &DRIVERS)?;
        judge(&weights)
    });
    if !weights.is_empty() {
        let section = section(&weights);
        report.say(&section);
        if write {
            let page = perf::recorded(&workspace)?;
            perf::record(&workspace, &page.replacen(section_of(&page)?, &section, 1))?;
        }
    }
    Ok(report.close())
}

/// Weighs those that have limits, as `cargo xtask test` does.
pub fn check(step: &mut Step, workspace: &Workspace, libraries: &Libraries) -> Result<Verdict> {
    if !libraries.are_optimised() {
        return Ok(Verdict::skipped("libraries without bitcode: nothing can be weighed"));
    }
    let weights = weigh(step, workspace, libraries, &DRIVERS[..2])?;
    judge(&weights)
}

fn judge(weights: &[Weight]) -> Result<Verdict> {
    let mut kept = 0;
    for (Driver { name, limits, .. }, weight) in DRIVERS.iter().zip(weights) {
        for ((bytes, limit), level) in weight.iter().zip(limits.iter().flatten()).zip(LEVELS) {
            if !is_within(*bytes, *limit) {
                bail!("{name}, opt-level {level}: {bytes} bytes, more than {limit} KiB");
            }
            kept += 1;
        }
    }
    Ok(Verdict::passed(format!("{kept} limits are kept")))
}

fn weigh(
    step: &mut Step,
    workspace: &Workspace,
    libraries: &Libraries,
    drivers: &[Driver],
) -> Result<Vec<Weight>> {
    let mut weights = Vec::new();
    for driver in drivers {
        let mut weight = [0; 2];
        for (bytes, level) in weight.iter_mut().zip(LEVELS) {
            let target = workspace.target.join(format!("size-{level}"));
            let mut command = boot::cargo(workspace, libraries, "build");
            command.args(["--package", PACKAGE]).args(driver.arguments);
            command.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", level);
            command.env("CARGO_TARGET_DIR", &target);
            let status = step.run(&mut command)?;
            ensure!(status.success(), "{}: {}", driver.name, step.complaint());
            *bytes = text(&target.join(bare::TARGET).join("release").join(PACKAGE))?;
        }
        weights.push(weight);
    }
    Ok(weights)
}

/// Bytes of the section `.text` of a file.
fn text(file: &Path) -> Result<u64> {
    let image = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    text_of(&image).with_context(|| format!("{} has no .text", file.display()))
}

/// The same of its content: ELF, 64-bit, little-endian.
fn text_of(image: &[u8]) -> Option<u64> {
    fn number<const N: usize>(image: &[u8], at: u64) -> Option<u64> {
        let at = usize::try_from(at).ok()?;
        let bytes = image.get(at..at.checked_add(N)?)?;
        Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }
    if image.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let (table, size) = (number::<8>(image, 0x28)?, number::<2>(image, 0x3a)?);
    let (count, names) = (number::<2>(image, 0x3c)?, number::<2>(image, 0x3e)?);
    let header = |index: u64| table + index * size;
    let strings = number::<8>(image, header(names) + 0x18)?;
    (0..count).map(header).find_map(|header| {
        let name = usize::try_from(strings + number::<4>(image, header)?).ok()?;
        image.get(name..)?.starts_with(b".text\0").then(|| number::<8>(image, header + 0x20))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header, one name and two sections, of which the second is `.text` with 0x1234 bytes.
    fn image() -> Vec<u8> {
        let mut image = vec![0; 0x40];
        image[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (image[0x28], image[0x3a], image[0x3c], image[0x3e]) = (0x50, 0x40, 2, 0);
        image.extend(b"\0.text\0\0\0\0\0\0\0\0\0\0");
        let mut sections = [0; 0x80];
        sections[0x18] = 0x40;
        sections[0x40] = 1;
        sections[0x60..0x62].copy_from_slice(&[0x34, 0x12]);
        image.extend(sections);
        image
    }

    #[test]
    fn code_is_found_by_the_name_of_its_section() {
        assert_eq!(text_of(&image()), Some(0x1234));
        assert_eq!(text_of(&image()[..0x60]), None);
        assert_eq!(text_of(b"#!/bin/sh"), None);
    }

    #[test]
    fn a_driver_beyond_its_limit_is_told() {
        let limits =
            |driver: &Driver| driver.limits.map(|limits| limits.map(|kib| kib as u64 * 1024));
        let kept = DRIVERS.each_ref().map(|driver| limits(driver).unwrap_or([1 << 30; 2]));
        assert!(judge(&kept).is_ok());
        let [first, ..] = kept;
        assert!(judge(&[[first[0] + 1, first[1]]]).is_err());
        assert!(judge(&[[first[0], first[1] + 1]]).is_err());
        assert!(section(&kept).contains("| 29696 | 29: met | 24576 | 24: met |"));
        assert!(
            section(&[[first[0] + 1, 1]]).contains("| 29697 | 29: **not met** | 1 | 24: met |")
        );
    }
}

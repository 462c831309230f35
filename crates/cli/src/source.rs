// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a scenario comes from: a file, standard input, or this program.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The built-in scenario that runs when none is named.
pub const DEFAULT: &str = "two-instances";

/// A scenario that is part of the program.
pub struct BuiltIn {
    /// What it is called on the command line.
    pub name: &'static str,
    /// Its file in the repository.
    file: &'static str,
    /// The file's text.
    text: &'static str,
    /// What it is about, in a few words.
    pub words: &'static str,
}

/// The scenario of a name, with a few words about it.
macro_rules! built_in {
    ($name:literal, $words:literal) => {
        BuiltIn {
            name: $name,
            file: concat!("scenarios/", $name, ".toml"),
            text: include_str!(concat!("../../../scenarios/", $name, ".toml")),
            words: $words,
        }
    };
}

/// Scenarios that are part of the program, as the help lists them.
pub const BUILT_IN: &[BuiltIn] = &[
    built_in!("two-instances", "one domain on two SMMUs that differ"),
    built_in!("one-instance", "two domains on one SMMU; also for QEMU 10"),
    built_in!("random", "10,000 random operations on two SMMUs"),
    built_in!("random-short", "500 of them, for any machine with two SMMUs"),
    built_in!("option-1", "policy shared-8-on-move: a narrow SMMU refuses a wide ASID"),
    built_in!("option-2", "policy shared-8: any SMMU is joined, but 255 ASIDs are all"),
    built_in!("the-patch", "policy shared-min-refuse: a narrower SMMU, later, refuses"),
    built_in!("the-fix", "policy shared-min-move: the live ASID is changed instead"),
    built_in!("power", "an SMMU sleeps, without power, while others go on"),
    built_in!("removal", "an SMMU goes and comes back while a domain lives on another"),
    built_in!("hand-over", "a kernel crashes, and the next one takes its SMMUs over"),
    built_in!("keep", "a display that firmware left working goes on, and is claimed"),
    built_in!("banks", "policy banked: 300 domains on an SMMU with 8-bit ASIDs"),
    built_in!("process", "a process that devices behind three SMMUs share (SVA)"),
    built_in!("queues", "enhanced command queues, and messages instead of wires"),
    built_in!("random-processes", "random operations with PASIDs and processes, too"),
    built_in!("stage-2", "guests' address spaces, with a VMID on each SMMU"),
    built_in!("granules", "pages of 4, 16 and 64 KiB, of both stages and halves"),
    built_in!("wide", "52-bit addresses, first tables side by side, uncached walks"),
    built_in!("contiguous", "groups that are cached as one, and blocks that are cut"),
    built_in!("straddle", "blocks that may not be cut, and are not"),
    built_in!("dirty", "what devices wrote, as hardware marks it"),
    built_in!("attributes", "a hypervisor's VMIDs, forced types, and pages in use"),
    built_in!("nested", "a guest's stage 1 over the host's stage 2, behind two SMMUs"),
    built_in!("nested-ats", "the same with devices that keep translations"),
    built_in!("hypervisor", "a host in EL2: its own devices there, a guest's in EL1"),
    built_in!("ats", "devices that keep translations until they are told to forget"),
    built_in!("split", "devices that are given what their guest's stage 1 leads to"),
    built_in!("always-on", "devices that send nothing untranslated, under identity too"),
    built_in!("stall", "devices that wait at a fault until it is answered"),
    built_in!("guest-stall", "a guest's devices that wait until the guest has answered"),
    built_in!("guest-pages", "a guest's devices that ask the guest for pages"),
    built_in!("guest-pasids", "a guest's devices with PASIDs, by contexts of the guest's"),
    built_in!("guest-hostile", "a guest that does what its SMMU does not accept"),
    built_in!("pri", "devices that ask for pages, and wait until they are answered"),
    built_in!("observation", "questions to SMMUs, counters, and what the driver counts"),
    built_in!("invalidation", "ranges of one domain on two SMMUs, whole tags, and later"),
    built_in!("invalidation-el2", "single commands, whole tags instead, and the words of EL2"),
    built_in!("errata", "SMMUs that are not as they say, and what firmware says"),
    built_in!("overrides", "attributes in place of devices', and what passes while off"),
];

/// More than any scenario, and little enough to stop soon when given an endless file.
const MOST_BYTES: u64 = 16 << 20;

/// A scenario's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// What messages call the file.
    pub file: String,
    /// The TOML.
    pub text: String,
}

/// Why there is no scenario.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Nothing has this name.
    #[error(
        "there is no file {0}; give the path of a scenario, - for standard input, or the name of a \
         built-in one: {names}", names = names()
    )]
    Missing(String),
    /// It can't be opened or read.
    #[error("{file} can't be read: {reason}")]
    Unreadable {
        /// The file.
        file: String,
        /// What the operating system says.
        reason: io::Error,
    },
    /// It is a folder.
    #[error("{0} is a folder; name the scenario file in it")]
    Folder(String),
    /// It is not text.
    #[error("{file} is not UTF-8 text: byte {at} is none; a scenario is a TOML file")]
    NotText {
        /// The file.
        file: String,
        /// Bytes that are text.
        at: usize,
    },
    /// It does not end.
    #[error("{0} is larger than 16 MiB; that is no scenario")]
    TooLarge(String),
}

/// Reads the scenario that is called `name` on the command line. A file is preferred to a built-in
/// scenario of the same name, since only the file's name could have been chosen otherwise.
///
/// # Errors
/// [`SourceError`], which says what to give instead.
pub fn read(name: &str) -> Result<Source, SourceError> {
    if name == "-" {
        return text("standard input", io::stdin().lock());
    }
    let path = Path::new(name);
    if !path.is_file()
        && let Some(built_in) = BUILT_IN.iter().find(|built_in| built_in.name == name)
    {
        let (file, text) = (built_in.file.to_owned(), built_in.text.to_owned());
        return Ok(Source { file, text });
    }
    if path.is_dir() {
        return Err(SourceError::Folder(name.to_owned()));
    }
    match File::open(path) {
        Ok(file) => text(name, file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(SourceError::Missing(name.to_owned()))
        }
        Err(reason) => Err(SourceError::Unreadable { file: name.to_owned(), reason }),
    }
}

fn text(file: &str, from: impl Read) -> Result<Source, SourceError> {
    let file = file.to_owned();
    let mut bytes = Vec::new();
    match from.take(MOST_BYTES + 1).read_to_end(&mut bytes) {
        Err(reason) => Err(SourceError::Unreadable { file, reason }),
        Ok(_) if bytes.len() as u64 > MOST_BYTES => Err(SourceError::TooLarge(file)),
        Ok(_) => match String::from_utf8(bytes) {
            Ok(text) => Ok(Source { file, text }),
            Err(error) => Err(SourceError::NotText { file, at: error.utf8_error().valid_up_to() }),
        },
    }
}

fn names() -> String {
    BUILT_IN.iter().map(|built_in| built_in.name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use smmuv3_testbench::lab::AsidPolicy;
    use smmuv3_testbench::scenario::{Capabilities, Scenario};

    use super::*;

    #[test]
    fn built_in_scenarios_have_their_names_and_run_on_the_model() {
        assert_eq!(BUILT_IN[0].name, DEFAULT);
        for BuiltIn { name, words, .. } in BUILT_IN {
            // As the help lists them, on a terminal of 80 columns.
            assert!(name.len() < 18 && words.len() <= 60, "{name}: {words}");
            let source = read(name).unwrap();
            let scenario = Scenario::parse(&source.text, &source.file).unwrap();
            assert_eq!(scenario.name, *name);
            scenario.check_for(&Capabilities::model()).unwrap();
        }
    }

    /// Those in the repository are these.
    #[test]
    fn the_page_on_scenarios_lists_them_all() {
        let page = include_str!("../../../docs/scenarios.md");
        let (_, page) = page.split_once("## Built-in ones\n").unwrap();
        let rows = page.lines().filter(|line| line.starts_with("| [`"));
        let expected = BUILT_IN.iter().map(|BuiltIn { name, file, words, .. }| {
            let words = AsidPolicy::ALL.iter().fold((*words).to_owned(), |words, policy| {
                words.replace(&format!("policy {policy}:"), &format!("policy `{policy}`:"))
            });
            format!("| [`{name}`](../{file}) | {words} |")
        });
        assert_eq!(rows.take(BUILT_IN.len()).collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    }

    #[test]
    fn a_file_is_read_and_called_by_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.toml");
        std::fs::write(&path, "name = \"mine\"").unwrap();
        let name = path.to_str().unwrap();
        let expected = Source { file: name.to_owned(), text: "name = \"mine\"".to_owned() };
        assert_eq!(read(name).unwrap(), expected);
    }

    #[test]
    fn what_is_no_scenario_is_refused_with_advice() {
        let folder = tempfile::tempdir().unwrap();
        let error = read(folder.path().to_str().unwrap()).unwrap_err();
        assert!(matches!(error, SourceError::Folder(_)), "{error}");
        let error = read("two-instance").unwrap_err();
        assert!(
            error.to_string().contains("built-in one: two-instances, one-instance, random"),
            "{error}"
        );
        let error = text("x", &b"abc\xff"[..]).unwrap_err();
        assert!(matches!(error, SourceError::NotText { at: 3, .. }), "{error}");
        let error = text("x", io::repeat(b' ')).unwrap_err();
        assert!(matches!(error, SourceError::TooLarge(_)), "{error}");
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! ARCHITECTURE.md as a map of the files: whether it names all of them.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use crate::environment::Workspace;

/// The crates whose files it names.
const CRATES: [&str; 8] =
    ["driver", "pagetable", "model", "dma", "discovery", "decode", "walk", "explore"];

/// What stands in backticks in the part of `page` that is about `krate`, taken apart at slashes.
fn named<'a>(page: &'a str, krate: &str) -> HashSet<&'a str> {
    let (_, part) = page.split_once(&format!("In `crates/{krate}/src`")).unwrap();
    let ends = ["\nIn `crates/", "\n## ", "\n### "].map(|end| part.find(end));
    let part = &part[..ends.into_iter().flatten().min().unwrap_or(part.len())];
    part.split('`').skip(1).step_by(2).flat_map(|name| name.split('/')).collect()
}

/// Tests have no place on it, nor has what every crate has.
fn is_left_out(name: &str) -> bool {
    matches!(name, "lib" | "tests" | "loom_tests" | "loom_lock" | "contention")
}

fn look(folder: &Path, names: &HashSet<&str>, missing: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if is_left_out(name) {
            continue;
        }
        if path.is_dir() {
            look(&path, names, missing);
        } else if path.extension().is_some_and(|it| it == "rs") && !names.contains(name) {
            missing.push(path.display().to_string());
        }
    }
}

#[test]
fn every_file_of_the_libraries_is_on_the_map() {
    let root = Workspace::find().unwrap().root;
    let page = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let mut missing = Vec::new();
    for krate in CRATES {
        let folder = root.join("crates").join(krate).join("src");
        look(&folder, &named(&page, krate), &mut missing);
    }
    assert_eq!(missing, Vec::<String>::new(), "ARCHITECTURE.md does not name these");
}

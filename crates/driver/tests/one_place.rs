// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an SMMU can do is asked of `features` alone, in this crate's own source.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

/// Fields of ID registers are looked at in `features` and `errata` alone; what a guest is shown is no feature.
#[test]
fn nobody_else_looks_into_id_registers() {
    fn visit(folder: &std::path::Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let is_test = name.contains("test");
            let here = ["features.rs", "errata.rs", "wrong.rs"].contains(&&*name);
            if path.is_dir() && !is_test {
                visit(&path, found);
            } else if !path.is_dir() && !is_test && !here {
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.split("\nmod tests {").next().unwrap_or(&text);
                let field = |line: &&str| {
                    line.split("registers.idr").skip(1).any(|rest| {
                        // `registers.idr0.0` is the whole register, for errors.
                        rest.get(1..2) == Some(".") && !rest.get(2..).unwrap_or("").starts_with('0')
                    }) || line.contains("Features::decode(")
                        || line.contains("_bits.min(48)")
                };
                let lines = code.lines().filter(field);
                found.extend(lines.map(|line| format!("{name}: {}", line.trim())));
            }
        }
    }
    let mut found = Vec::new();
    visit(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    // A probe decodes what it has read.
    found.retain(|line| !line.starts_with("instance.rs: let mut features = Features::decode("));
    assert_eq!(found, Vec::<String>::new());
}

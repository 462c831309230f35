// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is wrong with a scenario, and where.

use core::fmt;

/// A place in a file. Line 0: no place is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// One mistake: `file:line:column: what is wrong; what would be right`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}{at}: {message}", at = Colons(*position))]
pub struct ScenarioError {
    /// The file.
    pub file: String,
    /// Where in the file.
    pub position: Position,
    /// What is wrong and what would be right.
    pub message: String,
}

/// Everything that is wrong with a scenario, by line; never empty. Displays one mistake a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScenarioErrors {
    /// The mistakes.
    pub errors: Vec<ScenarioError>,
}

impl fmt::Display for ScenarioErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.errors.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl core::error::Error for ScenarioErrors {}

/// Collects mistakes and then is a result.
#[derive(Debug)]
pub(super) struct Mistakes {
    file: String,
    errors: Vec<ScenarioError>,
}

impl Mistakes {
    pub(super) fn of(file: &str) -> Self {
        Self { file: file.to_owned(), errors: Vec::new() }
    }

    pub(super) fn add(&mut self, position: Position, message: impl Into<String>) {
        let message = message.into();
        self.errors.push(ScenarioError { file: self.file.clone(), position, message });
    }

    pub(super) fn count(&self) -> usize {
        self.errors.len()
    }

    pub(super) fn into_result(mut self) -> Result<(), ScenarioErrors> {
        if self.errors.is_empty() {
            return Ok(());
        }
        self.errors.sort_by_key(|error| error.position);
        self.errors.dedup();
        Err(ScenarioErrors { errors: self.errors })
    }
}

/// `:line:column`, or nothing where no place is known.
struct Colons(Position);

impl fmt::Display for Colons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Position { line: 0, .. } => Ok(()),
            Position { line, column } => write!(f, ":{line}:{column}"),
        }
    }
}

/// ` (did you mean "x"?)` if one of `known` is close to `word`, else nothing.
pub(super) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let limit = (word.chars().count() / 3).max(1) + 1;
    known
        .into_iter()
        .map(|name| (distance(&word.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= limit && *distance < name.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map_or_else(String::new, |(_, name)| format!(" (did you mean \"{name}\"?)"))
}

/// Insertions, removals, replacements and swaps of neighbours that turn `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    // Three rows of the table: two back for swaps, one back, and the current one. Indices are at
    // most `b.len()`, the rows' last.
    let mut two_back = vec![0; b.len() + 1];
    let mut back: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = back[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(back[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(two_back[j - 2] + 1);
            }
        }
        two_back = back;
        back = row;
    }
    back[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("nik", "nic"), 1);
        assert_eq!(distance("dsik", "disk"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn a_near_name_is_offered_and_a_far_one_is_not() {
        assert_eq!(did_you_mean("nik", ["disk", "nic"]), " (did you mean \"nic\"?)");
        assert_eq!(
            did_you_mean("F_TRANSLATE", ["F_TRANSLATION"]),
            " (did you mean \"F_TRANSLATION\"?)"
        );
        assert_eq!(did_you_mean("wifi", ["disk", "gpu"]), "");
        assert_eq!(did_you_mean("x", ["a"]), "");
    }
}

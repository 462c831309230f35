// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counts of pairs: a feature, and an operation that came to something with it.

use std::collections::BTreeMap;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::{Exception, FEATURES, Set, VERBS};

/// How often operations were done with features: a row for each of [`FEATURES`], or none where nothing was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pairs(Vec<[u64; VERBS.len()]>);

impl Pairs {
    /// Counts `verb` once for each of `features`.
    pub(super) fn add(&mut self, features: Set, verb: &str) {
        let Some(column) = VERBS.iter().position(|name| *name == verb) else { return };
        self.0.resize(FEATURES.len(), [0; VERBS.len()]);
        let mut left = features;
        while left != 0 {
            if let Some(row) = self.0.get_mut(left.trailing_zeros() as usize) {
                row[column] += 1;
            }
            left &= left - 1;
        }
    }

    /// Adds what was counted elsewhere.
    pub fn merge(&mut self, other: &Self) {
        self.0.resize(FEATURES.len(), [0; VERBS.len()]);
        for (row, others) in self.0.iter_mut().zip(&other.0) {
            row.iter_mut().zip(others).for_each(|(count, other)| *count += other);
        }
    }

    /// How often the operation at `column` of [`VERBS`] was done with the feature at `row` of [`FEATURES`]; `None` if it
    /// never is ([`EXCEPTIONS`](super::EXCEPTIONS)), or there are no such.
    pub fn get(&self, row: usize, column: usize) -> Option<u64> {
        let (feature, verb) = (FEATURES.get(row)?.name, VERBS.get(column)?);
        let never = Exception::of(feature, verb).is_some();
        (!never).then(|| self.0.get(row).and_then(|row| row.get(column)).copied().unwrap_or(0))
    }

    /// Pairs that are no exceptions, and were never done.
    pub fn missing(&self) -> Vec<(&'static str, &'static str)> {
        let pairs = (0..FEATURES.len()).flat_map(|row| (0..VERBS.len()).map(move |at| (row, at)));
        let missing = pairs.filter(|(row, column)| self.get(*row, *column) == Some(0));
        missing.map(|(row, column)| (FEATURES[row].name, VERBS[column])).collect()
    }

    /// Nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.0.iter().flatten().all(|count| *count == 0)
    }
}

/// As an object of features, each an object of operations.
impl Serialize for Pairs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(FEATURES.len()))?;
        for (row, feature) in FEATURES.iter().enumerate() {
            let columns = VERBS.iter().enumerate();
            let counts: BTreeMap<&str, u64> =
                columns.filter_map(|(at, verb)| Some((*verb, self.get(row, at)?))).collect();
            map.serialize_entry(feature.name, &counts)?;
        }
        map.end()
    }
}

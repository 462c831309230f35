// SPDX-License-Identifier: MIT OR Apache-2.0
//! The shortest sequence that still fails, by delta debugging.

/// Most attempts at a shorter sequence.
const MOST_ATTEMPTS: usize = 400;

/// What looking for something shorter may take, so that it ends however slow what is looked at is.
#[derive(Clone, Debug)]
pub struct Budget {
    runs: u64,
    operations: u64,
    refused: bool,
}

impl Budget {
    /// Runs for one finding, and operations of all of them together.
    pub const RUNS: u64 = 3_000;
    /// See [`Budget::RUNS`]. It is a few minutes of one CPU.
    pub const OPERATIONS: u64 = 2_000_000;

    /// So many runs with so many operations.
    pub const fn new(runs: u64, operations: u64) -> Self {
        Self { runs, operations, refused: false }
    }

    /// Takes what a run of `operations` needs; whether there was that much left.
    pub fn spend(&mut self, operations: usize) -> bool {
        let left = self.operations.checked_sub(operations as u64);
        let Some((runs, operations)) = self.runs.checked_sub(1).zip(left) else {
            self.refused = true;
            return false;
        };
        (self.runs, self.operations) = (runs, operations);
        true
    }

    /// Whether something was not tried because of it.
    pub const fn is_spent(&self) -> bool {
        self.refused
    }
}

/// [`Budget::RUNS`], [`Budget::OPERATIONS`].
impl Default for Budget {
    fn default() -> Self {
        Self::new(Self::RUNS, Self::OPERATIONS)
    }
}

/// Removes from `items` whatever is not needed for `fails` to hold. Returns `items` unchanged when it does
/// not fail when repeated.
pub fn shortest<T: Clone>(items: Vec<T>, fails: &mut dyn FnMut(&[T]) -> bool) -> Vec<T> {
    let mut attempts = 0;
    let mut try_it = |candidate: &[T]| {
        attempts += 1;
        attempts <= MOST_ATTEMPTS && fails(candidate)
    };
    let mut items = items;
    if !try_it(&items) {
        return items;
    }
    let mut pieces = 2;
    while items.len() > 1 {
        let size = items.len().div_ceil(pieces);
        let without = |start: usize| -> Vec<T> {
            let end = (start + size).min(items.len());
            items[..start].iter().chain(&items[end..]).cloned().collect()
        };
        let shorter = (0..items.len()).step_by(size).map(without).find(|it| try_it(it));
        match shorter {
            Some(shorter) => {
                items = shorter;
                pieces = (pieces - 1).max(2);
            }
            None if size == 1 => break,
            None => pieces = (pieces * 2).min(items.len()),
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_needed_goes() {
        let needed = |items: &[u32]| items.contains(&3) && items.contains(&77);
        assert_eq!(shortest((0..100).collect(), &mut |items| needed(items)), [3, 77]);
    }

    #[test]
    fn a_budget_has_so_many_runs_and_so_many_operations() {
        let mut budget = Budget::new(3, 100);
        assert!(budget.spend(60) && !budget.is_spent());
        assert!(!budget.spend(60) && budget.is_spent(), "40 are left");
        assert!(budget.spend(40) && budget.spend(0));
        assert!(!budget.spend(0), "three runs");
    }

    #[test]
    fn what_cannot_be_repeated_stays() {
        assert_eq!(shortest(vec![1, 2, 3], &mut |_| false), [1, 2, 3]);
    }
}

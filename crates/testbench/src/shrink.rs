// SPDX-License-Identifier: MIT OR Apache-2.0
//! The shortest sequence that still fails, by delta debugging.

/// Most attempts at a shorter sequence.
const MOST_ATTEMPTS: usize = 400;

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
    fn what_cannot_be_repeated_stays() {
        assert_eq!(shortest(vec![1, 2, 3], &mut |_| false), [1, 2, 3]);
    }
}

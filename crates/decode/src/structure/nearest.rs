// SPDX-License-Identifier: MIT OR Apache-2.0
//! The name that was probably meant.

/// Most letters of a name that is compared.
const MOST_LETTERS: usize = 40;

/// The name among `names` that is most like `name`; `None` if none is.
pub(super) fn nearest(name: &str, names: impl Iterator<Item = String>) -> Option<String> {
    let wanted = name.to_ascii_lowercase();
    let allowed = (wanted.chars().count() / 3).max(1);
    let close = names.map(|other| (distance(&wanted, &other.to_ascii_lowercase()), other));
    let best = close.min_by_key(|(distance, _)| *distance)?;
    (best.0 <= allowed).then_some(best.1)
}

/// How many letters must be put in, left out, replaced or exchanged with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let letters = |text: &str| text.chars().take(MOST_LETTERS).collect::<Vec<char>>();
    let (a, b) = (letters(a), letters(b));
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, one) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, other) in b.iter().enumerate() {
            let cell = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX / 2);
            let replaced = cell(&row, j) + usize::from(one != other);
            let mut best = replaced.min(cell(&row, j + 1) + 1).min(cell(&next, j) + 1);
            let crossed =
                i > 0 && j > 0 && a.get(i - 1) == Some(other) && b.get(j - 1) == Some(one);
            if crossed {
                best = best.min(cell(&before, j - 1) + 1);
            }
            next.push(best);
        }
        before = core::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_if_it_is_near() {
        let names = || ["s1contextptr", "s1cdmax", "config", "v"].map(str::to_owned).into_iter();
        assert_eq!(nearest("s1_context_ptr", names()).as_deref(), Some("s1contextptr"));
        assert_eq!(nearest("cofnig", names()).as_deref(), Some("config"));
        assert_eq!(nearest("asid", names()), None);
        assert_eq!(distance("abcd", "acbd"), 1);
        assert_eq!(distance("", "abc"), 3);
    }
}

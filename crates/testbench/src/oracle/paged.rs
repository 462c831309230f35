// SPDX-License-Identifier: MIT OR Apache-2.0
//! Something for some of the pages of an address space: runs of them are gone through at every step.

use std::ops::Range;

use super::PAGE;

/// Pages that are side by side in memory here.
const PAGES: u64 = 64;

/// A map from first addresses of pages, in their order.
#[derive(Clone, Debug)]
pub(super) struct Paged<T> {
    /// By number.
    runs: Vec<Run<T>>,
    len: usize,
}

/// What is known of [`PAGES`] pages, at least one of which is there.
#[derive(Clone, Debug)]
struct Run<T> {
    /// Number of the first page by [`PAGES`].
    number: u64,
    /// A bit for each page that is there.
    there: u64,
    values: Box<[T; PAGES as usize]>,
}

/// The numbers of the bits of a word.
struct Bits(u64);

impl Iterator for Bits {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let bit = self.0.trailing_zeros();
        self.0 &= self.0.wrapping_sub(1);
        (bit < u64::BITS).then_some(bit)
    }
}

impl<T> Default for Paged<T> {
    fn default() -> Self {
        Self { runs: Vec::new(), len: 0 }
    }
}

/// Number of the run that has the page at `iova`, and which of its pages that is.
const fn place(iova: u64) -> (u64, usize) {
    let page = iova / PAGE;
    // Below 64.
    (page / PAGES, (page % PAGES) as usize)
}

impl<T> Run<T> {
    /// Bits of those pages whose first addresses are in `range`.
    fn within(&self, range: &Range<u64>) -> u64 {
        let first = range.start.div_ceil(PAGE).saturating_sub(self.number * PAGES);
        let end = range.end.div_ceil(PAGE).saturating_sub(self.number * PAGES);
        let below = |bit: u64| if bit < PAGES { (1 << bit) - 1 } else { u64::MAX };
        self.there & below(end) & !below(first)
    }

    const fn address(&self, bit: u32) -> u64 {
        (self.number * PAGES + bit as u64) * PAGE
    }
}

impl<T: Copy> Paged<T> {
    /// How many pages are there.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    fn find(&self, number: u64) -> Result<usize, usize> {
        self.runs.binary_search_by_key(&number, |run| run.number)
    }

    /// That of the page at `iova`.
    pub(super) fn get(&self, iova: u64) -> Option<&T> {
        let (number, at) = place(iova);
        let run = self.runs.get(self.find(number).ok()?)?;
        (run.there >> at & 1 != 0).then(|| &run.values[at])
    }

    /// The same, to be changed.
    pub(super) fn get_mut(&mut self, iova: u64) -> Option<&mut T> {
        let (number, at) = place(iova);
        let index = self.find(number).ok()?;
        let run = self.runs.get_mut(index)?;
        (run.there >> at & 1 != 0).then(|| &mut run.values[at])
    }

    /// Puts the page at `iova` there, instead of what was.
    pub(super) fn insert(&mut self, iova: u64, value: T) {
        let (number, at) = place(iova);
        let index = self.find(number).unwrap_or_else(|index| {
            let values = Box::new([value; PAGES as usize]);
            self.runs.insert(index, Run { number, there: 0, values });
            index
        });
        // Found, or just put there.
        let run = &mut self.runs[index];
        self.len += usize::from(run.there >> at & 1 == 0);
        run.there |= 1 << at;
        run.values[at] = value;
    }

    /// Takes the page at `iova` away, if it is there.
    pub(super) fn remove(&mut self, iova: u64) -> Option<T> {
        let (number, at) = place(iova);
        let index = self.find(number).ok()?;
        let run = self.runs.get_mut(index)?;
        if run.there >> at & 1 == 0 {
            return None;
        }
        run.there &= !(1 << at);
        self.len -= 1;
        let value = run.values[at];
        if run.there == 0 {
            self.runs.remove(index);
        }
        Some(value)
    }

    /// The runs that may have pages in `range`.
    fn overlapping(&self, range: &Range<u64>) -> Range<usize> {
        let first = range.start / PAGE / PAGES;
        let end = range.end.div_ceil(PAGE).div_ceil(PAGES);
        let at = |number| self.runs.partition_point(|run| run.number < number);
        let start = at(first);
        start..at(end).max(start)
    }

    /// The pages that begin in `range`.
    pub(super) fn range(&self, range: Range<u64>) -> impl Iterator<Item = (u64, &T)> {
        // Inside, as they were just found.
        self.runs[self.overlapping(&range)].iter().flat_map(move |run| {
            let bits = Bits(run.within(&range));
            bits.map(move |bit| (run.address(bit), &run.values[bit as usize]))
        })
    }

    /// How many begin in `range`.
    pub(super) fn count(&self, range: &Range<u64>) -> usize {
        let runs = self.runs[self.overlapping(range)].iter();
        runs.map(|run| run.within(range).count_ones() as usize).sum()
    }

    /// Changes those that begin in `range`.
    pub(super) fn change(&mut self, range: &Range<u64>, mut change: impl FnMut(&mut T)) {
        let overlapping = self.overlapping(range);
        for run in &mut self.runs[overlapping] {
            Bits(run.within(range)).for_each(|bit| change(&mut run.values[bit as usize]));
        }
    }

    /// Takes those away that begin in `range`, and gives each to `taken`.
    pub(super) fn take(&mut self, range: &Range<u64>, mut taken: impl FnMut(u64, T)) {
        let overlapping = self.overlapping(range);
        let mut any_empty = false;
        for run in &mut self.runs[overlapping.clone()] {
            let bits = run.within(range);
            run.there &= !bits;
            self.len -= bits.count_ones() as usize;
            any_empty |= run.there == 0;
            Bits(bits).for_each(|bit| taken(run.address(bit), run.values[bit as usize]));
        }
        if any_empty {
            self.runs.retain(|run| run.there != 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn it_is_a_map_whose_ranges_are_of_first_addresses() {
        let mut rng = fastrand::Rng::with_seed(1);
        let (mut paged, mut map) = (Paged::default(), BTreeMap::new());
        // Around the ends of runs, and where addresses end.
        let bases = [0, 0x3_c000, 0xc000_0000, 0xffff_ffff_fff0_0000];
        for number in 0..20_000u64 {
            let base = bases[rng.usize(0..bases.len())];
            let start = base + rng.u64(0..0xf_f000);
            let range = start..start.saturating_add(rng.u64(0..0x8_0000));
            let page = start & !(PAGE - 1);
            match rng.u8(0..8) {
                0..4 => {
                    paged.insert(page, number);
                    map.insert(page, number);
                }
                4 => assert_eq!(paged.remove(page), map.remove(&page)),
                5 => {
                    paged.change(&range, |value| *value += 1);
                    map.range_mut(range.clone()).for_each(|(_, value)| *value += 1);
                    let own = paged.get_mut(page).map(|value| std::mem::replace(value, 3));
                    assert_eq!(own, map.get_mut(&page).map(|value| std::mem::replace(value, 3)));
                }
                6 if rng.u8(..) < 32 => {
                    let mut taken = Vec::new();
                    paged.take(&range, |iova, value| taken.push((iova, value)));
                    let gone: Vec<_> = map.extract_if(range.clone(), |_, _| true).collect();
                    assert_eq!(taken, gone);
                }
                _ => {}
            }
            let own: Vec<_> = paged.range(range.clone()).map(|(at, value)| (at, *value)).collect();
            let all: Vec<_> = map.range(range.clone()).map(|(at, value)| (*at, *value)).collect();
            assert_eq!((paged.count(&range), own), (all.len(), all));
            assert_eq!((paged.len(), paged.get(page)), (map.len(), map.get(&page)));
        }
        assert!(map.len() > 200, "{}", map.len());
        assert_eq!(paged.range(0..u64::MAX).count(), map.len());
    }
}

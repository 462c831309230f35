// SPDX-License-Identifier: MIT OR Apache-2.0
//! What devices wrote, and what they accessed, which whoever asks for it must be told (§14).

use std::ops::Range;

use super::{Oracle, PAGE, Page, Power, Rule, User};

impl Oracle {
    /// Memory was written through a page, by an access that is over. While things are changing it is not known by
    /// which page.
    pub(super) fn wrote(&mut self, user: User, iova: u64) {
        let Some(state) = self.masters.get(user.master) else { return };
        // Nor what passes while the SMMU is off.
        if state.is_changing() || self.power(state.instance) != Power::On {
            return;
        }
        let Some(space) = self.goes_through(user) else { return };
        // What is being unmapped by who asks for it is owed until that has returned.
        let there = |space, iova| {
            let sure = |page: &Page| !page.changing || self.is_taken(space, iova);
            self.page(space, iova).filter(sure)
        };
        let Some(page) = there(space, iova) else { return };
        let (space, page) = match self.over(space) {
            None => (space, iova & !(PAGE - 1)),
            // Through a guest's stage 1, which is not marked here, it is stage 2 that is.
            Some(under) if there(under, page.pa).is_some() => (under, page.pa),
            Some(_) => return,
        };
        if let Some(space) = self.spaces.get_mut(space).filter(|space| space.shape.dirty) {
            space.written.insert(page);
        }
    }

    /// Memory was accessed through a page, by an access that is over, as in [`Oracle::wrote`].
    pub(super) fn touched(&mut self, user: User, iova: u64) {
        let Some(state) = self.masters.get(user.master) else { return };
        // Nor what passes while the SMMU is off.
        if state.is_changing() || self.power(state.instance) != Power::On {
            return;
        }
        let Some(space) = self.goes_through(user) else { return };
        let there = |space, iova| self.page(space, iova).filter(|page| !page.changing);
        let Some(page) = there(space, iova) else { return };
        let (space, page) = match self.over(space) {
            None => (space, iova & !(PAGE - 1)),
            Some(under) if there(under, page.pa).is_some() => (under, page.pa),
            Some(_) => return,
        };
        if let Some(space) = self.spaces.get_mut(space).filter(|space| space.shape.accessed) {
            space.touched.insert(page);
        }
    }

    /// Somebody begins to read what was accessed in `range`: all that was accessed until now must be reported.
    pub fn accessed_begins(&mut self, space: usize, range: &Range<u64>) {
        let Some(space) = self.spaces.get_mut(space) else { return };
        space.owed_touched = space.touched.range(range.clone()).copied().collect();
        space.touched.retain(|page| !range.contains(page));
    }

    /// What was accessed was read, and is forgotten: `reported` are starts and bytes. What was accessed meanwhile may have
    /// been reported now, or will be next time.
    pub fn accessed_ends(&mut self, space: usize, range: &Range<u64>, reported: &[(u64, u64)]) {
        let Some(state) = self.spaces.get_mut(space) else { return };
        let is_reported = |page: &u64| {
            reported.iter().any(|(start, bytes)| (*start..*start + *bytes).contains(page))
        };
        let owed = std::mem::take(&mut state.owed_touched);
        state.touched.retain(|page| !range.contains(page) || !is_reported(page));
        if let Some(page) = owed.iter().find(|page| !is_reported(page)) {
            let text = format!("an access to {page:#x} of space {space} was not reported");
            self.accuse(Rule::R9, text);
        }
    }

    /// Somebody begins to read what was written in `range`: all that was written until now must be reported.
    pub fn harvest_begins(&mut self, space: usize, range: &Range<u64>) {
        let Some(space) = self.spaces.get_mut(space) else { return };
        space.owed = space.written.range(range.clone()).copied().collect();
        space.written.retain(|page| !range.contains(page));
    }

    /// What was written was read, and is clean: `reported` are starts and bytes. What was written meanwhile may have
    /// been reported now, or will be next time.
    pub fn harvest_ends(&mut self, space: usize, range: &Range<u64>, reported: &[(u64, u64)]) {
        let Some(state) = self.spaces.get_mut(space) else { return };
        let is_reported = |page: &u64| {
            reported.iter().any(|(start, bytes)| (*start..*start + *bytes).contains(page))
        };
        let owed = std::mem::take(&mut state.owed);
        state.written.retain(|page| !range.contains(page) || !is_reported(page));
        if let Some(page) = owed.iter().find(|page| !is_reported(page)) {
            let text = format!("what was written to {page:#x} of space {space} was not reported");
            self.accuse(Rule::R9, text);
        }
    }

    /// Somebody begins to unmap `range`, after [`Oracle::unmap_begins`], and to be told of all that was written there, and
    /// will be.
    pub fn taking_begins(&mut self, space: usize, range: &Range<u64>) {
        if let Some(space) = self.spaces.get_mut(space) {
            space.taking.push(range.clone());
        }
    }

    /// That unmap has returned, before [`Oracle::unmap_ends`]: `reported` are starts and bytes; `None` where it did
    /// nothing. Nothing is left that could tell of a write later.
    pub fn taking_ends(
        &mut self,
        space: usize,
        range: &Range<u64>,
        reported: Option<&[(u64, u64)]>,
    ) {
        let Some(state) = self.spaces.get_mut(space) else { return };
        if let Some(at) = state.taking.iter().position(|taken| taken == range) {
            state.taking.remove(at);
        }
        let Some(reported) = reported else { return };
        let is_reported = |page: &u64| {
            reported.iter().any(|(start, bytes)| (*start..*start + *bytes).contains(page))
        };
        let lost = state.written.range(range.clone()).find(|page| !is_reported(page)).copied();
        state.written.retain(|page| !range.contains(page));
        if let Some(page) = lost {
            let text =
                format!("what was written to {page:#x} of space {space} went with its mapping");
            self.accuse(Rule::R9, text);
        }
        let mapped = |start: u64, bytes: u64| {
            let end = start.checked_add(bytes)?;
            let inside = range.start <= start && end <= range.end;
            let pages = self.pages(space, start..end).count() as u64;
            (inside && bytes != 0 && pages * PAGE == bytes).then_some(())
        };
        if let Some((start, bytes)) = reported.iter().find(|(at, len)| mapped(*at, *len).is_none())
        {
            let text = format!("{bytes:#x} bytes at {start:#x} of space {space} were not mapped");
            self.accuse(Rule::R9, format!("reported as written: {text}"));
        }
    }

    fn is_taken(&self, space: usize, iova: u64) -> bool {
        let state = self.spaces.get(space);
        state.is_some_and(|state| state.taking.iter().any(|range| range.contains(&iova)))
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the driver says that happened, in numbers, against what its surroundings saw.

use std::fmt::Display;
use std::sync::PoisonError;

use smmuv3::{CommandStatistics, Domain, InstanceStatistics, Smmu};

use super::{Bench, Handle};
use crate::oracle::PAGE;
use crate::report::{Counted, CountedOf};
use crate::watch::Tally;

/// Turns in which an SMMU has done all that it was told.
const TURNS: u32 = 1000;

impl Bench {
    /// What the driver counted on each instance.
    pub fn statistics(&self) -> Vec<Counted> {
        let counted = |(index, smmu): (usize, &Smmu<_>)| {
            let InstanceStatistics { commands, events, .. } = smmu.statistics();
            Counted {
                instance: smmu.name().to_owned(),
                commands: commands.commands,
                batches: commands.batches,
                syncs: commands.syncs,
                waits: commands.waits,
                turns: commands.turns,
                full: commands.full,
                refused: commands.refused,
                events: events.events,
                gaps: events.gaps,
                counters: self.counts(index).into_iter().collect(),
            }
        };
        let smmus = self.smmus.iter().map(Handle::get).enumerate();
        smmus.filter_map(|(index, smmu)| Some(counted((index, &*smmu?)))).collect()
    }

    /// What the driver counted of each domain.
    pub fn domain_statistics(&self) -> Vec<CountedOf> {
        let counted = |(index, domain): (usize, &Domain<_>)| {
            let counts = domain.statistics().counted?;
            Some(CountedOf {
                domain: self.scenario.space(index).to_owned(),
                maps: counts.maps,
                mapped: counts.mapped,
                unmaps: counts.unmaps,
                unmapped: counts.unmapped,
                invalidations: counts.invalidations,
                unconfirmed: counts.unconfirmed,
                commands: counts.commands,
                syncs: counts.syncs,
                waits: counts.waits,
                faults: counts.faults,
            })
        };
        self.domains.iter().enumerate().filter_map(counted).collect()
    }

    /// The numbers of instances and domains, at the end of a run: nothing is attached any more.
    pub(super) fn check_statistics(&self) -> Result<(), String> {
        for (index, smmu) in self.smmus.iter().enumerate() {
            let Some(smmu) = smmu.get() else { continue };
            self.check_instance(index, &smmu.statistics())?;
        }
        for (index, domain) in self.domains.iter().enumerate() {
            let said = domain.statistics();
            let name = self.scenario.domains.get(index).map_or("?", |domain| &*domain.name);
            let check = |what, said, is| same(&format!("domain {name}"), what, said, is);
            check("masters", said.masters, 0)?;
            check("tags", said.tags, self.tags_of(index).len())?;
            let Some(counted) = said.counted else { continue };
            check("unconfirmed", counted.unconfirmed as usize, 0)?;
            // The oracle does not know what a guest's memory is mapped to.
            if self.scenario.domains.iter().any(|domain| domain.tables.guests) {
                continue;
            }
            let pages = self.oracle(|oracle| oracle.pages(index, 0..u64::MAX).count());
            let left = counted.mapped.wrapping_sub(counted.unmapped);
            check("bytes mapped and not unmapped", left as usize, pages * PAGE as usize)?;
        }
        self.check_shares()
    }

    /// What domains have counted of all that instances did.
    fn check_shares(&self) -> Result<(), String> {
        // What was given to one that was taken out is not known any more.
        let known = self.ids.lock().unwrap_or_else(PoisonError::into_inner).len();
        if known != self.smmus.len() {
            return Ok(());
        }
        let mut all = [0u64; 3];
        for smmu in &self.smmus {
            let Some(smmu) = smmu.get() else { continue };
            let InstanceStatistics { commands, events, .. } = smmu.statistics();
            let of_it = [commands.commands, commands.syncs, events.events];
            all.iter_mut().zip(of_it).for_each(|(sum, count)| *sum += count);
        }
        let domains = self.domain_statistics();
        let said = |of: fn(&CountedOf) -> u64| domains.iter().map(of).sum::<u64>();
        let shares = [
            ("commands", said(|it| it.commands)),
            ("CMD_SYNCs", said(|it| it.syncs)),
            ("faults", said(|it| it.faults)),
        ];
        for ((what, said), all) in shares.into_iter().zip(all) {
            if said > all {
                return Err(format!("domains counted {said} {what} of {all}"));
            }
        }
        Ok(())
    }

    fn check_instance(&self, index: usize, said: &InstanceStatistics) -> Result<(), String> {
        let check = |what, said, is| same(&format!("instance {index}"), what, said, is);
        let commands = said.commands;
        check("commands given", commands.commands, self.world.given(index))?;
        check("masters", said.masters as u64, {
            let of_it = |master: &usize| self.oracle(|oracle| oracle.streams(*master).0) == index;
            (0..self.masters.len()).filter(of_it).count() as u64
        })?;
        check("tags", said.tags as u64, 0)?;
        check("ASIDs in use", said.asids.used as u64, 0)?;
        check("VMIDs in use", said.vmids.used as u64, 0)?;
        let lent = self.oracle(|oracle| oracle.pasids().count());
        let running = self.processes.iter().filter(|slot| slot.is_running()).count();
        check("PASIDs in use", said.pasids.used as u64, (lent + running) as u64)?;
        check("PASIDs that masters use", said.attached_pasids as u64, 0)?;
        check("stalls that wait", said.stalls as u64, 0)?;
        check("page groups that wait", said.groups as u64, 0)?;
        // The answers to stalls are not waited for.
        let mut turns = 0;
        let tally = loop {
            self.look(|watch| watch.collect(&self.world));
            if !self.look(|watch| watch.models()) {
                return Ok(());
            }
            let tally = self.look(|watch| watch.tallies.get(index).copied()).unwrap_or_default();
            if turns == TURNS || tally.commands + tally.thrown >= commands.commands {
                break tally;
            }
            self.world.machine().wait();
            turns += 1;
        };
        // A command at which the queue stopped was consumed once it was accepted. One that is put in the place of another
        // is a CMD_SYNC.
        check("commands consumed", commands.commands, tally.commands + tally.thrown)?;
        let refused = refused(&commands, &tally);
        let least = commands.syncs + refused - tally.retried;
        if self.scenario.masters.iter().any(|master| master.ats.is_some()) {
            let injected = tally.illegal + tally.retried;
            if refused < injected {
                return Err(format!(
                    "instance {index} says {refused} refused, of {injected} and more"
                ));
            }
        } else {
            check("commands refused", refused, tally.illegal + tally.retried)?;
        }
        // Those before which a device did not answer are tried again.
        if !self.scenario.masters.iter().any(|master| master.ats.is_some()) {
            check("CMD_SYNCs", least, tally.syncs + tally.thrown_syncs)?;
        } else if commands.syncs > tally.syncs + tally.thrown_syncs {
            let (said, did) = (commands.syncs, tally.syncs);
            return Err(format!("instance {index} says {said} CMD_SYNCs, but did {did}"));
        }
        check("events", said.events.events, tally.reported)?;
        let unread = self.oracle(|oracle| oracle.unread(index)) as u64;
        check("events recorded", said.events.events + unread, tally.recorded)?;
        check("gaps", said.events.gaps, tally.gaps)?;
        check("page groups", said.pages.groups, tally.pages.groups)?;
        check("pages denied", said.pages.denied, tally.pages.denied)?;
        check("PASIDs that were stopped", said.pages.stops, tally.pages.stops)?;
        check("gaps of page requests", said.pages.gaps, tally.pages.gaps)?;
        if (said.events.gaps == 0) != (tally.lost == 0) {
            return Err(format!(
                "instance {index} says {} gaps, but lost {}",
                tally.gaps, tally.lost
            ));
        }
        Ok(())
    }
}

/// What an SMMU refused, as the driver counted it; or as it was seen to, where the driver does not count that.
pub(super) fn refused(said: &CommandStatistics, tally: &Tally) -> u64 {
    if cfg!(feature = "counts") { said.refused } else { tally.illegal + tally.retried }
}

fn same<T: PartialEq + Display>(whose: &str, what: &str, said: T, is: T) -> Result<(), String> {
    if said == is {
        return Ok(());
    }
    Err(format!("{whose}: {what}: the driver says {said}, but there are {is}"))
}

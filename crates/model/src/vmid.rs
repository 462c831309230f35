// SPDX-License-Identifier: MIT OR Apache-2.0
//! VMIDs that several streams have, which must agree then (§1, §8.1).

use smmuv3_formats::Ste;

use crate::context::Route;
use crate::memory::Memory;
use crate::model::Model;
use crate::observation::{Misuse, Observation};
use crate::stage_2::Stage2;
use crate::tlb::Stages;

impl<M: Memory> Model<M> {
    /// Reports what is cached under the VMID of an STE but belongs to another stage 2.
    pub(crate) fn check_vmid(
        &mut self,
        stream: u32,
        ste: &Ste,
        route: Route,
        second: Option<&Stage2>,
    ) {
        let vmid = match (route, second) {
            (_, Some(second)) => second.tag.vmid,
            (Route::Stage1(contexts), None) => contexts.vmid,
            _ => None,
        };
        let Some(vmid) = vmid else { return };
        let (mut disagrees, mut both) = (false, false);
        for (other, cached) in self.config.stes.leading() {
            let same = match (cached.route, &cached.second) {
                (_, Some(theirs)) => theirs.tag.vmid == Some(vmid),
                (Route::Stage1(contexts), None) => contexts.vmid == Some(vmid),
                _ => false,
            };
            if other == stream || !same {
                continue;
            }
            match (second, &cached.second) {
                (Some(_), Some(_)) => disagrees |= cacheable(&cached.ste) != cacheable(ste),
                // One that has stage 1, and one that has both.
                (mine, theirs) if mine.is_some() != theirs.is_some() => {
                    both |= is_stage_1(route) && is_stage_1(cached.route);
                }
                _ => {}
            }
        }
        if disagrees {
            self.misuse(Misuse::VmidDisagreement { vmid, stream });
        }
        if both {
            self.misuse(Misuse::VmidOfBoth { vmid, stream });
        }
        let Some(second) = second else { return };
        let ttb_new = second.tables.base;
        let own = |other: Option<u16>| other == Some(vmid);
        let leaves = self.tlb_entries().filter(|entry| own(entry.tag.vmid));
        let mut found: Vec<u64> = leaves
            .filter_map(|entry| match entry.stages {
                Stages::One => None,
                Stages::Two => Some(entry.ttb),
                Stages::Both => entry.second.map(|second| second.ttb),
            })
            .collect();
        let tables = self.ipa_walk_cache.iter().filter(|entry| own(entry.tag.vmid));
        found.extend(tables.map(|entry| entry.ttb));
        found.retain(|ttb| *ttb != ttb_new);
        found.sort_unstable();
        found.dedup();
        for ttb_old in found {
            self.observe(Observation::VmidConflict { vmid, ttb_old, ttb_new, stream });
        }
    }
}

const fn is_stage_1(route: Route) -> bool {
    matches!(route, Route::Stage1(_))
}

/// The words of stage 2 that the TLB may hold, without what it may not: S2S, S2R, and bits for the implementation
/// (§8.1).
const fn cacheable(ste: &Ste) -> [u64; 3] {
    const S2FWB: u64 = 1 << 25;
    const S2S_S2R: u64 = 0b11 << 57;
    const OTHERS: u64 = 0xffff << 16 | 0b11 << 62;
    [ste.0[1] & S2FWB, ste.0[2] & !(S2S_S2R | OTHERS), ste.0[3]]
}

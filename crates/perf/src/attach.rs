// SPDX-License-Identifier: MIT OR Apache-2.0
//! Attaching and detaching one master more, while few or many are attached: to domains of their own, or to the same.

use smmuv3::{Config, Domain, DomainConfig, InstanceConfig, Iommu, Master, MasterConfig, StreamId};

use crate::machine::{Host, Registers};
use crate::{Run, Workload};

/// Masters beyond those that stay attached: twice as many as rounds are counted.
const MORE: u32 = 400;

pub(crate) fn workloads() -> Vec<Workload> {
    let whole = |name, prepare| Workload { name, units: 1, rounds: u64::from(MORE) / 2, prepare };
    vec![
        whole("attach a master, 10 domains attached", || attach(10, false)),
        whole("attach a master, 1000 domains attached", || attach(1000, false)),
        whole("attach a master, 60000 domains attached", || attach(60_000, false)),
        whole("detach a master, 10 domains attached", || detach(10, false)),
        whole("detach a master, 1000 domains attached", || detach(1000, false)),
        whole("detach a master, 60000 domains attached", || detach(60_000, false)),
        whole("attach a master, 10 masters in its domain", || attach(10, true)),
        whole("attach a master, 1000 masters in its domain", || attach(1000, true)),
        whole("attach a master, 60000 masters in its domain", || attach(60_000, true)),
        whole("detach a master, 10 masters in its domain", || detach(10, true)),
        whole("detach a master, 1000 masters in its domain", || detach(1000, true)),
        whole("detach a master, 60000 masters in its domain", || detach(60_000, true)),
    ]
}

/// An SMMU with masters, and a domain for each, or one for all.
struct Machine {
    iommu: Iommu<Host>,
    masters: Vec<Master<Host>>,
    domains: Vec<Domain<Host>>,
}

impl Machine {
    /// With `count` masters attached, to one domain if they are `together`, and some more that are not attached.
    fn new(count: u32, together: bool) -> Self {
        let iommu = Iommu::new(Host::new(32 << 20), Config::default()).expect("there is memory");
        let mut config = InstanceConfig::named("smmu");
        config.sid_bits = 16;
        let smmu = iommu.probe(Registers::new(), config).expect("a usable SMMU");
        let smmu = smmu.enable().expect("an SMMU that answers");
        // Their first tables are small, which makes the set-up short.
        let shape = DomainConfig::default().with_input_bits(32);
        // Neither grows: what they would give back on the way would be where the driver's own is allocated later.
        let all = (MORE + count) as usize;
        let (mut masters, mut domains) = (Vec::with_capacity(all), Vec::with_capacity(all));
        // Those that are measured come first, so that what lies where does not depend on the others.
        for stream in 0..MORE + count {
            let streams = [StreamId(stream)];
            let master = iommu.add_master(&smmu, &streams, MasterConfig::default());
            masters.push(master.expect("a free stream"));
            if !together || domains.is_empty() {
                domains.push(iommu.create_domain(shape).expect("there is memory"));
            }
        }
        let machine = Self { iommu, masters, domains };
        // All of them, so that no list has to grow later.
        (0..machine.masters.len()).for_each(|index| machine.attach(index));
        (0..MORE as usize).for_each(|index| machine.detach(index));
        machine
    }

    #[inline(never)]
    fn attach(&self, index: usize) {
        let domain = self.domains.get(index).unwrap_or(&self.domains[0]);
        self.iommu.attach(&self.masters[index], domain).expect("it fits");
    }

    #[inline(never)]
    fn detach(&self, index: usize) {
        self.iommu.detach(&self.masters[index]).expect("an SMMU that answers");
    }
}

fn attach(count: u32, together: bool) -> Run {
    let machine = Machine::new(count, together);
    Box::new(move |rounds| (0..rounds as usize).for_each(|index| machine.attach(index)))
}

fn detach(count: u32, together: bool) -> Run {
    let machine = Machine::new(count, together);
    (0..MORE as usize).for_each(|index| machine.attach(index));
    Box::new(move |rounds| (0..rounds as usize).for_each(|index| machine.detach(index)))
}

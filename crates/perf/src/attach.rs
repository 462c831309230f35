// SPDX-License-Identifier: MIT OR Apache-2.0
//! Attaching and detaching one master more, while few or many are attached to domains of their own.

use smmuv3::{Config, Domain, DomainConfig, InstanceConfig, Iommu, Master, MasterConfig, StreamId};

use crate::machine::{Host, Registers};
use crate::{Run, Workload};

/// Masters beyond those that stay attached: twice as many as rounds are counted.
const MORE: u32 = 400;

pub(crate) fn workloads() -> Vec<Workload> {
    let whole = |name, prepare| Workload { name, units: 1, rounds: u64::from(MORE) / 2, prepare };
    vec![
        whole("attach a master, 10 domains attached", || attach(10)),
        whole("attach a master, 1000 domains attached", || attach(1000)),
        whole("attach a master, 60000 domains attached", || attach(60_000)),
        whole("detach a master, 10 domains attached", || detach(10)),
        whole("detach a master, 1000 domains attached", || detach(1000)),
        whole("detach a master, 60000 domains attached", || detach(60_000)),
    ]
}

/// An SMMU with masters, and a domain for each.
struct Machine {
    iommu: Iommu<Host>,
    pairs: Vec<(Master<Host>, Domain<Host>)>,
}

impl Machine {
    /// With `count` masters attached, and some more that are not.
    fn new(count: u32) -> Self {
        let iommu = Iommu::new(Host::new(32 << 20), Config::default()).expect("there is memory");
        let mut config = InstanceConfig::named("smmu");
        config.sid_bits = 16;
        let smmu = iommu.probe(Registers::new(), config).expect("a usable SMMU");
        let smmu = smmu.enable().expect("an SMMU that answers");
        // Their first tables are small, which makes the set-up short.
        let shape = DomainConfig::default().with_input_bits(32);
        let pair = |stream| {
            let streams = [StreamId(stream)];
            let master = iommu.add_master(&smmu, &streams, MasterConfig::default());
            (master.expect("a free stream"), iommu.create_domain(shape).expect("there is memory"))
        };
        // Those that are measured come first, so that what lies where does not depend on the others.
        let pairs = (0..MORE + count).map(pair).collect();
        let machine = Self { iommu, pairs };
        // All of them, so that no list has to grow later.
        (0..machine.pairs.len()).for_each(|index| machine.attach(index));
        (0..MORE as usize).for_each(|index| machine.detach(index));
        machine
    }

    #[inline(never)]
    fn attach(&self, index: usize) {
        let (master, domain) = &self.pairs[index];
        self.iommu.attach(master, domain).expect("it fits");
    }

    #[inline(never)]
    fn detach(&self, index: usize) {
        self.iommu.detach(&self.pairs[index].0).expect("an SMMU that answers");
    }
}

fn attach(count: u32) -> Run {
    let machine = Machine::new(count);
    Box::new(move |rounds| (0..rounds as usize).for_each(|index| machine.attach(index)))
}

fn detach(count: u32) -> Run {
    let machine = Machine::new(count);
    (0..MORE as usize).for_each(|index| machine.attach(index));
    Box::new(move |rounds| (0..rounds as usize).for_each(|index| machine.detach(index)))
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scenarios: which instances, masters, domains and memory there are, and what is done with them.
//!
//! A scenario is a TOML file (`docs/scenarios.md` describes every key). It is checked when it is
//! read: all mistakes are reported at once, each with file, line, column and what would be right.
//! What a machine can't do is asked with [`Scenario::check_for`] before the machine is started.
//!
//! ```
//! use smmuv3_testbench::scenario::{Capabilities, Scenario};
//!
//! let text = r#"
//!     name = "smallest"
//!     instance = [{ name = "smmu0", asid-bits = 8 }]
//!     master = [{ name = "nic", instance = "smmu0", streams = [0x900] }]
//!     domain = [{ name = "d" }]
//!     memory = [{ name = "rx", size = "16K" }]
//!     step = [
//!         { attach = { master = "nic", domain = "d" } },
//!         { map = { domain = "d", iova = 0x10000, memory = "rx" } },
//!         { write = { master = "nic", iova = 0x10000, data = "abcd" } },
//!         { expect-data = { memory = "rx", data = "abcd" } },
//!     ]
//! "#;
//! let scenario = Scenario::parse(text, "smallest.toml").unwrap();
//! scenario.check_for(&Capabilities::model()).unwrap();
//!
//! let errors = Scenario::parse(&text.replace("\"rx\" }", "\"xr\" }"), "smallest.toml").unwrap_err();
//! assert_eq!(
//!     errors.to_string(),
//!     "smallest.toml:9:58: unknown memory \"xr\"; memories are rx (did you mean \"rx\"?)"
//! );
//! ```

mod action;
mod answer;
mod attributes;
mod change;
mod check;
mod command_error;
mod contexts;
mod data;
mod domain;
mod error;
mod grant;
mod instance;
mod machine;
mod mapping;
mod master;
mod memory;
mod place;
mod process;
mod queues;
mod quirks;
mod random;
mod read;
mod reply;
mod source;
mod step;
mod substream;
mod write;

use smmuv3::Privilege;

pub use action::{Action, Step, Target};
pub use answer::{Answer, Refusal};
pub use change::Change;
pub use command_error::CommandError;
pub use contexts::{ContextLayout, WithoutPasid};
pub use domain::{Domain, Tables, Walks};
pub use error::{Position, ScenarioError, ScenarioErrors};
pub use grant::Grant;
pub use instance::{Granules, Instance, StreamTableKind};
pub use machine::{Capabilities, StreamSet, Streams, Support};
pub use mapping::{Access, MemoryKind, Rights};
pub use master::{Device, Master};
pub use memory::Memory;
pub use place::Places;
pub use process::Process;
pub use queues::{Interrupts, Queues};
pub use quirks::{Part, Quirks};
pub use random::{Random, Weights};
pub use reply::Reply;
pub use smmuv3::{AsidPolicy, Overrides};
pub use substream::Substream;

/// The page that everything in a scenario is measured in, bytes: domains have the 4 KiB granule.
pub const PAGE: u64 = 4096;

/// A scenario that was read and found to make sense. Indices (`instance`, `master`, `domain`, `process`,
/// `memory`) are those of the vectors here and always valid. A *space* is an address space: the domains come
/// first, the processes after them.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The file it came from, for messages.
    pub file: String,
    /// Its name.
    pub name: String,
    /// What it shows, in a sentence or two; may be empty.
    pub description: String,
    /// Where everything random starts.
    pub seed: u64,
    /// How the driver gives out ASIDs.
    pub asid_policy: AsidPolicy,
    /// The first and the last VMID that the driver may use as banks, where the scenario says.
    pub banks: Option<(u16, u16)>,
    /// Bits of an ASID of the CPUs, 8 or 16.
    pub cpu_asid_bits: u32,
    /// The host's kernel runs in EL2 with E2H, and streams of stage 1 with it, where an instance has [`Instance::hyp`].
    pub el2_host: bool,
    /// PASIDs that it has to itself; steps call them 1, 2, ... up to this number.
    pub pasids: u32,
    /// The SMMUs, at least one.
    pub instances: Vec<Instance>,
    /// The devices.
    pub masters: Vec<Master>,
    /// The address spaces.
    pub domains: Vec<Domain>,
    /// The address spaces of the CPU.
    pub processes: Vec<Process>,
    /// The buffers.
    pub memories: Vec<Memory>,
    /// What is done, in order.
    pub steps: Vec<Step>,
}

impl Scenario {
    /// The name of an address space.
    pub fn space(&self, space: usize) -> &str {
        let process = |process: usize| self.processes.get(process).map_or("?", |it| &*it.name);
        match self.domains.get(space) {
            Some(domain) => &domain.name,
            None => process(space - self.domains.len()),
        }
    }

    /// The masters that firmware left working, each with the physical addresses that it reaches: in this order, their
    /// spaces come after the others.
    pub fn kept(&self) -> impl Iterator<Item = (usize, std::ops::Range<u64>)> {
        self.masters.iter().enumerate().filter_map(|(index, master)| {
            let memory = self.memories.get(master.keep?)?;
            let at = memory.at?;
            Some((index, at..at + memory.size))
        })
    }

    /// How many address spaces there are.
    pub fn spaces(&self) -> usize {
        self.domains.len() + self.processes.len()
    }

    /// Bits of the addresses of an address space.
    pub fn input_bits(&self, space: usize) -> u32 {
        let domains = self.domains.iter().map(|domain| domain.input_bits);
        let all = domains.chain(self.processes.iter().map(|process| process.input_bits));
        all.into_iter().nth(space).unwrap_or(48)
    }

    /// Bits of the PASIDs that a master can use: what it asks for, within what its instance has. Where there are
    /// linear context tables only, the driver makes none of more than 2^10 contexts.
    pub fn pasid_bits(&self, master: usize) -> u32 {
        const LINEAR: u32 = 10;
        let Some(master) = self.masters.get(master) else { return 0 };
        let Some(instance) = self.instances.get(master.instance) else { return 0 };
        let bits = master.pasid_bits.min(instance.ssid_bits);
        if instance.two_level_contexts { bits } else { bits.min(LINEAR) }
    }

    /// Whether all accesses of a master are privileged.
    pub fn is_privileged(&self, master: usize) -> bool {
        let overrides = self.masters.get(master).map(|master| master.overrides);
        overrides.is_some_and(|it| it.privilege == Some(Privilege::Privileged))
    }

    /// Whether faults of a master stall.
    pub fn stalls(&self, master: usize) -> bool {
        let Some(master) = self.masters.get(master) else { return false };
        let Some(instance) = self.instances.get(master.instance) else { return false };
        instance.stalls > 0 && (master.stalls || instance.forced_stalls)
    }

    /// Whether the instance of a master can be asked where its accesses would go.
    pub fn answers(&self, master: usize) -> bool {
        let instance = self.masters.get(master).and_then(|it| self.instances.get(it.instance));
        instance.is_some_and(|it| it.atos)
    }

    /// Whether streams of stage 1 behind an instance are in EL2 with E2H.
    pub fn in_el2(&self, instance: usize) -> bool {
        self.el2_host && self.instances.get(instance).is_some_and(|it| it.hyp)
    }

    /// Whether an attach may be refused because a live ASID is too wide for the instance.
    pub(crate) fn refuses_width(&self) -> bool {
        matches!(self.asid_policy, AsidPolicy::Shared8OnMove | AsidPolicy::SharedMinRefuse)
    }

    /// Whether an attach is never refused for a good reason: there are neither ASIDs to be shared nor PASIDs, and each
    /// instance can walk the tables of each domain.
    pub fn never_refuses(&self) -> bool {
        let fits = |domain: usize| {
            (0..self.instances.len()).all(|instance| !self.is_misfit(domain, instance))
        };
        !self.refuses_width()
            && self.pasids == 0
            && self.processes.is_empty()
            && (0..self.domains.len()).all(fits)
    }

    /// Reads and checks a scenario. `file` is what messages call it.
    ///
    /// # Errors
    /// Everything that is wrong with it, by line.
    pub fn parse(text: &str, file: &str) -> Result<Self, ScenarioErrors> {
        read::scenario(text, file)
    }

    /// The file that it would be read from: what has its default is left out.
    pub fn to_toml(&self) -> String {
        write::scenario(self)
    }

    /// Checks that a machine can run it.
    ///
    /// # Errors
    /// Everything that the machine can't do, by line.
    pub fn check_for(&self, capabilities: &Capabilities) -> Result<(), ScenarioErrors> {
        machine::check(self, capabilities)
    }
}

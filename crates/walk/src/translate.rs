// SPDX-License-Identifier: MIT OR Apache-2.0
//! The way of an access through the SMMU (§9).

use smmuv3_formats::event::class;
use smmuv3_formats::legality::{self, Rule};
use smmuv3_formats::permission::Permissions;
use smmuv3_formats::ste::config;
use smmuv3_formats::{EventId, EventRecord, Ste};

use crate::access::Access;
use crate::attributes::{self, Attributes, Shareability};
use crate::context_table::selected;
use crate::memory::{Gap, Memory};
use crate::outcome::{Ending, Fault, Outcome, Step, Translation, Walk, What};
use crate::permissions::ALL;
use crate::smmu::{Smmu, low};
use crate::stage::Use;
use crate::tables::{Context, Contexts, Stage2, World};

/// Follows `access` through the tables in `memory`, from the StreamID on. SMMUEN is taken to be 1.
pub fn walk<M: Memory>(memory: &M, smmu: &Smmu, access: Access) -> Walk {
    let mut walker = Walker::new(memory, smmu, access);
    let outcome = match walker.run() {
        Ok(translation) => Outcome::Translated(translation),
        Err(stop) => walker.outcome(stop),
    };
    Walk { access, steps: walker.steps, outcome }
}

/// Why a walk stops.
#[derive(Clone, Debug)]
pub(crate) enum Stop {
    /// An event.
    Cause(Cause),
    /// STE.Config = 0xx.
    Abort,
    /// The image does not hold this address, of which this would be said if nothing answered there.
    Missing(u64, What, Cause),
    Unsupported(&'static str),
}

impl From<Cause> for Stop {
    fn from(cause: Cause) -> Self {
        Self::Cause(cause)
    }
}

/// What an event record is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cause {
    pub(crate) id: EventId,
    pub(crate) why: &'static str,
    pub(crate) s2: bool,
    pub(crate) class: u64,
    pub(crate) ipa: Option<u64>,
    /// Address of what could not be read.
    pub(crate) fetch: Option<u64>,
    /// Whether the table was read, rather than written.
    pub(crate) ttrnw: bool,
    pub(crate) rule: Option<Rule>,
}

impl Cause {
    /// Of stage 1, about the input address.
    pub(crate) const fn new(id: EventId, why: &'static str) -> Self {
        Self {
            id,
            why,
            s2: false,
            class: class::INPUT,
            ipa: None,
            fetch: None,
            ttrnw: true,
            rule: None,
        }
    }
}

/// What a configuration does with its faults (§5.4).
#[derive(Clone, Copy, Debug)]
struct Treatment {
    abort: bool,
    record: bool,
    stall: bool,
}

/// One walk under way.
pub(crate) struct Walker<'a, M> {
    pub(crate) memory: &'a M,
    pub(crate) smmu: &'a Smmu,
    /// After the overrides of the STE.
    pub(crate) access: Access,
    pub(crate) steps: Vec<Step>,
    pub(crate) updates: Vec<String>,
    depth: usize,
    /// Of faults of stage 1; without CD they abort and are recorded.
    first: Treatment,
    second: Treatment,
}

impl<'a, M: Memory> Walker<'a, M> {
    pub(crate) fn new(memory: &'a M, smmu: &'a Smmu, access: Access) -> Self {
        let treatment = Treatment { abort: true, record: true, stall: false };
        let (first, second) = (treatment, treatment);
        let (steps, updates) = (Vec::new(), Vec::new());
        Self { memory, smmu, access, steps, updates, depth: 0, first, second }
    }

    fn run(&mut self) -> Result<Translation, Stop> {
        let ste = self.ste()?;
        if let Err(rule) = legality::ste(&ste, &self.smmu.implementation) {
            let why = if ste.v() { "the STE is illegal" } else { "the STE is invalid (V = 0)" };
            return Err(Cause { rule: Some(rule), ..Cause::new(EventId::CBadSte, why) }.into());
        }
        if ste.config() & 0b100 == 0 {
            return Err(Stop::Abort);
        }
        self.depth += 1;
        self.vms(&ste)?;
        self.access = overridden(self.access, &ste, self.smmu);
        let stage_1 = ste.config() & 0b001 != 0;
        let contexts = Contexts::of(&ste, self.smmu);
        let context = if stage_1 {
            selected(self.access.substream, &contexts).map_err(|(id, why)| Cause::new(id, why))?
        } else if self.access.substream.is_some() {
            let why = "stage 1, which substreams need, is off";
            return Err(Cause::new(EventId::CBadSubstreamId, why).into());
        } else {
            None
        };
        let second = match ste.config() {
            config::STAGE_2 | config::NESTED => {
                let stage = Stage2::of(&ste, self.smmu).map_err(Stop::Unsupported)?;
                self.second = Treatment { abort: true, record: stage.record, stall: stage.stall };
                Some(stage)
            }
            _ => None,
        };
        let incoming = incoming(&ste, self.smmu);
        match (context, second) {
            (None, None) => self.bypass(incoming),
            (None, Some(second)) => {
                let address = self.access.address;
                if self.smmu.beyond_intermediate(address) {
                    let why = "the address is beyond the intermediate address size";
                    return Err(Cause::new(EventId::FAddrSize, why).into());
                }
                let found =
                    self.stage_2(&second, address, Use { class: class::INPUT, incoming })?;
                Ok(self.translated(
                    found.address,
                    found.bytes_log2,
                    found.permissions,
                    found.attributes,
                ))
            }
            (Some(index), second) => self.translate(&ste, index, &contexts, second.as_ref()),
        }
    }

    /// Neither stage translates.
    fn bypass(&mut self, incoming: Attributes) -> Result<Translation, Stop> {
        let address = self.access.address;
        if self.smmu.beyond_output(address) {
            let why = "the address, which is not translated, is beyond the output size";
            return Err(Cause::new(EventId::FAddrSize, why).into());
        }
        let bits = self.smmu.implementation.output_bits();
        Ok(self.translated(address, bits, ALL, incoming))
    }

    /// Stage 1, and stage 2 where it is on.
    fn translate(
        &mut self,
        ste: &Ste,
        index: u32,
        contexts: &Contexts,
        second: Option<&Stage2>,
    ) -> Result<Translation, Stop> {
        let cd = self.cd(index, contexts, second)?;
        if let Err(rule) = legality::cd(&cd, ste, &self.smmu.implementation) {
            let why = if cd.v() { "the CD is illegal" } else { "the CD is invalid (V = 0)" };
            return Err(Cause { rule: Some(rule), ..Cause::new(EventId::CBadCd, why) }.into());
        }
        self.depth += 1;
        let context = Context::of(&cd, ste, self.smmu).map_err(Stop::Unsupported)?;
        self.first =
            Treatment { abort: context.abort, record: context.record, stall: context.stall };
        let half = context.half(self.access.address);
        let none = |why| Stop::from(Cause::new(EventId::FTranslation, why));
        let address = self.access.address;
        if half.disabled {
            return Err(none("walks of this half of the addresses are disabled (EPD)"));
        }
        if half.e0pd && !self.access.privileged {
            return Err(none("unprivileged accesses to this half fault (E0PD)"));
        }
        let va = in_range(address, half.tbi, half.stage.tables.input_bits, context.world)
            .ok_or(none("the address is outside the range that the CD configures (TxSZ)"))?;
        let found = self.stage_1(&half.stage, va, second)?;
        let Some(second) = second else {
            return Ok(self.translated(
                found.address,
                found.bytes_log2,
                found.permissions,
                found.attributes,
            ));
        };
        self.depth += 1;
        let r#use = Use { class: class::INPUT, incoming: found.attributes };
        let output = self.stage_2(second, found.address, r#use)?;
        let permissions = found.permissions.and(output.permissions);
        let bytes_log2 = found.bytes_log2.min(output.bytes_log2);
        Ok(self.translated(output.address, bytes_log2, permissions, output.attributes))
    }

    fn translated(
        &mut self,
        address: u64,
        bytes_log2: u32,
        permissions: Permissions,
        attributes: Attributes,
    ) -> Translation {
        let updates = std::mem::take(&mut self.updates);
        let attributes = attributes.output();
        Translation { address, bytes_log2, permissions, attributes, updates }
    }

    /// Reads the virtual machine structure where partitions are translated (§6).
    fn vms(&mut self, ste: &Ste) -> Result<(), Stop> {
        let used =
            ste.config() == config::NESTED && ste.s1_mpam() && self.smmu.implementation.idr3.mpam();
        if used {
            let address = ste.vms_ptr();
            let step = self.step(What::Vms, None, 0, None, Some(address));
            let why = "the virtual machine structure cannot be read";
            let cause = Cause { fetch: Some(address), ..Cause::new(EventId::FVmsFetch, why) };
            let [_] = self.fetch(step, address, cause)?;
            self.mean(step, "partition IDs of the virtual machine".to_owned());
        }
        Ok(())
    }

    /// Adds a step that is about to be read.
    pub(crate) fn step(
        &mut self,
        what: What,
        level: Option<i8>,
        index: u64,
        ipa: Option<u64>,
        address: Option<u64>,
    ) -> usize {
        let meaning = if ipa.is_some() { "stage 2 does not lead there" } else { "" }.to_owned();
        let (depth, words) = (self.depth, Vec::new());
        self.steps.push(Step { what, depth, level, index, ipa, address, words, meaning });
        self.steps.len() - 1
    }

    /// Runs what is done on behalf of the latest step.
    pub(crate) fn below<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        self.depth += 1;
        let result = work(self);
        self.depth -= 1;
        result
    }

    pub(crate) fn locate(&mut self, step: usize, address: u64) {
        if let Some(step) = self.steps.get_mut(step) {
            step.address = Some(address);
        }
    }

    pub(crate) fn mean(&mut self, step: usize, meaning: String) {
        if let Some(step) = self.steps.get_mut(step) {
            step.meaning = meaning;
        }
    }

    /// Reads the words of `step`; `cause` is what hardware says if nothing answers.
    pub(crate) fn fetch<const N: usize>(
        &mut self,
        step: usize,
        address: u64,
        cause: Cause,
    ) -> Result<[u64; N], Stop> {
        let mut words = [0; N];
        let what = self.steps.get(step).map_or(What::Ste, |step| step.what);
        match self.memory.read_words(address, &mut words) {
            Ok(()) => {}
            Err((_, Gap::Abort)) => {
                self.mean(step, "nothing answers at this address".to_owned());
                return Err(cause.into());
            }
            Err((at, Gap::Missing)) => {
                self.mean(step, "not in the image".to_owned());
                return Err(Stop::Missing(at, what, cause));
            }
        }
        if let Some(step) = self.steps.get_mut(step) {
            step.words = words.to_vec();
        }
        Ok(words)
    }

    /// What a stop means for the device and the event queue.
    fn outcome(&self, stop: Stop) -> Outcome {
        match stop {
            Stop::Abort => Outcome::Silent {
                why: "the STE aborts every access without event (Config = 0)".to_owned(),
            },
            Stop::Unsupported(what) => Outcome::Unsupported { what },
            Stop::Missing(address, what, cause) => {
                Outcome::Missing { address, what, event: self.event(&cause, false) }
            }
            Stop::Cause(cause) => self.judged(&cause),
        }
    }

    fn judged(&self, cause: &Cause) -> Outcome {
        let Treatment { abort, record, stall } = match cause.id {
            EventId::CBadStreamId => {
                Treatment { abort: true, record: self.smmu.recinvsid, stall: false }
            }
            id if !id.is_translation_fault() => {
                Treatment { abort: true, record: true, stall: false }
            }
            _ if cause.s2 => self.second,
            _ => self.first,
        };
        let ending = match (stall, abort) {
            (true, _) => Ending::Stall,
            (false, true) => Ending::Abort,
            (false, false) => Ending::Ignored,
        };
        let (id, rule, why) = (cause.id, cause.rule, cause.why);
        let recorded = record || stall;
        Outcome::Fault(Fault { id, event: self.event(cause, stall), recorded, ending, rule, why })
    }

    /// The record with the fields that its kind has (§10.2).
    fn event(&self, cause: &Cause, stall: bool) -> EventRecord {
        const FETCH_ADDR: u64 = ((1 << 56) - 1) & !0b111;
        const IPA: u64 = ((1 << 56) - 1) & !0xfff;
        let access = &self.access;
        let substream = u64::from(access.substream.unwrap_or(0)) & 0xf_ffff;
        let mut event =
            EventRecord::default().with_id(cause.id as u64).with_sid(access.stream.into());
        match cause.id {
            EventId::CBadSubstreamId => event = event.with_ssid(substream),
            EventId::FStreamDisabled => {}
            _ if access.substream.is_some() => event = event.with_ssv(true).with_ssid(substream),
            _ => {}
        }
        let fault = cause.id.is_translation_fault();
        if fault || cause.id == EventId::FWalkEabt {
            event = event
                .with_rnw(!access.write)
                .with_ind(access.instruction && !access.write)
                .with_pnu(access.privileged)
                .with_s2(cause.s2)
                .with_class(cause.class)
                .with_input_addr(access.address);
        }
        if fault {
            event = event.with_stall(stall);
            if let (true, Some(ipa)) = (cause.s2, cause.ipa) {
                event = event.with_fetch_addr(ipa & IPA);
            }
        }
        if cause.id == EventId::FPermission && cause.class == class::TABLE {
            event = event.with_ttrnw(cause.ttrnw);
        }
        if let Some(fetch) = cause.fetch {
            event = event.with_fetch_addr(fetch & FETCH_ADDR);
        }
        event
    }
}

/// The bits of `address` that the tables translate, where the others are as they must be (§9, step 9).
fn in_range(address: u64, tbi: bool, input_bits: u32, world: World) -> Option<u64> {
    let top = if tbi { 56 } else { 64 };
    let above = (address & low(top)) >> input_bits;
    let ones = low(top - input_bits);
    let upper = world != World::El2 && address >> 55 & 1 == 1;
    let right = if upper { above == ones } else { above == 0 };
    right.then_some(address & low(input_bits))
}

/// The access after the STE's overrides (§5.2, §16.4).
pub(crate) fn overridden(mut access: Access, ste: &Ste, smmu: &Smmu) -> Access {
    if smmu.implementation.idr1.attr_perms_ovr() {
        match ste.priv_cfg() {
            2 => access.privileged = false,
            3 => access.privileged = true,
            _ => {}
        }
        match ste.inst_cfg() {
            2 => access.instruction = false,
            3 => access.instruction = true,
            _ => {}
        }
    }
    access.instruction &= !access.write;
    access
}

/// What stage 2, or memory, sees of an access without stage 1 whose device says nothing (§16.4).
pub(crate) fn incoming(ste: &Ste, smmu: &Smmu) -> Attributes {
    let mut incoming = Attributes::INCOMING;
    if smmu.implementation.idr1.attr_types_ovr() {
        if ste.mt_cfg() {
            incoming.memory = attributes::override_type(ste.mem_attr());
        }
        if ste.sh_cfg() != 1 {
            incoming.shareability = Shareability::from_code(ste.sh_cfg());
        }
    }
    incoming
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_halves_end_where_their_size_says() {
        let el1 = |address| in_range(address, false, 48, World::El1);
        assert_eq!(el1(0x0000_ffff_ffff_ffff), Some(0xffff_ffff_ffff));
        assert_eq!(el1(0x0001_0000_0000_0000), None);
        assert_eq!(el1(0xffff_0000_0000_0000), Some(0));
        assert_eq!(el1(0xfffe_ffff_ffff_ffff), None);
        assert_eq!(in_range(0xab00_0000_0000_1000, true, 48, World::El1), Some(0x1000));
        assert_eq!(in_range(0xabff_8000_0000_1000, true, 39, World::El1), None);
        assert_eq!(in_range(0xabff_ff80_0000_1000, true, 39, World::El1), Some(0x1000));
        // EL2 has no upper half.
        assert_eq!(in_range(0xffff_0000_0000_0000, false, 48, World::El2), None);
    }
}

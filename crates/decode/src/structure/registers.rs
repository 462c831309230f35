// SPDX-License-Identifier: MIT OR Apache-2.0
//! Registers that say more together, or that report errors.

use smmuv3_formats::legality;
use smmuv3_formats::register::cerror;
use smmuv3_formats::structure::{self, Structure};

use super::decode::{DecodeError, by_name, plain};
use super::decoded::{Decoded, Described, Fields, Problem, Value};
use super::instance::{Instance, InstanceError};
use super::words;

/// The ID registers in the order of register page 0, as [`Instance::of_words`] takes them.
pub(super) const IDS: [&str; 8] = ["IDR0", "IDR1", "IDR2", "IDR3", "IDR4", "IDR5", "IIDR", "AIDR"];

/// The ID registers of an instance, 1 to 8, or 10 in iommufd's form.
pub(super) fn idr(words: &[u64]) -> Result<Decoded, DecodeError> {
    const NEED: &str = "give IDR0 to IDR5 in their order, then IIDR and AIDR if they are known, or iommufd's \
                        hw_info (10 words)";
    let values: Vec<u32> = words.iter().filter_map(|word| u32::try_from(*word).ok()).collect();
    let wrong = || DecodeError::Registers { given: words.len(), need: NEED };
    let instance = Instance::of_words(&values).map_err(|error| match error {
        InstanceError::Words(error) => error.into(),
        _ => wrong(),
    })?;
    if values.is_empty() || values.len() != words.len() {
        return Err(wrong());
    }
    Ok(known(&instance))
}

/// ID registers with their names beside them, in any order and as many as there are: `IDR0: 0x... IDR5: 0x...`.
/// Or an instance with a name. `None` where `text` names none.
pub(super) fn named(text: &str) -> Option<Result<Decoded, DecodeError>> {
    if !Instance::is_named(text) && Instance::preset(text).is_none() {
        return None;
    }
    Some(match Instance::parse(text) {
        Ok(instance) => Ok(known(&instance)),
        Err(error) => Err(error.into()),
    })
}

/// The ID registers that are known of `instance`.
fn known(instance: &Instance) -> Decoded {
    let [first @ .., idr6] = instance.idr;
    let values = first.into_iter().chain([instance.iidr, instance.aidr, idr6]);
    let known = IDS.iter().chain(&["IDR6"]).zip(values);
    let known = known.filter_map(|(name, value)| Some((structure::find(name)?, u64::from(value?))));
    let mut words: Vec<u64> = Vec::new();
    let mut described: Vec<Described> = Vec::new();
    let mut violations = Vec::new();
    for (index, (register, word)) in known.enumerate() {
        let one = plain(register, &[word]);
        words.push(word);
        described.extend(one.described.into_iter().map(|field| Described {
            structure: Some(register.name),
            word: index,
            ..field
        }));
        violations.extend(one.violations.iter().map(|text| text.replace("word 0", register.name)));
    }
    legality::registers(&instance.registers(), &mut |rule| violations.push(rule.to_string()));
    Decoded {
        kind: "idr".to_owned(),
        name: "ID registers".to_owned(),
        section: "2.3".to_owned(),
        summary: None,
        words,
        word_bits: 32,
        by_name: by_name(&described),
        described,
        violations,
        illegal: None,
        problems: Vec::new(),
        assumed: Vec::new(),
        record: None,
    }
}

/// GERROR and GERRORN with their names beside them, in either order; `None` where both are not named.
pub(super) fn named_gerror(text: &str) -> Option<[&str; 2]> {
    let [mut given, mut acknowledged] = [None; 2];
    for (name, value) in words::labelled(text)? {
        let name = name.to_ascii_lowercase();
        let slot = match name.strip_prefix("smmu_").unwrap_or(&name) {
            "gerror" => &mut given,
            "gerrorn" => &mut acknowledged,
            _ => return None,
        };
        if slot.replace(value).is_some() {
            return None;
        }
    }
    Some([given?, acknowledged?])
}

/// What each global error is, and what to do (§2.4, §3).
const ERRORS: &[(&str, &str, &str)] = &[
    (
        "CMDQ_ERR",
        "the command queue stopped at a command",
        "decode CMDQ_CONS with smmuv3 decode cmdq-cons: it names the error and the command",
    ),
    (
        "EVENTQ_ABT_ERR",
        "a write to the event queue was aborted, events may be lost",
        "check EVENTQ_BASE: address, size, and whether the SMMU may write there",
    ),
    (
        "PRIQ_ABT_ERR",
        "a write to the PRI queue was aborted, page requests are answered with failure",
        "check PRIQ_BASE: address, size, and whether the SMMU may write there",
    ),
    (
        "MSI_CMDQ_ABT_ERR",
        "the MSI of a CMD_SYNC was aborted: whoever waits for it does not wake",
        "check MSIAddr of CMD_SYNC; poll CMDQ_CONS meanwhile",
    ),
    (
        "MSI_EVENTQ_ABT_ERR",
        "the MSI of the event queue was aborted",
        "check EVENTQ_IRQ_CFG0 and the MSI controller; read the queue without an interrupt",
    ),
    (
        "MSI_PRIQ_ABT_ERR",
        "the MSI of the PRI queue was aborted",
        "check PRIQ_IRQ_CFG0 and the MSI controller; read the queue without an interrupt",
    ),
    (
        "MSI_GERROR_ABT_ERR",
        "the MSI of GERROR was aborted; this one raises no interrupt",
        "check GERROR_IRQ_CFG0 and the MSI controller",
    ),
    (
        "SFM_ERR",
        "the SMMU is in service failure mode: it translates nothing any more",
        "reset the SMMU; acknowledging the error does not end the mode",
    ),
    (
        "CMDQP_ERR",
        "an enhanced command queue stopped",
        "read ECMDQ_CONS of each queue: ERR differs from ERRACK in the one that stopped",
    ),
    (
        "DPT_ERR",
        "the device permission table could not be read, or is wrong",
        "read DPT_CFG_FAR: it has the address and the reason",
    ),
];

/// GERROR alone, or GERROR and GERRORN: an error is active while its bits differ (§2.4).
pub(super) fn gerror(words: &[u64]) -> Result<Decoded, DecodeError> {
    const NEED: &str = "give GERROR, and GERRORN after it if it is known";
    let (given, acknowledged) = match words {
        [given] => (*given, None),
        [given, acknowledged] => (*given, Some(*acknowledged)),
        _ => return Err(DecodeError::Registers { given: words.len(), need: NEED }),
    };
    let Some(register) = structure::find("GERROR") else {
        return Err(DecodeError::Registers { given: words.len(), need: NEED });
    };
    let active = given ^ acknowledged.unwrap_or(0);
    let mut decoded = plain(register, &[given]);
    decoded.kind = "gerror".to_owned();
    for field in &mut decoded.described {
        let differs = active >> field.lo & 1 == 1;
        let meaning = match (differs, acknowledged) {
            (true, _) => "active",
            (false, None) => "not active",
            (false, Some(_)) => "not active: acknowledged, or it never was",
        };
        field.meaning = Some(meaning.to_owned());
    }
    if let (Some(word), Some(structure)) = (acknowledged, structure::find("GERRORN")) {
        decoded.words.push(word);
        let wrong = plain(structure, &[word]).violations;
        decoded.violations.extend(wrong.iter().map(|text| text.replace("word 0", "GERRORN")));
    }
    decoded.problems = active_errors(register, active);
    if acknowledged.is_none() {
        let text = "GERRORN was taken to be 0: an error is active while its bits in GERROR and GERRORN differ";
        decoded.assumed.push(text.to_owned());
    }
    let count = decoded.problems.len();
    decoded.summary = Some(match count {
        0 => "no error is active".to_owned(),
        1 => "one error is active".to_owned(),
        _ => format!("{count} errors are active"),
    });
    Ok(decoded)
}

fn active_errors(register: &Structure, active: u64) -> Vec<Problem> {
    let set = register.fields.iter().filter(|field| active & field.mask() != 0);
    let problem = |name: &str| {
        let (_, text, advice) = ERRORS.iter().find(|(error, ..)| *error == name)?;
        Some(Problem {
            name: name.to_owned(),
            text: (*text).to_owned(),
            advice: (*advice).to_owned(),
        })
    };
    set.filter_map(|field| problem(field.name)).collect()
}

/// CMDQ_CONS: how far commands were consumed, and why no further (§3.2).
pub(super) fn cmdq_cons(word: u64) -> Decoded {
    let Some(register) = structure::find("CMDQ_CONS") else { return unknown("cmdq-cons", word) };
    let mut decoded = plain(register, &[word]);
    decoded.kind = "cmdq-cons".to_owned();
    let value = |name: &str| decoded.value(name).map_or(0, Value::number);
    let (code, index) = (value("ERR"), value("RD"));
    let at = format!("index {index:#x} (wrap bit included)");
    let problem = |name: &str, text: String, advice: &str| Problem {
        name: name.to_owned(),
        text,
        advice: advice.to_owned(),
    };
    let found = match code {
        cerror::NONE => None,
        cerror::ILL => Some(problem(
            "CERROR_ILL",
            format!(
                "the command at {at} is illegal: an opcode or operand that this SMMU does not know, or a \
                 reserved bit"
            ),
            "dump the command there and give it to smmuv3 decode cmd --idr ...; put a CMD_SYNC in its place, \
             then acknowledge CMDQ_ERR in GERRORN",
        )),
        cerror::ABT => Some(problem(
            "CERROR_ABT",
            format!("reading the command at {at} was aborted"),
            "check CMDQ_BASE and that the SMMU can read the queue's memory; then acknowledge CMDQ_ERR in \
             GERRORN, and the command is read again",
        )),
        cerror::ATC_INV_SYNC => Some(problem(
            "CERROR_ATC_INV_SYNC",
            format!(
                "the CMD_SYNC at {at} found that a device did not answer a CMD_ATC_INV in time"
            ),
            "every CMD_ATC_INV since the last CMD_SYNC that completed may have failed: look for a device that \
             hangs, was reset or removed, and turn its ATS off; then acknowledge CMDQ_ERR in GERRORN, and the \
             CMD_SYNC runs again",
        )),
        other => Some(problem(
            "reserved",
            format!("error code {other:#x} is reserved; the command is at {at}"),
            "check that the value is CMDQ_CONS, and that reads of it are not all ones",
        )),
    };
    decoded.summary = Some(match &found {
        None => format!("no error; commands before {at} were consumed"),
        Some(problem) => problem.text.clone(),
    });
    let name = found.as_ref().map_or("CERROR_NONE", |problem| problem.name.as_str()).to_owned();
    for field in &mut decoded.described {
        match field.name.as_str() {
            "ERR" => field.meaning = Some(name.clone()),
            "RD" => field.meaning = Some(format!("{index:#x}: the next command to consume")),
            _ => {}
        }
    }
    decoded.problems = found.into_iter().collect();
    let text = "ERR means something only while CMDQ_ERR is active in GERROR";
    decoded.assumed.push(text.to_owned());
    decoded
}

/// A record without fields.
pub(super) fn unknown(kind: &str, word: u64) -> Decoded {
    Decoded {
        kind: kind.to_owned(),
        name: kind.to_owned(),
        section: String::new(),
        summary: None,
        words: vec![word],
        word_bits: 32,
        by_name: Fields::default(),
        described: Vec::new(),
        violations: Vec::new(),
        illegal: None,
        problems: Vec::new(),
        assumed: Vec::new(),
        record: None,
    }
}

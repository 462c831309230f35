// SPDX-License-Identifier: MIT OR Apache-2.0
//! Translation table descriptors, read as their place asks for (§15).

use smmuv3_formats::descriptor::{Form, Meaning, Stage};
use smmuv3_formats::granule::Granule;
use smmuv3_formats::memory_type;
use smmuv3_formats::permission::{self, Limits, Regime, Rights};

use super::decode::{plain, reserved};
use super::decoded::{Decoded, Described, Fields, Illegal, Value};

/// Where a descriptor lies, and what its tables are configured for, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The stage; stage 1 if it is not known.
    pub stage: Option<Stage>,
    /// The level of the table, -1 to 3; 3 if it is not known.
    pub level: Option<i8>,
    /// The granule; 4 KiB if it is not known.
    pub granule: Option<Granule>,
    /// LPA2: CD.DS or STE.S2DS.
    pub ds: bool,
    /// Bits of output addresses; 52 with LPA2, else 48, if they are not known.
    pub output_bits: Option<u32>,
    /// Indirect permissions: CD.PIE or STE.S2PIE.
    pub pie: bool,
    /// STE.S2FWB.
    pub fwb: bool,
}

impl Place {
    /// The form that descriptors have there.
    pub fn form(&self) -> Form {
        let form = Form::new(self.stage.unwrap_or(Stage::One), self.level.unwrap_or(3));
        let output_bits = self.output_bits.unwrap_or(if self.ds { 52 } else { 48 });
        let granule = self.granule.unwrap_or(form.granule);
        Form { granule, ds: self.ds, output_bits, pie: self.pie, fwb: self.fwb, ..form }
    }

    /// What was taken for granted.
    fn assumed(&self) -> String {
        let form = self.form();
        let Form { stage, level, granule, .. } = form;
        let mut text = format!("read as {stage}, level {level}, {granule} granule");
        if form.ds {
            text.push_str(", LPA2");
        }
        text.push_str(&format!(", {}-bit output addresses", form.output_bits));
        let options = [
            ("--stage", self.stage.is_none()),
            ("--level", self.level.is_none()),
            ("--granule", self.granule.is_none()),
            ("--oas", self.output_bits.is_none()),
        ];
        let open: Vec<&str> =
            options.iter().filter(|(_, open)| *open).map(|(option, _)| *option).collect();
        if !open.is_empty() {
            text.push_str(&format!("; {} would tell", open.join(", ")));
        }
        text
    }
}

/// What `descriptor` is at `place`.
pub(super) fn descriptor(descriptor: u64, place: &Place) -> Decoded {
    let form = place.form();
    let meaning = form.read(descriptor);
    let mut decoded = match form.structure(descriptor) {
        Some(structure) => {
            let mut decoded = plain(structure, &[descriptor]);
            decoded.violations = reserved(&[form.reserved(descriptor)]);
            decoded
        }
        None => nothing(descriptor, &meaning, &form),
    };
    decoded.kind = "pte".to_owned();
    decoded.summary = Some(summary(descriptor, &meaning, &form));
    let address = match meaning {
        Meaning::Table { next, .. } => Some(("NextTable", next)),
        Meaning::Leaf { address, .. } => Some(("OA", address)),
        Meaning::Invalid | Meaning::Reserved => None,
    };
    if let Some((field, address)) = address
        && address.checked_shr(form.output_bits).unwrap_or(0) != 0
    {
        decoded.illegal = Some(Illegal {
            section: "15.3".to_owned(),
            field: field.to_owned(),
            text: format!("{address:#x} is beyond {} bits: F_ADDR_SIZE", form.output_bits),
        });
    }
    let leaf = matches!(meaning, Meaning::Leaf { .. });
    for field in decoded.described.iter_mut().filter(|_| leaf) {
        let more = more(field, &form);
        field.meaning = more.or(field.meaning.take());
    }
    decoded.assumed.push(place.assumed());
    decoded
}

/// Meanings that the place decides.
fn more(field: &Described, form: &Form) -> Option<String> {
    match (field.name.as_str(), form.stage) {
        ("MemAttr", Stage::Two) => {
            memory_type::stage_2(field.value.number(), form.fwb).map(str::to_owned)
        }
        ("AF", _) => Some(match field.value.number() {
            0 => "not accessed yet: F_ACCESS, unless hardware sets the flag".to_owned(),
            _ => "accessed".to_owned(),
        }),
        _ => None,
    }
}

/// One that is invalid, or reserved where it stands: only its lowest bits mean something.
fn nothing(descriptor: u64, meaning: &Meaning, form: &Form) -> Decoded {
    let (name, hi) = match meaning {
        Meaning::Invalid => ("Valid", 0),
        _ => ("Type", 1),
    };
    let value = descriptor & if hi == 0 { 1 } else { 3 };
    let value = if hi == 0 { Value::Bit(value != 0) } else { Value::Number(value) };
    let reserved = matches!(meaning, Meaning::Reserved);
    let Form { level, granule, .. } = form;
    let violation =
        format!("a descriptor of this type is reserved at level {level} with {granule}");
    Decoded {
        kind: "pte".to_owned(),
        name: if reserved { "reserved descriptor" } else { "invalid descriptor" }.to_owned(),
        section: "15.1".to_owned(),
        summary: None,
        words: vec![descriptor],
        word_bits: 64,
        by_name: Fields::Own(vec![(name.to_ascii_lowercase(), value)]),
        described: vec![Described {
            structure: None,
            name: name.to_owned(),
            word: 0,
            hi,
            lo: 0,
            value,
            meaning: Some("nothing is mapped here; all other bits are software's".to_owned()),
        }],
        violations: if reserved { vec![violation] } else { Vec::new() },
        illegal: None,
        problems: Vec::new(),
        assumed: Vec::new(),
        record: None,
    }
}

fn summary(descriptor: u64, meaning: &Meaning, form: &Form) -> String {
    match meaning {
        Meaning::Invalid => "nothing is mapped here: an access gives F_TRANSLATION".to_owned(),
        Meaning::Reserved => "reserved here, and as good as invalid: F_TRANSLATION".to_owned(),
        Meaning::Table { next, limits } => {
            format!(
                "the table of level {} is at {next:#x}{}",
                form.level.saturating_add(1),
                taken(*limits)
            )
        }
        Meaning::Leaf { address, bytes_log2, group_log2 } => {
            let kind = if form.level == 3 { "page" } else { "block" };
            let mut text = format!("a {kind} of {} at {address:#x}", size(*bytes_log2));
            if let Some(group) = group_log2 {
                text.push_str(&format!(", one of a contiguous group of {}", size(*group)));
            }
            if !form.pie {
                text.push_str(&format!("; {}", rights(descriptor, form.stage)));
            }
            text
        }
    }
}

/// What a table takes from what lies below.
fn taken(limits: Limits) -> String {
    let taken = [
        (limits.no_write, "writes"),
        (limits.no_unprivileged, "unprivileged access"),
        (limits.uxn, "unprivileged execution"),
        (limits.pxn, "privileged execution"),
    ];
    let taken: Vec<&str> = taken.iter().filter(|(is, _)| *is).map(|(_, what)| *what).collect();
    if taken.is_empty() {
        String::new()
    } else {
        format!("; nothing below allows {} (unless HAD is set)", taken.join(", "))
    }
}

/// Who may do what: `privileged rw-, unprivileged r--`.
fn rights(leaf: u64, stage: Stage) -> String {
    let permissions = match stage {
        Stage::One => permission::stage_1(leaf, Limits::NONE, &Regime::default()),
        Stage::Two => permission::stage_2(leaf, true, false),
    };
    let letters = |rights: Rights| {
        let letter = |has, letter| if has { letter } else { '-' };
        [letter(rights.read, 'r'), letter(rights.write, 'w'), letter(rights.execute, 'x')]
            .iter()
            .collect::<String>()
    };
    let (privileged, unprivileged) =
        (letters(permissions.privileged), letters(permissions.unprivileged));
    if privileged == unprivileged {
        format!("all may {privileged}")
    } else {
        format!("privileged {privileged}, unprivileged {unprivileged}")
    }
}

/// `2 MiB`, from its log2.
fn size(log2: u32) -> String {
    const UNITS: [&str; 6] = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let unit = UNITS.get((log2 / 10) as usize).unwrap_or(&"EiB");
    format!("{} {unit}", 1u64 << (log2 % 10))
}

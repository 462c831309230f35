// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading a scenario: the file as a whole, its instances, masters, domains and memories.
//!
//! A thing with a mistake in it still gets its place in its vector, with defaults for what is
//! wrong, so that names and indices stay good and later mistakes are found too. Such a scenario
//! never leaves this module.

use smmuv3::AtsMode;
use toml::de::DeTable;

use super::source::{Fields, Source, describe, integer_value};
use super::{
    AsidPolicy, Device, Domain, Granules, Instance, Master, Memory, PAGE, Process, Quirks,
    Scenario, ScenarioErrors, StreamTableKind, Substream, Walks, attributes, check, domain, queues,
    step,
};

mod name;

pub(super) use name::{Names, lookup, unknown};
use name::{tables, things};

/// Words for where the host's kernel runs, and whether that is EL2 with E2H.
pub(super) const WORLDS: [(&str, bool); 2] = [("el1", false), ("el2-e2h", true)];

/// Words for the shapes of stream tables.
const STREAM_TABLES: [(&str, StreamTableKind); 2] =
    [("linear", StreamTableKind::Linear), ("two-level", StreamTableKind::TwoLevel)];

/// See [`Scenario::parse`].
pub(super) fn scenario(text: &str, file: &str) -> Result<Scenario, ScenarioErrors> {
    let source = Source::new(text, file);
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        source.wrong(error.span().unwrap_or(0..0), format!("not TOML: {}", error.message()));
    }
    // What a broken file recovers to would only give mistakes that are none.
    let scenario = if errors.is_empty() { Some(read(&source, root.get_ref(), file)) } else { None };
    source.into_mistakes().into_result()?;
    Ok(scenario.expect("no TOML error was noted, so it was read"))
}

fn read<'a>(source: &'a Source<'a>, root: &'a DeTable<'a>, file: &str) -> Scenario {
    let fields = Fields::new(source, "the scenario", 0..0, root);
    let name = fields
        .need("name", "\"two-instances\"")
        .and_then(|value| fields.text("name", value))
        .unwrap_or_default()
        .to_owned();
    let description = fields
        .get("description")
        .and_then(|value| fields.text("description", value))
        .unwrap_or_default()
        .trim()
        .to_owned();
    let seed = fields.number("seed", 0..=u64::MAX).unwrap_or(1);
    let policies = AsidPolicy::ALL.map(|policy| (policy.name(), policy));
    let asid_policy = fields.word("asid-policy", &policies).unwrap_or_default();
    let banks = banks(&fields);
    let cpu_asid_bits = width(&fields, "cpu-asid-bits").unwrap_or(16);
    let el2_host = fields.word("world", &WORLDS).unwrap_or(false);
    let pasids = fields.number("pasids", 0..=u64::from(Substream::MOST_PASIDS));

    let mut names = Names::default();
    let instances: Vec<Instance> = things(&fields, "instance", &mut names.instances, instance);
    if instances.is_empty() && fields.get("instance").is_none_or(|value| value.get_ref().is_array())
    {
        source.wrong(
            0..0,
            "the scenario has no instance; write for example [[instance]] name = \"smmu0\"",
        );
    }
    let memories = things(&fields, "memory", &mut names.memories, memory);
    let masters = things(&fields, "master", &mut names.masters, |fields, name| {
        let keep = keep(fields, &names.memories, &memories);
        Master { keep, ..master(fields, name, &names.instances, &instances) }
    });
    kept_alone(source, &masters);
    streams_are_disjoint(source, &instances, &masters);
    let domains = domains(&fields, &mut names.domains, &instances);
    let processes = things(&fields, "process", &mut names.processes, |fields, name| {
        process(fields, name, &names.domains, cpu_asid_bits)
    });

    let mut scenario = Scenario {
        file: file.to_owned(),
        name,
        description,
        seed,
        asid_policy,
        banks,
        cpu_asid_bits,
        el2_host,
        // A step may name any, unless the scenario says how many there are.
        pasids: pasids.map_or(Substream::MOST_PASIDS, |pasids| pasids as u32),
        instances,
        masters,
        domains,
        processes,
        memories,
        steps: Vec::new(),
    };
    let steps = step::steps(tables(&fields, "step"), &names, &scenario);
    fields.finish();
    check::sequence(source, &scenario, &steps);
    scenario.steps = steps.into_iter().flatten().collect();
    if pasids.is_none() {
        let named = scenario.steps.iter().filter_map(|step| step.action.pasid());
        scenario.pasids = named.max().unwrap_or(0);
    }
    scenario
}

/// Bits of an ASID or a VMID.
fn width(fields: &Fields<'_>, key: &'static str) -> Option<u32> {
    let value = fields.get(key)?;
    match value.get_ref().as_integer().and_then(integer_value) {
        Some(8) => Some(8),
        Some(16) => Some(16),
        _ => {
            let found = describe(value.get_ref());
            fields.wrong(value, format!("{key} of {} must be 8 or 16, not {found}", fields.what));
            None
        }
    }
}

/// The VMIDs that are banks.
fn banks(fields: &Fields<'_>) -> Option<(u16, u16)> {
    let value = fields.get("banks")?;
    let numbers = fields.numbers("banks", 0..=0xffff, value)?;
    match numbers[..] {
        [(first, _), (last, _)] if first <= last => Some((first as u16, last as u16)),
        _ => {
            let right = "banks are the first and the last VMID, like [1, 255]";
            fields.wrong(value, right);
            None
        }
    }
}

fn instance(fields: &Fields<'_>, name: String) -> Instance {
    let small = |key, range| fields.number(key, range).map(|number| number as u32);
    let asid_bits = width(fields, "asid-bits").unwrap_or(16);
    let (stage_1, stage_2) = stages(fields).unwrap_or((true, true));
    let vmid_bits = width(fields, "vmid-bits");
    if vmid_bits == Some(16) && !stage_2 {
        fields.source.wrong_at(
            fields.places().of("vmid-bits"),
            format!(
                "vmid-bits = 16 in {} without stage 2; add 2 to stages or leave it out",
                fields.what
            ),
        );
    }
    let instance = Instance {
        name,
        asid_bits,
        vmid_bits: vmid_bits.unwrap_or(if stage_2 { 16 } else { 8 }),
        stage_1,
        stage_2,
        granules: granules(fields).unwrap_or(Granules::ALL),
        oas: oas(fields).unwrap_or(44),
        sid_bits: small("sid-bits", 0..=32).unwrap_or(16),
        ssid_bits: small("ssid-bits", 0..=20).unwrap_or(0),
        two_level_contexts: fields.flag("two-level-contexts").unwrap_or(false),
        btm: fields.flag("btm").unwrap_or(false),
        msi: fields.flag("msi").unwrap_or(false),
        atos: fields.flag("atos").unwrap_or(false),
        counters: small("counters", 0..=64).unwrap_or(0),
        one_filter: fields.flag("one-filter").unwrap_or(false),
        hyp: fields.flag("hyp").unwrap_or(false),
        stalls: small("stalls", 0..=0xffff).unwrap_or(0),
        forced_stalls: fields.flag("forced-stalls").unwrap_or(false),
        queues: queues::read(fields),
        two_level_streams: fields.flag("two-level-streams").unwrap_or(true),
        stream_table: fields.word("stream-table", &STREAM_TABLES).unwrap_or_default(),
        command_queue_log2: small("command-queue", 1..=19).unwrap_or(8),
        event_queue_log2: small("event-queue", 1..=19).unwrap_or(8),
        ats: fields.flag("ats").unwrap_or(false),
        pri: fields.flag("pri").unwrap_or(false),
        page_request_queue_log2: small("page-request-queue", 1..=19).unwrap_or(8),
        range_invalidation: fields.flag("range-invalidation").unwrap_or(true),
        repeated_invalidation: fields.flag("repeated-invalidation").unwrap_or(false),
        coherent: fields.flag("coherent").unwrap_or(true),
        walks: Walks::usual(true),
        quirks: Quirks::read(fields),
        places: fields.places(),
    };
    let walks = Walks::read(fields, instance.range_invalidation);
    let instance = Instance { walks, ..instance };
    if instance.sid_bits > 6 && !instance.two_level_streams {
        fields.source.wrong_at(
            instance.places.of("two-level-streams"),
            format!(
                "two-level-streams = false in {} with sid-bits = {}; more than 6 need it",
                fields.what, instance.sid_bits
            ),
        );
    }
    if instance.forced_stalls && instance.stalls == 0 {
        fields.source.wrong_at(
            instance.places.of("forced-stalls"),
            format!("forced-stalls in {} without stalls; say how many can be stalled", fields.what),
        );
    }
    if let Some((key, wrong)) = queues::contradiction(&instance) {
        let wrong = format!("{wrong} in {}", fields.what);
        fields.source.wrong_at(instance.places.of(key), wrong);
    }
    let quirks = &instance.quirks;
    for (key, wrong, right) in [
        ("one-page", quirks.one_page && instance.queues.enhanced_log2.is_some(), "ecmdq"),
        (
            "firmware-httu",
            quirks.firmware_httu.is_some_and(|httu| httu > instance.walks.httu),
            "a lower httu",
        ),
    ] {
        if wrong {
            let message = format!("{key} in {} does not go with {right}", fields.what);
            fields.source.wrong_at(instance.places.of(key), message);
        }
    }
    if instance.pri && !instance.ats {
        let place = instance.places.of("pri");
        let message = format!("pri = true in {} without ats; add ats = true", fields.what);
        fields.source.wrong_at(place, message);
    }
    let most = StreamTableKind::LINEAR_BITS;
    let wrong_table = match instance.stream_table {
        StreamTableKind::Automatic => None,
        StreamTableKind::Linear => (instance.sid_bits > most)
            .then(|| format!("sid-bits = {}; it is at most {most} then", instance.sid_bits)),
        StreamTableKind::TwoLevel => (!instance.two_level_streams)
            .then(|| "two-level-streams = false; leave one of them out".to_owned()),
    };
    if let Some(wrong) = wrong_table {
        let place = instance.places.of("stream-table");
        fields
            .source
            .wrong_at(place, format!("stream-table of {} does not go with {wrong}", fields.what));
    }
    if instance.hyp && !instance.stage_1 {
        let place = instance.places.of("hyp");
        let message = format!("hyp = true in {} without stage 1; add 1 to stages", fields.what);
        fields.source.wrong_at(place, message);
    }
    instance
}

fn stages(fields: &Fields<'_>) -> Option<(bool, bool)> {
    let value = fields.get("stages")?;
    let stages = fields.numbers("stages", 1..=2, value)?;
    if stages.is_empty() {
        fields.wrong(value, format!("{} has no stage; stages is [1], [2] or [1, 2]", fields.what));
        return None;
    }
    Some((stages.iter().any(|(n, _)| *n == 1), stages.iter().any(|(n, _)| *n == 2)))
}

fn granules(fields: &Fields<'_>) -> Option<Granules> {
    let value = fields.get("granules")?;
    let mut granules = Granules { kib_4: false, kib_16: false, kib_64: false };
    for element in fields.list("granules", value)? {
        let text = fields.text("granules", element)?;
        match fields.pick("granule", element, text, &[("4K", 4), ("16K", 16), ("64K", 64)])? {
            4 => granules.kib_4 = true,
            16 => granules.kib_16 = true,
            _ => granules.kib_64 = true,
        }
    }
    if granules == (Granules { kib_4: false, kib_16: false, kib_64: false }) {
        fields.wrong(
            value,
            format!("{} has no granule; granules are \"4K\", \"16K\" and \"64K\"", fields.what),
        );
        return None;
    }
    Some(granules)
}

fn oas(fields: &Fields<'_>) -> Option<u32> {
    let oas = fields.number("oas", 0..=u64::MAX)?;
    if [32, 36, 40, 42, 44, 48, 52].contains(&oas) {
        return Some(oas as u32);
    }
    fields.source.wrong_at(
        fields.places().of("oas"),
        format!("oas = {oas} in {}; it is 32, 36, 40, 42, 44, 48 or 52", fields.what),
    );
    None
}

fn master(fields: &Fields<'_>, name: String, names: &[String], instances: &[Instance]) -> Master {
    let instance = fields
        .need("instance", &format!("\"{}\"", names.first().map_or("smmu0", String::as_str)))
        .and_then(|value| lookup(fields, "instance", names, value));
    let mut streams: Vec<u32> = Vec::new();
    if let Some(value) = fields.need("streams", "[0x900]") {
        let numbers = fields.numbers("streams", 0..=u64::from(u32::MAX), value);
        if numbers.as_ref().is_some_and(Vec::is_empty) {
            fields.wrong(
                value,
                format!("{} has no streams; write for example streams = [0x900]", fields.what),
            );
        }
        for (stream, value) in numbers.unwrap_or_default() {
            if streams.contains(&(stream as u32)) {
                fields.wrong(value, format!("{} has stream {stream:#x} twice", fields.what));
                continue;
            }
            let owner = instance.and_then(|index| instances.get(index));
            if let Some(owner) = owner.filter(|owner| stream >> owner.sid_bits != 0) {
                fields.wrong(
                    value,
                    format!(
                        "stream {stream:#x} of {} is beyond sid-bits = {} of instance \"{}\"; the last \
                         stream there is {:#x}",
                        fields.what,
                        owner.sid_bits,
                        owner.name,
                        (1u64 << owner.sid_bits) - 1
                    ),
                );
            }
            streams.push(stream as u32);
        }
    }
    let stalls = fields.flag("stalls").unwrap_or(false);
    let owner = instance.and_then(|index| instances.get(index));
    if let Some(owner) = owner.filter(|owner| stalls && owner.stalls == 0) {
        fields.source.wrong_at(
            fields.places().of("stalls"),
            format!(
                "{} stalls, but instance \"{}\" does not; give that stalls = 16",
                fields.what, owner.name
            ),
        );
    }
    let (ats, pri) = (ats(fields), fields.flag("pri").unwrap_or(false));
    let (split, keeps) = (ats == AtsMode::Split, ats.is_some());
    let always = ats == AtsMode::Always;
    let stalling = stalls || owner.is_some_and(|owner| owner.forced_stalls);
    let word = match ats {
        AtsMode::Split => "\"split\"",
        AtsMode::Always => "\"always\"",
        AtsMode::Off | AtsMode::Full => "true",
    };
    for (key, wanted, there, needed) in [
        ("ats", keeps, !stalling, "a master that does not stall"),
        ("ats", keeps, owner.is_none_or(|owner| owner.ats), "an instance that has it"),
        ("ats", split, owner.is_none_or(Instance::nests), "an instance that nests both stages"),
        (
            "ats",
            always,
            owner.is_none_or(Instance::skips),
            "an instance with stage 1 and ssid-bits",
        ),
        ("pri", pri, owner.is_none_or(|owner| owner.pri), "an instance that has it"),
        ("pri", pri, keeps, "ats = true"),
    ] {
        if wanted && !there {
            let place = fields.places().of(key);
            let value = if key == "ats" { word } else { "true" };
            let message = format!("{key} = {value} in {} needs {needed}", fields.what);
            fields.source.wrong_at(place, message);
        }
    }
    let response_pasid = fields.flag("response-pasid").unwrap_or(false);
    if response_pasid && !pri {
        let place = fields.places().of("response-pasid");
        let message = format!("response-pasid = true in {} needs pri = true", fields.what);
        fields.source.wrong_at(place, message);
    }
    let overrides = attributes::read(fields);
    let quirks = owner.map(|owner| owner.quirks).unwrap_or_default();
    attributes::check(fields, &overrides, &quirks);
    let devices = [Device::Edu, Device::TestDevice].map(|device| (device.name(), device));
    Master {
        name,
        instance: instance.unwrap_or(usize::MAX),
        streams,
        pasid_bits: fields.number("pasid-bits", 0..=20).unwrap_or(0) as u32,
        stalls,
        ats,
        pri,
        response_pasid,
        overrides,
        keep: None,
        device: fields.word("device", &devices).unwrap_or_default(),
        places: fields.places(),
    }
}

/// Whether, and how, a master keeps translations: a flag, or a word.
fn ats(fields: &Fields<'_>) -> AtsMode {
    let words = [("split", AtsMode::Split), ("always", AtsMode::Always)];
    match fields.flag_or("ats", &words) {
        Some(Err(mode)) => mode,
        Some(Ok(true)) => AtsMode::Full,
        Some(Ok(false)) | None => AtsMode::Off,
    }
}

/// Leaves of tables of any granule.
const KEPT_UNIT: u64 = 64 << 10;

/// The memory that firmware left a master to reach.
fn keep(fields: &Fields<'_>, names: &[String], memories: &[Memory]) -> Option<usize> {
    let value = fields.get("keep")?;
    let name = fields.text("keep", value)?;
    let Some(index) = names.iter().position(|known| known == name) else {
        fields.wrong(value, unknown("memory", name, names, &[]));
        return None;
    };
    let memory = memories.get(index)?;
    let fits = |bytes: u64| bytes.is_multiple_of(KEPT_UNIT);
    if !memory.at.is_some_and(fits) || !fits(memory.size) {
        let what = "needs a size and an address (at) that are multiples of \"64K\"";
        fields.wrong(value, format!("memory \"{name}\", which {} keeps, {what}", fields.what));
        return None;
    }
    Some(index)
}

/// What firmware leaves working keeps no translations: nobody could be told to let it.
fn kept_alone(source: &Source<'_>, masters: &[Master]) {
    for master in masters.iter().filter(|it| it.keep.is_some() && it.ats.is_some()) {
        source.wrong_at(
            master.places.of("keep"),
            format!("master \"{}\" is kept from firmware; leave out its ats", master.name),
        );
    }
}

fn streams_are_disjoint(source: &Source<'_>, instances: &[Instance], masters: &[Master]) {
    for (n, later) in masters.iter().enumerate() {
        for earlier in masters[..n].iter().filter(|earlier| earlier.instance == later.instance) {
            let Some(instance) = instances.get(later.instance) else { continue };
            for stream in later.streams.iter().filter(|stream| earlier.streams.contains(stream)) {
                source.wrong_at(
                    later.places.of("streams"),
                    format!(
                        "stream {stream:#x} of master \"{}\" belongs to master \"{}\" (line {}) already; on \
                         instance \"{}\" each stream has one master",
                        later.name,
                        earlier.name,
                        earlier.places.of("streams").line,
                        instance.name
                    ),
                );
            }
        }
    }
}

/// Where one has `count`, there are that many, with a number behind their name each, from 1 on.
fn domains<'a>(
    fields: &Fields<'a>,
    names: &mut Vec<String>,
    instances: &[Instance],
) -> Vec<Domain> {
    let mut plain = Vec::new();
    let counted = things(fields, "domain", &mut plain, |fields, name| {
        let count = fields.number("count", 1..=Domain::MOST);
        let over = fields.get("over").and_then(|value| fields.text("over", value));
        ((domain::read(fields, name, instances), over), count)
    });
    let mut domains: Vec<Domain> = Vec::new();
    for ((mut domain, over), count) in counted {
        if let Some(over) = over {
            let at = names.iter().position(|name| name == over);
            let at = at.filter(|at| domains.get(*at).is_some_and(|it| it.tables.stage_2));
            let without_pasid = domain.tables.without_pasid;
            let plain =
                domain.tables == super::Tables { without_pasid, ..super::Tables::default() };
            match at.filter(|_| plain) {
                Some(at) => {
                    domain.tables.over = at.into();
                    if let Some(under) = domains.get_mut(at) {
                        under.tables.guests = true;
                    }
                }
                None => fields.source.wrong_at(
                    domain.places.of("over"),
                    "over must name a domain of stage 2 above, and nothing else can be said but without-pasid",
                ),
            }
        } else if domain.tables.without_pasid != super::WithoutPasid::default() {
            let message = format!("without-pasid in domain \"{}\" needs over", domain.name);
            fields.source.wrong_at(domain.places.of("without-pasid"), message);
        }
        for number in 1..=count.unwrap_or(1) {
            let name = match count {
                Some(_) => format!("{}{number}", domain.name),
                None => domain.name.clone(),
            };
            if names.contains(&name) && plain.contains(&name) && !name.is_empty() {
                let message =
                    format!("domain \"{name}\" is one of several already; names are unique");
                fields.source.wrong_at(domain.places.of("name"), message);
            }
            names.push(name.clone());
            domains.push(Domain { name, ..domain.clone() });
        }
    }
    domains
}

fn process(fields: &Fields<'_>, name: String, domains: &[String], cpu_asid_bits: u32) -> Process {
    if domains.contains(&name) {
        let message = format!("domain \"{name}\" has that name already; names are unique");
        fields.source.wrong_at(fields.places().of("name"), message);
    }
    let input_bits = fields.number("input-bits", 32..=48).unwrap_or(48) as u32;
    // Of at most 16 bits.
    let asid = fields.number("asid", 0..=(1 << cpu_asid_bits) - 1).map(|asid| asid as u16);
    Process { name, input_bits, asid, places: fields.places() }
}

fn memory(fields: &Fields<'_>, name: String) -> Memory {
    let size = fields.need("size", "\"64K\"").and_then(|value| {
        let size = fields.multiple("size", PAGE, value)?;
        if size == 0 {
            fields.wrong(value, format!("{} has size 0; the smallest is \"4K\"", fields.what));
            return None;
        }
        Some(size)
    });
    let align = fields.get("align").and_then(|value| {
        let align = fields.bytes("align", value)?;
        if align < PAGE || !align.is_power_of_two() || align > 1 << 30 {
            let what = &fields.what;
            fields.wrong(
                value,
                format!("align = {align:#x} in {what}; it is a power of two from \"4K\" to \"1G\""),
            );
            return None;
        }
        Some(align)
    });
    let at = fields.get("at").and_then(|value| fields.multiple("at", PAGE, value));
    Memory {
        name,
        at,
        // Without a size, nothing leaves it: later messages would only confuse.
        size: size.unwrap_or(1 << 48),
        align: align.unwrap_or(PAGE),
        fill: fields.number("fill", 0..=255).map(|fill| fill as u8),
        places: fields.places(),
    }
}

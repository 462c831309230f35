// SPDX-License-Identifier: MIT OR Apache-2.0
//! Things with names: the tables that they are in, and names that others use.

use toml::de::DeValue;

use crate::scenario::error::did_you_mean;
use crate::scenario::source::{Fields, Value, describe};

/// Domain names that mean something else.
const RESERVED: [&str; 2] = ["identity", "blocked"];

/// What names there are, in the order of the indices.
#[derive(Default)]
pub(in crate::scenario) struct Names {
    pub(in crate::scenario) instances: Vec<String>,
    pub(in crate::scenario) masters: Vec<String>,
    pub(in crate::scenario) domains: Vec<String>,
    pub(in crate::scenario) processes: Vec<String>,
    pub(in crate::scenario) memories: Vec<String>,
}

/// The index of the thing that `key` names; `key` is also the kind of thing.
pub(in crate::scenario) fn lookup<'a>(
    fields: &Fields<'a>,
    key: &'static str,
    names: &[String],
    value: &'a Value<'a>,
) -> Option<usize> {
    let name = fields.text(key, value)?;
    let index = names.iter().position(|known| known == name);
    if index.is_none() {
        fields.wrong(value, unknown(key, name, names, &[]));
    }
    index
}

/// `unknown master "nik"; masters are nic, disk (did you mean "nic"?)`
pub(in crate::scenario) fn unknown(
    kind: &str,
    name: &str,
    names: &[String],
    reserved: &[&str],
) -> String {
    let plural = match kind {
        "memory" => "memories".to_owned(),
        "process" => "processes".to_owned(),
        _ => format!("{kind}s"),
    };
    let own = names.iter().map(String::as_str).filter(|name| !reserved.contains(name));
    let known: Vec<&str> = own.chain(reserved.iter().copied()).collect();
    if known.is_empty() {
        return format!("unknown {kind} \"{name}\"; there are no {plural}: write [[{kind}]] first");
    }
    let guess = did_you_mean(name, known.iter().copied());
    format!("unknown {kind} \"{name}\"; {plural} are {}{guess}", known.join(", "))
}

/// The tables of `[[kind]]`.
pub(super) fn tables<'a>(root: &Fields<'a>, kind: &'static str) -> Vec<Fields<'a>> {
    let Some(value) = root.get(kind) else { return Vec::new() };
    let DeValue::Array(array) = value.get_ref() else {
        let found = describe(value.get_ref());
        root.wrong(
            value,
            format!("{kind} is a list: write [[{kind}]] before each; this is {found}"),
        );
        return Vec::new();
    };
    array.iter().filter_map(|element| Fields::of(root.source, kind, element)).collect()
}

/// Reads the tables of `[[kind]]` and collects their names.
pub(super) fn things<'a, T>(
    root: &Fields<'a>,
    kind: &'static str,
    names: &mut Vec<String>,
    mut read: impl FnMut(&Fields<'a>, String) -> T,
) -> Vec<T> {
    let mut things = Vec::new();
    let mut lines: Vec<usize> = Vec::new();
    for mut fields in tables(root, kind) {
        let name = name(&fields, kind).unwrap_or_default();
        if !name.is_empty() {
            if let Some(first) = names.iter().position(|known| *known == name) {
                let message = format!(
                    "{kind} \"{name}\" is there twice (first on line {}); names are unique",
                    lines[first]
                );
                fields.source.wrong_at(fields.places().of("name"), message);
            }
            fields.what = format!("{kind} \"{name}\"");
        }
        lines.push(fields.places().line());
        things.push(read(&fields, name.clone()));
        names.push(name);
        fields.finish();
    }
    things
}

fn name(fields: &Fields<'_>, kind: &str) -> Option<String> {
    let value = fields.need("name", &format!("\"{kind}0\""))?;
    let name = fields.text("name", value)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || !name.chars().all(fits) {
        fields.wrong(
            value,
            format!("the name \"{name}\" is not made of letters, digits, \"-\", \"_\" and \".\""),
        );
    }
    if kind == "domain" && RESERVED.contains(&name) {
        fields.wrong(value, format!("no domain can be called \"{name}\": attach knows that word"));
    }
    Some(name.to_owned())
}

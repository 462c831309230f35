// SPDX-License-Identifier: MIT OR Apache-2.0
//! The policies for ASIDs, compared.

use smmuv3_testbench::lab::{LabReport, MOST_JOINED, PolicyReport, Reason, Refused, UnmapReport};

use super::table::{Column, table};
use super::text::{BOLD, DIM, DOT, count, number, paint, wrap};
use super::{INDENT, section};

/// Instances that can have columns of their own.
const FEW: usize = 3;
/// Columns of everything, at most.
pub const WIDE: usize = 80;
/// Rows of the table of steps.
const ROWS: usize = 8;

/// The report in lines; `stepped` if a range of domains was asked for.
pub fn render(report: &LabReport, stepped: bool, columns: usize) -> String {
    let columns = columns.clamp(40, WIDE);
    let bits: Vec<u32> = report.instances.iter().map(|instance| instance.asid_bits).collect();
    let mut lines = vec![paint(BOLD, &format!("ASID policies on {}", instances(&bits)))];
    let joined = match report.instances.len().min(MOST_JOINED) {
        1 => "on it".to_owned(),
        most => format!("on 1 to {most} of them, in random order"),
    };
    let about = format!(
        "{}, each {joined}: {} attaches{DOT}seed {}",
        count(report.domains, "domain"),
        number(report.attaches),
        report.seed
    );
    lines.extend(wrap(&about, columns, INDENT, INDENT).iter().map(|line| paint(DIM, line)));
    section(&mut lines, "Attached, refused, moved, left", attached(report));
    section(&mut lines, "Work", work(report));
    if stepped {
        section(&mut lines, "Domains attached, of those asked for", steps(report));
    }
    section(&mut lines, "Processes", processes(report));
    section(&mut lines, "Changes of masters", churn(report));
    let verdicts = report.policies.iter().flat_map(|policy| verdict(report, policy, columns));
    section(&mut lines, "In words", verdicts.collect());
    lines.join("\n") + "\n"
}

/// What instances there are: `instances of 8, 16 and 16 bits`.
pub fn instances(bits: &[u32]) -> String {
    let of = |wanted| bits.iter().filter(|bits| **bits == wanted).count();
    match bits {
        [one] => format!("an instance with {one}-bit ASIDs"),
        [rest @ .., last] if bits.len() <= 6 => {
            let rest: Vec<String> = rest.iter().map(u32::to_string).collect();
            format!("instances with {}- and {last}-bit ASIDs", rest.join("-, "))
        }
        _ => format!("{} instances with 8-bit ASIDs and {} with 16-bit ones", of(8), of(16)),
    }
}

fn of(refused: &Refused, reason: Reason) -> u64 {
    refused.get(&reason).copied().unwrap_or(0)
}

/// Reasons that are neither of the two that policies are about.
fn others(refused: &Refused) -> u64 {
    refused.values().sum::<u64>()
        - of(refused, Reason::AsidWidth)
        - of(refused, Reason::IdsExhausted)
}

/// A number in few digits.
fn short(value: u64) -> String {
    if value < 1_000_000 { number(value) } else { format!("{:.1}M", value as f64 / 1e6) }
}

fn attached(report: &LabReport) -> Vec<String> {
    let strange = report.policies.iter().any(|policy| others(&policy.refused) != 0);
    let mut heads = vec![
        Column::left("policy"),
        Column::right("domains").under("attached"),
        Column::right("width").under("refused for"),
        Column::right("no ID").under("refused for"),
    ];
    if strange {
        heads.push(Column::right("other").under("refused for"));
    }
    heads.push(Column::right("moved").under("tags"));
    let each = report.instances.len() <= FEW;
    let widths: Vec<u32> = if each {
        report.instances.iter().map(|instance| instance.asid_bits).collect()
    } else {
        let there = |bits: &u32| report.instances.iter().any(|one| one.asid_bits == *bits);
        [8, 16].into_iter().filter(there).collect()
    };
    let title = if each { "IDs left on an instance of" } else { "least IDs left on one of" };
    heads.extend(widths.iter().map(|bits| Column::right(format!("{bits} bits")).under(title)));
    let row = |policy: &PolicyReport| {
        let mut row = vec![
            policy.policy.to_owned(),
            number(policy.attached),
            number(of(&policy.refused, Reason::AsidWidth)),
            number(of(&policy.refused, Reason::IdsExhausted)),
        ];
        if strange {
            row.push(number(others(&policy.refused)));
        }
        row.push(number(policy.moved));
        if each {
            row.extend(policy.ids_free.iter().map(|free| short(*free)));
        } else {
            row.extend(widths.iter().map(|bits| {
                let of_width = report.instances.iter().zip(&policy.ids_free);
                let of_width = of_width.filter(|(instance, _)| instance.asid_bits == *bits);
                of_width.map(|(_, free)| *free).min().map_or_else(String::new, short)
            }));
        }
        row
    };
    table(&heads, report.policies.iter().map(row))
}

/// What others are compared with: the default policy, or the first.
fn reference(report: &LabReport) -> Option<&PolicyReport> {
    let default = report.policies.iter().find(|policy| policy.policy == "per-instance");
    default.or(report.policies.first())
}

fn ratio(value: f64, reference: f64) -> String {
    if reference == 0.0 || value == 0.0 {
        "-".to_owned()
    } else {
        format!("{:.2}", value / reference)
    }
}

/// CMD_TLBIs and CMD_SYNCs of an unmap, for each instance that it reaches.
fn each(unmap: &UnmapReport) -> [f64; 2] {
    let of = |value: f64| if unmap.instances == 0.0 { 0.0 } else { value / unmap.instances };
    [of(unmap.invalidations), of(unmap.syncs)]
}

fn work(report: &LabReport) -> Vec<String> {
    let Some(reference) = reference(report) else { return Vec::new() };
    let (commands, unmap) = ("commands", "unmap, an instance");
    let heads = [
        Column::left("policy"),
        Column::right("attach").under(commands),
        Column::right("ratio").under(commands),
        Column::right("detach").under(commands),
        Column::right("attach").under("SYNCs"),
        Column::right("attach").under("stores"),
        Column::right("TLBIs").under(unmap),
        Column::right("SYNCs").under(unmap),
        Column::right("ratio").under(unmap),
    ];
    let row = |policy: &PolicyReport| {
        let (cost, unmap) = (&policy.per_attach, each(&policy.per_unmap));
        vec![
            policy.policy.to_owned(),
            format!("{:.2}", cost.commands),
            ratio(cost.commands, reference.per_attach.commands),
            format!("{:.2}", policy.per_detach.commands),
            format!("{:.2}", cost.syncs),
            format!("{:.1}", cost.stores),
            format!("{:.2}", unmap[0]),
            format!("{:.2}", unmap[1]),
            ratio(unmap.iter().sum(), each(&reference.per_unmap).iter().sum()),
        ]
    };
    table(&heads, report.policies.iter().map(row))
}

fn steps(report: &LabReport) -> Vec<String> {
    let Some(first) = report.policies.first() else { return Vec::new() };
    let last = first.steps.len().saturating_sub(1);
    // Some of them, with both ends.
    let mut rows: Vec<usize> = (0..ROWS).map(|row| row * last / (ROWS - 1)).collect();
    rows.dedup();
    let mut heads = vec![Column::right("asked for")];
    heads.extend(report.policies.iter().map(|policy| {
        // Names are longer than numbers.
        match policy.policy.rsplit_once('-') {
            Some((head, tail)) => Column::right(tail).under(head),
            None => Column::right(policy.policy),
        }
    }));
    let row = |row: usize| {
        let asked = first.steps.get(row).map_or(0, |[asked, _]| *asked);
        let attached = report.policies.iter().filter_map(|policy| policy.steps.get(row));
        let attached = attached.map(|[_, attached]| number(*attached));
        [number(asked)].into_iter().chain(attached).collect()
    };
    table(&heads, rows.into_iter().map(row))
}

fn processes(report: &LabReport) -> Vec<String> {
    let heads = [
        Column::left("policy"),
        Column::right("all").under("bound on"),
        Column::right("ASID").under("by CPU's"),
        Column::right("width").under("refused for"),
        Column::right("no ID").under("refused for"),
        Column::right("moved").under("tags"),
        Column::right("bind").under("commands to"),
        Column::right("invalidate").under("commands to"),
    ];
    let row = |policy: &PolicyReport| {
        let processes = policy.processes.as_ref()?;
        Some(vec![
            policy.policy.to_owned(),
            number(processes.bound),
            number(processes.shared),
            number(of(&processes.refused, Reason::AsidWidth)),
            number(of(&processes.refused, Reason::IdsExhausted)),
            number(processes.moved),
            format!("{:.2}", processes.per_bind.commands),
            format!("{:.2}", processes.per_invalidate.commands),
        ])
    };
    table(&heads, report.policies.iter().filter_map(row))
}

fn churn(report: &LabReport) -> Vec<String> {
    let heads = [
        Column::left("policy"),
        Column::right("attaches"),
        Column::right("width").under("refused for"),
        Column::right("no ID").under("refused for"),
        Column::right("moved").under("tags"),
        Column::right("attach").under("commands to"),
        Column::right("detach").under("commands to"),
    ];
    let row = |policy: &PolicyReport| {
        let churn = policy.churn.as_ref()?;
        Some(vec![
            policy.policy.to_owned(),
            number(churn.attaches),
            number(of(&churn.refused, Reason::AsidWidth)),
            number(of(&churn.refused, Reason::IdsExhausted)),
            number(churn.moved),
            format!("{:.2}", churn.per_attach.commands),
            format!("{:.2}", churn.per_detach.commands),
        ])
    };
    table(&heads, report.policies.iter().filter_map(row))
}

/// What is to be said of a policy, in one sentence.
pub fn sentence(report: &LabReport, policy: &PolicyReport) -> String {
    let refusals = policy.refusals();
    let mut text = if refusals == 0 {
        "refuses nothing".to_owned()
    } else {
        let (width, ids) =
            (of(&policy.refused, Reason::AsidWidth), of(&policy.refused, Reason::IdsExhausted));
        let mut why = Vec::new();
        if width != 0 {
            why.push((width, "because the ASID is too wide"));
        }
        if ids != 0 {
            why.push((ids, "for want of an ID"));
        }
        match others(&policy.refused) {
            0 => {}
            other => why.push((other, "otherwise")),
        }
        let why = match why.as_slice() {
            [(_, one)] => (*one).to_owned(),
            many => {
                let many = many.iter().map(|(count, why)| format!("{} {why}", number(*count)));
                format!("({})", many.collect::<Vec<_>>().join(", "))
            }
        };
        format!("refuses {} of {} attaches {why}", number(refusals), number(report.attaches))
    };
    let all = policy.attached == report.domains;
    let domains = match all {
        true => format!("all {}", count(report.domains, "domain")),
        false => {
            format!("{} of {}", number(policy.attached), count(report.domains, "domain"))
        }
    };
    text.push_str(&format!(", so {domains} work wherever they are asked to"));
    if policy.moved != 0 {
        text.push_str(&format!("; changes {} to get there", count(policy.moved, "live tag")));
    }
    text + "."
}

fn verdict(report: &LabReport, policy: &PolicyReport, columns: usize) -> Vec<String> {
    let head = format!("{INDENT}{}: ", policy.policy);
    let rest = INDENT.repeat(2);
    wrap(&sentence(report, policy), columns, &head, &rest)
}
